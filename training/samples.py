"""What a chip holds: which bands, which label, and how their times are paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from cube.errors import SpecError
from cube.spec import CubeSpec
from training.targets import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class InputStack:
    """Bands of one stack, by name, in the order that the model sees them."""

    stack: str
    bands: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", _listed(self.stack, self.bands))


def _listed(stack: str, bands: Sequence[str]) -> tuple[str, ...]:
    if not bands or isinstance(bands, str):
        raise SpecError(f"Inputs from stack {stack!r} need a list of bands. Received {bands!r}.")
    return tuple(bands)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSpec:
    """One training sample as data.

    Attributes:
        inputs: Bands by stack; stacks in the order that the model sees them.
        target: What is learned.
        label_time: Period of the label; None for a static layer.
        input_time: Period of the stacks that vary with time; None if none does.
    """

    inputs: tuple[InputStack, ...]
    target: Target
    label_time: str | None
    input_time: str | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        names = [stack.stack for stack in self.inputs]
        if not names or len(set(names)) != len(names):
            raise SpecError(f"A sample needs each input stack once. Received {names}.")

    @classmethod
    def of(
        cls,
        inputs: Mapping[str, Sequence[str]],
        target: Target,
        *,
        label_time: str | None,
        input_time: str | None,
    ) -> Self:
        """The same from a mapping of stack name to band names."""
        stacks = tuple(InputStack(stack=name, bands=_listed(name, b)) for name, b in inputs.items())
        return cls(inputs=stacks, target=target, label_time=label_time, input_time=input_time)

    @property
    def bands(self) -> int:
        """Number of bands in all."""
        return sum(len(stack.bands) for stack in self.inputs)

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
            self.time_of(spec, wanted.stack)
        spec.layer(self.target.layer)
        self.time_of(spec, self.target.layer)

    def time_of(self, spec: CubeSpec, name: str) -> int | None:
        """Calendar index at which a variable is read for this sample."""
        if spec.variable(name).static:
            return None
        label = self.label_time if name == self.target.layer else self.input_time
        if label is None:
            raise SpecError(f"{name!r} varies with time; say which period the sample takes.")
        return spec.time_index(label)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; the inverse of :meth:`from_dict`."""
        return {
            "inputs": [{"stack": s.stack, "bands": list(s.bands)} for s in self.inputs],
            "target": self.target.to_dict(),
            "label_time": self.label_time,
            "input_time": self.input_time,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`.

        Raises:
            SpecError: A field is missing or impossible.
        """
        try:
            return cls(
                inputs=tuple(InputStack(**stack) for stack in data["inputs"]),
                target=Target(**data["target"]),
                label_time=data["label_time"],
                input_time=data["input_time"],
            )
        except (KeyError, TypeError) as error:
            raise SpecError(f"A sample cannot be read: {error}.") from error
