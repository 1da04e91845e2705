"""Weights are computed from counts: classes weigh the same together, chips one on average."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from cube.errors import SpecError, SplitError
from training.sampling import PixelWeights, chip_weights, class_weights, pixel_weights

labels = st.lists(st.integers(0, 5), min_size=1, max_size=60)


@given(labels)
def test_class_weights_are_scikit_learn_s_balanced_ones(given_labels):
    names, counts = np.unique(given_labels, return_counts=True)
    found = class_weights(dict(zip(names.tolist(), counts.tolist(), strict=True)))
    expected = compute_class_weight("balanced", classes=names, y=given_labels)
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-12)


@given(labels, st.randoms())
def test_chips_weigh_by_their_class_whatever_their_order(given_labels, random):
    order = list(range(len(given_labels)))
    random.shuffle(order)
    ids = np.arange(len(order)) * 7
    weights = chip_weights(ids[order], classes=np.array(given_labels)[order])
    expected = compute_sample_weight("balanced", given_labels)
    np.testing.assert_allclose(weights.of(ids), expected, rtol=1e-6)
    assert weights.of(ids).mean() == pytest.approx(1, rel=1e-5)


def test_chips_weigh_in_proportion_to_an_amount_and_filling_nothing():
    weights = chip_weights([9, 4, 5], amounts=[30, 0, 60])
    found = weights.of([4, -1, 9, 5, 9])
    np.testing.assert_array_equal(found, np.array([0, 0, 1, 2, 1], "float32"))
    assert found.dtype == np.float32
    text = chip_weights([1, 2, 3], classes=["school", "none", "none"])
    np.testing.assert_allclose(text.of([1, 2]), [1.5, 0.75])


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
def test_pixels_weigh_by_their_class_where_it_was_observed(label, seed):
    label = np.array(label, "int32")
    valid = np.random.default_rng(seed).uniform(size=label.shape) < 0.7
    counts = {0: 50.0, 1: 10.0, 2: 0.5, 3: 7.0}
    found = pixel_weights(counts).of_classes(label[None, :], valid[None, :])
    expected = [class_weights(counts)[c] if ok else 0 for c, ok in zip(label, valid, strict=True)]
    np.testing.assert_allclose(found, [expected], rtol=1e-6)
    assert found.dtype == np.float32


def test_a_number_that_is_no_class_weighs_nothing_where_nothing_was_observed():
    weights = pixel_weights({5: 1, 1: 3})
    assert weights.classes == (1, 5)
    found = weights.of_classes(np.array([255, 5, 1, -1]), np.array([False, True, True, False]))
    np.testing.assert_allclose(found, [0, 2, 2 / 3, 0])
    assert PixelWeights.from_dict(weights.to_dict()) == weights
    with pytest.raises(SplitError, match="Class 0, 255 has no weight. There are weights of: 1, 5"):
        weights.of_classes(np.array([255, 0, 1]), np.ones(3, bool))
    with pytest.raises(SpecError, match=r"must have one shape. Received \(2,\), \(3,\)"):
        weights.of_classes(np.zeros(2, int), np.ones(3, bool))


def test_what_weighs_nothing_definite_is_refused():
    with pytest.raises(SplitError, match="a count above 0. Received 2 without"):
        class_weights({1: 5, 2: 0})
    with pytest.raises(SplitError, match="a count above 0. Received no class"):
        class_weights({})
    with pytest.raises(SplitError, match="a count above 0. Received x without"):
        class_weights({"x": np.nan})
    with pytest.raises(SpecError, match="Give one of them"):
        chip_weights([1], classes=[1], amounts=[1])
    with pytest.raises(SpecError, match="Give one of them"):
        chip_weights([1])
    with pytest.raises(SplitError, match=r"for each of 2 chips was expected. Received \(1,\)"):
        chip_weights([1, 2], amounts=[1])
    with pytest.raises(SplitError, match="not all 0. 2 of 3 are missing or negative"):
        chip_weights([1, 2, 3], amounts=[1, np.nan, -1])
    with pytest.raises(SplitError, match="not all 0. 0 of 2 are"):
        chip_weights([1, 2], amounts=[0, 0])
    with pytest.raises(SplitError, match="once each. 1 of 2 come again"):
        chip_weights([1, 1], amounts=[1, 1])
    with pytest.raises(SplitError, match="1 of 3 chips have no weight"):
        chip_weights([1, 2], amounts=[1, 1]).of([1, 3, -1])
    with pytest.raises(SplitError, match="Amounts of chips are numbers: could not convert"):
        chip_weights([1, 2], amounts=["many", "few"])
    with pytest.raises(SplitError, match="Classes of pixels are whole numbers. Received 0.5"):
        pixel_weights({0.5: 3, 1: 4})
    with pytest.raises(SplitError, match="Classes of pixels are whole numbers. Received 'forest'"):
        pixel_weights({"forest": 3})
    with pytest.raises(SplitError, match="numbered from 0. Received numbers from -1 to 2"):
        chip_weights([-1, 2], classes=[1, 2])


@pytest.mark.parametrize("unit", [1e-320, 1.0, 1e308])
def test_amounts_of_any_size_weigh_in_proportion(unit):
    found = chip_weights([1, 2, 3], amounts=np.array([1.0, 1.0, 0.5]) * unit).weights
    np.testing.assert_allclose(found, [1.2, 1.2, 0.6], rtol=1e-3)
