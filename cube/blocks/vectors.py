"""Panels as vector cubes: kept in a cube's Zarr, where any reader of CF opens them.

    cube.save_blocks(url, "tracts", panel)
    xr.open_zarr(url, group="blocks/tracts")

Polygons are CF geometries, see :mod:`cube.polygons.geometries`; text is text of any length; times
are seconds since 1970.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from cube import annex, metadata, store, template, urls
from cube.blocks.members import BLOCK, GEOMETRY, as_text, check_panel, crs_of, is_text, shapes_of
from cube.errors import SpecError, StoreError
from cube.polygons.geometries import RingLists, polygons_of, ring_lists
from cube.spec import to_json
from cube.store import ArrayPlan
from cube.template import read_spec

PANEL = "quadrat_panel"
"""Attribute of ``block``: as JSON, what the arrays do not say themselves."""

CONTAINER, GRID_MAPPING = "geometry_container", "spatial_ref"

CHUNK = 1 << 18
"""Numbers in a chunk, 2 MiB of float64."""

_RESERVED = {
    CONTAINER, GRID_MAPPING, "node_count", "part_node_count", "interior_ring", "node_x", "node_y",
    "node", "part", "c",
}  # fmt: skip

_WRITTEN = {"_FillValue", "coordinates", "grid_mapping", "geometry", PANEL}
"""Attributes that are written anew, since they say how an array is kept."""

_EPOCH = {"units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian"}

_NAN = base64.standard_b64encode(struct.pack("<d", np.nan)).decode()

Planned = tuple[ArrayPlan, npt.NDArray[Any]]


def save_blocks(
    url: str | os.PathLike[str],
    name: str,
    panel: xr.Dataset,
    *,
    into: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> str:
    """Keep a panel in a cube, as ``blocks/<name>``.

    Its arrays become visible together. Saving the same panel again changes nothing.

    Args:
        url: The cube.
        name: Of the panel, lower_snake_case.
        panel: Statistics by block, with the blocks' geometry or without.
        into: Keep it at another URL, where the cube must not be written.
        overwrite: Replace another panel of that name. A replacement that is cut short leaves
            none, never a mixture.

    Returns:
        The URL of the place where it is kept.

    Raises:
        SpecError: The name, a variable or an attribute cannot be kept.
        PolygonError: Ids are missing or appear twice, or a geometry is no polygon.
        StoreError: Another panel lies under that name, or something else lies at ``into``.
    """
    check_name(name)
    arrays = _arrays(panel)
    wanted = _digest(arrays)
    place = _place(url, into, make=True)
    there = _record(place, name)
    if there is not None:
        if there["digest"] == wanted:
            return place
        if not overwrite:
            raise StoreError(
                f"The cube at {place!r} has another panel {name!r} (digest {there['digest']}, "
                f"this one has {wanted}). Choose another name, or give overwrite=True."
            )
        # Before anything is put: over old arrays, a reader would take missing chunks for nodata.
        template.remove_group(place, f"blocks/{name}")
    template.put_arrays(place, _placed(arrays, name, wanted))
    return place


def open_blocks(
    url: str | os.PathLike[str], name: str, *, into: str | os.PathLike[str] | None = None
) -> xr.Dataset:
    """The panel that :func:`save_blocks` kept, in memory.

    A geometry of one part is a Polygon, all others are MultiPolygons.

    Raises:
        StoreError: There is none of that name; the message lists those there are.
    """
    place = _place(url, into)
    record = _record(place, name)
    if record is None:
        raise _missing(place, name)
    every = metadata.known(place).arrays
    variables = {
        kept["name"]: _opened(place, f"blocks/{name}/{kept['name']}", every, kept)
        for kept in record["variables"]
    }
    if f"blocks/{name}/{CONTAINER}" in every:
        variables[GEOMETRY] = _opened_geometry(place, name)
    coordinates = {kept["name"] for kept in record["variables"] if kept["coordinate"]} | {GEOMETRY}
    return xr.Dataset(
        {k: v for k, v in variables.items() if k not in coordinates},
        {k: v for k, v in variables.items() if k in coordinates},
        record["attrs"],
    )


def remove_blocks(
    url: str | os.PathLike[str], name: str, *, into: str | os.PathLike[str] | None = None
) -> None:
    """Remove a panel that :func:`save_blocks` kept, with all its arrays.

    Raises:
        StoreError: There is none of that name.
    """
    place = _place(url, into)
    if _record(place, name) is None:
        raise _missing(place, name)
    template.remove_group(place, f"blocks/{name}")


def check_name(name: str) -> None:
    """Refuse a name that no panel can have.

    Raises:
        SpecError: It is not in lower_snake_case.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", str(name)) or name == "c":
        raise SpecError(f"A panel needs a lower_snake_case name. Received {name!r}.")


def _place(
    url: str | os.PathLike[str], into: str | os.PathLike[str] | None, *, make: bool = False
) -> str:
    if into is None:
        return urls.normalise(url)
    return annex.make(into, read_spec(url)) if make else urls.normalise(into)


