"""Scores against scikit-learn, intervals against what a cluster bootstrap promises."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from cube.errors import SpecError
from inference import scores

PAIRED = (scores.r2, scores.rmse, scores.mae, scores.bias, scores.pearson)


@st.composite
def _pairs(draw):
    """Truth with some spread, and a prediction more or less like it."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    truth = rng.normal(
        draw(st.floats(-1e3, 1e3)), draw(st.floats(0.1, 50)), draw(st.integers(2, 60))
    )
    return truth, truth * draw(st.floats(-1, 2)) + rng.normal(size=len(truth))


@pytest.fixture(scope="module")
def survey():
    """120 places in 12 groups whose errors are shared, in four folds."""
    rng = np.random.default_rng(7)
    group = np.repeat(np.arange(12), 10)
    truth = rng.normal(size=120) + rng.normal(size=12)[group]
    prediction = truth + rng.normal(scale=0.5, size=12)[group] + rng.normal(scale=0.3, size=120)
    return truth, prediction, np.array([f"group {g:02}" for g in group]), group % 4


@pytest.fixture(scope="module")
def table(survey):
    truth, prediction, groups, folds = survey
    methods = {"mean": np.full(120, truth.mean()), "model": prediction, "twin": prediction}
    return scores.score_table(truth, methods, groups, folds, seed=0, draws=200)


def _mean_error(truth, prediction):
    return float(np.mean(prediction - truth))


class TestScores:
    @settings(deadline=None)
    @given(_pairs())
    def test_they_equal_scikit_learns(self, pair):
        truth, prediction = pair
        assert scores.r2(*pair) == pytest.approx(metrics.r2_score(*pair), rel=1e-9, abs=1e-9)
        assert scores.rmse(*pair) == pytest.approx(metrics.root_mean_squared_error(*pair))
        assert scores.mae(*pair) == pytest.approx(metrics.mean_absolute_error(*pair))
        assert scores.pearson(*pair) == pytest.approx(np.corrcoef(*pair)[0, 1], abs=1e-9)
        assert scores.bias(*pair) == pytest.approx((prediction - truth).mean(), abs=1e-9)

    def test_a_perfect_prediction_has_one_and_the_mean_has_zero(self):
        truth = np.array([1.0, 2.0, 4.0])
        assert scores.r2(truth, truth) == 1.0
        assert scores.r2(truth, np.full(3, truth.mean())) == pytest.approx(0.0)

    def test_a_prediction_that_is_too_high_has_a_positive_bias(self):
        assert scores.bias([1.0, 2.0], [1.5, 2.5]) == pytest.approx(0.5)

    def test_correlation_is_blind_to_scale_and_r2_is_not(self):
        truth = np.arange(5.0)
        assert scores.pearson(truth, 3 * truth + 1) == pytest.approx(1.0)
        assert scores.r2(truth, 3 * truth + 1) < 0

    @pytest.mark.parametrize("score", [scores.r2, scores.pearson])
    def test_what_is_not_defined_is_nan(self, score):
        assert np.isnan(score([0.1, 0.1, 0.1], [1.0, 2.0, 3.0]))

    def test_correlation_with_a_constant_is_nan(self):
        assert np.isnan(scores.pearson([1.0, 2.0], [3.0, 3.0]))

    @pytest.mark.parametrize("score", PAIRED)
    @pytest.mark.parametrize("name", ["truth", "prediction"])
    def test_a_missing_value_is_refused_and_named(self, score, name):
        pair = {"truth": np.arange(4.0), "prediction": np.arange(4.0)}
        pair[name][2] = np.nan
        with pytest.raises(SpecError, match=f"{name} must be finite. 1 values are not.*row 2"):
            score(**pair)

    @pytest.mark.parametrize("pair", [([1.0], [1.0, 2.0]), ([], []), ([[1.0]], [[1.0]])])
    def test_pairs_of_another_shape_are_refused(self, pair):
        with pytest.raises(SpecError, match=r"must both be \(n,\), with n >= 1"):
            scores.r2(*pair)


