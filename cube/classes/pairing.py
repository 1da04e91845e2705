"""Which image belongs to a label: pairing of times by declared rule.

Labels are of one time and images of another: a census of 2010 beside a composite of 2009 and 2010,
or outlines that somebody drew from images of different years.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from fractions import Fraction
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from cube.classes.tiling import window_tiles
from cube.errors import PolygonError, SpecError
from cube.polygons.ids import column_of
from cube.polygons.reading import place_polygons
from cube.spec import Period, digest

if TYPE_CHECKING:
    import geopandas as gpd
    from odc.geo.geobox import GeoBox

    from cube.windows import Windows

_log = logging.getLogger("quadrat.pairing")


class _Rule:
    """What all rules share: JSON, and a digest."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; the inverse of :func:`rule_from_dict`."""
        return {"rule": _name_of(type(self)), **asdict(self)}  # type: ignore[call-overload]

    @property
    def digest(self) -> str:
        """First 12 hex digits of the SHA-256 of the sorted JSON."""
        return digest(self.to_dict())


@dataclass(frozen=True, slots=True, kw_only=True)
class Same(_Rule):
    """The image of the period that has the label's name."""

    def image_of(self, label: Period, images: Iterable[Period]) -> Period | None:
        """The image that belongs to a label; None if none does."""
        return _named(label.label, images)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest(_Rule):
    """The image whose middle is nearest to the label's; of two equally near the earlier.

    Attributes:
        within_years: No image farther away than so many years belongs to a label; 0 or more.
    """

    within_years: float

    def __post_init__(self) -> None:
        if not (isinstance(self.within_years, Real) and 0 <= self.within_years < 10_000):
            raise SpecError(f"within_years must be 0 or more. Received {self.within_years!r}.")
        # One spelling of a number, or equal rules would have two digests.
        object.__setattr__(self, "within_years", float(self.within_years))

    def image_of(self, label: Period, images: Iterable[Period]) -> Period | None:
        """The image that belongs to a label; None if none does."""
        away = [(abs(middle(image) - middle(label)), image.start, image) for image in images]
        near = [each for each in away if each[0] <= self.within_years]
        return min(near, key=lambda each: each[:2])[2] if near else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explicit(_Rule):
    """The image that a table says.

    Attributes:
        images: Name of the image's period for each name of a label's.
    """

    images: Mapping[str, str]

    def __post_init__(self) -> None:
        given: Any = self.images
        if not (isinstance(given, Mapping) and given):
            raise SpecError("A table of labels and images must name one label at least.")
        pairs = {str(label): str(image) for label, image in given.items()}
        object.__setattr__(self, "images", dict(sorted(pairs.items())))

    def image_of(self, label: Period, images: Iterable[Period]) -> Period | None:
        """The image that belongs to a label; None if none does."""
        return _named(self.images.get(label.label), images)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlineYears(_Rule):
    """The image of the year in which most outlines of a tile were drawn, of several the earliest.

    Attributes:
        column: Year of each outline, such as 2009.
        odd: Even year that an odd one is moved to, ``"up"`` or ``"down"``, for composites of two
            years named by an even one (:func:`cube.seasons.two_years`); None leaves it.
    """

    column: str
    odd: Literal["up", "down"] | None = None

    def __post_init__(self) -> None:
        if self.odd not in (None, "up", "down"):
            raise SpecError(f"odd must be 'up', 'down' or None. Received {self.odd!r}.")

    def image_year(self, year: int) -> int:
        """The year by which the image of a year is named."""
        step = {None: 0, "up": 1, "down": -1}[self.odd]
        return year + step if year % 2 else year


Rule = Same | Nearest | Explicit | OutlineYears
PeriodRule = Same | Nearest | Explicit

_KINDS: dict[str, type[Rule]] = {
    "same": Same,
    "nearest": Nearest,
    "explicit": Explicit,
    "outline_years": OutlineYears,
}


def _name_of(kind: type[Any]) -> str:
    return next(name for name, known in _KINDS.items() if known is kind)


def rule_from_dict(data: Mapping[str, Any]) -> Rule:
    """Rebuild a rule from its ``to_dict``.

    Raises:
        SpecError: It is no rule, or lacks a field.
    """
    kind = _KINDS.get(str(data.get("rule")))
    if kind is None:
        raise SpecError(
            f"A rule of pairing is one of {', '.join(_KINDS)}. Received rule={data.get('rule')!r}."
        )
    try:
        return kind(**{key: value for key, value in data.items() if key != "rule"})
    except TypeError as error:
        raise SpecError(f"The rule {data['rule']!r} has other fields: {error}.") from error


def middle(period: Period) -> Fraction:
    """Middle of a period in years, exact: leap days make no year longer."""
    return (_in_years(period.start) + _in_years(period.end)) / 2


