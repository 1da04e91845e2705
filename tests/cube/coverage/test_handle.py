"""Shares of pixels in polygons: exactextract is the oracle, and nothing is lost on the way."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import replace

import exactextract
import numpy as np
import pytest
import rasterio.features
import shapely
import xarray as xr
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st

import cube
from cube import coverage, template
from cube.coverage import covering, entries
from cube.coverage.handle import Shares
from cube.errors import PolygonError, RegionError, SpecError, StoreError
from cube.objects import Folder
from tests.cube.geometry import frame_of, partition, sets, shapes, square, star
from tests.rasters import grid_at, noise, whole

SHAPE = (40, 50)
GRID = grid_at(SHAPE)
BOX = shapely.box(*GRID.boundingbox.bbox)

few = settings(deadline=None, max_examples=10)
_numbers = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def small_tiles():
    """So that the little grid has twelve tiles, the last of them cut off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entries, "TILE", 16)
        yield


def spec_of(*, grid=GRID, region=32):
    return cube.CubeSpec(
        grid=grid,
        calendar=cube.years(2000),
        layers=(cube.LayerSpec(name="persons", dtype="float64"),),
        layout=cube.LayoutSpec(chunk=16, region=region, codec="none"),
    )


def cover(polygons, *, grid=GRID, region=32, client=None, url=None):
    """Coverage of shapes in pixels, in a new cube in memory."""
    url = url or f"memory://coverage{next(_numbers)}"
    frame = frame_of(polygons, grid)
    return coverage.build(
        cube.create(url, spec_of(grid=grid, region=region)), "tracts", frame, client=client
    )


def dense(found, rows=None, cols=None):
    """Shares as a matrix (polygon, y, x)."""
    rows, cols = rows or (0, found.grid.shape[0]), cols or (0, found.grid.shape[1])
    shares = found.shares(rows, cols)
    out = np.zeros((found.polygons, *shares.label.shape))
    held = shares.label >= 0
    out[shares.label[held], *np.nonzero(held)] = 1.0
    np.add.at(out.reshape(found.polygons, -1), (shares.polygon, shares.pixel), shares.share)
    return out


def oracle(polygons, grid=GRID):
    """exactextract's coverage over the whole grid at once, (polygon, y, x)."""
    out = np.zeros((len(polygons), grid.shape[0] * grid.shape[1]))
    table = extract(np.zeros(grid.shape), frame_of(polygons, grid), ["cell_id", "coverage"])
    for i, (cells, shares) in enumerate(zip(table["cell_id"], table["coverage"], strict=True)):
        out[i, np.asarray(cells, int)] = shares
    return out.reshape(len(polygons), *grid.shape)


def extract(values, frame, statistics):
    left, bottom, right, top = GRID.boundingbox.bbox
    raster = exactextract.raster.NumPyRasterSource(
        values, xmin=left, ymin=bottom, xmax=right, ymax=top, srs_wkt=GRID.crs.to_wkt()
    )
    return exactextract.exact_extract(raster, frame, statistics, output="pandas")


def areas_on_grid(polygons):
    """Shapely's area of each polygon on the grid, in pixels."""
    frame = frame_of(polygons)
    return shapely.area(shapely.intersection(frame.geometry.to_numpy(), BOX)) / 900


