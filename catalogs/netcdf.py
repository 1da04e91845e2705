"""Scenes from NetCDF files, one for each time."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from rasterio.errors import NotGeoreferencedWarning

from catalogs.geotiff import bounds_of, check_placed, known_crs, layers_of
from cube.errors import SourceError, SpecError
from cube.rasters import with_raster
from cube.scenes import Scene, SceneBand, utc

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

    from catalogs.manifest import Manifest


def scenes_from_netcdf(  # noqa: PLR0913  (each says what a file may leave out)
    path: str | os.PathLike[str],
    *,
    bands: Sequence[str] | Mapping[str, str] | None = None,
    crs: str | None = None,
    nodata: float | Literal["none"] | None = None,
    resampling: str | Mapping[str, str] = "nearest",
    scale: float | None = None,
    offset: float | None = None,
    quality: Sequence[str] = (),
) -> Manifest:
    """A scene for every time of a NetCDF file; its pixels are not read.

    Bands are the variables with dimensions (time, y, x), and the layers of those with
    (time, band, y, x), which are called ``<variable>_<number>``, from 1.

    Args:
        path: The file, NetCDF-3 or NetCDF-4, with evenly spaced x and y.
        bands: Which of them, in order, or a mapping of their names to others; None takes all, in
            the file's order.
        crs: What the CRS really is, where the file's grid mapping does not say.
        nodata: See :func:`catalogs.geotiff`; None takes ``_FillValue`` or ``missing_value`` of
            each variable.
        resampling: See :func:`catalogs.geotiff`.
        scale: ``physical = stored * scale + offset``; None takes ``scale_factor`` of each
            variable.
        offset: See ``scale``; None takes ``add_offset``.
        quality: Bands of classes or flags; see :func:`catalogs.geotiff`.

    Returns:
        The scenes, called after the file and their moment.

    Raises:
        SourceError: The file is missing, damaged, or does not say its times, place, CRS or
            nodata; or its bands differ in them.
        SpecError: It has no band of that name.
    """
    from catalogs.manifest import Manifest

    name = os.fspath(path)
    _check_whole(Path(name))
    with warnings.catch_warnings():
        # The file has no place of its own; its bands do.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        hrefs = _hrefs(Path(name).absolute())
        found = {v.name: v for href in hrefs for v in _variables(href, crs)}
    chosen = _chosen(found, bands, name)
    times = _times(chosen, name)
    packing = _Packing(nodata=nodata, scale=scale, offset=offset, quality=tuple(quality))
    first = next(iter(chosen.values()))
    scenes = []
    for i, time in enumerate(times):
        layers = layers_of(
            [(band, v.href, v.first + i * v.step) for band, v in chosen.items()],
            resampling=resampling,
            quality=packing.quality,
        )
        scenes.append(
            Scene(
                id=f"{Path(name).stem}_{_stamp(time)}",
                layers=tuple(packing.of(layer, chosen[layer.name], name=name) for layer in layers),
                crs=first.crs,
                nodata=None,
                resampling=resampling if isinstance(resampling, str) else "nearest",
                footprint=first.footprint,
                time=time,
            )
        )
    return Manifest(scenes=tuple(scenes), excluded={})


_CALENDARS = ("standard", "gregorian", "proleptic_gregorian")
_CLASSIC = (b"CDF\x01", b"CDF\x02")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variable:
    """What becomes a band: a variable, or one layer of it.

    Attributes:
        name: Of the variable, with the layer's number where it has layers.
        href: As GDAL opens it.
        first: Its place in the file at the first time, from 1.
        step: Places from one time to the next.
        numbers: Times as stored, each as GDAL writes it.
        since: Units of the times.
        calendar: Calendar of the times.
        nodata: What the file declares; None if nothing.
        others: Further values that it declares to be missing.
    """

    name: str
    href: str
    first: int
    step: int
    numbers: tuple[str, ...]
    since: str
    calendar: str
    crs: str
    footprint: tuple[float, float, float, float]
    nodata: float | None
    others: tuple[float, ...]
    scale: float
    offset: float
    valid_range: tuple[float, float] | None
    units: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packing:
    """What the caller says of stored numbers, and what the file says where he does not."""

    nodata: float | Literal["none"] | None
    scale: float | None
    offset: float | None
    quality: tuple[str, ...]

    def of(self, layer: SceneBand, variable: _Variable, *, name: str) -> SceneBand:
        """A band with what holds for its stored numbers."""
        band = replace(layer, valid_range=variable.valid_range, units=variable.units)
        if layer.name in self.quality:
            return replace(band, nodata=variable.nodata)
        return replace(
            band,
            nodata=self._nodata(variable, name),
            scale=variable.scale if self.scale is None else self.scale,
            offset=variable.offset if self.offset is None else self.offset,
        )

    def _nodata(self, variable: _Variable, name: str) -> float | None:
        if self.nodata == "none":
            return None
        value = variable.nodata if self.nodata is None else float(self.nodata)
        if self.nodata is None and variable.others:
            raise SourceError(
                f"{name!r}: variable {variable.name!r} declares several missing values, {value:g} "
                f"and {', '.join(f'{other:g}' for other in variable.others)}; a band has one. "
                f"Write one of them for all, or give nodata= if the others do not occur."
            )
        if value is None:
            raise SourceError(
                f"{name!r}: variable {variable.name!r} declares no _FillValue; give nodata=, or "
                f"nodata='none' if every pixel is an observation."
            )
        return value


def _check_whole(path: Path) -> None:
    """Refuse what is missing, and a NetCDF-3 file cut short, whose rest would read as zeros."""
    from scipy.io import netcdf_file

    if not path.is_file():
        raise SourceError(f"There is no file {str(path)!r}.")
    with path.open("rb") as file:
        if file.read(4) not in _CLASSIC:
            return
    try:
        # Its variables are mapped, not read; those that reach beyond the file cannot be.
        with path.open("rb") as file:
            netcdf_file(file, mmap=True).close()
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        raise SourceError(f"{str(path)!r} is damaged or truncated. Fetch it again.") from error


def _hrefs(path: Path) -> list[str]:
    """Every variable of two dimensions or more, as GDAL opens it."""

    def read(raster: DatasetReader) -> list[str]:
        if raster.driver != "netCDF":
            raise SourceError(f"{str(path)!r} is a {raster.driver}; expected NetCDF.")
        names = [href.rpartition(":")[2] for href in raster.subdatasets]
        if not names and raster.count:
            names = [raster.tags(1)["NETCDF_VARNAME"]]
        return [_href(path, name) for name in names]

    return with_raster(str(path), read, what="NetCDF")


def _href(path: Path, name: str) -> str:
    quoted = f'"{path}"' if ":" in str(path) else str(path)
    return f"netcdf:{quoted}:{name}"


def _variables(href: str, crs: str | None) -> list[_Variable]:
    """The layers of a variable; none if it has no dimension of time beside y and x."""
    return with_raster(href, lambda raster: _layers(raster, href, crs), what="NetCDF")


def _layers(raster: DatasetReader, href: str, crs: str | None) -> list[_Variable]:
    tags = raster.tags()
    extra = _listed(tags.get("NETCDF_DIM_EXTRA", ""))
    clocks = [dim for dim in extra if " since " in tags.get(f"{dim}#units", "")]
    if len(clocks) != 1 or len(extra) > 2:
        return []
    check_placed(raster)
    numbers = tuple(_listed(tags[f"NETCDF_DIM_{clocks[0]}_VALUES"]))
    name, count = href.rpartition(":")[2], raster.count // len(numbers)
    apart = 1 if extra[-1] != clocks[0] else len(numbers)
    own = raster.tags(1)
    facts = _Variable(
        name=name,
        href=href,
        first=1,
        step=count if apart == 1 else 1,
        numbers=numbers,
        since=tags[f"{clocks[0]}#units"],
        calendar=tags.get(f"{clocks[0]}#calendar", "standard").lower(),
        crs=known_crs(raster, crs),
        footprint=bounds_of(raster),
        # Where the file declares none, GDAL gives the one that writers leave in unwritten pixels.
        nodata=raster.nodata if {"_FillValue", "missing_value"} & set(own) else None,
        others=_others(own, raster.nodata),
        scale=raster.scales[0],
        offset=raster.offsets[0],
        valid_range=_valid_range(own),
        units=raster.units[0] or "",
    )
    if len(extra) == 1:
        return [facts]
    return [replace(facts, name=f"{name}_{i + 1}", first=1 + i * apart) for i in range(count)]


def _listed(text: str) -> list[str]:
    """What GDAL writes as ``{1,2,3}``."""
    return [part for part in text.strip("{}").split(",") if part]


def _others(tags: Mapping[str, str], nodata: float | None) -> tuple[float, ...]:
    """What CF's missing_value declares beside nodata."""
    stated = [float(text) for text in _listed(tags.get("missing_value", ""))]
    return tuple(value for value in stated if repr(value) != repr(nodata))


