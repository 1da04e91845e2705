"""Tables of polygons as files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cube.errors import StoreError

if TYPE_CHECKING:
    import geopandas as gpd


def write_table(frame: gpd.GeoDataFrame, stem: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write a table of polygons as GeoParquet and, without geometries, as CSV.

    Each file appears whole or not at all.

    Args:
        frame: One row per polygon.
        stem: Path without an ending, e.g. ``"out/tracts"``.

    Returns:
        Paths of ``<stem>.parquet`` and ``<stem>.csv``.

    Raises:
        StoreError: The folder cannot be written to.
    """
    base = Path(stem)
    parquet, csv = base.with_name(f"{base.name}.parquet"), base.with_name(f"{base.name}.csv")
    plain = frame.drop(columns=frame.geometry.name)
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        for path, write in (
            (parquet, frame.to_parquet),
            (csv, lambda to: plain.to_csv(to, index=False)),
        ):
            unfinished = path.with_name(f".{path.name}.partial")
            try:
                write(unfinished)
                os.replace(unfinished, path)
            finally:
                unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"Cannot write the table {str(base)!r}: {error}.") from error
    return parquet, csv
