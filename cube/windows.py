"""Moving windows over a grid: arithmetic, not lists.

The last window along each axis is moved inwards, so that every window is whole
and, at a stride of at most the size, every pixel is covered. Training and
prediction cut the same ones.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from cube.errors import SpecError

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


class WindowSet(Protocol):
    """Square windows of one size over a grid, numbered from 0."""

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels of the grid along (y, x)."""

    @property
    def size(self) -> int:
        """Side of a window in pixels."""

    @property
    def stride(self) -> int:
        """Usual step between windows in pixels; some may lie off it."""

    def __len__(self) -> int: ...

    def origins(self, ids: npt.ArrayLike | None = None) -> npt.NDArray[np.int64]:
        """First pixel (y, x) of windows, int64 (n, 2); of all of them by default."""

    def touching(self, rows: tuple[int, int], cols: tuple[int, int]) -> npt.NDArray[np.int64]:
        """Numbers of the windows that share a pixel with a box, ascending, int64."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Square windows in row-major order, numbered from 0.

    Attributes:
        shape: Pixels of the grid along (y, x).
        size: Side of a window in pixels; at most the shorter side of the grid.
        stride: Step between windows in pixels, at least 1; above the size, the
            pixels in between belong to no window.
    """

    shape: tuple[int, int]
    size: int
    stride: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", checked_shape(self.shape))
        for name in ("size", "stride"):
            object.__setattr__(self, name, whole(name, getattr(self, name)))
        if not 1 <= self.size <= min(self.shape):
            raise SpecError(
                f"A window must fit the grid of {self.shape[0]} x {self.shape[1]} pixels. "
                f"Received size={self.size}; give at most {min(self.shape)}."
            )
        if self.stride < 1:
            raise SpecError(f"The stride must be at least 1 pixel. Received {self.stride}.")

    @property
    def counts(self) -> tuple[int, int]:
        """Number of windows along (y, x)."""
        rows, cols = (math.ceil((n - self.size) / self.stride) + 1 for n in self.shape)
        return rows, cols

    @property
    def gapless(self) -> bool:
        """True if every pixel lies in a window."""
        # The last window is moved inwards, so two may meet that lie less than a stride apart.
        return all(min(self.stride, n - self.size) <= self.size for n in self.shape)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"shape": list(self.shape), "size": self.size, "stride": self.stride}

    def __len__(self) -> int:
        return self.counts[0] * self.counts[1]

    def starts(self, axis: int) -> npt.NDArray[np.int64]:
        """First pixel of every window along an axis (0 = y), int64, ascending."""
        places = np.arange(self.counts[axis], dtype="int64") * self.stride
        return np.minimum(places, self.shape[axis] - self.size)

    def origins(self, ids: npt.ArrayLike | None = None) -> npt.NDArray[np.int64]:
        """First pixel (y, x) of windows, int64 (n, 2); of all of them by default.

        Raises:
            SpecError: There is no window of such a number.
        """
        numbers = np.arange(len(self)) if ids is None else numbered(ids, len(self))
        row, col = np.divmod(numbers, self.counts[1])
        return np.stack([self.starts(0)[row], self.starts(1)[col]], axis=-1)

    def touching(self, rows: tuple[int, int], cols: tuple[int, int]) -> npt.NDArray[np.int64]:
        """Numbers of the windows that share a pixel with a box, ascending, int64."""
        y, x = (self._span(axis, span) for axis, span in enumerate((rows, cols)))
        return (y[:, None] * self.counts[1] + x[None, :]).ravel()

    def _span(self, axis: int, span: tuple[int, int]) -> npt.NDArray[np.int64]:
        starts = self.starts(axis)
        meets = np.maximum(starts, span[0]) < np.minimum(starts + self.size, span[1])
        return np.flatnonzero(meets)


