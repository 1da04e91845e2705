"""From pixels to polygons: a table of what a layer holds in every polygon."""

from __future__ import annotations

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
    part = partial(_tile_sums, coverage=coverage, read=read)
    verb = f"collect {name}"
    done: dict[Region, Any] = {}
    for tile, result in run_tasks(
        part, coverage.tiles(), verb=verb, url=coverage.url, client=client
    ):
        if isinstance(result, CubeError):
            raise result
        done[tile] = result
    sums = coverage.add_up([done[tile] for tile in coverage.tiles()])
    variable = spec.variable(name)
    bands = variable.bands if isinstance(variable, StackSpec) else None
    return _table(coverage, sums, bands)


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
        _tile_sums(tile, coverage=coverage, read=partial(_cut, cube)) for tile in coverage.tiles()
    ]
    return _table(coverage, coverage.add_up(parts), bands)


def _cut(values: FloatArray, tile: Region) -> FloatArray:
    return values[(slice(None), *tile.slices)]


def _physical(
    tile: Region, *, coverage: Coverage, spec: CubeSpec, name: str, time: int | None
) -> FloatArray:
    region = Region(time=time, rows=tile.rows, cols=tile.cols)
    stored = read_region(coverage.url, name, region, spec=spec)
    return nodata.decode(stored, spec.variable(name)).reshape(-1, *tile.shape)


def _tile_sums(
    tile: Region, *, coverage: Coverage, read: Any
) -> tuple[npt.NDArray[np.int32], FloatArray]:
    """Sums of 1, value and value squared over valid pixels: shape (3 k, polygon)."""
    values = read(tile).astype("float64")
    valid = ~np.isnan(values)
    filled = np.where(valid, values, 0.0)
    moments = np.concatenate([valid.astype("float64"), filled, filled**2])
    return coverage.shares(tile.rows, tile.cols).collect(moments)


def _table(coverage: Coverage, sums: FloatArray, bands: tuple[str, ...] | None) -> pd.DataFrame:
    weight, total, squares = np.split(sums, 3)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / weight
        std = np.sqrt(np.maximum(squares / weight - mean**2, 0.0))
        valid_share = np.where(coverage.pixels > 0, weight / coverage.pixels, 0.0)
    columns: dict[str, FloatArray] = {}
    for i in range(len(weight)):
        prefix = f"{bands[i]}_" if bands else ""
        columns[f"{prefix}sum"] = total[i]
        columns[f"{prefix}mean"] = mean[i]
        columns[f"{prefix}std"] = std[i]
        columns[f"{prefix}valid_share"] = valid_share[i]
    return pd.DataFrame({**columns, "covered_share": coverage.covered_share})
