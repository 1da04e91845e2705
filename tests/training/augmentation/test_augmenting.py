"""Chips change as one: image, dates, label and weight; nodata mixes with nothing."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from cube.errors import SpecError
from tests import toy
from training.augmentation import (
    BandDropout,
    Brightness,
    ChannelShift,
    CropZoom,
    Dihedral,
    Flip,
    Jitter,
    Rotation,
    chip_draws,
    placement,
    step_from_dict,
    step_to_dict,
    steps_of,
)
from training.augmentation.augmenting import Augmentation
from training.packing import Packing

SIDE = 9
PACKINGS = {
    "uint8": Packing(bands=2, dtype="uint8", nodata=0),
    "int16": Packing(bands=2, dtype="int16", nodata=-1, scale=0.5, offset=-3.0),
    "uint16": Packing(bands=2, dtype="uint16", nodata=65535),
    "float32": Packing(bands=2, dtype="float32"),
    "int32": Packing(bands=2, dtype="int32", nodata=-(2**31)),
}
NARROW = [kind for kind in PACKINGS if kind != "int32"]
EVERY = (
    Flip(),
    Dihedral(),
    Jitter(pixels=2),
    CropZoom(),
    Rotation(degrees=15),
    Brightness(),
    ChannelShift(amount=10),
    BandDropout(probability=0.3),
)
EXACT = (Flip(), Dihedral(), Jitter(pixels=2))


def _coded(chips=6, *, side=SIDE, dates=()):
    """The number of each pixel, from 1, int (chip, [date,] side, side, 1)."""
    codes = np.arange(side * side).reshape(side, side, 1) + 1
    return np.broadcast_to(codes, (chips, *dates, side, side, 1))


def _batch(kind, chips=6, *, dates=()):
    """A stack of two bands and a label and weights that hold the same code."""
    image = np.repeat(_coded(chips, dates=dates), 2, axis=-1).astype(kind)
    label = _coded(chips).astype("float32")
    return {"optical": image}, label, label[..., 0].copy()


def _augmentation(*steps, kind="uint8", seed=0):
    return Augmentation(steps, stacks={"optical": PACKINGS[kind]}, seed=seed)


def _numpy(batch):
    inputs, label, weight = batch
    inputs = {name: ops.convert_to_numpy(values) for name, values in inputs.items()}
    return inputs, ops.convert_to_numpy(label), ops.convert_to_numpy(weight)


def _run(layer, batch, draws=None):
    if draws is not None:
        draws = np.asarray(draws, "float32")
    return _numpy(layer(batch, draws=draws))


def _compiled(function):
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True)
    import jax

    return jax.jit(function)


class TestMoves:
    @pytest.mark.parametrize("kind", PACKINGS)
    @pytest.mark.parametrize("dates", [(), (3,)])
    def test_image_dates_label_and_weight_move_as_one_to_the_bit(self, kind, dates):
        layer = _augmentation(*EXACT, kind=kind)
        inputs, label, weight = _run(layer, _batch(kind, 32, dates=dates))
        image = inputs["optical"]
        assert image.dtype == kind
        outside = label[..., 0] == 0
        assert outside.any()
        np.testing.assert_array_equal(weight, label[..., 0])
        lost = PACKINGS[kind].nodata
        frames = np.moveaxis(image, 1, 0) if dates else image[None]
        for frame in frames:
            for band in np.moveaxis(frame, -1, 0):
                np.testing.assert_array_equal(band[~outside], weight[~outside])
                assert (np.isnan(band) if lost is None else band == lost)[outside].all()
        assert len(np.unique(label, axis=0)) > 20  # chips move each by itself

    def test_the_dihedral_is_numpys_rot90_and_a_mirror(self):
        draws = (np.arange(8) + 0.5)[:, None] / 8
        (inputs, label, _) = _run(_augmentation(Dihedral()), _batch("uint8", 8), draws)
        plain = _coded(1)[0, ..., 0]
        for turn in range(8):
            expected = np.rot90(plain, turn % 4)
            expected = expected[::-1] if turn >= 4 else expected
            np.testing.assert_array_equal(inputs["optical"][turn, ..., 1], expected)
            np.testing.assert_array_equal(label[turn, ..., 0], expected)

    @pytest.mark.parametrize(
        ("along", "axes"),
        [("x", [(), (1,)]), ("y", [(), (0,)]), ("both", [(), (0,), (1,), (0, 1)])],
    )
    def test_flips_mirror_the_axes_they_name(self, along, axes):
        inputs, _, _ = _run(_augmentation(Flip(along=along)), _batch("uint8", 64))
        plain = _coded(1)[0, ..., 0]
        expected = {np.flip(plain, axis).tobytes() for axis in axes}
        found = {chip.astype(plain.dtype).tobytes() for chip in inputs["optical"][..., 0]}
        assert found == expected

    @pytest.mark.parametrize("kind", PACKINGS)
    @pytest.mark.parametrize("side", [1, 8, 9])
    @pytest.mark.parametrize("dates", [(), (2,)])
    def test_symmetries_are_those_of_the_general_move_to_the_bit(self, kind, side, dates):
        draws = chip_draws(0, 0, np.arange(24), 3)
        image = _coded(24, side=side, dates=dates).astype(kind)
        placed = placement.symmetric(draws[:, 0]).then(placement.mirrored(y=draws[:, 1], x=None))
        expected = placement.nearest(image, placed.sources(side), np.zeros((), kind))
        found = ops.convert_to_numpy(placement.symmetrical(image, placed))
        assert found.dtype == kind
        np.testing.assert_array_equal(found, ops.convert_to_numpy(expected))

    def test_a_jitter_shifts_by_every_number_of_pixels_and_fills_with_nodata(self):
        draws = [[y, x] for y in (0.1, 0.3, 0.5, 0.7, 0.9) for x in (0.1, 0.5, 0.9)]
        _, label, _ = _run(_augmentation(Jitter(pixels=2)), _batch("uint8", 15), draws)
        padded = np.pad(_coded(1)[0, ..., 0], 2)
        for chip, (y, x) in zip(label[..., 0], draws, strict=True):
            dy, dx = int(y * 5), int(x * 5)
            np.testing.assert_array_equal(chip, padded[dy : dy + SIDE, dx : dx + SIDE])

    @pytest.mark.parametrize("kind", NARROW)
    @pytest.mark.parametrize(("degrees", "turns"), [(90, -1), (180, -2)])
    def test_a_rotation_by_quarter_circles_is_rot90_to_the_bit(self, kind, degrees, turns):
        batch = _batch(kind, 2)
        inputs, label, _ = _run(
            _augmentation(Rotation(degrees=degrees), kind=kind), batch, [[0.0]] * 2
        )
        expected = np.rot90(batch[0]["optical"], turns, axes=(1, 2))
        np.testing.assert_array_equal(inputs["optical"], expected)
        np.testing.assert_array_equal(label, np.rot90(batch[1], turns, axes=(1, 2)))

    @pytest.mark.parametrize("kind", NARROW)
    @pytest.mark.parametrize(
        ("step", "draws"),
        [
            (CropZoom(low=1.0), [0.2, 0.1, 0.9]),
            (Rotation(degrees=30), [0.5]),
            (Brightness(low=1, high=1), [0.3]),
        ],
    )
    def test_zoom_1_angle_0_and_factor_1_are_identities(self, kind, step, draws):
        batch = _batch(kind, 1)
        batch[0]["optical"][0, 2:4, 3, 0] = PACKINGS[kind].nodata if kind != "float32" else np.nan
        inputs, label, weight = _run(_augmentation(step, kind=kind), batch, [draws])
        np.testing.assert_array_equal(inputs["optical"], batch[0]["optical"])
        np.testing.assert_array_equal(label, batch[1])
        np.testing.assert_array_equal(weight, batch[2])


class TestInterpolation:
    @pytest.mark.parametrize("steps", [(CropZoom(low=0.5),), (Rotation(degrees=180),), EVERY[:5]])
    def test_image_and_label_stay_within_half_a_pixel_of_each_other(self, steps):
        y, x = (place.astype("float32") for place in np.mgrid[:SIDE, :SIDE])
        image = np.broadcast_to(np.stack([y, x], -1), (16, SIDE, SIDE, 2)).copy()
        weight = np.ones((16, SIDE, SIDE), "float32")
        layer = _augmentation(*steps, kind="float32")
        inputs, label, weight = _run(layer, ({"optical": image}, image, weight))
        seen = (weight > 0) & ~np.isnan(inputs["optical"]).any(axis=-1)
        assert seen.mean() > 0.5
        assert (weight[label.sum(-1) > 0] == 1).all()
        assert np.abs(inputs["optical"] - label)[seen].max() <= 0.501
        assert set(np.unique(label)) <= set(range(SIDE))  # labels are never interpolated

    @pytest.mark.parametrize("dates", [(), (2,)])
    @pytest.mark.parametrize("steps", [(CropZoom(low=0.5),), (Rotation(degrees=180),), EVERY[:5]])
    def test_what_weighs_was_observed_in_every_band_at_every_date(self, steps, dates):
        rng = np.random.default_rng(2)
        image = rng.integers(1, 200, (16, *dates, SIDE, SIDE, 2)).astype("uint8")
        image[rng.random(image.shape) < 0.1] = 0
        seen = (image > 0).all(axis=-1).reshape(16, -1, SIDE, SIDE).all(axis=1)
        label = (1 + seen[..., None]).astype("float32") * seen[..., None]
        batch = ({"optical": image}, label, seen.astype("float32"))
        inputs, label, weight = _run(_augmentation(*steps), batch)
        still = (inputs["optical"] > 0).all(axis=-1).reshape(16, -1, SIDE, SIDE).all(axis=1)
        assert still[weight > 0].all()
        assert (label[..., 0] == 2 * weight).all()
        assert weight.any()

    @pytest.mark.parametrize("kind", NARROW)
    def test_it_is_the_bilinear_mean_of_observed_pixels(self, kind):
        packing, rng = PACKINGS[kind], np.random.default_rng(3)
        image = rng.integers(1, 200, (1, SIDE, SIDE, 2)).astype(kind)
        lost = rng.random(image.shape) < 0.3
        image[lost] = np.nan if packing.nodata is None else packing.nodata
        draws = [0.37, 0.2, 0.8]
        layer = _augmentation(CropZoom(low=0.5), kind=kind)
        weight = np.ones((1, SIDE, SIDE), "float32")
        inputs, _, _ = _run(layer, ({"optical": image}, weight[..., None], weight), [draws])
        expected = _plain_zoom(image[0], lost[0], 0.5 + 0.37 * 0.5, draws[1:])
        found = inputs["optical"][0]
        gone = np.isnan(found) if packing.nodata is None else found == packing.nodata
        np.testing.assert_array_equal(gone, np.isnan(expected))
        atol = 0.3 if packing.nodata is None else 0.8  # places are rounded to 1/1024 pixel
        np.testing.assert_allclose(found[~gone], expected[~gone], atol=atol)

    @pytest.mark.parametrize("value", [1, 255])
    def test_nodata_never_mixes_into_its_neighbours(self, value):
        rng = np.random.default_rng(1)
        image = np.where(rng.random((32, SIDE, SIDE, 2)) < 0.4, 0, value).astype("uint8")
        label = np.zeros((32, SIDE, SIDE, 1), "float32")
        layer = _augmentation(Rotation(degrees=180), CropZoom(low=0.6))
        inputs, _, _ = _run(layer, ({"optical": image}, label, label[..., 0]))
        assert set(np.unique(inputs["optical"])) == {0, value}

    @pytest.mark.parametrize("value", [0.1, 1000.0, -1e30])
    @pytest.mark.parametrize("steps", [(CropZoom(low=0.5),), (Rotation(degrees=10),)])
    def test_a_constant_stays_constant_where_it_was_observed(self, value, steps):
        image = np.full((16, SIDE, SIDE, 2), value, "float32")
        image[np.random.default_rng(0).random(image.shape) < 0.3] = np.nan
        weight = np.ones((16, SIDE, SIDE), "float32")
        layer = _augmentation(*steps, kind="float32")
        inputs, _, _ = _run(layer, ({"optical": image}, weight[..., None], weight))
        found = inputs["optical"]
        assert set(found[~np.isnan(found)].tolist()) == {float(np.float32(value))}

    @pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX holds no 64 bits by itself")
    def test_the_least_number_of_64_bits_does_not_become_nodata(self):
        lost, least = -(2**63), -(2**63) + 1
        image = np.full((1, 2, 2, 1), least, "int64")
        image[0, 0, 0] = lost
        packing = Packing(bands=1, dtype="int64", nodata=lost)
        layer = Augmentation([Brightness(low=1, high=1)], stacks={"optical": packing}, seed=0)
        weight = np.ones(1, "float32")
        inputs, _, _ = _run(layer, ({"optical": image}, weight[:, None], weight))
        np.testing.assert_array_equal(inputs["optical"] == lost, image == lost)

    def test_an_observed_mean_that_equals_nodata_becomes_its_neighbour(self):
        image = np.zeros((1, 2, 2, 2), "int16")
        image[0, :, 1] = -2  # between 0 and -2 lies -1, which is nodata
        layer = _augmentation(CropZoom(low=0.5, high=0.5), kind="int16")
        weight = np.ones((1, 2, 2), "float32")
        batch = ({"optical": image}, weight[..., None], weight)
        inputs, _, _ = _run(layer, batch, [[0.0, 0.5, 0.499]])
        assert not (inputs["optical"] == -1).any()


def _plain_zoom(image, lost, fraction, draws):
    """A crop resized back, in plain loops; NaN where observed pixels weigh less than one half."""
    out = np.full(image.shape, np.nan)
    shift = [(2 * draw - 1) * (1 - fraction) * SIDE / 2 for draw in draws]
    for i, j, band in np.ndindex(image.shape):
        y, x = (
            (k - SIDE // 2) * fraction + s + SIDE // 2 for k, s in zip((i, j), shift, strict=True)
        )
        total = weights = 0.0
        for row in range(SIDE):
            for col in range(SIDE):
                near = max(0.0, 1 - abs(row - y)) * max(0.0, 1 - abs(col - x))
                if near > 0 and not lost[row, col, band]:
                    total += near * float(image[row, col, band])
                    weights += near
        if weights >= 0.5:
            out[i, j, band] = total / weights
    return out


class TestRadiometry:
    @pytest.mark.parametrize("kind", NARROW)
    def test_brightness_multiplies_physical_values_and_leaves_nodata(self, kind):
        packing, batch = PACKINGS[kind], _batch(kind, 3, dates=(2,))
        stored = batch[0]["optical"]
        stored[:, :, 4, 4] = np.nan if packing.nodata is None else packing.nodata
        inputs, _, _ = _run(
            _augmentation(Brightness(low=0.5, high=1.5), kind=kind), batch, [[0.0], [0.5], [0.9]]
        )
        factor = np.array([0.5, 1.0, 1.4]).reshape(3, 1, 1, 1, 1)
        physical = (stored.astype("float64") * packing.scale + packing.offset) * factor
        expected = (physical - packing.offset) / packing.scale
        self._agree(inputs["optical"], expected, stored, packing)

    @pytest.mark.parametrize("kind", NARROW)
    def test_a_channel_shift_adds_to_each_band_its_own_number(self, kind):
        packing, batch = PACKINGS[kind], _batch(kind, 2)
        stored = batch[0]["optical"]
        stored[:, 4, 4] = np.nan if packing.nodata is None else packing.nodata
        draws = np.array([[0.0, 0.5], [0.75, 0.25]])
        inputs, _, _ = _run(_augmentation(ChannelShift(amount=10), kind=kind), batch, draws)
        shift = (20 * draws - 10)[:, None, None, :]
        self._agree(inputs["optical"], stored + shift / packing.scale, stored, packing)

    def _agree(self, found, expected, stored, packing):
        lost = np.isnan(stored) if packing.nodata is None else stored == packing.nodata
        np.testing.assert_array_equal(found[lost], stored[lost])
        if packing.nodata is not None:
            info = np.iinfo(packing.dtype)
            expected = np.clip(np.rint(expected), info.min, info.max)
            assert not (found[~lost] == packing.nodata).any()
            expected[expected == packing.nodata] += 1 if packing.nodata < info.max else -1
        np.testing.assert_allclose(
            found[~lost], expected[~lost], atol=1.0 if packing.scale < 1 else 1e-4
        )

    @pytest.mark.parametrize("kind", ["uint8", "uint16"])
    def test_values_are_cut_at_the_end_of_the_dtype_and_never_wrap_around(self, kind):
        info = np.iinfo(kind)
        image = np.full((1, SIDE, SIDE, 2), info.max - 1, kind)
        image[..., 1] = 1
        weight = np.ones((1, SIDE, SIDE), "float32")
        batch = ({"optical": image}, weight[..., None], weight)
        inputs, _, _ = _run(_augmentation(ChannelShift(amount=50), kind=kind), batch, [[0.99, 0.0]])
        nodata = PACKINGS[kind].nodata
        assert inputs["optical"][0, 0, 0].tolist() == [
            info.max if nodata == 0 else info.max - 1,
            1 if nodata == 0 else 0,
        ]

    def test_dropped_bands_are_nodata_as_wholes_and_never_all(self):
        batch = _batch("uint8", 200, dates=(2,))
        inputs, label, _ = _run(_augmentation(BandDropout(probability=0.7)), batch)
        lost = inputs["optical"] == 0
        assert (lost.all(axis=(1, 2, 3)) == lost.any(axis=(1, 2, 3))).all()
        by_chip = lost.any(axis=(1, 2, 3))
        assert not by_chip.all(axis=1).any()
        assert 0.5 < by_chip.any(axis=1).mean() < 1
        np.testing.assert_array_equal(label, batch[1])

    def test_steps_change_the_stacks_they_name_and_no_others(self):
        layer = Augmentation(
            [ChannelShift(amount=9, stacks=("b",)), Brightness(low=2, high=2, stacks=["b"])],
            stacks={"a": PACKINGS["uint8"], "b": PACKINGS["float32"]},
            seed=0,
        )
        assert layer.count == 3
        image = _batch("uint8", 2)[0]["optical"]
        weight = np.ones(2, "float32")
        batch = ({"a": image, "b": image.astype("float32")}, weight[:, None], weight)
        inputs, _, _ = _run(layer, batch, [[0.5, 1.0, 0.1]] * 2)
        np.testing.assert_array_equal(inputs["a"], image)
        expected = (image + np.array([0.0, 9.0])) * 2
        np.testing.assert_allclose(inputs["b"], expected, rtol=1e-6)


class TestWhatPasses:
    def test_tables_and_labels_and_weights_of_windows_pass_as_they_are(self):
        inputs, _, _ = _batch("uint8", 4)
        inputs["income"] = np.arange(12, dtype="float32").reshape(4, 3)
        batch = inputs, np.ones((4, 2), "float32"), np.arange(4, dtype="float32")
        found = _run(_augmentation(*EVERY), batch)
        np.testing.assert_array_equal(found[0]["income"], inputs["income"])
        np.testing.assert_array_equal(found[1], batch[1])
        np.testing.assert_array_equal(found[2], batch[2])
        assert (found[0]["optical"] != inputs["optical"]).any()

    @pytest.mark.parametrize("dtype", ["int32", "float32"])
    def test_labels_keep_their_dtype(self, dtype):
        inputs, label, weight = _batch("uint8", 4)
        _, found, _ = _run(_augmentation(*EVERY), (inputs, label.astype(dtype), weight))
        assert found.dtype == dtype


class TestDraws:
    def test_the_same_draws_give_the_same_chip_in_any_batch(self):
        layer, chips = _augmentation(*EVERY), np.arange(40, 52)
        draws = chip_draws(5, 2, chips, layer.count)
        whole = _run(layer, _batch("uint8", 12), draws)
        order = np.random.default_rng(0).permutation(12)[:4]
        part = _run(layer, _batch("uint8", 4), draws[order])
        np.testing.assert_array_equal(part[0]["optical"], whole[0]["optical"][order])
        np.testing.assert_array_equal(part[1], whole[1][order])

    def test_a_seed_decides_what_the_layer_draws(self):
        runs = [
            _run(_augmentation(*EVERY, seed=seed), _batch("uint8"))[0]["optical"]
            for seed in (1, 1, 2)
        ]
        np.testing.assert_array_equal(runs[0], runs[1])
        assert (runs[0] != runs[2]).any()

    def test_a_second_batch_is_drawn_anew(self):
        layer = _augmentation(Dihedral())
        first, second = (_run(layer, _batch("uint8", 32))[1] for _ in range(2))
        assert (first != second).any()

    @given(seed=st.integers(0, 2**31))
    @settings(max_examples=15)
    def test_no_draw_makes_a_value_out_of_nothing(self, seed):
        batch = _batch("int16", 4)
        batch[0]["optical"][:, 2:5, 1:4] = -1
        layer = _augmentation(*EXACT, BandDropout(probability=0.5), kind="int16")
        draws = chip_draws(seed, 0, np.arange(4), layer.count)
        inputs, label, weight = _run(layer, batch, draws)
        image = inputs["optical"]
        kept = image != -1
        np.testing.assert_array_equal(image[kept], np.repeat(label, 2, -1)[kept])
        assert (label[..., 0][weight == 0] == 0).all()

    def test_compiled_it_says_the_same(self):
        layer, batch = _augmentation(*EXACT, Brightness(low=1.0, high=1.5)), _batch("uint8", 4)
        draws = chip_draws(1, 1, np.arange(4), layer.count)
        whole = _run(layer, batch, draws)
        found = _numpy(_compiled(lambda b, d: layer(b, draws=d))(batch, draws))
        np.testing.assert_array_equal(found[1], whole[1])
        apart = found[0]["optical"].astype(int) - whole[0]["optical"]
        assert np.abs(apart).max() <= 1  # multiply-adds may round otherwise

    def test_inside_tf_data_it_says_the_same(self):
        tf = pytest.importorskip("tensorflow")
        layer, batch = _augmentation(*EVERY), _batch("uint8", 4)
        draws = chip_draws(1, 1, np.arange(4), layer.count)
        dataset = tf.data.Dataset.from_tensors((batch, draws)).map(lambda b, d: layer(b, draws=d))
        (found,) = list(dataset)
        np.testing.assert_array_equal(found[1], _run(layer, batch, draws)[1])
        assert dataset.element_spec[0]["optical"].shape == (4, SIDE, SIDE, 2)


class TestSteps:
    @pytest.mark.parametrize("step", [*EVERY, Brightness(stacks=("optical",))])
    def test_they_go_through_json_data_and_back(self, step):
        assert step_from_dict(step_to_dict(step)) == step
        assert steps_of([step_to_dict(step), step]) == (step, step)

    def test_the_layer_is_remade_from_its_config(self):
        layer = _augmentation(*EVERY, kind="int16", seed=3)
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        assert again.get_config() == layer.get_config()
        assert (again.steps, again.stacks) == (layer.steps, layer.stacks)

    @pytest.mark.parametrize(
        ("make", "match"),
        [
            (lambda: Flip(along="z"), "along 'x', 'y' or 'both'. Received 'z'"),
            (lambda: Jitter(pixels=0), "1 pixel or more. Received pixels=0"),
            (lambda: CropZoom(low=0.0), "0 < low <= high <= 1. Received low=0.0"),
            (lambda: CropZoom(high=1.5), "Received low=0.9, high=1.5"),
            (lambda: Rotation(degrees=181), "at most 180 degrees either way. Received 181"),
            (lambda: Brightness(low=2.0), "0 < low <= high. Received low=2.0, high=1.2"),
            (lambda: ChannelShift(amount=0), "above 0. Received amount=0"),
            (lambda: BandDropout(probability=1), "between 0 and 1. Received probability=1"),
            (lambda: Brightness(stacks="rgb"), "stacks is a list of names. Received 'rgb'"),
            (
                lambda: step_from_dict({"step": "Mixup"}),
                "has the steps Flip, .* Received step='Mixup'",
            ),
            (lambda: step_from_dict({"step": "Flip", "axis": 1}), "Flip cannot be made of"),
            (lambda: steps_of([]), "made of steps such as Dihedral.* Received none"),
            (lambda: steps_of([Flip]), "made of steps such as Dihedral.* Received"),
            (
                lambda: _augmentation(Brightness(stacks=("radar",))),
                "the inputs radar; there are optical",
            ),
            (
                lambda: Augmentation(
                    [BandDropout(probability=0.5)],
                    stacks={"sar": Packing(bands=1, dtype="float32")},
                    seed=0,
                ),
                "needs 2 or more. Received sar of 1 band",
            ),
            (
                lambda: Augmentation(
                    [Flip()], stacks={"a": Packing(bands=1, dtype="uint64", nodata=0)}, seed=0
                ),
                "Keras cuts uint64 down to 32 bits; store a as int64",
            ),
            (lambda: Packing(bands=0, dtype="uint8", nodata=0), "1 band or more. Received bands=0"),
            (lambda: Packing(bands=1, dtype="uint8"), "Integers need nodata="),
        ],
    )
    def test_what_cannot_be_is_refused(self, make, match):
        with pytest.raises(SpecError, match=match):
            make()


class TestBadBatches:
    @pytest.mark.parametrize(
        ("change", "match"),
        [
            (lambda i, y, w: (i["optical"], y, w), "expects inputs by name. Received"),
            (lambda i, y, w: ({}, y, w), "expects the inputs optical. The batch lacks optical"),
            (lambda i, y, w: ({**i, "radar": i["optical"]}, y, w), "knows no packing of radar"),
            (
                lambda i, y, w: ({"optical": i["optical"][:, 1:]}, y, w),
                "square, of 2 bands. Received",
            ),
            (lambda i, y, w: ({"optical": i["optical"][..., :1]}, y, w), "square, of 2 bands"),
            (
                lambda i, y, w: ({"optical": i["optical"].astype("int16")}, y, w),
                "stored, uint8. Received int16",
            ),
            (lambda i, y, w: (i, y, None), "needs a weight of every pixel"),
            (
                lambda i, y, w: (i, y[:, :4, :4], w[:, :4, :4]),
                "of one size. Received sides of 4, 9",
            ),
        ],
    )
    def test_they_are_refused(self, change, match):
        with pytest.raises(SpecError, match=match):
            _augmentation(Flip())(change(*_batch("uint8")))

    def test_a_jitter_that_empties_a_chip_is_refused(self):
        with pytest.raises(SpecError, match="of 9 pixels empties chips of 9; give at most 8"):
            _augmentation(Jitter(pixels=9))(_batch("uint8"))


def test_it_is_made_for_the_inputs_of_a_sample(city):
    layer = Augmentation.of([Dihedral()], city.spec, toy.SAMPLE, seed=0)
    assert layer.stacks == {
        "predictors": Packing(bands=2, dtype="uint8", nodata=0),
        "terrain": Packing(bands=2, dtype="float32"),
    }
