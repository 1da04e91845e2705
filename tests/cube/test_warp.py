"""Laws of the one warp: any cut gives the same bits, GDAL is the oracle, nodata never counts."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import reproject

from cube import sampling
from cube.errors import SourceError
from cube.footprints import check_overlap
from cube.scenes import RESAMPLING, Scene, SceneBand
from cube.warp import read_scene
from tests.rasters import LEFT, TOP, UTM, grid_at, noise, positions, whole, write_tiff

HALO = 20


def corner_in(crs):
    """The corner of :func:`tests.rasters.grid_at`, in another CRS."""
    return pyproj.Transformer.from_crs(UTM, crs, always_xy=True).transform(LEFT, TOP)


def lonlat(shape, step):
    """Geographic grid whose corner lies just outside that of ``grid_at``."""
    lon, lat = corner_in("EPSG:4326")
    return GeoBox(shape, Affine(step, 0, lon - 3 * step, 0, -step, lat + 3 * step), "EPSG:4326")


def scene_of(path, crs, *, nodata=-9.0, resampling="nearest", bands=("a",), **facts):
    layers = tuple(SceneBand(name=b, href=str(path), index=i) for i, b in enumerate(bands, 1))
    return Scene(id="s", layers=layers, crs=crs, nodata=nodata, resampling=resampling, **facts)


# Source and target grid; every target is wider than GDAL's blocks of 512 x 128 pixels.
CASES = {
    "UTM to UTM, shifted": (grid_at((170, 660)), grid_at((160, 640), shift=(10.37, -5.61))),
    "UTM to UTM, refined": (
        grid_at((50, 200)),
        grid_at((160, 640), pixel_m=9.3, shift=(3.3, 4.4)),
    ),
    "UTM to polyconic, coarsened": (
        grid_at((400, 1640), pixel_m=10),
        grid_at((140, 620), pixel_m=24.7, crs="EPSG:5880", corner=corner_in("EPSG:5880")),
    ),
    "UTM to Albers, coarsened": (
        grid_at((300, 1300), pixel_m=15, crs="EPSG:32613", corner=(400_000, 4_500_000)),
        grid_at(
            (150, 620),
            crs="EPSG:5070",
            corner=pyproj.Transformer.from_crs("EPSG:32613", "EPSG:5070", always_xy=True).transform(
                400_000, 4_500_000
            ),
        ),
    ),
    "longitude and latitude to UTM, refined": (lonlat((52, 200), 0.001), grid_at((160, 640))),
    "longitude and latitude to UTM, coarsened": (
        lonlat((330, 1250), 0.0001),
        grid_at((140, 620), pixel_m=20),
    ),
}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """(case, resampling) to scene, grid and the halo-wide whole; noise with holes of nodata."""
    folder = tmp_path_factory.mktemp("warp")

    @cache
    def make(name, resampling):
        source, grid = CASES[name]
        path = folder / f"{list(CASES).index(name)}.tif"
        if not path.exists():
            values = noise(source.shape, seed=7)
            values[np.random.default_rng(3).random(source.shape) < 0.02] = -9
            write_tiff(path, values, grid=source, nodata=-9)
        scene = scene_of(path, str(source.crs), resampling=resampling)
        rows, cols = whole(grid)
        wide = (rows[0] - HALO, rows[1] + HALO), (cols[0] - HALO, cols[1] + HALO)
        return scene, grid, read_scene(scene, grid, *wide)

    return make


every_case = pytest.mark.parametrize("name", CASES)
every_way = pytest.mark.parametrize("resampling", RESAMPLING)
gdals_ways = pytest.mark.parametrize("resampling", [way for way in RESAMPLING if way != "sum"])


def spans(length):
    """Half-open ranges that may reach into the halo, at least one pixel long."""
    ends = st.integers(-HALO, length + HALO)
    return st.tuples(ends, ends).filter(lambda ab: ab[0] != ab[1]).map(sorted).map(tuple)


class TestTiles:
    @every_case
    @every_way
    @settings(deadline=None, max_examples=5, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def test_any_tile_read_alone_equals_the_whole_to_the_bit(self, case, name, resampling, data):
        scene, grid, everything = case(name, resampling)
        rows, cols = data.draw(spans(grid.shape[0])), data.draw(spans(grid.shape[1]))
        tile = read_scene(scene, grid, rows, cols)
        part = everything[:, rows[0] + HALO : rows[1] + HALO, cols[0] + HALO : cols[1] + HALO]
        np.testing.assert_array_equal(tile, part)

    @every_case
    @every_way
    def test_tiles_side_by_side_give_the_whole_to_the_bit(self, case, name, resampling):
        scene, grid, everything = case(name, resampling)
        height, width = grid.shape
        mosaic = np.full((1, height, width), np.inf, everything.dtype)
        for top in range(0, height, 64):
            for left in range(0, width, 256):
                rows, cols = (top, min(top + 64, height)), (left, min(left + 256, width))
                mosaic[:, slice(*rows), slice(*cols)] = read_scene(scene, grid, rows, cols)
        np.testing.assert_array_equal(mosaic, everything[:, HALO:-HALO, HALO:-HALO])

    @every_case
    @gdals_ways
    def test_reading_equals_one_virtual_raster_over_the_grid(self, case, name, resampling):
        scene, grid, everything = case(name, resampling)
        expected = gdal_at_once(scene, grid)
        found = everything[:, HALO:-HALO, HALO:-HALO]
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        if resampling in ("nearest", "mode"):
            np.testing.assert_array_equal(found, expected)
        else:
            # GDAL rounds by the place in its block, most in the overlaps that average weighs.
            atol = 2e-4 if resampling == "average" else 2e-5
            np.testing.assert_allclose(found, expected, rtol=0, atol=atol)

    @every_case
    def test_every_case_tests_observed_and_missing_pixels(self, case, name):
        *_, everything = case(name, "nearest")
        assert 0.5 < np.isfinite(everything).mean() < 0.99

    @pytest.mark.parametrize("resampling", ["nearest", "cubic", "average"])
    def test_four_threads_read_what_one_reads(self, case, resampling):
        scene, grid, everything = case("UTM to UTM, shifted", resampling)
        boxes = [((r, r + 40), (c, c + 160)) for r in range(0, 160, 40) for c in range(0, 640, 160)]
        with ThreadPoolExecutor(4) as pool:
            tiles = list(pool.map(lambda box: read_scene(scene, grid, *box), boxes))
        for (rows, cols), tile in zip(boxes, tiles, strict=True):
            part = everything[:, HALO:-HALO, HALO:-HALO][:, slice(*rows), slice(*cols)]
            np.testing.assert_array_equal(tile, part)

    def test_a_halo_wider_than_the_margin_is_refused(self, case):
        scene, grid, _ = case("UTM to UTM, shifted", "nearest")
        with pytest.raises(SourceError, match="may reach 256 pixels outside the grid"):
            read_scene(scene, grid, (-257, 10), (0, 10))
        with pytest.raises(SourceError, match="may reach 256 pixels outside the grid"):
            read_scene(scene, grid, (0, 10), (0, grid.shape[1] + 257))


def ringed(path):
    """The same file within a ring of nodata.

    At the edge of a file GDAL weighs pixels by more than themselves in averages.
    """
    with rasterio.open(path) as source:
        values, profile = source.read(), source.profile
    wide = np.pad(values, ((0, 0), (9, 9), (9, 9)), constant_values=profile["nodata"])
    moved = profile["transform"] @ Affine.translation(-9, -9)
    sides = {"height": wide.shape[1], "width": wide.shape[2], "transform": moved}
    with rasterio.open(target := f"{path}.ringed.tif", "w", **{**profile, **sides}) as file:
        file.write(wide)
    return target


def gdal_at_once(scene, grid):
    """The oracle: exact transform, fixed filter, the exact grid read in one go."""
    path = scene.layers[0].href
    with rasterio.open(ringed(path) if scene.resampling == "average" else path) as source:
        scale = pixels_per_source_pixel(source, scene, grid)
        with WarpedVRT(
            source,
            src_crs=scene.crs,
            crs=str(grid.crs),
            transform=grid.transform,
            width=grid.shape[1],
            height=grid.shape[0],
            src_nodata=scene.nodata,
            nodata=math.nan,
            dtype="float32",
            resampling=Resampling[scene.resampling],
            tolerance=1e-6,
            XSCALE=scale[0],
            YSCALE=scale[1],
        ) as warped:
            return warped.read()


def pixels_per_source_pixel(source, scene, grid):
    """Along the source's (x, y), at the centre of the grid, by differences; at most 1."""
    back = pyproj.Transformer.from_crs(str(grid.crs), scene.crs, always_xy=True)
    onto = pyproj.Transformer.from_crs(scene.crs, str(grid.crs), always_xy=True)
    middle = grid.transform @ (grid.shape[1] / 2, grid.shape[0] / 2)
    col, row = ~source.transform @ back.transform(*middle)
    ends = [
        (~grid.transform) @ onto.transform(*(source.transform @ place))
        for place in ((col, row), (col + 0.5, row), (col, row + 0.5))
    ]
    scale = [2 * math.dist(ends[0], end) for end in ends[1:]]
    return [1.0 if s > 0.999 else s for s in scale]


