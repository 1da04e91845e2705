"""Verifying: every kind of damage is found, and named by its region."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cube
from cube import ledger
from cube.errors import SpecError, StoreError
from cube.regions import regions


@pytest.fixture(scope="module")
def written(any_layout):
    """The regions of predictors that the master holds: that of (70, 120) and some around."""
    unit = any_layout.layout.unit
    pixels = ((70, 120), (70, 120 - unit), (70 - unit, 120), (0, 0))
    return {region_of(any_layout, *pixel) for pixel in pixels}


@pytest.fixture(scope="module")
def master(any_layout, written, values, tmp_path_factory):
    """A cube with some regions of one year, to copy and to damage."""
    url = cube.create(tmp_path_factory.mktemp("verifying") / "toy.zarr", any_layout)
    for region in written:
        data = values(any_layout, "predictors", region)
        cube.write_region(url, "predictors", region, data, spec=any_layout)
    return url


@pytest.fixture
def filled(master, tmp_path):
    return str(shutil.copytree(master, tmp_path / "toy.zarr"))


def file_of(url, spec, row, col):
    """The chunk or shard file of the predictors that holds a pixel."""
    unit = spec.layout.unit
    return Path(url, "predictors/c/1/0", str(row // unit), str(col // unit))


def region_of(spec, row, col):
    side = spec.layout.region
    (found,) = (
        r
        for r in regions(spec, "predictors", time=1)
        if r.rows[0] // side == row // side and r.cols[0] // side == col // side
    )
    return found


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


class TestWhole:
    def test_what_was_written_is_whole_and_the_rest_was_never_written(
        self, filled, any_layout, written
    ):
        verdict = cube.verify(filled)
        assert {f.region for f in verdict.of("whole")} == written
        assert {(f.variable, f.period) for f in verdict.of("whole")} == {("predictors", "2010")}
        assert not verdict.damaged
        assert len(verdict.missing) + len(written) == len(verdict.findings)
        times = {v.name: 1 if v.static else 2 for v in any_layout.variables}
        per_time = len(list(regions(any_layout, "basin")))
        assert len(verdict.findings) == per_time * sum(times.values())

    def test_some_variables_can_be_picked(self, filled):
        findings = cube.verify(filled, variables=("basin", "terrain")).findings
        assert {(f.variable, f.period) for f in findings} == {("basin", ""), ("terrain", "")}

    def test_a_region_of_nodata_without_any_file_is_whole(self, any_url, any_layout):
        region = next(regions(any_layout, "population", time=0))
        cube.write_region(any_url, "population", region, np.full(region.shape, np.nan))
        assert not Path(any_url, "population/c").exists()
        (whole,) = cube.verify(any_url).of("whole")
        assert whole.region == region

    def test_the_verdict_is_told_in_one_line(self, filled, written):
        verdict, whole = cube.verify(filled), len(written)
        count = len(verdict.findings)
        expected = f"{count} regions: {whole} whole, {count - whole} never written, 0 damaged"
        assert str(verdict) == expected

    def test_verifying_changes_no_byte(self, filled, contents):
        before = contents(filled)
        cube.verify(filled)
        assert contents(filled) == before


class TestDamage:
    """Pixel (70, 120) lies in the last region but for the edges."""

    @pytest.mark.parametrize(
        "harm",
        [
            lambda path: path.unlink(),
            lambda path: path.write_bytes(b""),
            lambda path: path.write_bytes(path.read_bytes()[:3]),
            lambda path: path.write_bytes(path.read_bytes()[:-1]),
            lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
            lambda path: path.write_bytes(bytes(path.stat().st_size)),
            lambda path: flip(path, 0),
            lambda path: flip(path, path.stat().st_size // 3),
            lambda path: flip(path, -1),
        ],
        ids=[
            "deleted",
            "empty",
            "3 bytes",
            "cut",
            "half",
            "zeros",
            "flip",
            "flip deep",
            "flip last",
        ],
    )
    def test_a_file_that_was_harmed_is_found_and_named(self, filled, any_layout, harm):
        harm(file_of(filled, any_layout, 70, 120))
        verdict = cube.verify(filled)
        (found,) = verdict.damaged
        assert (found.variable, found.period) == ("predictors", "2010")
        assert found.region == region_of(any_layout, 70, 120)
        assert (
            str(verdict)
            .splitlines()[1]
            .startswith(f"  predictors 2010, rows {found.region.rows[0]}:")
        )
        assert ": damaged: " in str(found)

    def test_a_bit_flipped_anywhere_in_a_file_is_found(self, filled, any_layout):
        path = file_of(filled, any_layout, 70, 120)
        size = path.stat().st_size
        for place in range(5, size, size // 8):
            flip(path, place)
            (found,) = cube.verify(filled, variables=("predictors",)).damaged
            assert found.region == region_of(any_layout, 70, 120)
            flip(path, place)

    @pytest.mark.parametrize("steps", [(0, 1), (1, 0), (9, 9)])
    def test_two_files_that_were_swapped_are_found(self, filled, any_layout, steps):
        unit = any_layout.layout.unit
        other = (max(70 - steps[0] * unit, 0), max(120 - steps[1] * unit, 0))
        one, two = (file_of(filled, any_layout, *pixel) for pixel in ((70, 120), other))
        data = one.read_bytes(), two.read_bytes()
        one.write_bytes(data[1])
        two.write_bytes(data[0])
        found = {f.region for f in cube.verify(filled).damaged}
        assert found == {region_of(any_layout, *pixel) for pixel in ((70, 120), other)}

    def test_a_file_of_another_year_is_found(self, filled, any_layout, values):
        region = replace(region_of(any_layout, 70, 120), time=0)
        data = values(any_layout, "predictors", region, seed=1)
        cube.write_region(filled, "predictors", region, data)
        path = file_of(filled, any_layout, 70, 120)
        other_year = path.parents[3] / "0" / Path(*path.parts[-3:])
        path.write_bytes(other_year.read_bytes())
        (found,) = cube.verify(filled).damaged
        assert found.period == "2010"

    def test_data_where_nodata_was_written_is_found(self, any_url, any_layout, values):
        region = next(regions(any_layout, "basin"))
        cube.write_region(any_url, "basin", region, values(any_layout, "basin", region))
        path = Path(any_url, "basin/c/0/0")
        data = path.read_bytes()
        cube.write_region(any_url, "basin", region, np.full(region.shape, -1, "int32"))
        assert not cube.verify(any_url).damaged
        path.write_bytes(data)
        (found,) = cube.verify(any_url).damaged
        assert found.region == region

    @pytest.mark.parametrize("data", [b"", b"\x00" * 12], ids=["empty", "zeros"])
    def test_a_damaged_entry_of_the_ledger_is_found_and_named(self, filled, any_layout, data):
        region = region_of(any_layout, 70, 120)
        side = any_layout.layout.region
        Path(filled, f"ledger/predictors/c/1/{70 // side}/{120 // side}").write_bytes(data)
        (found,) = cube.verify(filled).damaged
        assert (found.region, found.reason) == (region, "its ledger entry cannot be read")

    def test_a_lost_entry_of_the_ledger_reads_as_never_written(self, filled, any_layout):
        side = any_layout.layout.region
        Path(filled, f"ledger/predictors/c/1/{70 // side}/{120 // side}").unlink()
        missing = [f.region for f in cube.verify(filled).missing if f.period == "2010"]
        assert region_of(any_layout, 70, 120) in missing

    def test_what_is_written_again_is_whole_again(self, filled, any_layout, values):
        file_of(filled, any_layout, 70, 120).write_bytes(b"")
        (found,) = cube.verify(filled).damaged
        ledger.clear(filled, any_layout, "predictors", [found.region])
        data = values(any_layout, "predictors", found.region)
        cube.write_region(filled, "predictors", found.region, data)
        assert not cube.verify(filled).damaged


def test_there_must_be_a_cube(tmp_path):
    with pytest.raises(StoreError, match="There is no cube at"):
        cube.verify(tmp_path / "none.zarr")


def test_an_unknown_variable_is_refused(url):
    with pytest.raises(SpecError, match=r"The cube has no variable 'rood'. It has: "):
        cube.verify(url, variables=("rood",))
