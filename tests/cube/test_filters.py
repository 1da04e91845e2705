"""What GDAL's filters would overlook: masks beside nodata, and NaN beside both."""

from __future__ import annotations

import math

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from cube.errors import SourceError
from cube.scenes import Scene, SceneBand
from cube.warp import read_scene
from tests.rasters import UTM, grid_at, whole, write_tiff

SHAPE = (60, 60)
FINE = grid_at(SHAPE, pixel_m=10)
COARSE = grid_at((20, 20))


@pytest.fixture(scope="module")
def classes():
    """Classes 1..5, and where they are masked, nodata and NaN."""
    rng = np.random.default_rng(5)
    masked, holes = rng.random(SHAPE) < 0.3, rng.random(SHAPE) < 0.2
    nodata = np.zeros(SHAPE, bool)
    nodata[:21] = True
    return rng.integers(1, 6, SHAPE), masked, nodata, holes


def modes(path, *, nodata, index=1):
    band = SceneBand(name="a", href=str(path), index=index)
    scene = Scene(id="s", layers=(band,), crs=UTM, nodata=nodata, resampling="mode")
    return read_scene(scene, COARSE, *whole(COARSE))[0]


def assert_modes(found, values, observed):
    """Each found value is one of the most frequent of the 3 x 3 observed ones, else NaN."""
    for y, x in np.ndindex(found.shape):
        here = slice(3 * y, 3 * y + 3), slice(3 * x, 3 * x + 3)
        kinds, counts = np.unique(values[here][observed[here]], return_counts=True)
        if not len(kinds):
            assert math.isnan(found[y, x])
        else:
            assert found[y, x] in kinds[counts == counts.max()]


def add_mask(path, masked):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as raster:
        raster.write_mask(~masked)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_what_a_mask_hides_does_not_count_beside_a_nodata_value(tmp_path, classes, dtype):
    values, masked, nodata, _ = classes
    # One class lies under all of the mask, and would win.
    hidden = np.where(nodata, 9, np.where(masked, 5, values)).astype(dtype)
    path = write_tiff(tmp_path / "a.tif", hidden, grid=FINE)
    add_mask(path, masked)
    assert_modes(modes(path, nodata=9), values, ~masked & ~nodata)


@pytest.mark.parametrize("declared", [0, None, math.nan])
def test_nan_is_no_class_whatever_the_nodata(tmp_path, classes, declared):
    values, _, nodata, holes = classes
    stored = np.where(holes, np.nan, values).astype("float32")
    stored[nodata] = 0 if declared == 0 else np.nan
    path = write_tiff(tmp_path / "a.tif", stored, grid=FINE)
    assert_modes(modes(path, nodata=declared), values, ~holes & ~nodata)


def test_mask_nodata_and_nan_count_together_in_any_band(tmp_path, classes):
    values, masked, nodata, holes = classes
    stored = np.where(nodata, -1, np.where(holes, np.nan, np.where(masked, 5, values)))
    both = np.stack([np.full(SHAPE, 2.0), stored]).astype("float32")
    path = write_tiff(tmp_path / "a.tif", both, grid=FINE)
    add_mask(path, masked)
    assert_modes(modes(path, nodata=-1, index=2), values, ~masked & ~nodata & ~holes)


@pytest.mark.parametrize("first", [0, -180.5])
@pytest.mark.parametrize("lon", [180, -170])
def test_classes_beyond_180_degrees_are_refused_and_not_lost(tmp_path, first, lon):
    source = GeoBox((30, 360), Affine(1, 0, first, 0, -1, 75), "EPSG:4326")
    path = write_tiff(tmp_path / "a.tif", np.ones(source.shape, "uint8"), grid=source)
    band = SceneBand(name="a", href=path)
    scene = Scene(id="s", layers=(band,), crs="EPSG:4326", nodata=None, resampling="mode")
    onto = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3338", always_xy=True)
    x, y = onto.transform(lon, 60)
    corner = Affine(20_000, 0, x - 200_000, 0, -20_000, y + 200_000)
    grid = GeoBox((20, 20), corner, "EPSG:3338")
    if (first, lon) == (-180.5, -170):
        assert (read_scene(scene, grid, *whole(grid)) == 1).all()
    else:
        with pytest.raises(SourceError, match="does not go round the globe"):
            read_scene(scene, grid, *whole(grid))
