"""Random changes of chips, seeded and paired: image, dates, label and weight move as one.

What is here is data and loads no deep-learning framework: the steps, and the numbers by which a
chip is changed. `training.augmentation.augmenting` holds the layer that applies them,
`training.augmentation.fitted` the model that does so while it is fitted.
"""

from training.augmentation.draws import chip_draws
from training.augmentation.steps import (
    BandDropout,
    Brightness,
    ChannelShift,
    CropZoom,
    Dihedral,
    Flip,
    Jitter,
    Rotation,
    Step,
    step_from_dict,
    step_to_dict,
    steps_of,
)

__all__ = [
    "BandDropout",
    "Brightness",
    "ChannelShift",
    "CropZoom",
    "Dihedral",
    "Flip",
    "Jitter",
    "Rotation",
    "Step",
    "chip_draws",
    "step_from_dict",
    "step_to_dict",
    "steps_of",
]
