"""Filling a variable region by region: what ingest, labels, folds and predictions share.

First :func:`prepare` says what is to be done, and refuses what must not be;
then :func:`fill` does it.
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cube import ledger, nodata, provenance, report, store, urls
from cube.arrays import data_plan
from cube.errors import CubeError, Interrupted, PartialError, SpecError
from cube.memory import Room, local, of_cluster
from cube.plan import Plan, Sample, check_disk, check_memory, measured, requests, workers_of
from cube.provenance import Inputs
from cube.regions import Region, check_region, regions
from cube.report import Outcome, Report, Status
from cube.retrying import Retry
from cube.run import Ended, ends, open_pool
from cube.spec import CubeSpec, LayerSpec, StackSpec
from cube.threads import cores, one_thread, one_thread_each
from cube.writing import write_region

if TYPE_CHECKING:
    from distributed import Client

Values = Callable[[Region], npt.NDArray[np.floating[Any]]]
"""Physical values of a region, NaN for nodata: (band, y, x) for a stack, (y, x) for a layer."""

_log = logging.getLogger("quadrat.run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """A variable to fill.

    Attributes:
        verb: For a person, e.g. ``"ingest predictors"``.
        url: The cube.
        spec: Its spec.
        name: A stack or layer.
        inputs: What each time is made from.
        todo: Regions to write, by time and then by place.
        done: Regions that are ticked already.
        overwrite: Whether ticked regions are written again on purpose.
        replacing: Whether all regions of these times are.
    """

    verb: str
    url: str
    spec: CubeSpec
    name: str
    inputs: Inputs
    todo: tuple[Region, ...]
    done: tuple[Region, ...]
    overwrite: bool = False
    replacing: bool = False

    @property
    def variable(self) -> StackSpec | LayerSpec:
        """Spec of the variable."""
        return self.spec.variable(self.name)

    @property
    def depth(self) -> int:
        """Bands of the variable; 1 for a layer."""
        return math.prod(self.variable.inner_shape)

    def count(self, regions: Iterable[Region]) -> int:
        """Values in these regions."""
        return self.depth * sum(r.shape[0] * r.shape[1] for r in regions)


@dataclass(frozen=True, slots=True, kw_only=True)
class FillingPlan:
    """A filling and what it will take, before it begins.

    Attributes:
        filling: What is to be done.
        summary: Sizes of the run.
    """

    filling: Filling
    summary: Plan

    @property
    def todo(self) -> tuple[Region, ...]:
        """Regions to write."""
        return self.filling.todo

    @property
    def done(self) -> tuple[Region, ...]:
        """Regions that are ticked already."""
        return self.filling.done

    def __str__(self) -> str:
        return str(self.summary)

    def _repr_html_(self) -> str:
        return self.summary._repr_html_()


def prepare(  # noqa: PLR0913  (one place for what four verbs need)
    verb: str,
    url: str,
    spec: CubeSpec,
    name: str,
    inputs: Inputs,
    *,
    only: Iterable[Region] | None = None,
    overwrite: bool = False,
    new: bool = False,
) -> Filling:
    """Say which regions are to be written; reads no pixels and writes nothing.

    Args:
        verb: For a person.
        url: The cube.
        spec: Its spec.
        name: A stack or layer.
        inputs: What each time is to be made from.
        only: Regions to look at; None for all of these times.
        overwrite: Write ticked regions again. Other inputs than those recorded
            are then allowed if ``only`` is None.
        new: The cube does not have the variable yet, so nothing of it is written.

    Raises:
        RegionError: One of ``only`` is no region of the cube.
        SpecError: One of ``only`` is at a time without inputs.
        SourceError: The variable was begun from other inputs.
    """
    url = urls.normalise(url)
    every = sorted(region for time in inputs for region in regions(spec, name, time=time))
    wanted = every if only is None else _checked(spec, name, inputs, only)
    replacing = overwrite and len(wanted) == len(every)
    if not new:
        provenance.check_inputs(url, spec, name, inputs, replacing=replacing)
    todo, done = wanted, list[Region]()
    if not (new or overwrite):
        todo, done = ledger.pending(url, spec, name, wanted)
    return Filling(
        verb=verb,
        url=url,
        spec=spec,
        name=name,
        inputs=inputs,
        todo=tuple(todo),
        done=tuple(done),
        overwrite=overwrite,
        replacing=replacing,
    )


def _checked(spec: CubeSpec, name: str, inputs: Inputs, only: Iterable[Region]) -> list[Region]:
    wanted = sorted(set(only))
    for region in wanted:
        check_region(spec, name, region)
        if region.time not in inputs:
            raise SpecError(f"There is no source for {name!r} at {region}; give one.")
    return wanted


def plan(  # noqa: PLR0913  (what is to be done, what it takes, and who does it)
    filling: Filling,
    *,
    bytes_in: int,
    peak: Callable[[int], int],
    opens: int = 0,
    workers: int | None = None,
    client: Client | None = None,
    reads: int = 0,
    values: Values | None = None,
) -> Plan:
    """Say what a filling will take, and refuse what cannot fit.

    Args:
        filling: See :func:`prepare`.
        bytes_in: Decoded bytes to read.
        peak: Memory of one task in bytes, from the side of a region in pixels.
        opens: Files to open.
        workers: Local threads.
        client: A Dask client; None runs on local threads.
        reads: Objects of the cube to read for each region.
        values: Makes the values of one region, in memory, to estimate time and
            bytes; None does not.

    Raises:
        SpecError: The memory that is free does not suffice.
        StoreError: The disk has less room than a sample lets expect.
    """
    layout = filling.spec.layout
    room = local(workers_of(workers, filling.url)) if client is None else of_cluster(client)
    if workers is None and client is None:
        # Threads that only wait for a store are not worth a refusal.
        room = replace(room, workers=_that_fit(room, peak(layout.region)))
    at_once = room.workers if client is None else sum(client.nthreads().values())
    remote = urls.is_object_store(filling.url)
    found = Plan(
        verb=filling.verb,
        regions=len(filling.todo),
        skipped=len(filling.done),
        bytes_in=bytes_in,
        bytes_out=filling.count(filling.todo) * filling.variable.storage.itemsize,
        peak_bytes=peak(layout.region),
        opens=opens,
        requests=requests(layout, filling.todo, remote=remote, reads=reads),
        workers=max(1, at_once),
        cores=cores() if client is None else max(1, at_once),
    )
    check_memory(found, room, layout, peak)
    if values is not None and filling.todo:
        found = replace(found, sample=_sample(filling, values))
        check_disk(found, filling.url)
    return found


def _that_fit(room: Room, task_bytes: int) -> int:
    """Workers for which there is memory, but one for each core at least."""
    if room.free_bytes is None:
        return room.workers
    return max(min(cores(), room.workers), min(room.workers, room.free_bytes // max(1, task_bytes)))


def _sample(filling: Filling, values: Values) -> Sample:
    """Do the region in the middle in memory: make its values, pack and compress them."""
    region = filling.todo[len(filling.todo) // 2]
    height, width = (min(n, 16) for n in region.shape)
    with one_thread_each(), one_thread():
        # What is loaded and compiled once does not count.
        values(replace(region, rows=_first(region.rows, height), cols=_first(region.cols, width)))
        with measured() as elapsed:
            stored = nodata.encode(values(region), filling.variable)
            compressed = _compressed(filling, region, stored)
            seconds, cpu_seconds = elapsed()
    return Sample(
        bytes_out=stored.nbytes,
        stored_bytes=compressed,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
    )


def _first(span: tuple[int, int], length: int) -> tuple[int, int]:
    return span[0], span[0] + length


def _compressed(filling: Filling, region: Region, stored: npt.NDArray[Any]) -> int:
    """Bytes of a region's chunks after compression."""
    array = data_plan(filling.spec, filling.variable)
    lead = () if region.time is None else (1,)
    shape = (*lead, *filling.variable.inner_shape, *region.shape)
    _, chunks = store.rendered(replace(array, shape=shape), stored.reshape(shape))
    return sum(map(len, chunks.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Write:
    """Fills one region; what travels to workers."""

    url: str
    spec: CubeSpec
    name: str
    values: Values
    overwrite: bool

    def __call__(self, region: Region) -> int:
        # The physical values are let go before the packed ones are written.
        stored = nodata.encode(self.values(region), self.spec.variable(self.name))
        write_region(self.url, self.name, region, stored, spec=self.spec, overwrite=self.overwrite)
        return stored.nbytes


def fill(
    filling: Filling,
    values: Values,
    *,
    client: Client | None = None,
    workers: int | None = None,
    retry: Retry | None = None,
    bound: bool = True,
) -> Report:
    """Write the regions of a filling, each whole or not at all, and keep a report of it.

    Args:
        filling: See :func:`prepare`.
        values: Makes the values of a region; must pickle for a client.
        client: A Dask client; None runs on local threads.
        workers: Local threads.
        retry: How often to try again what may pass.
        bound: See :func:`cube.run.open_pool`.

    Raises:
        IncompleteError: A region failed or lost an input; the others are written.
        StoreError: The store refused, as with a full disk; the others are not begun.
        ClusterError: The Dask cluster is gone.
        Interrupted: Somebody pressed Ctrl-C; a ``KeyboardInterrupt`` with a message.
    """
    write = _Write(
        url=filling.url,
        spec=filling.spec,
        name=filling.name,
        values=values,
        overwrite=filling.overwrite,
    )
    run = _Run(filling)
    if not filling.todo:
        run.finish_for_others()
        return run.end()
    pool = open_pool(
        write, url=filling.url, client=client, workers=workers, retry=retry, bound=bound
    )
    run.sign_in()
    try:
        with closing(ends(pool, filling.todo, verb=filling.verb)) as results:
            for region, end in results:
                run.note(region, end)
    except KeyboardInterrupt as error:
        found = run.end("Interrupted.", at_large=pool.at_large)
        raise Interrupted(
            f"interrupted: {found.verb}, {found.written} of {found.regions} regions written; "
            f"run it again to go on",
            found,
        ) from error
    except BaseException as error:
        run.end(_line(error), at_large=pool.at_large)
        raise
    return run.end().check()


class _Run:
    """A filling that is going on: who works on it since when, and what has ended."""

    def __init__(self, filling: Filling) -> None:
        self.filling = filling
        self.name = uuid.uuid4().hex[:8]
        self.signed_in = False
        self.started, self.began = report.now(), time.monotonic()
        self.outcomes = [Outcome(task=str(region), status="skipped") for region in filling.done]

    def sign_in(self) -> None:
        """Record what the regions are made from, before any is written."""
        f = self.filling
        provenance.record_inputs(
            f.url, f.spec, f.name, f.inputs, run=self.name, replacing=f.replacing
        )
        self.signed_in = True

    def finish_for_others(self) -> None:
        """Sign out for runs that were killed after their last region."""
        f = self.filling
        self.signed_in = provenance.at_work(f.url, f.name)

    def note(self, region: Region, end: Ended) -> None:
        """Note how a region ended."""
        self.outcomes.append(_outcome(region, end))

    def end(self, stopped: str = "", *, at_large: bool = False) -> Report:
        """Sign out, keep a report, and return it.

        Args:
            stopped: Why it ends early; empty if it went through.
            at_large: Regions may still be written somewhere, so it stays signed in.
        """
        found = Report(
            verb=self.filling.verb,
            outcomes=tuple(self.outcomes),
            left=len(self.filling.done) + len(self.filling.todo) - len(self.outcomes),
            stopped=stopped,
            started=self.started,
            seconds=time.monotonic() - self.began,
        )
        if self.signed_in and not at_large:
            self._sign_out()
        report.save(found, self.filling.url)
        return found

    def _sign_out(self) -> None:
        f = self.filling
        try:
            written = ledger.entries(f.url, f.spec, [f.name])[f.name].written
            whole = [t for t in f.inputs if (written if t is None else written[t]).all()]
            provenance.sign_out(f.url, f.spec, f.name, f.inputs, run=self.name, whole=whole)
        except CubeError as error:
            # Signed in for ever is as if it had been killed: no inputs are mixed.
            _log.warning("The end of %s could not be recorded: %s", f.verb, error)


def _outcome(region: Region, end: Ended) -> Outcome:
    status: Status = "failed" if end.failed else "done"
    if isinstance(end.value, PartialError):
        status = "partial"
    return Outcome(
        task=str(region),
        status=status,
        reason=str(end.value) if end.failed else "",
        tries=end.tries,
        seconds=end.seconds,
        bytes_out=0 if end.failed else int(end.value),
        lost=end.value.scenes if isinstance(end.value, PartialError) else {},
    )


def _line(error: BaseException) -> str:
    """An error as one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, CubeError) else f"{type(error).__name__}: {text}"
