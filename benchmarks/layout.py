"""How should arrays be cut and coded, and what do ledger, checksum and xarray cost on top of Zarr?

    python -m benchmarks.layout [--side 4096] [--rounds 3] [--remote]

The same regions go through ``cube.write_region`` and ``cube.open``, and through bare zarr-python
with the same chunks and codecs, turn by turn, in one process. Rates count decoded bytes; ratios
are medians over the turns, so that what else the machine does hits both sides alike. The pixels
are those of the example's Landsat scene, mirrored to size, with a little noise below one step of
the sensor.

With ``--remote`` an S3 server on the loopback stands behind a proxy that holds every request back
for 50 ms: there what counts is how many requests wait for one another.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dask
import dask.array
import numpy as np
import rasterio
import zarr
from odc.geo.geobox import GeoBox
from zarr.codecs import BloscCodec, Crc32cCodec

import cube
from cube import nodata, store
from cube.run import run_tasks

SCENE = Path(__file__).parents[1] / "examples/olinda/data/L7_ETMs.tif"
BANDS = tuple(f"band_{n}" for n in range(10))
NODATA = -9999

LOCAL = [
    cube.LayoutSpec(chunk=chunk, shard=shard, codec=codec)
    for chunk, shard, codec in [
        (128, None, "blosc-zstd-3-bitshuffle"),
        (256, None, "blosc-zstd-3-bitshuffle"),
        (512, None, "blosc-zstd-3-bitshuffle"),
        (256, None, "blosc-zstd-1-bitshuffle"),
        (256, None, "blosc-lz4-5-bitshuffle"),
        (256, None, "none"),
        (128, 1024, "blosc-zstd-3-bitshuffle"),
        (256, 1024, "blosc-zstd-3-bitshuffle"),
    ]
]
REMOTE = [
    cube.LayoutSpec(chunk=128),
    cube.LayoutSpec(chunk=256),
    cube.LayoutSpec(chunk=512),
    cube.LayoutSpec(chunk=128, shard=1024),
    cube.LayoutSpec(chunk=256, shard=1024),
]


def block(side: int) -> np.ndarray:
    """Stored values of one region, int16 (band, y, x)."""
    with rasterio.open(SCENE) as scene:
        image = scene.read()
    rows, cols = (max(0, side - n) for n in image.shape[1:])
    tile = np.pad(image, ((0, 0), (0, rows), (0, cols)), mode="symmetric")[:, :side, :side]
    rng = np.random.default_rng(0)
    bands = [tile[n % len(tile)] for n in range(len(BANDS))]
    return (np.stack(bands) * 40 + rng.integers(0, 20, (len(BANDS), side, side))).astype("int16")


def cube_at(url: str, side: int, layout: cube.LayoutSpec) -> cube.CubeSpec:
    """A new cube of one stack and one period."""
    corner, step = (300_000, 9_000_000), 30
    box = (corner[0], corner[1] - side * step, corner[0] + side * step, corner[1])
    spec = cube.CubeSpec(
        grid=GeoBox.from_bbox(box, crs="EPSG:31985", resolution=step),
        calendar=cube.years(2020),
        stacks=(
            cube.StackSpec(
                name="predictors", bands=BANDS, dtype="int16", nodata=NODATA, scale=0.0001
            ),
        ),
        layout=layout,
    )
    cube.create(url, spec)
    return cube.read_spec(url)


def bare_at(place: Any, side: int, layout: cube.LayoutSpec) -> zarr.Array:
    """The same array in bare zarr."""
    cut = [None if n is None else (1, len(BANDS), n, n) for n in (layout.chunk, layout.shard)]
    coder: list[Any] = []
    if layout.codec != "none":
        _, name, level, shuffle = layout.codec.split("-")
        coder = [BloscCodec(cname=name, clevel=int(level), shuffle=shuffle)]
    return zarr.create_array(
        place,
        name="predictors",
        shape=(1, len(BANDS), side, side),
        chunks=cut[0],
        shards=cut[1],
        dtype="int16",
        fill_value=NODATA,
        compressors=[*coder, Crc32cCodec()],
    )


def index(region: cube.Region) -> tuple[Any, ...]:
    """A region in the array (time, band, y, x)."""
    return (region.time, slice(None), *region.slices)


def seconds(call: Callable[[], Any]) -> float:
    """Duration of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def turns(pairs: Iterable[tuple[Callable[[], Any], Callable[[], Any]]]) -> dict[str, float]:
    """Median seconds of ours and of bare zarr, and the median of bare over ours."""
    ours, bare = [], []
    for turn, (first, second) in enumerate(pairs):
        # Who comes first alternates: the page cache favours the second.
        order = [(ours, first), (bare, second)]
        for times, call in order if turn % 2 else reversed(order):
            times.append(seconds(call))
    ratios = [b / a for a, b in zip(ours, bare, strict=True)]
    return {
        "ours_s": statistics.median(ours),
        "bare_s": statistics.median(bare),
        "ratio": statistics.median(ratios),
    }


def rates(name: str, times: dict[str, float], size: int) -> dict[str, float]:
    """A row's columns of one comparison."""
    return {
        f"{name}_MB_s": round(size / 1e6 / times["ours_s"]),
        f"{name}_bare_MB_s": round(size / 1e6 / times["bare_s"]),
        f"{name}_ratio": round(times["ratio"], 3),
    }


