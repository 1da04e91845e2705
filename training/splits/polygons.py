"""Which windows train and which are scored: by place, with a buffer, checked.

A window belongs to the places whose pixels it holds. The test windows of a
fold are all windows that hold a pixel of a test polygon; its training windows
lie at least the buffer away from every one of them, so no pixel that the
model saw is ever nearer than that to a pixel it is scored with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cube.coverage import Coverage
from cube.errors import SplitError
from cube.windows import Windows, footprint
from training.chips import Chips
from training.index.chip_index import ChipIndex
from training.splits.areas import Area, FoldSplit, check_folds, owner_of, whole_inside
from training.splits.leaks import RANDOM, LeakGuard, check_leaks, note_of
from training.splits.manifest import Manifested
from training.splits.parts import SplitChips, check_part, check_windows
from training.splits.rules import buffer_of, numbered_fold

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split(Manifested):
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

    def fold(self, number: int) -> FoldSplit:
        """One fold by its number.

        Raises:
            SplitError: There is none.
        """
        return numbered_fold(self.folds, number)

    def part(
        self, name: str, chips: Chips, *, fold: int, index: ChipIndex | None = None
    ) -> SplitChips:
        """Chips of one part, to stream them: they check themselves for leaks.

        Windows of training and validation may overlap, since pixels belong to polygons: what of
        them is learned says :class:`training.stream.Supervision`.

        Args:
            name: ``train``, ``validation`` or ``test``.
            chips: Of the same windows.
            fold: Which fold.
            index: Leaves chips that it does not hold out.

        Raises:
            SplitError: There is no such part or fold, the chips have other windows, or nothing is
                left.
        """
        check_part(name)
        check_windows(self.windows, chips)
        ids = chips.of_windows(getattr(self.fold(fold), f"{name}_windows"))
        found = SplitChips(
            name=name,
            chips=chips,
            ids=ids,
            kind=f"{self.kind}, fold {fold + 1}",
            guard=None if name == "test" else self.guard(fold),
            note=self.note,
        )
        return found.within(index)

    def guard(self, fold: int) -> LeakGuard:
        """Watches over what is streamed for one fold."""
        return LeakGuard(
            windows=self.windows,
            test_windows=self.fold(fold).test_windows,
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
        check_folds(number, coverage, windows)
        area = Area(
            owner=owner_of(coverage, windows),
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
    check_folds(number, coverage, windows)
    group = np.arange(len(number)) if groups is None else np.unique(groups, return_inverse=True)[1]
    area = Area(
        owner=owner_of(coverage, windows),
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


def _drawn(area: Area, fold: int, group: IntArray, rules: SplitRules) -> FoldSplit:
    windows = area.windows
    near = footprint(windows.shape, windows.origins(area.free_windows(fold)), windows.size)
    fitted = whole_inside(area.owner, near, len(area.number)) & (area.number != fold)
    if fitted.sum() < 2:
        raise SplitError(
            f"Fold {fold} has {int(fitted.sum())} polygons left to train on. Use a smaller buffer "
            f"or window, or fewer folds."
        )
    validation = _draw(np.flatnonzero(fitted), group, rules, fold)
    return area.fold(fold, np.setdiff1d(np.flatnonzero(fitted), validation), validation)


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
