"""Places to folds and parts, by rules."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from cube.errors import SplitError
from training.splits.assigning import assign
from training.splits.places import PlaceFold, Places, PlaceSplit
from training.splits.rules import PARTS, PlaceRules, codes_of, labels_of

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Parts = tuple[IntArray, IntArray]
"""Numbers of the places that watch, and of those that are scored."""


def divide(places: Places, rules: PlaceRules) -> PlaceSplit:
    """Split windows by whole places.

    Args:
        places: Place of every window.
        rules: How many parts of which size; balance, classes, buffer and seed.

    Raises:
        SplitError: There are fewer places than parts; a buffer leaves a part without windows; a
            part lacks a class; or a label does not fit the windows.
    """
    buffer_px = rules.buffer(places.windows)
    loads = place_loads(places, rules)
    folds = tuple(
        PlaceFold.of(
            places.windows,
            places.of_window,
            fold=number,
            validation=validation,
            test=test,
            buffer_px=buffer_px,
        )
        for number, (validation, test) in enumerate(_parts(places, loads, rules))
    )
    split = PlaceSplit(
        kind=places.kind,
        windows=places.windows,
        buffer_px=buffer_px,
        place=places.of_window,
        names=places.names,
        folds=folds,
        seed=rules.seed,
        facts={**places.facts, **rules.to_dict()},
    )
    check_filled(split, places.advice)
    for name in ("stratify", "classes"):
        labels = getattr(rules, name)
        if labels is not None:
            _check_classes(split, labels, name)
    return split


def place_loads(places: Places, rules: PlaceRules) -> FloatArray:
    """How much each place holds of all, and of each class; float64 (place, 1 + class)."""
    inside = places.of_window >= 0
    place, amount = places.of_window[inside], _amounts(places, rules)[inside]
    columns = [np.bincount(place, amount, minlength=places.count)]
    if rules.stratify is not None:
        codes, names = codes_of(places.windows, rules.stratify, "stratify")
        for code in range(len(names)):
            mine = amount * (codes[inside] == code)
            columns.append(np.bincount(place, mine, minlength=places.count))
    return np.stack(columns, axis=1)


def _amounts(places: Places, rules: PlaceRules) -> FloatArray:
    """What shares are of, float64 (window,)."""
    if rules.label is not None:
        given = labels_of(places.windows, rules.label, "label")
        if given.dtype.kind not in "biuf":
            raise SplitError(f"label holds amounts, numbers. Received {given.dtype}.")
        amount = given.astype("float64")
        inside = amount[places.of_window >= 0]
        if not (np.isfinite(inside) & (inside >= 0)).all() or not inside.sum() > 0:
            wrong = int((~(np.isfinite(inside) & (inside >= 0))).sum())
            raise SplitError(
                f"label must be finite, 0 or more, with a sum above 0. {wrong} of {len(inside)} "
                f"windows have another value; the sum is {np.nansum(inside):g}."
            )
        return amount
    if rules.balance == "places":
        size = np.bincount(places.of_window[places.of_window >= 0])
        return np.where(places.of_window >= 0, 1 / size[places.of_window], 0.0)
    return np.ones(len(places.of_window))


def _parts(places: Places, loads: FloatArray, rules: PlaceRules) -> Iterator[Parts]:
    if rules.fractions is not None:
        yield _by_fractions(places, loads, rules)
    elif rules.leave_out is not None:
        yield _watched(np.array(_named(places, rules.leave_out)), loads, rules, fold=0)
    else:
        number = _fold_numbers(places, loads, rules)
        for fold in range(int(number.max()) + 1):
            yield _watched(np.flatnonzero(number == fold), loads, rules, fold=fold)


def _by_fractions(places: Places, loads: FloatArray, rules: PlaceRules) -> Parts:
    wanted = {part: f for part, f in (rules.fractions or {}).items() if f}
    _check_enough(places, len(wanted), "parts")
    number = assign(loads, list(wanted.values()), seed=[rules.seed])
    part = {name: np.flatnonzero(number == k) for k, name in enumerate(wanted)}
    return part.get("validation", np.empty(0, dtype="int64")), part["test"]


def _fold_numbers(places: Places, loads: FloatArray, rules: PlaceRules) -> IntArray:
    """Fold that tests each place, int64 (place,)."""
    folds = places.count if rules.folds == "each" else int(rules.folds or 0)
    _check_enough(places, max(folds, 2), "folds")
    if rules.folds == "each":
        return np.arange(folds)
    return assign(loads, np.full(folds, 1 / folds), seed=[rules.seed])


def _watched(test: IntArray, loads: FloatArray, rules: PlaceRules, *, fold: int) -> Parts:
    """Draw the places that decide when to stop from those that are not tested."""
    rest = np.setdiff1d(np.arange(len(loads)), test)
    if not rules.watched:
        return np.empty(0, dtype="int64"), test
    if len(rest) < 2:
        raise SplitError(
            f"Fold {fold + 1} leaves {len(rest)} places, too few to train and to validate with. "
            f"Give validation_share=0, or smaller places."
        )
    shares = [1 - rules.watched, rules.watched]
    number = assign(loads[rest], shares, seed=[rules.seed, fold + 1])
    return rest[number == 1], test


def _check_enough(places: Places, parts: int, what: str) -> None:
    if places.count < parts:
        raise SplitError(
            f"{parts} {what} need as many places. There are {places.count} ({places.kind}); take "
            f"fewer {what}, or smaller places."
        )


def _named(places: Places, names: tuple[str, ...]) -> list[int]:
    if not places.names:
        raise SplitError(
            f"leave_out takes names, and places {places.kind} have numbers alone; give fractions "
            f"or folds."
        )
    unknown = [name for name in names if name not in places.names]
    if unknown or not names:
        raise SplitError(
            f"leave_out names places with windows of their own: {', '.join(places.names)}. "
            f"Received {', '.join(unknown) or 'none'}."
        )
    return [places.names.index(name) for name in names]


def check_filled(split: PlaceSplit, advice: str) -> None:
    """Refuse a split with a part that has places but no window.

    Raises:
        SplitError: The message names the fold and the part.
    """
    for part in split.folds:
        wanted = [name for name in PARTS if name != "validation" or len(part.validation_places)]
        empty = [name for name in wanted if not part.counts[name]]
        if empty:
            raise SplitError(
                f"Fold {part.fold + 1}: no window is left for {' and '.join(empty)}; the buffer of "
                f"{split.buffer_px} px takes {part.counts['lost']}. {advice}"
            )


def _check_classes(split: PlaceSplit, labels: npt.ArrayLike, name: str) -> None:
    """Refuse a part without a class that exists."""
    codes, names = codes_of(split.windows, labels, name)
    if not names:
        raise SplitError(f"{name} names the class of no window; leave it out, or name some.")
    for part in split.folds:
        for role in PARTS:
            ids = getattr(part, f"{role}_windows")
            lacks = np.setdiff1d(np.unique(codes[codes >= 0]), codes[ids])
            if len(ids) and len(lacks):
                _raise_lacking(
                    split, codes == lacks[0], f"fold {part.fold + 1}, {role}", names[lacks[0]]
                )


def _raise_lacking(split: PlaceSplit, holds: npt.NDArray[np.bool_], part: str, name: str) -> None:
    places = np.unique(split.place[holds & (split.place >= 0)])
    raise SplitError(
        f"A part without a class: {part}, has no window of class {name!r}. "
        f"{int(holds.sum())} of {len(holds)} windows have it, in {len(places)} places. Take fewer "
        f"folds, smaller places or buffer, or merge classes."
    )
