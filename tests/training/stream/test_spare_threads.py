"""Work is shared with threads that are free, and every part of it is done once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.stream import spare_threads
from training.stream.spare_threads import SpareThreads


@pytest.fixture(autouse=True, scope="module")
def four_cores():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spare_threads, "cores", lambda: 4)
        yield


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(8) as found:
        yield found


def shared(spare, count):
    """The numbers that were worked on, and by how many calls."""
    found, calls = [], []

    def work(numbers):
        calls.append(numbers)
        found.extend(numbers)

    spare.share(work, count)
    return sorted(found), len(calls)


@given(threads=st.integers(1, 8), count=st.integers(0, 20))
def test_every_number_is_worked_on_once(pool, threads, count):
    spare = SpareThreads(pool, threads)
    assert shared(spare, count) == (list(range(count)), 1)
    spare.free()
    # Never by more threads than there are cores.
    assert shared(spare, count) == (list(range(count)), 1 + min(threads, 3))


def test_one_core_works_alone(pool, monkeypatch):
    monkeypatch.setattr(spare_threads, "cores", lambda: 1)
    spare = SpareThreads(pool, 8)
    spare.free()
    assert shared(spare, 5) == ([0, 1, 2, 3, 4], 1)


@pytest.mark.parametrize("bad", range(4))
def test_an_error_comes_once_nobody_works_any_more(pool, bad):
    spare = SpareThreads(pool, 3)
    spare.free()
    others, ended = threading.Semaphore(0), []

    def work(numbers):
        if bad in numbers:
            for _ in range(3):
                others.release()
            raise ValueError("damaged")
        others.acquire()
        ended.extend(numbers)

    with pytest.raises(ValueError, match="damaged"):
        spare.share(work, 4)
    assert sorted(ended) == [n for n in range(4) if n != bad]
