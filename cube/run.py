"""Doing many regions: on local threads, or on a Dask cluster by passing its client.

Every long verb has a :class:`Plan`, is run by :func:`run_tasks`, and ends in a
:class:`Report`. A task that fails is recorded with its reason and costs only
its region; a full disk or an interrupt stops the rest.
"""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from tqdm.auto import tqdm

from cube import store
from cube.errors import CubeError, IncompleteError, SpecError, StoreError

if TYPE_CHECKING:
    from distributed import Client

Task = TypeVar("Task")
Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run will do, known before it does anything.

    Attributes:
        verb: For a person, e.g. ``"ingest predictors"``.
        regions: Regions to write.
        skipped: Regions that are done already.
        bytes_in: Decoded bytes to read.
        bytes_out: Stored bytes to write, before compression.
        peak_bytes: Forecast of memory above the process's own, at one worker.
    """

    verb: str
    regions: int
    skipped: int
    bytes_in: int
    bytes_out: int
    peak_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.verb}: {self.regions} regions to write, {self.skipped} done already; "
            f"reads {_size(self.bytes_in)}, writes {_size(self.bytes_out)} before compression, "
            f"peak {_size(self.peak_bytes)} a worker"
        )

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(str(self))}</p>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one task ended.

    Attributes:
        task: What it was, for a person.
        status: Done, skipped (was done already) or failed.
        reason: Why it failed.
    """

    task: str
    status: Status
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How a run ended.

    Attributes:
        verb: As in the plan.
        outcomes: One per region.
    """

    verb: str
    outcomes: tuple[Outcome, ...]

    def count(self, status: Status) -> int:
        """Number of regions with that status."""
        return sum(outcome.status == status for outcome in self.outcomes)

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Outcomes of regions that failed, with their reasons."""
        return tuple(o for o in self.outcomes if o.status == "failed")

    def __str__(self) -> str:
        counts = ", ".join(f"{self.count(s)} {s}" for s in ("done", "skipped", "failed"))
        return f"{self.verb}: {counts}"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(o.task)}</td><td>{html.escape(o.reason)}</td></tr>"
            for o in self.failed
        )
        return f"<p>{html.escape(str(self))}</p>" + (f"<table>{rows}</table>" if rows else "")

    def check(self) -> Report:
        """Return the report itself.

        Raises:
            IncompleteError: A region failed; the message gives the first reason.
        """
        if self.failed:
            first = self.failed[0]
            raise IncompleteError(
                f"{self.verb}: {len(self.failed)} of {len(self.outcomes)} regions failed; "
                f"the others are written. First at {first.task}: {first.reason} "
                f"Run it again to redo only what is missing.",
                self,
            )
        return self


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


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
        function: Called with one task; it and its result must pickle for a client.
        tasks: What to do.
        verb: Text of the progress bar, which shows only on a terminal or in a notebook.
        url: The cube, to refuse a cube in memory with workers in other processes.
        client: A Dask client; None runs on local threads.
        workers: Local threads; by default the number of cores.

    Yields:
        Pairs of task and result, or of task and the :class:`CubeError` it raised.

    Raises:
        StoreError: The store refused, as with a full disk; nothing more is begun.
    """
    if client is not None and store.is_memory(url) and _elsewhere(client):
        raise SpecError(
            f"{url!r} lives in this process; workers in other processes cannot see it. "
            f"Give the cube a folder."
        )
    pool = _Cluster(client, function) if client is not None else _Threads(function, workers)
    with pool, tqdm(total=len(tasks), desc=verb, unit="region", disable=None) as bar:
        for task, result in _drain(pool, tasks):
            bar.update()
            if isinstance(result, StoreError):
                raise result
            yield task, result


def report(
    verb: str,
    results: Iterator[tuple[Any, Any]],
    *,
    done_before: Sequence[Any] = (),
) -> Report:
    """Collect the results of region tasks.

    Raises:
        IncompleteError: A region failed.
    """
    outcomes = [Outcome(task=str(task), status="skipped") for task in done_before]
    for task, result in results:
        failed = isinstance(result, CubeError)
        outcomes.append(
            Outcome(
                task=str(task),
                status="failed" if failed else "done",
                reason=str(result) if failed else "",
            )
        )
    return Report(verb=verb, outcomes=tuple(outcomes)).check()


def _drain(pool: _Pool[Task], tasks: Sequence[Task]) -> Iterator[tuple[Task, Any]]:
    waiting = iter(tasks)
    flying: dict[Any, Task] = {}
    exhausted = False
    while flying or not exhausted:
        while not exhausted and len(flying) < pool.in_flight:
            task = next(waiting, None)
            if task is None:
                exhausted = True
            else:
                flying[pool.submit(task)] = task
        for future in pool.next_done(list(flying)) if flying else ():
            yield flying.pop(future), _result(future)


def _result(future: Any) -> Any:
    """Result of a task; its error as a value if we raised it on purpose."""
    try:
        return future.result()
    except CubeError as error:
        return error


class _Pool(Generic[Task]):
    """Somewhere to run tasks."""

    in_flight: int

    def submit(self, task: Task) -> Any:
        raise NotImplementedError

    def next_done(self, futures: list[Any]) -> list[Any]:
        raise NotImplementedError

    def __enter__(self) -> _Pool[Task]:
        return self

    def __exit__(self, *error: object) -> None:
        raise NotImplementedError


class _Threads(_Pool[Task]):
    """Local threads: reading, coding and numpy release the interpreter's lock."""

    def __init__(self, function: Callable[[Task], Any], workers: int | None) -> None:
        count = workers or os.cpu_count() or 1
        self.function = function
        self.executor = ThreadPoolExecutor(count)
        self.in_flight = 2 * count

    def submit(self, task: Task) -> Future[Any]:
        return self.executor.submit(self.function, task)

    def next_done(self, futures: list[Future[Any]]) -> list[Future[Any]]:
        return list(wait(futures, return_when=FIRST_COMPLETED).done)

    def __exit__(self, *error: object) -> None:
        self.executor.shutdown(wait=True, cancel_futures=True)


class _Cluster(_Pool[Task]):
    """A Dask cluster; the function is sent once, the tasks stay small."""

    def __init__(self, client: Client, function: Callable[[Task], Any]) -> None:
        self.client = client
        self.function = function
        self.in_flight = max(4, 2 * sum(client.nthreads().values()))

    def submit(self, task: Task) -> Any:
        return self.client.submit(self.function, task, pure=False)

    def next_done(self, futures: list[Any]) -> list[Any]:
        from distributed import wait as wait_for

        return list(wait_for(futures, return_when="FIRST_COMPLETED").done)

    def __exit__(self, *error: object) -> None:
        return None


def _elsewhere(client: Client) -> bool:
    """True if any worker lives in another process than this one."""
    pids = client.run(os.getpid)
    return any(pid != os.getpid() for pid in pids.values())
