"""What a chip holds: which bands, which label, and how their times are paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from cube.errors import SpecError
from cube.spec import CubeSpec
from training.targets import TableTarget, Target, target_from_dict
from training.timings import Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class InputStack:
    """Bands of one stack, by name, in the order that the model sees them."""

    stack: str
    bands: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", _listed(self.stack, self.bands))


def _listed(stack: str, bands: Any) -> tuple[str, ...]:
    listed = isinstance(bands, Sequence) and not isinstance(bands, str)
    if not listed or not bands or not all(isinstance(band, str) for band in bands):
        raise SpecError(f"Inputs from stack {stack!r} need a list of bands. Received {bands!r}.")
    return tuple(bands)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSpec:
    """One training sample as data.

    Attributes:
        inputs: Bands by stack; stacks in the order that the model sees them.
        target: What is learned; None for chips without labels.
        timings: Pairings of input and label periods, each once; every window
            gives one chip for each. All name as many periods.
    """

    inputs: tuple[InputStack, ...]
    target: Target | TableTarget | None
    timings: tuple[Timing, ...] = (Timing(),)

    def __post_init__(self) -> None:
        _check_each("inputs", self.inputs, InputStack)
        _check_each("timings", self.timings, Timing)
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "timings", tuple(self.timings))
        if self.target is not None and not isinstance(self.target, Target | TableTarget):
            raise SpecError(
                f"A target is a Target, a TableTarget or None. Received {self.target!r}."
            )
        names = [stack.stack for stack in self.inputs]
        if not names or len(set(names)) != len(names):
            raise SpecError(f"A sample needs each input stack once. Received {names}.")
        if not self.timings or len(set(self.timings)) != len(self.timings):
            raise SpecError(
                f"A sample needs timings, each once. Received "
                f"{', '.join(map(str, self.timings)) or 'none'}."
            )
        if len({(len(t.label), len(t.inputs)) for t in self.timings}) > 1:
            raise SpecError(
                f"Timings of one sample name as many periods each. Received "
                f"{', '.join(map(str, self.timings))}."
            )
        if isinstance(self.target, Target):
            self.target.check_periods(len(self.timings[0].label))

    @classmethod
    def of(
        cls,
        inputs: Mapping[str, Sequence[str]],
        target: Target | TableTarget | None,
        *,
        label_time: str | None = None,
        input_time: str | None = None,
        timings: Sequence[Timing] = (),
    ) -> Self:
        """The same from a mapping of stack name to band names.

        Args:
            inputs: Stack name to band names.
            target: See the class.
            label_time: Period of the label, where there is one timing only.
            input_time: Period of the inputs, where there is one timing only.
            timings: Pairings; instead of the two periods.

        Raises:
            SpecError: Both timings and periods are given; or see the class.
        """
        if not isinstance(inputs, Mapping):
            raise SpecError(f"inputs maps names of stacks to bands. Received {inputs!r}.")
        _check_each("timings", timings, Timing)
        if timings and (label_time is not None or input_time is not None):
            raise SpecError("Give timings=, or label_time= and input_time=, not both.")
        one = Timing(
            label=() if label_time is None else (label_time,),
            inputs=() if input_time is None else (input_time,),
        )
        stacks = tuple(InputStack(stack=name, bands=_listed(name, b)) for name, b in inputs.items())
        return cls(inputs=stacks, target=target, timings=tuple(timings) or (one,))

    @property
    def bands(self) -> int:
        """Number of bands in all."""
        return sum(len(stack.bands) for stack in self.inputs)

    @property
    def layer_target(self) -> Target:
        """The target, where it is a layer.

        Raises:
            SpecError: It is a table, or there is none.
        """
        if not isinstance(self.target, Target):
            raise SpecError(
                f"A target that is a layer was expected. Received {self.target or 'none'}."
            )
        return self.target

    @property
    def label_time(self) -> str | None:
        """Period of the label; None for a static one.

        Raises:
            SpecError: There are several.
        """
        return _only("label", [period for t in self.timings for period in t.label])

    @property
    def input_time(self) -> str | None:
        """Period of the inputs; None if none varies with time.

        Raises:
            SpecError: There are several.
        """
        return _only("input", [period for t in self.timings for period in t.inputs])

    def check(self, spec: CubeSpec) -> None:
        """Refuse a cube that lacks a band, the label or a period.

        Raises:
            SpecError: The message says what is missing.
        """
        for wanted in self.inputs:
            stack = spec.stack(wanted.stack)
            unknown = [band for band in wanted.bands if band not in stack.bands]
            if unknown:
                raise SpecError(
                    f"Stack {stack.name!r} has no band {', '.join(unknown)}. "
                    f"It has: {', '.join(stack.bands)}."
                )
            for timing in self.timings:
                self.times_of(spec, wanted.stack, timing)
        if isinstance(self.target, Target):
            spec.layer(self.target.layer)
            for timing in self.timings:
                self.times_of(spec, self.target.layer, timing)

    def times_of(self, spec: CubeSpec, name: str, timing: Timing) -> tuple[int | None, ...]:
        """Calendar indices at which a variable is read for one timing; (None,) for a static one.

        Raises:
            SpecError: It varies with time and the timing names no period, or an unknown one.
        """
        if spec.variable(name).static:
            return (None,)
        is_label = isinstance(self.target, Target) and name == self.target.layer
        periods = timing.label if is_label else timing.inputs
        if not periods:
            raise SpecError(f"{name!r} varies with time; say which period the sample takes.")
        return tuple(spec.time_index(period) for period in periods)

    def time_of(self, spec: CubeSpec, name: str) -> int | None:
        """The one calendar index at which a variable is read; None for a static one.

        Raises:
            SpecError: The sample reads it at several.
        """
        times = {t for timing in self.timings for t in self.times_of(spec, name, timing)}
        if len(times) > 1:
            raise SpecError(
                f"{name!r} is read at {len(times)} periods; one was expected. Take a sample of "
                f"one timing."
            )
        return times.pop()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; the inverse of :meth:`from_dict`."""
        return {
            "inputs": [{"stack": s.stack, "bands": list(s.bands)} for s in self.inputs],
            "target": None if self.target is None else self.target.to_dict(),
            "timings": [timing.to_dict() for timing in self.timings],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`; ``label_time`` and ``input_time`` may stand for timings.

        Raises:
            SpecError: A field is missing or impossible.
        """
        try:
            target = data["target"]
            given: dict[str, Any] = {
                "inputs": {s["stack"]: s["bands"] for s in data["inputs"]},
                "target": None if target is None else target_from_dict(target),
            }
            if "timings" in data:
                given["timings"] = [Timing.from_dict(timing) for timing in data["timings"]]
            else:
                given |= {"label_time": data["label_time"], "input_time": data["input_time"]}
            return cls.of(**given)
        except (KeyError, TypeError) as error:
            raise SpecError(f"A sample cannot be read: {error}.") from error


def _check_each(name: str, given: Any, kind: type) -> None:
    listed = isinstance(given, Sequence) and not isinstance(given, str)
    if not listed or not all(isinstance(one, kind) for one in given):
        raise SpecError(f"{name} are a list of {kind.__name__}. Received {given!r}.")


def _only(what: str, periods: list[str]) -> str | None:
    if len(set(periods)) > 1:
        raise SpecError(
            f"The sample has several {what} periods: {', '.join(sorted(set(periods)))}; one was "
            f"expected."
        )
    return periods[0] if periods else None
