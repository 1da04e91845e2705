"""Edges that are straight in one CRS, brought into another where they are curved.

An edge is halved, and its halves again, until the straight pieces lie near enough to its image. The
points are made of its two ends alone and in a way that does not tell them apart, so that two
polygons that share an edge still share it afterwards, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from cube.errors import PolygonError
from cube.polygons.geometries import RingLists, Shapes, polygons_of, ring_lists

Points = npt.NDArray[np.float64]
"""float64 (point, 2): x, y."""

Indices = npt.NDArray[np.int64]

TOLERANCE_PX = 0.05
"""How far a straight piece may lie from the image of its edge, in pixels."""

_LONG_PX = 64.0
"""Pieces longer than this may curve both ways, which the middle alone does not show."""

_HALVINGS = 24
"""An edge that still strays after so many has an image that is torn apart."""

_BLOCK = 1 << 16
"""Polygons that are placed at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """The way from one CRS to another, and how near is near enough.

    Attributes:
        transform: Points of the one to points of the other; not finite where there is no way.
        pixel: Width and height of a pixel in units of the other.
        turn: A full turn of the other's x, if that is a longitude; see
            :func:`cube.polygons.antimeridian.turn_of`.
    """

    transform: Callable[[Points], Points]
    pixel: tuple[float, float]
    turn: float | None = None

    def way(self, start: Points, end: Points) -> Points:
        """From points to others, in pixels, the shorter way round, float64 (point, 2)."""
        step = end - start
        if self.turn is not None:
            step[:, 0] -= self.turn * np.round(step[:, 0] / self.turn)
        return step / self.pixel

    def strays(self, start: Points, middle: Points, end: Points) -> npt.NDArray[np.bool_]:
        """Whether the middle of an edge lies too far from the straight line's, bool (edge,)."""
        # Added, so that the two directions of an edge give the same number.
        off = self.way(middle, start) + self.way(middle, end)
        distance = off[:, 0] * off[:, 0] + off[:, 1] * off[:, 1]
        return distance > (2 * TOLERANCE_PX) ** 2


def place(shapes: Shapes, projection: Projection) -> tuple[Shapes, npt.NDArray[np.bool_]]:
    """Bring polygons into another CRS.

    Args:
        shapes: (Multi)polygons, object (polygon,).
        projection: The way there.

    Returns:
        The polygons in their order, and which of them have edges that were divided, bool
        (polygon,). The corners of the others are those transformed, and nothing else.

    Raises:
        PolygonError: A point cannot be transformed, or an edge is torn.
    """
    out, divided = shapes.copy(), np.zeros(len(shapes), bool)
    for start in range(0, len(shapes), _BLOCK):
        block = slice(start, start + _BLOCK)
        out[block], divided[block] = _place(shapes[block], projection, first_row=start)
    return out, divided


def _place(
    shapes: Shapes, projection: Projection, *, first_row: int
) -> tuple[Shapes, npt.NDArray[np.bool_]]:
    edges = _Edges.of(ring_lists(shapes), projection, first_row + np.arange(len(shapes)))
    straying = edges.owner[edges.open[edges.middles(projection).straying]] - first_row
    divided = np.zeros(len(shapes), bool)
    divided[straying] = True
    out: Shapes = shapely.set_coordinates(shapes.copy(), edges.image)
    if divided.any():
        rows = np.flatnonzero(divided)
        out[rows] = _divided(ring_lists(shapes[rows]), projection, first_row + rows)
    return out, divided


def _divided(lists: RingLists, projection: Projection, rows: Indices) -> Shapes:
    """Polygons in the other CRS, with corners added where an edge strays."""
    edges = _Edges.of(lists, projection, rows)
    for _ in range(_HALVINGS):
        middles = edges.middles(projection)
        if not middles.straying.any():
            return _rebuilt(lists, edges)
        edges = edges.halved(middles)
    row = int(edges.owner[edges.open[0]])
    raise PolygonError(
        f"The polygon in row {row} lies where the projection of the grid's CRS is torn: an edge "
        f"from {_text(edges.xy[edges.open[0]])} has no image there. Cut it there first, or drop it."
    )


