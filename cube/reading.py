"""Reading stored values of any pixel box."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cube import store
from cube.arrays import identity
from cube.errors import SpecError
from cube.regions import Region, check_box
from cube.spec import CubeSpec, StackSpec

if TYPE_CHECKING:
    import numpy.typing as npt


def array_index(spec: CubeSpec, name: str, region: Region) -> tuple[Any, ...]:
    """Index of a region in the stored array, every band included."""
    variable = spec.variable(name)
    inner = (slice(None),) * len(variable.inner_dims)
    lead = () if region.time is None else (region.time,)
    return (*lead, *inner, *region.slices)


def read_region(url: str, name: str, region: Region, *, spec: CubeSpec) -> npt.NDArray[Any]:
    """Stored values of any pixel box: (band, y, x) for a stack, (y, x) for a layer.

    Raises:
        RegionError: The box reaches beyond the cube; a store would cut it off silently.
        StoreError: A chunk is damaged.
    """
    check_box(spec, name, region)
    return store.read(url, name, array_index(spec, name, region), like=identity(spec, name))


def read_bands(
    url: str, name: str, region: Region, *, spec: CubeSpec, bands: tuple[str, ...] | None = None
) -> npt.NDArray[Any]:
    """Stored values of named bands of a stack, shape (band, y, x), in the order asked for.

    Raises:
        SpecError: The stack has no band of that name.
    """
    stored = read_region(url, name, region, spec=spec)
    stack = spec.variable(name)
    if bands is None or not isinstance(stack, StackSpec) or bands == stack.bands:
        return stored
    if unknown := set(bands) - set(stack.bands):
        raise SpecError(
            f"Stack {name!r} has the bands {', '.join(stack.bands)}. "
            f"Received {', '.join(sorted(unknown))}."
        )
    return stored[[stack.bands.index(band) for band in bands]]
