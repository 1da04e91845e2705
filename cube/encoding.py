"""Chunks as bytes, as Zarr stores them, without Zarr's machinery around each.

Zarr hands every chunk from coroutine to thread and back, which takes longer than to compress it.
Writers here are parallel already, so they encode their chunks one after the other, to the same
bytes: little-endian numbers, Blosc where the layout says so, and a crc32c at the end
(https://zarr-specs.readthedocs.io/en/latest/v3/codecs/).
"""

from __future__ import annotations

from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
from numcodecs import Blosc

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
