"""Slopes, orientation and curvature: signs on known surfaces, Horn's formula, no seams."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from cube.errors import SourceError
from cube.scenes import Scene, SceneBand
from cube.terrain import BANDS, DEFAULT_BANDS, Terrain, derive
from tests.cube.sources import AROUND, BOXES, Everywhere, assert_same_in_any_box
from tests.rasters import UTM, grid_at, noise, whole, write_tiff

Y, X = np.mgrid[:12, :15].astype("float64")
"""Row, southwards, and column, eastwards."""


def derived(z, *, pixel_yx=(1.0, 1.0)):
    return derive(z, pixel_yx=pixel_yx)


class TestSurfaces:
    @pytest.mark.parametrize(
        ("z", "northness", "eastness"),
        [
            (Y, 1, 0),  # rises to the south, so it falls to the north and faces north
            (-Y, -1, 0),
            (-X, 0, 1),
            (X, 0, -1),
        ],
    )
    def test_a_slope_faces_where_it_falls(self, z, northness, eastness):
        bands = derived(z)
        steep = math.sin(math.pi / 4)
        np.testing.assert_allclose(bands["northness"], northness * steep, atol=1e-15)
        np.testing.assert_allclose(bands["eastness"], eastness * steep, atol=1e-15)
        np.testing.assert_allclose(bands["slope"], 45.0)

    @settings(deadline=None)
    @given(
        north=st.floats(-3, 3),
        east=st.floats(-3, 3),
        height=st.floats(1, 100),
        width=st.floats(1, 100),
    )
    def test_a_plane_has_its_own_gradient_everywhere(self, north, east, height, width):
        z = -north * height * Y + east * width * X  # metres up per metre north, per metre east
        bands = derived(z, pixel_yx=(height, width))
        length = math.sqrt(1 + north**2 + east**2)
        expected = {
            "slope": math.degrees(math.atan(math.hypot(north, east))),
            "northness": -north / length,
            "eastness": -east / length,
            "curvature": 0.0,
        }
        for band, value in expected.items():
            np.testing.assert_allclose(bands[band], value, atol=1e-6, err_msg=band)
        np.testing.assert_array_equal(bands["elevation"], z[1:-1, 1:-1])

    def test_flat_ground_has_no_slope_orientation_or_curvature(self):
        bands = derived(np.full((5, 6), 321.0))
        for band in ("slope", "northness", "eastness", "curvature", "southness"):
            np.testing.assert_array_equal(bands[band], np.zeros((3, 4)), err_msg=band)
        assert np.isnan(bands["aspect"]).all()

    def test_a_hill_is_curved_up_and_a_bowl_down(self):
        hill = 100 - ((Y - 5) ** 2 + (X - 7) ** 2) * 100.0 / 2  # pixels of 10 m: 1 m per m2
        bands = derived(hill, pixel_yx=(10.0, 10.0))
        # The sum of the second differences is -2 per metre; curvature is in 1/(100 m).
        np.testing.assert_allclose(bands["curvature"], 200.0, rtol=1e-9)
        np.testing.assert_allclose(derived(-hill, pixel_yx=(10.0, 10.0))["curvature"], -200.0)

    def test_the_top_of_a_hill_is_level(self):
        hill = -((Y - 5) ** 2 + (X - 7) ** 2)
        assert derived(hill)["slope"][4, 6] == 0

    def test_northness_and_eastness_are_a_part_of_a_unit_vector(self):
        bands = derived(noise((20, 20), seed=1) * 50)
        length = np.hypot(bands["northness"], bands["eastness"])
        np.testing.assert_allclose(length, np.sin(np.radians(bands["slope"])), atol=1e-12)
        assert ((bands["slope"] >= 0) & (bands["slope"] < 90)).all()


class TestAspect:
    @pytest.mark.parametrize("degrees", [0, 1, 45, 90, 135, 180, 225, 270, 315, 359])
    def test_a_plane_faces_where_it_was_turned_to(self, degrees):
        north, east = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        bands = derived(-(-Y * north + X * east))  # falls to there; Y counts southwards
        aspect = bands["aspect"]
        np.testing.assert_allclose(np.cos(np.radians(aspect)), north, atol=1e-9)
        np.testing.assert_allclose(np.sin(np.radians(aspect)), east, atol=1e-9)
        assert ((aspect >= 0) & (aspect < 360)).all()

    def test_a_dome_faces_away_from_its_top(self):
        aspect = derived(-((Y - 5) ** 2) - (X - 7) ** 2)["aspect"]
        row, col = Y[1:-1, 1:-1] - 5, X[1:-1, 1:-1] - 7
        away = np.degrees(np.arctan2(col, -row)) % 360
        away[(row == 0) & (col == 0)] = np.nan
        np.testing.assert_allclose(aspect, away, atol=1e-9)

    def test_it_and_the_slope_give_the_normal(self):
        bands = derived(noise((20, 20), seed=9) * 3)
        steep = np.sin(np.radians(bands["slope"]))
        turned = np.radians(bands["aspect"])
        np.testing.assert_allclose(bands["northness"], steep * np.cos(turned), atol=1e-12)
        np.testing.assert_allclose(bands["eastness"], steep * np.sin(turned), atol=1e-12)
        np.testing.assert_array_equal(bands["southness"], -bands["northness"])

    def test_a_hair_west_of_north_is_north_and_not_360(self):
        aspect = derived(Y + X * 1e-9)["aspect"]
        assert (aspect == 0).all()
        assert (derived(Y + X * 1e-4)["aspect"].astype("float32") < 360).all()


class TestFormula:
    def test_it_equals_a_plain_loop_of_horn_and_of_zevenbergen_and_thorne(self):
        z, (height, width) = noise((9, 11), seed=3).astype("float64") * 20, (25.0, 30.0)
        bands = derived(z, pixel_yx=(height, width))
        for i in range(7):
            for j in range(9):
                (a, b, c), (d, e, f), (g, h, k) = z[i : i + 3, j : j + 3]
                east = ((c + 2 * f + k) - (a + 2 * d + g)) / (8 * width)
                south = ((g + 2 * h + k) - (a + 2 * b + c)) / (8 * height)
                length = math.sqrt(1 + east**2 + south**2)
                loop = {
                    "elevation": e,
                    "slope": math.degrees(math.atan(math.hypot(east, south))),
                    "northness": south / length,
                    "eastness": -east / length,
                    "curvature": -200
                    * (((d + f) / 2 - e) / width**2 + ((b + h) / 2 - e) / height**2),
                    "southness": -south / length,
                    # Downhill lies (-east, south) eastwards and northwards.
                    "aspect": (90 - math.degrees(math.atan2(south, -east))) % 360,
                }
                for band in BANDS:
                    assert bands[band][i, j] == pytest.approx(loop[band], rel=1e-12, abs=1e-12)

    def test_a_missing_pixel_leaves_out_its_neighbourhood_but_only_its_own_elevation(self):
        z = noise((9, 11)).astype("float64")
        z[4, 5] = np.nan
        bands, around = derived(z), np.zeros((7, 9), bool)
        around[2:5, 3:6] = True
        np.testing.assert_array_equal(np.isnan(bands["elevation"]), np.isnan(z[1:-1, 1:-1]))
        for band in ("slope", "northness", "eastness", "southness", "aspect"):
            np.testing.assert_array_equal(np.isnan(bands[band]), around, err_msg=band)
        around[[2, 2, 4, 4], [3, 5, 3, 5]] = False
        np.testing.assert_array_equal(np.isnan(bands["curvature"]), around)


@pytest.fixture
def elevation(tmp_path):
    """A rough surface with a hole; cubic, from a file on another grid."""
    z = noise((150, 190), seed=5).cumsum(0).cumsum(1)
    z[60:64, 70:75] = -9
    source = grid_at((150, 190), pixel_m=90, shift=(-3.4, -2.2))
    path = write_tiff(tmp_path / "z.tif", z, grid=source, nodata=-9)
    return Scene(
        id="z",
        layers=(SceneBand(name="elevation", href=path),),
        crs=UTM,
        nodata=-9,
        resampling="cubic",
    )


class TestSource:
    GRID = grid_at((300, 400), pixel_m=30)

    def test_tiles_equal_the_whole_to_the_bit_without_seams(self, elevation):
        terrain = Terrain(elevation=elevation)
        everything = terrain.read(self.GRID, *whole(self.GRID))
        assert 0.5 < np.isfinite(everything).mean() < 1
        for rows, cols in [
            ((0, 64), (0, 64)),
            ((64, 128), (192, 256)),
            ((299, 300), (0, 400)),
            ((0, 300), (399, 400)),
            ((100, 300), (200, 400)),
        ]:
            tile = terrain.read(self.GRID, rows, cols)
            np.testing.assert_array_equal(tile, everything[:, slice(*rows), slice(*cols)])

    def test_it_equals_the_formula_over_the_warped_elevation(self, elevation):
        (top, bottom), (left, right) = whole(self.GRID)
        z = elevation.read(self.GRID, (top - 1, bottom + 1), (left - 1, right + 1))[0]
        expected = derive(z, pixel_yx=(30.0, 30.0))
        found = Terrain(elevation=elevation).read(self.GRID, *whole(self.GRID))
        assert DEFAULT_BANDS == ("elevation", "slope", "northness", "eastness", "curvature")
        for band, values in zip(DEFAULT_BANDS, found, strict=True):
            np.testing.assert_array_equal(values, expected[band].astype("float32"))

    def test_it_asks_for_one_more_pixel_on_every_side_at_edges_too(self):
        made = Everywhere(bands=("z",), value=lambda row, col: 50 * np.sin(row / 3) + col % 7)
        terrain = Terrain(elevation=made, bands=BANDS)
        assert_same_in_any_box(terrain, grid_at((30, 37)))
        asked = [((a - 1, b + 1), (c - 1, d + 1)) for (a, b), (c, d) in [AROUND, *BOXES]]
        assert made.boxes == asked

    def test_bands_come_by_name_and_in_the_order_asked_for(self, elevation):
        everything = Terrain(elevation=elevation).read(self.GRID, (0, 20), (0, 30))
        some = Terrain(elevation=elevation, bands=("curvature", "slope"))
        assert some.bands == ("curvature", "slope")
        found = some.read(self.GRID, (0, 20), (0, 30))
        assert found.dtype == "float32"
        np.testing.assert_array_equal(found, everything[[4, 1]])

    @pytest.mark.parametrize("bands", [("slope", "steepness"), (), "slope"])
    def test_unknown_bands_are_refused_with_the_known_ones(self, elevation, bands):
        with pytest.raises(SourceError, match=f"Terrain has the bands {', '.join(BANDS)}"):
            Terrain(elevation=elevation, bands=bands)

    def test_an_elevation_of_two_bands_is_refused(self, elevation):
        layers = (*elevation.layers, SceneBand(name="more", href="z.tif"))
        two = Scene(id="z", layers=layers, crs=UTM, nodata=-9)
        with pytest.raises(SourceError, match="one band, the elevation. Received elevation, more"):
            Terrain(elevation=two)

    @pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:2264"])
    def test_a_grid_in_degrees_or_feet_is_refused(self, elevation, crs):
        grid = GeoBox((30, 40), grid_at((30, 40)).transform, crs)
        with pytest.raises(SourceError, match="need a projected grid, in metres"):
            Terrain(elevation=elevation).check(grid)

    def test_an_elevation_elsewhere_is_refused(self, elevation):
        far = Scene(
            id="z", layers=elevation.layers, crs=UTM, nodata=-9, footprint=(0.0, 0.0, 9.0, 9.0)
        )
        with pytest.raises(SourceError, match="does not meet the grid"):
            Terrain(elevation=far).check(self.GRID)

    def test_the_description_holds_the_bands_and_the_elevations(self, elevation):
        terrain = Terrain(elevation=elevation, bands=("slope",))
        assert terrain.describe() == {"terrain": ["slope"], "elevation": elevation.describe()}
