"""Bytes by key: one contract for every kind of store, and refusals in one clear line."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cube import objects, urls
from cube.errors import StoreError, TransientError

KEY = "predictors/c/0/0/3/2"

REFUSALS = [
    (errno.ENOSPC, StoreError, "the disk is full; make room and run again"),
    (errno.EDQUOT, StoreError, "the disk quota is used up"),
    (errno.EFBIG, StoreError, "a file would grow past the size limit"),
    (errno.EROFS, StoreError, "the file system is read-only; write somewhere else"),
    (errno.EACCES, StoreError, "permission denied; choose a place you may use"),
    (errno.ENOTDIR, StoreError, "a file lies where a folder is needed"),
    (errno.EIO, StoreError, "Input/output error"),
    (errno.ESTALE, TransientError, "Stale file handle"),
    (errno.ETIMEDOUT, TransientError, "timed out"),
]


class TestContract:
    """What every store promises."""

    @pytest.fixture
    def there(self, store_url):
        return objects.at(store_url)

    @pytest.fixture
    def beside(self, store_url):
        return objects.at(f"{store_url}2")

    def test_what_was_put_is_got(self, there):
        for data in (b"", b"a", bytes(range(256)) * 300):
            there.put(KEY, data)
            assert there.get(KEY) == data

    def test_nothing_is_got_where_nothing_was_put(self, there):
        assert there.get(KEY) is None
        there.put(KEY, b"a")
        # Neither a step of a key nor what lies below one is a key.
        for other in ("predictors", "predictors/c/0", f"{KEY}/0", "predictors/c/0/0/3/20"):
            assert there.get(other) is None

    def test_a_put_replaces_what_is_there(self, there):
        there.put(KEY, b"a longer value")
        there.put(KEY, b"short")
        assert there.get(KEY) == b"short"
        assert [(entry.key, entry.size) for entry in there.list()] == [(KEY, 5)]

    def test_what_was_deleted_is_gone_and_may_be_deleted_again(self, there):
        there.put(KEY, b"a")
        there.put("zarr.json", b"b")
        for _ in range(2):
            there.delete(KEY)
            assert there.get(KEY) is None
            assert [entry.key for entry in there.list()] == ["zarr.json"]
        there.put("zarr.json", b"b")
        there.delete("zarr.json/below/a/file")
        assert there.get("zarr.json") == b"b"

    def test_a_list_holds_whole_steps_only_with_their_sizes(self, there):
        keys = ["a", "led/x/c/0", "ledger/x/c/0", "ledger/x/c/0.1", "ledger/xy/c/0", "zarr.json"]
        for size, key in enumerate(keys):
            there.put(key, bytes(size))

        def listed(*prefix):
            return sorted((entry.key, entry.size) for entry in there.list(*prefix))

        assert listed() == sorted((key, size) for size, key in enumerate(keys))
        assert listed("ledger/") == [
            ("ledger/x/c/0", 2),
            ("ledger/x/c/0.1", 3),
            ("ledger/xy/c/0", 4),
        ]
        assert listed("ledger/x/") == [("ledger/x/c/0", 2), ("ledger/x/c/0.1", 3)]
        assert listed("none/") == []

    def test_many_come_in_the_order_asked_for(self, there):
        values = {f"many/c/{i}": str(i).encode() for i in range(80)}
        objects.put_many(there, values)
        keys = [*reversed(values), "many/c/none"]
        assert objects.get_many(there, keys) == [*reversed(values.values()), None]
        objects.delete_many(there, list(values)[:50])
        assert {entry.key for entry in there.list("many/")} == set(list(values)[50:])

    def test_all_below_a_prefix_is_deleted_and_nothing_else(self, there):
        for key in ("a/c/0/0", "a/zarr.json", "ab/c/0", "zarr.json"):
            there.put(key, b"a")
        objects.delete_below(there, "a/")
        assert sorted(entry.key for entry in there.list()) == ["ab/c/0", "zarr.json"]
        objects.delete_below(there, "a/")

    def test_a_reader_never_sees_a_part_of_a_value(self, there):
        values = [bytes([i]) * 200_000 for i in range(2)]
        there.put(KEY, values[0])
        over = threading.Event()

        def write():
            for turn in range(60):
                there.put(KEY, values[turn % 2])
            over.set()

        writer = threading.Thread(target=write)
        writer.start()
        while not over.is_set():
            assert there.get(KEY) in values
        writer.join()
        assert [entry.key for entry in there.list()] == [KEY]

    def test_writers_of_one_key_do_not_disturb_each_other(self, there):
        values = [bytes([i]) * 100_000 for i in range(4)]

        def write(value):
            for _ in range(10):
                there.put(KEY, value)

        writers = [threading.Thread(target=write, args=(value,)) for value in values]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert there.get(KEY) in values
        assert [(entry.key, entry.size) for entry in there.list()] == [(KEY, 100_000)]

    def test_two_places_share_nothing(self, there, beside):
        there.put(KEY, b"a")
        assert beside.get(KEY) is None
        assert list(beside.list()) == []


class TestFolder:
    @pytest.fixture
    def there(self, tmp_path):
        return objects.at(tmp_path / "a.zarr")

    def test_a_value_is_a_file(self, there, tmp_path):
        there.put(KEY, b"a")
        assert (tmp_path / "a.zarr" / KEY).read_bytes() == b"a"

    def test_a_list_is_in_the_order_of_names(self, there):
        for key in ("b/1", "b/0", "a/9", "c"):
            there.put(key, b"")
        assert [entry.key for entry in there.list()] == ["a/9", "b/0", "b/1", "c"]

    def test_emptied_folders_are_removed_with_what_was_below(self, there, tmp_path):
        there.put("a/c/0/0", b"")
        objects.delete_below(there, "a/")
        assert not (tmp_path / "a.zarr/a").exists()

    def test_looking_leaves_no_trace(self, there, tmp_path):
        assert there.get("zarr.json") is None
        assert list(there.list()) == []
        there.delete("zarr.json")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(("code", "kind", "reason"), REFUSALS)
    @pytest.mark.parametrize("step", ["_put_bytes", "replace"])
    def test_a_put_that_fails_leaves_the_old_value_and_nothing_else(
        self, there, monkeypatch, step, code, kind, reason
    ):
        there.put(KEY, b"old")

        def refuse(path, *arguments):
            if step == "_put_bytes":
                Path(path).write_bytes(b"ha")  # a disk fills up in the middle of a file
            raise OSError(code, os.strerror(code))

        with monkeypatch.context() as full:
            full.setattr(os if step == "replace" else objects, step, refuse)
            with pytest.raises(StoreError, match=rf"^Cannot write to '.*': .*{reason}[^\n]*$") as e:
                there.put(KEY, b"new")
        assert type(e.value) is kind
        assert there.get(KEY) == b"old"
        assert [entry.key for entry in there.list()] == [KEY]

    def test_a_place_that_may_not_be_read_is_told(self, there, monkeypatch):
        there.put(KEY, b"a")

        def refuse(*arguments):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "read_bytes", refuse)
        monkeypatch.setattr(os, "scandir", refuse)
        for call in (lambda: there.get(KEY), lambda: list(there.list())):
            with pytest.raises(StoreError, match=r"^Cannot read '.*': permission denied"):
                call()

    def test_a_file_in_the_way_is_told(self, there, tmp_path):
        (tmp_path / "a.zarr").write_text("mine")
        assert there.get(KEY) is None
        assert list(there.list()) == []
        with pytest.raises(StoreError, match="a file lies where a folder is needed"):
            there.put(KEY, b"a")
        assert (tmp_path / "a.zarr").read_text() == "mine"

    def test_a_folder_that_is_removed_meanwhile_is_made_again(self, there, tmp_path):
        there.put("a/c/0/0", b"")
        objects.delete_below(there, "a/")
        there.put("a/c/0/0", b"a")
        assert there.get("a/c/0/0") == b"a"


class TestRemote:
    @pytest.fixture
    def there(self, store_url):
        if urls.is_folder(store_url):
            pytest.skip("a folder has locks instead")
        return objects.at(store_url)

    def test_it_is_the_same_at_every_call(self, there):
        there.put(KEY, b"a")
        assert objects.at(there.url) is there
        assert objects.at(there.url).get(KEY) == b"a"

    def test_a_conditional_put_has_one_winner(self, there):
        first = there.put_if(KEY, b"a", tag=None)
        assert first is not None
        assert there.put_if(KEY, b"b", tag=None) is None
        assert there.get_tagged(KEY) == (b"a", first)
        second = there.put_if(KEY, b"b", tag=first)
        assert second not in (None, first)
        assert there.put_if(KEY, b"c", tag=first) is None
        assert there.get_tagged(KEY) == (b"b", second)
        there.delete(KEY)
        assert there.put_if(KEY, b"c", tag=second) is None
        assert there.get_tagged(KEY) is None

    def test_of_many_who_put_at_once_one_wins(self, there):
        with ThreadPoolExecutor(8) as pool:
            tags = list(pool.map(lambda i: there.put_if(KEY, b"%d" % i, tag=None), range(8)))
        (winner,) = (i for i, tag in enumerate(tags) if tag is not None)
        assert there.get_tagged(KEY) == (b"%d" % winner, tags[winner])


class TestExplained:
    @pytest.mark.parametrize(("code", "kind", "reason"), REFUSALS)
    def test_the_reason_of_the_system_becomes_one_line(self, code, kind, reason):
        with (
            pytest.raises(StoreError, match=rf"^Cannot write to '/a': .*{reason}[^\n]*$") as told,
            objects.explained("/a"),
        ):
            raise OSError(code, os.strerror(code))
        assert type(told.value) is kind

    def test_an_error_that_is_clear_already_passes_as_it_is(self):
        with pytest.raises(StoreError, match=r"^clear$"), objects.explained("/a"):
            raise StoreError("clear")

    def test_an_error_that_is_not_the_systems_passes_as_it_is(self):
        with pytest.raises(ValueError, match=r"^a bug$"), objects.explained("/a"):
            raise ValueError("a bug")
