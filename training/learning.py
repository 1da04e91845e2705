"""One model learns: epochs, early stopping, progress, and who waited for whom."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from cube.errors import SpecError
from cube.spec import CubeSpec
from training.augmentation import Dihedral, Step, steps_of
from training.packing import packings
from training.samples import SampleSpec
from training.stream import ChipStream

if TYPE_CHECKING:
    import keras

logger = logging.getLogger("quadrat.training")


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


def train(
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
            _door(learn, epochs=epochs),
            steps_per_epoch=len(learn),
            epochs=epochs,
            validation_data=None if watch is None else _door(watch, epochs=1),
            callbacks=[best, _progress(bar, learn, name)],
            shuffle=False,  # the stream shuffles
            verbose=0,
        )
    if not np.isfinite(history.history[monitor]).all():
        raise SpecError(f"{name}: training diverged, its loss is not finite. Lower learning_rate.")
    epoch = int(np.argmin(history.history[monitor]))
    found = {key: float(values[epoch]) for key, values in history.history.items()}
    return {**found, "best_epoch": float(epoch + 1), "epochs": float(len(history.epoch))}


def _door(stream: ChipStream, *, epochs: int) -> Any:
    """The stream as the backend of Keras takes it fastest."""
    import keras

    if keras.backend.backend() == "tensorflow":
        return stream.tensorflow(epochs=epochs)
    return stream.keras()


def _progress(bar: Any, learn: ChipStream, name: str) -> keras.callbacks.Callback:
    import keras

    def show(epoch: int, logs: dict[str, float] | None) -> None:
        shown = {key: f"{value:.3f}" for key, value in (logs or {}).items()}
        for report in learn.reports:
            if report.epoch == epoch and report.whole:
                logger.info("%s, %s", name, report)
                shown |= {"chips/s": f"{report.rate:,.0f}", "waited": f"{report.waited_share:.0%}"}
        bar.set_postfix(shown)
        bar.update()

    return keras.callbacks.LambdaCallback(on_epoch_end=show)