class TestFilter:
    @pytest.mark.parametrize("resampling", ["bilinear", "cubic", "average"])
    def test_coarsening_filters_noise_as_gdal_does_by_default(self, tmp_path, resampling):
        source, grid = grid_at((1200, 1200), pixel_m=5), grid_at((200, 200), shift=(0.3, 0.4))
        values = noise(source.shape)
        scene = scene_of(
            write_tiff(tmp_path / "n.tif", values, grid=source, nodata=-9),
            UTM,
            resampling=resampling,
        )
        inner = (slice(None), slice(5, -5), slice(5, -5))
        found = read_scene(scene, grid, *whole(grid))[inner]
        expected = np.zeros((1, *grid.shape), "float32")
        reproject(
            values,
            expected[0],
            src_transform=source.transform,
            src_crs=UTM,
            dst_transform=grid.transform,
            dst_crs=UTM,
            resampling=Resampling[resampling],
        )
        assert found.std() == pytest.approx(expected[inner].std(), rel=0.03)
        # An aliasing filter of scale 1 would leave 0.67 for bilinear.
        assert found.std() < 0.3
        if resampling == "bilinear":
            assert found.std() == pytest.approx(0.11, abs=0.01)

    @gdals_ways
    def test_a_constant_stays_constant_when_coarsened_and_refined(self, tmp_path, resampling):
        source = grid_at((120, 120))
        path = write_tiff(tmp_path / "c.tif", np.full((120, 120), 3.25, "float32"), grid=source)
        scene = scene_of(path, UTM, nodata=None, resampling=resampling)
        for pixel_m in (7.0, 71.0):
            grid = grid_at((30, 30), pixel_m=pixel_m, shift=(3.1, 3.7))
            np.testing.assert_allclose(read_scene(scene, grid, *whole(grid)), 3.25, rtol=1e-6)

    def test_the_filter_has_the_width_that_fits_at_the_grid_not_at_the_scene(self, tmp_path):
        # A degree of longitude at 60 degrees north is half of one at the equator, where the
        # scene has its centre: there, pixels of 4640 m are 1.5 columns wide, here 3.
        globe = GeoBox((600, 360), Affine(1 / 36, 0, -2, 0, -0.2, 60), "EPSG:4326")
        columns = np.broadcast_to(noise((360,)), globe.shape)
        path = write_tiff(tmp_path / "globe.tif", columns, grid=globe)
        scene = scene_of(path, "EPSG:4326", nodata=None, resampling="bilinear")
        grid = GeoBox((5, 80), Affine(4640, 0, 300_000, 0, -4640, 6_600_000), "EPSG:32631")
        expected = np.zeros(grid.shape, "float32")
        reproject(
            columns,
            expected,
            src_transform=globe.transform,
            src_crs="EPSG:4326",
            dst_transform=grid.transform,
            dst_crs=str(grid.crs),
            resampling=Resampling.bilinear,
        )
        found = read_scene(scene, grid, *whole(grid))[0]
        assert found.std() == pytest.approx(expected.std(), rel=0.05)

    def test_overviews_of_the_file_do_not_change_a_value(self, tmp_path):
        source, grid = grid_at((256, 256), pixel_m=10), grid_at((60, 60), pixel_m=40)
        path = write_tiff(tmp_path / "o.tif", noise(source.shape), grid=source, tiled=True)
        scene = scene_of(path, UTM, nodata=None, resampling="bilinear")
        before = read_scene(scene, grid, *whole(grid))
        with rasterio.open(path, "r+") as target:
            target.build_overviews([2, 4], Resampling.nearest)
        np.testing.assert_array_equal(read_scene(scene, grid, *whole(grid)), before)


