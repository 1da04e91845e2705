"""A page stands alone, shows what it was given, and is written whole or not at all."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.errors import SpecError
from inference.report import KeyFigure, Page, Picture, Section, Table, page_html, write_page

# A PNG of 3 x 2 pixels, up to the end of its header: what a page looks at.
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x03\x00\x00\x00\x02\x08\x02\x00\x00\x00"
VOID = {"meta", "img", "link", "br", "hr", "input"}
WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40).filter(
    str.strip
)


class Reader(HTMLParser):
    """What a browser would find: tags with attributes, and the text inside each."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.texts, self._open = [], [], []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self._open[-1] if self._open else "", data))

    def named(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]

    def text(self, *names):
        return [data for tag, data in self.texts if tag in names]


def _frame(**columns):
    return pd.DataFrame(columns, index=pd.Index(["mean", "forest"], name="method"))


def _page(*parts, **changes):
    sections = (Section(title="Scores", parts=parts),) if parts else ()
    return Page(**{"title": "Olinda", "lead": "What came out.", "sections": sections, **changes})


def _cells(table):
    return Reader(page_html(_page(table))).text("td")


@pytest.fixture
def full_page():
    table = Table(frame=_frame(n=[470, 470], R2=[-0.03, 0.5]), caption="By method", best="forest")
    picture = Picture(png=PNG, alt="A map of the city", caption="Density")
    return _page(
        "First.\n\nSecond.",
        table,
        picture,
        figures=(KeyFigure(value="0.53", label="R2", unit="of 1", note="0.4 to 0.6"),),
        provenance={"spec": "1f0c9a7b22de", "numpy": "2.1"},
    )


class TestPage:
    def test_it_asks_for_nothing_from_outside(self, full_page):
        html = page_html(full_page)
        reader = Reader(html)
        assert {tag for tag, _ in reader.tags}.isdisjoint({"script", "link", "iframe", "object"})
        sources = [
            value
            for _, attributes in reader.tags
            for name, value in attributes.items()
            if name in ("src", "href", "srcset", "data", "action")
        ]
        assert all(source.startswith("data:image/png;base64,") for source in sources)
        assert "url(" not in html
        assert "@import" not in html
        policy = [meta["content"] for meta in reader.named("meta") if "http-equiv" in meta]
        assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]

    def test_pictures_are_inside_to_the_byte_and_have_their_size(self, full_page):
        (image,) = Reader(page_html(full_page)).named("img")
        assert base64.b64decode(image["src"].partition(",")[2]) == PNG
        assert (image["width"], image["height"], image["alt"]) == ("3", "2", "A map of the city")

    def test_it_names_its_language_and_reads_in_light_dark_and_print(self, full_page):
        html = page_html(full_page)
        assert Reader(html).named("html") == [{"lang": "en"}]
        assert "prefers-color-scheme: dark" in html
        assert "@media print" in html

    def test_heads_of_rows_and_columns_are_marked_as_such(self, full_page):
        scopes = [head["scope"] for head in Reader(page_html(full_page)).named("th")]
        assert scopes == ["col", "col", "col", "row", "row"]

    def test_blank_lines_part_paragraphs(self, full_page):
        assert Reader(page_html(full_page)).text("p") == ["What came out.", "First.", "Second."]

    def test_provenance_stands_at_the_end(self, full_page):
        reader = Reader(page_html(full_page))
        assert reader.text("dt") == ["spec", "numpy"]
        assert reader.text("dd") == ["1f0c9a7b22de", "2.1"]

    def test_without_figures_and_provenance_there_are_no_empty_lists(self):
        reader = Reader(page_html(_page()))
        assert reader.named("ul") == reader.named("dl") == []

    @settings(deadline=None)
    @given(WORDS)
    def test_all_text_is_shown_as_it_is_and_never_read_as_markup(self, words):
        nasty = f"<script>alert('x')</script>\"&amp; {words}"
        frame = pd.DataFrame({nasty: [nasty]}, index=pd.Index([nasty], name=nasty))
        page = Page(
            title=nasty,
            lead=nasty,
            figures=(KeyFigure(value=nasty, label=nasty, unit=nasty, note=nasty),),
            sections=(
                Section(
                    title=nasty,
                    parts=(
                        nasty,
                        Table(frame=frame, caption=nasty, best=nasty),
                        Picture(png=PNG, alt=nasty, caption=nasty),
                    ),
                ),
            ),
            provenance={nasty: nasty},
        )
        reader = Reader(page_html(page))
        assert reader.named("script") == []
        assert reader.named("img")[0]["alt"] == nasty
        # Title twice, lead, four of the figure, heading, text, caption, two column heads, row,
        # cell, picture's caption, two of the provenance.
        shown = [text.strip() for _, text in reader.texts if text.strip() == nasty.strip()]
        assert len(shown) == 17


