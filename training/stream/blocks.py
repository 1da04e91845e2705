"""Super-blocks: chips that are cut from one read, as a plan.

Plain arithmetic. Blocks are squares of window origins, anchored at the grid's
first pixel; they depend on the windows and on ``block_px`` alone, never on how
the cube is chunked, so that the same seed gives the same order of chips on
every layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.chips import Chips

IntArray = npt.NDArray[np.int64]

_SPARSE = 8
"""Windows of a lattice for each one wanted, from which every window is a lattice of its own."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """One read and the chips cut from it.

    Attributes:
        cell: Square of origins, (row, col).
        chips: Ids, ascending; an id may be there more than once.
        origins: First pixel (y, x) of each chip, int64 (chip, 2).
        timings: Number of each chip's timing, int64 (chip,).
        rows: Half-open pixel range that holds them all, along y.
        cols: The same along x.
    """

    cell: tuple[int, int]
    chips: IntArray
    origins: IntArray
    timings: IntArray
    rows: tuple[int, int]
    cols: tuple[int, int]

    @property
    def turns(self) -> IntArray:
        """How often each chip stands before itself, int64 (chip,): 0 where it is there once."""
        return np.arange(len(self.chips)) - np.searchsorted(self.chips, self.chips)

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels along (y, x)."""
        return self.rows[1] - self.rows[0], self.cols[1] - self.cols[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """Windows of one block at a constant stride, as a regular cut delivers them.

    Attributes:
        rows: Half-open pixel range of the lattice within its block, along y.
        cols: The same along x.
        numbers: int64 (n,): which of the lattice's windows, row-major, are wanted.
        places: int64 (n,): where in the block's ``chips`` each of them stands.
    """

    rows: tuple[int, int]
    cols: tuple[int, int]
    numbers: IntArray
    places: IntArray


def plan_blocks(chips: Chips, ids: IntArray, *, block_px: int) -> list[Block]:
    """Group chips into super-blocks by the origins of their windows.

    Args:
        chips: What ids refer to.
        ids: Chips wanted, ascending.
        block_px: Side of a square of origins in pixels.

    Returns:
        Blocks in row-major order; together they hold every id once.
    """
    origins = chips.windows.origins(chips.window_of(ids))
    timings = chips.timing_of(ids)
    cells = origins // block_px
    across = -(-chips.windows.shape[1] // block_px)
    key = cells[:, 0] * across + cells[:, 1]
    order = np.argsort(key, kind="stable")
    edges = np.flatnonzero(np.diff(key[order])) + 1
    size = chips.windows.size
    return [
        _block(ids[part], origins[part], timings[part], cells[part[0]], size)
        for part in np.split(order, edges)
        if len(part)
    ]


def _block(ids: IntArray, origins: IntArray, timings: IntArray, cell: IntArray, size: int) -> Block:
    low, high = origins.min(axis=0), origins.max(axis=0) + size
    return Block(
        cell=(int(cell[0]), int(cell[1])),
        chips=ids,
        origins=origins,
        timings=timings,
        rows=(int(low[0]), int(high[0])),
        cols=(int(low[1]), int(high[1])),
    )


def lattices(block: Block, *, size: int, stride: int) -> Iterator[Lattice]:
    """Divide a block's windows into lattices of constant stride.

    There are the regular windows; those that were moved inwards, or are anchored
    elsewhere, lie on lattices of their own. Where few windows of a lattice are
    wanted, each is one by itself.
    """
    inside = block.origins - (block.rows[0], block.cols[0])
    phase = inside % stride
    key = phase[:, 0] * stride + phase[:, 1]
    order = np.argsort(key, kind="stable")
    edges = np.flatnonzero(np.diff(key[order])) + 1
    for places in np.split(order, edges):
        yield from _lattice(inside[places], places, size=size, stride=stride)


def _lattice(origins: IntArray, places: IntArray, *, size: int, stride: int) -> Iterator[Lattice]:
    first, last = origins.min(axis=0), origins.max(axis=0)
    row, col = ((origins - first) // stride).T
    down, across = (last - first) // stride + 1
    if down * across > _SPARSE * len(places):
        for origin, place in zip(origins, places, strict=True):
            yield from _lattice(origin[None], place[None], size=size, stride=stride)
        return
    yield Lattice(
        rows=(int(first[0]), int(last[0]) + size),
        cols=(int(first[1]), int(last[1]) + size),
        numbers=row * across + col,
        places=places,
    )
