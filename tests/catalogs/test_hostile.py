"""Whatever a stranger wrote: one clear line, nothing fetched, nothing written, nothing awaited."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

import catalogs
import cube
from catalogs.access import Access
from catalogs.items import read_items
from catalogs.netcdf import scenes_from_netcdf
from catalogs.patterns import scenes_from_files
from catalogs.profiles import Profile
from catalogs.stac import scene_of, scenes_of
from cube.errors import CubeError, IncompleteError, SpecError
from cube.scenes import Scene, SceneBand
from tests import hostile
from tests.rasters import LEFT, TOP, UTM, grid_at, positions, whole, write_tiff

GRID = grid_at((40, 50))
PATIENCE_S = 20


@contextlib.contextmanager
def in_time():
    """Fail where something waits, instead of waiting with it."""

    def ring(*_):
        raise AssertionError("It waits for what never comes.")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def refused(match, door, *args, **kwargs):
    """A door says one line, of our own errors."""
    with in_time(), pytest.raises(CubeError, match=match) as caught:
        door(*args, **kwargs)
    assert type(caught.value) is not CubeError
    assert str(caught.value).isprintable()
    return str(caught.value)


def shape_of(folder):
    """Names, kinds and sizes of all that lies in a folder, links not followed."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, path.lstat().st_size)
        for path in sorted(Path(folder).rglob("*"))
        if path.is_symlink() or not path.is_dir()
    }


@pytest.fixture(scope="module")
def new_cube(tmp_path_factory):
    spec = cube.CubeSpec(
        grid=GRID,
        calendar=cube.years(2020),
        stacks=(cube.StackSpec(name="predictors", bands=("a",), dtype="float32"),),
        layout=cube.LayoutSpec(chunk=32, region=64),
    )
    count = iter(range(10**6))

    def make():
        return cube.create(tmp_path_factory.mktemp("cube") / f"{next(count)}.zarr", spec)

    return make


def never_ingested(url, source, match):
    """Neither a chunk nor a tick comes of it, and nothing lies outside the cube but its report."""
    data = {name for name in shape_of(url) if not name.endswith("zarr.json")}
    with in_time(), pytest.raises(CubeError, match=match) as caught:
        cube.ingest(url, "predictors", {"2020": source}, workers=1)
    assert str(caught.value).isprintable()
    assert {name for name in shape_of(url) if not name.endswith("zarr.json")} == data
    beside = {path.name for path in Path(url).parent.iterdir()}
    assert beside <= {Path(url).name, f"{Path(url).name}.reports"}


def by_name(cases):
    """Cases as parameters."""
    return [pytest.param(case, id=case.name) for case in cases]


