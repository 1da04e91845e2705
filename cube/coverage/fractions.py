"""How much of every pixel lies inside a polygon: the arithmetic, compiled.

Each edge adds, to every pixel that it crosses, the signed area between itself and the pixel's
right side, and to all pixels farther right its signed height. Summed along a row these are areas
of the polygon in pixels, by Green's theorem: exact but for rounding, in one pass over the edges
and one over the pixels. (Scan conversion by signed areas, as font rasterisers do it; the shares
are those that exactextract calls coverage fractions.)

Everything is compiled at first use, and kept beside this file or in the user's cache.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

NOTHING = 5e-13
"""Shares up to this are none: rounding, where an outline only touches a pixel."""

WHOLE = 1.0 - 2.0**-25
"""Shares from this on are 1 as float32, in which they are kept."""


@numba.njit(nogil=True, cache=True)
def _cross_row(area, cover, xa, ya, xb, yb, sign, left):
    """Add an edge's piece within one row; x grows from ``xa`` to ``xb``, ``sign`` is its way."""
    width = area.size
    if xb <= left:
        cover[0] += sign * (yb - ya)
        return
    if xa >= left + width:
        return
    if xb == xa:
        i = math.floor(xa) - left
        area[i] += sign * (yb - ya) * (1.0 - (xa - left - i))
        cover[i + 1] += sign * (yb - ya)
        return
    slope = (yb - ya) / (xb - xa)
    if xa < left:
        middle = ya + (left - xa) * slope
        cover[0] += sign * (middle - ya)
        xa, ya = float(left), middle
    i = math.floor(xa) - left
    while i < width:
        end = float(left + i + 1)
        last = xb <= end
        x = xb if last else end
        y = yb if last else ya + (end - xa) * slope
        dy = sign * (y - ya)
        area[i] += dy * (1.0 - (0.5 * (xa + x) - left - i))
        cover[i + 1] += dy
        if last:
            return
        xa, ya = x, y
        i += 1


@numba.njit(nogil=True, cache=True)
def _add_edge(area, cover, x0, y0, x1, y1, sign, top, left):
    """Add one edge, row by row."""
    if y0 == y1:
        return
    if y0 > y1:
        x0, y0, x1, y1, sign = x1, y1, x0, y0, -sign
    height = area.shape[0]
    if y1 <= top or y0 >= top + height:
        return
    slope = (x1 - x0) / (y1 - y0)
    first = max(math.floor(y0), top)
    x, y = x0, y0
    if y < first:
        x, y = x0 + (first - y0) * slope, float(first)
    for row in range(first, top + height):
        end = float(row + 1)
        last = y1 <= end
        ye = y1 if last else end
        xe = x1 if last else x0 + (end - y0) * slope
        j = row - top
        if x <= xe:
            _cross_row(area[j], cover[j], x, y, xe, ye, sign, left)
        else:
            # Seen from its other end, upside down: heights only count by their difference.
            _cross_row(area[j], cover[j], xe, -ye, x, -y, sign, left)
        if last:
            return
        x, y = xe, ye


@numba.njit(nogil=True, cache=True)
def _grown(values, needed):
    if needed <= values.size:
        return values
    out = np.empty(max(needed, 2 * values.size), values.dtype)
    out[: values.size] = values
    return out


@numba.njit(nogil=True, cache=True)
def _sorted_by_pixel(pixel, polygon, share, pixels):
    """Entries by pixel, and by polygon within one; by counting, since pixels are few."""
    start = np.zeros(pixels + 1, np.int64)
    for k in range(pixel.size):
        start[pixel[k] + 1] += 1
    for i in range(pixels):
        start[i + 1] += start[i]
    out_pixel = np.empty_like(pixel)
    out_polygon = np.empty_like(polygon)
    out_share = np.empty_like(share)
    used = np.zeros(pixels, np.int32)
    for k in range(pixel.size):
        i = pixel[k]
        at = start[i] + used[i]
        used[i] += 1
        while at > start[i] and out_polygon[at - 1] > polygon[k]:
            out_polygon[at] = out_polygon[at - 1]
            out_share[at] = out_share[at - 1]
            at -= 1
        out_pixel[start[i] + used[i] - 1] = i
        out_polygon[at] = polygon[k]
        out_share[at] = share[k]
    return out_pixel, out_polygon, out_share


@numba.njit(nogil=True, cache=True)
def _add_polygon(area, cover, outlines, member, top, left):
    """Add all edges of one polygon to empty accumulators, whose first pixel is (top, left)."""
    xy, ring_start, ring_sign, polygon_start = outlines
    area[:] = 0.0
    cover[:] = 0.0
    for ring in range(polygon_start[member], polygon_start[member + 1]):
        sign = ring_sign[ring]
        for v in range(ring_start[ring], ring_start[ring + 1] - 1):
            _add_edge(
                area, cover,
                xy[v, 0], xy[v, 1], xy[v + 1, 0], xy[v + 1, 1], sign, top, left,
            )  # fmt: skip


