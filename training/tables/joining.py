"""Numbers of tables joined to chips: features beside the image, and labels that no raster holds.

A row of a table belongs to a chip, to a window, or to a polygon whose part in a window counts.
Nothing is filled in unasked: where a table says nothing of a chip, its numbers are NaN. As a label
such a chip weighs nothing; as features it is refused, unless its numbers are filled by declaration
(:mod:`training.tables.features`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, get_args

import numpy as np
import numpy.typing as npt

from cube.coverage import Coverage
from cube.errors import SpecError, SplitError
from training.chips import Chips
from training.tables.columns import (
    TimeColumn,
    column_of,
    key_rows,
    listed_columns,
    numbers_of,
    whole_numbers,
)
from training.tables.overlaps import How, Overlaps, overlaps, window_values

if TYPE_CHECKING:
    import pandas as pd

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]


class TableJoin(Protocol):
    """Numbers of chips by name."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names, in the order of the numbers."""

    def rows(self, chips: npt.ArrayLike) -> Float32Array:
        """Numbers of chips, float32 (n, column), NaN where the table says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JoinedTable:
    """Rows of a table by the number of a chip, or by that of its window.

    Attributes:
        columns: Names of the columns.
        keys: int64 (key,), ascending.
        places: Row of each key, int64 (key,).
        values: float32 (row, column), NaN where unknown.
        per: Chips that share a key: 1, or the timings of a window.
        total: True where every chip is expected to have a key; one without is refused.
    """

    columns: tuple[str, ...]
    keys: IntArray
    places: IntArray
    values: Float32Array
    per: int = 1
    total: bool = False

    def rows(self, chips: npt.ArrayLike) -> Float32Array:
        """See :class:`TableJoin`.

        Raises:
            SplitError: Chips lie in windows that the table was not made for.
        """
        wanted = np.asarray(chips, dtype="int64") // self.per
        if not len(self.keys):
            return np.full((len(wanted), len(self.columns)), np.nan, "float32")
        at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        known = self.keys[at] == wanted
        if self.total and not known.all():
            raise SplitError(
                f"{int((~known).sum())} of {len(known)} chips lie in windows that the table was "
                f"not made for; make it for all chips that are streamed."
            )
        found = self.values[self.places[at]]
        found[~known] = np.nan
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideJoin:
    """Columns of several joins, one after the other; see :func:`beside`."""

    joins: tuple[TableJoin, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names, in the order of the numbers."""
        return tuple(name for join in self.joins for name in join.columns)

    def rows(self, chips: npt.ArrayLike) -> Float32Array:
        """See :class:`TableJoin`."""
        return np.concatenate([join.rows(chips) for join in self.joins], axis=1)


def beside(*joins: TableJoin) -> BesideJoin:
    """Put the columns of several joins beside one another.

    Raises:
        SpecError: There is none, or two have a column of the same name.
    """
    made = BesideJoin(joins=joins)
    twice = sorted({name for name in made.columns if made.columns.count(name) > 1})
    if not joins or twice:
        raise SpecError(
            f"Joins beside one another need columns, each once. Received twice: "
            f"{', '.join(twice) or 'none, and no join'}."
        )
    return made


def by_chip(frame: pd.DataFrame, *, columns: Sequence[str], key: str = "chip") -> JoinedTable:
    """Rows that name their chip.

    Args:
        frame: One row a chip; chips without a row have NaN.
        columns: Columns of numbers.
        key: Column of chip numbers.

    Raises:
        SpecError: A column is missing or holds no finite numbers; or a chip is missing, no whole
            number, or has two rows.
    """
    values = numbers_of(frame, columns).astype("float32")
    keys, places = key_rows(whole_numbers(frame, key), key)
    return JoinedTable(columns=tuple(columns), keys=keys, places=places, values=values)


def by_window(
    frame: pd.DataFrame,
    *,
    columns: Sequence[str],
    chips: Chips,
    key: str = "window",
    time: TimeColumn | None = None,
) -> JoinedTable:
    """Rows that name their window, and perhaps a period.

    Args:
        frame: One row a window, or one a window and period; what has no row has NaN.
        columns: Columns of numbers.
        chips: How chips are numbered.
        key: Column of window numbers.
        time: Which rows a timing takes; by default every timing takes the same.

    Raises:
        SpecError: See :func:`by_chip`; a window is not there; or there are not as many periods as
            timings.
    """
    values = numbers_of(frame, columns).astype("float32")
    window = whole_numbers(frame, key)
    if len(window) and window.max() >= len(chips.windows):
        raise SpecError(
            f"There are {len(chips.windows)} windows, numbered from 0. Column {key!r} goes up to "
            f"{window.max()}; was it made for other windows?"
        )
    names = tuple(columns)
    if time is None:
        keys, places = key_rows(window, key)
        return JoinedTable(
            columns=names, keys=keys, places=places, values=values, per=chips.timings
        )
    timing, rows = time.matched(frame, chips.timings)
    keys, order = key_rows(window[rows] * chips.timings + timing, f"{key}, {time.column}")
    return JoinedTable(columns=names, keys=keys, places=rows[order], values=values)


