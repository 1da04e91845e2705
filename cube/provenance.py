"""What a variable was made from, kept in its own attributes.

Provenance holds no clock, host or path, so that the same run writes the same
bytes. It is recorded before the first region, and refuses a run that would mix
regions made from other inputs into the same time.

A record stands as long as a region of its time is written, or a run is at work
on it. For that, each run signs in with a random name and signs out at its end;
who was killed did not sign out. Once every region of a time is written, the
names are forgotten, and an undisturbed run has left the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from cube import ledger, metadata, objects, urls
from cube.arrays import RUNS
from cube.errors import SourceError, StoreError
from cube.metadata import Change, Metadata
from cube.spec import CubeSpec, digest, to_json

Inputs = Mapping[Any, Mapping[str, Any]]
"""Calendar index (None for static variables) to a description of what is put there."""

_INPUTS, _RUNS, _BY = "inputs", RUNS, "created_by"
"""Attributes of a variable: what it was made from, who is at work on it, and with what version."""


def _label(spec: CubeSpec, time: int | None) -> str:
    return "static" if time is None else spec.calendar[time].label


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What the attributes of a variable say, by period label (``"static"`` without time).

    Attributes:
        inputs: Digest and description of what each time is made from.
        runs: Names of the runs that are at work on each time.
    """

    inputs: dict[str, Any]
    runs: dict[str, list[str]]

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> _Record:
        return cls(
            inputs=json.loads(attributes.get(_INPUTS, "{}")),
            runs=json.loads(attributes.get(_RUNS, "{}")),
        )

    def digest(self, label: str) -> str | None:
        """Digest of what a time is made from; None if that is not recorded."""
        return self.inputs.get(label, {}).get("digest")

    def into(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """The attributes with this record; what is empty leaves no trace."""
        rest = {k: v for k, v in attributes.items() if k not in (_INPUTS, _RUNS, _BY)}
        if self.inputs:
            rest |= {_INPUTS: to_json(self.inputs), _BY: f"quadrat {version('quadrat')}"}
        runs = {label: names for label, names in self.runs.items() if names}
        return rest | ({_RUNS: to_json(runs)} if runs else {})


def inputs_of(url: str, name: str) -> dict[str, Any]:
    """Recorded inputs by period label (``"static"`` without time)."""
    return _Record.of(metadata.attributes(url).get(name, {})).inputs


def at_work(url: str, name: str) -> bool:
    """True if a run has signed in to a variable and not signed out."""
    return bool(_Record.of(metadata.attributes(url).get(name, {})).runs)


def check_inputs(
    url: str, spec: CubeSpec, name: str, inputs: Inputs, *, replacing: bool = False
) -> None:
    """Refuse inputs that would be mixed with those that are recorded.

    Args:
        url: The cube.
        spec: Its spec.
        name: A stack or layer.
        inputs: What each time is to be made from.
        replacing: All regions of these times are done again.

    Raises:
        SourceError: Regions of a time are written, or being written, and come
            from something else.
    """
    record = _Record.of(metadata.attributes(url).get(name, {}))
    _check(url, spec, name, inputs, record, replacing=replacing)


def _check(
    url: str, spec: CubeSpec, name: str, inputs: Inputs, record: _Record, *, replacing: bool
) -> None:
    for time in _changed_times(spec, inputs, record) if not replacing else ():
        label = _label(spec, time)
        digests = f"digest {record.digest(label)}, now {digest(inputs[time])}"
        if ledger.any_written(url, spec, name, time):
            raise SourceError(
                f"{name!r} ({label}) already holds regions made from other inputs ({digests}). "
                f"Use the same inputs, or another variable or cube; or do all its regions again "
                f"with overwrite=True."
            )
        if record.runs.get(label):
            raise SourceError(
                f"{name!r} ({label}) is being filled from other inputs ({digests}). Wait for that "
                f"run to end; if it was killed, give overwrite=True."
            )


def _changed_times(spec: CubeSpec, inputs: Inputs, record: _Record) -> list[int | None]:
    """Times for which other inputs are recorded."""
    return [
        time
        for time, description in inputs.items()
        if record.digest(_label(spec, time)) not in (None, digest(description))
    ]


def record_inputs(
    url: str,
    spec: CubeSpec,
    name: str,
    inputs: Inputs,
    *,
    run: str = "",
    replacing: bool = False,
) -> None:
    """Write down what the regions of some times are made from, and sign in.

    Args:
        url: See :func:`check_inputs`.
        spec: See :func:`check_inputs`.
        name: See :func:`check_inputs`.
        inputs: See :func:`check_inputs`.
        run: Name of the run, which signs out with :func:`sign_out`; empty for none.
        replacing: See :func:`check_inputs`. Regions that were made from other
            inputs count as not written from now on.

    Raises:
        SourceError: See :func:`check_inputs`.
    """
    url = urls.normalise(url)

    def edit(record: _Record) -> _Record:
        _check(url, spec, name, inputs, record, replacing=replacing)
        others = _changed_times(spec, inputs, record)
        if others:
            _forget(url, spec, name, others)
        gone = {_label(spec, time) for time in others}
        runs = {label: names for label, names in record.runs.items() if label not in gone}
        signed = {_label(spec, t): [*runs.get(_label(spec, t), ()), run] for t in inputs if run}
        new = {
            _label(spec, time): {"digest": digest(description), "from": dict(description)}
            for time, description in inputs.items()
        }
        return _Record(inputs={**record.inputs, **new}, runs={**runs, **signed})

    _edit(url, name, edit)


def sign_out(
    url: str, spec: CubeSpec, name: str, inputs: Inputs, *, run: str, whole: Iterable[int | None]
) -> None:
    """Say that a run has ended.

    The record of a time of which nothing was written is taken back, unless
    another run is at work on it: nothing was made from it.

    Args:
        url: See :func:`check_inputs`.
        spec: See :func:`check_inputs`.
        name: See :func:`check_inputs`.
        inputs: What the run recorded.
        run: Its name.
        whole: Times of which every region is written.
    """
    url, whole = urls.normalise(url), set(whole)

    def edit(record: _Record) -> _Record:
        others = _changed_times(spec, inputs, record)
        mine = {_label(spec, time): time for time in inputs if time not in others}
        left = {
            label: [] if time in whole else [r for r in record.runs.get(label, ()) if r != run]
            for label, time in mine.items()
        }
        void = {
            label
            for label, time in mine.items()
            if not left[label]
            and time not in whole
            and not ledger.any_written(url, spec, name, time)
        }
        kept = {label: made for label, made in record.inputs.items() if label not in void}
        return _Record(inputs=kept, runs={**record.runs, **left})

    _edit(url, name, edit)


def _forget(url: str, spec: CubeSpec, name: str, times: Iterable[int | None]) -> None:
    """Take the ticks of all regions of some times away, and keep what they were."""
    there, values = objects.at(url), ledger.ticks(url, spec, name)
    for time in times:
        lead = () if time is None else (time,)
        here = values[time] if lead else values
        places = [(*lead, int(row), int(col)) for row, col in np.argwhere(here)]
        ticks = {place: int(values[place]) for place in places}
        replaced = {
            ledger.key_at(name, place, group=ledger.REPLACED): ledger.encode(value)
            for place, value in ticks.items()
            if ledger.is_tick(value)
        }
        objects.put_many(there, replaced)
        objects.delete_many(there, [ledger.key_at(name, place) for place in places])


def _edit(url: str, name: str, edit: Callable[[_Record], _Record]) -> None:
    """Change the record of a variable under the lock on metadata."""

    def change(before: Metadata | None) -> Change | None:
        if before is None or name not in before.arrays:
            raise StoreError(f"The cube at {url!r} has no array {name!r} any more.")
        node = before.arrays[name]
        attributes = edit(_Record.of(node["attributes"])).into(node["attributes"])
        if attributes == node["attributes"]:
            return None
        changed = {**node, "attributes": attributes}
        return Change(metadata=replace(before, arrays={**before.arrays, name: changed}), values={})

    metadata.change(url, change)
