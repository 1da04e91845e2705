"""Splits of windows by place: which windows train, watch and test, and what the buffer costs."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cube.errors import SplitError
from cube.windows import WindowSet
from training.chips import Chips
from training.index.chip_index import ChipIndex
from training.splits import manifest
from training.splits.leaks import RANDOM, LeakGuard, nearer, note_of
from training.splits.manifest import Manifested
from training.splits.parts import SplitChips, check_part, check_windows
from training.splits.rules import PARTS, numbered_fold

IntArray = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

ROLES = (*PARTS, "lost to the buffer", "no place")
"""What a window is in a fold, by the numbers of :meth:`PlaceSplit.roles`."""


class Fold(Protocol):
    """One fold of any split; ids are those of windows, int64, ascending."""

    @property
    def fold(self) -> int:
        """Its number, from 0."""

    @property
    def train_windows(self) -> IntArray:
        """What the model learns from."""

    @property
    def validation_windows(self) -> IntArray:
        """What decides when to stop."""

    @property
    def test_windows(self) -> IntArray:
        """What is scored."""


class WindowSplit(Protocol):
    """What every split gives: parts of windows, at least a buffer apart."""

    @property
    def kind(self) -> str:
        """How it was made; stands in every score."""

    @property
    def note(self) -> str:
        """What every score must say; empty if there is nothing to say."""

    @property
    def windows(self) -> WindowSet:
        """What ids refer to."""

    @property
    def buffer_px(self) -> int:
        """Pixels between training and test windows, at least."""

    @property
    def seed(self) -> int:
        """Of its draws."""

    @property
    def folds(self) -> Sequence[Fold]:
        """One per fold, in order."""

    @property
    def digest(self) -> str:
        """First 12 hex digits of the SHA-256 of the manifest."""

    def guard(self, fold: int) -> LeakGuard:
        """Watches over what is streamed for one fold."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the manifest as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Places:
    """The place of every window.

    Attributes:
        kind: What places are, e.g. ``"by cells"``.
        windows: What they are places of.
        of_window: Number of each window's place, -1 for none, int64 (window,); every number
            below ``count`` has a window.
        names: Of the places, in order; empty if they are numbered only.
        facts: How they were made, and what was left out; JSON-able.
        advice: What to do where a buffer leaves nothing.
    """

    kind: str
    windows: WindowSet
    of_window: IntArray
    names: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    advice: str = "Use a smaller buffer or window, or fewer or larger places."

    def __post_init__(self) -> None:
        if not (self.of_window >= 0).any():
            raise SplitError(f"No window lies in a place ({self.kind}): there is nothing to split.")

    @property
    def count(self) -> int:
        """Number of places."""
        return int(self.of_window.max()) + 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlaceFold:
    """One fold: whole places, less what the buffer takes.

    Attributes:
        fold: Its number, from 0.
        validation_places: Places that decide when to stop, int64, ascending.
        test_places: Places that are scored; all other places train.
        train_windows: Ids of the windows that are learned from; ascending, as all ids here.
        validation_windows: Ids of those that decide when to stop.
        test_windows: Ids of those that are scored: all windows of the test places.
        lost_windows: Ids of those of other places that come too near.
    """

    fold: int
    validation_places: IntArray
    test_places: IntArray
    train_windows: IntArray
    validation_windows: IntArray
    test_windows: IntArray
    lost_windows: IntArray

    @classmethod
    def of(
        cls,
        windows: WindowSet,
        place: IntArray,
        *,
        fold: int,
        validation: npt.ArrayLike,
        test: npt.ArrayLike,
        buffer_px: int | None,
    ) -> PlaceFold:
        """Windows of whole places; test windows stay, others leave if they come too near.

        Args:
            windows: Where they lie.
            place: Of each window, -1 for none, int64 (window,).
            fold: Its number.
            validation: Numbers of places.
            test: Numbers of places.
            buffer_px: Pixels between windows of different parts; None loses no window.
        """
        watched, tested = np.unique(validation).astype("int64"), np.unique(test).astype("int64")
        is_test, is_watch = np.isin(place, tested), np.isin(place, watched)
        is_train = (place >= 0) & ~is_test & ~is_watch
        candidates = is_train | is_watch
        if buffer_px is not None:
            is_watch = is_watch & ~_near(windows, is_watch, is_test, buffer_px)
            is_train = is_train & ~_near(windows, is_train, is_test | is_watch, buffer_px)
        return cls(
            fold=fold,
            validation_places=watched,
            test_places=tested,
            train_windows=np.flatnonzero(is_train),
            validation_windows=np.flatnonzero(is_watch),
            test_windows=np.flatnonzero(is_test),
            lost_windows=np.flatnonzero(candidates & ~is_train & ~is_watch),
        )

    @property
    def counts(self) -> dict[str, int]:
        """Windows of each part, and those that the buffer takes."""
        return {name: len(getattr(self, f"{name}_windows")) for name in (*PARTS, "lost")}


