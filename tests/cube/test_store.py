"""Metadata in one document, arrays by their metadata, and what killed writers leave."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

import cube
from cube import locking, metadata, objects, reading, store, writing
from cube.errors import DamagedError, StoreError, TransientError


def data_of(contents):
    return {key for key in contents if not locking.is_lock(key)}


def plan_of(**other):
    """A plan with every field of the least kind."""
    least = {"shape": (4,), "chunks": (4,), "dtype": "int16", "fill": 0, "dims": ("n",)}
    return store.ArrayPlan(path="a/b", attrs={"long_name": "b"}, **{**least, **other})


def noted(before, **attributes):
    return metadata.Change(
        metadata=replace(before, attributes={**before.attributes, **attributes}), values={}
    )


class TestRendered:
    @pytest.mark.parametrize(
        ("other", "values"),
        [
            ({}, np.arange(4, dtype="int16")),
            ({"shape": (5, 3), "chunks": (2, 3), "dims": ("y", "x")}, np.arange(15).reshape(5, 3)),
            (
                {"shape": (5, 8), "chunks": (2, 2), "shards": (4, 4), "dims": ("y", "x")},
                np.arange(40).reshape(5, 8),
            ),
            ({"codec": "blosc-zstd-3-bitshuffle"}, np.arange(4, dtype="int16")),
            ({"shape": (), "chunks": (), "dims": ()}, np.array(7, "int16")),
            ({"dtype": "str", "fill": ""}, np.array(["a", "bc", "", "long name"], dtype=object)),
        ],
    )
    def test_it_is_what_zarr_writes_and_reads(self, tmp_path, other, values):
        document, chunks = store.rendered(plan_of(**other), values)
        there = objects.at(tmp_path / "a.zarr")
        objects.put_many(there, {**chunks, "a/b/zarr.json": json.dumps(document).encode()})
        found = zarr.open_array(str(tmp_path / "a.zarr"), path="a/b", mode="r")
        np.testing.assert_array_equal(found[...], values)
        assert found.attrs["long_name"] == "b"
        assert (found.metadata.dimension_names or ()) == plan_of(**other).dims

    def test_chunks_of_the_fill_value_are_not_stored(self):
        document, chunks = store.rendered(plan_of(chunks=(2,)), np.array([0, 0, 0, 5], "int16"))
        assert list(chunks) == ["a/b/c/1"]
        assert store.rendered(plan_of(chunks=(2,))) == (document, {})

    def test_the_same_plan_gives_the_same_bytes(self):
        values = np.arange(4, dtype="int16")
        assert store.rendered(plan_of(), values) == store.rendered(plan_of(), values)


class TestMetadata:
    def test_asking_for_a_cube_leaves_no_trace(self, tmp_path):
        for url in (str(tmp_path / "none"), "memory://test_store_none"):
            assert metadata.read(url) is None
            assert not metadata.exists(url)
            assert list(metadata.lying(url)) == []
            for call in (lambda place: store.array(place, "basin"), metadata.attributes):
                with pytest.raises(StoreError, match="There is no cube at"):
                    call(url)
        assert list(tmp_path.iterdir()) == []

    def test_locks_and_temporary_files_are_nobodys_data(self, tmp_path):
        there = objects.at(tmp_path)
        for key in ("zarr.json.0f.partial", "basin/c/0/0.0f.partial", "ledger/basin/.lock"):
            there.put(key, b"")
        assert list(metadata.lying(str(tmp_path))) == []
        there.put("notes.txt", b"")
        assert list(metadata.lying(str(tmp_path))) == ["notes.txt"]

    def test_the_root_document_holds_those_of_all_nodes(self, url):
        found = metadata.read(url)
        root = json.loads(Path(url, "zarr.json").read_text())
        assert found.attributes == root["attributes"]
        nodes = root["consolidated_metadata"]["metadata"]
        assert set(found.arrays) | {"ledger", "replaced"} == set(nodes)
        assert list(nodes) == sorted(nodes)
        for path, node in nodes.items():
            assert json.loads(Path(url, path, "zarr.json").read_text()) == node
        documents = {key for key in metadata.lying(url) if key.endswith("/zarr.json")}
        assert documents == metadata.document_keys(found)

    @pytest.mark.parametrize(
        "document",
        [
            b"",
            b"{",
            b"[]",
            b"{}",
            b"\xff",
            b'{"zarr_format": 3}',
            b'{"zarr_format": 2, "node_type": "group"}',
            b'{"zarr_format": 3, "node_type": "group", "consolidated_metadata": [1]}',
            b'{"zarr_format": 3, "node_type": "group", "consolidated_metadata": {"metadata": []}}',
            b'{"zarr_format": 3, "node_type": "group", "attributes": 5}',
        ],
    )
    def test_a_root_document_that_cannot_be_read_is_told_in_one_line(self, url, document):
        Path(url, "zarr.json").write_bytes(document)
        for call in (metadata.read, cube.read_spec, cube.open, cube.verify):
            with pytest.raises(StoreError, match=r"^'.*toy.zarr' is not a cube: [^\n]*$"):
                call(url)

    def test_an_array_of_somebody_else_needs_no_attributes(self, url, spec):
        path = Path(url, "zarr.json")
        root = json.loads(path.read_text())
        node = dict(root["consolidated_metadata"]["metadata"]["basin"])
        del node["attributes"]
        root["consolidated_metadata"]["metadata"]["theirs"] = node
        path.write_text(json.dumps(root))
        assert cube.read_spec(url) == spec
        assert metadata.attributes(url)["theirs"] == {}


class TestChange:
    def test_the_root_document_comes_last(self, url, monkeypatch):
        keys, put = [], objects.Folder.put

        def noted_put(there, key, data):
            keys.append(key)
            put(there, key, data)

        monkeypatch.setattr(objects.Folder, "put", noted_put)
        arrays = {"a/b": store.rendered(plan_of())[0]}

        def edit(before):
            return metadata.Change(
                metadata=replace(before, arrays={**before.arrays, **arrays}),
                values={"a/b/c/0": b"data"},
            )

        metadata.change(url, edit)
        assert sorted(keys[:-1]) == ["a/b/c/0", "a/b/zarr.json", "a/zarr.json"]
        assert keys[-1] == "zarr.json"

    def test_an_edit_sees_what_is_there_and_may_leave_it(self, url, contents):
        before, seen = contents(url), []
        metadata.change(url, seen.append)
        assert seen[0] is metadata.read(url)
        assert contents(url) == before

    def test_an_edit_that_fails_changes_nothing(self, url, contents):
        before = contents(url)

        def edit(_):
            raise ValueError("in between")

        with pytest.raises(ValueError, match="in between"):
            metadata.change(url, edit)
        assert contents(url) == before
        metadata.change(url, lambda before: noted(before, mine=1))
        assert metadata.read(url).attributes["mine"] == 1

    def test_one_who_lost_the_right_meanwhile_changes_nothing_that_readers_see(
        self, url, monkeypatch
    ):
        def lost(_):
            raise TransientError("lost")

        before = Path(url, "zarr.json").read_bytes()
        monkeypatch.setattr(locking.Held, "check", lost)
        with pytest.raises(TransientError, match="lost"):
            metadata.change(url, lambda before: noted(before, mine=1))
        assert Path(url, "zarr.json").read_bytes() == before

    def test_what_a_killed_holder_left_is_swept(self, url, contents):
        before = contents(url)
        objects.at(url).put("time/c/0", Path(url, "time/c/0").read_bytes())
        for stray in ("", "basin/", "ledger/basin/", "time/"):
            Path(url, f"{stray}zarr.json.0f.partial").write_text("{")
        Path(url, "time/c/0.0f.partial").write_text("{")
        Path(url, "basin/c/0").mkdir(parents=True)
        Path(url, "basin/c/0/0.0f.partial").write_text("a live writer's")
        time = {"time/c/0": Path(url, "time/c/0").read_bytes()}
        metadata.change(url, lambda before: metadata.Change(metadata=before, values=time))
        assert set(contents(url)) - set(before) == {"basin/c/0/0.0f.partial"}
        assert before.items() <= contents(url).items()


class TestArrays:
    """A process knows the cubes that it has seen, and sees when they are others."""

    def test_one_that_was_appended_to_elsewhere_is_written_and_read(self, url, spec, values, start):
        region = next(cube.regions(spec, "population", time=1))
        cube.write_region(url, "population", region, values(spec, "population", region), spec=spec)
        code = (
            "import sys, cube\n"
            "from cube import template\n"
            "template.append(sys.argv[1], *cube.years(2020))\n"
        )
        child = start(code, url)
        _, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
        longer = replace(spec, calendar=cube.years(2000, 2010, 2020))
        later = replace(region, time=2)
        data = values(longer, "population", later)
        assert (np.isnan(reading.read_region(url, "population", later, spec=longer))).all()
        cube.write_region(url, "population", later, data, spec=longer)
        found = reading.read_region(url, "population", later, spec=longer)
        np.testing.assert_array_equal(found, data)

    def test_one_that_was_made_anew_is_written_where_it_is_the_same(
        self, url, spec, created, values
    ):
        region = next(cube.regions(spec, "basin"))
        data = values(spec, "basin", region)
        cube.write_region(url, "basin", region, data, spec=spec)
        shutil.rmtree(url)
        shutil.copytree(created(spec), url)
        assert (reading.read_region(url, "basin", region, spec=spec) == -1).all()
        cube.write_region(url, "basin", region, data, spec=spec)
        np.testing.assert_array_equal(reading.read_region(url, "basin", region, spec=spec), data)

    @pytest.mark.parametrize(
        "change",
        [
            {"layout": cube.LayoutSpec(chunk=32, region=32)},
            {"layers": (cube.LayerSpec(name="basin", dtype="int32", nodata=0, static=True),)},
        ],
        ids=["layout", "nodata"],
    )
    def test_one_that_was_made_anew_otherwise_is_refused(self, url, spec, values, change):
        region = next(cube.regions(spec, "basin"))
        data = values(spec, "basin", region)
        cube.write_region(url, "basin", region, data, spec=spec)
        shutil.rmtree(url)
        cube.create(url, replace(spec, **change))
        for call in (
            lambda: cube.write_region(url, "basin", region, data, spec=spec),
            lambda: reading.read_region(url, "basin", region, spec=spec),
        ):
            with pytest.raises(StoreError, match=r"'basin' .* is no longer what it was when this"):
                call()


class TestReading:
    def test_an_array_that_is_not_there_is_named(self, url):
        with pytest.raises(StoreError, match="The cube at '.*' has no array 'rood'"):
            store.read(url, "rood")

    def test_a_damaged_chunk_is_told_with_its_place(self, url, spec, values):
        region = next(cube.regions(spec, "basin"))
        cube.write_region(url, "basin", region, values(spec, "basin", region))
        Path(url, "basin/c/0/0").write_bytes(b"")
        with pytest.raises(DamagedError, match="cannot be read at 0:16, 0:16: it is empty"):
            store.read(url, "basin", (slice(0, 16), slice(0, 16)))

    def test_keys_are_the_files_that_a_write_makes(self, any_url, any_layout, values, contents):
        for region in cube.regions(any_layout, "predictors", time=1):
            before = data_of(contents(any_url))
            cube.write_region(
                any_url, "predictors", region, values(any_layout, "predictors", region)
            )
            made = data_of(contents(any_url)) - before
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
        assert objects.sweep_partial(url, ["basin/c/0/1", "basin/c/0/2", "basin/c/7/7"]) == 3
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
        # As shards are written; other chunks are ours to put.
        target = store.array(url, "basin", writing=True)
        with monkeypatch.context() as dying:
            dying.setattr(Path, "replace", killed)
            with pytest.raises(killed.error, match="killed here"):
                target[chunk] = values(spec, "basin", region)[chunk]
        assert len(list(Path(url).rglob("*.partial"))) == 1
        assert objects.sweep_partial(url, writing.keys(url, spec, "basin", region)) == 1
        assert not list(Path(url).rglob("*.partial"))

    def test_memory_has_nothing_to_sweep(self):
        assert objects.sweep_partial("memory://test_store_sweep", ["basin/c/0/1"]) == 0


def test_a_chunk_is_replaced_whole_or_not_at_all(url, spec, values, monkeypatch, killed):
    chunk = (slice(0, 16), slice(0, 16))
    region = next(cube.regions(spec, "basin"))
    old, new = (values(spec, "basin", region, seed=seed)[chunk] for seed in (0, 1))
    store.write(url, "basin", chunk, old)
    with monkeypatch.context() as dying:
        dying.setattr(os, "replace", killed)
        with pytest.raises(killed.error, match="killed here"):
            store.write(url, "basin", chunk, new)
    np.testing.assert_array_equal(store.read(url, "basin", chunk), old)
