"""Which of a pixel's observations is the best: scores for composites, higher is better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from cube.errors import SourceError, SpecError
from cube.scenes import Scene, Span

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

Floats = npt.NDArray[np.floating[Any]]
Booleans = npt.NDArray[np.bool_]


class Score(Protocol):
    """How good each pixel of a scene is."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands whose values it needs."""
        ...

    @property
    def halo_px(self) -> int:
        """Pixels around a box whose clearness it needs."""
        ...

    def score(self, scene: Scene, values: Mapping[str, Floats], clear: Booleans) -> Floats:
        """Scores of a box of a scene.

        Args:
            scene: Of which the pixels are.
            values: Physical values of :attr:`bands`, each (y, x), NaN where not observed.
            clear: Where a pixel is clear, (y + 2 halo, x + 2 halo).

        Returns:
            Floats (y, x); NaN where the pixel must not be chosen.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """JSON-able facts that decide the scores."""
        ...


class _Alone:
    """A score that needs no bands, and no pixels around."""

    __slots__ = ()

    @property
    def bands(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def halo_px(self) -> int:
        """None."""
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexScore(_Alone):
    """A spectral index, such as the highest NDVI.

    Attributes:
        index: As in spyndex's catalogue; see :class:`cube.indices.Indices`.
        lowest: The lowest is the best.
        letters: See :class:`cube.indices.Indices`.
        constants: See :class:`cube.indices.Indices`.
    """

    index: str
    lowest: bool = False
    letters: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._indices(_Anything())

    @property
    def bands(self) -> tuple[str, ...]:
        """Those of the index's formula."""
        return tuple(self._indices(_Anything()).letters.values())

    def score(self, scene: Scene, values: Mapping[str, Floats], clear: Booleans) -> Floats:
        """See :meth:`Score.score`."""
        of = _Values(bands=tuple(values), values=np.stack(list(values.values())))
        # A source of values in memory needs no grid.
        found = self._indices(of).read(None, (0, 0), (0, 0))[0]
        return -found if self.lowest else found

    def describe(self) -> dict[str, Any]:
        """See :meth:`Score.describe`; the formula, and not the version that it is from."""
        indices = self._indices(_Anything())
        return {
            "index": dict(zip(indices.bands, indices.formulas, strict=True)),
            "lowest": self.lowest,
            "letters": dict(indices.letters),
            "constants": dict(indices.constants),
        }

    def _indices(self, of: Any) -> Any:
        from cube.indices import Indices

        return Indices(of, (self.index,), self.letters, constants=self.constants)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayScore(_Alone):
    """Nearness to a day of the year: a Gaussian of the days between, 1 on the day itself.

    Griffiths et al. (2013), doi 10.1109/JSTARS.2012.2228167.

    Attributes:
        day: MM-DD.
        spread_days: Standard deviation.
    """

    day: str
    spread_days: float = 30.0

    def __post_init__(self) -> None:
        if not _is_day(self.day):
            raise SpecError(
                f"A day must be MM-DD, of every year, so not 02-29. Received {self.day!r}."
            )
        if not (math.isfinite(self.spread_days) and self.spread_days > 0):
            raise SpecError(f"spread_days must be above 0. Received {self.spread_days!r}.")

    def score(self, scene: Scene, values: Mapping[str, Floats], clear: Booleans) -> Floats:
        """See :meth:`Score.score`."""
        if scene.time is None:
            raise SourceError(f"Scene {scene.id!r} has no time; a score by day needs one.")
        then = date.fromisoformat(scene.time[:10])
        # The nearest of that day in three years, since it may lie over a new year.
        days = min(abs((then - self._in(then.year + k)).days) for k in (-1, 0, 1))
        return np.full(clear.shape, math.exp(-0.5 * (days / self.spread_days) ** 2))

    def _in(self, year: int) -> date:
        return date.fromisoformat(f"{year:04d}-{self.day}")

    def describe(self) -> dict[str, Any]:
        """See :meth:`Score.describe`."""
        return asdict(self)


def _is_day(day: str) -> bool:
    text = f"2001-{day}"
    try:
        # Python also takes 2001-0501 and weeks.
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudDistanceScore(_Alone):
    """Distance to what is not clear, from 0 beside it to 1 at ``full_px`` and beyond.

    Attributes:
        full_px: Pixels of the grid, Euclidean, at most 200.
    """

    full_px: int = 50

    def __post_init__(self) -> None:
        if not 1 <= self.full_px <= 200:
            raise SpecError(f"full_px must be 1..200. Received {self.full_px!r}.")

    @property
    def halo_px(self) -> int:
        """As far as it looks."""
        return self.full_px

    def score(self, scene: Scene, values: Mapping[str, Floats], clear: Booleans) -> Floats:
        """See :meth:`Score.score`."""
        from scipy.ndimage import distance_transform_edt

        inner = slice(self.full_px, -self.full_px)
        if clear.all():
            return np.ones(clear[inner, inner].shape)
        distance = distance_transform_edt(clear)[inner, inner]
        return np.asarray(np.minimum(distance, self.full_px) / self.full_px)

    def describe(self) -> dict[str, Any]:
        """See :meth:`Score.describe`."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudCoverScore(_Alone):
    """Clearness of the whole scene, according to its metadata."""

    def score(self, scene: Scene, values: Mapping[str, Floats], clear: Booleans) -> Floats:
        """See :meth:`Score.score`."""
        if scene.cloud_cover is None:
            raise SourceError(f"Scene {scene.id!r} does not say its cloud cover.")
        return np.full(clear.shape, 1.0 - scene.cloud_cover)

    def describe(self) -> dict[str, Any]:
        """See :meth:`Score.describe`."""
        return {"cloud_cover": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedScore:
    """A weighted sum of scores, as in best-available-pixel composites.

    White et al. (2014), doi 10.1080/07038992.2014.945827.

    Attributes:
        parts: Scores with their weights.
    """

    parts: tuple[tuple[Score, float], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple((part, float(w)) for part, w in self.parts))
        if not self.parts or not all(math.isfinite(w) for _, w in self.parts):
            raise SpecError(f"Scores must come with finite weights. Received {self.parts!r}.")

    @property
    def bands(self) -> tuple[str, ...]:
        """Those of all parts."""
        return tuple(dict.fromkeys(band for part, _ in self.parts for band in part.bands))

    @property
    def halo_px(self) -> int:
        """The widest of all parts."""
        return max(part.halo_px for part, _ in self.parts)

    def score(self, scene: Scene, values: Mapping[str, Floats], clear: Booleans) -> Floats:
        """See :meth:`Score.score`."""
        height, width = (length - 2 * self.halo_px for length in clear.shape)
        total = np.zeros((height, width))
        for part, weight in self.parts:
            margin = self.halo_px - part.halo_px
            own = clear[margin : clear.shape[0] - margin, margin : clear.shape[1] - margin]
            total += weight * part.score(scene, {b: values[b] for b in part.bands}, own)
        return total

    def describe(self) -> dict[str, Any]:
        """See :meth:`Score.describe`."""
        return {"weighted": [[part.describe(), weight] for part, weight in self.parts]}


class _Anything:
    """A source that is taken to have every band."""

    @property
    def bands(self) -> Sequence[str]:
        return _Every()


class _Every(tuple[str, ...]):
    __slots__ = ()

    def __contains__(self, band: object) -> bool:
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Values:
    """A source of values in memory."""

    bands: tuple[str, ...]
    values: Floats

    def read(self, grid: GeoBox, rows: Span, cols: Span) -> Floats:
        return self.values