class TestFiles:
    @pytest.mark.parametrize("case", by_name(hostile.FILES))
    def test_a_file_is_refused_where_it_is_declared(self, tmp_path, case):
        path = tmp_path / "x.tif"
        case.build(path)
        message = refused(case.match, catalogs.geotiff, path, bands=["a"])
        assert "x.tif" in message

    @pytest.mark.parametrize("case", by_name(hostile.FILES))
    def test_a_folder_with_it_alone_is_refused(self, tmp_path, case):
        case.build(tmp_path / "x.tif")
        found = (
            "matches"
            if case.name == "a folder"
            else "None of 1 scenes can be used. x: .*(x.tif|zero)"
        )
        refused(found, scenes_from_files, tmp_path, "*.tif", bands=["a"])

    @pytest.mark.parametrize("case", by_name(hostile.FILES))
    def test_beside_a_good_file_it_is_left_out_with_the_reason(self, tmp_path, case):
        write_tiff(tmp_path / "good.tif", hostile.VALUES, nodata=0)
        case.build(tmp_path / "x.tif")
        with in_time():
            manifest = scenes_from_files(tmp_path, "*.tif", bands=["a"])
        assert [scene.id for scene in manifest.scenes] == ["good"]
        assert list(manifest.excluded) == ([] if case.name == "a folder" else ["x"])

    @pytest.mark.parametrize("case", by_name(case for case in hostile.FILES if case.reading))
    def test_declared_by_hand_it_fills_nothing(self, tmp_path, new_cube, case):
        case.build(tmp_path / "x.tif")
        before = shape_of(tmp_path)
        scene = Scene(
            id="s",
            layers=(SceneBand(name="a", href=str(tmp_path / "x.tif")),),
            crs=UTM,
            nodata=0,
        )
        refused(case.reading, scene.read, GRID, *whole(GRID))
        never_ingested(new_cube(), scene, case.reading)
        assert shape_of(tmp_path) == before

    @pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
    def test_a_file_that_may_not_be_read_is_refused(self, tmp_path):
        path = Path(write_tiff(tmp_path / "x.tif", hostile.VALUES, nodata=0))
        path.chmod(0)
        refused("cannot be read", catalogs.geotiff, path, bands=["a"])

    def test_a_file_of_the_moon_is_refused_by_a_grid_on_earth(self, tmp_path, new_cube):
        path = write_tiff(tmp_path / "x.tif", hostile.VALUES, nodata=0, crs="IAU_2015:30100")
        scene = catalogs.geotiff(path, bands=["a"])
        refused("its CRS cannot be used: .*celestial body", scene.check, GRID)
        refused("its CRS cannot be used: .*celestial body", scene.read, GRID, *whole(GRID))
        never_ingested(new_cube(), scene, "its CRS cannot be used: ")

    def test_a_strip_of_40_gb_is_not_read_as_one(self, tmp_path, new_cube):
        path = hostile.tiny_tiff(tmp_path / "x.tif", (200_000, 200_000))
        scene = catalogs.geotiff(path, bands=["a"], nodata=0)
        never_ingested(new_cube(), scene, "cannot be read")

    @pytest.mark.parametrize("nodata", [256, -1, 0.5, math.nan, math.inf, 1e300])
    def test_a_nodata_that_the_pixels_cannot_hold_is_refused(self, tmp_path, nodata):
        path = write_tiff(tmp_path / "x.tif", hostile.VALUES)
        match = f"holds uint8, which cannot hold nodata={nodata:g}"
        refused(re.escape(match), catalogs.geotiff, path, bands=["a"], nodata=nodata)

    def test_one_band_where_three_were_named_is_refused(self, tmp_path):
        path = write_tiff(tmp_path / "x.tif", hostile.VALUES, nodata=0)
        refused("has 1 bands; one name for each", catalogs.geotiff, path, bands=["r", "g", "b"])

    @pytest.mark.parametrize("crs", ["EPSG:999999", "nonsense", "", "+proj=x"])
    def test_a_crs_that_nobody_knows_is_refused(self, tmp_path, crs):
        path = write_tiff(tmp_path / "x.tif", hostile.VALUES, nodata=0)
        refused("is no CRS that PROJ knows", catalogs.geotiff, path, bands=["a"], crs=crs)

    @pytest.mark.parametrize(
        "turned", [Affine.rotation(33), Affine.scale(1, -1), Affine.rotation(180), Affine.shear(20)]
    )
    def test_a_turned_file_is_no_error_and_lies_where_it_says(self, tmp_path, turned):
        middle = Affine.translation(LEFT + 750, TOP - 600)
        transform = middle @ turned @ Affine.scale(20, -20) @ Affine.translation(-60, -60)
        source = GeoBox((120, 120), transform, UTM)
        path = write_tiff(tmp_path / "x.tif", positions((120, 120)), grid=source, nodata=-1)
        scene = catalogs.geotiff(path, bands=["a"])
        found = scene.read(GRID, *whole(GRID))[0]
        inside = np.isfinite(found)
        assert inside.mean() > 0.5
        for row, col in np.argwhere(inside)[::7]:
            at = ~transform @ (GRID.transform @ (col + 0.5, row + 0.5))
            assert found[row, col] == 1000 * math.floor(at[1]) + math.floor(at[0])

    def test_a_virtual_raster_of_files_elsewhere_is_refused(self, tmp_path):
        write_tiff(tmp_path / "out.tif", hostile.VALUES, nodata=0)
        folder = tmp_path / "in"
        folder.mkdir()
        (folder / "link.tif").symlink_to(tmp_path / "out.tif")
        for source in (tmp_path / "out.tif", folder / "link.tif", "/vsicurl/http://127.0.0.1:1/a"):
            (folder / "x.vrt").write_text(hostile.mosaic(source, (40, 50)))
            refused("takes pixels from", scenes_from_files, folder, "*.vrt", bands=["a"])

    def test_a_virtual_raster_of_itself_is_refused(self, tmp_path):
        (tmp_path / "x.vrt").write_text(hostile.mosaic(tmp_path / "x.vrt", (40, 50)))
        refused("takes its pixels from itself", scenes_from_files, tmp_path, "*.vrt", bands=["a"])

    @pytest.mark.parametrize(
        "build", [hostile.raw, lambda path: hostile.computed(path, path, (4, 5))]
    )
    def test_a_virtual_raster_that_is_more_than_files_is_refused(self, tmp_path, build):
        path = write_tiff(tmp_path / "a.tif", hostile.VALUES, nodata=0)
        (tmp_path / "x.vrt").write_text(build(path))
        match = "is more than a mosaic|holds XML declarations"
        refused(match, scenes_from_files, tmp_path, "*.vrt", bands=["a"])


