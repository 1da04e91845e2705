"""A process to be killed: ``python -m tests.interrupted ingest|predict URL FILE``."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.transform import from_origin

import catalogs
import cube
from cube import locking, objects

if TYPE_CHECKING:
    from distributed import Client

SIDE, CHUNK, REGION = 512, 8, 64
"""64 regions of 64 chunks: most of a run goes into writing files."""

BANDS = ("red", "nir")

CORNER = from_origin(300_000, 9_000_000, 30, 30)


def grid() -> GeoBox:
    """The grid of the cube and of the image."""
    return GeoBox((SIDE, SIDE), CORNER, "EPSG:31985")


def image(path: Path) -> Path:
    """A GeoTIFF of noise without nodata, so that every chunk has a file."""
    values = np.random.default_rng(0).integers(1, 1000, (2, SIDE, SIDE), dtype="int16")
    profile = {"driver": "GTiff", "dtype": "int16", "count": 2, "height": SIDE, "width": SIDE}
    with rasterio.open(path, "w", crs="EPSG:31985", transform=CORNER, **profile) as file:
        file.write(values)
    return path


def ingest(url: str, file: str, lease_s: float | None = None, client: Client | None = None) -> None:
    """Fill the cube from a GeoTIFF."""
    if lease_s is not None:
        locking.LEASE_S = lease_s
    scene = catalogs.geotiff(file, bands=BANDS, nodata=0)
    cube.ingest(url, "predictors", {"2000": scene}, client=client)


def ingest_in(environment: dict[str, str], url: str, file: str, lease_s: float | None) -> None:
    """:func:`ingest` with the settings of another process."""
    os.environ.update(environment)
    ingest(url, file, lease_s)


def predict(url: str, bundle: str) -> None:
    """Predict the cube wall to wall."""
    import inference
    import training

    inference.predict(url, "predicted", training.load_bundle(bundle))


def create(url: str | Path, grid: object, chunk: int = CHUNK) -> str:
    """An empty cube of 64 regions."""
    spec = cube.CubeSpec(
        grid=grid,
        calendar=cube.years(2000),
        stacks=(cube.StackSpec(name="predictors", bands=BANDS, dtype="int16", nodata=0),),
        layers=(cube.LayerSpec(name="label", dtype="float32"),),
        layout=cube.LayoutSpec(chunk=chunk, region=REGION),
    )
    return cube.create(url, spec)


def tree(folder: str) -> dict[str, str]:
    """SHA-256 of every file by its place."""
    root = Path(folder)
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not locking.is_lock(path.name)
    }


def written(url: str, name: str) -> int:
    """Chunks of a variable that a reader would see."""
    return sum(not key.endswith(".partial") for key in _keys(url, f"{name}/c/"))


def half_written(url: str, name: str) -> int:
    """Regions with some of their chunks in the store, or one in the making, but without a tick."""
    ticked = {tuple(key.split("/")[-2:]) for key in _keys(url, f"ledger/{name}/c/")}
    per_side = REGION // cube.read_spec(url).layout.chunk
    begun: dict[tuple[str, str], set[str]] = {}
    for key in _keys(url, f"{name}/c/"):
        row, col = (int(step.split(".")[0]) // per_side for step in key.split("/")[-2:])
        begun.setdefault((str(row), str(col)), set()).add(key)
    return sum(
        place not in ticked and sum(not k.endswith(".partial") for k in keys) < per_side**2
        for place, keys in begun.items()
    )


def catch(pid: int, url: str, name: str, rng: random.Random, *, looks: int) -> None:
    """Stop a process now and then, and leave it stopped once a region is half written.

    Most of a run goes by without one, so that a kill at any moment proves less. After so many
    looks it is left running.
    """
    with contextlib.suppress(ProcessLookupError):
        for _ in range(looks):
            time.sleep(rng.uniform(0.0, 0.01))
            os.kill(pid, signal.SIGSTOP)
            if half_written(url, name):
                return
            os.kill(pid, signal.SIGCONT)


def _keys(url: str, prefix: str) -> list[str]:
    return [entry.key for entry in objects.at(url).list(prefix)]


def stored(url: str) -> dict[str, str]:
    """SHA-256 of every object of a cube by its key, as :func:`tree`, wherever it lies."""
    there = objects.at(url)
    keys = [entry.key for entry in there.list() if not locking.is_lock(entry.key)]
    values = objects.get_many(there, keys)
    return {key: hashlib.sha256(data).hexdigest() for key, data in zip(keys, values, strict=True)}


if __name__ == "__main__":
    {"ingest": ingest, "predict": predict}[sys.argv[1]](*sys.argv[2:])