class TestShares:
    @few
    @given(polygons=sets(SHAPE))
    def test_they_are_exactextracts_over_the_whole_grid(self, polygons):
        np.testing.assert_allclose(dense(cover(polygons)), oracle(polygons), rtol=0, atol=1e-6)

    @few
    @given(polygons=sets(SHAPE))
    def test_they_add_up_to_the_area_that_shapely_finds_on_the_grid(self, polygons):
        found = cover(polygons)
        np.testing.assert_allclose(found.pixels, areas_on_grid(polygons), rtol=1e-4, atol=1e-5)
        frame = frame_of(polygons)
        np.testing.assert_allclose(found.area, frame.area)
        np.testing.assert_allclose(
            found.covered_share, areas_on_grid(polygons) * 900 / frame.area, rtol=1e-9
        )

    @few
    @given(polygons=sets(SHAPE))
    def test_the_label_raster_holds_the_pixels_wholly_inside_one_polygon_alone(self, polygons):
        found, expected = cover(polygons), oracle(polygons)
        label = found.shares(*whole(GRID)).label
        alone = ((expected > 0).sum(axis=0) == 1) & (expected.max(axis=0) == 1)
        np.testing.assert_array_equal(label >= 0, alone)
        np.testing.assert_array_equal(label[alone], expected.argmax(axis=0)[alone])

    @few
    @given(polygons=sets(SHAPE), data=st.data())
    def test_any_box_has_the_entries_of_the_whole_there(self, polygons, data):
        found = cover(polygons)
        ends = [st.integers(0, n) for n in SHAPE]
        rows, cols = (
            data.draw(st.tuples(e, e).filter(lambda ab: ab[0] < ab[1]), label="box") for e in ends
        )
        part = dense(found)[:, slice(*rows), slice(*cols)]
        np.testing.assert_array_equal(dense(found, rows, cols), part)

    @pytest.mark.parametrize("seed", range(3))
    def test_those_of_a_partition_of_the_grid_add_up_to_one_in_every_pixel(self, seed):
        found = cover(partition(SHAPE, seed=seed))
        covered = found.shares(*whole(GRID)).covered()
        np.testing.assert_allclose(covered, 1.0, rtol=0, atol=1e-6)

    def test_polygons_on_pixel_edges_need_no_list(self):
        found = cover([square(2, 3, 5), square(16, 16, 16), square(7, 3, 5)])
        shares = found.shares(*whole(GRID))
        assert len(shares.share) == 0
        assert found.pixels.tolist() == [25, 256, 25]
        assert shares.label[3, 2] == 0
        assert shares.label[31, 31] == 1
        assert (shares.label >= 0).sum() == 25 + 256 + 25

    def test_a_pixel_inside_two_polygons_is_listed_for_both(self):
        found = cover([square(2, 3, 5), square(4, 5, 5)])
        shares = found.shares(*whole(GRID))
        assert set(shares.polygon.tolist()) == {0, 1}
        assert shares.share.tolist() == [1.0] * 18
        assert shares.covered().max() == 2.0

    def test_the_polygons_of_a_box_are_those_that_meet_it(self):
        found = cover([square(2, 3, 5), square(20, 20, 5), square(4.5, 5.5, 3)])
        assert found.shares((0, 16), (0, 16)).polygons.tolist() == [0, 2]
        assert found.shares((32, 40), (0, 16)).polygons.tolist() == []

    @few
    @given(polygons=sets(SHAPE))
    def test_collecting_is_the_matrix_and_spreading_its_transpose(self, polygons):
        found, values = cover(polygons), noise((2, *SHAPE)).astype("float64")
        matrix, shares = dense(found), found.shares(*whole(GRID))
        members, sums = shares.collect(values)
        expected = np.einsum("pyx,kyx->kp", matrix, values)
        np.testing.assert_allclose(sums, expected[:, members], atol=1e-9)
        weights = np.arange(1.0, len(polygons) + 1)
        np.testing.assert_allclose(
            shares.spread(weights), np.einsum("pyx,p->yx", matrix, weights), atol=1e-12
        )
        np.testing.assert_allclose(shares.covered(), matrix.sum(axis=0), atol=1e-12)


