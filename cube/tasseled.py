"""Tasselled cap: brightness, greenness and wetness of Landsat's six reflective bands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cube.derived import check_has, needs_together, read_named
from cube.errors import SourceError
from cube.scenes import Needs, Source, Span

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

FloatArray = npt.NDArray[np.floating[Any]]

INPUTS = ("blue", "green", "red", "nir", "swir1", "swir2")
"""Bands that go in: TM and ETM+ 1, 2, 3, 4, 5 and 7, OLI 2 to 7. Reflectances, 0..1."""

BANDS = ("brightness", "greenness", "wetness")
"""Bands that come out. Roughly 0..2, -1..1 and -1..1."""

COEFFICIENTS: Mapping[str, tuple[tuple[float, ...], ...]] = MappingProxyType(
    {
        "tm": (
            (0.2043, 0.4158, 0.5524, 0.5741, 0.3124, 0.2303),
            (-0.1603, -0.2819, -0.4934, 0.7940, -0.0002, -0.1446),
            (0.0315, 0.2021, 0.3102, 0.1594, -0.6806, -0.6109),
        ),
        "etm": (
            (0.3561, 0.3972, 0.3904, 0.6966, 0.2286, 0.1596),
            (-0.3344, -0.3544, -0.4556, 0.6966, -0.0242, -0.2630),
            (0.2626, 0.2141, 0.0926, 0.0656, -0.7629, -0.5388),
        ),
        "oli": (
            (0.3029, 0.2786, 0.4733, 0.5599, 0.5080, 0.1872),
            (-0.2941, -0.2430, -0.5424, 0.7276, 0.0713, -0.1608),
            (0.1511, 0.1973, 0.3283, 0.3407, -0.7117, -0.4559),
        ),
    }
)
"""Sensor to a row of coefficients per band of :data:`BANDS`, in the order of :data:`INPUTS`.

tm: surface reflectance, Crist (1985), Remote Sens. Environ. 17, 301-306, doi
10.1016/0034-4257(85)90102-6. Much used for surface reflectance of the later
sensors too. etm: at-satellite reflectance, Huang et al. (2002), Int. J. Remote
Sens. 23, 1741-1748, doi 10.1080/01431160110106113. oli: at-satellite
reflectance, Baig et al. (2014), Remote Sens. Lett. 5, 423-431, doi
10.1080/2150704X.2014.915434.
"""


@dataclass(frozen=True, slots=True)
class TasseledCap:
    """Brightness, greenness and wetness of a source.

    Attributes:
        of: Source of the bands :data:`INPUTS`, among others, in any order: reflectances as
            fractions, of the kind that :data:`COEFFICIENTS` says for the sensor.
        sensor: One of :data:`COEFFICIENTS`.
    """

    of: Source
    sensor: str

    def __post_init__(self) -> None:
        if self.sensor not in COEFFICIENTS:
            raise SourceError(
                f"Tasselled cap coefficients are known for {', '.join(COEFFICIENTS)}. "
                f"Received {self.sensor!r}."
            )
        check_has(self.of, INPUTS, what="A tasselled cap")

    @property
    def bands(self) -> tuple[str, ...]:
        """See :data:`BANDS`."""
        return BANDS

    @property
    def units(self) -> tuple[str, ...]:
        """Sums of reflectances."""
        return ("1",) * len(BANDS)

    def read(self, grid: GeoBox, rows: Span, cols: Span) -> FloatArray:
        """See :meth:`cube.scenes.Source.read`; float32, NaN where any band is."""
        values = read_named(self.of, INPUTS, grid, rows, cols)
        return np.stack([weighted(values, row) for row in COEFFICIENTS[self.sensor]])

    def check(self, grid: GeoBox) -> None:
        """See :meth:`cube.scenes.Source.check`."""
        self.of.check(grid)

    def needs(self, grid: GeoBox, rows: Span, cols: Span) -> Needs:
        """What a box takes; see :class:`cube.scenes.Needs`."""
        # Bands and one sum with its next term as float64.
        own_bytes = 8 * (len(INPUTS) + 2) + 4 * len(BANDS)
        return needs_together([self.of], grid, rows, cols, own_bytes=own_bytes)

    def describe(self) -> dict[str, Any]:
        """See :meth:`cube.scenes.Source.describe`."""
        rows = [list(row) for row in COEFFICIENTS[self.sensor]]
        return {"tasselled_cap": rows, "of": self.of.describe()}


def weighted(values: list[FloatArray], weights: tuple[float, ...]) -> npt.NDArray[np.float32]:
    """Sum of bands times weights, band by band in order.

    A matrix product would add in an order that depends on the size of the box.

    Args:
        values: Each band, float64, all of one shape.
        weights: One per band.

    Returns:
        Shape of a band.
    """
    total = np.zeros_like(values[0])
    for band, weight in zip(values, weights, strict=True):
        total += weight * band
    return total.astype("float32")
