"""Points that people marked, as labels: of pixels, of tiles, and of places where nothing is."""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import KW_ONLY, dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, get_args

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from cube.classes.claiming import Kept
from cube.classes.rasterising import ClassPolygons
from cube.errors import PolygonError, SpecError
from cube.metres import is_metric
from cube.polygons.reading import check_polygons, with_known_crs
from cube.scenes import Needs, Span
from cube.spec import crs_text

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

FloatArray = npt.NDArray[np.floating[Any]]

Shape = Literal["round", "square"]
PointRule = Literal["centre", "all_touched"]

POSITIVE, NEGATIVE = 1, 0
"""Classes of what points mark."""

_log = logging.getLogger("quadrat.points")

_ARC = 16
"""Straight pieces of a quarter of a circle."""


@dataclass(frozen=True, slots=True, eq=False)
class PointLabels:
    """Classes of pixels around points; a :class:`cube.scenes.Source` of one band.

    Pixels around positive points are 1, those around negative points 0, and of all others nobody
    knows anything: they are nodata, unless ``background`` says otherwise on purpose. Buffers are
    measured in ``crs``, by default the grid's, which must be projected, in metres. Circles are
    polygons of 64 corners, which lie on them.

    Attributes:
        points: Positive ones, with a CRS whose datum is known.
        buffer_m: Radius of a circle, or half the side of a square, in metres; above 0.
        shape: Of the buffers.
        negatives: Points where the thing is not.
        negative_buffer_m: As ``buffer_m``; None for the same.
        conflict: What becomes of a pixel that both claim: ``"positive"``, or ``"refuse"``.
        background: 0 where every pixel without a point holds no such thing; None for nodata.
        rule: Which pixels a buffer claims; see :class:`cube.classes.rasterising.ClassPolygons`. The
            default claims every pixel that it has an area in, so that no point is lost.
        crs: Where buffers are measured, for a grid in degrees, in feet or in Web Mercator, such as
            ``"EPSG:32725"``; None for the grid's.
        name: Of the one band.
    """

    points: gpd.GeoDataFrame = field(repr=False)
    _: KW_ONLY
    buffer_m: float
    shape: Shape = "round"
    negatives: gpd.GeoDataFrame | None = field(default=None, repr=False)
    negative_buffer_m: float | None = None
    conflict: Literal["positive", "refuse"] = "positive"
    background: int | None = None
    rule: PointRule = "all_touched"
    crs: str | None = None
    name: str = "label"
    _buffered: Kept = field(init=False, repr=False, default_factory=lambda: Kept(2))

    def __post_init__(self) -> None:
        if self.negative_buffer_m is None:
            object.__setattr__(self, "negative_buffer_m", self.buffer_m)
        for name in ("buffer_m", "negative_buffer_m"):
            object.__setattr__(self, name, _metres(name, getattr(self, name), above=0.0))
        _check_option("shape", self.shape, get_args(Shape))
        _check_option("conflict", self.conflict, ("positive", "refuse"))
        _check_option("rule", self.rule, get_args(PointRule))
        if self.background not in (None, NEGATIVE):
            raise SpecError(
                f"background must be 0 or None, for nodata. Received {self.background!r}."
            )
        if self.crs is not None:
            object.__setattr__(self, "crs", _metric(self.crs))
        object.__setattr__(self, "points", check_points(self.points, name="The points"))
        if self.negatives is not None:
            negatives = check_points(self.negatives, name="The negatives")
            object.__setattr__(self, "negatives", negatives)

    @property
    def bands(self) -> tuple[str, ...]:
        """The one band."""
        return (self.name,)

    @property
    def codes(self) -> tuple[int, ...]:
        """0 for negatives, 1 for positives."""
        known = self.negatives is not None or self.background is not None
        return (NEGATIVE, POSITIVE) if known else (POSITIVE,)

    def read(self, grid: GeoBox, rows: Span, cols: Span) -> FloatArray:
        """See :meth:`cube.scenes.Source.read`; float32.

        Raises:
            PolygonError: Both kinds of points claim a pixel, and ``conflict`` is ``"refuse"``.
        """
        return self._classes(grid).read(grid, rows, cols)

    def check(self, grid: GeoBox) -> None:
        """See :meth:`cube.scenes.Source.check`.

        Raises:
            PolygonError: No buffer meets the grid; or see :meth:`read`.
            SpecError: The grid's CRS is not in metres, and ``crs`` was not given.
        """
        self._classes(grid).check(grid)

    def needs(self, grid: GeoBox, rows: Span, cols: Span) -> Needs:
        """What a box takes; see :class:`cube.scenes.Needs`."""
        return self._classes(grid).needs(grid, rows, cols)

    def describe(self) -> dict[str, Any]:
        """See :meth:`cube.scenes.Source.describe`; points by a digest."""
        return {
            "points": points_digest(self.points),
            "negatives": None if self.negatives is None else points_digest(self.negatives),
            "buffers_m": [self.buffer_m, self.negative_buffer_m],
            "shape": self.shape,
            "conflict": self.conflict,
            "background": self.background,
            "rule": self.rule,
            "crs": self.crs,
        }

    def _classes(self, grid: GeoBox) -> ClassPolygons:
        crs = self.crs or crs_text(grid)
        found: ClassPolygons = self._buffered.get(crs, lambda: self._made(_metric(crs)))
        return found

    def _made(self, crs: str) -> ClassPolygons:
        kinds = [(self.points, POSITIVE, self.buffer_m)]
        if self.negatives is not None:
            kinds.append((self.negatives, NEGATIVE, self.negative_buffer_m or self.buffer_m))
        buffers = [buffered(points, metres, crs, self.shape) for points, _, metres in kinds]
        labels = np.repeat([label for _, label, _ in kinds], [len(b) for b in buffers])
        frame = gpd.GeoDataFrame({"label": labels}, geometry=np.concatenate(buffers), crs=crs)
        priority = (POSITIVE, NEGATIVE)[: len(kinds)]
        return ClassPolygons(
            frame,
            {label: label for _, label, _ in kinds},
            column="label",
            rule=self.rule,
            priority=priority if self.conflict == "positive" else (),
            background=self.background,
        )


