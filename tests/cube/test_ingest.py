"""From sources to a stack: what was read is what is kept, whatever stops it on the way."""

from __future__ import annotations

import getpass
import json
import shutil
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
import xarray as xr
from distributed import Client

import catalogs
import cube
from cube import ledger, provenance, report, store
from cube.composites import Composite
from cube.errors import (
    IncompleteError,
    PartialError,
    RegionError,
    SourceError,
    SpecError,
    StoreError,
    TransientError,
)
from cube.ingest import plan_ingest
from cube.objects import explained
from cube.regions import Region
from cube.scenes import Needs, Source
from cube.terrain import Terrain
from tests.rasters import UTM, grid_at, noise, whole, write_tiff

SHAPE = (100, 110)
GRID = grid_at(SHAPE)
BANDS = ("red", "green")
REGIONS = 4 * 4
"""Of 32 x 32 pixels."""


def spec_of(*, region=32):
    return cube.CubeSpec(
        grid=GRID,
        calendar=cube.years(2000, 2010),
        stacks=(
            cube.StackSpec(
                name="predictors", bands=BANDS, dtype="int16", nodata=-9999, scale=0.5, offset=100
            ),
            cube.StackSpec(
                name="terrain", bands=("elevation", "slope"), dtype="float32", static=True
            ),
        ),
        layers=(
            cube.LayerSpec(name="cover", dtype="uint8", nodata=255),
            cube.LayerSpec(name="basin", dtype="int32", nodata=-1, static=True),
        ),
        layout=cube.LayoutSpec(chunk=16, region=region, codec="blosc-lz4-1-shuffle"),
    )


@dataclass(frozen=True, kw_only=True)
class Positions:
    """A source whose value tells where it is; it may fail at one place, as often as told.

    ``reads`` collects the boxes asked for; ``left`` counts failures to come.
    """

    bands: tuple[str, ...] = BANDS
    factor: float = 1.0
    fails_at: tuple[int, int] | None = None
    error: BaseException | None = None
    left: list[int] = field(default_factory=lambda: [10**6])
    reads: list = field(default_factory=list)

    def read(self, grid, rows, cols):
        self.reads.append((rows, cols))
        if self.fails_at == (rows[0], cols[0]) and self.left[0]:
            self.left[0] -= 1
            raise self.error
        return positions(rows, cols, len(self.bands)) * self.factor

    def check(self, grid):
        return None

    def describe(self):
        return {"bands": list(self.bands), "factor": self.factor}


def positions(rows, cols, bands=None):
    """Physical values in steps of a half, within int16: band, row and column."""
    bands = len(BANDS) if bands is None else bands
    y, x = np.mgrid[slice(*rows), slice(*cols)]
    return np.stack([band * 1000.0 + y + 0.5 * x for band in range(bands)]).astype("float32")


ALL = positions(*whole(GRID))


@pytest.fixture(scope="session")
def empty(tmp_path_factory):
    """Region size to a new cube, to copy."""
    folder = tmp_path_factory.mktemp("empty")
    return {r: cube.create(folder / f"{r}.zarr", spec_of(region=r)) for r in (32, 64, 96)}


@pytest.fixture
def new(empty, tmp_path):
    def copy(name="cube", *, region=32):
        return str(shutil.copytree(empty[region], tmp_path / f"{name}.zarr"))

    return copy


@pytest.fixture
def url(new):
    return new()


@pytest.fixture(scope="session")
def scene(tmp_path_factory):
    """Two bands on a grid of another projection, with holes; physical values 100..200."""
    source = grid_at((230, 250), pixel_m=23, crs="EPSG:32724", corner=_corner("EPSG:32724"))
    stored = noise((2, 230, 250), dtype="int16", seed=2)
    stored[:, 30:60, 40:90] = 0
    stored[1, 100:105] = 0
    path = write_tiff(tmp_path_factory.mktemp("scene") / "scene.tif", stored, grid=source, nodata=0)
    return catalogs.geotiff(path, bands=BANDS, resampling="bilinear", scale=0.5, offset=100)


def _corner(crs):
    import pyproj

    onto = pyproj.Transformer.from_crs(UTM, crs, always_xy=True)
    left, _, _, top = GRID.boundingbox.bbox
    return onto.transform(left + 200, top - 100)


