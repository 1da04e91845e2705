"""Bytes by key under a URL, wherever it is.

    objects.at("s3://bucket/cube.zarr").get("zarr.json")

A put is atomic everywhere: a reader sees the whole old value or the whole new
one. What a store says when it refuses becomes one clear line.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cube import clouds, urls
from cube.buffers import Buffers
from cube.errors import StoreError, TransientError
from cube.retrying import PASSING

PARALLEL = 32
"""Requests in flight at once; at 50 ms each that is 640 a second."""

_viewed = Buffers(kept_bytes=32_000_000)
"""Memory of files that were looked at and let go of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One object.

    Attributes:
        key: Below the URL, with ``/`` between steps.
        size: Bytes.
    """

    key: str
    size: int


class Objects(Protocol):
    """Bytes by key under one URL."""

    def get(self, key: str) -> bytes | None:
        """The whole value, or None where there is none."""

    def view(self, key: str) -> npt.NDArray[np.uint8] | None:
        """The whole value to look at, uint8 (byte,), or None where there is none."""

    def put(self, key: str, data: bytes) -> None:
        """Set a value, replacing what is there."""

    def delete(self, key: str) -> None:
        """Remove a value; nothing happens where there is none."""

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """All objects whose key begins with ``prefix``, whole steps only (``"ledger/"``)."""


def at(url: str | os.PathLike[str]) -> Objects:
    """The bytes under a URL.

    Raises:
        StoreError: The URL cannot be one of a cube, or its store refuses.
    """
    text = urls.normalise(url)
    return Folder(Path(text)) if urls.is_folder(text) else remote(text)


_memory: dict[str, Remote] = {}


def remote(text: str) -> Remote:
    """The bytes under a normalised URL that is not a folder."""
    if urls.is_memory(text):
        # Kept for as long as the process lives: there is no other copy.
        return _memory.setdefault(text, Remote(text, clouds.connect(text)))
    return _remote(text, clouds.environment(text))


@lru_cache(maxsize=64)
def _remote(text: str, environment: tuple[tuple[str, str], ...]) -> Remote:
    return Remote(text, clouds.connect(text))


def get_many(source: Objects, keys: Iterable[str]) -> list[bytes | None]:
    """Values of many keys, in their order."""
    return _each(source, source.get, list(keys))


def put_many(target: Objects, values: Mapping[str, bytes]) -> None:
    """Set many values, in no order."""
    _each(target, lambda item: target.put(*item), list(values.items()))


def delete_many(target: Objects, keys: Iterable[str]) -> None:
    """Remove many values, in no order."""
    _each(target, target.delete, list(keys))


def delete_below(target: Objects, prefix: str) -> None:
    """Remove everything below a prefix such as ``"predictors/"``, empty folders too."""
    delete_many(target, [entry.key for entry in target.list(prefix)])
    if isinstance(target, Folder):
        for folder, _, _ in os.walk(target.root / prefix, topdown=False):
            # Not empty: another process has just put something there.
            with contextlib.suppress(OSError):
                Path(folder).rmdir()


def _each(where: Objects, call: Any, items: list[Any]) -> list[Any]:
    if isinstance(where, Folder) or len(items) < 2:
        return [call(item) for item in items]
    with ThreadPoolExecutor(min(PARALLEL, len(items))) as pool:
        return list(pool.map(call, items))


class Folder:
    """Files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._text = os.fspath(root)

    def get(self, key: str) -> bytes | None:
        """See :class:`Objects`."""
        with explained(self.root, verb="read"):
            try:
                return (self.root / key).read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def view(self, key: str) -> npt.NDArray[np.uint8] | None:
        """See :class:`Objects`."""
        with explained(self.root, verb="read"):
            try:
                with open(f"{self._text}/{key}", "rb", buffering=0) as file:
                    data = _viewed.empty((os.fstat(file.fileno()).st_size,), "uint8")
                    return data[: _filled(file, data)]
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def put(self, key: str, data: bytes) -> None:
        """See :class:`Objects`; the file is replaced by renaming a whole one over it."""
        # Text and not a Path: there are many chunks, and a Path takes longer than to open a file.
        path = f"{self._text}/{key}"
        # The same name that Zarr gives to its temporary files, so that one sweep finds all.
        partial = f"{path}.{uuid.uuid4().hex}.partial"
        with explained(self.root):
            try:
                _write(partial, data)
                os.replace(partial, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(partial)
                raise

    def delete(self, key: str) -> None:
        """See :class:`Objects`."""
        with explained(self.root), contextlib.suppress(NotADirectoryError):
            (self.root / key).unlink(missing_ok=True)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """See :class:`Objects`."""
        with explained(self.root, verb="read"):
            yield from _files(self.root / prefix, prefix)


def sweep_partial(url: str, paths: Iterable[str]) -> int:
    """Remove the half-written temporary files of a killed writer.

    Args:
        url: A normalised URL.
        paths: Keys that only the caller may write now, e.g. ``"predictors/c/0/0/3/2"``;
            nothing else is touched.

    Returns:
        Number of files removed.
    """
    if not urls.is_folder(url):
        return 0
    wanted = set(paths)
    strays = [
        Path(url, folder, name)
        for folder in {path.rpartition("/")[0] for path in wanted}
        for name in _names(f"{url}/{folder}")
        # A temporary file is called <chunk>.<random>.partial.
        if name.endswith(".partial") and f"{folder}/{name.rsplit('.', 2)[0]}" in wanted
    ]
    with explained(url):
        for stray in strays:
            stray.unlink(missing_ok=True)
    return len(strays)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _filled(file: Any, data: npt.NDArray[np.uint8]) -> int:
    """Read a file into memory; how many bytes there were, fewer if it was cut meanwhile."""
    there = 0
    while there < len(data):
        count = file.readinto(data[there:])
        if not count:
            break
        there += count
    return there


def _write(path: str, data: bytes) -> None:
    try:
        _put_bytes(path, data)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _put_bytes(path, data)


def _put_bytes(path: str, data: bytes) -> None:
    with open(path, "wb", buffering=0) as file:
        left = memoryview(data)
        while left:
            left = left[file.write(left) :]


def _files(folder: Path, prefix: str) -> Iterator[Entry]:
    """Files below a folder in order of their names."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path), f"{prefix}{entry.name}/")
        else:
            # Another process may remove it in between.
            with contextlib.suppress(FileNotFoundError):
                yield Entry(key=f"{prefix}{entry.name}", size=entry.stat().st_size)


Tag = Mapping[str, str]
"""What tells one state of an object from another: its entity tag, in GCS its generation."""


def _tag(known: Mapping[str, Any]) -> Tag:
    return {name: known[name] for name in ("e_tag", "version") if known[name] is not None}


class Remote:
    """Objects of a bucket below a path, or of this process's memory."""

    def __init__(self, url: str, store: Any) -> None:
        self.url = url
        self.store = store

    def get(self, key: str) -> bytes | None:
        """See :class:`Objects`."""
        found = self.get_tagged(key)
        return None if found is None else found[0]

    def view(self, key: str) -> npt.NDArray[np.uint8] | None:
        """See :class:`Objects`."""
        found = self.get(key)
        return None if found is None else np.frombuffer(found, np.uint8)

    def get_tagged(self, key: str) -> tuple[bytes, Tag] | None:
        """The value and its tag, or None where there is none."""
        import obstore

        with clouds.explained(self.url):
            try:
                result = obstore.get(self.store, key)
                return bytes(result.bytes()), _tag(result.meta)
            except FileNotFoundError as error:
                clouds.check_bucket(self.url, error)
                return None

    def put(self, key: str, data: bytes) -> None:
        """See :class:`Objects`."""
        import obstore

        with clouds.explained(self.url):
            obstore.put(self.store, key, data)

    def put_if(self, key: str, data: bytes, *, tag: Tag | None) -> Tag | None:
        """Set a value if nobody else did: only where there is none, or only over ``tag``.

        Returns:
            The new tag; None if the condition did not hold.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with clouds.explained(self.url):
            try:
                mode: Any = "create" if tag is None else dict(tag)
                return _tag(obstore.put(self.store, key, data, mode=mode))
            except (AlreadyExistsError, PreconditionError):
                return None

    def delete(self, key: str) -> None:
        """See :class:`Objects`."""
        # obstore asks again after a refusal, but not after silence: that it leaves to us.
        for last in (False, False, True):
            try:
                return self._delete(key)
            except TransientError:
                if last:
                    raise

    def _delete(self, key: str) -> None:
        import obstore

        with clouds.explained(self.url):
            try:
                obstore.delete(self.store, key)
            except FileNotFoundError as error:
                clouds.check_bucket(self.url, error)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """See :class:`Objects`."""
        import obstore

        with clouds.explained(self.url):
            for page in obstore.list(self.store, prefix=prefix or None, chunk_size=1000):
                for found in page:
                    yield Entry(key=found["path"], size=int(found["size"]))


_REASONS = {
    errno.ENOSPC: "the disk is full; make room and run again, what is written stays",
    errno.EDQUOT: "the disk quota is used up; make room and run again",
    errno.EFBIG: "a file would grow past the size limit; raise it and run again",
    errno.EROFS: "the file system is read-only; write somewhere else",
    errno.EACCES: "permission denied; choose a place you may use",
    errno.EPERM: "permission denied; choose a place you may use",
    errno.ENOENT: "there is no such folder; create the cube first",
    errno.ENOTDIR: "a file lies where a folder is needed; choose another place",
    errno.ENOLCK: "its file system has no locks; put the cube on another, or in an object store",
    errno.EISDIR: "a folder lies where a file is needed; remove it",
    errno.EEXIST: "a file lies where a folder is needed; choose another place",
}


@contextlib.contextmanager
def explained(url: str | os.PathLike[str], *, verb: str = "write to") -> Iterator[None]:
    """Turn the system's reasons for a failed read or write into one clear line.

    Raises:
        TransientError: It may work when tried again.
        StoreError: It will not.
    """
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, str(error))
        kind = TransientError if error.errno in PASSING else StoreError
        raise kind(f"Cannot {verb} {os.fspath(url)!r}: {reason}.") from error
