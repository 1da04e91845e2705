"""From the cube to a trained model: windows, splits by place, streams, networks.

Importing this package loads no deep-learning framework; training does. What is made of Keras lies
in modules of its own: ``training.layers`` (``standardiser``, ``Standardise``, ``Rescale``),
``training.augmentation.augmenting`` (``Augmentation``), ``training.augmentation.fitted``
(``augmented``) and ``training.models`` (``unet``).
"""

import cube

if getattr(cube, "__distribution__", None) != "quadrat":
    raise ImportError(
        f"quadrat needs its own package 'cube', but Python finds {cube.__file__!r} under that "
        f"name. Rename what shadows it, or work in another folder."
    )

from training import timings
from training.bundle import ModelBundle, load_bundle
from training.chips import Chips
from training.contact_sheets import contact_sheet
from training.fitting import cross_validate, fit_fold
from training.index.chip_index import ChipIndex, load_index
from training.index.indexing import index_chips
from training.index.predicates import (
    CentreIn,
    ClassShare,
    CoverageShare,
    DensityRank,
    LayerMean,
    Predicate,
)
from training.learning import FitSpec
from training.outline_periods import outline_periods
from training.samples import InputStack, SampleSpec
from training.sampling import Balanced, Subset, balanced, chip_weights, class_weights, pixel_weights
from training.splits import (
    LeakGuard,
    PlaceSplit,
    Split,
    SplitChips,
    SplitRules,
    TimeSplit,
    check_leaks,
    contiguous_folds,
    load_split,
    quantile_bins,
    split_by_cells,
    split_by_clusters,
    split_by_place,
    split_by_polygons,
    split_by_regions,
    split_by_time,
    split_random,
    whole_groups,
    write_folds,
)
from training.statistics import Statistics, training_moments, training_statistics
from training.stream import (
    Batch,
    ChipStream,
    StallReport,
    StreamSpec,
    StreamState,
    Supervision,
)
from training.tables import (
    FeatureStatistics,
    TimeColumn,
    beside,
    by_block,
    by_chip,
    by_window,
    feature_statistics,
    fill_missing,
)
from training.targets import TableTarget, Target
from training.timings import Timing

__distribution__ = "quadrat"

__all__ = [
    "Balanced",
    "Batch",
    "CentreIn",
    "ChipIndex",
    "ChipStream",
    "Chips",
    "ClassShare",
    "CoverageShare",
    "DensityRank",
    "FeatureStatistics",
    "FitSpec",
    "InputStack",
    "LayerMean",
    "LeakGuard",
    "ModelBundle",
    "PlaceSplit",
    "Predicate",
    "SampleSpec",
    "Split",
    "SplitChips",
    "SplitRules",
    "StallReport",
    "Statistics",
    "StreamSpec",
    "StreamState",
    "Subset",
    "Supervision",
    "TableTarget",
    "Target",
    "TimeColumn",
    "TimeSplit",
    "Timing",
    "balanced",
    "beside",
    "by_block",
    "by_chip",
    "by_window",
    "check_leaks",
    "chip_weights",
    "class_weights",
    "contact_sheet",
    "contiguous_folds",
    "cross_validate",
    "feature_statistics",
    "fill_missing",
    "fit_fold",
    "index_chips",
    "load_bundle",
    "load_index",
    "load_split",
    "outline_periods",
    "pixel_weights",
    "quantile_bins",
    "split_by_cells",
    "split_by_clusters",
    "split_by_place",
    "split_by_polygons",
    "split_by_regions",
    "split_by_time",
    "split_random",
    "timings",
    "training_moments",
    "training_statistics",
    "whole_groups",
    "write_folds",
]
