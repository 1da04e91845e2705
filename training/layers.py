"""Layers that carry a cube's packing and a fold's statistics inside the model.

Because they are part of the saved model, training and prediction cannot scale
differently. Backend-neutral Keras 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

_WIDE = ("int32", "uint32", "int64", "uint64", "float64")

_MANY_STEPS = 2**20
"""Offset in scale steps from which float32 would round the steps away."""


@keras.saving.register_keras_serializable(package="quadrat")
class Standardise(keras.layers.Layer):
    """Stored values to standardised physical ones; nodata becomes 0, the training mean.

    Args:
        mean: Physical mean of each band over the training pixels.
        std: Physical deviation of each band, above 0.
        nodata: Stored value of "not observed", an integer; None for floats, where it is NaN.
        scale: ``physical = stored * scale + offset``.
        offset: See ``scale``.

    Input shape: (batch, y, x, band), the stack's dtype.

    Output shape: (batch, y, x, band), float32.
    """

    def __init__(
        self,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        nodata: int | None,
        scale: float = 1.0,
        offset: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Keras would cast float64 to float32 before this layer sees it.
        self.autocast = False
        self.mean = [float(v) for v in mean]
        self.std = [float(v) for v in std]
        self.nodata = None if nodata is None else int(nodata)
        self.scale = float(scale)
        self.offset = float(offset)

    def call(self, stored: Any) -> Any:
        """See the class."""
        if self.nodata is None:
            observed = ops.logical_not(ops.isnan(stored))
        else:
            # Not cast from a float: 2**31 - 1 would become another number, and nodata a value.
            observed = ops.not_equal(stored, ops.convert_to_tensor(self.nodata, stored.dtype))
        # What float32's 24 bits cannot hold keeps its differences until the mean is off.
        wide = keras.backend.standardize_dtype(stored.dtype) in _WIDE
        exact = "float64" if wide or abs(self.offset / self.scale) > _MANY_STEPS else "float32"
        values = ops.cast(stored, exact) * self.scale + self.offset
        standard = (values - ops.array(self.mean, exact)) / ops.array(self.std, exact)
        standard = ops.cast(standard, "float32")
        return ops.where(observed, standard, ops.zeros_like(standard))

    def compute_output_spec(self, stored: Any) -> keras.KerasTensor:
        """Shape as it came, float32."""
        return keras.KerasTensor(stored.shape, dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Everything the constructor takes."""
        own = {k: getattr(self, k) for k in ("mean", "std", "nodata", "scale", "offset")}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="quadrat")
class Destandardise(keras.layers.Layer):
    """Output of a network near 0 and 1 to the units of the target: ``x * std + mean``.

    Args:
        mean: Of the target over the training pixels.
        std: Its deviation.
    """

    def __init__(self, *, mean: float, std: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mean = float(mean)
        self.std = float(std)

    def call(self, standard: Any) -> Any:
        """See the class."""
        return standard * self.std + self.mean

    def get_config(self) -> dict[str, Any]:
        """Everything the constructor takes."""
        return {**super().get_config(), "mean": self.mean, "std": self.std}
