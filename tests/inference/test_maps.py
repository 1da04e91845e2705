"""What a map shows, read back from its pixels."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cube.errors import SpecError
from inference import maps
from inference.panels import DIVERGING, SEQUENTIAL, MapPanel, percentile_stretch

EXTENT = (0.0, 1000.0, 0.0, 1000.0)
WHOLE = shapely.box(0, 0, 1000, 1000)
GREY = (0xD9, 0xD9, 0xD9)


def _pixels(png):
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB"))


def _at(png, x, y, *, panel_inches=3.7, dpi=144):
    """Colour of a map's pixel by shares of its width and height from the lower left."""
    pixels = _pixels(png)
    left, top = maps._GAP / 2, maps._TITLE
    row = (top + (1 - y) * panel_inches) * dpi
    return tuple(pixels[round(row), round((left + x * panel_inches) * dpi)])


def _colour(name, share):
    return tuple(round(255 * part) for part in mpl.colormaps[name](share)[:3])


def _panel(**changes):
    return MapPanel(**{"title": "A map", "extent": EXTENT, "label": "m", **changes})


def _near(colour, expected):
    return max(abs(int(a) - int(b)) for a, b in zip(colour, expected, strict=True)) <= 2


class TestMapPanels:
    @pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
    def test_a_polygon_has_the_colour_of_its_value(self, share):
        panel = _panel(outlines=[WHOLE], values=[10 + share * 20], scale=(10, 30))
        assert _near(_at(maps.map_panels([panel]), 0.5, 0.5), _colour("viridis", share))

    def test_values_beyond_the_scale_have_its_end_colours(self):
        boxes = [shapely.box(0, 0, 500, 1000), shapely.box(500, 0, 1000, 1000)]
        png = maps.map_panels([_panel(outlines=boxes, values=[-9, 9], scale=(0, 1))])
        assert _near(_at(png, 0.25, 0.5), _colour("viridis", 0.0))
        assert _near(_at(png, 0.75, 0.5), _colour("viridis", 1.0))

    def test_a_logarithm_puts_the_geometric_mean_in_the_middle(self):
        image = np.array([[100.0]])
        png = maps.map_panels([_panel(image=image, scale=(1, 10_000), log=True)])
        assert _near(_at(png, 0.5, 0.5), _colour("viridis", 0.5))

    def test_zero_has_the_low_colour_of_a_logarithm_and_not_that_of_nodata(self):
        png = maps.map_panels([_panel(image=np.array([[0.0]]), scale=(1, 10), log=True)])
        assert _near(_at(png, 0.5, 0.5), _colour("viridis", 0.0))

    @pytest.mark.parametrize("number", [0, 1, 2])
    def test_a_class_has_one_colour_of_its_own(self, number):
        image = np.full((2, 2), float(number))
        png = maps.map_panels([_panel(image=image, classes=("wood", "field", "town"))])
        assert _near(_at(png, 0.5, 0.5), _colour("viridis", number / 2))

    def test_the_first_row_of_an_image_is_the_northernmost(self):
        png = maps.map_panels([_panel(image=np.array([[1.0], [0.0]]), scale=(0, 1))])
        assert _near(_at(png, 0.5, 0.75), _colour("viridis", 1.0))
        assert _near(_at(png, 0.5, 0.3), _colour("viridis", 0.0))

    def test_a_picture_is_drawn_in_its_own_colours(self):
        image = np.full((2, 2, 3), (200, 30, 90), dtype="uint8")
        assert _at(maps.map_panels([_panel(image=image)]), 0.5, 0.5) == (200, 30, 90)

    @pytest.mark.parametrize(
        "content",
        [
            {"image": np.full((2, 2), np.nan)},
            {"image": np.zeros((2, 2, 4), dtype="uint8")},
            {"outlines": [WHOLE], "values": [np.nan]},
        ],
    )
    def test_nodata_is_light_grey_and_the_map_says_so(self, content, monkeypatch):
        keys = []
        monkeypatch.setattr(maps, "_draw_nodata_key", keys.append)
        assert _at(maps.map_panels([_panel(**content)]), 0.5, 0.5) == GREY
        assert len(keys) == 1

    def test_a_map_without_nodata_has_no_key_for_it(self, monkeypatch):
        keys = []
        monkeypatch.setattr(maps, "_draw_nodata_key", keys.append)
        maps.map_panels([_panel(image=np.ones((2, 2)))])
        assert keys == []

    def test_the_hole_of_a_polygon_is_not_filled(self):
        ring = shapely.difference(WHOLE, shapely.box(300, 300, 700, 700))
        turned = shapely.Polygon(ring.exterior.coords[::-1], [ring.interiors[0].coords])
        for shape in (ring, turned, shapely.MultiPolygon([turned])):
            png = maps.map_panels([_panel(outlines=[shape], values=[1.0], scale=(0, 1))])
            assert _at(png, 0.5, 0.5) == (255, 255, 255)
            assert _near(_at(png, 0.5, 0.2), _colour("viridis", 1.0))

    @pytest.mark.parametrize(
        ("count", "columns", "table"),
        [(1, 3, (1, 1)), (3, 3, (3, 1)), (4, 3, (3, 2)), (2, 1, (1, 2))],
    )
    def test_panels_fill_rows_from_the_left(self, count, columns, table):
        png = maps.map_panels([_panel(image=np.ones((2, 2)))] * count, columns=columns, dpi=50)
        height, width = _pixels(png).shape[:2]
        assert (width // 194, height // 238) == table

    def test_a_tall_map_is_narrower_and_a_wide_one_lower(self):
        tall, wide = (
            _pixels(maps.map_panels([_panel(extent=extent, image=np.ones((2, 2)))], dpi=40)).shape
            for extent in ((0, 100, 0, 5000), (0, 5000, 0, 1000))
        )
        assert tall[0] < 1.8 * tall[1]
        assert wide[0] < wide[1]

    def test_the_same_panels_give_the_same_bytes(self):
        panels = [_panel(image=np.arange(12.0).reshape(3, 4)), _panel(outlines=[WHOLE])]
        assert maps.map_panels(panels, dpi=50) == maps.map_panels(panels, dpi=50)

    def test_a_dark_style_of_the_users_leaves_the_map_as_it_is(self):
        from matplotlib import style

        panel = _panel(image=np.array([[1.0, np.nan]]), outlines=[WHOLE])
        plain = maps.map_panels([panel], dpi=60)
        with style.context("dark_background"):
            styled = maps.map_panels([panel], dpi=60)
        np.testing.assert_allclose(_pixels(styled), _pixels(plain), atol=60)

    def test_an_outline_that_is_no_polygon_is_refused(self):
        panel = _panel(outlines=[WHOLE, shapely.Point(1, 1)])
        with pytest.raises(SpecError, match=r"must be polygons\. 1 are not, the first in row 1"):
            maps.map_panels([panel])

    @pytest.mark.parametrize("knob", [{"columns": 0}, {"dpi": 0}])
    def test_no_column_or_dot_is_refused(self, knob):
        with pytest.raises(SpecError, match="at least one panel, one column and one dot"):
            maps.map_panels([_panel(outlines=[WHOLE])], **knob)

    def test_no_panel_is_refused(self):
        with pytest.raises(SpecError, match="Received 0 panels"):
            maps.map_panels([])


class TestDrawing:
    def test_it_never_loads_pyplot_and_importing_it_loads_no_matplotlib(self):
        code = (
            "import sys, inference.maps as maps, inference.panels as panels, numpy as np\n"
            "import inference.baselines, inference.scores, inference.report\n"
            "print(any(name in sys.modules for name in ('matplotlib', 'sklearn')))\n"
            "maps.map_panels([panels.MapPanel(title='t', extent=(0, 1, 0, 1), image=np.eye(2))])\n"
            "maps.scatter_panel([1.0, 2.0], {'m': [1.0, 2.0]}, label='m')\n"
            "print('matplotlib.pyplot' in sys.modules)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert done.stdout.split() == ["False", "False"]

    @settings(deadline=None)
    @given(st.floats(1e-3, 1e9))
    def test_a_scale_bar_is_one_two_or_five_and_nearly_as_long_as_may_be(self, at_most):
        length = maps._round_length(at_most)
        assert at_most / 2.51 <= length <= at_most
        digits = length / 10 ** math.floor(math.log10(length) + 1e-9)
        assert min(abs(digits - step) for step in (1, 2, 5)) < 1e-6

    @pytest.mark.parametrize(
        ("value", "text"), [(20_000, "20,000"), (1e6, "1,000,000"), (0.05, "0.05"), (5, "5")]
    )
    def test_ticks_of_a_logarithm_are_plain_numbers(self, value, text):
        assert maps._plain_number(value) == text


class TestPanelArithmetic:
    def test_colours_go_from_the_2nd_to_the_98th_percentile(self):
        panel = _panel(image=np.append(np.arange(101.0), np.nan)[None])
        assert panel.limits == (2.0, 98.0)
        assert panel.beyond == (True, True)
        assert panel.has_nodata

    def test_a_given_scale_is_kept(self):
        panel = _panel(image=np.array([[1.0, 3.0]]), scale=(1, 2))
        assert panel.limits == (1, 2)
        assert panel.beyond == (False, True)

    @pytest.mark.parametrize("name", DIVERGING)
    def test_a_diverging_map_has_zero_in_its_middle(self, name):
        low, high = _panel(image=np.array([[-1.0, 7.0]]), colormap=name).limits
        assert low == -high
        assert high > 6

    def test_a_logarithm_takes_its_scale_from_positive_values(self):
        panel = _panel(image=np.array([[0.0, -4.0, 10.0, 1000.0]]), log=True)
        assert panel.limits[0] > 10
        assert panel.beyond == (True, True)

    @pytest.mark.parametrize("log", [True, False])
    @pytest.mark.parametrize("value", [3.0, np.nan])
    def test_a_constant_or_nothing_still_has_a_scale(self, value, log):
        low, high = _panel(image=np.full((2, 2), value), log=log).limits
        assert low < high
        assert low > 0 or not log

    def test_an_all_zero_error_map_has_a_scale(self):
        assert _panel(image=np.zeros((2, 2)), colormap="RdBu").limits == (-1.0, 1.0)

    def test_outlines_alone_have_no_colours_to_explain(self):
        panel = _panel(outlines=[WHOLE])
        assert panel.shown is None
        assert (panel.beyond, panel.has_nodata) == ((False, False), False)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"extent": (1, 0, 0, 1)}, "left < right"),
            ({"extent": (0, 1, 0, math.inf)}, "bottom < top"),
            ({"colormap": "jet"}, "colour-blind readers can use: viridis"),
            ({"scale": (2, 1)}, "low < high"),
            ({"scale": (0, 1), "log": True}, "low > 0 with log"),
            ({"colormap": "RdBu", "log": True}, "which has no logarithm"),
            ({"image": np.zeros((2, 2)), "log": True}, "a logarithm needs a positive value"),
            ({"classes": ("wood",)}, "with 1 classes, values must be 0 to 0"),
            ({"classes": ("wood", "town"), "scale": (0, 1)}, "without scale and log"),
            ({"image": np.array([[np.inf]])}, "must be finite, or NaN"),
            ({"image": np.zeros((2, 2), dtype=int)}, "image must be float"),
            ({"image": np.zeros((2, 2, 2), dtype="uint8")}, "image must be float"),
            ({"image": None}, "needs an image or outlines"),
            ({"outlines": [WHOLE], "values": [1.0]}, "one colour scale cannot show"),
            ({"image": None, "outlines": [WHOLE], "values": [1.0, 2.0]}, "one for each outline"),
            ({"image": None, "outlines": [WHOLE], "values": 1.0}, "one for each outline"),
            (
                {"image": np.zeros((2, 2, 3), dtype="uint8"), "values": [1.0]},
                "one for each outline",
            ),
        ],
    )
    def test_what_cannot_be_drawn_is_refused_at_birth(self, changes, message):
        with pytest.raises(SpecError, match=message):
            _panel(**{"image": np.ones((2, 2)), **changes})

    def test_every_colour_map_is_one_of_matplotlibs(self):
        assert all(name in mpl.colormaps for name in SEQUENTIAL + DIVERGING)


