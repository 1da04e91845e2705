"""Laws of every split of windows by place, whatever the places are."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.errors import SplitError, StoreError
from cube.partitions import PartitionWindows
from cube.spec import digest
from cube.windows import Windows
from training.chips import Chips
from training.splits import (
    WindowSplit,
    load_split,
    split_by_cells,
    split_by_clusters,
    split_random,
)
from training.splits.places import ROLES

DRAWN = settings(deadline=None, max_examples=30)
PARTS = ("train", "validation", "test")
THREE = {"train": 0.5, "validation": 0.2, "test": 0.3}
SMALL = Windows(shape=(60, 72), size=4, stride=4)


@st.composite
def drawn_splits(draw):
    """A split of a small grid by cells or clusters, or the reason why there is none."""
    size = draw(st.integers(2, 6))
    shape = (draw(st.integers(20, 44)), draw(st.integers(20, 44)))
    windows = Windows(shape=shape, size=size, stride=draw(st.integers(1, 2 * size)))
    options = {
        "seed": draw(st.integers(0, 99)),
        "buffer_px": draw(st.sampled_from([None, size, size + 3])),
        "balance": draw(st.sampled_from(["area", "places"])),
        **draw(
            st.sampled_from(
                [
                    {"fractions": THREE},
                    {"fractions": {"train": 0.7, "test": 0.3}},
                    {"folds": 3},
                    {"folds": 4, "validation_share": 0.0},
                    {"folds": "each"},
                ]
            )
        ),
    }
    try:
        if draw(st.booleans()):
            return split_by_cells(windows, cell_px=draw(st.integers(size, 24)), **options), ""
        labels = np.random.default_rng(draw(st.integers(0, 9))).integers(-1, 6, shape[0])
        row = windows.origins()[:, 0]
        return split_by_clusters(windows, clusters=labels[row], **options), ""
    except SplitError as error:
        return None, str(error)


def _nearest(windows, ids, others):
    """Pixels between the nearest of all pairs."""
    a, b = windows.origins(ids)[:, None], windows.origins(others)[None]
    return (np.abs(a - b).max(axis=-1) - windows.size).min()


class TestLaws:
    @DRAWN
    @given(drawn_splits())
    def test_parts_are_a_buffer_apart_and_every_window_is_in_one_or_lost(self, drawn):
        split, reason = drawn
        if split is None:
            known = ("no window is left for", "need as many places", "too few to train")
            assert any(text in reason for text in known)
            return
        for part in split.folds:
            held = [part.train_windows, part.validation_windows, part.test_windows]
            for one in range(3):
                for other in range(one):
                    if len(held[one]) and len(held[other]):
                        near = _nearest(split.windows, held[one], held[other])
                        assert near >= split.buffer_px
            together = np.concatenate([*held, part.lost_windows])
            assert np.sort(together).tolist() == np.flatnonzero(split.place >= 0).tolist()

    @DRAWN
    @given(drawn_splits())
    def test_test_windows_are_whole_places_and_only_near_windows_are_lost(self, drawn):
        split, _ = drawn
        for part in () if split is None else split.folds:
            of_test = np.isin(split.place, part.test_places)
            assert part.test_windows.tolist() == np.flatnonzero(of_test).tolist()
            others = np.union1d(part.test_windows, part.validation_windows)
            for lost in part.lost_windows[::5]:
                assert _nearest(split.windows, [lost], others) < split.buffer_px

    @DRAWN
    @given(drawn_splits())
    def test_over_the_folds_every_window_of_a_place_is_scored_once(self, drawn):
        split, _ = drawn
        if split is not None and "folds" in split.facts:
            scored = np.concatenate([part.test_windows for part in split.folds])
            assert np.sort(scored).tolist() == np.flatnonzero(split.place >= 0).tolist()

    @DRAWN
    @given(drawn_splits())
    def test_what_was_saved_gives_the_same_windows(self, tmp_path_factory, drawn):
        split, _ = drawn
        if split is None:
            return
        path = tmp_path_factory.getbasetemp() / "law.json"
        split.save(path)
        again = load_split(path)
        assert again.digest == split.digest
        for fold in range(len(split.folds)):
            assert np.array_equal(again.roles(fold), split.roles(fold))


@pytest.fixture(scope="module")
def split():
    return split_by_cells(SMALL, cell_px=24, fractions=THREE, seed=1)


class TestPlaceSplit:
    def test_the_seed_alone_decides(self, split):
        again, other = (
            split_by_cells(SMALL, cell_px=24, fractions=THREE, seed=seed) for seed in (1, 2)
        )
        assert again.digest == split.digest != other.digest
        assert np.array_equal(again.roles(), split.roles())

    def test_all_times_of_a_window_go_to_one_part(self, split):
        chips = Chips(windows=SMALL, timings=3)
        for part in PARTS:
            ids = split.ids(part, chips)
            windows = getattr(split.folds[0], f"{part}_windows")
            assert chips.window_of(ids).tolist() == np.repeat(windows, 3).tolist()
            assert chips.timing_of(ids).tolist() == [0, 1, 2] * len(windows)

    def test_roles_count_what_the_folds_hold(self, split):
        counts = np.bincount(split.roles(), minlength=len(ROLES))
        assert counts.tolist() == [*split.folds[0].counts.values(), 0]
        assert f"{counts[3]} (" in str(split)

    def test_its_guard_passes_what_it_trains_on_and_no_window_that_it_lost(self, split):
        part = split.folds[0]
        seen = np.union1d(part.train_windows, part.validation_windows)
        assert split.guard().check(seen) == 0
        near_test = [
            window
            for window in part.lost_windows
            if _nearest(SMALL, [window], part.test_windows) < split.buffer_px
        ]
        with pytest.raises(SplitError, match=f"Leak: {len(near_test)} of"):
            split.guard().check(np.concatenate([seen, near_test]))

    def test_it_is_shown_as_text_and_as_a_table(self, split):
        assert str(split).startswith("by cells: 270 windows of 4 px in 9 places, buffer 4 px\n")
        page = split._repr_html_()
        assert "<th>validation</th>" in page
        assert f"<td>{len(split.folds[0].lost_windows)}</td>" in page

    def test_every_split_has_the_same_face(self, split):
        def face(made: WindowSplit) -> tuple[str, str, int]:
            return made.kind, made.note, len(made.folds[0].test_windows)

        assert face(split) == ("by cells", "", len(split.folds[0].test_windows))

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda s: s.ids("dev", Chips(windows=SMALL)), "Parts are train, valid.*'dev'"),
            (lambda s: s.ids("test", Chips(windows=SMALL), fold=1), "There are 1 folds"),
            (
                lambda s: s.ids("test", Chips(windows=Windows(shape=(60, 72), size=4, stride=3))),
                r"The split is of windows .*Received chips of .*'stride': 3",
            ),
            (lambda s: s.roles(-1), "There are 1 folds, from 0. Received -1"),
            (lambda s: s.fold("a"), "There are 1 folds, from 0. Received 'a'"),
        ],
    )
    def test_what_it_does_not_have_is_refused(self, split, call, message):
        with pytest.raises(SplitError, match=message):
            call(split)


class TestManifest:
    @pytest.fixture
    def saved(self, tmp_path):
        split = split_by_cells(SMALL, cell_px=24, fractions=THREE, seed=1)
        split.save(tmp_path / "split.json")
        return tmp_path / "split.json"

    def _edit(self, path, change, *, forge):
        data = json.loads(path.read_text())
        change(data)
        if forge:
            data.pop("digest")
            data["digest"] = digest(data)
        path.write_text(json.dumps(data))

    def test_places_are_stored_as_runs(self, saved):
        data = json.loads(saved.read_text())
        assert len(data["place"]["windows"]) == 45  # 15 rows of windows, 3 cells across
        assert sum(data["place"]["windows"]) == len(SMALL)

    def test_a_random_split_stores_no_place_for_each_window(self, tmp_path):
        split_random(SMALL, fractions=THREE, seed=1).save(tmp_path / "r.json")
        assert json.loads((tmp_path / "r.json").read_text())["place"] == len(SMALL)

    def test_one_that_was_edited(self, saved):
        self._edit(saved, lambda data: data["folds"][0]["test_places"].pop(), forge=False)
        with pytest.raises(SplitError, match=r"split.json' was edited: it says digest .* again"):
            load_split(saved)

    def test_one_that_gives_other_windows(self, saved):
        self._edit(saved, lambda data: data["folds"][0]["test_places"].pop(), forge=True)
        with pytest.raises(SplitError, match="gives other windows today than when it was saved"):
            load_split(saved)

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            (lambda data: data["folds"].clear(), "is no manifest of a split"),
            (lambda data: data["folds"][0].clear(), r"this version knows: KeyError\('fold'\)"),
            (lambda data: data.pop("windows"), r"this version knows: KeyError\('windows'\)"),
            (lambda data: data["folds"][0].update(test_places="x"), "this version knows: "),
        ],
    )
    def test_one_that_lacks_something(self, saved, change, match):
        self._edit(saved, change, forge=True)
        with pytest.raises(SplitError, match=match):
            load_split(saved)

    def test_other_windows(self, saved):
        with pytest.raises(SplitError, match=r"is of other windows, .*'stride': 4"):
            load_split(saved, windows=Windows(shape=(60, 72), size=4, stride=2))

    def test_windows_of_any_kind_may_be_split_and_loaded(self, tmp_path):
        boxes = [(y, y + 20, x, x + 20) for y in (0, 30) for x in (0, 25, 50)]
        windows = PartitionWindows(shape=(60, 72), size=5, stride=3, boxes=np.array(boxes))
        partition = (windows.origins() // [30, 25]) @ [3, 1]
        split = split_by_clusters(windows, clusters=partition, folds=3, seed=0)
        assert all(part.counts["lost"] == 0 for part in split.folds)  # partitions lie apart
        split.save(tmp_path / "p.json")
        assert load_split(tmp_path / "p.json", windows=windows).digest == split.digest
        with pytest.raises(SplitError, match="give them as windows="):
            load_split(tmp_path / "p.json")

    def test_a_coverage_for_a_split_of_windows(self, saved):
        with pytest.raises(SplitError, match="a split of windows, .*leave coverage= out"):
            load_split(saved, coverage="tracts")

    def test_a_file_that_is_missing_or_no_manifest(self, tmp_path):
        with pytest.raises(StoreError, match="A split as JSON was expected"):
            load_split(tmp_path / "none.json")
        (tmp_path / "other.json").write_text("{}")
        with pytest.raises(SplitError, match="is no manifest of a split"):
            load_split(tmp_path / "other.json")
