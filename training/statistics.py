"""Mean and deviation of every input band over the training pixels, in one pass."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cube import nodata, urls
from cube.errors import SplitError
from cube.reading import read_bands
from cube.regions import Region, tiles
from cube.template import read_spec
from cube.windows import Windows, footprint
from training.samples import SampleSpec
from training.stream import Supervision
from training.targets import pixel_km2

TILE = 512
"""Side of the tiles that are read at once; sums do not depend on the cube's chunks."""

_DUST = 1e-12
"""Share of the mean below which a deviation is rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Mean and deviation per channel.

    Attributes:
        mean: float64 (channel,).
        std: Population deviation, float64 (channel,); 1 for a channel without any.
        count: Observed pixels, int64 (channel,).
    """

    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]


@dataclass(slots=True)
class _Running:
    """Moments of pixels seen so far, merged by Chan, Golub and LeVeque (1983).

    doi 10.1080/00031305.1983.10483115
    """

    count: npt.NDArray[np.int64]
    mean: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]

    def add(self, values: npt.NDArray[Any]) -> None:
        """Merge values of shape (channel, pixel), NaN left out."""
        seen = ~np.isnan(values)
        count = seen.sum(axis=1)
        filled = np.where(seen, values, 0.0)
        mean = filled.sum(axis=1) / np.maximum(count, 1)
        squares = (np.where(seen, filled - mean[:, None], 0.0) ** 2).sum(axis=1)
        both = np.maximum(self.count + count, 1)
        apart = mean - self.mean
        self.squares += squares + apart**2 * self.count * count / both
        self.mean += apart * count / both
        self.count += count

    def moments(self) -> Moments:
        std = np.sqrt(self.squares / np.maximum(self.count, 1))
        # The sum of a constant leaves dust of about 1e-16 of it, by which nothing may be divided.
        spread = std > _DUST * np.abs(self.mean)
        return Moments(mean=self.mean, std=np.where(spread, std, 1.0), count=self.count)


def training_moments(
    url: str | os.PathLike[str],
    sample: SampleSpec,
    windows: Windows,
    ids: npt.ArrayLike,
    *,
    supervision: Supervision | None = None,
) -> dict[str, Moments]:
    """Statistics of every input band, and of the target, over the windows that train.

    A pixel counts once, however many windows hold it; nodata is left out.

    Args:
        url: The cube.
        sample: Inputs and target.
        windows: What ids refer to.
        ids: Training windows; pixels outside them are never read into a sum.
        supervision: Pixels that weigh nothing are left out of the label's statistics.

    Returns:
        Stack name to moments per band of physical values, and ``"label"`` to
        those of what the model learns.

    Raises:
        SplitError: A band or the label has no observed pixel there.
    """
    url, spec = urls.normalise(url), read_spec(urls.normalise(url))
    area = footprint(windows.shape, windows.origins(ids), windows.size)
    area_km2 = pixel_km2(spec.grid) if sample.target.per == "km2" else 1.0
    names = [s.stack for s in sample.inputs]
    sizes = [len(s.bands) for s in sample.inputs]
    running = {
        name: _Running(np.zeros(n, "int64"), np.zeros(n), np.zeros(n))
        for name, n in zip([*names, "label"], [*sizes, 1], strict=True)
    }
    for tile in tiles(windows.shape, TILE):
        inside = area[tile.slices]
        if not inside.any():
            continue
        for stack in sample.inputs:
            region = Region(time=sample.time_of(spec, stack.stack), rows=tile.rows, cols=tile.cols)
            stored = read_bands(url, stack.stack, region, spec=spec, bands=stack.bands)
            physical = nodata.decode(stored, spec.stack(stack.stack)).astype("float64")
            running[stack.stack].add(physical[:, inside])
        layer = spec.layer(sample.target.layer)
        region = Region(time=sample.time_of(spec, layer.name), rows=tile.rows, cols=tile.cols)
        label = nodata.decode(read_bands(url, layer.name, region, spec=spec), layer)
        learned = sample.target.forward(label, pixel_km2=area_km2)
        counted = inside
        if supervision is not None:
            counted = inside & (supervision.weights(tile.rows, tile.cols) > 0)
        running["label"].add(learned[None, counted])
    found = {name: sums.moments() for name, sums in running.items()}
    _check_seen(found)
    return found


def _check_seen(found: dict[str, Moments]) -> None:
    for name, moments in found.items():
        if (moments.count == 0).any():
            raise SplitError(
                f"{name!r} has no observed pixel in the training windows; ingest it, or choose "
                f"other windows."
            )
