"""Night lights: two sensors in two bands, and neither under the name of the other."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from cube.derived import units_of
from cube.errors import SourceError
from cube.nightlights import night_lights
from cube.scenes import Source
from tests.cube.sources import Everywhere, Fixed, assert_same_in_any_box
from tests.rasters import grid_at, whole

GRID = grid_at((30, 37))
DIGITAL = np.random.default_rng(1).integers(0, 64, (1, 30, 37)).astype("float32")
RADIANCE = np.random.default_rng(2).gamma(0.5, 60, (1, 30, 37)).astype("float32") - 0.5
DMSP = Fixed(bands=("avg_vis",), values=DIGITAL)
VIIRS = Fixed(bands=("average",), values=RADIANCE)


def lights():
    return night_lights({"2005": DMSP, "2013": DMSP}, {"2013": VIIRS, "2020": VIIRS})


class TestNightLights:
    def test_every_period_has_both_bands_with_their_units(self):
        found = lights()
        assert list(found) == ["2005", "2013", "2020"]
        for source in found.values():
            assert isinstance(source, Source)
            assert source.bands == ("dmsp", "viirs")
            assert units_of(source) == ("1", "nW cm-2 sr-1")

    @pytest.mark.parametrize(("label", "has"), [("2005", "d"), ("2013", "dv"), ("2020", "v")])
    def test_a_sensor_without_an_image_is_nodata_and_never_filled_from_the_other(self, label, has):
        dmsp, viirs = lights()[label].read(GRID, *whole(GRID))
        nothing = np.full((30, 37), np.nan)
        np.testing.assert_array_equal(dmsp, DIGITAL[0] if "d" in has else nothing)
        np.testing.assert_array_equal(viirs, RADIANCE[0] if "v" in has else nothing)

    def test_any_box_gives_the_same_to_the_bit(self):
        dmsp = Everywhere(bands=("x",), value=lambda row, col: (row * 7 + col) % 64)
        viirs = Everywhere(bands=("x",), value=lambda row, col: np.sin(row + col) * 900)
        for source in night_lights({"a": dmsp, "b": dmsp}, {"a": viirs, "c": viirs}).values():
            assert_same_in_any_box(source, GRID)

    def test_descriptions_tell_the_sensors_apart(self):
        found = lights()
        assert found["2013"].describe() == {"dmsp": DMSP.describe(), "viirs": VIIRS.describe()}
        assert found["2020"].describe() == {
            "dmsp": {"absent": ["dmsp"]},
            "viirs": VIIRS.describe(),
        }

    def test_both_are_checked_and_it_travels(self):
        source = pickle.loads(pickle.dumps(lights()["2013"]))
        source.check(GRID)
        assert source.dmsp.checked[-1] is source.viirs.checked[-1] is GRID


class TestRefusals:
    @pytest.mark.parametrize("value", [-1, -0.01, 63.5, 64, 255, 4000.0])
    def test_what_is_no_digital_number_is_not_dmsp(self, value):
        values = DIGITAL.copy()
        values[0, 3, 4] = value
        source = night_lights({"2005": Fixed(bands=("x",), values=values)}, {})["2005"]
        assert source.read(GRID, (5, 9), (0, 9)).shape == (2, 4, 9)
        match = f"digital numbers 0..63. Received 1 values outside, such as {value:g}. Check that"
        with pytest.raises(SourceError, match=match):
            source.read(GRID, (0, 9), (0, 9))

    def test_viirs_under_the_name_of_dmsp_is_caught(self):
        source = night_lights({"2020": VIIRS}, {})["2020"]
        with pytest.raises(SourceError, match="Check that this is not an image of VIIRS"):
            source.read(GRID, *whole(GRID))

    @pytest.mark.parametrize("value", [0.0, 63.0, np.float32(63.00001), np.nan])
    def test_the_ends_of_the_scale_rounding_and_nodata_pass(self, value):
        values = np.full((1, 30, 37), value, "float32")
        source = night_lights({"a": Fixed(bands=("x",), values=values)}, {})["a"]
        np.testing.assert_array_equal(source.read(GRID, (0, 4), (0, 4))[0], values[0, :4, :4])

    @pytest.mark.parametrize("which", ["dmsp", "viirs"])
    def test_a_source_of_two_bands_is_refused(self, which):
        two = {"2005": Everywhere(bands=("a", "b"))}
        with pytest.raises(SourceError, match=f"one band for {which}. Received a, b"):
            night_lights(**{"dmsp": {}, "viirs": {}, which: two})

    def test_no_image_at_all_is_refused(self):
        with pytest.raises(SourceError, match="one period at least. Received none"):
            night_lights({}, {})
