"""Chips by class: numbers checked, and continuous values put into bins."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cube.errors import SplitError

IntArray = npt.NDArray[np.int64]

_MOST = 256
"""Whole numbers of more different values are amounts, not classes."""

_EXACT = 2.0**53
"""Floats below this are whole where they look so."""


def check_ids(ids: npt.ArrayLike) -> IntArray:
    """Chip numbers, int64 (n,), once each.

    Raises:
        SplitError: There are none, one is below 0, or one comes twice.
    """
    numbers = np.asarray(ids)
    if numbers.ndim != 1 or not len(numbers) or numbers.dtype.kind not in "iu":
        raise SplitError(
            f"Chips are whole numbers (n,), at least one. Received {numbers.dtype} {numbers.shape}."
        )
    if numbers.min() < 0 or numbers.max() > np.iinfo("int64").max:
        raise SplitError(
            f"Chips are numbered from 0. Received numbers from {numbers.min()} to {numbers.max()}."
        )
    again = len(numbers) - len(np.unique(numbers))
    if again:
        raise SplitError(f"Chips are named once each. {again} of {len(numbers)} come again.")
    return numbers.astype("int64")


def named_classes(classes: npt.ArrayLike, count: int) -> npt.NDArray[Any]:
    """Class of each chip, whole numbers, booleans or text (n,), none missing.

    Raises:
        SplitError: There is not one for each chip, some are missing, or they are no classes.
    """
    import pandas as pd

    given = np.asarray(classes)
    if given.shape != (count,):
        raise SplitError(
            f"One class for each of {count} chips was expected. Received {given.shape}."
        )
    missing = pd.isna(given)
    if missing.any():
        raise SplitError(
            f"{int(missing.sum())} of {count} chips have no class; leave them out of the selection."
        )
    if given.dtype.kind == "f" and (given == np.round(given)).all() and (abs(given) < _EXACT).all():
        given = given.astype("int64")
    if given.dtype.kind == "O":
        given = given.astype(str)
    different = len(np.unique(given))
    if given.dtype.kind == "f" or (given.dtype.kind in "iu" and different > _MOST):
        raise SplitError(
            f"Numbers of {different} different values are no classes; say with bins= at which "
            f"edges they are parted."
        )
    return given


def binned(values: npt.NDArray[Any], name: str, edges: Sequence[float] | None) -> npt.NDArray[Any]:
    """Values as classes: as they are, or the bin of each as text such as ``"0 to 0.5"``.

    Args:
        values: (n,).
        name: What they are, for messages.
        edges: Ascending; the last bin holds its upper edge too. None takes values as classes.

    Raises:
        SplitError: Edges do not ascend, or values are no numbers, missing, or outside the bins.
    """
    if edges is None:
        return values
    ends = np.asarray(edges, "float64")
    if ends.ndim != 1 or len(ends) < 2 or not (np.diff(ends) > 0).all():
        raise SplitError(f"Edges of bins ascend, and are at least 2. Received {list(edges)}.")
    if values.dtype.kind not in "iufb":
        raise SplitError(f"Bins are of numbers. {name!r} holds {values.dtype}; leave bins= out.")
    outside = ~((values >= ends[0]) & (values <= ends[-1]))
    if outside.any():
        raise SplitError(
            f"{int(outside.sum())} of {len(values)} chips have a {name!r} that is missing or "
            f"outside {ends[0]:g} to {ends[-1]:g}; leave them out of the selection, or add bins."
        )
    place = np.minimum(np.searchsorted(ends, values, side="right"), len(ends) - 1) - 1
    names = np.array([f"{low:.12g} to {high:.12g}" for low, high in itertools.pairwise(ends)])
    return names[place]
