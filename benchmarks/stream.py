"""How fast do chips come out of a cube, what do they cost a training, and how much memory?

    python -m benchmarks.stream                           # all parts, about six minutes
    python -m benchmarks.stream --only doors,reads        # some of them
    python -m benchmarks.stream --quick                   # a small cube; numbers mean nothing

A stack of ten int16 bands and a float32 label, in the default layout; chips of 128 pixels at half
overlap, in random order, batches of 64. ``doors`` sends the same chips through the common ways
from Zarr to a framework and through ours, turn and turn about, after their bytes were compared;
rates are taken at the consumer, who touches every chip. TensorFlow, JAX and numpy run in processes
of their own, one at work at a time. Rows of ``bar`` say what was wanted and whether it was met.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import cube
import training
from cube.reading import read_bands, read_region
from cube.regions import Region
from cube.windows import Windows

ROOT = Path(__file__).parents[1]
SIZE, STRIDE, BATCH = 128, 64, 64
BANDS = tuple(f"band_{n}" for n in range(10))
SAMPLE = training.SampleSpec.of(
    {"predictors": BANDS}, training.Target(layer="label"), input_time="2020"
)
CHIP_MB = SIZE**2 * (2 * len(BANDS) + 4) / 1e6
"""Bytes of a chip's image and label."""

Chip = tuple[Any, Any]
Epoch = Callable[[], Iterator[Chip]]


# ------------------------------------------------------------------------------------------- a cube
@dataclass(frozen=True, kw_only=True)
class Case:
    """A cube and the windows on it."""

    url: str
    stride: int = STRIDE

    @cached_property
    def spec(self) -> cube.CubeSpec:
        """What the cube is."""
        return cube.read_spec(self.url)

    @cached_property
    def windows(self) -> Windows:
        """Where chips lie."""
        return Windows(shape=self.spec.grid.shape, size=SIZE, stride=self.stride)

    @property
    def ids(self) -> np.ndarray:
        """All chips."""
        return np.arange(len(self.windows))


def ours(case: Case, ids: np.ndarray | None = None, **options: Any) -> training.ChipStream:
    """Our stream of a case; ``options`` of its spec."""
    spec = training.StreamSpec(**{"batch": BATCH, "seed": 0, **options})
    return training.ChipStream(
        case.url, SAMPLE, case.windows, case.ids if ids is None else ids, spec
    )


def new_cube(url: str, side: int) -> cube.CubeSpec:
    """A cube of one stack and one static label, without pixels."""
    from benchmarks import layout

    layout.cube_at(url, side, cube.LayoutSpec())
    cube.add(url, cube.LayerSpec(name="label", dtype="float32", static=True))
    return cube.read_spec(url)


