"""Whole places go to parts so that each gets its share of everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.errors import SplitError
from cube.windows import Windows
from training.splits import PlaceRules, quantile_bins, split_by_cells
from training.splits.assigning import assign
from training.splits.rules import codes_of

FRACTIONS = np.array([0.6, 0.15, 0.25])
WINDOWS = Windows(shape=(96, 96), size=4, stride=4)


def _deviation(loads, part):
    """Largest distance of a part's share of any quantity from its fraction."""
    held = np.stack([loads[part == k].sum(axis=0) for k in range(3)])
    return np.abs(held / loads.sum(axis=0) - FRACTIONS[:, None]).max()


class TestAssign:
    @settings(deadline=None, max_examples=40)
    @given(st.integers(8, 60), st.integers(1, 4), st.integers(0, 2**32 - 1))
    def test_it_deviates_no_more_than_a_random_draw_does(self, places, quantities, seed):
        rng = np.random.default_rng(seed)
        loads = rng.gamma(1.0, size=(places, quantities))
        found = _deviation(loads, assign(loads, FRACTIONS, seed=[seed]))
        draws = [_deviation(loads, rng.choice(3, places, p=FRACTIONS)) for _ in range(50)]
        assert found <= np.mean(draws)

    @given(st.integers(3, 12), st.integers(0, 999))
    @settings(deadline=None, max_examples=40)
    def test_no_part_stays_empty(self, places, seed):
        loads = np.random.default_rng(seed).gamma(0.3, size=(places, 2))
        assert set(assign(loads, FRACTIONS, seed=[seed])) == {0, 1, 2}

    def test_equal_places_are_drawn_each_as_likely_for_any_part(self):
        parts = [assign(np.ones((10, 1)), [0.6, 0.4], seed=[seed]) for seed in range(400)]
        assert {tuple(np.bincount(part)) for part in parts} == {(6, 4)}
        # 400 draws of 0.4: a standard deviation of 0.025
        np.testing.assert_allclose(np.mean(parts, axis=0), 0.4, atol=0.12)

    def test_a_quantity_that_nobody_has_counts_nothing(self):
        loads = np.random.default_rng(0).gamma(1.0, size=(20, 1))
        more = np.concatenate([loads, np.zeros((20, 1))], axis=1)
        assert np.array_equal(assign(loads, FRACTIONS, seed=[0]), assign(more, FRACTIONS, seed=[0]))


class TestBalance:
    def test_fractions_of_a_label_are_of_its_sum(self):
        y, x = WINDOWS.origins().T
        persons = np.exp((y + x) / 40)
        fractions = {"train": 0.6, "validation": 0.15, "test": 0.25}
        split = split_by_cells(
            WINDOWS, cell_px=12, fractions=fractions, seed=0, balance="label", label=persons
        )
        test = persons[split.folds[0].test_windows].sum() / persons.sum()
        assert test == pytest.approx(0.25, abs=0.01)

    def test_strata_are_mixed_alike(self):
        y, x = WINDOWS.origins().T
        strata = quantile_bins(y * 7 % 31 + x, 4)
        split = split_by_cells(WINDOWS, cell_px=12, folds=4, seed=0, stratify=strata)
        for part in split.folds:
            mix = np.bincount(strata[part.test_windows]) / np.bincount(strata)
            np.testing.assert_allclose(mix, 0.25, atol=0.06)

    @pytest.mark.parametrize("label", [np.full(576, np.nan), -np.ones(576), np.zeros(576)])
    def test_a_label_that_has_no_shares(self, label):
        with pytest.raises(SplitError, match="label must be finite, 0 or more, with a sum above"):
            split_by_cells(WINDOWS, cell_px=12, folds=4, seed=0, balance="label", label=label)


