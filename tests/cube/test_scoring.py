"""Scores: the best of a pixel's observations has the highest."""

from __future__ import annotations

import math
import pickle
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from cube.errors import SourceError, SpecError
from cube.scenes import Scene, SceneBand
from cube.scoring import CloudCoverScore, CloudDistanceScore, DayScore, IndexScore, WeightedScore

CLEAR = np.ones((3, 4), bool)
RNG = np.random.default_rng(3)
SCORES = (
    IndexScore(index="NDVI"),
    IndexScore(index="SAVI", constants={"L": 0.5}, letters={"N": "nir08"}, lowest=True),
    DayScore(day="07-15"),
    CloudDistanceScore(full_px=9),
    CloudCoverScore(),
    WeightedScore(parts=((DayScore(day="07-15"), 2), (CloudCoverScore(), 1))),
)


def scene(time=None, cloud_cover=None):
    return Scene(
        id="s",
        layers=(SceneBand(name="red", href="s.tif"),),
        crs="EPSG:32725",
        nodata=0,
        time=time,
        cloud_cover=cloud_cover,
    )


def on(score, moment):
    found = score.score(scene(time=str(moment)), {}, CLEAR)
    assert found.shape == CLEAR.shape
    assert (found == found[0, 0]).all()
    return float(found[0, 0])


class TestIndex:
    VALUES = RNG.uniform(0.05, 0.9, (2, 3, 4))

    def values(self, *names):
        return dict(zip(names, self.VALUES, strict=True))

    def test_it_is_the_index(self):
        red, nir = self.VALUES
        found = IndexScore(index="NDVI").score(scene(), self.values("red", "nir"), CLEAR)
        np.testing.assert_allclose(found, (nir - red) / (nir + red), rtol=1e-6)
        lowest = IndexScore(index="NDVI", lowest=True)
        np.testing.assert_array_equal(
            lowest.score(scene(), self.values("red", "nir"), CLEAR), -found
        )

    def test_bands_may_come_in_any_order_and_under_other_names(self):
        red, nir = self.VALUES
        score = IndexScore(index="NDVI", letters={"R": "b3", "N": "b4"})
        assert sorted(score.bands) == ["b3", "b4"]
        found = score.score(scene(), {"b4": nir, "b3": red}, CLEAR)
        np.testing.assert_allclose(found, (nir - red) / (nir + red), rtol=1e-6)

    def test_constants_count(self):
        red, nir = self.VALUES
        score = IndexScore(index="SAVI", constants={"L": 0.5})
        found = score.score(scene(), self.values("red", "nir"), CLEAR)
        np.testing.assert_allclose(found, 1.5 * (nir - red) / (nir + red + 0.5), rtol=1e-6)

    def test_where_it_has_no_value_the_pixel_is_not_chosen(self):
        values = {"red": np.array([[0.0, np.nan, 0.1]]), "nir": np.array([[0.0, 0.2, 0.3]])}
        found = IndexScore(index="NDVI").score(scene(), values, np.ones((1, 3), bool))
        np.testing.assert_array_equal(np.isnan(found), [[True, True, False]])

    def test_one_that_there_is_not_is_refused(self):
        with pytest.raises(SourceError, match="catalogue has no index 'NDVY'. Near it: .*NDVI"):
            IndexScore(index="NDVY")


days = st.dates(date(1982, 1, 1), date(2040, 12, 31))


class TestDay:
    @given(days)
    def test_it_is_1_on_the_day_itself_in_every_year(self, moment):
        if (moment.month, moment.day) != (2, 29):
            assert on(DayScore(day=f"{moment:%m-%d}"), moment) == 1.0

    @given(days, st.integers(-182, 182), st.floats(1, 90))
    def test_it_is_a_gaussian_of_the_days_between_over_the_new_year_too(self, moment, days, sigma):
        if (moment.month, moment.day) != (2, 29):
            score = DayScore(day=f"{moment:%m-%d}", spread_days=sigma)
            found = on(score, moment + timedelta(days=days))
            assert found == pytest.approx(math.exp(-0.5 * (days / sigma) ** 2), rel=1e-12)

    def test_the_new_year_is_a_day_like_others(self):
        for day, moment, apart in (("01-01", "2019-12-31", 1), ("12-30", "2020-01-02", 3)):
            assert on(DayScore(day=day, spread_days=10), moment) == math.exp(-0.005 * apart**2)

    @pytest.mark.parametrize(
        "day", ["7-15", "07-32", "02-29", "W01", "0715", "07-15T00", "", "Jul 15"]
    )
    def test_what_is_no_day_of_every_year_is_refused(self, day):
        with pytest.raises(SpecError, match=f"A day must be MM-DD.* Received {day!r}"):
            DayScore(day=day)

    @pytest.mark.parametrize("spread", [0, -1, math.nan, math.inf])
    def test_so_is_a_spread_that_is_none(self, spread):
        with pytest.raises(SpecError, match="spread_days must be above 0. Received"):
            DayScore(day="07-15", spread_days=spread)

    def test_a_scene_without_a_time_has_none(self):
        with pytest.raises(SourceError, match="'s' has no time; a score by day needs one"):
            DayScore(day="07-15").score(scene(), {}, CLEAR)


