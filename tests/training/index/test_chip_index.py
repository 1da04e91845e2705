"""Choosing chips: every choice is recorded, reversible by reading, and says what it took."""

from __future__ import annotations

import html
import json
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from geopandas.testing import assert_geodataframe_equal
from hypothesis import given, settings
from hypothesis import strategies as st

import cube
from cube.errors import SpecError, SplitError, StoreError
from cube.windows import Windows
from tests import toy
from tests.training.index.conftest import COVER, PEOPLE, YEARS, land_spec
from training.index import files, picture
from training.index.chip_index import ChipIndex, Step, load_index
from training.index.indexing import index_chips
from training.index.thinning import apart
from training.splits import split_by_cells
from training.timings import same

WINDOWS = Windows(shape=toy.SHAPE, size=12, stride=7)


@pytest.fixture(scope="module")
def index(land):
    return index_chips(land.url, COVER, WINDOWS)


class TestQueries:
    def test_a_query_keeps_the_chips_that_pandas_keeps(self, index):
        expression = "valid_share > 0.98 and label_share > 0.5 and majority == 1"
        found = index.query(expression)
        assert found.ids.tolist() == index.frame.query(expression)["chip"].tolist()
        assert 0 < len(found) < len(index)

    def test_every_filter_is_recorded_and_the_index_stays_as_it_was(self, index):
        before = len(index)
        first = index.query("label_share > 0.5")
        second = first.where(first.frame["row"].to_numpy() > 20, "south")
        assert index.history == ()
        assert len(index) == before
        assert second.history == (
            ("label_share > 0.5", before, len(first)),
            ("south", len(first), len(second)),
        )

    def test_what_is_missing_is_not_true(self, index):
        assert index.query("majority > 0").frame["majority"].notna().all()
        assert index.frame["majority"].isna().any()

    def test_an_empty_result_says_which_filter_took_how_many(self, index):
        first = index.query("label_share > 0.5")
        taken = len(index) - len(first)
        expected = (
            f"No chip is left: 'valid_share > 2' removed {len(first)} of {len(first)}; before it "
            f"'label_share > 0.5' removed {taken} of {len(index)}. Ask for less."
        )
        with pytest.raises(SplitError, match=f"^{expected}$"):
            first.query("valid_share > 2")

    @pytest.mark.parametrize(
        ("expression", "match"),
        [
            ("cloud > 0", "not there: 'cloud'. There are: chip, window, row, col, inputs"),
            ("valid_share.to_csv('x')", "must be made of comparisons"),
            ("valid_share", "must be true or false of each chip"),
        ],
    )
    def test_what_is_no_query_is_refused(self, index, expression, match):
        with pytest.raises(SplitError, match=match):
            index.query(expression)

    @pytest.mark.parametrize("mask", [[True], np.ones(3 * len(WINDOWS)), None])
    def test_what_is_no_mask_is_refused(self, index, mask):
        with pytest.raises(SplitError, match=r"True or False of each of .* chips. Received"):
            index.where(mask, "mine")

    def test_a_column_of_windows_chooses_among_timings(self, index):
        periods = np.array([None, *YEARS], object)[np.arange(len(WINDOWS)) % 4]
        found = index.with_column("outline_period", periods).query("label == outline_period")
        expected = [3 * w + w % 4 - 1 for w in range(len(WINDOWS)) if w % 4]
        assert found.ids.tolist() == expected
        fewer = index.query("row > 20").with_column("number", np.arange(len(WINDOWS)))
        assert (fewer.frame["number"] == fewer.frame["window"]).all()

    @pytest.mark.parametrize(("name", "count"), [("row", len(WINDOWS)), ("new", 5)])
    def test_a_column_that_does_not_fit_is_refused(self, index, name, count):
        with pytest.raises(SplitError, match=f"value for each of {len(WINDOWS)} windows. Received"):
            index.with_column(name, np.zeros(count))


