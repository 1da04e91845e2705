"""From pixels to blocks: panels of statistics, kept in the cube and written to files."""

from cube.blocks.aggregating import aggregate, aggregate_array, plan_aggregate
from cube.blocks.collecting import collect, collect_array
from cube.blocks.exporting import export
from cube.blocks.maps import panel_map
from cube.blocks.members import with_geometry
from cube.blocks.statistics import Quantile
from cube.blocks.vectors import open_blocks, remove_blocks, save_blocks

__all__ = [
    "Quantile",
    "aggregate",
    "aggregate_array",
    "collect",
    "collect_array",
    "export",
    "open_blocks",
    "panel_map",
    "plan_aggregate",
    "remove_blocks",
    "save_blocks",
    "with_geometry",
]
