"""Statistics of the pixels of a polygon: their names, what they need, and their formulas."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cube.errors import SpecError
from cube.spec import LayerSpec, VariableSpec

FloatArray = npt.NDArray[np.floating[Any]]

Family = Literal["moments", "spread", "weighted", "order", "classes", "count", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """One number, or one of each class, for a polygon.

    Attributes:
        name: As in the names of variables, e.g. ``"mean"`` or ``"q90"``.
        family: What it is made of.
        cell_methods: In the terms of CF, appendix E.
        text: For a person, before the name of a layer.
        level: Of a quantile, 0..1.
    """

    name: str
    family: Family
    cell_methods: str
    text: str
    level: float = math.nan


@dataclass(frozen=True, slots=True)
class Quantile:
    """The least value at which the cumulative share reaches ``level`` of the polygon's.

    It is a value of a pixel: the inverse of the weighted distribution, definition 1 of Hyndman
    and Fan (1996), doi 10.1080/00031305.1996.10473566.

    Attributes:
        level: 0..1.
    """

    level: float

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 1:
            raise SpecError(f"A quantile lies from 0 to 1. Received {self.level!r}.")

    @property
    def name(self) -> str:
        """``"q90"`` for 0.9, ``"q99_5"`` for 0.995."""
        return f"q{100 * self.level:.10g}".replace(".", "_")


_KNOWN: dict[str, tuple[Family, str, str]] = {
    "sum": ("moments", "area: sum", "sum of"),
    "mean": ("moments", "area: mean", "mean of"),
    "min": ("moments", "area: minimum", "least value of"),
    "max": ("moments", "area: maximum", "greatest value of"),
    "variance": ("spread", "area: variance", "variance of"),
    "std": ("spread", "area: standard_deviation", "standard deviation of"),
    "weighted_sum": ("weighted", "area: sum", "weighted sum of"),
    "weighted_mean": ("weighted", "area: mean", "weighted mean of"),
    "median": ("order", "area: median", "median of"),
    "majority": ("classes", "area: mode", "commonest class of"),
    "class_shares": ("classes", "area: mean", "share of a class of"),
    "count": ("count", "area: sum", "number of valid pixels of"),
    "standard_error": ("error", "area: mean", "standard error of the mean of"),
}


def parsed(statistics: str | Quantile | Iterable[str | Quantile]) -> tuple[Statistic, ...]:
    """Statistics from what a user wrote, once each.

    Raises:
        SpecError: One is unknown, or a quantile lies outside 0..1; or there is none.
    """
    listed = [statistics] if isinstance(statistics, str | Quantile) else statistics
    found = [_statistic(one) for one in listed]
    if not found:
        raise SpecError(f"Give at least one statistic of {', '.join(_KNOWN)}. Received none.")
    return tuple(dict.fromkeys(found))


def _statistic(wanted: str | Quantile) -> Statistic:
    if isinstance(wanted, Quantile):
        return _quantile(wanted)
    if wanted in _KNOWN:
        family, cell_methods, text = _KNOWN[wanted]
        level = 0.5 if wanted == "median" else math.nan
        return Statistic(
            name=wanted, family=family, cell_methods=cell_methods, text=text, level=level
        )
    digits = str(wanted)[1:].replace("_", ".", 1)
    if str(wanted)[:1] == "q" and digits.replace(".", "", 1).isdecimal():
        return _quantile(Quantile(float(digits) / 100))
    raise SpecError(
        f"There is no statistic {wanted!r}. There are: {', '.join(_KNOWN)}, and quantiles such as "
        f"'q90' or Quantile(0.9)."
    )


def _quantile(quantile: Quantile) -> Statistic:
    return Statistic(
        name=quantile.name,
        family="order",
        cell_methods=f"area: quantile ({quantile.level:.10g})",
        text=f"quantile {quantile.level:.10g} of",
        level=quantile.level,
    )


def check_fits(statistics: Sequence[Statistic], variable: VariableSpec) -> None:
    """Refuse statistics that mean nothing for a variable.

    Raises:
        SpecError: Statistics of classes were asked for of measurements, or others of classes.
    """
    classes = isinstance(variable, LayerSpec) and bool(variable.classes)
    for statistic in statistics:
        if classes and statistic.family not in ("classes", "count"):
            raise SpecError(
                f"{variable.name!r} holds classes, whose codes have no {statistic.name}; ask for "
                f"'class_shares', 'majority' or 'count'."
            )
        if not classes and statistic.family == "classes":
            raise SpecError(
                f"{statistic.name!r} is of layers of classes; {variable.name!r} ({variable.dtype}) "
                f"declares none. Give its LayerSpec classes=, or ask for another statistic."
            )


def units_of(statistic: Statistic, units: str, weight_units: str = "1") -> str:
    """Units of a statistic, from those of its layer and its weights."""
    if statistic.name in ("count", "class_shares", "majority"):
        return "1"
    if statistic.name == "variance":
        return units if units == "1" else f"({units})2" if " " in units else f"{units}2"
    if statistic.name == "weighted_sum" and weight_units != "1":
        return weight_units if units == "1" else f"{units} {weight_units}"
    return units


def effective_size(weight: FloatArray, weight2: FloatArray) -> npt.NDArray[np.float64]:
    """Number of equal weights that a sum of weights, and one of their squares, are worth.

    Kish, Survey Sampling (1965), section 11.7.
    """
    return np.divide(weight**2, weight2, out=np.zeros_like(weight), where=weight2 > 0)


def design_effect(correlation_px: float, size: FloatArray) -> npt.NDArray[np.float64]:
    """How many times larger the variance of a mean is, because neighbours are alike.

    With a correlation exp(-d / r) of pixels at a distance of d pixels, the variance of the mean of
    n pixels is s² / n times (1 + the sum over all other pixels of exp(-d / r)). The sum is close to
    the integral over the plane, of 2 pi d exp(-d / r) from 0 to infinity: 2 pi r². The factor
    cannot exceed n, at which all pixels count as one. (Effective sample size of spatial data:
    Griffith 2005, doi 10.1111/j.1467-8306.2005.00484.x.)

    Args:
        correlation_px: r, in pixels; 0 for independent ones.
        size: n, see :func:`effective_size`.
    """
    return np.minimum(1.0 + 2.0 * math.pi * correlation_px**2, np.maximum(size, 1.0))


def standard_error(
    weight: FloatArray, weight2: FloatArray, squares: FloatArray, correlation_px: float
) -> npt.NDArray[np.float64]:
    """Standard error of a weighted mean; NaN where the effective size is not above 1.

    The root of s² / n times :func:`design_effect`, where n is :func:`effective_size` and s² the
    unbiased variance for weights of reliability, squares / (V1 - V2 / V1):
    https://en.wikipedia.org/wiki/Weighted_arithmetic_mean#Reliability_weights.

    Args:
        weight: V1, sum of weights.
        weight2: V2, sum of their squares.
        squares: Sum of weight x squared deviation from the mean.
        correlation_px: See :func:`design_effect`.
    """
    size = effective_size(weight, weight2)
    several = size > 1.0 + 1e-9
    # squares / (V1 - V2 / V1) / n
    variance = np.divide(
        squares, weight * (size - 1.0), out=np.full_like(weight, np.nan), where=several
    )
    return np.sqrt(variance * design_effect(correlation_px, size))


def propagated_error(
    weight: FloatArray, weight2: FloatArray, total: FloatArray, correlation_px: float
) -> npt.NDArray[np.float64]:
    """Standard error of a weighted mean of values whose own errors are known.

    The root of the sum of squared weight x error, over the sum of weights, times the root of
    :func:`design_effect`; NaN where there are none.
    """
    effect = design_effect(correlation_px, effective_size(weight, weight2))
    error = np.divide(np.sqrt(total), weight, out=np.full_like(weight, np.nan), where=weight > 0)
    return error * np.sqrt(effect)
