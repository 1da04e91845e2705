"""Spectral indices: the catalogue's formulas and nothing else, by name, the same in any box."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import spyndex
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.errors import SourceError
from cube.indices import COMMON_NAMES, Indices, compute
from cube.scenes import Source
from tests.cube.sources import Everywhere, Fixed, assert_same_in_any_box
from tests.rasters import grid_at, whole

GRID = grid_at((30, 37))
NAMES = ("blue", "green", "red", "nir", "swir1", "swir2")
RNG = np.random.default_rng(7)
IMAGE = RNG.uniform(0.01, 0.6, (6, 30, 37)).astype("float32")
SOURCE = Fixed(bands=NAMES, values=IMAGE)
B, G, R, N, S1, S2 = IMAGE.astype("float64")

BY_HAND = {
    "NDVI": (N - R) / (N + R),
    "NBR": (N - S2) / (N + S2),
    "NDSI": (G - S1) / (G + S1),
    "NDWI": (G - N) / (G + N),
    "NDBI": (S1 - N) / (S1 + N),
    "EVI": 2.5 * (N - R) / (N + 6 * R - 7.5 * B + 1),
    "SAVI": 2.0 * (N - R) / (N + R + 1.0),
    "MSAVI": (2 * N + 1 - np.sqrt((2 * N + 1) ** 2 - 8 * (N - R))) / 2,
}


def read(source, grid=GRID):
    return source.read(grid, *whole(grid))


reflectances = st.just(0.0) | st.floats(2**-20, 1, width=32)
"""Half of one of them is no number of fewer digits."""


class TestFormulas:
    def test_they_are_those_of_the_literature(self):
        found = read(Indices(SOURCE, tuple(BY_HAND)))
        assert found.dtype == "float32"
        for name, values in zip(BY_HAND, found, strict=True):
            np.testing.assert_allclose(values, BY_HAND[name], rtol=2e-6, atol=1e-7, err_msg=name)

    def test_the_whole_catalogue_equals_spyndex(self):
        """Every index whose constants have defaults, against spyndex's own evaluation."""
        values = RNG.uniform(0.05, 0.6, (60, 8))
        for name, index in spyndex.indices.items():
            params, at = {}, 0
            for letter in index.bands:
                if letter in spyndex.constants:
                    default = spyndex.constants[letter].default
                    params[letter] = np.float64(
                        RNG.uniform(400, 2000) if default is None else default
                    )
                else:
                    params[letter], at = values[at], at + 1
            with np.errstate(all="ignore"):
                expected = np.asarray(spyndex.computeIndex(name, params), "float64")
                expected = np.where(np.isfinite(expected.astype("float32")), expected, np.nan)
            found = compute(index.formula, params)
            np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=name)

    def test_constants_may_be_given(self):
        found = read(Indices(SOURCE, ("SAVI",), constants={"L": 0.5}))[0]
        np.testing.assert_allclose(found, 1.5 * (N - R) / (N + R + 0.5), rtol=2e-6, atol=1e-7)

    @settings(deadline=None, max_examples=50)
    @given(red=reflectances, nir=reflectances)
    def test_ndvi_turns_its_sign_with_its_bands_and_does_not_mind_a_scale(self, red, nir):
        def ndvi(r, n):
            source = Fixed(bands=("red", "nir"), values=np.array([[[r]], [[n]]], "float32"))
            return float(Indices(source, ("NDVI",)).read(GRID, (0, 1), (0, 1))[0, 0, 0])

        if red + nir == 0:
            assert np.isnan(ndvi(red, nir))
        else:
            assert -1 <= ndvi(red, nir) <= 1
            assert ndvi(red, nir) == -ndvi(nir, red)
            assert ndvi(red / 2, nir / 2) == pytest.approx(ndvi(red, nir), abs=1e-6)

    def test_what_has_no_finite_value_is_nan_without_a_warning(self):
        bands = np.array([[[0, np.nan, 0.5, 0, -3]], [[0, 0.5, np.nan, 0.5, 3]]], "float32")
        source = Fixed(bands=("red", "nir"), values=bands)
        found = Indices(source, ("NDVI", "SR", "RDVI")).read(GRID, (0, 1), (0, 5))
        np.testing.assert_array_equal(found[0, 0], np.float32([np.nan] * 3 + [1, np.nan]))
        np.testing.assert_array_equal(found[1, 0], np.float32([np.nan] * 4 + [-1]))
        np.testing.assert_allclose(found[2, 0], [np.nan] * 3 + [0.5**0.5, np.nan])

    @pytest.mark.parametrize(
        "formula", ["N / 0", "N * (1 / 0)", "N * (0 - 8) ** 0.5", "-1 / (N - N)"]
    )
    def test_numbers_divide_and_take_roots_as_arrays_do(self, formula):
        found = compute(formula, {"N": np.ones(2)})
        np.testing.assert_array_equal(found, np.float32([np.nan, np.nan]))

    def test_what_float32_cannot_hold_is_nan(self):
        assert np.isnan(compute("B * 1e30 ** 2", {"B": np.ones(2)})).all()


