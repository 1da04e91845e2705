"""Computing a coverage: polygons in, tiles of shares out."""

from __future__ import annotations

import hashlib
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
from cube.polygons.columns import ids_as_text
from cube.polygons.files import check_frame
from cube.polygons.found import off_grid
from cube.polygons.ids import column_of, text_ids
from cube.polygons.reading import PolygonsDigest, check_polygons
from cube.polygons.report import PolygonReport
from cube.regions import Region, tiles
from cube.run import run_tasks
from cube.spec import CubeSpec, crs_text

if TYPE_CHECKING:
    import geopandas as gpd
    from distributed import Client

OVERLAP = 0.01
"""Polygons overlap where together they claim more than a whole pixel by more than this share.

Less comes of a change of CRS, where a vertex of one lies on an edge of its neighbour and on none of
the neighbour's vertices."""

_TOUCHING = 1e-9
"""Of a polygon that only touches the grid less than this share lies on it, by rounding."""


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
            report=_added(parts, digest.duplicates),
            area=np.concatenate([part.area for part in parts]),
            covered_share=np.concatenate([part.covered_share for part in parts]),
        )

    def attrs(self, **found: Any) -> dict[str, Any]:
        """Attributes that a coverage keeps.

        Args:
            **found: What is known only once the shares are.
        """
        report = replace(self.report, **found)
        return {
            "polygons": len(self.outlines),
            "ids_digest": self.ids_digest,
            "polygon_report": report.to_dict(),
        }

    @property
    def ids_digest(self) -> str | None:
        """First 12 hex digits of the SHA-256 of the ids, in order; None if they have none."""
        if self.ids is None:
            return None
        return hashlib.sha256("\0".join(self.ids).encode()).hexdigest()[:12]


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
            ids=np.zeros(0, object) if id is None else ids_as_text(column_of(frame, id)),
            report=_report(frame, spec),
            area=area,
            covered_share=covered_share,
        )


def _report(frame: gpd.GeoDataFrame, spec: CubeSpec) -> PolygonReport:
    """What the frame tells of its past, and what is seen of it now: it may have been changed."""
    shapes = frame.geometry.to_numpy()
    partly, outside = off_grid(shapes, spec.grid)
    pixel = abs(spec.grid.transform.a * spec.grid.transform.e)
    return replace(
        polygon_report.of(frame) or PolygonReport(polygons=0),
        polygons=len(frame),
        below_pixel=int((shapely.area(shapes) < pixel).sum()),
        partly_outside=int(partly.sum()),
        outside=int(outside.sum()),
    )


def _added(parts: Sequence[_Part], duplicates: int) -> PolygonReport:
    """The report of a set from those of its parts, with the duplicates that are still there."""
    totals: dict[str, Any] = {}
    for field in fields(PolygonReport):
        known = [v for v in (getattr(p.report, field.name) for p in parts) if v is not None]
        totals[field.name] = sum(known) if known else None
    area = np.array([part.area.sum() for part in parts])
    shares = np.array([part.report.repaired_area_share for part in parts])
    changed = float((area * shares).sum() / area.sum())
    duplicates += totals["dropped"]
    return PolygonReport(**{**totals, "repaired_area_share": changed, "duplicates": duplicates})


def _check(polygons: gpd.GeoDataFrame, spec: CubeSpec) -> None:
    check_frame(polygons, "The polygons")
    check_polygons(polygons)
    if polygons.crs is None or polygons.crs != spec.grid.crs.proj:  # type: ignore[union-attr]
        raise PolygonError(
            f"The polygons must be in the CRS of the grid, {crs_text(spec.grid)}. Received "
            f"{polygons.crs}; read them with cube.read_polygons, or use GeoDataFrame.to_crs."
        )


def _check_meets(outlines: Outlines, spec: CubeSpec) -> None:
    height, width = (int(n) for n in spec.grid.shape)
    if not len(outlines.meeting((0, height), (0, width))):
        low = outlines.bounds[:, :2].min(axis=0) + 0.0  # -0.0 is no number for a person
        high = outlines.bounds[:, 2:].max(axis=0) + 0.0
        raise PolygonError(
            f"None of the {len(outlines)} polygons meets the grid. They cover columns "
            f"{low[0]:.6g} to {high[0]:.6g} and rows {low[1]:.6g} to {high[1]:.6g} of its pixels; "
            f"the grid has {width} and {height}. Check the CRS."
        )


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
    return area, np.minimum(on_grid / area, 1.0)


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
        members: Polygons that may meet it.
        pixels: Sum of the shares of each, float64 (member,).
        overlapping: Those that together claim more than a whole pixel, int32.
        overlap_px: How much more, summed over pixels.
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
        overlapping, overlap_px = _overlaps(shares)
        return _Found(
            count=len(shares.share),
            members=task.members,
            pixels=_sums(local, len(task.members)),
            overlapping=overlapping,
            overlap_px=overlap_px,
        )


def _sums(shares: Shares, polygons: int) -> npt.NDArray[np.float64]:
    """Sum of the shares of each polygon, float64 (polygon,)."""
    whole = np.bincount(shares.label.ravel() + 1, minlength=polygons + 1)[1:]
    parts = np.bincount(shares.polygon, shares.share, polygons)
    return np.add(whole, parts, dtype="float64")


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
    # No pixel shows the billionth that rounding leaves of a polygon beside the grid.
    touching = (pixels == 0) & (found.covered_share < _TOUCHING)
    tables: dict[str, npt.NDArray[Any]] = {
        "count": np.array([part.count for part in parts], "int32").reshape(layout.tiles),
        "pixels": pixels,
        "area": found.area,
        "covered_share": np.where(touching, 0.0, found.covered_share),
    }
    return tables if found.ids is None else {**tables, "id": found.ids}
