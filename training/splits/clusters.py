"""Splits by clusters of windows: given, or found by place."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import numpy.typing as npt

from cube.errors import SplitError
from cube.windows import WindowSet
from training.splits.dividing import divide
from training.splits.places import Places, PlaceSplit
from training.splits.rules import PlaceOptions, PlaceRules, codes_of, whole


def split_by_clusters(
    windows: WindowSet, *, clusters: int | npt.ArrayLike, **options: Unpack[PlaceOptions]
) -> PlaceSplit:
    """Split windows by whole clusters.

    Args:
        windows: Windows over a grid.
        clusters: How many to find by k-means of the windows' centres, drawn by ``seed``; or the
            cluster of each window: whole numbers (negative for none) or text (None for none),
            (window,).
        **options: See :class:`training.splits.rules.PlaceRules`; ``seed`` and one of ``fractions``
            and ``folds`` are needed.

    Raises:
        SplitError: There are more clusters than windows, or another number of labels; or see
            :func:`training.splits.dividing.divide`.
    """
    rules = PlaceRules(**options)
    if np.ndim(clusters) == 0:
        return divide(_found(windows, whole("clusters", clusters), seed=rules.seed), rules)
    return divide(_given(windows, clusters), rules)


def _found(windows: WindowSet, clusters: int, *, seed: int) -> Places:
    """Clusters of the windows' centres by k-means."""
    from sklearn.cluster import KMeans

    if not 2 <= clusters <= len(windows):
        raise SplitError(
            f"Clusters are at least 2, and at most as many as windows, {len(windows)}. Received "
            f"{clusters}."
        )
    # In units of windows: k-means knows no scale, and small numbers round less.
    centres = windows.origins() / windows.size
    model = KMeans(clusters, n_init=4, random_state=seed).fit(centres)
    _, number = np.unique(model.labels_, return_inverse=True)
    return Places(
        kind="by clusters",
        windows=windows,
        of_window=number.astype("int64"),
        facts={"clusters": clusters},
    )


def _given(windows: WindowSet, labels: npt.ArrayLike) -> Places:
    codes, names = codes_of(windows, labels, "clusters")
    return Places(
        kind="by clusters",
        windows=windows,
        of_window=codes,
        names=names,
        facts={"without_cluster": int((codes < 0).sum())},
    )
