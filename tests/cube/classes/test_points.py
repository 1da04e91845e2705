"""Points as labels: distances by shapely are the oracle, and who knows nothing says nothing."""

from __future__ import annotations

import itertools
import json
import logging
import math
import pickle

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

import cube
from cube.classes import claiming
from cube.classes.points import (
    PointLabels,
    sample_negatives,
    tile_labels,
)
from cube.classes.tiling import slippy_tiles, window_tiles
from cube.errors import PolygonError, SpecError
from cube.scenes import Source, needs_of
from cube.windows import Windows
from tests.cube.geometry import frame_of, square
from tests.cube.sources import assert_same_in_any_box
from tests.rasters import UTM, grid_at, whole

SHAPE = (30, 37)
GRID = grid_at(SHAPE)
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """So that the little grid has several tiles."""
    monkeypatch.setattr(claiming, "TILE", 16)


def points_at(*places):
    """Points at places (column, row) in pixels."""
    return frame_of([shapely.Point(*place) for place in places], GRID)


def read(source):
    return source.read(GRID, *whole(GRID))[0]


def distances(frame):
    """Metres from each point of a frame to each pixel, 0 within it, (point, y, x)."""
    rows, cols = np.indices(SHAPE)
    pixels = shapely.box(cols, rows, cols + 1, rows + 1)
    t = GRID.transform
    x = (frame.geometry.x.to_numpy() - t.c) / t.a
    y = (frame.geometry.y.to_numpy() - t.f) / t.e
    return 30 * np.array([shapely.distance(p, pixels) for p in shapely.points(x, y)])


