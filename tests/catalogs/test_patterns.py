"""Folders of files become scenes by the pattern of their names; what does not fit says why."""

from __future__ import annotations

import os
from datetime import date

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from catalogs.patterns import Pattern, moment_of, scenes_from_files
from cube.errors import SourceError, SpecError
from tests.rasters import LEFT, TOP, UTM, grid_at, noise, positions, whole, write_tiff

SHAPE = (12, 15)


def put(folder, name, values=None, *, nodata=0, **options):
    """A small GeoTIFF of noise below a folder."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    values = noise(SHAPE, dtype="uint8") if values is None else values
    return write_tiff(path, values, nodata=nodata, **options)


def vrt(folder, name, body, *, head=""):
    """A VRT of one band on the grid of :func:`put`."""
    path = folder / name
    path.write_text(
        f'<VRTDataset rasterXSize="15" rasterYSize="12"{head}><SRS>{UTM}</SRS>'
        f"<GeoTransform>{LEFT}, 30, 0, {TOP}, 0, -30</GeoTransform>"
        f'<VRTRasterBand dataType="Byte" band="1"><NoDataValue>0</NoDataValue>{body}'
        f"</VRTRasterBand></VRTDataset>"
    )
    return path


def source(name, *, relative=1):
    return (
        f'<SimpleSource><SourceFilename relativeToVRT="{relative}">{name}</SourceFilename>'
        f"<SourceBand>1</SourceBand></SimpleSource>"
    )


def ids(manifest):
    return [scene.id for scene in manifest.scenes]


class TestNames:
    @pytest.mark.parametrize(
        ("pattern", "name", "id_", "fields"),
        [
            ("{year}/{band}.tif", "2018/red.tif", "2018", {"year": "2018", "band": "red"}),
            ("{band}/{year}.tif", "red/2018.tif", "2018", {"year": "2018", "band": "red"}),
            ("{band}_{year}.tif", "red_2018.tif", "2018", {"year": "2018", "band": "red"}),
            ("B{band}_{year}.tif", "B4_2018.tif", "2018", {"year": "2018", "band": "4"}),
            ("{tile}/{year}.tif", "T35/2018.tif", "T35/2018", {"tile": "T35", "year": "2018"}),
            ("composite_{year}.vrt", "composite_2018.vrt", "composite_2018", {"year": "2018"}),
            ("**/{date}.tif", "a/b/20180601.tif", "a/b/20180601", {"date": "20180601"}),
            ("**/{date}.tif", "2018-06-01.tif", "2018-06-01", {"date": "2018-06-01"}),
            ("M.A{date}.*.tif", "M.A2018152.h1.tif", "M.A2018152.h1", {"date": "2018152"}),
            (
                "LC08_*_{date}_*_B{band}.tif",
                "LC08_L1TP_214065_20180601_20180615_01_T1_B4.tif",
                "LC08_L1TP_214065_20180601_20180615_01_T1",
                {"date": "20180601", "band": "4"},
            ),
            (
                "{year}/B{band}/x_{year}_B{band}_v1.tif",
                "2018/B4/x_2018_B4_v1.tif",
                "2018/x_2018_v1",
                {"year": "2018", "band": "4"},
            ),
            (
                "**/R{part}/{tile}_{date}_{band}_{part}.jp2",
                "x.SAFE/R20m/T32UNV_20200601_B04_20m.jp2",
                "x.SAFE/T32UNV_20200601",
                {"part": "20m", "tile": "T32UNV", "date": "20200601", "band": "B04"},
            ),
        ],
    )
    def test_fields_are_read_and_the_id_is_all_but_the_band(self, pattern, name, id_, fields):
        assert Pattern(pattern).match(name) == (id_, fields)

    @pytest.mark.parametrize(
        ("pattern", "name"),
        [
            ("{year}.tif", "18.tif"),
            ("{year}.tif", "2018xtif"),
            ("*.tif", "a/b.tif"),
            ("{band}.tif", "a/b.tif"),
            ("a[bc].tif", "ab.tif"),
            ("{year}/{year}.tif", "2018/2019.tif"),
            ("**/y.tif", "y.tiff"),
        ],
    )
    def test_other_names_do_not_match(self, pattern, name):
        assert Pattern(pattern).match(name) is None

    @pytest.mark.parametrize(
        ("pattern", "match"),
        [
            ("", "relative to its folder"),
            ("/data/{year}.tif", "relative to its folder"),
            ("../{year}.tif", "without '..'"),
            ("a\\{year}.tif", "with / between names"),
            ("{Year}.tif", "'{Year}' is no part of one"),
            ("{}.tif", "'{}' is no part"),
            ("{year.tif", "'{' is no part"),
            ("year}.tif", "'}' is no part"),
            ("**.tif", r"'\*\*' is no part"),
            ("a**/b.tif", r"'\*\*' is no part"),
            ("{month}.tif", "{month} needs {year}"),
            ("{year}{day}.tif", "{day} needs {month}"),
            ("{year}_{time}.tif", "{time} needs {day}"),
        ],
    )
    def test_what_is_no_pattern_is_refused(self, pattern, match):
        with pytest.raises(SpecError, match=match) as caught:
            Pattern(pattern)
        assert "\n" not in str(caught.value)

    @given(st.dates(date(1972, 7, 23), date(2100, 1, 1)))
    def test_three_ways_to_write_a_day_are_one_day(self, day):
        for text in (day.isoformat(), f"{day:%Y%m%d}", f"{day:%Y%j}"):
            assert moment_of({"date": text}) == f"{day.isoformat()}T00:00:00Z"
        fields = {"year": f"{day:%Y}", "month": f"{day:%m}", "day": f"{day:%d}"}
        assert moment_of(fields | {"time": "103059"}) == f"{day.isoformat()}T10:30:59Z"

    def test_what_a_name_leaves_out_is_the_first(self):
        assert moment_of({"year": "2018"}) == "2018-01-01T00:00:00Z"
        assert moment_of({"year": "2018", "month": "06"}) == "2018-06-01T00:00:00Z"
        assert moment_of({"tile": "T35"}) is None

    @pytest.mark.parametrize(
        "fields",
        [
            {"date": "20231345"},
            {"date": "2023-02-29"},
            {"date": "2023366"},
            {"year": "0000"},
            {"year": "2018", "month": "13"},
            {"date": "20180601", "time": "250000"},
            {"date": "20180601", "year": "2019"},
        ],
    )
    def test_a_moment_that_does_not_exist_is_refused(self, fields):
        with pytest.raises(SourceError, match="is no moment; expected a day that exists"):
            moment_of(fields)


class TestOneFilePerBand:
    def test_files_that_differ_in_the_band_alone_are_one_scene(self, tmp_path):
        for year in (2019, 2018):
            for number in (10, 4, 3):
                put(tmp_path, f"LC08_L2SP_1_{year}0601_{year}0701_02_T1_SR_B{number}.tif")
            put(tmp_path, f"LC08_L2SP_1_{year}0601_{year}0701_02_T1_QA.tif")
        found = scenes_from_files(
            tmp_path, "LC08_*_{date}_*_B{band}.tif", bands={"4": "red", "3": "green"}
        )
        assert [scene.time for scene in found.scenes] == [
            "2018-06-01T00:00:00Z",
            "2019-06-01T00:00:00Z",
        ]
        assert ids(found)[0] == "LC08_L2SP_1_20180601_20180701_02_T1_SR"
        for scene in found.scenes:
            assert scene.bands == ("red", "green")
            assert [layer.href[-6:] for layer in scene.layers] == ["B4.tif", "B3.tif"]
        assert not found.excluded

    def test_bands_come_in_the_order_given_with_their_own_pixels(self, tmp_path):
        for band, value in {"a": 1, "b": 2, "c": 3}.items():
            put(tmp_path, f"2018/{band}.tif", np.full(SHAPE, value, "uint8"))
        scene = scenes_from_files(tmp_path, "{year}/{band}.tif", bands=["c", "a"]).scenes[0]
        grid = grid_at(SHAPE)
        values = scene.read(grid, *whole(grid))
        assert scene.bands == ("c", "a")
        assert [np.unique(band).tolist() for band in values] == [[3], [1]]
        everything = scenes_from_files(tmp_path, "{year}/{band}.tif").scenes[0]
        assert everything.bands == ("a", "b", "c")

    def test_bands_in_folders_of_their_resolution_are_one_scene(self, tmp_path):
        for size, bands in (("10m", ("B04", "B08")), ("20m", ("B04", "SCL"))):
            (tmp_path / "x" / f"R{size}").mkdir(parents=True)
            for band in bands:
                path = tmp_path / "x" / f"R{size}" / f"T1_20200601_{band}_{size}.tif"
                write_tiff(path, noise((8, 10), dtype="uint8"), nodata=0)
        scenes = scenes_from_files(
            tmp_path,
            "**/R{part}/{tile}_{date}_{band}.tif",
            bands={"B04_10m": "red", "SCL_20m": "scl"},
            quality=["scl"],
        )
        assert [scene.id for scene in scenes.scenes] == ["x/T1_20200601"]
        assert scenes.scenes[0].bands == ("red", "scl")
        with pytest.raises(SourceError, match="It has 2 files of band B04"):
            scenes_from_files(tmp_path, "**/R{part}/*_{date}_{band}_{part}.tif", bands=["B04"])

    def test_bands_alone_in_a_folder_are_a_scene_called_after_it(self, tmp_path):
        for band in "ab":
            put(tmp_path / "here", f"{band}.tif")
        found = scenes_from_files(tmp_path / "here", "{band}.tif")
        assert ids(found) == ["here"]
        assert found.scenes[0].time is None

    def test_each_band_keeps_its_own_nodata_and_rules(self, tmp_path):
        put(tmp_path, "2018/red.tif", nodata=0)
        put(tmp_path, "2018/nir.tif", nodata=255)
        put(tmp_path, "2018/qa.tif", nodata=None)
        scene = scenes_from_files(
            tmp_path,
            "{year}/{band}.tif",
            bands=["red", "nir", "qa"],
            resampling={"red": "cubic"},
            quality=["qa"],
            scale=1e-4,
            offset=-0.1,
        ).scenes[0]
        facts = {
            name: (band.nodata, band.scale, band.offset, band.resampling)
            for name in scene.bands
            for band in [scene.band(name)]
        }
        assert facts == {
            "red": (0.0, 1e-4, -0.1, "cubic"),
            "nir": (255.0, 1e-4, -0.1, "nearest"),
            "qa": (None, 1.0, 0.0, "nearest"),
        }

    def test_the_footprint_holds_every_file(self, tmp_path):
        put(tmp_path, "2018/a.tif")
        put(tmp_path, "2018/b.tif", grid=grid_at(SHAPE, shift=(0, 2)))
        scene = scenes_from_files(tmp_path, "{year}/{band}.tif").scenes[0]
        assert scene.footprint == (LEFT, TOP - 360, LEFT + 510, TOP)

    def test_the_order_of_the_folder_is_no_matter(self, tmp_path, monkeypatch):
        for name in ("2018/b", "2018/a", "2017/a", "2017/b"):
            put(tmp_path, f"{name}.tif")
        once = scenes_from_files(tmp_path, "{year}/{band}.tif")
        walk = os.walk
        monkeypatch.setattr(
            os, "walk", lambda *a, **k: [(b, d, f[::-1]) for b, d, f in list(walk(*a, **k))[::-1]]
        )
        assert scenes_from_files(tmp_path, "{year}/{band}.tif").scenes == once.scenes


class TestOneFilePerScene:
    def test_all_bands_of_a_file_are_named_in_its_order(self, tmp_path):
        values = np.stack([np.full(SHAPE, i + 1, "uint8") for i in range(2)])
        put(tmp_path, "20180601.tif", values)
        put(tmp_path, "notes.txt.tif", values)
        scene = scenes_from_files(tmp_path, "{date}.tif", bands=["red", "nir"]).scenes[0]
        assert (scene.id, scene.time) == ("20180601", "2018-06-01T00:00:00Z")
        assert [(layer.name, layer.index) for layer in scene.layers] == [("red", 1), ("nir", 2)]

    def test_names_in_another_order_than_the_files_own_are_refused(self, tmp_path):
        path = put(tmp_path, "2018.tif", noise((2, *SHAPE), dtype="uint8"))
        with rasterio.open(path, "r+") as target:
            target.descriptions = ("red", "nir")
        assert len(scenes_from_files(tmp_path, "{year}.tif", bands=["red", "nir"])) == 1
        with pytest.raises(SourceError, match="says that its bands are red, nir. Received them in"):
            scenes_from_files(tmp_path, "{year}.tif", bands=["nir", "red"])

    def test_two_files_with_one_id_are_excluded(self, tmp_path):
        put(tmp_path, "2017.tif")
        put(tmp_path, "2018.tif")
        put(tmp_path, "2018.tiff")
        found = scenes_from_files(tmp_path, "{year}.{kind}", bands=["a"])
        assert ids(found) == ["2017"]
        assert "It has 2 files, 2018.tif, 2018.tiff; put what tells" in found.excluded["2018"]


class TestExcluded:
    """A scene that cannot be used costs itself."""

    @pytest.fixture
    def good(self, tmp_path):
        for band in "ab":
            put(tmp_path, f"20170601_{band}.tif")
        return tmp_path

    def reason(self, folder, id_, **options):
        found = scenes_from_files(folder, "{date}_{band}.tif", **options)
        assert ids(found) == ["20170601"]
        (name,) = found.excluded
        assert name == id_
        assert "\n" not in found.excluded[name]
        assert str(folder) not in found.excluded[name]
        return found.excluded[name]

    def test_a_scene_that_lacks_a_band(self, good):
        put(good, "20180601_a.tif")
        reason = self.reason(good, "20180601")
        assert reason == "It has no file of band b; there is 20180601_a.tif."

    def test_two_files_for_one_band(self, good):
        for band in ("a", "A", "b"):
            put(good, f"20180601_{band}.tif")
        bands = {"a": "one", "A": "one", "b": "two"}
        reason = self.reason(good, "20180601", bands=bands)
        assert reason == "It has 2 files of band one: 20180601_A.tif, 20180601_a.tif."

    def test_a_date_that_is_none(self, good):
        for band in "ab":
            put(good, f"20231345_{band}.tif")
        assert "20231345 is no moment" in self.reason(good, "20231345")

    @pytest.mark.parametrize("content", [b"", b"II*\0", b"no raster at all"])
    def test_what_is_no_raster(self, good, content):
        put(good, "20180601_a.tif")
        (good / "20180601_b.tif").write_bytes(content)
        assert "'20180601_b.tif' cannot be read" in self.reason(good, "20180601")

    def test_a_truncated_file(self, good):
        put(good, "20180601_a.tif")
        path = put(good, "20180601_b.tif", noise((300, 310)))
        os.truncate(path, os.path.getsize(path) // 2)
        assert "is truncated" in self.reason(good, "20180601")

    def test_a_file_without_a_crs(self, good):
        put(good, "20180601_a.tif")
        put(good, "20180601_b.tif", crs=None)
        assert "does not say its CRS; give crs=" in self.reason(good, "20180601")

    def test_files_of_different_crs(self, good):
        put(good, "20180601_a.tif")
        put(good, "20180601_b.tif", crs="EPSG:31985")
        reason = self.reason(good, "20180601")
        assert "different CRSs: EPSG:32725 (a), EPSG:31985 (b). Warp them" in reason

    def test_a_file_of_several_bands_where_one_was_expected(self, good):
        put(good, "20180601_a.tif")
        put(good, "20180601_b.tif", noise((2, *SHAPE), dtype="uint8"))
        assert "has 2 bands; one name for each" in self.reason(good, "20180601")


class TestRefused:
    def test_a_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(SourceError, match="There is no folder '.*gone'"):
            scenes_from_files(tmp_path / "gone", "{year}.tif", bands=["a"])

    def test_no_file_that_matches_shows_what_is_there(self, tmp_path):
        with pytest.raises(SourceError, match=r"matches '\{year\}.tif'; there is none at all"):
            scenes_from_files(tmp_path, "{year}.tif", bands=["a"])
        for name in "dcba":
            (tmp_path / name).touch()
        with pytest.raises(SourceError, match=r"there is a, b, c, \.\.\.\.$"):
            scenes_from_files(tmp_path, "{year}.tif", bands=["a"])

    def test_no_scene_that_can_be_used_says_why(self, tmp_path):
        put(tmp_path, "2018/a.tif")
        with pytest.raises(SourceError, match="None of 1 scenes can be used. 2018: It has no file"):
            scenes_from_files(tmp_path, "{year}/{band}.tif", bands=["red"])

    @pytest.mark.parametrize(
        ("pattern", "options", "match"),
        [
            ("{year}_a.tif", {}, "bands= must name the bands, as a list"),
            ("{year}_a.tif", {"bands": "a"}, "Received 'a'"),
            ("{year}_a.tif", {"bands": []}, r"Received \[\]"),
            ("{year}_a.tif", {"bands": {"1": "a"}}, "has no {band} to look up"),
            ("{year}_{band}.tif", {"bands": ["a", "a"]}, "each band once"),
            ("{year}_{band}.tif", {"quality": ["qa"]}, "quality= must name bands of the scene"),
            ("{year}_{band}.tif", {"resampling": {"b": "cubic"}}, "resampling= must name bands"),
            ("{year}_{band}.tif", {"resampling": "best"}, "resampling must be one of nearest"),
        ],
    )
    def test_options_that_fit_no_file(self, tmp_path, pattern, options, match):
        put(tmp_path, "2018_a.tif")
        with pytest.raises(SpecError, match=match):
            scenes_from_files(tmp_path, pattern, **options)


class TestLinks:
    def test_links_to_files_are_followed_and_links_to_folders_are_not(self, tmp_path):
        path = put(tmp_path / "elsewhere", "x.tif")
        folder = tmp_path / "here"
        folder.mkdir()
        (folder / "2018.tif").symlink_to(path)
        (folder / "linked").symlink_to(tmp_path / "elsewhere")
        (folder / "loop").symlink_to(folder)
        (folder / "2019.tif").symlink_to(folder / "gone.tif")
        found = scenes_from_files(folder, "**/{name}.tif", bands=["a"])
        assert ids(found) == ["2018"]
        assert found.excluded["2019"] == "'gone.tif' cannot be opened: No such file or directory."


class TestVirtualRasters:
    """A VRT is a mosaic of files inside the folder, and no more."""

    def refused(self, folder, match):
        with pytest.raises(SourceError, match=match) as caught:
            scenes_from_files(folder, "{year}.vrt", bands=["a"])
        assert "\n" not in str(caught.value)

    def test_a_mosaic_of_files_in_the_folder_passes(self, tmp_path):
        values = positions(SHAPE)[:, :].astype("uint8")
        path = put(tmp_path, "tiles/x.tif", values)
        vrt(tmp_path, "2018.vrt", source("tiles/x.tif"))
        vrt(tmp_path, "2019.vrt", source("2018.vrt"))
        vrt(tmp_path, "2020.vrt", source(path, relative=0))
        found = scenes_from_files(tmp_path, "{year}.vrt", bands=["a"])
        assert ids(found) == ["2018", "2019", "2020"]
        grid = grid_at(SHAPE)
        for scene in found.scenes:
            read = np.nan_to_num(scene.read(grid, *whole(grid))[0])
            np.testing.assert_array_equal(read, values)

    @pytest.mark.parametrize(
        ("name", "relative"),
        [
            ("/etc/passwd", 0),
            ("../outside.tif", 1),
            ("tiles/../../outside.tif", 1),
            ("/vsicurl/http://127.0.0.1/x.tif", 0),
            ("/vsizip/x.zip/x.tif", 1),
            ("http://127.0.0.1/x.tif", 0),
            ("inside.tif", 0),  # relative to wherever the process runs
            ("gone.tif", 1),
            ("link.tif", 1),
            ("vrt://inside.tif", 1),
            ("", 1),
        ],
    )
    def test_sources_elsewhere_are_refused(self, tmp_path, name, relative):
        put(tmp_path, "outside.tif")
        folder = tmp_path / "in"
        put(folder, "inside.tif")
        (folder / "link.tif").symlink_to(tmp_path / "outside.tif")
        vrt(folder, "2018.vrt", source(name, relative=relative))
        self.refused(folder, "its sources must be files inside '.*in'")

    def test_sources_of_sources_are_looked_at_whatever_their_name(self, tmp_path):
        put(tmp_path, "outside.tif")
        folder = tmp_path / "in"
        folder.mkdir()
        vrt(folder, "inner.tif", source("../outside.tif"))
        vrt(folder, "2018.vrt", source("inner.tif"))
        self.refused(folder, "inner.tif' takes pixels from .*must be files inside")

    def test_a_loop_is_refused(self, tmp_path):
        vrt(tmp_path, "2018.vrt", source("b.vrt"))
        vrt(tmp_path, "b.vrt", source("2018.vrt"))
        self.refused(tmp_path, "2018.vrt' takes its pixels from itself, through b.vrt, 2018.vrt")

    @pytest.mark.parametrize(
        ("body", "head", "match"),
        [
            ("<PixelFunctionCode>x</PixelFunctionCode>", "", r"\(PixelFunctionCode\)"),
            ("<pixelfunctioncode>x</pixelfunctioncode>", "", r"\(pixelfunctioncode\)"),
            ('<SimpleSource SourceFilename="/etc/passwd"/>', "", r"\(SourceFilename\)"),
            ("<sourcefilename>/etc/passwd</sourcefilename>", "", r"\(sourcefilename\)"),
            ("", ' subClass="VRTWarpedDataset"', r"\(VRTWarpedDataset\)"),
            ('<Metadata domain="GEOLOCATION"/>', "", r"\(GEOLOCATION\)"),
            ("<!-- -->", "", "declarations or comments"),
            ("<open", "", "is no VRT that can be read"),
        ],
    )
    def test_more_than_a_mosaic_is_refused(self, tmp_path, body, head, match):
        vrt(tmp_path, "2018.vrt", body, head=head)
        self.refused(tmp_path, match)

    def test_entities_are_refused_before_they_are_expanded(self, tmp_path):
        path = vrt(tmp_path, "2018.vrt", "")
        path.write_text('<!DOCTYPE a [<!ENTITY b "c">]>' + path.read_text())
        self.refused(tmp_path, "declarations or comments")

    def test_a_file_of_zero_bytes_is_refused(self, tmp_path):
        (tmp_path / "2018.vrt").touch()
        self.refused(tmp_path, "is no VRT that can be read")
