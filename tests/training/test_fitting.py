"""Training is repeatable, checks for leaks first, and keeps the best epoch."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import partial

import keras
import numpy as np
import pytest

from cube.errors import SpecError, SplitError
from cube.windows import Windows
from tests import toy
from training import fitting
from training.augmentation import Brightness, Dihedral, Flip, Jitter
from training.bundle import load_bundle, weights_digest
from training.fitting import cross_validate, fit_fold
from training.learning import FitSpec
from training.models import unet
from training.networks import assemble, mean_of
from training.splits import SplitRules, contiguous_folds, split_by_polygons, whole_groups
from training.stream import ChipStream
from training.targets import TableTarget
from training.timings import Timing

TINY = partial(unet, widths=(4, 8))
WINDOWS = Windows(shape=toy.SHAPE, size=8, stride=4)
FIT = FitSpec(epochs=1, batch=32, seed=5, refit=False)


def _split(city, **rules):
    folds = contiguous_folds(city.polygons, by="neighbourhood", folds=2, seed=0)
    groups = whole_groups(city.polygons, "neighbourhood")
    rules = SplitRules(seed=1, **rules)
    return split_by_polygons(city.coverage, WINDOWS, folds, rules, groups=groups)


@pytest.fixture(scope="module")
def split(city):
    return _split(city, validation_share=0.4)


@pytest.fixture(scope="module")
def without_validation(city):
    return _split(city, validation_share=0.0)


class TestRealTraining:
    def test_one_seed_gives_the_same_weights_and_prints_nothing(
        self, city, split, tmp_path, capsys
    ):
        fit = replace(FIT, epochs=2)
        bundles = [
            fit_fold(city.url, toy.SAMPLE, split, 0, fit, out=tmp_path / name, network=TINY)
            for name in ("one", "two")
        ]
        assert bundles[0].weights_digest == bundles[1].weights_digest
        assert bundles[0].metrics == bundles[1].metrics
        assert np.isfinite(list(bundles[0].metrics.values())).all()
        assert capsys.readouterr() == ("", "")
        self._check_saved(city, split, bundles[0])

    def _check_saved(self, city, split, bundle):
        loaded = load_bundle(bundle.path)
        assert loaded.to_dict()["weights_digest"] == weights_digest(loaded.model())
        assert (loaded.window, loaded.stride, loaded.fold, loaded.seed) == (8, 4, 0, 5)
        assert loaded.split_digest == split.digest
        assert loaded.cube_digest == city.spec.digest
        assert loaded.environment["backend"] == keras.backend.backend()
        loaded.check(city.spec)

    def test_without_validation_polygons_members_train_on_all(
        self, city, without_validation, tmp_path
    ):
        assert not len(without_validation.folds[1].validation_polygons)
        fit = replace(FIT, refit=True, members=2)
        bundle = fit_fold(
            city.url, toy.SAMPLE, without_validation, 1, fit, out=tmp_path, network=TINY
        )
        assert set(bundle.metrics) == {"loss", "best_epoch", "epochs"}
        model = bundle.model()
        members = [layer for layer in model.layers if layer.name.startswith("member_")]
        assert weights_digest(members[0]) != weights_digest(members[1])
        chips = {
            "predictors": np.full((2, 8, 8, 2), 90, "uint8"),
            "terrain": np.zeros((2, 8, 8, 2), "float32"),
        }
        outputs = [np.asarray(m.predict_on_batch(chips)) for m in (model, *members)]
        np.testing.assert_allclose(outputs[0], (outputs[1] + outputs[2]) / 2, rtol=1e-6)


class TestLeaks:
    @pytest.mark.parametrize("role", ["train_windows", "validation_windows"])
    def test_a_leak_in_the_split_stops_the_training(self, city, split, tmp_path, role, monkeypatch):
        monkeypatch.setattr(fitting, "train", _never)
        part = split.folds[0]
        leaking = np.append(getattr(part, role), part.test_windows[0])
        tampered = replace(split, folds=(replace(part, **{role: leaking}), *split.folds[1:]))
        with pytest.raises(SplitError, match=r"Leak: \d+ of \d+ training windows"):
            fit_fold(city.url, toy.SAMPLE, tampered, 0, FIT, out=tmp_path / "m", network=TINY)
        assert not (tmp_path / "m").exists()


def _never(*_, **__):
    raise AssertionError("nothing may be trained")


def _polygons(stream):
    return stream.recipe.source.labeller.supervision.polygons.tolist()


@dataclass
class Recorded:
    """What each training was given."""

    learn: ChipStream
    watch: ChipStream | None
    epochs: int
    weights: str

    @property
    def polygons(self):
        return _polygons(self.learn)


@pytest.fixture
def trainings(monkeypatch):
    """Training replaced by a note of what it was given; it finds epoch 3 the best."""
    notes = []

    def note(model, learn, watch, fit, *, epochs, name):
        del fit, name
        notes.append(Recorded(learn, watch, epochs, weights_digest(model)))
        return {"best_epoch": 3.0}

    monkeypatch.setattr(fitting, "train", note)
    return notes


class TestWhatIsTrained:
    def test_a_refit_trains_anew_for_the_best_epochs_on_validation_polygons_too(
        self, city, split, tmp_path, trainings
    ):
        fit = replace(FIT, refit=True, epochs=9, members=2)
        fit_fold(city.url, toy.SAMPLE, split, 0, fit, out=tmp_path, network=TINY)
        part = split.folds[0]
        first, *members = trainings
        assert (first.epochs, first.polygons) == (9, part.train_polygons.tolist())
        assert first.learn.ids.tolist() == part.train_windows.tolist()
        assert _polygons(first.watch) == part.validation_polygons.tolist()
        assert first.watch.ids.tolist() == part.validation_windows.tolist()
        assert first.watch.spec.shuffle is False
        assert [m.epochs for m in members] == [3, 3]
        assert all(m.watch is None for m in members)
        assert all(m.polygons == part.fitted_polygons.tolist() for m in members)
        assert members[0].weights != members[1].weights
        assert members[0].learn.spec.seed != members[1].learn.spec.seed

    def test_without_a_refit_the_first_training_is_the_first_member(
        self, city, split, tmp_path, trainings
    ):
        fit = replace(FIT, epochs=9, members=2)
        fit_fold(city.url, toy.SAMPLE, split, 0, fit, out=tmp_path, network=TINY)
        assert [t.epochs for t in trainings] == [9, 3]
        assert [t.watch is None for t in trainings] == [False, True]
        expected = split.folds[0].train_polygons.tolist()
        assert [t.polygons for t in trainings] == [expected, expected]

    def test_without_validation_polygons_nothing_is_watched_or_trained_twice(
        self, city, without_validation, tmp_path, trainings
    ):
        fit = replace(FIT, refit=True)
        fit_fold(city.url, toy.SAMPLE, without_validation, 0, fit, out=tmp_path, network=TINY)
        assert [t.watch for t in trainings] == [None]

    def test_of_several_timings_the_windows_of_the_fold_train_and_no_others(
        self, city, split, tmp_path, trainings
    ):
        timings = (
            Timing(label=("2010",), inputs=("2000",)),
            Timing(label=("2010",), inputs=("2010",)),
        )
        sample = replace(toy.SAMPLE, timings=timings)
        fit_fold(city.url, sample, split, 0, FIT, out=tmp_path, network=TINY)
        part = split.folds[0]
        for stream, windows in (
            (trainings[0].learn, part.train_windows),
            (trainings[0].watch, part.validation_windows),
        ):
            assert stream.ids.tolist() == sorted(2 * w + t for w in windows for t in (0, 1))

    @pytest.mark.parametrize(
        ("target", "timing", "match"),
        [
            (replace(toy.TARGET, per=None, transform="classes"), {}, "The sample has classes; bu"),
            (replace(toy.TARGET, over="window"), {}, "has one label a window; build"),
            (toy.TARGET, {"inputs": ("2000", "2010")}, "has images of 2 periods; build"),
            (toy.TARGET, {"label": ("2000", "2010")}, "has labels of 2 periods; build"),
            (TableTarget(columns=("income",)), {}, "has no layer as its target; build"),
        ],
    )
    def test_what_is_no_map_of_numbers_is_refused_before_anything_is_read(
        self, city, split, monkeypatch, target, timing, match
    ):
        monkeypatch.setattr(fitting, "training_moments", _never)
        timings = (Timing(**{"label": ("2010",), "inputs": ("2000",), **timing}),)
        sample = replace(toy.SAMPLE, target=target, timings=timings)
        with pytest.raises(SpecError, match=match):
            fit_fold(city.url, sample, split, 0, FIT, out="never", network=TINY)
        with pytest.raises(SpecError, match=match):
            assemble(city.spec, sample, {}, TINY(8, 4, 1, seed=0))

    def test_every_fold_has_its_bundle_and_its_own_seed(self, city, split, tmp_path, trainings):
        bundles = cross_validate(
            city.url, toy.SAMPLE, split, FIT, out=tmp_path / "models", network=TINY
        )
        assert [b.fold for b in bundles] == [0, 1]
        assert [b.path.name for b in bundles] == ["fold_0", "fold_1"]
        assert len({t.learn.spec.seed for t in trainings}) == 2

    def test_the_network_may_be_the_users_own(self, city, split, tmp_path, trainings):
        def own(size, bands, outputs, *, seed):
            del seed
            chips = keras.Input((size, size, bands))
            return keras.Model(chips, keras.layers.Conv2D(outputs, 1, name="mine")(chips))

        bundle = fit_fold(city.url, toy.SAMPLE, split, 0, FIT, out=tmp_path, network=own)
        assert len(trainings) == 1
        assert any("mine" in weight.path for weight in bundle.model().weights)


class TestAugmentation:
    STEPS = ({"step": "Flip", "along": "x"}, {"step": "Jitter", "pixels": 2})

    @pytest.mark.parametrize("augment", [True, False, STEPS])
    def test_what_is_fitted_augments_and_what_is_bundled_does_not(
        self, city, split, tmp_path, monkeypatch, augment
    ):
        given = []
        monkeypatch.setattr(
            fitting, "train", lambda model, *_, **__: given.append(model) or {"best_epoch": 1.0}
        )
        fit = replace(FIT, augment=augment)
        bundle = fit_fold(city.url, toy.SAMPLE, split, 0, fit, out=tmp_path, network=TINY)
        steps = given[0].augmentation.steps if augment else ()
        assert steps == fit.steps
        assert {type(layer).__name__ for layer in bundle.model().layers}.isdisjoint(
            {"Augmentation", "Augmented"}
        )
        assert weights_digest(given[0]) == bundle.weights_digest

    def test_a_step_on_an_input_that_is_not_there_is_refused_first(
        self, city, split, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(fitting, "training_moments", _never)
        fit = replace(FIT, augment=[Brightness(stacks=("radar",))])
        with pytest.raises(SpecError, match="changes the inputs radar; there are predictors"):
            fit_fold(city.url, toy.SAMPLE, split, 0, fit, out=tmp_path, network=TINY)

    def test_true_is_the_dihedral_and_steps_may_be_their_dicts(self):
        assert FitSpec(seed=0).steps == (Dihedral(),)
        assert FitSpec(seed=0, augment=False).steps == ()
        given = FitSpec(seed=0, augment=self.STEPS)
        assert given.steps == given.augment == (Flip(along="x"), Jitter(pixels=2))

    def test_steps_that_are_none_are_refused(self):
        with pytest.raises(SpecError, match="has the steps Flip, .* Received step='Mixup'"):
            FitSpec(seed=0, augment=[{"step": "Mixup"}])


class Scripted:
    """A stream of one pixel whose label an epoch decides."""

    def __init__(self, *labels):
        self.labels = labels
        self.reports = []

    def __len__(self):
        return 4

    def _parts(self, epochs):
        labels = np.repeat(self.labels[:epochs], len(self)).astype("float32")
        shape = (len(labels), 1, 1, 1, 1)
        return np.ones(shape, "float32"), labels.reshape(shape), np.ones(shape[:-1], "float32")

    def tensorflow(self, *, epochs):
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices(self._parts(epochs))

    def keras(self):
        return Slices(self._parts(len(self.labels)), len(self))


class Slices(keras.utils.PyDataset):
    """Parts of arrays, so many an epoch, one epoch after the other."""

    def __init__(self, parts, count):
        super().__init__()
        self.parts, self.count, self.epoch, self.given = parts, count, 0, 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.given = index + 1
        return tuple(part[self.epoch * self.count + index] for part in self.parts)

    def on_epoch_end(self):
        if self.given == self.count and (self.epoch + 1) * self.count < len(self.parts[0]):
            self.epoch, self.given = self.epoch + 1, 0


def _one_weight():
    chips = keras.Input((1, 1, 1))
    return keras.Model(chips, keras.layers.Dense(1, kernel_initializer="zeros")(chips))


class TestBestEpoch:
    @pytest.mark.parametrize(
        ("patience", "epochs"), [(1, 3), (9, 6)], ids=["stopped", "to the end"]
    )
    def test_the_weights_of_the_best_epoch_are_kept(self, patience, epochs):
        fit = FitSpec(epochs=6, patience=patience, learning_rate=0.05, seed=0)
        model = _one_weight()
        learn = Scripted(1, 1, -9, -9, -9, -9)  # from the third epoch on, it learns what is wrong
        found = fitting.train(model, learn, Scripted(1), fit, epochs=6, name="toy")
        output = np.asarray(model.predict_on_batch(np.ones((1, 1, 1, 1), "float32"))).item()
        assert found["best_epoch"] == 2
        assert found["epochs"] == epochs
        assert (output - 1) ** 2 == pytest.approx(found["val_loss"], rel=1e-5)
        assert found["val_loss"] < 0.5

    def test_without_validation_the_training_loss_decides(self):
        fit = FitSpec(epochs=3, learning_rate=0.05, seed=0)
        found = fitting.train(_one_weight(), Scripted(1, 1, -9), None, fit, epochs=3, name="toy")
        assert found["best_epoch"] == 2
        assert set(found) == {"loss", "best_epoch", "epochs"}


def test_the_mean_of_members_is_the_mean_of_their_outputs(city, tmp_path):
    members = [toy.bundle(city, tmp_path / str(seed), seed=seed).model() for seed in (1, 2, 3)]
    chips = {
        "predictors": np.random.default_rng(0).integers(1, 255, (4, 8, 8, 2)).astype("uint8"),
        "terrain": np.random.default_rng(1).normal(size=(4, 8, 8, 2)).astype("float32"),
    }
    expected = np.mean([np.asarray(m.predict_on_batch(chips)) for m in members], axis=0)
    found = np.asarray(mean_of(members).predict_on_batch(chips))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert mean_of(members[:1]) is members[0]
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        mixed = mean_of([toy.bundle(city, tmp_path / str(n), seed=n).model() for n in (1, 2)])
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert mixed.output.dtype == "float32"


class TestFitSpec:
    def test_every_fold_and_member_draws_its_own_seed(self):
        numbers = itertools.product(range(3), range(5), range(4))
        seeds = {FitSpec(seed=seed).seed_of(fold, member) for seed, fold, member in numbers}
        assert len(seeds) == 60
        assert all(0 <= seed < 2**31 for seed in seeds)

    @pytest.mark.parametrize("name", ["epochs", "patience", "batch", "members"])
    def test_counts_below_one_are_refused(self, name):
        with pytest.raises(SpecError, match=f"{name} must be at least 1. Received 0"):
            FitSpec(seed=0, **{name: 0})

    @pytest.mark.parametrize("wrong", [{"learning_rate": 0.0}, {"weight_decay": -1.0}])
    def test_rates_out_of_range_are_refused(self, wrong):
        with pytest.raises(SpecError, match="learning_rate must be above 0"):
            FitSpec(seed=0, **wrong)


def test_a_training_that_diverges_is_an_error_and_leaves_no_bundle(city, split, tmp_path):
    wild = replace(FIT, epochs=3, learning_rate=1e30)
    with pytest.raises(SpecError, match="training diverged"):
        fit_fold(city.url, toy.SAMPLE, split, 0, wild, out=tmp_path / "model", network=TINY)
    assert not (tmp_path / "model").exists()


def test_a_split_says_where_nothing_decides_when_to_stop(split, without_validation):
    assert "no validation polygons" not in str(split)
    assert "no validation polygons in fold 1, 2" in str(without_validation)
