"""Reading the polygons that people were counted in."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from cube.errors import PolygonError, SpecError
from cube.polygons import columns as polygon_columns
from cube.polygons import files as polygon_files
from cube.polygons import validity
from cube.polygons.files import NamedFrame, PathLike
from cube.polygons.found import Found, off_grid
from cube.polygons.geometries import Shapes
from cube.polygons.placing import Mask
from cube.polygons.report import ATTR
from cube.spec import crs_text

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

Duplicates = Literal["keep", "first", "refuse"]

_BLOCK = 1 << 16
"""Polygons that are written as bytes at a time."""


def read_polygons(  # noqa: PLR0913  (where they lie, what they are, what to do about the rest)
    path: PathLike | Iterable[PathLike],
    *,
    grid: GeoBox,
    crs: str | None = None,
    counts: Sequence[str] = (),
    id: str | None = None,
    layer: str | None = None,
    repair: bool = False,
    duplicates: Duplicates = "keep",
) -> gpd.GeoDataFrame:
    """Read polygons, check them, and bring them into the grid's CRS.

    Args:
        path: Anything that pyogrio reads, GeoParquet, or a folder of its parts; or several of
            them, e.g. a file for each state, in one CRS.
        grid: See :func:`place_polygons`.
        crs: What the coordinates really are, where the file does not say, or
            names no known datum. It replaces the file's own CRS, on purpose.
        counts: See :func:`place_polygons`.
        id: See :func:`place_polygons`.
        layer: Which one, where a file has several.
        repair: See :func:`place_polygons`.
        duplicates: See :func:`place_polygons`.

    Returns:
        The polygons in file order, in the grid's CRS; see :func:`place_polygons`.

    Raises:
        PolygonError: The file cannot be read, or holds several layers; two files are in two CRSs;
            or see :func:`place_polygons`.
        SpecError: ``layer`` was given for GeoParquet; or see :func:`place_polygons`.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not paths:
        raise PolygonError("There are no files of polygons: path= is empty.")
    parts = [part for p in paths for part in polygon_files.read(p, layer=layer)]
    known = [NamedFrame(n, with_known_crs(frame, crs=crs, name=n)) for n, frame in parts]
    name, frame = polygon_files.joined(known)
    return place_polygons(
        frame,
        grid=grid,
        counts=counts,
        id=id,
        repair=repair,
        duplicates=duplicates,
        name=name,
    )


def place_polygons(  # noqa: PLR0913  (what they are, and what to do about the rest)
    frame: gpd.GeoDataFrame,
    *,
    grid: GeoBox,
    crs: str | None = None,
    counts: Sequence[str] = (),
    id: str | None = None,
    repair: bool = False,
    duplicates: Duplicates = "keep",
    name: str = "The polygons",
) -> gpd.GeoDataFrame:
    """Check polygons, and bring them into the grid's CRS.

    Heights are dropped. Polygons across the antimeridian are made whole, and cut only where the
    grid's CRS ends. Edges that are straight in the polygons' CRS but not in the grid's are divided,
    see :mod:`cube.polygons.densifying`. Polygons smaller than a pixel, and those outside the grid,
    are kept in their place.

    Args:
        frame: Polygons of any CRS.
        grid: The grid that they will be laid over.
        crs: What the coordinates really are; it replaces the frame's own CRS.
        counts: Columns that hold numbers of persons or things: finite, not negative.
        id: A column that names each polygon: text, or whole numbers.
        repair: Mend invalid rings, and take polygons out of collections, instead of refusing them.
        duplicates: What to do about a polygon that an earlier one equals: ``"keep"`` it, as any
            other that overlaps; keep the ``"first"`` of them alone; or ``"refuse"`` the set.
        name: What to call them in a message.

    Returns:
        The polygons in their order, in the grid's CRS. What was found is in
        ``attrs["polygon_report"]``, see :func:`cube.polygons.report.of`.

    Raises:
        PolygonError: The CRS is missing or its datum is not known; a geometry is empty, invalid,
            without area or no polygon, encloses a pole, or cannot be brought into the grid's CRS;
            none meets the
            grid; a column is missing, or holds no counts; an id is missing, or appears twice.
        SpecError: ``duplicates`` is none of the three.
    """
    if duplicates not in get_args(Duplicates):
        raise SpecError(
            f"duplicates is one of {', '.join(get_args(Duplicates))}. Received {duplicates!r}."
        )
    out = _placed(
        frame, grid, crs=crs, counts=counts, id=id, repair=repair, duplicates=duplicates, name=name
    )
    check_meets(out, grid)
    return out


