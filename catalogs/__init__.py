"""Where data comes from: files and catalogues become scenes that fill a cube.

manifest = catalogs.search(api, collections=["sentinel-2-l2a"], profile=catalogs.SENTINEL2_...,
grid=spec.grid, datetime="2020-01-01/2020-12-31")
manifest.save("scenes.json")                  # the same file, the same cube
sources = manifest.sources(spec.calendar, bands=("red", "nir"), quality=cube.SENTINEL2_SCL)
cube.ingest(url, "predictors", sources)
"""

import cube

if getattr(cube, "__distribution__", None) != "quadrat":
    raise ImportError(
        f"quadrat needs its own package 'cube', but Python finds {cube.__file__!r} under that "
        f"name. Rename what shadows it, or work in another folder."
    )

from catalogs.access import REMOTE, Access
from catalogs.duplicates import find_duplicates, without_duplicates
from catalogs.geotiff import geotiff, grid_of
from catalogs.manifest import Manifest
from catalogs.netcdf import scenes_from_netcdf
from catalogs.patterns import scenes_from_files
from catalogs.profiles import (
    LANDSAT_C2_L2,
    SENTINEL2_L2A_EARTH_SEARCH,
    SENTINEL2_L2A_PLANETARY,
    Profile,
)
from catalogs.radiometry import LandsatCollection2, Sentinel2, TopCodes, examine, examine_all
from catalogs.stac import read_items, scene_of, scenes_of, search
from catalogs.stacking import StackReader

__distribution__ = "quadrat"

__all__ = [
    "LANDSAT_C2_L2",
    "REMOTE",
    "SENTINEL2_L2A_EARTH_SEARCH",
    "SENTINEL2_L2A_PLANETARY",
    "Access",
    "LandsatCollection2",
    "Manifest",
    "Profile",
    "Sentinel2",
    "StackReader",
    "TopCodes",
    "examine",
    "examine_all",
    "find_duplicates",
    "geotiff",
    "grid_of",
    "read_items",
    "scene_of",
    "scenes_from_files",
    "scenes_from_netcdf",
    "scenes_of",
    "search",
    "without_duplicates",
]
