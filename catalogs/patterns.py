"""Scenes from folders of files, found by a pattern of their names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from catalogs.geotiff import geotiff, layers_of
from catalogs.vrt import check_vrt
from cube.errors import SourceError, SpecError
from cube.scenes import Scene

if TYPE_CHECKING:
    from catalogs.manifest import Manifest

_FIELDS = {
    "year": r"\d{4}",
    "month": r"\d{2}",
    "day": r"\d{2}",
    "date": r"\d{4}-\d{2}-\d{2}|\d{8}|\d{7}",
    "time": r"\d{6}",
}
"""Fields of a moment; any other stands for a part of a name."""

_WORD = r"([A-Za-z0-9]*)\{(band|part)\}([A-Za-z0-9]*)"
_TOKEN = re.compile(rf"{_WORD}|\{{[^{{}}]*\}}|(?<![^/])\*\*/|\*+|.", re.DOTALL)
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_NEEDS = {"month": "year", "day": "month", "time": "day"}
_SEPARATORS = "_-. /"


@dataclass(frozen=True, slots=True)
class Pattern:
    """Names of files below a folder, such as ``"{year}/{band}.tif"``.

    =========== ===================================================================
    ``{date}``  ``20180601``, ``2018-06-01`` or ``2018152``, the day of the year
    ``{year}``  four digits; alone they mean the first moment of that year
    ``{month}`` two digits, beside a year
    ``{day}``   two digits, beside a month
    ``{time}``  ``103000``, in UTC, beside a day
    ``{band}``  in which the files of one scene differ
    ``{part}``  in which they differ too, and which says nothing: ``R{part}/*_{band}.jp2``
    ``{tile}``  or any other name in lower case: a part of the scene's id
    ``*``       anything within a name
    ``**/``     any folders, or none
    =========== ===================================================================

    A field that stands twice must read the same twice. Each takes as little as it can, from left
    to right, so ``*_{date}_*`` takes the first date of a name.

    Attributes:
        text: Relative to a folder, with ``/`` between names.
    """

    text: str
    _regex: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        text = self.text
        if not text or text.startswith("/") or "\\" in text or ".." in text.split("/"):
            raise SpecError(
                f"A pattern is relative to its folder, with / between names and without '..'. "
                f"Received {text!r}."
            )
        object.__setattr__(self, "_regex", re.compile(_regex(text)))
        fields = set(self._regex.groupindex)
        for small, large in _NEEDS.items():
            if small in fields and not fields & {large, "date"}:
                raise SpecError(f"Pattern {text!r}: {{{small}}} needs {{{large}}} beside it.")

    @property
    def has_band(self) -> bool:
        """True if every band has a file of its own."""
        return "band" in self._regex.groupindex

    def match(self, name: str) -> tuple[str, dict[str, str]] | None:
        """Id of the scene of a file, and what the fields read; None for another name.

        The id is the name without its extension and without the words that hold the band or the
        part, such as ``B4`` for ``B{band}``.
        """
        found = self._regex.fullmatch(name)
        if found is None:
            return None
        texts = found.groupdict()
        words = [found.span(key) for key in texts if key.startswith("WORD")]
        fields = {key: text for key, text in texts.items() if not key.startswith("WORD")}
        return _without(name, words), fields


def scenes_from_files(  # noqa: PLR0913  (each says what files may leave out)
    folder: str | os.PathLike[str],
    pattern: str,
    *,
    bands: Sequence[str] | Mapping[str, str] | None = None,
    nodata: float | Literal["none"] | None = None,
    crs: str | None = None,
    resampling: str | Mapping[str, str] = "nearest",
    scale: float = 1.0,
    offset: float = 0.0,
    quality: Sequence[str] = (),
) -> Manifest:
    """Scenes of the files of a folder; their metadata is checked, their pixels are not read.

    Links to files are followed, wherever they lead; links to folders are not. A virtual raster
    passes if it is a mosaic of files inside the folder.

    Args:
        folder: Where to look.
        pattern: Names of the files below it; see :class:`Pattern`.
        bands: With ``{band}`` in the pattern: what stands there, as a list of the bands to take
            and their order, or as a mapping to their names, ``{"4": "red", "3": "green"}``; None
            takes all there are, by alphabet. Without: the names of all bands of a file, in the
            file's order.
        nodata: See :func:`catalogs.geotiff`; bands of ``quality`` keep their files' own.
        crs: See :func:`catalogs.geotiff`.
        resampling: See :func:`catalogs.geotiff`.
        scale: ``physical = stored * scale + offset``.
        offset: See ``scale``.
        quality: Bands of classes or flags; see :func:`catalogs.geotiff`.

    Returns:
        The scenes. Excluded, with the reason, are those that lack a band, have two files for
        one, whose date is none, whose files have different CRSs, or of which a file is refused
        by :func:`catalogs.geotiff`.

    Raises:
        SourceError: There is no such folder, no file of it matches, or no scene can be used.
        SpecError: The pattern is none, or ``bands`` do not fit it.
    """
    from catalogs.manifest import Manifest

    place, names = Path(folder), Pattern(pattern)
    groups = _found(place, names)
    chosen = _chosen(bands, names, groups)
    options: dict[str, Any] = {"nodata": nodata, "crs": crs, "scale": scale, "offset": offset}
    options |= {"resampling": resampling, "quality": tuple(quality)}
    scenes, excluded = [], {}
    for id_, files in groups.items():
        try:
            for file in files:
                check_vrt(file.path, place)
            time = moment_of(files[0].fields)
            make = _of_bands if names.has_band else _of_one
            scenes.append(replace(make(id_, files, chosen, options), time=time))
        except SourceError as error:
            excluded[id_] = str(error).replace(f"{place.absolute()}{os.sep}", "")
    if not scenes:
        id_, reason = next(iter(excluded.items()))
        raise SourceError(f"None of {len(excluded)} scenes can be used. {id_}: {reason}")
    return Manifest(scenes=tuple(scenes), excluded=excluded)


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A file that matches, and what the fields of the pattern read in its name."""

    path: Path
    fields: Mapping[str, str]


