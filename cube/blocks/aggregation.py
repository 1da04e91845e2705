"""An aggregation of layers to polygons: what was asked for, checked before anything is read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cube import ledger
from cube.blocks import panels
from cube.blocks.estimates import Options, Summed, columns
from cube.blocks.panels import Column
from cube.blocks.quantiles import PENDING_BYTES, digits_of
from cube.blocks.readings import Job, Reading, Stored, Task, tasks
from cube.blocks.statistics import Quantile, Statistic, check_fits, parsed
from cube.blocks.summing import Runner, summed
from cube.blocks.tallies import Wanted
from cube.coverage.handle import Coverage
from cube.errors import SpecError, StoreError
from cube.spec import CubeSpec, LayerSpec
from cube.template import read_spec

if TYPE_CHECKING:
    import xarray as xr

SUMS_BYTES = 512_000_000
"""Of sums that are held at once: periods and layers that take more are read one after the other."""

Statistics = str | Quantile | Sequence[str | Quantile]

Names = str | Sequence[str] | Mapping[str, Statistics]
"""Layers or stacks, or a mapping from each to statistics of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a user gave; see :func:`cube.aggregate`."""

    names: Names
    times: str | Sequence[str] | None = None
    statistics: Statistics = ("sum", "mean")
    weights: str | None = None
    errors: str | Mapping[str, str] | None = None
    correlation_px: float = 0.0
    transform: Any = None
    conserve: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregation:
    """What is to be done, checked.

    Attributes:
        job: What is done of every task.
        spec: The cube.
        names: Layers and stacks, in the order asked for.
        times: Indices of the periods asked for.
        options: How, by name.
    """

    job: Job
    spec: CubeSpec
    names: tuple[str, ...]
    times: tuple[int, ...]
    options: Mapping[str, Options]

    @classmethod
    def of(cls, coverage: Coverage, request: Request) -> Self:
        """Check a request against the cube.

        Raises:
            SpecError: Names, periods, statistics or options do not exist or fit together.
        """
        spec = read_spec(coverage.url)
        names = _listed(request.names, "names")
        errors = _errors(request.errors, names)
        options = _options(spec, names, request, errors)
        for name in names:
            check_fits(options[name].statistics, spec.variable(name))
            own = dict(options[name].errors).get(name)
            _check_beside(spec, name, (options[name].weights, own))
            _check_bands(spec, name, own)
        times = _times(spec, names, request.times)
        readings = tuple(_readings(spec, names, times, options))
        source = Stored(
            url=coverage.url, spec=spec, weights=request.weights, transform=request.transform
        )
        job = Job(coverage=coverage, source=source, readings=readings, conserve=request.conserve)
        return cls(job=job, spec=spec, names=names, times=times, options=options)

    @property
    def verb(self) -> str:
        """For a person."""
        return f"aggregate {', '.join(self.names)}"

    @property
    def tasks(self) -> list[Task]:
        """All boxes, row-major."""
        return tasks(self.job.coverage, self.spec.layout.chunk)

    @property
    def passes(self) -> int:
        """How often pixels are read: more than once for quantiles."""
        digits = [digits_of(self.job.source.dtype(r)) for r in self.job.readings if r.wanted.levels]
        return max(digits, default=1)

    def check_written(self) -> None:
        """Refuse periods that are not whole: what was never written is neither 0 nor nodata.

        Raises:
            StoreError: The message names the first, and how many regions it lacks.
        """
        used = {(name, r.time) for r in self.job.readings for name in self._read_of(r)}
        known = ledger.entries(self.job.coverage.url, self.spec, sorted({n for n, _ in used}))
        for name, time in sorted(used, key=lambda one: (one[0], one[1] or 0)):
            static = self.spec.variable(name).static
            written = known[name].written if static else known[name].written[time]
            if not written.all():
                label = "" if static or time is None else f" ({self.spec.calendar[time].label})"
                raise StoreError(
                    f"{name!r}{label} is to be whole; {int((~written).sum())} of {written.size} "
                    f"regions were never written. Write them first, leave the period out with "
                    f"times=, or give missing='nodata'."
                )

    def _read_of(self, reading: Reading) -> list[str]:
        """Variables that a reading reads."""
        beside = (self.options[reading.name].weights, reading.errors)
        return [reading.name, *(name for name in beside if name is not None)]

    def bytes_in(self) -> int:
        """Decoded bytes to read."""
        pixels = math.prod(map(int, self.spec.grid.shape))
        return self.passes * pixels * sum(self._stored(r) for r in self.job.readings)

    def peak_bytes(self) -> int:
        """Memory of one task: rasters of a box, and what one tile's polygons take."""
        box = max(math.prod(task.box.shape) for task in self.tasks)
        values = max(
            self._stored(r) + r.bands * (9 + self.job.source.dtype(r).itemsize)
            for r in self.job.readings
        )
        return box * values + max(math.prod(t.shape) for t in self.job.coverage.tiles()) * 64

    def _stored(self, reading: Reading) -> int:
        """Bytes of a pixel in the store."""
        variables = [self.spec.variable(name) for name in self._read_of(reading)]
        return sum(v.storage.itemsize * math.prod(v.inner_shape) for v in variables)

    def panel(self, run: Runner) -> xr.Dataset:
        """Do it.

        Args:
            run: Who does the tasks.

        Raises:
            CubeError: What a task raised.
        """
        coverage = self.job.coverage
        attrs = panels.origin(coverage, self._described(), self.spec, self._all_names())
        varies = not all(self.spec.variable(name).static for name in self.names)
        periods = [self.spec.calendar[time] for time in self.times] if varies else []
        return panels.panel(coverage, self._columns(run), attrs, periods)

    def _described(self) -> dict[str, Any]:
        """Options as JSON; statistics by name, where each has its own."""
        each = {name: options.describe() for name, options in self.options.items()}
        first, *others = each.values()
        if all(other == first for other in others):
            return first
        return {**first, "statistics": {name: one["statistics"] for name, one in each.items()}}

    def _all_names(self) -> list[str]:
        return sorted({name for reading in self.job.readings for name in self._read_of(reading)})

    def _columns(self, run: Runner) -> Iterator[Column]:
        for name, found in groupby(self._summed(run), key=lambda one: one.variable.name):
            each = (columns(one, self.options[name]) for one in found)
            static = self.spec.variable(name).static
            yield from next(each) if static else _over_time(each, len(self.times))

    def _summed(self, run: Runner) -> Iterator[Summed]:
        """Sums of every reading, in their order; never many at once."""
        for readings in self.batches():
            size, totals = summed(replace(self.job, readings=readings), self.tasks, run)
            for reading in readings:
                variable = self.spec.variable(reading.name)
                yield Summed(variable=variable, totals=totals.pop(0), size=size)

    def batches(self) -> list[tuple[Reading, ...]]:
        """Readings in their order, as many together as :data:`SUMS_BYTES` hold.

        Those with quantiles, which take several passes, are apart from those without.
        """
        out: list[tuple[Reading, ...]] = []
        left = 0
        for reading in self.job.readings:
            needed = self._sums_bytes(reading)
            alike = out and bool(out[-1][0].wanted.levels) == bool(reading.wanted.levels)
            if needed > left or not alike:
                out, left = [*out, ()], SUMS_BYTES
            out[-1] += (reading,)
            left -= needed
        return out

    def _sums_bytes(self, reading: Reading) -> int:
        """Of the sums of all polygons, and of the histograms of quantiles."""
        wanted = reading.wanted
        rows = wanted.classes or 2 * wanted.rows + 3 * len(wanted.levels)
        waiting = PENDING_BYTES * max(1, len(wanted.levels)) if wanted.levels else 0
        return reading.bands * (rows * 8 * self.job.coverage.polygons + waiting)


