"""Tiles as polygons: windows of a grid, and those of web maps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import shapely

from cube.errors import SpecError
from cube.spec import crs_text

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from cube.windows import Windows


def window_tiles(windows: Windows, grid: GeoBox) -> gpd.GeoDataFrame:
    """Windows of a grid as polygons, with their number and first pixel: window, row, col.

    Raises:
        SpecError: The windows are of another size of grid.
    """
    if windows.shape != tuple(grid.shape):
        raise SpecError(
            f"The windows are of {windows.shape[0]} x {windows.shape[1]} pixels, the grid has "
            f"{grid.shape[0]} x {grid.shape[1]}. Give the windows of this grid."
        )
    origins = windows.origins()
    row, col = origins.T
    t = grid.transform
    left, top = t.c + col * t.a, t.f + row * t.e
    boxes = shapely.box(left, top + windows.size * t.e, left + windows.size * t.a, top)
    columns = {"window": np.arange(len(windows)), "row": row, "col": col}
    return gpd.GeoDataFrame(columns, geometry=boxes, crs=crs_text(grid))


_WORLD_M = 20_037_508.342789244
"""Half the side of the square of Web Mercator: pi times 6378137 m."""


def slippy_tiles(tiles: Iterable[tuple[int, int, int]]) -> gpd.GeoDataFrame:
    """Map tiles by zoom, x and y from the upper left, as polygons in Web Mercator.

    Their sides are no metres on the ground: whoever measures gives another CRS.

    Raises:
        SpecError: A tile does not exist.
    """
    zxy = np.array(list(tiles), "int64").reshape(-1, 3)
    z, x, y = zxy.T
    count = np.left_shift(1, z.clip(0, 30))
    wrong = (z < 0) | (z > 30) | (x < 0) | (x >= count) | (y < 0) | (y >= count)
    if wrong.any():
        first = tuple(int(n) for n in zxy[np.flatnonzero(wrong)[0]])
        raise SpecError(
            f"A tile is (z, x, y): z from 0 to 30, x and y from 0 to 2**z - 1. Received {first}."
        )
    side = 2 * _WORLD_M / count
    left, top = x * side - _WORLD_M, _WORLD_M - y * side
    boxes = shapely.box(left, top - side, left + side, top)
    return gpd.GeoDataFrame({"z": z, "x": x, "y": y}, geometry=boxes, crs="EPSG:3857")
