"""Memory for batches: aligned, so that frameworks take it as it is, and used again.

TensorFlow and JAX wrap an array without copying it if it begins at a multiple of 64 bytes. Fresh
memory costs a page fault for every 4 KB, as long as the copy itself, so what a consumer has let go
of is filled again.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt


class Buffers:
    """Arrays from memory that is recycled once no view of it is left.

    Pages of a map begin at multiples of 4096 bytes, more than any framework asks for.
    """

    def __init__(self, *, kept: int) -> None:
        """Keep at most ``kept`` free maps of each size."""
        self._kept = kept
        # No lock: views may be collected in the middle of anything, on any thread.
        self._free: dict[int, list[mmap.mmap]] = {}

    def empty(
        self, shape: tuple[int, ...], dtype: npt.DTypeLike, *, room: int = 1
    ) -> npt.NDArray[Any]:
        """An array of any content, its first byte at a multiple of 4096.

        Args:
            shape: Sizes.
            dtype: Of the array.
            room: Bytes to take at least, so that arrays of several sizes share maps.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        memory = self._taken(max(size, room))
        # Every view that NumPy makes of `own` keeps `own` itself alive, not the map behind it.
        own = np.frombuffer(memory, np.uint8)
        weakref.finalize(own, self._returned, memory).atexit = False
        return own[:size].view(dtype).reshape(shape)

    def _taken(self, size: int) -> mmap.mmap:
        try:
            return self._free[size].pop()
        except (KeyError, IndexError):
            fresh = mmap.mmap(-1, size)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            # A kernel without huge pages refuses; small ones do.
            with contextlib.suppress(OSError):
                fresh.madvise(mmap.MADV_HUGEPAGE)
        return fresh

    def _returned(self, memory: mmap.mmap) -> None:
        free = self._free.setdefault(len(memory), [])
        if len(free) < self._kept:
            free.append(memory)
