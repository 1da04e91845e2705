"""Many scenes to one image: a source that chooses or averages the clear observations of a pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cube import reducing
from cube.coordinates import check_crs
from cube.errors import PartialError, SourceError, SpecError
from cube.footprints import Footprints
from cube.observations import Observations, Seen, batches, wider
from cube.quality import Quality
from cube.scenes import HALO_PX, FileReader, Needs, PixelReader, Scene, Span
from cube.scoring import Score
from cube.spec import digest_each

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

Floats = npt.NDArray[np.floating[Any]]
Box = tuple[Span, Span]

STACKED: dict[str, Callable[[Floats], Floats]] = {
    "median": reducing.median,
    "geometric_median": reducing.geometric_median,
    "medoid": reducing.medoid,
}
"""Methods that need all observations of a pixel at once; a box is cut so that they fit."""

STREAMED: dict[str, type[reducing.Reducer]] = {
    "mean": reducing.Mean,
    "first": reducing.First,
    "last": reducing.Last,
    "best": reducing.Highest,
}
"""Methods that take scene after scene."""

METHODS = (*STACKED, *STREAMED)

_ADDED = ("median", "geometric_median", "mean")
"""Methods that give sums, and not one of the observations."""

MEMORY_BYTES = 256_000_000
"""For the observations of a box."""

_LISTED = 50
"""So many scenes are named in a description; more are told by their digest alone."""

_READING = 4
"""The part of the memory that is for reading: one in so many."""

_REDUCING_BYTES = 10_000_000
"""What :mod:`cube.reducing` takes at most beside a stack."""


@dataclass(frozen=True, kw_only=True)
class Composite:
    """Clear observations of many scenes, as one image.

    A pixel of a scene is clear if it is observed and the quality band says so. Scenes count in
    the order of time, then of id. Those far from a box are not looked at.

    Attributes:
        scenes: In any order; kept sorted. They may overlap and differ in CRS, grid and dtype.
        bands: Bands to give, which all scenes have.
        method: One of :data:`METHODS`. ``median`` and ``mean`` take each band by itself;
            ``geometric_median`` and ``medoid`` only observations with all bands. ``first``,
            ``last`` and ``best`` take all bands of a pixel from one scene.
        quality: What is clear; None takes whatever is observed.
        score: For ``best``: what is best.
        reader: How pixels are got. It decides nothing about values.
        dtype: Of what is computed: ``"float32"``, or ``"float64"`` for numbers of more than seven
            digits.
        memory_bytes: For the observations of a box, however many there are. It decides
            nothing about values.
    """

    scenes: tuple[Scene, ...]
    bands: tuple[str, ...]
    method: str = "median"
    quality: Quality | None = None
    score: Score | None = None
    reader: PixelReader = field(default_factory=FileReader)
    dtype: str = "float32"
    memory_bytes: int = MEMORY_BYTES
    _kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ordered = sorted(self.scenes, key=lambda scene: (scene.time or "", scene.id))
        object.__setattr__(self, "scenes", tuple(ordered))
        object.__setattr__(self, "bands", tuple(self.bands))
        _check_method(self)
        _check_scenes(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}

    @property
    def used(self) -> tuple[str, ...]:
        """Bands that are read: those to give, of quality and for the score."""
        quality = () if self.quality is None else (self.quality.band,)
        return tuple(dict.fromkeys((*self.bands, *quality, *self._scored)))

    @property
    def _scored(self) -> tuple[str, ...]:
        return () if self.score is None else tuple(self.score.bands)

    @property
    def units(self) -> tuple[str, ...]:
        """Units of the bands; empty where nobody says."""
        return tuple(self.scenes[0].band(band).units for band in self.bands)

    def read(self, grid: GeoBox, rows: Span, cols: Span) -> Floats:
        """See :meth:`cube.scenes.Source.read`.

        Raises:
            PartialError: Scenes that meet the box cannot be read; each with its reason.
        """
        scenes = self.near(grid, rows, cols)
        shape = len(self.bands), rows[1] - rows[0], cols[1] - cols[0]
        if not scenes:
            return np.full(shape, np.nan, self.dtype)
        with self.naming_all(scenes, grid, (rows, cols)):
            boxes = list(self._boxes(len(scenes), (rows, cols)))
            if len(boxes) == 1:
                return self._reduced(scenes, grid, boxes[0])
            found = np.empty(shape, self.dtype)
            for box in boxes:
                (top, bottom), (left, right) = box
                own = slice(top - rows[0], bottom - rows[0]), slice(left - cols[0], right - cols[0])
                found[(slice(None), *own)] = self._reduced(scenes, grid, box)
        return found

    @contextmanager
    def naming_all(self, scenes: Sequence[Scene], grid: GeoBox, box: Box) -> Iterator[None]:
        """Once a scene of a box is lost, look at all others, so that the error names every one."""
        try:
            yield
        except PartialError as error:
            others = [scene for scene in scenes if scene.id not in error.scenes]
            grow_px = 0 if self.quality is None else self.quality.grow_px
            wide = wider(box, self._halo_px + grow_px)
            more = self.observations(grid).lost(others, self.used, wide)
            raise PartialError.of(error.scenes | more) from None

    def near(self, grid: GeoBox, rows: Span, cols: Span) -> list[Scene]:
        """The scenes that may meet a box of a grid."""
        key = (str(grid.crs), tuple(grid.transform))
        kept = self._kept.get("footprints")
        if kept is None or kept[0] != key:
            # One tuple, so that threads never see the key of one grid with the index of another.
            kept = key, Footprints(self.scenes, grid)
            self._kept["footprints"] = kept
        return [self.scenes[i] for i in kept[1].near(rows, cols)]

    def observations(self, grid: GeoBox) -> Observations:
        """How the observations of the scenes are got on a grid."""
        return Observations(
            grid=grid,
            quality=self.quality,
            reader=self.reader,
            dtype=self.dtype,
            # A reader has a batch twice while it puts it together.
            batch_bytes=self.memory_bytes // _READING // 2,
        )

    def _reduced(self, scenes: Sequence[Scene], grid: GeoBox, box: Box) -> Floats:
        if len(scenes) == 1 and self.method != "best":
            return self._single(scenes[0], grid, box)
        if self.method in STREAMED:
            reduced = self.streamed(STREAMED[self.method](), scenes, grid, box)
            return self._nothing(box) if reduced is None else reduced
        observations = self.observations(grid)
        seen = observations.clear(scenes, box)
        parts: dict[str, Floats] = {}
        for group in self._groups():
            reduced = STACKED[self.method](observations.values(seen, group, box))
            parts |= zip(group, reduced, strict=True)
        return np.stack([parts[band] for band in self.bands])

    def _single(self, scene: Scene, grid: GeoBox, box: Box) -> Floats:
        """What all methods make of one scene, with nothing to choose from."""
        observations = self.observations(grid)
        seen = observations.clear([scene], box)
        if not seen:
            return self._nothing(box)
        values: Floats = observations.values(seen, self.bands, box)[0]
        if self.method in _ADDED:
            values += 0.0  # no -0, which these methods do not give of several scenes either
        if len(self.bands) > 1 and self.method not in ("median", "mean"):
            np.copyto(values, np.nan, where=~reducing.complete(values))
        return values

    def _nothing(self, box: Box) -> Floats:
        shape = (stop - start for start, stop in box)
        return np.full((len(self.bands), *shape), np.nan, self.dtype)

    def streamed(
        self, reducer: reducing.Reducer, scenes: Sequence[Scene], grid: GeoBox, box: Box
    ) -> Floats | None:
        """What a reducer makes of the clear observations, scene by scene; None of none."""
        observations = self.observations(grid)
        added = 0
        for batch in batches(scenes, self._at_once(box)):
            added += self._add(reducer, batch, observations, box)
        return reducer.result() if added else None

    def _add(
        self, reducer: reducing.Reducer, batch: Sequence[Scene], of: Observations, box: Box
    ) -> int:
        """Give some scenes to a reducer; returns how many are clear somewhere."""
        seen = of.clear(batch, box, halo_px=self._halo_px)
        values = self._values(of, seen, box)
        for (scene, clear), value in zip(seen, values, strict=True):
            reducer.add(value[: len(self.bands)], score=self._score(scene, clear, value))
        return len(seen)

    def _values(self, observations: Observations, seen: Seen, box: Box) -> Floats:
        """Bands to give, then those that only the score needs."""
        bands = (*self.bands, *(band for band in self._scored if band not in self.bands))
        return observations.values(seen, bands, box, halo_px=self._halo_px)

    def _score(
        self, scene: Scene, clear: npt.NDArray[np.bool_] | None, values: Floats
    ) -> Floats | None:
        if self.score is None:
            return None
        if clear is None:
            clear = np.ones(values.shape[1:], bool)
        bands = (*self.bands, *(band for band in self._scored if band not in self.bands))
        by_name = dict(zip(bands, values, strict=True))
        return self.score.score(scene, {band: by_name[band] for band in self._scored}, clear)

    @property
    def _halo_px(self) -> int:
        return 0 if self.score is None else self.score.halo_px

    def _at_once(self, box: Box) -> int:
        """Scenes of a streamed method that are read at once."""
        return max(
            1, self.memory_bytes // _READING // (_area(box) * len(self.used) * self._itemsize)
        )

    @property
    def _itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize

    def _boxes(self, count: int, box: Box) -> Iterator[Box]:
        """Parts of a box whose observations fit into memory."""
        if self.method in STREAMED:
            yield box
            return
        yield from cut(box, max(1, self._stack_bytes // (count * self._each_bytes)))

    def _groups(self) -> list[tuple[str, ...]]:
        """Bands that are reduced together: all, or those of a file where each is by itself."""
        if self.method != "median" or (self.quality is not None and self.quality.complete):
            return [self.bands]
        files: dict[str, list[str]] = {}
        for band in self.bands:
            files.setdefault(self.scenes[0].band(band).href, []).append(band)
        return [tuple(group) for group in files.values()]

    def check(self, grid: GeoBox) -> None:
        """See :meth:`cube.scenes.Source.check`."""
        of_crs = {scene.crs: scene for scene in reversed(self.scenes)}
        for crs, scene in of_crs.items():
            check_crs(crs, grid, what=repr(scene.id))
        height, width = grid.shape
        if not self.near(grid, (0, height), (0, width)):
            self.scenes[0].check(grid)
            raise SourceError(
                f"None of the {len(self.scenes)} scenes meets the grid; check place and CRS."
            )

    def needs(self, grid: GeoBox, rows: Span, cols: Span) -> Needs:
        """What a box takes; see :class:`cube.scenes.Needs`."""
        count, pixels = len(self.near(grid, rows, cols)), _area((rows, cols))
        each = pixels * len(self.used) * self._itemsize
        # One scene as it is read: stored, as floats, and where its pixels lie.
        single = pixels * (2 * len(self.used) * self._itemsize + 48)
        batch = min(2 * count * each, self.memory_bytes // _READING)
        return Needs(
            read_bytes=count * each,
            peak_bytes=single + max(batch, _REDUCING_BYTES) + self._held_bytes(count, pixels),
            opens=count * len(self.used),
        )

    def _held_bytes(self, count: int, pixels: int) -> int:
        """What observations and intermediate results take, beside what is just being read."""
        if self.method in STACKED:
            every = count * pixels * self._each_bytes
            return max(min(every, self._stack_bytes), count * self._each_bytes)
        each = pixels * (len(self.used) * self._itemsize + 1)
        sums = pixels * len(self.bands) * 3 * 8
        return max(each, min(count * each, self.memory_bytes // _READING)) + sums

    @property
    def _each_bytes(self) -> int:
        """Of an observation of a pixel: its values, and whether it is clear."""
        return max(len(group) for group in self._groups()) * self._itemsize + 1

    @property
    def _stack_bytes(self) -> int:
        return self.memory_bytes - self.memory_bytes // _READING

    def describe(self) -> dict[str, Any]:
        """See :meth:`cube.scenes.Source.describe`; many scenes by their digest alone."""
        if "description" not in self._kept:
            self._kept["description"] = self._described()
        return dict(self._kept["description"])

    def _described(self) -> dict[str, Any]:
        times = [scene.time for scene in self.scenes if scene.time]
        facts: dict[str, Any] = {
            "composite": self.method,
            "bands": list(self.bands),
            "quality": None if self.quality is None else self.quality.describe(),
            "scenes": len(self.scenes),
            "scenes_digest": digest_each(self._facts(scene) for scene in self.scenes),
        }
        if times:
            facts |= {"first": times[0], "last": times[-1]}
        if self.score is not None:
            facts["score"] = self.score.describe()
        if self.dtype != "float32":
            facts["dtype"] = self.dtype
        if len(self.scenes) <= _LISTED:
            facts["ids"] = [scene.id for scene in self.scenes]
        return facts

    def _facts(self, scene: Scene) -> dict[str, Any]:
        """What is said of a scene, and what a score may look at besides."""
        facts = scene.select(self.used).describe()
        return facts if self.score is None else facts | {"cloud_cover": scene.cloud_cover}


def cut(box: Box, pixels: int) -> Iterator[Box]:
    """Parts of a box of so many pixels at most, by halving the longer side."""
    (top, bottom), (left, right) = box
    if _area(box) <= pixels or _area(box) == 1:
        yield box
    elif bottom - top >= right - left:
        middle = (top + bottom) // 2
        yield from cut(((top, middle), (left, right)), pixels)
        yield from cut(((middle, bottom), (left, right)), pixels)
    else:
        middle = (left + right) // 2
        yield from cut(((top, bottom), (left, middle)), pixels)
        yield from cut(((top, bottom), (middle, right)), pixels)


def _area(box: Box) -> int:
    return (box[0][1] - box[0][0]) * (box[1][1] - box[1][0])


def _check_method(composite: Composite) -> None:
    method, score, quality = composite.method, composite.score, composite.quality
    if method not in METHODS:
        raise SpecError(
            f"A composite's method is one of {', '.join(METHODS)}. Received {method!r}."
        )
    if (method == "best") != (score is not None):
        raise SpecError("A composite takes a score if, and only if, its method is 'best'.")
    if score is not None and score.halo_px and quality is None:
        raise SpecError("A score by the distance to clouds needs quality=, which tells them.")
    _check_reach(composite)
    if composite.dtype not in ("float32", "float64"):
        raise SpecError(f"dtype must be float32 or float64. Received {composite.dtype!r}.")
    given = getattr(composite.reader, "dtype", composite.dtype)
    if given != composite.dtype:
        raise SpecError(
            f"A composite in {composite.dtype} needs a reader that gives {composite.dtype}. "
            f"Received one that gives {given}."
        )
    if composite.memory_bytes < 1_000_000:
        raise SpecError(
            f"memory_bytes must be 1,000,000 or more. Received {composite.memory_bytes!r}."
        )


def _check_reach(composite: Composite) -> None:
    """Refuse what would look further around a box than scenes are read."""
    grow_px = 0 if composite.quality is None else composite.quality.grow_px
    halo_px = 0 if composite.score is None else composite.score.halo_px
    if grow_px + halo_px > HALO_PX:
        raise SpecError(
            f"A composite may look {HALO_PX} pixels around a box, grow_px of the quality and the "
            f"distance of the score together. Received {grow_px} + {halo_px}."
        )


def _check_scenes(composite: Composite) -> None:
    """Refuse scenes that cannot be mixed."""
    scenes, bands = composite.scenes, composite.bands
    if not scenes:
        raise SourceError("A composite needs one scene or more. Received none.")
    if not bands or len(set(bands)) != len(bands):
        raise SourceError(f"Bands must be named, once each. Received {bands}.")
    ids: set[str] = set()
    units: dict[str, tuple[str, str]] = {}
    for scene in scenes:
        if scene.id in ids:
            raise SourceError(f"Scenes must have ids of their own. Received {scene.id!r} twice.")
        ids.add(scene.id)
        _check_bands(scene, composite)
        for layer in scene.layers:
            unit, of = units.setdefault(layer.name, (layer.units, scene.id))
            if layer.units != unit and layer.name in bands:
                raise SourceError(
                    f"Band {layer.name!r} is in {unit or 'no unit'} in scene {of!r} and in "
                    f"{layer.units or 'no unit'} in {scene.id!r}; give them two names."
                )


def _check_bands(scene: Scene, composite: Composite) -> None:
    missing = set(composite.used).difference(scene.bands)
    if missing:
        raise SourceError(
            f"Scene {scene.id!r} has no band {', '.join(map(repr, sorted(missing)))}. "
            f"It has: {', '.join(scene.bands)}."
        )
    if composite.quality is not None:
        layer = next(layer for layer in scene.layers if layer.name == composite.quality.band)
        resampling = layer.resampling or scene.resampling
        if resampling not in ("nearest", "mode"):
            raise SourceError(
                f"Scene {scene.id!r}: its quality band {layer.name!r} is resampled as "
                f"{resampling}, which makes numbers that mean nothing; give resampling='nearest'."
            )
