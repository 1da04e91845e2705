"""Scenes from GeoTIFFs, and from other rasters that GDAL reads."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import pyproj
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import MaskFlags
from rasterio.errors import CRSError, NotGeoreferencedWarning

from cube.errors import SourceError, SpecError
from cube.polygons import datum_is_known
from cube.rasters import shown, with_raster
from cube.scenes import Scene, SceneBand, utc

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Result = TypeVar("Result")


def geotiff(  # noqa: PLR0913  (each says what a file may leave out)
    path: str | os.PathLike[str],
    *,
    bands: Sequence[str],
    nodata: float | Literal["none"] | None = None,
    crs: str | None = None,
    resampling: str | Mapping[str, str] = "nearest",
    scale: float = 1.0,
    offset: float = 0.0,
    quality: Sequence[str] = (),
    time: str | datetime | None = None,
    id: str | None = None,
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
        resampling: How its pixels become pixels of another grid, for all bands
            or by their name; see :data:`cube.scenes.RESAMPLING`. What a mapping
            leaves out is ``"nearest"``.
        scale: ``physical = stored * scale + offset``.
        offset: See ``scale``.
        quality: Bands of classes or flags among ``bands``: they keep their
            stored numbers, and are taken from the nearest pixel. A file of
            them alone need not declare a nodata value.
        time: When it was taken, ISO 8601 or a datetime; without a zone in UTC.
        id: Name for reports; None takes the file's.

    Raises:
        SourceError: The file is missing, truncated or no raster, has other
            bands, or does not say its place, CRS or nodata.
        SpecError: ``resampling`` or ``quality`` names no band of ``bands``, or
            ``time`` is none.
    """

    def declared(source: DatasetReader) -> Scene:
        check_placed(source)
        _check_bands(source, bands)
        _check_complete(source)
        name = Path(href).stem if id is None else id
        return Scene(
            id=name,
            layers=layers_of(
                [(band, href, i) for i, band in enumerate(bands, start=1)],
                resampling=resampling,
                quality=quality,
            ),
            crs=known_crs(source, crs),
            nodata=_known_nodata(source, nodata, flags=set(bands) <= set(quality)),
            scale=scale,
            offset=offset,
            resampling=resampling if isinstance(resampling, str) else "nearest",
            footprint=bounds_of(source),
            time=None if time is None else utc(time, what=f"Scene {name!r}"),
        )

    href = _href(path)
    return _looked_at(href, declared)


def layers_of(
    places: Sequence[tuple[str, str, int]],
    *,
    resampling: str | Mapping[str, str],
    quality: Sequence[str],
) -> tuple[SceneBand, ...]:
    """Bands of a scene, those of classes and flags as they are stored.

    Args:
        places: Name, file and place in the file of each band.
        resampling: See :func:`geotiff`.
        quality: See :func:`geotiff`.

    Raises:
        SpecError: ``resampling`` or ``quality`` names another band.
    """
    names = [name for name, _, _ in places]
    own = {} if isinstance(resampling, str) else dict(resampling)
    for what, named in (("resampling", own), ("quality", quality)):
        unknown = [name for name in named if name not in names]
        if unknown or isinstance(named, str):
            raise SpecError(
                f"{what}= must name bands of the scene, which are {', '.join(names)}. "
                f"Received {named!r}."
            )
    return tuple(
        SceneBand(name=name, href=href, index=index, scale=1.0, offset=0.0, resampling="nearest")
        if name in quality
        else SceneBand(name=name, href=href, index=index, resampling=own.get(name))
        for name, href, index in places
    )


def grid_of(path: str | os.PathLike[str] | Scene, *, crs: str | None = None) -> GeoBox:
    """The grid of a file, for cubes that lie on it.

    Args:
        path: The file; or a scene, for that of its first band.
        crs: See :func:`geotiff`.

    Raises:
        SourceError: The file is missing or no raster, or does not say its place or CRS.
    """

    def declared(source: DatasetReader) -> GeoBox:
        if isinstance(path, Scene) and path.transform is not None:
            return GeoBox(source.shape, Affine(*path.transform), path.crs)
        check_placed(source)
        own = path.crs if isinstance(path, Scene) else known_crs(source, crs)
        return GeoBox(source.shape, source.transform, own)

    if isinstance(path, Scene):
        from catalogs.access import REMOTE
        from catalogs.redirects import final_url

        return _looked_at(final_url(path.layers[0].href, REMOTE), declared)
    return _looked_at(_href(path), declared)


