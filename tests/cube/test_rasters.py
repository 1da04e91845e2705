"""Files are opened with care: what may pass is tried again, and a file opens nothing but itself."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from cube.errors import SourceError
from cube.rasters import (
    MAX_BLOCK_BYTES,
    cause,
    float_for,
    read_window,
    shown,
    with_raster,
    without_query,
)
from cube.retrying import Retry
from cube.scenes import Scene, SceneBand
from tests import hostile, http_files
from tests.rasters import UTM, grid_at, noise, positions, write_tiff

SHAPE = (300, 350)
VALUES = noise(SHAPE, dtype="uint16")
QUERY = "?X-Sig=SECRET%2B%2F&a=(b)#SECRET"


@pytest.fixture
def cog(tmp_path):
    """A tiled file of several blocks; GDAL remembers URLs, so each test has a folder of its own."""
    tiles = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}
    return Path(write_tiff(tmp_path / f"{tmp_path.parent.name}-{os.getpid()}.tif", VALUES, **tiles))


@pytest.fixture
def files(tmp_path):
    with http_files.serve(tmp_path) as served:
        yield served


@pytest.fixture
def pauses():
    return []


def whole_file(raster):
    return raster.read(1)


def read(href, pauses, *, use=whole_file, **options):
    retry = Retry(tries=4, first_s=1e-6, sleep=pauses.append)
    return with_raster(str(href), use, what="'s'", retry=retry, options=options)


def refused(href, match, pauses=None, **options):
    with pytest.raises(SourceError, match=match) as caught:
        read(href, [] if pauses is None else pauses, **options)
    message = str(caught.value)
    assert type(caught.value) is SourceError
    assert message.isprintable()
    assert "SECRET" not in message
    return message


class TestServers:
    def test_a_file_is_read_by_ranges_and_nothing_beside_it_is_asked_for(self, files, cog, pauses):
        np.testing.assert_array_equal(read(f"{files.url}/{cog.name}", pauses), VALUES)
        assert {path for _, path in files.requests} == {f"/{cog.name}"}
        assert pauses == []

    @pytest.mark.parametrize("place", [0, 1, 2])
    @pytest.mark.parametrize("fault", [500, 502, 503, 504, 429, 408, "cut", "half"])
    def test_what_passes_costs_nothing_wherever_it_strikes(self, files, cog, pauses, fault, place):
        files.faults = [None] * place + [fault]
        np.testing.assert_array_equal(read(f"{files.url}/{cog.name}{QUERY}", pauses), VALUES)
        assert not files.faults
        assert len(pauses) <= 1

    def test_three_faults_in_a_row_are_outlasted(self, files, cog, pauses):
        files.faults = [503, 429, 500]
        np.testing.assert_array_equal(read(f"{files.url}/{cog.name}", pauses), VALUES)
        # GDAL asks twice within a try.
        assert 1 <= len(pauses) <= 3

    def test_what_failed_at_first_does_not_stay_failed(self, files, cog, pauses):
        url = f"{files.url}/{cog.name}"
        files.lasting = {"/": 503}
        refused(url, r"HTTP response code: 503 \(tried 4 times\)\.$", pauses)
        assert len(pauses) == 3
        files.lasting = {}
        # The first try may still see what GDAL remembers; the second must not.
        np.testing.assert_array_equal(read(url, pauses), VALUES)

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
    def test_what_lasts_is_asked_for_once(self, files, cog, pauses, status):
        files.lasting = {"/": status}
        refused(f"{files.url}/{cog.name}{QUERY}", f"HTTP response code: {status}.$", pauses)
        assert len(files.requests) == 1
        assert pauses == []

    @pytest.mark.parametrize("fault", [500, 503, 429, "cut", "half"])
    def test_what_does_not_pass_is_given_up_in_one_line(self, files, cog, pauses, fault):
        files.lasting = {"/": fault}
        message = refused(f"{files.url}/{cog.name}{QUERY}", r"\(tried 4 times\)\.$", pauses)
        assert message.startswith(f"'s': '{files.url}/{cog.name}' cannot be read: ")
        assert len(pauses) == 3

    @pytest.mark.parametrize("place", [0, 1, 2])
    @pytest.mark.parametrize("fault", ["stall", "slow"])
    def test_silence_ends_with_the_time_that_was_given(self, files, cog, pauses, fault, place):
        files.faults = [None] * place + [fault]
        found = read(f"{files.url}/{cog.name}", pauses, GDAL_HTTP_TIMEOUT="0.2")
        np.testing.assert_array_equal(found, VALUES)

    def test_silence_for_ever_is_given_up(self, files, cog, pauses):
        files.lasting = {"/": "stall"}
        url = f"{files.url}/{cog.name}"
        refused(url, r"timed out .*\(tried 4 times\)\.$", pauses, GDAL_HTTP_TIMEOUT="0.1")

    def test_nobody_there_is_tried_again(self, pauses):
        refused(f"http://127.0.0.1:1/a.tif{QUERY}", r"connect .*\(tried 4 times\)\.$", pauses)
        assert len(pauses) == 3

    def test_a_file_cut_short_on_the_server_is_refused(self, files, cog, pauses):
        os.truncate(cog, cog.stat().st_size // 2)
        refused(f"{files.url}/{cog.name}{QUERY}", "cannot be read: TIFF", pauses)

    def test_a_page_instead_of_a_file_is_refused(self, files, tmp_path, pauses):
        (tmp_path / "page.tif").write_bytes(hostile.PAGE)
        refused(f"{files.url}/page.tif{QUERY}", "not recognized", pauses)

    @pytest.mark.parametrize("where", ["file://{folder}/{name}", "ftp://127.0.0.1:{port}/{name}"])
    def test_a_server_leads_to_no_file_of_this_machine(self, files, cog, tmp_path, pauses, where):
        target = where.format(folder=tmp_path, name=cog.name, port=1)
        files.lasting = {"/": target}
        refused(f"{files.url}/{cog.name}", "in redirect|connect|code: 302", pauses)

    def test_a_server_may_send_a_reader_to_another(self, files, cog, tmp_path, pauses):
        with http_files.serve(tmp_path, host="127.0.0.2") as other:
            files.lasting = {"/": f"{other.url}/{cog.name}"}
            np.testing.assert_array_equal(read(f"{files.url}/{cog.name}", pauses), VALUES)
            assert other.requests

    def test_redirects_in_a_circle_end(self, files, cog, pauses):
        files.lasting = {"/": f"{files.url}/{cog.name}"}
        refused(f"{files.url}/{cog.name}", "redirects", pauses)


class TestDoors:
    """Nothing that a name or a file says makes GDAL fetch, compute, or wait."""

    @pytest.fixture
    def url(self, files, cog):
        """A good file on a server; no test may ask for it."""
        yield f"{files.url}/{cog.name}"
        assert files.requests == []

    @pytest.mark.parametrize(
        "name",
        [
            "HTTP:{url}",
            "WMS:{url}",
            "STACTA:{url}",
            'STACIT:"{url}"',
            'ZARR:"{url}"',
            "netcdf:{url}:a",
            "netcdf:{url}#mode=bytes",
            "GTIFF_DIR:1:{url}",
            "GTIFF_DIR:1:{path}",
            "GTIFF_RAW:{path}",
            "DERIVED_SUBDATASET:AMPLITUDE:{path}",
            "JPEG_SUBFILE:0,100,{path}",
            "vrt://{path}",
            "vrt://{url}",
            "<VRTDataset><VRTRasterBand/></VRTDataset>",
            "{folder}",
            "{folder}/",
            "",
            "/dev/zero",
            "/dev/stdin",
            "/vsistdin/",
            "/vsimem/none",
            "/vsigzip//dev/zero",
            '{{"type": "Feature"}}',
        ],
    )
    def test_a_driver_s_own_language_is_not_spoken(self, url, cog, name):
        refused(name.format(url=url, path=cog, folder=cog.parent), "^'s': .* cannot be read: ")

    def test_a_pipe_is_refused_at_once(self, url, tmp_path):
        os.mkfifo(tmp_path / "pipe.tif")
        refused(tmp_path / "pipe.tif", "cannot be read: It is no file")

    @pytest.mark.parametrize("name", ["w.xml", "w.tif", "w.vrt", "w.png"])
    def test_a_description_of_a_service_is_no_raster(self, url, tmp_path, name):
        (tmp_path / name).write_text(hostile.wms(url))
        refused(tmp_path / name, "cannot be read: ")

    def test_a_virtual_raster_is_told_by_its_name(self, url, cog, tmp_path):
        text = hostile.mosaic(cog, SHAPE)
        (tmp_path / "m.vrt").write_text(text)
        (tmp_path / "m.tif").write_text(text)
        np.testing.assert_array_equal(read(tmp_path / "m.vrt", []), VALUES)
        refused(tmp_path / "m.tif", "not recognized")

    @pytest.mark.parametrize(
        "source",
        [
            "/vsicurl/{url}",
            "/vsicurl?url={url}",
            "/vsicurl_streaming/{url}",
            "/vsigzip//vsicurl/{url}",
            "/vsis3/bucket/a.tif",
            "{url}",
            "{wms}",
        ],
    )
    def test_a_virtual_raster_fetches_nothing(self, url, tmp_path, monkeypatch, source):
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        (tmp_path / "v.vrt").write_text(
            hostile.mosaic(source.format(url=url, wms=hostile.wms(url)), SHAPE)
        )
        s3 = {"AWS_S3_ENDPOINT": url.split("/")[2], "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "NO"}
        refused(tmp_path / "v.vrt", "cannot be read: ", AWS_NO_SIGN_REQUEST="YES", **s3)

    def test_a_virtual_raster_runs_no_code(self, url, cog, tmp_path):
        (tmp_path / "p.vrt").write_text(hostile.computed(cog, tmp_path / "came", SHAPE))
        refused(tmp_path / "p.vrt", "Python code .* disabled")
        assert not (tmp_path / "came").exists()

    def test_a_virtual_raster_shows_no_bytes_of_other_files(self, url, tmp_path):
        (tmp_path / "secret").write_bytes(b"s" * 100)
        (tmp_path / "r.vrt").write_text(hostile.raw(tmp_path / "secret"))
        refused(tmp_path / "r.vrt", "takes bytes of a file for pixels")

    def test_a_virtual_raster_of_itself_ends(self, url, tmp_path):
        (tmp_path / "v.vrt").write_text(hostile.mosaic(tmp_path / "v.vrt", SHAPE))
        refused(tmp_path / "v.vrt", "Recursion")

    def test_a_virtual_raster_on_a_server_is_none(self, files, cog, tmp_path):
        (tmp_path / "m.vrt").write_text(hostile.mosaic(cog, SHAPE))
        (tmp_path / "w.xml").write_text(hostile.wms(files.url))
        for name in ("m.vrt", "w.xml"):
            refused(f"{files.url}/{name}", "not recognized")
        assert {path for _, path in files.requests} == {"/m.vrt", "/w.xml"}


class TestClaims:
    def test_a_tile_larger_than_memory_is_refused_before_it_is_made(self, tmp_path):
        path = hostile.tiny_tiff(tmp_path / "g.tif", (200_000, 200_000), tiled=True)
        assert Path(path).stat().st_size < 1000
        refused(path, f"blocks of 200000 x 200000 pixels .*{MAX_BLOCK_BYTES} bytes.*gdal_translate")

    def test_a_strip_of_which_most_is_missing_is_refused_where_it_is_read(self, tmp_path):
        path = hostile.tiny_tiff(tmp_path / "g.tif", (200_000, 200_000))
        band = SceneBand(name="a", href=path, nodata=None)
        refused(path, "cannot be read: ", use=lambda r: read_window(r, [band], (0, 9), (0, 9)))

    def test_many_small_blocks_pass(self, tmp_path):
        path = tmp_path / "sparse.tif"
        tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "SPARSE_OK": True}
        grid = grid_at((1, 1))
        with rasterio.open(
            path, "w", driver="GTiff", width=10**5, height=10**5, count=1, dtype="uint8", nodata=7,
            crs=grid.crs.to_wkt(), transform=grid.transform, **tiles,
        ):  # fmt: skip
            pass
        band = SceneBand(name="a", href=str(path), nodata=7.0)
        found = read(path, [], use=lambda r: read_window(r, [band], (99_999, 100_001), (-1, 2)))
        assert np.isnan(found).all()

    def test_bytes_beside_a_file_change_what_gdal_says_of_it(self, tmp_path):
        """A sidecar wins over the file in GDAL; a scene's own facts win over both."""
        path = write_tiff(tmp_path / "a.tif", np.full((4, 5), 9, "uint8"), nodata=0)
        Path(f"{path}.aux.xml").write_text(hostile.sidecar(nodata=9))
        assert read(path, [], use=lambda r: r.nodata) == 9
        band = SceneBand(name="a", href=path, nodata=0.0)
        found = read(path, [], use=lambda r: read_window(r, [band], (0, 4), (0, 5)))
        np.testing.assert_array_equal(found, np.full((1, 4, 5), 9, "float32"))

    def test_bytes_beside_a_file_on_a_server_are_not_looked_for(self, files, cog):
        Path(f"{cog}.aux.xml").write_text(hostile.sidecar(nodata=9))
        assert read(f"{files.url}/{cog.name}", [], use=lambda r: r.nodata) is None