class TestPolygonsMadeOfPixels:
    """As they come from a classified raster: edges on those of pixels and tiles, and many holes."""

    @pytest.mark.parametrize("seed", range(4))
    def test_a_raster_made_into_polygons_is_the_label_raster_again(self, seed):
        rng = np.random.default_rng(seed)
        classes = (rng.random((SHAPE[0] // 4, SHAPE[1] // 2)) < 0.2).astype("uint8")
        classes = np.kron(classes, np.ones((4, 2), "uint8"))
        found = [shapely.geometry.shape(s) for s, _ in rasterio.features.shapes(classes)]
        assert sum(len(s.interiors) for s in found) > 5
        shares = cover(found).shares(*whole(GRID))
        assert len(shares.share) == 0
        centres = shapely.points(*(np.indices(SHAPE)[::-1] + 0.5))
        owners = np.full(SHAPE, -1)
        for i, polygon in enumerate(found):
            owners[shapely.contains(polygon, centres)] = i
        np.testing.assert_array_equal(shares.label, owners)

    @pytest.mark.parametrize(
        "polygon",
        [
            shapely.box(2, 2, 30, 30).difference(shapely.box(16, 4, 20, 9)),
            shapely.box(2, 2, 30, 30).difference(shapely.box(16, 16, 20, 20)),
            shapely.box(-5, -5, 30, 30).difference(shapely.box(-3, 4, 0, 9)),
            shapely.MultiPolygon([star((4, 4), np.array([3.0, 2.5, 2.7])), square(16, 2, 2)]),
            shapely.MultiPolygon([square(2, 2, 3), square(5, 5, 11), square(16, 2, 2)]),
        ],
    )
    def test_rectangles_that_touch_a_tile_harm_nothing(self, polygon):
        found = cover([polygon])
        expected = polygon.intersection(shapely.box(0, 0, 50, 40)).area
        assert found.pixels[0] == pytest.approx(expected, rel=1e-6)


class TestOwner:
    @few
    @given(polygons=sets(SHAPE))
    def test_it_is_the_polygon_with_the_largest_share(self, polygons):
        found = cover(polygons)
        matrix = dense(found)
        expected = np.where(matrix.max(axis=0) > 0, matrix.argmax(axis=0), -1)
        np.testing.assert_array_equal(found.shares(*whole(GRID)).owner(), expected)

    def test_of_equal_shares_the_first_polygon_wins(self):
        shares = Shares(
            label=np.full((1, 3), -1, "int32"),
            pixel=np.array([0, 0, 1, 1, 1]),
            polygon=np.array([4, 2, 7, 0, 5], "int32"),
            share=np.array([0.5, 0.5, 0.25, 0.125, 0.25]),
        )
        assert shares.owner().tolist() == [[2, 5, -1]]


class TestCollect:
    @few
    @given(polygons=sets(SHAPE), seed=st.integers(0, 99))
    def test_sum_mean_and_deviation_are_exactextracts_with_holes_of_nodata(self, polygons, seed):
        values = noise(SHAPE, seed=seed).astype("float64") + 5
        values[np.random.default_rng(seed).random(SHAPE) < 0.2] = np.nan
        found = cube.collect_array(cover(polygons), values)
        expected = extract(values, frame_of(polygons), ["sum", "mean", "stdev", "count"])
        met = expected["count"].to_numpy() > 1e-3  # thinner ones are exactextract's rounding
        for ours, theirs in (("sum", "sum"), ("mean", "mean"), ("std", "stdev")):
            np.testing.assert_allclose(
                found[ours][met], expected[theirs][met], rtol=1e-6, atol=1e-6, err_msg=ours
            )

    @few
    @given(polygons=sets(SHAPE), value=st.integers(-(10**8), 10**8).map(lambda n: n / 100))
    def test_a_constant_stays_constant(self, polygons, value):
        found = cube.collect_array(cover(polygons), np.full(SHAPE, value))
        met = found["valid_share"] > 0
        assert met.any()
        np.testing.assert_allclose(found["mean"][met], value, rtol=1e-12)
        np.testing.assert_allclose(found["std"][met], 0, atol=1e-12 * max(1.0, abs(value)))

    def test_any_size_of_region_and_a_dask_client_give_the_same_bits(self):
        polygons = [*partition(SHAPE, seed=4), star((25, 20), np.array([18.0, 5, 22, 9, 16]))]
        values = noise((3, *SHAPE))
        with Client(
            processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0"
        ) as client:
            covers = [
                cover(polygons),
                cover(polygons, region=64),
                cover(polygons, region=16, client=client),
            ]
        first, *others = (
            (dense(c), c.pixels, c.area, c.covered_share, c.collect(values)) for c in covers
        )
        for other in others:
            for one, two in zip(first, other, strict=True):
                np.testing.assert_array_equal(one, two)

    def test_values_may_come_tile_by_tile(self):
        found, values = cover(partition(SHAPE, seed=4)), noise((3, *SHAPE))
        by_tile = found.collect(lambda tile: values[:, tile.slices[0], tile.slices[1]])
        np.testing.assert_array_equal(by_tile, found.collect(values))

    def test_tiles_cover_every_pixel_once(self):
        count = np.zeros(SHAPE, int)
        for tile in cover([square(2, 2, 5)]).tiles():
            count[tile.slices] += 1
        assert (count == 1).all()


class TestConserving:
    """What polygons hold is what their pixels hold: amount x share of the polygon on the grid."""

    def spread_total(self, found, persons):
        cube.spread(found, "persons", persons, time="2000")
        with cube.open(found.url) as dataset:
            return np.nansum(dataset.persons[0].to_numpy())

    @few
    @given(polygons=sets(SHAPE), seed=st.integers(0, 99))
    def test_persons_are_conserved_to_the_ninth_digit(self, polygons, seed):
        persons = np.random.default_rng(seed).uniform(0, 3000, len(polygons))
        share = areas_on_grid(polygons) * 900 / frame_of(polygons).area
        total = self.spread_total(cover(polygons), persons)
        assert total == pytest.approx((persons * share).sum(), rel=1e-9, abs=1e-12)

    @pytest.mark.parametrize(
        "polygon",
        [
            square(7, 9, 2),
            square(7.5, 9.25, 2),
            square(7.1, 9.1, 0.2),
            square(16 - 1e-4, 16 - 1e-4, 2e-4),  # where four tiles meet
            square(7.3, 9.3, 1e-6),
            shapely.box(3, 5, 40, 5 + 1e-6),  # along an edge of pixels
            shapely.Polygon([(0, 0), (50, 40), (50, 40 - 1e-3)]),
            square(-1.5, 3, 2),  # a quarter on the grid
        ],
    )
    def test_a_polygon_of_few_pixels_or_less_keeps_its_persons(self, polygon):
        found = cover([polygon, square(30, 30, 6)])
        share = polygon.intersection(shapely.box(0, 0, 50, 40)).area / polygon.area
        assert found.covered_share[0] == pytest.approx(share, rel=1e-3)
        total = self.spread_total(found, [1234.5, 0])
        assert total == pytest.approx(1234.5 * found.covered_share[0], rel=1e-9)

    def test_a_partition_keeps_every_person(self):
        polygons = partition(SHAPE, seed=8, points=60)
        persons = np.random.default_rng(8).integers(0, 3000, len(polygons))
        found = cover(polygons)
        assert self.spread_total(found, persons) == pytest.approx(persons.sum(), rel=1e-12)
        back = cube.collect(found, "persons", time="2000")["sum"]
        assert back.sum() == pytest.approx(persons.sum(), rel=1e-6)

    def test_a_polygon_that_only_touches_the_grid_has_no_share_on_it(self):
        found = cover([shapely.box(-5, 3, 0, 8), square(-3, -3, 3), square(10, 10, 3)])
        assert found.covered_share.tolist() == [0, 0, 1]
        assert found.pixels.tolist() == [0, 0, 9]
        assert self.spread_total(found, [100, 100, 7]) == pytest.approx(7)

    def test_nor_has_one_that_rounding_moves_over_the_edge(self):
        beside = shapely.Polygon([(1.19e-7, 0), (-1, 1), (-1.354, 0.646)])
        assert beside.intersection(shapely.box(0, 0, 50, 40)).area > 0
        found = cover([beside, square(10, 10, 3)])
        assert found.covered_share.tolist() == [0, 1]
        assert self.spread_total(found, [100, 7]) == pytest.approx(7)


class TestBuild:
    POLYGONS = (square(2, 2, 5), star((25, 20), np.array([9.0, 5, 12])))

    def test_it_is_computed_once_and_then_read(self, monkeypatch):
        found = cover(self.POLYGONS)
        monkeypatch.setattr(
            "cube.coverage.handle.cover", lambda *args, **_: pytest.fail("computed again")
        )
        again = coverage.build(found.url, "tracts", frame_of(self.POLYGONS))
        assert again == found
        np.testing.assert_array_equal(dense(again), dense(found))

    def test_other_polygons_under_the_same_name_are_refused_and_change_nothing(self):
        found = cover(self.POLYGONS)
        before = dense(found)
        with pytest.raises(
            StoreError, match="'tracts' is of other polygons .* Choose another name"
        ):
            coverage.build(found.url, "tracts", frame_of(self.POLYGONS[::-1]))
        np.testing.assert_array_equal(dense(coverage.load(found.url, "tracts")), before)

    def test_two_sets_lie_side_by_side(self):
        found = cover(self.POLYGONS)
        other = coverage.build(found.url, "blocks", frame_of(self.POLYGONS[::-1]))
        np.testing.assert_array_equal(dense(other), dense(found)[::-1])
        np.testing.assert_array_equal(other.area, found.area[::-1])

    @pytest.mark.parametrize("puts", [0, 9, 14])
    def test_a_killed_build_shows_nothing_and_is_done_again_to_the_same_bytes(
        self, puts, tmp_path, monkeypatch, killed, contents
    ):
        url = str(tmp_path / "c.zarr")
        cube.create(url, spec_of())
        put, left = Folder.put, [puts]

        def put_some(*arguments):
            if not left[0]:
                return killed(*arguments)
            left[0] -= 1
            return put(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Folder, "put", put_some)
            with pytest.raises(killed.error, match="killed here"):
                coverage.build(url, "tracts", frame_of(self.POLYGONS))
        with pytest.raises(StoreError, match="has no coverage 'tracts'|'tracts' is not finished"):
            coverage.load(url, "tracts")
        again = cover(self.POLYGONS, url=url)
        np.testing.assert_array_equal(dense(again), dense(cover(self.POLYGONS)))
        cover(self.POLYGONS, url=str(tmp_path / "undisturbed.zarr"))
        assert contents(url) == contents(tmp_path / "undisturbed.zarr")
        assert cube.verify(url).sound

    def test_of_two_who_begin_other_polygons_under_one_name_the_second_is_refused(
        self, tmp_path, monkeypatch
    ):
        url = cube.create(tmp_path / "c.zarr", spec_of())
        compute, refused = covering.run_tasks, []

        def overtaken(*arguments, **options):
            monkeypatch.setattr(covering, "run_tasks", compute)
            with pytest.raises(StoreError, match="'tracts' is of other polygons"):
                coverage.build(url, "tracts", frame_of(self.POLYGONS))
            refused.append(True)
            return compute(*arguments, **options)

        monkeypatch.setattr(covering, "run_tasks", overtaken)
        found = coverage.build(url, "tracts", frame_of(self.POLYGONS[::-1]))
        assert refused
        np.testing.assert_array_equal(dense(found), dense(cover(self.POLYGONS[::-1])))

    def test_who_is_overtaken_before_beginning_is_refused(self, tmp_path, monkeypatch):
        url = cube.create(tmp_path / "c.zarr", spec_of())
        put, faster = template.put_arrays, []

        def overtaken(*arguments, **options):
            monkeypatch.setattr(template, "put_arrays", put)
            faster.append(coverage.build(url, "tracts", frame_of(self.POLYGONS)))
            return put(*arguments, **options)

        monkeypatch.setattr(template, "put_arrays", overtaken)
        with pytest.raises(StoreError, match=r"has another 'coverage/tracts/.*; choose another"):
            coverage.build(url, "tracts", frame_of(self.POLYGONS[::-1]))
        np.testing.assert_array_equal(dense(faster[0]), dense(cover(self.POLYGONS)))

    def test_it_is_taken_away_with_all_its_bytes_and_another_may_be_built(self, tmp_path, contents):
        url = cube.create(tmp_path / "c.zarr", spec_of())
        empty = contents(url)
        coverage.build(url, "tracts", frame_of(self.POLYGONS))
        coverage.remove(url, "tracts")
        assert contents(url) == empty
        coverage.remove(url, "tracts")  # nothing is there, and nothing happens
        found = coverage.build(url, "tracts", frame_of(self.POLYGONS[::-1]))
        np.testing.assert_array_equal(dense(found), dense(cover(self.POLYGONS[::-1])))

    def test_plain_xarray_reads_the_label_raster_and_the_tables(self, tmp_path):
        found = cover(self.POLYGONS, url=str(tmp_path / "c.zarr"))
        plain = xr.open_zarr(found.url, group="coverage/tracts", chunks=None)
        np.testing.assert_array_equal(plain["label"], found.shares(*whole(GRID)).label)
        np.testing.assert_array_equal(plain["pixels"], found.pixels)

    @pytest.mark.parametrize("name", ["tracts", "c"])
    def test_verify_finds_nothing_foreign_in_it(self, name):
        url = cube.create(f"memory://coverage{next(_numbers)}", spec_of())
        coverage.build(url, name, frame_of(self.POLYGONS))
        assert cube.verify(url).sound

    def test_a_tile_with_more_entries_than_a_chunk_is_read_whole(self, monkeypatch):
        monkeypatch.setattr(entries, "_CHUNK", 64)
        polygons = partition(SHAPE, seed=3, points=60)
        np.testing.assert_allclose(dense(cover(polygons)), oracle(polygons), rtol=0, atol=1e-6)

    def test_overlaps_are_counted(self):
        found = cover([square(2, 2, 4), square(4, 4, 4), square(20, 20, 4)])
        assert (found.report.overlapping, found.report.overlap_px) == (2, 4.0)
        assert cover(partition(SHAPE)).report.overlapping == 0

    def test_the_same_polygons_with_other_ids_are_refused_and_without_are_read(self):
        url = cube.create(f"memory://coverage{next(_numbers)}", spec_of())
        frame = frame_of(self.POLYGONS, geoid=["a", "b"], other=["b", "a"])
        found = coverage.build(url, "tracts", frame, id="geoid")
        with pytest.raises(StoreError, match="keeps these polygons with other ids. Choose another"):
            coverage.build(url, "tracts", frame, id="other")
        assert coverage.build(url, "tracts", frame) == found
        coverage.build(url, "plain", frame)
        with pytest.raises(StoreError, match="'plain' keeps these polygons with no ids"):
            coverage.build(url, "plain", frame, id="geoid")

    def test_ids_are_kept_as_text(self):
        url = cube.create(f"memory://coverage{next(_numbers)}", spec_of())
        frame = frame_of(self.POLYGONS, geoid=["01001", "ä b"])
        assert coverage.build(url, "tracts", frame, id="geoid").ids == ("01001", "ä b")
        assert coverage.build(url, "plain", frame).ids is None

    @settings(max_examples=10)
    @given(polygons=sets(SHAPE), size=st.integers(1, 3))
    def test_sets_that_come_in_batches_are_the_same(self, polygons, size):
        frame, url = frame_of(polygons), f"memory://coverage{next(_numbers)}"
        cube.create(url, spec_of())
        batches = (frame.iloc[i : i + size] for i in range(0, len(frame), size))
        found, expected = coverage.build(url, "tracts", batches), cover(polygons)
        assert found.digest == expected.digest
        np.testing.assert_array_equal(dense(found), dense(expected))
        np.testing.assert_array_equal(found.covered_share, expected.covered_share)

    def test_the_same_build_elsewhere_writes_the_same_bytes(self, tmp_path, contents):
        for name in "ab":
            cover(self.POLYGONS, url=str(tmp_path / name))
        assert contents(tmp_path / "a") == contents(tmp_path / "b")

    def test_a_handle_pickles(self):
        found = cover(self.POLYGONS)
        assert pickle.loads(pickle.dumps(found)) == found

    def test_an_unknown_set_is_refused_with_those_there_are(self):
        found = cover(self.POLYGONS)
        with pytest.raises(StoreError, match="has no coverage 'blocks'. It has: tracts"):
            coverage.load(found.url, "blocks")

    @pytest.mark.parametrize("name", ["", "Tracts", "a/b", "../a", "a b", "2010"])
    def test_a_name_that_is_no_name_is_refused(self, name):
        url = cube.create(f"memory://coverage{next(_numbers)}", spec_of())
        with pytest.raises(SpecError, match="needs a lower_snake_case name"):
            coverage.build(url, name, frame_of(self.POLYGONS))

    @pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32724", None])
    def test_polygons_in_another_crs_are_refused(self, crs):
        url = cube.create(f"memory://coverage{next(_numbers)}", spec_of())
        frame = frame_of(self.POLYGONS)
        frame = frame.set_crs(crs, allow_override=True) if crs is None else frame.to_crs(crs)
        with pytest.raises(PolygonError, match="in the CRS of the grid, EPSG:32725. Received"):
            coverage.build(url, "tracts", frame)

    def test_polygons_elsewhere_are_refused(self):
        with pytest.raises(PolygonError, match="None of the 1 polygons meets the grid"):
            cover([square(500, 500, 3)])

    def test_an_invalid_polygon_is_refused(self):
        with pytest.raises(PolygonError, match="1 of 2 geometries are invalid"):
            cover([square(2, 2, 3), shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)])])

    @few
    @given(polygon=shapes(SHAPE).filter(lambda s: s.is_valid and s.area > 1e-6))
    def test_a_grid_in_degrees_is_covered_as_one_in_metres(self, polygon):
        grid = grid_at(SHAPE, pixel_m=1 / 10800, crs="EPSG:4326", corner=(-34.9, -8.0))
        if not polygon.intersects(shapely.box(0.1, 0.1, 49.9, 39.9)):
            return
        np.testing.assert_allclose(
            dense(cover([polygon], grid=grid)), dense(cover([polygon])), rtol=0, atol=1e-5
        )


