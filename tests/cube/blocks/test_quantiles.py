"""Bits of floats sort as floats do, and digits found one by one are those of the quantile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cube.blocks import quantiles
from cube.blocks.quantiles import Selection, digits_of, sortable, unsortable
from cube.blocks.statistics import Quantile, parsed
from cube.errors import SpecError

floats = st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=40)


class TestBits:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @given(values=floats)
    def test_they_sort_as_the_floats_do_and_come_back(self, dtype, values):
        given_values = np.array(values, dtype)
        bits = sortable(given_values)
        np.testing.assert_array_equal(unsortable(bits, dtype), given_values)
        for one, other in zip(bits, given_values, strict=True):
            np.testing.assert_array_equal(one < bits, other < given_values)

    def test_there_are_two_digits_of_float32_and_four_of_float64(self):
        assert [digits_of(dtype) for dtype in ("float32", "float64")] == [2, 4]


def test_what_waits_for_further_tiles_is_not_added_up_at_every_one(monkeypatch):
    monkeypatch.setattr(quantiles, "PENDING", 8)
    turns, settle = [], Selection._settle
    monkeypatch.setattr(Selection, "_settle", lambda self: turns.append(0) or settle(self))
    tiles, one = 256, np.zeros(1, "int64")
    found = Selection(np.array([tiles]), [0.5], "float32")
    for tile in range(tiles):
        found.add(one, [(np.array([tile]), np.ones(1))])
    found.turn()
    assert found.prefixes.tolist() == [[tiles // 2 - 1]]
    assert len(turns) < 10


class TestNames:
    @pytest.mark.parametrize(
        ("written", "level", "name"),
        [("q90", 0.9, "q90"), (Quantile(0.995), 0.995, "q99_5"), ("q99_5", 0.995, "q99_5"),
         ("median", 0.5, "median"), ("q0", 0.0, "q0"), ("q100", 1.0, "q100")],
    )  # fmt: skip
    def test_a_quantile_may_be_written_as_text(self, written, level, name):
        (found,) = parsed(written)
        assert (found.level, found.name) == (pytest.approx(level), name)

    def test_each_statistic_is_taken_once(self):
        assert [s.name for s in parsed(("mean", "q90", "mean", Quantile(0.9)))] == ["mean", "q90"]

    @pytest.mark.parametrize("level", [-0.1, 1.5, float("nan")])
    def test_a_level_outside_0_to_1_is_refused(self, level):
        with pytest.raises(SpecError, match="A quantile lies from 0 to 1"):
            Quantile(level)

    @pytest.mark.parametrize("written", ["q", "qx", "Q90", "q9_0_1", 7])
    def test_what_is_no_statistic_is_refused(self, written):
        with pytest.raises(SpecError, match="There is no statistic"):
            parsed([written])
