"""How the memory of a stream is divided: arithmetic on bytes.

Most of what batches leave is for blocks: those being cut, and as many being read. A part keeps what
was decoded for later blocks; the rest is for decoding. How blocks are laid out follows from the
budget and the chips alone, so that the order of chips does not depend on how the cube is cut.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cube.errors import SpecError

_GROUP = 0.3
"""Share of the budget for the blocks being cut; as much again is for those being read."""

_KEPT = 0.25
"""Share for parts of chunks that later blocks need."""

_TOGETHER = 4
"""Blocks whose chips should at least be shuffled together."""

HELD = 5
"""Batches beside those that wait: one is being put together, one is with the consumer, and up to
three a framework takes before it needs them."""

_SIDES = (4096, 2048, 1024, 512, 256, 128, 64, 32, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a stream holds.

    Attributes:
        pixel_bytes: Of all arrays of a block, per pixel.
        chip_bytes: Of a chip in a batch.
        size: Side of a window in pixels.
        chunk_bytes: Of one chunk while it is read and decoded.
    """

    pixel_bytes: int
    chip_bytes: int
    size: int
    chunk_bytes: int = 0

    def block_bytes(self, block_px: int) -> int:
        """Bytes of a block of that many pixels of origins along a side."""
        return (block_px + self.size - 1) ** 2 * self.pixel_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A memory budget divided.

    Attributes:
        block_px: Side of a super-block of window origins.
        group_bytes: Blocks that are cut together.
        kept_bytes: Parts of chunks kept for later blocks.
        decoding_bytes: Chunks being decoded.
        section: Side, in blocks, of the squares that are streamed one after another.
    """

    block_px: int
    group_bytes: int
    kept_bytes: int
    decoding_bytes: int
    section: int


def plan_budget(
    memory: int,
    needs: Needs,
    *,
    batch: int,
    prefetch: int,
    block_px: int | None = None,
    blocks: int | None = None,
) -> Budget:
    """Divide a budget.

    Args:
        memory: Bytes in all.
        needs: What blocks and chips take.
        batch: Chips in a batch.
        prefetch: Batches that wait.
        block_px: Side of a block, if the user says it.
        blocks: Blocks cut together, if the user says it.

    Raises:
        SpecError: The budget does not hold two blocks, a chunk and the batches.
    """
    batches = (prefetch + HELD) * batch * needs.chip_bytes
    rest = memory - batches
    group = int(rest * _GROUP)
    smallest = needs.block_bytes(block_px or _SIDES[-1]) * (blocks or 1)
    reading = rest - 2 * group
    if group < smallest or reading < needs.chunk_bytes:
        enough = max(smallest / _GROUP, needs.chunk_bytes / (1 - 2 * _GROUP))
        raise SpecError(
            f"The stream needs at least {_mb(math.ceil(enough) + batches)}, "
            f"{_mb(batches)} of it for {prefetch + HELD} batches of {batch} chips. Received "
            f"memory={_mb(memory)}; give more, or a smaller batch, prefetch, "
            f"block_px or blocks_in_flight."
        )
    side = block_px or _largest_side(group, needs, blocks or _TOGETHER)
    # Of the halos in a section, of two windows' breadth with chunks cut through, half are waiting.
    halo = ((side + 2 * needs.size) ** 2 - side**2) * needs.pixel_bytes // 2
    nominal = int(rest * _KEPT)
    kept = min(nominal, reading - needs.chunk_bytes)
    return Budget(
        block_px=side,
        group_bytes=needs.block_bytes(side) * blocks if blocks else group,
        kept_bytes=kept,
        decoding_bytes=reading - kept,
        # What large chunks leave to be kept is no part of it: the order is the same for all.
        section=min(64, max(1, math.isqrt(nominal // max(halo, 1)))),
    )


def _largest_side(group: int, needs: Needs, together: int) -> int:
    fitting = [side for side in _SIDES if needs.block_bytes(side) * together <= group]
    # Blocks smaller than a window would be mostly halo.
    roomy = [side for side in fitting if side >= needs.size]
    if roomy:
        return roomy[0]
    return next(side for side in _SIDES if needs.block_bytes(side) <= group)


def _mb(count: int) -> str:
    # Upwards, so that what is asked for is enough.
    if count < 10**7:
        return f"{math.ceil(count / 1e4) / 100:.2f} MB"
    return f"{math.ceil(count / 1e6):,} MB"
