"""Which tiles of the cube a group of blocks reads, and what is kept of them; arithmetic.

A tile is what the store decodes at once, of one variable and time. It is read for the first block
that needs it; what later blocks of the same section need of it is kept, as far as memory allows,
and the rest is read again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from training.stream.blocks import Block
from training.stream.ordering import Epoch, Group

Key = tuple[str, int | None]
"""A variable and its time in the calendar, None for a static one."""

Tile = tuple[Key, int, int]
"""A variable at a time, and the tile's row and column."""

Box = tuple[tuple[int, int], tuple[int, int]]
"""Half-open rows and columns, in pixels of the cube."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One tile to read.

    Attributes:
        tile: Which.
        box: What of it is needed.
        users: Blocks that take a part of it now, by their place in the epoch.
        keepers: Later blocks for which their part is kept.
    """

    tile: Tile
    box: Box
    users: Mapping[int, Box]
    keepers: Mapping[int, Box]

    @property
    def key(self) -> Key:
        """Variable and time."""
        return self.tile[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPlan:
    """What is done to have a group of blocks in memory.

    Attributes:
        reads: Tiles to read.
        kept: Tiles of which an earlier group kept a part: (tile, block).
        again: How many of the reads are of tiles that were read before.
    """

    reads: tuple[Read, ...]
    kept: tuple[tuple[Tile, int, Box], ...]
    again: int


@dataclass(slots=True)
class Planner:
    """Plans the groups of one epoch, in their order.

    Attributes:
        epoch: The epoch.
        keys: Variables and times that the chips of each timing need.
        unit: Side of a tile in pixels.
        size: Side of a window in pixels.
        pixel_bytes: Bytes of a kept pixel, by variable and time.
        limit: Bytes that may be kept.
        first: Place of the first block that is read at all; those before it were streamed earlier.
        stop: Place behind the last block that is read at all.
    """

    epoch: Epoch
    keys: Mapping[int, tuple[Key, ...]]
    unit: int
    size: int
    pixel_bytes: Mapping[Key, int]
    limit: int
    first: int
    stop: int
    _section: int = -1
    _users: dict[Tile, list[int]] = field(default_factory=dict)
    _kept: dict[tuple[Tile, int], int] = field(default_factory=dict)
    _seen: set[Tile] = field(default_factory=set)

    @property
    def kept_bytes(self) -> int:
        """Bytes kept for later blocks now."""
        return sum(self._kept.values())

    def plan(self, group: Group) -> GroupPlan:
        """What to read for a group; call it for the groups in their order."""
        now = range(*group.blocks)
        needed: dict[Tile, list[int]] = defaultdict(list)
        kept = []
        for place in now:
            for tile in self._tiles(place):
                if self._kept.pop((tile, place), None) is None:
                    needed[tile].append(place)
                else:
                    kept.append((tile, place, self._part(tile, place)))
        keepers = self._keepers(needed, behind=group.blocks[1])
        again = len(self._seen & needed.keys())
        self._seen.update(needed)
        reads = tuple(
            self._read(tile, users, keepers.get(tile, [])) for tile, users in needed.items()
        )
        return GroupPlan(reads=reads, kept=tuple(kept), again=again)

    def _tiles(self, place: int) -> list[Tile]:
        return tiles_of(self.epoch.blocks[place], self.keys, unit=self.unit, size=self.size)

    def _keepers(self, needed: Iterable[Tile], *, behind: int) -> dict[Tile, list[int]]:
        """Later blocks for which parts are kept: those that come next, while there is room."""
        later = [
            (place, tile)
            for tile in needed
            for place in self._later(tile, behind)
            if (tile, place) not in self._kept
        ]
        room = self.limit - self.kept_bytes
        chosen: dict[Tile, list[int]] = defaultdict(list)
        for place, tile in sorted(later, key=lambda pair: pair[0]):
            size = _pixels(self._part(tile, place)) * self.pixel_bytes[tile[0]]
            if size <= room:
                room -= size
                self._kept[tile, place] = size
                chosen[tile].append(place)
        return chosen

    def _later(self, tile: Tile, behind: int) -> list[int]:
        """Blocks behind a place, of the sections of the group, that need a tile too."""
        self._reach(behind - 1)
        return [place for place in self._users.get(tile, []) if place >= behind]

    def _reach(self, place: int) -> None:
        """Know who needs which tile in the section of a block; forget the sections before."""
        section = int(self.epoch.sections[place])
        if section == self._section:
            return
        self._section = section
        self._users = defaultdict(list)
        members = np.flatnonzero(self.epoch.sections == section)
        for member in members[(members >= self.first) & (members < self.stop)].tolist():
            for tile in self._tiles(member):
                self._users[tile].append(member)

    def _part(self, tile: Tile, place: int) -> Box:
        """What a block needs of a tile, in pixels of the cube."""
        _, row, col = tile
        block = self.epoch.blocks[place]
        return (
            _meet(block.rows, (row * self.unit, (row + 1) * self.unit)),
            _meet(block.cols, (col * self.unit, (col + 1) * self.unit)),
        )

    def _read(self, tile: Tile, users: list[int], keepers: list[int]) -> Read:
        now = {place: self._part(tile, place) for place in users}
        later = {place: self._part(tile, place) for place in keepers}
        boxes = [*now.values(), *later.values()]
        box = (_hull([b[0] for b in boxes]), _hull([b[1] for b in boxes]))
        return Read(tile=tile, box=box, users=now, keepers=later)


def tiles_of(
    block: Block, keys: Mapping[int, tuple[Key, ...]], *, unit: int, size: int
) -> list[Tile]:
    """Tiles that a block's chips touch, of what each chip's timing needs; in a fixed order."""
    masks: dict[Key, npt.NDArray[np.bool_]] = {}
    corner = block.rows[0] // unit, block.cols[0] // unit
    for timing in np.unique(block.timings).tolist():
        touched = _touched(block.origins[block.timings == timing], corner, block, unit, size)
        for key in keys[timing]:
            masks[key] = touched | masks[key] if key in masks else touched
    return [
        (key, int(row) + corner[0], int(col) + corner[1])
        for key, mask in masks.items()
        for row, col in np.argwhere(mask)
    ]


def _touched(
    origins: npt.NDArray[np.int64], corner: tuple[int, int], block: Block, unit: int, size: int
) -> npt.NDArray[np.bool_]:
    """Tiles of a block's box that windows touch, bool (row, col)."""
    shape = (
        (block.rows[1] - 1) // unit - corner[0] + 1,
        (block.cols[1] - 1) // unit - corner[1] + 1,
    )
    first = origins // unit - corner
    behind = (origins + size - 1) // unit - corner + 1
    steps = np.zeros((shape[0] + 1, shape[1] + 1), "int64")
    ends = (first, behind)
    for down in (0, 1):
        for right in (0, 1):
            sign = 1 if down == right else -1
            np.add.at(steps, (ends[down][:, 0], ends[right][:, 1]), sign)
    touched: npt.NDArray[np.bool_] = steps.cumsum(0).cumsum(1)[:-1, :-1] > 0
    return touched


def _meet(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return max(one[0], other[0]), min(one[1], other[1])


def _hull(spans: list[tuple[int, int]]) -> tuple[int, int]:
    return min(start for start, _ in spans), max(stop for _, stop in spans)


def _pixels(box: Box) -> int:
    (top, bottom), (left, right) = box
    return (bottom - top) * (right - left)
