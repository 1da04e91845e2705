"""Tiles of a coverage, made ready for summing, and kept for the next layer."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cube.coverage.handle import Coverage
from cube.coverage.shares import Shares
from cube.regions import Region

CACHE_BYTES = 512_000_000
"""Of tiles that a process keeps: those of about a hundred million pixels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TileRuns:
    """The pixels of each polygon in a tile: runs of whole ones, and those on boundaries.

    Attributes:
        members: int32 (polygon,): sorted indices of the polygons that meet the tile.
        runs: int64 (polygon + 1,): first run of each polygon; and uint16 (run,) each: row, first
            column and the column after the last.
        edges: int64 (polygon + 1,): first boundary pixel of each polygon; and (pixel,) each:
            uint16 row and column, and the share, float32 if that holds all of them, else float64.
        size: float64 (polygon,): sum of shares.
    """

    members: npt.NDArray[np.int32]
    runs: tuple[npt.NDArray[Any], ...]
    edges: tuple[npt.NDArray[Any], ...]
    size: npt.NDArray[np.float64]

    @classmethod
    def of(cls, shares: Shares) -> Self:
        """Order the entries of a tile by polygon."""
        from cube.blocks import moments

        label, polygon = np.ascontiguousarray(shares.label), shares.polygon
        least, most = moments.extent(label, polygon)
        if most < 0:
            return cls._nothing()
        seen = np.zeros(most + 1 - least, "bool")
        moments.mark(label, polygon, least, seen)
        place = np.cumsum(seen) - 1
        members = (np.flatnonzero(seen) + least).astype("int32")
        first = np.cumsum(moments.count_runs(label, place, least))
        runs = (first, *moments.list_runs(label, place, least, first))
        edges = moments.list_edges(
            shares.pixel, polygon, _narrow(shares.share), label.shape[1], place, least, len(members)
        )
        return cls(members=members, runs=runs, edges=edges, size=moments.sizes(runs, edges))

    @classmethod
    def _nothing(cls) -> Self:
        first, none = np.zeros(1, "int64"), np.zeros(0, "uint16")
        return cls(
            members=np.zeros(0, "int32"),
            runs=(first, none, none, none),
            edges=(first, none, none, np.zeros(0, "float32")),
            size=np.zeros(0),
        )

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        lists = sum(part.nbytes for part in (*self.runs, *self.edges))
        return lists + self.members.nbytes + self.size.nbytes


def _narrow(share: npt.NDArray[np.float64]) -> npt.NDArray[np.floating[Any]]:
    short = share.astype("float32")
    return short if bool((short == share).all()) else share


def normalised(shares: Shares) -> Shares:
    """Shares that add up to one in every pixel that meets any polygon."""
    total = np.bincount(shares.pixel, shares.share, shares.label.size)[shares.pixel]
    return Shares(
        label=shares.label,
        pixel=shares.pixel,
        polygon=shares.polygon,
        share=shares.share / total,
    )


class _Cache:
    """What was used last, up to a number of bytes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Any, ...], TileRuns] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[Any, ...]) -> TileRuns | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: tuple[Any, ...], tile: TileRuns) -> None:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = tile
                self._bytes += tile.nbytes
            while self._bytes > CACHE_BYTES:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._bytes = 0


cache = _Cache()


def runs_of(coverage: Coverage, tile: Region, *, conserve: bool = False) -> TileRuns:
    """A tile of a coverage, from memory if it is there.

    Args:
        coverage: Shares of the polygons.
        tile: One of ``coverage.tiles()``.
        conserve: See :func:`normalised`.
    """
    grid = (tuple(coverage.grid.transform)[:6], tuple(coverage.grid.shape))
    key = (coverage.place, coverage.name, coverage.digest, grid, tile.rows, tile.cols, conserve)
    found = cache.get(key)
    if found is None:
        shares = coverage.shares(tile.rows, tile.cols)
        found = TileRuns.of(normalised(shares) if conserve else shares)
        cache.put(key, found)
    return found
