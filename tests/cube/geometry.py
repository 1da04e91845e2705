"""Random polygons over a small grid, for laws; coordinates are made of pixels."""

from __future__ import annotations

import math

import geopandas as gpd
import numpy as np
import shapely
from hypothesis import assume
from hypothesis import strategies as st

from tests.rasters import UTM, grid_at

PIXEL_M = 30.0


def to_map(shapes, grid):
    """Shapes in pixels (column, row, from the upper left corner) as shapes on the ground."""
    t = grid.transform

    def place(xy):
        return xy * [t.a, t.e] + [t.c, t.f]

    return shapely.transform(np.asarray(shapes, dtype=object), place)


def frame_of(shapes, grid=None, **columns):
    """Shapes in pixels as a GeoDataFrame in the CRS of the grid."""
    grid = grid_at((40, 50)) if grid is None else grid
    return gpd.GeoDataFrame(columns, geometry=list(to_map(shapes, grid)), crs=str(grid.crs))


def square(col, row, side):
    return shapely.box(col, row, col + side, row + side)


def star(centre, radii, *, turn=0.0):
    """A polygon around a centre with a corner at each radius; any radii make it valid."""
    angles = turn + np.arange(len(radii)) * 2 * math.pi / len(radii)
    xs, ys = centre[0] + radii * np.cos(angles), centre[1] + radii * np.sin(angles)
    return shapely.Polygon(np.stack([xs, ys], axis=1).round(9))  # see places()


def places(shape, *, margin=6.0):
    """Points (column, row) on the grid and a little around it, to the ninth digit.

    Digits beyond make GEOS, an oracle, divide by what is almost zero.
    """
    axes = (st.floats(-margin, n + margin).map(lambda v: round(v, 9)) for n in shape[::-1])
    return st.tuples(*axes)


@st.composite
def triangles(draw, shape):
    found = shapely.Polygon([draw(places(shape)) for _ in range(3)])
    assume(found.is_valid and found.area > 1e-6)
    return found


@st.composite
def stars(draw, shape):
    radii = draw(st.lists(st.floats(0.3, 25), min_size=3, max_size=9))
    return star(draw(places(shape)), np.array(radii), turn=draw(st.floats(0, 6)))


@st.composite
def rings(draw, shape):
    """A star with a smaller star cut out of its middle."""
    centre, turn = draw(places(shape)), draw(st.floats(0, 6))
    radii = np.array(draw(st.lists(st.floats(1, 25), min_size=3, max_size=9)))
    outer = star(centre, radii, turn=turn)
    return outer.difference(star(centre, radii * draw(st.floats(0.1, 0.9)), turn=turn))


@st.composite
def slivers(draw, shape):
    """Long and thinner than a pixel."""
    (x0, y0), (x1, y1) = draw(places(shape)), draw(places(shape))
    length = math.hypot(x1 - x0, y1 - y0)
    assume(length > 0.5)
    width = draw(st.floats(1e-3, 0.5))
    across = np.array([-(y1 - y0), x1 - x0]) / length * width
    return shapely.Polygon([(x0, y0), (x1, y1), (x1 + across[0], y1 + across[1])])


@st.composite
def specks(draw, shape):
    """Kites far below a pixel, anywhere in one or across its edge.

    No squares: where a rectangle that is one of several rings only touches the raster,
    exactextract 0.3.0, our oracle, writes out of bounds and may end the process.
    """
    side = draw(st.sampled_from([1e-3, 0.02, 0.3]))
    return star(draw(places(shape, margin=-1.0)), np.array([side, side, 2 * side, side]))


@st.composite
def multipolygons(draw, shape):
    found = shapely.union_all([draw(stars(shape)), draw(triangles(shape)), draw(specks(shape))])
    assume(found.is_valid)
    return found


def shapes(shape):
    """Any one polygon or multipolygon."""
    return st.one_of(
        triangles(shape), stars(shape), rings(shape), slivers(shape), specks(shape),
        multipolygons(shape),
    )  # fmt: skip


@st.composite
def sets(draw, shape, *, most=6):
    """A few polygons, some of which may overlap; one at least meets the grid in an area."""
    found = draw(st.lists(shapes(shape), min_size=1, max_size=most))
    box = shapely.box(0, 0, shape[1], shape[0])
    found = [s for s in found if s.is_valid and s.geom_type in ("Polygon", "MultiPolygon")]
    assume(any(s.intersection(box).area > 1e-9 for s in found))
    return found


def partition(shape, *, points=25, seed=0):
    """Irregular polygons that cover the grid without gap or overlap (a Voronoi diagram)."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(-2, 2 + np.array(shape[::-1]), (points, 2))
    box = shapely.box(0, 0, shape[1], shape[0])
    cells = shapely.voronoi_polygons(shapely.MultiPoint(xy), extend_to=box).geoms
    return [cell for cell in (c.intersection(box) for c in cells) if cell.area > 0]


__all__ = [
    "PIXEL_M",
    "UTM",
    "frame_of",
    "partition",
    "sets",
    "shapes",
    "square",
    "star",
    "to_map",
]
