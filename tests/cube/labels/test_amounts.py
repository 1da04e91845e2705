"""One number per polygon: matched by id, and refused in one line where it is none."""

from __future__ import annotations

import decimal

import numpy as np
import pandas as pd
import pytest

import cube
from cube.errors import PolygonError
from cube.labels.amounts import aligned
from cube.provenance import inputs_of
from tests.cube.geometry import square
from tests.cube.labelling import cover

IDS = ["0101", "0102", "0201", "1101"]


@pytest.fixture(scope="module")
def named():
    return cover([square(10 * i, 2, 4) for i in range(4)], ids=IDS)


@pytest.fixture(scope="module")
def unnamed():
    return cover([square(10 * i, 2, 4) for i in range(4)])


class TestIds:
    def test_a_series_is_matched_by_id_in_any_order(self, named):
        values = pd.Series([4.0, np.nan, 2, 1], index=IDS[::-1])
        np.testing.assert_array_equal(aligned(named, values), [1, 2, np.nan, 4])

    def test_its_pixels_are_those_of_its_polygons(self, named):
        cube.spread(named, "persons", pd.Series([48, 16, 32, 64], index=IDS), time="2000")
        cube.spread(named, "persons", pd.Series([64, 32, 48, 16], index=IDS[::-1]), time="2010")
        with cube.open(named.url) as dataset:
            row = dataset.persons.to_numpy()[:, 3, ::10]
        np.testing.assert_allclose(row[:, :4], [[3, 1, 2, 4], [1, 3, 2, 4]])

    @pytest.mark.parametrize("dtype", ["int64", "uint8", "Int64", "object", "category"])
    def test_whole_numbers_stand_for_the_ids_that_were_made_of_them(self, dtype):
        codes = pd.Series([12, 7, 30, 9], dtype=dtype)
        found = cover([square(10 * i, 2, 4) for i in range(4)], ids=codes)
        values = pd.Series([1.0, 2, 3, 4], index=pd.Index(codes))
        np.testing.assert_array_equal(aligned(found, values.iloc[::-1]), [1, 2, 3, 4])

    def test_an_index_that_only_counts_rows_is_no_id(self, named):
        np.testing.assert_array_equal(aligned(named, pd.Series([1, 2, 3, 4])), [1, 2, 3, 4])

    def test_without_ids_rows_are_matched_by_place(self, unnamed):
        values = pd.Series([1, 2, 3, 4], index=[7, 5, 6, 4])
        np.testing.assert_array_equal(aligned(unnamed, values), [1, 2, 3, 4])

    @pytest.mark.parametrize(
        ("index", "match"),
        [
            (
                ["0101", "0102", "0201", "9999"],
                r"^Values of polygons are matched by id; 1 of 4 polygons have none: '1101'; 1 of 4 "
                r"ids are of no polygon: '9999'\. Select or add them first, with NaN for what is",
            ),
            (["0101"], "3 of 4 polygons have none: '0102', '0201', '1101'. Select"),
            ([*IDS, "5", "6"], "matched by id; 2 of 6 ids are of no polygon: '5', '6'. Select"),
            (
                [101, 102, 201, 1101],
                "3 of 4 polygons have none: '0101', .* 3 of 4 ids are .*: '101', '102'",
            ),
            (["0101", "0102", "0201", "0201"], "have each id once. 1 come again: '0201'"),
            ([0, 1, 2, 3], "4 of 4 polygons have none"),
        ],
    )
    def test_ids_that_do_not_match_are_refused(self, named, index, match):
        index = pd.Index(index)
        with pytest.raises(PolygonError, match=match):
            aligned(named, pd.Series(np.arange(len(index)), index=index))

    def test_denominators_are_matched_by_id_as_well(self, named):
        share = pd.Series([0.5, 0.5, 0, 0], index=IDS)
        of = pd.Series([0, 0, 0, 5], index=IDS[::-1])
        cube.spread(named, "fixed", share, of=of, how="share")
        with cube.open(named.url) as dataset:
            fixed = dataset.fixed.to_numpy()
        np.testing.assert_array_equal(fixed[2:6, :4], 0.5)
        assert np.isfinite(fixed).sum() == 16


class TestNumbers:
    @pytest.mark.parametrize(
        "values",
        [
            [1, 2, 3, 4],
            np.array([1, 2, 3, 4], "uint8"),
            [decimal.Decimal(n) for n in (1, 2, 3, 4)],
            pd.Series([1, 2, 3, 4], dtype="Int64"),
            pd.Series([1.0, 2, 3, 4], dtype="float64[pyarrow]"),
            pd.Series([1, 2.0, 3, np.int8(4)], dtype=object),
        ],
    )
    def test_numbers_of_any_kind_are_taken(self, unnamed, values):
        found = aligned(unnamed, values)
        assert found.dtype == "float64"
        np.testing.assert_array_equal(found, [1, 2, 3, 4])

    @pytest.mark.parametrize(
        "values",
        [
            [1, None, np.nan, 4],
            pd.Series([1, pd.NA, None, 4], dtype="Int64"),
            pd.Series([1, pd.NA, None, 4], dtype=object),
            np.ma.masked_array([1, 2, 3, 4], mask=[False, True, True, False]),
        ],
    )
    def test_any_way_to_say_unknown_is_unknown(self, unnamed, values):
        np.testing.assert_array_equal(aligned(unnamed, values), [1, np.nan, np.nan, 4])

    @pytest.mark.parametrize(
        "values",
        [
            ["1", "2", "3", "4"],
            np.array(["1", "2", "3", "4"]),
            pd.Series(["1", "2", "3", "4"]),
            pd.Series([1, "2", 3, 4], dtype=object),
            pd.Series(["1", "2", None, "4"], dtype="category"),
        ],
    )
    def test_numbers_as_text_are_text(self, unnamed, values):
        match = r"^Values of polygons must be numbers\. They are .*, e\.g\. '\d'; convert them fir"
        with pytest.raises(PolygonError, match=match):
            aligned(unnamed, values)

    @pytest.mark.parametrize(
        "values",
        [
            [1j, 2, 3, 4],
            np.array(["2000-01-01"] * 4, "datetime64[D]"),
            [[1, 2], [3]],
            [{}, 1, 2, 3],
        ],
    )
    def test_what_is_no_number_is_refused(self, unnamed, values):
        with pytest.raises(PolygonError, match="Values of polygons must be numbers"):
            aligned(unnamed, values)

    def test_infinite_ones_are_counted_and_the_first_is_named(self, named):
        match = (
            r"^Values of polygons must be finite, or NaN where nothing is known\. 2 of 4 are not, "
            r"the first in row 1 \('0102'\): -inf\.$"
        )
        with pytest.raises(PolygonError, match=match):
            cube.spread(named, "whole", [1, -np.inf, np.inf, 2], time="2000", how="intensive")
        assert inputs_of(named.url, "whole") == {}

    @pytest.mark.parametrize("values", [[], [1], 5, [[1, 2, 3, 4]], pd.Series([], dtype=object)])
    def test_another_number_of_them_is_refused(self, unnamed, values):
        match = "One value per polygon was expected, 4. Received shape"
        with pytest.raises(PolygonError, match=match):
            aligned(unnamed, values)
