"""Which periods a chip is made of: those of its inputs and those of its label, as declared rules.

A label of 2010 may be paired with an image of 2000, two images with a change, a sequence with the
label at its end. Each pairing is a :class:`Timing`; a sample lists those that it takes, and every
window gives one chip for each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, Self, get_args

from cube.errors import SpecError
from cube.spec import CubeSpec

Ends = Literal["both", "first", "last"]
OfSequence = Literal["all", "first", "last"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Periods of one chip.

    Attributes:
        label: Periods of the label, in order; none for a static label.
        inputs: Periods of the stacks that vary with time, in order; none if no stack does.
    """

    label: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("label", "inputs"):
            object.__setattr__(self, name, listed(getattr(self, name)))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"label": list(self.label), "inputs": list(self.inputs)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`."""
        return cls(label=tuple(data["label"]), inputs=tuple(data["inputs"]))

    def __str__(self) -> str:
        label, inputs = ("+".join(part) for part in (self.label, self.inputs))
        return f"{inputs or 'static'} → {label or 'static'}"


def same(periods: Iterable[str]) -> tuple[Timing, ...]:
    """Inputs and label of the same period, one chip of every window for each."""
    return tuple(Timing(label=(period,), inputs=(period,)) for period in listed(periods))


def pairs(of: Iterable[Sequence[str]], *, label: Ends = "both") -> tuple[Timing, ...]:
    """Inputs of two periods each, as a change needs them.

    Args:
        of: Pairs of first and last period.
        label: The label is of both periods, or of the first or the last alone.

    Raises:
        SpecError: A pair has not two periods; or ``label`` is none of these.
    """
    _check_choice("label", label, get_args(Ends))
    each = [listed(two) for two in of]
    wrong = [two for two in each if len(two) != 2]
    if wrong:
        raise SpecError(f"A pair has a first and a last period. Received {wrong[0]!r}.")
    chosen = {"both": slice(None), "first": slice(1), "last": slice(1, None)}[label]
    return tuple(Timing(label=two[chosen], inputs=two) for two in each)


def sequence(inputs: Iterable[str], label: str | Sequence[str] | None = None) -> tuple[Timing, ...]:
    """One chip a window, with the inputs of all periods.

    Args:
        inputs: Periods in order.
        label: Periods of the label; None for a static one.
    """
    return (Timing(label=() if label is None else listed(label), inputs=listed(inputs)),)


def sliding(periods: Iterable[str], length: int, label: OfSequence = "last") -> tuple[Timing, ...]:
    """Every run of so many consecutive periods.

    Args:
        periods: Periods in order.
        length: Periods of one chip, at least 1.
        label: The label is of the first or the last period of the run, or of all.

    Raises:
        SpecError: There are fewer periods than that; or ``label`` is none of these.
    """
    _check_choice("label", label, get_args(OfSequence))
    known = listed(periods)
    if not 1 <= length <= len(known):
        raise SpecError(
            f"A run has from 1 to {len(known)} periods, as many as there are. Received {length}."
        )
    chosen = {"all": slice(None), "first": slice(1), "last": slice(-1, None)}[label]
    runs = (known[i : i + length] for i in range(len(known) - length + 1))
    return tuple(Timing(label=run[chosen], inputs=run) for run in runs)


def mapped(inputs: Mapping[str, str | Sequence[str]]) -> tuple[Timing, ...]:
    """An explicit map of label period to the input period, or periods."""
    return tuple(Timing(label=(k,), inputs=listed(v)) for k, v in inputs.items())


def nearest(
    spec: CubeSpec, labels: Iterable[str], inputs: Iterable[str], *, within_days: float
) -> tuple[Timing, ...]:
    """For each label period the input period whose middle is nearest in time.

    Args:
        spec: The cube, whose calendar says when periods are.
        labels: Periods of the label.
        inputs: Periods to choose from; of two that are as near, the earlier is taken.
        within_days: How far apart the two middles may be.

    Raises:
        SpecError: The calendar has no such period; or none is so near.
    """
    choices = sorted((_middle(spec, period), period) for period in listed(inputs))
    if not choices:
        raise SpecError("Nearest periods need input periods to choose from. Received none.")
    found = []
    for label in listed(labels):
        middle = _middle(spec, label)
        days, period = min((abs(there - middle), there, name) for there, name in choices)[::2]
        if not days <= within_days:  # also if that is NaN
            raise SpecError(
                f"Label period {label!r} has no input period within {within_days:g} days. The "
                f"nearest is {period!r}, {days:g} days away; leave that label out, or allow more."
            )
        found.append(Timing(label=(label,), inputs=(period,)))
    return tuple(found)


def _middle(spec: CubeSpec, label: str) -> float:
    """Middle of a period as a day number; periods are half-open."""
    period = spec.calendar[spec.time_index(label)]
    ends = (date.fromisoformat(day).toordinal() for day in (period.start, period.end))
    return sum(ends) / 2


def listed(periods: str | Iterable[str]) -> tuple[str, ...]:
    """Periods in their order; one may stand for a list of one.

    Raises:
        SpecError: They are no names.
    """
    if isinstance(periods, str):
        return (periods,)
    given: object = periods
    found = tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(isinstance(period, str) for period in found):
        raise SpecError(f"Periods are named as in the calendar, e.g. '2010'. Received {periods!r}.")
    return tuple(str(period) for period in found)


def _check_choice(name: str, given: object, choices: Sequence[str]) -> None:
    if given not in choices:
        raise SpecError(f"{name} is one of {', '.join(choices)}. Received {given!r}.")
