"""Kill at any moment and run again: the same bytes as a run that nobody disturbed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import cube
from tests import interrupted

ROOT = Path(__file__).parents[1]
WANTED = 2
"""Kills that must fall while a region is half written, for a run to prove anything."""
MOST = 25
"""Kills to try before giving up."""


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A GeoTIFF of noise without nodata, so that every chunk has a file."""
    return interrupted.image(tmp_path_factory.mktemp("image") / "image.tif")


@pytest.fixture(scope="module")
def grid():
    return interrupted.grid()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, image, grid):
    """A tiny network with random weights, as a bundle."""
    training = pytest.importorskip("training")
    keras = pytest.importorskip("keras")
    from training.bundle import ModelBundle, environment, weights_digest
    from training.models import unet
    from training.networks import assemble
    from training.statistics import Moments

    folder = tmp_path_factory.mktemp("bundle")
    url = interrupted.create(folder / "cube.zarr", grid)
    spec = cube.read_spec(url)
    sample = training.SampleSpec.of(
        {"predictors": interrupted.BANDS},
        training.Target(layer="label"),
        label_time="2000",
        input_time="2000",
    )
    moments = {
        "predictors": Moments(mean=np.full(2, 500.0), std=np.full(2, 300.0), count=np.ones(2, int)),
        "label": Moments(mean=np.zeros(1), std=np.ones(1), count=np.ones(1, int)),
    }
    keras.utils.set_random_seed(0)
    model = assemble(spec, sample, moments, unet(16, 2, 1, widths=(4, 8), seed=0))
    found = ModelBundle(
        path=folder / "model",
        sample=sample,
        window=16,
        stride=16,
        packing={"predictors": spec.stack("predictors").to_dict()},
        fold=None,
        split_digest="none",
        cube_digest=spec.digest,
        seed=0,
        weights_digest=weights_digest(model),
        metrics={},
        environment=environment(),
    )
    found.save(model)
    return found.path


def kill_at_random(verb: str, url: str, name: str, file: Path, rng: random.Random) -> bool:
    """Start the verb, kill it at a random moment of its writing; True if a region was torn."""
    command = [sys.executable, "-m", "tests.interrupted", verb, url, str(file)]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(
        command, cwd=ROOT, env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as child:
        before = interrupted.written(url, name)
        while interrupted.written(url, name) == before and child.poll() is None:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.1))
        interrupted.catch(child.pid, url, name, rng, looks=rng.randrange(60))
        child.send_signal(signal.SIGKILL)
        child.wait()
    return interrupted.half_written(url, name) > 0


def prove(verb: str, name: str, run, prepare, file: Path, tmp_path: Path) -> tuple[int, int]:
    """Kill new cubes until enough regions were torn; each, resumed, equals the undisturbed."""
    undisturbed = prepare(tmp_path / "undisturbed.zarr")
    run(undisturbed, str(file))
    expected = interrupted.tree(undisturbed)
    rng = random.Random(20)
    torn = kills = 0
    while torn < WANTED and kills < MOST:
        url = prepare(tmp_path / f"killed_{kills}.zarr")
        torn += kill_at_random(verb, url, name, file, rng)
        kills += 1
        run(url, str(file))
        assert interrupted.tree(url) == expected
        assert not cube.verify(url, variables=(name,)).damaged
    return kills, torn


def test_an_ingest_killed_at_random_and_run_again_leaves_the_same_bytes(
    tmp_path, image, grid, capsys
):
    prepare = partial(interrupted.create, grid=grid)
    kills, torn = prove("ingest", "predictors", interrupted.ingest, prepare, image, tmp_path)
    with capsys.disabled():
        print(f"\ningest: {kills} kills, {torn} of them with a region half written")
    assert torn >= WANTED


def test_a_prediction_killed_at_random_and_run_again_leaves_the_same_bytes(
    tmp_path, image, grid, bundle, capsys
):
    def prepare(folder):
        url = interrupted.create(folder, grid)
        interrupted.ingest(url, str(image))
        return url

    kills, torn = prove("predict", "predicted", interrupted.predict, prepare, bundle, tmp_path)
    with capsys.disabled():
        print(f"\nprediction: {kills} kills, {torn} of them with a region half written")
    assert torn >= WANTED