def _record(url: str, name: str) -> dict[str, Any] | None:
    """What is known of a panel beside its arrays; None if there is none."""
    attrs = metadata.attributes(url).get(f"blocks/{name}/{BLOCK}")
    return None if attrs is None else json.loads(attrs[PANEL])


def names_of_blocks(url: str) -> list[str]:
    """Names of the panels that are kept at a URL, sorted."""
    steps = [path.split("/") for path in metadata.attributes(url)]
    return sorted(s[1] for s in steps if (s[0], s[-1]) == ("blocks", BLOCK))


def _missing(url: str, name: str) -> StoreError:
    there = ", ".join(names_of_blocks(url)) or "none"
    return StoreError(f"The cube at {url!r} has no panel {name!r}. It has: {there}.")


# ------------------------------------------------------------------------------------- to arrays
@dataclass(frozen=True, slots=True, kw_only=True)
class _Arrays:
    """A panel as arrays.

    Attributes:
        planned: The arrays; paths are names in the group.
        record: In the panel's order, what is lost on the way: ``coordinate``, ``kind``, ``dtype``.
        attrs: Of the panel.
    """

    planned: list[Planned]
    record: list[dict[str, Any]]
    attrs: dict[str, Any]


def _arrays(panel: xr.Dataset) -> _Arrays:
    check_panel(panel)
    names = [str(name) for name in panel.variables if name != GEOMETRY]
    for name in {*names, *map(str, panel.dims)}:
        if not name.isidentifier() or name in _RESERVED:
            raise SpecError(f"{name!r} cannot be the name of an array; rename it in the panel.")
    drawn = GEOMETRY in panel.coords
    planned, record = [], []
    for name in names:
        variable = panel[name]
        kind = _kind(name, variable.to_numpy())
        plan, values = _planned(name, variable, kind)
        extra = _links(panel, variable, drawn) if name in panel.data_vars else {}
        planned.append((replace(plan, attrs={**plan.attrs, **extra}), values))
        dtype = "" if kind == "text" else str(variable.dtype)
        known = {"name": name, "coordinate": name in panel.coords, "kind": kind, "dtype": dtype}
        record.append(known)
    planned += _geometry_arrays(panel) if drawn else []
    return _Arrays(planned=planned, record=record, attrs=_plain("panel", panel.attrs))


def _kind(name: str, values: npt.NDArray[Any]) -> str:
    kind = {"f": "float", "i": "whole", "u": "whole", "b": "whole", "M": "time"}.get(
        values.dtype.kind, "text" if is_text(values) else ""
    )
    if not kind:
        raise SpecError(
            f"{name!r} holds {values.dtype}; numbers, text or times were expected, convert it."
        )
    return kind


def _planned(name: str, variable: xr.DataArray, kind: str) -> Planned:
    """An array and its values as they are stored."""
    values = variable.to_numpy()
    attrs = {k: v for k, v in _plain(name, variable.attrs).items() if k not in _WRITTEN}
    fill: float | str = 0
    if kind == "text":
        values, fill = as_text(values, name), ""
    elif kind == "time":
        values, attrs = _seconds(name, values), {**attrs, **_EPOCH}
    elif kind == "float":
        fill, attrs = np.nan, {**attrs, "_FillValue": _NAN}
    dims = tuple(map(str, variable.dims))
    return _plan(name, values, dims, attrs, fill), values


def _plan(
    name: str,
    values: npt.NDArray[Any],
    dims: tuple[str, ...],
    attrs: Mapping[str, Any],
    fill: float | str = 0,
) -> ArrayPlan:
    text = values.dtype == object
    return ArrayPlan(
        path=name,
        shape=values.shape,
        chunks=_chunks(values.shape),
        dtype="str" if text else values.dtype.name,
        fill=fill,
        dims=dims,
        attrs=attrs,
        codec="blosc-zstd-3-noshuffle" if text else "blosc-zstd-3-shuffle",
    )


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """At most :data:`CHUNK` numbers: later dimensions whole for as long as they fit."""
    out, left = [], CHUNK
    for length in reversed(shape):
        out.append(max(1, min(length, left)))
        left //= out[-1]
    return tuple(reversed(out))


def _seconds(name: str, times: npt.NDArray[np.datetime64]) -> npt.NDArray[np.int64]:
    whole = times.astype("datetime64[s]")
    if np.isnat(times).any() or (whole != times).any():
        raise SpecError(f"{name!r} holds times that are missing, or no whole seconds.")
    return whole.astype("int64")


