"""Sources made of what is there already: bands of a cube, bands side by side, no bands at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cube import ledger, nodata, objects, provenance, urls
from cube.errors import PartialError, SourceError
from cube.reading import read_bands
from cube.regions import Region
from cube.scenes import Needs, Source, Span, needs_of, units_of
from cube.spec import CubeSpec, LayerSpec, StackSpec
from cube.template import read_spec

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

FloatArray = npt.NDArray[np.floating[Any]]

_FLOAT_BYTES = 4
"""Of a value; sources give float32 but for numbers of more than seven digits."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Bands of a stack, or a layer, that a cube holds already.

    They lie on the cube's own grid, and on no other. Outside it nothing is
    observed; a region that is not written yet is refused, because nobody knows
    what it will hold.

    Attributes:
        url: The cube. Its spec is read once, when the source is made.
        variable: A stack or a layer.
        time: Label of a period; None for a variable without time.
        bands: Of the stack, in any order; a layer has one, called as itself. Empty
            for all.
        spec: What the cube is.
    """

    url: str
    variable: str
    _: KW_ONLY
    time: str | None = None
    bands: tuple[str, ...] = ()
    spec: CubeSpec = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", urls.normalise(self.url))
        object.__setattr__(self, "spec", read_spec(self.url))
        known = _bands_of(self._variable)
        object.__setattr__(self, "bands", tuple(self.bands or known))
        self._check_time()
        if set(self.bands) - set(known) or len(set(self.bands)) < len(self.bands):
            raise SourceError(
                f"{self.variable!r} has the bands {', '.join(known)}; name each once at most. "
                f"Received {', '.join(self.bands)}."
            )

    @property
    def units(self) -> tuple[str, ...]:
        """Unit of each band."""
        return (self._variable.units,) * len(self.bands)

    def read(self, grid: GeoBox, rows: Span, cols: Span) -> FloatArray:
        """See :meth:`cube.scenes.Source.read`.

        Raises:
            PartialError: A region under the box is not written yet.
            SourceError: The grid is not the cube's.
            DamagedError: A chunk is not what was written.
        """
        self.check(grid)
        shape = (len(self.bands), rows[1] - rows[0], cols[1] - cols[0])
        values = np.full(shape, np.nan, nodata.decoded_dtype(self._variable))
        box = self._inside(rows, cols)
        if min(box.shape) > 0:
            self._check_written(box)
            place = tuple(
                slice(span[0] - start, span[1] - start)
                for span, start in ((box.rows, rows[0]), (box.cols, cols[0]))
            )
            values[(slice(None), *place)] = self._decoded(box)
        return values

    def check(self, grid: GeoBox) -> None:
        """See :meth:`cube.scenes.Source.check`; only the cube's own grid will do."""
        if grid != self.spec.grid:
            raise SourceError(
                f"{self.variable!r} lies on its cube's own grid ({_grid_text(self.spec.grid)}) "
                f"and is not warped. Received {_grid_text(grid)}. Use a cube on that grid."
            )

    def describe(self) -> dict[str, Any]:
        """See :meth:`cube.scenes.Source.describe`; with what the variable was made from itself."""
        made = provenance.inputs_of(self.url, self.variable).get(self.time or "static", {})
        return {
            "variable": self.variable,
            "bands": list(self.bands),
            "time": self.time,
            "spec": self._variable.digest,
            "inputs": made.get("digest"),
        }

    @property
    def _variable(self) -> StackSpec | LayerSpec:
        return self.spec.variable(self.variable)

    @property
    def _time(self) -> int | None:
        return None if self.time is None else self.spec.time_index(self.time)

    def _check_time(self) -> None:
        if self._variable.static != (self.time is None):
            labels = ", ".join(period.label for period in self.spec.calendar)
            rule = "has no time; leave time= out" if self.time else f"needs time=, one of {labels}"
            raise SourceError(f"{self.variable!r} {rule}. Received time={self.time!r}.")
        if self.time is not None:
            self.spec.time_index(self.time)

    def _inside(self, rows: Span, cols: Span) -> Region:
        """The part of a box that lies in the grid; may be empty."""
        height, width = self.spec.grid.shape
        return Region(time=self._time, rows=_clipped(rows, height), cols=_clipped(cols, width))

    def _check_written(self, box: Region) -> None:
        """Refuse a box over regions without a tick: their values are unknown, and not nodata."""
        under = _regions_under(self.spec, box)
        keys = [ledger.key(self.spec, self.variable, region) for region in under]
        entries = objects.get_many(objects.at(self.url), keys)
        missing = [
            str(region)
            for region, entry in zip(under, entries, strict=True)
            if not ledger.is_tick(ledger.decode(entry))
        ]
        if missing:
            when = f" of {self.time}" if self.time else ""
            raise PartialError(
                f"{self.variable!r}{when} is not written at {'; '.join(missing)}. Fill it there "
                f"first, e.g. with cube.ingest(url, {self.variable!r}, ...), then run this again.",
                dict.fromkeys(missing, "not written yet"),
            )

    def _decoded(self, box: Region) -> FloatArray:
        stored = read_bands(self.url, self.variable, box, spec=self.spec, bands=self.bands)
        return nodata.decode(stored.reshape(len(self.bands), *box.shape), self._variable)