def _rebuilt(lists: RingLists, edges: _Edges) -> Shapes:
    corners = np.bincount(edges.ring, minlength=len(lists.part_node_count))
    whole = np.repeat(np.arange(len(lists.node_count)), np.diff(_ring_ends(lists), prepend=0))
    return polygons_of(
        RingLists(
            node_count=np.bincount(whole, corners).astype("int64"),
            part_node_count=corners,
            interior_ring=lists.interior_ring,
            nodes=edges.image,
        )
    )


def _ring_ends(lists: RingLists) -> Indices:
    """Number of rings up to and with each polygon, int64 (polygon,)."""
    return np.searchsorted(
        np.cumsum(lists.part_node_count), np.cumsum(lists.node_count), side="right"
    ).astype("int64")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Middles:
    """Middles of the open edges: where they are, their images, and which lie too far off."""

    xy: Points
    image: Points
    straying: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Edges:
    """Corners of rings in both CRSs.

    Attributes:
        xy: float64 (corner, 2), before.
        image: float64 (corner, 2), after.
        ring: int64 (corner,): which ring it is a corner of.
        owner: int64 (corner,): the row of its polygon.
        open: int64 (edge,): corners that start edges which may have to be halved.
    """

    xy: Points
    image: Points
    ring: Indices
    owner: Indices
    open: Indices

    @classmethod
    def of(cls, lists: RingLists, projection: Projection, rows: Indices) -> _Edges:
        ring = np.repeat(np.arange(len(lists.part_node_count)), lists.part_node_count)
        owner = np.repeat(rows, lists.node_count)
        return cls(
            xy=lists.nodes,
            image=_transformed(lists.nodes, projection, owner),
            ring=ring,
            owner=owner,
            open=np.flatnonzero(ring[1:] == ring[:-1]),
        )

    def middles(self, projection: Projection) -> _Middles:
        at = self.open
        start, end = self.xy[at], self.xy[at + 1]
        middle = (start + end) / 2
        image = _transformed(middle, projection, self.owner[at])
        first, last = self.image[at], self.image[at + 1]
        straying = projection.strays(first, image, last)
        straying[self._straying_in_halves(middle, image, ~straying, projection)] = True
        return _Middles(xy=middle, image=image, straying=straying)

    def _straying_in_halves(
        self, middle: Points, image: Points, among: npt.NDArray[np.bool_], projection: Projection
    ) -> Indices:
        """Long edges whose halves stray, though their middles do not."""
        step = projection.way(self.image[self.open], self.image[self.open + 1])
        long = np.flatnonzero(among & (np.abs(step).max(axis=1, initial=0.0) > _LONG_PX))
        at, stray = self.open[long], np.zeros(len(long), bool)
        for end in (at, at + 1):
            quarter = (self.xy[end] + middle[long]) / 2
            there = _transformed(quarter, projection, self.owner[at])
            stray |= projection.strays(self.image[end], there, image[long])
        return long[stray]

    def halved(self, middles: _Middles) -> _Edges:
        at, kept = self.open[middles.straying], middles.straying
        start = at + np.arange(len(at))
        return _Edges(
            xy=np.insert(self.xy, at + 1, middles.xy[kept], axis=0),
            image=np.insert(self.image, at + 1, middles.image[kept], axis=0),
            ring=np.insert(self.ring, at + 1, self.ring[at]),
            owner=np.insert(self.owner, at + 1, self.owner[at]),
            open=np.sort(np.concatenate([start, start + 1])),
        )


def _transformed(xy: Points, projection: Projection, owner: Indices) -> Points:
    out = projection.transform(xy)
    wrong = np.flatnonzero(~np.isfinite(out).all(axis=1))
    if len(wrong):
        raise PolygonError(
            f"The polygon in row {int(owner[wrong[0]])} cannot be brought into the grid's CRS: its "
            f"point {_text(xy[wrong[0]])} has no place there. Drop what lies far from the grid."
        )
    return out


def _text(point: Points) -> str:
    return f"({point[0]:.6g}, {point[1]:.6g})"