def _found(folder: Path, pattern: Pattern) -> dict[str, list[_File]]:
    """Files by the id of their scene; both in the order of their names."""
    if not folder.is_dir():
        raise SourceError(f"There is no folder {str(folder)!r}.")
    folder = folder.absolute()
    names = sorted(
        Path(base, name).relative_to(folder).as_posix()
        for base, _, files in os.walk(folder)
        for name in files
    )
    groups: dict[str, list[_File]] = {}
    for name in names:
        if match := pattern.match(name):
            file = _File(path=folder / name, fields=match[1])
            groups.setdefault(match[0] or folder.name, []).append(file)
    if not groups:
        there = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise SourceError(
            f"No file below {str(folder)!r} matches {pattern.text!r}; "
            f"there is {there or 'none at all'}."
        )
    return groups


def _chosen(
    bands: Sequence[str] | Mapping[str, str] | None,
    pattern: Pattern,
    groups: Mapping[str, Sequence[_File]],
) -> dict[str, str]:
    """What stands in a name, or in a file, to the name of the band; in the order of bands."""
    if bands is None and pattern.has_band:
        bands = sorted({file.fields["band"] for files in groups.values() for file in files})
    if bands is None or isinstance(bands, str) or not bands:
        raise SpecError(
            f"bands= must name the bands, as a list in the file's order. Received {bands!r}."
        )
    if isinstance(bands, Mapping):
        if not pattern.has_band:
            raise SpecError(
                f"Pattern {pattern.text!r} has no {{band}} to look up; give bands= as a list, in "
                f"the file's order."
            )
        return dict(bands)
    if len(set(bands)) != len(bands):
        raise SpecError(f"bands= must name each band once. Received {list(bands)}.")
    return {band: band for band in bands}


def _of_one(
    id_: str, files: Sequence[_File], chosen: Mapping[str, str], options: Mapping[str, Any]
) -> Scene:
    if len(files) > 1:
        raise SourceError(
            f"It has {len(files)} files, {_names(files)}; put what tells them apart into the "
            f"pattern, as a {{field}}."
        )
    return geotiff(files[0].path, bands=list(chosen), id=id_, **options)


def _of_bands(
    id_: str, files: Sequence[_File], chosen: Mapping[str, str], options: Mapping[str, Any]
) -> Scene:
    """One scene of a file per band."""
    parts = {
        band: _of_one(
            id_,
            [file],
            {band: band},
            {**options, "resampling": "nearest"} | _own(band, options),
        )
        for band, file in _by_band(files, chosen).items()
    }
    return _joined(id_, parts, options)


