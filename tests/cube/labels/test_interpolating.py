"""From polygons to polygons through pixels: areas of intersection, and nothing is lost."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import shapely
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st

import cube
from cube.coverage import entries
from cube.errors import PolygonError, SpecError, StoreError
from cube.labels.interpolating import interpolate
from tests.cube.geometry import partition, square
from tests.cube.labelling import SHAPE, amounts, cover, dense, lights, new, pixels, seeds, write
from tests.rasters import grid_at

few = settings(deadline=None, max_examples=4)


@pytest.fixture(scope="module", autouse=True)
def small_tiles():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entries, "TILE", 16)
        yield


@st.composite
def patchworks(draw):
    """Boxes of whole pixels that cover the grid."""
    xs = sorted({0, 50, *draw(st.lists(st.integers(1, 49), max_size=4))})
    ys = sorted({0, 40, *draw(st.lists(st.integers(1, 39), max_size=4))})
    return [
        shapely.box(left, top, right, bottom)
        for top, bottom in itertools.pairwise(ys)
        for left, right in itertools.pairwise(xs)
    ]


def both(sources, targets, **options):
    """Coverages of two sets in one cube, with lights in 2000."""
    url = new(**options)
    write(url, "lights", lights(seed=8), time=0)
    return cover(sources, url=url, name="blocks"), cover(targets, url=url, name="tracts")


def parts(sources, targets):
    """Shapely's areas of intersection (target, source)."""
    return shapely.area(shapely.intersection(np.array(targets)[:, None], np.array(sources)))


class TestPatchworks:
    @few
    @given(sources=patchworks(), targets=patchworks(), seed=seeds)
    def test_parts_are_those_of_the_areas_of_intersection(self, sources, targets, seed):
        blocks, tracts = both(sources, targets)
        values = amounts(len(sources), seed=seed, unknown=0)
        of, met = amounts(len(sources), seed=seed + 1, unknown=0), parts(sources, targets)
        area = shapely.area(sources)
        table = interpolate(values, blocks, tracts)
        np.testing.assert_allclose(table["value"], met @ (values / area), rtol=1e-9, atol=1e-9)
        assert table["value"].sum() == pytest.approx(values.sum(), rel=1e-12)
        mean = interpolate(values, blocks, tracts, how="intensive")
        np.testing.assert_allclose(mean["value"], met @ values / met.sum(axis=1), rtol=1e-9)
        ratio = interpolate(values, blocks, tracts, how="share", of=of, bounded=False)
        whole = met @ (of / area)
        inside = whole > 0
        expected = (met @ (values * of / area))[inside] / whole[inside]
        np.testing.assert_array_equal(ratio["value"].notna(), inside)
        np.testing.assert_allclose(ratio["value"][inside], expected, rtol=1e-9, atol=1e-9)

    @few
    @given(sources=patchworks(), targets=patchworks(), seed=seeds)
    def test_by_weight_it_is_what_a_layer_in_between_would_give(self, sources, targets, seed):
        blocks, tracts = both(sources, targets)
        values = amounts(len(sources), seed=seed)
        options = {"weight": "lights", "empty": "area"}
        table = interpolate(values, blocks, tracts, time="2000", **options)
        cube.spread(blocks, "persons", values, time="2000", **options)
        collected = cube.collect(tracts, "persons", time="2000")
        known = collected["valid_share"] > 0
        np.testing.assert_allclose(table["value"].fillna(0), collected["sum"], atol=1e-8)
        np.testing.assert_array_equal(table["value"].notna(), known)
        np.testing.assert_allclose(table["valid_share"], collected["valid_share"], rtol=1e-12)