class TestPointLabels:
    @settings(deadline=None, max_examples=20)
    @given(
        st.lists(st.tuples(st.floats(0, 37), st.floats(0, 30)), min_size=1, max_size=5),
        st.floats(0.5, 200),
    )
    def test_pixels_within_the_buffer_are_one_and_of_others_nothing_is_known(self, places, metres):
        frame = points_at(*places)
        found = read(PointLabels(frame, buffer_m=metres))
        away = distances(frame).min(axis=0)
        # A circle of 64 corners reaches 0.9988 of its radius between them.
        assert (found[away < 0.9987 * metres - 1e-3] == 1).all()
        assert np.isnan(found[away > metres + 1e-3]).all()
        assert set(np.unique(found[~np.isnan(found)])) == {1}

    def test_no_point_is_lost_however_small_its_buffer(self):
        found = read(PointLabels(points_at((3.2, 4.9)), buffer_m=0.01))
        assert np.argwhere(found == 1).tolist() == [[4, 3]]

    def test_squares_reach_as_far_along_both_axes(self):
        found = read(PointLabels(points_at((10.5, 8.5)), buffer_m=45, shape="square"))
        expected = np.full(SHAPE, np.nan)
        expected[7:10, 9:12] = 1
        np.testing.assert_array_equal(found, expected)

    def test_by_centres_a_circle_holds_fewer_pixels(self):
        frame = points_at((10.5, 8.5))
        found = read(PointLabels(frame, buffer_m=45, rule="centre"))
        assert (found == 1).sum() == 9  # 45 m reach centres 42.4 m away on the diagonal
        assert (read(PointLabels(frame, buffer_m=44, rule="all_touched")) == 1).sum() == 9
        assert (read(PointLabels(frame, buffer_m=31, rule="centre")) == 1).sum() == 5

    def test_negatives_are_zero_with_a_buffer_of_their_own(self):
        source = PointLabels(
            points_at((5.5, 5.5)),
            buffer_m=15,
            negatives=points_at((20.5, 20.5)),
            negative_buffer_m=45,
            shape="square",
        )
        found = read(source)
        assert [(found == k).sum() for k in (1, 0)] == [1, 9]
        assert np.isnan(found).sum() == found.size - 10

    def test_where_both_claim_a_pixel_the_positive_wins(self):
        places = points_at((5.5, 5.5)), points_at((6.5, 5.5))
        source = PointLabels(places[0], buffer_m=45, negatives=places[1], shape="square")
        found = read(source)
        assert found[5, 3:9].tolist()[1:5] == [1, 1, 1, 0]
        assert [(found == k).sum() for k in (1, 0)] == [9, 3]

    def test_or_is_refused(self):
        source = PointLabels(
            points_at((5.5, 5.5)),
            buffer_m=45,
            negatives=points_at((6.5, 5.5)),
            shape="square",
            conflict="refuse",
        )
        with pytest.raises(PolygonError, match="^6 pixels are claimed by several classes"):
            source.check(GRID)

    def test_everything_else_is_zero_on_purpose_alone(self):
        found = read(PointLabels(points_at((5.5, 5.5)), buffer_m=5, background=0))
        assert found.sum() == 1
        assert not np.isnan(found).any()

    def test_points_in_degrees_are_brought_into_the_grids_crs(self):
        frame = points_at((5.5, 5.5)).to_crs("EPSG:4326")
        assert np.argwhere(read(PointLabels(frame, buffer_m=5)) == 1).tolist() == [[5, 5]]

    def test_any_box_gives_the_same_bits(self):
        source = PointLabels(
            points_at((5.2, 3.3), (30, 29), (-2, 15)),
            buffer_m=200,
            negatives=points_at((18, 15)),
        )
        assert isinstance(source, Source)
        assert set(np.unique(assert_same_in_any_box(source, GRID))[:2]) == {0, 1}

    def test_it_pickles_and_describes_itself_in_json(self):
        frame = points_at((5.2, 3.3))
        made = [
            PointLabels(frame, buffer_m=60),
            PointLabels(frame, buffer_m=61),
            PointLabels(points_at((5.2, 3.4)), buffer_m=60),
            PointLabels(frame, buffer_m=60, shape="square"),
            PointLabels(frame, buffer_m=60, background=0),
            PointLabels(frame, buffer_m=60, rule="centre"),
            PointLabels(frame, buffer_m=60, negatives=frame),
            PointLabels(frame, buffer_m=60, negatives=frame, negative_buffer_m=9),
        ]
        assert len({json.dumps(source.describe()) for source in made}) == len(made)
        again = pickle.loads(pickle.dumps(made[0]))
        assert again.describe() == made[0].describe()
        np.testing.assert_array_equal(read(again), read(made[0]))
        assert needs_of(made[0], GRID, *whole(GRID)).peak_bytes > 0

    def test_codes_say_what_may_come(self):
        frame = points_at((5.2, 3.3))
        assert PointLabels(frame, buffer_m=60).codes == (1,)
        assert PointLabels(frame, buffer_m=60, background=0).codes == (0, 1)
        assert PointLabels(frame, buffer_m=60, negatives=frame).codes == (0, 1)

    def test_they_become_a_layer_of_a_cube(self):
        layer = cube.LayerSpec(
            name="school",
            dtype="uint8",
            nodata=255,
            static=True,
            classes=((0, "other"), (1, "school")),
        )
        spec = cube.CubeSpec(grid=GRID, calendar=cube.years(2020), layers=(layer,))
        url = cube.create(f"memory://points{next(_numbers)}", spec)
        source = PointLabels(points_at((5, 5)), buffer_m=60, negatives=points_at((20, 20)))
        cube.ingest(url, "school", source)
        with cube.open(url) as dataset:
            stored = dataset.school.to_numpy()
        np.testing.assert_array_equal(stored, np.nan_to_num(read(source), nan=255))

    @pytest.mark.parametrize("metres", [0, -1, math.nan, math.inf])
    def test_a_buffer_of_nothing_is_refused(self, metres):
        frame = points_at((5.2, 3.3))
        with pytest.raises(SpecError, match="^buffer_m must be more than 0 metres. Received"):
            PointLabels(frame, buffer_m=metres)
        with pytest.raises(SpecError, match="^negative_buffer_m must be more than 0 metres."):
            PointLabels(frame, buffer_m=1, negatives=frame, negative_buffer_m=metres)

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"shape": "hexagon"}, "^shape must be one of round, square. Received 'hexagon'"),
            ({"conflict": "negative"}, "^conflict must be one of positive, refuse. Received"),
            ({"rule": "majority"}, "^rule must be one of centre, all_touched. Received 'majority'"),
            ({"background": 2}, "^background must be 0 or None, for nodata. Received 2"),
        ],
    )
    def test_an_unknown_option_is_refused(self, option, message):
        with pytest.raises(SpecError, match=message):
            PointLabels(points_at((5, 5)), buffer_m=1, **option)

    def test_what_are_no_points_is_refused(self):
        with pytest.raises(PolygonError, match="^The points: there are none; one at least was exp"):
            PointLabels(points_at((5, 5)).iloc[:0], buffer_m=1)
        with pytest.raises(PolygonError, match="^The points: 1 of 1 geometries are no points w"):
            PointLabels(frame_of([square(1, 1, 2)]), buffer_m=1)
        with pytest.raises(PolygonError, match="^The negatives: 1 of 1 geometries are no points w"):
            PointLabels(points_at((5, 5)), buffer_m=1, negatives=frame_of([shapely.Point()]))
        with pytest.raises(PolygonError, match="^The points: a GeoDataFrame of points was expe"):
            PointLabels([shapely.Point(1, 1)], buffer_m=1)
        nowhere = gpd.GeoDataFrame(geometry=gpd.points_from_xy([math.nan], [5]), crs=UTM)
        with pytest.raises(PolygonError, match="^The points: 1 of 1 geometries are no points w"):
            PointLabels(nowhere, buffer_m=1)
        with pytest.raises(PolygonError, match="^'The points' does not say its CRS"):
            PointLabels(points_at((5, 5)).set_crs(None, allow_override=True), buffer_m=1)

    def test_a_grid_in_degrees_is_refused(self):
        grid = grid_at(SHAPE, pixel_m=1e-3, crs="EPSG:4326", corner=(-34.9, -8.0))
        with pytest.raises(SpecError, match="^Distances need .* Received 'WGS 84'; give crs="):
            PointLabels(points_at((5, 5)), buffer_m=1).check(grid)
        with pytest.raises(SpecError, match="^Distances need .* 'WGS 84 / Pseudo-Mercator'; give"):
            PointLabels(points_at((5, 5)), buffer_m=1, crs="EPSG:3857")

    @pytest.mark.parametrize(
        ("crs", "pixel"), [("EPSG:4326", 1e-4), ("EPSG:3857", 10.0), ("EPSG:2264", 20.0)]
    )
    def test_metres_are_those_of_another_crs_where_the_grid_has_none(self, crs, pixel):
        at = gpd.GeoSeries([shapely.Point(-80.0, 35.5)], crs=4326)
        x, y = at.to_crs(crs).iloc[0].coords[0]
        grid = grid_at((120, 120), pixel_m=pixel, crs=crs, corner=(x - 60 * pixel, y + 60 * pixel))
        labels = PointLabels(
            at.to_frame("geometry"), buffer_m=200, crs="EPSG:32617", background=0, rule="centre"
        )
        found = labels.read(grid, *whole(grid))[0]
        rows, cols = np.indices(found.shape)
        lon, lat = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(
            x + (cols - 59.5) * pixel, y - (rows - 59.5) * pixel
        )
        away = pyproj.Geod(ellps="WGS84").inv(
            np.full_like(lon, -80.0), np.full_like(lat, 35.5), lon, lat
        )[2]
        sure = np.abs(away - 200) > 3
        np.testing.assert_array_equal(found[sure], (away < 200)[sure])

    def test_points_off_the_grid_are_refused(self):
        with pytest.raises(PolygonError, match="^None of the 1 polygons meets the grid"):
            PointLabels(points_at((500, 5)), buffer_m=1).check(GRID)


