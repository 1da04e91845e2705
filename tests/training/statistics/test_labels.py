"""Statistics take the chips, labels and weights that a stream takes, and refuse the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import cube
from cube.errors import SpecError, SplitError
from cube.windows import Windows
from tests import toy
from training.samples import SampleSpec
from training.statistics import training_moments, training_statistics
from training.stream import ChipStream, StreamSpec, Supervision
from training.targets import TableTarget, Target

WINDOWS = Windows(shape=toy.SHAPE, size=8, stride=8)
EVERY = np.arange(len(WINDOWS))


def _sample(target):
    return replace(toy.SAMPLE, target=target)


def _built(layer, values):
    """A cube of one static label layer beside the toy's static stack."""
    url = cube.create(f"memory://{layer.name}", replace(toy.spec(), layers=(layer,)))
    toy.write(url, "terrain", toy.terrain())
    toy.write(url, layer.name, values)
    return url


def _streamed(url, sample):
    """Labels that a stream gives with a weight, (n, channel)."""
    stream = ChipStream(url, sample, WINDOWS, EVERY, StreamSpec(seed=0))
    return np.concatenate([batch.label[batch.weight > 0] for batch in stream.epoch()])


@pytest.mark.parametrize(
    "chips", [EVERY < 30, EVERY / 2, ["a", "b"], EVERY.reshape(2, -1), 3, None]
)
def test_chips_and_windows_that_are_no_whole_numbers_are_refused(city, chips):
    with pytest.raises(SplitError, match=r"Chips are named by whole numbers .* np.flatnonzero"):
        training_statistics(city.url, toy.SAMPLE, WINDOWS, chips)
    with pytest.raises(SplitError, match=r"Windows are named by whole numbers .* np.flatnonzero"):
        training_moments(city.url, toy.SAMPLE, WINDOWS, chips)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"sample": "red"}, "sample= takes a SampleSpec. Received str"),
        ({"windows": None}, "windows= takes windows, .* Received NoneType"),
        ({"supervision": 3}, "supervision= takes a Supervision. Received int"),
        ({"quantiles": 0.5}, "quantiles= takes a list of levels. Received 0.5"),
        ({"quantiles": "low"}, "quantiles= takes a list of levels. Received 'low'"),
    ],
)
def test_arguments_of_another_kind_are_one_line(city, given, match):
    usual = {"sample": toy.SAMPLE, "windows": WINDOWS, "chips": EVERY}
    with pytest.raises(SpecError, match=match):
        training_statistics(city.url, **{**usual, **given})


@pytest.mark.parametrize(
    "target", [None, TableTarget(columns="rent"), Target(layer="population", over="window")]
)
def test_supervision_is_refused_where_no_map_is_learned(city, target):
    supervision = Supervision(coverage=city.coverage, polygons=np.array([7]))
    with pytest.raises(SpecError, match="weighs the pixels of a map; this target is none"):
        training_statistics(city.url, _sample(target), WINDOWS, EVERY, supervision=supervision)


def test_classes_that_are_no_whole_numbers_are_refused(city):
    sample = _sample(Target(layer="population", transform="classes"))
    with pytest.raises(SpecError, match="Classes are whole numbers .* 'population' is float64"):
        training_statistics(city.url, sample, WINDOWS, EVERY)


def test_classes_of_windows_beyond_the_whole_numbers_of_float32_are_told_apart():
    classes = 2**24 + np.arange(WINDOWS.counts[1]).repeat(8) % 3
    url = _built(
        cube.LayerSpec(name="parcel", dtype="int32", nodata=0, static=True),
        np.broadcast_to(classes, toy.SHAPE).astype("int32"),
    )
    target = Target(layer="parcel", transform="classes", over="window", statistic="majority")
    sample = SampleSpec.of({"terrain": ("slope",)}, target)
    values, counts = np.unique(_streamed(url, sample), return_counts=True)
    assert values.tolist() == [2**24, 2**24 + 1, 2**24 + 2]
    found = training_statistics(url, sample, WINDOWS, EVERY)
    assert found.classes == tuple(zip(values.tolist(), counts.tolist(), strict=True))


def test_the_label_of_a_window_is_the_one_that_is_streamed():
    # Their mean is 2**24 + 1.25, of their nearest float32 it would be 2**24 + 0.5.
    values = 2.0**24 + 1 + (np.indices(toy.SHAPE)[1] % 4 == 0)
    url = _built(cube.LayerSpec(name="metres", dtype="float64", static=True), values)
    sample = SampleSpec.of({"terrain": ("slope",)}, Target(layer="metres", over="window"))
    (found,) = training_statistics(url, sample, WINDOWS, EVERY).label
    label = _streamed(url, sample)
    assert set(label.ravel().tolist()) == {2**24 + 2}
    assert (found.min, found.max, found.count) == (2**24 + 2, 2**24 + 2, len(label))


@pytest.mark.parametrize("over", ["pixels", "window"])
def test_what_float32_cannot_hold_is_not_known_as_in_a_stream(over):
    values = np.ones(toy.SHAPE)
    values[0, 0], values[50, 50] = 1e39, -np.inf
    url = _built(cube.LayerSpec(name=f"far_{over}", dtype="float64", static=True), values)
    target = Target(layer=f"far_{over}", over=over, statistic="sum")
    (found,) = training_statistics(
        url, SampleSpec.of({"terrain": ("slope",)}, target), WINDOWS, EVERY
    ).label
    one, left = (1, values.size - 2) if over == "pixels" else (64, len(WINDOWS) - 2)
    assert (found.min, found.max, *found.quantiles, found.count) == (one, one, one, one, left)
