"""Where the pixels of a grid lie in another CRS, exactly and the same for any box.

PROJ takes a quarter of a microsecond for a point, more than to decode and resample a pixel. Map
projections are smooth, so it is asked at the nodes of a lattice that is anchored to the grid, and
cubic polynomials (Lagrange's, through 4 x 4 nodes) give the pixels in between. Each cell of the
lattice is checked at its centre, where the polynomial of a smooth function errs most, and at two
places beside it, since at the centre errors may cancel out where a pole or a seam is near. Cells
that miss, such as those at the edge of a projection or at the antimeridian, have every pixel
computed by PROJ. All of that is decided by the cell alone, so a pixel comes out the same, to the
bit, in whatever box.
"""

from __future__ import annotations

import functools
import math
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyproj
from pyproj.enums import TransformDirection
from pyproj.exceptions import ProjError

from cube.errors import SourceError
from cube.scenes import Span

if TYPE_CHECKING:
    from affine import Affine
    from odc.geo.geobox import GeoBox

Floats = npt.NDArray[np.floating[Any]]

STEP = 32
"""Pixels between nodes."""

EXACT_PX = 1e-6
"""By so many pixels of the grid a cell may err where it is checked."""

_CHECKED = ((0.5, 0.5), (0.2, 0.4), (0.7, 0.1))
"""Where a cell is checked, down and across in shares of its sides; no two mirror each other."""

_KEPT = 3
"""Boxes a thread keeps: scenes that share a grid, and bands of two or three resolutions."""

_here = threading.local()


class Place(NamedTuple):
    """Where the pixels of a raster lie.

    Attributes:
        crs: Its CRS.
        transform: From (column, row) to (x, y).
        width: Its columns.
    """

    crs: str
    transform: Affine
    width: int

    @property
    def turn_px(self) -> float | None:
        """Columns of a whole turn of the globe, for longitudes; else None."""
        turn = _turn(self.crs)
        return None if turn is None or self.transform.b else turn / abs(self.transform.a)


def pixel_places(
    place: Place, grid: GeoBox, rows: Span, cols: Span, *, at: float = 0.5
) -> tuple[Floats, Floats]:
    """Where the pixels of a box lie in a raster, in its pixels.

    Args:
        place: Where the raster's pixels lie.
        grid: The target grid.
        rows: Half-open range along y.
        cols: Half-open range along x.
        at: What of a pixel is meant: 0.5 its centre, 0.0 its upper left corner.

    Returns:
        Columns and rows of the raster, float64 of shape (rows, cols), or of shapes (1, cols)
        and (rows, 1) where one depends on the other axis alone. 0.5 is the centre of the first
        pixel; not finite where the raster's CRS has no such place. Not to be written to.

    Raises:
        pyproj.exceptions.ProjError: The CRS is not known; see :func:`check_crs`.
    """
    key = (place, str(grid.crs), tuple(grid.transform), rows, cols, at)
    kept: OrderedDict[Any, tuple[Floats, Floats]] = _of_thread("places", OrderedDict)
    if key not in kept:
        x, y = source_xy(place.crs, grid, rows, cols, at=at)
        kept[key] = _nearest_turn(_apply(~place.transform, x, y), place.turn_px, place.width)
        while len(kept) > _KEPT:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]


def _nearest_turn(
    places: tuple[Floats, Floats], turn_px: float | None, width: float
) -> tuple[Floats, Floats]:
    """Columns within half a turn of the middle: 185 degrees east is 175 degrees west."""
    if turn_px is None:
        return places
    cols, rows = places
    with np.errstate(invalid="ignore"):
        # Exact for those that are there already, from which nothing is taken.
        return cols - turn_px * np.round((cols - width / 2) / turn_px), rows


@functools.lru_cache(maxsize=256)
def _turn(crs: str) -> float | None:
    """A whole turn in the unit of a geographic CRS: 360 degrees, or 400 grads."""
    known = pyproj.CRS.from_user_input(crs)
    if not known.is_geographic:
        return None
    return round(2 * math.pi / known.axis_info[0].unit_conversion_factor, 6)