class TestBootstrapInterval:
    def test_a_sample_holds_as_many_whole_groups_as_there_are(self):
        groups = np.repeat([0, 1, 2, 3], [1, 2, 3, 4])
        drawn = []

        def record(truth, _):
            drawn.append(np.bincount(truth.astype(int), minlength=10))
            return 0.0

        scores.bootstrap_interval(record, np.arange(10.0), np.zeros(10), groups, draws=100, seed=1)
        for counts in drawn:
            times = [np.unique(counts[groups == group]) for group in range(4)]
            assert all(len(time) == 1 for time in times)
            assert sum(time[0] for time in times) == 4
        assert len({tuple(counts) for counts in drawn}) > 10

    def test_the_same_seed_gives_the_same_interval_and_another_does_not(self, survey):
        first, again, other = (
            scores.bootstrap_interval(scores.r2, *survey[:3], draws=200, seed=seed)
            for seed in (1, 1, 2)
        )
        assert first == again != other

    def test_it_holds_the_score_and_grows_with_the_level(self, survey):
        half, most = (
            scores.bootstrap_interval(scores.r2, *survey[:3], draws=500, level=level, seed=0)
            for level in (0.5, 0.95)
        )
        assert most[0] < half[0] < scores.r2(*survey[:2]) < half[1] < most[1]

    def test_the_order_of_rows_does_not_matter(self, survey):
        order = np.random.default_rng(2).permutation(120)
        straight = scores.bootstrap_interval(scores.r2, *survey[:3], draws=200, seed=0)
        mixed = scores.bootstrap_interval(
            scores.r2, *(part[order] for part in survey[:3]), draws=200, seed=0
        )
        assert straight == pytest.approx(mixed)

    def test_shared_errors_make_it_wider_than_rows_alone_would(self, survey):
        truth, prediction, groups, _ = survey
        widths = [
            np.diff(scores.bootstrap_interval(_mean_error, truth, prediction, labels, seed=0))[0]
            for labels in (groups, np.arange(120))
        ]
        assert widths[0] > 1.5 * widths[1]

    def test_rows_as_groups_give_the_interval_of_scipys_bootstrap(self, survey):
        from scipy import stats

        truth, prediction = survey[:2]
        ours = scores.bootstrap_interval(
            _mean_error, truth, prediction, np.arange(120), draws=5000, seed=0
        )
        theirs = stats.bootstrap(
            (prediction - truth,), np.mean, n_resamples=5000, method="percentile", rng=1
        ).confidence_interval
        assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02)

    def test_95_of_100_intervals_hold_the_true_bias_despite_shared_errors(self):
        group = np.repeat(np.arange(40), 5)
        held = 0
        for seed in range(200):
            rng = np.random.default_rng(seed)
            error = rng.normal(size=40)[group] + rng.normal(scale=0.3, size=200)
            low, high = scores.bootstrap_interval(
                _mean_error, np.zeros(200), error, group, draws=200, seed=seed
            )
            held += low <= 0.0 <= high
        assert 0.89 <= held / 200 <= 0.985

    def test_samples_without_a_score_do_not_count(self):
        truth, groups = np.array([1.0, 1.0, 2.0, 2.0]), [0, 0, 1, 1]
        low, high = scores.bootstrap_interval(scores.r2, truth, truth, groups, draws=100, seed=0)
        assert (low, high) == (1.0, 1.0)

    def test_a_score_that_is_never_defined_has_no_interval(self):
        interval = scores.bootstrap_interval(
            scores.r2, np.ones(4), np.arange(4.0), [0, 0, 1, 1], draws=100, seed=0
        )
        assert np.isnan(interval).all()

    def test_2000_draws_of_470_places_take_less_than_two_seconds(self):
        rng = np.random.default_rng(0)
        truth, groups = rng.normal(size=470), rng.integers(0, 31, 470)
        start = time.perf_counter()
        scores.bootstrap_interval(scores.r2, truth, truth + 1.0, groups, seed=0)
        assert time.perf_counter() - start < 2.0

    @pytest.mark.parametrize(
        "groups", [["a", None, "b", "b"], ["a", np.nan, "b", "b"], [1.0, np.nan, 2.0, 2.0]]
    )
    def test_a_missing_group_is_named_and_is_no_group_of_its_own(self, groups):
        with pytest.raises(SpecError, match="1 have none, the first in row 1"):
            scores.bootstrap_interval(scores.r2, np.arange(4.0), np.ones(4), groups, seed=0)

    @pytest.mark.parametrize(
        ("groups", "message"), [(["a"] * 4, "at least two"), ([1, 2], r"groups must be \(4,\)")]
    )
    def test_one_group_or_another_length_is_refused(self, groups, message):
        with pytest.raises(SpecError, match=message):
            scores.bootstrap_interval(scores.r2, np.arange(4.0), np.ones(4), groups, seed=0)

    @pytest.mark.parametrize("knob", [{"draws": 99}, {"level": 0.0}, {"level": 1.0}, {"level": 95}])
    def test_too_few_draws_or_a_level_that_is_no_share_is_refused(self, knob):
        with pytest.raises(SpecError, match="draws must be at least 100 and level between 0 and 1"):
            scores.bootstrap_interval(
                scores.r2, np.arange(4.0), np.ones(4), [1, 1, 2, 2], seed=0, **knob
            )