@dataclass(frozen=True, slots=True)
class Join:
    """Bands of several sources side by side.

    Attributes:
        sources: In order; no two may have a band of the same name.
    """

    sources: tuple[Source, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(self.sources))
        _check_names("Bands side by side", self.bands)

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of all bands, source by source."""
        return tuple(band for source in self.sources for band in source.bands)

    @property
    def units(self) -> tuple[str, ...]:
        """Units of all bands; empty where nobody says."""
        return tuple(unit for source in self.sources for unit in units_of(source))

    def read(self, grid: GeoBox, rows: Span, cols: Span) -> FloatArray:
        """See :meth:`cube.scenes.Source.read`; in the widest dtype of the sources."""
        return np.concatenate([source.read(grid, rows, cols) for source in self.sources])

    def check(self, grid: GeoBox) -> None:
        """See :meth:`cube.scenes.Source.check`."""
        for source in self.sources:
            source.check(grid)

    def needs(self, grid: GeoBox, rows: Span, cols: Span) -> Needs:
        """What a box takes; see :class:`cube.scenes.Needs`."""
        return needs_together(self.sources, grid, rows, cols)

    def describe(self) -> dict[str, Any]:
        """See :meth:`cube.scenes.Source.describe`."""
        return {"join": [source.describe() for source in self.sources]}


@dataclass(frozen=True, slots=True)
class Absent:
    """Bands of which nothing was ever observed, as of a sensor that did not exist yet.

    Attributes:
        bands: Their names.
    """

    bands: tuple[str, ...]

    def __post_init__(self) -> None:
        if isinstance(self.bands, str):
            raise SourceError(f"Bands are a list of names. Received {self.bands!r}.")
        object.__setattr__(self, "bands", tuple(self.bands))
        _check_names("Absent bands", self.bands)

    def read(self, grid: GeoBox, rows: Span, cols: Span) -> FloatArray:
        """See :meth:`cube.scenes.Source.read`; NaN everywhere."""
        shape = (len(self.bands), rows[1] - rows[0], cols[1] - cols[0])
        return np.full(shape, np.nan, "float32")

    def check(self, grid: GeoBox) -> None:
        """See :meth:`cube.scenes.Source.check`; any grid will do."""

    def describe(self) -> dict[str, Any]:
        """See :meth:`cube.scenes.Source.describe`."""
        return {"absent": list(self.bands)}


def read_named(
    source: Source, names: Sequence[str], grid: GeoBox, rows: Span, cols: Span
) -> list[FloatArray]:
    """Bands of a source by name, each float64 (rows, cols), whatever its own order.

    float64, so that a formula rounds once, to what is kept.
    """
    values = source.read(grid, rows, cols)
    return [values[source.bands.index(name)].astype("float64") for name in names]


def needs_together(
    sources: Sequence[Source],
    grid: GeoBox,
    rows: Span,
    cols: Span,
    *,
    halo_px: int = 0,
    own_bytes: int = 0,
) -> Needs:
    """What a box takes of something that reads sources one after the other, and keeps them.

    Args:
        sources: What is read. One that does not say what it takes is taken to hold its values.
        grid: The whole target grid.
        rows: Half-open range along y.
        cols: Half-open range along x.
        halo_px: By so many pixels the sources are read wider on every side.
        own_bytes: Intermediate results for each of the pixels that are read.
    """
    wide = tuple((start - halo_px, stop + halo_px) for start, stop in (rows, cols))
    pixels = math.prod(stop - start for start, stop in wide)
    values = pixels * sum(len(source.bands) for source in sources) * _FLOAT_BYTES
    known = [needs_of(source, grid, *wide) or _silent(source, pixels) for source in sources]
    return Needs(
        read_bytes=sum(needs.read_bytes for needs in known),
        peak_bytes=values + max(pixels * own_bytes, *(needs.peak_bytes for needs in known)),
        opens=sum(needs.opens for needs in known),
    )


def _silent(source: Source, pixels: int) -> Needs:
    return Needs(read_bytes=pixels * len(source.bands) * _FLOAT_BYTES, peak_bytes=0, opens=0)


def check_has(source: Source, names: Sequence[str], *, what: str) -> None:
    """Refuse a source that lacks a band.

    Raises:
        SourceError: The message says which are missing and which there are.
    """
    missing = [name for name in names if name not in source.bands]
    if missing:
        raise SourceError(
            f"{what} needs the bands {', '.join(names)}; {', '.join(missing)} missing. "
            f"The source has {', '.join(source.bands)}."
        )


def _bands_of(variable: StackSpec | LayerSpec) -> tuple[str, ...]:
    return variable.bands if isinstance(variable, StackSpec) else (variable.name,)


def _clipped(span: Span, length: int) -> Span:
    start = min(max(span[0], 0), length)
    return start, max(start, min(span[1], length))


def _regions_under(spec: CubeSpec, box: Region) -> list[Region]:
    """The regions that a box, which lies in the cube, has pixels of."""
    step = spec.layout.region
    spans = [
        [(start, min(start + step, size)) for start in range(first // step * step, stop, step)]
        for (first, stop), size in zip((box.rows, box.cols), spec.grid.shape, strict=True)
    ]
    return [Region(time=box.time, rows=rows, cols=cols) for rows, cols in product(*spans)]


def _check_names(what: str, names: tuple[str, ...]) -> None:
    if not names or len(set(names)) < len(names):
        raise SourceError(
            f"{what} must be named, once each. Received {', '.join(names) or 'none'}."
        )


def _grid_text(grid: GeoBox) -> str:
    height, width = grid.shape
    left, top = grid.transform.c, grid.transform.f
    return f"{height} x {width} pixels from ({left:.10g}, {top:.10g}) in {grid.crs}"
