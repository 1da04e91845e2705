"""Contact sheets: the chips of a batch beside their labels, to be looked at before training.

Drawn without matplotlib's global figure list, as all pictures here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from cube.errors import SpecError, StoreError
from cube.spec import CubeSpec
from training.contact_sheets.images import (
    Classes,
    chosen_bands,
    images,
    learned,
    limits,
    observed,
)
from training.samples import SampleSpec
from training.targets import TableTarget, Target
from training.timings import Timing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

Arrays = dict[str, npt.NDArray[Any]]

NODATA_COLOUR = "#d9d9d9"
_HATCH_COLOUR = "#b3b3b3"
_INK, _SOFT = "#222222", "#5f6b76"
# Inches: of a picture, between pictures of a chip, between chips, of a line of text, of the sheet.
_LARGEST, _SMALLEST, _NEAR, _GAP, _LINE = 1.35, 0.55, 0.04, 0.2, 0.15
_MARGIN, _HEAD, _FOOT, _WIDEST, _NARROWEST = 0.2, 0.3, 0.6, 16.0, 4.6
_DPI = 144


class Sheetable(Protocol):
    """What a sheet shows of a batch; see :class:`training.Batch`."""

    @property
    def inputs(self) -> Arrays:
        """Stack to stored values."""

    @property
    def label(self) -> npt.NDArray[Any] | None:
        """(batch, y, x, channel) or (batch, channel)."""

    @property
    def weight(self) -> npt.NDArray[Any] | None:
        """(batch, y, x) or (batch,)."""

    @property
    def chip(self) -> npt.NDArray[np.int64]:
        """Chip numbers, -1 for filling."""


def contact_sheet(  # noqa: PLR0913  (what to show, and how)
    batch: Sheetable,
    path: str | os.PathLike[str] | None = None,
    *,
    sample: SampleSpec,
    cube_spec: CubeSpec,
    bands: Sequence[str] | None = None,
    columns: int = 8,
    limit: int = 64,
    stretch: tuple[float, float] = (0.02, 0.98),
) -> Figure:
    """Draw the chips of a batch, each beside its label.

    Above a chip stand its number and, where a sample has several timings, its timing. Images of
    several periods lie side by side, stretched together, so that what differs has changed. A label
    map is coloured by class or by value; a label of the window stands below. Hatched grey is no
    data: in an image where any band drawn has none, in a label map where the label weighs nothing.

    Args:
        batch: Chips; those that fill it up (-1) are left out.
        path: PNG file to write, too; folders are made.
        sample: What the chips hold.
        cube_spec: The cube that they come from.
        bands: One band, or three as red, green and blue; ``"stack/band"`` where a name is not
            unique. By default red, green and blue, if the sample has them.
        columns: Chips in a row, at most.
        limit: Chips on the sheet, at most: the first of the batch.
        stretch: Shares of the values, over all chips, that become black and are not yet white.

    Raises:
        SpecError: The batch holds no chip, or an option is impossible.
        StoreError: The file cannot be written.
    """
    if min(columns, limit) < 1:
        raise SpecError(
            f"A sheet has at least one column and one chip. Received columns={columns}, "
            f"limit={limit}."
        )
    shown = np.flatnonzero(np.asarray(batch.chip) >= 0)
    if not len(shown):
        raise SpecError("A sheet needs a batch with chips; this one holds nothing but filling.")
    drawn = chosen_bands(sample, cube_spec, bands)
    part = shown[:limit]
    inputs = {band.stack.name: batch.inputs[band.stack.name][part] for band in drawn}
    label = _label(batch, part, sample, cube_spec)
    sheet = _Sheet(
        chips=np.asarray(batch.chip)[part],
        images=images(inputs, drawn, stretch),
        label=label,
        timings=sample.timings,
        columns=min(columns, len(part)),
    )
    names = ", ".join(band.name for band in drawn)
    figure = _drawn(sheet, f"{len(part)} of {len(shown)} chips: {names}")
    if path is not None:
        _write(figure, Path(path))
    return figure


@dataclass(frozen=True, slots=True, kw_only=True)
class _Label:
    """Labels as they are drawn.

    Attributes:
        maps: uint8 (chip, channel, y, x, 4), alpha 0 where nothing counts; None for windows.
        texts: Below each chip; empty for maps.
        title: What the label is.
        classes: Of a class label.
        colours: Colour map and its ends, of a map of numbers.
        change: True if the one channel is a difference of periods.
    """

    maps: npt.NDArray[np.uint8] | None
    texts: tuple[str, ...]
    title: str
    classes: Classes | None = None
    colours: tuple[Colormap, tuple[float, float]] | None = None
    change: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sheet:
    """Chips as pictures and texts, laid out in inches from the upper left."""

    chips: npt.NDArray[np.int64]
    images: npt.NDArray[np.uint8]
    label: _Label | None
    timings: tuple[Timing, ...]
    columns: int

    @property
    def pictures(self) -> int:
        """Pictures of a chip."""
        maps = None if self.label is None else self.label.maps
        return self.images.shape[1] + (0 if maps is None else maps.shape[1])

    @property
    def side(self) -> float:
        """Of a picture."""
        room = (_WIDEST - 2 * _MARGIN) / self.columns - _GAP
        return min(max(room / self.pictures - _NEAR, _SMALLEST), _LARGEST)

    @property
    def cell(self) -> tuple[float, float]:
        """Width and height of a chip with its texts and the gap to the next."""
        width = self.pictures * (self.side + _NEAR) + _GAP
        below = (self.pictures > 1) + (self.label is not None and bool(self.label.texts))
        return width, self.side + _LINE * (1 + below) + _GAP

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the sheet."""
        width, height = self.cell
        rows = math.ceil(len(self.chips) / self.columns)
        across = 2 * _MARGIN + self.columns * width - _GAP
        return max(across, _NARROWEST), _HEAD + rows * height + _FOOT

    def corner(self, place: int) -> tuple[float, float]:
        """Upper left of a chip."""
        row, column = divmod(place, self.columns)
        return _MARGIN + column * self.cell[0], _HEAD + row * self.cell[1]

    def timing(self, place: int) -> Timing:
        """Timing of a chip."""
        return self.timings[int(self.chips[place]) % len(self.timings)]

    def captions(self, place: int) -> list[str]:
        """What stands below each picture of a chip."""
        timing, images = self.timing(place), self.images.shape[1]
        periods = timing.inputs if len(timing.inputs) == images else ("image",) * images
        maps = self.pictures - images
        if not maps or self.label is None:
            return list(periods)
        if self.label.change:
            return [*periods, f"change {timing.label[0]} to {timing.label[-1]}"]
        labels = timing.label if len(timing.label) == maps else ("",) * maps
        return [*periods, *(f"label {period}".rstrip() for period in labels)]


