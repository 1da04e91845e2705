"""What the index says of inputs and labels: rasters to sum, and columns made of their sums."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from cube import nodata
from cube.spec import CubeSpec, LayerSpec
from training.index.boxes import BoxValues, Needed
from training.samples import InputStack, SampleSpec
from training.targets import Target

Sums = npt.NDArray[np.float64]
"""Sums of rasters in windows, (raster, window)."""

Columns = dict[str, Any]
"""Name of a column to its values, by window."""

Periods = tuple[str, ...]


class Measure(Protocol):
    """Rasters of a box that are summed in windows."""

    @property
    def needs(self) -> tuple[Needed, ...]:
        """What is read, as often as it is asked for."""

    @property
    def count(self) -> int:
        """Number of rasters."""

    def rasters(self, box: BoxValues) -> Iterator[npt.NDArray[Any]]:
        """So many rasters of a box, (y, x), finite numbers or booleans, one after the other."""


def _share(part: Sums, whole: Sums | float) -> npt.NDArray[np.float64]:
    """NaN where there is nothing to be part of."""
    out = np.full(part.shape, np.nan)
    return np.divide(part, whole, out=out, where=np.asarray(whole) > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Pixels at which all inputs of a timing were observed.

    Attributes:
        stacks: Bands by stack.
        static: Names of the stacks that do not vary with time.
        periods: Input periods of timings, each combination once.
    """

    stacks: tuple[InputStack, ...]
    static: frozenset[str]
    periods: tuple[Periods, ...]

    @classmethod
    def of(cls, sample: SampleSpec, spec: CubeSpec) -> Self:
        """Those of a sample."""
        return cls(
            stacks=sample.inputs,
            static=frozenset(s.stack for s in sample.inputs if spec.variable(s.stack).static),
            periods=tuple(dict.fromkeys(timing.inputs for timing in sample.timings)),
        )

    def _needs(self, periods: Periods) -> list[tuple[InputStack, str | None]]:
        return [
            (stack, period)
            for stack in self.stacks
            for period in ((None,) if stack.stack in self.static else periods)
        ]

    @property
    def needs(self) -> tuple[Needed, ...]:
        """See :class:`Measure`; each once, since what is observed is kept."""
        each = [(s.stack, p) for periods in self.periods for s, p in self._needs(periods)]
        return tuple(dict.fromkeys(each))

    @property
    def count(self) -> int:
        """One for each combination of input periods."""
        return len(self.periods)

    def rasters(self, box: BoxValues) -> Iterator[npt.NDArray[Any]]:
        """Where all was observed, for each combination of periods."""
        observed: dict[Needed, npt.NDArray[np.bool_]] = {}
        for periods in self.periods:
            out = np.ones(box.box.shape, dtype=bool)
            for stack, period in self._needs(periods):
                key = (stack.stack, period)
                if key not in observed:
                    observed[key] = box.observed(stack.stack, stack.bands, period)
                out &= observed[key]
            yield out

    def columns(self, sums: Sums, pixels: int) -> Mapping[Periods, Columns]:
        """Columns of each combination of input periods.

        Args:
            sums: Of the rasters.
            pixels: Of a window.
        """
        return {
            periods: {"valid_share": row / pixels}
            for periods, row in zip(self.periods, sums, strict=True)
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Labelled pixels of a timing, and the sum of their values or the number of each class.

    A pixel is labelled where all label periods of the timing were observed.

    Attributes:
        layer: The label layer.
        periods: Label periods of timings, each combination once.
    """

    layer: LayerSpec
    periods: tuple[Periods, ...]

    @classmethod
    def of(cls, sample: SampleSpec, spec: CubeSpec) -> Self | None:
        """Those of a sample; None if its target is no layer."""
        if not isinstance(sample.target, Target):
            return None
        periods = tuple(dict.fromkeys(timing.label for timing in sample.timings))
        return cls(layer=spec.layer(sample.target.layer), periods=periods)

    @property
    def values(self) -> tuple[int, ...]:
        """Classes of the layer, ascending; none for amounts."""
        return tuple(sorted(value for value, _ in self.layer.classes))

    @property
    def names(self) -> list[str]:
        """Columns that there will be."""
        own = [*class_columns(self.layer.classes).values(), "majority"]
        return ["label_share", *(own if self.values else ["label_mean"])]

    def _needs(self, periods: Periods) -> list[Needed]:
        return [(self.layer.name, p) for p in ((None,) if self.layer.static else periods)]

    @property
    def needs(self) -> tuple[Needed, ...]:
        """See :class:`Measure`."""
        return tuple(need for periods in self.periods for need in self._needs(periods))

    @property
    def _each(self) -> int:
        return 1 + max(len(self.values), 1)

    @property
    def count(self) -> int:
        """For each combination of periods one, and one for the sum or for each class."""
        return len(self.periods) * self._each

    def rasters(self, box: BoxValues) -> Iterator[npt.NDArray[Any]]:
        """Where all periods are labelled; then their values, or how many of them are of a class."""
        for periods in self.periods:
            stored = [box.stored(*need) for need in self._needs(periods)]
            labelled = np.logical_and.reduce([nodata.valid(s, self.layer) for s in stored])
            yield labelled
            for value in self.values:
                hits = [(s == value) & labelled for s in stored]
                yield hits[0] if len(hits) == 1 else np.sum(hits, axis=0)
            if not self.values:
                total = sum(nodata.decode(s, self.layer).astype("float64") for s in stored)
                yield np.where(labelled, total, 0.0)

    def columns(self, sums: Sums, pixels: int) -> Mapping[Periods, Columns]:
        """Columns of each combination of label periods; see :meth:`Inputs.columns`."""
        parts = sums.reshape(len(self.periods), self._each, -1)
        return {
            periods: self._columns(part[0], part[1:], max(len(periods), 1), pixels)
            for periods, part in zip(self.periods, parts, strict=True)
        }

    def _columns(self, labelled: Sums, rest: Sums, times: int, pixels: int) -> Columns:
        out: Columns = {"label_share": labelled / pixels}
        observations = labelled * (1 if self.layer.static else times)
        if not self.values:
            return out | {"label_mean": _share(rest[0], observations)}
        names = class_columns(self.layer.classes)
        out |= {names[v]: _share(n, observations) for v, n in zip(self.values, rest, strict=True)}
        return out | {"majority": _majority(self.values, rest)}


def _majority(values: Sequence[int], counts: Sums) -> Any:
    """The commonest class of each window, of equal ones the lowest; missing without any."""
    none = counts.sum(axis=0) == 0
    commonest = np.array(values, "int64")[counts.argmax(axis=0)]
    return pd.arrays.IntegerArray(commonest, none)


def class_columns(classes: Sequence[tuple[int, str]]) -> dict[int, str]:
    """Column of each class: ``share_`` and its meaning, or its value where that says nothing.

    Names are such that a query needs no quotes: letters, digits and underscores.
    """
    texts = {v: re.sub(r"\W+", "_", meaning.strip()).strip("_") for v, meaning in classes}
    known = list(texts.values())
    clear = {v: text if text and known.count(text) == 1 else "" for v, text in texts.items()}
    return {v: f"share_{clear[v] or str(v).replace('-', 'minus_')}" for v in texts}
