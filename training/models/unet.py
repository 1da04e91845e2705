"""A small U-Net: Ronneberger et al. (2015), arXiv 1505.04597, with pooled averages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

WEIGHT_DECAY = 1e-4
"""L2 penalty of every convolution but the last."""


def unet(
    size: int,
    bands: int,
    outputs: int,
    *,
    widths: Sequence[int] = (16, 24, 32),
    dropout: float = 0.1,
    seed: int,
) -> keras.Model:
    """U-Net that keeps the window's size.

    Input shape: (batch, size, size, bands), float32, standardised per band.
    Output shape: (batch, size, size, outputs), float32, linear.

    Args:
        size: Side of the window in pixels.
        bands: Input channels.
        outputs: Output channels.
        widths: Filters at each level, from the finest.
        dropout: Share of whole channels that are dropped between levels, 0..1.
        seed: Of the weights and the dropout.

    Raises:
        ValueError: ``size`` is not divisible by ``2 ** (len(widths) - 1)``.
    """
    step = 2 ** (len(widths) - 1)
    if size % step:
        raise ValueError(
            f"A window must halve {len(widths) - 1} times. Received size={size}; "
            f"try {size // step * step or step}."
        )
    chips = keras.Input((size, size, bands), name="chips")
    last = seed + 2 * len(widths)  # the levels take those below
    x = _convolve(chips, widths[0], last, "stem")
    passed = []
    for level, width in enumerate(widths):
        if level:
            x = layers.AveragePooling2D(2)(x)
            x = layers.SpatialDropout2D(dropout, seed=seed + level)(x)
        x = _convolve(x, width, seed + level, f"down{level}")
        passed.append(x)
    for level, width in reversed(list(enumerate(widths[:-1]))):
        x = layers.UpSampling2D(2, interpolation="bilinear")(x)
        x = layers.Concatenate()([x, passed[level]])
        if level == 0:
            x = layers.SpatialDropout2D(dropout, seed=seed)(x)
        x = _convolve(x, width, seed + len(widths) + level, f"up{level}")
    head = layers.Conv2D(
        outputs, 1, kernel_initializer=keras.initializers.GlorotUniform(seed=last + 1), name="head"
    )
    return keras.Model(chips, head(x), name="unet")


def _convolve(x: Any, width: int, seed: int, name: str) -> Any:
    return layers.Conv2D(
        width,
        3,
        padding="same",
        activation="relu",
        kernel_initializer=keras.initializers.HeNormal(seed=seed),
        kernel_regularizer=keras.regularizers.L2(WEIGHT_DECAY),
        name=name,
    )(x)
