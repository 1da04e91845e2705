"""One set of polygons, whatever kind and number of files it lies in."""

from __future__ import annotations

import shutil
import zipfile

import geopandas as gpd
import pandas as pd
import pytest
import shapely

import cube
from cube.errors import PolygonError, SpecError
from cube.polygons.reading import polygons_digest
from tests.cube.geometry import frame_of, square
from tests.rasters import grid_at

GRID = grid_at((40, 50))


@pytest.fixture
def frame():
    shapes = [square(2 + 5 * i, 3, 4) for i in range(6)]
    return frame_of(shapes, GRID, code=[f"{i:03d}" for i in range(6)], persons=range(6))


def read(path, **kwargs):
    return cube.read_polygons(path, grid=GRID, **kwargs)


def refused(match, path, *, error=PolygonError, **kwargs):
    with pytest.raises(error, match=match) as caught:
        read(path, **kwargs)
    assert "\n" not in str(caught.value)


class TestKinds:
    @pytest.mark.parametrize("suffix", [".fgb", ".gpkg", ".parquet", ".geoparquet", ".geojson"])
    def test_text_keeps_its_zeros_and_rows_their_order(self, frame, tmp_path, suffix):
        path = tmp_path / f"p{suffix}"
        if "parquet" in suffix:
            frame.to_parquet(path)
        elif suffix == ".fgb":
            frame.to_file(path, SPATIAL_INDEX="NO")  # an index sorts the rows
        else:
            frame.to_file(path)
        found = read(path, id="code", counts=["persons"])
        assert found["code"].tolist() == frame["code"].tolist()
        assert polygons_digest(found) == polygons_digest(frame)

    @pytest.mark.parametrize("form", ["{}", "/vsizip/{}", "/vsizip/{}/p.shp", "zip://{}!p.shp"])
    def test_a_zipped_shapefile_is_read_in_any_spelling(self, frame, tmp_path, form):
        frame.to_file(tmp_path / "p.shp")
        with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
            for part in tmp_path.glob("p.*"):
                if part.suffix != ".zip":
                    archive.write(part, part.name)
        found = read(form.format(tmp_path / "p.zip"), id="code")
        assert polygons_digest(found) == polygons_digest(frame)

    def test_geojson_is_in_degrees_without_saying_so(self, frame, tmp_path):
        degrees = frame.to_crs("OGC:CRS84")
        degrees.to_file(tmp_path / "p.geojson", RFC7946="YES")
        found = read(tmp_path / "p.geojson")
        assert found.total_bounds == pytest.approx(frame.total_bounds, abs=0.01)

    def test_of_several_geometry_columns_the_primary_one_counts(self, frame, tmp_path):
        frame["seat"] = frame.geometry.centroid
        frame["outline"] = frame.geometry
        frame.set_geometry("outline").drop(columns="geometry").to_parquet(tmp_path / "p.parquet")
        found = read(tmp_path / "p.parquet")
        assert found.active_geometry_name == "outline"
        assert polygons_digest(found) == polygons_digest(frame)
        refused("geometries are not a polygon", save(frame.set_geometry("seat"), tmp_path))


def save(frame, folder, name="q.parquet"):
    frame.to_parquet(folder / name)
    return folder / name


class TestLayers:
    @pytest.fixture
    def path(self, frame, tmp_path):
        path = tmp_path / "p.gpkg"
        frame.to_file(path, layer="tracts")
        frame.iloc[:2].to_file(path, layer="districts")
        return path

    def test_several_layers_are_refused_by_name_until_one_is_chosen(self, path):
        refused("p.gpkg' holds 2 layers: tracts, districts. Say which with layer=", path)
        assert len(read(path, layer="districts")) == 2
        assert len(read(path, layer="tracts")) == 6

    def test_a_layer_that_is_not_there_is_refused(self, path):
        refused("has no layer 'blocks'. It has: tracts, districts", path, layer="blocks")

    def test_a_table_beside_the_polygons_is_no_second_layer(self, frame, tmp_path):
        import pyogrio

        frame.to_file(tmp_path / "p.gpkg", layer="tracts")
        styles = pd.DataFrame({"style": ["red"]})
        pyogrio.write_dataframe(styles, tmp_path / "p.gpkg", layer="styles", append=True)
        assert len(read(tmp_path / "p.gpkg")) == 6
        refused("a table without geometries", tmp_path / "p.gpkg", layer="styles")

    def test_geoparquet_has_none(self, frame, tmp_path):
        path = save(frame, tmp_path)
        refused("is GeoParquet, which has no layers", path, error=SpecError, layer="tracts")