class TestPlace:
    """A pixel's value tells where it was: half a pixel off is visible as a number."""

    @pytest.fixture
    def scene(self, tmp_path):
        return scene_of(write_tiff(tmp_path / "p.tif", positions((90, 130))), UTM)

    @every_way
    def test_the_same_grid_gives_exactly_the_pixels(self, scene, resampling):
        grid = grid_at((90, 130))
        found = read_scene(replace(scene, resampling=resampling), grid, *whole(grid))
        np.testing.assert_array_equal(found[0], positions((90, 130)))

    @every_way
    @pytest.mark.parametrize("shift", [(1, 0), (0, 1), (7, 11)])
    def test_a_grid_shifted_by_whole_pixels_gives_the_shifted_pixels(
        self, scene, resampling, shift
    ):
        grid = grid_at((60, 80), shift=shift)
        found = read_scene(replace(scene, resampling=resampling), grid, *whole(grid))
        down, right = shift
        expected = positions((90, 130))[down : down + 60, right : right + 80]
        np.testing.assert_array_equal(found[0], expected)

    def test_bilinear_gives_the_value_of_the_place_half_a_pixel_away(self, scene):
        grid = grid_at((60, 80), shift=(4.5, 9.25))
        found = read_scene(replace(scene, resampling="bilinear"), grid, *whole(grid))
        rows, cols = np.indices((60, 80))
        np.testing.assert_allclose(found[0], 1000 * (rows + 4.5) + cols + 9.25, rtol=1e-6)

    def test_average_of_whole_pixels_is_the_mean_of_the_block(self, scene):
        grid = grid_at((30, 40), pixel_m=90)
        found = read_scene(replace(scene, resampling="average"), grid, *whole(grid))
        blocks = positions((90, 120)).reshape(30, 3, 40, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(found[0], blocks, rtol=1e-6)

    def test_outside_the_file_is_nothing_observed(self, scene):
        grid = grid_at((100, 150), shift=(-5, -8))
        found = read_scene(scene, grid, *whole(grid))[0]
        inside = np.zeros((100, 150), bool)
        inside[5:95, 8:138] = True
        np.testing.assert_array_equal(np.isfinite(found), inside)
        np.testing.assert_array_equal(found[5:95, 8:138], positions((90, 130)))

    @gdals_ways
    def test_a_rotated_file_equals_gdal(self, tmp_path, resampling):
        grid = grid_at((70, 90))
        turned = GeoBox(
            (90, 130), grid.transform @ Affine.translation(20, -30) @ Affine.rotation(23), UTM
        )
        path = write_tiff(tmp_path / "r.tif", noise((90, 130)), grid=turned, nodata=-9)
        scene = scene_of(path, UTM, resampling=resampling)
        found, expected = read_scene(scene, grid, *whole(grid)), gdal_at_once(scene, grid)
        assert np.isfinite(found).mean() > 0.3
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)

    @pytest.mark.parametrize("degrees", [40, 45, 60, 90, 135, 180])
    def test_averages_take_whole_pixels_however_far_a_file_is_turned(self, tmp_path, degrees):
        # Noise of one: a mean of so many pixels has so small a deviation, and no slope a bias.
        grid = grid_at((30, 30), pixel_m=240)
        centre = grid.transform @ (15, 15)
        placed = Affine.translation(*centre) @ Affine.rotation(degrees) @ Affine.scale(30, -30)
        turned = GeoBox((600, 600), placed @ Affine.translation(-300, -300), UTM)
        path = write_tiff(tmp_path / "r.tif", noise((600, 600)), grid=turned, nodata=-9)
        found = read_scene(scene_of(path, UTM, resampling="average"), grid, *whole(grid))[0]
        assert np.nanstd(found) == pytest.approx(1 / 8, rel=0.25)
        rows, cols = np.indices((600, 600)) + 0.5
        east, north = turned.transform @ (cols, rows)
        slope = write_tiff(tmp_path / "s.tif", east + 2 * north, grid=turned, nodata=-9)
        scene = scene_of(slope, UTM, resampling="average")
        found = read_scene(scene, grid, *whole(grid))[0]
        rows, cols = np.indices((30, 30)) + 0.5
        east, north = grid.transform @ (cols, rows)
        np.testing.assert_allclose(found, east + 2 * north, rtol=0, atol=30)

    def test_a_south_up_file_is_turned_over(self, tmp_path):
        grid = grid_at((90, 130))
        up = GeoBox((90, 130), Affine(30, 0, LEFT, 0, 30, TOP - 90 * 30), UTM)
        path = write_tiff(tmp_path / "u.tif", positions((90, 130))[::-1], grid=up)
        found = read_scene(scene_of(path, UTM), grid, *whole(grid))
        np.testing.assert_array_equal(found[0], positions((90, 130)))


