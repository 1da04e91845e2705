"""Files and descriptions that nobody should trust, built in code.

Nothing here is ever fetched from anywhere; what a description names does not exist.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from tests.rasters import noise, write_tiff

PAGE = b"<!DOCTYPE html><html><head><title>503</title></head><body>Slow down.</body></html>"
"""What servers send instead of a file."""

_PLACE = "<SRS>EPSG:32725</SRS><GeoTransform>290000, 30, 0, 9110000, 0, -30</GeoTransform>"


# ----------------------------------------------------------------------------------------- services
def wms(url):
    """A description by which GDAL would fetch tiles."""
    return (
        f'<GDAL_WMS><Service name="TMS"><ServerUrl>{url}/${{z}}/${{x}}/${{y}}.png</ServerUrl>'
        "</Service><DataWindow><UpperLeftX>290000</UpperLeftX><UpperLeftY>9110000</UpperLeftY>"
        "<LowerRightX>292100</LowerRightX><LowerRightY>9108200</LowerRightY><SizeX>70</SizeX>"
        "<SizeY>60</SizeY><TileLevel>1</TileLevel></DataWindow><Projection>EPSG:32725</Projection>"
        "<BandsCount>1</BandsCount><DataType>UInt16</DataType></GDAL_WMS>"
    )


# ---------------------------------------------------------------------------------- virtual rasters
def mosaic(source, shape):
    """A VRT of one band that takes its pixels from a source, whatever that is."""
    return _vrt(shape, f"<SimpleSource>{_source(source)}</SimpleSource>")


def computed(source, touched, shape):
    """A VRT whose pixels are computed by Python code, which leaves a file behind."""
    code = f"def f(*_, **__):\n    open({str(touched)!r}, 'w').close()\n"
    function = (
        "<PixelFunctionType>f</PixelFunctionType>"
        "<PixelFunctionLanguage>Python</PixelFunctionLanguage>"
        f"<PixelFunctionCode><![CDATA[{code}]]></PixelFunctionCode>"
    )
    inner = f"{function}<SimpleSource>{_source(source)}</SimpleSource>"
    return _vrt(shape, inner, kind="VRTDerivedRasterBand")


def raw(path):
    """A VRT whose pixels are the first hundred bytes of a file."""
    inner = (
        f"{_source(path)}<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset>"
        "<LineOffset>10</LineOffset>"
    )
    return _vrt((10, 10), inner, kind="VRTRawRasterBand", dtype="Byte")


def _vrt(shape, inner, *, kind="VRTSourcedRasterBand", dtype="UInt16"):
    height, width = shape
    return (
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{_PLACE}'
        f'<VRTRasterBand dataType="{dtype}" band="1" subClass="{kind}">{inner}</VRTRasterBand>'
        "</VRTDataset>"
    )


def _source(name):
    return f'<SourceFilename relativeToVRT="0">{escape(str(name))}</SourceFilename>'


def sidecar(*, nodata):
    """What GDAL reads from ``<file>.aux.xml``."""
    return (
        f'<PAMDataset><PAMRasterBand band="1"><NoDataValue>{nodata}</NoDataValue>'
        "</PAMRasterBand></PAMDataset>"
    )


# -------------------------------------------------------------------------------------------- TIFFs
def tiny_tiff(
    path, shape, *, tiled=False, pixel=(30.0, 30.0), corner=(290_000.0, 9_110_000.0), epsg=32725
):
    """A deflated uint8 TIFF of one strip or tile, written byte by byte, whatever it claims.

    Args:
        path: Where to write it.
        shape: Rows and columns that it claims.
        tiled: As one tile, which cannot be decoded in parts.
        pixel: Width and height of a pixel.
        corner: x and y of its upper left corner.
        epsg: Code of its CRS; None leaves it out.
    """
    scale = struct.pack("<3d", *pixel, 0.0)
    place = struct.pack("<6d", 0, 0, 0, *corner, 0)
    keys = (1024, 0, 1, 1), (1025, 0, 1, 1), (3072, 0, 1, epsg or 0)
    geo = struct.pack("<16H", 1, 1, 0, len(keys), *(n for key in keys for n in key))
    data = b"\x78\x9c\x03\x00\x00\x00\x00\x01"
    at = {"data": 8, "scale": 16, "place": 40, "geo": 88}
    entries = [
        (256, 4, 1, shape[1]),  # ImageWidth
        (257, 4, 1, shape[0]),  # ImageLength
        (258, 3, 1, 8),  # BitsPerSample
        (259, 3, 1, 8),  # Compression: deflate
        (262, 3, 1, 1),  # PhotometricInterpretation
        (277, 3, 1, 1),  # SamplesPerPixel
        *(_tile if tiled else _strip)(shape, at["data"], len(data)),
        (33550, 12, 3, at["scale"]),  # ModelPixelScale
        (33922, 12, 6, at["place"]),  # ModelTiepoint
        *([(34735, 3, 16, at["geo"])] if epsg else []),  # GeoKeyDirectory
    ]
    parts = [struct.pack("<HHII", *entry) for entry in sorted(entries)]
    body = struct.pack("<H", len(parts)) + b"".join(parts)
    head = struct.pack("<2sHI", b"II", 42, 8 + 112)
    Path(path).write_bytes(head + data + scale + place + geo + body + bytes(4))
    return str(path)


def _strip(shape, offset, size):
    """StripOffsets, RowsPerStrip, StripByteCounts."""
    return [(273, 4, 1, offset), (278, 4, 1, shape[0]), (279, 4, 1, size)]


def _tile(shape, offset, size):
    """TileWidth, TileLength, TileOffsets, TileByteCounts."""
    return [(322, 4, 1, shape[1]), (323, 4, 1, shape[0]), (324, 4, 1, offset), (325, 4, 1, size)]


# ------------------------------------------------------------------------------ files of all sorts
@dataclass(frozen=True)
class File:
    """A file that should fill one band, and what is said of it.

    Attributes:
        name: For test ids.
        build: Makes it at a path.
        match: What :func:`catalogs.geotiff` says of it, a regular expression.
        reading: What reading it says, though nobody opened it before; empty where it can be read.
    """

    name: str
    build: Callable[[Path], object]
    match: str
    reading: str = ""


VALUES = noise((40, 50), dtype="uint8")
_NONE = "There is no file"
_UNKNOWN = "not recognized as being in a supported file format"
_NO_PLACE = "does not say where its pixels lie"


def _bytes(data):
    return lambda path: path.write_bytes(data)


def _tiff(values=VALUES, **profile):
    return lambda path: write_tiff(path, values, **profile)


def _tiny(*args, **kwargs):
    return lambda path: tiny_tiff(path, *args, **kwargs)


def _cut(size, **profile):
    """A good file of 300 x 300 pixels, cut short to a size, or by so many bytes."""

    def build(path):
        write_tiff(path, noise((300, 300)), nodata=0, **profile)
        os.truncate(path, size if size > 0 else path.stat().st_size + size)

    return build


def _link(target):
    return lambda path: path.symlink_to(target or path)


FILES = [
    File("empty", _bytes(b""), _UNKNOWN, _UNKNOWN),
    File("text", _bytes(b"hello"), _UNKNOWN, _UNKNOWN),
    File("a page", _bytes(PAGE), _UNKNOWN, _UNKNOWN),
    File("zeros", _bytes(bytes(10_000)), _UNKNOWN, _UNKNOWN),
    File("a head alone", _bytes(b"II*\0"), "Cannot read TIFF header", "Cannot read TIFF"),
    File("an endless list", _bytes(b"II*\0\x08\0\0\0\0\0\x08\0\0\0"), "Failed to read", "Failed"),
    File(
        "big, a head alone", _bytes(b"II+\0\x08\0\0\0\x10" + bytes(7)), "Failed to read", "Failed"
    ),
    File("cut in its head", _cut(100), "Failed to read directory", "Failed to read directory"),
    File("cut in half", _cut(30_000), "is truncated: .* Fetch it again", "cannot be read"),
    File("one byte short", _cut(-1), "is truncated: .* Fetch it again"),
    File("packed, cut", _cut(-9000, compress="deflate"), "is truncated: .* Fetch it again"),
    File("a folder", Path.mkdir, _NONE, "It is no file"),
    File("a pipe", os.mkfifo, _NONE, "It is no file"),
    File("endless", _link("/dev/zero"), _NONE, "It is no file"),
    File("a link to nothing", _link("/none/x.tif"), _NONE, "It is no file"),
    File("a link to itself", _link(None), _NONE, "It is no file"),
    File("complex", _tiff(VALUES.astype("complex64"), nodata=0), "complex", "complex numbers"),
    File("three bands", _tiff(np.stack([VALUES] * 3), nodata=0), "has 3 bands; one name"),
    File("no nodata", _tiff(), "declares no nodata value; give nodata="),
    File("no CRS", _tiff(nodata=0, crs=None), "does not say its CRS; give crs="),
    File("a CRS of nobody", _tiny((4, 5), epsg=60_000), "names no known datum"),
    File("a CRS of a village", _tiff(crs='LOCAL_CS["x",UNIT["metre",1]]'), "names no known datum"),
    File("pixels of no width", _tiny((4, 5), pixel=(0.0, 30.0)), _NO_PLACE, _NO_PLACE),
    File("pixels of NaN", _tiny((4, 5), pixel=(math.nan, 30.0)), _NO_PLACE, _NO_PLACE),
    File("infinite pixels", _tiny((4, 5), pixel=(math.inf, 30.0)), _NO_PLACE, _NO_PLACE),
    File("an infinite corner", _tiny((4, 5), corner=(math.inf, 0.0)), _NO_PLACE, _NO_PLACE),
    File("no pixels", _tiny((0, 5)), "cannot be read", "cannot be read"),
    File("a tile of 40 GB", _tiny((200_000, 200_000), tiled=True), "must fit into mem", "must fit"),
    File("4e9 x 4e9 pixels", _tiny((2**32 - 1, 2**32 - 1)), "cannot be read", "cannot be read"),
    File(
        "a VRT by content",
        _bytes(mosaic("/etc/passwd", (40, 50)).encode()),
        "recognized|takes pixels",
        _UNKNOWN,
    ),
    File("a service", _bytes(wms("http://127.0.0.1:1").encode()), _UNKNOWN, _UNKNOWN),
]
"""Every file here is refused; those with ``reading`` also by whoever never opened them before."""


# -------------------------------------------------------------------------------------- STAC items
_DEGREES = [-34.9065, -8.0583, -34.8929, -8.0474]
"""Bounds of :func:`tests.rasters.grid_at` with 40 x 50 pixels, in degrees."""


def item(name="x"):
    """A good item of one file on the grid of 40 x 50 pixels."""
    west, south, east, north = _DEGREES
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": list(_DEGREES),
        "properties": {
            "datetime": "2020-06-01T00:00:00Z",
            "proj:epsg": 32725,
            "proj:shape": [40, 50],
            "proj:transform": [30, 0, 290_000, 0, -30, 9_110_000],
        },
        "links": [],
        "assets": {"red": {"href": "https://data.example.com/red.tif"}},
    }


@dataclass(frozen=True)
class Item:
    """What is wrong with an item, and what is said of it."""

    name: str
    spoil: Callable[[dict], object]
    match: str


def _of(key, value):
    return lambda item: item.update({key: value})


def _without(key):
    return lambda item: item.pop(key)


def _property(key, value):
    return lambda item: item["properties"].update({key: value})


def _asset(key, value):
    return lambda item: item["assets"]["red"].update({key: value})


def _only_crs(key, value):
    return lambda item: item["properties"].update({"proj:epsg": None, key: value})


def _swapped(item):
    west, south, east, north = item["bbox"]
    item["bbox"] = [south, west, north, east]
    del item["geometry"]


_DEEP: list = []
for _ in range(2000):
    _DEEP = [_DEEP]

ITEMS = [
    Item("no id", _without("id"), "The id of an item"),
    Item("an id that is a number", _of("id", 7), "The id of an item must be text"),
    Item("no assets", _without("assets"), "assets must be a mapping. Received NoneType"),
    Item("assets in a list", _of("assets", []), "assets must be a mapping. Received list"),
    Item("other assets", _of("assets", {"b": {}}), "it has no asset 'red'.* It has: 'b'"),
    Item("an asset that is text", _of("assets", {"red": "a"}), "it has no asset 'red'"),
    Item("no properties", _without("properties"), "properties must be a mapping"),
    Item("no href", lambda item: item["assets"]["red"].clear(), "an href was expected"),
    Item("an href that is a list", _asset("href", ["a"]), "an href was expected. Received list"),
    Item("an empty href", _asset("href", " "), "an href was expected"),
    Item("no time", _property("datetime", None), "neither datetime nor start_datetime"),
    Item("a time that is none", _property("datetime", "noon"), "time must be ISO 8601"),
    Item("a time that is a number", _property("datetime", 1.5), "datetime must be text"),
    Item("no CRS", _property("proj:epsg", None), "does not say its CRS"),
    Item("a CRS of nobody", _property("proj:epsg", 999_999), "no CRS that PROJ knows"),
    Item("a CRS that is true", _property("proj:epsg", True), "no CRS that PROJ knows"),
    Item("a CRS as a file", _only_crs("proj:wkt2", "@/etc/passwd"), "no CRS that PROJ knows"),
    Item("a CRS as a recipe", _only_crs("proj:code", "+proj=x"), "no CRS that PROJ knows"),
    Item("a CRS of numbers", _only_crs("proj:projjson", {"a": 1}), "no CRS that PROJ knows"),
    Item("two CRSs", _property("proj:code", "EPSG:4326"), "proj:code is .* but proj:epsg is"),
    Item("the wrong CRS", _property("proj:epsg", 32625), "Check the order of axes, and the CRS"),
    Item("another zone", _property("proj:epsg", 32732), "Check the order of axes, and the CRS"),
    Item("swapped axes", _swapped, "Check the order of axes, and the CRS"),
    Item("a shape of 1e18", _property("proj:shape", [10**9, 10**9]), "at most 1e.12 pixels"),
    Item("a shape of nothing", _property("proj:shape", [0, 5]), "proj:shape must be rows"),
    Item("a negative shape", _property("proj:shape", [-4, -5]), "proj:shape must be rows"),
    Item("a huge number", _property("proj:shape", [10**400, 1]), "must be finite numbers"),
    Item("a shape of text", _property("proj:shape", "40x50"), "proj:shape must be 2 numbers"),
    Item("pixels of no area", _property("proj:transform", [0] * 6), "pixels that have an area"),
    Item("a transform of NaN", _property("proj:transform", [math.nan] * 6), "must be finite"),
    Item("a short transform", _property("proj:transform", [1, 2]), "must be 6 or 9 numbers"),
    Item("another box", _property("proj:bbox", [0, 0, 9, 9]), "proj:bbox is .* span"),
    Item("a box upside down", _property("proj:bbox", [9, 9, 0, 0]), "must be left, bottom"),
    Item("a box of six words", _of("bbox", ["a"] * 6), "bbox must be 4 or 6 numbers"),
    Item("a geometry of no points", _of("geometry", {"type": "Polygon"}), "no polygon of GeoJSON"),
    Item(
        "metres for degrees",
        lambda item: item.update(bbox=[290_000, 9_108_800, 291_500, 9_110_000], geometry=None),
        "must be longitudes and latitudes",
    ),
    Item(
        "a deep geometry",
        _of("geometry", {"type": "Polygon", "coordinates": _DEEP}),
        "no polygon of GeoJSON",
    ),
    Item("a scale of 0", _asset("raster:bands", [{"scale": 0}]), "scale not 0"),
    Item("a scale of text", _asset("raster:bands", [{"scale": "1"}]), "scale must be a number"),
    Item("an endless offset", _asset("raster:bands", [{"offset": 1e999}]), "must be finite"),
    Item(
        "a nodata that pixels cannot hold",
        _asset("raster:bands", [{"data_type": "uint8", "nodata": -9999}]),
        "data_type is uint8, which cannot hold nodata=-9999",
    ),
    Item(
        "a NaN in whole numbers",
        _asset("raster:bands", [{"data_type": "int16", "nodata": "nan"}]),
        "data_type is int16, which cannot hold nodata=nan",
    ),
    Item("bands of text", _asset("raster:bands", "x"), "must be a list of mappings"),
    Item("cloud of 700 %", _property("eo:cloud_cover", 700), "must be percent"),
    Item("a version of no kind", _of("stac_version", {"a": 1}), "cannot be brought up to date"),
]

HREFS = [
    "file:///etc/passwd",
    "http://169.254.169.254/latest/meta-data/",
    "https://169.254.169.254/latest/meta-data/",
    "https://[::1]/a.tif",
    "https://[::ffff:169.254.169.254]/a.tif",
    "https://[fe80::1]/a.tif",
    "https://2130706433/a.tif",
    "https://0x7f000001/a.tif",
    "https://0177.0.0.1/a.tif",
    "https://127.1/a.tif",
    "https://0/a.tif",
    "https://localhost/a.tif?sig=SECRET",
    "https://a.localhost./a.tif",
    "https://10.1.2.3/a.tif",
    "https://192.168.0.1:8443/a.tif",
    "https://100.64.0.1/a.tif",
    "https://me:SECRET@data.example.com/a.tif",
    "https://data.example.com\\@127.0.0.1/a.tif",
    "https:///a.tif",
    "https://a b/a.tif",
    "http://data.example.com/a.tif",
    "ftp://data.example.com/a.tif",
    "gopher://data.example.com/a.tif",
    "s3://bucket/../../etc/passwd",
    "s3://../etc/passwd",
    "s3://UPPER/a.tif",
    "s3://me:SECRET@bucket/a.tif",
    "/etc/passwd",
    "//etc/passwd",
    "../../etc/passwd",
    "C:\\secret.tif",
    "/vsicurl/http://169.254.169.254/",
    "/vsizip//tmp/a.zip/a.tif",
    "/vsistdin/",
    "zip+https://data.example.com/a.zip!a.tif",
    "vrt://https://data.example.com/a.tif",
    "GTIFF_DIR:1:https://data.example.com/a.tif",
    "HTTP:https://data.example.com/a.tif",
    "WMS:https://data.example.com/wms",
    "netcdf:https://data.example.com/a.nc:v",
    "DERIVED_SUBDATASET:AMPLITUDE:/etc/passwd",
    "<VRTDataset></VRTDataset>",
    "https://data.example.com/a.tif\nHost: inside",
    "https://data.example.com/\x00.tif",
    "https://data.example.com/a.tif|/etc/passwd",
    "data:image/tiff;base64,AAAA",
]
"""None of these may ever be opened for a stranger, however they are spelled."""


# ----------------------------------------------------------------------------------- STAC documents
def catalogue(links):
    """A static catalogue."""
    return {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "links": links}


@dataclass(frozen=True)
class Document:
    """A document that is none, and what is said of it."""

    name: str
    build: Callable[[Path], object]
    match: str


DOCUMENTS = [
    Document("empty", _bytes(b""), "is not JSON"),
    Document("a page", _bytes(PAGE), "is not JSON"),
    Document("no text", _bytes(b"\xff\xfe\x00\x80" * 9), "is not JSON"),
    Document("cut short", _bytes(b'{"type": "Feature", "id"'), "is not JSON"),
    Document("nested for ever", _bytes(b"[" * 200_000), "is not JSON"),
    Document("a number too long", _bytes(b"1" * 10_000), "is not JSON|is no STAC"),
    Document("a number", _bytes(b"3"), "is no STAC item"),
    Document("a list", _bytes(b"[]"), "is no STAC item"),
    Document("null", _bytes(b"null"), "is no STAC item"),
    Document("another document", _bytes(b'{"type": "Topology"}'), "is no STAC item"),
    Document("a folder", Path.mkdir, "cannot be read: it is no file"),
    Document("a link to nothing", _link("/none/c.json"), "cannot be read: No such file"),
]
