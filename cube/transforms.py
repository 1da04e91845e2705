"""Declared transforms of what people measured, each with its inverse.

A log of an amount has no value where the amount is zero, and none where it is
missing. The two are told apart by a *state* beside the values, so that the
inverse gives both back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import pandas as pd

from cube.errors import SpecError
from cube.states import (
    FLAG_MEANINGS,
    FLAG_VALUES,
    difference_states,
    exp,
    log,
    log_ratio,
    mapped,
    positive_or_zero,
    ratio,
    ratio_states,
    states,
    with_zeros,
)

__all__ = [
    "CPI_TO_2012",
    "FLAG_MEANINGS",
    "FLAG_VALUES",
    "Chain",
    "Deflate",
    "Density",
    "DensityOf",
    "Difference",
    "Log",
    "PerCapita",
    "Transform",
    "factors_of",
    "transform_from",
]

FloatArray = npt.NDArray[np.float64]
Values = TypeVar("Values", FloatArray, pd.Series, pd.DataFrame)

CPI_TO_2012: Mapping[str, float] = MappingProxyType(
    {
        "1999": 1.3782055,
        "2005-2009": 1.070009,
        "2008-2012": 1.0,
        "2013-2017": 0.9365731,
        "2015-2019": 0.8980457,
        "2018": 0.9143061,
    }
)
"""Factor from US dollars of a year or an ACS period to those of 2012.

