"""Crosswalks from geometries: the part of each polygon's area that lies in others.

ArcGIS calls that Tabulate Intersection. Beside it, squares to lay over polygons: footprints of
images around points, and the cells of a coarse grid.
"""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely

from cube.crosswalks.crosswalk import TOLERANCE, Crosswalk
from cube.crosswalks.parts import group_sums
from cube.errors import PolygonError, SpecError
from cube.metres import is_metric
from cube.polygons.ids import column_of, examples, text_ids
from cube.polygons.reading import check_polygons

if TYPE_CHECKING:
    import pandas as pd
    from odc.geo.geobox import GeoBox

IntArray = npt.NDArray[np.int64]

PAIRS = 50_000
"""Intersections made at a time, so that they never are in memory all together."""


def overlay(
    sources: gpd.GeoDataFrame,
    targets: gpd.GeoDataFrame,
    *,
    source_id: str,
    target_id: str,
    overlapping: bool = False,
) -> Crosswalk:
    """The part of each source's area that lies in each target.

    Args:
        sources: Polygons in a projected CRS.
        targets: Polygons in the same CRS.
        source_id: Column of the sources' ids.
        target_id: Column of the targets' ids.
        overlapping: Targets may overlap each other, as footprints of images
            do; what lies in several then counts in each.

    Returns:
        Areal weights, and the sources' areas as their sizes. Sources may lie
        partly, or wholly, outside all targets: see
        :attr:`cube.crosswalks.Crosswalk.lost_share`.

    Raises:
        PolygonError: Polygons or ids cannot be used; the CRS differ or are in
            degrees; targets overlap.
    """
    _check_crs(sources, targets)
    for frame in (sources, targets):
        check_polygons(frame)
    from_ids = text_ids(column_of(sources, source_id), source_id)
    to_ids = text_ids(column_of(targets, target_id), target_id)
    shapes, others = sources.geometry.to_numpy(), targets.geometry.to_numpy()
    if not overlapping:
        refuse_overlaps(_twice(shapes, others) > TOLERANCE, from_ids)
    area, source, target, part = _parts(shapes, others)
    sums = group_sums(source, part, len(sources))
    inside = bool((np.abs(sums - 1) <= TOLERANCE).all())
    return Crosswalk.of_entries(
        from_ids, to_ids, source=source, target=target, part=part, size=area,
        cover="overlapping" if overlapping else "whole" if inside else "partial",
        origin=f"overlay of {source_id} on {target_id}", notes=_notes(sums, area),
    )  # fmt: skip


def refuse_overlaps(twice: npt.NDArray[np.bool_], ids: pd.Index[Any]) -> None:
    """Refuse sources that count twice, where targets overlap.

    Raises:
        PolygonError: One does; the message names some.
    """
    if twice.any():
        raise PolygonError(
            f"Targets overlap in {int(twice.sum())} of {len(twice)} sources, which would count "
            f"twice: {examples(ids[twice])}. If that is meant, give overlapping=True."
        )


def _check_crs(sources: gpd.GeoDataFrame, targets: gpd.GeoDataFrame) -> None:
    for frame, what in ((sources, "sources"), (targets, "targets")):
        if frame.crs is None:
            raise PolygonError(f"The {what} do not say their CRS; use GeoDataFrame.set_crs.")
        if not frame.crs.is_projected:
            raise PolygonError(
                f"Areas need a projected CRS. The {what} are in {frame.crs.name!r}; use "
                f"GeoDataFrame.to_crs, e.g. to an equal-area one such as EPSG:5070 or EPSG:6933."
            )
    if sources.crs != targets.crs:
        raise PolygonError(
            f"Sources and targets must share a CRS. They have {_name(sources)!r} and "
            f"{_name(targets)!r}; use GeoDataFrame.to_crs."
        )


def _name(frame: gpd.GeoDataFrame) -> str:
    return "none" if frame.crs is None else frame.crs.name


