"""Chunks as bytes, as Zarr stores them, without Zarr's machinery around each.

Zarr hands every chunk from coroutine to thread and back, which takes longer than to compress it.
Writers and readers here are parallel already, so they code their chunks one after the other, to and
from the same bytes: little-endian numbers, Blosc where the layout says so, and a crc32c at the end
(https://zarr-specs.readthedocs.io/en/latest/v3/codecs/).
"""

from __future__ import annotations

from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
from numcodecs import Blosc

from cube.buffers import Buffers

_decoded = Buffers(kept_bytes=32_000_000)
"""Memory of chunks that were decoded and let go of."""

_SHUFFLES = {"noshuffle": Blosc.NOSHUFFLE, "shuffle": Blosc.SHUFFLE, "bitshuffle": Blosc.BITSHUFFLE}


def encode_chunk(values: npt.NDArray[Any], codec: str) -> bytes:
    """Bytes of a chunk, as Zarr stores them.

    Args:
        values: All of the chunk, in its own order.
        codec: See :class:`cube.layout.LayoutSpec`.
    """
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    data = little.tobytes() if codec == "none" else bytes(_blosc(codec).encode(little))
    return data + int(google_crc32c.value(data)).to_bytes(4, "little")


def decode_chunk(
    data: bytes | npt.NDArray[np.uint8], codec: str, *, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    """A chunk from its bytes, the inverse of :func:`encode_chunk`.

    Args:
        data: All of the chunk as it is stored.
        codec: See :class:`cube.layout.LayoutSpec`.
        shape: Of the chunk.
        dtype: Of the array.

    Raises:
        ValueError: The bytes are not those that were written.
        RuntimeError: Blosc cannot read them.
    """
    if not len(data):
        raise ValueError("it is empty: 0 bytes")
    # An array's parts are no copies, as those of bytes are.
    whole = np.frombuffer(data, np.uint8)
    body = whole[:-4]
    if int.from_bytes(whole[-4:].tobytes(), "little") != int(google_crc32c.value(body)):
        raise ValueError("its checksum (crc32c) is not that of its bytes")
    little = dtype.newbyteorder("<")
    if codec == "none":
        return np.frombuffer(body, little).reshape(shape).astype(dtype)
    values = _decoded.empty(shape, little)
    if _blosc_bytes(body) != values.nbytes:
        raise ValueError(f"it holds {_blosc_bytes(body)} bytes, not {values.nbytes}")
    _blosc(codec).decode(body, out=values)
    return values.astype(dtype, copy=False)


def _blosc_bytes(frame: npt.NDArray[np.uint8]) -> int:
    """Decoded bytes of a Blosc frame, by its header; -1 if it is shorter than one."""
    return int.from_bytes(frame[4:8].tobytes(), "little") if len(frame) >= 16 else -1


def _blosc(codec: str) -> Blosc:
    _, cname, level, shuffle = codec.split("-")
    return Blosc(cname=cname, clevel=int(level), shuffle=_SHUFFLES[shuffle])


def is_nothing(values: npt.NDArray[Any], fill: Any) -> bool:
    """True for a chunk of nothing but the fill value, which is not stored.

    Args:
        values: All of the chunk.
        fill: A whole number, or NaN.
    """
    first = values.flat[:1]
    # One glance settles it for most chunks.
    if values.dtype.kind == "f":
        return bool(np.isnan(first).all()) and bool(np.isnan(values).all())
    return bool((first == fill).all()) and bool((values == fill).all())
