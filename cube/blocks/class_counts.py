"""Classes of pixels in polygons: how much of each, and which is the commonest."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from cube.errors import StoreError
from cube.spec import LayerSpec

FloatArray = npt.NDArray[np.floating[Any]]


def places(stored: npt.NDArray[Any], layer: LayerSpec) -> npt.NDArray[np.int16]:
    """Place of each pixel's class among those the layer declares, -1 for nodata; same shape.

    Raises:
        StoreError: A pixel holds none of them.
    """
    codes = np.array([code for code, _ in layer.classes], stored.dtype)
    order = np.argsort(codes)
    at = np.minimum(np.searchsorted(codes[order], stored), len(codes) - 1)
    found = order[at].astype("int16")
    known = codes[found] == stored
    found[~known] = -1
    wrong = ~known & (stored != layer.fill)
    if wrong.any():
        raise StoreError(
            f"{layer.name!r} holds {stored[wrong][0]}, which is none of its classes "
            f"({', '.join(str(code) for code, _ in layer.classes)}); declare it, or correct the "
            f"layer."
        )
    return found


def names(layer: LayerSpec) -> list[str]:
    """A lower_snake_case name of each class: its meaning, or its code where that is not unique."""
    short = [
        re.sub(r"\W+", "_", meaning.strip().lower()).strip("_") for _, meaning in layer.classes
    ]
    return [
        name if name and short.count(name) == 1 else f"class_{code}".replace("-", "minus_")
        for name, (code, _) in zip(short, layer.classes, strict=True)
    ]


def shares_of(counts: FloatArray) -> npt.NDArray[np.float64]:
    """Share of each class in what is valid, float64 (class, polygon); NaN without any."""
    total = added_up(counts)
    return np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)


def added_up(counts: FloatArray) -> npt.NDArray[np.float64]:
    """Sum over classes, in their order; float64 (polygon,)."""
    total = np.zeros(counts.shape[1])
    for one in counts:
        total += one
    return total


def majority(counts: FloatArray, layer: LayerSpec) -> npt.NDArray[np.float64]:
    """Code of the class with the largest share, float64 (polygon,); NaN without a valid pixel.

    Of equal shares the greatest code wins, as exactextract's ``mode`` has it.
    """
    codes = np.array([code for code, _ in layer.classes], "float64")
    order = np.argsort(-codes)
    most = codes[order[counts[order].argmax(axis=0)]]
    return np.where(added_up(counts) > 0, most, np.nan)
