"""How fast do scenes become a cube, beside stackstac and odc-stac, and beside what the machine can?

    python -m benchmarks.ingest [--side 4096] [--scenes 20] [--rounds 3] [--only aligned,...]

Needs ``pip install 'quadrat[bench]'``, which brings odc-stac. Four questions, each in one run with
what it is compared with, turn by turn; rates are medians and count decoded bytes.

aligned: cloud-optimised GeoTIFFs on the cube's grid, a time each, through stackstac and our reader;
beside both peers' ``load -> to_zarr`` with the same chunks and codec, and beside the limit, which
is to decode all files and to encode all chunks, each alone and on all cores.
warped: the same files, in UTM, onto an Albers grid, bilinear.
median: one composite of 40 dates with a mask of classes, and the memory it takes with fewer and
more dates.
planning: 100,000 scenes over 10,000 regions; nothing is read.

Outputs are compared: equal to the bit where nothing is interpolated, else by how many steps of a
number they differ (both peers approximate where pixels lie, by up to an eighth of a pixel).
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC as UTC_ZONE
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pystac
import rasterio
import xarray as xr
import zarr
from affine import Affine
from odc.geo.geobox import GeoBox
from zarr.codecs import BloscCodec

import cube
from benchmarks.layout import block
from catalogs.stacking import StackReader
from cube.composites import Composite
from cube.quality import QualityClasses
from cube.scenes import Scene, SceneBand
from cube.threads import cores

UTM, ALBERS = "EPSG:32613", "EPSG:5070"
CORNER = 400_000.0, 4_500_000.0
STEP = 30.0
NODATA = -9999
CODEC = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")
CHUNK = 1024
"""Of Dask, for the peers; the chunks in Zarr are those of the cube."""


def utm_grid(side: int) -> GeoBox:
    """Where the files lie."""
    return GeoBox((side, side), Affine(STEP, 0, CORNER[0], 0, -STEP, CORNER[1]), UTM)


def albers_grid(side: int) -> GeoBox:
    """A grid turned against them by some degrees, of the same centre and pixels."""
    import pyproj

    onto = pyproj.Transformer.from_crs(UTM, ALBERS, always_xy=True)
    half = side * STEP / 2
    x, y = onto.transform(CORNER[0] + half, CORNER[1] - half)
    x, y = (round(value / STEP) * STEP for value in (x - half, y + half))
    return GeoBox((side, side), Affine(STEP, 0, x, 0, -STEP, y), ALBERS)


def write_cogs(folder: Path, side: int, count: int) -> list[pystac.Item]:
    """Files of one band and one of classes each, with items that describe them."""
    image = block(side)
    rng = np.random.default_rng(1)
    items = []
    for n in range(count):
        shifted = np.roll(image[n % len(image)], (37 * n, 53 * n), (0, 1)) + np.int16(n)
        blobs = np.kron(rng.random((side // 64, side // 64)) < 0.3, np.ones((64, 64), bool))
        classes = np.where(blobs, 9, rng.integers(4, 8, (side, side))).astype("uint8")
        for name, values, nodata in (("b1", shifted, NODATA), ("scl", classes, 0)):
            with rasterio.open(
                folder / f"{n:03d}_{name}.tif",
                "w",
                driver="COG",
                width=side,
                height=side,
                count=1,
                dtype=values.dtype.name,
                nodata=nodata,
                crs=UTM,
                transform=utm_grid(side).transform,
                compress="DEFLATE",
                predictor=2,
                blocksize=512,
                overviews="NONE",
            ) as target:
                target.write(values, 1)
        items.append(item(folder, n, side))
    return items


def item(folder: Path, n: int, side: int) -> pystac.Item:
    """A STAC item of two assets."""
    grid = utm_grid(side)
    box = grid.extent.to_crs("EPSG:4326").boundingbox
    found = pystac.Item(
        id=f"scene-{n:03d}",
        geometry=grid.extent.to_crs("EPSG:4326").json,
        bbox=list(box),
        datetime=datetime(2020 + n // 12, n % 12 + 1, 15, tzinfo=UTC_ZONE),
        properties={
            "proj:epsg": int(UTM.partition(":")[2]),
            "proj:code": UTM,
            "proj:shape": [side, side],
            "proj:transform": list(grid.transform)[:6],
        },
    )
    for name, dtype, nodata in (("b1", "int16", NODATA), ("scl", "uint8", 0)):
        found.add_asset(
            name,
            pystac.Asset(
                str(folder / f"{n:03d}_{name}.tif"),
                media_type="image/tiff; application=geotiff; profile=cloud-optimized",
                extra_fields={"raster:bands": [{"data_type": dtype, "nodata": nodata}]},
            ),
        )
    found.stac_extensions = [
        "https://stac-extensions.github.io/projection/v1.1.0/schema.json",
        "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
    ]
    return found


def scene(item: pystac.Item, resampling: str) -> Scene:
    """The same as a scene."""
    side = item.properties["proj:shape"][0]
    return Scene(
        id=item.id,
        layers=(
            SceneBand(name="b1", href=item.assets["b1"].href, resampling=resampling),
            SceneBand(name="scl", href=item.assets["scl"].href, nodata=0),
        ),
        crs=UTM,
        nodata=NODATA,
        footprint=tuple(utm_grid(side).boundingbox),
        time=item.datetime.isoformat(),
    )


def spec_of(grid: GeoBox, times: int) -> cube.CubeSpec:
    """A cube of one band, with the default layout."""
    return cube.CubeSpec(
        grid=grid,
        calendar=cube.years(*range(2000, 2000 + times)),
        stacks=(cube.StackSpec(name="predictors", bands=("b1",), dtype="int16", nodata=NODATA),),
    )


def ours(out: str, scenes: list[Scene], grid: GeoBox, **how: Any) -> None:
    """Scenes to a cube, a time each."""
    spec = spec_of(grid, len(scenes))
    url = cube.create(out, spec)
    sources = {
        period.label: Composite(scenes=(one,), bands=("b1",), method="first", **how)
        for period, one in zip(spec.calendar, scenes, strict=True)
    }
    cube.ingest(url, "predictors", sources)


def stackstac_array(
    items: list[pystac.Item], grid: GeoBox, asset: str, resampling: str
) -> xr.DataArray:
    """What ``stackstac.stack`` gives, less its coordinates, which not every pandas can make."""
    from stackstac.prepare import prepare_items
    from stackstac.to_dask import items_to_dask

    dtype = np.dtype("int16" if asset == "b1" else "uint8")
    table, spec, *_ = prepare_items(
        [each.to_dict(transform_hrefs=False) for each in items],
        assets=[asset],
        epsg=grid.crs.epsg,
        resolution=STEP,
        bounds=tuple(grid.boundingbox),
        snap_bounds=False,
        rescale=False,
        dtype=dtype,
    )
    stack = items_to_dask(
        table,
        spec,
        chunksize=CHUNK,
        dtype=dtype,
        fill_value=dtype.type(NODATA if asset == "b1" else 0),
        rescale=False,
        resampling=rasterio.enums.Resampling[resampling],
        errors_as_nodata=(),
    )
    return xr.DataArray(stack, dims=("time", "band", "y", "x"))


def odc_array(items: list[pystac.Item], grid: GeoBox, asset: str, resampling: str) -> xr.DataArray:
    """What ``odc.stac.load`` gives."""
    import odc.stac

    loaded = odc.stac.load(
        items, bands=[asset], geobox=grid, chunks={"y": CHUNK, "x": CHUNK}, resampling=resampling
    )
    return loaded[asset].expand_dims("band", axis=1).drop_vars(loaded[asset].coords)


PEERS: dict[str, Callable[..., xr.DataArray]] = {
    "stackstac": stackstac_array,
    "odc-stac": odc_array,
}


def peer(name: str, out: str, items: list[pystac.Item], grid: GeoBox, resampling: str) -> None:
    """Items to Zarr, as a user of a peer does it."""
    write(PEERS[name](items, grid, "b1", resampling), out)


def write(array: xr.DataArray, out: str) -> None:
    """Dask to Zarr, in the cube's chunks and codec."""
    chunks = (1, 1, 256, 256)
    encoding = {"predictors": {"chunks": chunks, "compressors": (CODEC,)}}
    with dask.config.set(scheduler="threads", num_workers=cores()):
        array.to_dataset(name="predictors").to_zarr(
            out, mode="w", encoding=encoding, zarr_format=3, consolidated=False
        )


