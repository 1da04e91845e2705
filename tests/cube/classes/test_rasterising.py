"""Polygons as classes of pixels: plain loops, shapely and GDAL are the oracles."""

from __future__ import annotations

import itertools
import json
import pickle

import geopandas as gpd
import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

import cube
from cube.classes import claiming
from cube.classes.rasterising import ClassPolygons, ClassShares, largest
from cube.errors import CubeError, PolygonError, SourceError, SpecError
from cube.scenes import Source, needs_of
from tests.cube.geometry import frame_of, partition, sets, square, to_map
from tests.cube.sources import AROUND, assert_same_in_any_box
from tests.rasters import grid_at, whole

SHAPE = (40, 50)
GRID = grid_at(SHAPE)
SMALL = grid_at((30, 37))
"""The grid that :data:`tests.cube.sources.BOXES` are of."""

few = settings(deadline=None, max_examples=15)
_numbers = itertools.count()

ICE = {"debris": 1, "ice": 2}


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """So that the little grids have several tiles."""
    monkeypatch.setattr(claiming, "TILE", 16)


def kinds_of(polygons, kinds=("debris", "ice")):
    """Polygons of kinds in turn."""
    return frame_of(polygons, kind=[kinds[i % len(kinds)] for i in range(len(polygons))])


def classes(polygons, kinds=ICE, **options):
    return ClassPolygons(kinds_of(polygons), kinds, column="kind", **options)


def read(source, grid=GRID):
    return source.read(grid, *whole(grid))


def areas(polygons, shape=SHAPE):
    """Area of each polygon in each pixel by shapely, (polygon, y, x)."""
    rows, cols = np.indices(shape)
    pixels = shapely.box(cols, rows, cols + 1, rows + 1)
    return np.array([shapely.area(shapely.intersection(p, pixels)) for p in polygons])


class TestMajority:
    @few
    @given(polygons=sets(SHAPE))
    def test_it_is_the_class_with_the_largest_area_by_shapely(self, polygons):
        own = areas(polygons)
        shares = np.array([own[k::2].sum(axis=0).clip(0, 1) for k in range(2)])
        claims = np.array([np.maximum(1 - shares.sum(axis=0), 0), *shares])
        second, first = np.sort(claims, axis=0)[-2:]
        clear = first - second > 1e-5
        found = read(classes(polygons))[0]
        np.testing.assert_array_equal(found[clear], claims.argmax(axis=0)[clear])

    def test_a_tie_goes_to_the_smaller_code_the_backgrounds_among_them(self):
        halves = [square(2, 2, 1.5), square(3.5, 2, 1.5)]  # meet in the middle of a pixel
        assert read(classes(halves, {"debris": 2, "ice": 1}))[0, 2, 1:6].tolist() == [0, 2, 1, 1, 0]
        lone = [square(2, 2, 1.5)]
        # The background has half of the right column, and of the lower row.
        assert read(classes(lone, {"debris": 2, "ice": 1}))[0, 2, 2:4].tolist() == [2, 0]
        found = read(classes(lone, {"debris": 2, "ice": 1}, background=7))
        assert found[0, 2, 2:4].tolist() == [2, 2]

    def test_a_tie_goes_to_the_first_in_the_priority_and_to_the_background_last(self):
        halves = [square(2, 2, 1.5), square(3.5, 2, 1.5)]
        found = read(classes(halves, priority=(2, 1)))
        assert found[0, 2, 1:6].tolist() == [0, 1, 2, 2, 0]
        assert read(classes(halves[:1], priority=(2, 1)))[0, 2, 2:4].tolist() == [1, 1]

    def test_nodata_wins_only_with_more_than_any_class(self):
        found = read(classes([square(2, 2, 1.5), square(9, 2, 1.4)], background=None))
        assert found[0, 2, 2:4].tolist() == [1, 1]
        assert found[0, 2, 9] == 2
        assert np.isnan(found[0, 2, 10])

    def test_polygons_of_one_class_are_added_up(self):
        frame = frame_of([square(2, 2, 1.4), square(2, 2, 1.4), square(2, 2, 1)])
        # 0.4 + 0.4 of two pixels at edges, 0.16 + 0.16 of that at the corner.
        assert read(ClassPolygons(frame, 1))[0].sum() == 3
        assert read(ClassPolygons(frame, 1)).max() == 1

    def test_the_rest_may_be_a_class_that_polygons_have_too(self):
        halves = [square(2, 2, 1.4), square(9, 2, 3)]
        found = read(classes(halves, {"debris": 0, "ice": 2}))
        assert set(np.unique(found)) == {0, 2}
        assert (found == 2).sum() == 9

    @given(st.integers(0, 2**31))
    @settings(deadline=None, max_examples=30)
    def test_what_is_left_is_the_backgrounds(self, seed):
        shares = np.random.default_rng(seed).dirichlet(np.ones(4), (6, 7)).transpose(2, 0, 1)
        found = largest(shares[:3], (1, 2, 3), 0, by_code=True)
        np.testing.assert_array_equal(found, np.roll(shares, 1, axis=0).argmax(axis=0))


