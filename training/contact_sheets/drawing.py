"""Contact sheets: the chips of a batch beside their labels, to be looked at before training.

Drawn without matplotlib's global figure list, as all pictures here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from cube.errors import SpecError, StoreError
from cube.spec import CubeSpec
from training.contact_sheets.images import (
    Classes,
    check_inputs,
    chosen_bands,
    images,
    learned,
    limits,
    observed,
)
from training.contact_sheets.layout import (
    CAPTION_PT,
    LINE,
    LONGEST,
    MARGIN,
    NEAR,
    TEXT_PT,
    TITLE_PT,
    Label,
    Sheet,
    shortened,
    wide,
)
from training.samples import SampleSpec
from training.stream.specs import is_whole
from training.targets import TableTarget, Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Arrays = dict[str, npt.NDArray[Any]]

NODATA_COLOUR = "#d9d9d9"
_HATCH_COLOUR = "#b3b3b3"
_INK, _SOFT = "#222222", "#5f6b76"
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
        columns: Chips in a row, at most; fewer where their pictures or texts would not fit.
        limit: Chips on the sheet, at most: the first of the batch.
        stretch: Shares of the values, over all chips, that become black and are not yet white.

    Raises:
        SpecError: The batch holds no chip, or not what the sample says; or an option is impossible.
        StoreError: The file cannot be written.
    """
    if not (is_whole(columns, least=1) and is_whole(limit, least=1)):
        raise SpecError(
            f"A sheet has at least one column and one chip, whole numbers. Received "
            f"columns={columns!r}, limit={limit!r}."
        )
    shown = np.flatnonzero(np.asarray(batch.chip) >= 0)
    if not len(shown):
        raise SpecError("A sheet needs a batch with chips; this one holds nothing but filling.")
    check_inputs(batch.inputs, sample)
    drawn = chosen_bands(sample, cube_spec, bands)
    part = shown[:limit]
    inputs = {band.stack.name: batch.inputs[band.stack.name][part] for band in drawn}
    label = _label(batch, part, sample, cube_spec)
    sheet = Sheet(
        chips=np.asarray(batch.chip)[part],
        images=images(inputs, drawn, stretch),
        label=label,
        timings=sample.timings,
        most=min(columns, len(part)),
    )
    names = ", ".join(band.name for band in drawn)
    figure = _drawn(sheet, f"{len(part)} of {len(shown)} chips: {names}")
    if path is not None:
        _write(figure, Path(path))
    return figure


def _label(
    batch: Sheetable, part: npt.NDArray[np.int64], sample: SampleSpec, spec: CubeSpec
) -> Label | None:
    target = sample.target
    if target is None or batch.label is None or batch.weight is None:
        return None
    label, weight = np.asarray(batch.label)[part], np.asarray(batch.weight)[part]
    seen = observed(label, weight)
    if isinstance(target, TableTarget):
        texts = _texts(label, seen, weight, target.columns, _number)
        return Label(maps=None, texts=texts, title=", ".join(target.columns))
    classes = None
    if target.transform == "classes":
        classes = Classes.of(spec.layer(target.layer), label[seen])
    title = learned(target, spec)
    if label.ndim == 2:
        shown = _number if classes is None else classes.name
        texts = _texts(label, seen, weight, ("",) * label.shape[1], shown)
        return Label(maps=None, texts=texts, title=title)
    return _maps(label, seen, target, classes, title)


def _maps(
    label: npt.NDArray[Any],
    seen: npt.NDArray[np.bool_],
    target: Target,
    classes: Classes | None,
    title: str,
) -> Label:
    from matplotlib import colormaps

    label, seen = np.moveaxis(label, -1, 1), np.moveaxis(seen, -1, 1)
    if classes is not None:
        return Label(maps=classes.pictures(label, seen), texts=(), title=title, classes=classes)
    colours = colormaps["PuOr_r" if target.change else "viridis"]
    low, high = limits(label, seen, middle=target.change)
    maps = colours(np.clip((label - low) / (high - low), 0, 1), bytes=True)
    maps[..., 3] = np.where(seen, 255, 0)
    return Label(
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
        text = f"{text}, weight {weighs:.3g}" if weighted and known.all() else text
        texts.append(shortened(text, LONGEST))
    return tuple(texts)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _drawn(sheet: Sheet, title: str) -> Figure:
    from matplotlib.figure import Figure

    width, height = sheet.size
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    axis = figure.add_axes((0, 0, 1, 1))
    for place in range(len(sheet.chips)):
        _draw_chip(axis, sheet, place)
    about = "" if sheet.label is None else f"; label: {sheet.label.title}"
    head = shortened(f"{title}{about}", int((width - 2 * MARGIN) / wide("m", TITLE_PT)))
    axis.text(MARGIN, 0.17, head, fontsize=TITLE_PT, color=_SOFT, va="center")
    # Drawing a picture moves the limits: inches of the sheet, downwards.
    axis.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    axis.set_axis_off()
    _draw_key(figure, axis, sheet)
    return figure


def _draw_chip(axis: Axes, sheet: Sheet, place: int) -> None:
    left, top = sheet.corner(place)
    axis.text(left, top + 0.1, sheet.heading(place), fontsize=TEXT_PT, color=_INK, va="center")
    pictures = list(sheet.images[place])
    if sheet.label is not None and sheet.label.maps is not None:
        pictures += list(sheet.label.maps[place])
    bottom = top + LINE + sheet.side
    for number, (picture, caption) in enumerate(zip(pictures, sheet.captions(place), strict=True)):
        x = left + number * (sheet.side + NEAR)
        _draw_picture(axis, picture, (x, bottom), sheet.side)
        if len(pictures) > 1:
            middle = x + sheet.side / 2
            below = axis.text(middle, bottom + 0.08, caption, fontsize=CAPTION_PT, color=_SOFT)
            below.set(ha="center", va="center")
    if sheet.label is not None and sheet.label.texts:
        line = bottom + LINE * (len(pictures) > 1) + 0.08
        text = sheet.label.texts[place]
        axis.text(left, line, text, fontsize=TEXT_PT, color=_INK, va="center")


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


def _draw_key(figure: Figure, axis: Axes, sheet: Sheet) -> None:
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
        bbox_to_anchor=(MARGIN / width, sheet.foot / 2 / height, 1 - 2 * MARGIN / width, 0.0),
        ncols=sheet.key[0],
        fontsize=7,
        frameon=False,
        labelcolor=_INK,
        borderaxespad=0.0,
    )
    if label is not None and label.colours is not None:
        _draw_bar(figure, label, (width, height))


def _draw_bar(figure: Figure, label: Label, size: tuple[float, float]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    if label.colours is None:
        return
    colours, ends = label.colours
    width, height = size
    place = figure.add_axes((MARGIN / width, 0.36 / height, 2.6 / width, 0.1 / height))
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
