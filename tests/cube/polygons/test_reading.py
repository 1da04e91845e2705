"""Polygons are taken as they are or refused in one line; whatever the file, the same polygons."""

from __future__ import annotations

import math
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

import catalogs
import cube
from cube.errors import PolygonError, SpecError
from cube.polygons import placing
from cube.polygons import report as polygon_report
from cube.polygons.columns import check_counts, check_ids
from cube.polygons.found import off_grid
from cube.polygons.reading import (
    check_polygons,
    later_copies,
    place_polygons,
    polygons_digest,
)
from cube.polygons.validity import check_area
from tests.cube.geometry import frame_of, shapes, square
from tests.rasters import UTM, grid_at, noise, write_tiff

OLINDA = Path(__file__).parents[3] / "examples" / "olinda" / "data"
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

    @pytest.mark.parametrize("name", ["My_Local_1932", "D_User_Defined", "D_unknown"])
    def test_a_datum_that_nobody_knows_is_refused_whatever_its_name(self, frame, name):
        crs = (
            f'GEOGCS["mine",DATUM["{name}",SPHEROID["GRS_1980",6378137.0,298.257222101]],'
            f'PRIMEM["Greenwich",0.0],UNIT["Degree",0.0174532925199433]]'
        )
        strange = frame.to_crs("EPSG:4674").set_crs(crs, allow_override=True)
        with pytest.raises(PolygonError, match=r"names no known datum \('mine'\)"):
            place_polygons(strange, grid=GRID)
        assert len(place_polygons(strange, grid=GRID, crs="EPSG:4674")) == 3

    @pytest.mark.parametrize("name", ["D_SIRGAS_2000", "WGS_1984", "D_South_American_1969"])
    def test_a_datum_that_is_known_by_another_name_is_known(self, name):
        crs = pyproj.CRS(
            f'GEOGCS["mine",DATUM["{name}",SPHEROID["any",6378137.0,298.257222101]],'
            f'PRIMEM["Greenwich",0.0],UNIT["Degree",0.0174532925199433]]'
        )
        assert cube.polygons.datum_is_known(crs)

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

    def test_a_polygon_that_only_touches_the_grid_does_not_meet_it(self, saved):
        refused("None of the 1 polygons", saved(".gpkg", frame_of([square(-5, 0, 5)], GRID)))

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


def nowhere(y):
    with np.errstate(invalid="ignore"):
        return shapely.Polygon([(0, 0), (4, y), (8, 8)])


