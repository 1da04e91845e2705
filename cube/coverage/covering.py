"""Computing a coverage: polygons in, tiles of shares out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt
import shapely

from cube import template
from cube.coverage import entries
from cube.coverage.entries import Layout
from cube.coverage.outlines import Outlines
from cube.coverage.shares import Shares
from cube.errors import CubeError, PolygonError
from cube.polygons import report as polygon_report
from cube.polygons.ids import text_ids
from cube.polygons.reading import PolygonsDigest, check_polygons
from cube.polygons.report import PolygonReport
from cube.regions import Region, tiles
from cube.run import run_tasks
from cube.spec import CubeSpec, crs_text

if TYPE_CHECKING:
    import geopandas as gpd
    from distributed import Client

OVERLAP = 0.01
"""Polygons overlap where they claim this share of a pixel more than it has; less is what vertices
on the edge of a neighbour, but on no vertex of it, come to when a CRS changes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolygonSet:
    """Polygons as numbers, with what is known of them.

    Attributes:
        outlines: In pixels of the grid.
        digest: Of the geometries.
        ids: Text, object (polygon,); None if they have none.
        report: How they were found to be.
        area: In square units of the grid's CRS, float64 (polygon,).
        covered_share: Share of each area that lies on the grid, float64 (polygon,).
    """

    outlines: Outlines
    digest: str
    ids: npt.NDArray[Any] | None
    report: PolygonReport
    area: npt.NDArray[np.float64]
    covered_share: npt.NDArray[np.float64]

    @classmethod
    def of(
        cls, frames: Iterable[gpd.GeoDataFrame], spec: CubeSpec, *, id: str | None
    ) -> PolygonSet:
        """Take polygons in, frame by frame.

        Raises:
            PolygonError: See :func:`cube.coverage.build`.
        """
        digest, parts = PolygonsDigest(), list[_Part]()
        for frame in frames:
            parts.append(_Part.of(frame, spec, id))
            digest.add(frame)
        if not parts:
            raise PolygonError("There are no polygons.")
        outlines = Outlines.joined(part.outlines for part in parts)
        _check_meets(outlines, spec)
        ids = None if id is None else np.concatenate([part.ids for part in parts])
        return cls(
            outlines=outlines,
            digest=digest.text,
            ids=None if ids is None else text_ids(ids, "polygons").to_numpy(object),
            report=_added(parts),
            area=np.concatenate([part.area for part in parts]),
            covered_share=np.concatenate([part.covered_share for part in parts]),
        )

    def attrs(self, **found: Any) -> dict[str, Any]:
        """Attributes that a coverage keeps.

        Args:
            **found: What is known only once the shares are.
        """
        report = replace(self.report, **found)
        return {"polygons": len(self.outlines), "polygon_report": report.to_dict()}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    """One frame of polygons; see :class:`PolygonSet`."""

    outlines: Outlines
    ids: npt.NDArray[Any]
    report: PolygonReport
    area: npt.NDArray[np.float64]
    covered_share: npt.NDArray[np.float64]

    @classmethod
    def of(cls, frame: gpd.GeoDataFrame, spec: CubeSpec, id: str | None) -> _Part:
        _check(frame, spec)
        area, covered_share = _areas(frame, spec)
        return cls(
            outlines=Outlines.of(frame.geometry.to_numpy(), spec.grid),
            ids=_ids(frame, id),
            report=polygon_report.of(frame) or PolygonReport(polygons=len(frame)),
            area=area,
            covered_share=covered_share,
        )


def _added(parts: Sequence[_Part]) -> PolygonReport:
    """The report of a set from those of its parts."""
    totals: dict[str, Any] = {}
    for field in fields(PolygonReport):
        known = [v for v in (getattr(p.report, field.name) for p in parts) if v is not None]
        totals[field.name] = sum(known) if known else None
    area = np.array([part.area.sum() for part in parts])
    shares = np.array([part.report.repaired_area_share for part in parts])
    return PolygonReport(**{**totals, "repaired_area_share": float(area @ shares / area.sum())})


def _check(polygons: gpd.GeoDataFrame, spec: CubeSpec) -> None:
    check_polygons(polygons)
    if polygons.crs is None or polygons.crs != spec.grid.crs.proj:  # type: ignore[union-attr]
        raise PolygonError(
            f"The polygons must be in the CRS of the grid, {crs_text(spec.grid)}. Received "
            f"{polygons.crs}; read them with cube.read_polygons, or use GeoDataFrame.to_crs."
        )


def _check_meets(outlines: Outlines, spec: CubeSpec) -> None:
    height, width = (int(n) for n in spec.grid.shape)
    if not len(outlines.meeting((0, height), (0, width))):
        low, high = outlines.bounds[:, :2].min(axis=0), outlines.bounds[:, 2:].max(axis=0)
        raise PolygonError(
            f"None of the {len(outlines)} polygons meets the grid. They cover columns "
            f"{low[0]:.6g} to {high[0]:.6g} and rows {low[1]:.6g} to {high[1]:.6g} of its pixels; "
            f"the grid has {width} and {height}. Check the CRS."
        )


def _ids(frame: gpd.GeoDataFrame, id: str | None) -> npt.NDArray[Any]:
    """Ids as text; whole numbers may stand for it."""
    if id is None:
        return np.zeros(0, object)
    if id not in frame:
        raise PolygonError(
            f"There is no column {id!r}. There are: {', '.join(map(str, frame.columns))}."
        )
    column = frame[id]
    whole = column.dtype.kind in "iu"
    return column.astype("str").to_numpy(object) if whole else column.to_numpy(object)


