"""Does an accelerator wait for chips?

    python -m benchmarks.gpu_stream                              # TensorFlow
    KERAS_BACKEND=jax python -m benchmarks.gpu_stream            # JAX
    python -m benchmarks.gpu_stream --cpu --quick                # does it run at all

A U-Net trains in mixed precision, from the cube and from one batch that is repeated out of memory,
on the same device, epochs of either alternating. The bar: a step from the cube takes at most 3 %
longer. Beside it stands the share of the time that the stream's own report says was waited.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import training
from benchmarks._chip_cubes import BANDS, BATCH, SIZE, Case, filled_cube, ours
from benchmarks._meters import bar, show

SLOWER = 1.03
"""Most that a step from the cube may take, in steps from memory."""


def devices(backend: str) -> list[str]:
    """Accelerators that the backend sees."""
    if backend == "tensorflow":
        import tensorflow as tf

        return [device.name for device in tf.config.list_physical_devices("GPU")]
    import jax

    return [str(device) for device in jax.devices() if device.platform != "cpu"]


def network(options: argparse.Namespace) -> Any:
    """A U-Net over stored values; its arithmetic is float16, its loss float32."""
    import keras
    from keras import layers

    from training.models import unet

    keras.utils.set_random_seed(0)
    if not options.cpu:
        # On a processor float16 is emulated, and says nothing of anything.
        keras.mixed_precision.set_global_policy("mixed_float16")
    image = keras.Input((SIZE, SIZE, len(BANDS)), dtype="int16", name="predictors")
    scaled = layers.Rescaling(1e-4, dtype="float32")(image)
    body = unet(SIZE, len(BANDS), 1, widths=options.widths, seed=0)
    out = layers.Activation("linear", dtype="float32")(body(scaled))
    model = keras.Model({"predictors": image}, out)
    model.compile("adam", "mse", weighted_metrics=[])
    return model


class Steps:
    """Times at which the steps of an epoch ended, as a callback of Keras."""

    def __init__(self) -> None:
        import keras

        self.ends: list[float] = []
        self.callback = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda step, logs: self._ended(logs)
        )

    def _ended(self, logs: dict[str, Any]) -> None:
        # The step is over when its loss is known, not when it was sent.
        float(logs["loss"])
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """Of a step, the mean over all but the first, whose batch no work precedes."""
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


def repeated(batch: Any, steps: int) -> Any:
    """One batch, again and again, as a PyDataset."""
    import keras

    class Repeated(keras.utils.PyDataset):
        def __len__(self) -> int:
            return steps

        def __getitem__(self, index: int) -> Any:
            return batch

    return Repeated(workers=1, use_multiprocessing=False)


def from_memory(stream: training.ChipStream, backend: str) -> Any:
    """The first batch as often as an epoch has batches, by the door that the stream takes."""
    batch = next(stream.epoch(0))
    held = batch.inputs, batch.label, batch.weight
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.data.Dataset.from_tensors(held).repeat(len(stream)).prefetch(2)
    return repeated(held, len(stream))


def from_cube(stream: training.ChipStream, backend: str) -> Any:
    """An epoch of the stream."""
    return stream.tensorflow(epochs=1) if backend == "tensorflow" else stream.keras()


def turns(
    stream: training.ChipStream, model: Any, backend: str, rounds: int
) -> Iterator[tuple[str, float, float]]:
    """Source, seconds of a step, and the share that our report says was waited."""
    memory = from_memory(stream, backend)
    model.fit(memory, epochs=1, verbose=0, shuffle=False)
    for turn in range(rounds):
        for source in ("memory", "cube") if turn % 2 else ("cube", "memory"):
            dataset = memory if source == "memory" else from_cube(stream, backend)
            steps = Steps()
            model.fit(dataset, epochs=1, verbose=0, shuffle=False, callbacks=[steps.callback])
            yield source, steps.seconds, waited(stream) if source == "cube" else 0.0


def waited(stream: training.ChipStream) -> float:
    """Share of the last epoch that was waited once the first batch was there, 0..1."""
    report = stream.report
    return (report.waited - report.first) / (report.seconds - report.first)


def measure(options: argparse.Namespace, backend: str) -> None:
    """Rows of steps from either source, and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        case = Case(url=filled_cube(str(Path(folder, "cube.zarr")), options.side))
        stream, model = ours(case, batch=options.batch), network(options)
        took: dict[str, list[float]] = {"memory": [], "cube": []}
        shares = []
        for source, step, share in turns(stream, model, backend, options.rounds):
            took[source].append(step)
            shares += [share] if source == "cube" else []
    for source, each in took.items():
        ms = 1000 * statistics.median(each)
        rate = round(1000 * options.batch / ms)
        show("step", source=source, ms=round(ms, 2), chips_s=rate, steps=len(stream))
    ratio = float(np.median(np.divide(took["cube"], took["memory"])))
    # Two accounts of one thing: what the steps lost, and what the stream says was waited.
    lost, reported = max(0.0, 1 - 1 / ratio), statistics.median(shares)
    show("waited", by_the_steps=round(lost, 4), by_the_report=round(reported, 4))
    bar("a step from the cube / from memory", ratio, at_most=SLOWER)


def arguments() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=4096, help="pixels along the cube")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--cpu", action="store_true", help="without an accelerator, in float32")
    parser.add_argument("--quick", action="store_true", help="a tiny size; numbers mean nothing")
    options = parser.parse_args()
    if options.quick:
        options.side, options.rounds, options.batch, options.widths = 512, 1, 8, [4, 8]
    return options


def main() -> None:
    """Print rows, or say that there is nothing to measure on."""
    options = arguments()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    backend = keras.backend.backend()
    found = devices(backend)
    if not found and not options.cpu:
        print(f"{backend} sees no accelerator; --cpu --quick tries the benchmark without one.")
        sys.exit(2)
    frameworks = {"tensorflow": ("tensorflow-cpu", "tensorflow"), "jax": ("jax",)}[backend]
    versions = {name: found_version(name) for name in ("keras", "numpy", *frameworks)}
    row = {"machine": platform.machine(), "cores": os.cpu_count(), "devices": found}
    print(json.dumps({**row, "backend": backend, **versions}), flush=True)
    measure(options, backend)


def found_version(package: str) -> str | None:
    """Version of what is installed; None for what is not."""
    try:
        return version(package)
    except ModuleNotFoundError:
        return None


if __name__ == "__main__":
    main()
