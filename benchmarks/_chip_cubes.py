"""Cubes that chips are taken from, and our stream of them."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import cube
import training
from cube.reading import read_bands, read_region
from cube.regions import Region
from cube.windows import Windows

SIZE, STRIDE, BATCH = 128, 64, 64
BANDS = tuple(f"band_{n}" for n in range(10))
SAMPLE = training.SampleSpec.of(
    {"predictors": BANDS}, training.Target(layer="label"), input_time="2020"
)

Chip = tuple[Any, Any]
"""Image (y, x, band) and label (y, x)."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A cube and the windows on it."""

    url: str
    stride: int = STRIDE

    @cached_property
    def spec(self) -> cube.CubeSpec:
        """What the cube is."""
        return cube.read_spec(self.url)

    @cached_property
    def windows(self) -> Windows:
        """Where chips lie."""
        return Windows(shape=self.spec.grid.shape, size=SIZE, stride=self.stride)

    @property
    def ids(self) -> np.ndarray:
        """All chips."""
        return np.arange(len(self.windows))


def ours(case: Case, ids: np.ndarray | None = None, **options: Any) -> training.ChipStream:
    """Our stream of a case; ``options`` of its spec."""
    spec = training.StreamSpec(**{"batch": BATCH, "seed": 0, **options})
    return training.ChipStream(
        case.url, SAMPLE, case.windows, case.ids if ids is None else ids, spec
    )


def new_cube(url: str, side: int) -> cube.CubeSpec:
    """A cube of one stack and one static label, without pixels."""
    from benchmarks import layout

    layout.cube_at(url, side, cube.LayoutSpec())
    cube.add(url, cube.LayerSpec(name="label", dtype="float32", static=True))
    return cube.read_spec(url)


def filled_cube(url: str, side: int) -> str:
    """A cube with the pixels that ``benchmarks.layout`` takes."""
    from benchmarks import layout

    spec = new_cube(url, side)
    pixels = layout.block(side)
    label = (pixels[0] // 16).astype("float32")
    for region in cube.regions(spec, "predictors", time=0):
        cube.write_region(url, "predictors", region, pixels[(slice(None), *region.slices)].copy())
    for region in cube.regions(spec, "label"):
        cube.write_region(url, "label", region, label[region.slices].copy())
    return url


def linked_cube(url: str, side: int, source: str) -> str:
    """A larger cube whose chunks are links to those of another, again and again."""
    spec = new_cube(url, side)
    chunk = spec.layout.chunk
    period = cube.read_spec(source).grid.shape[0] // chunk
    for folder in ("predictors/c/0/0", "label/c"):
        for y, x in np.ndindex(*(math.ceil(n / chunk) for n in spec.grid.shape)):
            place = Path(url, folder, str(y), str(x))
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(Path(source, folder, str(y % period), str(x % period)), place)
    return url


def linked(case: Case, side: int) -> str:
    """The larger cube beside a case's own, made when it is first asked for."""
    chunk = case.spec.layout.chunk
    url = str(Path(case.url).with_name(f"{side}.zarr"))
    return url if Path(url).exists() else linked_cube(url, max(side, chunk), case.url)


def channels_last(case: Case, rows: tuple[int, int], cols: tuple[int, int]) -> Chip:
    """Image (y, x, band) and label (y, x) of a box, decoded."""
    box = Region(time=0, rows=rows, cols=cols)
    image = read_bands(case.url, "predictors", box, spec=case.spec, bands=BANDS)
    label = read_region(case.url, "label", Region(time=None, rows=rows, cols=cols), spec=case.spec)
    return np.ascontiguousarray(np.moveaxis(image, 0, -1)), label
