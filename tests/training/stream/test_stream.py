"""Chips come whole, once an epoch, in an order that the seed alone decides, cut by xbatcher."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from xbatcher import BatchGenerator

import cube
from cube.errors import SpecError, SplitError
from cube.windows import Windows
from tests import toy
from training.samples import SampleSpec
from training.stream import Batch, ChipStream, StreamSpec, Supervision, cutting, loading
from training.targets import Target

WINDOWS = Windows(shape=toy.SHAPE, size=8, stride=5)
"""19 x 21 windows; the last row and the last column are moved inwards."""

ALL = np.arange(len(WINDOWS))


def _stream(city, ids=ALL, *, windows=WINDOWS, sample=toy.SAMPLE, supervision=None, **spec):
    spec = StreamSpec(**{"seed": 0, "batch": 16, "block_px": 40, **spec})
    return ChipStream(city.url, sample, windows, ids, spec, supervision=supervision)


def _order(stream, number=0):
    """Ids as they come, filling left out."""
    ids = np.concatenate([batch.chip for batch in stream.epoch(number)])
    return ids[ids >= 0].tolist()


def _bytes(batch: Batch):
    return [batch.chip.tobytes(), batch.label.tobytes(), batch.weight.tobytes()] + [
        values.tobytes() for values in batch.inputs.values()
    ]


def _by_chip(stream):
    """Chip id to (inputs by name, label, weight)."""
    found = {}
    for batch in stream.epoch():
        for place, chip in enumerate(batch.chip.tolist()):
            if chip >= 0:
                inputs = {name: values[place] for name, values in batch.inputs.items()}
                found[chip] = (inputs, batch.label[place], batch.weight[place])
    return found


def _whole(city):
    """What the sample takes of the whole cube, channels last, and its valid label."""
    learned = toy.TARGET.forward(city.label, pixel_km2=toy.PIXEL_KM2)
    known = ~np.isnan(learned) & city.valid
    return {
        "predictors": np.moveaxis(city.image[[2, 0]], 0, -1),
        "terrain": np.moveaxis(city.terrain[[1, 0]], 0, -1),
        "label": np.where(known, learned, 0).astype("float32")[..., None],
        "weight": known.astype("float32"),
    }


class TestChips:
    @pytest.mark.parametrize("shuffle", [True, False])
    def test_they_equal_the_raster_cut_by_hand(self, city, shuffle):
        whole = _whole(city)
        found = _by_chip(_stream(city, shuffle=shuffle))
        assert sorted(found) == ALL.tolist()
        for chip, (inputs, label, weight) in found.items():
            (y, x), size = WINDOWS.origins([chip])[0], WINDOWS.size
            box = (slice(y, y + size), slice(x, x + size))
            assert list(inputs) == ["predictors", "terrain"]
            for name, values in inputs.items():
                assert values.dtype == whole[name].dtype
                assert values.tobytes() == np.ascontiguousarray(whole[name][box]).tobytes()
            assert label.tobytes() == np.ascontiguousarray(whole["label"][box]).tobytes()
            assert weight.tobytes() == np.ascontiguousarray(whole["weight"][box]).tobytes()

    @pytest.mark.parametrize("stride", [4, 8])
    def test_they_equal_the_items_of_xbatcher_over_the_whole(self, city, stride):
        windows = Windows(shape=toy.SHAPE, size=8, stride=stride)
        raster = xr.DataArray(np.moveaxis(city.image[[2, 0]], 0, -1), dims=("y", "x", "band"))
        items = BatchGenerator(
            raster, {"y": 8, "x": 8}, {"y": 8 - stride, "x": 8 - stride}, preload_batch=False
        )
        found = _by_chip(_stream(city, np.arange(len(windows)), windows=windows))
        assert len(items) == len(found) == len(windows)
        for chip, (inputs, _, _) in found.items():
            assert np.array_equal(inputs["predictors"], items[chip].values)

    def test_it_is_xbatcher_that_cuts_them(self, city, monkeypatch):
        def gone(*_, **__):
            raise RuntimeError("xbatcher is gone")

        monkeypatch.setattr(cutting, "BatchGenerator", gone)
        with pytest.raises(RuntimeError, match="xbatcher is gone"):
            next(_stream(city).epoch())

    def test_without_xbatcher_there_is_no_stream(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "xbatcher", None)
        spec = importlib.util.spec_from_file_location("without_xbatcher", cutting.__file__)
        with pytest.raises(ImportError, match="xbatcher"):
            spec.loader.exec_module(importlib.util.module_from_spec(spec))

    @pytest.mark.parametrize("chunk", [16, 64])
    def test_every_chunk_is_read_once_an_epoch(self, city, tmp_path, monkeypatch, chunk):
        other = toy.build(tmp_path / "other.zarr", chunk=chunk, region=64)
        reads = []
        original = loading.read_bands

        def counted(url, name, region, **options):
            reads.append((name, region.rows[0] // chunk, region.cols[0] // chunk))
            return original(url, name, region, **options)

        monkeypatch.setattr(loading, "read_bands", counted)
        stream = _stream(other, blocks_in_flight=1)
        list(stream.epoch())
        tiles = -(-toy.SHAPE[0] // chunk) * -(-toy.SHAPE[1] // chunk)
        assert len(reads) == len(set(reads)) == 3 * tiles == stream.report.reads
        assert stream.report.again == 0

    def test_without_room_to_keep_them_chunks_are_read_again_and_the_report_says_so(self, city):
        roomy, narrow = _stream(city), _stream(city, blocks_in_flight=1)
        object.__setattr__(narrow.budget, "kept_bytes", 0)
        assert [_by_chip(s).keys() for s in (roomy, narrow)]
        assert narrow.report.again > 0 == roomy.report.again
        assert f"{narrow.report.again} of them again" in str(narrow.report)

    def test_a_sparse_selection_reads_only_the_chunks_it_touches(self, city, tmp_path):
        other = toy.build(tmp_path / "other.zarr", chunk=16, region=64)
        corners = [*WINDOWS.touching((0, 1), (0, 1)).tolist(), len(WINDOWS) - 1]
        stream = _stream(other, corners, block_px=200)
        list(stream.epoch())
        # One chunk at the first corner; two by two where the last window was moved to.
        origin = WINDOWS.origins([len(WINDOWS) - 1])[0]
        last = {(y // 16, x // 16) for y in origin[0] + [0, 7] for x in origin[1] + [0, 7]}
        assert stream.report.reads == 3 * (1 + len(last))


class TestEpochs:
    @settings(deadline=None, max_examples=25)
    @given(
        seed=st.integers(0, 2**32 - 1),
        share=st.sampled_from([0.02, 0.3, 1.0]),
        shuffle=st.booleans(),
        batch=st.integers(1, 90),
        blocks_in_flight=st.integers(1, 9),
        block_px=st.integers(9, 120),
    )
    def test_an_epoch_yields_every_chip_once_and_no_other(self, city, seed, share, **spec):
        ids = np.flatnonzero(np.random.default_rng(seed).random(len(WINDOWS)) < share)
        ids = ids if len(ids) else ALL[-1:]
        stream = _stream(city, ids, seed=seed, **spec)
        for number in (0, 3):
            batches = list(stream.epoch(number))
            assert len(batches) == len(stream)
            chips = np.concatenate([batch.chip for batch in batches])
            assert np.sort(chips[chips >= 0]).tolist() == ids.tolist()
            assert all(len(batch.chip) == spec["batch"] for batch in batches)
            assert all((batch.chip >= 0).all() for batch in batches[:-1])

    def test_the_same_seed_gives_the_same_bytes(self, city):
        first, second = ([_bytes(b) for b in _stream(city, seed=4).epoch(2)] for _ in range(2))
        assert first == second

    def test_another_epoch_or_seed_has_another_order(self, city):
        stream = _stream(city, seed=4)
        orders = [_order(stream, 0), _order(stream, 1), _order(_stream(city, seed=5), 0)]
        assert len({tuple(order) for order in orders}) == 3

    def test_without_shuffling_every_epoch_has_the_order_of_the_blocks(self, city):
        stream = _stream(city, shuffle=False)
        expected = np.concatenate([block.chips for block in stream.blocks]).tolist()
        assert _order(stream, 0) == _order(stream, 7) == expected

    def test_chips_of_several_blocks_are_shuffled_together(self, city):
        alone, together = (
            _stream(city, blocks_in_flight=n, batch=6, seed=1) for n in (1, len(ALL))
        )
        cell = {i: n for n, block in enumerate(together.blocks) for i in block.chips.tolist()}
        blocks = [
            {cell[i] for i in next(s.epoch()).chip.tolist() if i >= 0} for s in (alone, together)
        ]
        assert len(blocks[0]) == 1
        assert len(blocks[1]) > 1

    def test_the_order_of_the_ids_given_means_nothing(self, city):
        assert _order(_stream(city, ALL[::-1])) == _order(_stream(city, ALL))

    def test_chunks_and_regions_of_the_cube_change_no_byte(self, city, tmp_path):
        other = toy.build(tmp_path / "other.zarr", chunk=64, region=128)
        mine, theirs = ([_bytes(b) for b in _stream(c, batch=40).epoch()] for c in (city, other))
        assert mine == theirs

    def test_the_last_batch_is_filled_with_chips_that_weigh_nothing(self, city):
        last = list(_stream(city, ALL[:21]).epoch())[-1]
        assert (last.chip[:5] >= 0).all()
        assert last.chip[5:].tolist() == [-1] * 11
        assert not last.weight[5:].any()
        assert not last.label[5:].any()
        assert not any(values[5:].any() for values in last.inputs.values())

    def test_all_batches_have_one_shape_and_the_stored_dtypes(self, city):
        for batch in _stream(city, ALL[:50]).epoch():
            assert batch.inputs["predictors"].shape == (16, 8, 8, 2)
            assert batch.inputs["predictors"].dtype == np.uint8
            assert batch.inputs["terrain"].dtype == np.float32
            assert (batch.label.shape, batch.weight.shape) == ((16, 8, 8, 1), (16, 8, 8))
            assert (batch.label.dtype, batch.weight.dtype) == (np.float32, np.float32)


@pytest.fixture(scope="module")
def coded():
    """A cube whose every value says where it lies; places divisible by 7 have no label."""
    code = np.arange(1, toy.SHAPE[0] * toy.SHAPE[1] + 1).reshape(toy.SHAPE)
    spec = replace(
        toy.spec(),
        stacks=(
            cube.StackSpec(name="one", bands=("a",), dtype="uint16", nodata=0, static=True),
            cube.StackSpec(name="two", bands=("b",), dtype="float32", static=True),
        ),
        layers=(cube.LayerSpec(name="code", dtype="float64", static=True),),
    )
    url = cube.create("memory://coded", spec)
    toy.write(url, "one", code[None].astype("uint16"))
    toy.write(url, "two", -code[None].astype("float32"))
    toy.write(url, "code", np.where(code % 7 == 0, np.nan, code))
    sample = SampleSpec.of(
        {"one": ("a",), "two": ("b",)}, Target(layer="code"), label_time=None, input_time=None
    )
    return url, sample, code


class TestLabels:
    def test_a_pixel_without_label_or_with_nodata_input_weighs_nothing(self, coded):
        url, sample, _ = coded
        batch = next(ChipStream(url, sample, WINDOWS, ALL[:8], StreamSpec(seed=0)).epoch())
        assert set(np.unique(batch.weight[:8])) == {0.0, 1.0}
        assert np.isfinite(batch.label).all()

    def test_zero_persons_are_no_observation_of_a_logarithm(self, city, tmp_path):
        empty = toy.copied(city, tmp_path / "empty.zarr")
        cube.add(empty.url, cube.LayerSpec(name="zero", dtype="float64", static=True))
        toy.write(empty.url, "zero", np.zeros(toy.SHAPE))
        for transform, expected in (("log", False), ("identity", True)):
            target = Target(layer="zero", transform=transform)
            sample = SampleSpec.of(
                {"predictors": ("red",)}, target, label_time=None, input_time="2000"
            )
            batch = next(_stream(empty, ALL[100:116], sample=sample).epoch())
            assert batch.weight.any() == expected
            assert not batch.label.any()

    def test_only_the_bands_of_the_sample_decide_what_is_nodata(self, city):
        sample = replace(toy.SAMPLE, inputs=toy.SAMPLE.inputs[:1])
        weight = {chip: found[2] for chip, found in _by_chip(_stream(city, sample=sample)).items()}
        green_only = (70, 60)  # blue and red were observed there
        for chip, values in weight.items():
            y, x = WINDOWS.origins([chip])[0]
            if y <= green_only[0] < y + 8 and x <= green_only[1] < x + 8:
                assert values[green_only[0] - y, green_only[1] - x] == 1


class TestSupervision:
    @pytest.mark.parametrize("chosen", [np.array([3]), np.array([0, 7, 8, 21, 29]), np.arange(30)])
    def test_every_polygon_counts_the_same_and_the_others_nothing(self, city, chosen):
        supervision = Supervision(coverage=city.coverage, polygons=chosen)
        weight = supervision.weights((0, toy.SHAPE[0]), (0, toy.SHAPE[1]))
        inside = city.owner >= 0
        sums = np.bincount(city.owner[inside], weight[inside].astype("float64"), 30)
        assert sums[chosen] == pytest.approx(np.full(len(chosen), sums[chosen[0]]), rel=1e-5)
        assert not np.delete(sums, chosen).any()
        assert not weight[~inside].any()
        assert weight[weight > 0].mean() == pytest.approx(1.0, rel=1e-5)

    def test_a_pixel_that_reaches_beyond_all_polygons_weighs_nothing(self, city):
        supervision = Supervision(coverage=city.coverage, polygons=np.arange(30))
        rows, cols = (0, toy.SHAPE[0]), (0, toy.SHAPE[1])
        partly = city.coverage.shares(rows, cols).covered() < 0.99
        assert (partly & (city.owner >= 0)).any()
        assert not supervision.weights(rows, cols)[partly].any()

    def test_a_box_has_the_weights_of_the_whole(self, city):
        supervision = Supervision(coverage=city.coverage, polygons=np.array([7, 8, 13]))
        whole = supervision.weights((0, toy.SHAPE[0]), (0, toy.SHAPE[1]))
        assert np.array_equal(supervision.weights((20, 61), (11, 70)), whole[20:61, 11:70])

    def test_the_stream_weighs_labels_with_it(self, city):
        supervision = Supervision(coverage=city.coverage, polygons=np.array([7, 8, 13]))
        whole = supervision.weights((0, toy.SHAPE[0]), (0, toy.SHAPE[1])) * _whole(city)["weight"]
        for chip, (_, _, weight) in _by_chip(_stream(city, supervision=supervision)).items():
            y, x = WINDOWS.origins([chip])[0]
            assert np.array_equal(weight, whole[y : y + 8, x : x + 8])


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="needs TensorFlow")
class TestTensorflow:
    def test_it_says_what_the_numpy_door_says(self, city):
        stream = _stream(city, ALL[:60])
        expected = [batch for number in range(2) for batch in stream.epoch(number)]
        found = list(stream.tensorflow(epochs=2).as_numpy_iterator())
        assert len(found) == len(expected) == 2 * len(stream)
        for (inputs, label, weight), batch in zip(found, expected, strict=True):
            assert {k: v.tobytes() for k, v in inputs.items()} == {
                k: v.tobytes() for k, v in batch.inputs.items()
            }
            assert label.tobytes() == batch.label.tobytes()
            assert weight.tobytes() == batch.weight.tobytes()

    def test_shapes_are_static_dtypes_as_stored_and_the_length_is_known(self, city):
        stream = _stream(city, ALL[:60])
        dataset = stream.tensorflow(epochs=3)
        inputs, label, weight = dataset.element_spec
        shapes = {name: tuple(part.shape) for name, part in inputs.items()}
        assert shapes == {"predictors": (16, 8, 8, 2), "terrain": (16, 8, 8, 2)}
        assert [inputs[name].dtype.name for name in inputs] == ["uint8", "float32"]
        assert (tuple(label.shape), label.dtype.name) == ((16, 8, 8, 1), "float32")
        assert (tuple(weight.shape), weight.dtype.name) == ((16, 8, 8), "float32")
        assert int(dataset.cardinality()) == 3 * len(stream)


class TestRefusals:
    @pytest.mark.parametrize(
        ("ids", "match"),
        [
            ([], r"needs chips, once each\. Received none"),
            ([9, 1, 5, 9, 5, 9], r"needs chips, once each\. Of 6 ids 3 come again, first 5;"),
        ],
    )
    def test_no_chips_or_the_same_twice(self, city, ids, match):
        with pytest.raises(SplitError, match=match):
            _stream(city, ids)

    @pytest.mark.parametrize("ids", [[-1, 0], [0, len(WINDOWS)]])
    def test_chips_that_are_not_there(self, city, ids):
        with pytest.raises(SplitError, match="numbered from 0 to 398"):
            _stream(city, ids)

    def test_windows_of_another_grid(self, city):
        with pytest.raises(SplitError, match=r"a grid of \(64, 64\), the cube on \(96, 104\)"):
            _stream(city, [0], windows=Windows(shape=(64, 64), size=8, stride=4))

    @pytest.mark.parametrize(
        ("inputs", "time", "match"),
        [
            ({"predictors": ("nir",)}, "2000", "no band nir"),
            ({"optical": ("red",)}, "2000", "no variable 'optical'"),
            ({"predictors": ("red",)}, "1990", "no '1990'"),
        ],
    )
    def test_what_the_cube_lacks(self, city, inputs, time, match):
        sample = SampleSpec.of(inputs, toy.TARGET, label_time="2010", input_time=time)
        with pytest.raises(SpecError, match=match):
            _stream(city, sample=sample)
