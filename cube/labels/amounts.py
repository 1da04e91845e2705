"""One number per polygon, as people hand them over: aligned with the polygons, and checked."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cube.coverage.handle import Coverage
from cube.errors import PolygonError
from cube.polygons.columns import holds_numbers, ids_as_text
from cube.polygons.ids import examples

FloatArray = npt.NDArray[np.float64]

VALUES = "Values of polygons"
"""What errors call them."""


def aligned(coverage: Coverage, values: npt.ArrayLike, *, what: str = VALUES) -> FloatArray:
    """Numbers in the order of the polygons, NaN where nothing is known.

    Args:
        coverage: The polygons.
        values: Numbers in the order of the polygons; or a pandas Series, which is matched by its
            index where the polygons have ids. These are text, as which whole numbers in the index
            are taken, too. (An index that only counts rows, 0, 1, 2, holds no ids.)
        what: What errors call them.

    Returns:
        float64 (polygon,), finite or NaN.

    Raises:
        PolygonError: They are no numbers, such as text, or infinite; there is not one for each
            polygon; or ids do not match.
    """
    if isinstance(values, pd.Series):
        values = _by_id(coverage, values, what)
    numbers = _numbers(values, what)
    if numbers.shape != (coverage.polygons,):
        raise PolygonError(
            f"One value per polygon was expected, {coverage.polygons}. "
            f"Received shape {numbers.shape}."
        )
    refuse(
        coverage,
        np.isinf(numbers),
        f"{what} must be finite, or NaN where nothing is known",
        numbers,
    )
    return numbers


def refuse(
    coverage: Coverage, wrong: npt.NDArray[np.bool_], rule: str, numbers: FloatArray
) -> None:
    """Refuse numbers that break a rule; the message counts them and names the first.

    Args:
        coverage: The polygons.
        wrong: Where the rule is broken, bool (polygon,).
        rule: What was expected.
        numbers: float64 (polygon,).

    Raises:
        PolygonError: The rule is broken.
    """
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise PolygonError(
            f"{rule}. {int(wrong.sum())} of {len(wrong)} are not, the first in "
            f"{place_of(coverage, first)}: {numbers[first]:g}."
        )


def place_of(coverage: Coverage, row: int) -> str:
    """A polygon's row, and its id if it has one, for a person."""
    ids = coverage.ids
    return f"row {row}" if ids is None else f"row {row} ({ids[row]!r})"


def _by_id(coverage: Coverage, values: pd.Series[Any], what: str) -> pd.Series[Any]:
    """Values in the order of the polygons' ids."""
    given = None if _only_counts(values.index) else coverage.ids
    if given is None:
        return values
    index = pd.Index(ids_as_text(values.index.to_series()))
    if not index.is_unique:
        twice = index[index.duplicated()]
        raise PolygonError(
            f"{what} must have each id once. {len(twice)} come again: {examples(twice)}."
        )
    ids = pd.Index(given)
    rows = index.get_indexer(ids)
    unmatched = {
        f"of {len(ids)} polygons have none": ids[rows < 0],
        f"of {len(values)} ids are of no polygon": index[~index.isin(ids)],
    }
    found = [
        f"{len(them)} {which}: {examples(them)}" for which, them in unmatched.items() if len(them)
    ]
    if found:
        raise PolygonError(
            f"{what} are matched by id; {'; '.join(found)}. Select or add them first, with NaN for "
            f"what is unknown."
        )
    return values.iloc[rows]


def _only_counts(index: pd.Index[Any]) -> bool:
    return isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1


def _numbers(values: npt.ArrayLike, what: str) -> FloatArray:
    """Float64 of any shape; numbers as text are text."""
    try:
        if isinstance(values, np.ma.MaskedArray):
            values = np.ma.filled(values.astype("float64"), math.nan)
        array = values if isinstance(values, pd.Series) else np.asarray(values)
    except ValueError as error:
        raise PolygonError(f"{what} must be numbers, one each: {error}.") from error
    column = array if isinstance(array, pd.Series) else pd.Series(array.ravel())
    if len(column) and not holds_numbers(column):
        first = next((v for v in column.tolist() if isinstance(v, str)), column.iloc[0])
        raise PolygonError(
            f"{what} must be numbers. They are {column.dtype}, e.g. {first!r}; convert them "
            f"first, e.g. with pandas.to_numeric."
        )
    # pandas may say "unknown" in a way of its own.
    return column.to_numpy("float64", na_value=math.nan).reshape(array.shape)