class TestClasses:
    @pytest.mark.parametrize("name", ["stratify", "classes"])
    def test_a_part_without_a_class_is_refused_by_name(self, name):
        rare = np.where(np.arange(576) < 3, "mine", "forest")
        with pytest.raises(
            SplitError,
            match=r"A part without a class: fold \d, (train|test), has no window of class 'mine'. "
            r"3 of 576 windows have it, in 1 places",
        ):
            split_by_cells(WINDOWS, cell_px=24, folds=4, seed=0, **{name: rare})

    def test_a_negative_number_is_no_class(self):
        few = np.where(np.arange(576) < 3, -1, 1)
        split = split_by_cells(WINDOWS, cell_px=24, folds=4, seed=0, stratify=few)
        assert len(split.folds) == 4

    def test_codes_are_ranks_of_the_classes_that_there_are(self):
        windows = Windows(shape=(1, 5), size=1, stride=1)
        codes, names = codes_of(windows, [7, -2, 3, 7, -1], "stratify")
        assert (codes.tolist(), names) == ([1, -1, 0, 1, -1], ("3", "7"))
        codes, names = codes_of(windows, np.array(["b", None, "a", "b", "b"]), "stratify")
        assert (codes.tolist(), names) == ([1, -1, 0, 1, 1], ("a", "b"))

    def test_numbers_with_a_fraction_are_no_classes(self):
        with pytest.raises(SplitError, match="stratify holds classes.*float64; make .*quantile"):
            split_by_cells(WINDOWS, cell_px=24, folds=4, seed=0, stratify=np.ones(576) / 3)

    @pytest.mark.parametrize("name", ["stratify", "classes", "label"])
    def test_another_number_of_labels_than_windows(self, name):
        more = {"balance": "label"} if name == "label" else {}
        with pytest.raises(SplitError, match=rf"{name} has one value per window, \(576,\)."):
            split_by_cells(WINDOWS, cell_px=24, folds=4, seed=0, **{name: [1, 2]}, **more)


class TestQuantileBins:
    @given(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=40, unique=True))
    @settings(deadline=None, max_examples=40)
    def test_bins_follow_the_order_and_hold_as_many_each(self, values):
        bins = quantile_bins([*values, np.nan], 4)
        assert bins[-1] == -1
        order = np.argsort(values)
        assert (np.diff(bins[:-1][order]) >= 0).all()
        counts = np.bincount(bins[:-1])
        assert counts.max() - counts.min() <= 1

    def test_equal_numbers_share_a_bin_and_no_bin_is_empty(self):
        assert quantile_bins([0, 0, 0, 0, 0, 5, 6], 4).tolist() == [0, 0, 0, 0, 0, 1, 1]

    @pytest.mark.parametrize(("values", "bins"), [([1.0, 2.0], 1), ([np.nan], 3)])
    def test_what_has_no_bins(self, values, bins):
        with pytest.raises(SplitError, match="Bins need finite numbers"):
            quantile_bins(values, bins)


class TestRules:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "Give one of fractions, folds and leave_out. Received 0"),
            ({"folds": 2, "fractions": {}}, "Received fractions and folds"),
            ({"fractions": {"train": 0.7, "test": 0.2}}, r"the sum 1. .* with the sum 0.9"),
            ({"fractions": {"train": 0.7, "dev": 0.3}}, "fractions name train, validation and te"),
            ({"fractions": {"train": 1.2, "test": -0.2}}, "each from 0 to 1"),
            ({"fractions": {"train": 1.0}}, "of train and test must be above 0"),
            ({"fractions": {"train": 0.5, "test": 0.5}, "validation_share": 0.1}, "Leave one out"),
            ({"folds": 1}, "folds is a number of at least 2, or 'each'. Received 1"),
            ({"folds": "all"}, "folds is a number of at least 2, or 'each'. Received 'all'"),
            ({"folds": 2, "validation_share": 0.6}, "validation_share must be from 0 to 0.5"),
            ({"folds": 2, "balance": "mass"}, "balance is area, label or places"),
            ({"folds": 2, "balance": "label"}, "give both or neither"),
            ({"folds": 2, "label": [1.0]}, "give both or neither"),
        ],
    )
    def test_options_that_contradict_each_other(self, options, message):
        with pytest.raises(SplitError, match=message):
            PlaceRules(seed=0, **options)
