"""Panels of layers by polygon: exactextract, numpy and plain loops are the oracles."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import exactextract
import numpy as np
import pytest
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st

import cube
from cube import coverage
from cube.blocks import aggregating, aggregation, panels, quantiles, readings, tile_runs
from cube.blocks.statistics import Quantile
from cube.coverage import entries
from cube.errors import PolygonError, SpecError, StoreError
from cube.transforms import Density, Log
from tests.cube.geometry import frame_of, partition, sets, square, star
from tests.rasters import grid_at, noise

aggregate, aggregate_array = aggregating.aggregate, aggregating.aggregate_array

SHAPE = (40, 50)
GRID = grid_at(SHAPE)
BANDS = ("red", "nir")
POLYGONS = (
    *partition(SHAPE, seed=6, points=12),
    star((20, 25), np.array([14.0, 9, 17, 11])),
    square(-4, 3, 8),  # half on the grid
    square(30.2, 12.2, 0.5),  # within a pixel
    square(1, 1, 2),  # of nodata alone
    square(60, 60, 5),  # elsewhere
)
NOWHERE, EMPTY = len(POLYGONS) - 1, len(POLYGONS) - 2
EVERYTHING = (
    "sum", "mean", "min", "max", "variance", "std", "median", "q90", Quantile(0.25), "count",
    "standard_error", "weighted_sum", "weighted_mean",
)  # fmt: skip
CLASSES = ((1, "Forest"), (3, "built up"), (7, "water"))

_numbers = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def small_tiles():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entries, "TILE", 16)
        patch.setattr(readings, "BOX", 32)
        yield


def new(*, region=32, chunk=16, url=None):
    spec = cube.CubeSpec(
        grid=GRID,
        calendar=cube.years(2000, 2010),
        stacks=(
            cube.StackSpec(
                name="predictors", bands=BANDS, dtype="int16", nodata=-999, scale=0.01, units="m"
            ),
        ),
        layers=(
            cube.LayerSpec(name="income", dtype="float32", units="USD", long_name="Income"),
            cube.LayerSpec(name="income_std", dtype="float32"),
            cube.LayerSpec(name="persons", dtype="float32"),
            cube.LayerSpec(name="wide", dtype="float64", static=True),
            cube.LayerSpec(name="counts", dtype="int32", nodata=-1, static=True),
            cube.LayerSpec(name="cover", dtype="uint8", nodata=255, static=True, classes=CLASSES),
        ),
        layout=cube.LayoutSpec(chunk=chunk, region=region, codec="none"),
    )
    return cube.create(url or f"memory://aggregating{next(_numbers)}", spec)


def write(url, name, values, *, time=None):
    spec = cube.read_spec(url)
    for region in cube.regions(spec, name, time=time):
        data = np.ascontiguousarray(values[(..., *region.slices)])
        cube.write_region(url, name, region, data, spec=spec)


def holes(shape, *, seed=0):
    found = np.random.default_rng(seed).random(shape) < 0.15
    found[..., :4, :4] = True
    return found


def made():
    """Stored values of every variable, by name and time."""
    rng = np.random.default_rng(7)
    gaps = [holes(SHAPE, seed=seed) for seed in range(4)]
    gaps[3][:4, :4] = False
    income = [np.where(g, np.nan, noise(SHAPE, seed=i) * 30 + 150) for i, g in enumerate(gaps[:2])]
    return {
        ("income", 0): income[0].astype("float32"),
        ("income", 1): income[1].astype("float32"),
        ("income_std", 0): rng.random(SHAPE).astype("float32"),
        ("income_std", 1): rng.random(SHAPE).astype("float32"),
        ("persons", 0): np.where(gaps[2], np.nan, rng.integers(0, 5, SHAPE)).astype("float32"),
        ("persons", 1): rng.integers(0, 5, SHAPE).astype("float32"),
        ("wide", None): np.where(gaps[0], np.nan, rng.normal(size=SHAPE)),
        ("counts", None): np.where(gaps[0], -1, rng.integers(0, 10**6, SHAPE)).astype("int32"),
        ("cover", None): np.where(gaps[0], 255, rng.choice([1, 3, 7], SHAPE)).astype("uint8"),
        ("predictors", 0): np.where(holes((2, *SHAPE)), -999, noise((2, *SHAPE), dtype="int16")),
        ("predictors", 1): np.where(holes((2, *SHAPE)), -999, noise((2, *SHAPE), dtype="int16")),
    }


DATA = made()


def filled(**options):
    """A coverage in a cube that holds everything."""
    url = new(**options)
    for (name, time), values in DATA.items():
        write(url, name, values.astype(cube.read_spec(url).variable(name).dtype), time=time)
    return coverage.build(url, "tracts", frame_of(POLYGONS))


@pytest.fixture(scope="module")
def found():
    return filled()


def covered(polygons):
    return coverage.build(new(), "tracts", frame_of(polygons))


def oracle(values, statistics, polygons=POLYGONS):
    """exactextract over the whole raster at once."""
    left, bottom, right, top = GRID.boundingbox.bbox
    raster = exactextract.raster.NumPyRasterSource(
        values, xmin=left, ymin=bottom, xmax=right, ymax=top, srs_wkt=GRID.crs.to_wkt()
    )
    return exactextract.exact_extract(raster, frame_of(polygons), statistics, output="pandas")


def dense(cover):
    """Shares as a matrix (polygon, pixel)."""
    height, width = cover.grid.shape
    shares = cover.shares((0, int(height)), (0, int(width)))
    out = np.zeros((cover.polygons, height * width))
    held = np.flatnonzero(shares.label.ravel() >= 0)
    out[shares.label.ravel()[held], held] = 1.0
    np.add.at(out, (shares.polygon, shares.pixel), shares.share)
    return out


def close(ours, theirs):
    np.testing.assert_allclose(
        np.asarray(ours), np.asarray(theirs, "float64"), rtol=1e-6, atol=1e-6
    )


class TestStatistics:
    def test_they_are_exactextracts(self, found):
        names = {
            "sum": "sum", "mean": "mean", "std": "stdev", "variance": "variance", "min": "min",
            "max": "max", "count": "count",
        }  # fmt: skip
        panel = aggregate(found, "income", statistics=list(names))
        for time in (0, 1):
            expected = oracle(DATA["income", time], list(names.values()))[:EMPTY]
            for ours, theirs in names.items():
                close(panel[f"income_{ours}"][:EMPTY, time], expected[theirs])

    @settings(deadline=None, max_examples=10)
    @given(polygons=sets(SHAPE), level=st.sampled_from([0.0, 1e3, 7e6]))
    def test_they_are_exactextracts_of_any_polygons(self, polygons, level):
        cover, values = covered(polygons), noise(SHAPE, seed=9).astype("float64") + level
        panel = aggregate_array(cover, values, statistics=("sum", "mean", "std", "min", "max"))
        expected = oracle(values, ["sum", "mean", "stdev", "min", "max", "count"], polygons)
        met = (expected["count"].to_numpy("float64") > 1e-3) & (cover.pixels > 1e-3)
        for ours, theirs in (("sum", "sum"), ("mean", "mean"), ("std", "stdev")):
            close(panel[f"values_{ours}"][met], expected[theirs][met])

    @settings(deadline=None, max_examples=15)
    @given(
        polygons=sets(SHAPE),
        level=st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0])),
        dtype=st.sampled_from(["float32", "float64"]),
        coarse=st.booleans(),
    )
    def test_quantiles_are_numpys(self, polygons, level, dtype, coarse):
        cover = covered(polygons)
        values = (noise(SHAPE, seed=3) * (1 if coarse else 100)).astype(dtype)
        values = np.round(values) if coarse else values
        values[holes(SHAPE)] = np.nan
        panel = aggregate_array(cover, values, statistics=Quantile(level))
        (ours,) = (panel[n].values for n in panel if n.startswith("values_q"))
        known = ~np.isnan(values.ravel())
        for weight, one in zip(dense(cover), ours, strict=True):
            used = known & (weight > 0)
            if not used.any():
                assert np.isnan(one)
                continue
            # Either side of a level that is met to the last digit.
            both = [
                np.quantile(
                    values.ravel()[used].astype("float64"), min(max(level + shift, 0), 1),
                    weights=weight[used], method="inverted_cdf",
                )
                for shift in (-1e-9, 0, 1e-9)
            ]  # fmt: skip
            assert one in both

    def test_a_median_of_whole_pixels_is_the_lower_of_two_middle_ones(self):
        cover = covered([square(0, 0, 2), square(10, 10, 30)])
        values = np.arange(SHAPE[0] * SHAPE[1], dtype="float32").reshape(SHAPE)
        panel = aggregate_array(cover, values, statistics=("median", "q0", "q100", "min", "max"))
        assert panel["values_median"].values[0] == 1
        box = np.sort(values[10:40, 10:40].ravel())
        assert panel["values_median"].values[1] == box[449]
        np.testing.assert_array_equal(panel["values_q0"], panel["values_min"])
        np.testing.assert_array_equal(panel["values_q100"], panel["values_max"])

    def test_weighted_ones_are_a_plain_loops(self, found):
        panel = aggregate(
            found, "income", weights="persons", statistics=("weighted_sum", "weighted_mean")
        )
        shares = dense(found)
        for time in (0, 1):
            value, weight = (DATA[name, time].ravel() for name in ("income", "persons"))
            for i, share in enumerate(shares):
                total = heads = 0.0
                for v, w, s in zip(value, weight, share, strict=True):
                    if s > 0 and not np.isnan(v) and w > 0:
                        total, heads = total + s * w * v, heads + s * w
                close(panel["income_weighted_sum"][i, time], total if heads else np.nan)
                close(panel["income_weighted_mean"][i, time], total / heads if heads else np.nan)

    def test_classes_are_exactextracts(self, found):
        panel = aggregate(found, "cover", statistics=("class_shares", "majority", "count"))
        stored = DATA["cover", None].astype("float64")
        stored[stored == 255] = np.nan
        close(panel["cover_majority"][:EMPTY], oracle(stored, ["mode"])["mode"][:EMPTY])
        close(panel["cover_count"][:EMPTY], oracle(stored, ["count"])["count"][:EMPTY])
        for code, name in ((1, "forest"), (3, "built_up"), (7, "water")):
            held = np.where(np.isnan(stored), np.nan, stored == code)
            close(panel[f"cover_{name}_share"][:EMPTY], oracle(held, ["mean"])["mean"][:EMPTY])
        assert np.isnan(panel["cover_majority"][EMPTY])
        assert panel["cover_majority"].attrs["flag_meanings"] == "forest built_up water"

    def test_of_equally_common_classes_the_greatest_code_wins_as_in_exactextract(self):
        url = new()
        codes = np.where(np.indices(SHAPE).sum(axis=0) % 2, 7, 3).astype("uint8")
        write(url, "cover", codes)
        cover = coverage.build(url, "tracts", frame_of([square(2, 2, 4)]))
        panel = aggregate(cover, "cover", statistics="majority")
        assert panel["cover_majority"].item() == 7
        assert oracle(codes.astype("float64"), ["mode"], [square(2, 2, 4)])["mode"].item() == 7

    def test_bands_of_a_stack_have_variables_of_their_own(self, found):
        panel = aggregate(found, "predictors", times="2010")
        physical = np.where(DATA["predictors", 1] == -999, np.nan, DATA["predictors", 1] * 0.01)
        for band, values in zip(BANDS, physical, strict=True):
            close(
                panel[f"predictors_{band}_mean"][:EMPTY, 0],
                oracle(values, ["mean"])["mean"][:EMPTY],
            )
        assert panel.sizes == {"block": len(POLYGONS), "time": 1}


class TestStandardError:
    def test_of_whole_independent_pixels_it_is_the_samples(self):
        values = noise(SHAPE, seed=4).astype("float64")
        panel = aggregate_array(covered([square(3, 4, 20)]), values, statistics="standard_error")
        sample = values[4:24, 3:23].ravel()
        expected = sample.std(ddof=1) / np.sqrt(sample.size)
        assert panel["values_standard_error"].item() == pytest.approx(expected, rel=1e-12)

    def test_with_shares_it_is_the_formulas(self):
        cover = covered([star((20, 25), np.array([14.0, 9, 17, 11]))])
        values, share = noise(SHAPE, seed=4).astype("float64"), dense(cover)[0]
        mean = np.average(values.ravel(), weights=share)
        s2 = np.sum(share * (values.ravel() - mean) ** 2)
        s2 /= share.sum() - (share**2).sum() / share.sum()
        size = share.sum() ** 2 / (share**2).sum()
        for r in (0.0, 1.5):
            panel = aggregate_array(cover, values, statistics="standard_error", correlation_px=r)
            expected = np.sqrt(s2 / size * (1 + 2 * np.pi * r**2))
            assert panel["values_standard_error"].item() == pytest.approx(expected, rel=1e-10)

    def test_of_pixels_that_are_all_alike_it_is_that_of_one(self):
        cover, values = covered([square(3, 4, 9)]), noise(SHAPE, seed=4).astype("float64")
        panel = aggregate_array(cover, values, statistics="standard_error", correlation_px=1e3)
        expected = values[4:13, 3:12].std(ddof=1)
        assert panel["values_standard_error"].item() == pytest.approx(expected, rel=1e-12)

    def test_errors_of_pixels_are_propagated(self, found):
        panel = aggregate(
            found, "income", errors="income_std", statistics="standard_error", correlation_px=0.5
        )
        value, sigma = DATA["income", 1].ravel(), DATA["income_std", 1].ravel().astype("float64")
        for i, share in enumerate(dense(found)):
            used = np.where(np.isnan(value), 0, share)
            if not used.any():
                assert np.isnan(panel["income_standard_error"][i, 1])
                continue
            size = used.sum() ** 2 / (used**2).sum()
            effect = min(1 + 2 * np.pi * 0.25, size)
            expected = np.sqrt(((used * sigma) ** 2).sum()) / used.sum() * np.sqrt(effect)
            close(panel["income_standard_error"][i, 1], expected)

    def test_one_pixel_has_none(self):
        cover, values = covered([square(3.2, 4.2, 0.5)]), noise(SHAPE)
        panel = aggregate_array(cover, values, statistics="standard_error")
        assert np.isnan(panel["values_standard_error"].item())


class TestLaws:
    @settings(deadline=None, max_examples=10)
    @given(polygons=sets(SHAPE), value=st.floats(-1e6, 1e6, width=32))
    def test_a_constant_aggregates_to_itself(self, polygons, value):
        cover = covered(polygons)
        statistics = ("mean", "min", "max", "median", "std", "weighted_mean")
        values = np.full(SHAPE, value, "float32")
        weights = np.random.default_rng(0).random(SHAPE) + 0.1
        panel = aggregate_array(cover, values, statistics=statistics, weights=weights)
        met = cover.pixels > 0
        for statistic in statistics:
            expected = 0.0 if statistic == "std" else value
            np.testing.assert_array_equal(panel[f"values_{statistic}"][met], expected)
        np.testing.assert_array_equal(panel["values_valid_share"][met], 1.0)

    def test_merging_two_polygons_adds_their_sums(self):
        one, other = square(3.3, 4.1, 9.2), square(12.5, 4.1, 9.2)
        cover = covered([one, other, one.union(other)])
        panel = aggregate_array(cover, noise(SHAPE), statistics=("sum", "count"))
        for name in ("values_sum", "values_count"):
            first, second, both = panel[name].values
            assert first + second == pytest.approx(both, rel=1e-6)

    def test_sums_of_whole_pixels_of_integers_are_exact(self):
        url = new()
        counts = np.random.default_rng(0).integers(0, 2**31 - 1, SHAPE).astype("int32")
        write(url, "counts", counts)
        cover = coverage.build(url, "tracts", frame_of([square(0, 0, 40), square(5, 6, 17)]))
        panel = aggregate(cover, "counts", statistics="sum")
        expected = [counts[:40, :40].sum(dtype="int64"), counts[6:23, 5:22].sum(dtype="int64")]
        assert panel["counts_sum"].values.tolist() == expected

    def test_conserving_divides_every_pixel_among_the_polygons_that_it_meets(self, found):
        polygons = [square(0.5, 0.5, 10.2), square(10.7, 0.5, 3.4), square(4, 3, 0.3)]
        cover, values = covered(polygons), noise(SHAPE, seed=2) ** 2
        panel = aggregate_array(cover, values, statistics="sum", conserve=True)
        shares = dense(cover)
        met = shares.sum(axis=0) > 0
        assert panel["values_sum"].sum().item() == pytest.approx(values.ravel()[met].sum())
        expected = (shares[:, met] / shares[:, met].sum(axis=0)) @ values.ravel()[met]
        close(panel["values_sum"], expected)


class TestChips:
    """Pixels of 1,200 m that hold logs of persons, and blocks smaller than a pixel."""

    def chips(self, values):
        grid = grid_at((6, 7), pixel_m=1200.0)
        spec = cube.CubeSpec(
            grid=grid,
            calendar=cube.years(2010),
            layers=(cube.LayerSpec(name="log_persons", dtype="float32"),),
            layout=cube.LayoutSpec(chunk=16, region=16, codec="none"),
        )
        url = cube.create(f"memory://chips{next(_numbers)}", spec)
        write(url, "log_persons", values, time=0)
        blocks = [square(c * 0.37, r * 0.41, 0.35) for r in range(12) for c in range(16)]
        return coverage.build(url, "blocks", frame_of(blocks, grid))

    def test_blocks_get_the_persons_of_the_chips_that_they_share(self):
        persons = np.random.default_rng(1).integers(1, 9000, (6, 7)).astype("float64")
        cover = self.chips(np.log(persons).astype("float32"))
        panel = aggregate(cover, "log_persons", statistics="sum", transform=Log(), conserve=True)
        sums = np.exp(panel["log_persons_sum"].values[:, 0])
        shares = dense(cover)
        amount = np.exp(np.log(persons).astype("float32").astype("float64")).ravel()
        met = shares.sum(axis=0) > 0
        # A chip's amount over its blocks by area(chip and block) / area(chip in any block).
        for i, share in enumerate(shares):
            expected = sum(amount[j] * share[j] / shares[:, j].sum() for j in np.flatnonzero(share))
            assert sums[i] == pytest.approx(expected)
        assert sums.sum() == pytest.approx(amount[met].sum())
        assert panel["log_persons_sum_state"].dtype == "int64"
        words = "log of the sum of amounts behind log_persons"
        assert panel["log_persons_sum"].attrs["long_name"] == words

    def test_a_layer_that_is_not_what_was_transformed_is_refused(self):
        cover = self.chips(np.full((6, 7), 1e6, "float32"))
        with pytest.raises(PolygonError, match="Logarithms must be below 709.78"):
            aggregate(cover, "log_persons", statistics="sum", transform=Log())
        with pytest.raises(PolygonError, match="finite amounts. It gives an infinite one for 1e"):
            aggregate_array(
                cover, np.full((6, 7), 1e300), transform=Density(area_km2=1e10), statistics="sum"
            )


class TestMissing:
    def test_a_polygon_without_a_valid_pixel_has_a_count_of_zero_and_nothing_else(self, found):
        panel = aggregate(found, "income", statistics=EVERYTHING, weights="persons")
        for row in (EMPTY, NOWHERE):
            assert (panel["income_count"][row] == 0).all()
            assert (panel["income_valid_share"][row] == 0).all()
            for name in ("sum", "mean", "min", "max", "std", "median", "q90", "weighted_sum"):
                assert np.isnan(panel[f"income_{name}"][row]).all()

    def test_what_was_never_written_is_refused_or_nodata_as_asked(self):
        url = new()
        spec = cube.read_spec(url)
        region = next(iter(cube.regions(spec, "income", time=1)))
        cube.write_region(url, "income", region, np.ones(region.shape, "float32"), spec=spec)
        cover = coverage.build(url, "tracts", frame_of(POLYGONS))
        with pytest.raises(StoreError, match=r"'income' \(2010\) is to be whole; 3 of 4 regions"):
            aggregate(cover, "income", times="2010")
        panel = aggregate(cover, "income", times="2010", missing="nodata")
        assert 0 < panel["income_valid_share"].mean() < 1

    def test_weights_that_were_never_written_are_refused_too(self):
        url = new()
        write(url, "income", DATA["income", 1], time=1)
        cover = coverage.build(url, "tracts", frame_of(POLYGONS))
        with pytest.raises(StoreError, match=r"'persons' \(2010\)"):
            aggregate(cover, "income", times="2010", weights="persons", statistics="weighted_mean")

    def test_valid_share_is_that_of_the_polygons_pixels(self, found):
        panel = aggregate(found, "income")
        expected = oracle(np.isfinite(DATA["income", 0]).astype("float64"), ["mean"])["mean"]
        close(panel["income_valid_share"][:NOWHERE, 0], expected[:NOWHERE])


class TestSameBits:
    def test_for_any_region_chunk_workers_client_and_cache(self, found, monkeypatch):
        def each(cover, **options):
            yield aggregate(
                cover, ["income", "predictors", "wide"],
                statistics=[s for s in EVERYTHING if "weighted" not in str(s)], **options,
            )  # fmt: skip
            yield aggregate(cover, "cover", statistics=("class_shares", "majority"), **options)

        expected = list(each(found))

        def same(others):
            for one, other in zip(expected, others, strict=True):
                assert one.drop_attrs().identical(other.drop_attrs())

        same(each(filled(region=16, chunk=8), workers=1))
        same(each(filled(region=72, chunk=24), workers=3))
        monkeypatch.setattr(quantiles, "PENDING", 0)
        monkeypatch.setattr(tile_runs, "CACHE_BYTES", 0)
        tile_runs.cache.clear()
        same(each(found))
        with Client(
            processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
        ) as client:
            same(each(found, client=client))

    def test_an_array_gives_what_the_layer_gives(self, found):
        wanted = [s for s in EVERYTHING if s not in ("weighted_sum", "weighted_mean")]
        one = aggregate(found, "wide", statistics=wanted)
        other = aggregate_array(found, DATA["wide", None], name="wide", statistics=wanted)
        assert one.drop_attrs().identical(other.drop_attrs())

    def test_what_is_held_at_once_is_bounded_and_changes_no_bit(self, found, monkeypatch):
        names = ["income", "cover", "predictors"]
        options = {"statistics": ["count"], "times": None}
        every = aggregate(found, names, **options)
        quantiles_too = aggregate(found, ["income", "wide"], statistics=["median", "std"])
        readings_of, whole = [], aggregation.summed
        monkeypatch.setattr(aggregation, "SUMS_BYTES", 1)
        monkeypatch.setattr(
            aggregation,
            "summed",
            lambda job, *rest: readings_of.append(job.readings) or whole(job, *rest),
        )
        assert aggregate(found, names, **options).identical(every)
        assert [[(r.name, r.time) for r in readings] for readings in readings_of] == [
            [("income", 0)], [("income", 1)], [("cover", None)],
            [("predictors", 0)], [("predictors", 1)],
        ]  # fmt: skip
        again = aggregate(found, ["income", "wide"], statistics=["median", "std"])
        assert again.identical(quantiles_too)

    def test_layers_may_have_statistics_of_their_own(self, found):
        wanted = {
            "income": ("mean", "weighted_mean", "standard_error"),
            "cover": "class_shares",
            "wide": ["q90"],
        }
        options = {"weights": "persons", "correlation_px": 2.0}
        each = aggregate(found, wanted, **options)
        alone = [aggregate(found, "income", statistics=wanted["income"], **options)]
        alone += [aggregate(found, name, statistics=wanted[name]) for name in ("cover", "wide")]
        assert set(each.data_vars) == {name for one in alone for name in one.data_vars}
        for one in alone:
            for name, column in one.data_vars.items():
                np.testing.assert_array_equal(each[name], column)
        said = json.loads(each.attrs["statistics"])["statistics"]
        assert said == {
            "income": ["mean", "weighted_mean", "standard_error"],
            "cover": ["class_shares"],
            "wide": ["q90"],
        }

    def test_what_none_of_their_statistics_needs_is_refused(self, found):
        with pytest.raises(SpecError, match="weights= is for 'weighted_mean'"):
            aggregate(found, {"income": "mean", "wide": "sum"}, weights="persons")
        with pytest.raises(SpecError, match="names must hold at least one"):
            aggregate(found, {})

    def test_layers_asked_for_together_are_those_asked_for_alone(self, found):
        both = aggregate(found, ["income", "counts"], times=["2010"])
        alone = aggregate(found, "income", times="2010")
        np.testing.assert_array_equal(both["income_mean"], alone["income_mean"])
        assert both["counts_sum"].dims == ("block",)


class TestPanels:
    def test_one_has_blocks_periods_and_says_what_it_was_made_from(self, found):
        panel = aggregate(found, "income")
        assert panel["block"].dtype == "int64"
        assert panel["time"].dtype == "datetime64[ns]"
        assert panel["period"].values.tolist() == ["2000", "2010"]
        assert panel["income_sum"].attrs == {
            "long_name": "sum of Income", "units": "USD", "cell_methods": "area: sum",
        }  # fmt: skip
        assert panel.attrs["polygons_digest"] == found.digest
        assert panel.attrs["cube_digest"] == cube.read_spec(found.url).digest
        assert json.loads(panel.attrs["statistics"])["statistics"] == ["sum", "mean"]
        np.testing.assert_array_equal(panel["covered_share"], found.covered_share)

    def test_blocks_carry_the_ids_of_their_polygons(self):
        frame = frame_of([square(1, 1, 3), square(8, 8, 3)], code=["b", "a"])
        cover = coverage.build(new(), "tracts", frame, id="code")
        assert aggregate_array(cover, noise(SHAPE))["block"].values.tolist() == ["b", "a"]

    def test_units_of_squares_and_products_are_products(self, found):
        panel = aggregate(found, "income", statistics=("variance", "count", "standard_error"))
        units = [
            panel[f"income_{s}"].attrs["units"] for s in ("variance", "count", "standard_error")
        ]
        assert units == ["USD2", "1", "USD"]

    def test_a_plan_says_what_will_be_read(self, found):
        plan = aggregating.plan_aggregate(found, ["income", "counts"])
        assert plan.bytes_in == SHAPE[0] * SHAPE[1] * (2 * 4 + 4)
        assert (plan.bytes_out, plan.tasks) == (0, 4)
        twice = aggregating.plan_aggregate(found, "income", statistics="median")
        assert twice.bytes_in == 2 * SHAPE[0] * SHAPE[1] * 2 * 4
        behind = aggregating.plan_aggregate(found, "income", statistics="median", transform=Log())
        assert behind.bytes_in == 2 * twice.bytes_in

    def test_reading_changes_nothing(self, tmp_path, contents):
        cover = filled(url=str(tmp_path / "c.zarr"))
        before = contents(cover.url)
        aggregate(cover, "income", statistics=("mean", "median"))
        assert contents(cover.url) == before


class TestRefusals:
    @pytest.mark.parametrize(
        ("names", "options", "match"),
        [
            ("nobody", {}, "has no variable 'nobody'"),
            ([], {}, "names must hold at least one"),
            ("income", {"times": "1999"}, "The calendar has no '1999'"),
            ("income", {"times": 2000}, "times must be text, or a list of it. Received 2000"),
            (
                "income",
                {"transform": "log"},
                "a declared transform, such as .*. Received 'log'",
            ),
            ("counts", {"times": "2000"}, "'counts' has no time dimension; leave out times='2000'"),
            ("income", {"statistics": "mode"}, "There is no statistic 'mode'"),
            ("income", {"statistics": ()}, "Give at least one statistic"),
            ("income", {"statistics": "q101"}, "A quantile lies from 0 to 1. Received 1.01"),
            ("income", {"statistics": "majority"}, "is of layers of classes; 'income'"),
            ("cover", {"statistics": "mean"}, "holds classes, whose codes have no mean"),
            ("income", {"statistics": "weighted_mean"}, "Weighted statistics need weights="),
            ("income", {"weights": "persons"}, "weights= is for 'weighted_mean'"),
            ("income", {"errors": "income_std"}, "errors= is for 'standard_error'"),
            ("income", {"correlation_px": 2.0}, "correlation_px= is for 'standard_error'"),
            (
                "income",
                {"correlation_px": -1.0, "statistics": "standard_error"},
                "correlation_px must be 0 or more pixels. Received -1.0",
            ),
            (
                ["income", "persons"],
                {"errors": "income_std", "statistics": "standard_error"},
                "With several names, errors= is a mapping",
            ),
            (
                ["income", "persons"],
                {"errors": {"income": "income_std"}, "statistics": "standard_error"},
                "errors= must map each of income, persons",
            ),
            (
                "predictors",
                {"errors": "income_std", "statistics": "standard_error"},
                "'predictors' has 2, 'income_std' has 1",
            ),
            (
                "counts",
                {"weights": "persons", "statistics": "weighted_sum"},
                "'counts' has no time, so what goes with it must have none",
            ),
            (
                "income",
                {"weights": "cover", "statistics": "weighted_sum"},
                "'cover' holds classes",
            ),
            (
                "income",
                {"transform": Log(), "statistics": "std"},
                "'std' cannot be taken through a transform",
            ),
            ("income", {"missing": "zero"}, "missing must be one of"),
        ],
    )
    def test_what_does_not_fit_is_refused_before_anything_is_read(
        self, names, options, match, monkeypatch
    ):
        cover = covered([square(1, 1, 3)])
        monkeypatch.setattr(aggregating, "summed", pytest.fail)
        with pytest.raises(SpecError, match=match):
            aggregate(cover, names, **options)

    def test_negative_weights_are_refused(self):
        url = new()
        write(url, "income", np.ones(SHAPE, "float32"), time=0)
        write(url, "persons", np.full(SHAPE, -2, "float32"), time=0)
        cover = coverage.build(url, "tracts", frame_of([square(1, 1, 3)]))
        with pytest.raises(
            PolygonError, match="finite, and 0 or more. 'persons' holds -2; make it"
        ):
            aggregate(cover, "income", times="2000", weights="persons", statistics="weighted_sum")

    def test_a_class_that_was_not_declared_is_an_error_and_no_nodata(self):
        url = new()
        write(url, "cover", np.full(SHAPE, 9, "uint8"))
        cover = coverage.build(url, "tracts", frame_of([square(1, 1, 3)]))
        with pytest.raises(StoreError, match=r"'cover' holds 9, which is none of its classes"):
            aggregate(cover, "cover", statistics="class_shares")

    @pytest.mark.parametrize(
        ("values", "options", "match"),
        [
            (np.zeros((3, 3)), {}, r"values must have the shape \(40, 50\)"),
            (np.zeros(SHAPE), {"weights": np.zeros(3)}, "weights must have the shape"),
            (np.zeros(SHAPE), {"statistics": "majority"}, "declares none"),
            (np.full(SHAPE, "1"), {}, "values must be an array of numbers. Received one of <U1"),
        ],
    )
    def test_an_array_that_does_not_fit_is_refused(self, found, values, options, match):
        statistics = "weighted_mean" if "weights" in options else "mean"
        with pytest.raises(SpecError, match=match):
            aggregate_array(found, values, **{"statistics": statistics, **options})

    @pytest.mark.parametrize("option", ["weights", "errors"])
    def test_infinite_weights_and_errors_are_refused(self, found, option):
        statistics = {"weights": "weighted_mean", "errors": "standard_error"}[option]
        with pytest.raises(PolygonError, match=f"finite, and 0 or more. '{option}' holds inf"):
            aggregate_array(
                found,
                np.ones(SHAPE),
                statistics=statistics,
                **{option: np.full(SHAPE, np.inf)},
            )

    def test_infinite_values_have_no_deviation(self, found):
        wanted = ["variance", "std", "standard_error"]
        panel = aggregate_array(found, np.full(SHAPE, np.inf), statistics=wanted)
        assert all(np.isnan(panel[f"values_{name}"]).all() for name in wanted)

    def test_two_variables_of_one_name_are_refused(self, found):
        column = panels.Column(name="covered_share", values=found.pixels)
        with pytest.raises(SpecError, match="Received 'covered_share' twice"):
            panels.panel(found, [column], {})


def test_importing_the_package_loads_no_compiler():
    code = "import sys, cube.blocks.aggregating; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
