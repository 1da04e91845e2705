"""The chip index says of each chip what a look at its pixels says, whatever the layout."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pytest
import shapely
from distributed import Client
from geopandas.testing import assert_geodataframe_equal

import cube
from cube.errors import DamagedError, SpecError
from cube.partitions import PartitionWindows, partition_grid
from cube.windows import Windows
from tests import toy
from tests.training.index.conftest import CHANGE, COVER, PEOPLE, YEARS, build_land, land_spec
from training.index import boxes, indexing, summing
from training.index.indexing import index_chips
from training.index.predicates import ClassShare, DensityRank, LayerMean
from training.targets import TableTarget, Target

WINDOWS = Windows(shape=toy.SHAPE, size=12, stride=7)


def small_tiles(patch, *, tile=20, box=40):
    """Windows span tiles, and boxes hold several."""
    patch.setattr(summing, "TILE", tile)
    patch.setattr(indexing, "BOX", box)


@pytest.fixture(scope="module")
def index(city):
    return index_chips(city.url, toy.SAMPLE, WINDOWS)


class TestContents:
    def test_it_equals_a_look_at_every_window(self, city, index):
        for row in index.frame.itertuples():
            box = (slice(row.row, row.row + 12), slice(row.col, row.col + 12))
            label = city.label[box]
            labelled = ~np.isnan(label)
            assert row.valid_share == pytest.approx(city.valid[box].mean(), abs=1e-12)
            assert row.label_share == pytest.approx(labelled.mean(), abs=1e-12)
            if labelled.any():
                assert row.label_mean == pytest.approx(label[labelled].mean(), rel=1e-9)
            else:
                assert np.isnan(row.label_mean)

    @pytest.mark.parametrize("sample", [COVER, CHANGE], ids=["same", "pairs"])
    def test_classes_of_every_timing_equal_a_look_at_every_chip(self, land, sample, monkeypatch):
        small_tiles(monkeypatch)
        frame = index_chips(land.url, sample, WINDOWS).frame
        names = {1: "share_bare_soil", 2: "share_roof_metal", 4: "share_4", 7: "share_water"}
        for row in frame.iloc[::5].itertuples():
            timing = sample.timings[row.chip % len(sample.timings)]
            times = [YEARS.index(period) for period in timing.inputs]
            box = (slice(row.row, row.row + 12), slice(row.col, row.col + 12))
            seen = land.image[times][:, [2, 0]][(..., *box)]
            cover = land.cover[times][(..., *box)]
            known = cover[:, (cover != 255).all(axis=0)]
            assert (row.inputs, row.label) == ("+".join(timing.inputs), "+".join(timing.label))
            assert row.valid_share == (seen != 0).all(axis=(0, 1)).mean()
            assert row.label_share == (cover != 255).all(axis=0).mean()
            if known.size:
                shares = {v: (known == v).mean() for v in names}
                assert {v: getattr(row, n) for v, n in names.items()} == pytest.approx(shares)
                assert row.majority == max(names, key=lambda v: (shares[v], -v))
            else:
                assert np.isnan(row.share_water)
                assert frame["majority"].isna()[row.Index]
        assert "label_mean" not in frame

    def test_all_timings_of_a_window_follow_one_another(self, land):
        frame = index_chips(land.url, COVER, WINDOWS).frame
        assert frame["chip"].tolist() == list(range(3 * len(WINDOWS)))
        assert frame["window"].tolist() == (frame["chip"] // 3).tolist()
        assert frame["label"].tolist()[:4] == [*YEARS, "2000"]

    def test_a_window_of_zeros_has_a_mean_of_exactly_zero(self, land):
        frame = index_chips(land.url, PEOPLE, WINDOWS).frame
        empty = frame["col"] + 12 <= 50
        assert (frame["label_mean"][empty] == 0).all()
        assert (frame["label_mean"][~empty & frame["label_mean"].notna()] > 0).all()

    def test_it_has_a_row_for_each_window_in_their_order(self, index):
        assert index.frame["chip"].tolist() == list(range(len(WINDOWS)))
        assert index.frame[["row", "col"]].to_numpy().tolist() == WINDOWS.origins().tolist()

    def test_there_are_windows_of_every_kind(self, index):
        assert (index.frame["label_share"] == 1).any()
        assert (index.frame["label_share"] < 1).any()
        assert (index.frame["valid_share"] < 1).any()

    def test_outlines_are_those_of_the_pixels(self, index):
        frame, row, col = index.frame, 14, 21
        chip = frame[(frame["row"] == row) & (frame["col"] == col)]
        outline = toy.GRID[row : row + 12, col : col + 12].extent.geom
        assert shapely.equals(chip.geometry.iloc[0], outline)
        assert frame.crs == toy.GRID.crs.proj

    @pytest.mark.parametrize("target", [None, TableTarget(columns=("income",))])
    def test_without_a_label_layer_nothing_is_said_of_labels(self, city, index, target):
        sample = replace(toy.SAMPLE, target=target)
        frame = index_chips(city.url, sample, WINDOWS).frame
        kept = [name for name in index.frame if not name.startswith("label_")]
        assert_geodataframe_equal(frame, index.frame[kept])

    def test_windows_of_partitions_are_those_of_the_same_places(self, city, index, monkeypatch):
        small_tiles(monkeypatch)
        boxes = partition_grid(toy.SHAPE, 30, window=12)[::-1]
        windows = PartitionWindows(shape=toy.SHAPE, size=12, stride=6, boxes=boxes)
        frame = index_chips(city.url, toy.SAMPLE, windows).frame
        everywhere = index_chips(
            city.url, toy.SAMPLE, Windows(shape=toy.SHAPE, size=12, stride=1)
        ).frame.set_index(["row", "col"])
        same = everywhere.loc[list(map(tuple, windows.origins()))]
        assert len(frame) == len(windows)
        assert frame["valid_share"].tolist() == same["valid_share"].tolist()
        np.testing.assert_allclose(frame["label_mean"], same["label_mean"], rtol=1e-12)


class TestSameBits:
    def test_layout_workers_and_boxes_change_nothing(self, land, tmp_path, monkeypatch):
        small_tiles(monkeypatch)
        ask = [DensityRank(layer="people"), ClassShare(layer="cover", classes=[1, 7], time="2000")]
        first = index_chips(land.url, PEOPLE, WINDOWS, predicates=ask, workers=1)
        other = build_land(tmp_path / "other.zarr", chunk=24, region=72)
        for url, workers, box in ((land.url, 3, 80), (other.url, 2, 40), (other.url, 1, 20)):
            small_tiles(monkeypatch, box=box)
            again = index_chips(url, PEOPLE, WINDOWS, predicates=ask, workers=workers)
            assert_geodataframe_equal(again.frame, first.frame)  # below: to the bit
            for name in ("label_mean", "people_rank", "valid_share"):
                assert (
                    again.frame[name].to_numpy().tobytes() == first.frame[name].to_numpy().tobytes()
                )

    def test_a_cluster_changes_nothing(self, land):
        ask = [LayerMean(layer="people")]
        here = index_chips(land.url, COVER, WINDOWS, predicates=ask)
        with Client(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as client:
            there = index_chips(land.url, COVER, WINDOWS, predicates=ask, client=client)
        assert_geodataframe_equal(there.frame, here.frame)


class TestReading:
    @pytest.mark.parametrize("sample", [COVER, CHANGE])
    def test_every_pixel_is_read_once_for_each_variable_and_time(self, land, sample, monkeypatch):
        small_tiles(monkeypatch, tile=32, box=32)
        seen, whole_chunks = Counter(), []
        read = boxes.read_region

        def counted(url, name, region, *, spec):
            seen[name, region.time] += region.shape[0] * region.shape[1]
            whole_chunks.append(region.rows[0] % 16 == 0 == region.cols[0] % 16)
            return read(url, name, region, spec=spec)

        monkeypatch.setattr(boxes, "read_region", counted)
        ask = [LayerMean(layer="people"), DensityRank(layer="people")]
        ask.append(ClassShare(layer="cover", classes=7, time="2005"))
        index_chips(land.url, sample, WINDOWS, predicates=ask)
        names = [("predictors", t) for t in range(3)] + [("cover", t) for t in range(3)]
        assert seen == dict.fromkeys([*names, ("people", None)], 96 * 104)
        assert all(whole_chunks)

    def test_what_lies_in_no_window_is_not_read(self, land, monkeypatch):
        small_tiles(monkeypatch, tile=16, box=16)
        read, rows = boxes.read_region, set()

        def noted(url, name, region, *, spec):
            rows.add(region.rows)
            return read(url, name, region, spec=spec)

        monkeypatch.setattr(boxes, "read_region", noted)
        windows = PartitionWindows(
            shape=toy.SHAPE, size=8, stride=8, boxes=np.array([[32, 48, 0, 104]])
        )
        index_chips(land.url, COVER, windows)
        assert rows == {(32, 48)}

    def test_damage_stops_it_with_one_line(self, land, tmp_path):
        other = build_land(tmp_path / "damaged.zarr")
        chunk = tmp_path / "damaged.zarr/predictors/c/0/0/0/0"
        chunk.write_bytes(chunk.read_bytes()[:-3])
        with pytest.raises(DamagedError, match="'predictors' cannot be read"):
            index_chips(other.url, COVER, WINDOWS)


class TestUnwritten:
    def test_regions_never_written_count_as_nodata_and_are_told(self, tmp_path):
        url = cube.create(tmp_path / "empty.zarr", land_spec())
        index = index_chips(url, COVER, WINDOWS)
        assert (index.frame["valid_share"] == 0).all()
        assert (index.frame["label_share"] == 0).all()
        assert index.frame[["share_water", "majority"]].isna().all(axis=None)
        assert index.facts["unwritten"] == {"cover": 3 * 12, "predictors": 3 * 12}
        assert "never written, which count as nodata: cover 36, predictors 36" in str(index)

    def test_only_the_periods_that_are_read_count(self, city, index):
        assert index.facts["unwritten"] == {"population": 0, "predictors": 0, "terrain": 0}
        assert "never written" not in str(index)


class TestRefusals:
    def test_windows_of_another_grid(self, city):
        with pytest.raises(SpecError, match="of 96 x 96 pixels, the cube has 96 x 104"):
            index_chips(city.url, toy.SAMPLE, Windows(shape=(96, 96), size=8, stride=8))

    def test_a_missing_label_layer(self, city):
        sample = replace(toy.SAMPLE, target=Target(layer="income"))
        with pytest.raises(SpecError, match="no variable 'income'. It has: predictors, terrain"):
            index_chips(city.url, sample, WINDOWS)

    def test_columns_of_one_name(self, land):
        ask = [LayerMean(layer="people", name="valid_share"), LayerMean(layer="people")]
        with pytest.raises(
            SpecError, match="Received twice: valid_share; give the predicate name="
        ):
            index_chips(land.url, COVER, WINDOWS, predicates=ask)


def test_the_table_is_a_geodataframe(index):
    assert isinstance(index.frame, gpd.GeoDataFrame)
