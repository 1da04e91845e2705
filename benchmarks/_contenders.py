"""Ways from a Zarr cube to batches of chips: the common ones and ours.

A contender takes a case and chip numbers, and gives what begins an epoch; an epoch yields batches
of image and label. Each loads its framework when it is called.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._chip_cubes import BANDS, BATCH, SIZE, Case, Chip, channels_last, ours

Epoch = Callable[[], Iterator[Chip]]
Contender = Callable[[Case, np.ndarray], Epoch]


# ------------------------------------------------------------------------------------------- numpy
def batched(chips: Iterable[Chip]) -> Iterator[Chip]:
    """Chips put together into batches allocated anew."""
    chips = iter(chips)
    while part := list(itertools.islice(chips, BATCH)):
        yield np.stack([image for image, _ in part]), np.stack([label for _, label in part])


def cut(values: Chip, origin: Iterable[int]) -> Chip:
    """One chip of image and label in memory, as views."""
    y, x = origin
    return tuple(array[y : y + SIZE, x : x + SIZE] for array in values)


def slicing(case: Case, ids: np.ndarray) -> Epoch:
    """Slices of the whole cube in memory, in random order: nothing can be faster."""
    whole = channels_last(case, *((0, n) for n in case.spec.grid.shape))
    origins = case.windows.origins(np.random.default_rng(0).permutation(ids))
    return lambda: batched(cut(whole, origin) for origin in origins)


def block_cutting(case: Case, ids: np.ndarray) -> Epoch:
    """Blocks of 1024 pixels of origins, read with their halo one by one, and cut."""
    rng = np.random.default_rng(0)
    origins = case.windows.origins(ids)
    of_block = np.unique(origins // 1024, axis=0, return_inverse=True)[1].ravel()

    def chips() -> Iterator[Chip]:
        for block in rng.permutation(of_block.max() + 1):
            places = rng.permutation(origins[of_block == block])
            first, last = places.min(axis=0), places.max(axis=0) + SIZE
            values = channels_last(case, (first[0], last[0]), (first[1], last[1]))
            yield from (cut(values, place - first) for place in places)

    return lambda: batched(chips())


def xbatcher_pair(case: Case, *, dask: bool) -> tuple[Any, Any]:
    """Generators of xbatcher for image (band, y, x) and label (y, x), over the cube opened lazily.

    ``xr.open_zarr`` opens it over Dask, unless it is told not to: ``dask`` false is that.
    Coordinates are left out, and bands stay where they are: so it is fastest.
    """
    import xarray as xr
    from xbatcher import BatchGenerator

    chosen: dict[str, Any] = {} if dask else {"chunks": None}
    lazy = xr.open_zarr(case.url, mask_and_scale=False, **chosen)
    assert (lazy.chunks != {}) == dask, "what xarray does unasked has changed"
    lazy = lazy[["predictors", "label"]].isel(time=0)
    lazy = lazy.drop_vars(list(lazy.coords))
    dims, overlap = dict.fromkeys("yx", SIZE), dict.fromkeys("yx", SIZE - case.stride)
    image, label = (
        BatchGenerator(lazy[name], dims, overlap, preload_batch=False)
        for name in ("predictors", "label")
    )
    return image, label


def xbatcher(case: Case, ids: np.ndarray, *, dask: bool) -> Epoch:
    """Chips by xbatcher alone, one by one in random order."""
    image, label = xbatcher_pair(case, dask=dask)
    order = np.random.default_rng(0).permutation(ids)
    return lambda: batched(
        (np.moveaxis(image[int(n)].values, 0, -1), label[int(n)].values) for n in order
    )


def numpy_door(case: Case, ids: np.ndarray) -> Epoch:
    """Ours, numpy arrays."""
    stream, numbers = ours(case, ids), itertools.count()
    return lambda: ((b.inputs["predictors"], b.label) for b in stream.epoch(next(numbers)))


# ------------------------------------------------------------------------------ TensorFlow and JAX
def keras_loader(case: Case, ids: np.ndarray, *, dask: bool) -> Epoch:
    """The loader for Keras of xbatcher, in random order."""
    import tensorflow as tf
    from xbatcher.loaders.keras import CustomTFDataset

    pair = xbatcher_pair(case, dask=dask)
    loader = CustomTFDataset(*pair, transform=lambda image: tf.transpose(image, (1, 2, 0)))
    order = np.random.default_rng(0).permutation(ids)

    def batches() -> Iterator[Chip]:
        for start in range(0, len(order), BATCH):
            part = [loader[int(n)] for n in order[start : start + BATCH]]
            yield tf.stack([image for image, _ in part]), tf.stack([label for _, label in part])

    return batches


def write_records(case: Case, folder: Path, *, shards: int = 8) -> None:
    """Every chip as a ``tf.train.Example`` of raw bytes."""
    import tensorflow as tf

    def feature(array: np.ndarray) -> Any:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[array.tobytes()]))

    whole = channels_last(case, *((0, n) for n in case.spec.grid.shape))
    writers = [tf.io.TFRecordWriter(str(folder / f"{n}.tfrecord")) for n in range(shards)]
    order = np.random.default_rng(0).permutation(case.ids)
    for writer, origin in zip(itertools.cycle(writers), case.windows.origins(order), strict=False):
        image, label = cut(whole, origin)
        features = tf.train.Features(feature={"image": feature(image), "label": feature(label)})
        writer.write(tf.train.Example(features=features).SerializeToString())
    for writer in writers:
        writer.close()


def tfrecords(case: Case, ids: np.ndarray) -> Epoch:
    """TFRecords that were written beforehand: shards interleaved, shuffled, decoded."""
    import tensorflow as tf

    assert len(ids) == len(case.ids), "all of the files are read"
    folder = Path(case.url).with_suffix(".tfrecords")
    if not folder.exists():
        folder.mkdir()
        write_records(case, folder)
    kinds = dict.fromkeys(("image", "label"), tf.io.FixedLenFeature([], tf.string))

    def parsed(records: Any) -> Chip:
        found = tf.io.parse_example(records, kinds)
        image = tf.io.decode_raw(found["image"], tf.int16)
        label = tf.io.decode_raw(found["label"], tf.float32)
        side = (-1, SIZE, SIZE)
        return tf.reshape(image, (*side, len(BANDS))), tf.reshape(label, side)

    auto = tf.data.AUTOTUNE
    dataset = (
        tf.data.Dataset.list_files(str(folder / "*.tfrecord"), seed=0)
        .interleave(tf.data.TFRecordDataset, cycle_length=8, num_parallel_calls=auto)
        .shuffle(512, seed=0)
        .batch(BATCH)
        .map(parsed, num_parallel_calls=auto)
        .prefetch(auto)
    )
    return lambda: iter(dataset)


def tensorflow_door(case: Case, ids: np.ndarray) -> Epoch:
    """Ours, ``tf.data``."""
    dataset = ours(case, ids).tensorflow(epochs=1)
    return lambda: ((inputs["predictors"], label) for inputs, label, _ in dataset)


def keras_door(case: Case, ids: np.ndarray) -> Epoch:
    """Ours, a PyDataset put on JAX's device, as Keras does it."""
    import jax

    dataset = ours(case, ids).keras()

    def batches() -> Iterator[Chip]:
        dataset.on_epoch_begin()
        for number in range(len(dataset)):
            inputs, label, _ = jax.block_until_ready(jax.device_put(dataset[number]))
            yield inputs["predictors"], label
        dataset.on_epoch_end()

    return batches


NUMPY: dict[str, Contender] = {
    "slices of memory": slicing,
    "a block decoded, then cut": block_cutting,
    "xbatcher, lazy": partial(xbatcher, dask=False),
    "xbatcher, Dask": partial(xbatcher, dask=True),
    "ours, numpy": numpy_door,
}
TENSORFLOW: dict[str, Contender] = {
    "xbatcher's Keras loader, lazy": partial(keras_loader, dask=False),
    "xbatcher's Keras loader, Dask": partial(keras_loader, dask=True),
    "TFRecords": tfrecords,
    "ours, tf.data": tensorflow_door,
}
JAX: dict[str, Contender] = {
    "ours, numpy beside JAX": numpy_door,
    "ours, PyDataset on JAX": keras_door,
}
KINDS = {"numpy": NUMPY, "tensorflow": TENSORFLOW, "jax": JAX}
"""Contenders that one process may hold together."""

SLOW = {name: 256 for name in (*NUMPY, *TENSORFLOW) if name.startswith("xbatcher")}
"""Chips timed of those that are slow."""
SLOW["xbatcher, lazy"] = 512
