"""From polygons to polygons: nothing is made, nothing is lost, zero is not missing."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.crosswalks.crosswalk import Crosswalk
from cube.crosswalks.nesting import nested
from cube.errors import PolygonError, SpecError

few = settings(deadline=None, max_examples=40)

BLOCKS_2000, BLOCKS_2010 = ["G01", "G02", "G03"], ["H1", "H2", "H3"]


def between_blocks(**more):
    """G01 is split, G02 and part of G01 are merged, G03 is water; H4 is new."""
    entries = {"source": np.array([0, 0, 1, 2]), "target": np.array([0, 1, 1, 2])}
    part = np.array([0.25, 0.75, 1.0, 0.0])
    return Crosswalk.of_entries(BLOCKS_2000, [*BLOCKS_2010, "H4"], **entries, part=part, **more)


def persons(*values, ids=BLOCKS_2000):
    return pd.Series(values, ids, dtype="float64", name="persons")


@st.composite
def crosswalks(draw, *, sources="S", targets="T", source_count=None):
    """Any whole crosswalk: each source is divided by random numbers, some of them zero."""
    rows = source_count or draw(st.integers(1, 6))
    columns = draw(st.integers(1, 6))
    raw = np.array(
        draw(st.lists(st.integers(0, 5), min_size=rows * columns, max_size=rows * columns)), float
    ).reshape(rows, columns)
    raw[np.arange(rows), draw(st.integers(0, columns - 1))] += 1
    source, target = np.nonzero(raw)
    return Crosswalk.of_entries(
        [f"{sources}{i}" for i in range(rows)],
        [f"{targets}{i}" for i in range(columns)],
        source=source,
        target=target,
        part=(raw / raw.sum(axis=1, keepdims=True))[source, target],
    )


def amounts_of(found, draw, *, least=0.0):
    count = len(found.sources)
    numbers = st.floats(least, 1e9).map(lambda v: 0.0 if abs(v) < 1e-9 else v)
    values = draw(st.lists(numbers, min_size=count, max_size=count))
    return pd.Series(values, found.sources, name="persons")


class TestAmounts:
    @few
    @given(st.data())
    def test_their_total_is_conserved(self, data):
        found = data.draw(crosswalks())
        values = amounts_of(found, data.draw, least=-1e9)
        total = math.fsum(found.apply(values).dropna())
        assert total == pytest.approx(math.fsum(values), rel=1e-12, abs=1e-5)

    def test_are_sums_of_parts(self):
        np.testing.assert_array_equal(
            between_blocks().apply(persons(4, 8, 0)), [1.0, 11.0, 0.0, math.nan]
        )

    def test_a_target_that_gets_nothing_is_missing_and_one_that_gets_zero_is_zero(self):
        found = between_blocks().apply(persons(0, 0, 0))
        assert found[BLOCKS_2010].eq(0).all()
        assert math.isnan(found["H4"])

    def test_what_is_missing_makes_all_that_get_part_of_it_missing(self):
        found = between_blocks().apply(persons(math.nan, 8, 0))
        assert found.isna().tolist() == [True, True, False, True]

    def test_a_part_of_zero_of_what_is_missing_is_zero(self):
        assert between_blocks().apply(persons(4, 8, math.nan))["H3"] == 0

    def test_skipna_counts_what_is_known_and_says_how_much_that_is(self):
        found = between_blocks().apply(persons(math.nan, 8, 0), skipna=True)
        np.testing.assert_array_equal(found["persons"], [math.nan, 8, 0, math.nan])
        np.testing.assert_allclose(found["persons_known_share"], [0, 1 / 1.75, 1, 0])

    def test_many_columns_are_as_one_at_a_time(self):
        table = pd.DataFrame({"a": persons(1, 2, 0), "b": persons(0.1, 0.7, math.nan)})
        found = between_blocks().apply(table)
        for name in table:
            pd.testing.assert_series_equal(
                found[name], between_blocks().apply(table[name]), check_exact=True
            )

    def test_the_order_of_the_values_does_not_matter(self):
        values = persons(4, 8, 0)
        pd.testing.assert_series_equal(
            between_blocks().apply(values[::-1]), between_blocks().apply(values), check_exact=True
        )

    def test_of_a_source_that_goes_nowhere_must_be_zero(self):
        with pytest.raises(PolygonError, match=r"1 sources have an amount and go nowhere.*'G03'"):
            between_blocks().apply(persons(4, 8, 1))

    def test_that_are_lost_are_counted(self):
        found = between_blocks(cover="partial").apply(persons(4, 8, 5))
        assert found.attrs["lost"] == {"persons": 5.0}


class TestMeans:
    @few
    @given(st.data(), st.floats(0.5, 1e6))
    def test_a_constant_stays_constant(self, data, constant):
        found = data.draw(crosswalks())
        size = amounts_of(found, data.draw)
        means = found.apply(pd.Series(constant, found.sources), how="intensive", size=size)
        np.testing.assert_allclose(means.dropna(), constant, rtol=1e-12)
        gets = found.apply(size).fillna(0) > 0
        assert means.notna().tolist() == gets.tolist()

    @few
    @given(st.data())
    def test_shares_are_sums_over_sums(self, data):
        found = data.draw(crosswalks())
        of = amounts_of(found, data.draw)
        share = pd.Series(np.linspace(0, 1, len(of)), of.index)
        expected = found.apply(share * of) / found.apply(of).replace(0, math.nan)
        pd.testing.assert_series_equal(
            found.apply(share, how="share", of=of), expected, check_names=False
        )

    def test_are_weighted_by_part_and_size(self):
        found = between_blocks().apply(persons(10, 20, 30), how="intensive", size=persons(4, 1, 0))
        expected = (10 * 3 + 20 * 1) / (3 + 1)
        np.testing.assert_array_equal(found, [10, expected, math.nan, math.nan])

    def test_take_the_size_of_the_crosswalk_unless_told_otherwise(self):
        found = between_blocks(size=np.array([4.0, 1.0, 0.0]))
        assert found.apply(persons(10, 20, 30), how="intensive")["H2"] == 12.5

    def test_a_share_of_nobody_need_not_be_known(self):
        found = between_blocks().apply(
            persons(0.5, math.nan, math.nan), how="share", of=persons(8, 0, 0)
        )
        np.testing.assert_array_equal(found, [0.5, 0.5, math.nan, math.nan])

    def test_skipna_leaves_out_what_is_missing(self):
        found = between_blocks().apply(
            persons(10, math.nan, 0), how="intensive", size=persons(4, 1, 1), skipna=True
        )
        np.testing.assert_array_equal(found["persons"], [10, 10, math.nan, math.nan])
        np.testing.assert_array_equal(found["persons_known_share"], [1, 0.75, 1, 0])


class TestIds:
    def test_without_a_value_are_refused(self):
        with pytest.raises(PolygonError, match="1 of 3 sources of the crosswalk have no value: 'G"):
            between_blocks().apply(persons(1, 2, ids=["G01", "G02"]))

    def test_without_a_source_are_refused(self):
        with pytest.raises(PolygonError, match="1 of 4 ids of values are no sources.*'G99'"):
            between_blocks().apply(persons(1, 2, 0, 4, ids=[*BLOCKS_2000, "G99"]))

    def test_unmatched_are_missing_and_lost_where_that_is_asked_for(self):
        values = persons(1, 0, 4, ids=["G01", "G03", "G99"])
        found = between_blocks().apply(values, unmatched="missing")
        np.testing.assert_array_equal(found, [0.25, math.nan, 0, math.nan])
        assert found.attrs["lost"] == {"persons": 4.0}

    @pytest.mark.parametrize(
        ("ids", "message"),
        [
            ([1, 2, 3], "must be text, because numbers lose leading zeros. Received 1"),
            (["G01", "G01", "G02"], "must appear once. 1 appear again: 'G01'"),
            (["G01", None, "G02"], "1 of 3 ids of values are missing"),
            (["G01", "", "G02"], "1 of 3 ids of values are empty"),
        ],
    )
    def test_of_values_must_be_unique_text(self, ids, message):
        with pytest.raises(PolygonError, match=message):
            between_blocks().apply(pd.Series([1.0, 2.0, 3.0], ids))

    def test_there_must_be_some(self):
        with pytest.raises(PolygonError, match="Ids of sources were expected. Received none"):
            Crosswalk.of_groups(pd.Series([], dtype="str"))


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"how": "mean"}, "how must be one of extensive, intensive, share"),
            ({"how": "intensive"}, "give size=, e.g. the area or the population"),
            ({"how": "share"}, "Shares, and nothing else, need of="),
            ({"of": persons(1, 1, 1)}, "Shares, and nothing else, need of="),
            ({"how": "share", "of": persons(1, 1, 1), "size": persons(1, 1, 1)}, "leave size= out"),
            ({"unmatched": "drop"}, "unmatched is 'refuse' or 'missing'"),
        ],
    )
    def test_of_options(self, options, message):
        with pytest.raises(SpecError, match=message):
            between_blocks().apply(persons(1, 2, 0), **options)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            (persons(math.inf, 1, 1), "must be finite, or NaN"),
            (pd.Series(["1", "2", "3"], BLOCKS_2000, name="persons"), "must hold numbers. It hold"),
            (pd.Series([True, True, False], BLOCKS_2000, name="p"), "must hold numbers"),
        ],
    )
    def test_of_values(self, values, message):
        with pytest.raises(PolygonError, match=message):
            between_blocks().apply(values)

    @pytest.mark.parametrize("size", [persons(1, -1, 1), persons(1, math.nan, 1)])
    def test_of_sizes(self, size):
        with pytest.raises(PolygonError, match="'size' must be known and 0 or more. 1 of 3.*'G02'"):
            between_blocks().apply(persons(1, 2, 3), how="intensive", size=size)

    @pytest.mark.parametrize(
        ("part", "cover", "message"),
        [
            (0.5, "whole", "parts of 1 of 1 sources do not sum to one: 'S'; the first sum to 0.5"),
            (1.5, "whole", "Parts of a source must be 0..1. 1 of 1"),
            (math.nan, "partial", "Parts of a source must be 0..1"),
        ],
    )
    def test_of_parts(self, part, cover, message):
        matrix = scipy.sparse.csr_array(np.array([[part]]))
        with pytest.raises(PolygonError, match=message):
            Crosswalk(sources=["S"], targets=["T"], matrix=matrix, cover=cover)

    def test_of_parts_that_count_twice(self):
        matrix = scipy.sparse.csr_array(np.array([[1.0], [0.5]]))
        with pytest.raises(PolygonError, match="sum to more than one: 'S'; the first sum to 1.5"):
            Crosswalk(sources=["S"], targets=["T", "U"], matrix=matrix, cover="partial")
        Crosswalk(sources=["S"], targets=["T", "U"], matrix=matrix, cover="overlapping")

    def test_of_pairs_that_appear_twice(self):
        with pytest.raises(PolygonError, match="1 appear again, the first 'S' to 'T'"):
            Crosswalk.of_entries(
                ["S"], ["T"], source=np.array([0, 0]), target=np.array([0, 0]),
                part=np.array([0.5, 0.5]),
            )  # fmt: skip

    def test_of_shapes_and_covers_that_do_not_fit(self):
        matrix = scipy.sparse.csr_array(np.eye(2))
        with pytest.raises(PolygonError, match=r"A matrix of \(1, 1\) was expected"):
            Crosswalk(sources=["S"], targets=["T"], matrix=matrix)
        with pytest.raises(PolygonError, match="2 sizes were expected"):
            Crosswalk(sources=["S", "Q"], targets=["T", "U"], matrix=matrix, size=np.ones(1))
        with pytest.raises(SpecError, match="cover is whole, partial, overlapping"):
            between_blocks(cover="half")

    @pytest.mark.parametrize("size", [[-1.0], [math.nan], [math.inf]])
    def test_of_sizes_of_sources(self, size):
        with pytest.raises(PolygonError, match="Sizes must be known and 0 or more. 1 of 1 are not"):
            Crosswalk(sources=["a"], targets=["b"], matrix=np.eye(1), size=size)

    def test_of_places_that_are_not_in_the_lists(self):
        with pytest.raises(PolygonError, match="^Entries must be places in the lists of ids: "):
            Crosswalk.of_entries(
                ["a"], ["b"], source=np.array([3]), target=np.array([0]), part=np.array([1.0])
            )

    def test_of_columns_that_appear_twice_and_of_what_has_no_ids(self):
        found = Crosswalk(sources=["a"], targets=["b"], matrix=np.eye(1))
        twice = pd.DataFrame([[1.0, 2.0]], ["a"], ["n", "n"])
        with pytest.raises(PolygonError, match="^Columns must appear once. 'n' appears again"):
            found.apply(twice)
        with pytest.raises(PolygonError, match="^Values are a pandas Series or DataFrame indexed"):
            found.apply([1.0])
        known = pd.DataFrame([[1.0, 2.0]], ["a"], ["n", "n_known_share"])
        with pytest.raises(SpecError, match="'n_known_share' is a column already; rename it"):
            found.apply(known, skipna=True)

    def test_of_rules_that_are_none(self):
        found = between_blocks()
        with pytest.raises(SpecError, match="unmatched is 'refuse' or 'drop'. Received 'lose'"):
            found.then(found, unmatched="lose")
        with pytest.raises(SpecError, match="unmatched is 'refuse' or 'missing'. Received 'drop'"):
            found.aligned(sources=["G01"], unmatched="drop")

    def test_a_matrix_in_any_form_becomes_the_same(self):
        parts = np.array([[0.25, 0.0], [0.75, 1.0]])
        for form in (scipy.sparse.coo_array, scipy.sparse.csc_matrix, np.asarray):
            found = Crosswalk(sources=["a", "b"], targets=["c", "d"], matrix=form(parts))
            np.testing.assert_array_equal(found.matrix.indices, [0, 0, 1])


class TestThen:
    @few
    @given(st.data())
    def test_it_is_one_after_the_other(self, data):
        first = data.draw(crosswalks(targets="M"))
        second = data.draw(crosswalks(sources="M", source_count=len(first.targets)))
        values = amounts_of(first, data.draw)
        both = first.then(second)
        step = first.apply(values)
        if step.notna().all():  # else a middle polygon that gets nothing is missing on its own
            np.testing.assert_allclose(both.apply(values), second.apply(step), rtol=1e-12)
        np.testing.assert_allclose(both.sums, 1)

    @few
    @given(st.data())
    def test_it_is_associative(self, data):
        a = data.draw(crosswalks(targets="M"))
        b = data.draw(crosswalks(sources="M", targets="N", source_count=len(a.targets)))
        c = data.draw(crosswalks(sources="N", source_count=len(b.targets)))
        left, right = a.then(b).then(c).matrix, a.then(b.then(c)).matrix
        np.testing.assert_allclose(left.toarray(), right.toarray(), atol=1e-15)
        np.testing.assert_array_equal(left.indptr, right.indptr)
        np.testing.assert_array_equal(left.indices, right.indices)

    def test_what_both_are_off_by_in_rounding_does_not_add_up(self):
        first = Crosswalk(sources=["a"], targets=["m", "n"], matrix=np.array([[0.5], [0.4999991]]))
        second = Crosswalk(
            sources=["m", "n"], targets=["t", "u"],
            matrix=np.array([[0.5, 0.2], [0.4999991, 0.7999991]]),
        )  # fmt: skip
        assert first.then(second).sums.tolist() == pytest.approx([0.9999991], abs=1e-12)

    def test_a_zero_on_the_way_stays_a_zero(self):
        tracts = Crosswalk.of_groups(pd.Series(["A", "A", "B", "C"], [*BLOCKS_2010, "H4"]))
        found = between_blocks().then(tracts)
        np.testing.assert_array_equal(found.apply(persons(4, 8, 0)), [12, 0, math.nan])

    def test_ids_in_the_middle_must_match(self):
        tracts = Crosswalk.of_groups(pd.Series(["A", "A"], ["H1", "H2"]))
        with pytest.raises(PolygonError, match="2 targets of the first are no sources of the sec"):
            between_blocks().then(tracts)
        more = Crosswalk.of_groups(pd.Series(["A"] * 5, [*BLOCKS_2010, "H4", "H5"]))
        with pytest.raises(PolygonError, match="1 sources of the second are no targets of the fir"):
            between_blocks().then(more)

    def test_what_does_not_match_is_lost_and_noted_where_that_is_asked_for(self):
        tracts = Crosswalk.of_groups(pd.Series(["A"], ["H1"]))
        found = between_blocks().then(tracts, unmatched="drop")
        assert found.cover == "partial"
        assert found.notes == (
            "3 targets of the first are no sources of the second: 'H2', 'H3', 'H4'",
        )
        assert found.apply(persons(4, 8, 0)).attrs["lost"] == {"persons": 11.0}

    def test_a_part_that_goes_on_to_nowhere_is_refused(self):
        first = Crosswalk.of_groups(pd.Series(["G03"], ["X"]))
        with pytest.raises(PolygonError, match="1 ids in the middle get a part, of which none goe"):
            first.then(between_blocks().aligned(sources=["G03"]))

    def test_incomes_of_block_groups_come_to_those_of_another_census(self):
        """ACS 2005-2009: block groups of 2000, by population to blocks, to 2010, to groups."""
        rng = np.random.default_rng(5)
        pop = rng.integers(1, 500, 12)
        old = [f"b{i:02}" for i in range(12)]
        old_group = [f"g{i // 4}" for i in range(12)]
        raw = rng.uniform(0, 1, (12, 9)) * (rng.uniform(0, 1, (12, 9)) < 0.3)
        raw[:, 4] += 0.1
        parts = raw / raw.sum(axis=1, keepdims=True)
        source, target = np.nonzero(raw)
        new = [f"c{i}" for i in range(9)]
        blocks = pd.DataFrame({"block": old, "group": old_group, "pop": pop})
        down = nested(blocks, part="block", whole="group", size="pop")
        across = Crosswalk.of_entries(
            old, new, source=source, target=target, part=parts[source, target]
        )
        up = Crosswalk.of_groups(pd.Series([f"h{i // 3}" for i in range(9)], new))
        income = pd.Series([1e6, 2e6, 5e5], ["g0", "g1", "g2"])
        expected = dict.fromkeys(["h0", "h1", "h2"], 0.0)
        for i, j in itertools.product(range(12), range(9)):
            whole = sum(p for p, g in zip(pop, old_group, strict=True) if g == old_group[i])
            expected[f"h{j // 3}"] += income[old_group[i]] * pop[i] / whole * parts[i, j]
        found = down.then(across).then(up).apply(income)
        assert found.to_dict() == pytest.approx(expected, rel=1e-12)
        assert found.sum() == pytest.approx(3.5e6, rel=1e-12)


class TestAligned:
    def test_it_gives_the_ids_that_are_wanted_in_their_order(self):
        found = between_blocks(size=np.array([1.0, 2.0, 3.0])).aligned(
            sources=["G02", "G01"], targets=["H2", "H1"]
        )
        np.testing.assert_array_equal(found.matrix.toarray(), [[1, 0.75], [0, 0.25]])
        assert found.size.tolist() == [2, 1]

    @pytest.mark.parametrize(
        ("wanted", "message"),
        [
            ({"sources": ["G01", "G09"]}, "1 sources are not in the crosswalk: 'G09'"),
            ({"targets": ["H1", "H2", "H9"]}, "1 targets are not in the crosswalk: 'H9'"),
            ({"targets": ["H1"]}, "1 targets get a part and are not wanted: 'H2'"),
        ],
    )
    def test_it_refuses_what_does_not_match_or_notes_it(self, wanted, message):
        with pytest.raises(PolygonError, match=message):
            between_blocks().aligned(**wanted)
        found = between_blocks().aligned(**wanted, unmatched="missing")
        assert found.notes == (message,)
        assert found.cover == "partial"


class TestGroups:
    @few
    @given(st.data())
    def test_they_are_sums_as_pandas_makes_them(self, data):
        groups = data.draw(st.lists(st.sampled_from("ABC"), min_size=1, max_size=20))
        ids = [f"b{i}" for i in range(len(groups))]
        values = pd.Series(data.draw(st.lists(st.integers(0, 10**6), min_size=len(ids),
                                              max_size=len(ids))), ids)  # fmt: skip
        found = Crosswalk.of_groups(pd.Series(groups, ids)).apply(values)
        expected = values.groupby(pd.Series(groups, ids)).sum()
        assert found.to_dict() == expected.to_dict()


def blocks_of_groups(**columns):
    frame = {"block": ["1", "2", "3"], "group": ["A", "A", "B"], "pop": [1, 3, 2]}
    return pd.DataFrame({**frame, **columns})


class TestNested:
    @few
    @given(st.data())
    def test_incomes_are_conserved_and_follow_population(self, data):
        pop = data.draw(st.lists(st.integers(0, 1000), min_size=4, max_size=4))
        pop = [pop[0] + 1, pop[1], pop[2] + 1, pop[3]]
        frame = pd.DataFrame({"block": list("abcd"), "group": list("XXYY"), "pop": pop})
        found = nested(frame, part="block", whole="group", size="pop")
        income = pd.Series([5e6, 7e6], ["X", "Y"])
        expected = [
            5e6 * pop[0] / (pop[0] + pop[1]), 5e6 * pop[1] / (pop[0] + pop[1]),
            7e6 * pop[2] / (pop[2] + pop[3]), 7e6 * pop[3] / (pop[2] + pop[3]),
        ]  # fmt: skip
        np.testing.assert_allclose(found.apply(income), expected, rtol=1e-13)

    def test_wholes_without_size_are_refused(self):
        with pytest.raises(PolygonError, match="1 of 2 wholes have pop 0: 'B'. Say what to do"):
            nested(blocks_of_groups(pop=[1, 3, 0]), part="block", whole="group", size="pop")

    def test_wholes_without_size_are_divided_equally_or_dropped_and_counted(self):
        frame = blocks_of_groups(pop=[0, 0, 4])
        income = pd.Series([10.0, 20.0], ["A", "B"])
        columns = {"part": "block", "whole": "group", "size": "pop"}
        equal = nested(frame, **columns, zero="equal")
        assert equal.apply(income).tolist() == [5, 5, 20]
        assert equal.notes == ("1 of 2 wholes have pop 0: 'A'; divided equally",)
        dropped = nested(frame, **columns, zero="drop")
        np.testing.assert_array_equal(dropped.apply(income), [math.nan, math.nan, 20])
        assert dropped.apply(income).attrs["lost"] == {"value": 10.0}
        assert dropped.notes == ("1 of 2 wholes have pop 0: 'A'; dropped",)

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({"pop": [1, 3, -2]}, "'pop' must be known and 0 or more. 1 of 3 are not"),
            ({"pop": ["1", "3", "2"]}, "Column 'pop' must hold numbers"),
            ({"block": ["1", "1", "3"]}, "Ids of block must appear once"),
            ({"group": [1, 1, 2]}, "Ids of group must be text"),
        ],
    )
    def test_columns_are_checked(self, columns, message):
        with pytest.raises(PolygonError, match=message):
            nested(blocks_of_groups(**columns), part="block", whole="group", size="pop")

    def test_a_missing_column_and_an_unknown_rule_are_refused(self):
        with pytest.raises(PolygonError, match="no column 'people'. There are: block, group, pop"):
            nested(blocks_of_groups(), part="block", whole="group", size="people")
        with pytest.raises(SpecError, match="zero is 'refuse', 'equal' or 'drop'"):
            nested(blocks_of_groups(), part="block", whole="group", size="pop", zero="keep")


def test_it_says_what_it_is_in_one_line():
    text = str(between_blocks(origin="table", notes=("something was left out",)))
    assert text == (
        "crosswalk: 4 parts of 3 sources in 4 targets (table); 1 sources go not wholly to targets; "
        "1 targets get nothing; something was left out"
    )
    assert "3 sources" in between_blocks()._repr_html_()
    assert repr(between_blocks()).startswith("<crosswalk: 4 parts")
