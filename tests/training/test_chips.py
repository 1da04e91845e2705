"""Chips are windows times timings, by number."""

from __future__ import annotations

import numpy as np
import pytest

from cube.errors import SpecError
from cube.windows import Windows
from training.chips import Chips

CHIPS = Chips(windows=Windows(shape=(20, 30), size=10, stride=10), timings=3)


def test_every_pair_of_window_and_timing_has_a_number_and_comes_back():
    pairs = [(window, timing) for window in range(6) for timing in range(3)]
    ids = np.arange(len(CHIPS))
    assert len(CHIPS) == len(pairs)
    assert list(zip(CHIPS.window_of(ids), CHIPS.timing_of(ids), strict=True)) == pairs


def test_chips_of_windows_are_all_their_timings_in_the_windows_order():
    assert CHIPS.of_windows([4, 1]).tolist() == [12, 13, 14, 3, 4, 5]
    assert CHIPS.of_windows([]).tolist() == []


@pytest.mark.parametrize("ids", [[-1], [18], [0, 100]])
def test_a_number_that_no_chip_has_is_refused(ids):
    with pytest.raises(SpecError, match="There are 18 chips, numbered from 0. Received"):
        CHIPS.window_of(ids)
    with pytest.raises(SpecError, match="There are 18 chips"):
        CHIPS.timing_of(ids)


def test_a_number_that_no_window_has_is_refused():
    with pytest.raises(SpecError, match="There are 6 windows, numbered from 0. Received .* to 6"):
        CHIPS.of_windows([6])


def test_chips_without_a_timing_are_refused():
    with pytest.raises(SpecError, match="at least one timing. Received 0"):
        Chips(windows=CHIPS.windows, timings=0)
