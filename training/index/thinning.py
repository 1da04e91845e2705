"""Squares that overlap too much: arithmetic."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


def apart(origins: IntArray, size: int, max_overlap: float) -> npt.NDArray[np.bool_]:
    """Squares that, in their order, share at most so much with each that was kept before.

    Args:
        origins: First pixel (y, x), int64 (square, 2).
        size: Side in pixels.
        max_overlap: Greatest shared part of a square's area, 0..1.

    Returns:
        bool (square,): the kept ones.
    """
    from scipy.spatial import KDTree

    tree = KDTree(origins)
    kept = np.ones(len(origins), dtype=bool)
    # Two squares that share more than this part lie less than so far apart along each axis.
    reach = size * (1 - max_overlap)
    for square in range(len(origins)):
        if kept[square]:
            near = np.array(tree.query_ball_point(origins[square], reach, p=np.inf), "int64")
            later = near[near > square]
            common = size - np.abs(origins[later] - origins[square])
            kept[later[common.prod(axis=1) / size**2 > max_overlap]] = False
    return kept