class TestHandle:
    POLYGONS = (square(2, 2, 5), square(5, 5, 9))

    @pytest.mark.parametrize("name", ["", ".", "../persons", "tracts/label", "Tracts", "a b"])
    def test_only_a_set_of_polygons_is_taken_away(self, tmp_path, contents, name):
        found = cover(self.POLYGONS, url=tmp_path / "c.zarr")
        before = contents(found.url)
        with pytest.raises(SpecError, match="needs a lower_snake_case name. Received"):
            coverage.remove(found.url, name)
        assert contents(found.url) == before

    def test_nobody_changes_what_the_next_one_reads(self):
        found = cover(self.POLYGONS)
        tile = found.shares((0, 16), (0, 16))
        for array in (found.area, found.pixels, found.covered_share, tile.label, tile.share):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
        assert found.area[0] == 25 * 900

    @pytest.mark.parametrize(
        ("rows", "cols"),
        [((-1, 5), (0, 5)), ((0, 41), (0, 5)), ((0, 5), (45, 51)), ((5, 4), (0, 5))],
    )
    def test_a_box_that_leaves_the_grid_is_refused(self, rows, cols):
        with pytest.raises(RegionError, match="leaves the grid of 40 x 50 pixels; give a box ins"):
            cover(self.POLYGONS).shares(rows, cols)

    def test_an_empty_box_holds_nothing(self):
        shares = cover(self.POLYGONS).shares((5, 5), (0, 5))
        assert (shares.label.shape, len(shares.share)) == ((0, 5), 0)


