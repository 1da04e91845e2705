"""Polygons that cross the antimeridian, or the meridian where a projection ends.

Longitudes are angles: 190 and -170 are the same meridian. An edge that jumps by more than half a
turn is taken to go the other, shorter way round, as in section 3.1.9 of
https://www.rfc-editor.org/rfc/rfc7946. Polygons are first made continuous, whatever longitudes that
takes, and then cut where the target's longitudes, or its plane, end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import shapely

from cube.errors import PolygonError
from cube.polygons.geometries import RingLists, Shapes, ring_lists

if TYPE_CHECKING:
    import pyproj
    from odc.geo.geobox import GeoBox

Points = npt.NDArray[np.float64]
"""float64 (point, 2): x, y."""

TOLERANCE = 5e-11
"""In degrees: less beyond the end of the longitudes is rounding. PROJ lets 1e-12 radians pass."""

_ASIDE = 1e-9
"""In degrees, about 0.1 mm."""


def turn_of(crs: pyproj.CRS) -> float | None:
    """A full turn in the unit of a geographic CRS, 360 for degrees; None for any other CRS."""
    if not crs.is_geographic:
        return None
    return round(2 * math.pi / crs.axis_info[0].unit_conversion_factor, 9)


def check_degrees(shapes: Shapes, turn: float) -> None:
    """Refuse what cannot be longitudes and latitudes, such as metres.

    Args:
        shapes: (Multi)polygons in a CRS that says it has longitudes and latitudes, object
            (polygon,).
        turn: See :func:`turn_of`.

    Raises:
        PolygonError: A latitude lies beyond a pole, or a longitude two turns away.
    """
    bounds = np.abs(shapely.bounds(shapes))
    x, y = bounds[:, [0, 2]].max(axis=1), bounds[:, [1, 3]].max(axis=1)
    wrong = np.isfinite(x + y) & ((x > 2 * turn) | (y > turn / 4 + 1e-6))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        who = (
            f"None of the {len(wrong)} polygons meets the grid: their"
            if wrong.all()
            else f"The polygon in row {row} has no place: its"
        )
        raise PolygonError(
            f"{who} coordinates, up to ({x[row]:.6g}, {y[row]:.6g}), are no longitudes and "
            f"latitudes, though the CRS says so. Check the CRS, or give crs=."
        )


def unwrap(shapes: Shapes, turn: float) -> tuple[Shapes, npt.NDArray[np.bool_]]:
    """Make polygons continuous, whose edges jump by more than half a turn of longitude.

    An edge of exactly a full turn goes round the Earth, as in a map of the whole world.

    Args:
        shapes: (Multi)polygons in longitudes and latitudes, object (polygon,).
        turn: See :func:`turn_of`.

    Returns:
        The polygons, their longitudes beyond the usual ones where they must be, and which they are,
        bool (polygon,).

    Raises:
        PolygonError: One encloses a pole.
    """
    left, _, right, _ = shapely.bounds(shapes).T
    with np.errstate(invalid="ignore"):  # what is not finite is refused as invalid later
        crossing = np.isfinite(right - left) & (right - left > turn / 2)
    rows = np.flatnonzero(crossing)
    if not len(rows):
        return shapes, crossing
    lists = ring_lists(shapes[rows])
    first, turns = _turns(lists, turn)
    owner = np.repeat(np.arange(len(rows)), lists.node_count)
    _refuse_poles(turns[first + lists.part_node_count - 1], rows[owner[first]])
    jumping = np.bincount(owner, turns != 0, len(rows)) > 0
    crossing[rows] = jumping
    if not jumping.any():
        return shapes, crossing
    x = lists.nodes[:, 0] - turn * turns
    nodes = np.column_stack([x - turn * _to_shell(x, first, lists, turn), lists.nodes[:, 1]])
    out = shapes.copy()
    out[rows[jumping]] = shapely.set_coordinates(shapes[rows[jumping]], nodes[jumping[owner]])
    return out, crossing


def _turns(lists: RingLists, turn: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """First corner of each ring; turns to take away from each corner."""
    first = np.cumsum(lists.part_node_count) - lists.part_node_count
    x = lists.nodes[:, 0]
    step = np.diff(x, prepend=x[0])
    step[first] = 0.0
    jumps = (np.abs(step) > turn / 2) & (np.abs(np.abs(step) - turn) > TOLERANCE)
    # Whole numbers, so that the running sum is exact.
    turns = np.cumsum(np.where(jumps, np.round(step / turn), 0.0))
    return first, turns - np.repeat(turns[first], lists.part_node_count)


def _refuse_poles(winding: npt.NDArray[np.float64], rows: npt.NDArray[np.int64]) -> None:
    wrong = np.flatnonzero(winding)
    if len(wrong):
        row = int(rows[wrong[0]])
        raise PolygonError(
            f"The polygon in row {row} goes once round the Earth and encloses a pole, so its "
            f"longitudes do not say which side is inside. Cut it along a meridian first, or bring "
            f"it into a polar CRS."
        )


def _to_shell(
    x: npt.NDArray[np.float64], first: npt.NDArray[np.int64], lists: RingLists, turn: float
) -> npt.NDArray[np.float64]:
    """Turns that a hole lies away from its outer ring, for each corner; 0 for outer rings."""
    middle = (np.minimum.reduceat(x, first) + np.maximum.reduceat(x, first)) / 2
    shells = np.flatnonzero(lists.interior_ring == 0)
    shell = shells[np.cumsum(lists.interior_ring == 0) - 1]
    return np.repeat(np.round((middle - middle[shell]) / turn), lists.part_node_count)


def fit(
    shapes: Shapes, seam: float, turn: float, *, projected: bool = False
) -> tuple[Shapes, npt.NDArray[np.bool_]]:
    """Bring polygons into the full turn of longitudes that ends at a seam.

    Parts beyond it are moved by full turns; parts across it are cut there.

    Args:
        shapes: Valid (multi)polygons, continuous, object (polygon,).
        seam: Longitude that the turn ends at.
        turn: See :func:`turn_of`.
        projected: A projection follows, which knows that longitudes are angles: polygons that do
            not reach the seam stay as they are.

    Returns:
        The polygons, those that lay there as they were, and which were cut, bool (polygon,).

    Raises:
        PolygonError: One is wider than a turn.
    """
    # Of any seam but 180 PROJ takes the points exactly there to lie on one side of it.
    aside = _ASIDE if projected and seam != turn / 2 else 0.0
    margin = aside + TOLERANCE if projected else -TOLERANCE
    left, _, right, _ = shapely.bounds(shapes).T
    cut = np.zeros(len(shapes), bool)
    rows = np.flatnonzero((left < seam - turn + margin) | (right > seam - margin))
    if not len(rows):
        return shapes, cut
    parts, owner = shapely.get_parts(shapes[rows], return_index=True)
    left, _, right, _ = shapely.bounds(parts).T
    _refuse_wide(right - left > turn + TOLERANCE, rows[owner])
    by = -turn * (np.floor((left + TOLERANCE - seam) / turn) + 1)
    reaching = (left + by < seam - turn + margin) | (right + by > seam - margin)
    across = right + by > seam + TOLERANCE
    cut[rows[owner[across]]] = True
    concerned = np.isin(owner, owner[reaching]) if projected else np.ones(len(parts), bool)
    if concerned.any():
        shapes = shapes.copy()
        to_cut = across | reaching if aside else across
        shapes[np.unique(rows[owner[concerned]])] = _pieces(
            _moved(parts, by)[concerned],
            owner[concerned],
            to_cut[concerned],
            (seam - turn + aside, seam - aside, turn),
        )
    return shapes, cut


def rejoin(shapes: Shapes, turn: float) -> tuple[Shapes, npt.NDArray[np.bool_]]:
    """Make polygons whole that were cut at the antimeridian.

    Section 3.1.9 of https://www.rfc-editor.org/rfc/rfc7946 asks for such cuts. Where a plane goes
    on across the antimeridian, the two sides of one are the same line, which no valid polygon has.

    Args:
        shapes: Valid (multi)polygons in longitudes and latitudes, object (polygon,).
        turn: See :func:`turn_of`.

    Returns:
        The polygons, parts of them moved on by a turn and merged with those that they then share
        an edge with; and which polygons that are, bool (polygon,).
    """
    left, _, right, _ = shapely.bounds(shapes).T
    joined = np.zeros(len(shapes), bool)
    reaching = (np.abs(left + turn / 2) <= TOLERANCE) & (np.abs(right - turn / 2) <= TOLERANCE)
    rows = np.flatnonzero(reaching)
    if not len(rows):
        return shapes, joined
    parts, owner = shapely.get_parts(shapes[rows], return_index=True)
    left, _, right, _ = shapely.bounds(parts).T
    east_of_it = (left <= TOLERANCE - turn / 2) & (right < turn / 2 - TOLERANCE)
    whole = _joined(_moved(parts, np.where(east_of_it, turn, 0.0)), owner)
    joined[rows] = shapely.get_num_geometries(whole) < np.bincount(owner)
    out = shapes.copy()
    out[joined] = whole[joined[rows]]
    return out, joined


def _pieces(
    parts: Shapes,
    owner: npt.NDArray[np.int64],
    to_cut: npt.NDArray[np.bool_],
    window: tuple[float, float, float],
) -> Shapes:
    """One polygon for each owner, of its parts, those to cut within a window of longitudes."""
    start, end, turn = window
    west = shapely.intersection(parts[to_cut], shapely.box(start, -turn, end, turn))
    next_turn = shapely.box(start + turn, -turn, end + turn, turn)
    east = _moved(shapely.intersection(parts[to_cut], next_turn), np.full(to_cut.sum(), -turn))
    whose = np.concatenate([owner[~to_cut], owner[to_cut], owner[to_cut]])
    return _joined(np.concatenate([parts[~to_cut], west, east]), whose)


def _refuse_wide(wrong: npt.NDArray[np.bool_], rows: npt.NDArray[np.int64]) -> None:
    if wrong.any():
        row = int(rows[np.flatnonzero(wrong)[0]])
        raise PolygonError(
            f"The polygon in row {row} goes more than once round the Earth. Cut it first."
        )


def _moved(shapes: Shapes, by: npt.NDArray[np.float64]) -> Shapes:
    """The same shapes, each moved along x."""
    xy, index = shapely.get_coordinates(shapes, return_index=True)
    xy[:, 0] += by[index]
    moved: Shapes = shapely.set_coordinates(shapes.copy(), xy)
    return moved


def _joined(pieces: Shapes, owner: npt.NDArray[np.int64]) -> Shapes:
    """One polygon of all pieces of each owner; pieces that touch along an edge are merged."""
    parts, index = shapely.get_parts(pieces, return_index=True)
    kept = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(parts)
    parts, owner = parts[kept], owner[index[kept]]
    order = np.argsort(owner, kind="stable")
    _, place = np.unique(owner[order], return_inverse=True)
    whole = shapely.multipolygons(parts[order], indices=place)
    touching = ~shapely.is_valid(whole)
    whole[touching] = shapely.union_all(whole[touching][:, None], axis=1)
    alone = shapely.get_num_geometries(whole) == 1
    whole[alone] = shapely.get_geometry(whole[alone], 0)
    return whole


def grid_seam(grid: GeoBox, turn: float) -> float:
    """Longitude where the full turn ends that a grid in degrees lies in.

    It is 180, unless the grid itself lies across that; then it is opposite to the grid's middle.
    """
    left, _, right, _ = grid.boundingbox.bbox
    if left >= -turn / 2 - TOLERANCE and right <= turn / 2 + TOLERANCE:
        return turn / 2
    return (left + right) / 2 + turn / 2


def projection_seam(
    crs: pyproj.CRS, transform: Callable[[Points], Points], turn: float
) -> float | None:
    """Longitude where the plane of a projected CRS ends; None where it ends at no meridian.

    That is the one opposite to its central meridian, if points left and right of it lie apart.

    Args:
        crs: A projected CRS.
        transform: From longitudes and latitudes to it.
        turn: See :func:`turn_of`.
    """
    central = _central_meridian(crs, turn)
    if central is None:
        return None
    seam = central + turn / 2
    aside = turn * 1e-9
    latitudes = np.linspace(-turn / 6, turn / 6, 5)  # from 60 south to 60 north
    sides = [transform(np.column_stack([np.full(5, seam + s), latitudes])) for s in (-aside, aside)]
    with np.errstate(invalid="ignore"):
        apart = np.abs(sides[0] - sides[1]).max(axis=1)
    return seam if (apart[np.isfinite(apart)] > 1e3).any() else None


def _central_meridian(crs: pyproj.CRS, turn: float) -> float | None:
    operation = crs.coordinate_operation
    for parameter in operation.params if operation is not None else ():
        name = parameter.name.lower()
        if name.startswith("longitude of") and ("origin" in name or "centre" in name):
            radians = float(parameter.value) * parameter.unit_conversion_factor
            return radians / (2 * math.pi) * turn
    return None
