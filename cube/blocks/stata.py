"""Tables as Stata keeps them: short names, labels of variables and values, 32-bit whole numbers.

The format is that of https://www.stata.com/help.cgi?dta.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cube.blocks.members import PERIOD, is_text
from cube.blocks.tabulating import Column
from cube.errors import SpecError

NAME_LENGTH, LABEL_LENGTH, TEXT_BYTES = 32, 80, 2045

# https://www.stata.com/manuals/u11.pdf, section 11.3
_KEYWORDS = {
    "_all", "_b", "byte", "_coef", "_cons", "double", "float", "if", "in", "int", "long", "_n",
    "_N", "_pi", "_pred", "_rc", "_skip", "strL", "using", "with",
}  # fmt: skip

_EPOCH = datetime.datetime(1960, 1, 1)
"""When the file says that it was written, so that the same panel gives the same bytes."""

_WHOLE = (-2_147_483_647, 2_147_483_620)
"""Least and greatest number of Stata's ``long``; those beyond stand for missing values."""


def write_stata(path: str, columns: Sequence[Column], *, title: str) -> None:
    """Write a table as a ``.dta`` of Stata 14 or later.

    Args:
        path: Of the file.
        columns: In their order.
        title: The data label; its first 80 characters are kept.

    Raises:
        SpecError: A number has no place in Stata.
    """
    names = legal_names(columns)
    kept = dict(zip(names, columns, strict=True))
    frame = pd.DataFrame({name: _series(column) for name, column in kept.items()})
    texts = {n: c.values for n, c in kept.items() if is_text(frame[n].to_numpy())}
    try:
        frame.to_stata(
            path,
            write_index=False,
            version=None,
            time_stamp=_EPOCH,
            data_label=title[:LABEL_LENGTH],
            variable_labels={name: _label(name, column) for name, column in kept.items()},
            value_labels={
                n: dict[float, str](c.classes.items()) for n, c in kept.items() if c.classes
            },
            convert_dates={n: "td" for n, c in kept.items() if c.values.dtype.kind == "M"},
            convert_strl=[name for name, values in texts.items() if _is_long(values)],
        )
    except ValueError as error:
        raise SpecError(f"Stata cannot hold this table: {' '.join(str(error).split())}") from error


def legal_names(columns: Iterable[Column]) -> list[str]:
    """Names that Stata takes: at most 32 of A-Z, a-z, 0-9 and _, each once.

    Of a name that is too long the middle goes, so that ``_2000`` stays; a second one of the same
    letters gets ``_2`` in its place, and so on.
    """
    out: list[str] = []
    taken: set[str] = set()
    for column in columns:
        tail = _legal(column.tail)[-NAME_LENGTH // 2 :] if column.tail else ""
        stem = _legal(column.name[: len(column.name) - len(column.tail)])
        if not re.match("[A-Za-z_]", stem) or stem + tail in _KEYWORDS or _is_type(stem + tail):
            stem = f"_{stem}"
        out.append(_unique(stem, tail, taken))
        taken.add(out[-1])
    return out


def _legal(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub("[^A-Za-z0-9_]", "_", plain)


def _is_type(name: str) -> bool:
    return re.fullmatch("str[0-9]+", name) is not None


def _unique(stem: str, tail: str, taken: set[str]) -> str:
    number, end = 1, tail
    while (name := stem[: NAME_LENGTH - len(end)] + end) in taken:
        number += 1
        end = f"_{number}{tail}"
    return name


def _label(name: str, column: Column) -> str:
    """In words, with units; a name that had to be changed comes first, as it was."""
    was = f"{column.name}: " if name != column.name else ""
    units = f" ({column.units})" if column.units not in ("", "1") else ""
    return f"{was}{column.label}{units}"[:LABEL_LENGTH]


def _series(column: Column) -> pd.Series[Any]:
    values = column.values
    if values.dtype.kind == "b":
        return pd.Series(values.astype("int8"))
    if values.dtype.kind in "iu":
        return pd.Series(_whole(column.name, values))
    if values.dtype.kind == "M":
        return pd.Series(_days(column.name, values))
    if column.classes and _are_whole(values):
        return pd.Series(values).astype("Int32")
    if column.name == PERIOD and all(re.fullmatch("[0-9]{4}", v) for v in values):
        return pd.Series(values.astype("int16"))
    return pd.Series(values)


def _whole(name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """int32 where they fit, float64 where it holds them exactly."""
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if _WHOLE[0] <= low and high <= _WHOLE[1]:
        return values.astype("int32")
    if max(-low, high) <= 2**53:
        return values.astype("float64")
    raise SpecError(
        f"Stata has no whole numbers above 2**53, and {name!r} has {max(-low, high)}; "
        f"make it text first."
    )


def _days(name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if (values.astype("datetime64[D]") != values).any():
        raise SpecError(f"{name!r} holds times within a day; dates were expected for Stata.")
    return values


def _are_whole(values: npt.NDArray[Any]) -> bool:
    known = values[~np.isnan(values)]
    return bool((known == np.floor(known)).all() and (np.abs(known) < _WHOLE[1]).all())


def _is_long(values: npt.NDArray[Any]) -> bool:
    return any(len(v.encode()) > TEXT_BYTES for v in values)
