"""Bands derived from elevation: slope, orientation and curvature.

Formulas on 3 x 3 neighbourhoods: gradients by Horn (1981), Proc. IEEE 69(1),
doi 10.1109/PROC.1981.11918; curvature by Zevenbergen and Thorne (1987), Earth
Surf. Process. Landforms 12, doi 10.1002/esp.3290120107.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cube.derived import needs_together
from cube.errors import SourceError
from cube.scenes import Needs, Source

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

FloatArray = npt.NDArray[np.floating[Any]]

DEFAULT_BANDS = ("elevation", "slope", "northness", "eastness", "curvature")
"""What :class:`Terrain` gives unless told otherwise."""

BANDS = (*DEFAULT_BANDS, "southness", "aspect")
"""What :class:`Terrain` can give.

elevation: as in the source, metres. slope: degrees, 0..90. northness and
eastness: north and east component of the unit normal of the surface, -1..1,
0 on flat ground. curvature: 1/(100 m), positive on ridges. southness: minus
northness. aspect: where the surface faces, downhill, in degrees clockwise from
north, from 0 up to but without 360; NaN on flat ground. It is a circle: average
northness and eastness instead.
"""


_OWN_BYTES = 8 * 16
"""Of a pixel: all bands and what leads to them, as float64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terrain:
    """Terrain bands of an elevation source, without seams between regions.

    Attributes:
        elevation: Source with one band, in metres.
        bands: Which of :data:`BANDS`, in order.
    """

    elevation: Source
    bands: tuple[str, ...] = DEFAULT_BANDS

    def __post_init__(self) -> None:
        unknown = [band for band in self.bands if band not in BANDS]
        if unknown or not self.bands:
            raise SourceError(f"Terrain has the bands {', '.join(BANDS)}. Received {self.bands}.")
        if len(self.elevation.bands) != 1:
            raise SourceError(
                f"Terrain needs a source of one band, the elevation. "
                f"Received {', '.join(self.elevation.bands)}."
            )

    def read(self, grid: GeoBox, rows: tuple[int, int], cols: tuple[int, int]) -> FloatArray:
        """See :meth:`cube.scenes.Source.read`; reads one more pixel on every side."""
        wide = (rows[0] - 1, rows[1] + 1), (cols[0] - 1, cols[1] + 1)
        elevation = self.elevation.read(grid, *wide)[0]
        pixel = abs(grid.transform.e), abs(grid.transform.a)
        derived = derive(elevation, pixel_yx=pixel)
        return np.stack([derived[band] for band in self.bands]).astype("float32")

    def check(self, grid: GeoBox) -> None:
        """See :meth:`cube.scenes.Source.check`; slopes need a grid in metres."""
        check_metres(grid, what="Slopes")
        self.elevation.check(grid)

    def needs(self, grid: GeoBox, rows: tuple[int, int], cols: tuple[int, int]) -> Needs:
        """What a box takes; see :class:`cube.scenes.Needs`."""
        return needs_together([self.elevation], grid, rows, cols, halo_px=1, own_bytes=_OWN_BYTES)

    def describe(self) -> dict[str, Any]:
        """See :meth:`cube.scenes.Source.describe`."""
        return {"terrain": list(self.bands), "elevation": self.elevation.describe()}


def check_metres(grid: GeoBox, *, what: str) -> None:
    """Refuse a grid whose pixels are not measured in metres.

    Raises:
        SourceError: ``what`` needs a projected grid, in metres.
    """
    units = {axis.unit_conversion_factor for axis in grid.crs.proj.axis_info} if grid.crs else ()
    if grid.crs is None or not grid.crs.projected or units != {1.0}:
        raise SourceError(f"{what} need a projected grid, in metres; warp onto one first.")


def derive(elevation: FloatArray, *, pixel_yx: tuple[float, float]) -> dict[str, FloatArray]:
    """All terrain bands of the inner pixels of an elevation array.

    Args:
        elevation: Metres, shape (y + 2, x + 2), north up, NaN for nodata.
        pixel_yx: Pixel height and width in metres.

    Returns:
        Band name to float64 of shape (y, x); see :data:`BANDS`. NaN wherever
        one of the 3 x 3 pixels is; curvature, which takes no corners, where one
        of the other five is; elevation itself only where its own is. aspect also
        on flat ground.
    """
    z = elevation.astype("float64")
    height, width = pixel_yx
    north, south = z[:-2], z[2:]
    # Horn's weights 1, 2, 1 across the direction of the gradient.
    uphill_east = (_smooth(z, 1)[:, 2:] - _smooth(z, 1)[:, :-2]) / (8 * width)
    uphill_north = (_smooth(north, 0) - _smooth(south, 0)) / (8 * height)
    centre = z[1:-1, 1:-1]
    # Horn gives the centre no weight; where nothing was observed there is no slope all the same.
    steepness = np.where(np.isnan(centre), np.nan, np.hypot(uphill_east, uphill_north))
    length = np.hypot(1.0, steepness)
    northness, eastness = -uphill_north / length, -uphill_east / length
    bend_x = (z[1:-1, :-2] + z[1:-1, 2:]) / 2 - centre
    bend_y = (north[:, 1:-1] + south[:, 1:-1]) / 2 - centre
    return {
        "elevation": centre,
        "slope": np.degrees(np.arctan(steepness)),
        "northness": northness,
        "eastness": eastness,
        "curvature": -200.0 * (bend_x / width**2 + bend_y / height**2),
        "southness": -northness,
        "aspect": _aspect(northness, eastness),
    }


def _aspect(northness: FloatArray, eastness: FloatArray) -> FloatArray:
    """Degrees clockwise from north, NaN where there is no direction."""
    degrees = np.degrees(np.arctan2(eastness, northness))
    turned = np.where(degrees < 0, degrees + 360, degrees)
    # A hair west of north would be 360 once it is float32.
    turned[turned.astype("float32") == 360] = 0.0
    turned[(northness == 0) & (eastness == 0)] = np.nan
    return turned


def _smooth(z: FloatArray, axis: int) -> FloatArray:
    """Weights 1, 2, 1 along y (``axis=1``: for x gradients) or along x (``axis=0``)."""
    if axis == 1:
        return z[:-2] + 2 * z[1:-1] + z[2:]
    return z[:, :-2] + 2 * z[:, 1:-1] + z[:, 2:]
