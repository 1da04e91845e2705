"""The names ``training``, ``inference`` and ``catalogs`` are generic: check that they are ours."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

SIBLINGS = ("catalogs", "training", "inference")


def check_siblings() -> None:
    """Refuse to start where another package or folder shadows one of ours.

    Raises:
        ImportError: One line that says what shadows what, and what to do.
    """
    for name in SIBLINGS:
        found = _origin(name)
        if found is None or not _is_ours(name, found):
            where = "nothing" if found is None else f"{str(found)!r}"
            raise ImportError(
                f"quadrat needs its own package {name!r}, but Python finds {where} under that "
                f"name. Rename what shadows it, work in another folder, or install quadrat in an "
                f"environment of its own."
            )


def _origin(name: str) -> Path | None:
    """Where Python would import a package from, without importing it."""
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None):
        return Path(str(loaded.__file__))
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.origin is None:
        return Path(next(iter(spec.submodule_search_locations or ["."])))
    return Path(spec.origin)


def _is_ours(name: str, origin: Path) -> bool:
    beside_us = Path(__file__).resolve().parents[1] / name / "__init__.py"
    if origin.resolve() == beside_us:
        return True
    return origin.is_file() and '__distribution__ = "quadrat"' in origin.read_text(encoding="utf-8")
