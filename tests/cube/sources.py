"""Made sources, for tests of what is derived from them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Everywhere:
    """Values from a pixel's place, outside the grid too; ``boxes`` collects what was asked.

    ``value(row, col)`` gives one band for each in ``bands``, times 1, 2, 3 and so on.
    """

    bands: tuple[str, ...]
    value: object = staticmethod(lambda row, col: 1000.0 * row + col)
    units: tuple[str, ...] = ()
    boxes: list = field(default_factory=list)

    def read(self, grid, rows, cols):
        self.boxes.append((rows, cols))
        row, col = np.mgrid[slice(*rows), slice(*cols)].astype("float64")
        found = self.value(row, col)
        return np.stack([found * k for k in range(1, len(self.bands) + 1)]).astype("float32")

    def check(self, grid):
        return None

    def describe(self):
        return {"everywhere": list(self.bands)}


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """Values of an array (band, y, x) that begins at the grid's corner, NaN outside."""

    bands: tuple[str, ...]
    values: np.ndarray
    checked: list = field(default_factory=list)

    def read(self, grid, rows, cols):
        _, height, width = self.values.shape
        out = np.full((len(self.bands), rows[1] - rows[0], cols[1] - cols[0]), np.nan, "float32")
        top, left = max(rows[0], 0), max(cols[0], 0)
        inner = self.values[:, top : min(rows[1], height), left : min(cols[1], width)]
        place = out[:, top - rows[0] :, left - cols[0] :]
        place[:, : inner.shape[1], : inner.shape[2]] = inner
        return out

    def check(self, grid):
        self.checked.append(grid)

    def describe(self):
        return {"fixed": list(self.bands), "sum": float(np.nansum(self.values))}


BOXES = [((0, 5), (0, 7)), ((3, 20), (11, 12)), ((-4, 2), (28, 40)), ((19, 33), (-3, 41))]
"""Boxes of a grid of 30 x 37 pixels: inside, at edges and beyond."""

AROUND = (-4, 33), (-3, 41)
"""A box that holds them all."""


def assert_same_in_any_box(source, grid):
    """Any box gives what one box around all gives there, to the bit."""
    (top, _), (left, _) = AROUND
    everything = source.read(grid, *AROUND)
    assert everything.shape == (len(source.bands), 37, 44)
    for rows, cols in BOXES:
        part = everything[:, rows[0] - top : rows[1] - top, cols[0] - left : cols[1] - left]
        found = source.read(grid, rows, cols)
        assert found.dtype == everything.dtype
        np.testing.assert_array_equal(found.view("uint32"), part.copy().view("uint32"))
    return everything
