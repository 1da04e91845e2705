"""From polygons to pixels: what people measured becomes a layer of the cube."""

from __future__ import annotations

import hashlib
import math
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from cube import filling
from cube.coverage import Coverage
from cube.errors import PolygonError, SpecError
from cube.filling import Filling
from cube.plan import Plan
from cube.regions import Region
from cube.report import Report
from cube.spec import CubeSpec
from cube.template import read_spec

if TYPE_CHECKING:
    from distributed import Client

How = Literal["extensive", "intensive"]


def plan_spread(  # noqa: PLR0913  (what to spread, and who does it)
    coverage: Coverage,
    layer: str,
    values: npt.ArrayLike,
    *,
    time: str | None = None,
    how: How = "extensive",
    client: Client | None = None,
    calibrate: bool = False,
) -> Plan:
    """Say what :func:`spread` will take; writes nothing.

    Args:
        coverage: See :func:`spread`.
        layer: See :func:`spread`.
        values: See :func:`spread`.
        time: See :func:`spread`.
        how: See :func:`spread`.
        client: See :func:`spread`.
        calibrate: Do one region in memory, to estimate time and bytes.

    Raises:
        PolygonError: See :func:`spread`.
        SpecError: See :func:`spread`; or the memory that is free does not suffice.
        StoreError: The disk has less room than a sample lets expect.
    """
    work, fill = _prepared(coverage, layer, values, time=time, how=how, overwrite=False)
    return filling.plan(
        work,
        bytes_in=work.count(work.todo) * 4,
        peak=_peak_bytes,
        client=client,
        reads=math.ceil(work.spec.layout.region / work.spec.layout.unit) ** 2,
        values=fill if calibrate else None,
    )


def _peak_bytes(side: int) -> int:
    """Memory that spreading over one region takes: labels, and float64 sums and their steps."""
    return side**2 * (4 + 8 * 8)


def spread(  # noqa: PLR0913  (what to spread, and who does it)
    coverage: Coverage,
    layer: str,
    values: npt.ArrayLike,
    *,
    time: str | None = None,
    how: How = "extensive",
    overwrite: bool = False,
    client: Client | None = None,
) -> Report:
    """Write what polygons hold as a layer of pixels, by areal interpolation.

    Args:
        coverage: Shares of the polygons, of the cube to write to.
        layer: A layer of that cube.
        values: One number per polygon; NaN where nothing is known.
        time: Label of the period; None for a static layer.
        how: ``"extensive"`` for amounts such as persons: each polygon's amount
            is divided among its pixels by area, and the sum over pixels is the
            sum over polygons of amount x share of the polygon on the grid.
            ``"intensive"`` for densities and rates: a pixel gets the mean of
            its polygons, weighted by area.
        overwrite: Replace what was spread before, also from other values or polygons.
        client: A Dask client; None runs on local threads.

    Returns:
        What was done. Pixels outside all polygons become nodata.

    Raises:
        PolygonError: ``values`` does not fit the polygons, or is infinite.
        SpecError: There is no such layer or period, or amounts were to be
            spread over a layer of whole numbers.
    """
    work, fill = _prepared(coverage, layer, values, time=time, how=how, overwrite=overwrite)
    return filling.fill(work, fill, client=client)


def _prepared(
    coverage: Coverage,
    layer: str,
    values: npt.ArrayLike,
    *,
    time: str | None,
    how: How,
    overwrite: bool,
) -> tuple[Filling, filling.Values]:
    amounts = _checked(coverage, values)
    spec = read_spec(coverage.url)
    _check_how(spec, layer, how)
    inputs = {spec.time_of(spec.layer(layer).name, time): _describe(coverage, amounts, how)}
    work = filling.prepare(f"label {layer}", coverage.url, spec, layer, inputs, overwrite=overwrite)
    return work, partial(_values, coverage=coverage, amounts=amounts, how=how)


def _checked(coverage: Coverage, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    try:
        # A Series of pandas may say "unknown" in a way of its own.
        amounts = (
            values.to_numpy("float64", na_value=math.nan)
            if isinstance(values, pd.Series)
            else np.asarray(values, dtype="float64")
        )
    except (TypeError, ValueError) as error:
        raise PolygonError(f"Values of polygons must be numbers: {error}.") from error
    if amounts.shape != (coverage.polygons,):
        raise PolygonError(
            f"One value per polygon was expected, {coverage.polygons}. "
            f"Received shape {amounts.shape}."
        )
    if np.isinf(amounts).any():
        raise PolygonError("Values of polygons must be finite, or NaN where nothing is known.")
    lost = (coverage.pixels == 0) & (coverage.covered_share > 0) & np.isfinite(amounts)
    if lost.any():
        raise PolygonError(
            f"{int(lost.sum())} polygons are too small to meet any pixel, the first in row "
            f"{int(np.flatnonzero(lost)[0])}. Merge them with a neighbour, or give them NaN."
        )
    return amounts


def _check_how(spec: CubeSpec, layer: str, how: str) -> None:
    if how not in get_args(How):
        raise SpecError(f"how must be one of {', '.join(get_args(How))}. Received {how!r}.")
    if how == "extensive" and spec.layer(layer).storage.kind in "iu":
        raise SpecError(
            f"Spread over pixels, amounts become fractions, which {layer!r} "
            f"({spec.layer(layer).dtype}) would round away; give it dtype float32 or float64."
        )


def _describe(coverage: Coverage, amounts: npt.NDArray[np.float64], how: How) -> dict[str, Any]:
    content = hashlib.sha256(amounts.astype("<f8").tobytes()).hexdigest()[:12]
    return {"polygons": coverage.digest, "values": content, "how": how}


def _values(
    region: Region, *, coverage: Coverage, amounts: npt.NDArray[np.float64], how: How
) -> npt.NDArray[np.float64]:
    return region_values(coverage, region, amounts, how=how)


def region_values(
    coverage: Coverage, region: Region, amounts: npt.NDArray[np.float64], *, how: How
) -> npt.NDArray[np.float64]:
    """Pixel values of one region, float64 (y, x), NaN outside all known polygons."""
    shares = coverage.shares(region.rows, region.cols)
    known = np.isfinite(amounts).astype("float64")
    covered = shares.spread(known)
    if how == "extensive":
        # Dividing by the sum of shares, not by area, conserves the total to the last digit.
        pixels = coverage.pixels
        per_pixel = np.divide(
            np.nan_to_num(amounts) * coverage.covered_share,
            pixels,
            out=np.zeros_like(amounts),
            where=pixels > 0,
        )
        values = shares.spread(per_pixel)
    else:
        values = shares.spread(np.nan_to_num(amounts))
        np.divide(values, covered, out=values, where=covered > 0)
    return np.where(covered > 0, values, np.nan)
