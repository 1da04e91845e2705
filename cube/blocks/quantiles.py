"""Exact quantiles of polygons that span tiles, without holding their pixels.

The bits of floats, read as whole numbers, sort as the floats do. So a quantile is found in digits
of 16 bits: a histogram of the first digit says in which bin it lies, one of the second digit
within that bin says where in it, and so on: two passes over the pixels for float32, four for
float64. (Radix selection.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cube.blocks.tile_runs import TileRuns

FloatArray = npt.NDArray[np.floating[Any]]
Histogram = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]
"""Sorted keys, polygon x 65536 + digit, and the share of each."""

DIGIT = 16
"""Bits of a digit."""

PENDING = 1 << 22
"""Entries of histograms that wait to be added up."""

PENDING_BYTES = PENDING * 16


def digits_of(dtype: npt.DTypeLike) -> int:
    """Number of digits, and of passes, of a kind of float."""
    return np.dtype(dtype).itemsize * 8 // DIGIT


def sortable(values: FloatArray) -> npt.NDArray[np.uint64]:
    """Whole numbers in the order of floats; no NaN."""
    width = values.dtype.itemsize * 8
    # Adding 0 makes -0, which is equal, 0.
    bits = (values + values.dtype.type(0)).view(f"uint{width}").astype("uint64")
    top = np.uint64(1 << (width - 1))
    return np.where(bits & top, ~bits & np.uint64((1 << width) - 1), bits | top)


def unsortable(bits: npt.NDArray[np.uint64], dtype: npt.DTypeLike) -> npt.NDArray[np.float64]:
    """The inverse of :func:`sortable`, as float64."""
    width = np.dtype(dtype).itemsize * 8
    top = np.uint64(1 << (width - 1))
    back = np.where(bits & top, bits ^ top, ~bits & np.uint64((1 << width) - 1))
    return back.astype(f"uint{width}").view(dtype).astype("float64")


def sorted_out(
    band: FloatArray,
    place: tuple[int, int],
    tile: TileRuns,
    *,
    spanning: npt.NDArray[np.int64],
    levels: Sequence[float],
) -> npt.NDArray[np.float64]:
    """Quantiles of the polygons that lie in one tile, float64 (level, polygon), else NaN.

    Args:
        band: Floats (y, x).
        place: Row and column at which the tile begins in it.
        tile: Its polygons.
        spanning: Places of those that lie in other tiles too.
        levels: Levels of the quantiles.
    """
    from cube.blocks import moments

    out = np.empty((len(levels), len(tile.members)))
    chosen = np.ones(len(tile.members), "bool")
    chosen[spanning] = False
    given = np.asarray(levels, "float64")
    moments.sort_out(band, *place, tile.runs, tile.edges, chosen, given, out)
    return out + 0.0


def histograms(
    band: FloatArray,
    place: tuple[int, int],
    tile: TileRuns,
    *,
    spanning: npt.NDArray[np.int64],
    prefixes: npt.NDArray[np.uint64] | None = None,
    digit: int = 0,
) -> list[Histogram]:
    """Shares by digit of the polygons that span tiles: one for each level; one for all at first.

    Args:
        band: See :func:`sorted_out`.
        place: See :func:`sorted_out`.
        tile: See :func:`sorted_out`.
        spanning: See :func:`sorted_out`; keys number the polygons in its order.
        prefixes: uint64 (level, polygon): digits that are known already.
        digit: Number of them.
    """
    from cube.blocks import moments

    who, values, share = moments.list_values(band, *place, tile.runs, tile.edges, spanning)
    bits = sortable(values)
    behind = np.uint64(DIGIT * (digits_of(values.dtype) - 1 - digit))
    keys = (who << DIGIT) | ((bits >> behind) & np.uint64(0xFFFF)).astype("int64")
    if prefixes is None:
        return [_added_up(keys, share)]
    known = bits >> (behind + np.uint64(DIGIT))
    alike = [known == prefix[who] for prefix in prefixes]
    return [_added_up(keys[same], share[same]) for same in alike]


def _added_up(keys: npt.NDArray[np.int64], share: npt.NDArray[np.float64]) -> Histogram:
    """One entry a key; shares are added in the order given."""
    unique, where = np.unique(keys, return_inverse=True)
    return unique, np.bincount(where, share, len(unique)).astype("float64", copy=False)


class Selection:
    """Quantiles of one band in polygons that span tiles, while their digits are found.

    Args:
        tiles_of: int64 (polygon,): number of tiles that each polygon meets.
        levels: Levels of the quantiles.
        dtype: Of the values.

    Attributes:
        digit: Number of digits that are known.
        prefixes: uint64 (level, polygon): those digits.
    """

    def __init__(
        self, tiles_of: npt.NDArray[np.int64], levels: Sequence[float], dtype: npt.DTypeLike
    ) -> None:
        shape = (len(levels), len(tiles_of))
        self.digit = 0
        self.prefixes = np.zeros(shape, "uint64")
        self.dtype = np.dtype(dtype)
        self._levels = tuple(levels)
        self._tiles_of = tiles_of
        self._left = tiles_of.copy()
        self._below = np.zeros(shape)
        self._total = np.zeros(len(tiles_of))
        self._waiting: list[list[Histogram]] = [[]]
        self._most = PENDING

    @property
    def complete(self) -> bool:
        """True once every digit is known."""
        return self.digit == digits_of(self.dtype)

    def add(self, polygons: npt.NDArray[np.int64], found: Sequence[Histogram]) -> None:
        """Take the histograms of the next tile, whose polygons are those numbered."""
        self._left[polygons] -= 1
        for waiting, (keys, share) in zip(self._waiting, found, strict=True):
            numbered = (polygons[keys >> DIGIT] << DIGIT) | (keys & 0xFFFF)
            waiting.append((numbered, share))
        if self._count() > self._most:
            self._settle()
            # What is left must double, or every tile would add all of it up again.
            self._most = max(PENDING, 2 * self._count())

    def turn(self) -> None:
        """End a pass: the next digit of every polygon becomes known."""
        self._settle()
        self.digit += 1
        self._left = self._tiles_of.copy()
        self._waiting = [[] for _ in self._levels]
        self._most = PENDING

    def values(self) -> npt.NDArray[np.float64]:
        """Quantiles once complete, float64 (level, polygon); NaN without a valid pixel."""
        return np.where(self._total > 0, unsortable(self.prefixes, self.dtype), np.nan)

    def _count(self) -> int:
        return sum(len(keys) for waiting in self._waiting for keys, _ in waiting)

    def _settle(self) -> None:
        """Choose the digit of polygons all of whose tiles were seen, and forget their entries."""
        for i, waiting in enumerate(self._waiting):
            if not waiting:
                continue
            keys, share = _added_up(*map(np.concatenate, zip(*waiting, strict=True)))
            seen = self._left[keys >> DIGIT] == 0
            self._waiting[i] = [(keys[~seen], share[~seen])]
            self._choose(i, keys[seen] >> DIGIT, keys[seen] & 0xFFFF, share[seen])

    def _choose(
        self,
        which: int,
        who: npt.NDArray[np.int64],
        digit: npt.NDArray[np.int64],
        share: npt.NDArray[np.float64],
    ) -> None:
        from cube.blocks import moments

        if self.digit == 0:
            self._total += np.bincount(who, share, len(self._total))
        for i in range(len(self._levels)) if self.digit == 0 else (which,):
            moments.choose(
                who, digit, share, self._levels[i], self._total, self._below[i], self.prefixes[i]
            )
