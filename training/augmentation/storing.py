"""Computed values back in their stored dtype: rounded, never wrapped around, never nodata."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from training.layers import check_width, is_wide
from training.packing import Packing


def cast_exactly(stored: Any, packing: Packing) -> Any:
    """Stored values as floats that hold them: float32, or float64 for 32 bits and more.

    Raises:
        SpecError: The backend has no such floats.
    """
    if not is_wide(packing.dtype):
        return ops.cast(stored, "float32")
    check_width("float64")
    return ops.cast(stored, "float64")


def filled(packing: Packing) -> Any:
    """Nodata as a scalar of the stored dtype."""
    value = np.nan if packing.nodata is None else packing.nodata
    return ops.convert_to_tensor(np.asarray(value, packing.dtype))


def stored_as(values: Any, packing: Packing) -> Any:
    """The nearest storable values, same shape, of the stored dtype.

    What would be rounded to nodata becomes the number next to it, for it was observed.

    Args:
        values: Floats in stored units, none of them NaN where it matters.
        packing: Of the stored values.
    """
    if packing.nodata is None:
        return ops.cast(values, packing.dtype)
    info = np.iinfo(packing.dtype)
    dtype = keras.backend.standardize_dtype(values.dtype)
    low, high = _representable(info, dtype)
    rounded = ops.clip(ops.round(values), low, high)
    nodata = float(packing.nodata)
    # One step of a float may be more than 1: 2**63 - 1 is nearest to 2**63.
    step = max(1.0, float(np.spacing(np.dtype(dtype).type(abs(nodata)))))
    if packing.nodata == info.min:
        above = ops.ones_like(rounded)
    elif packing.nodata == info.max:
        above = -ops.ones_like(rounded)
    else:
        above = ops.where(values >= nodata, 1.0, -1.0)
    above = step * ops.cast(above, rounded.dtype)
    apart = ops.where(rounded == nodata, rounded + above, rounded)
    return ops.cast(apart, packing.dtype)


def _representable(info: Any, dtype: str) -> tuple[float, float]:
    """Limits of an integer dtype as floats that lie within them: 2**63 - 1 rounds up."""
    floats = np.dtype(dtype).type
    high = floats(info.max)
    if int(high) > info.max:
        high = np.nextafter(high, floats(0))
    return float(info.min), float(high)
