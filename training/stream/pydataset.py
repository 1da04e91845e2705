"""The stream as Keras takes it on every backend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras

from cube.errors import SpecError
from training.stream.batches import Batch
from training.stream.doors import elements, plainly
from training.stream.states import check_place

if TYPE_CHECKING:
    from training.stream.stream import ChipStream


_LOOKS = 2
"""Batches that Keras looks at on TensorFlow, to know their shapes, before it learns from any."""


class ChipDataset(keras.utils.PyDataset):
    """Batches in their order; epochs follow one another.

    The stream shuffles, and reads ahead: say ``shuffle=False`` to ``fit``.
    """

    def __init__(self, stream: ChipStream, *, first: int = 0, start: int = 0) -> None:
        # One worker: the stream works ahead on threads of its own.
        super().__init__(workers=1, use_multiprocessing=False)
        self.stream = stream
        first, _, start = check_place(len(stream), first=first, count=1, start=start)
        self.epoch = first
        self._start = start
        self._next = start
        self._begun = False
        self._batches: Iterator[Batch] | None = None

    def __len__(self) -> int:
        return len(self.stream) - self._start

    def __getitem__(self, index: int) -> Any:
        """The next batch, or with 0 the first of the epoch again.

        Raises:
            SpecError: Another one is asked for.
        """
        wanted = index + self._start
        if index not in (0, self._next - self._start):
            self.close()
            raise SpecError(
                f"Chips are streamed in order: batch 0 or {self._next - self._start} was expected "
                f"next. Received {index}; say shuffle=False to fit, since the stream shuffles."
            )
        if self._batches is None or wanted != self._next:
            self.close()
            self._batches = plainly(self.stream.epoch(self.epoch, start=wanted))
        self._next = wanted + 1
        return elements(next(self._batches))

    def on_epoch_begin(self) -> None:
        """Keras has looked at the first batches, and begins to learn."""
        self._begun = True

    def on_epoch_end(self) -> None:
        """Go on to the next epoch, if all of this one was given."""
        # Keras calls it before the first epoch too, after it has looked at two batches.
        looked = not self._begun and len(self) <= _LOOKS
        if self._next == len(self.stream) and not looked:
            self.close()
            self.epoch, self._start, self._next = self.epoch + 1, 0, 0
        self._begun = False

    def close(self) -> None:
        """Stop reading."""
        if self._batches is not None:
            self._batches.close()  # type: ignore[attr-defined]
            self._batches = None
