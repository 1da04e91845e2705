"""Which pixels are clear: against a loop over pixels and bits, and SciPy's dilation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from cube.errors import SourceError, SpecError
from cube.quality import (
    LANDSAT_C1_SR,
    LANDSAT_C2,
    SENTINEL2_SCL,
    SENTINEL2_SCL_SNOW,
    Flag,
    QualityBits,
    QualityClasses,
    grow,
)

NAN = np.nan


def bits(*places):
    """A bit field with these bits set, one pixel."""
    return np.array([[sum(2**place for place in places)]], "float64")


def flags():
    return st.tuples(st.integers(0, 31), st.integers(1, 5)).flatmap(
        lambda it: st.integers(1, 2 ** min(it[1], 32 - it[0]) - 1).map(
            lambda least: Flag(bit=it[0], width=min(it[1], 32 - it[0]), at_least=least)
        )
    )


def fields(shape=(5, 6), *, top=2**32 - 1):
    values = st.one_of(st.integers(0, top).map(float), st.integers(0, 63).map(float))
    return arrays("float64", shape, elements=st.one_of(values, st.just(NAN)))


def disk(radius):
    down, across = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return down**2 + across**2 <= radius**2


def is_rejected(value, reject):
    """The rule in plain integers of Python."""
    digits = f"{int(value):032b}"[::-1]
    return any(
        all(int(digits[f.bit : f.bit + f.width][::-1], 2) >= f.at_least for f in group)
        for group in reject
    )


class TestBits:
    @given(
        reject=st.lists(st.lists(flags(), min_size=1, max_size=3), min_size=1, max_size=3),
        values=fields(),
    )
    def test_they_equal_a_plain_loop_over_pixels_and_bits(self, reject, values):
        quality = QualityBits(band="qa", reject=tuple(map(tuple, reject)))
        expected = [
            [not np.isnan(value) and not is_rejected(value, reject) for value in row]
            for row in values
        ]
        np.testing.assert_array_equal(quality.clear(values), expected)

    @pytest.mark.parametrize("bit", range(32))
    def test_every_bit_of_32_is_exact(self, bit):
        quality = QualityBits(band="qa", reject=((Flag(bit=bit),),))
        assert not quality.clear(bits(bit))[0, 0]
        assert quality.clear(bits(*set(range(32)) - {bit}))[0, 0]

    def test_a_confidence_of_two_bits_is_a_number(self):
        quality = QualityBits(band="qa", reject=((Flag(bit=8, width=2, at_least=2),),))
        values = np.array([[0, 1, 2, 3]]) * 2.0**8
        np.testing.assert_array_equal(quality.clear(values), [[True, True, False, False]])

    def test_all_32_bits_are_one_number_too(self):
        quality = QualityBits(band="qa", reject=((Flag(bit=0, width=32, at_least=2**32 - 1),),))
        values = np.array([[2.0**32 - 1, 2.0**32 - 2]])
        np.testing.assert_array_equal(quality.clear(values), [[False, True]])

    def test_float32_serves_as_far_as_it_is_exact(self):
        values = np.array([[2**24 - 1, 2**23, 5]])
        quality = QualityBits(band="qa", reject=((Flag(bit=0),),))
        narrow, wide = (quality.clear(values.astype(dtype)) for dtype in ("float32", "float64"))
        np.testing.assert_array_equal(narrow, wide)
        with pytest.raises(SourceError, match="0 to 16777215 in float32.*in float64 if it is wide"):
            quality.clear(np.array([[2**24 + 1]], "float32"))

    @pytest.mark.parametrize("value", [0.5, -1.0, 2.0**32, np.inf, -np.inf])
    def test_what_is_no_bit_field_is_refused(self, value):
        with pytest.raises(SourceError, match=rf"Quality band 'qa_pixel'.*Received {value};"):
            LANDSAT_C2.clear(np.array([[1.0, NAN, value]]))


class TestClasses:
    @given(values=fields(top=20))
    def test_they_equal_a_plain_loop(self, values):
        expected = [[value in (4.0, 5.0, 6.0, 7.0) for value in row] for row in values]
        np.testing.assert_array_equal(SENTINEL2_SCL.clear(values), expected)

    def test_the_mean_of_two_classes_is_refused(self):
        with pytest.raises(SourceError, match=r"'scl' must hold whole numbers.*Received 4.5;"):
            SENTINEL2_SCL.clear(np.array([[4.0, 4.5]], "float32"))


class TestGrowth:
    @pytest.mark.parametrize("radius", [1, 2, 3, 5, 8])
    def test_it_is_scipys_dilation_by_a_disk(self, radius):
        rejected = np.random.default_rng(radius).random((40, 50)) < 0.02
        expected = ndimage.binary_dilation(rejected, disk(radius))
        inner = (slice(radius, -radius),) * 2
        np.testing.assert_array_equal(grow(rejected, radius), expected[inner])

    def test_a_radius_of_nothing_changes_nothing(self):
        rejected = np.random.default_rng(0).random((4, 5)) < 0.5
        np.testing.assert_array_equal(grow(rejected, 0), rejected)

    def test_five_pixels_away_is_within_five(self):
        rejected = np.zeros((11, 11), bool)
        rejected[5 + 3, 5 + 4] = True
        assert grow(rejected, 5)[0, 0]
        rejected = np.roll(rejected, 1, axis=0)
        assert not grow(rejected, 5)[0, 0]

    @pytest.mark.parametrize(
        "quality",
        [
            QualityBits(band="qa", reject=((Flag(bit=3),),), grow_px=2),
            QualityClasses(band="qa", keep=tuple(range(8)), grow_px=2),
        ],
        ids=["bits", "classes"],
    )
    class TestOfASpec:
        def test_only_rejected_observations_grow(self, quality):
            values = np.zeros((5, 9))
            values[2, 2], values[2, 6] = 8, NAN
            np.testing.assert_array_equal(
                quality.clear(values), [[False, False, False, True, False]]
            )

        def test_what_lies_in_the_halo_counts(self, quality):
            values = np.zeros((5, 6))
            values[0, 2] = 8
            np.testing.assert_array_equal(quality.clear(values), [[False, True]])

        @given(data=st.data())
        def test_a_box_read_in_parts_equals_the_whole(self, quality, data):
            values = data.draw(
                arrays("float64", (12, 13), elements=st.sampled_from([0, 0, 8, NAN]))
            )
            whole = quality.clear(values)
            top, left = data.draw(st.integers(0, 7)), data.draw(st.integers(0, 8))
            bottom = data.draw(st.integers(top + 1, 8))
            right = data.draw(st.integers(left + 1, 9))
            part = quality.clear(values[top : bottom + 4, left : right + 4])
            np.testing.assert_array_equal(part, whole[top:bottom, left:right])

        def test_a_halo_that_was_not_read_is_missed(self, quality):
            with pytest.raises(SpecError, match=r"2 more pixels on every side.*shape \(3, 9\)"):
                quality.clear(np.zeros((3, 9)))


class TestPresets:
    @pytest.mark.parametrize("bit", [0, 1, 2, 3, 4])
    def test_landsat_collection_2_rejects_fill_cloud_and_shadow(self, bit):
        assert not LANDSAT_C2.clear(bits(6, bit))[0, 0]

    # Values of clear land, water and snow in Collection 2 guides: bit 6 is clear, 7 water, 5 snow.
    @pytest.mark.parametrize("value", [21824, 21952, bits(5, 6)[0, 0]])
    def test_landsat_collection_2_keeps_land_water_and_snow(self, value):
        assert LANDSAT_C2.clear(np.array([[value]], "float32"))[0, 0]

    @pytest.mark.parametrize(
        ("places", "clear"),
        [
            ((1,), True),
            ((5,), True),  # cloud of no confidence
            ((5, 6), True),  # of a low one
            ((5, 7), False),
            ((5, 6, 7), False),
            ((7,), True),
            ((3,), False),
            ((4,), True),  # snow
        ],
    )
    def test_landsat_collection_1_rejects_likely_cloud_and_shadow(self, places, clear):
        assert LANDSAT_C1_SR.clear(bits(*places))[0, 0] == clear
        assert LANDSAT_C1_SR.complete

    def test_sentinel_2_keeps_snow_only_where_asked(self):
        classes = np.arange(12.0)[None]
        kept = np.flatnonzero(SENTINEL2_SCL.clear(classes))
        assert kept.tolist() == [4, 5, 6, 7]
        assert np.flatnonzero(SENTINEL2_SCL_SNOW.clear(classes)).tolist() == [4, 5, 6, 7, 11]


class TestSpecs:
    def test_order_and_repetition_say_nothing(self):
        cloud, shadow = Flag(bit=5), Flag(bit=3)
        one = QualityBits(band="qa", reject=((cloud, shadow), (shadow,)))
        other = QualityBits(band="qa", reject=[[shadow], [shadow, cloud, cloud], [shadow]])
        assert one == other
        assert QualityClasses(band="scl", keep=[7, 5, 5]) == QualityClasses(band="scl", keep=(5, 7))

    def test_equal_specs_describe_in_the_same_letters(self):
        one = QualityBits(band="qa", reject=((Flag(bit=3),),), complete=True, grow_px=2)
        other = QualityBits(
            band="qa",
            reject=((Flag(bit=np.int8(3), at_least=True),),),
            complete=np.True_,
            grow_px=np.int64(2),
        )
        assert json.dumps(one.describe()) == json.dumps(other.describe())
        classes = [QualityClasses(band="scl", keep=keep) for keep in ((4, 5), np.array([5, 4]))]
        assert json.dumps(classes[0].describe()) == json.dumps(classes[1].describe())

    def test_a_description_holds_all_that_decides(self):
        assert LANDSAT_C1_SR.describe() == {
            "quality": "bits",
            "band": "pixel_qa",
            "complete": True,
            "grow_px": 0,
            "reject": [
                [{"bit": 3, "width": 1, "at_least": 1}],
                [
                    {"bit": 5, "width": 1, "at_least": 1},
                    {"bit": 7, "width": 1, "at_least": 1},
                ],
            ],
        }
        assert QualityClasses(band="scl", keep=(4,), grow_px=3).describe() == {
            "quality": "classes",
            "band": "scl",
            "complete": False,
            "grow_px": 3,
            "keep": [4],
        }

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"bit": -1}, r"within bits 0..31.*Received bit=-1, width=1"),
            ({"bit": 31, "width": 2}, r"within bits 0..31.*Received bit=31, width=2"),
            ({"bit": 3, "width": 0}, r"Received bit=3, width=0"),
            ({"bit": 3, "at_least": 2}, r"of 1 bits can be at least 1..1. Received at_least=2"),
            ({"bit": 3, "at_least": 0}, r"Received at_least=0"),
            ({"bit": 3.0}, r"bit must be whole. Received 3.0"),
        ],
    )
    def test_flags_that_are_none_are_refused(self, arguments, message):
        with pytest.raises(SpecError, match=message):
            Flag(**arguments)

    @pytest.mark.parametrize(
        ("kind", "arguments", "message"),
        [
            (QualityBits, {"reject": ()}, r"must reject one group of flags or more.*Received \(\)"),
            (QualityBits, {"reject": ((),)}, r"none of them empty. Received \(\(\),\)"),
            (QualityClasses, {"keep": ()}, r"must keep one class or more.*Received \(\)"),
            (QualityClasses, {"keep": (-1, 4)}, r"from 0 on. Received \(-1, 4\)"),
            (QualityClasses, {"keep": (4.5,)}, r"Classes to keep must be whole. Received 4.5"),
            (QualityClasses, {"keep": (4,), "grow_px": -1}, r"'qa': grow_px must be 0 or more.*-1"),
            (
                QualityClasses,
                {"keep": (4,), "grow_px": 0.5},
                r"grow_px must be whole. Received 0.5",
            ),
            (QualityClasses, {"keep": (4,), "band": ""}, r"must have a name. Received ''"),
            (QualityBits, {"reject": ((Flag(bit=0),),), "band": ""}, r"must have a name"),
        ],
    )
    def test_specs_that_say_nothing_are_refused(self, kind, arguments, message):
        with pytest.raises(SpecError, match=message):
            kind(**{"band": "qa"} | arguments)

    def test_a_stack_of_quality_bands_is_refused(self):
        with pytest.raises(SpecError, match=r"must come as \(y, x\).*Received shape \(1, 3, 4\)"):
            SENTINEL2_SCL.clear(np.zeros((1, 3, 4)))