class TestTurns:
    """185 degrees east is 175 degrees west: grids and files in degrees may say either."""

    GRID = GeoBox((8, 40), Affine(0.5, 0, 170, 0, -0.5, 64), "EPSG:4326")

    def lon_of(self, path, left, cols):
        """A file whose value is the longitude, -180..180, of the pixel's centre."""
        grid = GeoBox((8, cols), Affine(0.5, 0, left, 0, -0.5, 64), "EPSG:4326")
        lon = (left + (np.arange(cols) + 0.5) / 2 + 180) % 360 - 180
        values = np.broadcast_to(lon.astype("float32"), grid.shape)
        return scene_of(write_tiff(path, values, grid=grid), "EPSG:4326", nodata=None)

    @pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic", "average"])
    @pytest.mark.parametrize(("left", "cols"), [(-180, 720), (0, 720), (-180, 10), (180, 10),
                                                (165, 40), (-540, 720)])  # fmt: skip
    def test_a_file_is_found_a_turn_away(self, tmp_path, left, cols, resampling):
        scene = replace(self.lon_of(tmp_path / "l.tif", left, cols), resampling=resampling)
        lon = (170 + (np.arange(40) + 0.5) / 2 + 180) % 360 - 180
        whole_turn = (lon - left) % 360
        expected = np.where(whole_turn < cols / 2, lon, np.nan)
        found = read_scene(scene, self.GRID, *whole(self.GRID))[0]
        np.testing.assert_array_equal(np.isnan(found[3]), np.isnan(expected))
        np.testing.assert_allclose(found[3], expected, rtol=1e-6)
        parts = [read_scene(scene, self.GRID, (0, 8), (c, c + 5))[0] for c in range(0, 40, 5)]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), found)

    def test_sums_are_found_a_turn_away(self, tmp_path):
        scene = replace(self.lon_of(tmp_path / "l.tif", -180, 10), resampling="sum")
        found = read_scene(scene, self.GRID, *whole(self.GRID))[0]
        assert np.isfinite(found).sum() == 80
        np.testing.assert_allclose(found[0, 20:30], -180 + (np.arange(10) + 0.5) / 2)

    def test_a_filter_that_would_have_to_go_round_the_globe_is_refused(self, tmp_path):
        scene = replace(self.lon_of(tmp_path / "l.tif", -180, 720), resampling="mode")
        coarse = GeoBox((2, 10), Affine(2, 0, 170, 0, -2, 64), "EPSG:4326")
        with pytest.raises(SourceError, match="mode resampling does not go round the globe"):
            read_scene(scene, coarse, *whole(coarse))

    def test_averages_do_not_go_the_long_way_round(self, tmp_path):
        scene = replace(self.lon_of(tmp_path / "l.tif", -180, 720), resampling="average")
        coarse = GeoBox((2, 10), Affine(2, 0, 169, 0, -2, 64), "EPSG:4326")
        found = read_scene(scene, coarse, *whole(coarse))[0]
        # The box from 179 to 181 has its western half in the file's last columns; of the others
        # all lies on one side.
        lon = np.array([170, 172, 174, 176, 178, 179.5, -178, -176, -174, -172])
        np.testing.assert_allclose(found[0], lon)


