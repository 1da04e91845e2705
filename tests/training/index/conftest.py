"""A small cube of three years with classes, amounts and a flag; written to by no test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import cube
from tests import toy
from training.samples import SampleSpec
from training.targets import Target
from training.timings import pairs, same

CLASSES = ((1, "bare soil"), (2, "roof, metal"), (4, ""), (7, "water"))
YEARS = ("2000", "2005", "2010")


@dataclass(frozen=True, kw_only=True)
class Land:
    """The cube and what was written: ``image`` (time, band, y, x), ``cover`` (time, y, x), and
    static float64 ``people`` (y, x), mostly 0."""

    url: str
    image: np.ndarray
    cover: np.ndarray
    people: np.ndarray

    @property
    def spec(self):
        return cube.read_spec(self.url)


def land_spec(*, chunk=16, region=32):
    return cube.CubeSpec(
        grid=toy.GRID,
        calendar=cube.years(*map(int, YEARS)),
        stacks=(cube.StackSpec(name="predictors", bands=("a", "b", "c"), dtype="uint8", nodata=0),),
        layers=(
            cube.LayerSpec(name="cover", dtype="uint8", nodata=255, classes=CLASSES),
            cube.LayerSpec(name="people", dtype="float64", static=True),
        ),
        layout=cube.LayoutSpec(chunk=chunk, region=region, codec="blosc-lz4-1-noshuffle"),
    )


def build_land(url, *, chunk=16, region=32):
    rng = np.random.default_rng(3)
    image = rng.integers(1, 255, (3, 3, *toy.SHAPE)).astype("uint8")
    image[rng.random(image.shape) < 0.01] = 0
    cover = rng.choice(np.array([1, 2, 4, 7], "uint8"), (3, *toy.SHAPE), p=[0.4, 0.3, 0.2, 0.1])
    cover[:, 30:60, 40:70] = 255
    cover[1, :20] = 255
    people = rng.lognormal(2, 2, toy.SHAPE)
    people[:, :50] = 0
    people[:14, 90:] = np.nan
    made = Land(
        url=cube.create(url, land_spec(chunk=chunk, region=region)),
        image=image,
        cover=cover,
        people=people,
    )
    for time, year in enumerate(YEARS):
        toy.write(made.url, "predictors", image[time], time=year)
        toy.write(made.url, "cover", cover[time], time=year)
    toy.write(made.url, "people", people)
    return made


@pytest.fixture(scope="session")
def land(tmp_path_factory):
    return build_land(tmp_path_factory.mktemp("land") / "land.zarr")


COVER = SampleSpec.of(
    {"predictors": ("c", "a")},
    Target(layer="cover", transform="classes"),
    timings=same(YEARS),
)
CHANGE = SampleSpec.of(
    {"predictors": ("c", "a")},
    Target(layer="cover", transform="classes"),
    timings=pairs([("2000", "2005"), ("2005", "2010")]),
)
PEOPLE = SampleSpec.of({"predictors": ("b",)}, Target(layer="people"), timings=list(same(YEARS)))
