"""Scenes from GeoTIFFs, and from other rasters that GDAL reads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyproj
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.errors import CRSError, RasterioError

from cube.errors import SourceError
from cube.polygons import datum_is_known
from cube.scenes import Scene, SceneBand

if TYPE_CHECKING:
    from rasterio.io import DatasetReader


def geotiff(  # noqa: PLR0913  (each says what a file may leave out)
    path: str | os.PathLike[str],
    *,
    bands: Sequence[str],
    nodata: float | Literal["none"] | None = None,
    crs: str | None = None,
    resampling: str = "nearest",
    scale: float = 1.0,
    offset: float = 0.0,
) -> Scene:
    """A scene from one file; its metadata is checked, its pixels are not read.

    Args:
        path: The file.
        bands: Names of all its bands, in the file's order.
        nodata: Value of "not observed". None takes what the file declares,
            and refuses a file that declares none; ``"none"`` says that every
            pixel is an observation.
        crs: What the CRS really is, where the file lacks one or names no known
            datum. It replaces the file's own, on purpose.
        resampling: How its pixels become pixels of another grid; see
            :data:`cube.scenes.RESAMPLING`.
        scale: ``physical = stored * scale + offset``.
        offset: See ``scale``.

    Raises:
        SourceError: The file is missing, truncated or no raster, has other
            bands, or does not say its CRS or nodata.
    """
    name = os.fspath(path)
    if "://" not in name and not Path(name).is_file():
        raise SourceError(f"There is no file {name!r}.")
    try:
        with rasterio.open(name) as source:
            _check_bands(source, bands)
            _check_complete(source)
            return Scene(
                id=Path(name).stem,
                layers=tuple(
                    SceneBand(name=band, href=str(Path(name).absolute()), index=i)
                    for i, band in enumerate(bands, start=1)
                ),
                crs=_known_crs(source, crs),
                nodata=_known_nodata(source, nodata),
                scale=scale,
                offset=offset,
                resampling=resampling,
                footprint=tuple(source.bounds),
            )
    except RasterioError as error:
        raise SourceError(f"{name!r} cannot be read as a raster: {error}") from error


def grid_of(path: str | os.PathLike[str], *, crs: str | None = None) -> GeoBox:
    """The grid of a file, for cubes that lie on it.

    Args:
        path: The file.
        crs: See :func:`geotiff`.

    Raises:
        SourceError: The file is missing or no raster, or does not say its CRS.
    """
    name = os.fspath(path)
    try:
        with rasterio.open(name) as source:
            return GeoBox(source.shape, source.transform, _known_crs(source, crs))
    except RasterioError as error:
        raise SourceError(f"{name!r} cannot be read as a raster: {error}") from error


def _check_bands(source: DatasetReader, bands: Sequence[str]) -> None:
    if isinstance(bands, str) or len(bands) != source.count:
        raise SourceError(
            f"{source.name!r} has {source.count} bands; one name for each was expected. "
            f"Received {list(bands) if not isinstance(bands, str) else bands!r}."
        )


def _known_crs(source: DatasetReader, crs: str | None) -> str:
    if crs is not None:
        try:
            return pyproj.CRS.from_user_input(crs).to_string()
        except pyproj.exceptions.CRSError as error:
            raise SourceError(f"crs={crs!r} is no CRS that PROJ knows: {error}.") from error
    if source.crs is None:
        raise SourceError(f"{source.name!r} does not say its CRS; give crs=, e.g. 'EPSG:31985'.")
    try:
        found = pyproj.CRS.from_wkt(source.crs.to_wkt())
    except (CRSError, pyproj.exceptions.CRSError) as error:
        raise SourceError(f"{source.name!r} has a CRS that PROJ cannot read: {error}.") from error
    if not datum_is_known(found):
        raise SourceError(
            f"{source.name!r} names no known datum ({found.name!r}), so it could lie hundreds of "
            f"metres off; say what it is with crs=, e.g. crs='EPSG:31985'."
        )
    return f"EPSG:{found.to_epsg()}" if found.to_epsg() else str(found.to_wkt())


def _known_nodata(source: DatasetReader, nodata: float | Literal["none"] | None) -> float | None:
    if nodata == "none":
        return None
    value = source.nodata if nodata is None else float(nodata)
    if value is None:
        raise SourceError(
            f"{source.name!r} declares no nodata value; give nodata=, or nodata='none' if every "
            f"pixel is an observation."
        )
    kind = np.dtype(source.dtypes[0])
    if kind.kind in "iu" and not (
        float(value).is_integer() and np.iinfo(kind).min <= value <= np.iinfo(kind).max
    ):
        raise SourceError(
            f"{source.name!r} holds {kind.name}, which cannot hold nodata={value:g}. "
            f"Give a value of that dtype, or nodata='none'."
        )
    return float(value)


def _check_complete(source: DatasetReader) -> None:
    """Refuse a TIFF whose blocks end beyond the file, as a broken download leaves it."""
    path = Path(source.name)
    if source.driver != "GTiff" or not path.is_file():
        return
    size = path.stat().st_size
    for band in source.indexes:
        for (row, col), _ in source.block_windows(band):
            end = _block_end(source, row, col, band)
            if end > size:
                raise SourceError(
                    f"{source.name!r} is truncated: band {band} needs {end} bytes, the file has "
                    f"{size}. Fetch it again."
                )


def _block_end(source: DatasetReader, row: int, col: int, band: int) -> int:
    """Offset behind the last byte of a block; 0 for a sparse block, which has none."""
    where = (
        source.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=band)
        for what in ("OFFSET", "SIZE")
    )
    return sum(int(value or 0) for value in where)