class TestValues:
    def test_what_the_source_gives_is_what_any_reader_of_zarr_finds(self, url):
        report = cube.ingest(url, "predictors", {"2010": Positions()})
        assert str(report) == f"ingest predictors: {REGIONS} done, 0 skipped, 0 failed"
        with xr.open_zarr(url) as dataset:
            np.testing.assert_array_equal(dataset.predictors.isel(time=1), ALL)
            assert dataset.predictors.isel(time=0).isnull().all()
            assert dataset.band.to_numpy().tolist() == list(BANDS)

    def test_a_file_on_the_grid_arrives_pixel_by_pixel(self, url, tmp_path):
        stored = noise((2, *SHAPE), dtype="int16")
        stored[0, 3:9, 40:44] = -9999
        path = write_tiff(tmp_path / "f.tif", stored, nodata=-9999)
        file = catalogs.geotiff(path, bands=BANDS, scale=0.5, offset=100)
        cube.ingest(url, "predictors", {"2000": file})
        with cube.open(url, stored=True) as dataset:
            np.testing.assert_array_equal(dataset.predictors[0], stored)

    def test_a_warped_file_is_what_one_read_of_the_whole_gives_within_half_a_step(self, url, scene):
        cube.ingest(url, "predictors", {"2000": scene})
        expected = scene.read(GRID, *whole(GRID))
        assert 0.3 < np.isfinite(expected).mean() < 0.9
        with cube.open(url) as dataset:
            found = dataset.predictors[0].to_numpy()
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        np.testing.assert_allclose(found, expected, rtol=0, atol=0.25 + 1e-4)

    def test_static_stacks_and_layers_take_the_source_itself(self, url, tmp_path):
        z = noise(SHAPE).cumsum(1)
        path = write_tiff(tmp_path / "z.tif", z, nodata=-9)
        terrain = Terrain(
            elevation=catalogs.geotiff(path, bands=["z"]), bands=("elevation", "slope")
        )
        cube.ingest(url, "terrain", terrain)
        cube.ingest(url, "basin", Positions(bands=("basin",), factor=2))
        with cube.open(url) as dataset:
            np.testing.assert_array_equal(dataset.terrain[0], z)
            np.testing.assert_array_equal(dataset.terrain, terrain.read(GRID, *whole(GRID)))
            np.testing.assert_array_equal(dataset.basin, np.rint(2 * ALL[0]))

    @pytest.mark.parametrize("region", [64, 96])
    def test_any_size_of_region_gives_the_same_bits(self, new, scene, region):
        found = []
        for size in (32, region):
            copy = new(f"r{size}", region=size)
            cube.ingest(copy, "predictors", {"2010": scene})
            with cube.open(copy, stored=True) as dataset:
                found.append(dataset.predictors.to_numpy())
        np.testing.assert_array_equal(found[0], found[1])

    def test_a_dask_client_and_one_thread_write_the_same_files(self, new, scene, contents):
        alone, spread = new("alone"), new("spread")
        cube.ingest(alone, "predictors", {"2010": scene}, workers=1)
        with Client(
            processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0"
        ) as client:
            report = cube.ingest(spread, "predictors", {"2010": scene}, client=client)
        assert report.count("done") == REGIONS
        assert contents(alone) == contents(spread)


class TestPlan:
    def test_a_plan_writes_nothing_and_reads_no_pixels(self, url, contents):
        before, source = contents(url), Positions()
        plan_ingest(url, "predictors", {"2000": source})
        assert contents(url) == before
        assert source.reads == []

    def test_a_plan_counts_regions_and_bytes(self, url):
        sources = {"2000": Positions(), "2010": Positions()}
        plan = plan_ingest(url, "predictors", sources, workers=3)
        assert plan.summary.workers == 3
        assert plan.summary.total_peak_bytes == 3 * plan.summary.peak_bytes
        pixels = 2 * 2 * SHAPE[0] * SHAPE[1]
        assert (plan.summary.regions, plan.summary.skipped) == (2 * REGIONS, 0)
        assert (plan.summary.bytes_in, plan.summary.bytes_out) == (4 * pixels, 2 * pixels)
        # Each of 7 x 7 chunks is put, each tick read and written.
        assert plan.summary.requests == 2 * (7 * 7 + 2 * REGIONS)
        assert {region.time for region in plan.todo} == {0, 1}
        assert str(plan).startswith(f"ingest predictors: {2 * REGIONS} regions to write, 0 done")
        assert plan._repr_html_() == f"<p>{plan}</p>"

    def test_a_plan_after_the_run_has_nothing_to_do(self, url):
        cube.ingest(url, "predictors", {"2000": Positions()})
        plan = plan_ingest(url, "predictors", {"2000": Positions(), "2010": Positions()})
        assert (plan.summary.regions, plan.summary.skipped) == (REGIONS, REGIONS)
        assert {region.time for region in plan.todo} == {1}

    def test_a_run_reads_each_planned_region_once(self, url):
        source = Positions()
        plan = plan_ingest(url, "predictors", {"2000": source})
        cube.ingest(url, "predictors", {"2000": source})
        assert sorted(source.reads) == sorted((r.rows, r.cols) for r in plan.todo)