# ----------------------------------------------------------------------------- contenders
@dataclass(frozen=True, kw_only=True)
class Case:
    """What is asked: files, onto which grid, how.

    Attributes:
        folder: Where outputs go.
        items: The files.
        grid: The target.
        resampling: Of the band; classes are always nearest.
    """

    folder: Path
    items: list[pystac.Item]
    grid: GeoBox
    resampling: str = "nearest"

    @property
    def bytes(self) -> int:
        """Decoded, of what comes out."""
        return len(self.items) * self.grid.shape[0] * self.grid.shape[1] * 2

    def out(self, name: str) -> str:
        """A place for an output, nothing there."""
        path = self.folder / f"{name.replace(' ', '-')}.zarr"
        shutil.rmtree(path, ignore_errors=True)
        return str(path)


def each_time(case: Case) -> dict[str, Callable[[], None]]:
    """Every scene a time of its own: ours, the peers, and the two halves of the work."""
    scenes = [scene(each, case.resampling) for each in case.items]
    return {
        "quadrat": lambda: ours(case.out("quadrat"), scenes, case.grid, reader=StackReader()),
        **{
            name: partial(
                lambda n: peer(n, case.out(n), case.items, case.grid, case.resampling), name
            )
            for name in PEERS
        },
    }


def halves(case: Case) -> dict[str, Callable[[], None]]:
    """Decoding alone and encoding alone, each on all cores: what no way round is."""
    side = case.grid.shape[0]
    hrefs = [each.assets["b1"].href for each in case.items]
    boxes = [(r, c) for r in range(0, side, CHUNK) for c in range(0, side, CHUNK)]
    whole = np.empty((len(hrefs), side, side), "int16")

    def decode_one(task: tuple[int, tuple[int, int]]) -> None:
        n, (row, col) = task
        window = rasterio.windows.Window(col, row, CHUNK, CHUNK)
        with rasterio.Env(GDAL_NUM_THREADS="1"), rasterio.open(hrefs[n]) as source:
            part = source.read(1, window=window)
        whole[n, row : row + CHUNK, col : col + CHUNK] = part

    def encode_one(array: zarr.Array, task: tuple[int, tuple[int, int]]) -> None:
        n, (row, col) = task
        box = slice(row, row + CHUNK), slice(col, col + CHUNK)
        array[(n, 0, *box)] = whole[(n, *box)]

    tasks = [(n, box) for n in range(len(hrefs)) for box in boxes]

    def decode() -> None:
        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(decode_one, tasks))

    def encode() -> None:
        array = zarr.create_array(
            case.out("encoded"),
            shape=(len(hrefs), 1, side, side),
            chunks=(1, 1, 256, 256),
            dtype="int16",
            fill_value=NODATA,
            compressors=[CODEC],
        )
        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(partial(encode_one, array), tasks))

    return {"decode alone": decode, "encode alone": encode}


