"""The same batches from every store and layout, each chunk asked for once, faults or none."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import cube
from cube import objects
from cube.errors import DamagedError, StoreError
from cube.windows import Windows
from tests import faults, toy
from training.stream import ChipStream, StreamSpec
from training.targets import Target

pytestmark = pytest.mark.timeout(120)

WINDOWS = Windows(shape=toy.SHAPE, size=8, stride=5)
ALL = np.arange(len(WINDOWS))
TARGET = Target(layer="population", transform="identity")
SAMPLE = replace(toy.SAMPLE, target=TARGET)
LAYOUTS = {
    "chunks": cube.LayoutSpec(chunk=16, region=32),
    "chunks that no block fits": cube.LayoutSpec(chunk=24, region=48),
    "no codec": cube.LayoutSpec(chunk=32, region=32, codec="none"),
    "lz4": cube.LayoutSpec(chunk=16, region=64, codec="blosc-lz4-1-noshuffle"),
    "shards": cube.LayoutSpec(chunk=16, shard=32, region=64),
    "shards larger than 1024": cube.LayoutSpec(chunk=16, shard=2048, region=2048),
}
UNWRITTEN = (slice(64, 96), slice(0, 32))
"""Of the label, so that it weighs nothing there."""


def _build(url, layout):
    """The toy's values in any layout; the label lacks a region of 32 pixels."""
    spec = replace(toy.spec(), layout=layout)
    url = cube.create(url, spec)
    label = toy.density()
    label[UNWRITTEN] = np.nan
    toy.write(url, "predictors", toy.image(), time="2000")
    toy.write(url, "terrain", toy.terrain())
    toy.write(url, "population", label, time="2010")
    return url


def _stream(url, ids=ALL, **spec):
    spec = StreamSpec(**{"seed": 0, "batch": 16, "block_px": 40, "memory": "20 MB", **spec})
    return ChipStream(url, SAMPLE, WINDOWS, ids, spec)


def _bytes(batches):
    return [[a.tobytes() for a in (b.chip, b.label, b.weight, *b.inputs.values())] for b in batches]


