"""A model that augments what it is fitted to, inside the training step, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from training.augmentation.augmenting import Augmentation

DRAWS = "draws"
"""Input that holds uniform numbers for each chip, (batch, count), and is none of the model's."""


class Augmented(keras.Model):
    """See :func:`augmented`."""

    def __init__(self, core: keras.Model, augmentation: Augmentation) -> None:
        super().__init__(name=core.name)
        self.core = core
        self.augmentation = augmentation
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """What the model itself says."""
        return self.core(_without_draws(inputs), training=training)

    def train_step(self, *args: Any) -> Any:
        """A step on augmented chips.

        JAX hands over the state of all variables before the data, and takes it back after; the
        other backends hand over the data alone.
        """
        *before, data = args
        inputs, label, weight = keras.utils.unpack_x_y_sample_weight(data)
        draws = inputs.get(DRAWS) if isinstance(inputs, Mapping) else None
        batch = (_without_draws(inputs), label, weight)
        if not before:
            return super().train_step(self.augmentation(batch, draws=draws))
        trainable, others, *rest = before[0]
        own = [
            next(i for i, one in enumerate(self.non_trainable_variables) if one is variable)
            for variable in self.augmentation.non_trainable_variables
        ]
        batch, state = self.augmentation.stateless_call(
            [], [others[i] for i in own], batch, draws=draws
        )
        others = list(others)
        for i, value in zip(own, state, strict=True):
            others[i] = value
        return super().train_step((trainable, others, *rest), batch)


def _without_draws(inputs: Any) -> Any:
    if not isinstance(inputs, Mapping):
        return inputs
    return {name: values for name, values in inputs.items() if name != DRAWS}


def augmented(model: keras.Model, augmentation: Augmentation) -> Augmented:
    """The same model, which augments chips while it is fitted.

    Compile and fit what is returned; validation, prediction and the weights are the model's, so
    that the model itself is what is saved. Where the inputs of a batch hold ``draws``, uniform
    numbers (batch, augmentation.count), a chip is augmented by them (see
    :func:`training.augmentation.chip_draws`); else by those that the augmentation draws.

    Args:
        model: Of inputs by name.
        augmentation: Of the same inputs.
    """
    return Augmented(model, augmentation)
