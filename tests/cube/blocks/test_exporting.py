"""Panels as files: other programs read the same numbers, ids, labels and polygons back."""

from __future__ import annotations

import csv
import json

import geopandas as gpd
import matplotlib.image
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.io.stata import StataReader

from cube.blocks import exporting
from cube.blocks.exporting import export
from cube.blocks.maps import MISSING_COLOUR, panel_map
from cube.blocks.members import with_geometry
from cube.blocks.stata import legal_names
from cube.blocks.tabulating import Column, columns_of
from cube.errors import PolygonError, SpecError, StoreError
from tests.cube.paneling import panel_of, polygons_of, squares

CODES = ["007", "1,5", 'say "no"', "é\nß", ""]
SUFFIXES = [".parquet", ".geoparquet", ".gpkg", ".csv", ".dta"]
LAYOUTS = ["long", "wide"]


@pytest.fixture
def panel():
    """Five blocks, two periods, a missing number, classes, and polygons."""
    land = np.array([[1, 2], [2, np.nan], [1, 1], [3, 2], [2, 2]], "float64")
    found = panel_of(
        CODES,
        covered_share=("block", np.array([1, 0.5, 1 / 3, 0, 1e-300]), {"units": "1"}),
        land_majority=(
            ("block", "time"),
            land,
            {"flag_values": [1, 2, 3], "flag_meanings": "water forest built_up"},
        ),
        zone=("block", np.array([4, 5, 4, 5, 4])),
    )
    found["persons_sum"][2, 1] = np.nan
    drawn = squares(5)
    drawn[1] = shapely.MultiPolygon([drawn[1], shapely.box(0, 5, 1, 6)])
    found.attrs["title"] = "Olinda"
    return with_geometry(found, polygons_of(drawn, code=CODES), id="code")


def long_rows(panel, name):
    """Values of a variable, block by block and time by time, by a plain loop."""
    times = panel.sizes["time"]
    values = panel[name].to_numpy()
    if values.ndim == 1:
        return [values[i] for i in range(len(values)) for _ in range(times)]
    return [values[i, j] for i in range(len(values)) for j in range(times)]


def bare(panel):
    return panel.drop_vars("geometry")


class TestColumns:
    def test_long_has_a_row_a_block_and_time(self, panel):
        columns = {c.name: c.values for c in columns_of(panel, "long")}
        assert list(columns)[:3] == ["block", "period", "time"]
        assert columns["block"].tolist() == [code for code in CODES for _ in range(2)]
        assert columns["period"].tolist() == ["2000", "2010"] * 5
        np.testing.assert_array_equal(columns["time"], np.tile(panel.time.to_numpy(), 5))
        for name in panel.data_vars:
            np.testing.assert_array_equal(columns[name], long_rows(panel, name))

    def test_wide_has_a_row_a_block_and_a_column_a_time(self, panel):
        columns = {c.name: c.values for c in columns_of(panel, "wide")}
        assert list(columns) == [
            "block", "persons_sum_2000", "persons_sum_2010", "covered_share",
            "land_majority_2000", "land_majority_2010", "zone",
        ]  # fmt: skip
        for i, period in enumerate(["2000", "2010"]):
            np.testing.assert_array_equal(
                columns[f"persons_sum_{period}"], panel.persons_sum.to_numpy()[:, i]
            )

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_a_panel_without_time_is_the_same_in_both(self, layout):
        columns = columns_of(panel_of(["a", "b"], periods=()), layout)
        assert [c.name for c in columns] == ["block", "persons_sum"]

    def test_a_further_dimension_gives_a_column_for_each_of_its_values(self):
        shares = np.arange(8.0).reshape(2, 2, 2)
        panel = panel_of(["a", "b"], share=(("class", "time", "block"), shares))
        panel = panel.assign_coords({"class": ["water", "forest"]})
        long = {c.name: c.values.tolist() for c in columns_of(panel, "long")}
        assert long["share_water"] == [0, 2, 1, 3]
        assert long["share_forest"] == [4, 6, 5, 7]
        wide = {c.name: c.values.tolist() for c in columns_of(panel, "wide")}
        assert wide["share_forest_2010"] == [6, 7]

    def test_a_number_of_all_blocks_stands_in_every_row(self):
        panel = panel_of(["a", "b"], total=((), 7.5))
        columns = {c.name: c.values.tolist() for c in columns_of(panel, "long")}
        assert columns["total"] == [7.5] * 4

    def test_times_of_the_variable_alone_stand_in_the_rows_of_their_time(self):
        panel = panel_of(["a", "b"], price=("time", [1.0, 2.0]))
        columns = {c.name: c.values.tolist() for c in columns_of(panel, "long")}
        assert columns["price"] == [1, 2, 1, 2]

    def test_two_columns_of_one_name_are_refused(self):
        panel = panel_of(["a"]).assign(persons_sum_2000=("block", [1.0]))
        with pytest.raises(SpecError, match="Two columns would be called 'persons_sum_2000'"):
            columns_of(panel, "wide")


