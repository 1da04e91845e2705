"""Blocks of a panel: their ids, periods and polygons.

A panel is a dataset of xarray with a dimension ``block`` that holds the blocks' ids, and ``time``
where statistics vary with it, with the starts of periods as ``time`` and their labels as
``period``. It may carry the blocks' polygons as a coordinate ``geometry``.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from cube.errors import PolygonError, SpecError
from cube.polygons.columns import ids_as_text
from cube.polygons.geometries import check_shapes
from cube.polygons.reading import polygons_digest

if TYPE_CHECKING:
    import geopandas as gpd
    import pyproj

BLOCK, TIME, PERIOD, GEOMETRY = "block", "time", "period", "geometry"

DIGEST = "polygons_digest"
"""Attribute of a panel: digest of the polygons that it was made with."""


def check_panel(panel: Any) -> None:
    """Refuse a dataset that is no panel.

    Raises:
        SpecError: It has no ``block``, or its times are not those of a panel.
        PolygonError: There are no blocks; or their ids are missing, of several kinds, or appear
            twice.
    """
    if not isinstance(panel, xr.Dataset) or not {BLOCK} <= {*panel.dims} & {*panel.coords}:
        raise SpecError(
            f"A panel is an xarray.Dataset with the dimension and coordinate {BLOCK!r}, as "
            f"cube.aggregate makes it. Received {_described(panel)}."
        )
    ids = ids_of(panel)
    if not len(ids):
        raise PolygonError("A panel of one block or more was expected. Received none.")
    repeated = pd.Series(ids).duplicated().to_numpy()
    if repeated.any():
        raise PolygonError(
            f"Ids of blocks must be unique. {int(repeated.sum())} of {len(ids)} appear again, "
            f"e.g. {ids[repeated][0]!r}."
        )
    if TIME in panel.dims:
        _check_times(panel)


def _described(panel: Any) -> str:
    if isinstance(panel, xr.Dataset):
        return f"one with the dimensions {', '.join(map(str, panel.dims)) or 'none'}"
    return f"a {type(panel).__name__}"


def _check_times(panel: xr.Dataset) -> None:
    starts = panel.coords.get(TIME)
    if starts is None or starts.dtype.kind != "M" or np.isnat(starts.values).any():
        raise SpecError(
            f"The coordinate {TIME!r} of a panel holds the starts of periods, datetime64. "
            f"Received {'none' if starts is None else starts.dtype}."
        )
    if PERIOD in panel.coords and panel[PERIOD].dims != (TIME,):
        raise SpecError(
            f"The coordinate {PERIOD!r} of a panel holds one label a time. Received the "
            f"dimensions {panel[PERIOD].dims}."
        )


def ids_of(panel: xr.Dataset) -> npt.NDArray[Any]:
    """Ids of the blocks: int64, or text as object, (block,).

    Raises:
        PolygonError: One is missing, or they are neither text nor whole numbers.
    """
    values = panel[BLOCK].to_numpy()
    return values.astype("int64") if values.dtype.kind in "iu" else as_text(values, BLOCK)


def is_text(values: npt.NDArray[Any]) -> bool:
    """True for text in any of the forms that NumPy and pandas have."""
    return values.dtype.kind in "UTO"


def as_text(values: npt.NDArray[Any], name: Hashable) -> npt.NDArray[Any]:
    """Text as object of str, of the same shape.

    Raises:
        PolygonError: A value is missing, no text, or no Unicode.
    """
    out = np.asarray(values).astype(object)
    odd = [v for v in out.ravel() if not isinstance(v, str)][:1]
    if odd:
        came = "a missing value" if pd.isna(odd[0]) else repr(odd[0])
        raise PolygonError(
            f"{name!r} must hold text, everywhere, or whole numbers. Received {came}; fill what "
            f"is missing, and convert the rest with astype(str)."
        )
    try:
        "".join(out.ravel()).encode()
    except UnicodeEncodeError as error:
        raise PolygonError(f"{name!r} holds text that is no Unicode: {error.reason}.") from error
    return out


def periods_of(panel: xr.Dataset) -> list[str]:
    """Labels of the times; their starts where there are no labels."""
    if PERIOD in panel.coords:
        return list(as_text(panel[PERIOD].to_numpy(), PERIOD))
    return list(dates(panel[TIME].to_numpy()))


def dates(times: npt.NDArray[np.datetime64]) -> npt.NDArray[Any]:
    """Times as ISO 8601 text: days where all are midnight, else seconds."""
    return np.datetime_as_string(times, unit=date_unit(times)).astype(object)


def date_unit(times: npt.NDArray[np.datetime64]) -> Literal["D", "s"]:
    """Days where all times are midnight, else seconds."""
    return "D" if bool((times.astype("datetime64[D]") == times).all()) else "s"


def shapes_of(panel: xr.Dataset) -> npt.NDArray[Any]:
    """The blocks' polygons, object (block,).

    Raises:
        SpecError: The panel has none.
    """
    if GEOMETRY not in panel.coords:
        raise SpecError("The panel has no geometry; attach it with cube.with_geometry.")
    return panel[GEOMETRY].to_numpy()


def crs_of(panel: xr.Dataset) -> pyproj.CRS:
    """CRS of the blocks' polygons.

    Raises:
        SpecError: The geometry does not say its CRS.
    """
    import pyproj

    text = panel[GEOMETRY].attrs.get("crs")
    try:
        return pyproj.CRS.from_user_input(text)
    except pyproj.exceptions.CRSError as error:
        raise SpecError(
            f"The geometry of a panel says its CRS in the attribute 'crs'. Received {text!r}; "
            f"attach it with cube.with_geometry."
        ) from error


def with_geometry(
    panel: xr.Dataset,
    polygons: gpd.GeoDataFrame,
    *,
    id: str | None = None,
    columns: Sequence[str] = (),
) -> xr.Dataset:
    """Attach the blocks' polygons to a panel.

    Args:
        panel: Statistics by block.
        polygons: One a block, in the panel's order, in any CRS.
        id: Column of their ids, compared with the panel's one by one, as text. Without it the
            polygons must be those that the panel was made with, by their digest; or, where the
            panel knows no digest, its ids must be the numbers of rows.
        columns: Further columns to keep as coordinates of the blocks.

    Returns:
        A new panel with the coordinate ``geometry`` and one for each of ``columns``.

    Raises:
        PolygonError: Polygons are missing, too many, in another order, or not those of the panel.
        SpecError: A column is not there, or has the name of something in the panel.
    """
    check_panel(panel)
    _check_same(panel, polygons, id)
    shapes = polygons.geometry.to_numpy()
    check_shapes(shapes)
    if polygons.crs is None:
        raise PolygonError("The polygons do not say their CRS; give it with GeoDataFrame.set_crs.")
    added = {name: (BLOCK, _column(panel, polygons, name)) for name in columns}
    return panel.assign_coords({**added, GEOMETRY: (BLOCK, shapes, {"crs": polygons.crs.to_wkt()})})


def _check_same(panel: xr.Dataset, polygons: gpd.GeoDataFrame, id: str | None) -> None:
    ids = ids_of(panel)
    if len(polygons) != len(ids):
        raise PolygonError(
            f"One polygon a block was expected, {len(ids)}. Received {len(polygons)}."
        )
    if id is not None:
        return _check_ids(ids, polygons, id)
    digest, known = polygons_digest(polygons), panel.attrs.get(DIGEST)
    if known is not None and digest != known:
        raise PolygonError(
            f"These are not the polygons that the panel was made with (digest {known}, these have "
            f"{digest}), or not in their order or CRS; name the column of their ids with id=."
        )
    if known is None and not np.array_equal(ids, np.arange(len(ids))):
        raise PolygonError(
            "Nothing tells which polygon is which block; name the column of their ids with id=."
        )


def _check_ids(ids: npt.NDArray[Any], polygons: gpd.GeoDataFrame, id: str) -> None:
    if id not in polygons:
        raise SpecError(
            f"There is no column {id!r}. There are: {', '.join(map(str, polygons.columns))}."
        )
    # As text, which coverages keep: a panel says '7' of what a file has as 7.
    theirs = ids_as_text(polygons[id])
    differ = np.array([str(a) != b for a, b in zip(ids.tolist(), theirs, strict=True)])
    if differ.any():
        row = int(np.flatnonzero(differ)[0])
        raise PolygonError(
            f"Polygons must come in the order of the panel's blocks. In {int(differ.sum())} rows "
            f"they do not, the first is {row}: block {str(ids[row])!r}, polygon {theirs[row]!r}. "
            f"Bring them into it first, e.g. with GeoDataFrame.set_index and loc."
        )


def _column(panel: xr.Dataset, polygons: gpd.GeoDataFrame, name: str) -> npt.NDArray[Any]:
    if name not in polygons or name == polygons.geometry.name:
        raise SpecError(
            f"There is no column {name!r}. There are: {', '.join(map(str, polygons.columns))}."
        )
    if name in panel.variables or name in panel.dims or name == GEOMETRY:
        raise SpecError(f"The panel has another {name!r}; rename the column first.")
    column = polygons[name]
    kinds = pd.api.types
    if kinds.is_bool_dtype(column) or kinds.is_datetime64_dtype(column):
        return column.to_numpy()
    if kinds.is_numeric_dtype(column):
        whole = kinds.is_integer_dtype(column) and not column.isna().any()
        return column.to_numpy("int64") if whole else column.to_numpy("float64", na_value=np.nan)
    return as_text(column.to_numpy(), name)
