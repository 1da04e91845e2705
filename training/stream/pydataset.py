"""The stream as Keras takes it on every backend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras

from training.stream.batches import Batch
from training.stream.doors import elements
from training.stream.states import check_place

if TYPE_CHECKING:
    from training.stream.stream import ChipStream


class ChipDataset(keras.utils.PyDataset):
    """Batches by number, best asked for in their order; epochs follow one another.

    A batch that is asked for out of order is read anew from there on. Say ``shuffle=False`` to
    ``fit``: the stream shuffles.
    """

    def __init__(self, stream: ChipStream, *, first: int = 0, start: int = 0) -> None:
        # One worker: the stream works ahead on threads of its own.
        super().__init__(workers=1, use_multiprocessing=False)
        self.stream = stream
        first, _, start = check_place(len(stream), first=first, count=1, start=start)
        self.epoch = first
        self._start = start
        self._next = start
        self._batches: Iterator[Batch] | None = None

    def __len__(self) -> int:
        return len(self.stream) - self._start

    def __getitem__(self, index: int) -> Any:
        wanted = index + self._start
        if self._batches is None or wanted != self._next:
            self.close()
            self._batches = self.stream.epoch(self.epoch, start=wanted)
        self._next = wanted + 1
        return elements(next(self._batches))

    def on_epoch_end(self) -> None:
        """Go on to the next epoch, if all of this one was given."""
        # Keras calls it before the first epoch too, and after looking at the first batches.
        if self._next == len(self.stream):
            self.close()
            self.epoch, self._start, self._next = self.epoch + 1, 0, 0

    def close(self) -> None:
        """Stop reading."""
        if self._batches is not None:
            self._batches.close()  # type: ignore[attr-defined]
            self._batches = None
