"""Whose units are metres on the ground."""

from __future__ import annotations

import pyproj
import pytest

from cube.metres import is_metric


@pytest.mark.parametrize(
    ("crs", "expected"),
    [
        ("EPSG:32725", True),
        ("EPSG:5070", True),
        ("EPSG:3338", True),
        ("EPSG:5070+5703", True),  # with heights
        ("EPSG:2264", False),  # feet
        ("EPSG:3857", False),  # metres at the equator alone
        ("EPSG:4326", False),
    ],
)
def test_those_of_a_projection_in_metres_are_and_no_others(crs, expected):
    assert is_metric(pyproj.CRS(crs)) is expected
