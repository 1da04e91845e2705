"""How fast do chips come out of a cube, what do they cost a training, and how much memory?

    python -m benchmarks.stream                           # all parts, about six minutes
    python -m benchmarks.stream --only doors,reads        # some of them
    python -m benchmarks.stream --quick                   # a small cube; numbers mean nothing

A stack of ten int16 bands and a float32 label, in the default layout; chips of 128 pixels at half
overlap, in random order, batches of 64. ``doors`` sends the same chips through the common ways
from Zarr to a framework and through ours, turn and turn about, after their bytes were compared;
rates are taken at the consumer, who touches every chip. TensorFlow, JAX and numpy run in processes
of their own, one at work at a time. Rows of ``ratio`` compare; rows of ``bar`` say what was
wanted and whether it was met.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import training
from benchmarks._chip_cubes import BANDS, SAMPLE, SIZE, STRIDE, Case, filled_cube, linked, ours
from benchmarks._contenders import KINDS, SLOW
from benchmarks._meters import Opened, bar, peak_mb, ratio, seconds, show
from benchmarks._workers import ROOT, Worker, child, consumed

CHIP_MB = SIZE**2 * (2 * len(BANDS) + 4) / 1e6
"""Megabytes of a chip's image and label."""

RATIOS: list[tuple[str, str, float | None]] = [
    ("ours, numpy", "xbatcher's Keras loader, Dask", 40),
    ("ours, numpy", "xbatcher's Keras loader, lazy", None),
    ("ours, numpy", "xbatcher, lazy", 15),
    ("ours, numpy", "TFRecords", 2.5),
    ("ours, numpy", "slices of memory", 0.25),
    ("ours, tf.data", "TFRecords", 1.3),
    ("ours, PyDataset on JAX", "ours, numpy beside JAX", 0.9),
]
"""Rates to compare, and the least that is wanted. ``xr.open_zarr`` opens over Dask unless told."""


# ------------------------------------------------------------------------------- doors: the contest
def started(case: Case, jax: str) -> dict[str, Worker]:
    """A process for each framework; none for JAX where its interpreter is not there."""
    workers = {kind: Worker(sys.executable, kind, case) for kind in ("numpy", "tensorflow")}
    if Path(jax).exists():
        return {**workers, "jax": Worker(jax, "jax", case)}
    show("door", name="ours, PyDataset on JAX", left_out=f"there is no {jax}")
    return workers


def doors(case: Case, options: argparse.Namespace) -> None:
    """Chips a second of every contender, and how ours compare."""
    workers = started(case, options.jax)
    names = [(workers[kind], name) for kind in workers for name in KINDS[kind]]
    counts = {name: min(SLOW.get(name, len(case.ids)), len(case.ids)) for _, name in names}
    for worker, name in names:
        expected = workers["numpy"].ask("digest", "slices of memory", counts[name])
        found = worker.ask("digest", name, counts[name])
        assert found == expected, f"{name} gives other chips: {found} for {expected}"
    took: dict[str, list[tuple[float, float]]] = {name: [] for _, name in names}
    for turn in range(options.rounds):
        for worker, name in names[:: 1 if turn % 2 else -1]:
            took[name].append(worker.ask("time", name, counts[name]))
    for worker in workers.values():
        worker.end()
    show_rates(took, counts)


def show_rates(took: dict[str, list[tuple[float, float]]], counts: dict[str, int]) -> None:
    """Rows of the contenders, and of the bars.

    What one core does in a second says how dear a chip is, whatever else the machine does.
    """
    rates = {name: [counts[name] / wall for wall, _ in each] for name, each in took.items()}
    for name, each in rates.items():
        rate = statistics.median(each)
        busy = statistics.median(cpu for _, cpu in took[name])
        show(
            "door", name=name, chips_s=round(rate), MB_s=round(rate * CHIP_MB),
            best_chips_s=round(max(each)), chips_s_core=round(counts[name] / busy),
            chips=counts[name],
        )  # fmt: skip
    for name, other, least in RATIOS:
        if name in rates:
            ratios = [a / b for a, b in zip(rates[name], rates[other], strict=True)]
            what, value = f"{name} / {other}", statistics.median(ratios)
            if least is None:
                ratio(what, value)
            else:
                bar(what, value, at_least=least)


