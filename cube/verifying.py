"""Proving that a cube holds what its ledger says, and nothing else."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from cube import ledger, metadata, objects, store, urls
from cube.errors import DamagedError, SpecError
from cube.reading import array_index, read_region
from cube.regions import Region, ledger_index, regions
from cube.run import run_tasks
from cube.spec import CubeSpec
from cube.template import read_spec, stale

if TYPE_CHECKING:
    from distributed import Client

State = Literal["whole", "never written", "unticked", "damaged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """State of one region.

    Attributes:
        variable: Stack or layer.
        period: Label of the time; empty for static variables.
        region: Where.
        state: Whole; never written; unticked, when data lie there that no
            finished write vouches for; or damaged.
        reason: What is wrong.
        keys: Objects that are missing, cut short, flipped or foreign.
        entry: Value of its ledger entry; 0 where there is none.
    """

    variable: str
    period: str
    region: Region
    state: State
    reason: str = ""
    keys: tuple[str, ...] = ()
    entry: int = 0

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
        strays: Keys of objects in the cube's place that belong to nothing of it.
        stale: Keys of metadata documents and coordinates that are not what the root
            says, as after a change that was cut short.
    """

    findings: tuple[Finding, ...]
    strays: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()

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

    @property
    def unticked(self) -> tuple[Finding, ...]:
        """Regions with data that no finished write vouches for; the next run writes them anew."""
        return self.of("unticked")

    @property
    def sound(self) -> bool:
        """True if all that counts as written is as it was written, and nothing else lies there."""
        return not (self.damaged or self.strays or self.stale)

    def _lines(self) -> list[str]:
        bad = [str(finding) for finding in (*self.damaged, *self.unticked)]
        bad += [f"{key}: belongs to nothing of the cube" for key in self.strays]
        return [*bad, *(f"{key}: is not what the root says" for key in self.stale)]

    def __str__(self) -> str:
        head = (
            f"{len(self.findings)} regions: {len(self.of('whole'))} whole, "
            f"{len(self.missing)} never written, {len(self.damaged)} damaged"
        )
        if self.unticked:
            head += f", {len(self.unticked)} unticked"
        if self.strays:
            head += f"; {len(self.strays)} stray objects"
        if self.stale:
            head += f"; {len(self.stale)} stale documents or coordinates"
        return "\n".join([head, *(f"  {line}" for line in self._lines())])

    def _repr_html_(self) -> str:
        head, *lines = str(self).splitlines()
        rows = "".join(f"<li>{html.escape(line.strip())}</li>" for line in lines)
        return f"<p>{html.escape(head)}</p>" + (f"<ul>{rows}</ul>" if rows else "")


def verify(
    url: str | os.PathLike[str],
    *,
    variables: Iterable[str] | None = None,
    client: Client | None = None,
) -> Verdict:
    """Read every written region and compare it with its checksum.

    Nothing is changed, so a cube that is read-only will do.

    Args:
        url: The cube.
        variables: Stacks and layers to look at; None for all, and for strays, too.
        client: A Dask client; None runs on local threads.

    Returns:
        The state of every region. A period that holds no region of a variable
        at all is one that was not begun; its regions are "never written".

    Raises:
        SpecError: There is no such variable.
    """
    text, spec = urls.normalise(url), read_spec(url)
    names = [spec.variable(name).name for name in _listed(variables, spec)]
    inventory = _Inventory(text, spec, names if variables is not None else None)
    ticks = {name: ledger.ticks(text, spec, name) for name in names}
    todo = [
        _Check(
            variable=name,
            region=region,
            expected=int(ticks[name][ledger_index(spec, region)]),
            lies=bool(inventory.lies[name][ledger_index(spec, region)]),
        )
        for name in names
        for time in ((None,) if spec.variable(name).static else range(len(spec.calendar)))
        for region in regions(spec, name, time=time)
    ]
    return Verdict(
        findings=tuple(_findings(text, spec, todo, client)),
        strays=tuple(inventory.strays) if variables is None else (),
        stale=tuple(stale(text, spec)) if variables is None else (),
    )


