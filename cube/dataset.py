"""Opening a cube with xarray, decoded to float32."""

from __future__ import annotations

import os
from collections.abc import Mapping

import xarray as xr

from cube import nodata, store
from cube.arrays import coordinate_plans
from cube.errors import SpecError
from cube.spec import CubeSpec, LayerSpec, StackSpec
from cube.template import read_spec


def open_cube(
    url: str | os.PathLike[str],
    *,
    stored: bool = False,
    chunks: Mapping[str, int] | str | None = "auto",
) -> xr.Dataset:
    """Open a cube as a lazy Dataset with its CRS.

    ``xr.open_zarr(url)`` gives the same Dataset without this package, except
    that it decodes packed integers to float64.

    Args:
        url: The cube.
        stored: True leaves values as they are on disk; False gives physical
            values, float32 (float64 where float32 could not hold them), NaN
            where nothing was observed. Class layers stay integers either way.
        chunks: Dask block sizes by dimension; ``"auto"`` makes one block per
            region. None (no Dask) goes with ``stored=True`` only.

    Returns:
        Dataset with every stack and layer; see ``Dataset.rio`` for the grid.

    Raises:
        StoreError: There is no cube, or its creation was cut short.
        SpecError: ``chunks=None`` without ``stored=True``.
    """
    import rioxarray  # noqa: F401  (gives every opened Dataset its .rio; loads GDAL)

    if chunks is None and not stored:
        raise SpecError("Decoding is lazy through Dask; chunks=None needs stored=True.")
    spec = read_spec(url)
    dataset = _opened(url, spec)
    if chunks is not None:
        wanted = _region_chunks(spec) if isinstance(chunks, str) else chunks
        dataset = dataset.assign(
            {v.name: _chunked(dataset[v.name], wanted) for v in spec.variables}
        )
    if stored:
        return dataset
    return dataset.assign({v.name: _decoded(dataset[v.name], v) for v in spec.variables})


def _opened(url: str | os.PathLike[str], spec: CubeSpec) -> xr.Dataset:
    """Stored values with coordinates that come from the spec: it says what they are.

    Read from the store they would cost a request each.
    """
    coordinates = {
        plan.path: xr.Variable(plan.dims, values, dict(plan.attrs))
        for plan, values in coordinate_plans(spec)
    }
    with store.pipeline():
        data = xr.open_zarr(
            store.open_store(url, read_only=True),
            chunks=None,
            decode_cf=False,
            consolidated=True,
            zarr_format=3,
            drop_variables=list(coordinates),
        )
    return xr.decode_cf(data.assign(coordinates), mask_and_scale=False, decode_coords="all")


def _region_chunks(spec: CubeSpec) -> dict[str, int]:
    """Dask blocks of one region: whole shards, few enough for the scheduler."""
    return {"time": 1, "y": spec.layout.region, "x": spec.layout.region}


def _chunked(values: xr.DataArray, chunks: Mapping[str, int]) -> xr.DataArray:
    return values.chunk({dim: size for dim, size in chunks.items() if dim in values.dims})


def _decoded(values: xr.DataArray, variable: StackSpec | LayerSpec) -> xr.DataArray:
    if isinstance(variable, LayerSpec) and variable.classes:
        return values
    decoded = xr.apply_ufunc(
        nodata.decode,
        values,
        kwargs={"variable": variable},
        dask="parallelized",
        output_dtypes=[nodata.decoded_dtype(variable)],
        keep_attrs=True,
    )
    packing = {"_FillValue", "scale_factor", "add_offset"}
    decoded.attrs = {k: v for k, v in values.attrs.items() if k not in packing}
    decoded.encoding = {"grid_mapping": "spatial_ref"}
    return decoded
