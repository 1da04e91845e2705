"""Which windows train and which are scored: by place, with a buffer, checked.

A window belongs to the places whose pixels it holds. The test windows of a
fold are all windows that hold a pixel of a test polygon; its training windows
lie at least the buffer away from every one of them, so no pixel that the
model saw is ever nearer than that to a pixel it is scored with.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cube.coverage import Coverage
from cube.errors import SplitError
from cube.spec import digest
from cube.windows import Windows, box_sums, footprint, gap

IntArray = npt.NDArray[np.int64]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A cross-validation by place.

    Attributes:
        kind: How it was made; stands in every score.
        windows: The windows that ids refer to.
        buffer_px: Pixels between training and test windows, at least.
        coverage: Name of the polygon set.
        polygons_digest: Of its geometries.
        folds: One per fold, in order.
        polygon_fold: Fold in which each polygon is scored, int (polygon,).
        seed: Of the choice of validation polygons.
    """

    kind: str
    windows: Windows
    buffer_px: int
    coverage: str
    polygons_digest: str
    folds: tuple[FoldSplit, ...]
    polygon_fold: IntArray
    seed: int

    def masks(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Fitted and test polygons by fold: two bool arrays (fold, polygon)."""
        fitted = np.zeros((len(self.folds), len(self.polygon_fold)), dtype=bool)
        test = np.zeros_like(fitted)
        for part in self.folds:
            fitted[part.fold, part.fitted_polygons] = True
            test[part.fold, part.test_polygons] = True
        return fitted, test

    @property
    def lost_share(self) -> float:
        """Share of possible training polygons that the buffer costs, mean over folds, 0..1."""
        fitted, test = self.masks()
        return float(np.mean(1 - fitted.sum(axis=1) / (~test).sum(axis=1)))

    def to_dict(self) -> dict[str, Any]:
        """The manifest, JSON-able; windows follow from it and are left out."""
        return {
            "kind": self.kind,
            "window": {"size": self.windows.size, "stride": self.windows.stride},
            "grid_shape": list(self.windows.shape),
            "buffer_px": self.buffer_px,
            "coverage": self.coverage,
            "polygons_digest": self.polygons_digest,
            "polygon_fold": self.polygon_fold.tolist(),
            "seed": self.seed,
            "folds": [
                {
                    "fold": part.fold,
                    "train_polygons": part.train_polygons.tolist(),
                    "validation_polygons": part.validation_polygons.tolist(),
                    "train_windows": len(part.train_windows),
                    "test_windows": len(part.test_windows),
                }
                for part in self.folds
            ],
        }

    @property
    def digest(self) -> str:
        """First 12 hex digits of the SHA-256 of the manifest."""
        return digest(self.to_dict())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the manifest as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")

    def __str__(self) -> str:
        fitted, _ = self.masks()
        counts = ", ".join(str(n) for n in fitted.sum(axis=1))
        return (
            f"{self.kind}: {len(self.folds)} folds of {len(self.polygon_fold)} polygons, windows "
            f"of {self.windows.size} px, buffer {self.buffer_px} px; the buffer takes "
            f"{self.lost_share:.0%} of the training polygons ({counts} are left)"
            f"{self._unwatched()}"
        )

    def _unwatched(self) -> str:
        """Says so where a fold has no validation polygons: it stops by its own loss."""
        folds = [str(p.fold + 1) for p in self.folds if not len(p.validation_polygons)]
        return f"; no validation polygons in fold {', '.join(folds)}" if folds else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRules:
    """How a split by polygons is made.

    Attributes:
        seed: Of the folds and of the choice of validation polygons.
        buffer_px: Pixels between training and test windows, at least; no less
            than a window, or neighbours would share texture. None takes a window.
        validation_share: Share of the training polygons that decide when to stop, 0..0.5.
        min_label_share: Training windows hold at least this share of labelled pixels, 0..1.
    """

    seed: int
    buffer_px: int | None = None
    validation_share: float = 0.15
    min_label_share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.validation_share <= 0.5:
            raise SplitError(
                f"validation_share must be from 0 to 0.5. Received {self.validation_share}."
            )
        if not 0 <= self.min_label_share <= 1:
            raise SplitError(f"min_label_share is from 0 to 1. Received {self.min_label_share}.")

    def buffer(self, windows: Windows) -> int:
        """Buffer in pixels.

        Raises:
            SplitError: It is smaller than a window.
        """
        buffer = windows.size if self.buffer_px is None else self.buffer_px
        if buffer < windows.size:
            raise SplitError(
                f"The buffer must be at least a window, {windows.size} px. Received {buffer}."
            )
        return buffer


def split_by_polygons(
    coverage: Coverage,
    windows: Windows,
    folds: npt.ArrayLike,
    rules: SplitRules,
    *,
    groups: npt.ArrayLike | None = None,
) -> Split:
    """Cross-validate by folds of polygons, with a buffer between windows.

    Args:
        coverage: Shares of the polygons.
        windows: Windows over the same grid.
        folds: Fold of each polygon, int (polygon,), from 0 without gaps.
        rules: Buffer, validation and seed.
        groups: Validation polygons are drawn by these, whole; each for itself by default.

    Raises:
        SplitError: A fold has nothing left to train on; or training and test
            windows come nearer than the buffer.
    """
    number = np.asarray(folds, dtype="int64")
    _check_folds(number, coverage, windows)
    group = np.arange(len(number)) if groups is None else np.unique(groups, return_inverse=True)[1]
    owner = coverage.shares((0, windows.shape[0]), (0, windows.shape[1])).owner()
    parts = tuple(
        _fold_split(fold, number, group, owner, windows, rules)
        for fold in range(int(number.max()) + 1)
    )
    split = Split(
        kind="by place",
        windows=windows,
        buffer_px=rules.buffer(windows),
        coverage=coverage.name,
        polygons_digest=coverage.digest,
        folds=parts,
        polygon_fold=number,
        seed=rules.seed,
    )
    for part in parts:
        seen = np.union1d(part.train_windows, part.validation_windows)
        check_leaks(windows, seen, part.test_windows, buffer_px=rules.buffer(windows))
    return split


def _check_folds(number: IntArray, coverage: Coverage, windows: Windows) -> None:
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


def _fold_split(
    fold: int,
    number: IntArray,
    group: IntArray,
    owner: npt.NDArray[np.int32],
    windows: Windows,
    rules: SplitRules,
) -> FoldSplit:
    is_test = number == fold
    owned = owner >= 0
    test_pixels = owned & is_test[np.where(owned, owner, 0)]
    origins = windows.origins()
    test = np.flatnonzero(box_sums(test_pixels, origins, windows.size))
    far = _far_from(
        footprint(windows.shape, origins[test], windows.size), windows, rules.buffer(windows)
    )
    labelled = box_sums(owned & ~test_pixels, origins, windows.size) / windows.size**2
    train = np.flatnonzero(far & (labelled >= rules.min_label_share))
    area = footprint(windows.shape, origins[train], windows.size)
    fitted = _whole_inside(owner, area, len(number)) & ~is_test
    if fitted.sum() < 2:
        raise SplitError(
            f"Fold {fold} has {int(fitted.sum())} polygons left to train on. Use a smaller buffer "
            f"or window, or fewer folds."
        )
    validation = _draw(np.flatnonzero(fitted), group, rules, fold)
    learned = np.setdiff1d(np.flatnonzero(fitted), validation)
    near = {"train": learned, "validation": validation}
    held = {
        name: train[box_sums(np.isin(owner, members), origins[train], windows.size) > 0]
        for name, members in near.items()
    }
    return FoldSplit(
        fold=fold,
        train_windows=held["train"],
        validation_windows=held["validation"],
        test_windows=test,
        train_polygons=learned,
        validation_polygons=validation,
        test_polygons=np.flatnonzero(is_test),
    )


def _far_from(
    area: npt.NDArray[np.bool_], windows: Windows, buffer_px: int
) -> npt.NDArray[np.bool_]:
    """Windows with at least ``buffer_px`` pixels between them and an area; bool (window,)."""
    padded = np.pad(area, buffer_px)
    # In the padded raster a window grown by the buffer starts where the window itself did.
    near = box_sums(padded, windows.origins(), windows.size + 2 * buffer_px)
    return near == 0


def _whole_inside(
    owner: npt.NDArray[np.int32], area: npt.NDArray[np.bool_], polygons: int
) -> npt.NDArray[np.bool_]:
    """Polygons that own a pixel, and all of whose pixels lie in the area; bool (polygon,)."""
    owned = np.bincount(owner[owner >= 0], minlength=polygons)
    inside = np.bincount(owner[(owner >= 0) & area], minlength=polygons)
    return (owned > 0) & (inside == owned)


def _draw(fitted: IntArray, group: IntArray, rules: SplitRules, fold: int) -> IntArray:
    """Whole groups at random until the share is reached; at least one polygon trains."""
    wanted = round(rules.validation_share * len(fitted))
    rng = np.random.default_rng([rules.seed, fold])
    chosen: list[int] = []
    for member in rng.permutation(np.unique(group[fitted])):
        more = fitted[group[fitted] == member]
        if len(chosen) + len(more) <= wanted:
            chosen.extend(more.tolist())
    return np.sort(np.array(chosen, dtype="int64"))


def check_leaks(
    windows: Windows, train: npt.ArrayLike, test: npt.ArrayLike, *, buffer_px: int
) -> int:
    """Refuse training windows that come nearer to a test window than the buffer.

    Args:
        windows: What ids refer to.
        train: Ids of the windows that are streamed for training.
        test: Ids of the windows that are scored.
        buffer_px: Pixels between them, at least.

    Returns:
        The smallest distance in pixels.

    Raises:
        SplitError: Some come nearer; the message counts them.
    """
    learned, scored = windows.origins(train), windows.origins(test)
    if not len(learned) or not len(scored):
        raise SplitError(
            f"Nothing to compare: {len(learned)} training, {len(scored)} test windows."
        )
    distance = gap(learned, scored, windows.size)
    if distance.min() < buffer_px:
        raise SplitError(
            f"Leak: {int((distance < buffer_px).sum())} of {len(learned)} training windows lie "
            f"nearer than {buffer_px} px to a test window, the nearest at {int(distance.min())} px "
            f"(below 0: they overlap). Split by place, with a larger buffer."
        )
    return int(distance.min())
