"""Scenes from STAC items, without opening a file.

Items of STAC 1.0 and 1.1 are read as they are, with the raster, projection and eo extensions by
their old names and their new ones (https://github.com/radiantearth/stac-spec); older ones once
pystac has brought them up to date. What an item says wins over its profile; what it says twice
and differently is refused. Nothing in an item is trusted: see :mod:`catalogs.access`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urljoin

from catalogs.access import REMOTE, Access, check_label
from catalogs.items import read_items
from catalogs.manifest import Manifest
from catalogs.packing import Statements, number, statements_of
from catalogs.places import place_of
from catalogs.profiles import (
    LANDSAT_C2_L2,
    SENTINEL2_L2A_EARTH_SEARCH,
    SENTINEL2_L2A_PLANETARY,
    Profile,
)
from cube.errors import CubeError, SourceError, SpecError
from cube.scenes import Scene, SceneBand, utc

if TYPE_CHECKING:
    import pystac
    from odc.geo.geobox import GeoBox

__all__ = [
    "LANDSAT_C2_L2",
    "REMOTE",
    "SENTINEL2_L2A_EARTH_SEARCH",
    "SENTINEL2_L2A_PLANETARY",
    "Access",
    "Profile",
    "read_items",
    "scene_of",
    "scenes_of",
    "search",
]

Dictionary = Mapping[str, Any]

_LINE = 1000
"""Characters of a reason."""

_RELEASED = re.compile(r"1\.\d+\.\d+")


def scene_of(item: Dictionary | pystac.Item, profile: Profile, *, access: Access = REMOTE) -> Scene:
    """The scene that an item describes.

    Args:
        item: A STAC item, parsed or as JSON gives it. Stays as it is.
        profile: What the collection holds.
        access: Where the hrefs may point.

    Raises:
        SourceError: An asset is missing or may not be opened, a field is missing or impossible,
            or two contradict each other. The message names the item and the field.
    """
    data = _current(item)
    name = check_label(data.get("id"), what="The id of an item")
    try:
        return _scene(data, name, profile, access)
    except SpecError as error:
        raise SourceError(f"Item {name!r}: {error}") from error


def _scene(data: Dictionary, name: str, profile: Profile, access: Access) -> Scene:
    where = f"Item {name!r}"
    properties, assets = _mapping(data, "properties", where), _mapping(data, "assets", where)
    layers = [
        _layer(band, asset, data, profile, access)
        for band in profile.bands
        if (asset := _asset(assets, band, profile, where)) is not None
    ]
    if not layers:
        raise SourceError(f"{where}: it has none of the bands {', '.join(profile.bands)}.")
    used = [assets[profile.place(layer.name)[0]] for layer in layers]
    crs, footprint = place_of(data, used, where=where)
    first = layers[0]
    return Scene(
        id=name,
        layers=tuple(_without(layer, first) for layer in layers),
        crs=crs,
        nodata=None if first.nodata == "scene" else first.nodata,
        scale=1.0 if first.scale is None else first.scale,
        offset=0.0 if first.offset is None else first.offset,
        resampling=first.resampling or "nearest",
        footprint=footprint,
        time=_time(properties, where),
        cloud_cover=_cloud_cover(properties, where),
    )


def scenes_of(
    items: Iterable[Dictionary | pystac.Item],
    profile: Profile,
    access: Access = REMOTE,
    *,
    title: str = "",
) -> Manifest:
    """Scenes of all items that can be used; the others stand under ``excluded`` with the reason.

    Args:
        items: See :func:`scene_of`.
        profile: What the collection holds.
        access: Where the hrefs may point.
        title: Of the manifest.

    Raises:
        SpecError: Two items have one id.
    """
    scenes: list[Scene] = []
    excluded: list[tuple[str, str]] = []
    for place, item in enumerate(items, start=1):
        try:
            scenes.append(scene_of(item, profile, access=access))
        except CubeError as error:
            excluded.append((_label(item, place), _line(str(error))))
    return Manifest(scenes=tuple(scenes), excluded=dict(excluded), title=title, through="stackstac")


def search(  # noqa: PLR0913  (a search is what all of them say together)
    api: str,
    *,
    collections: Sequence[str],
    profile: Profile,
    datetime: str,
    grid: GeoBox | None = None,
    bbox: Sequence[float] | None = None,
    query: Dictionary | None = None,
    limit: int | None = None,
    access: Access | None = None,
    modifier: Callable[[Any], None] | None = None,
) -> Manifest:
    """What a STAC API has of a place and a time.

    Args:
        api: URL of the API; its pages may lead to no other server.
        collections: To search in.
        profile: What they hold.
        datetime: A moment or a span as STAC writes it, such as ``"2018-05-01/2018-08-30"``.
        grid: Place to cover; or give ``bbox``.
        bbox: West, south, east, north in degrees; west > east crosses the antimeridian.
        query: Conditions on properties, such as ``{"eo:cloud_cover": {"lt": 50}}``.
        limit: Take at most so many items; None takes all.
        access: Where the hrefs of the items may point; None is :data:`catalogs.access.REMOTE`.
        modifier: Called with each page of items, to sign hrefs.

    Raises:
        SpecError: Neither or both of grid and bbox were given, or they are no place; or
            collections are no list.
        SourceError: The API refused, or is none.
        TransientError: The API could not be reached, or failed.
    """
    from catalogs.api import boxes_of, find

    if isinstance(collections, str):
        raise SpecError(f"collections= are a list. Received {collections!r}.")
    items = find(
        api,
        boxes=boxes_of(grid=grid, bbox=bbox),
        terms={"collections": list(collections), "datetime": datetime, "query": query},
        limit=limit,
        modifier=modifier,
    )
    return scenes_of(items, profile, access or REMOTE)


# -------------------------------------------------------------------------------------------- items
def _current(item: Dictionary | pystac.Item) -> Dictionary:
    """An item as JSON gives it, of STAC 1.0 or later."""
    if not isinstance(item, Mapping) and hasattr(item, "to_dict"):
        item = item.to_dict(transform_hrefs=False)
    if not isinstance(item, Mapping):
        raise SourceError(f"A STAC item is a mapping. Received {type(item).__name__}.")
    if _RELEASED.fullmatch(str(item.get("stac_version"))):
        return item
    return _migrated(item)


def _migrated(item: Dictionary) -> Dictionary:
    from pystac.serialization import identify_stac_object, migrate_to_latest

    try:
        data = dict(item)
        return migrate_to_latest(data, identify_stac_object(data))
    except Exception as error:  # whatever pystac stumbles over in JSON of strangers
        name = check_label(item.get("id"), what="The id of an item")
        raise SourceError(
            f"Item {name!r}: stac_version {str(item.get('stac_version'))[:20]!r} cannot be "
            f"brought up to date."
        ) from error


def _line(text: str) -> str:
    """A reason as one line of bounded length, whatever an item wrote into it."""
    shown = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
    return shown if len(shown) <= _LINE else f"{shown[:_LINE]}…"


def _label(item: object, place: int) -> str:
    """The id of an item that is excluded, or its place where it has none."""
    name = item.get("id") if isinstance(item, Mapping) else getattr(item, "id", None)
    try:
        return check_label(name, what="id")
    except SourceError:
        return f"<item {place}>"


def _mapping(data: Dictionary, field: str, where: str) -> Dictionary:
    value = data.get(field)
    if not isinstance(value, Mapping):
        raise SourceError(f"{where}: {field} must be a mapping. Received {type(value).__name__}.")
    return value


def _time(properties: Dictionary, where: str) -> str:
    """``datetime``, or ``start_datetime`` where that is null."""
    for field in ("datetime", "start_datetime"):
        value = properties.get(field)
        if isinstance(value, str):
            try:
                return utc(value, what=field)
            except OverflowError as error:
                raise SourceError(f"{where}: {field} is out of range: {value!r}.") from error
        if value is not None:
            raise SourceError(f"{where}: {field} must be text. Received {type(value).__name__}.")
    raise SourceError(f"{where}: it says neither datetime nor start_datetime.")


def _cloud_cover(properties: Dictionary, where: str) -> float | None:
    """Share out of percent; a negative number is how some say that they do not know."""
    percent = number(properties.get("eo:cloud_cover"), f"{where}: eo:cloud_cover")
    if percent is None or percent < 0:
        return None
    if not percent <= 100:
        raise SourceError(f"{where}: eo:cloud_cover must be percent, 0..100. Received {percent:g}.")
    return percent / 100


# -------------------------------------------------------------------------------------------- bands
def _asset(assets: Dictionary, band: str, profile: Profile, where: str) -> Dictionary | None:
    key, _ = profile.place(band)
    asset = assets.get(key)
    if asset is None and band in profile.optional:
        return None
    if not isinstance(asset, Mapping):
        listed = ", ".join(str(name)[:40] for name in list(assets)[:20])
        raise SourceError(
            f"{where}: it has no asset {key!r}, which {profile.name} expects for band {band!r}. "
            f"It has: {listed!r}."
        )
    return asset


def _layer(
    band: str, asset: Dictionary, item: Dictionary, profile: Profile, access: Access
) -> SceneBand:
    """A band with all that is known of it."""
    key, place = profile.place(band)
    where = f"Item {item['id']!r}, asset {key!r}"
    said = statements_of(asset, item["properties"], where=where)
    index = said.index(place)
    scale = said.value("scale", index)
    span = profile.of("valid_range", band)
    return SceneBand(
        name=band,
        href=access.check(_absolute(_place(asset, profile, where), item), what=where),
        index=index,
        nodata=_nodata(said.nodata(index), band, profile, where),
        scale=profile.of("scale", band) if scale is None else scale,
        offset=_offset(said, index, band, profile),
        resampling=profile.of("resampling", band),
        valid_range=None if span is None else (float(span[0]), float(span[1])),
        units=profile.of("units", band),
    )


def _place(asset: Dictionary, profile: Profile, where: str) -> object:
    """The href of an asset, or of one of its alternates."""
    if not profile.alternate:
        return asset.get("href")
    others = asset.get("alternate")
    other = others.get(profile.alternate) if isinstance(others, Mapping) else None
    if not isinstance(other, Mapping):
        raise SourceError(f"{where}: it has no alternate {profile.alternate!r}.")
    return other.get("href")


def _absolute(href: object, item: Dictionary) -> object:
    """An href relative to the item's own, if the item says where it lies."""
    if not isinstance(href, str) or ":" in href or href.startswith("/"):
        return href
    links = item.get("links")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, Mapping) and link.get("rel") == "self":
            base = link.get("href")
            return urljoin(base, href) if isinstance(base, str) else href
    return href


