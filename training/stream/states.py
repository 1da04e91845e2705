"""Where a stream is, and what tells it from another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from cube.errors import SpecError
from cube.spec import digest
from training.stream.specs import is_whole, whole

if TYPE_CHECKING:
    from training.stream.stream import ChipStream


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """Where a stream is, to go on from there.

    Attributes:
        epoch: From 0.
        batch: The next batch of it.
        digest: Of what the stream streams, and in which order.
    """

    epoch: int
    batch: int
    digest: str

    def __post_init__(self) -> None:
        for name in ("epoch", "batch"):
            object.__setattr__(self, name, whole(getattr(self, name), name, least=0))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form: the arguments."""
        return {"epoch": self.epoch, "batch": self.batch, "digest": self.digest}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`.

        Raises:
            SpecError: A field is missing, unknown or impossible.
        """
        try:
            return cls(**data)
        except TypeError as error:
            raise SpecError(
                f"A state has an epoch, a batch and a digest, as state() gives it. "
                f"Received {data!r:.80}."
            ) from error


def check_place(batches: int, *, first: int, count: int, start: int) -> tuple[int, int, int]:
    """First epoch, number of epochs and first batch, as ints.

    Args:
        batches: Of an epoch.
        first: Number of the first epoch.
        count: How many epochs.
        start: Batch of the first epoch to begin with; that behind the last leaves it out.

    Raises:
        SpecError: There is no such epoch or batch.
    """
    if not is_whole(first, least=0) or not is_whole(start, least=0) or start > batches:
        raise SpecError(
            f"Epochs count from 0, and their batches from 0 to {batches}. Received epoch "
            f"{first!r}, batch {start!r}."
        )
    return int(first), whole(count, "epochs", least=1), int(start)


def digest_of(stream: ChipStream) -> str:
    """First 12 hex digits of the SHA-256 of what is streamed, and in which order.

    What is joined counts by its numbers, whatever it is made of.
    """
    spec, budget = stream.spec, stream.budget
    order = [spec.batch, spec.seed, spec.shuffle, budget.block_px, budget.group_bytes]
    return digest(
        {
            "cube": stream.cube.digest,
            "sample": stream.sample.to_dict(),
            "windows": stream.windows.to_dict(),
            "ids": _of_array(stream.ids),
            "order": [*order, spec.blocks_in_flight, budget.section, *spec.part],
            "draws": spec.draws,
            "joined": _joined(stream),
        }
    )


def _joined(stream: ChipStream) -> dict[str, Any]:
    """What tables, weights and a sampling say of the stream's chips."""
    recipe, ids = stream.recipe, stream.ids
    found: dict[str, Any] = {}
    labels = {} if recipe.label is None else {"label": recipe.label}
    for kind, joins in (("features", recipe.features), ("labels", labels)):
        found[kind] = {name: [*j.columns, _of_array(j.rows(ids))] for name, j in joins.items()}
    labeller = recipe.source.labeller
    if labeller is not None and labeller.supervision is not None:
        found["supervision"] = labeller.supervision.to_dict()
    if recipe.weights is not None:
        found["weights"] = _of_array(recipe.weights.of(ids))
    if recipe.pixel_weights is not None:
        found["pixel_weights"] = recipe.pixel_weights.to_dict()
    if stream.sampling is not None:
        # Samplings of the same numbers may yet be of other classes.
        found["sampling"] = [stream.sampling.describe(), _of_array(stream.sampling.draw(0))]
    return found


def _of_array(values: npt.NDArray[Any]) -> str:
    """First 12 hex digits of the SHA-256 of the little-endian bytes."""
    plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return hashlib.sha256(plain.tobytes()).hexdigest()[:12]
