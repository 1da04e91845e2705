"""The order of an epoch holds every block and chip once, whatever the groups."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.windows import Windows
from training.chips import Chips
from training.stream.blocks import plan_blocks
from training.stream.ordering import batches_of, part_of, plan_epoch

BLOCKS = plan_blocks(
    Chips(windows=Windows(shape=(90, 130), size=6, stride=4)), np.arange(22 * 32), block_px=16
)


def _epoch(number=0, *, seed=1, section=3, limit=4000, blocks=None):
    return plan_epoch(
        BLOCKS, number=number, seed=seed, section=section, limits=(limit, blocks), pixel_bytes=1
    )


@settings(deadline=None)
@given(
    seed=st.one_of(st.none(), st.integers(0, 2**32)),
    section=st.integers(1, 12),
    limit=st.integers(1, 10**5),
    blocks=st.one_of(st.none(), st.integers(1, 50)),
)
def test_groups_follow_one_another_and_hold_every_block_and_chip(seed, section, limit, blocks):
    epoch = _epoch(seed=seed, section=section, limit=limit, blocks=blocks)
    assert sorted(map(id, epoch.blocks)) == sorted(map(id, BLOCKS))
    assert [g.blocks[0] for g in epoch.groups] == [0, *(g.blocks[1] for g in epoch.groups[:-1])]
    assert epoch.groups[-1].blocks[1] == len(BLOCKS)
    assert epoch.chips == sum(len(block.chips) for block in BLOCKS)
    for group in epoch.groups:
        members = epoch.blocks[slice(*group.blocks)]
        assert sum(len(block.chips) for block in members) == group.chips
        assert len(members) <= (blocks or len(BLOCKS))
        assert len(members) == 1 or sum(b.shape[0] * b.shape[1] for b in members) <= limit
        assert np.sort(epoch.order(group)).tolist() == list(range(group.chips))


def test_blocks_of_a_section_follow_one_another():
    epoch = _epoch(section=3)
    changes = np.count_nonzero(np.diff(epoch.sections))
    assert changes == len(np.unique(epoch.sections)) - 1
    for section in np.unique(epoch.sections):
        cells = np.array(
            [b.cell for b, s in zip(epoch.blocks, epoch.sections, strict=True) if s == section]
        )
        assert (np.ptp(cells, axis=0) < 3).all()


def test_seed_and_epoch_decide_the_order_and_nothing_else():
    cells = [
        [b.cell for b in _epoch(n, seed=s).blocks] for n, s in ((0, 1), (0, 1), (1, 1), (0, 2))
    ]
    assert cells[0] == cells[1]
    assert cells[0] != cells[2]
    assert cells[0] != cells[3]


def test_without_a_seed_blocks_and_chips_keep_their_order():
    epoch = _epoch(4, seed=None)
    assert list(map(id, epoch.blocks)) == list(map(id, BLOCKS))
    assert epoch.order(epoch.groups[0]).tolist() == list(range(epoch.groups[0].chips))


@settings(deadline=None)
@given(st.integers(1, 10**6), st.integers(1, 64), st.integers(1, 300))
def test_parts_are_all_chips_once_and_fit_into_equally_many_batches(chips, workers, batch):
    parts = [part_of(chips, (k, workers)) for k in range(workers)]
    assert parts[0][0] == 0
    assert parts[-1][1] == chips
    assert all(a[1] == b[0] for a, b in itertools.pairwise(parts))
    room = batches_of(chips, batch, workers) * batch
    assert all(stop - start <= room for start, stop in parts)
    assert max(stop - start for start, stop in parts) > room - batch
