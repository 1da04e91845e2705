"""How a set of polygons was found to be."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from cube.errors import SpecError

if TYPE_CHECKING:
    import geopandas as gpd

ATTR = "polygon_report"
"""Name of the report among the attributes of a frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolygonReport:
    """What was found in a set of polygons, and done about it.

    Numbers of polygons, but for ``repaired_area_share`` and ``overlap_px``.

    Attributes:
        polygons: How many there are.
        repaired: Polygons whose rings were invalid, or that were taken out of a collection.
        repaired_area_share: What repairs changed of their areas, added up regardless of sign, as a
            share of the area of all polygons.
        duplicates: Polygons that an earlier one equals, before any were dropped.
        dropped: Of those, the ones that were dropped.
        below_pixel: Polygons smaller than a pixel. They are kept: shares are exact.
        partly_outside: Polygons that leave the grid.
        outside: Polygons without any area on the grid. They are kept, in their order.
        antimeridian: Polygons that cross the antimeridian, or were cut where the grid's CRS ends.
        densified: Polygons with edges that are straight in their own CRS and not in the grid's, so
            that corners were added.
        overlapping: Polygons that together claim more than a whole pixel; None where that is not
            known.
        overlap_px: How much more, summed over pixels; None where that is not known.
    """

    polygons: int
    repaired: int = 0
    repaired_area_share: float = 0.0
    duplicates: int = 0
    dropped: int = 0
    below_pixel: int = 0
    partly_outside: int = 0
    outside: int = 0
    antimeridian: int = 0
    densified: int = 0
    overlapping: int | None = None
    overlap_px: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise SpecError(
                    f"{field.name} of a polygon report must be 0 or more. Received {value!r}."
                )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`.

        Raises:
            SpecError: It is no such form.
        """
        try:
            return cls(**data)
        except TypeError as error:
            raise SpecError(f"The polygon report cannot be read: {error}.") from error

    def __str__(self) -> str:
        rows = self._rows()
        width = max(len(value) for _, value in rows)
        return "\n".join(f"{value:>{width}} {label}" for label, value in rows)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html.escape(label)}</th><td>{html.escape(value)}</td></tr>"
            for label, value in self._rows()
        )
        return f"<table>{rows}</table>"

    def _rows(self) -> list[tuple[str, str]]:
        """Label and value of what a person wants to know: no line for what did not happen."""
        found = {
            f"repaired ({self.repaired_area_share:.2g} of the area)": self.repaired,
            f"duplicates ({self.dropped} dropped)": self.duplicates,
            "smaller than a pixel": self.below_pixel,
            "partly outside the grid": self.partly_outside,
            "outside the grid": self.outside,
            "across the antimeridian": self.antimeridian,
            "with corners added": self.densified,
        }
        if self.overlapping is not None:
            found[f"overlapping ({self.overlap_px or 0:.4g} pixels too much)"] = self.overlapping
        lines = [(label, f"{count}") for label, count in found.items() if count]
        return [("polygons", f"{self.polygons}"), *lines]


def of(frame: gpd.GeoDataFrame) -> PolygonReport | None:
    """The report that a frame carries, if it does."""
    found = frame.attrs.get(ATTR)
    return None if found is None else PolygonReport.from_dict(found)
