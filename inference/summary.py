"""One page about a map of what people were counted: scores, maps, and how it was made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cube.coverage import Coverage
from cube.dataset import open_cube
from cube.template import read_spec
from inference.evaluation import CONTEXT, FOREST, MODEL, RANDOM, Evaluation
from inference.maps import map_panels, scatter_panel
from inference.panels import MapPanel, percentile_stretch
from inference.report import KeyFigure, Page, Picture, Section, Table, write_page

if TYPE_CHECKING:
    import xarray as xr

Extent = tuple[float, float, float, float]
FloatArray = npt.NDArray[np.floating[Any]]

UNIT = "log persons per km²"


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What a page tells beside the numbers.

    Attributes:
        title: Headline.
        place: What the polygons are, e.g. ``"census tracts of Olinda"``.
        rgb: Bands of the picture: a stack and three of its bands, red first.
        notes: Paragraphs on the data that a reader must know.
        seconds: Step to duration.
    """

    title: str
    place: str
    rgb: tuple[str, tuple[str, str, str]]
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


def write_summary(path: str | os.PathLike[str], evaluation: Evaluation, story: Story) -> Path:
    """Write scores, maps and how they were made as one HTML file that needs nothing else.

    Returns:
        Its path.
    """
    sections = [
        Section(title="The map", parts=(_maps(evaluation, story),)),
        Section(title="Scores", parts=(*_score_text(evaluation), _score_table(evaluation))),
        Section(title="Measured and predicted", parts=(_scatter(evaluation),)),
        Section(title="Where it was tested", parts=(str(evaluation.split), _folds(evaluation))),
    ]
    if story.notes:
        sections.append(Section(title="The data", parts=story.notes))
    if story.seconds:
        sections.append(Section(title="Time", parts=(_times(story),)))
    page = Page(
        title=story.title,
        lead=_lead(evaluation, story),
        figures=_figures(evaluation),
        sections=tuple(sections),
        provenance=_provenance(evaluation),
    )
    return write_page(path, page)


_SCORE_TEXT = (
    "R² is of log density, every polygon predicted by a model that {saw}. The "
    "interval holds 95 % of 2,000 bootstrap draws of whole neighbourhoods. Every method "
    "trains on the same polygons, outside the same buffer. The rows on random folds ignore "
    "place, as is often done: the difference to their namesakes is how much that flatters."
)


def _score_text(found: Evaluation) -> tuple[str, ...]:
    """How scores came about, and what must be said of their split."""
    note = found.split.note
    saw = "saw its neighbours, though not itself" if note else "never saw its place"
    text = _SCORE_TEXT.format(saw=saw)
    return (f"{note[0].upper()}{note[1:]}: these scores flatter.", text) if note else (text,)


def _lead(found: Evaluation, story: Story) -> str:
    score = found.scores.loc[MODEL]
    return (
        f"A convolutional network learned {found.sample.layer_target.layer} from satellite image "
        f"chips and predicted all {len(found.polygons)} {story.place}, each in a fold that "
        f"it was not trained on. It explains {score['R2']:.0%} of the variance of log density (R², "
        f"95 % interval {score['R2 low']:.2f} to {score['R2 high']:.2f})."
        f"{f' A {found.split.note}.' if found.split.note else ''}"
    )


def _figures(found: Evaluation) -> tuple[KeyFigure, ...]:
    scores = found.scores
    model, forest, context = (scores.loc[name] for name in (MODEL, FOREST, CONTEXT))
    flattered = scores.loc[CONTEXT + RANDOM]
    return (
        KeyFigure(
            value=f"{model['R2']:.2f}",
            label=f"R² of the network, {found.split.kind}",
            note=found.split.note
            or f"95 % interval {model['R2 low']:.2f} to {model['R2 high']:.2f}",
        ),
        KeyFigure(
            value=f"{forest['R2']:.2f}",
            label="R² of a forest on polygon means",
            note=f"with context {context['R2']:.2f}",
        ),
        KeyFigure(
            value=f"{flattered['R2']:.2f}",
            label="R² of the context forest on random folds",
            note=f"{flattered['R2'] - context['R2']:+.2f} from the choice of folds alone",
        ),
        KeyFigure(
            value=f"{found.split.lost_share:.0%}",
            label="of training polygons lost to the buffer",
            note=f"{found.split.buffer_px} pixels between windows",
        ),
    )


