"""Where tasks run: on threads of this process, or on a Dask cluster."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from cube.errors import ClusterError
from cube.threads import one_thread_each

if TYPE_CHECKING:
    from distributed import Client

Task = TypeVar("Task")

LISTEN_S = 1.0
"""How often to look whether a cluster is still there."""

LAST_S = 5.0
"""How long to wait for a result that a cluster had when the run was stopped. If its worker is dead,
Dask does the task again, should there be another one."""


class Pool(Generic[Task]):
    """Somewhere to run tasks.

    Attributes:
        in_flight: How many tasks to have submitted at once, so that no worker waits.
        flying: Tasks that were submitted and whose results were not taken.
        at_large: Whether tasks may still run somewhere though the pool was left.
        waits: Whether :meth:`stop` waits for what runs.
    """

    in_flight: int
    waits = False

    def __init__(self) -> None:
        self.flying: dict[Any, Task] = {}
        self.at_large = False

    def launch(self, waiting: Iterator[Task]) -> bool:
        """Submit tasks until enough are in flight; False once there is none any more."""
        while len(self.flying) < self.in_flight:
            try:
                task = next(waiting)
            except StopIteration:
                break
            self.flying[self.submit(task)] = task
        return bool(self.flying)

    def take(self, future: Any) -> tuple[Task, Any]:
        """A task that has ended, and its result; what it raised is raised."""
        task = self.flying.pop(future)
        return task, self.result(future)

    def submit(self, task: Task) -> Any:
        """Hand over a task."""
        raise NotImplementedError

    def landed(self) -> list[Any]:
        """Wait until a task has ended; those that have."""
        raise NotImplementedError

    def result(self, future: Any) -> Any:
        """Result of a task that has ended."""
        return future.result()

    def stop(self) -> list[Any]:
        """Begin nothing more; those that have ended, once nothing runs that can be waited for."""
        raise NotImplementedError

    def __enter__(self) -> Pool[Task]:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        raise NotImplementedError


class Threads(Pool[Task]):
    """Threads of this process: reading, coding and numpy release the interpreter's lock.

    They are daemons, so that a process that is told twice to stop does not wait for them.
    """

    waits = True

    def __init__(
        self, function: Callable[[Task], Any], workers: int, *, bound: bool = False
    ) -> None:
        super().__init__()
        self._bounds = one_thread_each() if bound else contextlib.nullcontext()
        self.in_flight = 2 * workers
        self._function = function
        self._queue: queue.SimpleQueue[tuple[Future[Any], Task] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"quadrat-{i}", daemon=True)
            for i in range(workers)
        ]

    def __enter__(self) -> Threads[Task]:
        self._entered = threading.get_ident()
        self._bounds.__enter__()
        for thread in self._threads:
            thread.start()
        return self

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            future, task = item
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(self._function(task))
                except BaseException as error:
                    future.set_exception(error)
            del item, future, task  # or they would live until the next one comes

    def submit(self, task: Task) -> Future[Any]:
        """See :class:`Pool`."""
        future: Future[Any] = Future()
        self._queue.put((future, task))
        return future

    def landed(self) -> list[Future[Any]]:
        """See :class:`Pool`."""
        return list(wait(self.flying, return_when=FIRST_COMPLETED).done)

    def stop(self) -> list[Future[Any]]:
        """See :class:`Pool`; tasks that run are waited for."""
        running = [future for future in self.flying if not future.cancel()]
        self.at_large = bool(running)  # until they have ended: the wait may be interrupted
        wait(running)
        self.at_large = False
        return running

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._bounds.__exit__(None, None, None)
        for future in self.flying:
            future.cancel()
        for _ in self._threads:
            self._queue.put(None)
        # Who interrupts has waited in stop(); or does so again, and wants no more waiting. And what
        # was forgotten is collected on any thread, one that the tasks wait for among them.
        here = threading.get_ident() == self._entered
        if here and (kind is None or not issubclass(kind, KeyboardInterrupt)):
            for thread in self._threads:
                thread.join()


class Cluster(Pool[Task]):
    """A Dask cluster.

    The function becomes a task of its own, on which all others depend: it is
    sent once, and made again should the worker that holds it die. So the
    scheduler never knows more than the tasks in flight, which are small.
    """

    def __init__(self, function: Callable[[Task], Any], client: Client) -> None:
        super().__init__()
        self._client = client
        self._address = str(getattr(client.scheduler, "address", client))
        threads = sum(client.nthreads().values())
        if not threads:
            raise ClusterError(
                f"The Dask cluster at {self._address} has no workers; start some, or leave out "
                f"client= to run here."
            )
        self.in_flight = max(4, 2 * threads)
        self._given = _Given(function)
        self._function: Any = None
        self._until: float | None = None

    def __enter__(self) -> Cluster[Task]:
        with self._listening():
            self._function = self._client.submit(self._given, pure=False)
        return self

    def submit(self, task: Task) -> Any:
        """See :class:`Pool`."""
        with self._listening():
            return self._client.submit(_call, self._function, task, pure=False)

    def landed(self) -> list[Any]:
        """See :class:`Pool`."""
        from distributed import wait as wait_for

        while True:
            # It asks Dask's current client, which need not be ours, or may be none.
            ours = self._client.as_current()
            with ours, self._listening(), contextlib.suppress(TimeoutError):
                found = wait_for(list(self.flying), timeout=LISTEN_S, return_when="FIRST_COMPLETED")
                return list(found.done)
            if self._client.status != "running":
                self._gone()

    def result(self, future: Any) -> Any:
        """See :class:`Pool`."""
        from distributed import KilledWorker

        with self._listening():
            try:
                return self._awaited(future)
            except KilledWorker as error:
                raise _killed(error) from error
            finally:
                future.release()

    def _awaited(self, future: Any) -> Any:
        """Result of a future, which has to be made again if the worker that had it died."""
        while True:
            try:
                return future.result(timeout=LISTEN_S)
            except TimeoutError:
                late = self._until is not None and time.monotonic() > self._until
                self.at_large = self.at_large or late
                if late or future.status == "error" or self._client.status != "running":
                    raise

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """What Dask says when it has lost its scheduler, as one clear line."""
        try:
            yield
        except (CancelledError, _cancelled()):
            # Nobody else cancels what we wait for.
            self._gone()
        except Exception as error:
            if isinstance(error, ClusterError) or not self._lost(error):
                raise
            self._gone(error)

    def _lost(self, error: Exception) -> bool:
        """True if an error comes from a lost scheduler, which the client may learn a bit later."""
        until = time.monotonic() + (LISTEN_S if isinstance(error, OSError) else 0)
        while self._client.status == "running" and time.monotonic() < until:
            time.sleep(LISTEN_S / 20)
        return bool(self._client.status != "running")

    def _gone(self, error: BaseException | None = None) -> NoReturn:
        self.at_large = True
        raise ClusterError(
            f"The Dask scheduler at {self._address} is gone; what is written stays, run it again "
            f"to go on."
        ) from error

    def stop(self) -> list[Any]:
        """See :class:`Pool`; Dask has no way to wait for tasks that run, so they are left."""
        ended = [future for future in self.flying if future.status in ("finished", "error")]
        rest = [future for future in self.flying if future not in ended]
        self.at_large = self.at_large or bool(rest)
        self._until = time.monotonic() + LAST_S
        self._cancel(rest)
        return ended

    def _cancel(self, futures: list[Any]) -> None:
        # Where the scheduler is gone, there is nothing left to cancel.
        if futures and self._client.status == "running":
            with contextlib.suppress(Exception):
                self._client.cancel(futures, force=True)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._cancel([future for future in self.flying if not future.done()])
        self.flying.clear()
        self._function.release()


class _Given:
    """A task whose result is what it was made of."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self) -> Any:
        return self.value


def _call(function: Callable[[Any], Any], task: Any) -> Any:
    return function(task)


def _cancelled() -> type[BaseException]:
    from asyncio import CancelledError as Cancelled

    return Cancelled


def _killed(error: Any) -> ClusterError:
    return ClusterError(
        f"{error.allowed_failures + 1} workers died over it, the last at "
        f"{error.last_worker.address}; give workers more memory, or see their logs."
    )
