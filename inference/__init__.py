"""From trained models to maps, tables, scores and pages.

Importing this package loads no deep-learning framework; predicting does.
"""

import cube

if getattr(cube, "__distribution__", None) != "quadrat":
    raise ImportError(
        f"quadrat needs its own package 'cube', but Python finds {cube.__file__!r} under that "
        f"name. Rename what shadows it, or work in another folder."
    )

from inference.evaluation import Evaluation, evaluate
from inference.features import context_features, polygon_features
from inference.maps import map_panels, scatter_panel
from inference.panels import MapPanel
from inference.predict import plan_predict, predict
from inference.report import KeyFigure, Page, Picture, Section, Table, write_page
from inference.scores import bootstrap_interval, format_scores, r2, score_table
from inference.summary import Story, write_summary
from inference.tables import write_table

__distribution__ = "quadrat"

__all__ = [
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
]
