"""Regions tile the cube, and nothing else is written."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

import cube
from cube.errors import RegionError, SpecError
from cube.regions import (
    Region,
    check_aligned,
    check_box,
    check_region,
    ledger_index,
    ranges,
    region_counts,
    regions,
    tiles,
)


@st.composite
def cubes(draw):
    """Small cubes of any size, one layer with time and one without."""
    shape = draw(st.tuples(st.integers(1, 60), st.integers(1, 60)))
    chunk = draw(st.integers(1, 8))
    return cube.CubeSpec(
        grid=GeoBox(shape, GRID.transform, GRID.crs),
        calendar=cube.years(2000, 2010, 2020),
        layers=(
            cube.LayerSpec(name="roof", dtype="float32"),
            cube.LayerSpec(name="basin", dtype="float32", static=True),
        ),
        layout=cube.LayoutSpec(chunk=chunk, region=chunk * draw(st.integers(1, 4))),
    )


GRID = GeoBox.from_bbox((0, 0, 100, 100), crs="EPSG:32633", resolution=1)


@given(st.integers(0, 500), st.integers(1, 100))
def test_ranges_follow_one_another_to_the_end(length, step):
    found = ranges(length, step)
    assert [i for start, stop in found for i in range(start, stop)] == list(range(length))
    assert all(stop - start == step for start, stop in found[:-1])


@given(cubes())
def test_every_pixel_lies_in_one_region(spec):
    seen = np.zeros(spec.grid.shape, int)
    for region in regions(spec, "roof", time=1):
        assert seen[region.slices].shape == region.shape
        seen[region.slices] += 1
    assert (seen == 1).all()


@given(cubes())
def test_every_region_has_one_place_of_its_own_in_the_ledger(spec):
    places = [ledger_index(spec, r) for t in range(3) for r in regions(spec, "roof", time=t)]
    assert sorted(places) == list(np.ndindex(3, *region_counts(spec)))
    still = [ledger_index(spec, r) for r in regions(spec, "basin")]
    assert still == list(np.ndindex(*region_counts(spec)))


@given(cubes())
def test_every_region_may_be_written(spec):
    for region in regions(spec, "roof", time=2):
        check_region(spec, "roof", region)


@given(st.integers(-20, 220), st.integers(-20, 220), st.integers(1, 40), st.integers(1, 200))
def test_any_other_range_is_refused_with_one_that_is_not(start, stop, step, length):
    if (start, stop) in ranges(length, step):
        check_aligned((start, stop), step=step, length=length, axis="y")
        return
    with pytest.raises(RegionError, match=f"Received {start}:{stop}. Write ") as refused:
        check_aligned((start, stop), step=step, length=length, axis="y")
    legal = re.search(r"Write (\d+):(\d+)\.", str(refused.value)).groups()
    assert tuple(map(int, legal)) in ranges(length, step)


@pytest.mark.parametrize(
    ("span", "legal"),
    [((1, 33), "0:32"), ((17, 49), "32:64"), ((96, 128), "96:100"), ((500, 532), "96:100")],
)
def test_the_range_suggested_is_the_nearest(span, legal):
    with pytest.raises(RegionError, match=f"Along 'y' regions have 32 pixels of 100.* {legal}"):
        check_aligned(span, step=32, length=100, axis="y")


def test_either_axis_is_checked(spec):
    good = next(regions(spec, "basin"))
    with pytest.raises(RegionError, match="Along 'y'"):
        check_region(spec, "basin", replace(good, rows=(0, 16)))
    with pytest.raises(RegionError, match="Along 'x'"):
        check_region(spec, "basin", replace(good, cols=(0, 16)))


@pytest.mark.parametrize("time", [None, -1, 2])
def test_a_variable_with_time_needs_a_time_of_the_calendar(spec, time):
    with pytest.raises(RegionError, match=f"needs a time index from 0 to 1. Received {time}"):
        list(regions(spec, "predictors", time=time))


def test_a_static_variable_takes_no_time(spec):
    with pytest.raises(RegionError, match="'terrain' has no time dimension; leave the time out"):
        list(regions(spec, "terrain", time=0))


def test_an_unknown_variable_has_no_regions(spec):
    with pytest.raises(SpecError, match="no variable 'rood'"):
        list(regions(spec, "rood", time=0))


@pytest.mark.parametrize("rows", [(0, 100), (3, 4), (99, 100)])
def test_any_box_inside_the_cube_may_be_read(spec, rows):
    check_box(spec, "basin", Region(time=None, rows=rows, cols=(0, 130)))


@pytest.mark.parametrize("rows", [(-1, 5), (90, 101), (5, 5), (6, 5), (200, 300)])
def test_a_box_that_is_empty_or_leaves_the_cube_is_refused(spec, rows):
    with pytest.raises(RegionError, match=r"must lie in the cube. Along 'y' it has 100 pixels"):
        check_box(spec, "basin", Region(time=None, rows=rows, cols=(0, 130)))


def test_tiles_go_row_by_row():
    found = [(tile.rows, tile.cols) for tile in tiles((3, 5), 2)]
    across = [(0, 2), (2, 4), (4, 5)]
    assert found == [(rows, cols) for rows in [(0, 2), (2, 3)] for cols in across]


def test_a_region_says_where_it_is():
    assert str(Region(time=3, rows=(0, 2), cols=(4, 6))) == "time 3, rows 0:2, cols 4:6"
    assert str(Region(time=None, rows=(0, 2), cols=(4, 6))) == "rows 0:2, cols 4:6"