def polygon_batches(  # noqa: PLR0913  (where they lie, what they are, what to do about the rest)
    path: PathLike | Iterable[PathLike],
    *,
    grid: GeoBox,
    crs: str | None = None,
    counts: Sequence[str] = (),
    id: str | None = None,
    layer: str | None = None,
    repair: bool = False,
    rows: int = 50_000,
) -> Iterator[gpd.GeoDataFrame]:
    """Read a set of polygons that is too large for memory, some of them at a time.

    For :func:`cube.coverage.build`, which keeps 16 bytes of every vertex. What needs the whole set
    is left to it: whether any polygon meets the grid, whether ids appear twice, and how many
    polygons are duplicates. These are kept.

    Args:
        path: See :func:`read_polygons`.
        grid: See :func:`place_polygons`.
        crs: See :func:`read_polygons`.
        counts: See :func:`place_polygons`.
        id: See :func:`place_polygons`.
        layer: See :func:`read_polygons`.
        repair: See :func:`place_polygons`.
        rows: Polygons of a batch.

    Returns:
        Frames in the grid's CRS, in file order; see :func:`place_polygons`.

    Raises:
        PolygonError: See :func:`read_polygons`; when it is the turn of the polygons concerned.
        SpecError: ``rows`` is less than one; or ``layer`` was given for GeoParquet.
    """
    if rows < 1:
        raise SpecError(f"A batch has one polygon or more. Received rows={rows}.")
    paths = [path] if isinstance(path, str | os.PathLike) else path
    parts = (part for p in paths for part in polygon_files.batches(p, layer=layer, rows=rows))
    known = (NamedFrame(n, with_known_crs(frame, crs=crs, name=n)) for n, frame in parts)
    return _batches_placed(known, grid, counts=counts, id=id, repair=repair)


def _batches_placed(
    frames: Iterable[NamedFrame], grid: GeoBox, **options: Any
) -> Iterator[gpd.GeoDataFrame]:
    first: NamedFrame | None = None
    before = 0
    for part in frames:
        first = first or part
        polygon_files.check_same_crs(first, part)
        with _counted_from(before):
            out = _placed(part.frame, grid, name=part.name, **options)
        yield out
        before += len(part.frame)
    if first is None:
        raise PolygonError("There are no polygons.")


@contextlib.contextmanager
def _counted_from(first: int) -> Iterator[None]:
    """Say where a batch begins, if its rows are not those of the set."""
    try:
        yield
    except PolygonError as error:
        if not first:
            raise
        raise PolygonError(
            f"In the batch whose row 0 is row {first} of the set: {error}"
        ) from error


def _placed(  # noqa: PLR0913  (what they are, and what to do about the rest)
    frame: gpd.GeoDataFrame,
    grid: GeoBox,
    *,
    crs: str | None = None,
    counts: Sequence[str] = (),
    id: str | None = None,
    repair: bool = False,
    duplicates: Duplicates = "keep",
    name: str,
) -> gpd.GeoDataFrame:
    """See :func:`place_polygons`; they may all lie outside the grid."""
    polygon_files.check_frame(frame, name)
    frame = with_known_crs(frame, crs=crs, name=name)
    for column in [counts] if isinstance(counts, str) else counts:
        polygon_columns.check_counts(frame, column)
    found = Found.of(frame, grid, repair=repair)
    out = _with_shapes(frame, found.shapes, grid)
    copies = later_copies(found.shapes)
    if duplicates == "refuse":
        _refuse_copies(copies)
    kept = ~copies if duplicates == "first" else np.ones(len(out), bool)
    out = out[kept]
    if id is not None:
        polygon_columns.check_ids(out, id)
    out.attrs[ATTR] = found.report(grid, kept=kept, copies=copies).to_dict()
    return out


def _with_shapes(frame: gpd.GeoDataFrame, shapes: Shapes, grid: GeoBox) -> gpd.GeoDataFrame:
    """The same table with other geometries, in the grid's CRS."""
    name = frame.active_geometry_name
    return frame.set_geometry(
        gpd.GeoSeries(shapes, index=frame.index, crs=crs_text(grid), name=name)
    )


def with_known_crs(
    frame: gpd.GeoDataFrame, *, crs: str | None = None, name: str = "The polygons"
) -> gpd.GeoDataFrame:
    """Give polygons a CRS whose datum is known.

    Raises:
        PolygonError: There is none, or its datum is not known, and ``crs`` was not given; or PROJ
            does not know ``crs``.
    """
    if crs is not None:
        try:
            return frame.set_crs(crs, allow_override=True)
        except pyproj.exceptions.CRSError as error:
            raise PolygonError(f"crs={crs!r} is no CRS that PROJ knows: {error}.") from error
    if frame.crs is None:
        raise PolygonError(f"{name!r} does not say its CRS; give crs=, e.g. crs='EPSG:4674'.")
    if not datum_is_known(frame.crs):
        raise PolygonError(
            f"{name!r} names no known datum ({frame.crs.name!r}), so it could lie hundreds of "
            f"metres off; say what it is with crs=, e.g. crs='EPSG:4674' for SIRGAS 2000."
        )
    return frame


