"""From the cube to a trained model: windows, splits by place, streams, networks.

Importing this package loads no deep-learning framework; training does.
"""

import cube

if getattr(cube, "__distribution__", None) != "quadrat":
    raise ImportError(
        f"quadrat needs its own package 'cube', but Python finds {cube.__file__!r} under that "
        f"name. Rename what shadows it, or work in another folder."
    )

from training.bundle import ModelBundle, load_bundle
from training.index.indexing import index_chips
from training.fitting import FitSpec, cross_validate, fit_fold
from training.folds import contiguous_folds, split_by_place, whole_groups, write_folds
from training.samples import SampleSpec
from training.splits import Split, SplitRules, check_leaks, split_by_polygons
from training.statistics import training_moments
from training.stream import ChipStream, StreamSpec, Supervision
from training.targets import Target

__distribution__ = "quadrat"

__all__ = [
    "ChipStream",
    "FitSpec",
    "ModelBundle",
    "SampleSpec",
    "Split",
    "SplitRules",
    "StreamSpec",
    "Supervision",
    "Target",
    "check_leaks",
    "contiguous_folds",
    "cross_validate",
    "fit_fold",
    "index_chips",
    "load_bundle",
    "split_by_place",
    "split_by_polygons",
    "training_moments",
    "whole_groups",
    "write_folds",
]
