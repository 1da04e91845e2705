"""The chip index: a table with a row for each chip, and how it came to hold those it holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from cube.errors import SpecError, SplitError
from cube.spec import CubeSpec, grid_to_dict
from cube.windows import WindowSet
from training.index import expressions, files, summary, thinning
from training.samples import SampleSpec

if TYPE_CHECKING:
    import geopandas as gpd
    from matplotlib.figure import Figure

ALWAYS = ("chip", "window", "row", "col", "inputs", "label", "valid_share", "geometry")
"""Columns of every index."""

Mask = npt.NDArray[np.bool_]


class Step(NamedTuple):
    """One filter.

    Attributes:
        expression: What was asked for.
        before: Chips before it.
        after: Chips that it left.
    """

    expression: str
    before: int
    after: int

    def __str__(self) -> str:
        return f"{self.expression!r} removed {self.before - self.after:,} of {self.before:,}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChipIndex:
    """What every chip holds; made by :func:`training.index_chips`, and chosen from.

    Every choice gives another index; this one stays as it is.

    Attributes:
        frame: One row a chip in ascending order of ``chip``; see :func:`training.index_chips` for
            the columns.
        facts: Of what it is: digests of the cube, the sample, the windows; and ``unwritten``, for
            each variable the number of regions never written, which count as nodata.
        history: The filters that led here, in order.
    """

    frame: gpd.GeoDataFrame
    facts: Mapping[str, Any]
    history: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "history", tuple(Step(*step) for step in self.history))
        missing = [name for name in ALWAYS if name not in self.frame]
        if missing:
            raise SpecError(
                f"A chip index has the columns {', '.join(ALWAYS)}. Missing: {', '.join(missing)}."
            )
        if not (np.diff(self.ids) > 0).all():
            raise SpecError(
                f"A chip index has one row a chip, in ascending order of 'chip'. Of "
                f"{len(self):,} rows {int(self.frame['chip'].duplicated().sum()):,} come again; "
                f"drop these, and sort the others."
            )

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """Ids of the chips, int64 (chip,), ascending."""
        return self.frame["chip"].to_numpy("int64")

    def __len__(self) -> int:
        return len(self.frame)

    def query(self, expression: str) -> ChipIndex:
        """Chips for which an expression over the columns is true.

        Args:
            expression: Comparisons, arithmetic, ``and``, ``or``, ``not``, ``in``, such as
                ``"valid_share > 0.9 and label in ['2000', '2010']"``. What depends on a missing
                value is not true, and neither is its contrary; :meth:`where` finds what is missing.

        Raises:
            SplitError: It names no column, is no condition, calls anything, or leaves no chip.
        """
        return self._kept(expressions.condition(self.frame, expression), expression)

    def where(self, mask: npt.ArrayLike, name: str) -> ChipIndex:
        """Chips at which a mask is true.

        Args:
            mask: bool (chip,), in the order of the frame.
            name: What the mask means, for the history.

        Raises:
            SplitError: The mask is of another length or no mask, or leaves no chip.
        """
        values = np.asarray(mask)
        if values.dtype != np.bool_ or values.shape != (len(self),):
            raise SplitError(
                f"A mask says True or False of each of {len(self):,} chips. Received "
                f"{values.dtype} of shape {values.shape}."
            )
        return self._kept(values, name)

    def _kept(self, mask: Mask, expression: str) -> ChipIndex:
        history = (*self.history, Step(expression, len(self), int(mask.sum())))
        if not mask.any():
            before = "; before it ".join(str(step) for step in reversed(history))
            raise SplitError(f"No chip is left: {before}. Ask for less.")
        return replace(self, frame=self.frame[mask].reset_index(drop=True), history=history)

    def without_duplicates(
        self, max_overlap: float = 0.5, *, by: Literal["window", "timing"] = "window"
    ) -> ChipIndex:
        """Chips whose windows overlap no earlier one too much.

        In order of number, a window is kept if it shares at most that part with each kept before.

        Args:
            max_overlap: Greatest share of a window's area, from 0 (none may overlap) to below 1.
            by: ``"window"`` keeps or drops a window with all its timings; ``"timing"`` goes through
                the chips of each timing by themselves, as where each has windows of its own.

        Raises:
            SplitError: An option is out of range.
        """
        if not 0 <= max_overlap < 1 or by not in ("window", "timing"):
            raise SplitError(
                f"max_overlap lies from 0 to below 1, and by is 'window' or 'timing'. Received "
                f"{max_overlap!r} and {by!r}."
            )
        size = int(self.facts["windows"]["size"])
        timings = len(self.facts["sample"]["timings"])
        group = self.ids % timings if by == "timing" else np.zeros(len(self), "int64")
        mask = np.zeros(len(self), dtype=bool)
        for number in np.unique(group):
            rows = np.flatnonzero(group == number)
            windows = self.frame["window"].to_numpy("int64")[rows]
            _, first, of = np.unique(windows, return_index=True, return_inverse=True)
            origins = self.frame[["row", "col"]].to_numpy("int64")[rows[first]]
            mask[rows] = thinning.apart(origins, size, max_overlap)[of]
        return self._kept(mask, f"without_duplicates({max_overlap:g}, by={by!r})")

    def with_column(self, name: str, values: npt.ArrayLike) -> ChipIndex:
        """The same chips with one more column, of windows.

        Args:
            name: Of the column.
            values: One for each window, also of those whose chips were filtered out; as
                :func:`training.outline_periods.outline_periods` gives them.

        Raises:
            SplitError: They are more or fewer, or the column is there already.
        """
        given, called = np.asarray(values), str(name)
        if called != name or name in self.frame or given.shape != (self.windows,):
            raise SplitError(
                f"A new column has a name of its own and a value for each of {self.windows:,} "
                f"windows. "
                f"Received {name!r} of shape {given.shape}."
            )
        chosen = given[self.frame["window"].to_numpy("int64")]
        return replace(self, frame=self.frame.assign(**{name: chosen}))

    @property
    def windows(self) -> int:
        """How many windows were indexed, also those whose chips were filtered out."""
        return int(self.facts["chips"]) // len(self.facts["sample"]["timings"])

    @property
    def chips_per_window(self) -> npt.NDArray[np.int64]:
        """Chips that each window still has, int64 (window,); a split balances by them.

        A split is of all windows. With ``balance="label", label=index.chips_per_window`` its
        shares are of the chips that filters left.
        """
        return np.bincount(self.frame["window"].to_numpy("int64"), minlength=self.windows)

    def per_window(self, column: str) -> npt.NDArray[np.object_]:
        """A column by window, as splits take classes, clusters and labels.

        Args:
            column: Of the frame, the same at all timings of a window that are left.

        Returns:
            Object (window,); None where a window has no chip left, or no value.

        Raises:
            SplitError: There is no such column, or it differs among the timings of a window.
        """
        if column not in self.frame or column == "geometry":
            raise SplitError(
                f"There is no column {column!r}. There are: "
                f"{', '.join(map(str, self.frame.columns.drop('geometry')))}."
            )
        window = self.frame["window"].to_numpy("int64")
        values = self.frame[column].to_numpy(object, copy=True)
        values[self.frame[column].isna().to_numpy()] = None
        out = np.full(self.windows, None, dtype=object)
        out[window] = values
        differ = np.unique(window[out[window] != values])
        if len(differ):
            raise SplitError(
                f"{column!r} differs among the timings of {len(differ)} windows, first of window "
                f"{differ[0]}; choose one timing with query."
            )
        return out

    def check(self, spec: CubeSpec, sample: SampleSpec, windows: WindowSet) -> None:
        """Refuse to be used with another cube, other inputs or other windows.

        Data, and variables that the sample does not read, may have changed.

        Raises:
            SplitError: The message says what differs.
        """
        ours, theirs = self.facts, sample.to_dict()
        periods = {period["label"]: period for period in ours["calendar"]}
        there = {p.label: {"label": p.label, "start": p.start, "end": p.end} for p in spec.calendar}
        pairs: list[tuple[str, Any, Any]] = [("grid", ours["grid"], grid_to_dict(spec.grid))]
        pairs += [(f"period {k!r}", v, there.get(k)) for k, v in periods.items()]
        for name in (stack["stack"] for stack in ours["sample"]["inputs"]):
            known = {v.name: v.digest for v in spec.variables}
            pairs.append((f"variable {name!r}", ours["variables"][name], known.get(name)))
        pairs += [(k, ours["sample"][k], theirs[k]) for k in ("inputs", "timings")]
        pairs.append(("windows", ours["windows"], windows.to_dict()))
        for what, here, given in pairs:
            if here != given:
                raise SplitError(
                    f"The index is from another cube, sample or windows: its {what} is {here}, "
                    f"here it is {given}. Index the chips again."
                )

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> str:
        """Write it as GeoParquet, facts and history in the file's metadata; returns the path.

        Raises:
            StoreError: There is no such folder, or a file lies there.
        """
        state = {"facts": dict(self.facts), "history": [list(step) for step in self.history]}
        return files.write(self.frame, state, path, overwrite=overwrite)

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        column: str = "valid_share",
        background: npt.ArrayLike | None = None,
        overwrite: bool = False,
    ) -> str | Figure:
        """Where the chips lie, coloured by a column: a PNG, or a figure if no path is given.

        Args:
            path: Of the picture, ``.png``.
            column: Numbers; where windows overlap their mean is shown.
            background: What to draw below, of the whole grid at any resolution: (y, x), or
                (y, x, 3) of colours 0..1.
            overwrite: Replace a file that lies there.

        Raises:
            SpecError: The column holds no numbers, the file is no ``.png``, or the background is
                no picture.
            StoreError: There is no such folder, or a file lies there.
        """
        from training.index import picture

        drawn = picture.draw(self, column, background)
        return drawn if path is None else picture.save(drawn, path, overwrite=overwrite)

    def __str__(self) -> str:
        return summary.text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return summary.page(self)


def load_index(path: str | os.PathLike[str]) -> ChipIndex:
    """Read what :meth:`ChipIndex.save` wrote.

    Raises:
        StoreError: There is no such file, or it is no chip index.
    """
    frame, state = files.read(path)
    return ChipIndex(frame=frame, facts=state["facts"], history=tuple(state["history"]))
