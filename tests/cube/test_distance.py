"""Distance to outlines: that of a plain loop, without a cap, the same in any box."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import CRS
from shapely.affinity import translate

from cube import distance
from cube.distance import Distance
from cube.errors import PolygonError, SourceError
from cube.scenes import Source
from tests.cube.sources import AROUND, assert_same_in_any_box
from tests.rasters import LEFT, TOP, UTM, grid_at, whole

GRID = grid_at((30, 37))


def frame(*shapes, crs=UTM):
    return gpd.GeoDataFrame(geometry=list(shapes), crs=crs)


def at(x, y):
    """A point so many pixels right of and below the grid's corner."""
    return LEFT + 30.0 * x, TOP - 30.0 * y


def polygon(*points, holes=()):
    return shapely.Polygon([at(*p) for p in points], [[at(*p) for p in hole] for hole in holes])


RING = polygon((4, 4), (22, 6), (20, 25), (3, 21), holes=[[(8, 8), (8, 15), (15, 15), (15, 8)]])
ISLAND = polygon((10, 10), (12, 10), (12, 13), (10, 13))
OVERLAP = polygon((18, 2), (30, 2), (30, 20), (18, 20))
ROAD = shapely.LineString([at(-5, 28), at(20, 27.3), at(33, 5.5), at(60, 5)])
FAR = shapely.Point(at(2000, -900)).buffer(5000)
SHAPES = (RING, shapely.MultiPolygon([ISLAND, FAR]), OVERLAP, ROAD)


def centres(grid, rows, cols):
    return [
        shapely.Point(grid.transform @ (col + 0.5, row + 0.5))
        for row in range(*rows)
        for col in range(*cols)
    ]


def in_a_loop(shapes, grid, rows, cols):
    """Distance to the nearest boundary or line, and whether a polygon holds the pixel."""
    outlines = [s if s.geom_type.endswith("String") else s.boundary for s in shapes]
    solid = [s for s in shapes if not s.geom_type.endswith("String")]
    points, shape = centres(grid, rows, cols), (rows[1] - rows[0], cols[1] - cols[0])
    away = [min(shapely.distance(o, p) for o in outlines) for p in points]
    inside = [any(s.contains(p) for s in solid) for p in points]
    return np.reshape(away, shape), np.reshape(inside, shape)


class TestDistance:
    @pytest.mark.parametrize(("inside", "factor"), [("zero", 0), ("negative", -1), ("positive", 1)])
    def test_it_equals_a_plain_loop(self, inside, factor):
        source = Distance(frame(*SHAPES), inside=inside)
        away, within = in_a_loop(SHAPES, GRID, *AROUND)
        assert 0.2 < within.mean() < 0.6
        found = source.read(GRID, *AROUND)
        assert found.dtype == "float32"
        assert found.shape == (1, 37, 44)
        expected = np.where(within, factor * away, away)
        np.testing.assert_allclose(found[0], expected, rtol=1e-6, atol=1e-6)
        assert not (np.signbit(found) & (found == 0)).any()

    @settings(deadline=None, max_examples=40)
    @given(st.integers(0, 2**32 - 1), st.integers(3, 40), st.sampled_from([0.5, 8.0, 500.0]))
    def test_it_equals_a_plain_loop_for_stars_of_any_size(self, seed, corners, radius):
        rng = np.random.default_rng(seed)
        angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
        reach = radius * rng.uniform(0.2, 1.5, corners)
        middle = rng.uniform(-40, 80, 2)
        shape = polygon(
            *zip(middle[0] + reach * np.cos(angle), middle[1] + reach * np.sin(angle), strict=True)
        )
        if not shape.is_valid:  # all corners on one side, as a sliver
            return
        rows, cols = (5, 16), (20, 29)
        away, within = in_a_loop([shape], GRID, rows, cols)
        found = Distance(frame(shape), inside="negative").read(GRID, rows, cols)[0]
        np.testing.assert_allclose(found, np.where(within, -away, away), rtol=1e-6, atol=1e-6)

    def test_crowded_blocks_equal_a_plain_loop_too(self):
        fine = shapely.segmentize(RING, 1.0)  # metres, while pixels have 30
        grid, rows, cols = grid_at((200, 200)), (90, 104), (95, 106)
        moved = translate(fine, 3000.0, -2800.0)
        assert len(moved.exterior.coords) > 4 * distance._CROWD
        away, within = in_a_loop([moved], grid, rows, cols)
        found = Distance(frame(moved), inside="negative").read(grid, rows, cols)[0]
        np.testing.assert_allclose(found, np.where(within, -away, away), rtol=1e-6, atol=1e-6)

    def test_both_ways_to_search_agree(self, monkeypatch):
        few = Distance(frame(*SHAPES)).read(GRID, *AROUND)
        monkeypatch.setattr(distance, "_CROWD", 0)
        np.testing.assert_allclose(
            Distance(frame(*SHAPES)).read(GRID, *AROUND), few, rtol=1e-6, atol=1e-6
        )

    def test_any_box_gives_the_same_to_the_bit(self):
        assert_same_in_any_box(Distance(frame(*SHAPES), inside="negative"), GRID)
        assert_same_in_any_box(Distance(frame(shapely.segmentize(RING, 0.5))), GRID)

    def test_it_grows_with_every_pixel_however_far(self):
        grid = grid_at((3, 4000))
        wall = shapely.LineString([at(0, -1e4), at(0, 1e4)])
        found = Distance(frame(wall)).read(grid, *whole(grid))[0]
        expected = np.broadcast_to(30.0 * (np.arange(4000) + 0.5), (3, 4000))
        np.testing.assert_allclose(found, expected, rtol=1e-6)

    def test_overlaps_and_holes(self):
        found = Distance(frame(*SHAPES)).read(GRID, *whole(GRID))[0]
        assert found[9, 9] > 0  # in the hole
        assert found[11, 10] == 0  # on the island in the hole
        assert found[10, 19] == 0  # in two polygons at once

    def test_a_boundary_through_pixel_centres_is_at_0(self):
        box = polygon((4.5, 4.5), (12.5, 4.5), (12.5, 9.5), (4.5, 9.5))
        for inside in ("zero", "negative", "positive"):
            found = Distance(frame(box), inside=inside).read(GRID, *whole(GRID))[0]
            np.testing.assert_array_equal(found[4:10, [4, 12]], 0)
            np.testing.assert_array_equal(found[[4, 9], 4:13], 0)
        assert found[5, 5] == 30

    def test_outlines_are_brought_onto_the_grid_from_their_own_crs(self):
        degrees = frame(*SHAPES).to_crs("EPSG:4326")
        expected = Distance(frame(*SHAPES), inside="negative").read(GRID, *whole(GRID))
        found = Distance(degrees, inside="negative").read(GRID, *whole(GRID))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)

    def test_heights_repeated_points_and_the_way_around_do_not_matter(self):
        points = list(RING.exterior.coords)
        twice = [p for point in points for p in (point, point)]
        holes = [list(ring.coords)[::-1] for ring in RING.interiors]
        turned = shapely.force_3d(shapely.Polygon(twice[::-1], holes), 5.0)
        expected = Distance(frame(RING), inside="negative").read(GRID, *whole(GRID))
        found = Distance(frame(turned), inside="negative").read(GRID, *whole(GRID))
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