class TestCentre:
    @few
    @given(polygons=sets(SHAPE))
    def test_it_is_what_gdal_burns(self, polygons):
        found = read(classes(polygons, rule="centre", priority=(2, 1)))[0]
        y, x = np.indices(SHAPE) + 0.5
        edges = shapely.union_all([polygon.boundary for polygon in polygons])
        with np.errstate(divide="ignore"):  # GEOS, of corners that all but coincide
            clear = shapely.distance(edges, shapely.points(x, y)) > 1e-6
        burnt = np.zeros(SHAPE, "uint8")
        for code in (1, 2):  # the last wins
            own = to_map(polygons[code - 1 :: 2], GRID)
            if len(own):
                rasterio.features.rasterize(
                    own, out=burnt, transform=GRID.transform, default_value=code
                )
        np.testing.assert_array_equal(found[clear], burnt[clear])

    def test_a_partition_leaves_no_background_and_no_conflict(self):
        source = classes(partition(SHAPE, seed=3), rule="centre", background=None)
        source.check(GRID)
        assert not np.isnan(read(source)).any()

    def test_centres_on_a_shared_edge_are_no_conflict(self):
        source = classes([shapely.box(2.5, 2, 5.5, 6), shapely.box(5.5, 2, 9, 6)], rule="centre")
        source.check(GRID)
        assert read(source)[0, 3, :10].tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 2, 0]


class TestAllTouched:
    @few
    @given(polygons=sets(SHAPE))
    def test_it_is_every_pixel_with_an_area_by_shapely(self, polygons):
        frame = frame_of(polygons)
        found = read(ClassPolygons(frame, 1, rule="all_touched"))[0]
        area = areas(polygons).max(axis=0)
        clear = (area > 1e-6) | (area == 0)
        np.testing.assert_array_equal(found[clear], (area > 0)[clear])

    @few
    @given(polygons=sets(SHAPE))
    def test_gdal_takes_these_too_and_others_along_edges_alone(self, polygons):
        found = read(ClassPolygons(frame_of(polygons), 1, rule="all_touched"))[0] > 0
        burnt = rasterio.features.rasterize(
            to_map(polygons, GRID), out_shape=SHAPE, transform=GRID.transform, all_touched=True
        ).astype(bool)
        area = areas(polygons).max(axis=0)
        assert not (found & ~burnt & (area > 1e-3)).any()
        rows, cols = np.nonzero(burnt & ~found)
        near = shapely.box(cols - 0.01, rows - 0.01, cols + 1.01, rows + 1.01)
        edges = shapely.union_all([polygon.boundary for polygon in polygons])
        assert shapely.intersects(edges, near).all()

    def test_a_speck_takes_a_pixel(self):
        frame = frame_of([square(7.3, 9.3, 1e-3)])
        found = read(ClassPolygons(frame, 1, rule="all_touched"))[0]
        assert np.argwhere(found == 1).tolist() == [[9, 7]]


