"""Chips cut from a block in memory: the one module that names xbatcher."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from xbatcher import BatchGenerator

from training.stream.blocks import Block, lattices


class Cutter:
    """Chips of one block, as xbatcher's ``BatchGenerator`` cuts them."""

    def __init__(
        self,
        block: Block,
        arrays: Mapping[Any, npt.NDArray[Any]],
        *,
        size: int,
        stride: int,
    ) -> None:
        """Prepare to cut; copies nothing.

        Args:
            block: Which windows.
            arrays: Name to (y, x, channel) or (y, x), all of the block's box.
            size: Side of a window.
            stride: See :class:`cube.windows.WindowSet`.
        """
        self._arrays = arrays
        self._lattices = list(lattices(block, size=size, stride=stride))
        self._size, self._overlap = size, size - stride
        self._lattice = np.empty(len(block.chips), "int64")
        self._number = np.empty(len(block.chips), "int64")
        for index, lattice in enumerate(self._lattices):
            self._lattice[lattice.places] = index
            self._number[lattice.places] = lattice.numbers
        # Plain numbers: xbatcher takes no others, and looking them up is faster.
        self._where = list(zip(self._lattice.tolist(), self._number.tolist(), strict=True))
        self._generators: dict[tuple[Any, int], BatchGenerator] = {}
        self._corners = (block.origins - (block.rows[0], block.cols[0])).tolist()

    def chip(self, name: Hashable, place: int) -> npt.NDArray[Any]:
        """A view of one chip, (size, size, channel) or (size, size).

        Args:
            name: Of the array.
            place: Which of the block's chips.
        """
        lattice, number = self._where[place]
        generator = self._generators.get((name, lattice))
        if generator is None:
            generator = self._generators[name, lattice] = self._generator(name, lattice)
        values: npt.NDArray[Any] = generator[number].values
        return values

    def beside(self, name: Hashable, place: int) -> npt.NDArray[Any]:
        """What lies where a chip does in another array of the block, a view.

        Labels and weights: to have xbatcher cut them too would take most of the time of a batch.

        Args:
            name: Of the array.
            place: Which of the block's chips.
        """
        y, x = self._corners[place]
        return self._arrays[name][y : y + self._size, x : x + self._size]

    def _generator(self, name: Any, index: int) -> BatchGenerator:
        lattice = self._lattices[index]
        values = self._arrays[name][slice(*lattice.rows), slice(*lattice.cols)]
        return BatchGenerator(
            xr.DataArray(values, dims=("y", "x", "channel")),
            input_dims={"y": self._size, "x": self._size},
            input_overlap={"y": self._overlap, "x": self._overlap},
            preload_batch=False,
        )
