"""What polygons carry: counts of persons or things, and ids."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cube.errors import PolygonError
from cube.polygons.ids import SHOWN, column_of, examples


def check_counts(frame: pd.DataFrame, column: str) -> npt.NDArray[np.float64]:
    """Values of a column of counts as float64, shape (polygon,).

    Raises:
        PolygonError: The column is missing, text, not finite or negative.
    """
    found = column_of(frame, column)
    if len(found) and (not holds_numbers(found) or pd.api.types.is_bool_dtype(found)):
        raise PolygonError(
            f"Column {column!r} must hold numbers. It holds {found.dtype}, e.g. "
            f"{_example(found)}; convert it first, e.g. with pandas.to_numeric."
        )
    values = found.to_numpy(dtype="float64", na_value=math.nan)
    for what, wrong in (("finite", ~np.isfinite(values)), ("0 or more", values < 0)):
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise PolygonError(
                f"Column {column!r} must be {what}. {int(wrong.sum())} of {len(values)} values "
                f"are not, the first in row {first}: {values[first]}."
            )
    return values


_NUMBERS = {"integer", "floating", "mixed-integer-float", "decimal", "boolean", "empty"}
"""What pandas calls objects that are numbers."""


def holds_numbers(column: pd.Series[Any]) -> bool:
    """True for real numbers and booleans, also as objects; numbers as text are text."""
    kinds = pd.api.types
    if column.dtype == object:
        return kinds.infer_dtype(column, skipna=True) in _NUMBERS
    return kinds.is_numeric_dtype(column) and not kinds.is_complex_dtype(column)


def check_ids(frame: pd.DataFrame, column: str) -> None:
    """Refuse a column that does not name each row.

    Raises:
        PolygonError: The column is missing; or an id is missing, neither text nor a whole number,
            or there twice.
    """
    values = column_of(frame, column)
    missing = (values.isna() | (values.astype(object) == "")).to_numpy(bool)
    if missing.any():
        rows = ", ".join(map(str, np.flatnonzero(missing)[:SHOWN]))
        raise PolygonError(
            f"Column {column!r} must hold an id for each polygon. {int(missing.sum())} of "
            f"{len(values)} are missing, the first in row {rows}."
        )
    if _kind(values) not in ("string", "integer", "empty"):
        raise PolygonError(
            f"Column {column!r} must hold ids: text or whole numbers. It holds {values.dtype}, "
            f"e.g. {_example(values)}; convert it first, e.g. with astype('int64') or astype(str)."
        )
    if values.duplicated().any():
        twice = pd.Index(values[values.duplicated()].unique())
        raise PolygonError(
            f"Column {column!r} must hold each id once. {len(twice)} appear again: "
            f"{examples(twice)}. Merge their polygons first, e.g. with GeoDataFrame.dissolve."
        )


def ids_as_text(values: pd.Series[Any]) -> npt.NDArray[Any]:
    """Ids, whole numbers as text and others as they are, object (polygon,)."""
    objects = values.astype(object)
    if _kind(values) == "integer":
        objects = objects.map(str, na_action="ignore")
    return objects.to_numpy(object)


def _kind(values: pd.Series[Any]) -> str:
    """What pandas calls the values, whatever their dtype, such as categories."""
    return pd.api.types.infer_dtype(values.astype(object), skipna=True)


def _example(values: pd.Series[Any]) -> str:
    """The first value, as a plain Python one."""
    return repr(values.iloc[:1].tolist()[0])
