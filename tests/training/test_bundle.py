"""A bundle says after loading what it said before saving, or one line on why it cannot."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import cube
from cube.errors import BundleError
from tests import toy
from training.bundle import FACTS_FILE, MODEL_FILE, load_bundle, weights_digest


@pytest.fixture(scope="module")
def saved(city, tmp_path_factory):
    return toy.bundle(city, tmp_path_factory.mktemp("bundle") / "model", fold=1)


@pytest.fixture
def bundle(city, saved, tmp_path):
    """A copy that may be broken."""
    made = replace(saved, path=tmp_path / "model")
    made.path.mkdir()
    for name in (FACTS_FILE, MODEL_FILE):
        (made.path / name).write_bytes((saved.path / name).read_bytes())
    return made


def _facts(bundle, **changes):
    data = json.loads((bundle.path / FACTS_FILE).read_text())
    (bundle.path / FACTS_FILE).write_text(json.dumps({**data, **changes}))


def _refused(function, match):
    with pytest.raises(BundleError, match=match) as caught:
        function()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def _chips(city, *, count=6):
    rng = np.random.default_rng(0)
    spec = city.spec
    shape = (count, 8, 8, 2)
    return {
        "predictors": rng.integers(0, 256, shape).astype(spec.stack("predictors").dtype),
        "terrain": rng.normal(50, 30, shape).astype("float32"),
    }


class TestRoundTrip:
    def test_a_loaded_model_predicts_the_same_bits(self, city, tmp_path):
        made = toy.bundle(city, tmp_path / "model", seed=3)
        again = load_bundle(made.path)
        outputs = [
            np.asarray(b.model().predict_on_batch(_chips(city))).tobytes() for b in (made, again)
        ]
        assert outputs[0] == outputs[1]
        assert weights_digest(again.model()) == made.weights_digest

    def test_facts_survive(self, saved):
        for path in (saved.path, str(saved.path)):
            again = load_bundle(path)
            assert again.path == saved.path
            assert again.sample == saved.sample
            assert again.to_dict() == json.loads(json.dumps(saved.to_dict()))

    def test_they_hold_no_path(self, saved):
        assert str(saved.path.parent) not in (saved.path / FACTS_FILE).read_text()

    def test_saving_twice_writes_the_same_facts(self, city, saved, bundle):
        again = toy.bundle(city, bundle.path, fold=1)
        assert again.weights_digest == saved.weights_digest
        assert (again.path / FACTS_FILE).read_bytes() == (saved.path / FACTS_FILE).read_bytes()


class TestDamagedFacts:
    def test_there_is_none(self, tmp_path):
        _refused(lambda: load_bundle(tmp_path / "nowhere"), "no model bundle at '.*nowhere'")

    def test_a_file_lies_there(self, tmp_path):
        (tmp_path / "file").write_text("")
        _refused(lambda: load_bundle(tmp_path / "file"), "file.*cannot be read")

    @pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe\x00", b"[1, 2]", b'"text"'])
    def test_the_facts_are_no_json_object(self, bundle, content):
        (bundle.path / FACTS_FILE).write_bytes(content)
        _refused(lambda: load_bundle(bundle.path), re.escape(str(bundle.path)))

    def test_a_newer_format(self, bundle):
        _facts(bundle, format_version=99)
        _refused(lambda: load_bundle(bundle.path), "newer than this version of quadrat")

    @pytest.mark.parametrize(
        "change",
        [{"format_version": "one"}, {"sample": {}}, {"sample": None}, {"colour": "red"}],
        ids=str,
    )
    def test_a_field_is_wrong(self, bundle, change):
        _facts(bundle, **change)
        _refused(lambda: load_bundle(bundle.path), re.escape(str(bundle.path)))

    @pytest.mark.parametrize("field", ["sample", "window", "weights_digest", "packing"])
    def test_a_field_is_missing(self, bundle, field):
        data = json.loads((bundle.path / FACTS_FILE).read_text())
        del data[field]
        (bundle.path / FACTS_FILE).write_text(json.dumps(data))
        _refused(lambda: load_bundle(bundle.path), f"lacks something.*{field}")


class TestDamagedModel:
    def test_the_file_is_missing(self, bundle):
        (bundle.path / MODEL_FILE).unlink()
        _refused(load_bundle(bundle.path).model, "cannot be loaded")

    @pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
    def test_the_file_is_cut_short(self, bundle, share):
        content = (bundle.path / MODEL_FILE).read_bytes()
        (bundle.path / MODEL_FILE).write_bytes(content[: int(share * len(content))])
        _refused(load_bundle(bundle.path).model, "cannot be loaded")

    def test_a_flipped_byte_is_an_error_or_changes_nothing(self, city, bundle):
        chips = _chips(city)
        expected = np.asarray(bundle.model().predict_on_batch(chips)).tobytes()
        content = (bundle.path / MODEL_FILE).read_bytes()
        refusals = []
        for place in np.linspace(40, len(content) - 40, 30).astype(int):
            damaged = bytearray(content)
            damaged[place] ^= 0xFF
            (bundle.path / MODEL_FILE).write_bytes(bytes(damaged))
            try:
                found = np.asarray(bundle.model().predict_on_batch(chips)).tobytes()
            except BundleError as error:
                refusals.append(str(error))
            else:
                assert found == expected
        assert len(refusals) > 10
        assert not any("\n" in refusal for refusal in refusals)

    def test_the_weights_of_another_model_are_refused(self, city, bundle, tmp_path):
        other = toy.bundle(city, tmp_path / "other", seed=9)
        (bundle.path / MODEL_FILE).write_bytes((other.path / MODEL_FILE).read_bytes())
        _refused(load_bundle(bundle.path).model, "other weights")

    def test_no_foreign_code_runs(self, bundle, tmp_path):
        chips = keras.Input((8, 8, 2), name="predictors")
        ran = str(tmp_path / "ran")
        foreign = keras.layers.Lambda(lambda x, ran=ran: (open(ran, "w").close(), x)[1])
        keras.Model({"predictors": chips}, foreign(chips)).save(bundle.path / MODEL_FILE)
        Path(ran).unlink()
        _refused(load_bundle(bundle.path).model, "cannot be loaded.*Lambda")
        assert not Path(ran).exists()

    def test_a_class_of_another_module_is_not_imported(self, bundle, tmp_path, monkeypatch):
        (tmp_path / "evil_layers.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        monkeypatch.syspath_prepend(tmp_path)
        path = bundle.path / MODEL_FILE
        with zipfile.ZipFile(path) as old:
            parts = {name: old.read(name) for name in old.namelist()}
        config = parts["config.json"].decode()
        assert "training.layers" in config
        parts["config.json"] = (
            config.replace("training.layers", "evil_layers").replace("quadrat>", "evil>").encode()
        )
        with zipfile.ZipFile(path, "w") as new:
            for name, content in parts.items():
                new.writestr(name, content)
        _refused(load_bundle(bundle.path).model, "cannot be loaded")
        assert not (tmp_path / "ran").exists()

    def test_a_folder_that_cannot_be_written_is_one_line(self, city, tmp_path):
        (tmp_path / "file").write_text("")
        _refused(lambda: toy.bundle(city, tmp_path / "file" / "model"), "Cannot save the model in")


class TestCheck:
    def test_the_cube_it_was_trained_on_fits(self, city, saved):
        saved.check(city.spec)

    def test_a_cube_with_more_layers_fits(self, city, saved):
        saved.check(city.spec.with_variables(cube.LayerSpec(name="more", dtype="float32")))

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"nodata": 255}, "nodata=0; the cube has nodata=255"),
            ({"dtype": "int16", "nodata": 0}, "dtype=uint8; the cube has dtype=int16"),
            ({"scale": 0.5, "offset": 2.0}, "scale=1.0, offset=0.0; .* scale=0.5, offset=2.0"),
        ],
    )
    def test_a_cube_with_another_packing_is_refused(self, city, saved, change, match):
        stacks = tuple(
            replace(s, **change) if s.name == "predictors" else s for s in city.spec.stacks
        )
        _refused(
            lambda: saved.check(replace(city.spec, stacks=stacks)), f"'predictors' with {match}"
        )

    @pytest.mark.parametrize(
        ("stacks", "match"),
        [(("predictors",), "no variable 'terrain'"), (("predictors", "terrain"), "no band red")],
    )
    def test_a_cube_that_lacks_something_is_refused(self, city, saved, stacks, match):
        kept = tuple(s for s in city.spec.stacks if s.name in stacks)
        if len(kept) == 2:
            kept = (replace(city.spec.stack("predictors"), bands=("blue", "green")), kept[1])
        _refused(
            lambda: saved.check(replace(city.spec, stacks=kept)),
            f"does not fit this cube: .*{match}",
        )
