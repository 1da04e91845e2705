"""Reading rasters onto the cube's grid, the same for any cut into regions.

A file whose pixels are the grid's own is read as it is. Else values are taken at the places of
the grid's pixels, averaged over them, or spread over them (:mod:`cube.sampling`). The commonest
class of a pixel is GDAL's to find (:mod:`cube.filters`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from odc.geo.geobox import GeoBox

from cube.coarsening import KERNELS
from cube.coordinates import Place, check_crs, same_crs, source_xy
from cube.errors import SourceError
from cube.filters import BLOCKWISE, filter_scale, filtered
from cube.kernels import REACH
from cube.rasters import read_window, shown, with_raster
from cube.sampling import averaged, deposited, sampled
from cube.scenes import HALO_PX, Scene, SceneBand, Span

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Floats = npt.NDArray[np.floating[Any]]

_SAME = 1e-6
"""Pixels by which a file may miss the grid and still have the same pixels."""

_UNCOARSENED = 0.95
"""Destination pixels per source pixel from which GDAL, too, takes the next four pixels alone."""


def read_scene(
    scene: Scene, grid: GeoBox, rows: Span, cols: Span, bands: Sequence[str] | None = None
) -> Floats:
    """Physical values of a pixel box of a grid; see :meth:`cube.scenes.Source.read`.

    Args:
        scene: The files.
        grid: The whole target grid.
        rows: Half-open range along y.
        cols: Half-open range along x.
        bands: Some of the scene's, in this order; None for all.

    Raises:
        SourceError: A file is missing, damaged or lacks a band; or the box
            reaches further outside the grid than a halo may.
    """
    check_box(grid, rows, cols)
    check_crs(scene.crs, grid, what=repr(scene.id))
    layers = [scene.band(name) for name in bands or scene.bands]
    groups = _together(layers)
    parts = []
    for places in groups:
        these = [layers[i] for i in places]
        use = partial(_read, scene=scene, grid=grid, box=(rows, cols), layers=these)
        values = with_raster(these[0].href, use, what=repr(scene.id), options=BLOCKWISE)
        for band, layer in zip(values, these, strict=True):
            _make_physical(band, layer)
        parts.append(values)
    if len(parts) == 1:
        return parts[0]
    # Joining takes the widest float of the files, so that none loses precision.
    return np.concatenate(parts)[np.argsort([i for places in groups for i in places])]


def check_box(grid: GeoBox, rows: Span, cols: Span) -> None:
    """Refuse a box that reaches further outside the grid than a halo may.

    Raises:
        SourceError: By more than :data:`cube.scenes.HALO_PX` pixels.
    """
    height, width = grid.shape
    if min(rows[0], cols[0]) < -HALO_PX or rows[1] > height + HALO_PX or cols[1] > width + HALO_PX:
        raise SourceError(f"A halo may reach {HALO_PX} pixels outside the grid, not more.")


def _together(layers: Sequence[SceneBand]) -> list[list[int]]:
    """Places of bands that are read together: of one file, resampled alike, with one nodata."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for i, layer in enumerate(layers):
        key = layer.href, str(layer.resampling), str(layer.nodata)
        found.setdefault(key, []).append(i)
    return list(found.values())


def _make_physical(values: Floats, layer: SceneBand) -> None:
    """Stored values to physical ones, in place."""
    if layer.valid_range is not None:
        low, high = layer.valid_range
        np.copyto(values, np.nan, where=(values < low) | (values > high))
    if (layer.scale, layer.offset) != (1.0, 0.0):
        for rows in values:  # so that what is computed in float64 stays in a core's cache
            rows[...] = rows.astype("float64") * layer.scale + layer.offset
    if layer.clip is not None:
        np.clip(values, *layer.clip, out=values)


