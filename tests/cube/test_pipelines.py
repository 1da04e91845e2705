"""zarrs, the faster codec pipeline, is equal to zarr-python's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import cube
from cube import store
from cube.errors import DamagedError, StoreError
from cube.reading import read_region

zarrs = pytest.importorskip("zarrs")


@pytest.fixture
def fast():
    cube.use_zarrs()
    yield
    cube.use_zarrs(False)


@pytest.fixture
def filled(any_url, any_layout, fill):
    """A cube whose second year is written; what was written."""
    names = [variable.name for variable in any_layout.variables]
    times = {name: None if any_layout.variable(name).static else 1 for name in names}
    return {name: fill(any_url, name, time=times[name]) for name in names}


def test_it_is_really_used_for_reading_and_never_for_writing(any_url, filled, fast):
    def pipeline(writing):
        found = store.array(any_url, "predictors", writing=writing)
        return type(found._async_array.codec_pipeline).__name__

    assert pipeline(writing=False) == "ZarrsCodecPipeline"
    assert pipeline(writing=True) == "BatchedCodecPipeline"
    assert zarr.config.get("codec_pipeline.path").endswith("BatchedCodecPipeline")


def test_regions_hold_the_same_values(any_url, any_layout, filled, fast):
    for variable in any_layout.variables:
        for time in (None,) if variable.static else (0, 1):
            for region in cube.regions(any_layout, variable.name, time=time):
                found = read_region(any_url, variable.name, region, spec=any_layout)
                expected = filled[variable.name][(..., *region.slices)]
                if time == 0:
                    expected = np.full_like(expected, variable.fill)
                np.testing.assert_array_equal(found, expected)
    assert cube.verify(any_url).sound


def test_an_opened_cube_is_identical(any_url, filled):
    slow = cube.open(any_url).load()
    cube.use_zarrs()
    try:
        xr.testing.assert_identical(cube.open(any_url).load(), slow)
    finally:
        cube.use_zarrs(False)


def test_what_is_written_meanwhile_has_the_same_bytes(
    any_layout, created, tmp_path, fill, contents, fast
):
    fast_url = cube.create(tmp_path / "fast.zarr", any_layout)
    fill(fast_url, "predictors", time=0)
    cube.use_zarrs(False)
    slow_url = cube.create(tmp_path / "slow.zarr", any_layout)
    fill(slow_url, "predictors", time=0)
    assert contents(fast_url) == contents(slow_url)


@pytest.mark.parametrize("harm", ["cut", "flipped"])
def test_damage_is_found_too(any_url, any_layout, filled, fast, harm):
    path = next(p for p in sorted(Path(any_url, "predictors/c/1").rglob("*")) if p.is_file())
    data = bytearray(path.read_bytes())
    if harm == "cut":
        data = data[: len(data) // 2]
    else:
        data[len(data) // 3] ^= 0x10
    path.write_bytes(data)
    region = next(cube.regions(any_layout, "predictors", time=1))
    with pytest.raises(DamagedError):
        read_region(any_url, "predictors", region, spec=any_layout)
    (damaged,) = cube.verify(any_url).damaged
    assert damaged.region == region


def test_without_it_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StoreError, match=r"run pip install 'quadrat\[zarrs\]'"):
        cube.use_zarrs()