# -------------------------------------------------------------------------- model: a whole training
def model(case: Case, options: argparse.Namespace) -> None:
    """Epochs of a small network, from the cube and from a few batches in memory, alternating."""
    import keras
    import tensorflow as tf

    chips = min(options.chips or len(case.ids), len(case.ids))
    ids = np.sort(np.random.default_rng(0).choice(case.ids, chips, replace=False))
    stream = ours(case, ids)
    some = [(b.inputs, b.label, b.weight) for b in itertools.islice(stream.epoch(0), 8)]
    held = tf.nest.map_structure(lambda *parts: np.stack(parts), *some)
    memory = tf.data.Dataset.from_tensor_slices(held).repeat().take(len(stream))
    # The thread that tunes would make the end of an epoch wait, sometimes for seconds.
    tuning = tf.data.Options()
    tuning.autotune.enabled = False
    memory = memory.prefetch(2).with_options(tuning)
    keras.utils.set_random_seed(0)
    network = small_network()
    network.fit(memory.take(2), verbose=0)
    network.fit(stream.tensorflow(epochs=1), steps_per_epoch=2, verbose=0)

    def fit(dataset: Any) -> float:
        start = time.perf_counter()
        network.fit(dataset, epochs=1, verbose=0)
        return time.perf_counter() - start

    took: dict[str, list[float]] = {"memory": [], "cube": []}
    for turn in range(options.rounds):
        for name in ("memory", "cube") if turn % 2 else ("cube", "memory"):
            took[name].append(fit(memory if name == "memory" else stream.tensorflow(epochs=1)))
    for name, each in took.items():
        show("an epoch", source=name, chips=chips, s=round(statistics.median(each), 2))
    ratios = [a / b for a, b in zip(took["cube"], took["memory"], strict=True)]
    bar("an epoch from the cube / from memory", statistics.median(ratios), at_most=1.05)


def small_network() -> Any:
    """Four convolutions of 16 filters, and a map."""
    import keras
    from keras import layers

    image = keras.Input((SIZE, SIZE, len(BANDS)), dtype="int16", name="predictors")
    x = layers.Rescaling(1e-3)(image)
    for _ in range(4):
        x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    network = keras.Model({"predictors": image}, layers.Conv2D(1, 1)(x))
    network.compile("sgd", "mse")
    return network


# ------------------------------------------------------------ reads: how often a chunk is asked for
def reads(case: Case, options: argparse.Namespace) -> None:
    """Reads of chunks in an epoch, by the kernel's count and by our report."""
    folders = [
        path.parent
        for name in ("predictors", "label")
        for path in Path(case.url, name, "c").rglob("0")
        if path.is_file()
    ]
    chunks = sum(1 for folder in folders for _ in folder.iterdir())
    stream, opened = ours(case), Opened(folders)
    for _ in stream.epoch(0):
        opened.count()
    times = opened.count()
    said = stream.report.reads
    show("reads", chunks=chunks, opened=times.total(), files=len(times), reported=said)
    bar("reads of chunks / chunks", times.total() / chunks, at_most=1.0)


