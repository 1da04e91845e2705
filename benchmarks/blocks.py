"""How fast do layers become a table of census blocks, and how long do the shares take before that?

    python -m benchmarks.blocks                    # all three parts
    python -m benchmarks.blocks layers             # one layer, and each further one
    python -m benchmarks.blocks build              # the shares
    python -m benchmarks.blocks national           # a million polygons, 20,000 x 20,000 pixels

Made data: rasters of noise, and polygons that cover them. In ``layers`` and ``build`` the same
polygons and pixels go through exactextract and rasterstats, turn and turn about, and results must
agree before anything is printed; rows hold medians. In ``national`` every step is a process of its
own, whose peak of memory is read when it has ended, and totals over blocks must be those of the
pixels.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import exactextract
import numpy as np
import rasterstats
from exactextract.raster import NumPyRasterSource

import cube
from benchmarks._patchworks import bent_squares, square_grid, voronoi

if TYPE_CHECKING:
    import geopandas as gpd

SAMPLE = 300
"""Polygons that rasterstats does; its time is scaled up by their count."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Polygons, rasters, and a cube that holds both."""

    polygons: gpd.GeoDataFrame
    rasters: list[np.ndarray]
    names: list[str]
    coverage: cube.Coverage

    @functools.cached_property
    def stacked(self) -> np.ndarray:
        """All rasters, (layer, y, x)."""
        return np.stack(self.rasters)


def made_cube(folder: Path, side: int, names: list[str], dtype: str) -> tuple[str, cube.CubeSpec]:
    """An empty cube of static layers."""
    nodata = {} if dtype == "float32" else {"nodata": -1}
    layers = tuple(cube.LayerSpec(name=n, dtype=dtype, static=True, **nodata) for n in names)
    spec = cube.CubeSpec(grid=square_grid(side), calendar=cube.years(2020), layers=layers)
    return cube.create(folder / "cube.zarr", spec), spec


def made_case(folder: Path, options: argparse.Namespace) -> Case:
    """Layers of noise, Voronoi cells, and their coverage."""
    side, names = options.side, [f"noise{i}" for i in range(options.layers)]
    url, spec = made_cube(folder, side, names, "float32")
    rng = np.random.default_rng(1)
    rasters = [rng.normal(size=(side, side)).astype("float32") for _ in names]
    for name, values in zip(names, rasters, strict=True):
        for region in cube.regions(spec, name):
            cube.write_region(url, name, region, values[region.slices].copy())
    polygons = voronoi(spec.grid, options.polygons)
    coverage = cube.coverage.build(url, "cells", polygons)
    return Case(polygons=polygons, rasters=rasters, names=names, coverage=coverage)


def ours(case: Case) -> np.ndarray:
    """Means of arrays in memory, a call each."""
    for values in reversed(case.rasters):
        found = cube.aggregate_array(case.coverage, values, statistics="mean")
    return found["values_mean"].values


def ours_together(case: Case, layers: int) -> np.ndarray:
    """Means of arrays in memory, all of them in one call."""
    bands = case.names[:layers]
    found = cube.aggregate_array(
        case.coverage, case.stacked[:layers], bands=bands, statistics="mean"
    )
    return found[f"values_{bands[0]}_mean"].values


def ours_from_cube(case: Case, layers: int) -> np.ndarray:
    """Means of layers of the cube, decoding included."""
    found = cube.aggregate(case.coverage, case.names[:layers], statistics="mean")
    return found[f"{case.names[0]}_mean"].values


def exact(case: Case, layers: int, statistics: tuple[str, ...] = ("mean",)) -> Any:
    """Statistics by exactextract, all layers in one call."""
    grid = case.coverage.grid
    box = grid.boundingbox
    sources = [
        NumPyRasterSource(
            values, xmin=box.left, ymin=box.bottom, xmax=box.right, ymax=box.top,
            srs_wkt=grid.crs.to_wkt(), name=name,
        )
        for name, values in zip(case.names[:layers], case.rasters, strict=False)
    ]  # fmt: skip
    return exactextract.exact_extract(sources, case.polygons, list(statistics), output="pandas")


