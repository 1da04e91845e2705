"""Sums and order statistics of very many values, a part at a time; plain arithmetic.

Quantiles are exact: the bits of numbers, read as whole numbers, sort as the numbers do, and are
found in digits of 16 bits from histograms (radix selection). That takes one pass over the values
for integers of 8 or 16 bits, two for 32 bits and four for 64 bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Histogram = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Digits, ascending, and how often each was seen."""

DIGIT = 16
"""Bits of a digit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Count, mean, sum of squared differences from it, and range of values.

    Merged by Chan, Golub and LeVeque (1983), doi 10.1080/00031305.1983.10483115.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    @classmethod
    def of(cls, values: npt.NDArray[np.float64]) -> Self:
        """Of values (n,) without NaN; infinite, or NaN, where float64 cannot hold the sums."""
        if not len(values):
            return cls()
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(values.mean())
            return cls(
                count=len(values),
                mean=mean,
                squares=float(((values - mean) ** 2).sum()),
                low=float(values.min()),
                high=float(values.max()),
            )

    def joined(self, other: Sums) -> Sums:
        """Both together; the order of merging decides the last bits."""
        count = self.count + other.count
        if not count:
            return self
        apart = other.mean - self.mean
        return Sums(
            count=count,
            mean=self.mean + apart * other.count / count,
            # A float to a power of 2 raises where a product is infinite.
            squares=self.squares + other.squares + apart * apart * self.count * other.count / count,
            low=min(self.low, other.low),
            high=max(self.high, other.high),
        )


def passes(dtype: npt.DTypeLike) -> int:
    """Number of digits of a dtype: passes over the values that a quantile takes."""
    return max(np.dtype(dtype).itemsize * 8 // DIGIT, 1)


def keys(values: npt.NDArray[Any]) -> Keys:
    """Whole numbers in the order of integers or floats, uint64; no NaN."""
    if values.dtype.kind == "u":
        return values.astype("uint64")
    width = values.dtype.itemsize * 8
    top, every = np.uint64(1 << (width - 1)), np.uint64((1 << width) - 1)
    if values.dtype.kind == "i":
        return (values.astype("int64").view("uint64") & every) ^ top
    # Adding 0 makes -0, which is equal, 0.
    bits = (values + values.dtype.type(0)).view(f"uint{width}").astype("uint64")
    return np.where(bits & top, ~bits & every, bits | top)


def value_of(key: int, dtype: npt.DTypeLike) -> float:
    """The number that a key stands for; the inverse of :func:`keys`."""
    kind = np.dtype(dtype)
    width = kind.itemsize * 8
    top, every = 1 << (width - 1), (1 << width) - 1
    if kind.kind == "u":
        return float(key)
    if kind.kind == "i":
        return float(key - top)
    bits = key ^ top if key & top else ~key & every
    return float(np.asarray(bits, f"uint{width}").view(kind))


def digits(values: npt.NDArray[Any], known: int, prefixes: Sequence[int]) -> list[Histogram]:
    """Histograms of the digit that comes next.

    Args:
        values: Integers or floats (n,), no NaN.
        known: Number of digits that are known already.
        prefixes: Those digits as one number, for each quantile.

    Returns:
        One histogram for each prefix, of the values that begin with it; a single one of all
        values while no digit is known.
    """
    bits = keys(values)
    behind = np.uint64(DIGIT * (passes(values.dtype) - 1 - known))
    if not known:
        return [_counted(bits >> behind)]
    digit = (bits >> behind) & np.uint64((1 << DIGIT) - 1)
    ahead = bits >> (behind + np.uint64(DIGIT))
    return [_counted(digit[ahead == np.uint64(prefix)]) for prefix in prefixes]


def _counted(found: Keys) -> Histogram:
    unique, counts = np.unique(found, return_counts=True)
    return unique.astype("int64"), counts.astype("int64")


@dataclass(slots=True, kw_only=True)
class Selection:
    """Quantiles of one channel while their digits are found.

    The quantile of level q is the smallest value with at least the share q of all values at or
    below it ("inverted_cdf" of NumPy): a value that was seen.

    Attributes:
        dtype: Of the values.
        levels: From 0 to 1.
        falling: Count values from the largest down.
        known: Number of digits that are known.
        prefixes: Those digits as one number, for each level.
    """

    dtype: str
    levels: tuple[float, ...]
    falling: bool = False
    known: int = 0
    prefixes: list[int] = field(default_factory=list)
    _rank: list[int] = field(default_factory=list)
    _waiting: list[npt.NDArray[np.int64]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True once every digit is known."""
        return not self.levels or self.known == passes(self.dtype)

    def add(self, found: Sequence[Histogram]) -> None:
        """Take the histograms of some values, in any order."""
        if not self._waiting:
            self._waiting = [np.zeros(1 << DIGIT, "int64") for _ in found]
        for waiting, (which, counts) in zip(self._waiting, found, strict=True):
            waiting[which] += counts

    def turn(self) -> None:
        """End a pass: one more digit of every quantile becomes known."""
        if not self.known:
            self._begin(int(self._waiting[0].sum()) if self._waiting else 0)
        for i, rank in enumerate(self._rank):
            reached = np.cumsum(self._waiting[i if self.known else 0])
            digit = int(np.searchsorted(reached, rank))
            self._rank[i] = rank - (int(reached[digit - 1]) if digit else 0)
            self.prefixes[i] = (self.prefixes[i] << DIGIT) | digit
        self.known += 1
        self._waiting = []

    def values(self) -> tuple[float, ...]:
        """Quantiles once complete, in the order of the levels."""
        return tuple(value_of(prefix, self.dtype) for prefix in self.prefixes)

    def _begin(self, total: int) -> None:
        if not total:
            self.levels = ()
        # What multiplying rounds up would be one rank too many.
        ranks = [max(math.ceil(level * total - 1e-9), 1) for level in self.levels]
        self._rank = [total + 1 - rank for rank in ranks] if self.falling else ranks
        self.prefixes = [0] * len(ranks)
