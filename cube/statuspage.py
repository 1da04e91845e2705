"""What is done of a cube, as HTML: in a notebook, or as a page of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from html import escape

from cube import statusmap
from cube.columns import clean
from cube.counts import VariableStatus, counts_of

_MANY_VARIABLES = 12
_MOST_RANGES = 12
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
body { margin: 2rem auto; padding: 0 1.5rem; max-width: 90rem; color: #1f2933;
  background: #f4f3f0; font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
table { border-collapse: collapse; margin-top: 1.5rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #d9d7d2; }
"""


def fragment(heading: str, variables: Sequence[VariableStatus]) -> str:
    """Picture and table for a notebook; of many variables, each folded."""
    if len(variables) > _MANY_VARIABLES:
        return _folded(heading, variables)
    return f"<div>{_picture(heading, variables)}{_table(variables)}</div>"


def page(heading: str, variables: Sequence[VariableStatus]) -> str:
    """Picture and table as one file."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(clean(heading))}</title>
<style>{_STYLE}</style>
</head>
<body>
{_picture(heading, variables)}
{_table(variables)}
</body>
</html>
"""


def _folded(heading: str, variables: Sequence[VariableStatus]) -> str:
    """Each variable folded, so that a notebook stays short."""
    head = f"<strong>{escape(clean(heading))}</strong>: {escape(counts_of(variables).summary)}"
    budget = statusmap.BUDGET // len(variables)
    parts = (_details(variable, budget) for variable in variables)
    return f"<div><p>{head}</p>{''.join(parts)}</div>"


def _details(variable: VariableStatus, budget: int) -> str:
    """One variable: its counts, and its picture inside."""
    counts, picture = variable.counts, _picture(variable.name, [variable], budget=budget)
    return (
        f'<details><summary><progress max="{max(counts.total, 1)}" value="{counts.done}">'
        f"</progress> <strong>{escape(clean(variable.name))}</strong> {escape(counts.noted)}"
        f"</summary><p>{escape(_ranges(variable))}</p>{picture}</details>"
    )


def _picture(
    heading: str, variables: Sequence[VariableStatus], *, budget: int = statusmap.BUDGET
) -> str:
    svg = statusmap.svg(statusmap.draw(heading, variables, budget=budget))
    return f'<div style="overflow-x:auto">{svg}</div>'


def _table(variables: Iterable[VariableStatus]) -> str:
    rows = [_row("th", ["Variable", "Dimensions", "Done", "", "Periods"])]
    for v in variables:
        counts = v.counts
        dims = clean(", ".join(v.dims))
        rows.append(_row("td", [clean(v.name), dims, str(counts), counts.notes, _ranges(v)]))
    return f"<table>{''.join(rows)}</table>"


def _row(tag: str, texts: Sequence[str]) -> str:
    """Cells of text; only the last is broken into lines."""
    style = "text-align:left;vertical-align:top;padding:0.25em 1em 0.25em 0"
    styles = [f"{style};white-space:nowrap"] * (len(texts) - 1) + [style]
    cells = (
        f'<{tag} style="{style}">{escape(text)}</{tag}>'
        for style, text in zip(styles, texts, strict=True)
    )
    return f"<tr>{''.join(cells)}</tr>"


def _ranges(variable: VariableStatus) -> str:
    """Periods in a row that are equally far, e.g. ``"2000–2004: all 16; 2005: none"``."""
    pairs = zip(variable.periods, map(str, variable.by_period), strict=False)
    parts = []
    for text, group in itertools.groupby(pairs, key=lambda pair: pair[1]):
        labels = [clean(label) for label, _ in group]
        ends = labels[0] if len(labels) == 1 else f"{labels[0]}–{labels[-1]}"
        parts.append(f"{ends}: {text}")
    more = len(parts) - _MOST_RANGES
    return "; ".join([*parts[:_MOST_RANGES], *[f"and {more} more"] * (more > 0)])
