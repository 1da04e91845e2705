"""Splits: which windows train, watch and are scored, by place, with a buffer, checked."""

from training.splits.areas import FoldSplit
from training.splits.cells import split_by_cells
from training.splits.chance import split_random
from training.splits.clusters import split_by_clusters
from training.splits.groups import contiguous_folds, split_by_place, whole_groups, write_folds
from training.splits.leaks import LeakGuard, check_leaks, note_of, separation
from training.splits.loading import load_split
from training.splits.parts import SplitChips
from training.splits.periods import TimeSplit, split_by_time
from training.splits.places import Fold, PlaceFold, PlaceSplit, WindowSplit
from training.splits.polygons import Split, SplitRules, split_by_polygons
from training.splits.regions import split_by_regions
from training.splits.rules import PlaceRules, quantile_bins

__all__ = [
    "Fold",
    "FoldSplit",
    "LeakGuard",
    "PlaceFold",
    "PlaceRules",
    "PlaceSplit",
    "Split",
    "SplitChips",
    "SplitRules",
    "TimeSplit",
    "WindowSplit",
    "check_leaks",
    "contiguous_folds",
    "load_split",
    "note_of",
    "quantile_bins",
    "separation",
    "split_by_cells",
    "split_by_clusters",
    "split_by_place",
    "split_by_polygons",
    "split_by_regions",
    "split_by_time",
    "split_random",
    "whole_groups",
    "write_folds",
]
