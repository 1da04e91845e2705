"""Every command, end to end, as a person would call it; and how each ends on bad input."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from rasterio.warp import transform_bounds

import catalogs.__main__
import cube
import cube.__main__
import inference.__main__
import training.__main__
from tests import stac_server
from tests.rasters import grid_at, noise, write_tiff

DATA = Path(__file__).parents[1] / "examples" / "olinda" / "data"
IMAGE, DEM, TRACTS = DATA / "L7_ETMs.tif", DATA / "olinda_dem_utm25s.tif", DATA / "olinda1.shp"
BANDS = "blue,green,red,nir,swir1,swir2"


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """A spec as a JSON file."""
    import catalogs as sources

    found = cube.CubeSpec(
        grid=sources.grid_of(IMAGE),
        calendar=cube.years(2000, 2010),
        stacks=(
            cube.StackSpec(name="predictors", bands=BANDS.split(","), dtype="uint8", nodata=0),
        ),
        layers=(
            cube.LayerSpec(name="population", dtype="float64"),
            cube.LayerSpec(name="elevation", dtype="int16", nodata=-99, static=True),
        ),
        layout=cube.LayoutSpec(chunk=64, region=128),
    )
    path = tmp_path_factory.mktemp("spec") / "spec.json"
    path.write_text(json.dumps(found.to_dict()))
    return path


@pytest.fixture(scope="module")
def url(spec, tmp_path_factory):
    """A cube with image and label, all by commands."""
    folder = str(tmp_path_factory.mktemp("cube") / "olinda.zarr")
    assert cube.__main__.main(["create", folder, str(spec)]) == 0
    ingest = ["ingest", folder, "predictors", str(IMAGE), "--bands", BANDS]
    assert catalogs.__main__.main([*ingest, "--time", "2000", "--nodata", "0"]) == 0
    label = ["label", folder, "population", str(TRACTS), "--column", "V014", "--time", "2010"]
    assert cube.__main__.main([*label, "--crs", "EPSG:4674", "--coverage", "tracts"]) == 0
    return folder


def files(folder: str) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


def test_commands_fill_a_cube_that_xarray_opens(url):
    dataset = xr.open_zarr(url)
    assert int((dataset["predictors"].sel(time="2000") > 0).sum()) == 6 * 352 * 349
    assert float(dataset["population"].sum()) == pytest.approx(377_682.0666719991, abs=1e-6)


def test_info_says_what_is_written(url, capsys):
    assert cube.__main__.main(["info", url]) == 0
    text = capsys.readouterr().out
    assert "352 x 349 pixels" in text
    assert "population ('time', 'y', 'x'), float64: 9 of 18 regions written" in text


def test_verify_ends_with_1_where_a_chunk_is_damaged(url, capsys, tmp_path):
    assert cube.__main__.main(["verify", url]) == 0
    copy = shutil.copytree(url, tmp_path / "copy.zarr")
    chunk = copy / "predictors" / "c" / "0" / "0" / "1" / "1"
    raw = bytearray(chunk.read_bytes())
    raw[len(raw) // 2] ^= 1
    chunk.write_bytes(raw)
    assert cube.__main__.main(["verify", str(copy)]) == 1
    assert "predictors 2000, rows 0:128, cols 0:128: damaged" in capsys.readouterr().out


def test_status_says_what_is_done_and_draws_it(url, capsys, tmp_path):
    picture = tmp_path / "status.svg"
    assert cube.__main__.main(["status", url, "--picture", str(picture)]) == 0
    assert "population" in capsys.readouterr().out
    assert picture.read_text().startswith("<svg")


def test_repair_forgets_what_is_damaged_and_the_next_run_redoes_it(url, capsys, tmp_path):
    copy = shutil.copytree(url, tmp_path / "copy.zarr")
    chunk = copy / "predictors" / "c" / "0" / "0" / "1" / "1"
    before = chunk.read_bytes()
    chunk.write_bytes(before[:-7])
    assert cube.__main__.main(["repair", str(copy)]) == 1
    assert "Run again what filled predictors" in capsys.readouterr().out
    scene = catalogs.geotiff(
        IMAGE, bands=("blue", "green", "red", "nir", "swir1", "swir2"), nodata=0
    )
    assert cube.ingest(copy, "predictors", {"2000": scene}).count("done") == 1
    assert chunk.read_bytes() == before
    assert cube.__main__.main(["repair", str(copy)]) == 0
    assert "nothing to repair" in capsys.readouterr().out


def test_append_and_remove_change_what_a_cube_is(url, capsys, tmp_path):
    copy = str(shutil.copytree(url, tmp_path / "copy.zarr"))
    assert cube.__main__.main(["append", copy, "2020", "2020-01-01", "2021-01-01"]) == 0
    assert "periods: 2000, 2010, 2020" in capsys.readouterr().out
    assert cube.__main__.main(["remove", copy, "population"]) == 0
    assert "population" not in capsys.readouterr().out
    assert "population" not in xr.open_zarr(copy)


def test_a_plan_writes_nothing(url, capsys):
    before = files(url)
    command = ["ingest", url, "elevation", str(DEM), "--bands", "elevation", "--nodata", "none"]
    assert catalogs.__main__.main([*command, "--crs", "EPSG:31985", "--plan"]) == 0
    assert "9 regions to write" in capsys.readouterr().out
    assert files(url) == before


def test_collect_writes_a_row_per_polygon(url, tmp_path):
    out = tmp_path / "tracts.csv"
    command = ["collect", url, "population", "tracts", "--time", "2010", "--out", str(out)]
    assert cube.__main__.main(command) == 0
    table = pd.read_csv(out)
    assert len(table) == 470
    assert np.isfinite(table["sum"]).all()


def test_fit_and_predict_go_from_a_cube_to_a_layer(url, tmp_path, capsys):
    pytest.importorskip("keras")
    experiment = {
        "sample": {
            "inputs": [{"stack": "predictors", "bands": ["red", "nir"]}],
            "target": {"layer": "population", "per": "km2", "transform": "log"},
            "label_time": "2010",
            "input_time": "2000",
        },
        "window": {"size": 16, "stride": 16},
        "split": {"coverage": "tracts", "by": "NM_BAIR", "folds": 2, "seed": 0},
        "fit": {"epochs": 1, "refit": False, "seed": 0},
    }
    path = tmp_path / "experiment.json"
    path.write_text(json.dumps(experiment))
    out = tmp_path / "models"
    fit = ["fit", url, str(path), "--polygons", str(TRACTS), "--crs", "EPSG:4674"]
    assert training.__main__.main([*fit, "--out", str(out)]) == 0
    assert "by place: 2 folds" in capsys.readouterr().out
    bundles = [str(out / "fold_0"), str(out / "fold_1")]
    command = ["predict", url, "predicted", *bundles, "--folds", "fold"]
    before = files(url)
    assert inference.__main__.main([*command, "--plan"]) == 0
    assert files(url) == before
    assert inference.__main__.main(command) == 0
    layer = xr.open_zarr(url)["predicted"].sel(time="2010")
    assert float(layer.notnull().mean()) == 1.0
    assert float(layer.min()) > 0


BAD = {
    "no cube": (cube, ["info", "nowhere.zarr"], "There is no cube at"),
    "not a cube": (cube, ["info", str(DATA)], "is not a cube"),
    "unknown scheme": (cube, ["info", "ftp://x/y"], "Received the scheme 'ftp'"),
    "spec missing": (cube, ["create", "{new}", "no.json"], "cannot be read"),
    "another spec": (cube, ["create", "{url}", "{other}"], "another spec lies at"),
    "cube in a file": (cube, ["create", str(IMAGE), "{spec}"], "A file lies at"),
    "file missing": (
        catalogs, ["ingest", "{url}", "predictors", "no.tif", "--bands", BANDS],
        "There is no file"),
    "file truncated": (
        catalogs,
        ["ingest", "{url}", "predictors", "{truncated}", "--bands", BANDS, "--nodata", "0"],
        "is truncated"),
    "band missing": (
        catalogs, ["ingest", "{url}", "predictors", str(IMAGE), "--bands", "red"], "has 6 bands"),
    "nodata missing": (
        catalogs, ["ingest", "{url}", "predictors", str(IMAGE), "--bands", BANDS],
        "declares no nodata"),
    "nodata text": (
        catalogs, ["ingest", "{url}", "predictors", str(IMAGE), "--bands", BANDS, "--nodata", "x"],
        "--nodata must be"),
    "CRS unnamed": (
        catalogs, ["ingest", "{url}", "elevation", str(DEM), "--bands", "elevation",
                   "--nodata", "none"], "names no known datum"),
    "CRS missing": (
        catalogs, ["ingest", "{url}", "elevation", "{no_crs}", "--bands", "elevation",
                   "--nodata", "none"], "does not say its CRS"),
    "scene elsewhere": (
        catalogs, ["ingest", "{url}", "elevation", str(DEM), "--bands", "elevation", "--nodata",
                   "none", "--crs", "EPSG:31984"], "does not meet the grid"),
    "other inputs": (
        catalogs, ["ingest", "{url}", "predictors", str(IMAGE), "--bands", BANDS, "--time", "2000",
                   "--nodata", "0", "--resampling", "cubic"], "made from other inputs"),
    "polygons' datum": (
        cube, ["label", "{url}", "population", str(TRACTS), "--column", "V014", "--time", "2010"],
        "names no known datum"),
    "polygons elsewhere": (
        cube, ["label", "{url}", "population", "{far}", "--column", "n", "--time", "2010"],
        "meets the grid"),
    "polygons invalid": (
        cube, ["label", "{url}", "population", "{bow_tie}", "--column", "n", "--time", "2010"],
        "are invalid"),
    "polygons empty": (
        cube, ["label", "{url}", "population", "{empty}", "--column", "n", "--time", "2010"],
        "missing or empty"),
    "population negative": (
        cube, ["label", "{url}", "population", "{square}", "--column", "minus", "--time", "2010"],
        "must be 0 or more"),
    "population text": (
        cube, ["label", "{url}", "population", "{square}", "--column", "text", "--time", "2010"],
        "must hold numbers"),
    "period unknown": (
        cube, ["label", "{url}", "population", "{square}", "--column", "n", "--time", "1990"],
        "no '1990'"),
    "layer unknown": (
        cube, ["collect", "{url}", "nothing", "tracts", "--out", "{new}"], "no variable 'nothing'"),
    "coverage unknown": (
        cube, ["collect", "{url}", "population", "nobody", "--out", "{new}"], "no coverage"),
    "scan without a folder": (
        catalogs, ["scan", "nowhere", "*.tif", "--out", "{new}.json"], "There is no folder"),
    "scan without a match": (
        catalogs, ["scan", str(DATA), "*.jp2", "--out", "{new}.json"], "No file below"),
    "pairs of bands": (
        catalogs, ["scan", str(DATA), "*.tif", "--bands", "4=red,nir", "--out", "{new}.json"],
        "--bands must be names, or pairs such as B4=red,B8=nir, once each. Received '4=red,nir'"),
    "a band twice": (
        catalogs, ["scan", str(DATA), "*.tif", "--bands", "4=red,4=nir", "--out", "{new}.json"],
        "--bands must be names, or pairs"),
    "no manifest's name": (
        catalogs, ["scan", str(DATA), "L7*.tif", "--bands", BANDS, "--nodata", "0", "--out",
                   "{new}.txt"], "A manifest is a .json or a .json.gz file"),
    "NetCDF missing": (
        catalogs, ["netcdf", "no.nc", "--out", "{new}.json"], "There is no file 'no.nc'"),
    "items missing": (
        catalogs, ["items", "no.json", "--profile", "landsat-c2-l2", "--out", "{new}.json"],
        "cannot be read"),
    "profile unknown": (
        catalogs, ["items", "no.json", "--profile", "landsat", "--out", "{new}.json"],
        "--profile must be one of landsat-c2-l2, sentinel2-l2a-earth-search, "
        "sentinel2-l2a-planetary. Received 'landsat'."),
    "no API": (
        catalogs, ["search", "ftp://x", "--collection", "c", "--profile", "landsat-c2-l2",
                   "--bbox=0,0,1,1", "--datetime", "2018", "--out", "{new}.json"],
        "The URL of an API"),
    "no box": (
        catalogs, ["search", "http://127.0.0.1:9", "--collection", "c", "--profile",
                   "landsat-c2-l2", "--bbox=a,b", "--datetime", "2018", "--out", "{new}.json"],
        "--bbox must be numbers with commas. Received 'a,b'."),
    "scene unknown": (
        catalogs, ["exclude", "{manifest}", "L7_ETM", "clouds"], "Did you mean L7_ETMs?"),
    "manifest missing": (
        catalogs, ["duplicates", "no.json"], "cannot be read"),
    "manifest of something else": (
        catalogs, ["fill", "{url}", "predictors", "{spec}"], "is no manifest"),
    "quality unknown": (
        catalogs, ["fill", "{url}", "predictors", "{manifest}", "--quality", "scl"],
        "--quality must be one of landsat-c1-sr, landsat-c2, sentinel2-scl, sentinel2-scl-snow. "
        "Received 'scl'."),
    "season of one day": (
        catalogs, ["fill", "{url}", "predictors", "{manifest}", "--season", "06-01"],
        "--season must be two days, e.g. 06-01..09-15. Received '06-01'."),
    "season of no days": (
        catalogs, ["fill", "{url}", "predictors", "{manifest}", "--season", "06-01..13-01"],
        "Season: last must be a day"),
    "period to fill unknown": (
        catalogs, ["fill", "{url}", "predictors", "{manifest}", "--times", "1990"], "no '1990'"),
    "period without scenes": (
        catalogs, ["fill", "{url}", "predictors", "{manifest}"], "There are no scenes for '2010'"),
    "method unknown": (
        catalogs, ["fill", "{url}", "predictors", "{manifest}", "--times", "2000", "--method",
                   "mode"], "method is one of median"),
    "static, of scenes": (
        catalogs, ["fill", "{url}", "elevation", "{manifest}", "--times", "2000", "--bands",
                   "red"], "'elevation' has no time dimension"),
    "bundle missing": (
        inference, ["predict", "{url}", "p", "nowhere"], "no model bundle"),
    "experiment missing": (
        training, ["fit", "{url}", "no.json", "--polygons", str(TRACTS), "--out", "{new}"],
        "cannot be read"),
}  # fmt: skip


@pytest.fixture(scope="module")
def bad(tmp_path_factory, url, spec):
    """Places and files for bad input, by name."""
    import geopandas as gpd
    import rasterio
    import shapely

    folder = tmp_path_factory.mktemp("bad")
    (folder / "truncated.tif").write_bytes(IMAGE.read_bytes()[:400_000])
    with rasterio.open(DEM) as source:
        profile = {k: v for k, v in source.profile.items() if k != "crs"}
        with rasterio.open(folder / "no_crs.tif", "w", **profile) as copy:
            copy.write(source.read())
    other = json.loads(spec.read_text()) | {"title": "another"}
    (folder / "other.json").write_text(json.dumps(other))
    left, bottom = 290_000, 9_112_000
    shapes = {
        "square": shapely.box(left, bottom, left + 500, bottom + 500),
        "far": shapely.box(0, 0, 10, 10),
        "bow_tie": shapely.Polygon(
            [(left, bottom), (left + 9, bottom + 9), (left + 9, bottom), (left, bottom + 9)]
        ),
        "empty": shapely.Polygon(),
    }
    for name, shape in shapes.items():
        frame = gpd.GeoDataFrame(
            {"n": [1.0], "minus": [-1.0], "text": ["many"]}, geometry=[shape], crs="EPSG:31985"
        )
        frame.to_parquet(folder / f"{name}.parquet")
    scene = catalogs.geotiff(IMAGE, bands=BANDS.split(","), nodata=0, time="2000-06-01")
    catalogs.Manifest(scenes=(scene,)).save(folder / "manifest.json")
    return {
        "url": url,
        "spec": str(spec),
        "new": str(folder / "new"),
        "other": str(folder / "other.json"),
        "truncated": str(folder / "truncated.tif"),
        "no_crs": str(folder / "no_crs.tif"),
        "manifest": str(folder / "manifest.json"),
        **{name: str(folder / f"{name}.parquet") for name in shapes},
    }


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_with_2_and_one_line_and_leaves_the_cube_as_it_was(case, bad, url, capsys):
    package, arguments, message = BAD[case]
    before = files(url)
    assert package.__main__.main([text.format(**bad) for text in arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert len(said.splitlines()) == 1
    assert files(url) == before


# ------------------------------------------------------------------------------ scenes to a stack
GRID = grid_at((40, 50))
DATES = ("2018-05-01", "2018-06-01", "2018-07-01", "2019-06-15")
RED, NIR = noise((2, 4, *GRID.shape), seed=1, dtype="int16")
SCL = np.random.default_rng(2).choice(np.array([0, 4, 5, 9], "uint8"), (4, *GRID.shape))


def run(*arguments: object) -> None:
    assert catalogs.__main__.main([str(argument) for argument in arguments]) == 0


def clear_median(red_or_nir, scl, dates=slice(None)):
    """By NumPy, NaN where nothing was clear; half a number is rounded to an even one."""
    clear = np.isin(scl[dates], (4, 5, 6, 7))
    values = np.ma.masked_array(red_or_nir[dates], ~clear)
    return np.round(np.ma.median(values, axis=0).filled(np.nan))


@pytest.fixture
def small(tmp_path):
    """An empty cube of 2018 and 2019."""
    spec = cube.CubeSpec(
        grid=GRID,
        calendar=cube.years(2018, 2019),
        stacks=(cube.StackSpec(name="predictors", bands=("red", "nir"), dtype="int16", nodata=-1),),
        layers=(cube.LayerSpec(name="nir", dtype="int16", nodata=-1),),
    )
    return str(cube.create(tmp_path / "small.zarr", spec))


@pytest.fixture
def folder(tmp_path):
    """Three files a date, and one without the others."""
    folder = tmp_path / "files"
    folder.mkdir()
    for i, date in enumerate(DATES):
        for name, values in (("B4", RED), ("B8", NIR), ("SCL", SCL)):
            write_tiff(folder / f"{date}_{name}.tif", values[i], nodata=0)
    write_tiff(folder / "2018-08-01_B4.tif", RED[0], nodata=0)
    return folder


SCAN = ("--bands", "B4=red,B8=nir,SCL=scl", "--quality", "scl")


@pytest.fixture
def manifest(folder, tmp_path):
    """Scenes of the folder."""
    path = tmp_path / "scenes.json"
    run("scan", folder, "{date}_{band}.tif", *SCAN, "--out", path)
    return path


def test_scan_writes_the_scenes_of_a_folder_and_says_what_it_left_out(folder, tmp_path, capsys):
    out = tmp_path / "scenes.json"
    run("scan", folder, "{date}_{band}.tif", *SCAN, "--title", "noise", "--out", out)
    said = capsys.readouterr().out.splitlines()
    kept = catalogs.Manifest.load(out)
    assert (len(kept), kept.title, kept.scenes[0].bands) == (4, "noise", ("red", "nir", "scl"))
    assert said == [
        f"{out}: 4 scenes",
        "span: 2018-05-01T00:00:00Z to 2019-06-15T00:00:00Z",
        "excluded: 1",
        "  2018-08-01: It has no file of band nir, scl; there is 2018-08-01_B4.tif.",
        f"digest: {kept.digest}",
    ]


def test_scan_takes_a_list_of_bands_and_how_they_are_packed(folder, tmp_path):
    out = tmp_path / "scenes.json"
    options = ("--nodata", "7", "--scale", "0.5", "--offset=-1", "--crs", "EPSG:32724")
    run("scan", folder, "{date}_{band}.tif", "--bands", "B8,B4", *options, "--resampling",
        "cubic", "--out", out)  # fmt: skip
    scene = catalogs.Manifest.load(out).scenes[0]
    band = scene.band("B4")
    assert scene.bands == ("B8", "B4")
    assert (band.nodata, band.scale, band.offset, band.resampling) == (7, 0.5, -1, "cubic")
    assert scene.crs == "EPSG:32724"


def test_scenes_without_a_time_are_said_to_have_none(tmp_path, capsys):
    write_tiff(tmp_path / "a.tif", RED[0], nodata=0)
    run("scan", tmp_path, "{name}.tif", "--bands", "red", "--out", tmp_path / "scenes.json")
    assert "span: none, no scene says its time" in capsys.readouterr().out.splitlines()


def test_no_more_than_twenty_excluded_scenes_are_listed(tmp_path, capsys):
    for day in range(1, 26):
        write_tiff(tmp_path / f"2018-01-{day:02d}_a.tif", RED[0, :4, :4], nodata=0)
    write_tiff(tmp_path / "2018-01-25_b.tif", RED[0, :4, :4], nodata=0)
    run("scan", tmp_path, "{date}_{band}.tif", "--out", tmp_path / "scenes.json")
    said = capsys.readouterr().out.splitlines()
    assert said[2] == "excluded: 24"
    assert said[-2] == "  and 4 more"
    assert len(said) == 3 + 20 + 2


def test_netcdf_writes_a_scene_for_every_time(tmp_path, capsys):
    bounds = GRID.extent.boundingbox
    data = xr.Dataset(
        {name: (("time", "y", "x"), values) for name, values in (("B4", RED), ("B8", NIR))},
        coords={
            "time": np.array(DATES, "M8[ns]"),
            "y": bounds.top - 15 - 30.0 * np.arange(GRID.shape[0]),
            "x": bounds.left + 15 + 30.0 * np.arange(GRID.shape[1]),
        },
    )
    data["time"].encoding.update(units="days since 2018-01-01", dtype="int32")
    data.to_netcdf(tmp_path / "noise.nc", engine="scipy")
    out = tmp_path / "scenes.json.gz"
    run("netcdf", tmp_path / "noise.nc", "--bands", "B8=nir,B4=red", "--nodata", "0", "--crs",
        GRID.crs, "--out", out)  # fmt: skip
    kept = catalogs.Manifest.load(out)
    assert [scene.time[:10] for scene in kept.scenes] == list(DATES)
    assert kept.scenes[0].bands == ("nir", "red")
    assert "excluded: 0" in capsys.readouterr().out


def test_fill_makes_medians_of_what_was_clear_in_each_period(manifest, small, capsys):
    run("fill", small, "predictors", manifest, "--quality", "sentinel2-scl", "--workers", "1")
    assert "ingest predictors: 2 done" in capsys.readouterr().out
    found = cube.open(small)["predictors"]
    for time, dates in (("2018", slice(0, 3)), ("2019", slice(3, 4))):
        for name, values in (("red", RED), ("nir", NIR)):
            expected = clear_median(values, SCL, dates)
            np.testing.assert_array_equal(found.sel(time=time, band=name)[0], expected)
    assert cube.verify(small, variables=("predictors",)).sound


def test_fill_takes_bands_method_season_and_periods(manifest, small):
    run("fill", small, "nir", manifest, "--bands", "nir", "--method", "last", "--season",
        "05-15..06-30", "--times", "2018")  # fmt: skip
    layer = cube.open(small)["nir"]
    np.testing.assert_array_equal(layer.sel(time="2018")[0], NIR[1])
    assert layer.sel(time="2019").isnull().all()


def test_a_plan_of_a_fill_writes_nothing(manifest, small, capsys):
    before = files(small)
    run("fill", small, "predictors", manifest, "--quality", "sentinel2-scl", "--plan")
    assert "2 regions to write" in capsys.readouterr().out
    assert files(small) == before


def test_exclude_takes_a_scene_out_and_changes_the_digest(manifest, small, capsys):
    before = catalogs.Manifest.load(manifest)
    capsys.readouterr()
    run("exclude", manifest, "2018-06-01", "haze")
    after = catalogs.Manifest.load(manifest)
    assert after == before.exclude({"2018-06-01": "haze"})
    assert capsys.readouterr().out.splitlines() == [
        f"digest before: {before.digest}",
        f"digest: {after.digest}",
    ]
    run("fill", small, "predictors", manifest, "--times", "2018", "--method", "last")
    assert catalogs.__main__.main(["fill", small, "predictors", str(manifest)]) == 2
    assert "made from other inputs" in capsys.readouterr().err


def test_duplicates_are_listed_and_left_out_of_another_manifest(folder, tmp_path, capsys):
    for name, values in (("B4", RED), ("B8", NIR), ("SCL", SCL)):
        write_tiff(folder / f"2019-01-01_{name}.tif", values[1], nodata=0)
    path, out = tmp_path / "all.json", tmp_path / "some.json"
    run("scan", folder, "{date}_{band}.tif", *SCAN, "--out", path)
    capsys.readouterr()
    run("duplicates", path)
    listed = ["1 of 5 scenes are copies", "2019-01-01: same pixels as 2018-06-01"]
    assert capsys.readouterr().out.splitlines() == listed
    run("duplicates", path, "--out", out)
    kept = catalogs.Manifest.load(out)
    assert kept == catalogs.without_duplicates(catalogs.Manifest.load(path))
    last = f"{out}: 4 scenes, digest {kept.digest}"
    assert capsys.readouterr().out.splitlines() == [*listed, last]


LANDSAT = ("blue", "green", "red", "nir08", "swir16", "swir22", "qa_pixel")


DEGREES = transform_bounds(str(GRID.crs), "EPSG:4326", *GRID.boundingbox.bbox)


def landsat_item(date, base):
    """A STAC item of Landsat whose assets lie below a URL or folder."""
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": date,
        "collection": "landsat-c2-l2",
        "geometry": None,
        "bbox": list(DEGREES),
        "properties": {
            "datetime": f"{date}T10:30:00Z",
            "proj:epsg": GRID.crs.to_epsg(),
            "proj:shape": list(GRID.shape),
            "proj:transform": list(GRID.transform)[:6],
        },
        "links": [],
        "assets": {key: {"href": f"{base}/{date}_{key}.tif"} for key in LANDSAT},
    }


def test_items_of_a_local_catalogue_fill_a_cube(tmp_path, small, capsys):
    stored, flags = RED.astype("uint16") * 100 + 10_000, np.where(SCL == 9, 8, 64).astype("uint16")
    for i, date in enumerate(DATES):
        for key in LANDSAT:
            values = flags if key == "qa_pixel" else stored
            write_tiff(tmp_path / f"{date}_{key}.tif", values[i])
    items = [landsat_item(date, ".") for date in DATES]
    path, out = tmp_path / "items.json", tmp_path / "scenes.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    run("items", path, "--profile", "landsat-c2-l2", "--out", out)
    assert "4 scenes" in capsys.readouterr().out
    cube.add(small, cube.StackSpec(name="reflectance", bands=("red",), dtype="float32"))
    run("fill", small, "reflectance", out, "--quality", "landsat-c2", "--times", "2018")
    clear = np.ma.masked_array(stored[:3], SCL[:3] == 9)
    expected = np.ma.median(clear, axis=0).filled(np.nan) * 0.0000275 - 0.2
    found = cube.open(small)["reflectance"].sel(time="2018")[0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_search_asks_for_what_was_said_and_keeps_what_was_found(tmp_path, small, capsys):
    out = tmp_path / "scenes.json"
    arguments = ("--collection", "landsat-c2-l2", "more", "--profile", "landsat-c2-l2",
                 "--datetime", "2018-05-01/2018-08-30", "--out", out)  # fmt: skip
    lost = landsat_item("2018-09-01", "file:///etc")
    # An address of nobody: no name has to be looked up.
    found = [landsat_item(date, "https://93.184.216.34") for date in DATES]
    with stac_server.serve([*found, lost]) as api:
        run("search", api.url, *arguments, "--cube", small, "--max-cloud", "60")
        run("search", api.url, *arguments, "--bbox=-180,-10,0,0")
    by_cube, by_box = api.searches
    assert by_cube["collections"] == ["landsat-c2-l2", "more"]
    assert by_cube["query"] == {"eo:cloud_cover": {"lte": 60.0}}
    assert by_cube["datetime"] == "2018-05-01T00:00:00Z/2018-08-30T23:59:59Z"
    np.testing.assert_allclose(by_cube["bbox"], DEGREES, atol=1e-5)
    assert by_box["bbox"] == [-180, -10, 0, 0]
    assert "query" not in by_box
    kept = catalogs.Manifest.load(out)
    assert (len(kept), list(kept.excluded), kept.through) == (4, ["2018-09-01"], "stackstac")
    assert "  2018-09-01: Item '2018-09-01', asset" in capsys.readouterr().out


FULL = """
import resource, sys
import catalogs.__main__
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.exit(catalogs.__main__.main(sys.argv[1:]))
"""


def test_a_disk_that_fills_up_in_the_middle_ends_with_one_line_and_can_be_resumed(
    spec, tmp_path, capsys
):
    url = str(tmp_path / "cube.zarr")
    cube.__main__.main(["create", url, str(spec)])
    ingest = ["ingest", url, "predictors", str(IMAGE), "--bands", BANDS]
    ingest += ["--time", "2000", "--nodata", "0"]
    child = subprocess.run(
        [sys.executable, "-c", FULL, *ingest], capture_output=True, text=True, check=False
    )
    assert child.returncode == 2, child.stderr
    last = child.stderr.strip().splitlines()[-1]
    assert last.startswith("error: Cannot write to")
    assert "run again" in last
    assert not list(Path(url).rglob("*.partial"))
    assert not cube.verify(url).damaged
    assert catalogs.__main__.main(ingest) == 0
    assert len(cube.verify(url, variables=("predictors",)).of("whole")) == 9
