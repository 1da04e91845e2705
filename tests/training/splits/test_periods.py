"""A part uses no period of another part, nor one too near."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cube
from cube.errors import SpecError, SplitError
from cube.windows import Windows
from tests import toy
from training.chips import Chips
from training.samples import SampleSpec
from training.splits import check_leaks, load_split, split_by_time
from training.timings import Timing

YEARS = [str(year) for year in range(2000, 2012)]
SPEC = cube.CubeSpec(
    grid=toy.GRID, calendar=cube.years(*range(2000, 2012)), stacks=toy.spec().stacks
)
CHIPS_WINDOWS = Windows(shape=toy.SHAPE, size=8, stride=8)


def _sample(pairs):
    timings = [Timing(inputs=(a,), label=(b,)) for a, b in pairs]
    return SampleSpec.of({"predictors": ["red"]}, None, timings=timings)


def _years(timing):
    return [YEARS.index(p) for p in (*timing.inputs, *timing.label)]


class TestLaws:
    @settings(deadline=None, max_examples=60)
    @given(
        st.sets(st.tuples(st.sampled_from(YEARS), st.sampled_from(YEARS)), min_size=2, max_size=9),
        st.sets(st.sampled_from(YEARS), min_size=1, max_size=3),
        st.sets(st.sampled_from(YEARS), max_size=2),
        st.integers(0, 3),
    )
    def test_parts_are_more_than_the_gap_apart_and_nothing_is_lost_in_vain(
        self, pairs, test, validation, gap
    ):
        sample = _sample(sorted(pairs))
        options = {"test_periods": sorted(test), "validation_periods": sorted(validation)}
        try:
            split, reason = split_by_time(sample, SPEC, **options, gap_periods=gap), ""
        except SplitError as error:
            split, reason = None, str(error)
        if split is None:
            assert "No timing is left" in reason or "is in one part" in reason
            return
        parts = [split.train_timings, split.validation_timings, split.test_timings]
        near = [
            [min(abs(a - b) for a in _years(t) for b in _years(u)) <= gap for u in sample.timings]
            for t in sample.timings
        ]
        for one in range(3):
            for other in range(one):
                assert not any(near[a][b] for a in parts[one] for b in parts[other])
        for lost in split.lost_timings:
            assert any(near[lost][k] for k in (*parts[1], *parts[2]))
        together = sorted([*parts[0], *parts[1], *parts[2], *split.lost_timings])
        assert together == list(range(len(pairs)))
        chips = Chips(windows=CHIPS_WINDOWS, timings=len(pairs))
        ids = [split.ids(part, chips) for part in ("train", "test")]
        assert check_leaks(chips, *ids, buffer_px=8, times_apart=split.apart) is None


class TestTimeSplit:
    SAMPLE = _sample([("2000", "2002"), ("2002", "2004"), ("2004", "2006"), ("2009", "2010")])

    def test_a_chip_whose_input_is_the_label_of_another_part_is_lost(self):
        split = split_by_time(self.SAMPLE, SPEC, test_periods=["2006"])
        assert split.test_timings == (2,)
        assert split.lost_timings == (1,)  # its label of 2004 is the input of what is scored
        assert split.train_timings == (0, 3)
        assert "lost 2002 → 2004" in str(split)

    def test_periods_between_are_kept_free(self):
        split = split_by_time(self.SAMPLE, SPEC, test_periods=["2006"], gap_periods=2)
        assert split.train_timings == (3,)

    def test_chips_of_a_part_at_given_windows(self):
        split = split_by_time(self.SAMPLE, SPEC, test_periods=["2006"])
        chips = Chips(windows=CHIPS_WINDOWS, timings=4)
        assert split.ids("train", chips, windows=[5, 2]).tolist() == [8, 11, 20, 23]
        assert len(split.ids("test", chips)) == len(CHIPS_WINDOWS)

    def test_it_loads_again(self, tmp_path):
        split = split_by_time(self.SAMPLE, SPEC, test_periods=["2006"], gap_periods=1)
        split.save(tmp_path / "split.json")
        assert load_split(tmp_path / "split.json") == split
        with pytest.raises(SplitError, match="It is a split by time; leave windows= out"):
            load_split(tmp_path / "split.json", windows=CHIPS_WINDOWS)

    def test_static_labels_are_split_by_their_inputs(self):
        sample = SampleSpec.of(
            {"predictors": ["red"]}, None, timings=[Timing(inputs=(y,)) for y in YEARS[:3]]
        )
        assert split_by_time(sample, SPEC, test_periods=["2001"]).test_timings == (1,)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"test_periods": ["1999"]}, SpecError, "calendar has no '1999'"),
            ({"test_periods": ["2011"]}, SplitError, "No timing is left for test: by time"),
            ({"test_periods": ["2006"], "gap_periods": 9}, SplitError, "left for train"),
            ({"test_periods": ["2006"], "gap_periods": -1}, SplitError, "0 or more. Received -1"),
            (
                {"test_periods": ["2006"], "validation_periods": ["2006"]},
                SplitError,
                "one part. Received 2006",
            ),
            (
                {"test_periods": ["2006"], "validation_periods": ["2004"]},
                SplitError,
                "No timing is left for validation",
            ),
        ],
    )
    def test_periods_that_cannot_be_split(self, options, error, message):
        with pytest.raises(error, match=message):
            split_by_time(self.SAMPLE, SPEC, **options)

    def test_a_timing_without_periods(self):
        sample = SampleSpec.of({"terrain": ["slope"]}, None)
        with pytest.raises(SplitError, match="static → static names none; split by place"):
            split_by_time(sample, SPEC, test_periods=["2006"])

    def test_what_it_does_not_have_is_refused(self):
        split = split_by_time(self.SAMPLE, SPEC, test_periods=["2006"])
        with pytest.raises(SplitError, match="of 4 timings. Received chips of 1"):
            split.ids("train", Chips(windows=CHIPS_WINDOWS))
        with pytest.raises(SplitError, match="Parts are train"):
            split.ids("dev", Chips(windows=CHIPS_WINDOWS, timings=4))

    def test_apart_is_what_shares_no_period(self):
        split = split_by_time(self.SAMPLE, SPEC, test_periods=["2006"])
        assert np.argwhere(~split.apart).tolist() == [
            [0, 0], [0, 1], [1, 0], [1, 1], [1, 2], [2, 1], [2, 2], [3, 3],
        ]  # fmt: skip
