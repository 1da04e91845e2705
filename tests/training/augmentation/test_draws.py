"""Draws of a chip depend on the seed, the epoch and the chip, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.errors import SpecError
from training.augmentation import chip_draws
from training.augmentation.draws import splitmix64

GOLDEN = 0x9E3779B97F4A7C15
WORD = (1 << 64) - 1


def _plain(state):
    """The generator in plain Python numbers, as its authors write it."""
    z = (state + GOLDEN) & WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return z ^ (z >> 31)


def test_the_generator_gives_the_published_numbers_of_its_seed():
    found = splitmix64(np.uint64(1234567) + np.arange(5, dtype="uint64") * np.uint64(GOLDEN))
    assert found.tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@given(
    seed=st.integers(0, 2**63 - 1),
    epoch=st.integers(0, 2**40),
    chips=st.lists(st.integers(-1, 2**62), min_size=1, max_size=5),
)
@settings(max_examples=50)
def test_draws_are_those_of_plain_numbers(seed, epoch, chips):
    stream = _plain(_plain(seed) ^ epoch)
    for chip, row in zip(chips, chip_draws(seed, epoch, chips, 3), strict=True):
        first = _plain(stream ^ (chip & WORD))
        expected = [(_plain((first + i * GOLDEN) & WORD) >> 40) / 2**24 for i in range(3)]
        assert row.tolist() == expected


def test_a_chip_has_the_same_draws_in_every_batch_and_of_any_count():
    chips = np.random.default_rng(0).permutation(500)
    every = chip_draws(3, 7, np.arange(500), 5)
    assert every.dtype == np.float32
    assert (chip_draws(3, 7, chips, 5) == every[chips]).all()
    assert (chip_draws(3, 7, chips[:32], 2) == every[chips[:32], :2]).all()


def test_draws_are_uniform_and_independent_between_chips_epochs_seeds_and_places():
    many = np.arange(20_000)
    draws = chip_draws(5, 0, many, 4)
    assert 0 <= draws.min() < 0.001
    assert 0.999 < draws.max() < 1
    counts = np.stack([np.histogram(column, 20, (0, 1))[0] for column in draws.T])
    assert (((counts - 1000) ** 2 / 1000).sum(axis=1) < 50).all()  # chi-square of 19 degrees
    others = [chip_draws(5, 1, many, 1), chip_draws(6, 0, many, 1), draws[:, 1:2]]
    for other in (*others, np.roll(draws[:, :1], 1)):
        assert abs(np.corrcoef(draws[:, 0], other[:, 0])[0, 1]) < 0.03


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"seed": 2**63}, {"epoch": -1}])
def test_numbers_out_of_range_are_refused(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(SpecError, match=f"{name} must be from 0 to .* Received {value}"):
        chip_draws(**{"seed": 0, "epoch": 0, **wrong}, chips=[0], count=1)


def test_a_chip_that_comes_again_has_other_draws_and_its_first_ones_stay():
    once = chip_draws(3, 7, [5, 6], 4)
    again = chip_draws(3, 7, [5, 6, 5, 5], 4, turns=[0, 0, 1, 2])
    assert (again[:2] == once).all()
    assert len(np.unique(again, axis=0)) == 4
    assert (again[2] == chip_draws(3, 7, [5], 4, turns=1)[0]).all()
    many = chip_draws(0, 0, np.zeros(20_000, int), 2, turns=np.arange(20_000))
    assert abs(many.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(many.T)[0, 1]) < 0.03
