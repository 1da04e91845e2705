"""What stored numbers mean: declared by a rule, checked against the pixels.

Catalogues contradict their own files. Sentinel-2 copies, for one, are flagged as if an offset were
still in their numbers when it is not (https://github.com/Element84/earth-search/issues/66). A rule
gives bands their scale and offset; :func:`examine` reads a small sample, and writes into the scene
what the pixels say about it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from catalogs.access import REMOTE, Access
from catalogs.samples import sample
from cube.errors import SourceError, SpecError
from cube.scenes import Scene
from cube.threads import cores

if TYPE_CHECKING:
    from catalogs.manifest import Manifest

Numbers = npt.NDArray[Any]

Outcome = Literal["consistent", "contradicted", "undecided"]

_FEW = 100
"""Fewer observed pixels than this decide nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a sample of pixels says about a rule.

    Attributes:
        outcome: Of the check.
        verdict: The same in one line.
        instead: The scene as the pixels would have it, where they contradict the rule and tell.
    """

    outcome: Outcome
    verdict: str
    instead: Scene | None = None


class Rule(Protocol):
    """How stored numbers of some bands become physical values."""

    def apply(self, scene: Scene) -> Scene:
        """The scene with this rule's scale and offset.

        Raises:
            SpecError: It has none of the rule's bands, or does not say what the rule needs.
        """
        ...

    def sampled(self, scene: Scene) -> tuple[str, ...]:
        """The bands to look at."""
        ...

    def judge(self, scene: Scene, samples: Mapping[str, Numbers]) -> Judgement:
        """What observed stored numbers say.

        Args:
            scene: With this rule applied.
            samples: For each band of ``sampled``, shape (n,), as stored.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LandsatCollection2:
    """Landsat Collection 2 Level-2: reflectance, and temperature in kelvin.

    Scale, offset, fill and valid range: LSDS-1619, Landsat 8-9 Collection 2 Level 2 Science
    Product Guide, and https://www.usgs.gov/faqs/how-do-i-use-a-scale-factor-landsat-level-2-science-products.

    Attributes:
        reflectance: Bands of surface reflectance; those that a scene lacks are no matter.
        thermal: Bands of surface temperature.
    """

    reflectance: tuple[str, ...] = ("coastal", "blue", "green", "red", "nir", "swir1", "swir2")
    thermal: tuple[str, ...] = ("thermal",)

    def apply(self, scene: Scene) -> Scene:
        """See :meth:`Rule.apply`."""
        facts = {
            **dict.fromkeys(self.reflectance, _REFLECTANCE_C2),
            **dict.fromkeys(self.thermal, _THERMAL_C2),
        }
        return _with(scene, facts, rule="Landsat Collection 2")

    def sampled(self, scene: Scene) -> tuple[str, ...]:
        """See :meth:`Rule.sampled`; one visible and one infrared band where there are two."""
        there = [band for band in self.reflectance if band in scene.bands]
        return tuple(sorted(there, key=lambda band: band not in ("red", "nir")))[:2]

    def judge(self, scene: Scene, samples: Mapping[str, Numbers]) -> Judgement:
        """See :meth:`Rule.judge`; Collection 1 stored reflectance x 10,000, up to 16,000."""
        numbers = np.concatenate([np.empty(0), *samples.values()])
        if numbers.size < _FEW:
            return _nothing(numbers.size)
        lowest, highest = _REFLECTANCE_C2["valid_range"]
        low, bright = _share(numbers < lowest), _share(numbers > _BRIGHTEST_C1)
        inside = _share((numbers >= lowest) & (numbers <= highest))
        if low > 0.5:
            c1 = dict.fromkeys(self.reflectance, _REFLECTANCE_C1)
            told = np.median(numbers) > 2  # else they may be reflectances already
            return Judgement(
                outcome="contradicted",
                verdict=f"{low:.0%} of the numbers lie below {lowest}, which contradicts "
                f"Collection 2" + ("; they are as in Collection 1" if told else ""),
                instead=_with(scene, c1, rule="Landsat Collection 1") if told else None,
            )
        if inside >= 0.9 and bright >= 0.01:
            return Judgement(
                outcome="consistent",
                verdict=f"{inside:.0%} of the numbers lie in {lowest}..{highest}, as Collection 2 "
                f"says",
            )
        return _undecided("the numbers could be of Collection 1 as well as of Collection 2")