def datum_is_known(crs: pyproj.CRS) -> bool:
    """False for a CRS whose datum PROJ does not know, so that its position is anyone's guess."""
    name = "" if crs.datum is None else crs.datum.name
    try:
        known = pyproj.crs.Datum.from_name(name).name.lower()  # type: ignore[attr-defined]
    except pyproj.exceptions.CRSError:
        return False
    return "unknown" not in known and not known.startswith("not specified")


def check_polygons(frame: gpd.GeoDataFrame) -> None:
    """Refuse geometries whose area means nothing.

    Raises:
        PolygonError: There are none, or one is missing, empty, invalid or no polygon.
    """
    shapes = frame.geometry.to_numpy()
    validity.check_kinds(shapes)
    validity.check_valid(shapes)


def check_meets(frame: gpd.GeoDataFrame, grid: GeoBox) -> None:
    """Refuse polygons that all lie outside the grid; one that only touches it lies outside.

    Raises:
        PolygonError: None meets it.
    """
    if off_grid(frame.geometry.to_numpy(), grid)[1].all():
        bounds = ", ".join(f"{v:.6g}" for v in frame.total_bounds)
        raise PolygonError(
            f"None of the {len(frame)} polygons meets the grid. They cover {bounds} "
            f"(left, bottom, right, top) in its CRS; the grid covers "
            f"{', '.join(f'{v:.6g}' for v in grid.boundingbox.bbox)}. Check the CRS."
        )


def later_copies(shapes: Shapes) -> Mask:
    """Which polygons equal an earlier one, bool (polygon,).

    Where a ring starts, how it turns, and the order of parts make no difference.
    """
    out = np.zeros(len(shapes), bool)
    rows = np.flatnonzero(pd.DataFrame(shapely.bounds(shapes)).duplicated(keep=False))
    if len(rows):
        blobs = pd.Series(list(_blobs(shapes[rows])), dtype=object)
        out[rows] = blobs.duplicated().to_numpy()
    return out


def _refuse_copies(copies: Mask) -> None:
    if copies.any():
        raise PolygonError(
            f"{int(copies.sum())} of {len(copies)} polygons equal an earlier one, the first in row "
            f"{int(np.flatnonzero(copies)[0])}. Drop them, or take duplicates='first' or 'keep'."
        )


def _blobs(shapes: Shapes) -> Iterator[bytes]:
    """Bytes of each polygon, as WKB; where its rings start and turn makes no difference."""
    for start in range(0, len(shapes), _BLOCK):
        # All as multipolygons: some formats make them of polygons.
        parts, row = shapely.get_parts(shapes[start : start + _BLOCK], return_index=True)
        whole = shapely.normalize(shapely.multipolygons(parts, indices=row))
        yield from map(bytes, shapely.to_wkb(whole, byte_order=1))


class PolygonsDigest:
    """A digest of geometries that come frame by frame, however they are divided among frames."""

    def __init__(self) -> None:
        self._sha: Any = None
        self._each: list[npt.NDArray[np.uint64]] = []

    def add(self, frame: gpd.GeoDataFrame) -> None:
        """Take in the polygons of a frame, after those before."""
        if self._sha is None:
            self._sha = hashlib.sha256(frame.crs.to_wkt().encode() if frame.crs else b"")
        each = np.zeros(len(frame), "uint64")
        for row, blob in enumerate(_blobs(frame.geometry.to_numpy())):
            self._sha.update(blob)
            each[row] = int.from_bytes(hashlib.blake2b(blob, digest_size=8).digest())
        self._each.append(each)

    @property
    def text(self) -> str:
        """First 12 hex digits of the SHA-256 of the geometries, in order, and their CRS."""
        return str(self._sha.hexdigest()[:12])

    @property
    def duplicates(self) -> int:
        """How many polygons equal an earlier one."""
        each = np.concatenate(self._each)
        return len(each) - len(np.unique(each))


def polygons_digest(frame: gpd.GeoDataFrame) -> str:
    """First 12 hex digits of the SHA-256 of the geometries, in order, and their CRS."""
    digest = PolygonsDigest()
    digest.add(frame)
    return digest.text
