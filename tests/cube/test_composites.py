"""Composites: what NumPy makes of all scenes read whole, in any box, order, memory and reader."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs.stacking import StackReader
from cube import reducing
from cube.composites import METHODS, STACKED, Composite, cut
from cube.counting import ClearCount
from cube.errors import PartialError, SourceError, SpecError
from cube.quality import Flag, QualityBits, QualityClasses
from cube.scenes import Scene, SceneBand, Source
from cube.scoring import CloudCoverScore, CloudDistanceScore, DayScore, IndexScore, WeightedScore
from tests.cube import composing
from tests.cube.composing import BANDS, GRID, SHAPE, observations
from tests.rasters import UTM, grid_at, positions, whole, write_tiff

QUALITIES = {
    "none": None,
    "classes": QualityClasses(band="qa", keep=(0, 4)),
    "bits": QualityBits(band="qa", reject=((Flag(bit=0), Flag(bit=2)), (Flag(bit=1),))),
    "grown": QualityClasses(band="qa", keep=(0, 1, 2, 3, 4, 5), grow_px=2),
    "complete": QualityBits(band="qa", reject=((Flag(bit=2),),), complete=True, grow_px=1),
}
NDVI = IndexScore(index="NDVI")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return composing.make_scenes(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def stacks(scenes):
    """Name of a quality to all clear observations, read whole."""
    return {name: observations(scenes, quality) for name, quality in QUALITIES.items()}


def composite(scenes, method="median", **facts):
    score = NDVI if method == "best" else None
    return Composite(scenes=scenes, bands=BANDS, method=method, **{"score": score, **facts})


def tight(source, memory_bytes):
    """The same with less memory than is allowed, so that small boxes are cut too."""
    made = replace(source)
    object.__setattr__(made, "memory_bytes", memory_bytes)
    return made


def read(source, grid=GRID):
    return source.read(grid, *whole(grid))


def assert_same_bits(found, expected):
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(
        np.ascontiguousarray(found).view("uint32"), np.ascontiguousarray(expected).view("uint32")
    )


def quietly(reduce, stack, **named):
    """A reduction of NumPy, without its warning where nothing was observed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return reduce(stack, axis=0, **named)


def ndvi_of(stack):
    red, nir = (stack[:, BANDS.index(name)] for name in ("red", "nir"))
    with np.errstate(all="ignore"):
        found = ((nir - red) / (nir + red)).astype("float32")
    return np.where(np.isfinite(found), found, np.nan)


PLAIN = {
    "median": lambda stack: quietly(np.nanmedian, stack.astype("float32")) + np.float32(0),
    "first": lambda stack: composing.chosen(stack, composing.first_places(stack)),
    "last": lambda stack: composing.chosen(stack, composing.first_places(stack, last=True)),
    "medoid": lambda stack: composing.chosen(stack, composing.medoid_places(stack)),
    "best": lambda stack: composing.chosen(stack, composing.best_places(stack, ndvi_of(stack))),
}
"""Method to the whole result, by loops over pixels or NumPy's own."""


@pytest.mark.parametrize("quality", QUALITIES)
class TestMethods:
    @pytest.mark.parametrize("method", PLAIN)
    def test_it_is_what_a_plain_computation_over_all_scenes_gives(
        self, scenes, stacks, method, quality
    ):
        found = read(composite(scenes, method, quality=QUALITIES[quality]))
        expected = PLAIN[method](stacks[quality]).astype("float32")
        assert np.isfinite(expected).mean() > 0.3
        np.testing.assert_array_equal(found, expected)

    def test_the_mean_is_the_sum_over_the_number(self, scenes, stacks, quality):
        found = read(composite(scenes, "mean", quality=QUALITIES[quality]))
        expected = quietly(np.nanmean, stacks[quality])
        np.testing.assert_allclose(found, expected, rtol=1e-7)

    def test_the_geometric_median_is_nearer_to_all_than_any_other_point(
        self, scenes, stacks, quality
    ):
        found = read(composite(scenes, "geometric_median", quality=QUALITIES[quality]))
        stack = composing.whole_only(stacks[quality])
        assert_same_bits(found, reducing.geometric_median(stack.astype("float32")))
        rivals = [PLAIN["medoid"](stacks[quality]), quietly(np.nanmedian, stack)]
        for rival in rivals:
            here = np.isfinite(found).all(axis=0)
            np.testing.assert_array_equal(here, np.isfinite(rival).all(axis=0))
            assert (away(stack, found) <= away(stack, rival) * (1 + 1e-3))[here].all()

    def test_the_count_is_the_number_of_scenes_with_all_bands(self, scenes, stacks, quality):
        for method in METHODS:
            count = ClearCount(of=composite(scenes, method, quality=QUALITIES[quality]))
            expected = (~np.isnan(stacks[quality]).any(axis=1)).sum(axis=0)
            np.testing.assert_array_equal(read(count), expected[None].astype("float32"))


