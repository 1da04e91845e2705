"""The share of every pixel inside every polygon, used in both directions.

Labels spread from polygons to pixels with the transpose of the same matrix
that collects pixels into polygons. It is kept with the cube as a label raster
of the pixels that lie wholly inside one polygon, and as lists of the others:
pixels on a boundary, and pixels that several polygons share.

Shares are exact (see :mod:`cube.coverage.fractions`) and computed by tiles of their own, so that
they, and what is summed with them, do not depend on the regions of the cube.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt

from cube import annex, metadata, template, urls
from cube.coverage import entries
from cube.coverage.covering import PolygonSet, cover
from cube.coverage.entries import Layout
from cube.coverage.shares import NONE, FloatArray, Shares
from cube.errors import RegionError, SpecError, StoreError
from cube.polygons.report import PolygonReport
from cube.regions import Region, tiles
from cube.template import read_spec

if TYPE_CHECKING:
    from distributed import Client
    from odc.geo.geobox import GeoBox

__all__ = ["NONE", "Coverage", "Shares", "build", "load", "remove"]


@lru_cache(maxsize=64)
def _part(place: str, layout: Layout, part: str) -> npt.NDArray[Any]:
    """One list of a coverage, read once per process."""
    return _kept(entries.read(place, layout, part))


@lru_cache(maxsize=8)
def _ids(place: str, layout: Layout) -> tuple[str, ...]:
    """Ids of all polygons, made once per process."""
    return tuple(map(str, _part(place, layout, "id")))


@lru_cache(maxsize=16)
def _tile(place: str, layout: Layout, region: Region) -> Shares:
    """A tile, kept for whoever reads many small boxes of it."""
    count = int(_part(place, layout, "count")[layout.index(region)])
    tile = entries.read_tile(place, layout, region, count)
    for array in (tile.label, tile.pixel, tile.polygon, tile.share):
        _kept(array)
    return tile


def _kept(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array, read-only: whoever gets it next must find it as it was."""
    array.setflags(write=False)
    return array


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Handle of a coverage that lies in a cube, or in an annex of it.

    Attributes:
        url: The cube.
        place: Where the coverage is kept: the cube itself, or an annex of it.
        name: Name of the polygon set.
        grid: The cube's grid.
        polygons: Number of polygons.
        digest: Of their geometries.
        report: How the polygons were found to be.
        tile_side: Side in pixels of the tiles that shares are kept and summed in.
    """

    url: str
    place: str
    name: str
    grid: GeoBox
    polygons: int
    digest: str
    report: PolygonReport
    tile_side: int

    @property
    def _layout(self) -> Layout:
        return _layout(self.name, self.grid, self.digest, self.tile_side)

    def _read(self, part: str) -> npt.NDArray[Any]:
        return _part(self.place, self._layout, part)

    @property
    def ids(self) -> tuple[str, ...] | None:
        """Ids of the polygons, in their order; None if they were given none."""
        if f"coverage/{self.name}/id" not in metadata.known(self.place).arrays:
            return None
        return _ids(self.place, self._layout)

    @property
    def area(self) -> npt.NDArray[np.float64]:
        """Area of each polygon in square units of the grid's CRS, float64 (polygon,)."""
        return self._read("area")

    @property
    def covered_share(self) -> npt.NDArray[np.float64]:
        """Share of each polygon's area that lies on the grid, float64 (polygon,), 0..1."""
        return self._read("covered_share")

    @property
    def pixels(self) -> npt.NDArray[np.float64]:
        """Sum of shares of each polygon: its size on the grid in pixels, float64 (polygon,)."""
        return self._read("pixels")

    @property
    def pixel_area(self) -> float:
        """Area of a pixel in square units of the grid's CRS."""
        return abs(self.grid.transform.a * self.grid.transform.e)

    def shares(self, rows: tuple[int, int], cols: tuple[int, int]) -> Shares:
        """Entries of any pixel box of the grid, sorted by pixel and then by polygon.

        Args:
            rows: First row and the row after the last.
            cols: First column and the column after the last.

        Raises:
            RegionError: The box leaves the grid.
            StoreError: The coverage is not there any more, or is another.
        """
        layout = self._layout
        for span, length in zip((rows, cols), layout.shape, strict=True):
            if not 0 <= span[0] <= span[1] <= length:
                raise RegionError(
                    f"The box of rows {rows} and columns {cols} leaves the grid of "
                    f"{layout.shape[0]} x {layout.shape[1]} pixels; give a box inside it."
                )
        box = Region(time=None, rows=rows, cols=cols)
        parts = [(tile, _tile(self.place, layout, tile)) for tile in layout.tiles_of(box)]
        return entries.assembled(parts, box)

    def tiles(self) -> list[Region]:
        """The tiles that sums are made of, row-major."""
        return list(tiles(self._layout.shape, self.tile_side))

    def collect(self, values: Callable[[Region], FloatArray] | FloatArray) -> FloatArray:
        """Sum pixels into polygons, each times its share.

        Args:
            values: Finite floats (k, y, x) of the whole grid, or a function
                that gives them for a tile.

        Returns:
            float64 (k, polygon); the same to the bit for any region size.
        """
        read = values if callable(values) else partial(_cut, values)
        return self.add_up([self.shares(t.rows, t.cols).collect(read(t)) for t in self.tiles()])

    def add_up(self, parts: Sequence[tuple[npt.NDArray[np.int32], FloatArray]]) -> FloatArray:
        """Add the sums of tiles, in the order given; float64 (k, polygon)."""
        total = np.zeros((len(parts[0][1]), self.polygons))
        for members, sums in parts:
            total[:, members] += sums
        return total


