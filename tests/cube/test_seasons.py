"""A season holds the same days in every year; spans of two years tile the calendar."""

from __future__ import annotations

import datetime as dt
import itertools
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cube.errors import SpecError
from cube.seasons import Season, two_years
from cube.spec import Period

days = st.dates(dt.date(2000, 1, 1), dt.date(2000, 12, 31)).map(lambda day: day.isoformat()[5:])
moments = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1)).map(
    lambda moment: moment.replace(microsecond=0).isoformat() + "Z"
)


class TestSeason:
    @pytest.mark.parametrize(
        ("first", "last", "inside", "outside"),
        [
            ("05-01", "08-30", ["05-01", "07-15", "08-30"], ["04-30", "08-31", "12-25", "01-01"]),
            ("11-15", "03-15", ["11-15", "12-31", "01-01", "03-15"], ["11-14", "03-16", "07-01"]),
            ("02-01", "02-29", ["02-01", "02-28"], ["01-31", "03-01"]),
            ("06-01", "06-01", ["06-01"], ["05-31", "06-02"]),
        ],
    )
    def test_both_ends_are_inside_and_it_may_reach_over_the_new_year(
        self, first, last, inside, outside
    ):
        season = Season(first=first, last=last)
        assert all(season.holds(f"2019-{day}T12:00:00Z") for day in inside)
        assert not any(season.holds(f"2019-{day}T12:00:00Z") for day in outside)

    def test_the_last_second_of_the_last_day_is_inside(self):
        season = Season(first="05-01", last="08-30")
        assert season.holds("2019-05-01T00:00:00Z")
        assert season.holds("2019-08-30T23:59:59Z")
        assert not season.holds("2019-08-31T00:00:00Z")

    def test_the_leap_day_is_the_end_of_february(self):
        winter = Season(first="12-01", last="02-29")
        assert winter.holds("2020-02-29T12:00:00Z")
        assert winter.holds("2019-02-28T12:00:00Z")
        assert not winter.holds("2019-03-01T00:00:00Z")

    def test_a_day_is_one_in_utc(self):
        assert not Season(first="05-01", last="08-30").holds("2019-05-01T01:00:00+02:00")

    @given(day=days, moment=moments)
    def test_two_seasons_that_tile_the_year_hold_every_moment_once(self, day, moment):
        if day == "02-29":
            return
        before = (dt.date.fromisoformat(f"2000-{day}") - dt.timedelta(days=1)).isoformat()[5:]
        year = Season(first=day, last=before)
        assert year.holds(moment)
        if day != "07-01" and before != "06-30":
            one = Season(first=day, last="06-30")
            other = Season(first="07-01", last=before)
            assert one.holds(moment) or other.holds(moment)

    @given(first=days, last=days, moment=moments)
    def test_it_holds_what_a_walk_over_the_days_meets(self, first, last, moment):
        if first == "02-29":
            return
        year = itertools.cycle(
            (dt.date(2000, 1, 1) + dt.timedelta(days=n)).isoformat()[5:] for n in range(366)
        )
        from_first = itertools.dropwhile(lambda day: day != first, year)
        met = list(itertools.takewhile(lambda day: day != last, from_first))
        assert Season(first=first, last=last).holds(moment) == (moment[5:10] in {*met, last})

    def test_it_is_frozen_equal_by_content_and_pickles(self):
        season = Season(first="11-15", last="03-15")
        assert pickle.loads(pickle.dumps(season)) == season != Season()

    @pytest.mark.parametrize("day", ["5-1", "13-01", "04-31", "0501", "", None, "02-30", "05-01x"])
    def test_what_is_no_day_is_refused(self, day):
        for name in ("first", "last"):
            with pytest.raises(SpecError, match=f"Season: {name} must be a day, MM-DD such as"):
                Season(**{name: day})

    def test_a_season_cannot_begin_on_the_leap_day(self):
        with pytest.raises(SpecError, match="cannot begin on 02-29, which most years lack; use"):
            Season(first="02-29", last="04-01")

    def test_what_is_no_moment_is_refused(self):
        with pytest.raises(SpecError, match="Season: time must be ISO 8601"):
            Season().holds("last summer")


class TestTwoYears:
    def test_the_second_year_names_the_span(self):
        assert two_years(2000, 2020) == (
            Period(label="2000", start="1999-01-01", end="2001-01-01"),
            Period(label="2020", start="2019-01-01", end="2021-01-01"),
        )

    @given(st.integers(1, 4998).map(lambda half: 2 * half))
    def test_spans_follow_one_another_without_a_gap(self, year):
        earlier, later = two_years(year, year + 2)
        assert earlier.end == later.start

    def test_odd_years_are_refused_all_at_once(self):
        with pytest.raises(SpecError, match="second, an even year. Received 2001, 2019."):
            two_years(2000, 2001, 2019)