class TestSource:
    def test_bands_are_called_in_lower_case_in_the_order_asked_for(self):
        indices = Indices(SOURCE, ("NBR", "NDVI"))
        assert isinstance(indices, Source)
        assert indices.bands == ("nbr", "ndvi")
        other = Indices(SOURCE, ("NDVI", "NBR"))
        np.testing.assert_array_equal(read(indices), read(other)[::-1])

    def test_any_box_gives_the_same_to_the_bit(self):
        made = Everywhere(
            bands=NAMES, value=lambda row, col: 0.05 + (np.sin(row * 3 + col) + 1) / 20
        )
        assert_same_in_any_box(Indices(made, (*BY_HAND, "MCARI2", "OCVI")), GRID)
        assert made.boxes[1] == ((0, 5), (0, 7))

    def test_bands_are_found_by_name_and_not_by_place(self):
        turned = Fixed(bands=NAMES[::-1], values=IMAGE[::-1])
        np.testing.assert_array_equal(
            read(Indices(turned, ("EVI",))), read(Indices(SOURCE, ("EVI",)))
        )

    def test_bands_of_other_names_are_given_by_letter(self):
        source = Fixed(bands=("b4", "b5", "red"), values=IMAGE[2:5])
        found = read(Indices(source, ("NDVI",), {"R": "b4", "N": "b5"}))
        np.testing.assert_allclose(found[0], BY_HAND["NDVI"], rtol=2e-6, atol=1e-7)

    def test_the_description_holds_formulas_constants_and_the_bands_used(self):
        assert Indices(SOURCE, ("SAVI",)).describe() == {
            "indices": {"savi": "(1.0+L)*(N-R)/(N+R+L)"},
            "letters": {"N": "nir", "R": "red"},
            "constants": {"L": 1.0},
            "of": SOURCE.describe(),
        }

    def test_it_travels_with_its_formulas_and_checks_its_source(self, monkeypatch):
        packed = pickle.dumps(Indices(SOURCE, ("NDVI",)))
        expected = read(Indices(SOURCE, ("NDVI",)))
        monkeypatch.setattr(spyndex, "indices", {})
        indices = pickle.loads(packed)
        np.testing.assert_array_equal(read(indices), expected)
        indices.check(GRID)
        assert indices.of.checked[-1] is GRID

    def test_common_names_are_letters_of_the_catalogue(self):
        letters = {letter for index in spyndex.indices.values() for letter in index.bands}
        assert set(COMMON_NAMES) - letters <= {"T2", "WV"}
        assert not set(COMMON_NAMES) & {*spyndex.constants}
        assert len(set(COMMON_NAMES.values())) == len(COMMON_NAMES)


class TestRefusals:
    @pytest.mark.parametrize(
        ("names", "options", "match"),
        [
            (("NDVX",), {}, "no index 'NDVX'. Near it: .*NDVI"),
            (("ndvi",), {}, "no index 'ndvi'. Near it: NDVI"),
            (("__import__('os')",), {}, "no index .* See spyndex.indices for all"),
            ((), {}, "named, once each, upper and lower case alike. Received none"),
            (("NDVI", "NDVI"), {}, "Received NDVI, NDVI"),
            (("BAI", "BaI"), {}, "upper and lower case alike. Received BAI, BaI"),
            (
                ("NDREI",),
                {},
                r"NDREI needs the band 'rededge1' \(RE1\). The source has blue",
            ),
            (
                ("EVI",),
                {"letters": {"N": "b8", "B": "b2"}},
                r"EVI needs the band 'b2' \(B\), 'b8' \(N\). The source has .*letters=",
            ),
            (("kNDVI",), {}, r"kNDVI needs the band 'kNN' \(kNN\), 'kNR'"),
            (("NDVI",), {"letters": {"nir": "N"}}, "have the letters N, R. Received nir"),
            (("NDVI",), {"constants": {"L": 1}}, "have the constants none. Received L"),
            (("SAVI",), {"constants": {"M": 1}}, "have the constants L. Received M"),
            (("CIRE",), {"letters": {"RE1": "swir9"}}, r"'swir9' \(RE1\)"),
        ],
    )
    def test_what_the_catalogue_or_the_source_lacks(self, names, options, match):
        with pytest.raises(SourceError, match=match):
            Indices(SOURCE, names, **options)

    def test_a_constant_without_a_default_must_be_given(self):
        with pytest.raises(SourceError, match=r"lambda. \(.*no default; give it with"):
            Indices(SOURCE, ("DVIplus",))
        with pytest.raises(SourceError, match=r"PAR \(.* has no default.*constants={'PAR': ...}"):
            Indices(SOURCE, ("NIRvP",))
        found = read(Indices(SOURCE, ("NIRvP",), constants={"PAR": 2}))[0]
        np.testing.assert_allclose(found, 2 * N * BY_HAND["NDVI"], rtol=2e-6, atol=1e-7)

    @pytest.mark.parametrize(
        "formula",
        [
            "__import__('os').system('true')",
            "N.dtype",
            "N[0]",
            "(lambda: N)()",
            "N if N else N",
            "N // 2",
            "'N'",
            "1j * N",
            "True * N",
            "N @ N",
            "not N",
        ],
    )
    def test_only_arithmetic_is_understood(self, formula):
        with pytest.raises(SourceError, match="numbers, names and"):
            compute(formula, {"N": np.ones(3)})

    def test_broken_text_is_refused(self):
        with pytest.raises(SourceError, match=r"must be arithmetic. Received 'N \+'"):
            compute("N +", {"N": np.ones(3)})
