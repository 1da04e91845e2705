"""What is done of a cube, by variable and time, without reading data.

As text, in a notebook, and as a picture of regions × times.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cube import ledger, statusmap, statuspage, template, urls
from cube.columns import aligned, batches, clean, columns, elided
from cube.counts import Counts, VariableStatus, counts_of, periods_of
from cube.errors import SpecError

_COLUMNS = 100  # a terminal's; narrower where that is possible
_BARS = "▁▂▃▄▅▆▇"
_MOST_BARS = 36
_MOST_LINES = 10
_LONGEST_NAME = 26


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Status:
    """What is done of a cube; prints as a table, and shows as a picture in a notebook.

    Attributes:
        title: The cube's, for people; may be empty.
        url: Where it lies, without credentials.
        variables: In the order of the spec.
    """

    title: str
    url: str
    variables: tuple[VariableStatus, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", urls.without_secrets(self.url))
        object.__setattr__(self, "variables", tuple(self.variables))

    @property
    def heading(self) -> str:
        """The title; without one, the last part of the URL."""
        return self.title.strip() or self.url.rstrip("/").rpartition("/")[2] or "Cube"

    @property
    def periods(self) -> tuple[str, ...]:
        """Labels of all times, in order."""
        return periods_of(self.variables)

    @property
    def counts(self) -> Counts:
        """Counts of all variables and periods together."""
        return counts_of(self.variables)

    @property
    def complete(self) -> bool:
        """True if every region of every variable is done."""
        return self.counts.complete

    def variable(self, name: str) -> VariableStatus:
        """The variable of that name.

        Raises:
            SpecError: There is none here; the message lists those there are.
        """
        for variable in self.variables:
            if variable.name == name:
                return variable
        known = ", ".join(v.name for v in self.variables) or "none"
        raise SpecError(f"There is no status of a variable {name!r}. There is of: {known}.")

    def of(self, name: str, period: str | None = None) -> Counts:
        """Counts of a variable, at one period or at all.

        Raises:
            SpecError: There is no such variable, or it has no such period.
        """
        variable = self.variable(name)
        if period is None:
            return variable.counts
        if str(period) not in variable.periods:
            known = ", ".join(variable.periods) or "none, since it has no time"
            raise SpecError(f"{name!r} has no period {period!r}. It has: {known}.")
        return variable.by_period[variable.periods.index(str(period))]

    def __str__(self) -> str:
        head = f"{clean(self.heading)}: {self.counts.summary}\n{clean(self.url)}"
        if not self.variables:
            return head
        rows, legend = _text_rows(self)
        tail = ["", legend] if legend else []
        return "\n".join([head, "", *aligned(rows), *tail, *_damage(self)])

    def _repr_html_(self) -> str:
        return statuspage.fragment(self.heading, self.variables)

    def picture(self) -> str:
        """Small maps of the regions, one per variable and period, as SVG.

        Cells are regions; where there are many, blocks of regions shaded by the
        share that is done. A block with a damaged entry is shown as damaged.
        """
        return statusmap.svg(statusmap.draw(self.heading, self.variables))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture as ``.svg`` or ``.png``, or with a table as one ``.html`` file.

        The same status gives the same bytes. A file that is there is replaced in
        one step.

        Returns:
            ``path``.

        Raises:
            SpecError: The path ends in something else.
            OSError: The place cannot be written.
        """
        target = Path(path)
        makers = {".svg": _svg_file, ".html": _html_file, ".png": _png_file}
        make = makers.get(target.suffix.lower())
        if make is None:
            raise SpecError(f"A picture is saved as {', '.join(makers)}. Received {target.name!r}.")
        _replace(target, make(self))
        return target


