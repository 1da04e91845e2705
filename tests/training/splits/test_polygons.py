"""Places that are scored lie at least the buffer away from every place that was learned from."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.errors import SplitError
from cube.windows import Windows, footprint
from inference.baselines import Folds
from tests import toy
from training.splits import load_split
from training.splits.areas import FoldSplit
from training.splits.groups import contiguous_folds, whole_groups
from training.splits.polygons import Split, SplitRules, split_by_polygons

WINDOWS = Windows(shape=toy.SHAPE, size=8, stride=4)
RULES = SplitRules(seed=3, validation_share=0.4)


@pytest.fixture(scope="module")
def folds(city):
    return contiguous_folds(city.polygons, by="neighbourhood", folds=3, seed=0)


@pytest.fixture(scope="module")
def split(city, folds):
    groups = whole_groups(city.polygons, "neighbourhood")
    return split_by_polygons(city.coverage, WINDOWS, folds, RULES, groups=groups)


@dataclass
class FakeCoverage:
    """Polygons as a raster of their owners."""

    owner: np.ndarray
    polygons: int
    name: str = "fake"
    digest: str = "0"

    @property
    def grid(self):
        return SimpleNamespace(shape=self.owner.shape)

    def shares(self, rows, cols):
        return SimpleNamespace(owner=lambda: self.owner[slice(*rows), slice(*cols)])


@st.composite
def random_places(draw):
    """Cells round random points, some pixels outside all, in folds that lie together."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(30, 70)), draw(st.integers(30, 70)))
    count, folds = draw(st.integers(6, 25)), draw(st.integers(2, 3))
    points = rng.uniform(0, shape, (count, 2))
    pixels = np.stack(np.mgrid[: shape[0], : shape[1]], axis=-1)[:, :, None]
    apart = np.linalg.norm(pixels - points, axis=-1)
    owner = np.where(apart.min(axis=-1) < draw(st.integers(4, 40)), apart.argmin(axis=-1), -1)
    rank = np.argsort(np.argsort(points @ rng.normal(size=2)))
    size = draw(st.integers(2, 7))
    windows = Windows(shape=shape, size=size, stride=draw(st.integers(1, size)))
    rules = SplitRules(
        seed=0,
        buffer_px=draw(st.sampled_from([None, size, size + 3])),
        validation_share=draw(st.sampled_from([0.0, 0.2, 0.5])),
        min_label_share=draw(st.sampled_from([0.0, 0.1, 0.6])),
    )
    return FakeCoverage(owner.astype("int32"), count), rank * folds // count, windows, rules


def _apart(windows, ids, others):
    """Pixels between every pair of windows, by the larger axis, one pair after the other."""
    starts, ends = windows.origins(ids)[:, None], windows.origins(others)[None]
    gaps = np.maximum(starts - (ends + windows.size), ends - (starts + windows.size))
    return gaps.max(axis=-1)


def _held(owner, windows, window):
    y, x = windows.origins([window])[0]
    return owner[y : y + windows.size, x : x + windows.size]


def _check_laws(split, owner, rules):
    assert np.sort(np.concatenate([p.test_polygons for p in split.folds])).tolist() == list(
        range(len(split.polygon_fold))
    )
    for part in split.folds:
        _check_distance(split, part)
        _check_polygons(part)
        _check_windows(split, part, owner, rules)


def _check_distance(split, part):
    seen = np.union1d(part.train_windows, part.validation_windows)
    assert _apart(split.windows, seen, part.test_windows).min() >= split.buffer_px


def _check_polygons(part):
    roles = [part.train_polygons, part.validation_polygons, part.test_polygons]
    together = np.concatenate(roles)
    assert len(np.unique(together)) == len(together)
    assert len(part.train_polygons) > 0
    assert part.fitted_polygons.tolist() == sorted([*roles[0], *roles[1]])


def _check_windows(split, part, owner, rules):
    windows = split.windows
    for role in ("train", "validation", "test"):
        ids, polygons = getattr(part, f"{role}_windows"), getattr(part, f"{role}_polygons")
        area = footprint(windows.shape, windows.origins(ids), windows.size)
        assert area[np.isin(owner, polygons)].all()  # every polygon wholly inside its windows
        assert all(np.isin(_held(owner, windows, i), polygons).any() for i in ids)
    everywhere = [
        np.isin(_held(owner, windows, i), part.test_polygons).any() for i in range(len(windows))
    ]
    assert np.flatnonzero(everywhere).tolist() == part.test_windows.tolist()
    for i in part.train_windows:
        assert (_held(owner, windows, i) >= 0).mean() >= rules.min_label_share


