"""Chips by number: every window at every timing, as arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cube.errors import SpecError
from cube.windows import WindowSet, numbered

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chips:
    """Windows × timings, numbered from 0; all timings of a window follow one another.

    Attributes:
        windows: Where chips lie.
        timings: How many timings the sample has.
    """

    windows: WindowSet
    timings: int = 1

    def __post_init__(self) -> None:
        if self.timings < 1:
            raise SpecError(f"Chips need at least one timing. Received {self.timings}.")

    def __len__(self) -> int:
        return len(self.windows) * self.timings

    def window_of(self, ids: npt.ArrayLike) -> IntArray:
        """Window of each chip, int64 of the shape of ``ids``.

        Raises:
            SpecError: There is no chip of such a number.
        """
        return numbered(ids, len(self), "chips") // self.timings

    def timing_of(self, ids: npt.ArrayLike) -> IntArray:
        """Number of each chip's timing within the sample, int64 of the shape of ``ids``.

        Raises:
            SpecError: There is no chip of such a number.
        """
        return numbered(ids, len(self), "chips") % self.timings

    def of_windows(self, windows: npt.ArrayLike) -> IntArray:
        """Chips of windows at all timings, int64 (windows × timings,), in the windows' order.

        Raises:
            SpecError: There is no window of such a number.
        """
        numbers = numbered(windows, len(self.windows))
        return (numbers[:, None] * self.timings + np.arange(self.timings)).ravel()
