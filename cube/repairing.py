"""Putting a cube right: what is damaged is forgotten and done again, and nothing else."""

from __future__ import annotations

import html
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

from cube import ledger, locking, metadata, objects, urls
from cube.regions import Region
from cube.spec import CubeSpec
from cube.template import read_spec, stale
from cube.verifying import Finding, Verdict, verify

Redo = Callable[[str, list[Region]], object]
"""Fills regions of a variable again, e.g.
``lambda name, regions: cube.ingest(url, name, sources[name], regions=regions)``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What :func:`repair` did.

    Attributes:
        forgotten: Damaged and unticked regions, which now count as not written.
        removed: Keys of objects that belonged to nothing of the cube.
        renewed: Keys of documents and coordinates that are again what the root says.
        redone: Whether the regions were filled again.
        left: Those of them that still are not whole.
    """

    forgotten: tuple[Finding, ...]
    removed: tuple[str, ...]
    renewed: tuple[str, ...]
    redone: bool
    left: tuple[Finding, ...]

    def __str__(self) -> str:
        if not (self.forgotten or self.removed or self.renewed):
            return "nothing to repair"
        regions = f"{len(self.forgotten)} regions to do again"
        if self.redone:
            done = len(self.forgotten) - len(self.left)
            regions = f"{done} of {len(self.forgotten)} regions done again"
        head = f"{regions}, {len(self.removed)} stray objects removed"
        if self.renewed:
            head += f", {len(self.renewed)} documents or coordinates renewed"
        lines = [f"  {finding}" for finding in (self.left if self.redone else self.forgotten)]
        if self.forgotten and not self.redone:
            names = ", ".join(sorted({finding.variable for finding in self.forgotten}))
            lines.append(f"Run again what filled {names}; it redoes only these regions.")
        return "\n".join([head, *lines])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def repair(
    url: str | os.PathLike[str], *, verdict: Verdict | None = None, redo: Redo | None = None
) -> Repair:
    """Forget what is damaged, remove what does not belong, and have it done again.

    Whole regions are not touched. A damaged region keeps its bytes until it
    is written again, so that a reader gets an error rather than nodata.

    Args:
        url: The cube.
        verdict: Of :func:`cube.verify`; None verifies first.
        redo: Fills regions of a variable again; called once for each variable
            that needs it. None leaves that to the next run of what filled them.

    Returns:
        What was done, and what is still not whole.

    Raises:
        StoreError: The store refuses, for example because it is read-only.
    """
    text, spec = urls.normalise(url), read_spec(url)
    verdict = verdict or verify(text)
    broken = [*verdict.damaged, *verdict.unticked]
    for finding in verdict.damaged:
        _forget(text, spec, finding)
    removed = tuple(key for key in verdict.strays if _remove(text, spec, key))
    if verdict.stale:
        with locking.hold(text, locking.METADATA):
            objects.put_many(objects.at(text), stale(text, spec))
    left: tuple[Finding, ...] = ()
    if redo is not None and broken:
        left = _redone(text, broken, redo)
    return Repair(
        forgotten=tuple(broken),
        removed=removed,
        renewed=verdict.stale,
        redone=redo is not None,
        left=left,
    )


def _forget(url: str, spec: CubeSpec, finding: Finding) -> None:
    """Take the tick away, unless another process has written the region meanwhile."""
    key = ledger.key(spec, finding.variable, finding.region)
    with locking.hold(url, key):
        if ledger.read(url, spec, finding.variable, finding.region) == finding.entry:
            ledger.clear(url, spec, finding.variable, [finding.region])


def _remove(url: str, spec: CubeSpec, key: str) -> bool:
    """Remove an object that still belongs to nothing; a draft once nobody can be writing it."""
    with locking.hold(url, _right_to(url, spec, key)):
        # Since the verdict somebody may have added a variable or a period.
        grids = metadata.chunk_grids(metadata.known(url, anew=True))
        if metadata.chunk_place(key, grids) is not None or metadata.is_own(key, grids):
            return False
        objects.at(url).delete(key)
    return True


def _right_to(url: str, spec: CubeSpec, key: str) -> str:
    """Name of the lock that a writer of this key, or of the file it is a draft of, holds."""
    folder, _, name = key.rpartition("/")
    final = f"{folder}/{name.split('.')[0]}"
    place = metadata.chunk_place(final, metadata.chunk_grids(metadata.known(url)))
    if place is None:
        return locking.METADATA
    path, index = place
    if path.startswith(f"{ledger.LEDGER}/"):
        return final
    known = {variable.name for variable in spec.variables}
    return (
        ledger.key_at(path, ledger.index_of_chunk(spec, path, index))
        if path in known
        else locking.METADATA
    )


def _redone(url: str, broken: list[Finding], redo: Redo) -> tuple[Finding, ...]:
    """Fill regions again; those that are still not whole."""
    places = {}
    for name, group in groupby(sorted(broken, key=_variable), key=_variable):
        places[name] = [finding.region for finding in group]
        redo(name, places[name])
    after = verify(url, variables=places)
    return tuple(
        finding
        for finding in after.findings
        if finding.state != "whole" and finding.region in places[finding.variable]
    )


def _variable(finding: Finding) -> str:
    return finding.variable
