"""Footprints: no scene with a pixel in a box is ever missed, wherever on the globe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyproj
import pytest
from affine import Affine
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from cube.errors import SourceError
from cube.footprints import MARGIN_PX, Footprints, check_overlap
from cube.scenes import RESAMPLING, Scene, SceneBand
from cube.warp import read_scene
from tests.rasters import grid_at, whole, write_tiff

HOMES = {
    "EPSG:32601": (-177, 20),
    "EPSG:32760": (177, -17),
    "EPSG:32633": (15, 50),
    "EPSG:3035": (10, 52),
    "EPSG:5070": (-96, 38),
    "EPSG:3338": (-170, 55),
    "EPSG:3832": (180, -10),
    "EPSG:3413": (-45, 88),
    "EPSG:3031": (0, -89),
    "EPSG:4326": (179, 40),
}
"""CRS to longitude and latitude of a place where it is used."""

DEGREE_M = 111_000.0


def grid_around(crs, lon, lat, pixel_m, shape, *, turn=0):
    """North-up grid whose centre lies there; on longitudes a turn of the globe further."""
    pixel, (x, y) = pixel_m, (lon, lat)
    if crs == "EPSG:4326":
        pixel, x = pixel_m / DEGREE_M, (lon + 180) % 360 - 180 + 360 * turn
    else:
        onto = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
        x, y = onto.transform(lon, lat)
    left, top = x - shape[1] / 2 * pixel, y + shape[0] / 2 * pixel
    return GeoBox(shape, Affine(pixel, 0.0, left, 0.0, -pixel, top), crs)


def scene_of(path, grid, *, resampling="nearest", name="scene"):
    """A scene without nodata, so that whatever is read of it is seen."""
    box = grid.boundingbox
    return Scene(
        id=name,
        layers=(SceneBand(name="n", href=str(path)),),
        crs=str(grid.crs),
        nodata=None,
        resampling=resampling,
        footprint=(box.left, box.bottom, box.right, box.top),
    )


def written(path, grid, **facts):
    return scene_of(write_tiff(path, np.ones(grid.shape, "uint8"), grid=grid), grid, **facts)


def seen(scene, grid, box):
    return np.isfinite(read_scene(scene, grid, *box)).any()


spans = st.tuples(st.integers(-6, 44), st.integers(1, 40)).map(lambda two: (two[0], sum(two)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("footprints")


class TestNear:
    @settings(max_examples=200)
    @given(data=st.data())
    def test_a_scene_that_has_pixels_in_a_box_is_near_it(self, folder, data):
        source, target = (data.draw(st.sampled_from(sorted(HOMES))) for _ in range(2))
        lon, lat = HOMES[target if data.draw(st.booleans()) else source]
        lon, lat = (place + data.draw(st.floats(-1, 1)) for place in (lon, lat))
        pixel_m = 10 ** data.draw(st.floats(1.5, 5))
        shape = data.draw(st.tuples(st.integers(3, 40), st.integers(3, 40)))
        turns = [data.draw(st.sampled_from([0, 1])) for _ in range(2)]
        of = grid_around(source, lon, lat, pixel_m, shape, turn=turns[0])
        assume(np.isfinite(tuple(of.transform)).all())
        # The grid around a point on the rim of the scene.
        x, y = (data.draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])) for _ in range(2))
        corner = of.transform @ (x * shape[1], y * shape[0])
        back = pyproj.Transformer.from_crs(source, "EPSG:4326", always_xy=True)
        there = back.transform(*corner)
        assume(np.isfinite(there).all() and abs(there[1]) <= 90)
        finer = 10 ** data.draw(st.floats(-4, 0.5))
        grid = grid_around(target, *there, pixel_m * finer, (40, 40), turn=turns[1])
        assume(np.isfinite(tuple(grid.transform)).all())
        resampling = data.draw(st.sampled_from([r for r in RESAMPLING if r != "sum"]))
        scene = written(folder / "random.tif", of, resampling=resampling)
        box = data.draw(st.tuples(spans, spans))
        try:
            there = seen(scene, grid, box)
        except SourceError:
            assume(False)
        if there:
            assert Footprints([scene], grid).near(*box) == [0]

    @pytest.mark.parametrize("x", [0.0, 0.5])
    def test_places_infinitely_far_away_are_nowhere(self, tmp_path, x):
        of = grid_around("EPSG:3031", *HOMES["EPSG:3031"], 100.0, (3, 3), turn=0)
        back = pyproj.Transformer.from_crs("EPSG:3031", "EPSG:4326", always_xy=True)
        there = back.transform(*(of.transform @ (x * 3, 0.0)))
        grid = grid_around("EPSG:5070", *there, 100.0, (40, 40), turn=0)
        scene = written(tmp_path / "far.tif", of, resampling="average")
        values = read_scene(scene, grid, (0, 1), (0, 40))
        assert values.shape == (1, 1, 40)

    def test_the_bulge_of_a_parallel_between_two_points_counts(self, tmp_path):
        scene = written(
            tmp_path / "wide.tif",
            GeoBox((100, 100), Affine(0.1, 0, 10.625, 0, -0.1, 55.0), "EPSG:4326"),
        )
        grid = grid_at((60, 60), pixel_m=10.0, crs="EPSG:32633", corner=(499_700.0, 4_982_999.0))
        assert 0 < np.isfinite(read_scene(scene, grid, *whole(grid))).sum() < 3600
        assert Footprints([scene], grid).near(*whole(grid)) == [0]

    @pytest.mark.parametrize("crs", ["EPSG:3413", "EPSG:3031"])
    def test_a_scene_around_a_pole_is_near_every_longitude(self, tmp_path, crs):
        pole = 90.0 if crs == "EPSG:3413" else -90.0
        square = GeoBox((100, 100), Affine(20e3, 0, -900e3, 0, -20e3, 700e3), crs)
        scene = written(tmp_path / "pole.tif", square)
        for lon in range(-180, 180, 15):
            for away in (0.05, 2.0, 4.0, 6.0):
                lat = np.copysign(90.0 - away, pole)
                grid = GeoBox((4, 4), Affine(0.01, 0, lon, 0, -0.01, lat), "EPSG:4326")
                assert seen(scene, grid, whole(grid))
                assert Footprints([scene], grid).near(*whole(grid)) == [0]

    @pytest.mark.parametrize("left", [-180.0, 0.0])
    def test_a_scene_of_the_whole_globe_is_near_every_longitude(self, tmp_path, left):
        globe = GeoBox((90, 180), Affine(2.0, 0, left, 0, -2.0, 90.0), "EPSG:4326")
        scene = written(tmp_path / "globe.tif", globe)
        for crs in ("EPSG:4326", "EPSG:32633", "EPSG:3413"):
            grid = grid_around(crs, 15 if crs == "EPSG:32633" else 40, 50, 3e4, (9, 9))
            assert seen(scene, grid, whole(grid))
            assert Footprints([scene], grid).near(*whole(grid)) == [0]

    def test_places_come_in_the_order_of_the_scenes(self):
        grid = grid_at((100, 100))
        scenes = [scene_of("a.tif", grid_at((50, 50), shift=(i % 7, i % 3))) for i in range(40)]
        assert Footprints(scenes, grid).near((20, 30), (20, 30)) == list(range(40))

    def test_a_scene_without_a_footprint_is_near_everything(self):
        grid = grid_at((100, 100))
        far = scene_of("far.tif", grid_at((10, 10), shift=(9000, 0)))
        found = Footprints([far, replace(far, footprint=None)], grid)
        assert found.near((0, 1), (0, 1)) == [1]

    def test_no_scenes_are_near_nothing(self):
        assert Footprints([], grid_at((9, 9))).near((0, 9), (0, 9)) == []

    def test_scenes_beyond_the_margin_are_not_near(self):
        grid = grid_at((100, 100))
        scene = scene_of("a.tif", grid_at((10, 10), shift=(20, 20)))
        found = Footprints([scene], grid)
        reach = int(MARGIN_PX)
        for start, expected in ((30 + reach, [0]), (31 + reach, [])):
            assert found.near((start, start + 5), (20, 30)) == expected
            assert found.near((20, 30), (start, start + 5)) == expected

    @pytest.mark.parametrize(("lon", "turns"), [(179.0, (0, 1)), (-179.5, (0, -1))])
    def test_on_longitudes_a_turn_of_the_globe_is_the_same_place(self, lon, turns):
        zone = grid_around("EPSG:32760", lon % 360 - 360, -17, 100.0, (200, 200))
        found = []
        for turn in turns:
            grid = GeoBox(
                (30, 30), Affine(0.01, 0, lon - 0.15 + 360 * turn, 0, -0.01, -16.85), 4326
            )
            found.append(Footprints([scene_of("z.tif", zone)], grid).near(*whole(grid)))
        assert found == [[0], [0]]


class TestMany:
    def test_twenty_thousand_scenes_are_found_by_those_around_a_box_alone(self):
        grid = grid_at((10_000, 10_000))
        rng = np.random.default_rng(0)
        shifts = rng.integers(-20_000, 20_000, (20_000, 2))
        scenes = [
            scene_of("s.tif", grid_at((1000, 1000), shift=(a + 0.5, b + 0.5))) for a, b in shifts
        ]
        found = Footprints(scenes, grid)
        top, left = shifts.T
        for row in range(0, 10_000, 2_500):
            for col in range(0, 10_000, 500):
                expected = np.flatnonzero(
                    (top + 0.5 - 8 < row + 500)
                    & (top + 1000.5 + 8 > row)
                    & (left + 0.5 - 8 < col + 500)
                    & (left + 1000.5 + 8 > col)
                )
                assert found.near((row, row + 500), (col, col + 500)) == expected.tolist()


class TestCheckOverlap:
    GRID = grid_at((40, 50))

    def test_a_scene_on_the_grid_passes(self):
        check_overlap(scene_of("a.tif", grid_at((10, 10), shift=(5, 5))), self.GRID)

    def test_so_does_one_of_which_nobody_knows_where_it_is(self):
        scene = scene_of("a.tif", grid_at((10, 10), shift=(500, 5)))
        check_overlap(replace(scene, footprint=None), self.GRID)

    def test_and_one_of_the_whole_globe(self):
        globe = GeoBox((90, 180), Affine(2.0, 0, -180, 0, -2.0, 90.0), "EPSG:4326")
        check_overlap(scene_of("globe.tif", globe), self.GRID)

    @pytest.mark.parametrize("shift", [(-11, 0), (40, 0), (0, -11), (0, 51)])
    def test_one_beside_it_is_refused_with_both_places(self, shift):
        with pytest.raises(
            SourceError,
            match=r"'scene' does not meet the grid. It covers x 2\d+..2\d+, y 9.* in its CRS; "
            r"the grid covers x 290000..291500, y 9.1088e\+06..9.11e\+06 there. Check the CRS.",
        ):
            check_overlap(scene_of("a.tif", grid_at((10, 10), shift=shift)), self.GRID)

    def test_one_of_an_unknown_crs_is_refused(self):
        scene = replace(scene_of("a.tif", grid_at((9, 9))), crs="EPSG:1")
        with pytest.raises(SourceError, match="'scene': its CRS cannot be used"):
            check_overlap(scene, self.GRID)

    def test_across_the_antimeridian_a_scene_meets_both_sides(self):
        zone = grid_around("EPSG:32760", 180, -17, 1000.0, (100, 100))
        for left in (-180.0, 179.9, 180.0, -180.1):
            grid = GeoBox((20, 20), Affine(0.01, 0, left, 0, -0.01, -16.9), "EPSG:4326")
            check_overlap(scene_of("z.tif", zone), grid)
        with pytest.raises(SourceError, match="does not meet the grid"):
            check_overlap(
                scene_of("z.tif", zone),
                GeoBox((20, 20), Affine(0.01, 0, 0.0, 0, -0.01, -16.9), "EPSG:4326"),
            )
