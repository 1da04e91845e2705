"""Balance: which chips an epoch takes, and what chips and pixels weigh in the loss."""

from training.sampling.samplers import Balanced, Sampling, Subset, balanced
from training.sampling.weights import (
    ChipWeights,
    PixelWeights,
    chip_weights,
    class_weights,
    pixel_weights,
)

__all__ = [
    "Balanced",
    "ChipWeights",
    "PixelWeights",
    "Sampling",
    "Subset",
    "balanced",
    "chip_weights",
    "class_weights",
    "pixel_weights",
]
