"""Writing one region: data first, then the tick; metadata never."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cube import ledger, locking, nodata, objects, store, urls
from cube.arrays import identity
from cube.errors import RegionError, SpecError
from cube.reading import array_index
from cube.regions import Region, check_region
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
    overwrite: bool = False,
) -> None:
    """Write one region of an existing cube, whole shards only.

    Writing the same values twice leaves the same bytes, so a failed run is
    simply run again. Only one process writes a region at a time; another one
    waits for it.

    Args:
        url: The cube; its template must exist.
        name: A stack or layer.
        region: One of :func:`cube.regions.regions`.
        data: Stored (not scaled) values of the variable's dtype: shape
            (band, y, x) for a stack, (y, x) for a layer; missing pixels hold nodata.
        spec: The cube's spec, where the caller has it at hand.
        overwrite: Replace other values that the region holds already; the cube
            keeps the checksum of what was replaced.

    Raises:
        RegionError: ``region`` leaves the cube, cuts a shard, or is written
            already with other values.
        SpecError: The variable is unknown, or dtype or shape differ.
        StoreError: The store refuses, for example because the disk is full.
    """
    url, spec = urls.normalise(url), spec or read_spec(url)
    check_region(spec, name, region)
    _check_data(spec, name, region, data)
    data = nodata.one_nan(data)
    value = ledger.checksum(data)
    with locking.hold(url, ledger.key(spec, name, region)) as held:
        _prepare(url, spec, name, region, value, overwrite=overwrite)
        index = array_index(spec, name, region)
        store.write(url, name, index, data, like=identity(spec, name))
        held.check()
        ledger.tick(url, spec, name, region, value)


def _prepare(
    url: str, spec: CubeSpec, name: str, region: Region, value: int, *, overwrite: bool
) -> None:
    """Make sure that a region may be written, and that nobody takes it for whole meanwhile."""
    before = ledger.read(url, spec, name, region)
    if before not in (0, value):
        if ledger.is_tick(before):
            if not overwrite:
                raise RegionError(
                    f"{name!r} at {region} is written already, with other values. "
                    f"Give overwrite=True to replace them."
                )
            ledger.record_replaced(url, spec, name, region, before)
        ledger.clear(url, spec, name, [region])
    replaced = ledger.key(spec, name, region, group=ledger.REPLACED)
    objects.sweep_partial(url, [*keys(url, spec, name, region), replaced])


def write_physical(
    url: str,
    name: str,
    region: Region,
    values: nodata.FloatArray,
    *,
    spec: CubeSpec,
    overwrite: bool = False,
) -> None:
    """Encode physical values (NaN = nodata) and write them; see :func:`write_region`."""
    stored = nodata.encode(values, spec.variable(name))
    write_region(url, name, region, stored, spec=spec, overwrite=overwrite)


def keys(url: str, spec: CubeSpec, name: str, region: Region) -> list[str]:
    """Store keys of everything that writing this region writes."""
    time = () if region.time is None else (slice(region.time, region.time + 1),)
    inner = tuple(slice(0, n) for n in spec.variable(name).inner_shape)
    data = store.keys_of(url, name, (*time, *inner, *region.slices))
    return [*data, ledger.key(spec, name, region)]


def _check_data(spec: CubeSpec, name: str, region: Region, data: npt.NDArray[Any]) -> None:
    variable = spec.variable(name)
    shape = (*variable.inner_shape, *region.shape)
    if data.dtype != variable.storage or data.shape != shape:
        raise SpecError(
            f"{name!r} at {region} takes stored values of dtype {variable.dtype} and shape {shape} "
            f"{(*variable.inner_dims, 'y', 'x')}. Received dtype {data.dtype}, shape {data.shape}."
        )