def _valid_range(tags: Mapping[str, str]) -> tuple[float, float] | None:
    """CF's valid_range, or valid_min and valid_max, of stored numbers."""
    ends = _listed(tags.get("valid_range", ""))
    ends = ends or [tags.get("valid_min", "-inf"), tags.get("valid_max", "inf")]
    lowest, highest = map(float, ends)
    return None if (lowest, highest) == (-np.inf, np.inf) else (lowest, highest)


def _chosen(
    found: Mapping[str, _Variable], bands: Sequence[str] | Mapping[str, str] | None, name: str
) -> dict[str, _Variable]:
    """Bands by their names, in order."""
    if not found:
        raise SourceError(
            f"{name!r} has no variable with dimensions (time, y, x) whose time has units such as "
            f"'days since 2000-01-01'."
        )
    names = list(found if bands is None else bands)
    renamed = dict(bands) if isinstance(bands, Mapping) else dict(zip(names, names, strict=True))
    unknown = [band for band in renamed if band not in found]
    if unknown or isinstance(bands, str) or not renamed:
        raise SpecError(
            f"{name!r} has the bands {', '.join(found)}; bands= must name some of them. "
            f"Received {bands!r}."
        )
    chosen = {str(to): found[band] for band, to in renamed.items()}
    crs = {variable.crs for variable in chosen.values()}
    if len(crs) > 1:
        raise SourceError(f"{name!r}: its variables have different CRSs; give crs= or bands=.")
    return chosen


