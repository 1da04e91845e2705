"""How arrays are cut on disk: chunk, shard, region and codec, as data."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Self

from cube.errors import SpecError

_CODEC = re.compile(r"blosc-(zstd|lz4|lz4hc|zlib)-([0-9])-(noshuffle|shuffle|bitshuffle)|none")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutSpec:
    """Square cuts along y and x, in pixels; a chunk holds every band and one time.

    Attributes:
        chunk: Side of a chunk: what a reader decodes at least.
        shard: Side of a shard, a file that holds several chunks; None stores
            every chunk as a file of its own.
        region: Side of a region: the unit of a task, a write and a resume. A
            multiple of the shard, or of the chunk where there are no shards.
        codec: ``"blosc-<zstd|lz4|lz4hc|zlib>-<level 0..9>-<noshuffle|shuffle|bitshuffle>"``
            or ``"none"``. A crc32c checksum always follows.
    """

    chunk: int = 256
    shard: int | None = None
    region: int = 1024
    codec: str = "blosc-zstd-3-bitshuffle"

    def __post_init__(self) -> None:
        for name in ("chunk", "shard", "region"):
            side = getattr(self, name)
            if not (isinstance(side, int) and side > 0) and not (name == "shard" and side is None):
                raise SpecError(f"{name} must be a positive whole number. Received {side!r}.")
        if self.shard is not None:
            _check_multiple("shard", self.shard, of="chunk", unit=self.chunk)
        _check_multiple(
            "region", self.region, of="shard" if self.shard else "chunk", unit=self.unit
        )
        if not _CODEC.fullmatch(self.codec):
            raise SpecError(
                f"codec must be like 'blosc-zstd-3-bitshuffle', or 'none'. Received {self.codec!r}."
            )

    @classmethod
    def for_object_store(cls) -> Self:
        """One object a region: a write of one request, and few objects for a large cube.

        The defaults are for folders, where small files cost little and a chip is
        read without the index of a shard.
        """
        return cls(chunk=256, shard=1024, region=1024)

    @property
    def unit(self) -> int:
        """Side of what is written whole: a shard, or a chunk without shards."""
        return self.shard or self.chunk


def _check_multiple(name: str, side: int, *, of: str, unit: int) -> None:
    if side % unit:
        raise SpecError(
            f"A {name} must hold whole {of}s. Received {name}={side}, {of}={unit}; "
            f"try {name}={math.ceil(side / unit) * unit}."
        )
