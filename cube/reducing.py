"""Many observations of a pixel to one: over a whole stack, or scene by scene.

Every function and class is arithmetic on one pixel at a time: values do not depend on the box
that a pixel is reduced with, to the bit. That is why sums run over scenes in a loop: the order of
``np.sum`` depends on the shape of an array.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from cube.errors import SourceError, SpecError

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]

_BLOCK = 2**17
"""Numbers worked on at once: half a megabyte or one, what a core's cache holds."""


def complete(values: FloatArray) -> BoolArray:
    """Where all bands are observed: (band, y, x) to (y, x), or any shape less its first axis."""
    everywhere = ~np.isnan(values[0])
    for band in values[1:]:
        everywhere &= ~np.isnan(band)
    return everywhere


def median(stack: FloatArray) -> FloatArray:
    """Median of every band by itself.

    The mean of the two middle values where their number is even, in the dtype of the stack: what
    ``np.nanmedian`` gives, to the bit.

    Args:
        stack: float32 or float64, shape (scene, band, y, x), NaN where not clear. Left as it is.

    Returns:
        Shape (band, y, x), NaN where nothing is clear. Memory beside it: up to 4 MB, and a copy
        of the stack if that is not C-contiguous.
    """
    return _by_blocks(stack, _middle)


def geometric_median(
    stack: FloatArray, *, tolerance: float = 1e-4, iterations: int = 100
) -> FloatArray:
    """The point with the least sum of distances to the observations, in the space of the bands.

    Roberts, Mueller and McIntyre (2017), doi 10.1109/TGRS.2017.2723896. Weiszfeld's iteration as
    mended by Vardi and Zhang (2000), doi 10.1073/pnas.97.4.1423, from the median of the bands, in
    float64. Each pixel stops by itself.

    Args:
        stack: float32 or float64, shape (scene, band, y, x), NaN where not clear. An observation
            counts only where all its bands are finite.
        tolerance: A pixel stops when it moves by no more than this share of its spread: the
            median distance of its observations from the start. Relative, so that reflectances of
            0..1 and of 0..10000 give one answer; a median, so that a cloud that slipped through
            does not widen it.
        iterations: A pixel also stops after so many.

    Returns:
        Shape (band, y, x), NaN where no observation counts. Memory beside it: up to 10 MB, and a
        copy of the stack if that is not C-contiguous.

    Raises:
        SpecError: A tolerance that is not positive, or no iteration.
    """
    if not tolerance > 0 or iterations < 1:
        raise SpecError(
            f"A geometric median needs a positive tolerance and 1 iteration or more. "
            f"Received tolerance={tolerance}, iterations={iterations}."
        )
    return _by_blocks(stack, lambda points: _settle(points, tolerance, iterations))


def medoid(stack: FloatArray) -> FloatArray:
    """The observation with the least sum of distances to the others, the first if several have it.

    Flood (2013), doi 10.3390/rs5126481. Work grows with the square of the number of scenes.

    Args:
        stack: float32 or float64, shape (scene, band, y, x), NaN where not clear. An observation
            counts only where all its bands are finite.

    Returns:
        Shape (band, y, x), NaN where no observation counts. Memory beside it: up to 10 MB, and a
        copy of the stack if that is not C-contiguous.
    """
    return _by_blocks(stack, _most_central)


