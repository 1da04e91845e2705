"""Maps and scatter plots as PNG bytes.

Drawn without matplotlib's global figure list, so that a worker thread, a
notebook and a test get the same picture and leave nothing behind.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cube.errors import SpecError
from inference.panels import DIVERGING, FloatArray, MapPanel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import PatchCollection
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

NODATA_COLOUR = "#d9d9d9"
_INK = "#222222"
_GROUND: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8}
# Inches: of a map, between maps, above one for its title, below one for its colours.
_MAP_INCHES, _GAP, _TITLE, _COLOURS = 3.7, 0.2, 0.38, 0.7
_TALLEST = 1.5  # height over width; a taller map is drawn narrower
_MANY_POINTS = 5000


def map_panels(panels: Sequence[MapPanel], *, columns: int = 3, dpi: int = 144) -> bytes:
    """Maps side by side, row by row, each with its scale bar, north arrow and colours.

    Args:
        panels: At least one.
        columns: Maps in a row, at least 1.
        dpi: Pixels per inch; a map is 3.7 inches wide, or less where it is tall.

    Returns:
        A PNG file; the same bytes for the same panels and library versions.

    Raises:
        SpecError: There is no panel, ``columns`` or ``dpi`` is below 1, an
            outline is no polygon, or a logarithm has nothing positive to show.
    """
    from matplotlib.figure import Figure

    across, down = _table(len(panels), columns, dpi)
    deepest = _MAP_INCHES * min(max(panel.aspect for panel in panels), _TALLEST)
    width, height = across * (_MAP_INCHES + _GAP), down * (deepest + _TITLE + _COLOURS)
    figure = Figure(figsize=(width, height), dpi=dpi)
    for place, panel in enumerate(panels):
        row, column = divmod(place, across)
        left = column * (_MAP_INCHES + _GAP) + _GAP / 2
        top = height - row * (deepest + _TITLE + _COLOURS) - _TITLE
        wide = min(_MAP_INCHES, deepest / panel.aspect)
        box = (left + (_MAP_INCHES - wide) / 2, top, wide, wide * panel.aspect)
        _draw_map(figure, panel, box)
    return _png(figure)


def scatter_panel(
    truth: npt.ArrayLike,
    predictions: Mapping[str, npt.ArrayLike],
    *,
    label: str,
    columns: int = 3,
    dpi: int = 144,
) -> bytes:
    """Predicted against measured, one panel per method, on equal axes with the 1:1 line.

    Args:
        truth: (n,), NaN where nothing was measured.
        predictions: Method to (n,) predictions, in the unit of ``truth``, NaN
            where there is none. Pairs with a NaN are not drawn; each panel says
            how many are.
        label: What was measured, with its unit.
        columns: Panels in a row, at least 1.
        dpi: Pixels per inch; a panel is 3.9 inches wide.

    Returns:
        A PNG file: points, or above 5,000 pairs hexagons coloured by their count.

    Raises:
        SpecError: There is no method, lengths differ, a method has no pair to
            draw, or ``columns`` or ``dpi`` is below 1.
    """
    from matplotlib.figure import Figure

    pairs = {name: _pairs(name, truth, values) for name, values in predictions.items()}
    across, down = _table(len(pairs), columns, dpi)
    side = _MAP_INCHES + _GAP
    size = (side * across, (side + _TITLE) * down)
    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    both = np.concatenate([np.ravel(pair) for pair in pairs.values()])
    margin = 0.04 * (np.ptp(both) or 1.0)
    limits = (float(both.min() - margin), float(both.max() + margin))
    for place, (name, (measured, predicted)) in enumerate(pairs.items()):
        axis = _plain(figure.add_subplot(down, across, place + 1))
        _draw_scatter(axis, measured, predicted, limits)
        axis.set_title(f"{name} ({len(measured):,} places)", fontsize=11)
        axis.set_xlabel(f"measured: {label}", fontsize=10)
        axis.set_ylabel(f"predicted: {label}", fontsize=10)
    return _png(figure)


def _table(count: int, columns: int, dpi: int) -> tuple[int, int]:
    """Columns and rows that hold ``count`` panels."""
    if min(count, columns, dpi) < 1:
        raise SpecError(
            f"There must be at least one panel, one column and one dot per inch. Received "
            f"{count} panels, columns={columns}, dpi={dpi}."
        )
    across = min(columns, count)
    return across, math.ceil(count / across)


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches from the lower left of the figure."""
    across, up = figure.get_size_inches()
    place = (left / across, (top - height) / up, width / across, height / up)
    return _plain(figure.add_axes(place))


