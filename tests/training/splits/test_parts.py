"""A part of a split streams its own chips alone, and refuses what would leak."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import cube
from cube.errors import SplitError
from cube.windows import Windows
from tests import toy
from training.chips import Chips
from training.index.indexing import index_chips
from training.samples import SampleSpec
from training.splits import (
    SplitRules,
    contiguous_folds,
    split_by_cells,
    split_by_polygons,
    split_by_time,
    split_random,
)
from training.splits.parts import SplitChips
from training.splits.rules import PARTS
from training.stream import ChipStream, StreamSpec
from training.timings import Timing, same

WINDOWS = Windows(shape=toy.SHAPE, size=8, stride=4)
CHIPS = Chips(windows=WINDOWS)
THREE = {"train": 0.5, "validation": 0.2, "test": 0.3}


@pytest.fixture(scope="module")
def split():
    return split_by_cells(WINDOWS, cell_px=32, fractions=THREE, seed=2)


@pytest.fixture(scope="module")
def index(city):
    return index_chips(city.url, toy.SAMPLE, WINDOWS)


class TestPlaces:
    def test_parts_hold_the_ids_of_the_split_and_share_none(self, split):
        parts = {name: split.part(name, CHIPS) for name in PARTS}
        for name, part in parts.items():
            assert part.ids.tolist() == split.ids(name, CHIPS).tolist()
            assert str(part).startswith(f"{name} of the split by cells: {len(part)} chips")
        together = np.concatenate([part.ids for part in parts.values()])
        assert len(np.unique(together)) == len(together)

    def test_an_index_leaves_its_chips_alone_and_the_part_its_index(self, split, index):
        chosen = index.query("valid_share == 1 and label_share > 0.5")
        part = split.part("train", CHIPS, index=chosen)
        expected = np.intersect1d(split.ids("train", CHIPS), chosen.ids)
        assert part.ids.tolist() == part.index.ids.tolist() == expected.tolist()
        assert part.index.history[-1].expression == "train of the split by cells"

    def test_a_stream_of_a_part_streams_it(self, city, split, index):
        for given in (None, index):
            part = split.part("validation", CHIPS, index=given)
            stream = ChipStream(city.url, toy.SAMPLE, WINDOWS, part, StreamSpec(seed=0))
            assert stream.ids.tolist() == part.ids.tolist()

    @pytest.mark.parametrize("name", ["train", "validation"])
    def test_a_stream_of_chips_that_come_near_to_test_windows_is_refused(self, city, split, name):
        lost = split.folds[0].lost_windows
        near = [w for w in lost if _near(w, split.folds[0].test_windows) < split.buffer_px]
        part = split.part(name, CHIPS)
        leaking = replace(part, ids=np.append(part.ids, near[0]))
        with pytest.raises(SplitError, match=f"Leak: 1 of {len(part) + 1} training windows"):
            ChipStream(city.url, toy.SAMPLE, WINDOWS, leaking, StreamSpec(seed=0))

    def test_what_is_scored_is_no_leak_of_itself(self, city, split):
        split.part("test", CHIPS).check(city.spec, toy.SAMPLE, WINDOWS)

    def test_a_random_split_passes_and_says_what_it_is(self, city):
        part = split_random(WINDOWS, fractions=THREE, seed=0).part("train", CHIPS)
        part.check(city.spec, toy.SAMPLE, WINDOWS)
        assert str(part).endswith("; random split: neighbours in the test set")

    def test_folds_are_named(self):
        split = split_by_cells(WINDOWS, cell_px=32, folds=3, validation_share=0, seed=0)
        part = split.part("train", CHIPS, fold=1)
        assert "by cells, fold 2" in str(part)
        leaking = replace(part, ids=split.ids("test", CHIPS, fold=1))
        with pytest.raises(SplitError, match=f"Leak: {len(leaking)} of {len(leaking)} training"):
            leaking.check(toy.spec(), toy.SAMPLE, WINDOWS)
        with pytest.raises(SplitError, match="There are 3 folds"):
            split.part("train", CHIPS, fold=3)
        with pytest.raises(SplitError, match="No chip is in part 'validation' of the split by cel"):
            split.part("validation", CHIPS)

    def test_an_empty_part_says_which_filters_removed_how_many(self, split, index):
        test = index.where(np.isin(index.ids, split.ids("test", CHIPS)), "mine")
        with pytest.raises(SplitError, match="'train of the split by cells' removed .* 'mine' rem"):
            split.part("train", CHIPS, index=test)

    def test_other_windows_timings_and_indices_are_refused(self, city, split, index):
        part, other = split.part("train", CHIPS), Windows(shape=toy.SHAPE, size=8, stride=3)
        with pytest.raises(SplitError, match="of windows .*'stride': 4.* Received .*'stride': 3"):
            part.check(city.spec, toy.SAMPLE, other)
        twice = replace(toy.SAMPLE, timings=(*toy.SAMPLE.timings, *same(["2010"])))
        with pytest.raises(SplitError, match="of chips at 1 timings. Received a sample of 2"):
            part.check(city.spec, twice, WINDOWS)
        with pytest.raises(SplitError, match="The index is of windows .* at 1 timings. .* at 2"):
            split.part("train", Chips(windows=WINDOWS, timings=2), index=index)
        fewer = SampleSpec.of({"predictors": ["red"]}, toy.TARGET, timings=toy.SAMPLE.timings)
        with pytest.raises(SplitError, match="The index is from another cube, sample"):
            split.part("train", CHIPS, index=index).check(city.spec, fewer, WINDOWS)
        with pytest.raises(SplitError, match=r"Parts are train, .*'dev'"):
            split.part("dev", CHIPS)


class TestTimes:
    SPEC = cube.CubeSpec(grid=toy.GRID, calendar=cube.years(*range(2000, 2006)))
    SAMPLE = SampleSpec.of(
        {"predictors": ["red"]},
        None,
        timings=[Timing(inputs=(str(y),), label=(str(y + 1),)) for y in range(2000, 2005)],
    )

    def test_a_timing_that_shares_a_period_with_a_test_chip_is_refused(self):
        split = split_by_time(self.SAMPLE, self.SPEC, test_periods=["2005"])
        chips = Chips(windows=WINDOWS, timings=5)
        part = split.part("train", chips, windows=[3, 1])
        assert part.ids.tolist() == split.ids("train", chips, windows=[1, 3]).tolist()
        part.check(self.SPEC, self.SAMPLE, WINDOWS)
        split.part("test", chips).check(self.SPEC, self.SAMPLE, WINDOWS)
        with pytest.raises(SplitError, match="Leak: 2003 → 2004 use periods of test chips"):
            replace(part, ids=np.append(part.ids, 8)).check(self.SPEC, self.SAMPLE, WINDOWS)

    def test_a_sample_of_other_timings_is_refused(self):
        # Its chips of the same numbers would be of other periods, those of test chips among them.
        split = split_by_time(self.SAMPLE, self.SPEC, test_periods=["2005"])
        other = replace(self.SAMPLE, timings=self.SAMPLE.timings[::-1])
        for name in ("train", "test"):
            part = split.part(name, Chips(windows=WINDOWS, timings=5))
            with pytest.raises(SplitError, match="of the timings 2000 → 2001, .* sample of 2004"):
                part.check(self.SPEC, other, WINDOWS)

    def test_one_of_several_test_timings_is_enough(self):
        split = split_by_time(self.SAMPLE, self.SPEC, test_periods=["2001", "2005"])
        assert split.train_timings == (2,)
        part = split.part("train", Chips(windows=WINDOWS, timings=5))
        with pytest.raises(SplitError, match="Leak: 2001 → 2002, 2003 → 2004 use periods"):
            replace(part, ids=np.array([1, 3])).check(self.SPEC, self.SAMPLE, WINDOWS)


class TestPolygons:
    def test_parts_hold_the_windows_of_the_fold_and_are_guarded(self, city):
        folds = contiguous_folds(city.polygons, by="neighbourhood", folds=3, seed=0)
        split = split_by_polygons(city.coverage, WINDOWS, folds, SplitRules(seed=0))
        part = split.part("train", CHIPS, fold=1)
        assert part.ids.tolist() == split.folds[1].train_windows.tolist()
        part.check(city.spec, toy.SAMPLE, WINDOWS)
        test = split.folds[1].test_windows
        with pytest.raises(SplitError, match="Leak: 1 of"):
            replace(part, ids=np.append(part.ids, test[0])).check(city.spec, toy.SAMPLE, WINDOWS)
        for call in (split.guard, split.fold, lambda k: split.part("train", CHIPS, fold=k)):
            with pytest.raises(SplitError, match="There are 3 folds, from 0. Received -1"):
                call(-1)
        with pytest.raises(SplitError, match="The split is of windows"):
            split.part("train", Chips(windows=Windows(shape=toy.SHAPE, size=8, stride=3)), fold=0)


def test_a_part_without_chips_is_none():
    with pytest.raises(SplitError, match="No chip is in part 'train' of the split by hand"):
        SplitChips(name="train", kind="by hand", chips=CHIPS, ids=np.empty(0, "int64"))


def _near(window, others):
    a, b = WINDOWS.origins([window]), WINDOWS.origins(others)
    return (np.abs(a - b).max(axis=1) - WINDOWS.size).min()
