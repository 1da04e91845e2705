"""Files onto any grid: every pixel comes from its own place, and equals GDAL's, whole."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from cube.scenes import Scene, SceneBand
from cube.warp import read_scene
from tests.rasters import noise, whole, write_tiff

LON, LAT = 9.3, 49.1
"""Where all of it lies: in Germany, so that European grids hold there."""

CRSS = ("EPSG:32632", "EPSG:3035", "EPSG:4326", "EPSG:3857", "EPSG:31467", "EPSG:4258")
"""Metres and degrees; definitions that put east first, and (the second, third, fifth and last)
those that put north first."""

ALBERS = "+proj=aea +lat_1=43 +lat_2=62 +lat_0=30 +lon_0=10 +ellps=GRS80 +units=m"

BUILDS_PX = 4e-4
"""rasterio and pyproj carry two builds of PROJ, which differ by fractions of a millimetre."""

SMOOTH = ("nearest", "bilinear", "cubic", "mode")
"""Not average, which GDAL weighs too much in the last column of a grid; a loop judges ours."""


@cache
def between(source, target):
    return pyproj.Transformer.from_crs(source, target, always_xy=True)


def grid_in(crs, shape, pixel_m, *, shift=(0.0, 0.0), turn=0.0):
    """A grid of about this resolution whose middle is LON, LAT, moved by pixels right and down."""
    x, y = between("EPSG:4326", crs).transform(LON, LAT)
    degrees = pyproj.CRS(crs).is_geographic
    side = pixel_m / 111_000 if degrees else pixel_m
    middle = Affine.translation(x, y) @ Affine.rotation(turn) @ Affine.scale(side, -side)
    corner = middle @ Affine.translation(shift[0] - shape[1] / 2, shift[1] - shape[0] / 2)
    return GeoBox(shape, corner, crs)


def centres(grid):
    """x and y of the pixel centres."""
    row, col = np.mgrid[: grid.shape[0], : grid.shape[1]] + 0.5
    t = grid.transform
    return t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f


def scene_of(path, crs, resampling, *, bands=("a",), nodata=-9.0):
    layers = tuple(SceneBand(name=b, href=str(path), index=i) for i, b in enumerate(bands, 1))
    return Scene(id="s", layers=layers, crs=crs, nodata=nodata, resampling=resampling)


class TestPositions:
    """A file whose values are its own x and y: half a pixel, or two axes, cannot be mixed up."""

    @pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic", "average"])
    @pytest.mark.parametrize("onto", [*CRSS, ALBERS])
    @pytest.mark.parametrize("crs", CRSS)
    def test_a_pixel_holds_the_coordinates_of_its_place(self, tmp_path, crs, onto, resampling):
        source, grid = grid_in(crs, (90, 99), 30), grid_in(onto, (40, 44), 16, shift=(0.3, -0.4))
        x, y = centres(source)
        origin = x.mean(), y.mean()
        values = np.stack([x - origin[0], y - origin[1]])
        path = write_tiff(tmp_path / "xy.tif", values, grid=source, nodata=-1e9)
        scene = scene_of(path, crs, resampling, bands=("x", "y"), nodata=-1e9)
        found = scene.read(grid, *whole(grid))
        expected = np.stack(between(onto, crs).transform(*centres(grid)))
        expected -= np.array(origin)[:, None, None]
        # Of a linear field: nearest errs by half a pixel, average by its asymmetry, others not.
        slack = {"nearest": 0.51, "average": 0.51}.get(resampling, 2e-3)
        error = np.abs(found - expected) / abs(source.transform.a)
        assert np.isfinite(found).all()
        assert error.max() <= slack
        # On the mean nothing is shifted.
        bias = np.abs((found - expected).mean(axis=(1, 2))) / abs(source.transform.a)
        assert bias.max() < 0.03

    @pytest.mark.parametrize("onto", [*CRSS, ALBERS])
    def test_a_grid_of_longitudes_and_latitudes_says_where_it_is(self, tmp_path, onto):
        source = grid_in("EPSG:4326", (200, 300), 30)
        lon, lat = centres(source)
        path = write_tiff(tmp_path / "ll.tif", np.stack([lon, lat]), grid=source, nodata=-999)
        scene = scene_of(path, "EPSG:4326", "bilinear", bands=("lon", "lat"), nodata=-999)
        grid = grid_in(onto, (30, 40), 17)
        found = scene.read(grid, *whole(grid))
        expected = between(onto, "EPSG:4326").transform(*centres(grid))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
        assert abs(found[0].mean() - LON) < 0.01
        assert abs(found[1].mean() - LAT) < 0.01


# ------------------------------------------------------------------------------------- GDAL
def gdal(path, crs, grid, resampling):
    """The oracle: the exact grid read whole."""
    with (
        rasterio.open(path) as source,
        WarpedVRT(
            source,
            src_crs=crs,
            crs=str(grid.crs),
            transform=grid.transform,
            width=grid.shape[1],
            height=grid.shape[0],
            src_nodata=-9,
            nodata=math.nan,
            dtype="float32",
            resampling=Resampling[resampling],
            tolerance=1e-6,
            XSCALE=1,
            YSCALE=1,
        ) as warped,
    ):
        return warped.read()


def places_in(source, grid):
    """Columns and rows of the source for every pixel of a grid."""
    return ~source.transform @ between(str(grid.crs), str(source.crs)).transform(*centres(grid))


def near_edge(places, offset, px=1e-5):
    """True where a place is so near to the edge of a pixel (or, by 0.5, to a centre)."""
    return np.any([np.abs((p - offset) - np.rint(p - offset)) < px for p in places], axis=0)


crss = st.sampled_from(CRSS)
shifts = st.tuples(st.floats(-40, 40), st.floats(-40, 40))


@st.composite
def cases(draw):
    """Source and target; the target's pixels are finer, so that nothing is coarsened."""
    source = grid_in(
        draw(crss),
        (draw(st.integers(3, 60)), draw(st.integers(3, 60))),
        draw(st.floats(8, 300)),
        shift=draw(shifts),
        turn=draw(st.sampled_from([0.0, 0.0, 180.0, 23.0, -71.0])),
    )
    pixel_m = math.hypot(source.transform.a, source.transform.d)
    pixel_m *= 111_000 if str(source.crs) in ("EPSG:4326", "EPSG:4258") else 1
    # Degrees of longitude, and metres of Mercator's, are two thirds as long here.
    share = draw(st.floats(0.1, 0.55)) * 2 / 3
    grid = grid_in(draw(crss), (50, 60), pixel_m * share, shift=draw(shifts))
    return source, grid, draw(st.integers(0, 1000))


