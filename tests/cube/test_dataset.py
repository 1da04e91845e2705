"""Opening a cube: lazy, decoded, with its CRS."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import odc.geo.xr  # noqa: F401  (gives every Dataset its .odc)
import pytest
import xarray as xr

import cube
from cube import nodata
from cube.errors import SpecError, StoreError


@pytest.fixture(scope="module")
def filled(any_layout, fill, tmp_path_factory):
    """A cube whose year 2010 is written, and what was written."""
    url = cube.create(tmp_path_factory.mktemp("dataset") / "toy.zarr", any_layout)
    variables = any_layout.variables
    return url, {v.name: fill(url, v.name, time=None if v.static else 1) for v in variables}


def last(values):
    """The last time of a variable, or all of a static one."""
    return (values.isel(time=-1) if "time" in values.dims else values).values


def test_values_are_physical_and_nan_where_nothing_was_observed(filled, any_layout):
    dataset = cube.open(filled[0])
    for variable in any_layout.variables:
        if not getattr(variable, "classes", ()):
            expected = nodata.decode(filled[1][variable.name], variable)
            assert dataset[variable.name].dtype == expected.dtype
            np.testing.assert_array_equal(last(dataset[variable.name]), expected)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("predictors", "float32"),
        ("lights", "float32"),
        ("terrain", "float32"),
        ("population", "float64"),
        ("basin", "float64"),
        ("glacier", "int8"),
    ],
)
def test_dtypes_are_the_smallest_that_hold_the_values(filled, name, dtype):
    assert cube.open(filled[0])[name].dtype == dtype


def test_classes_stay_integers_with_their_meanings(filled):
    glacier = cube.open(filled[0])["glacier"]
    np.testing.assert_array_equal(last(glacier), filled[1]["glacier"])
    assert glacier.attrs["flag_values"] == [0, 1, 2]
    assert glacier.attrs["_FillValue"] == -1


@pytest.mark.parametrize("chunks", ["auto", None, {"y": 50}])
def test_stored_values_are_those_on_disk(filled, chunks):
    dataset = cube.open(filled[0], stored=True, chunks=chunks)
    for name, values in filled[1].items():
        assert dataset[name].dtype == values.dtype
        np.testing.assert_array_equal(last(dataset[name]), values)


def test_a_plain_reader_sees_the_same_but_for_the_float_type(filled, any_layout):
    ours, plain = cube.open(filled[0]), xr.open_zarr(filled[0])
    assert set(ours.data_vars) == {v.name for v in any_layout.variables}
    for name in ("predictors", "lights", "terrain", "population", "basin"):
        np.testing.assert_allclose(last(ours[name]), last(plain[name]), rtol=1e-6, atol=1e-6)
        assert ours[name].dims == plain[name].dims
        for coordinate in ("x", "y", "time"):
            if coordinate in ours[name].coords:
                xr.testing.assert_equal(ours[coordinate].variable, plain[coordinate].variable)


def test_the_grid_is_known_to_rioxarray_and_to_odc_geo(filled, any_layout):
    dataset = cube.open(filled[0])
    assert dataset.rio.crs.to_epsg() == 32633
    assert dataset.rio.transform() == any_layout.grid.transform
    assert dataset.odc.geobox == any_layout.grid
    for variable in any_layout.variables:
        assert dataset[variable.name].rio.crs.to_epsg() == 32633
        assert dataset[variable.name].odc.geobox == any_layout.grid


def test_one_block_is_one_region(filled, any_layout):
    side = any_layout.layout.region
    predictors = cube.open(filled[0])["predictors"]
    assert predictors.data.chunksize == (1, 3, side, side)


def test_blocks_may_be_chosen(filled):
    predictors = cube.open(filled[0], chunks={"y": 50, "band": 1})["predictors"]
    assert predictors.data.chunksize == (2, 1, 50, 130)


def test_nothing_is_read_until_it_is_asked_for(any_layout, tmp_path, values):
    url = cube.create(tmp_path / "toy.zarr", any_layout)
    region = next(cube.regions(any_layout, "basin"))
    basin = cube.open(url)["basin"]
    data = values(any_layout, "basin", region)
    cube.write_region(url, "basin", region, data)
    expected = nodata.decode(data, any_layout.variable("basin"))
    np.testing.assert_array_equal(basin[region.slices], expected)


def test_bands_and_times_are_selected_by_name(filled):
    predictors = cube.open(filled[0])["predictors"]
    nir = predictors.sel(band="nir", time="2010-01-01")
    stored = filled[1]["predictors"][2]
    expected = np.where(stored == -9999, np.nan, stored * 0.0001 + 0.1)
    np.testing.assert_allclose(nir, expected, rtol=1e-6, atol=1e-6)


def test_opening_and_reading_warn_about_nothing(filled):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cube.open(filled[0]).load()


def test_an_offset_of_many_steps_is_decoded_without_loss(spec, tmp_path):
    heat = cube.LayerSpec(name="heat", dtype="int16", nodata=0, scale=0.001, offset=1e6)
    url = cube.create(tmp_path / "toy.zarr", replace(spec, stacks=(), layers=(heat,)))
    region = next(cube.regions(cube.read_spec(url), "heat", time=0))
    stored = np.arange(1, 32 * 32 + 1, dtype="int16").reshape(32, 32)
    cube.write_region(url, "heat", region, stored)
    found = cube.open(url)["heat"].values[(0, *region.slices)]
    np.testing.assert_array_equal(nodata.encode(found, heat), stored)


def test_without_dask_values_cannot_be_decoded_lazily(filled):
    with pytest.raises(SpecError, match="chunks=None needs stored=True"):
        cube.open(filled[0], chunks=None)


def test_there_must_be_a_cube(tmp_path):
    with pytest.raises(StoreError, match="There is no cube at"):
        cube.open(tmp_path / "none.zarr")
