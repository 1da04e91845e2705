"""Resampling that conserves sums, for counts such as persons per pixel.

Each source pixel spreads its amount evenly over the box that it covers on the target grid, so
that targets get shares of area that add up to one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cube.errors import SourceError, SpecError
from cube.scenes import Span

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_BLOCK = 2**16
"""Source pixels, and shares of them, worked on at once: half a megabyte an array."""

_SNAP_PX = 1e-6
"""Edges this near to one of the target's lie on it: else rounding would touch one pixel more."""


def deposit(  # noqa: PLR0913  (five arrays of one shape, and a box)
    values: npt.NDArray[np.floating[Any]],
    *,
    x: npt.NDArray[np.floating[Any]],
    y: npt.NDArray[np.floating[Any]],
    width: npt.NDArray[np.floating[Any]],
    height: npt.NDArray[np.floating[Any]],
    rows: Span,
    cols: Span,
) -> FloatArray:
    """Amounts of source pixels, spread over the target pixels that they cover.

    Coordinates are pixels of the target: 0.0 is the left or top edge of its first pixel. A source
    pixel covers ``[x - width / 2, x + width / 2] x [y - height / 2, y + height / 2]``. Amounts
    are added up in the row-major order of the source, so that a target pixel is the same to the
    bit in any box, and from any window of the source that holds all that touches the box.

    Args:
        values: Amounts, shape (rows, cols) of a window of the source, NaN for nodata.
        x: Centres of the source pixels, same shape. A pixel whose centre is not finite has no
            place on the target, and lies outside.
        y: See ``x``.
        width: Extent of the source pixels along x, same shape, > 0.
        height: Extent along y.
        rows: Half-open range of target pixels along y.
        cols: Half-open range along x.

    Returns:
        float64 of shape (rows, cols): the sum, NaN where no observed source pixel touches the
        target pixel. What falls outside the box is dropped; a box that holds everything holds
        the sum of ``values``. Edges within 1e-6 of a target pixel's edge lie on it.

    Raises:
        SpecError: Arrays of different shapes, or a range that ends before it starts.
        SourceError: A source pixel with a place has no finite, positive extent.
    """
    _check(values.shape, {"x": x, "y": y, "width": width, "height": height}, rows, cols)
    shape = rows[1] - rows[0], cols[1] - cols[0]
    totals, touched = np.zeros(shape), np.zeros(shape, bool)
    flat = [np.asarray(each, "float64").reshape(-1) for each in (values, x, y, width, height)]
    for start in range(0, values.size, _BLOCK):
        block = [each[start : start + _BLOCK] for each in flat]
        placed = ~np.isnan(block[0]) & np.isfinite(block[1]) & np.isfinite(block[2])
        amounts, across_at, down_at, across_px, down_px = (each[placed] for each in block)
        down, across = _cover(down_at, down_px, rows), _cover(across_at, across_px, cols)
        for pixel, row, col in _pairs(down, across):
            share = down.share(pixel, row) * across.share(pixel, col)
            target = (row - rows[0]) * shape[1] + (col - cols[0])
            # One after the other, unlike bincount's sums of a block: no block changes a bit.
            np.add.at(totals.reshape(-1), target, amounts[pixel] * share)
            touched.reshape(-1)[target] = True
    return np.where(touched, totals, np.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cover:
    """What source pixels cover of the target along one axis; float64 and int64, one per pixel.

    Attributes:
        low: Lower edges, in target pixels.
        high: Upper edges.
        first: The first target pixel of the box that is touched.
        count: How many are; 0 outside the box.
    """

    low: FloatArray
    high: FloatArray
    first: IntArray
    count: IntArray

    def share(self, pixel: IntArray, place: IntArray) -> FloatArray:
        """Share of a source pixel's extent that lies in a target pixel, 0..1."""
        low, high = self.low[pixel], self.high[pixel]
        inside = np.minimum(high, place + 1) - np.maximum(low, place)
        # Over the rounded extent, not the declared one, so that shares add up to one. A source
        # pixel too small to have an extent here lies in one target pixel.
        return np.divide(inside, high - low, out=np.ones_like(inside), where=high > low)


def _cover(centre: FloatArray, extent: FloatArray, span: Span) -> _Cover:
    if not (np.isfinite(extent) & (extent > 0)).all():
        raise SourceError(
            "A source pixel must have a finite, positive extent on the target grid. Received "
            f"{extent[~(np.isfinite(extent) & (extent > 0))][0]}; check the two CRSs."
        )
    low, high = _snapped(centre - extent / 2), _snapped(centre + extent / 2)
    floor = np.floor(low)
    first = np.clip(floor, *span)
    end = np.clip(np.maximum(np.ceil(high), floor + 1), *span)
    return _Cover(
        low=low, high=high, first=first.astype("int64"), count=(end - first).astype("int64")
    )


def _snapped(edges: FloatArray) -> FloatArray:
    nearest = np.rint(edges)
    return np.where(np.abs(edges - nearest) < _SNAP_PX, nearest, edges)


def _pairs(down: _Cover, across: _Cover) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
    """Source pixels with the rows and columns that they touch, in order, some at a time."""
    counts = down.count * across.count
    ends = np.cumsum(counts)
    total = int(ends[-1]) if ends.size else 0
    for start in range(0, total, _BLOCK):
        entry = np.arange(start, min(start + _BLOCK, total))
        pixel = np.searchsorted(ends, entry, side="right")
        within = entry - (ends - counts)[pixel]
        row, col = np.divmod(within, across.count[pixel])
        yield pixel, down.first[pixel] + row, across.first[pixel] + col


def _check(shape: tuple[int, ...], arrays: dict[str, Any], rows: Span, cols: Span) -> None:
    for name, array in arrays.items():
        if array.shape != shape:
            raise SpecError(
                f"{name} must have the shape of the values, {shape}. Received {array.shape}."
            )
    if rows[1] < rows[0] or cols[1] < cols[0]:
        raise SpecError(f"Ranges must be (start, stop). Received rows={rows}, cols={cols}.")
