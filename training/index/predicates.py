"""Named questions to every window: its share of cities, its rank by density, its county.

A question of one's own is a subclass of :class:`Predicate` with a ``raster``:

    @dataclass(frozen=True, slots=True, kw_only=True, eq=False)
    class Dense(Predicate):
        name: str = "dense"

        @property
        def needs(self):
            return (("population", "2010"),)

        def raster(self, box):
            return np.where(box.values("population", "2010") > 9, 1.0, 0.0)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from cube.coverage import Coverage
from cube.errors import SpecError
from cube.partition_shares import class_values
from cube.polygons.ids import column_of
from cube.polygons.placing import transformer
from cube.polygons.reading import check_polygons, with_known_crs
from cube.spec import CubeSpec, crs_text
from training.index.boxes import BoxValues, FloatArray, Needed

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd
    from odc.geo.geobox import GeoBox

AT_ONCE = 1 << 16
"""Windows whose centres are looked up together."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowValues:
    """What is known of every window when the pass is over.

    Attributes:
        grid: The cube's grid.
        origins: First pixel (y, x), int64 (window, 2).
        size: Side of a window in pixels.
        known: Pixels at which a predicate's raster was known, float64 (window,).
        total: Sum of the raster over these, float64 (window,).
    """

    grid: GeoBox
    origins: npt.NDArray[np.int64]
    size: int
    known: npt.NDArray[np.float64]
    total: npt.NDArray[np.float64]

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """Mean of the raster where it is known; NaN where it is nowhere known."""
        out = np.full(len(self.known), np.nan)
        return np.divide(self.total, self.known, out=out, where=self.known > 0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predicate:
    """A question to every window, which becomes a column.

    Attributes:
        name: Of the column, letters, digits and underscores.
        of_pixels: Whether it has a raster; without, ``by_window`` looks at places alone.
    """

    name: str = ""
    of_pixels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.default_name)
        if not self.name.isidentifier():
            raise SpecError(
                f"A predicate names its column, in letters, digits and underscores. Received "
                f"{self.name!r}."
            )

    @property
    def default_name(self) -> str:
        """Name of the column where none is given."""
        return ""

    @property
    def needs(self) -> tuple[Needed, ...]:
        """Variables that ``raster`` asks for, each with its period or None."""
        return ()

    def check(self, spec: CubeSpec) -> None:
        """Refuse a cube that cannot answer.

        Raises:
            SpecError: It lacks a variable or a period.
        """
        for name, period in self.needs:
            spec.time_of(name, period)

    def raster(self, box: BoxValues) -> FloatArray:
        """What is summed, float (y, x) of the box; NaN where it is not known.

        Called for every box, in any order and on any worker; it must be a function of what the
        box holds alone.
        """
        raise NotImplementedError

    def by_window(self, found: WindowValues) -> Any:
        """Values by window, made of the sums; the mean where nothing else is said."""
        return found.mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A predicate as a measure, see :class:`training.index.measures.Measure`."""

    predicate: Predicate

    @property
    def needs(self) -> tuple[Needed, ...]:
        """What the predicate reads."""
        return self.predicate.needs

    @property
    def count(self) -> int:
        """Where it is known, and its values."""
        return 2

    def rasters(self, box: BoxValues) -> Iterator[npt.NDArray[Any]]:
        """Where the raster is known, and its values there.

        Raises:
            SpecError: It is of another shape, or infinite somewhere.
        """
        values = np.asarray(self.predicate.raster(box), dtype="float64")
        if values.shape != box.box.shape or np.isinf(values).any():
            raise SpecError(
                f"Predicate {self.predicate.name!r} must give finite numbers, or NaN, of shape "
                f"{box.box.shape}. Received {'infinite ones' if np.isinf(values).any() else 'none'}"
                f" of shape {values.shape}."
            )
        known = ~np.isnan(values)
        yield known
        yield np.where(known, values, 0.0)


def _at(name: str, time: str | None) -> str:
    return name if time is None else f"{name}_{time}".replace("-", "_")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerMean(Predicate):
    """Mean of a layer's own values, where it was observed: the urban share of a flag, say.

    Attributes:
        layer: The layer.
        time: Period; None for a static layer.
    """

    layer: str
    time: str | None = None

    @property
    def default_name(self) -> str:
        """``<layer>_mean``, with the period if there is one."""
        return f"{_at(self.layer, self.time)}_mean"

    @property
    def needs(self) -> tuple[Needed, ...]:
        """The layer."""
        return ((self.layer, self.time),)

    def check(self, spec: CubeSpec) -> None:
        """See :class:`Predicate`; a stack is no layer."""
        spec.layer(self.layer)
        Predicate.check(self, spec)

    def raster(self, box: BoxValues) -> FloatArray:
        """The layer."""
        return box.values(self.layer, self.time)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DensityRank(LayerMean):
    """Share of all that lies in windows at least as dense, the densest first.

    Windows go in descending order of their mean, of equal ones in order of number; each gets the
    sum of all until and with it over the sum of all. ``< 0.85`` keeps the densest windows that
    together hold 85 %. What lies in windows that overlap counts in each. A window without any
    observation has no rank (NaN), and none has where the layer sums up to nothing.
    """

    @property
    def default_name(self) -> str:
        """``<layer>_rank``, with the period if there is one."""
        return f"{_at(self.layer, self.time)}_rank"

    def by_window(self, found: WindowValues) -> npt.NDArray[np.float64]:
        """Cumulative shares, 0..1.

        Raises:
            SpecError: A window has less than nothing.
        """
        if (found.total < 0).any():
            raise SpecError(
                f"A rank by density needs amounts, 0 or more. {self.layer!r} is negative in "
                f"{int((found.total < 0).sum())} windows."
            )
        out = np.full(len(found.total), np.nan)
        whole = found.total.sum()
        # A stable sort puts NaN last and keeps equal ones in order.
        order = np.argsort(-found.mean, kind="stable")
        if whole > 0:
            out[order] = found.total[order].cumsum() / whole
        return np.where(found.known > 0, np.minimum(out, 1.0), np.nan)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassShare(LayerMean):
    """Share of observed pixels that are of some classes.

    Attributes:
        classes: Stored values.
    """

    classes: int | Iterable[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", class_values(self.classes))
        Predicate.__post_init__(self)

    @property
    def default_name(self) -> str:
        """``<layer>_<classes>_share``, with the period if there is one."""
        classes = "_".join(str(value).replace("-", "minus_") for value in self._values)
        return f"{_at(self.layer, self.time)}_{classes}_share"

    @property
    def _values(self) -> tuple[int, ...]:
        return (self.classes,) if isinstance(self.classes, int) else tuple(self.classes)

    def check(self, spec: CubeSpec) -> None:
        """See :class:`Predicate`; the classes must be declared."""
        LayerMean.check(self, spec)
        declared = {value for value, _ in spec.layer(self.layer).classes}
        unknown = sorted(set(self._values) - declared)
        if unknown or not self._values:
            raise SpecError(
                f"{self.layer!r} has the classes {', '.join(map(str, sorted(declared))) or 'none'}."
                f" Received {', '.join(map(str, unknown)) or 'none'}."
            )

    def raster(self, box: BoxValues) -> FloatArray:
        """1 for the classes, 0 for others."""
        known = box.values(self.layer, self.time)
        hits = np.isin(box.stored(self.layer, self.time), self._values)
        return np.where(np.isnan(known), np.nan, hits.astype("float64"))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoverageShare(Predicate):
    """Share of a window inside any polygon of a set.

    Attributes:
        coverage: The set, on the cube's grid.
    """

    coverage: Coverage

    @property
    def default_name(self) -> str:
        """``<set>_share``."""
        return f"{self.coverage.name}_share"

    def check(self, spec: CubeSpec) -> None:
        """See :class:`Predicate`; the grids must be one."""
        if self.coverage.grid != spec.grid:
            raise SpecError(
                f"The coverage {self.coverage.name!r} lies on another grid than the cube; build it "
                f"for this cube."
            )

    def raster(self, box: BoxValues) -> FloatArray:
        """Covered share of each pixel; polygons that overlap cover it once."""
        return np.minimum(self.coverage.shares(box.box.rows, box.box.cols).covered(), 1.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CentreIn(Predicate):
    """A column of the polygon that holds the window's centre; of several the first.

    Attributes:
        polygons: In any CRS.
        column: What of them; missing where no polygon holds the centre.
    """

    polygons: gpd.GeoDataFrame
    column: str
    of_pixels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "polygons", with_known_crs(self.polygons))
        check_polygons(self.polygons)
        column_of(self.polygons, self.column)
        Predicate.__post_init__(self)

    @property
    def default_name(self) -> str:
        """The column's own name."""
        return self.column

    def by_window(self, found: WindowValues) -> pd.Series[Any]:
        """Values by window."""
        t = found.grid.transform
        y, x = (found.origins + found.size / 2).T
        there = transformer(pyproj.CRS(crs_text(found.grid)), pyproj.CRS(self.polygons.crs))
        places = np.stack([t.c + x * t.a, t.f + y * t.e], axis=1)
        tree = shapely.STRtree(self.polygons.geometry.to_numpy())
        owner = np.full(len(places), len(self.polygons))
        for start in range(0, len(places), AT_ONCE):
            points = shapely.points(there(places[start : start + AT_ONCE]))
            window, polygon = tree.query(points, predicate="intersects")
            np.minimum.at(owner, window + start, polygon)
        owner[owner == len(self.polygons)] = -1
        values = self.polygons[self.column].reset_index(drop=True)
        return values.reindex(owner).reset_index(drop=True)