class TestSampleNegatives:
    POINTS = points_at((5, 5), (20, 20), (21, 8))
    WITHIN = frame_of([square(0, 0, 15), square(15, 10, 15).difference(square(17, 12, 2))], GRID)

    def draw(self, **options):
        given = {"within": self.WITHIN, "count": 500, "min_distance_m": 60, "seed": 1}
        return sample_negatives(self.POINTS, **(given | options))

    @settings(deadline=None, max_examples=20)
    @given(st.integers(0, 2**32 - 1), st.floats(0, 200))
    def test_none_is_nearer_than_allowed_and_all_lie_within(self, seed, metres):
        found = self.draw(seed=seed, min_distance_m=metres).geometry.to_numpy()
        positives = shapely.union_all(self.POINTS.geometry.to_numpy())
        assert len(found) == 500
        assert shapely.distance(found, positives).min() >= metres - 1e-6
        inside = shapely.union_all(self.WITHIN.geometry.to_numpy()).buffer(1e-6)
        assert shapely.covered_by(found, inside).all()

    def test_they_are_spread_evenly(self):
        found = self.draw(count=20_000).geometry
        room = shapely.union_all(self.WITHIN.geometry.to_numpy()).difference(
            shapely.union_all(shapely.buffer(self.POINTS.geometry.to_numpy(), 60, quad_segs=64))
        )
        for part in (square(0, 0, 7), square(7, 7, 8), square(15, 10, 6), square(21, 16, 9)):
            shape = frame_of([part], GRID).geometry[0]
            expected = room.intersection(shape).area / room.area
            error = math.sqrt(expected * (1 - expected) / 20_000)
            assert shapely.contains(shape, found.to_numpy()).mean() == pytest.approx(
                expected, abs=5 * error
            )

    def test_the_same_seed_draws_the_same(self):
        one, two, other = self.draw(), self.draw(), self.draw(seed=2)
        assert one.geom_equals_exact(two, 0).all()
        assert not one.geom_equals_exact(other, 0).any()

    def test_points_in_degrees_need_a_crs_in_metres(self):
        degrees = self.POINTS.to_crs("EPSG:4326")
        given = {"within": self.WITHIN, "count": 5, "min_distance_m": 60, "seed": 1}
        for crs in (None, "EPSG:3857"):
            with pytest.raises(SpecError, match="^Distances need a projected CRS whose metres are"):
                sample_negatives(degrees, **given, crs=crs)
        with pytest.raises(SpecError, match="^crs='EPSG:0' is no CRS that PROJ knows"):
            sample_negatives(degrees, **given, crs="EPSG:0")
        assert sample_negatives(degrees, **given, crs=UTM).crs == UTM

    def test_no_room_is_refused(self):
        with pytest.raises(
            PolygonError, match="^No room is left for negatives: .* than 900 m to o"
        ):
            self.draw(min_distance_m=900)

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"count": 0}, "^count must be a whole number, 1 or more. Received 0"),
            ({"count": 1.5}, "^count must be a whole number, 1 or more. Received 1.5"),
            ({"min_distance_m": "1"}, "^min_distance_m must be 0 or more metres. Received '1'"),
            ({"min_distance_m": -1}, "^min_distance_m must be 0 or more metres. Received -1"),
        ],
    )
    def test_numbers_out_of_range_are_refused(self, option, message):
        with pytest.raises(SpecError, match=message):
            self.draw(**option)


