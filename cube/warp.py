"""Reading rasters onto the cube's grid, the same for any cut into regions.

A scene is warped by one virtual raster over the *whole* grid, from which every
region reads its window. GDAL works through that raster in blocks of its own,
so a pixel's value depends on the scene and the grid alone, to the bit.

Two settings make the warp exact. ``tolerance`` near zero turns off GDAL's
linear approximation of the coordinate transform, which depends on the window.
``XSCALE``/``YSCALE`` fix the width of the resampling filter, which GDAL would
otherwise estimate per window (https://gdal.org/en/stable/api/gdalwarp_cpp.html).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform, transform_bounds
from rasterio.windows import Window

from cube.errors import SourceError
from cube.scenes import Scene

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from rasterio.io import DatasetReader

_PAD = 256
"""Pixels around the grid that a halo may reach into; a constant, so that the
virtual raster's blocks lie in the same place for every window."""

_EXACT = 1e-6
"""Tolerance of the coordinate transform in pixels; 0 would mean GDAL's default."""


def read_scene(
    scene: Scene, grid: GeoBox, rows: tuple[int, int], cols: tuple[int, int]
) -> npt.NDArray[np.floating[Any]]:
    """Physical values of a pixel box of a grid; see :meth:`cube.scenes.Source.read`.

    Raises:
        SourceError: A file is missing, damaged or lacks a band; or the box
            reaches further outside the grid than a halo may.
    """
    if (
        min(rows[0], cols[0]) < -_PAD
        or rows[1] > grid.shape[0] + _PAD
        or (cols[1] > grid.shape[1] + _PAD)
    ):
        raise SourceError(f"A halo may reach {_PAD} pixels outside the grid, not more.")
    out: npt.NDArray[np.floating[Any]] | None = None
    for href in dict.fromkeys(layer.href for layer in scene.layers):
        places = [i for i, layer in enumerate(scene.layers) if layer.href == href]
        values = _read_file(
            scene, href, [scene.layers[i].index for i in places], grid, (rows, cols)
        )
        if out is None:
            out = np.empty((len(scene.layers), *values.shape[1:]), values.dtype)
        out[places] = values
    if out is None:
        raise SourceError(f"Scene {scene.id!r} has no files.")
    return _physical(out, scene)


def _physical(values: npt.NDArray[np.floating[Any]], scene: Scene) -> npt.NDArray[np.floating[Any]]:
    if (scene.scale, scene.offset) == (1.0, 0.0):
        return values
    scaled = values.astype("float64") * scene.scale + scene.offset
    return scaled.astype(values.dtype)


def _read_file(
    scene: Scene,
    href: str,
    indexes: list[int],
    grid: GeoBox,
    box: tuple[tuple[int, int], tuple[int, int]],
) -> npt.NDArray[np.floating[Any]]:
    try:
        with rasterio.open(href) as source:
            if max(indexes) > source.count:
                raise SourceError(
                    f"{scene.id!r}: band {max(indexes)} was asked of {href!r}, "
                    f"which has {source.count}."
                )
            return _warp(scene, source, indexes, grid, box)
    except RasterioError as error:
        raise SourceError(f"{scene.id!r}: {href!r} cannot be read: {_cause(error)}.") from error


def _warp(
    scene: Scene,
    source: DatasetReader,
    indexes: list[int],
    grid: GeoBox,
    box: tuple[tuple[int, int], tuple[int, int]],
) -> npt.NDArray[np.floating[Any]]:
    (top, bottom), (left, right) = box
    scale_x, scale_y = _filter_scale(source, scene.crs, grid)
    with WarpedVRT(
        source,
        src_crs=scene.crs,
        crs=grid.crs.to_wkt() if grid.crs else None,
        transform=grid.transform @ Affine.translation(-_PAD, -_PAD),
        width=grid.shape[1] + 2 * _PAD,
        height=grid.shape[0] + 2 * _PAD,
        src_nodata=scene.nodata,
        nodata=math.nan,
        dtype=_float_for(source.dtypes),
        resampling=Resampling[scene.resampling],
        tolerance=_EXACT,
        XSCALE=scale_x,
        YSCALE=scale_y,
    ) as warped:
        window = Window(left + _PAD, top + _PAD, right - left, bottom - top)
        values: npt.NDArray[np.floating[Any]] = warped.read(indexes, window=window)
    return values


def _float_for(dtypes: tuple[str, ...]) -> str:
    """Float that holds every value of these dtypes exactly where one can."""
    wide = {"float64", "int32", "uint32", "int64", "uint64"}
    return "float64" if wide & set(dtypes) else "float32"


def _filter_scale(source: DatasetReader, crs: str, grid: GeoBox) -> tuple[float, float]:
    """Destination pixels per source pixel along the source's (x, y), at most 1.

    Below 1 the filter widens, so that coarsening averages instead of aliasing.
    Taken once, at the centre of the scene, so that every window uses the same.
    """
    t, there = source.transform, ~grid.transform
    cols = source.width / 2 + np.array([0.0, 1.0, 0.0])
    rows = source.height / 2 + np.array([0.0, 0.0, 1.0])
    xs, ys = t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f
    placed = transform(crs, grid.crs.to_wkt() if grid.crs else None, xs, ys)
    xs, ys = (np.asarray(part, "float64") for part in placed[:2])
    cols = there.a * xs + there.b * ys + there.c
    rows = there.d * xs + there.e * ys + there.f
    steps = np.hypot(cols[1:] - cols[0], rows[1:] - rows[0])
    # Equal resolutions differ by rounding alone; a filter of scale 1 is meant.
    steps[steps > 1 - 1e-3] = 1.0
    if not np.all(np.isfinite(steps) & (steps > 0)):
        raise SourceError(f"{source.name!r} cannot be placed on the grid; check its CRS.")
    return float(steps[0]), float(steps[1])


def check_overlap(scene: Scene, grid: GeoBox) -> None:
    """Refuse a scene that lies elsewhere.

    Raises:
        SourceError: No pixel of its footprint meets the grid.
    """
    if scene.footprint is None or grid.crs is None:
        return
    left, bottom, right, top = transform_bounds(scene.crs, grid.crs.to_wkt(), *scene.footprint)
    box = grid.boundingbox
    if right <= box.left or left >= box.right or top <= box.bottom or bottom >= box.top:
        raise SourceError(
            f"{scene.id!r} does not meet the grid. It covers x {left:.6g}..{right:.6g}, "
            f"y {bottom:.6g}..{top:.6g} in the grid's CRS; the grid covers "
            f"x {box.left:.6g}..{box.right:.6g}, y {box.bottom:.6g}..{box.top:.6g}. Check the CRS."
        )


def _cause(error: BaseException) -> str:
    """The innermost message: GDAL's own, which names the file and the reason."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).rstrip(".")
