"""The share of every pixel inside every polygon, used in both directions.

Labels spread from polygons to pixels with the transpose of the same matrix
that collects pixels into polygons. It is kept with the cube as a label raster
of the pixels that lie wholly inside one polygon, and as lists of the others:
pixels on a boundary, and pixels that several polygons share.

Shares are exactextract's coverage fractions (https://github.com/isciences/exactextract),
computed tile by tile; the tiles are the coverage's own, so that sums do not
depend on the regions of the cube.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from cube import metadata, store, template, urls
from cube.errors import CubeError, PolygonError, SpecError, StoreError
from cube.polygons import check_meets, check_polygons, polygons_digest
from cube.regions import Region, tiles
from cube.run import run_tasks
from cube.shares import NONE, Shares
from cube.spec import CubeSpec, crs_text
from cube.store import ArrayPlan
from cube.template import read_spec

if TYPE_CHECKING:
    from distributed import Client
    from odc.geo.geobox import GeoBox

TILE = 512
"""Side of the tiles that shares are computed and summed in, in pixels."""

FloatArray = npt.NDArray[np.floating[Any]]


@lru_cache(maxsize=64)
def _part(url: str, name: str, part: str, identity: tuple[Any, ...]) -> npt.NDArray[Any]:
    """One list of a coverage, read once per process; ``identity`` tells sets apart."""
    del identity
    return store.read(url, f"coverage/{name}/{part}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Handle of a coverage that lies in a cube.

    Attributes:
        url: The cube.
        name: Name of the polygon set.
        grid: The cube's grid.
        polygons: Number of polygons.
        digest: Of their geometries.
    """

    url: str
    name: str
    grid: GeoBox
    polygons: int
    digest: str

    def _read(self, part: str) -> npt.NDArray[Any]:
        identity = (self.digest, tuple(self.grid.transform)[:6], tuple(self.grid.shape))
        return _part(self.url, self.name, part, identity)

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
        """Entries of any pixel box of the grid."""
        label = store.read(self.url, f"coverage/{self.name}/label", (slice(*rows), slice(*cols)))
        row, col, polygon, share = (self._read(p) for p in ("row", "col", "polygon", "share"))
        first, last = np.searchsorted(row, rows)
        near = slice(int(first), int(last))
        inside = (col[near] >= cols[0]) & (col[near] < cols[1])
        row, col = row[near][inside] - rows[0], col[near][inside] - cols[0]
        return Shares(
            label=label,
            pixel=(row.astype("int64") * (cols[1] - cols[0]) + col),
            polygon=polygon[near][inside],
            share=share[near][inside],
        )

    def tiles(self) -> list[Region]:
        """The tiles that sums are made of, row-major."""
        height, width = self.grid.shape
        return list(tiles((height, width), TILE))

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


