"""Sheets show every chip beside its label, and nodata as what it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import matplotlib.figure
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import cube
from cube.errors import SpecError, StoreError
from tests import toy
from training.contact_sheets import contact_sheet
from training.contact_sheets.images import (
    Classes,
    chosen_bands,
    images,
    learned,
    limits,
    observed,
)
from training.samples import SampleSpec
from training.targets import TableTarget, Target
from training.timings import Timing

SIZE = 6
PIXELS = SampleSpec.of(
    {"predictors": ("red", "green", "blue"), "terrain": ("slope",)},
    Target(layer="population", per="km2", transform="log"),
    label_time="2010",
    input_time="2000",
)
SPEC = replace(
    toy.spec(),
    layers=(
        *toy.spec().layers,
        cube.LayerSpec(
            name="cover", dtype="uint8", nodata=255, classes=((0, "rock"), (1, "clean ice"))
        ),
    ),
)
CLASSES = replace(PIXELS, target=Target(layer="cover", transform="classes"))
GREY = np.array([217, 217, 217])


@dataclass(frozen=True, kw_only=True)
class Batch:
    inputs: dict
    label: np.ndarray | None
    weight: np.ndarray | None
    chip: np.ndarray


def batch(*, chips=5, label="map", times=None, seed=0):
    """Random chips, the last of which fills up; nodata in a corner of the first image."""
    rng = np.random.default_rng(seed)
    lead = (chips,) if times is None else (chips, times)
    predictors = rng.integers(1, 255, (*lead, SIZE, SIZE, 3)).astype("uint8")
    predictors[0, ..., :3, :3, 1] = 0
    shape = (chips, SIZE, SIZE, 1) if label == "map" else (chips, 1)
    weight = np.ones(shape[:-1], "float32")
    weight[1] = 0
    values = rng.normal(size=shape).astype("float32")
    if label == "classes":
        shape, weight = (chips, SIZE, SIZE, 1), np.ones((chips, SIZE, SIZE), "float32")
        values = rng.integers(0, 2, shape).astype("int32")
        weight[1, :3], values[1, :3] = 0, 0
    return Batch(
        inputs={
            "predictors": predictors,
            "terrain": rng.normal(size=(chips, SIZE, SIZE, 1)).astype("float32"),
        },
        label=values,
        weight=weight,
        chip=np.append(np.arange(chips - 1) * 10, -1),
    )


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def pictures(figure):
    """All pictures as they were drawn, RGBA."""
    return [np.asarray(image.get_array()) for image in figure.axes[0].images]


def colours(figure):
    """Pixels of the drawn sheet, uint8 (y, x, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def pixel_of(figure, drawn, number, y, x):
    """Drawn colours of one pixel of a picture, (n, 3)."""
    image = figure.axes[0].images[number]
    left, right, bottom, top = image.get_extent()
    dpi, step = figure.dpi, (right - left) / SIZE
    rows = slice(round((top + (y + 0.2) * step) * dpi), round((top + (y + 0.8) * step) * dpi))
    cols = slice(round((left + (x + 0.2) * step) * dpi), round((left + (x + 0.8) * step) * dpi))
    assert bottom > top
    return drawn[rows, cols].reshape(-1, 3)


def test_every_chip_but_filling_stands_beside_its_label():
    figure = contact_sheet(batch(), sample=PIXELS, cube_spec=SPEC)
    assert isinstance(figure, matplotlib.figure.Figure)
    assert {"0", "10", "20", "30"} <= set(texts(figure))
    assert len(pictures(figure)) == 8
    assert "4 of 4 chips: red, green, blue; label: ln(population per km²)" in texts(figure)
    assert texts(figure).count("2000") == texts(figure).count("label 2010") == 4
    some = contact_sheet(batch(), sample=PIXELS, cube_spec=SPEC, limit=3, columns=2)
    assert len(pictures(some)) == 6
    assert "3 of 4 chips: red, green, blue; label: ln(population per km²)" in texts(some)


def test_nodata_is_drawn_as_hatched_grey_where_it_lies_and_nowhere_else():
    shown = batch(label="classes")
    figure = contact_sheet(shown, sample=CLASSES, cube_spec=SPEC)
    drawn = colours(figure)
    for y, x in ((0, 0), (2, 2)):
        here = pixel_of(figure, drawn, 0, y, x)
        assert (np.ptp(here, axis=1) == 0).all()  # greys of the ground and of its hatches
        assert (here >= 170).all()
        assert (here == GREY).all(axis=1).any()
    seen = pixel_of(figure, drawn, 0, 3, 3)
    assert (seen == pictures(figure)[0][3, 3, :3]).all()
    unlabelled = pixel_of(figure, drawn, 3, 0, 4)
    assert (unlabelled == GREY).all(axis=1).any()
    labelled = pixel_of(figure, drawn, 3, 5, 4)
    expected = Classes(values=(0, 1), names=("a", "b")).colours[shown.label[1, 5, 4, 0]]
    assert (labelled == expected).all()


def test_classes_have_names_and_the_same_colours_on_every_sheet():
    figure = contact_sheet(batch(label="classes"), sample=CLASSES, cube_spec=SPEC)
    legend = figure.axes[0].get_legend()
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["rock", "clean ice", "no data, or no weight"]
    only = np.full((1, 2, 2, 1), 1)
    classes = Classes.of(SPEC.layer("cover"), only)
    np.testing.assert_array_equal(
        classes.pictures(only, only == 1)[0, 0, 0, 0, :3], classes.colours[1]
    )
    assert Classes.of(SPEC.layer("cover"), np.array([7])).names == ("rock", "clean ice", "7")


@pytest.mark.parametrize("chips", [3, 5, 9])
@pytest.mark.parametrize("number", [1, 8, 20])
def test_the_key_of_many_classes_stays_on_the_sheet(chips, number):
    names = tuple((k, f"developed, class {k} of intensity") for k in range(number))
    layers = (cube.LayerSpec(name="cover", dtype="uint8", nodata=255, classes=names),)
    shown = batch(chips=chips, label="classes")
    figure = contact_sheet(shown, sample=CLASSES, cube_spec=replace(SPEC, layers=layers))
    colours(figure)
    key = figure.axes[0].get_legend()
    left, bottom, right, top = key.get_window_extent().extents
    width, height = figure.get_size_inches() * figure.dpi
    assert 0 <= left < right <= width
    assert 0 <= bottom < top
    lowest = max(image.get_extent()[2] for image in figure.axes[0].images) * figure.dpi
    assert top <= height - lowest
    patches = [tuple(patch.get_facecolor()) for patch in key.get_patches()]
    assert len(set(patches)) == len(patches) == max(number, 2) + 1


def test_labels_of_windows_are_texts():
    window = Target(layer="cover", transform="classes", over="window", statistic="majority")
    one = replace(batch(label="window"), label=np.array([[0], [1], [1], [0], [0]], "int32"))
    figure = contact_sheet(one, sample=replace(PIXELS, target=window), cube_spec=SPEC)
    assert [t for t in texts(figure) if t in ("rock", "clean ice", "no label")] == [
        "rock", "no label", "clean ice", "rock",
    ]  # fmt: skip
    weighted = replace(one, weight=np.array([0.25, 2, 1, 0, 0], "float32"))
    figure = contact_sheet(weighted, sample=replace(PIXELS, target=window), cube_spec=SPEC)
    assert {"rock, weight 0.25", "clean ice, weight 2", "no label"} <= set(texts(figure))
    table = replace(
        batch(label="window"),
        label=np.tile(np.array([12345.6, 0.125], "float32"), (5, 1)),
    )
    target = TableTarget(columns=("persons", "rate"))
    figure = contact_sheet(table, sample=replace(PIXELS, target=target), cube_spec=SPEC)
    assert texts(figure).count("persons 12,346, rate 0.125") == 3


def test_two_dates_lie_side_by_side_and_say_which_they_are():
    timings = (
        Timing(label=("2000", "2010"), inputs=("2000", "2010")),
        Timing(label=("2010", "2000"), inputs=("2010", "2000")),
    )
    sample = SampleSpec.of(
        {"predictors": ("red", "green", "blue")},
        Target(layer="population", change=True),
        timings=timings,
    )
    shown = replace(batch(times=2), chip=np.array([4, 7, -1, -1, -1]))
    figure = contact_sheet(shown, sample=sample, cube_spec=SPEC)
    assert len(pictures(figure)) == 6
    wanted = ["4  2000+2010 → 2000+2010", "2000", "2010", "change 2000 to 2010"]
    wanted += ["7  2010+2000 → 2010+2000", "2010", "2000", "change 2010 to 2000"]
    assert texts(figure)[:8] == wanted
    assert figure.axes[1].get_xlabel() == "change of population"


def boxes(figure):
    """Places of all texts as they were drawn, pixels (text, 4): left, bottom, right, top."""
    colours(figure)
    found = [text for axis in figure.axes for text in axis.texts if text.get_text()]
    return np.array([text.get_window_extent().extents for text in found])


@pytest.mark.parametrize("kind", ["change", "sequence", "table", "windows"])
def test_no_text_covers_another_or_leaves_the_sheet(kind):
    periods = ("2019-05-01", "2019-09-30")
    several = tuple(Timing(label=periods[::k], inputs=periods[::k]) for k in (1, -1))
    target = Target(layer="population", change=kind == "change")
    sample = SampleSpec.of({"predictors": ("red", "green", "blue")}, target, timings=several)
    shown = batch(chips=9, times=2)
    rng = np.random.default_rng(0)
    if kind == "sequence":
        label = rng.normal(size=(9, SIZE, SIZE, 2)).astype("float32")
        shown = replace(shown, label=label)
    if kind == "table":
        names = tuple(f"initial_condition_{k}" for k in range(34))
        sample = replace(sample, target=TableTarget(columns=names))
        shown = replace(shown, label=np.ones((9, 34), "float32"), weight=np.ones(9, "float32"))
    if kind == "windows":
        sample = replace(sample, target=Target(layer="population", over="window"))
        label = rng.normal(size=(9, 2)).astype("float32")
        shown = replace(shown, label=label, weight=np.full(9, 0.123, "float32"))
    shown = replace(shown, chip=np.arange(9) + 123_456_780)
    figure = contact_sheet(shown, sample=sample, cube_spec=SPEC)
    found = boxes(figure)
    width, height = figure.get_size_inches() * figure.dpi
    assert (found[:, :2] >= 0).all()
    assert (found[:, 2] <= width).all()
    assert (found[:, 3] <= height).all()
    left, bottom, right, top = (found[:, None] + [1, 1, -1, -1]).T
    across = np.minimum(right, right.T) > np.maximum(left, left.T)
    upright = np.minimum(top, top.T) > np.maximum(bottom, bottom.T)
    assert np.array_equal(across & upright, np.eye(len(found), dtype=bool))


def test_chips_of_many_pictures_stand_in_fewer_columns():
    five = ("2000", "2001", "2002", "2003", "2004")
    sample = SampleSpec.of(
        {"predictors": ("red", "green", "blue")},
        Target(layer="population"),
        timings=(Timing(label=five, inputs=five),),
    )
    label = np.random.default_rng(0).normal(size=(9, SIZE, SIZE, 5)).astype("float32")
    shown = replace(batch(chips=9, times=5), label=label)
    figure = contact_sheet(shown, sample=sample, cube_spec=SPEC, columns=8)
    assert len(pictures(figure)) == 80
    assert figure.get_size_inches()[0] <= 16
    assert contact_sheet(batch(chips=9), sample=PIXELS, cube_spec=SPEC).get_size_inches()[0] <= 16


def test_chips_without_labels_or_with_one_band_are_drawn_too():
    plain = replace(batch(), label=None, weight=None)
    figure = contact_sheet(plain, sample=replace(PIXELS, target=None), cube_spec=SPEC)
    assert len(pictures(figure)) == 4
    figure = contact_sheet(plain, sample=PIXELS, cube_spec=SPEC, bands=["slope"])
    picture = pictures(figure)[0]
    np.testing.assert_array_equal(picture[..., 0], picture[..., 2])


def test_a_sheet_is_written_with_the_same_bytes_each_time(tmp_path):
    written = []
    for name in ("a", "b"):
        path = tmp_path / name / "sheet.png"
        contact_sheet(batch(chips=3), path, sample=PIXELS, cube_spec=SPEC)
        written.append(hashlib.sha256(path.read_bytes()).hexdigest())
    assert written[0] == written[1]
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Cannot write the contact sheet"):
        contact_sheet(batch(), tmp_path / "file" / "a.png", sample=PIXELS, cube_spec=SPEC)


def test_stretching_is_common_to_all_chips_and_blind_to_nodata():
    bands = chosen_bands(PIXELS, SPEC, None)
    inputs = batch(times=2).inputs
    found = images(inputs, bands, (0.1, 0.9))
    stored = inputs["predictors"].astype("float64")
    valid = (stored != 0).all(axis=-1)
    np.testing.assert_array_equal(found[..., 3], np.where(valid, 255, 0))
    for place in range(3):
        seen = stored[..., place][valid]
        low, high = np.quantile(seen, [0.1, 0.9])
        expected = np.rint(255 * np.clip((seen - low) / (high - low), 0, 1))
        np.testing.assert_array_equal(found[..., place][valid], expected)


def test_bands_are_found_by_name():
    def names(bands, sample=PIXELS):
        return [f"{b.stack.name}/{b.name}/{b.place}" for b in chosen_bands(sample, SPEC, bands)]

    assert names(None) == ["predictors/red/0", "predictors/green/1", "predictors/blue/2"]
    assert names(["terrain/slope", "blue", "red"])[:2] == ["terrain/slope/0", "predictors/blue/2"]
    assert names(None, toy.SAMPLE) == ["predictors/red/0"]
    with pytest.raises(SpecError, match="'nir' is not in the sample; name one of: predictors/red"):
        names(["nir"])
    with pytest.raises(SpecError, match="one band, or of three as red, green and blue"):
        names(["red", "green"])
    with pytest.raises(SpecError, match="Received 'red'"):
        names("red")


def test_an_ambiguous_band_is_refused():
    stack = cube.StackSpec(name="thermal", bands=("red",), dtype="float32", static=True)
    spec = replace(SPEC, stacks=(*SPEC.stacks, stack))
    sample = SampleSpec.of({"predictors": ["red"], "thermal": ["red"]}, None, input_time="2000")
    with pytest.raises(SpecError, match="ambiguous; name one of: predictors/red, thermal/red"):
        chosen_bands(sample, spec, ["red"])
    assert chosen_bands(sample, spec, ["thermal/red"])[0].stack == stack


def test_what_colours_show_is_named_and_their_ends_fit():
    target = Target(layer="population", over="window", statistic="sum", change=True)
    assert learned(target, SPEC) == "change of sum population"
    values = np.array([[[-1.0, 3.0, 99.0, 2.0]]])
    seen = np.array([[[True, True, False, True]]])
    low, high = limits(values, seen, middle=True)
    assert (low, high) == (-high, pytest.approx(2.96))
    assert limits(values, seen & False, middle=False) == (0, 1)
    assert limits(np.ones((1, 2)), np.ones((1, 2), bool), middle=False) == (0.5, 1.5)
    known = observed(np.array([[[[1.0, np.nan]]], [[[1.0, 1.0]]]]), np.array([[[2.0]], [[0.0]]]))
    np.testing.assert_array_equal(known[:, 0, 0], [[True, False], [False, False]])


def test_sheets_of_nothing_are_refused():
    empty = replace(batch(), chip=np.full(5, -1))
    with pytest.raises(SpecError, match="this one holds nothing but filling"):
        contact_sheet(empty, sample=PIXELS, cube_spec=SPEC)
    with pytest.raises(SpecError, match="Received columns=0, limit=64"):
        contact_sheet(batch(), sample=PIXELS, cube_spec=SPEC, columns=0)
    with pytest.raises(SpecError, match="whole numbers. Received columns=2.5, limit=64"):
        contact_sheet(batch(), sample=PIXELS, cube_spec=SPEC, columns=2.5)
    with pytest.raises(SpecError, match=r"0 <= low < high <= 1. Received \(0.5, 0.5\)"):
        contact_sheet(batch(), sample=PIXELS, cube_spec=SPEC, stretch=(0.5, 0.5))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"predictors": ("red", "green")}, "2 bands of 'predictors' was expected.* Received 3"),
        ({"image": ("red",)}, "1 bands of 'image' was expected.* Received 0"),
    ],
)
def test_a_batch_of_another_sample_is_refused(inputs, message):
    other = SampleSpec.of(inputs, PIXELS.target, label_time="2010", input_time="2000")
    with pytest.raises(SpecError, match=message):
        contact_sheet(batch(), sample=other, cube_spec=SPEC)
