"""How statistics are made of sums, and how they are named and described."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cube.blocks import class_counts
from cube.blocks.panels import Column, prefixes
from cube.blocks.statistics import Statistic, units_of
from cube.blocks.tallies import Totals
from cube.errors import SpecError
from cube.spec import LayerSpec, StackSpec
from cube.states import FLAG_MEANINGS, FLAG_VALUES
from cube.transforms import Transform

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to aggregate; see :func:`cube.aggregate`.

    Attributes:
        statistics: What to say of every polygon.
        weights: Layer that weighs pixels; its name, or any text for an array.
        weight_units: Its units.
        errors: Pairs of a variable and what holds the errors of its pixels.
        correlation_px: Over how many pixels neighbours are alike.
        transform: Whose inverse pixels are taken through.
        conserve: Divide pixels among the polygons that they meet.
    """

    statistics: tuple[Statistic, ...]
    weights: str | None = None
    weight_units: str = "1"
    errors: tuple[tuple[str, str], ...] = ()
    correlation_px: float = 0.0
    transform: Any = None
    conserve: bool = False

    def __post_init__(self) -> None:
        families = {statistic.family for statistic in self.statistics}
        if not (math.isfinite(self.correlation_px) and self.correlation_px >= 0):
            raise SpecError(
                f"correlation_px must be 0 or more pixels. Received {self.correlation_px!r}."
            )
        if "weighted" in families and self.weights is None:
            raise SpecError("Weighted statistics need weights=, a layer. Received none.")
        for what, given, family, used_by in (
            ("weights", self.weights, "weighted", "'weighted_mean' and 'weighted_sum'"),
            ("errors", self.errors, "error", "'standard_error'"),
            ("correlation_px", self.correlation_px, "error", "'standard_error'"),
        ):
            if given and family not in families:
                raise SpecError(f"{what}= is for {used_by}; statistics= has none of them.")
        self._check_transform()

    def _check_transform(self) -> None:
        if self.transform is None:
            return
        if not isinstance(self.transform, Transform):
            raise SpecError(
                f"transform= is a declared transform, such as cube.transforms.Log(). "
                f"Received {self.transform!r}."
            )
        if self.transform.inputs != 1:
            raise SpecError(
                f"Pixels go through a transform of one input. Received {self.transform!r}, of "
                f"{self.transform.inputs}."
            )
        for statistic in self.statistics:
            if statistic.family in ("spread", "error", "classes"):
                raise SpecError(
                    f"{statistic.name!r} cannot be taken through a transform; leave out one of the "
                    f"two."
                )

    def describe(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "statistics": [statistic.name for statistic in self.statistics],
            "weights": self.weights,
            "errors": dict(self.errors),
            "correlation_px": self.correlation_px,
            "transform": None if self.transform is None else self.transform.describe(),
            "conserve": self.conserve,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Summed:
    """What was summed of one layer or stack at one time.

    Attributes:
        variable: The layer or stack.
        totals: Its sums.
        size: Sum of shares of each polygon, float64 (polygon,).
    """

    variable: StackSpec | LayerSpec
    totals: Totals
    size: npt.NDArray[np.float64]


def columns(summed: Summed, options: Options) -> Iterator[Column]:
    """Columns of a layer or stack at one time, (polygon,) each.

    Args:
        summed: Its sums.
        options: What to say.
    """
    size = summed.size
    for band, name in enumerate(prefixes(summed.variable)):
        for statistic in options.statistics:
            if statistic.family == "classes":
                yield from _of_classes(summed, statistic)
            else:
                yield from _of_band(summed, band, statistic, options)
        weight = summed.totals.weight(band)
        yield Column(
            name=f"{name}_valid_share",
            values=np.divide(weight, size, out=np.zeros_like(size), where=size > 0),
            attrs={
                "long_name": f"share of pixels that hold {_title(summed.variable, band)}",
                "units": "1",
                "cell_methods": "area: mean",
            },
        )


def _title(variable: StackSpec | LayerSpec, band: int) -> str:
    title = variable.long_name or variable.name
    return f"{title}, {variable.bands[band]}" if isinstance(variable, StackSpec) else title


def _of_band(summed: Summed, band: int, statistic: Statistic, options: Options) -> Iterator[Column]:
    variable = summed.variable
    values = summed.totals.value(statistic, band, correlation_px=options.correlation_px)
    name = f"{prefixes(variable)[band]}_{statistic.name}"
    attrs = {
        "long_name": f"{statistic.text} {_title(variable, band)}",
        "units": units_of(statistic, variable.units, options.weight_units),
        "cell_methods": statistic.cell_methods
        + (f" (weighted by {options.weights})" if statistic.family == "weighted" else ""),
    }
    if options.transform is None or statistic.family == "count":
        yield Column(name=name, values=values, attrs=attrs)
        return
    kind = options.transform.describe()["transform"]
    attrs["long_name"] = f"{kind} of the {statistic.text} amounts behind {_title(variable, band)}"
    yield Column(name=name, values=options.transform.forward(values), attrs=attrs)
    yield Column(
        name=f"{name}_state",
        values=np.asarray(options.transform.state(values), "int64"),
        attrs={
            "long_name": f"why {name} has no value",
            "units": "1",
            "flag_values": list(FLAG_VALUES),
            "flag_meanings": " ".join(FLAG_MEANINGS),
        },
    )


def _of_classes(summed: Summed, statistic: Statistic) -> Iterator[Column]:
    layer, counts = summed.variable, summed.totals.classes
    if not isinstance(layer, LayerSpec):
        return
    attrs: dict[str, Any] = {"units": "1", "cell_methods": statistic.cell_methods}
    if statistic.name == "majority":
        attrs |= {
            "long_name": f"{statistic.text} {_title(layer, 0)}",
            "flag_values": [code for code, _ in layer.classes],
            "flag_meanings": " ".join(class_counts.names(layer)),
        }
        majority = class_counts.majority(counts, layer)
        yield Column(name=f"{layer.name}_majority", values=majority, attrs=attrs)
        return
    names, shares = class_counts.names(layer), class_counts.shares_of(counts)
    for name, (_, meaning), share in zip(names, layer.classes, shares, strict=True):
        yield Column(
            name=f"{layer.name}_{name}_share",
            values=share,
            attrs=attrs | {"long_name": f"share of {meaning} in {_title(layer, 0)}"},
        )
