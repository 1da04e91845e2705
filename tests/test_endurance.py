"""The long proof: two hundred kills and two hundred faults of a store, and not one byte is wrong.

    make endurance

Counts are printed; whoever changes how regions are written runs this.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import multiprocessing
import os
import random
import signal
import threading
import time

import pytest

import cube
from cube import locking
from tests import faults, interrupted

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PROCESS_KILLS, STORE_KILLS, WORKER_KILLS = 160, 20, 20
TORN = 40
"""Kills that must find a region half written, or the others prove little."""
FAULTS = 200

# Children begin at once, with everything imported.
_children = multiprocessing.get_context("forkserver")
_children.set_forkserver_preload(["tests.interrupted"])


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return interrupted.image(tmp_path_factory.mktemp("image") / "image.tif")


FEWER = 16
"""Side of a chunk in object stores: the server of the tests takes some milliseconds a request."""


def undisturbed(image, folder, chunk):
    url = interrupted.create(folder / "calm.zarr", interrupted.grid(), chunk)
    interrupted.ingest(url, str(image))
    return interrupted.stored(url)


@pytest.fixture(scope="module")
def expected(image, tmp_path_factory):
    """What a run that nobody disturbs leaves."""
    return undisturbed(image, tmp_path_factory.mktemp("calm"), interrupted.CHUNK)


@pytest.fixture(scope="module")
def expected_remotely(image, tmp_path_factory):
    """The same, with fewer objects."""
    return undisturbed(image, tmp_path_factory.mktemp("calm"), FEWER)


@pytest.fixture
def said(capsys):
    """Print past pytest."""

    def say(text):
        with capsys.disabled():
            print(f"\n{text}", flush=True)

    return say


def ended_or_killed(url, image, span_s, lease_s=None):
    """Start an ingest and kill it after a while; None if it was faster."""
    # The server of forks knows the environment of when it was started.
    child = _children.Process(
        target=interrupted.ingest_in, args=(dict(os.environ), url, str(image), lease_s)
    )
    child.start()
    child.join(span_s)
    if not child.is_alive():
        assert child.exitcode == 0
        return None
    if lease_s is None:
        interrupted.catch(child.pid, url, "predictors", random.Random(span_s), looks=30)
    # It may have come to its end meanwhile.
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGKILL)
    child.join()
    if child.exitcode == 0:
        return None
    return interrupted.half_written(url, "predictors") > 0


def check(url, expected):
    verdict = cube.verify(url)
    assert verdict.sound, verdict
    assert not verdict.unticked
    assert interrupted.stored(url) == expected


def kill_again_and_again(places, kills, run):
    """Kill runs on one cube after another, each until it is done; kills, torn ones, cubes."""
    count = torn = cubes = 0
    while count < kills:
        place = next(places)
        while (found := run(place)) is not None:
            count, torn = count + 1, torn + found
        cubes += 1
    return count, torn, cubes


def test_processes_killed_at_random(tmp_path, image, expected, said):
    rng = random.Random(1)

    def run(place):
        url = interrupted.create(place, interrupted.grid())
        found = ended_or_killed(url, image, rng.uniform(0.05, 0.6))
        if found is None:
            check(url, expected)
        return found

    places = (tmp_path / f"{n}.zarr" for n in itertools.count())
    kills, torn, cubes = kill_again_and_again(places, PROCESS_KILLS, run)
    said(
        f"folder: {kills} processes killed, {torn} with a region half written; {cubes} cubes whole"
    )
    assert torn >= TORN


def test_processes_killed_at_random_while_they_write_to_an_object_store(
    s3, monkeypatch, image, expected, said
):
    s3.use(monkeypatch)
    monkeypatch.setattr(locking, "LEASE_S", 0.5)
    bucket = s3.new_bucket()
    rng = random.Random(2)

    def run(place):
        url = interrupted.create(place, interrupted.grid())
        # Long enough to take over the leases of the one killed before.
        found = ended_or_killed(url, image, rng.uniform(0.8, 2.5), lease_s=0.5)
        if found is None:
            check(url, expected)
        return found

    places = (f"{bucket}/{n}.zarr" for n in itertools.count())
    kills, torn, cubes = kill_again_and_again(places, STORE_KILLS, run)
    said(f"s3: {kills} processes killed, {torn} with a region half written; {cubes} cubes whole")


def test_workers_killed_at_random(tmp_path, image, expected, said):
    dask = pytest.importorskip("dask")
    distributed = pytest.importorskip("distributed")
    rng = random.Random(3)
    kills = torn = cubes = 0
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1000}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        while kills < WORKER_KILLS:
            url = interrupted.create(tmp_path / f"{cubes}.zarr", interrupted.grid())
            run = threading.Thread(target=interrupted.ingest, args=(url, str(image), None, client))
            run.start()
            while run.is_alive():
                before = interrupted.written(url, "predictors")
                time.sleep(rng.uniform(0.0, 0.3))
                worker = rng.choice([w for w in cluster.workers.values() if w.pid] or [None])
                if interrupted.written(url, "predictors") > before and worker and run.is_alive():
                    os.kill(worker.pid, signal.SIGKILL)
                    kills += 1
                    torn += interrupted.half_written(url, "predictors") > 0
            check(url, expected)
            cubes += 1
    said(f"cluster: {kills} workers killed, {torn} with a region half written; {cubes} cubes whole")
    assert torn


def test_a_store_that_fails_again_and_again(s3, monkeypatch, image, expected_remotely, said):
    """Refusals, throttling, silence, cut connections and halves of answers."""
    monkeypatch.setenv("QUADRAT_TIMEOUT_S", "1")
    kinds = ("500", "503", "429", "timeout", "cut", "partial")
    cubes = 0
    with faults.proxy(s3.endpoint, faults=kinds, rate=0.02, seed=4, silence_s=3) as proxy:
        s3.through(proxy.endpoint).use(monkeypatch)
        bucket = s3.new_bucket()
        while sum(proxy.counts().values()) < FAULTS:
            url = interrupted.create(f"{bucket}/{cubes}.zarr", interrupted.grid(), FEWER)
            interrupted.ingest(url, str(image))
            verdict = cube.verify(url)
            assert verdict.sound, verdict
            assert interrupted.stored(url) == expected_remotely
            cubes += 1
        counts, requests = proxy.counts(), proxy.requests()["all"]
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    said(f"s3: {sum(counts.values())} faults in {requests} requests ({told}); {cubes} cubes whole")
