"""STAC items out of files of this machine: item collections, items, static catalogues."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from catalogs.access import Access
from cube.errors import SourceError
from cube.urls import without_secrets

MOST = 1_000_000
"""Items, and files, beyond which a catalogue is refused."""

_FOLLOWED = ("child", "item", "items")


def read_items(
    source: str | os.PathLike[str] | Sequence[Mapping[str, Any]],
    *,
    access: Access | None = None,
    most: int = MOST,
) -> list[dict[str, Any]]:
    """The items of a file: an item, an item collection, or a catalogue with all below it.

    Relative hrefs become absolute ones. Those of links are checked here, as they are followed;
    those of assets where scenes are made, which for files of this machine takes
    ``access=Access.of_folder(...)`` there too.

    Args:
        source: The file; or items as JSON gives them, which come back as they are.
        access: What links may lead to; None is the folder of the file and what lies below.
        most: Items, and files, that are read at most.

    Returns:
        Items as JSON gives them, in the order of the links.

    Raises:
        SourceError: A file is missing, is not STAC, or leads out of its folder, or there are
            too many.
    """
    if not isinstance(source, str | os.PathLike):
        return [dict(item) for item in source]
    if "://" in os.fspath(source):
        raise SourceError(
            f"{without_secrets(os.fspath(source).partition('?')[0])!r} is a URL; catalogues are "
            f"read from files. Fetch it first, or search an API with catalogs.search."
        )
    path = Path(os.path.realpath(source))
    allowed = access or Access(schemes=(), folders=(str(path.parent),))
    items: list[dict[str, Any]] = []
    waiting, seen = [str(path)], {str(path)}
    while waiting:
        here = waiting.pop()
        found, links = _split(_read(here), here)
        items += (_placed(item, here) for item in found)
        fresh = [link for link in _followed(links, here, allowed) if link not in seen]
        waiting += reversed(list(dict.fromkeys(fresh)))
        seen.update(fresh)
        if len(items) > most or len(seen) > most:
            raise SourceError(f"{str(path)!r}: more than {most} items or files; raise most=.")
    return items


_MOST_BYTES = 1 << 30
"""Of one document."""


def _read(path: str) -> dict[str, Any]:
    if os.path.lexists(path) and not os.path.isfile(path):
        raise SourceError(f"{path!r} cannot be read: it is no file.")
    try:
        with open(path, "rb") as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise SourceError(f"{path!r} is larger than {_MOST_BYTES} bytes; cut it into parts.")
        data = json.loads(text)
    except OSError as error:
        raise SourceError(f"{path!r} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path!r} is not JSON: {error}.") from error
    if not isinstance(data, dict):
        raise SourceError(f"{path!r} is no STAC item, item collection or catalogue.")
    return data


def _split(data: dict[str, Any], path: str) -> tuple[list[dict[str, Any]], list[Any]]:
    """Items of a document, and its links."""
    kind, features = data.get("type"), data.get("features")
    if kind == "FeatureCollection" and isinstance(features, list):
        return [item for item in features if isinstance(item, dict)], []
    if kind == "Feature":
        return [data], []
    # Before STAC 1.0 catalogues had no type.
    if kind in ("Catalog", "Collection") or "stac_version" in data:
        links = data.get("links")
        return [], links if isinstance(links, list) else []
    raise SourceError(f"{path!r} is no STAC item, item collection or catalogue.")


def _followed(links: list[Any], path: str, access: Access) -> Iterator[str]:
    """Files that a catalogue leads to."""
    for link in links:
        if isinstance(link, Mapping) and link.get("rel") in _FOLLOWED:
            target = access.check(
                _absolute(link.get("href"), path), what=f"{path!r}, link {link.get('rel')!r}"
            )
            if "://" in target:
                raise SourceError(f"{path!r} leads to {target!r}; only files can be followed.")
            yield target


def _absolute(href: object, path: str) -> object:
    """An href relative to a file, if it is relative at all."""
    if not isinstance(href, str) or not href.strip() or href.startswith("/"):
        return href
    if ":" in href.partition("/")[0]:
        return href
    return os.path.normpath(os.path.join(os.path.dirname(path), href))


def _placed(item: dict[str, Any], path: str) -> dict[str, Any]:
    """The item with absolute hrefs of assets."""
    assets = item.get("assets")
    if not isinstance(assets, dict):
        return item
    return item | {
        "assets": {
            key: asset | {"href": _absolute(asset.get("href"), path)}
            if isinstance(asset, dict)
            else asset
            for key, asset in assets.items()
        }
    }
