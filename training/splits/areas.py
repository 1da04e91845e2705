"""Polygons and windows as pixels: which windows hold what a fold learns from and scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cube.coverage import Coverage
from cube.errors import SplitError
from cube.windows import Windows, box_sums, footprint

IntArray = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldSplit:
    """One fold: what trains, what stops the training, what is scored.

    Attributes:
        fold: Its number, from 0.
        train_windows: Ids of windows that hold a pixel of a training polygon.
        validation_windows: Ids of windows that hold a pixel of a validation
            polygon; they lie in the training area and may overlap its windows.
        test_windows: Ids of windows that hold a pixel of a test polygon.
        train_polygons: Polygons that the model learns from.
        validation_polygons: Polygons that decide when to stop: in the training
            area, but not learned from. They are never scored.
        test_polygons: Polygons that are scored.
    """

    fold: int
    train_windows: IntArray
    validation_windows: IntArray
    test_windows: IntArray
    train_polygons: IntArray
    validation_polygons: IntArray
    test_polygons: IntArray

    @property
    def fitted_polygons(self) -> IntArray:
        """Training and validation polygons: what every method of this fold may use."""
        return np.sort(np.concatenate([self.train_polygons, self.validation_polygons]))


def check_folds(number: IntArray, coverage: Coverage, windows: Windows) -> None:
    """Refuse folds that are not of these polygons, and windows of another grid.

    Raises:
        SplitError: See there.
    """
    if number.shape != (coverage.polygons,):
        raise SplitError(
            f"One fold per polygon was expected, {coverage.polygons}. Received {number.shape}."
        )
    if tuple(coverage.grid.shape) != windows.shape:
        raise SplitError(
            f"Windows lie on a grid of {windows.shape}, the polygons on {coverage.grid.shape}."
        )
    if number.min() < 0 or len(np.unique(number)) != number.max() + 1 or number.max() < 1:
        raise SplitError("Folds are numbered from 0 without gaps, and there are at least 2.")


def owner_of(coverage: Coverage, windows: Windows) -> npt.NDArray[np.int32]:
    """Polygon with the largest share of each pixel, -1 outside all, int32 (y, x)."""
    return coverage.shares((0, windows.shape[0]), (0, windows.shape[1])).owner()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Area:
    """What one polygon more or less means for windows.

    Attributes:
        owner: Polygon with the largest share of each pixel, -1 outside all, int32 (y, x).
        number: Fold that scores each polygon, int64 (polygon,).
        windows: Over the same grid.
        buffer_px: Pixels between training and test windows, at least.
        min_label_share: Training windows hold at least this share of labelled pixels, 0..1.
    """

    owner: npt.NDArray[np.int32]
    number: IntArray
    windows: Windows
    buffer_px: int
    min_label_share: float

    def test_pixels(self, fold: int) -> Mask:
        """Pixels of polygons that a fold scores, bool (y, x)."""
        owned = self.owner >= 0
        mask: Mask = owned & (self.number == fold)[np.where(owned, self.owner, 0)]
        return mask

    def test_windows(self, fold: int) -> IntArray:
        """Ids of windows that hold a pixel of a test polygon."""
        return self._holding(np.arange(len(self.windows)), self.test_pixels(fold))

    def free_windows(self, fold: int) -> IntArray:
        """Ids of windows far from all test windows, with labels enough to train on."""
        windows, test = self.windows, self.test_pixels(fold)
        scored = windows.origins(self.test_windows(fold))
        far = _far_from(footprint(windows.shape, scored, windows.size), windows, self.buffer_px)
        held = box_sums((self.owner >= 0) & ~test, windows.origins(), windows.size)
        return np.flatnonzero(far & (held / windows.size**2 >= self.min_label_share))

    def fold(self, fold: int, train: IntArray, validation: IntArray) -> FoldSplit:
        """One fold, once its training and validation polygons are drawn."""
        near = self.free_windows(fold)
        return FoldSplit(
            fold=fold,
            train_windows=self._holding(near, np.isin(self.owner, train)),
            validation_windows=self._holding(near, np.isin(self.owner, validation)),
            test_windows=self.test_windows(fold),
            train_polygons=train,
            validation_polygons=validation,
            test_polygons=np.flatnonzero(self.number == fold),
        )

    def _holding(self, ids: IntArray, pixels: Mask) -> IntArray:
        return ids[box_sums(pixels, self.windows.origins(ids), self.windows.size) > 0]


def _far_from(
    area: npt.NDArray[np.bool_], windows: Windows, buffer_px: int
) -> npt.NDArray[np.bool_]:
    """Windows with at least ``buffer_px`` pixels between them and an area; bool (window,)."""
    padded = np.pad(area, buffer_px)
    # In the padded raster a window grown by the buffer starts where the window itself did.
    near = box_sums(padded, windows.origins(), windows.size + 2 * buffer_px)
    return near == 0


def whole_inside(
    owner: npt.NDArray[np.int32], area: npt.NDArray[np.bool_], polygons: int
) -> npt.NDArray[np.bool_]:
    """Polygons that own a pixel, and all of whose pixels lie in the area; bool (polygon,)."""
    owned = np.bincount(owner[owner >= 0], minlength=polygons)
    inside = np.bincount(owner[(owner >= 0) & area], minlength=polygons)
    return (owned > 0) & (inside == owned)
