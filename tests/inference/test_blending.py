"""Windows cut from a raster and blended give the raster, to the bit whatever the region."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.regions import Region, tiles
from cube.windows import Windows
from inference.blending import Blend, taper


@st.composite
def window_grids(draw):
    size = draw(st.integers(1, 14))
    shape = (draw(st.integers(size, 50)), draw(st.integers(size, 50)))
    return Windows(shape=shape, size=size, stride=draw(st.integers(1, size)))


def _whole(shape):
    return Region(time=None, rows=(0, shape[0]), cols=(0, shape[1]))


def _blended(windows, values, region, ids=None):
    """Windows that touch a region, in ascending order, blended over it."""
    blend = Blend(region, windows.size)
    ids = windows.touching(region.rows, region.cols) if ids is None else ids
    for window in ids:
        y, x = windows.origins([window])[0]
        blend.add((int(y), int(x)), values(window, int(y), int(x)))
    return blend.result()


@settings(deadline=None, max_examples=60)
@given(window_grids(), st.integers(0, 2**32 - 1))
def test_blending_cut_windows_gives_the_raster(windows, seed):
    truth = np.random.default_rng(seed).normal(size=windows.shape)
    side = windows.size
    found = _blended(
        windows, lambda _, y, x: truth[y : y + side, x : x + side], _whole(windows.shape)
    )
    np.testing.assert_allclose(found, truth, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(window_grids(), st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_a_region_has_the_bits_of_the_whole(windows, seed, side):
    outputs = np.random.default_rng(seed).normal(size=(len(windows), windows.size, windows.size))
    whole = _blended(windows, lambda window, *_: outputs[window], _whole(windows.shape))
    pieced = np.full(windows.shape, np.nan)
    for region in tiles(windows.shape, side):
        pieced[region.slices] = _blended(windows, lambda window, *_: outputs[window], region)
    assert pieced.tobytes() == whole.tobytes()


@settings(deadline=None, max_examples=40)
@given(window_grids(), st.floats(-1e6, 1e6))
def test_weights_sum_to_one_so_a_constant_stays_constant(windows, value):
    constant = np.full((windows.size, windows.size), value)
    found = _blended(windows, lambda *_: constant, _whole(windows.shape))
    np.testing.assert_allclose(found, value, rtol=1e-12)


@settings(deadline=None, max_examples=40)
@given(window_grids(), st.integers(0, 2**32 - 1))
def test_a_result_lies_between_the_windows_that_made_it(windows, seed):
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(len(windows), windows.size, windows.size))
    low, high = np.full(windows.shape, np.inf), np.full(windows.shape, -np.inf)
    for (y, x), output in zip(windows.origins(), outputs, strict=True):
        box = (slice(y, y + windows.size), slice(x, x + windows.size))
        low[box], high[box] = np.minimum(low[box], output), np.maximum(high[box], output)
    found = _blended(windows, lambda window, *_: outputs[window], _whole(windows.shape))
    assert (found >= low - 1e-9).all()
    assert (found <= high + 1e-9).all()


def test_it_is_nan_where_nothing_was_added():
    blend = Blend(Region(time=None, rows=(4, 12), cols=(0, 8)), 4)
    assert np.isnan(blend.result()).all()
    blend.add((2, 6), np.ones((4, 4)))
    expected = np.full((8, 8), np.nan)
    expected[:2, 6:] = 1
    np.testing.assert_array_equal(blend.result(), expected)


def test_a_window_outside_the_region_changes_nothing():
    blend = Blend(Region(time=None, rows=(4, 12), cols=(4, 12)), 4)
    for origin in ((0, 4), (12, 4), (4, 0), (4, 12)):
        blend.add(origin, np.ones((4, 4)))
    assert np.isnan(blend.result()).all()


@pytest.mark.parametrize("size", [1, 2, 7, 24])
def test_the_taper_is_symmetric_highest_in_the_middle_and_never_zero(size):
    weight = taper(size)
    assert weight.shape == (size, size)
    assert (weight > 0).all()
    assert (weight <= 1).all()
    assert weight[size // 2, size // 2] == pytest.approx(weight.max())
    for same in (weight.T, weight[::-1], weight[:, ::-1]):
        np.testing.assert_allclose(same, weight, rtol=1e-12)
