"""One Zarr cube for all predictor bands, labels and predictions of a place.

    spec = cube.CubeSpec(grid=grid, calendar=cube.years(2000, 2010), stacks=(...,))
    cube.create(url, spec)                        # metadata only
    cube.ingest(url, "predictors", {"2000": scene})
    dataset = cube.open(url)                      # xarray, float32, NaN for nodata

See ``docs/architecture.md`` for the whole.
"""

from cube import coverage, windows
from cube.collecting import collect, collect_array
from cube.composites import Composite
from cube.counting import ClearCount
from cube.coverage import Coverage
from cube.dataset import open_cube as open
from cube.derived import Absent, Join, Stored
from cube.distance import Distance
from cube.errors import CubeError
from cube.indices import Indices
from cube.ingest import ingest, plan_ingest
from cube.labels import spread
from cube.layout import LayoutSpec
from cube.nightlights import night_lights
from cube.pansharpening import Pansharpened
from cube.polygons import read_polygons
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
from cube.windows import Windows
from cube.writing import write_region

__distribution__ = "quadrat"

__all__ = [
    "LANDSAT_C1_SR",
    "LANDSAT_C2",
    "SENTINEL2_SCL",
    "SENTINEL2_SCL_SNOW",
    "Absent",
    "ClearCount",
    "CloudCoverScore",
    "CloudDistanceScore",
    "Composite",
    "Coverage",
    "CubeError",
    "CubeSpec",
    "DayScore",
    "Distance",
    "Flag",
    "IndexScore",
    "Indices",
    "Join",
    "LayerSpec",
    "LayoutSpec",
    "Pansharpened",
    "Period",
    "QualityBits",
    "QualityClasses",
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
    "Windows",
    "add",
    "append",
    "collect",
    "collect_array",
    "coverage",
    "create",
    "ingest",
    "night_lights",
    "open",
    "plan_ingest",
    "read_polygons",
    "read_spec",
    "regions",
    "remove",
    "repair",
    "spread",
    "status",
    "two_years",
    "use_zarrs",
    "verify",
    "windows",
    "write_region",
    "years",
]

check_siblings()
