"""Predicates say of windows what a plain loop over their pixels and places says."""

from __future__ import annotations

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

import cube
from cube.errors import PolygonError, SpecError
from cube.windows import Windows
from tests import toy
from tests.training.index.conftest import COVER
from training.index import predicates
from training.index.indexing import index_chips
from training.index.predicates import (
    CentreIn,
    ClassShare,
    CoverageShare,
    DensityRank,
    LayerMean,
    Predicate,
)

WINDOWS = Windows(shape=toy.SHAPE, size=11, stride=9)


def asked(url, *wanted, sample=COVER):
    """Columns of predicates by window."""
    frame = index_chips(url, sample, WINDOWS, predicates=wanted).frame
    first = frame[frame["chip"] % len(sample.timings) == 0].reset_index(drop=True)
    repeated = first.loc[first.index.repeat(len(sample.timings))]
    for predicate in wanted:
        pd.testing.assert_series_equal(
            repeated[predicate.name].reset_index(drop=True), frame[predicate.name]
        )
    return first


def cut(raster):
    return [raster[y : y + 11, x : x + 11] for y, x in WINDOWS.origins()]


def means(raster):
    return [np.nanmean(w) if np.isfinite(w).any() else np.nan for w in cut(raster)]


class TestOfPixels:
    def test_the_mean_of_a_layer_is_over_what_was_observed(self, land):
        found = asked(land.url, LayerMean(layer="people"))["people_mean"]
        np.testing.assert_allclose(found, means(land.people.astype("float64")), rtol=1e-12)

    def test_the_share_of_classes_is_of_what_was_observed(self, land):
        found = asked(land.url, ClassShare(layer="cover", classes=[7, 2], time="2005"))
        cover = land.cover[1]
        expected = means(np.where(cover == 255, np.nan, np.isin(cover, [2, 7])))
        np.testing.assert_allclose(found["cover_2005_2_7_share"], expected, rtol=1e-12)

    def test_the_rank_is_the_share_that_lives_at_least_as_densely(self, land):
        found = asked(land.url, DensityRank(layer="people", name="popshare"))["popshare"]
        density = np.array(means(land.people.astype("float64")))
        amount = np.array([np.nansum(w, dtype="float64") for w in cut(land.people)])
        for place, own in enumerate(density):
            if own > 0:
                expected = amount[density >= own].sum() / amount.sum()
                assert found[place] == pytest.approx(expected, rel=1e-9)
            else:
                assert np.isnan(found[place]) if np.isnan(own) else found[place] > 1 - 1e-12
        assert found.max() <= 1

    def test_the_covered_share_is_that_of_the_area(self, city):
        found = asked(city.url, CoverageShare(coverage=city.coverage), sample=toy.SAMPLE)
        union = city.polygons.union_all()
        for row in found.itertuples():
            assert row.tracts_share == pytest.approx(
                row.geometry.intersection(union).area / row.geometry.area, abs=1e-6
            )

    def test_one_of_ones_own_is_a_mean_of_its_raster(self, land):
        @dataclass(frozen=True, slots=True, kw_only=True, eq=False)
        class Dense(Predicate):
            name: str = "dense"

            @property
            def needs(self):
                return (("people", None), ("predictors", "2000"))

            def raster(self, box):
                bright = box.values("predictors", "2000")[0] > 99
                return np.where(box.values("people") > 9, bright, np.nan)

        found = asked(land.url, Dense())["dense"]
        expected = np.where(land.people > 9, land.image[0, 0] > 99, np.nan)
        np.testing.assert_allclose(found, means(expected), rtol=1e-12)


class TestCentres:
    @pytest.mark.parametrize("at_once", [7, 1 << 16])
    def test_a_window_gets_the_column_of_the_first_polygon_at_its_centre(
        self, city, at_once, monkeypatch
    ):
        monkeypatch.setattr(predicates, "AT_ONCE", at_once)
        polygons = city.polygons.iloc[9:].reset_index(drop=True)
        polygons = polygons.assign(number=range(len(polygons)))
        polygons.geometry = polygons.buffer(60)  # so that they overlap
        wanted = [
            CentreIn(polygons=polygons.to_crs("EPSG:4674"), column="neighbourhood"),
            CentreIn(polygons=polygons.to_crs("EPSG:4674"), column="number"),
        ]
        found = asked(city.url, *wanted, sample=toy.SAMPLE)
        for row in found.itertuples():
            holds = np.flatnonzero(polygons.intersects(row.geometry.centroid))
            if len(holds):
                assert row.number == holds[0]
                name = polygons["neighbourhood"].iloc[holds[0]]
                assert row.neighbourhood == name or (pd.isna(name) and pd.isna(row.neighbourhood))
            else:
                assert np.isnan(row.number)
                assert pd.isna(row.neighbourhood)
        assert found["number"].isna().any()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bad(Predicate):
    """Gives what it is told to give."""

    name: str = "bad"
    pixels: float = 0.0
    shape: tuple[int, ...] = toy.SHAPE
    windows: int = 0

    def raster(self, box):
        return np.full(self.shape, self.pixels)

    def by_window(self, found):
        return np.zeros(self.windows)