class TestMessages:
    @pytest.mark.parametrize(
        ("href", "expected"),
        [
            ("https://a.example/x.tif?sig=SECRET", "https://a.example/x.tif"),
            ("https://me:SECRET@a.example/x.tif?y", "https:***a.example/x.tif"),
            ("/data/x.tif", "/data/x.tif"),
        ],
    )
    def test_an_href_is_shown_without_what_opens_it(self, href, expected):
        assert shown(href) == expected

    @pytest.mark.parametrize("kept", ["?sig=SECRET#more", "?sig=SECRET", "?a=SECRET&sig=SECRET"])
    def test_no_part_of_a_query_is_repeated(self, kept):
        href = f"https://a.example/x.tif{kept}"
        for text in (href, href.partition("#")[0]):
            assert "SECRET" not in without_query(f"'/vsicurl/{text}' is not there", href)

    @pytest.mark.parametrize(
        ("index", "dtype", "crs", "match"),
        [
            (3, "uint8", UTM, "band 3 was asked of .*, which has 1"),
            (1, "complex64", UTM, "holds complex numbers"),
            (1, "uint8", "EPSG:4326", "cannot be placed on the grid"),
        ],
    )
    def test_what_a_scene_says_of_its_files_holds_no_signature(
        self, files, tmp_path, index, dtype, crs, match
    ):
        write_tiff(tmp_path / "m.tif", np.ones((4, 5), dtype))
        layer = SceneBand(name="a", href=f"{files.url}/m.tif{QUERY}", index=index)
        scene = Scene(id="s", layers=(layer,), crs=crs, nodata=None)
        with pytest.raises(SourceError, match=match) as caught:
            scene.read(grid_at((4, 5), shift=(0.5, 0.5)), (0, 4), (0, 5))
        assert "m.tif" in str(caught.value)
        assert "SECRET" not in str(caught.value)

    def test_a_cause_is_one_line_and_the_innermost(self):
        outer = RuntimeError("outer")
        outer.__cause__ = ValueError("first\n  second.  ")
        assert cause(outer) == "first second"


