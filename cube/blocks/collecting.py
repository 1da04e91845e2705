"""From pixels to polygons: a table of what a layer holds in every polygon."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cube.blocks.aggregating import array_totals, rasters_of
from cube.blocks.readings import Job, Reading, Stored, tasks
from cube.blocks.statistics import parsed
from cube.blocks.summing import summed
from cube.blocks.tallies import Totals, Wanted
from cube.coverage.handle import Coverage
from cube.run import run_tasks
from cube.spec import StackSpec
from cube.template import read_spec

if TYPE_CHECKING:
    from distributed import Client

FloatArray = npt.NDArray[np.floating[Any]]

_STATISTICS = parsed(("sum", "mean", "std"))


def collect(
    coverage: Coverage, name: str, *, time: str | None = None, client: Client | None = None
) -> pd.DataFrame:
    """Aggregate a layer, or every band of a stack, to polygons.

    Pixels count with the share that lies in the polygon; nodata does not count, nor does what was
    never written. :func:`cube.aggregate` has more statistics, and tells those two apart.

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
    variable = spec.variable(name)
    bands = variable.bands if isinstance(variable, StackSpec) else None
    reading = Reading(
        name=name, time=index, bands=len(bands or (name,)), wanted=Wanted.of(_STATISTICS)
    )
    job = Job(coverage=coverage, source=Stored(url=coverage.url, spec=spec), readings=(reading,))
    run = partial(run_tasks, verb=f"collect {name}", url=coverage.url, client=client)
    size, (totals,) = summed(job, tasks(coverage, spec.layout.chunk), run)
    return _table(coverage, size, totals, bands)


def collect_array(
    coverage: Coverage, values: FloatArray, *, bands: tuple[str, ...] | None = None
) -> pd.DataFrame:
    """Like :func:`collect`, of an array in memory.

    Args:
        coverage: Shares of the polygons.
        values: Floats of the whole grid, (y, x), or (band, y, x) with ``bands``; NaN = nodata.
        bands: Names of the bands.

    Raises:
        SpecError: The values have another shape than the grid, or are no numbers.
    """
    rasters = rasters_of(coverage, values, bands)
    size, totals = array_totals(coverage, rasters, Wanted.of(_STATISTICS))
    return _table(coverage, size, totals, bands)


def _table(
    coverage: Coverage,
    size: npt.NDArray[np.float64],
    totals: Totals,
    bands: tuple[str, ...] | None,
) -> pd.DataFrame:
    total, mean, std = _STATISTICS
    columns: dict[str, FloatArray] = {}
    for i, prefix in enumerate([f"{band}_" for band in bands] if bands else [""]):
        weight = totals.weight(i)
        columns[f"{prefix}sum"] = np.where(weight > 0, totals.value(total, i), 0.0)
        columns[f"{prefix}mean"] = totals.value(mean, i)
        columns[f"{prefix}std"] = totals.value(std, i)
        columns[f"{prefix}valid_share"] = np.divide(
            weight, size, out=np.zeros_like(size), where=size > 0
        )
    return pd.DataFrame({**columns, "covered_share": coverage.covered_share})