def whole_pixels(case: Case) -> np.ndarray:
    """Pixels by rasterstats whose centres lie in each of a sample of the polygons."""
    found = rasterstats.zonal_stats(
        case.polygons.geometry.iloc[:SAMPLE],
        case.rasters[0],
        affine=case.coverage.grid.transform,
        stats=["mean", "count"],
        nodata=-9999,
    )
    return np.array([one["count"] for one in found], "float64")


def medians(turns: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Seconds of each, turn and turn about, after one that does not count."""
    took: dict[str, list[float]] = {name: [] for name in turns}
    for count in range(rounds + 1):
        for name, turn in turns.items():
            start = time.perf_counter()
            turn()
            if count:
                took[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in took.items()}


def print_rows(took: dict[str, float], base: str, notes: dict[str, str], **common: Any) -> None:
    """Rows as JSON: milliseconds, and how many times those of ``base``."""
    for what, seconds in took.items():
        row = {
            "what": what,
            "ms": round(1000 * seconds, 2),
            "times": round(seconds / took[base], 1),
        }
        note = {"note": notes[what]} if what in notes else {}
        print(json.dumps({**row, **note, **common}), flush=True)


def layers(folder: Path, options: argparse.Namespace) -> None:
    """A layer by itself, and each further one of a call, once the shares are at hand."""
    case, number = made_case(folder, options), options.layers
    expected = exact(case, 1)["mean"].to_numpy("float64")
    for found in (ours(case), ours_together(case, number), ours_from_cube(case, 1)):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    # Another question, whole pixels by their centres: the number of them is near the area.
    assert abs(whole_pixels(case).sum() / case.coverage.pixels[:SAMPLE].sum() - 1) < 0.05
    took = medians(
        {
            "a layer": lambda: ours(case),
            "one layer of an array": lambda: ours_together(case, 1),
            "all layers of an array, one call": lambda: ours_together(case, number),
            "one layer of the cube, decoded": lambda: ours_from_cube(case, 1),
            "all layers of the cube, decoded, one call": lambda: ours_from_cube(case, number),
            "exactextract, a layer": lambda: exact(case, 1),
            "exactextract, all layers, one call": lambda: exact(case, number),
            "rasterstats, a layer": lambda: whole_pixels(case),
        },
        options.rounds,
    )
    took["a layer"] /= number
    took["rasterstats, a layer"] *= len(case.polygons) / SAMPLE
    for what, one, every in (
        (
            "each further layer of one call",
            "one layer of an array",
            "all layers of an array, one call",
        ),
        (
            "exactextract, each further layer of one call",
            "exactextract, a layer",
            "exactextract, all layers, one call",
        ),
    ):
        took[what] = (took[every] - took[one]) / (number - 1)
    notes = {"rasterstats, a layer": f"{SAMPLE} polygons, scaled up by count"}
    print_rows(took, "a layer", notes, **common(case, options))


def build(folder: Path, options: argparse.Namespace) -> None:
    """The shares, kept with the cube."""
    case = made_case(folder, options)
    count = exact(case, 1, ("count",))["count"].to_numpy("float64")
    np.testing.assert_allclose(case.coverage.pixels, count, rtol=1e-6)
    url = case.coverage.url

    def anew() -> None:
        cube.coverage.remove(url, "anew")
        cube.coverage.build(url, "anew", case.polygons)

    took = medians(
        {
            "building": anew,
            "exactextract, one pass": lambda: exact(case, 1),
            "exactextract, its shares": lambda: exact(case, 1, ("cell_id", "coverage")),
        },
        options.rounds,
    )
    print_rows(took, "exactextract, one pass", {}, **common(case, options))


def common(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """What rows of one case share."""
    return {
        "pixels": f"{options.side} x {options.side}",
        "polygons": len(case.polygons),
        "layers": options.layers,
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


# ------------------------------------------------------------------------ a national set of blocks
NATIONAL = ("persons", "lights", "forest")


def national(folder: Path, options: argparse.Namespace) -> None:
    """Each step in a process of its own, whose peak of memory counts."""
    for step in STEPS:
        command = [sys.executable, "-m", "benchmarks.blocks", "--step", step, "--folder", folder]
        sizes = ["--national-side", options.national_side, "--across", options.across]
        subprocess.run([str(part) for part in (*command, *sizes)], check=True)


def write_polygons(folder: Path, options: argparse.Namespace) -> None:
    """A patchwork as GeoParquet."""
    bent_squares(square_grid(options.national_side), options.across).to_parquet(
        folder / "blocks.parquet"
    )


def write_layers(folder: Path, options: argparse.Namespace) -> None:
    """A cube of three layers of whole numbers."""
    url, spec = made_cube(folder, options.national_side, list(NATIONAL), "int16")
    for seed, name in enumerate(NATIONAL):
        fill = functools.partial(noise, seed=seed)
        for region in cube.regions(spec, name):
            cube.write_region(url, name, region, fill(region))


def noise(region: cube.Region, *, seed: int) -> np.ndarray:
    """Whole numbers, 0 to 999."""
    rng = np.random.default_rng([seed, *region.rows, *region.cols])
    return rng.integers(0, 1000, region.shape, dtype="int16")


def build_national(folder: Path, options: argparse.Namespace) -> None:
    """The shares of all polygons, read in batches."""
    grid, path = square_grid(options.national_side), folder / "blocks.parquet"
    batches = cube.polygon_batches(path, grid=grid, id="geoid")
    coverage = cube.coverage.build(folder / "cube.zarr", "blocks", batches, id="geoid")
    assert coverage.polygons == options.across**2


def aggregate_national(folder: Path, options: argparse.Namespace) -> None:
    """Sums and means of three layers; their totals must be those of the pixels."""
    coverage = cube.coverage.load(folder / "cube.zarr", "blocks")
    panel = cube.aggregate(coverage, list(NATIONAL), statistics=("sum", "mean"))
    for seed, name in enumerate(NATIONAL):
        total = sum(int(part.sum(dtype="int64")) for part in of_layer(coverage, seed))
        np.testing.assert_allclose(float(panel[f"{name}_sum"].sum()), total, rtol=1e-9)


def of_layer(coverage: cube.Coverage, seed: int) -> Iterator[np.ndarray]:
    """A layer, region by region, as it was made."""
    for region in cube.regions(cube.read_spec(coverage.url), NATIONAL[seed]):
        yield noise(region, seed=seed)


def panel_national(folder: Path, options: argparse.Namespace) -> None:
    """A median and an error of one layer, into the cube and into a file."""
    coverage = cube.coverage.load(folder / "cube.zarr", "blocks")
    panel = cube.aggregate(coverage, NATIONAL[0], statistics=("mean", "median", "standard_error"))
    cube.save_blocks(coverage.url, "blocks", panel)
    cube.export(panel, folder / "blocks_panel.parquet")


STEPS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "make polygons": write_polygons,
    "make layers": write_layers,
    "build coverage": build_national,
    "aggregate 3 layers, and check totals": aggregate_national,
    "median and error of 1 layer, saved and exported": panel_national,
}


def run_step(name: str, folder: Path, options: argparse.Namespace) -> None:
    """Do one step, and print its seconds and the peak of this process."""
    before = peak_mb()
    start = time.perf_counter()
    STEPS[name](folder, options)
    row = {
        "what": name,
        "s": round(time.perf_counter() - start, 1),
        "peak_mb": round(peak_mb()),
        "of which imports": round(before),
        "polygons": options.across**2,
        "pixels": f"{options.national_side} x {options.national_side}",
    }
    print(json.dumps(row), flush=True)


def peak_mb() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


PARTS = {"layers": layers, "build": build, "national": national}


def main() -> None:
    """Run parts and print rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--polygons", type=int, default=20_000)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--national-side", type=int, default=20_000)
    parser.add_argument("--across", type=int, default=1000, help="polygons along a side")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        run_step(options.step, options.folder, options)
        return
    for part in options.parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[part](Path(folder), options)


if __name__ == "__main__":
    main()
