"""The leak check finds every neighbour, whatever the sizes, and no other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.errors import SpecError, SplitError
from cube.windows import Windows
from training.chips import Chips
from training.splits.leaks import LeakGuard, check_leaks, nearer, separation

DRAWN = settings(deadline=None, max_examples=60)


def _gaps(a, a_size, b, b_size):
    """Pixels between the nearest pair, one pair after the other, int (n,)."""
    out = []
    for y, x in a:
        pairs = [max(v - y - a_size, y - v - b_size, u - x - a_size, x - u - b_size) for v, u in b]
        out.append(min(pairs))
    return np.array(out)


def _apart(windows, ids, others):
    a, b = windows.origins(ids), windows.origins(others)
    return _gaps(a, windows.size, b, windows.size)


places = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=8)
sizes = st.integers(1, 12)


class TestSeparation:
    @DRAWN
    @given(places, sizes, places, sizes, st.integers(0, 30))
    def test_it_is_that_of_every_pair_for_squares_of_any_size(self, a, m, b, n, buffer_px):
        a, b = np.array(a), np.array(b)
        expected = _gaps(a, m, b, n)
        assert separation(a, m, b, n).tolist() == expected.tolist()
        assert nearer(a, m, b, n, buffer_px).tolist() == (expected < buffer_px).tolist()

    def test_nothing_is_near_to_nothing(self):
        assert not nearer(np.zeros((3, 2), "int64"), 4, np.zeros((0, 2), "int64"), 4, 9).any()


class TestCheckLeaks:
    WINDOWS = Windows(shape=(64, 64), size=8, stride=4)

    def _at(self, y, x):
        return (y // 4) * 15 + x // 4

    def test_it_gives_the_smallest_distance(self):
        train, test = [self._at(0, 0), self._at(40, 40)], [self._at(0, 20), self._at(56, 0)]
        expected = _apart(self.WINDOWS, train, test).min()
        assert expected == 12
        assert check_leaks(self.WINDOWS, train, test, buffer_px=12) == expected

    def test_it_finds_a_planted_leak_and_names_count_and_distance(self):
        train = [self._at(0, 0), self._at(40, 40), self._at(0, 16)]
        with pytest.raises(
            SplitError, match=r"Leak: 2 of 3 training windows lie nearer than 13 px .*at -4 px"
        ):
            check_leaks(self.WINDOWS, train, [self._at(0, 20)], buffer_px=13)

    def test_a_window_in_both_parts_is_a_leak(self):
        with pytest.raises(SplitError, match=r"Leak: 1 of 1 .*at -8 px"):
            check_leaks(self.WINDOWS, [3], [3], buffer_px=8)

    @pytest.mark.parametrize(("train", "test"), [([], [1]), ([1], [])])
    def test_an_empty_part_proves_nothing(self, train, test):
        with pytest.raises(SplitError, match="Nothing to compare"):
            check_leaks(self.WINDOWS, train, test, buffer_px=8)

    @settings(deadline=None, max_examples=60)
    @given(
        st.sets(st.integers(0, 224), min_size=1, max_size=8),
        st.sets(st.integers(0, 224), min_size=1, max_size=8),
        st.integers(0, 40),
    )
    def test_it_says_what_a_look_at_every_pair_says(self, train, test, buffer_px):
        train, test = sorted(train), sorted(test)
        nearest = _apart(self.WINDOWS, train, test).min()
        if nearest >= buffer_px:
            assert check_leaks(self.WINDOWS, train, test, buffer_px=buffer_px) == nearest
        else:
            with pytest.raises(SplitError, match=f"the nearest at {nearest} px"):
                check_leaks(self.WINDOWS, train, test, buffer_px=buffer_px)

    @DRAWN
    @given(places, places, st.integers(0, 30))
    def test_windows_of_two_sizes(self, train, test, buffer_px):
        small, large = (Windows(shape=(80, 80), size=s, stride=1) for s in (4, 9))
        ids = [[y * w.counts[1] + x for y, x in at] for w, at in ((small, train), (large, test))]
        nearest = _gaps(train, 4, test, 9).min()
        if nearest >= buffer_px:
            assert check_leaks(small, *ids, buffer_px=buffer_px, tested=large) == nearest
        else:
            with pytest.raises(SplitError, match=f"the nearest at {nearest} px"):
                check_leaks(small, *ids, buffer_px=buffer_px, tested=large)


class TestTimes:
    CHIPS = Chips(windows=Windows(shape=(64, 64), size=8, stride=4), timings=3)
    APART = ~np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]], dtype=bool)

    def test_all_times_of_a_place_are_one_place(self):
        with pytest.raises(SplitError, match="Leak: 1 of 2 .*at -8 px"):
            check_leaks(self.CHIPS, [0, 3 * 80], [2], buffer_px=8)

    def test_chips_apart_in_time_may_share_a_place(self):
        assert check_leaks(self.CHIPS, [0], [2], buffer_px=8, times_apart=self.APART) is None
        with pytest.raises(SplitError, match="Leak: 1 of 2 .*at -8 px"):
            check_leaks(self.CHIPS, [0, 1], [2], buffer_px=8, times_apart=self.APART)

    @DRAWN
    @given(
        st.sets(st.integers(0, 674), min_size=1, max_size=8),
        st.sets(st.integers(0, 674), min_size=1, max_size=8),
    )
    def test_only_pairs_that_are_not_apart_count(self, train, test):
        pairs = [
            _apart(self.CHIPS.windows, [a // 3], [b // 3])[0]
            for a in train
            for b in test
            if not self.APART[a % 3, b % 3]
        ]
        nearest = min(pairs, default=None)
        ids = sorted(train), sorted(test)
        if nearest is None or nearest >= 0:
            found = check_leaks(self.CHIPS, *ids, buffer_px=0, times_apart=self.APART)
            assert found == nearest
        else:
            with pytest.raises(SplitError, match=f"the nearest at {nearest} px"):
                check_leaks(self.CHIPS, *ids, buffer_px=0, times_apart=self.APART)

    def test_windows_have_no_times(self):
        with pytest.raises(SplitError, match="Only chips have times"):
            check_leaks(self.CHIPS.windows, [0], [9], buffer_px=8, times_apart=self.APART)

    def test_a_table_of_fewer_timings(self):
        with pytest.raises(SplitError, match=r"of at least \(1, 3\). Received \(2, 2\)"):
            check_leaks(self.CHIPS, [0], [2], buffer_px=8, times_apart=self.APART[:2, :2])


class TestNumbers:
    """A mask is no list of numbers: its True would be window 1, and all others go unseen."""

    WINDOWS = Windows(shape=(64, 64), size=8, stride=4)
    MASK = np.arange(225) > 200

    def test_a_mask_of_windows_is_refused(self):
        guard = LeakGuard(windows=self.WINDOWS, test_windows=np.array([224]), buffer_px=8)
        with pytest.raises(SpecError, match="Numbers of windows are whole. Received bool"):
            guard.check(self.MASK)
        with pytest.raises(SpecError, match="Numbers of windows are whole. Received bool"):
            check_leaks(self.WINDOWS, self.MASK, [224], buffer_px=8)

    def test_a_mask_of_chips_is_refused(self):
        chips = Chips(windows=self.WINDOWS)
        with pytest.raises(SpecError, match="Numbers of chips are whole. Received bool"):
            check_leaks(chips, self.MASK, [224], buffer_px=8)

    @pytest.mark.parametrize("buffer_px", [-9, float("nan"), "8"])
    def test_a_buffer_that_lets_all_pass_is_refused(self, buffer_px):
        with pytest.raises(SplitError, match="buffer_px is a whole number, 0 or more. Received"):
            check_leaks(self.WINDOWS, [0], [0], buffer_px=buffer_px)
        with pytest.raises(SplitError, match="buffer_px is a whole number, 0 or more. Received"):
            LeakGuard(windows=self.WINDOWS, test_windows=np.array([0]), buffer_px=buffer_px)


class TestGuard:
    WINDOWS = Windows(shape=(64, 64), size=8, stride=4)

    @DRAWN
    @given(
        st.sets(st.integers(0, 224), min_size=1, max_size=8),
        st.sets(st.integers(0, 224), min_size=1, max_size=8),
        st.integers(0, 40),
    )
    def test_it_says_what_the_check_says(self, train, test, buffer_px):
        train, test = sorted(train), np.array(sorted(test))
        guard = LeakGuard(windows=self.WINDOWS, test_windows=test, buffer_px=buffer_px)
        near = int((_apart(self.WINDOWS, train, test) < buffer_px).sum())
        if near:
            with pytest.raises(SplitError, match=f"Leak: {near} of {len(train)} training"):
                guard.check(train)
        else:
            assert guard.check(train) == 0

    def test_one_of_a_random_split_counts_and_lets_pass(self):
        guard = LeakGuard(
            windows=self.WINDOWS, test_windows=np.array([0]), buffer_px=0, refuses=False
        )
        assert guard.check([1, 2, 15]) == 2

    def test_it_needs_something_on_both_sides(self):
        with pytest.raises(SplitError, match="there are no test windows"):
            LeakGuard(windows=self.WINDOWS, test_windows=np.empty(0, "int64"), buffer_px=8)
        guard = LeakGuard(windows=self.WINDOWS, test_windows=np.array([0]), buffer_px=8)
        with pytest.raises(SplitError, match="Nothing to compare"):
            guard.check([])
        with pytest.raises(SpecError, match="There are 225 windows"):
            guard.check([-1])
