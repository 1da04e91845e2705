"""Where cubes lie: the one module that names zarr.

A store is given by URL: a folder, or ``memory://name`` for a cube that lives
in this process only. Everything above works with :class:`ArrayPlan`, numpy
arrays and paths inside the cube.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numpy as np
import numpy.typing as npt
import zarr
import zarr.abc.store
import zarr.errors
import zarr.storage
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.metadata import ArrayV3Metadata

from cube.errors import StoreError

# Regions are already parallel; threads inside Blosc would only fight with them.
numcodecs.blosc.use_threads = False

_memory: dict[str, zarr.storage.MemoryStore] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayPlan:
    """One array to create: metadata only.

    Attributes:
        path: Place inside the cube, e.g. ``"ledger/predictors"``.
        shape: Sizes.
        chunks: Sizes of what is decoded at once.
        shards: Sizes of what is stored at once, or None.
        dtype: numpy dtype name, or ``"str"`` for variable-length strings.
        fill: What unwritten chunks read as.
        dims: Dimension names.
        attrs: Attributes.
        codec: See :class:`cube.layout.LayoutSpec`.
    """

    path: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    fill: int | float | str
    dims: tuple[str, ...]
    attrs: Mapping[str, Any]
    shards: tuple[int, ...] | None = None
    codec: str = "none"


def is_memory(url: str) -> bool:
    """True for cubes that only this process can see."""
    return str(url).startswith("memory://")


def normalise(url: str | os.PathLike[str]) -> str:
    """A URL as text; folders become absolute, so that workers elsewhere agree.

    Raises:
        StoreError: The scheme is not one of those supported.
    """
    text = os.fspath(url)
    if is_memory(text):
        return text
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "file":
        text = rest
    elif separator:
        raise StoreError(
            f"A cube's URL must be a folder or memory://name. Received scheme {scheme!r} "
            f"in {text!r}."
        )
    return str(Path(text).absolute())


def open_store(url: str | os.PathLike[str]) -> zarr.abc.store.Store:
    """The zarr store behind a URL, for example for ``xr.open_zarr``."""
    text = normalise(url)
    if is_memory(text):
        return _memory.setdefault(text, zarr.storage.MemoryStore())
    return zarr.storage.LocalStore(text)


def exists(url: str | os.PathLike[str]) -> bool:
    """True if something lies there, a cube or not."""
    text = normalise(url)
    return text in _memory if is_memory(text) else Path(text).exists()


def open_group(url: str | os.PathLike[str], *, writable: bool = False) -> zarr.Group:
    """Open an existing root group.

    Raises:
        StoreError: Nothing lies there, or it is no Zarr v3 group.
    """
    if not exists(url):
        raise StoreError(f"There is no cube at {os.fspath(url)!r}; create it first.")
    try:
        return zarr.open_group(
            open_store(url),
            mode="r+" if writable else "r",
            zarr_format=3,
            # A writer must see the arrays that it has just made.
            use_consolidated=False if writable else None,
        )
    except (zarr.errors.GroupNotFoundError, FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(
            f"{os.fspath(url)!r} is not a cube: it holds no Zarr v3 group. "
            f"Give the folder of a cube, or a new one."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{os.fspath(url)!r} is not a cube: its Zarr metadata cannot be read ({error})."
        ) from error


def is_vacant(url: str) -> bool:
    """True if a cube may be created there: nothing, or an empty folder."""
    if not exists(url):
        return True
    if is_memory(url):
        return False
    path = Path(url)
    if not path.is_dir():
        raise StoreError(
            f"A file lies at {url!r}, where a cube's folder is wanted; choose another."
        )
    return all(entry.suffix == ".partial" for entry in path.iterdir())


def make_folder(url: str) -> None:
    """Make the folder of a new cube, so that it can be locked."""
    if not is_memory(url):
        with explained(url):
            Path(url).mkdir(parents=True, exist_ok=True)


def create_group(url: str, attrs: Mapping[str, Any]) -> zarr.Group:
    """Create a root group with its attributes in one write, or open the one there."""
    with explained(url):
        if not is_vacant(url):
            return open_group(url, writable=True)
        return zarr.create_group(open_store(url), zarr_format=3, attributes=dict(attrs))


def root_attributes(url: str | os.PathLike[str]) -> tuple[dict[str, Any], bool]:
    """Attributes of the root, and whether its metadata has been consolidated."""
    group = open_group(url)
    return dict(group.attrs), group.metadata.consolidated_metadata is not None


def array_attributes(url: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """Attributes of every array by path; before consolidation, of those at the top."""
    group = open_group(url)
    consolidated = group.metadata.consolidated_metadata
    if consolidated is None:
        with warnings.catch_warnings():
            # A creation that was cut short may leave a folder without metadata.
            warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
            return {path: dict(node.attrs) for path, node in group.arrays()}
    return {
        path: dict(node.attributes)
        for path, node in consolidated.flattened_metadata.items()
        if isinstance(node, ArrayV3Metadata)
    }


def create_arrays(group: zarr.Group, plans: Iterable[ArrayPlan]) -> None:
    """Create arrays; one that a creation cut short left behind is replaced."""
    for plan in plans:
        with warnings.catch_warnings():
            # Variable-length strings await their own page in the Zarr specification.
            warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
            warnings.simplefilter("ignore", FutureWarning)
            group.create_array(
                plan.path,
                shape=plan.shape,
                chunks=plan.chunks,
                shards=plan.shards,
                dtype=str if plan.dtype == "str" else plan.dtype,
                fill_value=plan.fill,
                compressors=_compressors(plan.codec),
                dimension_names=plan.dims,
                attributes=dict(plan.attrs),
                overwrite=True,
            )


def _compressors(codec: str) -> list[Any]:
    """Codec chain from text; it always ends in a checksum."""
    if codec == "none":
        return [Crc32cCodec()]
    _, cname, level, shuffle = codec.split("-")
    return [BloscCodec(cname=cname, clevel=int(level), shuffle=shuffle), Crc32cCodec()]  # type: ignore[arg-type]


def consolidate(url: str | os.PathLike[str]) -> None:
    """Gather all metadata in one place, for readers that open with one request."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        zarr.consolidate_metadata(open_store(url), zarr_format=3)
    _cached_array.cache_clear()


