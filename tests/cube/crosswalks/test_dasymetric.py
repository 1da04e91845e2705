"""Crosswalks through pixels: a plain loop over pixels is the oracle."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import shapely
from distributed import Client
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import cube
from cube import coverage
from cube.coverage import entries
from cube.crosswalks.dasymetric import through
from cube.errors import PolygonError, SpecError, StoreError
from tests.cube.geometry import frame_of, partition, sets, square
from tests.rasters import grid_at, whole

SHAPE = (40, 50)
GRID = grid_at(SHAPE)
BLOCKS, TRACTS = partition(SHAPE, points=30, seed=1), partition(SHAPE, points=5, seed=2)
BUILT = np.random.default_rng(0).uniform(0.1, 5, SHAPE).astype("float32")

_numbers = itertools.count()
few = settings(deadline=None, max_examples=6)


@pytest.fixture(scope="module", autouse=True)
def small_tiles():
    """So that the little grid has twelve tiles, the last of them cut off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entries, "TILE", 16)
        yield


def made(values=BUILT, *, region=64):
    """A cube with a layer of weights, a layer that varies with time, and one of classes."""
    spec = cube.CubeSpec(
        grid=GRID,
        calendar=cube.years(2000, 2001),
        layers=(
            cube.LayerSpec(name="built", dtype="float32", static=True),
            cube.LayerSpec(name="lights", dtype="float32"),
            cube.LayerSpec(
                name="cover", dtype="uint8", nodata=255, static=True, classes=((1, "urban"),)
            ),
        ),
        layout=cube.LayoutSpec(chunk=16, region=region, codec="none"),
    )
    url = cube.create(f"memory://dasymetric{next(_numbers)}", spec)
    if values is not None:
        for box in cube.regions(spec, "built"):
            cube.write_region(url, "built", box, values[box.slices])
    return url


def covered(url, shapes, name, *, ids=True):
    frame = frame_of(shapes)
    frame["id"] = [f"{name}{i}" for i in range(len(frame))]
    return coverage.build(url, name, frame, id="id" if ids else None)


def dense(found):
    """Shares as a matrix (polygon, pixel)."""
    shares = found.shares(*whole(GRID))
    into, place, share = shares.entries(np.arange(found.polygons, dtype="int32"))
    out = np.zeros((found.polygons, SHAPE[0] * SHAPE[1]))
    np.add.at(out, (into, place), share)
    return out


def expected(sources, targets, weight):
    """Parts (target, source), pixel by pixel."""
    s, t = dense(sources), dense(targets)
    weighted = s * weight.ravel()
    total = weighted.sum(axis=1)
    parts = np.array([[(row * other).sum() for row in weighted] for other in t])
    return parts / np.where(total > 0, total, 1) * sources.covered_share


class TestParts:
    @few
    @given(shapes=sets(SHAPE), weight=st.sampled_from([None, "built"]))
    def test_are_sums_over_the_pixels_that_two_polygons_share(self, shapes, weight):
        url = made()
        sources, targets = covered(url, shapes, "blocks"), covered(url, TRACTS, "tracts")
        assume(not ((sources.pixels == 0) & (sources.covered_share > 0)).any())
        found = through(sources, targets, weight=weight)
        values = np.ones(SHAPE) if weight is None else BUILT.astype("float64")
        np.testing.assert_allclose(
            found.matrix.toarray(), expected(sources, targets, values), rtol=1e-9, atol=1e-12
        )

    def test_conserve_the_total(self):
        url = made()
        found = through(
            covered(url, BLOCKS, "blocks"), covered(url, TRACTS, "tracts"), weight="built"
        )
        persons = pd.Series(np.arange(len(BLOCKS), dtype=float), found.sources, name="persons")
        assert found.cover == "whole"
        assert math.fsum(found.apply(persons)) == pytest.approx(persons.sum(), rel=1e-12)
        means = found.apply(pd.Series(3.0, found.sources), how="intensive")
        np.testing.assert_allclose(means, 3, rtol=1e-12)

    def test_go_where_the_weight_is(self):
        built = np.zeros(SHAPE, "float32")
        built[5, 15] = 1
        url = made(built)
        sources = covered(url, [square(0, 0, 20)], "blocks")
        targets = covered(url, [square(0, 0, 10), square(10, 0, 10), square(0, 10, 10)], "tracts")
        found = through(sources, targets, weight="built").apply(pd.Series([8.0], ["blocks0"]))
        assert found.tolist() == [0, 8, 0]  # where nobody lives is zero, and not missing

    def test_of_what_lies_off_the_grid_are_lost(self):
        url = made()
        sources = covered(url, [square(-5, 0, 10), square(200, 0, 3)], "blocks")
        found = through(sources, covered(url, TRACTS, "tracts"))
        assert found.lost_share.tolist() == pytest.approx([0.5, 1], abs=1e-6)

    def test_weigh_means_by_what_lies_on_the_grid(self):
        url = made()
        sources = covered(url, [square(-10, 0, 10).union(square(0, 0, 10)), square(10, 0, 10)], "b")
        found = through(sources, covered(url, [shapely.box(0, 0, 20, 10)], "t"))
        means = found.apply(pd.Series([2.0, 4.0], found.sources), how="intensive")
        assert means.tolist() == pytest.approx([3])  # a hundred pixels of each

    @pytest.mark.parametrize("options", [{"time": "2000"}, {"empty": "area"}])
    def test_refuse_what_is_about_weights_without_any(self, options):
        url = made()
        sources, targets = covered(url, BLOCKS, "blocks"), covered(url, TRACTS, "tracts")
        with pytest.raises(SpecError, match="is about weights; give weight=, or leave it out"):
            through(sources, targets, **options)

    def test_have_ids_or_row_numbers(self):
        url = made()
        sources = covered(url, BLOCKS, "blocks", ids=False)
        found = through(sources, covered(url, TRACTS, "tracts"))
        assert list(found.sources[:2]) == ["0", "1"]
        assert found.targets[0] == "tracts0"

    def test_leave_out_pixels_without_a_value(self):
        built = BUILT.copy()
        built[:20] = np.nan
        url = made(built)
        sources, targets = covered(url, [square(0, 0, 40)], "b"), covered(url, TRACTS, "tracts")
        np.testing.assert_allclose(
            through(sources, targets, weight="built").matrix.toarray(),
            expected(sources, targets, np.nan_to_num(built).astype("float64")),
            rtol=1e-9,
        )


