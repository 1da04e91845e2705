"""What a run will take, known before it does anything; and refused if it cannot fit."""

from __future__ import annotations

import html
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cube import urls
from cube.errors import SpecError, StoreError
from cube.layout import LayoutSpec
from cube.memory import Room
from cube.regions import Region
from cube.threads import cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one region took that was done in memory, to calibrate an estimate.

    Attributes:
        bytes_out: Its stored bytes before compression.
        stored_bytes: The same after compression.
        seconds: Time on the clock.
        cpu_seconds: Time of all cores together.
    """

    bytes_out: int
    stored_bytes: int
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run will do, known before it does anything.

    Attributes:
        verb: For a person, e.g. ``"ingest predictors"``.
        regions: Regions to write; each is one task.
        skipped: Regions that are done already.
        bytes_in: Decoded bytes to read.
        bytes_out: Stored bytes to write, before compression.
        peak_bytes: Forecast of the memory of one task, above the process's own.
        requests: To the cube's store; see :func:`requests`.
        opens: Files to open, as far as their source says.
        workers: Tasks that run at once.
        cores: Cores that they share.
        sample: One region that was tried; None without calibration.
    """

    verb: str
    regions: int
    skipped: int
    bytes_in: int
    bytes_out: int
    peak_bytes: int
    requests: int = 0
    opens: int = 0
    workers: int = 1
    cores: int = 1
    sample: Sample | None = None

    @property
    def tasks(self) -> int:
        """Tasks to do: one a region."""
        return self.regions

    @property
    def total_peak_bytes(self) -> int:
        """Forecast of memory of all workers together, above their processes' own."""
        return self.peak_bytes * min(self.workers, max(1, self.regions))

    @property
    def seconds(self) -> float | None:
        """Estimate of the time of the run; None without a sample.

        What takes time is either waiting, which workers do side by side, or
        computing, which cores do.
        """
        if self.sample is None:
            return None
        each = max(self.sample.seconds / self.workers, self.sample.cpu_seconds / self.cores)
        return self._samples * each

    @property
    def stored_bytes(self) -> int | None:
        """Estimate of the bytes to write after compression; None without a sample."""
        return None if self.sample is None else round(self._samples * self.sample.stored_bytes)

    @property
    def _samples(self) -> float:
        return self.bytes_out / max(1, self.sample.bytes_out) if self.sample else 0.0

    def __str__(self) -> str:
        stored = "" if self.stored_bytes is None else f" (about {size(self.stored_bytes)} after)"
        files = f" of {self.opens} files" if self.opens else ""
        time = "" if self.seconds is None else f"; about {duration(self.seconds)}"
        return (
            f"{self.verb}: {self.regions} regions to write, {self.skipped} done already; "
            f"reads {size(self.bytes_in)}{files}, writes {size(self.bytes_out)} before compression"
            f"{stored}, {self.requests} requests; {self.tasks} tasks, {self.workers} at once; "
            f"peak {size(self.peak_bytes)} a worker, {size(self.total_peak_bytes)} in all{time}"
        )

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(str(self))}</p>"


