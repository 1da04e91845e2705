"""A manifest is the same file for the same scenes, and gives the same scenes back."""

from __future__ import annotations

import gzip
import json
import math
import pickle
from dataclasses import FrozenInstanceError, fields, replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogs.manifest import FORMAT_VERSION, Manifest
from catalogs.signatures import without_signature
from cube.errors import CubeError, SourceError, SpecError
from cube.scenes import RESAMPLING, Scene, SceneBand
from cube.seasons import Season, two_years
from cube.spec import digest, years


def scene(name, time="2020-06-01T10:00:00Z", *, bands=("red", "nir"), **facts):
    layers = tuple(SceneBand(name=band, href=f"s3://b/{name}/{band}.tif") for band in bands)
    return Scene(
        **{"id": name, "layers": layers, "crs": "EPSG:32725", "nodata": 0.0}
        | facts
        | {"time": time}
    )


def manifest(*times, **facts):
    return Manifest(scenes=tuple(scene(f"s{i}", t) for i, t in enumerate(times)), **facts)


texts = st.text(min_size=1, max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
nodatas = st.one_of(st.none(), st.just(math.nan), st.just(math.inf), st.just(-math.inf), numbers)
spans = st.none() | st.tuples(numbers, numbers).filter(lambda span: span[0] < span[1])
layers = st.builds(
    SceneBand,
    name=texts,
    href=st.sampled_from(["/a b/c.tif", "https://h.example/a.tif?x=1&y", "s3://b/é.tif"]),
    index=st.integers(1, 20),
    nodata=st.just("scene") | nodatas,
    scale=st.none() | numbers.filter(bool),
    offset=st.none() | numbers,
    resampling=st.none() | st.sampled_from(RESAMPLING),
    valid_range=spans,
    clip=spans,
    units=st.sampled_from(["", "1", "K"]),
)
scenes = st.builds(
    Scene,
    id=texts,
    layers=st.lists(layers, min_size=1, max_size=4, unique_by=lambda layer: layer.name),
    crs=st.sampled_from(["EPSG:4326", 'PROJCRS["x"]']),
    nodata=nodatas,
    scale=numbers.filter(bool),
    offset=numbers,
    resampling=st.sampled_from(RESAMPLING),
    footprint=st.none() | st.tuples(numbers, numbers, numbers, numbers),
    time=st.none() | st.datetimes().map(lambda moment: moment.isoformat()),
    cloud_cover=st.none() | st.floats(0, 1),
    verdict=st.text(max_size=5),
    transform=st.none() | st.just((30.0, 0.0, 1.5, 0.0, -30.0, 2.0)),
)
manifests = st.builds(
    Manifest,
    scenes=st.lists(scenes, max_size=4, unique_by=lambda scene: scene.id),
    excluded=st.dictionaries(texts.map(lambda text: f"excluded {text}"), texts, max_size=3),
    title=st.text(max_size=8),
)


class TestManifest:
    def test_scenes_are_sorted_by_time_then_id(self):
        mixed = Manifest(
            scenes=(scene("b"), scene("z", "2019-01-01"), scene("a"), scene("none", None))
        )
        assert [s.id for s in mixed.scenes] == ["none", "z", "a", "b"]
        assert len(mixed) == 4

    @given(st.permutations([scene(f"s{i}", f"20{i % 3:02d}-01-01") for i in range(6)]))
    def test_the_order_that_scenes_come_in_decides_nothing(self, mixed):
        ordered = Manifest(scenes=tuple(sorted(mixed, key=lambda s: s.id)))
        assert Manifest(scenes=tuple(mixed)) == ordered
        assert Manifest(scenes=tuple(mixed)).digest == ordered.digest

    def test_ids_that_come_twice_are_refused_by_name(self):
        with pytest.raises(SpecError, match="must be unique. Received twice: 'a', 'b'. Leave one"):
            Manifest(scenes=(scene("a"), scene("b"), scene("b"), scene("a"), scene("c")))
        with pytest.raises(SpecError, match="Received twice: 'a'"):
            Manifest(scenes=(scene("a"),), excluded={"a": "clouds"})
        with pytest.raises(SpecError, match="'s4' and 3 more. Leave"):
            Manifest(scenes=tuple(scene(f"s{i}") for i in (*range(8), *range(8))))

    def test_it_is_frozen_and_pickles(self):
        one = manifest("2020-01-01", excluded={"x": "clouds"})
        with pytest.raises(FrozenInstanceError):
            one.title = "other"
        assert pickle.loads(pickle.dumps(one)) == one

    def test_its_repr_is_one_line(self):
        one = manifest("2019-01-01", "2020-06-01", title="Olinda", excluded={"x": "clouds"})
        assert repr(one) == (
            f"<Manifest 'Olinda': 2 scenes, 2019-01-01 to 2020-06-01, 1 excluded, {one.digest}>"
        )
        assert repr(Manifest()).startswith("<Manifest '': 0 scenes, ")


class TestDigest:
    @given(manifests)
    def test_it_is_that_of_the_whole_as_canonical_json(self, whole):
        assert whole.digest == digest(
            {
                "excluded": list(whole.excluded),
                "scenes": [scene.describe() for scene in whole.scenes],
            }
        )

    def test_moved_and_newly_signed_files_keep_it(self):
        old = Manifest(scenes=(scene("a", bands=("red",)),))
        layer = old.scenes[0].layers[0]
        for href in ("/home/x/red.tif", "https://h.example/red.tif?sig=1", "gs://c/d/red.tif"):
            moved = replace(old.scenes[0], layers=(replace(layer, href=href),))
            assert Manifest(scenes=(moved,)).digest == old.digest

    def test_title_and_reasons_are_not_in_it_but_exclusions_are(self):
        one = manifest("2020-01-01", "2020-02-01")
        assert replace(one, title="x").digest == one.digest
        without = one.exclude({"s1": "clouds"})
        assert without.digest != one.digest
        assert without.digest == one.exclude({"s1": "haze"}).digest
        assert without.digest != replace(without, excluded={}).digest


class TestFile:
    @given(manifests, st.sampled_from([".json", ".json.gz"]))
    def test_what_is_saved_is_loaded(self, tmp_path_factory, whole, ending):
        path = tmp_path_factory.mktemp("m") / f"m{ending}"
        whole.save(path)
        assert Manifest.load(path) == whole
        assert Manifest.load(path).digest == whole.digest

    @pytest.mark.parametrize("ending", [".json", ".json.gz"])
    def test_equal_manifests_are_equal_bytes_wherever_they_are_saved(self, tmp_path, ending):
        one, other = tmp_path / f"one{ending}", tmp_path / f"other{ending}"
        manifest("2020-01-01", "2019-01-01").save(one)
        Manifest.load(one).save(other)
        assert one.read_bytes() == other.read_bytes()
        Manifest.load(one).save(one)
        assert one.read_bytes() == other.read_bytes()
        assert sorted(p.name for p in tmp_path.iterdir()) == [one.name, other.name]

    def test_a_file_is_json_with_a_scene_a_line(self, tmp_path):
        manifest("2020-01-01", "2019-01-01", title="t").save(tmp_path / "m.json")
        text = (tmp_path / "m.json").read_text()
        data = json.loads(text)
        assert (data["format_version"], data["title"], len(data["scenes"])) == (1, "t", 2)
        assert len(text.splitlines()) == 4

    def test_a_file_that_somebody_laid_out_anew_is_read(self, tmp_path):
        one = manifest("2020-01-01", "2019-01-01", excluded={"x": "clouds"})
        one.save(tmp_path / "m.json")
        data = json.loads((tmp_path / "m.json").read_text())
        (tmp_path / "n.json").write_text(json.dumps(data, indent=2))
        (tmp_path / "o.json").write_text(json.dumps(data))
        assert Manifest.load(tmp_path / "n.json") == one == Manifest.load(tmp_path / "o.json")

    def test_every_field_of_a_scene_and_of_a_band_comes_back(self, tmp_path):
        layer = SceneBand(
            name="red", href="a.tif", index=3, nodata=math.nan, scale=2.0, offset=1.0,
            resampling="cubic", valid_range=(1.0, 2.0), clip=(0.0, 1.0), units="K",
        )  # fmt: skip
        whole = Scene(
            id="a", layers=(layer,), crs="EPSG:4326", nodata=-1.0, scale=3.0, offset=2.0,
            resampling="mode", footprint=(1.0, 2.0, 3.0, 4.0), time="2020-01-01T00:00:00Z",
            cloud_cover=0.25, verdict="consistent",
            transform=(30.0, 0.0, 1.0, 0.0, -30.0, 2.0),
        )  # fmt: skip
        for spec in (layer, whole):
            for known in fields(spec):
                assert getattr(spec, known.name) != known.default, "add new fields to this test"
        Manifest(scenes=(whole,)).save(tmp_path / "m.json")
        assert Manifest.load(tmp_path / "m.json").scenes == (whole,)

    def test_equal_values_of_many_scenes_are_one_object(self, tmp_path):
        manifest(*["2020-01-01"] * 3).save(tmp_path / "m.json")
        loaded = Manifest.load(tmp_path / "m.json")
        assert len({id(s.crs) for s in loaded.scenes}) == 1
        assert len({id(layer.name) for s in loaded.scenes for layer in s.layers}) == 2

    def test_signatures_are_not_saved(self, tmp_path):
        href = "https://h.example/a.tif?sig=SECRET&se=2030&keep=1"
        layers = (SceneBand(name="red", href=href),)
        Manifest(scenes=(scene("a", layers=layers),)).save(tmp_path / "m.json")
        assert "SECRET" not in (tmp_path / "m.json").read_text()
        loaded = Manifest.load(tmp_path / "m.json")
        assert loaded.scenes[0].layers[0].href == "https://h.example/a.tif?keep=1"

    def test_a_file_that_could_not_be_replaced_is_left_as_it_was(self, tmp_path):
        path = tmp_path / "m.json"
        manifest("2020-01-01").save(path)
        before = path.read_bytes()
        broken = Manifest(scenes=(scene("b", footprint=(object(),) * 4),))
        with pytest.raises(TypeError):
            broken.save(path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]


class TestRefusedFiles:
    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ("", "is no manifest: JSONDecodeError"),
            ("[]", "is no manifest: "),
            ("{}", "is no manifest: KeyError 'scenes'"),
            ('{"scenes":[]}', "has format None; this version reads up to 1. Install a newer"),
            ('{"format_version":2,"scenes":[]}', "has format 2; this version reads up to 1"),
            ('{"format_version":1,"excluded":{},"title":"","scenes":[{"id":"a"}]}', "'layers'"),
            ('{"format_version":1,"excluded":{},"scenes":[]}', "is no manifest: KeyError 'title'"),
            (
                '{"format_version":1,"excluded":[],"title":"","through":"rasterio","scenes":[]}',
                "is no manifest: Attr",
            ),
        ],
    )
    def test_what_is_no_manifest_is_refused_in_one_line(self, tmp_path, text, match):
        (tmp_path / "m.json").write_text(text)
        with pytest.raises(SourceError, match=match) as caught:
            Manifest.load(tmp_path / "m.json")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "change", [{"colour": "red"}, {"nodata": "none"}, {"scale": "x"}, {"layers": 5}]
    )
    def test_a_scene_with_impossible_fields_is_refused(self, tmp_path, change):
        manifest("2020-01-01").save(tmp_path / "m.json")
        data = json.loads((tmp_path / "m.json").read_text())
        data["scenes"][0] |= change
        (tmp_path / "m.json").write_text(json.dumps(data))
        with pytest.raises(SourceError, match="is no manifest"):
            Manifest.load(tmp_path / "m.json")

    def test_a_truncated_file_is_refused(self, tmp_path):
        path = tmp_path / "m.json"
        manifest("2020-01-01", "2021-01-01").save(path)
        whole = path.read_bytes()
        for length in range(0, len(whole) - 3, 7):
            path.write_bytes(whole[:length])
            with pytest.raises(SourceError, match="is no manifest"):
                Manifest.load(path)

    def test_a_damaged_archive_is_refused(self, tmp_path):
        path = tmp_path / "m.json.gz"
        manifest("2020-01-01").save(path)
        whole = path.read_bytes()
        for length in range(1, len(whole), 9):
            path.write_bytes(whole[:length])
            with pytest.raises(SourceError, match="is no manifest|cannot be read"):
                Manifest.load(path)
        for place in range(10, len(whole), 9):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            with pytest.raises(CubeError):
                Manifest.load(path)
        path.write_bytes(b"no archive")
        with pytest.raises(SourceError, match="cannot be read"):
            Manifest.load(path)

    def test_a_missing_file_and_another_ending_are_refused(self, tmp_path):
        with pytest.raises(SourceError, match="m.json' cannot be read: .*No such file"):
            Manifest.load(tmp_path / "m.json")
        with pytest.raises(SourceError, match="cannot be written: .*No such file"):
            Manifest().save(tmp_path / "gone" / "m.json")
        for act in (Manifest().save, Manifest.load):
            with pytest.raises(SourceError, match="a .json or a .json.gz file. Received 'm.csv'"):
                act("m.csv")

    def test_a_file_says_its_format(self, tmp_path):
        Manifest().save(tmp_path / "m.json.gz")
        data = json.loads(gzip.decompress((tmp_path / "m.json.gz").read_bytes()))
        assert data["format_version"] == FORMAT_VERSION


