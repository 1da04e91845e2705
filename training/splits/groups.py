"""Contiguous groups of whole places, for cross-validation."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from cube import filling, template
from cube.coverage import Coverage
from cube.errors import SplitError
from cube.regions import Region
from cube.report import Report
from cube.spec import LayerSpec
from cube.windows import Windows
from training.splits.polygons import Split, SplitRules, split_by_polygons

if TYPE_CHECKING:
    import geopandas as gpd

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


def contiguous_folds(polygons: gpd.GeoDataFrame, *, by: str, folds: int, seed: int) -> IntArray:
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
    from sklearn.cluster import KMeans

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
    """The smallest part that is cut off from its fold and touches another one."""
    for number in range(fold.max() + 1):
        members = np.flatnonzero(fold == number)
        _, part = connected_components(touching[np.ix_(members, members)], directed=False)
        weight = np.bincount(part, size[members])
        for stray in np.argsort(weight, kind="stable"):
            groups = members[part == stray]
            if stray != weight.argmax() and touching[groups][:, fold != number].any():
                return groups
    return None


def split_by_place(  # noqa: PLR0913  (the three that define it, and the names it uses)
    coverage: Coverage,
    polygons: gpd.GeoDataFrame,
    windows: Windows,
    rules: SplitRules,
    *,
    by: str,
    folds: int = 5,
    layer: str = "fold",
) -> Split:
    """Cross-validate by contiguous groups of whole neighbourhoods, with a buffer.

    Args:
        coverage: Shares of the polygons.
        polygons: Those of the coverage.
        windows: Windows over the cube's grid.
        rules: Buffer, validation and seed.
        by: Column of the neighbourhoods; see :func:`whole_groups`.
        folds: Number of folds.
        layer: Static class layer that is added to the cube, with the fold of
            every pixel: that of the polygon with the largest share of it, or of
            the nearest polygon. Prediction reads it.

    Raises:
        SplitError: See :func:`contiguous_folds` and
            :func:`training.splits.polygons.split_by_polygons`.
    """
    number = contiguous_folds(polygons, by=by, folds=folds, seed=rules.seed)
    groups = whole_groups(polygons, by)
    split = split_by_polygons(coverage, windows, number, rules, groups=groups)
    write_folds(coverage, layer, polygons, number)
    return split


def write_folds(
    coverage: Coverage, layer: str, polygons: gpd.GeoDataFrame, folds: IntArray
) -> Report:
    """Add the fold of every pixel to the cube as a static class layer.

    A pixel belongs to the polygon with the largest share of it; a pixel
    outside all polygons to the nearest one.

    Args:
        coverage: Shares of the polygons.
        layer: Name of the layer.
        polygons: Those of the coverage.
        folds: int (polygon,), from 0.
    """
    spec = template.add(coverage.url, _fold_layer(layer, int(folds.max()) + 1))
    inputs = {None: {"polygons": coverage.digest, "folds": folds.tolist()}}
    work = filling.prepare(f"folds {layer}", coverage.url, spec, layer, inputs)
    tree = shapely.STRtree(polygons.geometry.to_numpy())
    return filling.fill(work, partial(_values, coverage=coverage, tree=tree, folds=folds))


def _fold_layer(name: str, folds: int) -> LayerSpec:
    return LayerSpec(
        name=name,
        dtype="int16",
        nodata=-1,
        static=True,
        long_name="fold in which a place is scored",
        classes=tuple((k, f"fold {k + 1}") for k in range(folds)),
    )


def _values(
    region: Region, *, coverage: Coverage, tree: shapely.STRtree, folds: IntArray
) -> npt.NDArray[np.float64]:
    owner = coverage.shares(region.rows, region.cols).owner()
    row, col = np.nonzero(owner < 0)
    t = coverage.grid.transform
    xs = t.c + (col + region.cols[0] + 0.5) * t.a
    ys = t.f + (row + region.rows[0] + 0.5) * t.e
    owner[row, col] = tree.nearest(shapely.points(xs, ys))
    return folds[owner].astype("float64")
