"""Counts keep their sum: against a plain loop, exact nesting, and no trace of box or window."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cube.conserving import deposit
from cube.errors import SourceError, SpecError

NAN = np.nan


def lattice(shape, *, size=(1.0, 1.0), corner=(0.0, 0.0)):
    """Centres and extents of a regular source: pixels of ``size`` (y, x) from ``corner`` (y, x)."""
    rows, cols = np.indices(shape)
    return {
        "x": corner[1] + (cols + 0.5) * size[1],
        "y": corner[0] + (rows + 0.5) * size[0],
        "width": np.full(shape, float(size[1])),
        "height": np.full(shape, float(size[0])),
    }


def warped(shape, *, seed, size=1.7, missing=0.3):
    """Amounts, and a source that is turned and bent against the target."""
    rng = np.random.default_rng(seed)
    rows, cols = np.indices(shape)
    turn = 0.3 * rng.normal()
    places = {
        "x": size * (cols * math.cos(turn) - rows * math.sin(turn)) + rng.normal(0, 0.2, shape) + 3,
        "y": size * (cols * math.sin(turn) + rows * math.cos(turn)) + rng.normal(0, 0.2, shape) + 2,
        "width": size * (1 + 0.3 * rng.random(shape)),
        "height": size * (1 + 0.3 * rng.random(shape)),
    }
    values = rng.gamma(0.5, 100, shape)
    values[rng.random(shape) < missing] = NAN
    return values, places


def everything(places):
    """A box that holds all of a source."""
    spans = []
    for centre, extent in (("y", "height"), ("x", "width")):
        low = places[centre] - places[extent] / 2
        high = places[centre] + places[extent] / 2
        spans.append((math.floor(low.min()) - 1, math.ceil(high.max()) + 1))
    return {"rows": spans[0], "cols": spans[1]}


def plain_loop(values, *, x, y, width, height, rows, cols):
    """Every pair of a source and a target pixel, one by one."""
    out = np.full((rows[1] - rows[0], cols[1] - cols[0]), NAN)
    for s in np.ndindex(values.shape):
        if np.isnan(values[s]):
            continue
        left, right = x[s] - width[s] / 2, x[s] + width[s] / 2
        top, bottom = y[s] - height[s] / 2, y[s] + height[s] / 2
        for i in range(*rows):
            for j in range(*cols):
                across = min(right, j + 1) - max(left, j)
                down = min(bottom, i + 1) - max(top, i)
                if across > 0 and down > 0:
                    share = across * down / (width[s] * height[s])
                    here = out[i - rows[0], j - cols[0]]
                    out[i - rows[0], j - cols[0]] = np.nan_to_num(here) + values[s] * share
    return out


class TestSum:
    @given(seed=st.integers(0, 9999), size=st.sampled_from([0.01, 0.3, 1.0, 2.5, 17.0]))
    def test_a_box_that_holds_everything_holds_the_sum(self, seed, size):
        values, places = warped((6, 7), seed=seed, size=size)
        found = deposit(values, **places, **everything(places))
        assert math.isclose(np.nansum(found), np.nansum(values), rel_tol=1e-12)

    @pytest.mark.parametrize("corner", [1e5, 1e6, -1e6 + 0.3])
    @pytest.mark.parametrize("size", [0.003, 0.7, 90.1])
    def test_far_from_the_origin_too(self, corner, size):
        values = np.arange(1.0, 31).reshape(5, 6)
        places = lattice((5, 6), size=(size, size), corner=(corner, corner))
        found = deposit(values, **places, **everything(places))
        assert math.isclose(np.nansum(found), values.sum(), rel_tol=1e-12)

    def test_a_source_pixel_too_small_for_its_place_lies_in_one_pixel(self):
        places = lattice((1, 1), size=(1e-12, 1e-12), corner=(1e6, 1e6))
        found = deposit(
            np.array([[5.0]]), **places, rows=(999_999, 1_000_002), cols=(999_999, 1_000_002)
        )
        np.testing.assert_array_equal(found, [[NAN] * 3, [NAN, 5, NAN], [NAN] * 3])


class TestShares:
    @given(seed=st.integers(0, 9999), size=st.sampled_from([0.2, 0.9, 1.0, 3.3]))
    def test_they_equal_a_plain_loop(self, seed, size):
        values, places = warped((4, 5), seed=seed, size=size)
        box = everything(places)
        found, expected = deposit(values, **places, **box), plain_loop(values, **places, **box)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)

    def test_blocks_of_pixels_add_up(self):
        values = np.arange(54.0).reshape(6, 9)
        places = lattice((6, 9), size=(1 / 3, 1 / 3))
        found = deposit(values, **places, rows=(0, 2), cols=(0, 3))
        np.testing.assert_array_equal(found, values.reshape(2, 3, 3, 3).sum(axis=(1, 3)))

    def test_a_pixel_divides_into_equal_parts(self):
        values = np.array([[8.0, 16.0], [NAN, 32.0]])
        places = lattice((2, 2), size=(4, 4))
        found = deposit(values, **places, rows=(0, 8), cols=(0, 8))
        np.testing.assert_array_equal(found, np.kron(values / 16, np.ones((4, 4))))

    def test_the_same_grid_gives_the_same_values(self):
        values, _ = warped((7, 8), seed=1)
        places = lattice((7, 8))
        np.testing.assert_array_equal(deposit(values, **places, rows=(0, 7), cols=(0, 8)), values)

    def test_half_a_pixel_off_everything_goes_to_four(self):
        places = lattice((1, 1), corner=(0.5, 0.5))
        found = deposit(np.array([[8.0]]), **places, rows=(0, 3), cols=(0, 3))
        np.testing.assert_array_equal(found, [[2, 2, NAN], [2, 2, NAN], [NAN, NAN, NAN]])

    def test_a_hundred_by_a_hundred(self):
        values = np.array([[1e4, NAN], [2e4, 3e4]])
        places = lattice((2, 2), size=(100, 100), corner=(0.5, 0.5))
        found = deposit(values, **places, rows=(0, 201), cols=(0, 201))
        assert found[0, 0] == 0.25
        assert found[50, 50] == 1
        assert found[100, 100] == (1 + 2 + 3) / 4
        assert np.isnan(found[:100, 101:]).all()


class TestNodata:
    def test_a_pixel_that_nothing_observed_touches_is_not_observed(self):
        values = np.array([[NAN, 0.0, 5.0]])
        places = lattice((1, 3))
        found = deposit(values, **places, rows=(0, 2), cols=(0, 4))
        np.testing.assert_array_equal(found, [[NAN, 0, 5, NAN], [NAN] * 4])

    def test_an_edge_that_rounding_moved_touches_no_other_pixel(self):
        places = lattice((1, 1))
        places["x"] = places["x"] + 1e-9
        found = deposit(np.array([[5.0]]), **places, rows=(0, 1), cols=(-1, 3))
        np.testing.assert_array_equal(found, [[NAN, 5, NAN, NAN]])

    @pytest.mark.parametrize("place", [NAN, np.inf, -np.inf])
    def test_a_pixel_without_a_place_lies_outside(self, place):
        places = lattice((1, 2))
        places["y"][0, 0] = place
        places["width"][0, 0] = NAN
        found = deposit(np.array([[5.0, 7.0]]), **places, rows=(0, 1), cols=(0, 2))
        np.testing.assert_array_equal(found, [[NAN, 7]])

    def test_an_empty_window_and_an_empty_box(self):
        found = deposit(np.zeros((0, 3)), **lattice((0, 3)), rows=(2, 4), cols=(0, 3))
        np.testing.assert_array_equal(found, np.full((2, 3), NAN))
        assert deposit(np.ones((2, 3)), **lattice((2, 3)), rows=(1, 1), cols=(0, 3)).shape == (0, 3)


class TestBits:
    @pytest.mark.parametrize("size", [0.13, 1.0, 6.5])
    @given(data=st.data(), seed=st.integers(0, 99))
    def test_any_box_from_any_window_equals_the_whole(self, size, data, seed):
        values, places = warped((12, 13), seed=seed, size=size)
        box = everything(places)
        whole = deposit(values, **places, **box)
        spans = {}
        for name, (start, stop) in box.items():
            first = data.draw(st.integers(start, stop - 1))
            spans[name] = (first, data.draw(st.integers(first + 1, stop)))
        rows, cols = (slice(*(place - box[name][0] for place in spans[name])) for name in spans)
        np.testing.assert_array_equal(deposit(values, **places, **spans), whole[rows, cols])
        window = touching(places, **spans, margin=data.draw(st.integers(0, 2)))
        cut = {name: array[window] for name, array in places.items()}
        np.testing.assert_array_equal(deposit(values[window], **cut, **spans), whole[rows, cols])

    def test_single_pixels_equal_the_whole(self):
        values, places = warped((30, 31), seed=4, size=0.21)
        box = everything(places)
        whole = deposit(values, **places, **box)
        for i, j in np.ndindex(whole.shape):
            row, col = i + box["rows"][0], j + box["cols"][0]
            spans = {"rows": (row, row + 1), "cols": (col, col + 1)}
            window = touching(places, **spans, margin=0)
            cut = {name: array[window] for name, array in places.items()}
            found = deposit(values[window], **cut, **spans)
            np.testing.assert_array_equal(found[0, 0], whole[i, j])

    @pytest.mark.parametrize("size", [0.21, 1.3, 5.0])
    def test_blocks_leave_no_trace(self, size, monkeypatch):
        values, places = warped((20, 21), seed=5, size=size)
        whole = deposit(values, **places, **everything(places))
        for block in (1, 7, 1000):
            monkeypatch.setattr("cube.conserving._BLOCK", block)
            found = deposit(values, **places, **everything(places))
            np.testing.assert_array_equal(found, whole)

    def test_dtype_and_layout_of_the_source_do_not_matter(self):
        values, places = warped((20, 21), seed=6)
        values = np.round(values)
        box = everything(places)
        found = deposit(
            np.asfortranarray(values.astype("float32")),
            **{name: np.asfortranarray(array) for name, array in places.items()},
            **box,
        )
        np.testing.assert_array_equal(found, deposit(values, **places, **box))


def touching(places, *, rows, cols, margin):
    """The smallest window of a source that holds all pixels which touch a box, and a margin."""
    touch = (
        (places["x"] + places["width"] / 2 >= cols[0])
        & (places["x"] - places["width"] / 2 <= cols[1])
        & (places["y"] + places["height"] / 2 >= rows[0])
        & (places["y"] - places["height"] / 2 <= rows[1])
    )
    window = []
    for axis in (1, 0):
        found = np.flatnonzero(touch.any(axis=axis))
        if not found.size:
            return np.s_[0:0, 0:0]
        window.append(slice(max(found[0] - margin, 0), found[-1] + 1 + margin))
    return tuple(window)


class TestRefusals:
    @pytest.mark.parametrize("name", ["x", "y", "width", "height"])
    def test_arrays_of_other_shapes(self, name):
        places = lattice((2, 3))
        places[name] = places[name][:1]
        with pytest.raises(SpecError, match=rf"{name} must have.*\(2, 3\). Received \(1, 3\)"):
            deposit(np.ones((2, 3)), **places, rows=(0, 2), cols=(0, 3))

    @pytest.mark.parametrize("span", [{"rows": (2, 0)}, {"cols": (3, 1)}])
    def test_ranges_that_end_before_they_start(self, span):
        spans = {"rows": (0, 2), "cols": (0, 3)} | span
        with pytest.raises(SpecError, match=r"must be \(start, stop\). Received rows="):
            deposit(np.ones((2, 3)), **lattice((2, 3)), **spans)

    @pytest.mark.parametrize("name", ["width", "height"])
    @pytest.mark.parametrize("extent", [0.0, -1.0, NAN, np.inf])
    def test_pixels_without_an_extent(self, name, extent):
        places = lattice((2, 3))
        places[name][1, 1] = extent
        with pytest.raises(
            SourceError, match=rf"positive extent.*Received {extent}; check the two"
        ):
            deposit(np.ones((2, 3)), **places, rows=(0, 2), cols=(0, 3))