def size(count: float) -> str:
    """Bytes for a person, e.g. ``"1.23 MB"``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def duration(seconds: float) -> str:
    """Time for a person, e.g. ``"3 min"``."""
    for unit, length in (("s", 60.0), ("min", 60.0), ("h", 48.0)):
        if seconds < length:
            return f"{seconds:.2g} {unit}" if seconds < 99.5 else f"{seconds:.0f} {unit}"
        seconds /= 60 if unit != "h" else 24
    return f"{seconds:.3g} days"


def requests(layout: LayoutSpec, regions: Iterable[Region], *, remote: bool, reads: int = 0) -> int:
    """Requests to the cube's store that writing regions takes.

    Each object (a shard, or a chunk without shards) is put once. Each region
    then takes two for its tick, which is read before and written after; and in
    an object store two for the lease on it.

    Args:
        layout: Chunks, shards and regions.
        regions: Those to write.
        remote: Whether the cube lies in an object store.
        reads: Objects of the cube to read for each region.
    """
    sides = ((math.ceil(n / layout.unit) for n in region.shape) for region in regions)
    protocol = 4 if remote else 2
    return sum(math.prod(counts) + protocol + reads for counts in sides)


@contextmanager
def measured() -> Iterator[Callable[[], tuple[float, float]]]:
    """A stopwatch: called, it gives seconds on the clock and of all cores together."""
    clock, cpu = time.perf_counter(), time.process_time()
    yield lambda: (time.perf_counter() - clock, time.process_time() - cpu)


WAITING = 4
"""Local threads a core where the cube lies in an object store: most of them wait for it."""


def workers_of(workers: int | None, url: str) -> int:
    """Number of local workers: what was asked for, or the number of cores.

    With a cube in an object store it is :data:`WAITING` times the cores, but no
    more than 16.

    Raises:
        SpecError: It is no positive whole number.
    """
    if workers is None:
        waiting = urls.is_object_store(url)
        return max(cores(), min(16, WAITING * cores())) if waiting else cores()
    if workers < 1:
        raise SpecError(f"workers must be a whole number from 1, or None. Received {workers!r}.")
    return workers


def check_memory(plan: Plan, room: Room, layout: LayoutSpec, peak: Callable[[int], int]) -> None:
    """Refuse a run that would run out of memory.

    Args:
        plan: The run.
        room: What is free.
        layout: Of the cube.
        peak: Memory of one task in bytes, from the side of a region in pixels.

    Raises:
        SpecError: It does not fit; the message says which number to change, to what.
    """
    at_once = min(room.workers, max(1, plan.regions))
    needed = at_once * plan.peak_bytes
    if not plan.regions or room.free_bytes is None or needed <= room.free_bytes:
        return
    remote = room.on != "this machine"
    count = f"{at_once} {'threads a worker' if remote else 'workers'}"
    free = f"{size(room.free_bytes)} are free on {room.on}"
    remedies = list(_remedies(plan.peak_bytes, at_once, room, layout, peak))
    raise SpecError(
        f"{plan.verb} needs {size(needed)} at {count} with region={layout.region} px; {free}: "
        f"use {', or '.join(remedies)}."
    )


def _remedies(
    task_bytes: int, at_once: int, room: Room, layout: LayoutSpec, peak: Callable[[int], int]
) -> Iterator[str]:
    free = room.free_bytes or 0
    fewer = free // max(1, task_bytes)
    if fewer:
        yield f"nthreads={fewer}" if room.on != "this machine" else f"workers={fewer}"
    if side := _smaller(layout, lambda side: at_once * peak(side) <= free):
        yield f"a cube with region={side}"
    elif not fewer and (side := _smaller(layout, lambda side: peak(side) <= free)):
        yield f"workers=1 and a cube with region={side}"
    elif not fewer:
        least = peak(layout.unit)
        yield f"a machine with {size(least)} free, workers=1 and a cube with region={layout.unit}"


def _smaller(layout: LayoutSpec, fits: Callable[[int], bool]) -> int | None:
    """Largest side of a region that fits, of half the present one, half of that and so on."""
    units = layout.region // layout.unit // 2
    while units:
        if fits(units * layout.unit):
            return units * layout.unit
        units //= 2
    return None


def check_disk(plan: Plan, url: str) -> None:
    """Refuse a run that would fill the disk, as far as a sample can tell.

    Raises:
        StoreError: The disk has less room than the run would write.
    """
    if plan.stored_bytes is None or not urls.is_folder(url):
        return
    place = Path(url)
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if plan.stored_bytes > free:
        raise StoreError(
            f"{plan.verb} will write about {size(plan.stored_bytes)} to {url!r}, where "
            f"{size(free)} are free: make room there, or choose another place."
        )
