"""Classes come equally often, rare chips again, frequent ones in turn, whatever epoch is asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cube.errors import SpecError, SplitError
from training.sampling import Balanced, Subset, balanced

seeds = st.integers(0, 2**32 - 1)


@dataclass
class Index:
    """Chips with what is known of each."""

    frame: pd.DataFrame

    @property
    def ids(self):
        return self.frame["chip"].to_numpy()


@st.composite
def classed(draw):
    """Ids in any order, and a class of each; one or more classes, some of them rare."""
    rng = np.random.default_rng(draw(seeds))
    count = draw(st.integers(1, 60))
    classes = np.minimum(rng.geometric(draw(st.floats(0.2, 0.9)), count), 4)
    return rng.permutation(500)[:count], classes


@given(classed(), seeds, st.integers(4, 150), st.integers(0, 30))
def test_every_class_comes_equally_often_and_its_chips_too(case, seed, per_epoch, epoch):
    ids, classes = case
    drawn = Balanced.of(ids, classes, seed=seed, per_epoch=per_epoch).draw(epoch)
    class_of = dict(zip(ids.tolist(), classes.tolist(), strict=True))
    assert len(drawn) == per_epoch
    assert drawn.dtype == np.int64
    each = Counter(class_of[chip] for chip in drawn.tolist())
    assert each.keys() == set(classes.tolist())
    assert max(each.values()) - min(each.values()) <= 1
    times = Counter(drawn.tolist())
    for name in each:
        counts = [times[chip] for chip in ids[classes == name].tolist()]
        assert max(counts) - min(counts) <= 1


@given(classed(), seeds, st.integers(4, 40), st.integers(1, 25))
def test_chips_of_a_class_take_turns_over_epochs(case, seed, per_epoch, epochs):
    ids, classes = case
    sampling = Balanced.of(ids, classes, seed=seed, per_epoch=per_epoch)
    times = Counter(np.concatenate([sampling.draw(e) for e in range(epochs)]).tolist())
    for name in np.unique(classes):
        counts = [times[chip] for chip in ids[classes == name].tolist()]
        assert max(counts) - min(counts) <= 1


@given(st.integers(1, 40), st.data(), seeds)
def test_every_chip_of_a_subset_comes_once_before_any_comes_twice(count, data, seed):
    per_epoch = data.draw(st.integers(1, count))
    sampling = Subset(ids=np.arange(count) * 3, per_epoch=per_epoch, seed=seed)
    times = Counter()
    for epoch in range(30):
        drawn = sampling.draw(epoch)
        assert len(np.unique(drawn)) == len(drawn) == sampling.per_epoch
        times.update(drawn.tolist())
        counts = [times[chip] for chip in range(0, 3 * count, 3)]
        assert max(counts) - min(counts) <= 1


@given(classed(), seeds, st.permutations(range(8)))
def test_an_epoch_follows_from_seed_and_number_alone(case, seed, order):
    ids, classes = case
    one = Balanced.of(ids, classes, seed=seed, per_epoch=9)
    turned = Balanced.of(ids[::-1], classes[::-1], seed=seed, per_epoch=9)
    expected = [one.draw(epoch) for epoch in range(8)]
    for epoch in order:
        np.testing.assert_array_equal(turned.draw(epoch), expected[epoch])


def test_seeds_and_rounds_draw_differently():
    parts = [Subset(ids=np.arange(100), per_epoch=50, seed=seed) for seed in (0, 1)]
    assert len({tuple(part.draw(epoch)) for part in parts for epoch in (0, 2, 4)}) == 6


@given(classed(), st.integers(50, 200), st.data())
def test_shares_are_met_to_one_chip(case, per_epoch, data):
    ids, classes = case
    names = np.unique(classes).tolist()
    raw = [data.draw(st.integers(1, 9)) for _ in names]
    shares = {name: part / sum(raw) for name, part in zip(names, raw, strict=True)}
    sampling = Balanced.of(ids, classes, seed=0, per_epoch=per_epoch, shares=shares)
    assert sum(sampling.quotas.values()) == sampling.per_epoch == per_epoch
    for name, share in shares.items():
        assert abs(sampling.quotas[name] - share * per_epoch) < 1


def test_a_class_of_no_share_is_left_out_and_all_is_described():
    sampling = Balanced.of(
        [5, 1, 2, 3],
        ["ice", "rock", "rock", "sea"],
        seed=7,
        shares={"ice": 0.75, "rock": 0.25, "sea": 0},
    )
    assert Counter(sampling.draw(3).tolist())[5] == 3
    assert 3 not in sampling.draw(0)
    assert sampling.describe() == {
        "kind": "balanced",
        "chips": 4,
        "per_epoch": 4,
        "seed": 7,
        "classes": {
            "ice": {"chips": 1, "per_epoch": 3},
            "rock": {"chips": 2, "per_epoch": 1},
            "sea": {"chips": 1, "per_epoch": 0},
        },
    }
    described = Subset(ids=[1, 2], per_epoch=1, seed=0).describe()
    assert described == {"kind": "subset", "chips": 2, "per_epoch": 1, "seed": 0}


def test_an_index_is_balanced_by_columns_expressions_and_bins():
    frame = pd.DataFrame(
        {"chip": range(10), "majority": [2.0] * 8 + [1.0] * 2, "ice": np.arange(10) / 9}
    )
    index = Index(frame)
    assert balanced(index, "majority", seed=0).quotas == {1: 5, 2: 5}
    assert balanced(index, "ice > 0.9", seed=0, per_epoch=4).quotas == {False: 2, True: 2}
    sampling = balanced(index, "ice", bins=[0, 0.1, 1], seed=0, per_epoch=6)
    assert sampling.quotas == {"0 to 0.1": 3, "0.1 to 1": 3}
    assert Counter(sampling.draw(0).tolist())[0] == 3
    edges = balanced(Index(frame.iloc[[0, 9]]), "ice", bins=[0, 0.5, 1], seed=0)
    assert edges.quotas == {"0 to 0.5": 1, "0.5 to 1": 1}


def test_what_cannot_be_balanced_is_refused():
    frame = pd.DataFrame({"chip": range(4), "ice": [0, 0.1, 0.2, np.nan], "name": list("abca")})
    index, some = Index(frame), Index(frame.iloc[:3])
    with pytest.raises(SplitError, match="'rock' names a column that is not there"):
        balanced(index, "rock", seed=0)
    for text in ("ice >", "1 + 1", "ice.to_csv('x') == 1"):
        with pytest.raises(SplitError):
            balanced(index, text, seed=0)
    with pytest.raises(SplitError, match="1 of 4 chips have no class"):
        balanced(index, "ice", seed=0)
    with pytest.raises(
        SplitError, match="Numbers of 3 different values are no classes; say with b"
    ):
        balanced(some, "ice", seed=0)
    with pytest.raises(
        SplitError, match="2 of 4 chips have a 'ice' that is missing or outside 0 to"
    ):
        balanced(index, "ice", bins=[0, 0.1], seed=0)
    with pytest.raises(SplitError, match="Bins are of numbers. 'name' holds"):
        balanced(index, "name", bins=[0, 1], seed=0)
    with pytest.raises(
        SplitError, match=r"Edges of bins ascend, and are at least 2. Received \[1\]"
    ):
        balanced(some, "ice", bins=[1], seed=0)
    with pytest.raises(SplitError, match="Numbers of 300 different values are no classes"):
        Balanced.of(np.arange(300), np.arange(300), seed=0)


def test_impossible_shares_and_lengths_are_refused():
    def make(**options):
        return Balanced.of([0, 1, 2], [1, 1, 2], **{"seed": 0, **options})

    with pytest.raises(SplitError, match="classes 1, 2 were expected. Received 1, 3; no chip has"):
        make(shares={1: 0.5, 3: 0.5})
    with pytest.raises(SplitError, match="classes 1, 2 were expected. Received 1;"):
        make(shares={1: 1.0})
    with pytest.raises(SplitError, match="sum to 1. They sum to 0.9"):
        make(shares={1: 0.5, 2: 0.4})
    with pytest.raises(SplitError, match="0 or more and sum to 1"):
        make(shares={1: 1.5, 2: -0.5})
    with pytest.raises(SplitError, match="An epoch of 1 chips has none of class 2"):
        make(per_epoch=1)
    with pytest.raises(SplitError, match="An epoch of 0 chips has none of class 1, 2"):
        make(per_epoch=0)
    with pytest.raises(SplitError, match="Epochs are numbered from 0. Received -1"):
        make().draw(-1)
    with pytest.raises(SplitError, match=r"for each of 2 chips was expected. Received \(3,\)"):
        Balanced.of([0, 1], [1, 1, 1], seed=0)
    with pytest.raises(SplitError, match="once each. 1 of 3 come again"):
        Subset(ids=[4, 4, 5], per_epoch=1, seed=0)
    with pytest.raises(SplitError, match=r"at least one. Received float64 \(0,\)"):
        Subset(ids=[], per_epoch=1, seed=0)
    with pytest.raises(
        SplitError, match="from 1 to 2 chips, as many as there are. Received per_ep"
    ):
        Subset(ids=[4, 5], per_epoch=3, seed=0)
    with pytest.raises(SpecError, match="per_epoch must be a whole number from 0. Received 1.5"):
        Subset(ids=[4, 5], per_epoch=1.5, seed=0)
    with pytest.raises(SpecError, match="per_epoch must be a whole number from 0. Received 2.5"):
        make(per_epoch=2.5)
    with pytest.raises(SpecError, match="seed must be a whole number from 0. Received -1"):
        make(seed=-1)
    with pytest.raises(SplitError, match="Chips are numbered from 0. Received numbers from -4 to"):
        Subset(ids=[-4, 5], per_epoch=1, seed=0)
    with pytest.raises(SplitError, match="Numbers of 2 different values are no classes"):
        Balanced.of([0, 1, 2], [1.0, 1e300, 1.0], seed=0)