def _apply(transform: Affine, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    a, b, c, d, e, f = tuple(transform)[:6]
    with np.errstate(invalid="ignore"):
        cols = a * x + c if b == 0 else a * x + b * y + c
        rows = e * y + f if d == 0 else d * x + e * y + f
    return cols, rows


def source_xy(
    crs: str, grid: GeoBox, rows: Span, cols: Span, *, at: float = 0.5
) -> tuple[Floats, Floats]:
    """Pixels of a box in another CRS; see :func:`pixel_places`.

    Returns:
        x and y in ``crs``; of shapes (1, cols) and (rows, 1) where that is the grid's own.
    """
    if same_crs(crs, grid):
        x, y = _grid_xy(grid, np.arange(*rows) + at, np.arange(*cols) + at)
        return x[None, :], y[:, None]
    across, down = _Axis(cols, at), _Axis(rows, at)
    nodes = _transformed(crs, grid, down.nodes, across.nodes)
    found = [down.interpolate(across.interpolate(axis, 1), 0) for axis in nodes]
    bad = _bad_cells(crs, grid, nodes, down, across)
    if bad.any():
        here = bad[down.cells[:, None], across.cells[None, :]]
        place = np.nonzero(here)
        exact = _points(crs, grid, place[0] + rows[0] + at, place[1] + cols[0] + at)
        for axis, values in zip(found, exact, strict=True):
            axis[place] = values
    return found[0], found[1]


def same_crs(crs: str, grid: GeoBox) -> bool:
    """True if a CRS is the grid's own."""
    return _transformer(crs, grid) is None


def check_crs(crs: str, grid: GeoBox, *, what: str) -> None:
    """Refuse a CRS that PROJ does not know, or cannot bring to the grid's.

    Raises:
        SourceError: With ``what`` it belongs to.
    """
    try:
        _transformer(crs, grid)
    except ProjError as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"{what}: its CRS cannot be used: {reason}.") from error


def bounds_in(crs: str, grid: GeoBox) -> tuple[float, float, float, float]:
    """Bounds (left, bottom, right, top) of a grid in another CRS; not finite where it has none."""
    onto, box = _transformer(crs, grid), grid.boundingbox.bbox
    if onto is None:
        return box[0], box[1], box[2], box[3]
    left, bottom, right, top = onto.transform_bounds(*box, direction=TransformDirection.INVERSE)
    return left, bottom, right, top


