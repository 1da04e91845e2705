"""A cross-validated map of counts beside simpler methods, polygon by polygon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from cube.blocks.collecting import collect
from cube.coverage import Coverage
from cube.errors import SpecError
from cube.template import read_spec
from inference.baselines import Folds, forest_out_of_fold, mean_out_of_fold, random_folds
from inference.features import context_features, polygon_features
from inference.scores import format_scores, score_table
from training.samples import SampleSpec
from training.splits import Split

if TYPE_CHECKING:
    import geopandas as gpd
    from distributed import Client

MODEL = "network"
MEAN = "mean"
FOREST = "forest, polygon means"
CONTEXT = "forest, with context"
RANDOM = ", random folds"
"""Ending of the methods whose folds ignore place; their scores flatter."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """What came out, and what it was compared with.

    Attributes:
        coverage: Shares of the polygons.
        sample: Inputs and label of the model.
        split: Folds and buffer.
        layer: Layer of the predictions, in the unit of the label layer.
        polygons: The polygons' table with ``persons``, ``persons_predicted``,
            ``measured`` and ``predicted`` (log persons per km²), ``fold`` from 1,
            ``covered_share`` and ``valid_share``.
        predictions: Method to out-of-fold log densities, float64 (polygon,).
        scores: A row per method; see :func:`inference.scores.score_table`. Its
            column ``split`` says whether the folds were by place or random.
    """

    coverage: Coverage
    sample: SampleSpec
    split: Split
    layer: str
    polygons: gpd.GeoDataFrame
    predictions: Mapping[str, FloatArray]
    scores: pd.DataFrame

    @property
    def best(self) -> str:
        """Method with the highest R² by place."""
        by_place = self.scores[self.scores["split"] == self.split.kind]
        return str(by_place["R2"].idxmax())

    def __str__(self) -> str:
        return format_scores(self.scores, best=self.best)


def evaluate(  # noqa: PLR0913  (what was predicted, and all it is held against)
    coverage: Coverage,
    polygons: gpd.GeoDataFrame,
    layer: str,
    sample: SampleSpec,
    split: Split,
    *,
    persons: str,
    groups: npt.ArrayLike,
    client: Client | None = None,
) -> Evaluation:
    """Aggregate out-of-fold predictions to polygons and score them beside baselines.

    The baselines are the mean of the training polygons; a forest on each
    polygon's band means and deviations; and a forest that also sees windows of
    up to 41 pixels around. They train on the polygons that the model could use
    in the same fold, no others. The forests come once more on random folds
    without a buffer, to show how much those flatter.

    Args:
        coverage: Shares of the polygons.
        polygons: Those of the coverage.
        layer: Predictions, in persons per pixel, each pixel by the model of its fold.
        sample: Inputs and label of the model.
        split: Folds of the model.
        persons: Column of the counts.
        groups: Neighbourhood of each polygon, for the bootstrap interval.
        client: A Dask client for the aggregation; None runs on local threads.

    Raises:
        SpecError: A polygon holds nobody, or none of its pixels was predicted.
    """
    counted = polygons[persons].to_numpy(dtype="float64")
    measured = log_density(coverage, counted)
    static = read_spec(coverage.url).layer(layer).static
    time = None if static else sample.label_time
    collected = collect(coverage, layer, time=time, client=client)
    density = collected["mean"].to_numpy() / (coverage.pixel_area / 1e6)
    predictions = {MODEL: np.log(density)}
    predictions |= baselines(coverage, sample, split, measured, client=client)
    table = score_table(measured, predictions, groups, split.polygon_fold, seed=split.seed)
    kinds = ["random" if name.endswith(RANDOM) else split.kind for name in table.index]
    table.insert(0, "split", kinds)
    filled = polygons.assign(
        persons=counted,
        persons_predicted=density * coverage.area / 1e6,
        measured=measured,
        predicted=predictions[MODEL],
        fold=split.polygon_fold + 1,
        covered_share=collected["covered_share"].to_numpy(),
        valid_share=collected["valid_share"].to_numpy(),
    )
    return Evaluation(
        coverage=coverage,
        sample=sample,
        split=split,
        layer=layer,
        polygons=filled,
        predictions=predictions,
        scores=table,
    )


def log_density(coverage: Coverage, persons: npt.ArrayLike) -> FloatArray:
    """Natural logarithm of persons per km2 of each polygon, float64 (polygon,).

    Raises:
        SpecError: A polygon holds nobody; leave it out first.
    """
    counted = np.asarray(persons, dtype="float64")
    if not (counted > 0).all():
        raise SpecError(
            f"A log density needs people in every polygon. {int((~(counted > 0)).sum())} of "
            f"{len(counted)} have none; leave them out."
        )
    return np.log(counted / (coverage.area / 1e6))


def baselines(
    coverage: Coverage,
    sample: SampleSpec,
    split: Split,
    truth: FloatArray,
    *,
    client: Client | None = None,
) -> dict[str, FloatArray]:
    """Out-of-fold predictions of what a model must beat; see :func:`evaluate`."""
    seed = split.seed
    fitted, test = split.masks()
    by_place = Folds(train=fitted, test=test)
    by_chance = random_folds(len(split.polygon_fold), n_folds=len(split.folds), seed=seed)
    own = polygon_features(coverage, sample, client=client)
    around = pd.concat([own, context_features(coverage, sample)], axis=1)
    found = {MEAN: mean_out_of_fold(truth, by_place)}
    for suffix, folds in (("", by_place), (RANDOM, by_chance)):
        for name, features in ((FOREST, own), (CONTEXT, around)):
            found[name + suffix] = forest_out_of_fold(features.to_numpy(), truth, folds, seed=seed)
    return found
