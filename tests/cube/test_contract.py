"""The life of a cube, the same in a folder, in memory and in every object store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import cube
from cube import ledger, objects, store
from cube.errors import DamagedError, RegionError, StoreError
from cube.reading import read_region


@pytest.fixture
def made(store_url, any_layout):
    """A new cube of few variables; its URL and spec."""
    spec = replace(
        any_layout,
        stacks=(any_layout.stack("predictors"),),
        layers=(any_layout.layer("basin"), any_layout.layer("population")),
    )
    return cube.create(store_url, spec), spec


def first(spec, name="predictors", time=1):
    return next(cube.regions(spec, name, time=time))


def test_creating_again_changes_nothing_and_another_spec_is_refused(made):
    url, spec = made
    before = objects.at(url).get("zarr.json")
    assert cube.create(url, spec) == url
    assert objects.at(url).get("zarr.json") == before
    with pytest.raises(StoreError, match="title: the cube has"):
        cube.create(url, replace(spec, title="Other"))


def test_what_is_written_is_read_by_us_and_by_anybody(made, values):
    url, spec = made
    region = first(spec)
    data = values(spec, "predictors", region)
    cube.write_region(url, "predictors", region, data)
    np.testing.assert_array_equal(read_region(url, "predictors", region, spec=spec), data)
    ours = cube.open(url, stored=True)["predictors"]
    np.testing.assert_array_equal(ours[(1, slice(None), *region.slices)], data)
    plain = xr.open_zarr(store.open_store(url), mask_and_scale=False, chunks=None)["predictors"]
    np.testing.assert_array_equal(plain[(1, slice(None), *region.slices)], data)
    assert cube.verify(url).sound
    assert cube.status(url).counts.done == 1


def test_half_a_cube_is_told_and_finished(made):
    url, spec = made
    whole = {entry.key for entry in objects.at(url).list()}
    objects.at(url).delete("zarr.json")
    with pytest.raises(StoreError, match="cut short there, create it again with the same spec"):
        cube.read_spec(url)
    cube.create(url, spec)
    assert {entry.key for entry in objects.at(url).list()} == whole
    assert cube.verify(url).sound


def test_something_else_in_the_way_is_left_alone(store_url, spec):
    objects.at(store_url).put("notes.txt", b"mine")
    with pytest.raises(StoreError, match=r"it is not empty, 'notes.txt' lies there"):
        cube.create(store_url, spec)
    assert objects.at(store_url).get("notes.txt") == b"mine"


def test_other_values_need_overwrite_and_leave_a_record(made, values):
    url, spec = made
    region = first(spec)
    old, new = (values(spec, "predictors", region, seed=seed) for seed in (0, 1))
    cube.write_region(url, "predictors", region, old)
    cube.write_region(url, "predictors", region, old)
    with pytest.raises(RegionError, match="written already, with other values"):
        cube.write_region(url, "predictors", region, new)
    np.testing.assert_array_equal(read_region(url, "predictors", region, spec=spec), old)
    cube.write_region(url, "predictors", region, new, overwrite=True)
    np.testing.assert_array_equal(read_region(url, "predictors", region, spec=spec), new)
    assert cube.status(url).counts.replaced == 1
    key = ledger.key(spec, "predictors", region, group=ledger.REPLACED)
    assert ledger.decode(objects.at(url).get(key)) == ledger.checksum(old)


def test_periods_are_appended_and_variables_added_and_removed(made, values):
    url, spec = made
    region = first(spec)
    data = values(spec, "predictors", region)
    cube.write_region(url, "predictors", region, data)
    cube.append(url, *cube.years(2020))
    cube.add(url, cube.LayerSpec(name="roof", dtype="int8", nodata=-1))
    longer = cube.read_spec(url)
    assert [period.label for period in longer.calendar] == ["2000", "2010", "2020"]
    late = replace(region, time=2)
    cube.write_region(url, "predictors", late, data)
    found = cube.open(url, stored=True)["predictors"]
    np.testing.assert_array_equal(found[(2, slice(None), *region.slices)], data)
    np.testing.assert_array_equal(found[(1, slice(None), *region.slices)], data)
    cube.remove(url, "predictors")
    assert not any("predictors" in entry.key for entry in objects.at(url).list())
    assert {v.name for v in cube.read_spec(url).variables} == {"basin", "population", "roof"}
    assert cube.verify(url).sound


def harmed(data, harm):
    if harm == "cut":
        return data[: len(data) // 2]
    flipped = bytearray(data)
    flipped[len(data) // 3] ^= 0x10
    return bytes(flipped)


@pytest.mark.parametrize("harm", ["cut", "flipped", "missing", "foreign"])
def test_damage_is_found_named_and_repaired(made, values, harm):
    url, spec = made
    there = objects.at(url)
    regions = list(cube.regions(spec, "predictors", time=1))[:2]
    for region in regions:
        cube.write_region(url, "predictors", region, values(spec, "predictors", region))
    index = (slice(1, 2), slice(0, 3), *regions[0].slices)
    key = store.keys_of(url, "predictors", index)[0]
    other = store.keys_of(url, "predictors", (*index[:2], *regions[1].slices))[0]
    if harm == "missing":
        there.delete(key)
    else:
        there.put(key, there.get(other) if harm == "foreign" else harmed(there.get(key), harm))
    if harm in ("cut", "flipped"):
        with pytest.raises(DamagedError):
            read_region(url, "predictors", regions[0], spec=spec)
    (damaged,) = cube.verify(url).damaged
    assert damaged.region == regions[0]
    assert key in damaged.keys
    asked = []

    def redo(name, places):
        asked.append((name, places))
        for place in places:
            cube.write_region(url, name, place, values(spec, name, place))

    repaired = cube.repair(url, redo=redo)
    assert asked == [("predictors", [regions[0]])]
    assert repaired.left == ()
    assert cube.verify(url).sound


def test_strays_and_data_without_a_tick_are_found_and_put_right(made, values):
    url, spec = made
    region = first(spec)
    cube.write_region(url, "predictors", region, values(spec, "predictors", region))
    objects.at(url).delete(ledger.key(spec, "predictors", region))
    objects.at(url).put("predictors/c/9/9/9/9", b"whose?")
    verdict = cube.verify(url)
    assert verdict.strays == ("predictors/c/9/9/9/9",)
    assert [finding.region for finding in verdict.unticked] == [region]
    repaired = cube.repair(url)
    assert repaired.removed == verdict.strays
    assert "Run again what filled predictors" in str(repaired)
    cube.write_region(url, "predictors", region, values(spec, "predictors", region))
    assert cube.verify(url).sound
    assert not cube.verify(url).unticked


def test_many_who_add_layers_at_the_same_time_lose_none(made):
    url, _ = made
    names = [f"layer_{n}" for n in range(12)]

    def add(name):
        cube.add(url, cube.LayerSpec(name=name, dtype="float32"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, names))
    assert set(names) < {variable.name for variable in cube.read_spec(url).variables}
    assert set(names) < set(cube.open(url).data_vars)
    assert cube.verify(url).sound


def test_two_writers_of_one_region_leave_one_whole(made, values):
    url, spec = made
    region = first(spec)
    both = [values(spec, "predictors", region, seed=seed) for seed in (1, 2)]

    def write(data):
        cube.write_region(url, "predictors", region, data, spec=spec, overwrite=True)

    for _ in range(3):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(write, both))
        found = read_region(url, "predictors", region, spec=spec)
        assert any(np.array_equal(found, data) for data in both)
        assert cube.verify(url).sound