def holed(shape, seed):
    values = noise(shape, seed=seed)
    values[np.random.default_rng(seed + 1).random(shape) < 0.05] = -9
    return values


fresh = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


class TestGdal:
    @pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic"])
    @fresh
    @given(case=cases())
    def test_where_nothing_is_coarsened_values_are_those_of_gdal(self, tmp_path, resampling, case):
        source, grid, seed = case
        path = tmp_path / "s.tif"
        write_tiff(path, holed(source.shape, seed), grid=source, nodata=-9)
        scene = scene_of(path, str(source.crs), resampling)
        found = scene.read(grid, *whole(grid))
        expected = gdal(path, str(source.crs), grid, resampling)
        assume(np.isfinite(expected).any())
        places = places_in(source, grid)
        sure = ~near_edge(places, 0.0, BUILDS_PX) & ~near_edge(places, 0.5, BUILDS_PX)
        np.testing.assert_array_equal(np.isnan(found)[0, sure], np.isnan(expected)[0, sure])
        if resampling == "nearest":
            np.testing.assert_array_equal(found[0, sure], expected[0, sure])
        else:
            np.testing.assert_allclose(found[0, sure], expected[0, sure], rtol=0, atol=BUILDS_PX)

    @pytest.mark.parametrize("resampling", SMOOTH)
    @fresh
    @given(
        factor=st.floats(0.2, 6),
        shift=shifts,
        shape=st.tuples(st.integers(20, 90), st.integers(20, 90)),
        seed=st.integers(0, 1000),
    )
    def test_within_one_crs_values_are_those_of_gdal(
        self, tmp_path, resampling, factor, shift, shape, seed
    ):
        source = grid_in("EPSG:32632", shape, 30)
        grid = grid_in("EPSG:32632", (24, 31), 30 * factor, shift=shift)
        path = tmp_path / "s.tif"
        values = holed(shape, seed)
        if resampling == "mode":
            values = np.where(values == -9, -9, np.rint(values * 1.5)).astype("float32")
        write_tiff(path, values, grid=source, nodata=-9)
        found = scene_of(path, "EPSG:32632", resampling).read(grid, *whole(grid))
        expected = gdal_scaled(path, grid, resampling, min(1.0, 1 / factor))
        # A pixel's edges must not lie on the source's, where rounding decides.
        places = places_in(source, grid)
        half = {"average": factor / 2, "mode": factor / 2}.get(resampling, 0.0)
        sure = ~np.any(
            [near_edge(places, off) for off in (0.0, 0.5, half, -half)], axis=0
        )  # fmt: skip
        assume(sure.any())
        np.testing.assert_array_equal(np.isnan(found)[0, sure], np.isnan(expected)[0, sure])
        if resampling in ("nearest", "mode"):
            np.testing.assert_array_equal(found[0, sure], expected[0, sure])
        else:
            np.testing.assert_allclose(found[0, sure], expected[0, sure], rtol=0, atol=3e-4)