class TestRepair:
    """Invalid rings are refused unless repair=True, and then counted."""

    def placed(self, *found, **kwargs):
        return place_polygons(frame_of(found, GRID), grid=GRID, repair=True, **kwargs)

    def test_a_bow_tie_becomes_two_triangles(self):
        found = self.placed(square(20, 20, 8), BOW_TIE)
        assert shapely.is_valid(found.geometry.to_numpy()).all()
        assert shapely.area(found.geometry.iloc[1]) == pytest.approx(8 * 900)
        report = polygon_report.of(found)
        assert (report.polygons, report.repaired) == (2, 1)
        assert report.repaired_area_share == pytest.approx(8 / (64 + 8))

    def test_valid_ones_stay_as_they_are_to_the_bit(self):
        frame = frame_of([square(2.1, 3.7, 5), BOW_TIE, square(20.3, 3, 5)], GRID)
        found = place_polygons(frame, grid=GRID, repair=True)
        for row in (0, 2):
            assert found.geometry.iloc[row].wkb == frame.geometry.iloc[row].wkb

    def test_halves_that_share_an_edge_are_merged(self):
        ring = shapely.Polygon([(0, 0), (1, 0), (1, 1), (2, 0), (1, 0), (1, 1)])
        found = self.placed(ring)
        check_polygons(found)
        assert shapely.area(found.geometry.iloc[0]) == pytest.approx(900)

    def test_parts_that_overlap_are_merged(self):
        parts = shapely.MultiPolygon([square(2, 2, 4), square(4, 2, 4)])
        found = self.placed(parts)
        assert shapely.area(found.geometry.iloc[0]) == pytest.approx(24 * 900)
        assert polygon_report.of(found).repaired_area_share == pytest.approx(8 / 24)

    def test_polygons_are_taken_out_of_collections(self):
        line, point = shapely.LineString([(0, 0), (9, 9)]), shapely.Point(3, 3)
        nested = shapely.GeometryCollection([line, shapely.GeometryCollection([square(1, 1, 3)])])
        two = shapely.GeometryCollection([square(10, 1, 3), point, square(20, 1, 3)])
        found = self.placed(nested, two)
        assert [s.geom_type for s in found.geometry] == ["Polygon", "MultiPolygon"]
        assert (shapely.area(found.geometry.to_numpy()) / 900).tolist() == [9, 18]
        assert polygon_report.of(found).repaired == 2

    @pytest.mark.parametrize(
        ("shape", "match"),
        [
            (None, "1 of 2 geometries are missing or empty, the first in row 1"),
            (shapely.Point(3, 3), "1 of 2 geometries are not a polygon, the first in row 1"),
            (shapely.GeometryCollection([shapely.Point(3, 3)]), "1 of 2 geometries are not a poly"),
            (shapely.Polygon([(0, 0), (4, 4), (8, 8)]), "leaves nothing of 1 .* in row 1.* Drop"),
            (nowhere(math.nan), "1 of 2 .* coordinates that are not finite, .* row 1"),
            (nowhere(math.inf), "1 of 2 .* coordinates that are not finite, .* row 1"),
        ],
    )
    def test_what_has_no_area_cannot_be_mended(self, shape, match):
        with pytest.raises(PolygonError, match=match):
            self.placed(square(2, 2, 5), shape)

    def test_a_polygon_that_vanishes_is_refused_with_its_row(self):
        with pytest.raises(PolygonError, match="1 of 2 polygons have no area, the first in row 1"):
            check_area(np.array([square(2, 2, 5), shapely.Polygon()]))

    @settings(deadline=None, max_examples=40)
    @given(corners=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=4))
    def test_any_ring_becomes_valid_or_is_refused(self, corners):
        frame = frame_of([shapely.Polygon(corners)], GRID)
        try:
            found = place_polygons(frame, grid=GRID, repair=True)
        except PolygonError as error:
            assert "leaves nothing" in str(error)  # noqa: PT017
            return
        check_polygons(found)
        assert set(found.geom_type) <= {"Polygon", "MultiPolygon"}
        assert polygon_report.of(found).repaired == int(not frame.is_valid.iloc[0])

    def test_what_becomes_invalid_on_the_way_is_refused_or_mended(self, monkeypatch):
        place = placing.place

        def bent(shapes, *args):
            out = place(shapes, *args).shapes.copy()
            out[1] = frame_of([BOW_TIE], GRID).geometry.iloc[0]
            return placing.Placed(shapes=out, **dict.fromkeys(("crossing", "densified"), NONE))

        monkeypatch.setattr(placing, "place", bent)
        frame = frame_of([square(2, 2, 5), square(9, 9, 5)], GRID)
        with pytest.raises(PolygonError, match="are invalid in the grid's CRS, the first in row 1"):
            place_polygons(frame, grid=GRID)
        assert polygon_report.of(place_polygons(frame, grid=GRID, repair=True)).repaired == 1


NONE = np.zeros(2, bool)


class TestDuplicates:
    A, B = square(2, 2, 5), square(9, 9, 5)
    TURNED = shapely.MultiPolygon([shapely.Polygon(shapely.box(2, 2, 7, 7).exterior.coords[::-1])])

    def placed(self, *found, **kwargs):
        frame = frame_of(found, GRID, n=range(len(found)))
        return place_polygons(frame, grid=GRID, **kwargs)

    def test_they_are_counted_and_kept(self):
        found = self.placed(self.A, self.B, self.TURNED, self.A)
        report = polygon_report.of(found)
        assert (len(found), report.duplicates, report.dropped) == (4, 2, 0)

    def test_the_first_alone_may_be_kept(self):
        found = self.placed(self.A, self.B, self.TURNED, self.A, duplicates="first")
        report = polygon_report.of(found)
        assert found["n"].tolist() == [0, 1]
        assert (report.polygons, report.duplicates, report.dropped) == (2, 2, 2)

    def test_they_may_be_refused(self):
        with pytest.raises(PolygonError, match="2 of 4 polygons equal an earlier one.* in row 2"):
            self.placed(self.A, self.B, self.TURNED, self.A, duplicates="refuse")
        assert len(self.placed(self.A, self.B, duplicates="refuse")) == 2

    def test_another_word_is_refused(self):
        with pytest.raises(SpecError, match="one of keep, first, refuse. Received 'last'"):
            self.placed(self.A, duplicates="last")

    @settings(deadline=None, max_examples=30)
    @given(picks=st.lists(st.integers(0, 4), max_size=12))
    def test_equal_extents_alone_make_no_copy(self, picks):
        kinds = [self.A, self.B, self.TURNED, shapely.Polygon([(2, 2), (7, 2), (7, 7)]),
                 shapely.Polygon([(2, 2), (2, 7), (7, 7)])]  # fmt: skip
        same = [0, 1, 0, 3, 4]  # TURNED is A
        expected = [same[p] in [same[q] for q in picks[:i]] for i, p in enumerate(picks)]
        assert later_copies(np.array([kinds[p] for p in picks], object)).tolist() == expected


