"""Pairing of label and image times: plain loops, and rules that say what they did."""

from __future__ import annotations

import json
import logging
import statistics

import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import cube
from cube.classes.pairing import (
    Explicit,
    Nearest,
    OutlineYears,
    Same,
    middle,
    pair_periods,
    pair_tiles,
    rule_from_dict,
)
from cube.errors import PolygonError, SpecError
from cube.seasons import two_years
from cube.windows import Windows
from tests.cube.geometry import frame_of, square
from tests.rasters import grid_at

SHAPE = (40, 50)
GRID = grid_at(SHAPE)
WINDOWS = Windows(shape=SHAPE, size=16, stride=16)

RULES = [
    Same(),
    Nearest(within_years=3),
    Explicit(images={"2010": "2000"}),
    OutlineYears(column="year", odd="up"),
]


class TestRules:
    @pytest.mark.parametrize("rule", RULES)
    def test_they_survive_json(self, rule):
        again = rule_from_dict(json.loads(json.dumps(rule.to_dict())))
        assert again == rule
        assert again.digest == rule.digest

    def test_each_has_a_digest_of_its_own(self):
        assert len({rule.digest for rule in [*RULES, Nearest(within_years=2)]}) == 5
        assert Nearest(within_years=3).digest == Nearest(within_years=3.0).digest

    def test_what_is_no_rule_is_refused(self):
        message = "^A rule of pairing is one of same, nearest, explicit, outline_years. Received ru"
        with pytest.raises(SpecError, match=message):
            rule_from_dict({"rule": "random"})
        with pytest.raises(SpecError, match="^The rule 'same' has other fields"):
            rule_from_dict({"rule": "same", "within_years": 2})
        with pytest.raises(SpecError, match="^The rule 'nearest' has other fields"):
            rule_from_dict({"rule": "nearest"})

    @pytest.mark.parametrize("years", [-1, float("nan"), float("inf"), "1"])
    def test_years_out_of_range_are_refused(self, years):
        with pytest.raises(SpecError, match="^within_years must be 0 or more. Received"):
            Nearest(within_years=years)

    def test_an_empty_table_and_an_unknown_way_are_refused(self):
        with pytest.raises(SpecError, match="^A table of labels and images must name one label at"):
            Explicit(images={})
        with pytest.raises(SpecError, match="^A table of labels and images must name one label at"):
            Explicit(images=["2000"])
        with pytest.raises(SpecError, match="^odd must be 'up', 'down' or None. Received 'even'"):
            OutlineYears(column="year", odd="even")


class TestPairPeriods:
    def test_same_is_the_image_of_that_name(self):
        found = pair_periods(Same(), cube.years(2000, 2010), cube.years(2000, 2005, 2010))
        assert found == {"2000": "2000", "2010": "2010"}

    def test_explicit_is_what_the_table_says(self):
        rule = Explicit(images={"2010": "2000", "2020": "2020"})
        assert pair_periods(rule, cube.years(2010), cube.years(2000, 2010)) == {"2010": "2000"}

    @settings(deadline=None, max_examples=100)
    @given(
        st.sets(st.integers(1900, 2100), min_size=1, max_size=8),
        st.integers(1900, 2100),
        st.integers(0, 30),
    )
    def test_nearest_is_that_of_a_plain_loop_and_of_two_the_earlier(self, images, label, within):
        found = Nearest(within_years=within).image_of(
            *cube.years(label), cube.years(*sorted(images))
        )
        best = None
        for year in sorted(images):
            near = abs(year - label)
            if near <= within and (best is None or near < abs(best - label)):
                best = year
        assert (None if found is None else int(found.label)) == best

    @pytest.mark.parametrize(("label", "image"), [(2009, "2010"), (2010, "2010"), (2011, "2012")])
    def test_a_year_is_nearest_to_the_two_years_that_hold_it(self, label, image):
        rule = Nearest(within_years=0.5)
        images = two_years(2008, 2010, 2012)
        assert pair_periods(rule, cube.years(label), images) == {str(label): image}

    def test_leap_days_break_no_tie(self):
        # From 2009 it is 731 days to 2007 and 730 to 2011.
        found = pair_periods(Nearest(within_years=2), cube.years(2009), cube.years(2007, 2011))
        assert found == {"2009": "2007"}
        assert middle(*cube.years(2008)) - middle(*cube.years(2007)) == 1

    @pytest.mark.parametrize(
        "rule", [Same(), Nearest(within_years=2), Explicit(images={"2010": "2030"})]
    )
    def test_a_label_without_an_image_is_refused_by_name(self, rule):
        message = r"finds no image for 2010. There are images of 2000, 2005; take another rule, or"
        with pytest.raises(SpecError, match=message):
            pair_periods(rule, cube.years(2010), cube.years(2000, 2005))


def pair(outlines, rule=None, calendar=None, **options):
    rule = OutlineYears(column="year", odd="up") if rule is None else rule
    calendar = two_years(*range(1990, 2022, 2)) if calendar is None else calendar
    return pair_tiles(WINDOWS, outlines, rule, grid=GRID, calendar=calendar, **options)


