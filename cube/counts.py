"""What is done of variables, as numbers of regions and as one array a variable."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cube.errors import SpecError

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Numbers of regions.

    Attributes:
        total: All of them.
        done: Ticked as whole in the store.
        damaged: An entry lies there that cannot be a tick; none of these is done.
        replaced: Overwritten on purpose, done or not.
    """

    total: int = 0
    done: int = 0
    damaged: int = 0
    replaced: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            total=self.total + other.total,
            done=self.done + other.done,
            damaged=self.damaged + other.damaged,
            replaced=self.replaced + other.replaced,
        )

    @property
    def complete(self) -> bool:
        """True if nothing is left to do."""
        return self.done == self.total

    @property
    def percent(self) -> str:
        """Share that is done; never rounded up to all, nor down to nothing."""
        if 0 < 1000 * self.done < self.total:
            return "under 0.1 %"
        tenths = 1000 * self.done // max(self.total, 1)
        return f"{tenths // 10}.{tenths % 10} %"

    @property
    def notes(self) -> str:
        """What else there is to know, e.g. ``"1 damaged, 2 overwritten"``; often empty."""
        kinds = {"damaged": self.damaged, "overwritten": self.replaced}
        return ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)

    @property
    def noted(self) -> str:
        """Counts with notes, e.g. ``"4 of 6, 1 overwritten"``."""
        return f"{self}, {self.notes}" if self.notes else str(self)

    @property
    def summary(self) -> str:
        """All of it in words."""
        if not self.total:
            return "no regions"
        done = f"{self.done:,} of {self.total:,} regions done ({self.percent})"
        return f"{done}, {self.notes}" if self.notes else done

    def __str__(self) -> str:
        if not self.done:
            return "none"
        return f"all {self.total:,}" if self.complete else f"{self.done:,} of {self.total:,}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VariableStatus:
    """What is done of one variable.

    Attributes:
        name: The stack or layer.
        dims: Its dimensions in stored order.
        periods: Labels of its times in order; empty for a static variable.
        written: bool (time, region_y, region_x), or (region_y, region_x) for a
            static variable: ticked. The first row is the northernmost.
        damaged: bool of that shape: an entry lies there that cannot be a tick.
        replaced: bool of that shape: overwritten on purpose.
        region: Side of a region in pixels of the grid.

    Raises:
        SpecError: Shapes do not fit each other or the periods, an array is not
            bool, or an entry is both a tick and damaged.
    """

    name: str
    dims: tuple[str, ...]
    periods: tuple[str, ...]
    written: Mask
    damaged: Mask
    replaced: Mask
    region: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", tuple(self.dims))
        object.__setattr__(self, "periods", tuple(self.periods))
        if len(set(self.periods)) < len(self.periods):
            raise SpecError(f"{self.name!r}: labels must be unique. Received {self.periods}.")
        masks = (self.written, self.damaged, self.replaced)
        lead = (len(self.periods),) if self.periods else ()
        if any(m.dtype != np.bool_ or m.shape != (*lead, *self.grid) for m in masks):
            raise SpecError(
                f"{self.name!r}: written, damaged and replaced must be bool (time, region_y, "
                f"region_x) with {len(self.periods)} times, or without time where there are none. "
                f"Received {', '.join(f'{m.dtype} {m.shape}' for m in masks)}."
            )
        if (self.written & self.damaged).any():
            raise SpecError(f"{self.name!r}: an entry cannot be both a tick and damaged.")

    @property
    def static(self) -> bool:
        """True for a variable without time."""
        return not self.periods

    @property
    def grid(self) -> tuple[int, int]:
        """Regions along (y, x)."""
        height, width = (1, 1, *self.written.shape)[-2:]
        return int(height), int(width)

    @property
    def by_period(self) -> tuple[Counts, ...]:
        """Counts of each period, in order; of a static variable, one."""
        each = math.prod(self.grid)
        masks = (self.written, self.damaged, self.replaced)
        sums = [np.atleast_1d(np.count_nonzero(mask, axis=(-2, -1))).tolist() for mask in masks]
        return tuple(
            Counts(total=each, done=done, damaged=damaged, replaced=replaced)
            for done, damaged, replaced in zip(*sums, strict=True)
        )

    @property
    def counts(self) -> Counts:
        """Counts of all periods together."""
        return sum(self.by_period, Counts())


def counts_of(variables: Iterable[VariableStatus]) -> Counts:
    """Counts of all variables and periods together."""
    return sum((variable.counts for variable in variables), Counts())


def periods_of(variables: Iterable[VariableStatus]) -> tuple[str, ...]:
    """Labels of all times, in order."""
    return tuple(dict.fromkeys(label for v in variables for label in v.periods))