class TestSum:
    """Counts, such as persons per pixel: their total is conserved."""

    @every_case
    def test_the_total_is_conserved_from_any_grid_to_any(self, case, name):
        source, grid = CASES[name]
        path = case(name, "nearest")[0].layers[0].href
        with rasterio.open(path) as raster:
            values = raster.read(1).astype("float64")
        values[values == -9] = np.nan
        # A grid of the same pixels that holds all of the source.
        left, bottom, right, top = pyproj.Transformer.from_crs(
            str(source.crs), str(grid.crs), always_xy=True
        ).transform_bounds(*source.boundingbox.bbox)
        step = grid.resolution.x
        shape = math.ceil((top - bottom) / step) + 3, math.ceil((right - left) / step) + 3
        wide = GeoBox(shape, Affine(step, 0, left - step, 0, -step, top + step), grid.crs)
        found = read_scene(scene_of(path, str(source.crs), resampling="sum"), wide, *whole(wide))
        assert np.nansum(found, dtype="float64") == pytest.approx(np.nansum(values), rel=1e-12)

    def test_blocks_of_whole_pixels_are_added_up(self, tmp_path):
        values = noise((90, 120), dtype="uint8")
        path = write_tiff(tmp_path / "s.tif", values, nodata=0)
        scene, grid = scene_of(path, UTM, nodata=0, resampling="sum"), grid_at((30, 40), pixel_m=90)
        expected = values.reshape(30, 3, 40, 3).sum(axis=(1, 3))
        np.testing.assert_array_equal(read_scene(scene, grid, *whole(grid))[0], expected)

    def test_refined_pixels_share_the_amount(self, tmp_path):
        values = noise((9, 12), dtype="uint8")
        path = write_tiff(tmp_path / "s.tif", values, nodata=0)
        scene, grid = scene_of(path, UTM, nodata=0, resampling="sum"), grid_at((27, 36), pixel_m=10)
        expected = np.kron(values, np.ones((3, 3))) / 9
        found = read_scene(scene, grid, *whole(grid))[0]
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    def test_a_grid_turned_by_a_projection_gets_nearly_what_lies_under_each_pixel(self, tmp_path):
        # Convergence at the edge of a zone turns pixels by two degrees; density is smooth.
        source = grid_at((300, 300), pixel_m=30, crs="EPSG:32633", corner=(180_000, 6_200_000))
        rows, cols = np.indices(source.shape)
        values = 100 + np.sin(rows / 60) * 40 + np.cos(cols / 45) * 30
        path = write_tiff(tmp_path / "d.tif", values.astype("float64"), grid=source)
        corner = pyproj.Transformer.from_crs("EPSG:32633", "EPSG:3035", always_xy=True).transform(
            182_500, 6_197_500
        )
        grid = grid_at((20, 20), pixel_m=200, crs="EPSG:3035", corner=corner)
        scene = scene_of(path, "EPSG:32633", nodata=None, resampling="sum")
        smooth = replace(scene, resampling="bilinear")
        found = read_scene(scene, grid, *whole(grid))
        density = read_scene(smooth, grid, *whole(grid))
        np.testing.assert_allclose(found, density * (200 / 30) ** 2, rtol=0.02)

    def test_memory_is_bounded_where_a_file_is_much_finer(self, tmp_path, monkeypatch):
        values = noise((400, 500), dtype="uint8")
        path = write_tiff(tmp_path / "s.tif", values, nodata=0)
        grid = grid_at((10, 12), pixel_m=1200, shift=(0.2, 0.3))
        scene = scene_of(path, UTM, nodata=0, resampling="sum")
        whole_window = read_scene(scene, grid, *whole(grid))
        monkeypatch.setattr(sampling, "WINDOW_BYTES", 40_000)
        np.testing.assert_array_equal(read_scene(scene, grid, *whole(grid)), whole_window)

    def test_by_strips_the_nearest_pixels_are_the_same(self, tmp_path, monkeypatch):
        path = write_tiff(tmp_path / "s.tif", noise((400, 500), dtype="uint8"), nodata=0)
        grid = grid_at((20, 25), pixel_m=500, shift=(0.2, 0.3), crs="EPSG:5880",
                       corner=corner_in("EPSG:5880"))  # fmt: skip
        scene = scene_of(path, UTM, nodata=0, resampling="nearest")
        at_once = read_scene(scene, grid, *whole(grid))
        assert np.isfinite(at_once).mean() > 0.5
        monkeypatch.setattr(sampling, "WINDOW_BYTES", 40_000)
        np.testing.assert_array_equal(read_scene(scene, grid, *whole(grid)), at_once)


