"""Panels as tables: a row a block and time, or a row a block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from cube.blocks.members import (
    BLOCK,
    GEOMETRY,
    PERIOD,
    TIME,
    as_text,
    check_panel,
    ids_of,
    is_text,
    periods_of,
)
from cube.errors import SpecError

if TYPE_CHECKING:
    import xarray as xr

TableLayout = Literal["long", "wide"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Column:
    """One column of a table, with what is known of it.

    Attributes:
        name: Of the column.
        values: (row,): int64 or another number, bool, datetime64, or text as object.
        label: In words.
        units: Of the values; empty for text.
        classes: Meanings of whole numbers, by number.
        tail: End of the name that tells it from others, such as ``"_2000"``.
    """

    name: str
    values: npt.NDArray[Any]
    label: str = ""
    units: str = ""
    classes: Mapping[int, str] = field(default_factory=dict)
    tail: str = ""


def columns_of(panel: xr.Dataset, layout: TableLayout) -> list[Column]:
    """Columns of a panel's table, without its geometry.

    Args:
        panel: Statistics by block, and by time or not.
        layout: ``"long"``: a row a block and time, in this order, with ``period`` and ``time``;
            what does not vary with time is repeated. ``"wide"``: a row a block, with a column
            ``<variable>_<period>`` for each time. Any further dimension gives a column
            ``<variable>_<value>`` for each of its values.

    Raises:
        SpecError: There is no such layout, or two columns would have one name.
        PolygonError: Ids of blocks are missing or appear twice.
    """
    if layout not in get_args(TableLayout):
        raise SpecError(f"layout must be long or wide. Received {layout!r}.")
    check_panel(panel)
    out = [Column(name=BLOCK, values=ids_of(panel), label="id of the block")]
    out += [
        c for n in panel.coords if _is_of_blocks(panel, n) for c in _pieces(panel, str(n), False)
    ]
    wide = layout == "wide"
    out += [c for n in panel.data_vars for c in _pieces(panel, str(n), wide)]
    if TIME in panel.dims and not wide:
        out = _long(panel, out)
    counts = Counter(c.name for c in out)
    if double := next((name for name, n in counts.items() if n > 1), None):
        raise SpecError(f"Two columns would be called {double!r}; rename one in the panel.")
    return out


def _is_of_blocks(panel: xr.Dataset, name: Any) -> bool:
    """True for further coordinates of the blocks."""
    return name not in (BLOCK, GEOMETRY) and panel[name].dims == (BLOCK,)


def _pieces(panel: xr.Dataset, name: str, wide: bool) -> Iterator[Column]:
    """Columns of a variable: (block,), or (block, time) where they are to be long."""
    variable = panel[name]
    spread = [d for d in variable.dims if d != BLOCK and (wide or d != TIME)]
    if BLOCK not in variable.dims:
        variable = variable.expand_dims({BLOCK: panel.sizes[BLOCK]})
    order = [BLOCK, *(d for d in variable.dims if d == TIME and not wide), *spread]
    variable = variable.transpose(*order)
    sizes = [variable.sizes[d] for d in spread]
    labels = [_labels(panel, str(d)) for d in spread]
    values = variable.to_numpy()
    for place in np.ndindex(*sizes):
        steps = [of[i] for of, i in zip(labels, place, strict=True)]
        tail = "".join(f"_{step}" for step in steps)
        yield Column(
            name=name + tail,
            values=_plain(values[(..., *place)], name),
            label=", ".join([str(variable.attrs.get("long_name", "")) or name, *steps]),
            units=str(variable.attrs.get("units", "")),
            classes=classes_of(variable.attrs),
            tail=tail,
        )


def _labels(panel: xr.Dataset, dim: str) -> list[str]:
    if dim == TIME:
        return periods_of(panel)
    return [str(v) for v in panel[dim].to_numpy()]


def _plain(values: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    return as_text(values, name) if is_text(values) else values


def classes_of(attrs: Mapping[Any, Any]) -> dict[int, str]:
    """Meanings by number, from the CF attributes ``flag_values`` and ``flag_meanings``."""
    values = np.atleast_1d(attrs.get("flag_values", ())).tolist()
    meanings = str(attrs.get("flag_meanings", "")).split()
    return {int(v): m for v, m in zip(values, meanings, strict=False)}


def _long(panel: xr.Dataset, columns: list[Column]) -> list[Column]:
    """Every column with a row a block and time, and those of the times after the first."""
    blocks, times = panel.sizes[BLOCK], panel.sizes[TIME]
    keys = {PERIOD: np.array(periods_of(panel), object), TIME: panel[TIME].to_numpy()}
    words = {PERIOD: "label of the period", TIME: "first day of the period"}
    first, *others = [_repeated(column, times) for column in columns]
    when = [Column(name=n, values=np.tile(v, blocks), label=words[n]) for n, v in keys.items()]
    return [first, *when, *others]


def _repeated(column: Column, times: int) -> Column:
    values = column.values
    rows = values.ravel() if values.ndim == 2 else np.repeat(values, times)
    return replace(column, values=rows)
