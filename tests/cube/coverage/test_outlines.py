"""Polygons as numbers in pixels, and the shares of pixels inside them."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.coverage.outlines import Outlines
from cube.regions import tiles
from tests.cube.geometry import partition, sets, square, star, to_map
from tests.rasters import grid_at

SHAPE = (40, 50)
GRID = grid_at(SHAPE)
ALL = ((0, SHAPE[0]), (0, SHAPE[1]))

few = settings(max_examples=60, deadline=None)


def outlines_of(polygons):
    return Outlines.of(to_map(polygons, GRID), GRID)


def dense(shares, polygons):
    """The matrix, float64 (polygon, y, x)."""
    out = np.zeros((polygons, *shares.label.shape))
    held = shares.label >= 0
    out[shares.label[held], *np.nonzero(held)] = 1.0
    np.add.at(out.reshape(polygons, -1), (shares.polygon, shares.pixel), shares.share)
    return out


def areas(polygons, rows=ALL[0], cols=ALL[1]):
    """Shapely's area of each polygon in each pixel of a box, float64 (polygon, y, x)."""
    y, x = np.meshgrid(np.arange(*rows), np.arange(*cols), indexing="ij")
    pixels = shapely.box(x, y, x + 1, y + 1)
    each = [shapely.area(shapely.intersection(polygon, pixels)) for polygon in polygons]
    return np.stack(each)


# Rectangles have edges along rows and columns, which polygons at random do not.
boxes = st.tuples(*[st.integers(-8, 60).map(lambda n: n / 4)] * 2, *[st.integers(1, 40)] * 2).map(
    lambda b: shapely.box(b[0], b[1], b[0] + b[2] / 4, b[1] + b[3] / 4)
)


class TestShares:
    @few
    @given(polygons=sets(SHAPE))
    def test_they_are_shapelys_areas_of_intersections(self, polygons):
        found = dense(outlines_of(polygons).shares(*ALL), len(polygons))
        np.testing.assert_allclose(found, areas(polygons), rtol=0, atol=1e-7)

    @few
    @given(polygons=st.lists(boxes, min_size=1, max_size=5))
    def test_those_of_rectangles_are_too(self, polygons):
        found = dense(outlines_of(polygons).shares(*ALL), len(polygons))
        np.testing.assert_allclose(found, areas(polygons), rtol=0, atol=1e-7)

    @few
    @given(polygons=sets(SHAPE), data=st.data())
    def test_those_of_a_box_are_those_of_the_whole_there(self, polygons, data):
        ends = [st.integers(0, n) for n in SHAPE]
        rows, cols = (data.draw(st.tuples(e, e).filter(lambda ab: ab[0] < ab[1])) for e in ends)
        outlines = outlines_of(polygons)
        whole = dense(outlines.shares(*ALL), len(polygons))
        part = dense(outlines.shares(rows, cols), len(polygons))
        np.testing.assert_allclose(part, whole[:, slice(*rows), slice(*cols)], rtol=0, atol=1e-7)

    @few
    @given(polygons=sets(SHAPE))
    def test_the_way_that_rings_turn_does_not_matter(self, polygons):
        turned = shapely.reverse(np.array(polygons, dtype=object))
        found, expected = (outlines_of(p).shares(*ALL) for p in (turned, polygons))
        np.testing.assert_allclose(
            dense(found, len(polygons)), dense(expected, len(polygons)), rtol=0, atol=1e-7
        )

    def test_holes_and_islands_in_them_subtract_and_add(self):
        lake = square(2, 2, 20).difference(square(5, 5, 10))
        polygon = shapely.MultiPolygon([lake, square(8.5, 8.5, 3)])
        found = dense(outlines_of([polygon]).shares(*ALL), 1)
        np.testing.assert_allclose(found, areas([polygon]), rtol=0, atol=1e-7)
        assert found.sum() == pytest.approx(400 - 100 + 9)

    def test_a_patchwork_claims_every_pixel_once(self):
        polygons = partition(SHAPE, points=80, seed=5)
        covered = outlines_of(polygons).shares(*ALL).covered()
        np.testing.assert_allclose(covered, 1, rtol=0, atol=1e-6)

    def test_entries_are_sorted_by_pixel_and_polygon_and_hold_no_zero(self):
        polygons = [*partition(SHAPE, points=80, seed=5), square(3, 3, 9), square(3.5, 3, 9)]
        shares = outlines_of(polygons).shares(*ALL)
        order = np.lexsort((shares.polygon, shares.pixel))
        np.testing.assert_array_equal(order, np.arange(len(order)))
        assert (shares.share > 0).all()
        assert (shares.share <= 1).all()
        assert not (shares.label.ravel()[shares.pixel] >= 0).any()

    def test_a_polygon_with_many_corners_in_a_pixel_is_exact(self):
        crown = star((20.5, 20.5), np.tile([0.4, 0.1], 500))
        found = dense(outlines_of([crown]).shares(*ALL), 1)
        assert found[0, 20, 20] == pytest.approx(crown.area, abs=1e-7)
        assert (found > 0).sum() == 1

    def test_an_edge_along_pixels_leaves_nothing_beside_it(self):
        found = dense(outlines_of([square(3, 4, 5)]).shares(*ALL), 1)
        assert (found > 0).sum() == found.sum() == 25


class TestOutlines:
    @few
    @given(polygons=sets(SHAPE))
    def test_areas_and_bounds_are_shapelys(self, polygons):
        outlines = outlines_of(polygons)
        np.testing.assert_allclose(outlines.area, shapely.area(polygons), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(outlines.bounds, shapely.bounds(polygons), atol=1e-7)

    @few
    @given(polygons=sets(SHAPE), side=st.integers(3, 60))
    def test_by_tile_finds_all_that_meet_each(self, polygons, side):
        outlines = outlines_of(polygons)
        boxes = list(tiles(SHAPE, side))
        for tile, members in zip(boxes, outlines.by_tile(boxes, side), strict=True):
            assert set(outlines.meeting(tile.rows, tile.cols)) <= set(members)
            assert (np.diff(members) > 0).all()
            found = outlines.shares(tile.rows, tile.cols, members)
            expected = outlines.shares(tile.rows, tile.cols)
            np.testing.assert_array_equal(
                dense(found, len(polygons)), dense(expected, len(polygons))
            )

    @few
    @given(polygons=sets(SHAPE), data=st.data())
    def test_some_of_them_are_as_if_made_alone(self, polygons, data):
        chosen = data.draw(st.lists(st.sampled_from(range(len(polygons))), min_size=1))
        found = outlines_of(polygons).take(np.array(chosen, "int32"))
        self.equal(found, outlines_of([polygons[i] for i in chosen]))

    @few
    @given(one=sets(SHAPE), other=sets(SHAPE))
    def test_joined_sets_are_as_if_made_together(self, one, other):
        found = Outlines.joined([outlines_of(one), outlines_of(other)])
        self.equal(found, outlines_of([*one, *other]))

    def equal(self, one, other):
        for part in ("xy", "ring_start", "ring_sign", "polygon_start", "bounds", "area"):
            np.testing.assert_array_equal(getattr(one, part), getattr(other, part))