class TestBits:
    def test_do_not_depend_on_regions_or_workers(self):
        found = []
        for region in (16, 64):
            url = made(region=region)
            sets_ = covered(url, BLOCKS, "blocks"), covered(url, TRACTS, "tracts")
            found.append(through(*sets_, weight="built"))
        with Client(
            processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
        ) as client:
            found.append(through(*sets_, weight="built", client=client))
        for other in found[1:]:
            np.testing.assert_array_equal(other.matrix.data, found[0].matrix.data)
            np.testing.assert_array_equal(other.matrix.indices, found[0].matrix.indices)


class TestRefusals:
    def test_of_sources_without_weight_unless_area_will_do(self):
        built = BUILT.copy()
        built[:12, :12] = 0
        url = made(built)
        sources = covered(url, [square(0, 0, 10), square(20, 20, 10)], "blocks")
        targets = covered(url, [square(0, 0, 5), square(20, 20, 10)], "tracts")
        with pytest.raises(PolygonError, match="1 of 2 sources have no weight in any pixel: 'b"):
            through(sources, targets, weight="built")
        found = through(sources, targets, weight="built", empty="area")
        np.testing.assert_allclose(found.matrix.toarray(), [[0.25, 0], [0, 1]])
        assert found.notes == (
            "1 of 2 sources have no weight in any pixel and are divided by area: 'blocks0'",
        )

    def test_of_regions_that_were_never_written(self):
        url = made(None, region=16)
        sources = covered(url, TRACTS, "tracts")
        with pytest.raises(StoreError, match="12 of 12 regions that were never written"):
            through(sources, sources, weight="built")

    def test_of_negative_weights(self):
        url = made(-BUILT)
        sources = covered(url, TRACTS, "tracts")
        with pytest.raises(SpecError, match="Weights must be finite and 0 or more"):
            through(sources, sources, weight="built")

    def test_of_classes_and_unknown_layers_periods_and_rules(self):
        url = made()
        sources = covered(url, TRACTS, "tracts")
        with pytest.raises(SpecError, match="'cover' holds classes"):
            through(sources, sources, weight="cover")
        with pytest.raises(SpecError, match="The weight 'lights' varies with time; say of which"):
            through(sources, sources, weight="lights")
        with pytest.raises(SpecError, match="roads"):
            through(sources, sources, weight="roads")
        with pytest.raises(SpecError, match="empty is 'refuse' or 'area'"):
            through(sources, sources, empty="keep")

    def test_of_other_grids(self):
        spec = cube.CubeSpec(
            grid=grid_at((20, 20)),
            calendar=cube.years(2000),
            layers=(cube.LayerSpec(name="built", dtype="float32"),),
            layout=cube.LayoutSpec(chunk=16, region=16, codec="none"),
        )
        other = cube.create(f"memory://dasymetric{next(_numbers)}", spec)
        with pytest.raises(PolygonError, match="must be covered on one grid"):
            through(covered(made(), TRACTS, "tracts"), covered(other, TRACTS, "tracts"))

    def test_of_targets_that_overlap_unless_that_is_meant(self):
        url = made()
        sources = covered(url, [square(0, 0, 10)], "blocks")
        targets = covered(url, [square(0, 0, 10), square(0, 0, 20)], "tracts")
        with pytest.raises(PolygonError, match="Targets overlap in 1 of 1 sources"):
            through(sources, targets)
        assert through(sources, targets, overlapping=True).sums.tolist() == [2]

    def test_of_targets_that_overlap_as_much_as_they_leave_out(self):
        url = made()
        sources = covered(url, [shapely.box(0, 0, 12, 4)], "blocks")
        targets = covered(url, [shapely.box(0, 0, 6, 4), shapely.box(3, 0, 9, 4)], "tracts")
        for weight in (None, "built"):
            with pytest.raises(PolygonError, match="Targets overlap in 1 of 1 sources"):
                through(sources, targets, weight=weight)