class TestSets:
    def test_a_folder_of_geoparquet_is_read_in_order_of_name(self, frame, tmp_path):
        folder = tmp_path / "tracts.parquet"
        folder.mkdir()
        save(frame.iloc[4:], folder, "part-2.parquet")
        save(frame.iloc[:2], folder, "part-0.parquet")
        save(frame.iloc[2:4], folder, "part-1.parquet")
        (folder / "_metadata.parquet").write_bytes(b"not data")
        found = read(folder, id="code")
        assert found["code"].tolist() == frame["code"].tolist()
        assert found.index.tolist() == list(range(6))

    def test_a_folder_of_something_else_is_refused(self, tmp_path):
        (tmp_path / "notes.txt").write_text("nothing")
        refused("cannot be read as polygons: ", tmp_path)

    def test_a_file_for_each_state_makes_one_set_in_the_order_given(self, frame, tmp_path):
        north, south = tmp_path / "north.gpkg", tmp_path / "south.parquet"
        frame.iloc[3:].to_file(north)
        frame.iloc[:3].rename_geometry("geom").to_parquet(south)
        found = read([north, str(south)], id="code", counts=["persons"])
        assert found["code"].tolist() == ["003", "004", "005", "000", "001", "002"]
        assert found.crs == GRID.crs.proj

    def test_two_crss_are_refused_by_name(self, frame, tmp_path):
        one = save(frame, tmp_path, "a.parquet")
        other = save(frame.to_crs("EPSG:4674"), tmp_path, "b.parquet")
        refused(
            "a.parquet' is in EPSG:32725 and .*b.parquet' in EPSG:4674; one set of polygons has "
            "one CRS. Bring them into one first, with GeoDataFrame.to_crs",
            [one, other],
        )

    def test_two_spellings_of_one_crs_are_one(self, frame, tmp_path):
        one = save(frame.iloc[:3].to_crs("EPSG:4326"), tmp_path, "a.parquet")
        other = save(frame.iloc[3:].to_crs("OGC:CRS84"), tmp_path, "b.parquet")
        assert len(read([one, other])) == 6

    def test_each_file_must_say_its_crs(self, frame, tmp_path):
        one = save(frame.iloc[:3], tmp_path, "a.parquet")
        other = save(frame.iloc[3:].set_crs(None, allow_override=True), tmp_path, "b.parquet")
        refused("b.parquet' does not say its CRS", [one, other])
        assert len(read([one, other], crs=str(GRID.crs))) == 6

    def test_an_id_that_is_in_two_files_is_refused(self, frame, tmp_path):
        one = save(frame, tmp_path)
        copy = shutil.copy(one, tmp_path / "copy.parquet")
        refused("'code' must hold each id once. 6 appear again: '000', '001'", [one, copy],
                id="code")  # fmt: skip

    def test_no_files_at_all_are_refused(self):
        refused("There are no files of polygons", [])


class TestFrames:
    def test_a_frame_in_memory_gives_what_its_file_gives(self, frame, tmp_path):
        degrees = frame.to_crs("EPSG:4674")
        from_file = read(save(degrees, tmp_path), id="code")
        in_memory = cube.polygons.place_polygons(degrees, grid=GRID, id="code")
        assert from_file.attrs == in_memory.attrs
        assert from_file.geometry.to_wkb().tolist() == in_memory.geometry.to_wkb().tolist()
        pd.testing.assert_frame_equal(
            pd.DataFrame(from_file.drop(columns="geometry")),
            pd.DataFrame(in_memory.drop(columns="geometry")),
        )

    @pytest.mark.parametrize("what", ["blocks.gpkg", {"a": 1}, None, [square(2, 2, 3)]])
    def test_what_is_no_table_is_refused(self, what):
        match = f"A GeoDataFrame of polygons was expected. Received {type(what).__name__}; read fi"
        with pytest.raises(PolygonError, match=match):
            cube.polygons.place_polygons(what, grid=GRID)

    @pytest.mark.parametrize("kind", [pd.DataFrame, gpd.GeoDataFrame])
    def test_a_table_is_refused(self, kind):
        with pytest.raises(PolygonError, match="'blocks' is a table without geometries"):
            cube.polygons.place_polygons(kind({"a": [1]}), grid=GRID, name="blocks")

    def test_the_frame_that_was_given_stays_as_it_was(self, frame):
        degrees = frame.to_crs("EPSG:4674")
        before = degrees.copy()
        placed = cube.polygons.place_polygons(degrees, grid=GRID)
        assert shapely.equals_exact(degrees.geometry, before.geometry).all()
        assert (degrees.crs, degrees.attrs) == (before.crs, {})
        assert placed.attrs.keys() == {"polygon_report"}


class TestBatches:
    def test_a_message_says_where_its_batch_begins(self, frame, tmp_path):
        frame.loc[4, "persons"] = -1
        path = save(frame, tmp_path)
        match = (
            r"^In the batch whose row 0 is row 3 of the set: Column 'persons' .* in row 1: -1\.0"
        )
        with pytest.raises(PolygonError, match=match):
            list(cube.polygon_batches([path], grid=GRID, counts=["persons"], rows=3))

    def test_other_geoparquet_is_refused_in_one_line(self, frame, tmp_path):
        frame.to_parquet(tmp_path / "q.parquet", geometry_encoding="geoarrow")
        with pytest.raises(PolygonError, match="^'[^']*' keeps its geometries as .*only WKB is re"):
            list(cube.polygon_batches(tmp_path / "q.parquet", grid=GRID))

    def test_a_file_without_polygons_is_refused(self, frame, tmp_path):
        path = save(frame.iloc[:0], tmp_path)
        with pytest.raises(PolygonError, match="There are no polygons"):
            list(cube.polygon_batches(path, grid=GRID))

    def test_no_rows_at_all_are_refused_at_once(self, frame, tmp_path):
        with pytest.raises(SpecError, match="one polygon or more. Received rows=0"):
            cube.polygon_batches(save(frame, tmp_path), grid=GRID, rows=0)
