"""Where scenes lie on a grid: which of very many a region has to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cube.coordinates import bounds_in, check_crs, to_grid
from cube.errors import SourceError
from cube.scenes import Scene, Span

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

Floats = npt.NDArray[np.floating[Any]]

_SIDE = 9
"""Points along each side of a footprint; straight lines of one CRS are curves in another."""

MARGIN_PX = 8.0
"""For the filters of the warp."""


_AT_ONCE = 4096
"""Footprints that are placed at once, for the sake of memory."""


class Footprints:
    """The footprints of scenes in pixels of a grid, with an index.

    A scene without a footprint, or whose place on the grid cannot be told, is near everything.

    Args:
        scenes: Of any CRS.
        grid: The target grid.
        margin_px: By so many pixels a footprint reaches further.
    """

    def __init__(
        self, scenes: Sequence[Scene], grid: GeoBox, *, margin_px: float = MARGIN_PX
    ) -> None:
        boxes = np.full((len(scenes), 4), np.nan)
        for crs, every in _by_crs(scenes).items():
            for start in range(0, len(every), _AT_ONCE):
                places = every[start : start + _AT_ONCE]
                bounds = np.array([scenes[i].footprint for i in places], dtype="float64")
                boxes[places] = _boxes(crs, grid, bounds)
        self._everywhere = np.nonzero(~np.isfinite(boxes).all(axis=1))[0]
        self._placed = np.nonzero(np.isfinite(boxes).all(axis=1))[0]
        self._tree = _tree(boxes[self._placed], _turn(grid), margin_px)

    def near(self, rows: Span, cols: Span) -> list[int]:
        """Places of the scenes that may meet a pixel box, in ascending order."""
        import shapely

        box = shapely.box(cols[0], rows[0], cols[1], rows[1])
        # A scene may lie in the tree several times, a turn of the globe apart.
        found = self._tree.query(box) % max(1, len(self._placed))
        return sorted({*self._placed[found].tolist(), *self._everywhere.tolist()})


def _by_crs(scenes: Sequence[Scene]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for i, scene in enumerate(scenes):
        if scene.footprint is not None:
            found.setdefault(scene.crs, []).append(i)
    return found


def _boxes(crs: str, grid: GeoBox, bounds: Floats) -> Floats:
    """Bounds (n, 4) as (left, top, right, bottom) in pixels of the grid; NaN where untold."""
    steps = np.linspace(0.0, 1.0, _SIDE)
    # A lattice and not the rim alone: a pole may lie inside.
    x = bounds[:, 0, None, None] + (bounds[:, 2] - bounds[:, 0])[:, None, None] * steps[None, None]
    y = bounds[:, 1, None, None] + (bounds[:, 3] - bounds[:, 1])[:, None, None] * steps[:, None]
    x, y = np.broadcast_arrays(x, y)
    found = to_grid(crs, grid, x.ravel(), y.ravel())
    cols, rows = (axis.reshape(len(bounds), _SIDE, _SIDE) for axis in found)
    left, right = _extremes(_unwrapped(cols, _turn(grid)))
    top, bottom = _extremes(rows)
    boxes = np.stack([left, top, right, bottom], axis=1)
    boxes[~np.isfinite(boxes).all(axis=1)] = np.nan
    return boxes


def _unwrapped(cols: Floats, turn: float | None) -> Floats:
    """Columns of footprints, of which those across the antimeridian do not go around the globe."""
    if turn is None:
        return cols
    low, high = (end(axis=(1, 2), keepdims=True) for end in (cols.min, cols.max))
    with np.errstate(invalid="ignore"):
        far = (high - low > turn / 2) & (cols < (low + high) / 2)
    return np.where(far, cols + turn, cols)


def _extremes(places: Floats) -> tuple[Floats, Floats]:
    """Lowest and highest of each lattice (n, row, column), and of the curves between its points.

    A smooth curve leaves the straight line between two of its points by an eighth of the second
    difference. All of it is taken: around a pole nothing is smooth.
    """
    with np.errstate(invalid="ignore"):
        bends = [np.abs(np.diff(places, 2, axis=axis)).max(axis=(1, 2)) for axis in (1, 2)]
        bend = np.maximum(*bends)
        return places.min(axis=(1, 2)) - bend, places.max(axis=(1, 2)) + bend


def _turn(grid: GeoBox) -> float | None:
    """Pixels of a whole turn of the globe, on a grid in degrees."""
    if grid.crs is None or grid.crs.projected:
        return None
    return 360.0 / abs(grid.transform.a)


def _tree(boxes: Floats, turn: float | None, margin: float) -> Any:
    import shapely

    shifts = (0.0,) if turn is None else (0.0, turn, -turn)
    left, top, right, bottom = boxes.T
    return shapely.STRtree(
        np.concatenate(
            [
                shapely.box(
                    left + shift - margin,
                    top - margin,
                    right + shift + margin,
                    bottom + margin,
                )
                for shift in shifts
            ]
        )
    )


def check_overlap(scene: Scene, grid: GeoBox) -> None:
    """Refuse a scene that lies elsewhere.

    Raises:
        SourceError: No pixel of its footprint meets the grid.
    """
    if scene.footprint is None or grid.crs is None:
        return
    check_crs(scene.crs, grid, what=repr(scene.id))
    height, width = grid.shape
    box = _boxes(scene.crs, grid, np.array([scene.footprint], dtype="float64"))[0]
    if np.isfinite(box).all():
        shifts = (0.0,) if (turn := _turn(grid)) is None else (0.0, turn, -turn)
        moved = [(box[0] + s, box[1], box[2] + s, box[3]) for s in shifts]
        if any(_meet(there, (0, 0, width, height)) for there in moved):
            return
    # The other way: the bounds of a globe or a full disc exist in one of the two CRSs alone.
    elif _meet(bounds_in(scene.crs, grid), scene.footprint):
        return
    raise SourceError(
        f"{scene.id!r} does not meet the grid. It covers {_extent(scene.footprint)} in its CRS; "
        f"the grid covers {_extent(bounds_in(scene.crs, grid))} there. Check the CRS."
    )


def _meet(a: Sequence[float], b: Sequence[float]) -> bool:
    """True if two boxes share an area; never if one is infinite."""
    return bool(np.isfinite([*a, *b]).all()) and (
        a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    )


def _extent(bounds: Sequence[float]) -> str:
    return f"x {bounds[0]:.6g}..{bounds[2]:.6g}, y {bounds[1]:.6g}..{bounds[3]:.6g}"