def build(
    url: str | os.PathLike[str],
    name: str,
    polygons: gpd.GeoDataFrame,
    *,
    client: Client | None = None,
) -> Coverage:
    """Compute the shares of a set of polygons and keep them with the cube.

    Running it again with the same polygons reads what is there.

    Args:
        url: The cube.
        name: Name of the set, lower_snake_case.
        polygons: In the CRS of the grid; see :func:`cube.polygons.read_polygons`.
        client: A Dask client; None runs on local threads.

    Raises:
        PolygonError: The polygons are invalid, in another CRS, or off the grid.
        SpecError: The name is not in lower_snake_case.
        StoreError: Another set lies under that name.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise SpecError(f"A set of polygons needs a lower_snake_case name. Received {name!r}.")
    url = urls.normalise(url)
    spec = read_spec(url)
    _check(polygons, spec)
    digest = polygons_digest(polygons)
    if f"coverage/{name}/label" in metadata.attributes(url):
        found = load(url, name)
        if found.digest != digest:
            raise StoreError(
                f"The coverage {name!r} is of other polygons (digest {found.digest}, these have "
                f"{digest}). Choose another name."
            )
        return found
    parts = _compute(url, spec, polygons, client)
    _store(url, name, spec, polygons, parts, digest)
    return load(url, name)


def load(url: str | os.PathLike[str], name: str) -> Coverage:
    """Handle of a coverage that was built before.

    Raises:
        StoreError: The cube has none of that name; the message lists those there are.
    """
    url = urls.normalise(url)
    arrays = metadata.attributes(url)
    attrs = arrays.get(f"coverage/{name}/label")
    if attrs is None:
        there = sorted(
            p.split("/")[1] for p in arrays if p.startswith("coverage/") and p.endswith("/label")
        )
        raise StoreError(
            f"The cube has no coverage {name!r}. It has: {', '.join(there) or 'none'}."
        )
    return Coverage(
        url=url,
        name=name,
        grid=read_spec(url).grid,
        polygons=int(attrs["polygons"]),
        digest=str(attrs["polygons_digest"]),
    )


def _check(polygons: gpd.GeoDataFrame, spec: CubeSpec) -> None:
    check_polygons(polygons)
    if polygons.crs is None or polygons.crs != spec.grid.crs.proj:  # type: ignore[union-attr]
        raise PolygonError(
            f"The polygons must be in the CRS of the grid, {crs_text(spec.grid)}. Received "
            f"{polygons.crs}; read them with cube.read_polygons, or use GeoDataFrame.to_crs."
        )
    check_meets(polygons, spec.grid)


@dataclass(frozen=True, slots=True, kw_only=True)
class _TileTask:
    """Polygons that meet one tile of a grid, as WKB in pixels, see :func:`in_pixels`."""

    region: Region
    members: npt.NDArray[np.int32]
    wkb: tuple[bytes, ...]


def _compute(
    url: str, spec: CubeSpec, polygons: gpd.GeoDataFrame, client: Client | None
) -> list[tuple[Region, Shares]]:
    shapes = without_rectangles(in_pixels(polygons.geometry.to_numpy(), spec.grid))
    tree = shapely.STRtree(shapes)
    height, width = spec.grid.shape
    tasks = []
    for tile in tiles((height, width), TILE):
        box = shapely.box(tile.cols[0], -tile.rows[1], tile.cols[1], -tile.rows[0])
        members = np.sort(tree.query(box, predicate="intersects"))
        tasks.append(
            _TileTask(
                region=tile,
                members=members.astype("int32"),
                wkb=tuple(shapely.to_wkb(shapes[members])),
            )
        )
    results = run_tasks(tile_shares, tasks, verb="coverage", url=url, client=client)
    done = {task.region: _unless_error(result) for task, result in results}
    return sorted(done.items(), key=lambda item: (item[0].rows, item[0].cols))


_PIXELS = 'LOCAL_CS["pixels",UNIT["pixel",1]]'
"""exactextract wants a CRS of both; this one says that there is none."""


def in_pixels(shapes: npt.NDArray[Any], grid: GeoBox) -> npt.NDArray[Any]:
    """The same polygons in pixels from the grid's upper left corner, x right and y up.

    Corners of pixels are whole numbers there, whatever the CRS. In degrees they are not, and where
    an edge passes such a corner by a last digit, exactextract 0.3.0 may lose the pixel beside it.
    """
    t = grid.transform
    origin, step = (t.c, t.f), (t.a, -t.e)
    return shapely.transform(shapes, lambda xy: np.round((xy - origin) / step, 9))


def without_rectangles(shapes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same polygons, with a fifth corner in each rectangle that is one of several rings.

    exactextract 0.3.0 has a shortcut for rectangles that writes out of bounds, and kills the
    process, where such a ring only touches the raster: a hole along the edge of a tile.
    """
    parts, whole = shapely.get_parts(shapes, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    owner = whole[part]
    four_sided = shapely.get_num_coordinates(rings) == 5
    several = np.bincount(owner, minlength=len(shapes)) > 1
    out = shapes.copy()
    for i in np.unique(owner[four_sided & several[owner]]):
        polygons = [
            shapely.Polygon(_fifth_corner(p.exterior), [_fifth_corner(r) for r in p.interiors])
            for p in shapely.get_parts(shapes[i])
        ]
        out[i] = shapely.MultiPolygon(polygons)
    return out


def _fifth_corner(ring: shapely.LinearRing) -> npt.NDArray[np.float64]:
    corners = shapely.get_coordinates(ring)
    along_axes = (np.diff(corners, axis=0) == 0).any(axis=1).all()
    if len(corners) != 5 or not along_axes:
        return corners
    # Half-way along an edge that is parallel to an axis: exactly on it.
    return np.insert(corners, 1, corners[:2].mean(axis=0), axis=0)


def _unless_error(result: Any) -> Shares:
    if isinstance(result, CubeError):
        raise result
    return result


def tile_shares(task: _TileTask) -> Shares:
    """Shares of one tile, by exactextract; whole pixels of one polygon go to the label raster."""
    import exactextract  # with GDAL's bindings, at first use only

    (top, bottom), (left, right) = task.region.rows, task.region.cols
    shape = task.region.shape
    if not len(task.members):
        return _split(np.zeros(0, "int64"), np.zeros(0, "int32"), np.zeros(0), shape)
    raster = exactextract.raster.NumPyRasterSource(
        np.zeros(shape, "uint8"), xmin=left, ymin=-bottom, xmax=right, ymax=-top, srs_wkt=_PIXELS
    )
    frame = gpd.GeoDataFrame(
        {"member": task.members}, geometry=list(shapely.from_wkb(task.wkb)), crs=_PIXELS
    )
    found = exactextract.exact_extract(
        raster, frame, ["cell_id", "coverage"], include_cols=["member"], output="pandas"
    )
    cells = [np.asarray(cell, "int64") for cell in found["cell_id"]]
    member = np.repeat(found["member"].to_numpy("int32"), [len(cell) for cell in cells])
    share = np.concatenate([np.asarray(s, "float64") for s in found["coverage"]])
    kept = share > 0
    return _split(np.concatenate(cells)[kept], member[kept], share[kept], shape)


def _split(
    pixel: npt.NDArray[np.int64],
    polygon: npt.NDArray[np.int32],
    share: npt.NDArray[np.float64],
    shape: tuple[int, int],
) -> Shares:
    """Divide entries into the label raster and the list, sorted by pixel, then polygon."""
    order = np.lexsort((polygon, pixel))
    pixel, polygon, share = pixel[order], polygon[order], share[order]
    alone = np.bincount(pixel, minlength=shape[0] * shape[1])[pixel] == 1
    whole = alone & (share == 1.0)
    label = np.full(shape[0] * shape[1], NONE, "int32")
    label[pixel[whole]] = polygon[whole]
    return Shares(
        label=label.reshape(shape),
        pixel=pixel[~whole],
        polygon=polygon[~whole],
        share=share[~whole],
    )


def _store(
    url: str,
    name: str,
    spec: CubeSpec,
    polygons: gpd.GeoDataFrame,
    parts: list[tuple[Region, Shares]],
    digest: str,
) -> None:
    """Write a coverage; its arrays become visible together, at the consolidation."""
    entries = _listed(parts)
    label = np.full(tuple(spec.grid.shape), NONE, "int32")
    pixels = np.zeros(len(polygons))
    for region, shares in parts:
        label[region.slices] = shares.label
        members, sums = shares.collect(np.ones((1, *region.shape)))
        pixels[members] += sums[0]
    arrays: dict[str, npt.NDArray[Any]] = {
        "label": label,
        "pixels": pixels,
        **_areas(polygons, spec.grid),
        **entries,
    }
    attrs = {"polygons": len(polygons), "polygons_digest": digest}
    template.put_arrays(url, [(_array_plan(name, part, v, attrs), v) for part, v in arrays.items()])
    _part.cache_clear()


def _array_plan(name: str, part: str, values: npt.NDArray[Any], attrs: dict[str, Any]) -> ArrayPlan:
    raster = part == "label"
    return ArrayPlan(
        path=f"coverage/{name}/{part}",
        shape=values.shape,
        chunks=(TILE, TILE) if raster else (max(1, min(values.size, 1 << 20)),),
        dtype=values.dtype.name,
        fill=NONE if raster else 0,
        dims=("y", "x") if raster else ("polygon" if part in _PER_POLYGON else "entry",),
        attrs=attrs if raster else {},
        codec="blosc-zstd-3-shuffle",
    )


_PER_POLYGON = ("area", "covered_share", "pixels")


def _listed(parts: list[tuple[Region, Shares]]) -> dict[str, npt.NDArray[Any]]:
    """Entries of all tiles as lists, sorted by row, then column, then polygon."""
    table = pd.concat(
        pd.DataFrame(
            {
                "row": (region.rows[0] + shares.pixel // region.shape[1]).astype("int32"),
                "col": (region.cols[0] + shares.pixel % region.shape[1]).astype("int32"),
                "polygon": shares.polygon,
                "share": shares.share,
            }
        )
        for region, shares in parts
    ).sort_values(["row", "col", "polygon"], kind="stable")
    return {column: table[column].to_numpy() for column in ("row", "col", "polygon", "share")}


def _areas(polygons: gpd.GeoDataFrame, grid: GeoBox) -> dict[str, npt.NDArray[np.float64]]:
    shapes = polygons.geometry.to_numpy()
    area = shapely.area(shapes)
    box = shapely.box(*grid.boundingbox.bbox)
    inside = shapely.covered_by(shapes, box)
    on_grid = np.where(inside, area, 0.0)
    on_grid[~inside] = shapely.area(shapely.intersection(shapes[~inside], box))
    return {"area": area, "covered_share": on_grid / area}
