"""How much of every polygon lies inside every window: a sparse matrix, summed tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cube.coverage import Coverage
from cube.errors import SpecError, SplitError
from cube.regions import Region
from cube.windows import WindowSet

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

How = Literal["centre", "mean", "sum", "share"]
"""How the numbers of polygons become that of a window; see :func:`training.tables.by_block`."""

_AT_ONCE = 1 << 22
"""Pairs of window and pixel that are multiplied at once, about 60 MB."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Overlaps:
    """Area of polygons inside windows.

    Attributes:
        windows: Ids, int64 (window,), ascending.
        pixels: Area in pixels, sparse CSR float64 (window, polygon); a polygon that a window
            does not meet has no entry.
        centre: Polygon with the largest share of the pixel at each window's centre, -1 where
            there is none; int64 (window,). Of an even number of pixels the centre is the
            corner of four, and the lower right one counts.
        area_px: Area of each whole polygon in pixels, float64 (polygon,), also of what lies
            outside the grid.
    """

    windows: IntArray
    pixels: Any
    centre: IntArray
    area_px: npt.NDArray[np.float64]


def overlaps(coverage: Coverage, windows: WindowSet, ids: npt.ArrayLike) -> Overlaps:
    """Measure how much of every polygon lies inside windows; reads each tile of shares once.

    Args:
        coverage: Shares of the polygons.
        windows: Windows over the same grid.
        ids: Windows to measure, int (n,), in any order; the result is of each once.

    Returns:
        Areas, the same to the bit whichever other windows are measured.

    Raises:
        SplitError: There are no windows, or they lie on another grid.
        SpecError: There is no window of such a number.
    """
    if tuple(coverage.grid.shape) != tuple(windows.shape):
        raise SplitError(
            f"Windows lie on a grid of {tuple(windows.shape)}, the polygons on "
            f"{tuple(coverage.grid.shape)}."
        )
    numbers = np.unique(np.asarray(ids, dtype="int64"))
    if not len(numbers):
        raise SplitError("Overlaps are of windows, and none was named.")
    origins = windows.origins(numbers)
    parts, centre = [], np.full(len(numbers), -1, "int64")
    for tile in coverage.tiles():
        met = _met(origins, windows.size, tile)
        if not len(met):
            continue
        shares = coverage.shares(tile.rows, tile.cols)
        members = shares.polygons
        place, inside = _centres(origins, windows.size, tile)
        centre[place] = shares.owner()[inside[:, 0], inside[:, 1]]
        matrix = _pixels_by_polygon(shares.entries(members), tile, len(members))
        for some in _batches(met, windows.size):
            sums = (_windows_by_pixels(origins[some], windows.size, tile) @ matrix).tocoo()
            parts.append((some[sums.row], members[sums.col].astype("int64"), sums.data))
    return Overlaps(
        windows=numbers,
        pixels=_summed(parts, (len(numbers), coverage.polygons)),
        centre=centre,
        area_px=coverage.area / coverage.pixel_area,
    )


def _met(origins: IntArray, size: int, tile: Region) -> IntArray:
    """Places of the windows that share a pixel with a tile."""
    low = np.array([tile.rows[0], tile.cols[0]]) - size
    high = np.array([tile.rows[1], tile.cols[1]])
    return np.flatnonzero(((origins > low) & (origins < high)).all(axis=1))


def _centres(origins: IntArray, size: int, tile: Region) -> tuple[IntArray, IntArray]:
    """Places of the windows whose centre a tile holds, and where in it, (n, 2)."""
    inside = origins + size // 2 - np.array([tile.rows[0], tile.cols[0]])
    place = np.flatnonzero(((inside >= 0) & (inside < tile.shape)).all(axis=1))
    return place, inside[place]


