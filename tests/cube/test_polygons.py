"""Polygons are taken as they are or refused in one line; whatever the file, the same polygons."""

from __future__ import annotations

import math
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

import catalogs
import cube
from cube.errors import PolygonError
from cube.polygons import check_counts, check_polygons, polygons_digest
from tests.cube.geometry import frame_of, shapes, square
from tests.rasters import UTM, grid_at, noise, write_tiff

OLINDA = Path(__file__).parents[2] / "examples" / "olinda" / "data"
GRID = grid_at((40, 50))
BOW_TIE = shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)])


@pytest.fixture
def frame():
    """Three squares, one of them with a hole, one of two parts."""
    ring = square(10, 10, 8).difference(square(12, 12, 3))
    parts = shapely.MultiPolygon([square(30, 5, 4), square(40, 5, 4)])
    return frame_of([square(2, 2, 5), ring, parts], GRID, persons=[10, 0, 2259], name=list("abc"))


@pytest.fixture
def saved(frame, tmp_path):
    """Write the frame, changed, in a format; return the path."""

    def save(suffix=".gpkg", frame=frame):
        path = tmp_path / f"p{suffix}"
        if suffix == ".parquet":
            frame.to_parquet(path)
        else:
            frame.to_file(path)
        return path

    return save


def refused(match, path, **kwargs):
    with pytest.raises(PolygonError, match=match) as caught:
        cube.read_polygons(path, grid=GRID, **kwargs)
    assert "\n" not in str(caught.value)


class TestFormats:
    @pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".parquet", ".geojson"])
    def test_every_format_gives_the_same_polygons(self, frame, saved, suffix):
        found = cube.read_polygons(saved(suffix), grid=GRID, counts=["persons"])
        assert found["persons"].tolist() == [10, 0, 2259]
        assert found["name"].tolist() == list("abc")
        assert polygons_digest(found) == polygons_digest(frame)

    def test_geojson_in_degrees_comes_into_the_crs_of_the_grid(self, frame, saved):
        degrees = frame.to_crs("EPSG:4326")
        found = cube.read_polygons(saved(".geojson", degrees), grid=GRID)
        assert found.crs == UTM
        away = shapely.hausdorff_distance(found.geometry.to_numpy(), frame.geometry.to_numpy())
        assert away.max() < 1e-5

    def test_the_order_of_the_file_is_kept(self, frame, saved):
        found = cube.read_polygons(saved(".gpkg", frame.iloc[::-1]), grid=GRID)
        assert found["name"].tolist() == ["c", "b", "a"]

    def test_the_tracts_of_olinda_hold_what_the_census_says(self):
        grid = catalogs.grid_of(OLINDA / "L7_ETMs.tif")
        tracts = cube.read_polygons(
            OLINDA / "olinda1.shp", grid=grid, crs="EPSG:4674", counts=["V014"]
        )
        assert (len(tracts), tracts["V014"].sum()) == (470, 377_779)
        assert tracts.area.sum() / 1e6 == pytest.approx(41.7, abs=0.1)


class TestBadFiles:
    def test_a_missing_file_is_refused(self, tmp_path):
        refused("There is no file .*gone.gpkg", tmp_path / "gone.gpkg")

    @pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".parquet", ".geojson", ".txt"])
    @pytest.mark.parametrize("content", [b"", b"no vectors", b"PAR1"])
    def test_what_is_no_vector_file_is_refused(self, tmp_path, suffix, content):
        path = tmp_path / f"p{suffix}"
        path.write_bytes(content)
        refused("cannot be read as polygons: ", path)

    @pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".geojson"])
    def test_a_truncated_file_is_refused(self, saved, suffix):
        path = saved(suffix)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * 0.6)])
        refused("cannot be read as polygons: ", path)

    def test_a_truncated_shapefile_is_refused(self, saved):
        path = saved(".shp")
        path.write_bytes(path.read_bytes()[:300])
        refused("geometries are missing or empty, the first in row 1", path)

    def test_a_shapefile_without_its_index_is_refused(self, saved):
        path = saved(".shp")
        path.with_suffix(".shx").unlink()
        refused("cannot be read as polygons: .*shx", path)

    def test_a_raster_is_refused(self, tmp_path):
        refused("cannot be read as polygons: ", write_tiff(tmp_path / "r.tif", noise((5, 5))))

    def test_a_table_without_geometries_is_refused(self, frame, tmp_path):
        table = pd.DataFrame(frame.drop(columns="geometry"))
        table.to_csv(tmp_path / "t.csv")
        refused("is a table without geometries; polygons were expected", tmp_path / "t.csv")
        table.to_parquet(tmp_path / "t.parquet")
        refused("cannot be read as polygons: Missing geo metadata", tmp_path / "t.parquet")


