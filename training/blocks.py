"""Super-blocks: windows that are cut from one read, as a plan.

Plain arithmetic. Blocks are squares of window origins, anchored at the grid's
first pixel; they depend on the windows and on ``block_px`` alone, never on how
the cube is chunked, so that the same seed gives the same order of chips on
every layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from cube.windows import Windows

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One read and the windows cut from it.

    Attributes:
        ids: Windows, ascending.
        rows: Half-open pixel range that holds them all, along y.
        cols: The same along x.
    """

    ids: IntArray
    rows: tuple[int, int]
    cols: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """Windows of one block at a constant stride, as a regular cut delivers them.

    Attributes:
        rows: Half-open pixel range of the lattice within its block, along y.
        cols: The same along x.
        numbers: int64 (n,): which of the lattice's windows, row-major, are wanted.
        places: int64 (n,): where in the block's ``ids`` each of them stands.
    """

    rows: tuple[int, int]
    cols: tuple[int, int]
    numbers: IntArray
    places: IntArray


def plan_blocks(windows: Windows, ids: IntArray, *, block_px: int) -> list[Block]:
    """Group windows into super-blocks by their origins.

    Args:
        windows: What ids refer to.
        ids: Windows wanted, ascending.
        block_px: Side of a square of origins in pixels.

    Returns:
        Blocks in row-major order; together they hold every id once.
    """
    origins = windows.origins(ids)
    cells = origins // block_px
    across = -(-windows.shape[1] // block_px)
    key = cells[:, 0] * across + cells[:, 1]
    order = np.argsort(key, kind="stable")
    edges = np.flatnonzero(np.diff(key[order])) + 1
    return [_block(windows, np.sort(ids[part])) for part in np.split(order, edges) if len(part)]


def _block(windows: Windows, ids: IntArray) -> Block:
    origins = windows.origins(ids)
    low, high = origins.min(axis=0), origins.max(axis=0) + windows.size
    return Block(ids=ids, rows=(int(low[0]), int(high[0])), cols=(int(low[1]), int(high[1])))


def lattices(windows: Windows, block: Block) -> Iterator[Lattice]:
    """Divide a block's windows into at most four lattices of constant stride.

    Only the last window along an axis, which was moved inwards, leaves the
    stride; so there are the regular windows, the last row, the last column
    and the corner.
    """
    origins = windows.origins(block.ids)
    moved = [origins[:, axis] % windows.stride != 0 for axis in (0, 1)]
    for in_last_row, in_last_col in product((False, True), repeat=2):
        places = np.flatnonzero((moved[0] == in_last_row) & (moved[1] == in_last_col))
        if len(places):
            yield _lattice(windows, block, origins[places], places)


def _lattice(windows: Windows, block: Block, origins: IntArray, places: IntArray) -> Lattice:
    first, last = origins.min(axis=0), origins.max(axis=0)
    row, col = ((origins - first) // windows.stride).T
    across = (last[1] - first[1]) // windows.stride + 1
    start = first - (block.rows[0], block.cols[0])
    stop = last - (block.rows[0], block.cols[0]) + windows.size
    return Lattice(
        rows=(int(start[0]), int(stop[0])),
        cols=(int(start[1]), int(stop[1])),
        numbers=row * across + col,
        places=places,
    )
