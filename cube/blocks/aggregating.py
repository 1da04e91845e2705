"""From pixels to polygons: statistics of layers in every polygon and period, as a panel."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from cube.blocks import panels
from cube.blocks.aggregation import Aggregation, Names, Request, Statistics
from cube.blocks.estimates import Options, Summed, columns
from cube.blocks.readings import Arrays, Job, Reading, Task, backward, check_positive, tasks
from cube.blocks.statistics import check_fits, parsed
from cube.blocks.summing import summed
from cube.blocks.tallies import Rasters, Totals, Wanted
from cube.coverage.handle import Coverage
from cube.errors import SpecError
from cube.plan import Plan, workers_of
from cube.run import run_tasks
from cube.spec import LayerSpec, StackSpec
from cube.threads import cores

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

FloatArray = npt.NDArray[np.floating[Any]]
Missing = Literal["refuse", "nodata"]


def aggregate(  # noqa: PLR0913  (what to sum, how, and who does it)
    coverage: Coverage,
    names: Names,
    *,
    times: str | Sequence[str] | None = None,
    statistics: Statistics = ("sum", "mean"),
    weights: str | None = None,
    errors: str | Mapping[str, str] | None = None,
    correlation_px: float = 0.0,
    transform: Any = None,
    conserve: bool = False,
    missing: Missing = "refuse",
    client: Client | None = None,
    workers: int | None = None,
) -> xr.Dataset:
    """Statistics of layers, or of the bands of stacks, in every polygon and period.

    A pixel counts with the share of it that lies in the polygon; nodata does not count. Sums are
    made tile by tile, in a fixed order: the same bits for any regions, chunks and workers.

    Args:
        coverage: Shares of the polygons.
        names: Layers or stacks of its cube; or a mapping from each to statistics of its own.
        times: Labels of periods, for those that vary with time; None for all.
        statistics: Of all of them: ``"sum"``, ``"mean"``, ``"min"``, ``"max"``, ``"variance"``,
            ``"std"`` (both of the population), ``"median"``, quantiles such as ``"q90"`` or
            :class:`cube.Quantile`, ``"weighted_sum"``, ``"weighted_mean"``, ``"standard_error"``
            (of the mean) and ``"count"`` (the sum of the shares of valid pixels); of layers of
            classes ``"class_shares"``, ``"majority"`` (of equal shares the greatest code) and
            ``"count"``.
            The formulas stand in :mod:`cube.blocks.statistics`.
        weights: A layer of the same cube, 0 or more, whose values weigh those of the same period
            (of every period, if it is static). Pixels whose weight is 0 or nodata do not count.
        errors: A variable of the standard deviations of pixels, as many bands as it has, for
            ``"standard_error"``, over the pixels that have one; with several names, a mapping of
            them.
        correlation_px: Distance in pixels over which neighbours' values or errors are alike; see
            :func:`cube.blocks.statistics.design_effect`.
        transform: A declared transform: pixels are taken through its inverse before they are
            summed, and statistics but counts through it after. A ``<variable>_state`` beside each
            says what has no value because its amount is zero.
        conserve: Divide each pixel among the polygons that it meets, in proportion to area, as if
            it lay in them wholly: the sum over polygons is the sum over the pixels that meet any.
        missing: ``"nodata"`` takes regions that were never written for nodata.
        client: A Dask client; None runs on local threads.
        workers: Local threads; by default one a core.

    Returns:
        A panel: dims ``block``, and ``time`` for what varies with it. Variables are named
        ``<layer>_<statistic>``, or ``<stack>_<band>_<statistic>``, or
        ``<layer>_<class>_share``; ``<layer>_valid_share`` says how much of the polygon's pixels
        holds a value, and ``covered_share`` how much of the polygon lies on the grid. float64, NaN
        where a polygon has no valid pixel, except that a count is 0 there; states are int64.

    Raises:
        SpecError: Names, periods, statistics or options do not exist or fit together.
        PolygonError: Weights or errors are negative, or the inverse of the transform is infinite.
        StoreError: Regions were never written, a chunk is damaged, or a pixel's class is none.
    """
    request = Request(
        names=names,
        times=times,
        statistics=statistics,
        weights=weights,
        errors=errors,
        correlation_px=correlation_px,
        transform=transform,
        conserve=conserve,
    )
    if missing not in get_args(Missing):
        raise SpecError(f"missing must be one of {get_args(Missing)}. Received {missing!r}.")
    work = Aggregation.of(coverage, request)
    if missing == "refuse":
        work.check_written()
    run = partial(run_tasks, verb=work.verb, url=coverage.url, client=client, workers=workers)
    return work.panel(run)


def plan_aggregate(  # noqa: PLR0913  (what to sum, and how)
    coverage: Coverage,
    names: Names,
    *,
    times: str | Sequence[str] | None = None,
    statistics: Statistics = ("sum", "mean"),
    weights: str | None = None,
    errors: str | Mapping[str, str] | None = None,
    transform: Any = None,
    workers: int | None = None,
) -> Plan:
    """Say what :func:`aggregate` will take; reads no pixel.

    Args:
        coverage: See :func:`aggregate`.
        names: See :func:`aggregate`.
        times: See :func:`aggregate`.
        statistics: See :func:`aggregate`.
        weights: See :func:`aggregate`.
        errors: See :func:`aggregate`.
        transform: See :func:`aggregate`; quantiles of what goes through one take more passes.
        workers: See :func:`aggregate`.

    Returns:
        A plan whose regions are boxes to read, and which writes nothing.

    Raises:
        SpecError: See :func:`aggregate`.
    """
    request = Request(
        names=names,
        times=times,
        statistics=statistics,
        weights=weights,
        errors=errors,
        transform=transform,
    )
    work = Aggregation.of(coverage, request)
    return Plan(
        verb=work.verb,
        regions=len(work.tasks),
        skipped=0,
        bytes_in=work.bytes_in(),
        bytes_out=0,
        peak_bytes=work.peak_bytes(),
        workers=workers_of(workers, coverage.url),
        cores=cores(),
    )


def aggregate_array(  # noqa: PLR0913  (what to sum, and how)
    coverage: Coverage,
    values: npt.NDArray[Any],
    *,
    name: str = "values",
    bands: Sequence[str] | None = None,
    statistics: Statistics = ("sum", "mean"),
    weights: npt.NDArray[Any] | None = None,
    errors: npt.NDArray[Any] | None = None,
    correlation_px: float = 0.0,
    transform: Any = None,
    conserve: bool = False,
) -> xr.Dataset:
    """Like :func:`aggregate`, of an array in memory, on threads of this process.

    Args:
        coverage: See :func:`aggregate`.
        values: Numbers of the whole grid, (y, x), or (band, y, x) with ``bands``; NaN = nodata.
        name: What variables are named after.
        bands: Names of the bands.
        statistics: See :func:`aggregate`; not those of classes.
        weights: Numbers (y, x), 0 or more; NaN counts as 0.
        errors: Standard deviations of the values, in their shape.
        correlation_px: See :func:`aggregate`.
        transform: See :func:`aggregate`.
        conserve: See :func:`aggregate`.

    Raises:
        SpecError: Shapes, statistics or options do not fit.
        PolygonError: See :func:`aggregate`.
    """
    variable = _described(name, bands)
    options = Options(
        statistics=parsed(statistics),
        weights=None if weights is None else "weights",
        errors=() if errors is None else ((name, "errors"),),
        correlation_px=correlation_px,
        transform=transform,
        conserve=conserve,
    )
    check_fits(options.statistics, variable)
    rasters = rasters_of(coverage, values, bands, weights=weights, errors=errors)
    rasters = Rasters(
        values=backward(transform, rasters.values), weights=rasters.weights, errors=rasters.errors
    )
    size, totals = array_totals(
        coverage,
        rasters,
        Wanted.of(options.statistics, errors=bool(options.errors)),
        conserve=conserve,
    )
    found = Summed(variable=variable, totals=totals, size=size)
    attrs = panels.origin(coverage, options.describe())
    return panels.panel(coverage, columns(found, options), attrs)


def array_totals(
    coverage: Coverage, rasters: Rasters, wanted: Wanted, *, conserve: bool = False
) -> tuple[npt.NDArray[np.float64], Totals]:
    """Sums of shares, and the totals of rasters of the whole grid."""
    reading = Reading(name="", time=None, bands=len(rasters.values), wanted=wanted)
    job = Job(
        coverage=coverage, source=Arrays(rasters=rasters), readings=(reading,), conserve=conserve
    )
    size, (totals,) = summed(job, tasks(coverage), _on_threads)
    return size, totals


def _on_threads(
    function: Callable[[Task], Any], tasks: Sequence[Task]
) -> Iterator[tuple[Task, Any]]:
    """Do tasks on a thread a core; what they raise is raised."""
    yield from zip(tasks, _pool(os.getpid()).map(function, tasks), strict=True)


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads that stay, since starting them takes as long as a few tiles; a fork has none."""
    del process
    return ThreadPoolExecutor(cores(), thread_name_prefix="quadrat-blocks")


