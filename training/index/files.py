"""The chip index as one GeoParquet file, with what it is of in the file's metadata."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd

from cube.errors import StoreError
from cube.files import whole_file

KEY = b"quadrat_chip_index"
"""Name of the metadata that hold facts and history, as JSON."""


def write(
    frame: gpd.GeoDataFrame,
    state: Mapping[str, Any],
    path: str | os.PathLike[str],
    *,
    overwrite: bool,
) -> str:
    """Write a frame and what belongs to it; returns the path.

    Raises:
        StoreError: There is no such folder, a file lies there, the system refuses, or a column
            holds what such a file cannot.
    """
    import pyarrow as pa
    from pyarrow import parquet

    file = Path(path)
    # GeoPandas writes no metadata but its own, so the table goes through memory once.
    plain = io.BytesIO()
    try:
        frame.to_parquet(plain, index=False)
    except pa.ArrowException as error:
        raise StoreError(
            f"GeoParquet cannot hold a column of the index: {'; '.join(map(str, error.args))}. "
            f"Make it numbers alone, or text alone."
        ) from error
    table = parquet.read_table(plain)
    metadata = {**table.schema.metadata, KEY: json.dumps(state, allow_nan=False).encode()}
    with whole_file(file, overwrite=overwrite) as partial:
        # Without checksums a flipped bit is read as another number.
        parquet.write_table(
            table.replace_schema_metadata(metadata), partial, write_page_checksum=True
        )
    return str(file)


def read(path: str | os.PathLike[str]) -> tuple[gpd.GeoDataFrame, dict[str, Any]]:
    """Frame and state that :func:`write` wrote.

    Raises:
        StoreError: There is no such file, or another one.
    """
    from pyarrow import parquet

    file = Path(path)
    if not file.is_file():
        raise StoreError(f"There is no file {str(file)!r}.")
    try:
        # Errors of Arrow are ValueErrors and OSErrors.
        state = json.loads((parquet.read_schema(file).metadata or {})[KEY])
        frame = gpd.read_parquet(file, page_checksum_verification=True)
        return frame, {"facts": dict(state["facts"]), "history": list(state["history"])}
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise StoreError(
            f"{str(file)!r} is no chip index, or is damaged; give a file that ChipIndex.save wrote."
        ) from error
