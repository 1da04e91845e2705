"""Chunks encoded here are, byte for byte, those that Zarr writes; Zarr is the oracle."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import cube
from cube import objects, store
from cube.arrays import data_plan
from cube.encoding import encode_chunk, is_nothing
from cube.regions import regions
from cube.store import ArrayPlan, rendered
from tests.rasters import grid_at

CODECS = ("none", "blosc-zstd-3-bitshuffle", "blosc-lz4-5-shuffle", "blosc-zlib-1-noshuffle")
DTYPES = ("uint8", "int16", "uint32", "int64", "float32", "float64")


def plan_of(dtype, codec, shape=(2, 37, 20)):
    fill = float("nan") if dtype.startswith("f") else 7
    return ArrayPlan(
        path="a", shape=shape, chunks=(2, 16, 16), dtype=dtype, fill=fill, dims=("b", "y", "x"),
        attrs={}, codec=codec,
    )  # fmt: skip


def ours(plan, values):
    """Chunks by key, each padded with the fill value, without those of nothing else."""
    found = {}
    for y, x in itertools.product(range(3), range(2)):
        chunk = np.full(plan.chunks, plan.fill, plan.dtype)
        part = values[:, y * 16 : y * 16 + 16, x * 16 : x * 16 + 16]
        chunk[:, : part.shape[1], : part.shape[2]] = part
        if not is_nothing(chunk, plan.fill):
            found[f"a/c/0/{y}/{x}"] = encode_chunk(chunk, plan.codec)
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("codec", CODECS)
@given(data=st.data())
def test_bytes_are_those_of_zarr(dtype, codec, data):
    plan = plan_of(dtype, codec)
    values = data.draw(arrays.arrays(dtype, plan.shape, fill=st.just(np.dtype(dtype).type(7))))
    assert ours(plan, values) == rendered(plan, values)[1]


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_a_chunk_of_nothing_is_not_stored(dtype):
    plan = plan_of(dtype, CODECS[1])
    values = np.full(plan.shape, plan.fill, dtype)
    assert ours(plan, values) == rendered(plan, values)[1] == {}
    assert not is_nothing(np.ones((2, 2), dtype), plan.fill)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_regions_are_stored_as_zarr_stores_the_array(tmp_path, dtype, codec):
    nodata = {} if dtype.startswith("f") else {"nodata": 7}
    spec = cube.CubeSpec(
        grid=grid_at((50, 70)),
        calendar=cube.years(2000, 2001),
        stacks=(cube.StackSpec(name="s", bands=("a", "b"), dtype=dtype, **nodata),),
        layout=cube.LayoutSpec(chunk=16, region=32, codec=codec),
    )
    url = cube.create(tmp_path / "c.zarr", spec)
    values = np.random.default_rng(0).integers(0, 9, (2, 2, 50, 70)).astype(dtype)
    for time in (0, 1):
        for region in regions(spec, "s", time=time):
            part = values[(time, slice(None), *region.slices)]
            cube.write_region(url, "s", region, part, spec=spec)
    stored = {e.key: objects.at(url).get(e.key) for e in objects.at(url).list("s/c/")}
    assert stored == rendered(data_plan(spec, spec.variable("s")), values)[1]


def test_what_becomes_nothing_is_removed(tmp_path):
    spec = cube.CubeSpec(
        grid=grid_at((32, 32)),
        calendar=cube.years(2000),
        layers=(cube.LayerSpec(name="l", dtype="int16", nodata=-1, static=True),),
        layout=cube.LayoutSpec(chunk=16, region=32),
    )
    url = cube.create(tmp_path / "c.zarr", spec)
    (region,) = regions(spec, "l")
    cube.write_region(url, "l", region, np.ones((32, 32), "int16"), spec=spec)
    assert len(list(objects.at(url).list("l/c/"))) == 4
    gone = np.ones((32, 32), "int16")
    gone[:16] = -1
    cube.write_region(url, "l", region, gone, spec=spec, overwrite=True)
    assert [e.key for e in objects.at(url).list("l/c/")] == ["l/c/1/0", "l/c/1/1"]
    np.testing.assert_array_equal(store.read(url, "l"), gone)
