"""Files of polygons: whatever GDAL reads, GeoParquet, and sets that lie in several files."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import pandas as pd
import pyproj
import shapely

from cube.errors import PolygonError, SpecError

PathLike = str | os.PathLike[str]

_PARQUET = (".parquet", ".geoparquet")


class NamedFrame(NamedTuple):
    """Polygons, and what to call them in a message."""

    name: str
    frame: gpd.GeoDataFrame


def read(path: PathLike, *, layer: str | None = None) -> list[NamedFrame]:
    """Read the frames of a file, or of all parts of a folder of GeoParquet in order of name.

    Args:
        path: A file, a folder of GeoParquet parts, or any dataset in GDAL's words (``/vsi…``).
        layer: Which one, where a file has several.

    Raises:
        PolygonError: It is missing, cannot be read, holds no geometries, or several layers.
        SpecError: A layer was given for GeoParquet, which has none.
    """
    name = _existing(os.fspath(path))
    parts = _parquet_parts(name)
    if parts and layer is not None:
        raise SpecError(f"{name!r} is GeoParquet, which has no layers. Received layer={layer!r}.")
    return [_checked(p, _read_parquet(p)) for p in parts] or [
        _checked(name, _read_dataset(name, layer))
    ]


def batches(path: PathLike, *, layer: str | None = None, rows: int) -> Iterator[NamedFrame]:
    """Read what :func:`read` reads, some polygons at a time.

    Args:
        path: See :func:`read`.
        layer: See :func:`read`.
        rows: Polygons of a batch.

    Raises:
        PolygonError: See :func:`read`; or the geometries of GeoParquet are not kept as WKB.
        SpecError: See :func:`read`.
    """
    name = os.fspath(path)
    parts = _parquet_parts(_existing(name))
    if not parts:
        for frame in _dataset_batches(name, layer, rows):
            yield _checked(name, frame)
    elif layer is not None:
        raise SpecError(f"{name!r} is GeoParquet, which has no layers. Received layer={layer!r}.")
    for part in parts:
        for frame in _parquet_batches(part, rows):
            yield _checked(part, frame)


def _parquet_batches(name: str, rows: int) -> Iterator[gpd.GeoDataFrame]:
    import pyarrow.parquet  # at first use only

    try:
        file = pyarrow.parquet.ParquetFile(name)
        geo = json.loads((file.schema_arrow.metadata or {}).get(b"geo", b"{}"))
        if not geo:
            raise PolygonError(f"{name!r} is a table without geometries; polygons were expected.")
        primary = geo["primary_column"]
        column = geo["columns"][primary]
        if column["encoding"] != "WKB":
            raise PolygonError(
                f"{name!r} keeps its geometries as {column['encoding']}; only WKB is read in "
                f"batches. Read it with read_polygons, or write it as WKB."
            )
        crs = column.get("crs", "OGC:CRS84")  # what GeoParquet says that a missing one means
        crs = None if crs is None else pyproj.CRS.from_user_input(crs)
        for batch in file.iter_batches(batch_size=rows):
            table = batch.to_pandas()
            shapes = shapely.from_wkb(table[primary].to_numpy(object))
            yield gpd.GeoDataFrame(table.assign(**{primary: shapes}), geometry=primary, crs=crs)
    except PolygonError:
        raise
    except (ValueError, OSError, KeyError, shapely.errors.ShapelyError) as error:
        raise _unreadable(name, error) from error


def _dataset_batches(name: str, layer: str | None, rows: int) -> Iterator[gpd.GeoDataFrame]:
    import pyogrio  # with GDAL, at first use only

    with _explained(name):
        wanted = _wanted_layer(name, layer)
        count = pyogrio.read_info(name, layer=wanted, force_feature_count=True)["features"]
    for first in range(0, max(1, count), rows):
        with _explained(name):
            frame = gpd.read_file(name, layer=wanted, rows=slice(first, first + rows))
        yield frame


def _existing(name: str) -> str:
    """A path, unless it is one of this machine at which nothing lies."""
    local = not ("://" in name or name.startswith("/vsi") or "!" in name)
    if local and not os.path.exists(name):
        raise PolygonError(f"There is no file {name!r}.")
    return name


def _parquet_parts(name: str) -> list[str]:
    """The files of a GeoParquet dataset; none where it is something else."""
    if not os.path.isdir(name):
        return [name] if name.endswith(_PARQUET) else []
    found = (p for p in Path(name).rglob("*") if p.suffix in _PARQUET and p.is_file())
    # As in other readers of such folders: these hold no data.
    return sorted(str(p) for p in found if not p.name.startswith(("_", ".")))


def _read_parquet(name: str) -> gpd.GeoDataFrame:
    try:
        return gpd.read_parquet(name)
    except (ValueError, OSError) as error:
        raise _unreadable(name, error) from error


def _read_dataset(name: str, layer: str | None) -> gpd.GeoDataFrame:
    with _explained(name):
        return gpd.read_file(name, layer=_wanted_layer(name, layer))


def _wanted_layer(name: str, layer: str | None) -> str | None:
    import pyogrio  # with GDAL, at first use only

    if layer is None:
        return _only_layer(name, pyogrio.list_layers(name))
    if layer not in (there := [str(entry[0]) for entry in pyogrio.list_layers(name)]):
        raise PolygonError(f"{name!r} has no layer {layer!r}. It has: {', '.join(there)}.")
    return layer


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """What GDAL may say of a file, in one clear line."""
    import pyogrio.errors  # with GDAL, at first use only

    try:
        yield
    except (
        pyogrio.errors.DataSourceError,
        pyogrio.errors.DataLayerError,
        ValueError,
        OSError,
    ) as error:
        raise _unreadable(name, error) from error


def _only_layer(name: str, layers: Iterable[Iterable[Any]]) -> str | None:
    """The layer of a file that holds geometries; None where none does."""
    spatial = [str(layer) for layer, kind in layers if kind is not None]
    if len(spatial) > 1:
        raise PolygonError(
            f"{name!r} holds {len(spatial)} layers: {', '.join(spatial)}. Say which with layer=."
        )
    return spatial[0] if spatial else None


def _unreadable(name: str, error: Exception) -> PolygonError:
    reason = " ".join(str(error).split())  # in one line
    return PolygonError(f"{name!r} cannot be read as polygons: {reason}")


def _checked(name: str, frame: Any) -> NamedFrame:
    check_frame(frame, name)
    return NamedFrame(name, frame)


def check_frame(frame: Any, name: str) -> None:
    """Refuse what is no table of geometries.

    Raises:
        PolygonError: It is none.
    """
    if not isinstance(frame, pd.DataFrame):
        raise PolygonError(
            f"A GeoDataFrame of polygons was expected. Received {type(frame).__name__}; read files "
            f"with cube.read_polygons, and make geometries a frame with their CRS."
        )
    found = isinstance(frame, gpd.GeoDataFrame) and frame.active_geometry_name is not None
    if not found:
        raise PolygonError(f"{name!r} is a table without geometries; polygons were expected.")


def joined(frames: list[NamedFrame]) -> NamedFrame:
    """One set of several files', in the order given.

    Args:
        frames: One or more, each with a CRS.

    Raises:
        PolygonError: They are in two CRSs.
    """
    first, *others = frames
    for other in others:
        check_same_crs(first, other)
    if not others:
        return first
    geometry = first.frame.active_geometry_name
    alike = [first.frame, *(_alike(other.frame, first) for other in others)]
    whole = gpd.GeoDataFrame(pd.concat(alike, ignore_index=True), geometry=geometry)
    return NamedFrame(f"{first.name} and {len(others)} more", whole)


def check_same_crs(first: NamedFrame, other: NamedFrame) -> None:
    """Refuse a set in two CRSs.

    Raises:
        PolygonError: It is.
    """
    if not _crs(first).equals(_crs(other), ignore_axis_order=True):
        raise PolygonError(
            f"{first.name!r} is in {_text(first)} and {other.name!r} in {_text(other)}; one "
            f"set of polygons has one CRS. Bring them into one first, with GeoDataFrame.to_crs."
        )


def _alike(frame: gpd.GeoDataFrame, first: NamedFrame) -> gpd.GeoDataFrame:
    """A frame whose geometries have the name, and the spelling of the CRS, of another's."""
    name = str(first.frame.active_geometry_name)
    named = frame if frame.active_geometry_name == name else frame.rename_geometry(name)
    return named.set_crs(_crs(first), allow_override=True)


def _crs(found: NamedFrame) -> pyproj.CRS:
    """The CRS of a frame that has one."""
    return pyproj.CRS.from_user_input(found.frame.crs)


def _text(found: NamedFrame) -> str:
    code = _crs(found).to_string()
    return code if len(code) <= 40 else repr(_crs(found).name)
