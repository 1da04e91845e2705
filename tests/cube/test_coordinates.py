"""Places of pixels are PROJ's, point by point, and the same to the bit for any box."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pyproj
import pytest
from affine import Affine
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from cube.coordinates import (
    STEP,
    Place,
    bounds_in,
    check_crs,
    pixel_places,
    same_crs,
    source_xy,
    to_grid,
)
from cube.errors import SourceError
from cube.regions import ranges

SINUSOIDAL = "+proj=sinu +R=6371007.181 +units=m"
DISC = "+proj=geos +h=35785831 +lon_0=0 +sweep=y +datum=WGS84"

# West, south, east, north, of where grids are made; some have no place beyond it.
CRSS = {
    "EPSG:4326": (-180, -90, 180, 90),
    "EPSG:32725": (-39, -80, -27, 0),
    "EPSG:32601": (-180, 0, -174, 84),
    "EPSG:5070": (-125, 24, -66, 50),
    "EPSG:3035": (-20, 30, 45, 75),
    "EPSG:3857": (-180, -84, 180, 84),
    "EPSG:3031": (-180, -90, 180, -60),
    "EPSG:3413": (-180, 60, 180, 90),
    "EPSG:6933": (-180, -86, 180, 86),
    SINUSOIDAL: (-180, -90, 180, 90),
    DISC: (-75, -75, 75, 75),
}
SIDE = 400
PROJ_M = 1e-4
"""PROJ's iterations stop at 1e-10 of a radian, so that its results jump by as little as this."""


@cache
def between(source, target):
    return pyproj.Transformer.from_crs(source, target, always_xy=True)


def grid_around(crs, lon, lat, pixel_m):
    """A grid with its middle at a place; None if the CRS does not have it."""
    x, y = between("EPSG:4326", crs).transform(lon, lat)
    if not np.isfinite([x, y]).all():
        return None
    side = pixel_m / 111_000 if crs == "EPSG:4326" else pixel_m
    corner = x - SIDE / 2 * side, y + SIDE / 2 * side
    return GeoBox((SIDE, SIDE), Affine(side, 0, corner[0], 0, -side, corner[1]), crs)


def proj(crs, grid, rows, cols):
    """The oracle: PROJ for pixel centres, and how far it is to the next; shapes (2, h, w)."""
    t = grid.transform
    row, col = np.mgrid[slice(*rows), slice(*cols)] + 0.5

    def at(row, col):
        back = between(str(grid.crs), crs)
        return np.stack(back.transform(t.a * col + t.c, t.e * row + t.f))

    with np.errstate(invalid="ignore"):
        down = np.hypot(*(at(row + 0.1, col) - at(row - 0.1, col)))
        across = np.hypot(*(at(row, col + 0.1) - at(row, col - 0.1)))
    return at(row, col), np.maximum(down, across) / 0.2


def assert_is_projs(crs, grid, rows, cols):
    found = np.stack(source_xy(crs, grid, rows, cols))
    expected, pixel = proj(crs, grid, rows, cols)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    there = np.isfinite(expected).all(axis=0) & np.isfinite(pixel)
    error = np.hypot(*(found[:, there] - expected[:, there]))
    noise = PROJ_M / 111_000 if crs == "EPSG:4326" else PROJ_M
    assert (error <= 2e-6 * pixel[there] + noise).all()
    return found


starts = st.integers(-250, SIDE + 200)
lengths = st.integers(1, 70)
pairs = st.permutations(list(CRSS)).map(lambda names: names[:2])
sizes = st.floats(-0.5, 3.8).map(lambda power: 10**power)
shares = st.floats(0, 1)


@st.composite
def boxes(draw):
    top, left = draw(starts), draw(starts)
    return (top, top + draw(lengths)), (left, left + draw(lengths))