class TestParquet:
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("suffix", [".parquet", ".geoparquet"])
    def test_geopandas_reads_numbers_polygons_and_crs(self, panel, tmp_path, suffix, layout):
        path = export(panel, tmp_path / f"tracts{suffix}", layout=layout)
        found = gpd.read_parquet(path)
        assert found.crs == "EPSG:32725"
        repeat = 2 if layout == "long" else 1
        expected = np.repeat(panel.geometry.to_numpy(), repeat)
        assert (found.geometry.to_numpy() == expected).all()
        for column in columns_of(panel, layout):
            np.testing.assert_array_equal(found[column.name].to_numpy(), column.values)

    def test_what_is_missing_is_null(self, panel, tmp_path):
        table = pq.read_table(export(panel, tmp_path / "tracts.parquet"))
        assert table["persons_sum"].null_count == 1
        assert table["covered_share"].null_count == 0

    def test_the_schema_describes_columns(self, panel, tmp_path):
        schema = pq.read_schema(export(panel, tmp_path / "tracts.parquet"))
        assert schema.field("persons_sum").metadata == {
            b"description": b"Persons", b"units": b"persons",
        }  # fmt: skip
        classes = json.loads(schema.field("land_majority").metadata[b"classes"])
        assert classes == {"1": "water", "2": "forest", "3": "built_up"}

    def test_the_geometry_says_what_the_standard_asks_for(self, panel, tmp_path):
        schema = pq.read_schema(export(panel, tmp_path / "tracts.parquet"))
        geo = json.loads(schema.metadata[b"geo"])
        assert geo["version"] == "1.0.0"
        column = geo["columns"][geo["primary_column"]]
        assert column["encoding"] == "WKB"
        assert column["geometry_types"] == ["MultiPolygon", "Polygon"]
        assert column["bbox"] == [0, 0, 5, 6]

    def test_without_polygons_it_is_a_plain_table(self, panel, tmp_path):
        found = pd.read_parquet(export(bare(panel), tmp_path / "tracts.parquet"))
        assert "geometry" not in found
        assert found["block"].tolist() == [code for code in CODES for _ in range(2)]


class TestGeoPackage:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_it_reads_back(self, panel, tmp_path, layout):
        found = gpd.read_file(export(panel, tmp_path / "tracts.gpkg", layout=layout))
        assert found.crs == "EPSG:32725"
        repeat = 2 if layout == "long" else 1
        expected = np.repeat(panel.geometry.to_numpy(), repeat)
        assert shapely.equals(found.geometry.to_numpy(), expected).all()
        for column in columns_of(panel, layout):
            if column.name != "time":
                np.testing.assert_array_equal(found[column.name].to_numpy(), column.values)

    @pytest.mark.parametrize("name", ["fid", "FID", "geom", "OGC_FID"])
    def test_columns_may_have_names_that_the_format_uses_itself(self, panel, tmp_path, name):
        named = panel.assign_coords({name: ("block", np.array(["x"] * 5, object))})
        path = export(named, tmp_path / "tracts.gpkg")
        assert gpd.read_file(path)[name].tolist() == ["x"] * 10

    def test_columns_that_sqlite_cannot_tell_apart_are_refused(self, panel, tmp_path):
        named = panel.assign_coords(ZONE=("block", np.arange(5)))
        with pytest.raises(StoreError, match="cannot be written as GeoPackage: "):
            export(named, tmp_path / "tracts.gpkg")
        assert not list(tmp_path.iterdir())

    def test_without_polygons_it_is_refused(self, panel, tmp_path):
        with pytest.raises(SpecError, match="the panel has no geometry; attach it with cube.with"):
            export(bare(panel), tmp_path / "tracts.gpkg")
        assert not list(tmp_path.iterdir())


