"""Polygons as numbers in pixels of a grid, and the exact shares of pixels inside them.

A vertex takes 16 bytes, so a million polygons fit where their geometry objects would not.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import shapely

from cube.coverage.shares import Shares
from cube.regions import Region

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

Span = tuple[int, int]

_DECIMALS = 9
"""Of coordinates in pixels. Corners that lie on pixel edges do so to the last digit, too."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outlines:
    """Polygons in pixels of a grid, x right and y down from its upper left corner.

    Attributes:
        xy: float64 (vertex, 2); the last vertex of a ring is its first.
        ring_start: int64 (ring + 1,): first vertex of each ring.
        ring_sign: float64 (ring,): factor that makes outer rings add and holes subtract.
        polygon_start: int64 (polygon + 1,): first ring of each polygon.
        bounds: float64 (polygon, 4): left, top, right, bottom.
        area: float64 (polygon,): area in pixels.
    """

    xy: npt.NDArray[np.float64]
    ring_start: npt.NDArray[np.int64]
    ring_sign: npt.NDArray[np.float64]
    polygon_start: npt.NDArray[np.int64]
    bounds: npt.NDArray[np.float64]
    area: npt.NDArray[np.float64]

    @classmethod
    def of(cls, shapes: npt.NDArray[Any], grid: GeoBox) -> Self:
        """Outlines of polygons.

        Args:
            shapes: Valid (multi)polygons of shapely in the grid's CRS.
            grid: The grid whose pixels count.
        """
        from cube.coverage import fractions

        parts, owner = shapely.get_parts(shapes, return_index=True)
        rings, part = shapely.get_rings(parts, return_index=True)
        xy, ring = shapely.get_coordinates(rings, return_index=True)
        xy = np.round(_in_pixels(xy, grid), _DECIMALS)
        ring_start = np.searchsorted(ring, np.arange(len(rings) + 1)).astype("int64")
        areas = fractions.ring_areas(xy, ring_start)
        # The first ring of a polygon is its outer one. Downward edges add, hence the minus.
        outer = np.diff(part, prepend=-1) != 0
        sign = np.where(outer, -1.0, 1.0) * np.where(areas < 0, -1.0, 1.0)
        polygon_start = np.searchsorted(owner[part], np.arange(len(shapes) + 1)).astype("int64")
        return cls(
            xy=xy,
            ring_start=ring_start,
            ring_sign=sign,
            polygon_start=polygon_start,
            bounds=_bounds(xy, ring_start[polygon_start]),
            area=_sums(-sign * areas, polygon_start),
        )

    @classmethod
    def joined(cls, parts: Iterable[Outlines]) -> Outlines:
        """All polygons of several sets, one set after the other."""
        sets = list(parts)
        return Outlines(
            xy=np.concatenate([s.xy for s in sets]),
            ring_start=_starts(np.concatenate([np.diff(s.ring_start) for s in sets])),
            ring_sign=np.concatenate([s.ring_sign for s in sets]),
            polygon_start=_starts(np.concatenate([np.diff(s.polygon_start) for s in sets])),
            bounds=np.concatenate([s.bounds for s in sets]),
            area=np.concatenate([s.area for s in sets]),
        )

    def __len__(self) -> int:
        return len(self.area)

    def meeting(self, rows: Span, cols: Span) -> npt.NDArray[np.int32]:
        """Polygons whose bounds meet a box, ascending; int32."""
        left, top, right, bottom = self.bounds.T
        near = (left < cols[1]) & (right > cols[0]) & (top < rows[1]) & (bottom > rows[0])
        return np.flatnonzero(near).astype("int32")

    def by_tile(self, tiles: list[Region], side: int) -> Iterator[npt.NDArray[np.int32]]:
        """Polygons whose bounds meet each tile, ascending; sorted once for all tiles.

        Args:
            tiles: All tiles of a grid, row-major.
            side: Their side in pixels.
        """
        across = 1 + max(tile.cols[0] for tile in tiles) // side
        down = len(tiles) // across
        low = np.floor(self.bounds[:, :2] / side).clip(0, None)
        # A polygon that ends where a tile begins does not meet it.
        high = (np.ceil(self.bounds[:, 2:] / side) - 1).clip(None, (across - 1, down - 1))
        wide, tall = (high - low + 1).clip(0, None).astype("int64").T
        counts = wide * tall
        member = np.repeat(np.arange(len(self), dtype="int32"), counts)
        step = np.arange(len(member)) - np.repeat(_starts(counts)[:-1], counts)
        row = low[member, 1].astype("int64") + step // wide[member]
        place = row * across + low[member, 0].astype("int64") + step % wide[member]
        order = np.argsort(place, kind="stable")
        ends = np.searchsorted(place[order], np.arange(len(tiles) + 1))
        member = member[order]
        for first, last in itertools.pairwise(ends):
            yield member[first:last]

    def take(self, members: npt.NDArray[np.int32]) -> Outlines:
        """Some of the polygons, in the order given."""
        rings = _ranges(self.polygon_start, members)
        vertices = _ranges(self.ring_start, rings)
        return Outlines(
            xy=self.xy[vertices],
            ring_start=_starts(np.diff(self.ring_start)[rings]),
            ring_sign=self.ring_sign[rings],
            polygon_start=_starts(np.diff(self.polygon_start)[members]),
            bounds=self.bounds[members],
            area=self.area[members],
        )

    def shares(
        self, rows: Span, cols: Span, members: npt.NDArray[np.int32] | None = None
    ) -> Shares:
        """Shares of the pixels of a box.

        Args:
            rows: First row and the row after the last.
            cols: First column and the column after the last.
            members: Polygons to look at, ascending; None for all that may meet the box.

        Returns:
            Exact but for rounding to float32, to about 3e-8 of a pixel.
        """
        from cube.coverage import fractions

        near = self.meeting(rows, cols) if members is None else members
        box = (rows[0], cols[0], rows[1] - rows[0], cols[1] - cols[0])
        outlines = (self.xy, self.ring_start, self.ring_sign, self.polygon_start)
        label, pixel, polygon, share = fractions.box_shares(outlines, self.bounds, near, box)
        return Shares(label=label, pixel=pixel, polygon=polygon, share=share.astype("float64"))


def _in_pixels(xy: npt.NDArray[np.float64], grid: GeoBox) -> npt.NDArray[np.float64]:
    t = grid.transform
    return (xy - (t.c, t.f)) / (t.a, t.e)


def _starts(counts: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype("int64")


def _ranges(start: npt.NDArray[np.int64], chosen: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Indices of everything between ``start[i]`` and ``start[i + 1]``, for each chosen i."""
    counts = np.diff(start)[chosen]
    offset = np.repeat(start[:-1][chosen] - _starts(counts)[:-1], counts)
    return offset + np.arange(counts.sum())


def _sums(values: npt.NDArray[np.float64], start: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    owner = np.repeat(np.arange(len(start) - 1), np.diff(start))
    return np.bincount(owner, values, len(start) - 1).astype("float64")


def _bounds(xy: npt.NDArray[np.float64], first: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Left, top, right, bottom of each run of vertices; none is empty."""
    low, high = np.minimum.reduceat(xy, first[:-1]), np.maximum.reduceat(xy, first[:-1])
    return np.concatenate([low, high], axis=1)