class TestAgain:
    def test_a_second_run_skips_everything_and_changes_no_byte(self, url, contents):
        cube.ingest(url, "predictors", {"2000": Positions()})
        before, again = contents(url), Positions()
        report = cube.ingest(url, "predictors", {"2000": again})
        assert (report.count("done"), report.count("skipped")) == (0, REGIONS)
        assert again.reads == []
        assert contents(url) == before

    def test_only_a_region_without_a_tick_is_written_again(self, url, contents):
        cube.ingest(url, "predictors", {"2000": Positions()})
        before, again = contents(url), Positions()
        region = Region(time=0, rows=(64, 96), cols=(32, 64))
        ledger.clear(url, cube.read_spec(url), "predictors", [region])
        report = cube.ingest(url, "predictors", {"2000": again})
        assert (report.count("done"), report.count("skipped")) == (1, REGIONS - 1)
        assert again.reads == [(region.rows, region.cols)]
        assert contents(url) == before

    def test_another_source_for_the_same_time_is_refused_and_changes_no_byte(self, url, contents):
        cube.ingest(url, "predictors", {"2000": Positions()})
        before, other = contents(url), Positions(factor=2)
        for verb in (cube.ingest, plan_ingest):
            with pytest.raises(
                SourceError, match=r"\(2000\) already holds regions made from other"
            ):
                verb(url, "predictors", {"2000": other})
            with pytest.raises(
                SourceError, match=r"\(2000\) already holds regions made from other"
            ):
                verb(url, "predictors", {"2010": Positions(), "2000": other})
        assert other.reads == []
        assert contents(url) == before

    def test_another_source_for_another_time_is_welcome(self, url):
        cube.ingest(url, "predictors", {"2000": Positions()})
        cube.ingest(url, "predictors", {"2010": Positions(factor=2)})
        with cube.open(url) as dataset:
            np.testing.assert_array_equal(dataset.predictors, [ALL, 2 * ALL])

    def test_a_source_that_never_filled_a_region_may_be_replaced(self, url):
        broken = Replaced(error=SourceError("gone."))
        with pytest.raises(IncompleteError, match=f"{REGIONS} of {REGIONS} regions failed"):
            cube.ingest(url, "predictors", {"2000": broken})
        cube.ingest(url, "predictors", {"2000": Positions()})
        with cube.open(url) as dataset:
            np.testing.assert_array_equal(dataset.predictors[0], ALL)


@dataclass(frozen=True, kw_only=True)
class Replaced(Positions):
    """A source that fails everywhere, and says that it is another one."""

    def read(self, grid, rows, cols):
        raise self.error

    def describe(self):
        return {"another": True}


class Stop(BaseException):
    """As Ctrl-C: nothing of ours may catch it."""