class TestChoosing:
    def test_an_excluded_scene_is_listed_with_its_reason(self):
        one = manifest("2020-01-01", "2020-02-01").exclude({"s0": "clouds"})
        assert [s.id for s in one.scenes] == ["s1"]
        assert one.exclude({"s0": "haze"}).excluded == {"s0": "haze"}

    def test_an_unknown_id_is_refused_with_those_like_it(self):
        with pytest.raises(SpecError, match="no scene 'S2A_x'. Did you mean S2A_1, S2B_1\\?"):
            Manifest(scenes=(scene("S2A_1"), scene("S2B_1"), scene("L"))).exclude({"S2A_x": "x"})
        with pytest.raises(SpecError, match="no scene 'qqq'. None is like it."):
            manifest("2020-01-01").exclude({"qqq": "x"})

    def test_between_is_half_open(self):
        one = manifest("2019-12-31T23:59:59Z", "2020-01-01", "2020-06-01", "2020-12-31T23:59:59Z",
                       "2021-01-01")  # fmt: skip
        assert [s.id for s in one.between("2020-01-01", "2021-01-01").scenes] == ["s1", "s2", "s3"]
        assert len(one.between("2020-06-01T00:00:00Z", "2020-06-01T00:00:01Z")) == 1
        assert len(one.between("2020-06-01T02:00:00+02:00", "2020-06-02")) == 1
        assert len(one.between("2022-01-01", "2020-01-01")) == 0
        with pytest.raises(SpecError, match="Start: time must be ISO 8601"):
            one.between("soon", "2020-01-01")

    def test_scenes_without_a_time_are_in_no_span_and_no_season(self):
        one = manifest(None, "2020-06-01")
        assert [s.id for s in one.between("1000-01-01", "2999-01-01").scenes] == ["s1"]
        assert [s.id for s in one.season(Season(first="01-01", last="12-31")).scenes] == ["s1"]

    def test_a_season_keeps_its_days_of_every_year(self):
        one = manifest("2019-01-01", "2019-12-01", "2020-02-01", "2020-07-01")
        winter = Season(first="11-15", last="03-15")
        assert [s.id for s in one.season(winter).scenes] == ["s0", "s1", "s2"]

    def test_bands_are_selected_in_order(self):
        one = manifest("2019-01-01").select(["nir"])
        assert one.scenes[0].bands == ("nir",)
        with pytest.raises(SpecError, match="Scene 's0' has no band 'blue'"):
            one.select(["blue"])