def _looked_at(href: str, declared: Callable[[DatasetReader], Result]) -> Result:
    """What a raster says of itself."""
    if _is_local(href) and not href.startswith("netcdf:") and not Path(href).is_file():
        raise SourceError(f"There is no file {href!r}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # refused by check_placed
        return with_raster(href, declared, what="A raster")


def _name(source: DatasetReader) -> str:
    return repr(shown(source.name))


def _is_local(name: str) -> bool:
    """False for URLs and for GDAL's virtual files, such as /vsizip/."""
    return "://" not in name and not name.startswith("/vsi")


def _href(path: str | os.PathLike[str]) -> str:
    name = os.fspath(path)
    return str(Path(name).absolute()) if _is_local(name) else name


def check_placed(source: DatasetReader) -> None:
    """Refuse a raster whose pixels have no place."""
    transform = source.transform
    if transform.is_identity or transform.determinant == 0 or not _finite(tuple(transform)):
        raise SourceError(
            f"{_name(source)} does not say where its pixels lie (geotransform "
            f"{tuple(transform)[:6]}). Georeference it first, e.g. with gdal_translate -a_ullr."
        )


def _finite(numbers: Sequence[float]) -> bool:
    return all(map(math.isfinite, numbers))


def bounds_of(source: DatasetReader) -> tuple[float, float, float, float]:
    """Left, bottom, right, top of the four corners; a file may be south-up or rotated."""
    corners = [
        source.transform @ (col, row) for col in (0, source.width) for row in (0, source.height)
    ]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _check_bands(source: DatasetReader, bands: Sequence[str]) -> None:
    if isinstance(bands, str) or len(bands) != source.count:
        raise SourceError(
            f"{_name(source)} has {source.count} bands; one name for each was expected. "
            f"Received {list(bands) if not isinstance(bands, str) else bands!r}."
        )
    described = [str(name) for name in source.descriptions]
    if sorted(described) == sorted(bands) and described != list(bands):
        raise SourceError(
            f"{_name(source)} says that its bands are {', '.join(described)}. Received them in "
            f"another order, {', '.join(bands)}; name them in the file's."
        )
    if any(dtype.startswith("complex") for dtype in source.dtypes):
        raise SourceError(
            f"{_name(source)} holds complex numbers, of which a cube would keep the real part "
            f"alone; compute amplitudes or intensities first."
        )


def known_crs(source: DatasetReader, crs: str | None) -> str:
    """EPSG code or WKT of a raster, or what somebody says that it is.

    Raises:
        SourceError: Neither names a CRS with a known datum.
    """
    if crs is not None:
        try:
            return pyproj.CRS.from_user_input(crs).to_string()
        except pyproj.exceptions.CRSError as error:
            raise SourceError(f"crs={crs!r} is no CRS that PROJ knows: {error}.") from error
    if source.crs is None:
        raise SourceError(f"{_name(source)} does not say its CRS; give crs=, e.g. 'EPSG:31985'.")
    try:
        found = pyproj.CRS.from_wkt(source.crs.to_wkt())
    except (CRSError, pyproj.exceptions.CRSError) as error:
        raise SourceError(f"{_name(source)} has a CRS that PROJ cannot read: {error}.") from error
    if not datum_is_known(found):
        raise SourceError(
            f"{_name(source)} names no known datum ({found.name!r}), so it could lie hundreds of "
            f"metres off; say what it is with crs=, e.g. crs='EPSG:31985'."
        )
    found = _unbound(found)
    return f"EPSG:{found.to_epsg()}" if found.to_epsg() else str(found.to_wkt())


def _unbound(crs: pyproj.CRS) -> pyproj.CRS:
    """A CRS without a way to WGS 84 that changes nothing, such as TOWGS84[0,0,0,0,0,0,0]."""
    base, way = crs.source_crs, crs.coordinate_operation
    if not crs.is_bound or base is None or way is None or any(way.towgs84):
        return crs
    return base


def _known_nodata(
    source: DatasetReader, nodata: float | Literal["none"] | None, *, flags: bool
) -> float | None:
    if nodata == "none":
        return None
    if nodata is None and len(set(map(str, source.nodatavals))) > 1:
        raise SourceError(
            f"{_name(source)} declares another nodata value for each band, "
            f"{', '.join(map(str, source.nodatavals))}; a scene has one. Give nodata=, or make a "
            f"file per nodata value."
        )
    value = source.nodata if nodata is None else float(nodata)
    # Flags say themselves where nothing was observed.
    if value is None and (flags or MaskFlags.per_dataset in source.mask_flag_enums[0]):
        return None
    if value is None:
        raise SourceError(
            f"{_name(source)} declares no nodata value; give nodata=, or nodata='none' if every "
            f"pixel is an observation."
        )
    kind = np.dtype(source.dtypes[0])
    if kind.kind in "iu" and not (
        float(value).is_integer() and np.iinfo(kind).min <= value <= np.iinfo(kind).max
    ):
        raise SourceError(
            f"{_name(source)} holds {kind.name}, which cannot hold nodata={value:g}. "
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
                    f"{_name(source)} is truncated: band {band} needs {end} bytes, the file has "
                    f"{size}. Fetch it again."
                )


def _block_end(source: DatasetReader, row: int, col: int, band: int) -> int:
    """Offset behind the last byte of a block; 0 for a sparse block, which has none."""
    where = (
        source.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=band)
        for what in ("OFFSET", "SIZE")
    )
    return sum(int(value or 0) for value in where)
