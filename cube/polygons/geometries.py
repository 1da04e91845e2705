"""Polygons as the arrays that the CF conventions keep them in, and back.

Section 7.5 of https://cfconventions.org/Data/cf-conventions/cf-conventions-1.8/cf-conventions.html:
the corners of all rings in one list, and three lists that say where rings, parts and polygons end.
Numbers are kept as they are, to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from cube.errors import PolygonError

Shapes = npt.NDArray[Any]
"""Shapely polygons and multipolygons, object (polygon,)."""

Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RingLists:
    """Polygons as lists.

    Attributes:
        node_count: int64 (polygon,): corners of each, those of all its rings.
        part_node_count: int64 (ring,): corners of each ring, the last equal to the first.
        interior_ring: int8 (ring,): 1 for a hole, 0 for an outer ring, whose holes follow it.
        nodes: float64 (corner, 2): x and y.
    """

    node_count: npt.NDArray[np.int64]
    part_node_count: npt.NDArray[np.int64]
    interior_ring: npt.NDArray[np.int8]
    nodes: npt.NDArray[np.float64]


def ring_lists(shapes: Shapes) -> RingLists:
    """Polygons as lists.

    Raises:
        PolygonError: One is missing, empty, no polygon, has an empty part, or has heights.
    """
    check_shapes(shapes)
    _, nodes, offsets = shapely.to_ragged_array(shapes)
    ring, part = (np.asarray(o, "int64") for o in offsets[:2])
    # Among polygons alone there is no list of parts: each has one.
    whole = np.asarray(offsets[2], "int64") if len(offsets) == 3 else np.arange(len(shapes) + 1)
    if (np.diff(part) == 0).any():
        raise PolygonError("A multipolygon has a part without corners; repair it first.")
    interior = np.ones(len(ring) - 1, "int8")
    interior[part[:-1]] = 0
    return RingLists(
        node_count=np.diff(ring[part[whole]]),
        part_node_count=np.diff(ring),
        interior_ring=interior,
        nodes=np.asarray(nodes, "float64"),
    )


def check_shapes(shapes: Shapes) -> None:
    """Refuse what these lists cannot hold.

    Raises:
        PolygonError: One is missing, empty, no polygon, or has heights.
    """
    problems = {
        "missing or empty": shapely.is_missing(shapes) | shapely.is_empty(shapes),
        "not a polygon": ~np.isin(shapely.get_type_id(shapes), (3, 6)),
        "with heights, which would be lost (shapely.force_2d drops them)": shapely.has_z(shapes),
    }
    for what, wrong in problems.items():
        if wrong.any():
            raise PolygonError(
                f"{int(wrong.sum())} of {len(shapes)} geometries are {what}, the first in row "
                f"{int(np.flatnonzero(wrong)[0])}."
            )


def polygons_of(lists: RingLists) -> Shapes:
    """Polygons from lists; one of a single part is a Polygon, all others are MultiPolygons."""
    ring = _ends(lists.part_node_count)
    part = np.append(np.flatnonzero(lists.interior_ring == 0), len(lists.interior_ring))
    whole = np.searchsorted(ring[part], _ends(lists.node_count))
    parts = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, lists.nodes, offsets=(ring, part)
    )
    count = np.diff(whole)
    out: Shapes = parts[whole[:-1]]
    several = np.flatnonzero(count > 1)
    if len(several):
        owner = np.repeat(np.arange(len(count)), count)
        member = count[owner] > 1
        order = np.searchsorted(several, owner[member])
        out[several] = shapely.multipolygons(parts[member], indices=order)
    return out


def _ends(counts: npt.NDArray[Any]) -> Offsets:
    """Where each of consecutive pieces begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(counts, dtype="int64")])