class TestSources:
    TIMES = ("2018-12-31T23:59:59Z", "2019-01-01", "2019-07-01", "2020-12-31T23:59:59Z",
             "2021-01-01")  # fmt: skip

    def ids(self, source):
        return [scene.id for scene in source.scenes]

    def test_each_period_has_its_scenes(self):
        found = manifest(*self.TIMES).sources(years(2018, 2019, 2020, 2021), bands=["nir"])
        assert {label: self.ids(source) for label, source in found.items()} == {
            "2018": ["s0"],
            "2019": ["s1", "s2"],
            "2020": ["s3"],
            "2021": ["s4"],
        }
        assert all(source.bands == ("nir",) for source in found.values())

    @given(st.lists(st.dates(), max_size=20))
    def test_spans_of_two_years_hold_what_a_plain_comparison_says(self, days):
        several = manifest(*(day.isoformat() for day in days), "2019-05-05", "2021-05-05")
        for period, source in zip(
            two_years(2020, 2022),
            several.sources(two_years(2020, 2022), bands=["nir"]).values(),
            strict=True,
        ):
            assert self.ids(source) == [
                s.id for s in several.scenes if period.start <= s.time < period.end
            ]

    def test_method_quality_and_reader_are_passed_on(self):
        from cube.quality import QualityClasses
        from cube.scenes import FileReader

        quality, reader = QualityClasses(band="red", keep=(1,)), FileReader()
        one = manifest("2019-01-01")
        source = one.sources(
            years(2019), bands=["nir"], method="mean", quality=quality, reader=reader
        )["2019"]
        assert (source.method, source.quality) == ("mean", quality)
        assert source.reader is reader

    def test_a_season_leaves_the_rest_of_the_year_out(self):
        dry = Season(first="05-01", last="08-30")
        found = manifest(*self.TIMES).sources(years(2019), bands=["nir"], season=dry)
        assert self.ids(found["2019"]) == ["s2"]

    def test_periods_without_scenes_are_refused_all_at_once(self):
        one = manifest("2019-01-01")
        with pytest.raises(
            SourceError, match="no scenes for '2018', '2020'. Give a calendar without them"
        ):
            one.sources(years(2018, 2019, 2020), bands=["nir"])
        with pytest.raises(SourceError, match="for '2019'. Give a calendar without it, or a lon"):
            one.sources(years(2019), bands=["nir"], season=Season())


