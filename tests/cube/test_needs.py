"""What sources say that they take is what they take."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, replace

import numpy as np
import pytest

from cube.composites import METHODS, Composite
from cube.counting import ClearCount
from cube.derived import Join
from cube.indices import Indices
from cube.nightlights import NightLights
from cube.pansharpening import Pansharpened
from cube.quality import QualityClasses
from cube.scenes import Needs, Scene, SceneBand
from cube.scoring import CloudDistanceScore, IndexScore
from cube.tasseled import INPUTS, TasseledCap
from cube.terrain import BANDS, Terrain
from tests.rasters import UTM, grid_at, noise, whole, write_tiff

SIDE = 400
GRID = grid_at((SIDE, SIDE))
SLACK = 1.2
"""By so much a forecast of memory may be exceeded."""


@dataclass(frozen=True, kw_only=True)
class Flat:
    """The same value everywhere, which takes nothing beside itself; unless it says so."""

    bands: tuple[str, ...]
    said: Needs | None = None

    def read(self, grid, rows, cols):
        return np.full((len(self.bands), rows[1] - rows[0], cols[1] - cols[0]), 0.5, "float32")

    def check(self, grid):
        return None

    def describe(self):
        return {}


@dataclass(frozen=True, kw_only=True)
class Telling(Flat):
    """One that says what it takes, and what it was asked for."""

    def needs(self, grid, rows, cols):
        pixels = (rows[1] - rows[0]) * (cols[1] - cols[0])
        return replace(self.said, read_bytes=self.said.read_bytes * pixels)


def made_of(kind):
    """Every derived source, of a kind of source that takes the names of its bands."""
    return {
        "join": Join((kind("a", "b"), kind("c"))),
        "one index": Indices(kind("red", "nir", "blue"), ("NDVI",)),
        "indices": Indices(kind(*INPUTS), ("NDVI", "EVI", "NDMI", "SAVI", "NBR")),
        "tasselled cap": TasseledCap(kind(*INPUTS), "tm"),
        "terrain": Terrain(elevation=kind("z")),
        "all of terrain": Terrain(elevation=kind("z"), bands=BANDS),
        "sharpened": Pansharpened(kind("red", "green", "blue"), kind("pan")),
        "lights": NightLights(dmsp=kind("d"), viirs=kind("v")),
    }


DERIVED = sorted(made_of(lambda *bands: Flat(bands=bands)))


def peak_of(source, grid=GRID):
    """Bytes that a read takes at most beside what it gives; what is loaded once does not count."""
    source.read(grid, (0, 8), (0, 8))
    tracemalloc.start()
    try:
        values = source.read(grid, *whole(grid))
        return tracemalloc.get_traced_memory()[1] - values.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", DERIVED)
class TestDerived:
    def test_memory_is_what_was_forecast(self, name):
        source = made_of(lambda *bands: Flat(bands=bands))[name]
        forecast = source.needs(GRID, *whole(GRID)).peak_bytes
        assert 0.5 * forecast < peak_of(source) <= SLACK * forecast

    def test_what_is_read_is_what_its_sources_say(self, name):
        said = Needs(read_bytes=7, peak_bytes=10**9, opens=3)
        source = made_of(lambda *bands: Telling(bands=bands, said=said))[name]
        silent = made_of(lambda *bands: Flat(bands=bands))[name]
        found, without = (one.needs(GRID, *whole(GRID)) for one in (source, silent))
        count = {"join": 2, "sharpened": 2, "lights": 2}.get(name, 1)
        side = SIDE + 2 if "terrain" in name else SIDE
        assert found.opens == 3 * count
        assert found.read_bytes == 7 * count * side**2
        assert 10**9 < found.peak_bytes < 10**9 + 10 * 4 * side**2
        bands = {"join": 3, "one index": 3, "sharpened": 4, "lights": 2}.get(name, 6)
        bands = 1 if "terrain" in name else bands
        assert (without.opens, without.read_bytes) == (0, 4 * bands * side**2)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Two bands and quality on pixels of its own, so that it is warped."""
    folder, of = tmp_path_factory.mktemp("needs"), grid_at((260, 260), pixel_m=29, shift=(-2.3, -2))
    path = write_tiff(folder / "b.tif", noise((2, *of.shape), dtype="int16"), grid=of, nodata=0)
    classes = write_tiff(folder / "q.tif", noise(of.shape, dtype="uint8") % 4, grid=of)
    return Scene(
        id="s",
        layers=(
            SceneBand(name="red", href=path, index=1),
            SceneBand(name="nir", href=path, index=2),
            SceneBand(name="qa", href=classes, nodata=None),
        ),
        crs=UTM,
        nodata=0,
    )


