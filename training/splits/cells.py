"""Splits by square cells of the grid."""

from __future__ import annotations

from typing import Unpack

import numpy as np

from cube.errors import SplitError
from cube.windows import WindowSet
from training.splits.dividing import divide
from training.splits.places import Places, PlaceSplit
from training.splits.rules import PlaceOptions, PlaceRules, buffer_of, whole


def split_by_cells(
    windows: WindowSet, *, cell_px: int, **options: Unpack[PlaceOptions]
) -> PlaceSplit:
    """Split windows by square cells; a window belongs to the cell of its centre.

    Spatial blocks as in Roberts et al. 2017, doi:10.1111/ecog.02881, with a buffer between them.

    Args:
        windows: Windows over a grid.
        cell_px: Side of a cell in pixels, no less than a window; cells at the end of the grid may
            be smaller.
        **options: See :class:`training.splits.rules.PlaceRules`; ``seed`` and one of ``fractions``
            and ``folds`` are needed.

    Raises:
        SplitError: A cell is smaller than a window; the buffer leaves nothing; or see
            :func:`training.splits.dividing.divide`.
    """
    rules = PlaceRules(**options)
    return divide(cells(windows, cell_px, rules.buffer_px), rules)


def cells(windows: WindowSet, cell_px: int, buffer_px: int | None) -> Places:
    """Cell of every window; cells are numbered row by row, those without a window left out.

    Args:
        windows: Windows over a grid.
        cell_px: Side of a cell in pixels.
        buffer_px: Of the split, to say what size of cells would leave something.

    Raises:
        SplitError: A cell is smaller than a window.
    """
    cell_px = whole("cell_px", cell_px)
    if cell_px < windows.size:
        raise SplitError(
            f"A cell must hold a window, {windows.size} px. Received cell_px={cell_px}."
        )
    row, col = ((2 * windows.origins() + windows.size) // (2 * cell_px)).T
    across = windows.shape[1] // cell_px + 1
    _, number = np.unique(row * across + col, return_inverse=True)
    # A training cell between two of tests keeps a window if it is wider than both their reaches.
    enough = 2 * (windows.size + buffer_of(buffer_px, windows)) + windows.stride
    return Places(
        kind="by cells",
        windows=windows,
        of_window=number.astype("int64"),
        facts={"cell_px": cell_px},
        advice=(
            f"Whole cells of {enough} px or more leave some whatever lies around them. Received "
            f"cell_px={cell_px}; use larger cells, or a smaller buffer or window."
        ),
    )