def _listed(variables: Iterable[str] | None, spec: CubeSpec) -> list[str]:
    if variables is None:
        return [variable.name for variable in spec.variables]
    if isinstance(variables, str):
        raise SpecError(f"variables are a list of names. Received {variables!r}.")
    return list(variables)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    """One region to look at.

    Attributes:
        variable: Stack or layer.
        region: Where.
        expected: Its entry in the ledger.
        lies: Whether any object of it lies in the store.
    """

    variable: str
    region: Region
    expected: int
    lies: bool

    def __str__(self) -> str:
        return f"{self.variable}, {self.region}"


def _findings(
    url: str, spec: CubeSpec, checks: list[_Check], client: Client | None
) -> Iterator[Finding]:
    """States of regions, in the order asked for; only those with a tick are read."""
    ticked = [check for check in checks if ledger.is_tick(check.expected)]
    look = partial(_look, url=url, spec=spec)
    found = {}
    for check, result in run_tasks(look, ticked, verb="verify", url=url, client=client):
        if isinstance(result, Exception):
            raise result
        found[check] = result
    for check in checks:
        time = check.region.time
        state, reason, keys = found.get(check) or _without_tick(check)
        yield Finding(
            variable=check.variable,
            period="" if time is None else spec.calendar[time].label,
            region=check.region,
            state=state,
            reason=reason,
            keys=keys,
            entry=check.expected,
        )


_Found = tuple[State, str, tuple[str, ...]]


def _without_tick(check: _Check) -> _Found:
    if check.expected == ledger.UNREADABLE:
        return "damaged", "its ledger entry cannot be read", ()
    if check.lies:
        return "unticked", "data lie there without a tick; the next run writes them anew", ()
    return "never written", "", ()


def _look(check: _Check, *, url: str, spec: CubeSpec) -> _Found:
    name, region = check.variable, check.region
    expected = check.expected
    for _ in range(3):
        try:
            if ledger.checksum(read_region(url, name, region, spec=spec)) == expected:
                return "whole", "", ()
        except DamagedError:
            pass
        # A writer may just have replaced it.
        now = ledger.read(url, spec, name, region)
        if not ledger.is_tick(now):
            return "unticked", "another process is writing it", ()
        if now == expected:
            break
        expected = now
    return _diagnosis(url, spec, name, region)


def _diagnosis(url: str, spec: CubeSpec, name: str, region: Region) -> _Found:
    """What is wrong with a damaged region, object by object."""
    absent, broken = [], []
    for key, index in store.pieces(url, name, array_index(spec, name, region)):
        data = objects.at(url).get(key)
        if data is None:
            absent.append(key)
        elif fault := store.fault(url, name, index, data):
            broken.append((key, fault))
    if broken:
        reason = "; ".join(f"{key} {fault}" for key, fault in broken[:3])
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        return "damaged", reason + more, tuple(key for key, _ in broken)
    if absent:
        first = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more" * (len(absent) > 3))
        return "damaged", f"its checksum is wrong, and missing are {first}", tuple(absent)
    every = tuple(key for key, _ in store.pieces(url, name, array_index(spec, name, region)))
    return "damaged", "its chunks are whole but foreign: others were written here", every


class _Inventory:
    """What lies in the place of a cube.

    Attributes:
        lies: By variable, bool of the ledger's shape: any object of that region lies there.
        strays: Keys that belong to nothing of the cube.
    """

    def __init__(self, url: str, spec: CubeSpec, names: list[str] | None) -> None:
        self.strays: list[str] = []
        self.lies: dict[str, npt.NDArray[np.bool_]] = {
            v.name: np.zeros(ledger.shape(spec, v.name), bool) for v in spec.variables
        }
        self._spec = spec
        self._grids = metadata.chunk_grids(metadata.known(url))
        for prefix in [""] if names is None else [f"{name}/c/" for name in names]:
            for entry in objects.at(url).list(prefix):
                self._count(entry.key)
        # What somebody has added since the listing began is no stray.
        grids = metadata.chunk_grids(metadata.known(url, anew=True))
        self.strays = [
            key
            for key in self.strays
            if metadata.chunk_place(key, grids) is None and not metadata.is_own(key, grids)
        ]

    def _count(self, key: str) -> None:
        place = metadata.chunk_place(key, self._grids)
        if place is None:
            if not metadata.is_own(key, self._grids):
                self.strays.append(key)
        elif place[0] in self.lies:
            index = ledger.index_of_chunk(self._spec, *place)
            if all(i < n for i, n in zip(index, self.lies[place[0]].shape, strict=True)):
                self.lies[place[0]][index] = True