class _Cells(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.cells, self.tags = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.cells.append("")

    def handle_data(self, data):
        self.cells[-1] += data


class TestHtml:
    def test_scenes_are_counted_by_year_and_month(self):
        text = manifest("2019-01-01", "2019-01-31", "2020-12-01", None)._repr_html_()
        cells = _Cells(text).cells
        assert "Manifest: 4 scenes, 1 without a time" in cells
        assert cells[cells.index("2019") :][:14] == ["2019", "2", *[""] * 11, "2"]
        assert cells[cells.index("2020") :][:14] == ["2020", *[""] * 11, "1", "1"]

    def test_everything_is_escaped(self):
        bad = "<script>alert('x')</script>"
        text = Manifest(title=bad, excluded={f"id {bad}": f"reason {bad}"})._repr_html_()
        page = _Cells(text)
        assert "script" not in page.tags
        assert f"id {bad}" in page.cells
        assert f"reason {bad}" in page.cells

    def test_a_long_list_of_exclusions_is_cut(self):
        text = Manifest(excluded={f"x{i:02d}": "clouds" for i in range(30)})._repr_html_()
        assert "30 excluded, the first 20" in text
        assert text.count("clouds") == 20


class TestSignatures:
    @pytest.mark.parametrize(
        ("href", "plain"),
        [
            ("https://h/a.tif?st=1&se=2&sp=rl&sv=3&sr=c&skoid=4&sktid=5&skt=6&ske=7&sks=b&skv=8"
             "&sig=x%3D", "https://h/a.tif"),
            ("https://h/a.tif?X-Amz-Algorithm=A&X-Amz-Security-Token=b&X-Amz-Signature=c&v=2",
             "https://h/a.tif?v=2"),
            ("https://h/a.tif?X-Goog-Signature=a&X-Goog-Date=b", "https://h/a.tif"),
            ("https://h/a.tif?AWSAccessKeyId=a&Expires=1&Signature=b", "https://h/a.tif"),
            ("https://h/a.tif?TOKEN=a&b=%20c", "https://h/a.tif?b=%20c"),
            ("https://h/a.tif?api_key=a&b=1", "https://h/a.tif?b=1"),
            ("https://h/a.tif?access_token=a", "https://h/a.tif"),
            ("https://h/a.tif?subscription-key=a", "https://h/a.tif"),
            ("https://h/a.tif?se=2&st=1", "https://h/a.tif?se=2&st=1"),
            ("https://h/a.tif?a=1&b", "https://h/a.tif?a=1&b"),
            ("https://h/a.tif", "https://h/a.tif"),
            ("/data/what?sig=x.tif", "/data/what?sig=x.tif"),
        ],
    )  # fmt: skip
    def test_only_what_signs_is_left_out(self, href, plain):
        assert without_signature(href) == plain
        assert without_signature(plain) == plain
