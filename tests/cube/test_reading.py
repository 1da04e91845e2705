"""Reading stored values: any box, bands by name, and never less than was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cube
from cube.errors import RegionError, SpecError
from cube.reading import read_bands, read_region
from cube.regions import Region


@pytest.fixture(scope="module")
def filled(any_layout, fill, tmp_path_factory):
    """A cube whose second time is written, and what was written."""
    url = cube.create(tmp_path_factory.mktemp("reading") / "toy.zarr", any_layout)
    return url, {"predictors": fill(url, "predictors", time=1), "basin": fill(url, "basin")}


def spans(length):
    return (
        st.tuples(st.integers(0, length), st.integers(0, length))
        .map(sorted)
        .filter(lambda span: span[0] < span[1])
    )


@settings(max_examples=25)
@given(spans(100), spans(130))
def test_any_box_reads_what_numpy_would_cut(filled, any_layout, rows, cols):
    url, whole = filled
    box = Region(time=1, rows=tuple(rows), cols=tuple(cols))
    found = read_region(url, "predictors", box, spec=any_layout)
    np.testing.assert_array_equal(found, whole["predictors"][(..., *box.slices)])
    still = Region(time=None, rows=box.rows, cols=box.cols)
    found = read_region(url, "basin", still, spec=any_layout)
    np.testing.assert_array_equal(found, whole["basin"][box.slices])


def test_a_time_that_is_not_written_reads_as_nodata(filled, any_layout):
    box = Region(time=0, rows=(3, 9), cols=(0, 130))
    assert (read_region(filled[0], "predictors", box, spec=any_layout) == -9999).all()


@pytest.mark.parametrize(
    ("rows", "cols"), [((90, 101), (0, 5)), ((-3, 5), (0, 5)), ((0, 5), (5, 5))]
)
def test_a_box_beyond_the_cube_is_refused_and_never_cut_short(url, spec, rows, cols):
    with pytest.raises(RegionError, match="A box of pixels must lie in the cube"):
        read_region(url, "basin", Region(time=None, rows=rows, cols=cols), spec=spec)


@pytest.mark.parametrize("time", [-1, 2, None])
def test_a_time_beyond_the_calendar_is_refused_and_never_wraps(url, spec, time):
    with pytest.raises(RegionError, match="needs a time index from 0 to 1"):
        read_region(url, "population", Region(time=time, rows=(0, 5), cols=(0, 5)), spec=spec)


@given(st.lists(st.sampled_from(["red", "green", "nir"]), min_size=1, max_size=4))
@settings(max_examples=20)
def test_bands_come_by_name_in_the_order_asked_for(filled, any_layout, bands):
    box = Region(time=1, rows=(10, 20), cols=(100, 130))
    found = read_bands(filled[0], "predictors", box, spec=any_layout, bands=tuple(bands))
    place = [("red", "green", "nir").index(band) for band in bands]
    np.testing.assert_array_equal(found, filled[1]["predictors"][place, 10:20, 100:130])


def test_all_bands_come_where_none_is_named(filled, any_layout):
    box = Region(time=1, rows=(10, 20), cols=(100, 130))
    found = read_bands(filled[0], "predictors", box, spec=any_layout)
    np.testing.assert_array_equal(found, filled[1]["predictors"][:, 10:20, 100:130])


def test_an_unknown_band_is_refused_with_those_there_are(filled, any_layout):
    box = Region(time=1, rows=(10, 20), cols=(100, 130))
    with pytest.raises(SpecError, match=r"has the bands red, green, nir. Received blue"):
        read_bands(filled[0], "predictors", box, spec=any_layout, bands=("red", "blue"))
