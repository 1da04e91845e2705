"""Many observations to one: against NumPy and SciPy, laws of each, and no trace of the box."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import optimize

from cube.errors import SourceError, SpecError
from cube.reducing import (
    Count,
    First,
    Highest,
    Last,
    Mean,
    Reducer,
    complete,
    geometric_median,
    median,
    medoid,
)

NAN = np.nan
WHOLE = [median, geometric_median, medoid]
STREAMED = [Mean, First, Last, Highest, Count]
FIVE_BANDS = np.array([0.04, 0.06, 0.09, 0.31, 0.2])


def streamed(kind, *, scores=None):
    """A streaming class as a function of a stack; the score of a scene is its first band."""

    def reduce(stack):
        reducer = kind()
        for i, values in enumerate(stack):
            score = (values[0] if scores is None else scores[i]) if kind is Highest else None
            reducer.add(values, score=score)
        return reducer.result()

    reduce.__name__ = kind.__name__
    return reduce


ALL = [*WHOLE, *map(streamed, STREAMED)]
each = pytest.mark.parametrize("reduce", ALL, ids=[reduce.__name__ for reduce in ALL])


def stacks(*, dtype=None, scenes=(0, 7), side=3):
    """Stacks of few scenes, a third of their values missing, with ties and repetitions."""
    values = st.one_of(st.just(NAN), st.integers(-3, 3).map(float), st.floats(-1e4, 1e4, width=32))
    shape = st.tuples(
        st.integers(*scenes), st.integers(1, 3), st.integers(1, side), st.integers(1, side)
    )
    types = st.sampled_from(["float32", "float64"]) if dtype is None else st.just(dtype)
    return st.tuples(types, shape).flatmap(lambda it: arrays(it[0], it[1], elements=values))


def scene_stack(shape=(9, 5, 6, 7), *, seed=0, missing=0.4, dtype="float32"):
    """Reflectances about one colour, with whole observations missing."""
    rng = np.random.default_rng(seed)
    colour = np.resize(FIVE_BANDS, shape[1])[:, None, None]
    stack = (colour + rng.normal(0, 0.02, shape)).astype(dtype)
    stack[np.broadcast_to(rng.random((shape[0], 1, *shape[2:])) < missing, shape)] = NAN
    return stack


def pixel(*observations, dtype="float64"):
    """A stack of one pixel: an observation is a list of bands."""
    return np.array(observations, dtype)[:, :, None, None]


def whole_observations(stack):
    """Those of a stack of one pixel, as (n, band)."""
    points = stack[:, :, 0, 0]
    return points[np.isfinite(points).all(axis=1)]


def distance_sum(points, at):
    return np.linalg.norm(points - at, axis=1).sum()


def nanmedian(stack):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmedian(stack, axis=0)


class TestMedian:
    @given(stack=stacks(scenes=(1, 9)))
    def test_it_is_numpys_to_the_bit(self, stack):
        found = median(stack)
        assert found.dtype == stack.dtype
        np.testing.assert_array_equal(found, nanmedian(stack))

    @pytest.mark.parametrize("scenes", [1, 2, 39, 40, 41, 700])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_it_is_numpys_for_many_scenes_and_blocks(self, scenes, dtype):
        stack = scene_stack((scenes, 1, 60, 61), dtype=dtype)
        np.testing.assert_array_equal(median(stack), nanmedian(stack))

    def test_float64_is_not_rounded(self):
        assert median(pixel([1.0], [1 + 2**-50]))[0, 0, 0] == 1 + 2**-51

    def test_each_band_goes_by_itself(self):
        found = median(pixel([1, NAN], [3, 5], [NAN, 9]))
        np.testing.assert_array_equal(found[:, 0, 0], [2, 7])

    @pytest.mark.parametrize("zeros", [[-0.0], [-0.0, 0.0, 0.0], [0.0, -0.0], [-0.0, -0.0]])
    def test_zero_has_no_sign(self, zeros):
        assert not np.signbit(median(pixel(*[[zero] for zero in zeros]))).any()

    def test_infinity_is_a_value(self):
        found = median(pixel([np.inf], [NAN], [np.inf], [0.0]))
        assert found[0, 0, 0] == np.inf


class TestGeometricMedian:
    @given(stack=stacks(dtype="float64", scenes=(1, 8), side=1))
    def test_no_other_point_has_a_smaller_sum_of_distances(self, stack):
        points = whole_observations(stack)
        found = geometric_median(stack, tolerance=1e-9, iterations=2000)[:, 0, 0]
        if len(points) == 0:
            assert np.isnan(found).all()
            return
        least = min(
            [distance_sum(points, at) for at in points]
            + [
                optimize.minimize(
                    lambda at: distance_sum(points, at), points.mean(axis=0), method="Nelder-Mead"
                ).fun
            ]
        )
        assert distance_sum(points, found) <= least * (1 + 1e-4) + 1e-9

    def test_it_is_where_scipy_finds_the_minimum(self):
        stack = scene_stack((15, 5, 3, 3), dtype="float64", missing=0.2)
        found = geometric_median(stack, tolerance=1e-10, iterations=5000)
        for row, col in np.ndindex(3, 3):
            points = whole_observations(stack[:, :, row : row + 1, col : col + 1])
            best = optimize.minimize(
                lambda at, points=points: distance_sum(points, at),
                points.mean(axis=0),
                jac=lambda at, points=points: (
                    (at - points) / np.linalg.norm(at - points, axis=1)[:, None]
                ).sum(axis=0),
                method="BFGS",
                options={"gtol": 1e-9},
            )
            np.testing.assert_allclose(found[:, row, col], best.x, atol=1e-7)

    def test_the_default_tolerance_is_far_within_the_spread(self):
        stack = scene_stack((20, 5, 30, 30))
        exact = geometric_median(stack.astype("float64"), tolerance=1e-12, iterations=10_000)
        spread = np.nanstd(stack, axis=0).mean()
        assert np.abs(geometric_median(stack) - exact).max() < 2e-3 * spread

    def test_a_minority_of_clouds_does_not_draw_it_away(self):
        clear = scene_stack((11, 5, 8, 8), missing=0)
        cloudy = clear.copy()
        cloudy[::3] = 1e6
        spread = np.ptp(clear, axis=0).max()
        assert np.abs(geometric_median(cloudy) - geometric_median(clear)).max() < spread

    def test_an_observation_with_half_of_the_weight_is_the_median(self):
        found = geometric_median(pixel([0, 0], [0, 0], [5, 1], [7, 7], [0, 0]))
        np.testing.assert_array_equal(found[:, 0, 0], [0, 0])

    def test_it_leaves_an_observation_that_is_not_the_median(self):
        # The medians of the bands fall on the observation (0, 0), where Weiszfeld's step is 0/0.
        stack = pixel([0, 0], [1, 0], [-1, 3], [2, 3], [-3, -0.1])
        points = whole_observations(stack)
        np.testing.assert_array_equal(np.median(points, axis=0), [0, 0])
        found = geometric_median(stack, tolerance=1e-8, iterations=10_000)[:, 0, 0]
        assert distance_sum(points, found) <= distance_sum(points, points[0])
        grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 81)] * 2), axis=-1).reshape(-1, 2)
        assert distance_sum(points, found) <= min(distance_sum(points, at) for at in grid)

    @pytest.mark.parametrize("bands", [1, 2, 5])
    def test_of_one_observation_it_is_that_to_the_bit(self, bands):
        stack = scene_stack((1, bands, 4, 4), missing=0)
        np.testing.assert_array_equal(geometric_median(stack), stack[0])

    def test_of_two_observations_it_is_the_middle(self):
        np.testing.assert_allclose(
            geometric_median(pixel([1, 2], [3, 8]))[:, 0, 0], [2, 5], rtol=1e-12
        )

    def test_on_a_line_it_is_the_median_along_it(self):
        along = np.array([-7.0, 1.0, 2.0, 11.0, 400.0])
        stack = pixel(*(along[:, None] * [3.0, 4.0] + [1.0, 1.0]))
        np.testing.assert_allclose(geometric_median(stack)[:, 0, 0], [7, 9], rtol=1e-12)

    def test_of_a_triangle_it_is_fermats_point(self):
        corners = np.array([[0, 0], [4, 0], [2, 2 * np.sqrt(3)]])  # of equal sides: its centre
        found = geometric_median(pixel(*corners), tolerance=1e-10)[:, 0, 0]
        np.testing.assert_allclose(found, [2, 2 / np.sqrt(3)], atol=1e-9)
        # With an angle of 120 degrees or more, that corner.
        found = geometric_median(pixel([-10, 0], [0, 1], [10, 0]), iterations=10_000)[:, 0, 0]
        np.testing.assert_allclose(found, [0, 1], atol=1e-2)

    @given(seed=st.integers(0, 999), shift=st.floats(-100, 100), scale=st.floats(1e-3, 1e4))
    def test_it_moves_turns_and_grows_with_the_observations(self, seed, shift, scale):
        stack = scene_stack((8, 3, 2, 2), seed=seed, missing=0.1, dtype="float64")
        turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))

        def moved(values):
            return np.einsum("ab,...byx->...ayx", turn, values) * scale + shift

        precise = {"tolerance": 1e-9, "iterations": 5000}
        found = geometric_median(moved(stack), **precise)
        np.testing.assert_allclose(
            found, moved(geometric_median(stack, **precise)), atol=scale * 1e-6 + 1e-9
        )

    def test_units_do_not_change_the_answer(self):
        stack = scene_stack((9, 4, 5, 5), dtype="float64")
        np.testing.assert_array_equal(
            geometric_median(stack * 2.0**13), geometric_median(stack) * 2.0**13
        )

    def test_only_whole_observations_count(self):
        stack = scene_stack((9, 5, 6, 7), missing=0.2)
        holed = stack.copy()
        holed[3, 2], holed[5, 0, 1] = NAN, NAN
        stack[3], stack[5, :, 1] = NAN, NAN
        np.testing.assert_array_equal(geometric_median(holed), geometric_median(stack))
        holed[3, 2] = np.inf
        np.testing.assert_array_equal(geometric_median(holed), geometric_median(stack))

    @pytest.mark.parametrize(
        "arguments", [{"tolerance": 0.0}, {"tolerance": NAN}, {"iterations": 0}]
    )
    def test_no_tolerance_and_no_iteration_are_refused(self, arguments):
        with pytest.raises(SpecError, match="needs a positive tolerance and 1 iteration or more"):
            geometric_median(scene_stack(), **arguments)


class TestMedoid:
    @given(stack=stacks(scenes=(1, 7), side=1))
    def test_no_other_observation_has_a_smaller_sum_of_distances(self, stack):
        points = whole_observations(stack).astype("float64")
        found = medoid(stack)[:, 0, 0]
        if len(points) == 0:
            assert np.isnan(found).all()
            return
        assert (points == found).all(axis=1).any()
        least = min(distance_sum(points, at) for at in points)
        assert distance_sum(points, found.astype("float64")) <= least * (1 + 1e-12)

    def test_the_first_wins_a_tie(self):
        np.testing.assert_array_equal(medoid(pixel([5, 1], [1, 5]))[:, 0, 0], [5, 1])
        square = pixel([NAN, 0], [0, 2], [0, 0], [2, 0], [2, 2])
        np.testing.assert_array_equal(medoid(square)[:, 0, 0], [0, 2])

    def test_only_whole_observations_count(self):
        stack = pixel([1, NAN], [1, 1], [9, 9], [2, 2], [1, np.inf])
        np.testing.assert_array_equal(medoid(stack)[:, 0, 0], [2, 2])


class TestMean:
    @given(stack=stacks(scenes=(1, 7)))
    def test_it_is_numpys(self, stack):
        found = streamed(Mean)(stack)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            expected = np.nanmean(stack.astype("float64"), axis=0)
        assert found.dtype == stack.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)

    def test_a_thousand_small_numbers_do_not_vanish_beside_a_large_one(self):
        values = [np.full((1, 1, 1), 2.0**24, "float32")] + [np.ones((1, 1, 1), "float32")] * 1023
        assert streamed(Mean)(np.stack(values)) == np.float32((2.0**24 + 1023) / 1024)


class TestOneScenePerPixel:
    STACK = pixel([1, NAN], [2, 20], [3, 30], [NAN, 40], [NAN, NAN])

    @pytest.mark.parametrize(("kind", "expected"), [(First, [2, 20]), (Last, [3, 30])])
    def test_bands_never_mix_dates(self, kind, expected):
        np.testing.assert_array_equal(streamed(kind)(self.STACK)[:, 0, 0], expected)

    @pytest.mark.parametrize(
        ("scores", "expected"),
        [
            ([9, 1, 2, 9, 9], [3, 30]),
            ([9, 2, 2, 9, 9], [2, 20]),  # the first on ties
            ([9, NAN, -5, 9, 9], [3, 30]),
            ([9, -5, NAN, 9, 9], [2, 20]),
            ([9, -np.inf, NAN, 9, 9], [2, 20]),
            ([9, NAN, NAN, 9, 9], [NAN, NAN]),
        ],
    )
    def test_the_highest_score_wins_among_whole_observations(self, scores, expected):
        reduce = streamed(Highest, scores=[np.full((1, 1), score) for score in scores])
        np.testing.assert_array_equal(reduce(self.STACK)[:, 0, 0], expected)

    @given(stack=stacks(scenes=(1, 7)), seed=st.integers(0, 99))
    def test_they_equal_a_plain_loop(self, stack, seed):
        scores = np.random.default_rng(seed).integers(0, 3, (len(stack), *stack.shape[2:])) / 2
        found = {
            kind: streamed(kind, scores=scores)(stack) for kind in (First, Last, Highest, Count)
        }
        for y, x in np.ndindex(stack.shape[2:]):
            whole = [i for i, scene in enumerate(stack) if not np.isnan(scene[:, y, x]).any()]
            assert found[Count][0, y, x] == len(whole)
            best = max(whole, key=lambda i: scores[i, y, x], default=None)
            for kind, i in (
                (First, whole[0] if whole else None),
                (Last, whole[-1] if whole else None),
                (Highest, best),
            ):
                expected = np.full(stack.shape[1], NAN) if i is None else stack[i, :, y, x]
                np.testing.assert_array_equal(found[kind][:, y, x], expected)

    @pytest.mark.parametrize("kind", STREAMED)
    def test_the_caller_keeps_its_arrays(self, kind):
        scenes = scene_stack((3, 2, 4, 4))
        before = scenes.copy()
        streamed(kind)(scenes)
        np.testing.assert_array_equal(scenes, before)
        reducer = kind()
        values = np.ones((2, 3, 3), "float32")
        reducer.add(values, score=np.ones((3, 3)))
        values[:] = 7
        assert (reducer.result() == 1).all()

    def test_complete_is_where_all_bands_are_observed(self):
        values = np.array([[[1, NAN, 1]], [[1, 1, NAN]]])
        np.testing.assert_array_equal(complete(values), [[True, False, False]])


class TestLaws:
    @each
    @given(data=st.data())
    def test_a_box_in_parts_equals_the_whole_to_the_bit(self, reduce, data):
        stack = data.draw(stacks(scenes=(1, 7), side=5))
        whole = reduce(stack)
        height, width = stack.shape[2:]
        cuts = [
            sorted({0, size, *data.draw(st.lists(st.integers(1, size), max_size=3))})
            for size in (height, width)
        ]
        for (top, bottom), (left, right) in itertools.product(*map(itertools.pairwise, cuts)):
            part = reduce(stack[..., top:bottom, left:right])
            assert_same_bits(part, whole[:, top:bottom, left:right])

    @each
    def test_single_pixels_and_columns_equal_the_whole_to_the_bit(self, reduce):
        stack = scene_stack((23, 7, 5, 131))
        whole = reduce(stack)
        for col in range(131):
            column = np.ascontiguousarray(stack[..., col : col + 1])
            assert_same_bits(reduce(column), whole[..., col : col + 1])
            one = np.ascontiguousarray(column[:, :, 2:3])
            assert_same_bits(reduce(one), whole[:, 2:3, col : col + 1])

    @each
    def test_blocks_leave_no_trace(self, reduce, monkeypatch):
        stack = scene_stack((6, 3, 20, 21))
        whole = reduce(stack)
        for size in (1, 100, 10_000):
            monkeypatch.setattr("cube.reducing._BLOCK", size)
            assert_same_bits(reduce(stack), whole)

    @each
    @given(stack=stacks(scenes=(1, 6)), place=st.integers(0, 6))
    def test_a_scene_without_observations_changes_nothing(self, reduce, stack, place):
        more = np.insert(stack, min(place, len(stack)), NAN, axis=0)
        assert_same_bits(reduce(more), reduce(stack))

    @each
    @given(stack=stacks(scenes=(1, 6)))
    def test_a_pixel_has_a_value_where_it_was_observed(self, reduce, stack):
        found = reduce(stack)
        if reduce.__name__ in ("median", "Mean"):
            some = ~np.isnan(stack).all(axis=0)
        else:
            some = np.broadcast_to(~np.isnan(stack).any(axis=1).all(axis=0), found.shape)
        if reduce.__name__ == "Count":
            np.testing.assert_array_equal(found > 0, some)
        else:
            np.testing.assert_array_equal(~np.isnan(found), some)

    @pytest.mark.parametrize("reduce", [r for r in ALL if r.__name__ != "Count"])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @given(value=st.floats(-1e4, 1e4, width=32), scenes=st.integers(1, 9))
    def test_a_constant_stays_constant(self, reduce, dtype, value, scenes):
        found = reduce(np.full((scenes, 2, 2, 2), value, dtype))
        np.testing.assert_array_equal(found, np.full((2, 2, 2), value, dtype))

    @pytest.mark.parametrize("reduce", [median, streamed(Mean), streamed(Count)])
    @given(stack=stacks(scenes=(1, 6), dtype="float32"), seed=st.integers(0, 99))
    def test_the_order_of_scenes_does_not_matter(self, reduce, stack, seed):
        order = np.random.default_rng(seed).permutation(len(stack))
        np.testing.assert_allclose(reduce(stack[order]), reduce(stack), rtol=1e-6, atol=1e-10)

    @given(seed=st.integers(0, 999))
    def test_the_order_of_scenes_matters_to_rounding_alone(self, seed):
        stack = scene_stack((7, 4, 3, 3), seed=seed, missing=0)
        other = stack[np.random.default_rng(seed).permutation(7)]
        np.testing.assert_array_equal(medoid(other), medoid(stack))
        np.testing.assert_allclose(geometric_median(other), geometric_median(stack), rtol=1e-6)

    @pytest.mark.parametrize("reduce", WHOLE)
    def test_the_stack_is_left_as_it_is(self, reduce):
        stack = scene_stack()
        before = stack.copy()
        reduce(stack)
        np.testing.assert_array_equal(stack, before)

    @pytest.mark.parametrize("reduce", WHOLE)
    def test_any_layout_in_memory_gives_the_same(self, reduce):
        stack = scene_stack()
        whole = reduce(stack)
        assert_same_bits(reduce(np.asfortranarray(stack)), whole)
        assert_same_bits(reduce(stack[..., ::-1])[..., ::-1], whole)

    @pytest.mark.parametrize("reduce", WHOLE)
    @pytest.mark.parametrize("shape", [(0, 2, 3, 4), (3, 2, 0, 4), (3, 2, 3, 0)])
    def test_of_nothing_comes_nothing(self, reduce, shape):
        found = reduce(np.zeros(shape, "float32"))
        assert found.shape == shape[1:]
        assert found.dtype == "float32"
        assert np.isnan(found).all()


class TestRefusals:
    @pytest.mark.parametrize("reduce", WHOLE)
    def test_what_is_no_stack(self, reduce):
        with pytest.raises(SpecError, match=r"floats of shape \(scene, band, y, x\).*\(2, 3, 4\)"):
            reduce(np.zeros((2, 3, 4)))
        with pytest.raises(SpecError, match=r"Received float64 of shape \(2, 0, 3, 4\)"):
            reduce(np.zeros((2, 0, 3, 4)))
        with pytest.raises(SpecError, match="must be floats.*Received int16"):
            reduce(np.zeros((1, 2, 3, 4), "int16"))

    @pytest.mark.parametrize("kind", STREAMED)
    def test_what_is_no_scene(self, kind):
        with pytest.raises(SpecError, match=r"floats of shape \(band, y, x\).*shape \(3, 4\)"):
            kind().add(np.zeros((3, 4)))
        with pytest.raises(SpecError, match=r"Received float64 of shape \(0, 3, 4\)"):
            kind().add(np.zeros((0, 3, 4)))
        with pytest.raises(SpecError, match="must be floats.*Received int16"):
            kind().add(np.zeros((1, 3, 4), "int16"))

    @pytest.mark.parametrize("kind", STREAMED)
    def test_scenes_that_differ(self, kind):
        reducer: Reducer = kind()
        reducer.add(np.zeros((1, 3, 4), "float32"), score=np.zeros((3, 4)))
        with pytest.raises(SpecError, match=r"float32 of shape \(1, 3, 4\) as the first.*float64"):
            reducer.add(np.zeros((1, 3, 4)), score=np.zeros((3, 4)))
        with pytest.raises(SpecError, match=r"must be alike.*of shape \(1, 3, 1\)"):
            reducer.add(np.zeros((1, 3, 1), "float32"), score=np.zeros((3, 1)))

    @pytest.mark.parametrize("kind", STREAMED)
    def test_a_result_of_no_scenes(self, kind):
        with pytest.raises(SourceError, match="No scene was added, so there is nothing to reduce"):
            kind().result()

    def test_the_highest_without_a_score(self):
        with pytest.raises(SpecError, match=r"a score of shape \(3, 4\). Received none"):
            Highest().add(np.zeros((1, 3, 4)))
        with pytest.raises(SpecError, match=r"Received one of shape \(1, 3, 4\)"):
            Highest().add(np.zeros((1, 3, 4)), score=np.zeros((1, 3, 4)))


def assert_same_bits(found, expected):
    """Equal as numbers, and with the same sign of zero; one NaN is as good as another."""
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    observed = ~np.isnan(found)
    np.testing.assert_array_equal(np.signbit(found[observed]), np.signbit(expected[observed]))