def _nodata(stated: float | None, band: str, profile: Profile, where: str) -> float | None:
    if stated is not None:
        return math.nan if math.isnan(stated) else stated
    default = profile.of("nodata", band)
    if default is None:
        raise SourceError(
            f"{where}: neither the item nor {profile.name} says its nodata; give nodata= in the "
            f"profile, or 'none' if every pixel is an observation."
        )
    return None if default == "none" else float(default)


def _offset(said: Statements, index: int, band: str, profile: Profile) -> float:
    """Offset as the item states it, or as the profile has it for items of its kind."""
    if profile.offset_applied and said.properties.get(profile.offset_applied) is True:
        return 0.0
    stated, default = said.value("offset", index), float(profile.of("offset", band))
    if stated is not None or profile.offset_since is None or default == 0:
        return default if stated is None else stated
    field, first = profile.offset_since
    try:
        version = float(str(said.properties.get(field)))
    except ValueError as error:
        raise SourceError(
            f"{said.where}: neither an offset nor {field}, which decides it, is stated."
        ) from error
    return default if version >= float(first) else 0.0


def _without(layer: SceneBand, first: SceneBand) -> SceneBand:
    """The band without what it shares with the first, which the scene says for all."""
    same = repr(layer.nodata) == repr(first.nodata)
    nodata: float | Literal["scene"] | None = "scene" if same else layer.nodata
    return SceneBand(
        name=layer.name,
        href=layer.href,
        index=layer.index,
        nodata=nodata,
        scale=None if layer.scale == first.scale else layer.scale,
        offset=None if layer.offset == first.offset else layer.offset,
        resampling=None if layer.resampling == first.resampling else layer.resampling,
        valid_range=layer.valid_range,
        units=layer.units,
    )
