"""Filling a stack from sources: plan, then run region by region."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from cube import ledger, store
from cube.errors import SourceError, SpecError
from cube.nodata import decoded_dtype
from cube.provenance import check_inputs, record_inputs
from cube.regions import Region, regions
from cube.run import Plan, Report, report, run_tasks
from cube.scenes import Source
from cube.spec import CubeSpec
from cube.template import read_spec
from cube.writing import keys, write_physical

if TYPE_CHECKING:
    from distributed import Client

Sources = Source | Mapping[str, Source]


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestPlan:
    """What :func:`ingest` will do.

    Attributes:
        url: The cube.
        spec: Its spec.
        name: The stack or layer to fill.
        sources: Calendar index (None for static variables) and source.
        todo: Regions to write.
        done: Regions that are ticked already.
    """

    url: str
    spec: CubeSpec
    name: str
    sources: tuple[tuple[int | None, Source], ...]
    todo: tuple[Region, ...]
    done: tuple[Region, ...]

    @property
    def summary(self) -> Plan:
        """Sizes of the run."""
        variable = self.spec.variable(self.name)
        depth = max(1, *variable.inner_shape, 0) if variable.inner_shape else 1
        pixels = sum(r.shape[0] * r.shape[1] for r in self.todo) * depth
        region = self.spec.layout.region**2 * depth
        decoded = decoded_dtype(variable).itemsize
        return Plan(
            verb=f"ingest {self.name}",
            regions=len(self.todo),
            skipped=len(self.done),
            bytes_in=pixels * decoded,
            bytes_out=pixels * variable.storage.itemsize,
            # Warped values, their float64 steps while packing, and the packed copy.
            peak_bytes=region * (decoded + 2 * 8 + 2 * variable.storage.itemsize),
        )

    def __str__(self) -> str:
        return str(self.summary)

    def _repr_html_(self) -> str:
        return self.summary._repr_html_()


def plan_ingest(url: str | os.PathLike[str], name: str, sources: Sources) -> IngestPlan:
    """Say what filling a variable will take; reads no pixels and writes nothing.

    Args:
        url: The cube.
        name: A stack or layer.
        sources: For a variable with time, a mapping from period label to
            source; for a static one, the source itself.

    Raises:
        SpecError: Variable, period or band names do not fit.
        SourceError: A source cannot fill this grid, or the variable was
            already begun from other sources.
    """
    url = store.normalise(url)
    spec = read_spec(url)
    placed = _placed(spec, name, sources)
    for time, source in placed:
        _check_bands(spec, name, source)
        source.check(spec.grid)
        check_inputs(url, spec, name, time, source.describe())
    wanted = [region for time, _ in placed for region in regions(spec, name, time=time)]
    todo, done = ledger.pending(url, spec, name, wanted)
    return IngestPlan(
        url=url, spec=spec, name=name, sources=placed, todo=tuple(todo), done=tuple(done)
    )


def ingest(
    url: str | os.PathLike[str],
    name: str,
    sources: Sources,
    *,
    client: Client | None = None,
    workers: int | None = None,
) -> Report:
    """Fill a variable from sources; run it again to do only what is missing.

    Args:
        url: The cube.
        name: A stack or layer.
        sources: See :func:`plan_ingest`.
        client: A Dask client; None runs on local threads.
        workers: Local threads; by default the number of cores.

    Returns:
        What was done and what was skipped.

    Raises:
        IncompleteError: A region failed; the others are written.
        StoreError: The store refused, as with a full disk.
    """
    plan = plan_ingest(url, name, sources)
    for time, source in plan.sources:
        record_inputs(plan.url, plan.spec, name, time, source.describe())
    store.sweep_partial(
        plan.url, (k for r in plan.todo for k in keys(plan.url, plan.spec, name, r))
    )
    fill = partial(_fill_region, url=plan.url, spec=plan.spec, name=name)
    by_time = dict(plan.sources)
    tasks = [IngestTask(region=region, source=by_time[region.time]) for region in plan.todo]
    results = run_tasks(
        fill, tasks, verb=f"ingest {name}", url=plan.url, client=client, workers=workers
    )
    return report(f"ingest {name}", results, done_before=plan.done)


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestTask:
    """One region and what fills it."""

    region: Region
    source: Source

    def __str__(self) -> str:
        return str(self.region)


def _fill_region(task: IngestTask, *, url: str, spec: CubeSpec, name: str) -> None:
    variable = spec.variable(name)
    values = task.source.read(spec.grid, task.region.rows, task.region.cols)
    if not variable.inner_dims:
        values = values[0]
    write_physical(url, name, task.region, values, spec=spec)


def _placed(spec: CubeSpec, name: str, sources: Sources) -> tuple[tuple[int | None, Source], ...]:
    static = spec.variable(name).static
    if isinstance(sources, Mapping):
        if static:
            raise SpecError(f"{name!r} has no time dimension; give one source, not a mapping.")
        return tuple((spec.time_index(label), source) for label, source in sources.items())
    if not static:
        labels = ", ".join(period.label for period in spec.calendar)
        raise SpecError(
            f"{name!r} varies with time; give a mapping from period label ({labels}) to source."
        )
    return ((None, sources),)


def _check_bands(spec: CubeSpec, name: str, source: Source) -> None:
    variable: Any = spec.variable(name)
    wanted = getattr(variable, "bands", None)
    if wanted is None and len(source.bands) != 1:
        raise SourceError(
            f"Layer {name!r} takes a source of one band. It gives {', '.join(source.bands)}."
        )
    if wanted is not None and tuple(source.bands) != tuple(wanted):
        raise SourceError(
            f"Stack {name!r} holds the bands {', '.join(wanted)}, in this order. "
            f"The source gives {', '.join(source.bands)}."
        )
