"""What lies at the edge of what a stream takes: odd windows, odd numbers, odd arguments."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import cube
from cube.errors import SpecError, SplitError
from cube.partitions import PartitionWindows
from cube.windows import Windows
from tests import toy
from training.chips import Chips
from training.samples import InputStack, SampleSpec
from training.sampling import ChipWeights, PixelWeights, Subset, chip_weights, pixel_weights
from training.stream import ChipStream, StreamSpec, StreamState, Supervision
from training.stream.blocks import plan_blocks
from training.stream.ordering import plan_epoch
from training.tables import by_chip
from training.targets import TableTarget, Target
from training.timings import Timing

WINDOWS = Windows(shape=toy.SHAPE, size=8, stride=5)
ALL = np.arange(len(WINDOWS))
PARTS = np.array([[0, 40, 0, 50], [40, 96, 0, 33], [40, 96, 33, 104]])


def _stream(city, ids=ALL, *, windows=WINDOWS, sample=toy.SAMPLE, joined=None, **spec):
    spec = StreamSpec(**{"seed": 0, "batch": 16, **spec})
    return ChipStream(city.url, sample, windows, ids, spec, **(joined or {}))


def _bytes(batch):
    arrays = [*batch.inputs.values(), batch.label, batch.weight, batch.chip]
    return [values.tobytes() for values in arrays]


def _table(ids, **columns):
    return by_chip(pd.DataFrame({"chip": ids, **columns}), columns=list(columns))


@pytest.mark.parametrize(
    "windows",
    [
        *(
            Windows(shape=toy.SHAPE, size=size, stride=stride)
            for size, stride in ((96, 1), (96, 200), (95, 7), (8, 9), (8, 300), (1, 7), (5, 2))
        ),
        *(
            PartitionWindows(
                shape=toy.SHAPE, size=8, stride=n, boxes=PARTS, dense=np.array([True, False, True])
            )
            for n in (3, 7, 11)
        ),
    ],
    ids=lambda windows: f"{type(windows).__name__} {windows.size} px, {windows.stride} px",
)
def test_windows_of_any_size_and_stride_are_cut_where_they_lie(city, windows):
    raster = np.moveaxis(city.image[[2, 0]], 0, -1)
    ids = np.arange(0, len(windows), max(len(windows) // 300, 1))
    found = []
    for batch in _stream(city, ids, windows=windows).epoch():
        for chip, values in zip(batch.chip.tolist(), batch.inputs["predictors"], strict=True):
            if chip >= 0:
                y, x = windows.origins([chip])[0]
                assert np.array_equal(values, raster[y:, x:][: windows.size, : windows.size])
                found.append(chip)
    assert sorted(found) == ids.tolist()


class TestIds:
    @pytest.mark.parametrize(
        "ids", [[3, 1], (1, 3), pd.Series([3, 1]), np.array([1, 3], "uint8"), range(1, 4, 2)]
    )
    def test_whole_numbers_come_in_any_list(self, city, ids):
        found = _stream(city, ids).ids
        assert (found.dtype, found.tolist()) == (np.int64, [1, 3])

    @pytest.mark.parametrize(
        "ids",
        [np.ones(len(WINDOWS), bool), [True, False], [1.0, 2.5], ["1"], [[1, 2]], 3, None, {1, 2}],
        ids=str,
    )
    def test_anything_else_is_refused(self, city, ids):
        with pytest.raises(SplitError, match="named by whole numbers"):
            _stream(city, ids)

    def test_a_number_too_large_for_int64_is_no_other_chip(self, city):
        with pytest.raises(SplitError, match="numbered from 0 to 398. Received 1 to 1844"):
            _stream(city, np.array([1, 2**64 - 1], "uint64"))


class TestArguments:
    @pytest.mark.parametrize(
        ("name", "given"),
        [
            ("supervision", "all"),
            ("label", "table"),
            ("features", ["table"]),
            ("weights", [1.0]),
            ("pixel_weights", {1: 2.0}),
            ("sampling", 3),
            ("held_out", 3),
        ],
    )
    def test_what_is_joined_is_of_the_kind_that_is_asked_for(self, city, name, given):
        with pytest.raises(SpecError, match=rf"{name}= takes .*\. Received {type(given).__name__}"):
            _stream(city, joined={name: given})

    def test_so_are_sample_windows_and_spec(self, city):
        right = {"sample": toy.SAMPLE, "windows": WINDOWS, "spec": StreamSpec(seed=0)}
        for name in right:
            with pytest.raises(SpecError, match=f"{name}= takes .* Received NoneType"):
                ChipStream(city.url, chips=[0], **{**right, name: None})
        with pytest.raises(SpecError, match=r"chips under 'x'\. Received int; join it with by_w"):
            _stream(city, joined={"features": {"x": 3}})

    @pytest.mark.parametrize(
        ("make", "match"),
        [
            (lambda: Timing(label=2010), "Periods are named"),
            (lambda: Timing(inputs=None), "Periods are named"),
            (lambda: InputStack(stack="a", bands=None), "list of bands"),
            (lambda: InputStack(stack="a", bands=(1,)), "list of bands"),
            (lambda: InputStack(stack="a", bands={"x", "y"}), "list of bands"),
            (lambda: SampleSpec(inputs=("a",), target=None), "list of InputStack"),
            (lambda: SampleSpec.of(["a"], None), "maps names of stacks"),
            (lambda: SampleSpec.of({"a": ("b",)}, "people"), "a TableTarget or None"),
            (lambda: SampleSpec.of({"a": ("b",)}, None, timings=["2000"]), "list of Timing"),
            (lambda: SampleSpec.of({"a": ("b",)}, None, timings=Timing()), "list of Timing"),
            (lambda: Target(layer=5), "name of a layer"),
            (lambda: Target(layer="people", change="yes"), "change is True or False"),
            (lambda: TableTarget(columns=None), "needs columns, each once"),
            (lambda: TableTarget(columns=(1, 2)), "needs columns, each once"),
        ],
    )
    def test_a_sample_is_made_of_what_it_is_made_of(self, make, match):
        with pytest.raises(SpecError, match=match):
            make()

    @pytest.mark.parametrize(
        "polygons", [[], [30], [-1], [3, 3], [1.5], np.ones(30, bool), [[1, 2]]], ids=str
    )
    def test_supervision_takes_numbers_of_its_polygons(self, city, polygons):
        with pytest.raises(SpecError, match="from 0 to 29, each once"):
            Supervision(coverage=city.coverage, polygons=polygons)

    def test_supervision_is_over_the_grid_of_the_cube(self, city):
        spec = toy.spec()
        moved = replace(spec, grid=spec.grid.translate_pix(0, 8))
        other = replace(city, url=cube.create("memory://moved", moved))
        supervision = Supervision(coverage=city.coverage, polygons=[3])
        with pytest.raises(SpecError, match="another grid than the cube's"):
            _stream(other, joined={"supervision": supervision})

    @pytest.mark.parametrize("step", [-1, 1.5])
    def test_a_step_is_a_number_of_batches(self, city, step):
        with pytest.raises(SpecError, match="step must be at least 0"):
            _stream(city).state(step=step)

    @pytest.mark.parametrize("state", [{"epoch": 0}, {"epoch": 0, "lap": 1}, 5])
    def test_a_state_is_a_state(self, city, state):
        with pytest.raises(SpecError, match="an epoch, a batch and a digest"):
            _stream(city).resume(state)
        with pytest.raises(SpecError, match="epoch must be at least 0"):
            StreamState(epoch=-1, batch=0, digest="")

    @pytest.mark.parametrize("count", [0, -2, 1.5])
    def test_there_is_an_epoch_at_least(self, city, count):
        stream = _stream(city)
        with pytest.raises(SpecError, match="epochs must be at least 1"):
            stream.epochs(0, count)
        with pytest.raises(SpecError, match="epochs must be at least 1"):
            stream.resume(stream.state(), epochs=count)

    def test_doors_refuse_a_place_that_is_not_there_before_they_open(self, city):
        stream = _stream(city)
        with pytest.raises(SpecError, match="their batches from 0 to 25"):
            stream.keras(first=-1)
        pytest.importorskip("tensorflow", reason="needs TensorFlow")
        with pytest.raises(SpecError, match="their batches from 0 to 25"):
            stream.tensorflow(epochs=1, start=99)


class _Weights:
    def __init__(self, weight):
        self.weight = weight

    def of(self, chips):
        return np.full(len(chips), self.weight, "float32")


class TestJoined:
    @pytest.mark.parametrize("weight", [np.nan, -1, np.inf, 0])
    def test_weights_that_would_spoil_the_loss_are_refused(self, city, weight):
        with pytest.raises(SplitError, match="finite, 0 or more, and not all 0"):
            _stream(city, joined={"weights": _Weights(weight)})

    def test_a_chip_without_a_weight_is_refused_at_once(self, city):
        with pytest.raises(SplitError, match="397 of 399 chips have no weight"):
            _stream(city, joined={"weights": chip_weights([1, 2], amounts=[1, 2])})

    def test_a_table_of_other_chips_is_refused_as_a_label(self, city):
        sample = replace(toy.SAMPLE, target=TableTarget(columns=("v",)))
        with pytest.raises(SplitError, match="says nothing of any of the 2 chips"):
            _stream(city, [1, 2], sample=sample, joined={"label": _table([7, 8], v=[1.0, 2.0])})

    def test_a_table_called_draws_is_no_draw(self, city):
        joined = {"features": {"draws": _table(ALL, v=ALL * 1.0)}}
        assert _stream(city, joined=joined)
        with pytest.raises(SpecError, match="names of their own: draws"):
            _stream(city, joined=joined, draws=2)


@pytest.fixture(scope="module")
def odd():
    """Layers of wide numbers, a packed one, and stacks that are called like parts of a batch."""
    stacks = ("image", "label", "weight")
    values = {
        "count": ("int64", -1, (2**40 + 1, 2**40 + 3)),
        "amount": ("float64", np.nan, (1e9 + 1, 1e9 + 3)),
        "huge": ("float64", np.nan, (1e39, np.inf)),
        "code": ("uint32", 0, (2**31 + 5, 7)),
        "packed": ("uint8", 255, (3, 4)),
        "wide_class": ("int32", -1, (2**24 + 1, 2**31 - 1)),
        "none": ("float32", np.nan, (np.nan, np.nan)),
    }
    spec = replace(
        toy.spec(),
        stacks=tuple(
            cube.StackSpec(name=name, bands=("a",), dtype="uint8", nodata=0, static=True)
            for name in stacks
        ),
        layers=tuple(
            cube.LayerSpec(
                name=name, dtype=dtype, nodata=fill, scale=0.5 if name == "packed" else 1.0
            )
            for name, (dtype, fill, _) in values.items()
        ),
    )
    url = cube.create("memory://odd", spec)
    for number, name in enumerate(stacks, start=1):
        toy.write(url, name, np.full((1, *toy.SHAPE), number, "uint8"))
    for name, (dtype, _, each) in values.items():
        for year, value in zip(("2000", "2010"), each, strict=True):
            toy.write(url, name, np.full(toy.SHAPE, value, dtype), time=year)
    return url


def _odd(odd, target, *periods, stacks=("image",)):
    sample = SampleSpec.of(
        dict.fromkeys(stacks, ("a",)), target, timings=[Timing(label=periods or ("2000",))]
    )
    return ChipStream(odd, sample, WINDOWS, [0, 5], StreamSpec(seed=0, batch=2))


class TestLabels:
    @pytest.mark.parametrize("over", ["pixels", "window"])
    @pytest.mark.parametrize("layer", ["count", "amount"])
    def test_a_small_change_of_large_numbers_is_not_rounded_away(self, odd, layer, over):
        target = Target(layer=layer, over=over, change=True)
        batch = next(_odd(odd, target, "2000", "2010").epoch())
        assert (batch.label == 2).all()
        assert (batch.weight == 1).all()

    @pytest.mark.parametrize("over", ["pixels", "window"])
    @pytest.mark.parametrize("change", [True, False])
    def test_what_float32_cannot_hold_is_not_known(self, odd, over, change):
        target = Target(layer="huge", over=over, change=change)
        batch = next(_odd(odd, target, "2000", "2010").epoch())
        assert not batch.label.any()
        assert not batch.weight.any()

    def test_classes_of_windows_keep_every_digit(self, odd):
        target = Target(
            layer="wide_class", transform="classes", over="window", statistic="majority"
        )
        batch = next(_odd(odd, target, "2000", "2010").epoch())
        assert batch.label.tolist() == [[2**24 + 1, 2**31 - 1]] * 2

    @pytest.mark.parametrize("layer", ["code", "count", "packed", "none"])
    @pytest.mark.parametrize("how", [{}, {"over": "window", "statistic": "majority"}], ids=str)
    def test_classes_that_int32_cannot_hold_are_refused(self, odd, layer, how):
        with pytest.raises(SpecError, match=f"int32 holds, without scale. Layer '{layer}'"):
            _odd(odd, Target(layer=layer, transform="classes", **how))

    @pytest.mark.parametrize("target", [None, Target(layer="amount")])
    def test_stacks_may_be_called_label_and_weight(self, odd, target):
        batch = next(_odd(odd, target, stacks=("weight", "label")).epoch())
        assert {name: np.unique(v).tolist() for name, v in batch.inputs.items()} == {
            "weight": [3],
            "label": [2],
        }
        assert (batch.label is None) == (target is None)

    def test_an_epoch_in_which_nothing_weighs_says_so(self, odd, caplog):
        with caplog.at_level(logging.WARNING, "quadrat.stream"):
            for layer, said in (("amount", False), ("none", True)):
                stream = _odd(odd, Target(layer=layer))
                list(stream.epoch())
                assert stream.report.weighed != said
                assert ("nothing in it weighs" in str(stream.report)) == said
                assert ("nothing in it weighs" in caplog.text) == said


class TestPlaces:
    @pytest.mark.parametrize("part", [(0, 1), (1, 3)])
    def test_a_stream_of_drawn_chips_goes_on_where_it_was_left(self, city, part):
        def stream():
            sampling = Subset(ids=ALL, per_epoch=150, seed=2)
            return _stream(city, joined={"sampling": sampling}, part=part, batch=8, block_px=40)

        whole = [_bytes(batch) for batch in stream().epochs(0, 3)]
        first = stream()
        batches = first.epochs(0, 3)
        before = [_bytes(next(batches)) for _ in range(len(first) + 2)]
        state = first.state()
        batches.close()
        assert before + [_bytes(b) for b in stream().resume(state, epochs=2)] == whole

    def test_a_worker_without_chips_reads_nothing(self, city):
        reads = []
        for k in range(7):
            stream = _stream(city, [5, 9, 30], part=(k, 7), batch=2)
            chips = np.concatenate([batch.chip for batch in stream.epoch()])
            reads.append((int((chips >= 0).sum()), stream.report.reads > 0))
        assert sorted(reads) == [(0, False)] * 4 + [(1, True)] * 3

    def test_epochs_and_seeds_may_be_large(self, city):
        stream = _stream(city, seed=2**70)
        chips = np.concatenate([batch.chip for batch in stream.epoch(10**6)])
        assert np.sort(chips[chips >= 0]).tolist() == ALL.tolist()

    def test_readers_change_no_byte(self, city):
        one, many = ([_bytes(b) for b in _stream(city, readers=n).epoch()] for n in (1, 5))
        assert one == many


class TestDigest:
    def test_it_changes_with_all_that_changes_order_or_content(self, city):
        table = _table(ALL, v=ALL * 1.0)
        supervised = [Supervision(coverage=city.coverage, polygons=[n]) for n in (3, 4)]
        as_label = {"sample": replace(toy.SAMPLE, target=TableTarget(columns=("v",)))}
        weights = [ChipWeights(ids=ALL, weights=np.full(len(ALL), w, "float32")) for w in (1, 2)]
        streams = [
            _stream(city),
            _stream(city, ALL[1:]),
            _stream(city, seed=1),
            _stream(city, shuffle=False),
            _stream(city, batch=15),
            _stream(city, memory="500 MB"),
            _stream(city, block_px=40),
            _stream(city, blocks_in_flight=2),
            _stream(city, part=(0, 2)),
            _stream(city, draws=1),
            *(_stream(city, joined={"supervision": s}) for s in supervised),
            *(_stream(city, joined={"weights": w}) for w in weights),
            *(
                _stream(city, joined={"sampling": Subset(ids=ALL, per_epoch=9, seed=n)})
                for n in (0, 1)
            ),
            *(_stream(city, joined={"features": {n: table}}) for n in ("a", "b")),
            _stream(city, joined={"features": {"a": _table(ALL, v=ALL * 2.0)}}),
            *(
                _stream(city, joined={"label": _table(ALL, v=ALL * n)}, **as_label)
                for n in (1.0, 2.0)
            ),
        ]
        assert len({stream.digest for stream in streams}) == len(streams)

    def test_it_changes_with_the_weights_of_classes(self, odd):
        sample = SampleSpec.of({"image": ("a",)}, Target(layer="code"), label_time="2010")
        sample = replace(sample, target=Target(layer="wide_class", transform="classes"))
        made = [pixel_weights({1: 3, 2: n}) for n in (1, 2)]
        assert isinstance(made[0], PixelWeights)
        digests = {
            ChipStream(odd, sample, WINDOWS, [0], StreamSpec(seed=0), pixel_weights=w).digest
            for w in made
        }
        assert len(digests) == 2

    def test_threads_and_the_order_of_the_ids_change_nothing(self, city):
        streams = [_stream(city), _stream(city, readers=1), _stream(city, ALL[::-1].tolist())]
        assert len({stream.digest for stream in streams}) == 1


def test_the_chips_of_the_first_group_do_not_follow_the_order_of_the_blocks():
    chips = Chips(windows=Windows(shape=(200, 200), size=4, stride=4))
    blocks = plan_blocks(chips, np.arange(len(chips)), block_px=1)
    epoch = plan_epoch(blocks, number=0, seed=3, section=10**6, limits=(10**9, None), pixel_bytes=1)
    order = [int(block.chips[0]) for block in epoch.blocks]
    assert len(epoch.groups) == 1
    found = epoch.order(epoch.groups[0]).tolist()
    assert found not in (order, np.argsort(order).tolist())
