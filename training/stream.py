"""Chips from the cube to the model: a block is decoded once and cut many times.

xbatcher cuts the chips of a block that lies in memory, channels last; chips of
several blocks are shuffled together and leave as whole batches of one shape.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from xbatcher import BatchGenerator

from cube import nodata, urls
from cube.coverage import Coverage, Shares
from cube.errors import SplitError
from cube.reading import read_bands
from cube.regions import Region
from cube.spec import CubeSpec
from cube.template import read_spec
from cube.windows import Windows
from training.blocks import Block, lattices, plan_blocks
from training.prefetching import prefetched
from training.samples import SampleSpec
from training.targets import pixel_km2

if TYPE_CHECKING:
    import tensorflow as tf

Arrays = dict[str, npt.NDArray[Any]]

WHOLE = 0.999
"""Covered share from which a pixel counts as covered: shares are float32 when computed."""

LABEL = "label"
"""Key of the label and its weight among the arrays of a block, two channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """Which polygons a model learns from: each counts the same, whatever its size.

    Attributes:
        coverage: Shares of the polygons.
        polygons: Those that count; the pixels of all others weigh nothing.
    """

    coverage: Coverage
    polygons: npt.NDArray[np.int64]

    def weights(self, rows: tuple[int, int], cols: tuple[int, int]) -> npt.NDArray[np.float32]:
        """Weight of every pixel of a box, float32 (y, x); about 1 on average, 0 outside.

        A pixel that reaches beyond all polygons weighs nothing: it holds the
        people of a part of it, so its density would come out too low.
        """
        counted = _counted_pixels(self.coverage)[self.polygons]
        per_polygon = np.zeros(self.coverage.polygons + 1, "float32")
        per_polygon[self.polygons] = counted.mean() / np.maximum(counted, 1)
        # An owner of -1, no polygon, reads the last place, which stays 0.
        return per_polygon[_counted_owner(self.coverage.shares(rows, cols))]


def _counted_owner(shares: Shares) -> npt.NDArray[np.int32]:
    """Polygon that a pixel counts for, -1 for none; int32 (y, x)."""
    return np.where(shares.covered() > WHOLE, shares.owner(), np.int32(-1))


