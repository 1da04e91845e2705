"""All metadata of a cube: one document, changed in one way.

The root's ``zarr.json`` holds the root's attributes and, consolidated, the
metadata of every array. It is replaced in one put, so whoever reads it sees a
whole cube.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cube import clouds, locking, objects, urls
from cube.errors import StoreError
from cube.objects import explained

ROOT_DOCUMENT = "zarr.json"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Metadata:
    """All metadata of a cube.

    Attributes:
        attributes: Of the root.
        arrays: Zarr v3 metadata documents of the arrays, by path.
    """

    attributes: Mapping[str, Any]
    arrays: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a change of metadata leads to.

    Attributes:
        metadata: The whole new metadata.
        values: Encoded chunks to put before it, by key, such as those of coordinates.
        purge: Prefixes of keys to remove before anything is put: places of new
            arrays, where a removal that was cut short may have left something.
        remove: Prefixes of keys to remove at the end: places of arrays that are no more.
    """

    metadata: Metadata
    values: Mapping[str, bytes]
    purge: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


def read(url: str | os.PathLike[str]) -> Metadata | None:
    """All metadata of the group at a URL, by one request; None if there is none.

    Raises:
        StoreError: What lies there is no Zarr v3 group, or was cut short.
    """
    text = urls.normalise(url)
    document = objects.at(text).get(ROOT_DOCUMENT)
    if document is None:
        return None
    return _remember(text, document)


def _parsed(url: str, document: bytes) -> Metadata:
    try:
        root = json.loads(document)
        attributes = dict(root.get("attributes", {}))
        if (root["zarr_format"], root["node_type"]) != (3, "group"):
            raise StoreError(
                f"{url!r} is not a cube: a Zarr array lies there, not a Zarr v3 group."
            )
        consolidated = root.get("consolidated_metadata") or {"metadata": {}}
        nodes = consolidated["metadata"].items()
        arrays = {path: node for path, node in nodes if node.get("node_type") == "array"}
    except StoreError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{url!r} is not a cube: its Zarr metadata cannot be read ({error!r})."
        ) from error
    return Metadata(attributes=attributes, arrays=arrays)


def change(url: str, edit: Callable[[Metadata | None], Change | None]) -> None:
    """Change the metadata of a cube: the one function that does.

    The new root document comes last, so a plain reader sees the whole old cube
    or the whole new one, and a change that was cut short is simply made again.

    Args:
        url: A normalised URL.
        edit: Called under the lock with what is there; None changes nothing.
    """
    there = objects.at(url)
    with locking.hold(url, locking.METADATA) as held, explained(url):
        _sweep_metadata(url)
        before = read(url)
        wanted = edit(before)
        if wanted is None:
            return
        for prefix in wanted.purge:
            objects.delete_below(there, prefix)
        objects.sweep_partial(url, wanted.values)
        objects.put_many(there, {**wanted.values, **_documents(before, wanted.metadata)})
        held.check()
        document = _root_document(wanted.metadata)
        there.put(ROOT_DOCUMENT, document)
        _remember(url, document)
        objects.delete_many(there, _empty_groups(before, wanted.metadata))
        for prefix in wanted.remove:
            objects.delete_below(there, prefix)


def _documents(before: Metadata | None, after: Metadata) -> dict[str, bytes]:
    """Documents of nodes that are new or different, for readers that look at one node only."""
    known = _nodes(before.arrays) if before else {}
    return {
        f"{path}/{ROOT_DOCUMENT}": _json(node)
        for path, node in _nodes(after.arrays).items()
        if known.get(path) != node
    }


def _empty_groups(before: Metadata | None, after: Metadata) -> list[str]:
    """Keys of documents of groups that have lost their last array."""
    gone = (_groups(before.arrays) if before else set()) - _groups(after.arrays)
    return [f"{path}/{ROOT_DOCUMENT}" for path in sorted(gone)]


def stale_documents(url: str) -> dict[str, bytes]:
    """Documents of nodes that differ from the root's, by key: what they should be.

    A change that was cut short leaves them; readers of consolidated metadata do not see them.
    """
    wanted = _documents(None, known(url, anew=True))
    lying = objects.get_many(objects.at(url), wanted)
    return {
        key: data for (key, data), there in zip(wanted.items(), lying, strict=True) if there != data
    }


def document_keys(metadata: Metadata) -> set[str]:
    """Keys of all documents below the root."""
    return set(_documents(None, metadata))


def _root_document(metadata: Metadata) -> bytes:
    return _json(
        {
            "attributes": dict(metadata.attributes),
            "zarr_format": 3,
            "consolidated_metadata": {
                "kind": "inline",
                "must_understand": False,
                "metadata": _nodes(metadata.arrays),
            },
            "node_type": "group",
        }
    )


