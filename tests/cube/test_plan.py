"""Plans: arithmetic, a refusal with a remedy that works, and an estimate from one region."""

from __future__ import annotations

import re
import shutil
import time
from collections import namedtuple
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import cube
from cube import LayoutSpec, Region, memory
from cube.errors import SpecError, StoreError
from cube.memory import Room
from cube.plan import Plan, Sample, check_disk, check_memory, duration, requests, size, workers_of
from cube.regions import tiles
from cube.threads import cores

PLAN = Plan(
    verb="ingest <predictors>",
    regions=12,
    skipped=3,
    bytes_in=999,
    bytes_out=1_234_567,
    peak_bytes=5_000_000_000,
    requests=240,
    workers=2,
)
SAMPLE = Sample(bytes_out=123_456.7, stored_bytes=50_000, seconds=6.0, cpu_seconds=2.0)


class TestText:
    def test_it_says_what_will_be_done_and_what_it_takes(self):
        assert str(PLAN) == (
            "ingest <predictors>: 12 regions to write, 3 done already; reads 999 B, writes 1.23 MB "
            "before compression, 240 requests; 12 tasks, 2 at once; peak 5 GB a worker, 10 GB in "
            "all"
        )

    def test_with_a_sample_it_says_how_long_and_how_much_after_compression(self):
        text = str(replace(PLAN, sample=SAMPLE))
        assert "1.23 MB before compression (about 500 kB after)" in text
        assert text.endswith("; about 30 s")

    def test_in_a_notebook_it_says_the_same(self):
        assert PLAN._repr_html_().startswith("<p>ingest &lt;predictors&gt;: 12 regions")

    @pytest.mark.parametrize(
        ("count", "text"),
        [(0, "0 B"), (999, "999 B"), (999_600, "1 MB"), (1_234_567, "1.23 MB"), (5e12, "5 TB")],
    )
    def test_sizes(self, count, text):
        assert size(count) == text

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0.5, "0.5 s"), (59, "59 s"), (90, "1.5 min"), (7200, "2 h"), (5 * 86400, "5 days")],
    )
    def test_durations(self, seconds, text):
        assert duration(seconds) == text

    @given(st.floats(0, 1e9))
    def test_every_duration_has_a_text(self, seconds):
        assert re.fullmatch(r"[0-9.e+-]+ (s|min|h|days)", duration(seconds))


class TestEstimate:
    def test_waiting_is_shared_by_workers_and_computing_by_cores(self):
        plan = replace(PLAN, sample=SAMPLE)
        assert replace(plan, workers=2, cores=8).seconds == pytest.approx(10 * 6 / 2)
        assert replace(plan, workers=8, cores=1).seconds == pytest.approx(10 * 2)
        assert PLAN.seconds is PLAN.stored_bytes is None

    @given(st.integers(1, 64), st.integers(1, 64))
    def test_it_is_never_shorter_than_what_one_core_must_compute(self, workers, cores):
        plan = replace(PLAN, sample=SAMPLE, workers=workers, cores=cores)
        assert plan.seconds >= 10 * SAMPLE.cpu_seconds / cores - 1e-6
        assert plan.seconds <= 10 * SAMPLE.seconds + 1e-6

    def test_more_workers_than_regions_take_no_more_memory(self):
        assert replace(PLAN, regions=3, workers=8).total_peak_bytes == 3 * PLAN.peak_bytes


layouts = st.builds(
    lambda chunk, shard, region: LayoutSpec(
        chunk=chunk, shard=chunk * shard if shard else None, region=chunk * (shard or 1) * region
    ),
    st.integers(1, 64),
    st.one_of(st.none(), st.integers(1, 4)),
    st.integers(1, 8),
)


class TestRequests:
    @given(layouts, st.integers(1, 1000), st.integers(1, 1000))
    def test_every_object_is_put_once_and_every_region_is_ticked(self, layout, height, width):
        assume(height * width / layout.unit**2 < 10_000)
        regions = list(tiles((height, width), layout.region))
        objects = len(list(tiles((height, width), layout.unit)))
        assert requests(layout, regions, remote=False) == objects + 2 * len(regions)
        assert requests(layout, regions, remote=True) == objects + 4 * len(regions)

    def test_what_is_read_is_added(self):
        layout = LayoutSpec(chunk=16, region=32)
        region = Region(time=None, rows=(0, 32), cols=(0, 17))
        assert requests(layout, [region], remote=False, reads=9) == 4 + 2 + 9


