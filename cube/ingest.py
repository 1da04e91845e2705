"""Filling a stack or a layer from sources: plan, then run region by region."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from cube import filling, provenance, urls
from cube.classes.arithmetic import check_codes
from cube.errors import SourceError, SpecError
from cube.filling import Filling, FillingPlan
from cube.nodata import decoded_dtype
from cube.regions import Region
from cube.report import Report
from cube.scenes import Source, needs_of, units_of
from cube.spec import CubeSpec, LayerSpec
from cube.template import read_spec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from distributed import Client
    from odc.geo.geobox import GeoBox

TASK_BYTES = 20_000_000
"""What a task takes however small it is: threads, and its share of GDAL's cache."""

Sources = Source | Mapping[str, Source]


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestPlan(FillingPlan):
    """What :func:`ingest` will do.

    Attributes:
        sources: Calendar index (None for static variables) and source.
    """

    sources: tuple[tuple[int | None, Source], ...]


def plan_ingest(  # noqa: PLR0913  (what to fill, and who does it)
    url: str | os.PathLike[str],
    name: str,
    sources: Sources,
    *,
    regions: Iterable[Region] | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    client: Client | None = None,
    calibrate: bool = False,
) -> IngestPlan:
    """Say what filling a variable will take; writes nothing.

    Args:
        url: The cube.
        name: A stack or layer.
        sources: For a variable with time, a mapping from period label to
            source; for a static one, the source itself.
        regions: Only these; None for all.
        overwrite: See :func:`ingest`.
        workers: Local threads; by default the number of cores, and more where a
            cube in an object store makes them wait.
        client: A Dask client; None runs on local threads.
        calibrate: Read, warp, pack and compress one region in memory, to
            estimate time and bytes after compression. Otherwise no pixels are read.

    Raises:
        SpecError: Variable, period or band names do not fit; or the memory that
            is free does not suffice.
        SourceError: A source cannot fill this grid, or the variable was
            already begun from other sources.
        RegionError: One of ``regions`` is no region of the cube.
        StoreError: The disk has less room than a sample lets expect.
    """
    url = urls.normalise(url)
    spec = read_spec(url)
    placed = _placed(spec, name, sources)
    for _, source in placed:
        _check_bands(spec, name, source)
        source.check(spec.grid)
    _check_units(url, spec, name, placed)
    work = filling.prepare(
        f"ingest {name}",
        url,
        spec,
        name,
        {time: _inputs(source) for time, source in placed},
        only=regions,
        overwrite=overwrite,
    )
    takes = _Takes.of(work, dict(placed))
    summary = filling.plan(
        work,
        bytes_in=takes.read_bytes,
        opens=takes.opens,
        peak=lambda side: _peak_bytes(work, side) + takes.beside(side),
        workers=workers,
        client=client,
        values=_reader(work, placed) if calibrate else None,
    )
    return IngestPlan(filling=work, sources=placed, summary=summary)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Takes:
    """What the sources of a filling take, as far as they say.

    Attributes:
        read_bytes: Decoded bytes to read.
        opens: Files to open.
        worst: The region that takes most memory, with its source.
        grid: The cube's.
    """

    read_bytes: int
    opens: int
    worst: tuple[Region, Source] | None
    grid: GeoBox

    @classmethod
    def of(cls, work: Filling, sources: Mapping[int | None, Source]) -> _Takes:
        grid, itemsize = work.spec.grid, decoded_dtype(work.variable).itemsize
        read_bytes, opens, most, worst = 0, 0, -1, None
        for region in work.todo:
            source = sources[region.time]
            needs = needs_of(source, grid, region.rows, region.cols)
            if needs is None:
                read_bytes += work.count([region]) * itemsize
                continue
            read_bytes, opens = read_bytes + needs.read_bytes, opens + needs.opens
            if needs.peak_bytes > most:
                most, worst = needs.peak_bytes, (region, source)
        return cls(read_bytes=read_bytes, opens=opens, worst=worst, grid=grid)

    def beside(self, side: int) -> int:
        """Memory that a source takes at most beside its values, in a region of that side."""
        if self.worst is None:
            return 0
        region, source = self.worst
        rows, cols = (
            (start, min(stop, start + side)) for start, stop in (region.rows, region.cols)
        )
        needs = needs_of(source, self.grid, rows, cols)
        return needs.peak_bytes if needs else 0


def _check_units(
    url: str, spec: CubeSpec, name: str, placed: tuple[tuple[int | None, Source], ...]
) -> None:
    """Refuse a band whose numbers would mean one thing at one time and another at another."""
    known: dict[str, tuple[str, str]] = {}
    labels = {time: "static" if time is None else spec.calendar[time].label for time, _ in placed}
    said = [
        (label, made["from"]["units"])
        for label, made in provenance.inputs_of(url, name).items()
        if "units" in made["from"] and label not in labels.values()
    ]
    said += [(labels[time], _units(source)) for time, source in placed]
    for label, units in said:
        for band, unit in units.items():
            before, when = known.setdefault(band, (unit, label))
            if unit != before:
                raise SourceError(
                    f"{name!r}: band {band!r} is in {before!r} at {when} and in {unit!r} at "
                    f"{label}. Numbers of two units are two bands; give them two names."
                )


