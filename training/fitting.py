"""Training: statistics, stream, network, early stopping, bundle."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from cube import coverage as coverages
from cube import urls
from cube.errors import SpecError
from cube.spec import CubeSpec, StackSpec
from cube.template import read_spec
from training.augmentation import Dihedral, Step, steps_of
from training.bundle import ModelBundle, environment, weights_digest
from training.packing import packings
from training.samples import SampleSpec
from training.splits import FoldSplit, Split
from training.statistics import Moments, training_moments
from training.stream import ChipStream, StreamSpec, Supervision

if TYPE_CHECKING:
    import keras

Network = Callable[..., "keras.Model"]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSpec:
    """How a network is trained.

    Attributes:
        epochs: At most; the learning rate falls to 0 along a cosine over them.
        patience: Epochs without a better validation loss after which to stop.
        batch: Chips in a batch.
        learning_rate: At the start, of AdamW.
        weight_decay: Of AdamW.
        augment: Random changes of the chips that are learned from: steps of
            :mod:`training.augmentation`, or the dicts of them; True turns and
            mirrors, False changes nothing.
        refit: Once the validation polygons have said for how many epochs to
            train, train anew for as many on them too.
        members: Networks of different seeds whose mean is the model.
        seed: Of weights, dropout, order and augmentation; each fold and member
            draws its own from it.
    """

    epochs: int = 15
    patience: int = 6
    batch: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    augment: bool | tuple[Step, ...] = True
    refit: bool = True
    members: int = 1
    seed: int

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch", "members"):
            if getattr(self, name) < 1:
                raise SpecError(f"{name} must be at least 1. Received {getattr(self, name)}.")
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise SpecError("learning_rate must be above 0 and weight_decay 0 or more.")
        if not isinstance(self.augment, bool):
            object.__setattr__(self, "augment", steps_of(self.augment))

    @property
    def steps(self) -> tuple[Step, ...]:
        """Of the augmentation; none to change nothing."""
        if isinstance(self.augment, bool):
            return (Dihedral(),) if self.augment else ()
        return self.augment

    def check(self, spec: CubeSpec, sample: SampleSpec) -> None:
        """Refuse an augmentation of inputs that the sample lacks.

        Raises:
            SpecError: The message says which.
        """
        for step in self.steps:
            step.count(packings(spec, sample))

    def seed_of(self, fold: int, member: int) -> int:
        """Seed of one member of one fold; different for every pair."""
        return int(np.random.SeedSequence([self.seed, fold, member]).generate_state(1)[0] >> 1)


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

    Returns:
        Bundles in the order of the folds, in folders ``out/fold_<number>``.
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
    """
    url = urls.normalise(url)
    part = split.folds[fold]
    streams = _Streams(url=url, sample=sample, split=split, part=part, fit=fit)
    split.guard(fold).check(streams.seen)
    fit.check(read_spec(url), sample)
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
        return self._stream(part.train_windows, part.train_polygons, seed)

    def watch(self, seed: int) -> ChipStream | None:
        """Validation polygons; None if there are none."""
        part = self.part
        if not len(part.validation_windows):
            return None
        return self._stream(part.validation_windows, part.validation_polygons, seed, shuffle=False)

    def both(self, seed: int) -> ChipStream:
        """Training and validation polygons, shuffled."""
        return self._stream(self.seen, self.part.fitted_polygons, seed)

    @property
    def supervision(self) -> Supervision:
        """Every polygon that the fold may use."""
        return self._supervision(self.part.fitted_polygons)

    def _supervision(self, polygons: IntArray) -> Supervision:
        coverage = coverages.load(self.url, self.split.coverage)
        return Supervision(coverage=coverage, polygons=polygons)

    def _stream(self, ids: IntArray, polygons: IntArray, seed: int, **options: Any) -> ChipStream:
        spec = StreamSpec(batch=self.fit.batch, seed=seed, **options)
        return ChipStream(
            self.url,
            self.sample,
            self.split.windows,
            ids,
            spec,
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
    metrics = _train(learner, streams.learn(first), watch, fit, epochs=fit.epochs, name=name)
    again = watch is not None and fit.refit
    members = [] if again else [model]
    for member in range(len(members), fit.members):
        seed = fit.seed_of(fold, member)
        model = fresh(seed)
        stream = streams.both(seed) if again else streams.learn(seed)
        epochs = int(metrics["best_epoch"])
        name = f"fold {fold + 1}, member {member + 1} of {fit.members}"
        _train(_augmenting(model, streams, seed), stream, None, fit, epochs=epochs, name=name)
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


def mean_of(members: Sequence[keras.Model]) -> keras.Model:
    """One model whose output is the mean of several with the same inputs."""
    import keras

    if len(members) == 1:
        return members[0]
    inputs = {
        name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=name)
        for name, tensor in members[0].input.items()
    }
    outputs = []
    for number, member in enumerate(members, start=1):
        member.name = f"member_{number}"
        outputs.append(member(inputs))
    return keras.Model(inputs, keras.layers.Average(name="mean")(outputs), name="quadrat")


