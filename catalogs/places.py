"""Where a STAC item lies: the CRS of its files, and their bounds in it.

The fields are those of the projection extension, by its old names and its new ones
(https://github.com/stac-extensions/projection), and the geometry of GeoJSON (RFC 7946, whose
section 3.1.9 splits what crosses the antimeridian).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
from pyproj.enums import TransformDirection
from pyproj.exceptions import CRSError, ProjError

from cube.errors import SourceError
from cube.polygons import datum_is_known

Bounds = tuple[float, float, float, float]
Ring = npt.NDArray[np.float64]
"""Longitudes and latitudes in degrees, shape (point, 2)."""

MOST_AXIS, MOST_PIXELS = 2**31, 10**12
"""Pixels along an axis, and in all, beyond which a shape is no raster's."""

_CRS_FIELDS = ("proj:code", "proj:epsg", "proj:wkt2", "proj:projjson")
_PLACE_FIELDS = ("proj:shape", "proj:transform", "proj:bbox")
_PIXELS = frozenset({"proj:shape", "proj:transform"})
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_]*:[A-Za-z0-9_.]+")
_STEEPEST = 0.1
"""Sine of the least angle between the axes of a raster, about 6 degrees."""

_STEPS = 21
"""Points a straight line is cut into before it is bent by a projection."""

_ROUNDED = 0.01
"""Geometries are simplified; by such a share of its size a footprint made from one is grown."""

_DEGREE = 1.0
"""By so much an outline may lie outside the raster before one of them is wrong."""


def place_of(
    item: Mapping[str, Any], assets: Sequence[Mapping[str, Any]], *, where: str
) -> tuple[str, Bounds | None]:
    """CRS and bounds (left, bottom, right, top) of some assets of an item.

    The bounds are those of ``proj:bbox``, or of ``proj:shape`` and ``proj:transform``; else
    those of the item's geometry, or of its ``bbox``, a little grown; else None.

    Args:
        item: With ``properties``, a mapping.
        assets: Those that are meant.
        where: Whose they are, for messages.

    Raises:
        SourceError: A field is impossible, two contradict each other, the CRS is missing or
            differs between the assets.
    """
    facts = [_facts(item["properties"], asset, where) for asset in _distinct(assets)]
    codes = {crs for crs, _ in facts}
    if codes == {None}:
        raise SourceError(
            f"{where}: it does not say its CRS (proj:code, proj:epsg, proj:wkt2 or "
            f"proj:projjson). Make its scene from the file itself, which says it."
        )
    if len(codes) > 1:
        raise SourceError(
            f"{where}: its assets have different CRSs, {', '.join(sorted(map(str, codes)))}; "
            f"make a scene of those of one CRS."
        )
    crs = str(codes.pop())
    extents = [extent for _, fields in facts if (extent := _extent(fields, where)) is not None]
    rings = _outline(item, where)
    if not extents:
        return crs, _projected(rings, crs, where) if rings else None
    extent = _union(extents)
    _check_agreement(rings, extent, crs, where)
    return crs, extent


def _distinct(assets: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What assets say of their place, once each."""
    found = []
    for asset in assets:
        own = {name: asset[name] for name in (*_CRS_FIELDS, *_PLACE_FIELDS) if name in asset}
        if own not in found:
            found.append(own)
    return found


def _facts(
    properties: Mapping[str, Any], own: dict[str, Any], where: str
) -> tuple[str | None, dict[str, Any]]:
    """CRS and place of an asset: its own, or the item's where they are of one CRS."""
    shared = _crs(properties, where)
    crs = _crs(own, where) or shared
    inherited = {name: properties.get(name) for name in _PLACE_FIELDS if crs == shared}
    said = {name: own[name] for name in _PLACE_FIELDS if own.get(name) is not None}
    if _other_pixels(properties, said, where):
        inherited = {name: value for name, value in inherited.items() if name not in _PIXELS}
    return crs, inherited | said


def _other_pixels(properties: Mapping[str, Any], said: Mapping[str, Any], where: str) -> bool:
    """True for an asset of other pixels than its item, which says half of its place.

    Its shape of 20 m and its item's transform of 10 m would make a quarter of the raster.
    """
    half = [name for name in _PIXELS if name in said and properties.get(name) is not None]
    if len(half) != 1 or len(_PIXELS & said.keys()) == 2:
        return False
    (name,) = half
    if name == "proj:shape":
        return _shape(said[name], where) != _shape(properties[name], where)
    own, shared = (_transform(fields[name], where) or () for fields in (said, properties))
    return (own[0], own[4]) != (shared[0], shared[4])


# ---------------------------------------------------------------------------------------------- CRS
def _crs(fields: Mapping[str, Any], where: str) -> str | None:
    """CRS as EPSG code or WKT, by the first field that says one."""
    stated = [(name, fields[name]) for name in _CRS_FIELDS if fields.get(name) is not None]
    if not stated:
        return None
    name, value = stated[0]
    try:
        found = _known_crs(name, value if isinstance(value, str | int) else json.dumps(value))
        epsg = fields.get("proj:epsg")
        if name == "proj:code" and epsg is not None and _known_crs("proj:epsg", epsg) != found:
            raise SourceError(f"{where}: proj:code is {value!r}, but proj:epsg is {epsg!r}.")
    except (CRSError, TypeError, ValueError) as error:
        if isinstance(error, SourceError):
            raise
        shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:80]}…"
        raise SourceError(f"{where}: {name} is no CRS that PROJ knows: {shown}.") from error
    return found


