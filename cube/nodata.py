"""Stored values and physical values, with one meaning of nodata.

``valid`` is boolean and True where something was observed. On disk integers
carry a nodata value; in memory floats carry NaN. Nothing else converts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cube.errors import SpecError
from cube.spec import VariableSpec

FloatArray = npt.NDArray[np.floating[Any]]


def valid(stored: npt.NDArray[Any], variable: VariableSpec) -> npt.NDArray[np.bool_]:
    """Where stored values are observations; same shape as ``stored``."""
    if stored.dtype.kind == "f":
        return ~np.isnan(stored)
    return stored != variable.fill


def decoded_dtype(variable: VariableSpec) -> np.dtype[Any]:
    """float64 for what float32 cannot give back exactly, else float32.

    That is float64, 32- and 64-bit integers, and integers with an offset of
    so many scale steps that float32 (24 bits) would round the steps away.
    """
    if variable.storage.kind == "f":
        return variable.storage
    info = np.iinfo(variable.storage)
    steps = max(-info.min, info.max) + abs(variable.offset / variable.scale)
    return np.dtype("float32" if steps < 2**21 else "float64")


def decode(stored: npt.NDArray[Any], variable: VariableSpec) -> FloatArray:
    """Physical values with NaN for nodata.

    Args:
        stored: Values as on disk, any shape, dtype ``variable.dtype``.
        variable: Its packing.

    Returns:
        float32 (float64 where :func:`decoded_dtype` says so), shape of ``stored``,
        in ``variable.units``.
    """
    values: FloatArray = stored.astype(decoded_dtype(variable), copy=True)
    if stored.dtype.kind == "f":
        return values
    if variable.packed:
        values *= values.dtype.type(variable.scale)
        values += values.dtype.type(variable.offset)
    values[stored == variable.fill] = np.nan
    return values


def encode(physical: FloatArray, variable: VariableSpec) -> npt.NDArray[Any]:
    """Values as on disk; the inverse of :func:`decode`.

    Args:
        physical: Floats of any shape, NaN for nodata, in ``variable.units``.
        variable: Its packing; values are rounded to the nearest storable one.

    Returns:
        Array of ``variable.dtype``, shape of ``physical``.

    Raises:
        SpecError: A value does not fit the dtype, is infinite, or would be
            taken for nodata.
    """
    if variable.storage.kind == "f":
        return _encode_float(physical, variable)
    flat = np.ascontiguousarray(physical).reshape(-1)
    if flat.size <= _BLOCK:
        return _encode_integers(physical, variable)
    stored = np.empty(flat.shape, variable.storage)
    try:
        for start in range(0, flat.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            stored[block] = _encode_integers(flat[block], variable)
    except SpecError:
        _encode_integers(physical, variable)  # which says so of all values
        raise
    return stored.reshape(physical.shape)


_BLOCK = 1 << 15
"""Values worked on at once, so that the steps in between stay in a core's cache."""


def _encode_integers(physical: FloatArray, variable: VariableSpec) -> npt.NDArray[Any]:
    missing = np.isnan(physical)
    steps = physical.astype("float64")
    if variable.packed:
        with np.errstate(over="ignore"):
            steps = (steps - variable.offset) / variable.scale
    steps = np.rint(np.where(missing, 0.0, steps))
    _check_range(steps, missing, variable)
    # The fill of a missing value must not pass through a float: int64 would round it.
    stored = steps.astype(variable.storage)
    if np.any((stored == variable.fill) & ~missing):
        raise SpecError(
            f"{variable.name!r}: an observed value would be stored as {variable.fill}, which "
            f"means nodata. Choose another nodata, or declare that value as nodata at the source."
        )
    stored[missing] = variable.fill
    return stored


def one_nan(stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same values with one bit pattern of NaN; 0/0 gives another than ``np.nan``.

    A chunk of nothing but nodata is not stored and reads as ``np.nan``, so no
    other pattern would give the same checksum.
    """
    if stored.dtype.kind != "f":
        return stored
    return np.where(np.isnan(stored), stored.dtype.type(np.nan), stored)


def _encode_float(physical: FloatArray, variable: VariableSpec) -> npt.NDArray[Any]:
    with np.errstate(over="ignore"):
        stored = physical.astype(variable.storage)
    if np.isinf(stored).any():
        raise SpecError(
            f"{variable.name!r}: values must be finite, or NaN for nodata, as {variable.dtype}. "
            f"Received an infinite one."
        )
    return stored


def _check_range(steps: FloatArray, missing: npt.NDArray[np.bool_], variable: VariableSpec) -> None:
    if steps.size == 0:
        return
    info = np.iinfo(variable.storage)
    low, high = float(steps.min()), float(steps.max())
    # 2**63 rounds up as a float, hence the strict upper comparison for wide integers.
    too_high = high > info.max or (info.bits == 64 and high >= float(info.max))
    if low < info.min or too_high or not np.isfinite([low, high]).all():
        observed = steps[~missing] * variable.scale + variable.offset
        raise SpecError(
            f"{variable.name!r}: packing would clip. {variable.dtype} with scale="
            f"{variable.scale:g}, offset={variable.offset:g} holds "
            f"{info.min * variable.scale + variable.offset:g}.."
            f"{info.max * variable.scale + variable.offset:g}; the data go from "
            f"{observed.min():g} to {observed.max():g}. Choose a wider dtype or another scale."
        )
