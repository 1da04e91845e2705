"""What fills a cube: the source protocol, and scenes, raster files of one moment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from cube.errors import PartialError, SourceError, SpecError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from odc.geo.geobox import GeoBox

RESAMPLING = ("nearest", "bilinear", "cubic", "average", "mode", "sum")
"""How pixels of another grid become pixels of the cube.

The first five in GDAL's terms: nearest and mode for classes, the others for what varies smoothly.
``sum`` is for counts, such as persons per pixel: it conserves their total.
"""

Span = tuple[int, int]
"""Half-open range of pixels along one axis."""

HALO_PX = 256
"""Pixels around a grid that a box may reach into."""


@runtime_checkable
class Source(Protocol):
    """Anything that can fill pixels of a grid; must pickle, and be safe in threads.

    A source may also have ``needs(grid, rows, cols)``, which returns a :class:`Needs`: what a
    box takes, for plans. And it may have ``units``, a tuple with a UDUNITS string per band.
    """

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands it gives, in order."""
        ...

    def read(self, grid: GeoBox, rows: Span, cols: Span) -> npt.NDArray[np.floating[Any]]:
        """Physical values of a pixel box of a grid.

        The same pixels come out the same whatever the box, to the bit.

        Args:
            grid: The whole target grid.
            rows: Half-open range along y; may reach outside the grid.
            cols: Half-open range along x; may reach outside the grid.

        Returns:
            Floats of shape (band, rows, cols), NaN where nothing was observed.
        """
        ...

    def check(self, grid: GeoBox) -> None:
        """Refuse a grid that it cannot fill, with a :class:`cube.errors.SourceError`."""
        ...

    def describe(self) -> dict[str, Any]:
        """JSON-able facts that decide the values; no path, host or clock."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What reading a box of a source takes.

    Attributes:
        read_bytes: Decoded bytes to read.
        peak_bytes: Memory beside the values that come out.
        opens: Files to open.
    """

    read_bytes: int
    peak_bytes: int
    opens: int


def needs_of(source: Source, grid: GeoBox, rows: Span, cols: Span) -> Needs | None:
    """What a box of a source takes; None if it does not say."""
    needs = getattr(source, "needs", None)
    return None if needs is None else needs(grid, rows, cols)


