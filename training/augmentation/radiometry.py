"""Changes of stored values as gain and bias, on observed pixels alone.

A physical value times ``f`` plus ``s`` is stored as
``stored * f + (offset * (f - 1) + s) / scale``; so a factor of 1 changes nothing, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keras import ops

from training.augmentation.storing import cast_exactly, filled, stored_as
from training.layers import observed
from training.packing import Packing

Change = Callable[[Any, Any, Packing], Any]


def by_band(
    change: Change, arrays: Mapping[str, Any], numbers: Any, stacks: Mapping[str, Packing]
) -> dict[str, Any]:
    """Change stacks by numbers (batch, band), where all their bands follow one another."""
    out, at = dict(arrays), 0
    for name, packing in stacks.items():
        out[name] = change(arrays[name], numbers[:, at : at + packing.bands], packing)
        at += packing.bands
    return out


def brightened(stored: Any, factor: Any, packing: Packing) -> Any:
    """Physical values times a factor, (batch, 1)."""
    return _adjusted(stored, factor, packing.offset / packing.scale * (factor - 1.0), packing)


def shifted(stored: Any, shift: Any, packing: Packing) -> Any:
    """Physical values plus a number for each band, (batch, band)."""
    return _adjusted(stored, ops.ones_like(shift), shift / packing.scale, packing)


def without(stored: Any, lost: Any, packing: Packing) -> Any:
    """Bands of which ``lost``, bool (batch, band), is True as nodata."""
    return ops.where(_per_chip(lost, stored), filled(packing), stored)


def dropped(draws: Any, probability: float) -> Any:
    """Bands that are lost, bool (batch, band), never all: the one of the largest number stays."""
    largest = draws >= ops.max(draws, axis=1, keepdims=True)
    return (draws < probability) & ops.logical_not(largest)


def _adjusted(stored: Any, gain: Any, bias: Any, packing: Packing) -> Any:
    exact = cast_exactly(stored, packing)
    gain, bias = (ops.cast(_per_chip(part, stored), exact.dtype) for part in (gain, bias))
    changed = stored_as(exact * gain + bias, packing)
    return ops.where(observed(stored, packing.nodata), changed, stored)


def _per_chip(numbers: Any, stored: Any) -> Any:
    """(batch, band) as it broadcasts over (batch, [time,] y, x, band)."""
    shape = ops.shape(numbers)
    return ops.reshape(numbers, (shape[0], *(1,) * (len(stored.shape) - 2), shape[1]))
