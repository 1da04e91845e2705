"""Columns made of other columns, as a plan that is data, with the way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cube.errors import PolygonError, SpecError
from cube.polygons.ids import column_of
from cube.transforms import Transform, transform_from

if TYPE_CHECKING:
    import pandas as pd

STATE = "_state"
"""What is put behind a column's name for the state beside it."""


@dataclass(frozen=True, slots=True)
class Derivation:
    """One column and how it is made.

    Attributes:
        name: Of the new column.
        transform: See :mod:`cube.transforms`.
        columns: What it is made of, in the order that the transform takes them;
            a single one may stand as it is.
    """

    name: str
    transform: Transform
    columns: str | tuple[str, ...]

    def __post_init__(self) -> None:
        columns = (self.columns,) if isinstance(self.columns, str) else tuple(self.columns)
        object.__setattr__(self, "columns", columns)
        if len(columns) != self.transform.inputs:
            raise SpecError(
                f"{self.name!r} is made by {type(self.transform).__name__} of "
                f"{self.transform.inputs} columns. Received {', '.join(columns)}."
            )

    @property
    def recovered(self) -> str:
        """The column that the inverse gives back."""
        return self.columns[self.transform.recovers]

    @property
    def given(self) -> tuple[str, ...]:
        """The columns that the inverse takes beside the derived one."""
        at = self.transform.recovers
        return (*self.columns[:at], *self.columns[at + 1 :])

    def describe(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "name": self.name,
            "columns": list(self.columns),
            "transform": self.transform.describe(),
        }


def derivation_from(data: Mapping[str, Any]) -> Derivation:
    """Rebuild a derivation from :meth:`Derivation.describe`."""
    return Derivation(data["name"], transform_from(data["transform"]), tuple(data["columns"]))


def derive(table: pd.DataFrame, plan: Sequence[Derivation]) -> pd.DataFrame:
    """The table with the columns of a plan, each with its state beside it.

    Args:
        table: Columns of numbers.
        plan: Done in order; later ones may use the columns of earlier ones.

    Returns:
        A new table: for each derivation float64 ``<name>`` and int8 ``<name>_state``,
        one of :data:`cube.states.FLAG_VALUES`.

    Raises:
        PolygonError: A column is missing, or holds what the transform refuses.
        SpecError: A column of that name is there already.
    """
    out = table.copy()
    for step in plan:
        for name in (step.name, step.name + STATE):
            if name in out:
                raise SpecError(f"There is a column {name!r} already; choose another name.")
        columns = [column_of(out, name) for name in step.columns]
        try:
            out[step.name] = step.transform.forward(*columns)
            out[step.name + STATE] = step.transform.state(*columns)
        except PolygonError as error:
            made = ", ".join(step.columns)
            raise PolygonError(f"{step.name!r} cannot be made of {made}: {error}") from error
    return out


def restore(table: pd.DataFrame, plan: Sequence[Derivation]) -> pd.DataFrame:
    """The columns that a plan was made of, from what it made; the inverse of :func:`derive`.

    Args:
        table: The derived columns and, where the transform takes several, the
            others; states are used where they are.
        plan: That of :func:`derive`; undone from the last to the first.

    Returns:
        A new table with the recovered columns, replacing those of that name.

    Raises:
        PolygonError: A column is missing.
    """
    out = table.copy()
    for step in reversed(plan):
        state = out.get(step.name + STATE)
        given = [column_of(out, name) for name in step.given]
        derived = column_of(out, step.name)
        out[step.recovered] = step.transform.inverse(derived, *given, state=state)
    return out
