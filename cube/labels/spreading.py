"""What polygons hold as values of pixels: the arithmetic, of any box.

Areal interpolation (Goodchild and Lam 1980) divides an amount among pixels by area. Dasymetric
mapping (Wright 1936, https://doi.org/10.2307/209467; Eicher and Brewer 2001,
https://doi.org/10.1559/152304001782173727) divides it by area times a weight, such as built-up
area or light at night.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from cube.coverage.shares import Shares

FloatArray = npt.NDArray[np.float64]

How = Literal["extensive", "intensive", "share"]
"""Amounts, such as persons; densities, rates and medians; ratios of two amounts."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Density:
    """What each polygon gives to a pixel that lies wholly in it.

    Attributes:
        by_area: float64 (polygon,): to any pixel.
        by_weight: float64 (polygon,): to a pixel of weight 1, and to others in proportion; None
            if nothing goes by weight.
    """

    by_area: FloatArray
    by_weight: FloatArray | None = None

    def spread(self, shares: Shares, weight: FloatArray | None) -> FloatArray:
        """Sum over polygons in the pixels of a box.

        Args:
            shares: Of the box.
            weight: float64 (y, x), finite; None if nothing goes by weight.

        Returns:
            float64 (y, x), 0 outside all polygons.
        """
        if self.by_weight is None or weight is None:
            return shares.spread(self.by_area)
        values = shares.spread(self.by_weight)
        values *= weight
        if self.by_area.any():
            values += shares.spread(self.by_area)
        return values


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spreading:
    """Polygons that are ready to be spread over any box of pixels.

    A pixel holds a sum of amounts, or the quotient of two sums: mean values over the area of known
    polygons, ratios over their denominators. It is known where the second sum is above 0, so that
    an unknown polygon takes nothing from its neighbours in a pixel that they share.

    Attributes:
        how: Kind of the values.
        amounts: What is summed.
        sizes: Area of known polygons, or the denominators of ratios.
    """

    how: How
    amounts: Density
    sizes: Density

    def sums(
        self, shares: Shares, weight: FloatArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """The two sums in the pixels of a box, each float64 (y, x), 0 where nothing is known."""
        return self.amounts.spread(shares, weight), self.sizes.spread(shares, weight)

    def values(self, shares: Shares, weight: FloatArray | None = None) -> FloatArray:
        """Values of the pixels of a box, float64 (y, x), NaN where nothing is known."""
        amount, size = self.sums(shares, weight)
        if self.how != "extensive":
            np.divide(amount, size, out=amount, where=size > 0)
        amount[size <= 0] = np.nan
        return amount


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sizes:
    """How large polygons are on a grid.

    Attributes:
        covered_share: Share of each polygon's area on the grid, float64 (polygon,), 0..1.
        pixels: Sum of its shares of pixels, float64 (polygon,).
        weights: Sum of share x weight, float64 (polygon,); None without weights.
    """

    covered_share: FloatArray
    pixels: FloatArray
    weights: FloatArray | None = None

    def density(self, amounts: FloatArray) -> Density:
        """Amounts divided among the pixels of their polygons; by area where there is no weight.

        A polygon that lies partly outside the grid leaves that part of its area, and of its
        amount, outside.

        Args:
            amounts: float64 (polygon,), NaN where unknown.
        """
        here = self._on_grid(amounts)
        # Dividing by the sum of shares, not by area, conserves the total but for rounding.
        if self.weights is None:
            return Density(by_area=_quotient(here, self.pixels))
        rest = np.where(self.weights > 0, 0.0, here)
        return Density(
            by_area=_quotient(rest, self.pixels), by_weight=_quotient(here, self.weights)
        )

    def _on_grid(self, amounts: FloatArray) -> FloatArray:
        return np.nan_to_num(amounts) * self.covered_share


def _quotient(part: FloatArray, whole: FloatArray) -> FloatArray:
    """0 where there is nothing to divide by."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def extensive(amounts: FloatArray, sizes: Sizes) -> Spreading:
    """Amounts: a pixel gets its part of each polygon's, by area or by weight."""
    return Spreading(how="extensive", amounts=sizes.density(amounts), sizes=_known(amounts))


def intensive(values: FloatArray) -> Spreading:
    """Densities, rates, medians: a pixel gets the mean of its polygons, weighted by area."""
    amounts = Density(by_area=np.nan_to_num(values))
    return Spreading(how="intensive", amounts=amounts, sizes=_known(values))


def share(ratios: FloatArray, of: FloatArray, sizes: Sizes) -> Spreading:
    """Ratios: numerators and denominators are spread as amounts, and divided in each pixel.

    Args:
        ratios: float64 (polygon,), NaN where unknown, as in a polygon without anyone.
        of: Denominators, float64 (polygon,), 0 or more, NaN where unknown.
        sizes: Of the polygons.
    """
    known = np.where(np.isnan(ratios), np.nan, of)
    whole = sizes.density(known)
    ratio = np.nan_to_num(ratios)
    # A product of what the denominator has: rounding then cannot take a share of 1 above 1.
    part = Density(
        by_area=whole.by_area * ratio,
        by_weight=None if whole.by_weight is None else whole.by_weight * ratio,
    )
    return Spreading(how="share", amounts=part, sizes=whole)


def _known(values: FloatArray) -> Density:
    return Density(by_area=np.isfinite(values).astype("float64"))