class TestSplit:
    @settings(deadline=None, max_examples=40)
    @given(random_places())
    def test_its_laws_hold_for_random_places_or_it_says_why_it_cannot(self, places):
        coverage, folds, windows, rules = places
        try:
            split, reason = split_by_polygons(coverage, windows, folds, rules), ""
        except SplitError as error:
            split, reason = None, str(error)
        if split is None:
            assert "left to train on" in reason or "Nothing to compare" in reason
        else:
            _check_laws(split, coverage.owner, rules)

    def test_its_laws_hold_for_the_toy(self, split, city):
        _check_laws(split, city.owner, RULES)
        assert all(len(part.validation_polygons) for part in split.folds)

    def test_validation_polygons_are_whole_groups_of_what_is_left(self, split, city):
        groups = whole_groups(city.polygons, "neighbourhood")
        for part in split.folds:
            chosen = set(groups[part.validation_polygons])
            assert not chosen & set(groups[part.train_polygons])

    def test_validation_takes_no_more_than_its_share(self, split):
        for part in split.folds:
            wanted = RULES.validation_share * len(part.fitted_polygons)
            assert len(part.validation_polygons) <= wanted + 0.5

    def test_every_methods_masks_agree_with_it(self, split, folds):
        fitted, test = split.masks()
        for part in split.folds:
            assert np.flatnonzero(fitted[part.fold]).tolist() == part.fitted_polygons.tolist()
            assert np.flatnonzero(test[part.fold]).tolist() == part.test_polygons.tolist()
        same = Folds(train=fitted, test=test)  # refuses a polygon in both parts, or tested twice
        assert same.number.tolist() == folds.tolist()

    def test_lost_share_is_what_the_buffer_takes_of_the_polygons_not_tested(self, split, folds):
        left = [len(p.fitted_polygons) / (folds != p.fold).sum() for p in split.folds]
        assert split.lost_share == pytest.approx(1 - np.mean(left))
        assert f"{split.lost_share:.0%} of the training polygons" in str(split)

    def test_a_wider_buffer_leaves_less(self, city, folds, split):
        wider = split_by_polygons(city.coverage, WINDOWS, folds, replace(RULES, buffer_px=12))
        assert wider.lost_share > split.lost_share

    def test_its_manifest_is_stable_json(self, split, city, folds, tmp_path):
        groups = whole_groups(city.polygons, "neighbourhood")
        again = split_by_polygons(city.coverage, WINDOWS, folds, RULES, groups=groups)
        other = split_by_polygons(
            city.coverage, WINDOWS, folds, replace(RULES, seed=4), groups=groups
        )
        for number, made in enumerate((split, again)):
            made.save(tmp_path / f"{number}.json")
        text = (tmp_path / "0.json").read_text()
        assert text == (tmp_path / "1.json").read_text()
        assert json.loads(text) == {**split.to_dict(), "digest": split.digest}
        assert split.digest == again.digest != other.digest
        assert str(tmp_path) not in text
        assert city.url not in text


class TestLoading:
    def test_a_saved_split_gives_the_same_windows_and_polygons(self, split, city, tmp_path):
        split.save(tmp_path / "split.json")
        again = load_split(tmp_path / "split.json", coverage=city.coverage)
        assert again.digest == split.digest
        for part, other in zip(split.folds, again.folds, strict=True):
            for name in FoldSplit.__slots__:
                assert np.array_equal(getattr(part, name), getattr(other, name))

    def test_it_needs_the_coverage_of_the_same_polygons(self, split, city, tmp_path):
        split.save(tmp_path / "split.json")
        with pytest.raises(SplitError, match="of the polygons 'tracts', .*give their coverage="):
            load_split(tmp_path / "split.json")
        other = FakeCoverage(city.owner, 30)
        with pytest.raises(SplitError, match=r"of other polygons, 'tracts' .* Received 'fake' 0"):
            load_split(tmp_path / "split.json", coverage=other)
        with pytest.raises(SplitError, match="keeps its windows; leave windows= out"):
            load_split(tmp_path / "split.json", coverage=city.coverage, windows=WINDOWS)

    def test_other_owners_of_the_pixels_show(self, split, city, tmp_path):
        split.save(tmp_path / "split.json")
        moved = FakeCoverage(np.roll(city.owner, 9, axis=1), 30, digest=city.coverage.digest)
        with pytest.raises(SplitError, match="gives other windows today than when it was saved"):
            load_split(tmp_path / "split.json", coverage=moved)


class TestRefusals:
    def test_a_buffer_below_a_window(self, city, folds):
        with pytest.raises(SplitError, match=r"at least a window, 8 px. Received 7"):
            split_by_polygons(city.coverage, WINDOWS, folds, SplitRules(seed=0, buffer_px=7))

    def test_a_fold_with_nothing_left_to_train_on(self, city, folds):
        with pytest.raises(SplitError, match=r"Fold 0 has 0 polygons left to train on. Use a sma"):
            split_by_polygons(city.coverage, WINDOWS, folds, SplitRules(seed=0, buffer_px=90))

    @pytest.mark.parametrize(
        "numbers", [[0] * 30, [0] * 29 + [2], [-1] + [0, 1] * 14 + [1]], ids=str
    )
    def test_folds_with_gaps_or_a_single_one(self, city, numbers):
        with pytest.raises(SplitError, match="numbered from 0 without gaps"):
            split_by_polygons(city.coverage, WINDOWS, numbers, SplitRules(seed=0))

    def test_another_number_of_folds_than_polygons(self, city):
        with pytest.raises(SplitError, match=r"One fold per polygon was expected, 30"):
            split_by_polygons(city.coverage, WINDOWS, [0, 1], SplitRules(seed=0))

    def test_windows_of_another_grid(self, city, folds):
        windows = Windows(shape=(90, 104), size=8, stride=4)
        with pytest.raises(SplitError, match=r"Windows lie on a grid of \(90, 104\)"):
            split_by_polygons(city.coverage, windows, folds, SplitRules(seed=0))

    @pytest.mark.parametrize(
        "wrong", [{"validation_share": 0.6}, {"validation_share": -0.1}, {"min_label_share": 1.1}]
    )
    def test_shares_out_of_range(self, wrong):
        with pytest.raises(SplitError, match=next(iter(wrong))):
            SplitRules(seed=0, **wrong)


def test_a_split_is_made_of_values(split):
    assert isinstance(split, Split)
    assert all(isinstance(part, FoldSplit) for part in split.folds)
    with pytest.raises(AttributeError, match="cannot assign"):
        split.seed = 1
