"""Text for people: without control characters, not too long, aligned in columns."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence


def clean(text: str) -> str:
    """Without line breaks and control characters, which XML and a terminal cannot hold."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def elided(text: str, most: int) -> str:
    """At most so many characters: the middle is left out, since ends tell names apart."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}…{text[len(text) - (most - 1) // 2 :]}"


def is_wide(char: str) -> bool:
    """True for a character as wide as two Latin ones."""
    return unicodedata.east_asian_width(char) in "WF"


def columns(text: str) -> int:
    """Width in a terminal."""
    return sum(2 if is_wide(char) else 1 for char in text)


def aligned(rows: list[list[str]]) -> list[str]:
    """Rows of texts as lines; a column without any text is left out."""
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text + " " * (width - columns(text))
            for text, width in zip(row, widths, strict=True)
            if width
        ).rstrip()
        for row in rows
    ]


def batches(items: Sequence[str], step: int) -> Iterator[Sequence[str]]:
    """Items in order, so many at a time."""
    return (items[start : start + step] for start in range(0, len(items), max(step, 1)))
