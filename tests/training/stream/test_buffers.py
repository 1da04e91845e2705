"""Memory comes back when, and only when, nothing looks at it any more."""

from __future__ import annotations

import numpy as np
import pytest

from training.stream.buffers import Buffers


def _at(array):
    return array.ctypes.data


@pytest.mark.parametrize("dtype", ["int16", "float32", "bool"])
def test_arrays_begin_where_frameworks_want_it(dtype):
    array = Buffers(kept=1).empty((3, 5, 7), dtype)
    assert (array.shape, array.dtype, _at(array) % 64) == ((3, 5, 7), np.dtype(dtype), 0)
    assert array.flags.writeable
    assert array.flags.c_contiguous


@pytest.mark.parametrize(
    "look", [lambda a: a[1:], lambda a: a.T.reshape(-1)[::2].view(), memoryview]
)
def test_memory_that_a_view_looks_at_is_not_used_again(look):
    buffers = Buffers(kept=4)
    array = buffers.empty((4, 6), "int32")
    place = _at(array)
    view = look(array)
    if not np.may_share_memory(np.asarray(view), array):
        pytest.skip("a copy")
    del array
    assert _at(buffers.empty((4, 6), "int32")) != place
    del view
    assert place in {_at(buffers.empty((4, 6), "int32")) for _ in range(1)}


def test_what_was_let_go_of_is_used_again():
    buffers = Buffers(kept=1)
    places = {_at(buffers.empty((100,), "float32")) for _ in range(5)}
    assert len(places) == 1


def test_no_more_is_kept_than_was_said():
    buffers = Buffers(kept=2)
    arrays = [buffers.empty((10,), "int16") for _ in range(5)]
    del arrays
    assert sum(map(len, buffers._free.values())) == 2


def test_arrays_of_several_sizes_share_memory_with_room_for_the_largest():
    buffers = Buffers(kept=1)
    first = _at(buffers.empty((3,), "uint8", room=100))
    assert _at(buffers.empty((50,), "int16", room=100)) == first


def test_an_array_that_came_through_dlpack_keeps_its_memory():
    buffers = Buffers(kept=1)
    array = buffers.empty((8,), "int32")
    place, other = _at(array), np.from_dlpack(array)
    del array
    assert _at(buffers.empty((8,), "int32")) != place
    assert _at(other) == place
