"""One stack of a box as chips have it: channels last."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cube.reading import read_bands
from cube.regions import Region
from cube.spec import CubeSpec
from training.samples import SampleSpec


def read_channels_last(
    url: str,
    spec: CubeSpec,
    sample: SampleSpec,
    stack: str,
    *,
    rows: tuple[int, int],
    cols: tuple[int, int],
) -> npt.NDArray[Any]:
    """Stored values of a sample's bands of one stack in a pixel box, (y, x, band)."""
    wanted = next(s for s in sample.inputs if s.stack == stack)
    region = Region(time=sample.time_of(spec, stack), rows=rows, cols=cols)
    bands = read_bands(url, stack, region, spec=spec, bands=wanted.bands)
    return np.ascontiguousarray(np.moveaxis(bands, 0, -1))