def to_grid(crs: str, grid: GeoBox, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Points of a CRS in pixels of a grid (column, row); not finite where it has no such place."""
    onto = _transformer(crs, grid)
    if onto is not None:
        x, y = onto.transform(x, y)
    places = _apply(~grid.transform, np.asarray(x, "float64"), np.asarray(y, "float64"))
    width = int(grid.shape[1])
    turn_px = Place(str(grid.crs), grid.transform, width).turn_px if grid.crs else None
    return _nearest_turn(places, turn_px, width)


class _Axis:
    """The pixels of a range along one axis, and the lattice under them."""

    def __init__(self, span: Span, at: float) -> None:
        places = (np.arange(*span) + at) / STEP
        cells = np.floor(places).astype(np.intp)
        first, last = int(cells[0]), int(cells[-1])
        self.cells = cells - first
        self.nodes = np.arange(first - 1, last + 3) * float(STEP)
        self._first, self._last = first, last
        self._weights = _weights(places - cells)

    def within(self, share: float) -> Floats:
        """Places at a share of the side of each cell."""
        return (np.arange(self._first, self._last + 1) + share) * STEP

    def interpolate(self, nodes: Floats, axis: int) -> Floats:
        """Values at the pixels along one axis from those at the nodes."""
        shape = (1, -1) if axis == 1 else (-1, 1)
        total: Floats = np.zeros((1, 1))
        with np.errstate(invalid="ignore"):
            for i, weights in enumerate(self._weights):
                term = nodes.take(self.cells + i, axis=axis)
                term *= weights.reshape(shape)
                total = term if i == 0 else np.add(total, term, out=total)
        return total


def _bad_cells(
    crs: str, grid: GeoBox, nodes: tuple[Floats, Floats], down: _Axis, across: _Axis
) -> npt.NDArray[np.bool_]:
    """Cells (row, column) where the polynomial errs too much."""
    with np.errstate(invalid="ignore"):
        x, y = (np.abs(np.diff(values, axis=0))[1:-1, 1:-2] for values in nodes)
        pixel = (x + y) / STEP
        bad = np.zeros(pixel.shape, bool)
        for low, left in _CHECKED:
            exact = _transformed(crs, grid, down.within(low), across.within(left))
            for values, truth in zip(nodes, exact, strict=True):
                error = np.abs(_within(_within(values, low, 0), left, 1) - truth)
                bad |= ~(error <= EXACT_PX * pixel)
    return bad


def _within(values: Floats, share: float, axis: int) -> Floats:
    """Values at a share of the side of each cell along one axis, from four nodes each."""
    n = values.shape[axis] - 3
    a, b, c, d = (values.take(np.arange(i, i + n), axis=axis) for i in range(4))
    of_a, of_b, of_c, of_d = _weights(share)
    found: Floats = of_a * a + of_b * b + of_c * c + of_d * d
    return found


def _weights(t: Any) -> tuple[Any, Any, Any, Any]:
    """Lagrange's, of the nodes at -1, 0, 1 and 2, for places from 0 to 1."""
    return (
        -t * (t - 1) * (t - 2) / 6,
        (t + 1) * (t - 1) * (t - 2) / 2,
        -(t + 1) * t * (t - 2) / 2,
        (t + 1) * t * (t - 1) / 6,
    )


def _transformed(crs: str, grid: GeoBox, rows: Floats, cols: Floats) -> tuple[Floats, Floats]:
    """A lattice of pixel coordinates in another CRS, each of shape (rows, cols)."""
    row, col = np.meshgrid(rows, cols, indexing="ij")
    x, y = _points(crs, grid, row.ravel(), col.ravel())
    return x.reshape(row.shape), y.reshape(row.shape)


def _points(crs: str, grid: GeoBox, rows: Floats, cols: Floats) -> tuple[Floats, Floats]:
    """Pixel coordinates, point by point, in another CRS."""
    x, y = _grid_xy(grid, rows, cols)
    onto = _transformer(crs, grid)
    if onto is None:
        return x, y
    found = onto.transform(x, y, direction=TransformDirection.INVERSE)
    return np.asarray(found[0], "float64"), np.asarray(found[1], "float64")


def _grid_xy(grid: GeoBox, rows: Floats, cols: Floats) -> tuple[Floats, Floats]:
    t = grid.transform
    return t.a * cols + t.c, t.e * rows + t.f


def _transformer(crs: str, grid: GeoBox) -> pyproj.Transformer | None:
    """From a CRS to the grid's, x before y; None if they are the same. One for each thread."""
    kept: dict[Any, pyproj.Transformer | None] = _of_thread("transformers", dict)
    key = (crs, str(grid.crs))
    if key not in kept:
        kept[key] = _new_transformer(crs, grid)
    return kept[key]


def _new_transformer(crs: str, grid: GeoBox) -> pyproj.Transformer | None:
    source = pyproj.CRS.from_user_input(crs)
    target = pyproj.CRS.from_wkt(grid.crs.to_wkt()) if grid.crs else None
    if target is None or source.equals(target, ignore_axis_order=True):
        return None
    return pyproj.Transformer.from_crs(source, target, always_xy=True)


def _of_thread(name: str, make: type[Any]) -> Any:
    """A store of this thread; PROJ's objects are not for several at once."""
    if not hasattr(_here, name):
        setattr(_here, name, make())
    return getattr(_here, name)
