"""Filling the chip index: one pass over the cube, box by box."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from cube import ledger, urls
from cube.errors import CubeError, SpecError
from cube.regions import Region, tiles
from cube.run import run_tasks
from cube.spec import CubeSpec, crs_text, grid_to_dict
from cube.template import read_spec
from cube.windows import WindowSet, window_boxes
from training.index import summing
from training.index.boxes import BoxValues, Needed
from training.index.chip_index import ALWAYS, ChipIndex
from training.index.measures import Columns, Inputs, Labels, Measure, Sums
from training.index.predicates import Asked, Predicate, WindowValues
from training.index.summing import TileWindows
from training.samples import SampleSpec

if TYPE_CHECKING:
    from distributed import Client

BOX = 1024
"""Side of what a task reads at once, in pixels, where chunks and tiles allow it."""

Found = list[tuple[npt.NDArray[np.int64], Sums]]
"""Of each tile of a task: its windows, and the sums of all rasters in them, (raster, window)."""


def index_chips(
    url: str | os.PathLike[str],
    sample: SampleSpec,
    windows: WindowSet,
    *,
    predicates: Iterable[Predicate] = (),
    client: Client | None = None,
    workers: int | None = None,
) -> ChipIndex:
    """Say of every chip what it holds, so that one can choose without reading chips.

    The cube is read once. The result is the same to the bit for any layout of the cube, client
    and number of workers.

    Args:
        url: The cube.
        sample: Inputs, label and timings.
        windows: Which windows.
        predicates: What else to say, see :mod:`training.index.predicates`.
        client: A Dask client; None runs on local threads.
        workers: Local threads.

    Returns:
        One row a chip, in the grid's CRS: ``chip`` and ``window`` (ids), ``row`` and ``col`` of the
        first pixel, ``inputs`` and ``label`` (periods, joined by ``+``), ``valid_share`` of pixels
        at which all inputs were observed at all periods; for a sample with a label layer
        ``label_share`` of pixels labelled at all periods, and of these ``label_mean`` of the
        layer's own values, or for classes a share each and the ``majority``; a column for each
        predicate; and the window's outline. NaN stands where there is nothing to say.

    Raises:
        SpecError: The cube lacks what the sample or a predicate needs; windows are of another
            grid; two columns have one name.
        StoreError: A chunk cannot be read.
    """
    place = urls.normalise(url)
    spec = read_spec(place)
    asked = tuple(predicates)
    _check(spec, sample, windows, asked)
    labels = Labels.of(sample, spec)
    measures: list[Measure] = [Inputs.of(sample, spec), *([labels] if labels else [])]
    measures += [Asked(predicate=p) for p in asked if p.of_pixels]
    job = Job(url=place, spec=spec, windows=windows, measures=tuple(measures))
    sums = _summed(job, client=client, workers=workers)
    parts = iter(np.split(sums, np.cumsum([m.count for m in measures])[:-1]))
    columns = _sample_columns(sample, spec, windows, parts)
    columns |= _asked_columns(spec, sample, windows, asked, parts)
    facts = _facts(place, spec, sample, windows, job.needs)
    return ChipIndex(frame=_frame(spec, windows, len(sample.timings), columns), facts=facts)


def _check(
    spec: CubeSpec, sample: SampleSpec, windows: WindowSet, predicates: Sequence[Predicate]
) -> None:
    sample.check(spec)
    if tuple(windows.shape) != tuple(spec.grid.shape):
        raise SpecError(
            f"The windows are of {windows.shape[0]} x {windows.shape[1]} pixels, the cube has "
            f"{spec.grid.shape[0]} x {spec.grid.shape[1]}. Give the windows of its grid."
        )
    for predicate in predicates:
        if not isinstance(predicate, Predicate):
            raise SpecError(
                f"predicates= takes a list of predicates, such as LayerMean(layer='urban'). "
                f"Received {predicate!r} in it."
            )
        predicate.check(spec)
    labels = Labels.of(sample, spec)
    names = [*ALWAYS, *(labels.names if labels else ()), *(p.name for p in predicates)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SpecError(
            f"Columns of the index must have names of their own. Received twice: "
            f"{', '.join(twice)}; give the predicate name=."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A box that is read at once, and its tiles, row-major."""

    box: Region
    tiles: tuple[Region, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is done of every box; it pickles.

    Attributes:
        url: The cube.
        spec: Its spec.
        windows: In which rasters are summed.
        measures: Which rasters.
    """

    url: str
    spec: CubeSpec
    windows: WindowSet
    measures: tuple[Measure, ...]

    @property
    def needs(self) -> Counter[Needed]:
        """What is read, and how often it is asked for."""
        return Counter(need for measure in self.measures for need in measure.needs)

    @property
    def count(self) -> int:
        """Number of rasters."""
        return sum(measure.count for measure in self.measures)

    def tasks(self) -> list[Task]:
        """Boxes of whole tiles, and of whole chunks as far as that is possible."""
        height, width = self.windows.shape
        side = _side(summing.TILE, self.spec.layout.chunk)
        boxes: dict[tuple[int, int], list[Region]] = {}
        for tile in tiles((height, width), summing.TILE):
            boxes.setdefault((tile.rows[0] // side, tile.cols[0] // side), []).append(tile)
        return [Task(box=_around(inside), tiles=tuple(inside)) for inside in boxes.values()]

    def __call__(self, task: Task) -> Found:
        """Sums of a box; without a window in it nothing is read."""
        met = [TileWindows.at(self.windows, tile) for tile in task.tiles]
        sums: list[list[npt.NDArray[np.float64]]] = [[] for _ in met]
        for raster in self._rasters(task.box) if any(met) else ():
            for part, found in zip(met, sums, strict=True):
                if part is not None:
                    found.append(part.sums(raster[_within(part.tile, task.box)]))
        nothing = np.zeros(0, "int64"), np.zeros((self.count, 0))
        return [
            nothing if part is None else (part.ids, np.stack(found))
            for part, found in zip(met, sums, strict=True)
        ]

    def _rasters(self, box: Region) -> Iterator[npt.NDArray[Any]]:
        shared = frozenset(need for need, times in self.needs.items() if times > 1)
        values = BoxValues(url=self.url, spec=self.spec, box=box, shared=shared)
        for measure in self.measures:
            yield from measure.rasters(values)


def _side(tile: int, chunk: int) -> int:
    """Side of a box: whole chunks and tiles; tiles alone where that would be too large."""
    both = math.lcm(tile, chunk)
    least = both if both <= 2 * max(BOX, tile) else tile
    return least * max(1, BOX // least)


def _around(inside: Sequence[Region]) -> Region:
    return Region(
        time=None,
        rows=(inside[0].rows[0], inside[-1].rows[1]),
        cols=(inside[0].cols[0], inside[-1].cols[1]),
    )


def _within(tile: Region, box: Region) -> tuple[slice, slice]:
    y, x = box.rows[0], box.cols[0]
    return slice(tile.rows[0] - y, tile.rows[1] - y), slice(tile.cols[0] - x, tile.cols[1] - x)


def _summed(job: Job, *, client: Client | None, workers: int | None) -> Sums:
    """Sums of all rasters in all windows, float64 (raster, window)."""
    total = np.zeros((job.count, len(job.windows)))
    ended = run_tasks(
        job, job.tasks(), verb="index chips", url=job.url, client=client, workers=workers
    )
    for ids, sums in _in_order(list(tiles(job.windows.shape, summing.TILE)), ended):
        total[:, ids] += sums
    return total


def _in_order(
    order: Sequence[Region], ended: Iterable[tuple[Task, Found | CubeError]]
) -> Iterator[tuple[npt.NDArray[np.int64], Sums]]:
    """Results of tiles in the order given, as soon as their turn comes."""
    waiting: dict[Region, tuple[npt.NDArray[np.int64], Sums]] = {}
    turn = 0
    for task, found in ended:
        if isinstance(found, CubeError):
            raise found
        waiting |= dict(zip(task.tiles, found, strict=True))
        while turn < len(order) and order[turn] in waiting:
            yield waiting.pop(order[turn])
            turn += 1


def _sample_columns(
    sample: SampleSpec, spec: CubeSpec, windows: WindowSet, parts: Iterator[Sums]
) -> Columns:
    """Columns of inputs and label, by chip."""
    pixels = windows.size**2
    out: Columns = {}
    for name in ("inputs", "label"):
        joined = ["+".join(getattr(timing, name)) for timing in sample.timings]
        out[name] = np.tile(np.array(joined, dtype=object), len(windows))
    valid = Inputs.of(sample, spec).columns(next(parts), pixels)
    out |= _by_chip([valid[timing.inputs] for timing in sample.timings])
    labels = Labels.of(sample, spec)
    if labels is not None:
        known = labels.columns(next(parts), pixels)
        out |= _by_chip([known[timing.label] for timing in sample.timings])
    return out


def _by_chip(timings: Sequence[Columns]) -> Columns:
    """Columns by window of each timing as columns by chip: all timings of a window together."""
    out: Columns = {}
    for name in timings[0]:
        every = pd.concat([pd.Series(columns[name]) for columns in timings], ignore_index=True)
        order = np.arange(len(every)).reshape(len(timings), -1).T.ravel()
        out[name] = every.take(order).array
    return out


def _asked_columns(
    spec: CubeSpec,
    sample: SampleSpec,
    windows: WindowSet,
    predicates: Sequence[Predicate],
    parts: Iterator[Sums],
) -> Columns:
    """Columns of predicates, by chip."""
    origins = windows.origins() if predicates else np.zeros((0, 2), "int64")
    nothing = np.zeros((2, len(origins)))
    out: Columns = {}
    for predicate in predicates:
        known, total = next(parts) if predicate.of_pixels else nothing
        found = WindowValues(
            grid=spec.grid, origins=origins, size=windows.size, known=known, total=total
        )
        values = pd.Series(predicate.by_window(found))
        if len(values) != len(windows):
            raise SpecError(
                f"Predicate {predicate.name!r} must give a value for each of {len(windows)} "
                f"windows. Received {len(values)}."
            )
        out[predicate.name] = values.repeat(len(sample.timings)).array
    return out


def _frame(spec: CubeSpec, windows: WindowSet, timings: int, columns: Columns) -> gpd.GeoDataFrame:
    """One row a chip."""
    window = np.arange(len(windows)).repeat(timings)
    origins = windows.origins()
    boxes = window_boxes(spec.grid, origins, windows.size)
    row, col = origins.repeat(timings, axis=0).T
    first = {"chip": np.arange(len(window)), "window": window, "row": row, "col": col}
    return gpd.GeoDataFrame(
        first | columns, geometry=boxes.repeat(timings), crs=crs_text(spec.grid)
    )


def _facts(
    url: str, spec: CubeSpec, sample: SampleSpec, windows: WindowSet, needs: Iterable[Needed]
) -> dict[str, Any]:
    """Of what the index is, JSON-able; the place of the cube is no part of it."""
    names = sorted({name for name, _ in needs})
    periods = {period for _, period in needs if period is not None}
    return {
        "cube": spec.digest,
        "grid": grid_to_dict(spec.grid),
        "calendar": [asdict(period) for period in spec.calendar if period.label in periods],
        "variables": {name: spec.variable(name).digest for name in names},
        "sample": sample.to_dict(),
        "windows": windows.to_dict(),
        "chips": len(windows) * len(sample.timings),
        "unwritten": _unwritten(url, spec, needs),
    }


def _unwritten(url: str, spec: CubeSpec, needs: Iterable[Needed]) -> dict[str, int]:
    """Regions of each variable that were never written, at the periods that were read."""
    wanted = sorted({(name, spec.time_of(name, period)) for name, period in needs}, key=str)
    known = ledger.entries(url, spec, sorted({name for name, _ in wanted}))
    out: dict[str, int] = {}
    for name, time in wanted:
        written = known[name].written if time is None else known[name].written[time]
        out[name] = out.get(name, 0) + int((~written).sum())
    return out
