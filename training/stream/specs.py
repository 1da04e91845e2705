"""How chips are put together, as data."""

from __future__ import annotations

from dataclasses import dataclass

from dask.utils import parse_bytes

from cube.errors import SpecError

MEMORY = "1 GB"
"""Default budget: four blocks of 1024 pixels of ten int16 bands being cut, four being read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """How chips are put together.

    The order of chips depends on these fields, the chips and what a pixel of them takes in memory,
    and on nothing else: not on how the cube is cut, nor on threads.

    Attributes:
        batch: Chips in a batch.
        seed: Of the order of chips.
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
    prefetch: int = 4
    block_px: int | None = None
    blocks_in_flight: int | None = None
    readers: int | None = None
    draws: int = 0
    part: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        for name in ("batch", "prefetch", "block_px", "blocks_in_flight", "readers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SpecError(f"{name} must be at least 1. Received {value}.")
        object.__setattr__(self, "part", (int(self.part[0]), int(self.part[1])))
        if not 0 <= self.part[0] < self.part[1]:
            raise SpecError(f"part is (k, n) with 0 <= k < n. Received {self.part}.")
        try:
            positive = parse_bytes(self.memory) > 0
        except (ValueError, TypeError, AttributeError):
            positive = False
        if not positive:
            raise SpecError(f"memory is a number of bytes, e.g. '1 GB'. Received {self.memory!r}.")

    @property
    def memory_bytes(self) -> int:
        """Budget in bytes."""
        return int(parse_bytes(self.memory))