def _times(chosen: Mapping[str, _Variable], name: str) -> list[str]:
    """The moments that all bands share, ISO 8601 in UTC."""
    clocks = {(v.numbers, v.since, v.calendar): band for band, v in chosen.items()}
    if len(clocks) > 1:
        raise SourceError(
            f"{name!r}: bands {' and '.join(map(repr, clocks.values()))} have different times; "
            f"read them one by one, with bands=."
        )
    (numbers, since, calendar), _ = clocks.popitem()
    times = _decoded(np.array(numbers, float), since, calendar, name)
    steps = np.diff(times)
    if (steps <= np.timedelta64(0)).any():
        place = int(np.argmax(steps <= np.timedelta64(0))) + 1
        raise SourceError(
            f"{name!r}: times must increase; number {place + 1} is {times[place]}, after "
            f"{times[place - 1]}. Sort them, and take out what is double."
        )
    return [utc(str(time), what=name) for time in times]


def _decoded(
    numbers: npt.NDArray[np.float64], since: str, calendar: str, name: str
) -> npt.NDArray[np.datetime64]:
    import xarray as xr

    if calendar not in _CALENDARS:
        raise SourceError(
            f"{name!r}: its times have the calendar {calendar!r}; expected one of real days, "
            f"{', '.join(_CALENDARS)}."
        )
    clock = xr.Dataset({"time": ("time", numbers, {"units": since, "calendar": calendar})})
    try:
        times = xr.decode_cf(clock)["time"].values
    except (ValueError, OverflowError, ImportError) as error:
        raise SourceError(f"{name!r}: its times, in {since!r}, cannot be read.") from error
    if np.isnat(times).any():
        raise SourceError(f"{name!r}: a time is missing; every step needs one.")
    # Fractions of days come out a rounding short of the second that was meant.
    return (times + np.timedelta64(500, "ms")).astype("M8[s]")


def _stamp(time: str) -> str:
    """A moment for an id: 20180601, or 20180601T103000."""
    return re.sub(r"[-:Z]", "", time).removesuffix("T000000")
