"""Published crosswalks: what is read is what was written, and what is wrong is said."""

from __future__ import annotations

import gzip
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.crosswalks.crosswalk import Crosswalk
from cube.crosswalks.tables import read_crosswalk
from cube.errors import PolygonError, SpecError, StoreError

COLUMNS = {"source": "blk2000gj", "target": "blk2010gj", "weight": "weight"}
A, B, C = "G01000100201001000", "G01000100201001001", "G01000100201001002"
X, Y = "G01000100201001900", "G01000100201001901"

ROWS = [(A, X, 0.25), (A, Y, 0.75), (B, Y, 1.0)]


def table(rows=ROWS):
    frame = pd.DataFrame(rows, columns=["blk2000gj", "blk2010gj", "weight"])
    return frame.assign(parea=1.0)


def written(tmp_path, rows=ROWS, name="nhgis_blk2000_blk2010_gj.csv"):
    path = tmp_path / name
    table(rows).to_csv(path, index=False)
    return path


class TestReading:
    def test_a_table_of_nhgis(self, tmp_path):
        found = read_crosswalk(written(tmp_path), **COLUMNS)
        assert (list(found.sources), list(found.targets)) == ([A, B], [X, Y])
        np.testing.assert_array_equal(found.matrix.toarray(), [[0.25, 0], [0.75, 1]])

    @pytest.mark.parametrize("kind", ["zip", "gz", "parquet", "dta", "bom", "pipes"])
    def test_every_format_gives_the_same(self, tmp_path, kind):
        plain, frame = written(tmp_path), table()
        path = tmp_path / f"table.{'csv' if kind in ('bom', 'pipes') else kind}"
        if kind == "zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.write(plain, "folder/table.csv")
                archive.writestr("README.txt", "about")
        elif kind == "gz":
            path.write_bytes(gzip.compress(plain.read_bytes()))
        elif kind == "parquet":
            frame.to_parquet(path)
        elif kind == "dta":
            frame.to_stata(path, write_index=False)
        else:
            sep, encoding = ("|", "utf-8") if kind == "pipes" else (",", "utf-8-sig")
            frame.to_csv(path, index=False, sep=sep, encoding=encoding)
        found, expected = read_crosswalk(path, **COLUMNS), read_crosswalk(plain, **COLUMNS)
        pd.testing.assert_frame_equal(found.to_table(), expected.to_table())

    def test_rounded_weights_conserve_the_total(self, tmp_path):
        rows = [(A, X, 0.3333333), (A, Y, 0.6666666), (B, Y, 1.0)]
        found = read_crosswalk(written(tmp_path, rows), **COLUMNS)
        persons = found.apply(pd.Series([3e8, 1.0], [A, B]))
        assert persons.sum() == pytest.approx(3e8 + 1, rel=1e-15)
        assert found.notes == ()

    def test_leading_zeros_are_kept(self, tmp_path):
        path = written(tmp_path, [("01001", "00007", 1.0)])
        found = read_crosswalk(path, **COLUMNS)
        assert (list(found.sources), list(found.targets)) == (["01001"], ["00007"])

    def test_a_relationship_file_is_sizes_of_parts_over_sizes_of_wholes(self, tmp_path):
        path = tmp_path / "tab20_tract20_tract10_natl.txt"
        path.write_text(
            "GEOID_TRACT_20|AREALAND_TRACT_20|GEOID_TRACT_10|AREALAND_PART\n"
            "01001020100|8|01001020101|2\n01001020100|8|01001020102|6\n01001020200|0|01001020102|0"
        )
        found = read_crosswalk(
            path, source="GEOID_TRACT_20", target="GEOID_TRACT_10",
            weight=("AREALAND_PART", "AREALAND_TRACT_20"), zero="keep",
        )  # fmt: skip
        np.testing.assert_array_equal(found.matrix.toarray(), [[0.25, 0], [0.75, 0]])

    def test_all_of_2000_in_blocks_of_2010(self, tmp_path):
        found = read_crosswalk(written(tmp_path), **COLUMNS)
        values = pd.Series([400.0, 30.0], [A, B])
        assert found.apply(values).to_dict() == {X: 100, Y: 330}

    def test_only_what_is_wanted_in_the_order_that_is_wanted(self, tmp_path):
        path = written(tmp_path)
        found = read_crosswalk(path, **COLUMNS, sources=[B], targets=[Y])
        np.testing.assert_array_equal(found.matrix.toarray(), [[1.0]])
        with pytest.raises(PolygonError, match="1 sources are not in the crosswalk"):
            read_crosswalk(path, **COLUMNS, sources=[B, C])
        found = read_crosswalk(path, **COLUMNS, sources=[B, C], unmatched="missing")
        assert list(found.sources) == [B, C]