def filled_cube(url: str, side: int) -> str:
    """A cube with the pixels that ``benchmarks.layout`` takes."""
    from benchmarks import layout

    spec = new_cube(url, side)
    pixels = layout.block(side)
    label = (pixels[0] // 16).astype("float32")
    for region in cube.regions(spec, "predictors", time=0):
        cube.write_region(url, "predictors", region, pixels[(slice(None), *region.slices)].copy())
    for region in cube.regions(spec, "label"):
        cube.write_region(url, "label", region, label[region.slices].copy())
    return url


def linked_cube(url: str, side: int, source: str) -> str:
    """A larger cube whose chunks are links to those of another, again and again."""
    spec = new_cube(url, side)
    chunk = spec.layout.chunk
    period = cube.read_spec(source).grid.shape[0] // chunk
    for folder in ("predictors/c/0/0", "label/c"):
        for y, x in np.ndindex(*(math.ceil(n / chunk) for n in spec.grid.shape)):
            place = Path(url, folder, str(y), str(x))
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(Path(source, folder, str(y % period), str(x % period)), place)
    return url


def channels_last(case: Case, rows: tuple[int, int], cols: tuple[int, int]) -> Chip:
    """Image (y, x, band) and label (y, x) of a box, decoded."""
    box = Region(time=0, rows=rows, cols=cols)
    image = read_bands(case.url, "predictors", box, spec=case.spec, bands=BANDS)
    label = read_region(case.url, "label", Region(time=None, rows=rows, cols=cols), spec=case.spec)
    return np.ascontiguousarray(np.moveaxis(image, 0, -1)), label


# -------------------------------------------------------------------------- contenders: numpy
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


def xbatcher_pair(case: Case, chunks: Any) -> tuple[Any, Any]:
    """Generators of xbatcher for image (band, y, x) and label (y, x), over the cube opened lazily.

    Coordinates are left out, and bands stay where they are: so it is fastest.
    """
    import xarray as xr
    from xbatcher import BatchGenerator

    lazy = xr.open_zarr(case.url, chunks=chunks, mask_and_scale=False)
    lazy = lazy[["predictors", "label"]].isel(time=0)
    lazy = lazy.drop_vars(list(lazy.coords))
    dims, overlap = dict.fromkeys("yx", SIZE), dict.fromkeys("yx", SIZE - case.stride)
    image, label = (
        BatchGenerator(lazy[name], dims, overlap, preload_batch=False)
        for name in ("predictors", "label")
    )
    return image, label


def xbatcher(case: Case, ids: np.ndarray, *, chunks: Any) -> Epoch:
    """Chips by xbatcher alone, one by one in random order."""
    image, label = xbatcher_pair(case, chunks)
    order = np.random.default_rng(0).permutation(ids)
    return lambda: batched(
        (np.moveaxis(image[int(n)].values, 0, -1), label[int(n)].values) for n in order
    )


def numpy_door(case: Case, ids: np.ndarray) -> Epoch:
    """Ours, numpy arrays."""
    stream, numbers = ours(case, ids), itertools.count()
    return lambda: ((b.inputs["predictors"], b.label) for b in stream.epoch(next(numbers)))


# ------------------------------------------------------------------- contenders: TensorFlow and JAX
def keras_loader(case: Case, ids: np.ndarray, *, chunks: Any) -> Epoch:
    """The loader for Keras of xbatcher, in random order."""
    import tensorflow as tf
    from xbatcher.loaders.keras import CustomTFDataset

    pair = xbatcher_pair(case, chunks)
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


NUMPY: dict[str, Callable[[Case, np.ndarray], Epoch]] = {
    "slices of memory": slicing,
    "a block decoded, then cut": block_cutting,
    "xbatcher, lazy": partial(xbatcher, chunks=None),
    "xbatcher, Dask": partial(xbatcher, chunks={}),
    "ours, numpy": numpy_door,
}
TENSORFLOW: dict[str, Callable[[Case, np.ndarray], Epoch]] = {
    "xbatcher's Keras loader, lazy": partial(keras_loader, chunks=None),
    "xbatcher's Keras loader, Dask": partial(keras_loader, chunks={}),
    "TFRecords": tfrecords,
    "ours, tf.data": tensorflow_door,
}
JAX: dict[str, Callable[[Case, np.ndarray], Epoch]] = {
    "ours, numpy beside JAX": numpy_door,
    "ours, PyDataset on JAX": keras_door,
}
WORKERS = {"numpy": NUMPY, "tensorflow": TENSORFLOW, "jax": JAX}
SOME = {name: 256 for name in (*NUMPY, *TENSORFLOW) if name.startswith("xbatcher")}
"""Chips timed of those that are slow."""
SOME["xbatcher, lazy"] = 512

BARS = [
    ("ours, numpy", "xbatcher's Keras loader, lazy", 40),
    ("ours, numpy", "xbatcher, lazy", 15),
    ("ours, numpy", "TFRecords", 2.5),
    ("ours, numpy", "slices of memory", 0.25),
    ("ours, tf.data", "TFRecords", 1.3),
    ("ours, PyDataset on JAX", "ours, numpy beside JAX", 0.9),
]


# ------------------------------------------------------------------------------- doors: the contest
def consumed(epoch: Epoch) -> tuple[float, float]:
    """Seconds of an epoch whose every chip is touched: by the clock, and of all cores."""
    start, busy, total = time.perf_counter(), time.process_time(), 0.0
    for image, label in epoch():
        # Not .numpy(), which copies: no more than a glance at what is there.
        total += int(np.asarray(image)[:, 0, 0, 0].sum()) + float(np.asarray(label)[:, 0, 0].sum())
    return time.perf_counter() - start, time.process_time() - busy


def digest(epoch: Epoch, count: int) -> list[int]:
    """Number of chips, and a checksum of them and their labels in any order."""
    seen = total = 0
    for batch in epoch():
        image, label = (np.ascontiguousarray(part) for part in batch)
        for number in range(min(len(image), count - seen)):
            total += zlib.crc32(label[number], zlib.crc32(image[number]))
            seen += 1
    return [seen, total]


def serve(case: Case, contenders: dict[str, Any]) -> None:
    """Do what the lines of standard input say, and answer each with a line."""
    ready: dict[tuple[str, int], Epoch] = {}
    for line in sys.stdin:
        what, name, count = json.loads(line)
        ids = np.sort(np.random.default_rng(0).choice(case.ids, count, replace=False))
        if (name, count) not in ready:
            ready[name, count] = contenders[name](case, ids)
        epoch = ready[name, count]
        print(json.dumps(consumed(epoch) if what == "time" else digest(epoch, count)), flush=True)


class Worker:
    """A process that holds some of the contenders."""

    def __init__(self, interpreter: str, kind: str, case: Case) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (open as long as the process)
        self._process = subprocess.Popen(
            [interpreter, "-m", "benchmarks.stream", "--serve", kind, "--url", case.url],
            cwd=ROOT,
            env=environment(kind),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def ask(self, what: str, name: str, count: int) -> Any:
        """``"time"`` or ``"digest"`` of a contender over so many chips."""
        self._process.stdin.write(json.dumps([what, name, count]) + "\n")
        self._process.stdin.flush()
        if line := self._process.stdout.readline():
            return json.loads(line)
        self._log.seek(0)
        raise RuntimeError(f"{name} failed: {self._log.read()[-2000:]}")

    def end(self) -> None:
        """Wait until it is over."""
        self._process.stdin.close()
        self._process.wait()


def environment(kind: str) -> dict[str, str]:
    """Variables of a process with one framework."""
    chosen = {} if kind == "numpy" else {"KERAS_BACKEND": kind}
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", **chosen}


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
    names = [(workers[kind], name) for kind in workers for name in WORKERS[kind]]
    counts = {name: min(SOME.get(name, len(case.ids)), len(case.ids)) for _, name in names}
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
    for name, other, least in BARS:
        if name in rates:
            ratios = [a / b for a, b in zip(rates[name], rates[other], strict=True)]
            bar(f"{name} / {other}", statistics.median(ratios), at_least=least)


# -------------------------------------------------------------------------- model: a whole training
def model(case: Case, options: argparse.Namespace) -> None:
    """Epochs of a small network, from the cube and from a few batches in memory, alternating."""
    import keras
    import tensorflow as tf

    chips = min(options.chips, len(case.ids))
    ids = np.sort(np.random.default_rng(0).choice(case.ids, chips, replace=False))
    stream = ours(case, ids)
    some = [(b.inputs, b.label, b.weight) for b in itertools.islice(stream.epoch(0), 8)]
    held = tf.nest.map_structure(lambda *parts: np.stack(parts), *some)
    memory = tf.data.Dataset.from_tensor_slices(held).repeat().take(len(stream))
    memory = memory.prefetch(tf.data.AUTOTUNE)
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
class Opened:
    """How often files below folders are opened while it lasts, as the kernel counts.

    See inotify(7). Whatever opens a file is seen: Python, Rust, a child process.
    """

    OPEN, CLOSE = 0x20, 0x10
    HEAD = 16
    """Bytes of an event before its name, whose length is the last four of them."""

    def __init__(self, folders: Iterable[Path]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._events = libc.inotify_init1(os.O_NONBLOCK)
        self._folders = {}
        for folder in folders:
            # Closing is watched so that two openings of one file are not two equal events,
            # which the kernel would merge.
            watch = libc.inotify_add_watch(
                self._events, os.fsencode(folder), self.OPEN | self.CLOSE
            )
            assert watch >= 0, f"inotify: {os.strerror(ctypes.get_errno())}"
            self._folders[watch] = folder
        self.times: Counter[Path] = Counter()

    def count(self) -> Counter[Path]:
        """Openings so far, by file."""
        while data := self._read():
            at = 0
            while at < len(data):
                watch, mask, _, length = np.frombuffer(data, "i4", 4, at)
                name = data[at + self.HEAD : at + self.HEAD + length].rstrip(b"\0").decode()
                if mask & self.OPEN and name:
                    self.times[self._folders[int(watch)] / name] += 1
                assert watch >= 0, "more events than the kernel keeps"
                at += self.HEAD + int(length)
        return self.times

    def _read(self) -> bytes:
        try:
            return os.read(self._events, 1 << 20)
        except BlockingIOError:
            return b""


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
def peak_mb(call: Callable[[], Any]) -> float:
    """The most memory that this process has while it does something, less what it had before."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here, see proc(5)
    before = high_water_mb()
    call()
    return high_water_mb() - before


def high_water_mb() -> float:
    """Peak of this process's resident memory since it was last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


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
        bar(f"peak of the larger cube / of the smaller, {budget}", large / small, at_most=1.1)


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


def seconds(call: Callable[[], Any]) -> float:
    """Duration of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


# ----------------------------------------------------------------------------------- rows and parts
def show(what: str, **columns: Any) -> None:
    """A row."""
    print(json.dumps({"what": what, **columns}), flush=True)


def bar(
    name: str, value: float, *, at_least: float | None = None, at_most: float | None = None
) -> None:
    """A row that says whether a ratio is as wanted."""
    wanted = {"at_least": at_least} if at_most is None else {"at_most": at_most}
    met = value >= at_least if at_most is None else value <= at_most
    show("bar", name=name, ratio=round(value, 3), **wanted, met=bool(met))


def linked(case: Case, side: int) -> str:
    """The larger cube beside a case's own, made when it is first asked for."""
    chunk = case.spec.layout.chunk
    url = str(Path(case.url).with_name(f"{side}.zarr"))
    return url if Path(url).exists() else linked_cube(url, max(side, chunk), case.url)


def child(*arguments: Any) -> list[dict[str, Any]]:
    """Run a step in a process of its own, and show its rows."""
    command = [sys.executable, "-m", "benchmarks.stream", *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment("tensorflow"),
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command} failed: {done.stderr[-2000:]}")
    print(done.stdout, end="", flush=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


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
    parser.add_argument("--chips", type=int, default=1984, help="chips of a training epoch")
    parser.add_argument("--jax", default=str(ROOT / ".venv-jax/bin/python"), help="interpreter")
    for name in ("--serve", "--step", "--url", "--budget", "--name"):
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
        if options.serve:
            serve(case, WORKERS[options.serve])
        else:
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