class TestPoints:
    @settings(max_examples=150)
    @given(pair=pairs, east=shares, north=shares, pixel_m=sizes, box=boxes())
    def test_any_box_of_any_grid_in_any_crs_is_projs(self, pair, east, north, pixel_m, box):
        source, target = pair
        west, south, to_east, to_north = CRSS[target]
        lon, lat = west + east * (to_east - west), south + north * (to_north - south)
        grid = grid_around(target, lon, lat, pixel_m)
        assume(grid is not None)
        assert_is_projs(source, grid, *box)

    @pytest.mark.parametrize("pixel_m", [1, 10, 900, 20_000])
    @pytest.mark.parametrize(
        ("source", "target", "lon", "lat"),
        [
            ("EPSG:4326", "EPSG:3031", 0, -90),  # a pole
            ("EPSG:4326", "EPSG:3031", -180, -90),
            ("EPSG:4326", "EPSG:3413", 33, 89.99),
            ("EPSG:3413", "EPSG:3031", 0, -89),
            ("EPSG:4326", "EPSG:32601", 180, 50),  # the antimeridian
            ("EPSG:3857", "EPSG:32601", 180, 50),
            (SINUSOIDAL, "EPSG:3413", 180, 75),
            ("EPSG:4326", SINUSOIDAL, 179.9, 60),  # the edge of a projection
            ("EPSG:3857", SINUSOIDAL, 179.9, 60),
            ("EPSG:4326", DISC, 75, 10),
            ("EPSG:3857", DISC, 60, 55),
            (DISC, "EPSG:4326", 80, 10),
        ],
    )
    def test_where_a_projection_ends_or_jumps_it_is_projs_too(
        self, source, target, lon, lat, pixel_m
    ):
        grid = grid_around(target, lon, lat, pixel_m)
        assert_is_projs(source, grid, (0, SIDE), (0, SIDE))

    def test_the_edge_of_a_projection_has_pixels_with_and_without_a_place(self):
        grid = grid_around(DISC, 70, 10, 20_000)
        found = np.isfinite(source_xy("EPSG:4326", grid, (0, SIDE), (0, SIDE))[0])
        assert 0.1 < found.mean() < 0.9


class TestBits:
    GRIDS = (
        ("EPSG:4326", grid_around("EPSG:32725", -34.9, -8, 30)),
        ("EPSG:32725", grid_around("EPSG:4326", -34.9, -8, 30)),
        ("EPSG:4326", grid_around("EPSG:3031", 40, -89.99, 300)),
        ("EPSG:4326", grid_around("EPSG:32601", 180, 50, 300)),
        ("EPSG:4326", grid_around(DISC, 70, 10, 20_000)),
        ("EPSG:32725", grid_around("EPSG:32725", -34.9, -8, 30)),
    )
    every_grid = pytest.mark.parametrize(("crs", "grid"), GRIDS)

    @staticmethod
    @cache
    def everything(crs, grid):
        return np.stack(np.broadcast_arrays(*source_xy(crs, grid, (-300, 700), (-300, 700))))

    def part(self, crs, grid, rows, cols):
        return self.everything(crs, grid)[
            :, rows[0] + 300 : rows[1] + 300, cols[0] + 300 : cols[1] + 300
        ]

    def assert_same(self, crs, grid, rows, cols):
        found = np.stack(np.broadcast_arrays(*source_xy(crs, grid, rows, cols)))
        expected = self.part(crs, grid, rows, cols)
        np.testing.assert_array_equal(found.view("int64"), expected.copy().view("int64"))

    @every_grid
    @settings(max_examples=25)
    @given(box=boxes())
    def test_any_box_has_the_bits_of_the_whole(self, crs, grid, box):
        self.assert_same(crs, grid, *box)

    @every_grid
    def test_single_pixels_and_lines_have_the_bits_of_the_whole(self, crs, grid):
        for at in (-300, -1, 0, STEP - 1, STEP, STEP + 1, 399, 699):
            self.assert_same(crs, grid, (at, at + 1), (at, at + 1))
            self.assert_same(crs, grid, (at, at + 1), (-300, 700))
            self.assert_same(crs, grid, (-300, 700), (at, at + 1))

    @every_grid
    def test_any_split_has_the_bits_of_the_whole(self, crs, grid):
        for rows in ranges(400, 57):
            for cols in ranges(400, 131):
                self.assert_same(crs, grid, rows, cols)

    @every_grid
    def test_threads_have_the_bits_of_one(self, crs, grid):
        expected = self.part(crs, grid, (0, 90), (0, 90))

        def read(start):
            found = source_xy(crs, grid, (start, 90), (0, 90))
            return np.array_equal(
                np.stack(np.broadcast_arrays(*found)), expected[:, start:], equal_nan=True
            )

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(read, range(40)))


