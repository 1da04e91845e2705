"""Polygons across the antimeridian cover what they would elsewhere on the globe."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.errors import PolygonError
from cube.polygons import antimeridian
from cube.polygons import report as polygon_report
from cube.polygons.reading import place_polygons
from tests.cube.geometry import star
from tests.rasters import grid_at

DEGREES = "EPSG:4326"
ACROSS = grid_at((200, 200), pixel_m=0.1, crs=DEGREES, corner=(170.0, 0.0))  # 170 to 190
WORLD = grid_at((180, 360), pixel_m=1.0, crs=DEGREES, corner=(-180.0, 90.0))
PACIFIC = grid_at((180, 360), pixel_m=1.0, crs=DEGREES, corner=(0.0, 90.0))  # 0 to 360
UTM60 = grid_at((300, 600), pixel_m=1000.0, crs="EPSG:32760", corner=(500_000.0, 8_200_000.0))
MERCATOR = grid_at((40, 400), pixel_m=1e5, crs="EPSG:3857", corner=(-2.0e7, 2.0e6))

FIJI = shapely.box(178, -18, 182, -16)


def wrapped(shape):
    """The same polygon with longitudes from -180 to 180."""
    return shapely.transform(shape, lambda xy: np.stack([wrap(xy[:, 0]), xy[:, 1]], axis=1))


def wrap(x):
    return (x + 180) % 360 - 180


def placed(*shapes, grid=ACROSS, crs=DEGREES):
    return place_polygons(gpd.GeoDataFrame(geometry=list(shapes), crs=crs), grid=grid)


def one(*shapes, **kwargs):
    return placed(*shapes, **kwargs).geometry.iloc[0]


def area(frame):
    return shapely.area(frame.geometry.iloc[0])


def crossings(frame):
    return polygon_report.of(frame).antimeridian


class TestLongitudes:
    def test_an_edge_that_jumps_goes_the_shorter_way(self):
        assert one(wrapped(FIJI)).equals(FIJI)

    def test_on_a_grid_that_ends_at_the_antimeridian_a_polygon_is_cut_there(self):
        found = one(wrapped(FIJI), grid=WORLD)
        expected = shapely.union(shapely.box(178, -18, 180, -16), shapely.box(-180, -18, -178, -16))
        assert found.equals(expected)
        assert found.is_valid

    @pytest.mark.parametrize("grid", [WORLD, ACROSS, PACIFIC])
    def test_both_ways_to_count_longitudes_give_the_same_polygons(self, grid):
        both = [placed(shape, grid=grid) for shape in (FIJI, wrapped(FIJI))]
        assert both[0].geometry.iloc[0].equals(both[1].geometry.iloc[0])
        assert crossings(both[1]) == 1

    def test_polygons_east_of_180_come_to_a_grid_from_minus_180(self):
        found = placed(shapely.box(185, -18, 190, -16), grid=WORLD)
        assert found.geometry.iloc[0].equals(shapely.box(-175, -18, -170, -16))
        assert crossings(found) == 0

    def test_what_was_cut_before_becomes_whole_on_a_grid_across(self):
        parts = [shapely.box(178, -18, 180, -16), shapely.box(-180, -18, -178, -16)]
        found = one(shapely.MultiPolygon(parts))
        assert found.equals(FIJI)
        assert found.is_valid

    def test_only_those_that_cross_are_counted_and_touched(self):
        others = [shapely.box(171, -5, 172.3, -4), shapely.box(173, -5, 174, -4)]
        found = placed(others[0], wrapped(FIJI), others[1])
        assert crossings(found) == 1
        for row, shape in ((0, others[0]), (2, others[1])):
            assert shapely.equals_exact(found.geometry.iloc[row], shape)

    def test_a_hole_goes_where_its_ring_does(self):
        ring = FIJI.difference(shapely.box(180.5, -17.5, 181, -17))
        turned = shapely.box(-179.5, -17.5, -179, -17)
        given = shapely.Polygon(wrapped(FIJI).exterior, holes=[turned.exterior])
        assert one(given).equals(ring)
        assert one(given, grid=WORLD).area == pytest.approx(ring.area)

    def test_islands_on_both_sides_of_180_stay_islands(self):
        east, west = shapely.box(176, -5, 178, -4), shapely.box(-176, -5, -175, -4)
        found = one(shapely.MultiPolygon([east, west]))
        assert found.equals(shapely.MultiPolygon([east, shapely.box(184, -5, 185, -4)]))

    @settings(deadline=None, max_examples=40)
    @given(
        x=st.floats(172, 188),
        radii=st.lists(st.floats(0.1, 1.9), min_size=3, max_size=8),
        turn=st.floats(0, 6),
        hole=st.booleans(),
    )
    def test_any_polygon_is_what_it_would_be_elsewhere(self, x, radii, turn, hole):
        shape = star((x, -10.0), np.array(radii), turn=turn)
        if hole:
            shape = shape.difference(star((x, -10.0), np.array(radii) / 2, turn=turn))
        found = placed(wrapped(shape))
        assert found.geometry.iloc[0].symmetric_difference(shape).area < 1e-9
        cut = placed(wrapped(shape), grid=WORLD)
        assert area(cut) == pytest.approx(shape.area, rel=1e-9)
        left, _, right, _ = cut.total_bounds
        assert left >= -180
        assert right <= 180
        assert cut.geometry.iloc[0].is_valid

    def test_a_neighbour_still_shares_its_edge(self):
        pair = [shapely.box(178, -18, 182, -16), shapely.box(182, -18, 184, -16)]
        found = placed(*map(wrapped, pair))
        assert found.union_all().equals(shapely.box(178, -18, 184, -16))
        assert found.geometry.iloc[0].touches(found.geometry.iloc[1])


class TestPoles:
    RING = tuple(np.stack([np.linspace(-175, 175, 36), np.full(36, -70.0)], axis=1))

    def test_a_polygon_round_a_pole_is_refused(self):
        with pytest.raises(PolygonError, match="in row 1 goes once round .* encloses a pole.*Cut"):
            placed(FIJI, shapely.Polygon(self.RING))

    def test_a_map_of_the_world_is_no_ring_round_a_pole(self):
        world = shapely.box(-180, -90, 180, 90)
        assert one(world, grid=WORLD).equals(world)
        antarctica = shapely.Polygon([(-180, -90), (-180, -70), (0, -65), (180, -70), (180, -90)])
        assert one(antarctica, grid=WORLD).equals(antarctica)

    def test_the_world_on_a_grid_of_the_other_half_is_the_world(self):
        found = one(shapely.box(-180, -60, 180, 60), grid=PACIFIC)
        assert found.equals(shapely.box(0, -60, 360, 60))

    def test_more_than_once_round_is_refused(self):
        there = [(x, 2 + x / 40) for x in range(0, 401, 40)]
        around = shapely.Polygon(there + [(x, x / 40) for x in range(400, -1, -40)])
        with pytest.raises(PolygonError, match="in row 0 goes more than once round the Earth"):
            placed(around, grid=WORLD)


class TestProjections:
    def test_a_plane_that_goes_on_across_180_needs_no_cut(self):
        found = placed(wrapped(shapely.box(179, -17, 181, -16.5)), grid=UTM60)
        whole = gpd.GeoSeries([shapely.box(179, -17, 181, -16.5).segmentize(0.01)], crs=DEGREES)
        expected = whole.to_crs("EPSG:32760").iloc[0]
        assert found.geometry.iloc[0].geom_type == "Polygon"
        assert found.geometry.iloc[0].symmetric_difference(expected).area < 1e-3 * expected.area
        assert crossings(found) == 1

    @pytest.mark.parametrize("shape", [FIJI, wrapped(FIJI)])
    def test_where_the_plane_ends_polygons_are_cut(self, shape):
        found = one(shape, grid=MERCATOR)
        assert len(found.geoms) == 2
        turn = 2 * 20037508.342789244
        assert found.bounds[2] - found.bounds[0] == pytest.approx(turn, rel=1e-12)
        assert found.area == pytest.approx(one(shapely.box(8, -18, 12, -16), grid=MERCATOR).area)

    def test_it_ends_opposite_to_its_central_meridian(self):
        grid = grid_at((40, 400), pixel_m=1e5, crs="EPSG:3832", corner=(-2.0e7, 2.0e6))
        found = placed(shapely.box(-32, -18, -28, -16), grid=grid)
        expected = placed(shapely.box(148, -18, 152, -16), grid=grid)
        assert area(found) == pytest.approx(area(expected))
        assert (crossings(found), crossings(expected)) == (1, 0)
        assert one(wrapped(FIJI), grid=grid).geom_type == "Polygon"

    @pytest.mark.parametrize(("crs", "seam"), [("EPSG:3857", 180), ("EPSG:3832", 330)])
    @pytest.mark.parametrize("turn", [-360, 0, 360])
    def test_polygons_that_end_with_the_plane_lie_at_its_ends(self, crs, seam, turn):
        grid = grid_at((40, 400), pixel_m=1e5, crs=crs, corner=(-2.0e7, 2.0e6))
        for west, end in ((seam - 2, "right"), (seam, "left")):
            found = placed(shapely.box(west + turn, -18, west + turn + 2, -16), grid=grid)
            left, _, right, _ = found.total_bounds
            assert right - left == pytest.approx(2 / 180 * 20037508.34, rel=1e-6)
            assert (right if end == "right" else -left) == pytest.approx(20037508.34, rel=1e-8)
            assert crossings(found) == 0

    def test_a_plane_round_a_pole_has_no_end(self):
        grid = grid_at((400, 400), pixel_m=2e4, crs="EPSG:3413", corner=(-4e6, 4e6))
        shape = shapely.box(178, 70, 182, 72)
        found, apart = one(wrapped(shape), grid=grid), one(shapely.box(8, 70, 12, 72), grid=grid)
        assert found.geom_type == "Polygon"
        assert found.area == pytest.approx(apart.area, rel=1e-6)

    @pytest.mark.parametrize(("grid", "parts"), [(ACROSS, 1), (WORLD, 2)])
    def test_polygons_in_metres_come_to_degrees_on_both_sides(self, grid, parts):
        metres = gpd.GeoSeries([shapely.box(179, -17, 181, -16)], crs=DEGREES).to_crs("EPSG:3460")
        found = placed(metres.iloc[0], grid=grid, crs="EPSG:3460")
        assert shapely.get_num_geometries(found.geometry.iloc[0]) == parts
        assert area(found) == pytest.approx(2, rel=1e-3)
        assert crossings(found) == 1

    def test_another_datum_does_not_tear_what_lies_across(self):
        found = one(wrapped(FIJI), crs="EPSG:4720")  # Fiji 1986
        assert found.geom_type == "Polygon"
        assert found.bounds == pytest.approx(FIJI.bounds, abs=0.02)


class TestCutBefore:
    """Files cut polygons at the antimeridian; where the plane goes on, they become whole again."""

    @pytest.mark.parametrize(
        ("crs", "corner"),
        [
            ("EPSG:32760", (500_000.0, 8_200_000.0)),
            ("EPSG:3460", (1_900_000.0, 4_000_000.0)),
            ("EPSG:3832", (3_000_000.0, -1_700_000.0)),
        ],
    )
    def test_the_two_halves_of_an_island_are_one(self, crs, corner):
        grid = grid_at((300, 600), pixel_m=1000.0, crs=crs, corner=corner)
        cut = shapely.union(shapely.box(178, -18, 180, -16), shapely.box(-180, -18, -178, -16))
        found, whole = placed(cut, grid=grid), placed(FIJI, grid=grid)
        assert found.geometry.iloc[0].geom_type == "Polygon"
        assert found.geometry.iloc[0].symmetric_difference(whole.geometry.iloc[0]).area < 1.0
        assert crossings(found) == 1

    @pytest.mark.parametrize("crs", ["EPSG:3413", "EPSG:5070", "EPSG:3338", "EPSG:32660"])
    def test_far_in_the_north_too(self, crs):
        chukotka = shapely.box(170, 65, 190, 70)
        cut = shapely.union(shapely.box(170, 65, 180, 70), shapely.box(-180, 65, -170, 70))
        there = gpd.GeoSeries([chukotka], crs=DEGREES).to_crs(crs).total_bounds
        corner = float(there[0]), float(there[3])
        grid = grid_at((100, 100), pixel_m=10_000.0, crs=crs, corner=corner)
        found, whole = one(cut, grid=grid), one(chukotka, grid=grid)
        assert found.is_valid
        assert found.symmetric_difference(whole).area / whole.area < 1e-6

    def test_parts_that_lie_elsewhere_keep_their_corners(self):
        elsewhere = shapely.box(-170, -20, -169, -19)
        cut = [shapely.box(178, -18, 180, -16), shapely.box(-180, -18, -178, -16), elsewhere]
        found, joined = antimeridian.rejoin(np.array([shapely.MultiPolygon(cut), FIJI]), 360.0)
        assert joined.tolist() == [True, False]
        assert found[0].equals(shapely.MultiPolygon([FIJI, elsewhere]))
        assert found[1] is FIJI

    def test_islands_that_touch_it_apart_from_each_other_stay_as_they_are(self):
        parts = [shapely.box(178, -18, 180, -16), shapely.box(-180, -10, -178, -8)]
        given = np.array([shapely.MultiPolygon(parts), shapely.box(-180, -60, 180, -50)])
        found, joined = antimeridian.rejoin(given, 360.0)
        assert not joined.any()
        assert shapely.equals_exact(found, given).all()


class TestDegrees:
    def test_one_polygon_in_metres_among_degrees_is_refused(self):
        with pytest.raises(PolygonError, match="in row 1 has no place: its .* are no longitudes"):
            placed(FIJI, shapely.box(290000, 9.1e6, 291000, 9.2e6))

    def test_a_turn_is_known_in_any_unit(self):
        import pyproj

        assert antimeridian.turn_of(pyproj.CRS("EPSG:4326")) == 360
        assert antimeridian.turn_of(pyproj.CRS("EPSG:4807")) == 400  # grads
        assert antimeridian.turn_of(pyproj.CRS("EPSG:32725")) is None
