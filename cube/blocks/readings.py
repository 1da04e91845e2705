"""What an aggregation reads, box by box, and what it sums of it, tile by tile."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cube import nodata
from cube.blocks import class_counts, quantiles
from cube.blocks.quantiles import Histogram
from cube.blocks.tallies import Part, Rasters, Wanted, measure
from cube.blocks.tile_runs import TileRuns, runs_of
from cube.coverage.handle import Coverage
from cube.errors import PolygonError
from cube.reading import read_region
from cube.regions import Region
from cube.spec import CubeSpec, LayerSpec

FloatArray = npt.NDArray[np.floating[Any]]

BOX = 1024
"""Side of what a task reads at once, in pixels, where chunks and tiles allow it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A layer or stack at one time, and what to sum of it.

    Attributes:
        name: The layer or stack.
        time: Index in the calendar; None for a static one.
        bands: Number of its bands; 1 for a layer.
        wanted: What to sum.
        errors: Layer of the standard deviations of its pixels.
    """

    name: str
    time: int | None
    bands: int
    wanted: Wanted
    errors: str | None = None


class Source(Protocol):
    """Where rasters come from."""

    def read(self, reading: Reading, box: Region) -> tuple[Rasters, tuple[int, int]]:
        """Rasters that hold a box, and the row and column of the grid at which they begin."""
        ...

    def dtype(self, reading: Reading) -> np.dtype[Any]:
        """Of the values of a reading."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrays:
    """Rasters of the whole grid, in memory."""

    rasters: Rasters

    def read(self, reading: Reading, box: Region) -> tuple[Rasters, tuple[int, int]]:
        """See :class:`Source`."""
        del reading, box
        return self.rasters, (0, 0)

    def dtype(self, reading: Reading) -> np.dtype[Any]:
        """See :class:`Source`."""
        del reading
        return self.rasters.values.dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Variables of a cube, as physical values.

    Attributes:
        url: The cube.
        spec: Its spec.
        weights: Layer of weights.
        transform: Whose inverse pixels are taken through.
    """

    url: str
    spec: CubeSpec
    weights: str | None = None
    transform: Any = None

    def read(self, reading: Reading, box: Region) -> tuple[Rasters, tuple[int, int]]:
        """See :class:`Source`."""
        origin = (box.rows[0], box.cols[0])
        variable = self.spec.variable(reading.name)
        if reading.wanted.classes and isinstance(variable, LayerSpec):
            stored = self._stored(reading.name, reading.time, box)
            return Rasters(values=class_counts.places(stored, variable)[None]), origin
        values = backward(self.transform, self._bands(reading.name, reading.time, box))
        weights = self._beside(self.weights, reading, box) if reading.wanted.weighted else None
        errors = self._beside(reading.errors, reading, box) if reading.wanted.errors else None
        return Rasters(
            values=values, weights=None if weights is None else weights[0], errors=errors
        ), origin

    def dtype(self, reading: Reading) -> np.dtype[Any]:
        """See :class:`Source`."""
        decoded = nodata.decoded_dtype(self.spec.variable(reading.name))
        return decoded if self.transform is None else np.dtype("float64")

    def _beside(self, name: str | None, reading: Reading, box: Region) -> FloatArray | None:
        """A raster that goes with another, of the same time if it has one; 0 or more."""
        if name is None:
            return None
        time = None if self.spec.variable(name).static else reading.time
        values = self._bands(name, time, box)
        check_positive(values, name)
        return values

    def _bands(self, name: str, time: int | None, box: Region) -> FloatArray:
        stored = self._stored(name, time, box)
        values = nodata.decode(stored, self.spec.variable(name))
        return np.ascontiguousarray(values.reshape(-1, *box.shape))

    def _stored(self, name: str, time: int | None, box: Region) -> npt.NDArray[Any]:
        return read_region(self.url, name, replace(box, time=time), spec=self.spec)


def backward(transform: Any, values: FloatArray) -> FloatArray:
    """Pixels as amounts that can be summed, float64 if there is a transform.

    Raises:
        PolygonError: An amount is infinite.
    """
    if transform is None:
        return values
    known = ~np.isnan(values)
    out = np.full(values.shape, np.nan)
    with np.errstate(over="ignore"):
        out[known] = transform.inverse(values[known].astype("float64"))
    if np.isinf(out).any():
        raise PolygonError(
            f"The inverse of the transform is to give finite amounts. It gives an infinite one for "
            f"{float(values[np.isinf(out)][0]):g}; is the layer what was transformed?"
        )
    return out


def check_positive(values: FloatArray, name: str) -> None:
    """Refuse weights and errors that are negative or infinite.

    Raises:
        PolygonError: There is one.
    """
    wrong = (values < 0) | np.isinf(values)
    if wrong.any():
        raise PolygonError(
            f"Weights and errors of pixels must be finite, and 0 or more. {name!r} holds "
            f"{float(values[wrong][0]):g}; make it nodata, or correct it."
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tile:
    """One tile of a task.

    Attributes:
        region: Its pixels.
        spanning: int64: places of its polygons that meet other tiles too; for quantiles.
        prefixes: By reading, then band: digits of their quantiles so far, uint64 (level, polygon).
    """

    region: Region
    spanning: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, "int64"))
    prefixes: Sequence[Sequence[npt.NDArray[np.uint64]]] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """A box that is read at once, and its tiles."""

    box: Region
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """What is done of every task; it pickles.

    Attributes:
        coverage: Shares of the polygons.
        source: Where rasters come from.
        readings: What to read.
        conserve: See :func:`cube.blocks.tile_runs.normalised`.
    """

    coverage: Coverage
    source: Source
    readings: tuple[Reading, ...]
    conserve: bool = False

    def _runs(self, tile: Tile) -> TileRuns:
        return runs_of(self.coverage, tile.region, conserve=self.conserve)

    def meet(self, task: Task) -> list[npt.NDArray[np.int32]]:
        """Polygons of each tile."""
        return [self._runs(tile).members for tile in task.tiles]

    def tally(
        self, task: Task
    ) -> list[tuple[npt.NDArray[np.int32], npt.NDArray[np.float64], list[Part]]]:
        """Of each tile: its polygons, their sums of shares, and the sums of each reading."""
        runs = [self._runs(tile) for tile in task.tiles]
        parts: list[list[Part]] = [[] for _ in runs]
        for reading in self.readings:
            rasters, origin = self.source.read(reading, task.box)
            for tile, prepared, found in zip(task.tiles, runs, parts, strict=True):
                place = _place(tile.region, origin)
                found.append(measure(rasters, place, prepared, reading.wanted, tile.spanning))
        return [(r.members, r.size, p) for r, p in zip(runs, parts, strict=True)]

    def search(self, task: Task, *, digit: int) -> list[list[list[list[Histogram]]]]:
        """Of each tile, reading, band and level: histograms of the next digit of quantiles."""
        runs = [self._runs(tile) for tile in task.tiles]
        out: list[list[list[list[Histogram]]]] = [[] for _ in runs]
        for i, reading in enumerate(self.readings):
            rasters, origin = self.source.read(reading, task.box)
            for tile, prepared, found in zip(task.tiles, runs, out, strict=True):
                found.append(
                    [
                        quantiles.histograms(
                            band,
                            _place(tile.region, origin),
                            prepared,
                            spanning=tile.spanning,
                            prefixes=prefixes,
                            digit=digit,
                        )
                        for band, prefixes in zip(rasters.values, tile.prefixes[i], strict=True)
                    ]
                )
        return out


def _place(tile: Region, origin: tuple[int, int]) -> tuple[int, int]:
    return tile.rows[0] - origin[0], tile.cols[0] - origin[1]


def tasks(coverage: Coverage, chunk: int | None = None) -> list[Task]:
    """Boxes of whole tiles, and of whole chunks as far as that is possible; row-major.

    Args:
        coverage: Whose tiles.
        chunk: Side of a chunk; None makes a task of every tile.
    """
    tiles = coverage.tiles()
    side = max(tiles[0].shape)
    side = side if chunk is None else _side(side, chunk)
    boxes: dict[tuple[int, int], list[Region]] = {}
    for tile in tiles:
        boxes.setdefault((tile.rows[0] // side, tile.cols[0] // side), []).append(tile)
    return [
        Task(
            box=Region(
                time=None,
                rows=(inside[0].rows[0], inside[-1].rows[1]),
                cols=(inside[0].cols[0], inside[-1].cols[1]),
            ),
            tiles=tuple(Tile(region=tile) for tile in inside),
        )
        for inside in boxes.values()
    ]


def _side(tile: int, chunk: int) -> int:
    """Side of a box: whole chunks and tiles; tiles alone where that would be too large."""
    both = math.lcm(tile, chunk)
    least = both if both <= 2 * max(BOX, tile) else tile
    return least * max(1, BOX // least)


def in_order(
    tiles: Sequence[Region], found: Iterable[tuple[Task, Sequence[Any]]]
) -> Iterator[tuple[Region, Any]]:
    """Results of tiles in the order given, as soon as their turn comes."""
    waiting: dict[Region, Any] = {}
    turn = iter(tiles)
    current = next(turn, None)
    for task, results in found:
        waiting |= {tile.region: one for tile, one in zip(task.tiles, results, strict=True)}
        while current is not None and current in waiting:
            yield current, waiting.pop(current)
            current = next(turn, None)
