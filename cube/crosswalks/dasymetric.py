"""Crosswalks through the pixels of a cube: people live where a layer says that they do.

Dasymetric weighting divides what a polygon holds among its pixels in proportion
to a layer, such as built-up area, before it is summed in other polygons
(Wright 1936, Geographical Review 26(1), doi 10.2307/209467).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from cube.coverage.handle import Coverage
from cube.crosswalks.crosswalk import TOLERANCE, Crosswalk
from cube.crosswalks.parts import group_sums, runs
from cube.errors import CubeError, PolygonError, SpecError
from cube.labels.weights import Named, Weight
from cube.polygons.ids import examples, text_ids
from cube.regions import Region
from cube.run import run_tasks
from cube.template import read_spec

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def through(  # noqa: PLR0913  (two sets of polygons, what weighs pixels, and who does it)
    sources: Coverage,
    targets: Coverage,
    *,
    weight: Named | None = None,
    time: str | None = None,
    empty: Literal["refuse", "area"] = "refuse",
    overlapping: bool = False,
    client: Client | None = None,
) -> Crosswalk:
    """From polygons to polygons, in proportion to what a layer holds where they meet.

    An entry is the sum over pixels of share in the source x weight x share in
    the target, over the sum of share in the source x weight, times the
    source's share on the grid. The same to the bit for any number of workers.

    Args:
        sources: Shares of the source polygons, of the cube that holds the layer.
        targets: Shares of the target polygons, on the same grid.
        weight: A layer, or a stack and its band, 0 or more; pixels without a
            value have no weight. None weights by area.
        time: Label of the period; None for a static layer.
        empty: Sources on the grid without any weight are refused; ``"area"``
            divides them by area.
        overlapping: Targets may overlap; what lies in several then counts in each.
        client: A Dask client; None runs on local threads.

    Returns:
        Ids are those of the coverages, or row numbers as text. The size of a
        source is its sum of weights.

    Raises:
        PolygonError: The grids differ; a source has no weight; targets overlap.
        SpecError: There is no such layer or period, or its weights are negative.
        StoreError: Regions of the layer were never written.
    """
    if empty not in ("refuse", "area"):
        raise SpecError(f"empty is 'refuse' or 'area'. Received {empty!r}.")
    if sources.grid != targets.grid:
        raise PolygonError("Sources and targets must be covered on one grid; cover both on it.")
    layer = None if weight is None else _weight(sources.url, weight, time)
    task = partial(_tile_meetings, sources=sources, targets=targets, layer=layer)
    tiles = sources.tiles()
    done: dict[Region, Any] = {}
    for tile, result in run_tasks(task, tiles, verb="crosswalk", url=sources.url, client=client):
        if isinstance(result, CubeError):
            raise result
        done[tile] = result
    met = _merged([done[tile] for tile in tiles])
    ids, notes = _ids(sources, "sources"), []
    on_grid = sources.covered_share > 0
    weightless = on_grid & (met.total[1] == 0)
    if weightless.any():
        notes = [_weightless(ids, weightless, met, empty)]
    use = np.where(weightless, 0, 1)
    source, target = np.divmod(met.key, targets.polygons)
    total = met.total[use, np.arange(len(use))]
    part = met.shared[use[source], np.arange(len(source))] / total[source]
    part = np.minimum(part, 1.0) * sources.covered_share[source]
    sums = group_sums(source, part, len(ids))
    cover = _cover(sums, ids, overlapping=overlapping)
    return Crosswalk.of_entries(
        ids, _ids(targets, "targets"), source=source, target=target, part=part, cover=cover,
        size=met.total[1], notes=tuple(notes),
        origin=f"{sources.name} to {targets.name} by {weight or 'area'}"
        + (f" of {time}" if time else ""),
    )  # fmt: skip


def _weight(url: str, named: Named, time: str | None) -> Weight:
    weight = Weight.of(url, read_spec(url), named, label=time, default=None)
    weight.describe()  # refuses what was never written
    return weight


def _cover(
    sums: FloatArray, ids: pd.Index[Any], *, overlapping: bool
) -> Literal["whole", "partial", "overlapping"]:
    twice = sums > 1 + TOLERANCE
    if overlapping:
        return "overlapping"
    if twice.any():
        raise PolygonError(
            f"Targets overlap in {int(twice.sum())} of {len(twice)} sources, which would count "
            f"twice: {examples(ids[twice])}. If that is meant, give overlapping=True."
        )
    return "whole" if (sums >= 1 - TOLERANCE).all() else "partial"


def _weightless(
    ids: pd.Index[Any], weightless: npt.NDArray[np.bool_], met: _Meetings, empty: str
) -> str:
    """A note of the sources without weight, or a refusal."""
    lost = weightless & (met.total[0] == 0)
    if lost.any():
        raise PolygonError(
            f"{int(lost.sum())} of {len(ids)} sources are too small to meet any pixel: "
            f"{examples(ids[lost])}. Merge them with a neighbour."
        )
    found = f"{int(weightless.sum())} of {len(ids)} sources have no weight in any pixel"
    if empty == "refuse":
        raise PolygonError(
            f"{found}: {examples(ids[weightless])}. Give empty='area' to divide them by area."
        )
    return f"{found} and are divided by area: {examples(ids[weightless])}"


def _ids(coverage: Coverage, what: str) -> pd.Index[Any]:
    """Ids of a coverage's polygons, or their row numbers as text."""
    ids = coverage.ids
    return text_ids(map(str, range(coverage.polygons)) if ids is None else ids, what)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meetings:
    """Pairs of a source and a target that share pixels.

    Attributes:
        key: int64 (pair,): source x number of targets + target, ascending.
        shared: float64 (2, pair): sums over pixels of both shares, without and with weight.
        total: float64 (2, source): the same of the source alone.
    """

    key: IntArray
    shared: FloatArray
    total: FloatArray


