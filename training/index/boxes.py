"""What a box of pixels holds: every variable read once, as physical values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cube import nodata
from cube.reading import read_region
from cube.regions import Region
from cube.spec import CubeSpec

FloatArray = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]

Needed = tuple[str, str | None]
"""A variable, and the period at which it is read; None for a static one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoxValues:
    """Variables of a cube in a box of pixels.

    Attributes:
        url: The cube.
        spec: Its spec.
        box: Which pixels.
        shared: What will be asked for more than once, and is kept until then.
    """

    url: str
    spec: CubeSpec
    box: Region
    shared: frozenset[Needed] = frozenset()
    _kept: dict[Needed, npt.NDArray[Any]] = field(default_factory=dict, repr=False)

    def stored(self, name: str, period: str | None = None) -> npt.NDArray[Any]:
        """Values as stored: (y, x) of a layer, (band, y, x) of a stack.

        Args:
            name: A layer or stack.
            period: Label of the period; None for a static one.

        Raises:
            SpecError: The cube has no such variable or period.
            StoreError: It cannot be read.
        """
        key = (name, period)
        if key in self._kept:
            return self._kept[key]
        place = replace(self.box, time=self.spec.time_of(name, period))
        values = read_region(self.url, name, place, spec=self.spec)
        if key in self.shared:
            self._kept[key] = values
        return values

    def values(self, name: str, period: str | None = None) -> FloatArray:
        """Physical values, NaN for nodata; see :meth:`stored`."""
        return nodata.decode(self.stored(name, period), self.spec.variable(name))

    def observed(self, stack: str, bands: Iterable[str], period: str | None) -> Mask:
        """Pixels at which all of some bands were observed, bool (y, x)."""
        variable = self.spec.stack(stack)
        wanted = [variable.bands.index(band) for band in bands]
        stored = self.stored(stack, period)
        if wanted != list(range(len(variable.bands))):
            stored = stored[wanted]
        seen: Mask = np.logical_and.reduce(nodata.valid(stored, variable), axis=0)
        return seen
