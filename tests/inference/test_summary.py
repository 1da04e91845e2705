"""The page is one file that needs nothing else and tells what was found."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from inference.summary import Story, write_summary

STORY = Story(
    title="People of the toy",
    place="tracts of the toy",
    rgb=("predictors", ("red", "green", "blue")),
    notes=("The image is made of noise & numbers.",),
    seconds={"training": 61.04, "prediction": 2.5},
)


class Tags(HTMLParser):
    """Tags and attributes of a page, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return re.sub(r"\s+", " ", " ".join(self.text))


@pytest.fixture(scope="module")
def written(evaluated, tmp_path_factory):
    folder = tmp_path_factory.mktemp("summary")
    path = write_summary(folder / "index.html", evaluated.found, STORY)
    return path, Tags(path.read_text(encoding="utf-8"))


def test_it_is_one_file(written):
    path, _ = written
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]


def test_it_refers_to_nothing_outside(written):
    path, page = written
    for tag, attrs in page.tags:
        assert tag not in ("link", "script", "iframe", "object", "embed")
        for name in ("src", "href", "srcset", "data", "poster"):
            assert attrs.get(name, "#").startswith(("#", "data:image/png;base64,"))
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", path.read_text(encoding="utf-8"))
    assert "@import" not in text
    assert not re.search(r"url\((?!data:)", text)


def test_it_holds_every_method_with_its_scores(written, evaluated):
    _, page = written
    for method, row in evaluated.found.scores.iterrows():
        assert str(method) in page.words
        for column in ("R2", "RMSE", "R2 low"):
            shown = f"{row[column]:.2f}".replace("-", "\N{MINUS SIGN}")
            assert shown in page.words.replace("-", "\N{MINUS SIGN}")


def test_it_has_maps_with_a_text_for_who_cannot_see_them(written):
    _, page = written
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 3
    assert all(len(attrs["alt"]) > 20 for attrs in pictures)


def test_it_says_how_it_was_made(written, evaluated):
    _, page = written
    found = evaluated.found
    for digest in (found.split.digest, found.coverage.digest, evaluated.city.spec.digest):
        assert digest in page.words
    assert "the buffer takes" in page.words
    assert str(evaluated.city.url) not in page.words


def test_it_tells_the_story(written):
    _, page = written
    assert "all 30 tracts of the toy" in page.words
    assert "The image is made of noise & numbers." in page.words
    assert "61.0" in page.words
    assert "63.5" in page.words  # in all


def test_a_random_split_is_named_beside_its_scores(evaluated, tmp_path):
    split = replace(evaluated.found.split, kind="random")
    scores = evaluated.found.scores.assign(split="random")
    found = replace(evaluated.found, split=split, scores=scores)
    page = Tags(write_summary(tmp_path / "r.html", found, STORY).read_text("utf-8"))
    assert "R² of the network, random" in page.words
    assert page.words.count("andom split: neighbours in the test set") >= 4
    assert "never saw its place" not in page.words
    assert "random split: neighbours in the test set: network; mean; forest" in str(found)


def test_notes_and_times_may_be_left_out(evaluated, tmp_path):
    story = Story(title="A", place="tracts", rgb=STORY.rgb)
    page = Tags(write_summary(tmp_path / "a.html", evaluated.found, story).read_text("utf-8"))
    assert "The data" not in page.words
    assert "in all" not in page.words
