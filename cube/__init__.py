"""One Zarr cube for all predictor bands, labels and predictions of a place.

    spec = cube.CubeSpec(grid=grid, calendar=cube.years(2000, 2010), stacks=(...,))
    cube.create(url, spec)                        # metadata only
    cube.ingest(url, "predictors", {"2000": scene})
    dataset = cube.open(url)                      # xarray, float32, NaN for nodata

See ``docs/architecture.md`` for the whole.
"""

from cube import classes, coverage, crosswalks, partitions, transforms, windows
from cube.blocks import (
    Quantile,
    aggregate,
    aggregate_array,
    collect,
    collect_array,
    export,
    open_blocks,
    panel_map,
    plan_aggregate,
    remove_blocks,
    save_blocks,
    with_geometry,
)
from cube.classes import ClassExpression, ClassPolygons, ClassShares, PointLabels, Recode
from cube.composites import Composite
from cube.counting import ClearCount
from cube.coverage import Coverage
from cube.crosswalks import Crosswalk, read_crosswalk
from cube.dataset import open_cube as open
from cube.derivations import Derivation, derive, restore
from cube.derived import Absent, Join, Stored
from cube.distance import Distance
from cube.errors import CubeError
from cube.indices import Indices
from cube.ingest import ingest, plan_ingest
from cube.labels import interpolate, plan_spread, spread
from cube.layout import LayoutSpec
from cube.nightlights import night_lights
from cube.pansharpening import Pansharpened
from cube.partition_shares import partition_shares
from cube.partitions import PartitionWindows
from cube.polygons import PolygonReport, place_polygons, polygon_batches, read_polygons
from cube.quality import (
    LANDSAT_C1_SR,
    LANDSAT_C2,
    SENTINEL2_SCL,
    SENTINEL2_SCL_SNOW,
    Flag,
    QualityBits,
    QualityClasses,
)
from cube.regions import Region, regions
from cube.repairing import repair
from cube.run import Report
from cube.scenes import Scene, SceneBand, Source
from cube.scoring import (
    CloudCoverScore,
    CloudDistanceScore,
    DayScore,
    IndexScore,
    WeightedScore,
)
from cube.seasons import Season, two_years
from cube.siblings import check_siblings
from cube.spec import CubeSpec, LayerSpec, Period, StackSpec, years
from cube.statuses import Status, status
from cube.store import use_zarrs
from cube.tasseled import TasseledCap
from cube.template import add, append, create, read_spec, remove
from cube.terrain import Terrain
from cube.verifying import verify
from cube.windows import Windows, WindowSet
from cube.writing import write_region

__distribution__ = "quadrat"

__all__ = [
    "LANDSAT_C1_SR",
    "LANDSAT_C2",
    "SENTINEL2_SCL",
    "SENTINEL2_SCL_SNOW",
    "Absent",
    "ClassExpression",
    "ClassPolygons",
    "ClassShares",
    "ClearCount",
    "CloudCoverScore",
    "CloudDistanceScore",
    "Composite",
    "Coverage",
    "Crosswalk",
    "CubeError",
    "CubeSpec",
    "DayScore",
    "Derivation",
    "Distance",
    "Flag",
    "IndexScore",
    "Indices",
    "Join",
    "LayerSpec",
    "LayoutSpec",
    "Pansharpened",
    "PartitionWindows",
    "Period",
    "PointLabels",
    "PolygonReport",
    "QualityBits",
    "QualityClasses",
    "Quantile",
    "Recode",
    "Region",
    "Report",
    "Scene",
    "SceneBand",
    "Season",
    "Source",
    "StackSpec",
    "Status",
    "Stored",
    "TasseledCap",
    "Terrain",
    "WeightedScore",
    "WindowSet",
    "Windows",
    "add",
    "aggregate",
    "aggregate_array",
    "append",
    "classes",
    "collect",
    "collect_array",
    "coverage",
    "create",
    "crosswalks",
    "derive",
    "export",
    "ingest",
    "interpolate",
    "night_lights",
    "open",
    "open_blocks",
    "panel_map",
    "partition_shares",
    "partitions",
    "place_polygons",
    "plan_aggregate",
    "plan_ingest",
    "plan_spread",
    "polygon_batches",
    "read_crosswalk",
    "read_polygons",
    "read_spec",
    "regions",
    "remove",
    "remove_blocks",
    "repair",
    "restore",
    "save_blocks",
    "spread",
    "status",
    "transforms",
    "two_years",
    "use_zarrs",
    "verify",
    "windows",
    "with_geometry",
    "write_region",
    "years",
]

check_siblings()
