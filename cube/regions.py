"""Regions: the unit of a task, a write, the ledger and a resume.

Plain arithmetic on half-open pixel ranges; nothing here reads or writes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from cube.errors import RegionError
from cube.spec import CubeSpec


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Region:
    """Whole shards of one variable at one time.

    Attributes:
        time: Index in the calendar; None for static variables.
        rows: Half-open pixel range along y.
        cols: Half-open pixel range along x.
    """

    time: int | None
    rows: tuple[int, int]
    cols: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels along (y, x)."""
        return self.rows[1] - self.rows[0], self.cols[1] - self.cols[0]

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index along (y, x)."""
        return slice(*self.rows), slice(*self.cols)

    def __str__(self) -> str:
        when = "" if self.time is None else f"time {self.time}, "
        return f"{when}rows {self.rows[0]}:{self.rows[1]}, cols {self.cols[0]}:{self.cols[1]}"


def ranges(length: int, step: int) -> list[tuple[int, int]]:
    """Half-open ranges of ``step`` that cover ``length``; the last may be shorter."""
    return [(start, min(start + step, length)) for start in range(0, length, step)]


def region_counts(spec: CubeSpec) -> tuple[int, int]:
    """Number of regions along (y, x)."""
    height, width = spec.grid.shape
    return math.ceil(height / spec.layout.region), math.ceil(width / spec.layout.region)


def tiles(shape: tuple[int, int], side: int, *, time: int | None = None) -> Iterator[Region]:
    """Squares that cover (y, x) in row-major order; those at the end may be smaller."""
    for rows in ranges(shape[0], side):
        for cols in ranges(shape[1], side):
            yield Region(time=time, rows=rows, cols=cols)


def regions(spec: CubeSpec, name: str, *, time: int | None = None) -> Iterator[Region]:
    """All regions of a variable at one time, row-major.

    Args:
        spec: The cube.
        name: A stack or layer.
        time: Index in the calendar; None for static variables.
    """
    height, width = spec.grid.shape
    yield from tiles((height, width), spec.layout.region, time=_checked_time(spec, name, time))


def ledger_index(spec: CubeSpec, region: Region) -> tuple[int, ...]:
    """Where the ledger keeps this region: (time, region_y, region_x), or without time."""
    step = spec.layout.region
    place = (region.rows[0] // step, region.cols[0] // step)
    return place if region.time is None else (region.time, *place)


def check_region(spec: CubeSpec, name: str, region: Region) -> None:
    """Refuse a region that is not exactly one of :func:`regions`.

    Raises:
        RegionError: It leaves the cube or cuts a region; the message names the
            nearest legal one.
    """
    _checked_time(spec, name, region.time)
    for axis, span, length in zip("yx", (region.rows, region.cols), spec.grid.shape, strict=True):
        check_aligned(span, step=spec.layout.region, length=int(length), axis=axis)


def check_box(spec: CubeSpec, name: str, box: Region) -> None:
    """Refuse a pixel box that is empty or reaches beyond the cube.

    Raises:
        RegionError: The message names the size of the cube.
    """
    _checked_time(spec, name, box.time)
    height, width = spec.grid.shape
    for axis, (start, stop), length in (("y", box.rows, height), ("x", box.cols, width)):
        if not 0 <= start < stop <= length:
            raise RegionError(
                f"A box of pixels must lie in the cube. Along {axis!r} it has {length} pixels. "
                f"Received {start}:{stop}."
            )


def check_aligned(span: tuple[int, int], *, step: int, length: int, axis: str) -> None:
    """Refuse a range that is not one whole step (or the shorter last one).

    Raises:
        RegionError: The message names the nearest legal range.
    """
    start = min(max(round(span[0] / step), 0), math.ceil(length / step) - 1) * step
    legal = (start, min(start + step, length))
    if tuple(span) != legal:
        raise RegionError(
            f"A region is written whole. Along {axis!r} regions have {step} pixels of {length}. "
            f"Received {span[0]}:{span[1]}. Write {legal[0]}:{legal[1]}."
        )


def _checked_time(spec: CubeSpec, name: str, time: int | None) -> int | None:
    static = spec.variable(name).static
    if static and time is not None:
        raise RegionError(f"{name!r} has no time dimension; leave the time out.")
    if not static and (time is None or not 0 <= time < len(spec.calendar)):
        raise RegionError(
            f"{name!r} needs a time index from 0 to {len(spec.calendar) - 1}. Received {time}."
        )
    return time
