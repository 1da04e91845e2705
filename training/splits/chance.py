"""The random split: by chance, without regard to place, and marked as such."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from cube.errors import SplitError
from cube.windows import WindowSet
from training.splits.dividing import check_filled
from training.splits.leaks import RANDOM, separation
from training.splits.places import PlaceFold, PlaceSplit
from training.splits.rules import PlaceRules

IntArray = npt.NDArray[np.int64]


def split_random(
    windows: WindowSet,
    *,
    seed: int,
    fractions: Mapping[str, float] | None = None,
    folds: int | None = None,
    validation_share: float | None = None,
) -> PlaceSplit:
    """Split windows by chance: neighbours get into the test set, and every score says so.

    Its scores flatter (Ploton et al. 2020, doi:10.1038/s41467-020-18321-y); it is here to be
    compared with. The share of test windows that overlap a training window is in
    ``facts["overlapping_test_share"]``, one number for each fold, 0..1.

    Args:
        windows: Windows over a grid.
        seed: Of the draw.
        fractions: See :class:`training.splits.rules.PlaceRules`; shares of windows.
        folds: Number of folds, instead of fractions.
        validation_share: With folds: share of the rest that decides when to stop, 0..0.5.

    Raises:
        SplitError: Fractions or folds are impossible, or a part has no window.
    """
    rules = PlaceRules(
        seed=seed, fractions=fractions, folds=folds, validation_share=validation_share
    )
    if rules.folds == "each":
        raise SplitError("A random split takes a number of folds. Received 'each'.")
    place = np.arange(len(windows), dtype="int64")
    parts = tuple(
        PlaceFold.of(windows, place, fold=fold, validation=validation, test=test, buffer_px=None)
        for fold, (validation, test) in enumerate(_drawn(len(windows), rules))
    )
    split = PlaceSplit(
        kind=RANDOM,
        windows=windows,
        buffer_px=0,
        place=place,
        names=(),
        folds=parts,
        seed=seed,
        facts={
            **rules.to_dict(),
            "overlapping_test_share": [_overlapping(windows, part) for part in parts],
        },
    )
    check_filled(split, "Give more windows.")
    return split


def _drawn(count: int, rules: PlaceRules) -> list[tuple[IntArray, IntArray]]:
    """Windows that watch, and that are scored, by fold."""
    order = np.random.default_rng([rules.seed]).permutation(count)
    if rules.fractions is not None:
        shares = [rules.fractions[part] for part in ("test", "validation")]
        ends = np.rint(np.cumsum(shares) * count).astype("int64")
        return [(order[ends[0] : ends[1]], order[: ends[0]])]
    tests = np.array_split(order, int(rules.folds or 0))
    rests = (np.concatenate([*tests[:k], *tests[k + 1 :]]) for k in range(len(tests)))
    return [
        (rest[: round(rules.watched * len(rest))], test)
        for rest, test in zip(rests, tests, strict=True)
    ]


def _overlapping(windows: WindowSet, part: PlaceFold) -> float:
    """Share of the test windows that overlap a training window, 0..1."""
    if not len(part.train_windows) or not len(part.test_windows):
        return 0.0
    scored, learned = (windows.origins(i) for i in (part.test_windows, part.train_windows))
    return float((separation(scored, windows.size, learned, windows.size) < 0).mean())