def assemble(
    spec: CubeSpec, sample: SampleSpec, moments: dict[str, Moments], core: keras.Model
) -> keras.Model:
    """A network from stored values to the units of the target.

    Inputs are the sample's stacks by name, in their stored dtypes; decoding,
    scaling and the target's own scale are layers of the model.
    """
    import keras

    from training.layers import Destandardise, Standardise

    side = core.input_shape[1:3]
    inputs, scaled = {}, []
    for wanted in sample.inputs:
        stack: StackSpec = spec.stack(wanted.stack)
        inputs[stack.name] = keras.Input(
            (*side, len(wanted.bands)), dtype=stack.dtype, name=stack.name
        )
        scaled.append(
            Standardise(
                mean=moments[stack.name].mean.tolist(),
                std=moments[stack.name].std.tolist(),
                nodata=None if stack.storage.kind == "f" else int(stack.fill),
                scale=stack.scale,
                offset=stack.offset,
                name=f"standardise_{stack.name}",
            )(inputs[stack.name])
        )
    chips = keras.layers.Concatenate(name="bands")(scaled) if len(scaled) > 1 else scaled[0]
    label = moments["label"]
    scale = Destandardise(mean=label.mean[0], std=label.std[0], name="target")
    return keras.Model(inputs, scale(core(chips)), name="quadrat")


def _train(
    model: keras.Model,
    learn: ChipStream,
    watch: ChipStream | None,
    fit: FitSpec,
    *,
    epochs: int,
    name: str,
) -> dict[str, float]:
    """Fit in place, end with the best epoch's weights, and return its metrics."""
    import keras

    rate = keras.optimizers.schedules.CosineDecay(fit.learning_rate, epochs * len(learn))
    model.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=fit.weight_decay),
        loss=keras.losses.MeanSquaredError(),
    )
    monitor = "val_loss" if watch is not None else "loss"
    best = keras.callbacks.EarlyStopping(
        monitor, patience=fit.patience, restore_best_weights=True, mode="min"
    )
    with tqdm(total=epochs, desc=name, unit="epoch", disable=None) as bar:
        history = model.fit(
            learn.tensorflow(epochs=epochs),
            steps_per_epoch=len(learn),
            epochs=epochs,
            validation_data=None if watch is None else watch.tensorflow(epochs=1),
            callbacks=[best, _progress(bar)],
            shuffle=False,  # the stream shuffles
            verbose=0,
        )
    if not np.isfinite(history.history[monitor]).all():
        raise SpecError(f"{name}: training diverged, its loss is not finite. Lower learning_rate.")
    epoch = int(np.argmin(history.history[monitor]))
    found = {key: float(values[epoch]) for key, values in history.history.items()}
    return {**found, "best_epoch": float(epoch + 1), "epochs": float(len(history.epoch))}


def _progress(bar: Any) -> keras.callbacks.Callback:
    import keras

    def show(epoch: int, logs: dict[str, float] | None) -> None:
        del epoch
        bar.set_postfix({key: f"{value:.3f}" for key, value in (logs or {}).items()})
        bar.update()

    return keras.callbacks.LambdaCallback(on_epoch_end=show)