def medians(case: Case) -> dict[str, Callable[[], None]]:
    """All scenes one composite, without the pixels of class 9."""
    scenes = tuple(scene(each, case.resampling) for each in case.items)
    keep = (4, 5, 6, 7)

    def quadrat() -> None:
        spec = spec_of(case.grid, 1)
        url = cube.create(case.out("quadrat"), spec)
        quality = QualityClasses(band="scl", keep=keep)
        source = Composite(scenes=scenes, bands=("b1",), quality=quality, reader=StackReader())
        cube.ingest(url, "predictors", {"2000": source})

    def of_peer(name: str) -> None:
        values = PEERS[name](case.items, case.grid, "b1", case.resampling)
        classes = PEERS[name](case.items, case.grid, "scl", "nearest")
        clear = classes.isin(keep) & (values != NODATA)
        square = {"y": CHUNK, "x": CHUNK}
        whole = values.where(clear).chunk({"time": -1, **square})
        median = whole.median("time", skipna=True).round().fillna(NODATA).astype("int16")
        write(median.expand_dims("time").chunk(square), case.out(name))

    return {"quadrat": quadrat, **{name: partial(of_peer, name) for name in PEERS}}


# -------------------------------------------------------------------------------- reports
def timed(contenders: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median seconds of each, turn by turn, so that what else the machine does hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def rows(seconds: dict[str, float], size: int) -> None:
    """One line each: seconds, and decoded bytes a second."""
    for name, taken in seconds.items():
        print(f"  {name:14} {taken:7.2f} s  {size / taken / 1e6:6.0f} MB/s")


def compare(case: Case, names: Iterable[str]) -> None:
    """How far the outputs lie apart, in stored steps."""
    first = np.asarray(zarr.open_group(str(case.folder / "quadrat.zarr"), mode="r")["predictors"])
    for name in names:
        other = np.asarray(
            zarr.open_group(str(case.folder / f"{name}.zarr"), mode="r")["predictors"]
        )
        both = (first != NODATA) & (other != NODATA)
        apart = np.abs(first.astype("int32") - other)[both]
        print(
            f"  against {name:10}: equal {np.mean(first == other):.6f} of pixels; where both have "
            f"values, median {np.median(apart):.0f} and 99 % within {np.quantile(apart, 0.99):.0f} "
            f"steps; one alone has {np.mean((first != NODATA) != (other != NODATA)):.6f}"
        )


def aligned(folder: Path, options: argparse.Namespace) -> None:
    """Files on the grid."""
    case = Case(folder=folder, items=write_cogs(folder, options.side, options.scenes),
                grid=utm_grid(options.side))  # fmt: skip
    print(f"aligned: {options.scenes} x {options.side}^2 int16, {case.bytes / 1e6:.0f} MB")
    seconds = timed({**each_time(case), **halves(case)}, options.rounds)
    rows(seconds, case.bytes)
    limit = seconds["decode alone"] + seconds["encode alone"]
    print(f"  {'limit':14} {limit:7.2f} s  {case.bytes / limit / 1e6:6.0f} MB/s (both halves)")
    best = min(seconds[name] for name in PEERS)
    print(f"  quadrat is {best / seconds['quadrat']:.2f} x the faster peer, "
          f"{limit / seconds['quadrat']:.2f} of the limit")  # fmt: skip
    compare(case, PEERS)


def warped(folder: Path, options: argparse.Namespace) -> None:
    """Files in UTM, onto Albers, bilinear."""
    count = max(1, options.scenes // 4)
    case = Case(folder=folder, items=write_cogs(folder, options.side, count),
                grid=albers_grid(options.side), resampling="bilinear")  # fmt: skip
    print(f"warped: {count} x {options.side}^2, UTM to Albers, bilinear")
    seconds = timed(each_time(case), options.rounds)
    rows(seconds, case.bytes)
    for name in PEERS:
        print(f"  quadrat is {seconds[name] / seconds['quadrat']:.2f} x {name}")
    compare(case, PEERS)


def median(folder: Path, options: argparse.Namespace) -> None:
    """A composite of 40 dates, and its memory with a quarter, and four times as many."""
    side = max(CHUNK, options.side // 2)
    case = Case(folder=folder, items=write_cogs(folder, side, 2 * options.scenes),
                grid=utm_grid(side))  # fmt: skip
    print(f"median: {len(case.items)} dates of {side}^2 with a mask")
    seconds = timed(medians(case), options.rounds)
    rows(seconds, case.bytes)
    for name in PEERS:
        print(f"  quadrat is {seconds[name] / seconds['quadrat']:.2f} x {name}")
    compare(case, PEERS)
    for factor in (0.5, 1, 4):
        dates = round(factor * len(case.items))
        print(" ", _alone("--memory", folder, "--side", side, "--scenes", dates))


def _alone(*options: Any) -> str:
    """What this module prints in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.ingest", *map(str, options)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Peak:
    """The most memory of this process within a block, in MB, above what it had before."""

    def __enter__(self) -> Peak:
        self._ended = threading.Event()
        self._before = self._most = _resident_mb()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def _look(self) -> None:
        while not self._ended.wait(0.003):
            self._most = max(self._most, _resident_mb())

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._watch.join()
        self.mb = self._most - self._before


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def memory(folder: Path, side: int, dates: int) -> None:
    """Peak of one composite in this process; dates beyond those written are listed again."""
    written = len(list(folder.glob("*_b1.tif")))
    scenes = []
    for n in range(dates):
        one = scene(item(folder, n % written, side), "nearest")
        scenes.append(dataclasses.replace(one, id=f"{one.id}-{n // written}"))
    source = Composite(
        scenes=tuple(scenes),
        bands=("b1",),
        quality=QualityClasses(band="scl", keep=(4, 5, 6, 7)),
        reader=StackReader(),
    )
    url = cube.create(str(folder / "memory.zarr"), spec := spec_of(utm_grid(side), 1))
    shutil.rmtree(url)
    url = cube.create(url, spec)
    plan = cube.plan_ingest(url, "predictors", {"2000": source})
    with Peak() as peak:
        cube.ingest(url, "predictors", {"2000": source})
    forecast = plan.summary.total_peak_bytes / 1e6
    print(f"{dates:4} dates: {peak.mb:.0f} MB above the process's own, forecast {forecast:.0f} MB")


def planning(folder: Path, options: argparse.Namespace) -> None:
    """100,000 scenes of five bands over 10,000 regions."""
    print(_alone("--plan", folder))


def plan_many(folder: Path, *, scenes: int = 100_000, side: int = 100) -> None:
    """Plan scenes over side x side regions in this process."""
    import pyproj

    base, n = _resident_mb(), side * 1024
    grid = GeoBox((n, n), Affine(30, 0, -2_000_000, 0, -30, 3_000_000), ALBERS)
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-2e6, -2e6 + 30 * n, scenes), rng.uniform(3e6 - 30 * n, 3e6, scenes)
    lon, lat = pyproj.Transformer.from_crs(ALBERS, "EPSG:4326", always_xy=True).transform(x, y)
    zones = ((lon + 180) // 6).astype(int) + 1
    made = []
    for zone in np.unique(zones):
        onto = pyproj.Transformer.from_crs("EPSG:4326", f"EPSG:326{zone:02d}", always_xy=True)
        for i, east, north in zip(
            np.nonzero(zones == zone)[0],
            *onto.transform(lon[zones == zone], lat[zones == zone]),
            strict=True,
        ):
            made.append(far_scene(int(i), int(zone), east, north))
    spec = dataclasses.replace(
        spec_of(grid, 1),
        stacks=(
            cube.StackSpec(name="predictors", bands=FAR_BANDS[:4], dtype="int16", nodata=NODATA),
        ),
    )
    url = cube.create(str(folder / "plan.zarr"), spec)
    own = _resident_mb() - base
    began = time.perf_counter()
    with Peak() as peak:
        quality = QualityClasses(band="scl", keep=(4, 5, 6, 7))
        source = Composite(scenes=tuple(made), bands=FAR_BANDS[:4], quality=quality)
        plan = cube.plan_ingest(url, "predictors", {"2000": source}, workers=1)
    took = time.perf_counter() - began
    print(f"planning: {scenes} scenes over {plan.summary.regions} regions: {took:.1f} s, "
          f"{peak.mb:.0f} MB beside the {own:.0f} MB of the scenes themselves")  # fmt: skip


FAR_BANDS = ("blue", "green", "red", "nir", "scl")


def far_scene(i: int, zone: int, east: float, north: float) -> Scene:
    """A scene of 110 km that nobody opens."""
    place = f"https://catalogue.example.com/sentinel-2/{zone}/{i:06d}"
    return Scene(
        id=f"S2_{i:06d}_L2A",
        layers=tuple(SceneBand(name=band, href=f"{place}/{band}.tif") for band in FAR_BANDS),
        crs=f"EPSG:326{zone:02d}",
        nodata=0,
        footprint=(east - 55e3, north - 55e3, east + 55e3, north + 55e3),
        time=f"2020-{i % 12 + 1:02d}-{i % 28 + 1:02d}T10:00:00Z",
    )


QUESTIONS = {"aligned": aligned, "warped": warped, "median": median, "planning": planning}


def main() -> None:
    """Ask the questions."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(QUESTIONS), help="questions, with commas")
    parser.add_argument("--memory", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--plan", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        memory(options.memory, options.side, options.scenes)
        return
    if options.plan:
        plan_many(options.plan)
        return
    print(f"{platform.machine()}, {cores()} cores, Python {platform.python_version()}")
    for question in options.only.split(","):
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
            QUESTIONS[question](Path(folder), options)


if __name__ == "__main__":
    main()
