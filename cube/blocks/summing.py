"""Sums of all polygons, from those of tiles; and quantiles of polygons that span tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cube.blocks.quantiles import Selection, digits_of
from cube.blocks.readings import Job, Reading, Task, in_order
from cube.blocks.tallies import Totals
from cube.errors import CubeError
from cube.regions import Region

Runner = Callable[[Callable[[Task], Any], Sequence[Task]], Iterator[tuple[Task, Any]]]
"""Does tasks, and yields them with their results, or errors, as they end."""


def summed(
    job: Job, tasks: Sequence[Task], run: Runner
) -> tuple[npt.NDArray[np.float64], list[Totals]]:
    """Sums of shares of every polygon, float64 (polygon,), and the totals of each reading.

    Args:
        job: What to sum.
        tasks: All tiles of the coverage.
        run: Who does it.

    Raises:
        CubeError: What a task raised.
    """
    polygons, tiles = job.coverage.polygons, job.coverage.tiles()
    spanning = _Spanning(job, tasks, run) if any(r.wanted.levels for r in job.readings) else None
    size = np.zeros(polygons)
    totals = [Totals(r.wanted, polygons, r.bands) for r in job.readings]
    done = _unless_errors(run(job.tally, spanning.tasks(tasks) if spanning else tasks))
    for tile, (members, shares, parts) in in_order(tiles, done):
        size[members] += shares
        for total, part in zip(totals, parts, strict=True):
            total.add(members, part)
        if spanning:
            spanning.add(tile, [part["histograms"] for part in parts])
    if spanning:
        spanning.finish(job, tasks, run)
        spanning.fill(totals)
    return size, totals


def _unless_errors(found: Iterator[tuple[Task, Any]]) -> Iterator[tuple[Task, Any]]:
    for task, result in found:
        if isinstance(result, CubeError):
            raise result
        yield task, result


class _Spanning:
    """Polygons that meet several tiles, and their quantiles in the making.

    Attributes:
        polygons: int64: their indices.
    """

    def __init__(self, job: Job, tasks: Sequence[Task], run: Runner) -> None:
        tiles_of = np.zeros(job.coverage.polygons, "int64")
        members: dict[Region, npt.NDArray[np.int32]] = {}
        for task, found in _unless_errors(run(job.meet, tasks)):
            for tile, here in zip(task.tiles, found, strict=True):
                members[tile.region] = here
                tiles_of[here] += 1
        self.polygons = np.flatnonzero(tiles_of > 1)
        self._tiles = job.coverage.tiles()
        # Of each tile: places among its own polygons, and among those that span tiles.
        self._places: dict[Region, npt.NDArray[np.int64]] = {}
        self._numbers: dict[Region, npt.NDArray[np.int64]] = {}
        for region, here in members.items():
            self._places[region] = np.flatnonzero(tiles_of[here] > 1)
            self._numbers[region] = np.searchsorted(self.polygons, here[self._places[region]])
        self._readings = job.readings
        self._selections = [
            [self._selection(job, reading, tiles_of) for _ in range(reading.bands)]
            for reading in job.readings
        ]

    def _selection(self, job: Job, reading: Reading, tiles_of: npt.NDArray[np.int64]) -> Selection:
        levels, dtype = reading.wanted.levels, job.source.dtype(reading)
        return Selection(tiles_of[self.polygons], levels, dtype)

    def tasks(self, tasks: Sequence[Task], *, which: Sequence[int] = ()) -> list[Task]:
        """The same tasks, which know what spans tiles, and the digits of some readings so far."""
        return [
            replace(
                task,
                tiles=tuple(
                    replace(
                        tile,
                        spanning=self._places[tile.region],
                        prefixes=[self._prefixes(i, tile.region) for i in which],
                    )
                    for tile in task.tiles
                ),
            )
            for task in tasks
        ]

    def _prefixes(self, which: int, tile: Region) -> list[npt.NDArray[np.uint64]]:
        numbers = self._numbers[tile]
        return [selection.prefixes[:, numbers] for selection in self._selections[which]]

    def add(
        self, tile: Region, found: Sequence[Any], *, which: Sequence[int] | None = None
    ) -> None:
        """Take the histograms of the next tile, by reading and band."""
        chosen = range(len(self._readings)) if which is None else which
        for i, bands in zip(chosen, found, strict=True):
            for selection, histograms in zip(self._selections[i], bands, strict=True):
                selection.add(self._numbers[tile], histograms)

    def finish(self, job: Job, tasks: Sequence[Task], run: Runner) -> None:
        """Find the digits after the first, one a pass."""
        self._turn(range(len(self._readings)))
        for digit in range(1, max(digits_of(job.source.dtype(r)) for r in job.readings)):
            which = [
                i for i, r in enumerate(self._readings) if digits_of(job.source.dtype(r)) > digit
            ]
            if not self.polygons.size:
                continue
            part = replace(job, readings=tuple(self._readings[i] for i in which))
            done = _unless_errors(
                run(partial(part.search, digit=digit), self.tasks(tasks, which=which))
            )
            for tile, found in in_order(self._tiles, done):
                self.add(tile, found, which=which)
            self._turn(which)

    def _turn(self, which: Sequence[int]) -> None:
        for i in which:
            for selection in self._selections[i]:
                selection.turn()

    def fill(self, totals: Sequence[Totals]) -> None:
        """Put the quantiles into their totals."""
        for total, selections in zip(totals, self._selections, strict=True):
            for band, selection in enumerate(selections):
                total.put_quantiles(band, self.polygons, selection.values())