def _by_blocks(stack: FloatArray, reduce: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Reduce (scene, band, pixel) to (band, pixel), some pixels at a time."""
    if stack.ndim != 4 or not stack.shape[1] or stack.dtype.kind != "f":
        raise SpecError(
            f"A stack must be floats of shape (scene, band, y, x). "
            f"Received {stack.dtype} of shape {stack.shape}."
        )
    scenes, bands, height, width = stack.shape
    flat = stack.reshape(scenes, bands, height * width)
    result = np.full((bands, height * width), np.nan, stack.dtype)
    size = max(1, _BLOCK // max(1, scenes * bands))
    for start in range(0, height * width if scenes else 0, size):
        block = slice(start, start + size)
        result[:, block] = reduce(flat[..., block])
    return result.reshape(bands, height, width)


def _middle(values: FloatArray) -> FloatArray:
    """Median over the first axis of what is not NaN."""
    # A copy, with all observations of a pixel side by side: so they sort fastest. NaN goes last.
    ranked = np.array(np.moveaxis(values, 0, -1), order="C")
    ranked.sort(axis=-1)
    scenes = ranked.shape[-1]
    observed = scenes - np.count_nonzero(np.isnan(ranked), axis=-1)
    first = np.arange(0, ranked.size, scenes).reshape(observed.shape)
    ranked = ranked.reshape(-1)
    lower = ranked[first + np.maximum(observed - 1, 0) // 2]
    upper = ranked[first + np.minimum(observed // 2, scenes - 1)]
    # Zero loses its sign, which would hang on where sorting leaves -0.0 among zeros.
    return (lower + upper) / 2 + 0.0


def _settle(points: FloatArray, tolerance: float, iterations: int) -> FloatArray:
    """Geometric medians of (scene, band, pixel) as float64 (band, pixel)."""
    counted = _counted(points)
    points = np.where(counted[:, None], points, np.nan).astype("float64")
    result = _middle(points)
    limits = tolerance * _middle(_length(points - result))
    places = np.flatnonzero(counted.any(axis=0))
    points = np.where(counted[:, None], points, 0.0)[..., places]
    counted, limits = counted[:, places], limits[places]
    for _ in range(iterations):
        step = _step(points, counted, result[:, places])
        result[:, places] += step
        moving = _length(step) > limits
        if not moving.any():
            break
        # A pixel that has settled is left alone, whatever its neighbours do.
        places, points = places[moving], points[..., moving]
        counted, limits = counted[:, moving], limits[moving]
    return result


def _step(points: FloatArray, counted: BoolArray, estimate: FloatArray) -> FloatArray:
    """How far Vardi and Zhang's iteration moves an estimate.

    Args:
        points: Shape (scene, band, pixel), finite.
        counted: Shape (scene, pixel); the other points are not there.
        estimate: Shape (band, pixel).

    Returns:
        Shape (band, pixel).
    """
    apart = points - estimate
    distance = _length(apart)
    weight = np.zeros_like(distance)
    np.divide(1.0, distance, out=weight, where=counted & (distance > 0))
    apart *= weight[:, None]
    pull, weights = _total(apart), _total(weight)
    # Observations at the estimate hold it with one unit each, against a pull of unit vectors.
    held = np.count_nonzero(counted & (distance == 0), axis=0)
    strength = _length(pull)
    free = np.zeros_like(strength)
    np.divide(np.maximum(strength - held, 0), strength * weights, out=free, where=strength > 0)
    return pull * free


def _most_central(points: FloatArray) -> FloatArray:
    """Medoids of (scene, band, pixel) as (band, pixel)."""
    counted = _counted(points)
    finite = np.where(counted[:, None], points, 0.0).astype("float64")
    sums = np.zeros(counted.shape)
    for i in range(1, len(points)):
        distances = _length(finite[:i] - finite[i]) * (counted[:i] & counted[i])
        sums[:i] += distances
        sums[i] = _total(distances)
    best = np.where(counted, sums, np.inf).argmin(axis=0)
    chosen = np.take_along_axis(points, best[None, None], axis=0)[0]
    return np.where(counted.any(axis=0), chosen, np.nan)


def _counted(points: FloatArray) -> BoolArray:
    """Where all bands are finite: (scene, band, pixel) to (scene, pixel)."""
    return np.logical_and.reduce(np.isfinite(points), axis=1)


def _total(terms: FloatArray) -> FloatArray:
    """Sum over the first axis, in its order."""
    total = terms[0].copy()
    for term in terms[1:]:
        total += term
    return total


def _length(vectors: FloatArray) -> FloatArray:
    """Euclidean, over the axis before the last."""
    return np.sqrt(_total(np.moveaxis(vectors * vectors, -2, 0)))


class Reducer(ABC):
    """Takes scenes one by one, in the caller's order; memory does not grow with their number."""

    def __init__(self) -> None:
        self._like: tuple[tuple[int, ...], np.dtype[Any]] | None = None

    def add(self, values: FloatArray, *, score: FloatArray | None = None) -> None:
        """Take one more scene.

        Args:
            values: float32 or float64, shape (band, y, x), NaN where not clear; shape and dtype
                as in the first scene.
            score: Shape (y, x), for :class:`Highest` alone.

        Raises:
            SpecError: A scene of another shape or dtype, or of no shape (band, y, x).
        """
        like = values.shape, values.dtype
        if self._like is None:
            if values.ndim != 3 or not len(values) or values.dtype.kind != "f":
                raise SpecError(
                    f"A scene must be floats of shape (band, y, x). "
                    f"Received {values.dtype} of shape {values.shape}."
                )
            self._like = like
            self._start(values)
        if like != self._like:
            raise SpecError(
                f"Scenes must be alike: {self._like[1]} of shape {self._like[0]} as the first. "
                f"Received {values.dtype} of shape {values.shape}."
            )
        self._take(values, score)

    def result(self) -> FloatArray:
        """What the scenes so far give, (band, y, x), in their dtype; NaN where there is nothing.

        The array may change when another scene is added.

        Raises:
            SourceError: No scene was added.
        """
        if self._like is None:
            raise SourceError("No scene was added, so there is nothing to reduce. Add one first.")
        return self._finish(self._like[1])

    @abstractmethod
    def _start(self, values: FloatArray) -> None:
        """Make the state for scenes like this one."""

    @abstractmethod
    def _take(self, values: FloatArray, score: FloatArray | None) -> None:
        """Bring a scene into the state."""

    @abstractmethod
    def _finish(self, dtype: np.dtype[Any]) -> FloatArray:
        """The result from the state."""


class Mean(Reducer):
    """Mean of every band by itself.

    Sums are float64: of float32 values of like size they are exact, so that order does not matter.
    """

    def _start(self, values: FloatArray) -> None:
        self._sum = np.zeros(values.shape, "float64")
        self._count = np.zeros(values.shape, "int32")

    def _take(self, values: FloatArray, score: FloatArray | None) -> None:
        observed = ~np.isnan(values)
        np.add(self._sum, values, out=self._sum, where=observed)
        self._count += observed

    def _finish(self, dtype: np.dtype[Any]) -> FloatArray:
        mean = np.full(self._sum.shape, np.nan)
        np.divide(self._sum, self._count, out=mean, where=self._count > 0)
        return mean.astype(dtype)


class _Chosen(Reducer):
    """All bands of a pixel from one scene, so that no pixel mixes dates."""

    def _start(self, values: FloatArray) -> None:
        self._result = np.full_like(values, np.nan)

    def _finish(self, dtype: np.dtype[Any]) -> FloatArray:
        return self._result


class First(_Chosen):
    """The first scene in which all bands of the pixel are observed."""

    def _take(self, values: FloatArray, score: FloatArray | None) -> None:
        np.copyto(self._result, values, where=complete(values) & ~complete(self._result))


class Last(_Chosen):
    """The last scene in which all bands of the pixel are observed."""

    def _take(self, values: FloatArray, score: FloatArray | None) -> None:
        np.copyto(self._result, values, where=complete(values))


class Highest(_Chosen):
    """The scene with the highest score, the first if several have it.

    Among those in which all bands of the pixel are observed, and the score is not NaN.
    """

    def _start(self, values: FloatArray) -> None:
        super()._start(values)
        self._best = np.full(values.shape[1:], np.nan)

    def _take(self, values: FloatArray, score: FloatArray | None) -> None:
        if score is None or score.shape != self._best.shape:
            came = "none" if score is None else f"one of shape {score.shape}"
            raise SpecError(
                f"The highest score needs a score of shape {self._best.shape}. Received {came}."
            )
        better = complete(values) & ((score > self._best) | np.isnan(self._best)) & ~np.isnan(score)
        np.copyto(self._best, score, where=better)
        np.copyto(self._result, values, where=better)


class Count(Reducer):
    """Number of scenes in which all bands of the pixel are observed: (1, y, x), 0 where none."""

    def _start(self, values: FloatArray) -> None:
        self._count = np.zeros((1, *values.shape[1:]), "int32")

    def _take(self, values: FloatArray, score: FloatArray | None) -> None:
        self._count += complete(values)

    def _finish(self, dtype: np.dtype[Any]) -> FloatArray:
        return self._count.astype(dtype)
