"""Epochs on their way: groups loaded ahead, batches put together ahead, and a clock beside them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from cube.buffers import Buffers
from training.stream.assembling import Assembler, Recipe
from training.stream.batches import Batch
from training.stream.loading import Loaded, Loader, Tally
from training.stream.ordering import Epoch, Group
from training.stream.prefetching import prefetched
from training.stream.spare_threads import SpareThreads
from training.stream.stalls import StallReport
from training.stream.tiles import Key, Planner


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What all epochs share.

    Attributes:
        recipe: What a batch is made of.
        unit: Side of what is read at once, in pixels.
        pixel_bytes: Bytes of a pixel of a block, by variable and time.
        kept_bytes: What may be kept of tiles for later blocks.
        readers: Threads that read.
        prefetch: Batches that wait for the consumer.
        blocks: Memory of blocks.
        parts: Memory of what is kept for later blocks.
        batches: Memory of batches.
    """

    recipe: Recipe
    unit: int
    pixel_bytes: Mapping[Key, int]
    kept_bytes: int
    readers: int
    prefetch: int
    blocks: Buffers
    parts: Buffers
    batches: Buffers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """One epoch, or what is left of it.

    Attributes:
        epoch: Its plan.
        span: Positions of the chips to stream, half-open.
        start: Batch to begin with.
        stop: Batches in the epoch.
    """

    epoch: Epoch
    span: tuple[int, int]
    start: int
    stop: int

    @property
    def groups(self) -> tuple[Group, ...]:
        """Groups that hold a chip of the span."""
        first, last = self.span
        if first >= last:
            return ()
        return tuple(g for g in self.epoch.groups if g.first < last and g.first + g.chips > first)


def produced(machine: Machine, runs: Iterable[Run]) -> Iterator[tuple[Run, Tally, Batch]]:
    """Batches of runs that follow one another, prefetched."""
    return prefetched(_assembled(machine, runs), depth=machine.prefetch)


def _assembled(machine: Machine, runs: Iterable[Run]) -> Iterator[tuple[Run, Tally, Batch]]:
    with ThreadPoolExecutor(machine.readers, thread_name_prefix="quadrat.read") as pool:
        spare = SpareThreads(pool, machine.readers)
        assembler = Assembler(machine.recipe, machine.batches, spare)
        # One group ahead: as much is being read as is being cut.
        items = prefetched(_loaded(machine, runs, pool, spare), depth=1)
        try:
            for run, tally in items:
                groups: Iterator[Any] = islice(items, len(run.groups))
                for batch in assembler.batches(run.epoch, groups, run.span, run.stop - run.start):
                    yield run, tally, batch
        finally:
            items.close()  # type: ignore[attr-defined]


def _loaded(
    machine: Machine, runs: Iterable[Run], pool: ThreadPoolExecutor, spare: SpareThreads
) -> Iterator[Any]:
    """For each run itself and its tally, then its groups as :class:`Loaded`."""
    for run in runs:
        tally = Tally()
        yield run, tally
        if run.groups:
            yield from _groups(machine, run, pool, tally)
    spare.free()


def _groups(machine: Machine, run: Run, pool: ThreadPoolExecutor, tally: Tally) -> Iterator[Loaded]:
    source = machine.recipe.source
    planner = Planner(
        epoch=run.epoch,
        keys={number: timing.keys for number, timing in enumerate(source.timings)},
        unit=machine.unit,
        size=machine.recipe.size,
        pixel_bytes=machine.pixel_bytes,
        limit=machine.kept_bytes,
        first=run.groups[0].blocks[0],
        stop=run.groups[-1].blocks[1],
    )
    loader = Loader(source, planner, pool, tally, machine.blocks, machine.parts)
    for group in run.groups:
        yield loader.load(group)


class Watch:
    """A clock beside one run."""

    def __init__(self, run: Run, tally: Tally, *, since: float) -> None:
        """Begin at ``since``, by ``time.perf_counter``."""
        self.run, self._tally = run, tally
        self._since = self._last = since
        self._batches = self._chips = self._bytes = 0
        self._waited = self._first = 0.0
        self._weighed = False

    def given(self, batch: Batch, *, asked: float) -> None:
        """A batch was asked for, and is here now."""
        now = time.perf_counter()
        self._batches += 1
        self._waited += now - asked
        if self._batches == 1:
            self._first = now - self._since
        self._last = now
        real = int((batch.chip >= 0).sum())
        arrays = [*batch.inputs.values(), batch.label, batch.weight]
        whole = sum(values.nbytes for values in arrays if values is not None)
        self._chips += real
        if not self._weighed:
            self._weighed = batch.weight is None or bool(batch.weight.any())
        self._bytes += whole * real // len(batch.chip)

    @property
    def done(self) -> bool:
        """Whether this was the last batch of the epoch."""
        return self.run.start + self._batches == self.run.stop

    @property
    def place(self) -> tuple[int, int]:
        """Epoch and batch that come next."""
        number, batch = self.run.epoch.number, self.run.start + self._batches
        return (number + 1, 0) if self.done else (number, batch)

    def report(self) -> StallReport:
        """What was seen so far."""
        groups = self.run.groups
        return StallReport(
            epoch=self.run.epoch.number,
            seconds=self._last - self._since,
            waited=self._waited,
            first=self._first,
            batches=self._batches,
            chips=self._chips,
            chip_bytes=self._bytes,
            reads=self._tally.reads,
            again=self._tally.again,
            decoded=self._tally.decoded,
            blocks=sum(g.blocks[1] - g.blocks[0] for g in groups) / max(len(groups), 1),
            whole=self.done,
            weighed=self._weighed or not self._chips,
        )
