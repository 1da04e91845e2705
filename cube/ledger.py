"""What was written: one checksum per region.

A region is written first and ticked after, so a tick always stands for whole
data; a writer that dies in between leaves a region that is simply done again.

A ledger is a Zarr array with chunks of one entry, and an entry that is there
is a tick. So what is done is known by listing keys, a thousand at a time,
without reading any.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from cube import locking, objects
from cube.regions import Region, ledger_index, region_counts
from cube.spec import CubeSpec

LEDGER = "ledger"
"""Group of the ticks."""

REPLACED = "replaced"
"""Group of the ticks that regions had before they were overwritten on purpose."""

_WRITTEN = 1 << 32
"""Set in every tick, so that a checksum of 0 still differs from "never"."""

UNREADABLE = 1
"""Stands for an entry that cannot be read; no tick, since it lacks the written bit."""

_ENTRY = struct.Struct("<Q")
_ENTRY_BYTES = _ENTRY.size + 4
"""A value and its crc32c: what Zarr's codecs ``bytes`` and ``crc32c`` make of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntries:
    """What is known of a variable's regions without reading any.

    Each is bool of shape (time, region_y, region_x), or (region_y, region_x)
    for a static variable.

    Attributes:
        written: Ticked.
        damaged: An entry lies there that cannot be a tick.
        replaced: Overwritten on purpose, once or more.
    """

    written: npt.NDArray[np.bool_]
    damaged: npt.NDArray[np.bool_]
    replaced: npt.NDArray[np.bool_]


def checksum(values: npt.NDArray[Any]) -> int:
    """crc32c (RFC 3720) of the values' little-endian bytes in C order, with the written bit."""
    ordered = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    # A view that cannot be written spares the checksum a copy.
    view = ordered.reshape(-1).view("uint8")
    view.flags.writeable = False
    return _WRITTEN | int(google_crc32c.value(view))


def encode(value: int) -> bytes:
    """An entry as it lies in the store."""
    data = _ENTRY.pack(value)
    return data + struct.pack("<I", google_crc32c.value(data))


def decode(data: bytes | None) -> int:
    """Value of an entry: 0 where there is none, :data:`UNREADABLE` where it is damaged."""
    if data is None:
        return 0
    if len(data) != _ENTRY_BYTES or encode(_ENTRY.unpack_from(data)[0]) != data:
        return UNREADABLE
    return int(_ENTRY.unpack_from(data)[0])


def is_tick(value: int) -> bool:
    """True if an entry stands for a whole region: neither "never" nor damaged."""
    return bool(value & _WRITTEN)


def key(spec: CubeSpec, name: str, region: Region, *, group: str = LEDGER) -> str:
    """Key of a region's entry."""
    return key_at(name, ledger_index(spec, region), group=group)


def key_at(name: str, index: tuple[int, ...], *, group: str = LEDGER) -> str:
    """Key of the entry at a place of a ledger."""
    return f"{group}/{name}/c/{'/'.join(map(str, index))}"


def index_of_chunk(spec: CubeSpec, name: str, place: tuple[int, ...]) -> tuple[int, ...]:
    """Where the ledger keeps the region of a chunk (or shard), from its place in the array."""
    per_region = spec.layout.region // spec.layout.unit
    time = () if spec.variable(name).static else place[:1]
    return (*time, place[-2] // per_region, place[-1] // per_region)


def read(url: str, spec: CubeSpec, name: str, region: Region) -> int:
    """Entry of one region."""
    return decode(objects.at(url).get(key(spec, name, region)))


def tick(url: str, spec: CubeSpec, name: str, region: Region, value: int) -> None:
    """Record that a region is whole in the store."""
    objects.at(url).put(key(spec, name, region), encode(value))


def clear(url: str, spec: CubeSpec, name: str, regions: Iterable[Region]) -> None:
    """Forget regions, so that the next run writes them again."""
    objects.delete_many(objects.at(url), [key(spec, name, region) for region in regions])


def record_replaced(url: str, spec: CubeSpec, name: str, region: Region, value: int) -> None:
    """Write down which data are overwritten on purpose."""
    objects.at(url).put(key(spec, name, region, group=REPLACED), encode(value))


def shape(spec: CubeSpec, name: str) -> tuple[int, ...]:
    """Sizes of a ledger: (time, region_y, region_x), or without time."""
    lead = () if spec.variable(name).static else (len(spec.calendar),)
    return (*lead, *region_counts(spec))


def entries(
    url: str, spec: CubeSpec, names: Iterable[str] | None = None
) -> dict[str, LedgerEntries]:
    """What is known of variables without reading an entry: by listing keys.

    Args:
        url: The cube.
        spec: Its spec.
        names: Stacks and layers; None for all.
    """
    wanted = list(names) if names is not None else [v.name for v in spec.variables]
    ticks = _listed(url, spec, wanted, LEDGER)
    replaced = _listed(url, spec, wanted, REPLACED)
    return {
        name: LedgerEntries(
            written=ticks[name] == _ENTRY_BYTES,
            damaged=(ticks[name] != _ENTRY_BYTES) & (ticks[name] >= 0),
            replaced=replaced[name] >= 0,
        )
        for name in wanted
    }


def _listed(
    url: str, spec: CubeSpec, names: list[str], group: str
) -> dict[str, npt.NDArray[np.int64]]:
    """Sizes in bytes of the entries of variables; -1 where there is none."""
    sizes = {name: np.full(shape(spec, name), -1, "int64") for name in names}
    # One listing for all: most pages are full then.
    prefix = f"{group}/{names[0]}/" if len(names) == 1 else f"{group}/"
    for entry in objects.at(url).list(prefix):
        name, _, place = entry.key.removeprefix(f"{group}/").partition("/c/")
        index = _index(place)
        if name in sizes and index is not None and _inside(index, sizes[name].shape):
            sizes[name][index] = entry.size
    return sizes


def _index(place: str) -> tuple[int, ...] | None:
    steps = place.split("/")
    return tuple(map(int, steps)) if all(step.isdecimal() for step in steps) else None


def _inside(index: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(index) == len(shape) and all(i < n for i, n in zip(index, shape, strict=True))


def ticks(url: str, spec: CubeSpec, name: str) -> npt.NDArray[np.uint64]:
    """Values of all entries, shape (time, region_y, region_x) or without time.

    An entry that is damaged itself reads as :data:`UNREADABLE`.
    """
    there = objects.at(url)
    values = np.zeros(shape(spec, name), "uint64")
    known = entries(url, spec, [name])[name]
    values[known.damaged] = UNREADABLE
    places = [tuple(map(int, place)) for place in np.argwhere(known.written)]
    keys = [key_at(name, place) for place in places]
    for place, data in zip(places, objects.get_many(there, keys), strict=True):
        values[place] = decode(data)
    return values


def pending(
    url: str, spec: CubeSpec, name: str, regions: Iterable[Region]
) -> tuple[list[Region], list[Region]]:
    """Split regions into those still to write and those ticked already."""
    whole = entries(url, spec, [name])[name].written
    locking.observe(url, f"{LEDGER}/{name}")
    todo: list[Region] = []
    done: list[Region] = []
    for region in regions:
        (done if whole[ledger_index(spec, region)] else todo).append(region)
    return todo, done


def any_written(url: str, spec: CubeSpec, name: str, time: int | None) -> bool:
    """True if any region of a variable (at one time) is ticked."""
    written = entries(url, spec, [name])[name].written
    return bool((written if time is None else written[time]).any())
