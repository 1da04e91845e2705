"""What was measured in polygons: numbers, what kind of numbers they are, and how they divide."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from cube.coverage.handle import Coverage
from cube.errors import PolygonError, SpecError
from cube.labels import amounts, spreading
from cube.labels.spreading import How, Sizes, Spreading

FloatArray = npt.NDArray[np.float64]

Empty = Literal["refuse", "area"]
"""What becomes of an amount in a polygon without any weight."""

_log = logging.getLogger("quadrat.labels")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantity:
    """One number for each polygon of a coverage.

    Attributes:
        coverage: The polygons.
        values: float64 (polygon,), NaN where unknown.
        how: Kind of the values.
        of: Denominators of ratios, float64 (polygon,); None for other kinds.
        empty: What becomes of an amount in a polygon without any weight.
    """

    coverage: Coverage
    values: FloatArray
    how: How
    of: FloatArray | None = None
    empty: Empty = "refuse"

    @classmethod
    def of_polygons(  # noqa: PLR0913  (numbers, and all that is said about them)
        cls,
        coverage: Coverage,
        values: npt.ArrayLike,
        *,
        how: How,
        of: npt.ArrayLike | None,
        weighted: bool,
        empty: Empty,
        signed: bool,
        bounded: bool,
    ) -> Self:
        """Numbers that were checked; for the arguments see :func:`cube.labels.spread`.

        Raises:
            PolygonError: The numbers are not what they are said to be.
            SpecError: Options contradict each other.
        """
        _check_options(how, of=of, weighted=weighted, empty=empty, signed=signed, bounded=bounded)
        numbers = amounts.aligned(coverage, values)
        if how == "extensive" and not signed:
            rule = "Amounts must be 0 or more, or give signed=True for changes"
            amounts.refuse(coverage, numbers < 0, rule, numbers)
        if how == "share" and bounded:
            rule = "Shares must be from 0 to 1, or give bounded=False for other ratios"
            amounts.refuse(coverage, (numbers < 0) | (numbers > 1), rule, numbers)
        whole = None if of is None else amounts.aligned(coverage, of, what="Denominators (of=)")
        if whole is not None:
            rule = "Denominators (of=) must be 0 or more"
            amounts.refuse(coverage, whole < 0, rule, whole)
        found = cls(coverage=coverage, values=numbers, how=how, of=whole, empty=empty)
        found._check_met()
        return found

    def _check_met(self) -> None:
        """Refuse known numbers of polygons that no pixel would show."""
        c = self.coverage
        lost = (c.pixels == 0) & (c.covered_share > 0) & np.isfinite(self.values)
        if lost.any():
            raise PolygonError(
                f"{int(lost.sum())} polygons are too small to meet any pixel, the first in "
                f"{amounts.place_of(c, int(np.flatnonzero(lost)[0]))}. Merge them with a "
                f"neighbour, or give them NaN."
            )

    @property
    def divided(self) -> FloatArray:
        """What is divided among pixels, float64 (polygon,): amounts, or denominators of ratios."""
        return self.values if self.of is None else np.where(np.isnan(self.values), np.nan, self.of)

    @property
    def lost(self) -> str:
        """What of amounts has no pixel, for a person; empty where all have."""
        if self.how != "extensive":
            return ""
        off = np.nansum(np.abs(self.values) * (1 - self.coverage.covered_share))
        return f" ({off:,.6g} outside the grid)" if off > 0 else ""

    def describe(self) -> dict[str, Any]:
        """What it is, for provenance: numbers as digests."""
        found: dict[str, Any] = {
            "polygons": self.coverage.digest,
            "values": _digest(self.values),
            "how": self.how,
        }
        return found if self.of is None else {**found, "of": _digest(self.of)}

    def unweighted(self, weights: FloatArray) -> npt.NDArray[np.int64]:
        """Rows of polygons with something to divide on the grid and no weight to divide it by.

        Args:
            weights: Sum of share x weight of each polygon, float64 (polygon,).
        """
        there = np.nan_to_num(self.divided) * self.coverage.covered_share
        return np.flatnonzero((there != 0) & (weights <= 0))

    def spreading(self, weights: FloatArray | None = None) -> Spreading:
        """The same, ready to be spread.

        Args:
            weights: Sum of share x weight of each polygon, float64 (polygon,); None to divide by
                area.

        Raises:
            PolygonError: A polygon has an amount and no weight, and ``empty`` is ``"refuse"``.
        """
        if self.how == "intensive":
            return spreading.intensive(self.values)
        if weights is not None:
            self._check_weighted(weights)
        c = self.coverage
        sizes = Sizes(covered_share=c.covered_share, pixels=c.pixels, weights=weights)
        if self.of is None:
            return spreading.extensive(self.values, sizes)
        return spreading.share(self.values, self.of, sizes)

    def _check_weighted(self, weights: FloatArray) -> None:
        without = self.unweighted(weights)
        if not len(without):
            return
        first = ", ".join(amounts.place_of(self.coverage, int(row)) for row in without[:3])
        what = (
            f"{len(without)} of {len(self.values)} polygons have something to divide and no "
            f"pixel of positive weight, the first in {first}"
        )
        if self.empty == "refuse":
            raise PolygonError(f"{what}. Give empty='area' to divide theirs by area.")
        _log.warning("%s; theirs is divided by area.", what)


def _check_options(
    how: str, *, of: object, weighted: bool, empty: str, signed: bool, bounded: bool
) -> None:
    for name, value, known in (("how", how, How), ("empty", empty, Empty)):
        if value not in get_args(known):
            raise SpecError(
                f"{name} must be one of {', '.join(get_args(known))}. Received {value!r}."
            )
    # What would have no effect was meant to have one.
    for wrong, rule in (
        (how == "share" and of is None, "how='share' needs of=, one denominator per polygon"),
        (how != "share" and of is not None, "of= holds the denominators of how='share'"),
        (how != "share" and not bounded, "bounded=False is for how='share'"),
        (how != "extensive" and signed, "signed=True is for how='extensive'"),
        (
            how == "intensive" and weighted,
            "weight= divides amounts, and nothing is divided with how='intensive'",
        ),
        (empty == "area" and not weighted, "empty='area' is for amounts divided by weight="),
    ):
        if wrong:
            raise SpecError(f"{rule}. Received how={how!r}; change one of them.")


def _digest(numbers: FloatArray) -> str:
    return hashlib.sha256(numbers.astype("<f8").tobytes()).hexdigest()[:12]