class TestCsv:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_text_stays_text_and_numbers_keep_every_digit(self, panel, tmp_path, layout):
        path = export(panel, tmp_path / "tracts.csv", layout=layout)
        found = pd.read_csv(path, dtype=str, keep_default_na=False)
        assert "geometry" not in found
        for column in columns_of(panel, layout):
            texts = found[column.name].tolist()
            if column.name in ("block", "period"):
                assert texts == column.values.tolist()
            elif column.name != "time":
                values = [float(text) if text else np.nan for text in texts]
                np.testing.assert_array_equal(values, column.values)

    def test_ids_stand_in_quotes_and_missing_numbers_are_empty(self, panel, tmp_path):
        lines = open_text(export(panel, tmp_path / "tracts.csv")).split("\n")
        assert lines[0].startswith('"block","period","time","persons_sum",')
        assert lines[1].startswith('"007","2000","2000-01-01",0,1,')
        with open(tmp_path / "tracts.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows[5]["persons_sum"] == ""
        assert rows[1]["time"] == "2010-01-01"


def open_text(path):
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


class TestStata:
    def read(self, path):
        with StataReader(path, convert_categoricals=False) as reader:
            frame = reader.read()
            return frame, reader.variable_labels(), reader.value_labels(), reader.data_label

    def test_it_reads_back_with_dates_years_and_missing_numbers(self, panel, tmp_path):
        path = export(panel, tmp_path / "tracts.dta")
        found, _, _, title = self.read(path)
        assert title == "Olinda"
        assert found["block"].tolist() == [code for code in CODES for _ in range(2)]
        assert found["period"].tolist() == [2000, 2010] * 5
        np.testing.assert_array_equal(
            found["time"].to_numpy("datetime64[ns]"), np.tile(panel.time.to_numpy(), 5)
        )
        for name in panel.data_vars:
            values = found[name].to_numpy("float64", na_value=np.nan)
            np.testing.assert_array_equal(values, long_rows(panel, name))

    def test_periods_that_are_no_years_stay_text(self, tmp_path):
        panel = panel_of(["a"]).assign_coords(period=("time", np.array(["wet", "dry"], object)))
        found, *_ = self.read(export(panel, tmp_path / "tracts.dta"))
        assert found["period"].tolist() == ["wet", "dry"]

    def test_variables_and_classes_have_labels(self, panel, tmp_path):
        _, labels, values, _ = self.read(export(panel, tmp_path / "tracts.dta"))
        assert labels["persons_sum"] == "Persons (persons)"
        assert labels["block"] == "id of the block"
        assert values["land_majority"] == {1: "water", 2: "forest", 3: "built_up"}

    def test_a_name_that_had_to_change_stands_in_the_label(self, tmp_path):
        name = "predictors_normalised_difference_q90"
        panel = panel_of(["a"], **{name: (("block", "time"), [[1.0, 2.0]])})
        found, labels, *_ = self.read(export(panel, tmp_path / "tracts.dta", layout="wide"))
        short = [f"predictors_normalised_diffe_{year}" for year in (2000, 2010)]
        assert list(found)[-2:] == short
        assert labels[short[0]] == f"{name}_2000: {name}, 2000"[:80]
        assert max(map(len, labels.values())) <= 80

    def test_long_text_and_great_whole_numbers_are_kept(self, tmp_path):
        codes = ["é" * 1500, "b"]
        panel = panel_of(codes, periods=(), code=("block", np.array([2**53, -(2**40)])))
        found, *_ = self.read(export(panel, tmp_path / "tracts.dta"))
        assert found["block"].tolist() == codes
        assert found["code"].tolist() == [2**53, -(2**40)]

    @pytest.mark.parametrize(
        ("variable", "message"),
        [
            (np.array([2**53 + 1]), "Stata has no whole numbers above 2**53, and 'odd' has"),
            (np.array([np.inf]), "Stata cannot hold this table: "),
            (
                np.array(["2000-01-01T12"], "datetime64[ns]"),
                "'odd' holds times within a day; dates were expected for Stata.",
            ),
        ],
    )
    def test_what_it_cannot_hold_is_refused(self, tmp_path, variable, message):
        panel = panel_of(["a"], periods=(), odd=("block", variable))
        with pytest.raises(SpecError) as refused:
            export(panel, tmp_path / "tracts.dta")
        assert str(refused.value).startswith(message)
        assert "\n" not in str(refused.value)
        assert not list(tmp_path.iterdir())

    @settings(deadline=None, max_examples=100)
    @given(names=st.lists(st.text(max_size=50), max_size=8), tail=st.sampled_from(["", "_2000"]))
    def test_names_are_legal_and_unique_whatever_they_were(self, names, tail):
        columns = [Column(name=n + tail, values=np.zeros(1), tail=tail) for n in names]
        found = legal_names(columns)
        assert len(set(found)) == len(names)
        assert found == legal_names(columns)
        for name in found:
            assert len(name) <= 32
            assert name.isascii()
            assert name.isidentifier()
            assert name.endswith(tail)

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (["persons"], ["persons"]),
            (["if", "str8", "2000", "área km²"], ["_if", "_str8", "_2000", "area_km2"]),
            (["a b", "a_b", "a-b"], ["a_b", "a_b_2", "a_b_3"]),
            (["x" * 40, "x" * 41], ["x" * 32, "x" * 30 + "_2"]),
        ],
    )
    def test_names_by_example(self, names, expected):
        assert legal_names([Column(name=n, values=np.zeros(1)) for n in names]) == expected


