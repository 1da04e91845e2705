"""The four names are generic: what shadows them is told, and importing them loads little."""

from __future__ import annotations

import types

import pytest

import cube
from cube import siblings

FRAMEWORKS = "('tensorflow', 'keras', 'torch', 'jax')"


@pytest.mark.parametrize("name", ["training", "inference", "catalogs"])
def test_a_package_that_shadows_one_of_ours_is_told_in_one_line(name, tmp_path, monkeypatch):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(siblings.sys.modules, name, raising=False)
    with pytest.raises(
        ImportError, match=rf"its own package '{name}', but [^\n]*{tmp_path}[^\n]*$"
    ):
        siblings.check_siblings()


def test_a_module_that_shadows_one_of_ours_is_told_too(tmp_path, monkeypatch):
    (tmp_path / "training.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(siblings.sys.modules, "training", raising=False)
    with pytest.raises(ImportError, match=r"'training', but .*training\.py'"):
        siblings.check_siblings()


def test_one_that_was_imported_already_is_told_too(tmp_path, monkeypatch):
    theirs = types.ModuleType("inference")
    theirs.__file__ = str(tmp_path / "inference.py")
    (tmp_path / "inference.py").write_text("")
    monkeypatch.setitem(siblings.sys.modules, "inference", theirs)
    with pytest.raises(ImportError, match=r"'inference', but .*inference\.py'"):
        siblings.check_siblings()


def test_ours_pass():
    siblings.check_siblings()


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

    def test_a_bare_folder_of_that_name_shadows_nothing(self, tmp_path, start):
        for name in ("training", "inference", "catalogs"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "notes.txt").write_text("")
        code = "import cube, training, inference, catalogs; print(training.__distribution__)"
        out, errors = start(code, cwd=tmp_path).communicate(timeout=60)
        assert out == "quadrat\n", errors

    def test_no_package_loads_a_deep_learning_framework_when_it_is_imported(self, tmp_path, start):
        code = (
            "import sys\n"
            "for name in ('cube', 'catalogs', 'training', 'inference'):\n"
            "    __import__(name)\n"
            f"    loaded = [framework for framework in {FRAMEWORKS} if framework in sys.modules]\n"
            "    print(name, loaded)\n"
        )
        out, errors = start(code, cwd=tmp_path).communicate(timeout=60)
        assert out == "cube []\ncatalogs []\ntraining []\ninference []\n", errors

    def test_nothing_warns_when_it_is_imported(self, tmp_path, start):
        code = (
            "import warnings; warnings.simplefilter('error', append=True)\n"
            "import cube, catalogs, training, inference; print('quiet')"
        )
        out, errors = start(code, cwd=tmp_path).communicate(timeout=60)
        assert (out, errors) == ("quiet\n", "")


def test_all_four_are_ours():
    for name in siblings.SIBLINGS:
        assert __import__(name).__distribution__ == cube.__distribution__ == "quadrat"
