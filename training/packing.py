"""How the bands of one input lie in the store, for what works on stored values in a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from cube.errors import SpecError
from cube.spec import CubeSpec, StackSpec
from training.samples import SampleSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """Number and packing of the bands of one input.

    Attributes:
        bands: How many the model sees.
        dtype: Of the stored values, e.g. ``"int16"``.
        nodata: Stored value of "not observed"; None for floats, where it is NaN.
        scale: ``physical = stored * scale + offset``.
        offset: See ``scale``.
    """

    bands: int
    dtype: str
    nodata: int | None = None
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.bands < 1:
            raise SpecError(f"A packing is of 1 band or more. Received bands={self.bands}.")
        if (np.dtype(self.dtype).kind == "f") != (self.nodata is None):
            raise SpecError(
                f"Integers need nodata=, and floats take none. Received dtype={self.dtype!r}, "
                f"nodata={self.nodata}."
            )

    @classmethod
    def of(cls, stack: StackSpec, *, bands: int | None = None) -> Self:
        """Of a stack of the cube; of so many of its bands, by default of all."""
        return cls(
            bands=len(stack.bands) if bands is None else bands,
            dtype=stack.dtype,
            nodata=None if stack.storage.kind == "f" else int(stack.fill),
            scale=stack.scale,
            offset=stack.offset,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def packings(spec: CubeSpec, sample: SampleSpec) -> Mapping[str, Packing]:
    """Packing of every input stack of a sample, by name.

    Raises:
        SpecError: The cube lacks a stack.
    """
    return {s.stack: Packing.of(spec.stack(s.stack), bands=len(s.bands)) for s in sample.inputs}
