"""How fast do layers become a table of census blocks, and their shares before that?

    python -m benchmarks.blocks layers [--side 2048] [--polygons 20000] [--layers 4]

Made data: rasters of noise and a patchwork of Voronoi cells. The same polygons and pixels go
through exactextract and rasterstats, and the means must agree before anything is printed. Turns
are taken side by side, three of each, and rows hold their medians, one JSON object a line.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import exactextract
import numpy as np
import rasterstats
from exactextract.raster import NumPyRasterSource
from odc.geo.geobox import GeoBox

import cube
from benchmarks.coverage import patchwork
from cube.aggregating import aggregate, aggregate_array

if TYPE_CHECKING:
    import geopandas as gpd

TURNS = 3
SAMPLE = 300
"""Polygons that rasterstats does; its time is scaled up by their count."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Polygons, rasters, and a cube that holds both."""

    polygons: gpd.GeoDataFrame
    rasters: list[np.ndarray]
    names: list[str]
    coverage: cube.Coverage


def scene(side: int, count: int, layers: int, folder: Path) -> Scene:
    """Make the data."""
    left, top, step = 300_000, 9_000_000, 30
    grid = GeoBox.from_bbox(
        (left, top - side * step, left + side * step, top), crs="EPSG:31985", resolution=step
    )
    names = [f"noise{i}" for i in range(layers)]
    spec = cube.CubeSpec(
        grid=grid,
        calendar=cube.years(2020),
        layers=tuple(cube.LayerSpec(name=n, dtype="float32", static=True) for n in names),
    )
    url = cube.create(folder / "cube.zarr", spec)
    rng = np.random.default_rng(1)
    rasters = [rng.normal(size=(side, side)).astype("float32") for _ in names]
    for name, values in zip(names, rasters, strict=True):
        for region in cube.regions(spec, name):
            cube.write_region(url, name, region, values[region.slices].copy())
    polygons = patchwork(grid, count)
    return Scene(
        polygons=polygons,
        rasters=rasters,
        names=names,
        coverage=cube.coverage.build(url, "cells", polygons),
    )


def ours_array(made: Scene) -> np.ndarray:
    """Mean of an array in memory."""
    return aggregate_array(made.coverage, made.rasters[0], statistics="mean")["values_mean"].values


def ours_table(made: Scene) -> np.ndarray:
    """Sum, mean and deviation of an array in memory, as a table."""
    return cube.collect_array(made.coverage, made.rasters[0])["mean"].to_numpy()


def ours_cube(made: Scene, layers: int) -> np.ndarray:
    """Means of layers of the cube, decoding included."""
    names = made.names[:layers]
    return aggregate(made.coverage, names, statistics="mean")[f"{names[0]}_mean"].values


def exact(made: Scene, layers: int) -> np.ndarray:
    """Means by exactextract, all layers in one call."""
    box = made.coverage.grid.boundingbox
    sources = [
        NumPyRasterSource(
            values, xmin=box.left, ymin=box.bottom, xmax=box.right, ymax=box.top,
            srs_wkt=made.coverage.grid.crs.to_wkt(), name=name,
        )
        for name, values in zip(made.names[:layers], made.rasters, strict=False)
    ]  # fmt: skip
    table = exactextract.exact_extract(sources, made.polygons, ["mean"], output="pandas")
    return table.iloc[:, 0].to_numpy("float64")


def whole_pixels(made: Scene) -> np.ndarray:
    """Means by rasterstats, of pixels whose centres lie in a sample of the polygons."""
    found = rasterstats.zonal_stats(
        made.polygons.geometry.iloc[:SAMPLE],
        made.rasters[0],
        affine=made.coverage.grid.transform,
        stats=["mean", "count"],
        nodata=-9999,
    )
    return np.array([one["count"] for one in found], "float64")


def medians(turns: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Seconds of each, side by side."""
    took: dict[str, list[float]] = {name: [] for name in turns}
    for turn in turns.values():
        turn()
    for _ in range(TURNS):
        for name, turn in turns.items():
            start = time.perf_counter()
            turn()
            took[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in took.items()}


def check(made: Scene) -> None:
    """Refuse to time what does not agree."""
    expected = exact(made, 1)
    for found in (ours_array(made), ours_table(made), ours_cube(made, 1)):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    # Another question, whole pixels by their centres: the number of them is near the area.
    area = made.coverage.pixels[:SAMPLE]
    assert abs(whole_pixels(made).sum() / area.sum() - 1) < 0.05


def layers(side: int, count: int, number: int, folder: Path) -> list[dict[str, Any]]:
    """Rows: a layer, and each further one, once the shares are at hand."""
    made = scene(side, count, number, folder)
    check(made)
    took = medians(
        {
            "ours, mean of an array": lambda: ours_array(made),
            "ours, table of an array": lambda: ours_table(made),
            "ours, one layer of the cube": lambda: ours_cube(made, 1),
            "ours, all layers of the cube": lambda: ours_cube(made, number),
            "exactextract, one layer": lambda: exact(made, 1),
            "exactextract, all layers": lambda: exact(made, number),
            "rasterstats, sample": lambda: whole_pixels(made),
        }
    )
    further = max(1, number - 1)
    took["ours, each further layer of the cube"] = (
        took["ours, all layers of the cube"] - took["ours, one layer of the cube"]
    ) / further
    took["exactextract, each further layer"] = (
        took["exactextract, all layers"] - took["exactextract, one layer"]
    ) / further
    took["rasterstats, one layer"] = took.pop("rasterstats, sample") * len(made.polygons) / SAMPLE
    common = {
        "pixels": f"{side} x {side}",
        "polygons": len(made.polygons),
        "layers": number,
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    notes = {"rasterstats, one layer": {"note": f"scaled up by count from {SAMPLE} polygons"}}
    return [
        {"what": what, "ms": round(1000 * seconds, 2), **common, **notes.get(what, {})}
        for what, seconds in took.items()
    ]


def main() -> None:
    """Print rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["layers"])
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--polygons", type=int, default=20_000)
    parser.add_argument("--layers", type=int, default=4)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for row in layers(args.side, args.polygons, args.layers, Path(folder)):
            print(json.dumps(row))


if __name__ == "__main__":
    main()
