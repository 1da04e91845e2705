"""Scenes from GeoTIFFs, and from other rasters that GDAL reads."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyproj
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.enums import MaskFlags
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError

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
        path: The file, or a URL that GDAL reads.
        bands: Names of all its bands, in the file's order.
        nodata: Value of "not observed". None takes what the file declares,
            and refuses a file that declares none; ``"none"`` says that every
            pixel is an observation. Where a file has a mask or an alpha band,
            what that leaves out is nodata in any case.
        crs: What the CRS really is, where the file lacks one or names no known
            datum. It replaces the file's own, on purpose.
        resampling: How its pixels become pixels of another grid; see
            :data:`cube.scenes.RESAMPLING`.
        scale: ``physical = stored * scale + offset``.
        offset: See ``scale``.

    Raises:
        SourceError: The file is missing, truncated or no raster, has other
            bands, or does not say its place, CRS or nodata.
    """
    with _opened(path) as source:
        _check_bands(source, bands)
        _check_complete(source)
        href = _href(path)
        return Scene(
            id=Path(href).stem,
            layers=tuple(
                SceneBand(name=band, href=href, index=i) for i, band in enumerate(bands, start=1)
            ),
            crs=_known_crs(source, crs),
            nodata=_known_nodata(source, nodata),
            scale=scale,
            offset=offset,
            resampling=resampling,
            footprint=_bounds(source),
        )


def grid_of(path: str | os.PathLike[str], *, crs: str | None = None) -> GeoBox:
    """The grid of a file, for cubes that lie on it.

    Args:
        path: The file.
        crs: See :func:`geotiff`.

    Raises:
        SourceError: The file is missing or no raster, or does not say its place or CRS.
    """
    with _opened(path) as source:
        return GeoBox(source.shape, source.transform, _known_crs(source, crs))


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[DatasetReader]:
    """A raster whose pixels have a place."""
    name = os.fspath(path)
    if _is_local(name) and not Path(name).is_file():
        raise SourceError(f"There is no file {name!r}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # refused below
            source = rasterio.open(name)
        with source:
            _check_placed(source)
            yield source
    except RasterioError as error:
        raise SourceError(f"{name!r} cannot be read as a raster: {error}") from error


def _is_local(name: str) -> bool:
    """False for URLs and for GDAL's virtual files, such as /vsizip/."""
    return "://" not in name and not name.startswith("/vsi")


def _href(path: str | os.PathLike[str]) -> str:
    name = os.fspath(path)
    return str(Path(name).absolute()) if _is_local(name) else name


def _check_placed(source: DatasetReader) -> None:
    transform = source.transform
    if transform.is_identity or transform.determinant == 0 or not _finite(tuple(transform)):
        raise SourceError(
            f"{source.name!r} does not say where its pixels lie (geotransform "
            f"{tuple(transform)[:6]}). Georeference it first, e.g. with gdal_translate -a_ullr."
        )


def _finite(numbers: Sequence[float]) -> bool:
    return all(map(math.isfinite, numbers))


def _bounds(source: DatasetReader) -> tuple[float, float, float, float]:
    """Left, bottom, right, top of the four corners; a file may be south-up or rotated."""
    corners = [
        source.transform @ (col, row) for col in (0, source.width) for row in (0, source.height)
    ]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _check_bands(source: DatasetReader, bands: Sequence[str]) -> None:
    if isinstance(bands, str) or len(bands) != source.count:
        raise SourceError(
            f"{source.name!r} has {source.count} bands; one name for each was expected. "
            f"Received {list(bands) if not isinstance(bands, str) else bands!r}."
        )
    if any(dtype.startswith("complex") for dtype in source.dtypes):
        raise SourceError(
            f"{source.name!r} holds complex numbers, of which a cube would keep the real part "
            f"alone; compute amplitudes or intensities first."
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
    if nodata is None and len(set(map(str, source.nodatavals))) > 1:
        raise SourceError(
            f"{source.name!r} declares another nodata value for each band, "
            f"{', '.join(map(str, source.nodatavals))}; a scene has one. Give nodata=, or make a "
            f"file per nodata value."
        )
    value = source.nodata if nodata is None else float(nodata)
    if value is None and MaskFlags.per_dataset in source.mask_flag_enums[0]:
        return None
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
