"""Which chips an epoch takes: a rotating part of them, or every class equally often.

Chips stand in a circle, and every epoch takes the next so many of it, from where the one before
stopped. So no chip comes a second time before every other came once, and which chips an epoch takes
follows from its number alone. Once an epoch ends where the circle does, it is shuffled anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from cube.errors import SpecError, SplitError
from training.index.expressions import condition
from training.sampling.classing import binned, check_ids, named_classes

if TYPE_CHECKING:
    import pandas as pd

IntArray = npt.NDArray[np.int64]


class Sampling(Protocol):
    """Which chips each epoch takes."""

    @property
    def per_epoch(self) -> int:
        """Chips of an epoch, the same for all."""

    def draw(self, epoch: int) -> IntArray:
        """Chips of one epoch, int64 (per_epoch,), ascending; some may come several times."""

    def describe(self) -> dict[str, Any]:
        """What is drawn of what, JSON-able."""


class IndexedChips(Protocol):
    """Chips with what is known of each: a table of one row a chip, and their numbers."""

    @property
    def frame(self) -> pd.DataFrame:
        """One row a chip."""

    @property
    def ids(self) -> IntArray:
        """Chips in the order of the rows."""


def rotated(ids: IntArray, count: int, epoch: int, seed: Sequence[int]) -> IntArray:
    """Chips that an epoch takes of a circle.

    Args:
        ids: int64 (n,), once each.
        count: Chips of an epoch; of more than there are, each comes k or k + 1 times.
        epoch: Its number, from 0.
        seed: Of the orders in which they stand.

    Returns:
        int64 (count,). Over e epochs each chip comes ⌊e count / n⌋ or one more times.
    """
    # Rounds end where epochs do after lcm(n, count) chips: the first place where a new order
    # brings no chip twice into one epoch, nor again before all others came.
    epochs = math.lcm(len(ids), count) // count
    rng = np.random.default_rng([*seed, epoch // epochs])
    start = epoch % epochs * count
    return rng.permutation(ids)[(start + np.arange(count)) % len(ids)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subset:
    """Another part of the chips each epoch; all come once before any comes twice.

    Attributes:
        ids: Chips, int64 (n,), once each.
        per_epoch: How many an epoch takes, 1 to n.
        seed: Of the order.
    """

    ids: IntArray
    per_epoch: int
    seed: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", np.sort(check_ids(self.ids)))
        _check_whole(seed=self.seed, per_epoch=self.per_epoch)
        if not 1 <= self.per_epoch <= len(self.ids):
            raise SplitError(
                f"An epoch takes from 1 to {len(self.ids)} chips, as many as there are. "
                f"Received per_epoch={self.per_epoch}."
            )

    def draw(self, epoch: int) -> IntArray:
        """See :class:`Sampling`; no chip twice.

        Raises:
            SplitError: The epoch is below 0.
        """
        return np.sort(rotated(self.ids, self.per_epoch, _number(epoch), [self.seed]))

    def describe(self) -> dict[str, Any]:
        """See :class:`Sampling`."""
        return {
            "kind": "subset",
            "chips": len(self.ids),
            "per_epoch": self.per_epoch,
            "seed": self.seed,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Balanced:
    """Every class equally often, or at given shares, in each epoch.

    An epoch takes the same number of chips of a class, whichever they are: of a rare class each
    comes k or k + 1 times, of a frequent one another part each epoch until all came.

    Attributes:
        ids: Chips, int64 (n,), ascending, once each.
        classes: Class of each, (n,).
        quotas: Class to the chips that an epoch takes of it.
        seed: Of the orders.
    """

    ids: IntArray
    classes: npt.NDArray[Any]
    quotas: Mapping[Any, int]
    seed: int

    @classmethod
    def of(
        cls,
        ids: npt.ArrayLike,
        classes: npt.ArrayLike,
        *,
        seed: int,
        per_epoch: int | None = None,
        shares: Mapping[Any, float] | None = None,
    ) -> Self:
        """Balance chips whose classes are known.

        Args:
            ids: Chips, int (n,), once each, in any order.
            classes: Class of each, whole numbers, booleans or text (n,), none missing.
            seed: Of the orders.
            per_epoch: Chips of an epoch; by default as many as there are.
            shares: Class to its share of an epoch, 0..1, together 1; 0 leaves a class out. All
                classes equally by default. Largest remainders make whole chips of them, so that
                a class is within one chip of its share; of equal remainders the first wins.

        Raises:
            SplitError: Chips come twice, are none or have no class; shares name other classes or
                do not sum to 1; or an epoch is too short for one chip of every class.
            SpecError: The seed or ``per_epoch`` is no whole number from 0.
        """
        numbers = check_ids(ids)
        given = named_classes(classes, len(numbers))
        _check_whole(seed=seed, per_epoch=0 if per_epoch is None else per_epoch)
        order = np.argsort(numbers)
        names = np.unique(given).tolist()
        wanted = dict.fromkeys(names, 1 / len(names)) if shares is None else shares
        _check_shares(wanted, names)
        quotas = _quotas(wanted, names, len(numbers) if per_epoch is None else per_epoch)
        return cls(ids=numbers[order], classes=given[order], quotas=quotas, seed=seed)

    @property
    def per_epoch(self) -> int:
        """Chips of an epoch."""
        return sum(self.quotas.values())

    def draw(self, epoch: int) -> IntArray:
        """See :class:`Sampling`.

        Raises:
            SplitError: The epoch is below 0.
        """
        parts = [
            rotated(self.ids[self.classes == name], quota, _number(epoch), [self.seed, place])
            for place, (name, quota) in enumerate(self.quotas.items())
            if quota
        ]
        return np.sort(np.concatenate(parts))

    def describe(self) -> dict[str, Any]:
        """See :class:`Sampling`; for each class its chips, and how many an epoch takes."""
        return {
            "kind": "balanced",
            "chips": len(self.ids),
            "per_epoch": self.per_epoch,
            "seed": self.seed,
            "classes": {
                str(name): {"chips": int((self.classes == name).sum()), "per_epoch": quota}
                for name, quota in self.quotas.items()
            },
        }


def balanced(
    index: IndexedChips,
    by: str,
    *,
    seed: int,
    bins: Sequence[float] | None = None,
    per_epoch: int | None = None,
    shares: Mapping[Any, float] | None = None,
) -> Balanced:
    """Balance chips by a column of their index.

    Args:
        index: Chips, of the training set alone.
        by: A column such as ``"majority"``, or a condition on columns such as
            ``"ice_share > 0.4"``, as :meth:`training.ChipIndex.query` takes it.
        seed: Of the orders.
        bins: Edges of numbers that are no classes, ascending: each bin holds its lower edge, the
            last its upper one too. Bins are called by their edges, such as ``"0 to 0.5"``.
        per_epoch: See :meth:`Balanced.of`.
        shares: See :meth:`Balanced.of`.

    Raises:
        SpecError: See :meth:`Balanced.of`.
        SplitError: There is no such column; numbers lack bins, or lie outside them; or see
            :meth:`Balanced.of`.
    """
    values = _evaluated(index.frame, by)
    classes = binned(values, by, bins)
    return Balanced.of(index.ids, classes, seed=seed, per_epoch=per_epoch, shares=shares)


def _evaluated(frame: pd.DataFrame, by: str) -> npt.NDArray[Any]:
    """A column, or whether a condition on columns is true of each row."""
    return frame[by].to_numpy() if by in frame else condition(frame, by)


def _check_shares(shares: Mapping[Any, float], names: list[Any]) -> None:
    absent = [name for name in shares if name not in names]
    unnamed = [name for name in names if name not in shares]
    if absent or unnamed:
        raise SplitError(
            f"Shares of the classes {', '.join(map(str, names))} were expected. Received "
            f"{', '.join(map(str, shares)) or 'none'}; no chip has a class that is not among "
            f"them, and a share of 0 leaves one out."
        )
    total = math.fsum(shares.values())
    if not all(share >= 0 for share in shares.values()) or not math.isclose(total, 1):
        raise SplitError(f"Shares are 0 or more and sum to 1. They sum to {total:g}.")


def _quotas(shares: Mapping[Any, float], names: list[Any], count: int) -> dict[Any, int]:
    """Largest remainders (Hamilton's method); whole numbers that sum to ``count``."""
    exact = np.array([shares[name] * count for name in names])
    # 0.29 * 100 is a trifle below 29.
    whole = np.floor(exact + 1e-9)
    rest = np.round(exact - whole, 9)
    first = np.argsort(-rest, kind="stable")[: max(count - int(whole.sum()), 0)]
    whole[first] += 1
    quotas = {name: int(quota) for name, quota in zip(names, whole, strict=True)}
    empty = [str(name) for name, quota in quotas.items() if shares[name] > 0 and quota < 1]
    if empty:
        raise SplitError(
            f"An epoch of {count} chips has none of class {', '.join(empty)}; give a larger "
            f"per_epoch."
        )
    return quotas


def _check_whole(**given: Any) -> None:
    for name, value in given.items():
        if not isinstance(value, int | np.integer) or value < 0:
            raise SpecError(f"{name} must be a whole number from 0. Received {value!r}.")


def _number(epoch: int) -> int:
    if epoch < 0:
        raise SplitError(f"Epochs are numbered from 0. Received {epoch}.")
    return epoch
