"""Values of pixels that are coarser than those of a file: means over areas, and wide kernels.

GDAL's rules (https://gdal.org/en/stable/api/gdalwarp_cpp.html), with which results agree to
rounding: pixels that were not observed weigh nothing, and the others as much as together.
Each value is summed up in one order, tap by tap, so that it is the same in whatever box.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cube.kernels import TIE, Floats, Indices, inside, keys, parts

Shares = Sequence[Floats]
"""Weights along one axis, one array for each tap; (h, w), (1, w) or (h, 1)."""

_LEAST = 1e-6
"""Of the weight of a value, which else would be made of rounding."""

_HAIR = 1e-3
"""Pixels that a box is wide at least."""

KERNELS: dict[str, tuple[int, Callable[[Floats], Floats]]] = {
    "bilinear": (1, lambda x: np.maximum(0.0, 1.0 - np.abs(x))),
    "cubic": (2, keys),
}
"""Radius in pixels of the coarser grid, and weight by the distance in them."""


def reach(kind: str, scale: float) -> int:
    """Pixels of the file around a place that count.

    Args:
        kind: One of :data:`KERNELS`.
        scale: Destination pixels per source pixel, at most 1.
    """
    return math.ceil(KERNELS[kind][0] / scale)


def smooth(
    kind: str, values: Floats, cols: Floats, rows: Floats, scale: tuple[float, float]
) -> Floats:
    """Values at places of a raster, by a kernel as wide as the coarser pixels.

    Args:
        kind: One of :data:`KERNELS`.
        values: (band, y, x), NaN where nothing was observed.
        cols: Columns of the places, 0.5 being the centre of the first; shape (h, w) or (1, w).
        rows: Rows of the places; shape (h, w) or (h, 1). Both may be not finite.
        scale: Destination pixels per source pixel along (x, y), at most 1.

    Returns:
        (band, h, w) in the dtype of ``values``, NaN where the pixel that a place falls into was
        not observed.
    """
    shape = np.broadcast_shapes(cols.shape, rows.shape)
    found = np.empty((len(values), *shape), values.dtype)
    ring = max(reach(kind, each) for each in scale) + 1
    bands = _Bands(values, ring)
    for part in parts(shape):
        col, row = (inside(_own(places, part), n) for places, n in
                    zip((cols, rows), values.shape[:0:-1], strict=True))  # fmt: skip
        left, across = _kernel_taps(kind, col, scale[0])
        top, down = _kernel_taps(kind, row, scale[1])
        nearest = bands.index(np.floor(row + TIE), np.floor(col + TIE))
        for i in range(len(values)):
            there = bands.weighted(i, bands.index(top, left), across, down)
            found[i, part] = np.where(bands.observed(i, nearest), there, np.nan)
    return found


def _kernel_taps(kind: str, places: Floats, scale: float) -> tuple[Floats, Shares]:
    """The first pixel that counts along one axis, and the weights of it and those after it."""
    count, weight = reach(kind, scale), KERNELS[kind][1]
    first = np.floor(places - 0.5)
    past = places - 0.5 - first
    return first + 1 - count, [weight((i - past) * scale) for i in range(1 - count, count + 1)]


def average(values: Floats, cols: tuple[Floats, Floats], rows: tuple[Floats, Floats]) -> Floats:
    """Means of a raster over boxes, each pixel weighing as much as it lies inside.

    Args:
        values: (band, y, x), NaN where nothing was observed.
        cols: Lower and upper ends of the boxes in columns, in any order; shape (h, w) or (1, w).
        rows: Ends in rows; shape (h, w) or (h, 1). All may be not finite.

    Returns:
        (band, h, w) in the dtype of ``values``, NaN where nothing was observed.
    """
    shape = np.broadcast_shapes(cols[0].shape, rows[0].shape)
    found = np.empty((len(values), *shape), values.dtype)
    (left, right), (top, bottom) = _ordered(*cols), _ordered(*rows)
    counts = _widest(left, right, values.shape[2]), _widest(top, bottom, values.shape[1])
    bands = _Bands(values, max(counts) + 1)
    for part in parts(shape):
        first_col, across = _area_taps(
            _own(left, part), _own(right, part), values.shape[2], counts[0]
        )
        first_row, down = _area_taps(
            _own(top, part), _own(bottom, part), values.shape[1], counts[1]
        )
        index = bands.index(first_row, first_col)
        for i in range(len(values)):
            found[i, part] = bands.weighted(i, index, across, down)
    return found


def _ordered(one: Floats, other: Floats) -> tuple[Floats, Floats]:
    """Ends as (lower, upper); those of boxes without a place as an empty box outside."""
    known = np.isfinite(one) & np.isfinite(other)
    low = np.where(known, np.minimum(one, other), -2.0)
    high = np.where(known, np.maximum(one, other), -2.0)
    # A box on edge, as a file turned by half a right angle has it, is as thin as a hair.
    return low, np.maximum(high, low + _HAIR)


def _widest(low: Floats, high: Floats, length: int) -> int:
    """Pixels of the raster that the widest box touches at most."""
    inner = np.minimum(high, length) - np.maximum(low, 0.0)
    return math.ceil(max(0.0, float(inner.max()))) + 1


def _area_taps(low: Floats, high: Floats, length: int, count: int) -> tuple[Floats, Shares]:
    """The first pixel of each box along one axis, and what of it and those after it lies inside."""
    first = np.clip(np.floor(low + TIE), 0.0, length)
    taps = []
    for i in range(count):
        inner = np.minimum(high, first + (i + 1)) - np.maximum(low, first + i)
        taps.append(np.where(inner > TIE, inner, 0.0))
    return first, taps


def _own(places: Floats, part: slice) -> Floats:
    return places[part] if len(places) > 1 else places


class _Bands:
    """Bands with a ring of nothing around them, laid out flat."""

    def __init__(self, values: Floats, ring: int) -> None:
        self._ring, self._stride = ring, values.shape[2] + 2 * ring
        margins = ((0, 0), (ring, ring), (ring, ring))
        padded = np.pad(values, margins, constant_values=np.nan).reshape(len(values), -1)
        self._there = ~np.isnan(padded)
        self._values = np.where(self._there, padded, values.dtype.type(0))

    def index(self, rows: Floats, cols: Floats) -> Indices:
        """Places of pixels, given as whole floats."""
        row, col = rows.astype(np.intp), cols.astype(np.intp)
        return (row + self._ring) * self._stride + (col + self._ring)

    def observed(self, band: int, index: Indices) -> npt.NDArray[np.bool_]:
        """Whether a pixel of a band was observed."""
        return self._there[band].take(index)

    def weighted(self, band: int, index: Indices, across: Shares, down: Shares) -> Floats:
        """Weighted mean of pixels from ``index`` on, of those that were observed."""
        values, there = self._values[band], self._there[band]
        total, weight = np.zeros(index.shape), np.zeros(index.shape)
        for j, row_share in enumerate(down):
            row_total, row_weight = np.zeros(index.shape), np.zeros(index.shape)
            for i, share in enumerate(across):
                place = index + (j * self._stride + i)
                row_total += share * values.take(place)
                row_weight += share * there.take(place)
            total += row_share * row_total
            weight += row_share * row_weight
        with np.errstate(invalid="ignore", divide="ignore"):
            found: npt.NDArray[Any] = np.where(weight > _LEAST, total / weight, np.nan)
        return found
