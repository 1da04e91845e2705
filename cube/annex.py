"""Places for what is derived from a cube that cannot be written itself.

An annex is a Zarr group that knows the cube's grid and holds no variable of it: coverages and
panels lie in it as they would in the cube.
"""

from __future__ import annotations

import json
import os
from typing import Any

from cube import metadata, store, urls
from cube.arrays import ROOT, coordinate_plans
from cube.errors import StoreError
from cube.metadata import Change, Metadata
from cube.spec import CubeSpec, grid_to_dict

ANNEX = "quadrat_annex"
"""Attribute of the root that makes a Zarr group an annex."""

_COORDINATES = ("x", "y", "spatial_ref")


def make(url: str | os.PathLike[str], spec: CubeSpec) -> str:
    """Make an annex, or find the one that is there.

    Args:
        url: A folder, ``s3://bucket/path`` and so on; new, empty, already an annex of such a
            cube, or another cube on the same grid.
        spec: Of the cube it belongs to.

    Returns:
        The URL; folders are absolute.

    Raises:
        StoreError: Something else lies there, or an annex of a cube with another grid.
    """
    text = urls.normalise(url)
    if not metadata.exists(text):
        _check_vacant(text)
        metadata.make_place(text)
        metadata.change(text, lambda before: None if before else _creation(spec))
    check(text, spec)
    return text


def _check_vacant(url: str) -> None:
    stranger = next(iter(metadata.lying(url)), None)
    if stranger is not None and stranger.split("/")[0] not in _COORDINATES:
        raise StoreError(
            f"{url!r} cannot hold what is derived from a cube: it is not empty, {stranger!r} lies "
            f"there. Choose another place."
        )


def _creation(spec: CubeSpec) -> Change:
    arrays: dict[str, Any] = {}
    values: dict[str, bytes] = {}
    for plan, filled in coordinate_plans(spec):
        if plan.path in _COORDINATES:
            arrays[plan.path], chunks = store.rendered(plan, filled)
            values |= chunks
    attributes = {ANNEX: _grid_text(spec)}
    return Change(metadata=Metadata(attributes=attributes, arrays=arrays), values=values)


def _grid_text(spec: CubeSpec) -> str:
    return json.dumps(grid_to_dict(spec.grid), sort_keys=True)


def is_home(attributes: Any) -> bool:
    """True for attributes of a root in which derived things may lie: a cube's or an annex's."""
    return ROOT in attributes or ANNEX in attributes


def check(url: str, spec: CubeSpec) -> None:
    """Make sure that a place holds things derived from such a cube.

    Args:
        url: A normalised URL.
        spec: Of the cube.

    Raises:
        StoreError: It is neither an annex nor a cube, or its grid is another.
    """
    found = metadata.known(url)
    if not is_home(found.attributes):
        raise StoreError(
            f"{url!r} is a Zarr group that is neither a cube nor an annex of one. "
            f"Choose another place."
        )
    if ANNEX in found.attributes:
        same = found.attributes[ANNEX] == _grid_text(spec)
    else:
        same = json.loads(found.attributes[ROOT])["grid"] == json.loads(_grid_text(spec))
    if not same:
        raise StoreError(f"{url!r} belongs to a cube with another grid. Choose another place.")
