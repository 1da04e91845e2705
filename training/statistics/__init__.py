"""Statistics of training chips: moments, quantiles and classes of their pixels, each once."""

from training.statistics.statistics import (
    ChannelStatistics,
    Moments,
    Statistics,
    training_moments,
    training_statistics,
)

__all__ = [
    "ChannelStatistics",
    "Moments",
    "Statistics",
    "training_moments",
    "training_statistics",
]
