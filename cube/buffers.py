"""Memory for large arrays that come and go: used again, and aligned.

Fresh memory costs a page fault for every 4 KB, which takes longer than to fill it, so what was let
go of is filled again. (Allocators do so too, until a library in the process tells them not to:
TensorFlow does.) TensorFlow and JAX wrap an array without copying it if it begins at a multiple of
64 bytes.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import threading
import weakref
from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt


class Buffers:
    """Arrays from memory that is recycled once no view of it is left.

    What is in use and what waits for its next use are together no more than was said, unless more
    is in use. Pages of a map begin at multiples of 4096 bytes, more than any framework asks for.
    """

    def __init__(self, *, kept_bytes: int) -> None:
        """Hold at most ``kept_bytes``, free memory included."""
        self._kept_bytes = kept_bytes
        self._free: OrderedDict[int, list[mmap.mmap]] = OrderedDict()
        self._free_bytes = self._used_bytes = 0
        # Views may be collected in the middle of anything, of the work below too: what comes back
        # is only listed then, which takes no lock.
        self._back: list[mmap.mmap] = []
        self._lock = threading.Lock()

    @property
    def free_bytes(self) -> int:
        """Bytes that wait for their next use."""
        with self._lock:
            self._drain()
            return self._free_bytes

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array of any content, its first byte at a multiple of 4096.

        Args:
            shape: Sizes.
            dtype: Of the array.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        memory = self._taken(_rounded(size))
        # Every view that NumPy makes of `own` keeps `own` itself alive, not the map behind it.
        own = np.frombuffer(memory, np.uint8)
        weakref.finalize(own, self._back.append, memory).atexit = False
        return own[:size].view(dtype).reshape(shape)

    def _taken(self, size: int) -> mmap.mmap:
        with self._lock:
            self._drain()
            self._used_bytes += size
            found = self._popped(size)
            # Memory of other sizes makes room, or a pool would hold what it once needed of each.
            while self._free and self._used_bytes + self._free_bytes > self._kept_bytes:
                self._popped(next(iter(self._free)))
        return found or _fresh(size)

    def _popped(self, size: int) -> mmap.mmap | None:
        """A free map of a size, no longer free; None without one."""
        free = self._free.get(size)
        if not free:
            return None
        memory = free.pop()
        self._free_bytes -= size
        if not free:
            del self._free[size]
        return memory

    def _drain(self) -> None:
        """Take back what came back."""
        while self._back:
            memory = self._back.pop()
            size = len(memory)
            self._used_bytes -= size
            if self._used_bytes + self._free_bytes + size <= self._kept_bytes:
                self._free.setdefault(size, []).append(memory)
                self._free.move_to_end(size)
                self._free_bytes += size


def _rounded(size: int) -> int:
    """Bytes to take: an eighth more at most, or whole pages, so that similar arrays share."""
    step = max(mmap.PAGESIZE, 1 << max(0, size.bit_length() - 4))
    return max(step, -(-size // step) * step)


def _fresh(size: int) -> mmap.mmap:
    """A map of its own, in huge pages where there are some: small ones fault ten times longer."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, size)
    # Without flags Python asks for a map that processes share, which has small pages alone.
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # A kernel without huge pages refuses; small ones do.
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
