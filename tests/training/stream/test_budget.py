"""A memory budget is divided so that its parts fit into it, or refused with what would do."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cube.errors import SpecError
from training.stream.budget import Needs, plan_budget


@settings(deadline=None)
@given(
    memory=st.integers(10**5, 10**11),
    pixel_bytes=st.integers(1, 400),
    size=st.integers(1, 512),
    batch=st.integers(1, 256),
    prefetch=st.integers(1, 8),
)
def test_the_parts_of_a_budget_fit_into_it(memory, pixel_bytes, size, batch, prefetch):
    needs = Needs(pixel_bytes=pixel_bytes, chip_bytes=pixel_bytes * size**2, size=size)
    try:
        found = plan_budget(memory, needs, batch=batch, prefetch=prefetch)
    except SpecError:
        assume(False)
    batches = (prefetch + 2) * batch * needs.chip_bytes
    assert needs.block_bytes(found.block_px) <= found.group_bytes
    assert 2 * found.group_bytes + found.kept_bytes + found.decoding_bytes + batches <= memory
    assert found.decoding_bytes > 0
    assert found.section >= 1


@pytest.mark.parametrize("size", [1, 8, 128])
def test_what_a_refusal_asks_for_is_enough(size):
    needs = Needs(pixel_bytes=30, chip_bytes=30 * size**2, size=size)
    with pytest.raises(SpecError, match="at least") as error:
        plan_budget(1000, needs, batch=32, prefetch=4)
    enough = float(re.search(r"at least ([\d,.]+) MB", str(error.value))[1].replace(",", ""))
    plan_budget(round(enough * 10**6), needs, batch=32, prefetch=4)


def test_more_memory_gives_larger_blocks_or_more_of_them():
    needs = Needs(pixel_bytes=29, chip_bytes=10**6, size=128)
    small, large = (plan_budget(m * 10**6, needs, batch=32, prefetch=4) for m in (500, 4000))
    assert small.block_px <= large.block_px
    assert small.group_bytes < large.group_bytes


def test_what_the_user_says_is_taken():
    needs = Needs(pixel_bytes=2, chip_bytes=100, size=8)
    found = plan_budget(10**9, needs, batch=2, prefetch=1, block_px=40, blocks=3)
    assert found.block_px == 40
    assert found.group_bytes == 3 * needs.block_bytes(40)
