"""Windows cover every pixel and are whole; all that is computed about them equals brute force."""

from __future__ import annotations

import itertools
import json
import pickle
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.errors import SpecError
from cube.windows import Windows, box_sums, footprint, gap

quick = settings(deadline=None, max_examples=60)


@st.composite
def cuts(draw, most=40, *, gaps=True):
    """Windows of any shape, size and stride that are allowed; without gaps up to their size."""
    shape = draw(st.tuples(st.integers(1, most), st.integers(1, most)))
    size = draw(st.integers(1, min(shape)))
    stride = draw(st.integers(1, most if gaps else size))
    return Windows(shape=shape, size=size, stride=stride)


def seen(windows):
    """Pixels that lie in a window, by a plain loop."""
    out = np.zeros(windows.shape, bool)
    for rows, cols in boxes(windows):
        out[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1] = True
    return out


def boxes(windows):
    """Every window by plain loops: rows and columns as ranges, row-major."""

    def starts(length):
        found = list(range(0, length - windows.size, windows.stride))
        return [*found, length - windows.size]

    pairs = itertools.product(starts(windows.shape[0]), starts(windows.shape[1]))
    return [(range(y, y + windows.size), range(x, x + windows.size)) for y, x in pairs]


class TestCutting:
    @quick
    @given(cuts(gaps=False))
    def test_every_pixel_is_in_a_window_up_to_a_stride_of_the_size(self, windows):
        assert windows.gapless
        assert seen(windows).all()

    @quick
    @given(cuts())
    def test_windows_say_whether_they_leave_pixels_out(self, windows):
        assert windows.gapless == seen(windows).all()

    @quick
    @given(cuts())
    def test_every_window_is_whole_and_none_comes_twice(self, windows):
        origins = windows.origins()
        assert (origins >= 0).all()
        assert (origins + windows.size <= windows.shape).all()
        assert len({tuple(o) for o in origins.tolist()}) == len(windows) == len(origins)

    @quick
    @given(cuts())
    def test_they_lie_a_stride_apart_but_for_the_last_which_ends_at_the_edge(self, windows):
        for axis in (0, 1):
            starts = windows.starts(axis)
            assert starts[0] == 0
            assert starts[-1] == windows.shape[axis] - windows.size
            steps = np.diff(starts)
            assert (steps[:-1] == windows.stride).all()
            assert (steps > 0).all()
            assert (steps <= windows.stride).all()

    @quick
    @given(cuts())
    def test_they_are_those_of_a_plain_loop_in_row_major_order(self, windows):
        expected = [(rows[0], cols[0]) for rows, cols in boxes(windows)]
        assert [tuple(o) for o in windows.origins().tolist()] == expected
        assert windows.counts == tuple(len(windows.starts(axis)) for axis in (0, 1))

    @quick
    @given(cuts(), st.data())
    def test_the_origins_of_some_are_those_among_all(self, windows, data):
        ids = data.draw(st.lists(st.integers(0, len(windows) - 1)))
        np.testing.assert_array_equal(
            windows.origins(ids), windows.origins()[np.array(ids, "int64")]
        )

    @quick
    @given(cuts(), st.data())
    def test_those_that_touch_a_box_are_those_of_a_plain_loop(self, windows, data):
        rows, cols = (
            tuple(sorted(data.draw(st.tuples(*[st.integers(-5, n + 5)] * 2))))
            for n in windows.shape
        )
        expected = [
            number
            for number, (ys, xs) in enumerate(boxes(windows))
            if set(ys) & set(range(*rows)) and set(xs) & set(range(*cols))
        ]
        assert windows.touching(rows, cols).tolist() == expected

    def test_a_hundred_million_windows_cost_nothing_to_make(self):
        began = time.perf_counter()
        windows = Windows(shape=(1_000_031, 1_000_031), size=128, stride=100)
        assert len(windows) == 10_001**2
        assert windows.origins([0, 10_001, len(windows) - 1]).tolist() == [
            [0, 0],
            [100, 0],
            [1_000_031 - 128] * 2,
        ]
        assert windows.touching((500, 501), (700, 701)).tolist() == [
            row * 10_001 + col for row in (4, 5) for col in (6, 7)
        ]
        assert time.perf_counter() - began < 1

    def test_some_of_very_many_windows_take_no_memory_for_the_others(self):
        tracemalloc.start()
        windows = Windows(shape=(640_000, 640_000), size=128, stride=64)
        assert len(windows) == 9_999**2
        windows.origins([0, 5, len(windows) - 1])
        assert len(windows.touching((6400, 6656), (640, 641))) == 10
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000  # the starts of an axis take 80 kB, all windows 1.6 GB

    def test_they_survive_json(self):
        windows = Windows(shape=(40, 50), size=16, stride=20)
        assert Windows(**json.loads(json.dumps(windows.to_dict()))) == windows

    def test_windows_pickle_and_compare_by_content(self):
        windows = Windows(shape=(40, 50), size=16, stride=8)
        assert pickle.loads(pickle.dumps(windows)) == windows
        assert hash(Windows(shape=np.array([40, 50]), size=16, stride=8)) == hash(windows)


