"""From pixels to polygons: a table of what a layer holds in every polygon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cube import nodata
from cube.coverage import Coverage
from cube.errors import CubeError
from cube.reading import read_region
from cube.regions import Region
from cube.run import run_tasks
from cube.spec import CubeSpec, StackSpec
from cube.template import read_spec

if TYPE_CHECKING:
    from distributed import Client

FloatArray = npt.NDArray[np.floating[Any]]


def collect(
    coverage: Coverage, name: str, *, time: str | None = None, client: Client | None = None
) -> pd.DataFrame:
    """Aggregate a layer, or every band of a stack, to polygons.

    Pixels count with the share that lies in the polygon; nodata does not count.

    Args:
        coverage: Shares of the polygons.
        name: A layer or stack of the same cube.
        time: Label of the period; None for a static variable.
        client: A Dask client; None runs on local threads.

    Returns:
        One row per polygon, in their order, float64. ``sum``, ``mean`` and
        ``std`` (population deviation, weighted by share) in the variable's
        units (for a stack ``<band>_mean`` and so on), ``valid_share`` of the
        polygon's pixels that hold a value (for a stack, per band), and
        ``covered_share`` of the polygon that lies on the grid. A polygon
        without a valid pixel has sum 0 and mean and deviation NaN.
    """
    spec = read_spec(coverage.url)
    index = spec.time_of(name, time)
    read = partial(_physical, coverage=coverage, spec=spec, name=name, time=index)
    part = partial(_tile_moments, coverage=coverage, read=read)
    verb = f"collect {name}"
    done: dict[Region, Any] = {}
    for tile, result in run_tasks(
        part, coverage.tiles(), verb=verb, url=coverage.url, client=client
    ):
        if isinstance(result, CubeError):
            raise result
        done[tile] = result
    moments = _merged([done[tile] for tile in coverage.tiles()], coverage.polygons)
    variable = spec.variable(name)
    bands = variable.bands if isinstance(variable, StackSpec) else None
    return _table(coverage, moments, bands)


def collect_array(
    coverage: Coverage, values: FloatArray, *, bands: tuple[str, ...] | None = None
) -> pd.DataFrame:
    """Like :func:`collect`, of an array in memory.

    Args:
        coverage: Shares of the polygons.
        values: Floats of the whole grid, (y, x), or (band, y, x) with ``bands``; NaN = nodata.
        bands: Names of the bands.
    """
    cube = values.reshape(-1, *values.shape[-2:])
    parts = [
        _tile_moments(tile, coverage=coverage, read=partial(_cut, cube))
        for tile in coverage.tiles()
    ]
    return _table(coverage, _merged(parts, coverage.polygons), bands)


def _cut(values: FloatArray, tile: Region) -> FloatArray:
    return values[(slice(None), *tile.slices)]


def _physical(
    tile: Region, *, coverage: Coverage, spec: CubeSpec, name: str, time: int | None
) -> FloatArray:
    region = Region(time=time, rows=tile.rows, cols=tile.cols)
    stored = read_region(coverage.url, name, region, spec=spec)
    return nodata.decode(stored, spec.variable(name)).reshape(-1, *tile.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moments:
    """Sum of shares, mean and sum of squared deviations per polygon, float64 (k, polygon).

    Squares of deviations, not of values: those of large values would swallow a
    small deviation.
    """

    members: npt.NDArray[np.int32]
    weight: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]


def _tile_moments(tile: Region, *, coverage: Coverage, read: Any) -> _Moments:
    """Moments of the polygons that meet a tile, over its valid pixels."""
    values = read(tile).astype("float64").reshape(-1, tile.shape[0] * tile.shape[1])
    shares = coverage.shares(tile.rows, tile.cols)
    members = shares.polygons
    into, place, share = shares.entries(members)
    bands = [_band_moments(band[place], into, share, len(members)) for band in values]
    weight, mean, squares = (np.stack(part) for part in zip(*bands, strict=True))
    return _Moments(members=members, weight=weight, mean=mean, squares=squares)


def _band_moments(
    values: FloatArray, into: npt.NDArray[np.int64], share: FloatArray, polygons: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Weight, mean and squared deviations of one band's entries, each float64 (polygon,)."""
    valid = ~np.isnan(values)
    counted = np.where(valid, share, 0.0)
    filled = np.where(valid, values, 0.0)
    weight = np.bincount(into, counted, polygons).astype("float64", copy=False)
    total = np.bincount(into, counted * filled, polygons)
    mean = np.divide(total, weight, out=np.zeros(polygons), where=weight > 0)
    squares = np.bincount(into, counted * (filled - mean[into]) ** 2, polygons)
    return weight, mean, squares.astype("float64", copy=False)


def _merged(parts: Sequence[_Moments], polygons: int) -> _Moments:
    """Moments of all tiles, merged in the order given (Chan, Golub and LeVeque 1983)."""
    shape = (len(parts[0].weight), polygons)
    weight, mean, squares = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for part in parts:
        here = part.members
        both = weight[:, here] + part.weight
        share = np.divide(part.weight, both, out=np.zeros_like(both), where=both > 0)
        apart = part.mean - mean[:, here]
        squares[:, here] += part.squares + apart**2 * weight[:, here] * share
        mean[:, here] += apart * share
        weight[:, here] = both
    everyone = np.arange(polygons, dtype="int32")
    return _Moments(members=everyone, weight=weight, mean=mean, squares=squares)


def _table(coverage: Coverage, moments: _Moments, bands: tuple[str, ...] | None) -> pd.DataFrame:
    weight = moments.weight
    seen = weight > 0
    variance = np.divide(moments.squares, weight, out=np.zeros_like(weight), where=seen)
    size = np.broadcast_to(coverage.pixels, weight.shape)
    valid_share = np.divide(weight, size, out=np.zeros_like(weight), where=size > 0)
    columns: dict[str, FloatArray] = {}
    for i in range(len(weight)):
        prefix = f"{bands[i]}_" if bands else ""
        columns[f"{prefix}sum"] = moments.mean[i] * weight[i]
        columns[f"{prefix}mean"] = np.where(seen[i], moments.mean[i], np.nan)
        columns[f"{prefix}std"] = np.where(seen[i], np.sqrt(variance[i]), np.nan)
        columns[f"{prefix}valid_share"] = valid_share[i]
    return pd.DataFrame({**columns, "covered_share": coverage.covered_share})
