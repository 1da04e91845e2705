"""Reading the polygons that people were counted in."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from cube.errors import PolygonError
from cube.spec import crs_text

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


def read_polygons(
    path: str | os.PathLike[str],
    *,
    grid: GeoBox,
    crs: str | None = None,
    counts: Sequence[str] = (),
) -> gpd.GeoDataFrame:
    """Read polygons, check them, and bring them into the grid's CRS.

    Args:
        path: Anything that pyogrio reads, or GeoParquet.
        grid: The grid that they will be laid over.
        crs: What the coordinates really are, where the file does not say, or
            names no known datum. It replaces the file's own CRS, on purpose.
        counts: Columns that hold numbers of persons or things: finite, not negative.

    Returns:
        The polygons in file order, in the grid's CRS.

    Raises:
        PolygonError: The file cannot be read; the CRS is missing or unnamed; a
            geometry is empty, invalid or no polygon; none meets the grid; a
            column is missing, text, negative or not finite.
    """
    frame = _read(path)
    frame = with_known_crs(frame, crs=crs, name=os.fspath(path))
    check_polygons(frame)
    for column in counts:
        check_counts(frame, column)
    placed: gpd.GeoDataFrame = frame.to_crs(crs_text(grid))
    check_meets(placed, grid)
    return placed


def _read(path: str | os.PathLike[str]) -> gpd.GeoDataFrame:
    import pyogrio.errors  # with GDAL, at first use only

    name = os.fspath(path)
    if "://" not in name and not os.path.exists(name):
        raise PolygonError(f"There is no file {name!r}.")
    try:
        if name.endswith((".parquet", ".geoparquet")):
            frame = gpd.read_parquet(name)
        else:
            frame = gpd.read_file(name)
    except (
        pyogrio.errors.DataSourceError,
        pyogrio.errors.DataLayerError,
        ValueError,
        OSError,
    ) as e:
        reason = " ".join(str(e).split())  # in one line
        raise PolygonError(f"{name!r} cannot be read as polygons: {reason}") from e
    if not isinstance(frame, gpd.GeoDataFrame):
        raise PolygonError(f"{name!r} is a table without geometries; polygons were expected.")
    return frame


def with_known_crs(
    frame: gpd.GeoDataFrame, *, crs: str | None = None, name: str = "The polygons"
) -> gpd.GeoDataFrame:
    """Give polygons a CRS whose datum is known.

    Raises:
        PolygonError: There is none, or its datum has no name, and ``crs`` was not given.
    """
    if crs is not None:
        try:
            return frame.set_crs(crs, allow_override=True)
        except pyproj.exceptions.CRSError as error:
            raise PolygonError(f"crs={crs!r} is no CRS that PROJ knows: {error}.") from error
    if frame.crs is None:
        raise PolygonError(f"{name!r} does not say its CRS; give crs=, e.g. crs='EPSG:4674'.")
    if not datum_is_known(frame.crs):
        raise PolygonError(
            f"{name!r} names no known datum ({frame.crs.name!r}), so it could lie hundreds of "
            f"metres off; say what it is with crs=, e.g. crs='EPSG:4674' for SIRGAS 2000."
        )
    return frame


def datum_is_known(crs: pyproj.CRS) -> bool:
    """False for a CRS whose datum is unnamed, so that its position is anyone's guess."""
    datum = crs.datum
    name = (datum.name if datum is not None else "").lower()
    return bool(name) and "unknown" not in name and not name.startswith("not specified")


def check_polygons(frame: gpd.GeoDataFrame) -> None:
    """Refuse geometries that have no area that means something.

    Raises:
        PolygonError: There are none, or one is missing, empty, invalid or no polygon.
    """
    if frame.empty:
        raise PolygonError("There are no polygons.")
    shapes = frame.geometry.to_numpy()
    problems = {
        "missing or empty": shapely.is_missing(shapes) | shapely.is_empty(shapes),
        "not a polygon": ~np.isin(shapely.get_type_id(shapes), (3, 6)),
        "invalid": ~shapely.is_valid(shapes),
    }
    for what, wrong in problems.items():
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            reason = f" ({shapely.is_valid_reason(shapes[first])})" if what == "invalid" else ""
            raise PolygonError(
                f"{int(wrong.sum())} of {len(frame)} geometries are {what}, the first in row "
                f"{first}{reason}. Repair or drop them first, e.g. with shapely.make_valid."
            )


def check_counts(frame: pd.DataFrame, column: str) -> npt.NDArray[np.float64]:
    """Values of a column of counts as float64, shape (polygon,).

    Raises:
        PolygonError: The column is missing, text, not finite or negative.
    """
    if column not in frame:
        raise PolygonError(
            f"There is no column {column!r}. There are: {', '.join(map(str, frame.columns))}."
        )
    kinds = pd.api.types
    if not kinds.is_numeric_dtype(frame[column]) or kinds.is_bool_dtype(frame[column]):
        raise PolygonError(
            f"Column {column!r} must hold numbers. It holds {frame[column].dtype}, e.g. "
            f"{frame[column].iloc[0]!r}; convert it first, e.g. with pandas.to_numeric."
        )
    values = frame[column].to_numpy(dtype="float64", na_value=math.nan)
    for what, wrong in (("finite", ~np.isfinite(values)), ("0 or more", values < 0)):
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise PolygonError(
                f"Column {column!r} must be {what}. {int(wrong.sum())} of {len(values)} values "
                f"are not, the first in row {first}: {values[first]}."
            )
    return values


def check_meets(frame: gpd.GeoDataFrame, grid: GeoBox) -> None:
    """Refuse polygons that all lie outside the grid.

    Raises:
        PolygonError: None meets it.
    """
    box = grid.boundingbox
    if not shapely.intersects(frame.geometry.to_numpy(), shapely.box(*box.bbox)).any():
        bounds = ", ".join(f"{v:.6g}" for v in frame.total_bounds)
        raise PolygonError(
            f"None of the {len(frame)} polygons meets the grid. They cover {bounds} "
            f"(left, bottom, right, top) in its CRS; the grid covers "
            f"{', '.join(f'{v:.6g}' for v in box.bbox)}. Check the CRS."
        )


def polygons_digest(frame: gpd.GeoDataFrame) -> str:
    """First 12 hex digits of the SHA-256 of the geometries, in order, and their CRS."""
    sha = hashlib.sha256(frame.crs.to_wkt().encode() if frame.crs is not None else b"")
    # All as multipolygons: some formats make them of polygons.
    parts, row = shapely.get_parts(frame.geometry.to_numpy(), return_index=True)
    shapes = shapely.normalize(shapely.multipolygons(parts, indices=row))
    for blob in shapely.to_wkb(shapes, byte_order=1):
        sha.update(bytes(blob))
    return sha.hexdigest()[:12]
