"""What a model learns: a layer of the cube, through a declared transform and its inverse."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from cube.errors import SpecError

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A layer as a model sees it.

    Attributes:
        layer: Name of the label layer, an amount per pixel such as persons.
        per: ``"km2"`` divides by the pixel's area first, so that the model
            learns a density; None takes the values as they are.
        transform: ``"log"`` learns the natural logarithm, and treats 0 as not
            observed; ``"identity"`` learns the value.
    """

    layer: str
    per: Literal["km2"] | None = None
    transform: Literal["log", "identity"] = "identity"

    def __post_init__(self) -> None:
        if self.per not in (None, "km2") or self.transform not in ("log", "identity"):
            raise SpecError(
                f"A target is per 'km2' or None, and 'log' or 'identity'. "
                f"Received per={self.per!r}, transform={self.transform!r}."
            )

    def forward(self, values: FloatArray, *, pixel_km2: float) -> FloatArray:
        """Layer values to what the model learns; same shape, NaN for not observed."""
        scaled = values / (pixel_km2 if self.per == "km2" else 1.0)
        if self.transform == "identity":
            return scaled
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(scaled > 0, np.log(scaled), np.nan)

    def inverse(self, learned: FloatArray, *, pixel_km2: float) -> FloatArray:
        """What the model says to layer values; the inverse of :meth:`forward`."""
        scaled = np.exp(learned) if self.transform == "log" else learned
        return scaled * (pixel_km2 if self.per == "km2" else 1.0)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def pixel_km2(grid: GeoBox) -> float:
    """Area of a pixel of a projected grid in square kilometres.

    Raises:
        SpecError: The grid is in degrees or feet.
    """
    crs = grid.crs
    units = set() if crs is None else {axis.unit_name for axis in crs.proj.axis_info[:2]}
    if crs is None or not crs.projected or units != {"metre"}:
        raise SpecError("Areas need a projected grid, in metres; warp onto one first.")
    return abs(grid.transform.a * grid.transform.e) / 1e6
