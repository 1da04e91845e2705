"""Polygons brought onto a grid: cut where its longitudes end, bent where its edges are curved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyproj

from cube.polygons import antimeridian, densifying
from cube.polygons.densifying import Points, Projection
from cube.polygons.geometries import Shapes
from cube.spec import crs_text

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placed:
    """Polygons in the CRS of a grid.

    Attributes:
        shapes: Object (polygon,).
        crossing: Which cross the antimeridian, or were cut where the CRS ends, bool (polygon,).
        densified: Which have corners added to their edges, bool (polygon,).
    """

    shapes: Shapes
    crossing: Mask
    densified: Mask


def place(shapes: Shapes, source: pyproj.CRS, grid: GeoBox) -> Placed:
    """Bring polygons into the CRS of a grid.

    Args:
        shapes: Valid (multi)polygons, continuous, see :func:`cube.polygons.antimeridian.unwrap`;
            object (polygon,).
        source: Their CRS.
        grid: The grid that they will be laid over.

    Raises:
        PolygonError: One cannot be brought there.
    """
    target = pyproj.CRS.from_user_input(crs_text(grid))
    transform = None if source.is_exact_same(target) else transformer(source, target)
    shapes, cut = _cut(shapes, source, target, grid, transform)
    densified = np.zeros(len(shapes), bool)
    crossing = cut
    if transform is not None:
        turn = antimeridian.turn_of(target)
        pixel = (abs(grid.transform.a), abs(grid.transform.e))
        shapes, densified = densifying.place(
            shapes, Projection(transform=transform, pixel=pixel, turn=turn)
        )
        if turn is not None and not source.is_geographic:
            shapes, jumping = antimeridian.unwrap(shapes, turn)
            shapes, cut = antimeridian.fit(shapes, antimeridian.grid_seam(grid, turn), turn)
            crossing = jumping | cut
    return Placed(shapes=shapes, crossing=crossing, densified=densified)


def _cut(
    shapes: Shapes,
    source: pyproj.CRS,
    target: pyproj.CRS,
    grid: GeoBox,
    transform: Callable[[Points], Points] | None,
) -> tuple[Shapes, Mask]:
    """Cut polygons in degrees where the longitudes or the plane of a grid end, and only there."""
    turn = antimeridian.turn_of(source)
    nowhere = np.zeros(len(shapes), bool)
    if turn is None:
        return shapes, nowhere
    there = antimeridian.turn_of(target)
    if there is not None:
        seam = antimeridian.grid_seam(grid, there) * turn / there
        return antimeridian.fit(shapes, seam, turn)
    if transform is None:
        return shapes, nowhere
    end, joined = antimeridian.projection_seam(target, transform, turn), nowhere
    if end is None or abs(end) != turn / 2:
        shapes, joined = antimeridian.rejoin(shapes, turn)
    if end is None:
        return shapes, joined
    shapes, cut = antimeridian.fit(shapes, end, turn, projected=True)
    return shapes, joined | cut


def transformer(source: pyproj.CRS, target: pyproj.CRS) -> Callable[[Points], Points]:
    """Transform points as ``GeoDataFrame.to_crs`` does, x and y first.

    Longitudes stay on the turn that they are on: 190 becomes no -170.
    """
    pipeline = pyproj.Transformer.from_crs(source, target, always_xy=True)
    turns = antimeridian.turn_of(source), antimeridian.turn_of(target)

    def transform(xy: Points) -> Points:
        out = np.column_stack(pipeline.transform(xy[:, 0], xy[:, 1]))
        if turns[0] is not None and turns[1] is not None:
            with np.errstate(invalid="ignore"):  # of points without a place
                away = np.round(xy[:, 0] / turns[0] - out[:, 0] / turns[1])
                out[:, 0] += np.where(away == 0, 0.0, away * turns[1])
        return out

    return transform