class TestZeros:
    def test_sources_whose_weights_are_all_zero_are_refused_unless_kept(self, tmp_path):
        path = written(tmp_path, [*ROWS, (C, Y, 0.0)])
        with pytest.raises(
            PolygonError, match="weights of 1 of 3 sources are all zero: 'G01000100"
        ):
            read_crosswalk(path, **COLUMNS)
        found = read_crosswalk(path, **COLUMNS, zero="keep")
        assert found.apply(pd.Series([4.0, 2.0, 0.0], [A, B, C]))[Y] == 5
        with pytest.raises(PolygonError, match="1 sources have an amount and go nowhere"):
            found.apply(pd.Series([4.0, 2.0, 1.0], [A, B, C]))

    def test_a_row_with_an_empty_id_lists_the_other(self, tmp_path):
        path = written(tmp_path, [*ROWS, (C, "", 0.0), ("", "G9", 0.0)])
        found = read_crosswalk(path, **COLUMNS, zero="keep")
        assert (list(found.sources), list(found.targets)) == ([A, B, C], [X, Y, "G9"])
        assert found.reached.tolist() == [True, True, False]


class TestRefusals:
    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([(A, X, 0.25), (A, Y, 0.5)], "parts of 1 of 1 sources do not sum to one: 'G010001002"),
            (
                [(A, X, 1.5)],
                "must be 0..1 everywhere. 1 of 1 rows are not, the first is row 0: 1.5",
            ),
            ([(A, X, -0.5), (A, Y, 1.0)], "1 of 2 rows are not, the first is row 0: -0.5"),
            ([(A, X, "half"), (A, Y, 0.5)], "cannot be read as a crosswalk: .*'half'"),
            ([(A, X, None), (A, Y, 1.0)], "must be 0..1 everywhere. 1 of 2 rows are not"),
            ([(A, X, 0.5), (A, X, 0.5)], "must appear once. 1 appear again, the first 'G01000100"),
            ([(A, X, 1.0), ("", X, 0.5)], "1 rows of .* have a weight and an empty id, .* row 1"),
        ],
    )
    def test_of_rows(self, tmp_path, rows, message):
        with pytest.raises(PolygonError, match=message):
            read_crosswalk(written(tmp_path, rows), **COLUMNS)

    def test_of_columns_that_are_not_there(self, tmp_path):
        message = "has no column 'WEIGHT'. It has: blk2000gj, blk2010gj, weight, parea"
        frame = table()
        frame.to_parquet(tmp_path / "t.parquet")
        frame.to_stata(tmp_path / "t.dta", write_index=False)
        for path in (written(tmp_path), tmp_path / "t.parquet", tmp_path / "t.dta"):
            with pytest.raises(PolygonError, match=message):
                read_crosswalk(path, **{**COLUMNS, "weight": "WEIGHT"})

    def test_of_ids_that_are_numbers(self, tmp_path):
        frame = pd.DataFrame({"blk2000gj": [1], "blk2010gj": ["2"], "weight": [1.0]})
        frame.to_parquet(tmp_path / "t.parquet")
        with pytest.raises(PolygonError, match="'blk2000gj' of .* must be text, because numbers l"):
            read_crosswalk(tmp_path / "t.parquet", **COLUMNS)

    def test_of_weights_that_are_text(self, tmp_path):
        frame = table([(A, X, "1")])
        frame.to_parquet(tmp_path / "t.parquet")
        with pytest.raises(PolygonError, match="'weight' of .* must hold numbers"):
            read_crosswalk(tmp_path / "t.parquet", **COLUMNS)

    def test_of_parts_larger_than_their_wholes(self, tmp_path):
        path = tmp_path / "t.csv"
        path.write_text("a,b,part,whole\nx,y,3,2\n")
        with pytest.raises(PolygonError, match="'part' over 'whole' of .* must be 0..1"):
            read_crosswalk(path, source="a", target="b", weight=("part", "whole"))

    def test_of_files(self, tmp_path):
        with pytest.raises(PolygonError, match="There is no file"):
            read_crosswalk(tmp_path / "none.csv", **COLUMNS)
        broken = tmp_path / "broken.zip"
        broken.write_bytes(b"no archive")
        with pytest.raises(PolygonError, match="cannot be read as a crosswalk: File is not a zip"):
            read_crosswalk(broken, **COLUMNS)
        with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
            archive.writestr("a.csv", "x")
            archive.writestr("b.csv", "x")
        with pytest.raises(
            PolygonError, match=r"must hold one .csv or .txt. It holds 2: a.csv, b.csv"
        ):
            read_crosswalk(tmp_path / "two.zip", **COLUMNS)
        with pytest.raises(PolygonError, match="Ids of sources were expected. Received none"):
            read_crosswalk(written(tmp_path, []), **COLUMNS)

    def test_of_a_weight_of_three_columns(self, tmp_path):
        with pytest.raises(SpecError, match="weight is a column, or those of part and whole."):
            read_crosswalk(tmp_path / "a.csv", source="a", target="b", weight=("w", "w", "w"))

    def test_of_an_unknown_rule(self, tmp_path):
        with pytest.raises(SpecError, match="zero is 'refuse' or 'keep'"):
            read_crosswalk(written(tmp_path), **COLUMNS, zero="drop")


