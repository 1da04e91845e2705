"""The order of an epoch: sections, blocks, groups of blocks, chips; arithmetic.

Sections are squares of blocks, so that what neighbours share is needed again soon; they come in a
random order, blocks in a random order within them, and the chips of a group of blocks are shuffled
together. Everything follows from the seed, the epoch and the blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.stream.blocks import Block

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Blocks whose chips are shuffled together.

    Attributes:
        number: Its place in the epoch, from 0.
        blocks: Places in the order of blocks: half-open range.
        first: Position of its first chip in the epoch.
        chips: How many chips it has.
    """

    number: int
    blocks: tuple[int, int]
    first: int
    chips: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Epoch:
    """One epoch as a plan.

    Attributes:
        number: From 0.
        blocks: In the order in which they are read.
        sections: Section of each block, int64 (block,).
        groups: In order; every block is in one.
        seed: Of the order of chips; None keeps their own.
    """

    number: int
    blocks: tuple[Block, ...]
    sections: IntArray
    groups: tuple[Group, ...]
    seed: int | None

    @property
    def chips(self) -> int:
        """Chips in the epoch, those of all workers."""
        last = self.groups[-1]
        return last.first + last.chips

    def order(self, group: Group) -> IntArray:
        """Order of a group's chips, int64 (chip,): indices into its blocks' chips, joined."""
        if self.seed is None:
            return np.arange(group.chips)
        # From 1: NumPy takes [seed, epoch, 0] for [seed, epoch], which the order of blocks has.
        rng = np.random.default_rng([self.seed, self.number, group.number + 1])
        return rng.permutation(group.chips)


def plan_epoch(
    blocks: Sequence[Block],
    *,
    number: int,
    seed: int | None,
    section: int,
    limits: tuple[int, int | None],
    pixel_bytes: int,
) -> Epoch:
    """Put blocks in order and divide them into groups.

    Args:
        blocks: In row-major order.
        number: Of the epoch.
        seed: None keeps the order of blocks.
        section: Side of a section in blocks.
        limits: Bytes of a group, and blocks of a group or None. A group has one block at least.
        pixel_bytes: Bytes of a block per pixel.
    """
    cells = np.array([block.cell for block in blocks], dtype="int64").reshape(-1, 2)
    squares = cells // section
    _, sections = np.unique(
        squares[:, 0] * (squares[:, 1].max() + 1) + squares[:, 1], return_inverse=True
    )
    if seed is None:
        order, sections = np.arange(len(blocks)), np.zeros(len(blocks), "int64")
    else:
        rng = np.random.default_rng([seed, number])
        rank = rng.permutation(int(sections.max()) + 1)[sections]
        order = np.lexsort((rng.permutation(len(blocks)), rank))
    chosen = tuple(blocks[i] for i in order.tolist())
    sizes = [block.shape[0] * block.shape[1] * pixel_bytes for block in chosen]
    return Epoch(
        number=number,
        blocks=chosen,
        sections=sections[order],
        groups=tuple(_groups(chosen, sizes, limits)),
        seed=seed,
    )


def _groups(
    blocks: Sequence[Block], sizes: Sequence[int], limits: tuple[int, int | None]
) -> list[Group]:
    groups: list[Group] = []
    start = held = chips = first = 0
    for place, (block, size) in enumerate(zip(blocks, sizes, strict=True)):
        full = held + size > _share(len(groups)) * limits[0] or place - start == limits[1]
        if place > start and full:
            groups.append(
                Group(number=len(groups), blocks=(start, place), first=first, chips=chips)
            )
            start, held, first, chips = place, 0, first + chips, 0
        held += size
        chips += len(block.chips)
    groups.append(Group(number=len(groups), blocks=(start, len(blocks)), first=first, chips=chips))
    return groups


def _share(number: int) -> float:
    """Share of the bytes of a group that one of that number takes.

    The first groups are small, since nobody can work on anything before the first is there.
    """
    return min(1.0, (number + 1) / 4)


def part_of(chips: int, part: tuple[int, int]) -> tuple[int, int]:
    """Positions of one of several workers, half-open: together all, each nearly as many."""
    k, n = part
    return chips * k // n, chips * (k + 1) // n


def batches_of(chips: int, batch: int, workers: int) -> int:
    """Batches of an epoch, as many for each worker."""
    return math.ceil(math.ceil(chips / workers) / batch)
