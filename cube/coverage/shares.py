"""The matrix of polygons and pixels in one box of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]

NONE = -1
"""In the label raster: no polygon holds the whole pixel alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Entries of the matrix in one pixel box; positions are relative to the box.

    Attributes:
        label: int32 (y, x): index of the polygon that holds the whole pixel, or -1.
        pixel: int64 (entry,): flat index y * width + x of pixels not in ``label``.
        polygon: int32 (entry,): index of a polygon that holds part of it.
        share: float64 (entry,): the part of the pixel, 0..1.
    """

    label: npt.NDArray[np.int32]
    pixel: npt.NDArray[np.int64]
    polygon: npt.NDArray[np.int32]
    share: npt.NDArray[np.float64]

    @property
    def polygons(self) -> npt.NDArray[np.int32]:
        """Sorted indices of the polygons that meet the box."""
        return np.union1d(self.label[self.label >= 0], self.polygon).astype("int32")

    def collect(self, values: FloatArray) -> tuple[npt.NDArray[np.int32], FloatArray]:
        """Sum pixels into polygons, each times its share.

        Args:
            values: Floats of shape (k, y, x), finite.

        Returns:
            The polygons that meet the box, and float64 sums of shape (k, polygon).
        """
        members = self.polygons
        into, place, weight = self.entries(members)
        flat = values.reshape(len(values), -1).astype("float64", copy=False)
        sums = [np.bincount(into, band[place] * weight, len(members)) for band in flat]
        return members, np.array(sums, "float64").reshape(len(values), len(members))

    def entries(
        self, members: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """All entries: place of the polygon among ``members``, flat pixel index, share."""
        whole = np.flatnonzero(self.label >= 0)
        polygon = np.concatenate([self.label.ravel()[whole], self.polygon])
        into = np.searchsorted(members, polygon).astype("int64")
        weight = np.concatenate([np.ones(len(whole)), self.share])
        return into, np.concatenate([whole, self.pixel]), weight

    def spread(self, per_pixel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Add polygons up in pixels: the transpose of :meth:`collect`.

        Args:
            per_pixel: What a pixel wholly inside each polygon gets, float64 (polygon,).

        Returns:
            float64 (y, x): sum over polygons of share x value; 0 outside all.
        """
        inside = self.label >= 0
        out = np.where(inside, per_pixel[np.where(inside, self.label, 0)], 0.0)
        added = np.bincount(self.pixel, per_pixel[self.polygon] * self.share, out.size)
        return out + added.reshape(out.shape)

    def covered(self) -> npt.NDArray[np.float64]:
        """Share of each pixel inside any polygon, float64 (y, x); above 1 where they overlap."""
        added = np.bincount(self.pixel, self.share, self.label.size)
        return (self.label >= 0).astype("float64") + added.reshape(self.label.shape)

    def owner(self) -> npt.NDArray[np.int32]:
        """Index of the polygon with the largest share of each pixel, -1 outside; int32 (y, x).

        Of equal shares the first polygon wins.
        """
        out = self.label.copy().ravel()
        # Sorted so that the largest share, and of those the first polygon, is assigned last.
        order = np.lexsort((-self.polygon, self.share))
        out[self.pixel[order]] = self.polygon[order]
        return out.reshape(self.label.shape)
