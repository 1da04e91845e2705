"""A prediction has the same bits for any region, and each pixel the model of its fold."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from distributed import Client

import cube
from cube import metadata, store
from cube.errors import BundleError, IncompleteError, SourceError, SpecError, StoreError
from cube.regions import Region
from cube.windows import Windows
from inference.blending import taper
from inference.predict import plan_predict, predict
from tests import toy
from training.bundle import MODEL_FILE, load_bundle
from training.samples import SampleSpec
from training.splits import contiguous_folds, write_folds
from training.targets import Target
from training.timings import Timing

module = sys.modules["inference.predict"]  # the package's name for it is the function's
WINDOWS = Windows(shape=toy.SHAPE, size=8, stride=4)
LAYER = "population_predicted"


def _folds(city):
    return contiguous_folds(city.polygons, by="neighbourhood", folds=2, seed=0)


@pytest.fixture(scope="module")
def folded(city, tmp_path_factory):
    """The toy with a layer of two folds; to be copied, not written to."""
    copy = toy.copied(city, tmp_path_factory.mktemp("folded") / "toy.zarr")
    write_folds(copy.coverage, "fold", copy.polygons, _folds(copy))
    return copy


@pytest.fixture(scope="module")
def models(city, tmp_path_factory):
    """Two networks of random weights."""
    folder = tmp_path_factory.mktemp("models")
    return [toy.bundle(city, folder / str(k), seed=k, fold=k) for k in (0, 1)]


@pytest.fixture(scope="module")
def predicted(folded, models, tmp_path_factory):
    """A copy with the prediction of both models, by fold."""
    copy = toy.copied(folded, tmp_path_factory.mktemp("predicted") / "toy.zarr")
    report = predict(copy.url, LAYER, models, fold_layer="fold")
    return copy, report


def _values(city, name=LAYER):
    """The slice of 2010, float32 (y, x)."""
    return toy.stored(city.url, name)[1]


def _files(city):
    """Every file of a cube with its content and the time of its last change."""
    found = sorted(p for p in Path(city.url).rglob("*") if p.is_file())
    return {str(p.relative_to(city.url)): (p.read_bytes(), p.stat().st_mtime_ns) for p in found}


def _brute_force(city, bundle):
    """All windows predicted and blended over the whole grid, in plain loops."""
    network, origins = bundle.model(), WINDOWS.origins()
    stacks = {
        "predictors": np.moveaxis(city.image[[2, 0]], 0, -1),
        "terrain": np.moveaxis(city.terrain[[1, 0]], 0, -1),
    }
    total, weight = np.zeros(toy.SHAPE), np.zeros(toy.SHAPE)
    for start in range(0, len(origins), module.BATCH):
        boxes = [np.s_[y : y + 8, x : x + 8] for y, x in origins[start : start + module.BATCH]]
        chips = {name: np.stack([values[box] for box in boxes]) for name, values in stacks.items()}
        lacking = module.BATCH - len(boxes)
        filled = {
            name: np.concatenate([values, np.zeros((lacking, 8, 8, 2), values.dtype)])
            for name, values in chips.items()
        }
        outputs = np.asarray(network.predict_on_batch(filled))[..., 0]
        for box, output in zip(boxes, outputs, strict=False):
            total[box] += output * taper(8)
            weight[box] += taper(8)
    learned = np.where(city.valid, total / weight, np.nan)
    return bundle.sample.target.inverse(learned, pixel_km2=toy.PIXEL_KM2).astype("float32")


class TestSameBits:
    def test_it_equals_all_windows_blended_over_the_whole(self, predicted, models):
        copy, _ = predicted
        fold = toy.stored(copy.url, "fold")
        expected = np.where(fold == 0, *(_brute_force(copy, model) for model in models))
        assert _values(copy).tobytes() == expected.tobytes()

    @pytest.mark.parametrize(("chunk", "region"), [(32, 64), (64, 128)])
    def test_regions_change_no_bit(self, predicted, models, tmp_path, chunk, region):
        other = toy.build(tmp_path / "other.zarr", chunk=chunk, region=region)
        write_folds(other.coverage, "fold", other.polygons, _folds(other))
        predict(other.url, LAYER, models, fold_layer="fold")
        assert _values(other).tobytes() == _values(predicted[0]).tobytes()

    def test_a_client_changes_no_bit(self, predicted, folded, models, tmp_path):
        copy = toy.copied(folded, tmp_path / "toy.zarr")
        options = {"n_workers": 1, "threads_per_worker": 2, "dashboard_address": ":0"}
        with Client(processes=False, **options) as client:
            report = predict(copy.url, LAYER, models, fold_layer="fold", client=client)
        assert report.count("done") == 12
        assert _values(copy).tobytes() == _values(predicted[0]).tobytes()

    def test_another_place_has_the_same_files(self, predicted, folded, models, tmp_path):
        copy = toy.copied(folded, tmp_path / "elsewhere.zarr")
        moved = [replace(model, path=tmp_path / model.path.name) for model in models]
        for old, new in zip(models, moved, strict=True):
            shutil.copytree(old.path, new.path)
        predict(copy.url, LAYER, moved, fold_layer="fold")
        contents = [{k: v[0] for k, v in _files(c).items()} for c in (copy, predicted[0])]
        assert contents[0] == contents[1]


class TestWhichModel:
    def test_each_pixel_is_predicted_by_the_model_of_its_fold(self, city, folded, tmp_path):
        copy = toy.copied(folded, tmp_path / "toy.zarr")
        says = {0: 5.0, 1: 9.0}
        models = {
            k: toy.bundle(city, tmp_path / str(k), constant=value) for k, value in says.items()
        }
        predict(copy.url, LAYER, models, fold_layer="fold")
        fold = toy.stored(copy.url, "fold")
        persons = np.where(fold == 0, np.exp(5.0), np.exp(9.0)) * toy.PIXEL_KM2
        found = _values(copy)
        np.testing.assert_allclose(found[copy.valid], persons[copy.valid], rtol=1e-5)

    def test_one_model_needs_no_folds(self, city, tmp_path):
        copy = toy.copied(city, tmp_path / "toy.zarr")
        predict(copy.url, LAYER, toy.bundle(city, tmp_path / "m", constant=6.0))
        expected = np.full(copy.valid.sum(), np.exp(6.0) * toy.PIXEL_KM2)
        np.testing.assert_allclose(_values(copy)[copy.valid], expected, rtol=1e-5)

    def test_a_target_without_transform_is_written_as_it_comes(self, city, tmp_path):
        copy = toy.copied(city, tmp_path / "toy.zarr")
        cube.add(copy.url, cube.LayerSpec(name="height", dtype="float32", static=True, units="m"))
        sample = SampleSpec.of(
            {"predictors": ("red",)}, Target(layer="height"), label_time=None, input_time="2000"
        )
        model = toy.bundle(copy, tmp_path / "m", sample=sample, constant=-2.5)
        predict(copy.url, "height_predicted", model)
        found = toy.stored(copy.url, "height_predicted")
        assert found.shape == toy.SHAPE
        np.testing.assert_allclose(found[copy.image[2] != 0], -2.5, rtol=1e-6)
        assert copy.spec.layer("height_predicted").units == "m"


class TestNodata:
    def test_a_pixel_is_nan_where_an_input_is_nodata_and_nowhere_else(self, predicted):
        copy, _ = predicted
        assert np.array_equal(np.isnan(_values(copy)), ~copy.valid)
        assert not copy.valid.all()

    def test_a_region_without_an_observation_is_written_without_calling_the_model(
        self, city, models, tmp_path, monkeypatch
    ):
        empty = toy.image()
        empty[:, :44, :44] = 0  # a region of 32 and the windows that reach into it
        copy = toy.build(tmp_path / "toy.zarr", bands=empty)
        calls = []
        original = module._network
        monkeypatch.setattr(module, "_network", lambda b: calls.append(b) or original(b))
        corner = Region(time=1, rows=(0, 32), cols=(0, 32))
        everything = np.ones((32, 32), dtype=bool)
        found = module.predict_pixels(copy.url, copy.spec, models[0], WINDOWS, corner, everything)
        assert np.isnan(found).all()
        assert not calls
        report = predict(copy.url, LAYER, models[0])
        assert report.count("done") == 12
        assert np.array_equal(np.isnan(_values(copy)), ~copy.valid)


def test_every_batch_has_one_shape_and_its_filling_is_zero(city, models, tmp_path, monkeypatch):
    copy = toy.copied(city, tmp_path / "toy.zarr")
    batches = []

    class Network:
        def predict_on_batch(self, inputs):
            batches.append(inputs)
            return np.zeros((len(inputs["terrain"]), 8, 8, 1), "float32")

    monkeypatch.setattr(module, "_network", lambda _: Network())
    predict(copy.url, LAYER, models[0])
    assert len(batches) > 12
    for batch in batches:
        assert {name: values.shape for name, values in batch.items()} == {
            "predictors": (module.BATCH, 8, 8, 2),
            "terrain": (module.BATCH, 8, 8, 2),
        }
    lasts = [batch["predictors"][-1] for batch in batches]
    assert any(not last.any() for last in lasts)


class TestRerun:
    def test_it_skips_all_and_writes_nothing(self, predicted, models):
        copy, first = predicted
        before = _files(copy)
        again = predict(copy.url, LAYER, models, fold_layer="fold")
        assert (first.count("done"), first.count("skipped")) == (12, 0)
        assert (again.count("done"), again.count("skipped")) == (0, 12)
        assert _files(copy) == before

    def test_a_lost_tick_is_done_again_with_the_same_bits(self, predicted, models, tmp_path):
        copy = toy.copied(predicted[0], tmp_path / "toy.zarr")
        before = _values(copy).tobytes()
        shutil.rmtree(Path(copy.url) / "ledger" / LAYER / "c" / "1" / "1")
        report = predict(copy.url, LAYER, models, fold_layer="fold")
        assert (report.count("done"), report.count("skipped")) == (4, 8)
        assert _values(copy).tobytes() == before

    def test_a_changed_model_is_refused(self, predicted, models, city, tmp_path):
        copy, _ = predicted
        before = _files(copy)
        other = [models[0], toy.bundle(city, tmp_path / "other", seed=7)]
        with pytest.raises(SourceError, match="already holds regions made from other inputs"):
            predict(copy.url, LAYER, other, fold_layer="fold")
        assert _files(copy) == before

    def test_a_model_trained_anew_under_its_path_is_loaded_anew(self, city, tmp_path):
        copy = toy.copied(city, tmp_path / "toy.zarr")
        for constant, layer in ((4.0, "first"), (7.0, "second")):
            model = toy.bundle(city, tmp_path / "m", constant=constant)
            predict(copy.url, layer, model)
            found = _values(copy, layer)[copy.valid]
            np.testing.assert_allclose(found, np.exp(constant) * toy.PIXEL_KM2, rtol=1e-5)

    def test_a_model_that_was_trained_anew_under_the_hands_is_refused(self, city, tmp_path):
        copy = toy.copied(city, tmp_path / "toy.zarr")
        stale = toy.bundle(city, tmp_path / "m", constant=4.0)
        toy.bundle(city, tmp_path / "m", constant=7.0)
        with pytest.raises(IncompleteError, match="trained anew since the bundle was made"):
            predict(copy.url, LAYER, stale)

    def test_a_model_is_loaded_once(self, city, tmp_path, monkeypatch):
        loads = []
        monkeypatch.setattr(module, "load_bundle", lambda p: loads.append(p) or load_bundle(p))
        copy = toy.copied(city, tmp_path / "toy.zarr")
        predict(copy.url, LAYER, toy.bundle(city, tmp_path / "m"))
        assert len(loads) == 1


class TestLayer:
    def test_it_says_what_it_is(self, predicted):
        copy, _ = predicted
        layer, label = copy.spec.layer(LAYER), copy.spec.layer("population")
        assert (layer.dtype, layer.static) == ("float32", label.static)
        assert layer.units == label.units
        assert layer.long_name == "predicted persons per pixel"

    def test_only_the_period_of_the_label_is_written(self, predicted):
        copy, _ = predicted
        assert np.isnan(toy.stored(copy.url, LAYER)[0]).all()
        ticks = store.read(copy.url, f"ledger/{LAYER}")
        assert not ticks[0].any()
        assert ticks[1].all()

    def test_its_provenance_names_models_and_holds_neither_path_nor_clock(self, predicted, models):
        copy, _ = predicted
        attrs = metadata.attributes(copy.url)[LAYER]
        inputs = json.loads(attrs["inputs"])["2010"]["from"]
        assert inputs["models"] == {str(k): m.weights_digest for k, m in enumerate(models)}
        assert inputs["fold_layer"] == "fold"
        text = json.dumps(attrs)
        assert attrs["created_by"].startswith("quadrat ")
        assert "/" not in re.sub(r"[A-Za-z0-9+/]+=+", "", text)  # less base64
        assert not re.search(r"\d\d:\d\d|20[2-9]\d-", text)

    def test_a_layer_of_another_kind_under_that_name_is_refused(self, city, models, tmp_path):
        copy = toy.copied(city, tmp_path / "toy.zarr")
        cube.add(copy.url, cube.LayerSpec(name=LAYER, dtype="float64"))
        with pytest.raises(StoreError, match="The cube has another 'population_predicted'"):
            predict(copy.url, LAYER, models[0])


class TestPlan:
    def test_it_writes_nothing_and_says_what_is_left(self, city, models, tmp_path):
        copy = toy.copied(city, tmp_path / "toy.zarr")
        before = _files(copy)
        plan = plan_predict(copy.url, LAYER, models[0])
        assert _files(copy) == before
        assert str(plan).startswith(f"predict {LAYER}: 12 regions to write, 0 done already")
        assert plan.summary.bytes_out == toy.SHAPE[0] * toy.SHAPE[1] * 4
        assert "<p>" in plan._repr_html_()

    def test_with_a_sample_it_says_how_long_and_still_writes_nothing(self, city, models, tmp_path):
        copy = toy.copied(city, tmp_path / "toy.zarr")
        before = _files(copy)
        plan = plan_predict(copy.url, LAYER, models[0], calibrate=True)
        assert _files(copy) == before
        assert plan.summary.seconds > 0
        assert plan.summary.stored_bytes > 0

    def test_it_knows_what_is_done(self, predicted, models):
        plan = plan_predict(predicted[0].url, LAYER, models, fold_layer="fold")
        assert (len(plan.todo), len(plan.done)) == (0, 12)


class TestDamage:
    def test_a_damaged_input_costs_the_regions_that_read_it_alone(self, city, models, tmp_path):
        copy = toy.copied(city, tmp_path / "toy.zarr")
        stack = models[0].sample.inputs[0].stack
        chunks = sorted(p for p in Path(copy.url, stack, "c").rglob("*") if p.is_file())
        data = bytearray(chunks[-1].read_bytes())
        data[len(data) // 2] ^= 1
        chunks[-1].write_bytes(data)
        with pytest.raises(IncompleteError, match=f"'{stack}' cannot be read at") as incomplete:
            predict(copy.url, LAYER, models[0])
        found = incomplete.value.report
        assert found.count("done") > 0
        assert found.count("done") + found.count("failed") == 12


class TestOverwrite:
    def test_other_models_replace_all_on_purpose(self, city, models, tmp_path):
        copy, expected = (toy.copied(city, tmp_path / name) for name in ("a.zarr", "b.zarr"))
        predict(copy.url, LAYER, models[0])
        predict(copy.url, LAYER, models[1], overwrite=True)
        predict(expected.url, LAYER, models[1])
        np.testing.assert_array_equal(_values(copy, LAYER), _values(expected, LAYER))


class TestRefusals:
    def test_several_models_without_folds(self, city, models):
        with pytest.raises(BundleError, match="With 2 models, fold_layer= must say"):
            predict(city.url, LAYER, models)

    def test_no_model_at_all(self, city):
        with pytest.raises(BundleError, match="At least one model"):
            predict(city.url, LAYER, [])

    def test_a_fold_without_a_model(self, folded, models, tmp_path):
        copy = toy.copied(folded, tmp_path / "toy.zarr")
        with pytest.raises(IncompleteError, match=r"holds \[1\] at .* models for \[0\]"):
            predict(copy.url, LAYER, {0: models[0]}, fold_layer="fold")

    def test_a_fold_layer_that_was_never_written(self, city, models, tmp_path):
        copy = toy.copied(city, tmp_path / "toy.zarr")
        cube.add(copy.url, cube.LayerSpec(name="fold", dtype="int16", nodata=-1, static=True))
        with pytest.raises(IncompleteError, match=r"holds \[-1\]"):
            predict(copy.url, LAYER, models, fold_layer="fold")

    @pytest.mark.parametrize(
        ("fold_layer", "match"),
        [("nowhere", "no variable 'nowhere'"), ("population", "must be static")],
    )
    def test_a_fold_layer_that_is_none(self, city, models, fold_layer, match):
        with pytest.raises(SpecError, match=match):
            predict(city.url, LAYER, models, fold_layer=fold_layer)

    def test_windows_that_leave_pixels_out(self, city, models):
        with pytest.raises(SpecError, match=r"at most the window, 8 px. Received stride=9"):
            plan_predict(city.url, LAYER, replace(models[0], stride=9))

    def test_models_that_look_through_other_windows(self, folded, models):
        other = replace(models[1], stride=3)
        with pytest.raises(BundleError, match="must share inputs, target and windows"):
            predict(folded.url, LAYER, [models[0], other], fold_layer="fold")

    def test_a_cube_packed_otherwise(self, city, models):
        packing = {**models[0].packing, "terrain": {**models[0].packing["terrain"], "scale": 2.0}}
        with pytest.raises(BundleError, match=r"'terrain' with scale=2\.0"):
            predict(city.url, LAYER, replace(models[0], packing=packing))

    def test_a_window_larger_than_the_cube(self, city, models):
        with pytest.raises(SpecError, match="A window must fit the grid"):
            predict(city.url, LAYER, replace(models[0], window=200))

    @pytest.mark.parametrize(
        ("target", "timings", "match"),
        [
            (replace(toy.TARGET, per=None, transform="classes"), {}, "is of classes; apply"),
            (replace(toy.TARGET, over="window"), {}, "is of one label a window; apply"),
            (replace(toy.TARGET, change=True), {"label": ("2000", "2010")}, "is of changes; apply"),
            (toy.TARGET, {"inputs": ("2000", "2010")}, "is of images of 2 periods; apply"),
        ],
    )
    def test_models_of_anything_but_one_map_of_numbers(self, city, models, target, timings, match):
        timing = Timing(**{"label": ("2010",), "inputs": ("2000",), **timings})
        sample = replace(models[0].sample, target=target, timings=(timing,))
        with pytest.raises(BundleError, match=match):
            plan_predict(city.url, LAYER, replace(models[0], sample=sample))

    def test_models_of_several_timings(self, city, models):
        timings = tuple(Timing(label=("2010",), inputs=(year,)) for year in ("2000", "2010"))
        sample = replace(models[0].sample, timings=timings)
        with pytest.raises(BundleError, match="is of 2 timings; apply"):
            plan_predict(city.url, LAYER, replace(models[0], sample=sample))

    @pytest.mark.parametrize("damage", ["missing", "cut short"])
    def test_a_model_file_that_is_damaged(self, city, tmp_path, damage):
        copy = toy.copied(city, tmp_path / "toy.zarr")
        model = toy.bundle(city, tmp_path / "m")
        if damage == "missing":
            (model.path / MODEL_FILE).unlink()
        else:
            (model.path / MODEL_FILE).write_bytes(b"PK")
        with pytest.raises(IncompleteError, match=r"The model in '.*m' cannot be loaded"):
            predict(copy.url, LAYER, model)
