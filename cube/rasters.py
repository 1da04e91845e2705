"""Opening raster files: which ones, how much of them, and what their errors mean.

Files come from catalogues that nobody vouches for. So only formats that hold pixels are opened,
none that fetch or run something else; what a file claims is looked at before memory is taken; and
an error that may pass, of a server or of the network, is told from one that will not.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import MaskFlags
from rasterio.errors import CRSError, RasterioError, RasterioIOError
from rasterio.windows import Window

from cube.errors import CubeError, SourceError, TransientError
from cube.retrying import Retry
from cube.scenes import SceneBand, Span
from cube.urls import without_secrets

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Result = TypeVar("Result")
Floats = npt.NDArray[np.floating[Any]]

REMOTE_DRIVERS = ("GTiff", "JP2OpenJPEG")
"""What is opened over a network."""

LOCAL_DRIVERS = (
    *REMOTE_DRIVERS,
    *("netCDF", "VRT", "HFA", "ENVI", "EHdr", "AAIGrid", "SRTMHGT", "PNG", "JPEG"),
)
"""What is opened in a folder. Formats that name other places (WMS, STACTA) are not among them."""

_BY_ENDING = {
    ".jp2": "JP2OpenJPEG",
    ".vrt": "VRT",
    ".nc": "netCDF",
    ".img": "HFA",
    ".asc": "AAIGrid",
    ".hgt": "SRTMHGT",
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
}

MAX_BLOCK_BYTES = 1 << 28
"""A file is decoded by blocks; one that claims larger ones is refused."""

MAX_SIDE = (1 << 31) - 1
"""Pixels along an axis that GDAL can count."""

RETRY = Retry(tries=4, first_s=0.5, most_s=8.0, total_s=120.0)
"""Of a single file; a task is tried again as a whole besides."""

_OPTIONS = {
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    # Without it GDAL gives axes that lack a standard name no place, and reads them upside down.
    "GDAL_NETCDF_IGNORE_XY_AXIS_NAME_CHECKS": "YES",
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
}

_REMOTE_OPTIONS = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
"""Beside a remote file nothing else is looked for."""

_LOCAL_OPTIONS = {
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "/vsicurl/none",
    "GDAL_HTTP_PROXY": "127.0.0.1:1",
    "GDAL_HTTPS_PROXY": "127.0.0.1:1",
}
"""What is local fetches nothing, though a VRT names URLs: a name that none has, and a dead proxy
for drivers that do not ask for names."""

_AGAIN_OPTIONS = {"CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/:/vsigs/:/vsiaz/"}
"""GDAL remembers that a file was not there; not so when it is asked again."""

_LASTING = re.compile(
    r"response code: 4(?!08|29)\d\d|disabled \(in redirect\)|does not exist|No such file"
    r"|NoSuchKey|NoSuchBucket|AccessDenied|Forbidden|InvalidCredentials|AWS_SECRET_ACCESS_KEY"
    r"|no configured credentials",
    re.IGNORECASE,
)
"""What a server says that it will say again. A format that is not recognised is not among it: GDAL
says so, too, of a file whose first bytes a server failed to send."""


def is_remote(href: str) -> bool:
    """True for what is fetched over a network."""
    return "://" in href or href.startswith("/vsi")


def with_raster(
    href: str,
    use: Callable[[DatasetReader], Result],
    *,
    what: str,
    options: dict[str, Any] | None = None,
    retry: Retry = RETRY,
) -> Result:
    """What a function makes of an opened file; tried again where an error may pass.

    Args:
        href: A path, or a URL of a scheme that rasterio knows.
        use: Called with the file.
        what: Whose file it is, for messages.
        options: Of GDAL, within the call.
        retry: How often to try again.

    Raises:
        SourceError: The file is missing, damaged, of no format that is opened here, or claims
            sizes that cannot be. One line; without the query of a URL, which may be a signature.
    """
    count = 0

    def once() -> Result:
        nonlocal count
        count += 1
        return _once(href, use, what=what, options=options or {}, again=count > 1)

    result, tries = retry.call(once)
    if isinstance(result, TransientError):
        raise SourceError(f"{str(result).rstrip('.')} (tried {tries} times).") from result
    if isinstance(result, CubeError):
        raise result
    return result


def _once(
    href: str,
    use: Callable[[DatasetReader], Result],
    *,
    what: str,
    options: dict[str, Any],
    again: bool,
) -> Result:
    remote = is_remote(href)
    if not remote:
        _check_file(href, what=what)
    extra = _REMOTE_OPTIONS if remote else _LOCAL_OPTIONS
    if remote and again:
        extra = extra | _AGAIN_OPTIONS
    try:
        with rasterio.Env(**(_OPTIONS | extra | options)), opened(href) as raster:
            check_claims(raster, what=what)
            return use(raster)
    except (RasterioError, CRSError) as error:
        reason = cause(error)
        text = f"{what}: {shown(href)!r} cannot be read: {without_query(reason, href)}."
        if remote and not _LASTING.search(reason):
            raise TransientError(text) from error
        raise SourceError(text) from error


def _check_file(href: str, *, what: str) -> None:
    """Refuse what GDAL would take for more than a file's name, and what is no file.

    A name may be XML or a driver's own language, and opening a pipe waits for ever.
    """
    found = _NETCDF.fullmatch(href)
    path = found[1] if found else href
    if not os.path.isfile(path):
        reason = "It is no file" if os.path.lexists(path) else "No such file"
        raise SourceError(f"{what}: {shown(href)!r} cannot be read: {reason}.")


_NETCDF = re.compile(r'netcdf:"?(.+?)"?:[^:]*', re.IGNORECASE)
"""How GDAL names a variable of a file: the one language of a driver that is spoken here."""


def opened(href: str) -> DatasetReader:
    """A file in one of the formats that are opened here."""
    drivers = _drivers(href)
    for driver in drivers:
        try:
            return rasterio.open(href, driver=driver, sharing=False)
        except RasterioIOError as error:
            if driver == drivers[-1] or _UNRECOGNISED not in str(error):
                raise
    raise AssertionError  # pragma: no cover  (the last driver raises)


_UNRECOGNISED = "not recognized as being in a supported"


def _drivers(href: str) -> list[str]:
    """Formats to try, the likeliest first; GDAL would try all it knows, those that fetch too."""
    name = shown(href).lower()
    ending = next((end for end in _BY_ENDING if name.endswith(end)), "")
    likely = "netCDF" if name.startswith("netcdf:") else _BY_ENDING.get(ending, "GTiff")
    drivers = REMOTE_DRIVERS if is_remote(href) else LOCAL_DRIVERS
    # A VRT names other files; who judges names must be able to tell it by its own.
    known = [driver for driver in drivers if driver != "VRT" or likely == "VRT"]
    return sorted(known, key=lambda driver: driver != likely)


def check_claims(raster: DatasetReader, *, what: str) -> None:
    """Refuse a file whose header claims what cannot be, before memory is taken.

    Raises:
        SourceError: A side beyond what can be counted, blocks too large to decode, or a VRT that
            takes raw bytes of whatever file it names for pixels.
    """
    if raster.driver == "VRT" and "VRTRawRasterBand" in str(raster.tags(ns="xml:VRT")):
        raise SourceError(
            f"{what}: {shown(raster.name)!r} takes bytes of a file for pixels; make a GeoTIFF of "
            f"it, e.g. with gdal_translate -of COG."
        )
    if max(raster.width, raster.height) > MAX_SIDE:
        raise SourceError(
            f"{what}: {shown(raster.name)!r} claims {raster.height} x {raster.width} pixels."
        )
    for shape, dtype in zip(raster.block_shapes, raster.dtypes, strict=True):
        size = math.prod(shape) * _itemsize(dtype)
        if size > MAX_BLOCK_BYTES:
            raise SourceError(
                f"{what}: {shown(raster.name)!r} is stored in blocks of {shape[0]} x {shape[1]} "
                f"pixels ({size} bytes), of which each must fit into memory ({MAX_BLOCK_BYTES} "
                f"bytes); store it in tiles first, e.g. with gdal_translate -of COG."
            )


def _itemsize(dtype: str) -> int:
    # "complex_int16" is a name of rasterio's alone.
    return 4 if dtype == "complex_int16" else np.dtype(dtype).itemsize


def shown(href: str) -> str:
    """An href for a message: without its query, which may hold a signature, and password."""
    return without_secrets(href.partition("?")[0])


def without_query(text: str, href: str) -> str:
    """A message of GDAL's in which an href has no query, nor the part of it that GDAL keeps."""
    query = href.partition("?")[2]
    for part in (query, query.partition("#")[0]):
        text = text.replace(f"?{part}", "") if part else text
    return without_secrets(text)


