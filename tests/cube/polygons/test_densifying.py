"""Straight edges stay where they are on the ground, and neighbours keep the edge they share."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.errors import PolygonError
from cube.polygons import densifying
from cube.polygons import report as polygon_report
from cube.polygons.reading import place_polygons
from tests.cube.geometry import partition, star
from tests.rasters import UTM, grid_at

DEGREES = "EPSG:4674"
PIXEL = 30.0
GRID = grid_at((3000, 3000))
COARSE = grid_at((300, 300), pixel_m=1000.0)


def placed(shapes, grid=GRID, crs=DEGREES):
    return place_polygons(gpd.GeoDataFrame(geometry=list(shapes), crs=crs), grid=grid)


def to_crs(shapes, crs=UTM):
    return gpd.GeoSeries(list(shapes), crs=DEGREES).to_crs(crs).to_numpy()


def densified(frame):
    return polygon_report.of(frame).densified


def reverse(shape):
    return shapely.Polygon(shape.exterior.coords[::-1])


def corners(shape):
    return set(map(tuple, shapely.get_coordinates(shape)))


class TestEdges:
    BIG = shapely.box(-36.5, -9.5, -34.5, -7.5)

    def test_short_edges_are_transformed_and_nothing_else(self):
        shapes = [shapely.box(x, -8.5, x + 0.004, -8.49) for x in np.arange(-35, -34.9, 0.004)]
        ring = shapes[3].difference(shapes[3].buffer(-0.001))
        two = shapely.MultiPolygon([shapes[5], shapes[7]])
        found = placed([*shapes, ring, two])
        expected = to_crs([*shapes, ring, two])
        assert densified(found) == 0
        assert shapely.to_wkb(found.geometry.to_numpy()).tolist() == [e.wkb for e in expected]

    def test_a_long_edge_lies_within_a_twentieth_of_a_pixel_of_where_it_is(self):
        found = placed([self.BIG])
        expected = to_crs([shapely.segmentize(self.BIG, 2e-4)])[0]
        assert densified(found) == 1
        away = shapely.hausdorff_distance(found.geometry.iloc[0].exterior, expected.exterior)
        # The oracle's own corners lie up to half a segment apart, along the edge.
        assert away < 0.6 * 2e-4 * 111_000
        apart = shapely.distance(
            shapely.points(shapely.get_coordinates(expected)), found.geometry.iloc[0].exterior
        )
        assert apart.max() < densifying.TOLERANCE_PX * PIXEL
        plain = to_crs([self.BIG])[0]
        assert shapely.hausdorff_distance(plain.exterior, expected.exterior) > 5 * PIXEL

    def test_corners_stay_and_others_are_added_between_them(self):
        found = placed([self.BIG]).geometry.iloc[0]
        assert corners(to_crs([self.BIG])[0]) < corners(found)

    def test_coarse_pixels_need_fewer_corners(self):
        fine, coarse = (
            shapely.get_num_coordinates(placed([self.BIG], grid).geometry.iloc[0])
            for grid in (GRID, COARSE)
        )
        assert 5 < coarse < fine / 3

    def test_an_edge_that_curves_both_ways_is_seen(self):
        # It crosses the central meridian in its middle, where its image has its turning point.
        edge = [(-39, -9), (-27, 9)]
        shape = shapely.Polygon([*edge, (-27, 9.5), (-39, -8.5)])
        grid = grid_at((300, 300), crs="EPSG:32725", corner=(500_000.0, 9_110_000.0))
        found = placed([shape, shapely.box(-33, -8.2, -32.9, -8.1)], grid).geometry.iloc[0]
        points = to_crs([shapely.segmentize(shapely.LineString(edge), 0.01)])[0]
        apart = shapely.distance(shapely.points(shapely.get_coordinates(points)), found.exterior)
        assert apart.max() < densifying.TOLERANCE_PX * PIXEL

    def test_holes_and_parts_are_kept(self):
        ring = self.BIG.difference(shapely.box(-36, -9, -35, -8))
        two = shapely.MultiPolygon([ring, shapely.box(-34, -9, -33, -8)])
        small = shapely.box(-35, -8.5, -34.99, -8.49)
        found = placed([small, two, ring])
        expected = to_crs([shapely.segmentize(s, 1e-3) for s in (small, two, ring)])
        assert densified(found) == 2
        kinds = [s.geom_type for s in found.geometry]
        assert kinds == ["Polygon", "MultiPolygon", "Polygon"]
        for one, other in zip(found.geometry, expected, strict=True):
            assert one.is_valid
            assert one.symmetric_difference(other).area < 1e-4 * other.area
            assert len(shapely.get_rings(one)) == len(shapely.get_rings(other))

    @settings(deadline=None, max_examples=20)
    @given(radii=st.lists(st.floats(0.01, 2.5), min_size=3, max_size=7), turn=st.floats(0, 6))
    def test_the_way_a_ring_turns_makes_no_difference(self, radii, turn):
        shape = star((-34.5, -8.5), np.array(radii), turn=turn)
        found = placed([shape, reverse(shape), shapely.box(-34.9, -8.5, -34.8, -8.4)])
        assert corners(found.geometry.iloc[0]) == corners(found.geometry.iloc[1])

    @pytest.mark.parametrize("seed", range(3))
    def test_neighbours_keep_every_edge_that_they_share(self, seed):
        cells = [
            shapely.transform(cell, lambda xy: xy * [0.1, -0.1] + [-36.0, -6.0])
            for cell in partition((30, 30), seed=seed)
        ]
        found = placed(cells).geometry.to_numpy()
        whole = to_crs([shapely.segmentize(shapely.union_all(cells), 1e-3)])[0]
        assert shapely.area(found).sum() == pytest.approx(whole.area, rel=1e-5)
        # Each piece of an edge is there once in each direction, or on the outside.
        pieces = [p for cell in found for p in zip(*two_ends(cell), strict=True)]
        turned = {(b, a) for a, b in pieces}
        assert len(pieces) == len(set(pieces))
        alone = [p for p in pieces if p not in turned]
        length = sum(np.hypot(a[0] - b[0], a[1] - b[1]) for a, b in alone)
        assert length == pytest.approx(whole.length, rel=1e-3)

    def test_blocks_of_any_size_give_the_same_bits(self, monkeypatch):
        cells = [self.BIG, *(shapely.box(-36, y, -35.9, y + 0.1) for y in np.arange(-9, -8, 0.1))]
        first = shapely.to_wkb(placed(cells).geometry.to_numpy())
        monkeypatch.setattr(densifying, "_BLOCK", 3)
        assert shapely.to_wkb(placed(cells).geometry.to_numpy()).tolist() == first.tolist()

    def test_the_grids_own_crs_needs_nothing(self):
        shape = shapely.box(290_000, 8_000_000, 600_000, 9_100_000)
        found = placed([shape], crs=UTM)
        assert densified(found) == 0
        assert found.geometry.iloc[0].wkb == shape.wkb


def two_ends(shape):
    points = [tuple(p) for p in shapely.get_coordinates(shapely.normalize(shape).exterior)]
    return points[:-1], points[1:]


class TestNoWay:
    NEAR = shapely.box(-35, -8.5, -34.99, -8.49)

    def test_a_point_without_a_place_is_refused_with_its_row(self):
        with pytest.raises(PolygonError, match=r"in row 1 cannot be .* its point \(60, 1\) has no"):
            placed([self.NEAR, shapely.Polygon([(60, 1), (61, 1), (61, 2)])])

    def test_rows_count_on_over_blocks(self, monkeypatch):
        monkeypatch.setattr(densifying, "_BLOCK", 2)
        far = shapely.Polygon([(60, 1), (61, 1), (61, 2)])
        with pytest.raises(PolygonError, match="in row 5 cannot be brought"):
            placed([self.NEAR] * 5 + [far])

    def test_an_edge_that_the_projection_tears_is_refused(self):
        pacific = gpd.GeoSeries([shapely.box(178, -18, 182, -16)], crs="EPSG:4326")
        shapes = pacific.to_crs("EPSG:3832").to_numpy()
        grid = grid_at((40, 400), pixel_m=1e5, crs="EPSG:3857", corner=(-2.0e7, 2.0e6))
        with pytest.raises(PolygonError, match="in row 0 lies where the projection .* is torn"):
            placed(shapes, grid, crs="EPSG:3832")