def _threads():
    return {t for t in threading.enumerate() if t.name.startswith("quadrat")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return _build(tmp_path_factory.mktemp("stores") / "toy.zarr", LAYOUTS["chunks"])


@pytest.fixture(scope="module")
def expected(folder):
    return _bytes(_stream(folder).epoch())


@pytest.mark.parametrize("layout", [*LAYOUTS])
@pytest.mark.parametrize("zarrs", [False, True])
def test_every_layout_gives_the_same_bytes_in_the_same_order(tmp_path, layout, zarrs, expected):
    if zarrs:
        pytest.importorskip("zarrs")
    url = _build(tmp_path / "toy.zarr", LAYOUTS[layout])
    cube.use_zarrs(zarrs)
    try:
        assert _bytes(_stream(url).epoch()) == expected
    finally:
        cube.use_zarrs(False)


@pytest.mark.parametrize("layout", ["chunks", "shards"])
def test_every_store_gives_the_same_bytes_in_the_same_order(store_url, layout, expected):
    assert _bytes(_stream(_build(store_url, LAYOUTS[layout])).epoch()) == expected


# ---------------------------------------------------------------------------------------- requests
class Served(ThreadingHTTPServer):
    """Objects of a folder as S3 gives them; knows what was asked for, and how much at once."""

    daemon_threads = True

    def __init__(self, root):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.root, self.turn = root, threading.Condition()
        self.asked, self.now, self.most, self.together = Counter(), 0, 0, 1

    def begun(self, key):
        with self.turn:
            self.asked[key] += 1
            self.now += 1
            self.most = max(self.most, self.now)
            self.turn.notify_all()
            # As slow as a store: held until as many have come, but not for ever.
            self.turn.wait_for(lambda: self.most >= self.together, timeout=0.05)

    def ended(self):
        with self.turn:
            self.now -= 1
            self.turn.notify_all()


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        key = self.path.split("?")[0].removeprefix("/bucket/toy.zarr/")
        self.server.begun(key)
        try:
            self._answer(Path(self.server.root, key))
        finally:
            self.server.ended()

    def _answer(self, path):
        data = path.read_bytes() if path.is_file() else b"<Error><Code>NoSuchKey</Code></Error>"
        self.send_response(200 if path.is_file() else 404)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", '"0"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def served(folder, monkeypatch):
    """The folder through a server that counts; that server, and the cube's URL there."""
    server = Served(folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    yield server, "s3://bucket/toy.zarr"
    server.shutdown()
    server.server_close()


def _chunks(asked):
    return {key: count for key, count in asked.items() if "/c/" in key}


def test_each_chunk_is_asked_for_once_an_epoch_and_the_metadata_not_again(served, expected):
    server, url = served
    stream = _stream(url)
    server.asked.clear()
    assert _bytes(stream.epoch()) == expected
    assert set(server.asked.values()) == {1}
    assert len(server.asked) == len(_chunks(server.asked)) == stream.report.reads == 3 * 6 * 7


def test_a_sparse_selection_asks_for_what_it_touches_alone(served):
    server, url = served
    stream = _stream(url, [0])
    server.asked.clear()
    next(stream.epoch())
    assert _chunks(server.asked) == {
        "predictors/c/0/0/0/0": 1,
        "terrain/c/0/0/0": 1,
        "population/c/1/0/0": 1,
    }


def test_shards_are_asked_for_no_more_often_than_their_indices_and_parts(s3, monkeypatch):
    with faults.proxy(s3.endpoint) as proxy:
        s3.through(proxy.endpoint).use(monkeypatch)
        url = _build(f"{s3.new_bucket()}/cube.zarr", LAYOUTS["shards larger than 1024"])
        stream = _stream(url)
        proxy.reset()
        list(stream.epoch())
        assert proxy.requests()["all"] <= 2 * stream.report.reads
        assert stream.report.reads == 3 * 6 * 7


def test_slow_requests_overlap(served, expected):
    server, url = served
    stream = _stream(url)
    server.together = 8
    assert _bytes(stream.epoch()) == expected
    assert server.most >= 8
    assert server.most <= stream.readers


def test_no_more_are_in_flight_than_there_are_readers(served):
    server, url = served
    server.together = 3
    list(_stream(url, ALL[:60], readers=2).epoch())
    assert server.most == 2


def test_the_stream_reads_ahead_of_a_consumer_by_a_group_and_no_more(served):
    server, url = served
    stream = _stream(url, blocks_in_flight=1, batch=8, prefetch=1, shuffle=False)
    groups = stream.plan(0).groups
    wanted = [_keys_of(stream, group) for group in groups[:5]]
    server.asked.clear()
    batches = stream.epoch()
    first = next(batches)
    ahead = set(wanted[0]) | set(wanted[1])
    with server.turn:
        assert server.turn.wait_for(lambda: ahead <= {*server.asked} and not server.now, timeout=20)
    assert len(groups) > 4
    # Chips of the first group are still to come, so that no more than the next is there.
    assert {*server.asked} == ahead
    assert first.chip[0] in stream.blocks[0].chips
    batches.close()


def _keys_of(stream, group):
    keys = set()
    for block in stream.plan(0).blocks[slice(*group.blocks)]:
        for y, x in block.origins.tolist():
            for row in range(y // 16, (y + 7) // 16 + 1):
                for col in range(x // 16, (x + 7) // 16 + 1):
                    keys |= {
                        f"predictors/c/0/0/{row}/{col}",
                        f"terrain/c/0/{row}/{col}",
                        f"population/c/1/{row}/{col}",
                    }
    return keys


# ------------------------------------------------------------------------------------------ faults
def test_what_may_pass_is_tried_again_and_no_byte_differs(s3, monkeypatch, expected):
    with faults.proxy(s3.endpoint) as proxy:
        s3.through(proxy.endpoint).use(monkeypatch)
        url = _build(f"{s3.new_bucket()}/cube.zarr", LAYOUTS["chunks that no block fits"])
        stream = _stream(url)
        proxy.change(faults=("503", "cut", "partial"), rate=0.2, most=1)
        assert _bytes(stream.epoch()) == expected
        assert sum(proxy.counts().values()) >= 5


@pytest.mark.parametrize("layout", ["chunks", "shards", "no codec"])
def test_a_damaged_chunk_is_named_where_it_is_needed_and_no_thread_is_left(tmp_path, layout):
    url = _build(tmp_path / "toy.zarr", LAYOUTS[layout])
    side = LAYOUTS[layout].unit
    key = f"predictors/c/0/0/{50 // side}/{50 // side}"
    data = bytearray(objects.at(url).get(key))
    data[len(data) // 3] ^= 0x10
    objects.at(url).put(key, bytes(data))
    before = _threads()
    with pytest.raises(DamagedError, match=r"'predictors' cannot be read at 0, :, \d+:\d+, \d+"):
        list(_stream(url).epoch())
    assert _threads() == before


def test_what_was_never_written_weighs_nothing(folder):
    written = 0
    for batch in _stream(folder).epoch():
        for chip, label, weight in zip(batch.chip, batch.label, batch.weight, strict=True):
            if chip < 0:
                continue
            y, x = WINDOWS.origins([chip])[0]
            rows, cols = np.mgrid[y : y + 8, x : x + 8]
            gone = (rows >= 64) & (cols < 32)
            assert not weight[gone].any()
            assert not label[gone].any()
            written += int(weight[~gone].sum())
    assert written


def test_a_cube_that_was_made_anew_is_not_mixed_with_the_old(tmp_path):
    url = _build(tmp_path / "toy.zarr", LAYOUTS["chunks"])
    stream = _stream(url, blocks_in_flight=1, prefetch=1)
    batches = stream.epoch()
    next(batches)
    shutil.rmtree(url)
    spec = toy.spec()
    layers = (replace(spec.layers[0], units="km-2", long_name="others"),)
    cube.create(url, replace(spec, layers=layers))
    before = _threads()
    with pytest.raises(StoreError, match="is no longer what it was when this began"):
        list(batches)
    assert not _threads() - before


def test_a_cube_that_cannot_be_written_is_streamed(tmp_path, expected):
    url = Path(_build(tmp_path / "toy.zarr", LAYOUTS["chunks"]))
    places = [url, *url.rglob("*")]
    listed = {path: path.stat().st_mtime_ns for path in places}
    for path in places:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert _bytes(_stream(url).epoch()) == expected
        assert {path: path.stat().st_mtime_ns for path in [url, *url.rglob("*")]} == listed
    finally:
        for path in places:
            path.chmod(0o755 if path.is_dir() else 0o644)


# ----------------------------------------------------------------------------------------- leaving
def test_consumers_come_and_go_and_none_waits_for_another(folder, expected):
    before = _threads()
    shared = _stream(folder)

    def consume(number):
        rng = np.random.default_rng(number)
        for _ in range(3):
            stream = shared if number % 2 else _stream(folder, prefetch=int(rng.integers(1, 4)))
            count = int(rng.integers(0, len(expected) + 1))
            batches = stream.epoch()
            found = _bytes(batch for _, batch in zip(range(count), batches, strict=False))
            batches.close()
            assert found == expected[:count]
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(consume, range(6), timeout=100))
    assert _threads() == before


def test_one_stream_may_be_iterated_twice_at_once(folder, expected):
    stream = _stream(folder)
    pairs = list(zip(stream.epoch(), stream.epoch(), strict=True))
    assert _bytes(a for a, _ in pairs) == _bytes(b for _, b in pairs) == expected