class TestRenormalising:
    def test_it_scales_and_says_how_far(self, tmp_path):
        path = written(tmp_path, [(A, X, 0.25), (A, Y, 0.55), (B, Y, 1.0)])
        found = read_crosswalk(path, **COLUMNS, renormalise=True)
        np.testing.assert_allclose(found.sums, 1, rtol=1e-15)
        assert found.notes == ("parts of 1 sources scaled to sum to one, the farthest off by 0.2",)

    def test_it_leaves_what_is_right(self, tmp_path):
        found = read_crosswalk(written(tmp_path), **COLUMNS, renormalise=True)
        assert found.notes == ()


class TestWriting:
    @settings(deadline=None, max_examples=25)
    @given(data=st.data())
    def test_what_is_written_reads_the_same(self, data, tmp_path_factory):
        rows, columns = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
        count = rows * columns
        drawn = data.draw(st.lists(st.sampled_from([-1, 0, 1, 3]), min_size=count, max_size=count))
        raw = np.array(drawn).reshape(rows, columns)
        source, target = np.nonzero(raw >= 0)
        sums = np.maximum(raw, 0).sum(axis=1)
        part = np.maximum(raw, 0)[source, target] / np.maximum(sums, 1)[source]
        sources, targets = [f"00{i}" for i in range(rows)], [f"0{i}" for i in range(columns)]
        made = Crosswalk.of_entries(sources, targets, source=source, target=target, part=part)
        suffix = data.draw(st.sampled_from(["csv", "parquet"]))
        path = tmp_path_factory.mktemp("written") / f"crosswalk.{suffix}"
        made.write(path)
        found = read_crosswalk(
            path, source="source", target="target", weight="weight", zero="keep",
            sources=sources, targets=targets,
        )  # fmt: skip
        assert list(found.sources) == sources
        np.testing.assert_array_equal(found.matrix.toarray(), made.matrix.toarray())
        np.testing.assert_array_equal(found.reached, made.reached)

    def test_other_formats_are_refused(self, tmp_path):
        made = Crosswalk.of_groups(pd.Series(["a"], ["b"]))
        with pytest.raises(SpecError, match="written as .parquet or .csv"):
            made.write(tmp_path / "crosswalk.xlsx")

    def test_a_file_that_lies_there_is_replaced_only_on_purpose(self, tmp_path):
        made = Crosswalk.of_groups(pd.Series(["a"], ["b"]))
        (tmp_path / "crosswalk.csv").write_text("mine")
        with pytest.raises(StoreError, match="give overwrite=True to replace it"):
            made.write(tmp_path / "crosswalk.csv")
        assert (tmp_path / "crosswalk.csv").read_text() == "mine"
        made.write(tmp_path / "crosswalk.csv", overwrite=True)
        assert [p.name for p in tmp_path.iterdir()] == ["crosswalk.csv"]
        assert (tmp_path / "crosswalk.csv").read_text().startswith("source,target")
