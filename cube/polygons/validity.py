"""Whether the rings of polygons bound an area that means something; how the others are mended."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely

from cube.errors import PolygonError
from cube.polygons.geometries import Shapes

_POLYGONS = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)


def check_kinds(shapes: Shapes) -> None:
    """Refuse what is no polygon.

    Args:
        shapes: Geometries, object (polygon,).

    Raises:
        PolygonError: There are none, or one is missing, empty or no polygon.
    """
    if not len(shapes):
        raise PolygonError("There are no polygons.")
    refuse(shapely.is_missing(shapes) | shapely.is_empty(shapes), "missing or empty")
    refuse(~np.isin(shapely.get_type_id(shapes), _POLYGONS), "not a polygon")


def check_valid(shapes: Shapes, where: str = "") -> None:
    """Refuse invalid rings.

    Args:
        shapes: (Multi)polygons, object (polygon,).
        where: Said after "invalid".

    Raises:
        PolygonError: A ring crosses or touches itself, crosses another or shares an edge with it,
            or has a coordinate that is not finite.
    """
    wrong = ~shapely.is_valid(shapes)
    if wrong.any():
        reason = shapely.is_valid_reason(shapes[np.flatnonzero(wrong)[0]])
        refuse(wrong, f"invalid{where}", f" ({reason})")


def check_area(shapes: Shapes) -> None:
    """Refuse polygons without area.

    Raises:
        PolygonError: The area of one is 0.
    """
    wrong = ~(shapely.area(shapes) > 0)
    if wrong.any():
        raise PolygonError(
            f"{int(wrong.sum())} of {len(wrong)} polygons have no area, the first in row "
            f"{_first(wrong)}. What they hold has no place; drop them first."
        )


def refuse(wrong: npt.NDArray[np.bool_], what: str, reason: str = "") -> None:
    """Refuse geometries, if any is wrong.

    Args:
        wrong: bool (polygon,).
        what: What is wrong with them.
        reason: Said after the first row.

    Raises:
        PolygonError: One is.
    """
    if wrong.any():
        raise PolygonError(
            f"{int(wrong.sum())} of {len(wrong)} geometries are {what}, the first in row "
            f"{_first(wrong)}{reason}. Repair or drop them first, e.g. with "
            f"cube.read_polygons(..., repair=True)."
        )


def _first(wrong: npt.NDArray[np.bool_]) -> int:
    return int(np.flatnonzero(wrong)[0])


def out_of_collections(shapes: Shapes) -> tuple[Shapes, npt.NDArray[np.bool_]]:
    """Take polygons out of collections: points and lines have no area.

    Returns:
        The geometries, in their order, and which were taken out, bool (polygon,). Collections
        without a polygon stay as they are.
    """
    out, taken = shapes.copy(), np.zeros(len(shapes), bool)
    collection = shapely.get_type_id(shapes) == shapely.GeometryType.GEOMETRYCOLLECTION
    for row in np.flatnonzero(collection):
        found = _polygons_in(shapes[row])
        if found:
            out[row] = found[0] if len(found) == 1 else shapely.MultiPolygon(found)
            taken[row] = True
    return out, taken


def _polygons_in(shape: shapely.Geometry) -> list[shapely.Polygon]:
    if isinstance(shape, shapely.Polygon):
        return [] if shape.is_empty else [shape]
    parts = getattr(shape, "geoms", ())
    return [polygon for part in parts for polygon in _polygons_in(part)]


def mended(shapes: Shapes) -> tuple[Shapes, npt.NDArray[np.bool_], float]:
    """Mend invalid rings: https://libgeos.org/doxygen, the "structure" method of MakeValid.

    Args:
        shapes: (Multi)polygons, object (polygon,).

    Returns:
        The polygons, which were mended, bool (polygon,), and what that changed of their areas,
        added up regardless of sign, as a share of the area of all.

    Raises:
        PolygonError: A coordinate is not finite, or nothing is left of a polygon.
    """
    wrong = ~shapely.is_valid(shapes)
    if not wrong.any():
        return shapes, wrong, 0.0
    rows = np.flatnonzero(wrong)
    _refuse_unknown_places(shapes[rows], rows, len(shapes))
    found = _made_valid(shapes[rows])
    # GEOS 3.14 may leave two parts that share an edge, and merges them when asked again.
    again = ~shapely.is_valid(found)
    found[again] = _made_valid(found[again])
    _refuse_nothing(found, rows)
    out = shapes.copy()
    out[rows] = found
    change = np.abs(shapely.area(found) - shapely.area(shapes[rows])).sum()
    return out, wrong, float(change / shapely.area(out).sum())


def _made_valid(shapes: Shapes) -> Shapes:
    found, _ = out_of_collections(
        shapely.make_valid(shapes, method="structure", keep_collapsed=False)
    )
    return found


def _refuse_unknown_places(shapes: Shapes, rows: npt.NDArray[np.int64], total: int) -> None:
    xy, index = shapely.get_coordinates(shapes, return_index=True)
    wrong = np.zeros(total, bool)
    wrong[rows[index[~np.isfinite(xy).all(axis=1)]]] = True
    if wrong.any():
        raise PolygonError(
            f"{int(wrong.sum())} of {total} polygons have coordinates that are not finite, the "
            f"first in row {_first(wrong)}. No repair can know them; drop them first."
        )


def _refuse_nothing(found: Shapes, rows: npt.NDArray[np.int64]) -> None:
    nothing = ~np.isin(shapely.get_type_id(found), _POLYGONS) | ~(shapely.area(found) > 0)
    if nothing.any():
        raise PolygonError(
            f"Repairing leaves nothing of {int(nothing.sum())} polygons, the first in row "
            f"{int(rows[_first(nothing)])}: they have no area. Drop them first."
        )
