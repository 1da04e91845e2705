"""Sets of polygons: read, checked, brought onto a grid, and as numbers."""

from cube.polygons.reading import (
    check_meets,
    check_polygons,
    datum_is_known,
    place_polygons,
    polygon_batches,
    polygons_digest,
    read_polygons,
    with_known_crs,
)
from cube.polygons.report import PolygonReport

__all__ = [
    "PolygonReport",
    "check_meets",
    "check_polygons",
    "datum_is_known",
    "place_polygons",
    "polygon_batches",
    "polygons_digest",
    "read_polygons",
    "with_known_crs",
]
