"""Labels and weights of chips: what a target makes of the values of its layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cube import nodata
from cube.errors import SpecError
from cube.spec import LayerSpec
from training.stream.supervision import Supervision
from training.targets import Target

Values = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Labeller:
    """Label and weight of the pixels of a block, and of the windows cut from it.

    Attributes:
        target: What is learned.
        layer: Its layer.
        pixel_km2: Area of a pixel; 1 where the target is no density.
        supervision: Weights of pixels; None counts every observed one alike.
    """

    target: Target
    layer: LayerSpec
    pixel_km2: float
    supervision: Supervision | None

    def __post_init__(self) -> None:
        layer = self.layer
        whole = np.can_cast(layer.storage, "int32") and not layer.packed
        if self.target.transform == "classes" and not whole:
            raise SpecError(
                f"Classes are whole numbers that int32 holds, without scale. Layer {layer.name!r} "
                f"is {layer.dtype}{', packed' if layer.packed else ''}; store its classes so, or "
                f"learn it with another transform."
            )

    @property
    def dtype(self) -> str:
        """Of the label: int32 for classes, float32 else."""
        return "int32" if self.target.transform == "classes" else "float32"

    @property
    def cut_dtype(self) -> str:
        """Of the label as it is cut from a block: of windows, of the layer's decoded values."""
        if self.target.over == "window":
            return nodata.decoded_dtype(self.layer).name
        return self.dtype

    def cut_channels(self, periods: int) -> int:
        """Channels of the label as it is cut from a block.

        Args:
            periods: At which the layer is read.
        """
        return periods if self.target.over == "window" else self.target.channels(periods)

    def block(
        self,
        stored: Sequence[Values],
        observed: npt.NDArray[np.bool_],
    ) -> tuple[Values, npt.NDArray[np.float32] | None]:
        """Label and weight of some rows of a block for one timing; polygons not weighed yet.

        Args:
            stored: Values of the layer at each label period, (y, x) each.
            observed: Pixels at which all inputs were observed, bool (y, x).

        Returns:
            For maps the label, (y, x, channel) of :attr:`dtype`, 0 where unknown,
            and its weight, (y, x). For windows the layer's own values, of
            :attr:`cut_dtype`, (y, x, period), NaN where not observed, and None.
        """
        values = stored[0][..., None] if len(stored) == 1 else np.stack(stored, axis=-1)
        if self.target.over == "window":
            return nodata.decode(values, self.layer), None
        label, known = self._learned(values)
        known &= observed
        return np.where(known[..., None], label, label.dtype.type(0)), known.astype("float32")

    def _learned(self, stored: Values) -> tuple[Values, npt.NDArray[np.bool_]]:
        """What is learned of stored values (y, x, period), and where it is known, (y, x)."""
        if self.target.transform == "classes":
            known = nodata.valid(stored, self.layer)
            return stored.astype("int32"), np.logical_and.reduce(known, axis=-1)
        decoded = nodata.decode(stored, self.layer)
        learned = single(self._changed(self.target.forward(decoded, pixel_km2=self.pixel_km2)))
        return learned, np.logical_and.reduce(np.isfinite(learned), axis=-1)

    def _changed(self, learned: Values) -> Values:
        """Of several periods the last minus the first, if the change is learned."""
        if not self.target.change:
            return learned
        with np.errstate(invalid="ignore"):
            changed: Values = learned[..., -1:] - learned[..., :1]
        return changed

    def windows(self, chips: Values) -> tuple[Values, npt.NDArray[np.float32]]:
        """Label and weight of windows.

        Args:
            chips: Values of the layer, float (chip, y, x, period), NaN where not observed.

        Returns:
            (chip, channel) of :attr:`dtype`, 0 where unknown; weight (chip,), 1 or 0.
        """
        seen = ~np.isnan(chips)
        if self.target.statistic == "majority":
            reduced = _majority(chips, seen)
        else:
            reduced = np.where(seen, chips, 0.0).sum(axis=(1, 2), dtype="float64")
            if self.target.statistic == "mean":
                reduced /= np.maximum(seen.sum(axis=(1, 2)), 1)
        reduced[~seen.any(axis=(1, 2))] = np.nan
        learned = self._changed(self.target.forward(reduced, pixel_km2=self.pixel_km2))
        known = np.isfinite(single(learned)).all(axis=-1)
        learned[~known] = 0
        return learned.astype(self.dtype), known.astype("float32")


def single(learned: Values) -> npt.NDArray[np.float32]:
    """As float32; infinite, and so not known, beyond its range."""
    with np.errstate(over="ignore"):
        return learned.astype("float32", copy=False)


def _majority(chips: Values, seen: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Commonest class of each window and period, the smallest of several; float64."""
    out = np.zeros((len(chips), chips.shape[-1]))
    for place in np.ndindex(out.shape):
        values = chips[place[0], ..., place[1]][seen[place[0], ..., place[1]]]
        if len(values):
            classes, counts = np.unique(values, return_counts=True)
            out[place] = classes[counts.argmax()]
    return out
