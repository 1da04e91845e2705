"""A toy cube with every kind of variable, and what tests of the cube do with it again and again."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

import cube

ROOT = Path(__file__).parents[2]
SHARDED = cube.LayoutSpec(chunk=16, shard=32, region=64)


@pytest.fixture(scope="session")
def grid():
    """100 x 130 pixels: neither chunks, shards nor regions divide it."""
    return GeoBox((100, 130), Affine(30, 0, 300_000, 0, -30, 5_000_000), "EPSG:32633")


@pytest.fixture(scope="session")
def spec(grid):
    """Packed and plain integers, floats, classes; with time and without; bands and none."""
    return cube.CubeSpec(
        grid=grid,
        calendar=cube.years(2000, 2010),
        stacks=(
            cube.StackSpec(
                name="predictors",
                bands=("red", "green", "nir"),
                dtype="int16",
                nodata=-9999,
                scale=0.0001,
                offset=0.1,
            ),
            cube.StackSpec(name="lights", bands=("mean", "stable"), dtype="uint8", nodata=255),
            cube.StackSpec(
                name="terrain",
                bands=("elevation", "slope"),
                dtype="float32",
                static=True,
                units="m",
            ),
        ),
        layers=(
            cube.LayerSpec(name="population", dtype="float64", long_name="persons per pixel"),
            cube.LayerSpec(
                name="glacier",
                dtype="int8",
                nodata=-1,
                classes=((0, "other"), (1, "clean ice"), (2, "debris")),
            ),
            cube.LayerSpec(name="basin", dtype="int32", nodata=-1, static=True),
        ),
        layout=cube.LayoutSpec(chunk=16, region=32),
        title="Toy",
    )


@pytest.fixture(scope="session", params=["chunks", "shards"])
def any_layout(spec, request):
    """The toy spec with a file per chunk, and with a file per shard of four chunks."""
    return spec if request.param == "chunks" else replace(spec, layout=SHARDED)


@pytest.fixture(scope="session")
def created(tmp_path_factory):
    """A place with a new cube of that spec, to copy: creation is tested once, not every time."""
    known = {}

    def place(spec):
        if spec not in known:
            known[spec] = cube.create(tmp_path_factory.mktemp("created") / "toy.zarr", spec)
        return known[spec]

    return place


@pytest.fixture
def url(spec, created, tmp_path):
    """A new cube with a file per chunk; nothing is written yet."""
    return str(shutil.copytree(created(spec), tmp_path / "toy.zarr"))


@pytest.fixture
def any_url(any_layout, created, tmp_path):
    """A new cube of either layout; nothing is written yet."""
    return str(shutil.copytree(created(any_layout), tmp_path / "toy.zarr"))


@pytest.fixture(scope="session")
def values():
    """Stored values of one region: noise over the whole dtype, a tenth of it nodata."""

    def make(spec, name, region, *, seed=0):
        variable = spec.variable(name)
        place = (zlib.crc32(name.encode()), region.time or 0, region.rows[0], region.cols[0])
        rng = np.random.default_rng((seed, *place))
        shape = (*variable.inner_shape, *region.shape)
        if variable.storage.kind == "f":
            noise = rng.normal(size=shape).astype(variable.storage)
        elif getattr(variable, "classes", ()):
            noise = rng.choice([v for v, _ in variable.classes], shape).astype(variable.storage)
        else:
            info = np.iinfo(variable.storage)
            noise = rng.integers(info.min, info.max, shape, variable.storage, endpoint=True)
        noise[rng.random(shape) < 0.1] = variable.fill
        return noise

    return make


@pytest.fixture(scope="session")
def fill(values):
    """Write every region of a variable at one time; returns the whole array (band, y, x)."""

    def write(url, name, *, time=None, seed=0):
        spec = cube.read_spec(url)
        variable = spec.variable(name)
        whole = np.empty((*variable.inner_shape, *spec.grid.shape), variable.storage)
        for region in cube.regions(spec, name, time=time):
            data = values(spec, name, region, seed=seed)
            cube.write_region(url, name, region, data, spec=spec)
            whole[(..., *region.slices)] = data
        return whole

    return write


@pytest.fixture(scope="session")
def contents():
    """SHA-256 of every file in a folder, by its path there."""

    def read(folder):
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(Path(folder).rglob("*"))
            if path.is_file()
        }

    return read


@pytest.fixture
def start():
    """Start a Python process that runs a piece of code with arguments; it ends with the test."""
    children = []

    def popen(code, *arguments, cwd=ROOT):
        child = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=cwd,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        children.append(child)
        return child

    yield popen
    for child in children:
        child.kill()
        child.communicate()


class Killed(BaseException):
    """Stands for kill -9: nothing that we write catches it."""


@pytest.fixture(scope="session")
def killed():
    """A function that dies as a killed process does, whatever it is called with."""

    def die(*args, **kwargs):
        raise Killed("killed here")

    die.error = Killed
    return die
