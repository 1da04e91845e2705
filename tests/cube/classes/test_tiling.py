"""Tiles as polygons: where their pixels are, and where web maps show them."""

from __future__ import annotations

import math

import pytest
import shapely

from cube.classes.tiling import slippy_tiles, window_tiles
from cube.errors import SpecError
from cube.windows import Windows
from tests.cube.geometry import frame_of, square
from tests.rasters import grid_at

SHAPE = (30, 37)
GRID = grid_at(SHAPE)


class TestWindowTiles:
    WINDOWS = Windows(shape=SHAPE, size=10, stride=10)
    TILES = window_tiles(WINDOWS, GRID)

    def test_windows_are_polygons_where_their_pixels_are(self):
        assert self.TILES[["window", "row", "col"]].to_numpy()[[0, 3, -1]].tolist() == [
            [0, 0, 0],
            [3, 0, 27],  # the last is moved inwards
            [11, 20, 27],
        ]
        expected = frame_of([square(c, r, 10) for r, c in self.WINDOWS.origins()], GRID)
        assert shapely.equals(self.TILES.geometry.to_numpy(), expected.geometry.to_numpy()).all()

    def test_windows_of_another_grid_are_refused(self):
        with pytest.raises(
            SpecError, match="^The windows are of 30 x 37 pixels, the grid has 40 x"
        ):
            window_tiles(self.WINDOWS, grid_at((40, 37)))


class TestSlippyTiles:
    def test_the_world_is_one_tile_and_each_has_four(self):
        world = slippy_tiles([(0, 0, 0)]).geometry[0]
        four = slippy_tiles([(1, x, y) for x in (0, 1) for y in (0, 1)]).geometry
        assert world.bounds == pytest.approx([-20037508.34, -20037508.34, 20037508.34, 20037508.34])
        assert shapely.union_all(four.to_numpy()).equals(world)

    def test_a_place_lies_in_the_tile_that_maps_show_there(self):
        # Formula of https://wiki.openstreetmap.org/wiki/Slippy_map_tilenames
        lon, lat, z = -34.855, -8.01, 18
        x = int((lon + 180) / 360 * 2**z)
        y = int((1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * 2**z)
        tile = slippy_tiles([(z, x, y)]).to_crs("EPSG:4326").geometry[0]
        assert tile.contains(shapely.Point(lon, lat))

    @pytest.mark.parametrize("tile", [(-1, 0, 0), (31, 0, 0), (2, 4, 0), (2, 0, -1)])
    def test_a_tile_that_does_not_exist_is_refused(self, tile):
        with pytest.raises(SpecError, match=r"^A tile is \(z, x, y\): z from 0 to 30, .* Received"):
            slippy_tiles([(0, 0, 0), tile])
