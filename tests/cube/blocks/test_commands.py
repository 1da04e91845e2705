"""Commands on polygons and blocks, end to end; bad input is one line and status 2."""

from __future__ import annotations

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import cube
from cube.__main__ import main
from tests.cube.geometry import frame_of, partition
from tests.rasters import grid_at

SHAPE = (40, 50)
CODES = ["007", "012", "100", "101", "200"]


@pytest.fixture(scope="module")
def frame():
    """Five blocks that cover the grid, with ids, persons, jobs and a rate."""
    shapes = partition(SHAPE, points=5, seed=3)
    assert len(shapes) == 5
    return frame_of(
        shapes,
        code=CODES,
        persons=[100.0, 0.0, 250.0, 30.0, 7.0],
        share=[0.5, 0.25, 0.0, 1.0, 0.75],
        rent=[10.0, -20.0, 30.0, 40.0, 50.0],
    )


@pytest.fixture(scope="module")
def polygons(frame, tmp_path_factory):
    path = tmp_path_factory.mktemp("polygons") / "blocks.gpkg"
    frame.to_file(path)
    return str(path)


@pytest.fixture(scope="module")
def url(polygons, tmp_path_factory):
    """A cube with persons of both periods, and a coverage with ids."""
    spec = cube.CubeSpec(
        grid=grid_at(SHAPE),
        calendar=cube.years(2000, 2010),
        layers=(
            cube.LayerSpec(name="persons", dtype="float64", units="persons"),
            cube.LayerSpec(name="rent", dtype="float64", static=True),
            cube.LayerSpec(name="jobs", dtype="float64", static=True),
            cube.LayerSpec(name="lights", dtype="float32", static=True),
            cube.LayerSpec(name="lit", dtype="float64", static=True),
        ),
        layout=cube.LayoutSpec(chunk=16, region=32, codec="none"),
    )
    folder = tmp_path_factory.mktemp("cube")
    (folder / "spec.json").write_text(json.dumps(spec.to_dict()))
    made = str(folder / "toy.zarr")
    assert main(["create", made, str(folder / "spec.json")]) == 0
    assert main(["cover", made, "blocks", polygons, "--id", "code"]) == 0
    for period in ("2000", "2010"):
        options = ["--column", "persons", "--time", period, "--coverage", "blocks", "--id", "code"]
        assert main(["label", made, "persons", polygons, *options]) == 0
    return made


def label(url, polygons, layer, *options):
    own = ["--coverage", "blocks", "--id", "code"]
    return main(["label", url, layer, polygons, *own, *options])


class TestCover:
    def test_it_prints_the_report_of_the_polygons(self, url, polygons, capsys):
        assert main(["cover", url, "again", polygons, "--id", "code"]) == 0
        assert "5 polygons" in capsys.readouterr().out
        assert cube.coverage.load(url, "again").ids == tuple(CODES)

    def test_it_may_lie_elsewhere(self, url, polygons, tmp_path, frame):
        place = str(tmp_path / "beside.zarr")
        assert main(["cover", url, "aside", polygons, "--into", place]) == 0
        assert cube.coverage.load(url, "aside", into=place).polygons == len(frame)
        out = tmp_path / "table.csv"
        options = ["--into", place, "--statistics", "sum", "--out", str(out)]
        assert main(["aggregate", url, "aside", "persons", *options]) == 0
        assert pd.read_csv(out)["block"].tolist() == [i for i in range(5) for _ in range(2)]


class TestLabel:
    def test_rates_and_shares_spread_as_what_they_are(self, url, polygons, frame):
        assert label(url, polygons, "rent", "--column", "rent", "--how", "intensive") == 0
        options = ["--column", "share", "--how", "share", "--of", "persons"]
        assert label(url, polygons, "jobs", *options) == 0
        with cube.open(url) as found:
            rent, jobs = found.rent.to_numpy(), found.jobs.to_numpy()
        assert np.nanmin(rent) == -20
        assert np.nanmax(rent) == 50
        assert np.nanmax(jobs) <= 1

    def test_amounts_are_divided_in_proportion_to_a_weight(self, url, polygons, frame):
        lights = np.tile(np.arange(50, dtype="float32"), (40, 1)) + 1
        spec = cube.read_spec(url)
        for region in cube.regions(spec, "lights"):
            cube.write_region(url, "lights", region, lights[region.slices], spec=spec)
        assert label(url, polygons, "lit", "--column", "persons", "--weight", "lights") == 0
        with cube.open(url) as found:
            assert np.nansum(found.lit.to_numpy()) == pytest.approx(frame.persons.sum())

    def test_a_column_that_is_not_there(self, url, polygons, capsys):
        assert label(url, polygons, "rent", "--column", "wages", "--how", "intensive") == 2
        assert one_line(capsys).startswith("error: There is no column 'wages'. There are: ")

    def test_text_is_no_number(self, url, polygons, capsys):
        assert label(url, polygons, "rent", "--column", "code", "--how", "intensive") == 2
        assert one_line(capsys).startswith("error: ")


def one_line(capsys):
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    return text