class TestConflicts:
    OVERLAP = (square(2, 2, 6), square(4, 4, 6))

    @pytest.mark.parametrize("rule", ["centre", "all_touched"])
    def test_classes_that_claim_the_same_pixels_are_refused_with_their_number(self, rule):
        source = classes(self.OVERLAP, rule=rule)
        expected = rf"^16 pixels are claimed by several classes under the rule '{rule}'. .*\(1, 2\)"
        with pytest.raises(PolygonError, match=expected):
            source.check(GRID)
        with pytest.raises(PolygonError, match=expected):
            read(source)

    def test_pixels_of_all_tiles_are_counted_but_none_outside_the_grid(self):
        strips = shapely.box(-20, 14, 90, 18), shapely.box(-20, 12, 90, 20)
        with pytest.raises(PolygonError, match="^200 pixels are claimed"):
            classes(strips, rule="centre").check(GRID)

    @pytest.mark.parametrize("rule", ["centre", "all_touched"])
    def test_what_is_outside_the_grid_or_the_extent_is_no_conflict(self, rule):
        # Within the tiles at the grid's end.
        outside = [shapely.box(45, 2, 53, 6), shapely.box(51, 2, 60, 6)]
        source = classes(outside, rule=rule)
        source.check(GRID)
        assert read(source).sum() == 20
        source = classes(self.OVERLAP, rule=rule, extent=frame_of([square(0, 0, 4)]))
        source.check(GRID)
        assert np.nansum(read(source)) == 4

    @pytest.mark.parametrize("rule", ["centre", "all_touched"])
    def test_with_a_priority_the_first_wins(self, rule):
        first, other = (
            read(classes(self.OVERLAP, rule=rule, priority=p)) for p in ((1, 2), (2, 1))
        )
        assert [(first == 1).sum(), (first == 2).sum()] == [36, 20]
        assert [(other == 1).sum(), (other == 2).sum()] == [20, 36]

    def test_polygons_of_one_class_may_overlap(self):
        source = classes(self.OVERLAP, {"debris": 1, "ice": 1}, rule="centre")
        source.check(GRID)
        assert read(source).sum() == 56


class TestExtent:
    def test_outside_it_nothing_is_known(self):
        looked_at = frame_of([shapely.box(0, 0, 20, 40)])
        found = read(classes([square(2, 2, 6), square(30, 4, 6)], extent=looked_at))[0]
        assert np.isnan(found[:, 20:]).all()
        assert not np.isnan(found[:, :20]).any()
        assert set(np.unique(found[:, :20])) == {0, 1}

    def test_it_goes_by_pixel_centres(self):
        looked_at = frame_of([shapely.box(-9, -9, 10.5, 60)])
        found = read(classes([square(2, 2, 6)], extent=looked_at))[0]
        assert not np.isnan(found[:, :10]).any()
        assert np.isnan(found[:, 10:]).all()

    def test_shares_are_nodata_outside_it_too(self):
        looked_at = frame_of([shapely.box(0, 0, 20, 40)])
        source = ClassShares(frame_of([square(2, 2, 6)]), "ice", extent=looked_at)
        assert np.isnan(read(source)[0, :, 20:]).all()
        assert np.nansum(read(source)) == 36


class TestClassShares:
    @few
    @given(polygons=sets(SHAPE))
    def test_they_are_areas_by_shapely(self, polygons):
        source = ClassShares(
            kinds_of(polygons), {"debris": "debris", "ice": "clean_ice"}, column="kind"
        )
        assert source.bands == ("debris", "clean_ice")
        assert source.units == ("1", "1")
        own = areas(polygons)
        expected = [own[k::2].sum(axis=0).clip(0, 1) for k in range(2)]
        np.testing.assert_allclose(read(source), expected, atol=1e-6)

    def test_two_values_may_share_a_band(self):
        source = ClassShares(
            kinds_of([square(2, 2, 3), square(5, 2, 3)]),
            {"debris": "glacier", "ice": "glacier"},
            column="kind",
        )
        assert source.bands == ("glacier",)
        assert read(source).sum() == 18