def status(url: str | os.PathLike[str], *, variables: str | Iterable[str] | None = None) -> Status:
    """What is done of a cube, found by listing its ledger.

    Args:
        url: The cube.
        variables: Names of stacks and layers; all by default.

    Raises:
        StoreError: There is no cube, or it cannot be listed.
        SpecError: The cube has no such variable.
    """
    place = urls.normalise(url)
    spec = template.read_spec(place)
    wanted = (variables,) if isinstance(variables, str) else variables
    names = [v.name for v in spec.variables] if wanted is None else list(dict.fromkeys(wanted))
    chosen = [spec.variable(name) for name in names]
    known = ledger.entries(place, spec, names)
    labels = tuple(period.label for period in spec.calendar)
    return Status(
        title=spec.title,
        url=place,
        variables=tuple(
            VariableStatus(
                name=variable.name,
                dims=variable.dims,
                periods=() if variable.static else labels,
                written=known[variable.name].written,
                damaged=known[variable.name].damaged,
                replaced=known[variable.name].replaced,
                region=spec.layout.region,
            )
            for variable in chosen
        ),
    )


def _text_rows(status: Status) -> tuple[list[list[str]], str]:
    """Table of the widest kind that fits, and what its signs mean."""
    for make in (_counted_rows, _barred_rows):
        rows, legend = make(status)
        if max(map(columns, aligned(rows))) <= _COLUMNS:
            return rows, legend
    # Dimensions can be asked for elsewhere.
    return [[row[0], *row[2:]] for row in rows], legend


def _counted_rows(status: Status) -> tuple[list[list[str]], str]:
    """A column with counts for every period."""
    head = [elided(clean(label), 16) for label in status.periods]
    rows = [["variable", "dims", *head, "total", ""]]
    for v in status.variables:
        known = dict(zip(v.periods, map(str, v.by_period), strict=False))
        rows.append(_text_row(v, [known.get(label, "") for label in status.periods]))
    return rows, ""


def _barred_rows(status: Status) -> tuple[list[list[str]], str]:
    """One sign for every period, or for several where there are many."""
    step = math.ceil(len(status.periods) / _MOST_BARS)
    spans = list(batches(status.periods, step))
    rows = [["variable", "dims", _axis(status.periods, len(spans)), "total", ""]]
    for v in status.variables:
        known = dict(zip(v.periods, v.by_period, strict=False))
        rows.append(_text_row(v, ["".join(_bar(known, span) for span in spans)]))
    each = f"   one sign for {step} periods" if step > 1 else ""
    return rows, f"· none   ▁–▇ part   █ all   ! a damaged entry{each}"


def _damage(status: Status) -> list[str]:
    """Where damaged entries lie."""
    found = [
        f"damaged: {clean(v.name)} {clean(label)}".rstrip() + f", {counts.damaged:,} of "
        f"{counts.total:,}"
        for v in status.variables
        for label, counts in zip(v.periods or ("",), v.by_period, strict=True)
        if counts.damaged
    ]
    more = len(found) - _MOST_LINES
    rest = [f"damaged: {more:,} more"] if more > 0 else []
    return ["", *found[:_MOST_LINES], *rest] if found else []


def _text_row(variable: VariableStatus, middle: list[str]) -> list[str]:
    counts = variable.counts
    name = elided(clean(variable.name), _LONGEST_NAME)
    dims = elided(clean(", ".join(variable.dims)), _LONGEST_NAME)
    return [name, dims, *middle, str(counts), counts.notes]


def _bar(known: dict[str, Counts], span: Sequence[str]) -> str:
    counts = sum((known[label] for label in span if label in known), Counts())
    if counts.damaged:
        return "!"
    if not counts.total:
        return " "
    if not counts.done:
        return "·"
    return "█" if counts.complete else _BARS[len(_BARS) * counts.done // counts.total]


def _axis(periods: Sequence[str], width: int) -> str:
    """First and last label at the ends of a line of signs."""
    first, last = elided(clean(periods[0]), 16), elided(clean(periods[-1]), 16)
    space = width - columns(first) - columns(last)
    return f"{first}{' ' * space}{last}" if space > 0 else f"{first} to {last}"


def _svg_file(status: Status) -> bytes:
    return status.picture().encode()


def _html_file(status: Status) -> bytes:
    return statuspage.page(status.heading, status.variables).encode()


def _png_file(status: Status) -> bytes:
    return statusmap.png(statusmap.draw(status.heading, status.variables))


def _replace(target: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