def gdal_scaled(path, grid, resampling, scale):
    """As :func:`gdal`, with the filter as wide as the coarser pixel."""
    scale = 1.0 if scale > 0.999 else scale
    with (
        rasterio.open(path) as source,
        WarpedVRT(
            source, crs=str(grid.crs), transform=grid.transform, width=grid.shape[1],
            height=grid.shape[0], src_nodata=-9, nodata=math.nan, dtype="float32",
            resampling=Resampling[resampling], tolerance=1e-6, XSCALE=scale, YSCALE=scale,
        ) as warped,
    ):  # fmt: skip
        return warped.read()


class TestSum:
    @fresh
    @given(case=cases(), factor=st.floats(0.3, 20))
    def test_what_lies_on_the_grid_arrives_on_it_whole(self, tmp_path, case, factor):
        source, grid, seed = case
        # A grid that holds all of the source, with pixels of any size.
        left, bottom, right, top = between(str(source.crs), str(grid.crs)).transform_bounds(
            *source.boundingbox.bbox
        )
        side = max(right - left, top - bottom) / (10 * factor)
        corner = Affine(side, 0, left - 2.3 * side, 0, -side, top + 3.1 * side)
        shape = int((top - bottom) / side) + 7, int((right - left) / side) + 7
        over = GeoBox(shape, corner, grid.crs)
        values = np.abs(holed(source.shape, seed))
        values[values == 9] = -9
        path = tmp_path / "s.tif"
        write_tiff(path, values, grid=source, nodata=-9)
        scene = scene_of(path, str(source.crs), "sum")
        found = read_scene(scene, over, *whole(over))
        total = values[values != -9].astype("float64").sum()
        np.testing.assert_allclose(np.nansum(found), total, rtol=1e-9)
        # In two halves nothing is lost and nothing counted twice.
        middle = shape[0] // 2
        halves = [
            scene.read(over, span, (0, shape[1])) for span in ((0, middle), (middle, shape[0]))
        ]
        np.testing.assert_array_equal(np.concatenate(halves, axis=1), found)


class TestSumRoundTheGlobe:
    """Files of the whole globe, wherever their first column lies."""

    SHAPE = (20, 360)

    def sums(self, folder, first, grid, *boxes):
        """Sums in each box; amounts are known by their longitude, -180..180."""
        amounts = np.random.default_rng(3).integers(1, 100, self.SHAPE).astype("int32")
        source = GeoBox(self.SHAPE, Affine(1, 0, first, 0, -1, 60), "EPSG:4326")
        rolled = np.roll(amounts, -round(first + 180), axis=1)
        path = write_tiff(folder / f"{first}.tif", rolled, grid=source)
        scene = scene_of(path, "EPSG:4326", "sum", nodata=None)
        return amounts, [read_scene(scene, grid, *box)[0] for box in boxes]

    @pytest.mark.parametrize("first", [-180, 0, -90])
    @pytest.mark.parametrize("left", [-180, 0, 170, -10, -190])
    def test_each_amount_arrives_at_its_place(self, tmp_path, first, left):
        width = 360 if left in (-180, 0) else 20
        grid = GeoBox((20, width), Affine(1, 0, left, 0, -1, 60), "EPSG:4326")
        amounts, (found,) = self.sums(tmp_path, first, grid, whole(grid))
        np.testing.assert_array_equal(found, np.roll(amounts, -(left + 180), axis=1)[:, :width])

    def test_what_lies_across_the_ends_of_a_grid_comes_in_at_both(self, tmp_path):
        grid = GeoBox((20, 360), Affine(1, 0, -180.5, 0, -1, 60), "EPSG:4326")
        amounts, (found,) = self.sums(tmp_path, -180, grid, whole(grid))
        np.testing.assert_allclose(found, (amounts + np.roll(amounts, 1, axis=1)) / 2)

    @pytest.mark.parametrize("crs", ["EPSG:3338", "EPSG:4326", "EPSG:3857"])
    @pytest.mark.parametrize("first", [-180, 0])
    def test_boxes_across_the_antimeridian_give_the_bits_of_the_whole(self, tmp_path, crs, first):
        x, y = between("EPSG:4326", crs).transform(180, 50)
        pixel = 0.3 if crs == "EPSG:4326" else 30_000.0
        corner = (x - 20 * pixel, y + 20 * pixel)
        grid = GeoBox((40, 40), Affine(pixel, 0, corner[0], 0, -pixel, corner[1]), crs)
        boxes = [((r, r + 8), (c, c + 5)) for r in range(0, 40, 8) for c in range(0, 40, 5)]
        _, (everything, *parts) = self.sums(tmp_path, first, grid, whole(grid), *boxes)
        for (rows, cols), part in zip(boxes, parts, strict=True):
            np.testing.assert_array_equal(part, everything[slice(*rows), slice(*cols)])
