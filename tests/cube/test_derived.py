"""Sources of what is stored already: the cube's own values, and never a guess of a missing one."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import cube
from cube import ledger, nodata, provenance, store
from cube.derived import Absent, Join, Stored
from cube.errors import IncompleteError, PartialError, SourceError, SpecError
from cube.indices import Indices
from cube.regions import Region, regions
from cube.scenes import Source, units_of
from cube.terrain import Terrain
from tests.cube.sources import AROUND, Everywhere, Fixed, assert_same_in_any_box
from tests.rasters import grid_at, noise, whole

GRID = grid_at((30, 37))
SPEC = cube.CubeSpec(
    grid=GRID,
    calendar=cube.years(2000, 2010),
    stacks=(
        cube.StackSpec(
            name="predictors",
            bands=("red", "nir"),
            dtype="int16",
            nodata=-9999,
            scale=0.001,
            units="1",
        ),
        cube.StackSpec(name="indices", bands=("ndvi",), dtype="float32"),
        cube.StackSpec(name="ground", bands=("slope",), dtype="float32", static=True),
    ),
    layers=(
        cube.LayerSpec(name="elevation", dtype="float32", static=True, units="m"),
        cube.LayerSpec(name="cover", dtype="uint8", nodata=255, classes=((1, "roof"),)),
    ),
    layout=cube.LayoutSpec(chunk=8, region=16, codec="blosc-lz4-1-shuffle"),
)
IMAGE = np.rint(np.abs(noise((2, 30, 37), seed=4)) * 100) / 1000 + 0.01
IMAGE[:, 3:6, 20:29] = np.nan
SCENE = Fixed(bands=("red", "nir"), values=IMAGE)
HILL = Everywhere(bands=("elevation",), value=lambda row, col: row * col / 3)


@pytest.fixture
def empty(tmp_path):
    return cube.create(tmp_path / "c.zarr", SPEC)


@pytest.fixture
def url(empty):
    """A cube with an image of 2000, of which nothing else is written."""
    cube.ingest(empty, "predictors", {"2000": SCENE})
    return empty


def of(spec, name, *, time=None):
    return list(regions(spec, name, time=time))


class TestStored:
    def test_it_gives_what_the_cube_holds(self, url):
        found = Stored(url, "predictors", time="2000").read(GRID, *whole(GRID))
        variable = SPEC.variable("predictors")
        expected = nodata.decode(store.read(url, "predictors")[0], variable)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == "float32"
        assert np.isnan(found[:, 3:6, 20:29]).all()
        np.testing.assert_allclose(found, IMAGE, atol=0.0006)

    def test_any_box_gives_the_same_and_nodata_outside_the_grid(self, url):
        everything = assert_same_in_any_box(Stored(url, "predictors", time="2000"), GRID)
        inner = everything[:, 4:34, 3:40]
        assert np.isnan(everything).sum() == np.isnan(inner).sum() + everything.size - inner.size

    def test_a_box_far_outside_is_nodata(self, url):
        found = Stored(url, "predictors", time="2000").read(GRID, (90, 95), (-9, -2))
        assert found.shape == (2, 5, 7)
        assert np.isnan(found).all()

    def test_bands_come_by_name_and_in_the_order_asked_for(self, url):
        stored = Stored(url, "predictors", time="2000", bands=("nir", "red"))
        assert stored.bands == ("nir", "red")
        everything = Stored(url, "predictors", time="2000").read(GRID, (2, 9), (1, 4))
        np.testing.assert_array_equal(stored.read(GRID, (2, 9), (1, 4)), everything[::-1])
        one = replace(stored, bands=("nir",))
        np.testing.assert_array_equal(one.read(GRID, (2, 9), (1, 4)), everything[1:])

    def test_a_layer_is_one_band_with_its_name(self, empty):
        cube.ingest(empty, "elevation", HILL)
        stored = Stored(empty, "elevation")
        assert (stored.bands, stored.units) == (("elevation",), ("m",))
        np.testing.assert_array_equal(
            stored.read(GRID, *whole(GRID)), HILL.read(GRID, *whole(GRID))
        )

    def test_classes_are_numbers_with_nan(self, empty):
        cover = np.where(IMAGE[:1] > 0.1, 1.0, np.nan)
        cube.ingest(empty, "cover", {"2010": Fixed(bands=("cover",), values=cover)})
        found = Stored(empty, "cover", time="2010").read(GRID, *whole(GRID))
        np.testing.assert_array_equal(found, cover)

    def test_a_region_that_is_not_written_is_no_nodata(self, empty):
        cube.ingest(
            empty, "predictors", {"2000": SCENE}, regions=of(SPEC, "predictors", time=0)[:2]
        )
        stored = Stored(empty, "predictors", time="2000")
        assert np.isfinite(stored.read(GRID, (0, 16), (0, 32))).any()
        message = (
            r"'predictors' of 2000 is not written at time 0, rows 16:30, cols 0:16. Fill it there "
            r"first, e.g. with cube.ingest\(url, 'predictors', ...\), then run this again."
        )
        with pytest.raises(PartialError, match=message) as caught:
            stored.read(GRID, (15, 17), (0, 16))
        assert caught.value.scenes == {"time 0, rows 16:30, cols 0:16": "not written yet"}
        with pytest.raises(SourceError, match="cols 0:16; time 0, rows 16:30, cols 16:32"):
            stored.read(GRID, (-1, 17), (15, 17))
        with pytest.raises(SourceError, match="'predictors' of 2010 is not written"):
            Stored(empty, "predictors", time="2010").read(GRID, (0, 1), (0, 1))
        with pytest.raises(SourceError, match="'elevation' is not written at rows 0:16, cols 0:16"):
            Stored(empty, "elevation").read(GRID, (0, 1), (0, 1))

    def test_a_damaged_tick_is_no_tick(self, url):
        region = of(SPEC, "predictors", time=0)[0]
        (path := store.open_store(url).root / ledger.key(SPEC, "predictors", region)).unlink()
        path.write_bytes(b"?")
        with pytest.raises(PartialError, match="not written"):
            Stored(url, "predictors", time="2000").read(GRID, (0, 1), (0, 1))

    @pytest.mark.parametrize(
        "other",
        [
            grid_at((30, 38)),
            grid_at((30, 37), shift=(0.5, 0)),
            grid_at((30, 37), crs="EPSG:32724"),
        ],
    )
    def test_another_grid_is_refused_on_both_ways_in(self, url, other):
        stored = Stored(url, "predictors", time="2000")
        match = r"own grid \(30 x 37 pixels from .* is not warped. Received 30 x 3"
        with pytest.raises(SourceError, match=match):
            stored.check(other)
        with pytest.raises(SourceError, match=match):
            stored.read(other, (0, 1), (0, 1))
        assert stored.check(grid_at((30, 37))) is None

    @pytest.mark.parametrize(
        ("name", "options", "error", "match"),
        [
            ("predictors", {}, SourceError, "needs time=, one of 2000, 2010. Received time=None"),
            ("elevation", {"time": "2000"}, SourceError, "has no time; leave time= out"),
            ("predictors", {"time": "2005"}, SpecError, "2005"),
            ("roads", {}, SpecError, "has no variable 'roads'"),
            (
                "predictors",
                {"time": "2000", "bands": ("red", "blue")},
                SourceError,
                "'predictors' has the bands red, nir; name each once at most. Received red, blue",
            ),
            ("predictors", {"time": "2000", "bands": ("red", "red")}, SourceError, "each once"),
            ("elevation", {"bands": ("height",)}, SourceError, "has the bands elevation"),
        ],
    )
    def test_what_the_cube_does_not_hold_is_refused(self, empty, name, options, error, match):
        with pytest.raises(error, match=match):
            Stored(empty, name, **options)

    def test_the_description_says_what_it_was_made_from_and_not_where_it_lies(self, url, tmp_path):
        stored = Stored(url, "predictors", time="2000", bands=("nir",))
        assert stored.describe() == {
            "variable": "predictors",
            "bands": ["nir"],
            "time": "2000",
            "spec": SPEC.variable("predictors").digest,
            "inputs": provenance.inputs_of(url, "predictors")["2000"]["digest"],
        }
        assert str(tmp_path) not in str(stored.describe())
        assert Stored(url, "elevation").describe()["inputs"] is None

    def test_it_travels_to_workers_and_is_shared_by_threads(self, url):
        stored = Stored(url, "predictors", time="2000")
        assert isinstance(stored, Source)
        again = pickle.loads(pickle.dumps(stored))
        assert again == stored
        expected = stored.read(GRID, *AROUND)
        with ThreadPoolExecutor(8) as pool:
            for found in pool.map(lambda _: again.read(GRID, *AROUND), range(16)):
                np.testing.assert_array_equal(found, expected)


class TestJoin:
    A = Everywhere(bands=("a", "b"), units=("m", "K"))
    B = Fixed(bands=("c",), values=noise((1, 30, 37)))

    def test_bands_stand_side_by_side(self):
        join = Join((self.A, self.B))
        assert join.bands == ("a", "b", "c")
        assert join.units == ("m", "K", "") == units_of(join)
        found = join.read(GRID, (2, 9), (-1, 4))
        np.testing.assert_array_equal(found[:2], self.A.read(GRID, (2, 9), (-1, 4)))
        np.testing.assert_array_equal(found[2:], self.B.read(GRID, (2, 9), (-1, 4)))
        assert_same_in_any_box(join, GRID)
        assert isinstance(join, Source)

    def test_each_is_checked_and_described(self):
        join = Join([self.A, self.B])
        join.check(GRID)
        assert self.B.checked[-1] is GRID
        assert join.describe() == {"join": [self.A.describe(), self.B.describe()]}

    @pytest.mark.parametrize(("sources", "given"), [((A, B, A), "a, b, c, a, b"), ((), "none")])
    def test_bands_of_one_name_and_no_bands_are_refused(self, sources, given):
        match = f"Bands side by side must be named, once each. Received {given}."
        with pytest.raises(SourceError, match=match):
            Join(sources)


class TestAbsent:
    def test_nothing_was_observed_anywhere(self):
        absent = Absent(("dmsp", "viirs"))
        assert np.isnan(assert_same_in_any_box(absent, GRID)).all()
        assert absent.describe() == {"absent": ["dmsp", "viirs"]}
        assert absent.check(GRID) is None
        assert units_of(absent) == ("", "")
        assert isinstance(absent, Source)

    @pytest.mark.parametrize("bands", [(), ("a", "a")])
    def test_bands_must_be_named_once_each(self, bands):
        with pytest.raises(SourceError, match="Absent bands must be named, once each"):
            Absent(bands)

    def test_text_is_no_list_of_names(self):
        with pytest.raises(SourceError, match="Bands are a list of names. Received 'ndvi'"):
            Absent("ndvi")


class TestIngest:
    """A stack made from a stack of the same cube."""

    @staticmethod
    def ndvi(url):
        return {"2000": Indices(Stored(url, "predictors", time="2000"), ("NDVI",))}

    def test_what_is_missing_is_reported_and_a_second_run_completes_it(self, empty):
        every = of(SPEC, "predictors", time=0)
        cube.ingest(empty, "predictors", {"2000": SCENE}, regions=every[1:4])
        with pytest.raises(IncompleteError, match="'predictors' of 2000 is not written") as caught:
            cube.ingest(empty, "indices", self.ndvi(empty))
        status = {o.task: o.status for o in caught.value.report.outcomes}
        assert status == {str(r): "done" if r in every[1:4] else "partial" for r in every}
        assert ledger.entries(empty, SPEC, ["indices"])["indices"].written[0].sum() == 3

        cube.ingest(empty, "predictors", {"2000": SCENE})
        report = cube.ingest(empty, "indices", self.ndvi(empty))
        assert [o.status for o in report.outcomes].count("done") == len(every) - 3
        red, nir = Stored(empty, "predictors", time="2000").read(GRID, *whole(GRID)).astype(float)
        found = Stored(empty, "indices", time="2000").read(GRID, *whole(GRID))[0]
        np.testing.assert_array_equal(found, ((nir - red) / (nir + red)).astype("float32"))
        assert np.isnan(found).sum() == 27
        again = cube.ingest(empty, "indices", self.ndvi(empty))
        assert {o.status for o in again.outcomes} == {"skipped"}

    def test_a_derived_stack_knows_what_it_came_from(self, url):
        cube.ingest(url, "indices", self.ndvi(url))
        before = provenance.inputs_of(url, "indices")["2000"]
        made = provenance.inputs_of(url, "predictors")["2000"]["digest"]
        assert before["from"]["of"]["inputs"] == made
        other = Fixed(bands=("red", "nir"), values=IMAGE + 0.1)
        cube.ingest(url, "predictors", {"2000": other}, overwrite=True)
        with pytest.raises(SourceError, match="made from other inputs"):
            cube.ingest(url, "indices", self.ndvi(url))
        cube.ingest(url, "indices", self.ndvi(url), overwrite=True)

    def test_a_neighbour_that_is_not_written_leaves_no_seam(self, empty):
        every = of(SPEC, "elevation")
        first = Region(time=None, rows=(0, 16), cols=(0, 16))
        far = [r for r in every if r.cols[0] < 32]  # all but the last column
        cube.ingest(empty, "elevation", HILL, regions=far)
        slope = Terrain(elevation=Stored(empty, "elevation"), bands=("slope",))
        with pytest.raises(IncompleteError):
            cube.ingest(empty, "ground", slope)
        written = ledger.entries(empty, SPEC, ["ground"])["ground"].written
        np.testing.assert_array_equal(written, [[True, False, False]] * 2)
        assert first in far
        cube.ingest(empty, "elevation", HILL)
        cube.ingest(empty, "ground", slope)
        expected = Terrain(elevation=HILL, bands=("slope",)).read(GRID, *whole(GRID))
        found = Stored(empty, "ground").read(GRID, *whole(GRID))
        np.testing.assert_array_equal(found[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1])
        edge = np.ones((30, 37), bool)
        edge[1:-1, 1:-1] = False
        np.testing.assert_array_equal(np.isnan(found[0]), edge)