def _over_time(each: Iterable[Iterable[Column]], times: int) -> list[Column]:
    """Columns (polygon, time), from those of one time after the other."""
    out: list[Column] = []
    for time, of_time in enumerate(each):
        for i, column in enumerate(of_time):
            if time == 0:
                whole = np.empty((len(column.values), times), column.values.dtype)
                out.append(replace(column, values=whole))
            out[i].values[:, time] = column.values
    return out


def _listed(names: str | Iterable[str], what: str) -> tuple[str, ...]:
    if not isinstance(names, Iterable):
        raise SpecError(f"{what} must be text, or a list of it. Received {names!r}.")
    found = (names,) if isinstance(names, str) else tuple(dict.fromkeys(map(str, names)))
    if not found:
        raise SpecError(f"{what} must hold at least one. Received none.")
    return found


def _options(
    spec: CubeSpec, names: tuple[str, ...], request: Request, errors: Mapping[str, str]
) -> dict[str, Options]:
    """How, by name."""
    each = request.names if isinstance(request.names, Mapping) else {}
    statistics = {name: parsed(each.get(name, request.statistics)) for name in names}
    whole = Options(
        statistics=tuple(dict.fromkeys(one for own in statistics.values() for one in own)),
        weights=request.weights,
        weight_units="1" if request.weights is None else spec.layer(request.weights).units,
        errors=tuple(sorted(errors.items())),
        correlation_px=request.correlation_px,
        transform=request.transform,
        conserve=request.conserve,
    )
    return {name: _own(whole, own) for name, own in statistics.items()}


