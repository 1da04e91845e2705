"""Layers that carry a cube's packing and a fold's statistics inside the model.

Because they are part of the saved model, training and prediction cannot scale
differently. Backend-neutral Keras 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from cube.errors import SpecError
from cube.spec import StackSpec
from training.statistics import ChannelStatistics, Statistics

_SPLIT = ("int32", "uint32")
"""Dtypes whose values float32 holds in two parts of 16 bits."""


def is_wide(dtype: str) -> bool:
    """True for dtypes with values that float32's 24 bits cannot hold."""
    return np.dtype(dtype).itemsize > (2 if np.dtype(dtype).kind in "iu" else 4)


def check_width(dtype: str) -> None:
    """Refuse a dtype that the backend would cut down to 32 bits, as JAX does by default.

    Raises:
        SpecError: The message says what to do.
    """
    held = ops.convert_to_tensor(np.zeros((), dtype)).dtype
    if keras.backend.standardize_dtype(held) != dtype:
        raise SpecError(
            f"The backend {keras.backend.backend()!r} cuts {dtype} down to 32 bits; set "
            f"JAX_ENABLE_X64=1, or store values of 32 bits or less."
        )


def observed(stored: Any, nodata: int | None) -> Any:
    """Where stored values are observations, bool of the same shape.

    Args:
        stored: Values of any shape, as they lie in the cube.
        nodata: Stored value of "not observed"; None for floats, where it is NaN.
    """
    if nodata is None:
        return ops.logical_not(ops.isnan(stored))
    dtype = keras.backend.standardize_dtype(stored.dtype)
    # Not cast from a float: 2**31 - 1 would become another number, and nodata a value.
    return ops.not_equal(stored, ops.convert_to_tensor(np.asarray(nodata, dtype)))