@lru_cache(maxsize=256)
def _known_crs(field: str, value: str | int) -> str:
    crs = _parsed(field, value)
    if not datum_is_known(crs):
        raise CRSError(f"no known datum: {crs.name}")
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(crs.to_string() if field == "proj:code" else crs.srs)


def _parsed(field: str, value: str | int) -> pyproj.CRS:
    """Each field in its own language alone; PROJ would take others too, such as file names."""
    if field == "proj:wkt2":
        return pyproj.CRS.from_wkt(str(value))
    if field == "proj:projjson":
        return pyproj.CRS.from_json(str(value))
    if isinstance(value, bool):
        raise ValueError(value)
    if field == "proj:epsg":
        return pyproj.CRS.from_epsg(int(value))
    if not _CODE.fullmatch(str(value)):
        raise ValueError(value)
    return pyproj.CRS.from_user_input(value)


@lru_cache(maxsize=64)
def _from_degrees(crs: str) -> pyproj.Transformer:
    """From longitude and latitude to x and y of a CRS."""
    return pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)


# ------------------------------------------------------------------------------------------- extent
def _extent(fields: Mapping[str, Any], where: str) -> Bounds | None:
    """Bounds by ``proj:bbox``, or by shape and transform; refused where they disagree."""
    box = _box(fields.get("proj:bbox"), f"{where}: proj:bbox")
    shape = _shape(fields.get("proj:shape"), where)
    transform = _transform(fields.get("proj:transform"), where)
    if shape is None or transform is None:
        return box
    a, b, c, d, e, f = transform
    corners = [(col, row) for col in (0, shape[1]) for row in (0, shape[0])]
    xs = [a * col + b * row + c for col, row in corners]
    ys = [d * col + e * row + f for col, row in corners]
    extent = min(xs), min(ys), max(xs), max(ys)
    if box is None:
        return extent
    pixel = (abs(a) + abs(b), abs(d) + abs(e)) * 2
    slack = 1 + 1e-6  # for decimals that were cut off
    if any(abs(p - q) > size * slack for p, q, size in zip(box, extent, pixel, strict=True)):
        raise SourceError(
            f"{where}: proj:bbox is {_numbers(box)}, but proj:shape and proj:transform span "
            f"{_numbers(extent)}. Correct the item, or make its scene from the file itself."
        )
    return box


def _box(value: object, what: str) -> Bounds | None:
    """A box (left, bottom, right, top) out of one of four numbers, or of six with heights."""
    if value is None:
        return None
    numbers = _finite(value, (4, 6), what)
    half = len(numbers) // 2
    left, bottom, right, top = (*numbers[:2], *numbers[half : half + 2])
    if "proj:" in what and not (left < right and bottom < top):
        raise SourceError(f"{what} must be left, bottom, right, top. Received {_numbers(numbers)}.")
    return left, bottom, right, top


def _shape(value: object, where: str) -> tuple[int, int] | None:
    if value is None:
        return None
    rows, cols = _finite(value, (2,), f"{where}: proj:shape")
    whole = rows.is_integer() and cols.is_integer() and min(rows, cols) >= 1
    if not whole or max(rows, cols) > MOST_AXIS or rows * cols > MOST_PIXELS:
        raise SourceError(
            f"{where}: proj:shape must be rows and columns of a raster, at most {MOST_PIXELS:.0e} "
            f"pixels. Received {_numbers((rows, cols))}."
        )
    return int(rows), int(cols)


def _transform(value: object, where: str) -> tuple[float, ...] | None:
    if value is None:
        return None
    numbers = _finite(value, (6, 9), f"{where}: proj:transform")
    a, b, _, d, e, _ = numbers[:6]
    area, sides = abs(a * e - b * d), math.hypot(a, d) * math.hypot(b, e)
    if not area > _STEEPEST * sides or tuple(numbers[6:]) not in {(), (0.0, 0.0, 1.0)}:
        raise SourceError(
            f"{where}: proj:transform must be a, b, c, d, e, f of x = a col + b row + c, "
            f"y = d col + e row + f, with pixels that have an area. Received {_numbers(numbers)}."
        )
    return tuple(numbers[:6])


