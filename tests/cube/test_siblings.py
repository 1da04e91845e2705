"""The four names are generic: what shadows them is told, and importing them loads little."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

import cube
from cube import siblings

HEAVY = ["tensorflow", "keras", "torch", "jax", "rasterio", "osgeo", "pystac"]


@pytest.mark.parametrize("name", ["training", "inference", "catalogs"])
def test_a_package_that_shadows_one_of_ours_is_told_in_one_line(name, tmp_path, monkeypatch):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(
        ImportError, match=rf"its own package '{name}', but [^\n]*{tmp_path}[^\n]*$"
    ):
        siblings.check_siblings()


def test_a_module_that_shadows_one_of_ours_is_told_too(tmp_path, monkeypatch):
    (tmp_path / "training.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "training", raising=False)
    with pytest.raises(ImportError, match=r"'training', but .*training\.py'"):
        siblings.check_siblings()


def test_one_that_was_imported_already_is_told_too(tmp_path, monkeypatch):
    theirs = types.ModuleType("inference")
    theirs.__file__ = str(tmp_path / "inference.py")
    (tmp_path / "inference.py").write_text("")
    monkeypatch.setitem(sys.modules, "inference", theirs)
    with pytest.raises(ImportError, match=r"'inference', but .*inference\.py'"):
        siblings.check_siblings()


def test_ours_pass():
    siblings.check_siblings()


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """What a new process says that imports all four beside bare folders of the same names."""
    folder = tmp_path_factory.mktemp("imported")
    for name in siblings.SIBLINGS:
        (folder / name).mkdir()
        (folder / name / "notes.txt").write_text("")
    code = (
        "import sys, warnings\n"
        "warnings.simplefilter('error', append=True)\n"
        "for name in ('cube', 'training', 'inference', 'catalogs'):\n"
        "    module = __import__(name)\n"
        f"    loaded = [heavy for heavy in {HEAVY} if heavy in sys.modules]\n"
        "    print(module.__distribution__, name, *loaded)\n"
    )
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=folder, text=True, capture_output=True, check=False, timeout=60
    )


class TestFreshProcess:
    def test_import_cube_refuses_a_shadow_in_the_working_folder(self, tmp_path, start):
        (tmp_path / "training").mkdir()
        (tmp_path / "training" / "__init__.py").write_text("")
        child = start("import cube", cwd=tmp_path)
        _, errors = child.communicate(timeout=60)
        assert child.returncode == 1
        last = errors.strip().splitlines()[-1]
        assert last.startswith("ImportError: quadrat needs its own package 'training', but Python")
        assert str(tmp_path / "training" / "__init__.py") in last
        assert "Rename what shadows it" in last

    def test_a_bare_folder_of_that_name_shadows_nothing(self, imported):
        assert imported.returncode == 0, imported.stderr
        assert [line.split()[0] for line in imported.stdout.splitlines()] == ["quadrat"] * 4

    def test_no_package_loads_a_deep_learning_framework_when_it_is_imported(self, imported):
        words = imported.stdout.split()
        assert {"cube", "training", "inference", "catalogs"} <= set(words)
        assert not {"tensorflow", "keras", "torch", "jax"} & set(words)

    def test_training_and_inference_load_neither_gdal_nor_pystac(self, imported):
        found = [line.split()[1:] for line in imported.stdout.splitlines()]
        assert found[:3] == [["cube"], ["training"], ["inference"]]

    def test_nothing_warns_when_it_is_imported(self, imported):
        assert imported.stderr == ""


def test_all_four_are_ours():
    for name in siblings.SIBLINGS:
        assert __import__(name).__distribution__ == cube.__distribution__ == "quadrat"
