"""Training: statistics, stream, network, early stopping, bundle."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cube import coverage as coverages
from cube import urls
from cube.template import read_spec
from training.bundle import ModelBundle, environment, weights_digest
from training.chips import Chips
from training.learning import FitSpec, train
from training.networks import assemble, check_map, mean_of
from training.packing import packings
from training.samples import SampleSpec
from training.splits import FoldSplit, Split
from training.statistics import training_moments
from training.stream import ChipStream, StreamSpec, Supervision

if TYPE_CHECKING:
    import keras

Network = Callable[..., "keras.Model"]
IntArray = npt.NDArray[np.int64]


def cross_validate(
    url: str | os.PathLike[str],
    sample: SampleSpec,
    split: Split,
    fit: FitSpec,
    *,
    out: str | os.PathLike[str],
    network: Network | None = None,
) -> list[ModelBundle]:
    """Train one model per fold; see :func:`fit_fold`.

    Args:
        url: The cube.
        sample: What a chip holds.
        split: Folds by place.
        fit: How to train.
        out: Folder of the bundles.
        network: See :func:`fit_fold`.

    Returns:
        Bundles in the order of the folds, in folders ``out/fold_<number>``.

    Raises:
        SpecError: See :func:`fit_fold`.
        SplitError: See :func:`fit_fold`.
    """
    return [
        fit_fold(
            url, sample, split, part.fold, fit, out=Path(out) / f"fold_{part.fold}", network=network
        )
        for part in split.folds
    ]


def fit_fold(  # noqa: PLR0913  (where, what, on which part, how, where to)
    url: str | os.PathLike[str],
    sample: SampleSpec,
    split: Split,
    fold: int,
    fit: FitSpec,
    *,
    out: str | os.PathLike[str],
    network: Network | None = None,
) -> ModelBundle:
    """Train on the training windows of one fold and save the best epoch.

    The windows that are streamed are checked against the fold's test windows
    first. Every training polygon counts the same; validation polygons decide
    for how many epochs to train, and then train as well (``fit.refit``).

    Args:
        url: The cube; the split's coverage lies in it.
        sample: What a chip holds.
        split: Which windows train.
        fold: Which fold of it.
        fit: How.
        out: Folder of the bundle.
        network: ``network(size, bands, outputs, seed=...)`` gives a
            ``keras.Model`` of linear output; by default :func:`training.models.unet`.

    Raises:
        SplitError: A training window lies nearer to a test window than the buffer.
        SpecError: The sample is not of one image and one map of numbers.
    """
    url = urls.normalise(url)
    part = split.folds[fold]
    streams = _Streams(url=url, sample=sample, split=split, part=part, fit=fit)
    split.guard(fold).check(streams.seen)
    fit.check(read_spec(url), sample)
    check_map(read_spec(url), sample)
    moments = training_moments(
        url, sample, split.windows, streams.seen, supervision=streams.supervision
    )

    def fresh(seed: int) -> keras.Model:
        size = split.windows.size
        core = _seeded(network or _default_network(), size, sample.bands, seed=seed)
        return assemble(read_spec(url), sample, moments, core)

    model, metrics = _fit_members(streams, fresh, fit, fold)
    bundle = ModelBundle(
        path=Path(out).absolute(),
        sample=sample,
        window=split.windows.size,
        stride=split.windows.stride,
        packing={s.stack: read_spec(url).stack(s.stack).to_dict() for s in sample.inputs},
        fold=fold,
        split_digest=split.digest,
        cube_digest=read_spec(url).digest,
        seed=fit.seed,
        weights_digest=weights_digest(model),
        metrics=metrics,
        environment=environment(),
    )
    bundle.save(model)
    return bundle


def _default_network() -> Network:
    from training.models import unet

    return unet


def _seeded(network: Network, size: int, bands: int, *, seed: int) -> keras.Model:
    import keras

    keras.utils.set_random_seed(seed % 2**32)
    return network(size, bands, 1, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Streams:
    """Streams of one fold: to learn from, to watch, and both together."""

    url: str
    sample: SampleSpec
    split: Split
    part: FoldSplit
    fit: FitSpec

    @property
    def seen(self) -> IntArray:
        """Every window that is ever streamed."""
        return np.union1d(self.part.train_windows, self.part.validation_windows)

    def learn(self, seed: int) -> ChipStream:
        """Training polygons, shuffled."""
        part = self.part
        return self._stream(part.train_windows, part.train_polygons, seed, draws=self.draws)

    def watch(self, seed: int) -> ChipStream | None:
        """Validation polygons; None if there are none."""
        part = self.part
        if not len(part.validation_windows):
            return None
        return self._stream(part.validation_windows, part.validation_polygons, seed, shuffle=False)

    def both(self, seed: int) -> ChipStream:
        """Training and validation polygons, shuffled."""
        return self._stream(self.seen, self.part.fitted_polygons, seed, draws=self.draws)

    @property
    def draws(self) -> int:
        """Numbers by which a chip is augmented."""
        packed = packings(read_spec(self.url), self.sample)
        return sum(step.count(packed) for step in self.fit.steps)

    @property
    def supervision(self) -> Supervision:
        """Every polygon that the fold may use."""
        return self._supervision(self.part.fitted_polygons)

    def _supervision(self, polygons: IntArray) -> Supervision:
        coverage = coverages.load(self.url, self.split.coverage)
        return Supervision(coverage=coverage, polygons=polygons)

    def _stream(self, ids: IntArray, polygons: IntArray, seed: int, **options: Any) -> ChipStream:
        windows = self.split.windows
        return ChipStream(
            self.url,
            self.sample,
            windows,
            Chips(windows=windows, timings=len(self.sample.timings)).of_windows(ids),
            StreamSpec(batch=self.fit.batch, seed=seed, **options),
            supervision=self._supervision(polygons),
        )


def _fit_members(
    streams: _Streams, fresh: Callable[[int], keras.Model], fit: FitSpec, fold: int
) -> tuple[keras.Model, dict[str, float]]:
    """Find out for how long to train, train every member for as long, and average them."""
    first = fit.seed_of(fold, 0)
    model, watch = fresh(first), streams.watch(first)
    name = f"fold {fold + 1}"
    learner = _augmenting(model, streams, first)
    metrics = train(learner, streams.learn(first), watch, fit, epochs=fit.epochs, name=name)
    again = watch is not None and fit.refit
    members = [] if again else [model]
    for member in range(len(members), fit.members):
        seed = fit.seed_of(fold, member)
        model = fresh(seed)
        stream = streams.both(seed) if again else streams.learn(seed)
        epochs = int(metrics["best_epoch"])
        name = f"fold {fold + 1}, member {member + 1} of {fit.members}"
        train(_augmenting(model, streams, seed), stream, None, fit, epochs=epochs, name=name)
        members.append(model)
    return mean_of(members), metrics


def _augmenting(model: keras.Model, streams: _Streams, seed: int) -> keras.Model:
    """What to fit in the model's place; it trains the model itself."""
    from training.augmentation.augmenting import Augmentation
    from training.augmentation.fitted import augmented

    steps = streams.fit.steps
    if not steps:
        return model
    spec = read_spec(streams.url)
    return augmented(model, Augmentation.of(steps, spec, streams.sample, seed=seed))