def _plain(axis: Axes) -> Axes:
    """Colours of our own, so that a dark style of the user's leaves no white text on white."""
    axis.set_facecolor("white")
    axis.spines[:].set_color("#aaaaaa")
    axis.tick_params(colors=_INK, labelsize=9)
    for text in (axis.title, axis.xaxis.label, axis.yaxis.label):
        text.set_color(_INK)
    return axis


def _draw_map(figure: Figure, panel: MapPanel, box: tuple[float, float, float, float]) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize

    axis = _axes(figure, *box)
    colours = colormaps[panel.colormap].resampled(len(panel.classes) or 256)
    colours = colours.with_extremes(bad=NODATA_COLOUR)
    norm = (LogNorm if panel.log else Normalize)(*panel.limits)
    _draw_image(axis, panel, colours, norm)
    _draw_polygons(axis, panel, colours, norm)
    axis.set(xlim=panel.extent[:2], ylim=panel.extent[2:], xticks=[], yticks=[])
    axis.set_title(panel.title, fontsize=12)
    _draw_scale_bar(axis, panel.extent)
    _draw_north(axis)
    if panel.has_nodata:
        _draw_nodata_key(axis)
    if panel.shown is not None and not np.isnan(panel.shown).all():
        left, top, width, height = box
        wide = max(width - 0.3, 1.5)
        place = _axes(figure, left + (width - wide) / 2, top - height - 0.08, wide, 0.12)
        _draw_colours(figure, place, panel, ScalarMappable(norm, colours))


def _draw_colours(figure: Figure, place: Axes, panel: MapPanel, colours: ScalarMappable) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}
    bar = figure.colorbar(
        colours,
        cax=place,
        orientation="horizontal",
        extend=extend.get(panel.beyond, "neither"),
    )
    bar.set_label(panel.label, fontsize=10, color=_INK)
    bar.outline.set_edgecolor(_INK)
    if panel.classes:
        bar.set_ticks(range(len(panel.classes)), labels=panel.classes, minor=False)
    elif panel.log:
        decades = math.log10(panel.limits[1] / panel.limits[0])
        steps = (1.0,) if decades > 3 else (1.0, 2.0, 5.0)
        bar.locator = LogLocator(subs=steps) if decades > 0.9 else MaxNLocator(4)
        bar.minorlocator = NullLocator()
        bar.formatter = FuncFormatter(lambda value, _: _plain_number(value))


