"""Clear observations: what scenes saw of a box, NaN where it was not clear."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cube.errors import PartialError
from cube.quality import Quality
from cube.reducing import complete
from cube.scenes import PixelReader, Scene, Span

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

Floats = npt.NDArray[np.floating[Any]]
Booleans = npt.NDArray[np.bool_]
Box = tuple[Span, Span]
Seen = list[tuple[Scene, Booleans | None]]
"""Scenes that see something of a box, each with where; None stands for everywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observations:
    """How observations are got, some scenes at a time.

    Attributes:
        grid: The target grid.
        quality: What is clear; None takes whatever is observed.
        reader: How pixels are got.
        dtype: Of the values.
        batch_bytes: For the pixels that are read at once, if they are of several scenes.
    """

    grid: GeoBox
    quality: Quality | None
    reader: PixelReader
    dtype: str
    batch_bytes: int

    def clear(self, scenes: Sequence[Scene], box: Box, *, halo_px: int = 0) -> Seen:
        """Where scenes are clear, of those which are somewhere in a box.

        Args:
            scenes: To look at.
            box: Rows and columns.
            halo_px: By so many pixels the masks, (y, x), are wider than the box on every side.

        Raises:
            PartialError: Quality bands cannot be read.
        """
        if self.quality is None:
            return [(scene, None) for scene in scenes]
        wide = wider(box, halo_px + self.quality.grow_px)
        found: Seen = []
        for scene, value in self._read(scenes, (self.quality.band,), wide):
            mask = self.quality.clear(value[0])
            if _inner(mask, halo_px).any():
                found.append((scene, mask))
            # A view of it would keep a batch while the next is read.
            del value
        return found

    def values(self, seen: Seen, bands: Sequence[str], box: Box, *, halo_px: int = 0) -> Floats:
        """What clear observations are.

        Args:
            seen: What :meth:`clear` gave for this box, with the same halo.
            bands: To read.
            box: Rows and columns.
            halo_px: See :meth:`clear`.

        Returns:
            Shape (scene, band, rows, cols), NaN where a scene is not clear.

        Raises:
            PartialError: Scenes cannot be read.
        """
        scenes = [scene for scene, _ in seen]
        if 0 < len(scenes) <= self._at_once(bands, box):
            stack = self.reader.read(scenes, bands, self.grid, *box).astype(self.dtype, copy=False)
        else:
            stack = np.empty((len(seen), len(bands), *_shape(box)), self.dtype)
            for place, (_, value) in enumerate(self._read(scenes, bands, box)):
                stack[place] = value
                # See clear().
                del value
        for kept, (_, mask) in zip(stack, seen, strict=True):
            self._mask(kept, None if mask is None else _inner(mask, halo_px))
        return stack

    def _mask(self, values: Floats, clear: Booleans | None) -> None:
        """Make (band, rows, cols) of a scene NaN where it is not clear."""
        if clear is not None:
            np.copyto(values, np.nan, where=~clear)
        if self.quality is not None and self.quality.complete:
            np.copyto(values, np.nan, where=~complete(values))

    def lost(self, scenes: Sequence[Scene], bands: Sequence[str], box: Box) -> dict[str, str]:
        """Scenes that cannot be read, with the reason of each; looks at one after the other."""
        found: dict[str, str] = {}
        for scene in scenes:
            try:
                self.reader.read([scene], bands, self.grid, *box)
            except PartialError as error:
                found |= error.scenes
        return found

    def _read(
        self, scenes: Sequence[Scene], bands: Sequence[str], box: Box
    ) -> Iterator[tuple[Scene, Floats]]:
        """Scenes with their pixels, read in batches."""
        for batch in batches(scenes, self._at_once(bands, box)):
            yield from zip(batch, self.reader.read(batch, bands, self.grid, *box), strict=True)

    def _at_once(self, bands: Sequence[str], box: Box) -> int:
        pixels = _shape(box)[0] * _shape(box)[1]
        return max(1, self.batch_bytes // (pixels * len(bands) * np.dtype(self.dtype).itemsize))


def batches(scenes: Sequence[Scene], size: int) -> Iterator[Sequence[Scene]]:
    """So many scenes at a time."""
    for start in range(0, len(scenes), size):
        yield scenes[start : start + size]


def _shape(box: Box) -> tuple[int, int]:
    return box[0][1] - box[0][0], box[1][1] - box[1][0]


def wider(box: Box, px: int) -> Box:
    """A box with so many more pixels on every side."""
    (top, bottom), (left, right) = box
    return (top - px, bottom + px), (left - px, right + px)


def _inner(mask: Booleans, px: int) -> Booleans:
    return mask[px:-px, px:-px] if px else mask
