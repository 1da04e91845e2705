"""Which windows train and which are scored: by place, with a buffer, checked.

A window belongs to the places whose pixels it holds. The test windows of a
fold are all windows that hold a pixel of a test polygon; its training windows
lie at least the buffer away from every one of them, so no pixel that the
model saw is ever nearer than that to a pixel it is scored with.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cube.coverage import Coverage
from cube.errors import SplitError
from cube.spec import digest
from cube.windows import Windows, box_sums, footprint
from training.splits import manifest
from training.splits.leaks import RANDOM, LeakGuard, check_leaks, note_of
from training.splits.rules import buffer_of

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
        min_label_share: Training windows hold at least this share of labelled pixels, 0..1.
        seed: Of the choice of validation polygons.
    """

    kind: str
    windows: Windows
    buffer_px: int
    coverage: str
    polygons_digest: str
    folds: tuple[FoldSplit, ...]
    polygon_fold: IntArray
    min_label_share: float
    seed: int

    @property
    def note(self) -> str:
        """What every score must say; empty if there is nothing to say."""
        return note_of(self.kind)

    def guard(self, fold: int) -> LeakGuard:
        """Watches over what is streamed for one fold."""
        return LeakGuard(
            windows=self.windows,
            test_windows=self.folds[fold].test_windows,
            buffer_px=self.buffer_px,
            refuses=self.kind != RANDOM,
        )

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
            "min_label_share": self.min_label_share,
            "seed": self.seed,
            "folds": [
                {
                    "fold": part.fold,
                    "train_polygons": part.train_polygons.tolist(),
                    "validation_polygons": part.validation_polygons.tolist(),
                    "train_windows": len(part.train_windows),
                    "validation_windows": len(part.validation_windows),
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
        """Write the manifest as JSON; :func:`training.splits.load_split` reads it."""
        manifest.write(path, self.to_dict())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], coverage: Coverage) -> Split:
        """Rebuild from :meth:`to_dict`; windows of parts are computed again, not checked.

        Raises:
            SplitError: The coverage is of other polygons or of another grid.
        """
        if data["polygons_digest"] != coverage.digest:
            raise SplitError(
                f"The split is of other polygons, {data['coverage']!r} {data['polygons_digest']}. "
                f"Received {coverage.name!r} {coverage.digest}."
            )
        windows = Windows(shape=tuple(data["grid_shape"]), **data["window"])
        number = np.asarray(data["polygon_fold"], dtype="int64")
        _check_folds(number, coverage, windows)
        area = _Area(
            owner=_owner(coverage, windows),
            number=number,
            windows=windows,
            buffer_px=data["buffer_px"],
            min_label_share=data["min_label_share"],
        )
        parts = ("train_polygons", "validation_polygons")
        drawn = [[np.asarray(p[name], dtype="int64") for name in parts] for p in data["folds"]]
        return cls(
            kind=data["kind"],
            windows=windows,
            buffer_px=data["buffer_px"],
            coverage=data["coverage"],
            polygons_digest=data["polygons_digest"],
            folds=tuple(area.fold(fold, *polygons) for fold, polygons in enumerate(drawn)),
            polygon_fold=number,
            min_label_share=data["min_label_share"],
            seed=data["seed"],
        )

    def __str__(self) -> str:
        fitted, _ = self.masks()
        counts = ", ".join(str(n) for n in fitted.sum(axis=1))
        return (
            f"{self.kind}: {len(self.folds)} folds of {len(self.polygon_fold)} polygons, windows "
            f"of {self.windows.size} px, buffer {self.buffer_px} px; the buffer takes "
            f"{self.lost_share:.0%} of the training polygons ({counts} are left)"
            f"{self._unwatched()}{f'; {self.note}' if self.note else ''}"
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
        return buffer_of(self.buffer_px, windows)


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
    area = _Area(
        owner=_owner(coverage, windows),
        number=number,
        windows=windows,
        buffer_px=rules.buffer(windows),
        min_label_share=rules.min_label_share,
    )
    parts = tuple(_drawn(area, fold, group, rules) for fold in range(int(number.max()) + 1))
    split = Split(
        kind="by place",
        windows=windows,
        buffer_px=rules.buffer(windows),
        coverage=coverage.name,
        polygons_digest=coverage.digest,
        folds=parts,
        polygon_fold=number,
        min_label_share=rules.min_label_share,
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


def _owner(coverage: Coverage, windows: Windows) -> npt.NDArray[np.int32]:
    """Polygon with the largest share of each pixel, -1 outside all, int32 (y, x)."""
    return coverage.shares((0, windows.shape[0]), (0, windows.shape[1])).owner()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Area:
    """Polygons and windows as pixels: what one polygon more or less means for windows."""

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


def _drawn(area: _Area, fold: int, group: IntArray, rules: SplitRules) -> FoldSplit:
    windows = area.windows
    near = footprint(windows.shape, windows.origins(area.free_windows(fold)), windows.size)
    fitted = _whole_inside(area.owner, near, len(area.number)) & (area.number != fold)
    if fitted.sum() < 2:
        raise SplitError(
            f"Fold {fold} has {int(fitted.sum())} polygons left to train on. Use a smaller buffer "
            f"or window, or fewer folds."
        )
    validation = _draw(np.flatnonzero(fitted), group, rules, fold)
    return area.fold(fold, np.setdiff1d(np.flatnonzero(fitted), validation), validation)


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