def by_block(  # noqa: PLR0913  (what, of which polygons, for which chips, and how)
    frame: pd.DataFrame,
    coverage: Coverage,
    chips: Chips,
    ids: npt.ArrayLike,
    *,
    columns: Sequence[str],
    how: How = "mean",
    of: str | None = None,
    id: str | None = None,
    time: TimeColumn | None = None,
) -> JoinedTable:
    """Numbers of polygons, by the part of each that lies in a window.

    With v the value of a polygon, a its area inside the window and A its whole area:

    * ``"centre"``: v of the polygon at the window's centre.
    * ``"mean"``, of intensive numbers such as a rate: Σ v a / Σ a over the polygons that are
      known, as system 0's crosswalk (doi 10.1257/aeri.20210422) takes variables of counties.
    * ``"sum"``, of extensive numbers such as persons: Σ v a / A (areal interpolation,
      doi 10.1080/00045608.1979.10535179); unknown as soon as one polygon is.
    * ``"share"``, of ratios with the denominator w: Σ v w a / A over Σ w a / A, of the polygons
      whose v and w are known.

    What lies outside all polygons holds nothing and has no part in a mean; a window that meets
    none is NaN.

    Args:
        frame: One row a polygon, or one a polygon and period; rows of others are left out.
        coverage: Shares of the polygons.
        chips: How chips are numbered, on the windows over the same grid.
        ids: Chips that rows will be asked of, int (n,).
        columns: Columns of numbers.
        how: See above.
        of: Column of denominators for ``"share"``, 0 or more.
        id: Column of the polygons' ids; by default rows are in the order of the polygons.
        time: Which rows a timing takes; by default every timing takes the same.

    Raises:
        SpecError: An option is impossible; a column is missing or holds no finite numbers; no row
            is of any polygon; a polygon has two rows, or one that a window meets has none (give it
            NaN).
        SplitError: No chips are named, or windows lie on another grid.
    """
    _check_how(how, of)
    values = numbers_of(frame, [*listed_columns(columns), *([] if of is None else [of])])
    found = overlaps(coverage, chips.windows, chips.window_of(ids))
    polygon = _polygon_rows(frame, coverage, id, by_position=time is None)
    periods = [np.arange(len(frame))]
    if time is not None:
        timing, rows = time.matched(frame, chips.timings)
        periods = [rows[timing == t] for t in range(chips.timings)]
    numbers = [
        window_values(_aligned(values, polygon, rows, found), found, how) for rows in periods
    ]
    keys = found.windows[:, None] * len(periods) + np.arange(len(periods))
    return JoinedTable(
        columns=tuple(columns),
        keys=keys.ravel(),
        places=np.arange(keys.size),
        values=np.stack(numbers, axis=1).reshape(keys.size, -1).astype("float32"),
        per=chips.timings // len(periods),
        total=True,
    )


def _check_how(how: str, of: str | None) -> None:
    if how not in get_args(How) or (how == "share") != (of is not None):
        raise SpecError(
            f"Numbers of polygons go to windows by 'centre', 'mean', 'sum' or 'share', and of= "
            f"names the denominator of 'share'. Received how={how!r}, of={of!r}."
        )


def _polygon_rows(
    frame: pd.DataFrame, coverage: Coverage, id: str | None, *, by_position: bool
) -> IntArray:
    """Polygon of each row, -1 for rows of others; int64 (row,)."""
    import pandas as pd

    if id is None:
        if not by_position or len(frame) != coverage.polygons:
            raise SpecError(
                f"Without id= a table has one row for each of {coverage.polygons} polygons, in "
                f"their order, and no periods. Received {len(frame)} rows; name the id column."
            )
        return np.arange(len(frame), dtype="int64")
    if coverage.ids is None:
        raise SpecError(
            f"The coverage {coverage.name!r} keeps no ids to match column {id!r} with; build it "
            f"with id=, or give rows in the order of the polygons."
        )
    given = column_of(frame, id).astype(object).map(str).tolist()
    found = pd.Index(coverage.ids).get_indexer(pd.Index(given, dtype=object)).astype("int64")
    if len(found) and (found < 0).all():
        raise SpecError(
            f"Column {id!r} names none of the polygons. It holds {', '.join(given[:3])} ...; their "
            f"ids are {', '.join(map(str, coverage.ids[:3]))} ... Write both alike, as text with "
            f"leading zeros, say."
        )
    return found


def _aligned(values: FloatArray, polygon: IntArray, rows: IntArray, found: Overlaps) -> FloatArray:
    """Values in the order of the polygons, float64 (polygon, column), from some rows."""
    mine = rows[polygon[rows] >= 0]
    place = polygon[mine]
    count = np.bincount(place, minlength=len(found.area_px))
    if (count > 1).any():
        raise SpecError(
            f"A polygon has one row for each period. {int((count > 1).sum())} have several; "
            f"merge them, or name their periods with time=."
        )
    met = np.unique(found.pixels.indices)
    if (count[met] == 0).any():
        raise SpecError(
            f"{int((count[met] == 0).sum())} of {len(met)} polygons that windows hold have no row "
            f"in the table; add one, with NaN for what is unknown."
        )
    out = np.full((len(count), values.shape[1]), np.nan)
    out[place] = values[mine]
    return out
