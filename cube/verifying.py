"""Proving that a cube holds what its ledger says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from cube import ledger, store
from cube.errors import StoreError
from cube.reading import read_region
from cube.regions import Region, ledger_index, regions
from cube.spec import CubeSpec
from cube.template import read_spec

State = Literal["whole", "never written", "damaged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """State of one region.

    Attributes:
        variable: Stack or layer.
        period: Label of the time; empty for static variables.
        region: Where.
        state: Whole, never written, or damaged.
        reason: Why it is damaged.
    """

    variable: str
    period: str
    region: Region
    state: State
    reason: str = ""

    def __str__(self) -> str:
        when = f" {self.period}" if self.period else ""
        rows, cols = self.region.rows, self.region.cols
        where = f"rows {rows[0]}:{rows[1]}, cols {cols[0]}:{cols[1]}"
        return f"{self.variable}{when}, {where}: {self.state}{self.reason and ': '}{self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What :func:`verify` found.

    Attributes:
        findings: One per region of every variable and time.
    """

    findings: tuple[Finding, ...]

    def of(self, state: State) -> tuple[Finding, ...]:
        """Findings in one state."""
        return tuple(f for f in self.findings if f.state == state)

    @property
    def damaged(self) -> tuple[Finding, ...]:
        """Regions whose bytes are not those that were written."""
        return self.of("damaged")

    @property
    def missing(self) -> tuple[Finding, ...]:
        """Regions that were never written."""
        return self.of("never written")

    def __str__(self) -> str:
        head = (
            f"{len(self.findings)} regions: {len(self.of('whole'))} whole, "
            f"{len(self.missing)} never written, {len(self.damaged)} damaged"
        )
        return "\n".join([head, *(f"  {finding}" for finding in self.damaged)])


def verify(url: str | os.PathLike[str], *, variables: tuple[str, ...] | None = None) -> Verdict:
    """Read every written region and compare it with its checksum.

    Args:
        url: The cube.
        variables: Stacks and layers to look at; None for all.

    Returns:
        The state of every region. A period that holds no region of a variable
        at all is one that was not begun; its regions are "never written".
    """
    url, spec = store.normalise(url), read_spec(url)
    names = variables or tuple(v.name for v in spec.variables)
    return Verdict(findings=tuple(f for name in names for f in _findings(url, spec, name)))


def _findings(url: str, spec: CubeSpec, name: str) -> list[Finding]:
    static = spec.variable(name).static
    known = ledger.ticks(url, name)
    found = []
    for time in (None,) if static else range(len(spec.calendar)):
        period = "" if time is None else spec.calendar[time].label
        for region in regions(spec, name, time=time):
            expected = int(known[ledger_index(spec, region)])
            state, reason = _state(url, spec, name, region, expected)
            found.append(
                Finding(variable=name, period=period, region=region, state=state, reason=reason)
            )
    return found


def _state(url: str, spec: CubeSpec, name: str, region: Region, expected: int) -> tuple[State, str]:
    if expected == 0:
        return "never written", ""
    if expected == ledger.UNREADABLE:
        return "damaged", "its ledger entry cannot be read"
    try:
        found = ledger.checksum(read_region(url, name, region, spec=spec))
    except StoreError as error:
        return "damaged", str(error)
    if found != expected:
        return "damaged", f"checksum {found:x}, the ledger has {expected:x}"
    return "whole", ""
