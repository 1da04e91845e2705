"""Writing a region: whole, checked, data before tick, and never metadata."""

from __future__ import annotations

import itertools
import math
import os
import re
import shutil
from contextlib import contextmanager
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
    cube.write_region(url, "basin", region, np.full(region.shape, -1, "int32"), overwrite=True)
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
        (unticked,) = verdict.unticked
        assert (unticked.variable, unticked.region) == ("predictors", region)
        assert len(verdict.missing) == len(verdict.findings) - 1
        assert ledger.pending(any_url, any_layout, "predictors", [region]) == ([region], [])
        cube.write_region(any_url, "predictors", region, data)
        (whole,) = cube.verify(any_url).of("whole")
        assert whole.region == region

    def test_in_the_middle_of_rewriting_a_region_it_counts_as_never_written(
        self, url, spec, values, monkeypatch, killed
    ):
        region = next(regions(spec, "basin"))
        old, new = (values(spec, "basin", region, seed=seed) for seed in (0, 1))
        cube.write_region(url, "basin", region, old)
        with monkeypatch.context() as dying:
            dying.setattr(store, "write", killed)
            with pytest.raises(killed.error, match="killed here"):
                cube.write_region(url, "basin", region, new, overwrite=True)
        assert ledger.pending(url, spec, "basin", [region]) == ([region], [])
        # Nobody vouches for what lies there, so it takes no permission to go on.
        cube.write_region(url, "basin", region, new)
        assert ledger.pending(url, spec, "basin", [region]) == ([], [region])

    @pytest.fixture
    def dying_at(self, monkeypatch, killed):
        """Die at the n-th file and leave half of it, as one does whom the system killed."""

        @contextmanager
        def die_at(step):
            renamed, calls, died = os.replace, itertools.count(), []

            def replace_or_die(path, target):
                if next(calls) == step:
                    Path(f"{target}.{step:032x}.partial").write_bytes(b"half")
                    killed()
                return renamed(path, target)

            with monkeypatch.context() as patched:
                patched.setattr(os, "replace", replace_or_die)
                try:
                    yield died
                except killed.error:
                    died.append(step)

        return die_at

    @pytest.mark.parametrize("overwrite", [False, True], ids=["first", "again"])
    def test_at_any_file_a_tick_never_stands_for_other_data_and_doing_it_again_ends_the_same(
        self, any_url, any_layout, values, dying_at, contents, overwrite
    ):
        region = next(regions(any_layout, "basin"))
        old, new = (values(any_layout, "basin", region, seed=seed) for seed in (0, 1))
        if overwrite:
            cube.write_region(any_url, "basin", region, old)
        whole = shutil.copytree(any_url, f"{any_url}.whole")
        cube.write_region(whole, "basin", region, new, overwrite=overwrite)
        for deaths in range(30):
            place = str(shutil.copytree(any_url, f"{any_url}.{deaths}"))
            with dying_at(deaths) as died:
                cube.write_region(place, "basin", region, new, overwrite=overwrite)
            if not died:
                break
            verdict = cube.verify(place, variables=("basin",))
            assert not verdict.damaged
            if verdict.of("whole"):
                found = reading.read_region(place, "basin", region, spec=any_layout)
                np.testing.assert_array_equal(found, old)
            cube.write_region(place, "basin", region, new, overwrite=overwrite)
            assert contents(place) == contents(whole)
        assert deaths == (region_files(any_layout, region) + 1 + overwrite)