class TestFailures:
    PLACE = (64, 96)

    def test_a_region_that_fails_costs_itself_alone_and_is_reported(self, url, contents, new):
        source = Positions(fails_at=self.PLACE, error=SourceError("the server is away."), left=[1])
        with pytest.raises(
            IncompleteError,
            match=f"1 of {REGIONS} regions failed; the others are written. First at time 0, "
            "rows 64:96, cols 96:110: the server is away. Run it again",
        ) as caught:
            cube.ingest(url, "predictors", {"2000": source})
        report = caught.value.report
        assert (report.count("done"), report.count("failed")) == (REGIONS - 1, 1)
        assert [outcome.reason for outcome in report.failed] == ["the server is away."]
        with cube.open(url) as dataset:
            expected = ALL.copy()
            expected[:, 64:96, 96:128] = np.nan
            np.testing.assert_array_equal(dataset.predictors[0], expected)

        report = cube.ingest(url, "predictors", {"2000": source})
        assert (report.count("done"), report.count("skipped")) == (1, REGIONS - 1)
        undisturbed = new("undisturbed")
        cube.ingest(undisturbed, "predictors", {"2000": Positions()})
        assert contents(url) == contents(undisturbed)

    @pytest.mark.parametrize("error", [Stop(), KeyboardInterrupt(), ValueError("a bug")])
    def test_stopped_anywhere_and_run_again_it_ends_with_the_same_bytes(self, new, contents, error):
        stopped, undisturbed = new("stopped"), new("undisturbed")
        source = Positions(fails_at=self.PLACE, error=error, left=[1])
        with pytest.raises(type(error)):
            cube.ingest(stopped, "predictors", {"2000": source}, workers=2)
        assert (
            0 < (ledger.ticks(stopped, cube.read_spec(stopped), "predictors") > 0).sum() < REGIONS
        )
        cube.ingest(stopped, "predictors", {"2000": source}, workers=2)
        cube.ingest(undisturbed, "predictors", {"2000": Positions()}, workers=1)
        assert contents(stopped) == contents(undisturbed)

    def test_a_full_disk_stops_the_run_at_once(self, url, monkeypatch):
        import errno

        lock, writes = Lock(), []

        def full(store_url, path, index, values, **named):
            with lock:
                writes.append(path)
            with explained(store_url):
                raise OSError(errno.ENOSPC, "No space left on device")

        source = Positions()
        monkeypatch.setattr(store, "write", full)
        with pytest.raises(cube.CubeError, match="the disk is full; make room and run again"):
            cube.ingest(url, "predictors", {"2000": source}, workers=2)
        assert len(source.reads) < REGIONS / 2

    def test_packing_that_would_clip_is_an_error_of_its_regions(self, url):
        source = Positions(factor=15.0)  # int16 in steps of a half, from 100: up to 16483.5
        with pytest.raises(IncompleteError, match="packing would clip. int16 .* holds .*16483"):
            cube.ingest(url, "predictors", {"2000": source})
        with cube.open(url) as dataset:
            found = dataset.predictors[0].to_numpy()
        assert np.nanmax(found) <= 16483.5
        written = np.isfinite(found)
        np.testing.assert_allclose(found[written], (15 * ALL)[written], atol=0.26)

    def test_an_observed_value_that_would_become_nodata_is_an_error(self, url):
        source = Positions(bands=("cover",), factor=255 / float(ALL[0].max()))  # 255 = nodata
        with pytest.raises(IncompleteError, match="would be stored as 255, which means nodata"):
            cube.ingest(url, "cover", {"2000": source})

    def test_a_region_that_lost_an_input_is_partial_and_done_again(self, url):
        source = Positions(fails_at=self.PLACE, error=PartialError("b.tif is away."), left=[1])
        with pytest.raises(IncompleteError, match="failed or lost an input.*b.tif is away"):
            cube.ingest(url, "predictors", {"2000": source})
        (kept,) = report.reports(url)
        assert (kept.count("done"), kept.count("partial")) == (REGIONS - 1, 1)
        found = cube.ingest(url, "predictors", {"2000": source})
        assert (found.count("done"), found.count("skipped")) == (1, REGIONS - 1)

    def test_an_error_that_passes_is_only_seen_in_the_number_of_tries(self, url, monkeypatch):
        monkeypatch.setattr("cube.retrying.Retry.pauses", lambda retry: iter([0.0] * 9))
        error = TransientError("timed out.")
        source = Positions(fails_at=self.PLACE, error=error, left=[2])
        found = cube.ingest(url, "predictors", {"2000": source})
        assert found.count("done") == REGIONS
        assert sorted(o.tries for o in found.outcomes) == [1] * (REGIONS - 1) + [3]


