"""A process to be killed: ``python -m tests.interrupted ingest|predict URL FILE``."""

from __future__ import annotations

import sys
from pathlib import Path

import catalogs
import cube

SIDE, CHUNK, REGION = 512, 8, 64
"""64 regions of 64 chunks: most of a run goes into writing files."""

BANDS = ("red", "nir")


def ingest(url: str, file: str) -> None:
    """Fill the cube from a GeoTIFF."""
    scene = catalogs.geotiff(file, bands=BANDS, nodata=0)
    cube.ingest(url, "predictors", {"2000": scene})


def predict(url: str, bundle: str) -> None:
    """Predict the cube wall to wall."""
    import inference
    import training

    inference.predict(url, "predicted", training.load_bundle(bundle))


def create(folder: Path, grid: object) -> str:
    """An empty cube of 64 regions."""
    spec = cube.CubeSpec(
        grid=grid,
        calendar=cube.years(2000),
        stacks=(cube.StackSpec(name="predictors", bands=BANDS, dtype="int16", nodata=0),),
        layers=(cube.LayerSpec(name="label", dtype="float32"),),
        layout=cube.LayoutSpec(chunk=CHUNK, region=REGION),
    )
    return cube.create(folder, spec)


if __name__ == "__main__":
    {"ingest": ingest, "predict": predict}[sys.argv[1]](*sys.argv[2:])
