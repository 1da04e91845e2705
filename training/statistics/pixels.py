"""Pixels that chips are made of, by tile; each once a period, however many chips hold it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cube import nodata
from cube.reading import read_bands
from cube.regions import Region, tiles
from cube.spec import CubeSpec
from cube.windows import WindowSet
from training.chips import Chips
from training.samples import InputStack, SampleSpec
from training.stream import Supervision
from training.stream.labels import Labeller, single
from training.stream.preparing import check_supervision
from training.targets import Target, pixel_km2

IntArray = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Times = tuple[int | None, ...]

AT_ONCE = 1 << 22
"""Pixels of windows that are reduced at once, 16 MB of float32 or 32 MB of float64."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TileChips:
    """A tile of the grid and the chips that share a pixel with it.

    Attributes:
        rows: Half-open pixel range along y.
        cols: Half-open pixel range along x.
        chips: int64 (n,), ascending.
    """

    rows: tuple[int, int]
    cols: tuple[int, int]
    chips: IntArray


def tiles_with(chips: Chips, ids: IntArray, *, side: int) -> list[TileChips]:
    """Tiles that chips touch, row-major, with the chips of each."""
    windows = chips.windows
    first = windows.origins(chips.window_of(ids))
    low, high = first // side, (first + windows.size - 1) // side
    across = -(-windows.shape[1] // side)
    cells, members = [], []
    for step in np.ndindex(*((high - low).max(axis=0) + 1)):
        place = low + step
        there = (place <= high).all(axis=1)
        cells.append(place[there, 0] * across + place[there, 1])
        members.append(ids[there])
    cell, member = np.concatenate(cells), np.concatenate(members)
    order = np.lexsort((member, cell))
    cell, member = cell[order], member[order]
    edges = np.flatnonzero(np.diff(cell)) + 1
    every = list(tiles(windows.shape, side))
    return [
        TileChips(rows=every[number].rows, cols=every[number].cols, chips=part)
        for number, part in zip(
            cell[np.r_[0, edges]].tolist(), np.split(member, edges), strict=True
        )
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldPixels:
    """Reads the pixels of chips.

    Attributes:
        url: The cube.
        spec: Its spec.
        sample: Inputs, target and timings.
        windows: Where chips lie.
        supervision: Pixels that weigh nothing are left out of the label.
    """

    url: str
    spec: CubeSpec
    sample: SampleSpec
    windows: WindowSet
    supervision: Supervision | None = None

    @cached_property
    def chips(self) -> Chips:
        """Windows × timings."""
        return Chips(windows=self.windows, timings=len(self.sample.timings))

    def check(self) -> None:
        """Refuse what the cube lacks, and a label that no stream could give.

        Raises:
            SpecError: The message says what.
        """
        self.sample.check(self.spec)
        check_supervision(self.supervision, self.sample, self.spec)
        if isinstance(self.sample.target, Target):
            self._labeller(self.sample.target)

    @cached_property
    def _pixel_km2(self) -> float:
        target = self.sample.target
        dense = isinstance(target, Target) and target.per == "km2"
        return pixel_km2(self.spec.grid) if dense else 1.0

    def _labeller(self, target: Target) -> Labeller:
        return Labeller(
            target=target,
            layer=self.spec.layer(target.layer),
            pixel_km2=self._pixel_km2,
            supervision=self.supervision,
        )

    def stack(self, wanted: InputStack, tile: TileChips) -> list[npt.NDArray[Any]]:
        """Observed values of each band, as stored, (pixel,) each."""
        variable = self.spec.stack(wanted.stack)
        parts: list[list[npt.NDArray[Any]]] = [[] for _ in wanted.bands]
        for time, chips in self._periods(wanted.stack, tile):
            inside = self._area(tile, chips)
            region = Region(time=time, rows=tile.rows, cols=tile.cols)
            stored = read_bands(self.url, wanted.stack, region, spec=self.spec, bands=wanted.bands)
            for values, band in zip(parts, stored, strict=True):
                pixels = band[inside]
                values.append(pixels[nodata.valid(pixels, variable)])
        return [np.concatenate(values) for values in parts]

    def label(self, tile: TileChips) -> list[npt.NDArray[Any]]:
        """What is learned of each channel where it is known, (pixel,) or (chip,) each.

        A window's label belongs to the tile in which the window begins.
        """
        target = self.sample.target
        if not isinstance(target, Target):
            return []
        found = self._windows if target.over == "window" else self._pixels
        parts = [
            found(target, tile, times, chips) for times, chips in self._label_periods(target, tile)
        ]
        return [np.concatenate(channel) for channel in zip(*parts, strict=True)]

    def _pixels(
        self, target: Target, tile: TileChips, times: Times, chips: IntArray
    ) -> list[npt.NDArray[Any]]:
        stored = self._stored(target, times, tile.rows, tile.cols)
        counted = self._area(tile, chips)
        if self.supervision is not None:
            counted &= self.supervision.weights(tile.rows, tile.cols) > 0
        layer = self.spec.layer(target.layer)
        if target.transform == "classes":
            counted &= nodata.valid(stored, layer).all(axis=-1)
            return list(stored[counted].T)
        learned = target.forward(nodata.decode(stored, layer), pixel_km2=self._pixel_km2)
        if target.change:
            learned = learned[..., -1:] - learned[..., :1]
        return list(learned[counted & np.isfinite(single(learned)).all(axis=-1)].T)

    def _windows(
        self, target: Target, tile: TileChips, times: Times, chips: IntArray
    ) -> list[npt.NDArray[Any]]:
        size, labeller = self.windows.size, self._labeller(target)
        origins = self.windows.origins(np.unique(self.chips.window_of(chips)))
        starts = (tile.rows[0], tile.cols[0])
        begins = ((origins >= starts) & (origins < (tile.rows[1], tile.cols[1]))).all(axis=1)
        origins = origins[begins]
        channels = target.channels(len(times))
        if not len(origins):
            return [np.empty(0, labeller.dtype)] * channels
        low, high = origins.min(axis=0), origins.max(axis=0) + size
        stored = self._stored(target, times, (low[0], high[0]), (low[1], high[1]))
        values = nodata.decode(stored, labeller.layer)
        labels = []
        for part in np.array_split(origins - low, -(-len(origins) * size**2 // AT_ONCE)):
            cut = np.stack([values[y : y + size, x : x + size] for y, x in part])
            label, weight = labeller.windows(cut)
            labels.append(label[weight > 0])
        return list(np.concatenate(labels).T)

    def _stored(
        self, target: Target, times: Times, rows: tuple[int, int], cols: tuple[int, int]
    ) -> npt.NDArray[Any]:
        """Stored values of the label's layer, (y, x, period)."""
        span = (int(rows[0]), int(rows[1])), (int(cols[0]), int(cols[1]))
        regions = [Region(time=time, rows=span[0], cols=span[1]) for time in times]
        read = [read_bands(self.url, target.layer, region, spec=self.spec) for region in regions]
        return np.stack(read, axis=-1)

    def _periods(self, name: str, tile: TileChips) -> Iterator[tuple[int | None, IntArray]]:
        """Calendar indices at which a stack is read, and the chips that read it then."""
        timing = self.chips.timing_of(tile.chips)
        readers: dict[int | None, Mask] = {}
        for number in np.unique(timing).tolist():
            for time in self.sample.times_of(self.spec, name, self.sample.timings[number]):
                before = readers.get(time, np.zeros(len(timing), "bool"))
                readers[time] = before | (timing == number)
        for time in sorted(readers, key=lambda t: -1 if t is None else t):
            yield time, tile.chips[readers[time]]

    def _label_periods(self, target: Target, tile: TileChips) -> Iterator[tuple[Times, IntArray]]:
        """Label periods that belong together, and the chips of them."""
        timing = self.chips.timing_of(tile.chips)
        readers: dict[Times, Mask] = {}
        for number, one in enumerate(self.sample.timings):
            times = self.sample.times_of(self.spec, target.layer, one)
            readers[times] = readers.get(times, np.zeros(len(timing), "bool")) | (timing == number)
        for times, which in readers.items():
            yield times, tile.chips[which]

    def _area(self, tile: TileChips, chips: IntArray) -> Mask:
        """Pixels of a tile that chips cover, bool (y, x)."""
        shape = np.array([tile.rows[1] - tile.rows[0], tile.cols[1] - tile.cols[0]])
        first = self.windows.origins(self.chips.window_of(chips)) - (tile.rows[0], tile.cols[0])
        low, high = np.maximum(first, 0), np.minimum(first + self.windows.size, shape)
        steps = np.zeros(shape + 1, "int64")
        for ys, xs, sign in ((low, low, 1), (low, high, -1), (high, low, -1), (high, high, 1)):
            np.add.at(steps, (ys[:, 0], xs[:, 1]), sign)
        covered: Mask = steps.cumsum(0).cumsum(1)[:-1, :-1] > 0
        return covered