class TestAnyPolygons:
    def test_totals_inside_both_are_conserved(self):
        sources = partition(SHAPE, seed=1, points=30)
        blocks, tracts = both(sources, partition(SHAPE, seed=2, points=7))
        values = amounts(len(sources), seed=3, unknown=0)
        for options in ({}, {"weight": "lights", "time": "2000"}):
            table = interpolate(values, blocks, tracts, **options)
            assert table["value"].sum() == pytest.approx(values.sum(), rel=1e-6)

    def test_it_equals_a_plain_product_of_shares(self):
        sources, targets = partition(SHAPE, seed=1, points=9), [square(3.3, 4.7, 21.2)]
        blocks, tracts = both(sources, targets)
        values, light = amounts(len(sources), seed=3, unknown=0), np.nan_to_num(lights(seed=8))
        table = interpolate(values, blocks, tracts, weight="lights", time="2000")
        density = sum(
            value * share * light / (share * light).sum()
            for value, share in zip(values, dense(blocks), strict=True)
        )
        assert table["value"][0] == pytest.approx((dense(tracts)[0] * density).sum(), rel=1e-9)

    def test_a_constant_stays_constant(self):
        sources = partition(SHAPE, seed=1, points=9)
        blocks, tracts = both(sources, [square(3.3, 4.7, 21.2), square(-3, -3, 8)])
        mean = interpolate(np.full(len(sources), 7.25), blocks, tracts, how="intensive")
        np.testing.assert_allclose(mean["value"], 7.25, rtol=1e-12)

    def test_regions_and_workers_change_no_bit(self):
        sources, targets = partition(SHAPE, seed=1, points=30), partition(SHAPE, seed=2, points=7)
        values, tables = amounts(len(sources), seed=3), []
        with Client(
            processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
        ) as client:
            for region, worker in ((16, None), (32, client)):
                sets = both(sources, targets, region=region)
                options = {"weight": "lights", "time": "2000", "client": worker}
                tables.append(interpolate(values, *sets, **options))
        assert tables[0].equals(tables[1])


class TestUnknown:
    def test_zero_unknown_and_elsewhere_are_three_things(self):
        sources = [square(0, 0, 4), square(4, 0, 4), square(8, 0, 4)]
        targets = [square(0, 0, 4), square(4, 0, 4), square(6, 0, 4), square(20, 20, 4)]
        blocks, tracts = both(sources, [*targets, square(-2, 10, 4), square(80, 80, 2)])
        table = interpolate([0, np.nan, 32], blocks, tracts)
        np.testing.assert_allclose(table["value"], [0, np.nan, 16, np.nan, np.nan, np.nan])
        np.testing.assert_allclose(table["valid_share"], [1, 0, 0.5, 0, 0, 0])
        np.testing.assert_allclose(table["covered_share"], [1, 1, 1, 1, 0.5, 0])

    def test_rows_are_named_by_the_targets_ids(self):
        url = new()
        blocks = cover([square(0, 0, 8)], url=url, name="blocks")
        tracts = cover([square(0, 0, 4), square(4, 0, 4)], url=url, ids=["02", "01"])
        table = interpolate([64], blocks, tracts)
        assert table.index.tolist() == ["02", "01"]
        assert table.index.name == "block"
        np.testing.assert_allclose(table["value"], 16)

    def test_nothing_is_written(self, tmp_path, contents):
        url = new(url=str(tmp_path / "c.zarr"))
        blocks = cover([square(0, 0, 8)], url=url, name="blocks")
        before = contents(url)
        interpolate([64], blocks, blocks)
        assert contents(url) == before
        assert np.isnan(pixels(blocks)).all()


class TestRefusals:
    def test_sets_on_two_grids_are_refused(self):
        blocks = cover([square(0, 0, 8)])
        other = cover([square(0, 0, 1)], grid=grid_at((5, 6), pixel_m=1200.0))
        match = r"must lie on one grid. 'tracts' lies on one of 40 x 50 pixels of 30 .* build both"
        with pytest.raises(PolygonError, match=match):
            interpolate([1], blocks, other)

    @pytest.mark.parametrize(
        ("options", "error", "match"),
        [
            ({"weight": "nobody"}, SpecError, "has no variable 'nobody'"),
            ({"weight": "lights"}, SpecError, "varies with time; say of which period"),
            ({"weight": "built"}, StoreError, "12 of 12 regions that were never written"),
            ({"time": "2000"}, SpecError, "time='2000' is the period of weight=; give both"),
            ({"how": "share"}, SpecError, "how='share' needs of="),
        ],
    )
    def test_options_that_cannot_be_used_are_refused(self, options, error, match):
        blocks = cover([square(0, 0, 8)])
        with pytest.raises(error, match=match):
            interpolate([1], blocks, blocks, **options)

    def test_negative_amounts_are_refused_unless_they_are_changes(self):
        blocks = cover([square(0, 0, 8)])
        with pytest.raises(PolygonError, match="Amounts must be 0 or more"):
            interpolate([-64], blocks, blocks)
        assert interpolate([-64], blocks, blocks, signed=True)["value"][0] == pytest.approx(-64)