class TestAggregate:
    def test_a_wide_csv_holds_what_was_spread(self, url, frame, tmp_path, capsys):
        out = tmp_path / "table.csv"
        options = ["--statistics", "sum,mean", "--wide", "--out", str(out)]
        assert main(["aggregate", url, "blocks", "persons", *options]) == 0
        assert capsys.readouterr().out == f"{out}: 5 blocks x 2 periods\n"
        found = pd.read_csv(out, dtype={"block": str})
        assert found["block"].tolist() == CODES
        for period in ("2000", "2010"):
            # Those on a boundary share pixels, so a little of each is its neighbour's.
            total = found[f"persons_sum_{period}"]
            assert total.sum() == pytest.approx(frame.persons.sum())
            np.testing.assert_allclose(total, frame.persons, rtol=0.1, atol=10)

    def test_a_long_stata_file_of_one_period(self, url, tmp_path):
        out = tmp_path / "table.dta"
        options = ["--statistics", "mean", "--times", "2010", "--out", str(out)]
        assert main(["aggregate", url, "blocks", "persons", *options]) == 0
        found = pd.read_stata(out)
        assert found["period"].tolist() == [2010] * 5
        assert found["block"].tolist() == CODES

    @pytest.mark.parametrize("match", [["--id", "code"], []])
    def test_polygons_come_along_where_they_are_asked_for(
        self, url, polygons, frame, tmp_path, match
    ):
        out = tmp_path / "table.parquet"
        options = ["--geometry", polygons, *match, "--statistics", "sum", "--out", str(out)]
        assert main(["aggregate", url, "blocks", "persons", *options]) == 0
        found = gpd.read_parquet(out)
        assert len(found) == 10
        assert (found.geometry.iloc[::2].area.to_numpy() == frame.area.to_numpy()).all()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["tracts", "persons"], "error: The cube has no coverage 'tracts'. It has: again, "),
            (["blocks", "income"], "error: "),
            (["blocks", "persons", "--statistics", "average"], "error: "),
            (["blocks", "persons", "--times", "1990"], "error: "),
            (["blocks", "persons", "--geometry", "nowhere.gpkg"], "error: There is no file "),
        ],
    )
    def test_bad_input_is_one_line_and_writes_nothing(
        self, url, polygons, tmp_path, arguments, message, capsys
    ):
        main(["cover", url, "again", polygons])
        capsys.readouterr()
        assert main(["aggregate", url, *arguments, "--out", str(tmp_path / "table.csv")]) == 2
        assert one_line(capsys).startswith(message[:30])
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("table.xlsx", "error: A table ends in .parquet, .geoparquet, .gpkg, .csv, .dta. "),
            ("no/table.csv", "error: There is no folder "),
            ("mine.csv", "error: A file lies at "),
        ],
    )
    def test_a_file_that_cannot_be_written_is_refused_before_the_work(
        self, url, tmp_path, monkeypatch, name, message, capsys
    ):
        monkeypatch.setattr(
            "cube.blocks.aggregating.aggregate", lambda *a, **o: pytest.fail("worked")
        )
        (tmp_path / "mine.csv").write_text("mine")
        assert main(["aggregate", url, "blocks", "persons", "--out", str(tmp_path / name)]) == 2
        assert one_line(capsys).startswith(message)
        assert (tmp_path / "mine.csv").read_text() == "mine"


class TestSaved:
    @pytest.fixture
    def saved(self, url, polygons):
        options = ["--geometry", polygons, "--statistics", "sum", "--save", "kept", "--overwrite"]
        assert main(["aggregate", url, "blocks", "persons", *options]) == 0
        return url

    def test_a_panel_is_kept_and_exported_and_drawn_later(self, capsys, saved, tmp_path):
        assert capsys.readouterr().out == f"{saved}, blocks/kept: 5 blocks x 2 periods\n"
        panel = cube.open_blocks(saved, "kept")
        assert panel["block"].to_numpy().tolist() == CODES
        table, picture = tmp_path / "kept.csv", tmp_path / "kept.png"
        assert main(["export", saved, "kept", "--wide", "--out", str(table)]) == 0
        found = pd.read_csv(table, dtype={"block": str})
        # pandas 2 reads the last digit of numbers only nearly.
        np.testing.assert_allclose(found["persons_sum_2010"], panel.persons_sum[:, 1], rtol=1e-15)
        options = ["--time", "2010", "--out", str(picture)]
        assert main(["map", saved, "kept", "persons_sum", *options]) == 0
        assert capsys.readouterr().out == f"{table}: 5 blocks x 2 periods\n{picture}\n"
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert main(["info", saved]) == 0
        assert "blocks/kept: a panel\n" in capsys.readouterr().out

    def test_it_may_be_kept_and_written_at_once_and_elsewhere(self, url, polygons, tmp_path):
        place, out = str(tmp_path / "beside.zarr"), tmp_path / "table.csv"
        assert main(["cover", url, "aside", polygons, "--id", "code", "--into", place]) == 0
        options = ["--into", place, "--save", "panel", "--out", str(out), "--conserve"]
        assert main(["aggregate", url, "aside", "persons", "--missing", "nodata", *options]) == 0
        again = tmp_path / "again.csv"
        assert main(["export", url, "panel", "--into", place, "--out", str(again)]) == 0
        assert out.read_bytes() == again.read_bytes()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["aggregate", "{url}", "blocks", "persons"], "error: Say where the panel goes: --out"),
            (
                ["aggregate", "{url}", "blocks", "persons", "--save", "My panel"],
                "error: A panel needs a lower_snake_case name. Received 'My panel'.",
            ),
            (["export", "{url}", "nothing", "--out", "{out}.csv"], "error: The cube at "),
            (["export", "{url}", "kept", "--out", "{out}.doc"], "error: A table ends in .parquet"),
            (["map", "{url}", "kept", "rent", "--out", "{out}.png"], "error: The panel has no var"),
            (
                ["map", "{url}", "kept", "persons_sum", "--out", "{out}.png"],
                "error: 'persons_sum' ",
            ),
        ],
    )
    def test_bad_input_is_one_line_and_writes_nothing(
        self, saved, tmp_path, arguments, message, capsys
    ):
        asked = [text.format(url=saved, out=tmp_path / "new") for text in arguments]
        assert main(asked) == 2
        assert one_line(capsys).startswith(message)
        assert not list(tmp_path.iterdir())