def whole(name: str, value: object) -> int:
    """A whole number as int, also where NumPy gives it, which JSON does not know.

    Raises:
        SpecError: It is none.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise SpecError(f"{name} is a whole number. Received {value!r}.")
    return operator.index(value)


def numbered(ids: npt.ArrayLike, count: int, what: str = "windows") -> npt.NDArray[np.int64]:
    """Numbers of windows, int64 of the shape of ``ids``.

    Args:
        ids: Whole numbers; a mask is refused, since its True would be number 1.
        count: How many there are.
        what: What they are numbers of.

    Raises:
        SpecError: They are no whole numbers, or there is nothing of such a number.
    """
    given = np.asarray(ids)
    if given.size and given.dtype.kind not in "iu":
        raise SpecError(
            f"Numbers of {what} are whole. Received {given.dtype} of shape {given.shape}; of a "
            f"mask, give np.flatnonzero()."
        )
    if given.size and not 0 <= given.min() <= given.max() < count:
        raise SpecError(
            f"There are {count} {what}, numbered from 0. Received numbers from {given.min()} to "
            f"{given.max()}."
        )
    return given.astype("int64")


def checked_shape(shape: Sequence[object]) -> tuple[int, int]:
    """Pixels of a grid along (y, x).

    Raises:
        SpecError: They are not two whole numbers.
    """
    given: object = shape
    sides = tuple(given) if isinstance(given, Iterable) else (given,)
    if len(sides) != 2:
        raise SpecError(f"Windows lie on a grid of two axes, (y, x). Received {shape!r}.")
    return whole("shape", sides[0]), whole("shape", sides[1])


def gap(
    origins: npt.NDArray[np.int64], others: npt.NDArray[np.int64], size: int
) -> npt.NDArray[np.int64]:
    """Pixels between each window and the nearest of others, by the larger axis.

    Args:
        origins: (n, 2) first pixels.
        others: (m, 2) first pixels of windows of the same size; m >= 1.
        size: Side of the windows.

    Returns:
        int64 (n,): max over axes of the pixels between the two squares, at
        least; negative where they overlap.
    """
    from scipy.spatial import KDTree

    # A tree, since all pairs of a country's windows do not fit in memory.
    nearest, _ = KDTree(others).query(origins, p=np.inf)
    return nearest.astype("int64") - size


def box_sums(
    raster: npt.NDArray[np.bool_], origins: npt.NDArray[np.int64], size: int
) -> npt.NDArray[np.int64]:
    """Number of True pixels in each window, by a summed-area table; int64 (n,)."""
    return rectangle_sums(raster, origins, origins + size)


def rectangle_sums(
    raster: npt.NDArray[np.bool_], low: npt.NDArray[np.int64], high: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Number of True pixels in rectangles, by a summed-area table; int64 (n,).

    Args:
        raster: (y, x).
        low: First pixel (y, x), (n, 2).
        high: Pixel after the last, (n, 2).
    """
    table = np.zeros((raster.shape[0] + 1, raster.shape[1] + 1), dtype="int64")
    table[1:, 1:] = raster.cumsum(0, dtype="int64").cumsum(1)
    (top, left), (bottom, right) = low.T, high.T
    ends = table[bottom, right] - table[top, right] - table[bottom, left]
    sums: npt.NDArray[np.int64] = ends + table[top, left]
    return sums


def window_boxes(
    grid: GeoBox, origins: npt.NDArray[np.int64], size: int, *, inset_px: float = 0.0
) -> npt.NDArray[Any]:
    """Windows as polygons in the CRS of a north-up grid, Shapely boxes (n,).

    Args:
        grid: Where they lie.
        origins: First pixels (y, x), (n, 2).
        size: Side of the windows.
        inset_px: Pixels that are taken off every side, so that what only touches a window along
            its edge does not meet it.
    """
    import shapely

    t = grid.transform
    top, left = (t.f + (origins[:, 0] + inset_px) * t.e, t.c + (origins[:, 1] + inset_px) * t.a)
    side = size - 2 * inset_px
    boxes: npt.NDArray[Any] = shapely.box(left, top + side * t.e, left + side * t.a, top)
    return boxes


def footprint(
    shape: tuple[int, int], origins: npt.NDArray[np.int64], size: int
) -> npt.NDArray[np.bool_]:
    """Pixels covered by any of the windows, bool (y, x)."""
    steps = np.zeros((shape[0] + 1, shape[1] + 1), dtype="int64")
    y, x = origins[:, 0], origins[:, 1]
    for dy, dx, sign in ((0, 0, 1), (size, 0, -1), (0, size, -1), (size, size, 1)):
        np.add.at(steps, (y + dy, x + dx), sign)
    covered: npt.NDArray[np.bool_] = steps.cumsum(0).cumsum(1)[:-1, :-1] > 0
    return covered