def away(stack, point):
    """Sum of distances of observations to a point, (y, x)."""
    return np.nansum(np.sqrt(((stack - point) ** 2).sum(axis=1)), axis=0)


spans = st.tuples(
    st.tuples(st.integers(-5, SHAPE[0] + 4), st.integers(1, SHAPE[0])),
    st.tuples(st.integers(-5, SHAPE[1] + 4), st.integers(1, SHAPE[1])),
).map(lambda two: tuple((start, start + size) for start, size in two))
AROUND = (-5, 2 * SHAPE[0] + 4), (-5, 2 * SHAPE[1] + 4)


@pytest.fixture(scope="module")
def everything(scenes):
    """Method and name of a quality to one read of all that any box may hold."""
    return {
        (method, name): composite(scenes, method, quality=QUALITIES[name]).read(GRID, *AROUND)
        for method in METHODS
        for name in ("none", "complete")
    }


class TestAnyBox:
    @settings(max_examples=25)
    @given(
        box=spans,
        method=st.sampled_from(METHODS),
        quality=st.sampled_from(["none", "complete"]),
        memory_bytes=st.sampled_from([1, 10_000, 60_000, 10**6]),
    )
    def test_any_box_and_any_memory_give_the_same_bits(
        self, scenes, everything, box, method, quality, memory_bytes
    ):
        source = tight(composite(scenes, method, quality=QUALITIES[quality]), memory_bytes)
        rows, cols = box
        # A box of single pixels is read once for each.
        if memory_bytes == 1:
            rows, cols = (rows[0], min(rows[1], rows[0] + 6)), (cols[0], min(cols[1], cols[0] + 6))
        (top, _), (left, _) = AROUND
        part = slice(rows[0] - top, rows[1] - top), slice(cols[0] - left, cols[1] - left)
        expected = everything[method, quality][(slice(None), *part)]
        assert_same_bits(source.read(GRID, rows, cols), expected)

    @pytest.mark.parametrize("method", METHODS)
    def test_the_order_in_which_scenes_are_given_says_nothing(self, scenes, method):
        quality = QUALITIES["grown"]
        expected = composite(scenes, method, quality=quality)
        for seed in range(3):
            mixed = np.random.default_rng(seed).permutation(len(scenes))
            found = composite(tuple(scenes[i] for i in mixed), method, quality=quality)
            assert found.describe() == expected.describe()
            assert_same_bits(read(found), read(expected))

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("memory_bytes", [100_000, 10**6])
    def test_the_reader_says_nothing(self, scenes, method, memory_bytes):
        files = composite(scenes, method, quality=QUALITIES["complete"])
        stacked = replace(files, reader=StackReader())
        assert files.describe() == stacked.describe()
        assert_same_bits(read(tight(stacked, memory_bytes)), read(files))

    def test_a_pickled_one_gives_the_same(self, scenes):
        for method in METHODS:
            source = composite(scenes, method, quality=QUALITIES["bits"])
            expected = read(source)
            again = pickle.loads(pickle.dumps(source))
            assert again == source
            assert_same_bits(read(again), expected)

    def test_another_grid_after_the_first_finds_its_own_scenes(self, scenes):
        source = composite(scenes)
        first = read(source)
        other = grid_at((20, 20), shift=(3990, 0))
        assert np.isfinite(read(source, other)).any()
        assert_same_bits(read(source), first)

    @given(
        box=spans,
        pixels=st.integers(1, 500),
    )
    def test_a_box_is_cut_into_parts_that_cover_it_once(self, box, pixels):
        (top, bottom), (left, right) = box
        counted = np.zeros((bottom - top, right - left), int)
        for rows, cols in cut(box, pixels):
            assert 0 < (rows[1] - rows[0]) * (cols[1] - cols[0]) <= pixels
            counted[rows[0] - top : rows[1] - top, cols[0] - left : cols[1] - left] += 1
        assert (counted == 1).all()

    @pytest.mark.parametrize("method", ["median", "mean", "geometric_median", "medoid", "first"])
    def test_a_zero_has_one_sign_however_many_scenes_are_near(self, tmp_path, method):
        grid = grid_at((20, 60))
        values = np.where(np.random.default_rng(0).random(grid.shape) < 0.5, -0.0, 1.0)
        made = []
        for i, width in enumerate((60, 30)):
            own = grid[:, :width]
            path = write_tiff(tmp_path / f"{i}.tif", values[:, :width].astype("float32"), grid=own)
            layers, bounds = (SceneBand(name="a", href=path),), tuple(own.boundingbox.bbox)
            made.append(Scene(id=str(i), layers=layers, crs=UTM, nodata=None, footprint=bounds))
        source = Composite(scenes=tuple(made), bands=("a",), method=method)
        part = source.read(grid, (0, 20), (45, 60))
        everything = source.read(grid, *whole(grid))[..., 45:]
        np.testing.assert_array_equal(part.view("uint32"), everything.copy().view("uint32"))


