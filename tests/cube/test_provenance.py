"""Provenance: recorded per time, and inputs are never mixed."""

from __future__ import annotations

import json
import socket
from datetime import date
from pathlib import Path

import pytest
import xarray as xr

import cube
from cube import ledger, provenance, template
from cube.errors import SourceError

SCENE = {"source": "scenes", "files": ["a.tif", "b.tif"]}
OTHER = {"source": "scenes", "files": ["a.tif", "c.tif"]}


@pytest.fixture
def record(url, spec):
    return lambda name, time, made_from: provenance.record_inputs(url, spec, name, time, made_from)


@pytest.fixture
def check(url, spec):
    return lambda name, time, made_from: provenance.check_inputs(url, spec, name, time, made_from)


def test_any_reader_sees_what_each_time_was_made_from(url, record):
    record("predictors", 1, OTHER)
    record("predictors", 0, SCENE)
    record("basin", None, SCENE)
    plain = xr.open_zarr(url)
    assert {k: v["from"] for k, v in json.loads(plain["predictors"].attrs["inputs"]).items()} == {
        "2000": SCENE,
        "2010": OTHER,
    }
    assert list(json.loads(plain["basin"].attrs["inputs"])) == ["static"]
    assert plain["basin"].attrs["created_by"].startswith("quadrat ")


def test_the_order_of_recording_leaves_no_trace(spec, tmp_path, contents):
    trees = []
    for name, order in (("a", (0, 1)), ("b", (1, 0))):
        url = cube.create(tmp_path / name, spec)
        for time in order:
            provenance.record_inputs(url, spec, "predictors", time, SCENE)
        trees.append(contents(url))
    assert trees[0] == trees[1]


def test_recording_again_changes_no_byte(url, record, contents):
    record("predictors", 0, SCENE)
    before = contents(url)
    record("predictors", 0, SCENE)
    assert contents(url) == before


def test_nothing_of_the_clock_the_host_or_the_path_is_recorded(url, record):
    record("predictors", 0, SCENE)
    text = Path(url, "zarr.json").read_text() + Path(url, "predictors/zarr.json").read_text()
    for secret in (str(Path(url).parent), socket.gethostname(), date.today().isoformat()):
        assert secret not in text


def test_the_spec_stays_what_it_was(url, spec, record):
    record("predictors", 0, SCENE)
    assert cube.read_spec(url) == spec
    assert cube.create(url, spec) == url


def test_other_inputs_are_fine_until_a_region_is_written(url, spec, record, check):
    record("predictors", 0, SCENE)
    check("predictors", 0, OTHER)


@pytest.mark.parametrize(("name", "time"), [("predictors", 0), ("basin", None)])
def test_other_inputs_for_a_time_that_is_begun_are_refused(url, fill, record, check, name, time):
    record(name, time, SCENE)
    fill(url, name, time=time)
    key = "static" if time is None else "2000"
    with pytest.raises(SourceError, match=rf"'{name}' \({key}\) already holds regions made from"):
        check(name, time, OTHER)
    check(name, time, SCENE)


def test_another_time_or_variable_may_have_other_inputs(url, spec, values, record, check):
    record("predictors", 0, SCENE)
    region = next(cube.regions(spec, "predictors", time=0))
    cube.write_region(url, "predictors", region, values(spec, "predictors", region))
    record("predictors", 1, SCENE)
    check("predictors", 1, OTHER)
    check("lights", 0, OTHER)


def test_after_clearing_every_region_other_inputs_are_fine_again(url, spec, values, record, check):
    record("basin", None, SCENE)
    region = next(cube.regions(spec, "basin"))
    cube.write_region(url, "basin", region, values(spec, "basin", region))
    ledger.clear(url, spec, "basin", [region])
    check("basin", None, OTHER)
    record("basin", None, OTHER)
    assert provenance.inputs_of(url, "basin")["static"]["from"] == OTHER


def test_two_processes_that_record_two_times_lose_neither(url, spec, monkeypatch):
    annotate = template.annotate

    def slow(*arguments, **attributes):
        # Between what this process knows and what it writes, another one records its time.
        with monkeypatch.context() as other_process:
            other_process.setattr(provenance, "annotate", annotate)
            provenance.record_inputs(url, spec, "predictors", 1, OTHER)
        annotate(*arguments, **attributes)

    monkeypatch.setattr(provenance, "annotate", slow)
    provenance.record_inputs(url, spec, "predictors", 0, SCENE)
    assert set(provenance.inputs_of(url, "predictors")) == {"2000", "2010"}
