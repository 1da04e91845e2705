"""Small GeoTIFFs and grids for tests."""

from __future__ import annotations

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

UTM = "EPSG:32725"
"""UTM zone 25 south, metres: where Olinda lies."""

LEFT, TOP = 290_000.0, 9_110_000.0
"""Upper left corner of :func:`grid_at` in :data:`UTM`."""


def grid_at(shape, *, pixel_m=30.0, shift=(0.0, 0.0), crs=UTM, corner=(LEFT, TOP)):
    """North-up grid of ``shape`` (y, x); ``shift`` moves it by pixels down and right."""
    left, top = corner[0] + shift[1] * pixel_m, corner[1] - shift[0] * pixel_m
    return GeoBox(shape, Affine(pixel_m, 0.0, left, 0.0, -pixel_m, top), crs)


def write_tiff(path, values, *, grid=None, nodata=None, **profile):
    """Write (y, x) or (band, y, x) as a GeoTIFF on a grid; return the path as text."""
    values = np.asarray(values)
    values = values[None] if values.ndim == 2 else values
    grid = grid_at(values.shape[1:]) if grid is None else grid
    profile = {
        "driver": "GTiff",
        "crs": grid.crs.to_wkt() if grid.crs else None,
        "transform": grid.transform,
        **profile,
    }
    count, height, width = values.shape
    with rasterio.open(
        path,
        "w",
        count=count,
        height=height,
        width=width,
        dtype=values.dtype.name,
        nodata=nodata,
        **profile,
    ) as target:
        target.write(values)
    return str(path)


def positions(shape):
    """A raster whose value tells where it is: 1000 * row + column, float32."""
    rows, cols = np.indices(shape)
    return (1000.0 * rows + cols).astype("float32")


def noise(shape, *, seed=0, dtype="float32"):
    """Unit normal noise; for integers, whole numbers 1..200."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind in "iu":
        return rng.integers(1, 201, shape).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


def whole(grid):
    """Row and column range of the whole grid."""
    return (0, grid.shape[0]), (0, grid.shape[1])