def region_files(spec, region):
    """Number of chunks or shards of a region of a layer."""
    return math.prod(-(-side // spec.layout.unit) for side in region.shape)


class TestOverwriting:
    def test_other_values_are_refused_and_change_nothing(
        self, any_url, any_layout, values, contents
    ):
        region = next(regions(any_layout, "predictors", time=1))
        old, new = (values(any_layout, "predictors", region, seed=seed) for seed in (0, 1))
        cube.write_region(any_url, "predictors", region, old)
        before = contents(any_url)
        expected = rf"'predictors' at {region} is written already, .* Give overwrite=True to"
        with pytest.raises(RegionError, match=expected):
            cube.write_region(any_url, "predictors", region, new)
        assert contents(any_url) == before

    def test_the_cube_remembers_what_was_replaced_on_purpose(self, any_url, any_layout, values):
        region = next(regions(any_layout, "basin"))
        versions = [values(any_layout, "basin", region, seed=seed) for seed in range(3)]
        for data in versions:
            cube.write_region(any_url, "basin", region, data, overwrite=True)
        found = reading.read_region(any_url, "basin", region, spec=any_layout)
        np.testing.assert_array_equal(found, versions[2])
        entries = ledger.entries(any_url, any_layout)
        assert np.argwhere(entries["basin"].replaced).tolist() == [[0, 0]]
        assert not entries["terrain"].replaced.any()
        assert int(store.read(any_url, "replaced/basin")[0, 0]) == ledger.checksum(versions[1])
        assert cube.verify(any_url).sound

    def test_the_same_values_replace_nothing(self, url, spec, values):
        region = next(regions(spec, "basin"))
        for _ in range(2):
            cube.write_region(url, "basin", region, values(spec, "basin", region), overwrite=True)
        assert not ledger.entries(url, spec)["basin"].replaced.any()

    def test_the_same_values_mend_a_damaged_region(self, any_url, any_layout, values):
        region = next(regions(any_layout, "basin"))
        data = values(any_layout, "basin", region)
        cube.write_region(any_url, "basin", region, data)
        for harm in (Path.unlink, lambda path: path.write_bytes(b"")):
            harm(Path(any_url, "basin/c/0/0"))
            assert cube.verify(any_url).damaged
            cube.write_region(any_url, "basin", region, data)
            assert cube.verify(any_url).sound

    def test_a_region_whose_entry_is_damaged_may_be_written(self, url, spec, values):
        region = next(regions(spec, "basin"))
        cube.write_region(url, "basin", region, values(spec, "basin", region))
        Path(url, "ledger/basin/c/0/0").write_bytes(b"\xff" * 12)
        cube.write_region(url, "basin", region, values(spec, "basin", region, seed=1))
        assert cube.verify(url).sound


class TestTwoWriters:
    """Processes with different data for the same regions: who comes second is told, or wins."""

    WRITE = (
        "import os, sys, time, numpy as np, cube\n"
        "url, value, overwrite = sys.argv[1], int(sys.argv[2]), sys.argv[3] == 'True'\n"
        "spec = cube.read_spec(url)\n"
        "print('begun', flush=True)\n"
        "while not os.path.exists(sys.argv[4]):\n"
        "    time.sleep(0.001)\n"
        "refused = 0\n"
        "for region in cube.regions(spec, 'basin'):\n"
        "    noise = np.random.default_rng(region.rows[0] + region.cols[0])\n"
        "    data = noise.integers(0, 1000, region.shape, 'int32') + 1000 * value\n"
        "    try:\n"
        "        cube.write_region(url, 'basin', region, data, spec=spec, overwrite=overwrite)\n"
        "    except cube.errors.RegionError:\n"
        "        refused += 1\n"
        "print(refused, flush=True)\n"
    )

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_every_region_is_whole_and_of_one_of_them(self, url, spec, start, overwrite, tmp_path):
        count = len(list(regions(spec, "basin")))
        assert count == 20
        children = [start(self.WRITE, url, n, overwrite, tmp_path / "go") for n in (1, 2)]
        for child in children:
            assert child.stdout.readline() == "begun\n"
        (tmp_path / "go").touch()
        refused = 0
        for child in children:
            told, errors = child.communicate(timeout=60)
            assert child.returncode == 0, errors
            refused += int(told)
        assert refused == (0 if overwrite else count)
        verdict = cube.verify(url)
        assert verdict.sound
        assert len(verdict.of("whole")) == count
        for region in regions(spec, "basin"):
            found = reading.read_region(url, "basin", region, spec=spec)
            assert np.unique(found // 1000).size == 1
        assert not list(Path(url).rglob("*.partial"))
        if overwrite:
            assert ledger.entries(url, spec)["basin"].replaced.all()
