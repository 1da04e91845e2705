"""Contiguous groups of whole places, for cross-validation."""

from __future__ import annotations

from functools import partial
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from cube.coverage import Coverage
from cube.errors import SplitError
from cube.regions import Region, regions
from cube.run import Report, report, run_tasks
from cube.template import read_spec
from cube.writing import write_region

IntArray = npt.NDArray[np.int64]


def whole_groups(polygons: gpd.GeoDataFrame, by: str) -> npt.NDArray[Any]:
    """Group of every polygon; one without a group joins that of the nearest with one.

    Args:
        polygons: In a projected CRS.
        by: Column of the groups, e.g. neighbourhoods; may have gaps.

    Returns:
        str (polygon,).

    Raises:
        SplitError: There is no such column, or it is empty.
    """
    if by not in polygons:
        raise SplitError(f"There is no column {by!r}. There are: {', '.join(polygons.columns)}.")
    named = polygons[by].notna().to_numpy()
    if not named.any():
        raise SplitError(f"Column {by!r} names no group.")
    points = _points(polygons)
    _, nearest = cKDTree(points[named]).query(points)
    names = polygons[by].astype(str).to_numpy()
    return np.where(named, names, names[named][nearest])


def contiguous_folds(
    polygons: gpd.GeoDataFrame, *, by: str, folds: int, seed: int
) -> IntArray:
    """Divide polygons into contiguous folds of whole groups.

    Groups are clustered by place (k-means on their centres, weighted by their
    number of polygons); parts of a fold that do not touch its largest part
    join the fold they touch most.

    Args:
        polygons: In a projected CRS.
        by: Column of the groups; see :func:`whole_groups`.
        folds: Number of folds, at least 2.
        seed: Of the clustering.

    Returns:
        int64 (polygon,), fold from 0.

    Raises:
        SplitError: There are fewer groups than folds.
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415  (slow to import)

    names, group = np.unique(whole_groups(polygons, by), return_inverse=True)
    if not 2 <= folds <= len(names):
        raise SplitError(
            f"{folds} folds need at least 2 and at most as many as groups. "
            f"There are {len(names)} groups in {by!r}."
        )
    size = np.bincount(group)
    points = _points(polygons)
    centres = np.stack([np.bincount(group, points[:, i]) / size for i in (0, 1)], axis=1)
    model = KMeans(folds, n_init=20, random_state=seed).fit(centres, sample_weight=size)
    touching = _touching(polygons, group, len(names))
    return _connected(np.asarray(model.labels_, "int64"), touching, size)[group]


def _points(polygons: gpd.GeoDataFrame) -> npt.NDArray[np.float64]:
    return shapely.get_coordinates(polygons.geometry.representative_point().to_numpy())


def _touching(polygons: gpd.GeoDataFrame, group: IntArray, groups: int) -> npt.NDArray[Any]:
    """How many pairs of polygons of two groups touch; int (group, group)."""
    shapes = polygons.geometry.to_numpy()
    # Neighbours drawn apart by a digitising slip still count as touching.
    slack = float(np.sqrt(np.median(shapely.area(shapes)))) / 20
    one, other = shapely.STRtree(shapes).query(shapes, predicate="dwithin", distance=slack)
    pairs = coo_array((np.ones(len(one)), (group[one], group[other])), shape=(groups, groups))
    return pairs.toarray()


def _connected(fold: IntArray, touching: npt.NDArray[Any], size: IntArray) -> IntArray:
    """Move parts that are cut off from their fold to the fold they touch most."""
    out = fold.copy()
    for _ in range(len(out)):
        stray = _first_stray(out, touching, size)
        if stray is None:
            break
        contact = np.bincount(out, touching[stray].sum(axis=0), fold.max() + 1)
        contact[out[stray[0]]] = 0
        if not contact.any():
            break  # an island: it touches nothing, so it stays where it was nearest
        out[stray] = contact.argmax()
    return out


def _first_stray(fold: IntArray, touching: npt.NDArray[Any], size: IntArray) -> IntArray | None:
    for number in range(fold.max() + 1):
        members = np.flatnonzero(fold == number)
        count, part = connected_components(touching[np.ix_(members, members)], directed=False)
        if count > 1:
            weight = np.bincount(part, size[members])
            weight[weight.argmax()] = np.inf
            stray = members[part == weight.argmin()]
            if touching[stray][:, fold != number].any():
                return stray
    return None


def write_folds(
    coverage: Coverage, layer: str, polygons: gpd.GeoDataFrame, folds: IntArray
) -> Report:
    """Write the fold of every pixel as a static class layer.

    A pixel belongs to the polygon with the largest share of it; a pixel
    outside all polygons to the nearest one.

    Args:
        coverage: Shares of the polygons.
        layer: A static integer layer of the cube.
        polygons: Those of the coverage.
        folds: int (polygon,).
    """
    spec = read_spec(coverage.url)
    tree = shapely.STRtree(polygons.geometry.to_numpy())
    fill = partial(_fill, coverage=coverage, layer=layer, tree=tree, folds=folds)
    todo = list(regions(spec, layer))
    return report("folds", run_tasks(fill, todo, verb="folds", url=coverage.url))


def _fill(
    region: Region, *, coverage: Coverage, layer: str, tree: shapely.STRtree, folds: IntArray
) -> None:
    spec = read_spec(coverage.url)
    owner = coverage.shares(region.rows, region.cols).owner()
    row, col = np.nonzero(owner < 0)
    xs, ys = coverage.grid.transform * (col + region.cols[0] + 0.5, row + region.rows[0] + 0.5)
    owner[row, col] = tree.nearest(shapely.points(xs, ys))
    stored = folds[owner].astype(spec.variable(layer).storage)
    write_region(coverage.url, layer, region, stored, spec=spec)