class TestFiles:
    @pytest.mark.parametrize("suffix", [".parquet", ".csv", ".dta"])
    def test_the_same_panel_gives_the_same_bytes(self, panel, tmp_path, suffix):
        one, two = (export(panel, tmp_path / f"{name}{suffix}") for name in "ab")
        assert read_bytes(one) == read_bytes(two)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_a_file_is_replaced_only_when_asked_to(self, panel, tmp_path, suffix):
        path = tmp_path / f"tracts{suffix}"
        path.write_bytes(b"mine")
        with pytest.raises(StoreError, match="already; give overwrite=True to replace it"):
            export(panel, path)
        assert path.read_bytes() == b"mine"
        export(panel, path, overwrite=True)
        assert path.stat().st_size > 100
        assert [p.name for p in tmp_path.iterdir()] == [path.name]

    def test_a_file_that_is_cut_short_leaves_nothing(self, panel, tmp_path, monkeypatch):
        def full(*arguments):
            assert len(list(tmp_path.iterdir())) == 1
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("pyarrow.parquet.ParquetWriter.write_table", full)
        with pytest.raises(StoreError, match="the disk is full"):
            export(panel, tmp_path / "tracts.parquet")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            (
                "tracts.xlsx",
                {},
                "A table ends in .parquet, .geoparquet, .gpkg, .csv, .dta. Received 'tracts.xlsx'.",
            ),
            ("tracts.csv", {"layout": "tall"}, "layout must be long or wide. Received 'tall'."),
        ],
    )
    def test_what_cannot_be_asked_for(self, panel, tmp_path, name, options, message):
        with pytest.raises(SpecError) as refused:
            export(panel, tmp_path / name, **options)
        assert str(refused.value) == message

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_a_missing_folder_and_ids_that_appear_twice_are_refused(self, panel, tmp_path, suffix):
        with pytest.raises(StoreError, match="There is no folder .*; create it first"):
            export(panel, tmp_path / "no" / f"tracts{suffix}")
        with pytest.raises(PolygonError, match="1 of 2 appear again, e.g. 'a'"):
            export(panel_of(["a", "a"]), tmp_path / f"tracts{suffix}")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("suffix", [".parquet", ".csv"])
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_a_table_written_in_pieces_is_the_same_table(
        self, panel, tmp_path, monkeypatch, suffix, layout
    ):
        panel = panel.assign_coords(time=panel.time + np.array([0, 3600], "timedelta64[s]"))
        read = gpd.read_parquet if suffix == ".parquet" else pd.read_csv
        whole = read(export(panel, tmp_path / f"whole{suffix}", layout=layout))
        monkeypatch.setattr(exporting, "ROWS", 3)
        pieces = read(export(panel, tmp_path / f"pieces{suffix}", layout=layout))
        pd.testing.assert_frame_equal(pd.DataFrame(pieces), pd.DataFrame(whole))

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_a_panel_without_blocks_is_refused(self, panel, tmp_path, suffix):
        with pytest.raises(PolygonError, match="A panel of one block or more was expected"):
            export(panel.isel(block=[]), tmp_path / f"tracts{suffix}")
        assert not list(tmp_path.iterdir())


