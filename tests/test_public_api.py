"""What the four packages promise: changing this list is a decision, not an accident."""

from __future__ import annotations

import importlib

import pytest

PUBLIC = {
    "catalogs": [
        "geotiff",
        "grid_of",
    ],
    "cube": [
        "Coverage",
        "CubeError",
        "CubeSpec",
        "LayerSpec",
        "LayoutSpec",
        "Period",
        "Region",
        "Report",
        "Scene",
        "SceneBand",
        "Source",
        "StackSpec",
        "Status",
        "Terrain",
        "Windows",
        "add",
        "append",
        "collect",
        "collect_array",
        "coverage",
        "create",
        "ingest",
        "open",
        "plan_ingest",
        "read_polygons",
        "read_spec",
        "regions",
        "remove",
        "repair",
        "spread",
        "status",
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
    assert listed == sorted(set(listed))


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_exists_and_says_what_it_is(package):
    module = importlib.import_module(package)
    for name in module.__all__:
        assert getattr(module, name).__doc__, name
