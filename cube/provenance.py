"""What a variable was made from, kept in its own attributes.

Provenance holds no clock, host or path, so that the same run writes the same
bytes. It is written before the first region, and refuses a run that would mix
regions made from other inputs into the same time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from cube import ledger, store
from cube.errors import SourceError
from cube.spec import CubeSpec, digest
from cube.template import annotate


def _key(spec: CubeSpec, time: int | None) -> str:
    return "static" if time is None else spec.calendar[time].label


def inputs_of(url: str, name: str) -> dict[str, Any]:
    """Recorded inputs by period label (``"static"`` without time)."""
    recorded = store.array_attributes(url).get(name, {}).get("inputs", "{}")
    return dict(json.loads(recorded))


def check_inputs(
    url: str, spec: CubeSpec, name: str, time: int | None, description: Mapping[str, Any]
) -> None:
    """Refuse to go on with other inputs than the written regions were made from.

    Raises:
        SourceError: Regions of this time are written, and came from something else.
    """
    key = _key(spec, time)
    recorded = inputs_of(url, name).get(key)
    if recorded is None or recorded["digest"] == digest(description):
        return
    ticks = ledger.ticks(url, name)
    if (ticks if time is None else ticks[time]).any():
        raise SourceError(
            f"{name!r} ({key}) already holds regions made from other inputs (digest "
            f"{recorded['digest']}, now {digest(description)}). Use the same inputs, or another "
            f"variable or cube."
        )


def record_inputs(
    url: str, spec: CubeSpec, name: str, time: int | None, description: Mapping[str, Any]
) -> None:
    """Write down what the regions of one time are made from."""
    entry = {"digest": digest(description), "from": dict(description)}
    created_by = f"quadrat {version('quadrat')}"
    annotate(url, name, inputs={_key(spec, time): entry}, created_by=created_by)
