"""Files onto a grid through the places of its pixels: values there, or amounts spread over it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cube import coarsening, conserving, kernels
from cube.coordinates import Place, pixel_places, to_grid
from cube.rasters import float_for, read_window
from cube.regions import ranges
from cube.scenes import SceneBand, Span

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from rasterio.io import DatasetReader

Floats = npt.NDArray[np.floating[Any]]
Box = tuple[Span, Span]

WINDOW_BYTES = 1 << 26
"""Of a file at once: where its pixels are much finer than the grid's, a box is read in parts."""

_DEPOSIT_BYTES = 12 * 8
"""What each pixel of a file takes while its amount is spread: places, extents and shares."""


def sampled(
    raster: DatasetReader,
    place: Place,
    grid: GeoBox,
    box: Box,
    layers: Sequence[SceneBand],
    scale: tuple[float, float] | None = None,
) -> Floats:
    """Values at the places of a box's pixels in a file.

    Args:
        raster: The file.
        place: Where its pixels lie.
        grid: The target grid.
        box: Rows and columns of the grid.
        layers: Bands of the file, all resampled like the first.
        scale: Destination pixels per source pixel along (x, y), where the kernel has to be
            wider than the file's pixels (:func:`cube.coarsening.smooth`); None where not
            (:func:`cube.kernels.resample`).

    Returns:
        Stored values as floats, (band, rows, cols), NaN for nodata and outside the file.
    """
    kind = str(layers[0].resampling)
    cols, rows = pixel_places(place, grid, *box)
    reach = [
        kernels.REACH[kind] if scale is None else coarsening.reach(kind, each)
        for each in scale or (1.0, 1.0)
    ]
    found = _nothing(raster, layers, box)
    for part in _strips(raster, cols, rows, found.shape[1], len(layers)):
        own_cols, own_rows = _own(cols, part), _own(rows, part)
        across = _span(own_cols, raster.width, reach[0])
        down = _span(own_rows, raster.height, reach[1])
        if across and down:
            values = read_window(raster, layers, down, across)
            # Less a whole number is exact, so no digit depends on where the window begins.
            where = own_cols - across[0], own_rows - down[0]
            found[:, part] = (
                kernels.resample(kind, values, *where)
                if scale is None
                else coarsening.smooth(kind, values, *where, scale)
            )
    return found


def averaged(
    raster: DatasetReader, place: Place, grid: GeoBox, box: Box, layers: Sequence[SceneBand]
) -> Floats:
    """Means of a file over the pixels of a box; see :func:`sampled`.

    A pixel is taken for a box side by side with the file's axes: the one between the places of
    its upper left and lower right corner, as GDAL takes it; but where a CRS turns pixels by so
    much that this would be a sliver, one of their own area.
    """
    across, down = _areas(place, grid, box)
    found = _nothing(raster, layers, box)
    for part in _strips(raster, across[0], down[0], found.shape[1], len(layers)):
        x = _own(across[0], part), _own(across[1], part)
        y = _own(down[0], part), _own(down[1], part)
        x_span, y_span = _touched(x, raster.width), _touched(y, raster.height)
        if x_span and y_span:
            values = read_window(raster, layers, y_span, x_span)
            # Exact; see sampled().
            x = x[0] - x_span[0], x[1] - x_span[0]
            y = y[0] - y_span[0], y[1] - y_span[0]
            found[:, part] = coarsening.average(values, x, y)
    return found


def _areas(
    place: Place, grid: GeoBox, box: Box
) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Ends of a box's pixels in columns, and in rows, of a file."""
    (top, bottom), (left, right) = box
    cols, rows = _corners(place, grid, (top, bottom + 1), (left, right + 1))
    if not _askew(place, grid):
        return _round_the_globe(_ends(cols), place), _ends(rows)
    own = _shapes(cols, rows, place.turn_px)
    x, y, width, height = (own[name] for name in ("x", "y", "width", "height"))
    across = x - width / 2, x + width / 2
    return _round_the_globe(across, place), (y - height / 2, y + height / 2)