class TestRefusals:
    @pytest.mark.parametrize("size", [0, -1, 41])
    def test_a_window_that_does_not_fit_is_refused_with_the_largest_that_does(self, size):
        with pytest.raises(SpecError, match=f"40 x 50 .* Received size={size}; give at most 40"):
            Windows(shape=(40, 50), size=size, stride=1)

    @pytest.mark.parametrize("stride", [0, -1])
    def test_a_stride_that_goes_nowhere_is_refused(self, stride):
        with pytest.raises(SpecError, match=f"at least 1 pixel. Received {stride}"):
            Windows(shape=(40, 50), size=16, stride=stride)

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"size": 12.5}, "size is a whole number. Received 12.5"),
            ({"stride": "8"}, "stride is a whole number. Received '8'"),
            ({"stride": True}, "stride is a whole number. Received True"),
            ({"shape": (3, 40, 50)}, r"a grid of two axes, \(y, x\). Received \(3, 40, 50\)"),
            ({"shape": (40.5, 50)}, "shape is a whole number. Received 40.5"),
            ({"shape": 40}, r"a grid of two axes, \(y, x\). Received 40"),
        ],
    )
    def test_what_is_no_number_of_pixels_is_refused(self, change, match):
        with pytest.raises(SpecError, match=match):
            Windows(**{"shape": (40, 50), "size": 16, "stride": 8, **change})

    def test_numbers_of_numpy_are_plain_ones(self):
        windows = Windows(shape=(40, 50), size=np.int64(16), stride=np.uint8(8))
        assert json.loads(json.dumps(windows.to_dict())) == {
            "shape": [40, 50],
            "size": 16,
            "stride": 8,
        }

    @pytest.mark.parametrize("ids", [[True, False, False, True], [0.5], ["a"], np.array([1.0])])
    def test_a_mask_or_a_fraction_is_no_number_of_a_window(self, ids):
        windows = Windows(shape=(20, 20), size=10, stride=10)
        with pytest.raises(SpecError, match=r"Numbers of windows are whole. .* np.flatnonzero"):
            windows.origins(ids)
        assert windows.origins([]).shape == (0, 2)

    @pytest.mark.parametrize("ids", [[-1], [0, 4], [10**6]])
    def test_a_number_that_no_window_has_is_refused(self, ids):
        windows = Windows(shape=(20, 20), size=10, stride=10)
        with pytest.raises(SpecError, match="There are 4 windows, numbered from 0. Received"):
            windows.origins(ids)


class TestSums:
    @quick
    @given(cuts(), st.integers(0, 99))
    def test_the_sum_in_a_window_is_that_of_its_pixels(self, windows, seed):
        raster = np.random.default_rng(seed).random(windows.shape) < 0.4
        expected = [
            raster[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1].sum()
            for rows, cols in boxes(windows)
        ]
        assert box_sums(raster, windows.origins(), windows.size).tolist() == expected

    @quick
    @given(cuts(), st.data())
    def test_the_footprint_is_the_union_of_the_windows(self, windows, data):
        ids = data.draw(st.lists(st.integers(0, len(windows) - 1), max_size=8))
        expected = np.zeros(windows.shape, bool)
        for rows, cols in (boxes(windows)[i] for i in ids):
            expected[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1] = True
        found = footprint(windows.shape, windows.origins(ids), windows.size)
        np.testing.assert_array_equal(found, expected)


class TestGap:
    @quick
    @given(
        st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=9),
        st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=9),
        st.integers(1, 20),
    )
    def test_it_is_the_number_of_pixels_between_the_nearest_squares(self, ones, others, size):
        expected = [min(_pixels_between(a, b, size) for b in others) for a in ones]
        found = gap(np.array(ones), np.array(others), size)
        assert found.dtype == "int64"
        assert found.tolist() == expected

    def test_neighbours_have_no_pixel_between_them_and_the_same_window_overlaps_wholly(self):
        assert gap(np.array([[0, 0]]), np.array([[0, 16]]), 16).tolist() == [0]
        assert gap(np.array([[5, 5]]), np.array([[5, 5]]), 16).tolist() == [-16]
        assert gap(np.array([[0, 0]]), np.array([[16, 20]]), 16).tolist() == [4]

    def test_a_hundred_thousand_windows_against_as_many_fit_in_memory(self):
        windows = Windows(shape=(10_000, 10_000), size=64, stride=32)
        origins = windows.origins()
        left, right = origins[origins[:, 1] < 4000], origins[origins[:, 1] >= 6000]
        assert gap(left, right, 64).min() == right[:, 1].min() - left[:, 1].max() - 64


def _pixels_between(a, b, size):
    """Along the axis where the two squares are further apart; negative where they overlap."""
    return max(max(one, other) - (min(one, other) + size) for one, other in zip(a, b, strict=True))
