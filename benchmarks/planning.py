"""Is a plan quick, and does it tell the truth about memory?

    python -m benchmarks.planning

Plans an ingest of a hundred thousand regions, half of which are done, and counts the time. Then
fills two cubes from a GeoTIFF, the second eight times as large, each in a process of its own,
and compares the memory that the run took, above what the process had before, with the plan's
forecast.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.transform import from_origin
from rasterio.windows import Window

import catalogs
import cube
from cube import ledger, objects

BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")
CORNER = from_origin(300_000, 9_000_000, 30, 30)


def spec_of(shape: tuple[int, int], layout: cube.LayoutSpec) -> cube.CubeSpec:
    """A cube of one stack of six bands and one year."""
    return cube.CubeSpec(
        grid=GeoBox(shape, CORNER, "EPSG:31985"),
        calendar=cube.years(2020),
        stacks=(
            cube.StackSpec(
                name="predictors", bands=BANDS, dtype="int16", nodata=-9999, scale=0.0001
            ),
        ),
        layout=layout,
    )


def image(path: Path, shape: tuple[int, int]) -> Path:
    """A tiled GeoTIFF of noise, float32, compressed."""
    profile = {"driver": "GTiff", "dtype": "float32", "count": len(BANDS), "tiled": True}
    size = {"height": shape[0], "width": shape[1], "compress": "lzw"}
    rng = np.random.default_rng(0)
    with rasterio.open(
        path, "w", crs="EPSG:31985", transform=CORNER, nodata=-1, **profile, **size
    ) as file:
        for row in range(0, shape[0], 512):
            count = min(512, shape[0] - row)
            values = rng.integers(0, 10_000, (len(BANDS), count, shape[1])) / 10_000
            file.write(values.astype("float32"), window=Window(0, row, shape[1], count))
    return path


def planning(folder: Path) -> dict[str, object]:
    """Seconds to plan 102,400 regions."""
    side, regions = 64, 320
    spec = spec_of((side * regions, side * regions), cube.LayoutSpec(chunk=side, region=side))
    url = cube.create(folder / "many.zarr", spec)
    there, entry = objects.at(url), ledger.encode(1 << 32)
    for row in range(regions // 2):
        for col in range(regions):
            there.put(ledger.key_at("predictors", (0, row, col)), entry)
    scene = catalogs.geotiff(image(folder / "small.tif", (64, 64)), bands=BANDS)
    start = time.perf_counter()
    plan = cube.plan_ingest(url, "predictors", {"2020": scene})
    planned_s = time.perf_counter() - start
    start = time.perf_counter()
    status = cube.status(url)
    return {
        "regions": len(plan.todo) + len(plan.done),
        "done": status.counts.done,
        "plan_s": round(planned_s, 2),
        "status_s": round(time.perf_counter() - start, 2),
    }


def peak_bytes() -> int:
    """Largest resident memory of this process since it was last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def child(path: str, url: str) -> None:
    """Fill a cube and print the forecast and the peak above what the process had before."""
    scene = catalogs.geotiff(path, bands=BANDS)
    spec = cube.read_spec(url)
    # What is loaded once belongs to the process: one small box of pixels loads it.
    scene.read(spec.grid, (0, 16), (0, 16))
    plan = cube.plan_ingest(url, "predictors", {"2020": scene}, workers=2)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_bytes()
    cube.ingest(url, "predictors", {"2020": scene}, workers=2)
    row = {"forecast": plan.summary.total_peak_bytes, "measured": peak_bytes() - before}
    print(json.dumps(row))


def memory(folder: Path, shape: tuple[int, int]) -> dict[str, object]:
    """Forecast and measurement for a cube of that shape."""
    path = image(folder / "scene.tif", shape)
    url = cube.create(folder / f"{shape[0]}.zarr", spec_of(shape, cube.LayoutSpec()))
    command = [sys.executable, "-m", "benchmarks.planning", "--child", str(path), url]
    out = subprocess.run(command, check=True, text=True, capture_output=True).stdout
    row = json.loads(out.splitlines()[-1])
    return {
        "pixels": f"{shape[0]} x {shape[1]} x {len(BANDS)}",
        "forecast_MB": round(row["forecast"] / 1e6),
        "measured_MB": round(row["measured"] / 1e6),
        "measured_over_forecast": round(row["measured"] / row["forecast"], 2),
    }


def main() -> None:
    """Print one row for planning and two for memory."""
    if "--child" in sys.argv:
        return child(*sys.argv[2:])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(json.dumps(planning(folder)))
        for shape in ((2048, 2048), (4096, 8192)):
            print(json.dumps(memory(folder, shape)))


if __name__ == "__main__":
    main()
