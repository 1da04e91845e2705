"""Features of polygons equal plain sums over pixels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from inference.features import CONTEXT_PX, context_features, polygon_features
from tests import toy

BANDS = (
    ("predictors_red", "image", 2),
    ("predictors_blue", "image", 0),
    ("terrain_slope", "terrain", 1),
    ("terrain_elevation", "terrain", 0),
)


@pytest.fixture(scope="module")
def weight(city):
    """Share of every pixel in every polygon, float64 (polygon, y, x)."""
    shares = city.coverage.shares((0, toy.SHAPE[0]), (0, toy.SHAPE[1]))
    out = np.zeros((30, *toy.SHAPE))
    y, x = np.nonzero(shares.label >= 0)
    out[shares.label[y, x], y, x] = 1
    out.reshape(30, -1)[shares.polygon, shares.pixel] += shares.share
    return out


def _physical(city, where, band):
    values = getattr(city, where)[band].astype("float64")
    return np.where(values == 0, np.nan, values) if where == "image" else values


def _inside(weight, values):
    """Mean and population deviation of each polygon's pixels, by their shares."""
    seen = weight * ~np.isnan(values)
    filled = np.nan_to_num(values)
    total = seen.sum(axis=(1, 2))
    mean = (seen * filled).sum(axis=(1, 2)) / total
    spread = (seen * (filled - mean[:, None, None]) ** 2).sum(axis=(1, 2)) / total
    return mean, np.sqrt(spread)


def _moving(values, size):
    """Mean and deviation of the valid pixels round every pixel; NaN where there are none."""
    padded = np.pad(values, size // 2, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size)).reshape(
        *values.shape, -1
    )
    seen = ~np.isnan(windows)
    count = np.maximum(seen.sum(axis=-1), 1)
    filled = np.nan_to_num(windows)
    mean = filled.sum(axis=-1) / count
    spread = (seen * (filled - mean[..., None]) ** 2).sum(axis=-1) / count
    empty = ~seen.any(axis=-1)
    return np.where(empty, np.nan, mean), np.where(empty, np.nan, np.sqrt(spread))


def test_polygon_features_are_means_and_deviations_inside_the_polygon(city, weight):
    found = polygon_features(city.coverage, toy.SAMPLE)
    for name, where, band in BANDS:
        mean, std = _inside(weight, _physical(city, where, band))
        np.testing.assert_allclose(found[f"{name}_mean"], mean, rtol=1e-9)
        np.testing.assert_allclose(found[f"{name}_std"], std, rtol=1e-6)


def test_there_are_no_features_besides_those_of_the_bands(city):
    expected = [f"{name}_{what}" for name, *_ in BANDS for what in ("mean", "std")]
    found = polygon_features(city.coverage, toy.SAMPLE)
    assert list(found.columns) == expected
    assert (found.dtypes == "float64").all()
    assert len(found) == 30


def test_context_features_are_averages_of_moving_windows(city, weight):
    sizes = (3, 9)
    found = context_features(city.coverage, toy.SAMPLE, sizes=sizes)
    expected = {}
    for name, where, band in BANDS:
        for size in sizes:
            mean, std = _moving(_physical(city, where, band), size)
            expected[f"{name}_mean{size}"] = _inside(weight, mean)[0]
            expected[f"{name}_std{size}"] = _inside(weight, std)[0]
    assert list(found.columns) == list(expected)
    pd.testing.assert_frame_equal(found, pd.DataFrame(expected), rtol=1e-7, atol=1e-7)


def test_context_reaches_41_pixels_by_default(city):
    columns = context_features(city.coverage, toy.SAMPLE).columns
    assert CONTEXT_PX == (11, 21, 41)
    assert sum("mean41" in column for column in columns) == 4
    assert len(columns) == 4 * 3 * 2


def test_the_chunks_of_the_cube_change_no_feature(city, tmp_path):
    other = toy.build(tmp_path / "other.zarr", chunk=64, region=128)
    frames = [polygon_features(c.coverage, toy.SAMPLE) for c in (city, other)]
    pd.testing.assert_frame_equal(*frames, check_exact=True)