def read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def rgb(text):
    return np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)], "uint8")


class TestMap:
    def pixels(self, panel, variable, path, *arguments):
        """The picture as uint8 (y, x, colour)."""
        image = matplotlib.image.imread(panel_map(panel, variable, path, *arguments))
        return np.round(image[..., :3] * 255).astype("uint8")

    def count(self, image, colour):
        return int((image == rgb(colour)).all(axis=-1).sum())

    def test_what_is_missing_is_grey_and_nothing_is_grey_where_all_is_known(self, panel, tmp_path):
        some = self.pixels(panel, "persons_sum", tmp_path / "a.png", "2010")
        every = self.pixels(panel, "persons_sum", tmp_path / "b.png", "2000")
        assert self.count(some, MISSING_COLOUR) > 1000 > self.count(every, MISSING_COLOUR)

    def test_classes_have_colours_of_their_own(self, panel, tmp_path):
        image = self.pixels(panel, "land_majority", tmp_path / "a.png", "2000")
        assert all(self.count(image, c) > 1000 for c in ("#E69F00", "#56B4E9", "#009E73"))

    def test_a_hole_stays_empty(self, tmp_path):
        ring = shapely.box(0, 0, 10, 10).difference(shapely.box(2, 2, 8, 8))
        panel = with_geometry(panel_of([0], periods=()), polygons_of([ring]))
        image = self.pixels(panel, "persons_sum", tmp_path / "a.png")
        column = image[:, 500]
        inked = np.flatnonzero((column != 255).any(axis=1))
        assert np.diff(inked).max() > 400  # white between the two sides of the ring

    def test_only_missing_values_make_a_map_too(self, tmp_path):
        panel = panel_of([0, 1], periods=(), rate=("block", [np.nan, np.nan]))
        panel = with_geometry(panel, polygons_of(squares(2)))
        assert self.pixels(panel, "rate", tmp_path / "a.png").size

    def test_the_same_panel_gives_the_same_picture(self, panel, tmp_path):
        for name in ("a.png", "b.png"):
            panel_map(panel, "covered_share", tmp_path / name)
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()

    @pytest.mark.parametrize(
        ("variable", "time", "message"),
        [
            (
                "income",
                None,
                "The panel has no variable 'income'. It has: persons_sum, covered_share, "
                "land_majority, zone.",
            ),
            (
                "persons_sum",
                "1999",
                "'persons_sum' varies with time; give time= as one of '2000', '2010'. "
                "Received '1999'.",
            ),
            (
                "covered_share",
                "2000",
                "'covered_share' does not vary with time. Received time='2000'.",
            ),
        ],
    )
    def test_what_is_not_there_is_refused(self, panel, tmp_path, variable, time, message):
        with pytest.raises(SpecError) as refused:
            panel_map(panel, variable, tmp_path / "a.png", time)
        assert str(refused.value) == message

    def test_files_that_cannot_be_and_panels_without_polygons_are_refused(self, panel, tmp_path):
        with pytest.raises(SpecError, match="A map is a .png. Received 'a.jpg'"):
            panel_map(panel, "zone", tmp_path / "a.jpg")
        with pytest.raises(SpecError, match="has no geometry"):
            panel_map(bare(panel), "zone", tmp_path / "a.png")
        panel_map(panel, "zone", tmp_path / "a.png")
        with pytest.raises(StoreError, match="give overwrite=True"):
            panel_map(panel, "zone", tmp_path / "a.png")