def _maps(found: Evaluation, story: Story) -> Picture:
    polygons, extent = found.polygons, _extent(found.coverage)
    shapes = polygons.geometry.to_numpy()
    scale = tuple(float(v) for v in np.percentile(polygons["measured"], [2, 98]))
    error = (polygons["predicted"] - polygons["measured"]).to_numpy()
    colours: dict[str, Any] = {"scale": scale, "label": UNIT, "extent": extent}
    panels = [
        MapPanel(
            title="What the satellite saw", image=_rgb(found, story), extent=extent, outlines=shapes
        ),
        MapPanel(title="Measured", outlines=shapes, values=polygons["measured"], **colours),
        MapPanel(title="Predicted", outlines=shapes, values=polygons["predicted"], **colours),
        MapPanel(title="Predicted, every pixel", image=_pixels(found), **colours),
        MapPanel(
            title="Error",
            outlines=shapes,
            values=error,
            extent=extent,
            colormap="RdBu_r",
            label="predicted - measured, log",
        ),
    ]
    return Picture(
        png=map_panels(panels, columns=3),
        alt=(
            "Five maps: the satellite image with outlines, measured and predicted log "
            "density by polygon, predicted log density by pixel, and the error."
        ),
        caption=(
            "Densities share one colour scale. Each pixel was predicted by the model of its "
            "fold; pixels outside all polygons belong to the fold of the nearest."
        ),
    )


def _rgb(found: Evaluation, story: Story) -> npt.NDArray[np.uint8]:
    stack, bands = story.rgb
    values = _at(open_cube(found.coverage.url)[stack], found.sample.input_time)
    dim = read_spec(found.coverage.url).stack(stack).band_dim
    chosen = values.sel({dim: list(bands)}).transpose(dim, "y", "x").to_numpy()
    return percentile_stretch(chosen)


def _pixels(found: Evaluation) -> FloatArray:
    per_pixel = _at(open_cube(found.coverage.url)[found.layer], found.sample.label_time).to_numpy()
    return np.log(per_pixel / (found.coverage.pixel_area / 1e6))


def _at(values: xr.DataArray, label: str | None) -> xr.DataArray:
    return values.sel(time=label).squeeze("time") if "time" in values.dims else values


def _extent(coverage: Coverage) -> Extent:
    """Outer edges of the grid as maps take them: left, right, bottom, top."""
    box = coverage.grid.boundingbox
    return box.left, box.right, box.bottom, box.top


def _folds(found: Evaluation) -> Picture:
    fitted, _ = found.split.masks()
    first = found.split.folds[0].fold
    role = np.where(found.split.polygon_fold == first, 2.0, np.where(fitted[first], 0.0, 1.0))
    shapes = found.polygons.geometry.to_numpy()
    number = found.split.polygon_fold
    panels = [
        MapPanel(
            title="Fold in which each polygon is tested",
            outlines=shapes,
            values=number.astype("float64"),
            extent=_extent(found.coverage),
            classes=tuple(f"fold {fold + 1}" for fold in range(len(found.split.folds))),
        ),
        MapPanel(
            title=f"Fold {first + 1}",
            outlines=shapes,
            values=role,
            extent=_extent(found.coverage),
            classes=("trained on", "lost to the buffer", "tested"),
        ),
    ]
    return Picture(
        png=map_panels(panels, columns=2),
        alt="Two maps: the fold of every polygon, and the parts of the first fold.",
        caption=found.split.note or "Folds are contiguous groups of whole neighbourhoods.",
    )


def _scatter(found: Evaluation) -> Picture:
    shown = {name: found.predictions[name] for name in (MODEL, FOREST, CONTEXT)}
    return Picture(
        png=scatter_panel(found.polygons["measured"], shown, label=UNIT),
        alt="Scatter plots of predicted against measured log density for three methods.",
        caption="Each point is one polygon, predicted out of fold; the line is 1:1.",
    )


def _score_table(found: Evaluation) -> Table:
    return Table(
        frame=found.scores,
        caption=f"Scores of {UNIT}; R² by fold is against the fold's own mean.",
        best=found.best,
    )


def _times(story: Story) -> Table:
    frame = pd.DataFrame({"seconds": pd.Series(dict(story.seconds), dtype="float64")})
    frame.loc["in all"] = frame["seconds"].sum()
    return Table(
        frame=frame.rename_axis("step"),
        caption="Wall-clock time of each step.",
        decimals=1,
    )


def _provenance(found: Evaluation) -> dict[str, str]:
    spec = read_spec(found.coverage.url)
    return {
        "cube spec": spec.digest,
        "split": found.split.digest,
        "polygons": found.coverage.digest,
        **{name: version(name) for name in ("quadrat", "xarray", "zarr", "numpy", "rasterio")},
    }