class TestScatterPanel:
    def test_a_panel_says_how_many_pairs_it_shows(self, monkeypatch):
        shown = []
        monkeypatch.setattr(maps, "_draw_scatter", lambda axis, a, b, limits: shown.append((a, b)))
        truth = np.array([1.0, np.nan, 3.0, 4.0])
        maps.scatter_panel(truth, {"m": [1.5, 2.0, np.nan, 4.5]}, label="m", dpi=40)
        np.testing.assert_array_equal(shown, [([1.0, 4.0], [1.5, 4.5])])

    @pytest.mark.parametrize("count", [50, 6000])
    def test_few_are_points_and_many_are_hexagons(self, count):
        rng = np.random.default_rng(0)
        truth = rng.normal(size=count)
        png = maps.scatter_panel(truth, {"m": truth + rng.normal(size=count)}, label="m", dpi=60)
        brightest = _colour("viridis", 1.0)
        hexagons = (np.abs(_pixels(png).astype(int) - brightest).max(axis=-1) < 6).any()
        assert hexagons == (count > 5000)

    def test_a_single_constant_pair_is_drawn(self):
        assert maps.scatter_panel([1.0], {"m": [1.0]}, label="m", dpi=40).startswith(b"\x89PNG")

    @pytest.mark.parametrize(
        ("predictions", "message"),
        [
            ({"m": [1.0]}, r"'m': truth and prediction must both be \(n,\)"),
            ({"m": [np.nan, np.nan]}, "'m': no place has both"),
            ({}, "Received 0 panels"),
        ],
    )
    def test_what_cannot_be_drawn_is_refused(self, predictions, message):
        with pytest.raises(SpecError, match=message):
            maps.scatter_panel([1.0, 2.0], predictions, label="m")