class TestWindows:
    def test_windows_count_their_chips_and_give_what_all_of_them_say(self, index):
        few = index.query("label == '2000' or row > 40")
        expected = np.zeros(len(WINDOWS), int)
        for window in few.frame["window"]:
            expected[window] += 1
        assert few.chips_per_window.tolist() == expected.tolist()
        one = index.query("label == '2010' and row > 20")
        majority = dict(zip(one.frame["window"], one.frame["majority"], strict=True))
        for window, value in enumerate(one.per_window("majority")):
            there = majority.get(window, pd.NA)
            assert (value is None) if there is pd.NA else value == there

    def test_a_column_of_objects_with_gaps_is_given_and_stays_as_it_is(self, index):
        given = np.array([np.nan, "a", *[3] * (len(WINDOWS) - 2)], object)
        few = index.with_column("mix", given).query("label == '2000'")
        assert few.per_window("mix")[:3].tolist() == [None, "a", 3]
        assert np.isnan(few.frame["mix"].iloc[0])

    def test_a_column_without_a_name_is_refused(self, index):
        with pytest.raises(SplitError, match="A new column has a name of its own .* Received 5"):
            index.with_column(5, np.zeros(len(WINDOWS)))

    @pytest.mark.parametrize("rows", [[1, 0], [0, 0, 1]])
    def test_chips_out_of_order_or_named_twice_are_refused(self, index, rows):
        with pytest.raises(SpecError, match="one row a chip, in ascending order of 'chip'. Of"):
            replace(index, frame=index.frame.iloc[rows])

    def test_what_says_several_things_or_nothing_is_refused(self, index):
        with pytest.raises(SplitError, match="'label' differs among the timings of 195 windows, f"):
            index.per_window("label")
        with pytest.raises(SplitError, match="There is no column 'cloud'. There are: chip"):
            index.per_window("cloud")

    def test_a_split_takes_them(self, index):
        side = np.where(WINDOWS.origins()[:, 1] < 46, "west", "east")
        few = index.with_column("side", side).query("row > 20 and label == '2010'")
        split = split_by_cells(
            WINDOWS,
            cell_px=30,
            stratify=few.per_window("side"),
            balance="label",
            label=few.chips_per_window,
            fractions={"train": 0.5, "test": 0.5},
            seed=2,
        )
        south = WINDOWS.origins()[:, 0] > 20
        for ids in (split.folds[0].train_windows, split.folds[0].test_windows):
            assert set(side[ids[south[ids]]]) == {"west", "east"}


class TestDuplicates:
    @settings(deadline=None, max_examples=80)
    @given(
        st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=25),
        st.integers(1, 10),
        st.sampled_from([0.0, 0.25, 0.5, 0.9]),
    )
    def test_squares_are_kept_as_by_comparing_all_pairs(self, origins, size, most):
        kept = []
        for place, (y, x) in enumerate(origins):
            shared = [
                max(size - abs(y - origins[k][0]), 0) * max(size - abs(x - origins[k][1]), 0)
                for k in kept
            ]
            if all(area <= most * size**2 for area in shared):
                kept.append(place)
        assert np.flatnonzero(apart(np.array(origins), size, most)).tolist() == kept

    def test_what_shares_the_greatest_part_to_the_pixel_is_kept(self):
        # As a float 0.57 * 100**2 is a trifle below 5700.
        assert apart(np.array([[0, 0], [0, 43]]), 100, 0.57).tolist() == [True, True]

    def test_windows_are_kept_with_all_their_timings(self, index):
        found = index.without_duplicates(0)
        assert len(found) == 3 * found.frame["window"].nunique()
        union = found.frame[found.frame["label"] == "2000"]
        assert union.area.sum() == pytest.approx(union.union_all().area)
        assert found.history == (("without_duplicates(0, by='window')", len(index), len(found)),)

    def test_timings_can_be_gone_through_by_themselves(self, index):
        # In 2000 all but the first window remain; the first is the only one of 2010.
        few = index.where(((index.ids % 3 == 0) & (index.ids > 0)) | (index.ids == 2), "some")
        alone = few.where(few.ids % 3 == 0, "2000").without_duplicates(0.1)
        by_timing = few.without_duplicates(0.1, by="timing")
        assert by_timing.ids.tolist() == [2, *alone.ids]
        assert few.without_duplicates(0.1).ids.tolist() != by_timing.ids.tolist()

    @pytest.mark.parametrize(
        "options", [{"max_overlap": 1}, {"max_overlap": -0.1}, {"by": "place"}]
    )
    def test_options_out_of_range_are_refused(self, index, options):
        with pytest.raises(SplitError, match="from 0 to below 1, and by is 'window' or 'timing'"):
            index.without_duplicates(**options)


