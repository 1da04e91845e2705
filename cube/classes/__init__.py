"""Class labels: from polygons, points and other rasters; and which image they belong to."""

from cube.classes.arithmetic import ClassExpression, Recode
from cube.classes.pairing import (
    Explicit,
    Nearest,
    OutlineYears,
    Same,
    pair_periods,
    pair_tiles,
    rule_from_dict,
)
from cube.classes.points import PointLabels, sample_negatives, tile_labels
from cube.classes.rasterising import ClassPolygons, ClassShares
from cube.classes.tiling import slippy_tiles, window_tiles

__all__ = [
    "ClassExpression",
    "ClassPolygons",
    "ClassShares",
    "Explicit",
    "Nearest",
    "OutlineYears",
    "PointLabels",
    "Recode",
    "Same",
    "pair_periods",
    "pair_tiles",
    "rule_from_dict",
    "sample_negatives",
    "slippy_tiles",
    "tile_labels",
    "window_tiles",
]
