"""How often each pixel was seen clearly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cube.composites import Composite
from cube.reducing import Count
from cube.scenes import Needs, Span

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

Floats = npt.NDArray[np.floating[Any]]

COUNT_BAND = "clear_observations"
"""The one band of a count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearCount:
    """Number of scenes of a composite in which all its bands are clear, for each pixel.

    Attributes:
        of: The composite; its method does not matter.
    """

    of: Composite

    @property
    def bands(self) -> tuple[str, ...]:
        """One, :data:`COUNT_BAND`."""
        return (COUNT_BAND,)

    @property
    def units(self) -> tuple[str, ...]:
        """A number."""
        return ("1",)

    def read(self, grid: GeoBox, rows: Span, cols: Span) -> Floats:
        """See :meth:`cube.scenes.Source.read`; 0 where nothing is clear, never NaN."""
        scenes, box = self.of.near(grid, rows, cols), (rows, cols)
        found = np.zeros((1, rows[1] - rows[0], cols[1] - cols[0]), "float32")
        with self.of.naming_all(scenes, grid, box):
            counted = self.of.streamed(Count(), scenes, grid, box)
        return found if counted is None else counted.astype("float32")

    def check(self, grid: GeoBox) -> None:
        """See :meth:`cube.scenes.Source.check`."""
        self.of.check(grid)

    def needs(self, grid: GeoBox, rows: Span, cols: Span) -> Needs:
        """What a box takes; see :class:`cube.scenes.Needs`."""
        return self.of.needs(grid, rows, cols)

    def describe(self) -> dict[str, Any]:
        """See :meth:`cube.scenes.Source.describe`."""
        return {"count": "clear", "of": self.of.describe()}
