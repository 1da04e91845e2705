"""Values of sources to values of targets, by the parts of a crosswalk."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from cube.crosswalks.parts import absent
from cube.errors import PolygonError, SpecError
from cube.labels.spreading import How
from cube.polygons.ids import examples, text_ids

if TYPE_CHECKING:
    from cube.crosswalks.crosswalk import Crosswalk

FloatArray = npt.NDArray[np.float64]

Values = TypeVar("Values", pd.Series, pd.DataFrame)

KNOWN = "_known_share"
"""What is put behind a column's name for the part of it that is known."""


def reallocate(  # noqa: PLR0913  (see Crosswalk.apply)
    crosswalk: Crosswalk,
    values: pd.Series[Any] | pd.DataFrame,
    *,
    how: How,
    size: pd.Series[Any] | None,
    of: pd.Series[Any] | None,
    unmatched: Literal["refuse", "missing"],
    skipna: bool,
) -> Any:
    """Bring values of sources to targets; see :meth:`cube.crosswalks.Crosswalk.apply`."""
    _check_options(how, size, of, unmatched)
    _check_table(values, skipna=skipna)
    table = values
    if isinstance(values, pd.Series):
        table = values.to_frame("value" if values.name is None else values.name)
    place = _matched(crosswalk, table.index, unmatched)
    weight = _weight(crosswalk, how, size, of)
    out: dict[Any, FloatArray] = {}
    lost: dict[Any, float] = {}
    for name in table.columns:
        numbers = _numbers(table[name], str(name))
        known = _at(numbers, place)
        if how == "extensive":
            lost[name] = _lost(crosswalk, known, numbers, place)
            out[name], share = _sums(crosswalk, known, weight, skipna=skipna)
        else:
            out[name], share = _means(crosswalk, known, weight, skipna=skipna)
        if skipna:
            out[f"{name}{KNOWN}"] = share
    result = pd.DataFrame(out, index=crosswalk.targets)
    given: Any = result
    if isinstance(values, pd.Series) and not skipna:
        given = pd.Series(next(iter(out.values())), crosswalk.targets, name=values.name)
    given.attrs = {"lost": lost} if how == "extensive" else {}
    return given


def _check_options(how: str, size: object, of: object, unmatched: str) -> None:
    if how not in get_args(How):
        raise SpecError(f"how must be one of {', '.join(get_args(How))}. Received {how!r}.")
    if unmatched not in ("refuse", "missing"):
        raise SpecError(f"unmatched is 'refuse' or 'missing'. Received {unmatched!r}.")
    if (of is not None) != (how == "share"):
        raise SpecError("Shares, and nothing else, need of=, the amount that they are shares of.")
    if size is not None and how == "share":
        raise SpecError("Shares are weighted by of=; leave size= out.")


def _check_table(values: object, *, skipna: bool) -> None:
    if isinstance(values, pd.Series):
        return
    if not isinstance(values, pd.DataFrame):
        raise PolygonError(
            f"Values are a pandas Series or DataFrame indexed by the id of the source. Received "
            f"{type(values).__name__}."
        )
    if not (columns := values.columns).is_unique:
        twice = columns[columns.duplicated()][0]
        raise PolygonError(f"Columns must appear once. {twice!r} appears again; rename it.")
    for name in [*columns] if skipna else ():
        if f"{name}{KNOWN}" in columns:
            raise SpecError(f"{f'{name}{KNOWN}'!r} is a column already; rename it.")


def _matched(
    crosswalk: Crosswalk, index: pd.Index[Any], unmatched: str
) -> npt.NDArray[np.integer[Any]]:
    """Row of each source in the values, -1 where it has none."""
    ids = text_ids(index, "values")
    place = ids.get_indexer(crosswalk.sources)
    if unmatched == "refuse":
        without = crosswalk.sources[place < 0]
        unknown = ids[absent(place, len(ids))]
        for what, found, count in (
            ("sources of the crosswalk have no value", without, len(place)),
            ("ids of values are no sources of the crosswalk", unknown, len(ids)),
        ):
            if len(found):
                raise PolygonError(
                    f"{len(found)} of {count} {what}: {examples(found)}. Correct the ids, or "
                    f"give unmatched='missing'."
                )
    return place


