"""The scenes of an ingest as a file: the same file, the same cube.

A manifest is JSON with one scene a line, so that differences between two can be read, and so that
very long ones are read without holding their text in memory.
"""

from __future__ import annotations

import difflib
import gzip
import hashlib
import io
import itertools
import json
import math
import os
import tempfile
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from catalogs.signatures import without_signature
from catalogs.tables import manifest_html
from cube.errors import SourceError, SpecError
from cube.quality import Quality
from cube.scenes import PixelReader, Scene, SceneBand, utc
from cube.scoring import Score
from cube.seasons import Season
from cube.spec import Period, to_json

if TYPE_CHECKING:
    from cube.composites import Composite

FORMAT_VERSION = 1
"""Of the file; readers refuse newer ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Scenes, and what was left out of them.

    Attributes:
        scenes: Kept sorted by time, then id; those without a time come first. Ids are unique.
        excluded: Id to reason, kept sorted; ids of no scene.
        title: One line for people.
        through: What reads the pixels: ``"rasterio"``, or ``"stackstac"`` as for scenes of STAC.
            They are the same either way.
    """

    scenes: tuple[Scene, ...] = ()
    excluded: Mapping[str, str] = field(default_factory=dict)
    title: str = ""
    through: str = "rasterio"

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.scenes, key=lambda scene: (scene.time or "", scene.id)))
        object.__setattr__(self, "scenes", ordered)
        object.__setattr__(self, "excluded", dict(sorted(self.excluded.items())))
        if self.through not in _READERS:
            raise SpecError(
                f"Pixels are read through {' or '.join(_READERS)}. Received {self.through!r}."
            )
        ids = [*(scene.id for scene in ordered), *self.excluded]
        if len(set(ids)) < len(ids):
            twice = sorted(key for key, group in itertools.groupby(sorted(ids)) if _several(group))
            raise SpecError(
                f"Ids of a manifest must be unique. Received twice: {_listed(twice)}. "
                f"Leave one of each out."
            )

    def __len__(self) -> int:
        return len(self.scenes)

    def __repr__(self) -> str:
        times = [scene.time[:10] for scene in self.scenes if scene.time]
        span = f", {times[0]} to {times[-1]}" if times else ""
        left_out = f", {len(self.excluded)} excluded" if self.excluded else ""
        return f"<Manifest {self.title!r}: {len(self)} scenes{span}{left_out}, {self.digest}>"

    def _repr_html_(self) -> str:
        times = [scene.time for scene in self.scenes]
        return manifest_html(self.title, times, self.excluded)

    @property
    def digest(self) -> str:
        """First 12 hex digits of the SHA-256 of its canonical JSON.

        Of what the scenes say of their pixels, with files by name, and of the ids excluded;
        not of the title or of the reasons.
        """
        sha = hashlib.sha256(f'{{"excluded":{to_json(list(self.excluded))},"scenes":['.encode())
        for i, scene in enumerate(self.scenes):
            sha.update(f"{',' if i else ''}{to_json(scene.describe())}".encode())
        sha.update(b"]}")
        return sha.hexdigest()[:12]

    # ---------------------------------------------------------------------------------- choosing
    def exclude(self, reasons: Mapping[str, str]) -> Manifest:
        """The same without some scenes, for good.

        Args:
            reasons: Id to reason; ids that are excluded already take the new one.

        Raises:
            SpecError: There is no such scene.
        """
        known = {*(scene.id for scene in self.scenes), *self.excluded}
        for name in reasons:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=3)
                raise SpecError(
                    f"The manifest has no scene {name!r}. "
                    f"{'Did you mean ' + ', '.join(near) + '?' if near else 'None is like it.'}"
                )
        kept = tuple(scene for scene in self.scenes if scene.id not in reasons)
        return replace(self, scenes=kept, excluded={**self.excluded, **reasons})

    def between(self, start: str, end: str) -> Manifest:
        """The scenes with start <= time < end, ISO 8601; what was excluded stays.

        Raises:
            SpecError: One of them is no moment.
        """
        first, last = utc(start, what="Start"), utc(end, what="End")
        return replace(self, scenes=self._span(first, last))

    def season(self, season: Season) -> Manifest:
        """The scenes of a season; what was excluded stays."""
        kept = tuple(scene for scene in self.scenes if scene.time and season.holds(scene.time))
        return replace(self, scenes=kept)

    def select(self, bands: Sequence[str]) -> Manifest:
        """The same scenes with these bands alone, in this order.

        Raises:
            SpecError: A scene lacks one of them.
        """
        return replace(self, scenes=tuple(scene.select(bands) for scene in self.scenes))

    def _span(self, start: str, end: str) -> tuple[Scene, ...]:
        """Scenes with start <= time < end, moments as scenes write them, or days."""
        first, last = (
            bisect_left(self.scenes, moment, key=lambda scene: scene.time or "")
            for moment in (start, end)
        )
        return self.scenes[first:last]

    def sources(  # noqa: PLR0913  (what a composite is)
        self,
        calendar: Iterable[Period],
        *,
        bands: Sequence[str],
        method: str = "median",
        quality: Quality | None = None,
        score: Score | None = None,
        season: Season | None = None,
        reader: PixelReader | None = None,
        dtype: str = "float32",
    ) -> dict[str, Composite]:
        """A composite for each period, as :func:`cube.ingest` takes them.

        Args:
            calendar: Periods.
            bands: Of the composites, in order.
            method: How several observations become one; see :mod:`cube.composites`.
            quality: How bad pixels are told; see :mod:`cube.quality`.
            score: For the method ``"best"``: what is best; see :mod:`cube.scoring`.
            season: Take only scenes of these days of the year.
            reader: How pixels are got, such as a :class:`catalogs.stacking.StackReader` that
                signs; None as ``through`` says.
            dtype: Of what is computed.

        Returns:
            Label of the period to its composite.

        Raises:
            SourceError: A period has no scenes.
        """
        from cube.composites import Composite

        chosen = self if season is None else self.season(season)
        scenes = {period.label: chosen._span(period.start, period.end) for period in calendar}
        empty = [label for label, found in scenes.items() if not found]
        if empty:
            raise SourceError(
                f"There are no scenes for {_listed(empty)}. Give a calendar without "
                f"{'it' if len(empty) == 1 else 'them'}, or a longer season."
            )
        return {
            label: Composite(
                scenes=found,
                bands=tuple(bands),
                method=method,
                quality=quality,
                score=score,
                reader=reader or _READERS[self.through](dtype),
                dtype=dtype,
            )
            for label, found in scenes.items()
        }

    # ----------------------------------------------------------------------------------- keeping
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the manifest as JSON, the same bytes for the same manifest.

        Signatures are left out of hrefs (see :mod:`catalogs.signatures`); whoever reads the
        files signs them anew.

        Args:
            path: Ends in ``.json``, or in ``.json.gz`` for a compressed file. Replaced whole.

        Raises:
            SourceError: The file cannot be written.
        """
        target = _named(path)
        try:
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".manifest-") as folder:
                draft = Path(folder) / target.name
                with draft.open("wb") as raw, _writer(raw, target) as text:
                    text.writelines(self._lines())
                draft.replace(target)
        except OSError as error:
            raise SourceError(f"{str(target)!r} cannot be written: {error}.") from error

    def _lines(self) -> Iterator[str]:
        head = to_json(
            {
                "excluded": self.excluded,
                "format_version": FORMAT_VERSION,
                "through": self.through,
                "title": self.title,
            }
        )
        yield f'{head[:-1]},"scenes":[\n'
        last = len(self) - 1
        for i, scene in enumerate(self.scenes):
            yield f"{to_json(_scene_to_dict(scene))}{',' if i < last else ''}\n"
        yield "]}\n"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Manifest:
        """Read what :meth:`save` wrote.

        Raises:
            SourceError: The file is missing, is no manifest, or is of a newer format.
            SpecError: A scene in it is impossible.
        """
        source = _named(path)
        try:
            with source.open("rb") as raw, _reader(raw, source) as text:
                head, records = _records(text)
                version = head.get("format_version")
                if not isinstance(version, int) or version > FORMAT_VERSION:
                    raise SourceError(
                        f"{str(source)!r} has format {version!r}; this version reads up to "
                        f"{FORMAT_VERSION}. Install a newer quadrat."
                    )
                revive = _Revival()
                scenes = tuple(map(revive.scene, records))
                return cls(scenes=scenes, **{name: head[name] for name in _HEAD})
        except (SourceError, SpecError):
            raise
        except OSError as error:
            raise SourceError(f"{str(source)!r} cannot be read: {error}.") from error
        except _NOT_OURS as error:
            raise SourceError(
                f"{str(source)!r} is no manifest: {type(error).__name__} {error}."
            ) from error


def _files(dtype: str) -> PixelReader:
    from cube.scenes import FileReader

    del dtype  # whatever the files hold
    return FileReader()


def _stack(dtype: str) -> PixelReader:
    from catalogs.stacking import StackReader

    return StackReader(dtype=dtype)


_READERS = {"rasterio": _files, "stackstac": _stack}
_HEAD = ("excluded", "title", "through")

_NOT_OURS = (
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
    zlib.error,
)
"""What reading stumbles over in a file that is no manifest, or is damaged."""


def _several(group: Iterable[str]) -> bool:
    return len(list(group)) > 1


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def _named(path: str | os.PathLike[str]) -> Path:
    found = Path(path).absolute()
    if not found.name.endswith((".json", ".json.gz")):
        raise SourceError(f"A manifest is a .json or a .json.gz file. Received {str(path)!r}.")
    return found


def _writer(raw: IO[bytes], path: Path) -> IO[str]:
    # Without time and name in its head, equal text gives equal bytes.
    packed = gzip.GzipFile("", "wb", 6, raw, mtime=0) if path.name.endswith(".gz") else raw
    return io.TextIOWrapper(packed, encoding="utf-8", newline="\n")


def _reader(raw: IO[bytes], path: Path) -> IO[str]:
    packed = gzip.GzipFile(fileobj=raw) if path.name.endswith(".gz") else raw
    return io.TextIOWrapper(packed, encoding="utf-8")


def _records(text: IO[str]) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """What a manifest says of itself, and its scenes one by one."""
    first = text.readline()
    try:
        head = json.loads(f"{first}]}}")
    except ValueError:
        # Somebody laid it out anew.
        whole = json.loads(first + text.read())
        return whole, iter(whole["scenes"])
    return head, _lines_of(text)


def _lines_of(text: IO[str]) -> Iterator[dict[str, Any]]:
    for line in text:
        if line.rstrip() == "]}":
            break
        yield json.loads(line.rstrip(",\n"))
    else:
        raise ValueError("its end is missing")
    # An archive is checked once it is read to its end.
    if text.read().strip():
        raise ValueError("something follows its end")


# ------------------------------------------------------------------------------- scenes as JSON
def _defaults(kind: type[Scene] | type[SceneBand]) -> dict[str, Any]:
    return {known.name: known.default for known in fields(kind)}


_SCENE, _BAND = _defaults(Scene), _defaults(SceneBand)


def _scene_to_dict(scene: Scene) -> dict[str, Any]:
    return _facts(scene, _SCENE) | {"layers": [_band_to_dict(layer) for layer in scene.layers]}


def _band_to_dict(layer: SceneBand) -> dict[str, Any]:
    return _facts(layer, _BAND) | {"href": without_signature(layer.href)}


def _facts(spec: Scene | SceneBand, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that are not what they are anyway; NaN and infinity as text."""
    facts = {}
    for name, default in defaults.items():
        value = getattr(spec, name)
        # By their text, which tells -0.0 from 0.0; digests do, too.
        if value is not default and (default is MISSING or repr(value) != repr(default)):
            plain = not isinstance(value, float) or math.isfinite(value)
            facts[name] = value if plain else repr(value)
    return facts


class _Revival:
    """Scenes out of JSON; equal values in them become one object, or long manifests fill memory."""

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}

    def scene(self, data: Mapping[str, Any]) -> Scene:
        layers = tuple(map(self._band, data["layers"]))
        return Scene(**self._values(data, own=("id", "time", "footprint")) | {"layers": layers})

    def _band(self, data: Mapping[str, Any]) -> SceneBand:
        return SceneBand(**self._values(data, own=("href",)))

    def _values(self, data: Mapping[str, Any], own: tuple[str, ...]) -> dict[str, Any]:
        values = {}
        for name, value in data.items():
            if name == "layers":
                continue
            known = tuple(value) if isinstance(value, list) else value
            if name == "nodata" and isinstance(known, str) and known != "scene":
                known = math.nan if known == "nan" else float(known)
            values[name] = known if name in own else self._kept.setdefault(repr(known), known)
        return values