class TestNetcdf:
    @pytest.mark.parametrize(
        ("content", "match"),
        [
            (b"", "not recognized"),
            (b"hello", "not recognized"),
            (hostile.PAGE, "not recognized"),
            (b"CDF\x01", "is damaged or truncated"),
            (b"CDF\x02" + bytes(40), "is damaged|no variable|not recognized"),
            (b"CDF\x01" + b"\xff" * 60, "is damaged or truncated"),
            (b"\x89HDF\r\n\x1a\n" + bytes(100), "cannot be read|not recognized"),
        ],
    )
    def test_what_is_none_is_refused(self, tmp_path, content, match):
        (tmp_path / "x.nc").write_bytes(content)
        refused(match, scenes_from_netcdf, tmp_path / "x.nc")

    def test_another_format_by_that_name_is_refused(self, tmp_path):
        write_tiff(tmp_path / "x.nc", hostile.VALUES, nodata=0)
        refused("is a GTiff; expected NetCDF", scenes_from_netcdf, tmp_path / "x.nc")

    @pytest.mark.parametrize("build", [os.mkfifo, Path.mkdir])
    def test_what_is_no_file_is_refused(self, tmp_path, build):
        build(tmp_path / "x.nc")
        refused("There is no file", scenes_from_netcdf, tmp_path / "x.nc")


# ------------------------------------------------------------------------------------------ items
OUTSIDE = Access(resolve=lambda host: ["93.184.216.34"])
PROFILE = Profile(name="one", bands={"a": "red"}, nodata={"*": 0})


