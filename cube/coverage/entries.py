"""A coverage as arrays: how shares of tiles lie in a store.

Below ``coverage/<name>``: ``label``, the raster of pixels that lie wholly inside one polygon, by
tiles; and for all other pairs of pixel and polygon ``pixel`` (its place in the tile), ``polygon``
and ``share``, each a row of entries for every tile, ``count`` of which hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cube import objects, store
from cube.coverage.shares import NONE, Shares
from cube.encoding import encode_chunk
from cube.regions import Region
from cube.store import ArrayPlan

TILE = 512
"""Side of the tiles that shares are computed and summed in, in pixels, unless a coverage says
another."""

_CHUNK = 1 << 16
"""Entries in a chunk; most tiles need one or two."""

_CODEC = "blosc-zstd-1-shuffle"

_LISTS = {"pixel": "int32", "polygon": "int32", "share": "float32"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a coverage lies, and how it is cut.

    Attributes:
        path: Group inside the cube, e.g. ``"coverage/tracts"``.
        shape: Height and width of the grid in pixels.
        digest: Of the polygons. Every array says it, so that nobody takes one set for another.
        side: Of a tile, in pixels.
    """

    path: str
    shape: tuple[int, int]
    digest: str
    side: int

    @property
    def name(self) -> str:
        """Name of the polygon set."""
        return self.path.rpartition("/")[2]

    @property
    def label(self) -> str:
        """Path of the label raster, whose attributes say what the coverage is of."""
        return f"{self.path}/label"

    def attrs(self, *, complete: bool) -> dict[str, Any]:
        """Attributes of every array.

        Args:
            complete: Whether all tiles are written.
        """
        return {"polygons_digest": self.digest, "tile_side": self.side, "complete": complete}

    @property
    def tiles(self) -> tuple[int, int]:
        """Number of tiles down and across."""
        return -(-self.shape[0] // self.side), -(-self.shape[1] // self.side)

    def index(self, tile: Region) -> tuple[int, int]:
        """Place of a tile among the tiles."""
        return tile.rows[0] // self.side, tile.cols[0] // self.side

    def tiles_of(self, box: Region) -> Iterator[Region]:
        """Tiles that meet a box, row-major."""
        side = self.side
        for top in range(box.rows[0] // side * side, box.rows[1], side):
            for left in range(box.cols[0] // side * side, box.cols[1], side):
                rows = top, min(top + side, self.shape[0])
                cols = left, min(left + side, self.shape[1])
                yield Region(time=None, rows=rows, cols=cols)

    def plans(
        self, attrs: dict[str, Any], *, most: int = 0, complete: bool = False
    ) -> list[tuple[ArrayPlan, None]]:
        """The arrays that tiles are written to.

        Args:
            attrs: Further attributes of the label raster.
            most: Entries of the tile that has most.
            complete: Whether all tiles are written.
        """
        label = ArrayPlan(
            path=self.label,
            shape=self.shape,
            chunks=(self.side, self.side),
            dtype="int32",
            fill=NONE,
            dims=("y", "x"),
            attrs={
                "long_name": "polygon that holds the whole pixel",
                "grid_mapping": "spatial_ref",
                **self.attrs(complete=complete),
                **attrs,
            },
            codec=_CODEC,
        )
        length = max(1, math.ceil(most / _CHUNK)) * _CHUNK
        lists = [
            ArrayPlan(
                path=f"{self.path}/{part}",
                shape=(*self.tiles, length),
                chunks=(1, 1, _CHUNK),
                dtype=dtype,
                fill=0,
                dims=("tile_y", "tile_x", "entry"),
                attrs=self.attrs(complete=complete),
                codec=_CODEC,
            )
            for part, dtype in _LISTS.items()
        ]
        return [(plan, None) for plan in (label, *lists)]

    def tables(
        self, values: dict[str, npt.NDArray[Any]]
    ) -> list[tuple[ArrayPlan, npt.NDArray[Any]]]:
        """Small arrays with their values: counts by tile, and what there is of each polygon."""
        plans = []
        for part, array in values.items():
            dims = ("tile_y", "tile_x") if part == "count" else ("polygon",)
            text = array.dtype == object
            plan = ArrayPlan(
                path=f"{self.path}/{part}",
                shape=array.shape,
                chunks=array.shape if part == "count" else (min(array.size, 1 << 20),),
                dtype="str" if text else array.dtype.name,
                fill="" if text else 0,
                dims=dims,
                attrs=self.attrs(complete=True),
                codec="none" if text else _CODEC,
            )
            plans.append((plan, array))
        return plans


def write_tile(place: str, layout: Layout, tile: Region, shares: Shares) -> None:
    """Write the shares of one tile; the arrays' metadata may come later."""
    index = layout.index(tile)
    chunks: dict[str, bytes] = {}
    label = np.full((layout.side, layout.side), NONE, "int32")
    label[: tile.shape[0], : tile.shape[1]] = shares.label
    if (label != NONE).any():
        chunks[_key(layout, "label", *index)] = encode_chunk(label, _CODEC)
    for part, dtype in _LISTS.items():
        values = getattr(shares, part).astype(dtype)
        for k, first in enumerate(range(0, len(values), _CHUNK)):
            chunk = np.zeros(_CHUNK, dtype)
            piece = values[first : first + _CHUNK]
            chunk[: len(piece)] = piece
            chunks[_key(layout, part, *index, k)] = encode_chunk(chunk, _CODEC)
    objects.put_many(objects.at(place), chunks)


def _key(layout: Layout, part: str, *index: int) -> str:
    return f"{layout.path}/{part}/c/{'/'.join(map(str, index))}"


def read_tile(place: str, layout: Layout, tile: Region, count: int) -> Shares:
    """Read the shares of one tile.

    Args:
        place: Where the coverage lies.
        layout: How.
        tile: One of its tiles.
        count: Entries of the tile.
    """
    label = read(place, layout, "label", tile.slices)
    lists = {
        part: read(place, layout, part, (*layout.index(tile), slice(0, count))) for part in _LISTS
    }
    return Shares(
        label=label,
        pixel=lists["pixel"].astype("int64"),
        polygon=lists["polygon"],
        share=lists["share"].astype("float64"),
    )


def read(
    place: str, layout: Layout, part: str, index: tuple[Any, ...] = (...,)
) -> npt.NDArray[Any]:
    """Values of part of an array of a whole coverage.

    Raises:
        StoreError: It is not there, not whole, or of other polygons.
    """
    like = layout.attrs(complete=True)
    return store.read(place, f"{layout.path}/{part}", index, like=like)


def assembled(parts: Sequence[tuple[Region, Shares]], box: Region) -> Shares:
    """Shares of a box from those of the tiles that it meets, sorted by pixel, then polygon."""
    if len(parts) == 1 and (parts[0][0].rows, parts[0][0].cols) == (box.rows, box.cols):
        return parts[0][1]
    label = np.full(box.shape, NONE, "int32")
    lists = []
    for tile, shares in parts:
        rows = max(tile.rows[0], box.rows[0]), min(tile.rows[1], box.rows[1])
        cols = max(tile.cols[0], box.cols[0]), min(tile.cols[1], box.cols[1])
        into = Region(time=None, rows=rows, cols=cols)
        label[_within(into, box)] = shares.label[_within(into, tile)]
        row = shares.pixel // tile.shape[1] + tile.rows[0]
        col = shares.pixel % tile.shape[1] + tile.cols[0]
        near = (row >= rows[0]) & (row < rows[1]) & (col >= cols[0]) & (col < cols[1])
        pixel = (row[near] - box.rows[0]) * box.shape[1] + col[near] - box.cols[0]
        lists.append((pixel, shares.polygon[near], shares.share[near]))
    pixel, polygon, share = (np.concatenate(part) for part in zip(*lists, strict=True))
    # Stable, so the polygons of a pixel stay in their order.
    order = np.argsort(pixel, kind="stable")
    return Shares(label=label, pixel=pixel[order], polygon=polygon[order], share=share[order])


def _within(part: Region, whole: Region) -> tuple[slice, slice]:
    (top, bottom), (left, right) = part.rows, part.cols
    return (
        slice(top - whole.rows[0], bottom - whole.rows[0]),
        slice(left - whole.cols[0], right - whole.cols[0]),
    )