class _Decoding(keras.layers.Layer):
    """What layers on stored values share: the packing, and shapes that stay as they come."""

    def __init__(
        self, *, nodata: int | None, scale: float = 1.0, offset: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        # Keras would cast float64 to float32 before this layer sees it.
        self.autocast = False
        self.nodata = None if nodata is None else int(nodata)
        self.scale = float(scale)
        self.offset = float(offset)

    def compute_output_spec(self, stored: Any) -> keras.KerasTensor:
        """Shape as it came, float32."""
        check_width(keras.backend.standardize_dtype(stored.dtype))
        return keras.KerasTensor(stored.shape, dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Everything the constructor takes."""
        own = {k: getattr(self, k) for k in ("nodata", "scale", "offset")}
        return {**super().get_config(), **own}

    def _relative(self, stored: Any, start: Sequence[float], width: Sequence[float]) -> Any:
        """``(physical - start) / width`` by band, float32."""
        zero = (np.asarray(start, "float64") - self.offset) / self.scale
        return _steps_from(stored, zero, self.scale / np.asarray(width, "float64"))


def _steps_from(stored: Any, zero: npt.NDArray[np.float64], gain: npt.NDArray[np.float64]) -> Any:
    """``(stored - zero) * gain``, float32, without rounding differences away.

    The difference is taken first, in whole steps and then in their parts, so that float32 is
    enough for all but 64-bit dtypes, however large the values and whatever the offset.
    """
    dtype = keras.backend.standardize_dtype(stored.dtype)
    if np.dtype(dtype).itemsize == 8:
        exact = (ops.cast(stored, "float64") - _constant(zero, "float64")) * _constant(
            gain, "float64"
        )
        return ops.cast(exact, "float32")
    whole = np.rint(zero) if np.dtype(dtype).kind in "iu" else zero.astype("float32")
    if dtype in _SPLIT:
        high = ops.right_shift(stored, _constant(16, dtype))
        low = ops.bitwise_and(stored, _constant(0xFFFF, dtype))
        above = np.floor(whole / 65536)
        steps = (_float(high) - _constant(above)) * 65536.0 + (
            _float(low) - _constant(whole - above * 65536)
        )
    else:
        steps = _float(stored) - _constant(whole)
    return (steps - _constant(zero - whole)) * _constant(gain)


def _float(values: Any) -> Any:
    return ops.cast(values, "float32")


def _constant(values: npt.ArrayLike, dtype: str = "float32") -> Any:
    return ops.convert_to_tensor(np.asarray(values, dtype))


@keras.saving.register_keras_serializable(package="quadrat")
class Standardise(_Decoding):
    """Stored values to standardised physical ones; nodata becomes 0, the training mean.

    Args:
        mean: Physical mean of each band over the training pixels.
        std: Physical deviation of each band, above 0.
        nodata: Stored value of "not observed", an integer; None for floats, where it is NaN.
        scale: ``physical = stored * scale + offset``.
        offset: See ``scale``.

    Input shape: (batch, [time,] y, x, band), the stack's dtype.

    Output shape: the same, float32.

    Raises:
        SpecError: A deviation is not above 0, or the backend cannot hold the dtype.
    """

    def __init__(self, *, mean: Sequence[float], std: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mean = [float(v) for v in mean]
        self.std = [float(v) for v in std]
        if not all(value > 0 for value in self.std):
            raise SpecError(f"Deviations must be above 0. Received {self.std}.")

    def call(self, stored: Any) -> Any:
        """See the class."""
        standard = self._relative(stored, self.mean, self.std)
        return ops.where(observed(stored, self.nodata), standard, 0.0)

    def get_config(self) -> dict[str, Any]:
        """Everything the constructor takes."""
        return {**super().get_config(), "mean": self.mean, "std": self.std}


@keras.saving.register_keras_serializable(package="quadrat")
class Rescale(_Decoding):
    """Stored values to fractions of a range: ``(physical - low) / (high - low)``, cut to 0..1.

    Args:
        low: Physical value of each band that becomes 0; what lies below becomes 0 too.
        high: Physical value of each band that becomes 1 (its top code), above ``low``.
        nodata: Stored value of "not observed", an integer; None for floats, where it is NaN.
            It becomes 0; :class:`Valid` says where.
        scale: ``physical = stored * scale + offset``.
        offset: See ``scale``.

    Input shape: (batch, [time,] y, x, band), the stack's dtype.

    Output shape: the same, float32 in 0..1.

    Raises:
        SpecError: A range is empty, or the backend cannot hold the dtype.
    """

    def __init__(self, *, low: Sequence[float], high: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.low = [float(v) for v in low]
        self.high = [float(v) for v in high]
        if not all(a < b for a, b in zip(self.low, self.high, strict=True)):
            raise SpecError(
                f"Every band needs low below high. Received low={self.low}, high={self.high}."
            )

    def call(self, stored: Any) -> Any:
        """See the class."""
        width = np.subtract(self.high, self.low).tolist()
        fraction = ops.clip(self._relative(stored, self.low, width), 0.0, 1.0)
        return ops.where(observed(stored, self.nodata), fraction, 0.0)

    def get_config(self) -> dict[str, Any]:
        """Everything the constructor takes."""
        return {**super().get_config(), "low": self.low, "high": self.high}


@keras.saving.register_keras_serializable(package="quadrat")
class Valid(_Decoding):
    """Where every band was observed: 1, elsewhere 0.

    Args:
        nodata: Stored value of "not observed", an integer; None for floats, where it is NaN.

    Input shape: (batch, [time,] y, x, band), the stack's dtype.

    Output shape: (batch, [time,] y, x, 1), float32.
    """

    def call(self, stored: Any) -> Any:
        """See the class."""
        return _float(ops.all(observed(stored, self.nodata), axis=-1, keepdims=True))

    def compute_output_spec(self, stored: Any) -> keras.KerasTensor:
        """One band, float32."""
        return keras.KerasTensor((*super().compute_output_spec(stored).shape[:-1], 1))


@keras.saving.register_keras_serializable(package="quadrat")
class Destandardise(keras.layers.Layer):
    """Output of a network near 0 and 1 to the units of the target: ``x * std + mean``, float32.

    Args:
        mean: Of the target over the training pixels.
        std: Its deviation.
    """

    def __init__(self, *, mean: float, std: float, **kwargs: Any) -> None:
        # float16 of a mixed precision ends at 65504, and targets do not.
        super().__init__(**{"dtype": "float32", **kwargs})
        self.mean = float(mean)
        self.std = float(std)

    def call(self, standard: Any) -> Any:
        """See the class."""
        return standard * self.std + self.mean

    def get_config(self) -> dict[str, Any]:
        """Everything the constructor takes."""
        return {**super().get_config(), "mean": self.mean, "std": self.std}


def standardiser(
    statistics: Statistics,
    stack: StackSpec,
    *,
    by: Literal["moments", "quantiles"] = "moments",
    name: str | None = None,
) -> Standardise | Rescale:
    """The layer that scales a stack by the statistics of a training fold.

    Args:
        statistics: Of the fold; their bands are those of the layer, in their order.
        stack: How the stack is packed.
        by: ``"moments"``: mean 0 and deviation 1; ``"quantiles"``: lowest and highest of
            the quantiles to 0 and 1, and what lies beyond is cut off. What tells a rare class may
            lie there: with the default quantiles one of less than 2 % of the pixels.
        name: Of the layer.

    Raises:
        SpecError: The statistics do not know the stack, or a band has no range.
    """
    bands = statistics.of(stack.name)
    packing: dict[str, Any] = {
        "nodata": None if stack.storage.kind == "f" else int(stack.fill),
        "scale": stack.scale,
        "offset": stack.offset,
        "name": name,
    }
    if by == "moments":
        # A constant band has nothing to be divided by.
        std = [band.std or 1.0 for band in bands]
        return Standardise(mean=[band.mean for band in bands], std=std, **packing)
    if by == "quantiles":
        return Rescale(low=_each(bands, 0), high=_each(bands, -1), **packing)
    raise SpecError(f"A stack is scaled by 'moments' or 'quantiles'. Received by={by!r}.")


def _each(bands: Sequence[ChannelStatistics], level: int) -> list[float]:
    if any(len(band.quantiles) < 2 for band in bands):
        raise SpecError("A range needs two quantiles or more; take statistics with them.")
    return [band.quantiles[level] for band in bands]
