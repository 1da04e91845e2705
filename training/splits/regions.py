"""Splits by given polygons: urban areas, basins, tiles, countries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import numpy.typing as npt
import shapely

from cube.errors import SplitError
from cube.polygons.reading import place_polygons
from cube.windows import WindowSet, window_boxes
from training.splits.dividing import divide
from training.splits.places import Places, PlaceSplit
from training.splits.rules import PlaceOptions, PlaceRules

if TYPE_CHECKING:
    import geopandas as gpd
    from odc.geo.geobox import GeoBox

IntArray = npt.NDArray[np.int64]


def split_by_regions(
    windows: WindowSet,
    polygons: gpd.GeoDataFrame,
    *,
    grid: GeoBox,
    by: str,
    leave_out: Sequence[str] | None = None,
    **options: Unpack[PlaceOptions],
) -> PlaceSplit:
    """Split windows by whole regions; windows that meet two of them, or none, are left out.

    Args:
        windows: Windows over the grid.
        polygons: Regions in any CRS, brought onto the grid.
        grid: The grid of the windows.
        by: Column that names the regions; polygons of the same name are one region.
        leave_out: Names of the regions to test, instead of ``fractions`` or ``folds``.
        **options: See :class:`training.splits.rules.PlaceRules`; ``seed`` is needed, and one of
            ``fractions`` (with ``balance="places"``: every region by lot), ``folds`` (a number,
            or ``"each"``: every region is a fold) and ``leave_out``.

    Raises:
        SplitError: There is no such column, or no such region; the windows are of another grid; or
            see :func:`training.splits.dividing.divide`.
        PolygonError: See :func:`cube.polygons.reading.place_polygons`.
    """
    given = None if leave_out is None else np.atleast_1d(np.asarray(leave_out, dtype=object))
    names = None if given is None else tuple(str(name) for name in given)
    rules = PlaceRules(leave_out=names, **options)
    return divide(regions(windows, polygons, grid=grid, by=by), rules)


def regions(windows: WindowSet, polygons: gpd.GeoDataFrame, *, grid: GeoBox, by: str) -> Places:
    """Region of every window; regions without a window of their own are left out, and named.

    Raises:
        SplitError: There is no such column, or it has gaps; the windows are of another grid; or no
            window lies in one region alone.
    """
    if by not in polygons or by == polygons.geometry.name:
        columns = [name for name in polygons if name != polygons.geometry.name]
        raise SplitError(f"There is no column {by!r}. There are: {', '.join(map(str, columns))}.")
    unnamed = int(polygons[by].isna().sum())
    if unnamed:
        raise SplitError(
            f"Column {by!r} names every region. {unnamed} of {len(polygons)} have no name; leave "
            f"them out, or name them."
        )
    if tuple(grid.shape) != tuple(windows.shape):
        raise SplitError(f"Windows lie on a grid of {windows.shape}. Received {grid.shape}.")
    placed = place_polygons(polygons[[by, polygons.geometry.name]], grid=grid)
    names, region = np.unique(placed[by].astype(str).to_numpy(), return_inverse=True)
    met, own = _meetings(windows, placed.geometry.to_numpy(), region, grid)
    held, number = np.unique(own[met == 1], return_inverse=True)
    of_window = np.full(len(windows), -1, dtype="int64")
    of_window[met == 1] = number
    return Places(
        kind="by regions",
        windows=windows,
        of_window=of_window,
        names=tuple(str(names[k]) for k in held),
        facts={
            "by": by,
            "windows_outside": int((met == 0).sum()),
            "windows_on_borders": int((met > 1).sum()),
            "regions_without_windows": [str(n) for n in np.delete(names, held)],
        },
    )


def _meetings(
    windows: WindowSet, shapes: npt.NDArray[Any], region: IntArray, grid: GeoBox
) -> tuple[IntArray, IntArray]:
    """How many regions each window meets, and one of them; two int64 (window,)."""
    # Regions that only touch a window, along its edge, are not met.
    boxes = window_boxes(grid, windows.origins(), windows.size, inset_px=1e-3)
    tree = shapely.STRtree(boxes)
    polygon, window = tree.query(shapes, predicate="intersects")
    pairs = np.unique(np.stack([window, region[polygon]], axis=1), axis=0)
    met = np.bincount(pairs[:, 0], minlength=len(windows))
    own = np.zeros(len(windows), dtype="int64")
    own[pairs[:, 0]] = pairs[:, 1]
    return met, own