class TestFiles:
    def test_it_comes_back_with_facts_and_history(self, index, tmp_path):
        chosen = index.query("label_share > 0.5")
        again = load_index(chosen.save(tmp_path / "chips.parquet"))
        assert_geodataframe_equal(again.frame, chosen.frame)
        assert again.facts == chosen.facts
        assert again.history == chosen.history
        assert isinstance(again.history[0], Step)

    def test_others_read_it_as_geoparquet(self, index, tmp_path):
        frame = gpd.read_parquet(index.save(tmp_path / "chips.parquet"))
        assert_geodataframe_equal(frame, index.frame)

    def test_it_does_not_say_where_the_cube_lies(self, land, index, tmp_path):
        path = index.save(tmp_path / "chips.parquet")
        assert land.url.encode() not in (tmp_path / "chips.parquet").read_bytes()
        assert land.url not in json.dumps(load_index(path).facts)

    def test_a_file_is_replaced_on_request_only(self, index, tmp_path):
        index.save(tmp_path / "chips.parquet")
        with pytest.raises(StoreError, match="give overwrite=True to replace it"):
            index.save(tmp_path / "chips.parquet")
        index.save(tmp_path / "chips.parquet", overwrite=True)

    def test_other_files_are_refused(self, index, tmp_path):
        with pytest.raises(StoreError, match="There is no file"):
            load_index(tmp_path / "none.parquet")
        index.frame.to_parquet(tmp_path / "plain.parquet")
        (tmp_path / "text.parquet").write_text("chips")
        files.write(index.frame, {"other": 1}, tmp_path / "state.parquet", overwrite=False)
        whole = Path(index.save(tmp_path / "whole.parquet")).read_bytes()
        (tmp_path / "cut.parquet").write_bytes(whole[:-99])
        for name in ("plain.parquet", "text.parquet", "state.parquet", "cut.parquet"):
            with pytest.raises(StoreError, match="is no chip index, or is damaged; give a file"):
                load_index(tmp_path / name)

    def test_a_flipped_bit_in_the_data_is_found(self, index, tmp_path):
        whole = Path(index.save(tmp_path / "whole.parquet")).read_bytes()
        flipped = bytearray(whole)
        for place in range(200, len(whole), len(whole) // 40):
            flipped[place] ^= 4
            (tmp_path / "flipped.parquet").write_bytes(flipped)
            flipped[place] ^= 4
            try:
                again = load_index(tmp_path / "flipped.parquet")
            except StoreError:
                continue
            # What no checksum covers, such as the names of writers, changes nothing.
            assert again.frame.equals(index.frame)
            assert again.facts == index.facts

    def test_a_column_that_parquet_cannot_hold_is_refused(self, index, tmp_path):
        mixed = index.with_column("mix", np.array(["a", *[3] * (len(WINDOWS) - 1)], object))
        with pytest.raises(StoreError, match="cannot hold a column of the index: .* mix .*alone"):
            mixed.save(tmp_path / "index.parquet")
        assert not list(tmp_path.iterdir())


class TestCheck:
    def test_the_same_cube_passes_also_with_more_in_it(self, index):
        spec = land_spec(chunk=8, region=16)
        index.check(spec, COVER, WINDOWS)
        more = cube.LayerSpec(name="later", dtype="float32", static=True)
        index.check(spec.with_variables(more), replace(COVER, target=None), WINDOWS)

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"grid": toy.GRID.translate_pix(1, 0)}, "its grid is"),
            (
                {"calendar": (*cube.two_years(2000), *cube.years(2005, 2010))},
                "its period '2000' is",
            ),
            (
                {
                    "stacks": (
                        cube.StackSpec(name="predictors", bands=("a", "c"), dtype="int8", nodata=0),
                    )
                },
                "its variable 'predictors' is",
            ),
        ],
    )
    def test_another_cube_is_refused_with_what_differs(self, index, change, match):
        with pytest.raises(SplitError, match=f"from another cube, sample or windows: {match}"):
            index.check(replace(land_spec(), **change), COVER, WINDOWS)

    @pytest.mark.parametrize(
        ("sample", "match"),
        [(PEOPLE, "its inputs is"), (replace(COVER, timings=same(YEARS[:2])), "its timings is")],
    )
    def test_another_sample_is_refused(self, index, sample, match):
        with pytest.raises(SplitError, match=match):
            index.check(land_spec(), sample, WINDOWS)

    def test_other_windows_are_refused(self, index):
        with pytest.raises(SplitError, match="its windows is .*'stride': 7.*'stride': 8"):
            index.check(land_spec(), COVER, Windows(shape=toy.SHAPE, size=12, stride=8))


