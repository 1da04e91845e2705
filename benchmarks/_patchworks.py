"""Made polygons that cover a grid without gap or overlap, as census blocks do."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import shapely
from odc.geo.geobox import GeoBox

LEFT, TOP, STEP_M = 300_000, 9_000_000, 30


def square_grid(side: int) -> GeoBox:
    """A projected grid of 30 m."""
    box = (LEFT, TOP - side * STEP_M, LEFT + side * STEP_M, TOP)
    return GeoBox.from_bbox(box, crs="EPSG:31985", resolution=STEP_M)


def voronoi(grid: GeoBox, count: int) -> gpd.GeoDataFrame:
    """Voronoi cells of random points, clipped to the grid."""
    box = grid.boundingbox
    rng = np.random.default_rng(0)
    points = rng.uniform((box.left, box.bottom), (box.right, box.top), (count, 2))
    cells = shapely.voronoi_polygons(shapely.multipoints(points)).geoms
    outline = shapely.box(*box.bbox)
    return gpd.GeoDataFrame(geometry=shapely.intersection(list(cells), outline), crs=grid.crs.proj)


def bent_squares(grid: GeoBox, across: int) -> gpd.GeoDataFrame:
    """Squares with bent corners and edges, ``across`` times ``across``; eight corners each."""
    side = grid.shape[0] / across
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(*[np.arange(across + 1) * side] * 2)
    corners = np.stack([x, y], axis=-1)
    corners[1:-1, 1:-1] += rng.uniform(-0.3, 0.3, (across - 1, across - 1, 2)) * side
    flat, upright = (corners[:, :-1] + corners[:, 1:]) / 2, (corners[:-1] + corners[1:]) / 2
    flat[1:-1] += rng.uniform(-0.1, 0.1, flat[1:-1].shape) * side
    upright[:, 1:-1] += rng.uniform(-0.1, 0.1, upright[:, 1:-1].shape) * side
    ring = [
        corners[:-1, :-1], flat[:-1], corners[:-1, 1:], upright[:, 1:],
        corners[1:, 1:], flat[1:], corners[1:, :-1], upright[:, :-1], corners[:-1, :-1],
    ]  # fmt: skip
    places = np.stack(ring, axis=2).reshape(across**2, 9, 2) * [STEP_M, -STEP_M] + [LEFT, TOP]
    ids = np.char.zfill(np.arange(across**2).astype(str), 15)
    shapes = shapely.polygons(places)
    return gpd.GeoDataFrame({"geoid": ids}, geometry=shapes, crs=grid.crs.proj)