class TestWindows:
    @pytest.fixture
    def path(self, tmp_path):
        values = np.stack([positions((20, 30)), -positions((20, 30)), positions((20, 30)) + 0.5])
        values[1, 3, 4] = 77
        return write_tiff(tmp_path / "p.tif", values)

    def window(self, path, rows, cols, layers):
        return read(path, [], use=lambda raster: read_window(raster, layers, rows, cols))

    @pytest.mark.parametrize(
        ("rows", "cols"),
        [((0, 20), (0, 30)), ((-3, 5), (28, 33)), ((19, 40), (-9, 1)), ((5, 6), (7, 8))],
    )
    def test_it_is_the_part_of_the_file_with_nothing_around(self, path, rows, cols):
        layers = [SceneBand(name="b", href=path, index=i, nodata=None) for i in (3, 1)]
        around = np.full((2, 100, 100), np.nan, "float32")
        around[0, 40:60, 40:70] = positions((20, 30)) + 0.5
        around[1, 40:60, 40:70] = positions((20, 30))
        expected = around[:, rows[0] + 40 : rows[1] + 40, cols[0] + 40 : cols[1] + 40]
        found = self.window(path, rows, cols, layers)
        assert found.dtype == "float32"
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize(
        ("rows", "cols"), [((-5, 0), (0, 9)), ((0, 2), (30, 31)), ((3, 3), (0, 1))]
    )
    def test_beside_the_file_is_nothing(self, path, rows, cols):
        layers = [SceneBand(name="a", href=path, nodata=None)]
        found = self.window(path, rows, cols, layers)
        assert found.shape == (1, rows[1] - rows[0], cols[1] - cols[0])
        assert np.isnan(found).all()

    def test_each_band_has_its_own_nodata(self, path):
        layers = [
            SceneBand(name="a", href=path, index=2, nodata=77.0),
            SceneBand(name="b", href=path, index=1, nodata=0.0),
            SceneBand(name="c", href=path, index=2, nodata=float("nan")),
        ]
        missing = np.isnan(self.window(path, (0, 20), (0, 30), layers))
        assert [np.argwhere(band).tolist() for band in missing] == [[[3, 4]], [[0, 0]], []]

    @pytest.mark.parametrize(
        ("dtypes", "expected"),
        [
            (["uint8", "int16", "uint16", "float32", "int8"], "float32"),
            (["uint8", "int32"], "float64"),
            (["uint32"], "float64"),
            (["int64"], "float64"),
            (["float64", "uint8"], "float64"),
        ],
    )
    def test_the_float_holds_every_number(self, dtypes, expected):
        assert float_for(dtypes) == expected

    def test_a_rotated_file_is_read_by_its_own_pixels(self, tmp_path):
        grid = GeoBox((20, 30), Affine.translation(5, 6) @ Affine.rotation(30), "EPSG:32725")
        path = write_tiff(tmp_path / "r.tif", positions((20, 30)), grid=grid)
        layers = [SceneBand(name="a", href=path, nodata=None)]
        found = self.window(path, (0, 20), (0, 30), layers)
        np.testing.assert_array_equal(found[0], positions((20, 30)))
