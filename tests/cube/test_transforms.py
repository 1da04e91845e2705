"""Transforms of amounts: the inverse gives back what went in, zero and missing apart."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cube.derivations import Derivation, derivation_from, derive, restore
from cube.errors import PolygonError, SpecError
from cube.states import MISSING, NUMBER, UNDEFINED, ZERO
from cube.transforms import (
    CPI_TO_2012,
    FLAG_MEANINGS,
    FLAG_VALUES,
    Chain,
    Deflate,
    Density,
    DensityOf,
    Difference,
    Log,
    PerCapita,
    Transform,
    factors_of,
    transform_from,
)

few = settings(deadline=None, max_examples=50)

UNARY = [Log(), Deflate("1999"), Density(0.0009), Chain((Deflate("2018"), Density(2.0), Log()))]
BINARY = [PerCapita(), Difference(2000, 2010), DensityOf()]
CHANGE = Difference(2000, 2010, log=False)

numbers = st.one_of(st.just(0.0), st.just(math.nan), st.floats(1e-6, 1e12))


def columns(count):
    return arrays.arrays("float64", (count, 8), elements=numbers)


class TestInverses:
    @few
    @given(amounts=columns(1), transform=st.sampled_from(UNARY))
    def test_of_one_column_give_it_back(self, amounts, transform):
        there = transform.forward(amounts[0])
        back = transform.inverse(there, state=transform.state(amounts[0]))
        np.testing.assert_allclose(back, amounts[0], rtol=1e-12)
        np.testing.assert_array_equal(back == 0, amounts[0] == 0)

    @few
    @given(amounts=columns(2), transform=st.sampled_from(BINARY))
    def test_of_two_columns_give_one_back_unless_it_is_undefined(self, amounts, transform):
        state = transform.state(*amounts)
        there = transform.forward(*amounts)
        wanted, given_ = amounts[transform.recovers], amounts[1 - transform.recovers]
        back = transform.inverse(there, given_, state=state)
        told = np.isin(state, [NUMBER, ZERO])
        np.testing.assert_allclose(back[told], wanted[told], rtol=1e-9)
        assert np.isnan(back[~told]).all()
        missing = np.isnan(amounts).any(axis=0)
        np.testing.assert_array_equal(state == MISSING, missing)
        np.testing.assert_array_equal(state == UNDEFINED, (given_ == 0) & (wanted > 0))

    @few
    @given(amounts=columns(1), transform=st.sampled_from(UNARY))
    def test_without_a_state_leave_out_what_has_no_value(self, amounts, transform):
        there = transform.forward(amounts[0])
        back = transform.inverse(there)
        np.testing.assert_array_equal(np.isnan(back), np.isnan(there))


class TestFormulas:
    def test_of_income_per_head_and_growth(self):
        income, people, later = np.array([3e6]), np.array([150.0]), np.array([300.0])
        assert PerCapita().forward(income, people) == pytest.approx(np.log(2e4))
        assert Difference(2000, 2010).forward(people, later) == pytest.approx(np.log(2))
        assert DensityOf().forward(people, later) == 0.5
        assert Density(0.0009).forward(np.array([9.0])) == pytest.approx(1e4)

    def test_of_dollars_of_1999_in_those_of_2012(self):
        assert Deflate("1999").forward(np.array([100.0]))[0] == pytest.approx(137.82055)
        assert Deflate("2008-2012").forward(np.array([100.0]))[0] == 100
        assert set(CPI_TO_2012) >= {"1999", "2005-2009", "2008-2012", "2013-2017", "2015-2019"}

    def test_of_a_price_index(self):
        factors = factors_of({2000: 50.0, 2012: 100.0}, base=2012)
        assert Deflate(2000, factors).forward(np.array([3.0]))[0] == 6
        assert Deflate(2012, factors).factor == 1

    def test_of_the_growth_of_income_per_head(self):
        table = pd.DataFrame(
            {"inc0": [10.0, 4.0, 0.0], "pop0": [5.0, 2.0, 1.0], "inc1": [30.0, 1.0, 5.0],
             "pop1": [5.0, 1.0, math.nan]}
        )  # fmt: skip
        plan = [
            Derivation("pc0", PerCapita(), ("inc0", "pop0")),
            Derivation("pc1", PerCapita(), ("inc1", "pop1")),
            Derivation("growth", Difference(2000, 2010, log=False), ("pc0", "pc1")),
        ]
        made = derive(table, plan)
        expected = [math.log(3), math.log(0.5), math.nan]
        np.testing.assert_allclose(made["growth"], expected)
        assert made["growth_state"].tolist() == [NUMBER, NUMBER, MISSING]
        again = restore(made.drop(columns=["pc1", "inc1"]), plan[:1] + plan[2:])
        np.testing.assert_allclose(again["pc1"], made["pc1"])

    def test_of_sums_of_exponentiated_logs(self):
        found = Log().forward(np.array([Log().inverse(np.log([2.0, 3.0])).sum()]))
        assert found[0] == pytest.approx(np.log(5))

    def test_of_states(self):
        assert Log().state(np.array([5.0, 0.0, math.nan])).tolist() == [NUMBER, ZERO, MISSING]
        assert Log().state(np.array([5.0])).dtype == "int8"
        assert len(FLAG_VALUES) == len(FLAG_MEANINGS)


class TestPandas:
    def test_a_series_stays_one(self):
        values = pd.Series([1.0, 0.0, math.nan], list("abc"), name="pop")
        found = Log().forward(values)
        assert (list(found.index), found.name) == (list("abc"), "pop")
        back = Log().inverse(found, state=Log().state(values))
        pd.testing.assert_series_equal(back, values)

    def test_a_frame_stays_one_and_nullable_numbers_are_taken(self):
        frame = pd.DataFrame({"a": pd.array([1, None], "Int64"), "b": [2.0, 3.0]})
        found = Density(2.0).forward(frame)
        pd.testing.assert_frame_equal(found, pd.DataFrame({"a": [0.5, math.nan], "b": [1.0, 1.5]}))

    def test_a_frame_takes_a_series_by_row(self):
        frame = pd.DataFrame({"a": [1.0, 2.0], "b": [4.0, 8.0]})  # as many columns as rows
        found = DensityOf().forward(frame, pd.Series([1.0, 2.0]))
        pd.testing.assert_frame_equal(found, pd.DataFrame({"a": [1.0, 1.0], "b": [4.0, 4.0]}))
        states = DensityOf().state(frame, pd.Series([0.0, 2.0]))
        assert states.to_numpy().tolist() == [[UNDEFINED] * 2, [NUMBER] * 2]

    def test_other_columns_and_a_series_before_a_frame_are_refused(self):
        frame = pd.DataFrame({"a": [1.0, 2.0], "b": [4.0, 8.0]})
        with pytest.raises(PolygonError, match="must have the same columns, in the same order"):
            PerCapita().forward(frame, frame[["b", "a"]])
        with pytest.raises(PolygonError, match=r"must have one shape. Received \(2,\) and \(2, 2"):
            PerCapita().forward(pd.Series([1.0, 2.0]), frame)

    def test_other_rows_are_refused(self):
        with pytest.raises(PolygonError, match="must have the same rows, in the same order"):
            PerCapita().forward(pd.Series([1.0, 2.0]), pd.Series([1.0, 2.0], [1, 0]))


class TestRefusals:
    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda: Log().forward(np.array([1.0, -2.0])), PolygonError,
             "Amounts must be 0 or more. 1 of 2 are negative, e.g. -2.0"),
            (lambda: Log().state(np.array([-2.0])), PolygonError, "Amounts must be 0 or more"),
            (lambda: Log().forward(np.array([math.inf])), PolygonError, "must be finite, or NaN"),
            (lambda: Log().forward(pd.Series(["1"])), PolygonError, "be numbers. Received str."),
            (lambda: Log().forward(["1", "2"]), PolygonError, "be numbers. Received <U1."),
            (lambda: Log().forward(pd.Series([1, None], dtype=object)), PolygonError,
             "must be numbers. Received object."),
            (lambda: Log().forward(pd.DataFrame({"a": [1.0], "b": [True]})), PolygonError,
             "must be numbers. Received bool."),
            (lambda: PerCapita().forward(np.ones(2), np.ones(3)), PolygonError,
             r"must have one shape. Received \(2,\) and \(3,\)"),
            (lambda: Log().inverse(np.ones(1), state=np.array([7])), PolygonError,
             "States are 0, 1, 2, 3; others came"),
            (lambda: Log().inverse(np.array([1.0, 1000.0])), PolygonError,
             "Logarithms must be below 709.78. 1 of 2 are not, e.g. 1000.0"),
            (lambda: Deflate(1, {1: "1.5"}), SpecError, "must be above 0. Received 1: '1.5'"),
            (lambda: Density("1"), SpecError, "km2 must be above 0. Received '1'"),
            (lambda: Chain((Chain((Log(),)), Density(1.0))), SpecError, "each Log, Deflate or"),
            (lambda: transform_from("log"), SpecError, "as it says of itself. Received 'log'"),
            (lambda: Deflate(1998), SpecError,
             "Prices are known of 1999, 2005-2009, 2008-2012, .*. Received '1998'"),
            (lambda: Deflate(1, {1: 0.0}), SpecError, "must be above 0. Received 1: 0.0"),
            (lambda: factors_of({2000: 1.0}, base=2012), SpecError, "known of 2000. Received ba"),
            (lambda: factors_of({2000: -1.0}, base=2000), SpecError, "must be above 0"),
            (lambda: Density(0), SpecError, "An area in km2 must be above 0. Received 0"),
            (lambda: Difference(2000, "2000"), SpecError, "two years. Received '2000' twice"),
            (lambda: Chain(()), SpecError, "one step or more"),
            (lambda: Chain((PerCapita(),)), SpecError, "each Log, Deflate or Density"),
            (lambda: Chain((Log(), Density(1.0))), SpecError, "A logarithm is the last step"),
            (lambda: transform_from({"transform": "root"}), SpecError,
             "A transform is one of log, per_capita, .*. Received {'transform': 'root'}"),
            (lambda: transform_from({"transform": "log", "base": 2}), SpecError,
             "'log' cannot be rebuilt"),
        ],
    )  # fmt: skip
    def test_say_what_is_wrong(self, call, error, message):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize("transform", [*UNARY, *BINARY, CHANGE], ids=str)
class TestContract:
    def test_it_survives_json(self, transform):
        assert transform_from(json.loads(json.dumps(transform.describe()))) == transform

    def test_it_is_a_transform_and_hashable(self, transform):
        assert isinstance(transform, Transform)
        assert hash(transform) == hash(transform_from(transform.describe()))


PLAN = [
    Derivation("log_pop_2000", Log(), "pop_2000"),
    Derivation("inc_2000_usd2012", Deflate("1999"), "inc_2000"),
    Derivation("log_inc_pc_2000", PerCapita(), ("inc_2000_usd2012", "pop_2000")),
    Derivation("growth", Difference(2000, 2010), ("pop_2000", "pop_2010")),
]


def census():
    return pd.DataFrame(
        {
            "pop_2000": [100.0, 0.0, math.nan, 50.0],
            "pop_2010": [200.0, 5.0, 1.0, 0.0],
            "inc_2000": [2e6, 0.0, 3e5, math.nan],
        },
        index=["G01", "G02", "G03", "G04"],
    )


class TestDerive:
    def test_it_adds_each_column_with_its_state(self):
        found = derive(census(), PLAN)
        assert list(found)[3:5] == ["log_pop_2000", "log_pop_2000_state"]
        assert found["log_pop_2000_state"].tolist() == [NUMBER, ZERO, MISSING, NUMBER]
        assert found["growth_state"].tolist() == [NUMBER, UNDEFINED, MISSING, ZERO]
        assert found["growth"].iloc[0] == pytest.approx(np.log(2))
        assert found["log_inc_pc_2000"].iloc[0] == pytest.approx(np.log(2e4 * 1.3782055))
        assert found["growth_state"].dtype == "int8"

    def test_what_it_made_gives_back_what_it_was_made_of(self):
        found = derive(census(), PLAN[:2])
        without = found.drop(columns=["pop_2000", "inc_2000"])
        back = restore(without, PLAN[:2])
        pd.testing.assert_frame_equal(back[["pop_2000", "inc_2000"]],
                                      census()[["pop_2000", "inc_2000"]])  # fmt: skip

    def test_incomes_come_back_given_the_people(self):
        found = derive(census(), PLAN[:3]).drop(columns=["inc_2000", "inc_2000_usd2012"])
        back = restore(found, PLAN[1:3])
        assert back["inc_2000"].iloc[0] == pytest.approx(2e6)
        assert back["inc_2000"].iloc[1] == 0
        assert back["inc_2000"].iloc[2:].isna().all()

    def test_it_leaves_the_table_alone(self):
        table = census()
        derive(table, PLAN)
        pd.testing.assert_frame_equal(table, census())

    def test_a_plan_survives_json(self):
        text = json.dumps([step.describe() for step in PLAN])
        assert [derivation_from(step) for step in json.loads(text)] == PLAN

    def test_it_says_which_column_holds_what_a_transform_refuses(self):
        table = pd.DataFrame({"pop": ["1", "2"]})
        with pytest.raises(PolygonError, match="^'log_pop' cannot be made of pop: Values to tran"):
            derive(table, [Derivation("log_pop", Log(), "pop")])

    def test_it_refuses_what_cannot_be_done(self):
        with pytest.raises(PolygonError, match="There is no column 'pop_1990'. There are: pop"):
            derive(census(), [Derivation("x", Log(), "pop_1990")])
        with pytest.raises(SpecError, match="There is a column 'pop_2010' already"):
            derive(census(), [Derivation("pop_2010", Log(), "pop_2000")])
        with pytest.raises(SpecError, match="'x' is made by PerCapita of 2 columns. Received inc"):
            Derivation("x", PerCapita(), "inc")
        with pytest.raises(PolygonError, match="There is no column 'growth'"):
            restore(census(), PLAN)
