"""Layers do to stored values what the cube's own decoding and numpy do."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from cube import nodata
from cube.spec import StackSpec
from training.layers import Destandardise, Standardise

MEAN, STD = (12.5, -3.0), (4.0, 0.25)

STACKS = {
    "uint8": StackSpec(name="a", bands=("r", "g"), dtype="uint8", nodata=0),
    "int16 packed": StackSpec(
        name="a", bands=("r", "g"), dtype="int16", nodata=-32768, scale=2.75e-5, offset=-0.2
    ),
    "int16 far off": StackSpec(
        name="a", bands=("r", "g"), dtype="int16", nodata=-1, scale=1e-4, offset=5000.0
    ),
    "uint16": StackSpec(name="a", bands=("r", "g"), dtype="uint16", nodata=65535),
    "float32": StackSpec(name="a", bands=("r", "g"), dtype="float32"),
    "float64": StackSpec(name="a", bands=("r", "g"), dtype="float64"),
    "int32": StackSpec(name="a", bands=("r", "g"), dtype="int32", nodata=2**31 - 1),
    "uint32": StackSpec(name="a", bands=("r", "g"), dtype="uint32", nodata=2**32 - 1),
    "int64": StackSpec(name="a", bands=("r", "g"), dtype="int64", nodata=-(2**31) + 1),
}


def _stored(stack, *, seed=0):
    """Chips of every kind of value, some of them nodata, (3, 4, 4, 2)."""
    rng = np.random.default_rng(seed)
    shape = (3, 4, 4, 2)
    if stack.storage.kind == "f":
        values = rng.normal(10, 5, shape).astype(stack.dtype)
    else:
        info = np.iinfo(stack.dtype)
        values = rng.integers(max(info.min, -20_000), min(info.max, 20_000), shape).astype(
            stack.dtype
        )
    values[rng.random(shape) < 0.2] = stack.fill
    return values


def _layer(stack, *, mean=MEAN, std=STD):
    return Standardise(
        mean=mean,
        std=std,
        nodata=None if stack.storage.kind == "f" else stack.fill,
        scale=stack.scale,
        offset=stack.offset,
    )


def _expected(stored, stack, *, mean=MEAN, std=STD):
    standard = (nodata.decode(stored, stack).astype("float64") - mean) / std
    return np.nan_to_num(standard, nan=0.0)


class TestStandardise:
    @pytest.mark.parametrize("kind", STACKS)
    def test_it_equals_numpy_and_nodata_becomes_zero(self, kind):
        stack = STACKS[kind]
        stored = _stored(stack)
        found = keras.ops.convert_to_numpy(_layer(stack)(stored))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, _expected(stored, stack), rtol=1e-5, atol=1e-5)
        assert (found[~nodata.valid(stored, stack)] == 0).all()

    @pytest.mark.parametrize("kind", STACKS)
    def test_it_says_the_same_inside_a_model_saved_and_loaded(self, kind, tmp_path):
        stack = STACKS[kind]
        stored = _stored(stack)
        chips = keras.Input((4, 4, 2), dtype=stack.dtype)
        model = keras.Model(chips, _layer(stack)(chips))
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
        outputs = [np.asarray(m.predict_on_batch(stored)) for m in (model, loaded)]
        assert outputs[0].tobytes() == outputs[1].tobytes()
        np.testing.assert_allclose(outputs[0], _expected(stored, stack), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("kind", ["int32", "uint32", "int64", "float64"])
    def test_values_beyond_24_bits_keep_their_difference(self, kind):
        stack = STACKS[kind]
        stored = np.array([2**24, 2**24 + 1, 2**30 + 1], stack.dtype).reshape(1, 1, 3, 1)
        layer = _layer(stack, mean=[2**24], std=[2.0])
        found = keras.ops.convert_to_numpy(layer(stored)).ravel()
        assert found[:2].tolist() == [0.0, 0.5]
        assert found[2] == pytest.approx((2**30 + 1 - 2**24) / 2)

    def test_a_large_offset_does_not_round_the_steps_away(self):
        stack = STACKS["int16 far off"]
        stored = np.arange(4, dtype="int16").reshape(1, 2, 2, 1)
        found = keras.ops.convert_to_numpy(_layer(stack, mean=[5000.0], std=[1e-4])(stored))
        np.testing.assert_allclose(found.ravel(), [0, 1, 2, 3], atol=1e-4)

    def test_its_config_goes_there_and_back(self):
        layer = _layer(STACKS["int16 packed"])
        again = Standardise.from_config(layer.get_config())
        assert again.get_config() == layer.get_config()

    def test_a_value_next_to_nodata_is_no_nodata(self):
        stack = STACKS["int32"]
        stored = np.array([2**31 - 2, 2**31 - 1], "int32").reshape(1, 1, 2, 1)
        found = keras.ops.convert_to_numpy(_layer(stack, mean=[0.0], std=[1.0])(stored)).ravel()
        assert found.tolist() == [2.0**31, 0.0]


class TestDestandardise:
    def test_it_undoes_a_standardisation(self):
        values = np.random.default_rng(0).normal(8, 3, (2, 4, 4, 1)).astype("float32")
        found = Destandardise(mean=8.0, std=3.0)((values - 8) / 3)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(found), values, rtol=1e-5)

    def test_its_config_goes_there_and_back(self):
        layer = Destandardise(mean=8.0, std=3.0)
        assert Destandardise.from_config(layer.get_config()).get_config() == layer.get_config()