def check_points(points: gpd.GeoDataFrame, *, name: str) -> gpd.GeoDataFrame:
    """A copy of the points alone, in a CRS whose datum is known.

    Raises:
        PolygonError: There are none; one is missing, empty or no point; or the CRS is missing or
            its datum is not known.
    """
    if not isinstance(points, gpd.GeoDataFrame):
        raise PolygonError(
            f"{name}: a GeoDataFrame of points was expected. Received {type(points).__name__}."
        )
    placed = with_known_crs(points, name=name)
    shapes = placed.geometry.to_numpy()
    if not len(shapes):
        raise PolygonError(f"{name}: there are none; one at least was expected.")
    # Missing and empty ones have no place either.
    here = np.isfinite(shapely.bounds(shapes)).all(axis=1)
    wrong = (shapely.get_type_id(shapes) != 0) | ~here
    if wrong.any():
        raise PolygonError(
            f"{name}: {int(wrong.sum())} of {len(shapes)} geometries are no points with a place, "
            f"the first in row {int(np.flatnonzero(wrong)[0])}. Make points of them first, or drop "
            f"them."
        )
    return gpd.GeoDataFrame(geometry=shapely.force_2d(shapes), crs=placed.crs)


def points_digest(points: gpd.GeoDataFrame) -> str:
    """First 12 hex digits of the SHA-256 of the places, in order, and their CRS."""
    own = hashlib.sha256(pyproj.CRS(points.crs).to_wkt().encode())
    own.update(shapely.get_coordinates(points.geometry.to_numpy()).astype("<f8").tobytes())
    return own.hexdigest()[:12]


