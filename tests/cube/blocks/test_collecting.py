"""The table of a layer or stack by polygon: exactextract is the oracle, nodata never counts."""

from __future__ import annotations

import itertools

import exactextract
import numpy as np
import pytest
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st

import cube
from cube import coverage
from cube.coverage import entries
from cube.errors import SpecError, StoreError
from tests.cube.geometry import frame_of, partition, sets, square, star
from tests.rasters import grid_at, noise

SHAPE = (40, 50)
GRID = grid_at(SHAPE)
BANDS = ("red", "green", "nir")
POLYGONS = (
    *partition(SHAPE, seed=6, points=12),
    star((20, 25), np.array([14.0, 9, 17, 11])),
    square(-4, 3, 8),  # half on the grid
    square(30.2, 12.2, 0.5),  # within a pixel
    square(1, 1, 2),  # of nodata alone
    square(60, 60, 5),  # elsewhere
)
NOWHERE, EMPTY = len(POLYGONS) - 1, len(POLYGONS) - 2

_numbers = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def small_tiles():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entries, "TILE", 16)
        yield


def new(*, region=32, url=None):
    spec = cube.CubeSpec(
        grid=GRID,
        calendar=cube.years(2000, 2010),
        stacks=(
            cube.StackSpec(
                name="predictors", bands=BANDS, dtype="int16", nodata=-999, scale=0.01, offset=3
            ),
        ),
        layers=(
            cube.LayerSpec(name="income", dtype="float64"),
            cube.LayerSpec(name="height", dtype="float32", static=True),
        ),
        layout=cube.LayoutSpec(chunk=16, region=region, codec="none"),
    )
    return cube.create(url or f"memory://collecting{next(_numbers)}", spec)


def write(url, name, values, *, time=None):
    spec = cube.read_spec(url)
    for region in cube.regions(spec, name, time=time):
        data = np.ascontiguousarray(values[(..., *region.slices)])
        cube.write_region(url, name, region, data, spec=spec)


def holes(shape, *, seed=0):
    found = np.random.default_rng(seed).random(shape) < 0.15
    found[..., :4, :4] = True
    return found


@pytest.fixture(scope="module")
def income():
    values = noise(SHAPE, seed=1).astype("float64") * 300 + 1500
    return np.where(holes(SHAPE), np.nan, values)


@pytest.fixture(scope="module")
def stored():
    values = noise((3, *SHAPE), seed=2, dtype="int16")
    return np.where(holes((3, *SHAPE), seed=5), -999, values).astype("int16")


@pytest.fixture(scope="module")
def found(income, stored):
    """A coverage in a cube with a layer of 2010, a stack of 2000 and a static layer."""
    url = new()
    write(url, "income", income, time=1)
    write(url, "predictors", stored, time=0)
    write(url, "height", np.full(SHAPE, 7.25, "float32"))
    return coverage.build(url, "tracts", frame_of(POLYGONS))


def oracle(values, polygons=POLYGONS):
    """exactextract over the whole raster at once."""
    left, bottom, right, top = GRID.boundingbox.bbox
    raster = exactextract.raster.NumPyRasterSource(
        values, xmin=left, ymin=bottom, xmax=right, ymax=top, srs_wkt=GRID.crs.to_wkt()
    )
    wanted = ["sum", "mean", "stdev", "count"]
    return exactextract.exact_extract(raster, frame_of(polygons), wanted, output="pandas")


def agrees(table, expected, *, prefix=""):
    for ours, theirs in (("sum", "sum"), ("mean", "mean"), ("std", "stdev")):
        np.testing.assert_allclose(
            table[prefix + ours], expected[theirs].to_numpy("float64"), rtol=1e-6, atol=1e-6
        )


class TestValues:
    def test_a_layer_is_summed_as_exactextract_sums_it(self, found, income):
        table = cube.collect(found, "income", time="2010")
        assert list(table) == ["sum", "mean", "std", "valid_share", "covered_share"]
        agrees(table, oracle(income))

    def test_every_band_of_a_stack_is_summed_in_physical_values(self, found, stored):
        table = cube.collect(found, "predictors", time="2000")
        physical = np.where(stored == -999, np.nan, stored * 0.01 + 3)
        for band, values in zip(BANDS, physical, strict=True):
            agrees(table, oracle(values), prefix=f"{band}_")
        columns = [f"{b}_{what}" for b in BANDS for what in ("sum", "mean", "std", "valid_share")]
        assert list(table) == [*columns, "covered_share"]

    def test_a_constant_static_layer_stays_constant(self, found):
        table = cube.collect(found, "height")
        np.testing.assert_array_equal(table["mean"][:NOWHERE], 7.25)
        np.testing.assert_array_equal(table["std"][:NOWHERE], 0)
        np.testing.assert_allclose(table["sum"], 7.25 * found.pixels, rtol=1e-12)

    def test_an_array_in_memory_gives_the_same_table(self, found, income, stored):
        one = cube.collect(found, "income", time="2010")
        other = cube.collect_array(found, income)
        assert one.equals(other)
        physical = np.where(stored == -999, np.nan, stored * np.float32(0.01) + np.float32(3))
        by_band = cube.collect_array(found, physical.astype("float32"), bands=BANDS)
        assert by_band.equals(cube.collect(found, "predictors", time="2000"))

    @settings(deadline=None, max_examples=10)
    @given(polygons=sets(SHAPE), level=st.sampled_from([0.0, 1e3, 7e6]))
    def test_a_small_deviation_of_large_values_is_exactextracts(self, polygons, level):
        covered = coverage.build(new(), "tracts", frame_of(polygons))
        values = noise(SHAPE, seed=9).astype("float64") + level
        table, expected = cube.collect_array(covered, values), oracle(values, polygons)
        met = expected["count"].to_numpy("float64") > 1e-3
        assert (met | (covered.pixels < 2e-3)).all()
        np.testing.assert_allclose(
            table["std"][met], expected["stdev"][met].to_numpy("float64"), rtol=1e-6, atol=1e-6
        )


