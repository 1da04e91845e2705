"""What a stream is told is checked when it is said."""

from __future__ import annotations

import pytest

from cube.errors import SpecError
from training.stream import StreamSpec


@pytest.mark.parametrize("name", ["batch", "prefetch", "block_px", "blocks_in_flight", "readers"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(SpecError, match=f"{name} must be at least 1"):
        StreamSpec(seed=0, **{name: 0})


@pytest.mark.parametrize("part", [(2, 2), (-1, 3), (0, 0)])
def test_a_part_that_is_none_is_refused(part):
    with pytest.raises(SpecError, match="0 <= k < n"):
        StreamSpec(seed=0, part=part)


@pytest.mark.parametrize("memory", ["much", 0, "-1 GB", None])
def test_a_memory_that_is_no_number_of_bytes_is_refused(memory):
    with pytest.raises(SpecError, match="number of bytes"):
        StreamSpec(seed=0, memory=memory)


@pytest.mark.parametrize(("memory", "size"), [("512 MB", 512e6), (1000, 1000), ("1 GiB", 2**30)])
def test_memory_is_said_as_people_say_it(memory, size):
    assert StreamSpec(seed=0, memory=memory).memory_bytes == size