def buffered(points: gpd.GeoDataFrame, metres: float, crs: str, shape: Shape) -> npt.NDArray[Any]:
    """Circles or squares around points, in a CRS in metres.

    Raises:
        PolygonError: A point has no place in that CRS.
    """
    places = _places(points, crs)
    if shape == "round":
        return np.asarray(shapely.buffer(places, metres, quad_segs=_ARC))
    return np.asarray(shapely.buffer(places, metres, cap_style="square"))


def _places(points: gpd.GeoDataFrame, crs: str) -> npt.NDArray[Any]:
    placed = points.to_crs(crs).geometry.to_numpy()
    lost = ~np.isfinite(shapely.get_coordinates(placed)).all(axis=1)
    if lost.any():
        raise PolygonError(
            f"{int(lost.sum())} points have no place in {crs}, the first in row "
            f"{int(np.flatnonzero(lost)[0])}; leave them out."
        )
    return np.asarray(placed)


def sample_negatives(
    points: gpd.GeoDataFrame,
    *,
    within: gpd.GeoDataFrame,
    count: int,
    min_distance_m: float,
    seed: int,
    crs: str | None = None,
) -> gpd.GeoDataFrame:
    """Draw random places where the thing is not, evenly by area.

    Args:
        points: Where it is.
        within: Polygons to draw from, such as where people live.
        count: Number of places, 1 or more.
        min_distance_m: No place lies nearer to any of the points, in metres.
        seed: The same seed draws the same places.
        crs: Where distances are measured, projected and in metres; None for that of the points.

    Returns:
        Points in that CRS.

    Raises:
        PolygonError: Points or polygons cannot be used; or no room is left between the points.
        SpecError: The CRS is not in metres; or a number is out of range.
    """
    positives = check_points(points, name="The points")
    within = with_known_crs(within, name="within")
    check_polygons(within)
    distance = _metres("min_distance_m", min_distance_m)
    if not (isinstance(count, Integral) and count >= 1):
        raise SpecError(f"count must be a whole number, 1 or more. Received {count!r}.")
    metric = _metric(crs or positives.crs)
    # A little wider, so that the polygon of straight pieces holds the whole circle.
    reach = distance / math.cos(math.pi / (4 * _ARC)) * (1 + 1e-9)
    near = shapely.union_all(buffered(positives, reach, metric, "round"))
    inside = shapely.union_all(within.to_crs(metric).geometry.to_numpy())
    room = shapely.difference(inside, near)
    if not shapely.area(room) > 0:
        raise PolygonError(
            f"No room is left for negatives: every place within the polygons lies nearer than "
            f"{distance:g} m to one of {len(positives)} points. Give a smaller min_distance_m, or "
            f"other polygons."
        )
    return gpd.GeoDataFrame(geometry=_scattered(room, count, seed), crs=metric)


def _scattered(room: shapely.Geometry, count: int, seed: int) -> npt.NDArray[Any]:
    """Random points in a polygon, evenly by area.

    In a triangle (1 - sqrt(r1)) a + sqrt(r1) (1 - r2) b + sqrt(r1) r2 c is even (Osada et al.
    2002, doi 10.1145/571647.571648).
    """
    triangles = shapely.get_parts(shapely.constrained_delaunay_triangles(room))
    ends = np.cumsum(shapely.area(triangles))
    rng = np.random.default_rng(seed)
    which = np.searchsorted(ends, rng.random(count) * ends[-1], side="right")
    corners = shapely.get_coordinates(triangles).reshape(-1, 4, 2)[which.clip(max=len(ends) - 1)]
    root, r = np.sqrt(rng.random((count, 1))), rng.random((count, 1))
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    return np.asarray(shapely.points((1 - root) * a + root * (1 - r) * b + root * r * c))


