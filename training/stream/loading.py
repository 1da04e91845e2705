"""Blocks read from the cube: tiles decoded once, turned channels last, put where they belong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cube import nodata
from cube.buffers import Buffers
from cube.reading import read_bands
from cube.regions import Region
from cube.spec import CubeSpec, VariableSpec
from training.stream.blocks import Block
from training.stream.labels import Labeller
from training.stream.ordering import Group
from training.stream.tiles import Box, Key, Planner, Read, Tile

Values = npt.NDArray[Any]

_LABELLED = 1 << 15
"""Pixels of a block that are labelled at once."""

LABEL, WEIGHT = "<label>", "<weight>"
"""Names of what a timing's label becomes, among the arrays of a block; no stack can have them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """What the chips of one timing are made of.

    Attributes:
        inputs: Stack name to the times at which it is read.
        label: The label layer at its times; none without one.
    """

    inputs: Mapping[str, tuple[Key, ...]]
    label: tuple[Key, ...]

    @property
    def keys(self) -> tuple[Key, ...]:
        """Everything to read, each once."""
        every = [key for keys in self.inputs.values() for key in keys]
        return tuple(dict.fromkeys([*every, *self.label]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where pixels come from.

    Attributes:
        url: The cube.
        spec: Its spec.
        bands: Stack name to the bands wanted, in order.
        timings: What each timing needs.
        labeller: What becomes of the label; None without one.
    """

    url: str
    spec: CubeSpec
    bands: Mapping[str, tuple[str, ...]]
    timings: tuple[Needed, ...]
    labeller: Labeller | None

    @property
    def keys(self) -> tuple[Key, ...]:
        """Everything to read for chips of all timings, each once."""
        return tuple(dict.fromkeys(key for timing in self.timings for key in timing.keys))

    def stored_bytes(self, key: Key) -> int:
        """Bytes of a stored pixel, every band."""
        variable = self.spec.variable(key[0])
        return variable.storage.itemsize * len(getattr(variable, "bands", (None,)))

    def depth(self, key: Key) -> int:
        """Channels that are kept of a variable."""
        return len(self.bands.get(key[0], (None,)))

    def dtype(self, key: Key) -> np.dtype[Any]:
        """Stored dtype of a variable."""
        return self.spec.variable(key[0]).storage

    def pixel_bytes(self, key: Key) -> int:
        """Bytes of a pixel in memory: its channels, and whether it was observed."""
        return self.depth(key) * self.dtype(key).itemsize + 1

    def read(self, key: Key, box: Box) -> Values:
        """Stored values of a box, (channel, y, x)."""
        name, time = key
        region = Region(time=time, rows=box[0], cols=box[1])
        values = read_bands(self.url, name, region, spec=self.spec, bands=self.bands.get(name))
        return values if values.ndim == 3 else values[None]


