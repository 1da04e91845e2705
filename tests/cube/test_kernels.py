"""Nearest, bilinear and cubic: a plain loop of GDAL's rules, GDAL itself, and what they must do."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cube import kernels
from cube.kernels import REACH, TIE, resample

every_kind = pytest.mark.parametrize("kind", REACH)
kinds = st.sampled_from(list(REACH))


def keys(t):
    """Keys' cubic convolution, a = -0.5."""
    t = abs(t)
    if t <= 1:
        return 1.5 * t**3 - 2.5 * t**2 + 1
    return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0


def linear(t):
    return max(0.0, 1 - abs(t))


def value(band, row, col):
    height, width = band.shape
    return band[row, col] if 0 <= row < height and 0 <= col < width else math.nan


def weighted(band, row, col, weight, reach):
    """Sums of weight * value and of weight over what is observed, and how many pixels are not."""
    top, left = math.floor(row - 0.5), math.floor(col - 0.5)
    total = share = 0.0
    missing = 0
    for i, j in itertools.product(range(1 - reach, 1 + reach), repeat=2):
        here = value(band, top + i, left + j)
        w = weight(row - 0.5 - top - i) * weight(col - 0.5 - left - j)
        if math.isnan(here):
            missing += 1
        else:
            total, share = total + w * here, share + w
    return total, share, missing


def plain(kind, band, row, col):
    """One value, by the rules."""
    nearest = value(band, math.floor(row + TIE), math.floor(col + TIE))
    if kind == "nearest" or math.isnan(nearest):
        return nearest
    if kind == "cubic":
        total, _, missing = weighted(band, row, col, keys, 2)
        if not missing:
            return total
    total, share, _ = weighted(band, row, col, linear, 1)
    return total / share


def loop(kind, values, cols, rows):
    cols, rows = np.broadcast_arrays(cols, rows)
    found = np.full((len(values), *cols.shape), np.nan)
    for at in np.ndindex(cols.shape):
        if math.isfinite(cols[at]) and math.isfinite(rows[at]):
            for i, band in enumerate(values):
                found[(i, *at)] = plain(kind, band, rows[at], cols[at])
    return found


def holed(shape, *, seed, share=0.15, dtype="float64"):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape).astype(dtype)
    values[rng.random(shape) < share] = np.nan
    return values


def places(shape, size, *, seed):
    """Columns and rows within and around a raster; some on edges and centres, some nowhere."""
    rng = np.random.default_rng(seed)
    found = []
    for length in reversed(shape):
        at = rng.uniform(-2, length + 2, size)
        whole = rng.random(size) < 0.3
        at[whole] = np.round(at[whole] * 2) / 2
        at[rng.random(size) < 0.05] = rng.choice([np.nan, np.inf, -np.inf])
        found.append(at)
    return found


class TestRules:
    @settings(max_examples=80)
    @given(
        kind=kinds,
        shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
        size=st.tuples(st.integers(1, 8), st.integers(1, 8)),
        share=st.sampled_from([0.0, 0.1, 0.6, 1.0]),
        seed=st.integers(0, 10**6),
    )
    def test_any_places_of_any_raster_follow_the_rules(self, kind, shape, size, share, seed):
        values = holed((2, *shape), seed=seed, share=share)
        cols, rows = places(shape, size, seed=seed)
        found, expected = resample(kind, values, cols, rows), loop(kind, values, cols, rows)
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)

    @settings(max_examples=30)
    @given(
        kind=kinds,
        seed=st.integers(0, 10**6),
        size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    )
    def test_places_by_their_axes_are_places_one_by_one_to_the_bit(self, kind, seed, size):
        values = holed((1, 12, 17), seed=seed)
        cols, rows = places((12, 17), max(size), seed=seed)
        cols, rows = cols[None, : size[1]], rows[: size[0], None]
        found = resample(kind, values, cols, rows)
        whole = resample(kind, values, *(axis.copy() for axis in np.broadcast_arrays(cols, rows)))
        np.testing.assert_array_equal(found, whole)

    @every_kind
    def test_how_much_is_worked_on_at_once_changes_nothing(self, kind, monkeypatch):
        values = holed((2, 40, 50), seed=1)
        cols, rows = places((40, 50), (60, 70), seed=1)
        before = resample(kind, values, cols, rows)
        for size in (1, 70, 71, 999):
            monkeypatch.setattr(kernels, "_BLOCK", size)
            np.testing.assert_array_equal(resample(kind, values, cols, rows), before)

    @every_kind
    def test_bands_know_nothing_of_each_other(self, kind):
        values = holed((3, 20, 30), seed=2)
        cols, rows = places((20, 30), (25, 26), seed=2)
        found = resample(kind, values, cols, rows)
        for i in range(3):
            np.testing.assert_array_equal(resample(kind, values[[i]], cols, rows)[0], found[i])

    @every_kind
    def test_a_part_of_the_places_has_the_bits_of_all(self, kind):
        values = holed((1, 20, 30), seed=3)
        cols, rows = places((20, 30), (25, 26), seed=3)
        found = resample(kind, values, cols, rows)
        for row, col in [(slice(0, 1), slice(0, 1)), (slice(3, 19), slice(25, 26))]:
            part = resample(kind, values, cols[row, col], rows[row, col])
            np.testing.assert_array_equal(part, found[:, row, col])

    @every_kind
    def test_a_window_of_the_raster_gives_the_bits_of_the_whole(self, kind):
        values = holed((1, 60, 80), seed=4)
        rng = np.random.default_rng(4)
        cols, rows = rng.uniform(30, 40, (20, 20)), rng.uniform(20, 25, (20, 20))
        found = resample(kind, values, cols, rows)
        part = resample(kind, values[:, 15:32, 20:50], cols - 20, rows - 15)
        np.testing.assert_array_equal(part, found)

    def test_what_is_infinite_beside_a_gap_never_becomes_a_number(self):
        values = np.array([[[1.0, np.inf, 3.0], [np.nan, 5.0, 6.0]]], "float32")
        cols, rows = np.array([[1.25, 2.5]]), np.array([[0.75]])
        assert np.isinf(resample("bilinear", values, cols, rows)[0, 0, 0])
        assert resample("bilinear", values, np.array([[2.5]]), np.array([[1.5]])) == 6.0


