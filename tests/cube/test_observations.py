"""Clear observations: what readers give, less what is not clear, a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cube.errors import PartialError, SourceError
from cube.observations import Observations, batches, wider
from cube.quality import QualityClasses
from cube.scenes import Scene, SceneBand
from tests.rasters import UTM, grid_at

GRID = grid_at((40, 50))
BOX = (3, 20), (5, 31)
BANDS = ("red", "nir", "qa")


@dataclass(frozen=True, kw_only=True)
class Made:
    """A reader whose values tell scene, band and place; ``asked`` collects what it was asked.

    The quality band is 0 or 1 in stripes, each scene's shifted by one. Scenes named in ``gone``
    cannot be read.
    """

    gone: frozenset = frozenset()
    asked: list = field(default_factory=list)

    def read(self, scenes, bands, grid, rows, cols):
        self.asked.append(([scene.id for scene in scenes], tuple(bands), (rows, cols)))
        lost = {scene.id: f"{scene.id!r}: it is gone." for scene in scenes if scene.id in self.gone}
        if lost:
            raise PartialError.of(lost)
        return np.stack([[value(scene, band, rows, cols) for band in bands] for scene in scenes])


def value(scene, band, rows, cols):
    row, col = np.mgrid[slice(*rows), slice(*cols)]
    number = int(scene.id)
    if band == "qa":
        return ((row + number) // 3 % 4 == 0).astype("float32")
    return (1e6 * number + 1e5 * BANDS.index(band) + 100.0 * row + col).astype("float32")


def scenes_of(count):
    layers = tuple(SceneBand(name=band, href=f"{band}.tif") for band in BANDS)
    return [Scene(id=f"{i}", layers=layers, crs=UTM, nodata=0) for i in range(count)]


def observed(*, quality=None, batch_bytes=10**9, **reader):
    return Observations(
        grid=GRID,
        quality=quality,
        reader=Made(**reader),
        dtype="float32",
        batch_bytes=batch_bytes,
    )


CLASSES = QualityClasses(band="qa", keep=(0,))


class TestClear:
    def test_without_quality_everything_is_clear_and_nothing_is_read(self):
        of = observed()
        scenes = scenes_of(3)
        seen = of.clear(scenes, BOX, halo_px=2)
        assert [scene for scene, _ in seen] == scenes
        assert all(mask is None for _, mask in seen)
        assert of.reader.asked == []

    @pytest.mark.parametrize("halo_px", [0, 4])
    @pytest.mark.parametrize("grow_px", [0, 2])
    def test_masks_are_those_of_the_quality_band_around_the_box(self, halo_px, grow_px):
        quality = QualityClasses(band="qa", keep=(0,), grow_px=grow_px)
        of = observed(quality=quality)
        seen = of.clear(scenes_of(5), BOX, halo_px=halo_px)
        wide = wider(BOX, halo_px + grow_px)
        assert {box for _, _, box in of.reader.asked} == {wide}
        assert {bands for _, bands, _ in of.reader.asked} == {("qa",)}
        for scene, mask in seen:
            np.testing.assert_array_equal(mask, quality.clear(value(scene, "qa", *wide)))
            assert mask.shape == (17 + 2 * halo_px, 26 + 2 * halo_px)

    def test_a_scene_that_is_clear_in_the_halo_alone_is_left_out(self):
        rows = (3, 6), (5, 31)  # scene 9 has clouds in rows 3, 4 and 5, and only there
        quality = QualityClasses(band="qa", keep=(0,))
        seen = observed(quality=quality).clear(scenes_of(12), rows, halo_px=3)
        assert [scene.id for scene, _ in seen] == [str(i) for i in range(12) if i != 9]


class TestValues:
    @given(st.integers(1, 9), st.integers(1, 10**5))
    def test_they_are_those_of_the_bands_where_clear_in_batches_of_any_size(self, count, size):
        of = observed(quality=CLASSES, batch_bytes=size)
        seen = of.clear(scenes_of(count), BOX)
        found = of.values(seen, ("nir", "red"), BOX)
        assert found.shape == (len(seen), 2, 17, 26)
        for (scene, mask), values in zip(seen, found, strict=True):
            np.testing.assert_array_equal(mask, value(scene, "qa", *BOX) == 0)
            for band, one in zip(("nir", "red"), values, strict=True):
                np.testing.assert_array_equal(one, np.where(mask, value(scene, band, *BOX), np.nan))

    @given(st.integers(1, 10**5))
    def test_no_batch_takes_more_than_it_may_unless_it_is_a_single_scene(self, size):
        of = observed(quality=CLASSES, batch_bytes=size)
        of.values(of.clear(scenes_of(9), BOX), ("red", "nir"), BOX)
        each = 17 * 26 * 4
        for ids, bands, _ in of.reader.asked:
            assert len(ids) == 1 or len(ids) * len(bands) * each <= size
        # None is read twice.
        read = [(one, bands) for ids, bands, _ in of.reader.asked for one in ids]
        assert len(set(read)) == len(read)

    def test_where_a_band_is_missing_none_counts_if_all_must(self):
        quality = QualityClasses(band="qa", keep=(0, 1), complete=True)

        class Holed(Made):
            def read(self, scenes, bands, grid, rows, cols):
                found = super().read(scenes, bands, grid, rows, cols)
                if "red" in bands:
                    found[:, bands.index("red"), 4] = np.nan
                return found

        for complete in (True, False):
            of = Observations(
                grid=GRID,
                quality=QualityClasses(band="qa", keep=quality.keep, complete=complete),
                reader=Holed(),
                dtype="float32",
                batch_bytes=10**6,
            )
            found = of.values(of.clear(scenes_of(2), BOX), ("red", "nir"), BOX)
            assert np.isnan(found[:, 0, 4]).all()
            assert np.isnan(found[:, 1, 4]).all() == complete
            assert np.isfinite(np.delete(found, 4, axis=2)).all()

    def test_a_halo_is_for_masks_alone(self):
        of = observed(quality=CLASSES)
        seen = of.clear(scenes_of(4), BOX, halo_px=3)
        plain = of.values(of.clear(scenes_of(4), BOX), ("red",), BOX)
        np.testing.assert_array_equal(of.values(seen, ("red",), BOX, halo_px=3), plain)

    def test_none_of_nothing(self):
        assert observed().values([], ("red",), BOX).shape == (0, 1, 17, 26)


class TestLost:
    def test_a_scene_that_cannot_be_read_is_named(self):
        for quality in (None, CLASSES):
            of = observed(quality=quality, gone=frozenset({"2"}))
            with pytest.raises(PartialError, match="'2'.*it is gone"):
                of.values(of.clear(scenes_of(4), BOX), ("red",), BOX)

    def test_all_that_cannot_are_found_one_by_one(self):
        of = observed(gone=frozenset({"1", "3"}))
        assert of.lost(scenes_of(5), BANDS, BOX) == {
            "1": "'1': it is gone.",
            "3": "'3': it is gone.",
        }
        assert [ids for ids, *_ in of.reader.asked] == [[str(i)] for i in range(5)]

    def test_a_quality_band_that_holds_no_classes_is_no_lost_scene(self):
        class Smooth(Made):
            def read(self, scenes, bands, grid, rows, cols):
                return super().read(scenes, bands, grid, rows, cols) + np.float32(0.5)

        of = Observations(
            grid=GRID, quality=CLASSES, reader=Smooth(), dtype="float32", batch_bytes=10**6
        )
        with pytest.raises(SourceError, match="must hold whole numbers") as caught:
            of.clear(scenes_of(1), BOX)
        assert not isinstance(caught.value, PartialError)


@given(st.lists(st.integers()), st.integers(1, 9))
def test_batches_are_the_scenes_in_order(scenes, size):
    found = list(batches(scenes, size))
    assert [one for batch in found for one in batch] == scenes
    assert all(len(batch) == size for batch in found[:-1])


def test_a_wider_box_has_as_many_pixels_more_on_every_side():
    assert wider(((3, 5), (0, 9)), 4) == ((-1, 9), (-4, 13))
