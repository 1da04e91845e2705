"""The stream of chips: what a model is trained from."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from cube import urls
from cube.buffers import Buffers
from cube.errors import SplitError
from cube.spec import CubeSpec
from cube.template import read_spec
from cube.windows import WindowSet
from training.chips import Chips
from training.samples import SampleSpec
from training.sampling import Sampling
from training.stream import describing, doors
from training.stream.assembling import ChipWeights, PixelWeights, Recipe
from training.stream.batches import Batch
from training.stream.blocks import Block, plan_blocks
from training.stream.budget import HELD, Needs, plan_budget
from training.stream.loading import Tally
from training.stream.ordering import Epoch, batches_of, part_of, plan_epoch
from training.stream.preparing import (
    check_joined,
    check_kinds,
    check_rows,
    chip_ids,
    readers_of,
    source_of,
    tile_bytes,
    unit_of,
)
from training.stream.running import Machine, Run, Watch, produced
from training.stream.specs import StreamSpec, whole
from training.stream.stalls import StallReport
from training.stream.states import StreamState, check_place, digest_of
from training.stream.supervision import Supervision
from training.tables import TableJoin

if TYPE_CHECKING:
    import tensorflow as tf

IntArray = npt.NDArray[np.int64]

_log = logging.getLogger("quadrat.stream")


@runtime_checkable
class Selection(Protocol):
    """Chips chosen from an index."""

    @property
    def ids(self) -> IntArray:
        """Chip ids."""

    def check(self, spec: CubeSpec, sample: SampleSpec, windows: WindowSet) -> None:
        """Refuse another cube, sample or windows than those of the index."""


class Guard(Protocol):
    """What no window of a stream may come near to."""

    def check(self, windows: IntArray) -> Any:
        """Refuse windows that come too near."""


class ChipStream:
    """Chips of chosen windows, epoch after epoch.

    Every epoch yields every chip exactly once (or those that ``sampling`` draws), in an order that
    depends on the epoch, the chips and the :class:`StreamSpec` alone.
    """

    def __init__(  # noqa: PLR0913  (where, what, how, and what is joined to it, by name)
        self,
        url: str | os.PathLike[str],
        sample: SampleSpec,
        windows: WindowSet,
        chips: npt.ArrayLike | Selection,
        spec: StreamSpec,
        *,
        supervision: Supervision | None = None,
        label: TableJoin | None = None,
        features: Mapping[str, TableJoin] | None = None,
        weights: ChipWeights | None = None,
        pixel_weights: PixelWeights | None = None,
        sampling: Sampling | None = None,
        held_out: Guard | None = None,
    ) -> None:
        """Plan the stream; reads no pixels.

        Args:
            url: The cube.
            sample: What a chip holds.
            windows: Where chips lie.
            chips: Ids of the chips to stream (window × timings + timing), or a
                :class:`~training.ChipIndex` of them, or a part of a split
                (:class:`~training.SplitChips`), which checks itself for leaks.
            spec: Batches, order, memory.
            supervision: Weights of the pixels of a map; by default every observed one counts 1.
            label: Rows that are learned, where the target is a table.
            features: Name to rows that go with the inputs, float32 (batch, column).
            weights: What each chip counts.
            pixel_weights: What the pixels of each class count.
            sampling: Which of the chips an epoch takes, and how often; by
                default each once.
            held_out: The leak check: windows that those streamed must not come near to.

        Raises:
            SplitError: There are no chips, or some are named twice or are not
                there; one lies too near to what is held out; some lack a feature or a
                weight, or all a label; or what is drawn is none of them.
            SpecError: An argument is of another kind; the cube lacks what the sample
                needs; what is joined does not fit the target or the cube; or the memory
                does not suffice.
        """
        check_kinds(sample=sample, windows=windows, spec=spec)
        check_kinds(supervision=supervision, label=label, features=features, weights=weights)
        check_kinds(pixel_weights=pixel_weights, sampling=sampling, held_out=held_out)
        self.url = urls.normalise(url)
        self.cube = read_spec(self.url)
        self.sample, self.windows, self.spec = sample, windows, spec
        sample.check(self.cube)
        self.chips = Chips(windows=windows, timings=len(sample.timings))
        if isinstance(chips, Selection):
            chips.check(self.cube, sample, windows)
        self.ids = chip_ids(chips.ids if isinstance(chips, Selection) else chips, self.chips)
        self.sampling = sampling
        self._check_grid()
        if sampling is not None:
            self._drawn(0)
        if held_out is not None:
            held_out.check(np.unique(self.chips.window_of(self.ids)))
        self.recipe = Recipe(
            batch=spec.batch,
            size=windows.size,
            stride=windows.stride,
            source=source_of(self.url, self.cube, sample, supervision),
            label=label,
            features=dict(features or {}),
            weights=weights,
            pixel_weights=pixel_weights,
            draws=spec.draws,
            seed=spec.seed,
        )
        check_joined(self.recipe, sample, supervision)
        check_rows(self.recipe, self.ids)
        self.budget = plan_budget(
            spec.memory_bytes,
            Needs(
                pixel_bytes=self.recipe.pixel_bytes(),
                chip_bytes=self.recipe.chip_bytes(),
                size=windows.size,
                chunk_bytes=tile_bytes(self.recipe.source, self.cube.layout.chunk),
            ),
            batch=spec.batch,
            prefetch=spec.prefetch,
            block_px=spec.block_px,
            blocks=spec.blocks_in_flight,
        )
        self.release()
        self._place = (0, 0)
        self.reports: list[StallReport] = []

    def _check_grid(self) -> None:
        if self.windows.shape != tuple(self.cube.grid.shape):
            raise SplitError(
                f"Windows lie on a grid of {self.windows.shape}, the cube on "
                f"{tuple(self.cube.grid.shape)}."
            )

    @property
    def readers(self) -> int:
        """Threads that read."""
        return readers_of(self.recipe.source, self.budget, wanted=self.spec.readers)

    @cached_property
    def digest(self) -> str:
        """First 12 hex digits of the SHA-256 of what is streamed, and in which order."""
        return digest_of(self)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return batches_of(self.chips_per_epoch, self.spec.batch, self.spec.part[1])

    @property
    def chips_per_epoch(self) -> int:
        """Chips in an epoch, those of all workers."""
        return len(self.ids) if self.sampling is None else self.sampling.per_epoch

    @cached_property
    def blocks(self) -> list[Block]:
        """Super-blocks of all chips, in row-major order."""
        return plan_blocks(self.chips, self.ids, block_px=self.budget.block_px)

    def plan(self, number: int) -> Epoch:
        """Order and groups of an epoch."""
        blocks = self.blocks
        if self.sampling is not None:
            blocks = plan_blocks(self.chips, self._drawn(number), block_px=self.budget.block_px)
        return plan_epoch(
            blocks,
            number=number,
            seed=self.spec.seed if self.spec.shuffle else None,
            section=self.budget.section,
            limits=(self.budget.group_bytes, self.spec.blocks_in_flight),
            pixel_bytes=self.recipe.pixel_bytes(),
        )

    def _drawn(self, number: int) -> IntArray:
        """Chips that the sampling draws for an epoch, ascending."""
        drawn = np.sort(np.asarray(self.sampling.draw(number), dtype="int64"))  # type: ignore[union-attr]
        strange = np.setdiff1d(drawn, self.ids)
        if len(strange) or len(drawn) != self.chips_per_epoch or not len(drawn):
            raise SplitError(
                f"A sampling draws {self.chips_per_epoch} of the stream's chips in every epoch. "
                f"Received {len(drawn)}, {len(strange)} of them not in the stream."
            )
        return drawn

    # ---------------------------------------------------------------- epochs

    def epoch(self, number: int = 0, *, start: int = 0) -> Iterator[Batch]:
        """Batches of one epoch.

        Args:
            number: Which epoch, from 0; decides the order together with the seed.
            start: Batch to begin with, from 0; those before are not read.
        """
        return self.epochs(number, 1, start=start)

    def epochs(self, first: int, count: int, *, start: int = 0) -> Iterator[Batch]:
        """Batches of epochs that follow one another, each read while the one before is used.

        Args:
            first: Number of the first epoch.
            count: How many.
            start: Batch of the first epoch to begin with.

        Raises:
            SpecError: There is no such epoch or batch.
            StoreError: A chunk is damaged, or the store refuses.
        """
        place = check_place(len(self), first=first, count=count, start=start)
        machine = Machine(
            recipe=self.recipe,
            unit=unit_of(self.recipe.source, self.budget),
            pixel_bytes={
                key: self.recipe.source.pixel_bytes(key) for key in self.recipe.source.keys
            },
            kept_bytes=self.budget.kept_bytes,
            readers=self.readers,
            prefetch=self.spec.prefetch,
            blocks=self._block_buffers,
            parts=self._part_buffers,
            batches=self._batch_buffers,
        )
        return self._watched(produced(machine, self._runs(*place)))

    def _runs(self, first: int, count: int, start: int) -> Iterator[Run]:
        for number in range(first, first + count):
            epoch = self.plan(number)
            begin, stop = part_of(epoch.chips, self.spec.part)
            skipped = start if number == first else 0
            span = (min(begin + skipped * self.spec.batch, stop), stop)
            yield Run(epoch=epoch, span=span, start=skipped, stop=len(self))

    def _watched(self, items: Iterator[tuple[Run, Tally, Batch]]) -> Iterator[Batch]:
        """The batches, with an eye on the clock and on the place."""
        watch: Watch | None = None
        try:
            while True:
                asked = time.perf_counter()
                try:
                    run, tally, batch = next(items)
                except StopIteration:
                    return
                watch = watch or Watch(run, tally, since=asked)
                watch.given(batch, asked=asked)
                self._place = watch.place
                if watch.done:
                    # Before the batch is, so that who asks at the end of an epoch finds it.
                    self._ended(watch.report())
                    watch = None
                yield batch
                # Not to hold it while the next one is waited for.
                del batch
        finally:
            items.close()  # type: ignore[attr-defined]
            if watch is not None:
                self._ended(watch.report())

    def _ended(self, report: StallReport) -> None:
        self.reports.append(report)
        if report.whole and not report.weighed:
            _log.warning("%s", report)

    def release(self) -> None:
        """Give back the memory that is kept from epoch to epoch; it is taken again when needed."""
        batch_bytes = self.spec.batch * self.recipe.chip_bytes()
        self._batch_buffers = Buffers(kept_bytes=(self.spec.prefetch + HELD) * batch_bytes)
        self._block_buffers = Buffers(kept_bytes=2 * self.budget.group_bytes)
        self._part_buffers = Buffers(kept_bytes=self.budget.kept_bytes)

    @property
    def report(self) -> StallReport | None:
        """How the last epoch went."""
        return self.reports[-1] if self.reports else None

    def state(self, *, step: int | None = None) -> StreamState:
        """Where the stream is, to save with the weights.

        Args:
            step: Batches that the model has learned from since epoch 0; frameworks
                take some ahead. None counts those that were given.

        Raises:
            SpecError: ``step`` is no number of batches.
        """
        if step is None:
            epoch, batch = self._place
        else:
            epoch, batch = divmod(whole(step, "step", least=0), len(self))
        return StreamState(epoch=epoch, batch=batch, digest=self.digest)

    def resume(self, state: StreamState | Mapping[str, Any], *, epochs: int = 1) -> Iterator[Batch]:
        """Batches from a saved place to the end of its epoch, and of those that follow.

        Args:
            state: From :meth:`state`, or its ``to_dict()``.
            epochs: How many epochs, the one that was begun being the first; a run
                of n epochs has ``n - state.epoch`` left, 0 once it is done.

        Raises:
            SpecError: It is no state, or ``epochs`` is below 1.
            SplitError: The state is of another stream.
        """
        place = state if isinstance(state, StreamState) else StreamState.from_dict(state)
        if place.digest != self.digest:
            raise SplitError(
                f"The state is of a stream with digest {place.digest}; this one has "
                f"{self.digest}. Make the stream from the same cube, chips and spec."
            )
        return self.epochs(place.epoch, epochs, start=place.batch)

    # ---------------------------------------------------------------- doors

    def tensorflow(self, *, epochs: int, first: int = 0, start: int = 0) -> tf.data.Dataset:
        """The stream as a ``tf.data.Dataset`` of (inputs, label, weight), static shapes.

        Args:
            epochs: How many epochs follow one another.
            first: Number of the first epoch.
            start: Batch of the first epoch to begin with.
        """
        return doors.tensorflow(self, first=first, epochs=epochs, start=start)

    def keras(self, *, first: int = 0, start: int = 0) -> Any:
        """The stream as a ``keras.utils.PyDataset`` of (inputs, label, weight).

        Works on every backend of Keras; one epoch follows another for as long as ``fit`` asks.
        Say ``shuffle=False`` to ``fit``: the stream shuffles, and batches in another order are
        refused. Keras takes the length of the first epoch for that of all, so fit what is left of
        an epoch that ``start`` goes on with by itself. Where some steps of an epoch are all that is
        taken, ``close()`` the dataset then, or what was read ahead waits for the rest; TensorFlow
        forgets no dataset of this kind, so on that backend :meth:`tensorflow` is the better door.

        Args:
            first: Number of the first epoch.
            start: Batch of the first epoch to begin with.
        """
        return doors.keras_dataset(self, first=first, start=start)

    def describe(self) -> str:
        """What the stream will do, in a few lines."""
        return describing.text(self)

    def __str__(self) -> str:
        return self.describe()

    def __repr__(self) -> str:
        return f"<ChipStream of {len(self.ids):,} chips in {len(self):,} batches an epoch>"

    def _repr_html_(self) -> str:
        return describing.html(self)
