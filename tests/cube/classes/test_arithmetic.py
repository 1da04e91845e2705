"""Classes made of classes: plain loops are the oracle, and nodata is never a class."""

from __future__ import annotations

import json
import math
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cube
from cube.classes.arithmetic import ClassExpression, Recode, check_codes, codes_of
from cube.classes.rasterising import ClassPolygons
from cube.errors import SourceError, SpecError
from cube.scenes import Scene, SceneBand, Source, needs_of
from tests.cube.geometry import frame_of, square
from tests.cube.sources import AROUND, Everywhere, Fixed, assert_same_in_any_box
from tests.rasters import grid_at, whole, write_tiff

GRID = grid_at((30, 37))
NAN = math.nan

few = settings(deadline=None, max_examples=40)


def row(*values):
    """A source of one band whose first row begins with these values, nodata elsewhere."""
    return Fixed(bands=("value",), values=np.array([[values]], "float32"))


def of(formula, **sources):
    """What a formula gives for single values."""
    count = len(next(iter(sources.values())))
    made = {name: row(*values) for name, values in sources.items()}
    return ClassExpression(formula, made).read(GRID, (0, 1), (0, count))[0, 0].tolist()


def same(found, expected):
    np.testing.assert_array_equal(found, expected)


class TestGlaciers:
    """Debris is what the inventory holds and the map of clean ice, codes 1 to 4, does not."""

    RGI = (0, 0, 1, 1, 1, 1, NAN, NAN)
    STEM = (1, 4, 1, 3, 4, NAN, 4, NAN)

    def test_nodata_of_either_is_nodata(self):
        found = of("where(rgi == 1, where(stem > 3, 2, 1), 0)", rgi=self.RGI, stem=self.STEM)
        same(found, [0, 0, 1, 1, 2, NAN, NAN, NAN])

    def test_the_map_may_be_unknown_where_the_formula_says_what_that_means(self):
        formula = "where(rgi == 1, where(first(stem, 0) > 3, 2, 1), 0)"
        same(of(formula, rgi=self.RGI, stem=self.STEM), [0, 0, 1, 1, 2, 1, NAN, NAN])

    def test_it_goes_from_files_and_polygons_to_a_layer(self, tmp_path):
        stem = np.random.default_rng(0).integers(1, 6, GRID.shape).astype("uint8")
        stem[10:12] = 255
        path = write_tiff(tmp_path / "stem.tif", stem, grid=GRID, nodata=255)
        band = SceneBand(name="stem", href=path)
        scene = Scene(id="stem", layers=(band,), crs="EPSG:32725", nodata=255)
        rgi = ClassPolygons(frame_of([square(3, 4, 20)], GRID), 1)
        source = ClassExpression(
            "where(rgi == 1, where(stem > 3, 2, 1), 0)", {"rgi": rgi, "stem": scene}
        )
        layer = cube.LayerSpec(
            name="glacier",
            dtype="uint8",
            nodata=255,
            classes=((0, "none"), (1, "debris"), (2, "clean ice")),
        )
        check_codes(source, layer)
        url = cube.create(
            tmp_path / "c.zarr",
            cube.CubeSpec(grid=GRID, calendar=cube.years(2000), layers=(layer,)),
        )
        cube.ingest(url, "glacier", {"2000": source})
        expected = np.zeros(GRID.shape, "uint8")
        expected[4:24, 3:23] = np.where(stem[4:24, 3:23] > 3, 2, 1)
        expected[stem == 255] = 255
        with cube.open(url) as dataset:
            same(dataset.glacier[0].to_numpy(), expected)