def _cut(values: FloatArray, tile: Region) -> FloatArray:
    return values[(slice(None), *tile.slices)]


def _layout(name: str, grid: GeoBox, digest: str, side: int) -> Layout:
    shape = int(grid.shape[0]), int(grid.shape[1])
    return Layout(path=f"coverage/{name}", shape=shape, digest=digest, side=side)


def build(
    url: str | os.PathLike[str],
    name: str,
    polygons: gpd.GeoDataFrame | Iterable[gpd.GeoDataFrame],
    *,
    id: str | None = None,
    into: str | os.PathLike[str] | None = None,
    client: Client | None = None,
) -> Coverage:
    """Compute the shares of a set of polygons and keep them with the cube.

    Running it again with the same geometries reads what is there, with the ids that were given
    then; after it was cut short, it does it all again, to the same bytes.

    Args:
        url: The cube.
        name: Name of the set, lower_snake_case.
        polygons: In the CRS of the grid, see :func:`cube.read_polygons`; or such frames one after
            the other, see :func:`cube.polygon_batches`, for more than fit into memory as objects.
        id: Column of ids, which are kept as text. Tables then carry them.
        into: Where to keep it, if the cube cannot be written: a place that is made if need be.
        client: A Dask client; None runs on local threads.

    Raises:
        PolygonError: Polygons are invalid or in another CRS, or none meets the grid; or ids are
            missing or not unique.
        SpecError: The name is not in lower_snake_case.
        StoreError: Another set, or this one with other ids, lies under that name; or something
            else lies at ``into``.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise SpecError(f"A set of polygons needs a lower_snake_case name. Received {name!r}.")
    url = urls.normalise(url)
    spec = read_spec(url)
    frames = [polygons] if isinstance(polygons, gpd.GeoDataFrame) else polygons
    found = PolygonSet.of(frames, spec, id=id)
    place = url if into is None else annex.make(into, spec)
    layout = _layout(name, spec.grid, found.digest, entries.TILE)
    if not _is_whole(place, layout, found.ids_digest):
        cover(place, layout, found, client=client)
    return load(url, name, into=into)


def _is_whole(place: str, layout: Layout, ids_digest: str | None) -> bool:
    """True if the coverage is there, whole; False if it is not, or was begun.

    Raises:
        StoreError: It is of other polygons, or they have other ids there.
    """
    attrs = metadata.attributes(place).get(layout.label)
    if attrs is None:
        return False
    if attrs["polygons_digest"] != layout.digest:
        raise StoreError(
            f"The coverage {layout.name!r} is of other polygons (digest "
            f"{attrs['polygons_digest']}, these have {layout.digest}). Choose another name, or "
            f"take it away with cube.coverage.remove."
        )
    if attrs.get("complete") and ids_digest not in (None, attrs.get("ids_digest")):
        kept = "other ids" if attrs.get("ids_digest") else "no ids"
        raise StoreError(
            f"The coverage {layout.name!r} keeps these polygons with {kept}. Choose another name, "
            f"or take it away with cube.coverage.remove."
        )
    return bool(attrs.get("complete"))


def load(
    url: str | os.PathLike[str], name: str, *, into: str | os.PathLike[str] | None = None
) -> Coverage:
    """Handle of a coverage that was built before.

    Args:
        url: The cube.
        name: Name of the set.
        into: Where it is kept, if not in the cube.

    Raises:
        StoreError: There is none of that name, and the message lists those there are; or it was
            not finished.
    """
    url = urls.normalise(url)
    spec = read_spec(url)
    place = url if into is None else urls.normalise(into)
    if into is not None:
        annex.check(place, spec)
    arrays = metadata.attributes(place)
    attrs = arrays.get(f"coverage/{name}/label")
    if attrs is None:
        there = sorted(
            p.split("/")[1] for p in arrays if p.startswith("coverage/") and p.endswith("/label")
        )
        raise StoreError(
            f"The cube has no coverage {name!r}. It has: {', '.join(there) or 'none'}."
        )
    if not attrs.get("complete"):
        raise StoreError(
            f"The coverage {name!r} is not finished, or of an earlier version; build it again "
            f"with the same polygons."
        )
    return Coverage(
        url=url,
        place=place,
        name=name,
        grid=spec.grid,
        polygons=int(attrs["polygons"]),
        digest=str(attrs["polygons_digest"]),
        report=PolygonReport.from_dict(attrs["polygon_report"]),
        tile_side=int(attrs["tile_side"]),
    )


def remove(
    url: str | os.PathLike[str], name: str, *, into: str | os.PathLike[str] | None = None
) -> None:
    """Take a coverage away; nothing happens where there is none.

    Args:
        url: The cube.
        name: Name of the set.
        into: Where it is kept, if not in the cube.

    Raises:
        SpecError: The name is not in lower_snake_case.
        StoreError: There is no cube, or none at ``into``.
    """
    template.remove_group(url if into is None else into, f"coverage/{name}")
