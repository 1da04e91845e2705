"""Doing many tasks in parallel, a bounded number in flight.

A task that fails costs only itself. What would fail everywhere alike, such as a
full disk, stops the rest; so does an interrupt.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tqdm.auto import tqdm

from cube import urls
from cube.errors import ClusterError, CubeError, DamagedError, SpecError, StoreError, TransientError
from cube.plan import Plan, workers_of
from cube.pools import Cluster, Pool, Threads
from cube.report import Outcome, Report
from cube.retrying import Retry
from cube.threads import bind_worker, one_thread

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Ended", "Outcome", "Plan", "Report", "ends", "open_pool", "run_tasks"]

Task = TypeVar("Task")

PATIENCE = 8
"""So many tasks in a row that a store does not answer, and it will not answer the others."""

_log = logging.getLogger("quadrat.run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a task ended.

    Attributes:
        value: Its result, or the :class:`CubeError` it raised.
        tries: How often it was tried.
        seconds: How long it took, pauses included.
    """

    value: Any
    tries: int = 1
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """True if it raised an error."""
        return isinstance(self.value, CubeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt(Generic[Task]):
    """A function of tasks, with everything that surrounds one task where it runs."""

    function: Callable[[Task], Any]
    retry: Retry
    bound: bool
    home: int

    def __call__(self, task: Task) -> Ended:
        began = time.monotonic()
        if self.bound and os.getpid() != self.home:
            bind_worker()
        with one_thread() if self.bound else nullcontext():
            value, tries = self.retry.call(lambda: self.function(task))
        return Ended(value=value, tries=tries, seconds=time.monotonic() - began)


def open_pool(
    function: Callable[[Task], Any],
    *,
    url: str,
    client: Client | None = None,
    workers: int | None = None,
    retry: Retry | None = None,
    bound: bool = True,
) -> Pool[Task]:
    """Somewhere to run tasks, whose results are :class:`Ended`.

    Args:
        function: Called with one task; it and its result must pickle for a client.
        url: The cube, to refuse a cube in memory with workers in other processes.
        client: A Dask client; None runs on local threads.
        workers: Local threads; by default see :func:`cube.plan.workers_of`.
        retry: How often to try again what may pass.
        bound: Keep libraries from starting threads of their own; False for a
            framework that needs them.

    Raises:
        SpecError: Workers in other processes cannot see a cube in memory.
        ClusterError: The cluster has no workers.
    """
    attempt = _Attempt(function=function, retry=retry or Retry(), bound=bound, home=os.getpid())
    if client is None:
        return Threads(attempt, workers_of(workers, url), bound=bound)
    if urls.is_memory(url) and _elsewhere(client):
        raise SpecError(
            f"{url!r} lives in this process; workers in other processes cannot see it. "
            f"Give the cube a folder."
        )
    return Cluster(attempt, client)


def run_tasks(
    function: Callable[[Task], Any],
    tasks: Sequence[Task],
    *,
    verb: str,
    url: str,
    client: Client | None = None,
    workers: int | None = None,
) -> Iterator[tuple[Task, Any]]:
    """Do tasks in parallel, a bounded number in flight, and yield them as they end.

    Args:
        function: See :func:`open_pool`.
        tasks: What to do.
        verb: Text of the progress bar, which shows only on a terminal or in a notebook.
        url: See :func:`open_pool`.
        client: See :func:`open_pool`.
        workers: See :func:`open_pool`.

    Yields:
        Pairs of task and result, or of task and the :class:`CubeError` it raised.

    Raises:
        StoreError: The store refused, as with a full disk; nothing more is begun.
        ClusterError: The cluster is gone.
    """
    pool: Pool[Task] = open_pool(function, url=url, client=client, workers=workers)
    for task, end in ends(pool, tasks, verb=verb):
        yield task, end.value


def ends(
    pool: Pool[Task], tasks: Sequence[Task], *, verb: str
) -> Generator[tuple[Task, Ended], None, None]:
    """Do tasks in a pool of :func:`open_pool`, and leave it; see :func:`run_tasks`.

    When it stops early, what could not be stopped any more is still yielded
    before the reason is raised.
    """
    with pool, tqdm(total=len(tasks), desc=verb, unit="region", disable=None) as bar:
        silence = _Silence(max(PATIENCE, pool.in_flight))
        failed = 0
        try:
            waiting = iter(tasks)
            while pool.launch(waiting):
                for future in pool.landed():
                    task, end = _taken(pool, future)
                    silence.check(end)
                    failed += end.failed
                    bar.set_postfix({"failed": failed} if failed else {}, refresh=False)
                    bar.update()
                    yield task, end
        except GeneratorExit:
            raise
        except BaseException as error:
            _announce(pool, error)
            yield from _rest(pool)
            raise


def _announce(pool: Pool[Any], error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt) and pool.flying and pool.waits:
        _log.warning("Interrupted; what is being written is finished. Once more stops at once.")


def _taken(pool: Pool[Task], future: Any) -> tuple[Task, Ended]:
    """A task and how it ended; raises what would happen to every other task."""
    task, end = _landed(pool, future)
    if isinstance(end.value, StoreError) and not _is_of_one(end.value):
        raise end.value
    return task, end


def _landed(pool: Pool[Task], future: Any) -> tuple[Task, Ended]:
    task = pool.flying[future]
    try:
        return pool.take(future)
    except ClusterError as error:
        if pool.at_large:
            raise
        return task, Ended(value=error)


def _is_of_one(error: StoreError) -> bool:
    """True for errors that say nothing about other tasks."""
    return isinstance(error, DamagedError | TransientError)


def _rest(pool: Pool[Task]) -> Iterator[tuple[Task, Ended]]:
    """Tasks that ended while the pool was stopped; those with an error count as not done."""
    for future in pool.stop():
        try:
            task, end = _taken(pool, future)
        except Exception:
            continue
        if not end.failed:
            yield task, end


class _Silence:
    """Tasks in a row that a store did not answer, each after all its tries."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0

    def check(self, end: Ended) -> None:
        """Take note of a task.

        Raises:
            StoreError: It was one too many.
        """
        self.count = self.count + 1 if isinstance(end.value, TransientError) else 0
        if self.count >= self.most:
            raise StoreError(
                f"{self.count} tasks in a row failed, each after {end.tries} tries; the last: "
                f"{str(end.value).rstrip('.')}. Run it again when the store answers."
            ) from end.value


def _elsewhere(client: Client) -> bool:
    """True if any worker lives in another process than this one."""
    pids = client.run(os.getpid)
    return any(pid != os.getpid() for pid in pids.values())
