"""Which polygons a model learns from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from cube.coverage import Coverage, Shares
from cube.errors import SpecError

WHOLE = 0.999
"""Covered share from which a pixel counts as covered: shares are float32 when computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """Which polygons a model learns from: each counts the same, whatever its size.

    Attributes:
        coverage: Shares of the polygons.
        polygons: Those that count; the pixels of all others weigh nothing.
    """

    coverage: Coverage
    polygons: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        given, count = np.asarray(self.polygons), self.coverage.polygons
        whole = given.ndim == 1 and given.dtype.kind in "iu" and len(given) > 0
        if not (whole and given.min() >= 0 and given.max() < count) or len(np.unique(given)) < len(
            given
        ):
            raise SpecError(
                f"polygons= takes numbers of polygons, from 0 to {count - 1}, each once. Received "
                f"{given.dtype} {np.array2string(given, threshold=6)}."
            )
        object.__setattr__(self, "polygons", given.astype("int64"))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; the coverage by its digest."""
        return {"coverage": self.coverage.digest, "polygons": self.polygons.tolist()}

    def weights(self, rows: tuple[int, int], cols: tuple[int, int]) -> npt.NDArray[np.float32]:
        """Weight of every pixel of a box, float32 (y, x); about 1 on average, 0 outside.

        A pixel that reaches beyond all polygons weighs nothing: it holds the
        people of a part of it, so its density would come out too low.
        """
        counted = _counted_pixels(self.coverage)[self.polygons]
        per_polygon = np.zeros(self.coverage.polygons + 1, "float32")
        per_polygon[self.polygons] = counted.mean() / np.maximum(counted, 1)
        # An owner of -1, no polygon, reads the last place, which stays 0.
        return per_polygon[_counted_owner(self.coverage.shares(rows, cols))]


def _counted_owner(shares: Shares) -> npt.NDArray[np.int32]:
    """Polygon that a pixel counts for, -1 for none; int32 (y, x)."""
    return np.where(shares.covered() > WHOLE, shares.owner(), np.int32(-1))


@lru_cache(maxsize=16)
def _counted_pixels(coverage: Coverage) -> npt.NDArray[np.int64]:
    """Number of pixels that count for each polygon, int64 (polygon,)."""
    total = np.zeros(coverage.polygons, "int64")
    for tile in coverage.tiles():
        owner = _counted_owner(coverage.shares(tile.rows, tile.cols))
        total += np.bincount(owner[owner >= 0], minlength=coverage.polygons)
    return total