def units_of(source: Source) -> tuple[str, ...]:
    """Units of a source's bands; empty where nobody says."""
    return tuple(getattr(source, "units", ())) or ("",) * len(source.bands)


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneBand:
    """One band of a scene; what it leaves out is as in the scene.

    Attributes:
        name: As in the stack.
        href: File that holds it.
        index: Its place in the file, from 1.
        nodata: Stored value of "not observed"; None if every pixel of the file is
            an observation; ``"scene"`` as in the scene.
        scale: ``physical = stored * scale + offset``; None as in the scene.
        offset: See ``scale``.
        resampling: One of :data:`RESAMPLING`; None as in the scene.
        valid_range: Stored values outside (lowest, highest) are not observed. Looked
            at after resampling.
        clip: Physical values are brought into (lowest, highest), as with top codes.
        units: UDUNITS string of the physical values; empty where nobody says. A
            composite mixes no two in a band, nor do the times of a stack.
    """

    name: str
    href: str
    index: int = 1
    nodata: float | Literal["scene"] | None = "scene"
    scale: float | None = None
    offset: float | None = None
    resampling: str | None = None
    valid_range: tuple[float, float] | None = None
    clip: tuple[float, float] | None = None
    units: str = ""

    def __post_init__(self) -> None:
        if self.index < 1:
            raise SpecError(f"Band {self.name!r}: places in a file count from 1.")
        where = f"Band {self.name!r}"
        if self.nodata != "scene":
            _check_nodata(where, self.nodata)
        _check_resampling(where, self.resampling)
        for name in ("scale", "offset"):
            _set_float(self, name)
        _check_packing(where, self.scale, self.offset)
        for name in ("valid_range", "clip"):
            _check_range(where, name, span := getattr(self, name))
            if span is not None:
                object.__setattr__(self, name, (float(span[0]), float(span[1])))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Raster files of one moment, with everything that their metadata must say.

    Attributes:
        id: Name for reports.
        layers: The bands, those of quality among them.
        crs: CRS of the files, as EPSG code or WKT.
        nodata: Stored value of "not observed"; None if every pixel of the files
            is an observation. This and the next three hold for each band that
            does not say otherwise.
        scale: ``physical = stored * scale + offset``.
        offset: See ``scale``.
        resampling: One of :data:`RESAMPLING`.
        footprint: Bounds (left, bottom, right, top) in ``crs``, where known.
        time: When it was taken, ISO 8601 in UTC, such as ``"2018-06-01T10:30:00Z"``;
            None where nobody says.
        cloud_cover: Share of cloud according to its metadata, 0..1.
        verdict: What a check of its pixels against its metadata found.
        transform: Where pixels lie, as the (a, b, c, d, e, f) of an affine transform from
            (column, row) to (x, y), for files that do not say it themselves; it takes the
            place of theirs.
    """

    id: str
    layers: tuple[SceneBand, ...]
    crs: str
    nodata: float | None
    scale: float = 1.0
    offset: float = 0.0
    resampling: str = "nearest"
    footprint: tuple[float, float, float, float] | None = None
    time: str | None = None
    cloud_cover: float | None = None
    verdict: str = ""
    transform: tuple[float, float, float, float, float, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        where = f"Scene {self.id!r}"
        if not self.layers or len(set(self.bands)) != len(self.layers):
            raise SpecError(f"{where}: bands must be named, once each: {self.bands}.")
        for name in ("scale", "offset"):
            _set_float(self, name)
        _check_resampling(where, self.resampling)
        _check_packing(where, self.scale, self.offset)
        if self.time is not None:
            object.__setattr__(self, "time", utc(self.time, what=where))
        if self.transform is not None:
            _check_transform(where, self.transform)
        _check_nodata(where, self.nodata)
        if self.cloud_cover is not None and not 0 <= self.cloud_cover <= 1:
            raise SpecError(
                f"{where}: cloud_cover is a share, 0..1. Received {self.cloud_cover!r}; divide "
                f"percent by 100."
            )

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands in order."""
        return tuple(layer.name for layer in self.layers)

    @property
    def units(self) -> tuple[str, ...]:
        """Units of the bands in order; empty where nobody says."""
        return tuple(layer.units for layer in self.layers)

    def band(self, name: str) -> SceneBand:
        """The band of that name, with everything that it has from the scene.

        Raises:
            SpecError: There is none.
        """
        for layer in self.layers:
            if layer.name == name:
                return replace(
                    layer,
                    nodata=self.nodata if layer.nodata == "scene" else layer.nodata,
                    scale=self.scale if layer.scale is None else layer.scale,
                    offset=self.offset if layer.offset is None else layer.offset,
                    resampling=layer.resampling or self.resampling,
                )
        raise SpecError(f"Scene {self.id!r} has no band {name!r}. It has: {', '.join(self.bands)}.")

    def select(self, bands: Sequence[str]) -> Scene:
        """The same scene with these bands alone, in this order.

        Raises:
            SpecError: It lacks one of them.
        """
        by_name = {layer.name: layer for layer in self.layers}
        missing = [band for band in bands if band not in by_name]
        if missing:
            raise SpecError(
                f"Scene {self.id!r} has no band {', '.join(map(repr, missing))}. "
                f"It has: {', '.join(self.bands)}."
            )
        return replace(self, layers=tuple(by_name[band] for band in bands))

    def read(self, grid: GeoBox, rows: Span, cols: Span) -> npt.NDArray[np.floating[Any]]:
        """See :meth:`Source.read`."""
        from cube.warp import read_scene

        return read_scene(self, grid, rows, cols)

    def check(self, grid: GeoBox) -> None:
        """See :meth:`Source.check`."""
        from cube.footprints import check_overlap

        check_overlap(self, grid)

    def needs(self, grid: GeoBox, rows: Span, cols: Span) -> Needs:
        """What a box takes; see :class:`Needs`."""
        from cube.coordinates import check_crs, same_crs

        check_crs(self.crs, grid, what=repr(self.id))
        pixels = (rows[1] - rows[0]) * (cols[1] - cols[0])
        # Places of pixels in the file, of this box and the last ones, and ends of boxes.
        beside = 0 if same_crs(self.crs, grid) else _PLACE_BYTES
        return Needs(
            read_bytes=4 * pixels * len(self.layers),
            peak_bytes=pixels * beside,
            opens=len({layer.href for layer in self.layers}),
        )

    def describe(self) -> dict[str, Any]:
        """See :meth:`Source.describe`; files by their name alone."""
        data = {name: getattr(self, name) for name in _ALWAYS}
        data["nodata"] = _nodata_text(self.nodata)
        data["layers"] = [_layer_facts(layer) for layer in self.layers]
        return data | {name: getattr(self, name) for name in _SOMETIMES if getattr(self, name)}


_PLACE_BYTES = 64