@dataclass(slots=True)
class Pixels:
    """One variable at one time over a box.

    Attributes:
        values: (y, x, channel) as stored; any content where nothing was read.
        observed: bool (y, x), every channel; False where nothing was read.
    """

    values: Values
    observed: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A group of blocks in memory.

    Attributes:
        group: Which.
        blocks: Its blocks.
        arrays: For each block: (variable, time), or (:data:`LABEL` or
            :data:`WEIGHT`, timing), to (y, x, channel) or (y, x).
    """

    group: Group
    blocks: tuple[Block, ...]
    arrays: tuple[dict[Any, Values], ...]


@dataclass(slots=True)
class Tally:
    """What was read so far.

    Attributes:
        reads: Tiles read.
        again: Of these, tiles read before in the same epoch.
        decoded: Bytes after decoding.
    """

    reads: int = 0
    again: int = 0
    decoded: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, size: int) -> None:
        """Count one tile."""
        with self._lock:
            self.reads += 1
            self.decoded += size


class Loader:
    """Loads the groups of one epoch, in their order."""

    def __init__(
        self,
        source: Source,
        planner: Planner,
        pool: ThreadPoolExecutor,
        tally: Tally,
        buffers: Buffers,
        parts: Buffers,
    ) -> None:
        """Prepare; reads nothing.

        Args:
            source: Where pixels come from.
            planner: Says what each group reads.
            pool: Threads that read.
            tally: Is told of every read.
            buffers: Where the memory of blocks comes from.
            parts: Where that of parts kept for later blocks comes from.
        """
        self._source, self._planner, self._pool, self._tally = source, planner, pool, tally
        self._buffers, self._parts = buffers, parts
        self._kept: dict[tuple[Tile, int], Pixels] = {}

    def load(self, group: Group) -> Loaded:
        """Read what a group needs, and make its labels.

        Raises:
            StoreError: A chunk is damaged, or the store refuses.
        """
        plan = self._planner.plan(group)
        blocks = {place: self._planner.epoch.blocks[place] for place in range(*group.blocks)}
        rooms = {place: self._room(block) for place, block in blocks.items()}
        for tile, place, box in plan.kept:
            part = self._kept.pop((tile, place))
            _put(part.values, part.observed, box, rooms[place][tile[0]], blocks[place])
        self._tally.again += plan.again
        self._each(lambda read: self._fetch(read, rooms, blocks), plan.reads)
        arrays = self._each(lambda place: self._finished(blocks[place], rooms[place]), list(blocks))
        return Loaded(group=group, blocks=tuple(blocks.values()), arrays=tuple(arrays))

    def _each(self, call: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """Calls on the pool; at the first error those that have not begun are given up."""
        futures = [self._pool.submit(call, item) for item in items]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def _room(self, block: Block) -> dict[Key, Pixels]:
        keys = dict.fromkeys(
            key
            for timing in np.unique(block.timings).tolist()
            for key in self._source.timings[timing].keys
        )
        return {key: self._pixels(block.shape, key) for key in keys}

    def _pixels(self, shape: tuple[int, int], key: Key) -> Pixels:
        depth, dtype = self._source.depth(key), self._source.dtype(key)
        observed = self._array(shape, np.dtype("bool"))
        observed[:] = False
        return Pixels(self._array((*shape, depth), dtype), observed)

    def _fetch(
        self, read: Read, rooms: Mapping[int, dict[Key, Pixels]], blocks: Mapping[int, Block]
    ) -> None:
        """Read one tile and put its parts where they belong."""
        values = self._source.read(read.key, read.box)
        self._tally.add(values.nbytes)
        observed = _observed(values, self._source.spec.variable(read.key[0]))
        last = np.moveaxis(values, 0, -1)
        for place, box in read.users.items():
            own = _inside(box, read.box)
            _put(last[own], observed[own], box, rooms[place][read.key], blocks[place])
        for place, box in read.keepers.items():
            own = _inside(box, read.box)
            # Copies, or a strip would keep the whole tile.
            kept = self._kept[(read.tile, place)] = Pixels(
                self._parts.empty(last[own].shape, last.dtype),
                self._parts.empty(observed[own].shape, "bool"),
            )
            kept.values[...], kept.observed[...] = last[own], observed[own]

    def _finished(self, block: Block, room: dict[Key, Pixels]) -> dict[Any, Values]:
        """Arrays of a block that chips are cut from: its stacks, and the label of each timing."""
        arrays: dict[Any, Values] = {}
        for timing in np.unique(block.timings).tolist():
            needed = self._source.timings[timing]
            inputs = [key for keys in needed.inputs.values() for key in keys]
            arrays |= {key: room[key].values for key in inputs}
            arrays |= self._labelled(self._source.labeller, block, timing, room)
        return arrays

    def _labelled(
        self, labeller: Labeller | None, block: Block, timing: int, room: dict[Key, Pixels]
    ) -> dict[Any, Values]:
        """Label and weight of one timing; nothing without a label layer."""
        if labeller is None:
            return {}
        needed = self._source.timings[timing]
        inputs = [room[key] for keys in needed.inputs.values() for key in keys]
        layers = [room[key] for key in needed.label]
        channels = labeller.cut_channels(len(layers))
        height, width = block.shape
        label = self._array((height, width, channels), np.dtype(labeller.cut_dtype))
        found = {(LABEL, timing): label}
        if labeller.target.over == "pixels":
            found[WEIGHT, timing] = self._array(block.shape, np.dtype("float32"))
        # Some rows at a time, so that what is made on the way stays in the processor's cache.
        rows = max(1, _LABELLED // width)
        for top in range(0, height, rows):
            part = slice(top, top + rows)
            observed = np.logical_and.reduce([pixels.observed[part] for pixels in inputs])
            stored = [_whole(pixels, part, labeller) for pixels in layers]
            label[part], weight = labeller.block(stored, observed)
            if weight is not None:
                found[WEIGHT, timing][part] = weight
        if labeller.supervision is not None:
            found[WEIGHT, timing] *= labeller.supervision.weights(block.rows, block.cols)
        return found

    def _array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Values:
        return self._buffers.empty(shape, dtype)


def _whole(pixels: Pixels, rows: slice, labeller: Labeller) -> Values:
    """Values of some rows of a label layer, (y, x); nodata where nothing was read."""
    fill = labeller.layer.storage.type(labeller.layer.fill)
    return np.where(pixels.observed[rows], pixels.values[rows, :, 0], fill)


def _observed(values: Values, variable: VariableSpec) -> npt.NDArray[np.bool_]:
    """Pixels at which every channel was observed, bool (y, x), of (channel, y, x)."""
    # Channel by channel, which stays in the processor's cache.
    observed = nodata.valid(values[0], variable)
    for channel in values[1:]:
        observed &= nodata.valid(channel, variable)
    return observed


def _put(
    values: Values, observed: npt.NDArray[np.bool_], box: Box, room: Pixels, block: Block
) -> None:
    """Put a part, (y, x, channel), where it lies in a block."""
    there = _inside(box, (block.rows, block.cols))
    room.values[there] = values
    room.observed[there] = observed


def _inside(box: Box, whole: Box) -> tuple[slice, slice]:
    """A box as an index into the array of a larger one."""
    (top, bottom), (left, right) = box
    (first_row, _), (first_col, _) = whole
    return slice(top - first_row, bottom - first_row), slice(left - first_col, right - first_col)