class TestPercentileStretch:
    @settings(deadline=None)
    @given(st.integers(0, 2**32 - 1), st.floats(0.5, 3.0))
    def test_brighter_pixels_stay_brighter(self, seed, gamma):
        rng = np.random.default_rng(seed)
        rgb = rng.gamma(2.0, 50.0, size=(3, 9, 7))
        picture = percentile_stretch(rgb, gamma=gamma)
        for band in range(3):
            order = np.argsort(rgb[band].ravel())
            assert (np.diff(picture[..., band].ravel()[order].astype(int)) >= 0).all()

    def test_the_ends_are_black_and_white_in_every_band(self):
        rgb = np.arange(300.0).reshape(3, 10, 10) ** 1.5
        picture = percentile_stretch(rgb, low=0.1, high=0.9)
        for band in range(3):
            assert (picture[..., band] == 0).mean() == pytest.approx(0.1, abs=0.011)
            assert (picture[..., band] == 255).mean() == pytest.approx(0.1, abs=0.011)

    def test_nodata_in_any_band_is_transparent_and_moves_no_other_pixel(self):
        rng = np.random.default_rng(0)
        rgb = rng.normal(size=(3, 8, 8))
        wide = np.concatenate([rgb, rng.normal(size=(3, 8, 2)) * 1e6], axis=2)
        wide[1, :, 8:] = np.nan
        picture = percentile_stretch(wide)
        assert (picture[:, 8:] == 0).all()
        np.testing.assert_array_equal(picture[:, :8], percentile_stretch(rgb))
        assert (picture[:, :8, 3] == 255).all()

    def test_a_constant_band_and_an_empty_scene_are_no_error(self):
        assert percentile_stretch(np.full((3, 2, 2), 7.0)).shape == (2, 2, 4)
        assert not percentile_stretch(np.full((3, 2, 2), np.nan)).any()

    def test_other_than_three_bands_first_are_refused(self):
        with pytest.raises(SpecError, match=r"rgb must be \(3, y, x\), red first"):
            percentile_stretch(np.ones((5, 5, 3)))

    @pytest.mark.parametrize("knob", [{"low": 2.0, "high": 98.0}, {"low": 0.9}, {"gamma": 0.0}])
    def test_percentiles_are_shares_and_gamma_is_positive(self, knob):
        with pytest.raises(SpecError, match="0 <= low < high <= 1, and gamma positive"):
            percentile_stretch(np.ones((3, 2, 2)), **{"high": 0.8, **knob})