SOURCES = {
    "majority": lambda frame: ClassPolygons(frame, ICE, column="kind"),
    "centre": lambda frame: ClassPolygons(
        frame, ICE, column="kind", rule="centre", priority=(2, 1), background=None
    ),
    "all_touched": lambda frame: ClassPolygons(
        frame, ICE, column="kind", rule="all_touched", priority=(1, 2), extent=frame.iloc[:2]
    ),
    "shares": lambda frame: ClassShares(
        frame, {"debris": "debris", "ice": "ice"}, column="kind", extent=frame.iloc[1:]
    ),
}


class TestSource:
    POLYGONS = (
        *partition((30, 37), seed=5, points=5)[:3],
        shapely.Polygon([(-9, -7), (31.3, 4.2), (12.7, 60)]),
    )

    @pytest.mark.parametrize("kind", SOURCES)
    def test_any_box_gives_the_same_bits(self, kind):
        source = SOURCES[kind](kinds_of(self.POLYGONS))
        assert isinstance(source, Source)
        everything = assert_same_in_any_box(source, SMALL)
        assert len(np.unique(everything)) > 2

    @pytest.mark.parametrize("kind", SOURCES)
    def test_it_pickles_and_describes_itself_in_json(self, kind):
        source = SOURCES[kind](kinds_of(self.POLYGONS))
        before = source.read(SMALL, *AROUND)
        again = pickle.loads(pickle.dumps(source))
        np.testing.assert_array_equal(again.read(SMALL, *AROUND), before)
        assert again.describe() == source.describe() == json.loads(json.dumps(source.describe()))
        assert needs_of(source, SMALL, *AROUND).peak_bytes > 0

    def test_a_description_knows_all_that_decides_the_values(self):
        polygons = self.POLYGONS
        made = [
            classes(polygons),
            classes(polygons[:2]),
            classes(polygons, {"debris": 1, "ice": 3}),
            classes(polygons, {"debris": 2, "ice": 1}),
            classes(polygons, priority=(2, 1)),
            classes(polygons, rule="centre"),
            classes(polygons, background=None),
            classes(polygons, extent=frame_of(polygons[:1])),
        ]
        assert len({json.dumps(source.describe()) for source in made}) == len(made)

    def test_codes_say_what_may_come(self):
        polygons = self.POLYGONS
        assert classes(polygons).codes == (0, 1, 2)
        assert classes(polygons, background=None).codes == (1, 2)
        assert classes(polygons, {"debris": 9, "ice": 9}, background=9).codes == (9,)

    def test_codes_that_float32_would_round_come_as_float64(self):
        source = classes(self.POLYGONS, {"debris": 2**24 + 1, "ice": 3})
        assert read(source).dtype == "float64"
        assert 2**24 + 1 in read(source)

    def test_one_source_serves_two_grids(self):
        source = classes([square(2, 2, 6)])
        shifted = grid_at(SHAPE, shift=(1, 1))
        first, other = read(source), read(source, shifted)
        np.testing.assert_array_equal(first[:, 1:, 1:], other[:, :-1, :-1])

    def test_polygons_in_degrees_are_brought_into_the_grids_crs(self):
        frame = frame_of([square(2, 2, 6)]).to_crs("EPSG:4674")
        assert read(ClassPolygons(frame, 1)).sum() == 36


