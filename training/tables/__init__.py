"""Tables beside the image: numbers joined to chips, by chip, by window or by polygon."""

from training.tables.columns import TimeColumn
from training.tables.features import (
    FeatureStatistics,
    FilledJoin,
    check_complete,
    complete,
    feature_statistics,
    fill_missing,
)
from training.tables.joining import (
    BesideJoin,
    JoinedTable,
    TableJoin,
    beside,
    by_block,
    by_chip,
    by_window,
)

__all__ = [
    "BesideJoin",
    "FeatureStatistics",
    "FilledJoin",
    "JoinedTable",
    "TableJoin",
    "TimeColumn",
    "beside",
    "by_block",
    "by_chip",
    "by_window",
    "check_complete",
    "complete",
    "feature_statistics",
    "fill_missing",
]