CLASSES = QualityClasses(band="qa", keep=(0, 1, 2), grow_px=1)
BOX_GRID = grid_at((150, 150))


@dataclass(frozen=True, kw_only=True)
class Quick:
    """A reader without files, which has its values twice as that of files has."""

    def read(self, scenes, bands, grid, rows, cols):
        shape = len(bands), rows[1] - rows[0], cols[1] - cols[0]
        return np.stack([np.full(shape, int(scene.id) % 3, "float32") for scene in scenes])


class TestComposites:
    def made(self, scene, count, method, **facts):
        scenes = tuple(replace(scene, id=f"{i}") for i in range(count))
        score = IndexScore(index="NDVI") if method == "best" else None
        return Composite(
            scenes=scenes,
            bands=("red", "nir"),
            method=method,
            **{"quality": CLASSES, "score": score, "memory_bytes": 10**7, **facts},
        )

    @pytest.mark.parametrize("method", METHODS)
    def test_memory_does_not_grow_with_the_dates(self, scene, method):
        grid = grid_at((128, 128))
        peaks = []
        # Medoids take the square of the number of dates.
        for count in (20, 200) if method != "medoid" else (20, 100):
            source = self.made(scene, count, method, reader=Quick(), memory_bytes=1_500_000)
            peaks.append(peak_of(source, grid))
            assert peaks[-1] <= SLACK * source.needs(grid, *whole(grid)).peak_bytes
        assert peaks[1] <= 1.1 * peaks[0] + 500_000

    @pytest.mark.parametrize("method", METHODS)
    def test_it_is_what_was_forecast_for_files(self, scene, method):
        source = self.made(scene, 40, method, memory_bytes=8 * 10**6)
        forecast = source.needs(BOX_GRID, *whole(BOX_GRID)).peak_bytes
        assert 0.2 * forecast < peak_of(source, BOX_GRID) <= SLACK * forecast

    def test_more_is_used_where_it_is_given(self, scene):
        for memory_bytes in (4 * 10**6, 4 * 10**7):
            source = self.made(scene, 100, "median", reader=Quick(), memory_bytes=memory_bytes)
            assert peak_of(source, grid_at((256, 256))) > 0.7 * memory_bytes

    @pytest.mark.parametrize("quality", [None, CLASSES])
    def test_so_it_is_for_a_single_scene_and_for_counts(self, scene, quality):
        for source in (
            self.made(scene, 1, "median", quality=quality),
            self.made(scene, 1, "mean", quality=quality),
            ClearCount(of=self.made(scene, 30, "mean", quality=quality)),
        ):
            forecast = source.needs(BOX_GRID, *whole(BOX_GRID)).peak_bytes
            assert peak_of(source, BOX_GRID) <= SLACK * forecast

    def test_and_for_distances_to_clouds(self, scene):
        source = self.made(scene, 10, "best", score=CloudDistanceScore(full_px=40))
        forecast = source.needs(BOX_GRID, *whole(BOX_GRID)).peak_bytes
        assert peak_of(source, BOX_GRID) <= SLACK * forecast
