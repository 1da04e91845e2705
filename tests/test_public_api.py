"""What the four packages promise: changing this list is a decision, not an accident."""

from __future__ import annotations

import importlib

import pytest

PUBLIC = {
    "catalogs": [
        "LANDSAT_C2_L2",
        "REMOTE",
        "SENTINEL2_L2A_EARTH_SEARCH",
        "SENTINEL2_L2A_PLANETARY",
        "Access",
        "LandsatCollection2",
        "Manifest",
        "Profile",
        "Sentinel2",
        "StackReader",
        "TopCodes",
        "examine",
        "examine_all",
        "find_duplicates",
        "geotiff",
        "grid_of",
        "read_items",
        "scene_of",
        "scenes_from_files",
        "scenes_from_netcdf",
        "scenes_of",
        "search",
        "without_duplicates",
    ],
    "cube": [
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
    ],
    "inference": [
        "Evaluation",
        "KeyFigure",
        "MapPanel",
        "Page",
        "Picture",
        "Section",
        "Story",
        "Table",
        "bootstrap_interval",
        "context_features",
        "evaluate",
        "format_scores",
        "map_panels",
        "plan_predict",
        "polygon_features",
        "predict",
        "r2",
        "scatter_panel",
        "score_table",
        "write_page",
        "write_summary",
        "write_table",
    ],
    "training": [
        "ChipStream",
        "FitSpec",
        "ModelBundle",
        "SampleSpec",
        "Split",
        "SplitRules",
        "StreamSpec",
        "Supervision",
        "Target",
        "check_leaks",
        "contiguous_folds",
        "cross_validate",
        "fit_fold",
        "index_chips",
        "load_bundle",
        "split_by_place",
        "split_by_polygons",
        "training_moments",
        "whole_groups",
        "write_folds",
    ],
}


@pytest.mark.parametrize("package", PUBLIC)
def test_the_public_names_are_these(package):
    assert importlib.import_module(package).__all__ == PUBLIC[package]


@pytest.mark.parametrize("package", PUBLIC)
def test_the_public_names_are_sorted_and_listed_once(package):
    listed = importlib.import_module(package).__all__
    # Constants come first, as the linter has it.
    assert listed == sorted(set(listed), key=lambda name: (not name.isupper(), name))


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_exists_and_says_what_it_is(package):
    module = importlib.import_module(package)
    for name in module.__all__:
        assert getattr(module, name).__doc__, name