@lru_cache(maxsize=16)
def _counted_pixels(coverage: Coverage) -> npt.NDArray[np.int64]:
    """Number of pixels that count for each polygon, int64 (polygon,)."""
    total = np.zeros(coverage.polygons, "int64")
    for tile in coverage.tiles():
        owner = _counted_owner(coverage.shares(tile.rows, tile.cols))
        total += np.bincount(owner[owner >= 0], minlength=coverage.polygons)
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Chips of one shape; the last batch of an epoch is filled up with zeros.

    Attributes:
        inputs: Stack name to stored values, (batch, y, x, band), the stack's dtype.
        label: What the model learns, float32 (batch, y, x, 1); 0 where not observed.
        weight: float32 (batch, y, x); 0 where the label does not count.
        chip: Window ids, int64 (batch,); -1 for filling.
    """

    inputs: Arrays
    label: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    chip: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """How chips are put together.

    Attributes:
        batch: Chips in a batch.
        seed: Of the order of chips and of the augmentation.
        shuffle: False keeps the order of the blocks.
        augment: True turns and mirrors each batch at random (the 8 symmetries
            of the square), image, label and weight together.
        block_px: Side of a super-block of window origins, in pixels.
        blocks_in_flight: Blocks whose chips are shuffled together.
    """

    batch: int = 32
    seed: int
    shuffle: bool = True
    augment: bool = False
    block_px: int = 256
    blocks_in_flight: int = 4

    def __post_init__(self) -> None:
        for name in ("batch", "block_px", "blocks_in_flight"):
            if getattr(self, name) < 1:
                raise SplitError(f"{name} must be at least 1. Received {getattr(self, name)}.")


class ChipStream:
    """Chips of chosen windows, epoch after epoch.

    Every epoch yields every window exactly once, in an order that depends on
    the seed, the epoch and the windows alone.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        sample: SampleSpec,
        windows: Windows,
        ids: npt.ArrayLike,
        spec: StreamSpec,
        *,
        supervision: Supervision | None = None,
    ) -> None:
        """Plan the stream; reads no pixels.

        Args:
            url: The cube.
            sample: What a chip holds.
            windows: What ids refer to.
            ids: Windows to stream.
            spec: Batches, order and augmentation.
            supervision: Weights of labels; by default every observed label counts 1.

        Raises:
            SplitError: There are no windows, or some are named twice or are not there.
            SpecError: The cube lacks what the sample needs.
        """
        self.url = urls.normalise(url)
        self.cube = read_spec(self.url)
        self.sample = sample
        self.windows = windows
        self.ids = np.sort(np.asarray(ids, dtype="int64"))
        self.spec = spec
        self.supervision = supervision
        sample.check(self.cube)
        if not len(self.ids) or len(np.unique(self.ids)) != len(self.ids):
            raise SplitError(f"A stream needs windows, once each. Received {len(self.ids)} ids.")
        if self.ids[0] < 0 or self.ids[-1] >= len(windows):
            raise SplitError(
                f"Windows are numbered from 0 to {len(windows) - 1}. Received {self.ids[0]} to "
                f"{self.ids[-1]}."
            )
        if windows.shape != tuple(self.cube.grid.shape):
            raise SplitError(
                f"Windows lie on a grid of {windows.shape}, the cube on "
                f"{tuple(self.cube.grid.shape)}."
            )
        self._pixel_km2 = pixel_km2(self.cube.grid) if sample.target.per == "km2" else 1.0
        self.blocks = plan_blocks(windows, self.ids, block_px=spec.block_px)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return math.ceil(len(self.ids) / self.spec.batch)

    def epoch(self, number: int = 0) -> Iterator[Batch]:
        """Batches of one epoch.

        Args:
            number: Which epoch, from 0; decides the order together with the seed.
        """
        rng = np.random.default_rng([self.spec.seed, number])
        order = rng.permutation(len(self.blocks)) if self.spec.shuffle else range(len(self.blocks))
        chosen = [self.blocks[i] for i in order]
        left: Arrays = {}
        for start in range(0, len(chosen), self.spec.blocks_in_flight):
            group = [self._cut(b) for b in chosen[start : start + self.spec.blocks_in_flight]]
            chips = _joined([left, *group] if left else group)
            if self.spec.shuffle:
                chips = _taken(chips, rng.permutation(len(chips["chip"])))
            last = start + self.spec.blocks_in_flight >= len(chosen)
            whole = len(chips["chip"]) // self.spec.batch * self.spec.batch
            for at in range(0, whole, self.spec.batch):
                yield self._batch(_taken(chips, slice(at, at + self.spec.batch)), rng)
            left = _taken(chips, slice(whole, None))
            if last and len(left["chip"]):
                yield self._batch(_filled(left, self.spec.batch), rng)

    def tensorflow(self, *, epochs: int) -> tf.data.Dataset:
        """The stream as a ``tf.data.Dataset`` of (inputs, label, weight), static shapes.

        Args:
            epochs: How many epochs follow one another.
        """
        import tensorflow as tf

        def batches() -> Iterator[tuple[Arrays, npt.NDArray[Any], npt.NDArray[Any]]]:
            # Not on TensorFlow's own threads: their stacks are too small for PROJ and GDAL.
            every = chain.from_iterable(self.epoch(number) for number in range(epochs))
            for batch in prefetched(every, depth=4):
                yield batch.inputs, batch.label, batch.weight

        side = (self.spec.batch, self.windows.size, self.windows.size)
        inputs = {
            s.stack: tf.TensorSpec((*side, len(s.bands)), self.cube.stack(s.stack).dtype)
            for s in self.sample.inputs
        }
        signature = (inputs, tf.TensorSpec((*side, 1), "float32"), tf.TensorSpec(side, "float32"))
        dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
        return dataset.apply(tf.data.experimental.assert_cardinality(epochs * len(self))).prefetch(
            2
        )

    def _cut(self, block: Block) -> Arrays:
        """All chips of a block: name to (chip, y, x, channel), and ``chip`` ids."""
        chips: Arrays = {
            name: cut_block(values, self.windows, block)
            for name, values in self._decoded(block).items()
        }
        chips["chip"] = block.ids
        return chips

    def _decoded(self, block: Block) -> Arrays:
        """Channels-last arrays of a block, read once: each stack, and the label with its weight."""
        arrays = {
            s.stack: read_channels_last(
                self.url, self.cube, self.sample, s.stack, rows=block.rows, cols=block.cols
            )
            for s in self.sample.inputs
        }
        arrays[LABEL] = self._label(block, arrays)
        return arrays

    def _label(self, block: Block, stacks: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
        layer = self.cube.layer(self.sample.target.layer)
        region = Region(
            time=self.sample.time_of(self.cube, layer.name), rows=block.rows, cols=block.cols
        )
        stored = read_bands(self.url, layer.name, region, spec=self.cube)
        label = nodata.decode(stored, layer)
        learned = self.sample.target.forward(label, pixel_km2=self._pixel_km2)
        known = ~np.isnan(learned)
        for name, values in stacks.items():
            known &= nodata.valid(values, self.cube.stack(name)).all(axis=-1)
        weight = known.astype("float32")
        if self.supervision is not None:
            weight *= self.supervision.weights(block.rows, block.cols)
        return np.stack([np.where(known, learned, 0.0), weight], axis=-1).astype("float32")

    def _batch(self, chips: Arrays, rng: np.random.Generator) -> Batch:
        turn = int(rng.integers(8)) if self.spec.augment else 0
        turned = {k: v if k == "chip" else dihedral(v, turn) for k, v in chips.items()}
        label = turned.pop(LABEL)
        return Batch(
            chip=turned.pop("chip"),
            label=np.ascontiguousarray(label[..., :1]),
            weight=np.ascontiguousarray(label[..., 1]),
            inputs=turned,
        )


def read_channels_last(
    url: str,
    spec: CubeSpec,
    sample: SampleSpec,
    stack: str,
    *,
    rows: tuple[int, int],
    cols: tuple[int, int],
) -> npt.NDArray[Any]:
    """Stored values of a sample's bands of one stack in a pixel box, (y, x, band)."""
    wanted = next(s for s in sample.inputs if s.stack == stack)
    region = Region(time=sample.time_of(spec, stack), rows=rows, cols=cols)
    bands = read_bands(url, stack, region, spec=spec, bands=wanted.bands)
    return np.ascontiguousarray(np.moveaxis(bands, 0, -1))


def cut_block(values: npt.NDArray[Any], windows: Windows, block: Block) -> npt.NDArray[Any]:
    """Chips of a block, cut by xbatcher.

    Args:
        values: The block, (y, x, channel).
        windows: What the block's ids refer to.
        block: Which windows.

    Returns:
        (chip, y, x, channel), in the order of ``block.ids``.
    """
    size, overlap = windows.size, windows.size - windows.stride
    array = xr.DataArray(values, dims=("y", "x", "channel"))
    out = np.empty((len(block.ids), size, size, values.shape[-1]), values.dtype)
    for lattice in lattices(windows, block):
        cutter = BatchGenerator(
            array.isel(y=slice(*lattice.rows), x=slice(*lattice.cols)),
            input_dims={"y": size, "x": size},
            input_overlap={"y": overlap, "x": overlap},
            preload_batch=False,
        )
        for number, place in zip(lattice.numbers, lattice.places, strict=True):
            out[place] = cutter[int(number)].values
    return out


def dihedral(chips: npt.NDArray[Any], turn: int) -> npt.NDArray[Any]:
    """One of the 8 symmetries of the square, of (chip, y, x, channel); 0 changes nothing."""
    turned = np.rot90(chips, turn % 4, axes=(1, 2))
    return np.ascontiguousarray(turned[:, ::-1] if turn >= 4 else turned)


def _joined(parts: list[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[-1]}


def _taken(chips: Arrays, which: Any) -> Arrays:
    return {name: values[which] for name, values in chips.items()}


def _filled(chips: Arrays, batch: int) -> Arrays:
    """Chips filled up to a whole batch: zeros that weigh nothing, with chip id -1."""
    lacking = batch - len(chips["chip"])
    filled = {
        name: np.pad(values, [(0, lacking)] + [(0, 0)] * (values.ndim - 1))
        for name, values in chips.items()
    }
    filled["chip"][batch - lacking :] = -1
    return filled
