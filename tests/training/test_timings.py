"""Rules of pairing give the timings that one would write by hand."""

from __future__ import annotations

import importlib

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

import cube
from cube.errors import PolygonError, SpecError
from cube.windows import Windows
from tests import toy
from training.outline_periods import outline_periods
from training.timings import Timing, mapped, nearest, pairs, same, sequence, sliding


def _spec(calendar):
    layer = cube.LayerSpec(name="label", dtype="float32", static=True)
    return cube.CubeSpec(grid=toy.GRID, calendar=calendar, layers=(layer,))


class TestRules:
    def test_same(self):
        assert same(["2000", "2010"]) == (
            Timing(label=("2000",), inputs=("2000",)),
            Timing(label=("2010",), inputs=("2010",)),
        )

    @pytest.mark.parametrize(
        ("label", "periods"), [("both", ("1", "2")), ("first", ("1",)), ("last", ("2",))]
    )
    def test_pairs(self, label, periods):
        assert pairs([("1", "2")], label=label) == (Timing(label=periods, inputs=("1", "2")),)

    def test_a_sequence_is_one_timing(self):
        assert sequence(["1", "2", "3"], "3") == (Timing(label=("3",), inputs=("1", "2", "3")),)
        assert sequence(["1", "2"]) == (Timing(label=(), inputs=("1", "2")),)
        assert sequence(["1", "2"], ("1", "2"))[0].label == ("1", "2")

    @pytest.mark.parametrize(
        ("label", "labels"),
        [("last", ["2", "3"]), ("first", ["1", "2"]), ("all", ["12", "23"])],
    )
    def test_sliding_runs(self, label, labels):
        found = sliding(["1", "2", "3"], 2, label)
        assert [t.inputs for t in found] == [("1", "2"), ("2", "3")]
        assert ["".join(t.label) for t in found] == labels

    def test_one_period_stands_for_a_list_of_one(self):
        assert same("2010") == same(["2010"])
        assert sequence("2010") == sequence(["2010"])
        assert sliding("2010", 1) == same("2010")

    def test_a_map(self):
        assert mapped({"2010": "2000", "2012": ("2000", "2004")}) == (
            Timing(label=("2010",), inputs=("2000",)),
            Timing(label=("2012",), inputs=("2000", "2004")),
        )

    @pytest.mark.parametrize(
        ("make", "match"),
        [
            (lambda: pairs([("1", "2", "3")]), "a first and a last period. Received"),
            (lambda: pairs(["2000"]), "a first and a last period. Received"),
            (lambda: pairs([("1", "2")], label="mid"), "label is one of both, first, last"),
            (lambda: sliding(["1", "2"], 3), "from 1 to 2 periods, .* Received 3"),
            (lambda: sliding(["1", "2"], 1, "mid"), "label is one of all, first, last"),
            (lambda: same([2010]), r"named as in the calendar, .* Received \[2010\]"),
            (lambda: mapped({"2010": 2000}), "named as in the calendar, .* Received 2000"),
        ],
    )
    def test_what_is_no_rule_is_refused(self, make, match):
        with pytest.raises(SpecError, match=match):
            make()


class TestNearest:
    @settings(deadline=None, max_examples=60)
    @given(
        st.sets(st.integers(1990, 2020), min_size=1, max_size=6),
        st.sets(st.integers(1990, 2020), min_size=1, max_size=6),
    )
    def test_it_is_that_of_a_plain_loop_over_middles(self, labels, inputs):
        spec = _spec(cube.years(*range(1990, 2021)))
        found = nearest(spec, map(str, sorted(labels)), map(str, inputs), within_days=40_000)
        for label, timing in zip(sorted(labels), found, strict=True):
            middles = {
                y: pd.Timestamp(y, 1, 1) + (pd.Timestamp(y + 1, 1, 1) - pd.Timestamp(y, 1, 1)) / 2
                for y in inputs | {label}
            }
            best = min(sorted(inputs), key=lambda y: abs(middles[y] - middles[label]))
            assert timing == Timing(label=(str(label),), inputs=(str(best),))

    def test_of_two_as_near_the_earlier_is_taken(self):
        spec = _spec(cube.years(2001, 2002, 2003))
        for order in (["2001", "2003"], ["2003", "2001"]):
            assert nearest(spec, ["2002"], order, within_days=400)[0].inputs == ("2001",)

    def test_none_near_enough_is_refused_with_the_nearest(self):
        spec = _spec(cube.years(2000, 2010))
        with pytest.raises(
            SpecError, match="'2010' has no input period within 365 days. .* '2000', 3652.5 days"
        ):
            nearest(spec, ["2010"], ["2000"], within_days=365)

    def test_unknown_periods_and_none_are_refused(self):
        spec = _spec(cube.years(2000))
        with pytest.raises(SpecError, match="The calendar has no '1999'"):
            nearest(spec, ["1999"], ["2000"], within_days=1)
        with pytest.raises(SpecError, match="to choose from. Received none"):
            nearest(spec, ["2000"], [], within_days=1)