def _described(name: str, bands: Sequence[str] | None) -> StackSpec | LayerSpec:
    if bands is None:
        return LayerSpec(name=name, dtype="float64", static=True)
    return StackSpec(name=name, dtype="float64", static=True, bands=tuple(bands))


def rasters_of(
    coverage: Coverage,
    values: npt.NDArray[Any],
    bands: Sequence[str] | None,
    *,
    weights: npt.NDArray[Any] | None = None,
    errors: npt.NDArray[Any] | None = None,
) -> Rasters:
    """Arrays of the whole grid, checked.

    Raises:
        SpecError: They have another shape, or hold no numbers.
        PolygonError: Weights or errors are negative or infinite.
    """
    grid = tuple(int(n) for n in coverage.grid.shape)
    shape = grid if bands is None else (len(bands), *grid)
    for what, given, wanted in (
        ("values", values, shape),
        ("weights", weights, grid),
        ("errors", errors, shape),
    ):
        if given is not None and np.shape(given) != wanted:
            raise SpecError(f"{what} must have the shape {wanted}. Received {np.shape(given)}.")
    found = Rasters(
        values=_floats(values, "values").reshape(-1, *grid),
        weights=None if weights is None else _floats(weights, "weights"),
        errors=None if errors is None else _floats(errors, "errors").reshape(-1, *grid),
    )
    for what, given in (("weights", found.weights), ("errors", found.errors)):
        if given is not None:
            check_positive(given, what)
    return found


def _floats(values: npt.NDArray[Any], what: str) -> FloatArray:
    """As float32 or float64, without a copy where it is."""
    values = np.asarray(values)
    if values.dtype.kind not in "fiub":
        raise SpecError(f"{what} must be an array of numbers. Received one of {values.dtype}.")
    kept = values.dtype in (np.float32, np.float64) and values.dtype.isnative
    return np.ascontiguousarray(values, dtype=values.dtype if kept else "float64")
