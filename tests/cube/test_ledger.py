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
from cube import ledger
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
    assert ledger.ticks(url, "predictors").shape == (2, 4, 5)
    assert ledger.ticks(url, "basin").shape == (4, 5)
    assert not ledger.ticks(url, "predictors").any()


def test_a_tick_marks_its_own_region_only(url, spec):
    wanted = list(regions(spec, "predictors", time=1))
    ledger.tick(url, spec, "predictors", wanted[7], ledger.checksum(ZERO_CHECKSUM))
    todo, done = ledger.pending(url, spec, "predictors", wanted)
    assert (todo, done) == (wanted[:7] + wanted[8:], [wanted[7]])
    assert np.argwhere(ledger.ticks(url, "predictors")).tolist() == [
        list(ledger_index(spec, wanted[7]))
    ]


def test_a_cleared_region_is_to_do_again(url, spec):
    wanted = list(regions(spec, "basin"))
    for region in wanted:
        ledger.tick(url, spec, "basin", region, ledger.checksum(ZERO_CHECKSUM))
    ledger.clear(url, spec, "basin", wanted[:3])
    assert ledger.pending(url, spec, "basin", wanted) == (wanted[:3], wanted[3:])


@pytest.mark.parametrize("damage", [b"", b"\x00", b"\xff" * 12], ids=["empty", "short", "wrong"])
def test_a_damaged_entry_costs_its_own_region_and_no_other(url, spec, damage):
    wanted = list(regions(spec, "basin"))
    for region in wanted[:4]:
        ledger.tick(url, spec, "basin", region, ledger.checksum(ZERO_CHECKSUM))
    Path(url, "ledger/basin/c/0/2").write_bytes(damage)
    todo, done = ledger.pending(url, spec, "basin", wanted)
    assert done == [wanted[0], wanted[1], wanted[3]]
    assert todo == [wanted[2], *wanted[4:]]


def test_the_ledger_is_there_for_any_reader(url, spec):
    region = next(cube.regions(spec, "predictors", time=1))
    ledger.tick(url, spec, "predictors", region, 1 << 32 | 5)
    found = xr.open_zarr(url, group="ledger")["predictors"]
    assert found.dims == ("time", "region_y", "region_x")
    assert int(found[1, 0, 0]) == 1 << 32 | 5
    assert int((found != 0).sum()) == 1