def _areas(
    polygons: gpd.GeoDataFrame, spec: CubeSpec
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Area of each polygon, and the share of it that lies on the grid."""
    shapes = polygons.geometry.to_numpy()
    area = shapely.area(shapes)
    box = shapely.box(*spec.grid.boundingbox.bbox)
    inside = shapely.covered_by(shapes, box)
    on_grid = np.where(inside, area, 0.0)
    on_grid[~inside] = shapely.area(shapely.intersection(shapes[~inside], box))
    return area, on_grid / area


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Task:
    """One tile, and the polygons that may meet it."""

    tile: Region
    members: npt.NDArray[np.int32]
    outlines: Outlines

    def __str__(self) -> str:
        return f"tile, {self.tile}"


class _Tasks(Sequence[_Task]):
    """Tasks of all tiles, each made when it is its turn."""

    def __init__(self, outlines: Outlines, layout: Layout) -> None:
        self.outlines, self.side = outlines, layout.side
        self.tiles = list(tiles(layout.shape, layout.side))

    def __len__(self) -> int:
        return len(self.tiles)

    @overload
    def __getitem__(self, index: int) -> _Task: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[_Task]: ...
    def __getitem__(self, index: int | slice) -> _Task | Sequence[_Task]:
        return list(self)[index]

    def __iter__(self) -> Iterator[_Task]:
        near = self.outlines.by_tile(self.tiles, self.side)
        for tile, members in zip(self.tiles, near, strict=True):
            yield _Task(tile=tile, members=members, outlines=self.outlines.take(members))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Found:
    """What is known of a tile once it is written.

    Attributes:
        count: Entries in its lists.
        members: Polygons that meet it.
        pixels: Sum of the shares of each, float64 (member,).
        overlapping: Those that claim pixels together.
        overlap_px: What they claim too much.
    """

    count: int
    members: npt.NDArray[np.int32]
    pixels: npt.NDArray[np.float64]
    overlapping: npt.NDArray[np.int32]
    overlap_px: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cover:
    """Computes and writes one tile; what travels to workers."""

    place: str
    layout: Layout

    def __call__(self, task: _Task) -> _Found:
        local = task.outlines.shares(task.tile.rows, task.tile.cols)
        shares = _numbered(local, task.members)
        entries.write_tile(self.place, self.layout, task.tile, shares)
        members, sums = shares.collect(np.ones((1, *task.tile.shape)))
        overlapping, overlap_px = _overlaps(shares)
        return _Found(
            count=len(shares.share),
            members=members,
            pixels=sums[0],
            overlapping=overlapping,
            overlap_px=overlap_px,
        )


def _numbered(shares: Shares, members: npt.NDArray[np.int32]) -> Shares:
    """Shares of some polygons with their numbers among all."""
    # One more, so that -1 stays what it is.
    numbers = np.append(members, np.int32(-1))
    return replace(shares, label=numbers[shares.label], polygon=numbers[shares.polygon])


def _overlaps(shares: Shares) -> tuple[npt.NDArray[np.int32], float]:
    """Polygons that claim more of a pixel than there is, and how much that is in all."""
    claimed = np.bincount(shares.pixel, shares.share, shares.label.size)
    excess = np.where(claimed > 1 + OVERLAP, claimed - 1, 0.0)
    crowded = excess[shares.pixel] > 0
    return np.unique(shares.polygon[crowded]), float(excess.sum())


def cover(place: str, layout: Layout, found: PolygonSet, *, client: Client | None = None) -> None:
    """Compute all tiles of a coverage, and write it; it becomes visible at the end.

    Args:
        place: A cube, or an annex of one.
        layout: Where in it.
        found: The polygons.
        client: A Dask client; None runs on local threads.
    """
    path, like = layout.path, {"polygons_digest": layout.digest}
    template.put_arrays(place, layout.plans(found.attrs()), replacing=path, like=like)
    done: dict[tuple[int, int], _Found] = {}
    tasks = _Tasks(found.outlines, layout)
    work = _Cover(place=place, layout=layout)
    for task, result in run_tasks(work, tasks, verb="coverage", url=place, client=client):
        if isinstance(result, CubeError):
            raise result
        done[layout.index(task.tile)] = result
    parts = [done[index] for index in sorted(done)]
    attrs = found.attrs(
        overlapping=len(np.unique(np.concatenate([p.overlapping for p in parts]))),
        overlap_px=float(sum(p.overlap_px for p in parts)),
    )
    plans = layout.plans(attrs, most=max(p.count for p in parts), complete=True)
    tables = layout.tables(_tables(found, layout, parts))
    template.put_arrays(place, [*plans, *tables], replacing=path, like=like)


def _tables(
    found: PolygonSet, layout: Layout, parts: Sequence[_Found]
) -> dict[str, npt.NDArray[Any]]:
    pixels = np.zeros(len(found.outlines))
    for part in parts:
        pixels[part.members] += part.pixels
    tables: dict[str, npt.NDArray[Any]] = {
        "count": np.array([part.count for part in parts], "int32").reshape(layout.tiles),
        "pixels": pixels,
        "area": found.area,
        "covered_share": found.covered_share,
    }
    return tables if found.ids is None else {**tables, "id": found.ids}
