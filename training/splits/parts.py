"""The chips of one part of a split, which refuse to be streamed where they would leak."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cube.errors import SplitError
from cube.spec import CubeSpec
from cube.windows import WindowSet
from training.chips import Chips
from training.index.chip_index import ChipIndex
from training.samples import SampleSpec
from training.splits.rules import PARTS
from training.timings import Timing

IntArray = npt.NDArray[np.int64]


class ChipGuard(Protocol):
    """What chips that are learned from must not come near to."""

    def check_chips(self, chips: Chips, ids: IntArray) -> int:
        """Refuse chips that come too near; how many do, where it counts only."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SplitChips:
    """Chips of one part of a split, for all that takes an index of chips.

    Attributes:
        name: ``train``, ``validation`` or ``test``.
        kind: How the split was made, and of folds which.
        chips: What ids refer to.
        ids: int64 (chip,), ascending.
        index: The index of these chips alone; None where none was given.
        guard: What they must not come near to; None for what is scored.
        note: What every score must say; empty if there is nothing to say.
        timings: Those of the sample, for parts that are told apart by time; None for others.
    """

    name: str
    kind: str
    chips: Chips
    ids: IntArray
    index: ChipIndex | None = None
    guard: ChipGuard | None = None
    note: str = ""
    timings: tuple[Timing, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", np.sort(self.ids))
        if not len(self.ids):
            raise SplitError(f"No chip is in part {self.name!r} of the split {self.kind}.")

    def within(self, index: ChipIndex | None) -> SplitChips:
        """Those that an index holds; all of them without one.

        Raises:
            SplitError: The index is of other chips, or holds none of these: the message says which
                filter removed how many.
        """
        if index is None:
            return self
        check_numbering(index, self.chips)
        mask = np.isin(index.ids, self.ids)
        chosen = index.where(mask, f"{self.name} of the split {self.kind}")
        return replace(self, ids=chosen.ids, index=chosen)

    def __len__(self) -> int:
        return len(self.ids)

    def check(self, spec: CubeSpec, sample: SampleSpec, windows: WindowSet) -> None:
        """Refuse another cube, sample or windows than those of the split, and any leak.

        Raises:
            SplitError: The message says what differs, or how many chips come too near to a test
                window.
        """
        if windows.to_dict() != self.chips.windows.to_dict():
            raise SplitError(
                f"The split is of windows {self.chips.windows.to_dict()}. Received "
                f"{windows.to_dict()}."
            )
        if len(sample.timings) != self.chips.timings:
            raise SplitError(
                f"The split is of chips at {self.chips.timings} timings. Received a sample of "
                f"{len(sample.timings)}."
            )
        if self.timings not in (None, sample.timings):
            raise SplitError(
                f"The split is of the timings {_named(self.timings)}. Received a sample of "
                f"{_named(sample.timings)}; split its own."
            )
        if self.index is not None:
            self.index.check(spec, sample, windows)
        if self.guard is not None:
            self.guard.check_chips(self.chips, self.ids)

    def __str__(self) -> str:
        windows = len(np.unique(self.chips.window_of(self.ids)))
        return (
            f"{self.name} of the split {self.kind}: {len(self):,} chips of {windows:,} windows"
            f"{f'; {self.note}' if self.note else ''}"
        )


def _named(timings: Iterable[Timing] | None) -> str:
    return ", ".join(map(str, timings or ()))


def check_part(name: str) -> None:
    """Refuse what is no part.

    Raises:
        SplitError: The message names the parts.
    """
    if name not in PARTS:
        raise SplitError(f"Parts are train, validation and test. Received {name!r}.")


def check_windows(windows: WindowSet, chips: Chips) -> None:
    """Refuse chips of other windows than those of a split.

    Raises:
        SplitError: The message names both.
    """
    if chips.windows.to_dict() != windows.to_dict():
        raise SplitError(
            f"The split is of windows {windows.to_dict()}. Received chips of "
            f"{chips.windows.to_dict()}."
        )


def check_numbering(index: ChipIndex, chips: Chips) -> None:
    """Refuse an index whose ids mean other chips.

    Raises:
        SplitError: It is of other windows, or of another number of timings.
    """
    ours = chips.windows.to_dict(), chips.timings
    theirs = index.facts["windows"], len(index.facts["sample"]["timings"])
    if ours != theirs:
        raise SplitError(
            f"The index is of windows {theirs[0]} at {theirs[1]} timings. Received chips of "
            f"{ours[0]} at {ours[1]}."
        )