WINDOWS = Windows(shape=toy.SHAPE, size=12, stride=7)
EVEN = _spec(cube.two_years(*range(1998, 2013, 2)))


def _outlines(years, *, seed=0):
    """Squares here and there, a year each."""
    rng = np.random.default_rng(seed)
    left, bottom, right, top = toy.GRID.boundingbox.bbox
    x, y = rng.uniform(left, right - 400, len(years)), rng.uniform(bottom, top - 400, len(years))
    shapes = shapely.box(x, y, x + 400, y + 400)
    return gpd.GeoDataFrame({"year": years}, geometry=shapes, crs="EPSG:31985")


def _by_loop(outlines):
    """Mode of the years of each window as pandas counts it: the least of the commonest."""
    t = toy.GRID.transform
    for y, x in WINDOWS.origins():
        left, top = t.c + x * t.a, t.f + y * t.e
        box = shapely.box(left, top - 360, left + 360, top)
        years = outlines["year"][outlines.intersects(box)].dropna()
        yield None if years.empty else int(years.mode().iloc[0])


class TestOutlines:
    @pytest.mark.parametrize("at_once", [10, 1 << 16])
    def test_each_window_gets_the_even_period_after_the_commonest_year(self, at_once, monkeypatch):
        module = importlib.import_module("training.outline_periods")
        monkeypatch.setattr(module, "AT_ONCE", at_once)
        years = np.random.default_rng(1).integers(2000, 2010, 25).astype(float)
        years[3] = np.nan
        outlines = _outlines(years)
        expected = [None if m is None else str(m + m % 2) for m in _by_loop(outlines)]
        found = outline_periods(EVEN, WINDOWS, outlines.to_crs("EPSG:4674"), "year")
        assert found.tolist() == expected
        assert {None, *map(str, range(2000, 2010, 2))} < set(expected)

    @pytest.mark.parametrize(
        ("rounding", "year", "period"),
        [
            ("up", 2003, "2004"),
            ("up", 2004, "2004"),
            ("up", 1943, "2000"),
            ("up", 2009, None),
            ("nearest", 2003, "2002"),
            ("nearest", 2090, "2008"),
            ("nearest", 2006, "2004"),
            ("same", 2004, "2004"),
            ("same", 2003, None),
        ],
    )
    def test_years_go_to_periods_by_the_rule(self, rounding, year, period):
        outlines = gpd.GeoDataFrame(
            {"year": [year]}, geometry=[toy.GRID.extent.geom], crs="EPSG:31985"
        )
        periods = ["2000", "2002", "2004", "2008"]
        found = outline_periods(EVEN, WINDOWS, outlines, "year", periods=periods, rounding=rounding)
        assert set(found) == {period}

    def test_windows_of_another_grid_are_refused(self):
        windows = Windows(shape=(200, 104), size=12, stride=7)
        with pytest.raises(SpecError, match=r"a grid of \(200, 104\), the cube on \(96, 104\)"):
            outline_periods(EVEN, windows, _outlines([2000]), "year")

    @pytest.mark.parametrize(
        ("years", "match"),
        [
            ([2000, -999], r"whole years, 1..9999. 1 of 2 are none, the first -999"),
            ([2000, 2000.5], r"1 of 2 are none, the first 2000.5"),
            (["a", "b"], "years as numbers. Received 'a'"),
        ],
    )
    def test_what_is_no_year_is_refused(self, years, match):
        with pytest.raises(PolygonError, match=match):
            outline_periods(EVEN, WINDOWS, _outlines(years), "year")

    def test_other_mistakes_are_refused(self):
        with pytest.raises(PolygonError, match="no column 'when'. There are: year, geometry"):
            outline_periods(EVEN, WINDOWS, _outlines([2000]), "when")
        with pytest.raises(
            SpecError, match="rounding is one of up, nearest, same. Received 'down'"
        ):
            outline_periods(EVEN, WINDOWS, _outlines([2000]), "year", rounding="down")
        with pytest.raises(SpecError, match="The calendar has no '1999'"):
            outline_periods(EVEN, WINDOWS, _outlines([2000]), "year", periods=["1999"])