def _numbers(column: pd.Series[Any], name: str) -> FloatArray:
    """A column as float64, NaN where nothing is known."""
    kinds = pd.api.types
    if not kinds.is_numeric_dtype(column) or kinds.is_bool_dtype(column):
        raise PolygonError(f"Column {name!r} must hold numbers. It holds {column.dtype}.")
    numbers = column.to_numpy("float64", na_value=math.nan)
    if np.isinf(numbers).any():
        raise PolygonError(f"Column {name!r} must be finite, or NaN where nothing is known.")
    return numbers


def _at(numbers: FloatArray, place: npt.NDArray[np.integer[Any]]) -> FloatArray:
    return np.append(numbers, math.nan)[place]


def _weight(
    crosswalk: Crosswalk, how: How, size: pd.Series[Any] | None, of: pd.Series[Any] | None
) -> FloatArray | None:
    """Size of every source, float64 (source,); None for amounts without one."""
    given, name = (of, "of") if how == "share" else (size, "size")
    if given is None:
        if how == "intensive" and crosswalk.size is None:
            raise SpecError(
                "Intensive values are means weighted by size; give size=, e.g. the area or the "
                "population of every source."
            )
        return crosswalk.size
    ids = text_ids(given.index, name)
    place = ids.get_indexer(crosswalk.sources)
    return check_sizes(pd.Series(_at(_numbers(given, name), place), crosswalk.sources), name)


def check_sizes(column: pd.Series[Any], name: str) -> FloatArray:
    """Sizes as float64, all known and none negative.

    Raises:
        PolygonError: One is text, missing, infinite or negative.
    """
    numbers = _numbers(column, name)
    wrong = ~(numbers >= 0)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise PolygonError(
            f"{name!r} must be known and 0 or more. {int(wrong.sum())} of {len(numbers)} are not, "
            f"the first of {column.index[first]!r}: {numbers[first]}."
        )
    return numbers


def _lost(
    crosswalk: Crosswalk, known: FloatArray, numbers: FloatArray,
    place: npt.NDArray[np.integer[Any]],
) -> float:  # fmt: skip
    """Amount that goes to no target; refused where a whole crosswalk says there is none."""
    share = crosswalk.lost_share
    if crosswalk.cover == "whole":
        astray = (share > 0) & (np.nan_to_num(known) != 0)
        if astray.any():
            raise PolygonError(
                f"{int(astray.sum())} sources have an amount and go nowhere, all their parts being "
                f"zero: {examples(crosswalk.sources[astray])}. Set them to 0 or drop the amounts."
            )
    foreign = numbers[absent(place, len(numbers))]
    return math.fsum(np.nan_to_num(known) * share) + math.fsum(np.nan_to_num(foreign))


def _sums(
    crosswalk: Crosswalk, known: FloatArray, weight: FloatArray | None, *, skipna: bool
) -> tuple[FloatArray, FloatArray]:
    """Sums of part x amount, and the part of them that is known, float64 (target,) each."""
    matrix = crosswalk.matrix
    unknown = np.isnan(known)
    total = matrix @ np.where(unknown, 0.0, known)
    size = np.ones(len(known)) if weight is None else weight
    share = _known_share(crosswalk, unknown, size)
    gets_unknown = matrix @ unknown.astype("float64") > 0
    missing = ~crosswalk.reached | (gets_unknown & (share == 0 if skipna else True))
    return np.where(missing, math.nan, total), share


def _means(
    crosswalk: Crosswalk, known: FloatArray, weight: FloatArray | None, *, skipna: bool
) -> tuple[FloatArray, FloatArray]:
    """Means weighted by part x size, and the part of the size known, float64 (target,) each."""
    matrix = crosswalk.matrix
    size = np.ones(len(known)) if weight is None else weight
    unknown = np.isnan(known)
    top = matrix @ np.where(unknown, 0.0, known * size)
    bottom = matrix @ np.where(unknown, 0.0, size)
    mean = np.divide(top, bottom, out=np.full(len(top), math.nan), where=bottom > 0)
    gets_unknown = matrix @ np.where(unknown, size, 0.0) > 0
    missing = gets_unknown & (not skipna)
    return np.where(missing, math.nan, mean), _known_share(crosswalk, unknown, size)


def _known_share(
    crosswalk: Crosswalk, unknown: npt.NDArray[np.bool_], size: FloatArray
) -> FloatArray:
    """Part of the size that each target gets whose value is known, float64 (target,), 0..1."""
    total = crosswalk.matrix @ size
    known = crosswalk.matrix @ np.where(unknown, 0.0, size)
    return np.divide(known, total, out=crosswalk.reached.astype("float64"), where=total > 0)
