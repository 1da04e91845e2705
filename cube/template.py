"""Template first, bytes later: what a cube's metadata is, and how it changes.

The first half is arithmetic: a spec becomes a list of arrays to create. The
second half creates them, under the store's lock, and consolidates last, so a
plain ``xr.open_zarr(url)`` sees the whole old cube or the whole new one.
"""

from __future__ import annotations

import base64
import json
import os
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cube import store
from cube.errors import SpecError, StoreError
from cube.regions import region_counts
from cube.spec import (
    FORMAT_VERSION,
    CubeSpec,
    LayerSpec,
    StackSpec,
    differences,
    to_json,
    variable_from_dict,
)
from cube.store import ArrayPlan

ROOT = "quadrat"
"""Attribute of the root that makes a Zarr group a cube."""

_EPOCH = "seconds since 1970-01-01"


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
    yield from _time_plans(spec)
    for stack in spec.stacks:
        yield _band_plan(stack)


def _time_plans(spec: CubeSpec) -> Iterator[tuple[ArrayPlan, npt.NDArray[Any]]]:
    days = [(period.start, period.end) for period in spec.calendar]
    bounds = np.array(days, "datetime64[s]").astype("int64")
    attrs = {"units": _EPOCH, "calendar": "proleptic_gregorian"}
    yield _coordinate(
        "time",
        bounds[:, 0],
        ("time",),
        {**attrs, "axis": "T", "standard_name": "time", "bounds": "time_bnds"},
    )
    yield _coordinate("time_bnds", bounds, ("time", "bounds"), attrs)


