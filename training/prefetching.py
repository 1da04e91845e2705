"""Working ahead of a consumer on a thread of our own."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from queue import Empty, Full, Queue
from typing import Any, TypeVar

Item = TypeVar("Item")

_WAIT_S = 0.1
"""How often a waiting producer looks whether its consumer has left."""


def prefetched(items: Iterable[Item], *, depth: int) -> Iterator[Item]:
    """The same items in the same order, made on another thread, ``depth`` ahead.

    An error of the producer reaches the consumer where it happened; a consumer
    that leaves early stops the producer.
    """
    queue: Queue[tuple[str, Any]] = Queue(maxsize=depth)
    left = threading.Event()
    producer = threading.Thread(target=_produce, args=(items, queue, left), daemon=True)
    producer.start()
    try:
        while True:
            kind, value = queue.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        left.set()
        _empty(queue)
        producer.join()


def _produce(items: Iterable[Item], queue: Queue[tuple[str, Any]], left: threading.Event) -> None:
    try:
        for item in items:
            if not _put(queue, ("item", item), left):
                return
        _put(queue, ("end", None), left)
    except BaseException as error:
        _put(queue, ("error", error), left)


def _put(queue: Queue[tuple[str, Any]], entry: tuple[str, Any], left: threading.Event) -> bool:
    while not left.is_set():
        try:
            queue.put(entry, timeout=_WAIT_S)
        except Full:
            continue
        return True
    return False


def _empty(queue: Queue[tuple[str, Any]]) -> None:
    while True:
        try:
            queue.get_nowait()
        except Empty:
            return
