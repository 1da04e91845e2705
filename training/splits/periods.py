"""Splits by time: which timings of a sample train, watch and test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cube.errors import SplitError
from cube.spec import CubeSpec
from training.chips import Chips
from training.index.chip_index import ChipIndex
from training.samples import SampleSpec
from training.splits.manifest import Manifested
from training.splits.parts import SplitChips, check_part
from training.splits.rules import PARTS, whole
from training.timings import Timing, listed

IntArray = npt.NDArray[np.int64]
Numbers = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSplit(Manifested):
    """Timings of a sample by part; a place may lie in all of them, at different times.

    Attributes:
        timings: Those of the sample, in order.
        calendar: Labels of all periods, in order of time.
        gap_periods: Periods of the calendar between two parts, at least, that neither uses.
        train_timings: Numbers of the timings that are learned from.
        validation_timings: Of those that decide when to stop.
        test_timings: Of those that are scored.
    """

    timings: tuple[Timing, ...]
    calendar: tuple[str, ...]
    gap_periods: int
    train_timings: Numbers
    validation_timings: Numbers
    test_timings: Numbers

    @property
    def kind(self) -> str:
        """How it was made; stands in every score."""
        return "by time"

    @property
    def lost_timings(self) -> Numbers:
        """Timings that use a period of another part, or one too near to it."""
        used = {*self.train_timings, *self.validation_timings, *self.test_timings}
        return tuple(k for k in range(len(self.timings)) if k not in used)

    @property
    def apart(self) -> npt.NDArray[np.bool_]:
        """Which timings share no period and keep the gap, bool (timing, timing)."""
        return ~_conflicts(self.timings, self.calendar, self.gap_periods)

    def ids(self, part: str, chips: Chips, *, windows: npt.ArrayLike | None = None) -> IntArray:
        """Chips of one part, int64, ascending.

        Args:
            part: ``train``, ``validation`` or ``test``.
            chips: Of a sample with these timings.
            windows: Ids of windows, e.g. those of a part of a split by place; all by default.

        Raises:
            SplitError: There is no such part, or the chips have another number of timings.
        """
        check_part(part)
        if chips.timings != len(self.timings):
            raise SplitError(
                f"The split is of {len(self.timings)} timings. Received chips of {chips.timings}."
            )
        where = np.arange(len(chips.windows)) if windows is None else np.asarray(windows)
        ids = chips.of_windows(np.sort(where))
        return ids[np.isin(chips.timing_of(ids), getattr(self, f"{part}_timings"))]

    def part(
        self,
        name: str,
        chips: Chips,
        *,
        windows: npt.ArrayLike | None = None,
        index: ChipIndex | None = None,
    ) -> SplitChips:
        """Chips of one part, to stream them: they check themselves for periods of test chips.

        Args:
            name: ``train``, ``validation`` or ``test``.
            chips: Of a sample with these timings.
            windows: Ids of windows, see :meth:`ids`.
            index: Leaves chips that it does not hold out.

        Raises:
            SplitError: See :meth:`ids`; or nothing is left.
        """
        ids = self.ids(name, chips, windows=windows)
        guard = None if name == "test" else TimeGuard(split=self)
        found = SplitChips(
            name=name, kind=self.kind, chips=chips, ids=ids, guard=guard, timings=self.timings
        )
        return found.within(index)

    def to_dict(self) -> dict[str, Any]:
        """The manifest, JSON-able."""
        return {
            "kind": self.kind,
            "timings": [timing.to_dict() for timing in self.timings],
            "calendar": list(self.calendar),
            "gap_periods": self.gap_periods,
            "folds": [{part: list(getattr(self, f"{part}_timings")) for part in PARTS}],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TimeSplit:
        """Rebuild from :meth:`to_dict`."""
        return cls(
            timings=tuple(Timing.from_dict(timing) for timing in data["timings"]),
            calendar=tuple(data["calendar"]),
            gap_periods=data["gap_periods"],
            **{f"{part}_timings": tuple(data["folds"][0][part]) for part in PARTS},
        )

    def __str__(self) -> str:
        named = [
            f"{part} {', '.join(str(self.timings[k]) for k in numbers) or 'none'}"
            for part, numbers in (
                *((part, getattr(self, f"{part}_timings")) for part in PARTS),
                ("lost", self.lost_timings),
            )
        ]
        return f"{self.kind}, {self.gap_periods} periods between: {'; '.join(named)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeGuard:
    """Watches over the timings that are streamed.

    Attributes:
        split: Whose test chips are scored.
    """

    split: TimeSplit

    def check_chips(self, chips: Chips, ids: npt.ArrayLike) -> int:
        """Refuse chips that share a period with a test chip, or come too near to one; gives 0.

        Raises:
            SplitError: The message names the timings.
        """
        used = np.unique(chips.timing_of(ids))
        near = ~self.split.apart[np.ix_(used, np.array(self.split.test_timings))].all(axis=1)
        if near.any():
            named = ", ".join(str(self.split.timings[k]) for k in used[near])
            raise SplitError(
                f"Leak: {named} use periods of test chips, or come nearer than "
                f"{self.split.gap_periods} periods to them. Take the parts of one split."
            )
        return 0


def split_by_time(
    sample: SampleSpec,
    spec: CubeSpec,
    *,
    test_periods: Sequence[str],
    validation_periods: Sequence[str] = (),
    gap_periods: int = 0,
) -> TimeSplit:
    """Split the timings of a sample: no part uses a period of another, for label or input.

    A timing is scored if its label, or without one its input, has a test period. Other timings
    are lost to their part if they use any period of a scored chip, or one too near to it.

    Args:
        sample: Its timings are split.
        spec: The cube; its calendar says which periods are neighbours.
        test_periods: Periods that are scored.
        validation_periods: Periods that decide when to stop.
        gap_periods: Periods of the calendar that must lie between, 0 or more.

    Raises:
        SpecError: The calendar has no such period.
        SplitError: A timing names no period; a period is in two parts; or a part has no timing.
    """
    calendar = tuple(period.label for period in spec.calendar)
    wanted = {"test": listed(test_periods), "validation": listed(validation_periods)}
    _check_periods(sample, spec, wanted, gap_periods)
    conflict = _conflicts(sample.timings, calendar, gap_periods)
    test = _of_periods(sample.timings, wanted["test"])
    watched = _free(_of_periods(sample.timings, wanted["validation"]), test, conflict)
    others = set(range(len(sample.timings))) - {*test}
    others -= {*_of_periods(sample.timings, wanted["validation"])}
    split = TimeSplit(
        timings=sample.timings,
        calendar=calendar,
        gap_periods=gap_periods,
        train_timings=_free(sorted(others), (*test, *watched), conflict),
        validation_timings=watched,
        test_timings=test,
    )
    _check_parts(split, wanted)
    return split


def _conflicts(
    timings: Sequence[Timing], calendar: Sequence[str], gap_periods: int
) -> npt.NDArray[np.bool_]:
    """Which timings share a period or come too near, bool (timing, timing)."""
    places = [np.array([calendar.index(p) for p in (*t.inputs, *t.label)]) for t in timings]
    apart = [[np.abs(a[:, None] - b[None]).min() for b in places] for a in places]
    near: npt.NDArray[np.bool_] = np.array(apart) <= gap_periods
    return near


def _of_periods(timings: Iterable[Timing], periods: Sequence[str]) -> Numbers:
    """Timings whose label, or without one whose input, has one of the periods."""
    return tuple(k for k, t in enumerate(timings) if {*(t.label or t.inputs)} & {*periods})


def _free(
    candidates: Sequence[int], taken: Sequence[int], conflict: npt.NDArray[np.bool_]
) -> Numbers:
    """Candidates that conflict with none that is taken."""
    return tuple(k for k in candidates if not conflict[k, list(taken)].any())


def _check_periods(
    sample: SampleSpec, spec: CubeSpec, wanted: Mapping[str, Numbers | tuple[str, ...]], gap: int
) -> None:
    whole("gap_periods", gap)
    for period in [*wanted["test"], *wanted["validation"]]:
        spec.time_index(str(period))
    both = {*wanted["test"]} & {*wanted["validation"]}
    if both:
        raise SplitError(
            f"A period is in one part. Received {', '.join(sorted(map(str, both)))} for test and "
            f"validation."
        )
    for timing in sample.timings:
        if not (timing.label or timing.inputs):
            raise SplitError(
                f"A split by time needs periods. Timing {timing} names none; split by place."
            )
        for period in (*timing.label, *timing.inputs):
            spec.time_index(period)


def _check_parts(split: TimeSplit, wanted: Mapping[str, tuple[str, ...]]) -> None:
    parts = ["train", "test", *(["validation"] if wanted["validation"] else [])]
    empty = [part for part in parts if not getattr(split, f"{part}_timings")]
    if empty:
        raise SplitError(
            f"No timing is left for {' and '.join(empty)}: {split}. Give other periods, or a "
            f"smaller gap_periods."
        )
