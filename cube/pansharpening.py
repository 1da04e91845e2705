"""Pan-sharpening of colours: hue and saturation from three bands, brightness from one."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cube.derived import needs_together
from cube.errors import SourceError
from cube.scenes import Needs, Source, Span

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

FloatArray = npt.NDArray[np.floating[Any]]

COLOURS = ("red", "green", "blue")


@dataclass(frozen=True, slots=True)
class Pansharpened:
    """Colours with the detail of a panchromatic band; see :func:`sharpen`.

    The two are brought onto the grid each by its own resampling: take
    ``"cubic"`` or ``"bilinear"`` for the coarser colours.

    Attributes:
        colour: Source of exactly the bands red, green and blue, in any order. Reflectances.
        pan: Source of one band, the panchromatic one. Reflectances.
        prefix: Goes before the name of each colour.
    """

    colour: Source
    pan: Source
    _: KW_ONLY
    prefix: str = "ps"

    def __post_init__(self) -> None:
        if sorted(self.colour.bands) != sorted(COLOURS):
            raise SourceError(
                f"Pan-sharpening takes a source of exactly the bands {', '.join(COLOURS)}. "
                f"Received {', '.join(self.colour.bands)}."
            )
        if len(self.pan.bands) != 1:
            raise SourceError(
                f"Pan-sharpening takes a source of one panchromatic band. "
                f"Received {', '.join(self.pan.bands)}."
            )

    @property
    def bands(self) -> tuple[str, ...]:
        """The colours in the order of their source, by default psred, psgreen, psblue."""
        return tuple(self.prefix + band for band in self.colour.bands)

    def read(self, grid: GeoBox, rows: Span, cols: Span) -> FloatArray:
        """See :meth:`cube.scenes.Source.read`; float32."""
        colour = self.colour.read(grid, rows, cols)
        return sharpen(colour, self.pan.read(grid, rows, cols)[0])

    def check(self, grid: GeoBox) -> None:
        """See :meth:`cube.scenes.Source.check`."""
        self.colour.check(grid)
        self.pan.check(grid)

    def needs(self, grid: GeoBox, rows: Span, cols: Span) -> Needs:
        """What a box takes; see :class:`cube.scenes.Needs`."""
        # Colours three times, pan and value, as float64.
        own_bytes = 8 * (3 * len(COLOURS) + 2)
        return needs_together([self.colour, self.pan], grid, rows, cols, own_bytes=own_bytes)

    def describe(self) -> dict[str, Any]:
        """See :meth:`cube.scenes.Source.describe`."""
        return {
            "pansharpened": list(self.bands),
            "colour": self.colour.describe(),
            "pan": self.pan.describe(),
        }


def sharpen(colour: FloatArray, pan: FloatArray) -> npt.NDArray[np.float32]:
    """Colours of the same hue and saturation, with another value.

    In HSV (Smith 1978, doi 10.1145/965139.807361) value is V = max(r, g, b);
    hue and saturation do not change when all three are multiplied alike. So
    replacing V by the panchromatic band is to multiply by pan / V. Where V is 0,
    black without a hue, all three become pan.

    Args:
        colour: Red, green and blue in any order, shape (3, y, x).
        pan: The new value, shape (y, x). Reflectances below 0, which dark pixels
            have after atmospheric correction, count as 0, here and in ``colour``.

    Returns:
        Shape (3, y, x); NaN where any of the four is.
    """
    lit, target = np.maximum(colour.astype("float64"), 0.0), np.maximum(pan.astype("float64"), 0.0)
    value = np.maximum(np.maximum(lit[0], lit[1]), lit[2])
    # Divided first, so that the brightest band becomes pan to the bit.
    shares = np.divide(lit, value, out=np.ones_like(lit), where=value != 0)
    return (shares * target).astype("float32")
