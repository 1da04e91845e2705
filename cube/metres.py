"""Coordinate reference systems in which distances are metres on the ground."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyproj


def is_metric(crs: pyproj.CRS) -> bool:
    """Whether the units of a projected CRS are metres on the ground, nearly.

    Those of Web Mercator are not: half a metre at 60 degrees (EPSG guidance note 7-2, method 1024).
    """
    units = {axis.unit_conversion_factor for axis in crs.axis_info[:2]}
    way = crs.coordinate_operation.method_name if crs.coordinate_operation else ""
    return crs.is_projected and units == {1.0} and "Pseudo Mercator" not in way
