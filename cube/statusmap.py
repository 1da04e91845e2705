"""Pictures of what is done of a cube: maps of regions × times.

A picture is laid out once, as rectangles and texts, and then written as SVG or
drawn as PNG.
"""

from __future__ import annotations

import io
import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cube.columns import batches, clean, elided, is_wide
from cube.counts import Mask, VariableStatus, counts_of, periods_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels of a picture, all whole."""

_LAYERS = {
    # In order of painting. Blues from light to dark for shares; those of orange and yellow differ
    # from them for people who are colour-blind too, and all differ in lightness.
    "missing": "#e6e4df",
    "part0": "#bcd6ee",
    "part1": "#93bde1",
    "part2": "#6aa1d1",
    "part3": "#4585bd",
    "part4": "#2a6aa6",
    "done": "#0a3566",
    "damaged": "#d9480f",
    "overwritten": "#ffc53d",
    "grid": "#ffffff",
}
_OPACITY = {"grid": 0.45}
_CLASSES = tuple(_LAYERS)[:8]
_PARTS = 5
_DONE, _DAMAGED = 6, 7
_INK, _SOFT, _ALARM = "#1f2933", "#5f6b76", "#b93a08"

_MAPS = (900, 1120)  # pixels for all maps together along (y, x), where they can be had
_LARGEST_MAP, _SMALLEST_MAP = 400, 24
_LARGEST_CELL, _SMALLEST_CELL = 20, 2
_MOST_CELLS = 40  # along a side of a map
_MOST_COLUMNS = 36  # three years of months; more periods go on below
_GAP = 6
_MARGIN = 24
_KEY = 12  # side of a square of the legend
BUDGET = 32_000  # rectangles of a picture; about 20 bytes each

_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    x: int
    y: int  # of the baseline
    text: str
    size: int = 11
    colour: str = _INK
    bold: bool = False
    anchor: str = "start"

    @property
    def right(self) -> int:
        """Where it ends, in the widest of fonts."""
        width = _text_width(self.text, self.size, bold=self.bold)
        return self.x + {"start": width, "middle": math.ceil(width / 2)}[self.anchor]


@dataclass(slots=True, kw_only=True)
class Drawing:
    """What is on a picture, in pixels from its upper left.

    Attributes:
        label: All of it in a sentence, for who cannot see it.
        boxes: Filled rectangles by layer.
        texts: Labels.
        hints: Maps, and what is said when pointing there.
        size: (height, width), known last.
    """

    label: str
    boxes: dict[str, list[Box]] = field(default_factory=lambda: {name: [] for name in _LAYERS})
    texts: list[_Text] = field(default_factory=list)
    hints: list[tuple[Box, str]] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)

    @property
    def count(self) -> int:
        """Number of rectangles."""
        return sum(map(len, self.boxes.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """How the maps of a variable are drawn.

    Attributes:
        factor: Regions along a side of a cell.
        px: Side of a cell.
        cells: Number along (y, x).
    """

    factor: int
    px: int
    cells: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Pixels of a map along (y, x)."""
        return self.cells[0] * self.px, self.cells[1] * self.px


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """Rows of maps under one line of labels.

    Attributes:
        labels: Of the columns; empty for static variables.
        rows: Variables, with the periods of this block only.
    """

    labels: tuple[str, ...]
    rows: tuple[VariableStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sheet:
    """Where things stand, the same in all blocks.

    Attributes:
        box: Most pixels of a map along (y, x).
        least: Fewest pixels of a cell's side.
        left: Of the first column of maps.
        width: Of a column of maps.
    """

    box: tuple[int, int]
    least: int
    left: int
    width: int

    def scale(self, variable: VariableStatus) -> _Scale:
        """How a variable's maps are drawn: in cells as small as they may be."""
        most = [max(1, min(_MOST_CELLS, side // self.least)) for side in self.box]
        factor = max(math.ceil(n / m) for n, m in zip(variable.grid, most, strict=True))
        rows, cols = (math.ceil(n / factor) for n in variable.grid)
        px = min(_LARGEST_CELL, self.box[0] // rows, self.box[1] // cols)
        return _Scale(factor=factor, px=px, cells=(rows, cols))

    def column(self, place: int) -> int:
        """Where a column begins."""
        return self.left + place * (self.width + _GAP)


def draw(heading: str, variables: Sequence[VariableStatus], *, budget: int = BUDGET) -> Drawing:
    """Small maps of the regions, in cells as fine as a file of bearable size allows."""
    blocks = list(_blocks(variables))
    box = _map_box(blocks)
    least = _SMALLEST_CELL
    while True:
        drawing = _drawn(heading, variables, blocks, _sheet(blocks, box, least))
        if drawing.count <= budget or least > max(box):
            return drawing
        least = math.ceil(least * 1.5)


def svg(drawing: Drawing) -> str:
    """A picture as SVG."""
    height, width = drawing.size
    # No style sheet and no ids: in a notebook both would reach into the page around.
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" style="max-width:100%;height:auto" '
            f'font-family="{_FONTS}" role="img" '
            f'aria-label="{escape(drawing.label)}">',
            f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
            '<g shape-rendering="crispEdges">',
            *(_svg_path(name, boxes) for name, boxes in drawing.boxes.items() if boxes),
            "</g>",
            *map(_svg_text, drawing.texts),
            '<g fill="none" pointer-events="all">',
            *(_svg_hint(box, text) for box, text in drawing.hints),
            "</g>",
            "</svg>\n",
        ]
    )


def png(drawing: Drawing) -> bytes:
    """A picture as PNG, of twice its size where that is bearable."""
    from matplotlib.figure import Figure

    height, width = drawing.size
    scale = min(2.0, 60_000 / max(height, width), math.sqrt(40e6 / (height * width)))
    figure = Figure(figsize=(width / 96, height / 96), dpi=96 * scale, facecolor="white")
    _paint(figure, drawing)
    data = io.BytesIO()
    with warnings.catch_warnings():
        # A label in a script that the font lacks is drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(
            data, format="png", dpi="figure", facecolor="white", metadata={"Software": None}
        )
    return data.getvalue()


def shares(mask: Mask, factor: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How many of the regions of each block are set, and how many there are.

    Args:
        mask: (..., y, x).
        factor: Regions along a side of a block; those at the end may be smaller.

    Returns:
        int64 (..., block_y, block_x) counts, and int64 (block_y, block_x) sizes.
    """
    height, width = mask.shape[-2:]
    rows, cols = np.arange(0, height, factor), np.arange(0, width, factor)
    counts = np.add.reduceat(mask, rows, axis=-2, dtype="int64")
    counts = np.add.reduceat(counts, cols, axis=-1)
    sizes = np.outer(np.diff([*rows, height]), np.diff([*cols, width]))
    return counts, sizes


def merged(classes: npt.NDArray[np.integer[Any]]) -> list[tuple[int, Box]]:
    """Rectangles of equal cells that cover (y, x), each with its class.

    Equal cells of a row become one, and equal ones of following rows too.
    """
    boxes: list[tuple[int, Box]] = []
    running: dict[tuple[int, int, int], int] = {}
    for y, row in enumerate(classes):
        edges = [0, *(np.flatnonzero(np.diff(row)) + 1).tolist(), len(row)]
        runs = [(int(row[a]), a, b) for a, b in itertools.pairwise(edges)]
        found = {run: running.pop(run, y) for run in runs}
        boxes += _closed(running, y)
        running = found
    return boxes + _closed(running, len(classes))


def _closed(running: dict[tuple[int, int, int], int], stop: int) -> list[tuple[int, Box]]:
    return [(kind, (a, top, b - a, stop - top)) for (kind, a, b), top in running.items()]


def _classes(variable: VariableStatus, factor: int) -> npt.NDArray[np.int8]:
    """Which of ``_CLASSES`` each cell is, int8 (time, y, x)."""
    done, sizes = shares(variable.written, factor)
    part = 1 + done * _PARTS // sizes
    classes = np.where(done == 0, 0, np.where(done == sizes, _DONE, part))
    # One damaged region in 100,000 has to be seen.
    classes[shares(variable.damaged, factor)[0] > 0] = _DAMAGED
    return classes.astype("int8").reshape(-1, *sizes.shape)


def _drawn(
    heading: str, variables: Sequence[VariableStatus], blocks: Iterable[_Block], sheet: _Sheet
) -> Drawing:
    title, text = elided(clean(heading), 80), counts_of(variables).summary
    drawing = Drawing(label=f"{title}: {text}")
    drawing.texts.append(_Text(x=_MARGIN, y=38, text=title, size=18, bold=True))
    drawing.texts.append(_Text(x=_MARGIN, y=58, text=text, size=12, colour=_SOFT))
    _draw_legend(drawing, max((sheet.scale(v).factor for v in variables), default=1))
    top = 100
    for block in blocks:
        top = _draw_block(drawing, block, sheet, top)
    ends = [text.right for text in drawing.texts]
    ends += [left + width for (left, _, width, _), _ in drawing.hints]
    drawing.size = (top + _MARGIN - 3 * _GAP, max(ends) + _MARGIN)
    return drawing


def _blocks(variables: Sequence[VariableStatus]) -> Iterator[_Block]:
    """Periods in order, as many beside each other as can be read; then what has no time."""
    for labels in batches(periods_of(variables), _MOST_COLUMNS):
        rows = [v for v in variables if not set(labels).isdisjoint(v.periods)]
        yield _Block(labels=tuple(labels), rows=tuple(_part(row, labels) for row in rows))
    static = tuple(variable for variable in variables if variable.static)
    if static:
        yield _Block(labels=(), rows=static)


def _part(variable: VariableStatus, labels: Iterable[str]) -> VariableStatus:
    """A variable at some of its periods."""
    wanted = set(labels)
    chosen = np.array([label in wanted for label in variable.periods])
    return replace(
        variable,
        periods=tuple(label for label in variable.periods if label in wanted),
        written=variable.written[chosen],
        damaged=variable.damaged[chosen],
        replaced=variable.replaced[chosen],
    )


def _map_box(blocks: Sequence[_Block]) -> tuple[int, int]:
    """Most pixels of a map along (y, x), by how many there are."""
    rows = sum(len(block.rows) for block in blocks)
    columns = max((len(block.labels) for block in blocks), default=1)
    high = _MAPS[0] // max(rows, 1) - 2 * _GAP
    wide = _MAPS[1] // max(columns, 1) - _GAP
    return (
        min(max(high, _SMALLEST_MAP), _LARGEST_MAP),
        min(max(wide, _SMALLEST_MAP), _LARGEST_MAP),
    )


def _sheet(blocks: Sequence[_Block], box: tuple[int, int], least: int) -> _Sheet:
    rows = [row for block in blocks for row in block.rows]
    sheet = _Sheet(box=box, least=least, left=0, width=0)
    width = max((sheet.scale(row).size[1] for row in rows), default=0)
    names = max((text.right for row in rows for text in _names(row, 0)), default=0)
    # The first label stands over the middle of the first map, and may be wider.
    label = _MARGIN + (_widest(blocks) - width) // 2
    return replace(sheet, left=max(names, label) + 2 * _GAP, width=width)


def _widest(blocks: Iterable[_Block]) -> int:
    """Pixels of the widest label of a period."""
    labels = (_period(label) for block in blocks for label in block.labels)
    return max((_text_width(label, 11) for label in labels), default=0)


def _period(label: str) -> str:
    return elided(clean(label), 24)


def _names(variable: VariableStatus, top: int) -> list[_Text]:
    """What stands beside the maps of a variable."""
    counts = variable.counts
    name = elided(clean(variable.name), 32)
    alarm = _ALARM if counts.damaged else _SOFT
    return [
        _Text(x=_MARGIN, y=top + 10, text=name, size=13, bold=True),
        _Text(x=_MARGIN, y=top + 25, text=str(counts), colour=_SOFT),
        *[_Text(x=_MARGIN, y=top + 39, text=counts.notes, colour=alarm)] * bool(counts.notes),
    ]


def _text_width(text: str, size: int, *, bold: bool = False) -> int:
    """At least the width in pixels, for a wide sans-serif such as DejaVu Sans."""
    return math.ceil((1.15 if bold else 1.0) * size * sum(map(_em, text)))


def _em(char: str) -> float:
    if is_wide(char) or char in "MWmw@%…":
        return 1.0
    if char in "fijlrt .,:;-|()":
        return 0.42
    if char == "_":
        return 0.5
    return 0.8 if char.isupper() or not char.isascii() else 0.65


def _draw_legend(drawing: Drawing, factor: int) -> None:
    """What the colours mean, and how large a cell is."""
    x = _draw_key(drawing, _MARGIN, ("missing",), "missing")
    if factor > 1:
        x = _draw_key(drawing, x, _CLASSES[1 : 1 + _PARTS], "partly done")
    x = _draw_key(drawing, x, ("done",), "done")
    x = _draw_key(drawing, x, ("damaged",), "damaged entry")
    drawing.boxes["overwritten"].append((x, 78, _KEY, _KEY // 3))
    x = _draw_key(drawing, x, ("done",), "overwritten on purpose")
    if factor > 1:
        text = f"a cell is {factor} × {factor} regions"
        drawing.texts.append(_Text(x=x, y=84, text=text, colour=_SOFT))


def _draw_key(drawing: Drawing, x: int, layers: Sequence[str], label: str) -> int:
    """One entry of the legend; where the next begins."""
    for layer in layers:
        drawing.boxes[layer].append((x, 74, _KEY, _KEY))
        x += _KEY
    text = _Text(x=x + _GAP, y=84, text=label)
    drawing.texts.append(text)
    return text.right + 2 * _GAP


def _draw_block(drawing: Drawing, block: _Block, sheet: _Sheet, top: int) -> int:
    """Labels and rows; where the next block begins."""
    _draw_labels(drawing, block, sheet, top + 18)
    top += 28
    for variable in block.rows:
        texts = _names(variable, top)
        drawing.texts += texts
        _draw_maps(drawing, variable, block, sheet, top)
        lowest = max(top + sheet.scale(variable).size[0], texts[-1].y + 4)
        top = lowest + 2 * _GAP
    return top + _GAP


def _draw_labels(drawing: Drawing, block: _Block, sheet: _Sheet, y: int) -> None:
    """Labels over the columns; of many, every second, third ..., so that they stay apart."""
    if not block.labels:
        drawing.texts.append(_Text(x=sheet.left, y=y, text="static", colour=_SOFT))
        return
    step = math.ceil((_widest([block]) + _GAP) / (sheet.width + _GAP))
    for place in range(0, len(block.labels), step):
        middle = sheet.column(place) + sheet.width // 2
        text = _period(block.labels[place])
        drawing.texts.append(_Text(x=middle, y=y, text=text, colour=_SOFT, anchor="middle"))


def _draw_maps(
    drawing: Drawing, variable: VariableStatus, block: _Block, sheet: _Sheet, top: int
) -> None:
    """The maps of a variable, side by side."""
    scale = sheet.scale(variable)
    classes = _classes(variable, scale.factor)
    replaced = shares(variable.replaced, scale.factor)[0].reshape(classes.shape) > 0
    name = elided(clean(variable.name), 32)
    for place, counts in enumerate(variable.by_period):
        label = variable.periods[place] if block.labels else ""
        x = sheet.column(block.labels.index(label) if block.labels else 0)
        _draw_cells(drawing, classes[place], replaced[place], scale, (x, top))
        when = f", {_period(label)}" if label else ""
        drawing.hints.append(((x, top, *scale.size[::-1]), f"{name}{when}: {counts.noted}"))


def _draw_cells(
    drawing: Drawing,
    classes: npt.NDArray[np.int8],
    replaced: Mask,
    scale: _Scale,
    corner: tuple[int, int],
) -> None:
    """One map: cells in their class, a stripe where overwritten, a frame where damaged."""
    left, top = corner
    px = scale.px
    for kind, (x, y, width, height) in merged(classes):
        box = (left + x * px, top + y * px, width * px, height * px)
        drawing.boxes[_CLASSES[kind]].append(box)
    thick = max(1, px // 3)
    for y, row in enumerate(replaced):
        for is_replaced, (x, _, width, _) in merged(row[None]):
            if is_replaced:
                box = (left + x * px, top + y * px + (px - thick) // 2, width * px, thick)
                drawing.boxes["overwritten"].append(box)
    if px >= 6 and scale.factor == 1:
        drawing.boxes["grid"] += _grid_lines(scale, corner)
    if (classes == _DAMAGED).any():
        drawing.boxes["damaged"] += _frame(scale, corner)


def _grid_lines(scale: _Scale, corner: tuple[int, int]) -> Iterator[Box]:
    (left, top), (height, width) = corner, scale.size
    yield from ((left + x, top, 1, height) for x in range(scale.px, width, scale.px))
    yield from ((left, top + y, width, 1) for y in range(scale.px, height, scale.px))


def _frame(scale: _Scale, corner: tuple[int, int]) -> Iterator[Box]:
    """Around a map, in the gap between maps."""
    (left, top), (height, width) = corner, scale.size
    for y in (top - 3, top + height + 1):
        yield left - 3, y, width + 6, 2
    for x in (left - 3, left + width + 1):
        yield x, top - 3, 2, height + 6


def _svg_path(layer: str, boxes: Iterable[Box]) -> str:
    steps = "".join(f"M{x} {y}h{width}v{height}h-{width}z" for x, y, width, height in boxes)
    opacity = f' fill-opacity="{_OPACITY[layer]}"' if layer in _OPACITY else ""
    return f'<path fill="{_LAYERS[layer]}"{opacity} d="{steps}"/>'


def _svg_text(text: _Text) -> str:
    weight = ' font-weight="600"' if text.bold else ""
    anchor = "" if text.anchor == "start" else f' text-anchor="{text.anchor}"'
    return (
        f'<text x="{text.x}" y="{text.y}" font-size="{text.size}" fill="{text.colour}"'
        f"{weight}{anchor}>{escape(text.text)}</text>"
    )


def _svg_hint(box: Box, text: str) -> str:
    x, y, width, height = box
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}">'
        f"<title>{escape(text)}</title></rect>"
    )


def _paint(figure: Figure, drawing: Drawing) -> None:
    from matplotlib.collections import PolyCollection

    height, width = drawing.size
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axis.set_axis_off()
    for name, boxes in drawing.boxes.items():
        corners = [[(x, y), (x + w, y), (x + w, y + h), (x, y + h)] for x, y, w, h in boxes]
        axis.add_collection(
            PolyCollection(
                corners,
                facecolors=_LAYERS[name],
                alpha=_OPACITY.get(name),
                linewidths=0,
                antialiaseds=False,
            )
        )
    for text in drawing.texts:
        axis.text(
            text.x,
            text.y,
            text.text,
            size=0.75 * text.size,  # points
            color=text.colour,
            weight="bold" if text.bold else "normal",
            ha="left" if text.anchor == "start" else "center",
            parse_math=False,
            usetex=False,
        )
