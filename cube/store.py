"""Arrays of a cube: the one module that names zarr.

Everything above works with :class:`ArrayPlan`, numpy arrays and paths inside the cube.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import math
import os
import struct
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numcodecs.blosc
import numpy as np
import numpy.typing as npt
import zarr
import zarr.abc.store
import zarr.errors
import zarr.storage
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.metadata import ArrayV3Metadata

from cube import clouds, metadata, objects, urls
from cube.encoding import decode_chunk, encode_chunk, is_nothing
from cube.errors import DamagedError, StoreError
from cube.metadata import Metadata
from cube.objects import explained

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer

# Regions are already parallel; threads inside Blosc would only fight with them.
numcodecs.blosc.use_threads = False

# Chunks of one region in flight: at 50 ms a request, zarr's 10 would make a region wait.
zarr.config.set({"async.concurrency": objects.PARALLEL})


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


def rendered(
    plan: ArrayPlan, values: npt.NDArray[Any] | None = None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Metadata document of an array, and its encoded chunks by key if it has values.

    Chunks that hold only the fill value are not stored.
    """
    memory = zarr.storage.MemoryStore()
    with warnings.catch_warnings():
        # Variable-length strings await their own page in the Zarr specification.
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        warnings.simplefilter("ignore", FutureWarning)
        made = zarr.create_array(
            memory,
            name=plan.path,
            shape=plan.shape,
            chunks=plan.chunks,
            shards=plan.shards,
            dtype=str if plan.dtype == "str" else plan.dtype,
            fill_value=plan.fill,
            compressors=_compressors(plan.codec),
            dimension_names=plan.dims,
            attributes=dict(plan.attrs),
            zarr_format=3,
        )
    if values is not None:
        made[...] = values
    keys = {key: data.to_bytes() for key, data in memory._store_dict.items()}
    document = json.loads(keys[f"{plan.path}/{metadata.ROOT_DOCUMENT}"])
    return document, {
        key: data for key, data in keys.items() if not key.endswith(metadata.ROOT_DOCUMENT)
    }


def _compressors(codec: str) -> list[Any]:
    """Codec chain from text; it always ends in a checksum."""
    if codec == "none":
        return [Crc32cCodec()]
    _, cname, level, shuffle = codec.split("-")
    return [BloscCodec(cname=cname, clevel=int(level), shuffle=shuffle), Crc32cCodec()]  # type: ignore[arg-type]


def open_store(url: str | os.PathLike[str], *, read_only: bool = False) -> zarr.abc.store.Store:
    """The zarr store behind a URL, for example for ``xr.open_zarr``."""
    text = urls.normalise(url)
    if urls.is_folder(text):
        return LocalStore(text, read_only=read_only)
    return _ByUrl(text, read_only=read_only)


def _filled(value: Buffer | None) -> Buffer | None:
    """What was got, if it is anything: a power cut may leave files without a byte.

    Zarr takes an empty shard for one of nothing but nodata.
    """
    if value is not None and len(value) == 0:
        raise ValueError("it is empty: 0 bytes")
    return value


class LocalStore(zarr.storage.LocalStore):
    """A folder that does not take an empty file for nodata.

    zarrs knows stores by the names of their classes, hence this one.
    """

    async def get(self, *args: Any, **options: Any) -> Buffer | None:
        """See Zarr."""
        return _filled(await super().get(*args, **options))


class _ByUrl(zarr.storage.ObjectStore):  # type: ignore[type-arg]  # no generic before 3.1.4
    """A store that travels to workers as its URL: they take credentials from where they are."""

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        super().__init__(objects.remote(url).store, read_only=read_only)
        self.url = url

    async def get(self, *args: Any, **options: Any) -> Buffer | None:
        """See Zarr."""
        return _filled(await super().get(*args, **options))

    def with_read_only(self, read_only: bool = False) -> _ByUrl:
        return _ByUrl(self.url, read_only=read_only)

    def __reduce__(self) -> tuple[Any, ...]:
        here = os.getpid() if urls.is_memory(self.url) else None
        return _by_url, (self.url, self.read_only, here)


def _by_url(url: str, read_only: bool, process: int | None) -> _ByUrl:
    if process not in (None, os.getpid()):
        raise StoreError(
            f"{url!r} lives in another process; workers in other processes cannot see it. "
            f"Give the cube a folder."
        )
    return _ByUrl(url, read_only=read_only)