def _near(windows: WindowSet, mine: Mask, others: Mask, buffer_px: int) -> Mask:
    """Which of my windows lie nearer than the buffer to any of the others; bool (window,)."""
    ids = np.flatnonzero(mine)
    there = windows.origins(np.flatnonzero(others))
    out = np.zeros(len(mine), dtype=bool)
    out[ids] = nearer(windows.origins(ids), windows.size, there, windows.size, buffer_px)
    return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlaceSplit(Manifested):
    """Windows split by whole places: all windows of a place, at all times, on one side.

    Attributes:
        kind: How it was made; stands in every score.
        windows: The windows that ids refer to.
        buffer_px: Pixels between windows of different parts, at least; 0 for a random split,
            whose windows may overlap.
        place: Of each window, -1 for none, int64 (window,).
        names: Of the places; empty if they are numbered only.
        folds: One per fold, in order.
        seed: Of its draws.
        facts: How it was made, and what was left out; JSON-able.
    """

    kind: str
    windows: WindowSet
    buffer_px: int
    place: IntArray
    names: tuple[str, ...]
    folds: tuple[PlaceFold, ...]
    seed: int
    facts: Mapping[str, Any]

    @property
    def note(self) -> str:
        """What every score must say; empty if there is nothing to say."""
        return note_of(self.kind)

    @property
    def lost_share(self) -> float:
        """Share of the windows not tested that the buffer costs, mean over folds, 0..1."""
        return float(np.mean([_lost_share(part.counts) for part in self.folds]))

    def ids(self, part: str, chips: Chips, *, fold: int = 0) -> IntArray:
        """Chips of one part at all their timings, ascending, int64.

        Args:
            part: ``train``, ``validation`` or ``test``.
            chips: Of the same windows.
            fold: Which fold.

        Raises:
            SplitError: There is no such part or fold, or the chips have other windows.
        """
        check_part(part)
        check_windows(self.windows, chips)
        chosen: IntArray = getattr(self.fold(fold), f"{part}_windows")
        return chips.of_windows(chosen)

    def part(
        self, name: str, chips: Chips, *, fold: int = 0, index: ChipIndex | None = None
    ) -> SplitChips:
        """Chips of one part, to stream them: they check themselves for leaks.

        Args:
            name: ``train``, ``validation`` or ``test``.
            chips: Of the same windows.
            fold: Which fold.
            index: Leaves chips that it does not hold out.

        Raises:
            SplitError: See :meth:`ids`; or nothing is left.
        """
        ids = self.ids(name, chips, fold=fold)
        kind = self.kind if len(self.folds) == 1 else f"{self.kind}, fold {fold + 1}"
        guard = None if name == "test" else self.guard(fold)
        found = SplitChips(name=name, kind=kind, chips=chips, ids=ids, guard=guard, note=self.note)
        return found.within(index)

    def fold(self, number: int) -> PlaceFold:
        """One fold by its number.

        Raises:
            SplitError: There is none.
        """
        return numbered_fold(self.folds, number)

    def roles(self, fold: int = 0) -> npt.NDArray[np.int8]:
        """What each window is in one fold, numbers of :data:`ROLES`, int8 (window,)."""
        part = self.fold(fold)
        out = np.full(len(self.windows), ROLES.index("no place"), dtype="int8")
        for number, name in enumerate((*PARTS, "lost")):
            out[getattr(part, f"{name}_windows")] = number
        return out

    def guard(self, fold: int = 0) -> LeakGuard:
        """Watches over what is streamed for one fold; counts only, where the split is random."""
        return LeakGuard(
            windows=self.windows,
            test_windows=self.fold(fold).test_windows,
            buffer_px=self.buffer_px,
            refuses=self.kind != RANDOM,
        )

    def plot(self, path: str | os.PathLike[str], *, fold: int = 0) -> None:
        """Draw the grid coloured by part, as a PNG."""
        from training.splits import pictures

        pictures.plot(self, path, fold=fold)

    def to_dict(self) -> dict[str, Any]:
        """The manifest, JSON-able; ids of windows follow from it and are left out."""
        return {
            "kind": self.kind,
            "windows": self.windows.to_dict(),
            "buffer_px": self.buffer_px,
            "seed": self.seed,
            "facts": dict(self.facts),
            "names": list(self.names),
            "place": manifest.packed(self.place),
            "folds": [
                {
                    "fold": part.fold,
                    "validation_places": part.validation_places.tolist(),
                    "test_places": part.test_places.tolist(),
                    "windows": part.counts,
                }
                for part in self.folds
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], windows: WindowSet) -> PlaceSplit:
        """Rebuild from :meth:`to_dict`; windows of parts are computed again, not checked."""
        place = manifest.unpacked(data["place"])
        buffer_px = None if data["kind"] == RANDOM else int(data["buffer_px"])
        folds = tuple(
            PlaceFold.of(
                windows,
                place,
                fold=part["fold"],
                validation=part["validation_places"],
                test=part["test_places"],
                buffer_px=buffer_px,
            )
            for part in data["folds"]
        )
        return cls(
            kind=data["kind"],
            windows=windows,
            buffer_px=int(data["buffer_px"]),
            place=place,
            names=tuple(data["names"]),
            folds=folds,
            seed=data["seed"],
            facts=data["facts"],
        )

    def __str__(self) -> str:
        left_out = int((self.place < 0).sum())
        lines = [
            f"{self.kind}: {len(self.windows)} windows of {self.windows.size} px in "
            f"{int(self.place.max()) + 1} places, buffer {self.buffer_px} px"
            f"{f'; {left_out} windows belong to no place' if left_out else ''}"
            f"{self._facts()}"
        ]
        lines += [f"  fold {part.fold + 1}: {_counted(part.counts)}" for part in self.folds]
        return "\n".join(lines)

    def _facts(self) -> str:
        if not self.note:
            return ""
        leak = self.facts["overlapping_test_share"]
        return (
            f"; {self.note}: {min(leak):.0%} to {max(leak):.0%} of test windows overlap a "
            f"training window"
        )

    def _repr_html_(self) -> str:
        head, *_ = str(self).splitlines()
        names = (*PARTS, "lost")
        heads = "".join(f"<th>{name}</th>" for name in ("fold", *names))
        rows = "".join(
            f"<tr><td>{part.fold + 1}</td>"
            + "".join(f"<td>{part.counts[name]}</td>" for name in names)
            + "</tr>"
            for part in self.folds
        )
        return f"<div><p>{html.escape(head)}</p><table><tr>{heads}</tr>{rows}</table></div>"


def _counted(counts: Mapping[str, int]) -> str:
    parts = ", ".join(f"{counts[name]} {name}" for name in PARTS)
    return f"{parts}; the buffer takes {counts['lost']} ({_lost_share(counts):.0%})"


def _lost_share(counts: Mapping[str, int]) -> float:
    return counts["lost"] / max(1, counts["lost"] + counts["train"] + counts["validation"])