def _read(
    raster: DatasetReader,
    *,
    scene: Scene,
    grid: GeoBox,
    box: tuple[Span, Span],
    layers: Sequence[SceneBand],
) -> Floats:
    """Stored values as floats, NaN for nodata: shape (band, rows, cols)."""
    _check_bands(raster, scene, layers)
    place = _place(raster, scene)
    shift = _aligned(place, grid)
    if shift is not None:
        (top, bottom), (left, right), (down, across) = *box, shift
        return read_window(
            raster, layers, (top + down, bottom + down), (left + across, right + across)
        )
    resampling = str(layers[0].resampling)
    if resampling == "sum":
        return deposited(raster, place, grid, box, layers)
    scale = filter_scale(raster, place, grid)
    if resampling == "nearest" or (resampling in REACH and min(scale) >= _UNCOARSENED):
        return sampled(raster, place, grid, box, layers)
    if resampling in KERNELS:
        return sampled(raster, place, grid, box, layers, scale)
    if resampling == "average":
        return averaged(raster, place, grid, box, layers)
    if _turned(place, grid) or _beyond(place, grid):
        raise SourceError(
            f"{scene.id!r}: {resampling} resampling does not go round the globe, as this grid "
            f"would have it; use another, or a file of longitudes from -180 to 180."
        )
    return filtered(raster, place, grid, box, layers, scale)


def _check_bands(raster: DatasetReader, scene: Scene, layers: Sequence[SceneBand]) -> None:
    last = max(layer.index for layer in layers)
    if last > raster.count:
        raise SourceError(
            f"{scene.id!r}: band {last} was asked of {shown(layers[0].href)!r}, which has "
            f"{raster.count}."
        )
    if any(raster.dtypes[layer.index - 1].startswith("complex") for layer in layers):
        raise SourceError(
            f"{scene.id!r}: {shown(layers[0].href)!r} holds complex numbers; compute amplitudes "
            f"or intensities first."
        )


def _place(raster: DatasetReader, scene: Scene) -> Place:
    transform = Affine(*scene.transform) if scene.transform else raster.transform
    placed = all(map(math.isfinite, transform)) and transform.determinant != 0
    if not scene.transform and (transform.is_identity or not placed):
        raise SourceError(
            f"{scene.id!r}: {shown(raster.name)!r} does not say where its pixels lie; give the "
            f"scene a transform=."
        )
    return Place(scene.crs, transform, raster.width)


def _turned(place: Place, grid: GeoBox) -> bool:
    """True where part of a grid in degrees lies a turn of the globe away from a file's columns."""
    if place.turn_px is None or not same_crs(place.crs, grid):
        return False
    onto = ~place.transform @ grid.transform
    ends = onto.c, onto.c + onto.a * grid.shape[1]
    return any(abs(end - place.width / 2) > place.turn_px / 2 + _SAME for end in ends)


def _beyond(place: Place, grid: GeoBox) -> bool:
    """True where a grid of another CRS meets longitudes of a file beyond 180 degrees.

    PROJ gives none, so that GDAL finds nothing there.
    """
    if place.turn_px is None or same_crs(place.crs, grid):
        return False
    t, half_px = place.transform, place.turn_px / 2
    zero = -t.c / t.a
    if max(abs(zero), abs(place.width - zero)) <= half_px + _SAME:
        return False
    # A look here and there suffices: a grid meets such longitudes over a breadth, or crosses.
    height, width = grid.shape
    apart = Affine.scale(width / _LOOKS, height / _LOOKS)
    coarse = GeoBox((_LOOKS, _LOOKS), grid.transform @ apart, grid.crs)
    lon, _ = source_xy(place.crs, coarse, (0, _LOOKS), (0, _LOOKS))
    cols = lon[np.isfinite(lon)] / t.a + zero
    there = cols - place.turn_px * np.round((cols - place.width / 2) / place.turn_px)
    moved = (np.abs(there - cols) > half_px) & (there >= 0) & (there <= place.width)
    return bool(moved.any()) or bool(cols.size and np.ptp(cols) > half_px)


_LOOKS = 33
"""Along each side of a grid."""


def _aligned(place: Place, grid: GeoBox) -> Span | None:
    """Rows and columns from the grid's first pixel to the file's, if their pixels are the same."""
    if not same_crs(place.crs, grid):
        return None
    height, width = grid.shape
    onto = ~place.transform @ grid.transform
    col, row = round(onto.c), round(onto.f)
    if _turned(place, grid):
        return None
    for corner in ((0, 0), (width, 0), (0, height), (width, height)):
        there = onto @ corner
        if max(abs(there[0] - corner[0] - col), abs(there[1] - corner[1] - row)) > _SAME:
            return None
    return row, col