class TestTileLabels:
    WINDOWS = Windows(shape=SHAPE, size=10, stride=10)
    TILES = window_tiles(WINDOWS, GRID)

    @settings(deadline=None, max_examples=30)
    @given(
        st.lists(st.tuples(st.floats(0, 37), st.floats(0, 30)), min_size=1, max_size=6),
        st.lists(st.tuples(st.floats(0, 37), st.floats(0, 30)), min_size=1, max_size=6),
        st.floats(0, 300),
    )
    def test_they_are_those_of_a_plain_loop(self, positives, negatives, metres):
        found = tile_labels(
            self.TILES, points_at(*positives), negatives=points_at(*negatives), buffer_m=metres
        )
        frames = [points_at(*some).geometry.to_numpy() for some in (positives, negatives)]
        rows = []
        for window, (row, col) in enumerate(self.WINDOWS.origins()):
            box = self.TILES.geometry[window]
            near = [int((shapely.distance(frame, box) <= metres).sum()) for frame in frames]
            if any(near):
                rows.append([window, row, col, int(near[0] > 0), *near])
        columns = ["window", "row", "col", "label", "positives", "negatives"]
        pd.testing.assert_frame_equal(found, pd.DataFrame(rows, columns=columns))

    def test_tiles_without_a_point_are_zero_on_purpose_alone(self):
        points = points_at((5, 5))
        assert tile_labels(self.TILES, points).label.tolist() == [1]
        assert tile_labels(self.TILES, points, background=0).label.tolist() == [1] + [0] * 11

    def test_points_that_meet_no_tile_are_refused(self):
        with pytest.raises(PolygonError, match="^None of the 1 points meets one of the 12 tiles"):
            tile_labels(self.TILES, points_at((500, 5)))

    def test_numbers_out_of_range_are_refused(self):
        with pytest.raises(SpecError, match="^buffer_m must be 0 or more metres. Received -1"):
            tile_labels(self.TILES, points_at((5, 5)), buffer_m=-1)
        with pytest.raises(SpecError, match="^background must be 0 or None. Received 1"):
            tile_labels(self.TILES, points_at((5, 5)), background=1)

    def test_points_that_meet_no_tile_are_logged(self, caplog):
        with caplog.at_level(logging.INFO, logger="quadrat.points"):
            tile_labels(self.TILES, points_at((5, 5), (500, 5)), negatives=points_at((500, 5)))
        assert caplog.messages == ["1 of 2 points meet no tile.", "1 of 1 points meet no tile."]

    def test_columns_of_the_tiles_are_not_overwritten(self):
        with pytest.raises(SpecError, match="^The tiles have columns label already; rename them."):
            tile_labels(self.TILES.assign(label=3), points_at((5, 5)))

    def test_schools_label_them_in_metres_on_the_ground(self):
        tiles = slippy_tiles([(18, 105690 + i, 136990) for i in range(4)])
        middle = tiles.geometry.centroid.to_crs(UTM)
        school = gpd.GeoDataFrame(geometry=middle.iloc[[1]])
        with pytest.raises(SpecError, match=r"^Distances need .* 'WGS 84 / Pseudo-Mercator'; give"):
            tile_labels(tiles, school, buffer_m=1)
        found = tile_labels(tiles, school, buffer_m=1, crs=UTM)
        assert found.to_dict("list") == {
            "z": [18], "x": [105691], "y": [136990], "label": [1], "positives": [1],
            "negatives": [0],
        }  # fmt: skip
        assert tile_labels(tiles, school, buffer_m=80, crs=UTM).x.tolist() == [
            105690,
            105691,
            105692,
        ]
