"""A rule says what numbers mean; the pixels agree, contradict it, or cannot tell."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from catalogs.geotiff import geotiff
from catalogs.manifest import Manifest
from catalogs.radiometry import (
    LandsatCollection2,
    Sentinel2,
    TopCodes,
    examine,
    examine_all,
    offset_in,
)
from catalogs.samples import sample, windows
from cube.errors import SourceError, SpecError
from cube.scenes import Scene, SceneBand
from tests.rasters import UTM, grid_at, positions, whole, write_tiff

SHAPE = (240, 260)
OLD, NEW = Sentinel2(baseline="02.11"), Sentinel2(baseline="04.00")


def surface(low, high, *, seed=0, shape=SHAPE):
    """Reflectances spread evenly between two."""
    return np.random.default_rng(seed).uniform(low, high, shape)


def image(kind):
    """Reflectance of red, blue and swir2 over a kind of ground."""
    red, blue, swir2 = {
        "land": (surface(0.03, 0.30), surface(0.02, 0.15), surface(0.05, 0.30)),
        "desert": (surface(0.28, 0.45), surface(0.12, 0.20), surface(0.40, 0.60)),
        "cloud": (surface(0.50, 0.95), surface(0.55, 1.00), surface(0.30, 0.60)),
        "haze": (surface(0.10, 0.14), surface(0.11, 0.15), surface(0.13, 0.18)),
    }[kind]
    if kind == "land":
        for band in (red, blue, swir2):
            band[:, :40] = surface(0.002, 0.015, shape=(SHAPE[0], 40))  # a lake
    return {"red": red, "blue": blue, "swir2": swir2}


@pytest.fixture
def scene(tmp_path):
    """Makes a scene of stored numbers by band."""

    def make(numbers, *, id_="s", nodata=0, dtype="uint16", **options):
        stack = np.stack([np.round(n) if dtype == "uint16" else n for n in numbers.values()])
        path = write_tiff(tmp_path / f"{id_}.tif", stack.astype(dtype), nodata=nodata)
        return geotiff(path, bands=list(numbers), id=id_, nodata=nodata, **options)

    return make


def sentinel(kind, *, offset):
    return {band: 10_000 * values + offset for band, values in image(kind).items()}


class TestSamples:
    @given(height=st.integers(1, 3000), width=st.integers(1, 3000), sample_px=st.integers(1, 1024))
    def test_windows_lie_inside_apart_and_reach_every_edge(self, height, width, sample_px):
        found = list(windows((height, width), sample_px=sample_px))
        rows, cols = (sorted(set(spans)) for spans in zip(*found, strict=True))
        assert len(found) == len(rows) * len(cols)
        for spans, size in ((rows, height), (cols, width)):
            assert spans[0][0] == 0
            assert spans[-1][1] == size
            assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))

    def test_a_small_file_is_read_whole_without_its_nodata(self, tmp_path):
        values = positions((40, 50))
        path = write_tiff(tmp_path / "a.tif", values, nodata=1007)
        scene = geotiff(path, bands=["a"])
        found = sample(scene.band("a"), sample_px=512)
        assert sorted(found) == sorted(values[values != 1007])

    def test_a_large_file_is_read_in_part(self, tmp_path):
        values = positions((400, 500))
        path = write_tiff(tmp_path / "a.tif", values, nodata=-1)
        found = sample(geotiff(path, bands=["a"]).band("a"), sample_px=64)
        assert found.size == 64 * 64
        assert set(found) <= set(values.ravel())
        assert {0.0, values[-1, -1]} <= set(found)

    def test_nan_and_what_a_mask_leaves_out_are_not_observed(self, tmp_path):
        values = positions((40, 50))
        values[3] = np.nan
        path = write_tiff(tmp_path / "a.tif", values)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as target:
            target.write_mask(np.arange(50) % 2 * np.ones((40, 1), bool) > 0)
        found = sample(geotiff(path, bands=["a"]).band("a"), sample_px=512)
        assert found.size == 39 * 25
        assert np.isfinite(found).all()


class TestSentinel2:
    @pytest.mark.parametrize(
        ("offset", "rule", "verdict"),
        [
            (1000, NEW, "offset 1000 found in the pixels, as baseline 04.00 says"),
            (0, OLD, "no offset found in the pixels, as baseline 02.11 says"),
            (0, NEW, "no offset found in the pixels, which contradicts baseline 04.00"),
            (1000, OLD, "offset 1000 found in the pixels, which contradicts baseline 02.11"),
            (
                0,
                Sentinel2(baseline="05.10", removed=True),
                "no offset found in the pixels, as a provider that removed it says",
            ),
        ],
    )
    def test_water_and_land_tell(self, scene, offset, rule, verdict):
        found = examine(scene(sentinel("land", offset=offset)), rule)
        assert found.verdict == verdict

    @pytest.mark.parametrize("kind", ["desert", "cloud", "haze"])
    @pytest.mark.parametrize("offset", [0, 1000])
    @pytest.mark.parametrize("rule", [OLD, NEW])
    def test_bright_images_cannot_tell_and_are_kept_as_declared(self, scene, kind, offset, rule):
        made = scene(sentinel(kind, offset=offset))
        found = examine(made, rule)
        assert found.verdict.startswith("cannot tell: no pixel is dark enough")
        assert examine_all(Manifest(scenes=(made,)), rule).scenes == (found,)

    def test_nothing_observed_cannot_tell(self, scene):
        empty = {band: np.zeros(SHAPE) for band in ("red", "blue")}
        assert examine(scene(empty), NEW).verdict.startswith("cannot tell: 0 pixels observed")

    def test_an_offset_is_not_found_in_visible_light_alone(self, scene):
        numbers = sentinel("land", offset=1000)
        del numbers["swir2"]
        assert examine(scene(numbers), NEW).verdict.startswith("cannot tell")
        numbers = sentinel("land", offset=0)
        del numbers["swir2"]
        assert "contradicts" in examine(scene(numbers), NEW).verdict

    @given(
        low=st.floats(0.0, 0.3), spread=st.floats(0.01, 0.6), lake=st.booleans(), seed=st.integers()
    )
    def test_an_offset_is_never_found_where_there_is_none_in_the_infrared(
        self, low, spread, lake, seed
    ):
        rng = np.random.default_rng(abs(seed))
        bands = {"red": low, "blue": low / 2 + 0.08, "swir2": 0.0 if lake else low + 0.13}
        samples = {
            band: 10_000 * rng.uniform(value, value + spread, 5000) + 1
            for band, value in bands.items()
        }
        assert offset_in(samples) is not True

    @pytest.mark.parametrize(
        ("id_", "offset"),
        [
            ("S2A_MSIL2A_20220126T090000_N0400_R007_T35TLM", -0.1),
            ("S2A_MSIL2A_20180126T090000_N0510_R007_T35TLM", -0.1),  # done again later
            ("S2A_MSIL2A_20220126T090000_N0301_R007_T35TLM", 0.0),
        ],
    )
    def test_the_baseline_is_read_in_the_id_and_never_in_the_date(self, scene, id_, offset):
        made = Sentinel2().apply(scene(sentinel("land", offset=0), id_=id_))
        assert {(band.scale, band.offset) for band in made.layers} == {(1e-4, offset)}

    def test_a_scene_that_knows_its_offset_keeps_it(self, scene):
        made = scene(sentinel("land", offset=0), scale=1e-4, offset=-0.1)
        found = examine(made, Sentinel2())
        assert found.band("red").offset == -0.1
        assert found.verdict.endswith("which contradicts the scene's own offset")

    def test_a_scene_that_says_nothing_is_refused(self, scene):
        with pytest.raises(SpecError, match="'s' does not say its processing baseline, nor"):
            Sentinel2().apply(scene(sentinel("land", offset=0)))

    @pytest.mark.parametrize("baseline", ["4", "04.0", "N0400", ""])
    def test_a_baseline_that_is_none_is_refused(self, baseline):
        with pytest.raises(SpecError, match="baseline must be such as '04.00'. Received"):
            Sentinel2(baseline=baseline)

    def test_reflectance_comes_out_and_the_classes_stay(self, scene):
        numbers = sentinel("land", offset=1000) | {"scl": np.full(SHAPE, 4)}
        made = scene(numbers, quality=["scl"])
        grid = grid_at(SHAPE)
        values = NEW.apply(made).read(grid, *whole(grid))
        expected = image("land")["red"]
        np.testing.assert_allclose(values[0], expected, atol=6e-5)
        assert (values[3] == 4).all()


class TestLandsat:
    RULE = LandsatCollection2()

    def c2(self, kind):
        return {band: (values + 0.2) / 2.75e-5 for band, values in image(kind).items()}

    def c1(self, kind):
        return {band: 10_000 * values for band, values in image(kind).items()}

    def test_numbers_of_collection_2_are_consistent(self, scene):
        found = examine(scene(self.c2("desert")), self.RULE)
        assert found.verdict == "100% of the numbers lie in 7273..43636, as Collection 2 says"

    @pytest.mark.parametrize("kind", ["land", "desert", "haze"])
    def test_numbers_of_collection_1_are_contradicted(self, scene, kind):
        made = scene(self.c1(kind))
        found = examine(made, self.RULE)
        assert (
            "of the numbers lie below 7273, which contradicts Collection 2; they" in found.verdict
        )
        (believed,) = examine_all(
            Manifest(scenes=(made,)), self.RULE, on_contradiction="pixels"
        ).scenes
        assert believed.band("red").scale == 1e-4
        assert believed.verdict.endswith("as in Collection 1; the pixels are believed")

    def test_reflectances_are_contradicted_but_nobody_knows_what_they_are(self, scene):
        made = scene(image("land"), dtype="float32", nodata=-1)
        assert examine(made, self.RULE).verdict.endswith("which contradicts Collection 2")
        found = examine_all(Manifest(scenes=(made,)), self.RULE, on_contradiction="pixels")
        assert list(found.excluded) == ["s"]

    def test_numbers_that_both_collections_hold_cannot_tell(self, scene):
        dark = {"red": surface(7400, 9900)}
        found = examine(scene(dark), self.RULE)
        assert found.verdict.startswith("cannot tell: the numbers could be of Collection 1")

    def test_fill_alone_cannot_tell(self, scene):
        found = examine(scene({"red": np.zeros(SHAPE)}), self.RULE)
        assert found.verdict.startswith("cannot tell: 0 pixels")

    def test_temperature_alone_cannot_tell(self, scene):
        found = examine(scene({"thermal": surface(40_000, 45_000)}), self.RULE)
        assert found.verdict.startswith("cannot tell: 0 pixels")

    def test_temperature_is_in_kelvin_and_flags_stay(self, scene):
        numbers = {"red": surface(8000, 20000), "thermal": np.full(SHAPE, 44_947)}
        numbers["qa_pixel"] = np.full(SHAPE, 21_824)
        made = self.RULE.apply(scene(numbers, quality=["qa_pixel"]))
        grid = grid_at(SHAPE)
        values = made.read(grid, *whole(grid))
        assert made.units == ("", "K", "")
        np.testing.assert_allclose(values[1], 302.6, atol=0.05)  # the example of the USGS
        assert (values[2] == 21_824).all()

    def test_numbers_outside_the_valid_range_are_not_observed(self, scene):
        numbers = {"red": np.full(SHAPE, 18_639)}
        numbers["red"][0, :3] = (7272, 7273, 43_637)
        grid = grid_at(SHAPE)
        values = self.RULE.apply(scene(numbers)).read(grid, *whole(grid))[0]
        assert np.isnan(values[0, :3]).tolist() == [True, False, True]
        np.testing.assert_allclose(values[1:], 0.313, atol=5e-4)  # the example of the USGS


class TestTopCodes:
    def test_numbers_are_divided_and_cut(self, scene):
        numbers = {"red": np.full(SHAPE, 1250), "night": np.full(SHAPE, 63)}
        numbers["red"][0, 0] = 9000
        made = examine(scene(numbers), TopCodes({"red": 2500, "night": 63}))
        assert made.verdict == "the numbers lie as their tops say"
        grid = grid_at(SHAPE)
        values = made.read(grid, *whole(grid))
        assert values[0, 0, 0] == 1
        assert (values[0, 1:] == 0.5).all()
        assert (values[1] == 1).all()

    @pytest.mark.parametrize(
        ("numbers", "top", "verdict"),
        [
            (surface(0.0, 1.0).round(), 2500, "red ends at 1, which contradicts 2500 as its top"),
            (surface(3000, 9000), 2500, "100% of red lie above 2500, which contradicts that"),
            (np.zeros(SHAPE), 63, "cannot tell: red has too few numbers other than 0"),
        ],
    )
    def test_tops_that_do_not_fit_are_found(self, scene, numbers, top, verdict):
        made = scene({"red": numbers}, dtype="float32", nodata=-1)
        assert examine(made, TopCodes({"red": top})).verdict.startswith(verdict)

    @pytest.mark.parametrize("tops", [{}, {"red": 0}, {"red": -1}, {"red": float("nan")}])
    def test_tops_that_mean_nothing_are_refused(self, tops):
        with pytest.raises(SpecError, match="tops must be positive numbers by band"):
            TopCodes(tops)

    def test_a_band_that_is_not_there_is_refused(self, scene):
        with pytest.raises(SpecError, match="has no band 'nir'"):
            TopCodes({"nir": 1}).apply(scene({"red": np.zeros(SHAPE)}))


class TestAll:
    @pytest.fixture
    def manifest(self, scene):
        scenes = [
            scene(sentinel("land", offset=1000), id_="right"),
            scene(sentinel("land", offset=0), id_="wrong"),
            scene(sentinel("cloud", offset=0), id_="unknown"),
        ]
        return Manifest(scenes=tuple(scenes), excluded={"x": "no band"}, title="t")

    def test_a_scene_that_cannot_be_read_costs_itself_alone(self, manifest):
        (right, *_) = [one for one in manifest.scenes if one.id == "right"]
        layers = tuple(replace(layer, href="/gone.tif") for layer in right.layers)
        gone = replace(right, id="gone", layers=layers)
        more = replace(manifest, scenes=(*manifest.scenes, gone))
        for how in ("exclude", "pixels"):
            found = examine_all(more, Sentinel2(baseline="04.00"), on_contradiction=how)
            assert found.excluded["gone"].startswith("cannot be examined: Scene 'gone', band ")
            assert "right" in {one.id for one in found.scenes}
        rule, alone = Sentinel2(baseline="04.00"), replace(more, scenes=(gone,))
        with pytest.raises(SourceError, match="Scene 'gone', band '.*': '/gone.tif' cannot be"):
            examine_all(alone, rule, on_contradiction="error")

    def test_a_contradicted_scene_is_excluded_with_the_verdict(self, manifest):
        found = examine_all(manifest, NEW)
        assert {scene.id for scene in found.scenes} == {"right", "unknown"}
        assert all(scene.verdict for scene in found.scenes)
        assert found.excluded == {
            "wrong": "no offset found in the pixels, which contradicts baseline 04.00",
            "x": "no band",
        }
        assert found.title == "t"

    def test_or_the_pixels_are_believed(self, manifest):
        found = examine_all(manifest, NEW, on_contradiction="pixels")
        by_id = {scene.id: scene for scene in found.scenes}
        assert {id_: s.band("red").offset for id_, s in by_id.items()} == {
            "right": -0.1,
            "unknown": -0.1,
            "wrong": 0.0,
        }
        assert by_id["wrong"].verdict.endswith("; the pixels are believed")

    def test_or_it_is_an_error(self, manifest):
        with pytest.raises(SourceError, match="Scene 'wrong': no offset found .* Leave it out, or"):
            examine_all(manifest, NEW, on_contradiction="error")

    def test_anything_else_is_refused(self, manifest):
        with pytest.raises(SpecError, match="on_contradiction must be .* Received 'ignore'"):
            examine_all(manifest, NEW, on_contradiction="ignore")

    def test_believed_pixels_are_consistent_the_next_time(self, manifest):
        found = examine_all(manifest, NEW, on_contradiction="pixels")
        again = examine_all(found, Sentinel2())
        assert not set(again.excluded) - {"x"}

    def test_a_rule_none_of_whose_bands_is_there_is_refused(self, scene):
        made = scene({"z": surface(1, 9)})
        for rule in (NEW, LandsatCollection2()):
            with pytest.raises(SpecError, match="scene 's' has none of its bands, which are"):
                examine(made, rule)

    def test_a_file_that_is_gone_is_an_error(self):
        gone = Scene(id="g", layers=(SceneBand(name="red", href="/gone.tif"),), crs=UTM, nodata=0)
        with pytest.raises(SourceError, match="Scene '.*', band 'red': '/gone.tif' cannot be read"):
            examine(gone, NEW)

    def test_the_verdict_does_not_change_what_a_scene_is(self, scene):
        made = examine(scene(sentinel("land", offset=0)), OLD)
        assert "verdict" not in json.dumps(made.describe())