class TestCollect:
    def test_rows_carry_the_ids_of_their_polygons(self, url, tmp_path):
        out = tmp_path / "table.csv"
        options = ["--time", "2010", "--out", str(out)]
        assert main(["collect", url, "persons", "blocks", *options]) == 0
        assert pd.read_csv(out, dtype={"polygon": str})["polygon"].tolist() == CODES


class TestCrosswalk:
    @pytest.fixture
    def table(self, tmp_path):
        path = tmp_path / "weights.csv"
        path.write_text('"old","new","part"\n"01","1a",0.25\n"01","1b",0.75\n"02","1b",1\n')
        return str(path)

    @pytest.fixture
    def values(self, tmp_path):
        path = tmp_path / "values.csv"
        path.write_text('"old","persons","rate","area"\n"01",100,0.5,1\n"02",,0.25,3\n')
        return str(path)

    def call(self, table, values, out, *options):
        ids = ["--source", "old", "--target", "new", "--weight", "part", "--out", str(out)]
        return main(["crosswalk", table, values, *ids, *options])

    def test_amounts_follow_the_weights_and_missing_ones_stay_missing(
        self, table, values, tmp_path, capsys
    ):
        out = tmp_path / "new.csv"
        assert self.call(table, values, out, "--columns", "persons") == 0
        assert capsys.readouterr().out == f"{out}: 2 sources to 2 targets\n"
        assert out.read_text() == '"new","persons"\n"1a",25\n"1b",\n'

    def test_rates_are_means_by_size(self, table, values, tmp_path):
        out = tmp_path / "new.parquet"
        options = ["--columns", "rate", "--how", "intensive", "--size", "area"]
        assert self.call(table, values, out, *options) == 0
        found = pd.read_parquet(out)
        assert found["new"].tolist() == ["1a", "1b"]
        expected = [0.5, (0.75 * 0.5 + 3 * 0.25) / 3.75]
        np.testing.assert_allclose(found["rate"], expected, rtol=1e-12)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--columns", "jobs"], "error: '{values}' has no column 'jobs'. It has: old, persons"),
            (["--columns", "rate", "--how", "share"], "error: "),
            (["--columns", "persons", "--out", "new.xlsx"], "error: A table ends in "),
        ],
    )
    def test_bad_input_is_one_line(self, table, values, tmp_path, options, message, capsys):
        assert self.call(table, values, tmp_path / "new.csv", *options) == 2
        assert one_line(capsys).startswith(message.format(values=values))
        assert not (tmp_path / "new.csv").exists()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("old,persons\n01,many\n", "Columns of .* must hold numbers: "),
            ("old,persons\n01,1\n01,2\n", "must appear once"),
            ("old,persons\n,1\n", "missing"),
        ],
    )
    def test_values_that_cannot_be_read(self, table, tmp_path, text, message, capsys):
        path = tmp_path / "values.csv"
        path.write_text(text)
        assert self.call(table, str(path), tmp_path / "new.csv", "--columns", "persons") == 2
        assert pd.Series([one_line(capsys)]).str.contains(message).all()

    def test_values_may_lie_in_other_files(self, table, tmp_path):
        frame = pd.DataFrame({"old": ["01", "02"], "persons": [100, 4]})
        frame.to_parquet(tmp_path / "values.parquet")
        frame.to_stata(tmp_path / "values.dta", write_index=False, version=118)
        for name in ("values.parquet", "values.dta"):
            out = tmp_path / f"{name}.csv"
            assert self.call(table, str(tmp_path / name), out, "--columns", "persons") == 0
            assert out.read_text() == '"new","persons"\n"1a",25\n"1b",79\n'


def test_the_cube_still_opens_and_is_sound(url):
    assert cube.verify(url).sound
    with xr.open_zarr(url) as found:
        assert "persons" in found
