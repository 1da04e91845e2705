"""Who waited for whom: what an epoch read, gave and lost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StallReport:
    """One epoch as its consumer saw it.

    Attributes:
        epoch: Its number.
        seconds: From the first question for a batch to the last answer.
        waited: Seconds of these in which the consumer waited for a batch.
        first: Seconds until the first batch.
        batches: Batches given.
        chips: Chips in them, filling left out.
        chip_bytes: Bytes of these chips.
        reads: Tiles read from the store: chunks, or parts of shards.
        again: Of these, tiles that had been read before in the epoch.
        decoded: Bytes read, after decoding.
        blocks: Blocks in flight on average: cut together.
        whole: False if the consumer left before the end.
        weighed: False if no label in it counted: nothing can be learned from it.
    """

    epoch: int
    seconds: float
    waited: float
    first: float
    batches: int
    chips: int
    chip_bytes: int
    reads: int
    again: int
    decoded: int
    blocks: float
    whole: bool
    weighed: bool

    @property
    def waited_share(self) -> float:
        """Share of the time that the consumer waited, 0..1."""
        return self.waited / self.seconds if self.seconds else 0.0

    @property
    def rate(self) -> float:
        """Chips a second."""
        return self.chips / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        again = f", {self.again:,} of them again" if self.again else ""
        reading = self.decoded / self.seconds / 1e9 if self.seconds else 0.0
        left = "" if self.whole else "; left before the end"
        if not self.weighed:
            left += "; nothing in it weighs: no chip has a label where its inputs were observed"
        return (
            f"epoch {self.epoch + 1}: the device waited {self.waited_share:.0%} of "
            f"{self.seconds:.3g} s, {self.first:.2g} s of it for the first batch; {self.chips:,} "
            f"chips, {self.rate:,.0f} a second; reading {reading:.2g} GB/s, {self.reads:,} "
            f"chunks{again}; {self.blocks:.3g} blocks in flight{left}"
        )
