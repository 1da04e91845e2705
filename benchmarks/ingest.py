"""How fast do scenes become a cube, beside stackstac and odc-stac, and beside what the machine can?

    python -m benchmarks.ingest [--side 4096] [--scenes 20] [--rounds 3] [--only aligned,...]

Needs ``pip install 'quadrat[bench]'``, which brings odc-stac. Four questions, each in one run with what it is
compared with, turn by turn; rates are medians and count decoded bytes.

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
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
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


def values_of(out: str) -> np.ndarray:
    """Stored values (time, band, y, x) of a cube, or of what a peer wrote."""
    group = zarr.open_group(out, mode="r")
    return group["predictors"]


def stackstac_array(items: list[pystac.Item], grid: GeoBox, asset: str, resampling: str) -> xr.DataArray:
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


PEERS: dict[str, Callable[..., xr.DataArray]] = {"stackstac": stackstac_array, "odc-stac": odc_array}


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