class TestSummary:
    def test_it_tells_counts_columns_and_filters(self, index):
        text = str(index.query("valid_share > 0.98 and label_share > 0"))
        shares = index.query("valid_share > 0.98 and label_share > 0").frame["valid_share"]
        assert f" of {len(index)} chips" in text
        assert "windows of 12 px at stride 7" in text
        row = next(line.split() for line in text.splitlines() if line.startswith("valid_share "))
        assert row[1:4] == [f"{v:.4g}" for v in (shares.min(), shares.mean(), shares.max())]
        assert "filter: 'valid_share > 0.98 and label_share > 0' removed" in text

    def test_a_notebook_shows_the_same(self, index):
        page = index.query("row < 50")._repr_html_()
        for words in ("windows of 12 px", "share_bare_soil", "'row < 50' removed"):
            assert words in html.unescape(page)
        assert "row < 50" not in page

    def test_a_frame_without_its_columns_is_refused(self, index):
        with pytest.raises(SpecError, match="Missing: valid_share"):
            ChipIndex(frame=index.frame.drop(columns="valid_share"), facts=index.facts)


class TestPicture:
    def test_what_is_not_finite_counts_nowhere(self):
        origins = np.array([[0, 0], [0, 4], [4, 4]])
        found = picture.mean_raster((8, 8), origins, 4, np.array([np.inf, 2.0, np.nan]))
        assert (found[:4, 4:] == 2).all()
        assert np.isnan(found).sum() == 64 - 16

    @pytest.mark.parametrize("most", [20, 1000])
    def test_its_cells_are_means_of_the_windows_that_reach_them(self, index, most, monkeypatch):
        monkeypatch.setattr(picture, "MOST", most)
        one = index.frame[index.ids % 3 == 0]
        values = one["share_water"].to_numpy()
        origins = one[["row", "col"]].to_numpy()
        found = picture.mean_raster(toy.SHAPE, origins, 12, values)
        step = -(-104 // most)
        for y, x in np.ndindex(found.shape):
            low, high = np.array([y, x]) * step, np.array([y + 1, x + 1]) * step
            here = ((origins < high) & (origins + 12 > low)).all(axis=1) & ~np.isnan(values)
            expected = values[here].mean() if here.any() else np.nan
            assert found[y, x] == pytest.approx(expected, rel=1e-9, nan_ok=True)
        assert np.isnan(found).any()

    def test_it_is_a_file_or_a_figure(self, land, index, tmp_path):
        path = index.plot(tmp_path / "chips.png", column="share_water", background=land.people)
        assert (tmp_path / "chips.png").read_bytes().startswith(b"\x89PNG")
        assert path == str(tmp_path / "chips.png")
        assert index.plot().axes[0].get_title(loc="left") == f"{len(index):,} chips"
        with pytest.raises(StoreError, match="give overwrite=True"):
            index.plot(path)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"column": "label"}, "a column of numbers: chip, .*majority. Received 'label'"),
            ({"column": "cloud"}, "a column of numbers: chip, .* Received 'cloud'"),
            ({"path": "chips.pdf"}, "is a .png. Received 'chips.pdf'"),
            ({"background": np.zeros(5)}, r"a picture \(y, x\) .* Received shape \(5,\)"),
            ({"background": np.zeros((5, 5, 2))}, r"Received shape \(5, 5, 2\)"),
        ],
    )
    def test_what_cannot_be_drawn_is_refused(self, index, options, match):
        with pytest.raises(SpecError, match=match):
            index.plot(**options)

    def test_a_column_of_nothing_is_drawn_as_nothing(self, index, tmp_path):
        nothing = index.with_column("nothing", np.full(len(WINDOWS), np.nan))
        nothing.plot(tmp_path / "nothing.png", column="nothing")
        assert pd.isna(nothing.frame["nothing"]).all()
