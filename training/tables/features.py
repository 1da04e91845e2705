"""Features of chips: whether they are complete, how they are distributed, what fills a gap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cube.errors import SpecError, SplitError
from training.tables.joining import TableJoin

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FilledJoin:
    """A join whose unknown numbers are given ones; see :func:`fill_missing`.

    Attributes:
        join: The numbers.
        fill: What stands for unknown ones, float32 (column,).
    """

    join: TableJoin
    fill: Float32Array

    @property
    def columns(self) -> tuple[str, ...]:
        """Names, in the order of the numbers."""
        return self.join.columns

    def rows(self, chips: npt.ArrayLike) -> Float32Array:
        """See :class:`training.tables.TableJoin`; nothing is NaN."""
        found = self.join.rows(chips)
        return np.where(np.isnan(found), self.fill, found)


def complete(join: TableJoin, chips: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which chips have all numbers, bool (n,)."""
    known: npt.NDArray[np.bool_] = np.logical_not(np.isnan(join.rows(chips)).any(axis=1))
    return known


def check_complete(join: TableJoin, chips: npt.ArrayLike) -> None:
    """Refuse chips that lack a feature: a network would make NaN of the whole batch.

    Raises:
        SplitError: The message counts them, by column.
    """
    missing = np.isnan(join.rows(chips))
    if missing.any():
        each = ", ".join(
            f"{name} {count}"
            for name, count in zip(join.columns, missing.sum(axis=0), strict=True)
            if count
        )
        raise SplitError(
            f"{int(missing.any(axis=1).sum())} of {len(missing)} chips lack features ({each}). "
            f"Select those with complete(), or fill them with fill_missing()."
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeatureStatistics:
    """How the features of training chips are distributed, NaN left out.

    Attributes:
        columns: Names of the features.
        mean: float64 (column,).
        std: Population deviation, float64 (column,); 1 where all values are equal, so that
            dividing by it changes nothing.
        min: float64 (column,).
        max: float64 (column,).
        count: Known values, int64 (column,).
    """

    columns: tuple[str, ...]
    mean: FloatArray
    std: FloatArray
    min: FloatArray
    max: FloatArray
    count: IntArray

    @property
    def variance(self) -> FloatArray:
        """Square of ``std``, as ``keras.layers.Normalization`` takes it."""
        return self.std**2

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        names = ("mean", "std", "min", "max", "count")
        return {"columns": list(self.columns)} | {n: getattr(self, n).tolist() for n in names}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FeatureStatistics:
        """Rebuild from :meth:`to_dict`.

        Raises:
            SpecError: A field is missing or impossible.
        """
        try:
            floats = {n: np.array(data[n], "float64") for n in ("mean", "std", "min", "max")}
            columns, count = tuple(data["columns"]), np.array(data["count"], "int64")
        except (KeyError, TypeError, ValueError) as error:
            raise SpecError(f"Statistics of features cannot be read: {error}.") from error
        if {values.shape for values in (count, *floats.values())} != {(len(columns),)}:
            raise SpecError(f"Statistics of {len(columns)} features need as many numbers of each.")
        return cls(columns=columns, count=count, **floats)


def feature_statistics(join: TableJoin, chips: npt.ArrayLike) -> FeatureStatistics:
    """Statistics of features over the training chips, and over no others.

    Args:
        join: The features.
        chips: Training chips, int (n,); each counts once, in whatever order they come.

    Raises:
        SplitError: There are no chips, or a column is unknown for all of them.
    """
    values = join.rows(np.unique(np.asarray(chips, dtype="int64"))).astype("float64")
    count = (~np.isnan(values)).sum(axis=0)
    empty = [name for name, n in zip(join.columns, count, strict=True) if not n]
    if empty:
        raise SplitError(
            f"No training chip has a value of {', '.join(empty)} ({len(values)} chips); leave the "
            f"column out, or join the table by another key."
        )
    std = np.nanstd(values, axis=0)
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    return FeatureStatistics(
        columns=join.columns,
        mean=np.nanmean(values, axis=0),
        # Equal numbers may differ from their mean by rounding.
        std=np.where(low < high, std, 1.0),
        min=low,
        max=high,
        count=count.astype("int64"),
    )


def fill_missing(join: TableJoin, statistics: FeatureStatistics) -> FilledJoin:
    """Features whose unknown numbers are the mean of the training chips.

    Args:
        join: The features.
        statistics: Of the same columns, over the training chips.

    Raises:
        SpecError: The statistics are of other columns.
    """
    if statistics.columns != join.columns:
        raise SpecError(
            f"Statistics of the columns {', '.join(join.columns)} were expected. Received "
            f"{', '.join(statistics.columns)}."
        )
    return FilledJoin(join=join, fill=statistics.mean.astype("float32"))