class TestReport:
    POLYGONS = (square(-2, 2, 5), square(90, 2, 5), square(9, 9, 0.5), square(20, 20, 3))

    def test_it_is_the_same_whoever_brought_the_polygons_there(self):
        frame = frame_of(self.POLYGONS)
        plain = cover(self.POLYGONS).report
        placed = coverage.build(
            cube.create("memory://placed", spec_of()),
            "tracts",
            cube.place_polygons(frame, grid=GRID),
        ).report
        assert plain == placed
        assert (plain.partly_outside, plain.outside, plain.below_pixel) == (1, 1, 1)

    def test_it_is_of_the_polygons_that_were_kept(self):
        frame = cube.place_polygons(frame_of(self.POLYGONS), grid=GRID).iloc[[0, 3]]
        found = coverage.build(cube.create("memory://kept", spec_of()), "tracts", frame).report
        assert (found.polygons, found.partly_outside, found.outside) == (2, 1, 0)
        assert found.below_pixel == 0

    @given(picks=st.lists(st.integers(0, 3), min_size=1, max_size=8), size=st.integers(1, 8))
    @settings(deadline=None, max_examples=10)
    def test_duplicates_are_those_of_the_set_however_it_is_divided(self, picks, size):
        frame = frame_of([square(3 * p, 2, 4) for p in picks])
        parts = [frame.iloc[i : i + size] for i in range(0, len(frame), size)]
        url = cube.create(f"memory://batches{next(_numbers)}", spec_of())
        found = coverage.build(url, "tracts", iter(parts)).report
        assert found.duplicates == len(picks) - len(set(picks))

    def test_those_that_were_dropped_are_counted_once(self):
        frame = frame_of([square(2, 2, 4)] * 3)
        placed = cube.place_polygons(frame, grid=GRID, duplicates="first")
        found = coverage.build(cube.create("memory://dropped", spec_of()), "t", placed).report
        assert (found.polygons, found.duplicates, found.dropped) == (1, 2, 2)


