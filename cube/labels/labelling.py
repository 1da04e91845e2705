"""From polygons to pixels: what people measured becomes a layer of the cube."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from cube import filling
from cube.coverage.handle import Coverage
from cube.errors import SpecError
from cube.filling import Filling
from cube.labels.quantities import Empty, Quantity
from cube.labels.spreading import How, Spreading
from cube.labels.weights import Named, Weight
from cube.plan import Plan
from cube.regions import Region
from cube.report import Report
from cube.spec import CubeSpec
from cube.states import MISSING, NUMBER, ZERO, states
from cube.template import read_spec

if TYPE_CHECKING:
    from distributed import Client

FloatArray = npt.NDArray[np.float64]

STATES = ((NUMBER, "number"), (ZERO, "zero"), (MISSING, "missing"))
"""Classes for the :class:`cube.spec.LayerSpec` of a layer of states: a number other than zero,
zero, nothing known."""


@runtime_checkable
class Transform(Protocol):
    """A declared function of values, such as the logarithm."""

    def forward(self, values: Any, /) -> Any:
        """Transformed values, float64 of the same shape; NaN stays NaN."""

    def describe(self) -> dict[str, Any]:
        """What it is, as JSON."""


class States:
    """The transform of values to states of pixels; see :data:`STATES`."""

    def forward(self, values: FloatArray, /) -> FloatArray:
        """States of values, float64 of the same shape."""
        return states(values).astype("float64")

    def describe(self) -> dict[str, Any]:
        """What it is, as JSON."""
        return {"kind": "states"}


def plan_spread(  # noqa: PLR0913  (what to spread, how, and who does it)
    coverage: Coverage,
    layer: str,
    values: npt.ArrayLike,
    *,
    time: str | None = None,
    how: How = "extensive",
    of: npt.ArrayLike | None = None,
    weight: Named | None = None,
    weight_time: str | None = None,
    empty: Empty = "refuse",
    signed: bool = False,
    bounded: bool = True,
    transform: Transform | None = None,
    state_layer: str | None = None,
    client: Client | None = None,
    calibrate: bool = False,
) -> Plan:
    """Say what :func:`spread` will take; writes nothing, and does not add up weights.

    Args:
        coverage: See :func:`spread`.
        layer: See :func:`spread`.
        values: See :func:`spread`.
        time: See :func:`spread`.
        how: See :func:`spread`.
        of: See :func:`spread`.
        weight: See :func:`spread`.
        weight_time: See :func:`spread`.
        empty: See :func:`spread`.
        signed: See :func:`spread`.
        bounded: See :func:`spread`.
        transform: See :func:`spread`.
        state_layer: See :func:`spread`. The plan is of ``layer`` alone; that of the states is
            another of the same regions.
        client: See :func:`spread`.
        calibrate: Do one region in memory, to estimate time and bytes.

    Raises:
        PolygonError: See :func:`spread`.
        SpecError: See :func:`spread`; or the memory that is free does not suffice.
        StoreError: See :func:`spread`; or the disk has less room than a sample lets expect.
    """
    quantity = Quantity.of_polygons(
        coverage,
        values,
        how=how,
        of=of,
        weighted=weight is not None,
        empty=empty,
        signed=signed,
        bounded=bounded,
    )
    label = _Label.of(quantity, time=time, weight=weight, weight_time=weight_time)
    work = label.prepare(layer, transform)
    if state_layer is not None:
        label.prepare_states(state_layer, beside=layer)
    values_of = label.sample(transform) if calibrate else None
    return filling.plan(
        work,
        bytes_in=label.bytes_in(work),
        peak=label.peak_bytes,
        client=client,
        reads=label.reads,
        values=values_of,
    )


def spread(  # noqa: PLR0913  (what to spread, how, and who does it)
    coverage: Coverage,
    layer: str,
    values: npt.ArrayLike,
    *,
    time: str | None = None,
    how: How = "extensive",
    of: npt.ArrayLike | None = None,
    weight: Named | None = None,
    weight_time: str | None = None,
    empty: Empty = "refuse",
    signed: bool = False,
    bounded: bool = True,
    transform: Transform | None = None,
    state_layer: str | None = None,
    overwrite: bool = False,
    client: Client | None = None,
) -> Report:
    """Write what polygons hold as a layer of pixels.

    A polygon whose value is unknown takes part in nothing: pixels that meet no other polygon
    become nodata, and pixels that do hold what the others give. Zero is a value like any other.

    Args:
        coverage: Shares of the polygons, of the cube to write to.
        layer: A layer of that cube.
        values: One number per polygon; NaN where nothing is known. A pandas Series is matched by
            its index where the coverage has ids, unless the index only counts rows.
        time: Label of the period; None for a static layer.
        how: ``"extensive"`` for amounts such as persons: each polygon's amount is divided among
            its pixels, by area or by ``weight``, and the sum over pixels is the sum over polygons
            of amount x share of the polygon's area on the grid. ``"intensive"`` for densities,
            rates and medians: a pixel gets the mean of its polygons, weighted by area.
            ``"share"`` for ratios such as the share of persons who have work: a pixel gets the
            sum over polygons of value x ``of``, spread as an amount, divided by that of ``of``.
        of: What the values of ``how="share"`` are shares of, such as persons: one number per
            polygon, as ``values``. Pixels that get none of it become nodata.
        weight: A layer of the cube, or a stack and its band, such as built-up area or light at
            night: amounts are divided in proportion to area x weight. Where it is nodata it is 0.
        weight_time: Its period; by default ``time``.
        empty: What to do with a polygon that has something to divide and no positive weight:
            ``"refuse"``, or ``"area"`` to divide it by area.
        signed: Allow negative amounts, such as changes.
        bounded: Refuse shares outside 0..1; False for ratios such as persons per dwelling.
        transform: What to write is the result of its ``forward`` on the pixels' values, in
            float64. Where that is NaN, as the logarithm of zero may be, is nodata.
        state_layer: A layer of integers, of the same period, that keeps apart what a transform
            does not: 0 for a number, 1 for zero, 2 for nothing known.
        overwrite: Replace what was spread before, also from other values or polygons.
        client: A Dask client; None runs on local threads.

    Returns:
        What was done to ``layer``; it names the amount that lies outside the grid with a part of
        its polygon. Pixels outside all polygons become nodata, and 2 in ``state_layer``.

    Raises:
        PolygonError: Values do not fit the polygons, or are not what they are said to be; or a
            polygon has an amount and no weight.
        SpecError: There is no such layer or period, options contradict each other, a weight is
            negative, or amounts were to be spread over whole numbers.
        StoreError: Regions of the weight were never written.
    """
    quantity = Quantity.of_polygons(
        coverage,
        values,
        how=how,
        of=of,
        weighted=weight is not None,
        empty=empty,
        signed=signed,
        bounded=bounded,
    )
    label = _Label.of(quantity, time=time, weight=weight, weight_time=weight_time)
    works: list[tuple[Filling, Transform | None]] = [
        (label.prepare(layer, transform, overwrite=overwrite), transform)
    ]
    if state_layer is not None:
        # First, so that a layer that is done has its states.
        works.insert(
            0, (label.prepare_states(state_layer, beside=layer, overwrite=overwrite), States())
        )
    return label.fill(works, client=client)


def _check_transform(transform: object) -> None:
    declared = isinstance(transform, Transform) and not isinstance(transform, type)
    if not declared or getattr(transform, "inputs", 1) != 1:
        raise SpecError(
            f"transform must be a declared transform of one value, such as "
            f"cube.transforms.Log(). Received {transform!r}."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Label:
    """A quantity at one time, ready to be written to layers.

    Attributes:
        quantity: What was measured.
        spec: Of the cube.
        time: Label of the period; None for static layers.
        weight: What divides amounts; None for area.
    """

    quantity: Quantity
    spec: CubeSpec
    time: str | None
    weight: Weight | None

    @classmethod
    def of(
        cls,
        quantity: Quantity,
        *,
        time: str | None,
        weight: Named | None,
        weight_time: str | None,
    ) -> Self:
        url = quantity.coverage.url
        spec = read_spec(url)
        if weight is None and weight_time is not None:
            raise SpecError(f"weight_time={weight_time!r} needs weight=; give both or neither.")
        found = None
        if weight is not None:
            found = Weight.of(url, spec, weight, label=weight_time, default=time)
        return cls(quantity=quantity, spec=spec, time=time, weight=found)

    def prepare(
        self, layer: str, transform: Transform | None, *, overwrite: bool = False
    ) -> Filling:
        """A layer of values to fill."""
        dtype = self.spec.layer(layer).dtype
        if self.quantity.how == "extensive" and np.dtype(dtype).kind in "iu":
            raise SpecError(
                f"Spread over pixels, amounts become fractions, which {layer!r} ({dtype}) would "
                f"round away; give it dtype float32 or float64."
            )
        return self._prepared(layer, transform, overwrite=overwrite)

    def prepare_states(self, layer: str, *, beside: str, overwrite: bool = False) -> Filling:
        """A layer of states to fill, beside that of the values."""
        if layer == beside:
            raise SpecError(f"{layer!r} cannot hold values and states; give state_layer= another.")
        variable = self.spec.layer(layer)
        if variable.storage.kind not in "iu" or variable.packed:
            raise SpecError(
                f"A layer of states holds whole numbers, and {layer!r} is {variable.dtype}; give "
                f"it dtype int8 and classes=cube.labels.STATES."
            )
        return self._prepared(layer, States(), overwrite=overwrite)

    def _prepared(self, layer: str, transform: Transform | None, *, overwrite: bool) -> Filling:
        index = self.spec.time_of(layer, self.time)
        made = self.quantity.describe()
        if transform is not None:
            _check_transform(transform)
            made["transform"] = transform.describe()
        if self.weight is not None:
            if (self.weight.name, self.weight.time) == (layer, index):
                raise SpecError(f"{layer!r} cannot be its own weight; give another layer.")
            made |= {"weight": self.weight.describe(), "empty": self.quantity.empty}
        url = self.quantity.coverage.url
        return filling.prepare(
            f"label {layer}", url, self.spec, layer, {index: made}, overwrite=overwrite
        )

    def bytes_in(self, work: Filling) -> int:
        """Decoded bytes to read: labels of the coverage; weights for totals, and for pixels."""
        if not work.todo:
            return 0
        each = 0 if self.weight is None else self.weight.bytes_per_pixel
        pixels = work.count(work.todo)
        return pixels * (4 + each) + each * math.prod(self.spec.grid.shape)

    def peak_bytes(self, side: int) -> int:
        """Memory of one region: labels, weights, and float64 sums and their steps."""
        weight = 0 if self.weight is None else self.weight.bytes_per_pixel + 16
        return side**2 * (4 + 8 * 8 + weight)

    @property
    def reads(self) -> int:
        """Objects to read for a region."""
        units = math.ceil(self.spec.layout.region / self.spec.layout.unit) ** 2
        return units if self.weight is None else 2 * units

    def sample(self, transform: Transform | None) -> filling.Values:
        """What makes the values of a region, as far as time and memory go."""
        # The weights of polygons take a pass over the grid; any will do.
        weights = None if self.weight is None else self.quantity.coverage.pixels
        return self._pixels(self.quantity.spreading(weights), transform)

    def fill(
        self, works: list[tuple[Filling, Transform | None]], *, client: Client | None
    ) -> Report:
        """Fill layers one after the other; the report is that of the last."""
        weights, verb = None, self.quantity.lost
        if self.weight is not None and any(work.todo for work, _ in works):
            weights = self.weight.totals(self.quantity.coverage, client=client)
            by_area = len(self.quantity.unweighted(weights))
            verb += f" ({by_area} polygons by area)" if by_area else ""
        spreading = self.quantity.spreading(weights)
        reports = [
            filling.fill(
                replace(work, verb=work.verb + verb),
                self._pixels(spreading, transform),
                client=client,
            )
            for work, transform in works
        ]
        return reports[-1]

    def _pixels(self, spreading: Spreading, transform: Transform | None) -> filling.Values:
        return _Pixels(
            coverage=self.quantity.coverage,
            spreading=spreading,
            weight=self.weight,
            transform=transform,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pixels:
    """Makes the values of a region; what travels to workers."""

    coverage: Coverage
    spreading: Spreading
    weight: Weight | None
    transform: Transform | None

    def __call__(self, region: Region) -> FloatArray:
        shares = self.coverage.shares(region.rows, region.cols)
        weight = None if self.weight is None else self.weight.read(region)
        values = self.spreading.values(shares, weight)
        return values if self.transform is None else self.transform.forward(values)
