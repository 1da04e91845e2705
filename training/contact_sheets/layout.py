"""Contact sheets laid out: where chips and their texts stand, so that none covers another."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from training.contact_sheets.images import Classes
from training.timings import Timing

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.colors import Colormap

# Inches: of a picture, between pictures of a chip, between chips, of a line of text, of the sheet.
_LARGEST, _SMALLEST, NEAR, _GAP, LINE = 1.35, 0.55, 0.04, 0.2, 0.15
MARGIN, _HEAD, _FOOT, _WIDEST, _NARROWEST = 0.2, 0.3, 0.6, 16.0, 4.6
_PATCH = 0.45
"""Inches of a coloured patch in the key, and of the room around it."""
# Points: of the title, of texts of a chip, of captions of its pictures.
TITLE_PT, TEXT_PT, CAPTION_PT = 8, 7, 6
LONGEST = 60
"""Letters of a line above or below a chip, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
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
class Sheet:
    """Chips as pictures and texts, laid out in inches from the upper left.

    Attributes:
        chips: Numbers of the chips, int64 (chip,).
        images: uint8 (chip, time, y, x, 4).
        label: What stands beside or below them; None without labels.
        timings: Of the sample.
        most: Chips that may stand in a row.
        least: Least side of a picture above its caption, and width of a chip with its texts.
    """

    chips: npt.NDArray[np.int64]
    images: npt.NDArray[np.uint8]
    label: Label | None
    timings: tuple[Timing, ...]
    most: int
    least: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        side = _SMALLEST
        if self.pictures > 1:
            captions = (text for place in range(len(self.chips)) for text in self.captions(place))
            side = max(side, *(wide(text, CAPTION_PT) for text in captions))
        below = () if self.label is None else self.label.texts
        text = max(
            wide(text, TEXT_PT) for text in (*map(self.heading, range(len(self.chips))), *below)
        )
        object.__setattr__(self, "least", (side, max(self.pictures * (side + NEAR), text)))

    @property
    def pictures(self) -> int:
        """Pictures of a chip."""
        maps = None if self.label is None else self.label.maps
        return self.images.shape[1] + (0 if maps is None else maps.shape[1])

    @property
    def columns(self) -> int:
        """Chips in a row."""
        return min(self.most, max(1, int((_WIDEST - 2 * MARGIN) / (self.least[1] + _GAP))))

    @property
    def side(self) -> float:
        """Of a picture."""
        room = (_WIDEST - 2 * MARGIN) / self.columns - _GAP
        return max(min(room / self.pictures - NEAR, _LARGEST), self.least[0])

    @property
    def cell(self) -> tuple[float, float]:
        """Width and height of a chip with its texts and the gap to the next."""
        width = max(self.pictures * (self.side + NEAR), self.least[1]) + _GAP
        below = (self.pictures > 1) + (self.label is not None and bool(self.label.texts))
        return width, self.side + LINE * (1 + below) + _GAP

    @property
    def width(self) -> float:
        """Of the sheet."""
        return max(2 * MARGIN + self.columns * self.cell[0] - _GAP, _NARROWEST)

    @property
    def key(self) -> tuple[int, int]:
        """Columns and rows of what says what the colours mean."""
        classes = None if self.label is None else self.label.classes
        names = ("no data, or no weight", *(() if classes is None else classes.names))
        across = max(wide(name, TEXT_PT) for name in names) + _PATCH
        columns = max(1, int((self.width - 2 * MARGIN) / across))
        return columns, math.ceil(len(names) / columns)

    @property
    def foot(self) -> float:
        """Height of what is below the chips."""
        return _FOOT + LINE * (self.key[1] - 1)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the sheet."""
        rows = math.ceil(len(self.chips) / self.columns)
        return self.width, _HEAD + rows * self.cell[1] + self.foot

    def corner(self, place: int) -> tuple[float, float]:
        """Upper left of a chip."""
        row, column = divmod(place, self.columns)
        return MARGIN + column * self.cell[0], _HEAD + row * self.cell[1]

    def timing(self, place: int) -> Timing:
        """Timing of a chip."""
        return self.timings[int(self.chips[place]) % len(self.timings)]

    def heading(self, place: int) -> str:
        """What stands above a chip."""
        several = f"  {self.timing(place)}" if len(self.timings) > 1 else ""
        return shortened(f"{self.chips[place]}{several}", LONGEST)

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


def wide(text: str, points: float) -> float:
    """Width of a text in inches, by what letters and digits of the font take on average."""
    return 0.64 * points / 72 * len(text)


def shortened(text: str, longest: int) -> str:
    """A text of at most so many letters; one that is cut ends in an ellipsis."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
