"""Tables of image statistics per polygon, for methods that see no pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cube import nodata
from cube.blocks.collecting import collect, collect_array
from cube.coverage import Coverage
from cube.reading import read_bands
from cube.regions import Region
from cube.spec import CubeSpec
from cube.template import read_spec
from inference.baselines import context_mean, context_std
from training.samples import InputStack, SampleSpec

if TYPE_CHECKING:
    from distributed import Client

CONTEXT_PX = (11, 21, 41)
"""Sides of the moving windows of :func:`context_features`, in pixels."""


def polygon_features(
    coverage: Coverage, sample: SampleSpec, *, client: Client | None = None
) -> pd.DataFrame:
    """Mean and deviation of every input band inside each polygon.

    Args:
        coverage: Shares of the polygons.
        sample: Which bands, and at which time.
        client: A Dask client; None runs on local threads.

    Returns:
        float64, a row per polygon, columns ``<stack>_<band>_mean`` and ``_std``
        in the band's units. The size of a polygon is not among them: where
        tracts are drawn to hold equally many people, it would give the answer away.
    """
    spec = read_spec(coverage.url)
    parts = []
    for wanted in sample.inputs:
        index = sample.time_of(spec, wanted.stack)
        time = None if index is None else spec.calendar[index].label
        table = collect(coverage, wanted.stack, time=time, client=client)
        columns = [f"{band}_{what}" for band in wanted.bands for what in ("mean", "std")]
        parts.append(table[columns].add_prefix(f"{wanted.stack}_"))
    return pd.concat(parts, axis=1)


def context_features(
    coverage: Coverage, sample: SampleSpec, *, sizes: Sequence[int] = CONTEXT_PX
) -> pd.DataFrame:
    """What surrounds each polygon: moving-window means and deviations, averaged inside it.

    Args:
        coverage: Shares of the polygons.
        sample: Which bands, and at which time.
        sizes: Sides of the windows in pixels, odd.

    Returns:
        float64, a row per polygon, columns ``<stack>_<band>_mean<size>`` and ``_std<size>``.
    """
    spec = read_spec(coverage.url)
    columns: dict[str, npt.NDArray[np.float64]] = {}
    for wanted in sample.inputs:
        for band, values in zip(wanted.bands, _whole(coverage, spec, sample, wanted), strict=True):
            for size in sizes:
                name = f"{wanted.stack}_{band}"
                for what, window in (("mean", context_mean), ("std", context_std)):
                    moving = window(values, ~np.isnan(values), size=size)
                    columns[f"{name}_{what}{size}"] = collect_array(coverage, moving)[
                        "mean"
                    ].to_numpy()
    return pd.DataFrame(columns)


def _whole(
    coverage: Coverage, spec: CubeSpec, sample: SampleSpec, wanted: InputStack
) -> npt.NDArray[np.floating[Any]]:
    """Physical values of the whole grid, (band, y, x); windows need their surroundings."""
    height, width = spec.grid.shape
    region = Region(
        time=sample.time_of(spec, wanted.stack), rows=(0, int(height)), cols=(0, int(width))
    )
    stored = read_bands(coverage.url, wanted.stack, region, spec=spec, bands=wanted.bands)
    return nodata.decode(stored, spec.stack(wanted.stack))
