"""Verifying: every kind of damage is found, and named by its region."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cube
from cube import ledger, objects
from cube.errors import DamagedError, SpecError, StoreError
from cube.reading import read_region
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
        cube.write_region(
            any_url, "basin", region, np.full(region.shape, -1, "int32"), overwrite=True
        )
        assert not cube.verify(any_url).damaged
        path.write_bytes(data)
        (found,) = cube.verify(any_url).damaged
        assert found.region == region

    @pytest.mark.parametrize(
        "data", [b"", b"\x00" * 12, b"\xff" * 12], ids=["empty", "zeros", "ones"]
    )
    def test_a_damaged_entry_of_the_ledger_is_found_and_named(self, filled, any_layout, data):
        region = region_of(any_layout, 70, 120)
        side = any_layout.layout.region
        Path(filled, f"ledger/predictors/c/1/{70 // side}/{120 // side}").write_bytes(data)
        (found,) = cube.verify(filled).damaged
        assert (found.region, found.reason) == (region, "its ledger entry cannot be read")

    def test_a_lost_entry_of_the_ledger_leaves_data_that_nobody_vouches_for(
        self, filled, any_layout
    ):
        side = any_layout.layout.region
        Path(filled, f"ledger/predictors/c/1/{70 // side}/{120 // side}").unlink()
        verdict = cube.verify(filled)
        (found,) = verdict.unticked
        assert (found.period, found.region) == ("2010", region_of(any_layout, 70, 120))
        assert not verdict.damaged

    def test_what_is_written_again_is_whole_again(self, filled, any_layout, values):
        file_of(filled, any_layout, 70, 120).write_bytes(b"")
        (found,) = cube.verify(filled).damaged
        ledger.clear(filled, any_layout, "predictors", [found.region])
        data = values(any_layout, "predictors", found.region)
        cube.write_region(filled, "predictors", found.region, data)
        assert not cube.verify(filled).damaged


class TestReasons:
    """What is wrong is named object by object, so that somebody can look at it."""

    @pytest.fixture
    def path(self, filled, any_layout):
        return file_of(filled, any_layout, 70, 120)

    def finding(self, url, path):
        (found,) = cube.verify(url).damaged
        key = str(path.relative_to(url))
        assert key in found.reason
        assert found.keys == (key,)
        return found.reason.replace(key, "KEY")

    def test_a_file_that_is_missing(self, filled, path):
        path.unlink()
        assert self.finding(filled, path) == "its checksum is wrong, and missing are KEY"

    @pytest.mark.parametrize("kept", [0, 3, 100, -1])
    def test_a_file_that_was_cut_short(self, filled, any_layout, path, kept):
        whole = path.read_bytes()
        path.write_bytes(whole[:kept])
        reason, size = self.finding(filled, path), len(whole[:kept])
        if any_layout.layout.shard and not size:
            assert reason == "KEY is cut short: 0 bytes"
        elif any_layout.layout.shard:
            assert reason.startswith(f"KEY is damaged, {size} bytes: ")
        else:
            known = len(whole) if size >= 16 else 20
            assert reason == f"KEY is cut short: {size} of {known} bytes"

    @pytest.mark.parametrize("place", [20, 100, -1])
    def test_a_file_with_a_flipped_bit(self, filled, path, place):
        flip(path, place)
        size = path.stat().st_size
        reason = self.finding(filled, path)
        assert reason.startswith(f"KEY is damaged, {size} bytes: ")
        assert "checksum" in reason

    def test_a_file_of_another_place(self, filled, any_layout, path):
        unit = any_layout.layout.unit
        path.write_bytes(file_of(filled, any_layout, 70, 120 - unit).read_bytes())
        (found,) = cube.verify(filled).damaged
        assert found.reason == "its chunks are whole but foreign: others were written here"
        assert str(path.relative_to(filled)) in found.keys

    def test_several_files_are_counted(self, any_url, any_layout, values):
        region = next(regions(any_layout, "basin"))
        cube.write_region(any_url, "basin", region, values(any_layout, "basin", region))
        files = sorted(path for path in Path(any_url, "basin/c").rglob("*") if path.is_file())
        for path in files:
            path.write_bytes(b"")
        (found,) = cube.verify(any_url).damaged
        assert found.keys == tuple(str(path.relative_to(any_url)) for path in files)
        for path in files:
            path.unlink()
        (found,) = cube.verify(any_url).damaged
        assert found.keys == tuple(str(path.relative_to(any_url)) for path in files)
        assert "missing are" in found.reason
        assert (" and 1 more" in found.reason) == (len(files) == 4)

    @pytest.mark.parametrize("codec", ["none", "blosc-lz4-1-noshuffle"])
    def test_every_codec_tells(self, spec, tmp_path, values, codec):
        layout = cube.LayoutSpec(chunk=16, region=32, codec=codec)
        url = cube.create(tmp_path / "a.zarr", replace(spec, layout=layout))
        region = next(regions(spec, "basin"))
        cube.write_region(url, "basin", region, values(spec, "basin", region))
        path = Path(url, "basin/c/0/1")
        whole = path.read_bytes()
        path.write_bytes(whole[:-5])
        (found,) = cube.verify(url).damaged
        size = len(whole)
        assert found.reason == f"basin/c/0/1 is cut short: {size - 5} of {size} bytes"
        path.write_bytes(whole)
        flip(path, -3)
        (found,) = cube.verify(url).damaged
        assert found.reason.startswith(f"basin/c/0/1 is damaged, {size} bytes: ")
        path.write_bytes(whole)
        assert cube.verify(url).sound

    def test_reading_a_damaged_region_raises_and_says_where(self, filled, any_layout, path):
        path.write_bytes(path.read_bytes()[:3])
        region = region_of(any_layout, 70, 120)
        with pytest.raises(DamagedError, match="'predictors' cannot be read at 1, "):
            read_region(filled, "predictors", region, spec=any_layout)


class TestUnticked:
    def test_data_without_a_tick_are_found_in_their_region(self, any_url, any_layout, values):
        wanted = [list(regions(any_layout, "predictors", time=t))[-1] for t in (0, 1)]
        wanted.append(list(regions(any_layout, "basin"))[-1])
        for name, region in zip(("predictors", "predictors", "basin"), wanted, strict=True):
            data = values(any_layout, name, region)
            cube.write_region(any_url, name, region, data)
            ledger.clear(any_url, any_layout, name, [region])
        verdict = cube.verify(any_url)
        assert [f.region for f in verdict.unticked] == wanted
        assert {f.reason for f in verdict.unticked} == {
            "data lie there without a tick; the next run writes them anew"
        }
        assert ", 3 unticked" in str(verdict).splitlines()[0]
        assert str(verdict.unticked[0]) in str(verdict)
        assert [f.region for f in cube.verify(any_url, variables=["basin"]).unticked] == wanted[2:]

    def test_what_is_written_anew_is_whole(self, any_url, any_layout, values):
        region = next(regions(any_layout, "basin"))
        cube.write_region(any_url, "basin", region, values(any_layout, "basin", region, seed=1))
        ledger.clear(any_url, any_layout, "basin", [region])
        cube.write_region(any_url, "basin", region, values(any_layout, "basin", region))
        assert cube.verify(any_url).sound


class TestStrays:
    STRAYS = (
        "notes.txt",
        "predictors/c/0/0/0/0.0f.partial",
        "predictors/c/0/0/99/0",
        "predictors/c/7/0/0/0",
        "predictors/c/0/0",
        "predictors/c/0/0/0/x",
        "predictors/0.0.0.0",
        "removed/c/0/0",
        "removed/zarr.json",
        "ledger/removed/c/0/0",
        "ledger/basin/c/9/9",
        "zarr.json.0f.partial",
        "predictors/.zarray",
    )

    @pytest.mark.parametrize("key", STRAYS)
    def test_one_is_found_wherever_it_lies(self, url, key):
        objects.at(url).put(key, b"")
        verdict = cube.verify(url)
        assert verdict.strays == (key,)
        assert not verdict.sound
        assert str(verdict).splitlines() == [
            f"{len(verdict.findings)} regions: 0 whole, {len(verdict.findings)} never written, "
            f"0 damaged; 1 stray objects",
            f"  {key}: belongs to nothing of the cube",
        ]
        assert key in verdict._repr_html_()

    def test_a_cube_in_use_has_none(self, any_url, any_layout, fill):
        fill(any_url, "predictors", time=1)
        fill(any_url, "basin")
        cube.add(any_url, cube.LayerSpec(name="roof", dtype="float32"))
        fill(any_url, "roof", time=0)
        assert cube.verify(any_url).strays == ()
        assert cube.verify(any_url).sound

    def test_they_are_looked_for_only_where_all_is_looked_at(self, url):
        Path(url, "notes.txt").write_text("mine")
        assert cube.verify(url, variables=["basin"]).strays == ()


def test_it_works_where_nothing_may_be_written(filled, any_layout, monkeypatch, contents, values):
    region = region_of(any_layout, 70, 120)
    file_of(filled, any_layout, 70, 120).write_bytes(b"")
    Path(filled, "notes.txt").write_text("mine")
    before = contents(filled)

    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    def make_nothing(path, *arguments, **options):
        if not path.is_dir():
            refuse()

    opened = os.open

    def open_to_read(path, flags, *arguments, **options):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            refuse()
        return opened(path, flags, *arguments, **options)

    with monkeypatch.context() as read_only:
        for owner, name in (
            (Path, "write_bytes"),
            (Path, "unlink"),
            (Path, "replace"),
            (os, "mkdir"),
            (os, "unlink"),
            (os, "rmdir"),
            (os, "rename"),
        ):
            read_only.setattr(owner, name, refuse)
        read_only.setattr(Path, "mkdir", make_nothing)
        read_only.setattr(os, "open", open_to_read)
        verdict = cube.verify(filled)
        assert cube.read_spec(filled) == any_layout
        assert cube.open(filled)["basin"].shape == (100, 130)
        with pytest.raises(StoreError, match="the file system is read-only; write somewhere else"):
            cube.write_region(
                filled, "predictors", region, values(any_layout, "predictors", region)
            )
    assert [f.region for f in verdict.damaged] == [region]
    assert verdict.strays == ("notes.txt",)
    after = contents(filled)
    assert after == before


def test_there_must_be_a_cube(tmp_path):
    with pytest.raises(StoreError, match="There is no cube at"):
        cube.verify(tmp_path / "none.zarr")


def test_an_unknown_variable_is_refused(url):
    with pytest.raises(SpecError, match=r"The cube has no variable 'rood'. It has: "):
        cube.verify(url, variables=("rood",))