class TestShares:
    def test_valid_share_is_the_share_of_pixels_that_hold_a_value(self, found, income):
        table = cube.collect(found, "income", time="2010")
        valid = oracle(np.isfinite(income).astype("float64"))["sum"].to_numpy()[:NOWHERE]
        share = valid / found.pixels[:NOWHERE]
        np.testing.assert_allclose(table["valid_share"][:NOWHERE], share, atol=1e-6)
        assert table["valid_share"].between(0, 1 + 1e-9).all()

    def test_covered_share_is_the_share_of_the_polygon_on_the_grid(self, found):
        table = cube.collect(found, "income", time="2010")
        np.testing.assert_array_equal(table["covered_share"], found.covered_share)
        assert table["covered_share"].tolist()[-4:] == pytest.approx([0.5, 1, 1, 0])

    def test_a_polygon_without_a_valid_pixel_has_no_mean(self, found):
        table = cube.collect(found, "income", time="2010")
        for row in (EMPTY, NOWHERE):
            assert table.loc[row, ["sum", "valid_share"]].tolist() == [0, 0]
            assert table.loc[row, ["mean", "std"]].isna().all()

    def test_a_period_that_was_never_written_has_no_valid_pixel(self, found):
        table = cube.collect(found, "income", time="2000")
        assert (table["valid_share"] == 0).all()
        assert table["mean"].isna().all()

    def test_there_is_a_row_for_every_polygon_in_their_order(self, found):
        table = cube.collect(found, "height")
        assert table.index.tolist() == list(range(len(POLYGONS)))
        assert {str(dtype) for dtype in table.dtypes} == {"float64"}


class TestConserving:
    def test_what_was_spread_comes_back_where_polygons_do_not_share_pixels(self):
        polygons = [square(16 * col, 16 * row, 16) for row in range(2) for col in range(3)]
        covered = coverage.build(new(), "tracts", frame_of(polygons))
        persons = np.array([3.0, 500, 0, 77, 12, 9])
        cube.spread(covered, "income", persons, time="2000")
        table = cube.collect(covered, "income", time="2000")
        np.testing.assert_allclose(table["sum"], persons * covered.covered_share, rtol=1e-12)


class TestRuns:
    def test_any_size_of_region_and_a_dask_client_give_the_same_bits(self, found, income, stored):
        with Client(
            processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
        ) as client:
            for region, worker in ((16, client), (64, None)):
                url = new(region=region)
                write(url, "income", income, time=1)
                write(url, "predictors", stored, time=0)
                other = coverage.build(url, "tracts", frame_of(POLYGONS))
                for name, time in (("income", "2010"), ("predictors", "2000")):
                    one = cube.collect(found, name, time=time)
                    assert one.equals(cube.collect(other, name, time=time, client=worker))

    def test_a_damaged_chunk_is_an_error_and_no_number(self, tmp_path, income):
        url = new(url=str(tmp_path / "c.zarr"))
        write(url, "income", income, time=1)
        covered = coverage.build(url, "tracts", frame_of(POLYGONS))
        chunk = tmp_path / "c.zarr" / "income" / "c" / "1" / "1" / "1"
        content = bytearray(chunk.read_bytes())
        content[5] ^= 1
        chunk.write_bytes(content)
        with pytest.raises(StoreError, match="'income' cannot be read"):
            cube.collect(covered, "income", time="2010")

    @pytest.mark.parametrize(
        ("name", "time", "match"),
        [
            ("nobody", None, "has no variable 'nobody'"),
            ("income", None, "varies with time; give time="),
            ("income", "1999", "The calendar has no '1999'"),
            ("height", "2000", "has no time dimension"),
        ],
    )
    def test_a_variable_or_period_that_does_not_fit_is_refused(self, found, name, time, match):
        with pytest.raises(SpecError, match=match):
            cube.collect(found, name, time=time)

    @pytest.mark.parametrize("shape", [(3, 3), (2, *SHAPE), (SHAPE[0] * SHAPE[1],)])
    def test_an_array_that_is_not_the_grids_is_refused(self, found, shape):
        with pytest.raises(SpecError, match=r"values must have the shape \(\d+, \d+\)"):
            cube.collect_array(found, np.ones(shape))

    def test_reading_changes_nothing(self, tmp_path, income, contents):
        url = new(url=str(tmp_path / "c.zarr"))
        write(url, "income", income, time=1)
        covered = coverage.build(url, "tracts", frame_of(POLYGONS))
        before = contents(url)
        cube.collect(covered, "income", time="2010")
        assert contents(url) == before
