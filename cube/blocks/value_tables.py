"""Tables of what polygons hold, read from files with their ids as text."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import pandas as pd

from cube.errors import PolygonError, SpecError
from cube.polygons.ids import text_ids


def read_values(path: str | os.PathLike[str], *, id: str, columns: Sequence[str]) -> pd.DataFrame:
    """Read numbers by id.

    Args:
        path: ``.csv``, ``.parquet`` or Stata's ``.dta``.
        id: Column of the ids; in a CSV it is taken as text, with its leading zeros.
        columns: Columns of numbers; what is empty or missing becomes NaN.

    Returns:
        float64, indexed by id, in the file's order.

    Raises:
        PolygonError: The file cannot be read, a column is missing or no number, or ids are
            missing, no text or appear twice.
        SpecError: The suffix is unknown.
    """
    name = os.fspath(path)
    if not os.path.exists(name):
        raise PolygonError(f"There is no file {name!r}.")
    wanted = list(dict.fromkeys([id, *columns]))
    frame = _read(name, wanted, id)
    if lacking := [column for column in wanted if column not in frame]:
        raise PolygonError(
            f"{name!r} has no column {lacking[0]!r}. It has: {', '.join(map(str, frame.columns))}."
        )
    try:
        numbers = {c: frame[c].to_numpy("float64", na_value=np.nan) for c in wanted if c != id}
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())  # in one line
        raise PolygonError(f"Columns of {name!r} must hold numbers: {reason}.") from error
    return pd.DataFrame(numbers, index=text_ids(frame[id], f"column {id!r} of {name!r}"))


def _read(name: str, wanted: list[str], id: str) -> pd.DataFrame:
    suffix = os.path.splitext(name)[1].lower()
    if suffix not in (".csv", ".parquet", ".dta"):
        raise SpecError(f"A table of values ends in .csv, .parquet or .dta. Received {name!r}.")
    try:
        if suffix == ".parquet":
            return pd.read_parquet(name)
        if suffix == ".dta":
            return pd.read_stata(name, convert_categoricals=False)
        # An id may be called NA; only what is empty is missing.
        empty = {column: [""] for column in wanted}
        return pd.read_csv(
            name, dtype={id: str}, keep_default_na=False, na_values=empty, encoding="utf-8-sig"
        )
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise PolygonError(f"{name!r} cannot be read as a table: {reason}") from error