class TestNodata:
    def read(self, path, *, resampling="nearest", bands=("a",), nodata=None):
        grid = grid_at((40, 50))
        scene = scene_of(path, UTM, nodata=nodata, resampling=resampling, bands=bands)
        return read_scene(scene, grid, *whole(grid))

    @pytest.mark.parametrize(
        ("dtype", "nodata"),
        [("uint8", 0), ("int16", -32768), ("float32", -99999), ("float32", math.nan)],
    )
    def test_nodata_becomes_nan_and_nothing_else_does(self, tmp_path, dtype, nodata):
        values = noise((40, 50), dtype=dtype)
        holes = np.random.default_rng(1).random((40, 50)) < 0.1
        values[holes] = nodata
        found = self.read(write_tiff(tmp_path / "n.tif", values), nodata=nodata)[0]
        np.testing.assert_array_equal(np.isnan(found), holes)
        np.testing.assert_array_equal(found[~holes], values[~holes].astype("float32"))

    @every_way
    def test_without_nodata_every_pixel_counts(self, tmp_path, resampling):
        values = noise((40, 50), dtype="uint8")
        values[::3] = 0
        path = write_tiff(tmp_path / "n.tif", values, nodata=0)
        found = self.read(path, resampling=resampling)[0]
        np.testing.assert_array_equal(found, values.astype("float32"))

    @every_way
    def test_nodata_of_one_band_says_nothing_about_the_others(self, tmp_path, resampling):
        values = noise((3, 40, 50), dtype="uint8")
        values[0, 5:9, 5:9] = values[1, 20, 20] = values[:, 30, 30] = 0
        path = write_tiff(tmp_path / "n.tif", values, nodata=0)
        found = self.read(path, resampling=resampling, bands=("a", "b", "c"), nodata=0)
        np.testing.assert_array_equal(found, np.where(values == 0, np.nan, values))

    @every_way
    @pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 0), ("float32", -9)])
    def test_a_band_reads_the_same_alone_and_among_others(
        self, tmp_path, resampling, dtype, nodata
    ):
        values = noise((3, 170, 190), dtype=dtype)
        values[np.random.default_rng(2).random(values.shape) < 0.2] = nodata
        grid, source = grid_at((60, 70), pixel_m=70, shift=(0.2, 0.6)), grid_at((170, 190))
        together = write_tiff(tmp_path / "t.tif", values, grid=source, nodata=nodata)
        names = ("a", "b", "c")
        found = read_scene(
            scene_of(together, UTM, nodata=nodata, resampling=resampling, bands=names),
            grid,
            *whole(grid),
        )
        for i in range(3):
            path = write_tiff(tmp_path / f"{i}.tif", values[i], grid=source, nodata=nodata)
            scene = scene_of(path, UTM, nodata=nodata, resampling=resampling)
            alone, here = read_scene(scene, grid, *whole(grid))[0], found[i]
            if resampling in ("bilinear", "cubic"):
                # GDAL: a file of one band leaves a pixel out where the nearest one is nodata.
                here = np.where(np.isnan(alone), np.nan, here)
            np.testing.assert_array_equal(here, alone)

    @pytest.mark.parametrize("nodata", [None, 7.0])
    def test_what_a_file_masks_is_nodata_in_any_case(self, tmp_path, nodata):
        values = noise((2, 40, 50), dtype="uint8")
        path = write_tiff(tmp_path / "m.tif", values)
        masked = np.zeros((40, 50), bool)
        masked[:12] = True
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(path, "r+") as target,
        ):
            target.write_mask(~masked)
        found = self.read(path, bands=("a", "b"), nodata=nodata)
        np.testing.assert_array_equal(np.isnan(found), masked | (values == (nodata or -1)))

    def test_averages_leave_nodata_out(self, tmp_path):
        values = np.full((40, 50), 10, "uint8")
        values[::2] = 0
        path = write_tiff(tmp_path / "n.tif", values, nodata=0)
        grid = grid_at((20, 25), pixel_m=60)
        scene = scene_of(path, UTM, nodata=0, resampling="average")
        np.testing.assert_array_equal(read_scene(scene, grid, *whole(grid)), 10)


