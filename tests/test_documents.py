"""What the documents say is what the repository holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]


def test_the_readme_shows_the_quick_start_as_it_is():
    assert (ROOT / "examples" / "olinda" / "quickstart.py").read_text(encoding="utf-8") in README


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_of_a_document_leads_to_a_file(document):
    targets = re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
    missing = [t for t in targets if "://" not in t and not (document.parent / t).exists()]
    assert not missing


def test_every_module_stands_in_the_architecture():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    modules = [
        path.stem
        for package in ("cube", "catalogs", "training", "inference")
        for path in (ROOT / package).rglob("*.py")
        if not path.stem.startswith("__")
    ]
    unnamed = [m for m in modules if f"`{m}`" not in text]
    assert not unnamed


def test_the_makefile_has_the_two_commands_of_the_readme():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert f"\n{command}: " in makefile
