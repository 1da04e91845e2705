"""The memory budget of a stream is a promise, whatever the cube, its layout and the selection."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

import cube
from cube.errors import SpecError
from cube.windows import Windows
from training.samples import SampleSpec
from training.stream import ChipStream, StreamSpec
from training.stream.budget import Needs, plan_budget
from training.targets import Target

ROOT = Path(__file__).parents[3]
BANDS = tuple("abcdefghij")

MEASURE = """
import gc, sys, time
from tests.cube.test_filling import status_bytes
from tests.training.stream.test_memory import chosen, opened

url, memory, selection = sys.argv[1:4]
small = {} if selection == "all" else {"batch": 8, "prefetch": 2, "block_px": 256}
stream = opened(url, memory, chosen(url, selection), **small)
stream.plan(0)
gc.collect()
before = status_bytes("VmRSS")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
for batch in stream.epochs(0, 2):
    time.sleep(0.002)  # so that whatever waits for a consumer is there
print(status_bytes("VmHWM") - before, stream.spec.memory_bytes)
"""


def windows_of(url):
    return Windows(shape=tuple(cube.read_spec(url).grid.shape), size=128, stride=64)


def opened(url, memory, ids=None, **spec):
    """A stream of ten bands of int16 and a float32 label."""
    windows = windows_of(url)
    sample = SampleSpec.of(
        {"optical": BANDS}, Target(layer="cover"), label_time=None, input_time="2000"
    )
    ids = np.arange(len(windows)) if ids is None else ids
    return ChipStream(url, sample, windows, ids, StreamSpec(seed=0, memory=memory, **spec))


def chosen(url, selection):
    """Ids: all, or squares that are full and squares with one chip in turn."""
    windows = windows_of(url)
    origins = windows.origins(np.arange(len(windows)))
    full = (origins // 256).sum(axis=1) % 2 == 0
    corner = (origins % 256 == 0).all(axis=1)
    return np.flatnonzero(full | corner) if selection == "uneven" else np.arange(len(windows))


def made(url, side, **layout):
    """A cube of noise."""
    spec = cube.CubeSpec(
        grid=GeoBox((side, side), Affine(30, 0, 300_000, 0, -30, 5_000_000), "EPSG:32633"),
        calendar=cube.years(2000),
        stacks=(cube.StackSpec(name="optical", bands=BANDS, dtype="int16", nodata=-1),),
        layers=(cube.LayerSpec(name="cover", dtype="float32", static=True),),
        layout=cube.LayoutSpec(**{"codec": "blosc-lz4-1-noshuffle", "region": 1024, **layout}),
    )
    url = cube.create(url, spec)
    rng = np.random.default_rng(0)
    for region in cube.regions(spec, "optical", time=0):
        values = rng.integers(0, 9999, (len(BANDS), *region.shape), "int16")
        cube.write_region(url, "optical", region, values, spec=spec)
    for region in cube.regions(spec, "cover", time=None):
        values = rng.random(region.shape, "float32")
        cube.write_region(url, "cover", region, values, spec=spec)
    return url


def peak(url, memory, selection="all"):
    """Bytes above those of the process once the stream was open, and the budget."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    child = subprocess.run(
        [sys.executable, "-c", MEASURE, url, memory, selection],
        cwd=ROOT,
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    return map(int, child.stdout.split())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak")
class TestPeaks:
    def test_the_peak_keeps_to_the_budget_even_of_four_times_the_area(self, tmp_path):
        for side in (2048, 4096):
            url = made(tmp_path / f"{side}.zarr", side)
            for memory in ("128 MB", "256 MB"):
                used, budget = peak(url, memory)
                assert budget / 5 < used < 1.2 * budget

    def test_of_shards_and_large_chunks(self, tmp_path):
        for name, layout in {"s": {"shard": 1024}, "c": {"chunk": 1024}}.items():
            url = made(tmp_path / f"{name}.zarr", 2048, **layout)
            used, budget = peak(url, "256 MB")
            assert used < 1.2 * budget

    def test_of_a_selection_with_blocks_of_very_different_sizes(self, tmp_path):
        used, budget = peak(made(tmp_path / "c.zarr", 4096), "128 MB", "uneven")
        assert used < 1.2 * budget


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return made(tmp_path_factory.mktemp("memory") / "small.zarr", 512, chunk=128)


@pytest.mark.parametrize("prefetch", [1, 2, 4, 8])
def test_no_more_batches_are_alive_than_wait_and_two(small, prefetch):
    stream = opened(small, "200 MB", batch=2, prefetch=prefetch)
    given, most = [], 0
    empty = stream._batch_buffers.empty

    def noted(shape, dtype):
        nonlocal most
        values = empty(shape, dtype)
        if shape[-1] == len(BANDS):
            given.append(weakref.ref(values))
            most = max(most, sum(there() is not None for there in given))
        return values

    stream._batch_buffers.empty = noted
    for batch in stream.epoch():
        assert len(batch.chip) == 2
        time.sleep(0.002)  # so that those ahead are there
    assert 1 < most <= prefetch + 2


def test_batches_that_a_consumer_holds_are_its_own(small):
    stream = opened(small, "100 MB", batch=4, prefetch=1)
    held = [(batch, batch.inputs["optical"].copy()) for batch in stream.epoch()]
    list(stream.epoch(1))
    assert all((batch.inputs["optical"] == values).all() for batch, values in held)


def test_what_is_kept_between_epochs_is_within_the_budget_and_given_back(small):
    stream = opened(small, "100 MB", batch=4)
    for number in range(3):
        list(stream.epoch(number))
    gc.collect()
    kept = stream._batch_buffers.free_bytes + stream._block_buffers.free_bytes
    assert 0 < kept <= stream.spec.memory_bytes
    stream.release()
    assert stream._batch_buffers.free_bytes == stream._block_buffers.free_bytes == 0


def test_a_shard_that_memory_does_not_hold_is_read_by_its_chunks(tmp_path):
    url = made(tmp_path / "shards.zarr", 1024, chunk=256, shard=1024)
    roomy, narrow = opened(url, "1 GB"), opened(url, "128 MB")
    assert "1024 px at a time" in roomy.describe()
    assert "256 px at a time" in narrow.describe()


def test_a_chunk_that_memory_does_not_hold_is_refused_with_what_would(tmp_path):
    spec = cube.read_spec(made(tmp_path / "large.zarr", 1024, chunk=1024))
    assert spec.layout.chunk == 1024
    with pytest.raises(SpecError, match=r"needs at least 2\d\d MB, .* Received memory=128 MB"):
        opened(str(tmp_path / "large.zarr"), "128 MB")
    opened(str(tmp_path / "large.zarr"), "290 MB")


def test_the_size_of_chunks_changes_no_order_of_blocks():
    needs = Needs(pixel_bytes=30, chip_bytes=30 * 128**2, size=128)
    large = replace(needs, chunk_bytes=55_000_000)
    one, other = (plan_budget(300_000_000, n, batch=32, prefetch=4) for n in (needs, large))
    assert other.decoding_bytes >= large.chunk_bytes > one.decoding_bytes
    assert replace(other, kept_bytes=0, decoding_bytes=0) == replace(
        one, kept_bytes=0, decoding_bytes=0
    )
