"""A model is fitted to changed chips, judged on plain ones, and saved without the changes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from training.augmentation import Brightness, Flip, chip_draws
from training.augmentation.augmenting import Augmentation
from training.augmentation.fitted import augmented
from training.packing import Packing

SIDE = 4
CHIPS = 8


def _core(kernel=1.0):
    """Mean over the pixels, each times its own number from 1 where ``kernel`` is 1."""
    chips = keras.Input((SIDE, SIDE, 1), dtype="float32", name="optical")
    flat = keras.layers.Flatten()(chips)
    start = keras.initializers.Constant(kernel * np.arange(1.0, SIDE**2 + 1)[:, None] / SIDE**2)
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer=start, name="head")
    return keras.Model({"optical": chips}, dense(flat), name="core")


def _output(label, said):
    del label
    return ops.mean(said, axis=-1)


def _augmented(*steps, core=None, seed=0, rate=0.0, loss=_output):
    stacks = {"optical": Packing(bands=1, dtype="float32")}
    model = augmented(core or _core(), Augmentation(steps, stacks=stacks, seed=seed))
    model.compile(optimizer=keras.optimizers.SGD(rate), loss=loss)
    return model


def _data(seed=0):
    image = np.random.default_rng(seed).random((CHIPS, SIDE, SIDE, 1)).astype("float32")
    return {"optical": image}, np.zeros((CHIPS, 1), "float32"), np.ones(CHIPS, "float32")


def _fit(model, inputs=None, *, epochs=1, **options):
    plain, label, weight = _data()
    history = model.fit(
        inputs or plain,
        label,
        sample_weight=weight,
        batch_size=4,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        **options,
    )
    return history.history


def _plain_mean(image):
    return float((image.reshape(CHIPS, -1) @ (np.arange(1, SIDE**2 + 1) / SIDE**2)).mean())


def test_training_sees_changed_chips_and_validation_those_that_are():
    found = _fit(_augmented(Brightness(low=2, high=2)), validation_data=_data())
    expected = _plain_mean(_data()[0]["optical"])
    assert found["loss"] == pytest.approx([2 * expected], rel=1e-5)
    assert found["val_loss"] == pytest.approx([expected], rel=1e-5)


def test_every_epoch_is_drawn_anew_and_a_seed_repeats_them():
    losses = [_fit(_augmented(Flip(), seed=seed), epochs=4)["loss"] for seed in (1, 1, 2)]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    assert len(set(losses[0])) > 1


def test_draws_among_the_inputs_decide_and_reach_no_model():
    model = _augmented(Flip(along="x"))
    draws = chip_draws(4, 0, np.arange(CHIPS), model.augmentation.count)
    image = _data()[0]["optical"]
    found = _fit(model, {"optical": image, "draws": draws})
    mirrored = draws[:, 0] < 0.5
    assert 0 < mirrored.sum() < CHIPS
    expected = np.where(mirrored[:, None, None, None], image[:, :, ::-1], image)
    assert found["loss"] == pytest.approx([_plain_mean(expected)], rel=1e-5)
    said = model.predict({"optical": image, "draws": draws}, verbose=0)
    np.testing.assert_allclose(said, model.core.predict({"optical": image}, verbose=0), rtol=1e-6)


def test_the_model_itself_is_trained_and_saved_without_the_augmentation(tmp_path):
    core = _core()
    before = core.get_weights()[0].copy()
    _fit(_augmented(Flip(), core=core, rate=0.01, loss="mse"), epochs=2)
    after = core.get_weights()[0]
    assert (before != after).all()
    core.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_array_equal(loaded.get_weights()[0], after)
    assert [type(layer).__name__ for layer in loaded.layers] == ["InputLayer", "Flatten", "Dense"]


def test_the_best_epochs_weights_are_those_of_the_model():
    core = _core(kernel=0.1)
    best = keras.callbacks.EarlyStopping("val_loss", patience=9, restore_best_weights=True)
    model = _augmented(Flip(), core=core, rate=-0.02, loss="mse")  # it only ever gets worse
    found = _fit(model, epochs=3, validation_data=_data(), callbacks=[best])
    assert np.argmin(found["val_loss"]) == 0
    said = core.predict(_data()[0], verbose=0)
    assert float((said**2).mean()) == pytest.approx(found["val_loss"][0], rel=1e-5)