class TestCrs:
    @pytest.mark.filterwarnings("ignore:'crs' was not provided")
    def test_a_file_without_a_crs_is_refused_until_it_is_declared(self, frame, saved):
        path = saved(".shp", frame.set_crs(None, allow_override=True))
        refused("does not say its CRS; give crs=, e.g. crs='EPSG:4674'", path)
        assert cube.read_polygons(path, grid=GRID, crs=UTM).crs == UTM

    def test_a_datum_without_a_name_is_refused_until_it_is_declared(self):
        grid = catalogs.grid_of(OLINDA / "L7_ETMs.tif")
        with pytest.raises(PolygonError, match="names no known datum .* say what it is with crs="):
            cube.read_polygons(OLINDA / "olinda1.shp", grid=grid)

    def test_a_declared_crs_replaces_the_files_own(self, frame, saved):
        path = saved(".gpkg", frame.set_crs("EPSG:32724", allow_override=True))
        found = cube.read_polygons(path, grid=GRID, crs=UTM)
        assert found.total_bounds == pytest.approx(frame.total_bounds, abs=1e-6)

    @pytest.mark.parametrize("crs", ["nonsense", "EPSG:999999"])
    def test_a_crs_that_nobody_knows_is_refused(self, saved, crs):
        refused("is no CRS that PROJ knows", saved(), crs=crs)


class TestPlace:
    def test_polygons_elsewhere_are_refused_with_both_extents(self, saved):
        path = saved(".gpkg", frame_of([square(1000, 2, 5), square(2000, 2, 5)], GRID))
        refused(
            r"None of the 2 polygons meets the grid. They cover 320000, 9\.10979e\+06, .*"
            r"the grid covers 290000, 9\.1088e\+06, 291500, 9\.11e\+06",
            path,
        )

    def test_metres_declared_as_degrees_are_refused(self, saved):
        refused("None of the 3 polygons meets the grid", saved(), crs="EPSG:4674")

    def test_one_polygon_on_the_grid_is_enough(self, saved):
        path = saved(".gpkg", frame_of([square(1000, 2, 5), square(2, 2, 5)], GRID))
        assert len(cube.read_polygons(path, grid=GRID)) == 2


class TestGeometries:
    @pytest.mark.parametrize(
        ("shape", "what"),
        [
            (None, "missing or empty"),
            (shapely.Polygon(), "missing or empty"),
            (shapely.Point(3, 3), "not a polygon"),
            (shapely.LineString([(3, 3), (5, 5)]), "not a polygon"),
            (shapely.MultiPoint([(3, 3), (5, 5)]), "not a polygon"),
            (shapely.GeometryCollection([square(1, 1, 3)]), "not a polygon"),
            (BOW_TIE, r"invalid, the first in row 1 \(Self-intersection"),
        ],
    )
    @pytest.mark.parametrize("suffix", [".gpkg", ".parquet"])
    @pytest.mark.filterwarnings("ignore:You are attempting to write an empty DataFrame")
    def test_what_has_no_area_that_means_something_is_refused(self, saved, shape, what, suffix):
        path = saved(suffix, frame_of([square(2, 2, 5), shape, square(9, 9, 5)], GRID))
        refused(f"1 of 3 geometries are {what}.*Repair or drop them first", path)

    def test_no_polygons_at_all_are_refused(self, frame):
        with pytest.raises(PolygonError, match="There are no polygons"):
            check_polygons(frame.iloc[:0])


