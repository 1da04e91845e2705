"""What a stream is told is checked when it is said."""

from __future__ import annotations

import numpy as np
import pytest

from cube.errors import SpecError
from training.stream import StreamSpec


@pytest.mark.parametrize("name", ["batch", "prefetch", "block_px", "blocks_in_flight", "readers"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(SpecError, match=f"{name} must be at least 1"):
        StreamSpec(seed=0, **{name: 0})


@pytest.mark.parametrize("value", [2.5, 16.0, "4", True])
@pytest.mark.parametrize("name", ["batch", "prefetch", "block_px", "seed", "readers", "draws"])
def test_numbers_that_are_not_whole_are_refused(name, value):
    with pytest.raises(SpecError, match=f"{name} must be at least ., a whole number"):
        StreamSpec(**{"seed": 0, name: value})


def test_there_is_no_order_without_a_seed():
    with pytest.raises(SpecError, match="seed must be at least 0"):
        StreamSpec(seed=None)
    with pytest.raises(SpecError, match=r"below 2\*\*63"):
        StreamSpec(seed=2**63, draws=1)
    with pytest.raises(SpecError, match="shuffle is True or False"):
        StreamSpec(seed=0, shuffle="no")


def test_numbers_of_numpy_are_as_good_as_those_of_python():
    spec = StreamSpec(seed=np.int64(3), batch=np.uint8(4), part=(np.int64(0), np.int64(2)))
    assert spec == StreamSpec(seed=3, batch=4, part=(0, 2))
    assert all(type(value) is int for value in (spec.seed, spec.batch, *spec.part))


@pytest.mark.parametrize("part", [(2, 2), (-1, 3), (0, 0), 1, (0, 1, 2), (0.7, 2), "01", None])
def test_a_part_that_is_none_is_refused(part):
    with pytest.raises(SpecError, match="0 <= k < n"):
        StreamSpec(seed=0, part=part)


@pytest.mark.parametrize("memory", ["much", 0, "-1 GB", None, float("inf"), True])
def test_a_memory_that_is_no_number_of_bytes_is_refused(memory):
    with pytest.raises(SpecError, match="number of bytes"):
        StreamSpec(seed=0, memory=memory)


@pytest.mark.parametrize(("memory", "size"), [("512 MB", 512e6), (1000, 1000), ("1 GiB", 2**30)])
def test_memory_is_said_as_people_say_it(memory, size):
    assert StreamSpec(seed=0, memory=memory).memory_bytes == size
