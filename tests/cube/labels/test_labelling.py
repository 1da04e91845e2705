"""What people measured in polygons becomes pixels; unknown stays unknown, zero stays zero."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from distributed import Client
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import cube
from cube import coverage, ledger
from cube.coverage import entries
from cube.coverage.handle import Coverage
from cube.errors import PolygonError, SourceError, SpecError
from cube.labels.labelling import plan_spread
from cube.provenance import inputs_of
from cube.regions import Region
from tests.cube.geometry import frame_of, partition, sets, square, star
from tests.rasters import grid_at, whole

SHAPE = (40, 50)
GRID = grid_at(SHAPE)
REGIONS = 3 * 4
"""Of 16 x 16 pixels."""

_numbers = itertools.count()
few = settings(deadline=None, max_examples=5)


@pytest.fixture(scope="module", autouse=True)
def small_tiles():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entries, "TILE", 16)
        yield


def cover(polygons, *, region=16, url=None):
    spec = cube.CubeSpec(
        grid=GRID,
        calendar=cube.years(2000, 2010),
        stacks=(cube.StackSpec(name="bands", bands=("a",), dtype="float32"),),
        layers=(
            cube.LayerSpec(name="persons", dtype="float64"),
            cube.LayerSpec(name="rate", dtype="float32"),
            cube.LayerSpec(name="whole", dtype="int32", nodata=-1),
            cube.LayerSpec(name="fixed", dtype="float64", static=True),
        ),
        layout=cube.LayoutSpec(chunk=16, region=region, codec="none"),
    )
    url = cube.create(url or f"memory://labels{next(_numbers)}", spec)
    return coverage.build(url, "tracts", frame_of(polygons))


def pixels(found, layer="persons", *, time=0):
    with cube.open(found.url) as dataset:
        values = dataset[layer]
        return (values if time is None else values[time]).to_numpy()


def shares_of(found):
    """Polygon, row, column and share of every entry, one by one."""
    shares = found.shares(*whole(GRID))
    for row, col in zip(*np.nonzero(shares.label >= 0), strict=True):
        yield shares.label[row, col], row, col, 1.0
    for pixel, polygon, share in zip(shares.pixel, shares.polygon, shares.share, strict=True):
        yield polygon, pixel // SHAPE[1], pixel % SHAPE[1], share


def met(polygons):
    """The coverage of polygons each of which meets a pixel; others are refused, see below."""
    found = cover(polygons)
    assume(not ((found.pixels == 0) & (found.covered_share > 0)).any())
    return found


class TestExtensive:
    @few
    @given(polygons=sets(SHAPE), seed=st.integers(0, 99))
    def test_it_equals_a_plain_loop_over_the_shares(self, polygons, seed):
        found = met(polygons)
        rng = np.random.default_rng(seed)
        persons = rng.uniform(0, 3000, len(polygons))
        persons[rng.random(len(persons)) < 0.3] = np.nan
        cube.spread(found, "persons", persons, time="2000")
        expected, known = np.zeros(SHAPE), np.zeros(SHAPE, bool)
        for polygon, row, col, share in shares_of(found):
            if not np.isnan(persons[polygon]):
                on_grid = persons[polygon] * found.covered_share[polygon]
                expected[row, col] += on_grid * share / found.pixels[polygon]
                known[row, col] = True
        found_pixels = pixels(found)
        np.testing.assert_array_equal(np.isnan(found_pixels), ~known)
        np.testing.assert_allclose(found_pixels[known], expected[known], rtol=1e-9)

    def test_a_pixel_gets_the_persons_of_its_area(self):
        found = cover([square(2, 2, 4), square(10.5, 10.5, 1)])
        cube.spread(found, "persons", [160, 8], time="2000")
        here = pixels(found)
        np.testing.assert_allclose(here[2:6, 2:6], 10)
        np.testing.assert_allclose(here[10:12, 10:12], 2)
        assert np.nansum(here) == pytest.approx(168)

    def test_polygons_that_overlap_add_up(self):
        found = cover([square(2, 2, 4), square(4, 4, 4)])
        cube.spread(found, "persons", [160, 320], time="2000")
        np.testing.assert_allclose(pixels(found)[4:6, 4:6], 30)

    def test_a_layer_of_whole_numbers_would_round_persons_away_and_is_refused(self):
        found = cover([square(2, 2, 4)])
        with pytest.raises(SpecError, match=r"'whole' \(int32\) would round away; give it dtype"):
            cube.spread(found, "whole", [3], time="2000")

    def test_a_polygon_that_meets_no_pixel_at_all_is_reported(self, monkeypatch):
        found = cover([square(2, 2, 4), square(9, 9, 2)])
        monkeypatch.setattr(Coverage, "pixels", np.array([16.0, 0.0]))
        with pytest.raises(PolygonError, match="1 polygons are too small .* the first in row 1"):
            cube.spread(found, "persons", [3, 4], time="2000")
        cube.spread(found, "persons", [3, np.nan], time="2000")

    def test_the_report_says_what_lies_outside_the_grid(self):
        found = cover([square(-2, 2, 4), square(90, 90, 4), square(10, 10, 4)])
        report = cube.spread(found, "persons", [10, 20, 30], time="2000")
        assert str(report).startswith("label persons (25 outside the grid): ")
        assert np.nansum(pixels(found)) == pytest.approx(35)


class TestIntensive:
    @few
    @given(polygons=sets(SHAPE), seed=st.integers(0, 99))
    def test_a_pixel_gets_the_mean_of_its_polygons_by_area(self, polygons, seed):
        found = met(polygons)
        rates = np.random.default_rng(seed).uniform(-5, 5, len(polygons))
        cube.spread(found, "fixed", rates, how="intensive")
        total, weight = np.zeros(SHAPE), np.zeros(SHAPE)
        for polygon, row, col, share in shares_of(found):
            total[row, col] += rates[polygon] * share
            weight[row, col] += share
        here, inside = pixels(found, "fixed", time=None), weight > 0
        np.testing.assert_array_equal(np.isfinite(here), inside)
        np.testing.assert_allclose(here[inside], total[inside] / weight[inside], atol=1e-9)

    @few
    @given(polygons=sets(SHAPE), rate=st.integers(-1000, 1000))
    def test_a_constant_stays_constant_up_to_the_edge_of_the_last_pixel(self, polygons, rate):
        found = met(polygons)
        cube.spread(found, "rate", np.full(len(polygons), rate / 8), time="2000", how="intensive")
        here = pixels(found, "rate")
        np.testing.assert_allclose(here[np.isfinite(here)], rate / 8, rtol=1e-6)

    def test_rates_may_be_whole_numbers(self):
        found = cover([square(2, 2, 4)])
        cube.spread(found, "whole", [7], time="2000", how="intensive")
        assert np.nansum(pixels(found, "whole")) == 7 * 16


class TestUnknown:
    @pytest.mark.parametrize("how", ["extensive", "intensive"])
    def test_an_unknown_amount_leaves_its_pixels_empty_and_its_neighbours_alone(self, how):
        polygons = partition(SHAPE, seed=3, points=9)
        known = np.arange(1.0, len(polygons) + 1)
        some = known.copy()
        some[4] = np.nan
        everyone, without = cover(polygons), cover(polygons)
        cube.spread(everyone, "persons", known, time="2000", how=how)
        cube.spread(without, "persons", some, time="2000", how=how)
        matrix = np.zeros((len(polygons), *SHAPE))
        for polygon, row, col, share in shares_of(everyone):
            matrix[polygon, row, col] += share
        others = np.delete(matrix, 4, axis=0).sum(axis=0)
        here = pixels(without)
        np.testing.assert_array_equal(np.isnan(here), others == 0)
        apart = matrix[4] == 0
        np.testing.assert_allclose(here[apart], pixels(everyone)[apart], rtol=1e-12)
        if how == "extensive":
            kept = np.delete(known * everyone.covered_share, 4).sum()
            assert np.nansum(here) == pytest.approx(kept, rel=1e-9)

    def test_zero_is_zero_and_not_missing(self):
        found = cover([square(2, 2, 4), square(20, 20, 4)])
        cube.spread(found, "persons", [0, np.nan], time="2000")
        here = pixels(found)
        np.testing.assert_array_equal(here[2:6, 2:6], 0)
        assert np.isfinite(here).sum() == 16

    def test_pandas_own_missing_value_is_unknown(self):
        found = cover([square(2, 2, 4), square(20, 20, 4)])
        cube.spread(found, "persons", pd.Series([16, None], dtype="Int64"), time="2000")
        here = pixels(found)
        np.testing.assert_allclose(here[2:6, 2:6], 1)
        assert np.isfinite(here).sum() == 16

    def test_outside_all_polygons_is_nodata(self):
        found = cover([star((25, 20), np.array([9.0, 5, 12]))])
        cube.spread(found, "persons", [5], time="2000")
        inside = found.shares(*whole(GRID)).covered() > 0
        np.testing.assert_array_equal(np.isfinite(pixels(found)), inside)


class TestAgain:
    POLYGONS = (square(2, 2, 14.5), star((25, 20), np.array([18.0, 12, 15])))

    def test_a_second_run_skips_every_region_and_changes_no_byte(self, tmp_path, contents):
        found = cover(self.POLYGONS, url=str(tmp_path / "c.zarr"))
        report = cube.spread(found, "persons", [3, 4], time="2000")
        assert str(report) == f"label persons: {REGIONS} done, 0 skipped, 0 failed"
        before = contents(found.url)
        report = cube.spread(found, "persons", [3, 4], time="2000")
        assert (report.count("done"), report.count("skipped")) == (0, REGIONS)
        assert contents(found.url) == before

    def test_only_a_region_without_a_tick_is_written_again(self, tmp_path, contents):
        found = cover(self.POLYGONS, url=str(tmp_path / "c.zarr"))
        cube.spread(found, "persons", [3, 4], time="2000")
        before = contents(found.url)
        region = Region(time=0, rows=(16, 32), cols=(16, 32))
        ledger.clear(found.url, cube.read_spec(found.url), "persons", [region])
        report = cube.spread(found, "persons", [3, 4], time="2000")
        assert (report.count("done"), report.count("skipped")) == (1, REGIONS - 1)
        assert contents(found.url) == before

    @pytest.mark.parametrize(
        ("values", "how"),
        [([3, 5], "extensive"), ([3, 4], "intensive"), ([3, np.nan], "extensive")],
    )
    def test_other_values_for_the_same_period_are_refused_and_change_nothing(
        self, tmp_path, contents, values, how
    ):
        found = cover(self.POLYGONS, url=str(tmp_path / "c.zarr"))
        cube.spread(found, "persons", [3, 4], time="2000")
        before = contents(found.url)
        with pytest.raises(SourceError, match=r"\(2000\) already holds regions made from other"):
            cube.spread(found, "persons", values, time="2000", how=how)
        assert contents(found.url) == before

    def test_another_period_takes_other_values(self):
        found = cover(self.POLYGONS)
        cube.spread(found, "persons", [3, 4], time="2000")
        cube.spread(found, "persons", [6, 8], time="2010")
        np.testing.assert_array_equal(pixels(found, time=1), 2 * pixels(found, time=0))

    def test_any_size_of_region_and_a_dask_client_give_the_same_bits(self):
        with Client(
            processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
        ) as client:
            results = []
            for region, worker in ((16, None), (32, client), (48, None)):
                found = cover(self.POLYGONS, region=region)
                cube.spread(found, "persons", [3, 4], time="2000", client=worker)
                results.append(pixels(found))
        np.testing.assert_array_equal(results[0], results[1])
        np.testing.assert_array_equal(results[0], results[2])


class TestPlan:
    def test_it_writes_nothing_and_says_what_it_takes(self):
        found = cover([square(2, 2, 30)])
        plan = plan_spread(found, "persons", [10], time="2000", calibrate=True)
        assert not ledger.ticks(found.url, cube.read_spec(found.url), "persons").any()
        assert plan.regions == len(list(cube.regions(cube.read_spec(found.url), "persons", time=0)))
        assert plan.seconds > 0
        assert cube.spread(found, "persons", [10], time="2000").count("done") == plan.regions

    def test_other_values_replace_all_on_purpose(self):
        found = cover([square(2, 2, 30)])
        cube.spread(found, "persons", [10], time="2000")
        cube.spread(found, "persons", [20], time="2000", overwrite=True)
        with cube.open(found.url) as dataset:
            assert float(dataset.persons[0].sum()) == pytest.approx(20)


class TestRefusals:
    @pytest.fixture
    def found(self):
        return cover([square(2, 2, 4), square(20, 20, 4)])

    def refused(self, found, error, match, layer, values, **options):
        with pytest.raises(error, match=match):
            cube.spread(found, layer, values, **options)
        for name in ("persons", "fixed"):
            assert inputs_of(found.url, name) == {}
            assert not ledger.ticks(found.url, cube.read_spec(found.url), name).any()

    @pytest.mark.parametrize("values", [[1], [1, 2, 3], 5, [[1, 2]], []])
    def test_another_number_of_values_than_polygons_is_refused(self, found, values):
        match = "One value per polygon was expected, 2. Received shape"
        self.refused(found, PolygonError, match, "persons", values, time="2000")

    @pytest.mark.parametrize("values", [[1, np.inf], [-np.inf, 2]])
    def test_infinite_values_are_refused(self, found, values):
        match = "must be finite, or NaN where nothing is known"
        self.refused(found, PolygonError, match, "persons", values, time="2000")

    @pytest.mark.parametrize("values", [["a", "b"], pd.Series(["a", "b"]), [object(), 1]])
    def test_text_is_refused(self, found, values):
        match = "Values of polygons must be numbers"
        self.refused(found, PolygonError, match, "persons", values, time="2000")

    def test_a_way_to_spread_that_there_is_not_is_refused(self, found):
        match = "how must be one of extensive, intensive, share. Received 'mean'"
        self.refused(found, SpecError, match, "persons", [1, 2], time="2000", how="mean")

    @pytest.mark.parametrize(
        ("layer", "time", "match"),
        [
            ("nobody", "2000", "has no variable 'nobody'"),
            ("bands", "2000", "'bands' is a stack of bands; a layer was expected"),
            ("persons", None, "varies with time; give time=, one of 2000, 2010"),
            ("persons", "2005", "The calendar has no '2005'"),
            ("fixed", "2000", "has no time dimension; leave out time="),
        ],
    )
    def test_a_layer_or_period_that_does_not_fit_is_refused(self, found, layer, time, match):
        self.refused(found, SpecError, match, layer, [1, 2], time=time)


def test_provenance_names_polygons_and_values_by_digest():
    found = cover([square(2, 2, 4)])
    cube.spread(found, "persons", [16], time="2010")
    ((period, entry),) = inputs_of(found.url, "persons").items()
    assert period == "2010"
    assert (entry["from"]["polygons"], entry["from"]["how"]) == (found.digest, "extensive")