def _in_years(day: str) -> Fraction:
    moment = date.fromisoformat(day)
    begin = date(moment.year, 1, 1).toordinal()
    length = 366 if date(moment.year, 12, 31).timetuple().tm_yday == 366 else 365
    return moment.year + Fraction(moment.toordinal() - begin, length)


def _named(name: str | None, periods: Iterable[Period]) -> Period | None:
    return next((period for period in periods if period.label == name), None)


def pair_periods(
    rule: PeriodRule, labels: Iterable[Period], images: Iterable[Period]
) -> dict[str, str]:
    """Name of the image's period for every label's.

    Args:
        rule: How they belong together.
        labels: Periods of labels.
        images: Periods of images, such as a cube's calendar.

    Raises:
        SpecError: A label has no image; the message says which labels and what images there are.
    """
    known, wanted = tuple(images), tuple(labels)
    found = {label.label: rule.image_of(label, known) for label in wanted}
    alone = [label for label, image in found.items() if image is None]
    if alone:
        raise SpecError(
            f"{rule} finds no image for {', '.join(alone)}. There are images of "
            f"{', '.join(image.label for image in known) or 'no period'}; take another rule, or "
            f"leave these labels out."
        )
    return {label: image.label for label, image in found.items() if image is not None}


def pair_tiles(
    windows: Windows,
    outlines: gpd.GeoDataFrame,
    rule: OutlineYears,
    *,
    grid: GeoBox,
    calendar: Iterable[Period],
) -> pd.DataFrame:
    """The image that belongs to each window of a grid, by the outlines that it holds.

    Args:
        windows: Of the grid.
        outlines: Polygons with a CRS, and with the column of the rule.
        rule: How years become periods.
        grid: The grid that the windows are of.
        calendar: Periods of images.

    Returns:
        A row per window: window, row, col (first pixel), outlines (how many share an area with
        it), year (most frequent, Int64) and period (name of the image's). Year and period are
        missing where there are no outlines; how many such windows there are is logged.

    Raises:
        PolygonError: Outlines or their years cannot be used, or no outline meets the grid.
        SpecError: The calendar lacks a period.
    """
    years = _years(outlines, rule.column)
    window, outline = _meetings(windows, outlines, grid)
    modes = _modes(window, years[outline])
    tiles = window_tiles(windows, grid)
    table = pd.DataFrame({name: tiles[name] for name in ("window", "row", "col")})
    table["outlines"] = np.bincount(window, minlength=len(windows)).astype("int64")
    table["year"] = modes.reindex(table["window"]).array
    periods = _periods(rule, modes, tuple(calendar))
    table["period"] = table["year"].map(periods).astype("string")
    empty = int(table["year"].isna().sum())
    if empty:
        _log.info("%d of %d windows hold no outline, and so have no period.", empty, len(table))
    return table


def _years(outlines: gpd.GeoDataFrame, column: str) -> npt.NDArray[np.int64]:
    found = column_of(outlines, column)
    years = pd.to_numeric(found, errors="coerce").to_numpy("float64", na_value=np.nan)
    wrong = ~((years >= 1000) & (years <= 9999) & (years == np.rint(years)))
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise PolygonError(
            f"Column {column!r} must hold years, such as 2009. {int(wrong.sum())} of {len(years)} "
            f"values are none, the first in row {first}: {found.iloc[first]!r}. Make "
            f"them years, or drop these outlines."
        )
    return years.astype("int64")


def _meetings(
    windows: Windows, outlines: gpd.GeoDataFrame, grid: GeoBox
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Windows and outlines that share an area, as pairs."""
    shapes = place_polygons(outlines, grid=grid, name="The outlines").geometry.to_numpy()
    boxes = window_tiles(windows, grid).geometry.to_numpy()
    outline, window = shapely.STRtree(boxes).query(shapes, predicate="intersects")
    apart = shapely.touches(shapes[outline], boxes[window])
    return window[~apart].astype("int64"), outline[~apart].astype("int64")


def _modes(window: npt.NDArray[np.int64], years: npt.NDArray[np.int64]) -> pd.Series[int]:
    """Most frequent year by window, of several the earliest; Int64."""
    counts = pd.DataFrame({"window": window, "year": years}).value_counts().rename("count")
    table = counts.reset_index().sort_values(
        ["window", "count", "year"], ascending=[True, False, True]
    )
    return table.drop_duplicates("window").set_index("window")["year"].astype("Int64")


def _periods(
    rule: OutlineYears, modes: pd.Series[int], calendar: tuple[Period, ...]
) -> dict[int, str]:
    """Name of the image's period for each year."""
    names = {int(year): f"{rule.image_year(int(year)):04d}" for year in modes.unique()}
    known = {period.label for period in calendar}
    absent = sorted({name for name in names.values() if name not in known})
    if absent:
        raise SpecError(
            f"Outlines belong to images of {', '.join(absent)}, which the calendar lacks. It has: "
            f"{', '.join(period.label for period in calendar)}. Append them, or move odd years "
            f"with odd=."
        )
    return names
