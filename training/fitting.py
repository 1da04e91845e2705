"""Training: statistics, stream, network, early stopping, bundle."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from cube import coverage as coverages
from cube import store
from cube.errors import SpecError
from cube.spec import CubeSpec, StackSpec
from cube.template import read_spec
from training.bundle import ModelBundle, environment, weights_digest
from training.samples import SampleSpec
from training.splits import FoldSplit, Split, check_leaks
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
        augment: Turn and mirror chips.
        refit: Once the validation polygons have said for how many epochs to
            train, train anew for as many on them too.
        seed: Of weights, dropout, order and augmentation; each fold adds its number.
    """

    epochs: int = 15
    patience: int = 6
    batch: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    augment: bool = True
    refit: bool = True
    seed: int

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch"):
            if getattr(self, name) < 1:
                raise SpecError(f"{name} must be at least 1. Received {getattr(self, name)}.")
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise SpecError("learning_rate must be above 0 and weight_decay 0 or more.")


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
        fit_fold(url, sample, split, part.fold, fit, out=Path(out) / f"fold_{part.fold}",
                 network=network)
        for part in split.folds
    ]


def fit_fold(
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
    import keras  # noqa: PLC0415  (heavy)

    url = store.normalise(url)
    part, seed = split.folds[fold], fit.seed + fold
    streams = _Streams.of(url, sample, split, part, fit, seed)
    check_leaks(split.windows, streams.seen, part.test_windows, buffer_px=split.buffer_px)
    moments = training_moments(url, sample, split.windows, streams.seen)

    def fresh() -> keras.Model:
        keras.utils.set_random_seed(seed)
        core = (network or _default_network())(split.windows.size, sample.bands, 1, seed=seed)
        return assemble(read_spec(url), sample, moments, core)

    model = fresh()
    metrics = _train(model, streams.learn, streams.watch, fit, epochs=fit.epochs, name=f"fold {fold}")
    if streams.watch is not None and fit.refit:
        model = fresh()
        epochs = int(metrics["best_epoch"])
        again = _train(model, streams.all, None, fit, epochs=epochs, name=f"fold {fold}, refit")
        metrics |= {"refit_loss": again["loss"]}
    bundle = ModelBundle(
        path=Path(out).absolute(),
        sample=sample,
        window=split.windows.size,
        stride=split.windows.stride,
        packing={s.stack: read_spec(url).stack(s.stack).to_dict() for s in sample.inputs},
        fold=fold,
        split_digest=split.digest,
        cube_digest=read_spec(url).digest,
        seed=seed,
        weights_digest=weights_digest(model),
        metrics=metrics,
        environment=environment(),
    )
    bundle.save(model)
    return bundle


def _default_network() -> Network:
    from training.models import unet  # noqa: PLC0415  (heavy)

    return unet


@dataclass(frozen=True, slots=True, kw_only=True)
class _Streams:
    """Streams of one fold.

    Attributes:
        learn: Training polygons.
        watch: Validation polygons; None if there are none.
        all: Both together, for the final fit.
    """

    learn: ChipStream
    watch: ChipStream | None
    all: ChipStream

    @property
    def seen(self) -> IntArray:
        """Every window that is streamed."""
        return self.all.ids

    @classmethod
    def of(
        cls,
        url: str,
        sample: SampleSpec,
        split: Split,
        part: FoldSplit,
        fit: FitSpec,
        seed: int,
    ) -> Self:
        coverage = coverages.load(url, split.coverage)

        def stream(ids: IntArray, polygons: IntArray, **options: Any) -> ChipStream:
            supervision = Supervision(coverage=coverage, polygons=polygons)
            spec = StreamSpec(batch=fit.batch, seed=seed, **options)
            return ChipStream(url, sample, split.windows, ids, spec, supervision=supervision)

        both = np.union1d(part.train_windows, part.validation_windows)
        watched = len(part.validation_windows) > 0
        return cls(
            learn=stream(part.train_windows, part.train_polygons, augment=fit.augment),
            watch=stream(part.validation_windows, part.validation_polygons, shuffle=False)
            if watched
            else None,
            all=stream(both, part.fitted_polygons, augment=fit.augment),
        )


def assemble(
    spec: CubeSpec, sample: SampleSpec, moments: dict[str, Moments], core: keras.Model
) -> keras.Model:
    """A network from stored values to the units of the target.

    Inputs are the sample's stacks by name, in their stored dtypes; decoding,
    scaling and the target's own scale are layers of the model.
    """
    import keras  # noqa: PLC0415  (heavy)

    from training.layers import Destandardise, Standardise  # noqa: PLC0415

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
                nodata=None if stack.storage.kind == "f" else stack.fill,
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
    import keras  # noqa: PLC0415  (heavy)

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
    # Keras restores the best weights only when it stopped early.
    if best.best_weights is not None:
        model.set_weights(best.best_weights)
    epoch = int(np.argmin(history.history[monitor]))
    found = {key: float(values[epoch]) for key, values in history.history.items()}
    return {**found, "best_epoch": float(epoch + 1), "epochs": float(len(history.epoch))}


def _progress(bar: Any) -> keras.callbacks.Callback:
    import keras  # noqa: PLC0415  (heavy)

    def show(epoch: int, logs: dict[str, float] | None) -> None:
        del epoch
        bar.set_postfix({key: f"{value:.3f}" for key, value in (logs or {}).items()})
        bar.update()

    return keras.callbacks.LambdaCallback(on_epoch_end=show)