def tile_labels(
    tiles: gpd.GeoDataFrame,
    points: gpd.GeoDataFrame,
    *,
    buffer_m: float = 0.0,
    negatives: gpd.GeoDataFrame | None = None,
    background: int | None = None,
    crs: str | None = None,
) -> pd.DataFrame:
    """Label tiles by the points that they hold.

    A tile that the buffer of a positive point meets is 1; else, one that the buffer of a negative
    point meets is 0; of others nobody knows anything, and they are left out.

    Args:
        tiles: Polygons, such as those of :mod:`cube.classes.tiling`.
        points: Positive ones.
        buffer_m: Around every point, in metres; 0 or more.
        negatives: Points where the thing is not.
        background: 0 to label all tiles without a point so, on purpose.
        crs: Where distances are measured, projected and in metres; None for that of the tiles.

    Returns:
        A row per labelled tile in the order of the tiles, with their columns, and ``label``,
        ``positives`` and ``negatives``: 0 or 1, and numbers of points, int64. How many points
        meet no tile is logged.

    Raises:
        PolygonError: Tiles or points cannot be used; or points meet no tile.
        SpecError: The CRS is not in metres; or a number is out of range.
    """
    tiles = with_known_crs(tiles, name="The tiles")
    check_polygons(tiles)
    if background not in (None, NEGATIVE):
        raise SpecError(f"background must be 0 or None. Received {background!r}.")
    taken = {"label", "positives", "negatives"} & set(tiles.columns)
    if taken:
        raise SpecError(f"The tiles have columns {', '.join(sorted(taken))} already; rename them.")
    metric, reach = _metric(crs or tiles.crs), _metres("buffer_m", buffer_m)
    tree = shapely.STRtree(tiles.to_crs(metric).geometry.to_numpy())
    counts = {"positives": _met(tree, check_points(points, name="The points"), reach, metric)}
    if not counts["positives"].any():
        raise PolygonError(
            f"None of the {len(points)} points meets one of the {len(tiles)} tiles. Check the CRS."
        )
    counts["negatives"] = np.zeros(len(tiles), "int64")
    if negatives is not None:
        known = check_points(negatives, name="The negatives")
        counts["negatives"] = _met(tree, known, reach, metric)
    columns = {"label": (counts["positives"] > 0).astype("int64"), **counts}
    table = pd.DataFrame(tiles.drop(columns=tiles.geometry.name)).assign(**columns)
    labelled = (counts["positives"] + counts["negatives"] > 0) | (background is not None)
    return table[labelled].reset_index(drop=True)


def _met(
    tree: shapely.STRtree, points: gpd.GeoDataFrame, reach: float, crs: str
) -> npt.NDArray[np.int64]:
    """Points within reach of each tile, int64 (tile,)."""
    point, tile = tree.query(_places(points, crs), predicate="dwithin", distance=reach)
    lost = len(points) - len(np.unique(point))
    if lost:
        _log.info("%d of %d points meet no tile.", lost, len(points))
    return np.bincount(tile, minlength=len(tree)).astype("int64")


def _metric(crs: Any) -> str:
    """A CRS in which distances are metres on the ground, nearly."""
    try:
        known = pyproj.CRS(crs)
    except pyproj.exceptions.CRSError as error:
        raise SpecError(f"crs={crs!r} is no CRS that PROJ knows: {error}.") from error
    if not is_metric(known):
        raise SpecError(
            f"Distances need a projected CRS whose metres are metres on the ground. Received "
            f"{known.name!r}; give crs=, e.g. crs='EPSG:32725' for UTM zone 25 south."
        )
    return known.to_string()


def _metres(name: str, value: float, *, above: float = -math.inf) -> float:
    if not (isinstance(value, Real) and math.isfinite(value) and value >= 0 and value > above):
        least = "more than 0" if above == 0 else "0 or more"
        raise SpecError(f"{name} must be {least} metres. Received {value!r}.")
    return float(value)


def _check_option(name: str, value: object, options: tuple[str, ...]) -> None:
    if value not in options:
        raise SpecError(f"{name} must be one of {', '.join(options)}. Received {value!r}.")