class TestCounts:
    @pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", "Int64", "Float64"])
    def test_numbers_of_any_kind_are_counts(self, frame, dtype):
        frame["n"] = pd.Series([3, 0, 200], dtype=dtype)
        found = check_counts(frame, "n")
        assert found.dtype == "float64"
        assert found.tolist() == [3, 0, 200]

    @pytest.mark.parametrize(
        ("values", "match"),
        [
            (["3", "0", "9"], "must hold numbers. It holds .*; convert it first"),
            ([3, "0", 9], "must hold numbers. It holds object"),
            ([True, False, True], "must hold numbers. It holds bool"),
            (pd.array([True, False, None], dtype="boolean"), "must hold numbers. It holds boolean"),
            ([3, -1, 9], "must be 0 or more. 1 of 3 values are not, the first in row 1: -1.0"),
            ([3, 0, math.nan], "must be finite. 1 of 3 values are not, the first in row 2: nan"),
            ([3, math.inf, 9], "must be finite. 1 of 3 values are not, the first in row 1: inf"),
            (pd.array([3, None, 9], dtype="Int64"), "must be finite. 1 of 3"),
        ],
    )
    def test_what_is_no_count_is_refused(self, frame, values, match):
        frame["n"] = values
        with pytest.raises(PolygonError, match=f"Column 'n' {match}"):
            check_counts(frame, "n")

    def test_a_missing_column_is_refused_with_those_there_are(self, saved):
        refused("There is no column 'V014'. There are: persons, name, geometry", saved(),
                counts=["persons", "V014"])  # fmt: skip


class TestDigest:
    def test_it_is_12_hex_digits_and_holds_for_a_copy(self, frame):
        assert len(polygons_digest(frame)) == 12
        assert int(polygons_digest(frame), 16) >= 0
        assert polygons_digest(frame) == polygons_digest(frame.copy())

    def test_it_depends_on_geometry_order_and_crs(self, frame):
        moved = frame.copy()
        moved.geometry = moved.translate(1e-3)
        digests = {
            polygons_digest(f)
            for f in (
                frame,
                frame.iloc[::-1],
                frame.iloc[:2],
                moved,
                frame.set_crs("EPSG:31985", allow_override=True),
            )
        }
        assert len(digests) == 5

    def test_columns_and_index_do_not_matter(self, frame):
        other = frame[["geometry"]].set_index(pd.Index([7, 8, 9]))
        assert polygons_digest(other) == polygons_digest(frame)

    @settings(deadline=None, max_examples=30)
    @given(shape=shapes((40, 50)).filter(lambda s: s.geom_type == "Polygon"), data=st.data())
    def test_where_a_ring_starts_and_how_it_turns_does_not_matter(self, shape, data):
        corners = list(shape.exterior.coords)[:-1]
        start = data.draw(st.integers(0, len(corners) - 1))
        turned = corners[start:] + corners[:start]
        if data.draw(st.booleans()):
            turned.reverse()
        other = shapely.Polygon(turned, holes=[list(ring.coords) for ring in shape.interiors])
        one, two = (gpd.GeoDataFrame(geometry=[s], crs=UTM) for s in (shape, other))
        assert polygons_digest(one) == polygons_digest(two)

    def test_the_order_of_the_parts_does_not_matter(self):
        parts = [square(1, 1, 3), square(9, 9, 2)]
        one, two = (
            gpd.GeoDataFrame(geometry=[shapely.MultiPolygon(p)], crs=UTM)
            for p in (parts, parts[::-1])
        )
        assert polygons_digest(one) == polygons_digest(two)

    def test_a_polygon_and_a_multipolygon_of_it_alone_are_the_same(self):
        one, two = (
            gpd.GeoDataFrame(geometry=[shape], crs=UTM)
            for shape in (square(1, 1, 3), shapely.MultiPolygon([square(1, 1, 3)]))
        )
        assert polygons_digest(one) == polygons_digest(two)
