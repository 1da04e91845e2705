"""Stores: where a cube may lie, how a failed write is told, who may change metadata."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path

import numpy as np
import pytest

import cube
from cube import store, writing
from cube.errors import StoreError


class TestUrls:
    def test_a_folder_becomes_absolute(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for same in ("a.zarr", Path("a.zarr"), tmp_path / "a.zarr", f"file://{tmp_path}/a.zarr"):
            assert store.normalise(same) == str(tmp_path / "a.zarr")

    def test_memory_stays_as_it_is(self):
        assert store.normalise("memory://a") == "memory://a"
        assert store.is_memory("memory://a")
        assert not store.is_memory("/memory")

    @pytest.mark.parametrize("url", ["s3://bucket/a.zarr", "http://host/a.zarr", "://a"])
    def test_an_unknown_scheme_is_refused(self, url):
        with pytest.raises(StoreError, match=r"must be a folder or memory://name. Received scheme"):
            store.normalise(url)

    def test_only_nothing_and_an_empty_folder_are_vacant(self, tmp_path, url):
        assert store.is_vacant(str(tmp_path / "none"))
        (tmp_path / "empty").mkdir()
        assert store.is_vacant(str(tmp_path / "empty"))
        (tmp_path / "empty" / "zarr.0f.partial").write_text("")
        assert store.is_vacant(str(tmp_path / "empty"))
        assert not store.is_vacant(url)

    def test_asking_for_a_cube_leaves_no_trace(self, tmp_path):
        for url in (str(tmp_path / "none"), "memory://test_store_none"):
            with pytest.raises(StoreError, match="There is no cube at"):
                store.open_group(url)
            assert not store.exists(url)


class TestExplained:
    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            (errno.ENOSPC, "the disk is full; make room and run again"),
            (errno.EDQUOT, "the disk quota is used up"),
            (errno.EFBIG, "a file would grow past the size limit"),
            (errno.EROFS, "the file system is read-only"),
            (errno.EACCES, "permission denied"),
            (errno.ENOTDIR, "a file lies where a folder is needed"),
            (errno.EIO, "Input/output error"),
        ],
    )
    def test_the_reason_of_the_system_becomes_one_line(self, code, reason):
        with (
            pytest.raises(StoreError, match=rf"^Cannot write to '/a': .*{reason}[^\n]*$"),
            store.explained("/a"),
        ):
            raise OSError(code, os.strerror(code))

    def test_an_error_that_is_clear_already_passes_as_it_is(self):
        with pytest.raises(StoreError, match=r"^clear$"), store.explained("/a"):
            raise StoreError("clear")

    def test_an_error_that_is_not_the_systems_passes_as_it_is(self):
        with pytest.raises(ValueError, match=r"^a bug$"), store.explained("/a"):
            raise ValueError("a bug")


class TestReading:
    def test_an_array_that_is_not_there_is_named(self, url):
        with pytest.raises(StoreError, match="The cube has no array 'rood'"):
            store.read(url, "rood")

    def test_a_damaged_chunk_is_told_with_its_place(self, url, spec, values):
        region = next(cube.regions(spec, "basin"))
        cube.write_region(url, "basin", region, values(spec, "basin", region))
        Path(url, "basin/c/0/0").write_bytes(b"")
        with pytest.raises(StoreError, match=r"'basin' cannot be read at 0:16, 0:16: .*checksum"):
            store.read(url, "basin", (slice(0, 16), slice(0, 16)))

    def test_keys_are_the_files_that_a_write_makes(self, any_url, any_layout, values, contents):
        for region in cube.regions(any_layout, "predictors", time=1):
            before = set(contents(any_url))
            cube.write_region(
                any_url, "predictors", region, values(any_layout, "predictors", region)
            )
            made = set(contents(any_url)) - before
            assert made == set(writing.keys(any_url, any_layout, "predictors", region))


class TestSweeping:
    def test_only_partial_files_of_the_named_chunks_are_removed(self, url, fill, contents):
        fill(url, "basin")
        before = contents(url)
        folder = Path(url, "basin/c/0")
        mine = ["1.0f3a.partial", "1.77.partial", "2.ab.partial"]
        for name in (*mine, "3.0f.partial", "11.0f.partial", "1.notes.txt"):
            (folder / name).write_text("half")
        (Path(url) / "basin/zarr.0f.partial").write_text("half")
        assert store.sweep_partial(url, ["basin/c/0/1", "basin/c/0/2", "basin/c/7/7"]) == 3
        left = set(contents(url)) - set(before)
        assert left == {
            "basin/c/0/3.0f.partial",
            "basin/c/0/11.0f.partial",
            "basin/c/0/1.notes.txt",
            "basin/zarr.0f.partial",
        }
        assert before.items() <= contents(url).items()

    def test_the_names_are_those_that_zarr_gives_to_half_written_files(
        self, url, spec, values, monkeypatch, killed
    ):
        region = next(cube.regions(spec, "basin"))
        chunk = (slice(0, 16), slice(0, 16))
        with monkeypatch.context() as dying:
            dying.setattr(Path, "replace", killed)
            with pytest.raises(killed.error, match="killed here"):
                store.write(url, "basin", chunk, values(spec, "basin", region)[chunk])
        assert len(list(Path(url).rglob("*.partial"))) == 1
        assert store.sweep_partial(url, writing.keys(url, spec, "basin", region)) == 1
        assert not list(Path(url).rglob("*.partial"))

    def test_memory_has_nothing_to_sweep(self):
        assert store.sweep_partial("memory://test_store_sweep", ["basin/c/0/1"]) == 0


class TestMetadataLock:
    HOLD = (
        "import sys, time\n"
        "from cube import store\n"
        "with store.metadata_lock(sys.argv[1]):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )

    def test_a_second_process_waits_until_the_first_is_killed(self, url, start):
        child = start(self.HOLD, url)
        assert child.stdout.readline() == "held\n"
        entered = threading.Event()

        def enter():
            with store.metadata_lock(url):
                entered.set()

        waiting = threading.Thread(target=enter)
        waiting.start()
        assert not entered.wait(0.3)
        child.kill()
        assert entered.wait(20)
        waiting.join()

    def test_it_is_free_again_after_an_error(self, url):
        with pytest.raises(ValueError, match="in between"), store.metadata_lock(url):
            raise ValueError("in between")
        handle = os.open(url, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)

    def test_it_leaves_no_file_behind_and_sweeps_those_of_a_killed_holder(self, url, contents):
        before = contents(url)
        for stray in ("zarr.0f.partial", "basin/zarr.1f.partial", "ledger/basin/zarr.2f.partial"):
            Path(url, stray).write_text("{")
        with store.metadata_lock(url):
            assert contents(url) == before
        assert contents(url) == before

    def test_there_must_be_a_folder_to_lock(self, tmp_path):
        with (
            pytest.raises(StoreError, match="no such folder; create the cube first"),
            store.metadata_lock(tmp_path / "none"),
        ):
            pass


def test_a_chunk_is_replaced_whole_or_not_at_all(url, spec, values, monkeypatch, killed):
    chunk = (slice(0, 16), slice(0, 16))
    region = next(cube.regions(spec, "basin"))
    old, new = (values(spec, "basin", region, seed=seed)[chunk] for seed in (0, 1))
    store.write(url, "basin", chunk, old)
    with monkeypatch.context() as dying:
        dying.setattr(Path, "replace", killed)
        with pytest.raises(killed.error, match="killed here"):
            store.write(url, "basin", chunk, new)
    np.testing.assert_array_equal(store.read(url, "basin", chunk), old)
