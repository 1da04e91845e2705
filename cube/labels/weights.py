"""Weights of pixels: where in a polygon its amount is, as far as a variable of the cube tells."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from cube import ledger, nodata
from cube.coverage.handle import Coverage
from cube.errors import CubeError, SpecError, StoreError
from cube.reading import read_bands
from cube.regions import Region
from cube.run import run_tasks
from cube.spec import CubeSpec, LayerSpec

if TYPE_CHECKING:
    from distributed import Client

FloatArray = npt.NDArray[np.float64]

Named = str | tuple[str, str]
"""Name of a layer, or of a stack and its band."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """A layer, or a band of a stack, whose values are weights of pixels.

    Attributes:
        url: The cube.
        spec: Its spec.
        name: The layer or stack.
        band: The band of a stack; None for a layer.
        time: Index in the calendar; None for a static variable.
    """

    url: str
    spec: CubeSpec
    name: str
    band: str | None
    time: int | None

    def __post_init__(self) -> None:
        variable = self.spec.variable(self.name)
        if isinstance(variable, LayerSpec):
            if self.band is not None:
                raise SpecError(f"The layer {self.name!r} has no bands; give weight={self.name!r}.")
            if variable.classes:
                raise SpecError(
                    f"{self.name!r} holds classes, whose numbers are no weights. Give a layer of "
                    f"amounts, such as the built-up share of each pixel."
                )
        elif self.band not in variable.bands:
            raise SpecError(
                f"A weight is one band of the stack {self.name!r}: give weight=({self.name!r}, "
                f"band), one of {', '.join(variable.bands)}. Received {self.band!r}."
            )

    @classmethod
    def of(
        cls, url: str, spec: CubeSpec, named: Named, *, label: str | None, default: str | None
    ) -> Self:
        """A weight by name.

        Args:
            url: The cube.
            spec: Its spec.
            named: A layer, or a stack and its band.
            label: Label of its period; None for the default.
            default: The period of a weight that varies with time.

        Raises:
            SpecError: There is no such variable, band or period, or it holds classes.
        """
        name, band = (named, None) if isinstance(named, str) else _pair(named)
        if label is None and not spec.variable(name).static:
            label = default
            if label is None:
                periods = ", ".join(period.label for period in spec.calendar)
                raise SpecError(
                    f"The weight {name!r} varies with time; say of which period: {periods}."
                )
        return cls(url=url, spec=spec, name=name, band=band, time=spec.time_of(name, label))

    def __str__(self) -> str:
        band = "" if self.band is None else f", {self.band}"
        time = "" if self.time is None else f" ({self.spec.calendar[self.time].label})"
        return f"{self.name!r}{band}{time}"

    @property
    def bytes_per_pixel(self) -> int:
        """Stored bytes that are read for a pixel."""
        variable = self.spec.variable(self.name)
        return int(np.prod((1, *variable.inner_shape))) * variable.storage.itemsize

    def describe(self) -> dict[str, Any]:
        """What it is, with a digest of its values.

        Raises:
            StoreError: Regions of it were never written: what is there nobody knows.
        """
        ticks = ledger.ticks(self.url, self.spec, self.name)
        ticks = ticks if self.time is None else ticks[self.time]
        missing = sum(not ledger.is_tick(int(tick)) for tick in ticks.flat)
        if missing:
            raise StoreError(
                f"The weight {self} has {missing} of {ticks.size} regions that were never written; "
                f"fill it first."
            )
        content = hashlib.sha256(ticks.astype("<u8").tobytes()).hexdigest()[:12]
        period = None if self.time is None else self.spec.calendar[self.time].label
        return {"name": self.name, "band": self.band, "period": period, "values": content}

    def read(self, box: Region) -> FloatArray:
        """Weights of a box of pixels, float64 (y, x); 0 where they are not known.

        Raises:
            SpecError: One is negative or infinite.
            StoreError: A chunk is damaged.
        """
        region = Region(time=self.time, rows=box.rows, cols=box.cols)
        bands = None if self.band is None else (self.band,)
        stored = read_bands(self.url, self.name, region, spec=self.spec, bands=bands)
        variable = self.spec.variable(self.name)
        values = nodata.decode(stored.reshape(box.shape), variable).astype("float64", copy=False)
        values[np.isnan(values)] = 0.0
        wrong = (values < 0) | np.isinf(values)
        if wrong.any():
            row, col = (int(i[0]) for i in np.nonzero(wrong))
            raise SpecError(
                f"Weights must be finite and 0 or more. {self} holds {values[row, col]:g} in row "
                f"{box.rows[0] + row}, column {box.cols[0] + col} of the grid; make another layer "
                f"of it first."
            )
        return values

    def totals(self, coverage: Coverage, *, client: Client | None = None) -> FloatArray:
        """Sum of share x weight of each polygon, float64 (polygon,).

        Summed by the coverage's tiles in their order, so that neither regions nor workers matter.

        Raises:
            SpecError: See :meth:`read`.
            StoreError: See :meth:`read`.
        """
        part = partial(_tile_total, coverage=coverage, weight=self)
        tiles = coverage.tiles()
        verb = f"weigh by {self.name}"
        done = {
            tile: _unless_error(result)
            for tile, result in run_tasks(part, tiles, verb=verb, url=self.url, client=client)
        }
        total = np.zeros(coverage.polygons)
        for tile in tiles:
            members, sums = done.pop(tile)
            total[members] += sums
        return total


def _pair(named: Any) -> tuple[str, str]:
    if not isinstance(named, tuple | list) or [type(part) for part in named] != [str, str]:
        raise SpecError(f"A weight is a layer, or a pair (stack, band). Received {named!r}.")
    return named[0], named[1]


def _tile_total(
    tile: Region, *, coverage: Coverage, weight: Weight
) -> tuple[npt.NDArray[np.int32], FloatArray]:
    """The polygons that meet a tile, and the sum of share x weight of each."""
    shares = coverage.shares(tile.rows, tile.cols)
    if not len(shares.polygons):
        return shares.polygons, np.zeros(0)
    members, sums = shares.collect(weight.read(tile)[None])
    return members, np.asarray(sums[0], "float64")


def _unless_error(result: Any) -> Any:
    if isinstance(result, CubeError):
        raise result
    return result
