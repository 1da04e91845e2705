"""Working ahead of a consumer on a thread of our own."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import Any, TypeVar

Item = TypeVar("Item")


def prefetched(items: Iterable[Item], *, depth: int) -> Iterator[Item]:
    """The same items in the same order, made on another thread, ``depth`` ahead.

    No more than ``depth`` items are there that the consumer has not taken, that which is being
    made included. An error of the producer reaches the consumer where it happened; a consumer
    that leaves early stops the producer, and waits for its end if on the thread that took items.
    """
    queue: SimpleQueue[tuple[str, Any]] = SimpleQueue()
    room = threading.Semaphore(depth)
    left = threading.Event()
    producer = threading.Thread(
        target=_produce, args=(items, queue, room, left), name="quadrat.prefetch", daemon=True
    )
    producer.start()
    try:
        while True:
            consumer = threading.get_ident()
            kind, value = queue.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            room.release()
            yield value
            # Not to hold it while the next one is waited for.
            value = None
    finally:
        left.set()
        room.release()
        # Garbage is collected on any thread: one that the producer waits for must not wait for it.
        if threading.get_ident() == consumer:
            producer.join()


def _produce(
    items: Iterable[Item],
    queue: SimpleQueue[tuple[str, Any]],
    room: threading.Semaphore,
    left: threading.Event,
) -> None:
    iterator = iter(items)
    try:
        while True:
            room.acquire()
            if left.is_set():
                return
            try:
                item = next(iterator)
            except StopIteration:
                break
            queue.put(("item", item))
            del item
        queue.put(("end", None))
    except BaseException as error:
        queue.put(("error", error))
    finally:
        # A generator that is left in the middle tidies up on the thread that ran it.
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