class TestExpression:
    @pytest.mark.parametrize(
        ("formula", "expected"),
        [
            ("a + 2 * b - 1", [3, 4, NAN]),
            ("-a", [-2, 1, NAN]),
            ("a < b", [1 - 1, 1, NAN]),
            ("a <= 2", [1, 1, NAN]),
            ("a >= 2", [1, 0, NAN]),
            ("a != b", [1, 1, NAN]),
            ("a in (2, 5)", [1, 0, NAN]),
            ("a not in (2, 5)", [0, 1, NAN]),
            ("a in (b, 2)", [1, 0, NAN]),
            ("a == 2 and b == 1", [1, 0, NAN]),
            ("a == 2 or b == 3", [1, 1, NAN]),
            ("not a == 2", [0, 1, NAN]),
            ("where(a, b, 9)", [1, 3, NAN]),
            ("where(a == 2, 7, 8)", [7, 8, NAN]),
            ("first(a, b)", [2, -1, 4]),
            ("first(a, b, 5)", [2, -1, 4]),
            ("first(a == 2, 0)", [1, 0, 0]),
            ("first(where(a == 2, 7, 8), b)", [7, 8, 4]),
            ("1 + 1", [2, 2, 2]),
        ],
    )
    def test_it_is_what_it_reads_like_and_nodata_spreads(self, formula, expected):
        values = {"a": (2, -1, NAN), "b": (1, 3, 4)}
        sources = {name: row(*values[name]) for name in _names(formula)}
        found = ClassExpression(formula, sources).read(GRID, (0, 1), (0, 3))[0, 0]
        same(found, expected)

    @few
    @given(
        st.lists(st.tuples(*[st.sampled_from([0.0, 1.0, 2.0, NAN])] * 3), min_size=1, max_size=20)
    )
    def test_it_equals_a_plain_loop(self, pixels):
        def loop(a, b, c):
            if math.isnan(a) or math.isnan(b):
                return NAN
            chosen = 0 if math.isnan(c) else c
            return a if a > b and chosen in (0, 2) else b + 1

        a, b, c = zip(*pixels, strict=True)
        found = of("where(a > b and first(c, 0) in (0, 2), a, b + 1)", a=a, b=b, c=c)
        same(found, [loop(*pixel) for pixel in pixels])

    def test_any_box_gives_the_same_bits(self):
        lower = Everywhere(bands=("x",), value=lambda r, c: (r * 7 + c) % 4)
        upper = Everywhere(bands=("x",), value=lambda r, c: np.where((r + c) % 3, np.nan, 5))
        source = ClassExpression("first(upper, lower)", {"upper": upper, "lower": lower})
        assert isinstance(source, Source)
        # Codes of these sources are not known, so that float32 might round them.
        assert source.read(GRID, *AROUND).dtype == "float64"
        found = assert_same_in_any_box(Recode(source, {5: 4}, otherwise=1), GRID)
        assert set(np.unique(found)) == {1, 4}

    def test_it_pickles_and_describes_itself_in_json(self):
        sources = {"b": row(1, 2), "a": row(0, 1)}
        source = ClassExpression("where(a==1,b,  0)", sources)
        assert source.describe() == json.loads(json.dumps(source.describe()))
        assert source.describe()["class_expression"] == "where(a == 1, b, 0)"
        turned = ClassExpression("where(a == 1, b, 0)", dict(sorted(sources.items())))
        assert json.dumps(turned.describe()) == json.dumps(source.describe())
        again = pickle.loads(pickle.dumps(source))
        same(again.read(GRID, *whole(GRID)), source.read(GRID, *whole(GRID)))
        assert needs_of(source, GRID, *whole(GRID)).peak_bytes > 0

    def test_it_checks_its_sources(self):
        a, b = row(1), row(2)
        source = ClassExpression("a + b", {"a": a, "b": b})
        source.check(GRID)
        assert [a.checked, b.checked] == [[GRID], [GRID]]

    def test_what_is_no_whole_number_is_no_class(self):
        with pytest.raises(
            SourceError, match=r"^Classes are whole numbers. 'a' gives 0.5; compare"
        ):
            of("a", a=(1, 0.5, NAN))

    @pytest.mark.parametrize(
        "formula",
        [
            "a / 2",
            "a ** 2",
            "a[0]",
            "a.shape",
            "abs(a)",
            "where(a, 1)",
            "where(a, 1, otherwise=2)",
            "first()",
            "first(*a)",
            "a < 1 < 2",
            "a in 2",
            "a in ()",
            "a is 2",
            "True",
            "'1'",
            "1j",
            "1e999",
            "10**9",
            "~a",
            "lambda: a",
            "(a, 2)",
            "a if a else 2",
            "[b for b in a]",
            "__import__('os')",
            "(lambda: 1)()",
        ],
    )
    def test_anything_else_is_refused_when_it_is_made(self, formula):
        names = {"a", "b"} & _names(formula)
        sources = {name: row(1) for name in names}
        with pytest.raises(SpecError, match=r"^A class expression holds numbers, names of sources"):
            ClassExpression(formula, sources)

    @pytest.mark.parametrize("formula", ["", "a +", "a = 2", "a; a", "import os"])
    def test_what_is_no_expression_is_refused(self, formula):
        with pytest.raises(SpecError, match=re.escape(f"Received {formula!r}, which is none.")):
            ClassExpression(formula, {"a": row(1)})

    @pytest.mark.parametrize("names", ["a", "abc", "ac"])
    def test_a_source_too_many_or_too_few_is_refused(self, names):
        with pytest.raises(SpecError, match="^The formula names the sources a, b. Received"):
            ClassExpression("a + b", {name: row(1) for name in names})

    def test_a_source_of_several_bands_is_refused(self):
        two = Fixed(bands=("x", "y"), values=np.zeros((2, 3, 3)))
        with pytest.raises(SpecError, match="^'a' takes a source of one band. It gives x, y; sel"):
            ClassExpression("a", {"a": two})
        with pytest.raises(SpecError, match="^Recode takes a source of one band. It gives x, y"):
            Recode(two, {1: 2})


