"""What statistics are made of: sums of a tile's pixels by polygon, and those of all tiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cube.blocks import class_counts, quantiles
from cube.blocks.statistics import Statistic, propagated_error, standard_error
from cube.blocks.tile_runs import TileRuns

FloatArray = npt.NDArray[np.floating[Any]]

WEIGHT, TOTAL, LOW, HIGH, SQUARES, WEIGHT2 = range(6)
"""Rows of a table of moments: sum of weights, sum of weight x value, least and greatest value,
sum of weight x squared deviation from the mean, sum of squared weights."""

SIMPLE, FULL = 4, 6
"""Number of rows without and with those that variances need."""

Part = Mapping[str, Any]
"""Sums of one tile by kind; the last axis of each is the tile's polygons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to sum of one layer or stack.

    Attributes:
        spread: Squared deviations too.
        weighted: Products with a raster of weights too.
        errors: Squared errors of pixels too.
        levels: Levels of quantiles.
        classes: Number of classes; 0 for measurements, of which moments are summed.
    """

    spread: bool = False
    weighted: bool = False
    errors: bool = False
    levels: tuple[float, ...] = ()
    classes: int = 0

    @property
    def rows(self) -> int:
        """Rows of the table of moments."""
        return FULL if self.spread else SIMPLE

    @classmethod
    def of(cls, wanted: Sequence[Statistic], *, errors: bool = False, classes: int = 0) -> Self:
        """What statistics need."""
        families = {statistic.family for statistic in wanted}
        levels = {s.level for s in wanted if s.family == "order"}
        return cls(
            spread="spread" in families or ("error" in families and not errors),
            weighted="weighted" in families,
            errors="error" in families and errors,
            levels=tuple(sorted(levels)),
            classes=classes,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rasters:
    """Rasters of a box of whole tiles.

    Attributes:
        values: Floats (band, y, x), NaN = nodata; or of classes int16 places (1, y, x), -1.
        weights: Floats (y, x), 0 or more, NaN where unknown.
        errors: Floats (band, y, x), 0 or more, NaN where unknown: standard deviations.
    """

    values: npt.NDArray[Any]
    weights: FloatArray | None = None
    errors: FloatArray | None = None


def measure(
    rasters: Rasters,
    place: tuple[int, int],
    tile: TileRuns,
    wanted: Wanted,
    spanning: npt.NDArray[np.int64],
) -> Part:
    """Sums of one tile.

    Args:
        rasters: Of a box that holds it.
        place: Row and column at which it begins there.
        tile: Its polygons.
        wanted: What to sum.
        spanning: Places of polygons that meet other tiles too; for quantiles.
    """
    from cube.blocks import moments

    count, polygons = len(rasters.values), len(tile.members)
    at = (*place, tile.runs, tile.edges)
    if wanted.classes:
        found = np.empty((wanted.classes, polygons))
        moments.count_classes(rasters.values[0], *at, found)
        return {"classes": found[None]}
    part: dict[str, Any] = {"moments": np.empty((count, wanted.rows, polygons))}
    for band, table in zip(rasters.values, part["moments"], strict=True):
        moments.measure(band, *at, tile.size, table)
    if wanted.levels:
        part |= _order(rasters.values, place, tile, wanted, spanning)
    if wanted.weighted or wanted.errors:
        part |= _beside(rasters, at, polygons)
    return part


def _beside(rasters: Rasters, at: tuple[int, int, Any, Any], polygons: int) -> dict[str, Any]:
    """Sums of values beside weights and errors, of those that there are."""
    from cube.blocks import moments

    count, part = len(rasters.values), {}
    if rasters.weights is not None:
        part["weighted"] = np.empty((count, SIMPLE, polygons))
        for band, table in zip(rasters.values, part["weighted"], strict=True):
            moments.measure_weighted(band, rasters.weights, *at, table)
    if rasters.errors is not None:
        part["errors"] = np.empty((count, 3, polygons))
        for band, error, table in zip(rasters.values, rasters.errors, part["errors"], strict=True):
            moments.propagate(band, error, *at, table)
    return part


def _order(
    values: FloatArray,
    place: tuple[int, int],
    tile: TileRuns,
    wanted: Wanted,
    spanning: npt.NDArray[np.int64],
) -> dict[str, Any]:
    """Quantiles of polygons of this tile alone, and histograms of the others."""
    return {
        "quantiles": np.stack(
            [
                quantiles.sorted_out(band, place, tile, spanning=spanning, levels=wanted.levels)
                for band in values
            ]
        ),
        "histograms": [
            quantiles.histograms(band, place, tile, spanning=spanning) for band in values
        ],
    }


class Totals:
    """Sums of all tiles of one layer, or of every band of a stack, by polygon.

    Tiles are to be added in their row-major order, so that sums are the same to the bit whoever
    did them.
    """

    def __init__(self, wanted: Wanted, polygons: int, bands: int = 1) -> None:
        self.wanted = wanted
        self._sums: dict[str, npt.NDArray[np.float64]] = {}
        if wanted.classes:
            self._sums["classes"] = np.zeros((1, wanted.classes, polygons))
            return
        self._sums["moments"] = _no_moments(bands, wanted.rows, polygons)
        if wanted.weighted:
            self._sums["weighted"] = _no_moments(bands, SIMPLE, polygons)
        if wanted.errors:
            self._sums["errors"] = np.zeros((bands, 3, polygons))
        if wanted.levels:
            self._sums["quantiles"] = np.full((bands, len(wanted.levels), polygons), np.nan)

    def add(self, members: npt.NDArray[np.int32], part: Part) -> None:
        """Add the sums of the next tile."""
        from cube.blocks import moments

        for kind, total in self._sums.items():
            if kind in ("moments", "weighted"):
                for table, found in zip(total, part[kind], strict=True):
                    moments.merge(table, members, found)
            elif kind == "quantiles":
                known = ~np.isnan(part[kind])
                total[:, :, members] = np.where(known, part[kind], total[:, :, members])
            else:
                total[:, :, members] += part[kind]

    def put_quantiles(
        self, band: int, polygons: npt.NDArray[Any], values: npt.NDArray[np.float64]
    ) -> None:
        """Set the quantiles of polygons that span tiles, float64 (level, polygon)."""
        self._sums["quantiles"][band][:, polygons] = values

    def weight(self, band: int) -> npt.NDArray[np.float64]:
        """Sum of shares of valid pixels, float64 (polygon,)."""
        if self.wanted.classes:
            return class_counts.added_up(self._sums["classes"][0])
        return self._sums["moments"][band][WEIGHT]

    @property
    def classes(self) -> npt.NDArray[np.float64]:
        """Sum of shares of each class, float64 (class, polygon)."""
        return self._sums["classes"][0]

    def value(
        self, statistic: Statistic, band: int, *, correlation_px: float = 0.0
    ) -> npt.NDArray[np.float64]:
        """A statistic of measurements, or a count, float64 (polygon,).

        Without a valid pixel it is NaN, and a count 0.
        """
        if statistic.family == "count":
            return self.weight(band).copy()
        if statistic.family == "order":
            return self._sums["quantiles"][band][self.wanted.levels.index(statistic.level)].copy()
        if statistic.family == "error" and self.wanted.errors:
            weight, weight2, total = self._sums["errors"][band]
            return propagated_error(weight, weight2, total, correlation_px)
        table = self._sums["weighted" if statistic.family == "weighted" else "moments"][band]
        seen = table[WEIGHT] > 0
        if statistic.name == "standard_error":
            weight, squares, weight2 = table[WEIGHT], table[SQUARES], table[WEIGHT2]
            error = standard_error(weight, weight2, squares, correlation_px)
            return np.where(np.isfinite(table[TOTAL]), error, np.nan)
        return np.where(seen, _SIMPLE[statistic.name.removeprefix("weighted_")](table), np.nan)


def _no_moments(bands: int, rows: int, polygons: int) -> npt.NDArray[np.float64]:
    """Tables of polygons of which nothing was seen yet, float64 (band, row, polygon)."""
    out = np.zeros((bands, rows, polygons))
    out[:, LOW], out[:, HIGH] = math.inf, -math.inf
    return out


def _quotient(table: FloatArray, row: int) -> npt.NDArray[np.float64]:
    out = np.zeros(table.shape[1])
    return np.divide(table[row], table[WEIGHT], out=out, where=table[WEIGHT] > 0)


def _mean(table: FloatArray) -> npt.NDArray[np.float64]:
    # Between the least and the greatest value, so that the mean of a constant is the constant.
    return np.minimum(np.maximum(_quotient(table, TOTAL), table[LOW]), table[HIGH])


def _variance(table: FloatArray) -> npt.NDArray[np.float64]:
    # Values that are infinite have no deviations.
    return np.where(np.isfinite(table[TOTAL]), _quotient(table, SQUARES), np.nan)


_SIMPLE: dict[str, Callable[[FloatArray], npt.NDArray[np.float64]]] = {
    "sum": lambda table: table[TOTAL],
    "mean": _mean,
    "min": lambda table: table[LOW],
    "max": lambda table: table[HIGH],
    "variance": _variance,
    "std": lambda table: np.sqrt(_variance(table)),
}