def array(group: zarr.Group, path: str) -> zarr.Array[Any]:
    """An array of the group.

    Raises:
        StoreError: It is not there, as in a cube whose creation was cut short.
    """
    found = group.get(path)
    if not isinstance(found, zarr.Array):
        raise StoreError(
            f"The cube has no array {path!r}; if its creation was cut short, create it again "
            f"with the same spec."
        )
    return found


@lru_cache(maxsize=256)
def _cached_array(url: str, path: str, writable: bool) -> zarr.Array[Any]:
    return array(open_group(url, writable=writable), path)


def read(url: str, path: str, index: tuple[Any, ...] = (...,)) -> npt.NDArray[Any]:
    """Stored values of part of an array.

    Raises:
        StoreError: A chunk is damaged: its checksum or its length is wrong.
    """
    source = _cached_array(normalise(url), path, False)
    try:
        return np.asarray(source[index])
    except (ValueError, RuntimeError, OSError) as error:
        raise StoreError(f"{path!r} cannot be read at {_text(index)}: {error}") from error


def shape(url: str, path: str) -> tuple[int, ...]:
    """Sizes of an array."""
    return _cached_array(normalise(url), path, False).shape


def write(url: str, path: str, index: tuple[Any, ...], values: npt.NDArray[Any]) -> None:
    """Write part of an array; chunks are replaced atomically, one by one."""
    with explained(url):
        _cached_array(normalise(url), path, True)[index] = values


def _text(index: tuple[Any, ...]) -> str:
    return ", ".join(f"{i.start}:{i.stop}" if isinstance(i, slice) else str(i) for i in index)


@contextlib.contextmanager
def explained(url: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the system's reasons for a failed write into one clear line."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full; make room and run again, what is written stays",
            errno.EDQUOT: "the disk quota is used up; make room and run again",
            errno.EFBIG: "a file would grow past the size limit; raise it and run again",
            errno.EROFS: "the file system is read-only; write somewhere else",
            errno.EACCES: "permission denied; choose a place you may write to",
            errno.ENOENT: "there is no such folder; create the cube first",
            errno.ENOTDIR: "a file lies where a folder is needed; choose another place",
            errno.EEXIST: "a file lies where a folder is needed; choose another place",
        }
        reason = reasons.get(error.errno or 0, str(error))
        raise StoreError(f"Cannot write to {os.fspath(url)!r}: {reason}.") from error


@contextlib.contextmanager
def metadata_lock(url: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the one right to change metadata; released when the process dies, too.

    The lock is on the folder itself, so no file is left behind.
    """
    text = normalise(url)
    if is_memory(text):
        yield
        return
    with explained(url):
        handle = os.open(text, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for depth in ("", "*/", "*/*/"):
            # A writer killed inside the lock left these; nobody else can own one now.
            for stray in Path(text).glob(f"{depth}zarr.*.partial"):
                stray.unlink(missing_ok=True)
        yield
    finally:
        os.close(handle)


def sweep_partial(url: str, paths: Iterable[str]) -> int:
    """Remove the half-written temporary files of a killed writer.

    Args:
        url: The cube.
        paths: Keys of chunks that this run is about to write, e.g.
            ``"predictors/c/0/0/3/2"``; nothing else is touched.

    Returns:
        Number of files removed.
    """
    if is_memory(url):
        return 0
    root = Path(normalise(url))
    keys = {root / path for path in paths}
    removed = 0
    for folder in {key.parent for key in keys}:
        for stray in folder.glob("*.partial") if folder.is_dir() else ():
            # A temporary file is called <chunk>.<random>.partial.
            if folder / stray.name.split(".")[0] in keys:
                stray.unlink(missing_ok=True)
                removed += 1
    return removed


def keys_of(url: str, path: str, index: tuple[slice, ...]) -> list[str]:
    """Store keys of the chunks (or shards) that an aligned selection covers."""
    target = _cached_array(normalise(url), path, False)
    sides = target.shards or target.chunks
    spans = [
        range(part.start // side, -(-part.stop // side))
        for part, side in zip(index, sides, strict=True)
    ]
    grid = np.stack(np.meshgrid(*spans, indexing="ij"), axis=-1).reshape(-1, len(spans))
    return [f"{path}/c/{'/'.join(map(str, place))}" for place in grid]
