"""One toy cube for all tests of inference, and one evaluation; none may write to them."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest

import training
from cube.windows import Windows
from inference import evaluation
from inference.baselines import forest_out_of_fold
from inference.predict import predict
from tests import toy
from training.models import unet


@pytest.fixture(scope="session")
def city(tmp_path_factory):
    return toy.build(tmp_path_factory.mktemp("inference") / "toy.zarr")


@pytest.fixture(scope="session")
def evaluated(city, tmp_path_factory):
    """A copy of the toy with a tiny network trained, predicted and evaluated in two folds.

    ``forests`` lists the folds that each forest was given, as (train, test) masks.
    """
    folder = tmp_path_factory.mktemp("evaluated")
    copy = toy.copied(city, folder / "toy.zarr")
    polygons, windows = copy.polygons, Windows(shape=toy.SHAPE, size=8, stride=4)
    rules = training.SplitRules(seed=0, validation_share=0.4)
    split = training.split_by_place(
        copy.coverage, polygons, windows, rules, by="neighbourhood", folds=2
    )
    fit = training.FitSpec(epochs=4, refit=False, learning_rate=0.02, seed=0)
    models = training.cross_validate(
        copy.url, toy.SAMPLE, split, fit,
        out=folder / "models", network=partial(unet, widths=(4, 8)),
    )  # fmt: skip
    predict(copy.url, "population_predicted", models, fold_layer="fold")
    forests = []

    def small_forest(features, truth, folds, *, seed):
        forests.append((folds.train, folds.test))
        return forest_out_of_fold(features, truth, folds, seed=seed, trees=10)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "forest_out_of_fold", small_forest)
        found = evaluation.evaluate(
            copy.coverage, polygons, "population_predicted", toy.SAMPLE, split,
            persons="persons", groups=training.whole_groups(polygons, "neighbourhood"),
        )  # fmt: skip
    return SimpleNamespace(city=copy, found=found, split=split, forests=forests)
