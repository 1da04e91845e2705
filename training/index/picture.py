"""Where chips lie, as a picture: the mean of a column over the windows that overlap.

Drawn as a raster, so that a million windows take no longer than a thousand, and without
matplotlib's global list of figures. Colours are viridis, told apart with any colour vision.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cube.errors import SpecError
from cube.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from training.index.chip_index import ChipIndex

MOST = 1000
"""Cells of the raster along the longer axis, at most."""

_WIDTH, _TALLEST, _DPI = 7.0, 1.5, 144


def mean_raster(
    shape: tuple[int, int], origins: npt.NDArray[np.int64], size: int, values: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """Mean of the values of the windows over each cell of a coarse raster.

    Args:
        shape: Pixels of the grid along (y, x).
        origins: First pixel (y, x) of windows, int64 (window, 2).
        size: Side of a window in pixels.
        values: One a window, float64; what is not finite counts nowhere.

    Returns:
        float64 (y, x), at most :data:`MOST` cells along an axis; NaN where no window lies. A cell
        counts as in a window if any of its pixels is.
    """
    step = math.ceil(max(shape) / MOST)
    rows, cols = (math.ceil(n / step) for n in shape)
    known = np.isfinite(values)
    low = origins[known] // step
    high = -(-(origins[known] + size) // step)
    steps = np.zeros((2, rows + 1, cols + 1))
    (top, left), (bottom, right) = low.T, high.T
    for y, x, sign in ((top, left, 1), (bottom, left, -1), (top, right, -1), (bottom, right, 1)):
        np.add.at(steps[0], (y, x), sign)
        np.add.at(steps[1], (y, x), sign * values[known])
    count, total = steps.cumsum(1).cumsum(2)[:, :-1, :-1]
    out = np.full((rows, cols), np.nan)
    return np.divide(total, count, out=out, where=count > 0.5)


def draw(index: ChipIndex, column: str, background: npt.ArrayLike | None) -> Figure:
    """See :meth:`training.index.chip_index.ChipIndex.plot`."""
    from matplotlib.figure import Figure

    windows = index.facts["windows"]
    height, width = windows["shape"]
    raster = mean_raster(
        (height, width),
        index.frame[["row", "col"]].to_numpy("int64"),
        int(windows["size"]),
        _values(index, column),
    )
    inches = _WIDTH * min(1.0, _TALLEST * width / height)
    figure = Figure(figsize=(inches, max(inches * height / width, 2.0)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0), aspect=1, xlabel="column (px)", ylabel="row (px)")
    axes.set_facecolor("#e6e6e6")
    extent = (0, width, height, 0)
    if background is not None:
        axes.imshow(_picture(background), extent=extent, cmap="gray", interpolation="nearest")
    shown = axes.imshow(
        np.ma.masked_invalid(raster),
        extent=extent,
        cmap="viridis",
        interpolation="nearest",
        alpha=0.65 if background is not None else 1.0,
    )
    axes.set_title(f"{len(index):,} chips", fontsize=12, loc="left")
    bar = figure.colorbar(shown, ax=axes, shrink=0.7, pad=0.02)
    bar.set_label(column)
    bar.outline.set_visible(False)
    return figure


def _values(index: ChipIndex, column: str) -> npt.NDArray[np.float64]:
    numbers = [
        str(name)
        for name in index.frame.columns
        if name != "geometry" and pd.api.types.is_numeric_dtype(index.frame[name])
    ]
    if column not in numbers:
        raise SpecError(
            f"A map of chips shows a column of numbers: {', '.join(numbers)}. Received {column!r}."
        )
    return index.frame[column].to_numpy("float64", na_value=np.nan)


def _picture(background: npt.ArrayLike) -> npt.NDArray[Any]:
    values = np.asarray(background)
    if values.ndim != 2 and values.shape[2:] not in ((3,), (4,)):
        raise SpecError(
            f"A background is a picture (y, x) or (y, x, 3) of the whole grid. Received shape "
            f"{values.shape}."
        )
    return values


def save(figure: Figure, path: str | os.PathLike[str], *, overwrite: bool) -> str:
    """Write a figure as PNG; returns the path.

    Raises:
        SpecError: The path ends in something else.
        StoreError: There is no such folder, or a file lies there.
    """
    file = Path(path)
    if file.suffix.lower() != ".png":
        raise SpecError(f"A picture of chips is a .png. Received {file.name!r}.")
    with whole_file(file, overwrite=overwrite) as partial:
        figure.savefig(partial, dpi=_DPI, bbox_inches="tight", metadata={"Software": None})
    return str(file)
