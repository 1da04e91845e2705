"""Values at places between pixels: nearest, bilinear and cubic, for all bands at once.

GDAL's rules (https://gdal.org/en/stable/api/gdalwarp_cpp.html), with which results agree to
rounding: a place is observed if the pixel it falls into is; neighbours that are not weigh nothing;
cubic (Keys 1981, doi 10.1109/TASSP.1981.1163711, a = -0.5) where all 16 neighbours are observed,
else bilinear.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Indices = npt.NDArray[np.intp]

REACH = {"nearest": 0, "bilinear": 1, "cubic": 2}
"""Pixels around the one that a place falls into which count."""

TIE = 1e-8
"""A place so near to the edge between two pixels, in pixels, belongs to the right or lower one."""

_BLOCK = 1 << 16
"""Values worked on at once, so that they stay in a core's cache."""


def resample(kind: str, values: Floats, cols: Floats, rows: Floats) -> Floats:
    """Values at places of a raster.

    Args:
        kind: One of :data:`REACH`.
        values: (band, y, x), NaN where nothing was observed.
        cols: Columns of the places, 0.5 being the centre of the first; shape (h, w) or (1, w).
        rows: Rows of the places; shape (h, w) or (h, 1). Both may be not finite.

    Returns:
        (band, h, w) in the dtype of ``values``, NaN outside the raster and where nothing was
        observed.
    """
    shape = np.broadcast_shapes(cols.shape, rows.shape)
    found = np.empty((len(values), *shape), values.dtype)
    # A ring of nothing stands for what lies outside, so that no index has to be checked.
    ring = max(REACH[kind], 1)
    padded = np.pad(values, ((0, 0), (ring, ring), (ring, ring)), constant_values=np.nan)
    for part in parts(shape):
        places = _Places(cols[_own(cols, part)], rows[_own(rows, part)], values.shape[1:], ring)
        for i, band in enumerate(padded):
            found[i, part] = _KINDS[kind](band.ravel(), places)
    return found


def parts(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows of a box of which as many are worked on at once as a core's cache holds."""
    step = max(1, _BLOCK // max(1, shape[1]))
    for start in range(0, shape[0], step):
        yield slice(start, start + step)


def _own(places: Floats, part: slice) -> slice:
    return part if len(places) > 1 else slice(None)


class _Places:
    """Places as indices into a band with a ring around it, laid out flat."""

    def __init__(self, cols: Floats, rows: Floats, shape: tuple[int, ...], ring: int) -> None:
        self._stride, self._ring = shape[1] + 2 * ring, ring
        self._cols, self._rows = inside(cols, shape[1]), inside(rows, shape[0])

    @cached_property
    def nearest(self) -> Indices:
        """The pixel that each place falls into, shape (h, w)."""
        return self._index(np.floor(self._rows + TIE), np.floor(self._cols + TIE))

    @cached_property
    def corner(self) -> tuple[Indices, Floats, Floats]:
        """The upper left of the four pixels around, and how far right and down from its centre."""
        left, top = np.floor(self._cols - 0.5), np.floor(self._rows - 0.5)
        shape = np.broadcast_shapes(left.shape, top.shape)
        right, down = self._cols - 0.5 - left, self._rows - 0.5 - top
        return (
            self._index(top, left),
            np.broadcast_to(right, shape),
            np.broadcast_to(down, shape),
        )

    def _index(self, rows: Floats, cols: Floats) -> Indices:
        row, col = rows.astype(np.intp), cols.astype(np.intp)
        return (row + self._ring) * self._stride + (col + self._ring)

    def neighbours(self, first: int, last: int) -> Iterator[tuple[int, int, int]]:
        """Row, column and offset of the pixels around, counted from the corner."""
        for row in range(first, last + 1):
            for col in range(first, last + 1):
                yield row, col, row * self._stride + col


def inside(places: Floats, length: int) -> Floats:
    """Places along one axis; those outside in the middle of the ring's first pixel."""
    with np.errstate(invalid="ignore"):
        return np.where((places >= -TIE) & (places < length - TIE), places, -0.5)


def _nearest(band: Floats, places: _Places) -> Floats:
    return band.take(places.nearest)


def _bilinear(band: Floats, places: _Places) -> Floats:
    corner, x, y = places.corner
    found = np.zeros(corner.shape)
    for row, col, offset in places.neighbours(0, 1):
        found += _linear(x, col) * _linear(y, row) * band.take(corner + offset)
    return _mended(found, band, places)


def _mended(found: Floats, band: Floats, places: _Places) -> Floats:
    """Bilinear of the observed neighbours alone, wherever one of four is not."""
    nearest = np.isnan(band.take(places.nearest))
    found[nearest] = np.nan
    gaps = np.isnan(found) & ~nearest
    if not gaps.any():
        return found
    index, right, down = places.corner
    corner, x, y = index[gaps], right[gaps], down[gaps]
    total, weight = np.zeros(corner.shape), np.zeros(corner.shape)
    for row, col, offset in places.neighbours(0, 1):
        values = band.take(corner + offset)
        share = np.where(np.isnan(values), 0.0, _linear(x, col) * _linear(y, row))
        # What weighs nothing adds nothing, be it infinite; what is infinite stays so.
        total += share * np.where(share > 0, values, 0.0)
        weight += share
    found[gaps] = total / weight
    return found


def _cubic(band: Floats, places: _Places) -> Floats:
    corner, x, y = places.corner
    found, row_total = np.zeros(corner.shape), np.zeros(corner.shape)
    for row, col, offset in places.neighbours(-1, 2):
        values = _keys(x, col) * band.take(corner + offset)
        row_total = values if col == -1 else row_total + values
        if col == 2:
            found += _keys(y, row) * row_total
    gaps = np.isnan(found)
    if gaps.any():
        found[gaps] = _bilinear(band, places)[gaps]
    return found


def _linear(share: Floats, side: int) -> Floats:
    return share if side else 1.0 - share


def _keys(t: Floats, place: int) -> Floats:
    """Weight of the pixel at ``place`` (-1 .. 2) for a point at ``t`` (0 .. 1)."""
    distance = abs(place - t) if place in (-1, 2) else (t if place == 0 else 1.0 - t)
    if place in (0, 1):
        return (1.5 * distance - 2.5) * distance * distance + 1.0
    return ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0


def keys(x: Floats) -> Floats:
    """Weight by the distance in pixels; 0 from 2 on."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x <= 1.0, near, np.where(x < 2.0, far, 0.0))


_KINDS = {"nearest": _nearest, "bilinear": _bilinear, "cubic": _cubic}