class TestReports:
    def test_it_says_what_each_region_took_and_is_kept_beside_the_cube(self, url):
        found = cube.ingest(url, "predictors", {"2000": Positions()})
        assert report.reports(url) == [found]
        assert {o.tries for o in found.outcomes} == {1}
        assert all(o.seconds > 0 for o in found.outcomes)
        assert found.bytes_out == ALL.size * 2
        assert 0 < found.seconds < 60

    def test_a_run_with_nothing_to_do_is_kept_too(self, url):
        for _ in range(2):
            cube.ingest(url, "predictors", {"2000": Positions()})
        assert [r.count("skipped") for r in report.reports(url)] == [0, REGIONS]

    def test_one_of_a_run_that_stopped_says_why(self, url):
        source = Positions(fails_at=(64, 96), error=StoreError("the disk is full."))
        with pytest.raises(StoreError):
            cube.ingest(url, "predictors", {"2000": source}, workers=1)
        (kept,) = report.reports(url)
        assert kept.stopped == "the disk is full."
        assert kept.left + kept.count("done") == kept.regions == REGIONS
        assert kept.left > 0

    def test_a_run_whose_report_cannot_be_kept_stands(self, url, monkeypatch, caplog):
        Path(f"{url}.reports").write_text("a file where a folder is wanted")
        assert cube.ingest(url, "predictors", {"2000": Positions()}).count("done") == REGIONS
        assert "The report of ingest predictors could not be kept" in caplog.text


class TestRegions:
    SOME = (
        Region(time=0, rows=(0, 32), cols=(32, 64)),
        Region(time=0, rows=(96, 100), cols=(0, 32)),
    )

    def test_only_these_are_done(self, url):
        source = Positions()
        found = cube.ingest(url, "predictors", {"2000": source}, regions=self.SOME)
        assert found.count("done") == 2
        assert sorted(source.reads) == sorted((r.rows, r.cols) for r in self.SOME)

    def test_one_after_the_other_gives_the_same_bytes_as_all_at_once(self, new, contents):
        parts, whole = new("parts"), new("whole")
        for region in cube.regions(cube.read_spec(parts), "predictors", time=0):
            cube.ingest(parts, "predictors", {"2000": Positions()}, regions=[region, region])
        cube.ingest(whole, "predictors", {"2000": Positions()})
        cube.ingest(parts, "predictors", {"2000": Positions()})
        assert contents(parts) == contents(whole)

    def test_one_that_is_none_of_the_cube_is_refused(self, url):
        crooked = Region(time=0, rows=(0, 31), cols=(0, 32))
        with pytest.raises(RegionError, match="Write 0:32"):
            cube.ingest(url, "predictors", {"2000": Positions()}, regions=[crooked])

    def test_one_of_a_period_without_a_source_is_refused(self, url):
        other = Region(time=1, rows=(0, 32), cols=(0, 32))
        with pytest.raises(SpecError, match="There is no source for 'predictors' at time 1, rows"):
            cube.ingest(url, "predictors", {"2000": Positions()}, regions=[other])


@dataclass(frozen=True, kw_only=True)
class Edited(Positions):
    """A source whose file was edited under the same name: it describes itself as before."""

    by: float = 1.0

    def read(self, grid, rows, cols):
        return super().read(grid, rows, cols) + self.by


class TestOverwrite:
    def test_what_is_written_is_done_again_on_purpose(self, url):
        cube.ingest(url, "predictors", {"2000": Positions()})
        found = cube.ingest(url, "predictors", {"2000": Edited(by=2.0)}, overwrite=True)
        assert (found.count("done"), found.count("skipped")) == (REGIONS, 0)
        with cube.open(url) as dataset:
            np.testing.assert_array_equal(dataset.predictors[0], ALL + 2)
        assert not cube.verify(url).damaged

    def test_without_saying_so_other_values_are_refused(self, url):
        cube.ingest(url, "predictors", {"2000": Positions()})
        spec = cube.read_spec(url)
        region = Region(time=0, rows=(0, 32), cols=(0, 32))
        values = np.zeros((2, 32, 32), "int16")
        with pytest.raises(RegionError, match="written already, with other values"):
            cube.write_region(url, "predictors", region, values, spec=spec)

    def test_some_regions_may_be_done_again_from_the_same_inputs_alone(self, url, contents):
        cube.ingest(url, "predictors", {"2000": Positions()})
        some = TestRegions.SOME
        cube.ingest(url, "predictors", {"2000": Edited()}, overwrite=True, regions=some)
        with cube.open(url) as dataset:
            apart = (dataset.predictors[0] != ALL).any("band").sum()
        assert apart == sum(r.shape[0] * r.shape[1] for r in some)
        before = contents(url)
        with pytest.raises(SourceError, match="already holds regions made from other inputs"):
            cube.ingest(
                url, "predictors", {"2000": Positions(factor=2)}, overwrite=True, regions=some
            )
        assert contents(url) == before

    def test_other_inputs_replace_all(self, url):
        cube.ingest(url, "predictors", {"2000": Positions(), "2010": Positions()})
        cube.ingest(url, "predictors", {"2000": Positions(factor=2)}, overwrite=True)
        with cube.open(url) as dataset:
            np.testing.assert_array_equal(dataset.predictors, [2 * ALL, ALL])
        recorded = provenance.inputs_of(url, "predictors")
        assert recorded["2000"]["from"]["factor"] == 2
        assert not cube.verify(url).damaged

    def test_stopped_on_the_way_no_region_of_the_old_inputs_counts(self, url):
        cube.ingest(url, "predictors", {"2000": Positions()})
        source = Positions(factor=2, fails_at=(64, 96), error=KeyboardInterrupt(), left=[1])
        with pytest.raises(KeyboardInterrupt):
            cube.ingest(url, "predictors", {"2000": source}, overwrite=True, workers=1)
        cube.ingest(url, "predictors", {"2000": source})
        with cube.open(url) as dataset:
            np.testing.assert_array_equal(dataset.predictors[0], 2 * ALL)


