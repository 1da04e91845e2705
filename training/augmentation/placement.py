"""Where the pixels of an augmented chip come from: an affine map for each chip, and its use.

Maps are composed before any pixel is touched, so that a chip is interpolated once, whatever its
steps (as spatial transformers are: Jaderberg et al. 2015, https://arxiv.org/abs/1506.02025). All
dates, stacks, the label and the weight of a chip are taken through the same map.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from keras import ops

from training.augmentation.storing import cast_exactly, filled, stored_as
from training.layers import observed
from training.packing import Packing

_GRAIN = 1024.0
"""Steps of a pixel to which places are rounded: a quarter turn then meets pixels exactly."""

# Turn k < 4 of a chip is np.rot90 by k; turn k + 4 is the same, upside down.
_QUARTER = np.array([[0, 1], [-1, 0]])
_SYMMETRIES = np.array(
    [
        np.linalg.matrix_power(_QUARTER, turn % 4) @ np.diag([-1 if turn >= 4 else 1, 1])
        for turn in range(8)
    ],
    dtype="float32",
).reshape(8, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """An affine map from a pixel to its source, both counted from the chip's centre.

    ``source_y = yy * y + yx * x + y0``, and so on; float32 (batch,) each.
    """

    yy: Any
    yx: Any
    xy: Any
    xx: Any
    y0: Any
    x0: Any

    def then(self, after: Placement) -> Placement:
        """This move, and after it another."""
        # Sums, not matrix products: accelerators round the factors of those to 10 bits.
        return Placement(
            yy=self.yy * after.yy + self.yx * after.xy,
            yx=self.yy * after.yx + self.yx * after.xx,
            xy=self.xy * after.yy + self.xx * after.xy,
            xx=self.xy * after.yx + self.xx * after.xx,
            y0=self.yy * after.y0 + self.yx * after.x0 + self.y0,
            x0=self.xy * after.y0 + self.xx * after.x0 + self.x0,
        )

    def sources(self, side: int) -> tuple[Any, Any]:
        """Source (y, x) of every pixel, float32 (batch, side, side) each, pixels from 0."""
        centre = (side - 1) / 2
        from_centre = ops.arange(side, dtype="float32") - centre
        y, x = from_centre[None, :, None], from_centre[None, None, :]
        yy, yx, xy, xx, y0, x0 = (
            ops.reshape(part, (-1, 1, 1))
            for part in (self.yy, self.yx, self.xy, self.xx, self.y0, self.x0)
        )
        places = yy * y + yx * x + y0 + centre, xy * y + xx * x + x0 + centre
        return ops.round(places[0] * _GRAIN) / _GRAIN, ops.round(places[1] * _GRAIN) / _GRAIN


def _linear(yy: Any, yx: Any, xy: Any, xx: Any) -> Placement:
    return Placement(yy=yy, yx=yx, xy=xy, xx=xx, y0=ops.zeros_like(yy), x0=ops.zeros_like(yy))


def mirrored(*, y: Any | None, x: Any | None) -> Placement:
    """Mirrored along an axis where its uniform number, (batch,), is below one half."""
    like = y if x is None else x
    one = ops.ones_like(like)
    signs = [one if draw is None else ops.where(draw < 0.5, -one, one) for draw in (y, x)]
    return _linear(signs[0], ops.zeros_like(one), ops.zeros_like(one), signs[1])


def symmetric(draw: Any) -> Placement:
    """A symmetry of the square by a uniform number, (batch,)."""
    turn = ops.cast(ops.minimum(ops.floor(draw * 8.0), 7.0), "int32")
    parts = ops.take(ops.convert_to_tensor(_SYMMETRIES), turn, axis=0)
    return _linear(*(parts[:, i] for i in range(4)))


def turned(angle: Any) -> Placement:
    """Turned counter-clockwise by an angle in radians, (batch,)."""
    cosine, sine = ops.cos(angle), ops.sin(angle)
    return _linear(cosine, sine, -sine, cosine)


def shifted(draws: Any, *, pixels: int) -> Placement:
    """Shifted by -pixels to pixels by two uniform numbers, (batch, 2)."""
    shift = ops.minimum(ops.floor(draws * (2 * pixels + 1)), 2.0 * pixels) - pixels
    one = ops.ones_like(shift[:, 0])
    zero = ops.zeros_like(one)
    return Placement(yy=one, yx=zero, xy=zero, xx=one, y0=shift[:, 0], x0=shift[:, 1])


def cropped(draws: Any, *, low: float, high: float, side: int) -> Placement:
    """A square of a chip, its size and place by three uniform numbers, (batch, 3)."""
    fraction = low + draws[:, 0] * (high - low)
    room = (1.0 - fraction) * (side / 2)
    zero = ops.zeros_like(fraction)
    y0, x0 = ((2.0 * draws[:, i] - 1.0) * room for i in (1, 2))
    return Placement(yy=fraction, yx=zero, xy=zero, xx=fraction, y0=y0, x0=x0)


def symmetrical(values: Any, placed: Placement) -> Any:
    """Chips turned and mirrored: the same as :func:`nearest`, but with no outside to look for.

    Args:
        values: (batch, [time,] y, x, channel), any dtype.
        placed: A symmetry of the square for each chip.
    """
    side = ops.shape(values)[-2]
    # Pixels of a chip follow one another, so the source of the next is a fixed number away.
    down, right = (
        ops.reshape(ops.cast(y * side + x, "int32"), (-1, 1, 1))
        for y, x in ((placed.yy, placed.xy), (placed.yx, placed.xx))
    )
    first = (side + 1 - down - right) * (side - 1) // 2
    step = ops.arange(side, dtype="int32")
    return _taken(values, first + down * step[:, None] + right * step)


def nearest(values: Any, sources: tuple[Any, Any], outside: Any) -> Any:
    """Values of the nearest source pixels, to the bit.

    Args:
        values: (batch, [time,] y, x, channel), any dtype.
        sources: See :meth:`Placement.sources`.
        outside: Scalar of the dtype of ``values``, for places beyond the chip.
    """
    y, x = (ops.floor(place + 0.5) for place in sources)
    moved, inside = _gathered(values, y, x)
    return ops.where(inside, moved, outside)


def interpolated(values: Any, sources: tuple[Any, Any], packing: Packing) -> Any:
    """Bilinear means of observed source pixels, in their stored dtype.

    Pixels that were not observed, or lie outside, take no part; where they would have had more
    than half of the weight, the result is nodata.

    Args:
        values: Stored, (batch, [time,] y, x, band).
        sources: See :meth:`Placement.sources`.
        packing: Of the values.
    """
    whole = [ops.floor(place) for place in sources]
    part = [place - floor for place, floor in zip(sources, whole, strict=True)]
    total: Any = 0.0
    seen: Any = 0.0
    lowest: Any = np.inf
    highest: Any = -np.inf
    for dy, dx in product((0, 1), repeat=2):
        weight = (part[0] if dy else 1.0 - part[0]) * (part[1] if dx else 1.0 - part[1])
        weight = _over_channels(weight, values)
        corner, inside = _gathered(values, whole[0] + dy, whole[1] + dx)
        counts = ops.logical_and(
            ops.logical_and(observed(corner, packing.nodata), inside), weight > 0
        )
        exact = cast_exactly(corner, packing)
        weight = ops.where(counts, ops.cast(weight, exact.dtype), ops.zeros_like(exact))
        seen = seen + weight
        total = total + weight * ops.where(counts, exact, ops.zeros_like(exact))
        lowest = ops.minimum(lowest, ops.where(counts, exact, np.inf))
        highest = ops.maximum(highest, ops.where(counts, exact, -np.inf))
    mean = total / ops.where(seen > 0, seen, ops.ones_like(seen))
    # Rounding would make noise of a constant.
    mean = ops.maximum(ops.minimum(mean, highest), lowest)
    return ops.where(seen >= 0.5, stored_as(mean, packing), filled(packing))


def _gathered(values: Any, y: Any, x: Any) -> tuple[Any, Any]:
    """Pixels at whole places float32 (batch, side, side), and which of them lie in the chip.

    Returns:
        Values of the shape that came; bool (batch, [1,] side, side, 1).
    """
    side = ops.shape(values)[-2]
    inside = (y >= 0) & (y < side) & (x >= 0) & (x < side)
    rows, cols = (ops.cast(ops.clip(place, 0, side - 1), "int32") for place in (y, x))
    return _taken(values, rows * side + cols), _over_channels(inside, values)


def _taken(values: Any, numbers: Any) -> Any:
    """Pixels by their number in the chip, int32 (batch, side, side), in the shape that came."""
    shape = ops.shape(values)
    area, frames = shape[-2] * shape[-3], shape[0] * (shape[1] if len(shape) == 5 else 1)
    first = ops.reshape(ops.arange(frames, dtype="int32") * area, (shape[0], -1, 1))
    flat = ops.reshape(numbers, (-1, 1, area)) + first
    taken = ops.take(ops.reshape(values, (-1, shape[-1])), ops.reshape(flat, (-1,)), axis=0)
    return ops.reshape(taken, shape)


def _over_channels(plane: Any, values: Any) -> Any:
    """(batch, y, x) as it broadcasts over (batch, [time,] y, x, channel)."""
    shape = ops.shape(plane)
    dates = (1,) * (len(values.shape) - 4)
    return ops.reshape(plane, (shape[0], *dates, *shape[1:], 1))
