"""Working ahead changes when things are made, never what comes out."""

from __future__ import annotations

import gc
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.stream.prefetching import prefetched


def _others():
    return set(threading.enumerate()) - {threading.main_thread()}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.one_of(st.none(), st.integers(), st.text())), st.integers(1, 5))
def test_the_same_items_come_in_the_same_order(items, depth):
    assert list(prefetched(iter(items), depth=depth)) == items


def test_an_error_of_the_producer_reaches_the_consumer_where_it_happened():
    def items():
        yield 1
        yield 2
        raise OSError("the disk is gone")

    ahead = prefetched(items(), depth=4)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(ahead)


def test_a_consumer_that_leaves_early_stops_the_producer():
    before, made = _others(), []

    def items():
        for number in range(10**9):
            made.append(number)
            yield number

    ahead = prefetched(items(), depth=2)
    assert next(ahead) == 0
    ahead.close()
    assert _others() == before
    count = len(made)
    time.sleep(0.05)
    assert len(made) == count


def _on_a_thread_that_is_waited_for(call):
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("collected_on", [lambda call: call(), _on_a_thread_that_is_waited_for])
def test_one_that_was_forgotten_may_be_collected_on_any_thread(collected_on):
    forgotten, over = threading.Event(), []

    def items():
        yield 0
        forgotten.wait(10)
        collected_on(gc.collect)
        over.append(True)
        yield 1

    gc.disable()
    try:
        before = _others()
        cycle = {"ahead": prefetched(items(), depth=2)}
        cycle["itself"] = cycle
        next(cycle["ahead"])
        producer = (_others() - before).pop()
        del cycle
        forgotten.set()
        producer.join(20)
    finally:
        gc.enable()
    assert over
    assert not producer.is_alive()


def test_no_thread_is_left_when_all_was_consumed():
    before = _others()
    assert sum(prefetched(range(100), depth=3)) == 4950
    assert _others() == before


@pytest.mark.parametrize("depth", [1, 3])
def test_the_producer_is_at_most_depth_items_ahead_that_in_its_hand_included(depth):
    made = []

    def items():
        for number in range(30):
            made.append(number)
            yield number

    for taken, _ in enumerate(prefetched(items(), depth=depth), start=1):
        time.sleep(0.002)
        assert len(made) <= taken + depth


def test_the_producer_runs_on_a_thread_of_its_own():
    names = list(prefetched((threading.current_thread().name for _ in range(2)), depth=1))
    assert threading.current_thread().name not in names
