"""An augmentation as a layer: every stack, date, label and weight of a chip changed as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from cube.errors import SpecError
from cube.spec import CubeSpec
from training.augmentation import placement
from training.augmentation.steps import Move, Radiometric, Step, step_to_dict, steps_of
from training.augmentation.storing import filled
from training.layers import observed
from training.packing import Packing, packings
from training.samples import SampleSpec

Triple = tuple[Any, Any, Any]


@keras.saving.register_keras_serializable(package="quadrat")
class Augmentation(keras.layers.Layer):
    """Random changes of the chips of a batch, another for each chip, on the device.

    Moves are composed, and applied at once to every stack at every date, to the label and to the
    weight: image and label stay paired, and two dates never move apart. Stored values are moved to
    the bit where all moves are exact, and else interpolated among observed pixels alone; labels
    and weights always come from the nearest pixel. What comes from outside a chip, and what becomes
    nodata among its neighbours, has a label of 0 and a weight of 0. Then radiometric steps change
    observed pixels, in their order.

    Inputs that are no stacks, labels and weights of whole windows, pass as they are.

    Args:
        steps: What may happen, or the dicts of it.
        stacks: Packing of every input stack, by name.
        seed: Of the draws that the layer makes itself, where it is given none.

    Attributes:
        count: Uniform numbers that a chip needs.

    Raises:
        SpecError: A step cannot be used on these stacks.
    """

    def __init__(
        self,
        steps: Iterable[Step | Mapping[str, Any]],
        *,
        stacks: Mapping[str, Packing | Mapping[str, Any]],
        seed: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.autocast = False
        self.built = True
        self.steps = steps_of(steps)
        self.stacks = {
            name: Packing(**given) if isinstance(given, Mapping) else given
            for name, given in stacks.items()
        }
        _check_dtypes(self.stacks)
        self.seed = int(seed)
        self.counts = [step.count(self.stacks) for step in self.steps]
        self.generator = keras.random.SeedGenerator(self.seed)

    @classmethod
    def of(cls, steps: Iterable[Step], spec: CubeSpec, sample: SampleSpec, *, seed: int) -> Self:
        """Of the inputs of a sample, as the cube packs them."""
        return cls(steps, stacks=packings(spec, sample), seed=seed)

    @property
    def count(self) -> int:
        """Uniform numbers that a chip needs."""
        return sum(self.counts)

    def call(self, batch: Triple, draws: Any | None = None) -> Triple:
        """Chips changed.

        Args:
            batch: Inputs, label and weight as a stream yields them: stacks
                (batch, [time,] y, x, band) by name, in their stored dtype, among other inputs
                (batch, column); the label (batch, y, x, channel) or (batch, channel); the weight
                (batch, y, x) or (batch,).
            draws: Uniform numbers in [0, 1), float32 (batch, count), as
                :func:`training.augmentation.chip_draws` gives them; by default the layer draws.

        Returns:
            The same, of the same shapes and dtypes.

        Raises:
            SpecError: A stack is lacking, is no square, or has other bands than it should.
        """
        inputs, label, weight = batch
        self._check(inputs, label, weight)
        arrays = {name: inputs[name] for name in self.stacks}
        if draws is None:
            like = ops.shape(next(iter(arrays.values())))
            draws = keras.random.uniform((like[0], self.count), seed=self.generator)
        shares = list(zip(self.steps, self._shares(draws), strict=True))
        arrays, label, weight = self._moved(arrays, label, weight, shares)
        for step, share in shares:
            if isinstance(step, Radiometric):
                arrays = step.applied(arrays, share, stacks=self.stacks)
        return {**inputs, **arrays}, label, weight

    def compute_output_spec(self, batch: Triple, draws: Any | None = None) -> Triple:
        """Shapes and dtypes as they came."""
        del draws
        return keras.tree.map_structure(
            lambda t: None if t is None else keras.KerasTensor(t.shape, dtype=t.dtype), batch
        )

    def get_config(self) -> dict[str, Any]:
        """Everything the constructor takes."""
        return {
            **super().get_config(),
            "steps": [step_to_dict(step) for step in self.steps],
            "stacks": {name: packing.to_dict() for name, packing in self.stacks.items()},
            "seed": self.seed,
        }

    def _shares(self, draws: Any) -> list[Any]:
        """Each step's numbers, (batch, its count)."""
        ends = np.cumsum(self.counts).tolist()
        return [draws[:, end - count : end] for end, count in zip(ends, self.counts, strict=True)]

    def _moved(
        self, arrays: dict[str, Any], label: Any, weight: Any, shares: list[tuple[Step, Any]]
    ) -> tuple[dict[str, Any], Any, Any]:
        moves = [(step, share) for step, share in shares if isinstance(step, Move)]
        if not moves:
            return arrays, label, weight
        side = next(iter(arrays.values())).shape[-2]
        placed = reduce(
            lambda before, after: before.then(after),
            [step.placement(share, side=side) for step, share in moves],
        )
        whole = all(step.whole for step, _ in moves)
        exact = all(step.exact for step, _ in moves)
        sources = placed.sources(side)  # which costs a compiled step nothing if it is not used

        def moved(values: Any, outside: Any) -> Any:
            if whole:
                return placement.symmetrical(values, placed)
            return placement.nearest(values, sources, outside)

        before = self._observed(arrays)
        for name, packing in self.stacks.items():
            if exact:
                arrays[name] = moved(arrays[name], filled(packing))
            else:
                arrays[name] = placement.interpolated(arrays[name], sources, packing)
        if _is_map(label):
            label = moved(label, ops.cast(0, label.dtype))
            weight = moved(ops.expand_dims(weight, -1), ops.cast(0, weight.dtype))[..., 0]
            if not exact:
                # The nearest pixel may have been observed where most of a mean was not.
                was = moved(ops.expand_dims(before, -1), ops.cast(False, "bool"))[..., 0]
                lost = ops.logical_and(was, ops.logical_not(self._observed(arrays)))
                label = ops.where(lost[..., None], ops.zeros_like(label), label)
                weight = ops.where(lost, ops.zeros_like(weight), weight)
        return arrays, label, weight

    def _observed(self, arrays: dict[str, Any]) -> Any:
        """Where every stack was observed, in every band at every date; bool (batch, y, x)."""
        found = []
        for name, packing in self.stacks.items():
            seen = ops.all(observed(arrays[name], packing.nodata), axis=-1)
            found.append(seen if len(seen.shape) == 3 else ops.all(seen, axis=1))
        return reduce(ops.logical_and, found)

    def _check(self, inputs: Any, label: Any, weight: Any) -> None:
        if not isinstance(inputs, Mapping):
            raise SpecError(
                f"An augmentation expects inputs by name. Received {type(inputs).__name__}."
            )
        if lacking := sorted(set(self.stacks) - set(inputs)):
            raise SpecError(
                f"The augmentation expects the inputs {', '.join(self.stacks)}. The batch lacks "
                f"{', '.join(lacking)}."
            )
        if unknown := sorted(
            name for name in set(inputs) - set(self.stacks) if len(inputs[name].shape) > 2
        ):
            raise SpecError(
                f"The augmentation knows no packing of {', '.join(unknown)}; without it they "
                f"would not move with the others."
            )
        for name, packing in self.stacks.items():
            _check_stack(name, inputs[name], packing)
        if _is_map(label) and (weight is None or len(weight.shape) != 3):
            raise SpecError(
                "A label of every pixel needs a weight of every pixel, (batch, y, x), or what "
                "comes in from outside would count."
            )
        sides = {inputs[name].shape[-2] for name in self.stacks}
        sides |= {label.shape[1], label.shape[2]} if _is_map(label) else set()
        if len(sides) > 1:
            raise SpecError(
                f"Stacks and label of a batch are of one size. Received sides of "
                f"{', '.join(map(str, sorted(sides)))} pixels."
            )


def _is_map(label: Any) -> bool:
    return label is not None and len(label.shape) == 4


def _check_dtypes(stacks: Mapping[str, Packing]) -> None:
    if wide := [name for name, packing in stacks.items() if packing.dtype == "uint64"]:
        raise SpecError(
            f"Keras cuts uint64 down to 32 bits; store {', '.join(wide)} as int64 or narrower."
        )


def _check_stack(name: str, stored: Any, packing: Packing) -> None:
    shape, dtype = tuple(stored.shape), keras.backend.standardize_dtype(stored.dtype)
    if len(shape) not in (4, 5) or shape[-2] != shape[-3] or shape[-1] != packing.bands:
        raise SpecError(
            f"{name!r} must be (batch, [time,] y, x, band), square, of {packing.bands} bands. "
            f"Received {shape}."
        )
    if dtype != packing.dtype:
        raise SpecError(f"{name!r} must come as it is stored, {packing.dtype}. Received {dtype}.")