# ---------------------------------------------------- first, memory, index: each in a fresh process
def first(case: Case, options: argparse.Namespace) -> None:
    """Seconds until the first batch of 10^5 windows, on a dense and on a large grid."""
    for name, url, stride in (
        ("dense", case.url, 12),
        ("large", linked(case, 20_352 * options.side // 4096), STRIDE),
    ):
        child("--step", "first", "--url", url, "--stride", stride, "--name", name)


def first_batch(case: Case, options: argparse.Namespace) -> None:
    """The first batch, in a process that has done nothing but imports."""
    import psutil

    start = time.perf_counter()
    stream = ours(case)
    next(iter(stream.epoch(0)))
    took = time.perf_counter() - start
    whole = time.time() - psutil.Process().create_time()
    show(
        "first batch", windows=len(case.windows), grid=options.name,
        s=round(took, 2), with_imports_s=round(whole, 2),
    )  # fmt: skip
    os._exit(0)  # what was begun beyond the first batch is of no interest


def memory(case: Case, options: argparse.Namespace) -> None:
    """Peak of an epoch for three budgets, on the cube and on one ten times larger."""
    side = case.spec.grid.shape[0]
    larger = linked(case, 12_960 * side // 4096)
    for budget in ("256 MB", "512 MB", "1 GB"):
        small, large = (
            child("--step", "memory", "--url", url, "--budget", budget)[0]["peak_mb"]
            for url in (case.url, larger)
        )
        ratio(f"peak of the larger cube / of the smaller, {budget}", large / small)


def memory_of_epoch(case: Case, options: argparse.Namespace) -> None:
    """The peak of one epoch, above what this process had after its imports."""
    import xarray
    import zarr

    del xarray, zarr
    stream = ours(case, memory=options.budget)

    def epoch() -> None:
        consumed(lambda: ((b.inputs["predictors"], b.label) for b in stream.epoch(0)))

    start, peak = time.perf_counter(), peak_mb(epoch)
    rate = len(case.ids) / (time.perf_counter() - start)
    budget = float(options.budget.split()[0]) * (1000 if "GB" in options.budget else 1)
    side = case.spec.grid.shape[0]
    show("memory", side=side, budget=options.budget, peak_mb=round(peak), chips_s=round(rate))
    bar(f"peak / {options.budget}, {side} px", peak / budget, at_most=1.2)


def index(case: Case, options: argparse.Namespace) -> None:
    """The chip index of 10^6 windows."""
    child("--step", "index", "--url", case.url, "--stride", 4)


def index_of_case(case: Case, options: argparse.Namespace) -> None:
    """Seconds and peak of memory of one index."""
    found: list[Any] = []
    start = time.perf_counter()
    peak = peak_mb(lambda: found.append(training.index_chips(case.url, SAMPLE, case.windows)))
    took = time.perf_counter() - start
    assert len(found[0]) == len(case.windows)
    show("index", windows=len(case.windows), s=round(took, 1), peak_mb=round(peak))


# ------------------------------------------------------------------------ latency: an object store
def latency(case: Case, options: argparse.Namespace) -> None:
    """Chips from a store that answers after 50 ms."""
    child("--step", "latency", "--url", case.url)


def latency_of_store(case: Case, options: argparse.Namespace) -> None:
    """An epoch beside the time that its requests would take one after the other."""
    # The tests' own server: an object store without a network.
    from tests import faults, servers

    delay_s = 0.05
    with servers.start("s3") as server, faults.proxy(server.endpoint) as proxy:
        os.environ.update(server.through(proxy.endpoint).environment)
        far = Case(url=filled_cube(server.new_bucket() + "/far.zarr", 1024))
        near = ours(Case(url=filled_cube(str(Path(case.url).with_name("near.zarr")), 1024)))
        stream = ours(far)
        proxy.change(delay_s=delay_s)
        for number in range(options.rounds):
            proxy.reset()
            took = seconds(lambda number=number: list(stream.epoch(number)))
            requests = proxy.requests()["all"]
            at_hand = seconds(lambda number=number: list(near.epoch(number)))
            show(
                "latency", chips=len(far.ids), s=round(took, 2), chips_s=round(len(far.ids) / took),
                requests=requests, without_delay_s=round(at_hand, 2),
            )  # fmt: skip
    bar("waits one after the other / an epoch", requests * delay_s / took, at_least=2)


# ------------------------------------------------------------------------------------------- parts
STEPS = {
    "first": first_batch,
    "memory": memory_of_epoch,
    "index": index_of_case,
    "latency": latency_of_store,
    "model": model,
    "reads": reads,
}


def step(name: str) -> Callable[[Case, argparse.Namespace], None]:
    """A part that is one step in a process of its own."""

    def run(case: Case, options: argparse.Namespace) -> None:
        sizes = ("--rounds", options.rounds, "--chips", options.chips)
        child("--step", name, "--url", case.url, *sizes)

    return run


PARTS = {
    "doors": doors,
    "model": step("model"),
    "reads": step("reads"),
    "first": first,
    "index": index,
    "memory": memory,
    "latency": step("latency"),
}


def arguments() -> argparse.Namespace:
    """Options of the command line; those without a word are for the processes that it starts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=4096, help="pixels along the cube")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    parser.add_argument("--quick", action="store_true", help="a small cube, one round")
    parser.add_argument("--chips", type=int, default=0, help="of a training epoch; 0 for all")
    parser.add_argument("--jax", default=str(ROOT / ".venv-jax/bin/python"), help="interpreter")
    for name in ("--step", "--url", "--budget", "--name"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--stride", type=int, default=STRIDE, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.side, options.rounds, options.chips = 1024, 1, 64
    if unknown := set(options.only.split(",")) - set(PARTS):
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return options


def main() -> None:
    """Run parts and print rows."""
    options = arguments()
    if options.url:
        case = Case(url=options.url, stride=options.stride)
        STEPS[options.step](case, options)
        return
    packages = ("numpy", "zarr", "xarray", "xbatcher", "tensorflow-cpu", "keras")
    machine = {"machine": platform.machine(), "cores": os.cpu_count()}
    print(
        json.dumps(
            {
                **machine,
                "python": platform.python_version(),
                **{name: version(name) for name in packages},
            }
        ),
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        case = Case(url=filled_cube(str(Path(folder, "cube.zarr")), options.side))
        for part in options.only.split(","):
            PARTS[part](case, options)


if __name__ == "__main__":
    main()
