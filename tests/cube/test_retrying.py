"""Trying again: within its bounds, only what may pass, and the same result at the end."""

from __future__ import annotations

import errno
import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cube.errors import DamagedError, SourceError, SpecError, StoreError, TransientError
from cube.retrying import PASSING, Retry, is_transient

seconds = st.floats(0, 1e6, allow_nan=False)
retries = st.builds(
    Retry,
    tries=st.integers(1, 2000),
    first_s=seconds,
    most_s=seconds,
    total_s=seconds,
    seed=st.integers(0, 2**32),
)


class Flaky:
    """Fails so often, then gives 42."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.calls = 0

    def __call__(self):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return 42


def passing(count):
    return [TransientError(f"timed out {n}.") for n in range(count)]


class TestPauses:
    @given(retries)
    def test_there_is_one_between_two_tries_and_none_is_too_long(self, retry):
        pauses = list(retry.pauses())
        assert len(pauses) == retry.tries - 1
        for n, pause_s in enumerate(pauses):
            assert 0 <= pause_s <= min(retry.most_s, retry.first_s * 2.0 ** min(n, 1000))

    @given(retries)
    def test_a_seed_gives_the_same_pauses(self, retry):
        assert list(retry.pauses()) == list(retry.pauses())

    def test_without_a_seed_they_differ_so_that_tasks_do_not_come_back_together(self):
        assert len({next(Retry().pauses()) for _ in range(20)}) == 20

    def test_they_grow_from_nothing_to_the_whole_on_average(self):
        drawn = [list(Retry(seed=seed, tries=6, most_s=4).pauses()) for seed in range(2000)]
        means = [sum(pauses) / len(drawn) for pauses in zip(*drawn, strict=True)]
        assert means == pytest.approx([0.5, 1, 2, 2, 2], rel=0.1)


class TestCall:
    @given(st.integers(1, 8), st.integers(0, 10))
    def test_it_tries_until_it_works_or_the_tries_are_used_up(self, tries, failures):
        slept = []
        call = Flaky(*passing(failures))
        value, count = Retry(tries=tries, sleep=slept.append, total_s=1e9).call(call)
        assert count == call.calls == min(tries, failures + 1)
        assert len(slept) == count - 1
        if failures < tries:
            assert value == 42
        else:
            assert str(value) == f"timed out {tries - 1}."

    @pytest.mark.parametrize(
        "error", [SourceError("no."), StoreError("full."), DamagedError("torn."), SpecError("no.")]
    )
    def test_what_does_not_pass_is_not_tried_again(self, error):
        call = Flaky(error)
        assert Retry(sleep=pytest.fail).call(call) == (error, 1)
        assert call.calls == 1

    @pytest.mark.parametrize("error", [ZeroDivisionError("bug"), OSError(errno.EIO, "disk")])
    def test_a_bug_comes_through(self, error):
        with pytest.raises(type(error)):
            Retry(sleep=pytest.fail).call(Flaky(error))

    def test_an_interrupt_comes_through(self):
        with pytest.raises(KeyboardInterrupt):
            Retry(sleep=pytest.fail).call(Flaky(KeyboardInterrupt()))

    @pytest.mark.parametrize("code", sorted(PASSING))
    def test_what_the_system_says_may_pass_is_tried_again(self, code):
        error = OSError(code, os.strerror(code))
        assert Retry(sleep=lambda s: None).call(Flaky(error)) == (42, 2)

    def test_what_the_system_says_to_the_end_becomes_ours(self):
        error = OSError(errno.ETIMEDOUT, "Connection timed out")
        value, tries = Retry(tries=2, sleep=lambda s: None).call(Flaky(error, error))
        assert (type(value), tries) == (TransientError, 2)
        assert str(value) == f"[Errno {errno.ETIMEDOUT}] Connection timed out."

    def test_no_try_begins_after_the_time_is_up(self, monkeypatch):
        clock = [0.0]
        monkeypatch.setattr("cube.retrying.time.monotonic", lambda: clock[0])

        def wait(pause_s):
            clock[0] += pause_s

        retry = Retry(tries=100, first_s=10, most_s=10, total_s=60, seed=1, sleep=wait)
        _, tries = retry.call(Flaky(*passing(100)))
        assert clock[0] <= 60
        assert 6 <= tries < 40


def test_it_travels_to_workers():
    assert pickle.loads(pickle.dumps(Retry(tries=3, seed=1))) == Retry(tries=3, seed=1)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"tries": 0}, "tries must be a whole number from 1. Received 0"),
        ({"first_s": -1}, "first_s must be seconds, 0 or more. Received -1"),
        ({"most_s": float("nan")}, "most_s must be seconds"),
        ({"total_s": -0.5}, "total_s must be seconds"),
    ],
)
def test_what_makes_no_sense_is_refused(fields, match):
    with pytest.raises(SpecError, match=match):
        Retry(**fields)


def test_an_error_of_ours_tells_by_its_kind_alone():
    lost = TransientError("x")
    full = StoreError("x")
    full.errno = errno.ETIMEDOUT
    assert is_transient(lost)
    assert not is_transient(full)
