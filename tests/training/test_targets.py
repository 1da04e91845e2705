"""What a model learns goes there and back, and areas are in square kilometres."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from cube.errors import SpecError
from training.targets import Target, pixel_km2

targets = st.builds(
    Target,
    layer=st.just("population"),
    per=st.sampled_from([None, "km2"]),
    transform=st.sampled_from(["log", "identity"]),
)


def _grid(crs, resolution):
    return GeoBox.from_bbox((0, 0, resolution * 4, resolution * 4), crs=crs, resolution=resolution)


class TestTarget:
    @settings(deadline=None)
    @given(targets, st.floats(1e-6, 1e6), st.floats(1e-6, 1e3))
    def test_inverse_undoes_forward(self, target, value, area):
        learned = target.forward(np.array([value]), pixel_km2=area)
        assert target.inverse(learned, pixel_km2=area) == pytest.approx([value], rel=1e-9)

    def test_a_log_density_is_the_logarithm_of_persons_per_square_kilometre(self):
        target = Target(layer="population", per="km2", transform="log")
        learned = target.forward(np.array([9.0]), pixel_km2=0.0009)
        assert learned == pytest.approx([np.log(10_000)])

    def test_a_logarithm_takes_zero_and_nodata_as_not_observed(self):
        target = Target(layer="population", transform="log")
        learned = target.forward(np.array([0.0, np.nan, 1.0]), pixel_km2=1.0)
        assert np.isnan(learned).tolist() == [True, True, False]

    def test_the_identity_keeps_zero(self):
        learned = Target(layer="population").forward(np.array([0.0, np.nan]), pixel_km2=1.0)
        assert learned[0] == 0.0
        assert np.isnan(learned[1])

    @pytest.mark.parametrize("wrong", [{"per": "ha"}, {"transform": "sqrt"}])
    def test_what_is_not_known_is_refused(self, wrong):
        with pytest.raises(SpecError, match="per 'km2' or None"):
            Target(layer="population", **wrong)


class TestPixelArea:
    def test_thirty_metres_make_nine_ten_thousandths_of_a_square_kilometre(self):
        assert pixel_km2(_grid("EPSG:31985", 30)) == pytest.approx(0.0009)

    @pytest.mark.parametrize(
        ("crs", "resolution"), [("EPSG:4326", 0.001), ("EPSG:2263", 100)], ids=["degrees", "feet"]
    )
    def test_a_grid_that_is_not_in_metres_is_refused(self, crs, resolution):
        with pytest.raises(SpecError, match="projected grid, in metres"):
            pixel_km2(_grid(crs, resolution))
