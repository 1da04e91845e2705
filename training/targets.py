"""What a model learns: a layer of the cube, through a declared transform and its inverse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
            observed; ``"identity"`` learns the value; ``"classes"`` learns the
            class numbers of the layer as int32.
        over: ``"pixels"`` learns a map, ``"window"`` one number a chip.
        statistic: How pixels become the number of a window: ``"mean"`` or
            ``"sum"`` of those observed (before the transform), ``"majority"``
            their commonest class.
        change: Learn the last label period minus the first, after the transform.
    """

    layer: str
    per: Literal["km2"] | None = None
    transform: Literal["log", "identity", "classes"] = "identity"
    over: Literal["pixels", "window"] = "pixels"
    statistic: Literal["mean", "sum", "majority"] = "mean"
    change: bool = False

    def __post_init__(self) -> None:
        given: tuple[Any, Any] = (self.layer, self.change)
        if not isinstance(given[0], str) or not isinstance(given[1], bool):
            raise SpecError(
                f"A target has the name of a layer, and change is True or False. "
                f"Received layer={given[0]!r}, change={given[1]!r}."
            )
        if self.per not in (None, "km2") or self.transform not in ("log", "identity", "classes"):
            raise SpecError(
                f"A target is per 'km2' or None, and 'log', 'identity' or 'classes'. "
                f"Received per={self.per!r}, transform={self.transform!r}."
            )
        if self.over not in ("pixels", "window") or self.statistic not in (
            "mean",
            "sum",
            "majority",
        ):
            raise SpecError(
                f"A target is over 'pixels' or 'window', by 'mean', 'sum' or 'majority'. "
                f"Received over={self.over!r}, statistic={self.statistic!r}."
            )
        classes = self.transform == "classes"
        if classes and (self.per is not None or self.change):
            raise SpecError("Classes have no density and no change; leave per= and change= out.")
        if self.over == "window" and self.per is not None and self.statistic != "mean":
            raise SpecError("The density of a window is a mean: per= goes with statistic='mean'.")
        if self.over == "window" and classes != (self.statistic == "majority"):
            raise SpecError(
                "A window's class is the majority of its pixels: transform='classes' and "
                "statistic='majority' go together."
            )

    def check_periods(self, periods: int) -> None:
        """Refuse a number of label periods that the target cannot be made of.

        Raises:
            SpecError: A change needs two or more.
        """
        if self.change and periods < 2:
            raise SpecError(
                f"A change needs two label periods or more. Received {periods} per timing."
            )

    def channels(self, periods: int) -> int:
        """Numbers that the label has for each pixel or window.

        Args:
            periods: Label periods of a timing; 0 for a static layer.
        """
        return 1 if self.change else max(periods, 1)

    def forward(self, values: FloatArray, *, pixel_km2: float) -> FloatArray:
        """Layer values to what the model learns; same shape, NaN for not observed."""
        scaled = values / pixel_km2 if self.per == "km2" else values
        if self.transform != "log":
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TableTarget:
    """Columns of a table as a model sees them: one row of numbers a chip.

    Attributes:
        columns: Names of the columns, in the order of the label's channels.
    """

    columns: tuple[str, ...]

    def __post_init__(self) -> None:
        given: Any = self.columns
        columns = (given,) if isinstance(given, str) else given
        named = isinstance(columns, Sequence) and all(isinstance(name, str) for name in columns)
        if not named or not columns or len(set(columns)) != len(columns):
            raise SpecError(f"A table target needs columns, each once. Received {given!r}.")
        object.__setattr__(self, "columns", tuple(columns))

    def channels(self, periods: int) -> int:
        """Number of columns; they do not depend on the label periods."""
        del periods
        return len(self.columns)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"columns": list(self.columns)}


def target_from_dict(data: Mapping[str, Any]) -> Target | TableTarget:
    """Rebuild either kind of target from its ``to_dict``.

    Raises:
        SpecError: A field is impossible.
        TypeError: A field is unknown.
    """
    return TableTarget(**data) if "columns" in data else Target(**data)


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
