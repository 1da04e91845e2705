"""Which files a virtual raster (VRT) takes its pixels from, and whether it may."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from cube.errors import SourceError

_HEAD_BYTES = 4096
"""GDAL takes any file for a VRT whose first bytes say so, whatever its name."""

_MOST_BYTES = 1 << 28

_TAG_NAMES = """
VRTDataset VRTRasterBand MaskBand OverviewList Overview SRS GeoTransform GCPList GCP Metadata MDI
NoDataValue NODATA HideNoDataValue Scale Offset UnitType Description ColorInterp ColorTable Entry
CategoryNames Category Histograms HistItem HistMin HistMax BucketCount IncludeOutOfRange Approximate
HistCounts SimpleSource ComplexSource AveragedSource KernelFilteredSource SourceFilename SourceBand
SourceProperties SrcRect DstRect ScaleOffset ScaleRatio LUT Exponent SrcMin SrcMax DstMin DstMax
Clamp ColorTableComponent UseMaskBand Kernel Size Coefs
"""

_ATTRIBUTE_NAMES = """
rasterXSize rasterYSize RasterXSize RasterYSize blockXSize blockYSize BlockXSize BlockYSize subClass
dataType DataType band relativeToVRT shared domain key format resampling dataAxisToSRSAxisMapping
coordinateEpoch xOff yOff xSize ySize normalized c1 c2 c3 c4 Projection Id Info Pixel Line X Y Z
"""

_TAGS, _ATTRIBUTES = frozenset(_TAG_NAMES.split()), frozenset(_ATTRIBUTE_NAMES.split())
"""What a mosaic of files may hold: places, sizes and names. Nothing else passes, for GDAL reads
its tags in any case, and takes attributes for tags."""


def is_vrt(path: Path) -> bool:
    """True for what GDAL would open as a virtual raster.

    Raises:
        SourceError: It is not there, or may not be read.
    """
    if path.exists() and not path.is_file():
        raise SourceError(f"{str(path)!r} cannot be opened: it is no file.")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise SourceError(f"{str(path)!r} cannot be opened: {error.strerror}.") from error
    return path.suffix.lower() == ".vrt" or b"<VRTDataset" in head


def check_vrt(path: Path, folder: Path) -> None:
    """Refuse a virtual raster that is more than a mosaic of files of one folder.

    Its sources, and theirs in turn, must be plain files inside the folder once links are
    followed, named without GDAL's prefixes; nothing may be computed, warped or fetched.

    Args:
        path: The VRT; what is no VRT passes.
        folder: Where its sources must lie.

    Raises:
        SourceError: It is damaged, or takes pixels from elsewhere, from a missing file, or,
            through other VRTs, from itself.
    """
    _check(Path(os.path.realpath(path)), Path(os.path.realpath(folder)), seen=())


def _check(path: Path, folder: Path, *, seen: tuple[Path, ...]) -> None:
    if path in seen:
        raise SourceError(
            f"{str(seen[0])!r} takes its pixels from itself, through "
            f"{', '.join(part.name for part in (*seen[1:], path))}. Build it again from files."
        )
    if not is_vrt(path):
        return
    root = _parsed(path)
    _check_mosaic(root, path)
    for source in sorted(set(_sources(root, path))):
        _check(_inside(source, path, folder), folder, seen=(*seen, path))


def _parsed(path: Path) -> ElementTree.Element:
    with path.open("rb") as file:
        text = file.read(_MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
        raise SourceError(f"{str(path)!r} is larger than a VRT is here ({_MOST_BYTES} bytes).")
    if b"<!" in text:
        raise SourceError(f"{str(path)!r} holds XML declarations or comments, which no VRT needs.")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise SourceError(
            f"{str(path)!r} is no VRT that can be read ({error}). Build it again."
        ) from error


def _check_mosaic(root: ElementTree.Element, path: Path) -> None:
    parts = list(root.iter())
    found = {part.tag for part in parts} - _TAGS
    found |= {name for part in parts for name in part.attrib} - _ATTRIBUTES
    found |= {part.get("subClass", "") for part in parts} - {"", "VRTSourcedRasterBand"}
    found |= {part.get("domain", "").upper() for part in parts} & {"GEOLOCATION"}
    if found or root.tag != "VRTDataset":
        raise SourceError(
            f"{str(path)!r} is more than a mosaic of files ({', '.join(sorted(found))}): it "
            f"could compute, warp or fetch its pixels. Make a GeoTIFF of it, with gdal_translate."
        )


def _sources(root: ElementTree.Element, path: Path) -> Iterator[str]:
    """Sources as paths, those relative to the VRT made absolute."""
    for part in root.iter("SourceFilename"):
        name = part.text or ""
        yield os.path.join(path.parent, name) if part.get("relativeToVRT") == "1" else name


def _inside(source: str, path: Path, folder: Path) -> Path:
    real = Path(os.path.realpath(source))
    if not os.path.isabs(source) or not real.is_file() or not real.is_relative_to(folder):
        raise SourceError(
            f"{str(path)!r} takes pixels from {source!r}; its sources must be files inside "
            f"{str(folder)!r}. Copy them there, and build the VRT again."
        )
    return real
