"""Writing one region: data first, then the tick; metadata never."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cube import ledger, nodata, store
from cube.errors import SpecError
from cube.reading import array_index
from cube.regions import Region, check_region, ledger_index
from cube.spec import CubeSpec
from cube.template import read_spec

if TYPE_CHECKING:
    import numpy.typing as npt


def write_region(
    url: str | os.PathLike[str],
    name: str,
    region: Region,
    data: npt.NDArray[Any],
    *,
    spec: CubeSpec | None = None,
) -> None:
    """Write one region of an existing cube, whole shards only.

    Writing the same region twice leaves the same bytes, so a failed run is
    simply run again.

    Args:
        url: The cube; its template must exist.
        name: A stack or layer.
        region: One of :func:`cube.regions.regions`.
        data: Stored (not scaled) values of the variable's dtype: shape
            (band, y, x) for a stack, (y, x) for a layer; missing pixels hold nodata.
        spec: The cube's spec, where the caller has it at hand.

    Raises:
        RegionError: ``region`` leaves the cube or cuts a shard.
        SpecError: The variable is unknown, or dtype or shape differ.
        StoreError: The store refuses, for example because the disk is full.
    """
    url, spec = store.normalise(url), spec or read_spec(url)
    check_region(spec, name, region)
    _check_data(spec, name, region, data)
    data = nodata.one_nan(data)
    # A region that is written anew is not whole until its tick is back.
    ledger.clear(url, spec, name, [region])
    store.write(url, name, array_index(spec, name, region), data)
    ledger.tick(url, spec, name, region, ledger.checksum(data))


def write_physical(
    url: str, name: str, region: Region, values: nodata.FloatArray, *, spec: CubeSpec
) -> None:
    """Encode physical values (NaN = nodata) and write them; see :func:`write_region`."""
    write_region(url, name, region, nodata.encode(values, spec.variable(name)), spec=spec)


def keys(url: str, spec: CubeSpec, name: str, region: Region) -> list[str]:
    """Store keys of everything that writing this region writes."""
    time = () if region.time is None else (slice(region.time, region.time + 1),)
    inner = tuple(slice(0, n) for n in spec.variable(name).inner_shape)
    data = store.keys_of(url, name, (*time, *inner, *region.slices))
    place = "/".join(map(str, ledger_index(spec, region)))
    return [*data, f"ledger/{name}/c/{place}"]


def _check_data(spec: CubeSpec, name: str, region: Region, data: npt.NDArray[Any]) -> None:
    variable = spec.variable(name)
    shape = (*variable.inner_shape, *region.shape)
    if data.dtype != variable.storage or data.shape != shape:
        raise SpecError(
            f"{name!r} at {region} takes stored values of dtype {variable.dtype} and shape {shape} "
            f"{(*variable.inner_dims, 'y', 'x')}. Received dtype {data.dtype}, shape {data.shape}."
        )