As published with Khachiyan et al. 2022 (AER: Insights, doi 10.1257/aeri.20210422), from annual
means of the consumer price index CPIAUCSL (https://fred.stlouisfed.org/series/CPIAUCSL).
"""


@runtime_checkable
class Transform(Protocol):
    """What a declared transform of one or more columns offers.

    Arrays, Series and DataFrames come back as what they are, with float64.
    """

    inputs: ClassVar[int]
    """Number of columns that it takes."""

    recovers: ClassVar[int]
    """Which of them the inverse gives back; it takes the others."""

    def forward(self, values: Any, /, *others: Any) -> Any:
        """The transformed values, NaN where they have none."""
        ...

    def inverse(self, values: Any, /, *others: Any, state: Any = None) -> Any:
        """What :meth:`forward` was given; with its state, zeros too."""
        ...

    def state(self, values: Any, /, *others: Any) -> Any:
        """Codes of :data:`cube.states.FLAG_VALUES`, int8."""
        ...

    def describe(self) -> dict[str, Any]:
        """JSON-able form, see :func:`transform_from`."""
        ...


@dataclass(frozen=True, slots=True)
class Log:
    """Natural logarithm of an amount; 0 has none, and stands in the state."""

    inputs: ClassVar[int] = 1
    recovers: ClassVar[int] = 0

    def forward(self, values: Values, /) -> Values:
        """Natural logarithms, NaN for zero and missing amounts.

        Raises:
            PolygonError: An amount is negative or infinite.
        """
        return mapped(log, values)

    def inverse(self, values: Values, /, *, state: Any = None) -> Values:
        """Amounts; 0 where the state says zero, NaN where a logarithm is missing."""
        return with_zeros(mapped(exp, values), state)

    def state(self, values: Any, /) -> Any:
        """Number, zero or missing, int8."""
        return mapped(lambda x: states(positive_or_zero(x)), values)

    def describe(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"transform": "log"}


@dataclass(frozen=True, slots=True)
class PerCapita:
    """Logarithm of an amount per head: log of the amount minus log of the population."""

    inputs: ClassVar[int] = 2
    recovers: ClassVar[int] = 0

    def forward(self, amount: Values, population: Values, /) -> Values:
        """Logarithms, NaN where one of the two is zero or missing.

        Raises:
            PolygonError: One is negative or infinite, or their rows differ.
        """
        return mapped(log_ratio, amount, population)

    def inverse(self, values: Values, population: Values, /, *, state: Any = None) -> Values:
        """Amounts, given the population."""
        return with_zeros(mapped(lambda x, p: exp(x) * p, values, population), state)

    def state(self, amount: Any, population: Any, /) -> Any:
        """Number, zero (the amount), missing, or undefined (an amount of nobody), int8."""
        return mapped(ratio_states, amount, population)

    def describe(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"transform": "per_capita"}


@dataclass(frozen=True, slots=True)
class Difference:
    """Change of the logarithm of an amount between two years: log last minus log first.

    Attributes:
        first: The earlier year or period, for the record.
        last: The later one.
        log: False for columns that are logarithms already, such as of income per head, or whose
            own change is meant: last minus first, of any sign.
    """

    first: str | int
    last: str | int
    log: bool = True
    inputs: ClassVar[int] = 2
    recovers: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name in ("first", "last"):
            object.__setattr__(self, name, str(getattr(self, name)))
        if self.first == self.last:
            raise SpecError(f"A difference is between two years. Received {self.first!r} twice.")

    def forward(self, first: Values, last: Values, /) -> Values:
        """Differences, NaN where one of the two is missing, or an amount whose log it takes is 0.

        Raises:
            PolygonError: An amount is negative, or a value infinite; or their rows differ.
        """
        return mapped(log_ratio if self.log else np.subtract, last, first)

    def inverse(self, values: Values, first: Values, /, *, state: Any = None) -> Values:
        """Last values, given the first ones."""
        last = (lambda x, given: exp(x) * given) if self.log else np.add
        return with_zeros(mapped(last, values, first), state)

    def state(self, first: Any, last: Any, /) -> Any:
        """Number, missing and, of logarithms, zero (the last) or undefined (the first is), int8."""
        return mapped(ratio_states if self.log else difference_states, last, first)

    def describe(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "transform": "difference", "first": self.first, "last": self.last, "log": self.log
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Deflate:
    """Money of one year in prices of another.

    Attributes:
        year: The year, or period, of the amounts.
        factors: Factor from the prices of each year to those of the base, above 0;
            see :data:`CPI_TO_2012` and :func:`factors_of`.
    """

    year: str | int
    factors: Mapping[Any, float] = field(default_factory=lambda: CPI_TO_2012, hash=False)
    inputs: ClassVar[int] = 1
    recovers: ClassVar[int] = 0

    def __post_init__(self) -> None:
        factors = _by_year(self.factors, "Factors")
        object.__setattr__(self, "year", str(self.year))
        object.__setattr__(self, "factors", factors)
        if self.year not in factors:
            raise SpecError(f"Prices are known of {', '.join(factors)}. Received {self.year!r}.")

    @property
    def factor(self) -> float:
        """What amounts are multiplied by."""
        return self.factors[self.year]

    def forward(self, values: Values, /) -> Values:
        """Amounts in prices of the base."""
        return mapped(lambda x: x * self.factor, values)

    def inverse(self, values: Values, /, *, state: Any = None) -> Values:
        """Amounts in prices of their year."""
        return with_zeros(mapped(lambda x: x / self.factor, values), state)

    def state(self, values: Any, /) -> Any:
        """Number, zero or missing, int8."""
        return mapped(states, values)

    def describe(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"transform": "deflate", "year": self.year, "factors": dict(self.factors)}


@dataclass(frozen=True, slots=True)
class Density:
    """Amount per square kilometre.

    Attributes:
        area_km2: Area of every place, as of a pixel, above 0.
    """

    area_km2: float
    inputs: ClassVar[int] = 1
    recovers: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if not isinstance(self.area_km2, Real) or not 0 < self.area_km2 < np.inf:
            raise SpecError(f"An area in km2 must be above 0. Received {self.area_km2!r}.")

    def forward(self, values: Values, /) -> Values:
        """Amounts per km2."""
        return mapped(lambda x: x / self.area_km2, values)

    def inverse(self, values: Values, /, *, state: Any = None) -> Values:
        """Amounts."""
        return with_zeros(mapped(lambda x: x * self.area_km2, values), state)

    def state(self, values: Any, /) -> Any:
        """Number, zero or missing, int8."""
        return mapped(states, values)

    def describe(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"transform": "density", "area_km2": self.area_km2}


@dataclass(frozen=True, slots=True)
class DensityOf:
    """Amount per square kilometre of polygons, each of its own area."""

    inputs: ClassVar[int] = 2
    recovers: ClassVar[int] = 0

    def forward(self, amount: Values, area_km2: Values, /) -> Values:
        """Amounts per km2, NaN where the area is 0."""
        return mapped(ratio, amount, area_km2)

    def inverse(self, values: Values, area_km2: Values, /, *, state: Any = None) -> Values:
        """Amounts, given the areas."""
        return with_zeros(mapped(lambda x, area: x * area, values, area_km2), state)

    def state(self, amount: Any, area_km2: Any, /) -> Any:
        """Number, zero (the amount), missing, or undefined (on no area), int8."""
        return mapped(ratio_states, amount, area_km2)

    def describe(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"transform": "density_of"}


@dataclass(frozen=True, slots=True)
class Chain:
    """Transforms of one column, one after another.

    Attributes:
        steps: In the order in which they are done; a :class:`Log` comes last.
    """

    steps: tuple[Log | Deflate | Density, ...]
    inputs: ClassVar[int] = 1
    recovers: ClassVar[int] = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        if not self.steps or not all(isinstance(s, Log | Deflate | Density) for s in self.steps):
            raise SpecError("A chain has one step or more, each Log, Deflate or Density.")
        if any(isinstance(step, Log) for step in self.steps[:-1]):
            # What comes after a logarithm is no amount any more, and has no zero to tell.
            raise SpecError("A logarithm is the last step of a chain.")

    def forward(self, values: Values, /) -> Values:
        """Every step in turn."""
        for step in self.steps:
            values = step.forward(values)
        return values

    def inverse(self, values: Values, /, *, state: Any = None) -> Values:
        """Every inverse, from the last to the first."""
        for step in reversed(self.steps):
            values = step.inverse(values)
        return with_zeros(values, state)

    def state(self, values: Any, /) -> Any:
        """Number, zero or missing, int8; of the amounts that the chain begins with."""
        return self.steps[-1].state(values)

    def describe(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"transform": "chain", "steps": [step.describe() for step in self.steps]}


_KINDS: Mapping[str, Callable[..., Any]] = {
    "log": Log,
    "per_capita": PerCapita,
    "difference": Difference,
    "deflate": Deflate,
    "density": Density,
    "density_of": DensityOf,
    "chain": lambda steps: Chain(tuple(transform_from(step) for step in steps)),
}


def transform_from(data: Mapping[str, Any]) -> Any:
    """Rebuild a transform from what it says of itself.

    Raises:
        SpecError: There is no such transform, or it takes other values.
    """
    name = data.get("transform") if isinstance(data, dict) else None
    kind = _KINDS.get(str(name))
    if kind is None:
        raise SpecError(
            f"A transform is one of {', '.join(_KINDS)}, as it says of itself. Received {data!r}."
        )
    try:
        return kind(**{key: value for key, value in data.items() if key != "transform"})
    except TypeError as error:
        raise SpecError(f"Transform {name!r} cannot be rebuilt: {error}.") from error


def factors_of(index: Mapping[Any, float], *, base: str | int) -> dict[str, float]:
    """Factors to the prices of a base year, from a price index.

    Args:
        index: Price level of each year, above 0.
        base: One of the years.

    Raises:
        SpecError: The base is not among the years, or a level is not above 0.
    """
    levels = _by_year(index, "Levels")
    if str(base) not in levels:
        raise SpecError(f"Prices are known of {', '.join(levels)}. Received base={base!r}.")
    return {year: levels[str(base)] / level for year, level in levels.items()}


def _by_year(prices: Mapping[Any, float], what: str) -> dict[str, float]:
    values: Mapping[Any, Any] = prices
    good = {y: v for y, v in values.items() if isinstance(v, Real) and 0 < float(v) < np.inf}
    if wrong := [f"{y}: {v!r}" for y, v in values.items() if y not in good]:
        raise SpecError(f"{what} of prices must be above 0. Received {', '.join(wrong)}.")
    return {str(year): float(value) for year, value in good.items()}