def _label(
    batch: Sheetable, part: npt.NDArray[np.int64], sample: SampleSpec, spec: CubeSpec
) -> _Label | None:
    target = sample.target
    if target is None or batch.label is None or batch.weight is None:
        return None
    label, weight = np.asarray(batch.label)[part], np.asarray(batch.weight)[part]
    seen = observed(label, weight)
    if isinstance(target, TableTarget):
        texts = _texts(label, seen, weight, target.columns, _number)
        return _Label(maps=None, texts=texts, title=", ".join(target.columns))
    classes = None
    if target.transform == "classes":
        classes = Classes.of(spec.layer(target.layer), label[seen])
    title = learned(target, spec)
    if label.ndim == 2:
        shown = _number if classes is None else classes.name
        texts = _texts(label, seen, weight, ("",) * label.shape[1], shown)
        return _Label(maps=None, texts=texts, title=title)
    return _maps(label, seen, target, classes, title)


def _maps(
    label: npt.NDArray[Any],
    seen: npt.NDArray[np.bool_],
    target: Target,
    classes: Classes | None,
    title: str,
) -> _Label:
    from matplotlib import colormaps

    label, seen = np.moveaxis(label, -1, 1), np.moveaxis(seen, -1, 1)
    if classes is not None:
        return _Label(maps=classes.pictures(label, seen), texts=(), title=title, classes=classes)
    colours = colormaps["PuOr_r" if target.change else "viridis"]
    low, high = limits(label, seen, middle=target.change)
    maps = colours(np.clip((label - low) / (high - low), 0, 1), bytes=True)
    maps[..., 3] = np.where(seen, 255, 0)
    return _Label(
        maps=maps, texts=(), title=title, colours=(colours, (low, high)), change=target.change
    )


def _texts(
    label: npt.NDArray[Any],
    seen: npt.NDArray[np.bool_],
    weight: npt.NDArray[Any],
    names: Sequence[str],
    shown: Callable[[float], str],
) -> tuple[str, ...]:
    """Labels of windows, and their weights where these differ from one."""
    weighted = not np.isin(weight, (0, 1)).all()
    texts = []
    for values, known, weighs in zip(label, seen, weight, strict=True):
        parts = [f"{n} {shown(v)}".strip() for n, v in zip(names, values, strict=True)]
        text = ", ".join(parts) if known.all() else "no label"
        texts.append(f"{text}, weight {weighs:.3g}" if weighted and known.all() else text)
    return tuple(texts)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _drawn(sheet: _Sheet, title: str) -> Figure:
    from matplotlib.figure import Figure

    width, height = sheet.size
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    axis = figure.add_axes((0, 0, 1, 1))
    for place in range(len(sheet.chips)):
        _draw_chip(axis, sheet, place)
    about = "" if sheet.label is None else f"; label: {sheet.label.title}"
    axis.text(_MARGIN, 0.17, f"{title}{about}", fontsize=8, color=_SOFT, va="center")
    # Drawing a picture moves the limits: inches of the sheet, downwards.
    axis.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    axis.set_axis_off()
    _draw_key(figure, axis, sheet)
    return figure


