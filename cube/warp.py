"""Reading rasters onto the cube's grid, the same for any cut into regions.

A scene is warped by one virtual raster over the *whole* grid, from which every
region reads its window. GDAL works through that raster in blocks of its own,
so a pixel's value depends on the scene and the grid alone, to the bit.

Three settings make the warp exact. ``tolerance`` near zero turns off GDAL's
linear approximation of the coordinate transform, which depends on the window.
``XSCALE``/``YSCALE`` fix the width of the resampling filter, which GDAL would
otherwise estimate per window (https://gdal.org/en/stable/api/gdalwarp_cpp.html).
``_BLOCKWISE`` keeps GDAL from warping a large window at once, which rounds
otherwise than its blocks do (``VRTWarpedDataset::IRasterIO``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyproj
import rasterio
from affine import Affine
from pyproj.exceptions import CRSError as ProjCRSError
from rasterio.enums import Resampling
from rasterio.errors import CRSError, RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from cube.errors import SourceError

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from rasterio.io import DatasetReader

    from cube.scenes import Scene

_PAD = 256
"""Pixels around the grid that a halo may reach into; a constant, so that the
virtual raster's blocks lie in the same place for every window."""

_EXACT = 1e-6
"""Tolerance of the coordinate transform in pixels; 0 would mean GDAL's default."""

_BLOCKWISE = {"GDAL_VRT_WARP_USE_DATASET_RASTERIO": "NO"}
"""GDAL's option; see above."""

Bounds = tuple[float, float, float, float]


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
    bands: dict[int, npt.NDArray[np.floating[Any]]] = {}
    for href in dict.fromkeys(layer.href for layer in scene.layers):
        places = [i for i, layer in enumerate(scene.layers) if layer.href == href]
        indexes = [scene.layers[i].index for i in places]
        bands |= zip(places, _read_file(scene, href, indexes, grid, (rows, cols)), strict=True)
    # Stacking takes the widest float of the files, so that none loses precision.
    return _physical(np.stack([bands[i] for i in range(len(bands))]), scene)


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
        with rasterio.Env(**_BLOCKWISE), rasterio.open(href) as source:
            if max(indexes) > source.count:
                raise SourceError(
                    f"{scene.id!r}: band {max(indexes)} was asked of {href!r}, "
                    f"which has {source.count}."
                )
            return _warp(scene, source, indexes, grid, box)
    except (RasterioError, CRSError) as error:
        raise SourceError(f"{scene.id!r}: {href!r} cannot be read: {_cause(error)}.") from error


def _warp(
    scene: Scene,
    source: DatasetReader,
    indexes: list[int],
    grid: GeoBox,
    box: tuple[tuple[int, int], tuple[int, int]],
) -> npt.NDArray[np.floating[Any]]:
    (top, bottom), (left, right) = box
    scale_x, scale_y = _filter_scale(source, scene, grid)
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
        # Otherwise a pixel is nodata only where every band of the file is.
        UNIFIED_SRC_NODATA="NO",
    ) as warped:
        window = Window(left + _PAD, top + _PAD, right - left, bottom - top)
        values: npt.NDArray[np.floating[Any]] = warped.read(indexes, window=window)
    return values


def _float_for(dtypes: tuple[str, ...]) -> str:
    """Float that holds every value of these dtypes exactly where one can."""
    wide = {"float64", "int32", "uint32", "int64", "uint64"}
    return "float64" if wide & set(dtypes) else "float32"


def _filter_scale(source: DatasetReader, scene: Scene, grid: GeoBox) -> tuple[float, float]:
    """Destination pixels per source pixel along the source's (x, y), at most 1.

    Below 1 the filter widens, so that coarsening averages instead of aliasing.
    Taken once, where the scene is nearest to the centre of the grid, so that
    every window uses the same.
    """
    onto = _transformer(scene, grid)
    height, width = grid.shape
    x, y = onto.transform(*(grid.transform @ (width / 2, height / 2)), direction="INVERSE")
    col, row = ~source.transform @ (x, y)
    if not (math.isfinite(col) and math.isfinite(row)):
        col, row = source.width / 2, source.height / 2
    cols = min(max(col, 0.0), source.width) + np.array([0.0, 1.0, 0.0])
    rows = min(max(row, 0.0), source.height) + np.array([0.0, 0.0, 1.0])
    t, there = source.transform, ~grid.transform
    xs, ys = onto.transform(t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f)
    with np.errstate(invalid="ignore"):  # what cannot be placed is infinite, and refused below
        cols = there.a * xs + there.b * ys + there.c
        rows = there.d * xs + there.e * ys + there.f
        steps = np.hypot(cols[1:] - cols[0], rows[1:] - rows[0])
    # Equal resolutions differ by rounding alone; a filter of scale 1 is meant.
    steps[steps > 1 - 1e-3] = 1.0
    if not np.all(np.isfinite(steps) & (steps > 0)):
        raise SourceError(f"{source.name!r} cannot be placed on the grid; check its CRS.")
    return float(steps[0]), float(steps[1])


def _transformer(scene: Scene, grid: GeoBox) -> pyproj.Transformer:
    """From the scene's CRS to the grid's, x before y."""
    try:
        return pyproj.Transformer.from_crs(
            scene.crs, grid.crs.to_wkt() if grid.crs else None, always_xy=True
        )
    except ProjCRSError as error:
        raise SourceError(f"{scene.id!r}: its CRS cannot be used: {error}.") from error


def check_overlap(scene: Scene, grid: GeoBox) -> None:
    """Refuse a scene that lies elsewhere.

    Raises:
        SourceError: No pixel of its footprint meets the grid.
    """
    if scene.footprint is None or grid.crs is None:
        return
    onto, box = _transformer(scene, grid), grid.boundingbox.bbox
    covers = onto.transform_bounds(*scene.footprint)
    grid_there = onto.transform_bounds(*box, direction="INVERSE")
    # Either way: bounds of a globe or a full disc exist in one of the two CRSs alone.
    if not (_meet(covers, box) or _meet(grid_there, scene.footprint)):
        raise SourceError(
            f"{scene.id!r} does not meet the grid. It covers {_extent(covers)} in the grid's CRS; "
            f"the grid covers {_extent(box)}. Check the CRS."
        )


def _meet(a: Bounds, b: Bounds) -> bool:
    """True if two boxes (left, bottom, right, top) share an area; never if one is infinite."""
    return all(map(math.isfinite, (*a, *b))) and (
        a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    )


def _extent(bounds: Bounds) -> str:
    return f"x {bounds[0]:.6g}..{bounds[2]:.6g}, y {bounds[1]:.6g}..{bounds[3]:.6g}"


def _cause(error: BaseException) -> str:
    """The innermost message: GDAL's own, which names the file and the reason."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).rstrip(".")
