"""How near training chips come to those that are scored, and the refusal of those too near."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cube.errors import SplitError
from cube.windows import WindowSet, numbered
from training.chips import Chips
from training.splits.rules import whole

IntArray = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

RANDOM = "random"
"""Kind of the one split that lets neighbours into the test set."""


def note_of(kind: str) -> str:
    """What every score of a split of this kind must say; empty if there is nothing to say."""
    return "random split: neighbours in the test set" if kind == RANDOM else ""


def separation(a_origins: IntArray, a_size: int, b_origins: IntArray, b_size: int) -> IntArray:
    """Pixels between each square and the nearest of others, by the larger axis.

    Args:
        a_origins: First pixels (y, x) of the squares, (n, 2).
        a_size: Their side in pixels.
        b_origins: First pixels of the others, (m, 2); m >= 1.
        b_size: Their side in pixels.

    Returns:
        int64 (n,): max over axes of the pixels between the two; negative where they overlap.
    """
    twice, _ = _tree(b_origins, b_size).query(2 * a_origins + a_size, p=np.inf)
    # Twice the distance of centres is whole, and of the parity of the two sides' sum.
    return (twice.astype("int64") - a_size - b_size) // 2


def nearer(
    a_origins: IntArray, a_size: int, b_origins: IntArray, b_size: int, buffer_px: int
) -> Mask:
    """Which squares lie nearer than the buffer to any of others; bool (n,).

    As ``separation(...) < buffer_px``, in a fraction of the time; there may be no others.
    """
    if not len(b_origins):
        return np.zeros(len(a_origins), dtype=bool)
    reach = 2 * buffer_px + a_size + b_size
    twice, _ = _tree(b_origins, b_size).query(
        2 * a_origins + a_size, p=np.inf, distance_upper_bound=reach + 0.5
    )
    near: Mask = twice < reach
    return near


def _tree(origins: IntArray, size: int) -> Any:
    """Tree of twice the centres, which are whole; all pairs would not fit in memory."""
    from scipy.spatial import cKDTree

    # Lattices need no balancing; sliding midpoints are built and searched in half the time.
    return cKDTree(2 * origins + size, balanced_tree=False, compact_nodes=False)


def check_leaks(
    windows: WindowSet | Chips,
    train: npt.ArrayLike,
    test: npt.ArrayLike,
    *,
    buffer_px: int,
    tested: WindowSet | Chips | None = None,
    times_apart: npt.ArrayLike | None = None,
) -> int | None:
    """Refuse training windows that come nearer to a test window than the buffer.

    Args:
        windows: What ids of ``train`` refer to; windows, or chips.
        train: Ids of the windows or chips that are streamed for training.
        test: Ids of those that are scored.
        buffer_px: Pixels between them, at least.
        tested: What ids of ``test`` refer to, if other windows; they may have another size.
        times_apart: Pairs of timings that are no neighbours, however near in space, bool (training
            timing, test timing); see :attr:`training.splits.periods.TimeSplit.apart`. For chips
            only. By default all times of a place are the same place.

    Returns:
        The smallest distance in pixels; None if all pairs are apart in time.

    Raises:
        SplitError: Some come nearer; the message counts them.
    """
    buffer_px = whole("buffer_px", buffer_px)
    learned, scored = _Squares.of(windows, train), _Squares.of(tested or windows, test)
    if not len(learned.origins) or not len(scored.origins):
        raise SplitError(
            f"Nothing to compare: {len(learned.origins)} training, {len(scored.origins)} test "
            f"windows."
        )
    distance = _distances(learned, scored, times_apart)
    if len(distance) and distance.min() < buffer_px:
        raise SplitError(
            f"Leak: {int((distance < buffer_px).sum())} of {len(learned.origins)} training windows "
            f"lie nearer than {buffer_px} px to a test window, the nearest at "
            f"{int(distance.min())} px (below 0: they overlap). Split by place, with a larger "
            f"buffer."
        )
    return int(distance.min()) if len(distance) else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Squares:
    """Where chips lie, and at which timing; None for windows."""

    origins: IntArray
    size: int
    timing: IntArray | None

    @classmethod
    def of(cls, windows: WindowSet | Chips, ids: npt.ArrayLike) -> _Squares:
        if not isinstance(windows, Chips):
            return cls(origins=windows.origins(ids), size=windows.size, timing=None)
        origins = windows.windows.origins(windows.window_of(ids))
        return cls(origins=origins, size=windows.windows.size, timing=windows.timing_of(ids))


def _distances(learned: _Squares, scored: _Squares, times_apart: npt.ArrayLike | None) -> IntArray:
    """Of each training chip to the nearest test chip that is not apart in time; int64 (<= n,)."""
    if times_apart is None:
        return separation(learned.origins, learned.size, scored.origins, scored.size)
    apart = np.asarray(times_apart, dtype=bool)
    if learned.timing is None or scored.timing is None:
        raise SplitError("Only chips have times: give training.chips.Chips, or no times_apart.")
    needed = (int(learned.timing.max()) + 1, int(scored.timing.max()) + 1)
    if apart.ndim != 2 or apart.shape[0] < needed[0] or apart.shape[1] < needed[1]:
        raise SplitError(
            f"times_apart is a table (training timing, test timing) of at least {needed}. "
            f"Received {apart.shape}."
        )
    found = [np.empty(0, dtype="int64")]
    for timing in np.unique(learned.timing):
        others = scored.origins[~apart[timing, scored.timing]]
        if len(others):
            mine = learned.origins[learned.timing == timing]
            found.append(separation(mine, learned.size, others, scored.size))
    return np.concatenate(found)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LeakGuard:
    """Watches over the windows that are streamed: computed once, then a look-up by id.

    Attributes:
        windows: What ids of training windows refer to.
        test_windows: Ids of the windows that are scored, int64 (n,).
        buffer_px: Pixels between them, at least.
        tested: What ``test_windows`` refer to, if other windows.
        refuses: False for a random split, whose neighbours are counted and not refused.
    """

    windows: WindowSet
    test_windows: IntArray
    buffer_px: int
    tested: WindowSet | None = None
    refuses: bool = True
    _near: Mask = field(init=False, repr=False)

    def __post_init__(self) -> None:
        whole("buffer_px", self.buffer_px)
        others = self.tested or self.windows
        if not len(self.test_windows):
            raise SplitError("A guard needs windows to guard: there are no test windows.")
        near = nearer(
            self.windows.origins(),
            self.windows.size,
            others.origins(self.test_windows),
            others.size,
            self.buffer_px,
        )
        object.__setattr__(self, "_near", near)

    def check(self, train_windows: npt.ArrayLike) -> int:
        """Refuse windows that come nearer to a test window than the buffer.

        Args:
            train_windows: Ids of the windows that are streamed.

        Returns:
            How many come nearer; more than 0 for a random split only.

        Raises:
            SplitError: There are none; or some come nearer: the message counts them.
        """
        ids = numbered(train_windows, len(self.windows))
        near = int(self._near[ids].sum())
        if self.refuses and (near or not len(ids)):
            check_leaks(
                self.windows,
                ids,
                self.test_windows,
                buffer_px=self.buffer_px,
                tested=self.tested,
            )
        return near

    def check_chips(self, chips: Chips, ids: npt.ArrayLike) -> int:
        """As :meth:`check`, of the windows of chips."""
        return self.check(np.unique(chips.window_of(ids)))
