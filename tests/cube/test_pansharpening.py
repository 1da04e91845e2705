"""Pan-sharpening: hue and saturation stay, value becomes the panchromatic band."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

from cube.errors import SourceError
from cube.pansharpening import Pansharpened, sharpen
from cube.scenes import Source
from tests.cube.sources import Everywhere, Fixed, assert_same_in_any_box
from tests.rasters import grid_at, whole

GRID = grid_at((30, 37))
RNG = np.random.default_rng(5)
COLOUR = Fixed(bands=("red", "green", "blue"), values=RNG.uniform(0, 1, (3, 30, 37)))
PAN = Fixed(bands=("pan",), values=RNG.uniform(0, 1, (1, 30, 37)))

REFLECTANCES = st.floats(0, 1, width=32)


def arrays(bands):
    return hnp.arrays("float32", (bands, 3, 4), elements=REFLECTANCES)


class TestSharpen:
    @settings(deadline=None)
    @given(arrays(3), arrays(1))
    def test_it_equals_the_way_through_hsv(self, colour, pan):
        hsv = rgb_to_hsv(np.moveaxis(colour, 0, -1).astype("float64"))
        hsv[..., 2] = pan[0]
        expected = np.moveaxis(hsv_to_rgb(hsv), -1, 0)
        np.testing.assert_allclose(sharpen(colour, pan[0]), expected, rtol=1e-6, atol=1e-6)

    @settings(deadline=None)
    @given(arrays(3), arrays(1))
    def test_it_is_the_colours_times_pan_over_value(self, colour, pan):
        found, value = sharpen(colour, pan[0]), colour.max(axis=0).astype("float64")
        lit = value > 0
        expected = colour[:, lit] / value[lit] * pan[0][lit]
        np.testing.assert_allclose(found[:, lit], expected, rtol=1e-6, atol=1e-37)
        np.testing.assert_array_equal(found[:, ~lit], np.stack([pan[0][~lit]] * 3))
        np.testing.assert_array_equal(found.max(axis=0), pan[0])

    @settings(deadline=None)
    @given(arrays(3))
    def test_a_pan_that_is_the_value_changes_nothing(self, colour):
        found = sharpen(colour, colour.max(axis=0))
        np.testing.assert_allclose(found, colour, rtol=1e-6, atol=1e-44)

    def test_below_zero_counts_as_zero(self):
        colour = np.array([[[-0.1, -0.2]], [[0.2, -0.1]], [[0.4, -0.3]]])
        found = sharpen(colour, np.array([[0.8, 0.5]]))
        np.testing.assert_allclose(found[:, 0], [[0, 0.5], [0.4, 0.5], [0.8, 0.5]])
        np.testing.assert_array_equal(sharpen(colour, np.array([[-1.0, -1.0]])), 0)

    def test_above_one_stays_linear(self):
        colour, pan = RNG.uniform(0, 3, (3, 4, 5)), RNG.uniform(0, 3, (4, 5))
        np.testing.assert_allclose(
            sharpen(colour, pan), colour / colour.max(axis=0) * pan, rtol=1e-6
        )

    @pytest.mark.parametrize("band", range(4))
    def test_it_is_nan_where_any_input_is(self, band):
        four = RNG.uniform(0, 1, (4, 2, 3))
        four[:3, 0, 2] = 0
        four[band, 0, 1:] = np.nan
        found = sharpen(four[:3], four[3])
        np.testing.assert_array_equal(np.isnan(found), [[[0, 1, 1], [0, 0, 0]]] * 3)


class TestSource:
    def test_bands_come_in_the_order_of_the_colours_with_a_prefix(self):
        source = Pansharpened(COLOUR, PAN)
        assert isinstance(source, Source)
        assert source.bands == ("psred", "psgreen", "psblue")
        turned = Fixed(bands=("blue", "green", "red"), values=COLOUR.values[::-1])
        other = Pansharpened(turned, PAN, prefix="sharp_")
        assert other.bands == ("sharp_blue", "sharp_green", "sharp_red")
        found = source.read(GRID, *whole(GRID))
        assert found.dtype == "float32"
        np.testing.assert_array_equal(other.read(GRID, *whole(GRID)), found[::-1])

    def test_any_box_gives_the_same_to_the_bit(self):
        colour = Everywhere(bands=COLOUR.bands, value=lambda row, col: np.sin(row * 5 + col))
        pan = Everywhere(bands=("pan",), value=lambda row, col: np.cos(row + col * 3))
        assert_same_in_any_box(Pansharpened(colour, pan), GRID)
        assert colour.boxes == pan.boxes

    def test_it_describes_and_checks_both_and_travels(self):
        source = pickle.loads(pickle.dumps(Pansharpened(COLOUR, PAN)))
        assert source.describe() == {
            "pansharpened": ["psred", "psgreen", "psblue"],
            "colour": COLOUR.describe(),
            "pan": PAN.describe(),
        }
        source.check(GRID)
        assert source.colour.checked[-1] is GRID
        assert source.pan.checked[-1] is GRID

    @pytest.mark.parametrize(
        "bands", [("red", "green"), ("red", "green", "nir"), ("red", "green", "blue", "nir")]
    )
    def test_other_colours_are_refused(self, bands):
        match = f"exactly the bands red, green, blue. Received {', '.join(bands)}."
        with pytest.raises(SourceError, match=match):
            Pansharpened(Everywhere(bands=bands), PAN)

    def test_a_pan_of_two_bands_is_refused(self):
        with pytest.raises(SourceError, match="one panchromatic band. Received pan, more"):
            Pansharpened(COLOUR, Everywhere(bands=("pan", "more")))
