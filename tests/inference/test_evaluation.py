"""Every method is scored on the same places, having learned from the same places."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from sklearn.metrics import r2_score

import cube
from cube.errors import SpecError
from inference import evaluation
from inference.evaluation import (
    CONTEXT,
    FOREST,
    MEAN,
    MODEL,
    RANDOM,
    evaluate,
    log_density,
)
from tests import toy


@pytest.fixture
def found(evaluated):
    return evaluated.found


def _again(evaluated, **changes):
    arguments = {"layer": "population_predicted", "polygons": evaluated.city.polygons, **changes}
    return evaluate(
        evaluated.city.coverage,
        arguments["polygons"],
        arguments["layer"],
        toy.SAMPLE,
        evaluated.split,
        persons="persons",
        groups=np.arange(30) % 7,
    )


class TestScores:
    def test_there_is_a_row_for_every_method(self, found):
        expected = [MODEL, MEAN, FOREST, CONTEXT, FOREST + RANDOM, CONTEXT + RANDOM]
        assert found.scores.index.tolist() == expected
        assert found.scores["split"].tolist() == ["by place"] * 4 + ["random"] * 2

    def test_they_are_those_of_scikit_learn(self, found):
        for method, predicted in found.predictions.items():
            expected = r2_score(found.polygons["measured"], predicted)
            assert found.scores.loc[method, "R2"] == pytest.approx(expected)
        assert (found.scores["n"] == 30).all()

    def test_the_network_has_learned_something(self, found):
        assert found.scores.loc[MODEL, "R2"] > found.scores.loc[MEAN, "R2"]

    def test_the_best_is_never_one_on_random_folds(self, found):
        by_place = found.scores["R2"].iloc[:4]
        assert found.best == by_place.idxmax()
        scores = found.scores.copy()
        scores.loc[CONTEXT + RANDOM, "R2"] = 1.0
        assert replace(found, scores=scores).best == found.best
        marked = [line for line in str(found).splitlines() if line.startswith("*")]
        assert len(marked) == 1
        assert marked[0].startswith(f"* {found.best} ")


class TestWhatEachMethodMayUse:
    def test_the_forests_by_place_use_the_fitted_polygons_and_no_other(self, evaluated):
        fitted, test = evaluated.split.masks()
        assert len(evaluated.forests) == 4
        for train, tested in evaluated.forests[:2]:
            assert np.array_equal(train, fitted)
            assert np.array_equal(tested, test)
        for train, tested in evaluated.forests[2:]:
            assert np.array_equal(train, ~tested)

    def test_the_mean_is_that_of_the_fitted_polygons(self, evaluated, found):
        measured = found.polygons["measured"].to_numpy()
        for part in evaluated.split.folds:
            expected = measured[part.fitted_polygons].mean()
            assert found.predictions[MEAN][part.test_polygons] == pytest.approx(expected)


class TestPolygons:
    def test_persons_predicted_are_the_mean_density_times_the_area(self, evaluated, found):
        city = evaluated.city
        per_pixel = toy.stored(city.url, "population_predicted")[1]
        share = np.zeros((30, *toy.SHAPE))
        shares = city.coverage.shares((0, toy.SHAPE[0]), (0, toy.SHAPE[1]))
        y, x = np.nonzero(shares.label >= 0)
        share[shares.label[y, x], y, x] = 1
        share.reshape(30, -1)[shares.polygon, shares.pixel] += shares.share
        seen = share * ~np.isnan(per_pixel)
        mean = (seen * np.nan_to_num(per_pixel)).sum(axis=(1, 2)) / seen.sum(axis=(1, 2))
        area_px = city.polygons.area.to_numpy() / 900
        np.testing.assert_allclose(found.polygons["persons_predicted"], mean * area_px, rtol=1e-6)
        density = mean / toy.PIXEL_KM2
        np.testing.assert_allclose(found.polygons["predicted"], np.log(density), rtol=1e-6)
        valid = seen.sum(axis=(1, 2)) / share.sum(axis=(1, 2))
        np.testing.assert_allclose(found.polygons["valid_share"], valid, rtol=1e-6)

    def test_a_perfect_map_gives_back_every_polygons_persons(self, evaluated):
        exact = _again(evaluated, layer="population")
        np.testing.assert_allclose(
            exact.polygons["persons_predicted"], exact.polygons["persons"], rtol=0.2
        )
        assert exact.scores.loc[MODEL, "R2"] > 0.99

    def test_measured_is_the_logarithm_of_persons_per_square_kilometre(self, evaluated, found):
        polygons = evaluated.city.polygons
        expected = np.log(polygons["persons"] / (polygons.area / 1e6))
        np.testing.assert_allclose(found.polygons["measured"], expected)

    def test_folds_count_from_one_and_covered_share_is_kept(self, evaluated, found):
        assert found.polygons["fold"].tolist() == (evaluated.split.polygon_fold + 1).tolist()
        assert found.polygons["covered_share"].tolist() == pytest.approx(
            evaluated.city.coverage.covered_share.tolist()
        )

    def test_the_columns_given_stay(self, evaluated, found):
        assert set(evaluated.city.polygons.columns) <= set(found.polygons.columns)
        assert found.polygons.crs == evaluated.city.polygons.crs


class TestRefusals:
    def test_a_polygon_that_holds_nobody(self, evaluated):
        polygons = evaluated.city.polygons.copy()
        polygons.loc[4, "persons"] = 0
        with pytest.raises(SpecError, match="1 of 30 have none; leave them out"):
            _again(evaluated, polygons=polygons)
        with pytest.raises(SpecError, match="needs people in every polygon"):
            log_density(evaluated.city.coverage, np.full(30, np.nan))

    def test_a_polygon_that_was_not_predicted(self, evaluated, tmp_path, monkeypatch):
        copy = toy.copied(evaluated.city, tmp_path / "toy.zarr")
        cube.add(copy.url, cube.LayerSpec(name="partly", dtype="float32", static=True))
        near = binary_dilation(copy.owner == 3, iterations=2)
        toy.write(copy.url, "partly", np.where(near, np.nan, 2.0).astype("float32"))
        monkeypatch.setattr(evaluation, "baselines", lambda *_, **__: {})
        with pytest.raises(SpecError, match="'network': prediction must be finite"):
            evaluate(
                copy.coverage, copy.polygons, "partly", toy.SAMPLE, evaluated.split,
                persons="persons", groups=np.arange(30) % 7,
            )  # fmt: skip