class TestTable:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (470, "470"),
            (1234567, "1,234,567"),
            (0.126, "0.13"),
            (-0.5, "−0.50"),
            (12345.678, "12,345.68"),
            (np.nan, "–"),
            (None, "–"),
            (pd.NaT, "–"),
            ("a-b", "a-b"),
            (True, "True"),
        ],
    )
    def test_values_are_shown_as_a_reader_likes_them(self, value, text):
        frame = _frame(column=pd.Series([value, value], dtype=object).to_numpy())
        assert _cells(Table(frame=frame, caption="c")) == [text, text]

    def test_integers_stay_integers_next_to_floats(self):
        table = Table(frame=_frame(n=[1000, 2], share=[0.5, np.nan]), caption="c")
        assert _cells(table) == ["1,000", "0.50", "2", "–"]

    def test_a_format_goes_before_decimals(self):
        frame = _frame(share=[0.5, 0.25], error=[1.0, -2.0])
        table = Table(frame=frame, caption="c", decimals=3, formats={"share": ".0%"})
        assert _cells(table) == ["50%", "1.000", "25%", "−2.000"]

    def test_the_best_row_alone_is_marked(self):
        table = Table(frame=_frame(R2=[0.1, 0.2]), caption="c", best="forest")
        html = page_html(_page(table))
        assert [row.get("class") for row in Reader(html).named("tr")] == [None, None, "best"]
        assert re.search(r'forest <span class="mark">best</span>', html)

    def test_without_a_best_row_none_is_marked(self):
        html = page_html(_page(Table(frame=_frame(R2=[0.1, 0.2]), caption="c")))
        assert 'class="best"' not in html

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"caption": " "}, "A table needs its caption"),
            ({"best": "tree"}, "best must be a row. Received 'tree'"),
            ({"formats": {"R3": ".1f"}}, r"formats must be for columns. Received \['R3'\]"),
            ({"frame": pd.DataFrame([[1, 2]], columns=["a", "a"])}, "distinct names"),
            ({"frame": pd.DataFrame({("a", "b"): [1]})}, "must have one level"),
        ],
    )
    def test_a_table_that_cannot_be_shown_is_refused(self, changes, message):
        with pytest.raises(SpecError, match=message):
            Table(**{"frame": _frame(R2=[0.1, 0.2]), "caption": "c", **changes})


class TestParts:
    @pytest.mark.parametrize("png", [b"", b"GIF89a", PNG[:20]])
    def test_a_picture_that_is_no_png_is_refused(self, png):
        with pytest.raises(SpecError, match="must be the bytes of a PNG"):
            Picture(png=png, alt="a", caption="c")

    @pytest.mark.parametrize(
        ("make", "name"),
        [
            (lambda: Picture(png=PNG, alt="", caption="c"), "alt"),
            (lambda: Picture(png=PNG, alt="a", caption=""), "caption"),
            (lambda: KeyFigure(value="", label="l"), "value"),
            (lambda: KeyFigure(value="1", label=" "), "label"),
            (lambda: Section(title="", parts=()), "title"),
            (lambda: Page(title="t", lead=""), "lead"),
        ],
    )
    def test_a_missing_text_is_refused_and_named(self, make, name):
        with pytest.raises(SpecError, match=f"needs its {name}. Received an empty text"):
            make()

    def test_a_part_of_another_kind_is_refused(self):
        with pytest.raises(SpecError, match=r"must be text, Table or Picture\. Received bytes"):
            Section(title="t", parts=(PNG,))

    def test_lists_become_tuples(self):
        assert Section(title="t", parts=["text"]).parts == ("text",)
        assert Page(title="t", lead="l", sections=[], figures=[]).sections == ()


class TestWritePage:
    def test_it_returns_the_path_of_a_utf_8_file_in_folders_it_makes(self, tmp_path, full_page):
        path = write_page(str(tmp_path / "new" / "report.html"), full_page)
        assert path == tmp_path / "new" / "report.html"
        assert path.read_text("utf-8") == page_html(full_page)

    def test_the_same_page_gives_the_same_bytes(self, tmp_path, full_page):
        first, again = (write_page(tmp_path / name, full_page) for name in ("a", "b"))
        assert first.read_bytes() == again.read_bytes()

    def test_a_failed_write_leaves_the_old_page_and_nothing_else(
        self, tmp_path, full_page, monkeypatch
    ):
        path = tmp_path / "report.html"
        path.write_text("old")

        def fail(*_):
            raise OSError("disk full")

        monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            write_page(path, full_page)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]