def _names(formula):
    return set(re.findall(r"\b[ab]\b", formula))


class TestRecode:
    VALUES = (11, 21, 22, 31, NAN)

    def read(self, codes, **options):
        return Recode(row(*self.VALUES), codes, **options).read(GRID, (0, 1), (0, 5))[0, 0]

    def test_nodata_stays_nodata_and_others_as_they_are_said(self):
        codes = {11: 1, 21: 2, 22: 2}
        same(self.read(codes, otherwise=0), [1, 2, 2, 0, NAN])
        same(self.read(codes, otherwise=None), [1, 2, 2, NAN, NAN])
        same(self.read(codes, otherwise="keep"), [1, 2, 2, 31, NAN])
        same(self.read({**codes, 31: None}), [1, 2, 2, NAN, NAN])

    def test_nodata_becomes_a_class_on_purpose_alone(self):
        same(self.read({11: None}, otherwise=5, missing=7), [NAN, 5, 5, 5, 7])

    def test_codes_may_change_places(self):
        same(self.read({11: 21, 21: 11}, otherwise="keep"), [21, 11, 22, 31, NAN])

    def test_what_is_not_listed_is_refused_by_name(self):
        message = "^Recode has no code for 22, 31, found in 2 pixels; list it, or say otherwise="
        with pytest.raises(SourceError, match=message):
            self.read({11: 1, 21: 2})

    def test_what_is_kept_must_be_whole(self):
        with pytest.raises(SourceError, match="^Classes are whole numbers. Recode gives 0.5"):
            Recode(row(0.5), {1: 2}, otherwise="keep").read(GRID, (0, 1), (0, 1))

    @pytest.mark.parametrize("options", [{"otherwise": 1.5}, {"missing": NAN}, {"otherwise": True}])
    def test_nodata_and_fractions_are_no_codes(self, options):
        with pytest.raises(SpecError, match="^A class code is a whole number"):
            Recode(row(1), {1: 2}, **options)
        with pytest.raises(SpecError, match="^A class code is a whole number"):
            Recode(row(1), {1: NAN})

    def test_an_unknown_way_is_refused(self):
        with pytest.raises(
            SpecError, match="^otherwise must be a class code, None for nodata, 'ke"
        ):
            Recode(row(1), {1: 2}, otherwise="drop")

    def test_it_pickles_and_describes_itself_in_json(self):
        source = Recode(row(1, 2), {2: 1, 1: 2})
        assert isinstance(source, Source)
        assert source.describe() == json.loads(json.dumps(source.describe()))
        assert source.describe() == Recode(row(1, 2), {1: 2, 2: 1}).describe()
        assert source.describe() != Recode(row(1, 2), {1: 2, 2: 1}, missing=3).describe()
        again = pickle.loads(pickle.dumps(source))
        same(again.read(GRID, *whole(GRID)), source.read(GRID, *whole(GRID)))
        assert needs_of(source, GRID, *whole(GRID)).peak_bytes > 0


