"""What was written: one checksum per region, 0 = never.

A region is written first and ticked after, so a tick always stands for whole
data; a writer that dies in between leaves a region that is simply done again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from cube import store
from cube.errors import StoreError
from cube.regions import Region, ledger_index
from cube.spec import CubeSpec

_WRITTEN = 1 << 32
"""Set in every tick, so that a checksum of 0 still differs from "never"."""

UNREADABLE = 1
"""Stands for an entry that cannot be read; no tick, since it lacks the written bit."""


def checksum(values: npt.NDArray[Any]) -> int:
    """crc32c (RFC 3720) of the values' little-endian bytes in C order, with the written bit."""
    ordered = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return _WRITTEN | int(google_crc32c.value(ordered.tobytes()))


def tick(url: str, spec: CubeSpec, name: str, region: Region, value: int) -> None:
    """Record that a region is whole on disk."""
    index = ledger_index(spec, region)
    store.write(url, f"ledger/{name}", index, np.array(value, "uint64"))


def clear(url: str, spec: CubeSpec, name: str, regions: Iterable[Region]) -> None:
    """Forget regions, so that the next run writes them again."""
    for region in regions:
        tick(url, spec, name, region, 0)


def ticks(url: str, name: str) -> npt.NDArray[np.uint64]:
    """All ticks of a variable, shape (time, region_y, region_x) or without time.

    An entry that is damaged itself reads as :data:`UNREADABLE`.
    """
    try:
        return store.read(url, f"ledger/{name}")
    except StoreError:
        return _one_by_one(url, f"ledger/{name}")


def _one_by_one(url: str, path: str) -> npt.NDArray[np.uint64]:
    found = np.full(store.shape(url, path), UNREADABLE, "uint64")
    for index in np.ndindex(found.shape):
        with contextlib.suppress(StoreError):
            found[index] = store.read(url, path, index)
    return found


def written(ticks: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Where ticks stand for whole regions: neither "never" nor damaged."""
    return (ticks & np.uint64(_WRITTEN)) != 0


def pending(
    url: str, spec: CubeSpec, name: str, regions: Iterable[Region]
) -> tuple[list[Region], list[Region]]:
    """Split regions into those still to write and those ticked already."""
    whole = written(ticks(url, name))
    todo: list[Region] = []
    done: list[Region] = []
    for region in regions:
        (done if whole[ledger_index(spec, region)] else todo).append(region)
    return todo, done
