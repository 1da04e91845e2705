"""Specs: what they refuse, and that they survive JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import random

import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

import cube
from cube.errors import SpecError
from cube.layout import LayoutSpec
from cube.spec import (
    CubeSpec,
    LayerSpec,
    Period,
    StackSpec,
    differences,
    digest,
    variable_from_dict,
    years,
)

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
COORDINATES = ("time", "time_bnds", "bounds", "x", "y", "spatial_ref")
NO_CODE = "+proj=laea +lat_0=-8 +lon_0=-34.8 +datum=WGS84 +units=m"


def limits(dtype):
    bits, signed = int(dtype.lstrip("uint")), dtype.startswith("i")
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


@st.composite
def packings(draw):
    """Fields that stacks and layers share, but the name."""
    dtype = draw(st.sampled_from((*INTEGERS, "float32", "float64")))
    fields = {
        "dtype": dtype,
        "static": draw(st.booleans()),
        "units": draw(st.sampled_from(["1", "m", "K"])),
        "long_name": draw(st.text(max_size=10)),
    }
    if dtype.startswith("float"):
        return fields
    low, high = limits(dtype)
    return fields | {
        "nodata": draw(st.integers(low, high) | st.sampled_from([low, high])),
        "scale": draw(st.floats(1e-6, 1e6) | st.integers(1, 5) | st.floats(-1e6, -1e-6)),
        "offset": draw(st.floats(-1e6, 1e6) | st.integers(-5, 5) | st.just(-0.0)),
    }


words = st.text("abcxyz019_", max_size=6)


def stacks():
    named = st.tuples(words, packings(), st.lists(words, min_size=1, max_size=4, unique=True))
    return named.map(
        lambda n: StackSpec(name=f"s{n[0]}", bands=tuple(f"b{b}" for b in n[2]), **n[1])
    )


@st.composite
def layers(draw):
    name, fields = f"l{draw(words)}", draw(packings())
    if fields["dtype"].startswith("float") or draw(st.booleans()):
        return LayerSpec(name=name, **fields)
    low, high = limits(fields["dtype"])
    numbers = st.integers(low, high).filter(lambda v: v != fields["nodata"])
    classes = st.lists(st.tuples(numbers, words), max_size=3, unique_by=lambda c: c[0])
    plain = {k: v for k, v in fields.items() if k not in ("scale", "offset")}
    return LayerSpec(name=name, classes=tuple(draw(classes)), **plain)


@st.composite
def grids(draw):
    size = st.floats(1e-3, 1e4)
    corner = st.floats(-1e6, 1e6)
    zero = draw(st.sampled_from([0.0, -0.0]))
    transform = Affine(draw(size), zero, draw(corner), zero, -draw(size), draw(corner))
    shape = draw(st.tuples(st.integers(1, 500), st.integers(1, 500)))
    return GeoBox(shape, transform, draw(st.sampled_from(["EPSG:32633", "EPSG:4326", NO_CODE])))


@st.composite
def layouts(draw):
    chunk = draw(st.integers(1, 64))
    shard = draw(st.none() | st.integers(1, 4).map(lambda n: n * chunk))
    region = draw(st.integers(1, 4)) * (shard or chunk)
    codec = draw(st.sampled_from(["none", "blosc-lz4-0-shuffle", "blosc-zstd-9-bitshuffle"]))
    return LayoutSpec(chunk=chunk, shard=shard, region=region, codec=codec)


@st.composite
def cubes(draw):
    def named(variable):
        return variable.name

    return CubeSpec(
        grid=draw(grids()),
        calendar=years(*sorted(draw(st.sets(st.integers(1800, 2100), min_size=1, max_size=4)))),
        stacks=tuple(draw(st.lists(stacks(), max_size=3, unique_by=named))),
        layers=tuple(draw(st.lists(layers(), max_size=3, unique_by=named))),
        layout=draw(layouts()),
        title=draw(st.text(max_size=10)),
    )


def layer(**changes):
    return LayerSpec(**{"name": "roof", "dtype": "uint8", "nodata": 255} | changes)


def stack(**changes):
    fields = {"name": "sar", "dtype": "int16", "nodata": 0, "bands": ("vv", "vh")}
    return StackSpec(**fields | changes)


class TestRoundTrip:
    @given(cubes())
    def test_a_spec_survives_json(self, spec):
        again = CubeSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
        assert again == spec
        assert again.digest == spec.digest

    @given(cubes())
    def test_equal_specs_have_equal_hashes(self, spec):
        again = CubeSpec.from_dict(spec.to_dict())
        assert {spec} == {again}
        assert set(spec.variables) == set(again.variables)

    @pytest.mark.parametrize("dtype", ["int64", "uint64"])
    def test_nodata_of_64_bits_survives_json_to_the_last_digit(self, dtype):
        for nodata in (*limits(dtype), limits(dtype)[1] - 1):
            wide = layer(dtype=dtype, nodata=nodata)
            assert variable_from_dict(json.loads(json.dumps(wide.to_dict()))).fill == nodata

    def test_leaving_out_what_has_a_default_gives_the_default(self, grid):
        data = {"grid": CubeSpec(grid=grid, calendar=years(2000)).to_dict()["grid"]}
        data["calendar"] = [{"label": "2000", "start": "2000-01-01", "end": "2001-01-01"}]
        data["layers"] = [{"kind": "layer", "name": "roof", "dtype": "float32"}]
        assert CubeSpec.from_dict(data) == CubeSpec(
            grid=grid, calendar=years(2000), layers=(LayerSpec(name="roof", dtype="float32"),)
        )


class TestDigest:
    @given(cubes(), st.randoms(use_true_random=False))
    def test_it_does_not_depend_on_any_order(self, spec, rng: random.Random):
        shuffled = dataclasses.replace(
            spec,
            stacks=tuple(rng.sample(spec.stacks, len(spec.stacks))),
            layers=tuple(rng.sample(spec.layers, len(spec.layers))),
        )
        assert shuffled.digest == spec.digest
        data = spec.to_dict()
        assert digest(dict(rng.sample(list(data.items()), len(data)))) == digest(data)

    def test_it_is_the_same_in_every_release(self, spec):
        # It is written into every cube and model: when this changes, so must FORMAT_VERSION.
        assert spec.digest == "1490dc0fff07"

    @pytest.mark.parametrize(
        "change",
        [
            {"title": "Other"},
            {"calendar": years(2000, 2011)},
            {"layout": LayoutSpec(chunk=16, region=64)},
            {"layers": ()},
            {"stacks": ()},
            {"grid": GeoBox((100, 130), Affine(30, 0, 300_030, 0, -30, 5_000_000), "EPSG:32633")},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_it_differs_where_any_field_differs(self, spec, change):
        assert dataclasses.replace(spec, **change).digest != spec.digest

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({"scale": 1, "offset": 0}, {}),
            ({"scale": 2}, {"scale": 2.0}),
            ({"offset": -0.0}, {"offset": 0.0}),
            ({"nodata": 7.0}, {"nodata": 7}),
        ],
    )
    def test_it_does_not_depend_on_how_a_number_is_spelt(self, one, other):
        assert layer(**one).digest == layer(**other).digest

    def test_it_does_not_depend_on_the_sign_of_zero_in_a_transform(self, spec, grid):
        t = grid.transform
        other = GeoBox(grid.shape, Affine(t.a, -0.0, t.c, -0.0, t.e, t.f), grid.crs)
        assert dataclasses.replace(spec, grid=other).digest == spec.digest

    def test_it_does_not_depend_on_how_the_crs_is_spelt(self, spec, grid):
        other = GeoBox(grid.shape, grid.transform, grid.crs.to_wkt())
        assert dataclasses.replace(spec, grid=other).digest == spec.digest


class TestForm:
    @pytest.mark.parametrize("kind", [Period, StackSpec, LayerSpec, CubeSpec, LayoutSpec])
    def test_specs_take_keywords_only(self, kind):
        with pytest.raises(TypeError, match="positional argument"):
            kind("name")

    def test_specs_are_frozen(self, spec):
        for part in (spec, spec.layout, spec.calendar[0], *spec.variables):
            field = dataclasses.fields(part)[0].name
            with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field"):
                setattr(part, field, None)

    def test_lists_given_for_tuples_become_tuples(self, spec):
        listed = dataclasses.replace(
            spec,
            calendar=list(spec.calendar),
            stacks=[stack(bands=["vv", "vh"])],
            layers=[layer(classes=[[1, "roof"]])],
        )
        assert isinstance(hash(listed), int)
        assert listed.layer("roof").classes == ((1, "roof"),)

    def test_the_band_dimension_of_predictors_is_called_band(self):
        assert stack(name="predictors").dims == ("time", "band", "y", "x")
        assert stack().dims == ("time", "sar_band", "y", "x")
        assert stack(static=True).dims == ("sar_band", "y", "x")
        assert layer(static=True).dims == ("y", "x")

    def test_shapes_follow_the_dims(self, spec):
        assert {v.name: spec.shape(v.name) for v in spec.variables} == {
            "predictors": (2, 3, 100, 130),
            "lights": (2, 2, 100, 130),
            "terrain": (2, 100, 130),
            "population": (2, 100, 130),
            "glacier": (2, 100, 130),
            "basin": (100, 130),
        }

    def test_years_are_whole_and_half_open(self):
        assert years(2000) == (Period(label="2000", start="2000-01-01", end="2001-01-01"),)

    def test_a_period_is_found_by_its_label(self, spec):
        assert [spec.time_index(label) for label in ("2000", "2010", 2010)] == [0, 1, 1]


class TestRefusedVariables:
    @pytest.mark.parametrize("name", ["Roof", "2000", "a-b", "", "é", "a b", "a/b"])
    def test_names_must_be_lower_snake_case(self, name):
        with pytest.raises(SpecError, match=r"layer needs a lower_snake_case name.*Received"):
            layer(name=name)

    @pytest.mark.parametrize(
        "name",
        [*COORDINATES, "ledger", "grids", "blocks", "coverage"],
    )
    def test_names_that_the_cube_uses_itself_are_refused(self, name):
        with pytest.raises(SpecError, match=f"the cube does not use itself. Received '{name}'"):
            layer(name=name)

    def test_a_band_needs_a_good_name_as_well(self):
        with pytest.raises(SpecError, match=r"band of stack 'sar'.*Received 'VV'"):
            stack(bands=("VV",))

    @pytest.mark.parametrize("bands", [(), ("vv", "vv")])
    def test_bands_are_named_once_each(self, bands):
        with pytest.raises(SpecError, match="bands must be named, once each"):
            stack(bands=bands)

    @pytest.mark.parametrize(
        "dtype",
        ["float16", "float128", "longdouble", "complex64", "bool", "str", "<i2", "i2", "int"],
    )
    def test_dtypes_other_than_integers_and_two_floats_are_refused(self, dtype):
        with pytest.raises(SpecError, match=r"dtype must be an integer, float32 or|no such dtype"):
            layer(dtype=dtype)

    def test_a_dtype_that_does_not_exist_is_refused(self):
        with pytest.raises(SpecError, match="'roof': no such dtype: 'int17'"):
            layer(dtype="int17")

    @pytest.mark.parametrize(
        ("dtype", "nodata"),
        [("uint8", 256), ("uint8", -1), ("int16", 0.5), ("int8", math.inf), ("int64", 2**63)],
    )
    def test_nodata_must_be_storable(self, dtype, nodata):
        with pytest.raises(SpecError, match=f"nodata must be storable as {dtype}"):
            layer(dtype=dtype, nodata=nodata)

    @pytest.mark.parametrize("dtype", INTEGERS)
    def test_integers_need_a_nodata_value(self, dtype):
        with pytest.raises(SpecError, match="integers need a nodata value of their own"):
            LayerSpec(name="roof", dtype=dtype)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_nodata_of_floats_is_nan(self, dtype):
        with pytest.raises(SpecError, match=r"nodata of floats is NaN. Received -9999"):
            layer(dtype=dtype, nodata=-9999)

    @pytest.mark.parametrize(
        "packing", [{"scale": 0}, {"scale": math.nan}, {"scale": math.inf}, {"offset": math.inf}]
    )
    def test_scale_and_offset_must_be_finite_and_scale_not_zero(self, packing):
        with pytest.raises(SpecError, match="scale and offset must be finite and scale not 0"):
            layer(**packing)

    def test_floats_are_not_packed(self):
        with pytest.raises(SpecError, match="floats are stored as they are"):
            LayerSpec(name="roof", dtype="float32", scale=0.5)

    def test_nodata_is_no_class(self):
        with pytest.raises(SpecError, match=r"nodata is never a class. Received nodata=255"):
            layer(classes=((1, "roof"), (255, "none")))

    @pytest.mark.parametrize("classes", [((300, "roof"),), ((-1, "roof"),)])
    def test_a_class_must_be_storable(self, classes):
        with pytest.raises(SpecError, match="must be storable as uint8"):
            layer(classes=classes)

    @pytest.mark.parametrize("classes", [(1, 2), "ice", ((1.5, "ice"),), ((1, "ice", 2),), 7])
    def test_classes_are_pairs(self, classes):
        with pytest.raises(SpecError, match=r"classes are pairs of a whole number and its meaning"):
            layer(classes=classes)

    def test_classes_may_be_a_mapping(self):
        assert layer(classes={0: "rock", 1: "ice"}) == layer(classes=((0, "rock"), (1, "ice")))

    @pytest.mark.parametrize("name", ["nodata", "scale", "offset"])
    @pytest.mark.parametrize("value", [None, "1", [1]])
    def test_packing_is_numbers(self, name, value):
        with pytest.raises(SpecError, match=f"'roof': {name} is a number. Received"):
            LayerSpec(name="roof", dtype="float32", **{name: value})

    def test_a_class_value_means_one_thing(self):
        with pytest.raises(SpecError, match=r"appear once each. Received \[1, 1\]"):
            layer(classes=((1, "roof"), (1, "road")))

    @pytest.mark.parametrize("packing", [{"dtype": "float32", "nodata": math.nan}, {"scale": 2}])
    def test_classes_are_plain_integers(self, packing):
        with pytest.raises(SpecError, match="classes need an integer dtype and no scale"):
            layer(classes=((1, "roof"),), **packing)

    def test_a_variable_is_a_stack_or_a_layer(self):
        with pytest.raises(SpecError, match=r"a stack or a layer. Received kind='mosaic'"):
            variable_from_dict({"kind": "mosaic"})

    def test_a_variable_with_an_unknown_field_is_refused(self):
        with pytest.raises(SpecError, match=r"A layer cannot be made of these fields.*colour"):
            variable_from_dict(layer().to_dict() | {"colour": "red"})


class TestRefusedCubes:
    @pytest.mark.parametrize(
        ("start", "end"),
        [("2010", "2011"), ("20100101", "20110101"), ("2010-W01-1", "2011-W01-1"), (2010, 2011)],
    )
    def test_dates_are_written_in_one_way(self, start, end):
        with pytest.raises(SpecError, match="dates must be YYYY-MM-DD"):
            Period(label="p", start=start, end=end)

    @pytest.mark.parametrize("end", ["2010-01-01", "2009-12-31"])
    def test_a_period_ends_after_its_start(self, end):
        with pytest.raises(SpecError, match="the end must lie after the start"):
            Period(label="p", start="2010-01-01", end=end)

    def test_a_calendar_without_periods_is_refused(self, grid):
        with pytest.raises(SpecError, match="at least one period"):
            CubeSpec(grid=grid, calendar=())

    @pytest.mark.parametrize("order", [(2010, 2000), (2000, 2000)])
    def test_periods_that_overlap_or_go_back_are_refused(self, grid, order):
        with pytest.raises(SpecError, match="follow one another without overlap"):
            CubeSpec(grid=grid, calendar=years(*order))

    def test_a_period_that_begins_on_the_last_ones_end_follows_it(self, grid):
        assert len(CubeSpec(grid=grid, calendar=years(2000, 2001)).calendar) == 2

    def test_labels_of_periods_are_unique(self, grid):
        with pytest.raises(SpecError, match="Labels of periods must be unique"):
            CubeSpec(
                grid=grid,
                calendar=(dataclasses.replace(years(1999)[0], label="2000"), *years(2000)),
            )

    @pytest.mark.parametrize(
        "transform",
        [
            Affine(30, 0, 0, 0, 30, 0),
            Affine(-30, 0, 0, 0, -30, 0),
            Affine(30, 1, 0, 0, -30, 0),
            Affine(30, 0, 0, 1, -30, 0),
            Affine(0, 30, 0, -30, 0, 0),
        ],
        ids=["south-up", "west-left", "sheared", "sheared y", "rotated"],
    )
    def test_grids_are_north_up_and_not_rotated(self, transform):
        with pytest.raises(SpecError, match="north-up and not rotated"):
            CubeSpec(grid=GeoBox((4, 4), transform, "EPSG:32633"), calendar=years(2000))

    def test_a_grid_needs_a_crs(self):
        with pytest.raises(SpecError, match=r"no CRS; give one, e.g. crs='EPSG:31985'"):
            CubeSpec(grid=GeoBox((4, 4), Affine(1, 0, 0, 0, -1, 0), None), calendar=years(2000))

    def test_a_grid_holds_pixels(self):
        with pytest.raises(SpecError, match=r"must hold pixels. Received shape \(0, 4\)"):
            CubeSpec(grid=GeoBox((0, 4), Affine(1, 0, 0, 0, -1, 0), 4326), calendar=years(2000))

    @pytest.mark.parametrize(
        ("more", "twice"),
        [
            ({"stacks": (stack(name="sar"),), "layers": (layer(name="sar"),)}, "sar"),
            ({"layers": (layer(), layer())}, "roof"),
            ({"stacks": (stack(),), "layers": (layer(name="sar_band"),)}, "sar_band"),
            ({"stacks": (stack(name="predictors"),), "layers": (layer(name="band"),)}, "band"),
            ({"stacks": (stack(), stack(name="sar_band"))}, "sar_band"),
        ],
    )
    def test_a_name_stands_for_one_thing_band_dimensions_included(self, grid, more, twice):
        with pytest.raises(SpecError, match=rf"must be unique within a cube.*\['{twice}'\]"):
            CubeSpec(grid=grid, calendar=years(2000), **more)

    def test_a_newer_format_is_refused(self, spec):
        with pytest.raises(SpecError, match=r"has format 2; .* up to 1. Install a newer quadrat"):
            CubeSpec.from_dict(spec.to_dict() | {"format_version": 2})

    def test_an_unknown_field_is_refused(self, spec):
        with pytest.raises(SpecError, match="Received calendar, colour, format_version"):
            CubeSpec.from_dict(spec.to_dict() | {"colour": "red"})

    @pytest.mark.parametrize("field", ["grid", "calendar"])
    def test_a_cube_without_grid_or_calendar_is_refused(self, spec, field):
        data = {k: v for k, v in spec.to_dict().items() if k != field}
        with pytest.raises(SpecError, match="grid and calendar are needed"):
            CubeSpec.from_dict(data)

    @pytest.mark.parametrize(
        "broken", [{"layout": {"chonk": 4}}, {"grid": {"crs": "EPSG:4326"}}, {"stacks": [{}]}]
    )
    def test_a_part_that_cannot_be_read_is_refused(self, spec, broken):
        with pytest.raises(SpecError, match=r"cannot be read|a stack or a layer"):
            CubeSpec.from_dict(spec.to_dict() | broken)


class TestLookUp:
    def test_an_unknown_variable_is_refused_with_those_there_are(self, spec):
        with pytest.raises(SpecError, match=r"no variable 'rood'. It has: lights, predictors"):
            spec.variable("rood")

    def test_a_layer_is_no_stack(self, spec):
        with pytest.raises(SpecError, match="'basin' is a layer; a stack of bands was expected"):
            spec.stack("basin")

    def test_a_stack_is_no_layer(self, spec):
        with pytest.raises(SpecError, match="'terrain' is a stack of bands; a layer was expected"):
            spec.layer("terrain")

    def test_an_unknown_period_is_refused_with_those_there_are(self, spec):
        with pytest.raises(SpecError, match=r"no '1990'. It has: 2000, 2010"):
            spec.time_index("1990")

    def test_variables_can_be_added_without_touching_the_others(self, spec):
        more = spec.with_variables(stack(), layer())
        assert set(more.variables) == {*spec.variables, stack(), layer()}

    def test_differences_name_each_field_that_differs_and_no_other(self, spec):
        other = dataclasses.replace(spec, title="Other", calendar=cube.years(2000))
        found = differences(spec, other)
        assert [line.split(":")[0] for line in found] == ["calendar", "title"]
        assert found[1] == 'title: the cube has "Toy", the spec says "Other"'
