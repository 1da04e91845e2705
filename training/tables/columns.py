"""Columns of tables, checked: numbers, whole-number keys, and periods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from cube.errors import SpecError
from training.timings import Timing

if TYPE_CHECKING:
    import pandas as pd

IntArray = npt.NDArray[np.int64]


_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeColumn:
    """Which rows of a table belong to which timing.

    Attributes:
        column: Column of periods: text, or whole numbers such as years.
        periods: Period of the rows that each timing takes, in the order of the timings; two
            timings may take the same rows. One may stand for a list of one.
    """

    column: str
    periods: tuple[str, ...]

    def __post_init__(self) -> None:
        given: str | tuple[str, ...] = self.periods
        listed = (given,) if isinstance(given, str) else given
        object.__setattr__(self, "periods", tuple(map(str, listed)))

    @classmethod
    def of(
        cls, column: str, timings: Sequence[Timing], *, renamed: Mapping[str, str] | None = None
    ) -> Self:
        """Rows of the period of each timing's label.

        Args:
            column: See the class.
            timings: Of the sample.
            renamed: Label period to the table's period, for those that differ.

        Raises:
            SpecError: A timing has no label period, or several.
        """
        unclear = [str(timing) for timing in timings if len(timing.label) != 1]
        if unclear:
            raise SpecError(
                f"A timing with one label period was expected. Received {unclear[0]!r}; say the "
                f"period of each timing with TimeColumn(column={column!r}, periods=...)."
            )
        names = [timing.label[0] for timing in timings]
        return cls(column=column, periods=tuple((renamed or {}).get(n, n) for n in names))

    def matched(self, frame: pd.DataFrame, timings: int) -> tuple[IntArray, IntArray]:
        """Pairs of timing and row that belong together.

        Returns:
            int64 (pair,) numbers of timings, ascending, and int64 (pair,) rows.

        Raises:
            SpecError: There is not a period for each timing; the column is missing, or holds no
                periods; or the table has no row of a period.
        """
        if len(self.periods) != timings:
            raise SpecError(
                f"One period for each of {timings} timings was expected. Received "
                f"{', '.join(self.periods) or 'none'}."
            )
        given = _as_text(column_of(frame, self.column))
        pairs = [np.flatnonzero(given == period) for period in self.periods]
        absent = [p for p, rows in zip(self.periods, pairs, strict=True) if not len(rows)]
        if absent:
            there = sorted(set(given.tolist()))[:9]
            raise SpecError(
                f"Column {self.column!r} has no row of {', '.join(absent)}. It has: "
                f"{', '.join(there) or 'none'}."
            )
        timing = np.repeat(np.arange(timings), [len(rows) for rows in pairs])
        return timing, np.concatenate(pairs)


def column_of(frame: pd.DataFrame, name: str) -> pd.Series[Any]:
    """A column by name.

    Raises:
        SpecError: There is none, or there are several; the message lists those there are.
    """
    if name not in frame:
        raise SpecError(f"There is no column {name!r}. There are: {', '.join(map(str, frame))}.")
    if (several := list(frame).count(name)) > 1:
        raise SpecError(f"There are {several} columns {name!r}; one was expected. Rename them.")
    return frame[name]


def listed_columns(columns: Sequence[str]) -> list[str]:
    """Names of columns.

    Raises:
        SpecError: There is none, one comes twice, or they are a text.
    """
    if isinstance(columns, str) or not columns or len(set(columns)) != len(columns):
        raise SpecError(f"Columns of a table are a list, each once. Received {columns!r}.")
    return list(columns)


def numbers_of(frame: pd.DataFrame, columns: Sequence[str]) -> npt.NDArray[np.float64]:
    """Values of columns, float64 (row, column), NaN where missing; all fit float32.

    Raises:
        SpecError: No column is named, or one twice; one is missing, or holds text or infinities.
    """
    names = listed_columns(columns)
    return np.stack([_numbers(column_of(frame, name), name) for name in names], axis=1)


def _numbers(column: pd.Series[Any], name: str) -> npt.NDArray[np.float64]:
    from pandas.api.types import is_complex_dtype, is_numeric_dtype

    if not is_numeric_dtype(column) or is_complex_dtype(column):
        raise SpecError(
            f"Column {name!r} must hold numbers. It holds {column.dtype}; convert it first, e.g. "
            f"with pandas.to_numeric."
        )
    values = column.to_numpy("float64", na_value=np.nan)
    large = np.abs(values) > np.finfo("float32").max
    if large.any():
        raise SpecError(
            f"Column {name!r} must be finite as float32, or missing. {int(large.sum())} of "
            f"{len(values)} values are not."
        )
    return values


def whole_numbers(frame: pd.DataFrame, name: str) -> IntArray:
    """A column of keys, int64 (row,).

    Raises:
        SpecError: It is missing, or holds something else than whole numbers from 0.
    """
    column = column_of(frame, name)
    missing = int(column.isna().sum())
    whole = column.dtype.kind in "iu"
    if not whole or missing or not column.between(0, _LARGEST).all():
        span = f", from {column.min()} to {column.max()}" if whole and len(column) else ""
        raise SpecError(
            f"Column {name!r} must hold whole numbers from 0, none missing. It holds "
            f"{column.dtype}{span}, {missing} missing."
        )
    return column.to_numpy("int64")


def key_rows(keys: IntArray, name: str) -> tuple[IntArray, IntArray]:
    """Keys in ascending order, and the row of each.

    Raises:
        SpecError: A key comes twice.
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    again = int((ordered[1:] == ordered[:-1]).sum())
    if again:
        raise SpecError(
            f"A table has one row for each {name}. {again} of {len(keys)} rows come again; merge "
            f"them first."
        )
    return ordered, order.astype("int64")


def _as_text(column: pd.Series[Any]) -> npt.NDArray[np.object_]:
    from pandas.api.types import infer_dtype

    kind = infer_dtype(column.astype(object), skipna=False)
    if kind not in ("string", "integer", "empty"):
        raise SpecError(
            f"Column {column.name!r} must hold periods as text or whole numbers, none missing. It "
            f"holds {column.dtype} ({kind})."
        )
    return column.astype(object).map(str).to_numpy(object)
