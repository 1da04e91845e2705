"""Windows inside the partitions of a grid: rectangles that are split as wholes.

A window lies in one partition alone, so that partitions which train and partitions which test
share no pixel, however densely they are cut.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import shapely

from cube.errors import PolygonError, SpecError
from cube.polygons.reading import check_polygons, with_known_crs
from cube.spec import crs_text
from cube.windows import checked_shape, numbered, whole

if TYPE_CHECKING:
    import geopandas as gpd
    from odc.geo.geobox import GeoBox

IntArray = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

EDGE_PX = 0.01
"""So far may a corner of a partition lie off the pixels' edges: what reprojection rounds."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PartitionWindows:
    """Square windows numbered partition by partition, and row-major within each.

    The last window of a partition along each axis is moved inwards, so that it ends where the
    partition does.

    Attributes:
        shape: Pixels of the grid along (y, x).
        size: Side of a window in pixels.
        stride: Step between windows in pixels, at least 1.
        boxes: Partitions, int64 (partition, 4): first row, row after the last, first column,
            column after the last.
        dense: bool (partition,): where windows lie half a stride apart (rounded down, at least
            1 px); None for nowhere.
    """

    shape: tuple[int, int]
    size: int
    stride: int
    boxes: IntArray
    dense: Mask | None = None
    _first: IntArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        boxes = checked_boxes(self.boxes)
        for name, value in (
            ("shape", checked_shape(self.shape)),
            ("size", whole("size", self.size)),
            ("stride", whole("stride", self.stride)),
            ("boxes", boxes),
            ("dense", _checked_dense(self.dense, len(boxes))),
        ):
            object.__setattr__(self, name, value)
        if self.size < 1 or self.stride < 1:
            raise SpecError(
                f"Size and stride of windows must be at least 1 pixel. Received size={self.size}, "
                f"stride={self.stride}."
            )
        check_boxes(boxes, self.shape, self.size)
        _check_apart(boxes)
        counts = self._counts(np.arange(len(boxes)))
        first = np.concatenate([[0], np.cumsum(counts[:, 0] * counts[:, 1])])
        object.__setattr__(self, "_first", first.astype("int64"))

    def __eq__(self, other: object) -> bool:
        # By content: arrays compare by element.
        return isinstance(other, PartitionWindows) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.shape, self.size, self.stride, _digest(self.boxes)))

    def __len__(self) -> int:
        return int(self._first[-1])

    def _steps(self, partitions: IntArray) -> IntArray:
        """Step between windows of partitions in pixels, int64 (n,)."""
        half = max(self.stride // 2, 1)
        if self.dense is None:
            return np.full(len(partitions), self.stride, "int64")
        return np.where(self.dense[partitions], half, self.stride)

    def _counts(self, partitions: IntArray) -> IntArray:
        """Windows of partitions along (y, x), int64 (n, 2)."""
        rooms = _sides(self.boxes[partitions]) - self.size
        return -(-rooms // self._steps(partitions)[:, None]) + 1

    def partition_of(self, ids: npt.ArrayLike) -> IntArray:
        """Partition of each window, int64 of the shape of ``ids``.

        Raises:
            SpecError: There is no window of such a number.
        """
        return np.searchsorted(self._first, numbered(ids, len(self)), side="right") - 1

    def of_partition(self, partition: int) -> range:
        """Numbers of the windows of a partition.

        Raises:
            SpecError: There is no such partition.
        """
        if not 0 <= partition < len(self.boxes):
            raise SpecError(
                f"There are {len(self.boxes)} partitions, numbered from 0. Received {partition}."
            )
        return range(int(self._first[partition]), int(self._first[partition + 1]))

    def origins(self, ids: npt.ArrayLike | None = None) -> IntArray:
        """First pixel (y, x) of windows, int64 (n, 2); of all of them by default.

        Raises:
            SpecError: There is no window of such a number.
        """
        numbers = np.arange(len(self)) if ids is None else numbered(ids, len(self))
        partition = self.partition_of(numbers)
        boxes = self.boxes[partition]
        across = self._counts(partition)[..., 1]
        places = np.stack(np.divmod(numbers - self._first[partition], across), axis=-1)
        offsets = places * self._steps(partition)[..., None]
        return boxes[..., [0, 2]] + np.minimum(offsets, _sides(boxes) - self.size)

    def touching(self, rows: tuple[int, int], cols: tuple[int, int]) -> IntArray:
        """Numbers of the windows that share a pixel with a box, ascending, int64."""
        top, bottom, left, right = self.boxes.T
        meets = np.maximum(top, rows[0]) < np.minimum(bottom, rows[1])
        meets &= np.maximum(left, cols[0]) < np.minimum(right, cols[1])
        found = [self._touching(k, (rows, cols)) for k in np.flatnonzero(meets).tolist()]
        return np.concatenate(found) if found else np.zeros(0, "int64")

    def _touching(self, partition: int, box: tuple[tuple[int, int], tuple[int, int]]) -> IntArray:
        """Those of one partition."""
        one = np.array([partition])
        counts, step = self._counts(one)[0], int(self._steps(one)[0])
        spans = []
        for axis, span in enumerate(box):
            start, stop = self.boxes[partition, 2 * axis : 2 * axis + 2]
            starts = start + np.minimum(np.arange(counts[axis]) * step, stop - start - self.size)
            meets = np.maximum(starts, span[0]) < np.minimum(starts + self.size, span[1])
            spans.append(np.flatnonzero(meets))
        y, x = spans
        return (self._first[partition] + y[:, None] * counts[1] + x[None, :]).ravel()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; partitions by their number and digest."""
        dense = np.zeros(len(self.boxes), bool) if self.dense is None else self.dense
        return {
            "shape": list(self.shape),
            "size": self.size,
            "stride": self.stride,
            "partitions": len(self.boxes),
            "boxes": _digest(self.boxes),
            "dense": {"partitions": int(dense.sum()), "digest": _digest(dense)},
        }


def _digest(values: npt.NDArray[Any]) -> str:
    """First 12 hex digits of the SHA-256 of the little-endian bytes."""
    plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return hashlib.sha256(plain.tobytes()).hexdigest()[:12]


def _sides(boxes: IntArray) -> IntArray:
    """Pixels of boxes along (y, x), int64 (..., 2)."""
    return boxes[..., [1, 3]] - boxes[..., [0, 2]]


def _checked_dense(dense: Mask | None, partitions: int) -> Mask | None:
    if dense is None:
        return None
    mask = np.asarray(dense)
    if mask.dtype != np.bool_ or mask.shape != (partitions,):
        raise SpecError(
            f"dense= says of each of the {partitions} partitions True or False. Received "
            f"{mask.dtype} of shape {mask.shape}."
        )
    return mask


def checked_boxes(boxes: npt.ArrayLike) -> IntArray:
    """Partitions as int64 (partition, 4).

    Raises:
        SpecError: They are of another shape, or no whole numbers.
    """
    given = np.asarray(boxes)
    if given.size == 0:
        return np.zeros((0, 4), "int64")
    if given.ndim != 2 or given.shape[1] != 4 or given.dtype.kind not in "iu":
        raise SpecError(
            f"Partitions are whole numbers (partition, 4): first row, row after the last, first "
            f"column, column after the last. Received {given.dtype} of shape {given.shape}."
        )
    return given.astype("int64")


def _check_apart(boxes: IntArray) -> None:
    """Refuse partitions that share pixels: a window would lie in two of them."""
    top, bottom, left, right = boxes.T
    # Boxes that only meet along an edge share no pixel.
    shapes = shapely.box(left + 0.25, top + 0.25, right - 0.25, bottom - 0.25)
    one, other = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    pairs = np.flatnonzero(one < other)
    if len(pairs):
        raise SpecError(
            f"Partitions must share no pixel. {len(pairs)} pairs of {len(boxes)} do, first "
            f"partitions {one[pairs[0]]} and {other[pairs[0]]}; cut or leave out one of each."
        )


def check_boxes(boxes: IntArray, shape: tuple[int, int], size: int) -> None:
    """Refuse partitions that leave the grid, or in which no window fits.

    Raises:
        SpecError: There are none, or such ones; the message says how many.
    """
    if not len(boxes):
        raise SpecError("Windows in partitions need at least one partition. Received none.")
    outside = _outside(boxes, shape)
    if outside.any():
        raise SpecError(
            f"Partitions must lie in the grid of {shape[0]} x {shape[1]} pixels. "
            f"{outside.sum()} of {len(boxes)} do not; leave them out, or cut them at its end."
        )
    small = (_sides(boxes) < size).any(axis=1)
    if small.any():
        raise SpecError(
            f"A partition must hold a window of {size} pixels. {small.sum()} of {len(boxes)} are "
            f"smaller; give larger partitions or smaller windows."
        )


def partition_grid(shape: tuple[int, int], size: int, *, window: int) -> IntArray:
    """Square partitions that cover a grid, row-major.

    What is left at the end of an axis is a partition too; if no window fits in it, its neighbour
    is so much larger. So no pixel is lost, and none is in two partitions.

    Args:
        shape: Pixels of the grid along (y, x).
        size: Side of a partition in pixels.
        window: Side of the windows that they must hold, in pixels.

    Returns:
        int64 (partition, 4), see :class:`PartitionWindows`.

    Raises:
        SpecError: A partition, or the grid, is smaller than a window.
    """
    size, window = whole("size", size), whole("window", window)
    if window < 1 or min(size, *shape) < window:
        raise SpecError(
            f"Partitions and the grid must hold a window, of 1 pixel or more. Received a grid of "
            f"{shape[0]} x {shape[1]}, size={size}, window={window}."
        )
    spans = []
    for length in shape:
        starts = [0, *range(size, length - window + 1, size)]
        spans.append(list(zip(starts, [*starts[1:], length], strict=True)))
    return np.array([(*rows, *cols) for rows in spans[0] for cols in spans[1]], "int64")


def partition_boxes(grid: GeoBox, polygons: gpd.GeoDataFrame) -> IntArray:
    """Partitions that are given as rectangles.

    Args:
        grid: The cube's grid.
        polygons: Rectangles along the grid's axes whose corners lie on edges of its pixels,
            within :data:`EDGE_PX`; in any CRS.

    Returns:
        int64 (partition, 4), in their order, see :class:`PartitionWindows`.

    Raises:
        PolygonError: The CRS is not known, or a polygon is no such rectangle, or leaves the grid.
    """
    known = with_known_crs(polygons)
    check_polygons(known)
    shapes = known.to_crs(crs_text(grid)).geometry.to_numpy()
    t = grid.transform
    left, bottom, right, top = shapely.bounds(shapes).T
    exact = np.stack(
        [(top - t.f) / t.e, (bottom - t.f) / t.e, (left - t.c) / t.a, (right - t.c) / t.a], axis=1
    )
    _check_rectangles(exact, shapely.area(shapes) / abs(t.a * t.e))
    boxes = np.rint(exact).astype("int64")
    outside = _outside(boxes, (int(grid.shape[0]), int(grid.shape[1])))
    if outside.any():
        raise PolygonError(
            f"Partitions must lie in the cube of {grid.shape[0]} x {grid.shape[1]} pixels. "
            f"{outside.sum()} of {len(boxes)} do not; leave them out."
        )
    return boxes


def _check_rectangles(exact: npt.NDArray[np.float64], areas: npt.NDArray[np.float64]) -> None:
    """Refuse outlines that are no boxes of whole pixels.

    Args:
        exact: Bounds in pixels, (polygon, 4): first row, last row, first column, last column.
        areas: Areas in pixels, (polygon,).
    """
    off = float(np.abs(exact - np.rint(exact)).max())
    if off > EDGE_PX:
        raise PolygonError(
            f"Corners of partitions must lie on edges of pixels, within {EDGE_PX} px. The worst is "
            f"off by {off:.3g} px; draw them on the cube's grid."
        )
    sides = exact[:, [1, 3]] - exact[:, [0, 2]]
    slanted = np.abs(sides.prod(axis=1) - areas) > EDGE_PX * sides.sum(axis=1)
    if slanted.any():
        raise PolygonError(
            f"Partitions must be rectangles along the axes of the grid. {slanted.sum()} of "
            f"{len(exact)} are none; give their bounding boxes, or draw them in the cube's CRS."
        )


def _outside(boxes: IntArray, shape: tuple[int, int]) -> Mask:
    """Boxes that leave a grid, bool (n,)."""
    beyond = np.concatenate([boxes[:, [0, 2]] < 0, boxes[:, [1, 3]] > shape], axis=1)
    outside: Mask = np.logical_or.reduce(beyond, axis=1)
    return outside


def mixed(shares: npt.ArrayLike, low: float = 0.4, high: float = 0.6) -> Mask:
    """Partitions in which neither a class nor all the rest prevails, for ``dense``.

    Args:
        shares: Share of a class in each partition, 0..1; NaN where nothing is known.
        low: Least share of the class, and of the rest.
        high: Greatest share of both.

    Returns:
        bool (partition,); False where nothing is known.

    Raises:
        SpecError: The two are no range of shares.
    """
    if not 0 <= low <= high <= 1:
        raise SpecError(f"Shares lie in 0..1, low before high. Received low={low}, high={high}.")
    known = np.asarray(shares, dtype="float64")
    rest = 1 - known
    return (known >= low) & (known <= high) & (rest >= low) & (rest <= high)
