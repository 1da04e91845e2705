"""From polygons to other polygons: between vintages of a census, and between geographies."""

from cube.crosswalks.crosswalk import Crosswalk
from cube.crosswalks.dasymetric import through
from cube.crosswalks.nesting import nested
from cube.crosswalks.overlay import cells, overlay, squares
from cube.crosswalks.tables import read_crosswalk

__all__ = ["Crosswalk", "cells", "nested", "overlay", "read_crosswalk", "squares", "through"]
