"""Writing a region: whole, checked, data before tick, and never metadata."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cube
from cube import ledger, reading, store, writing
from cube.errors import RegionError, SpecError, StoreError
from cube.regions import Region, regions

VARIABLES = ("predictors", "lights", "terrain", "population", "glacier", "basin")


def time_of(spec, name, time=1):
    return None if spec.variable(name).static else time


@pytest.mark.parametrize("name", ["predictors", "terrain", "glacier"])
def test_every_region_reads_as_it_was_written_those_at_the_edges_too(
    any_url, any_layout, values, name
):
    time = time_of(any_layout, name)
    for region in regions(any_layout, name, time=time):
        data = values(any_layout, name, region)
        cube.write_region(any_url, name, region, data)
        found = reading.read_region(any_url, name, region, spec=any_layout)
        assert found.dtype == data.dtype
        np.testing.assert_array_equal(found, data)


def test_a_region_fills_its_own_pixels_and_time_and_no_others(any_url, any_layout, values):
    region = list(regions(any_layout, "population", time=1))[1]
    data = values(any_layout, "population", region)
    cube.write_region(any_url, "population", region, data)
    whole = store.read(any_url, "population")
    expected = np.full(whole.shape, np.nan)
    expected[(1, *region.slices)] = data
    np.testing.assert_array_equal(whole, expected)


def test_a_region_written_twice_leaves_the_same_bytes(any_url, any_layout, values, contents):
    for name in VARIABLES:
        region = next(regions(any_layout, name, time=time_of(any_layout, name)))
        data = values(any_layout, name, region)
        cube.write_region(any_url, name, region, data)
        before = contents(any_url)
        cube.write_region(any_url, name, region, data)
        assert contents(any_url) == before


def test_metadata_files_are_never_touched(any_url, any_layout, fill):
    files = sorted(Path(any_url).rglob("zarr.json"))
    before = [(f, f.stat().st_mtime_ns, f.stat().st_ino, f.read_bytes()) for f in files]
    for name in ("predictors", "basin"):
        fill(any_url, name, time=time_of(any_layout, name))
    files = sorted(Path(any_url).rglob("zarr.json"))
    assert [(f, f.stat().st_mtime_ns, f.stat().st_ino, f.read_bytes()) for f in files] == before


def test_no_temporary_file_is_left(any_url, fill):
    fill(any_url, "basin")
    assert not list(Path(any_url).rglob("*.partial"))


def test_a_region_of_nodata_makes_no_file_of_data_but_is_ticked(any_url, any_layout):
    for name in VARIABLES:
        variable = any_layout.variable(name)
        region = next(regions(any_layout, name, time=time_of(any_layout, name)))
        empty = np.full((*variable.inner_shape, *region.shape), variable.fill, variable.dtype)
        cube.write_region(any_url, name, region, empty)
        assert not [p for p in Path(any_url, name).rglob("c/**/*") if p.is_file()]
        assert ledger.pending(any_url, any_layout, name, [region]) == ([], [region])


def test_nodata_written_over_data_takes_the_files_away(url, spec, values):
    region = next(regions(spec, "basin"))
    cube.write_region(url, "basin", region, values(spec, "basin", region))
    cube.write_region(url, "basin", region, np.full(region.shape, -1, "int32"))
    assert not [p for p in Path(url, "basin/c").rglob("*") if p.is_file()]


@pytest.mark.parametrize("name", ["terrain", "population"])
def test_every_nan_is_stored_alike(any_url, any_layout, name):
    variable = any_layout.variable(name)
    region = next(regions(any_layout, name, time=time_of(any_layout, name)))
    nan = np.copysign(np.full((*variable.inner_shape, *region.shape), np.nan, variable.dtype), -1)
    cube.write_region(any_url, name, region, nan)
    assert [f.state for f in cube.verify(any_url, variables=(name,)).findings].count("whole") == 1


class TestPhysicalValues:
    def test_they_are_packed(self, url, spec):
        region = next(regions(spec, "predictors", time=0))
        physical = np.full((3, *region.shape), 0.25)
        physical[1, 0, 0] = np.nan
        writing.write_physical(url, "predictors", region, physical, spec=spec)
        stored = reading.read_region(url, "predictors", region, spec=spec)
        assert stored[0, 0, 0] == 1500
        assert stored[1, 0, 0] == -9999

    def test_what_does_not_fit_is_not_written(self, url, spec, contents):
        before = contents(url)
        region = next(regions(spec, "predictors", time=0))
        with pytest.raises(SpecError, match="packing would clip"):
            writing.write_physical(
                url, "predictors", region, np.full((3, *region.shape), 4.0), spec=spec
            )
        assert contents(url) == before


class TestRefusals:
    @pytest.mark.parametrize(
        ("rows", "cols"),
        [
            ((0, 16), (0, 32)),
            ((8, 40), (0, 32)),
            ((0, 64), (0, 32)),
            ((96, 128), (0, 32)),
            ((0, 32), (120, 152)),
            ((0, 32), (128, 131)),
            ((-32, 0), (0, 32)),
        ],
    )
    def test_a_region_that_is_none_is_refused_with_the_nearest_that_is_one(
        self, url, spec, rows, cols, contents
    ):
        before = contents(url)
        region = Region(time=0, rows=rows, cols=cols)
        data = np.zeros((3, *region.shape), "int16")
        with pytest.raises(RegionError, match=r"A region is written whole\. Along .*") as refused:
            cube.write_region(url, "predictors", region, data)
        assert contents(url) == before
        axis, start, stop = re.search(
            r"Along '(.)'.* Write (\d+):(\d+)\.", str(refused.value)
        ).groups()
        nearest = replace(region, **{{"y": "rows", "x": "cols"}[axis]: (int(start), int(stop))})
        cube.write_region(url, "predictors", nearest, np.zeros((3, *nearest.shape), "int16"))

    def test_a_region_that_cuts_a_shard_is_refused(self, spec, tmp_path):
        layout = cube.LayoutSpec(chunk=16, shard=32, region=64)
        url = cube.create(tmp_path / "a.zarr", replace(spec, layout=layout))
        with pytest.raises(RegionError, match=r"regions have 64 pixels of 100.*Write 0:64"):
            cube.write_region(
                url,
                "basin",
                Region(time=None, rows=(0, 16), cols=(0, 64)),
                np.zeros((16, 64), "i4"),
            )

    @pytest.mark.parametrize("time", [None, 2, -1])
    def test_a_time_outside_the_calendar_is_refused(self, url, spec, time):
        region = Region(time=time, rows=(0, 32), cols=(0, 32))
        with pytest.raises(RegionError, match="needs a time index from 0 to 1"):
            cube.write_region(url, "population", region, np.zeros((32, 32)))

    def test_an_unknown_variable_is_refused(self, url, spec):
        region = next(regions(spec, "basin"))
        with pytest.raises(SpecError, match=r"The cube has no variable 'rood'. It has: "):
            cube.write_region(url, "rood", region, np.zeros((32, 32)))

    @pytest.mark.parametrize("dtype", ["uint16", "int32", "float32", ">i2"])
    def test_another_dtype_is_refused_and_never_cast(self, url, spec, dtype):
        region = next(regions(spec, "predictors", time=0))
        with pytest.raises(SpecError, match=f"takes stored values of dtype int16.*dtype {dtype}"):
            cube.write_region(url, "predictors", region, np.zeros((3, 32, 32), dtype))

    @pytest.mark.parametrize("shape", [(32, 32), (1, 32, 32), (32, 32, 3), (3, 31, 32), (3, 1, 1)])
    def test_another_shape_is_refused_and_never_broadcast(self, url, spec, shape):
        region = next(regions(spec, "predictors", time=0))
        with pytest.raises(SpecError, match=r"shape \(3, 32, 32\) .*band.* Received .*shape"):
            cube.write_region(url, "predictors", region, np.zeros(shape, "int16"))

    def test_there_must_be_a_cube(self, tmp_path, spec):
        region = next(regions(spec, "basin"))
        with pytest.raises(StoreError, match="There is no cube"):
            cube.write_region(tmp_path / "none.zarr", "basin", region, np.zeros((32, 32), "int32"))


class TestKilled:
    def test_between_data_and_tick_the_region_counts_as_never_written(
        self, any_url, any_layout, values, monkeypatch, killed
    ):
        region = next(regions(any_layout, "predictors", time=0))
        data = values(any_layout, "predictors", region)
        tick = ledger.tick

        def die_at_the_tick(*arguments):
            if arguments[-1]:
                killed()
            tick(*arguments)

        with monkeypatch.context() as dying:
            dying.setattr(ledger, "tick", die_at_the_tick)
            with pytest.raises(killed.error, match="killed here"):
                cube.write_region(any_url, "predictors", region, data)
        found = reading.read_region(any_url, "predictors", region, spec=any_layout)
        np.testing.assert_array_equal(found, data)
        verdict = cube.verify(any_url)
        assert len(verdict.missing) == len(verdict.findings)
        cube.write_region(any_url, "predictors", region, data)
        (whole,) = cube.verify(any_url).of("whole")
        assert whole.region == region

    def test_in_the_middle_of_rewriting_a_region_it_counts_as_never_written(
        self, url, spec, values, monkeypatch, killed
    ):
        region = next(regions(spec, "basin"))
        cube.write_region(url, "basin", region, values(spec, "basin", region))
        with monkeypatch.context() as dying:
            dying.setattr(Path, "replace", killed)
            with pytest.raises(killed.error, match="killed here"):
                cube.write_region(url, "basin", region, values(spec, "basin", region, seed=1))
        assert ledger.pending(url, spec, "basin", [region]) == ([region], [])
