"""Cells, clusters and chance: where windows belong, and what cannot be split."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.errors import SplitError
from cube.partitions import PartitionWindows, partition_grid
from cube.windows import Windows
from training.splits import split_by_cells, split_by_clusters, split_random
from training.splits.places import ROLES

HALVES = {"train": 0.5, "test": 0.5}
WINDOWS = Windows(shape=(60, 72), size=4, stride=2)


class TestCells:
    @settings(deadline=None, max_examples=30)
    @given(st.integers(1, 7), st.integers(1, 9), st.integers(7, 40))
    def test_a_window_belongs_to_the_cell_of_its_centre(self, size, stride, cell_px):
        windows = Windows(shape=(60, 72), size=size, stride=stride)
        try:
            split = split_by_cells(windows, cell_px=cell_px, fractions=HALVES, seed=0)
        except SplitError:
            return
        cell = [
            (int((y + size / 2) // cell_px), int((x + size / 2) // cell_px))
            for y, x in windows.origins()
        ]
        number = {place: k for k, place in enumerate(sorted(set(cell)))}
        assert split.place.tolist() == [number[place] for place in cell]

    def test_cells_that_leave_nothing_and_cells_that_do(self):
        windows = Windows(shape=(120, 120), size=10, stride=5)
        with pytest.raises(SplitError, match=r"no window is left for train.*cells of 45 px or mor"):
            split_by_cells(windows, cell_px=10, folds=2, validation_share=0, seed=0)
        split = split_by_cells(windows, cell_px=45, folds=2, validation_share=0, seed=0)
        assert all(len(part.train_windows) for part in split.folds)

    def test_a_cell_below_a_window(self):
        with pytest.raises(SplitError, match=r"must hold a window, 4 px. Received cell_px=3"):
            split_by_cells(WINDOWS, cell_px=3, fractions=HALVES, seed=0)

    def test_a_buffer_below_a_window(self):
        with pytest.raises(SplitError, match=r"at least a window, 4 px. Received 3"):
            split_by_cells(WINDOWS, cell_px=30, fractions=HALVES, buffer_px=3, seed=0)

    @pytest.mark.parametrize("buffer_px", [0, 3, 8])
    def test_windows_of_partitions_may_have_a_smaller_buffer_and_share_no_pixel(self, buffer_px):
        boxes = partition_grid((64, 80), 16, window=8)
        windows = PartitionWindows(shape=(64, 80), size=8, stride=2, boxes=boxes)
        split = split_by_cells(windows, cell_px=16, folds=4, buffer_px=buffer_px, seed=0)
        lost = [
            int((split.roles(fold) == ROLES.index("lost to the buffer")).sum()) for fold in range(4)
        ]
        assert (max(lost) == 0) == (buffer_px == 0)
        for fold in split.folds:
            for mine, others in itertools.permutations(
                (fold.train_windows, fold.validation_windows, fold.test_windows), 2
            ):
                apart = windows.origins(mine)[:, None] - windows.origins(others)
                assert (np.abs(apart).max(axis=-1) >= 8 + buffer_px).all()

    def test_a_buffer_of_partitions_below_nothing(self):
        windows = PartitionWindows(
            shape=(64, 80), size=8, stride=2, boxes=partition_grid((64, 80), 16, window=8)
        )
        with pytest.raises(
            SplitError, match=r"buffer_px is a whole number, 0 or more. Received -1"
        ):
            split_by_cells(windows, cell_px=16, folds=4, buffer_px=-1, seed=0)

    def test_fewer_cells_than_folds(self):
        with pytest.raises(SplitError, match=r"5 folds need as many places. There are 4 \(by cel"):
            split_by_cells(WINDOWS, cell_px=40, folds=5, seed=0)

    def test_fewer_cells_than_parts(self):
        with pytest.raises(SplitError, match=r"2 parts need as many places. There are 1"):
            split_by_cells(WINDOWS, cell_px=80, fractions=HALVES, seed=0)

    def test_too_few_cells_to_validate_with(self):
        with pytest.raises(SplitError, match=r"Fold 1 leaves 1 places, .*validation_share=0"):
            split_by_cells(Windows(shape=(30, 60), size=4, stride=4), cell_px=30, folds=2, seed=0)


class TestClusters:
    def test_found_clusters_lie_together(self):
        split = split_by_clusters(WINDOWS, clusters=6, fractions=HALVES, seed=3)
        centres = WINDOWS.origins() + 2
        means = np.stack([centres[split.place == k].mean(axis=0) for k in range(6)])
        nearest = np.linalg.norm(centres[:, None] - means[None], axis=-1).argmin(axis=1)
        # k-means ends where no centre would change its cluster, but for its tolerance
        assert (nearest == split.place).mean() > 0.98

    def test_given_clusters_keep_their_names_and_windows_without_one_are_counted(self):
        names = np.where(WINDOWS.origins()[:, 0] < 30, "north", "south").astype(object)
        names[:7] = None
        split = split_by_clusters(WINDOWS, clusters=names, folds="each", validation_share=0, seed=0)
        assert split.names == ("north", "south")
        assert split.facts["without_cluster"] == 7
        assert "7 windows belong to no place" in str(split)
        assert [len(part.test_windows) for part in split.folds] == [
            int((names == name).sum()) for name in split.names
        ]

    @pytest.mark.parametrize("clusters", [1, 99_999])
    def test_a_number_that_the_windows_do_not_admit(self, clusters):
        with pytest.raises(SplitError, match=r"at least 2, and at most as many as windows, 1015"):
            split_by_clusters(WINDOWS, clusters=clusters, fractions=HALVES, seed=0)

    def test_labels_of_other_windows(self):
        with pytest.raises(SplitError, match=r"clusters has one value per window, \(1015,\)"):
            split_by_clusters(WINDOWS, clusters=[1, 2], fractions=HALVES, seed=0)

    def test_their_number_may_be_numpys(self):
        options = {"fractions": HALVES, "seed": 3}
        split = split_by_clusters(WINDOWS, clusters=np.int64(4), **options)
        assert split.digest == split_by_clusters(WINDOWS, clusters=4, **options).digest

    def test_no_window_in_a_cluster(self):
        with pytest.raises(SplitError, match="No window lies in a place"):
            split_by_clusters(WINDOWS, clusters=-np.ones(1015, int), fractions=HALVES, seed=0)


class TestRandom:
    @settings(deadline=None, max_examples=30)
    @given(st.integers(0, 99), st.integers(2, 6))
    def test_every_window_is_scored_once_and_none_is_lost(self, seed, folds):
        split = split_random(WINDOWS, folds=folds, seed=seed)
        scored = np.concatenate([part.test_windows for part in split.folds])
        assert np.sort(scored).tolist() == list(range(len(WINDOWS)))
        for part in split.folds:
            assert sum(part.counts.values()) == len(WINDOWS)
            assert not len(part.lost_windows)

    def test_fractions_are_met_to_a_window(self):
        fractions = {"train": 0.7, "validation": 0.1, "test": 0.2}
        counts = split_random(WINDOWS, fractions=fractions, seed=0).folds[0].counts
        for part, share in fractions.items():
            assert abs(counts[part] - share * len(WINDOWS)) <= 1

    def test_it_says_how_many_test_windows_overlap_a_training_window(self):
        split = split_random(WINDOWS, fractions={"train": 0.1, "test": 0.9}, seed=0)
        part = split.folds[0]
        scored, learned = (WINDOWS.origins(i) for i in (part.test_windows, part.train_windows))
        expected = np.mean(
            [(np.abs(learned - place).max(axis=1) < WINDOWS.size).any() for place in scored]
        )
        assert 0.1 < expected < 0.9
        assert split.facts["overlapping_test_share"] == [expected]
        assert split.note == "random split: neighbours in the test set"
        assert f"{split.note}: {expected:.0%} to {expected:.0%} of test windows" in str(split)

    def test_its_guard_counts_and_does_not_raise(self):
        split = split_random(WINDOWS, folds=3, seed=0)
        assert split.guard(1).check(split.folds[1].train_windows) > 0

    def test_each_window_a_fold_is_refused(self):
        with pytest.raises(SplitError, match="takes a number of folds. Received 'each'"):
            split_random(WINDOWS, folds="each", seed=0)

    def test_a_part_without_a_window(self):
        few = Windows(shape=(4, 8), size=4, stride=4)
        with pytest.raises(SplitError, match="no window is left for test"):
            split_random(few, folds=3, seed=0, validation_share=0)
