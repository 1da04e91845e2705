"""Groups of polygons that claim pixels: by their share of them, or by their centres.

Everything is computed for whole tiles at fixed places of the grid and cut, so a pixel is claimed
alike in any box, to the bit.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely

from cube.coverage.outlines import Outlines
from cube.errors import PolygonError
from cube.polygons import files as polygon_files
from cube.polygons.ids import column_of
from cube.polygons.reading import (
    check_polygons,
    place_polygons,
    polygons_digest,
    with_known_crs,
)
from cube.scenes import Needs, Span
from cube.spec import crs_text

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

FloatArray = npt.NDArray[np.floating[Any]]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TileValues = Callable[["GeoBox", Span, Span], FloatArray]
"""Values (band, rows, cols) of a tile of a grid."""

TILE = 512
"""Side of the tiles that are computed as a whole, in pixels."""

_TILES_KEPT = 8
_GRIDS_KEPT = 2


class Kept:
    """What was asked for last, by key: made once, by whoever asks first; pickles empty."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, Lock()
        self._made = OrderedDict[Hashable, Future[Any]]()

    def __reduce__(self) -> tuple[type[Kept], tuple[int]]:
        return type(self), (self._most,)

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What lies under a key; made now if nothing does."""
        with self._lock:
            first = key not in self._made
            made = self._made.setdefault(key, Future())
            self._made.move_to_end(key)
            if len(self._made) > self._most:
                self._made.popitem(last=False)
        if first:
            try:
                made.set_result(make())
            except BaseException as error:  # raised below, here and where others wait for it
                with self._lock:
                    self._made.pop(key, None)
                made.set_exception(error)
        return made.result()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Groups:
    """Polygons in groups that claim pixels of a grid.

    Attributes:
        polygons: Geometries alone, in a CRS with a known datum.
        group: Number of the group of each, int64 (polygon,), from 0.
        count: Number of groups.
        extent: Polygons, all of group 0, outside which nothing is known; None for everywhere.
    """

    polygons: gpd.GeoDataFrame = field(repr=False)
    group: Ints = field(repr=False)
    count: int
    extent: Groups | None = None
    _placed: Kept = field(init=False, repr=False, default_factory=lambda: Kept(_GRIDS_KEPT))
    _tiles: Kept = field(init=False, repr=False, default_factory=lambda: Kept(_TILES_KEPT))

    @classmethod
    def of(
        cls,
        polygons: gpd.GeoDataFrame,
        numbers: Mapping[Any, int],
        column: str | None,
        *,
        extent: gpd.GeoDataFrame | None = None,
    ) -> Groups:
        """Polygons by the values of a column, or all in group 0 without one.

        Raises:
            PolygonError: Polygons are invalid, have no known CRS, lack the column, or hold a
                value that is missing or has no number.
        """
        return cls(
            polygons=_shapes(polygons, "The polygons"),
            group=_group(polygons, numbers, column),
            count=1 + max(numbers.values()),
            extent=None if extent is None else _extent(extent),
        )

    @property
    def digest(self) -> str:
        """First 12 hex digits of a SHA-256 of the polygons, their groups and the extent."""
        own = hashlib.sha256(polygons_digest(self.polygons).encode())
        own.update(self.group.astype("<i8").tobytes())
        own.update(b"" if self.extent is None else self.extent.digest.encode())
        return own.hexdigest()[:12]

    def check(self, grid: GeoBox) -> None:
        """Refuse a grid that none of the polygons, or of the extent, meets.

        Raises:
            PolygonError: None does, or one has no place in the grid's CRS.
        """
        self.outlines(grid)
        if self.extent is not None:
            self.extent.check(grid)

    def needs(self, *, depth: int) -> Needs:
        """What a box takes, of so many bands; see :class:`cube.scenes.Needs`."""
        a_pixel = 8 * (3 * self.count + 2) + 8 * depth * _TILES_KEPT
        return Needs(read_bytes=0, peak_bytes=TILE**2 * a_pixel, opens=0)

    def read(
        self,
        values: TileValues,
        grid: GeoBox,
        rows: Span,
        cols: Span,
        *,
        depth: int,
        dtype: str,
    ) -> FloatArray:
        """Values of a box, made tile by tile; NaN outside the extent.

        Args:
            values: Those of a whole tile.
            grid: The whole grid.
            rows: Half-open range along y; may reach outside the grid.
            cols: Half-open range along x; may reach outside the grid.
            depth: Bands.
            dtype: Of what comes out.
        """
        out = np.empty((depth, rows[1] - rows[0], cols[1] - cols[0]), dtype)
        for down in tile_spans(rows):
            for across in tile_spans(cols):
                make = partial(self._tile, values, grid, down, across, dtype)
                tile = self._tiles.get((place_of(grid), down, across), make)
                _paste(tile, out, (down, across), (rows, cols))
        return out

    def _tile(
        self, values: TileValues, grid: GeoBox, rows: Span, cols: Span, dtype: str
    ) -> FloatArray:
        found = values(grid, rows, cols)
        return np.where(self.known(grid, rows, cols), found, np.nan).astype(dtype)

    def known(self, grid: GeoBox, rows: Span, cols: Span) -> npt.NDArray[np.bool_]:
        """Pixels whose centre lies in the extent, bool (1, rows, cols)."""
        if self.extent is None:
            return np.ones((1, rows[1] - rows[0], cols[1] - cols[0]), "bool")
        return self.extent.centres(grid, rows, cols)

    def outlines(self, grid: GeoBox) -> Outlines:
        """The polygons in pixels of a grid, where a coverage of them has them too.

        Raises:
            PolygonError: One has no place in the grid's CRS, or none meets the grid.
        """
        found: Outlines = self._placed.get(place_of(grid), lambda: self._outlines(grid))
        return found

    def _outlines(self, grid: GeoBox) -> Outlines:
        placed = place_polygons(self.polygons, grid=grid)
        return Outlines.of(placed.geometry.to_numpy(), grid)

    def shares(self, grid: GeoBox, rows: Span, cols: Span) -> Floats:
        """Share of each pixel in each group, float64 (group, rows, cols), 0..1.

        The sum over the group's polygons, at most 1.
        """
        found = self.outlines(grid).shares(rows, cols)
        size = found.label.size
        place = self.group[found.polygon] * size + found.pixel
        out: Floats = np.bincount(place, found.share, self.count * size).astype("float64")
        out = out.reshape(self.count, size)
        whole = np.flatnonzero(found.label >= 0)
        out[self.group[found.label.ravel()[whole]], whole] += 1.0
        return np.minimum(out, 1.0).reshape(self.count, *found.label.shape)

    def centres(self, grid: GeoBox, rows: Span, cols: Span) -> npt.NDArray[np.bool_]:
        """Pixels whose centre lies in each group, bool (group, rows, cols)."""
        outlines = self.outlines(grid)
        members = outlines.meeting(rows, cols)
        member, row, start, stop = runs(outlines.take(members), rows, cols)
        group = self.group[members][member]
        steps = np.zeros((self.count, rows[1] - rows[0], cols[1] - cols[0] + 1), "int32")
        np.add.at(steps, (group, row, start), 1)
        np.subtract.at(steps, (group, row, stop), 1)
        return np.cumsum(steps, axis=2)[..., :-1] > 0


def _extent(extent: gpd.GeoDataFrame) -> Groups:
    shapes = _shapes(extent, "The extent")
    return Groups(polygons=shapes, group=np.zeros(len(shapes), "int64"), count=1)


def _shapes(polygons: gpd.GeoDataFrame, name: str) -> gpd.GeoDataFrame:
    """A copy of the geometries alone, checked: what happens to the frame later does not matter."""
    polygon_files.check_frame(polygons, name)
    placed = with_known_crs(polygons, name=name)
    check_polygons(placed)
    return gpd.GeoDataFrame(
        geometry=shapely.force_2d(placed.geometry.to_numpy()),
        crs=placed.crs,
    )


def _group(polygons: gpd.GeoDataFrame, numbers: Mapping[Any, int], column: str | None) -> Ints:
    """Number of each polygon, by its value in a column."""
    if column is None:
        return np.zeros(len(polygons), "int64")
    found = column_of(polygons, column)
    missing = np.flatnonzero(found.isna())
    if len(missing):
        raise PolygonError(
            f"Column {column!r} must say the class of every polygon. {len(missing)} of "
            f"{len(polygons)} values are missing, the first in row {missing[0]}; fill or drop them."
        )
    values = found.tolist()
    unknown = [value for value in dict.fromkeys(values) if value not in numbers]
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise PolygonError(
            f"Column {column!r} holds {', '.join(map(repr, unknown[:5]))}{more}, to which no class "
            f"is given. Classes are given to {', '.join(map(repr, numbers))}; add to them, or drop "
            f"these polygons."
        )
    return np.array([numbers[value] for value in values], "int64")


def place_of(grid: GeoBox) -> tuple[str, tuple[float, ...], tuple[int, ...]]:
    """What decides where polygons lie on a grid."""
    return crs_text(grid), tuple(grid.transform)[:6], tuple(int(n) for n in grid.shape)


def tile_spans(span: Span) -> Iterator[Span]:
    """The tiles that a range along one axis meets, outside the grid too."""
    for start in range(span[0] // TILE * TILE, span[1], TILE):
        yield start, start + TILE


def _paste(
    tile: FloatArray, out: FloatArray, at: tuple[Span, Span], box: tuple[Span, Span]
) -> None:
    """Copy what a tile and a box share, (band, y, x) each."""
    source, target = [], []
    for (start, stop), (first, last) in zip(at, box, strict=True):
        low, high = max(start, first), min(stop, last)
        source.append(slice(low - start, high - start))
        target.append(slice(low - first, high - first))
    out[:, target[0], target[1]] = tile[:, source[0], source[1]]


def runs(outlines: Outlines, rows: Span, cols: Span) -> tuple[Ints, Ints, Ints, Ints]:
    """Pixels of a box whose centres lie inside polygons, as runs along rows.

    A centre on an edge lies in the polygon to its right, or else below it, so that polygons which
    share an edge share no centre.

    Args:
        outlines: Polygons in pixels.
        rows: Half-open range along y.
        cols: Half-open range along x.

    Returns:
        Polygon, row, first column and the column after the last of each run, int64 (run,);
        rows and columns count from the corner of the box.
    """
    (x0, y0), (x1, y1), owner = _edges(outlines)
    # Half-open along y, too: a vertex belongs to one of the two edges that meet there.
    first, stop = (np.ceil(y - 0.5).clip(*rows).astype("int64") for y in (y0, y1))
    counts = stop - first
    edge = np.repeat(np.arange(len(counts)), counts)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    # From the upper end always: two polygons see the same edge at the same place, to the bit.
    slope = (x1[edge] - x0[edge]) / (y1[edge] - y0[edge])
    col = np.ceil(x0[edge] + (row + 0.5 - y0[edge]) * slope - 0.5)
    col = col.clip(*cols).astype("int64")
    order = np.lexsort((col, row, owner[edge]))
    polygon, row, col = owner[edge][order], row[order] - rows[0], col[order] - cols[0]
    # Rings are closed: a row enters a polygon as often as it leaves it.
    return polygon[::2], row[::2], col[::2], col[1::2]


def _edges(outlines: Outlines) -> tuple[Floats, Floats, Ints]:
    """Upper and lower ends of all edges, float64 (2, edge) each, and their polygon."""
    ring = np.repeat(np.arange(len(outlines.ring_start) - 1), np.diff(outlines.ring_start))
    polygon = np.searchsorted(outlines.polygon_start, ring, side="right") - 1
    begins = np.flatnonzero(ring[1:] == ring[:-1])
    one, other = outlines.xy[begins].T, outlines.xy[begins + 1].T
    down = one[1] <= other[1]
    return np.where(down, one, other), np.where(down, other, one), polygon[begins]
