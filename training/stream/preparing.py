"""From what the user says to what a stream is made of, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cube import urls
from cube.errors import SpecError, SplitError
from cube.objects import PARALLEL
from cube.spec import CubeSpec
from cube.threads import cores
from training.chips import Chips
from training.samples import SampleSpec
from training.stream.assembling import DRAWS, Recipe
from training.stream.budget import Budget
from training.stream.labels import Labeller
from training.stream.loading import Needed, Source
from training.stream.supervision import Supervision
from training.stream.tiles import Key
from training.tables import check_complete
from training.targets import TableTarget, Target, pixel_km2

_KINDS = {
    "sample": ("times_of", "a SampleSpec"),
    "windows": ("origins", "windows, such as cube.windows.Windows"),
    "spec": ("memory_bytes", "a StreamSpec"),
    "supervision": ("coverage", "a Supervision"),
    "label": ("rows", "a table joined to chips, such as by_chip() gives it"),
    "features": ("items", "a mapping of names to tables joined to chips"),
    "weights": ("of", "weights of chips, such as chip_weights() gives them"),
    "pixel_weights": (
        "of_classes",
        "weights of classes, such as training.pixel_weights() gives them",
    ),
    "sampling": ("draw", "a sampling, such as balanced() gives it"),
    "held_out": ("check", "a guard that checks windows"),
}
"""Arguments of a stream: what they must have, and how they are called."""

_REQUIRED = ("sample", "windows", "spec")


def check_kinds(**given: object) -> None:
    """Refuse arguments that are of another kind altogether.

    Raises:
        SpecError: The message says which.
    """
    for name, value in given.items():
        has, called = _KINDS[name]
        if not hasattr(value, has) and (value is not None or name in _REQUIRED):
            raise SpecError(f"{name}= takes {called}. Received {type(value).__name__}.")


def chip_ids(given: npt.ArrayLike, chips: Chips) -> npt.NDArray[np.int64]:
    """Chips to stream, ascending, int64 (n,).

    Raises:
        SplitError: They are no whole numbers, none at all, named twice or not there.
    """
    ids = whole_numbers(given, "Chips")
    # First, since a larger number would come out as another one.
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < len(chips):
        raise SplitError(
            f"Chips are numbered from 0 to {len(chips) - 1}. Received {ids.min()} to {ids.max()}."
        )
    found = np.sort(ids.astype("int64"))
    if not len(found):
        raise SplitError("A stream needs chips, once each. Received none.")
    again = found[1:][found[1:] == found[:-1]]
    if len(again):
        raise SplitError(
            f"A stream needs chips, once each. Of {len(found)} ids {len(again)} come again, first "
            f"{again[0]}; give np.unique(), and a sampling to draw chips several times."
        )
    return found


def whole_numbers(given: npt.ArrayLike, what: str) -> npt.NDArray[np.integer[Any]]:
    """Numbers of chips or windows, (n,), as they came.

    Raises:
        SplitError: They are no whole numbers.
    """
    ids = np.asarray(given)
    if ids.ndim != 1 or (len(ids) and ids.dtype.kind not in "iu"):
        raise SplitError(
            f"{what} are named by whole numbers (n,). Received {ids.dtype} of shape {ids.shape}; "
            f"of a mask, give np.flatnonzero()."
        )
    return ids


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
    """Refuse tables and weights that do not fit the target or the cube.

    Raises:
        SpecError: The message says which.
    """
    target = sample.target
    given = () if recipe.label is None else tuple(recipe.label.columns)
    wanted = target.columns if isinstance(target, TableTarget) else ()
    if given and not wanted:
        raise SpecError(
            f"label= is for a TableTarget. Received {', '.join(given)}, while the target takes the "
            f"columns of no table; leave label= out, or learn TableTarget(columns={given})."
        )
    if given != wanted:
        raise SpecError(
            f"The target takes the columns {', '.join(wanted)}; label= has "
            f"{', '.join(given) or 'none'}. Give the same columns to both, in the same order."
        )
    check_supervision(supervision, sample, recipe.source.spec)
    if recipe.pixel_weights is not None and getattr(target, "transform", None) != "classes":
        raise SpecError("pixel_weights= are for a target with transform='classes'.")
    if recipe.weights is not None and target is None:
        raise SpecError("weights= weigh a label; this sample has no target.")
    names = [*recipe.features, *(stack.stack for stack in sample.inputs)]
    names += [DRAWS] if recipe.draws else []
    taken = sorted({name for name in names if names.count(name) > 1})
    if taken:
        raise SpecError(f"Features, stacks and draws need names of their own: {', '.join(taken)}.")


def check_supervision(supervision: Supervision | None, sample: SampleSpec, cube: CubeSpec) -> None:
    """Refuse weights of pixels where no map is learned, or of another grid.

    Raises:
        SpecError: The message says which.
    """
    if supervision is None:
        return
    if not (isinstance(sample.target, Target) and sample.target.over == "pixels"):
        raise SpecError("supervision= weighs the pixels of a map; this target is none.")
    if supervision.coverage.grid != cube.grid:
        raise SpecError(
            "supervision= is of polygons over another grid than the cube's; build their coverage "
            "on this cube."
        )


def check_rows(recipe: Recipe, ids: npt.NDArray[np.int64]) -> None:
    """Refuse chips of which tables and weights do not say what they must.

    Raises:
        SplitError: Some lack a feature or a weight, or all of them a label.
    """
    for name, join in recipe.features.items():
        if not hasattr(join, "rows"):
            raise SpecError(
                f"features= has no table joined to chips under {name!r}. Received "
                f"{type(join).__name__}; join it with by_window(), by_block() or by_chip()."
            )
        check_complete(join, ids)
    if recipe.label is not None and not _any_known(recipe.label.rows(ids)):
        raise SplitError(
            f"The table of label= says nothing of any of the {len(ids)} chips; join it by another "
            f"key, or select chips that it names."
        )
    if recipe.weights is None:
        return
    weights = np.asarray(recipe.weights.of(ids))
    wrong = int((~np.isfinite(weights) | (weights < 0)).sum())
    if wrong or not weights.any():
        raise SplitError(
            f"Weights of chips are finite, 0 or more, and not all 0. {wrong} of {len(ids)} are "
            f"missing or negative; weigh the chips that are streamed."
        )


def _any_known(rows: npt.NDArray[Any]) -> bool:
    return bool(np.isfinite(rows).all(axis=1).any())


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
