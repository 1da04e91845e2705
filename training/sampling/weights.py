"""What chips and pixels weigh in the loss, computed from counts, never typed in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cube.errors import SpecError, SplitError
from training.sampling.classing import check_ids, named_classes

IntArray = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]


def class_weights(counts: Mapping[Any, float]) -> dict[Any, float]:
    """Weight of each class: n / (k n_c), so that all classes weigh the same together.

    The heuristic "balanced" of scikit-learn, after King and Zeng (2001), doi
    10.1093/oxfordjournals.pan.a004868. The mean weight of a chip is 1.

    Args:
        counts: Class to its chips or pixels in the training set, above 0.

    Returns:
        Class to weight, float above 0.

    Raises:
        SplitError: There are no classes, or one has no chips.
    """
    wrong = [str(name) for name, n in counts.items() if not (n > 0 and math.isfinite(n))]
    if not counts or wrong:
        raise SplitError(
            f"Every class needs a count above 0. Received {', '.join(wrong) or 'no class'}"
            f"{' without' if wrong else ''}; weigh the classes of the training chips alone."
        )
    total = math.fsum(counts.values())
    return {name: total / (len(counts) * n) for name, n in counts.items()}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChipWeights:
    """What each chip weighs.

    Attributes:
        ids: Chips, int64 (n,), ascending.
        weights: float32 (n,), 0 or more, about 1 on average.
    """

    ids: IntArray
    weights: Float32Array

    def of(self, chips: npt.ArrayLike) -> Float32Array:
        """Weights of chips, float32 (n,); 0 for -1, which fills up batches.

        Raises:
            SplitError: A chip has no weight.
        """
        wanted = np.asarray(chips, dtype="int64")
        at = np.minimum(np.searchsorted(self.ids, wanted), len(self.ids) - 1)
        known, filling = self.ids[at] == wanted, wanted == -1
        unknown = int((~known & ~filling).sum())
        if unknown:
            raise SplitError(
                f"{unknown} of {wanted.size} chips have no weight; make weights of all chips that "
                f"are streamed."
            )
        return np.where(known, self.weights[at], np.float32(0))


def chip_weights(
    ids: npt.ArrayLike,
    *,
    classes: npt.ArrayLike | None = None,
    amounts: npt.ArrayLike | None = None,
) -> ChipWeights:
    """Weights of training chips: by how rare their class is, or by an amount such as persons.

    Args:
        ids: Training chips, int (n,), once each.
        classes: Class of each, (n,); weighs a chip by :func:`class_weights`.
        amounts: Amount of each, 0 or more, (n,); weighs a chip in proportion.

    Returns:
        Weights whose mean over the chips is 1, to the rounding of float32.

    Raises:
        SpecError: Both classes and amounts are given, or neither.
        SplitError: There is not one for each chip; classes are missing; or amounts are missing,
            negative or all 0.
    """
    if (classes is None) == (amounts is None):
        raise SpecError("Chips are weighed by classes= or by amounts=. Give one of them.")
    numbers = check_ids(ids)
    if amounts is not None:
        weights = _proportional(amounts, len(numbers))
    else:
        given = named_classes(np.asarray(classes), len(numbers))
        names, into, counts = np.unique(given, return_inverse=True, return_counts=True)
        table = class_weights(dict(zip(names.tolist(), counts.tolist(), strict=True)))
        weights = np.array(list(table.values()))[into]
    order = np.argsort(numbers)
    return ChipWeights(ids=numbers[order], weights=weights[order].astype("float32"))


def _proportional(amounts: npt.ArrayLike, count: int) -> npt.NDArray[np.float64]:
    try:
        values = np.asarray(amounts, "float64")
    except (TypeError, ValueError) as error:
        raise SplitError(f"Amounts of chips are numbers: {error}.") from error
    if values.shape != (count,):
        raise SplitError(
            f"One amount for each of {count} chips was expected. Received {values.shape}."
        )
    wrong = int((~np.isfinite(values) | (values < 0)).sum())
    if wrong or not values.any():
        raise SplitError(
            f"Amounts are finite, 0 or more, and not all 0. {wrong} of {count} are missing or "
            f"negative; leave these chips out."
        )
    # The largest first, since the sum of large numbers may be infinite.
    values = values / values.max()
    return values / values.mean()


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelWeights:
    """What pixels of each class weigh.

    Attributes:
        classes: Class numbers, ascending.
        weights: Weight of each, above 0.
    """

    classes: tuple[int, ...]
    weights: tuple[float, ...]

    def of_classes(self, label: npt.ArrayLike, valid: npt.ArrayLike) -> Float32Array:
        """Weights of pixels.

        Args:
            label: Class numbers, int of any shape.
            valid: Where a class was observed, bool of the same shape.

        Returns:
            float32 of that shape; 0 where not valid.

        Raises:
            SpecError: Shapes differ.
            SplitError: A valid pixel has a class without a weight.
        """
        numbers, seen = np.asarray(label), np.asarray(valid, dtype=bool)
        if numbers.shape != seen.shape:
            raise SpecError(
                f"label and valid must have one shape. Received {numbers.shape}, {seen.shape}."
            )
        classes = np.array(self.classes)
        at = np.minimum(np.searchsorted(classes, numbers), len(classes) - 1)
        unknown = seen & (classes[at] != numbers)
        if unknown.any():
            named = ", ".join(map(str, np.unique(numbers[unknown])[:9]))
            raise SplitError(
                f"Class {named} has no weight. There are weights of: "
                f"{', '.join(map(str, self.classes))}; count the classes of the training chips."
            )
        return np.where(seen, np.array(self.weights, "float32")[at], np.float32(0))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"classes": list(self.classes), "weights": list(self.weights)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PixelWeights:
        """Rebuild from :meth:`to_dict`."""
        return cls(classes=tuple(data["classes"]), weights=tuple(data["weights"]))


def pixel_weights(counts: Mapping[int, float]) -> PixelWeights:
    """Weights of pixels by how rare their class is; see :func:`class_weights`.

    Args:
        counts: Class number to its observed pixels (or their share) in the training chips.

    Raises:
        SplitError: There are no classes, one is no whole number, or one has no pixels.
    """
    try:
        strange = [name for name in counts if int(name) != float(name)]
    except (TypeError, ValueError):
        strange = list(counts)
    if strange:
        raise SplitError(
            f"Classes of pixels are whole numbers. Received {', '.join(map(repr, strange))}."
        )
    table = class_weights({int(name): counts[name] for name in sorted(counts, key=int)})
    return PixelWeights(classes=tuple(table), weights=tuple(table.values()))
