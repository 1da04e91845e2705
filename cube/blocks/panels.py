"""A panel: what polygons hold, by block and time, and what it was made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cube import provenance
from cube.coverage.handle import Coverage
from cube.errors import SpecError
from cube.spec import CubeSpec, LayerSpec, Period, StackSpec, to_json

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Column:
    """A variable of a panel.

    Attributes:
        name: Of the variable.
        values: (polygon,), or (polygon, time).
        attrs: ``long_name``, ``units``, ``cell_methods`` and more.
    """

    name: str
    values: npt.NDArray[Any]
    attrs: Mapping[str, Any] = field(default_factory=dict)


def prefixes(variable: StackSpec | LayerSpec) -> list[str]:
    """What names of variables begin with: the layer, or stack and band."""
    if isinstance(variable, StackSpec):
        return [f"{variable.name}_{band}" for band in variable.bands]
    return [variable.name]


def panel(
    coverage: Coverage,
    columns: Iterable[Column],
    attrs: Mapping[str, Any],
    periods: Sequence[Period] = (),
) -> xr.Dataset:
    """A Dataset over ``block``, and ``time`` where a column varies with it.

    Args:
        coverage: Whose polygons blocks are, in their order.
        columns: The variables.
        attrs: Of the Dataset.
        periods: Of the time axis, where there is one.

    Raises:
        SpecError: Two columns have one name.
    """
    import xarray as xr

    shared = Column(
        name="covered_share",
        values=np.asarray(coverage.covered_share, "float64"),
        attrs={
            "long_name": "share of the polygon's area that lies on the grid",
            "units": "1",
            "cell_methods": "area: mean",
        },
    )
    data: dict[str, Any] = {}
    for column in (*columns, shared):
        if column.name in data:
            raise SpecError(
                f"Variables of a panel need names of their own. Received {column.name!r} twice; "
                f"ask for these layers one by one."
            )
        dims = ("block", "time")[: column.values.ndim]
        data[column.name] = (dims, column.values, dict(column.attrs))
    return xr.Dataset(data, coords=_coordinates(coverage, periods), attrs=dict(attrs))


def _coordinates(coverage: Coverage, periods: Sequence[Period]) -> dict[str, Any]:
    ids = coverage.ids
    blocks = (
        np.arange(coverage.polygons, dtype="int64") if ids is None else np.array(ids, dtype=object)
    )
    coords: dict[str, Any] = {"block": ("block", blocks, {"long_name": "polygon"})}
    if periods:
        starts = np.array([period.start for period in periods], "datetime64[ns]")
        labels = np.array([period.label for period in periods], dtype=object)
        coords["time"] = ("time", starts, {"long_name": "first day of the period"})
        coords["period"] = ("time", labels, {"long_name": "label of the period"})
    return coords


def origin(
    coverage: Coverage,
    options: Mapping[str, Any],
    spec: CubeSpec | None = None,
    names: Sequence[str] = (),
) -> dict[str, Any]:
    """What a panel was made from, as text: no clock, host or path.

    Args:
        coverage: Its polygons.
        options: How it was made.
        spec: The cube that its layers are of; None for arrays.
        names: Those layers.
    """
    attrs = {
        "polygons": coverage.name,
        "polygons_digest": coverage.digest,
        "statistics": to_json(options),
    }
    if spec is None:
        return attrs
    inputs = {
        name: {label: made["digest"] for label, made in inputs_of.items()}
        for name in names
        if (inputs_of := provenance.inputs_of(coverage.url, name))
    }
    return attrs | {"cube_digest": spec.digest, "inputs": to_json(inputs)}
