"""Filling in real processes: interrupted it goes on where it stopped; memory is what was said."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import cube
from cube import ledger, provenance, report

ROOT = Path(__file__).parents[2]

SLOW = """
import signal, sys, time
# Who is started in the background of a shell is told to ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
import numpy as np
import cube
from cube.command import run_command

class Slow:
    bands = ("mean", "stable")

    def __init__(self, seconds):
        self.seconds = seconds

    def read(self, grid, rows, cols):
        print("reading", flush=True)
        time.sleep(self.seconds)
        return np.full((2, rows[1] - rows[0], cols[1] - cols[0]), rows[0] % 200, "float32")

    def check(self, grid):
        pass

    def describe(self):
        return {"slow": True}

def ingest(**how):
    cube.ingest(sys.argv[1], "lights", {"2000": Slow(float(sys.argv[2]))}, **how)

class Command:
    def parse_args(self, arguments):
        return self

    def call(self, args):
        if sys.argv[3] == "threads":
            ingest(workers=2)
        else:
            from distributed import Client, LocalCluster
            with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as local:
                with Client(local) as client:
                    ingest(client=client)
        return 0

if __name__ == "__main__":
    sys.exit(run_command(Command(), None))
"""


@pytest.fixture
def ingest(tmp_path):
    """Start an ingest in a process; it has begun to read when this returns."""
    children = []
    script = tmp_path / "slow.py"
    script.write_text(SLOW)

    def begin(url, seconds, way):
        child = subprocess.Popen(
            [sys.executable, str(script), url, str(seconds), way],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        children.append(child)
        assert child.stdout.readline().startswith("reading"), child.stderr.read()
        return child

    yield begin
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def written(url):
    return int(ledger.entries(url, cube.read_spec(url), ["lights"])["lights"].written.sum())


REGIONS = 4 * 5


def until_begun(url):
    """Wait until a region is written, however busy the machine is."""
    end = time.monotonic() + 60
    while not written(url) and time.monotonic() < end:
        time.sleep(0.01)


class TestInterrupt:
    def check(self, url, child, status=130):
        """One line says how far it came, and that is true; the next run does the rest."""
        _, errors = child.communicate(timeout=60)
        assert child.returncode == status
        (line,) = re.findall(r"^interrupted: .*$", errors, re.MULTILINE)
        told = re.fullmatch(
            rf"interrupted: ingest lights, (\d+) of {REGIONS} regions written; run it again to go "
            r"on",
            line,
        )
        assert told, line
        (kept,) = report.reports(url)
        assert (kept.stopped, kept.written) == ("Interrupted.", int(told[1]))
        return int(told[1])

    def go_on(self, url, tmp_path, contents):
        for place in (url, undisturbed := cube.create(tmp_path / "other", cube.read_spec(url))):
            cube.ingest(place, "lights", {"2000": Flat()}, workers=2)
        assert contents(url) == contents(undisturbed)
        assert not cube.verify(url).damaged

    def test_on_threads_regions_in_flight_are_finished(self, url, ingest, tmp_path, contents):
        child = ingest(url, 0.2, "threads")
        until_begun(url)
        child.send_signal(signal.SIGINT)
        count = self.check(url, child)
        assert 0 < count == written(url) < REGIONS
        assert not provenance.at_work(url, "lights")
        self.go_on(url, tmp_path, contents)

    def test_a_second_time_it_ends_at_once(self, url, ingest):
        child = ingest(url, 30, "threads")
        child.send_signal(signal.SIGINT)
        assert "Once more stops at once" in child.stderr.readline()
        began = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert self.check(url, child) == 0
        assert time.monotonic() - began < 10
        assert written(url) == 0

    @pytest.mark.slow
    def test_on_a_cluster_what_runs_may_end_and_nothing_is_torn(
        self, url, ingest, tmp_path, contents
    ):
        child = ingest(url, 0.2, "client")
        until_begun(url)
        child.send_signal(signal.SIGINT)
        assert self.check(url, child) <= written(url) < REGIONS
        self.go_on(url, tmp_path, contents)

    @pytest.mark.slow
    def test_as_a_terminal_does_it_workers_too(self, url, ingest, tmp_path, contents):
        child = ingest(url, 0.2, "client")
        until_begun(url)
        os.killpg(child.pid, signal.SIGINT)
        assert self.check(url, child) <= written(url) < REGIONS
        self.go_on(url, tmp_path, contents)


class Flat:
    """What the slow source gives, at once."""

    bands = ("mean", "stable")

    def read(self, grid, rows, cols):
        return np.full((2, rows[1] - rows[0], cols[1] - cols[0]), rows[0] % 200, "float32")

    def check(self, grid):
        return None

    def describe(self):
        return {"slow": True}


def test_a_source_that_wrote_nothing_may_be_replaced_without_a_word(url, contents):
    class Wrong(Flat):
        def read(self, grid, rows, cols):
            raise cube.errors.SourceError("not a raster.")

        def describe(self):
            return {"wrong": True}

    before = contents(url)
    with pytest.raises(cube.errors.IncompleteError):
        cube.ingest(url, "lights", {"2000": Wrong()})
    assert contents(url) == before
    cube.ingest(url, "lights", {"2000": Flat()})
    assert provenance.inputs_of(url, "lights")["2000"]["from"] == {"slow": True}


MEASURE = """
import gc, sys
import catalogs, cube
from tests.cube.test_filling import status_bytes

