"""Batches: whole, of one shape, channels last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Chips of one shape; the last batch of an epoch is filled up with zeros.

    Arrays are the consumer's own: nothing writes to them again for as long as it holds them.

    Attributes:
        inputs: Stack name to stored values, (batch, y, x, band) in the stack's
            dtype, or (batch, time, y, x, band) where chips have several input
            periods; name of a table to its rows, float32 (batch, column).
        label: What the model learns, float32, or int32 for classes: (batch, y, x,
            channel), or (batch, channel) for one row a chip; 0 where not
            observed. None for chips without labels.
        weight: float32 (batch, y, x), or (batch,) for one row a chip; 0 where
            the label does not count. None for chips without labels.
        chip: Chip ids, int64 (batch,); -1 for filling.
    """

    inputs: Arrays
    label: npt.NDArray[Any] | None
    weight: npt.NDArray[np.float32] | None
    chip: npt.NDArray[np.int64]

    def through(self, convert: Callable[[npt.NDArray[Any]], Any]) -> tuple[Any, Any, Any]:
        """Inputs, label and weight as another library's tensors, without a copy.

        Args:
            convert: Takes an array that speaks DLPack, e.g.
                ``torch.from_dlpack`` or ``jax.dlpack.from_dlpack``.
        """
        label, weight = (None if a is None else convert(a) for a in (self.label, self.weight))
        return {name: convert(values) for name, values in self.inputs.items()}, label, weight
