"""What polygons carry: counts of persons or things, and ids."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from cube.errors import PolygonError

_SHOWN = 3
"""Number of ids that a message names."""


def check_counts(frame: pd.DataFrame, column: str) -> npt.NDArray[np.float64]:
    """Values of a column of counts as float64, shape (polygon,).

    Raises:
        PolygonError: The column is missing, text, not finite or negative.
    """
    _check_column(frame, column)
    kinds = pd.api.types
    if not kinds.is_numeric_dtype(frame[column]) or kinds.is_bool_dtype(frame[column]):
        raise PolygonError(
            f"Column {column!r} must hold numbers. It holds {frame[column].dtype}, e.g. "
            f"{frame[column].iloc[0]!r}; convert it first, e.g. with pandas.to_numeric."
        )
    values = frame[column].to_numpy(dtype="float64", na_value=math.nan)
    for what, wrong in (("finite", ~np.isfinite(values)), ("0 or more", values < 0)):
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise PolygonError(
                f"Column {column!r} must be {what}. {int(wrong.sum())} of {len(values)} values "
                f"are not, the first in row {first}: {values[first]}."
            )
    return values


def check_ids(frame: pd.DataFrame, column: str) -> None:
    """Refuse a column that does not name each row.

    Raises:
        PolygonError: The column is missing; or an id is missing, neither text nor a whole number,
            or there twice.
    """
    _check_column(frame, column)
    values = frame[column]
    missing = (values.isna() | (values.astype(object) == "")).to_numpy(bool)
    kind = pd.api.types.infer_dtype(values.astype(object), skipna=True)
    if kind not in ("string", "integer", "empty"):
        raise PolygonError(
            f"Column {column!r} must hold ids: text or whole numbers. It holds {values.dtype}, "
            f"e.g. {values.iloc[0]!r}; convert it first, e.g. with astype('int64') or astype(str)."
        )
    if missing.any():
        rows = ", ".join(map(str, np.flatnonzero(missing)[:_SHOWN]))
        raise PolygonError(
            f"Column {column!r} must hold an id for each polygon. {int(missing.sum())} of "
            f"{len(values)} are missing, the first in row {rows}."
        )
    if values.duplicated().any():
        twice = values[values.duplicated()].unique()
        shown = ", ".join(repr(i) for i in twice[:_SHOWN].tolist())
        raise PolygonError(
            f"Column {column!r} must hold each id once. {len(twice)} appear again: "
            f"{shown}{', …' if len(twice) > _SHOWN else ''}. Merge their polygons first, e.g. with "
            f"GeoDataFrame.dissolve."
        )


def _check_column(frame: pd.DataFrame, column: str) -> None:
    if column not in frame:
        raise PolygonError(
            f"There is no column {column!r}. There are: {', '.join(map(str, frame.columns))}."
        )