class TestRefusals:
    def refused(self, url, error, match, name, sources, contents):
        before = contents(url)
        for verb in (plan_ingest, cube.ingest):
            with pytest.raises(error, match=match):
                verb(url, name, sources)
        assert contents(url) == before

    @pytest.mark.parametrize("bands", [("green", "red"), ("red",), ("red", "green", "blue")])
    def test_other_bands_or_another_order_are_refused(self, url, contents, bands):
        self.refused(
            url,
            SourceError,
            rf"holds the bands red, green, in this order. The source gives {', '.join(bands)}",
            "predictors",
            {"2000": Positions(bands=bands)},
            contents,
        )

    def test_a_layer_takes_one_band_alone(self, url, contents):
        match = "Layer 'cover' takes a source of one band. It gives red, green"
        self.refused(url, SourceError, match, "cover", {"2000": Positions()}, contents)

    def test_an_unknown_period_is_refused_with_the_known_ones(self, url, contents):
        match = "The calendar has no '2005'. It has: 2000, 2010"
        self.refused(url, SpecError, match, "predictors", {"2005": Positions()}, contents)

    def test_an_unknown_variable_is_refused_with_the_known_ones(self, url, contents):
        match = "has no variable 'thermal'. It has: predictors, terrain, basin, cover"
        self.refused(url, SpecError, match, "thermal", {"2000": Positions()}, contents)

    def test_a_variable_with_time_needs_a_mapping(self, url, contents):
        match = r"varies with time; give a mapping from period label \(2000, 2010\) to source"
        self.refused(url, SpecError, match, "predictors", Positions(), contents)

    def test_a_static_variable_takes_no_mapping(self, url, contents):
        source = Positions(bands=("elevation", "slope"))
        match = "has no time dimension; give one source, not a mapping"
        self.refused(url, SpecError, match, "terrain", {"2000": source}, contents)

    def test_a_scene_that_lies_elsewhere_is_refused(self, url, contents, scene):
        far = replace(scene, footprint=(0.0, 0.0, 100.0, 100.0))
        match = "does not meet the grid"
        self.refused(url, SourceError, match, "predictors", {"2000": far}, contents)


class TestProvenance:
    def test_a_variable_says_what_made_it(self, url, scene):
        cube.ingest(url, "predictors", {"2010": scene})
        with xr.open_zarr(url) as dataset:
            attrs = dataset.predictors.attrs
        inputs = json.loads(attrs["inputs"])
        assert inputs["2010"]["from"] == json.loads(json.dumps(scene.describe()))
        assert len(inputs["2010"]["digest"]) == 12
        assert attrs["created_by"].startswith("quadrat ")
        assert set(inputs) == {"2010"}

    def test_two_periods_are_recorded_side_by_side(self, url):
        cube.ingest(url, "predictors", {"2010": Positions()})
        cube.ingest(url, "predictors", {"2000": Positions(factor=2)})
        with xr.open_zarr(url) as dataset:
            inputs = json.loads(dataset.predictors.attrs["inputs"])
        assert list(inputs) == ["2000", "2010"]
        assert inputs["2000"]["digest"] != inputs["2010"]["digest"]

    def test_no_file_of_the_cube_holds_a_path_host_or_user(self, url, scene):
        cube.ingest(url, "predictors", {"2010": scene})
        folder = str(Path(scene.layers[0].href).parent)
        text = "".join(path.read_text() for path in Path(url).rglob("zarr.json"))
        for secret in (folder, str(Path(url).parent), socket.gethostname()):
            assert secret not in text
        assert f"/{getpass.getuser()}/" not in text

    def test_the_same_run_elsewhere_and_later_writes_the_same_bytes(self, new, scene, contents):
        one, other = new("one"), new("other")
        for copy in (one, other):
            cube.ingest(copy, "predictors", {"2010": scene})
        assert contents(one) == contents(other)


