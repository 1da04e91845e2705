"""Sums of rasters in windows, tile by tile: arithmetic.

Tiles are anchored at the grid's first pixel and have one size, whatever the cube's chunks are. A
window's sum is that of its parts in the tiles, added up in the tiles' order; so it is the same to
the bit for any layout, number of workers and order of reading. Pixels are added, and never
subtracted again as with a summed-area table, so a window of zeros has a sum of exactly zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cube.regions import Region
from cube.windows import WindowSet

IntArray = npt.NDArray[np.int64]

TILE = 512
"""Side of a tile in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spans:
    """Ranges of pixels along one axis of a tile, each once.

    Attributes:
        starts: int64 (span,): first pixel within the tile.
        stops: int64 (span,): pixel after the last.
        of: int64 (window,): span of each window.
    """

    starts: IntArray
    stops: IntArray
    of: IntArray

    @classmethod
    def of_windows(cls, first: IntArray, size: int, tile: tuple[int, int]) -> Self:
        """Parts of windows inside a tile.

        Args:
            first: First pixel of each window, int64 (window,).
            size: Side of a window.
            tile: Half-open range of the tile; every window meets it.
        """
        origins, of = np.unique(first, return_inverse=True)
        starts = np.maximum(origins - tile[0], 0)
        stops = np.minimum(origins + size, tile[1]) - tile[0]
        return cls(starts=starts, stops=stops, of=of)

    def sums(self, values: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
        """Sums of values in each span along an axis; int64 for booleans and integers."""
        kind = "float64" if values.dtype.kind == "f" else "int64"
        cuts = np.union1d(self.starts, self.stops)
        inside = values.take(range(cuts[0], cuts[-1]), axis) if axis else values[cuts[0] : cuts[-1]]
        # First what lies between two cuts, so that windows that overlap share these sums.
        cells = np.add.reduceat(inside, cuts[:-1] - cuts[0], axis=axis, dtype=kind)
        ends = np.stack([np.searchsorted(cuts, e) for e in (self.starts, self.stops)], axis=1)
        room = [(0, 0), (0, 0)]
        room[axis] = (0, 1)  # reduceat knows no end behind the last cell
        runs = np.add.reduceat(np.pad(cells, room), ends.ravel(), axis=axis)
        return runs[::2] if axis == 0 else runs[:, ::2]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TileWindows:
    """The windows that meet a tile.

    Attributes:
        tile: Its pixels.
        ids: Windows, ascending.
        rows: Their parts along y.
        cols: Their parts along x.
    """

    tile: Region
    ids: IntArray
    rows: Spans
    cols: Spans

    @classmethod
    def at(cls, windows: WindowSet, tile: Region) -> Self | None:
        """Windows of a tile; None where there are none."""
        ids = windows.touching(tile.rows, tile.cols)
        if not len(ids):
            return None
        y, x = windows.origins(ids).T
        rows, cols = (
            Spans.of_windows(first, windows.size, span)
            for first, span in ((y, tile.rows), (x, tile.cols))
        )
        return cls(tile=tile, ids=ids, rows=rows, cols=cols)

    def sums(self, raster: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Sums of the tile's pixels in each window.

        Args:
            raster: Finite numbers or booleans of the tile, (y, x).

        Returns:
            float64 (window,), exact for booleans and whole numbers.
        """
        table = self.cols.sums(self.rows.sums(raster, 0), 1)
        return table[self.rows.of, self.cols.of].astype("float64")
