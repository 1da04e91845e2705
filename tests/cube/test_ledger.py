"""The ledger: what a tick is, and what it tells apart."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import cube
from cube import ledger, objects, store
from cube.regions import ledger_index, regions

ZERO_CHECKSUM = np.frombuffer(bytes.fromhex("ab9be09b"), "uint8")
"""Four bytes whose crc32c is 0, found by solving for them."""


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_the_checksum_is_crc32c_of_rfc_3720(data, expected):
    assert ledger.checksum(np.frombuffer(data, "uint8")) & 0xFFFFFFFF == expected


def test_a_region_with_checksum_zero_still_counts_as_written(url, spec):
    value = ledger.checksum(ZERO_CHECKSUM)
    assert value & 0xFFFFFFFF == 0
    region = next(regions(spec, "basin"))
    ledger.tick(url, spec, "basin", region, value)
    assert ledger.pending(url, spec, "basin", [region]) == ([], [region])


@given(
    st.sampled_from(["int16", "uint32", "int64", "float32", "float64"]).flatmap(
        lambda dtype: arrays(dtype, array_shapes(max_side=4))
    )
)
def test_the_checksum_does_not_depend_on_byte_order_or_memory_layout(values):
    swapped = values.astype(values.dtype.newbyteorder("S"))
    assert swapped.dtype.byteorder == (">" if sys.byteorder == "little" else "<")
    assert ledger.checksum(swapped) == ledger.checksum(values)
    assert ledger.checksum(np.asfortranarray(values)) == ledger.checksum(values)


def test_a_new_cube_is_all_to_do(url, spec):
    wanted = list(regions(spec, "predictors", time=1))
    assert ledger.pending(url, spec, "predictors", wanted) == (wanted, [])
    assert ledger.ticks(url, spec, "predictors").shape == (2, 4, 5)
    assert ledger.ticks(url, spec, "basin").shape == (4, 5)
    assert not ledger.ticks(url, spec, "predictors").any()
    for entries in ledger.entries(url, spec).values():
        assert not (entries.written | entries.damaged | entries.replaced).any()


def test_a_tick_marks_its_own_region_only(url, spec):
    wanted = list(regions(spec, "predictors", time=1))
    ledger.tick(url, spec, "predictors", wanted[7], ledger.checksum(ZERO_CHECKSUM))
    todo, done = ledger.pending(url, spec, "predictors", wanted)
    assert (todo, done) == (wanted[:7] + wanted[8:], [wanted[7]])
    assert np.argwhere(ledger.ticks(url, spec, "predictors")).tolist() == [
        list(ledger_index(spec, wanted[7]))
    ]


def test_a_cleared_region_is_to_do_again(url, spec):
    wanted = list(regions(spec, "basin"))
    for region in wanted:
        ledger.tick(url, spec, "basin", region, ledger.checksum(ZERO_CHECKSUM))
    ledger.clear(url, spec, "basin", wanted[:3])
    assert ledger.pending(url, spec, "basin", wanted) == (wanted[:3], wanted[3:])


DAMAGES = [b"", b"\x00", b"\xff" * 11, b"\xff" * 13, b"\xff" * 12, bytes(12)]


@pytest.mark.parametrize("damage", DAMAGES, ids=["empty", "short", "11", "13", "ones", "zeros"])
def test_a_damaged_entry_costs_its_own_region_and_no_other(url, spec, damage):
    wanted = list(regions(spec, "basin"))
    value = ledger.checksum(ZERO_CHECKSUM)
    for region in wanted[:4]:
        ledger.tick(url, spec, "basin", region, value)
    Path(url, "ledger/basin/c/0/2").write_bytes(damage)
    found = ledger.ticks(url, spec, "basin")
    assert found[0].tolist() == [value, value, ledger.UNREADABLE, value, 0]
    assert not ledger.is_tick(ledger.read(url, spec, "basin", wanted[2]))


@pytest.mark.parametrize("damage", DAMAGES[:4], ids=["empty", "short", "11", "13"])
def test_an_entry_of_another_length_is_to_do_again_without_being_read(url, spec, damage):
    wanted = list(regions(spec, "basin"))
    for region in wanted[:4]:
        ledger.tick(url, spec, "basin", region, ledger.checksum(ZERO_CHECKSUM))
    Path(url, "ledger/basin/c/0/2").write_bytes(damage)
    todo, done = ledger.pending(url, spec, "basin", wanted)
    assert done == [wanted[0], wanted[1], wanted[3]]
    assert todo == [wanted[2], *wanted[4:]]
    entries = ledger.entries(url, spec, ["basin"])["basin"]
    assert np.argwhere(entries.damaged).tolist() == [[0, 2]]


def test_what_lies_beside_the_entries_is_none(url, spec):
    there = objects.at(url)
    for key in ("c/0/0.0f.partial", ".lock", ".locks/0/0", "c/9/9", "c/1", "c/0/1/0", "c/0/x"):
        there.put(f"ledger/basin/{key}", b"\xff" * 12)
    there.put("ledger/rood/c/0/0", b"\xff" * 12)
    assert not ledger.ticks(url, spec, "basin").any()
    assert not ledger.entries(url, spec)["basin"].written.any()


@given(st.integers(0, 2**64 - 1))
def test_an_entry_is_what_zarr_would_write(value):
    plan = store.ArrayPlan(
        path="a", shape=(1,), chunks=(1,), dtype="uint64", fill=0, dims=("n",), attrs={}
    )
    _, chunks = store.rendered(plan, np.array([value], "uint64"))
    assert chunks.get("a/c/0", ledger.encode(0)) == ledger.encode(value)
    assert ledger.decode(ledger.encode(value)) == value


@given(st.integers(0, 2**64 - 1), st.integers(0, 12 * 8 - 1))
def test_an_entry_with_a_flipped_bit_is_no_tick(value, place):
    flipped = int.from_bytes(ledger.encode(value), "big") ^ (1 << place)
    assert ledger.decode(flipped.to_bytes(12, "big")) == ledger.UNREADABLE
    assert not ledger.is_tick(ledger.UNREADABLE)


def test_what_is_done_is_known_without_reading_an_entry(url, spec, fill, monkeypatch):
    fill(url, "basin")
    fill(url, "population", time=1)
    monkeypatch.setattr(objects.Folder, "get", lambda *_: pytest.fail("an entry was read"))
    wanted = list(regions(spec, "basin"))
    assert ledger.pending(url, spec, "basin", wanted) == ([], wanted)
    entries = ledger.entries(url, spec)
    assert entries["population"].written[1].all()
    assert not entries["population"].written[0].any()
    assert ledger.any_written(url, spec, "population", 1)
    assert not ledger.any_written(url, spec, "population", 0)
    assert ledger.any_written(url, spec, "basin", None)


def test_entries_of_a_variable_are_not_those_of_one_whose_name_is_longer(url, spec):
    longer = cube.add(url, cube.LayerSpec(name="basin_std", dtype="float32", static=True))
    region = next(regions(longer, "basin_std"))
    ledger.tick(url, longer, "basin_std", region, ledger.checksum(ZERO_CHECKSUM))
    assert not ledger.ticks(url, spec, "basin").any()
    assert ledger.entries(url, longer)["basin_std"].written.sum() == 1


def test_the_ledger_is_there_for_any_reader(url, spec):
    region = next(cube.regions(spec, "predictors", time=1))
    ledger.tick(url, spec, "predictors", region, 1 << 32 | 5)
    found = xr.open_zarr(url, group="ledger")["predictors"]
    assert found.dims == ("time", "region_y", "region_x")
    assert int(found[1, 0, 0]) == 1 << 32 | 5
    assert int((found != 0).sum()) == 1
