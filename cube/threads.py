"""Threads: one for each task, since tasks are what runs in parallel.

Libraries that start a thread per core in every task would make cores times
tasks of them, which fight for the cores and multiply the memory.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from typing import Any

GDAL_CACHE_BYTES = 64_000_000
"""Of GDAL's blocks, for all tasks of a process. It would take a twentieth of the machine's memory,
but a task reads what it needs once."""


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Within it BLAS and numexpr start no threads of their own, in all of this process.

    To be left by the thread that entered it, as threadpoolctl wants it.
    """
    with _pools("blas").limit(limits=1), contextlib.ExitStack() as stack:
        numexpr = sys.modules.get("numexpr")
        if numexpr is not None:
            stack.callback(numexpr.set_num_threads, numexpr.set_num_threads(1))
        yield


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within it OpenMP and GDAL start no threads of their own, in this thread."""
    with _pools("openmp").limit(limits=1), _gdal():
        yield


@functools.cache
def bind_worker() -> None:
    """Bound BLAS and numexpr of a worker's process, for good: Dask does so too, with its own."""
    _pools("blas").limit(limits=1)
    if "numexpr" in sys.modules:
        sys.modules["numexpr"].set_num_threads(1)


def _pools(kind: str) -> Any:
    """The thread pools of this process."""
    # A pool comes with a module; to look for pools takes milliseconds.
    return _found(len(sys.modules)).select(user_api=kind)


@functools.lru_cache(maxsize=1)
def _found(modules: int) -> Any:
    from threadpoolctl import ThreadpoolController

    del modules
    return ThreadpoolController()


def _gdal() -> contextlib.AbstractContextManager[Any]:
    rasterio = sys.modules.get("rasterio")
    if rasterio is None:
        # Loading it takes a tenth of a second, which a task without rasters need not spend.
        return contextlib.nullcontext()
    options: dict[str, Any] = {"GDAL_NUM_THREADS": "1"}
    if "GDAL_CACHEMAX" not in os.environ:
        options["GDAL_CACHEMAX"] = GDAL_CACHE_BYTES
    return rasterio.Env(**options)