def _plain_number(value: float) -> str:
    """'20,000' and '0.05', never a power of ten."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.6g}"


def _draw_image(axis: Axes, panel: MapPanel, colours: Colormap, norm: Normalize) -> None:
    if panel.image is None:
        return
    axis.set_facecolor(NODATA_COLOUR)
    image = panel.image
    if image.ndim == 2:
        image = np.clip(image, *panel.limits)
    axis.imshow(image, cmap=colours, norm=norm, extent=panel.extent, interpolation="nearest")


def _draw_polygons(axis: Axes, panel: MapPanel, colours: Colormap, norm: Normalize) -> None:
    if panel.outlines is None:
        return
    patches = _patches(panel)
    if panel.values is None:
        patches.set(facecolor="none", edgecolor="white" if panel.image is not None else _INK)
    else:
        # The middle of a diverging map is nearly white: white outlines would lose polygons in it.
        edge = "#999999" if panel.colormap in DIVERGING else "white"
        patches.set(cmap=colours, norm=norm, edgecolor=edge)
        patches.set_array(np.clip(np.asarray(panel.values, "float64"), *panel.limits))
    patches.set_linewidth(0.25)
    axis.add_collection(patches)


def _patches(panel: MapPanel) -> PatchCollection:
    import shapely
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    shapes = np.asarray(panel.outlines, dtype=object)
    wrong = np.flatnonzero(~np.isin(shapely.get_type_id(shapes), (3, 6)))
    if len(wrong):
        raise SpecError(
            f"{panel.title!r}: outlines must be polygons. {len(wrong)} are not, the first in row "
            f"{wrong[0]}; drop them."
        )
    patches = []
    # Normal form winds holes against their exterior, which is what leaves them unfilled.
    for shape in shapely.normalize(shapes):
        rings = shapely.get_rings(shapely.get_parts(shape))  # of a multipart as such: none
        paths = [Path(shapely.get_coordinates(ring), closed=True) for ring in rings]
        patches.append(PathPatch(Path.make_compound_path(*paths)))
    return PatchCollection(patches)


def _draw_scale_bar(axis: Axes, extent: tuple[float, float, float, float]) -> None:
    """A bar of a round length, lower left, on a light ground that any image lets read."""
    from matplotlib.patches import Rectangle

    width = extent[1] - extent[0]
    length = _round_length(width / 4)
    x, y = extent[0] + 0.05 * width, extent[2] + 0.045 * width
    ground = (x - 0.02 * width, y - 0.02 * width)
    axis.add_patch(Rectangle(ground, length + 0.04 * width, 0.09 * width, zorder=4, **_GROUND))
    axis.add_patch(Rectangle((x, y), length, 0.01 * width, color=_INK, zorder=5))
    axis.annotate(
        f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m",
        xy=(x + length / 2, y + 0.02 * width),
        ha="center",
        va="bottom",
        fontsize=9,
        color=_INK,
        zorder=5,
    )


def _draw_north(axis: Axes) -> None:
    axis.annotate(
        "\N{BLACK UP-POINTING TRIANGLE}\nN",
        xy=(1, 1),
        xycoords="axes fraction",
        xytext=(-8, -8),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=9,
        linespacing=1.0,
        color=_INK,
        bbox={"boxstyle": "square,pad=0.25", **_GROUND},
        zorder=5,
    )


def _draw_nodata_key(axis: Axes) -> None:
    from matplotlib.patches import Patch

    key = Patch(facecolor=NODATA_COLOUR, edgecolor="#888888", linewidth=0.5, label="no data")
    legend = axis.legend(
        handles=[key], loc="lower right", fontsize=9, facecolor="white", labelcolor=_INK
    )
    legend.set_zorder(6)


def _draw_scatter(
    axis: Axes, measured: FloatArray, predicted: FloatArray, limits: tuple[float, float]
) -> None:
    many = len(measured) > _MANY_POINTS
    if many:
        box = (*limits, *limits)
        axis.hexbin(
            measured, predicted, gridsize=45, extent=box, mincnt=1, bins="log", cmap="viridis"
        )
    else:
        axis.scatter(measured, predicted, s=14, alpha=0.45, color="#2a6f97", linewidths=0)
    axis.plot(limits, limits, color=_INK, linewidth=0.9, linestyle="--", label="1:1")
    axis.set(xlim=limits, ylim=limits, aspect="equal")
    axis.spines[["top", "right"]].set_visible(False)
    title = "brighter: more places" if many else None
    legend = axis.legend(loc="upper left", fontsize=9, frameon=False, labelcolor=_INK, title=title)
    legend.get_title().set(color=_INK, fontsize=9)


def _round_length(at_most: float) -> float:
    """The largest 1, 2 or 5 times a power of ten that is not longer, in metres."""
    power = 10.0 ** math.floor(math.log10(at_most))
    # The half is for lengths just below a power of ten, whose logarithm rounds up to it.
    return max(step * power for step in (0.5, 1, 2, 5) if step * power <= at_most)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # Without the library's version in the file, the same picture has the same bytes.
    figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def _pairs(
    name: str, truth: npt.ArrayLike, prediction: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    measured, predicted = np.asarray(truth, "float64"), np.asarray(prediction, "float64")
    if measured.ndim != 1 or measured.shape != predicted.shape:
        raise SpecError(
            f"{name!r}: truth and prediction must both be (n,). Received {measured.shape} and "
            f"{predicted.shape}."
        )
    both = np.isfinite(measured) & np.isfinite(predicted)
    if not both.any():
        raise SpecError(
            f"{name!r}: no place has both a measurement and a prediction; there is nothing to draw."
        )
    return measured[both], predicted[both]
