"""Statistics equal numpy's over the training pixels, each counted once, and know no others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import cube
from cube.errors import SplitError
from cube.windows import Windows, footprint
from tests import toy
from training import statistics
from training.samples import SampleSpec
from training.statistics import training_moments
from training.stream import Supervision
from training.targets import Target

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