class TestPlaces:
    """Columns and rows of a raster: 0.5 is the centre of the first pixel."""

    GRID = grid_around("EPSG:32725", -34.9, -8, 30)

    @pytest.mark.parametrize(
        "turned",
        [Affine.identity(), Affine.rotation(20), Affine.scale(1, -1), Affine.scale(0.3, 7)],
    )
    @pytest.mark.parametrize("crs", ["EPSG:32725", "EPSG:4326", "EPSG:5880"])
    def test_they_lead_back_to_the_pixel_through_any_transform(self, crs, turned):
        size = 1e-4 if crs == "EPSG:4326" else 11.0
        x, y = (float(axis[0, 0]) for axis in source_xy(crs, self.GRID, (0, 1), (0, 1)))
        transform = Affine.translation(x, y) @ Affine.scale(size, -size) @ turned
        rows, cols = (-20, 33), (100, 151)
        found = pixel_places(Place(crs, transform, 40), self.GRID, rows, cols)
        col, row = np.broadcast_arrays(*found)
        t = transform
        onto = to_grid(crs, self.GRID, t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f)
        row, col = np.mgrid[slice(*rows), slice(*cols)] + 0.5
        np.testing.assert_allclose(onto[0], col, rtol=0, atol=5e-6)
        np.testing.assert_allclose(onto[1], row, rtol=0, atol=5e-6)

    def test_the_first_pixel_of_a_grid_lies_in_the_middle_of_its_own(self):
        cols, rows = pixel_places(
            Place("EPSG:32725", self.GRID.transform, 40), self.GRID, (0, 3), (0, 2)
        )
        np.testing.assert_allclose(cols, [[0.5, 1.5]], rtol=0, atol=1e-9)
        np.testing.assert_allclose(rows, [[0.5], [1.5], [2.5]], rtol=0, atol=1e-9)

    @pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3035", "EPSG:31466"])
    def test_x_comes_before_y_whatever_the_definition_says(self, crs):
        """Definitions of these put north first."""
        assert pyproj.CRS(crs).axis_info[0].direction in ("north", "east")
        assert pyproj.CRS(crs).axis_info[0].abbrev != "E"
        grid = grid_around("EPSG:3857", 8, 50, 100)
        x, y = source_xy(crs, grid, (0, 50), (0, 50))
        assert (np.diff(x, axis=1) > 0).all()
        assert (np.diff(y, axis=0) < 0).all()
        assert abs(np.diff(x, axis=1)).mean() > 3 * abs(np.diff(x, axis=0)).mean()

    def test_asked_again_it_is_the_same_array(self):
        place = Place("EPSG:4326", self.GRID.transform, 40)
        first = pixel_places(place, self.GRID, (0, 9), (0, 9))
        assert pixel_places(place, self.GRID, (0, 9), (0, 9)) is first
        moved = GeoBox(self.GRID.shape, self.GRID.transform @ Affine.translation(1, 0), UTM)
        assert not np.array_equal(pixel_places(place, moved, (0, 9), (0, 9))[0], first[0])

    @pytest.mark.parametrize("first", [0, 1])
    def test_files_of_one_corner_and_other_widths_have_places_of_their_own(self, first):
        """A file of a quarter of the globe, and one of all of it, asked for in either order."""
        transform = Affine(1, 0, -180, 0, -1, 90)
        grid = grid_around("EPSG:3857", 100, 10, 1000)
        box = (first, first + 3), (0, 3)
        expected = {90: 280 - 360, 360: 280}
        for width in sorted(expected, reverse=bool(first)):
            cols, _ = pixel_places(Place("EPSG:4326", transform, width), grid, *box)
            assert abs(cols - expected[width]).max() < 5


UTM = "EPSG:32725"


class TestCrs:
    GRID = TestPlaces.GRID

    def test_one_crs_has_many_names(self):
        for name in (UTM, pyproj.CRS(UTM).to_wkt(), "+proj=utm +zone=25 +south +datum=WGS84"):
            assert same_crs(name, self.GRID) == pyproj.CRS(name).equals(UTM)
        assert not same_crs("EPSG:31985", self.GRID)
        degrees = grid_around("EPSG:4326", 8, 50, 100)
        assert same_crs("OGC:CRS84", degrees)

    @pytest.mark.parametrize("crs", ["EPSG:999999", "", "nonsense", "EPSG:", "+proj=none"])
    def test_a_crs_that_nobody_knows_is_refused(self, crs):
        with pytest.raises(SourceError, match="^'s': its CRS cannot be used: ") as caught:
            check_crs(crs, self.GRID, what="'s'")
        assert str(caught.value).isprintable()

    def test_another_planet_is_refused(self):
        with pytest.raises(SourceError, match="its CRS cannot be used: "):
            check_crs("IAU_2015:30100", self.GRID, what="'s'")

    def test_bounds_hold_every_pixel(self):
        left, bottom, right, top = bounds_in("EPSG:4326", self.GRID)
        x, y = source_xy("EPSG:4326", self.GRID, (0, SIDE), (0, SIDE))
        assert left < x.min() < x.max() < right
        assert bottom < y.min() < y.max() < top
        assert bounds_in(UTM, self.GRID) == self.GRID.boundingbox.bbox
