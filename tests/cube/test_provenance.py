"""Provenance: recorded per time, and inputs are never mixed."""

from __future__ import annotations

import json
import socket
from datetime import date
from pathlib import Path

import pytest
import xarray as xr

import cube
from cube import ledger, provenance
from cube.errors import SourceError

SCENE = {"source": "scenes", "files": ["a.tif", "b.tif"]}
OTHER = {"source": "scenes", "files": ["a.tif", "c.tif"]}


@pytest.fixture
def record(url, spec):
    return lambda name, time, made_from, **how: provenance.record_inputs(
        url, spec, name, {time: made_from}, **how
    )


@pytest.fixture
def check(url, spec):
    return lambda name, time, made_from, **how: provenance.check_inputs(
        url, spec, name, {time: made_from}, **how
    )


@pytest.fixture
def leave(url, spec):
    return lambda name, time, made_from, run, whole=(): provenance.sign_out(
        url, spec, name, {time: made_from}, run=run, whole=whole
    )


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
            provenance.record_inputs(url, spec, "predictors", {time: SCENE})
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


def test_two_processes_that_record_two_times_lose_neither(url, spec, start):
    code = (
        "import sys, cube\n"
        "from cube import provenance\n"
        "url, time = sys.argv[1], int(sys.argv[2])\n"
        "spec = cube.read_spec(url)\n"
        "for n in range(30):\n"
        "    provenance.record_inputs(url, spec, 'predictors', {time: {'n': n}})\n"
    )
    children = [start(code, url, time) for time in (0, 1)]
    for child in children:
        _, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
    recorded = provenance.inputs_of(url, "predictors")
    assert {label: made["from"] for label, made in recorded.items()} == {
        "2000": {"n": 29},
        "2010": {"n": 29},
    }


class TestRuns:
    """Inputs may only be replaced where no run can be at work on them."""

    REFUSED = r"'predictors' \(2000\) is being filled from other inputs .*; if it was killed, give"

    def test_a_run_that_is_at_work_keeps_others_with_other_inputs_out(self, record, check):
        record("predictors", 0, SCENE, run="one")
        for act in (check, record):
            with pytest.raises(SourceError, match=self.REFUSED):
                act("predictors", 0, OTHER)
        check("predictors", 0, SCENE)
        check("predictors", 1, OTHER)

    def test_a_run_that_wrote_nothing_takes_its_record_back(
        self, url, record, check, leave, contents
    ):
        before = contents(url)
        record("predictors", 0, SCENE, run="one")
        leave("predictors", 0, SCENE, "one")
        assert contents(url) == before
        record("predictors", 0, OTHER, run="two")
        assert provenance.inputs_of(url, "predictors")["2000"]["from"] == OTHER

    def test_another_run_with_the_same_inputs_keeps_the_record(self, url, record, check, leave):
        record("predictors", 0, SCENE, run="one")
        record("predictors", 0, SCENE, run="two")
        leave("predictors", 0, SCENE, "one")
        assert provenance.inputs_of(url, "predictors")["2000"]["from"] == SCENE
        with pytest.raises(SourceError, match=self.REFUSED):
            check("predictors", 0, OTHER)
        leave("predictors", 0, SCENE, "two")
        check("predictors", 0, OTHER)

    def test_a_run_that_wrote_something_leaves_its_record(
        self, url, spec, values, record, check, leave
    ):
        record("predictors", 0, SCENE, run="one")
        region = next(cube.regions(spec, "predictors", time=0))
        cube.write_region(url, "predictors", region, values(spec, "predictors", region))
        leave("predictors", 0, SCENE, "one")
        assert not provenance.at_work(url, "predictors")
        with pytest.raises(SourceError, match="already holds regions made from other inputs"):
            check("predictors", 0, OTHER)

    def test_once_every_region_is_written_killed_runs_are_forgotten(
        self, tmp_path, spec, fill, contents
    ):
        trees = []
        for name, killed in (("a", ["one", "two"]), ("b", [])):
            url = cube.create(tmp_path / name, spec)
            for run in [*killed, "last"]:
                provenance.record_inputs(url, spec, "basin", {None: SCENE}, run=run)
            fill(url, "basin")
            provenance.sign_out(url, spec, "basin", {None: SCENE}, run="last", whole=[None])
            trees.append(contents(url))
        assert trees[0] == trees[1]
        assert not provenance.at_work(url, "basin")

    def test_a_run_whose_inputs_were_replaced_meanwhile_leaves_the_new_record_alone(
        self, url, record, leave
    ):
        record("predictors", 0, SCENE, run="one")
        record("predictors", 0, OTHER, run="two", replacing=True)
        leave("predictors", 0, SCENE, "one", whole=[0])
        assert provenance.inputs_of(url, "predictors")["2000"]["from"] == OTHER
        assert provenance.at_work(url, "predictors")

    def test_of_two_that_begin_together_with_other_inputs_one_is_refused(
        self, url, spec, start, tmp_path
    ):
        go = tmp_path / "go"
        code = (
            "import pathlib, sys, time, cube\n"
            "from cube import provenance\n"
            "spec = cube.read_spec(sys.argv[1])\n"
            "made_from = {None: {'file': sys.argv[2]}}\n"
            "provenance.check_inputs(sys.argv[1], spec, 'basin', made_from)\n"
            "print('checked', flush=True)\n"
            "while not pathlib.Path(sys.argv[3]).exists(): time.sleep(0.001)\n"
            "try:\n"
            "    provenance.record_inputs(\n"
            "        sys.argv[1], spec, 'basin', made_from, run=sys.argv[2])\n"
            "except cube.CubeError as error:\n"
            "    print(type(error).__name__)\n"
            "else:\n"
            "    print('began')\n"
        )
        children = [start(code, url, name, go) for name in "ab"]
        for child in children:
            assert child.stdout.readline() == "checked\n"
        go.touch()
        assert sorted(c.communicate(timeout=60)[0] for c in children) == [
            "SourceError\n",
            "began\n",
        ]


class TestReplacing:
    def test_regions_from_other_inputs_count_as_not_written_and_their_checksums_are_kept(
        self, url, spec, fill, record, check
    ):
        record("predictors", 0, SCENE)
        fill(url, "predictors", time=0)
        before = ledger.ticks(url, spec, "predictors")
        check("predictors", 0, OTHER, replacing=True)
        record("predictors", 0, OTHER, replacing=True)
        known = ledger.entries(url, spec, ["predictors"])["predictors"]
        assert not known.written.any()
        assert known.replaced[0].all()
        assert not known.replaced[1].any()
        region = next(cube.regions(spec, "predictors", time=0))
        from cube import objects

        kept = objects.at(url).get(ledger.key(spec, "predictors", region, group=ledger.REPLACED))
        assert ledger.decode(kept) == before[0, 0, 0]

    def test_the_same_inputs_leave_what_is_written(self, url, spec, fill, record):
        record("predictors", 0, SCENE)
        fill(url, "predictors", time=0)
        record("predictors", 0, SCENE, replacing=True)
        assert ledger.entries(url, spec, ["predictors"])["predictors"].written[0].all()
