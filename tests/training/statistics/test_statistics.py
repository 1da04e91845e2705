"""Statistics equal numpy's over the training pixels, each counted once, and know no others."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

import cube
from cube import nodata
from cube.errors import SpecError, SplitError
from cube.windows import Windows, footprint
from tests import toy
from training.chips import Chips
from training.samples import SampleSpec
from training.statistics import Statistics, statistics, training_moments, training_statistics
from training.stream import Supervision
from training.targets import TableTarget, Target
from training.timings import Timing

WINDOWS = Windows(shape=toy.SHAPE, size=8, stride=3)
CHOSEN = np.concatenate([np.arange(40, 300, 7), np.arange(640, 700)])


def _area(ids):
    return footprint(WINDOWS.shape, WINDOWS.origins(ids), WINDOWS.size)


def _expected(values):
    seen = values[~np.isnan(values)].astype("float64")
    return seen.mean(), seen.std(), len(seen)


@pytest.mark.parametrize("tile", [16, 37, 512])
def test_they_equal_numpys_over_the_union_of_windows_without_nodata(city, monkeypatch, tile):
    monkeypatch.setattr(statistics, "TILE", tile)
    found = training_moments(city.url, toy.SAMPLE, WINDOWS, CHOSEN)
    area = _area(CHOSEN)
    optical = np.where(city.image == 0, np.nan, city.image.astype("float64"))
    learned = toy.TARGET.forward(city.label, pixel_km2=toy.PIXEL_KM2)
    expected = {
        "predictors": [_expected(optical[band][area]) for band in (2, 0)],
        "terrain": [_expected(city.terrain[band][area]) for band in (1, 0)],
        "label": [_expected(learned[area])],
    }
    assert list(found) == list(expected)
    for name, bands in expected.items():
        mean, std, count = (np.array(part) for part in zip(*bands, strict=True))
        np.testing.assert_allclose(found[name].mean, mean, rtol=1e-12)
        np.testing.assert_allclose(found[name].std, std, rtol=1e-10)
        assert found[name].count.tolist() == count.tolist()


def test_the_label_counts_only_where_supervision_weighs_it(city):
    supervision = Supervision(coverage=city.coverage, polygons=np.array([7, 8, 13, 14]))
    found = training_moments(city.url, toy.SAMPLE, WINDOWS, CHOSEN, supervision=supervision)
    without = training_moments(city.url, toy.SAMPLE, WINDOWS, CHOSEN)
    weight = supervision.weights((0, toy.SHAPE[0]), (0, toy.SHAPE[1]))
    learned = toy.TARGET.forward(city.label, pixel_km2=toy.PIXEL_KM2)
    mean, std, count = _expected(learned[_area(CHOSEN) & (weight > 0)])
    assert found["label"].count.tolist() == [count]
    assert (found["label"].mean, found["label"].std) == (
        pytest.approx([mean]),
        pytest.approx([std]),
    )
    assert found["predictors"].mean.tolist() == without["predictors"].mean.tolist()


def test_pixels_outside_the_windows_never_count(city, tmp_path):
    changed = city.image.copy()
    changed[:, ~_area(CHOSEN)] = 255
    other = toy.build(tmp_path / "other.zarr", bands=changed)
    mine, theirs = (
        training_moments(c.url, toy.SAMPLE, WINDOWS, CHOSEN)["predictors"] for c in (city, other)
    )
    assert mine.mean.tolist() == theirs.mean.tolist()
    assert mine.std.tolist() == theirs.std.tolist()


def test_the_chunks_of_the_cube_change_nothing(city, tmp_path):
    other = toy.build(tmp_path / "other.zarr", chunk=64, region=128)
    mine, theirs = (
        training_moments(c.url, toy.SAMPLE, WINDOWS, CHOSEN)["terrain"] for c in (city, other)
    )
    assert mine.mean.tolist() == theirs.mean.tolist()
    assert mine.std.tolist() == theirs.std.tolist()


def _flat_cube(url, value, *, label=1.0, dtype="float32"):
    spec = replace(
        toy.spec(),
        stacks=(cube.StackSpec(name="flat", bands=("a",), dtype=dtype, static=True),),
        layers=(cube.LayerSpec(name="population", dtype="float64", static=True),),
    )
    url = cube.create(url, spec)
    toy.write(url, "flat", np.full((1, *toy.SHAPE), value, dtype))
    toy.write(url, "population", np.full(toy.SHAPE, label))
    return url


def _flat_sample():
    return SampleSpec.of(
        {"flat": ("a",)}, Target(layer="population"), label_time=None, input_time=None
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [0.0, 0.1, 3.0, -1234.567])
def test_a_constant_band_has_a_deviation_of_one(monkeypatch, value, dtype):
    monkeypatch.setattr(statistics, "TILE", 13)
    url = _flat_cube(f"memory://flat{value}{dtype}", value, dtype=dtype)
    found = training_moments(url, _flat_sample(), WINDOWS, np.arange(len(WINDOWS)))["flat"]
    assert found.std.tolist() == [1.0]
    assert found.mean == pytest.approx([np.dtype(dtype).type(value)], rel=1e-12)


def test_a_band_with_a_small_deviation_keeps_it():
    values = 300 + 1e-3 * np.random.default_rng(0).normal(size=toy.SHAPE)
    url = _flat_cube("memory://small", values)
    found = training_moments(url, _flat_sample(), WINDOWS, np.arange(len(WINDOWS)))["flat"]
    assert found.std == pytest.approx([values.astype("float32").astype("float64").std()], rel=1e-9)


@pytest.mark.parametrize(("value", "label"), [(np.nan, 1.0), (1.0, np.nan)])
def test_a_band_or_label_without_an_observation_is_an_error(value, label):
    url = _flat_cube(f"memory://nothing{value}", value, label=label)
    with pytest.raises(SplitError, match="no observed pixel in the training windows"):
        training_moments(url, _flat_sample(), WINDOWS, CHOSEN)


def test_a_deviation_that_is_small_beside_the_mean_is_one_all_the_same():
    values = 1e15 + np.random.default_rng(0).integers(0, 3, toy.SHAPE)
    url = _flat_cube("memory://far", values, dtype="float64")
    found = training_moments(url, _flat_sample(), WINDOWS, np.arange(len(WINDOWS)))["flat"]
    assert found.std == pytest.approx([values.std()], rel=1e-6)


@pytest.mark.parametrize("tile", [13, 512])
def test_values_without_a_deviation_in_float64_are_an_error(monkeypatch, tile):
    monkeypatch.setattr(statistics, "TILE", tile)
    values = np.where(np.arange(toy.SHAPE[1]) % 2, 1e300, -1e300) * np.ones(toy.SHAPE)
    url = _flat_cube(f"memory://vast{tile}", values, dtype="float64")
    with pytest.raises(SplitError, match="no mean or deviation, from -1e.300 to 1e.300"):
        training_moments(url, _flat_sample(), WINDOWS, np.arange(len(WINDOWS)))


LEVELS = (0.0, 0.02, 0.5, 0.9, 1.0)


def _numbers(found):
    return [(c.count, c.mean, c.std, c.min, c.max, *c.quantiles) for c in found]


def _oracle(values):
    """Statistics by NumPy of every value at once, NaN left out."""
    seen = values[~np.isnan(values)].astype("float64")
    quantiles = np.quantile(seen, LEVELS, method="inverted_cdf")
    return (len(seen), seen.mean(), seen.std(), seen.min(), seen.max(), *quantiles)


class TestStatistics:
    @pytest.mark.parametrize("tile", [16, 37, 512])
    def test_they_equal_numpys_over_the_union_of_windows(self, city, monkeypatch, tile):
        monkeypatch.setattr(statistics, "TILE", tile)
        found = training_statistics(city.url, toy.SAMPLE, WINDOWS, CHOSEN, quantiles=LEVELS)
        area = _area(CHOSEN)
        optical = np.where(city.image == 0, np.nan, city.image.astype("float64"))
        learned = toy.TARGET.forward(city.label, pixel_km2=toy.PIXEL_KM2)
        expected = [
            *(_oracle(optical[band][area]) for band in (2, 0)),
            *(_oracle(city.terrain[band][area]) for band in (1, 0)),
        ]
        np.testing.assert_allclose(_numbers(found.inputs), expected, rtol=1e-10)
        np.testing.assert_allclose(_numbers(found.label), [_oracle(learned[area])], rtol=1e-6)
        assert [(c.name, c.channel) for c in found.inputs] == [
            ("predictors", "red"),
            ("predictors", "blue"),
            ("terrain", "slope"),
            ("terrain", "elevation"),
        ]

    def test_they_are_the_same_to_the_bit_for_other_chunks_and_on_a_cluster(self, city, tmp_path):
        from distributed import Client

        other = toy.build(tmp_path / "other.zarr", chunk=64, region=128)
        alone = training_statistics(city.url, toy.SAMPLE, WINDOWS, CHOSEN)
        with Client(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as client:
            there = training_statistics(other.url, toy.SAMPLE, WINDOWS, CHOSEN, client=client)
        assert alone == there

    def test_they_go_through_json_and_back_and_show_as_a_table(self, city):
        found = training_statistics(city.url, toy.SAMPLE, WINDOWS, CHOSEN)
        assert Statistics.from_dict(json.loads(json.dumps(found.to_dict()))) == found
        assert found.frame.columns[-2:].tolist() == ["q0.02", "q0.98"]
        assert "elevation" in str(found)
        assert "<td>elevation</td>" in found._repr_html_()
        with pytest.raises(SpecError, match="Statistics cannot be read: 'label'"):
            Statistics.from_dict({"inputs": []})
        with pytest.raises(SpecError, match="statistics of predictors, terrain. Received 'radar'"):
            found.of("radar")

    @pytest.mark.parametrize("scale", [1e-4, -0.5])
    def test_quantiles_are_of_physical_values_for_any_packing(self, scale):
        rng = np.random.default_rng(2)
        stored = rng.integers(-2000, 9000, (1, *toy.SHAPE)).astype("int16")
        stored[:, ::7] = -9999
        stack = cube.StackSpec(
            name="flat",
            bands=("a",),
            dtype="int16",
            nodata=-9999,
            scale=scale,
            offset=3,
            static=True,
        )
        spec = replace(toy.spec(), stacks=(stack,), layers=())
        url = cube.create(f"memory://packed{scale}", spec)
        toy.write(url, "flat", stored)
        sample = SampleSpec.of({"flat": ("a",)}, TableTarget(columns=("income",)))
        every = np.arange(len(WINDOWS))
        found = training_statistics(url, sample, WINDOWS, every, quantiles=LEVELS)
        expected = _oracle(nodata.decode(stored[0], stack))
        np.testing.assert_allclose(_numbers(found.inputs), [expected], rtol=1e-5)
        assert (found.label, found.classes) == ((), ())

    @pytest.mark.parametrize(
        ("levels", "match"),
        [((0.5, 0.1), "ascending, each once"), ((-0.1,), "from 0 to 1"), ((0.5, 0.5), "each once")],
    )
    def test_impossible_levels_are_refused(self, city, levels, match):
        with pytest.raises(SpecError, match=match):
            training_statistics(city.url, toy.SAMPLE, WINDOWS, CHOSEN, quantiles=levels)

    def test_chips_may_come_as_a_selection_which_is_checked_first(self, city):
        class Chosen:
            ids = CHOSEN

            def check(self, spec, sample, windows):
                if windows is not WINDOWS:
                    raise SplitError("other windows")

        found = training_statistics(city.url, toy.SAMPLE, WINDOWS, Chosen())
        assert found == training_statistics(city.url, toy.SAMPLE, WINDOWS, CHOSEN)
        other = Windows(shape=toy.SHAPE, size=8, stride=4)
        with pytest.raises(SplitError, match="other windows"):
            training_statistics(city.url, toy.SAMPLE, other, Chosen())

    def test_windows_of_another_grid_are_refused(self, city):
        other = Windows(shape=(50, 60), size=8, stride=3)
        with pytest.raises(SplitError, match="a grid of .50, 60., the cube on .96, 104."):
            training_statistics(city.url, toy.SAMPLE, other, [0])

    def test_no_chips_are_an_error(self, city):
        with pytest.raises(SplitError, match="need training chips. Received none"):
            training_statistics(city.url, toy.SAMPLE, WINDOWS, [])


@pytest.fixture(scope="module")
def years(tmp_path_factory):
    """Images and a class layer of two years, different in each: URL, images, classes."""
    spec = toy.spec()
    classes = cube.LayerSpec(name="cover", dtype="uint8", nodata=255)
    url = cube.create(
        tmp_path_factory.mktemp("years") / "cube.zarr", replace(spec, layers=(classes,))
    )
    rng = np.random.default_rng(4)
    images = {year: toy.image(seed=i) for i, year in enumerate(("2000", "2010"))}
    covers = {
        year: rng.choice([1, 2, 7, 255], toy.SHAPE, p=[0.6, 0.3, 0.05, 0.05]).astype("uint8")
        for year in images
    }
    for year, image in images.items():
        toy.write(url, "predictors", image, time=year)
        toy.write(url, "cover", covers[year], time=year)
    return url, images, covers


TIMINGS = (
    Timing(label=("2000",), inputs=("2000",)),
    Timing(label=("2010",), inputs=("2000",)),
    Timing(label=("2010",), inputs=("2010",)),
)


def _yearly(target):
    return SampleSpec.of({"predictors": ("green",)}, target, timings=TIMINGS)


class TestPeriods:
    CHIPS = np.array([3, 4, 7, 30, 301, 302, 611, 900])  # of all three timings

    def _areas(self):
        chips = Chips(windows=WINDOWS, timings=3)
        timing = chips.timing_of(self.CHIPS)
        at = [
            _area(chips.window_of(self.CHIPS[np.isin(timing, own)]))
            for own in ([0, 1], [2], [0], [1, 2])
        ]
        return {"inputs": {"2000": at[0], "2010": at[1]}, "label": {"2000": at[2], "2010": at[3]}}

    def test_a_pixel_counts_once_for_each_period_that_its_chips_use(self, years):
        url, images, covers = years
        found = training_statistics(
            url, _yearly(Target(layer="cover")), WINDOWS, self.CHIPS, quantiles=LEVELS
        )
        areas = self._areas()
        stored = np.concatenate([images[y][1][areas["inputs"][y]] for y in images]).astype(
            "float64"
        )
        expected = _oracle(np.where(stored == 0, np.nan, stored))
        np.testing.assert_allclose(_numbers(found.inputs), [expected], rtol=1e-10)
        label = np.concatenate([covers[y][areas["label"][y]] for y in covers]).astype("float64")
        expected = _oracle(np.where(label == 255, np.nan, label))
        np.testing.assert_allclose(_numbers(found.label), [expected], rtol=1e-10)

    def test_classes_are_counted_and_weighed_as_scikit_learn_does(self, years):
        url, _, covers = years
        target = Target(layer="cover", transform="classes")
        found = training_statistics(url, _yearly(target), WINDOWS, self.CHIPS)
        label = np.concatenate([covers[y][self._areas()["label"][y]] for y in covers])
        label = label[label != 255]
        values, counts = np.unique(label, return_counts=True)
        assert found.classes == tuple(zip(values.tolist(), counts.tolist(), strict=True))
        weights = compute_class_weight("balanced", classes=values, y=label)
        assert found.class_weights() == pytest.approx(
            dict(zip(values.tolist(), weights, strict=True))
        )
        assert found.label == ()
        assert "label" not in found.moments()
        assert "classes: 1: " in str(found)

    @pytest.mark.parametrize("tile", [16, 512])
    def test_labels_of_windows_count_once_a_window_and_period(self, years, monkeypatch, tile):
        monkeypatch.setattr(statistics, "TILE", tile)
        url, _, covers = years
        found = training_statistics(
            url,
            _yearly(Target(layer="cover", over="window")),
            WINDOWS,
            self.CHIPS,
            quantiles=LEVELS,
        )
        chips = Chips(windows=WINDOWS, timings=3)
        pairs = {
            (window, TIMINGS[timing].label[0])
            for window, timing in zip(
                chips.window_of(self.CHIPS).tolist(),
                chips.timing_of(self.CHIPS).tolist(),
                strict=True,
            )
        }
        means = []
        for window, year in pairs:
            y, x = WINDOWS.origins([window])[0]
            values = covers[year][y : y + 8, x : x + 8].astype("float64")
            means.append(values[values != 255].mean())
        np.testing.assert_allclose(_numbers(found.label), [_oracle(np.array(means))], rtol=1e-6)

    def test_a_class_layer_without_an_observation_is_an_error(self):
        layer = cube.LayerSpec(name="cover", dtype="uint8", nodata=255)
        url = cube.create("memory://classless", replace(toy.spec(), layers=(layer,)))
        toy.write(url, "predictors", toy.image(), time="2000")
        sample = SampleSpec.of(
            {"predictors": ("green",)},
            Target(layer="cover", transform="classes"),
            label_time="2000",
            input_time="2000",
        )
        with pytest.raises(SplitError, match="'cover' has no observed pixel"):
            training_statistics(url, sample, WINDOWS, CHOSEN)
