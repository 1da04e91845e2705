"""How many requests an object store gets: each may take 50 ms."""

from __future__ import annotations

import http.server
import threading
import time
import urllib.parse
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

import cube
from cube import objects
from tests import faults

pytestmark = pytest.mark.timeout(120)


def grid_of(side):
    return GeoBox((side, side), Affine(30, 0, 300_000, 0, -30, 5_000_000), "EPSG:32633")


@pytest.fixture(scope="module")
def many():
    """A spec of 60 arrays, each of 16 regions of 16 chunks."""
    stacks = tuple(
        cube.StackSpec(name=f"stack_{n}", bands=("red", "nir"), dtype="int16", nodata=-1)
        for n in range(30)
    )
    layers = tuple(cube.LayerSpec(name=f"layer_{n}", dtype="float32") for n in range(30))
    return cube.CubeSpec(
        grid=grid_of(256),
        calendar=cube.years(2000, 2010),
        stacks=stacks,
        layers=layers,
        layout=cube.LayoutSpec(chunk=16, region=64),
    )


@pytest.fixture
def counted(s3, monkeypatch):
    """An S3 that is watched; the proxy, and a place there."""
    with faults.proxy(s3.endpoint) as proxy:
        s3.through(proxy.endpoint).use(monkeypatch)
        yield proxy, f"{s3.new_bucket()}/cube.zarr"


def test_a_cube_of_60_arrays_opens_with_two_requests(counted, many):
    proxy, url = counted
    cube.create(url, many)
    proxy.reset()
    dataset = cube.open(url)
    assert len(dataset.data_vars) == 60
    assert proxy.requests()["all"] == 2
    proxy.reset()
    assert cube.read_spec(url) == many
    assert proxy.requests()["all"] == 1


def test_any_reader_opens_it_by_its_url(counted, many):
    _, url = counted
    few = replace(many, stacks=many.stacks[:1], layers=many.layers[:1])
    cube.create(url, few)
    region = next(cube.regions(few, "layer_0", time=1))
    cube.write_region(url, "layer_0", region, np.ones(region.shape, "float32"))
    plain = xr.open_zarr(url)
    assert plain["layer_0"].sum() == 64 * 64
    xr.testing.assert_equal(plain["time"].load(), cube.open(url)["time"].load())


def test_a_region_takes_its_chunks_and_four_requests_more(counted, many):
    proxy, url = counted
    cube.create(url, replace(many, stacks=many.stacks[:1], layers=()))
    spec = cube.read_spec(url)
    region = next(cube.regions(spec, "stack_0", time=0))
    data = np.arange(2 * 64 * 64, dtype="int16").reshape(2, 64, 64)
    cube.write_region(url, "stack_0", region, data, spec=spec)
    second = replace(region, time=1)
    proxy.reset()
    cube.write_region(url, "stack_0", second, data, spec=spec)
    assert proxy.requests()["all"] == 16 + 4


def test_a_delay_of_50_ms_a_request_is_hidden_by_concurrency(counted, many):
    """One after another, the requests of these 16 regions would take 16 s."""
    proxy, url = counted
    cube.create(url, replace(many, stacks=many.stacks[:1], layers=()))
    spec = cube.read_spec(url)
    data = np.arange(2 * 64 * 64, dtype="int16").reshape(2, 64, 64)
    proxy.change(delay_s=0.05)
    proxy.reset()
    began = time.monotonic()
    work = [(url, spec, region, data) for region in cube.regions(spec, "stack_0", time=0)]
    for _ in cube.run.run_tasks(_write, work, verb="write", url=url, workers=8):
        pass
    one_after_another_s = 0.05 * proxy.requests()["all"]
    assert time.monotonic() - began < one_after_another_s / 3
    began = time.monotonic()
    proxy.reset()
    found = cube.open(url)["stack_0"].isel(time=0).values
    assert time.monotonic() - began < 0.05 * proxy.requests()["all"] / 3
    assert found[:, :64, :64].astype("int16").tolist() == data.tolist()


def _write(task):
    url, spec, region, data = task
    cube.write_region(url, "stack_0", region, data, spec=spec)


class _Listing(http.server.BaseHTTPRequestHandler):
    """Just enough of S3 to read one document and to list keys, a thousand at a time."""

    protocol_version = "HTTP/1.1"
    document: bytes
    keys: list[str]
    count = 0

    def do_GET(self):  # (the name that http.server calls)
        type(self).count += 1
        place = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(place.query)
        if "list-type" in query:
            self._answer(self._page(query))
        elif place.path.endswith("/cube.zarr/zarr.json"):
            self._answer(self.document)
        else:
            self._answer(b"<Error><Code>NoSuchKey</Code></Error>", status=404)

    def _page(self, query):
        first = int(query.get("continuation-token", ["0"])[0])
        known = [key for key in self.keys if key.startswith(query["prefix"][0])]
        more = first + 1000 < len(known)
        contents = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f'<ETag>"0"</ETag><Size>12</Size></Contents>'
            for key in known[first : first + 1000]
        )
        token = f"<NextContinuationToken>{first + 1000}</NextContinuationToken>" if more else ""
        return (
            f"<ListBucketResult><Name>bucket</Name><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"{token}{contents}</ListBucketResult>"
        ).encode()

    def _answer(self, body, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"0"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def test_the_status_of_100_000_regions_takes_no_150_requests(monkeypatch):
    spec = cube.CubeSpec(
        grid=grid_of(320 * 64),
        calendar=cube.years(2000),
        layers=(cube.LayerSpec(name="roof", dtype="int8", nodata=-1, static=True),),
        layout=cube.LayoutSpec(chunk=64, region=64),
    )
    memory = cube.create("memory://status-of-many", spec)
    _Listing.document = objects.at(memory).get("zarr.json")
    _Listing.keys = [
        f"cube.zarr/ledger/roof/c/{row}/{col}" for row in range(320) for col in range(320)
    ][:-1]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Listing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        _Listing.count = 0
        counts = cube.status("s3://bucket/cube.zarr").counts
    finally:
        server.shutdown()
        server.server_close()
    assert (counts.done, counts.total) == (102_399, 102_400)
    assert _Listing.count <= 150