def peak(side):
    return 60 * side**2


LAYOUT = LayoutSpec(chunk=256, shard=1024, region=8192)
BIG = replace(PLAN, verb="ingest p", regions=100, peak_bytes=peak(8192), workers=8)


def refusal(room, *, layout=LAYOUT, plan=BIG):
    with pytest.raises(SpecError) as caught:
        check_memory(plan, room, layout, peak)
    return str(caught.value)


class TestMemory:
    def test_what_fits_is_not_refused(self):
        check_memory(BIG, Room(free_bytes=8 * BIG.peak_bytes, workers=8), LAYOUT, peak)
        check_memory(BIG, Room(free_bytes=None, workers=8), LAYOUT, peak)
        check_memory(replace(BIG, regions=0), Room(free_bytes=0, workers=8), LAYOUT, peak)

    def test_fewer_workers_or_a_smaller_region_are_the_remedy(self):
        assert refusal(Room(free_bytes=20_000_000_000, workers=8)) == (
            "ingest p needs 32.2 GB at 8 workers with region=8192 px; 20 GB are free on this "
            "machine: use workers=4, or a cube with region=4096."
        )

    def test_fewer_regions_than_workers_need_less(self):
        plan = replace(BIG, regions=2)
        check_memory(plan, Room(free_bytes=2 * BIG.peak_bytes, workers=8), LAYOUT, peak)

    def test_where_one_worker_is_too_many_only_a_smaller_region_helps(self):
        text = refusal(Room(free_bytes=1_000_000_000, workers=8))
        assert text.endswith("1 GB are free on this machine: use a cube with region=1024.")
        text = refusal(Room(free_bytes=300_000_000, workers=8))
        assert text.endswith("use workers=1 and a cube with region=2048.")

    def test_where_nothing_helps_it_says_what_would(self):
        assert refusal(Room(free_bytes=1_000_000, workers=8)).endswith(
            "use a machine with 62.9 MB free, workers=1 and a cube with region=1024."
        )

    def test_threads_of_a_dask_worker_share_its_memory(self):
        room = Room(free_bytes=13_000_000_000, workers=4, on="each Dask worker", machines=3)
        assert refusal(room) == (
            "ingest p needs 16.1 GB at 4 threads a worker with region=8192 px; 13 GB are free on "
            "each Dask worker: use nthreads=3, or a cube with region=4096."
        )

    @given(st.integers(1, 10**11), st.integers(1, 64), st.integers(0, 5))
    def test_every_remedy_works(self, free, workers, doubled):
        layout = LayoutSpec(chunk=256, region=256 * 2**doubled)
        plan = replace(BIG, peak_bytes=peak(layout.region), workers=workers)
        room = Room(free_bytes=free, workers=workers)
        assume(workers * plan.peak_bytes > free)
        text = refusal(room, layout=layout, plan=plan)
        remedies = text.partition(": use ")[2].rstrip(".").split(", or ")
        for remedy in remedies:
            numbers = dict(re.findall(r"(workers|region)=(\d+)", remedy))
            side = int(numbers.get("region", layout.region))
            at_once = int(numbers.get("workers", workers))
            assert side % layout.unit == 0
            if not remedy.startswith("a machine"):
                assert at_once * peak(side) <= free
            assert (side, at_once) != (layout.region, workers) or remedy.startswith("a machine")

    def test_ingest_itself_is_refused_before_anything_is_written(self, url, contents, monkeypatch):
        monkeypatch.setattr(memory, "free_bytes", lambda: 10)
        before = contents(url)
        source = Flat(bands=("mean", "stable"))
        for verb in (cube.plan_ingest, cube.ingest):
            with pytest.raises(SpecError, match=r"^ingest lights needs .* 10 B are free .*: use "):
                verb(url, "lights", {"2000": source}, workers=2)
        assert contents(url) == before


