"""The chip index: one row per window, filled in one streaming pass."""

from __future__ import annotations

import os

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely

from cube import nodata, urls
from cube.reading import read_bands
from cube.regions import Region
from cube.spec import CubeSpec, crs_text
from cube.template import read_spec
from cube.windows import Windows
from training.blocks import Block, plan_blocks
from training.samples import SampleSpec

BLOCK_PX = 512
"""Side of the blocks that the pass reads."""


def index_chips(
    url: str | os.PathLike[str], sample: SampleSpec, windows: Windows
) -> gpd.GeoDataFrame:
    """Say of every window what it holds, so that one can choose without reading chips.

    Args:
        url: The cube.
        sample: Inputs and label.
        windows: Which windows.

    Returns:
        One row per window, in their order, in the grid's CRS: ``chip`` (id),
        ``row`` and ``col`` of the first pixel, ``valid_share`` of pixels at which
        all inputs were observed, ``label_share`` of pixels with a label,
        ``label_mean`` of the label layer's own values (NaN without any), and the
        window's outline. Write it with ``to_parquet`` for GeoParquet.
    """
    url = urls.normalise(url)
    spec = read_spec(url)
    sample.check(spec)
    ids = np.arange(len(windows))
    sums = np.zeros((3, len(windows)))
    for block in plan_blocks(windows, ids, block_px=BLOCK_PX):
        sums[:, block.ids] = _block_sums(url, spec, sample, windows, block)
    valid, labelled, total = sums
    origins = windows.origins()
    mean = np.divide(total, labelled, out=np.full(len(windows), np.nan), where=labelled > 0)
    return gpd.GeoDataFrame(
        {
            "chip": ids,
            "row": origins[:, 0],
            "col": origins[:, 1],
            "valid_share": valid / windows.size**2,
            "label_share": labelled / windows.size**2,
            "label_mean": mean,
        },
        geometry=_outlines(spec, windows),
        crs=crs_text(spec.grid),
    )


def _block_sums(
    url: str, spec: CubeSpec, sample: SampleSpec, windows: Windows, block: Block
) -> npt.NDArray[np.float64]:
    """Valid pixels, labelled pixels and sum of labels of each window, (3, window)."""
    valid = np.ones((block.rows[1] - block.rows[0], block.cols[1] - block.cols[0]), dtype=bool)
    for wanted in sample.inputs:
        region = Region(time=sample.time_of(spec, wanted.stack), rows=block.rows, cols=block.cols)
        stored = read_bands(url, wanted.stack, region, spec=spec, bands=wanted.bands)
        valid &= nodata.valid(stored, spec.stack(wanted.stack)).all(axis=0)
    layer = spec.layer(sample.target.layer)
    region = Region(time=sample.time_of(spec, layer.name), rows=block.rows, cols=block.cols)
    label = nodata.decode(read_bands(url, layer.name, region, spec=spec), layer)
    labelled = ~np.isnan(label)
    rasters = np.stack([valid, labelled, np.where(labelled, label, 0.0)])
    origins = windows.origins(block.ids) - (block.rows[0], block.cols[0])
    return _window_sums(rasters, origins, windows.size)


def _window_sums(
    rasters: npt.NDArray[np.float64], origins: npt.NDArray[np.int64], size: int
) -> npt.NDArray[np.float64]:
    """Sums of each raster in each window, by summed-area tables; (raster, window)."""
    table = np.pad(rasters.cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
    y, x = origins.T
    inner = table[:, y + size, x + size] + table[:, y, x]
    sums: npt.NDArray[np.float64] = inner - table[:, y, x + size] - table[:, y + size, x]
    return sums


def _outlines(spec: CubeSpec, windows: Windows) -> npt.NDArray[np.object_]:
    t = spec.grid.transform
    rows, cols = windows.origins().T
    left, top = t.c + cols * t.a, t.f + rows * t.e
    return shapely.box(left, top + windows.size * t.e, left + windows.size * t.a, top)