class TestCloudDistance:
    @given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([0.0, 0.001, 0.05, 0.6]))
    def test_it_is_scipys_distance_in_the_whole_image(self, seed, full_px, cloudy):
        whole = np.random.default_rng(seed).random((60, 70)) >= cloudy
        expected = np.full(whole.shape, np.inf) if whole.all() else distance_transform_edt(whole)
        expected = np.minimum(expected, full_px) / full_px
        score = CloudDistanceScore(full_px=full_px)
        for top, left in ((full_px, full_px), (20, 30), (39 - full_px, 59 - full_px)):
            reach = (
                slice(top - full_px, top + 21 + full_px),
                slice(left - full_px, left + 11 + full_px),
            )
            found = score.score(scene(), {}, whole[reach])
            np.testing.assert_array_equal(found, expected[top : top + 21, left : left + 11])

    @pytest.mark.parametrize("full_px", [0, -1, 201])
    def test_a_reach_that_is_none_or_too_far_is_refused(self, full_px):
        with pytest.raises(SpecError, match=f"full_px must be 1..200. Received {full_px}"):
            CloudDistanceScore(full_px=full_px)


class TestCloudCover:
    def test_it_is_what_is_not_covered(self):
        found = CloudCoverScore().score(scene(cloud_cover=0.25), {}, CLEAR)
        np.testing.assert_array_equal(found, np.full((3, 4), 0.75))

    def test_a_scene_that_does_not_say_is_refused(self):
        with pytest.raises(SourceError, match="'s' does not say its cloud cover"):
            CloudCoverScore().score(scene(), {}, CLEAR)


class TestWeighted:
    def test_it_is_the_sum_each_part_with_its_own_halo(self):
        near, far = CloudDistanceScore(full_px=2), CloudDistanceScore(full_px=6)
        index, day = IndexScore(index="NDVI"), DayScore(day="01-01")
        score = WeightedScore(parts=((near, 1), (far, -0.5), (index, 2), (day, 3)))
        assert score.halo_px == 6
        assert sorted(score.bands) == ["nir", "red"]
        clear = RNG.random((20, 22)) > 0.1
        values = {"red": RNG.random((8, 10)), "nir": RNG.random((8, 10))}
        one = scene(time="2018-01-03")
        expected = (
            near.score(one, {}, clear[4:-4, 4:-4])
            - 0.5 * far.score(one, {}, clear)
            + 2 * index.score(one, values, clear[6:-6, 6:-6])
            + 3 * day.score(one, {}, clear[6:-6, 6:-6])
        )
        np.testing.assert_allclose(score.score(one, values, clear), expected, rtol=1e-12)

    @pytest.mark.parametrize(
        "parts", [(), ((CloudCoverScore(), math.nan),), ((CloudCoverScore(), math.inf),)]
    )
    def test_weights_that_are_none_are_refused(self, parts):
        with pytest.raises(SpecError, match="Scores must come with finite weights. Received"):
            WeightedScore(parts=parts)

    def test_a_part_that_is_not_chosen_is_not_chosen_at_all(self):
        values = {"red": np.zeros((3, 4)), "nir": np.zeros((3, 4))}
        score = WeightedScore(parts=((IndexScore(index="NDVI"), 1), (CloudCoverScore(), 1)))
        assert np.isnan(score.score(scene(cloud_cover=0.1), values, CLEAR)).all()


class TestAll:
    @pytest.mark.parametrize("score", SCORES, ids=lambda score: type(score).__name__)
    def test_it_pickles_and_describes_itself_the_same(self, score):
        again = pickle.loads(pickle.dumps(score))
        assert again == score
        assert again.describe() == score.describe()

    def test_no_two_describe_themselves_alike(self):
        more = (
            IndexScore(index="NDVI", lowest=True),
            IndexScore(index="SAVI", letters={"N": "nir08"}, lowest=True),
            DayScore(day="07-16"),
            DayScore(day="07-15", spread_days=31),
            CloudDistanceScore(full_px=10),
            WeightedScore(parts=((DayScore(day="07-15"), 1), (CloudCoverScore(), 1))),
        )
        told = [str(score.describe()) for score in (*SCORES, *more)]
        assert len(set(told)) == len(told)
