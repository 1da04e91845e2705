"""Pixels through stackstac are those that the one warp reads, to the bit."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from catalogs.stacking import StackReader
from cube.errors import PartialError, SourceError, SpecError
from cube.scenes import FileReader, PixelReader, Scene, SceneBand
from tests.rasters import UTM, grid_at, noise, positions, whole, write_tiff

GRID = grid_at((64, 70))
BANDS = ("red", "nir", "swir1")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """On the grid, beside its pixels, coarser, in another zone, in degrees; three dtypes."""
    folder = tmp_path_factory.mktemp("stacked")
    kinds = {
        "on": (GRID, "int16", "nearest"),
        "beside": (grid_at((40, 50), pixel_m=21, shift=(-4.4, 9.2)), "uint8", "bilinear"),
        "coarse": (grid_at((12, 14), pixel_m=200), "float32", "cubic"),
        "away": (grid_at((20, 20), shift=(500, 0)), "int16", "nearest"),
    }
    found = []
    for seed, (name, (grid, dtype, resampling)) in enumerate(kinds.items()):
        stored = noise((2, *grid.shape), seed=seed, dtype=dtype)
        stored[:, 3:6, 2:8] = 0
        path = write_tiff(folder / f"{name}.tif", stored, grid=grid, nodata=0)
        finer = GeoBox.from_bbox(grid.boundingbox, shape=(2 * grid.shape[0], 2 * grid.shape[1]))
        swir = write_tiff(folder / f"{name}_swir.tif", positions(finer.shape), grid=finer)
        found.append(
            Scene(
                id=name,
                layers=(
                    SceneBand(name="red", href=path, index=1, scale=0.5, offset=-3),
                    SceneBand(name="nir", href=path, index=2, valid_range=(3, 150)),
                    SceneBand(name="swir1", href=swir, nodata=None, resampling="average"),
                ),
                crs=UTM,
                nodata=0,
                resampling=resampling,
            )
        )
    return found


def same(found, expected):
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found.view("uint8"), expected.view("uint8"))


spans = st.tuples(st.integers(-20, 60), st.integers(1, 70)).map(lambda two: (two[0], sum(two)))


class TestPixels:
    @settings(max_examples=30)
    @given(
        which=st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True),
        bands=st.lists(st.sampled_from(BANDS), min_size=1, unique=True),
        rows=spans,
        cols=spans,
    )
    def test_they_are_those_of_files_for_any_scenes_bands_and_box(
        self, scenes, which, bands, rows, cols
    ):
        some = [scenes[i] for i in which]
        found = StackReader().read(some, bands, GRID, rows, cols)
        same(found, FileReader().read(some, bands, GRID, rows, cols))

    @settings(max_examples=40)
    @given(
        pixel=st.floats(1e-5, 50_000),
        left=st.floats(-2e6, 2e6),
        top=st.floats(-2e6, 2e6),
        rows=spans,
        cols=spans,
    )
    def test_any_grid_gives_as_many_pixels_as_the_box_has(
        self, scenes, pixel, left, top, rows, cols
    ):
        grid = GeoBox((64, 70), Affine(pixel, 0, left, 0, -pixel, top), UTM)
        found = StackReader().read(scenes[:1], ["red"], grid, rows, cols)
        assert found.shape == (1, 1, rows[1] - rows[0], cols[1] - cols[0])

    def test_grids_in_degrees_and_of_no_epsg_code_will_do(self, scenes):
        albers = "+proj=aea +lat_1=-5 +lat_2=-10 +lat_0=-8 +lon_0=-35 +datum=WGS84 +units=m"
        degrees = GeoBox((50, 60), Affine(0.0003, 0, -34.906, 0, -0.0003, -8.04), "EPSG:4326")
        middle = GeoBox((80, 80), Affine(30, 0, 9_500, 0, -30, -4_000), albers)
        for grid in (degrees, middle):
            found = StackReader().read(scenes, BANDS, grid, *whole(grid))
            assert np.isfinite(found).any()
            same(found, FileReader().read(scenes, BANDS, grid, *whole(grid)))

    def test_float64_keeps_what_float32_would_round(self, tmp_path):
        values = positions((9, 9)).astype("float64") + 2.0**31
        path = write_tiff(tmp_path / "big.tif", values)
        scene = Scene(id="big", layers=(SceneBand(name="n", href=path),), crs=UTM, nodata=None)
        found = StackReader(dtype="float64").read([scene], ["n"], grid_at((9, 9)), (0, 9), (0, 9))
        np.testing.assert_array_equal(found[0, 0], values)

    def test_what_comes_may_be_written_to_even_where_nothing_is_there(self, scenes):
        away = StackReader().read(scenes[3:], ["red"], GRID, *whole(GRID))
        assert np.isnan(away).all()
        away[:] = 1
        assert away.flags.writeable

    def test_it_is_a_reader_and_pickles(self):
        assert pickle.loads(pickle.dumps(StackReader(sign=str.upper))).sign is str.upper
        reader: PixelReader = StackReader()
        assert reader == StackReader()


class TestSigned:
    def test_each_file_is_signed_when_it_is_opened_and_no_digest_knows(self, scenes):
        asked = []

        def sign(href):
            asked.append(href)
            return href.removeprefix("unsigned:")

        unsigned = [
            replace(
                scene,
                layers=tuple(replace(one, href=f"unsigned:{one.href}") for one in scene.layers),
            )
            for scene in scenes
        ]
        found = StackReader(sign=sign).read(unsigned, ["red", "nir"], GRID, *whole(GRID))
        same(found, FileReader().read(scenes, ["red", "nir"], GRID, *whole(GRID)))
        assert len(asked) == 2 * len(scenes)
        assert set(asked) == {scene.layers[0].href for scene in unsigned}


class TestLost:
    def test_all_lost_scenes_are_named_each_with_its_first_reason(self, scenes, tmp_path):
        torn = tmp_path / "torn.tif"
        torn.write_bytes(b"II*\0" + b"\0" * 60)
        one = replace(scenes[0], layers=(replace(scenes[0].layers[0], href=str(torn)),))
        two = replace(
            scenes[1], layers=tuple(replace(x, href=f"/gone/{x.name}") for x in scenes[1].layers)
        )
        two = two.select(["red", "nir"])
        with pytest.raises(PartialError) as caught:
            StackReader().read([one, scenes[2], two], ["red"], GRID, *whole(GRID))
        assert list(caught.value.scenes) == ["on", "beside"]
        assert "torn.tif" in caught.value.scenes["on"]
        assert "/gone/red" in caught.value.scenes["beside"]

    def test_it_loses_the_scenes_that_files_lose(self, scenes):
        gone = replace(scenes[0], layers=(replace(scenes[0].layers[0], href="/gone.tif"),))
        told = []
        for reader in (StackReader(), FileReader()):
            with pytest.raises(PartialError) as caught:
                reader.read([gone, scenes[1]], ["red"], GRID, *whole(GRID))
            told.append((str(caught.value), caught.value.scenes))
        assert told[0] == told[1]

    def test_an_error_of_ours_is_no_lost_scene(self, scenes):
        def sign(href):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            StackReader(sign=sign).read(scenes, ["red"], GRID, *whole(GRID))


class TestRefusals:
    def test_a_dtype_that_cannot_hold_nodata(self):
        with pytest.raises(SpecError, match="dtype must be float32 or float64. Received 'int16'"):
            StackReader(dtype="int16")

    def test_another_number_of_pixels_than_the_box_has(self, scenes, monkeypatch):
        import stackstac.prepare

        real = stackstac.prepare.prepare_items

        def narrower(*args, bounds, **named):
            left, bottom, right, top = bounds
            return real(*args, bounds=(left, bottom, right - 30, top), **named)

        monkeypatch.setattr(stackstac.prepare, "prepare_items", narrower)
        with pytest.raises(SourceError, match=r"stackstac made .* of a box of \(1, 1, 64, 70\)"):
            StackReader().read(scenes[:1], ["red"], GRID, *whole(GRID))
