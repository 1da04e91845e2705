"""Distance from each pixel to the nearest outline, exact, without a cap and without seams.

Outlines are broken into segments. A distance changes no faster than the pixel
moves, so what is nearest to a pixel of a small block lies within the distance of
the block's centre and two of its radii; those few segments are measured, all
others are not. Where they are not few, a tree is searched for each pixel.
Blocks lie at fixed places of the grid, so a pixel has the same value in any box.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, Self

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from scipy.spatial import cKDTree

from cube.errors import PolygonError, SourceError
from cube.polygons.reading import datum_is_known
from cube.scenes import Span
from cube.spec import crs_text
from cube.terrain import check_metres

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

FloatArray = npt.NDArray[np.floating[Any]]
Floats = npt.NDArray[np.float64]

INSIDE = {"zero": 0.0, "negative": -1.0, "positive": 1.0}
"""What the distance is multiplied by inside a polygon."""

_BLOCK = 8
"""Pixels along a side of a block."""

_AT_ONCE = 128
"""Blocks that are done together: some MB for each term, about what a cache holds."""

_CROWD = 256
"""Segments around a block, beyond which a search for each pixel takes less."""

_MARGIN = 1e-6
"""Share, and metres, that blocks look further, lest one misses a segment for rounding."""


class _Placed:
    """Segments by CRS, made once in a process by whoever asks first; pickles empty."""

    def __init__(self) -> None:
        self._lock, self._made = Lock(), dict[str, Segments]()

    def __reduce__(self) -> tuple[type[_Placed], tuple[()]]:
        return type(self), ()

    def get(self, crs: str, make: Callable[[str], Segments]) -> Segments:
        with self._lock:
            if crs not in self._made:
                self._made[crs] = make(crs)
            return self._made[crs]


@dataclass(frozen=True, slots=True, eq=False)
class Distance:
    """Distance in metres from pixel centres to the nearest outline of polygons or lines.

    Vertices are brought into the grid's CRS and joined there by straight lines.
    Distances are planar, as those of a projected grid are. Where polygons
    overlap, each keeps its own outline.

    Attributes:
        outlines: Polygons and lines, with a CRS. Their columns do not matter.
        inside: What is given inside polygons: ``"zero"``, ``"negative"`` for a signed
            distance, or ``"positive"`` for the distance to the boundary. Lines have no inside.
        name: Of the one band.
    """

    outlines: gpd.GeoDataFrame = field(repr=False)
    _: KW_ONLY
    inside: Literal["zero", "negative", "positive"] = "zero"
    name: str = "distance"
    _placed: _Placed = field(init=False, repr=False, default_factory=_Placed)

    def __post_init__(self) -> None:
        if self.inside not in INSIDE:
            raise SourceError(
                f"inside must be one of {', '.join(INSIDE)}. Received {self.inside!r}."
            )
        check_outlines(self.outlines)
        # A copy of the shapes alone: what happens to the frame later does not matter.
        shapes = shapely.force_2d(self.outlines.geometry.to_numpy())
        own = gpd.GeoDataFrame(geometry=shapes, crs=self.outlines.crs)
        object.__setattr__(self, "outlines", own)

    @property
    def bands(self) -> tuple[str, ...]:
        """The one band."""
        return (self.name,)

    @property
    def units(self) -> tuple[str, ...]:
        """Metres."""
        return ("m",)

    def read(self, grid: GeoBox, rows: Span, cols: Span) -> FloatArray:
        """See :meth:`cube.scenes.Source.read`; float32, never NaN.

        Raises:
            SourceError: An outline has no place in the grid's CRS.
        """
        segments = self._placed.get(crs_text(grid), lambda crs: Segments.of(self.outlines, crs))
        (top, _), (left, _) = whole = _whole_blocks(rows), _whole_blocks(cols)
        found = distances(segments, *_centres(grid, *whole), factor=INSIDE[self.inside])
        inner = found[rows[0] - top : rows[1] - top, cols[0] - left : cols[1] - left]
        return inner[None].astype("float32")

    def check(self, grid: GeoBox) -> None:
        """See :meth:`cube.scenes.Source.check`; distances need a grid in metres."""
        check_metres(grid, what="Distances")
        self._placed.get(crs_text(grid), lambda crs: Segments.of(self.outlines, crs))

    def describe(self) -> dict[str, Any]:
        """See :meth:`cube.scenes.Source.describe`; outlines by a digest in their own CRS."""
        sha = hashlib.sha256(pyproj.CRS(self.outlines.crs).to_wkt().encode())
        for blob in shapely.to_wkb(self.outlines.geometry.to_numpy(), byte_order=1):
            sha.update(bytes(blob))
        digest = sha.hexdigest()[:12]
        return {"distance": self.name, "inside": self.inside, "outlines": digest}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segments:
    """Outlines as straight pieces, in metres of a grid's CRS.

    Attributes:
        start: First ends, float64 (segment, 2), x before y.
        end: Second ends.
        turn: int8 (segment,). 1 where the inside of a polygon lies to the left of the way from
            start to end, -1 to the right, 0 for a piece of a line.
        tree: Index of the pieces.
        middles: Index of their middles.
    """

    start: Floats
    end: Floats
    turn: npt.NDArray[np.int8]
    tree: shapely.STRtree
    middles: cKDTree

    @classmethod
    def of(cls, outlines: gpd.GeoDataFrame, crs: str) -> Self:
        """Break outlines up in a CRS.

        Raises:
            SourceError: A vertex has no place there.
        """
        parts = shapely.get_parts(outlines.to_crs(crs).geometry.to_numpy())
        areal = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
        rings, owner = shapely.get_rings(parts[areal], return_index=True)
        shell = np.diff(owner, prepend=-1) > 0  # the first ring of a polygon; the others are holes
        turns = np.where(shell == shapely.is_ccw(rings), 1, -1)
        lines = np.concatenate([rings, parts[~areal]])
        points, line = shapely.get_coordinates(lines, return_index=True)
        if not np.isfinite(points).all():
            raise SourceError(
                f"{len(np.unique(line[~np.isfinite(points).all(axis=1)]))} outlines have no place "
                f"in the grid's CRS; clip them to where that is defined first."
            )
        whole = (line[1:] == line[:-1]) & (points[1:] != points[:-1]).any(axis=1)
        start, end = points[:-1][whole], points[1:][whole]
        turn = np.concatenate([turns, np.zeros(len(lines) - len(rings))])[line[:-1][whole]]
        pieces = np.asarray(shapely.linestrings(np.stack([start, end], axis=1)))
        return cls(
            start=start,
            end=end,
            turn=turn.astype("int8"),
            tree=shapely.STRtree(pieces),
            middles=cKDTree((start + end) / 2),
        )


def check_outlines(outlines: gpd.GeoDataFrame) -> None:
    """Refuse outlines whose place or shape is not certain.

    Raises:
        PolygonError: There are none, they say no CRS, or one is missing, empty,
            invalid, or neither polygon nor line.
    """
    if outlines.empty:
        raise PolygonError("A distance needs one outline at least. Received none.")
    if outlines.crs is None or not datum_is_known(outlines.crs):
        raise PolygonError(
            "Outlines must say their CRS, with a datum that has a name; say what it is with "
            "outlines.set_crs(..., allow_override=True)."
        )
    shapes = outlines.geometry.to_numpy()
    problems = {
        "missing or empty": shapely.is_missing(shapes) | shapely.is_empty(shapes),
        "neither polygons nor lines": ~np.isin(shapely.get_type_id(shapes), (1, 2, 3, 5, 6)),
        "invalid": ~shapely.is_valid(shapes),
    }
    for what, wrong in problems.items():
        if wrong.any():
            raise PolygonError(
                f"{int(wrong.sum())} of {len(shapes)} outlines are {what}, the first in row "
                f"{int(np.flatnonzero(wrong)[0])}. Repair or drop them first, e.g. with "
                f"shapely.make_valid."
            )


def distances(segments: Segments, x: Floats, y: Floats, *, factor: float) -> Floats:
    """Distance to the nearest segment from each point of a lattice.

    Args:
        segments: In metres.
        x: Places along x, ascending, metres, shape (x,), whole blocks.
        y: Places along y, metres, shape (y,), whole blocks.
        factor: What it is multiplied by inside a polygon.

    Returns:
        Metres, float64 of shape (y, x).
    """
    found = np.sqrt(_nearest_squared(segments, x, y))
    if factor != 1.0:
        found[_inside(segments, x, y)] *= factor
    return found + 0.0  # no -0


def _whole_blocks(span: Span) -> Span:
    return span[0] // _BLOCK * _BLOCK, -(-span[1] // _BLOCK) * _BLOCK


def _centres(grid: GeoBox, rows: Span, cols: Span) -> tuple[Floats, Floats]:
    """Pixel centres along x and along y."""
    transform = grid.transform
    x = transform.c + (np.arange(*cols, dtype="float64") + 0.5) * transform.a
    y = transform.f + (np.arange(*rows, dtype="float64") + 0.5) * transform.e
    return x, y


def _nearest_squared(segments: Segments, x: Floats, y: Floats) -> Floats:
    """Square of the distance to the nearest segment, (y, x)."""
    block_y, block_x = y.reshape(-1, _BLOCK), x.reshape(-1, _BLOCK)
    shape = len(block_y), len(block_x)
    row, col = np.divmod(np.arange(shape[0] * shape[1]), shape[1])
    found = np.empty((len(row), _BLOCK, _BLOCK))
    for k in range(0, len(row), _AT_ONCE):
        some = slice(k, k + _AT_ONCE)
        found[some] = _of_blocks(segments, block_x[col[some]], block_y[row[some]])
    return found.reshape(*shape, _BLOCK, _BLOCK).swapaxes(1, 2).reshape(len(y), len(x))


def _of_blocks(segments: Segments, px: Floats, py: Floats) -> Floats:
    """Squares of distances in blocks with pixels at ``px`` and ``py``, (block, side) each."""
    middle = np.stack([px[:, 0] + px[:, -1], py[:, 0] + py[:, -1]], axis=1) / 2
    radius = np.hypot(px[:, -1] - middle[:, 0], py[:, -1] - middle[:, 1])
    _, away = segments.tree.query_nearest(
        shapely.points(middle), return_distance=True, all_matches=False
    )
    reach = (away + 2 * radius) * (1 + _MARGIN) + _MARGIN
    crowded = segments.middles.query_ball_point(middle, reach, return_length=True) > _CROWD
    found = np.empty((len(px), _BLOCK, _BLOCK))
    if crowded.any():
        found[crowded] = _searched(segments, px[crowded], py[crowded])
    if not crowded.all():
        few = ~crowded
        found[few] = _measured(segments, px[few], py[few], middle[few], reach[few])
    return found


def _measured(segments: Segments, px: Floats, py: Floats, middle: Floats, reach: Floats) -> Floats:
    """Squares of distances to the nearest segment within reach of the middle of each block."""
    points = shapely.points(middle)
    block, segment = segments.tree.query(points, predicate="dwithin", distance=reach)
    order = np.argsort(block, kind="stable")
    block, segment = block[order], segment[order]
    squared = _squared(segments, segment, px[block], py[block])
    return np.minimum.reduceat(squared, np.flatnonzero(np.diff(block, prepend=-1)))


def _searched(segments: Segments, px: Floats, py: Floats) -> Floats:
    """Squares of distances to the nearest segment, searched for each pixel."""
    x, y = np.broadcast_arrays(px[:, None, :], py[:, :, None])
    points = shapely.points(x.ravel(), y.ravel())
    _, segment = segments.tree.query_nearest(points, all_matches=False)
    return _squared(segments, segment, x.reshape(-1, 1), y.reshape(-1, 1)).reshape(x.shape)


def _squared(segments: Segments, which: npt.NDArray[np.intp], px: Floats, py: Floats) -> Floats:
    """Squares of distances of points to a segment each.

    Args:
        segments: In metres.
        which: Segments, shape (n,).
        px: Places along x for each, shape (n, width).
        py: Places along y for each, shape (n, height).

    Returns:
        Shape (n, height, width).
    """
    (ax, ay), (bx, by) = segments.start[which].T, segments.end[which].T
    dx, dy = (bx - ax)[:, None, None], (by - ay)[:, None, None]
    qx, qy = (px - ax[:, None])[:, None, :], (py - ay[:, None])[:, :, None]
    along = np.clip((qx * dx + qy * dy) / (dx * dx + dy * dy), 0.0, 1.0)
    return np.square(qx - along * dx) + np.square(qy - along * dy)


def _inside(segments: Segments, x: Floats, y: Floats) -> npt.NDArray[np.bool_]:
    """Points inside a polygon, (y, x), by the winding number.

    Walking from far left to a point, each polygon that holds it is entered once
    more than it is left (https://doi.org/10.1016/S0925-7721(01)00012-8).
    """
    low = np.minimum(segments.start[:, 1], segments.end[:, 1])
    high = np.maximum(segments.start[:, 1], segments.end[:, 1])
    up = np.argsort(y)
    # Half-open from below: a vertex belongs to one of the two segments that meet there.
    first, stop = (np.searchsorted(y[up], side, side="left") for side in (low, high))
    crossing = np.flatnonzero((stop > first) & (segments.turn != 0))
    counts = (stop - first)[crossing]
    segment = np.repeat(crossing, counts)
    begins = np.repeat(np.cumsum(counts) - counts, counts)
    row = up[first[segment] + np.arange(len(segment)) - begins]
    (ax, ay), (bx, by) = segments.start[segment].T, segments.end[segment].T
    where = ax + (y[row] - ay) / (by - ay) * (bx - ax)
    enters = np.where(by < ay, segments.turn[segment], -segments.turn[segment])
    windings = np.zeros((len(y), len(x) + 1), "int64")
    np.add.at(windings, (row, np.searchsorted(x, where, side="left")), enters)
    return np.cumsum(windings, axis=1)[:, :-1] > 0
