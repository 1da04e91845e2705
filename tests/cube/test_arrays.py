"""What a spec becomes on disk: identity, and the law that appending is creating."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cube
from cube import arrays, template
from cube.errors import SpecError

NAMES = ("predictors", "lights", "terrain", "population", "glacier", "basin")


def changed(spec, name, **other):
    """The spec with one variable changed."""
    variables = [replace(v, **other) if v.name == name else v for v in spec.variables]
    return replace(spec, stacks=(), layers=()).with_variables(*variables)


class TestIdentity:
    @pytest.mark.parametrize(
        "other",
        [
            lambda spec: replace(spec, grid=spec.grid[:99, :]),
            lambda spec: replace(spec, grid=spec.grid.translate_pix(1, 0)),
            lambda spec: replace(spec, grid=spec.grid.zoom_out(2)),
            lambda spec: replace(spec, layout=cube.LayoutSpec(chunk=32, region=32)),
            lambda spec: replace(spec, layout=cube.LayoutSpec(chunk=16, region=64)),
            lambda spec: replace(spec, layout=cube.LayoutSpec(chunk=16, shard=32, region=32)),
            lambda spec: replace(
                spec, layout=cube.LayoutSpec(chunk=16, region=32, codec="blosc-lz4-1-noshuffle")
            ),
        ],
    )
    def test_another_grid_or_layout_is_another_identity_of_every_variable(self, spec, other):
        for name in NAMES:
            assert arrays.identity(other(spec), name) != arrays.identity(spec, name)

    @pytest.mark.parametrize(
        ("name", "other"),
        [
            ("predictors", {"scale": 0.0002}),
            ("predictors", {"nodata": 0}),
            ("predictors", {"bands": ("green", "red", "nir")}),
            ("population", {"dtype": "float32"}),
            ("population", {"units": "km"}),
        ],
    )
    def test_another_variable_is_another_identity_of_itself_only(self, spec, name, other):
        new = changed(spec, name, **other)
        for each in NAMES:
            same = arrays.identity(new, each) == arrays.identity(spec, each)
            assert same == (each != name)

    def test_what_comes_later_does_not_change_it(self, spec):
        later = replace(spec, calendar=cube.years(2000, 2010, 2020), title="Longer")
        later = later.with_variables(cube.LayerSpec(name="roof", dtype="float32"))
        for name in NAMES:
            assert arrays.identity(later, name) == arrays.identity(spec, name)

    def test_every_array_carries_it(self, spec):
        for variable in spec.variables:
            attrs = arrays.data_plan(spec, variable).attrs
            assert arrays.identity(spec, variable.name).items() <= attrs.items()


class TestPlans:
    def test_a_variable_has_a_ledger_and_a_record_of_what_was_replaced(self, spec):
        for variable in spec.variables:
            data, ledger, replaced = arrays.variable_plans(spec, variable)
            assert (data.path, data.shape) == (variable.name, spec.shape(variable.name))
            assert ledger.path == f"ledger/{variable.name}"
            assert replaced.path == f"replaced/{variable.name}"
            for plan in (ledger, replaced):
                assert plan.shape == ((4, 5) if variable.static else (2, 4, 5))
                assert set(plan.chunks) == {1}
                assert (plan.dtype, plan.fill, plan.codec) == ("uint64", 0, "none")

    def test_coordinates_are_those_that_a_cube_may_not_use_as_names(self, spec):
        paths = {plan.path for plan, _ in arrays.coordinate_plans(spec)}
        bands = {stack.band_dim for stack in spec.stacks}
        assert paths == {"x", "y", "time", "time_bnds", "spatial_ref"} | bands
        for path in paths - bands:
            with pytest.raises(SpecError):
                cube.LayerSpec(name=path, dtype="float32")

    def test_values_have_the_shape_and_dtype_of_their_plan(self, spec):
        for plan, values in arrays.coordinate_plans(spec):
            assert values.shape == plan.shape
            if plan.dtype != "str":
                assert values.dtype == plan.dtype

    def test_a_grid_without_a_crs_is_refused(self, spec):
        with pytest.raises(SpecError, match="no CRS"):
            list(arrays.coordinate_plans(replace(spec, grid=replace_crs(spec.grid))))


def replace_crs(grid):
    return type(grid)(grid.shape, grid.transform, None)


@settings(max_examples=25)
@given(
    st.lists(st.integers(1700, 2261), min_size=2, max_size=8, unique=True).map(sorted),
    st.data(),
)
def test_a_cube_that_was_appended_to_holds_the_bytes_of_one_created_so(spec, contents, years, data):
    cuts = data.draw(st.lists(st.integers(1, len(years) - 1), min_size=1, max_size=3).map(sorted))
    check_law(spec, contents, cube.years(*years), cuts)


@pytest.mark.parametrize("cut", [1, 511, 512, 513])
def test_the_law_holds_beyond_a_chunk_of_the_time_coordinate(spec, contents, cut):
    check_law(spec, contents, cube.years(*range(1700, 1700 + 514)), [cut])


def check_law(spec, contents, calendar, cuts):
    small = replace(spec, grid=spec.grid[:20, :30])
    with tempfile.TemporaryDirectory() as folder:
        whole = cube.create(Path(folder, "whole.zarr"), replace(small, calendar=calendar))
        parts = cube.create(
            Path(folder, "parts.zarr"), replace(small, calendar=calendar[: cuts[0]])
        )
        for stop in [*cuts[1:], len(calendar)]:
            template.append(parts, *calendar[:stop])
        assert contents(parts) == contents(whole)
        found = cube.open(parts, chunks=None, stored=True)
        np.testing.assert_array_equal(
            found["time"].values.astype("datetime64[D]").astype(str), [p.start for p in calendar]
        )