@dataclass(frozen=True, kw_only=True)
class Measured(Positions):
    """A source that knows its units."""

    units: tuple[str, ...] = ("", "")


class TestUnits:
    MATCH = (
        r"'predictors': band 'green' is in 'K' at 2000 and in 'degC' at 2010. Numbers of two units "
        r"are two bands; give them two names."
    )

    def test_two_in_one_band_are_refused_within_a_run(self, url, contents):
        sources = {"2000": Measured(units=("", "K")), "2010": Measured(units=("", "degC"))}
        before = contents(url)
        for verb in (plan_ingest, cube.ingest):
            with pytest.raises(SourceError, match=self.MATCH):
                verb(url, "predictors", sources)
        assert contents(url) == before

    def test_and_from_one_run_to_the_next(self, url, contents):
        cube.ingest(url, "predictors", {"2000": Measured(units=("", "K"))})
        before = contents(url)
        with pytest.raises(SourceError, match=self.MATCH):
            cube.ingest(url, "predictors", {"2010": Measured(units=("", "degC"))})
        assert contents(url) == before

    def test_those_of_a_time_that_is_replaced_do_not_count(self, url):
        cube.ingest(url, "predictors", {"2000": Measured(units=("", "K"))})
        cube.ingest(url, "predictors", {"2000": Measured(units=("", "degC"))}, overwrite=True)
        recorded = provenance.inputs_of(url, "predictors")
        assert recorded["2000"]["from"]["units"] == {"green": "degC"}

    def test_where_nobody_says_nothing_is_mixed_and_nothing_recorded(self, url):
        cube.ingest(url, "predictors", {"2000": Measured(units=("", "K"))})
        cube.ingest(url, "predictors", {"2010": Positions()})
        recorded = provenance.inputs_of(url, "predictors")
        assert "units" not in recorded["2010"]["from"]

    def test_another_unit_of_the_same_time_is_another_input(self, url):
        cube.ingest(url, "predictors", {"2000": Measured(units=("", "K"))})
        with pytest.raises(SourceError, match="already holds regions made from other inputs"):
            cube.ingest(url, "predictors", {"2000": Measured(units=("", "degC"))})


@dataclass(frozen=True, kw_only=True)
class Needy(Positions):
    """A source that says what it takes, more at the bottom of the grid."""

    def needs(self, grid, rows, cols):
        pixels = (rows[1] - rows[0]) * (cols[1] - cols[0])
        return Needs(read_bytes=10 * pixels, peak_bytes=pixels * (1000 + rows[0]), opens=3)


class TestNeeds:
    def test_a_plan_adds_what_its_sources_say(self, url):
        plain = plan_ingest(url, "predictors", {"2000": Positions()}).summary
        found = plan_ingest(url, "predictors", {"2000": Needy()}).summary
        assert (plain.opens, found.opens) == (0, 3 * REGIONS)
        assert found.bytes_in == 10 * SHAPE[0] * SHAPE[1]
        # The region at the bottom takes most; one of whole size is planned for.
        at_most = max(32 * 32 * 1064, 4 * 32 * 1096)
        assert found.peak_bytes == plain.peak_bytes + 32 * 32 * 1064 == plain.peak_bytes + at_most

    def test_of_two_sources_one_may_not_say(self, url):
        sources = {"2000": Needy(), "2010": Positions()}
        found = plan_ingest(url, "predictors", sources).summary
        assert found.bytes_in == (10 + 2 * 4) * SHAPE[0] * SHAPE[1]
        assert found.opens == 3 * REGIONS


