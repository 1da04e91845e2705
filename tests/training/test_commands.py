"""Commands on chips, end to end; and how each ends on bad input."""

from __future__ import annotations

import json
from pathlib import Path

import dask.base
import numpy as np
import pytest

import cube
import training
from cube.errors import SpecError
from tests import toy
from training.__main__ import main

PNG = b"\x89PNG"
WINDOWS = cube.Windows(shape=toy.SHAPE, size=8, stride=4)


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Samples and regions as files."""
    folder = tmp_path_factory.mktemp("commands")
    sample = toy.SAMPLE.to_dict()
    table = {**sample, "target": {"columns": ["income"]}}
    for name, data in (
        ("sample", sample),
        ("experiment", {"sample": sample, "window": {"size": 8}}),
        ("table", table),
        ("bare", {**sample, "target": None}),
        ("no_target", {"inputs": sample["inputs"]}),
        ("list", [sample]),
    ):
        (folder / f"{name}.json").write_text(json.dumps(data))
    (folder / "broken.json").write_text("{")
    named = toy.patchwork().dropna()
    named.to_parquet(folder / "regions.parquet")
    return folder


@pytest.fixture(scope="module")
def index(city, folder):
    """An index of chips that a command filtered."""
    path = folder / "chips.parquet"
    files = (city.url, folder / "sample.json", "--out", path)
    assert run("index", *files, "--size", 8, "--stride", 4, "--where", "label_share > 0.5") == 0
    return path


@pytest.fixture(scope="module")
def split(folder, index):
    """A split that a command made."""
    path = folder / "split.json"
    cells = ("--by", "cells", "--cell-px", 32, "--fractions", 0.6, 0.2, 0.2)
    assert run("split", "--index", index, *cells, "--out", path) == 0
    return path


# ------------------------------------------------------------------------------------------ index
def test_index_writes_what_the_library_finds_and_says_what_filters_left(
    city, folder, tmp_path, capsys
):
    out, plot = tmp_path / "chips.parquet", tmp_path / "chips.png"
    files = (city.url, folder / "experiment.json", "--out", out, "--plot", plot)
    where = ("--where", "valid_share > 0.9", "label_share > 0.5")
    assert run("index", *files, "--size", 8, "--stride", 4, *where, "--column", "label_mean") == 0
    whole = training.index_chips(city.url, toy.SAMPLE, WINDOWS)
    first = whole.query("valid_share > 0.9")
    both = first.query("label_share > 0.5")
    said = capsys.readouterr().out
    assert said.splitlines()[:2] == [
        f"valid_share > 0.9: {len(whole):,} → {len(first):,}",
        f"label_share > 0.5: {len(first):,} → {len(both):,}",
    ]
    kept = training.load_index(out)
    assert kept.frame.equals(both.frame)
    assert kept.history == both.history
    assert f"{out}: {kept}" in said
    assert plot.read_bytes().startswith(PNG)


def test_without_a_stride_windows_lie_side_by_side(city, folder, tmp_path):
    out = tmp_path / "chips.parquet"
    assert run("index", city.url, folder / "bare.json", "--size", 8, "--out", out) == 0
    kept = training.load_index(out)
    assert len(kept) == 12 * 13
    assert kept.facts["windows"]["stride"] == 8
    assert "label_share" not in kept.frame


def test_a_cluster_finds_the_same(city, folder, index, tmp_path):
    from distributed import LocalCluster

    out = tmp_path / "chips.parquet"
    files = (city.url, folder / "sample.json", "--out", out)
    with LocalCluster(processes=False, n_workers=1, dashboard_address=None) as cluster:
        where = ("--where", "label_share > 0.5", "--client", cluster.scheduler_address)
        assert run("index", *files, "--size", 8, "--stride", 4, *where) == 0
    assert out.read_bytes() == index.read_bytes()


def test_what_lies_there_is_replaced_only_on_request(city, folder, tmp_path, capsys):
    out = tmp_path / "chips.parquet"
    out.write_text("mine")
    command = ("index", city.url, folder / "sample.json", "--size", 8, "--out", out)
    assert run(*command) == 2
    assert "A file lies at" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert run(*command, "--overwrite") == 0
    assert len(training.load_index(out)) == 12 * 13


# ------------------------------------------------------------------------------------------ split
def chips_by_window(index: Path) -> np.ndarray:
    frame = training.load_index(index).frame
    return np.bincount(frame["window"], minlength=len(WINDOWS))


def test_a_split_by_cells_is_that_of_the_library_by_the_chips_that_are_left(
    index, tmp_path, capsys
):
    out, plot = tmp_path / "split.json", tmp_path / "split.png"
    cells = ("--by", "cells", "--cell-px", 32, "--fractions", 0.6, 0.2, 0.2, "--seed", 3)
    assert run("split", "--index", index, *cells, "--out", out, "--plot", plot) == 0
    chips = chips_by_window(index)
    fractions = {"train": 0.6, "validation": 0.2, "test": 0.2}
    expected = training.split_by_cells(
        WINDOWS, cell_px=32, seed=3, fractions=fractions, balance="label", label=chips
    )
    assert training.load_split(out).digest == expected.digest
    assert plot.read_bytes().startswith(PNG)
    said = capsys.readouterr().out
    assert str(expected) in said
    train, test = (
        chips[getattr(expected.folds[0], f"{p}_windows")].sum() for p in ("train", "test")
    )
    assert f"of the {chips.sum():,} chips of the index:\n  fold 1: {train} train, " in said
    assert f", {test} test, " in said


def test_clusters_regions_and_chance_are_those_of_the_library(index, folder, tmp_path):
    chips, out = chips_by_window(index), tmp_path / "split.json"
    common = {"seed": 0, "balance": "label", "label": chips}
    regions = ("--regions", folder / "regions.parquet", "--column", "neighbourhood")
    polygons = cube.read_polygons(folder / "regions.parquet", grid=toy.GRID)
    places = {"polygons": polygons, "grid": toy.GRID, "by": "neighbourhood", **common}
    each = (
        (
            ("clusters", "--clusters", 6, "--folds", 2, "--buffer-px", 9),
            training.split_by_clusters(WINDOWS, clusters=6, folds=2, buffer_px=9, **common),
        ),
        (
            ("regions", *regions, "--leave-out", "n00", "n11"),
            training.split_by_regions(WINDOWS, leave_out=["n00", "n11"], **places),
        ),
        (
            ("regions", *regions, "--folds", "each", "--validation-share", 0.1),
            training.split_by_regions(WINDOWS, folds="each", validation_share=0.1, **places),
        ),
        (
            ("random", "--folds", 3, "--seed", 1),
            training.split_random(WINDOWS, folds=3, seed=1),
        ),
    )
    for options, expected in each:
        assert run("split", "--index", index, "--by", *options, "--out", out, "--overwrite") == 0
        assert training.load_split(out).digest == expected.digest


def test_a_part_with_windows_and_without_chips_is_refused(index, tmp_path, capsys):
    one, out = tmp_path / "one.parquet", tmp_path / "split.json"
    training.load_index(index).query("row == 40 and col == 40").save(one)
    chance = ("--by", "random", "--fractions", 0.6, 0, 0.4)
    assert run("split", "--index", one, *chance, "--out", out) == 2
    said = capsys.readouterr().err
    assert "Fold 1: the index has no chip for " in said
    assert "validation" not in said
    assert not out.exists()


# --------------------------------------------------------------------------- sheets and streams
def test_a_sheet_is_a_picture_of_as_many_chips_as_asked_for(city, folder, index, tmp_path, capsys):
    sheets = []
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        out = tmp_path / f"{name}.png"
        files = (city.url, folder / "sample.json", "--index", index, "--out", out)
        assert run("sheet", *files, "--limit", 5, "--bands", "red", "--seed", seed) == 0
        sheets.append(out.read_bytes())
        assert f"{out}: 5 of {chips_by_window(index).sum()} chips" in capsys.readouterr().out
    assert sheets[0].startswith(PNG)
    assert sheets[0] == sheets[1] != sheets[2]


def test_a_sheet_of_a_part_shows_no_other_chip(city, folder, index, split, tmp_path, monkeypatch):
    shown = []
    draw = training.contact_sheet
    monkeypatch.setattr(
        training,
        "contact_sheet",
        lambda batch, *a, **k: (shown.append(batch.chip), draw(batch, *a, **k)),
    )
    files = (city.url, folder / "sample.json", "--index", index, "--out", tmp_path / "s.png")
    assert run("sheet", *files, "--split", split, "--part", "test", "--limit", 1000) == 0
    test = training.load_split(split).folds[0].test_windows
    kept = training.load_index(index).ids
    np.testing.assert_array_equal(np.sort(shown[0]), np.intersect1d(kept, test))


def test_stream_says_what_it_will_do_and_how_it_went(city, folder, index, capsys):
    files = (city.url, folder / "sample.json", "--index", index)
    assert run("stream", *files, "--batch", 7, "--memory", "20 MB", "--epochs", 2) == 0
    said = capsys.readouterr().out
    spec = training.StreamSpec(batch=7, seed=0, memory="20 MB")
    kept = training.load_index(index)
    stream = training.ChipStream(city.url, toy.SAMPLE, WINDOWS, kept, spec)
    assert said.startswith(f"{stream.describe()}\nepoch 1: ")
    assert "\nepoch 2: " in said
    assert said.count(f"; {len(kept)} chips, ") == 2
    assert "left before the end" not in said


def test_a_fold_that_trains_is_streamed_alone(city, folder, index, split, capsys):
    files = (city.url, folder / "sample.json", "--index", index)
    assert run("stream", *files, "--split", split, "--memory", "20 MB") == 0
    train = training.load_split(split).folds[0].train_windows
    count = len(np.intersect1d(training.load_index(index).ids, train))
    assert f"; {count} chips, " in capsys.readouterr().out


@pytest.mark.parametrize("command", ["stream", "sheet"])
def test_a_part_of_a_random_split_says_so(command, city, folder, index, tmp_path, capsys):
    by_lot = tmp_path / "random.json"
    assert run("split", "--index", index, "--by", "random", "--folds", 3, "--out", by_lot) == 0
    capsys.readouterr()
    files = (city.url, folder / "sample.json", "--index", index, "--split", by_lot)
    more = () if command == "stream" else ("--limit", 2, "--out", tmp_path / "s.png")
    assert run(command, *files, "--memory", "40 MB", *more) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("train of the split random, fold 1: ")
    assert "random split: neighbours in the test set" in first


@pytest.mark.parametrize("command", ["stream", "sheet"])
def test_a_part_checks_itself_for_leaks(command, places, tmp_path, monkeypatch):
    checked = []
    check = training.LeakGuard.check_chips
    monkeypatch.setattr(
        training.LeakGuard,
        "check_chips",
        lambda guard, chips, ids: checked.append(ids) or check(guard, chips, ids),
    )
    files = (places["url"], places["sample"], "--index", places["index"])
    more = () if command == "stream" else ("--limit", 3, "--out", tmp_path / "s.png")
    assert run(command, *files, "--split", places["split"], "--memory", "40 MB", *more) == 0
    train = training.load_split(places["split"]).folds[0].train_windows
    known = np.intersect1d(training.load_index(places["index"]).ids, train)
    assert len(checked[-1]) == (len(known) if command == "stream" else 3)
    assert np.isin(checked[-1], known).all()


# -------------------------------------------------------------------------------------- bad input
INDEX = ["index", "{url}", "{sample}", "--size", "8", "--out", "{new}.parquet"]
SPLIT = ["split", "--index", "{index}", "--out", "{new}.json"]
STREAM = ["stream", "{url}", "{sample}", "--index", "{index}"]
SHEET = ["sheet", "{url}", "{sample}", "--index", "{index}", "--out", "{new}.png"]


def instead(command: list[str], old: str, new: str) -> list[str]:
    return [new if part == old else part for part in command]


BAD = {
    "no cube": (instead(INDEX, "{url}", "nowhere.zarr"), "There is no cube at"),
    "no sample": (instead(INDEX, "{sample}", "no.json"), "'no.json' cannot be read"),
    "broken sample": (instead(INDEX, "{sample}", "{broken}"), "cannot be read"),
    "a list": (instead(INDEX, "{sample}", "{list}"), "holds JSON of type list, no object"),
    "half a sample": (
        instead(INDEX, "{sample}", "{no_target}"),
        "no_target.json': A sample cannot be read: 'target'",
    ),
    "no parquet": (
        instead(INDEX, "{new}.parquet", "{new}.csv"),
        "A file that ends in .parquet was expected. Received 'new.csv'",
    ),
    "no folder": (instead(INDEX, "{new}.parquet", "no/x.parquet"), "There is no folder 'no'"),
    "window too large": (instead(INDEX, "8", "500"), "A window must fit the grid"),
    "no such column": (
        [*INDEX, "--where", "cloud < 1"],
        "'cloud < 1' names a column that is not there",
    ),
    "nothing left": ([*INDEX, "--where", "valid_share > 1"], "No chip is left"),
    "picture of another kind": (
        [*INDEX, "--plot", "{new}.svg"],
        "A file that ends in .png was expected. Received 'new.svg'",
    ),
    "a column for no picture": (
        [*INDEX, "--column", "valid_share"],
        "--column says what a picture shows; give --plot, too.",
    ),
    "no scheduler": (
        [*INDEX, "--client", "ftp://x"],
        "No Dask scheduler answers at 'ftp://x'",
    ),
    "no index": ([*instead(SPLIT, "{index}", "no.parquet"), "--by", "random"], "There is no file"),
    "another file": (
        [*instead(SPLIT, "{index}", "{regions}"), "--by", "random"],
        "is no chip index",
    ),
    "cells of no size": ([*SPLIT, "--by", "cells"], "A split by cells needs --cell-px."),
    "regions without a name": (
        [*SPLIT, "--by", "regions", "--regions", "{regions}"],
        "A split by regions needs --column.",
    ),
    "an option of another kind": (
        [*SPLIT, "--by", "random", "--buffer-px", "9"],
        "A split by random takes no --buffer-px; leave it out.",
    ),
    "neither folds nor fractions": (
        [*SPLIT, "--by", "random"],
        "Give one of fractions, folds and leave_out. Received 0.",
    ),
    "folds by word": (
        [*SPLIT, "--by", "random", "--folds", "many"],
        "--folds is a number, or each. Received 'many'.",
    ),
    "regions of no column": (
        [*SPLIT, "--by", "regions", "--regions", "{regions}", "--column", "x", "--folds", "2"],
        "There is no column 'x'",
    ),
    "index of other inputs": (
        instead(STREAM, "{sample}", "{other}"),
        "The index is from another cube, sample or windows: its inputs",
    ),
    "label of a table": (
        instead(STREAM, "{sample}", "{table}"),
        "Commands stream labels of layers.",
    ),
    "no memory": ([*STREAM, "--memory", "1 kB"], "The stream needs at least"),
    "no epoch": ([*STREAM, "--epochs", "0"], "--epochs is 1 or more. Received 0."),
    "a part of nothing": ([*STREAM, "--part", "test"], "--part and --fold are of a split"),
    "no such fold": (
        [*STREAM, "--split", "{split}", "--fold", "3"],
        "There are 1 folds, from 0. Received 3.",
    ),
    "a split that is none": ([*STREAM, "--split", "{sample}"], "is no manifest of a split"),
    "a split by time": (
        [*STREAM, "--split", "{time}"],
        "A split of windows by place was expected. Received one by time.",
    ),
    "no chip": ([*SHEET, "--limit", "0"], "--limit is 1 or more. Received 0."),
    "a seed below 0": ([*SHEET, "--seed", "-1"], "--seed is 0 or more. Received -1."),
    "no such band": ([*SHEET, "--bands", "nir"], "Band 'nir' is not in the sample"),
}


@pytest.fixture(scope="module")
def places(city, folder, index, split):
    """Places and files for bad input, by name."""
    other = training.SampleSpec.of(
        {"predictors": ("green",)}, toy.TARGET, label_time="2010", input_time="2000"
    )
    (folder / "other.json").write_text(json.dumps(other.to_dict()))
    years = training.SampleSpec.of(
        {"predictors": ("red",)},
        None,
        timings=training.timings.mapped({"2000": "2000", "2010": "2010"}),
    )
    training.split_by_time(years, city.spec, test_periods=["2010"]).save(folder / "time.json")
    named = {path.stem: str(path) for path in folder.glob("*.json")}
    return {
        **named,
        "url": city.url,
        "index": str(index),
        "split": str(split),
        "regions": str(folder / "regions.parquet"),
        "new": str(folder / "new"),
    }


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_with_2_and_one_line_and_writes_nothing(case, places, folder, capsys):
    arguments, message = BAD[case]
    before = sorted(folder.iterdir())
    assert run(*(text.format(**places) for text in arguments)) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert len(said.splitlines()) == 1
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("address", ["ftp://x", "tcp://127.0.0.1:1"])
def test_a_scheduler_that_is_none_does_not_become_dasks(places, address, monkeypatch):
    monkeypatch.setattr("training.commands._CONNECT_S", 0.2)
    assert run(*(text.format(**places) for text in INDEX), "--client", address) == 2
    assert dask.base.get_scheduler() is None


def test_windows_of_partitions_are_left_to_python(index):
    from training import commands

    kept = training.load_index(index)
    facts = {**kept.facts, "windows": {**kept.facts["windows"], "partitions": 4}}
    other = training.ChipIndex(frame=kept.frame, facts=facts)
    with pytest.raises(SpecError, match="Commands know windows of one size and stride"):
        commands._windows(other)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"split": "tracts"}, "exp.json': split must be objects of JSON."),
        ({"window": [8, 8], "fit": 1}, "exp.json': window, fit must be objects of JSON."),
        ({"split": {"folds": "x"}}, "a whole number from 2. Received 'x'."),
        ({"split": {"folds": 1}}, "a whole number from 2. Received 1."),
        ({"sample": [1]}, "exp.json': A sample cannot be read: "),
    ],
)
def test_an_experiment_that_cannot_be_read_is_one_line(changed, message, city, tmp_path, capsys):
    whole = {"coverage": "tracts", "by": "neighbourhood", "folds": 2, "seed": 0}
    experiment = {
        "sample": toy.SAMPLE.to_dict(),
        "window": {"size": 8, "stride": 8},
        "split": whole,
        "fit": {"seed": 0},
    }
    (tmp_path / "exp.json").write_text(json.dumps(experiment | changed))
    city.polygons.to_parquet(tmp_path / "tracts.parquet")
    files = (city.url, tmp_path / "exp.json", "--polygons", tmp_path / "tracts.parquet")
    assert run("fit", *files, "--out", tmp_path / "models") == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "models").exists()
