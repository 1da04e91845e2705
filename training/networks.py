"""Networks put together: from stored values to the units of the target, and the mean of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cube.errors import SpecError
from cube.spec import CubeSpec, StackSpec
from training.samples import SampleSpec
from training.statistics import Moments
from training.targets import Target

if TYPE_CHECKING:
    import keras


def mean_of(members: Sequence[keras.Model]) -> keras.Model:
    """One model whose output is the mean of several with the same inputs."""
    import keras

    if len(members) == 1:
        return members[0]
    inputs = {
        name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=name)
        for name, tensor in members[0].input.items()
    }
    outputs = []
    for number, member in enumerate(members, start=1):
        member.name = f"member_{number}"
        outputs.append(member(inputs))
    # float16 of a mixed precision ends at 65504, and targets do not.
    mean = keras.layers.Average(name="mean", dtype="float32")
    return keras.Model(inputs, mean(outputs), name="quadrat")


def beyond_maps(spec: CubeSpec, sample: SampleSpec) -> list[str]:
    """What of a sample is more than one image in and one map of numbers out, in words."""
    target, timing = sample.target, sample.timings[0]
    if not isinstance(target, Target):
        return ["no layer as its target"]
    labels = target.channels(len(sample.times_of(spec, target.layer, timing)))
    images = max(len(sample.times_of(spec, stack.stack, timing)) for stack in sample.inputs)
    found = {
        "classes": target.transform == "classes",
        "one label a window": target.over != "pixels",
        f"labels of {labels} periods": labels > 1,
        f"images of {images} periods": images > 1,
    }
    return [words for words, there in found.items() if there]


def check_map(spec: CubeSpec, sample: SampleSpec) -> None:
    """Refuse a sample for which no network can be put together.

    Raises:
        SpecError: It is not of one image and one map of numbers.
    """
    if beyond := beyond_maps(spec, sample):
        raise SpecError(
            f"A network is put together from one image to one map of numbers. The sample has "
            f"{', '.join(beyond)}; build a model of your own and fit it to a ChipStream."
        )


def assemble(
    spec: CubeSpec, sample: SampleSpec, moments: dict[str, Moments], core: keras.Model
) -> keras.Model:
    """A network from stored values to the units of the target.

    Inputs are the sample's stacks by name, in their stored dtypes; decoding,
    scaling and the target's own scale are layers of the model.

    Raises:
        SpecError: See :func:`check_map`.
    """
    check_map(spec, sample)
    import keras

    from training.layers import Destandardise, Standardise

    side = core.input_shape[1:3]
    inputs, scaled = {}, []
    for wanted in sample.inputs:
        stack: StackSpec = spec.stack(wanted.stack)
        inputs[stack.name] = keras.Input(
            (*side, len(wanted.bands)), dtype=stack.dtype, name=stack.name
        )
        scaled.append(
            Standardise(
                mean=moments[stack.name].mean.tolist(),
                std=moments[stack.name].std.tolist(),
                nodata=None if stack.storage.kind == "f" else int(stack.fill),
                scale=stack.scale,
                offset=stack.offset,
                name=f"standardise_{stack.name}",
            )(inputs[stack.name])
        )
    chips = keras.layers.Concatenate(name="bands")(scaled) if len(scaled) > 1 else scaled[0]
    label = moments["label"]
    scale = Destandardise(mean=label.mean[0], std=label.std[0], name="target")
    return keras.Model(inputs, scale(core(chips)), name="quadrat")
