"""How places are divided into parts: options, checked."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, Literal, Required, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt

from cube.errors import SplitError
from cube.partitions import PartitionWindows
from cube.windows import WindowSet

IntArray = npt.NDArray[np.int64]

Balance = Literal["area", "label", "places"]
Folds = int | Literal["each"]
AnyFold = TypeVar("AnyFold")

PARTS = ("train", "validation", "test")


class PlaceOptions(TypedDict, total=False):
    """What every split of windows by place takes; see :class:`PlaceRules`."""

    seed: Required[int]
    fractions: Mapping[str, float] | None
    folds: Folds | None
    validation_share: float | None
    buffer_px: int | None
    balance: Balance
    label: npt.ArrayLike | None
    stratify: npt.ArrayLike | None
    classes: npt.ArrayLike | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlaceRules:
    """How places are divided. Exactly one of ``fractions``, ``folds`` and ``leave_out`` is given.

    Attributes:
        seed: Of every draw.
        fractions: Part (``train``, ``validation``, ``test``) to its share, with sum 1; one fold.
        folds: Number of folds, at least 2; or ``"each"``: every place is a fold.
        leave_out: Names of the places to test; one fold.
        validation_share: With folds or ``leave_out``: share of the rest that decides when to
            stop, 0..0.5; 0.15 by default.
        buffer_px: Pixels between windows of different parts, at least; no less than a window, or
            neighbours would share texture; 0 or more for windows of partitions, which share no
            pixel with those of others. None takes a window.
        balance: What shares are of: ``"area"`` (windows), ``"label"`` (the sum of ``label``) or
            ``"places"`` (every place counts the same, so that each is as likely in any part).
        label: Amount in each window, e.g. persons; finite, 0 or more, (window,).
        stratify: Class of each window, (window,): whole numbers (negative for none), text or
            bool. Parts get the same mix as far as whole places allow, and each gets every class.
        classes: As ``stratify``, but only checked: each part gets every class.
    """

    seed: int
    fractions: Mapping[str, float] | None = None
    folds: Folds | None = None
    leave_out: tuple[str, ...] | None = None
    validation_share: float | None = None
    buffer_px: int | None = None
    balance: Balance = "area"
    label: npt.ArrayLike | None = None
    stratify: npt.ArrayLike | None = None
    classes: npt.ArrayLike | None = None

    def __post_init__(self) -> None:
        ways = ("fractions", "folds", "leave_out")
        given = [name for name in ways if getattr(self, name) is not None]
        if len(given) != 1:
            raise SplitError(
                f"Give one of fractions, folds and leave_out. Received {' and '.join(given) or 0}."
            )
        object.__setattr__(self, "seed", whole("seed", self.seed))
        if self.fractions is not None:
            object.__setattr__(self, "fractions", _checked(self.fractions, self.validation_share))
        if self.folds is not None:
            object.__setattr__(self, "folds", _checked_folds(self.folds))
        share = self.validation_share
        if share is not None and not (_is_number(share) and 0 <= share <= 0.5):
            raise SplitError(f"validation_share must be from 0 to 0.5. Received {share!r}.")
        if self.balance not in ("area", "label", "places"):
            raise SplitError(f"balance is area, label or places. Received {self.balance!r}.")
        if (self.balance == "label") != (self.label is not None):
            raise SplitError("balance='label' and label= go together: give both or neither.")

    @property
    def watched(self) -> float:
        """Share of what is not tested that decides when to stop, with folds, 0..0.5."""
        return 0.15 if self.validation_share is None else self.validation_share

    def buffer(self, windows: WindowSet) -> int:
        """Buffer in pixels.

        Raises:
            SplitError: See :func:`buffer_of`.
        """
        return buffer_of(self.buffer_px, windows)

    def to_dict(self) -> dict[str, Any]:
        """What a manifest says of them, JSON-able; labels of windows by name only."""
        if self.fractions is not None:
            how: dict[str, Any] = {"fractions": dict(self.fractions)}
        else:
            whole = self.folds if self.leave_out is None else None
            how = (
                {"folds": whole} if whole is not None else {"leave_out": list(self.leave_out or ())}
            )
            how["validation_share"] = self.watched
        return {**how, "balance": self.balance, "stratified": self.stratify is not None}


def buffer_of(buffer_px: int | None, windows: WindowSet) -> int:
    """Buffer in pixels; None takes a window.

    Raises:
        SplitError: It is smaller than a window, and windows are not those of partitions.
    """
    buffer = windows.size if buffer_px is None else whole("buffer_px", buffer_px)
    # Windows of two partitions share no pixel, and a buffer may take most of what lies in them.
    least = 0 if isinstance(windows, PartitionWindows) else windows.size
    if buffer < least:
        raise SplitError(
            f"The buffer must be at least a window, {least} px. Received {buffer}; windows of "
            f"partitions alone may have less."
        )
    return buffer


def _checked(fractions: Mapping[str, float], share: float | None) -> dict[str, float]:
    if share is not None:
        raise SplitError(
            "validation_share goes with folds and leave_out; fractions name the share of "
            "validation themselves. Leave one out."
        )
    given: object = fractions
    named = isinstance(given, Mapping) and set(given) <= set(PARTS)
    known = named and all(map(_is_number, fractions.values()))
    found = {part: float(fractions.get(part, 0.0)) for part in PARTS} if known else {}
    if not found or not all(0 <= f <= 1 for f in found.values()):
        raise SplitError(
            f"fractions name train, validation and test, each from 0 to 1. Received {fractions!r}."
        )
    if abs(sum(found.values()) - 1) > 1e-9:
        raise SplitError(
            f"fractions must have the sum 1. Received {dict(fractions)}, with the sum "
            f"{sum(found.values()):.6g}."
        )
    if not found["train"] or not found["test"]:
        raise SplitError(f"fractions of train and test must be above 0. Received {fractions}.")
    return found


def whole(name: str, value: object) -> int:
    """A whole number, 0 or more, of Python or NumPy.

    Raises:
        SplitError: It is none.
    """
    number = -1 if isinstance(value, bool) or not hasattr(value, "__index__") else index(value)
    if number < 0:
        raise SplitError(f"{name} is a whole number, 0 or more. Received {value!r}.")
    return number


def numbered_fold(folds: Sequence[AnyFold], number: int) -> AnyFold:
    """A fold by its number.

    Raises:
        SplitError: There is none.
    """
    if not hasattr(number, "__index__") or not 0 <= index(number) < len(folds):
        raise SplitError(f"There are {len(folds)} folds, from 0. Received {number!r}.")
    return folds[number]


def _checked_folds(folds: Folds) -> Folds:
    if folds == "each":
        return folds
    number = -1 if isinstance(folds, bool) or not hasattr(folds, "__index__") else index(folds)
    if number < 2:
        raise SplitError(f"folds is a number of at least 2, or 'each'. Received {folds!r}.")
    return number


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def labels_of(windows: WindowSet, labels: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    """One label of each window.

    Raises:
        SplitError: There is another number of them.
    """
    values = np.asarray(labels)
    if values.shape != (len(windows),):
        raise SplitError(
            f"{name} has one value per window, ({len(windows)},). Received {values.shape}."
        )
    return values


def codes_of(
    windows: WindowSet, labels: npt.ArrayLike, name: str
) -> tuple[IntArray, tuple[str, ...]]:
    """Classes of windows as numbers from 0, -1 for none, int64 (window,); and their names.

    Raises:
        SplitError: There is another number of them; they are numbers with a fraction.
    """
    import pandas as pd

    if isinstance(labels, pd.Series | pd.api.extensions.ExtensionArray):
        # Their integers with gaps would else be numbers with NaN.
        labels = labels.astype(object)
    values = labels_of(windows, labels, name)
    if values.dtype.kind == "f":
        raise SplitError(
            f"{name} holds classes: whole numbers, text or bool. Received {values.dtype}; make "
            f"classes of numbers with quantile_bins."
        )
    if values.dtype.kind == "O":
        values = _whole_or_text(values, name)
    codes, found = pd.factorize(values, sort=True)
    none = np.isin(codes, [k for k, value in enumerate(found) if _is_none(value)]) | (codes < 0)
    kept, codes = np.unique(np.where(none, -1, codes), return_inverse=True)
    codes = codes.astype("int64") - int(none.any())
    return codes, tuple(str(found[k]) for k in kept[kept >= 0])


def _whole_or_text(values: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Labels with gaps as they are, if they are all whole numbers or all text."""
    import pandas as pd

    known = values[~pd.isna(values)]
    kinds = {"text" if isinstance(v, str) else "whole" if _is_whole(v) else "other" for v in known}
    if "other" in kinds or len(kinds) > 1:
        raise SplitError(
            f"{name} holds classes: whole numbers, text or bool, None for none. Received "
            f"{', '.join(sorted({type(v).__name__ for v in known}))}; make classes of numbers with "
            f"quantile_bins."
        )
    return values


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer | np.bool_)


def _is_none(value: object) -> bool:
    """A negative number stands for no class."""
    return _is_whole(value) and int(value) < 0  # type: ignore[call-overload]


def quantile_bins(values: npt.ArrayLike, bins: int = 5) -> IntArray:
    """Classes of about equal size of a number, for ``stratify``.

    Args:
        values: Float (window,); NaN where it is not known.
        bins: How many, at least 2.

    Returns:
        int64 (window,): from 0 for the smallest; -1 where it is not known.

    Raises:
        SplitError: ``bins`` is below 2, or nothing is known.
    """
    bins = whole("bins", bins)
    amounts = np.asarray(values, dtype="float64")
    known = np.isfinite(amounts)
    if bins < 2 or not known.any():
        raise SplitError(
            f"Bins need finite numbers, and there are at least 2. Received bins={bins} and "
            f"{int(known.sum())} finite numbers of {amounts.size}."
        )
    edges = np.quantile(amounts[known], np.arange(1, bins) / bins)
    found = np.searchsorted(edges, amounts, side="right")
    # Many equal numbers make equal edges, and bins between them that hold nothing.
    found = np.unique(found, return_inverse=True)[1]
    return np.where(known, found, -1).astype("int64")
