"""Folds are connected, keep groups whole, and reach every pixel of the cube."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely
from scipy.sparse.csgraph import connected_components

import cube
from cube.errors import SourceError, SplitError
from cube.windows import Windows
from tests import toy
from training.splits import groups as module
from training.splits.groups import contiguous_folds, split_by_place, whole_groups, write_folds
from training.splits.polygons import SplitRules


def _parts(shapes):
    """Number of connected parts of polygons that share an edge."""
    touching = shapely.relate_pattern(shapes[:, None], shapes[None], "****1****")
    return connected_components(touching, directed=False)[0]


class TestWholeGroups:
    def test_a_nameless_polygon_joins_the_nearest_with_a_name(self):
        polygons = toy.patchwork()
        names = polygons["neighbourhood"].to_numpy()
        found = whole_groups(polygons, "neighbourhood")
        points = polygons.geometry.representative_point().to_numpy()
        named = np.flatnonzero(polygons["neighbourhood"].notna())
        assert len(named) == 27
        for row, group in enumerate(found):
            nearest = named[shapely.distance(points[row], points[named]).argmin()]
            assert group == names[row if row in named else nearest]

    def test_no_such_column(self):
        with pytest.raises(SplitError, match=r"no column 'suburb'\. There are: neighbourhood"):
            whole_groups(toy.patchwork(), "suburb")

    def test_a_column_without_any_name(self):
        with pytest.raises(SplitError, match="'neighbourhood' names no group"):
            whole_groups(toy.patchwork().assign(neighbourhood=None), "neighbourhood")


class TestContiguousFolds:
    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("folds", [2, 4])
    def test_every_fold_is_connected_and_holds_whole_groups(self, seed, folds):
        polygons = toy.patchwork(seed=seed)
        number = contiguous_folds(polygons, by="neighbourhood", folds=folds, seed=seed)
        assert np.unique(number).tolist() == list(range(folds))
        for fold in range(folds):
            assert _parts(polygons.geometry.to_numpy()[number == fold]) == 1
        groups = whole_groups(polygons, "neighbourhood")
        assert all(len(np.unique(number[groups == group])) == 1 for group in np.unique(groups))

    def test_the_seed_alone_decides(self):
        polygons = toy.patchwork()
        numbers = [
            contiguous_folds(polygons, by="neighbourhood", folds=3, seed=7).tolist()
            for _ in range(2)
        ]
        assert numbers[0] == numbers[1]

    @pytest.mark.parametrize("folds", [1, 10])
    def test_a_number_of_folds_that_the_groups_do_not_admit(self, folds):
        with pytest.raises(SplitError, match="There are 9 groups in 'neighbourhood'"):
            contiguous_folds(toy.patchwork(), by="neighbourhood", folds=folds, seed=0)

    def test_a_part_that_is_cut_off_joins_the_fold_that_it_touches_most(self):
        boxes = gpd.GeoDataFrame(geometry=[shapely.box(x, 0, x + 1, 1) for x in range(6)])
        group = np.arange(6)
        touching = module._touching(boxes, group, 6)
        found = module._connected(np.array([0, 0, 0, 1, 1, 0]), touching, np.ones(6, "int64"))
        assert found.tolist() == [0, 0, 0, 1, 1, 1]

    def test_an_island_does_not_keep_another_part_cut_off(self):
        place = [0, 1, 2, 3, 4, 5, 20]  # the last touches nothing
        boxes = gpd.GeoDataFrame(geometry=[shapely.box(x, 0, x + 1, 1) for x in place])
        touching = module._touching(boxes, np.arange(7), 7)
        size = np.array([9, 9, 9, 9, 9, 3, 1])
        found = module._connected(np.array([0, 0, 0, 1, 1, 0, 0]), touching, size)
        assert found.tolist() == [0, 0, 0, 1, 1, 1, 0]


@pytest.fixture(scope="module")
def numbered(city, tmp_path_factory):
    """A copy of the toy with the fold of every pixel."""
    copy = toy.copied(city, tmp_path_factory.mktemp("folds") / "toy.zarr")
    folds = contiguous_folds(copy.polygons, by="neighbourhood", folds=3, seed=0)
    return copy, folds, write_folds(copy.coverage, "fold", copy.polygons, folds)


class TestWriteFolds:
    def test_a_pixel_of_a_polygon_has_its_fold(self, numbered):
        copy, folds, _ = numbered
        inside = copy.owner >= 0
        assert np.array_equal(toy.stored(copy.url, "fold")[inside], folds[copy.owner[inside]])

    def test_a_pixel_outside_has_the_fold_of_the_nearest_polygon(self, numbered):
        copy, folds, _ = numbered
        layer = toy.stored(copy.url, "fold")
        row, col = np.nonzero(copy.owner < 0)
        assert len(row) > 500
        t = toy.GRID.transform
        points = shapely.points(t.c + (col + 0.5) * t.a, t.f + (row + 0.5) * t.e)
        shapes = copy.polygons.geometry.to_numpy()
        apart = shapely.distance(points[:, None], shapes[None])
        of_fold = np.where(folds[None] == layer[row, col][:, None], apart, np.inf)
        np.testing.assert_allclose(of_fold.min(axis=1), apart.min(axis=1))

    def test_regions_change_no_pixel(self, numbered, tmp_path):
        copy, folds, _ = numbered
        whole = toy.build(tmp_path / "whole.zarr", chunk=64, region=128)
        write_folds(whole.coverage, "fold", whole.polygons, folds)
        assert np.array_equal(toy.stored(whole.url, "fold"), toy.stored(copy.url, "fold"))

    def test_it_is_a_class_layer(self, numbered):
        layer = numbered[0].spec.layer("fold")
        assert layer.static
        assert layer.classes == ((0, "fold 1"), (1, "fold 2"), (2, "fold 3"))

    def test_running_it_again_does_nothing(self, numbered):
        copy, folds, report = numbered
        again = write_folds(copy.coverage, "fold", copy.polygons, folds)
        assert (report.count("done"), report.count("skipped")) == (12, 0)
        assert (again.count("done"), again.count("skipped")) == (0, 12)

    def test_other_folds_in_the_same_layer_are_refused(self, numbered):
        copy, folds, _ = numbered
        with pytest.raises(SourceError, match="made from other inputs"):
            write_folds(copy.coverage, "fold", copy.polygons, (folds + 1) % 3)


def test_a_split_by_place_leaves_its_folds_in_the_cube(city, tmp_path):
    copy = toy.copied(city, tmp_path / "toy.zarr")
    windows = Windows(shape=toy.SHAPE, size=8, stride=4)
    split = split_by_place(
        copy.coverage, copy.polygons, windows, SplitRules(seed=0), by="neighbourhood", folds=2
    )
    inside = copy.owner >= 0
    layer = cube.open(copy.url, stored=True, chunks=None)["fold"].to_numpy()
    assert np.array_equal(layer[inside], split.polygon_fold[copy.owner[inside]])
    assert split.kind == "by place"
    assert len(split.folds) == 2
