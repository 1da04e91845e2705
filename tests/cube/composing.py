"""Scenes of many kinds over one small grid, and what composites of them must be, computed plainly.

Everything here is read whole and looked at pixel by pixel, so that nothing of the code under test
is in it but the warp.
"""

from __future__ import annotations

import numpy as np
import pyproj
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy import ndimage

from cube.quality import QualityClasses
from cube.scenes import Scene, SceneBand
from cube.warp import read_scene
from tests.rasters import UTM, grid_at, noise, write_tiff

BANDS = ("red", "green", "nir")
SHAPE = (37, 49)
GRID = grid_at(SHAPE)
MARGIN = 40
"""Pixels around the grid that oracles know."""

CLASSES = 8
"""Of the quality band: 0..7, or three bits."""

NO_QUALITY = 255


def grid_over(grid, crs, pixel, shape, *, shift=(0.0, 0.0)):
    """North-up grid of another CRS around a grid's centre, moved by pixels down and right."""
    box = grid.boundingbox
    onto = pyproj.Transformer.from_crs(str(grid.crs), crs, always_xy=True)
    x, y = onto.transform((box.left + box.right) / 2, (box.bottom + box.top) / 2)
    left = x + (shift[1] - shape[1] / 2) * pixel
    top = y + (shape[0] / 2 - shift[0]) * pixel
    return GeoBox(shape, Affine(pixel, 0.0, left, 0.0, -pixel, top), crs)