class TestCodes:
    POLYGONS = ClassPolygons(frame_of([square(2, 2, 6)], GRID), 1)

    @pytest.mark.parametrize(
        ("formula", "expected"),
        [
            ("a", (0, 1)),
            ("where(b > 3, 7, a)", (0, 1, 7)),
            ("where(b > 3, where(a == 1, 2, -3), 5)", (-3, 2, 5)),
            ("first(a, 9)", (0, 1, 9)),
            ("b > 3 and a == 1", (0, 1)),
            ("not b", (0, 1)),
            ("b", None),
            ("where(a, b, 1)", None),
            ("a + 1", None),
            ("where(a, 0.5, 1)", None),
        ],
    )
    def test_those_of_an_expression_are_known_before_it_is_read(self, formula, expected):
        sources = {"a": self.POLYGONS, "b": row(1)}
        used = {name: source for name, source in sources.items() if name in _names(formula)}
        assert ClassExpression(formula, used).codes == expected

    def test_those_of_a_recode_are_known_too(self):
        assert Recode(row(1), {1: 5, 2: None}).codes == (5,)
        assert Recode(row(1), {1: 5}, otherwise=3, missing=9).codes == (3, 5, 9)
        assert Recode(row(1), {1: 5}, otherwise="keep").codes is None
        assert Recode(self.POLYGONS, {1: 5}, otherwise="keep").codes == (0, 5)
        assert codes_of(row(1)) is None

    def layer(self, *codes, nodata=255):
        meanings = tuple((code, f"class {code}") for code in codes)
        return cube.LayerSpec(name="ice", dtype="uint8", nodata=nodata, classes=meanings)

    def test_those_that_a_layer_does_not_declare_are_refused_before_anything_is_read(self):
        check_codes(self.POLYGONS, self.layer(0, 1, 2))
        check_codes(self.POLYGONS, self.layer())
        check_codes(row(1), self.layer(0, 1))
        with pytest.raises(
            SourceError, match="^Layer 'ice' declares the classes 1, 2. The source m"
        ):
            check_codes(self.POLYGONS, self.layer(1, 2))

    def test_a_class_that_the_layer_takes_for_nodata_is_refused(self):
        message = "^Layer 'ice' stores nodata as 1, which is also a class of the source, so that cl"
        with pytest.raises(SourceError, match=message):
            check_codes(self.POLYGONS, self.layer(nodata=1))


def test_codes_that_a_layer_does_not_declare_are_refused_before_anything_is_written(tmp_path):
    layer = cube.LayerSpec(
        name="glacier", dtype="uint8", static=True, nodata=255, classes=((0, "none"), (1, "ice"))
    )
    spec = cube.CubeSpec(grid=GRID, calendar=cube.years(2000), layers=(layer,))
    url = cube.create(tmp_path / "c.zarr", spec)
    polygons = frame_of([square(2, 2, 9), square(14, 14, 9)], GRID, kind=["debris", "ice"])
    source = ClassPolygons(polygons, {"debris": 1, "ice": 2}, column="kind")
    with pytest.raises(SourceError, match=r"Layer 'glacier' declares the classes 0, 1\. "):
        cube.ingest(url, "glacier", source)
    assert not cube.status(url).of("glacier").done
