"""Conditions on columns say what pandas says, run no code, and take nothing missing for true."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.errors import SplitError
from training.index.expressions import condition

FRAME = pd.DataFrame(
    {
        "share": [0.0, 0.25, np.nan, 0.75, 1.0],
        "class": pd.array([1, 2, 2, None, 4], dtype="Int64"),
        "label": ["2000", "2005", "2010", None, "2000"],
        "clear": [True, False, True, True, False],
        "row": np.arange(5) * 8,
        "two words": [1, 2, 3, 4, 5],
        "kind": pd.Categorical(["ice", "rock", None, "ice", "rock"]),
        "geometry": [None] * 5,
    }
)


def _rows(expression):
    return np.flatnonzero(condition(FRAME, expression)).tolist()


numbers = st.sampled_from(["a", "b", "3", "0.5", "(a + 1)", "b * 2", "-a", "a / 4", "a % 3"])
comparisons = st.tuples(
    st.sampled_from(["a", "b"]), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), numbers
).map(" ".join)
members = st.sampled_from(["a in [1, 3]", "text in ['x', 'y']", "text == 'x'", "text not in ['x']"])
conditions = st.recursive(
    comparisons | members,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or", "&", "|"]), inner).map(
            lambda t: f"({t[0]}) {t[1]} ({t[2]})"
        ),
        inner.map(lambda text: f"not ({text})"),
    ),
    max_leaves=4,
)


class TestLaws:
    @settings(deadline=None, max_examples=80)
    @given(conditions, st.integers(0, 99))
    def test_they_are_true_where_pandas_says_so(self, expression, seed):
        rng = np.random.default_rng(seed)
        frame = pd.DataFrame(
            {"a": rng.integers(0, 5, 12), "b": rng.random(12) * 4, "text": rng.choice([*"xyz"], 12)}
        )
        expected = frame.eval(expression, engine="python")
        assert condition(frame, expression).tolist() == expected.tolist()

    @pytest.mark.parametrize(
        ("expression", "rows"),
        [
            ("share > 0.5", [3, 4]),
            ("not share > 0.5", [0, 1]),
            ("share != 0.25", [0, 3, 4]),
            ("share > 0.5 or row == 16", [2, 3, 4]),
            ("`class` == 2", [1, 2]),
            ("`class` != 2", [0, 4]),
            ("label not in ['2000']", [1, 2]),
            ("not (label in ('2000', '2005'))", [2]),
        ],
    )
    def test_what_is_missing_is_not_true_nor_is_its_contrary(self, expression, rows):
        assert _rows(expression) == rows

    @pytest.mark.parametrize(
        ("expression", "rows"),
        [
            ("0.2 < share < 0.8", [1, 3]),
            ("share > 0.2 & row < 30", [1, 3]),
            ("clear and ~(row > 16)", [0, 2]),
            ("clear == True", [0, 2, 3]),
            ("`two words` ** 2 > 15", [3, 4]),
            ("label == '2000' | kind == 'rock'", [0, 1, 4]),
            ("label != 'a & `b`' and row > 24", [4]),
            ("row ** 9 ** 9 ** 9 > 1", [1, 2, 3, 4]),
            ("row / 0 > 1", [1, 2, 3, 4]),
        ],
    )
    def test_columns_of_any_kind_and_name(self, expression, rows):
        assert _rows(expression) == rows


class TestRefusals:
    @pytest.mark.parametrize(
        "expression",
        [
            "__import__('os').system('true') == 0",
            "share.to_csv('hack.csv') == 1",
            "label.str.len() > 3",
            "row[0] == 0",
            "(lambda: share)() > 1",
            "[x for x in share] == 1",
            "share if clear else row",
            "(share := 1) > 0",
            "f'{share}' == label",
            "share is None",
            "share == None",
            "share == [0, 1]",
            "label in share",
            "label in []",
            "row << 2 > 1",
            "share == b'x'",
        ],
    )
    def test_nothing_is_called_or_looked_into(self, expression):
        with pytest.raises(SplitError, match="must be made of comparisons, arithmetic, and, or"):
            condition(FRAME, expression)

    def test_text_that_hides_a_call_in_backticks_runs_nothing(self, tmp_path):
        file = tmp_path / "hack.csv"
        text = f'label == "`" or share.to_csv(\'{file}\') or label == "`"'
        with pytest.raises(SplitError, match="must be made of comparisons"):
            condition(FRAME, text)
        assert not file.exists()

    @pytest.mark.parametrize(
        ("expression", "match"),
        [
            ("cloud > 0", "names a column that is not there: 'cloud'. There are: share, class"),
            ("geometry == 1", "names a column that is not there: 'geometry'"),
            ("`a b` > 0", "names a column that is not there: 'a b'"),
            ("share >", "is no condition on columns, such as .*: invalid syntax"),
            ("share = 1", "is no condition on columns"),
            ("share > 0; row", "is no condition on columns"),
            ("@share > 0", "is no condition on columns"),
            ("class > 0", "is no condition on columns"),
            ("", "is no condition on columns"),
            ("(" * 500 + "share", "is no condition on columns"),
            ("label > 3", "compares text with what is no text; put text in quotes"),
            ("label == 2000", "compares text with what is no text; put text in quotes"),
            ("label != 2000", "compares text with what is no text"),
            ("label in ['2000', 2005]", "compares text with what is no text"),
            ("share == '0.25'", "compares text with what is no text"),
            ("kind == 1", "compares text with what is no text"),
            ("row > 1" + "0" * 400, "is no condition on columns, .* too large"),
            ("share", "must be true or false of each chip, .* It gives float64"),
            ("'text'", "must be true or false of each chip, .* It gives str"),
            ("1 > 2", "must be true or false of each chip, .* It gives boolean"),
            ("share and clear", "must join conditions, .*Received 'share' among them"),
            ("label + 1 > 2", "must compute with numbers. Received 'label'"),
            ("'a' * 9 == label", "must compute with numbers. Received \"'a'\""),
            ("clear + 1 > 1", "must compute with numbers. Received 'clear'"),
        ],
    )
    def test_what_is_no_condition_is_refused_in_one_line(self, expression, match):
        with pytest.raises(SplitError, match=match) as caught:
            condition(FRAME, expression)
        assert "\n" not in str(caught.value)
