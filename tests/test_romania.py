"""The example of Romania: on made files of the same make, and on those that it fetches."""

from __future__ import annotations

import importlib
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyproj
import pytest
import xarray as xr
from matplotlib.colors import to_rgb

import catalogs
import cube
from tests.rasters import grid_at, write_tiff

# A NetCDF file has no place of its own; its variables have.
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

EXAMPLE = Path(__file__).parents[1] / "examples" / "romania"
CORNER = (5_271_980.0, 2_533_000.0)
SIDE = 40
TIMES = np.array(
    [f"{year}-{day}" for year in range(2015, 2021) for day in ("08-01", "09-10", "11-20")]
    + ["2021-01-01"],
    "M8[ns]",
)
HOLE = (slice(4, 6), slice(8, 12))
"""Rows and columns that are never clear in 2016."""


def classes(side, hole, *, seed):
    """Scene classification of every date, of which 0 is the fill value."""
    rng = np.random.default_rng(seed)
    scl = rng.choice(np.array([0, 3, 4, 5, 6, 7, 9, 11], "int16"), (len(TIMES), side, side))
    scl[:, 0, 0] = 4
    scl[(slice(3, 6), *hole)] = 9
    return scl


def write_dates(path, bands, *, pixel_m):
    """(time, y, x) by name as NetCDF whose axes say nothing of what they are."""
    side = bands["SCL"].shape[1]
    centres = pixel_m * (np.arange(side) + 0.5)
    data = xr.Dataset(
        {
            name: (("time", "y", "x"), values, {"grid_mapping": "spatial_ref"})
            for name, values in bands.items()
        },
        coords={"time": TIMES, "y": CORNER[1] - centres, "x": CORNER[0] + centres},
    )
    for name in bands:
        data[name].encoding["_FillValue"] = np.int16(0)
    data["spatial_ref"] = (("one",), np.zeros(1, "int32"), pyproj.CRS(3035).to_cf())
    data["time"].encoding.update(units="days since 2015-08-01 00:00:00", dtype="int32")
    data.to_netcdf(path, engine="scipy")


@pytest.fixture(scope="module")
def bands():
    """What the files hold, by the size of their pixels in metres."""
    rng = np.random.default_rng(0)
    shape = len(TIMES), SIDE, SIDE
    fine = {name: rng.integers(0, 4000, shape, "int16") for name in ("B2", "B3", "B4", "B8")}
    fine["SCL"] = classes(SIDE, HOLE, seed=1)
    half = len(TIMES), SIDE // 2, SIDE // 2
    # The same plane at every date, so that which of them are clear is no matter.
    rows, cols = np.indices(half[1:])
    coarse = {
        "B11": np.broadcast_to(1000 + 40 * cols + 20 * rows, half).astype("int16"),
        "B8A": np.broadcast_to(3000 - 40 * cols + 20 * rows, half).astype("int16"),
        "B3": rng.integers(0, 4000, half, "int16"),
    }
    coarse["SCL"] = np.full(half, 4, "int16")
    coarse["SCL"][3:6, 2:3, 4:6] = 9
    return {10: fine, 20: coarse}


