"""Random numbers of a chip that depend on nothing but the seed, the epoch and the chip.

So a chip is augmented alike whatever batch it comes in, and an epoch that goes on in its middle
goes on as it would have. The numbers are those of SplitMix64, whose state is a counter: Steele,
Lea and Flood (2014), doi 10.1145/2660193.2660195.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cube.errors import SpecError

Words = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def splitmix64(state: npt.ArrayLike) -> Words:
    """The number that the generator gives next from a state, uint64 of the shape of ``state``."""
    # An array, since NumPy warns of scalars that wrap around.
    z = np.atleast_1d(np.asarray(state, dtype="uint64")) + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Words = z ^ (z >> np.uint64(31))
    return mixed.reshape(np.shape(state))


def chip_draws(
    seed: int, epoch: int, chips: npt.ArrayLike, count: int, *, turns: npt.ArrayLike = 0
) -> npt.NDArray[np.float32]:
    """Uniform numbers in [0, 1) for each chip, float32 (chip, count).

    Args:
        seed: 0 to 2**63 - 1.
        epoch: From 0.
        chips: Chip numbers, integers (chip,); -1 stands for filling.
        count: Numbers for each chip; the first are the same for any count.
        turns: How often each chip came before in the epoch, integers (chip,) or one for all; so
            that a chip that is drawn several times is changed otherwise each time.

    Raises:
        SpecError: The seed or the epoch is out of range.
    """
    for name, value in (("seed", seed), ("epoch", epoch)):
        if not 0 <= value < 2**63:
            raise SpecError(f"{name} must be from 0 to 2**63 - 1. Received {value}.")
    stream = splitmix64(splitmix64(np.uint64(seed)) ^ np.uint64(epoch))
    numbers = np.asarray(chips, dtype="int64").astype("uint64")
    first = splitmix64(stream ^ numbers)
    before = np.broadcast_to(np.asarray(turns, dtype="int64").astype("uint64"), first.shape)
    first = np.where(before > 0, splitmix64(first ^ before), first)[:, None]
    words = splitmix64(first + np.arange(count, dtype="uint64") * _GOLDEN)
    # 24 bits: as many as float32 holds without rounding up to 1.
    return (words >> np.uint64(40)).astype("float32") * np.float32(2**-24)
