"""From what the user says to what a stream is made of, checked."""

from __future__ import annotations

from cube import urls
from cube.errors import SpecError
from cube.objects import PARALLEL
from cube.spec import CubeSpec
from cube.threads import cores
from training.samples import SampleSpec
from training.stream.assembling import Recipe
from training.stream.budget import Budget
from training.stream.labels import Labeller
from training.stream.loading import Needed, Source
from training.stream.supervision import Supervision
from training.stream.tiles import Key
from training.targets import TableTarget, Target, pixel_km2


def source_of(
    url: str, cube: CubeSpec, sample: SampleSpec, supervision: Supervision | None
) -> Source:
    """Where the pixels of a sample come from, and what becomes of them."""
    target = sample.target
    labeller = None
    if isinstance(target, Target):
        labeller = Labeller(
            target=target,
            layer=cube.layer(target.layer),
            pixel_km2=pixel_km2(cube.grid) if target.per == "km2" else 1.0,
            supervision=supervision,
        )
    return Source(
        url=url,
        spec=cube,
        bands={stack.stack: stack.bands for stack in sample.inputs},
        timings=tuple(_needed(cube, sample, number) for number in range(len(sample.timings))),
        labeller=labeller,
    )


def _needed(cube: CubeSpec, sample: SampleSpec, number: int) -> Needed:
    timing, target = sample.timings[number], sample.target

    def keys(name: str) -> tuple[Key, ...]:
        return tuple((name, time) for time in sample.times_of(cube, name, timing))

    inputs = {stack.stack: keys(stack.stack) for stack in sample.inputs}
    return Needed(inputs=inputs, label=keys(target.layer) if isinstance(target, Target) else ())


def check_joined(recipe: Recipe, sample: SampleSpec, supervision: Supervision | None) -> None:
    """Refuse tables and weights that do not fit the target.

    Raises:
        SpecError: The message says which.
    """
    target = sample.target
    given = () if recipe.label is None else tuple(recipe.label.columns)
    wanted = target.columns if isinstance(target, TableTarget) else ()
    if given != wanted:
        raise SpecError(
            f"The target takes the columns {', '.join(wanted) or 'of no table'}; label= has "
            f"{', '.join(given) or 'none'}. Give the same columns to both, in the same order."
        )
    if supervision is not None and not (isinstance(target, Target) and target.over == "pixels"):
        raise SpecError("supervision= weighs the pixels of a map; this target is none.")
    if recipe.class_weights is not None and getattr(target, "transform", None) != "classes":
        raise SpecError("class_weights= are for a target with transform='classes'.")
    if recipe.weights is not None and target is None:
        raise SpecError("weights= weigh a label; this sample has no target.")
    taken = {*recipe.features} & {stack.stack for stack in sample.inputs}
    if taken:
        raise SpecError(f"Features and stacks need names of their own: {', '.join(taken)}.")


def tile_bytes(source: Source, side: int) -> int:
    """Bytes of a square of stored pixels while it is read: encoded, decoded, on its way to a block.

    Args:
        source: Where it comes from.
        side: Of the square, in pixels.
    """
    return 3 * side**2 * max(source.stored_bytes(key) for key in source.keys)


def unit_of(source: Source, budget: Budget) -> int:
    """Side of what is read at once, in pixels: a shard where memory holds one, or a chunk."""
    layout = source.spec.layout
    # Of larger shards too few would be read at the same time.
    small = layout.unit <= max(1024, layout.chunk)
    fits = tile_bytes(source, layout.unit) <= budget.decoding_bytes
    return layout.unit if small and fits else layout.chunk


def readers_of(source: Source, budget: Budget, *, wanted: int | None) -> int:
    """Threads that read: those wanted, or as many as help, but no more than memory holds."""
    # A folder is read as fast as it is decoded; an object store makes each request wait.
    many = wanted or (cores() if urls.is_folder(source.url) else PARALLEL)
    room = budget.decoding_bytes // tile_bytes(source, unit_of(source, budget))
    return max(1, min(many, room))
