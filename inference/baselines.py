"""What a model must beat: the mean, and a forest on statistics of each polygon.

Every method trains on the same polygons of a fold and is scored where no model
trained, so that a difference between two scores is a difference between methods.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cube.errors import SpecError

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
# From the rows to train on and the rows to predict (int64) to float64 predictions of the latter.
_Predict = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], npt.ArrayLike]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Folds:
    """Which polygons each fold's model may train on, and which it is tested on.

    A polygon may be in neither part of a fold: the buffer between them.

    Attributes:
        train: bool (n_folds, n), True where the model of the fold may train.
        test: bool (n_folds, n), True where it is tested; a polygon is in the
            test part of one fold at most. Both are kept as read-only copies.

    Raises:
        SpecError: Shapes or dtypes differ, a part is empty, a polygon is in
            both parts of a fold, or in the test parts of two folds.
    """

    train: BoolArray
    test: BoolArray

    def __post_init__(self) -> None:
        for name in ("train", "test"):
            object.__setattr__(self, name, _membership(name, getattr(self, name)))
        if self.train.shape != self.test.shape:
            raise SpecError(
                f"train and test must both be (n_folds, n). Received train {self.train.shape} "
                f"and test {self.test.shape}."
            )
        both = np.argwhere(self.train & self.test)
        if len(both):
            fold, row = both[0]
            raise SpecError(
                f"No fold may train on what it is tested on. Fold {fold} does so with "
                f"{np.count_nonzero(both[:, 0] == fold)} polygons, the first in row {row}."
            )
        twice = np.flatnonzero(self.test.sum(axis=0) > 1)
        if len(twice):
            raise SpecError(
                f"A polygon must be in the test part of one fold at most. {_rows(twice)} in "
                f"several; make the test parts disjoint."
            )

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return int(self.test.shape[0])

    @property
    def n_polygons(self) -> int:
        """Number of polygons, those in no fold included."""
        return int(self.test.shape[1])

    @property
    def number(self) -> npt.NDArray[np.int64]:
        """Fold in which each polygon is tested, int64 (n,): 0..n_folds - 1, or -1 for none."""
        return np.where(self.test.any(axis=0), self.test.argmax(axis=0), -1).astype("int64")


def random_folds(n: int, *, n_folds: int, seed: int) -> Folds:
    """Folds drawn by lot, without a buffer: neighbours of a test polygon are trained on.

    A score on such folds flatters, because near places resemble each other. They
    are here to show by how much, never to choose a model.

    Args:
        n: Number of polygons, at least ``n_folds``.
        n_folds: At least 2; their test parts differ by one polygon at most.
        seed: Of the draw.

    Raises:
        SpecError: ``n_folds`` is below 2, or above ``n``.
    """
    if not 2 <= n_folds <= n:
        raise SpecError(
            f"n_folds must be from 2 to the number of polygons, {n}. Received n_folds={n_folds}."
        )
    number = np.random.default_rng(seed).permutation(n) % n_folds
    test = number == np.arange(n_folds)[:, None]
    return Folds(train=~test, test=test)


def mean_out_of_fold(target: npt.ArrayLike, folds: Folds) -> FloatArray:
    """The mean of the training polygons: what one knows without any image.

    Args:
        target: (n,), finite wherever a fold trains.
        folds: Of the same n polygons.

    Returns:
        float64 (n,), in the unit of ``target``; NaN for polygons in no test fold.

    Raises:
        SpecError: ``target`` has another length, or is not finite where a fold trains.
    """
    truth = _checked_target(target, folds)
    return _out_of_fold(folds, lambda train, test: np.full(len(test), truth[train].mean()))


def forest_out_of_fold(
    features: npt.ArrayLike,
    target: npt.ArrayLike,
    folds: Folds,
    *,
    seed: int,
    trees: int = 300,
    min_leaf: int = 2,
) -> FloatArray:
    """A random forest (Breiman 2001, doi:10.1023/A:1010933404324) per fold.

    Args:
        features: (n, n_features), finite wherever a fold trains or tests.
        target: (n,), finite wherever a fold trains.
        folds: Of the same n polygons.
        seed: Of the bootstrap of each tree; the same one in every fold.
        trees: Number of trees, at least 1.
        min_leaf: Fewest training polygons in a leaf, at least 1.

    Returns:
        float64 (n,), in the unit of ``target``; the same to the bit for the same
        seed; NaN for polygons in no test fold.

    Raises:
        SpecError: Shapes differ, a value in use is not finite (the message names
            rows and columns), or ``trees`` or ``min_leaf`` is below 1.
    """
    if min(trees, min_leaf) < 1:
        raise SpecError(
            f"trees and min_leaf must be at least 1. Received trees={trees}, min_leaf={min_leaf}."
        )
    truth = _checked_target(target, folds)
    known = _checked_features(features, folds)

    def predict(train: npt.NDArray[np.int64], test: npt.NDArray[np.int64]) -> npt.ArrayLike:
        forest = _forest(trees, min_leaf, seed).fit(known[train], truth[train])
        # With two jobs, trees are summed in the order in which threads finish: other last bits.
        forest.set_params(n_jobs=1)
        predicted: npt.ArrayLike = forest.predict(known[test])
        return predicted

    return _out_of_fold(folds, predict)


def context_mean(band: npt.ArrayLike, valid: npt.ArrayLike, *, size: int) -> FloatArray:
    """Mean of a band round every pixel, from valid pixels only.

    Args:
        band: (y, x), finite where valid.
        valid: bool (y, x), True = observed.
        size: Side of the window in pixels, odd, so that it has a centre. Where
            it leaves the array, only pixels inside count.

    Returns:
        float64 (y, x), in the unit of ``band``; NaN where the window holds no
        valid pixel. An invalid pixel with valid neighbours has a mean.

    Raises:
        SpecError: Shapes differ, ``size`` is even or below 1, or a valid pixel
            is not finite.
    """
    values, seen = _checked_window(band, valid, size)
    centre = _centre(values, seen)
    (mean,), count = _window_means(seen, size, values - centre)
    return np.where(count > 0, mean + centre, np.nan)


def context_std(band: npt.ArrayLike, valid: npt.ArrayLike, *, size: int) -> FloatArray:
    """Standard deviation of a band round every pixel, from valid pixels only.

    The population's (divided by the number of valid pixels), by ``E[v²] - E[v]²``
    on values less their mean over the array. Of two large terms, that difference
    keeps about 1e-8 of the band's range; what rounding makes negative becomes 0.

    Args:
        band: (y, x), finite where valid.
        valid: bool (y, x), True = observed.
        size: Side of the window in pixels; as in :func:`context_mean`.

    Returns:
        float64 (y, x), in the unit of ``band``, at least 0; NaN where the window
        holds no valid pixel, 0 where it holds one.

    Raises:
        SpecError: As in :func:`context_mean`.
    """
    values, seen = _checked_window(band, valid, size)
    centred = values - _centre(values, seen)
    (mean, square), count = _window_means(seen, size, centred, centred**2)
    spread: FloatArray = np.sqrt(np.maximum(square - mean**2, 0.0))
    return np.where(count > 1, spread, np.where(count == 1, 0.0, np.nan))


def _out_of_fold(folds: Folds, predict: _Predict) -> FloatArray:
    predicted = np.full(folds.n_polygons, np.nan)
    for train, test in zip(folds.train, folds.test, strict=True):
        rows = np.flatnonzero(test)
        predicted[rows] = predict(np.flatnonzero(train), rows)
    return predicted


def _forest(trees: int, min_leaf: int, seed: int) -> Any:
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(
        n_estimators=trees, min_samples_leaf=min_leaf, random_state=seed, n_jobs=2
    )


def _window_means(
    seen: BoolArray, size: int, *layers: FloatArray
) -> tuple[list[FloatArray], FloatArray]:
    """Means of each layer over the valid pixels of the window, and how many there are."""
    from scipy import ndimage

    def share(layer: FloatArray) -> FloatArray:
        filtered: FloatArray = ndimage.uniform_filter(layer, size, mode="constant", cval=0.0)
        return filtered

    # Running sums leave dust such as 1e-17 where nothing is valid: counts are whole numbers.
    count = np.rint(share(seen.astype("float64")) * size**2)
    per_pixel = size**2 / np.maximum(count, 1.0)
    return [share(np.where(seen, layer, 0.0)) * per_pixel for layer in layers], count


def _centre(values: FloatArray, seen: BoolArray) -> float:
    return float(values[seen].mean()) if seen.any() else 0.0


def _checked_window(
    band: npt.ArrayLike, valid: npt.ArrayLike, size: int
) -> tuple[FloatArray, BoolArray]:
    values, seen = np.asarray(band, dtype="float64"), np.asarray(valid)
    if values.ndim != 2 or seen.shape != values.shape or seen.dtype != bool:
        raise SpecError(
            f"band must be (y, x) and valid boolean of the same shape. Received band "
            f"{values.shape} and valid {seen.shape} of {seen.dtype}."
        )
    if size < 1 or size % 2 == 0:
        raise SpecError(
            f"size must be odd and positive, so that the window has a centre. Received "
            f"size={size}; try {max(size, 0) // 2 * 2 + 1}."
        )
    wrong = seen & ~np.isfinite(values)
    if wrong.any():
        y, x = np.argwhere(wrong)[0]
        raise SpecError(
            f"Valid pixels must be finite. {np.count_nonzero(wrong)} are not, the first at "
            f"(y={y}, x={x}); mark them as not valid."
        )
    return np.where(seen, values, 0.0), seen


def _checked_target(target: npt.ArrayLike, folds: Folds) -> FloatArray:
    truth = np.asarray(target, dtype="float64")
    if truth.shape != (folds.n_polygons,):
        raise SpecError(
            f"target must be ({folds.n_polygons},), as the folds have it. Received {truth.shape}."
        )
    missing = np.flatnonzero(folds.train.any(axis=0) & ~np.isfinite(truth))
    if len(missing):
        raise SpecError(
            f"target must be finite wherever a fold trains. {_rows(missing)} not; leave these "
            f"polygons out of every training part."
        )
    return truth


def _checked_features(features: npt.ArrayLike, folds: Folds) -> FloatArray:
    known = np.asarray(features, dtype="float64")
    if known.ndim != 2 or known.shape[0] != folds.n_polygons or known.shape[1] == 0:
        raise SpecError(
            f"features must be ({folds.n_polygons}, n_features), with at least one feature. "
            f"Received {known.shape}."
        )
    used: BoolArray = np.asarray((folds.train | folds.test).any(axis=0))
    missing = used[:, None] & ~np.isfinite(known)
    if missing.any():
        columns = ", ".join(map(str, np.flatnonzero(missing.any(axis=0))[:5]))
        raise SpecError(
            f"features must be finite wherever a fold trains or tests. "
            f"{_rows(np.flatnonzero(missing.any(axis=1)))} not (columns {columns}); leave these "
            f"polygons out of the folds, or fill what is missing."
        )
    return known


def _membership(name: str, given: npt.ArrayLike) -> BoolArray:
    members = np.array(given)
    if members.ndim != 2 or members.dtype != bool or not members.size:
        raise SpecError(
            f"{name} must be boolean, (n_folds, n), and not empty. Received {members.dtype} "
            f"{members.shape}."
        )
    empty = np.flatnonzero(~members.any(axis=1))
    if len(empty):
        raise SpecError(
            f"Every fold needs a polygon to {name}. Fold {empty[0]} has none; use fewer folds"
            f"{', or a smaller buffer' if name == 'train' else ''}."
        )
    members.flags.writeable = False
    return members


def _rows(rows: npt.NDArray[np.int64]) -> str:
    """'Row 3 is' or 'Rows 3, 8, 9 and 12 more are', for messages."""
    named = ", ".join(map(str, rows[:5]))
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    return f"Row {named} is" if len(rows) == 1 else f"Rows {named}{more} are"
