"""From polygons to pixels and back, the same in a folder, in memory and in every object store."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import cube
from cube import store
from tests.cube.geometry import frame_of, partition
from tests.rasters import grid_at

GRID = grid_at((40, 50))
POLYGONS = partition((40, 50), points=30, seed=4)


@pytest.fixture
def frame():
    persons = np.random.default_rng(4).integers(0, 900, len(POLYGONS))
    ids = [f"{i:07}" for i in range(len(POLYGONS))]
    return frame_of(POLYGONS, GRID, geoid=ids, persons=persons)


def chain(url, frame, *, into=None, client=None):
    """Coverage, persons per pixel and a panel of them; the panel."""
    layer = cube.LayerSpec(name="persons", dtype="float64", static=True)
    layout = cube.LayoutSpec(chunk=16, region=32)
    spec = cube.CubeSpec(grid=GRID, calendar=cube.years(2000), layers=(layer,), layout=layout)
    cube.create(url, spec)
    blocks = cube.place_polygons(frame, grid=GRID, counts=["persons"], id="geoid")
    coverage = cube.coverage.build(url, "blocks", blocks, id="geoid", into=into, client=client)
    cube.spread(coverage, "persons", blocks["persons"].to_numpy(), client=client)
    panel = cube.aggregate(coverage, "persons", statistics=("sum", "median"), client=client)
    panel = cube.with_geometry(panel, blocks, id="geoid")
    cube.save_blocks(url, "blocks", panel, into=into)
    return panel


def test_the_chain_is_the_same_in_every_store(store_url, frame, tmp_path):
    found, expected = chain(store_url, frame), chain(str(tmp_path / "c.zarr"), frame)
    xr.testing.assert_identical(found, expected)
    assert float(cube.open(store_url)["persons"].sum()) == pytest.approx(frame.persons.sum())
    xr.testing.assert_identical(cube.open_blocks(store_url, "blocks"), expected)
    plain = xr.open_zarr(store.open_store(store_url), group="blocks/blocks", chunks=None)
    np.testing.assert_array_equal(plain["persons_sum"], expected["persons_sum"])
    assert cube.verify(store_url).sound


def test_an_annex_in_every_store_serves_a_cube_elsewhere(store_url, frame, tmp_path):
    found = chain(str(tmp_path / "c.zarr"), frame, into=store_url)
    again = cube.coverage.load(tmp_path / "c.zarr", "blocks", into=store_url)
    assert again.ids == tuple(frame.geoid)
    xr.testing.assert_identical(
        cube.open_blocks(tmp_path / "c.zarr", "blocks", into=store_url), found
    )


def test_processes_of_a_cluster_give_the_same_bytes(frame, tmp_path, contents):
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        found = chain(str(tmp_path / "a.zarr"), frame, client=client)
    xr.testing.assert_identical(found, chain(str(tmp_path / "b.zarr"), frame))
    assert contents(tmp_path / "a.zarr") == contents(tmp_path / "b.zarr")