class TestRefused:
    POLYGONS = (square(2, 2, 3), square(9, 9, 3))

    def of(self, frame=None, kinds=ICE, column="kind", **options):
        return ClassPolygons(
            kinds_of(self.POLYGONS) if frame is None else frame, kinds, column=column, **options
        )

    def test_an_unknown_rule(self):
        with pytest.raises(
            SpecError, match="^rule must be one of majority, centre, all_touched. R"
        ):
            self.of(rule="center")

    @pytest.mark.parametrize("code", [None, float("nan"), 1.5, 1.0, True, "ice"])
    def test_a_code_that_is_no_whole_number(self, code):
        message = r"^A class code is a whole number, and nodata \(NaN\) is never a class. Received"
        with pytest.raises(SpecError, match=message):
            self.of(kinds={"debris": code, "ice": 2})
        if code is not None:
            with pytest.raises(SpecError, match=message):
                self.of(background=code)

    @pytest.mark.parametrize(("kinds", "column"), [(1, "kind"), (ICE, None), ({}, "kind")])
    def test_a_mapping_without_a_column_and_a_column_without_a_mapping(self, kinds, column):
        with pytest.raises(
            SpecError, match="^Give a class code for all polygons, or a column= and"
        ):
            self.of(kinds=kinds, column=column)

    @pytest.mark.parametrize("priority", [(1,), (1, 2, 3), (1, 1), (1, 1, 2)])
    def test_a_priority_that_does_not_name_every_class_once(self, priority):
        with pytest.raises(
            SpecError, match="^priority must name every class .* once: 1, 2. Receiv"
        ):
            self.of(priority=priority)

    def test_a_priority_that_is_no_list_and_polygons_that_are_no_frame(self):
        with pytest.raises(SpecError, match="^priority is a tuple of class codes. Received 1"):
            classes([square(2, 2, 4)], priority=1)
        with pytest.raises(PolygonError, match="^A GeoDataFrame of polygons was expected. Receiv"):
            ClassPolygons([square(2, 2, 4)], 1)

    def test_an_unknown_column(self):
        with pytest.raises(PolygonError, match="^There is no column 'type'. There are: kind, geom"):
            self.of(column="type")

    def test_missing_values(self):
        frame = kinds_of(self.POLYGONS)
        frame.loc[1, "kind"] = None
        with pytest.raises(
            PolygonError, match="class of every polygon. 1 of 2 values are missing, "
        ):
            self.of(frame)

    def test_values_of_no_class_by_name(self):
        frame = kinds_of(self.POLYGONS, ("snow", "ice"))
        with pytest.raises(
            PolygonError, match="^Column 'kind' holds 'snow', to which no class is "
        ):
            self.of(frame)
        many = kinds_of([square(i, 2, 1) for i in range(9)], "abcdefghi")
        with pytest.raises(PolygonError, match="'a', 'b', 'c', 'd', 'e' and 4 more, to which"):
            self.of(many)

    def test_a_crs_that_is_missing_or_of_an_unknown_datum(self):
        frame = kinds_of(self.POLYGONS)
        with pytest.raises(PolygonError, match="does not say its CRS"):
            self.of(frame.set_crs(None, allow_override=True))
        unknown = "+proj=utm +zone=25 +south +ellps=GRS80 +units=m"
        with pytest.raises(PolygonError, match="names no known datum"):
            self.of(frame.set_crs(unknown, allow_override=True))
        with pytest.raises(PolygonError, match="^'The extent' does not say its CRS"):
            self.of(extent=frame.set_crs(None, allow_override=True))

    def test_an_invalid_polygon(self):
        bow = shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)])
        with pytest.raises(PolygonError, match="1 of 2 geometries are invalid"):
            self.of(kinds_of([square(9, 9, 3), bow]))

    @pytest.mark.parametrize("part", ["polygons", "extent"])
    def test_polygons_off_the_grid(self, part):
        far = kinds_of([square(500, 500, 3)])
        source = self.of(far) if part == "polygons" else self.of(extent=far)
        with pytest.raises(PolygonError, match="^None of the 1 polygons meets the grid"):
            source.check(GRID)

    def test_shares_without_a_band(self):
        with pytest.raises(
            SpecError, match="^Give a band for all polygons, or a column= and a map"
        ):
            ClassShares(kinds_of(self.POLYGONS), "ice", column="kind")


def glacier(**changes):
    fields = {
        "dtype": "uint8",
        "nodata": 255,
        "classes": ((0, "none"), (1, "debris"), (2, "clean ice")),
    }
    return cube.LayerSpec(name="glacier", **(fields | changes))


def made(layer, *, region=32):
    spec = cube.CubeSpec(
        grid=GRID,
        calendar=cube.years(2000),
        layers=(layer,),
        layout=cube.LayoutSpec(chunk=16, region=region, codec="none"),
    )
    return cube.create(f"memory://rasterising{next(_numbers)}", spec)


