"""What every network promises, and what the U-Net does besides."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from training import models
from training.bundle import weights_digest
from training.models import unet

SMALL = {"unet": {"widths": (4, 8)}}
"""Arguments that make each network small enough for a test."""


def _make(name, size=8, bands=3, outputs=1, *, seed=0):
    return getattr(models, name)(size, bands, outputs, seed=seed, **SMALL[name])


def _chips(size=8, bands=3, *, count=16, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size, size, bands)).astype("float32")


@pytest.mark.parametrize("name", models.__all__)
class TestEveryNetwork:
    @pytest.mark.parametrize(("size", "bands", "outputs"), [(8, 1, 1), (12, 5, 2)])
    def test_it_keeps_the_windows_size(self, name, size, bands, outputs):
        network = _make(name, size, bands, outputs)
        assert network.input_shape == (None, size, size, bands)
        found = np.asarray(network.predict_on_batch(_chips(size, bands, count=2)))
        assert (found.shape, found.dtype) == ((2, size, size, outputs), np.float32)
        assert np.isfinite(found).all()

    def test_its_seed_alone_decides_its_weights(self, name):
        digests = []
        for noise, seed in ((1, 0), (2, 0), (1, 1)):
            keras.utils.set_random_seed(noise)
            digests.append(weights_digest(_make(name, seed=seed)))
        assert digests[0] == digests[1]
        assert digests[0] != digests[2]

    def test_its_output_is_linear(self, name):
        layer = _make(name).layers[-1]
        assert keras.activations.serialize(layer.activation) == "linear"

    def test_its_loss_falls_on_what_can_be_learned(self, name):
        network, chips = _make(name, size=8), _chips(count=32)
        truth = chips[..., :1] - 0.5 * chips[..., 1:2]
        network.compile(keras.optimizers.Adam(0.01), "mse")
        losses = [float(network.train_on_batch(chips, truth)) for _ in range(40)]
        assert np.isfinite(losses).all()
        assert losses[-1] < 0.5 * losses[0]

    def test_it_says_the_same_saved_and_loaded(self, name, tmp_path):
        network = _make(name)
        network.save(tmp_path / "network.keras")
        loaded = keras.saving.load_model(tmp_path / "network.keras", safe_mode=True)
        outputs = [np.asarray(m.predict_on_batch(_chips())) for m in (network, loaded)]
        assert outputs[0].tobytes() == outputs[1].tobytes()


class TestUnet:
    @pytest.mark.parametrize(
        ("size", "levels", "better"), [(10, 3, "try 8"), (3, 2, "try 2"), (1, 3, "try 4")]
    )
    def test_a_window_that_cannot_be_halved_is_refused_with_a_size_that_can(
        self, size, levels, better
    ):
        with pytest.raises(ValueError, match=better):
            unet(size, 3, 1, widths=(4,) * levels, seed=0)

    def test_one_width_makes_a_network_without_halving(self):
        assert unet(7, 2, 1, widths=(4,), seed=0).output_shape == (None, 7, 7, 1)

    def test_no_two_convolutions_of_one_shape_start_with_the_same_weights(self):
        kernels = [w.numpy() for w in unet(8, 4, 1, widths=(4, 4), seed=0).trainable_weights]
        kernels = [w for w in kernels if w.ndim == 4]
        same = [
            (i, j)
            for i, one in enumerate(kernels)
            for j, other in enumerate(kernels[:i])
            if one.shape == other.shape and np.array_equal(one, other)
        ]
        assert same == []

    def test_every_pixel_sees_its_neighbourhood(self):
        network = unet(8, 1, 1, widths=(4, 8), seed=0)
        plain = _chips(bands=1)  # many, since a unit that is silent hides what it sees
        changed = plain.copy()
        changed[:, 0, 0] += 10
        outputs = [np.asarray(network.predict_on_batch(chips)) for chips in (plain, changed)]
        apart = np.abs(outputs[1] - outputs[0]).max(axis=0)[..., 0]
        assert (apart[:4, :4] > 0).all()