class TestSource:
    def test_it_is_a_source_of_one_band_in_metres(self):
        source = Distance(frame(ROAD), name="to_road")
        assert isinstance(source, Source)
        assert (source.bands, source.units) == (("to_road",), ("m",))
        assert source.check(GRID) is None

    def test_it_travels_and_is_shared_by_threads(self):
        source = Distance(frame(*SHAPES), inside="negative")
        expected = source.read(GRID, *AROUND)
        again = pickle.loads(pickle.dumps(source))
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(lambda _: again.read(GRID, *AROUND), range(8)):
                np.testing.assert_array_equal(found, expected)

    def test_one_source_serves_grids_of_several_crs(self):
        source = Distance(frame(*SHAPES))
        other = GeoBox((30, 37), GRID.transform, "EPSG:31985")  # Sirgas 2000, same zone
        first = source.read(GRID, *whole(GRID))
        np.testing.assert_allclose(source.read(other, *whole(GRID)), first, atol=2)
        np.testing.assert_array_equal(source.read(GRID, *whole(GRID)), first)

    def test_the_description_tells_outlines_and_rule_and_no_more(self):
        one = Distance(frame(RING)).describe()
        assert set(one) == {"distance", "inside", "outlines"}
        with_columns = frame(RING).assign(path="/home/me")
        assert Distance(with_columns).describe() == one
        assert Distance(frame(shapely.force_3d(RING, 9.0))).describe() == one
        for other in (
            Distance(frame(OVERLAP)),
            Distance(frame(RING), inside="negative"),
            Distance(frame(RING), name="d"),
            Distance(frame(RING, crs="EPSG:31985")),
        ):
            assert other.describe() != one

    def test_what_happens_to_the_frame_later_does_not_matter(self):
        given = frame(RING)
        source = Distance(given)
        before = source.describe()
        given.loc[0, "geometry"] = OVERLAP
        assert source.describe() == before


class TestRefusals:
    @pytest.mark.parametrize(
        ("shapes", "match"),
        [
            ((), "one outline at least. Received none"),
            ((RING, None, shapely.Polygon()), "2 of 3 outlines are missing or empty, .* in row 1"),
            ((shapely.Point(at(1, 1)),), "1 of 1 outlines are neither polygons nor lines"),
            (
                (RING, polygon((0, 0), (5, 5), (5, 0), (0, 5))),
                "1 of 2 outlines are invalid, the first in row 1. Repair or drop .*make_valid",
            ),
        ],
    )
    def test_outlines_without_a_certain_shape(self, shapes, match):
        with pytest.raises(PolygonError, match=match):
            Distance(frame(*shapes))

    @pytest.mark.parametrize(
        "crs", [None, CRS.from_proj4("+proj=utm +zone=25 +a=6378000 +b=6356000")]
    )
    def test_outlines_without_a_certain_place(self, crs):
        with pytest.raises(PolygonError, match="must say their CRS, with a datum that has a name"):
            Distance(frame(RING, crs=crs))

    def test_an_unknown_rule(self):
        match = "inside must be one of zero, negative, positive. Received 'nan'"
        with pytest.raises(SourceError, match=match):
            Distance(frame(RING), inside="nan")

    @pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:2264"])
    def test_a_grid_in_degrees_or_feet(self, crs):
        grid = GeoBox((30, 40), grid_at((30, 40)).transform, crs)
        with pytest.raises(SourceError, match="Distances need a projected grid, in metres"):
            Distance(frame(RING)).check(grid)

    def test_outlines_that_have_no_place_on_the_grid(self):
        pole = shapely.LineString([(0, 89), (0, 95)])
        with pytest.raises(SourceError, match="1 outlines have no place in the grid's CRS; clip"):
            Distance(frame(pole, crs="EPSG:4326")).check(GRID)
