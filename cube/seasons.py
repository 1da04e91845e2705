"""Parts of the year, and calendars of more than a year: which moments belong together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from cube.errors import SpecError
from cube.scenes import utc
from cube.spec import Period

_LEAP_YEAR = 2000
"""Has every day that a year may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Season:
    """Days of the year, the same in every year; may reach over the new year.

    Attributes:
        first: First day, ``"MM-DD"``.
        last: Last day, ``"MM-DD"``, itself included. ``"02-29"`` is the end of February in
            every year. Before ``first`` where the season reaches over the new year.
    """

    first: str = "05-01"
    last: str = "08-30"

    def __post_init__(self) -> None:
        for name in ("first", "last"):
            _check_day(name, getattr(self, name))
        if self.first == "02-29":
            raise SpecError("A season cannot begin on 02-29, which most years lack; use 03-01.")

    def holds(self, time: str) -> bool:
        """True if a moment, ISO 8601, falls on one of these days in UTC.

        Raises:
            SpecError: It is no moment.
        """
        day = utc(time, what="Season")[5:10]
        if self.first <= self.last:
            return self.first <= day <= self.last
        return day >= self.first or day <= self.last


def _check_day(name: str, day: object) -> None:
    text = f"{_LEAP_YEAR}-{day}"
    try:
        # Python 3.11 also takes 20000501.
        known = date.fromisoformat(text).isoformat() == text
    except ValueError:
        known = False
    if not known:
        raise SpecError(f"Season: {name} must be a day, MM-DD such as 05-01. Received {day!r}.")


def two_years(*which: int) -> tuple[Period, ...]:
    """Calendar of spans of two years, e.g. ``two_years(2000, 2010)``.

    Args:
        which: Even years, the second of each span: 2020 is 2019-01-01 until 2021-01-01.

    Raises:
        SpecError: A year is odd.
    """
    odd = [year for year in which if year % 2]
    if odd:
        raise SpecError(
            f"Spans of two years are named by their second, an even year. "
            f"Received {', '.join(map(str, odd))}."
        )
    return tuple(
        Period(label=f"{year:04d}", start=f"{year - 1:04d}-01-01", end=f"{year + 1:04d}-01-01")
        for year in which
    )
