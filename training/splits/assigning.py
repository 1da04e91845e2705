"""Whole places to parts, so that each gets its share of everything: arithmetic."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def assign(loads: npt.ArrayLike, fractions: npt.ArrayLike, *, seed: list[int]) -> IntArray:
    """Give every place to a part, the largest first, each to the part that lacks it most.

    A part lacks what it would still need to reach its fraction of every quantity: the sum of
    squared deviations, each relative to the part's fraction, grows least where the place goes.
    Places of the same size come in random order. No part stays empty if there are places for all.

    Args:
        loads: How much of each quantity each place holds, 0 or more, (place, quantity).
        fractions: Share of each part, above 0, with sum 1.
        seed: Of the order, see :func:`numpy.random.default_rng`.

    Returns:
        int64 (place,): number of the part.
    """
    amounts = np.asarray(loads, dtype="float64")
    share = np.asarray(fractions, dtype="float64")
    total = amounts.sum(axis=0)
    amounts = amounts[:, total > 0] / total[total > 0]
    held = np.zeros((len(share), amounts.shape[1]))
    part = np.full(len(amounts), -1, dtype="int64")
    empty = np.ones(len(share), dtype=bool)
    order = _largest_first(amounts, seed)
    for done, place in enumerate(order):
        growth = _growth(amounts[place], held, share)
        if len(order) - done <= empty.sum():
            growth[~empty] = np.inf
        part[place] = growth.argmin()
        held[part[place]] += amounts[place]
        empty[part[place]] = False
    return part


def _largest_first(amounts: FloatArray, seed: list[int]) -> IntArray:
    """Places by their largest share of anything, so that what is rare is placed while it can be."""
    shuffled = np.random.default_rng(seed).permutation(len(amounts))
    largest = amounts[shuffled].max(axis=1, initial=0.0)
    # Shares of equal places differ by rounding, which must not order them.
    return shuffled[np.argsort(-np.round(largest, 12), kind="stable")]


def _growth(amount: FloatArray, held: FloatArray, share: FloatArray) -> FloatArray:
    """What one place adds to each part's deviations from its fraction; float64 (part,)."""
    missing = share[:, None] - held
    grown: FloatArray = ((amount**2 - 2 * amount * missing).sum(axis=1)) / share
    return grown
