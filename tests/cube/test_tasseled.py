"""Tasselled cap: a rotation of six bands, by name, the same in any box."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from cube.errors import SourceError
from cube.scenes import Source
from cube.tasseled import BANDS, COEFFICIENTS, INPUTS, TasseledCap
from tests.cube.sources import Everywhere, Fixed, assert_same_in_any_box
from tests.rasters import grid_at, whole

GRID = grid_at((30, 37))
IMAGE = np.random.default_rng(2).uniform(0, 0.7, (6, 30, 37)).astype("float32")
SOURCE = Fixed(bands=INPUTS, values=IMAGE)
SENSORS = pytest.mark.parametrize("sensor", ["tm", "etm", "oli"])


@SENSORS
class TestCoefficients:
    def test_rows_have_length_one_and_stand_at_right_angles(self, sensor):
        rows = np.array(COEFFICIENTS[sensor])
        assert rows.shape == (3, 6)
        np.testing.assert_allclose(rows @ rows.T, np.eye(3), atol=5e-4)

    def test_they_say_what_their_names_mean(self, sensor):
        brightness, greenness, wetness = np.array(COEFFICIENTS[sensor])
        assert (brightness > 0).all()
        assert greenness.argmax() == INPUTS.index("nir")
        assert greenness[INPUTS.index("red")] < -0.4
        assert (wetness[:4] > 0).all()
        assert (wetness[4:] < -0.4).all()

    def test_the_source_equals_a_matrix_product(self, sensor):
        found = TasseledCap(SOURCE, sensor).read(GRID, *whole(GRID))
        expected = np.einsum("ij,jyx->iyx", np.array(COEFFICIENTS[sensor]), IMAGE.astype("float64"))
        assert found.dtype == "float32"
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


class TestSource:
    def test_bands_go_in_by_name(self):
        turned = Fixed(
            bands=("thermal", *INPUTS[::-1]), values=np.concatenate([IMAGE[:1], IMAGE[::-1]])
        )
        cap = TasseledCap(turned, "oli")
        assert isinstance(cap, Source)
        assert (cap.bands, cap.units) == (BANDS, ("1", "1", "1"))
        np.testing.assert_array_equal(
            cap.read(GRID, *whole(GRID)), TasseledCap(SOURCE, "oli").read(GRID, *whole(GRID))
        )

    def test_any_box_gives_the_same_to_the_bit(self):
        made = Everywhere(bands=INPUTS, value=lambda row, col: np.sin(row * 7 + col) / 6)
        assert_same_in_any_box(TasseledCap(made, "tm"), GRID)

    def test_it_is_nan_where_any_band_is(self):
        holes = IMAGE.copy()
        for band in range(6):
            holes[band, band, band] = np.nan
        found = TasseledCap(Fixed(bands=INPUTS, values=holes), "etm").read(GRID, *whole(GRID))
        np.testing.assert_array_equal(np.isnan(found), np.stack([np.isnan(holes).any(axis=0)] * 3))

    def test_it_describes_its_numbers_checks_its_source_and_travels(self):
        cap = pickle.loads(pickle.dumps(TasseledCap(SOURCE, "tm")))
        rows = [list(row) for row in COEFFICIENTS["tm"]]
        assert cap.describe() == {"tasselled_cap": rows, "of": SOURCE.describe()}
        cap.check(GRID)
        assert cap.of.checked[-1] is GRID

    def test_an_unknown_sensor_is_refused(self):
        with pytest.raises(SourceError, match="known for tm, etm, oli. Received 'msi'"):
            TasseledCap(SOURCE, "msi")

    def test_a_missing_band_is_refused(self):
        five = Fixed(bands=INPUTS[:5], values=IMAGE[:5])
        with pytest.raises(SourceError, match="needs the bands blue, .*; swir2 missing. The"):
            TasseledCap(five, "tm")