def test_classes_may_be_numbers_of_numpy():
    for classes in (np.int64(4), [np.uint8(4)], np.array([4, 4])):
        assert ClassShare(layer="cover", classes=classes, time="2000").classes == (4,)


class TestRefusals:
    @pytest.mark.parametrize(
        ("wanted", "match"),
        [
            (lambda: LayerMean(layer="income"), "no variable 'income'"),
            (lambda: LayerMean(layer="predictors", time="2000"), "is a stack of bands"),
            (lambda: LayerMean(layer="cover"), "'cover' varies with time; give time="),
            (lambda: LayerMean(layer="people", time="2000"), "no time dimension"),
            (lambda: ClassShare(layer="cover", classes=[3], time="2000"), "Received 3"),
            (lambda: ClassShare(layer="cover", classes=[], time="2000"), "Received none"),
            (lambda: ClassShare(layer="cover", classes=1.5, time="2000"), "Received 1.5"),
            (lambda: ClassShare(layer="cover", classes="roof", time="2000"), "Received 'roof'"),
            (lambda: "urban", "takes a list of predicates, .* Received 'urban' in it"),
            (lambda: ClassShare(layer="people", classes=1), "has the classes none. Received 1"),
            (lambda: Bad(pixels=np.inf), "finite numbers, or NaN, .* Received infinite ones"),
            (lambda: Bad(shape=(3, 4)), r"'bad' must give .* Received .* shape \(3, 4\)"),
            (lambda: Bad(windows=5), "a value for each of 132 windows. Received 5"),
            (lambda: Bad(name="my share"), "letters, digits and underscores. .*'my share'"),
            (Predicate, "names its column, .* Received ''"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_asked_is_refused(self, land, wanted, match):
        with pytest.raises(SpecError, match=match):
            index_chips(land.url, COVER, WINDOWS, predicates=[wanted()])

    def test_a_rank_of_less_than_nothing(self, tmp_path):
        spec = cube.CubeSpec(
            grid=toy.GRID, calendar=cube.years(2000),
            stacks=(cube.StackSpec(name="predictors", bands=("a",), dtype="uint8", nodata=0),),
            layers=(cube.LayerSpec(name="change", dtype="float32", static=True),),
            layout=cube.LayoutSpec(chunk=64, region=128),
        )  # fmt: skip
        url = cube.create(tmp_path / "change.zarr", spec)
        toy.write(url, "change", np.full(toy.SHAPE, -1, "float32"))
        sample = COVER.of({"predictors": ("a",)}, None, input_time="2000")
        with pytest.raises(
            SpecError, match="amounts, 0 or more. 'change' is negative in 132 windows"
        ):
            index_chips(url, sample, WINDOWS, predicates=[DensityRank(layer="change")])

    def test_a_coverage_of_another_grid(self, land, city, tmp_path):
        small = land.spec.grid[:50, :50]
        spec = cube.CubeSpec(
            grid=small, calendar=cube.years(2000),
            layers=(cube.LayerSpec(name="height", dtype="float32", static=True),),
            layout=cube.LayoutSpec(chunk=64, region=128),
        )  # fmt: skip
        url = cube.create(tmp_path / "small.zarr", spec)
        coverage = cube.coverage.build(url, "tracts", city.polygons)
        with pytest.raises(SpecError, match="'tracts' lies on another grid than the cube"):
            index_chips(land.url, COVER, WINDOWS, predicates=[CoverageShare(coverage=coverage)])

    def test_polygons_that_are_none(self):
        frame = gpd.GeoDataFrame({"a": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:31985")
        with pytest.raises(PolygonError, match="no column 'b'. There are: a, geometry"):
            CentreIn(polygons=frame, column="b")
        with pytest.raises(PolygonError, match="does not say its CRS"):
            CentreIn(polygons=frame.set_crs(None, allow_override=True), column="a")