@pytest.fixture(scope="module")
def wheel(bands, tmp_path_factory):
    """An archive as PyPI has it."""
    folder = tmp_path_factory.mktemp("wheel")
    data = folder / "nrt" / "data"
    data.mkdir(parents=True)
    for size, values in bands.items():
        write_dates(data / f"sentinel2_cube_subset_romania_{size}m.nc", values, pixel_m=size)
    grid = grid_at((SIDE // 2, SIDE // 2), pixel_m=20.0, crs="EPSG:3035", corner=CORNER)
    cover = np.tile(np.arange(0, 100, 5, dtype="uint8"), (SIDE // 2, 1))
    write_tiff(data / "tree_cover_density_2018_romania.tif", cover, grid=grid, nodata=255)
    with zipfile.ZipFile(folder / "nrt-0.2.1-py3-none-any.whl", "w") as archive:
        for path in data.iterdir():
            archive.write(path, path.relative_to(folder))
        archive.writestr("nrt/__init__.py", "")
    return folder / "nrt-0.2.1-py3-none-any.whl"


@pytest.fixture(scope="module")
def years():
    """The example as a module."""
    sys.path.insert(0, str(EXAMPLE))
    yield importlib.import_module("years")
    sys.path.remove(str(EXAMPLE))
    for name in ("years", "shown"):
        del sys.modules[name]


@pytest.fixture(scope="module")
def here(years, wheel, tmp_path_factory):
    """Where the example has run on made files."""
    out = tmp_path_factory.mktemp("romania")
    assert years.main(out, wheel=wheel) == 0
    return out


@pytest.fixture(scope="module")
def data(here):
    """The cube that the example filled."""
    return cube.open(here / "cube.zarr").load()


def of_year(values, place):
    """The dates of a year, without the one that is after the last."""
    return values[3 * place : 3 * place + 3]


def test_medians_are_those_of_numpy_and_none_where_nothing_was_clear(data, bands):
    names = {"blue": "B2", "green": "B3", "red": "B4", "nir": "B8"}
    for i in range(6):
        clear = np.isin(of_year(bands[10]["SCL"], i), (4, 5, 6, 7))
        for name, key in names.items():
            stored = of_year(bands[10][key], i)
            known = np.ma.masked_array(stored, ~clear | (stored == 0))
            expected = np.ma.median(known, axis=0).filled(np.nan) * 0.0001
            found = data["predictors"].isel(time=i).sel(band=name)
            np.testing.assert_allclose(found, expected, atol=0.501e-4)
    assert data["predictors"].sel(time="2016")[0, :, *HOLE].isnull().all()


def test_counts_are_of_dates_on_which_every_band_is_clear(data, bands):
    every = np.isin(bands[10]["SCL"], (4, 5, 6, 7))
    for key in ("B2", "B3", "B4", "B8"):
        every &= bands[10][key] != 0
    for i in range(6):
        found = data["clear_observations"].isel(time=i)
        np.testing.assert_array_equal(found, of_year(every, i).sum(axis=0))


def test_coarse_bands_are_interpolated_onto_the_fine_grid(data):
    inner = slice(1, -1)
    rows, cols = ((np.indices((SIDE, SIDE)) + 0.5) / 2 - 0.5)[:, inner, inner]
    planes = {"swir1": 1000 + 40 * cols + 20 * rows, "nir08": 3000 - 40 * cols + 20 * rows}
    for name, expected in planes.items():
        found = data["swir"].sel(swir_band=name)[:, inner, inner]
        assert found.isnull().sum() == 2 * 4  # of what is never clear in 2016
        known = np.broadcast_to(expected, found.shape)[found.notnull()]
        np.testing.assert_allclose(found.values[found.notnull()], known * 0.0001, atol=0.501e-4)


def test_indices_are_of_what_the_cube_holds(data):
    nir, red = (data["predictors"].sel(band=name).values for name in ("nir", "red"))
    swir = data["swir"].sel(swir_band="swir1").values
    for name, other in (("ndvi", red), ("ndmi", swir)):
        found = data["indices"].sel(indices_band=name)
        np.testing.assert_allclose(found, (nir - other) / (nir + other), atol=1e-6)


def test_the_cube_is_sound_and_its_manifests_are_kept(here):
    assert cube.verify(here / "cube.zarr").sound
    for name, first in (("predictors", "blue"), ("swir", "nir08")):
        kept = catalogs.Manifest.load(here / f"{name}.json")
        assert len(kept) == len(TIMES)
        assert kept.scenes[0].bands[0] == first


def test_facts_are_a_line_a_year(years, data):
    lines = list(years.facts(data))
    assert [line[:4] for line in lines] == [str(year) for year in range(2015, 2021)]
    assert lines[1].startswith("2016: 0 to 3 clear dates a pixel, NDVI ")


def test_nodata_is_seen_as_nodata(years, data, here):
    shown = importlib.import_module("shown")
    picture = shown.true_colour(data["predictors"].sel(time="2016").squeeze("time"))
    lost = (picture == to_rgb(shown.NODATA)).all(axis=-1)
    assert lost[HOLE].all()
    assert tuple(shown.shades("viridis")(np.nan))[:3] == to_rgb(shown.NODATA)
    assert (here / "years.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("wrong", [0.0002, np.nan])
def test_a_cube_that_xarray_does_not_agree_with_ends_with_1(
    years, wheel, tmp_path, monkeypatch, wrong
):
    def spoil(url):
        data = cube.open(url).load()
        data["predictors"][5, 0, 0, 0] += wrong
        return data

    opened = type(cube)("cube")
    opened.__dict__.update(cube.__dict__, open=spoil)
    monkeypatch.setattr(years, "cube", opened)
    assert years.main(tmp_path, wheel=wheel) == 1


def test_without_a_wheel_pip_is_asked_for_one_version(years, wheel, tmp_path, monkeypatch):
    asked = []

    def download(command, *, check):
        asked.append([str(part) for part in command])
        (tmp_path / wheel.name).write_bytes(wheel.read_bytes())

    monkeypatch.setattr(subprocess, "run", download)
    years.fetch(tmp_path)
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(tmp_path)]
    assert asked == [[*pip, "nrt==0.2.1"]]
    assert sorted(path.name for path in (tmp_path / "nrt" / "data").iterdir()) == [
        "sentinel2_cube_subset_romania_10m.nc",
        "sentinel2_cube_subset_romania_20m.nc",
        "tree_cover_density_2018_romania.tif",
    ]


@pytest.mark.network
@pytest.mark.slow
def test_six_years_of_romania(years, tmp_path, capsys):
    assert years.main(tmp_path) == 0
    said = capsys.readouterr().out
    assert said.count("140 scenes, 2015-08-01 to 2021-01-01") == 2
    assert said.count("copies among them: none") == 2
    assert "2015: 1 to 2 clear dates a pixel, NDVI 0.86 in forest and 0.83 outside" in said
    assert "2020: 13 to 26 clear dates a pixel, NDVI 0.79 in forest and 0.69 outside" in said
    assert "25 regions: 25 whole, 0 never written, 0 damaged" in said
    assert "largest difference from medians by xarray: 5e-05" in said