_PIPELINES = {False: zarr.config.get("codec_pipeline.path"), True: "zarrs.ZarrsCodecPipeline"}
_with_zarrs = False


def use_zarrs(on: bool = True) -> None:
    """Read with zarrs, a codec pipeline in Rust, from now on and in this process.

    Values are the same, and shards faster. Folders only; writing stays with
    zarr-python, which replaces files atomically. Datasets opened before stay as they are.
    For Dask workers, call it in each (``client.run(cube.use_zarrs)``).

    Raises:
        StoreError: zarrs is not installed.
    """
    global _with_zarrs  # noqa: PLW0603  (a setting of the process, as zarr's own)
    if on and importlib.util.find_spec("zarrs") is None:
        raise StoreError("zarrs is not installed; run pip install 'quadrat[zarrs]'.")
    _with_zarrs = on
    _opened.clear()


_opening = threading.RLock()


@contextlib.contextmanager
def pipeline(*, writing: bool = False) -> Iterator[None]:
    """Within it arrays are opened for reading, or for writing."""
    path = _PIPELINES[_with_zarrs and not writing]
    # The setting is the whole process's: one thread at a time.
    with _opening, warnings.catch_warnings(), zarr.config.set({"codec_pipeline.path": path}):
        # zarrs says of arrays that it leaves to zarr-python, such as those of text, that it does.
        warnings.filterwarnings("ignore", message=".*ZarrsCodecPipeline", category=UserWarning)
        yield


_opened: WeakKeyDictionary[Metadata, dict[tuple[str, bool], zarr.Array[Any]]] = WeakKeyDictionary()
"""Arrays that this process has opened, for as long as their cube is as it was."""


def array(
    url: str,
    path: str,
    *,
    like: Mapping[str, Any] | None = None,
    index: tuple[Any, ...] = (),
    writing: bool = False,
) -> zarr.Array[Any]:
    """An array of a cube, without a request if this process knows the cube.

    Args:
        url: A normalised URL.
        path: Place inside the cube.
        like: Attributes that it must have; a cube that was made anew has others.
        index: What it must hold; a cube to which periods were appended is longer.
        writing: See :func:`use_zarrs`, which is for reading only.

    Raises:
        StoreError: It is not there.
    """
    for anew in (False, True):
        cube = metadata.known(url, anew=anew)
        document = cube.arrays.get(path)
        if document is not None and _has(document, like) and _reaches(document, index):
            arrays = _opened.setdefault(cube, {})
            if (path, writing) not in arrays:
                with pipeline(writing=writing):
                    arrays[path, writing] = _open_array(url, path, document)
            return arrays[path, writing]
    if document is None:
        raise StoreError(f"The cube at {url!r} has no array {path!r}.")
    raise StoreError(
        f"{path!r} of the cube at {url!r} is no longer what it was when this began; read its "
        f"spec again."
    )


def _has(document: Mapping[str, Any], like: Mapping[str, Any] | None) -> bool:
    attributes = document.get("attributes", {})
    return all(attributes.get(key) == value for key, value in (like or {}).items())


def _reaches(document: Mapping[str, Any], index: tuple[Any, ...]) -> bool:
    # Slices may reach beyond the end, as those of the last chunks do.
    sides = zip(index, document["shape"], strict=False)
    return all(i < n for i, n in sides if isinstance(i, int))