def _tile_meetings(
    tile: Region, *, sources: Coverage, targets: Coverage, layer: Weight | None
) -> _Meetings:
    weights = np.ones(tile.shape).ravel() if layer is None else layer.read(tile).ravel()
    source, pixel, share = _entries(sources, tile)
    target, place, other = _entries(targets, tile)
    total = _two_sums(source, share, weights[pixel], sources.polygons)
    # Every entry of a source with every entry of a target in the same pixel.
    count = np.bincount(place, minlength=len(weights))
    start = np.cumsum(count) - count
    entry, partner = runs(start[pixel], count[pixel])
    key, into = np.unique(source[entry] * targets.polygons + target[partner], return_inverse=True)
    both = share[entry] * other[partner]
    shared = _two_sums(into, both, weights[pixel[entry]], len(key))
    return _Meetings(key=key, shared=shared, total=total)


def _entries(coverage: Coverage, tile: Region) -> tuple[IntArray, IntArray, FloatArray]:
    """Polygon, flat pixel index and share of each entry of a tile, sorted by pixel."""
    shares = coverage.shares(tile.rows, tile.cols)
    members = shares.polygons
    into, place, share = shares.entries(members)
    polygon = members.astype("int64")[into]
    order = np.lexsort((polygon, place))
    return polygon[order], place[order], share[order]


def _two_sums(into: IntArray, share: FloatArray, weight: FloatArray, count: int) -> FloatArray:
    """Sums of shares, and of share x weight, float64 (2, count)."""
    return np.stack([group_sums(into, values, count) for values in (share, share * weight)])


def _merged(parts: list[_Meetings]) -> _Meetings:
    """Meetings of all tiles, added in their order."""
    total = np.zeros_like(parts[0].total)
    for part in parts:
        total += part.total
    key, into = np.unique(np.concatenate([part.key for part in parts]), return_inverse=True)
    shared = np.concatenate([part.shared for part in parts], axis=1)
    sums = np.stack([group_sums(into, values, len(key)) for values in shared])
    return _Meetings(key=key, shared=sums, total=total)
