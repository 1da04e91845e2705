"""Panels as files that other programs read: Parquet, GeoPackage, CSV and Stata."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely

from cube.blocks.members import BLOCK, GEOMETRY, crs_of, date_unit, is_text, shapes_of
from cube.blocks.stata import write_stata
from cube.blocks.tabulating import Column, TableLayout, columns_of
from cube.errors import SpecError, StoreError
from cube.files import check_free, whole_file
from cube.polygons.geometries import check_shapes

if TYPE_CHECKING:
    import pyarrow as pa
    import pyproj
    import xarray as xr

ROWS = 1 << 17
"""Rows of a table that are written together, and in Parquet form a row group."""


def export(
    panel: xr.Dataset,
    path: str | os.PathLike[str],
    *,
    layout: TableLayout = "long",
    overwrite: bool = False,
) -> str:
    """Write a panel as a table; the suffix says which.

    ``.parquet`` and ``.geoparquet`` hold the polygons where the panel has them, and descriptions
    and units of columns in the schema; ``.gpkg`` must have polygons; ``.csv`` has none, its text,
    ids among it, stands in quotes, and a missing number is empty; ``.dta`` is Stata's, with labels
    of variables and classes.

    Args:
        panel: Statistics by block.
        path: Of the file, in a folder that is there. It is written whole, or not at all.
        layout: ``"long"``: a row a block and time. ``"wide"``: a row a block, and a column
            ``<variable>_<period>`` for each time.
        overwrite: Replace a file that lies there.

    Returns:
        The path.

    Raises:
        SpecError: The suffix or layout is unknown, the panel has no geometry to write, or two
            columns would have one name.
        PolygonError: Ids of blocks are missing or appear twice.
        StoreError: The folder is missing, a file lies there, or it cannot be written.
    """
    check_target(path, overwrite=overwrite)
    columns = columns_of(panel, layout)
    blocks = panel.sizes[BLOCK]
    rows = "blocks by period" if len(columns[0].values) > blocks else "blocks"
    table = _Table(
        columns=columns,
        title=str(panel.attrs.get("title") or f"{blocks} {rows}"),
        drawn=_Drawn.of(panel, len(columns[0].values)),
    )
    return _write(table, path, overwrite=overwrite)


def export_columns(
    columns: Sequence[Column],
    path: str | os.PathLike[str],
    *,
    title: str = "",
    overwrite: bool = False,
) -> str:
    """Write a table that is no panel; see :func:`export`.

    Args:
        columns: In their order, of one length.
        path: See :func:`export`.
        title: The data label of a file of Stata's.
        overwrite: See :func:`export`.
    """
    check_target(path, overwrite=overwrite)
    return _write(_Table(columns=columns, title=title, drawn=None), path, overwrite=overwrite)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Drawn:
    """Polygons of a table.

    Attributes:
        shapes: Object (polygon,).
        rows: int64 (row,): the polygon of each row, ascending.
        crs: Of their coordinates.
    """

    shapes: npt.NDArray[Any]
    rows: npt.NDArray[np.int64]
    crs: pyproj.CRS

    @classmethod
    def of(cls, panel: xr.Dataset, rows: int) -> _Drawn | None:
        """Those of a panel whose table has so many rows; None if it has none."""
        if GEOMETRY not in panel.coords:
            return None
        shapes = shapes_of(panel)
        check_shapes(shapes)
        each = np.repeat(np.arange(len(shapes)), rows // max(len(shapes), 1))
        return cls(shapes=shapes, rows=each, crs=crs_of(panel))

    def wkb(self, rows: slice) -> npt.NDArray[Any]:
        """Well-known binary of some rows' polygons, each made once."""
        each = self.rows[rows]
        return shapely.to_wkb(self.shapes[each[0] : each[-1] + 1])[each - each[0]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Table:
    """What a file holds."""

    columns: Sequence[Column]
    title: str
    drawn: _Drawn | None


def check_target(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse early what :func:`export` would refuse at the end of long work.

    Raises:
        SpecError: The suffix is unknown.
        StoreError: The folder is missing, or a file lies there.
    """
    file = Path(path)
    if file.suffix.lower() not in _WRITERS:
        raise SpecError(f"A table ends in {', '.join(_WRITERS)}. Received {file.name!r}.")
    check_free(file, overwrite=overwrite)


def _write(table: _Table, path: str | os.PathLike[str], *, overwrite: bool) -> str:
    file = Path(path)
    with whole_file(file, overwrite=overwrite) as partial:
        _WRITERS[file.suffix.lower()](table, partial)
    return str(file)


def _arrow(values: npt.NDArray[Any]) -> pa.Array:
    """Values of a column as Arrow has them; what is missing is null."""
    import pyarrow as pa

    kind = pa.string() if is_text(values) else None
    return pa.array(values, kind, from_pandas=kind is None)


def _slices(table: _Table) -> Iterator[slice]:
    """Rows that are written together."""
    for first in range(0, len(table.columns[0].values), ROWS):
        yield slice(first, first + ROWS)


# --------------------------------------------------------------------------------------- Parquet
def _write_parquet(table: _Table, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields, metadata = [_field(c) for c in table.columns], {}
    if table.drawn is not None:
        fields.append(pa.field(GEOMETRY, pa.binary()))
        metadata["geo"] = json.dumps(_geo(table.drawn))
    schema = pa.schema(fields, metadata=metadata)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in _slices(table):
            arrays = [_arrow(c.values[rows]) for c in table.columns]
            if table.drawn is not None:
                arrays.append(pa.array(table.drawn.wkb(rows), pa.binary()))
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _field(column: Column) -> pa.Field:
    import pyarrow as pa

    kind = _arrow(column.values[:0]).type
    known = {"description": column.label, "units": column.units}
    if column.classes:
        known["classes"] = json.dumps({str(k): v for k, v in column.classes.items()})
    return pa.field(column.name, kind, metadata={k: v for k, v in known.items() if v})


def _geo(drawn: _Drawn) -> dict[str, Any]:
    """Metadata of GeoParquet 1.0: https://geoparquet.org/releases/v1.0.0/."""
    kinds = {3: "Polygon", 6: "MultiPolygon"}
    column = {
        "encoding": "WKB",
        "crs": drawn.crs.to_json_dict(),
        "geometry_types": sorted(kinds[k] for k in np.unique(shapely.get_type_id(drawn.shapes))),
        "bbox": shapely.total_bounds(drawn.shapes).tolist(),
    }
    return {"version": "1.0.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}


# ------------------------------------------------------------------------- GeoPackage, CSV, Stata
def _write_gpkg(table: _Table, path: Path) -> None:
    import pyogrio.errors  # with GDAL, at first use only

    if table.drawn is None:
        raise SpecError(
            "A GeoPackage needs polygons, and the panel has no geometry; attach it with "
            "cube.with_geometry."
        )
    columns = {c.name: c.values for c in table.columns}
    taken = {name.lower() for name in columns}
    # Columns of its own, which SQLite tells from others by letters of any case.
    row, shape = (_free(name, taken) for name in ("fid", "geom"))
    frame = gpd.GeoDataFrame(
        columns,
        geometry=table.drawn.shapes[table.drawn.rows],
        crs=table.drawn.crs,
    )
    try:
        frame.to_file(
            path, driver="GPKG", layer="blocks", engine="pyogrio", FID=row, GEOMETRY_NAME=shape
        )
    except (
        pyogrio.errors.DataSourceError,
        pyogrio.errors.DataLayerError,
        ValueError,
    ) as error:
        reason = " ".join(str(error).split())  # in one line
        raise StoreError(f"The table cannot be written as GeoPackage: {reason}") from error


def _free(name: str, taken: Collection[str]) -> str:
    """A name, with as many ``_`` as it needs to be none of those taken."""
    while name in taken:
        name += "_"
    return name


def _write_csv(table: _Table, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.csv

    units = {c.name: date_unit(c.values) for c in table.columns if c.values.dtype.kind == "M"}
    fields = [
        (c.name, pa.string() if c.name in units else _arrow(c.values[:0]).type)
        for c in table.columns
    ]
    schema = pa.schema(fields)
    # Text in quotes and numbers without: that tells programs that "007" is text.
    with pyarrow.csv.CSVWriter(path, schema) as writer:
        for rows in _slices(table):
            parts = {c.name: c.values[rows] for c in table.columns}
            for name, unit in units.items():
                parts[name] = np.datetime_as_string(parts[name], unit=unit).astype(object)
            arrays = [_arrow(values) for values in parts.values()]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _write_stata(table: _Table, path: Path) -> None:
    write_stata(str(path), table.columns, title=table.title)


_WRITERS: dict[str, Callable[[_Table, Path], None]] = {
    ".parquet": _write_parquet,
    ".geoparquet": _write_parquet,
    ".gpkg": _write_gpkg,
    ".csv": _write_csv,
    ".dta": _write_stata,
}
