"""Laws of the baselines: nothing learns from its own test places, nodata never counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.errors import SpecError
from inference import baselines
from inference.baselines import Folds, random_folds


@pytest.fixture(scope="module")
def folds():
    """Three folds of 60 places; the last 6 are in no test part, some are in a buffer."""
    number = np.arange(60) % 3
    number[54:] = -1
    test = number == np.arange(3)[:, None]
    train = ~test
    train[0, 3:9] = False
    return Folds(train=train & ~test, test=test)


@pytest.fixture(scope="module")
def places():
    """Features (60, 4) and a target that depends on two of them."""
    rng = np.random.default_rng(5)
    features = rng.normal(size=(60, 4))
    target = features[:, 0] * 2 - features[:, 2] + rng.normal(scale=0.2, size=60)
    return features, target


def _forest(features, target, folds, **options):
    return baselines.forest_out_of_fold(features, target, folds, seed=3, trees=15, **options)


class TestFolds:
    def test_a_polygon_is_numbered_by_the_fold_that_tests_it(self, folds):
        expected = np.r_[np.arange(54) % 3, np.full(6, -1)]
        np.testing.assert_array_equal(folds.number, expected)
        assert (folds.n_folds, folds.n_polygons) == (3, 60)

    def test_folds_do_not_change_with_the_arrays_that_made_them(self):
        test = np.eye(3, dtype=bool)
        made = Folds(train=~test, test=test)
        test[:] = True
        np.testing.assert_array_equal(made.test, np.eye(3, dtype=bool))
        with pytest.raises(ValueError, match="read-only"):
            made.train[0, 0] = True

    def test_training_on_a_test_polygon_is_refused(self):
        test = np.eye(3, dtype=bool)
        with pytest.raises(SpecError, match=r"Fold 0 does so with 1 polygons, the first in row 0"):
            Folds(train=np.ones((3, 3), dtype=bool), test=test)

    def test_a_polygon_tested_twice_is_refused(self):
        test = np.array([[True, True, False], [False, True, False]])
        with pytest.raises(SpecError, match="Row 1 is in several"):
            Folds(train=~test, test=test)

    @pytest.mark.parametrize("part", ["train", "test"])
    def test_a_fold_without_members_is_refused(self, part):
        parts = {"train": ~np.eye(3, dtype=bool), "test": np.eye(3, dtype=bool)}
        parts[part] = parts[part] & (np.arange(3) != 1)[:, None]
        with pytest.raises(SpecError, match=f"needs a polygon to {part}. Fold 1 has none"):
            Folds(**parts)

    @pytest.mark.parametrize(
        "train", [np.ones((3, 3)), np.ones(3, dtype=bool), np.ones((0, 3), dtype=bool)]
    )
    def test_other_than_boolean_tables_are_refused(self, train):
        with pytest.raises(SpecError, match="train must be boolean"):
            Folds(train=train, test=np.eye(3, dtype=bool))

    def test_parts_of_different_shape_are_refused(self):
        with pytest.raises(SpecError, match=r"Received train \(3, 4\) and test \(3, 3\)"):
            Folds(train=np.ones((3, 4), dtype=bool), test=np.eye(3, dtype=bool))


class TestRandomFolds:
    @settings(deadline=None)
    @given(st.data(), st.integers(2, 60), st.integers(0, 2**32 - 1))
    def test_every_polygon_is_tested_once_and_trained_on_otherwise(self, data, n, seed):
        n_folds = data.draw(st.integers(2, n))
        made = random_folds(n, n_folds=n_folds, seed=seed)
        np.testing.assert_array_equal(made.test.sum(axis=0), 1)
        np.testing.assert_array_equal(made.train, ~made.test)
        assert np.ptp(made.test.sum(axis=1)) <= 1

    def test_the_same_seed_draws_the_same_folds_and_another_does_not(self):
        first, again, other = (random_folds(50, n_folds=5, seed=seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first.test, again.test)
        assert (first.test != other.test).any()

    @pytest.mark.parametrize("n_folds", [1, 6])
    def test_more_folds_than_polygons_or_one_alone_are_refused(self, n_folds):
        with pytest.raises(SpecError, match="from 2 to the number of polygons, 5"):
            random_folds(5, n_folds=n_folds, seed=0)


class TestMeanOutOfFold:
    def test_each_test_polygon_gets_the_mean_of_its_folds_training_polygons(self, folds, places):
        predicted = baselines.mean_out_of_fold(places[1], folds)
        for train, test in zip(folds.train, folds.test, strict=True):
            np.testing.assert_allclose(predicted[test], places[1][train].mean())

    def test_polygons_in_no_test_fold_get_nan(self, folds, places):
        predicted = baselines.mean_out_of_fold(places[1], folds)
        np.testing.assert_array_equal(np.isnan(predicted), folds.number < 0)

    def test_a_missing_target_is_named(self, folds, places):
        target = places[1].copy()
        target[[7, 9]] = np.nan
        with pytest.raises(SpecError, match=r"wherever a fold trains\. Rows 7, 9 are not"):
            baselines.mean_out_of_fold(target, folds)

    def test_another_length_is_refused(self, folds):
        with pytest.raises(SpecError, match=r"target must be \(60,\)"):
            baselines.mean_out_of_fold(np.ones(59), folds)


class TestForestOutOfFold:
    def test_it_equals_a_forest_fitted_by_hand_on_each_fold(self, folds, places):
        from sklearn.ensemble import RandomForestRegressor

        features, target = places
        predicted = _forest(features, target, folds, min_leaf=3)
        for train, test in zip(folds.train, folds.test, strict=True):
            forest = RandomForestRegressor(15, min_samples_leaf=3, random_state=3)
            forest.fit(features[train], target[train])
            np.testing.assert_array_equal(predicted[test], forest.predict(features[test]))
        assert np.isnan(predicted[folds.number < 0]).all()

    def test_the_same_seed_gives_the_same_bits(self, folds, places):
        first, again = (_forest(*places, folds) for _ in range(2))
        assert first.tobytes() == again.tobytes()

    @pytest.mark.parametrize("row", [0, 20, 41])
    def test_a_polygons_own_target_never_moves_its_prediction(self, folds, places, row):
        features, target = places
        other = target.copy()
        other[row] += 100.0
        before, after = (_forest(features, values, folds) for values in (target, other))
        assert before[row] == after[row]
        assert (before != after)[folds.number >= 0].any()

    def test_what_no_fold_uses_may_be_missing(self, places):
        features, target = (np.array(part) for part in places)
        test = np.arange(60) % 3 == np.arange(3)[:, None]
        test[:, :4] = False
        train = ~test
        train[:, :4] = False
        features[:4], target[:4] = np.nan, np.nan
        predicted = _forest(features, target, Folds(train=train, test=test))
        np.testing.assert_array_equal(np.isnan(predicted), np.arange(60) < 4)

    def test_a_missing_feature_is_named_by_row_and_column(self, folds, places):
        features = places[0].copy()
        features[12, 3] = np.inf
        with pytest.raises(SpecError, match=r"Row 12 is not \(columns 3\)"):
            _forest(features, places[1], folds)

    def test_many_missing_rows_are_counted(self, folds, places):
        features = places[0].copy()
        features[:9] = np.nan
        with pytest.raises(SpecError, match=r"Rows 0, 1, 2, 3, 4 and 4 more are not"):
            _forest(features, places[1], folds)

    @pytest.mark.parametrize("shape", [(60,), (59, 2), (60, 0)])
    def test_features_of_another_shape_are_refused(self, folds, places, shape):
        with pytest.raises(SpecError, match=r"features must be \(60, n_features\)"):
            _forest(np.ones(shape), places[1], folds)

    @pytest.mark.parametrize("knob", [{"trees": 0}, {"min_leaf": 0}])
    def test_a_forest_without_trees_or_leaves_is_refused(self, folds, places, knob):
        with pytest.raises(SpecError, match="must be at least 1"):
            baselines.forest_out_of_fold(*places, folds, seed=0, **knob)


def _by_loop(band, valid, size, reduce):
    """The oracle: every window cut out, its valid pixels reduced."""
    half = size // 2
    out = np.full(band.shape, np.nan)
    for y, x in np.ndindex(band.shape):
        window = np.s_[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
        inside = band[window][valid[window]].astype("float64")
        if len(inside):
            out[y, x] = reduce(inside)
    return out


@st.composite
def _bands(draw):
    """A float32 band of any offset, its validity, and an odd window, often larger."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    offset = draw(st.sampled_from([0.0, -40.0, 1e5]))
    band = (rng.normal(size=shape) * 10 + offset).astype("float32")
    valid = rng.random(shape) < draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    return band, valid, 2 * draw(st.integers(0, 8)) + 1


