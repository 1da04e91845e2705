"""A sample names what it takes, and says what a cube lacks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cube.errors import SpecError
from tests import toy
from training.samples import InputStack, SampleSpec
from training.targets import Target


def _sample(inputs, **changes):
    times = {"label_time": "2010", "input_time": "2000"}
    times |= {name: changes.pop(name) for name in times if name in changes}
    return replace(SampleSpec.of(inputs, toy.TARGET, **times), **changes)


def test_it_survives_a_round_trip_through_its_dict():
    assert SampleSpec.from_dict(toy.SAMPLE.to_dict()) == toy.SAMPLE


def test_it_counts_the_bands_of_all_stacks():
    assert toy.SAMPLE.bands == 4


def test_a_static_variable_has_no_time_and_the_others_have_their_own():
    times = [toy.SAMPLE.time_of(toy.spec(), n) for n in ("terrain", "predictors", "population")]
    assert times == [None, 0, 1]


@pytest.mark.parametrize(
    ("inputs", "changes", "match"),
    [
        ({"optical": ("red",)}, {}, "no variable 'optical'"),
        ({"population": ("red",)}, {}, "a stack of bands was expected"),
        ({"predictors": ("red", "nir")}, {}, "has no band nir"),
        ({"predictors": ("red",)}, {"input_time": "1999"}, "no '1999'"),
        ({"predictors": ("red",)}, {"input_time": None}, "which period"),
        ({"predictors": ("red",)}, {"label_time": None}, "which period"),
        ({"terrain": ("slope",)}, {"target": Target(layer="income")}, "no variable 'income'"),
        ({"terrain": ("slope",)}, {"target": Target(layer="terrain")}, "a layer was expected"),
    ],
)
def test_what_a_cube_lacks_is_named(inputs, changes, match):
    with pytest.raises(SpecError, match=match):
        _sample(inputs, **changes).check(toy.spec())


def test_a_stack_twice_or_none_at_all_is_refused():
    stack = InputStack(stack="predictors", bands=("red",))
    for inputs in ((), (stack, stack)):
        with pytest.raises(SpecError, match="each input stack once"):
            replace(toy.SAMPLE, inputs=inputs)


@pytest.mark.parametrize("bands", [(), "red"])
def test_bands_are_a_list_with_at_least_one_name(bands):
    with pytest.raises(SpecError, match="need a list of bands"):
        InputStack(stack="predictors", bands=bands)
    with pytest.raises(SpecError, match="need a list of bands"):
        _sample({"predictors": bands})


@pytest.mark.parametrize(
    "damage", [{"inputs": [{"stack": "a"}]}, {"target": {"layer": "a", "unit": "m"}}, None]
)
def test_a_damaged_dict_is_one_clear_error(damage):
    data = {} if damage is None else {**toy.SAMPLE.to_dict(), **damage}
    with pytest.raises(SpecError, match="cannot be read"):
        SampleSpec.from_dict(data)