def _open_array(url: str, path: str, document: Mapping[str, Any]) -> zarr.Array[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        place = zarr.storage.StorePath(open_store(url), path)
        metadata = ArrayV3Metadata.from_dict(dict(document))
        return zarr.Array(zarr.AsyncArray(metadata=metadata, store_path=place))


@contextlib.contextmanager
def _explained(url: str, verb: str) -> Iterator[None]:
    """What a folder and what an object store may say, in one clear line."""
    with explained(url, verb=verb):
        if urls.is_folder(url):
            yield
        else:
            with clouds.explained(url):
                yield


def read(
    url: str,
    path: str,
    index: tuple[Any, ...] = (...,),
    *,
    like: Mapping[str, Any] | None = None,
) -> npt.NDArray[Any]:
    """Stored values of part of an array.

    Raises:
        DamagedError: The checksum or the length of a chunk is wrong.
        StoreError: The store refuses.
    """
    text = urls.normalise(url)
    source = array(text, path, like=like, index=index)
    # What comes over a network may be damaged on the way only: it is asked for once more.
    for last in (urls.is_folder(text), True):
        try:
            with _explained(text, "read"):
                one = _one_chunk(source, index)
                return np.asarray(source[index] if one is None else _read_chunk(text, source, one))
        except StoreError:
            raise
        except (ValueError, RuntimeError, EOFError, IndexError) as error:
            if last:
                raise DamagedError(f"{path!r} cannot be read at {_text(index)}: {error}") from error
    raise AssertionError  # pragma: no cover  (the loop returns or raises)


def _one_chunk(source: zarr.Array[Any], index: tuple[Any, ...]) -> tuple[int | slice, ...] | None:
    """The index, each axis a number or a plain slice, if one chunk decoded here holds it."""
    if _with_zarrs or len(index) != source.ndim or _codec_of(source) is None:
        return None
    sides = zip(index, source.chunks, source.shape, strict=True)
    plain = tuple(_within(part, side, length) for part, side, length in sides)
    return None if None in plain else plain  # type: ignore[return-value]


def _within(part: Any, side: int, length: int) -> int | slice | None:
    """A number or a slice along one axis, if it lies in one chunk."""
    if isinstance(part, int):
        return part if 0 <= part < length else None
    if not isinstance(part, slice):
        return None
    start, stop, step = part.indices(length)
    inside = step == 1 and start < stop and start // side == (stop - 1) // side
    return slice(start, stop) if inside else None


def _read_chunk(
    url: str, source: zarr.Array[Any], index: tuple[int | slice, ...]
) -> npt.NDArray[Any]:
    """Part of one chunk, without zarr's way from coroutine to thread and back."""
    first = [_as_slice(part).start for part in index]
    place = [start // side for start, side in zip(first, source.chunks, strict=True)]
    data = objects.at(url).view(f"{source.path}/c/{'/'.join(map(str, place))}")
    if data is None:
        shape = [part.stop - part.start for part in index if isinstance(part, slice)]
        return np.full(shape, source.fill_value, source.dtype)
    codec = _codec_of(source)
    whole = decode_chunk(data, str(codec), shape=source.chunks, dtype=source.dtype)
    corner = [i * side for i, side in zip(place, source.chunks, strict=True)]
    own = tuple(
        slice(part.start - at, part.stop - at) if isinstance(part, slice) else part - at
        for part, at in zip(index, corner, strict=True)
    )
    # A part alone, as zarr gives it, and not a view that keeps the chunk.
    return np.ascontiguousarray(whole[own])


def shape(url: str, path: str) -> tuple[int, ...]:
    """Sizes of an array."""
    return array(urls.normalise(url), path).shape


def write(
    url: str,
    path: str,
    index: tuple[Any, ...],
    values: npt.NDArray[Any],
    *,
    like: Mapping[str, Any] | None = None,
) -> None:
    """Write whole chunks or shards of an array; they are replaced atomically, one by one."""
    text = urls.normalise(url)
    target = array(text, path, like=like, index=index, writing=True)
    codec = _codec_of(target)
    if codec is not None:
        _write_chunks(text, path, index, values, target, codec)
        return
    with _explained(text, "write to"):
        try:
            target[index] = values
        except (ValueError, RuntimeError, EOFError, IndexError):
            # Zarr looks into a shard before it writes all of it, and stumbles over a damaged one.
            objects.delete_many(objects.at(text), keys_of(text, path, index))
            target[index] = values


def _codec_of(target: zarr.Array[Any]) -> str | None:
    """The codec of an array as text, where it is one that is encoded here; not so shards."""
    dtype, fill = np.dtype(target.dtype), target.fill_value
    storable = dtype.kind in "iu" or (dtype.kind == "f" and bool(np.isnan(fill)))
    if target.shards is not None or target.filters or not storable:
        return None
    *compressors, last = target.compressors or (None,)
    if not isinstance(last, Crc32cCodec) or len(compressors) > 1:
        return None
    if not compressors:
        return "none"
    blosc = compressors[0]
    if not isinstance(blosc, BloscCodec) or blosc.blocksize or blosc.typesize != dtype.itemsize:
        return None
    return f"blosc-{blosc.cname.value}-{blosc.clevel}-{blosc.shuffle.value}"


def _write_chunks(
    url: str,
    path: str,
    index: tuple[Any, ...],
    values: npt.NDArray[Any],
    target: zarr.Array[Any],
    codec: str,
) -> None:
    there = objects.at(url)
    origin = [_as_slice(part).start or 0 for part in index]
    spans = (_as_slice(part).indices(n) for part, n in zip(index, target.shape, strict=True))
    whole = values.reshape([stop - start for start, stop, _ in spans])
    encoded: dict[str, bytes] = {}
    empty: list[str] = []
    for key, place in pieces(url, path, index):
        own = tuple(
            slice(part.start - start, part.stop - start)
            for part, start in zip(place, origin, strict=True)
        )
        chunk = whole[own]
        if is_nothing(chunk, target.fill_value):
            empty.append(key)
        else:
            encoded[key] = encode_chunk(_padded(chunk, target), codec)
    objects.put_many(there, encoded)
    objects.delete_many(there, empty)


def _padded(chunk: npt.NDArray[Any], target: zarr.Array[Any]) -> npt.NDArray[Any]:
    """A chunk at the end of an array, which is stored as large as the others."""
    if chunk.shape == target.chunks:
        return chunk
    full = np.full(target.chunks, target.fill_value, chunk.dtype)
    full[tuple(slice(0, n) for n in chunk.shape)] = chunk
    return full


def _text(index: tuple[Any, ...]) -> str:
    """An index as one writes it, e.g. ``0, :, 256:512, 0:256``."""
    return ", ".join(_side(i) if isinstance(i, slice) else str(i) for i in index)


def _side(part: slice) -> str:
    return ":".join("" if end is None else str(end) for end in (part.start, part.stop))


def keys_of(url: str, path: str, index: tuple[slice, ...]) -> list[str]:
    """Store keys of the objects that an aligned selection covers."""
    return [key for key, _ in pieces(url, path, index)]


def pieces(url: str, path: str, index: tuple[Any, ...]) -> Iterator[tuple[str, tuple[slice, ...]]]:
    """Objects (chunks, or shards) of an aligned selection: key, and index in the array."""
    starts = tuple(_as_slice(part).start for part in index)
    target = array(urls.normalise(url), path, index=starts)
    sides = target.shards or target.chunks
    spans = []
    for part, side, length in zip(index, sides, target.shape, strict=True):
        start, stop, _ = _as_slice(part).indices(length)
        spans.append(range(start // side, -(-stop // side)))
    for place in itertools.product(*spans):
        yield (
            f"{path}/c/{'/'.join(map(str, place))}",
            tuple(slice(i * side, (i + 1) * side) for i, side in zip(place, sides, strict=True)),
        )


def _as_slice(part: int | slice) -> slice:
    return part if isinstance(part, slice) else slice(part, part + 1)


_BLOSC_HEADER = struct.Struct("<12xI")


def fault(url: str, path: str, index: tuple[slice, ...], data: bytes) -> str:
    """What is wrong with one object of an array; empty if it can be decoded.

    Args:
        url: The cube.
        path: The array.
        index: Where the object lies in it, from :func:`pieces`.
        data: The object.
    """
    try:
        read(url, path, index)
    except DamagedError as error:
        known = _encoded_bytes(array(urls.normalise(url), path), data)
        if known is not None and len(data) < known:
            return f"is cut short: {len(data)} of {known} bytes"
        if not data:
            return "is cut short: 0 bytes"
        cause = str(error.__cause__).rstrip(".").splitlines()[0]
        return f"is damaged, {len(data)} bytes: {cause}"
    return ""


def _encoded_bytes(source: zarr.Array[Any], data: bytes) -> int | None:
    """Bytes that an object should have, its checksum included; None where it does not tell."""
    if source.shards is not None or not source.compressors:
        return None
    if not isinstance(source.compressors[0], BloscCodec):
        return math.prod(source.chunks) * source.dtype.itemsize + 4
    # Bytes 12 to 16 of a Blosc frame hold its length.
    return int(_BLOSC_HEADER.unpack_from(data)[0]) + 4 if len(data) >= 16 else 20