class TestItems:
    @pytest.mark.parametrize("case", by_name(hostile.ITEMS))
    def test_an_item_is_refused_and_named(self, case):
        item = hostile.item()
        case.spoil(item)
        refused(case.match, scene_of, item, PROFILE, access=OUTSIDE)

    @pytest.mark.parametrize("case", by_name(hostile.ITEMS))
    def test_among_others_it_is_left_out_with_the_reason(self, case):
        item = hostile.item()
        case.spoil(item)
        with in_time():
            manifest = scenes_of([hostile.item("good"), item], PROFILE, OUTSIDE)
        assert [scene.id for scene in manifest.scenes] == ["good"]
        [(name, reason)] = manifest.excluded.items()
        assert re.search(case.match, reason)
        assert name.isprintable()
        assert reason.isprintable()

    @pytest.mark.parametrize("item", [None, 3, "x", [], {}, {"type": "Feature"}, [hostile.item()]])
    def test_what_is_no_item_is_refused(self, item):
        refused("item|id", scene_of, item, PROFILE, access=OUTSIDE)

    @pytest.mark.parametrize("name", [[], {}, 5, None, "\x1b[2J\n", "x" * 100_000])
    @pytest.mark.parametrize("field", ["bands", "eo:bands"])
    def test_names_of_bands_that_are_none_are_one_short_line(self, field, name):
        item = hostile.item()
        item["assets"]["red"][field] = [{"name": name, "common_name": name}]
        assert len(scenes_of([item], PROFILE, OUTSIDE)) == 1
        named = Profile(name="named", bands={"a": ("red", "red")}, nodata=0)
        [reason] = scenes_of([item], named, OUTSIDE).excluded.values()
        assert "one band 'red' was expected" in reason
        assert reason.isprintable()
        assert len(reason) < 1100

    def test_two_items_of_one_id_are_refused(self):
        items = [hostile.item("a"), hostile.item("a")]
        with pytest.raises(SpecError, match="Ids of a manifest must be unique. .*'a'"):
            scenes_of(items, PROFILE, OUTSIDE)

    @pytest.mark.parametrize("href", hostile.HREFS)
    def test_an_href_that_leads_inside_is_never_opened(self, href):
        item = hostile.item()
        item["assets"]["red"]["href"] = href
        message = refused(
            "asset 'red': .*may not be opened: ", scene_of, item, PROFILE, access=OUTSIDE
        )
        assert "SECRET" not in message

    def test_a_page_for_people_shows_an_id_as_text(self):
        bad = hostile.item("<script>alert(1)</script>")
        del bad["assets"]
        page = scenes_of([hostile.item("<b>"), bad], PROFILE, OUTSIDE)._repr_html_()
        assert "<script" not in page
        assert "<b>" not in page.replace("<b>1", "")


class TestCatalogues:
    """Catalogues in a folder: nothing outside of it is read, and nothing is read for ever."""

    @pytest.fixture
    def folder(self, tmp_path):
        """A folder with a catalogue of one good item, and a secret beside it."""
        write_tiff(tmp_path / "secret.tif", hostile.VALUES, nodata=0)
        folder = tmp_path / "catalogue"
        folder.mkdir()
        write_tiff(folder / "red.tif", hostile.VALUES, nodata=0)
        (tmp_path / "item.json").write_text(json.dumps(hostile.item("outside")))
        return folder

    def write(self, folder, document, name="catalog.json"):
        text = document if isinstance(document, str) else json.dumps(document)
        (folder / name).write_text(text)
        return folder / name

    @pytest.mark.parametrize("case", by_name(hostile.DOCUMENTS))
    def test_a_document_that_is_none_is_refused(self, folder, case):
        path = folder / "catalog.json"
        case.build(path)
        refused(case.match, read_items, path)

    @pytest.mark.parametrize(
        "href", ["../item.json", "{outside}/item.json", "link.json", "http://127.0.0.1:1/item.json",
                 "file:///etc/passwd", "/etc/passwd", "x/../../item.json", "/vsicurl/http://a/b"],
    )  # fmt: skip
    def test_a_link_out_of_the_folder_is_not_followed(self, folder, href):
        (folder / "link.json").symlink_to(folder.parent / "item.json")
        link = {"rel": "item", "href": href.format(outside=folder.parent)}
        path = self.write(folder, hostile.catalogue([link]))
        refused("may not be opened: |only files can be followed", read_items, path)

    def test_links_in_a_circle_end(self, folder):
        links = [{"rel": "child", "href": name} for name in ("catalog.json", "b.json")]
        path = self.write(folder, hostile.catalogue(links))
        self.write(folder, hostile.catalogue([*links, {"rel": "item", "href": "i.json"}]), "b.json")
        self.write(folder, hostile.item("one"), "i.json")
        with in_time():
            assert [item["id"] for item in read_items(path)] == ["one"]

    def test_more_items_than_anybody_wants_are_refused(self, folder):
        features = [hostile.item(str(n)) for n in range(20)]
        path = self.write(folder, {"type": "FeatureCollection", "features": features})
        refused("more than 10 items or files", read_items, path, most=10)

    @pytest.mark.parametrize(
        "href", ["../secret.tif", "{outside}/secret.tif", "link.tif", "/etc/passwd", "//etc/passwd",
                 "x/../../secret.tif", "red.tif/../../secret.tif", "/dev/zero",
                 "/vsigzip//etc/passwd", "GTIFF_DIR:1:/etc/passwd", "netcdf:/etc/passwd:a"],
    )  # fmt: skip
    def test_an_asset_out_of_the_folder_is_not_opened(self, folder, href):
        (folder / "link.tif").symlink_to(folder.parent / "secret.tif")
        item = hostile.item()
        item["assets"]["red"]["href"] = href.format(outside=folder.parent)
        [found] = read_items(self.write(folder, item, "item.json"))
        refused("may not be opened", scene_of, found, PROFILE, access=Access.of_folder(folder))

    @pytest.mark.parametrize(
        "name", ["../../../out", "a/b/../../../../c", "nul", "~", "%2e%2e", "C:"]
    )
    def test_an_id_never_becomes_a_path(self, folder, new_cube, name):
        item = hostile.item(name)
        item["assets"]["red"]["href"] = "red.tif"
        [found] = read_items(self.write(folder, item, "item.json"))
        scene = scene_of(found, PROFILE, access=Access.of_folder(folder))
        url, before = new_cube(), shape_of(folder.parent)
        cube.ingest(url, "predictors", {"2020": scene}, workers=1)
        with cube.open(url) as dataset:
            np.testing.assert_array_equal(dataset.predictors[0, 0], hostile.VALUES)
        beside = {path.name for path in Path(url).parent.iterdir()}
        assert beside <= {Path(url).name, f"{Path(url).name}.reports"}
        assert shape_of(folder.parent) == before

    @pytest.mark.parametrize("name", ["a\nb", "a\x00b", "a\x1b[2J", "x\u202ey", "", " ", "x" * 300])
    def test_an_id_that_cannot_be_shown_is_refused(self, name):
        refused("The id of an item must be", scene_of, hostile.item(name), PROFILE, access=OUTSIDE)

    def test_a_file_that_is_not_what_its_item_says_is_refused_where_it_is_read(
        self, folder, new_cube
    ):
        item = hostile.item()
        item["assets"]["red"] |= {"href": "red.tif", "bands": [{"name": "x"}, {"name": "y"}]}
        two = Profile(name="two", bands={"a": ("red", "y")}, nodata={"*": 0})
        [found] = read_items(self.write(folder, item, "item.json"))
        scene = scene_of(found, two, access=Access.of_folder(folder))
        never_ingested(new_cube(), scene, "band 2 was asked of .*red.tif', which has 1")