class TestContext:
    @settings(deadline=None)
    @given(_bands())
    def test_the_mean_equals_a_loop_over_windows(self, given_band):
        band, valid, size = given_band
        np.testing.assert_allclose(
            baselines.context_mean(band, valid, size=size),
            _by_loop(band, valid, size, np.mean),
            rtol=1e-9,
            atol=1e-9,
        )

    @settings(deadline=None)
    @given(_bands())
    def test_the_standard_deviation_equals_a_loop_over_windows(self, given_band):
        band, valid, size = given_band
        np.testing.assert_allclose(
            baselines.context_std(band, valid, size=size),
            _by_loop(band, valid, size, np.std),
            atol=1e-5,
        )

    @pytest.mark.parametrize("context", [baselines.context_mean, baselines.context_std])
    def test_what_invalid_pixels_hold_does_not_count(self, context):
        rng = np.random.default_rng(1)
        band, valid = rng.normal(size=(9, 9)), rng.random((9, 9)) < 0.6
        spoilt = np.where(valid, band, np.where(rng.random((9, 9)) < 0.5, np.nan, 1e30))
        np.testing.assert_array_equal(context(spoilt, valid, size=3), context(band, valid, size=3))

    @pytest.mark.parametrize("context", [baselines.context_mean, baselines.context_std])
    def test_a_window_without_a_valid_pixel_has_no_value(self, context):
        valid = np.zeros((40, 40), dtype=bool)
        valid[5, 5] = True
        seen = ~np.isnan(context(np.full((40, 40), 3.0), valid, size=7))
        assert seen.sum() == 49
        assert seen[2:9, 2:9].all()

    @pytest.mark.parametrize("value", [0.1, -3e4, 1e9])
    def test_a_constant_stays_constant_and_does_not_vary(self, value):
        band, valid = np.full((30, 20), value, "float32"), np.ones((30, 20), dtype=bool)
        mean, spread = (
            context(band, valid, size=11)
            for context in (baselines.context_mean, baselines.context_std)
        )
        np.testing.assert_allclose(mean, band.astype("float64"), rtol=1e-12)
        np.testing.assert_allclose(spread, 0.0, atol=abs(value) * 1e-12)

    @pytest.mark.parametrize(("size", "better"), [(4, 5), (0, 1), (-3, 1)])
    def test_a_window_without_a_centre_is_refused(self, size, better):
        with pytest.raises(SpecError, match=f"size must be odd .* try {better}"):
            baselines.context_mean(np.ones((5, 5)), np.ones((5, 5), dtype=bool), size=size)

    def test_a_valid_pixel_that_is_not_finite_is_named(self):
        band = np.ones((5, 5))
        band[2, 4] = np.nan
        with pytest.raises(SpecError, match=r"the first at \(y=2, x=4\)"):
            baselines.context_std(band, np.ones((5, 5), dtype=bool), size=3)

    @pytest.mark.parametrize("valid", [np.ones((5, 4), dtype=bool), np.ones((5, 5))])
    def test_validity_of_another_shape_or_type_is_refused(self, valid):
        with pytest.raises(SpecError, match="valid boolean of the same shape"):
            baselines.context_mean(np.ones((5, 5)), valid, size=3)