class TestLostScenes:
    """A scene that cannot be read costs the regions that it meets, until it is back or excluded."""

    @pytest.fixture
    def composite(self, tmp_path):
        """Three scenes with two bands; the first covers the upper left of the grid alone."""

        def made(name, seed, **place):
            stored = noise((2, 70, 70), dtype="int16", seed=seed)
            path = write_tiff(tmp_path / f"{name}.tif", stored, nodata=0, **place)
            return catalogs.geotiff(path, bands=BANDS)

        upper = made("upper", 1, grid=grid_at((70, 70), shift=(-30, -30)))
        lower = made("lower", 2, grid=grid_at((70, 70), shift=(30, 40)))
        around = made("around", 3, grid=grid_at((70, 70), pixel_m=60, shift=(-5, -5)))
        return Composite(scenes=(upper, lower, around), bands=BANDS)

    def near(self, name, composite):
        """Regions that a scene may have pixels of."""
        return [
            region
            for region in cube.regions(spec_of(), "predictors", time=0)
            if name in {s.id for s in composite.near(GRID, region.rows, region.cols)}
        ]

    @pytest.fixture(params=["damaged", "missing"])
    def loss(self, request, tmp_path):
        """Lose the upper scene; returns how to mend it."""
        path = tmp_path / "upper.tif"

        def lose():
            content = path.read_bytes()
            if request.param == "missing":
                path.unlink()
            else:
                path.write_bytes(content[: len(content) // 2])
            return lambda: path.write_bytes(content)

        return lose

    @pytest.fixture
    def calm(self, new, composite):
        undisturbed = new("undisturbed")
        cube.ingest(undisturbed, "predictors", {"2000": composite})
        return undisturbed

    def lost(self, url, composite, **how):
        with pytest.raises(IncompleteError) as caught:
            cube.ingest(url, "predictors", {"2000": composite}, **how)
        return caught.value

    def test_its_regions_are_partial_and_named_and_the_others_written(self, url, composite, loss):
        near = self.near("upper", composite)
        assert 2 < len(near) < REGIONS
        # Made before it is lost, as a run that is under way has it.
        loss()
        error = self.lost(url, composite)
        assert "Should 'upper' stay lost, exclude them from the inputs." in str(error)
        found = error.report
        assert (found.count("done"), found.count("failed")) == (REGIONS - len(near), 0)
        assert {o.task for o in found.partial} == {str(region) for region in near}
        assert all(set(o.lost) == {"upper"} for o in found.partial)
        assert set(found.lost) == {"upper"}
        assert "upper.tif" in found.lost["upper"]
        assert report.reports(url) == [found]
        _, ticked = ledger.pending(url, spec_of(), "predictors", near)
        assert ticked == []

    def test_once_it_is_back_the_next_run_ends_with_the_bytes_of_an_undisturbed_one(
        self, url, composite, calm, loss, contents
    ):
        mend = loss()
        self.lost(url, composite)
        mend()
        found = cube.ingest(url, "predictors", {"2000": composite})
        assert found.count("done") == len(self.near("upper", composite))
        assert found.lost == {}
        assert contents(url) == contents(calm)

    def test_to_exclude_it_is_another_input_that_must_be_wanted(
        self, url, new, composite, loss, contents
    ):
        fewer = replace(composite, scenes=[s for s in composite.scenes if s.id != "upper"])
        without = new("without")
        cube.ingest(without, "predictors", {"2000": fewer})
        loss()
        self.lost(url, composite)
        before = contents(url)
        with pytest.raises(SourceError, match="already holds regions made from other inputs"):
            cube.ingest(url, "predictors", {"2000": fewer})
        assert contents(url) == before
        cube.ingest(url, "predictors", {"2000": fewer}, overwrite=True)
        with cube.open(url, stored=True) as found, cube.open(without, stored=True) as expected:
            np.testing.assert_array_equal(found.predictors, expected.predictors)
        assert cube.verify(url).sound

    def test_processes_of_a_cluster_lose_and_find_it_alike(
        self, url, composite, calm, tmp_path, contents
    ):
        path = tmp_path / "upper.tif"
        content = path.read_bytes()
        with Client(
            processes=True, n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as client:
            path.unlink()
            found = self.lost(url, composite, client=client).report
            assert {o.task for o in found.partial} == {
                str(region) for region in self.near("upper", composite)
            }
            assert set(found.lost) == {"upper"}
            assert "upper.tif" in found.lost["upper"]
            path.write_bytes(content)
            cube.ingest(url, "predictors", {"2000": composite}, client=client)
        assert contents(url) == contents(calm)


def test_positions_are_a_source():
    assert isinstance(Positions(), Source)
