"""The period of each window, by the years of the outlines that it holds.

Outlines of one set are often drawn on images of many years, as those of a glacier inventory are.
A chip is then to be made of the image on which most of its outlines were drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import shapely

from cube.errors import PolygonError, SpecError
from cube.polygons.ids import column_of
from cube.polygons.reading import place_polygons
from cube.spec import CubeSpec
from cube.windows import WindowSet, window_boxes
from training.timings import listed

if TYPE_CHECKING:
    import geopandas as gpd

Rounding = Literal["up", "nearest", "same"]
IntArray = npt.NDArray[np.int64]

AT_ONCE = 1 << 16
"""Windows that are looked at together, so that memory does not grow with their number."""

_YEARS = 10_000


def outline_periods(
    spec: CubeSpec,
    windows: WindowSet,
    outlines: gpd.GeoDataFrame,
    column: str,
    *,
    periods: Iterable[str] | None = None,
    rounding: Rounding = "up",
) -> npt.NDArray[np.object_]:
    """The period of each window: that of the commonest year of the outlines that intersect it.

    Of years that are as common the earliest counts. Outlines without a year do not count.

    Args:
        spec: The cube.
        windows: Which windows.
        outlines: Polygons in any CRS, see :func:`cube.place_polygons`.
        column: Year of each outline, 1..9999; NaN or None where it is not known.
        periods: Periods to choose from; all of the calendar by default. A period stands for the
            year of its last day, as a composite of two years is named by the second.
        rounding: ``"up"`` takes the first period of that year or later, so that odd years go to
            the even one that follows; ``"nearest"`` the nearest, of two the earlier; ``"same"``
            that of the year itself.

    Returns:
        Object (window,): labels of periods; None where no outline with a year is, or where the
        rule knows no period for the year.

    Raises:
        SpecError: The calendar has no such period; windows are of another grid; or ``rounding``
            is none of these.
        PolygonError: A year is none, the column is missing, or see :func:`cube.place_polygons`.
    """
    if rounding not in get_args(Rounding):
        raise SpecError(
            f"rounding is one of {', '.join(get_args(Rounding))}. Received {rounding!r}."
        )
    if tuple(windows.shape) != tuple(spec.grid.shape):
        raise SpecError(
            f"Windows lie on a grid of {tuple(windows.shape)}, the cube on "
            f"{tuple(spec.grid.shape)}. Give the windows of its grid."
        )
    labels = [p.label for p in spec.calendar] if periods is None else listed(periods)
    ends = {_last_year(spec, label): label for label in reversed(labels)}
    placed = place_polygons(outlines, grid=spec.grid, name="The outlines")
    years = _years(placed, column)
    known = ~np.isnan(years)
    modes = _modes(spec, windows, placed.geometry.to_numpy()[known], years[known].astype("int64"))
    found, place = np.unique(modes, return_inverse=True)
    chosen = [None if y == 0 else ends.get(_rounded(int(y), ends, rounding)) for y in found]
    out = np.empty(len(found), dtype=object)
    out[:] = chosen
    return out[place]


def _last_year(spec: CubeSpec, label: str) -> int:
    end = date.fromisoformat(spec.calendar[spec.time_index(label)].end)
    return (end - timedelta(days=1)).year


def _rounded(year: int, ends: Iterable[int], rounding: Rounding) -> int:
    """Year of the period that stands for a year; 0 if there is none."""
    if rounding == "same":
        return year
    if rounding == "up":
        return min((end for end in ends if end >= year), default=0)
    return min(ends, key=lambda end: (abs(end - year), end), default=0)


def _years(outlines: gpd.GeoDataFrame, column: str) -> npt.NDArray[np.float64]:
    """Years of outlines, float64 (outline,), NaN where not known."""
    values = column_of(outlines, column)
    try:
        years = values.to_numpy("float64", na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise PolygonError(
            f"Column {column!r} must hold years as numbers. Received {values.iloc[0]!r}."
        ) from error
    wrong = ~np.isnan(years) & ~((years >= 1) & (years <= 9999) & (years == np.floor(years)))
    if wrong.any():
        raise PolygonError(
            f"Column {column!r} must hold whole years, 1..9999. {wrong.sum()} of {len(years)} are "
            f"none, the first {years[wrong][0]:g}; make those that are not known missing (NaN)."
        )
    return years


def _modes(
    spec: CubeSpec, windows: WindowSet, shapes: npt.NDArray[Any], years: IntArray
) -> IntArray:
    """Commonest year of each window, int64 (window,); 0 where there is none."""
    modes = np.zeros(len(windows), "int64")
    tree = shapely.STRtree(shapes)
    for ids in _batches(len(windows)):
        boxes = window_boxes(spec.grid, windows.origins(ids), windows.size)
        window, outline = tree.query(boxes, predicate="intersects")
        keys, counts = np.unique(ids[window] * _YEARS + years[outline], return_counts=True)
        number, year = np.divmod(keys, _YEARS)
        # Years of a window ascend; sorted by count, the earliest of the commonest comes first.
        order = np.lexsort((-counts, number))
        number, first = np.unique(number[order], return_index=True)
        modes[number] = year[order][first]
    return modes


def _batches(windows: int) -> Iterator[IntArray]:
    for start in range(0, windows, AT_ONCE):
        yield np.arange(start, min(start + AT_ONCE, windows), dtype="int64")