class TestPairTiles:
    @settings(deadline=None, max_examples=30)
    @given(
        st.lists(
            st.tuples(st.integers(-5, 52), st.integers(-5, 42), st.integers(2000, 2003)),
            min_size=1,
            max_size=25,
        )
    )
    def test_they_are_those_of_a_plain_loop(self, places):
        shapes = [square(col, row, 6) for col, row, _ in places]
        grid = shapely.box(0, 0, GRID.shape[1], GRID.shape[0])
        assume(any(shape.intersection(grid).area > 0 for shape in shapes))
        years = [year for *_, year in places]
        found = pair(frame_of(shapes, GRID, year=years))
        assert len(found) == len(WINDOWS)
        for window, (row, col) in enumerate(WINDOWS.origins()):
            box = square(col, row, 16)
            own = sorted(
                y for s, y in zip(shapes, years, strict=True) if s.intersection(box).area > 0
            )
            each = found.iloc[window]
            assert [each["window"], each["row"], each["col"]] == [window, row, col]
            assert each["outlines"] == len(own)
            if own:
                year = statistics.mode(own)  # the first of several, and these are sorted
                assert each["year"] == year
                assert each["period"] == str(year + year % 2)
            else:
                assert pd.isna(each["year"])
                assert pd.isna(each["period"])

    @pytest.mark.parametrize(("odd", "period"), [("up", "2010"), ("down", "2008"), (None, "2009")])
    def test_odd_years_go_where_the_rule_says(self, odd, period):
        outlines = frame_of([square(2, 2, 5)], GRID, year=[2009])
        rule = OutlineYears(column="year", odd=odd)
        found = pair(outlines, rule, cube.years(2008, 2009, 2010))
        assert [found.year[0], found.period[0]] == [2009, period]

    def test_the_order_of_outlines_does_not_matter(self):
        outlines = frame_of([square(2, 2, 5)] * 4, GRID, year=[2008, 2004, 2008, 2004])
        found, turned = pair(outlines), pair(outlines.iloc[::-1])
        assert found.year[0] == 2004
        pd.testing.assert_frame_equal(found, turned)

    def test_windows_without_outlines_are_missing_and_logged(self, caplog):
        with caplog.at_level(logging.INFO, logger="quadrat.pairing"):
            found = pair(frame_of([square(2, 2, 5)], GRID, year=[2008]))
        assert found.period.isna().sum() == 11
        assert found.year.dtype == "Int64"
        assert "11 of 12 windows hold no outline, and so have no period." in caplog.text

    def test_outlines_that_only_touch_a_window_are_not_in_it(self):
        found = pair(frame_of([shapely.box(16, 0, 32, 16)], GRID, year=[2008]))
        assert found.outlines.tolist() == [0, 1] + [0] * 10

    def test_outlines_in_degrees_are_brought_into_the_grids_crs(self):
        outlines = frame_of([square(2, 2, 5)], GRID, year=np.array([2008.0])).to_crs("EPSG:4326")
        assert pair(outlines).period.tolist()[:1] == ["2008"]

    def test_outlines_that_all_lie_off_the_grid_are_refused(self):
        with pytest.raises(PolygonError, match="^None of the 1 polygons meets the grid"):
            pair(frame_of([square(500, 2, 5)], GRID, year=[2008]))

    def test_a_period_that_the_calendar_lacks_is_refused_by_name(self):
        outlines = frame_of([square(2, 2, 5), square(20, 2, 5)], GRID, year=[2009, 2031])
        message = (
            "^Outlines belong to images of 2009, 2031, which the calendar lacks. It has: 2008,"
        )
        with pytest.raises(SpecError, match=message):
            pair(outlines, OutlineYears(column="year"), two_years(2008, 2010))

    def test_an_unknown_column_is_refused(self):
        with pytest.raises(
            PolygonError, match="^There is no column 'year'. There are: date, geome"
        ):
            pair(frame_of([square(2, 2, 5)], GRID, date=[2009]))

    @pytest.mark.parametrize("year", [None, "soon", 20090703, -9999, 2009.5])
    def test_what_is_no_year_is_refused(self, year):
        outlines = frame_of([square(2, 2, 5)] * 2, GRID, year=pd.Series([2008, year]))
        with pytest.raises(
            PolygonError, match="^Column 'year' must hold years, .* 1 of 2 values ar"
        ):
            pair(outlines)

    def test_windows_of_another_grid_are_refused(self):
        windows = Windows(shape=(40, 51), size=16, stride=16)
        outlines = frame_of([square(2, 2, 5)], GRID, year=[2008])
        with pytest.raises(
            SpecError, match="^The windows are of 40 x 51 pixels, the grid has 40 x"
        ):
            pair_tiles(windows, outlines, RULES[-1], grid=GRID, calendar=two_years(2008))

    def test_outlines_that_are_no_polygons_are_refused(self):
        with pytest.raises(PolygonError, match="1 of 1 geometries are not a polygon"):
            pair(frame_of([shapely.Point(2, 2)], GRID, year=[2008]))