class TestNothing:
    @pytest.mark.parametrize("method", METHODS)
    def test_a_box_that_no_scene_meets_is_not_observed(self, scenes, method):
        only = tuple(scene for scene in scenes if scene.id == "far")
        source = composite(only, method, quality=QUALITIES["classes"])
        found = read(source)
        assert found.shape == (3, *SHAPE)
        assert np.isnan(found).all()
        assert not read(ClearCount(of=source)).any()

    @pytest.mark.parametrize("method", METHODS)
    def test_nor_is_one_where_nothing_is_clear(self, scenes, method):
        never = QualityBits(
            band="qa", reject=((Flag(bit=0),), (Flag(bit=1),), (Flag(bit=2),)), grow_px=30
        )
        source = composite(scenes, method, quality=never)
        assert np.isnan(read(source)).all()
        assert not read(ClearCount(of=source)).any()

    def test_files_of_scenes_far_from_a_box_are_not_opened(self, scenes):
        gone = replace(
            scenes[-1],
            id="gone",
            layers=tuple(replace(one, href="/nowhere.tif") for one in scenes[-1].layers),
        )
        assert_same_bits(read(composite((*scenes, gone))), read(composite(scenes)))

    def test_one_scene_is_itself(self, scenes):
        (scene,) = (scene for scene in scenes if scene.id == "c")
        for method in METHODS:
            found = read(composite((scene,), method))
            expected = scene.select(BANDS).read(GRID, *whole(GRID))
            if method not in ("median", "mean"):
                expected = composing.whole_only(expected[None])[0]
            # The score of "best" is NaN where both bands are nodata, which changes nothing here.
            np.testing.assert_array_equal(found, expected)


GRIDS = {
    "EPSG:4326": grid_at((120, 4000), pixel_m=0.005, crs="EPSG:4326", corner=(170.0, -16.0)),
    "EPSG:3832": grid_at((70, 240), pixel_m=900.0, crs="EPSG:3832", corner=(3.2e6, -1.79e6)),
    "EPSG:3338": grid_at((120, 200), pixel_m=900.0, crs="EPSG:3338", corner=(-1.83e6, 6.1e5)),
}
NORTH = 5.78e6, (("EPSG:32601", 2.5e5), ("EPSG:32660", 6.5e5))
SOUTH = 8.2e6, (("EPSG:32701", 1.3e5), ("EPSG:32760", 7.7e5))


