"""Arithmetic of sparse parts: sums in a fixed order, and products that keep their zeros."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.integer[Any]]

ROUNDING = 1e-12
"""Sums of parts that are no farther from one have only been rounded on the way."""


def group_sums(into: IntArray, values: FloatArray, count: int) -> FloatArray:
    """Sum of the values of each group, in the order given, float64 (count,).

    Args:
        into: Integers (value,), the group of each.
        values: float64 (value,).
        count: Number of groups; those without a value sum to 0.
    """
    # Of no values at all, bincount gives integers.
    return np.bincount(into, values, count).astype("float64", copy=False)


def canonical(matrix: Any) -> Any:
    """Float64 CSR whose columns are sorted in every row, so that sums have one order."""
    csr = scipy.sparse.csr_array(matrix, dtype="float64")
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    return csr


def scaled_to_one(matrix: Any) -> Any:
    """CSR (target, source) whose columns sum to one, but for those that sum to zero.

    Those that do already, to the rounding of float64, stay as they are to the bit.
    """
    part, source = matrix.data, matrix.indices
    sums = group_sums(source, part, matrix.shape[1])
    sums = np.where(np.abs(sums - 1.0) <= ROUNDING, 1.0, sums)[source]
    scaled = np.divide(part, sums, out=np.zeros_like(part), where=part > 0)
    return scipy.sparse.csr_array((scaled, source, matrix.indptr), shape=matrix.shape)


def absent(place: IntArray, count: int) -> npt.NDArray[np.bool_]:
    """Which of the places below ``count`` are not among those given, bool (count,)."""
    out = np.full(count, True)
    out[place[place >= 0]] = False
    return out


def runs(start: IntArray, count: IntArray) -> tuple[IntArray, IntArray]:
    """Runs of consecutive places, one after another.

    Args:
        start: Integers (run,), the first place of each run.
        count: Integers (run,), how many places it has.

    Returns:
        The run that each place belongs to, and the places.
    """
    run = np.repeat(np.arange(len(count)), count)
    before = np.cumsum(count) - count
    return run, start[run] + np.arange(len(run)) - before[run]


def product(second: Any, first: Any, place: IntArray) -> Any:
    """Matrix (target, source) of two in a row, summed in the order of the second's middle.

    SciPy's product drops entries that are zero, which here say that two belong together.

    Args:
        second: CSR (target, middle of the second).
        first: CSR (middle of the first, source).
        place: Of each of the first's middle in the second's, -1 where it has none.
    """
    row_of = np.full(second.shape[1], -1)
    row_of[place[place >= 0]] = np.flatnonzero(place >= 0)
    middle = row_of[second.indices]
    count = np.where(middle >= 0, np.diff(first.indptr)[middle], 0)
    entry, partner = runs(first.indptr[middle], count)
    row = np.repeat(np.arange(second.shape[0]), np.diff(second.indptr))[entry]
    pairs, into = np.unique(row * first.shape[1] + first.indices[partner], return_inverse=True)
    sums = group_sums(into, second.data[entry] * first.data[partner], len(pairs))
    shape = (second.shape[0], first.shape[1])
    return scipy.sparse.coo_array((sums, np.divmod(pairs, first.shape[1])), shape=shape).tocsr()


def rearranged(size: FloatArray, column: IntArray, count: int) -> FloatArray:
    """Sizes at other places, 0 where there is none, float64 (count,); -1 leaves one out."""
    out = np.zeros(count)
    out[column[column >= 0]] = size[column >= 0]
    return out


def named(ids: pd.Index[Any], place: IntArray) -> pd.Index[Any]:
    """Ids at places, empty text at -1."""
    return pd.Index(np.append(np.asarray(ids, dtype=object), "")[place], dtype="str")
