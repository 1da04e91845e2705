"""Polygons that claim pixels by their centres: in exactly one of those that share an edge."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import rasterio.features
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.classes import claiming
from cube.classes.claiming import Groups, Kept, runs
from cube.coverage.outlines import Outlines
from cube.errors import PolygonError
from tests.cube.geometry import frame_of, partition, sets, square, to_map
from tests.rasters import grid_at, whole

SHAPE = (40, 50)
GRID = grid_at(SHAPE)

few = settings(deadline=None, max_examples=25)


def centres_of(polygons, rows=(0, 40), cols=(0, 50)):
    """Centres inside each polygon, bool (polygon, y, x)."""
    outlines = Outlines.of(to_map(polygons, GRID), GRID)
    out = np.zeros((len(polygons), rows[1] - rows[0], cols[1] - cols[0]), int)
    for polygon, row, start, stop in zip(*runs(outlines, rows, cols), strict=True):
        out[polygon, row, start:stop] += 1
    assert out.max(initial=0) <= 1
    return out.astype(bool)


class TestCentres:
    @few
    @given(polygons=sets(SHAPE))
    def test_they_are_those_that_shapely_finds_inside(self, polygons):
        found = centres_of(polygons)
        y, x = np.indices(SHAPE) + 0.5
        points = shapely.points(x, y)
        for polygon, own in zip(polygons, found, strict=True):
            clear = shapely.distance(polygon.boundary, points) > 1e-6
            np.testing.assert_array_equal(own[clear], shapely.contains(polygon, points)[clear])

    @few
    @given(polygons=sets(SHAPE))
    def test_they_are_those_that_gdal_burns(self, polygons):
        found = centres_of(polygons).any(axis=0)
        y, x = np.indices(SHAPE) + 0.5
        edges = shapely.union_all([polygon.boundary for polygon in polygons])
        clear = shapely.distance(edges, shapely.points(x, y)) > 1e-6
        burnt = rasterio.features.rasterize(
            to_map(polygons, GRID), out_shape=SHAPE, transform=GRID.transform
        )
        np.testing.assert_array_equal(found[clear], burnt.astype(bool)[clear])

    @pytest.mark.parametrize("seed", range(3))
    def test_a_partition_gives_each_centre_to_exactly_one_polygon(self, seed):
        assert (centres_of(partition(SHAPE, seed=seed)).sum(axis=0) == 1).all()

    def test_centres_on_shared_edges_and_corners_belong_to_one_polygon_each(self):
        # Four squares whose edges run through centres, and meet in one.
        squares = [shapely.box(c, r, c + 10, r + 10) for c in (2.5, 12.5) for r in (3.5, 13.5)]
        found = centres_of(squares)
        assert found.sum(axis=(1, 2)).tolist() == [100] * 4
        assert found.sum(axis=0).max() == 1
        assert found[0, 3, 2]  # upper and left edges belong to a polygon
        assert not found[0, 13, 2]  # lower and right ones to its neighbours

    @few
    @given(polygons=sets(SHAPE), data=st.data())
    def test_any_box_has_those_of_the_whole_there(self, polygons, data):
        ends = [st.integers(-5, n + 5) for n in SHAPE]
        rows, cols = (
            data.draw(st.tuples(e, e).filter(lambda ab: ab[0] < ab[1]), label="box") for e in ends
        )
        everything = centres_of(polygons, (-5, 45), (-5, 55))
        part = everything[:, rows[0] + 5 : rows[1] + 5, cols[0] + 5 : cols[1] + 5]
        np.testing.assert_array_equal(centres_of(polygons, rows, cols), part)

    def test_a_hole_is_outside(self):
        ring = square(2, 2, 10).difference(square(4, 4, 3))
        assert centres_of([ring]).sum() == 100 - 9


class TestGroups:
    def test_shares_of_a_group_are_added_up_and_never_more_than_one(self):
        frame = frame_of([square(2, 2, 4), square(3.5, 2, 4), square(3, 2, 4)], kind=list("aab"))
        groups = Groups.of(frame, {"a": 0, "b": 1}, "kind")
        shares = groups.shares(GRID, *whole(GRID))
        assert shares[0, 2, :8].tolist() == [0, 0, 1, 1, 1, 1, 1, 0.5]
        assert shares[1, 2, :8].tolist() == [0, 0, 0, 1, 1, 1, 1, 0]

    @pytest.mark.parametrize(
        ("shape", "crs", "corner", "pixel"),
        [
            (shapely.box(-60, 60, -20, 83), "EPSG:3413", (-700e3, -600e3), 30e3),  # Greenland
            (shapely.box(-170, 55, -140, 70), "EPSG:3338", (-1000e3, 2400e3), 40e3),  # Alaska
            (shapely.box(177, -19, 181, -16), "EPSG:32660", (500e3, -1600e3), 12e3),  # Fiji
            (shapely.box(177, -19, 181, -16), "EPSG:3832", (2900e3, -1700e3), 20e3),
            (shapely.box(177, -19, 181, -16), "EPSG:4326", (176.0, -15.0), 0.15),
        ],
    )
    def test_shares_follow_curved_edges_and_cross_the_antimeridian(self, shape, crs, corner, pixel):
        grid = grid_at(SHAPE, pixel_m=pixel, crs=crs, corner=corner)
        lon, lat = shapely.get_coordinates(shape).T
        jumping = shapely.Polygon(np.column_stack([(lon + 180) % 360 - 180, lat]))
        frame = gpd.GeoDataFrame(geometry=[jumping], crs=4326)
        found = Groups.of(frame, {None: 0}, None).shares(grid, *whole(grid))[0]
        to_grid = pyproj.Transformer.from_crs(4326, crs, always_xy=True)

        def place(xy):
            return xy if crs == "EPSG:4326" else np.column_stack(to_grid.transform(*xy.T))

        expected = shapely.transform(shapely.segmentize(shape, 0.02), place)
        t, (rows, cols) = grid.transform, np.indices(SHAPE)
        x, y = t.c + cols * t.a, t.f + rows * t.e
        pixels = shapely.box(x, y + t.e, x + t.a, y)
        area = shapely.area(shapely.intersection(expected, pixels)) / pixel**2
        np.testing.assert_allclose(found, area, atol=0.06)  # a twentieth of a pixel along edges
        assert found.sum() == pytest.approx(area.sum(), rel=1e-3)
        assert 10 < found.sum() < found.size

    def test_a_change_of_the_frame_changes_nothing(self):
        frame = frame_of([square(2, 2, 4)])
        groups = Groups.of(frame, {None: 0}, None)
        digest = groups.digest
        frame.loc[0, "geometry"] = frame.geometry[0].buffer(100)
        assert groups.digest == digest
        assert groups.shares(GRID, *whole(GRID)).sum() == 16

    def test_the_digest_knows_places_groups_and_extent(self):
        frame = frame_of([square(2, 2, 4), square(9, 9, 4)], kind=["a", "b"])
        made = [
            Groups.of(frame, {"a": 0, "b": 1}, "kind"),
            Groups.of(frame, {"a": 1, "b": 0}, "kind"),
            Groups.of(frame.iloc[::-1], {"a": 0, "b": 1}, "kind"),
            Groups.of(frame, {"a": 0, "b": 1}, "kind", extent=frame),
        ]
        assert len({groups.digest for groups in made}) == 4
        assert made[0].digest == Groups.of(frame.copy(), {"a": 0, "b": 1}, "kind").digest

    def test_a_tile_is_made_once_whatever_the_boxes(self, monkeypatch):
        monkeypatch.setattr(claiming, "TILE", 16)
        groups = Groups.of(frame_of([square(2, 2, 4)]), {None: 0}, None)
        asked = []

        def values(grid, rows, cols):
            asked.append((rows, cols))
            return np.zeros((1, 16, 16))

        for rows in ((0, 5), (3, 16), (0, 16)):
            groups.read(values, GRID, rows, (1, 20), depth=1, dtype="float32")
        assert asked == [((0, 16), (0, 16)), ((0, 16), (16, 32))]

    def test_a_polygon_without_a_place_in_the_grid_is_refused(self):
        far = frame_of([square(2, 2, 4)]).to_crs("EPSG:4326")
        gnomonic = "+proj=gnom +lat_0=0 +lon_0=140 +datum=WGS84"  # of less than half the globe
        grid = grid_at(SHAPE, crs=gnomonic, corner=(0, 0))
        with pytest.raises(PolygonError, match="^The polygon in row 0 cannot be brought into the"):
            Groups.of(far, {None: 0}, None).check(grid)


class TestKept:
    def test_what_is_asked_for_at_once_is_made_once(self):
        kept, made, gate = Kept(2), [], threading.Event()

        def make():
            gate.wait()
            made.append(1)
            return len(made)

        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(kept.get, "a", make) for _ in range(4)]
            gate.set()
        assert [each.result() for each in waiting] == [1] * 4

    def test_the_oldest_goes_first(self):
        kept, made = Kept(2), []
        for key in "abacab":
            kept.get(key, lambda key=key: made.append(key))
        assert made == list("abcb")

    def test_a_failure_is_not_kept(self):
        kept = Kept(2)
        with pytest.raises(ZeroDivisionError):
            kept.get("a", lambda: 1 / 0)
        assert kept.get("a", lambda: 5) == 5

    def test_it_pickles_empty(self):
        kept = Kept(2)
        kept.get("a", lambda: 1)
        assert pickle.loads(pickle.dumps(kept)).get("a", lambda: 2) == 2
