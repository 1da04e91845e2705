"""A table is written whole or not at all, and comes back as it was."""

from __future__ import annotations

import geopandas as gpd
import pandas as pd
import pytest
import shapely
from geopandas.testing import assert_geodataframe_equal

from cube.errors import StoreError
from inference.tables import write_table


@pytest.fixture
def frame():
    return gpd.GeoDataFrame(
        {"name": ["a", "ç", None], "persons": [1.5, 2.0, float("nan")], "fold": [1, 2, 1]},
        geometry=[shapely.box(x, 0, x + 1, 2) for x in range(3)],
        crs="EPSG:31985",
    )


def test_geoparquet_comes_back_as_it_was(frame, tmp_path):
    parquet, _ = write_table(frame, tmp_path / "out" / "tracts")
    assert parquet == tmp_path / "out" / "tracts.parquet"
    assert_geodataframe_equal(gpd.read_parquet(parquet), frame)


def test_csv_holds_all_but_the_geometries(frame, tmp_path):
    _, csv = write_table(frame.rename_geometry("outline"), tmp_path / "tracts")
    assert csv == tmp_path / "tracts.csv"
    pd.testing.assert_frame_equal(
        pd.read_csv(csv), pd.DataFrame(frame.drop(columns="geometry")), check_dtype=False
    )


def test_a_dot_in_the_name_stays(frame, tmp_path):
    parquet, csv = write_table(frame, tmp_path / "tracts.2010")
    assert (parquet.name, csv.name) == ("tracts.2010.parquet", "tracts.2010.csv")


def test_nothing_else_is_left(frame, tmp_path):
    write_table(frame, tmp_path / "tracts")
    write_table(frame, tmp_path / "tracts")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tracts.csv", "tracts.parquet"]


@pytest.mark.parametrize("method", ["to_parquet", "to_csv"])
def test_a_write_that_fails_midway_leaves_the_earlier_file_whole(
    frame, tmp_path, monkeypatch, method
):
    paths = write_table(frame, tmp_path / "tracts")
    before = [path.read_bytes() for path in paths]

    def half(self, path, **_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gpd.GeoDataFrame, "to_parquet", half if method == "to_parquet" else _whole)
    monkeypatch.setattr(pd.DataFrame, "to_csv", half)
    with pytest.raises(StoreError, match=r"Cannot write the table .*No space left") as caught:
        write_table(frame, tmp_path / "tracts")
    assert "\n" not in str(caught.value)
    assert paths[1].read_bytes() == before[1]
    assert paths[0].read_bytes() == (before[0] if method == "to_parquet" else b"whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tracts.csv", "tracts.parquet"]


def _whole(self, path, **_):
    path.write_bytes(b"whole")


def test_a_folder_that_cannot_be_written_is_one_clear_line(frame, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"Cannot write the table '.*/file/tracts'") as caught:
        write_table(frame, tmp_path / "file" / "tracts")
    assert "\n" not in str(caught.value)
