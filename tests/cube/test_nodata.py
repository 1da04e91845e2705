"""Packing is undone exactly, and nodata is never a number."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cube import nodata
from cube.errors import SpecError
from cube.spec import LayerSpec, StackSpec

NARROW = ("int8", "uint8", "int16", "uint16", "int32", "uint32")
WIDE = ("int64", "uint64")
EXACT = 2**53
"""Whole numbers up to here are doubles; 64-bit values beyond are not promised."""

shapes = array_shapes(max_dims=3, max_side=6)
scales = st.sampled_from([0.0001, 2.75e-5, 0.1, 0.01, 3.0, -0.5, 100.0])
offsets = st.sampled_from([0.0, -0.2, 273.15, 149.0, 1e5, -1e6])


def layer(dtype, **fields):
    return LayerSpec(name="heat", dtype=dtype, **fields)


@st.composite
def stored(draw, dtypes, *, packed=False, limit=None):
    """A variable and an array of any stored values, the edges of the dtype and nodata often."""
    info = np.iinfo(draw(st.sampled_from(dtypes)))
    fill = draw(st.sampled_from([info.min, info.max, 0]) | st.integers(info.min, info.max))
    packing = {"scale": draw(scales), "offset": draw(offsets)} if packed else {}
    low, high = (info.min, info.max) if limit is None else (max(info.min, -limit), limit)
    numbers = st.integers(low, high) | st.sampled_from([low, high, fill])
    values = draw(arrays(info.dtype, draw(shapes), elements=numbers))
    return layer(info.dtype.name, nodata=fill, **packing), values


class TestEncodingWhatWasDecoded:
    @given(stored(NARROW))
    def test_plain_integers_come_back_to_the_bit(self, case):
        variable, values = case
        again = nodata.encode(nodata.decode(values, variable), variable)
        assert again.dtype == values.dtype
        np.testing.assert_array_equal(again, values)

    @given(stored(NARROW, packed=True))
    def test_packed_integers_come_back_to_the_bit(self, case):
        variable, values = case
        again = nodata.encode(nodata.decode(values, variable), variable)
        np.testing.assert_array_equal(again, values)

    @given(stored(WIDE, limit=EXACT))
    def test_integers_of_64_bits_come_back_as_far_as_doubles_count(self, case):
        variable, values = case
        again = nodata.encode(nodata.decode(values, variable), variable)
        np.testing.assert_array_equal(again, values)

    @pytest.mark.parametrize("dtype", [*NARROW, *WIDE])
    @pytest.mark.parametrize("edge", ["min", "max"])
    def test_a_nodata_at_the_edge_of_the_dtype_comes_back(self, dtype, edge):
        fill = getattr(np.iinfo(dtype), edge)
        variable = layer(dtype, nodata=fill)
        values = np.array([fill, 1, fill, 2], dtype)
        np.testing.assert_array_equal(
            nodata.encode(nodata.decode(values, variable), variable), values
        )

    @given(arrays("float32", shapes, elements=st.floats(width=32, allow_infinity=False)))
    def test_float32_comes_back_to_the_bit(self, values):
        again = nodata.encode(nodata.decode(values, layer("float32")), layer("float32"))
        np.testing.assert_array_equal(again.view("uint32"), values.view("uint32"))

    @given(arrays("float64", shapes, elements=st.floats(allow_infinity=False)))
    def test_float64_comes_back_to_the_bit(self, values):
        again = nodata.encode(nodata.decode(values, layer("float64")), layer("float64"))
        np.testing.assert_array_equal(again.view("uint64"), values.view("uint64"))


class TestDecoding:
    @given(stored((*NARROW, *WIDE), packed=True))
    def test_nan_stands_where_nodata_stands_and_nowhere_else(self, case):
        variable, values = case
        missing = np.isnan(nodata.decode(values, variable))
        np.testing.assert_array_equal(missing, values == variable.fill)
        np.testing.assert_array_equal(~missing, nodata.valid(values, variable))

    @given(stored(("int8", "uint8", "int16", "uint16"), packed=True))
    def test_values_are_scale_times_stored_plus_offset(self, case):
        variable, values = case
        exact = values * np.float64(variable.scale) + variable.offset
        found = nodata.decode(values, variable)
        known = nodata.valid(values, variable)
        np.testing.assert_allclose(found[known], exact[known], rtol=1e-6, atol=1e-6 * 273)

    @pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "float32"])
    def test_what_float32_can_hold_becomes_float32(self, dtype):
        fill = math.nan if dtype == "float32" else 0
        variable = layer(dtype, nodata=fill)
        assert nodata.decoded_dtype(variable) == "float32"
        assert nodata.decode(np.ones(1, dtype), variable).dtype == "float32"

    @pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64", "float64"])
    def test_what_float32_cannot_hold_becomes_float64(self, dtype):
        fill = math.nan if dtype == "float64" else 0
        variable = layer(dtype, nodata=fill)
        assert nodata.decoded_dtype(variable) == "float64"
        assert nodata.decode(np.ones(1, dtype), variable).dtype == "float64"

    @pytest.mark.parametrize(
        ("scale", "offset"), [(2.75e-5, -0.2), (0.00341802, 149.0), (0.0001, 0.0), (0.01, 273.15)]
    )
    def test_landsat_and_sentinel_packings_become_float32(self, scale, offset):
        variable = layer("uint16", nodata=0, scale=scale, offset=offset)
        assert nodata.decoded_dtype(variable) == "float32"

    def test_an_offset_that_would_swallow_the_steps_of_float32_gives_float64(self):
        variable = layer("int16", nodata=0, scale=0.001, offset=1e6)
        assert nodata.decoded_dtype(variable) == "float64"

    def test_the_stored_values_are_left_alone(self):
        for variable in (layer("int16", nodata=1, scale=2), layer("float32")):
            values = np.array([1, 2, 3], variable.dtype)
            nodata.decode(values, variable)[:] = 0
            np.testing.assert_array_equal(values, [1, 2, 3])

    def test_of_floats_what_is_not_nan_is_valid(self):
        values = np.array([np.nan, 0.0, -np.inf], "float32")
        assert nodata.valid(values, layer("float32")).tolist() == [False, True, True]


class TestEncoding:
    @given(st.data())
    def test_a_value_moves_by_half_a_step_at_most(self, data):
        info = np.iinfo(data.draw(st.sampled_from(NARROW)))
        variable = layer(
            info.dtype.name,
            nodata=info.min,
            scale=data.draw(scales),
            offset=data.draw(offsets),
        )
        share = data.draw(arrays("float64", shapes, elements=st.floats(0, 1)))
        steps = (info.min + 1) + share * (float(info.max) - (info.min + 1))
        values = steps * variable.scale + variable.offset
        again = nodata.decode(nodata.encode(values, variable), variable)
        # A decoded value is rounded to its own float type, by a few units in the last place.
        rounding = 4 * np.spacing(np.abs(values).max().astype(again.dtype))
        assert np.abs(again - values).max() <= abs(variable.scale) / 2 * (1 + 1e-6) + rounding

    @given(arrays("float64", shapes, elements=st.floats(-1e6, 1e6)))
    def test_float64_stored_as_float32_is_rounded_to_the_nearest(self, values):
        again = nodata.encode(values, layer("float32"))
        np.testing.assert_array_equal(again, values.astype("float32"))

    def test_nothing_at_all_can_be_encoded(self):
        nothing = np.empty((3, 0), "float32")
        assert nodata.encode(nothing, layer("int16", nodata=0)).shape == (3, 0)

    def test_the_physical_values_are_left_alone(self):
        values = np.array([1.0, np.nan])
        nodata.encode(values, layer("int16", nodata=0, scale=2, offset=3))
        np.testing.assert_array_equal(values, [1.0, np.nan])


class TestRefusals:
    @given(st.sampled_from((*NARROW, *WIDE)), st.sampled_from([-1, 1]), scales, offsets)
    def test_a_value_beyond_the_dtype_is_an_error_and_never_wraps(self, dtype, side, scale, offset):
        info = np.iinfo(dtype)
        variable = layer(dtype, nodata=0, scale=scale, offset=offset)
        step = info.max * 1.001 + 2 if side > 0 else info.min * 1.001 - 2
        with pytest.raises(SpecError, match=rf"packing would clip. {dtype} with scale"):
            nodata.encode(np.array([1 * scale + offset, step * scale + offset]), variable)

    @pytest.mark.parametrize("dtype", WIDE)
    def test_the_first_double_beyond_64_bits_is_refused(self, dtype):
        with pytest.raises(SpecError, match="packing would clip"):
            nodata.encode(np.array([float(np.iinfo(dtype).max)]), layer(dtype, nodata=0))

    def test_the_smallest_int64_is_a_double_and_fits(self):
        edge = np.array([-(2.0**63)])
        assert nodata.encode(edge, layer("int64", nodata=0)).tolist() == [-(2**63)]

    def test_the_message_tells_the_range_that_fits_and_the_range_that_came(self):
        variable = layer("uint8", nodata=0, scale=0.5, offset=1)
        with pytest.raises(SpecError, match=r"holds 1\.\.128\.5; the data go from 2 to 300\."):
            nodata.encode(np.array([2.0, 300.0, np.nan]), variable)

    @pytest.mark.parametrize("value", [np.inf, -np.inf])
    @pytest.mark.parametrize("dtype", ["int16", "int64", "uint8"])
    def test_infinity_does_not_fit_an_integer(self, dtype, value):
        with pytest.raises(SpecError, match="packing would clip"):
            nodata.encode(np.array([1.0, value]), layer(dtype, nodata=0))

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_infinity_is_no_observation_of_a_float(self, dtype):
        with pytest.raises(SpecError, match=f"finite, or NaN for nodata, as {dtype}"):
            nodata.encode(np.array([1.0, np.inf]), layer(dtype))

    def test_a_double_too_large_for_float32_is_refused(self):
        with pytest.raises(SpecError, match=r"as float32. Received an infinite one"):
            nodata.encode(np.array([1e39]), layer("float32"))

    def test_a_double_too_large_to_be_scaled_is_refused(self):
        with pytest.raises(SpecError, match="packing would clip"):
            nodata.encode(np.array([1e308]), layer("int16", nodata=0, scale=1e-4))

    @given(stored(NARROW, packed=True))
    def test_an_observed_value_that_would_read_as_nodata_is_refused(self, case):
        variable, _ = case
        value = variable.fill * variable.scale + variable.offset
        with pytest.raises(SpecError, match=f"would be stored as {variable.fill}, which means"):
            nodata.encode(np.array([value]), variable)

    def test_a_value_that_only_rounds_to_nodata_is_refused_too(self):
        with pytest.raises(SpecError, match="would be stored as 7"):
            nodata.encode(np.array([7.4]), layer("uint8", nodata=7))


class TestOneNan:
    @given(st.integers(1, 2**23 - 1), st.booleans(), st.floats(width=32, allow_nan=False))
    def test_every_nan_gets_the_same_bits_and_every_number_keeps_its_own(
        self, payload, negative, number
    ):
        nan = np.uint32(negative << 31 | 0xFF << 23 | payload)
        bits = np.array([nan, np.float32(number).view("uint32")])
        found = nodata.one_nan(bits.view("float32")).view("uint32")
        assert found[0] == np.float32(np.nan).view("uint32")
        assert found[1] == bits[1]

    def test_integers_pass_untouched(self):
        values = np.arange(3, dtype="int16")
        assert nodata.one_nan(values) is values


def test_stacks_are_packed_as_layers_are():
    stack = StackSpec(name="sar", bands=("vv",), dtype="int16", nodata=0, scale=0.5)
    np.testing.assert_array_equal(nodata.encode(np.array([[[1.5]]]), stack), [[[3]]])
