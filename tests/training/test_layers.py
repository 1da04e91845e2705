"""Layers do to stored values what the cube's own decoding and numpy do."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from cube import nodata
from cube.errors import SpecError
from cube.spec import StackSpec
from training.layers import Destandardise, Rescale, Standardise, Valid, check_width, standardiser
from training.statistics import ChannelStatistics, Statistics

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


def _held(dtype):
    try:
        check_width(dtype)
    except SpecError:
        return False
    return True


HELD = [kind for kind, stack in STACKS.items() if _held(stack.dtype)]
"""Those that the backend does not cut down to 32 bits, as JAX does."""


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


def _packing(stack):
    fill = None if stack.storage.kind == "f" else stack.fill
    return {"nodata": fill, "scale": stack.scale, "offset": stack.offset}


def _layer(stack, *, mean=MEAN, std=STD):
    return Standardise(mean=mean, std=std, **_packing(stack))


def _expected(stored, stack, *, mean=MEAN, std=STD):
    standard = (nodata.decode(stored, stack).astype("float64") - mean) / std
    return np.nan_to_num(standard, nan=0.0)


class TestStandardise:
    @pytest.mark.parametrize("kind", HELD)
    def test_it_equals_numpy_and_nodata_becomes_zero(self, kind):
        stack = STACKS[kind]
        stored = _stored(stack)
        found = keras.ops.convert_to_numpy(_layer(stack)(stored))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, _expected(stored, stack), rtol=1e-5, atol=1e-5)
        assert (found[~nodata.valid(stored, stack)] == 0).all()

    @pytest.mark.parametrize("kind", HELD)
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

    @pytest.mark.parametrize("kind", [k for k in HELD if k[-2:] in ("32", "64") and k != "float32"])
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

    @pytest.mark.parametrize("kind", ["uint8", "int32"])
    def test_dates_are_scaled_alike(self, kind):
        stack = STACKS[kind]
        stored = np.stack([_stored(stack, seed=seed) for seed in (0, 1)], axis=1)
        found = keras.ops.convert_to_numpy(_layer(stack)(stored))
        for date in (0, 1):
            alone = keras.ops.convert_to_numpy(_layer(stack)(stored[:, date]))
            np.testing.assert_array_equal(found[:, date], alone)

    def test_a_deviation_of_zero_is_refused(self):
        with pytest.raises(SpecError, match="Deviations must be above 0. Received .*0.0"):
            _layer(STACKS["uint8"], std=(1.0, 0.0))

    @pytest.mark.parametrize("dtype", sorted({s.dtype for k, s in STACKS.items() if k not in HELD}))
    def test_what_the_backend_would_cut_short_is_refused(self, dtype):
        layer = Standardise(mean=[0.0], std=[1.0], nodata=None)
        with pytest.raises(SpecError, match=f"cuts {dtype} down to 32 bits; set JAX_ENABLE_X64=1"):
            layer(keras.Input((2, 2, 1), dtype=dtype))


class TestRescale:
    LOW, HIGH = (-5.0, 2.0), (80.0, 63.0)

    def _layer(self, stack):
        return Rescale(low=self.LOW, high=self.HIGH, **_packing(stack))

    @pytest.mark.parametrize("kind", HELD)
    def test_it_equals_numpy_cut_to_0_and_1_and_nodata_becomes_zero(self, kind):
        stack = STACKS[kind]
        stored = _stored(stack)
        found = keras.ops.convert_to_numpy(self._layer(stack)(stored))
        physical = nodata.decode(stored, stack).astype("float64")
        expected = np.clip((physical - self.LOW) / np.subtract(self.HIGH, self.LOW), 0, 1)
        np.testing.assert_allclose(found, np.nan_to_num(expected, nan=0.0), atol=1e-5)
        assert found.dtype == np.float32

    def test_its_config_goes_there_and_back(self):
        layer = self._layer(STACKS["int16 packed"])
        assert Rescale.from_config(layer.get_config()).get_config() == layer.get_config()

    def test_an_empty_range_is_refused(self):
        with pytest.raises(SpecError, match="low below high. Received low=.1.0., high=.1.0."):
            Rescale(low=[1.0], high=[1.0], nodata=0)


class TestValid:
    @pytest.mark.parametrize("kind", HELD)
    def test_it_is_1_where_every_band_was_observed(self, kind):
        stack = STACKS[kind]
        stored = _stored(stack)
        chips = keras.Input((4, 4, 2), dtype=stack.dtype)
        model = keras.Model(chips, Valid(**_packing(stack))(chips))
        assert model.output_shape == (None, 4, 4, 1)
        found = np.asarray(model.predict_on_batch(stored))
        expected = nodata.valid(stored, stack).all(axis=-1, keepdims=True)
        np.testing.assert_array_equal(found, expected.astype("float32"))


class TestStandardiser:
    STACK = STACKS["int16 packed"]

    def _statistics(self, *, std=2.0, quantiles=(-0.1, 0.2, 0.4)):
        bands = tuple(
            ChannelStatistics(
                name="a", channel=band, count=9, mean=0.1, std=s, min=-1, max=1, quantiles=quantiles
            )
            for band, s in (("r", std), ("g", 0.5))
        )
        return Statistics(levels=(0.02, 0.5, 0.98)[: len(quantiles)], inputs=bands)

    def test_by_moments_it_standardises_as_the_stack_is_packed(self):
        layer = standardiser(self._statistics(), self.STACK, name="scaled")
        expected = _layer(self.STACK, mean=(0.1, 0.1), std=(2.0, 0.5)).get_config()
        assert {**layer.get_config(), "name": ""} == {**expected, "name": ""}
        assert layer.name == "scaled"

    def test_a_constant_band_is_divided_by_one(self):
        assert standardiser(self._statistics(std=0.0), self.STACK).std == [1.0, 0.5]

    def test_by_quantiles_it_rescales_from_the_lowest_to_the_highest(self):
        layer = standardiser(self._statistics(), self.STACK, by="quantiles")
        assert isinstance(layer, Rescale)
        assert (layer.low, layer.high) == ([-0.1, -0.1], [0.4, 0.4])
        assert (layer.nodata, layer.scale, layer.offset) == (-32768, 2.75e-5, -0.2)

    @pytest.mark.parametrize(
        ("options", "by", "match"),
        [
            ({"quantiles": (0.1,)}, "quantiles", "needs two quantiles or more"),
            ({"quantiles": (0.1, 0.1)}, "quantiles", "low below high"),
            ({}, "range", "by 'moments' or 'quantiles'. Received by='range'"),
        ],
    )
    def test_what_gives_no_scale_is_refused(self, options, by, match):
        with pytest.raises(SpecError, match=match):
            standardiser(self._statistics(**options), self.STACK, by=by)


class TestDestandardise:
    def test_it_undoes_a_standardisation(self):
        values = np.random.default_rng(0).normal(8, 3, (2, 4, 4, 1)).astype("float32")
        found = Destandardise(mean=8.0, std=3.0)((values - 8) / 3)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(found), values, rtol=1e-5)

    def test_under_mixed_precision_no_layer_loses_values(self):
        keras.mixed_precision.set_global_policy("mixed_float16")
        try:
            layers = Destandardise(mean=1e5, std=1e4), _layer(STACKS["int32"], mean=(0, 0))
        finally:
            keras.mixed_precision.set_global_policy("float32")
        standard = keras.ops.cast(np.full((1, 1, 1, 1), 0.5), "float16")
        found = layers[0](standard), layers[1](np.full((1, 1, 1, 2), 2**24 + 1, "int32"))
        assert [keras.backend.standardize_dtype(f.dtype) for f in found] == ["float32"] * 2
        assert keras.ops.convert_to_numpy(found[0]).item() == 105_000
        assert keras.ops.convert_to_numpy(found[1])[..., 0] == pytest.approx((2**24 + 1) / 4)

    def test_its_config_goes_there_and_back(self):
        layer = Destandardise(mean=8.0, std=3.0)
        assert Destandardise.from_config(layer.get_config()).get_config() == layer.get_config()