class TestAnnex:
    POLYGONS = TestBuild.POLYGONS

    def test_what_a_read_only_cube_cannot_hold_lies_elsewhere(self, tmp_path, contents):
        url = cube.create(tmp_path / "c.zarr", spec_of())
        before = contents(url)
        found = coverage.build(url, "tracts", frame_of(self.POLYGONS), into=tmp_path / "annex.zarr")
        assert contents(url) == before
        assert (found.url, found.place) == (url, str(tmp_path / "annex.zarr"))
        np.testing.assert_array_equal(dense(found), dense(cover(self.POLYGONS)))
        assert coverage.load(url, "tracts", into=tmp_path / "annex.zarr") == found
        coverage.build(url, "more", frame_of(self.POLYGONS), into=tmp_path / "annex.zarr")
        with pytest.raises(StoreError, match="has no coverage 'tracts'"):
            coverage.load(url, "tracts")

    def test_plain_xarray_knows_where_it_lies(self, tmp_path):
        url = cube.create(tmp_path / "c.zarr", spec_of())
        coverage.build(url, "tracts", frame_of(self.POLYGONS), into=tmp_path / "annex.zarr")
        there, own = xr.open_zarr(tmp_path / "annex.zarr"), xr.open_zarr(url)
        np.testing.assert_array_equal(there["x"], own["x"])
        assert there["spatial_ref"].attrs == own["spatial_ref"].attrs

    def test_that_of_a_cube_with_another_grid_is_refused(self, tmp_path):
        for name, grid in (("a", GRID), ("b", grid_at((60, 60)))):
            cube.create(tmp_path / name, replace(spec_of(), grid=grid))
        coverage.build(tmp_path / "a", "t", frame_of(self.POLYGONS), into=tmp_path / "annex")
        for into in ("annex", "a"):
            frame = frame_of(self.POLYGONS, grid_at((60, 60)))
            with pytest.raises(StoreError, match="belongs to a cube with another grid"):
                coverage.build(tmp_path / "b", "t", frame, into=tmp_path / into)

    def test_a_place_with_other_things_is_refused(self, tmp_path):
        url = cube.create(tmp_path / "c.zarr", spec_of())
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "thesis.docx").write_text("mine")
        with pytest.raises(StoreError, match="it is not empty, 'thesis.docx' lies there"):
            coverage.build(url, "t", frame_of(self.POLYGONS), into=tmp_path / "full")