def _corners(place: Place, grid: GeoBox, rows: Span, cols: Span) -> tuple[Floats, Floats]:
    """Places of corners of pixels in a file; NaN also for those infinitely far away."""
    x, y = pixel_places(place, grid, rows, cols, at=0.0)
    return np.where(np.isfinite(x), x, np.nan), np.where(np.isfinite(y), y, np.nan)


def _askew(place: Place, grid: GeoBox) -> bool:
    """True where opposite corners of a pixel span less than half of it.

    Asked at the middle of the grid, so that all boxes are taken alike.
    """
    row, col = (int(length) // 2 for length in grid.shape)
    cols, rows = _corners(place, grid, (row, row + 2), (col, col + 2))
    if cols.shape != rows.shape:
        return False
    own = _shapes(cols, rows, place.turn_px)
    (left, right), (top, bottom) = _round_the_globe(_ends(cols), place), _ends(rows)
    spanned = np.abs((right - left) * (bottom - top))
    return bool((spanned < own["width"] * own["height"] / 2).all())


def _ends(corners: Floats) -> tuple[Floats, Floats]:
    """Places of upper left and lower right corners along one axis of the file."""
    if len(corners) == 1:
        return corners[:, :-1], corners[:, 1:]
    if corners.shape[1] == 1:
        return corners[:-1], corners[1:]
    return corners[:-1, :-1], corners[1:, 1:]


def _round_the_globe(ends: tuple[Floats, Floats], place: Place) -> tuple[Floats, Floats]:
    """Ends of boxes none of which goes the long way round."""
    turn_px = place.turn_px
    if turn_px is None:
        return ends
    one, other = ends
    with np.errstate(invalid="ignore"):
        other = other - turn_px * np.round((other - one) / turn_px)
        away = turn_px * np.round(((one + other) / 2 - place.width / 2) / turn_px)
        return one - away, other - away


def _touched(ends: tuple[Floats, Floats], length: int) -> Span | None:
    """Pixels of a file that boxes touch along one axis; None if none."""
    low, high = np.minimum(*ends), np.maximum(*ends)
    with np.errstate(invalid="ignore"):
        here = (high > 0) & (low < length)
    if not here.any():
        return None
    first, last = math.floor(low[here].min()), math.ceil(high[here].max())
    return max(first - 1, 0), min(last + 1, length)


def _nothing(raster: DatasetReader, layers: Sequence[SceneBand], box: Box) -> Floats:
    dtype = float_for([raster.dtypes[layer.index - 1] for layer in layers])
    return np.full((len(layers), *(stop - start for start, stop in box)), np.nan, dtype)


def _own(places: Floats, part: slice) -> Floats:
    return places[part] if len(places) > 1 else places


def _strips(
    raster: DatasetReader, cols: Floats, rows: Floats, height: int, depth: int
) -> Iterator[slice]:
    """Rows of the box whose window in the file is not too large."""
    spans = _span(cols, raster.width, 0), _span(rows, raster.height, 0)
    size = math.prod(span[1] - span[0] if span else 0 for span in spans) * depth * 8
    count = max(1, min(height, math.ceil(size / WINDOW_BYTES)))
    for start, stop in ranges(height, math.ceil(height / count)):
        yield slice(start, stop)


def _span(places: Floats, length: int, reach: int) -> Span | None:
    """Pixels of a file that places along one axis need; None if all lie outside."""
    low, high = float(places.min()), float(places.max())
    if not (low >= -kernels.TIE and high < length - kernels.TIE):
        with np.errstate(invalid="ignore"):
            here = places[(places >= -kernels.TIE) & (places < length - kernels.TIE)]
        if not here.size:
            return None
        low, high = float(here.min()), float(here.max())
    first, last = math.floor(low) - reach, math.floor(high) + reach + 2
    return max(first, 0), min(last, length)


def deposited(
    raster: DatasetReader, place: Place, grid: GeoBox, box: Box, layers: Sequence[SceneBand]
) -> Floats:
    """Amounts of a file's pixels, spread over those of a box; see :func:`sampled`.

    A pixel of the file spreads over a box of its own area, side by side with the grid's axes:
    exactly what it covers where both have one CRS, and nearly so where a CRS turns it a little.
    Its whole amount arrives in any case.

    Returns:
        float64 of shape (band, rows, cols); NaN where no observed pixel of the file lies.
    """
    windows = _touching(raster, place, grid, box)
    shape = tuple(stop - start for start, stop in box)
    size = _DEPOSIT_BYTES * sum(
        (bottom - top) * (right - left) for (top, bottom), (left, right) in windows
    )
    if size > WINDOW_BYTES and max(shape) > 1:
        axis = 1 if shape[0] >= shape[1] else 2
        halves = [deposited(raster, place, grid, half, layers) for half in _halves(box, axis - 1)]
        return np.concatenate(halves, axis=axis)
    found = np.full((len(layers), *shape), np.nan)
    for window in windows:
        values = read_window(raster, layers, *window)
        for places in _extents(place, grid, window):
            for total, band in zip(found, values, strict=True):
                more = conserving.deposit(band, **places, rows=box[0], cols=box[1])
                total[...] = np.where(np.isnan(total), more, total + np.nan_to_num(more))
    return found


def _halves(box: Box, axis: int) -> tuple[Box, Box]:
    (start, stop), middle = box[axis], sum(box[axis]) // 2
    parts = (start, middle), (middle, stop)
    return tuple((part, box[1]) if axis == 0 else (box[0], part) for part in parts)  # type: ignore[return-value]


def _touching(raster: DatasetReader, place: Place, grid: GeoBox, box: Box) -> list[Box]:
    """Windows of the file that hold every pixel which touches a box, each once.

    A file in degrees has one for each of its halves, so that a box across its first and last
    column does not take all between them. The halves are always the same, whatever the box, and
    so is the order in which amounts are added up.
    """
    wide = tuple((start - 1, stop + 1) for start, stop in box)
    cols, rows = pixel_places(place, grid, *wide)
    down = _near(rows, _step(rows, None), (0, raster.height))
    turn_px, middle = place.turn_px, raster.width // 2
    parts = [(0, raster.width)] if turn_px is None else [(0, middle), (middle, raster.width)]
    if turn_px is not None:
        step = _step(cols, turn_px)
        cols = np.concatenate([cols - turn_px, cols, cols + turn_px])
    else:
        step = _step(cols, None)
    spans = [_near(cols, step, part) for part in parts]
    return [(down, across) for across in spans if down and across]


def _step(places: Floats, turn_px: float | None) -> int:
    """Pixels between neighbours at most, and one more: the edges of a curved box."""
    widest = 0.0
    for axis in (0, 1):
        with np.errstate(invalid="ignore"):
            steps = np.diff(places, axis=axis)
            if turn_px is not None:
                steps = steps - turn_px * np.round(steps / turn_px)
        steps = np.abs(steps[np.isfinite(steps)])
        widest += float(steps.max()) if steps.size else 0.0
    return math.ceil(widest) + 1


def _near(places: Floats, step: int, part: Span) -> Span | None:
    """Those of some pixels along one axis of a file that lie so near to places; None if none."""
    with np.errstate(invalid="ignore"):
        here = places[(places >= part[0] - step) & (places <= part[1] + step)]
    if not here.size:
        return None
    first, last = math.floor(here.min()) - step, math.ceil(here.max()) + step
    span = max(first, part[0]), min(last, part[1])
    return span if span[0] < span[1] else None


def _extents(place: Place, grid: GeoBox, window: Box) -> list[dict[str, Floats]]:
    """Centres and extents of a window's pixels in pixels of the grid.

    Twice if some lie across the place where a grid in degrees begins again: they come in at the
    other end, too.
    """
    (top, bottom), (left, right) = window
    rows, cols = np.arange(top, bottom + 1.0), np.arange(left, right + 1.0)
    width_px = int(grid.shape[1])
    turn_px = Place(str(grid.crs), grid.transform, width_px).turn_px if grid.crs else None
    found = _shapes(*_placed(place, grid, rows, cols), turn_px)
    if turn_px is None and place.turn_px is not None:
        _mend(found, place, grid, rows[:-1] + 0.5, cols[:-1] + 0.5)
    # What has no place on the grid lies outside; its extent must be a number all the same.
    width, height = found["width"], found["height"]
    lost = ~(np.isfinite(width) & np.isfinite(height) & (width > 0) & (height > 0))
    found["x"][lost], width[lost], height[lost] = np.nan, 1.0, 1.0
    if turn_px is None:
        return [found]
    away = found["x"] - width_px / 2
    over = np.abs(away) + width / 2 > turn_px / 2
    if not over.any():
        return [found]
    other = np.where(over, found["x"] - np.copysign(turn_px, away), np.nan)
    return [found, {**found, "x": other}]


def _placed(place: Place, grid: GeoBox, rows: Floats, cols: Floats) -> tuple[Floats, Floats]:
    """Places of a file's rows and columns on the grid, each of shape (rows, cols)."""
    row, col = (axis.ravel() for axis in np.meshgrid(rows, cols, indexing="ij"))
    t = place.transform
    x, y = to_grid(place.crs, grid, t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f)
    shape = len(rows), len(cols)
    return x.reshape(shape), y.reshape(shape)


def _shapes(x: Floats, y: Floats, turn_px: float | None) -> dict[str, Floats]:
    """Centres and extents of pixels from their corners, (rows + 1, cols + 1)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        along, turned = _steps(x, 1, turn_px), _steps(y, 1)
        area = np.abs(along * _steps(y, 0) - turned * _steps(x, 0, turn_px))
        side = np.hypot(along, turned)
        flat = np.abs(along) >= np.abs(turned)
        return {
            "x": _centres(x, turn_px),
            "y": _centres(y),
            "width": np.where(flat, side, area / side),
            "height": np.where(flat, area / side, side),
        }


def _mend(found: dict[str, Floats], place: Place, grid: GeoBox, rows: Floats, cols: Floats) -> None:
    """Give pixels whose corners lie on both edges of a map, as at 180 degrees, their own place."""
    x, y = _placed(place, grid, rows, cols)
    with np.errstate(invalid="ignore"):
        apart = np.hypot(found["x"] - x, found["y"] - y)
        torn = np.isfinite(x) & np.isfinite(y) & ~(apart < (found["width"] + found["height"]) / 4)
    small = 1e-3
    for i, j in np.argwhere(torn):
        ends = np.array([-small, small]) / 2
        one = _shapes(*_placed(place, grid, rows[i] + ends, cols[j] + ends), None)
        found["x"][i, j], found["y"][i, j] = x[i, j], y[i, j]
        for name in ("width", "height"):
            found[name][i, j] = one[name][0, 0] / small


def _steps(corners: Floats, axis: int, turn_px: float | None = None) -> Floats:
    """Mean difference of a pixel's corners along one axis; never the long way round the globe."""
    steps = _wrapped(np.diff(corners, axis=axis), turn_px)
    return (steps[1:] + steps[:-1]) / 2 if axis == 1 else (steps[:, 1:] + steps[:, :-1]) / 2


def _centres(corners: Floats, turn_px: float | None = None) -> Floats:
    # From the first corner on, for the others may lie a turn away.
    first = corners[:-1, :-1]
    others = (corners[1:, :-1], corners[:-1, 1:], corners[1:, 1:])
    return first + sum(_wrapped(other - first, turn_px) for other in others) / 4


def _wrapped(steps: Floats, turn_px: float | None) -> Floats:
    return steps if turn_px is None else steps - turn_px * np.round(steps / turn_px)