class TestGlobe:
    """Scenes on both sides of the antimeridian: each pixel must hold its own place."""

    def scenes(self, folder, grid):
        """One of zone 1 and one of zone 60, over 180 degrees both; longitude and latitude."""
        import pyproj

        top, zones = NORTH if str(grid.crs) == "EPSG:3338" else SOUTH
        for crs, left in zones:
            place = grid_at((60, 100), pixel_m=1000.0, crs=crs, corner=(left, top))
            cols, rows = np.meshgrid(np.arange(100) + 0.5, np.arange(60) + 0.5)
            x, y = place.transform @ (cols, rows)
            lon, lat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
            assert (lon > 0).any()
            assert (lon < 0).any()
            path = write_tiff(folder / f"{crs[5:]}.tif", np.stack([lon % 360, lat]), grid=place)
            box = place.boundingbox
            yield Scene(
                id=crs,
                layers=tuple(
                    SceneBand(name=name, href=path, index=i)
                    for i, name in enumerate(("lon", "lat"), 1)
                ),
                crs=crs,
                nodata=None,
                resampling="bilinear",
                footprint=(box.left, box.bottom, box.right, box.top),
            )

    @pytest.mark.parametrize("crs", GRIDS)
    def test_scenes_over_the_antimeridian_lie_where_they_are(self, tmp_path, crs):
        import pyproj

        grid = GRIDS[crs]
        source = Composite(
            scenes=tuple(self.scenes(tmp_path, grid)), bands=("lon", "lat"), dtype="float64"
        )
        source.check(grid)
        found = read(source, grid)
        height, width = grid.shape
        cols, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        onto = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        lon, lat = onto.transform(*(grid.transform @ (cols, rows)))
        seen = np.isfinite(found[0])
        for values, truth in zip(found, (lon % 360, lat), strict=True):
            missed = np.abs(values - truth)[seen]
            # At the rim of a scene the outermost pixel reaches on.
            assert missed.max() < 0.01
            assert (missed < 2e-5).mean() > 0.9
        assert (seen & (lon % 360 < 180)).any()
        assert (seen & (lon % 360 > 180)).any()
        # What both saw, one after the other, is what the composite sees.
        each = [np.isfinite(scene.read(grid, *whole(grid))[0]) for scene in source.scenes]
        np.testing.assert_array_equal(seen, each[0] | each[1])
        for rows, cols in [((0, 30), (0, width // 3)), ((20, 60), (width // 3, width))]:
            part = found[:, slice(*rows), slice(*cols)]
            np.testing.assert_array_equal(source.read(grid, rows, cols), part)


def broken(scene, folder, *, damaged=(), missing=()):
    """A scene some of whose files are cut short, or not there."""
    layers = []
    for layer in scene.layers:
        href = layer.href
        if layer.name in damaged:
            content = Path(href).read_bytes()
            torn = folder / f"{scene.id}_{layer.name}.tif"
            torn.write_bytes(content[: len(content) // 3])
            href = str(torn)
        if layer.name in missing:
            href = str(folder / f"{scene.id}_{layer.name}_gone.tif")
        layers.append(replace(layer, href=href))
    return replace(scene, layers=tuple(layers))


READERS = {"files": {}, "stackstac": {"reader": StackReader()}}


class TestLost:
    def lost(self, source, grid=GRID):
        with pytest.raises(PartialError) as caught:
            read(source, grid)
        assert "\n" not in str(caught.value)
        return caught.value

    @pytest.mark.parametrize("reader", READERS)
    @pytest.mark.parametrize("memory_bytes", [15_000, 10**6])
    @pytest.mark.parametrize("method", METHODS)
    def test_all_lost_scenes_are_named_with_their_reasons(
        self, scenes, tmp_path, method, memory_bytes, reader
    ):
        a, b, c, *others = scenes
        torn = broken(a, tmp_path, damaged=("red", "green", "nir"))
        gone = broken(b, tmp_path, missing=("qa",))
        away = broken(c, tmp_path, missing=("nir",))
        source = composite(
            (torn, gone, away, *others),
            method,
            quality=QUALITIES["classes"],
            **READERS[reader],
        )
        error = self.lost(tight(source, memory_bytes))
        assert set(error.scenes) == {"a", "b", "c"}
        assert "a_red.tif" in error.scenes["a"]
        assert "b_qa_gone.tif" in error.scenes["b"]
        assert "No such file" in error.scenes["b"]
        assert "c_nir_gone.tif" in error.scenes["c"]
        assert str(error).startswith("lost scene 'b': ")
        assert str(error).endswith(", and 2 more.")

    def test_a_count_loses_them_too(self, scenes, tmp_path):
        a, *others = scenes
        source = composite((broken(a, tmp_path, missing=("red",)), *others))
        assert set(self.lost(ClearCount(of=source)).scenes) == {"a"}

    def test_a_box_that_the_lost_one_does_not_meet_is_whole(self, scenes, tmp_path):
        far = broken(scenes[-1], tmp_path, missing=BANDS)
        assert_same_bits(read(composite((*scenes[:-1], far))), read(composite(scenes)))

    def test_the_error_pickles_with_its_scenes(self, scenes, tmp_path):
        source = composite((broken(scenes[0], tmp_path, missing=("red",)),))
        error = self.lost(source)
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.scenes) == (str(error), error.scenes)


class TestScored:
    def scored(self, scenes, stack, score, plain):
        """Whether the best pixels are those that plain scores, (scene, y, x), choose."""
        found = read(composite(scenes, "best", score=score, quality=QUALITIES["classes"]))
        expected = composing.chosen(stack, composing.best_places(stack, plain))
        np.testing.assert_array_equal(found, expected.astype("float32"))
        return found

    def test_the_lowest_index_is_as_good_as_the_highest(self, scenes, stacks):
        stack = stacks["classes"]
        high = self.scored(scenes, stack, NDVI, ndvi_of(stack))
        low = self.scored(scenes, stack, IndexScore(index="NDVI", lowest=True), -ndvi_of(stack))
        here = np.isfinite(high).all(axis=0) & np.isfinite(low).all(axis=0)
        found = [ndvi_of(values[None])[0][here] for values in (high, low)]
        assert (found[0] >= found[1]).all()
        assert (found[0] > found[1]).mean() > 0.3

    def test_a_score_may_need_bands_that_are_not_given(self, scenes, stacks):
        found = read(replace(composite(scenes, "best"), bands=("green",)))
        stack = stacks["none"]
        scores = np.where(np.isnan(stack).any(axis=1), np.nan, ndvi_of(stack))
        places = composing.best_places(stack[:, 1:2], scores)
        expected = composing.chosen(stack[:, 1:2], places)
        np.testing.assert_array_equal(found, expected.astype("float32"))

    def test_the_day_nearest_to_the_new_year_may_lie_before_or_after_it(self, scenes, stacks):
        def apart(scene, day):
            days = np.datetime64(f"2018-{day}") - np.datetime64(scene.time[:10])
            return min(abs(int(days.astype(int)) + shift) for shift in (-365, 0, 365))

        for day in ("01-01", "12-31", "06-15"):
            plain = [np.full(SHAPE, -apart(s, day)) for s in composing.in_order(scenes)]
            self.scored(scenes, stacks["classes"], DayScore(day=day), np.stack(plain))

    def test_the_least_cloudy_scene(self, scenes, stacks):
        plain = [np.full(SHAPE, -s.cloud_cover) for s in composing.in_order(scenes)]
        self.scored(scenes, stacks["classes"], CloudCoverScore(), np.stack(plain))

    def cloud_distances(self, scenes, full_px, quality):
        from scipy.ndimage import distance_transform_edt

        wide = [composing.clear_of(s, quality) for s in composing.in_order(scenes)]
        found = [distance_transform_edt(one) for one in wide]
        return np.minimum(composing.inner(np.stack(found)), full_px) / full_px

    @pytest.mark.parametrize("full_px", [1, 4, 25])
    def test_the_pixel_farthest_from_clouds_without_seams(self, scenes, stacks, full_px):
        score, quality = CloudDistanceScore(full_px=full_px), QUALITIES["classes"]
        plain = self.cloud_distances(scenes, full_px, quality)
        found = self.scored(scenes, stacks["classes"], score, plain)
        source = composite(scenes, "best", score=score, quality=quality)
        for rows, cols in [((0, 9), (0, 49)), ((9, 20), (13, 14)), ((20, 37), (30, 49))]:
            part = tight(source, 2_000).read(GRID, rows, cols)
            assert_same_bits(part, found[:, slice(*rows), slice(*cols)])

    def test_clouds_that_grow_are_nearer(self, scenes, stacks):
        quality = QUALITIES["grown"]
        plain = self.cloud_distances(scenes, 6, quality)
        expected = composing.chosen(stacks["grown"], composing.best_places(stacks["grown"], plain))
        score = CloudDistanceScore(full_px=6)
        found = read(composite(scenes, "best", score=score, quality=quality))
        np.testing.assert_array_equal(found, expected.astype("float32"))

    def test_scores_add_up_by_their_weights(self, scenes, stacks):
        parts = ((NDVI, 1.0), (CloudDistanceScore(full_px=5), 0.5), (CloudCoverScore(), -0.25))
        distances = self.cloud_distances(scenes, 5, QUALITIES["classes"])
        covers = np.array([1 - s.cloud_cover for s in composing.in_order(scenes)])
        plain = ndvi_of(stacks["classes"]) + 0.5 * distances - 0.25 * covers[:, None, None]
        self.scored(scenes, stacks["classes"], WeightedScore(parts=parts), plain)


class TestDtype:
    def test_numbers_of_more_than_seven_digits_need_float64(self, tmp_path):
        values = (positions((12, 15)) + 2.0**30).astype("float64")
        path = write_tiff(tmp_path / "big.tif", values, nodata=-1)
        scene = Scene(id="big", layers=(SceneBand(name="n", href=path),), crs=UTM, nodata=-1)
        grid = grid_at((12, 15))
        for method in ("median", "mean", "first"):
            for reader in ({}, {"reader": StackReader(dtype="float64")}):
                one = Composite(scenes=(scene,), bands=("n",), method=method, dtype="float64")
                found = read(replace(one, **reader), grid)
                assert found.dtype == "float64"
                np.testing.assert_array_equal(found[0], values)
        assert read(Composite(scenes=(scene,), bands=("n",)), grid).dtype == "float32"

    def test_it_is_told_apart_in_the_description(self, scenes):
        assert composite(scenes, dtype="float64").describe()["dtype"] == "float64"
        assert "dtype" not in composite(scenes).describe()


class TestDescription:
    def test_it_says_what_decides_the_values_and_no_more(self, scenes):
        source = composite(scenes, quality=QUALITIES["bits"])
        facts = source.describe()
        assert facts["composite"] == "median"
        assert facts["bands"] == list(BANDS)
        assert facts["scenes"] == len(scenes)
        assert facts["ids"] == [s.id for s in composing.in_order(scenes)]
        assert (facts["first"], facts["last"]) == ("2018-01-05T10:00:00Z", "2018-12-30T00:00:00Z")
        for same in (replace(source, memory_bytes=10**7), replace(source, reader=StackReader())):
            assert same.describe() == facts

    def test_anything_else_changes_it(self, scenes):
        source = composite(scenes, quality=QUALITIES["bits"])
        others = [
            replace(source, scenes=scenes[1:]),
            replace(source, scenes=(replace(scenes[0], scale=2.0), *scenes[1:])),
            replace(source, method="mean"),
            replace(source, bands=BANDS[:2]),
            replace(source, quality=QUALITIES["classes"]),
            replace(source, method="best", score=NDVI),
            replace(source, method="best", score=CloudCoverScore()),
            replace(
                source,
                method="best",
                score=CloudCoverScore(),
                scenes=(replace(scenes[0], cloud_cover=0.99), *scenes[1:]),
            ),
        ]
        told = [str(one.describe()) for one in (source, *others)]
        assert len(set(told)) == len(told)

    def test_a_band_that_is_not_read_says_nothing(self, scenes):
        more = tuple(
            replace(s, layers=(*s.layers, SceneBand(name="blue", href="b.tif"))) for s in scenes
        )
        assert composite(more).describe() == composite(scenes).describe()

    def test_of_very_many_scenes_only_a_digest_is_told(self, scenes):
        many = tuple(replace(scenes[0], id=f"s{i}") for i in range(200))
        facts = composite(many).describe()
        assert "ids" not in facts
        assert facts["scenes"] == 200
        assert len(str(facts)) < 500
        other = composite((*many[:-1], replace(many[-1], scale=2.0))).describe()
        assert facts["scenes_digest"] != other["scenes_digest"]

    def test_a_count_describes_what_it_counts(self, scenes):
        source = composite(scenes)
        count = ClearCount(of=source)
        assert count.describe() == {"count": "clear", "of": source.describe()}
        assert (count.bands, count.units) == (("clear_observations",), ("1",))

    def test_units_are_those_of_the_scenes(self, scenes):
        layers = tuple(
            replace(layer, units="K" if layer.name == "nir" else "") for layer in scenes[0].layers
        )
        assert composite((replace(scenes[0], layers=layers),)).units == ("", "", "K")

    def test_it_is_a_source(self, scenes):
        assert isinstance(composite(scenes), Source)
        assert isinstance(ClearCount(of=composite(scenes)), Source)


class TestRefusals:
    @pytest.mark.parametrize(
        ("facts", "match"),
        [
            ({"method": "mode"}, "method is one of median, geometric_median, .*'mode'"),
            ({"method": "best"}, "takes a score if, and only if, its method is 'best'"),
            ({"method": "median", "score": NDVI}, "a score if, and only if, its method is 'best'"),
            ({"dtype": "int16"}, "dtype must be float32 or float64. Received 'int16'"),
            ({"memory_bytes": 999_999}, "memory_bytes must be 1,000,000 or more. Received 999999"),
            (
                {"method": "best", "score": CloudDistanceScore()},
                "A score by the distance to clouds needs quality=",
            ),
        ],
    )
    def test_what_does_not_go_together(self, scenes, facts, match):
        with pytest.raises(SpecError, match=match):
            Composite(**{"scenes": scenes, "bands": BANDS, **facts})

    @pytest.mark.parametrize(
        ("bands", "match"),
        [
            ((), r"Bands must be named, once each. Received \(\)"),
            (("red", "red"), "Bands must be named, once each"),
            (("red", "blue"), "Scene 'b' has no band 'blue'. It has: red, green, nir, qa"),
        ],
    )
    def test_bands_that_scenes_lack(self, scenes, bands, match):
        with pytest.raises(SourceError, match=match):
            Composite(scenes=scenes, bands=bands)

    def test_no_scene(self):
        with pytest.raises(SourceError, match="needs one scene or more. Received none"):
            Composite(scenes=(), bands=BANDS)

    def test_two_scenes_of_one_id(self, scenes):
        with pytest.raises(SourceError, match="ids of their own. Received 'a' twice"):
            composite((*scenes, scenes[0]))

    def test_a_band_of_the_score_or_of_quality_that_is_not_there(self, scenes):
        with pytest.raises(SourceError, match="has no band 'swir1'"):
            composite(scenes, "best", score=IndexScore(index="NDMI"))
        with pytest.raises(SourceError, match="has no band 'scl'"):
            composite(scenes, quality=QualityClasses(band="scl", keep=(4,)))

    def test_a_quality_band_that_is_resampled(self, scenes):
        layers = tuple(replace(layer, resampling="bilinear") for layer in scenes[0].layers)
        smooth = replace(scenes[0], layers=layers)
        with pytest.raises(
            SourceError, match="'a': its quality band 'qa' is resampled as bilinear"
        ):
            composite((smooth, *scenes[1:]), quality=QUALITIES["bits"])
        composite((smooth, *scenes[1:]))

    def test_bands_in_two_units(self, scenes):
        layers = tuple(replace(layer, units="K") for layer in scenes[0].layers)
        other = replace(scenes[0], layers=layers)
        with pytest.raises(
            SourceError,
            match="Band 'red' is in no unit in scene 'b' and in K in 'a'; give them two",
        ):
            composite((other, *scenes[1:]))

    def test_scenes_that_all_lie_elsewhere(self, scenes):
        composite(scenes).check(GRID)
        with pytest.raises(SourceError, match="'far' does not meet the grid"):
            composite(scenes[-1:]).check(GRID)

    def test_a_scene_whose_crs_is_none(self, scenes):
        odd = replace(scenes[0], crs="EPSG:1")
        with pytest.raises(SourceError, match="'a': its CRS cannot be used"):
            composite((odd, *scenes[1:])).check(GRID)

    def test_who_looks_further_than_scenes_are_read(self, scenes):
        far = QualityClasses(band="qa", keep=(0,), grow_px=300)
        with pytest.raises(SpecError, match="may look 256 pixels around a box"):
            composite(scenes, quality=far)


class TestNeeds:
    def test_what_is_read_grows_with_the_scenes_that_are_near(self, scenes):
        source = composite(scenes, quality=QUALITIES["bits"])
        needs = source.needs(GRID, *whole(GRID))
        near = len(source.near(GRID, *whole(GRID)))
        assert near == len(scenes) - 1
        assert needs.read_bytes == near * 4 * 4 * SHAPE[0] * SHAPE[1]
        assert needs.opens == near * 4
        assert ClearCount(of=source).needs(GRID, *whole(GRID)) == needs

    @pytest.mark.parametrize("method", STACKED)
    def test_memory_does_not_grow_with_the_scenes_beyond_what_was_given(self, scenes, method):
        def peak(count):
            many = tuple(replace(scenes[0], id=f"s{i}") for i in range(count))
            source = composite(many, method, memory_bytes=10**6)
            return source.needs(GRID, *whole(GRID)).peak_bytes

        assert peak(10) < peak(100) == peak(1000)
