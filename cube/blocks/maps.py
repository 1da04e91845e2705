"""A variable of a panel as a map of its blocks.

Drawn without matplotlib's global figure list, so that a thread and a notebook get the same picture.
Colours are told apart by people with any colour vision: viridis, and for values on both sides of
zero the purple and orange of https://colorbrewer2.org; classes have those of Okabe and Ito
(https://jfly.uni-koeln.de/color/).
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import shapely

from cube.blocks.members import BLOCK, TIME, check_panel, crs_of, periods_of, shapes_of
from cube.blocks.tabulating import classes_of
from cube.errors import SpecError
from cube.files import whole_file
from cube.polygons.geometries import RingLists, ring_lists

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path as Outline

MISSING_COLOUR = "#d9d9d9"

_OKABE_ITO = (
    "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000",
)  # fmt: skip

_WIDTH, _TALLEST, _DPI = 7.0, 1.5, 144
"""Inches of the map; its greatest height over width; pixels per inch."""

_TAILS = (2, 98)
"""Percentiles at the ends of the colours: a few great values would leave one colour to the rest."""


def panel_map(
    panel: xr.Dataset,
    variable: str,
    path: str | os.PathLike[str],
    time: str | None = None,
    *,
    overwrite: bool = False,
) -> str:
    """Draw a variable of a panel as a choropleth, a PNG.

    Args:
        panel: With geometry, see :func:`cube.with_geometry`.
        variable: Numbers or classes by block.
        path: Of the picture, ``.png``, in a folder that is there.
        time: Label of the period, for a variable that varies with time.
        overwrite: Replace a file that lies there.

    Returns:
        The path.

    Raises:
        SpecError: The file is no ``.png``; the panel has no geometry, no such variable or no such
            period; or the variable is not one number a block.
        PolygonError: Ids of blocks are missing or appear twice, or a geometry is no polygon.
        StoreError: The folder is missing, or a file lies there.
    """
    file = Path(path)
    if file.suffix.lower() != ".png":
        raise SpecError(f"A map is a .png. Received {file.name!r}.")
    values = _values(panel, variable, time)
    shapes = shapes_of(panel)
    attrs = panel[variable].attrs
    words = str(attrs.get("long_name", "")) or variable
    units = str(attrs.get("units", ""))
    figure, axes = _sheet(shapes, geographic=crs_of(panel).is_geographic)
    outlines = _outlines(ring_lists(shapely.normalize(shapes)))
    axes.set_title(words + (f", {time}" if time is not None else ""), fontsize=12, loc="left")
    label = f"{words} ({units})" if units not in ("", "1") else words
    keys = _draw_missing(axes, outlines, np.isnan(values))
    if classes := classes_of(attrs):
        keys = _draw_classes(axes, outlines, values, classes) + keys
    else:
        _draw_numbers(figure, axes, outlines, values, label)
    if keys:
        axes.legend(handles=keys, loc="upper left", bbox_to_anchor=(0, 0), ncols=3, frameon=False)
    with whole_file(file, overwrite=overwrite) as partial:
        figure.savefig(partial, dpi=_DPI, bbox_inches="tight", metadata={"Software": None})
    return str(file)


def _values(panel: xr.Dataset, variable: str, time: str | None) -> npt.NDArray[np.float64]:
    """Numbers of the blocks at one time, float64 (block,)."""
    check_panel(panel)
    if variable not in panel.data_vars:
        there = ", ".join(map(str, panel.data_vars))
        raise SpecError(f"The panel has no variable {variable!r}. It has: {there or 'none'}.")
    found = panel[variable]
    if TIME in found.dims:
        periods = periods_of(panel)
        if time not in periods:
            raise SpecError(
                f"{variable!r} varies with time; give time= as one of "
                f"{', '.join(map(repr, periods))}. "
                f"Received {time!r}."
            )
        found = found.isel({TIME: periods.index(time)})
    elif time is not None:
        raise SpecError(f"{variable!r} does not vary with time. Received time={time!r}.")
    if found.dims != (BLOCK,) or found.dtype.kind not in "fiub":
        raise SpecError(
            f"A map shows one number a block. {variable!r} holds {found.dtype} with the "
            f"dimensions {', '.join(map(str, found.dims)) or 'none'}; choose one with isel."
        )
    return found.to_numpy().astype("float64")


def _sheet(shapes: npt.NDArray[Any], *, geographic: bool) -> tuple[Figure, Axes]:
    """A figure with one map, true to scale in the middle."""
    from matplotlib.figure import Figure

    left, bottom, right, top = shapely.total_bounds(shapes)
    # A degree of longitude is shorter than one of latitude.
    stretch = 1 / max(math.cos(math.radians((bottom + top) / 2)), 0.01) if geographic else 1.0
    wide, high = (right - left) or 1.0, (top - bottom) or 1.0
    shape = high * stretch / wide
    width = _WIDTH * min(1.0, _TALLEST / shape)
    figure = Figure(figsize=(width, max(width * shape, 2.0)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect=stretch)
    axes.set_axis_off()
    return figure, axes


def _outlines(lists: RingLists) -> list[Outline]:
    """Each polygon as one path; holes run the other way round, so that they stay empty."""
    from matplotlib.path import Path as Outline

    codes = np.full(len(lists.nodes), Outline.LINETO, Outline.code_type)
    ends = np.cumsum(lists.part_node_count)
    codes[ends - lists.part_node_count] = Outline.MOVETO
    codes[ends - 1] = Outline.CLOSEPOLY
    cuts = np.cumsum(lists.node_count)[:-1]
    pieces = zip(np.split(lists.nodes, cuts), np.split(codes, cuts), strict=True)
    return [Outline(corners, code) for corners, code in pieces]


def _draw(axes: Axes, outlines: list[Outline], chosen: npt.NDArray[np.bool_], **look: Any) -> Any:
    from matplotlib.collections import PathCollection

    # Thin lines in white between few blocks; between very many they would hide them.
    line = 0.4 if len(outlines) < 2000 else 0.0
    look = {"edgecolors": "white", "linewidths": line, **look}
    paths = [outlines[i] for i in np.flatnonzero(chosen)]
    return axes.add_collection(PathCollection(paths, **look))


def _draw_missing(axes: Axes, outlines: list[Outline], missing: npt.NDArray[np.bool_]) -> list[Any]:
    """Blocks without a value, in hatched grey; keys of the legend."""
    from matplotlib.patches import Patch

    if not missing.any():
        return []
    _draw(axes, outlines, missing, facecolors=MISSING_COLOUR, edgecolors="#8c8c8c", hatch="////")
    label = f"missing ({int(missing.sum()):,} of {len(missing):,})"
    return [Patch(facecolor=MISSING_COLOUR, edgecolor="#8c8c8c", hatch="////", label=label)]


def _draw_classes(
    axes: Axes, outlines: list[Outline], values: npt.NDArray[np.float64], classes: dict[int, str]
) -> list[Any]:
    from matplotlib import colormaps
    from matplotlib.patches import Patch

    known = {**{int(v): str(int(v)) for v in np.unique(values[~np.isnan(values)])}, **classes}
    many = colormaps["viridis"](np.linspace(0, 1, len(known)))
    colours = _OKABE_ITO if len(known) <= len(_OKABE_ITO) else many
    keys = []
    for colour, (value, meaning) in zip(colours, sorted(known.items()), strict=False):
        _draw(axes, outlines, values == value, facecolors=[colour])
        keys.append(Patch(facecolor=colour, label=meaning.replace("_", " ")))
    return keys


def _draw_numbers(
    figure: Figure, axes: Axes, outlines: list[Outline], values: npt.NDArray[np.float64], label: str
) -> None:
    known = values[np.isfinite(values)]
    if not known.size:
        return
    low, high = np.percentile(known, _TAILS) if known.size > 50 else (known.min(), known.max())
    look: dict[str, Any] = {"cmap": "viridis"}
    if low < 0 < high:
        high = max(-low, high)
        low = -high
        # Zero is white here, as the paper is.
        look = {"cmap": "PuOr", "edgecolors": "#b0b0b0"}
    shown = ~np.isnan(values)
    drawn = _draw(axes, outlines, shown, array=values[shown], clim=(low, high), **look)
    beyond = {(True, True): "both", (True, False): "min", (False, True): "max"}
    ends = beyond.get((bool(known.min() < low), bool(known.max() > high)), "neither")
    bar = figure.colorbar(drawn, ax=axes, extend=ends, shrink=0.7, pad=0.02)
    bar.set_label(label)
    bar.outline.set_visible(False)
