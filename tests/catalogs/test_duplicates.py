"""Copies are found by their pixels; what only looks alike is left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs.duplicates import find_duplicates, fingerprint, without_duplicates
from catalogs.geotiff import geotiff
from catalogs.manifest import Manifest
from cube.errors import SourceError
from tests.rasters import grid_at, noise, write_tiff

SHAPE = (300, 310)


@pytest.fixture(scope="module")
def values():
    """Two bands with holes."""
    values = noise((2, *SHAPE), seed=1, dtype="uint16")
    values[:, :40, :50] = 0
    return values


@pytest.fixture
def scene(tmp_path):
    """Makes a scene of two bands."""

    def make(id_, values, *, year=2018, nodata=0, **profile):
        path = write_tiff(tmp_path / f"{id_}.tif", values, nodata=nodata, **profile)
        bands = ["a", "b"][: len(values)]
        return geotiff(path, bands=bands, id=id_, time=f"{year}-01-01", nodata=nodata)

    return make


class TestFound:
    def test_copies_are_one_group_with_the_first_in_time_first(self, scene, values):
        scenes = [
            scene("late", values, year=2020),
            scene("other", noise((2, *SHAPE), seed=2, dtype="uint16"), year=2019),
            scene("early", values, year=2017),
            scene("middle", values, year=2018),
        ]
        assert find_duplicates(scenes) == (("early", "middle", "late"),)
        assert find_duplicates(Manifest(scenes=tuple(scenes))) == (("early", "middle", "late"),)

    @settings(deadline=None, max_examples=10)
    @given(order=st.permutations(range(4)))
    def test_the_order_of_scenes_is_no_matter(self, order, tmp_path_factory):
        folder = tmp_path_factory.mktemp("order")
        paths = [
            write_tiff(folder / f"{i}.tif", noise((40, 50), seed=i // 2), nodata=-9)
            for i in range(4)
        ]
        scenes = [geotiff(path, bands=["a"]) for path in paths]
        assert find_duplicates([scenes[i] for i in order]) == (("0", "1"), ("2", "3"))

    def test_copies_stored_otherwise_are_the_same(self, scene, values):
        scenes = [
            scene("plain", values),
            scene("packed", values, compress="deflate", tiled=True),
            scene("tiled", values, tiled=True, blockxsize=64, blockysize=64),
        ]
        assert find_duplicates(scenes) == (("packed", "plain", "tiled"),)

    def test_one_file_under_two_ids_is_found(self, scene, values):
        one = scene("one", values)
        assert find_duplicates([one, replace(one, id="two")]) == (("one", "two"),)

    def test_what_lies_under_nodata_is_no_matter(self, scene):
        values = noise((1, *SHAPE))
        values[0, :30] = np.nan
        assert find_duplicates(
            [scene("a", values, nodata=np.nan), scene("b", values.copy(), nodata=np.nan)]
        ) == (("a", "b"),)

    def test_a_first_band_without_variety_leaves_it_to_the_next(self, scene, values):
        flat = values.copy()
        flat[0] = 7
        other = noise((2, *SHAPE), seed=3, dtype="uint16")
        other[0] = 7
        scenes = [scene("a", flat), scene("b", flat), scene("c", other)]
        assert find_duplicates(scenes) == (("a", "b"),)


class TestNotFound:
    @pytest.mark.parametrize("value", [0, 7], ids=["all nodata", "constant sea"])
    def test_pixels_that_tell_nothing_are_no_evidence(self, scene, value):
        values = np.full((2, *SHAPE), value, "uint16")
        scenes = [scene("a", values), scene("b", values)]
        assert fingerprint(scenes[0]) is None
        assert find_duplicates(scenes) == ()

    def test_few_different_numbers_such_as_classes_are_no_evidence(self, scene):
        classes = noise((1, *SHAPE), dtype="uint8") % 11 + 1
        assert find_duplicates([scene("a", classes), scene("b", classes)]) == ()

    @pytest.mark.parametrize("band", [0, 1])
    def test_one_other_pixel_outside_the_sample_is_enough(self, scene, values, band):
        other = values.copy()
        other[band, 130, 33] += 1  # between the windows of the sample
        scenes = [scene("a", values), scene("b", other), scene("c", values)]
        assert fingerprint(scenes[0]) == fingerprint(scenes[1])
        assert find_duplicates(scenes) == (("a", "c"),)

    def test_one_pixel_that_is_nodata_in_one_of_them_is_enough(self, scene, values):
        other = values.copy()
        other[0, 130, 33] = 0
        assert find_duplicates([scene("a", values), scene("b", other)]) == ()

    def test_the_same_numbers_elsewhere_are_another_scene(self, scene, values):
        there = grid_at(SHAPE, shift=(0, 1))
        assert find_duplicates([scene("a", values), scene("b", values, grid=there)]) == ()

    def test_the_same_numbers_with_another_meaning_are_another_scene(self, scene, values):
        one = scene("a", values)
        others = [
            replace(one, id="b", scale=2.0),
            replace(one, id="c", nodata=9.0),
            replace(one, id="d", layers=(replace(one.layers[0], name="z"), one.layers[1])),
        ]
        assert find_duplicates([one, *others]) == ()

    def test_another_dtype_is_another_scene(self, scene, values):
        scenes = [scene("a", values), scene("b", values.astype("float32"))]
        assert find_duplicates(scenes) == ()

    def test_no_scenes_are_no_groups(self):
        assert find_duplicates([]) == ()


class TestManifest:
    def test_the_first_of_a_group_stays_and_the_others_say_of_whom_they_are_copies(
        self, scene, values
    ):
        scenes = (
            scene("c", values, year=2019),
            scene("a", values, year=2018),
            scene("b", noise((2, *SHAPE), dtype="uint16")),
        )
        found = without_duplicates(Manifest(scenes=scenes, excluded={"x": "no band"}, title="t"))
        assert [scene.id for scene in found.scenes] == ["a", "b"]
        assert found.excluded == {"c": "same pixels as a", "x": "no band"}
        assert found.title == "t"

    def test_a_second_look_changes_nothing(self, scene, values):
        once = without_duplicates(Manifest(scenes=(scene("a", values), scene("b", values))))
        assert without_duplicates(once) == once

    def test_a_file_that_is_gone_is_an_error(self, scene, values, tmp_path):
        manifest = Manifest(scenes=(scene("a", values),))
        (tmp_path / "a.tif").unlink()
        with pytest.raises(SourceError, match="Scene 'a': '.*a.tif' cannot be read"):
            without_duplicates(manifest)