class TestDisk:
    def test_a_disk_without_room_is_refused_with_the_numbers(self, tmp_path, monkeypatch):
        usage = namedtuple("usage", "free")(499_000)
        monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
        plan = replace(PLAN, sample=SAMPLE)
        with pytest.raises(
            StoreError, match=r"will write about 500 kB to '.*', where 499 kB are free: make room"
        ):
            check_disk(plan, str(tmp_path / "not" / "there.zarr"))
        check_disk(plan, "s3://bucket/cube")
        check_disk(PLAN, str(tmp_path))

    def test_a_disk_with_room_is_not(self, tmp_path):
        check_disk(replace(PLAN, sample=SAMPLE), str(tmp_path))


class TestWorkers:
    def test_none_is_every_core(self):
        assert workers_of(None, "folder") == cores()
        assert workers_of(3, "s3://b/c") == 3

    def test_more_wait_for_an_object_store(self, monkeypatch):
        for count, expected in ((1, 4), (2, 8), (4, 16), (8, 16), (32, 32)):
            monkeypatch.setattr("cube.plan.cores", lambda count=count: count)
            assert workers_of(None, "s3://bucket/cube.zarr") == expected

    def test_none_at_all_is_refused(self):
        with pytest.raises(SpecError, match="workers must be a whole number from 1, or None"):
            workers_of(0, "folder")


class Flat:
    """A source of one value everywhere; ``reads`` counts."""

    def __init__(self, bands=("red", "green", "nir"), pause_s=0.0):
        self.bands = bands
        self.pause_s = pause_s
        self.reads = []

    def read(self, grid, rows, cols):
        import numpy as np

        self.reads.append((rows, cols))
        time.sleep(self.pause_s)
        return np.full((len(self.bands), rows[1] - rows[0], cols[1] - cols[0]), 1.0, "float32")

    def check(self, grid):
        return None

    def describe(self):
        return {"flat": True}


class TestCalibration:
    def test_one_region_is_done_in_memory_and_nothing_is_written(self, url, contents):
        before, source = contents(url), Flat(pause_s=0.05)
        plan = cube.plan_ingest(
            url, "predictors", {"2000": source}, workers=2, calibrate=True
        ).summary
        assert contents(url) == before
        assert len(source.reads) == 2  # a small box to warm up, then the region
        assert 0.05 < plan.sample.seconds < 1
        assert plan.seconds == pytest.approx(
            plan.bytes_out / plan.sample.bytes_out * plan.sample.seconds / 2, rel=0.5
        )
        assert 0 < plan.stored_bytes < plan.bytes_out  # one value everywhere packs well

    def test_the_compressed_bytes_are_those_that_a_region_has_on_disk(
        self, any_url, any_layout, values
    ):
        from pathlib import Path

        from cube import filling, nodata

        work = filling.prepare("t", any_url, any_layout, "predictors", {0: {}})
        region = work.todo[len(work.todo) // 2]
        physical = nodata.decode(values(any_layout, "predictors", region), work.variable)
        sample = filling._sample(work, lambda box: physical[:, : box.shape[0], : box.shape[1]])
        stored = nodata.encode(physical, work.variable)
        cube.write_region(any_url, "predictors", region, stored, spec=any_layout)
        files = (p for p in Path(any_url, "predictors", "c").rglob("*") if p.is_file())
        assert sample.stored_bytes == sum(p.stat().st_size for p in files)
        assert sample.bytes_out == stored.nbytes


def test_a_hundred_thousand_regions_are_planned_in_two_seconds(tmp_path):
    from affine import Affine
    from odc.geo.geobox import GeoBox

    grid = GeoBox((324_000, 324_000), Affine(30, 0, 0, 0, -30, 0), "EPSG:32633")
    spec = cube.CubeSpec(
        grid=grid,
        calendar=cube.years(2000),
        stacks=(cube.StackSpec(name="p", bands=("red",), dtype="int16", nodata=-1),),
        layout=LayoutSpec(region=1024),
    )
    url = cube.create(tmp_path / "large.zarr", spec)
    began = time.perf_counter()
    plan = cube.plan_ingest(url, "p", {"2000": Flat(("red",))}, workers=1)
    assert time.perf_counter() - began < 2
    assert plan.summary.regions == 317**2 > 100_000
