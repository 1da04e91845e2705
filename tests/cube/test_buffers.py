"""Memory comes back when, and only when, nothing looks at it any more."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.buffers import Buffers

PAGE = mmap.PAGESIZE


def _at(array):
    return array.ctypes.data


@pytest.mark.parametrize("dtype", ["int16", "float32", "bool"])
def test_arrays_begin_where_frameworks_want_it(dtype):
    array = Buffers(kept_bytes=10**6).empty((3, 5, 7), dtype)
    assert (array.shape, array.dtype, _at(array) % 64) == ((3, 5, 7), np.dtype(dtype), 0)
    assert array.flags.writeable
    assert array.flags.c_contiguous


@pytest.mark.parametrize(
    "look", [lambda a: a[1:], lambda a: a.T.reshape(-1)[::2].view(), memoryview]
)
def test_memory_that_a_view_looks_at_is_not_used_again(look):
    buffers = Buffers(kept_bytes=10**6)
    array = buffers.empty((4, 6), "int32")
    place = _at(array)
    view = look(array)
    if not np.may_share_memory(np.asarray(view), array):
        pytest.skip("a copy")
    del array
    assert _at(buffers.empty((4, 6), "int32")) != place
    del view
    arrays = [buffers.empty((4, 6), "int32") for _ in range(2)]
    assert place in map(_at, arrays)


def test_what_was_let_go_of_is_used_again():
    buffers = Buffers(kept_bytes=10**6)
    places = {_at(buffers.empty((100,), "float32")) for _ in range(5)}
    assert len(places) == 1


def test_no_more_is_kept_than_was_said():
    buffers = Buffers(kept_bytes=2 * PAGE)
    arrays = [buffers.empty((10,), "int16") for _ in range(5)]
    del arrays
    assert buffers.free_bytes == 2 * PAGE


def test_arrays_of_similar_sizes_share_memory():
    buffers = Buffers(kept_bytes=10**9)
    first = _at(buffers.empty((1000, 1001), "uint8"))
    assert _at(buffers.empty((499, 1000), "int16")) == first


def test_memory_of_other_sizes_makes_room():
    buffers = Buffers(kept_bytes=10 * PAGE)
    small = [buffers.empty((PAGE,), "uint8") for _ in range(8)]
    del small
    assert buffers.free_bytes == 8 * PAGE
    large = buffers.empty((5 * PAGE,), "uint8")
    assert buffers.free_bytes == 5 * PAGE
    del large
    assert buffers.free_bytes == 10 * PAGE


LOOKS = {
    "array": np.asarray,
    "view": lambda array: array[:, 1::3].T,
    "memoryview": memoryview,
    "dlpack": np.from_dlpack,
}


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(1, 16), st.sampled_from(sorted(LOOKS))),
            st.integers(0, 99),
        ),
        max_size=50,
    ),
)
def test_memory_is_never_handed_out_while_anything_looks_at_it(steps):
    buffers, held = Buffers(kept_bytes=20 * PAGE), []
    for number, step in enumerate(steps):
        if isinstance(step, int):
            if held:
                del held[step % len(held)]
            continue
        pages, kind = step
        array = buffers.empty((pages, PAGE), "uint8")
        array[:] = number
        held.append((pages * PAGE, LOOKS[kind](array), number))
        del array
        using = sum(size for size, _, _ in held)
        assert using + buffers.free_bytes <= max(using, 20 * PAGE)
        assert all((np.asarray(look) == written).all() for _, look, written in held)


def test_memory_that_a_tensor_looks_at_is_not_used_again():
    tf = pytest.importorskip("tensorflow")
    buffers, held = Buffers(kept_bytes=10**9), []
    for number in range(40):
        array = buffers.empty((4, PAGE), "uint8")
        array[:] = number
        held.append((tf.convert_to_tensor(array), number))
        held.append((tf.experimental.dlpack.from_dlpack(array.__dlpack__()), number))
        del array
        del held[(number * 7) % len(held)]
        assert all((tensor.numpy() == written).all() for tensor, written in held)


def test_an_array_that_came_through_dlpack_keeps_its_memory():
    buffers = Buffers(kept_bytes=10**6)
    array = buffers.empty((8,), "int32")
    place, other = _at(array), np.from_dlpack(array)
    del array
    assert _at(buffers.empty((8,), "int32")) != place
    assert _at(other) == place
