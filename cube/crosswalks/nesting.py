"""Crosswalks from wholes to the parts that they consist of, as block groups of blocks."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from cube.crosswalks.crosswalk import Crosswalk
from cube.crosswalks.parts import group_sums
from cube.crosswalks.reallocating import check_sizes
from cube.errors import PolygonError, SpecError
from cube.polygons.ids import column_of, examples, text_ids


def nested(
    parts: pd.DataFrame,
    *,
    part: str,
    whole: str,
    size: str,
    zero: Literal["refuse", "equal", "drop"] = "refuse",
) -> Crosswalk:
    """From wholes to the parts they consist of, in proportion to a size.

    Incomes of block groups go to their blocks by ``inc_group x pop_block / pop_group``.

    Args:
        parts: One row per part.
        part: Column of the part's id.
        whole: Column of the id of the whole that it belongs to.
        size: Column of the part's size, such as its population: finite, not negative.
        zero: Wholes in which all sizes are 0 are refused; ``"equal"`` divides
            them equally, ``"drop"`` gives them to no part, which loses their
            amounts and leaves their parts without a value.

    Raises:
        PolygonError: A column is missing; ids or sizes cannot be used; a whole
            has size 0.
        SpecError: ``zero`` is unknown.
    """
    if zero not in ("refuse", "equal", "drop"):
        raise SpecError(f"zero is 'refuse', 'equal' or 'drop'. Received {zero!r}.")
    targets = text_ids(column_of(parts, part), part)
    into, sources = pd.factorize(text_ids(column_of(parts, whole), whole, unique=False))
    sizes = check_sizes(column_of(parts, size), size)
    total = group_sums(into, sizes, len(sources))
    empty = total == 0
    notes = []
    if empty.any():
        wholes = f"{int(empty.sum())} of {len(empty)} wholes"
        found = f"{wholes} have {size} 0: {examples(sources[empty])}"
        if zero == "refuse":
            raise PolygonError(f"{found}. Say what to do with them: zero='equal' or zero='drop'.")
        done = "divided equally" if zero == "equal" else "dropped"
        notes = [f"{found}; {done}"]
    if zero == "equal":
        sizes = np.where(empty[into], 1.0, sizes)
        total = group_sums(into, sizes, len(sources))
    kept = ~empty[into] if zero == "drop" else np.full(len(into), True)
    return Crosswalk.of_entries(
        sources, targets, source=into[kept], target=np.flatnonzero(kept),
        part=sizes[kept] / total[into[kept]], notes=tuple(notes), origin=f"parts by {size}",
        cover="partial" if zero == "drop" and empty.any() else "whole",
    )  # fmt: skip