def _parts(
    sources: npt.NDArray[Any], targets: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], IntArray, IntArray, npt.NDArray[np.float64]]:
    """Areas of the sources; source, target and part of each pair that shares an area."""
    area = shapely.area(sources)
    tree = shapely.STRtree(targets)
    source, target = tree.query(sources, predicate="intersects")
    order = np.lexsort((target, source))
    source, target = source[order], target[order]
    inner, outer = tree.query(sources, predicate="covered_by")
    # All of a source is exactly one, which the area of an intersection may miss by a digit.
    whole = np.isin(source * len(targets) + target, inner * len(targets) + outer)
    part = whole.astype("float64")
    cut = np.flatnonzero(~whole)
    for start in range(0, len(cut), PAIRS):
        some = cut[start : start + PAIRS]
        shared = shapely.intersection(sources[source[some]], targets[target[some]])
        part[some] = np.minimum(shapely.area(shared) / area[source[some]], 1.0)
    kept = part > 0
    return area, source[kept], target[kept], part[kept]


def _twice(sources: npt.NDArray[Any], targets: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Area of each source that lies in several targets, over its area, float64 (source,).

    What lies in three targets is counted three times: once for each pair.
    """
    one, other = shapely.STRtree(targets).query(targets, predicate="intersects")
    pair = one < other
    one, other = targets[one[pair]], targets[other[pair]]
    apart = shapely.touches(one, other)
    common = shapely.intersection(one[~apart], other[~apart])
    source, place = shapely.STRtree(common).query(sources, predicate="intersects")
    found = shapely.area(shapely.intersection(sources[source], common[place]))
    return group_sums(source, found, len(sources)) / shapely.area(sources)


def _notes(sums: npt.NDArray[np.float64], area: npt.NDArray[np.float64]) -> tuple[str, ...]:
    lost = np.clip(1 - sums, 0, None)
    lost[lost <= TOLERANCE] = 0
    if not lost.any():
        return ()
    share = float(np.cumsum(lost * area)[-1] / np.cumsum(area)[-1])
    return (f"{share:.3g} of the sources' area lies outside all targets",)


def squares(points: gpd.GeoDataFrame, side_m: float) -> gpd.GeoDataFrame:
    """Squares centred on points: what an image around each of them shows.

    Args:
        points: Points in a projected CRS whose metres are metres on the ground.
        side_m: Length of a side in metres.

    Returns:
        The same table with the squares as its geometry.

    Raises:
        PolygonError: A geometry is no point or has no place, or the CRS is not in metres.
        SpecError: The side is not above 0.
    """
    if not (isinstance(side_m, Real) and 0 < side_m < np.inf):
        raise SpecError(f"Squares need a side in metres above 0. Received {side_m!r}.")
    if points.crs is None or not is_metric(points.crs):
        raise PolygonError(
            f"Squares need points in a projected CRS whose metres are metres on the ground. "
            f"Received {_name(points)!r}; use GeoDataFrame.to_crs, e.g. to a UTM zone."
        )
    shapes = points.geometry.to_numpy()
    here = np.isfinite(shapely.bounds(shapes)).all(axis=1)  # missing and empty ones are nowhere
    wrong = (shapely.get_type_id(shapes) != 0) | ~here
    if wrong.any():
        raise PolygonError(
            f"Squares are laid around points. {int(wrong.sum())} of {len(wrong)} geometries are "
            f"none, the first in row {int(np.flatnonzero(wrong)[0])}."
        )
    x, y, half = shapely.get_x(shapes), shapely.get_y(shapes), side_m / 2
    return points.set_geometry(
        gpd.GeoSeries(
            shapely.box(x - half, y - half, x + half, y + half), points.index, crs=points.crs
        )
    )


def cells(grid: GeoBox) -> gpd.GeoDataFrame:
    """The pixels of a coarse grid as polygons, row-major, with the column ``cell``.

    Args:
        grid: Any grid; all its pixels become polygons.

    Returns:
        Ids are ``"<row>_<column>"``, in the grid's CRS.
    """
    height, width = grid.shape
    row, column = (axis.ravel() for axis in np.indices((height, width)))
    t = grid.transform
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
    across, down = column[:, None] + corners[:, 0], row[:, None] + corners[:, 1]
    x, y = t.a * across + t.b * down + t.c, t.d * across + t.e * down + t.f
    ids = [f"{r}_{c}" for r, c in zip(row.tolist(), column.tolist(), strict=True)]
    shapes = np.asarray(shapely.polygons(np.stack([x, y], axis=-1)))
    crs = None if grid.crs is None else grid.crs.proj
    return gpd.GeoDataFrame({"cell": ids}, geometry=list(shapes), crs=crs)
