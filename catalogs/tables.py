"""A manifest for notebooks: scenes by year and month, and what was left out."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Mapping

_MONTHS = tuple(f"{month:02d}" for month in range(1, 13))
_MOST = 20
"""Excluded scenes that are listed."""


def manifest_html(title: str, times: Iterable[str | None], excluded: Mapping[str, str]) -> str:
    """HTML of a manifest, every text escaped.

    Args:
        title: Of the manifest.
        times: Of its scenes, ISO 8601; None where nobody says.
        excluded: Id to reason.
    """
    counts = Counter(time[:7] if time else "" for time in times)
    caption = f"{title or 'Manifest'}: {counts.total()} scenes"
    if counts[""]:
        caption += f", {counts['']} without a time"
    rows = [_row("th", ["year", *_MONTHS, "all"])]
    for year in sorted({month[:4] for month in counts if month}):
        found = [counts[f"{year}-{month}"] for month in _MONTHS]
        rows.append(_row("td", [year, *(str(n or "") for n in found), str(sum(found))]))
    table = f"<table><caption>{html.escape(caption)}</caption>{''.join(rows)}</table>"
    return table + _left_out(excluded)


def _left_out(excluded: Mapping[str, str]) -> str:
    if not excluded:
        return ""
    rows = [_row("td", entry) for entry in list(excluded.items())[:_MOST]]
    caption = f"{len(excluded)} excluded"
    if len(excluded) > _MOST:
        caption += f", the first {_MOST}"
    return f"<table><caption>{caption}</caption>{''.join(rows)}</table>"


def _row(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"
