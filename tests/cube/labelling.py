"""Small cubes with polygons over them, for what goes from polygons to pixels."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import strategies as st

import cube
from cube import coverage
from cube.labels import STATES
from tests.cube.geometry import frame_of
from tests.rasters import grid_at, whole

SHAPE = (40, 50)
GRID = grid_at(SHAPE)

_numbers = itertools.count()


def new(*, region=16, url=None, grid=GRID, chunk=16):
    """An empty cube with layers of many kinds."""
    spec = cube.CubeSpec(
        grid=grid,
        calendar=cube.years(2000, 2010),
        stacks=(cube.StackSpec(name="bands", bands=("red", "night"), dtype="int16", nodata=-999),),
        layers=(
            cube.LayerSpec(name="persons", dtype="float64"),
            cube.LayerSpec(name="lights", dtype="float64"),
            cube.LayerSpec(name="built", dtype="uint8", nodata=255, scale=0.01, static=True),
            cube.LayerSpec(name="cover", dtype="uint8", nodata=0, classes=((1, "town"),)),
            cube.LayerSpec(name="whole", dtype="int32", nodata=-1),
            cube.LayerSpec(name="fixed", dtype="float64", static=True),
            cube.LayerSpec(name="state", dtype="int8", nodata=-1, classes=STATES),
        ),
        layout=cube.LayoutSpec(chunk=chunk, region=region, codec="none"),
    )
    return cube.create(url or f"memory://labelling{next(_numbers)}", spec)


def cover(polygons, *, url=None, ids=None, name="tracts", grid=GRID, **options):
    """Coverage of shapes in pixels."""
    url = new(grid=grid, **options) if url is None else url
    frame = frame_of(polygons, grid, **({} if ids is None else {"geoid": ids}))
    return coverage.build(url, name, frame, id=None if ids is None else "geoid")


def write(url, name, values, *, time=None):
    """Write stored values of a whole variable at one time."""
    spec = cube.read_spec(url)
    dtype = spec.variable(name).dtype
    for region in cube.regions(spec, name, time=time):
        data = np.ascontiguousarray(values[(..., *region.slices)], dtype)
        cube.write_region(url, name, region, data, spec=spec)


def pixels(found, layer="persons", *, time=0):
    """Values of a layer as a reader gets them."""
    with cube.open(found.url) as dataset:
        values = dataset[layer]
        return (values if time is None else values[time]).to_numpy()


def dense(found):
    """Shares as a matrix (polygon, y, x)."""
    shares = found.shares(*whole(found.grid))
    out = np.zeros((found.polygons, *found.grid.shape))
    held = shares.label >= 0
    out[shares.label[held], *np.nonzero(held)] = 1.0
    np.add.at(out.reshape(found.polygons, -1), (shares.polygon, shares.pixel), shares.share)
    return out


def amounts(count, *, seed, unknown=0.3, low=0.0):
    """Random amounts, some of which are zero or unknown."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(low, 3000, count)
    values[rng.random(count) < 0.2] = 0
    values[rng.random(count) < unknown] = np.nan
    return values


def lights(*, seed, holes=True, shape=SHAPE):
    """Random weights, some of which are zero or unknown."""
    rng = np.random.default_rng(seed)
    values = rng.gamma(0.5, 20.0, shape)
    if holes:
        values[rng.random(shape) < 0.2] = 0
        values[rng.random(shape) < 0.1] = np.nan
    return values


seeds = st.integers(0, 999)