def _nodes(arrays: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """All arrays, and the groups in between, such as ``ledger``; sorted by path."""
    group = {"attributes": {}, "zarr_format": 3, "node_type": "group"}
    nodes = {**dict.fromkeys(_groups(arrays), group), **arrays}
    return {path: nodes[path] for path in sorted(nodes)}


def _groups(arrays: Iterable[str]) -> set[str]:
    steps = [path.split("/") for path in arrays]
    return {"/".join(parts[:n]) for parts in steps for n in range(1, len(parts))}


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2, allow_nan=False).encode()


def _sweep_metadata(url: str) -> None:
    """Remove what a writer left who was killed inside the lock; nobody else can own one now."""
    if urls.is_folder(url):
        for depth in ("", "*/", "*/*/", "*/*/*/"):
            for stray in Path(url).glob(f"{depth}{ROOT_DOCUMENT}.*.partial"):
                stray.unlink(missing_ok=True)


def exists(url: str) -> bool:
    """True if a root document lies at a normalised URL."""
    return objects.at(url).get(ROOT_DOCUMENT) is not None


def lying(url: str) -> Iterator[str]:
    """Keys of what lies at a normalised URL, but for locks and temporary files."""
    for entry in objects.at(url).list():
        if not is_passing(entry.key):
            yield entry.key


def is_passing(key: str) -> bool:
    """True for locks and temporary files, which are nobody's data."""
    return key.endswith(".partial") or locking.is_lock(key)


def make_place(url: str) -> None:
    """Make the folder of a new cube, so that it can be locked; object stores need none.

    Raises:
        StoreError: A file lies where a folder is wanted.
    """
    if not urls.is_folder(url):
        return
    if Path(url).exists() and not Path(url).is_dir():
        raise StoreError(
            f"A file lies at {url!r}, where a cube's folder is wanted; choose another."
        )
    with explained(url):
        Path(url).mkdir(parents=True, exist_ok=True)


def attributes(url: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """Attributes of every array of a cube, by path; one request.

    Raises:
        StoreError: There is no cube.
    """
    found = read(url)
    if found is None:
        raise StoreError(f"There is no cube at {os.fspath(url)!r}; create it first.")
    return {path: dict(node.get("attributes", {})) for path, node in found.arrays.items()}


_known: dict[tuple[Any, ...], tuple[bytes, Metadata]] = {}
_registry = threading.Lock()


def _identity(url: str) -> tuple[Any, ...]:
    """The same URL may lead somewhere else when the environment says so."""
    return (url, *(() if urls.is_folder(url) else clouds.environment(url)))


def _remember(url: str, document: bytes) -> Metadata:
    """Metadata of a root document; the same object for as long as that is the same."""
    key = _identity(url)
    last = _known.get(key)
    if last is None or last[0] != document:
        last = (document, _parsed(url, document))
        with _registry:
            if len(_known) > 64:
                _known.clear()
            _known[key] = last
    return last[1]


def known(url: str, *, anew: bool = False) -> Metadata:
    """Metadata of a cube as this process last saw it, or ``anew``.

    Raises:
        StoreError: There is no cube.
    """
    last = None if anew else _known.get(_identity(url))
    if last is not None:
        return last[1]
    found = read(url)
    if found is None:
        raise StoreError(f"There is no cube at {url!r}; create it first.")
    return found


def chunk_grids(metadata: Metadata) -> dict[str, tuple[int, ...]]:
    """Number of objects (chunks, or shards) along every dimension of every array."""
    return {
        path: tuple(
            -(-length // side)
            for length, side in zip(
                node["shape"], node["chunk_grid"]["configuration"]["chunk_shape"], strict=True
            )
        )
        for path, node in metadata.arrays.items()
    }


def chunk_place(
    key: str, grids: Mapping[str, tuple[int, ...]]
) -> tuple[str, tuple[int, ...]] | None:
    """Array and place in its grid of an object; None if it is no chunk of any array."""
    path, separator, place = key.rpartition("/c/")
    if key.endswith("/c") and grids.get(key[:-2]) == ():
        return key[:-2], ()  # the only chunk of an array without dimensions
    steps = place.split("/")
    if not separator or path not in grids or not all(step.isdecimal() for step in steps):
        return None
    index = tuple(map(int, steps))
    grid = grids[path]
    inside = len(index) == len(grid) and all(i < n for i, n in zip(index, grid, strict=True))
    return (path, index) if inside else None


def is_own(key: str, grids: Mapping[str, tuple[int, ...]]) -> bool:
    """True for metadata documents and locks of a cube."""
    folder, _, name = key.rpartition("/")
    document = name == ROOT_DOCUMENT and (not folder or folder in grids or folder in _groups(grids))
    return document or locking.is_lock(key)
