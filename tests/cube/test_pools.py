"""Pools: workers that die cost their task alone, a cluster that dies ends the run with one line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from cube.errors import ClusterError
from cube.pools import Cluster
from cube.run import run_tasks

FOLDER = "/nowhere.zarr"

CLUSTER = """
import time
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=":0") as cluster:
        print(cluster.scheduler_address, flush=True)
        time.sleep(120)
"""


@pytest.fixture(scope="module")
def processes():
    """A cluster of two workers in processes of their own, which are replaced when they die."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client():
    with Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0"
    ) as found:
        yield found


@pytest.fixture
def child(tmp_path):
    """A cluster in a process of its own, to be killed."""
    script = tmp_path / "cluster.py"
    script.write_text(CLUSTER)
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        process.address = process.stdout.readline().strip()
        yield process
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def kills_its_worker_once(task, *, folder):
    """The first worker that does task 3 dies over it, as from lack of memory."""
    if task == 3:
        try:
            Path(folder, "dead").touch(exist_ok=False)
        except FileExistsError:
            return task
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def kills_every_worker(task):
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return task


def slow(task):
    time.sleep(0.2)
    return task


@pytest.mark.slow
class TestWorkers:
    def test_one_that_is_killed_costs_no_task(self, processes, tmp_path):
        work = partial(kills_its_worker_once, folder=str(tmp_path))
        found = dict(run_tasks(work, range(20), verb="test", url=FOLDER, client=processes))
        assert (tmp_path / "dead").exists()
        assert found == {n: n for n in range(20)}

    def test_a_task_that_kills_worker_after_worker_fails_alone(self, processes):
        found = dict(
            run_tasks(kills_every_worker, [1, 2, 3], verb="t", url=FOLDER, client=processes)
        )
        error = found[3]
        assert isinstance(error, ClusterError)
        assert str(error).startswith("4 workers died over it, the last at tcp://")
        assert "\n" not in str(error)
        # Dask may blame a task that was beside it; a new run does that one again.
        assert all(found[n] == n or isinstance(found[n], ClusterError) for n in (1, 2))


@pytest.mark.slow
class TestScheduler:
    @pytest.mark.filterwarnings("ignore")
    def test_one_that_is_killed_ends_the_run_with_one_line_and_soon(self, child):
        with Client(child.address) as client:
            results = run_tasks(slow, range(1000), verb="test", url=FOLDER, client=client)
            for _ in range(3):
                next(results)
            child.kill()
            began = time.monotonic()
            with pytest.raises(
                ClusterError,
                match=rf"^The Dask scheduler at {child.address} is gone; what is written stays, "
                r"run it again to go on\.$",
            ):
                list(results)
            assert time.monotonic() - began < 30

    @pytest.mark.filterwarnings("ignore")
    def test_a_client_that_was_closed_ends_the_run_too(self, child):
        client = Client(child.address)
        results = run_tasks(slow, range(1000), verb="test", url=FOLDER, client=client)
        next(results)
        client.close()
        with pytest.raises(ClusterError, match="is gone; what is written stays"):
            list(results)


class TestCluster:
    def test_the_scheduler_knows_the_function_and_what_is_in_flight_and_no_more(self, client):
        payload = bytes(1_000_000)

        def work(task, *, payload):
            time.sleep(0.01)
            return len(payload)

        work = partial(work, payload=payload)
        results = run_tasks(work, range(60), verb="test", url=FOLDER, client=client)
        known = [len(client.cluster.scheduler.tasks) for _ in results]
        assert max(known) <= 4 + 1
        deadline = time.monotonic() + 10
        while client.cluster.scheduler.tasks and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not client.cluster.scheduler.tasks

    def test_what_was_submitted_is_cancelled_when_the_run_stops(self, client):
        begun = []

        def work(task):
            begun.append(task)
            time.sleep(0.1)
            return task

        results = run_tasks(work, range(100), verb="test", url=FOLDER, client=client)
        next(results)
        results.close()
        time.sleep(0.5)
        assert len(begun) <= 5
        assert not client.futures

    def test_a_result_whose_worker_died_while_the_run_was_stopped_is_not_waited_for(
        self, monkeypatch
    ):
        monkeypatch.setattr("cube.pools.LISTEN_S", 0.01)
        monkeypatch.setattr("cube.pools.LAST_S", 0.05)

        class Dying:
            """A future that is done again and again; with one worker, a client."""

            status = "finished"
            scheduler = None

            def nthreads(self):
                return {"tcp://worker": 1}

            def result(self, timeout):
                raise TimeoutError

            def release(self):
                pass

        future = Dying()
        future.client = Dying()
        future.client.status = "running"
        pool = Cluster(slow, future.client)
        pool.flying = {future: 1}
        assert pool.stop() == [future]
        with pytest.raises(TimeoutError):
            pool.take(future)
        assert pool.at_large

    def test_a_cluster_without_workers_is_refused(self):
        class Empty:
            scheduler = None

            def nthreads(self):
                return {}

        with pytest.raises(ClusterError, match="has no workers; start some, or leave out client="):
            Cluster(slow, Empty())
