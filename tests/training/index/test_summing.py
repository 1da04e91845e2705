"""Sums of windows over tiles are those of plain slices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.regions import tiles
from cube.windows import Windows
from training.index.summing import TileWindows


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(1, 12),
    st.integers(1, 15),
    st.integers(3, 50),
    st.sampled_from(["bool", "int64", "float64"]),
)
def test_parts_of_windows_add_up_to_a_plain_sum(shape, size, stride, side, kind):
    windows = Windows(shape=shape, size=min(size, *shape), stride=stride)
    raster = np.random.default_rng(size).integers(0, 2 if kind == "bool" else 99, shape)
    raster = raster.astype(kind)
    total = np.zeros(len(windows))
    for tile in tiles(shape, side):
        part = TileWindows.at(windows, tile)
        if part is not None:
            total[part.ids] += part.sums(raster[tile.slices])
    expected = [
        raster[y : y + windows.size, x : x + windows.size].sum() for y, x in windows.origins()
    ]
    assert total.tolist() == expected


def test_a_great_number_beside_a_window_leaves_nothing_in_it():
    windows = Windows(shape=(8, 8), size=4, stride=4)
    raster = np.zeros((8, 8))
    raster[:4, :4] = 1e17 / 3
    raster[4:, 4:] = 0.1
    (tile,) = tiles((8, 8), 8)
    sums = TileWindows.at(windows, tile).sums(raster)
    assert sums[1] == sums[2] == 0
    assert sums[3] == pytest.approx(1.6, rel=1e-15)


def test_a_tile_without_windows_is_none():
    windows = Windows(shape=(40, 40), size=4, stride=36)
    assert TileWindows.at(windows, list(tiles((40, 40), 10))[5]) is None
