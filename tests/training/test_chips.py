"""The chip index says of each window what a look at its pixels says."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely
from geopandas.testing import assert_geodataframe_equal

from cube.windows import Windows
from tests import toy
from training import chips
from training.chips import index_chips

WINDOWS = Windows(shape=toy.SHAPE, size=12, stride=7)


@pytest.fixture(scope="module")
def index(city):
    return index_chips(city.url, toy.SAMPLE, WINDOWS)


def test_it_equals_a_look_at_every_window(city, index):
    for row in index.itertuples():
        box = (slice(row.row, row.row + 12), slice(row.col, row.col + 12))
        label = city.label[box]
        labelled = ~np.isnan(label)
        assert row.valid_share == pytest.approx(city.valid[box].mean(), abs=1e-12)
        assert row.label_share == pytest.approx(labelled.mean(), abs=1e-12)
        if labelled.any():
            assert row.label_mean == pytest.approx(label[labelled].mean(), rel=1e-9)
        else:
            assert np.isnan(row.label_mean)


def test_it_has_one_row_per_window_in_their_order(index):
    assert index["chip"].tolist() == list(range(len(WINDOWS)))
    assert index[["row", "col"]].to_numpy().tolist() == WINDOWS.origins().tolist()


def test_there_are_windows_of_every_kind(index):
    assert (index["label_share"] == 1).any()
    assert (index["label_share"] < 1).any()
    assert (index["valid_share"] < 1).any()


def test_outlines_are_those_of_the_pixels(index):
    row, col = 14, 21
    chip = index[(index["row"] == row) & (index["col"] == col)]
    outline = toy.GRID[row : row + 12, col : col + 12].extent.geom
    assert shapely.equals(chip.geometry.iloc[0], outline)
    assert index.crs == toy.GRID.crs.proj


def test_it_survives_geoparquet(index, tmp_path):
    index.to_parquet(tmp_path / "chips.parquet")
    again = gpd.read_parquet(tmp_path / "chips.parquet")
    assert_geodataframe_equal(again, index)


def test_the_size_of_its_reads_changes_nothing(city, index, monkeypatch):
    monkeypatch.setattr(chips, "BLOCK_PX", 24)
    again = index_chips(city.url, toy.SAMPLE, WINDOWS)
    for column in ("valid_share", "label_share"):
        assert again[column].tolist() == index[column].tolist()
    np.testing.assert_allclose(again["label_mean"], index["label_mean"], rtol=1e-9)