class TestIds:
    def check(self, values):
        check_ids(pd.DataFrame({"id": values}), "id")

    @pytest.mark.parametrize(
        "values",
        [
            ["01", "1", "001"],
            [3, 1, 2],
            pd.array([3, 1, 2], dtype="Int64"),
            pd.Categorical(["a", "b"]),
            pd.Categorical([2, 1]),
            np.array([2, 1], object),
            pd.array(["a", "b"], dtype="string"),
            np.array([1, 2], "uint8"),
        ],
    )
    def test_text_and_whole_numbers_are_ids(self, values):
        self.check(values)

    @pytest.mark.parametrize(
        ("values", "match"),
        [
            ([1.0, 2.0], r"must hold ids: text or whole numbers. It holds float64, e.g. .*1\.0"),
            ([True, False], "text or whole numbers. It holds bool"),
            (["a", 2], "text or whole numbers. It holds object"),
            (["a", None, "b", ""], "must hold an id for each.* 2 of 4 are missing.* row 1, 3"),
            ([None, None], "2 of 2 are missing"),
            ([1.0, np.nan], "1 of 2 are missing"),
            (pd.array([1, None], dtype="Int64"), "1 of 2 are missing"),
            (["b", "a", "b", "a", "c"], "each id once. 2 appear again: 'b', 'a'. Merge"),
            ([1, 1, 2, 2, 3, 3, 4, 4], "4 appear again: 1, 2, 3, …"),
        ],
    )
    def test_what_does_not_name_each_polygon_is_refused(self, values, match):
        with pytest.raises(PolygonError, match=f"Column 'id' .*{match}"):
            self.check(values)

    def test_a_missing_column_is_refused(self, frame):
        with pytest.raises(PolygonError, match="no column 'tract'. There are: persons, name"):
            place_polygons(frame, grid=GRID, id="tract")

    def test_a_copy_that_is_dropped_needs_no_id_of_its_own(self):
        frame = frame_of([square(2, 2, 5)] * 2, GRID, tract=["a", "a"])
        assert len(place_polygons(frame, grid=GRID, id="tract", duplicates="first")) == 1
        with pytest.raises(PolygonError, match="must hold each id once"):
            place_polygons(frame, grid=GRID, id="tract")


class TestSizes:
    def test_small_and_outlying_polygons_are_kept_in_their_order_and_counted(self):
        found = [
            square(60, 3, 5),  # outside
            square(2, 2, 0.5),  # smaller than a pixel
            square(48, 3, 5),  # partly
            square(50, 10, 5),  # only touches
            shapely.Polygon([(56, 36), (56, 44), (48, 44)]),  # its extent alone meets the grid
            square(0, 0, 9),  # up to the edge
            shapely.Polygon([(40, 45), (55, 30), (30, 30)]),
        ]
        placed = place_polygons(frame_of(found, GRID, n=range(7)), grid=GRID)
        assert placed["n"].tolist() == list(range(7))
        report = polygon_report.of(placed)
        counts = (report.below_pixel, report.partly_outside, report.outside)
        assert counts == (1, 2, 3)

    @settings(deadline=None, max_examples=40)
    @given(shape=shapes((40, 50)).filter(lambda s: s.is_valid))
    def test_outside_is_what_shares_no_area_with_the_grid(self, shape):
        on_ground = frame_of([shape], GRID).geometry.to_numpy()
        box = shapely.box(*GRID.boundingbox.bbox)
        partly, outside = (mask[0] for mask in off_grid(on_ground, GRID))
        inside = shapely.covers(box, on_ground[0])
        assert outside == (not box.relate_pattern(on_ground[0], "T********"))
        assert partly == (not inside and not outside)

    def test_heights_are_dropped(self):
        frame = frame_of([square(2, 2, 5), square(9, 9, 5)], GRID)
        high = frame.set_geometry(shapely.force_3d(frame.geometry.to_numpy(), 12.5), crs=UTM)
        found = place_polygons(high, grid=GRID)
        assert not found.has_z.any()
        assert polygons_digest(found) == polygons_digest(frame)


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