class TestValues:
    @pytest.mark.parametrize("dtype", ["int32", "uint32", "float64"])
    def test_wide_numbers_keep_every_digit_for_nearest(self, tmp_path, dtype):
        values = (2**24 + 1 + np.arange(2000).reshape(40, 50)).astype(dtype)
        values = values + 0.125 if dtype == "float64" else values
        grid = grid_at((40, 50))
        scene = scene_of(write_tiff(tmp_path / "w.tif", values), UTM, nodata=None)
        found = read_scene(scene, grid, *whole(grid))
        assert found.dtype == "float64"
        np.testing.assert_array_equal(found[0], values)

    def test_a_wide_file_keeps_its_digits_beside_a_narrow_one(self, tmp_path):
        wide = 2**24 + 1 + np.arange(2000, dtype="int32").reshape(40, 50)
        narrow = write_tiff(tmp_path / "n.tif", noise((40, 50)))
        layers = (
            SceneBand(name="a", href=narrow),
            SceneBand(name="b", href=write_tiff(tmp_path / "w.tif", wide)),
        )
        grid = grid_at((40, 50))
        found = Scene(id="s", layers=layers, crs=UTM, nodata=None).read(grid, *whole(grid))
        np.testing.assert_array_equal(found[1], wide)

    def test_scale_and_offset_make_physical_values_of_observed_pixels(self, tmp_path):
        values = noise((40, 50), dtype="uint16")
        values[0] = 0
        path = write_tiff(tmp_path / "s.tif", values)
        grid = grid_at((40, 50))
        scene = scene_of(path, UTM, nodata=0, scale=2.75e-5, offset=-0.2)
        found = read_scene(scene, grid, *whole(grid))[0]
        expected = (values * 2.75e-5 - 0.2).astype("float32")
        np.testing.assert_array_equal(found[1:], expected[1:])
        assert np.isnan(found[0]).all()

    def test_bands_come_in_the_scenes_order_from_whatever_file_and_place(self, tmp_path):
        values = noise((3, 40, 50), seed=4)
        one = write_tiff(tmp_path / "one.tif", values[:2])
        other = write_tiff(tmp_path / "other.tif", values[2])
        layers = (
            SceneBand(name="second", href=one, index=2),
            SceneBand(name="third", href=other),
            SceneBand(name="first", href=one, index=1),
        )
        scene = Scene(id="s", layers=layers, crs=UTM, nodata=None)
        grid = grid_at((40, 50))
        assert scene.bands == ("second", "third", "first")
        np.testing.assert_array_equal(scene.read(grid, *whole(grid)), values[[1, 2, 0]])


