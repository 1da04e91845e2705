"""Means over areas and wide kernels: plain loops are the oracle; any cut gives the same bits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cube.coarsening import KERNELS, average, reach, smooth
from tests.rasters import noise

VALUES = noise((2, 23, 31), seed=4)
VALUES[:, 5:9, 7:12] = np.nan
VALUES[1, ::4, ::5] = np.nan


def loop_average(band, left, right, top, bottom):
    """Mean of a box's pixels by what of each lies inside; NaN of none."""
    total = weight = 0.0
    for row in range(band.shape[0]):
        for col in range(band.shape[1]):
            down = max(0.0, min(bottom, row + 1) - max(top, row))
            across = max(0.0, min(right, col + 1) - max(left, col))
            if not math.isnan(band[row, col]):
                total += down * across * float(band[row, col])
                weight += down * across
    return total / weight if weight > 1e-6 else math.nan


def boxes(seed, shape=(6, 7)):
    rng = np.random.default_rng(seed)
    left, top = rng.uniform(-6, 30, shape), rng.uniform(-6, 22, shape)
    return left, left + rng.uniform(0.2, 6, shape), top, top + rng.uniform(0.2, 6, shape)


@given(seed=st.integers(0, 2**32))
def test_averages_equal_a_plain_loop(seed):
    left, right, top, bottom = boxes(seed)
    found = average(VALUES, (left, right), (top, bottom))
    for band, values in enumerate(VALUES):
        for place in np.ndindex(left.shape):
            box = (each[place] for each in (left, right, top, bottom))
            expected = loop_average(values, *box)
            assert found[band][place] == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True)


@given(seed=st.integers(0, 2**32))
def test_the_order_of_ends_does_not_matter(seed):
    left, right, top, bottom = boxes(seed)
    np.testing.assert_array_equal(
        average(VALUES, (left, right), (top, bottom)),
        average(VALUES, (right, left), (bottom, top)),
    )


def test_boxes_of_whole_pixels_are_means_of_blocks():
    values = noise((1, 12, 15))
    edges_x, edges_y = np.arange(0.0, 16, 3), np.arange(0.0, 13, 3)
    found = average(
        values, (edges_x[None, :-1], edges_x[None, 1:]), (edges_y[:-1, None], edges_y[1:, None])
    )
    expected = values[0].astype("float64").reshape(4, 3, 5, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


def test_a_box_without_a_place_or_outside_is_nothing():
    left = np.array([[np.nan, np.inf, -50.0, 500.0, 2.0]])
    top = np.array([[2.0, 2.0, 2.0, 2.0, np.nan]])
    found = average(VALUES, (left, left + 1), (top, top + 1))
    assert np.isnan(found).all()


def test_a_box_on_edge_takes_the_pixel_it_lies_in():
    here = np.array([[3.4]])
    found = average(VALUES, (here, here), (here, here + 1.0))
    expected = 0.6 * VALUES[0, 3, 3] + 0.4 * VALUES[0, 4, 3]
    assert found[0, 0, 0] == pytest.approx(expected, rel=1e-5)


def loop_smooth(kind, band, col, row, scale):
    """Weighted mean of the pixels around; NaN where the one that a place falls into is."""
    if not (0 <= col < band.shape[1] and 0 <= row < band.shape[0]):
        return math.nan
    if math.isnan(band[int(row), int(col)]):
        return math.nan
    weigh, total, weight = KERNELS[kind][1], 0.0, 0.0
    first = math.floor(row - 0.5), math.floor(col - 0.5)
    spans = [range(start + 1 - reach(kind, each), start + reach(kind, each) + 1)
             for start, each in zip(first, scale[::-1], strict=True)]  # fmt: skip
    for y in spans[0]:
        for x in spans[1]:
            there = 0 <= y < band.shape[0] and 0 <= x < band.shape[1]
            if there and not math.isnan(band[y, x]):
                share = float(weigh((y + 0.5 - row) * scale[1]) * weigh((x + 0.5 - col) * scale[0]))
                total, weight = total + share * float(band[y, x]), weight + share
    return total / weight


@pytest.mark.parametrize("kind", KERNELS)
@given(seed=st.integers(0, 2**32))
def test_wide_kernels_equal_a_plain_loop(kind, seed):
    rng = np.random.default_rng(seed)
    cols, rows = rng.uniform(-3, 34, (3, 4)), rng.uniform(-3, 26, (3, 4))
    scale = tuple(rng.uniform(0.2, 1, 2))
    found = smooth(kind, VALUES, cols, rows, scale)
    for band, values in enumerate(VALUES):
        for place in np.ndindex(cols.shape):
            expected = loop_smooth(kind, values, cols[place], rows[place], scale)
            assert found[band][place] == pytest.approx(expected, rel=1e-4, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize("kind", [*KERNELS, "average"])
@given(seed=st.integers(0, 2**32), cut=st.integers(1, 5), down=st.integers(0, 4))
def test_any_part_from_any_window_has_the_same_bits(kind, seed, cut, down):
    left, right, top, bottom = boxes(seed)

    def values_of(values, part, moved):
        x, y = (left[part], right[part]), (top[part] - moved, bottom[part] - moved)
        if kind == "average":
            return average(values, x, y)
        return smooth(kind, values, x[0], y[0], (0.4, 0.3))

    whole = values_of(VALUES, slice(None), 0)
    parts = [values_of(VALUES, part, 0) for part in (slice(0, cut), slice(cut, None))]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    wider = np.pad(VALUES, ((0, 0), (down, 3), (0, 0)), constant_values=np.nan)
    np.testing.assert_array_equal(values_of(wider, slice(None), -down), whole)
