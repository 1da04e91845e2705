"""Shares, chips, changes and transforms: each kind of number spreads by its own rule."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings

import cube
from cube.coverage import entries
from cube.errors import PolygonError, SourceError, SpecError
from cube.labels.labelling import States, plan_spread
from cube.provenance import inputs_of
from cube.states import MISSING, NUMBER, ZERO
from cube.transforms import PerCapita
from tests.cube.geometry import partition, sets, square
from tests.cube.labelling import SHAPE, amounts, cover, dense, lights, pixels, seeds, write
from tests.rasters import grid_at

few = settings(deadline=None, max_examples=5)


@pytest.fixture(scope="module", autouse=True)
def small_tiles():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entries, "TILE", 16)
        yield


class TestShare:
    @few
    @given(polygons=sets(SHAPE), seed=seeds)
    def test_it_equals_a_plain_loop_of_two_amounts(self, polygons, seed):
        found = cover(polygons)
        of = amounts(len(polygons), seed=seed)
        share = amounts(len(polygons), seed=seed + 1) / 3000
        cube.spread(found, "persons", share, of=of, time="2000", how="share")
        part, whole = np.zeros(SHAPE), np.zeros(SHAPE)
        for i, matrix in enumerate(dense(found)):
            if np.isfinite(of[i]) and np.isfinite(share[i]) and matrix.any():
                density = of[i] * found.covered_share[i] * matrix / matrix.sum()
                part, whole = part + share[i] * density, whole + density
        here = pixels(found)
        np.testing.assert_array_equal(np.isfinite(here), whole > 0)
        inside = whole > 0
        np.testing.assert_allclose(here[inside], part[inside] / whole[inside], atol=1e-9)
        assert ((here[inside] >= 0) & (here[inside] <= 1)).all()

    @few
    @given(polygons=sets(SHAPE), seed=seeds)
    def test_those_who_are_meant_are_conserved(self, polygons, seed):
        found = cover(polygons)
        write(found.url, "lights", lights(seed=seed), time=0)
        of = amounts(len(polygons), seed=seed, unknown=0)
        share = amounts(len(polygons), seed=seed + 1, unknown=0) / 3000
        options = {"time": "2000", "weight": "lights", "empty": "area"}
        cube.spread(found, "persons", share, of=of, how="share", **options)
        cube.spread(found, "fixed", of, weight="lights", weight_time="2000", empty="area")
        total = np.nansum(pixels(found) * pixels(found, "fixed", time=None))
        assert total == pytest.approx((share * of * found.covered_share).sum(), rel=1e-11)

    def test_pixels_without_anyone_have_no_share(self):
        found = cover([square(2, 2, 4), square(20, 20, 4), square(30, 30, 4)])
        cube.spread(found, "persons", [0.5, np.nan, 0], of=[0, 0, 7], time="2000", how="share")
        here = pixels(found)
        assert np.isfinite(here).sum() == 16
        np.testing.assert_array_equal(here[30:34, 30:34], 0)

    def test_a_share_without_its_denominator_is_unknown(self):
        found = cover([square(2, 2, 4), square(20, 20, 4)])
        cube.spread(found, "persons", [0.5, 1], of=[np.nan, 3], time="2000", how="share")
        assert np.isfinite(pixels(found)).sum() == 16

    def test_a_pixel_of_two_is_the_share_of_all_who_live_there(self):
        found = cover([shapely.box(0, 0, 1.5, 1), shapely.box(1.5, 0, 3, 1)])
        cube.spread(found, "persons", [1, 0.25], of=[30, 60], time="2000", how="share")
        np.testing.assert_allclose(pixels(found)[0, :3], [1, (10 + 5) / 30, 0.25], rtol=1e-7)

    def test_other_ratios_have_no_bounds_on_purpose(self):
        found = cover([square(2, 2, 4)])
        options = {"of": [10], "time": "2000", "how": "share"}
        match = r"^Shares must be from 0 to 1, or give bounded=False .*1 of 1 are not, .*row 0: 2.5"
        with pytest.raises(PolygonError, match=match):
            cube.spread(found, "persons", [2.5], **options)
        with pytest.raises(PolygonError, match="Shares must be from 0 to 1"):
            cube.spread(found, "persons", [-0.1], **options)
        cube.spread(found, "persons", [2.5], bounded=False, **options)
        np.testing.assert_allclose(pixels(found)[2:6, 2:6], 2.5)

    @pytest.mark.parametrize(
        ("of", "match"),
        [
            ([-1.0], r"Denominators \(of=\) must be 0 or more. 1 of 1 are not, .* row 0: -1"),
            (["3"], r"Denominators \(of=\) must be numbers"),
            ([1.0, 2.0], "One value per polygon was expected, 1. Received shape"),
            ([np.inf], r"Denominators \(of=\) must be finite"),
        ],
    )
    def test_denominators_are_checked(self, of, match):
        found = cover([square(2, 2, 4)])
        with pytest.raises(PolygonError, match=match):
            cube.spread(found, "persons", [0.5], of=of, time="2000", how="share")

    def test_a_share_of_nothing_said_is_refused(self):
        found = cover([square(2, 2, 4)])
        with pytest.raises(SpecError, match="how='share' needs of=, one denominator per polygon"):
            cube.spread(found, "persons", [0.5], time="2000", how="share")

    def test_another_denominator_is_another_input(self):
        found = cover([square(2, 2, 4)])
        cube.spread(found, "persons", [0.5], of=[3], time="2000", how="share")
        assert "of" in inputs_of(found.url, "persons")["2000"]["from"]
        with pytest.raises(SourceError, match="other inputs"):
            cube.spread(found, "persons", [0.5], of=[4], time="2000", how="share")


class TestChips:
    """Pixels of 1,200 m, each of which holds many blocks."""

    GRID = grid_at((5, 6), pixel_m=1200.0)

    def parts(self, blocks):
        """Shapely's areas of intersection of blocks and chips over the blocks' areas."""
        chips = [shapely.box(x, y, x + 1, y + 1) for y in range(5) for x in range(6)]
        met = shapely.area(shapely.intersection(np.array(blocks)[:, None], np.array(chips)))
        return (met / shapely.area(blocks)[:, None]).reshape(len(blocks), 5, 6)

    @few
    @given(seed=seeds)
    def test_a_chip_gets_of_each_block_the_part_that_lies_in_it(self, seed):
        blocks = partition((5, 6), points=200, seed=seed)
        found = cover(blocks, grid=self.GRID)
        persons = amounts(len(blocks), seed=seed, unknown=0)
        cube.spread(found, "persons", persons, time="2000")
        expected = np.einsum("b,byx->yx", persons, self.parts(blocks))
        np.testing.assert_allclose(pixels(found), expected, rtol=1e-5)
        assert pixels(found).sum() == pytest.approx(persons.sum(), rel=1e-12)

    def test_a_share_of_a_chip_is_that_of_its_persons(self):
        blocks = partition((5, 6), points=200, seed=4)
        found = cover(blocks, grid=self.GRID)
        persons = amounts(len(blocks), seed=4, unknown=0)
        share = np.random.default_rng(4).random(len(blocks))
        cube.spread(found, "persons", share, of=persons, time="2000", how="share")
        parts = self.parts(blocks)
        whole = np.einsum("b,byx->yx", persons, parts)
        expected = np.einsum("b,byx->yx", persons * share, parts) / whole
        np.testing.assert_allclose(pixels(found), expected, rtol=1e-5)


class TestChanges:
    def test_negative_amounts_are_refused_unless_they_are_changes(self):
        found = cover([square(2, 2, 4), square(20, 20, 4)])
        match = (
            r"^Amounts must be 0 or more, or give signed=True for changes\. 1 of 2 are not, the "
            r"first in row 1: -16\.$"
        )
        with pytest.raises(PolygonError, match=match):
            cube.spread(found, "persons", [32, -16], time="2000")
        cube.spread(found, "persons", [32, -16], time="2000", signed=True)
        assert np.nansum(pixels(found)) == pytest.approx(16)
        np.testing.assert_allclose(pixels(found)[20:24, 20:24], -1)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"how": "intensive", "signed": True}, "signed=True is for how='extensive'"),
            ({"bounded": False}, "bounded=False is for how='share'"),
            ({"of": [3]}, "of= holds the denominators of how='share'"),
        ],
    )
    def test_options_without_effect_are_refused(self, options, match):
        found = cover([square(2, 2, 4)])
        with pytest.raises(SpecError, match=match):
            cube.spread(found, "persons", [3], time="2000", **options)


class Log:
    """The natural logarithm; zero has none."""

    def forward(self, values):
        out = np.full(values.shape, np.nan)
        return np.log(values, out=out, where=values > 0)

    def describe(self):
        return {"kind": "log"}


class TestTransform:
    POLYGONS = (square(2, 2, 4), square(20, 20, 4), square(30, 30, 4))

    def test_a_layer_may_hold_the_logarithm_with_its_states(self):
        found = cover(self.POLYGONS)
        options = {"transform": Log(), "state_layer": "state"}
        report = cube.spread(found, "persons", [80, 0, np.nan], time="2000", **options)
        assert str(report).startswith("label persons: 12 done")
        here, state = pixels(found), pixels(found, "state")
        np.testing.assert_allclose(here[2:6, 2:6], np.log(5))
        assert np.isfinite(here).sum() == 16
        expected = np.full(SHAPE, MISSING)
        expected[2:6, 2:6], expected[20:24, 20:24] = NUMBER, ZERO
        np.testing.assert_array_equal(state, expected)

    def test_without_states_zero_has_no_logarithm(self):
        found = cover(self.POLYGONS)
        cube.spread(found, "persons", [80, 0, 16], time="2000", transform=Log())
        assert np.isfinite(pixels(found)).sum() == 32
        assert inputs_of(found.url, "state") == {}

    def test_the_states_are_those_of_the_values_that_are_written(self):
        found = cover(partition(SHAPE, seed=2, points=9))
        write(found.url, "lights", lights(seed=2), time=0)
        persons = amounts(found.polygons, seed=2)
        options = {"time": "2000", "weight": "lights", "empty": "area"}
        cube.spread(found, "persons", persons, state_layer="state", **options)
        np.testing.assert_array_equal(pixels(found, "state"), States().forward(pixels(found)))

    @pytest.mark.parametrize("transform", [np.log, Log, PerCapita(), "log"])
    def test_what_is_no_transform_of_one_value_is_refused_and_nothing_is_written(self, transform):
        found = cover(self.POLYGONS)
        with pytest.raises(SpecError, match="must be a declared transform of one value, such as"):
            cube.spread(found, "persons", [1, 2, 3], time="2000", transform=transform)
        assert inputs_of(found.url, "persons") == {}

    def test_a_second_run_skips_both(self):
        found = cover(self.POLYGONS)
        options = {"time": "2000", "transform": Log(), "state_layer": "state"}
        first = cube.spread(found, "persons", [80, 0, 16], **options)
        again = cube.spread(found, "persons", [80, 0, 16], **options)
        assert (first.count("done"), again.count("skipped")) == (12, 12)

    def test_another_transform_is_another_input(self):
        found = cover(self.POLYGONS)
        cube.spread(found, "persons", [80, 0, 16], time="2000", transform=Log())
        assert inputs_of(found.url, "persons")["2000"]["from"]["transform"] == {"kind": "log"}
        with pytest.raises(SourceError, match="other inputs"):
            cube.spread(found, "persons", [80, 0, 16], time="2000")

    @pytest.mark.parametrize(
        ("layer", "match"),
        [
            ("persons", "'persons' cannot hold values and states; give state_layer= another"),
            ("rate", "has no variable 'rate'"),
            ("fixed", "A layer of states holds whole numbers, and 'fixed' is float64; give it"),
            ("built", "A layer of states holds whole numbers, and 'built' is uint8"),
        ],
    )
    def test_a_layer_that_holds_no_states_is_refused_and_nothing_is_written(self, layer, match):
        found = cover(self.POLYGONS)
        for call in (cube.spread, plan_spread):
            with pytest.raises(SpecError, match=match):
                call(found, "persons", [1, 2, 3], time="2000", state_layer=layer)
        assert inputs_of(found.url, "persons") == {}