def _band_plan(stack: StackSpec) -> tuple[ArrayPlan, npt.NDArray[Any]]:
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
    name: str, values: npt.NDArray[Any], dims: tuple[str, ...], attrs: Mapping[str, Any]
) -> tuple[ArrayPlan, npt.NDArray[Any]]:
    plan = ArrayPlan(
        path=name,
        shape=values.shape,
        chunks=values.shape,
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
    """The ledger of a stack or layer, and its array.

    The array comes last and carries the spec: what a killed addition leaves
    behind is a whole variable, or none.
    """
    lead = (1,) * (not variable.static)
    side, shape = spec.layout.chunk, spec.shape(variable.name)
    inner = (*lead, *variable.inner_shape)
    data = ArrayPlan(
        path=variable.name,
        shape=shape,
        chunks=(*inner, side, side),
        shards=(*inner, spec.layout.shard, spec.layout.shard) if spec.layout.shard else None,
        dtype=variable.dtype,
        fill=variable.fill,
        dims=variable.dims,
        attrs=variable_attrs(variable),
        codec=spec.layout.codec,
    )
    counts = (*shape[: len(lead)], *region_counts(spec))
    ledger = ArrayPlan(
        path=f"ledger/{variable.name}",
        shape=counts,
        chunks=(1,) * len(counts),
        dtype="uint64",
        fill=0,
        dims=(*("time",) * len(lead), "region_y", "region_x"),
        attrs={"long_name": f"checksum of each region of {variable.name}; 0 = never written"},
    )
    return [ledger, data]


def variable_attrs(variable: StackSpec | LayerSpec) -> dict[str, Any]:
    """CF attributes that any reader understands, and the variable's own spec."""
    attrs: dict[str, Any] = {
        "long_name": variable.long_name or variable.name.replace("_", " "),
        "units": variable.units,
        "grid_mapping": "spatial_ref",
        # rioxarray finds the CRS of a plain xr.open_zarr only by this name.
        "coordinates": "spatial_ref",
        "_FillValue": _fill_attr(variable),
        "quadrat_spec": to_json(variable.to_dict()),
        "quadrat_digest": variable.digest,
    }
    if variable.packed:
        attrs |= {"scale_factor": float(variable.scale), "add_offset": float(variable.offset)}
    if isinstance(variable, LayerSpec) and variable.classes:
        attrs["flag_values"] = [value for value, _ in variable.classes]
        attrs["flag_meanings"] = " ".join(m.replace(" ", "_") for _, m in variable.classes)
    return attrs


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


def create(url: str | os.PathLike[str], spec: CubeSpec) -> str:
    """Create a cube: metadata only, for the whole calendar.

    Running it again with the same spec changes nothing, and finishes a
    creation that was cut short. Layers added later do not count as a difference.

    Args:
        url: A folder that is new, empty or already this cube; or ``memory://name``.
        spec: What the cube is.

    Returns:
        The URL, absolute.

    Raises:
        StoreError: Something else lies there, or a cube with another spec.
    """
    url = store.normalise(url)
    if _is_this_cube(url, spec):
        return url
    store.make_folder(url)
    with store.metadata_lock(url), store.explained(url):
        if _is_this_cube(url, spec):
            return url  # another process was faster, and may have written data already
        group = store.create_group(url, root_attrs(spec))
        coordinates = list(coordinate_plans(spec))
        store.create_arrays(group, [plan for plan, _ in coordinates])
        for plan, values in coordinates:
            store.array(group, plan.path)[...] = values
        for variable in spec.variables:
            store.create_arrays(group, variable_plans(spec, variable))
        store.consolidate(url)
    return url


def _is_this_cube(url: str, spec: CubeSpec) -> bool:
    """True for this very cube, False for a vacant place or a creation cut short."""
    if store.is_vacant(url):
        return False
    attrs, complete = store.root_attributes(url)
    if ROOT not in attrs:
        raise StoreError(
            f"Cannot create a cube at {url!r}: a Zarr group that is no cube lies there. "
            f"Choose another place."
        )
    if complete:
        stored = read_spec(url)
        added = {v.name: v for v in stored.variables if v.name not in _names(spec)}
        found = differences(stored, spec.with_variables(*added.values()))
    else:
        arrays = store.array_attributes(url).values()
        begun = [
            variable_from_dict(json.loads(a["quadrat_spec"])) for a in arrays if "quadrat_spec" in a
        ]
        same = attrs == root_attrs(spec) and all(v in spec.variables for v in begun)
        found = [] if same else ["its creation was cut short"]
    if found:
        raise StoreError(
            f"A cube with another spec lies at {url!r}. {'; '.join(found)}. "
            f"Use its spec, or another place."
        )
    return complete


def _names(spec: CubeSpec) -> set[str]:
    return {variable.name for variable in spec.variables}


def read_spec(url: str | os.PathLike[str]) -> CubeSpec:
    """The spec of an existing cube, with every variable added since.

    Raises:
        StoreError: There is no cube.
        SpecError: The cube's format is newer than this version reads.
    """
    attrs, complete = store.root_attributes(url)
    if ROOT not in attrs:
        raise StoreError(
            f"{os.fspath(url)!r} is a Zarr group but not a cube: its attributes have no {ROOT!r}. "
            f"Give the folder of a cube."
        )
    if not complete:
        raise StoreError(
            f"The creation of the cube at {os.fspath(url)!r} was cut short. "
            f"Create it again with the same spec."
        )
    data = json.loads(attrs[ROOT])
    version = int(data.get("format_version", 0))
    if version > FORMAT_VERSION:
        raise SpecError(
            f"The cube has format {version}; this version reads up to {FORMAT_VERSION}. "
            f"Install a newer quadrat."
        )
    arrays = store.array_attributes(url).values()
    variables = [
        variable_from_dict(json.loads(a["quadrat_spec"])) for a in arrays if "quadrat_spec" in a
    ]
    return CubeSpec.from_dict(data).with_variables(*variables)


def add(url: str | os.PathLike[str], *variables: StackSpec | LayerSpec) -> CubeSpec:
    """Add stacks or layers to a cube; those it has already stay as they are.

    Returns:
        The spec of the whole cube.

    Raises:
        StoreError: A variable of that name has another spec.
    """
    url = store.normalise(url)
    with store.metadata_lock(url), store.explained(url):
        before = read_spec(url)
        spec = checked_addition(before, *variables)
        _add_arrays(url, spec, [v for v in spec.variables if v.name not in _names(before)])
    return spec


def checked_addition(spec: CubeSpec, *variables: StackSpec | LayerSpec) -> CubeSpec:
    """The spec with further variables; those it has already stay as they are.

    Raises:
        StoreError: A variable of that name has another spec.
    """
    known = {v.name: v for v in spec.variables}
    for variable in variables:
        if known.get(variable.name, variable) != variable:
            raise StoreError(
                f"The cube has another {variable.name!r}: {known[variable.name].to_dict()}; "
                f"wanted {variable.to_dict()}. Choose another name."
            )
    return spec.with_variables(*(v for v in variables if v.name not in known))


def _add_arrays(url: str, spec: CubeSpec, new: list[StackSpec | LayerSpec]) -> None:
    if not new:
        return
    group = store.open_group(url, writable=True)
    for variable in new:
        if isinstance(variable, StackSpec):
            plan, names = _band_plan(variable)
            store.create_arrays(group, [plan])
            store.array(group, plan.path)[...] = names
        store.create_arrays(group, variable_plans(spec, variable))
    store.consolidate(url)


def annotate(url: str | os.PathLike[str], name: str, **attrs: Any) -> None:
    """Set attributes of a variable, such as provenance; nothing else changes.

    A mapping is kept as JSON, and merged with the one that is there, under the
    lock, so that two processes that record two times both leave their mark.
    """
    url = store.normalise(url)
    with store.metadata_lock(url), store.explained(url):
        target = store.array(store.open_group(url, writable=True), name)
        before: dict[str, Any] = target.attrs.asdict()
        for key, value in attrs.items():
            if isinstance(value, Mapping):
                attrs[key] = to_json({**json.loads(before.get(key, "{}")), **value})
        # What readers see: an annotation killed before it consolidated is finished here.
        seen = store.array_attributes(url).get(name, {})
        if all(seen.get(key) == value for key, value in attrs.items()):
            return
        target.attrs.update(attrs)
        store.consolidate(url)
