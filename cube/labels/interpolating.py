"""From polygons to other polygons through the pixels of a cube, without a layer in between."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cube.coverage.handle import Coverage
from cube.errors import CubeError, PolygonError, SpecError
from cube.labels.quantities import Empty, Quantity
from cube.labels.spreading import How, Spreading
from cube.labels.weights import Named, Weight
from cube.regions import Region
from cube.run import run_tasks
from cube.template import read_spec

if TYPE_CHECKING:
    from distributed import Client

FloatArray = npt.NDArray[np.float64]


def interpolate(  # noqa: PLR0913  (what, from where to where, and how)
    values: npt.ArrayLike,
    sources: Coverage,
    targets: Coverage,
    *,
    how: How = "extensive",
    of: npt.ArrayLike | None = None,
    weight: Named | None = None,
    time: str | None = None,
    empty: Empty = "refuse",
    signed: bool = False,
    bounded: bool = True,
    client: Client | None = None,
) -> pd.DataFrame:
    """Values of one set of polygons, for another set.

    Each polygon is spread over the pixels of the cube as by :func:`cube.labels.spread`, and these
    are collected at once. Within a pixel everything counts as spread evenly: where both sets have
    their edges on edges of pixels, parts are those of the areas of intersection.

    Args:
        values: One number for each source; see :func:`cube.labels.spread`.
        sources: Polygons that they were measured in.
        targets: Polygons that they are wanted for, on the same grid.
        how: ``"extensive"`` adds the parts of amounts up. ``"intensive"`` is the mean of the
            sources, weighted by the area in which they meet the target. ``"share"`` is the sum of
            value x ``of``, divided by that of ``of``.
        of: See :func:`cube.labels.spread`.
        weight: A variable of the cube of ``sources``; see :func:`cube.labels.spread`.
        time: Label of the weight's period; None for a static one or without one.
        empty: See :func:`cube.labels.spread`.
        signed: See :func:`cube.labels.spread`.
        bounded: See :func:`cube.labels.spread`.
        client: A Dask client; None runs on local threads.

    Returns:
        One row per target, in their order, float64; the index is their ids, if they have any.
        ``value``, NaN where nothing is known; ``valid_share``, the share of the target's pixels in
        which something is known: where it is below 1, ``value`` leaves the others out; and
        ``covered_share``, the share of the target's area that lies on the grid.

    Raises:
        PolygonError: The two sets lie on different grids; and see :func:`cube.labels.spread`.
        SpecError: See :func:`cube.labels.spread`.
        StoreError: See :func:`cube.labels.spread`.
    """
    if sources.grid != targets.grid:
        raise PolygonError(
            f"Both sets of polygons must lie on one grid. {sources.name!r} lies on one of "
            f"{_text(sources)}, {targets.name!r} on one of {_text(targets)}; build both in "
            f"one cube."
        )
    quantity = Quantity.of_polygons(
        sources,
        values,
        how=how,
        of=of,
        weighted=weight is not None,
        empty=empty,
        signed=signed,
        bounded=bounded,
    )
    found, weights = None, None
    if weight is None and time is not None:
        raise SpecError(f"time={time!r} is the period of weight=; give both or neither.")
    if weight is not None:
        found = Weight.of(sources.url, read_spec(sources.url), weight, label=time, default=None)
        found.describe()  # refuses what was never written
        weights = found.totals(sources, client=client)
    spread = quantity.spreading(weights)
    part = partial(_tile_sums, sources=sources, targets=targets, spreading=spread, weight=found)
    return _table(targets, _summed(part, sources, targets, client), ratio=how != "extensive")


def _text(coverage: Coverage) -> str:
    height, width = coverage.grid.shape
    return f"{height} x {width} pixels of {coverage.grid.resolution.x:g} at {coverage.url!r}"


def _tile_sums(
    tile: Region,
    *,
    sources: Coverage,
    targets: Coverage,
    spreading: Spreading,
    weight: Weight | None,
) -> tuple[npt.NDArray[np.int32], FloatArray]:
    """Targets that meet a tile, and float64 (3, target): two sums of sources, and pixels known."""
    there, here = (c.shares(tile.rows, tile.cols) for c in (targets, sources))
    if not (len(there.polygons) and len(here.polygons)):
        return np.zeros(0, "int32"), np.zeros((3, 0))
    amount, size = spreading.sums(here, None if weight is None else weight.read(tile))
    members, sums = there.collect(np.stack([amount, size, size > 0]))
    return members, np.asarray(sums, "float64")


def _summed(part: Any, sources: Coverage, targets: Coverage, client: Client | None) -> FloatArray:
    """Sums of all tiles in their order, float64 (3, target)."""
    tiles = sources.tiles()
    done = dict(run_tasks(part, tiles, verb="interpolate", url=sources.url, client=client))
    total = np.zeros((3, targets.polygons))
    for tile in tiles:
        result = done.pop(tile)
        if isinstance(result, CubeError):
            raise result
        members, sums = result
        total[:, members] += sums
    return total


def _table(targets: Coverage, sums: FloatArray, *, ratio: bool) -> pd.DataFrame:
    amount, size, known = sums
    if ratio:
        np.divide(amount, size, out=amount, where=size > 0)
    pixels = targets.pixels
    columns = {
        "value": np.where(size > 0, amount, np.nan),
        "valid_share": np.divide(known, pixels, out=np.zeros_like(known), where=pixels > 0),
        "covered_share": targets.covered_share,
    }
    index = None if targets.ids is None else pd.Index(targets.ids, name="block")
    return pd.DataFrame(columns, index=index)
