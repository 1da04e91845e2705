"""What a file leaves out or gets wrong is said in one line, before any pixel is read."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

import catalogs
from cube.errors import SourceError, SpecError
from tests.rasters import LEFT, TOP, UTM, grid_at, noise, positions, whole, write_tiff

OLINDA = Path(__file__).parents[2] / "examples" / "olinda" / "data"


@pytest.fixture
def tif(tmp_path):
    """Two bands of uint8 with nodata 0."""
    return write_tiff(tmp_path / "two.tif", noise((2, 40, 50), dtype="uint8"), nodata=0)


def refused(match, path, **kwargs):
    kwargs = {"bands": ["a", "b"], **kwargs}
    with pytest.raises(SourceError, match=match) as caught:
        catalogs.geotiff(path, **kwargs)
    assert "\n" not in str(caught.value)


class TestScene:
    def test_a_scene_says_all_that_the_file_says(self, tif):
        scene = catalogs.geotiff(tif, bands=["a", "b"], resampling="cubic", scale=2, offset=1)
        assert [(b.name, b.href, b.index) for b in scene.layers] == [("a", tif, 1), ("b", tif, 2)]
        assert (scene.id, scene.crs, scene.nodata) == ("two", UTM, 0.0)
        assert (scene.scale, scene.offset, scene.resampling) == (2, 1, "cubic")
        assert scene.footprint == (LEFT, TOP - 1200, LEFT + 1500, TOP)

    def test_what_was_written_is_read(self, tmp_path):
        values = positions((40, 50))
        path = write_tiff(tmp_path / "p.tif", values, nodata=-1)
        grid = catalogs.grid_of(path)
        scene = catalogs.geotiff(path, bands=["a"])
        scene.check(grid)
        np.testing.assert_array_equal(scene.read(grid, *whole(grid))[0], values)

    def test_a_scene_has_the_time_and_id_given(self, tif):
        scene = catalogs.geotiff(tif, bands=["a", "b"], time="2018-06-01T12:00+02:00", id="mine")
        assert (scene.id, scene.time) == ("mine", "2018-06-01T10:00:00Z")
        assert catalogs.geotiff(tif, bands=["a", "b"]).time is None
        with pytest.raises(SpecError, match="Scene 'two': time must be ISO 8601"):
            catalogs.geotiff(tif, bands=["a", "b"], time="last summer")

    def test_bands_may_be_resampled_each_in_its_way_and_flags_keep_their_numbers(self, tif):
        scene = catalogs.geotiff(
            tif, bands=["a", "b"], resampling={"a": "cubic"}, quality=["b"], scale=2, offset=1
        )
        a, b = scene.band("a"), scene.band("b")
        assert (a.resampling, a.scale, a.offset) == ("cubic", 2, 1)
        assert (b.resampling, b.scale, b.offset) == ("nearest", 1, 0)
        for options in ({"quality": ["c"]}, {"quality": "b"}, {"resampling": {"c": "mode"}}):
            with pytest.raises(SpecError, match="= must name bands of the scene, which are a, b"):
                catalogs.geotiff(tif, bands=["a", "b"], **options)

    def test_a_file_of_flags_alone_need_not_declare_nodata(self, tmp_path):
        path = write_tiff(tmp_path / "qa.tif", noise((40, 50), dtype="uint16"))
        assert catalogs.geotiff(path, bands=["qa"], quality=["qa"]).nodata is None

    def test_names_in_another_order_than_the_files_own_are_refused(self, tif):
        with rasterio.open(tif, "r+") as target:
            target.descriptions = ("a", "b")
        assert catalogs.geotiff(tif, bands=["a", "b"]).bands == ("a", "b")
        assert catalogs.geotiff(tif, bands=["x", "y"]).bands == ("x", "y")
        refused("says that its bands are a, b. Received them in another", tif, bands=["b", "a"])

    def test_a_relative_path_becomes_absolute_so_that_workers_elsewhere_find_it(
        self, tif, monkeypatch
    ):
        monkeypatch.chdir(Path(tif).parent)
        scene = catalogs.geotiff("two.tif", bands=["a", "b"])
        assert {layer.href for layer in scene.layers} == {tif}
        assert pickle.loads(pickle.dumps(scene)) == scene

    def test_a_url_is_left_as_it_is(self, tmp_path, tif):
        with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
            archive.write(tif, "two.tif")
        for url in (f"zip://{tmp_path}/z.zip!/two.tif", f"/vsizip/{tmp_path}/z.zip/two.tif"):
            scene = catalogs.geotiff(url, bands=["a", "b"])
            assert {layer.href for layer in scene.layers} == {url}
            grid = catalogs.grid_of(url)
            with rasterio.open(tif) as source:
                np.testing.assert_array_equal(
                    scene.read(grid, *whole(grid)), source.read().astype("float32")
                )

    def test_a_given_crs_replaces_the_files_own(self, tif):
        assert catalogs.geotiff(tif, bands=["a", "b"], crs="EPSG:31985").crs == "EPSG:31985"

    def test_a_crs_without_a_code_is_kept_as_text(self, tmp_path):
        grid = grid_at((40, 50), crs="+proj=laea +lat_0=-8 +lon_0=-35 +datum=WGS84 +units=m")
        path = write_tiff(tmp_path / "l.tif", noise((40, 50)), grid=grid, nodata=-9)
        scene = catalogs.geotiff(path, bands=["a"])
        np.testing.assert_allclose(
            scene.read(grid, *whole(grid))[0], noise((40, 50)), rtol=0, atol=0
        )

    def test_the_footprint_of_a_rotated_or_south_up_file_holds_all_its_corners(self, tmp_path):
        corners = [(0, 0), (50, 0), (0, 40), (50, 40)]
        for name, transform in {
            "turned": Affine.translation(LEFT, TOP) @ Affine.rotation(23) @ Affine.scale(30, -30),
            "south_up": Affine(30, 0, LEFT, 0, 30, TOP),
        }.items():
            grid = GeoBox((40, 50), transform, UTM)
            path = write_tiff(tmp_path / f"{name}.tif", noise((40, 50)), grid=grid, nodata=-9)
            scene = catalogs.geotiff(path, bands=["a"])
            xs, ys = zip(*(transform @ corner for corner in corners), strict=True)
            expected = (min(xs), min(ys), max(xs), max(ys))
            assert scene.footprint == pytest.approx(expected, abs=1e-6)
            middle = Affine(30, 0, sum(xs) / 4, 0, -30, sum(ys) / 4)
            scene.check(GeoBox((3, 3), middle, UTM))


class TestBadFiles:
    def test_a_missing_file_is_refused(self, tmp_path):
        refused("There is no file .*gone.tif", tmp_path / "gone.tif")
        with pytest.raises(SourceError, match="There is no file .*gone.tif"):
            catalogs.grid_of(tmp_path / "gone.tif")

    def test_a_folder_is_refused(self, tmp_path):
        refused("There is no file ", tmp_path)

    def test_a_missing_member_of_an_archive_is_refused(self, tmp_path, tif):
        with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
            archive.write(tif, "two.tif")
        refused("cannot be read", f"zip://{tmp_path}/z.zip!/gone.tif")

    @pytest.mark.parametrize("content", [b"", b"II*\0", b"not a raster", bytes(5000)])
    def test_what_is_no_raster_is_refused(self, tmp_path, content):
        path = tmp_path / "a.tif"
        path.write_bytes(content)
        refused("a.tif.* cannot be read: ", path)
        with pytest.raises(SourceError, match="a.tif.* cannot be read: "):
            catalogs.grid_of(path)

    @pytest.mark.parametrize(
        "profile",
        [
            {"blockysize": 4},
            {"interleave": "band"},
            {"tiled": True, "blockxsize": 64, "blockysize": 64},
            {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"},
            {"driver": "COG", "blocksize": 128, "overview_resampling": "nearest"},
            {"driver": "COG", "blocksize": 128, "compress": "deflate"},
        ],
        ids=["strips", "bands", "tiles", "compressed", "COG", "compressed COG"],
    )
    @pytest.mark.parametrize("kept", [0.6, 0.99])
    def test_a_truncated_file_is_refused_before_any_pixel_is_read(self, tmp_path, profile, kept):
        path = write_tiff(tmp_path / "a.tif", noise((2, 300, 310)), nodata=-9, **profile)
        catalogs.geotiff(path, bands=["a", "b"])
        os.truncate(path, int(os.path.getsize(path) * kept))
        refused(r"is truncated: band [12] needs \d+ bytes, the file has \d+\. Fetch it", path)

    def test_complex_numbers_are_refused(self, tmp_path):
        path = write_tiff(tmp_path / "c.tif", noise((40, 50)).astype("complex64"), nodata=0)
        refused("holds complex numbers", path, bands=["a"])

    def test_a_sparse_file_is_whole(self, tmp_path):
        path = tmp_path / "s.tif"
        profile = {"driver": "GTiff", "tiled": True, "sparse_ok": True, "crs": UTM, "nodata": 0}
        with rasterio.open(
            path,
            "w",
            height=512,
            width=512,
            count=1,
            dtype="uint8",
            transform=grid_at((1, 1)).transform,
            blockxsize=128,
            blockysize=128,
            **profile,
        ) as target:
            target.write(np.ones((1, 128, 128), "uint8"), window=((128, 256), (256, 384)))
        scene, grid = catalogs.geotiff(path, bands=["a"]), catalogs.grid_of(path)
        assert np.isfinite(scene.read(grid, *whole(grid))).sum() == 128 * 128

    def test_another_number_of_bands_is_refused(self, tif):
        refused(r"has 2 bands; one name for each .* Received \['a'\]", tif, bands=["a"])
        refused("has 2 bands", tif, bands=["a", "b", "c"])
        refused("has 2 bands", tif, bands=[])

    def test_bands_as_one_string_are_refused(self, tif):
        refused("has 2 bands; .* Received 'ab'", tif, bands="ab")

    def test_a_band_named_twice_is_refused(self, tif):
        with pytest.raises(SpecError, match="bands must be named, once each"):
            catalogs.geotiff(tif, bands=["a", "a"])

    def test_an_unknown_resampling_is_refused(self, tif):
        with pytest.raises(SpecError, match="must be one of nearest, .* Received 'best'"):
            catalogs.geotiff(tif, bands=["a", "b"], resampling="best")

    @pytest.mark.parametrize(("scale", "offset"), [(0, 0), (float("nan"), 0), (1, float("inf"))])
    def test_a_scale_that_means_nothing_is_refused(self, tif, scale, offset):
        with pytest.raises(SpecError, match="scale and offset must be finite, scale not 0"):
            catalogs.geotiff(tif, bands=["a", "b"], scale=scale, offset=offset)


class TestPlace:
    def test_a_file_without_a_crs_is_refused(self, tmp_path):
        path = write_tiff(tmp_path / "a.tif", noise((40, 50)), crs=None, nodata=0)
        refused("does not say its CRS; give crs=", path, bands=["a"])
        with pytest.raises(SourceError, match="does not say its CRS; give crs="):
            catalogs.grid_of(path)
        assert catalogs.geotiff(path, bands=["a"], crs="EPSG:31985").crs == "EPSG:31985"
        assert catalogs.grid_of(path, crs="EPSG:31985") == grid_at((40, 50), crs="EPSG:31985")

    def test_a_file_that_names_no_known_datum_is_refused(self):
        path = OLINDA / "olinda_dem_utm25s.tif"
        refused("names no known datum .* say what it is with crs=", path, bands=["z"])
        with pytest.raises(SourceError, match="names no known datum"):
            catalogs.grid_of(path)
        scene = catalogs.geotiff(path, bands=["z"], nodata="none", crs="EPSG:31985")
        assert scene.crs == "EPSG:31985"

    @pytest.mark.parametrize("crs", ["nonsense", "EPSG:999999", ""])
    def test_a_crs_that_nobody_knows_is_refused(self, tif, crs):
        refused("is no CRS that PROJ knows", tif, crs=crs)
        with pytest.raises(SourceError, match="is no CRS that PROJ knows"):
            catalogs.grid_of(tif, crs=crs)

    @pytest.mark.parametrize(
        "transform",
        [
            Affine(30, 0, np.nan, 0, -30, TOP),
            Affine(np.inf, 0, LEFT, 0, -30, TOP),
            Affine(0, 0, LEFT, 0, 0, TOP),
            None,
        ],
        ids=["NaN", "infinite", "flat", "none"],
    )
    @pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
    def test_a_file_whose_pixels_have_no_place_is_refused(self, tmp_path, transform):
        path = write_tiff(tmp_path / "a.tif", noise((40, 50)), nodata=-9, transform=transform)
        refused("does not say where its pixels lie", path, bands=["a"])
        refused("does not say where its pixels lie", path, bands=["a"], crs=UTM)
        with pytest.raises(SourceError, match="does not say where its pixels lie"):
            catalogs.grid_of(path)

    def test_the_grid_of_a_file_is_its_own(self, tif):
        assert catalogs.grid_of(tif) == grid_at((40, 50))


class TestNodata:
    def test_a_file_that_declares_no_nodata_is_refused(self, tmp_path):
        path = write_tiff(tmp_path / "a.tif", noise((40, 50), dtype="uint8"))
        refused("declares no nodata value; give nodata=, or nodata='none'", path, bands=["a"])
        assert catalogs.geotiff(path, bands=["a"], nodata="none").nodata is None
        assert catalogs.geotiff(path, bands=["a"], nodata=7).nodata == 7.0

    def test_a_given_value_replaces_the_files_own(self, tif):
        assert catalogs.geotiff(tif, bands=["a", "b"], nodata=9).nodata == 9.0
        assert catalogs.geotiff(tif, bands=["a", "b"], nodata="none").nodata is None

    @pytest.mark.parametrize("nodata", [-1, 256, 0.5, float("nan"), float("inf")])
    def test_a_value_that_the_file_cannot_hold_is_refused(self, tif, nodata):
        refused("holds uint8, which cannot hold nodata=", tif, nodata=nodata)

    def test_bands_that_declare_different_values_are_refused(self, tmp_path):
        path = write_tiff(tmp_path / "a.tif", noise((2, 40, 50)), nodata=-9)
        bands = "".join(
            f'<VRTRasterBand dataType="Float32" band="{i}"><NoDataValue>{nodata}</NoDataValue>'
            f'<SimpleSource><SourceFilename relativeToVRT="0">{path}</SourceFilename>'
            f"<SourceBand>{i}</SourceBand></SimpleSource></VRTRasterBand>"
            for i, nodata in ((1, -9), (2, -99))
        )
        vrt = tmp_path / "a.vrt"
        vrt.write_text(
            f'<VRTDataset rasterXSize="50" rasterYSize="40"><SRS>{UTM}</SRS>'
            f"<GeoTransform>{LEFT}, 30, 0, {TOP}, 0, -30</GeoTransform>{bands}</VRTDataset>"
        )
        refused(r"another nodata value for each band, -9\.0, -99\.0; a scene has one", vrt)
        assert catalogs.geotiff(vrt, bands=["a", "b"], nodata=-9).nodata == -9.0

    def test_nan_is_a_value_that_floats_hold(self, tmp_path):
        path = write_tiff(tmp_path / "a.tif", noise((40, 50)), nodata=float("nan"))
        assert np.isnan(catalogs.geotiff(path, bands=["a"]).nodata)

    def test_a_file_with_a_mask_declares_its_nodata_by_it(self, tmp_path):
        path = write_tiff(tmp_path / "a.tif", noise((40, 50), dtype="uint8"))
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(path, "r+") as target,
        ):
            target.write_mask(np.arange(50) % 2 * np.ones((40, 1), bool) > 0)
        scene, grid = catalogs.geotiff(path, bands=["a"]), catalogs.grid_of(path)
        assert scene.nodata is None
        assert np.isfinite(scene.read(grid, *whole(grid))[0])[0].tolist() == [False, True] * 25
