"""The picture of a split shows the part of every window."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.image import imread

from cube.errors import SplitError, StoreError
from cube.windows import Windows
from training.splits import split_by_cells
from training.splits.pictures import raster
from training.splits.places import ROLES

WINDOWS = Windows(shape=(60, 90), size=6, stride=6)


@pytest.fixture(scope="module")
def split():
    return split_by_cells(WINDOWS, cell_px=30, folds=3, seed=0)


def test_every_pixel_has_the_role_of_its_window(split):
    roles = split.roles(1)
    assert np.array_equal(raster(WINDOWS, roles), np.kron(roles.reshape(10, 15), np.ones((6, 6))))


def test_pixels_between_windows_have_no_place(split):
    sparse = Windows(shape=(60, 90), size=2, stride=6)
    shown = raster(sparse, np.zeros(len(sparse), "int8"))
    assert (shown == 0).mean() == pytest.approx(4 * len(sparse) / (60 * 90))
    assert set(np.unique(shown)) == {0, len(ROLES) - 1}


def test_a_large_grid_is_drawn_small():
    large = Windows(shape=(64_000, 32_000), size=1000, stride=1000)
    assert raster(large, np.zeros(len(large), "int8")).shape == (900, 450)


def test_a_narrow_grid_has_a_row():
    narrow = Windows(shape=(8, 40_000), size=8, stride=8)
    assert raster(narrow, np.zeros(len(narrow), "int8")).shape == (1, 900)


def test_it_is_a_png(split, tmp_path):
    split.plot(tmp_path / "split.png", fold=2)
    assert imread(tmp_path / "split.png").ndim == 3


def test_what_cannot_be_drawn(split, tmp_path):
    with pytest.raises(SplitError, match="There are 3 folds"):
        split.plot(tmp_path / "split.png", fold=3)
    with pytest.raises(SplitError, match=r"is a .png. Received 'split.jpg'"):
        split.plot(tmp_path / "split.jpg")
    with pytest.raises(StoreError, match="There is no folder"):
        split.plot(tmp_path / "none" / "split.png")