def _finite(value: object, counts: tuple[int, ...], what: str) -> list[float]:
    """Numbers out of JSON; so many of them."""
    known = isinstance(value, list | tuple) and len(value) in counts
    if not known or any(isinstance(n, bool) or not isinstance(n, int | float) for n in value):  # type: ignore[attr-defined]
        raise SourceError(
            f"{what} must be {' or '.join(map(str, counts))} numbers. "
            f"Received {str(value)[:80].encode('unicode_escape').decode()}."
        )
    try:
        numbers = [float(n) for n in value]  # type: ignore[attr-defined]
    except OverflowError:
        numbers = [math.inf]
    if not all(map(math.isfinite, numbers)):
        raise SourceError(f"{what} must be finite numbers. Received {_numbers(numbers)}.")
    return numbers


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.10g}" for value in values)


def _union(extents: Sequence[Bounds]) -> Bounds:
    lefts, bottoms, rights, tops = zip(*extents, strict=True)
    return min(lefts), min(bottoms), max(rights), max(tops)


# ------------------------------------------------------------------------------------------ outline
def _outline(item: Mapping[str, Any], where: str) -> list[Ring]:
    """Rings of the item's geometry, else of its ``bbox``, without a jump at the antimeridian."""
    box = _box(item.get("bbox"), f"{where}: bbox")
    rings = list(_rings(item.get("geometry"), where))
    if not rings and box is not None:
        rings = [_ring_of(box)]
    for ring in rings:
        _check_degrees(ring, where)
    split = len(rings) > 1 or (box is not None and box[0] > box[2])
    turned = [
        np.column_stack([np.where(r[:, 0] < 0, r[:, 0] + 360, r[:, 0]), r[:, 1]]) for r in rings
    ]
    return turned if split and _width(turned) < _width(rings) else rings


def _ring_of(box: Bounds) -> Ring:
    left, bottom, right, top = box
    right = right + 360 if left > right else right
    corners = [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]
    return np.array(corners, dtype="float64")


def _rings(geometry: object, where: str) -> Iterator[Ring]:
    """Outer rings of a polygon, or of several."""
    if not isinstance(geometry, Mapping) or geometry.get("type") not in ("Polygon", "MultiPolygon"):
        return
    try:
        polygons = geometry["coordinates"]
        for polygon in [polygons] if geometry["type"] == "Polygon" else polygons:
            ring = np.asarray([point[:2] for point in polygon[0]], dtype="float64")
            if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 4:
                raise ValueError("no ring")
            yield ring
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise SourceError(f"{where}: its geometry is no polygon of GeoJSON.") from error


def _check_degrees(ring: Ring, where: str) -> None:
    lon, lat = np.abs(ring).max(axis=0)
    if not (lat <= 90 and lon <= 540):
        raise SourceError(
            f"{where}: geometry and bbox must be longitudes and latitudes, in this order. "
            f"Received a longitude of {lon:.6g} and a latitude of {lat:.6g}."
        )


def _width(rings: Sequence[Ring]) -> float:
    lons = np.concatenate([ring[:, 0] for ring in rings])
    return float(lons.max() - lons.min())


def _projected(rings: Sequence[Ring], crs: str, where: str) -> Bounds:
    """Bounds of an outline in a CRS, grown by :data:`_ROUNDED`."""
    points = np.concatenate([_densified(ring) for ring in rings])
    places = np.column_stack(_from_degrees(crs).transform(points[:, 0], points[:, 1]))
    places = places[np.isfinite(places).all(axis=1)]
    if not len(places):
        raise SourceError(f"{where}: its geometry does not lie where its CRS {crs!r} holds.")
    (left, bottom), (right, top) = places.min(axis=0).tolist(), places.max(axis=0).tolist()
    x, y = _ROUNDED * (right - left), _ROUNDED * (top - bottom)
    return left - x, bottom - y, right + x, top + y


def _densified(ring: Ring) -> Ring:
    """The same line with :data:`_STEPS` points for each of its sides."""
    shares = np.linspace(0, 1, _STEPS)[:, None, None]
    return (ring[:-1] + shares * (ring[1:] - ring[:-1])).reshape(-1, 2)


def _check_agreement(rings: Sequence[Ring], extent: Bounds, crs: str, where: str) -> None:
    """Refuse an outline that reaches a degree beyond the raster: axes swapped, or another CRS."""
    try:
        west, south, east, north = _from_degrees(crs).transform_bounds(
            *extent, densify_pts=_STEPS, direction=TransformDirection.INVERSE
        )
    except ProjError:
        return
    if not rings or not all(map(math.isfinite, (west, south, east, north))):
        return
    points = np.concatenate(rings)
    west -= _DEGREE
    east += _DEGREE + (360 if east < west else 0)
    beyond = (points[:, 0] - west) % 360 > east - west
    lats = points[:, 1]
    if beyond.any() or lats.min() < south - _DEGREE or lats.max() > north + _DEGREE:
        raise SourceError(
            f"{where}: its geometry lies at longitudes {points[:, 0].min():.6g}.."
            f"{points[:, 0].max():.6g} and latitudes {lats.min():.6g}..{lats.max():.6g}, but its "
            f"raster at {_numbers((west + _DEGREE, east - _DEGREE))} and "
            f"{_numbers((south, north))}. Check the order of axes, and the CRS."
        )
