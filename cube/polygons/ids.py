"""Ids of polygons: text, because numbers lose the zeros in front of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from cube.errors import PolygonError

SHOWN = 3
"""Number of ids that a message names."""


def text_ids(ids: Iterable[Any], what: str, *, unique: bool = True) -> pd.Index[Any]:
    """Ids as an index of text, in their order.

    Args:
        ids: Anything that holds text.
        what: What they are the ids of, for the message.
        unique: Refuse those that appear twice.

    Raises:
        PolygonError: There are none, or one is missing, empty, no text, or appears twice.
    """
    index = pd.Index(ids)
    if not len(index):
        raise PolygonError(f"Ids of {what} were expected. Received none.")
    if index.isna().any():
        raise PolygonError(f"{int(index.isna().sum())} of {len(index)} ids of {what} are missing.")
    typed = isinstance(index.dtype, pd.StringDtype)  # known to be text, without looking at all
    if not typed and pd.api.types.infer_dtype(index, skipna=False) != "string":
        raise PolygonError(
            f"Ids of {what} must be text, because numbers lose leading zeros. Received "
            f"{index[:1].tolist()[0]!r} ({index.dtype}); convert them first, e.g. with astype(str)."
        )
    index = index.astype("str")
    if (index == "").any():
        raise PolygonError(f"{int((index == '').sum())} of {len(index)} ids of {what} are empty.")
    if unique and not index.is_unique:
        twice = index[index.duplicated()].unique()
        raise PolygonError(
            f"Ids of {what} must appear once. {len(twice)} appear again: {examples(twice)}."
        )
    return index


def examples(ids: pd.Index[Any]) -> str:
    """The first few ids, for a message."""
    shown = ", ".join(repr(i) for i in ids[:SHOWN])
    return shown + (", …" if len(ids) > SHOWN else "")


def column_of(frame: pd.DataFrame, name: str) -> pd.Series[Any]:
    """A column by name.

    Raises:
        PolygonError: There is none; the message lists those there are.
    """
    if name not in frame:
        raise PolygonError(
            f"There is no column {name!r}. There are: {', '.join(map(str, frame.columns))}."
        )
    return frame[name]