class TestIngest:
    def test_one_bad_scene_among_good_ones_costs_nothing_that_was_there(self, tmp_path, new_cube):
        good = write_tiff(tmp_path / "good.tif", hostile.VALUES, nodata=0)
        url = new_cube()
        scene = catalogs.geotiff(good, bands=["a"])
        cube.ingest(url, "predictors", {"2020": scene}, workers=1)
        before = shape_of(url)
        os.truncate(good, 900)
        refused("already holds|truncated|cannot", cube.ingest, url, "predictors",
                {"2020": replace(scene, id="other")}, workers=1)  # fmt: skip
        assert shape_of(url) == before

    def test_a_broken_file_is_named_in_the_report(self, tmp_path, new_cube):
        path = tmp_path / "x.tif"
        path.write_bytes(hostile.PAGE)
        scene = Scene(id="s", layers=(SceneBand(name="a", href=str(path)),), crs=UTM, nodata=0)
        with pytest.raises(IncompleteError, match="1 of 1 regions failed") as caught:
            cube.ingest(new_cube(), "predictors", {"2020": scene}, workers=1)
        [outcome] = caught.value.report.failed
        assert "x.tif' cannot be read: " in outcome.reason
        assert "\n" not in outcome.reason

    def test_what_a_file_says_of_itself_is_no_path(self, tmp_path):
        path = write_tiff(tmp_path / "x.tif", hostile.VALUES, nodata=0)
        with rasterio.open(path, "r+") as target:
            target.set_band_description(1, "../../../out")
            target.update_tags(TIFFTAG_DOCUMENTNAME="../../../out")
        before = shape_of(tmp_path.parent)
        scene = catalogs.geotiff(path, bands=["a"])
        scene.read(GRID, *whole(GRID))
        assert shape_of(tmp_path.parent) == before
