"""Threads: a task has one, and afterwards everything is as it was."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest
import rasterio
import sklearn.utils._openmp_helpers  # noqa: F401  (loads a pool of OpenMP)
from threadpoolctl import threadpool_info, threadpool_limits

from cube import threads
from cube.run import run_tasks
from cube.threads import cores, one_thread, one_thread_each


def limits():
    """Threads of each kind of pool, as this thread sees them."""
    return {pool["user_api"]: pool["num_threads"] for pool in threadpool_info()}


@pytest.fixture
def three():
    with threadpool_limits(3):
        assert set(limits()) == {"blas", "openmp"}
        yield


def test_there_is_a_core():
    assert 1 <= cores() <= (os.cpu_count() or 1)


def test_within_both_pools_have_one_thread_and_afterwards_what_they_had(three):
    before = limits()
    with one_thread_each(), one_thread():
        assert set(limits().values()) == {1}
    assert limits() == before


def test_an_error_puts_back_what_was_there_too(three):
    before = limits()
    with pytest.raises(ZeroDivisionError), one_thread_each(), one_thread():
        raise ZeroDivisionError
    assert limits() == before


def test_gdal_has_one_thread_and_a_small_cache_in_a_task():
    with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"), one_thread():
        options = rasterio.env.getenv()
        assert options["GDAL_NUM_THREADS"] == "1"
        assert options["GDAL_CACHEMAX"] == threads.GDAL_CACHE_BYTES


def test_a_cache_of_gdal_that_somebody_chose_stays(monkeypatch):
    monkeypatch.setenv("GDAL_CACHEMAX", "500")
    with rasterio.Env(), one_thread():
        assert "GDAL_CACHEMAX" not in rasterio.env.getenv()


def test_numexpr_is_bounded_where_it_is_loaded(monkeypatch):
    class Numexpr:
        threads = 8

        def set_num_threads(self, count):
            before, self.threads = self.threads, count
            return before

    loaded = Numexpr()
    monkeypatch.setitem(sys.modules, "numexpr", loaded)
    with one_thread_each():
        assert loaded.threads == 1
    assert loaded.threads == 8


def test_tasks_on_local_threads_are_bounded(three):
    before = limits()
    found = dict(run_tasks(lambda task: limits(), range(8), verb="t", url="/x", workers=2))
    assert all(set(seen.values()) == {1} for seen in found.values())
    assert limits() == before


def test_a_task_that_needs_no_raster_loads_no_rasterio(monkeypatch):
    # As where it was never loaded: nothing may load it.
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with one_thread():
        assert sys.modules["rasterio"] is None


def test_it_costs_a_task_less_than_a_millisecond():
    with one_thread():
        pass
    began = time.perf_counter()
    for _ in range(100):
        with one_thread():
            pass
    assert time.perf_counter() - began < 0.1


def test_many_tasks_at_once_leave_what_was_there(three):
    before = limits()

    def work():
        for _ in range(50):
            with one_thread():
                pass

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert limits() == before
