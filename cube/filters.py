"""GDAL's way of finding the commonest class, the same for any cut into regions.

A scene is one virtual raster over the *whole* grid, from which every region reads its window.
GDAL works through that raster in blocks of its own, so a pixel's value depends on the scene and
the grid alone, to the bit. Three settings make that exact. ``tolerance`` near zero turns off
GDAL's linear approximation of the coordinate transform, which depends on the window.
``XSCALE``/``YSCALE`` fix the width of the resampling filter, which GDAL would otherwise estimate
per window (https://gdal.org/en/stable/api/gdalwarp_cpp.html). :data:`BLOCKWISE` keeps GDAL from
warping a large window at once, which rounds otherwise than its blocks do
(``VRTWarpedDataset::IRasterIO``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import MaskFlags, Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from cube.coordinates import Place, pixel_places, to_grid
from cube.errors import SourceError
from cube.rasters import float_for, shown
from cube.scenes import HALO_PX, SceneBand, Span

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Floats = npt.NDArray[np.floating[Any]]

PAD = HALO_PX
"""Pixels of the virtual raster around the grid; a constant, so that its blocks lie in the same
place for every window."""

_EXACT = 1e-6
"""Tolerance of the coordinate transform in pixels; 0 would mean GDAL's default."""

BLOCKWISE = {"GDAL_VRT_WARP_USE_DATASET_RASTERIO": "NO"}
"""GDAL's option; see above."""


def filtered(
    raster: DatasetReader,
    place: Place,
    grid: GeoBox,
    box: tuple[Span, Span],
    layers: Sequence[SceneBand],
    scale: tuple[float, float],
) -> Floats:
    """What GDAL's filters make of a file, through one virtual raster over the whole grid.

    Args:
        raster: The file.
        place: Where its pixels lie.
        grid: The target grid.
        box: Rows and columns of the grid; may reach :data:`PAD` pixels outside.
        layers: Bands of the file, all resampled, and with the nodata, of the first.
        scale: See :func:`filter_scale`.

    Returns:
        Stored values as floats, (band, rows, cols), NaN for nodata and outside the file.
    """
    with ExitStack() as stages:
        source, nodata = _observed(raster, place, layers, stages)
        warped = stages.enter_context(
            WarpedVRT(
                source,
                src_crs=place.crs,
                src_transform=place.transform,
                crs=grid.crs.to_wkt() if grid.crs else None,
                transform=grid.transform @ Affine.translation(-PAD, -PAD),
                width=grid.shape[1] + 2 * PAD,
                height=grid.shape[0] + 2 * PAD,
                src_nodata=nodata,
                nodata=math.nan,
                dtype=float_for(raster.dtypes),
                resampling=Resampling[str(layers[0].resampling)],
                tolerance=_EXACT,
                XSCALE=scale[0],
                YSCALE=scale[1],
                # Otherwise a pixel is nodata only where every band of the file is.
                UNIFIED_SRC_NODATA="NO",
            )
        )
        window = Window.from_slices(*(_moved(span) for span in box))
        values: Floats = warped.read([layer.index for layer in layers], window=window)
    return values


def _observed(
    raster: DatasetReader, place: Place, layers: Sequence[SceneBand], stages: ExitStack
) -> tuple[DatasetReader, float | None]:
    """A raster, and the one value of it that GDAL is to take for "not observed".

    GDAL looks at a file's mask only where no nodata is declared, and at NaN only where that is
    the nodata; here all of them count. So what would be overlooked becomes NaN first, pixel by
    pixel, in a virtual raster in between.
    """
    nodata: Any = layers[0].nodata
    flags = raster.mask_flag_enums[layers[0].index - 1]
    masked = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
    floats = any("float" in raster.dtypes[layer.index - 1] for layer in layers)
    if nodata is None and not floats:
        return raster, None
    first = [None] if masked else []
    then = [float(nodata)] if nodata is not None and not math.isnan(nodata) else []
    if not masked and not floats:
        return raster, then[0] if then else None
    for missing in (*first, *then):
        raster = stages.enter_context(
            WarpedVRT(
                raster,
                src_crs=place.crs,
                src_transform=place.transform,
                crs=place.crs,
                transform=place.transform,
                width=raster.width,
                height=raster.height,
                src_nodata=missing,
                nodata=math.nan,
                dtype=float_for(raster.dtypes),
                resampling=Resampling.nearest,
                tolerance=_EXACT,
                XSCALE=1.0,
                YSCALE=1.0,
                UNIFIED_SRC_NODATA="NO",
            )
        )
    return raster, math.nan


def _moved(span: Span) -> Span:
    return span[0] + PAD, span[1] + PAD


def filter_scale(raster: DatasetReader, place: Place, grid: GeoBox) -> tuple[float, float]:
    """Destination pixels per source pixel along the source's (x, y), at most 1.

    Below 1 the filter widens, so that coarsening averages instead of aliasing.
    Taken once, where the scene is nearest to the centre of the grid, so that
    every window uses the same.

    Raises:
        SourceError: The file cannot be placed on the grid.
    """
    height, width = grid.shape
    middle = Affine.translation(width // 2, height // 2)
    centre = GeoBox((1, 1), grid.transform @ middle, grid.crs)
    places = pixel_places(place, centre, (0, 1), (0, 1))
    col, row = (float(axis[0, 0]) for axis in places)
    if not (math.isfinite(col) and math.isfinite(row)):
        col, row = raster.width / 2, raster.height / 2
    cols = min(max(col, 0.0), raster.width) + np.array([0.0, 1.0, 0.0])
    rows = min(max(row, 0.0), raster.height) + np.array([0.0, 0.0, 1.0])
    t = place.transform
    across, down = to_grid(
        place.crs, grid, t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f
    )
    with np.errstate(invalid="ignore"):  # what cannot be placed is infinite, and refused below
        steps = np.hypot(across[1:] - across[0], down[1:] - down[0])
    # Equal resolutions differ by rounding alone; a filter of scale 1 is meant.
    steps[steps > 1 - 1e-3] = 1.0
    if not np.all(np.isfinite(steps) & (steps > 0)):
        raise SourceError(f"{shown(raster.name)!r} cannot be placed on the grid; check its CRS.")
    return float(steps[0]), float(steps[1])
