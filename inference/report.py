"""One HTML file that tells what a run found, to people who were not there.

The file stands alone: pictures and style are inside, and a content policy in it
forbids the browser to ask for anything else. It reads in a light and a dark
room, on paper, and through a screen reader.
"""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING

from cube.errors import SpecError

if TYPE_CHECKING:
    import pandas as pd

_PNG = b"\x89PNG\r\n\x1a\n"
_MINUS, _MISSING = "\N{MINUS SIGN}", "\N{EN DASH}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFigure:
    """A number that should be seen first.

    Attributes:
        value: As it is shown, e.g. ``"0.53"`` or ``"470"``.
        label: What it is.
        unit: Shown small behind the value.
        note: What it is to be compared with, e.g. its interval.
    """

    value: str
    label: str
    unit: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        _check_text("A key figure", value=self.value, label=self.label)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """A table of numbers and text, its index as the head of each row.

    Attributes:
        frame: One level of columns and one of rows, with distinct columns.
        caption: What the rows and columns are, with units.
        best: Index label of the row to mark, or None.
        decimals: Places behind the point of floats. Integers get thousands
            separators, missing values a dash.
        formats: Column to format, e.g. ``{"share": ".0%"}``, before ``decimals``.

    Raises:
        SpecError: There is no caption, ``best`` is no row, a column of
            ``formats`` is none, or labels have several levels or columns repeat.
    """

    frame: pd.DataFrame
    caption: str
    best: Hashable | None = None
    decimals: int = 2
    formats: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_text("A table", caption=self.caption)
        columns, rows = self.frame.columns, self.frame.index
        if columns.nlevels > 1 or rows.nlevels > 1 or not columns.is_unique:
            raise SpecError(
                f"Table {self.caption!r}: rows and columns must have one level, and columns "
                f"distinct names. Received {rows.nlevels} and {columns.nlevels} levels, columns "
                f"{list(columns)}; reset the index or rename."
            )
        if self.best is not None and self.best not in rows:
            raise SpecError(
                f"Table {self.caption!r}: best must be a row. Received {self.best!r}; there are "
                f"{list(rows)}."
            )
        unknown = set(self.formats) - set(map(str, columns))
        if unknown:
            raise SpecError(
                f"Table {self.caption!r}: formats must be for columns. Received "
                f"{sorted(unknown)}; there are {list(columns)}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A PNG, such as :mod:`inference.maps` makes.

    Attributes:
        png: The file's bytes.
        alt: What there is to see, for who cannot see it.
        caption: What it means, for who can.

    Raises:
        SpecError: The bytes are no PNG, or a text is missing.
    """

    png: bytes
    alt: str
    caption: str

    def __post_init__(self) -> None:
        _check_text("A picture", alt=self.alt, caption=self.caption)
        if not self.png.startswith(_PNG) or len(self.png) < 24:
            raise SpecError(
                f"Picture {self.caption!r}: png must be the bytes of a PNG file. Received "
                f"{len(self.png)} bytes that begin with {self.png[:8]!r}."
            )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels, from the header (PNG specification, section 11.2.1)."""
        width, height = struct.unpack(">II", self.png[16:24])
        return height, width


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading and what stands under it, in order.

    Attributes:
        title: The heading.
        parts: Plain text (blank lines part paragraphs), tables and pictures.
    """

    title: str
    parts: tuple[str | Table | Picture, ...]

    def __post_init__(self) -> None:
        _check_text("A section", title=self.title)
        object.__setattr__(self, "parts", tuple(self.parts))
        for part in self.parts:
            if not isinstance(part, str | Table | Picture):
                raise SpecError(
                    f"Section {self.title!r}: parts must be text, Table or Picture. Received "
                    f"{type(part).__name__}."
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """All that one file tells.

    Attributes:
        title: The headline.
        lead: One paragraph: what was done, and what came out.
        figures: Numbers to see first.
        sections: The rest, in order.
        provenance: What it was made from and with, e.g. ``{"spec": "1f0c...",
            "quadrat": "0.1.0"}``; no clock, host or path.
    """

    title: str
    lead: str
    figures: tuple[KeyFigure, ...] = ()
    sections: tuple[Section, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_text("A page", title=self.title, lead=self.lead)
        object.__setattr__(self, "figures", tuple(self.figures))
        object.__setattr__(self, "sections", tuple(self.sections))


def write_page(path: str | os.PathLike[str], page: Page) -> Path:
    """Write a page as one HTML file, whole or not at all.

    The same page gives the same bytes. Folders on the way are made; a file that
    is there is replaced in one step, and stays as it was if writing fails.

    Args:
        path: Where to; usually ends in ``.html``.
        page: What to write.

    Returns:
        ``path``.

    Raises:
        OSError: The place cannot be written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(page_html(page).encode())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def page_html(page: Page) -> str:
    """The page as an HTML document; all text of ``page`` is escaped."""
    figures = "\n".join(_figure(figure) for figure in page.figures)
    shown = f'<ul class="figures">\n{figures}\n</ul>' if figures else ""
    sections = "\n".join(_section(section) for section in page.sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(page.title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{escape(page.title)}</h1>
<p class="lead">{escape(page.lead)}</p>
</header>
<main>
{shown}
{sections}
</main>
{_footer(page.provenance)}
</body>
</html>
"""


def _figure(figure: KeyFigure) -> str:
    unit = f'<span class="unit"> {escape(figure.unit)}</span>' if figure.unit else ""
    note = f'<span class="note">{escape(figure.note)}</span>' if figure.note else ""
    return (
        f'<li><span class="label">{escape(figure.label)}</span>'
        f'<span class="value">{escape(figure.value)}{unit}</span>{note}</li>'
    )


def _section(section: Section) -> str:
    parts = "\n".join(_part(part) for part in section.parts)
    return f"<section>\n<h2>{escape(section.title)}</h2>\n{parts}\n</section>"


def _part(part: str | Table | Picture) -> str:
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Picture):
        return _picture(part)
    paragraphs = (text.strip() for text in part.split("\n\n"))
    return "\n".join(f"<p>{escape(text)}</p>" for text in paragraphs if text)


def _picture(picture: Picture) -> str:
    height, width = picture.size
    data = base64.b64encode(picture.png).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(picture.alt)}" '
        f'width="{width}" height="{height}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _table(table: Table) -> str:
    frame = table.frame
    corner = "" if frame.index.name is None else frame.index.name
    heads = _cells("th", [corner, *frame.columns], ' scope="col"')
    values = frame.astype(object).where(frame.notna(), None)
    rows = "\n".join(
        _row(label, [_shown(value, table, column) for column, value in row.items()], table)
        for label, row in values.iterrows()
    )
    caption = escape(table.caption)
    return (
        f'<div class="table" role="region" tabindex="0" aria-label="{caption}">'
        f"<table><caption>{caption}</caption>\n<thead><tr>{heads}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _row(label: Hashable, cells: list[str], table: Table) -> str:
    line, mark = "<tr>", ""
    if table.best is not None and label == table.best:
        line, mark = '<tr class="best">', ' <span class="mark">best</span>'
    return f'{line}<th scope="row">{escape(str(label))}{mark}</th>{_cells("td", cells)}</tr>'


def _cells(tag: str, texts: Iterable[object], attributes: str = "") -> str:
    return "".join(f"<{tag}{attributes}>{escape(str(text))}</{tag}>" for text in texts)


def _shown(value: object, table: Table, column: Hashable) -> str:
    """A value as a reader likes it: separators, a real minus, a dash for nothing."""
    if value is None:
        return _MISSING
    if isinstance(value, bool) or not isinstance(value, Real):
        return str(value)
    default = "," if isinstance(value, Integral) else f",.{table.decimals}f"
    return format(value, table.formats.get(str(column), default)).replace("-", _MINUS)


def _footer(provenance: Mapping[str, str]) -> str:
    if not provenance:
        return ""
    entries = "".join(
        f"<div><dt>{escape(str(key))}</dt><dd>{escape(str(value))}</dd></div>"
        for key, value in provenance.items()
    )
    return f"<footer><h2>Made from</h2><dl>{entries}</dl></footer>"


def _check_text(owner: str, **texts: str) -> None:
    for name, text in texts.items():
        if not text.strip():
            raise SpecError(f"{owner} needs its {name}. Received an empty text.")


_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfaf7; --card: #ffffff; --ink: #1c2321; --soft: #5b6662;
  --line: #dfe0da; --accent: #1f6f5c; --tint: #e6f1ed;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14191a; --card: #1c2324; --ink: #e7ebe8; --soft: #9daaa5;
    --line: #323b3b; --accent: #74c7ae; --tint: #1d3731;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 3.5rem 1.5rem 4rem; max-width: 66rem;
  background: var(--paper); color: var(--ink);
  font: 1.05rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
h1, h2 { line-height: 1.2; text-wrap: balance; letter-spacing: -0.01em; }
h1 { font-size: clamp(1.9rem, 5vw, 2.8rem); margin: 0 0 1rem; }
h2 { font-size: 1.45rem; margin: 0 0 0.8rem; }
p { max-width: 44rem; margin: 0 0 1rem; }
.lead { font-size: 1.2rem; color: var(--soft); max-width: 48rem; }
.figures {
  list-style: none; margin: 2.2rem 0 0; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(12.5rem, 1fr));
}
.figures li {
  background: var(--card); border: 1px solid var(--line); border-top: 3px solid var(--accent);
  border-radius: 0.5rem; padding: 1rem 1.2rem 1.1rem; display: flex; flex-direction: column;
}
.value { font-size: 2.3rem; font-weight: 650; line-height: 1.25; }
.unit { font-size: 1rem; font-weight: 500; color: var(--soft); }
.label, .note { font-size: 0.88rem; color: var(--soft); }
section { margin-top: 3.2rem; }
figure { margin: 1.4rem 0; }
img {
  display: block; width: 100%; height: auto; background: #ffffff; padding: 0.6rem;
  border: 1px solid var(--line); border-radius: 0.5rem;
}
figcaption, caption { font-size: 0.92rem; color: var(--soft); text-align: left; }
figcaption { margin-top: 0.6rem; max-width: 48rem; }
caption { caption-side: bottom; padding-top: 0.7rem; }
.table { overflow-x: auto; margin: 1.4rem 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 0.5rem 0.6rem; text-align: right; border-bottom: 1px solid var(--line); }
td, thead th { white-space: nowrap; font-size: 0.95rem; }
thead th { color: var(--soft); font-weight: 600; border-bottom: 2px solid var(--line); }
th:first-child { text-align: left; font-weight: 500; min-width: 11rem; }
tr.best { background: var(--tint); }
tr.best th, tr.best td { font-weight: 650; }
.mark {
  font-size: 0.72rem; font-weight: 600; color: var(--paper); background: var(--accent);
  border-radius: 1rem; padding: 0.1rem 0.5rem; margin-left: 0.3rem; vertical-align: 0.1em;
}
footer { margin-top: 4rem; border-top: 1px solid var(--line); color: var(--soft); }
footer h2 { font-size: 0.95rem; margin-top: 1.2rem; }
dl { display: flex; flex-wrap: wrap; gap: 0.4rem 2rem; margin: 0; font-size: 0.85rem; }
dl div { display: flex; gap: 0.5rem; }
dd { margin: 0; font-family: ui-monospace, Consolas, monospace; overflow-wrap: anywhere; }
@media print {
  :root {
    color-scheme: light;
    --paper: #ffffff; --card: #ffffff; --ink: #000000; --soft: #444444;
    --line: #bbbbbb; --accent: #1f6f5c; --tint: #eeeeee;
  }
  @page { margin: 16mm 14mm; }
  html { font-size: 9.5pt; }
  body { padding: 0; max-width: none; }
  img { max-height: 230mm; object-fit: contain; }
  .table { overflow: visible; }
  th, td, thead th { padding: 0.3rem 0.35rem; font-size: 8pt; }
  th:first-child { min-width: 0; }
  .figures { grid-template-columns: repeat(4, 1fr); gap: 0.5rem; }
  .figures li { padding: 0.5rem 0.7rem; }
  .value { font-size: 1.6rem; }
  figure, table, .figures li { break-inside: avoid; }
  h2 { break-after: avoid; }
  section { margin-top: 1.8rem; }
}
"""
