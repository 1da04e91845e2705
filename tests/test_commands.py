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

import catalogs.__main__
import cube
import cube.__main__
import inference.__main__
import training.__main__

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
    return {
        "url": url,
        "spec": str(spec),
        "new": str(folder / "new"),
        "other": str(folder / "other.json"),
        "truncated": str(folder / "truncated.tif"),
        "no_crs": str(folder / "no_crs.tif"),
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
