"""Polygons checked and brought onto a grid, and what was found on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyproj
import shapely

from cube.polygons import antimeridian, placing, validity
from cube.polygons.geometries import Shapes
from cube.polygons.placing import Mask
from cube.polygons.report import PolygonReport

if TYPE_CHECKING:
    import geopandas as gpd
    from odc.geo.geobox import GeoBox


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """Polygons in the CRS of a grid, and what was found on the way.

    Attributes:
        shapes: Object (polygon,).
        repaired: Which were mended, bool (polygon,).
        repaired_area_share: See :class:`cube.polygons.report.PolygonReport`.
        crossing: Which cross the antimeridian, bool (polygon,).
        densified: Which have corners added, bool (polygon,).
    """

    shapes: Shapes
    repaired: Mask
    repaired_area_share: float
    crossing: Mask
    densified: Mask

    @classmethod
    def of(cls, frame: gpd.GeoDataFrame, grid: GeoBox, *, repair: bool) -> Found:
        """Check the polygons of a frame whose CRS is known, and bring them onto a grid."""
        shapes, crs = flat(frame.geometry.to_numpy()), pyproj.CRS.from_user_input(frame.crs)
        taken = jumping = np.zeros(len(shapes), bool)
        if repair:
            shapes, taken = validity.out_of_collections(shapes)
        validity.check_kinds(shapes)
        turn = antimeridian.turn_of(crs)
        if turn is not None:
            antimeridian.check_degrees(shapes, turn)
            shapes, jumping = antimeridian.unwrap(shapes, turn)
        shapes, before, share = _valid(shapes, repair=repair)
        placed = placing.place(shapes, crs, grid)
        after, more = np.zeros(len(shapes), bool), 0.0
        if placed.shapes is not shapes:
            shapes, after, more = _valid(placed.shapes, repair=repair, where=" in the grid's CRS")
        return cls(
            shapes=shapes,
            repaired=taken | before | after,
            repaired_area_share=share + more,
            crossing=jumping | placed.crossing,
            densified=placed.densified,
        )

    def report(self, grid: GeoBox, *, kept: Mask, copies: Mask) -> PolygonReport:
        """What there is to say about those that are kept."""
        shapes = self.shapes[kept]
        partly, outside = off_grid(shapes, grid)
        pixel = abs(grid.transform.a * grid.transform.e)
        return PolygonReport(
            polygons=len(shapes),
            repaired=int(self.repaired[kept].sum()),
            repaired_area_share=self.repaired_area_share,
            duplicates=int(copies.sum()),
            dropped=int((~kept).sum()),
            below_pixel=int((shapely.area(shapes) < pixel).sum()),
            partly_outside=int(partly.sum()),
            outside=int(outside.sum()),
            antimeridian=int(self.crossing[kept].sum()),
            densified=int(self.densified[kept].sum()),
        )


def flat(shapes: Shapes) -> Shapes:
    """Geometries without heights and measures, object (polygon,); missing ones stay missing."""
    if (shapely.get_coordinate_dimension(shapes) <= 2).all():
        return shapes
    found: Shapes = shapely.force_2d(shapes)
    return found


def _valid(shapes: Shapes, *, repair: bool, where: str = "") -> tuple[Shapes, Mask, float]:
    """Valid polygons with an area; which were mended; see :func:`cube.polygons.validity.mended`."""
    found = validity.mended(shapes) if repair else (shapes, np.zeros(len(shapes), bool), 0.0)
    if not repair:
        validity.check_valid(shapes, where)
    validity.check_area(found[0])
    return found


def off_grid(shapes: Shapes, grid: GeoBox) -> tuple[Mask, Mask]:
    """Which polygons lie in part, and which wholly, outside a grid; bool (polygon,) each.

    One that only touches the grid lies outside.
    """
    left, bottom, right, top = grid.boundingbox.bbox
    bounds = shapely.bounds(shapes).T
    within = (bounds[0] >= left) & (bounds[1] >= bottom) & (bounds[2] <= right) & (bounds[3] <= top)
    apart = (bounds[0] >= right) | (bounds[1] >= top) | (bounds[2] <= left) | (bounds[3] <= bottom)
    unclear = np.flatnonzero(~within & ~apart)
    box = shapely.box(left, bottom, right, top)
    meets = shapely.relate_pattern(shapes[unclear], box, "T********")  # their insides do
    apart[unclear[~meets]] = True
    return ~within & ~apart, apart