def patches(shape, seed):
    """Quality classes in patches of 4 x 4 pixels, a few not observed."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice(CLASSES, (shape[0] // 4 + 1, shape[1] // 4 + 1), p=[0.5, *[0.5 / 7] * 7])
    fine = np.kron(coarse, np.ones((4, 4), int))[: shape[0], : shape[1]].astype("uint8")
    fine[rng.random(shape) < 0.02] = NO_QUALITY
    return fine


def scene_on(folder, name, grid, *, seed, dtype="int16", resampling="nearest", **facts):
    """A scene of one file with the bands, with holes, and one with the quality band."""
    rng = np.random.default_rng(seed)
    stored = noise((len(BANDS), *grid.shape), seed=seed, dtype=dtype)
    stored[rng.random(stored.shape) < 0.03] = 0
    path = write_tiff(folder / f"{name}.tif", stored, grid=grid, nodata=0)
    quality = write_tiff(folder / f"{name}_qa.tif", patches(grid.shape, seed), grid=grid)
    layers = [SceneBand(name=band, href=path, index=i) for i, band in enumerate(BANDS, start=1)]
    box = grid.boundingbox
    facts = {"footprint": (box.left, box.bottom, box.right, box.top), **facts}
    return Scene(
        id=name,
        layers=(*layers, quality_band(quality)),
        crs=str(grid.crs),
        nodata=0,
        resampling=resampling,
        **facts,
    )


def quality_band(href):
    return SceneBand(
        name="qa", href=href, nodata=NO_QUALITY, scale=1.0, offset=0.0, resampling="nearest"
    )


def make_scenes(folder):
    """Scenes of two zones, other CRSs, resolutions and dtypes; one without a footprint, one far."""
    onto = GRID
    kinds = [
        ("a", onto, {"time": "2018-03-01T10:00:00Z"}),
        ("b", grid_at(SHAPE, shift=(-5, 9)), {"time": "2018-01-05T10:00:00Z"}),
        (
            "c",
            grid_over(onto, "EPSG:32724", 23.0, (60, 70), shift=(3, 4)),
            {"time": "2018-02-01", "resampling": "bilinear"},
        ),
        (
            "d",
            grid_over(onto, UTM, 90.0, (20, 24)),
            {"time": "2018-12-30", "dtype": "float32", "resampling": "cubic"},
        ),
        (
            "e",
            grid_over(onto, "EPSG:4326", 0.0004, (40, 40), shift=(20, 0)),
            {"time": "2018-07-01", "dtype": "uint8"},
        ),
        ("f", grid_at(SHAPE, shift=(30, 40)), {"time": "2018-05-01", "footprint": None}),
        ("g", grid_at(SHAPE, shift=(1, 1)), {"time": "2018-02-01", "dtype": "uint16"}),
        ("far", grid_at((8, 8), shift=(4000, 0)), {"time": "2018-06-01"}),
    ]
    return tuple(
        scene_on(folder, name, grid, seed=seed, cloud_cover=seed / 10, **facts)
        for seed, (name, grid, facts) in enumerate(kinds)
    )


def in_order(scenes):
    return sorted(scenes, key=lambda scene: (scene.time, scene.id))


def wide_of(grid):
    (height, width) = grid.shape
    return (-MARGIN, height + MARGIN), (-MARGIN, width + MARGIN)


def clear_of(scene, quality, grid=GRID):
    """Where a scene is clear on the whole grid and the margin around it, (y, x).

    The outer ``grow_px`` pixels of the margin are wrong: what lies beyond is not known.
    """
    rows, cols = wide_of(grid)
    if quality is None:
        return np.ones((rows[1] - rows[0], cols[1] - cols[0]), bool)
    values = read_scene(scene, grid, rows, cols, [quality.band])[0]
    observed = ~np.isnan(values)
    if isinstance(quality, QualityClasses):
        rejected = observed & ~np.isin(values, quality.keep)
    else:
        numbers = np.where(observed, values, 0).astype(int)
        rejected = np.zeros(values.shape, bool)
        for group in quality.reject:
            hits = [(numbers >> f.bit) % 2**f.width >= f.at_least for f in group]
            rejected |= observed & np.all(hits, axis=0)
    if quality.grow_px:
        y, x = np.ogrid[
            -quality.grow_px : quality.grow_px + 1, -quality.grow_px : quality.grow_px + 1
        ]
        rejected = ndimage.binary_dilation(rejected, y**2 + x**2 <= quality.grow_px**2)
    return observed & ~rejected


def inner(wide):
    return wide[..., MARGIN:-MARGIN, MARGIN:-MARGIN]


def observations(scenes, quality, bands=BANDS, grid=GRID):
    """Clear observations of the whole grid in order, float64 (scene, band, y, x)."""
    (height, width), found = grid.shape, []
    for scene in in_order(scenes):
        values = read_scene(scene, grid, (0, height), (0, width), bands).astype("float64")
        values[:, ~inner(clear_of(scene, quality, grid))] = np.nan
        if quality is not None and quality.complete:
            values[:, np.isnan(values).any(axis=0)] = np.nan
        found.append(values)
    return np.stack(found)


def whole_only(stack):
    """Observations with all bands."""
    return np.where(np.isnan(stack).any(axis=1, keepdims=True), np.nan, stack)


def chosen(stack, places):
    """All bands of one scene for each pixel: (scene, band, y, x) by (y, x), -1 for none."""
    found = np.full(stack.shape[1:], np.nan)
    for y, x in np.ndindex(places.shape):
        if places[y, x] >= 0:
            found[:, y, x] = stack[places[y, x], :, y, x]
    return found


def first_places(stack, *, last=False):
    """Place of the first scene in which all bands are observed, -1 where none."""
    there = ~np.isnan(stack).any(axis=1)
    places = np.full(there.shape[1:], -1)
    for i in range(len(stack)) if last else reversed(range(len(stack))):
        places[there[i]] = i
    return places


def best_places(stack, scores):
    """Place of the highest score among whole observations, the first of several; -1 for none."""
    places = np.full(stack.shape[2:], -1)
    for y, x in np.ndindex(places.shape):
        best = -np.inf
        for i, score in enumerate(scores[:, y, x]):
            if not np.isnan(stack[i, :, y, x]).any() and score > best:
                best, places[y, x] = score, i
    return places


def medoid_places(stack):
    """Place of the observation with the least sum of distances, the first of several; -1."""
    places = np.full(stack.shape[2:], -1)
    for y, x in np.ndindex(places.shape):
        there = np.flatnonzero(~np.isnan(stack[:, :, y, x]).any(axis=1))
        if there.size:
            points = stack[there, :, y, x]
            apart = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2))
            sums = apart.sum(axis=1)
            places[y, x] = there[np.flatnonzero(sums <= sums.min() * (1 + 1e-12))[0]]
    return places
