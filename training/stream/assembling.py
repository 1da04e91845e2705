"""Batches put together from groups of blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from cube.buffers import Buffers
from training.augmentation.draws import chip_draws
from training.stream.batches import Arrays, Batch
from training.stream.cutting import Cutter
from training.stream.labels import Labeller
from training.stream.loading import LABEL, WEIGHT, Loaded, Source
from training.stream.ordering import Epoch
from training.stream.spare_threads import SpareThreads
from training.tables import TableJoin

Values = npt.NDArray[Any]

DRAWS = "draws"
"""Name of the numbers drawn for each chip, among the inputs."""

Shape = tuple[tuple[int, ...], np.dtype[Any]]
"""Sizes and dtype."""


class ChipWeights(Protocol):
    """A weight for every chip."""

    def of(self, chips: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Weights of chips, float32 (chip,), at least 0."""


class PixelWeights(Protocol):
    """A weight for every class."""

    def of_classes(self, label: Values, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Weights by class, float32 of the shape of ``label``; 0 where not valid."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a batch is made of.

    Attributes:
        batch: Chips in it.
        size: Side of a window in pixels.
        stride: See :class:`cube.windows.WindowSet`.
        source: Where pixels come from.
        label: Rows that are the label, where that is no layer.
        features: Name to rows that go with the inputs.
        weights: What each chip counts.
        pixel_weights: What each class counts.
        draws: Numbers to draw for each chip of each epoch.
        seed: Of these numbers.
    """

    batch: int
    size: int
    stride: int
    source: Source
    label: TableJoin | None
    features: dict[str, TableJoin]
    weights: ChipWeights | None
    pixel_weights: PixelWeights | None
    draws: int
    seed: int

    def shapes(self) -> dict[str, Shape]:
        """Name to shape and dtype of what is cut: stacks, label and weight."""
        side = (self.size, self.size)
        first = self.source.timings[0]
        found: dict[str, Shape] = {}
        for name, keys in first.inputs.items():
            times = (len(keys),) if len(keys) > 1 else ()
            shape = (self.batch, *times, *side, self.source.depth(keys[0]))
            found[name] = shape, self.source.dtype(keys[0])
        labeller = self.source.labeller
        if labeller is None:
            return found
        if labeller.target.over == "window":
            found[LABEL] = (self.batch, *side, len(first.label)), np.dtype(labeller.cut_dtype)
        else:
            channels = labeller.target.channels(len(first.label))
            found[LABEL] = (self.batch, *side, channels), np.dtype(labeller.dtype)
            found[WEIGHT] = (self.batch, *side), np.dtype("float32")
        return found

    def batch_shapes(self) -> tuple[dict[str, Shape], Shape | None, Shape | None]:
        """Shapes and dtypes of a batch: inputs by name, label, weight."""
        found = self.shapes()
        label, weight = found.pop(LABEL, None), found.pop(WEIGHT, None)
        floats = np.dtype("float32")
        for name, rows in self.features.items():
            found[name] = (self.batch, len(rows.columns)), floats
        if self.draws:
            found[DRAWS] = (self.batch, self.draws), floats
        labeller = self.source.labeller
        if self.label is not None:
            label, weight = ((self.batch, len(self.label.columns)), floats), ((self.batch,), floats)
        elif labeller is not None and labeller.target.over == "window":
            channels = labeller.target.channels(len(self.source.timings[0].label))
            label = (self.batch, channels), np.dtype(labeller.dtype)
            weight = (self.batch,), floats
        return found, label, weight

    def pixel_bytes(self) -> int:
        """Bytes of a pixel of a block: what is read, and for every timing what is made of it."""
        shapes = self.shapes()
        cut = [shapes[name] for name in (LABEL, WEIGHT) if name in shapes]
        made = sum(dtype.itemsize * math.prod(shape[3:]) for shape, dtype in cut)
        read = sum(self.source.pixel_bytes(key) for key in self.source.keys)
        return read + made * len(self.source.timings)

    def chip_bytes(self) -> int:
        """Bytes of a chip in a batch."""
        cut = sum(int(np.prod(s)) * d.itemsize for s, d in self.shapes().values()) // self.batch
        rows = [*self.features.values(), *([] if self.label is None else [self.label])]
        return cut + 8 + 4 * self.draws + sum(4 * len(row.columns) for row in rows)


_Place = tuple[int, tuple[int, int]]
"""A chip by its place among all of a group, and by its block and the place in that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Members:
    """The chips of a group; plain numbers, which are looked up faster one by one.

    Attributes:
        cutters: Of its blocks.
        ids: Of each chip.
        turns: How often each stands before itself.
        timings: Number of each chip's timing.
    """

    cutters: list[Cutter]
    ids: list[int]
    turns: list[int]
    timings: list[int]

    @classmethod
    def of(cls, loaded: Loaded, cutters: list[Cutter]) -> Self:
        """Those of a group in memory."""
        ids, turns, timings = (
            np.concatenate([getattr(block, name) for block in loaded.blocks]).tolist()
            for name in ("chips", "turns", "timings")
        )
        return cls(cutters=cutters, ids=ids, turns=turns, timings=timings)


@dataclass(slots=True)
class _Unfinished:
    """A batch that is being filled.

    Attributes:
        arrays: What is cut, by name.
        chips: Ids, int64 (batch,); -1 where there is none yet.
        turns: How often each was taken before in the epoch, int64 (batch,).
        filled: Chips that are there.
    """

    arrays: Arrays
    chips: npt.NDArray[np.int64]
    turns: npt.NDArray[np.int64]
    filled: int = 0


class Assembler:
    """Puts batches together."""

    def __init__(self, recipe: Recipe, buffers: Buffers, spare: SpareThreads) -> None:
        """Prepare.

        Args:
            recipe: What a batch is made of.
            buffers: Where its memory comes from.
            spare: Who cuts, too.
        """
        self._recipe, self._buffers, self._spare = recipe, buffers, spare
        self._shapes = recipe.shapes()
        self._made = [name for name in (LABEL, WEIGHT) if name in self._shapes]

    def batches(
        self, epoch: Epoch, groups: Iterable[Loaded], span: tuple[int, int], count: int
    ) -> Iterator[Batch]:
        """Batches of an epoch, or of a part of it.

        Args:
            epoch: The plan.
            groups: Those that hold the span, in order.
            span: Positions of chips in the epoch, half-open.
            count: Batches to give; those behind the last chip are empty.
        """
        given, batch = 0, self._fresh()
        for loaded in groups:
            members = _Members.of(loaded, self._cutters(loaded))
            places = _places(epoch, loaded, span)
            while part := list(islice(places, self._recipe.batch - batch.filled)):
                self._fill(batch, members, part)
                if batch.filled == self._recipe.batch:
                    yield self._finished(batch, epoch.number)
                    given, batch = given + 1, self._fresh()
        for _ in range(count - given):
            for values in batch.arrays.values():
                values[batch.filled :] = 0
            yield self._finished(batch, epoch.number)
            batch = self._fresh()

    def _fresh(self) -> _Unfinished:
        arrays = {name: self._buffers.empty(*how) for name, how in self._shapes.items()}
        chips = np.full(self._recipe.batch, -1, "int64")
        return _Unfinished(arrays, chips, np.zeros_like(chips))

    def _cutters(self, loaded: Loaded) -> list[Cutter]:
        size, stride = self._recipe.size, self._recipe.stride
        return [
            Cutter(block, arrays, size=size, stride=stride)
            for block, arrays in zip(loaded.blocks, loaded.arrays, strict=True)
        ]

    def _fill(self, batch: _Unfinished, members: _Members, places: Sequence[_Place]) -> None:
        """Put chips of a group into a batch, behind those that are there."""
        first = batch.filled

        def cut(numbers: range) -> None:
            for number in numbers:
                at, (block, place) = places[number]
                cutter, timing = members.cutters[block], members.timings[at]
                self._cut(cutter, place, timing, batch.arrays, first + number)

        self._spare.share(cut, len(places))
        for slot, (at, _) in enumerate(places, start=first):
            batch.chips[slot], batch.turns[slot] = members.ids[at], members.turns[at]
        batch.filled += len(places)

    def _cut(self, cutter: Cutter, place: int, timing: int, arrays: Arrays, slot: int) -> None:
        """Copy one chip from its block into a batch."""
        for name, keys in self._recipe.source.timings[timing].inputs.items():
            if len(keys) == 1:
                arrays[name][slot] = cutter.chip(keys[0], place)
            else:
                for time, key in enumerate(keys):
                    arrays[name][slot, time] = cutter.chip(key, place)
        for name in self._made:
            arrays[name][slot] = cutter.chip((name, timing), place)

    def _finished(self, batch: _Unfinished, epoch: int) -> Batch:
        recipe, arrays, chips = self._recipe, batch.arrays, batch.chips
        real = chips >= 0
        label, weight = self._labelled(arrays, chips, real)
        inputs = {name: values for name, values in arrays.items() if name not in (LABEL, WEIGHT)}
        for name, rows in recipe.features.items():
            inputs[name] = _rows(rows, chips, real, self._buffers)
        if recipe.draws:
            inputs[DRAWS] = chip_draws(recipe.seed, epoch, chips, recipe.draws, turns=batch.turns)
        if weight is not None and recipe.pixel_weights is not None and label is not None:
            weight *= recipe.pixel_weights.of_classes(label[..., 0], weight > 0)
        if weight is not None and recipe.weights is not None:
            by_chip = np.zeros(len(chips), "float32")
            by_chip[real] = recipe.weights.of(chips[real])
            weight *= by_chip.reshape(-1, *(1,) * (weight.ndim - 1))
        return Batch(inputs=inputs, label=label, weight=weight, chip=chips)

    def _labelled(
        self, arrays: Arrays, chips: npt.NDArray[np.int64], real: npt.NDArray[np.bool_]
    ) -> tuple[Values | None, npt.NDArray[np.float32] | None]:
        if self._recipe.label is not None:
            rows = _rows(self._recipe.label, chips, real, self._buffers)
            known = np.isfinite(rows).all(axis=-1) & real
            rows[~known] = 0
            return rows, known.astype("float32")
        labeller: Labeller | None = self._recipe.source.labeller
        if labeller is None:
            return None, None
        if labeller.target.over == "pixels":
            return arrays[LABEL], arrays[WEIGHT]
        label, weight = labeller.windows(arrays[LABEL])
        label[~real] = 0
        return label, weight * real


def _rows(
    rows: TableJoin, chips: npt.NDArray[np.int64], real: npt.NDArray[np.bool_], buffers: Buffers
) -> npt.NDArray[np.float32]:
    """Rows of a batch's chips, zeros for filling."""
    out = buffers.empty((len(chips), len(rows.columns)), "float32")
    out[~real] = 0
    out[real] = rows.rows(chips[real])
    return out


def _places(epoch: Epoch, loaded: Loaded, span: tuple[int, int]) -> Iterator[_Place]:
    """Chips of a group that lie in a span, in the order of the epoch."""
    group = loaded.group
    start, stop = (min(max(at - group.first, 0), group.chips) for at in span)
    chosen = epoch.order(group)[start:stop]
    counts = np.array([len(block.chips) for block in loaded.blocks])
    ends = counts.cumsum()
    blocks = np.searchsorted(ends, chosen, side="right")
    places = chosen - (ends - counts)[blocks]
    inside = zip(blocks.tolist(), places.tolist(), strict=True)
    return zip(chosen.tolist(), inside, strict=True)
