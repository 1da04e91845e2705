"""Amounts divided by weights: totals are conserved, and people live where there is light."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st

import cube
from cube import coverage, ledger
from cube.coverage import entries
from cube.errors import PolygonError, SourceError, SpecError, StoreError
from cube.labels.labelling import plan_spread
from cube.labels.weights import Weight
from cube.provenance import inputs_of
from tests.cube.geometry import frame_of, partition, sets, square, star
from tests.cube.labelling import (
    GRID,
    SHAPE,
    amounts,
    cover,
    dense,
    lights,
    new,
    pixels,
    seeds,
    write,
)

few = settings(deadline=None, max_examples=5)


@pytest.fixture(scope="module", autouse=True)
def small_tiles():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entries, "TILE", 16)
        yield


def lit(polygons, weights, **options):
    """A coverage in a cube with lights in 2000."""
    found = cover(polygons, **options)
    write(found.url, "lights", weights, time=0)
    return found


class TestLaws:
    @few
    @given(polygons=sets(SHAPE), seed=seeds)
    def test_it_equals_a_plain_loop_over_polygons(self, polygons, seed):
        weights = lights(seed=seed)
        found, persons = lit(polygons, weights), amounts(len(polygons), seed=seed)
        cube.spread(found, "persons", persons, time="2000", weight="lights", empty="area")
        light = np.nan_to_num(weights)
        expected, known = np.zeros(SHAPE), np.zeros(SHAPE, bool)
        for share, amount, part in zip(dense(found), persons, found.covered_share, strict=True):
            if np.isnan(amount) or not share.any():
                continue
            over = share * light if (share * light).any() else share
            expected += amount * part * over / over.sum()
            known |= share > 0
        here = pixels(found)
        np.testing.assert_array_equal(np.isnan(here), ~known)
        np.testing.assert_allclose(here[known], expected[known], rtol=1e-9, atol=1e-12)

    @few
    @given(polygons=sets(SHAPE), seed=seeds)
    def test_the_total_is_that_of_the_parts_on_the_grid(self, polygons, seed):
        found = lit(polygons, lights(seed=seed))
        persons = amounts(len(polygons), seed=seed)
        cube.spread(found, "persons", persons, time="2000", weight="lights", empty="area")
        expected = np.nansum(persons * found.covered_share)
        assert np.nansum(pixels(found)) == pytest.approx(expected, rel=1e-12)

    @few
    @given(polygons=sets(SHAPE), seed=seeds, weight=st.sampled_from([0.25, 1.0, 3.7, 1e9]))
    def test_the_same_weight_everywhere_is_no_weight(self, polygons, seed, weight):
        found = lit(polygons, np.full(SHAPE, weight))
        persons = amounts(len(polygons), seed=seed)
        cube.spread(found, "persons", persons, time="2000", weight="lights")
        cube.spread(found, "persons", persons, time="2010")
        one, other = pixels(found, time=0), pixels(found, time=1)
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=0)

    @few
    @given(seed=seeds, side=st.sampled_from([4, 5, 10]))
    def test_patches_of_whole_pixels_come_back_by_collecting(self, seed, side):
        corners = [(x, y) for y in range(0, 40, side) for x in range(0, 50, side)]
        found = lit([square(x, y, side) for x, y in corners], lights(seed=seed) + 1e-3)
        persons = amounts(len(corners), seed=seed, unknown=0)
        cube.spread(found, "persons", persons, time="2000", weight="lights", empty="area")
        table = cube.collect(found, "persons", time="2000")
        inside = found.covered_share == 1
        np.testing.assert_allclose(table["sum"][inside], persons[inside], rtol=1e-11)
        assert (table["sum"] == 0).equals(table["sum"] * 0 + persons == 0)

    @few
    @given(seed=seeds)
    def test_of_any_polygons_all_persons_come_back_where_they_cover_the_grid(self, seed):
        parts = partition(SHAPE, seed=seed, points=12)
        found = lit(parts, lights(seed=seed, holes=False))
        persons = amounts(len(parts), seed=seed, unknown=0)
        cube.spread(found, "persons", persons, time="2000", weight="lights")
        table = cube.collect(found, "persons", time="2000")
        assert table["sum"].sum() == pytest.approx(persons.sum(), rel=1e-6)

    def test_regions_chunks_and_workers_change_no_bit(self):
        parts = [*partition(SHAPE, seed=5, points=14), star((20, 25), np.array([14.0, 9, 17]))]
        weights, persons = lights(seed=5), amounts(len(parts), seed=5, unknown=0.1)
        results = []
        with Client(
            processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
        ) as client:
            for chunk, region, worker in ((16, 16, None), (8, 24, client), (64, 64, None)):
                found = lit(parts, weights, region=region, chunk=chunk)
                options = {"weight": "lights", "client": worker}
                cube.spread(found, "persons", persons, time="2000", **options)
                share = np.clip(persons / 3000, 0, 1)
                options |= {"how": "share", "of": persons}
                cube.spread(found, "persons", share, time="2010", weight_time="2000", **options)
                results.append([pixels(found, time=time) for time in (0, 1)])
        np.testing.assert_array_equal(results[0], results[1])
        np.testing.assert_array_equal(results[0], results[2])


class TestWhere:
    def test_nobody_lives_where_the_weight_is_zero_or_unknown(self):
        weights = np.zeros(SHAPE)
        weights[2, 2:6], weights[3, 2:6], weights[4, 2] = 3, 1, np.nan
        found = lit([square(2, 2, 4)], weights)
        cube.spread(found, "persons", [32], time="2000", weight="lights")
        here = pixels(found)
        np.testing.assert_allclose(here[2, 2:6], 6)
        np.testing.assert_allclose(here[3, 2:6], 2)
        np.testing.assert_array_equal(here[4:6, 2:6], 0)
        assert np.isfinite(here).sum() == 16

    def test_a_pixel_that_two_share_gets_of_each_by_its_share_and_the_weight(self):
        weights = np.ones(SHAPE)
        weights[0, 1] = 5
        found = lit([shapely.box(0, 0, 1.5, 1), shapely.box(1.5, 0, 3, 1)], weights)
        cube.spread(found, "persons", [7, 14], time="2000", weight="lights")
        np.testing.assert_allclose(pixels(found)[0, :3], [2, 5 + 10, 4])

    def test_unknown_persons_leave_their_pixels_empty_and_their_neighbours_alone(self):
        found = lit([shapely.box(0, 0, 1.5, 1), shapely.box(1.5, 0, 3, 1)], np.ones(SHAPE))
        cube.spread(found, "persons", [6, np.nan], time="2000", weight="lights")
        np.testing.assert_allclose(pixels(found)[0, :3], [4, 2, np.nan])

    def test_what_lies_outside_the_grid_by_area_stays_there(self):
        found = lit([shapely.box(-2, 0, 2, 1)], np.arange(2000.0).reshape(SHAPE))
        cube.spread(found, "persons", [10], time="2000", weight="lights")
        np.testing.assert_allclose(pixels(found)[0, :2], [0, 5])

    def test_a_band_of_a_stack_weighs_with_its_physical_values(self):
        stored = np.full((2, *SHAPE), 7, "int16")
        stored[1, 2, 2:6] = [10, 20, -999, 10]
        found = cover([shapely.box(2, 2, 6, 3)])
        write(found.url, "bands", stored, time=0)
        cube.spread(found, "persons", [8], time="2000", weight=("bands", "night"))
        np.testing.assert_allclose(pixels(found)[2, 2:6], [2, 4, 0, 2])

    def test_a_static_weight_serves_every_period(self):
        stored = np.full(SHAPE, 100)
        stored[:, :3] = 50
        found = cover([shapely.box(2, 2, 4, 3)])
        write(found.url, "built", stored)
        cube.spread(found, "persons", [3], time="2010", weight="built")
        np.testing.assert_allclose(pixels(found, time=1)[2, 2:4], [1, 2])

    def test_the_weight_is_of_the_same_period_unless_another_is_named(self):
        found = lit([shapely.box(2, 2, 4, 3)], np.ones(SHAPE))
        later = np.ones(SHAPE)
        later[:, 3] = 3
        write(found.url, "lights", later, time=1)
        cube.spread(found, "persons", [4], time="2010", weight="lights")
        cube.spread(found, "persons", [4], time="2000", weight="lights", weight_time="2010")
        cube.spread(found, "fixed", [4], weight="lights", weight_time="2000")
        for layer, time, expected in (("persons", 1, 3), ("persons", 0, 3), ("fixed", None, 2)):
            assert pixels(found, layer, time=time)[2, 3] == pytest.approx(expected)


class TestEmpty:
    POLYGONS = (square(2, 2, 4), square(20, 20, 4), square(30, 30, 4))

    @pytest.fixture
    def found(self):
        weights = np.zeros(SHAPE)
        weights[:10, :10] = 1
        return lit(self.POLYGONS, weights, ids=["001", "002", "003"])

    def test_persons_without_a_place_are_refused_and_nothing_is_written(self, found):
        match = (
            r"^2 of 3 polygons have something to divide and no pixel of positive weight, the first "
            r"in row 1 \('002'\), row 2 \('003'\)\. Give empty='area' to divide theirs by area\.$"
        )
        with pytest.raises(PolygonError, match=match):
            cube.spread(found, "persons", [16, 32, 1], time="2000", weight="lights")
        assert inputs_of(found.url, "persons") == {}

    def test_they_are_divided_by_area_on_purpose_and_the_report_says_so(self, found, caplog):
        report = cube.spread(
            found, "persons", [16, 32, 48], time="2000", weight="lights", empty="area"
        )
        assert str(report).startswith("label persons (2 polygons by area): 12 done")
        assert "2 of 3 polygons have something to divide and no pixel of pos" in caplog.text
        for place, value in ((3, 1), (21, 2), (31, 3)):
            assert pixels(found)[place, place] == pytest.approx(value)

    def test_nobody_and_unknown_need_no_place(self, found):
        cube.spread(found, "persons", [16, 0, np.nan], time="2000", weight="lights")
        here = pixels(found)
        np.testing.assert_array_equal(here[20:24, 20:24], 0)
        assert np.isnan(here[30:34, 30:34]).all()

    def test_of_shares_it_is_the_denominators_that_need_a_place(self, found):
        options = {"time": "2000", "weight": "lights", "how": "share"}
        with pytest.raises(PolygonError, match="1 of 3 polygons have something to divide"):
            cube.spread(found, "persons", [0.5, 0, 0.5], of=[4, 4, 0], **options)
        cube.spread(found, "persons", [0.5, 0.1, 0.5], of=[4, 0, 0], **options)
        assert pixels(found)[3, 3] == 0.5
        assert np.isnan(pixels(found)[20:, 20:]).all()


class TestRuns:
    def test_what_is_done_is_not_weighed_again(self, tmp_path, contents, monkeypatch):
        found = lit([square(2, 2, 30)], lights(seed=1), url=new(url=str(tmp_path / "c.zarr")))
        cube.spread(found, "persons", [3], time="2000", weight="lights")
        before = contents(found.url)
        monkeypatch.delattr(Weight, "totals")
        report = cube.spread(found, "persons", [3], time="2000", weight="lights")
        assert (report.count("done"), report.count("skipped")) == (0, 12)
        assert contents(found.url) == before

    @pytest.mark.parametrize("options", [{}, {"weight": "built"}, {"weight_time": "2010"}])
    def test_another_weight_for_the_same_period_is_refused(self, options):
        found = lit([square(2, 2, 30)], lights(seed=1))
        write(found.url, "lights", lights(seed=2), time=1)
        write(found.url, "built", np.ones(SHAPE))
        cube.spread(found, "persons", [3], time="2000", weight="lights")
        if "weight_time" in options:
            options = {"weight": "lights", **options}
        with pytest.raises(SourceError, match="already holds regions made from other inputs"):
            cube.spread(found, "persons", [3], time="2000", **options)

    def test_weights_that_have_changed_are_other_inputs(self):
        found = lit([square(2, 2, 30)], lights(seed=1))
        cube.spread(found, "persons", [3], time="2000", weight="lights")
        spec = cube.read_spec(found.url)
        region = next(cube.regions(spec, "lights", time=0))
        data = np.full(region.shape, 2.0)
        cube.write_region(found.url, "lights", region, data, spec=spec, overwrite=True)
        with pytest.raises(SourceError, match="already holds regions made from other inputs"):
            cube.spread(found, "persons", [3], time="2000", weight="lights")
        cube.spread(found, "persons", [3], time="2000", weight="lights", overwrite=True)
        assert np.nansum(pixels(found)) == pytest.approx(3)

    def test_provenance_names_the_weight_and_its_values(self):
        found = lit([square(2, 2, 30)], lights(seed=1))
        cube.spread(found, "persons", [3], time="2000", weight="lights")
        made = inputs_of(found.url, "persons")["2000"]["from"]
        assert made["empty"] == "refuse"
        assert {k: made["weight"][k] for k in ("name", "band", "period")} == {
            "name": "lights",
            "band": None,
            "period": "2000",
        }
        assert len(made["weight"]["values"]) == 12

    def test_a_plan_counts_both_readings_of_the_weight_and_makes_none_of_all(self, monkeypatch):
        found = lit([square(2, 2, 30)], lights(seed=1))
        monkeypatch.delattr(Weight, "totals")
        by_area = plan_spread(found, "persons", [3], time="2000")
        plan = plan_spread(found, "persons", [3], time="2000", weight="lights", calibrate=True)
        assert plan.bytes_in - by_area.bytes_in == 2 * 8 * SHAPE[0] * SHAPE[1]
        assert plan.peak_bytes > by_area.peak_bytes
        assert plan.requests > by_area.requests
        assert plan.seconds > 0
        assert not ledger.ticks(found.url, cube.read_spec(found.url), "persons").any()

    def test_a_damaged_weight_is_an_error_and_no_number(self, tmp_path):
        found = lit([square(2, 2, 30)], lights(seed=1), url=new(url=str(tmp_path / "c.zarr")))
        chunk = tmp_path / "c.zarr" / "lights" / "c" / "0" / "1" / "1"
        content = bytearray(chunk.read_bytes())
        content[5] ^= 1
        chunk.write_bytes(content)
        with pytest.raises(StoreError, match="'lights' cannot be read"):
            cube.spread(found, "persons", [3], time="2000", weight="lights")


class TestRefusals:
    @pytest.fixture
    def found(self):
        return lit([square(2, 2, 4)], np.ones(SHAPE))

    def refused(self, found, error, match, layer="persons", time="2000", **options):
        with pytest.raises(error, match=match):
            cube.spread(found, layer, [3], time=time, **options)
        assert inputs_of(found.url, layer) == {}

    def test_a_negative_weight_is_named_with_its_place(self):
        weights = np.ones(SHAPE)
        weights[3, 5] = -2.5
        match = (
            r"^Weights must be finite and 0 or more\. 'lights' \(2000\) holds -2\.5 in row 3, "
            r"column 5 of the grid; make another layer of it first\.$"
        )
        self.refused(lit([square(2, 2, 4)], weights), SpecError, match, weight="lights")

    def test_a_weight_that_is_not_whole_is_refused(self, found):
        match = r"The weight 'lights' \(2010\) has 12 of 12 regions that were never written; fill"
        self.refused(found, StoreError, match, time="2010", weight="lights")

    @pytest.mark.parametrize(
        ("weight", "match"),
        [
            ("nobody", "has no variable 'nobody'"),
            ("bands", r"one band of the stack 'bands': give weight=\('bands', band\), one of red,"),
            (("bands", "blue"), "one of red, night. Received 'blue'"),
            (("lights", "red"), "The layer 'lights' has no bands; give weight='lights'"),
            (("bands", "red", "night"), r"A weight is a layer, or a pair \(stack, band\)"),
            (5, "A weight is a layer, or a pair"),
            ("cover", "'cover' holds classes, whose numbers are no weights"),
            ("persons", "'persons' cannot be its own weight; give another layer"),
        ],
    )
    def test_a_weight_that_there_is_not_is_refused(self, found, weight, match):
        self.refused(found, SpecError, match, weight=weight)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"weight": "lights", "weight_time": "1999"}, "The calendar has no '1999'"),
            ({"weight": "built", "weight_time": "2000"}, "'built' has no time dimension"),
            ({"weight_time": "2000"}, "weight_time='2000' needs weight="),
            (
                {"weight": "lights", "layer": "fixed", "time": None},
                "The weight 'lights' varies with time; say of which period: 2000, 2010",
            ),
        ],
    )
    def test_a_period_that_there_is_not_is_refused(self, found, options, match):
        self.refused(found, SpecError, match, **options)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"how": "intensive", "weight": "lights"}, "nothing is divided with how='intensive'"),
            ({"empty": "area"}, "empty='area' is for amounts divided by weight="),
            ({"empty": "drop", "weight": "lights"}, "empty must be one of refuse, area. Received"),
        ],
    )
    def test_options_without_effect_are_refused(self, found, options, match):
        self.refused(found, SpecError, match, **options)


def test_the_coverage_may_lie_elsewhere(tmp_path):
    url = new()
    write(url, "lights", lights(seed=3, holes=False), time=0)
    frame = frame_of([square(2, 2, 30)], GRID)
    found = coverage.build(url, "tracts", frame, into=str(tmp_path / "annex"))
    cube.spread(found, "persons", [9], time="2000", weight="lights")
    assert np.nansum(pixels(found)) == pytest.approx(9)
