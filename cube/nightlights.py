"""Night lights of two sensors that measure different things, kept apart.

DMSP-OLS (1992-2013) gives digital numbers 0..63 without calibration in orbit,
saturated over cities; VIIRS DNB (from 2012) gives radiances. Their numbers are
two bands, and a period that has one of them has nodata in the other
(Elvidge et al. 2013, doi 10.7125/APAN.35.7).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cube.derived import Absent, needs_together
from cube.errors import SourceError
from cube.scenes import Needs, Source, Span

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

FloatArray = npt.NDArray[np.floating[Any]]

UNITS = {"dmsp": "1", "viirs": "nW cm-2 sr-1"}
"""Bands and their units: a digital number, a radiance."""

HIGHEST_DMSP = 63.0
"""Digital numbers have six bits."""

_ROUNDING = 1e-3
"""What the weights of a resampling may add to 63: they sum to 1 in float32 only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NightLights:
    """Night lights of one period, in the bands of :data:`UNITS`.

    Attributes:
        dmsp: Source of one band, digital numbers 0..63 such as ``avg_vis`` or
            ``stable_lights`` before any intercalibration. Not resampled by ``"cubic"``, which
            overshoots.
        viirs: Source of one band, nW cm-2 sr-1.
    """

    dmsp: Source
    viirs: Source

    def __post_init__(self) -> None:
        for name in UNITS:
            bands = getattr(self, name).bands
            if len(bands) != 1:
                raise SourceError(
                    f"Night lights take a source of one band for {name}. "
                    f"Received {', '.join(bands)}."
                )

    @property
    def bands(self) -> tuple[str, ...]:
        """``("dmsp", "viirs")``."""
        return tuple(UNITS)

    @property
    def units(self) -> tuple[str, ...]:
        """See :data:`UNITS`."""
        return tuple(UNITS.values())

    def read(self, grid: GeoBox, rows: Span, cols: Span) -> FloatArray:
        """See :meth:`cube.scenes.Source.read`.

        Raises:
            SourceError: A value of ``dmsp`` is no digital number of DMSP.
        """
        dmsp = self.dmsp.read(grid, rows, cols)
        _check_digital(dmsp)
        return np.concatenate([dmsp, self.viirs.read(grid, rows, cols)])

    def check(self, grid: GeoBox) -> None:
        """See :meth:`cube.scenes.Source.check`."""
        self.dmsp.check(grid)
        self.viirs.check(grid)

    def needs(self, grid: GeoBox, rows: Span, cols: Span) -> Needs:
        """What a box takes; see :class:`cube.scenes.Needs`."""
        return needs_together([self.dmsp, self.viirs], grid, rows, cols)

    def describe(self) -> dict[str, Any]:
        """See :meth:`cube.scenes.Source.describe`."""
        return {"dmsp": self.dmsp.describe(), "viirs": self.viirs.describe()}


def night_lights(dmsp: Mapping[str, Source], viirs: Mapping[str, Source]) -> dict[str, NightLights]:
    """Night lights of every period that one of two sensors has an image of.

    Args:
        dmsp: Period label to a source of one band, digital numbers of DMSP-OLS.
        viirs: Period label to a source of one band, radiances of VIIRS DNB.

    Returns:
        Period label, in order, to a source of both bands: nodata for a sensor without
        an image of the period, both where both have one. As :func:`cube.ingest` takes it.

    Raises:
        SourceError: A source has several bands, or there is none at all.
    """
    labels = sorted({*dmsp, *viirs})
    if not labels:
        raise SourceError("Night lights need an image of one period at least. Received none.")
    return {
        label: NightLights(
            dmsp=dmsp.get(label, Absent(("dmsp",))), viirs=viirs.get(label, Absent(("viirs",)))
        )
        for label in labels
    }


def _check_digital(values: FloatArray) -> None:
    """Refuse what DMSP cannot have measured, such as radiances of VIIRS under its name."""
    wrong = (values < 0) | (values > HIGHEST_DMSP + _ROUNDING)
    if wrong.any():
        first = float(values[wrong][0])
        raise SourceError(
            f"DMSP gives digital numbers 0..63. Received {int(wrong.sum())} values outside, such "
            f"as {first:g}. Check that this is not an image of VIIRS, that its nodata is declared "
            f"and that it is not resampled with 'cubic'."
        )
