"""Windows of whole regions: those on a border belong to nobody."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.errors import SplitError
from cube.windows import Windows
from tests import toy
from training.splits import load_split, split_by_regions

WINDOWS = Windows(shape=toy.SHAPE, size=6, stride=3)
THREE = {"train": 0.5, "validation": 0.2, "test": 0.3}


def _frame(boxes, names):
    """Regions from half-open pixel boxes (top, left, bottom, right)."""
    t = toy.GRID.transform
    shapes = [
        shapely.box(t.c + x0 * t.a, t.f + y1 * t.e, t.c + x1 * t.a, t.f + y0 * t.e)
        for y0, x0, y1, x1 in boxes
    ]
    return gpd.GeoDataFrame({"blob": names}, geometry=shapes, crs="EPSG:31985")


QUARTERS = _frame(
    [(0, 0, 48, 50), (0, 50, 48, 90), (48, 0, 90, 50), (48, 50, 90, 90)], list("abca")
)


def _split(polygons, **options):
    options = {"seed": 0, "validation_share": 0, **options}
    return split_by_regions(WINDOWS, polygons, grid=toy.GRID, by="blob", **options)


def _meets(origin, box):
    (y, x), (y0, x0, y1, x1) = origin, box
    return y < y1 and y0 < y + WINDOWS.size and x < x1 and x0 < x + WINDOWS.size


class TestRegions:
    @settings(deadline=None, max_examples=25)
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 60), st.integers(0, 60), st.integers(8, 40), st.integers(8, 40)
            ),
            min_size=2,
            max_size=6,
        )
    )
    def test_a_window_belongs_to_the_one_region_that_it_meets(self, drawn):
        boxes = [(y, x, y + h, x + w) for y, x, h, w in drawn]
        names = [f"r{k % 4}" for k in range(len(boxes))]
        met = [
            {name for name, box in zip(names, boxes, strict=True) if _meets(origin, box)}
            for origin in WINDOWS.origins()
        ]
        try:
            split = _split(_frame(boxes, names), folds="each")
        except SplitError:
            return
        expected = [next(iter(found)) if len(found) == 1 else None for found in met]
        found = [split.names[k] if k >= 0 else None for k in split.place]
        assert found == expected
        assert split.facts["windows_outside"] == sum(not m for m in met)
        assert split.facts["windows_on_borders"] == sum(len(m) > 1 for m in met)

    def test_regions_that_only_touch_a_window_do_not_meet_it(self):
        whole = Windows(shape=toy.SHAPE, size=6, stride=6)
        boxes = [(0, 0, 48, 104), (48, 0, 96, 104)]  # along edges of windows
        split = split_by_regions(
            whole,
            _frame(boxes, ["n", "s"]),
            grid=toy.GRID,
            by="blob",
            folds=2,
            validation_share=0,
            seed=0,
        )
        assert split.facts["windows_on_borders"] == 0
        assert (split.place == (whole.origins()[:, 0] >= 48)).all()

    def test_polygons_of_one_name_are_one_region_and_regions_of_another_crs_are_brought(self):
        here, there = (_split(p, folds="each") for p in (QUARTERS, QUARTERS.to_crs("EPSG:4326")))
        assert here.names == ("a", "b", "c")
        assert here.kind == "by regions"
        assert (here.place == there.place).mean() > 0.99
        assert here.facts["windows_outside"] > 0

    def test_one_region_is_left_out(self):
        split = _split(QUARTERS, leave_out=["b"], validation_share=0.4)
        assert _split(QUARTERS, leave_out="b", validation_share=0.4).digest == split.digest
        (part,) = split.folds
        assert part.test_windows.tolist() == np.flatnonzero(split.place == 1).tolist()
        assert len(part.validation_places) == 1

    def test_every_region_is_as_likely_in_any_part(self):
        apart = [(y, x, y + 8, x + 8) for y in (0, 30) for x in range(0, 100, 20)]
        blobs = _frame(apart, list("abcdefghij"))
        parts = [
            _split(
                blobs, fractions=THREE, validation_share=None, balance="places", seed=seed
            ).folds[0]
            for seed in range(12)
        ]
        assert {len(part.test_places) for part in parts} == {3}
        assert {len(part.validation_places) for part in parts} == {2}
        assert len({tuple(part.test_places) for part in parts}) > 6

    def test_regions_without_a_window_of_their_own_are_named(self):
        lines = _frame([(0, 0, 90, 50), (0, 50, 90, 90), (0, 49, 90, 50)], ["a", "b", "thin"])
        split = _split(lines, folds="each")
        assert split.facts["regions_without_windows"] == ["thin"]

    def test_it_loads_without_its_polygons(self, tmp_path):
        split = _split(QUARTERS, folds=3)
        split.save(tmp_path / "split.json")
        again = load_split(tmp_path / "split.json")
        assert (again.digest, again.names) == (split.digest, split.names)


def test_one_number_names_a_region():
    numbers = QUARTERS.assign(blob=[1, 2, 3, 4])
    options = {"seed": 0, "validation_share": 0}
    found, listed = (_split(numbers, leave_out=out, **options) for out in (1, ["1"]))
    assert found.to_dict() == listed.to_dict()


class TestRefusals:
    @pytest.mark.parametrize(
        ("polygons", "options", "message"),
        [
            (QUARTERS, {"leave_out": ["z", "a"]}, r"of their own: a, b, c. Received z"),
            (QUARTERS, {"leave_out": []}, "Received none"),
            (QUARTERS, {"folds": 4}, r"4 folds need as many places. There are 3 \(by regions\)"),
            (QUARTERS, {"leave_out": ["a"], "folds": 2}, "Received folds and leave_out"),
            (QUARTERS.assign(blob=["a", None, "b", "c"]), {"folds": 2}, "1 of 4 have no name"),
            (
                QUARTERS.rename(columns={"blob": "x"}),
                {"folds": 2},
                "no column 'blob'. There are: x",
            ),
            (QUARTERS, {"folds": 3, "buffer_px": 90}, "Fold 1: no window is left for train"),
            (QUARTERS, {"leave_out": ["a", "b", "c"]}, "no window is left for train"),
        ],
    )
    def test_one_line_says_what_is_wrong(self, polygons, options, message):
        with pytest.raises(SplitError, match=message):
            _split(polygons, **options)

    def test_geometries_name_no_region(self):
        with pytest.raises(SplitError, match="There is no column 'geometry'. There are: blob"):
            split_by_regions(WINDOWS, QUARTERS, grid=toy.GRID, by="geometry", folds=2, seed=0)

    def test_windows_of_another_grid(self):
        other = Windows(shape=(90, 104), size=6, stride=3)
        with pytest.raises(SplitError, match=r"Windows lie on a grid of \(90, 104\)"):
            split_by_regions(other, QUARTERS, grid=toy.GRID, by="blob", folds=2, seed=0)

    def test_regions_too_small_for_any_window(self):
        tiny = _frame([(0, 0, 2, 1), (0, 1, 2, 2)], ["a", "b"])  # in one window, both
        with pytest.raises(SplitError, match="No window lies in a place"):
            _split(tiny, folds=2)
