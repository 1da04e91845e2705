"""Sets of polygons that are read some at a time."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

import cube
from cube import polygons
from cube.errors import PolygonError, SpecError
from tests.cube.geometry import frame_of, partition, square
from tests.rasters import grid_at

GRID = grid_at((40, 50))


@pytest.fixture
def frame():
    shapes = [*partition((40, 50), points=20, seed=1), square(500, 500, 3)]
    return frame_of(shapes, GRID, geoid=[f"{i:05}" for i in range(len(shapes))])


@pytest.mark.parametrize("suffix", ["parquet", "gpkg", "shp", "geojson", "fgb"])
@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_they_are_those_that_are_read_at_once(tmp_path, frame, suffix, rows):
    path = tmp_path / f"blocks.{suffix}"
    stored = frame.to_crs("EPSG:4326") if suffix == "geojson" else frame
    stored.to_parquet(path) if suffix == "parquet" else stored.to_file(path)
    whole = cube.read_polygons(path, grid=GRID, id="geoid")
    parts = list(polygons.polygon_batches(path, grid=GRID, id="geoid", rows=rows))
    assert [len(part) for part in parts[:-1]] == [rows] * (len(parts) - 1)
    found = pd.concat(parts, ignore_index=True)
    assert found.geoid.tolist() == whole.geoid.tolist()
    assert found.geometry.geom_equals_exact(whole.geometry, 0).all()
    assert sum(part.attrs["polygon_report"]["outside"] for part in parts) == 1


def test_a_coverage_of_them_is_that_of_the_whole(tmp_path, frame):
    frame.to_parquet(tmp_path / "blocks.parquet")
    layer = cube.LayerSpec(name="persons", dtype="float32", static=True)
    spec = cube.CubeSpec(grid=GRID, calendar=cube.years(2000), layers=(layer,))
    url = cube.create(tmp_path / "c.zarr", spec)
    whole = cube.read_polygons(tmp_path / "blocks.parquet", grid=GRID)
    one = cube.coverage.build(url, "whole", whole, id="geoid")
    batches = polygons.polygon_batches(tmp_path / "blocks.parquet", grid=GRID, rows=6)
    other = cube.coverage.build(url, "parts", batches, id="geoid")
    assert (one.digest, one.ids, one.report) == (other.digest, other.ids, other.report)
    np.testing.assert_array_equal(one.pixels, other.pixels)


def test_a_file_after_the_other_in_another_crs_is_refused(tmp_path, frame):
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_crs("EPSG:4326").to_parquet(tmp_path / "b.parquet")
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    with pytest.raises(PolygonError, match="one set of polygons has one CRS"):
        list(polygons.polygon_batches(paths, grid=GRID))


def test_ids_that_appear_twice_in_two_batches_are_refused(tmp_path, frame):
    twice = pd.concat([frame, frame.iloc[:1]])
    gpd.GeoDataFrame(twice, crs=frame.crs).to_parquet(tmp_path / "a.parquet")
    layer = cube.LayerSpec(name="persons", dtype="float32", static=True)
    spec = cube.CubeSpec(grid=GRID, calendar=cube.years(2000), layers=(layer,))
    url = cube.create(tmp_path / "c.zarr", spec)
    batches = polygons.polygon_batches(tmp_path / "a.parquet", grid=GRID, rows=5)
    with pytest.raises(PolygonError, match="must appear once. 1 appear again: '00000'"):
        cube.coverage.build(url, "blocks", batches, id="geoid")
    with pytest.raises(cube.CubeError, match="has no coverage 'blocks'"):
        cube.coverage.load(url, "blocks")


def test_a_set_of_which_nothing_meets_the_grid_is_refused(tmp_path, frame):
    frame.iloc[-1:].to_parquet(tmp_path / "a.parquet")
    layer = cube.LayerSpec(name="persons", dtype="float32", static=True)
    spec = cube.CubeSpec(grid=GRID, calendar=cube.years(2000), layers=(layer,))
    url = cube.create(tmp_path / "c.zarr", spec)
    batches = polygons.polygon_batches(tmp_path / "a.parquet", grid=GRID, rows=5)
    with pytest.raises(PolygonError, match="None of the 1 polygons meets the grid"):
        cube.coverage.build(url, "blocks", batches)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [(0, SpecError, "one polygon or more"), (5, PolygonError, "There is no file")],
)
def test_what_cannot_be_read_is_refused(tmp_path, rows, error, message):
    with pytest.raises(error, match=message):
        list(polygons.polygon_batches(tmp_path / "none.gpkg", grid=GRID, rows=rows))


def test_a_table_and_a_layer_of_parquet_are_refused(tmp_path, frame):
    table = pyarrow.table({"a": [1]})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(PolygonError, match="is a table without geometries"):
        list(polygons.polygon_batches(tmp_path / "t.parquet", grid=GRID))
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(SpecError, match="GeoParquet, which has no layers"):
        list(polygons.polygon_batches(tmp_path / "a.parquet", grid=GRID, layer="x"))


def test_geometries_of_another_encoding_are_refused_with_the_way_out(tmp_path, frame):
    frame.to_parquet(tmp_path / "a.parquet", geometry_encoding="geoarrow", schema_version="1.1.0")
    with pytest.raises(PolygonError, match="only WKB is read in batches. Read it with"):
        list(polygons.polygon_batches(tmp_path / "a.parquet", grid=GRID))


def test_an_empty_file_is_refused(tmp_path, frame):
    frame.iloc[:0].to_file(tmp_path / "a.gpkg")
    with pytest.raises(PolygonError, match="There are no polygons"):
        list(polygons.polygon_batches(tmp_path / "a.gpkg", grid=GRID))