class TestPlaces:
    ROW, COL = np.mgrid[:20, :30] + 0.5

    @every_kind
    def test_a_centre_gives_its_own_pixel(self, kind):
        values = np.random.default_rng(0).normal(size=(1, 20, 30))
        np.testing.assert_array_equal(resample(kind, values, self.COL, self.ROW), values)

    @settings(max_examples=40)
    @given(
        kind=st.sampled_from(["bilinear", "cubic"]),
        x=st.floats(-5, 5),
        y=st.floats(-5, 5),
        seed=st.integers(0, 10**6),
    )
    def test_a_plane_gives_the_value_of_the_place(self, kind, x, y, seed):
        plane = (x * self.COL + y * self.ROW)[None]
        rng = np.random.default_rng(seed)
        cols, rows = rng.uniform(2, 28, (9, 9)), rng.uniform(2, 18, (9, 9))
        np.testing.assert_allclose(
            resample(kind, plane, cols, rows)[0], x * cols + y * rows, rtol=0, atol=1e-11
        )

    def test_cubic_is_exact_for_squares(self):
        square = (self.COL**2 - self.ROW**2)[None]
        rng = np.random.default_rng(0)
        cols, rows = rng.uniform(2, 28, (30, 30)), rng.uniform(2, 18, (30, 30))
        found = resample("cubic", square, cols, rows)[0]
        np.testing.assert_allclose(found, cols**2 - rows**2, rtol=0, atol=1e-10)

    @every_kind
    def test_a_constant_stays_one_wherever_something_was_observed(self, kind):
        values = np.where(np.isnan(holed((1, 20, 30), seed=5)), np.nan, 3.25)
        cols, rows = places((20, 30), (50, 50), seed=5)
        found = resample(kind, values, cols, rows)
        nearest = resample("nearest", values, cols, rows)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(nearest))
        np.testing.assert_allclose(found[~np.isnan(found)], 3.25, rtol=1e-14)

    @every_kind
    def test_an_edge_belongs_to_the_right_and_lower_pixel_though_rounding_misses_it(self, kind):
        values = np.array([[[1.0, np.nan], [np.nan, 4.0]]])
        for error in (-TIE / 2, 0.0, TIE / 2):
            at = np.array([[1 + error]])
            assert resample(kind, values, at, at) == pytest.approx(
                4.0 if kind == "nearest" else 2.5
            )
            ends = np.array([[error]]), np.array([[2 + error]])
            assert not np.isnan(resample(kind, values, ends[0], ends[0])).any()
            assert np.isnan(resample(kind, values, ends[1], ends[1])).all()

    @every_kind
    @pytest.mark.parametrize("place", [-1e-6, 2.0, 1e300, -1e300, np.nan, np.inf, -np.inf])
    def test_outside_is_nothing(self, kind, place):
        values, inside = np.ones((1, 2, 2)), np.array([[0.7]])
        outside = np.array([[place]])
        assert np.isnan(resample(kind, values, outside, inside)).all()
        assert np.isnan(resample(kind, values, inside, outside)).all()

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @every_kind
    def test_values_keep_their_float(self, kind, dtype):
        values = np.full((1, 5, 5), 16_777_217, dtype)
        found = resample(kind, values, np.array([[2.5]]), np.array([[2.5]]))
        assert found.dtype == dtype
        assert found == values[0, 0, 0]

    @every_kind
    def test_the_raster_and_the_places_stay_as_they_are(self, kind):
        values = holed((1, 9, 9), seed=6)
        cols, rows = places((9, 9), (7, 7), seed=6)
        for array in (values, cols, rows):
            array.flags.writeable = False
        resample(kind, values, cols, rows)

    @every_kind
    def test_one_pixel_is_a_raster(self, kind):
        found = resample(kind, np.full((1, 1, 1), 7.0), np.array([[0.1, 0.5]]), np.array([[0.9]]))
        np.testing.assert_allclose(found, [[[7.0, 7.0]]], rtol=1e-15)