def _plain(name: str, attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes as JSON keeps them.

    Raises:
        SpecError: It cannot keep one.
    """
    out = {str(k): v.tolist() if hasattr(v, "tolist") else v for k, v in attrs.items()}
    try:
        return json.loads(json.dumps(out, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"An attribute of {name!r} is no text, number or list: {error}. Convert or remove it."
        ) from error


def _links(panel: xr.Dataset, variable: xr.DataArray, drawn: bool) -> dict[str, str]:
    """Attributes that lead a reader of CF from a variable to its coordinates and geometry."""
    dims = set(variable.dims)
    labels = [
        str(n)
        for n, c in panel.coords.items()
        if n not in (*panel.dims, GEOMETRY) and set(c.dims) <= dims
    ]
    out = {"coordinates": " ".join(labels)} if labels else {}
    if drawn and BLOCK in dims:
        out |= {"geometry": CONTAINER, "grid_mapping": GRID_MAPPING}
    return out


def _geometry_arrays(panel: xr.Dataset) -> list[Planned]:
    crs = crs_of(panel)
    lists = ring_lists(shapes_of(panel))
    units = "degrees" if crs.is_geographic else str(crs.axis_info[0].unit_name)
    container = {
        "geometry_type": "polygon",
        "node_count": "node_count",
        "part_node_count": "part_node_count",
        "interior_ring": "interior_ring",
        "node_coordinates": "node_x node_y",
        "grid_mapping": GRID_MAPPING,
        # Where cf_xarray and xvec look for the name of what they decode.
        "variable_name": GEOMETRY,
    }
    attrs = _plain(GEOMETRY, panel[GEOMETRY].attrs)
    mapping = {**crs.to_cf(), "spatial_ref": attrs["crs"]}
    zero, rings = np.array(0, "int8"), ("part",)
    x, y = np.ascontiguousarray(lists.nodes.T)
    columns = [
        (CONTAINER, zero, (), {**attrs, **container}),
        (GRID_MAPPING, zero, (), mapping),
        ("node_count", lists.node_count, (BLOCK,), {"long_name": "corners of each polygon"}),
        ("part_node_count", lists.part_node_count, rings, {"long_name": "corners of each ring"}),
        ("interior_ring", lists.interior_ring, rings, {"long_name": "1 where a ring is a hole"}),
    ]
    planned = [(_plan(n, v, dims, attrs), v) for n, v, dims, attrs in columns]
    for axis, values in (("x", x), ("y", y)):
        about = {"axis": axis.upper(), "units": units, "long_name": f"{axis} of corners"}
        # NaN, or a chunk of nothing but -0.0 would come back as 0.0.
        planned.append((_plan(f"node_{axis}", values, ("node",), about, np.nan), values))
    return planned


def _digest(arrays: _Arrays) -> str:
    """First 12 hex digits of the SHA-256 of a panel's arrays and attributes."""
    sha = hashlib.sha256(to_json({"record": arrays.record, "attrs": arrays.attrs}).encode())
    for plan, values in arrays.planned:
        sha.update(to_json([plan.path, plan.shape, plan.dims, plan.attrs]).encode())
        text = values.dtype == object
        sha.update(json.dumps(values.tolist()).encode() if text else values.tobytes())
    return sha.hexdigest()[:12]


def _placed(arrays: _Arrays, name: str, digest: str) -> list[Planned]:
    """The arrays in the cube; ``block`` holds what they do not say themselves."""
    record = {"digest": digest, "attrs": arrays.attrs, "variables": arrays.record}
    out = []
    for plan, values in arrays.planned:
        own = {PANEL: to_json(record)} if plan.path == BLOCK else {}
        path = f"blocks/{name}/{plan.path}"
        out.append((replace(plan, path=path, attrs={**plan.attrs, **own}), values))
    return out


# ----------------------------------------------------------------------------------- from arrays
def _opened(
    url: str, path: str, every: Mapping[str, Mapping[str, Any]], kept: Mapping[str, Any]
) -> tuple[tuple[str, ...], npt.NDArray[Any], dict[str, Any]]:
    values, node, own = store.read(url, path), every[path], _WRITTEN
    if kept["kind"] == "text":
        values = values.astype(object)
    elif kept["kind"] == "time":
        values, own = values.astype("datetime64[s]").astype(kept["dtype"]), _WRITTEN | set(_EPOCH)
    attrs = {k: v for k, v in node.get("attributes", {}).items() if k not in own}
    return tuple(node.get("dimension_names") or ()), values, attrs


def _opened_geometry(
    url: str, name: str
) -> tuple[tuple[str, ...], npt.NDArray[Any], dict[str, Any]]:
    def read(part: str) -> npt.NDArray[Any]:
        return store.read(url, f"blocks/{name}/{part}")

    lists = RingLists(
        node_count=read("node_count"),
        part_node_count=read("part_node_count"),
        interior_ring=read("interior_ring"),
        nodes=np.stack([read("node_x"), read("node_y")], axis=1),
    )
    attrs = metadata.known(url).arrays[f"blocks/{name}/{CONTAINER}"]["attributes"]
    own = ("geometry_type", "variable_name", "node_coordinates", "grid_mapping")
    links = ("node_count", "part_node_count", "interior_ring", *own)
    return (BLOCK,), polygons_of(lists), {k: v for k, v in attrs.items() if k not in links}
