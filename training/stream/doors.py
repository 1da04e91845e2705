"""The doors to frameworks: ``tf.data`` and Keras' own ``PyDataset``."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cube.errors import CubeError
from training.stream.batches import Batch
from training.stream.states import check_place

if TYPE_CHECKING:
    import tensorflow as tf

    from training.stream.stream import ChipStream


def tensorflow(stream: ChipStream, *, first: int, epochs: int, start: int) -> tf.data.Dataset:
    """See :meth:`training.stream.ChipStream.tensorflow`."""
    import tensorflow as tf

    # Here, since an error inside of a generator comes out as one of TensorFlow's.
    first, epochs, start = check_place(len(stream), first=first, count=epochs, start=start)

    # TensorFlow never forgets a generator, nor what it refers to: the dataset holds the stream.
    there = weakref.ref(stream)

    def batches() -> Any:
        for batch in plainly(there().epochs(first, epochs, start=start)):  # type: ignore[union-attr]
            yield elements(batch)

    # Batches begin at multiples of 64 bytes, so TensorFlow takes them without a copy.
    dataset = tf.data.Dataset.from_generator(batches, output_signature=_signature(stream, tf))
    dataset.stream = stream
    # There is nothing to tune, and the thread that tunes makes the end of an epoch wait for it.
    options = tf.data.Options()
    options.autotune.enabled = False
    count = epochs * len(stream) - start
    counted = dataset.apply(tf.data.experimental.assert_cardinality(count))
    return counted.prefetch(1).with_options(options)


def plainly(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches; an error that a user can mend comes without those that led to it.

    TensorFlow writes the traceback of an error, and of all that led to it, into its own message.
    """
    try:
        yield from batches
    except CubeError as error:
        raise error.with_traceback(None) from None


def elements(batch: Batch) -> Any:
    """Inputs, label and weight as frameworks take them; the inputs alone without a label."""
    if batch.label is None:
        return batch.inputs
    return batch.inputs, batch.label, batch.weight


def _signature(stream: ChipStream, tf: Any) -> Any:
    inputs, label, weight = stream.recipe.batch_shapes()
    spec = {name: tf.TensorSpec(*how) for name, how in inputs.items()}
    if label is None:
        return spec
    return spec, *(tf.TensorSpec(*how) for how in (label, weight) if how is not None)


def keras_dataset(stream: ChipStream, *, first: int, start: int) -> Any:
    """See :meth:`training.stream.ChipStream.keras`."""
    from training.stream.pydataset import ChipDataset

    return ChipDataset(stream, first=first, start=start)