def cause(error: BaseException) -> str:
    """The innermost message: GDAL's own, which names the file and the reason."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()).rstrip(".")


def read_window(
    raster: DatasetReader, layers: Sequence[SceneBand], rows: Span, cols: Span
) -> Floats:
    """A window of a file as floats; NaN for nodata, for what it masks, and outside the file.

    Args:
        raster: The file.
        layers: Bands of it, with their place and nodata.
        rows: Half-open range of its pixels along y; may reach outside.
        cols: Half-open range along x.

    Returns:
        Stored values of shape (band, rows, cols), in :func:`float_for` these bands.
    """
    dtypes = [raster.dtypes[layer.index - 1] for layer in layers]
    shape = len(layers), rows[1] - rows[0], cols[1] - cols[0]
    inner_rows, inner_cols = _within(rows, raster.height), _within(cols, raster.width)
    if inner_rows[0] >= inner_rows[1] or inner_cols[0] >= inner_cols[1]:
        return np.full(shape, np.nan, float_for(dtypes))
    window = Window.from_slices(inner_rows, inner_cols)
    stored = raster.read([layer.index for layer in layers], window=window)
    values = np.empty(stored.shape, float_for(dtypes))
    for band, raw, layer in zip(values, stored, layers, strict=True):
        _make_float(band, raw, layer.nodata)
        if MaskFlags.per_dataset in raster.mask_flag_enums[layer.index - 1]:
            np.copyto(band, np.nan, where=raster.read_masks(layer.index, window=window) == 0)
    if (inner_rows, inner_cols) == (rows, cols):
        return values
    found = np.full(shape, np.nan, values.dtype)
    down, right = inner_rows[0] - rows[0], inner_cols[0] - cols[0]
    found[:, down : down + values.shape[1], right : right + values.shape[2]] = values
    return found


def _make_float(band: Floats, raw: npt.NDArray[Any], nodata: Any) -> None:
    """Stored values of a band as floats, some rows at a time, so that they stay in a cache."""
    step = max(1, _BLOCK // max(1, raw.shape[1]))
    declared = nodata is not None and not math.isnan(nodata)
    for start in range(0, len(raw), step):
        rows = slice(start, start + step)
        band[rows] = raw[rows]
        if declared:
            np.copyto(band[rows], np.nan, where=raw[rows] == nodata)


_BLOCK = 1 << 16


def _within(span: Span, length: int) -> Span:
    return min(max(span[0], 0), length), min(max(span[1], 0), length)


def float_for(dtypes: Sequence[str]) -> str:
    """Name of the float that holds every value of these dtypes exactly, where one can."""
    wide = {"float64", "int32", "uint32", "int64", "uint64"}
    return "float64" if wide & set(dtypes) else "float32"
