"""Arithmetic of amounts that keeps zero, missing and undefined apart.

What has no logarithm or no ratio is NaN; why, says a *state* beside it. Arrays
come back as arrays, and what pandas holds as what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cube.errors import PolygonError

FloatArray = npt.NDArray[np.float64]

FLAG_VALUES = (0, 1, 2, 3)
"""Codes of a state, int8."""

FLAG_MEANINGS = ("number", "zero", "missing", "undefined")
"""What they say: the transform has a value; the amount is zero; something is
unknown; an amount above zero was divided by zero."""

NUMBER, ZERO, MISSING, UNDEFINED = FLAG_VALUES


def mapped(function: Callable[..., Any], *values: Any) -> Any:
    """A function of float64 arrays of one shape, over arrays or over what pandas holds.

    Beside a DataFrame a Series holds a number for each row.

    Raises:
        PolygonError: Something holds no numbers, or an infinite one; or rows, columns or shapes
            differ.
    """
    first = values[0]
    for other in values[1:]:
        _check_alike(first, other)
    arrays = [_floats(v) for v in values]
    if isinstance(first, pd.DataFrame):
        arrays = [a[:, None] if a.ndim == 1 else a for a in arrays]
    result = function(*arrays)
    if isinstance(first, pd.Series):
        return pd.Series(result, first.index, name=first.name)
    if isinstance(first, pd.DataFrame):
        return pd.DataFrame(result, first.index, first.columns)
    return result


def _check_alike(first: Any, other: Any) -> None:
    """Refuse values that do not belong to one another place by place."""
    frames = (pd.Series, pd.DataFrame)
    by_row = isinstance(first, pd.DataFrame) and isinstance(other, pd.Series)
    if isinstance(first, frames) and isinstance(other, frames):
        if not first.index.equals(other.index):
            raise PolygonError("Columns must have the same rows, in the same order.")
        both = isinstance(first, pd.DataFrame) and isinstance(other, pd.DataFrame)
        if both and not first.columns.equals(other.columns):
            raise PolygonError("Tables must have the same columns, in the same order.")
    if np.shape(first) != np.shape(other) and np.ndim(other) and not by_row:
        raise PolygonError(
            f"Values must have one shape. Received {np.shape(first)} and {np.shape(other)}."
        )


def _floats(values: Any) -> FloatArray:
    kinds = pd.api.types
    columns = values.dtypes if isinstance(values, pd.DataFrame) else [_typed(values).dtype]
    for dtype in columns:
        if not kinds.is_numeric_dtype(dtype) or kinds.is_bool_dtype(dtype):
            raise PolygonError(f"Values to transform must be numbers. Received {dtype}.")
    if isinstance(values, pd.Series | pd.DataFrame):
        numbers = values.to_numpy("float64", na_value=np.nan)
    else:
        numbers = np.asarray(values, "float64")
    if np.isinf(numbers).any():
        raise PolygonError("Values to transform must be finite, or NaN where nothing is known.")
    return numbers


def _typed(values: Any) -> Any:
    return values if isinstance(values, pd.Series) else np.asarray(values)


def positive_or_zero(values: FloatArray) -> FloatArray:
    """The same values.

    Raises:
        PolygonError: One is negative.
    """
    if (values < 0).any():
        wrong = int((values < 0).sum())
        raise PolygonError(
            f"Amounts must be 0 or more. {wrong} of {values.size} are negative, e.g. "
            f"{values[values < 0][0]}."
        )
    return values


def log(amounts: FloatArray) -> FloatArray:
    """Natural logarithms of amounts, NaN for 0 and NaN.

    Raises:
        PolygonError: An amount is negative.
    """
    positive = positive_or_zero(amounts) > 0
    return np.log(amounts, out=np.full(amounts.shape, np.nan), where=positive)


def log_ratio(amounts: FloatArray, divisors: FloatArray) -> FloatArray:
    """Logarithm of amount over divisor, NaN where one of them is 0 or NaN."""
    return log(amounts) - log(divisors)


def exp(logs: FloatArray) -> FloatArray:
    """Amounts of natural logarithms.

    Raises:
        PolygonError: One is too large for a number.
    """
    with np.errstate(over="ignore"):
        amounts: FloatArray = np.exp(logs)
    if (wrong := np.isinf(amounts)).any():
        raise PolygonError(
            f"Logarithms must be below {np.log(np.finfo('float64').max):.2f}. {int(wrong.sum())} "
            f"of {logs.size} are not, e.g. {logs[wrong][0]}."
        )
    return amounts


def ratio(amounts: FloatArray, divisors: FloatArray) -> FloatArray:
    """Amount over divisor, NaN where the divisor is 0 or one of them is NaN."""
    divisors = np.broadcast_to(positive_or_zero(divisors), amounts.shape)
    return np.divide(amounts, divisors, out=np.full(amounts.shape, np.nan), where=divisors > 0)


def states(amounts: FloatArray) -> npt.NDArray[np.int8]:
    """Number, zero or missing."""
    codes = np.where(amounts == 0, ZERO, NUMBER)
    return np.where(np.isnan(amounts), MISSING, codes).astype("int8")


def ratio_states(amounts: FloatArray, divisors: FloatArray) -> npt.NDArray[np.int8]:
    """Number, zero (the amount), missing (one of them), or undefined (the divisor is zero)."""
    codes = np.where((divisors == 0) & (amounts != 0), UNDEFINED, states(amounts))
    missing = np.isnan(divisors) | np.isnan(amounts)
    return np.where(missing, MISSING, codes).astype("int8")


def difference_states(last: FloatArray, first: FloatArray) -> npt.NDArray[np.int8]:
    """Number, or missing (one of them)."""
    return np.where(np.isnan(last - first), MISSING, NUMBER).astype("int8")


def with_zeros(values: Any, state: Any) -> Any:
    """Values, 0 where the state says zero and NaN where it says that there is no number.

    Args:
        values: Values of an inverse.
        state: Codes of :data:`FLAG_VALUES`; None leaves the values as they are.

    Raises:
        PolygonError: There are other codes.
    """
    return values if state is None else mapped(_corrected, values, state)


def _corrected(values: FloatArray, state: FloatArray) -> FloatArray:
    if not np.isin(state, FLAG_VALUES).all():
        raise PolygonError(f"States are {', '.join(map(str, FLAG_VALUES))}; others came.")
    return np.where(state == ZERO, 0.0, np.where(state == NUMBER, values, np.nan))
