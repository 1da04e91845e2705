"""Putting overlapping windows back together: weights that sum to one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cube.regions import Region

FloatArray = npt.NDArray[np.floating[Any]]


def taper(size: int) -> npt.NDArray[np.float64]:
    """Blending weight of every pixel of a window.

    Args:
        size: Side of the window in pixels, at least 1.

    Returns:
        float64 (size, size), in (0, 1], highest at the centre and never 0, so
        that a pixel seen by one window only keeps its value.
    """
    ramp = 1.0 - np.abs(2 * (np.arange(size) + 0.5) / size - 1.0)
    return np.outer(ramp, ramp)


class Blend:
    """Weighted mean of windows over one region.

    Windows must be added in ascending order of their ids: then every pixel
    sums the same numbers in the same order, whatever region it is part of.
    """

    def __init__(self, region: Region, size: int) -> None:
        """Start with nothing.

        Args:
            region: Pixels to fill.
            size: Side of the windows.
        """
        self.region = region
        self.size = size
        self._taper = taper(size)
        self._total = np.zeros(region.shape)
        self._weight = np.zeros(region.shape)

    def add(self, origin: tuple[int, int], values: FloatArray) -> None:
        """Add one window.

        Args:
            origin: Its first pixel (y, x) on the grid; it may reach beyond the region.
            values: (size, size).
        """
        spans = zip(origin, (self.region.rows, self.region.cols), strict=True)
        here, there = [], []
        for start, (first, last) in spans:
            low, high = max(start, first), min(start + self.size, last)
            if low >= high:
                return
            here.append(slice(low - first, high - first))
            there.append(slice(low - start, high - start))
        weight = self._taper[tuple(there)]
        self._total[tuple(here)] += values[tuple(there)] * weight
        self._weight[tuple(here)] += weight

    def result(self) -> npt.NDArray[np.float64]:
        """Weighted mean, float64 (y, x); NaN where no window was added."""
        empty = self._weight == 0
        return np.where(empty, np.nan, self._total / np.where(empty, 1.0, self._weight))
