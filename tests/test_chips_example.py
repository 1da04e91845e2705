"""The example of chips, whole, in a process of its own; what it says is held against its files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cube
import training

pytest.importorskip("tensorflow")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("chips") / "olinda"


@pytest.fixture(scope="module")
def said(out):
    """What the example prints."""
    command = [sys.executable, str(ROOT / "examples" / "olinda" / "chips.py"), "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": "tensorflow"}
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def index(said, out):
    return training.load_index(out / "chips.parquet")


@pytest.fixture(scope="module")
def split(said, out):
    return training.load_split(out / "split.json")


def test_pictures_are_pictures(said, out):
    for name in ("chips.png", "split.png", "sheet.png"):
        raw = (out / name).read_bytes()
        assert raw.startswith(b"\x89PNG")
        assert len(raw) > 10_000


def test_the_index_and_the_split_that_are_printed_are_those_that_are_kept(said, index, split):
    assert str(index) in said
    assert str(split) in said


def test_filters_say_what_they_took(said, index):
    assert len(index.history) == 2
    assert index.history[0].before == 43 * 43
    for step in index.history:
        assert f"filter: {step!r}" not in said
        assert f"filter: {step}" in said
    frame = index.frame
    assert (frame["valid_share"] == 1).all()
    assert (frame["tracts_share"] > 0.5).all()
    assert (frame["rank"] < 0.99).all()


def test_the_covered_share_of_a_chip_is_that_of_its_pixels(out, index):
    coverage = cube.coverage.load(str(out / "cube.zarr"), "tracts")
    for row in index.frame.iloc[:: len(index) // 10].itertuples():
        box = (row.row, row.row + 16), (row.col, row.col + 16)
        covered = np.minimum(coverage.shares(*box).covered(), 1).mean()
        assert row.tracts_share == pytest.approx(covered, rel=1e-6)


def test_every_door_gives_every_training_chip_once(said, index, split):
    train = np.isin(index.frame["window"], split.folds[0].train_windows).sum()
    assert re.search(rf"^NumPy: {train} chips; epoch 1: ", said, flags=re.MULTILINE)
    for door, epoch in (("tf.data", 2), ("PyDataset", 3)):
        (report,) = re.findall(rf"^{door}: epoch {epoch}: .*$", said, flags=re.MULTILINE)
        assert f"; {train} chips, " in report
        assert "left before the end" not in report


def test_statistics_are_those_of_the_pixels_under_training_chips(said, out, index, split):
    data = cube.open(str(out / "cube.zarr"))["predictors"].isel(time=0)
    seen = np.zeros(data.shape[1:], bool)
    chosen = index.frame[index.frame["window"].isin(split.folds[0].train_windows)]
    for row, col in chosen[["row", "col"]].to_numpy():
        seen[row : row + 16, col : col + 16] = True
    red = data.sel(band="red").to_numpy().astype("float64")[seen]
    fields = re.search(r"predictors +red (.*)", said)[1].split()
    expected = (len(red), red.mean(), red.std(), red.min(), red.max())
    np.testing.assert_allclose([float(f) for f in fields[:5]], expected, rtol=1e-3)


def test_the_model_is_better_than_the_mean(said):
    """By the deviation of the label, which the statistics print."""
    loss = float(re.search(r"PyDataset: .*loss (.*)", said)[1])
    std = float(re.search(r"population +0 +\d+ +\S+ +(\S+)", said)[1])
    assert 0 < loss < std**2