_REFLECTANCE_C2: dict[str, Any] = {
    "scale": 2.75e-5,
    "offset": -0.2,
    "valid_range": (7273, 43636),
    "nodata": 0.0,
}
_THERMAL_C2: dict[str, Any] = {
    "scale": 0.00341802,
    "offset": 149.0,
    "valid_range": (293, 65535),
    "nodata": 0.0,
    "units": "K",
}
_REFLECTANCE_C1: dict[str, Any] = {"scale": 1e-4, "offset": 0.0, "valid_range": (0, 10_000)}
_BRIGHTEST_C1 = 16_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentinel2:
    """Sentinel-2 reflectance: stored / 10,000, less 0.1 from processing baseline 04.00 on.

    The offset came with the products of 2022-01-25 and after, of whatever day their images are
    (https://sentiwiki.copernicus.eu/web/s2-processing); a date therefore does not tell it.

    Attributes:
        baseline: Such as ``"04.00"``; None reads it in the scene's id, ``..._N0400_...``, and
            otherwise takes the offset that the scene has.
        removed: True where the provider took the offset out of the numbers.
        bands: Bands of reflectance; those that a scene lacks are no matter.
    """

    baseline: str | None = None
    removed: bool = False
    bands: tuple[str, ...] = (
        *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"),
        *("coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3"),
        *("nir", "nir08", "nir09", "swir1", "swir2", "swir16", "swir22"),
    )

    def __post_init__(self) -> None:
        if self.baseline is not None and not re.fullmatch(r"\d\d\.\d\d", self.baseline):
            raise SpecError(f"baseline must be such as '04.00'. Received {self.baseline!r}.")

    def apply(self, scene: Scene) -> Scene:
        """See :meth:`Rule.apply`."""
        return self._with_offset(scene, self._declared(scene))

    def sampled(self, scene: Scene) -> tuple[str, ...]:
        """See :meth:`Rule.sampled`; up to two visible bands and an infrared one."""
        visible = [band for band in _VISIBLE if band in scene.bands]
        infrared = [band for band in _INFRARED if band in scene.bands]
        return (*visible[:2], *infrared[:1])

    def judge(self, scene: Scene, samples: Mapping[str, Numbers]) -> Judgement:
        """See :meth:`Rule.judge`."""
        few = min((numbers.size for numbers in samples.values()), default=0)
        if few < _FEW:
            return _nothing(few)
        found = offset_in(samples)
        if found is None:
            return _undecided("no pixel is dark enough to show an offset, or its absence")
        seen = f"{'offset 1000' if found else 'no offset'} found in the pixels"
        if found == bool(self._declared(scene)):
            return Judgement(outcome="consistent", verdict=f"{seen}, as {self._who(scene)} says")
        return Judgement(
            outcome="contradicted",
            verdict=f"{seen}, which contradicts {self._who(scene)}",
            instead=self._with_offset(scene, -0.1 if found else 0.0),
        )

    def _baseline(self, scene: Scene) -> str | None:
        found = re.search(r"_N(\d\d)(\d\d)(?:_|$)", scene.id)
        return self.baseline or (".".join(found.groups()) if found else None)

    def _who(self, scene: Scene) -> str:
        baseline = self._baseline(scene)
        if self.removed:
            return "a provider that removed it"
        return f"baseline {baseline}" if baseline else "the scene's own offset"

    def _declared(self, scene: Scene) -> float:
        """The offset of reflectance that metadata says, 0 or -0.1."""
        if self.removed:
            return 0.0
        if baseline := self._baseline(scene):
            return -0.1 if baseline >= "04.00" else 0.0
        mine = [scene.band(name) for name in scene.bands if name in self.bands]
        packing = {(band.scale, band.offset) for band in mine}
        for offset in (0.0, -0.1):
            if packing == {(1e-4, offset)}:
                return offset
        raise SpecError(
            f"Scene {scene.id!r} does not say its processing baseline, nor the same scale and "
            f"offset for all bands; give baseline=, such as '04.00'."
        )

    def _with_offset(self, scene: Scene, offset: float) -> Scene:
        facts = {"scale": 1e-4, "offset": offset, "nodata": 0.0}
        return _with(scene, dict.fromkeys(self.bands, facts), rule="Sentinel-2")