class TestErrors:
    """One line that names the file, never a traceback from GDAL."""

    def fails(self, scene, match):
        grid = grid_at((40, 50))
        with pytest.raises(SourceError, match=match) as caught:
            read_scene(scene, grid, *whole(grid))
        assert "\n" not in str(caught.value)

    def test_a_missing_file_is_refused(self, tmp_path):
        self.fails(scene_of(tmp_path / "gone.tif", UTM), "gone.tif.* cannot be read: .*No such")

    def test_a_missing_band_is_refused(self, tmp_path):
        path = write_tiff(tmp_path / "a.tif", noise((40, 50)))
        layers = (SceneBand(name="a", href=path, index=3),)
        self.fails(Scene(id="s", layers=layers, crs=UTM, nodata=None), r"band 3 .* which has 1\.")

    def test_a_file_that_is_no_raster_is_refused(self, tmp_path):
        path = tmp_path / "a.tif"
        path.write_text("not a raster")
        self.fails(scene_of(path, UTM), "cannot be read: .*not recognized")

    @pytest.mark.parametrize("profile", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16}])
    def test_a_file_cut_off_after_it_was_declared_is_refused(self, tmp_path, profile):
        path = write_tiff(tmp_path / "a.tif", noise((40, 50)), **profile)
        scene = scene_of(path, UTM)
        os.truncate(path, int(os.path.getsize(path) * 0.6))
        self.fails(scene, "a.tif.* cannot be read: ")

    def test_a_crs_that_nobody_knows_is_refused(self, tmp_path):
        path = write_tiff(tmp_path / "a.tif", noise((40, 50)))
        self.fails(scene_of(path, "EPSG:999999"), "its CRS cannot be used: ")

    def test_a_crs_in_which_the_pixels_have_no_place_is_refused(self, tmp_path):
        path = write_tiff(tmp_path / "a.tif", noise((40, 50)))
        self.fails(scene_of(path, "EPSG:4326"), "cannot be placed on the grid; check its CRS")


class TestOverlap:
    def scene(self, bounds, crs):
        return replace(scene_of("unread.tif", crs), footprint=bounds)

    def test_a_scene_elsewhere_is_refused_with_both_extents(self):
        grid = grid_at((40, 50))
        scene = self.scene((0.0, 8_000_000.0, 3000.0, 8_003_000.0), UTM)
        with pytest.raises(
            SourceError,
            match=r"does not meet the grid. It covers x 0\.\.3000, y 8e\+06\.\.8\.003e\+06 .*; "
            r"the grid covers x 290000\.\.291500, y 9\.1088e\+06\.\.9\.11e\+06",
        ):
            check_overlap(scene, grid)

    def test_a_scene_that_shares_only_an_edge_is_refused(self):
        grid = grid_at((40, 50))
        with pytest.raises(SourceError, match="does not meet the grid"):
            self.scene((LEFT - 300, TOP - 300, LEFT, TOP), UTM).check(grid)

    def test_coordinates_in_metres_declared_as_degrees_are_refused(self):
        with pytest.raises(SourceError, match="does not meet the grid"):
            self.scene((LEFT, TOP - 300, LEFT + 300, TOP), "EPSG:4326").check(grid_at((40, 50)))

    def test_a_crs_that_nobody_knows_is_refused(self):
        with pytest.raises(SourceError, match="its CRS cannot be used"):
            self.scene((0, 0, 1, 1), "EPSG:999999").check(grid_at((40, 50)))

    @pytest.mark.parametrize(
        ("bounds", "crs"),
        [
            ((LEFT + 1490, TOP - 9000, LEFT + 9000, TOP - 1190), UTM),  # a corner
            ((-180.0, -90.0, 180.0, 90.0), "EPSG:4326"),  # the globe
            ((-5.5e6, -5.5e6, 5.5e6, 5.5e6), "+proj=geos +h=35785831 +lon_0=0 +ellps=WGS84"),
            ((160_000.0, 9_000_000.0, 840_000.0, 9_900_000.0), "EPSG:32725"),
        ],
    )
    def test_a_scene_that_meets_the_grid_is_accepted(self, bounds, crs):
        self.scene(bounds, crs).check(grid_at((40, 50)))

    def test_a_globe_meets_a_grid_at_the_antimeridian(self):
        grid = GeoBox((40, 50), Affine(3e4, 0, 3e5, 0, -3e4, 6e6), "EPSG:32760")
        self.scene((-180.0, -90.0, 180.0, 90.0), "EPSG:4326").check(grid)

    def test_a_scene_without_footprint_is_not_judged(self):
        scene_of("unread.tif", UTM).check(grid_at((40, 50)))