def _own(whole: Options, statistics: tuple[Statistic, ...]) -> Options:
    """Options for some of the statistics, without those that only others need."""
    families = {statistic.family for statistic in statistics}
    erring = "error" in families
    return replace(
        whole,
        statistics=statistics,
        weights=whole.weights if "weighted" in families else None,
        errors=whole.errors if erring else (),
        correlation_px=whole.correlation_px if erring else 0.0,
    )


def _errors(errors: str | Mapping[str, str] | None, names: tuple[str, ...]) -> dict[str, str]:
    if errors is None:
        return {}
    if isinstance(errors, str):
        if len(names) > 1:
            raise SpecError(
                f"With several names, errors= is a mapping such as {{{names[0]!r}: {errors!r}}}. "
                f"Received {errors!r} for {', '.join(names)}."
            )
        return {names[0]: errors}
    if set(errors) != set(names):
        raise SpecError(
            f"errors= must map each of {', '.join(names)} to a variable. It maps "
            f"{', '.join(sorted(errors)) or 'none'}."
        )
    return dict(errors)


def _check_beside(spec: CubeSpec, name: str, others: Sequence[str | None]) -> None:
    """Refuse to read something of a period beside what has none; and classes as numbers."""
    for other in others:
        if other is None:
            continue
        beside = spec.variable(other)
        if spec.variable(name).static and not beside.static:
            raise SpecError(
                f"{name!r} has no time, so what goes with it must have none. {other!r} varies "
                f"with time."
            )
        if isinstance(beside, LayerSpec) and beside.classes:
            raise SpecError(f"Weights and errors are amounts; {other!r} holds classes.")


def _check_bands(spec: CubeSpec, name: str, errors: str | None) -> None:
    if errors is None:
        return
    ours, theirs = spec.variable(name).inner_shape, spec.variable(errors).inner_shape
    if ours != theirs:
        raise SpecError(
            f"Errors must have the bands of what they are of: {name!r} has {math.prod(ours)}, "
            f"{errors!r} has {math.prod(theirs)}."
        )


def _times(
    spec: CubeSpec, names: tuple[str, ...], times: str | Sequence[str] | None
) -> tuple[int, ...]:
    if times is None:
        return tuple(range(len(spec.calendar)))
    if all(spec.variable(name).static for name in names):
        raise SpecError(f"{names[0]!r} has no time dimension; leave out times={times!r}.")
    # In the order of time, as the calendar is.
    return tuple(sorted({spec.time_index(label) for label in _listed(times, "times")}))


def _readings(
    spec: CubeSpec,
    names: tuple[str, ...],
    times: tuple[int, ...],
    options: Mapping[str, Options],
) -> Iterator[Reading]:
    for name in names:
        errors = dict(options[name].errors)
        variable = spec.variable(name)
        classes = len(variable.classes) if isinstance(variable, LayerSpec) else 0
        wanted = Wanted.of(options[name].statistics, errors=name in errors, classes=classes)
        for time in (None,) if variable.static else times:
            yield Reading(
                name=name,
                time=time,
                bands=math.prod(variable.inner_shape),
                wanted=wanted,
                errors=errors.get(name),
            )
