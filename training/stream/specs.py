"""How chips are put together, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from dask.utils import parse_bytes

from cube.errors import SpecError

MEMORY = "1 GB"
"""Default budget: four blocks of 1024 pixels of ten int16 bands being cut, four being read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """How chips are put together.

    The order of chips depends on these fields but ``readers`` and ``draws``, on the chips and on
    what a pixel of them takes in memory, and on nothing else: not on how the cube is cut, nor on
    threads. ``batch`` and ``prefetch`` change it too, as what waits leaves less for blocks.

    Attributes:
        batch: Chips in a batch.
        seed: Of the order of chips, 0 or more.
        shuffle: False keeps the order of the blocks, and of the chips in each.
        memory: Bytes that the stream may hold, e.g. ``"512 MB"``: blocks being
            cut and read, parts kept for later blocks, batches waiting.
        prefetch: Batches that wait for the consumer at most.
        block_px: Side of a super-block of window origins, in pixels; None takes
            the largest that leaves room for several in ``memory``.
        blocks_in_flight: Blocks whose chips are shuffled together; None takes as
            many as ``memory`` holds.
        readers: Threads that read; None takes as many as there are cores for a
            folder, and one for each request in flight for an object store.
        draws: Uniform numbers to draw for each chip of each epoch, as the input
            ``draws``, float32 (batch, draws): those by which it is augmented.
        part: ``(k, n)``: the k-th of n workers, from 0. Together they stream
            every chip once, each nearly as many, in equally many batches.
    """

    batch: int = 32
    seed: int
    shuffle: bool = True
    memory: int | str = MEMORY
    prefetch: int = 3
    block_px: int | None = None
    blocks_in_flight: int | None = None
    readers: int | None = None
    draws: int = 0
    part: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        for name in ("batch", "prefetch", "seed", "draws"):
            least = 0 if name in ("seed", "draws") else 1
            object.__setattr__(self, name, whole(getattr(self, name), name, least=least))
        for name in ("block_px", "blocks_in_flight", "readers"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, whole(value, name, least=1))
        if self.draws and self.seed >= 2**63:
            raise SpecError(f"With draws the seed is below 2**63. Received {self.seed}.")
        if not isinstance(self.shuffle, bool):
            raise SpecError(f"shuffle is True or False. Received {self.shuffle!r}.")
        object.__setattr__(self, "part", _checked_part(self.part))
        if not _is_memory(self.memory):
            raise SpecError(f"memory is a number of bytes, e.g. '1 GB'. Received {self.memory!r}.")

    @property
    def memory_bytes(self) -> int:
        """Budget in bytes."""
        return int(parse_bytes(self.memory))


def whole(value: object, name: str, *, least: int) -> int:
    """A whole number as an int.

    Raises:
        SpecError: It is none, or less than that.
    """
    if not is_whole(value, least=least):
        raise SpecError(f"{name} must be at least {least}, a whole number. Received {value!r}.")
    return int(value)


def is_whole(value: Any, *, least: int) -> TypeGuard[int]:
    """Whether it is a whole number, of Python's or NumPy's, and at least that."""
    # A bool is an int to Python, but no number of anything.
    whole_one = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole_one and bool(value >= least)


def _checked_part(part: object) -> tuple[int, int]:
    if isinstance(part, tuple | list) and len(part) == 2:
        k, n = part
        if is_whole(k, least=0) and is_whole(n, least=int(k) + 1):
            return int(k), int(n)
    raise SpecError(f"part is (k, n), whole numbers, with 0 <= k < n. Received {part!r}.")


def _is_memory(memory: int | str) -> bool:
    if isinstance(memory, bool):
        return False
    try:
        return bool(parse_bytes(memory) > 0)
    except (ValueError, TypeError, AttributeError, OverflowError):
        return False
