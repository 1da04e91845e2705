"""Options of splits: what is none is refused in one line, whatever its type."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from cube.errors import SplitError
from cube.windows import Windows
from training.splits import quantile_bins, split_by_cells, split_by_clusters
from training.splits.rules import codes_of

WINDOWS = Windows(shape=(60, 72), size=4, stride=2)
HALVES = {"train": 0.5, "test": 0.5}
ALL = len(WINDOWS)


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"seed": -1}, "seed is a whole number, 0 or more. Received -1"),
            ({"seed": None}, "seed is a whole number, 0 or more. Received None"),
            ({"seed": 1.5}, "seed is a whole number, 0 or more. Received 1.5"),
            ({"seed": True}, "seed is a whole number, 0 or more. Received True"),
            ({"cell_px": 30.5}, "cell_px is a whole number, 0 or more. Received 30.5"),
            ({"buffer_px": 4.5}, "buffer_px is a whole number, 0 or more. Received 4.5"),
            ({"fractions": [0.5, 0.5]}, r"name train, validation and test.* Received \[0.5"),
            ({"fractions": {"train": "x", "test": 0.5}}, "each from 0 to 1. Received"),
            ({"fractions": {"train": None, "test": 1}}, "each from 0 to 1. Received"),
            ({"fractions": None, "folds": 2.0}, "a number of at least 2, or 'each'. Received 2.0"),
            ({"fractions": None, "folds": 2, "validation_share": "0.1"}, "to 0.5. Received '0.1'"),
            ({"fractions": None, "leave_out": ("a",)}, "places by cells have numbers alone; give"),
            ({"balance": "label", "label": ["a"] * ALL}, "label holds amounts, numbers. Rec"),
            ({"stratify": np.full(ALL, -1)}, "stratify names the class of no window; leave it"),
            ({"classes": np.full(ALL, None)}, "classes names the class of no window; leave it"),
            ({"stratify": np.full(ALL, np.nan)}, "stratify holds classes: .* Received float64"),
            (
                {"stratify": np.array([1, "a"] * (ALL // 2) + [None], object)},
                "classes: whole numbers, text or bool, None for none. Received int, str",
            ),
        ],
    )
    def test_what_is_none_is_refused(self, options, match):
        given = {"cell_px": 24, "fractions": HALVES, "seed": 0, **options}
        with pytest.raises(SplitError, match=match):
            split_by_cells(WINDOWS, **given)

    def test_a_number_of_folds_may_be_of_numpy(self):
        plain, numpy = (
            split_by_cells(WINDOWS, cell_px=24, folds=folds, seed=0, validation_share=0)
            for folds in (2, np.int64(2))
        )
        assert plain.digest == numpy.digest

    def test_bins_are_whole(self):
        with pytest.raises(SplitError, match="bins is a whole number, 0 or more. Received 2.5"):
            quantile_bins([1.0, 2.0, 3.0], bins=2.5)


class TestClasses:
    @pytest.mark.parametrize(
        ("labels", "codes", "names"),
        [
            (np.array([3, -1, 1, 3]), [1, -1, 0, 1], ("1", "3")),
            (pd.array([3, None, 1, -2], dtype="Int64"), [1, -1, 0, -1], ("1", "3")),
            (pd.Series([3, None, 1, 3], dtype="Int64"), [1, -1, 0, 1], ("1", "3")),
            (np.array([3, None, 1, -2], object), [1, -1, 0, -1], ("1", "3")),
            (np.array(["b", None, "a", "b"], object), [1, -1, 0, 1], ("a", "b")),
            (pd.Series(["b", None, "a", "b"]), [1, -1, 0, 1], ("a", "b")),
            (np.array([True, False, True, True]), [1, 0, 1, 1], ("False", "True")),
            (np.array([-1, -1, -3, -1]), [-1] * 4, ()),
        ],
    )
    def test_they_are_numbered_in_their_order_without_those_of_none(self, labels, codes, names):
        found, called = codes_of(Windows(shape=(8, 8), size=4, stride=4), labels, "stratify")
        assert found.tolist() == codes
        assert called == names


def test_another_process_makes_the_same_split():
    code = (
        "import numpy as np; from cube.windows import Windows\n"
        "from training.splits import split_by_clusters\n"
        "w = Windows(shape=(60, 72), size=4, stride=2)\n"
        "names = np.array(['north', 'south', 'west', 'east', 'sea'])[w.origins()[:, 0] // 12]\n"
        "print(split_by_clusters(w, clusters=names, folds='each', seed=1,"
        " validation_share=0).digest)"
    )
    names = np.array(["north", "south", "west", "east", "sea"])[WINDOWS.origins()[:, 0] // 12]
    here = split_by_clusters(WINDOWS, clusters=names, folds="each", seed=1, validation_share=0)
    # Another process hashes text differently, so no order may come from a set.
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here.digest
