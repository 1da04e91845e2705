"""Threads that read, and help to cut chips once there is nothing left to read."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, wait

from cube.threads import cores


class SpareThreads:
    """Threads that may be free.

    While a stream reads, its readers and the thread that cuts keep all cores busy. Behind the last
    read they would be idle, until what is in memory has been cut.
    """

    def __init__(self, pool: Executor, threads: int) -> None:
        """Nobody is free yet.

        Args:
            pool: Where they are.
            threads: How many they are.
        """
        self._pool, self._free = pool, 0
        # More than the cores do not help, and one of those has the thread that asks for help.
        self._most = min(threads, cores() - 1)

    def free(self) -> None:
        """There is nothing left to read."""
        self._free = self._most

    def share(self, work: Callable[[range], None], count: int) -> None:
        """Work on the numbers from 0 to ``count``, alone or with those that are free.

        Args:
            work: Called with some of the numbers, by several threads at the same time.
            count: How many there are.

        Raises:
            Exception: What ``work`` raises, once nobody works any more.
        """
        step = self._free + 1
        futures = [self._pool.submit(work, range(start, count, step)) for start in range(1, step)]
        try:
            work(range(0, count, step))
        finally:
            wait(futures)
        for future in futures:
            future.result()
