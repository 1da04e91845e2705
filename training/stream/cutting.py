"""Where chips lie in a block in memory: the one module that names xbatcher."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xbatcher import BatchGenerator

from training.stream.blocks import Block, Lattice, lattices

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class _Box:
    """Pixels of a block, with what ``BatchGenerator`` asks of an array: sizes, and parts.

    Items of a generator over boxes are boxes: where a chip lies in every array of the block. Over
    an array of xarray each item is wrapped anew, which takes as long as to copy a chip's label, and
    image, label and weight would each need a generator.

    Attributes:
        rows: Half-open, along y.
        cols: The same along x.
    """

    rows: slice
    cols: slice

    @property
    def sizes(self) -> dict[Hashable, int]:
        """Pixels by dimension."""
        return {"y": self.rows.stop - self.rows.start, "x": self.cols.stop - self.cols.start}

    def isel(self, parts: Mapping[Hashable, slice]) -> _Box:
        """A part, by ranges of pixels along both dimensions."""
        (top, left), rows, cols = (self.rows.start, self.cols.start), parts["y"], parts["x"]
        return _Box(
            slice(top + rows.start, top + rows.stop), slice(left + cols.start, left + cols.stop)
        )


class Cutter:
    """Chips of one block: the items of xbatcher's ``BatchGenerator``."""

    def __init__(
        self,
        block: Block,
        arrays: Mapping[Any, npt.NDArray[Any]],
        *,
        size: int,
        stride: int,
    ) -> None:
        """Find where chips lie; copies nothing.

        Args:
            block: Which windows.
            arrays: Name to (y, x, channel) or (y, x), all of the block's box.
            size: Side of a window.
            stride: See :class:`cube.windows.WindowSet`.
        """
        self._arrays = arrays
        self._boxes: list[Any] = [None] * len(block.chips)
        for lattice in lattices(block, size=size, stride=stride):
            generator = _generator(lattice, size=size, overlap=size - stride)
            # Plain numbers: xbatcher takes no others.
            numbers, places = lattice.numbers.tolist(), lattice.places.tolist()
            for number, place in zip(numbers, places, strict=True):
                box = generator[number]
                self._boxes[place] = box.rows, box.cols

    def chip(self, name: Hashable, place: int) -> npt.NDArray[Any]:
        """A view of one chip, (size, size, channel) or (size, size).

        Args:
            name: Of the array.
            place: Which of the block's chips.
        """
        values: npt.NDArray[Any] = self._arrays[name][self._boxes[place]]
        return values


def _generator(lattice: Lattice, *, size: int, overlap: int) -> BatchGenerator:
    return BatchGenerator(
        _Box(slice(*lattice.rows), slice(*lattice.cols)),
        input_dims={"y": size, "x": size},
        input_overlap={"y": overlap, "x": overlap},
        preload_batch=False,
    )
