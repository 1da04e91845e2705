"""Labels of every kind are what a plain loop over the pixels makes of the layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import cube
from cube.errors import SpecError, SplitError
from cube.windows import Windows
from tests import toy
from training import timings
from training.samples import SampleSpec
from training.stream import ChipStream, StreamSpec, Supervision
from training.targets import TableTarget, Target
from training.timings import Timing

WINDOWS = Windows(shape=toy.SHAPE, size=8, stride=5)
YEARS = ("2000", "2010", "2020")
CLASSES = ((0, "none"), (1, "debris"), (2, "ice"))


@pytest.fixture(scope="module")
def years():
    """Three years of an image that says its year and place, of a number and of classes."""
    code = np.arange(1, toy.SHAPE[0] * toy.SHAPE[1] + 1).reshape(toy.SHAPE)
    spec = replace(
        toy.spec(),
        calendar=cube.years(*map(int, YEARS)),
        stacks=(
            cube.StackSpec(name="image", bands=("a", "b"), dtype="int32", nodata=-1),
            cube.StackSpec(name="relief", bands=("h",), dtype="float32", static=True),
        ),
        layers=(
            cube.LayerSpec(name="people", dtype="float32"),
            cube.LayerSpec(name="cover", dtype="uint8", nodata=255, classes=CLASSES),
        ),
    )
    url = cube.create("memory://years", spec)
    data = {"relief": code.astype("float32"), "image": [], "people": [], "cover": []}
    rng = np.random.default_rng(0)
    for number, year in enumerate(YEARS):
        image = np.stack([code + 10**6 * number, -code - 10**6 * number - 10]).astype("int32")
        image[:, 20:22, 30:33] = -1
        people = rng.uniform(0, 50, toy.SHAPE).astype("float32")
        people[50:60, :20] = np.nan
        people[rng.random(toy.SHAPE) < 0.1] = 0
        cover = rng.integers(0, 3, toy.SHAPE).astype("uint8")
        cover[:, 90:] = 255
        for name, values in (("image", image), ("people", people), ("cover", cover)):
            data[name].append(values)
            toy.write(url, name, values, time=year)
    toy.write(url, "relief", data["relief"][None])
    return url, {name: np.array(values) for name, values in data.items()}


def _by_chip(url, sample, ids, **joined):
    spec = StreamSpec(seed=0, batch=16, block_px=40)
    found = {}
    for batch in ChipStream(url, sample, WINDOWS, ids, spec, **joined).epoch():
        for place, chip in enumerate(batch.chip.tolist()):
            if chip >= 0:
                inputs = {name: values[place] for name, values in batch.inputs.items()}
                label = None if batch.label is None else batch.label[place]
                weight = None if batch.weight is None else batch.weight[place]
                found[chip] = inputs, label, weight
    return found


def _box(window):
    y, x = WINDOWS.origins([window])[0]
    return slice(y, y + 8), slice(x, x + 8)


INPUTS = {"image": ("b", "a"), "relief": ("h",)}


class TestTimes:
    def test_every_window_gives_a_chip_for_each_timing(self, years):
        url, data = years
        sample = SampleSpec.of(INPUTS, Target(layer="people"), timings=timings.same(YEARS))
        ids = np.arange(3 * len(WINDOWS))
        found = _by_chip(url, sample, ids)
        assert sorted(found) == ids.tolist()
        for chip, (inputs, label, weight) in found.items():
            window, time = divmod(chip, 3)
            box = _box(window)
            image = np.moveaxis(data["image"][time][::-1][(slice(None), *box)], 0, -1)
            assert np.array_equal(inputs["image"], image)
            assert np.array_equal(inputs["relief"][..., 0], data["relief"][box])
            people = data["people"][time][box]
            known = ~np.isnan(people) & (image != -1).all(axis=-1)
            assert np.array_equal(weight, known.astype("float32"))
            assert np.array_equal(label[..., 0], np.where(known, people, 0))

    def test_a_label_may_be_of_another_period_than_the_image(self, years):
        url, data = years
        sample = SampleSpec.of(
            INPUTS, Target(layer="people"), timings=[Timing(label=("2020",), inputs=("2000",))]
        )
        inputs, label, weight = _by_chip(url, sample, [0])[0]
        assert np.array_equal(inputs["image"][..., 1], data["image"][0][0][_box(0)])
        assert np.array_equal(label[..., 0][weight > 0], data["people"][2][_box(0)][weight > 0])

    @pytest.mark.parametrize("periods", [YEARS[:2], YEARS])
    def test_several_input_periods_are_one_array_in_their_order(self, years, periods):
        url, data = years
        sample = SampleSpec.of(
            INPUTS, Target(layer="people"), timings=[Timing(label="2010", inputs=periods)]
        )
        for window, (inputs, _, weight) in _by_chip(url, sample, np.arange(40)).items():
            assert inputs["image"].shape == (len(periods), 8, 8, 2)
            assert inputs["relief"].shape == (8, 8, 1)
            known = np.ones((8, 8), dtype=bool)
            for number in range(len(periods)):
                seen = data["image"][number][(slice(None), *_box(window))]
                assert np.array_equal(inputs["image"][number], np.moveaxis(seen[::-1], 0, -1))
                known &= (seen != -1).all(axis=0)
            assert not weight[~known].any()

    def test_only_the_times_of_the_chosen_chips_are_read(self, years):
        url, _ = years
        sample = SampleSpec.of(INPUTS, Target(layer="people"), timings=timings.same(YEARS))
        spec = StreamSpec(seed=0, batch=4)
        one = ChipStream(url, sample, WINDOWS, [0], spec)
        both = ChipStream(url, sample, WINDOWS, [0, 1], spec)
        for stream in (one, both):
            list(stream.epoch())
        # Image and label of each year; the relief serves both.
        assert (one.report.reads, both.report.reads) == (3, 5)


class TestTargets:
    def test_a_change_is_the_last_period_minus_the_first(self, years):
        url, data = years
        target = Target(layer="people", transform="log", change=True)
        timing = Timing(label=("2000", "2020"), inputs=("2000", "2020"))
        sample = SampleSpec.of(INPUTS, target, timings=[timing])
        for window, (_, label, weight) in _by_chip(url, sample, np.arange(30)).items():
            first, last = (data["people"][n][_box(window)] for n in (0, 2))
            positive = (first > 0) & (last > 0)
            assert not weight[~positive].any()
            known = weight > 0
            assert np.allclose(
                label[..., 0][known], np.log(last[known]) - np.log(first[known]), atol=1e-5
            )
            assert not label[..., 0][~known].any()

    def test_two_label_periods_are_two_channels(self, years):
        url, data = years
        timing = Timing(label=("2000", "2010"), inputs=("2000", "2010"))
        sample = SampleSpec.of(INPUTS, Target(layer="people"), timings=[timing])
        _, label, weight = _by_chip(url, sample, [7])[7]
        assert label.shape == (8, 8, 2)
        for number in range(2):
            people = data["people"][number][_box(7)]
            assert np.array_equal(label[..., number][weight > 0], people[weight > 0])

    def test_classes_are_whole_numbers_and_nodata_is_none_of_them(self, years):
        url, data = years
        target = Target(layer="cover", transform="classes")
        sample = SampleSpec.of(INPUTS, target, label_time="2010", input_time="2010")
        for window, (_, label, weight) in _by_chip(url, sample, np.arange(len(WINDOWS))).items():
            cover = data["cover"][1][_box(window)]
            assert label.dtype == np.int32
            assert np.array_equal(label[..., 0][weight > 0], cover[weight > 0])
            assert not weight[cover == 255].any()
            assert not label[..., 0][cover == 255].any()

    @pytest.mark.parametrize("statistic", ["mean", "sum"])
    @pytest.mark.parametrize("transform", ["identity", "log"])
    def test_a_window_is_the_mean_or_sum_of_its_observed_pixels(self, years, statistic, transform):
        url, data = years
        target = Target(layer="people", over="window", statistic=statistic, transform=transform)
        sample = SampleSpec.of(INPUTS, target, label_time="2000", input_time="2000")
        for window, (_, label, weight) in _by_chip(url, sample, np.arange(len(WINDOWS))).items():
            people = data["people"][0][_box(window)].astype("float64")
            assert (label.shape, weight.shape) == ((1,), ())
            known = not np.isnan(people).all()
            assert bool(weight) == (known and (transform == "identity" or np.nansum(people) > 0))
            if weight:
                expected = np.nanmean(people) if statistic == "mean" else np.nansum(people)
                expected = np.log(expected) if transform == "log" else expected
                assert label[0] == pytest.approx(expected, rel=1e-5)

    def test_the_class_of_a_window_is_its_commonest(self, years):
        url, data = years
        target = Target(layer="cover", over="window", statistic="majority", transform="classes")
        sample = SampleSpec.of(INPUTS, target, label_time="2000", input_time="2000")
        for window, (_, label, weight) in _by_chip(url, sample, np.arange(len(WINDOWS))).items():
            seen = data["cover"][0][_box(window)]
            seen = seen[seen != 255]
            assert bool(weight) == bool(len(seen))
            if weight:
                assert label[0] == np.bincount(seen).argmax()

    def test_chips_need_no_label(self, years):
        url, data = years
        sample = SampleSpec.of(INPUTS, None, input_time="2000")
        inputs, label, weight = _by_chip(url, sample, [3])[3]
        assert label is None
        assert weight is None
        assert np.array_equal(inputs["relief"][..., 0], data["relief"][_box(3)])


class _Rows:
    """A row of numbers for each chip: its id, and its half; none for every tenth."""

    columns = ("id", "half")

    def rows(self, chips):
        out = np.stack([chips, chips / 2], axis=-1).astype("float32")
        out[chips % 10 == 9] = np.nan
        return out


class _Weights:
    def of(self, chips):
        return (chips % 3).astype("float32")


class _ClassWeights:
    def of_classes(self, label, valid):
        return np.where(valid, label + 1, 0).astype("float32")


class TestJoined:
    def test_a_table_can_be_the_label(self, years):
        url, _ = years
        sample = SampleSpec.of(INPUTS, TableTarget(columns=_Rows.columns), input_time="2000")
        for chip, (_, label, weight) in _by_chip(url, sample, np.arange(50), label=_Rows()).items():
            known = chip % 10 != 9
            assert weight == known
            assert label.tolist() == ([chip, chip / 2] if known else [0, 0])

    def test_a_table_can_go_with_the_inputs(self, years):
        url, _ = years
        sample = SampleSpec.of(INPUTS, None, input_time="2000")
        ids = [i for i in range(50) if i % 10 != 9]
        for chip, (inputs, _, _) in _by_chip(url, sample, ids, features={"own": _Rows()}).items():
            assert inputs["own"].tolist() == [chip, chip / 2]

    def test_chips_that_lack_a_feature_are_counted_and_refused(self, years):
        sample = SampleSpec.of(INPUTS, None, input_time="2000")
        with pytest.raises(SplitError, match="5 of 50 chips lack features"):
            _by_chip(years[0], sample, np.arange(50), features={"own": _Rows()})

    def test_chips_can_count_more_or_less(self, years):
        url, _ = years
        sample = SampleSpec.of(INPUTS, Target(layer="people"), label_time="2000", input_time="2000")
        plain = _by_chip(url, sample, np.arange(30))
        for chip, (_, _, weight) in _by_chip(
            url, sample, np.arange(30), weights=_Weights()
        ).items():
            assert np.array_equal(weight, plain[chip][2] * (chip % 3))

    def test_classes_can_count_more_or_less(self, years):
        url, _ = years
        target = Target(layer="cover", transform="classes")
        sample = SampleSpec.of(INPUTS, target, label_time="2000", input_time="2000")
        plain = _by_chip(url, sample, np.arange(30))
        found = _by_chip(url, sample, np.arange(30), pixel_weights=_ClassWeights())
        for chip, (_, label, weight) in found.items():
            assert np.array_equal(weight, plain[chip][2] * (label[..., 0] + 1))

    @pytest.mark.parametrize(
        ("target", "joined", "match"),
        [
            (TableTarget(columns=("a",)), {"label": _Rows()}, "takes the columns a; label= has id"),
            (TableTarget(columns=("a",)), {}, "takes the columns a; label= has none"),
            (None, {"label": _Rows()}, "for a TableTarget. Received id, .* of no table"),
            (None, {"weights": _Weights()}, "has no target"),
            (None, {"pixel_weights": _ClassWeights()}, "transform='classes'"),
            (None, {"features": {"image": _Rows()}}, "names of their own: image"),
        ],
    )
    def test_what_does_not_fit_the_target_is_refused(self, years, target, joined, match):
        sample = SampleSpec.of(INPUTS, target, input_time="2000")
        with pytest.raises(SpecError, match=match):
            ChipStream(years[0], sample, WINDOWS, [0], StreamSpec(seed=0), **joined)

    def test_a_layer_is_learned_from_no_table(self, years):
        sample = SampleSpec.of(INPUTS, Target(layer="people"), label_time="2000", input_time="2000")
        with pytest.raises(SpecError, match=r"or learn TableTarget\(columns=\('id', 'half'\)\)"):
            ChipStream(years[0], sample, WINDOWS, [0], StreamSpec(seed=0), label=_Rows())

    def test_supervision_is_for_maps(self, years, city):
        target = Target(layer="people", over="window")
        sample = SampleSpec.of(INPUTS, target, label_time="2000", input_time="2000")
        supervision = Supervision(coverage=city.coverage, polygons=np.array([1]))
        with pytest.raises(SpecError, match="weighs the pixels of a map"):
            ChipStream(years[0], sample, WINDOWS, [0], StreamSpec(seed=0), supervision=supervision)


class _Twice:
    """Every chip twice, in the first epoch; another half four times in the others."""

    per_epoch = 40

    def describe(self):
        return {"kind": "twice"}

    def draw(self, epoch):
        return np.tile(np.arange(20), 2) if epoch == 0 else np.repeat(np.arange(10), 4)


class TestSampling:
    def test_chips_come_as_often_as_they_are_drawn(self, years):
        sample = SampleSpec.of(INPUTS, None, input_time="2000")
        spec = StreamSpec(seed=0, batch=16)
        stream = ChipStream(years[0], sample, WINDOWS, np.arange(20), spec, sampling=_Twice())
        assert len(stream) == 3
        for epoch in (0, 1):
            ids = np.concatenate([batch.chip for batch in stream.epoch(epoch)])
            assert np.sort(ids[ids >= 0]).tolist() == np.sort(_Twice().draw(epoch)).tolist()

    def test_a_chip_that_is_not_in_the_stream_cannot_be_drawn(self, years):
        sample = SampleSpec.of(INPUTS, None, input_time="2000")
        spec = StreamSpec(seed=0, batch=16)
        args = (years[0], sample, WINDOWS, np.arange(15), spec)
        with pytest.raises(SplitError, match="5 of them not in the stream"):
            ChipStream(*args, sampling=_Twice())


class _Near:
    def check(self, windows):
        raise SplitError(f"{len(windows)} windows lie too near")


def test_the_windows_that_are_streamed_are_checked_against_what_is_held_out(years):
    sample = SampleSpec.of(INPUTS, Target(layer="people"), timings=timings.same(YEARS))
    with pytest.raises(SplitError, match="2 windows lie too near"):
        ChipStream(years[0], sample, WINDOWS, [0, 1, 2, 3], StreamSpec(seed=0), held_out=_Near())