def _batches(met: IntArray, size: int) -> Iterator[IntArray]:
    step = max(1, _AT_ONCE // size**2)
    for start in range(0, len(met), step):
        yield met[start : start + step]


def _pixels_by_polygon(entries: tuple[Any, Any, Any], tile: Region, members: int) -> Any:
    """Shares of a tile, CSR float64 (pixel, polygon among the members)."""
    import scipy.sparse

    into, pixel, weight = entries
    shape = (tile.shape[0] * tile.shape[1], members)
    return scipy.sparse.coo_array((weight, (pixel, into)), shape=shape).tocsr()


def _windows_by_pixels(origins: IntArray, size: int, tile: Region) -> Any:
    """Ones where a window holds a pixel of a tile, CSR float64 (window, pixel)."""
    import scipy.sparse

    low = origins - np.array([tile.rows[0], tile.cols[0]])
    start, stop = np.maximum(low, 0), np.minimum(low + size, tile.shape)
    height, width = (stop - start).T
    window = np.repeat(np.arange(len(origins)), height)
    row = _counted(height) + start[window, 0]
    first = row * tile.shape[1] + start[window, 1]
    run = width[window]
    pixel = np.repeat(first, run) + _counted(run)
    ends = np.concatenate([[0], np.cumsum(height * width)])
    shape = (len(origins), tile.shape[0] * tile.shape[1])
    return scipy.sparse.csr_array((np.ones(len(pixel)), pixel, ends), shape=shape)


def _counted(lengths: IntArray) -> IntArray:
    """0, 1, 2 ... for each length, one after the other."""
    starts = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum()), dtype="int64") - np.repeat(starts, lengths)


def _summed(parts: list[tuple[IntArray, IntArray, Any]], shape: tuple[int, int]) -> Any:
    """Add tiles up in their order, which no sorting of SciPy's promises."""
    import scipy.sparse

    empty: tuple[Any, ...] = (np.zeros(0, "int64"), np.zeros(0, "int64"), np.zeros(0))
    row, column, value = (np.concatenate(p) for p in zip(*(parts or [empty]), strict=True))
    pairs, into = np.unique(row * shape[1] + column, return_inverse=True)
    sums = np.bincount(into, value, len(pairs)).astype("float64", copy=False)
    return scipy.sparse.coo_array((sums, np.divmod(pairs, shape[1])), shape=shape).tocsr()


def window_values(values: FloatArray, found: Overlaps, how: How) -> FloatArray:
    """Numbers of windows from those of polygons.

    Args:
        values: float64 (polygon, column), NaN where unknown; for ``"share"`` the last column
            holds the denominators, 0 or more.
        found: What windows hold.
        how: See :func:`training.tables.by_block`.

    Returns:
        float64 (window, column), without the denominators.

    Raises:
        SpecError: A denominator is negative.
    """
    if how == "centre":
        inside = found.centre >= 0
        return np.where(inside[:, None], values[np.where(inside, found.centre, 0)], np.nan)
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    if how == "mean":
        return _quotient(found.pixels @ filled, found.pixels @ known.astype("float64"))
    part = _parts_of_polygons(found)
    if how == "sum":
        unknown = (found.pixels @ (~known).astype("float64") > 0) | (found.pixels.sum(axis=1) == 0)[
            :, None
        ]
        return np.where(unknown, np.nan, part @ filled)
    weight, both = filled[:, -1:], known[:, :-1] & known[:, -1:]
    if (weight < 0).any():
        raise SpecError(f"Denominators must be 0 or more. Received {weight.min():g}.")
    return _quotient(part @ (filled[:, :-1] * weight * both), part @ (weight * both))


def _parts_of_polygons(found: Overlaps) -> Any:
    """Part of each polygon inside each window, CSR float64 (window, polygon), 0..1."""
    import scipy.sparse

    # Rounding of boundary shares may exceed the whole of a polygon by a trifle.
    part = np.minimum(found.pixels.data / found.area_px[found.pixels.indices], 1.0)
    shape = found.pixels.shape
    return scipy.sparse.csr_array((part, found.pixels.indices, found.pixels.indptr), shape=shape)


def _quotient(part: FloatArray, whole: FloatArray) -> FloatArray:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
