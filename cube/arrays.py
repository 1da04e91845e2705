"""What a spec becomes on disk: arrays, their attributes and coordinates. Plain arithmetic."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cube.errors import SpecError
from cube.layout import LayoutSpec
from cube.ledger import LEDGER, REPLACED
from cube.regions import region_counts
from cube.spec import CubeSpec, LayerSpec, StackSpec, digest, grid_to_dict, to_json
from cube.store import ArrayPlan

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

ROOT = "quadrat"
"""Attribute of the root that makes a Zarr group a cube."""

RUNS = "quadrat_runs"
"""Attribute of a variable: names of the runs that are at work on it, by period."""

_EPOCH = "seconds since 1970-01-01"

_PERIODS = 512
"""Periods in a chunk of the time coordinates. Fixed, so that a cube to which periods were appended
holds the same bytes as one that was created with them."""


def coordinate_plans(spec: CubeSpec) -> Iterator[tuple[ArrayPlan, npt.NDArray[Any]]]:
    """Coordinates of the root group, each with its values."""
    height, width = (int(n) for n in spec.grid.shape)
    t = spec.grid.transform
    unit = spec.grid.crs.units[0] if spec.grid.crs is not None else "1"
    projected = spec.grid.crs is not None and spec.grid.crs.projected
    for axis, count, first, step in (("x", width, t.c, t.a), ("y", height, t.f, t.e)):
        attrs = {
            "axis": axis.upper(),
            "units": unit if projected else {"x": "degrees_east", "y": "degrees_north"}[axis],
            "standard_name": f"projection_{axis}_coordinate"
            if projected
            else {"x": "longitude", "y": "latitude"}[axis],
            "long_name": f"{axis} of pixel centres",
        }
        yield _coordinate(axis, first + (np.arange(count) + 0.5) * step, (axis,), attrs)
    yield _coordinate("spatial_ref", np.array(0, "int64"), (), _crs_attrs(spec))
    yield from time_plans(spec)
    for stack in spec.stacks:
        yield band_plan(stack)


def time_plans(spec: CubeSpec) -> Iterator[tuple[ArrayPlan, npt.NDArray[Any]]]:
    """The time coordinate and its bounds, each with its values."""
    days = [(period.start, period.end) for period in spec.calendar]
    bounds = np.array(days, "datetime64[s]").astype("int64")
    attrs = {"units": _EPOCH, "calendar": "proleptic_gregorian"}
    yield _coordinate(
        "time",
        bounds[:, 0],
        ("time",),
        {**attrs, "axis": "T", "standard_name": "time", "bounds": "time_bnds"},
        chunks=(_PERIODS,),
    )
    yield _coordinate("time_bnds", bounds, ("time", "bounds"), attrs, chunks=(_PERIODS, 2))


def band_plan(stack: StackSpec) -> tuple[ArrayPlan, npt.NDArray[Any]]:
    """The coordinate of a stack's band names, with its values."""
    names = np.array(stack.bands, dtype=object)
    plan = ArrayPlan(
        path=stack.band_dim,
        shape=names.shape,
        chunks=names.shape,
        dtype="str",
        fill="",
        dims=(stack.band_dim,),
        attrs={"long_name": f"bands of {stack.name}"},
    )
    return plan, names


def _coordinate(
    name: str,
    values: npt.NDArray[Any],
    dims: tuple[str, ...],
    attrs: Mapping[str, Any],
    *,
    chunks: tuple[int, ...] | None = None,
) -> tuple[ArrayPlan, npt.NDArray[Any]]:
    plan = ArrayPlan(
        path=name,
        shape=values.shape,
        chunks=chunks or values.shape,
        dtype=values.dtype.name,
        fill=0,
        dims=dims,
        attrs=attrs,
    )
    return plan, values


def _crs_attrs(spec: CubeSpec) -> dict[str, Any]:
    """CF grid mapping, with the two spellings of the transform that GDAL and rioxarray read."""
    crs = spec.grid.crs
    if crs is None:
        raise SpecError("The grid has no CRS.")
    t = spec.grid.transform
    return {
        **crs.proj.to_cf(),
        "spatial_ref": crs.to_wkt(),
        "GeoTransform": " ".join(repr(float(v)) for v in (t.c, t.a, t.b, t.f, t.d, t.e)),
    }


