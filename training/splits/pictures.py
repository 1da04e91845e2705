"""Maps of splits: the grid coloured by part."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cube.errors import SplitError
from cube.files import whole_file
from cube.windows import WindowSet
from training.splits.places import ROLES

if TYPE_CHECKING:
    from training.splits.places import PlaceSplit

COLOURS = ("#4477aa", "#ccbb44", "#cc3311", "#dddddd", "#ffffff")
"""Of the parts, in the order of ``ROLES``; told apart by colour-blind readers (P. Tol, 2021)."""

_PIXELS = 900
"""Of the longer side, at most."""


def raster(windows: WindowSet, roles: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """The role of the nearest window around each place of the grid; int8 (y, x).

    Args:
        windows: Where they lie.
        roles: Numbers of :data:`training.splits.places.ROLES`, int8 (window,).

    Returns:
        At most 900 cells along the longer side; places in no window have the last role.
    """
    from scipy.spatial import cKDTree

    step = max(1.0, max(windows.shape) / _PIXELS)
    y, x = ((np.arange(max(int(n / step), 1)) + 0.5) * step for n in windows.shape)
    points = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    centres = windows.origins() + windows.size / 2
    apart, nearest = cKDTree(centres).query(points, p=np.inf)
    found = np.where(apart <= windows.size / 2, roles[nearest], len(ROLES) - 1)
    return found.astype("int8").reshape(len(y), len(x))


def plot(split: PlaceSplit, path: str | os.PathLike[str], *, fold: int) -> None:
    """Draw one fold as a PNG, over what lies there.

    Raises:
        SplitError: There is no such fold, or the file is no ``.png``.
        StoreError: There is no such folder, or the system refuses.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    if Path(path).suffix.lower() != ".png":
        raise SplitError(f"A map of a split is a .png. Received {Path(path).name!r}.")
    roles = split.roles(fold)
    height, width = split.windows.shape
    figure = Figure(figsize=(7, 0.9 + 5 * min(max(height / width, 0.3), 2)), layout="compressed")
    axis = figure.add_subplot()
    axis.imshow(
        raster(split.windows, roles),
        cmap=ListedColormap(COLOURS),
        vmin=-0.5,
        vmax=len(ROLES) - 0.5,
        extent=(0, width, height, 0),
        interpolation="nearest",
    )
    counts = np.bincount(roles, minlength=len(ROLES))
    patches = [
        Patch(facecolor=colour, edgecolor="#888888", label=f"{name} ({count:,})")
        for name, colour, count in zip(ROLES, COLOURS, counts, strict=True)
        if count
    ]
    figure.legend(handles=patches, loc="outside right upper", frameon=False)
    more = split.note or f"buffer {split.buffer_px} px"
    axis.set_title(f"{split.kind}, fold {fold + 1} of {len(split.folds)}, {more}", fontsize=10)
    axis.set_xlabel("x in pixels")
    axis.set_ylabel("y in pixels")
    with whole_file(Path(path), overwrite=True) as partial:
        figure.savefig(partial, format="png", dpi=120, facecolor="white", bbox_inches="tight")
