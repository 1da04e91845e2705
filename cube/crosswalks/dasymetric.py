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
from cube.coverage.shares import Shares
from cube.crosswalks.crosswalk import TOLERANCE, Crosswalk
from cube.crosswalks.overlay import refuse_overlaps
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
        time: Label of the weight's period; None for a static one or without one.
        empty: Sources on the grid without any weight are refused; ``"area"``
            divides them by area.
        overlapping: Targets may overlap; what lies in several then counts in each.
        client: A Dask client; None runs on local threads.

    Returns:
        Ids are those of the coverages, or row numbers as text. The size of a
        source is its sum of weights, over its share on the grid.

    Raises:
        PolygonError: The grids differ; a source has no weight, or meets no pixel; targets overlap.
        SpecError: There is no such layer or period, or its weights are negative.
        StoreError: Regions of the layer were never written.
    """
    if empty not in ("refuse", "area"):
        raise SpecError(f"empty is 'refuse' or 'area'. Received {empty!r}.")
    if weight is None and (time is not None or empty != "refuse"):
        given = f"time={time!r}" if time is not None else f"empty={empty!r}"
        raise SpecError(f"{given} is about weights; give weight=, or leave it out.")
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
    origin = f"{sources.name} to {targets.name} by {weight or 'area'}"
    found = _crosswalk(
        [done.pop(tile) for tile in tiles], sources, targets, empty=empty, overlapping=overlapping,
        origin=f"{origin} of {time}" if time else origin,
    )  # fmt: skip
    return found.normalised() if found.cover == "whole" else found  # shares are kept as float32


def _crosswalk(
    parts: list[_Meetings], sources: Coverage, targets: Coverage, *, empty: str, overlapping: bool,
    origin: str,
) -> Crosswalk:  # fmt: skip
    """A crosswalk of the meetings of all tiles, in their order."""
    key, shared = _merged(parts)
    sums = sources.add_up([(part.members, part.sums) for part in parts])
    totals, twice = sums[:2], sums[2:]
    ids, notes, covered = _ids(sources, "sources"), [], sources.covered_share
    weightless = (covered > 0) & (totals[1] == 0)
    if weightless.any():
        notes = [_weightless(ids, weightless, totals[0], empty)]
    use, every = np.where(weightless, 0, 1), np.arange(len(ids))
    total = totals[use, every]
    if not overlapping:
        refuse_overlaps(twice[use, every] > TOLERANCE * total, ids)
    source, target = np.divmod(key, targets.polygons)
    part = shared[use[source], np.arange(len(source))] / total[source]
    part = np.minimum(part, 1.0) * covered[source]
    inside = (group_sums(source, part, len(ids)) >= 1 - TOLERANCE).all()
    return Crosswalk.of_entries(
        ids, _ids(targets, "targets"), source=source, target=target, part=part,
        cover="overlapping" if overlapping else "whole" if inside else "partial",
        size=np.divide(totals[1], covered, out=np.zeros(len(ids)), where=covered > 0),
        notes=tuple(notes), origin=origin,
    )  # fmt: skip


def _weight(url: str, named: Named, time: str | None) -> Weight:
    weight = Weight.of(url, read_spec(url), named, label=time, default=None)
    weight.describe()  # refuses what was never written
    return weight


def _weightless(
    ids: pd.Index[Any], weightless: npt.NDArray[np.bool_], pixels: FloatArray, empty: str
) -> str:
    """A note of the sources without weight, or a refusal."""
    lost = weightless & (pixels == 0)
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
    """What of sources lies in a tile, and in which targets.

    Attributes:
        key: int64 (pair,): source x number of targets + target, ascending, of each pair of a
            source and a target that share pixels.
        shared: float64 (2, pair): sums over pixels of both shares, without and with weight.
        members: int32 (member,): the sources that meet the tile.
        sums: float64 (4, member): sums over pixels of the share of the source, without and with
            weight; and of what of it several targets claim, likewise.
    """

    key: IntArray
    shared: FloatArray
    members: npt.NDArray[np.int32]
    sums: FloatArray


def _tile_meetings(
    tile: Region, *, sources: Coverage, targets: Coverage, layer: Weight | None
) -> _Meetings:
    weight = np.ones(tile.shape) if layer is None else layer.read(tile)
    those, others = (each.shares(tile.rows, tile.cols) for each in (sources, targets))
    excess = np.maximum(others.covered() - 1.0, 0.0)
    members, sums = those.collect(np.stack([np.ones(tile.shape), weight, excess, excess * weight]))
    source, pixel, share = _entries(those)
    target, place, other = _entries(others)
    # Every entry of a source with every entry of a target in the same pixel.
    count = np.bincount(place, minlength=weight.size)
    start = np.cumsum(count) - count
    entry, partner = runs(start[pixel], count[pixel])
    key, into = np.unique(source[entry] * targets.polygons + target[partner], return_inverse=True)
    both = share[entry] * other[partner]
    weighted = both * weight.ravel()[pixel[entry]]
    shared = np.stack([group_sums(into, values, len(key)) for values in (both, weighted)])
    return _Meetings(key=key, shared=shared, members=members, sums=sums.astype("float64"))


def _entries(shares: Shares) -> tuple[IntArray, IntArray, FloatArray]:
    """Polygon, flat pixel index and share of each entry of a tile, sorted by pixel."""
    members = shares.polygons
    into, place, share = shares.entries(members)
    polygon = members.astype("int64")[into]
    order = np.lexsort((polygon, place))
    return polygon[order], place[order], share[order]


def _merged(parts: list[_Meetings]) -> tuple[IntArray, FloatArray]:
    """Pairs that meet in any tile, and their sums, added in the order of the tiles."""
    key, into = np.unique(np.concatenate([part.key for part in parts]), return_inverse=True)
    shared = np.concatenate([part.shared for part in parts], axis=1)
    return key, np.stack([group_sums(into, values, len(key)) for values in shared])