def offset_in(samples: Mapping[str, Numbers]) -> bool | None:
    """Whether 1000 was added to numbers of reflectance x 10,000; None if they do not tell.

    A reflectance below -0.02 is rare. So where a hundredth of a band lies below 800, nothing was
    added. Water and shade reflect next to nothing in all light. So where the darkest thousandth
    of every band lies at 900 to 1200, something was. Haze lifts the darkest pixels of visible
    bands as an offset would, but not those of infrared ones, and desert is dark in blue alone;
    so both kinds are needed to find an offset.

    Args:
        samples: Stored numbers, nodata left out, shape (n,) each, of visible and infrared bands.
    """
    ordered = [np.sort(numbers) for numbers in samples.values() if numbers.size]
    if any(numbers[numbers.size // 100] < 800 for numbers in ordered):
        return False
    darkest = [numbers[numbers.size // 1000] for numbers in ordered]
    both = bool(set(samples) & set(_VISIBLE)) and bool(set(samples) & set(_INFRARED))
    return True if both and all(900 <= number <= 1200 for number in darkest) else None


_VISIBLE = ("B04", "red", "B02", "blue", "B03", "green")
_INFRARED = ("B12", "swir2", "swir22", "B11", "swir1", "swir16", "B08", "nir")
"""Bands by how dark water and shade are in them, the darkest first."""


@dataclass(frozen=True, slots=True)
class TopCodes:
    """Numbers divided by what counts as bright, and cut at 1.

    Published examples: 2500 for the visible bands of reflectance x 10,000 and 10,000 for others,
    63 for night lights, 0.5 for reflectance 0..1.

    Attributes:
        tops: Band to the stored number that becomes 1.
    """

    tops: Mapping[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tops", dict(self.tops))
        if not self.tops or not all(np.isfinite(top) and top > 0 for top in self.tops.values()):
            raise SpecError(f"tops must be positive numbers by band. Received {self.tops!r}.")

    def apply(self, scene: Scene) -> Scene:
        """See :meth:`Rule.apply`; every band of ``tops`` must be there."""
        scene.select(list(self.tops))
        facts = {
            band: {"scale": 1 / top, "offset": 0.0, "clip": (0.0, 1.0)}
            for band, top in self.tops.items()
        }
        return _with(scene, facts, rule="Top codes")

    def sampled(self, scene: Scene) -> tuple[str, ...]:
        """See :meth:`Rule.sampled`."""
        return tuple(band for band in scene.bands if band in self.tops)

    def judge(self, scene: Scene, samples: Mapping[str, Numbers]) -> Judgement:
        """See :meth:`Rule.judge`; the pixels never say which top was meant."""
        judgements = [self._judge_band(band, numbers) for band, numbers in samples.items()]
        order = ("contradicted", "undecided", "consistent")
        return min(judgements, key=lambda judgement: order.index(judgement.outcome))

    def _judge_band(self, band: str, numbers: Numbers) -> Judgement:
        top = self.tops[band]
        if numbers.size < _FEW or not numbers.any():
            return _undecided(f"{band} has too few numbers other than 0")
        above, highest = _share(numbers > top), float(numbers.max())
        if above > 0.5:
            verdict = f"{above:.0%} of {band} lie above {top:g}, which contradicts that as its top"
        elif highest < top / 100:
            verdict = f"{band} ends at {highest:g}, which contradicts {top:g} as its top"
        else:
            return Judgement(outcome="consistent", verdict="the numbers lie as their tops say")
        return Judgement(outcome="contradicted", verdict=verdict)


def examine(scene: Scene, rule: Rule, *, sample_px: int = 512, access: Access = REMOTE) -> Scene:
    """The scene with a rule applied, and what a sample of its pixels says about that.

    Args:
        scene: With its metadata's word.
        rule: One of :class:`LandsatCollection2`, :class:`Sentinel2`, :class:`TopCodes`.
        sample_px: Side of the square of pixels whose area is read of each band looked at.
        access: Where servers may redirect to; see :mod:`catalogs.redirects`.

    Returns:
        The rule's scene, right or wrong, with a verdict: "... as ... says", "... contradicts ...",
        or "cannot tell: ...".

    Raises:
        SourceError: A file cannot be read.
        SpecError: The scene has none of the rule's bands, or does not say what the rule needs.
    """
    applied, judgement = _judged(scene, rule, sample_px, access)
    return replace(applied, verdict=judgement.verdict)


def examine_all(
    manifest: Manifest,
    rule: Rule,
    *,
    on_contradiction: Literal["exclude", "pixels", "error"] = "exclude",
    sample_px: int = 512,
    access: Access = REMOTE,
) -> Manifest:
    """All scenes with a rule applied, each with a verdict.

    Args:
        manifest: Scenes.
        rule: See :func:`examine`.
        on_contradiction: What to do with a scene whose pixels contradict the rule: leave it out
            with the verdict as the reason; believe the pixels, and leave it out where they do
            not say what they are; or stop.
        sample_px: See :func:`examine`.
        access: See :func:`examine`.

    Raises:
        SourceError: With ``"error"``: a file cannot be read, or a scene is contradicted. Else
            what cannot be read is left out, with the reason.
        SpecError: See :func:`examine`.
    """
    if on_contradiction not in ("exclude", "pixels", "error"):
        raise SpecError(
            f"on_contradiction must be 'exclude', 'pixels' or 'error'. "
            f"Received {on_contradiction!r}."
        )
    scenes, excluded = list[Scene](), dict(manifest.excluded)
    decide = partial(_decided, rule=rule, how=on_contradiction, sample_px=sample_px, access=access)
    # Most of the time goes by waiting for files.
    with ThreadPoolExecutor(4 * cores()) as pool:
        found = pool.map(decide, manifest.scenes)
        for scene, decided in zip(manifest.scenes, _watched(found, len(manifest)), strict=True):
            if isinstance(decided, Scene):
                scenes.append(decided)
            else:
                excluded[scene.id] = decided
    return replace(manifest, scenes=tuple(scenes), excluded=excluded)


def _watched(found: Iterable[Scene | str], total: int) -> Iterable[Scene | str]:
    return tqdm(found, total=total, desc="examine", unit="scene", disable=None)


def _decided(scene: Scene, *, rule: Rule, how: str, sample_px: int, access: Access) -> Scene | str:
    """A scene with a verdict; or why it is left out."""
    try:
        applied, judgement = _judged(scene, rule, sample_px, access)
    except SourceError as error:
        if how == "error":
            raise
        return f"cannot be examined: {error}"
    if judgement.outcome != "contradicted":
        return replace(applied, verdict=judgement.verdict)
    if how == "error":
        raise SourceError(
            f"Scene {scene.id!r}: {judgement.verdict}. Leave it out, or say what it is."
        )
    if how == "pixels" and judgement.instead is not None:
        verdict = f"{judgement.verdict}; the pixels are believed"
        return replace(judgement.instead, verdict=verdict)
    return judgement.verdict


def _judged(scene: Scene, rule: Rule, sample_px: int, access: Access) -> tuple[Scene, Judgement]:
    applied = rule.apply(scene)
    samples = {
        name: sample(
            applied.band(name),
            sample_px=sample_px,
            access=access,
            where=f"Scene {scene.id!r}, ",
        )
        for name in rule.sampled(applied)
    }
    return applied, rule.judge(applied, samples)


def _with(scene: Scene, facts: Mapping[str, Mapping[str, Any]], *, rule: str) -> Scene:
    """The scene with other facts of some of its bands."""
    if not set(scene.bands) & set(facts):
        raise SpecError(
            f"{rule}: scene {scene.id!r} has none of its bands, which are {', '.join(facts)}. "
            f"It has: {', '.join(scene.bands)}. Name its bands in the rule."
        )
    layers = (replace(layer, **facts.get(layer.name, {})) for layer in scene.layers)
    return replace(scene, layers=tuple(layers))


def _share(which: npt.NDArray[np.bool_]) -> float:
    return float(np.count_nonzero(which)) / max(which.size, 1)


def _nothing(count: int) -> Judgement:
    return _undecided(f"{count} pixels observed in the sample, of which {_FEW} are needed")


def _undecided(reason: str) -> Judgement:
    return Judgement(outcome="undecided", verdict=f"cannot tell: {reason}")
