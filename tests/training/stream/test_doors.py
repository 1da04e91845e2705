"""Every door gives the batches of the numpy door, and takes them without a copy."""

from __future__ import annotations

import gc
import importlib.util
import threading
import weakref
from dataclasses import replace

import keras
import numpy as np
import pytest

from cube import objects
from cube.errors import DamagedError, SpecError
from cube.windows import Windows
from tests import toy
from training.samples import SampleSpec
from training.stream import ChipStream, StreamSpec

WINDOWS = Windows(shape=toy.SHAPE, size=8, stride=5)


def _stream(city, ids=60, *, sample=toy.SAMPLE, **spec):
    spec = StreamSpec(**{"seed": 0, "batch": 16, "block_px": 40, **spec})
    return ChipStream(city.url, sample, WINDOWS, np.arange(ids), spec)


def _numbers(inputs, label, weight):
    return [np.asarray(a).tobytes() for a in (*inputs.values(), label, weight)]


def _threads():
    return [t for t in threading.enumerate() if t.name.startswith("quadrat.")]


def _damaged(city, path):
    """A stream of all chips, of a copy of the cube in which one chunk is not what it was."""
    url = toy.copied(city, path / "toy.zarr").url
    key = "predictors/c/0/0/3/3"
    data = bytearray(objects.at(url).get(key))
    data[len(data) // 3] ^= 0x10
    objects.at(url).put(key, bytes(data))
    return _stream(replace(city, url=url), len(WINDOWS))


def _expected(stream, first=0, epochs=1, start=0):
    batches = stream.epochs(first, epochs, start=start)
    return [_numbers(b.inputs, b.label, b.weight) for b in batches]


def test_batches_begin_where_every_framework_takes_them_as_they_are(city):
    for batch in _stream(city).epoch():
        large = [*batch.inputs.values(), batch.label, batch.weight]
        assert all(a.ctypes.data % 64 == 0 for a in large)
        assert all(a.flags.c_contiguous for a in large)


def test_a_batch_that_is_kept_is_not_written_to_again(city):
    stream = _stream(city, 399)
    kept = list(stream.epochs(0, 2))
    assert [_numbers(b.inputs, b.label, b.weight) for b in kept] == _expected(stream, epochs=2)


def test_batches_pass_through_dlpack_without_a_copy(city):
    batch = next(_stream(city).epoch())
    inputs, label, weight = batch.through(np.from_dlpack)
    assert inputs["predictors"].ctypes.data == batch.inputs["predictors"].ctypes.data
    assert np.array_equal(label, batch.label)
    assert np.array_equal(weight, batch.weight)


def _model():
    inputs = {
        "predictors": keras.Input((8, 8, 2), dtype="uint8", name="predictors"),
        "terrain": keras.Input((8, 8, 2), name="terrain"),
    }
    cast = keras.layers.Rescaling(1 / 255)(inputs["predictors"])
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1)(cast))
    model.compile("sgd", "mse")
    return model