def _draw_chip(axis: Axes, sheet: _Sheet, place: int) -> None:
    left, top = sheet.corner(place)
    several = f"  {sheet.timing(place)}" if len(sheet.timings) > 1 else ""
    text = f"{sheet.chips[place]}{several}"
    axis.text(left, top + 0.1, text, fontsize=7, color=_INK, va="center")
    pictures = list(sheet.images[place])
    if sheet.label is not None and sheet.label.maps is not None:
        pictures += list(sheet.label.maps[place])
    bottom = top + _LINE + sheet.side
    for number, (picture, caption) in enumerate(zip(pictures, sheet.captions(place), strict=True)):
        x = left + number * (sheet.side + _NEAR)
        _draw_picture(axis, picture, (x, bottom), sheet.side)
        if len(pictures) > 1:
            middle = x + sheet.side / 2
            axis.text(
                middle, bottom + 0.08, caption, fontsize=6, color=_SOFT, ha="center", va="center"
            )
    if sheet.label is not None and sheet.label.texts:
        below = bottom + _LINE * (len(pictures) > 1) + 0.08
        axis.text(left, below, sheet.label.texts[place], fontsize=7, color=_INK, va="center")


def _draw_picture(
    axis: Axes, picture: npt.NDArray[np.uint8], corner: tuple[float, float], side: float
) -> None:
    """A picture over hatched ground, which shows through where it holds no data."""
    left, bottom = corner
    if (picture[..., 3] == 0).any():
        axis.add_patch(_ground((left, bottom - side), side, side))
    axis.imshow(
        picture,
        extent=(left, left + side, bottom, bottom - side),
        interpolation="nearest",
        zorder=2,
    )


def _ground(corner: tuple[float, float], width: float, height: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(
        corner, width, height, facecolor=NODATA_COLOUR, edgecolor=_HATCH_COLOUR, hatch="/////", lw=0
    )


def _draw_key(figure: Figure, axis: Axes, sheet: _Sheet) -> None:
    """What the colours mean, at the foot of the sheet."""
    from matplotlib.patches import Patch

    label = sheet.label
    maps = label is not None and label.maps is not None
    hatched = Patch(
        facecolor=NODATA_COLOUR,
        edgecolor=_HATCH_COLOUR,
        hatch="/////",
        label="no data, or no weight" if maps else "no data",
    )
    handles = [hatched]
    if label is not None and label.classes is not None:
        pairs = zip(label.classes.colours / 255, label.classes.names, strict=True)
        handles = [*(Patch(facecolor=tuple(c), label=name) for c, name in pairs), hatched]
    width, height = sheet.size
    axis.legend(
        handles=handles,
        loc="center left" if label is None or label.colours is None else "center right",
        bbox_to_anchor=(_MARGIN / width, 0.3 / height, 1 - 2 * _MARGIN / width, 0.0),
        ncols=max(1, int(width / 1.3)),
        fontsize=7,
        frameon=False,
        labelcolor=_INK,
        borderaxespad=0.0,
    )
    if label is not None and label.colours is not None:
        _draw_bar(figure, label, (width, height))


def _draw_bar(figure: Figure, label: _Label, size: tuple[float, float]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    if label.colours is None:
        return
    colours, ends = label.colours
    width, height = size
    place = figure.add_axes((_MARGIN / width, 0.36 / height, 2.6 / width, 0.1 / height))
    bar = figure.colorbar(
        ScalarMappable(Normalize(*ends), colours),
        cax=place,
        orientation="horizontal",
        extend="both",
    )
    bar.set_label(label.title, fontsize=7, color=_INK, labelpad=1)
    bar.ax.tick_params(labelsize=6, colors=_INK, length=2, pad=1)
    bar.outline.set_edgecolor("#aaaaaa")


def _write(figure: Figure, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without the library's version in the file, the same picture has the same bytes.
        figure.savefig(path, format="png", facecolor="white", metadata={"Software": None})
    except OSError as error:
        raise StoreError(f"Cannot write the contact sheet {str(path)!r}: {error}.") from error
