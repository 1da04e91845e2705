"""The folds of :mod:`training.splits.groups`, under the name that older code imports."""

from training.splits.groups import contiguous_folds, split_by_place, whole_groups, write_folds

__all__ = ["contiguous_folds", "split_by_place", "whole_groups", "write_folds"]