url, path, warm_url = sys.argv[1:4]

def sources(url, path):
    bands = cube.read_spec(url).stack("p").bands
    return {"2000": catalogs.geotiff(path, bands=bands, nodata=-1)}

cube.ingest(warm_url, "p", sources(warm_url, path), workers=2)
plan = cube.plan_ingest(url, "p", sources(url, path), workers=2)
gc.collect()
before = status_bytes("VmRSS")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
cube.ingest(url, "p", sources(url, path), workers=2)
print(status_bytes("VmHWM") - before, plan.summary.total_peak_bytes)
"""


def status_bytes(name):
    """A line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise KeyError(name)


def image(folder, side):
    """A GeoTIFF of noise, four bands of int16."""
    import rasterio
    from rasterio.transform import from_origin

    path = folder / f"{side}.tif"
    profile = {"driver": "GTiff", "dtype": "int16", "count": 4, "height": side, "width": side}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    place = {"crs": "EPSG:32633", "transform": from_origin(300_000, 5_000_000, 30, 30)}
    with rasterio.open(path, "w", **profile, **tiles, **place) as file:
        file.write(np.random.default_rng(0).integers(0, 10_000, (4, side, side), "int16"))
    return path


def empty(folder, sides, dtype):
    from affine import Affine
    from odc.geo.geobox import GeoBox

    nodata = -1 if dtype == "int16" else float("nan")
    spec = cube.CubeSpec(
        grid=GeoBox(sides, Affine(30, 0, 300_000, 0, -30, 5_000_000), "EPSG:32633"),
        calendar=cube.years(2000),
        stacks=(cube.StackSpec(name="p", bands=("a", "b", "c", "d"), dtype=dtype, nodata=nodata),),
        layout=cube.LayoutSpec(chunk=256, region=1024),
    )
    return cube.create(folder, spec)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak")
class TestMemory:
    """The forecast holds, is not much too large, and does not grow with the cube."""

    def measured(self, tmp_path, start, sides, dtype):
        name = f"{sides[0]}x{sides[1]}"
        url = empty(tmp_path / f"{name}.zarr", sides, dtype)
        warm = empty(tmp_path / f"{name}-warm.zarr", (256, 256), dtype)
        child = start(MEASURE, url, image(tmp_path, max(sides)), warm)
        out, errors = child.communicate(timeout=200)
        assert child.returncode == 0, errors
        return map(int, out.split())

    @pytest.mark.parametrize("dtype", ["int16", "float32"])
    def test_of_an_ingest_with_two_workers(self, tmp_path, start, dtype):
        small, forecast = self.measured(tmp_path, start, (2048, 1024), dtype)
        large, same = self.measured(tmp_path, start, (4096, 4096), dtype)
        assert forecast == same
        for peak in (small, large):
            assert forecast / 2.5 < peak < 1.2 * forecast