def _units(source: Source) -> dict[str, str]:
    """Units by band, of the bands that have some."""
    return {band: unit for band, unit in zip(source.bands, units_of(source), strict=True) if unit}


def _inputs(source: Source) -> dict[str, Any]:
    """What is recorded of a source."""
    units = _units(source)
    return dict(source.describe()) | ({"units": units} if units else {})


def _peak_bytes(work: Filling, side: int) -> int:
    """Memory that filling one region of that side takes."""
    decoded = decoded_dtype(work.variable).itemsize
    # Beside the values a reader has blocks of its file and of the warped raster, and single bands.
    a_value = 3 * decoded + max(decoded + _packing_bytes(work), _writing_bytes(work))
    return TASK_BYTES + side**2 * work.depth * a_value


def _packing_bytes(work: Filling) -> int:
    """Bytes that packing takes for a value: a flag, and three float64 steps of a number."""
    stored = work.variable.storage
    return 1 + (stored.itemsize if stored.kind == "f" else 3 * 8)


def _writing_bytes(work: Filling) -> int:
    """Bytes that writing takes for a value: chunks of a region are encoded all at once.

    These are the stored value, a copy of its chunk and the compressed one; and
    another copy of floats, with one bit pattern of NaN.
    """
    stored = work.variable.storage
    return 3 * stored.itemsize + (stored.itemsize + 1 if stored.kind == "f" else 0)


def ingest(  # noqa: PLR0913  (what to fill, and who does it)
    url: str | os.PathLike[str],
    name: str,
    sources: Sources,
    *,
    regions: Iterable[Region] | None = None,
    overwrite: bool = False,
    client: Client | None = None,
    workers: int | None = None,
) -> Report:
    """Fill a variable from sources; run it again to do only what is missing.

    Args:
        url: The cube.
        name: A stack or layer.
        sources: See :func:`plan_ingest`.
        regions: Only these; None for all.
        overwrite: Do regions again that are written already, on purpose. Other
            sources than before are then welcome if ``regions`` is None; no
            other run may be at work on these periods.
        client: A Dask client; None runs on local threads.
        workers: See :func:`plan_ingest`.

    Returns:
        What was done and what was skipped; it is also kept beside the cube, see
        :func:`cube.report.reports`.

    Raises:
        IncompleteError: A region failed; the others are written.
        StoreError: The store refused, as with a full disk.
        ClusterError: The Dask cluster is gone.
        KeyboardInterrupt: With a message that says how far it came.
    """
    plan = plan_ingest(
        url,
        name,
        sources,
        regions=regions,
        overwrite=overwrite,
        workers=workers,
        client=client,
    )
    read = _reader(plan.filling, plan.sources)
    threads = plan.summary.workers if client is None else None
    return filling.fill(plan.filling, read, client=client, workers=threads)


def _reader(work: Filling, sources: tuple[tuple[int | None, Source], ...]) -> filling.Values:
    flat = not work.variable.inner_dims
    return partial(_read, sources=dict(sources), spec=work.spec, flat=flat)


def _read(
    region: Region, *, sources: Mapping[int | None, Source], spec: CubeSpec, flat: bool
) -> npt.NDArray[np.floating[Any]]:
    values = sources[region.time].read(spec.grid, region.rows, region.cols)
    return values[0] if flat else values


def _placed(spec: CubeSpec, name: str, sources: Sources) -> tuple[tuple[int | None, Source], ...]:
    static = spec.variable(name).static
    if isinstance(sources, Mapping):
        if static:
            raise SpecError(f"{name!r} has no time dimension; give one source, not a mapping.")
        return tuple((spec.time_index(label), source) for label, source in sources.items())
    if not static:
        labels = ", ".join(period.label for period in spec.calendar)
        raise SpecError(
            f"{name!r} varies with time; give a mapping from period label ({labels}) to source."
        )
    return ((None, sources),)


def _check_bands(spec: CubeSpec, name: str, source: Source) -> None:
    variable: Any = spec.variable(name)
    wanted = getattr(variable, "bands", None)
    if wanted is None and len(source.bands) != 1:
        raise SourceError(
            f"Layer {name!r} takes a source of one band. It gives {', '.join(source.bands)}."
        )
    if isinstance(variable, LayerSpec):
        check_codes(source, variable)
    if wanted is not None and tuple(source.bands) != tuple(wanted):
        raise SourceError(
            f"Stack {name!r} holds the bands {', '.join(wanted)}, in this order. "
            f"The source gives {', '.join(source.bands)}."
        )
