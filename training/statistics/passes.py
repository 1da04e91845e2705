"""Passes over the tiles of a fold, on threads or on a Dask client: sums, digits, classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cube import nodata
from cube.errors import CubeError
from cube.run import run_tasks
from training.statistics.pixels import FoldPixels, TileChips
from training.statistics.tallies import Histogram, Selection, Sums, digits
from training.targets import Target

if TYPE_CHECKING:
    from distributed import Client

Values = npt.NDArray[Any]

Key = tuple[str, int]
"""A stack, or the layer of the label, and the number of a channel of it."""

Wanted = Mapping[Key, tuple[int, tuple[int, ...]]]
"""Channels of which the next digit is wanted: how many are known, and which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What all passes found.

    Attributes:
        sums: Of every channel with an observed pixel.
        quantiles: Of the same, as they lie among the levels.
        classes: Pixels, or windows, of each class.
    """

    sums: Mapping[Key, Sums]
    quantiles: Mapping[Key, tuple[float, ...]]
    classes: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One pass over one tile: sums in the first, and the digits that are wanted."""

    number: int
    tile: TileChips
    pixels: FoldPixels
    first: bool
    wanted: Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    sums: Mapping[Key, Sums]
    histograms: Mapping[Key, list[Histogram]]
    classes: Mapping[int, int]


def label_channels(pixels: FoldPixels) -> list[Key]:
    """Channels of a label that has a mean; none for classes, tables and no label."""
    sample, target = pixels.sample, pixels.sample.target
    if not isinstance(target, Target) or target.transform == "classes":
        return []
    times = sample.times_of(pixels.spec, target.layer, sample.timings[0])
    return [(target.layer, i) for i in range(target.channels(len(times)))]


def read_through(
    pixels: FoldPixels,
    tiles: list[TileChips],
    levels: tuple[float, ...],
    *,
    client: Client | None,
) -> Found:
    """Read tiles in as many passes as the quantiles take; one where there are none.

    Raises:
        CubeError: A tile could not be read.
    """
    selections = _selections(pixels, levels)
    parts = _pass(pixels, tiles, selections, first=True, client=client)
    while any(not selection.complete for selection in selections.values()):
        _pass(pixels, tiles, selections, first=False, client=client)
    sums: dict[Key, Sums] = {}
    classes: Counter[int] = Counter()
    for part in parts:  # in the tiles' order, whichever was read first
        classes.update(part.classes)
        for key, more in part.sums.items():
            sums[key] = sums.get(key, Sums()).joined(more)
    quantiles = {key: selection.values() for key, selection in selections.items()}
    return Found(sums=sums, quantiles=quantiles, classes=classes)


def _selections(pixels: FoldPixels, levels: tuple[float, ...]) -> dict[Key, Selection]:
    """One for every channel; what is stored falls where the scale is negative."""
    found = {}
    for stack in pixels.sample.inputs:
        spec = pixels.spec.stack(stack.stack)
        for number in range(len(stack.bands)):
            found[stack.stack, number] = Selection(
                dtype=spec.dtype, levels=levels, falling=spec.scale < 0
            )
    for key in label_channels(pixels):
        found[key] = Selection(dtype="float32", levels=levels)
    return found


def _pass(
    pixels: FoldPixels,
    tiles: list[TileChips],
    selections: Mapping[Key, Selection],
    *,
    first: bool,
    client: Client | None,
) -> list[_Part]:
    """Read every tile once; selections know a digit more after it. Parts in the tiles' order."""
    open_ = {key: chosen for key, chosen in selections.items() if not chosen.complete}
    wanted = {key: (chosen.known, tuple(chosen.prefixes)) for key, chosen in open_.items()}
    jobs = [
        _Job(number=i, tile=tile, pixels=pixels, first=first, wanted=wanted)
        for i, tile in enumerate(tiles)
    ]
    parts: dict[int, _Part] = {}
    verb = "statistics" if first else "quantiles"
    for job, part in run_tasks(_look, jobs, verb=verb, url=pixels.url, client=client):
        if isinstance(part, CubeError):
            raise part
        for key, histograms in part.histograms.items():
            selections[key].add(histograms)
        # Histograms of all tiles at once would not fit.
        parts[job.number] = replace(part, histograms={})
    for chosen in open_.values():
        chosen.turn()
    return [parts[i] for i in range(len(tiles))]


def _look(job: _Job) -> _Part:
    classes: Counter[int] = Counter()
    sums: dict[Key, Sums] = {}
    histograms: dict[Key, list[Histogram]] = {}
    for key, values, exact in _channels(job):
        if job.first:
            sums[key] = Sums.of(exact.astype("float64"))
        if key in job.wanted:
            histograms[key] = digits(values, *job.wanted[key])
    target = job.pixels.sample.target
    if job.first and isinstance(target, Target) and target.transform == "classes":
        for learned in job.pixels.label(job.tile):
            found, counts = np.unique(learned, return_counts=True)
            classes.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
    return _Part(sums=sums, histograms=histograms, classes=classes)


def _channels(job: _Job) -> Iterator[tuple[Key, Values, Values]]:
    """Channels that the pass needs: values that quantiles are taken of, and physical ones."""
    pixels = job.pixels
    for stack in pixels.sample.inputs:
        spec = pixels.spec.stack(stack.stack)
        if not job.first and (stack.stack, 0) not in job.wanted:
            continue
        for number, stored in enumerate(pixels.stack(stack, job.tile)):
            yield (stack.stack, number), stored, nodata.decode(stored, spec)
    keys = label_channels(pixels)
    if keys and (job.first or keys[0] in job.wanted):
        for key, learned in zip(keys, pixels.label(job.tile), strict=True):
            yield key, learned.astype("float32"), learned
