"""A small cube with a known answer: bands that follow a smooth density of people.

5 x 6 irregular polygons lie over 96 x 104 pixels; their people are spread from that density. A
margin lies outside all polygons, and the last column of them reaches beyond the grid.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import cached_property

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

import cube
from cube import store
from cube.blocks.collecting import collect_array
from training.samples import SampleSpec
from training.targets import Target

SHAPE = (96, 104)
BANDS = ("blue", "green", "red")
GRID = GeoBox(SHAPE, Affine(30, 0, 290_000, 0, -30, 9_112_880), "EPSG:31985")
PIXEL_KM2 = 30 * 30 / 1e6
TARGET = Target(layer="population", per="km2", transform="log")
SAMPLE = SampleSpec.of(
    {"predictors": ("red", "blue"), "terrain": ("slope", "elevation")},
    TARGET,
    label_time="2010",
    input_time="2000",
)
"""Bands in another order than the cube's, so that a mix-up shows."""


@dataclass(frozen=True, kw_only=True)
class Toy:
    """The cube, and what was written to it: uint8 ``image``, float32 ``terrain`` (band, y, x)."""

    url: str
    polygons: gpd.GeoDataFrame
    coverage: cube.Coverage
    image: np.ndarray
    terrain: np.ndarray

    @property
    def spec(self):
        return cube.read_spec(self.url)

    @cached_property
    def label(self):
        """Persons per pixel, float64 (y, x), NaN outside all polygons."""
        return stored(self.url, "population")[1]

    @cached_property
    def owner(self):
        """Index of the polygon with the largest share of each pixel, -1 outside."""
        return self.coverage.shares((0, SHAPE[0]), (0, SHAPE[1])).owner()

    @property
    def valid(self):
        """Pixels at which all of ``SAMPLE`` was observed, bool (y, x)."""
        return (self.image[[2, 0]] != 0).all(axis=0) & ~np.isnan(self.terrain).any(axis=0)


def density():
    """Persons per km2, float64 (y, x); from about 400 to 60,000, in every part of the grid."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.exp(8.5 + 1.5 * np.sin(x / 8) + 1.0 * np.cos(y / 10))


def image(*, seed=0):
    """Stored bands, uint8 (3, y, x): the logarithm of the density and noise; 0 = nodata."""
    rng = np.random.default_rng(seed)
    clear = np.array([30, -20, 8])[:, None, None] * (np.log(density()) - 8.5) + 120
    out = np.clip(np.rint(clear + rng.normal(scale=3, size=clear.shape)), 1, 255).astype("uint8")
    out[:, 40:43, 17:21] = 0
    out[1, 70, 60:64] = 0
    out[2, 12, 33] = 0
    return out


def terrain(*, seed=0):
    """Elevation and slope, float32 (2, y, x), NaN at two places."""
    rng = np.random.default_rng([seed, 1])
    out = rng.normal(30, 8, (2, *SHAPE)).astype("float32")
    out[:, 20:23, 88:91] = np.nan
    out[0, 60:62, 2:5] = np.nan
    return out


def patchwork(*, rows=5, cols=6, seed=0):
    """Irregular polygons in 3 x 3 neighbourhoods, three of them without a name."""
    rng = np.random.default_rng([seed, 2])
    left, bottom, right, top = GRID.boundingbox.bbox
    ys, xs = np.meshgrid(
        np.linspace(top - 90, bottom + 120, rows + 1),
        np.linspace(left + 100, right + 70, cols + 1),
        indexing="ij",
    )
    jitter = rng.uniform(-75, 75, (2, rows + 1, cols + 1))
    ys, xs = ys + jitter[0], xs + jitter[1]
    shapes = [
        shapely.Polygon([(xs[k], ys[k]) for k in ((i, j), (i, j + 1), (i + 1, j + 1), (i + 1, j))])
        for i in range(rows)
        for j in range(cols)
    ]
    names = [f"n{i // 2}{j // 2}" for i in range(rows) for j in range(cols)]
    names = [None if place in (0, 9, 16) else name for place, name in enumerate(names)]
    return gpd.GeoDataFrame({"neighbourhood": names}, geometry=shapes, crs="EPSG:31985")


def spec(*, chunk=16, region=32):
    """Three bands of two years, static terrain, and a label."""
    return cube.CubeSpec(
        grid=GRID,
        calendar=cube.years(2000, 2010),
        stacks=(
            cube.StackSpec(name="predictors", bands=BANDS, dtype="uint8", nodata=0),
            cube.StackSpec(
                name="terrain", bands=("elevation", "slope"), dtype="float32", static=True
            ),
        ),
        layers=(
            cube.LayerSpec(
                name="population", dtype="float64", units="1", long_name="persons per pixel"
            ),
        ),
        layout=cube.LayoutSpec(chunk=chunk, region=region, codec="blosc-lz4-1-noshuffle"),
    )


def build(url, *, chunk=16, region=32, bands=None):
    """Write the toy cube; ``bands`` replaces the image, uint8 (3, y, x)."""
    url = cube.create(url, spec(chunk=chunk, region=region))
    pixels, ground = image() if bands is None else bands, terrain()
    write(url, "predictors", pixels, time="2000")
    write(url, "terrain", ground)
    polygons = patchwork()
    coverage = cube.coverage.build(url, "tracts", polygons)
    mean = collect_array(coverage, density())["mean"].to_numpy()
    polygons["persons"] = mean * coverage.area / 1e6
    cube.spread(coverage, "population", polygons["persons"], time="2010")
    return Toy(url=url, polygons=polygons, coverage=coverage, image=pixels, terrain=ground)


def write(url, name, values, *, time=None):
    """Write stored values of the whole grid, (band, y, x) or (y, x), region by region."""
    spec = cube.read_spec(url)
    index = None if time is None else spec.time_index(time)
    for region in cube.regions(spec, name, time=index):
        cube.write_region(url, name, region, values[(..., *region.slices)], spec=spec)


def stored(url, name):
    """Stored values of a whole variable."""
    return store.read(url, name)


def copied(city, url):
    """The same cube at another place, to write to."""
    shutil.copytree(city.url, url)
    return replace(city, url=str(url), coverage=cube.coverage.load(url, "tracts"))


def bundle(city, path, *, window=8, stride=4, sample=SAMPLE, seed=0, constant=None, fold=None):
    """A model of the toy that was never trained; with ``constant`` it says that everywhere."""
    from training.bundle import ModelBundle, weights_digest
    from training.models import unet
    from training.networks import assemble
    from training.statistics import Moments

    def moments(mean, std):
        mean = np.asarray(mean, "float64")
        return Moments(mean=mean, std=np.full(mean.shape, float(std)), count=np.full(mean.shape, 9))

    core = unet(window, sample.bands, 1, widths=(4, 8), seed=seed)
    if constant is not None:
        kernel, _ = core.get_layer("head").get_weights()
        core.get_layer("head").set_weights([0 * kernel, np.array([constant - 8.0], "float32")])
    found = {s.stack: moments([100.0, 90.0][: len(s.bands)], 40) for s in sample.inputs}
    model = assemble(city.spec, sample, {**found, "label": moments([8.0], 1)}, core)
    made = ModelBundle(
        path=path,
        sample=sample,
        window=window,
        stride=stride,
        packing={s.stack: city.spec.stack(s.stack).to_dict() for s in sample.inputs},
        fold=fold,
        split_digest="0" * 12,
        cube_digest=city.spec.digest,
        seed=seed,
        weights_digest=weights_digest(model),
        metrics={"loss": 1.0},
        environment={},
    )
    made.save(model)
    return made
