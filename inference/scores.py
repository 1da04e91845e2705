"""How well predictions meet what was measured, and how sure that is.

Scores are for one value per place. Neighbours resemble each other, so an
interval resamples neighbourhoods, not places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from cube.errors import SpecError
from training.splits import note_of

if TYPE_CHECKING:
    import pandas as pd

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Score = Callable[[FloatArray, FloatArray], float]


def r2(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Coefficient of determination: 1 - squared errors / squared deviations from the mean.

    Against the mean of the ``truth`` given: a prediction without skill has 0,
    a worse one is negative without limit, a perfect one has 1.

    Args:
        truth: (n,), finite, n >= 1.
        prediction: (n,), finite, in the unit of ``truth``.

    Returns:
        At most 1; NaN where ``truth`` does not vary, for then it is not defined.

    Raises:
        SpecError: Shapes differ, are empty, or a value is not finite.
    """
    measured, predicted = _pair(truth, prediction)
    if np.ptp(measured) == 0:
        return float("nan")
    residual = np.sum((measured - predicted) ** 2)
    return float(1.0 - residual / np.sum((measured - measured.mean()) ** 2))


def rmse(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Root of the mean squared error, in the unit of ``truth``; arguments as in :func:`r2`."""
    measured, predicted = _pair(truth, prediction)
    return float(np.sqrt(np.mean((predicted - measured) ** 2)))


def mae(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Mean absolute error, in the unit of ``truth``; arguments as in :func:`r2`."""
    measured, predicted = _pair(truth, prediction)
    return float(np.mean(np.abs(predicted - measured)))


def bias(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Mean of prediction less truth, positive for too high; arguments as in :func:`r2`."""
    measured, predicted = _pair(truth, prediction)
    return float(np.mean(predicted - measured))


def pearson(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Pearson's correlation, -1..1; blind to bias and scale; arguments as in :func:`r2`.

    NaN where either does not vary, for then it is not defined.
    """
    measured, predicted = _pair(truth, prediction)
    if np.ptp(measured) == 0 or np.ptp(predicted) == 0:
        return float("nan")
    a, b = measured - measured.mean(), predicted - predicted.mean()
    correlation = (a / np.linalg.norm(a)) @ (b / np.linalg.norm(b))
    return float(np.clip(correlation, -1.0, 1.0))


def bootstrap_interval(  # noqa: PLR0913 - a score needs its data, an interval its draws
    score: Score,
    truth: npt.ArrayLike,
    prediction: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int,
) -> tuple[float, float]:
    """Percentile interval of a score, resampling whole groups with replacement.

    The cluster bootstrap: as many groups are drawn as there are, each with all its
    members (Davison and Hinkley 1997, Bootstrap Methods and their Application,
    section 3.8; Field and Welsh 2007, J. R. Statist. Soc. B 69, 369-390). With few
    groups, below about 20, such intervals are too narrow. They hold the models
    fixed: what training on other places would change is not in them.

    The same seed and groups draw the same samples for every method.

    Args:
        score: From (truth, prediction) to a number. Draws for which it is NaN
            do not count.
        truth: (n,), finite.
        prediction: (n,), finite, in the unit of ``truth``.
        groups: (n,) labels of one type, none missing; at least two different ones.
        draws: Number of samples, at least 100.
        level: Share of the draws inside the interval, 0..1 exclusive.
        seed: Of the draws.

    Returns:
        (low, high), in the unit of the score; NaN where it is NaN for every draw.

    Raises:
        SpecError: Shapes differ, a value or a group is missing, there is one
            group only, or ``draws`` or ``level`` is out of range.
    """
    if draws < 100 or not 0 < level < 1:
        raise SpecError(
            f"draws must be at least 100 and level between 0 and 1. Received draws={draws}, "
            f"level={level}."
        )
    measured, predicted = _pair(truth, prediction)
    members = _members(groups, len(measured))
    generator = np.random.default_rng(seed)
    picks = generator.integers(len(members), size=(draws, len(members)))
    samples = (np.concatenate([members[group] for group in pick]) for pick in picks)
    values = np.array([score(measured[rows], predicted[rows]) for rows in samples])
    return _percentiles(values[~np.isnan(values)], level)


def score_table(
    truth: npt.ArrayLike,
    predictions: Mapping[str, npt.ArrayLike],
    groups: npt.ArrayLike,
    folds: npt.ArrayLike,
    *,
    seed: int,
    draws: int = 2000,
) -> pd.DataFrame:
    """Scores of several methods on the same places, pooled and by fold.

    Args:
        truth: (n,), finite wherever a fold tests.
        predictions: Method to (n,) predictions out of fold, in the unit of
            ``truth``, finite wherever a fold tests.
        groups: (n,) labels of neighbourhoods, for the interval of 95 %.
        folds: Integer (n,): the fold that tests each place, from 0. Places with
            a negative number were never tested and do not count.
        seed: Of the interval's draws, the same for every method.
        draws: See :func:`bootstrap_interval`.

    Returns:
        One row per method, in the order given, index ``method``; columns ``n``,
        ``R2``, ``R2 low``, ``R2 high``, ``RMSE``, ``MAE``, ``bias``, ``R2 fold 1``
        and so on, each against the fold's own mean, and ``R2 worst fold``.

    Raises:
        SpecError: Shapes differ, no place is tested, or a value or group is missing.
    """
    import pandas as pd

    if not predictions:
        raise SpecError("A table of scores needs at least one method. Received no predictions.")
    number = _fold_numbers(folds, len(np.asarray(truth)))
    tested = number >= 0
    labels = np.asarray(groups, dtype=object)
    if labels.shape != tested.shape:
        raise SpecError(f"groups must be {tested.shape}, as truth is. Received {labels.shape}.")
    rows = {}
    for method, prediction in predictions.items():
        measured, predicted = _tested(method, truth, prediction, tested)
        interval = bootstrap_interval(
            r2, measured, predicted, labels[tested], draws=draws, seed=seed
        )
        rows[method] = _row(measured, predicted, number[tested], interval)
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(index="method")
    return table.astype({"n": "int64"})


def format_scores(table: pd.DataFrame, *, best: str | None = None) -> str:
    """A table of scores for a terminal, plain ASCII but for the names of the methods.

    Args:
        table: As :func:`score_table` makes it. Of other columns only ``split`` counts, the kind
            of the split of each method: a random one is named below the table.
        best: Method to mark with ``*``; by default the one with the highest R2.

    Returns:
        Lines without a newline at the end: a header, then one line per method, then what must be
        said of the splits.
    """
    marked = table["R2"].idxmax() if best is None else best
    header = ["", *_heads(table)]
    lines = [
        [f"{'*' if method == marked else ' '} {method}", *_cells(row)]
        for method, row in table.iterrows()
    ]
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    rows = (
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [header, *lines]
    )
    return "\n".join([*rows, *split_notes(table)])


def split_notes(table: pd.DataFrame) -> list[str]:
    """What must be said of the splits that scores come from, one line each.

    Args:
        table: Scores; its column ``split``, if there is one, holds the kind of each row's split.
    """
    notes: dict[str, list[str]] = {}
    for method, kind in table["split"].items() if "split" in table else ():
        notes.setdefault(note_of(str(kind)), []).append(str(method))
    return [f"{note}: {'; '.join(methods)}" for note, methods in notes.items() if note]


def _row(
    truth: FloatArray, prediction: FloatArray, number: IntArray, interval: tuple[float, float]
) -> dict[str, float]:
    by_fold = {
        f"R2 fold {fold + 1}": r2(truth[number == fold], prediction[number == fold])
        for fold in np.unique(number)
    }
    worst = [score for score in by_fold.values() if not np.isnan(score)]
    return {
        "n": len(truth),
        "R2": r2(truth, prediction),
        "R2 low": interval[0],
        "R2 high": interval[1],
        "RMSE": rmse(truth, prediction),
        "MAE": mae(truth, prediction),
        "bias": bias(truth, prediction),
        **by_fold,
        "R2 worst fold": min(worst, default=float("nan")),
    }


def _heads(table: pd.DataFrame) -> list[str]:
    folds = [name.removeprefix("R2 ") for name in _fold_columns(table)]
    return ["n", "R2", "95 % interval", "RMSE", "MAE", "bias", *folds]


def _cells(row: pd.Series[float]) -> list[str]:
    low, high = row["R2 low"], row["R2 high"]
    return [
        f"{row['n']:.0f}",
        f"{row['R2']:.3f}",
        f"{low:.3f} .. {high:.3f}",
        f"{row['RMSE']:.3f}",
        f"{row['MAE']:.3f}",
        f"{row['bias']:+.3f}",
        *(f"{row[name]:.2f}" for name in _fold_columns(row.to_frame().T)),
    ]


def _fold_columns(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in table.columns if str(name).startswith("R2 fold ")]


def _percentiles(values: FloatArray, level: float) -> tuple[float, float]:
    if not len(values):
        return float("nan"), float("nan")
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return float(low), float(high)


def _members(groups: npt.ArrayLike, n: int) -> list[IntArray]:
    """Rows of each group, in the order of the groups' labels."""
    import pandas as pd

    # As objects: an array of text would turn a missing label into the group "nan".
    labels = np.asarray(groups, dtype=object)
    if labels.shape != (n,):
        raise SpecError(f"groups must be ({n},), as truth is. Received {labels.shape}.")
    codes, found = pd.factorize(labels, sort=True)
    missing = np.flatnonzero(codes < 0)
    if len(missing):
        raise SpecError(
            f"Every place needs a group. {len(missing)} have none, the first in row "
            f"{missing[0]}; give it the group of its nearest neighbour, or one of its own."
        )
    if len(found) < 2:
        raise SpecError(
            "Resampling groups needs at least two of them. Received one; give smaller groups."
        )
    order = np.argsort(codes, kind="stable")
    return cast("list[IntArray]", np.split(order, np.cumsum(np.bincount(codes))[:-1]))


def _fold_numbers(folds: npt.ArrayLike, n: int) -> IntArray:
    number = np.asarray(folds)
    if number.shape != (n,) or number.dtype.kind not in "iu":
        raise SpecError(
            f"folds must be whole numbers, ({n},), as truth is. Received {number.dtype} "
            f"{number.shape}."
        )
    if not (number >= 0).any():
        raise SpecError("No place is in a test fold: every fold number is negative. Give folds.")
    return number.astype("int64")


def _tested(
    method: str, truth: npt.ArrayLike, prediction: npt.ArrayLike, tested: npt.NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    predicted = np.asarray(prediction, dtype="float64")
    if predicted.shape != tested.shape:
        raise SpecError(
            f"{method!r}: prediction must be {tested.shape}, as truth is. Received "
            f"{predicted.shape}."
        )
    try:
        return _pair(np.asarray(truth)[tested], predicted[tested])
    except SpecError as error:
        raise SpecError(f"{method!r}: {error}") from None


def _pair(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    measured, predicted = np.asarray(truth, "float64"), np.asarray(prediction, "float64")
    if measured.ndim != 1 or measured.shape != predicted.shape or not measured.size:
        raise SpecError(
            f"truth and prediction must both be (n,), with n >= 1. Received truth "
            f"{measured.shape} and prediction {predicted.shape}."
        )
    for name, values in (("truth", measured), ("prediction", predicted)):
        finite = np.isfinite(values)
        if not finite.all():
            rows = np.flatnonzero(~finite)
            raise SpecError(
                f"{name} must be finite. {len(rows)} values are not, the first in row {rows[0]}; "
                f"score the places that have both."
            )
    return measured, predicted