@numba.njit(nogil=True, cache=True)
def _claim(area, cover, member, label, first, entries, n):
    """Turn one polygon's accumulators into labels and entries; the number of entries now.

    Args:
        area: Signed areas.
        cover: Signed heights.
        member: The polygon.
        label: int32 (height, width) of the box, filled in.
        first: Row and column of the accumulators' first pixel in the box.
        entries: Pixel, polygon, share; filled in, large enough.
        n: Entries that there are.
    """
    pixel, polygon, share = entries
    for j in range(area.shape[0]):
        run = 0.0
        for i in range(area.shape[1]):
            run += cover[j, i]
            value = run + area[j, i]
            if value <= NOTHING:
                continue
            row, col = first[0] + j, first[1] + i
            if value >= WHOLE:
                if label[row, col] < 0:
                    label[row, col] = member
                    continue
                value = 1.0
            pixel[n] = row * label.shape[1] + col
            polygon[n] = member
            share[n] = value
            n += 1
    return n


@numba.njit(nogil=True, cache=True)
def _unlabelled(label, entries, n):
    """List pixels that are whole in one polygon, but lie in others too, for all of them."""
    pixel, polygon, share = entries
    for k in range(n):
        row, col = pixel[k] // label.shape[1], pixel[k] % label.shape[1]
        if label[row, col] >= 0:
            pixel[n] = pixel[k]
            polygon[n] = label[row, col]
            share[n] = 1.0
            label[row, col] = -1
            n += 1
    return n


@numba.njit(nogil=True, cache=True)
def _with_room(entries, needed):
    pixel, polygon, share = entries
    return _grown(pixel, needed), _grown(polygon, needed), _grown(share, needed)


@numba.njit(nogil=True, cache=True)
def box_shares(outlines, bounds, members, box):
    """Shares of the pixels of a box in some polygons.

    Args:
        outlines: Four arrays: ``xy`` float64 (vertex, 2), x right and y down, in pixels of the
            whole grid, rings closed; ``ring_start`` int64 (ring + 1,), first vertex of each ring;
            ``ring_sign`` float64 (ring,), what makes outer rings add and holes subtract;
            ``polygon_start`` int64 (polygon + 1,), first ring of each polygon.
        bounds: float64 (polygon, 4): left, top, right, bottom in pixels.
        members: int32 (member,): polygons to look at, ascending.
        box: First row, first column, height and width.

    Returns:
        label int32 (height, width), pixel int64, polygon int32 and share float32 (entry,), as in
        :class:`cube.coverage.shares.Shares`; sorted by pixel, then polygon.
    """
    top, left, height, width = box
    label = np.full((height, width), -1, np.int32)
    room = 4 * (height + width)
    entries = np.empty(room, np.int64), np.empty(room, np.int32), np.empty(room, np.float32)
    areas = np.empty(height * width)
    covers = np.empty(height * (width + 1))
    n = 0
    for member in members:
        # Only the part of the box that the polygon's own bounds meet is looked at.
        x0 = max(math.floor(bounds[member, 0]), left)
        y0 = max(math.floor(bounds[member, 1]), top)
        w = min(math.ceil(bounds[member, 2]), left + width) - x0
        h = min(math.ceil(bounds[member, 3]), top + height) - y0
        if w <= 0 or h <= 0:
            continue
        area = areas[: h * w].reshape(h, w)
        cover = covers[: h * (w + 1)].reshape(h, w + 1)
        _add_polygon(area, cover, outlines, member, y0, x0)
        entries = _with_room(entries, n + h * w)
        n = _claim(area, cover, member, label, (y0 - top, x0 - left), entries, n)
    entries = _with_room(entries, n + label.size)
    n = _unlabelled(label, entries, n)
    pixel, polygon, share = entries
    found = _sorted_by_pixel(pixel[:n], polygon[:n], share[:n], height * width)
    return label, found[0], found[1], found[2]


def ring_areas(
    xy: npt.NDArray[np.float64], ring_start: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Signed area of each closed ring, by the shoelace formula about its first vertex.

    Args:
        xy: float64 (vertex, 2).
        ring_start: int64 (ring + 1,).

    Returns:
        float64 (ring,), in the units of ``xy`` squared; positive where x turns towards y.
    """
    found: Any = _ring_areas(xy, ring_start)
    return np.asarray(found, "float64")


@numba.njit(nogil=True, cache=True)
def _ring_areas(xy, ring_start):
    out = np.zeros(ring_start.size - 1)
    for ring in range(out.size):
        first = ring_start[ring]
        total = 0.0
        for v in range(first, ring_start[ring + 1] - 1):
            ax, ay = xy[v, 0] - xy[first, 0], xy[v, 1] - xy[first, 1]
            bx, by = xy[v + 1, 0] - xy[first, 0], xy[v + 1, 1] - xy[first, 1]
            total += ax * by - bx * ay
        out[ring] = 0.5 * total
    return out
