"""Quantiles by radix selection are numpy's, and sums of parts those of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from training.statistics.tallies import Selection, Sums, digits, keys, passes, value_of

LEVELS = (0.0, 0.02, 0.5, 0.9, 1.0)
DTYPES = ("uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "float32", "float64")


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_keys_sort_as_the_values_do_and_give_them_back(dtype, data):
    kind = np.dtype(dtype)
    elements = None
    if kind.kind == "f":
        elements = {"allow_nan": False, "allow_infinity": False, "allow_subnormal": False}
    values = data.draw(arrays.arrays(kind, (5,), elements=elements))
    order = np.argsort(keys(values), kind="stable")
    assert (values[order] == np.sort(values)).all()
    assert [value_of(int(key), dtype) for key in keys(values)] == [float(v) for v in values]


@pytest.mark.parametrize("falling", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_quantiles_are_numpys_whatever_the_parts(dtype, falling):
    rng = np.random.default_rng(7)
    if np.dtype(dtype).kind == "f":
        values = rng.normal(0, 100, 999).astype(dtype)
    else:
        info = np.iinfo(dtype)
        values = rng.integers(info.min // 2, info.max // 2, 999).astype(dtype)
    selection = Selection(dtype=dtype, levels=LEVELS, falling=falling)
    passed = 0
    while not selection.complete:
        for part in np.array_split(values, 7):
            selection.add(digits(part, selection.known, selection.prefixes))
        selection.turn()
        passed += 1
    assert passed == passes(dtype)
    sign = -1.0 if falling else 1.0
    exact = sign * values.astype("float64")
    expected = sign * np.quantile(exact, LEVELS, method="inverted_cdf")
    assert selection.values() == tuple(expected)


def test_sums_of_parts_are_sums_of_the_whole():
    values = np.random.default_rng(0).normal(1e6, 1, 1000)
    parts = [Sums.of(part) for part in np.split(values, [0, 3, 500])]
    whole = Sums()
    for part in parts:
        whole = whole.joined(part)
    assert (whole.count, whole.low, whole.high) == (1000, values.min(), values.max())
    assert whole.mean == pytest.approx(values.mean(), rel=1e-12)
    assert whole.squares / 1000 == pytest.approx(values.var(), rel=1e-8)
