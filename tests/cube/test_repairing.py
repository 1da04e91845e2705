"""Repairing: only what is wrong, whatever else goes on."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import cube
from cube import clouds, locking, provenance
from cube.errors import CubeError, SpecError, StoreError


def test_what_was_added_since_the_verdict_is_no_stray(url, spec, values):
    objects_of_nobody = Path(url, "predictors/c/2/0/0/0")
    objects_of_nobody.parent.mkdir(parents=True)
    objects_of_nobody.write_bytes(b"whose?")
    verdict = cube.verify(url)
    assert verdict.strays == ("predictors/c/2/0/0/0",)
    longer = cube.append(url, *cube.years(2020))
    region = next(cube.regions(longer, "predictors", time=2))
    cube.write_region(url, "predictors", region, values(longer, "predictors", region))
    assert cube.repair(url, verdict=verdict).removed == ()
    assert cube.verify(url).sound


@pytest.mark.parametrize("key", ["x/c/0", "band/c/0", "time/c/0", "spatial_ref/zarr.json"])
@pytest.mark.parametrize("harm", ["removed", "flipped"])
def test_coordinates_and_documents_are_put_right(url, contents, key, harm):
    before, path = contents(url), Path(url, key)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if harm == "removed":
        path.unlink()
    else:
        path.write_bytes(data)
    assert cube.verify(url).stale == (key,)
    assert cube.repair(url).renewed == (key,)
    assert contents(url) == before
    assert cube.verify(url).sound
    assert xr.open_zarr(url).sizes["x"] == 130


def test_two_names_of_a_folder_are_one_lock(url, tmp_path):
    alias = tmp_path / "alias.zarr"
    os.symlink(url, alias)
    name, entered = "ledger/basin/c/0/0", threading.Event()

    def enter():
        with locking.hold(str(alias), name):
            entered.set()

    with locking.hold(url, name):
        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.2)
    thread.join()
    assert entered.is_set()


def test_a_variable_that_is_being_filled_is_not_removed(url, spec):
    provenance.record_inputs(url, spec, "basin", {None: {"from": "there"}}, run="abc")
    with pytest.raises(StoreError, match="'basin' is being filled by another process"):
        cube.remove(url, "basin")
    cube.remove(url, "basin", force=True)
    assert "basin" not in {variable.name for variable in cube.read_spec(url).variables}


class Constant:
    bands = ("mean", "stable")

    def read(self, grid, rows, cols):
        return np.full((2, rows[1] - rows[0], cols[1] - cols[0]), 7.0)

    def check(self, grid):
        pass

    def describe(self):
        return {"constant": 7}


def test_a_time_that_is_filled_in_parts_forgets_runs_that_were_killed(url, spec):
    regions = list(cube.regions(spec, "lights", time=0))
    inputs = {0: Constant().describe()}
    provenance.record_inputs(url, spec, "lights", inputs, run="killed")
    for part in (regions[:2], regions[2:]):
        cube.ingest(url, "lights", {"2000": Constant()}, regions=part)
    assert not provenance.at_work(url, "lights")


def test_an_endpoint_without_a_scheme_is_told(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    with pytest.raises(StoreError, match="AWS_ENDPOINT_URL must begin with http:// or https://"):
        cube.read_spec("s3://bucket/endpoint.zarr")


def test_a_key_that_cannot_be_read_is_not_repeated(monkeypatch):
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", '"SECRETSECRET"')
    with pytest.raises(StoreError) as caught, clouds.explained("gs://bucket/cube.zarr"):
        clouds.connect("gs://bucket/cube.zarr")
    assert "SECRETSECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"grid": {"crs": "EPSG:999999", "transform": [1, 0, 0, 0, -1, 0], "shape": [2, 2]}},
        {"grid": {"crs": "EPSG:4326", "transform": [1, 0, 0, 0, -1, 0], "shape": ["a", 2]}},
        {"calendar": 5},
    ],
)
def test_a_spec_that_makes_no_sense_is_told_in_one_line(spec, change):
    with pytest.raises(SpecError) as caught:
        cube.CubeSpec.from_dict({**spec.to_dict(), **change})
    assert "\n" not in str(caught.value)
    with pytest.raises(SpecError, match="a mapping of fields"):
        cube.CubeSpec.from_dict([1, 2])


def test_a_damaged_spec_of_a_variable_is_told(url):
    document = json.loads(Path(url, "zarr.json").read_text())
    node = document["consolidated_metadata"]["metadata"]["basin"]
    node["attributes"]["quadrat_spec"] = "{"
    Path(url, "zarr.json").write_text(json.dumps(document))
    with pytest.raises(CubeError, match="the spec of a variable cannot be read"):
        cube.status(url)
