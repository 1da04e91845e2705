"""Blocks and lattices hold every window once, and point at the right pixels."""

from __future__ import annotations

import inspect

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.windows import Windows
from training.chips import Chips
from training.stream.blocks import lattices, plan_blocks


@st.composite
def plans(draw):
    """Windows, some of their ids, and the side of a block."""
    size = draw(st.integers(1, 12))
    shape = (draw(st.integers(size, 60)), draw(st.integers(size, 60)))
    windows = Windows(shape=shape, size=size, stride=draw(st.integers(1, 2 * size)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ids = np.flatnonzero(rng.random(len(windows)) < draw(st.sampled_from([0.1, 0.7, 1.0])))
    return windows, ids if len(ids) else np.array([0]), draw(st.integers(1, 70))


@settings(deadline=None)
@given(plans())
def test_every_window_is_in_exactly_one_block(plan):
    windows, ids, block_px = plan
    blocks = plan_blocks(Chips(windows=windows), ids, block_px=block_px)
    assert np.sort(np.concatenate([b.chips for b in blocks])).tolist() == ids.tolist()
    assert all(np.all(np.diff(b.chips) > 0) for b in blocks)


@settings(deadline=None)
@given(plans())
def test_a_block_is_the_tightest_box_round_its_windows_and_they_begin_in_one_square(plan):
    windows, ids, block_px = plan
    for block in plan_blocks(Chips(windows=windows), ids, block_px=block_px):
        origins = windows.origins(block.chips)
        assert (block.rows[0], block.cols[0]) == tuple(origins.min(axis=0))
        assert (block.rows[1], block.cols[1]) == tuple(origins.max(axis=0) + windows.size)
        assert len(np.unique(origins // block_px, axis=0)) == 1


@settings(deadline=None)
@given(plans())
def test_the_lattices_of_a_block_hold_every_window_once_and_at_its_origin(plan):
    windows, ids, block_px = plan
    for block in plan_blocks(Chips(windows=windows), ids, block_px=block_px):
        parts = list(lattices(block, size=windows.size, stride=windows.stride))
        places = np.concatenate([part.places for part in parts])
        assert sorted(places.tolist()) == list(range(len(block.chips)))
        for part in parts:
            across = (part.cols[1] - part.cols[0] - windows.size) // windows.stride + 1
            row, col = np.divmod(part.numbers, across)
            start = np.array([block.rows[0] + part.rows[0], block.cols[0] + part.cols[0]])
            origins = start + np.stack([row, col], axis=1) * windows.stride
            assert origins.tolist() == windows.origins(block.chips[part.places]).tolist()


def test_few_windows_of_a_fine_lattice_are_not_paid_for_with_all_of_it():
    windows = Windows(shape=(400, 400), size=8, stride=1)
    ids = np.array([0, len(windows) - 1])
    (block,) = plan_blocks(Chips(windows=windows), ids, block_px=512)
    parts = list(lattices(block, size=8, stride=1))
    assert [part.rows for part in parts] == [(0, 8), (392, 400)]


@settings(deadline=None)
@given(plans(), st.integers(1, 3))
def test_chips_of_a_window_at_several_timings_lie_in_one_block(plan, timings):
    windows, ids, block_px = plan
    chips = Chips(windows=windows, timings=timings)
    every = chips.of_windows(ids)
    for block in plan_blocks(chips, every, block_px=block_px):
        assert np.array_equal(block.origins, windows.origins(block.chips // timings))
        assert np.array_equal(block.timings, block.chips % timings)
        assert (np.bincount(block.timings, minlength=timings) == len(block.chips) / timings).all()


def test_the_plan_knows_nothing_of_chunks():
    assert list(inspect.signature(plan_blocks).parameters) == ["chips", "ids", "block_px"]


def test_blocks_come_in_row_major_order():
    windows = Windows(shape=(40, 40), size=4, stride=4)
    blocks = plan_blocks(Chips(windows=windows), np.arange(len(windows)), block_px=20)
    assert [(b.rows[0], b.cols[0]) for b in blocks] == [(0, 0), (0, 20), (20, 0), (20, 20)]