class TestScoreTable:
    def test_a_row_holds_the_scores_of_its_method(self, table, survey):
        truth, prediction, groups, _ = survey
        row = table.loc["model"]
        assert row["n"] == 120
        assert row["R2"] == scores.r2(truth, prediction)
        assert row["RMSE"] == scores.rmse(truth, prediction)
        assert row["MAE"] == scores.mae(truth, prediction)
        assert row["bias"] == scores.bias(truth, prediction)
        interval = scores.bootstrap_interval(
            scores.r2, truth, prediction, groups, draws=200, seed=0
        )
        assert (row["R2 low"], row["R2 high"]) == interval

    def test_a_fold_is_scored_on_its_own_places(self, table, survey):
        truth, prediction, _, folds = survey
        by_fold = [scores.r2(truth[folds == k], prediction[folds == k]) for k in range(4)]
        assert table.loc["model", [f"R2 fold {k}" for k in range(1, 5)]].tolist() == by_fold
        assert table.loc["model", "R2 worst fold"] == min(by_fold)

    def test_methods_are_resampled_alike_and_keep_their_order(self, table):
        assert table.index.tolist() == ["mean", "model", "twin"]
        assert table.loc["model"].equals(table.loc["twin"])

    def test_places_that_were_never_tested_do_not_count(self, survey):
        truth, prediction, groups, folds = (part.copy() for part in survey)
        keep = np.arange(120) >= 15
        short = scores.score_table(
            truth[keep], {"model": prediction[keep]}, groups[keep], folds[keep], seed=0, draws=100
        )
        folds[~keep], truth[~keep], prediction[~keep] = -1, np.nan, np.nan
        whole = scores.score_table(truth, {"model": prediction}, groups, folds, seed=0, draws=100)
        assert whole.equals(short)
        assert whole.loc["model", "n"] == 105

    def test_a_fold_of_one_place_has_no_score_and_is_not_the_worst(self, survey):
        truth, prediction, groups, _ = survey
        folds = np.where(np.arange(120) == 0, 1, 0)
        row = scores.score_table(
            truth, {"model": prediction}, groups, folds, seed=0, draws=100
        ).loc["model"]
        assert np.isnan(row["R2 fold 2"])
        assert row["R2 worst fold"] == row["R2 fold 1"]

    def test_a_missing_prediction_is_refused_with_its_method(self, survey):
        truth, prediction, groups, folds = survey
        broken = np.where(np.arange(120) == 4, np.nan, prediction)
        with pytest.raises(SpecError, match="'model': prediction must be finite"):
            scores.score_table(truth, {"model": broken}, groups, folds, seed=0)

    def test_a_prediction_of_another_length_is_refused_with_its_method(self, survey):
        truth, prediction, groups, folds = survey
        with pytest.raises(SpecError, match=r"'model': prediction must be \(120,\)"):
            scores.score_table(truth, {"model": prediction[1:]}, groups, folds, seed=0)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"predictions": {}}, "at least one method"),
            ({"folds": np.full(120, -1)}, "No place is in a test fold"),
            ({"folds": np.zeros(120)}, "folds must be whole numbers"),
            ({"folds": np.zeros(3, dtype=int)}, "folds must be whole numbers"),
            ({"groups": ["a", "b"]}, r"groups must be \(120,\)"),
        ],
    )
    def test_what_cannot_be_scored_is_refused(self, survey, change, message):
        truth, prediction, groups, folds = survey
        parts = {"predictions": {"model": prediction}, "groups": groups, "folds": folds, **change}
        with pytest.raises(SpecError, match=message):
            scores.score_table(truth, seed=0, **parts)

    def test_it_prints_as_aligned_ascii_with_the_best_method_marked(self, table):
        text = scores.format_scores(table.drop(index="twin"))
        lines = text.splitlines()
        assert text.isascii()
        assert "* mean" in scores.format_scores(table, best="mean")
        assert len(lines) == 3
        assert [line[0] for line in lines] == [" ", " ", "*"]
        ends = [
            line.index(word) + len(word)
            for line, word in zip(lines, ("n  ", "120  ", "120  "), strict=True)
        ]
        assert len(set(ends)) == 1
        assert f"{table.loc['model', 'R2']:.3f}" in lines[2]
        assert max(map(len, lines)) <= 100

    def test_a_random_split_is_named_below_the_table(self, table):
        kinds = ["random" if method == "mean" else "by place" for method in table.index]
        plain, marked = (scores.format_scores(t) for t in (table, table.assign(split=kinds)))
        assert marked == f"{plain}\nrandom split: neighbours in the test set: mean"
        assert scores.format_scores(table.assign(split="by place")) == plain
