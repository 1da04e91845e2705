"""How fast does a layer become a table of polygons, once their coverage is at hand?

    python -m benchmarks.coverage [--side 1024] [--polygons 5000]

Made data: a raster of noise and a patchwork of Voronoi cells. The same polygons and pixels go
through exactextract, and the means must agree to 1e-6 before anything is printed.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path

import exactextract
import geopandas as gpd
import numpy as np
import shapely
from exactextract.raster import NumPyRasterSource
from odc.geo.geobox import GeoBox

import cube


def patchwork(grid: GeoBox, count: int) -> gpd.GeoDataFrame:
    """Voronoi cells of random points, clipped to the grid."""
    box = grid.boundingbox
    rng = np.random.default_rng(0)
    points = rng.uniform((box.left, box.bottom), (box.right, box.top), (count, 2))
    cells = shapely.voronoi_polygons(shapely.multipoints(points)).geoms
    outline = shapely.box(*box.bbox)
    return gpd.GeoDataFrame(geometry=shapely.intersection(list(cells), outline), crs=grid.crs.proj)


def seconds(function, *arguments, **options):
    """Duration of a call, and what it returned."""
    start = time.perf_counter()
    result = function(*arguments, **options)
    return time.perf_counter() - start, result


def measure(side: int, count: int, folder: Path) -> dict[str, object]:
    """One row: building the coverage, a layer with it, and exactextract on the same."""
    left, top, step = 300_000, 9_000_000, 30
    grid = GeoBox.from_bbox(
        (left, top - side * step, left + side * step, top), crs="EPSG:31985", resolution=step
    )
    spec = cube.CubeSpec(
        grid=grid,
        calendar=cube.years(2020),
        layers=(cube.LayerSpec(name="noise", dtype="float32", static=True),),
    )
    url = cube.create(folder / "cube.zarr", spec)
    values = np.random.default_rng(1).normal(size=(side, side)).astype("float32")
    for region in cube.regions(spec, "noise"):
        cube.write_region(url, "noise", region, values[region.slices].copy())
    polygons = patchwork(grid, count)
    build_s, coverage = seconds(cube.coverage.build, url, "cells", polygons)
    cube.collect(coverage, "noise")  # lists are read once per process
    layer_s, table = seconds(cube.collect, coverage, "noise")
    box = grid.boundingbox
    raster = NumPyRasterSource(
        values, xmin=box.left, ymin=box.bottom, xmax=box.right, ymax=box.top,
        srs_wkt=grid.crs.to_wkt(),
    )  # fmt: skip
    exact_s, expected = seconds(
        exactextract.exact_extract, raster, polygons, ["mean", "stdev"], output="pandas"
    )
    np.testing.assert_allclose(table["mean"], expected["mean"], rtol=1e-6, atol=1e-6)
    return {
        "pixels": f"{side} x {side}",
        "polygons": len(polygons),
        "coverage_build_s": round(build_s, 3),
        "layer_s": round(layer_s, 3),
        "exactextract_s": round(exact_s, 3),
        "exactextract_over_layer": round(exact_s / layer_s, 1),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


def main() -> None:
    """Print one row as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--polygons", type=int, default=5000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(args.side, args.polygons, Path(folder))))


if __name__ == "__main__":
    main()