class TestKeras:
    def test_epochs_follow_one_another(self, city):
        stream = _stream(city)
        dataset = stream.keras()
        found = []
        for _ in range(2):
            found += [_numbers(*dataset[i]) for i in range(len(dataset))]
            dataset.on_epoch_end()
        assert found == _expected(stream, epochs=2)

    def test_an_epoch_can_be_begun_again(self, city):
        stream = _stream(city)
        dataset, expected = stream.keras(), _expected(stream)
        assert [_numbers(*dataset[i]) for i in (0, 1, 0, 1, 2)] == [*expected[:2], *expected[:3]]
        dataset.close()

    def test_batches_in_another_order_are_refused(self, city):
        dataset = _stream(city).keras()
        for index in (2, -1):
            dataset[0]
            with pytest.raises(SpecError, match="say shuffle=False to fit"):
                dataset[index]
        assert not _threads()

    def test_a_damaged_chunk_is_one_line_without_what_led_to_it(self, city, tmp_path):
        dataset = _damaged(city, tmp_path).keras()
        with pytest.raises(DamagedError, match="'predictors' cannot be read at 0, ") as caught:
            [dataset[i] for i in range(len(dataset))]
        assert caught.value.__cause__ is None
        assert not _threads()

    # With JAX, a look at the only batch of an epoch cannot be told from learning it.
    @pytest.mark.parametrize("chips", [20] if keras.backend.backend() == "jax" else [10, 20])
    def test_an_epoch_that_keras_looks_at_is_learned_too(self, city, chips):
        stream = _stream(city, chips, batch=10)
        dataset, model = stream.keras(), _model()
        model.fit(dataset, epochs=2, shuffle=False, verbose=0)
        assert dataset.epoch == 2
        assert {0, 1} <= {report.epoch for report in stream.reports if report.whole}

    def test_it_begins_in_the_middle_and_goes_on_with_whole_epochs(self, city):
        stream = _stream(city)
        dataset = stream.keras(first=1, start=1)
        assert len(dataset) == len(stream) - 1
        found = [_numbers(*dataset[i]) for i in range(len(dataset))]
        dataset.on_epoch_end()
        found += [_numbers(*dataset[i]) for i in range(len(dataset))]
        assert found == _expected(stream, first=1, epochs=2, start=1)

    def test_chips_without_labels_are_inputs_alone(self, city):
        sample = SampleSpec.of({"predictors": ("red",)}, None, input_time="2000")
        assert set(_stream(city, sample=sample).keras()[0]) == {"predictors"}

    def test_a_model_can_be_fitted_through_it(self, city):
        stream, model = _stream(city), _model()
        history = model.fit(stream.keras(), epochs=2, shuffle=False, verbose=0)
        assert np.isfinite(history.history["loss"]).all()
        assert {report.epoch for report in stream.reports if report.whole} == {0, 1}


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="needs TensorFlow")
class TestTensorflow:
    def test_it_can_begin_anywhere(self, city):
        stream = _stream(city)
        dataset = stream.tensorflow(epochs=2, first=1, start=3)
        assert int(dataset.cardinality()) == 2 * len(stream) - 3
        found = [_numbers(*batch) for batch in dataset.as_numpy_iterator()]
        assert found == _expected(stream, first=1, epochs=2, start=3)

    def test_several_periods_tables_and_no_label_have_static_shapes_too(self, city):
        sample = SampleSpec.of({"predictors": ("red",)}, None, input_time="2000")
        (spec,) = _stream(city, sample=sample).tensorflow(epochs=1).element_spec.values()
        assert tuple(spec.shape) == (16, 8, 8, 1)

    def test_tensors_look_at_the_memory_of_the_stream(self, city, monkeypatch):
        stream = _stream(city, 399)
        places = set()
        original = stream.epochs

        def noted(*args, **options):
            for batch in original(*args, **options):
                places.add(batch.inputs["terrain"].ctypes.data)
                yield batch

        monkeypatch.setattr(stream, "epochs", noted)
        seen = {np.asarray(x["terrain"]).ctypes.data for x, _, _ in stream.tensorflow(epochs=1)}
        assert seen <= places

    def test_a_dataset_holds_its_stream_and_lets_go_of_it(self, city):
        stream = _stream(city)
        there, dataset = weakref.ref(stream), stream.tensorflow(epochs=1)
        del stream
        gc.collect()
        assert len(list(dataset)) == len(there())
        del dataset
        gc.collect()
        # TensorFlow forgets no generator that it was given; this one holds nothing.
        assert there() is None

    def test_a_damaged_chunk_is_named_without_what_led_to_it(self, city, tmp_path):
        stream = _damaged(city, tmp_path)
        for door in (stream.tensorflow(epochs=1), stream.keras()):
            with pytest.raises(Exception, match="'predictors' cannot be read") as caught:
                _model().fit(door, verbose=0, shuffle=False)
            # TensorFlow's own calls are in the message, those below our door are not.
            assert "cube/" not in str(caught.value)
        assert not _threads()

    @pytest.mark.parametrize("leave", [1, 2])
    def test_a_consumer_may_leave_early(self, city, leave):
        dataset = _stream(city, 399).tensorflow(epochs=5)
        assert len(list(dataset.take(leave))) == leave
