"""Areal crosswalks: shapely's areas, one pair at a time, are the oracle."""

from __future__ import annotations

import importlib
import itertools
import math

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cube.crosswalks.overlay import cells, overlay, squares
from cube.errors import PolygonError, SpecError
from tests.cube.geometry import frame_of, partition, sets, square
from tests.rasters import UTM, grid_at

overlays = importlib.import_module("cube.crosswalks.overlay")  # of which the name is a function's

SHAPE = (40, 50)
GRID = grid_at(SHAPE)
PARTITION = partition(SHAPE)

few = settings(deadline=None, max_examples=15)


def named(shapes, letter):
    frame = frame_of(shapes)
    return frame.assign(id=[f"{letter}{i}" for i in range(len(frame))])


def laid(sources, targets, **options):
    return overlay(named(sources, "s"), named(targets, "t"), source_id="id", target_id="id",
                   **options)  # fmt: skip


class TestOverlay:
    @few
    @given(sources=sets(SHAPE), pairs=st.sampled_from([1, 7, 50_000]))
    def test_a_part_is_the_area_shared_over_the_area(self, sources, pairs):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(overlays, "PAIRS", pairs)
            found = laid(sources, PARTITION)
        expected = [[s.intersection(t).area / s.area for s in sources] for t in PARTITION]
        np.testing.assert_allclose(found.matrix.toarray(), expected, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(found.size, [s.area * 900 for s in sources])

    @few
    @given(sources=sets(SHAPE), seed=st.integers(0, 99))
    def test_the_total_over_a_partition_and_what_lies_outside_is_conserved(self, sources, seed):
        found = laid(sources, PARTITION)
        values = pd.Series(np.random.default_rng(seed).uniform(0, 1e6, len(sources)), found.sources)
        values.name = "persons"
        result = found.apply(values)
        total = np.nansum(result) + result.attrs["lost"]["persons"]
        assert total == pytest.approx(values.sum(), rel=1e-5)
        box = shapely.box(0, 0, 50, 40)
        outside = [s.difference(box).area / s.area for s in sources]
        np.testing.assert_allclose(found.lost_share, outside, atol=2e-6)

    @few
    @given(sources=sets(SHAPE))
    def test_a_constant_stays_constant(self, sources):
        found = laid(sources, PARTITION)
        means = found.apply(pd.Series(7.0, found.sources), how="intensive")
        np.testing.assert_allclose(means.dropna(), 7, rtol=1e-12)

    @few
    @given(side=st.sampled_from([4.0, 11.0]), seed=st.integers(0, 99))
    def test_what_a_footprint_sees_is_the_mean_by_area(self, side, seed):
        rng = np.random.default_rng(seed)
        footprints = [square(*rng.uniform(0, 30, 2), side) for _ in range(4)]
        value = rng.uniform(0, 1, len(PARTITION))
        found = laid(PARTITION, footprints, overlapping=True)
        means = found.apply(pd.Series(value, found.sources), how="intensive")
        for mean, image in zip(means, footprints, strict=True):
            area = np.array([image.intersection(block).area for block in PARTITION])
            assert mean == pytest.approx((value * area).sum() / area.sum(), rel=1e-6)

    def test_a_source_inside_one_target_goes_there_exactly_whole(self):
        found = laid([square(10.1, 10.1, 0.3)], [square(0, 0, 30), square(30, 0, 10)])
        assert found.matrix.toarray().tolist() == [[1.0], [0.0]]
        assert found.cover == "whole"

    def test_what_only_touches_is_no_part(self):
        assert laid([square(0, 0, 10)], [square(10, 0, 10), square(0, 0, 10)]).matrix.nnz == 1

    def test_what_lies_outside_is_reported(self):
        found = laid([square(0, 0, 10), square(20, 0, 10)], [square(5, 0, 10)])
        assert found.lost_share.tolist() == pytest.approx([0.5, 1])
        assert found.notes == ("0.75 of the sources' area lies outside all targets",)

    def test_targets_that_overlap_are_refused_unless_meant(self):
        targets = [square(0, 0, 10), square(5, 0, 10)]
        with pytest.raises(PolygonError, match="Targets overlap in 1 of 1 sources, which would"):
            laid([square(0, 0, 10)], targets)
        found = laid([square(0, 0, 10)], targets, overlapping=True)
        assert found.sums.tolist() == pytest.approx([1.5])

    @few
    @given(targets=sets(SHAPE))
    def test_targets_that_overlap_are_found_though_parts_of_sources_are_lost(self, targets):
        targets = targets[:4]
        source = square(5, 5, 30)
        cut = [shapely.intersection(source, target) for target in targets]
        twice = (
            sum(
                shapely.area(shapely.intersection(one, other))
                for one, other in itertools.combinations(cut, 2)
            )
            / source.area
        )
        assume(not 1e-7 < twice < 1e-5)
        if twice < 1e-6:
            laid([source], targets)
        else:
            with pytest.raises(PolygonError, match="Targets overlap in 1 of 1 sources, which"):
                laid([source], targets)

    def test_targets_that_overlap_as_much_as_they_leave_out_are_refused(self):
        with pytest.raises(PolygonError, match="Targets overlap in 1 of 1 sources"):
            laid([shapely.box(0, 0, 4, 1)], [shapely.box(0, 0, 2, 1), shapely.box(1, 0, 3, 1)])

    def test_an_image_gives_blocks_all_that_it_holds_once_it_is_normalised(self):
        found = laid([shapely.box(0, 0, 4, 1)], [shapely.box(0, 0, 1, 1), shapely.box(1, 0, 2, 1)])
        assert found.apply(pd.Series([8.0], ["s0"])).tolist() == pytest.approx([2, 2])
        whole = found.normalised()
        assert whole.apply(pd.Series([8.0], ["s0"])).tolist() == pytest.approx([4, 4])
        assert (whole.cover, whole.lost_share.tolist()) == ("whole", [0])
        assert "parts of 1 sources scaled to sum to one, the farthest off by 0.5" in str(whole)

    def test_order_of_targets_does_not_change_a_bit(self):
        sources = named(PARTITION[:9], "s")
        targets = named([square(c, r, 8) for r in range(0, 40, 8) for c in range(0, 48, 8)], "t")
        ids = {"source_id": "id", "target_id": "id"}
        there, back = overlay(sources, targets, **ids), overlay(sources, targets[::-1], **ids)
        np.testing.assert_array_equal(there.matrix.toarray(), back.matrix.toarray()[::-1])

    def test_crs_must_be_projected_and_the_same(self):
        sources, targets = named(PARTITION, "s"), named(PARTITION, "t")
        ids = {"source_id": "id", "target_id": "id"}
        with pytest.raises(PolygonError, match="The sources are in 'WGS 84'; use GeoDataFrame"):
            overlay(sources.to_crs(4326), targets, **ids)
        with pytest.raises(PolygonError, match="must share a CRS. They have 'WGS 84 / UTM"):
            overlay(sources, targets.to_crs(6933), **ids)
        with pytest.raises(PolygonError, match="The targets do not say their CRS"):
            overlay(sources, targets.set_crs(None, allow_override=True), **ids)

    def test_columns_of_ids_must_be_there(self):
        with pytest.raises(PolygonError, match="There is no column 'GISJOIN'"):
            overlay(
                named(PARTITION, "s"), named(PARTITION, "t"), source_id="GISJOIN", target_id="id"
            )


class TestSquares:
    @few
    @given(side=st.sampled_from([2400.0, 1440.0, 1200.0]), seed=st.integers(0, 99))
    def test_they_are_centred_and_have_their_area(self, side, seed):
        xy = np.random.default_rng(seed).uniform(2e5, 8e5, (5, 2))
        points = gpd.GeoDataFrame({"image": list("abcde")}, geometry=gpd.points_from_xy(*xy.T),
                                  crs=UTM)  # fmt: skip
        found = squares(points, side)
        np.testing.assert_allclose(found.area, side**2, rtol=1e-9)
        np.testing.assert_allclose(shapely.get_coordinates(found.centroid.to_numpy()), xy)
        assert found["image"].tolist() == list("abcde")

    def test_degrees_other_shapes_and_no_side_are_refused(self):
        points = gpd.GeoDataFrame(geometry=gpd.points_from_xy([0], [0]), crs=4326)
        with pytest.raises(PolygonError, match="metres on the ground. Received 'WGS 84'"):
            squares(points, 1200)
        with pytest.raises(PolygonError, match="ground. Received 'WGS 84 / Pseudo-Mercator'"):
            squares(points.to_crs(3857), 1200)
        nowhere = gpd.points_from_xy([math.inf], [math.nan])
        for shapes in ([square(0, 0, 1)], nowhere, [None], [shapely.Point()]):
            wrong = gpd.GeoDataFrame(geometry=list(shapes), crs=UTM)
            with pytest.raises(PolygonError, match="1 of 1 geometries are none, the first in row"):
                squares(wrong, 1200)
        for side in (0, "1200", math.nan):
            with pytest.raises(SpecError, match=f"a side in metres above 0. Received {side!r}"):
                squares(points, side)


class TestCells:
    def test_they_are_the_pixels_and_say_their_place(self):
        found = cells(grid_at((2, 3), pixel_m=1200.0))
        assert found["cell"].tolist() == ["0_0", "0_1", "0_2", "1_0", "1_1", "1_2"]
        np.testing.assert_allclose(found.area, 1200**2)
        left, top = found.total_bounds[0], found.total_bounds[3]
        np.testing.assert_allclose(
            shapely.bounds(found.geometry.iloc[5]),
            [left + 2400, top - 2400, left + 3600, top - 1200],
        )

    def test_blocks_go_to_them_whole(self):
        grid = grid_at((4, 5), pixel_m=300.0)
        found = overlay(named(PARTITION, "b"), cells(grid), source_id="id", target_id="cell")
        assert found.cover == "whole"
        persons = pd.Series(np.arange(len(PARTITION), dtype=float), found.sources)
        assert found.apply(persons).sum() == pytest.approx(persons.sum(), rel=1e-12)