def variable_plans(spec: CubeSpec, variable: StackSpec | LayerSpec) -> list[ArrayPlan]:
    """The array of a stack or layer, its ledger, and the record of what was overwritten."""
    return [
        data_plan(spec, variable),
        _ledger_plan(spec, variable, LEDGER, "checksum of each region of {}; 0 = never written"),
        _ledger_plan(spec, variable, REPLACED, "checksum that each region of {} had before"),
    ]


def data_plan(spec: CubeSpec, variable: StackSpec | LayerSpec) -> ArrayPlan:
    """The array of a stack or layer."""
    lead = (1,) * (not variable.static)
    side, shard = spec.layout.chunk, spec.layout.shard
    inner = (*lead, *variable.inner_shape)
    return ArrayPlan(
        path=variable.name,
        shape=spec.shape(variable.name),
        chunks=(*inner, side, side),
        shards=(*inner, shard, shard) if shard else None,
        dtype=variable.dtype,
        fill=variable.fill,
        dims=variable.dims,
        attrs=variable_attrs(spec, variable),
        codec=spec.layout.codec,
    )


def _ledger_plan(
    spec: CubeSpec, variable: StackSpec | LayerSpec, group: str, text: str
) -> ArrayPlan:
    lead = () if variable.static else (len(spec.calendar),)
    counts = (*lead, *region_counts(spec))
    return ArrayPlan(
        path=f"{group}/{variable.name}",
        shape=counts,
        chunks=(1,) * len(counts),
        dtype="uint64",
        fill=0,
        dims=(*("time",) * len(lead), "region_y", "region_x"),
        attrs={"long_name": text.format(variable.name)},
    )


def variable_attrs(spec: CubeSpec, variable: StackSpec | LayerSpec) -> dict[str, Any]:
    """CF attributes that any reader understands, and the variable's own spec."""
    attrs: dict[str, Any] = {
        "long_name": variable.long_name or variable.name.replace("_", " "),
        "units": variable.units,
        "grid_mapping": "spatial_ref",
        # rioxarray finds the CRS of a plain xr.open_zarr only by this name.
        "coordinates": "spatial_ref",
        "_FillValue": _fill_attr(variable),
        "quadrat_spec": to_json(variable.to_dict()),
        **identity(spec, variable.name),
    }
    if variable.packed:
        attrs |= {"scale_factor": float(variable.scale), "add_offset": float(variable.offset)}
    if isinstance(variable, LayerSpec) and variable.classes:
        attrs["flag_values"] = [value for value, _ in variable.classes]
        attrs["flag_meanings"] = " ".join(m.replace(" ", "_") for _, m in variable.classes)
    return attrs


_identities: dict[tuple[int, str], tuple[CubeSpec, dict[str, str]]] = {}


def identity(spec: CubeSpec, name: str) -> dict[str, str]:
    """Attributes that tell whether a stored array is the one that a spec means."""
    # Asked for with every region. By the object, since hashing a grid takes as long as its digest;
    # the spec is kept with its answer, so that no other object can have its number.
    known = _identities.get((id(spec), name))
    if known is not None:
        return known[1]
    if len(_identities) >= 256:
        _identities.clear()
    found = {
        "quadrat_digest": spec.variable(name).digest,
        "quadrat_place": _place_digest(spec.grid, spec.layout),
    }
    _identities[id(spec), name] = spec, found
    return found


def _place_digest(grid: GeoBox, layout: LayoutSpec) -> str:
    return digest({"grid": grid_to_dict(grid), "layout": asdict(layout)})


def _fill_attr(variable: StackSpec | LayerSpec) -> int | str:
    """``_FillValue`` as xarray reads it in Zarr v3: floats as base64 of a little-endian double."""
    if variable.storage.kind == "f":
        return base64.standard_b64encode(struct.pack("<d", variable.fill)).decode()
    return int(variable.fill)


def root_attrs(spec: CubeSpec) -> dict[str, Any]:
    """Attributes of the root: everything of the spec that is no variable's own."""
    data = spec.to_dict()
    return {
        "Conventions": "CF-1.11",
        "title": spec.title,
        ROOT: to_json({k: v for k, v in data.items() if k not in ("stacks", "layers")}),
    }