class TestIngest:
    @pytest.mark.parametrize("region", [16, 32, 64])
    def test_classes_become_a_layer_for_any_size_of_region(self, region):
        url = made(glacier(), region=region)
        source = classes(partition(SHAPE, seed=2)[:9], extent=frame_of([square(-9, -9, 50)]))
        cube.ingest(url, "glacier", {"2000": source})
        with cube.open(url) as dataset:
            stored = dataset.glacier[0].to_numpy()
            assert dataset.glacier.attrs["flag_meanings"].split()[0] == "none"
        np.testing.assert_array_equal(stored, np.nan_to_num(read(source)[0], nan=255))
        assert set(np.unique(stored)) == {0, 1, 2, 255}

    def test_running_it_again_with_other_polygons_is_refused(self):
        url = made(glacier())
        cube.ingest(url, "glacier", {"2000": classes([square(2, 2, 6)])})
        with pytest.raises(SourceError, match="'glacier'"):
            cube.ingest(url, "glacier", {"2000": classes([square(2, 3, 6)])})

    def test_shares_become_a_stack(self):
        url = f"memory://rasterising{next(_numbers)}"
        stack = cube.StackSpec(name="cover", bands=("debris", "ice"), dtype="float32")
        spec = cube.CubeSpec(
            grid=GRID,
            calendar=cube.years(2000),
            stacks=(stack,),
            layout=cube.LayoutSpec(chunk=16, region=32, codec="none"),
        )
        source = ClassShares(
            kinds_of(partition(SHAPE, seed=2)), {"debris": "debris", "ice": "ice"}, column="kind"
        )
        cube.ingest(cube.create(url, spec), "cover", {"2000": source})
        with cube.open(url) as dataset:
            np.testing.assert_array_equal(dataset.cover[0].to_numpy(), read(source))
            np.testing.assert_allclose(dataset.cover[0].sum("cover_band"), 1, atol=1e-6)


class TestRoofs:
    """Footprints in a GeoJSON without a CRS, so in degrees, and a mask of roofs."""

    @pytest.fixture
    def roofs(self, tmp_path):
        frame = frame_of([square(4.1, 6.2, 5), square(20, 21, 7.4)]).to_crs("EPSG:4326")
        features = [
            {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(shape)}
            for shape in frame.geometry
        ]
        path = tmp_path / "roofs.geojson"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        assert "crs" not in path.read_text()
        return gpd.read_file(path)

    @pytest.mark.parametrize("rule", ["majority", "centre", "all_touched"])
    def test_they_lie_on_a_projected_grid_where_they_should(self, roofs, rule):
        found = read(ClassPolygons(roofs, 1, rule=rule))[0]
        area = areas([square(4.1, 6.2, 5), square(20, 21, 7.4)]).sum(axis=0)
        np.testing.assert_array_equal(found[area > 0.999], 1)
        np.testing.assert_array_equal(found[area == 0], 0)
        assert 25 + 49 <= found.sum() <= 36 + 64

    def test_a_foreground_that_equals_nodata_is_refused_by_the_layer(self):
        with pytest.raises(SpecError, match="nodata is never a class. Received nodata=1 among"):
            glacier(nodata=1, classes=((0, "other"), (1, "roof")))

    def test_and_is_never_stored_as_nodata_where_the_layer_declares_no_classes(self, roofs):
        url = made(glacier(nodata=1, classes=()))
        with pytest.raises(CubeError):
            cube.ingest(url, "glacier", {"2000": ClassPolygons(roofs, 1)})
        with cube.open(url) as dataset:
            assert not (dataset.glacier == 1).any()

    def test_a_masked_read_of_the_roofs_finds_every_roof(self, roofs):
        url = made(glacier(classes=((0, "other"), (1, "roof"))))
        source = ClassPolygons(roofs, 1)
        cube.ingest(url, "glacier", {"2000": source})
        with cube.open(url) as dataset:
            stored = dataset.glacier[0]
            assert int((stored == 1).sum()) == int(read(source).sum()) > 70
            assert int((stored == 0).sum()) == stored.size - int((stored == 1).sum())