def local(layout: cube.LayoutSpec, side: int, rounds: int, folder: Path) -> dict[str, Any]:
    """One layout in a folder: writes and reads beside bare zarr."""
    data = block(layout.region)
    written = turns(
        pair for n in range(rounds) for pair in new_regions(folder / str(n), side, layout, data)
    )
    url, bare = str(folder / "0/ours.zarr"), zarr.open_array(folder / "0/bare.zarr/predictors")
    spec = cube.read_spec(url)
    places = list(cube.regions(spec, "predictors", time=0))
    every = [place for _ in range(rounds) for place in places]
    stored = cube.open(url, stored=True, chunks=None)["predictors"]
    read = turns((lambda r=r: stored[index(r)].values, lambda r=r: bare[index(r)]) for r in every)
    chunks = (1, len(BANDS), layout.region, layout.region)
    lazy = cube.open(url, stored=True)["predictors"].data
    plain = dask.array.from_zarr(str(folder / "0/bare.zarr/predictors"), chunks=chunks)
    whole = turns([(lazy.compute, plain.compute)] * (rounds + 1))
    decoded = cube.open(url)["predictors"].data
    variable = spec.variable("predictors")
    decoding = plain.map_blocks(nodata.decode, variable=variable, dtype="float32")
    floats = turns([(decoded.compute, decoding.compute)] * (rounds + 1))
    rng = np.random.default_rng(1)
    corners = rng.integers(0, side - 64, (60, 2))
    chip = turns(
        (
            lambda y=y, x=x: stored[0, :, y : y + 64, x : x + 64].values,
            lambda y=y, x=x: bare[0, :, y : y + 64, x : x + 64],
        )
        for y, x in corners
    )
    files = [path for path in Path(url).rglob("predictors/c/**/*") if path.is_file()]
    size = data.nbytes
    return {
        "chunk": layout.chunk,
        "shard": layout.shard or 0,
        "codec": layout.codec,
        **rates("write", written, size),
        **rates("read", read, size),
        **rates("dask", whole, size * len(places)),
        **rates("decoded", floats, size * len(places)),
        "chip_64_ms": round(chip["ours_s"] * 1000, 1),
        "files": len(files),
        "share_of_raw": round(sum(p.stat().st_size for p in files) / size / len(places), 3),
    }


def new_regions(
    folder: Path, side: int, layout: cube.LayoutSpec, data: np.ndarray
) -> Iterator[tuple[Callable[[], Any], Callable[[], Any]]]:
    """Writes of regions of a new cube, and of a bare array, as pairs."""
    url = str(folder / "ours.zarr")
    spec = cube_at(url, side, layout)
    bare = bare_at(folder / "bare.zarr", side, layout)
    for region in cube.regions(spec, "predictors", time=0):
        yield (
            partial(cube.write_region, url, "predictors", region, data, spec=spec),
            partial(bare.__setitem__, index(region), data),
        )


def remote(layout: cube.LayoutSpec, url: str, proxy: Any, workers: int) -> dict[str, Any]:
    """One layout in an object store that answers after 50 ms: four regions."""
    spec = cube_at(url, 2 * layout.region, layout)
    data = block(layout.region)
    places = list(cube.regions(spec, "predictors", time=0))

    def write(region: cube.Region) -> None:
        cube.write_region(url, "predictors", region, data, spec=spec)

    def read(region: cube.Region) -> None:
        store.read(url, "predictors", index(region))

    row: dict[str, Any] = {"chunk": layout.chunk, "shard": layout.shard or 0}
    for name, work in (("write", write), ("read", read)):
        proxy.reset()
        run = partial(run_tasks, work, places, verb=name, url=url, workers=workers)
        taken = seconds(lambda run=run: list(run()))
        row[f"{name}_s"] = round(taken, 2)
        row[f"{name}_requests"] = proxy.requests()["all"]
        row[f"{name}_MB_s"] = round(data.nbytes * len(places) / 1e6 / taken)
    window = (0, slice(None), slice(100, 164), slice(100, 164))
    proxy.reset()
    row["chip_64_ms"] = round(1000 * seconds(lambda: store.read(url, "predictors", window)), 1)
    row["chip_requests"] = proxy.requests()["all"]
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as aligned text."""
    heads = list(rows[0])
    cells = [heads, *([str(row[head]) for head in heads] for row in rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(heads))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    )


def main() -> None:
    """Print one table for a folder, and one for an object store on request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--remote", action="store_true")
    parser.add_argument("--workers", type=int, default=8, help="threads for the object store")
    args = parser.parse_args()
    print(json.dumps({"machine": platform.machine(), "cores": os.cpu_count()}))
    rows = []
    for layout in LOCAL:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(local(layout, args.side, args.rounds, Path(folder)))
    print(table(rows))
    if args.remote:
        # The tests' own server: an object store without a network.
        from tests import faults, servers

        with servers.start("s3") as server, faults.proxy(server.endpoint, delay_s=0.05) as proxy:
            os.environ.update(server.through(proxy.endpoint).environment)
            bucket = server.new_bucket()
            urls = (f"{bucket}/{n}.zarr" for n in itertools.count())
            print(table([remote(layout, next(urls), proxy, args.workers) for layout in REMOTE]))


if __name__ == "__main__":
    main()
