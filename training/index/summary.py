"""The chip index in a few lines of text or HTML."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import pandas as pd

from cube.columns import aligned, clean

if TYPE_CHECKING:
    from training.index.chip_index import ChipIndex

_PLACES = ("chip", "window", "row", "col")


def _head(index: ChipIndex) -> str:
    windows, all_chips = index.facts["windows"], int(index.facts["chips"])
    return (
        f"{len(index):,} of {all_chips:,} chips, {index.frame['window'].nunique():,} windows of "
        f"{windows['size']} px at stride {windows['stride']}"
    )


def _rows(index: ChipIndex) -> list[list[str]]:
    """Name, least, mean and greatest value of each column of numbers, and what is missing."""
    rows = [["column", "min", "mean", "max", "missing"]]
    for name in index.frame.columns.drop([*_PLACES, "geometry"]):
        values = index.frame[name]
        missing = int(values.isna().sum())
        shown = ["", "", ""]
        if pd.api.types.is_numeric_dtype(values) and missing < len(values):
            shown = [f"{number:.4g}" for number in (values.min(), values.mean(), values.max())]
        elif missing < len(values):
            shown[0] = f"{values.nunique()} different"
        rows.append([clean(str(name)), *shown, f"{missing:,}" if missing else ""])
    return rows


def _notes(index: ChipIndex) -> list[str]:
    unwritten = {name: n for name, n in index.facts["unwritten"].items() if n}
    notes = [f"filter: {clean(str(step))}" for step in index.history]
    if unwritten:
        counts = ", ".join(f"{name} {n:,}" for name, n in unwritten.items())
        notes.append(f"regions never written, which count as nodata: {counts}")
    return notes


def text(index: ChipIndex) -> str:
    """For a terminal."""
    return "\n".join([_head(index), *aligned(_rows(index)), *_notes(index)])


def page(index: ChipIndex) -> str:
    """For a notebook."""
    lines = [
        "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"
        for row, tag in zip(_rows(index), ["th"] + ["td"] * len(index.frame.columns), strict=False)
    ]
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in _notes(index))
    return f"<p>{html.escape(_head(index))}</p><table>{''.join(lines)}</table>" + (
        f"<ul>{notes}</ul>" if notes else ""
    )