def _own(band: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a file of one band: flags have no nodata but their file's own."""
    flags = band in options["quality"]
    return {"quality": (band,), "nodata": None} if flags else {"quality": ()}


def _by_band(files: Sequence[_File], chosen: Mapping[str, str]) -> dict[str, _File]:
    """The one file of each band, in the order of bands."""
    found: dict[str, list[_File]] = {band: [] for band in chosen.values()}
    for file in files:
        if file.fields["band"] in chosen:
            found[chosen[file.fields["band"]]].append(file)
    missing = [band for band, those in found.items() if not those]
    if missing:
        raise SourceError(f"It has no file of band {', '.join(missing)}; there is {_names(files)}.")
    for band, those in found.items():
        if len(those) > 1:
            raise SourceError(f"It has {len(those)} files of band {band}: {_names(those)}.")
    return {band: those[0] for band, those in found.items()}


def _names(files: Sequence[_File]) -> str:
    return ", ".join(file.path.name for file in files)


def _joined(id_: str, parts: Mapping[str, Scene], options: Mapping[str, Any]) -> Scene:
    """Scenes of one band each as one."""
    crs = {part.crs: band for band, part in parts.items()}
    if len(crs) > 1:
        said = ", ".join(f"{_short(name)} ({band})" for name, band in crs.items())
        raise SourceError(f"Its files have different CRSs: {said}. Warp them onto one first.")
    first = next(iter(parts.values()))
    layers = layers_of(
        [(band, part.layers[0].href, 1) for band, part in parts.items()],
        resampling=options["resampling"],
        quality=options["quality"],
    )
    return replace(
        first,
        layers=tuple(
            layer if _same(part.nodata, first.nodata) else replace(layer, nodata=part.nodata)
            for layer, part in zip(layers, parts.values(), strict=True)
        ),
        resampling=first.resampling
        if isinstance(options["resampling"], Mapping)
        else options["resampling"],
        footprint=_around([part.footprint for part in parts.values()]),
    )


def _same(one: float | None, other: float | None) -> bool:
    return one == other or repr(one) == repr(other)  # NaN is NaN


def _short(crs: str) -> str:
    return crs if len(crs) < 40 else f"{crs[:36]}..."


def _around(footprints: Sequence[Any]) -> Any:
    """Bounds that hold all bounds."""
    left, bottom, right, top = zip(*footprints, strict=True)
    return min(left), min(bottom), max(right), max(top)


def moment_of(fields: Mapping[str, str]) -> str | None:
    """The moment that a name says, ISO 8601 in UTC; None if it says none.

    What a name leaves out is the first: month 1, day 1, midnight.

    Args:
        fields: As :class:`Pattern` has them.

    Raises:
        SourceError: There is no such day or time, or two fields contradict each other.
    """
    said = " ".join(fields[name] for name in (*_FIELDS,) if name in fields)
    if not {"date", "year"} & set(fields):
        return None
    try:
        day = _day(fields)
        clock = datetime.strptime(fields.get("time", "000000"), "%H%M%S").time()
    except ValueError as error:
        raise SourceError(f"{said} is no moment; expected a day that exists.") from error
    return datetime.combine(day, clock).isoformat() + "Z"


def _day(fields: Mapping[str, str]) -> datetime:
    parts = {name: int(fields[name]) for name in ("year", "month", "day") if name in fields}
    if "date" not in fields:
        return datetime(parts["year"], parts.get("month", 1), parts.get("day", 1))
    text = fields["date"].replace("-", "")
    day = datetime.strptime(text, "%Y%j" if len(text) == 7 else "%Y%m%d")
    parts["year"] = parts.get("year", int(text[:4]))  # day 366 of a common year is in the next
    if any(getattr(day, name) != value for name, value in parts.items()):
        raise ValueError("The fields contradict each other.")
    return day


def _regex(text: str) -> str:
    known: set[str] = set()
    return "".join(_part(token, text, known) for token in _TOKEN.finditer(text))


def _part(found: re.Match[str], text: str, known: set[str]) -> str:
    """What a token of a pattern matches; ``known`` are the fields so far."""
    token = found[0]
    before, field, after = found.groups()
    if field:
        inner = re.escape(before) + _field(field, known) + re.escape(after)
        return f"(?P<WORD{found.start()}>{inner})"
    if token == "**/":
        return "(?:[^/]+/)*?"
    if token == "*":
        return "[^/]*?"
    if _NAME.fullmatch(token[1:-1]) and token[0] == "{":
        return _field(token[1:-1], known)
    if token[0] in "{}*":
        raise SpecError(
            f"Pattern {text!r}: {token!r} is no part of one. There are {{fields}} in lower case, "
            f"* within a name, and **/ for folders."
        )
    return re.escape(token)


def _field(name: str, known: set[str]) -> str:
    if name in known:
        return f"(?P={name})"
    known.add(name)
    return f"(?P<{name}>{_FIELDS.get(name, '[^/]+?')})"


def _without(name: str, words: Sequence[tuple[int, int]]) -> str:
    """A name without its extension and without some words."""
    stem = os.path.splitext(name)[0]
    if not words:
        return stem
    kept, left = "", 0
    for start, end in (*words, (len(stem), len(stem))):
        kept = kept.rstrip(_SEPARATORS) + stem[left:start]
        left = end
    return kept.strip(_SEPARATORS)