_SOMETIMES = ("time", "transform")
_ALWAYS = ("id", "crs", "scale", "offset", "resampling", "footprint")
_BAND_DEFAULTS = {field.name: field.default for field in fields(SceneBand)}


def _layer_facts(layer: SceneBand) -> dict[str, Any]:
    """What is said of a band; what it leaves out leaves no trace."""
    facts = {"name": layer.name, "href": file_name(layer.href), "index": layer.index}
    for name, default in _BAND_DEFAULTS.items():
        value = getattr(layer, name)
        if name not in facts and value != default:
            facts[name] = _nodata_text(value) if name == "nodata" else value
    return facts


def _nodata_text(nodata: float | str | None) -> str | None:
    return nodata if nodata is None or isinstance(nodata, str) else repr(float(nodata))


def file_name(href: str) -> str:
    """Last part of a path or URL, without a query, which may hold a signature."""
    path = href.partition("?")[0] if "://" in href else href
    return path.rstrip("/").rpartition("/")[2]


def utc(time: str | datetime, *, what: str) -> str:
    """A moment as ISO 8601 in UTC with a trailing ``Z``, to the second.

    Args:
        time: ISO 8601, or a datetime; without a zone it is taken as UTC.
        what: Whose it is, for the message.

    Raises:
        SpecError: It is no moment.
    """
    try:
        moment = datetime.fromisoformat(time) if isinstance(time, str) else time
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise SpecError(
            f"{what}: time must be ISO 8601, such as 2018-06-01T10:30:00Z. Received {time!r}."
        ) from error
    return moment.replace(tzinfo=None, microsecond=0).isoformat() + "Z"


def _set_float(spec: object, name: str) -> None:
    """One spelling of a number (1.0, never 1), or equal scenes would have two digests."""
    value = getattr(spec, name)
    if value is not None:
        object.__setattr__(spec, name, float(value) + 0.0)  # and never -0.0


def _check_nodata(where: str, nodata: object) -> None:
    if nodata is not None and (isinstance(nodata, bool) or not isinstance(nodata, Real)):
        raise SpecError(f"{where}: nodata must be a number, or None. Received {nodata!r}.")


def _check_resampling(where: str, resampling: str | None) -> None:
    if resampling is not None and resampling not in RESAMPLING:
        raise SpecError(
            f"{where}: resampling must be one of {', '.join(RESAMPLING)}. Received {resampling!r}."
        )


def _check_packing(where: str, scale: float | None, offset: float | None) -> None:
    finite = all(math.isfinite(value) for value in (scale, offset) if value is not None)
    if not finite or scale == 0:
        raise SpecError(f"{where}: scale and offset must be finite, scale not 0.")


def _check_transform(where: str, transform: tuple[float, ...]) -> None:
    finite = len(transform) == 6 and all(map(math.isfinite, transform))
    if not finite or transform[0] * transform[4] == transform[1] * transform[3]:
        raise SpecError(
            f"{where}: a transform has six finite numbers (a, b, c, d, e, f), and an area. "
            f"Received {transform!r}."
        )


def _check_range(where: str, name: str, span: tuple[float, float] | None) -> None:
    if span is not None and not span[0] < span[1]:
        raise SpecError(f"{where}: {name} must be (lowest, highest). Received {span!r}.")


class PixelReader(Protocol):
    """How pixels of scenes are got; must pickle, and be safe in threads."""

    def read(
        self,
        scenes: Sequence[Scene],
        bands: Sequence[str],
        grid: GeoBox,
        rows: Span,
        cols: Span,
    ) -> npt.NDArray[np.floating[Any]]:
        """Physical values of some bands of some scenes.

        Returns:
            Floats of shape (scene, band, rows, cols), NaN where nothing was observed.

        Raises:
            PartialError: Some of the scenes cannot be read; it names each with its reason.
        """
        ...


@dataclass(frozen=True, slots=True)
class FileReader:
    """Pixels of scenes file by file; see :class:`PixelReader`."""

    def read(
        self, scenes: Sequence[Scene], bands: Sequence[str], grid: GeoBox, rows: Span, cols: Span
    ) -> npt.NDArray[np.floating[Any]]:
        """See :meth:`PixelReader.read`."""
        import numpy as np

        from cube.warp import read_scene

        found, lost = [], dict[str, str]()
        for scene in scenes:
            try:
                found.append(read_scene(scene, grid, rows, cols, bands))
            except SourceError as error:
                lost[scene.id] = str(error)
        if lost:
            raise PartialError.of(lost)
        return found[0][None] if len(found) == 1 else np.stack(found)
