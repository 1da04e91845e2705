"""Panels as vector cubes: what is saved comes back to the bit, and other readers of CF open it."""

from __future__ import annotations

import itertools

import cf_xarray.geometry
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
import xvec  # noqa: F401  (the accessor)
from hypothesis import given, settings

import cube
from cube import metadata, store
from cube.blocks.members import as_text, with_geometry
from cube.blocks.vectors import open_blocks, remove_blocks, save_blocks
from cube.errors import PolygonError, SpecError, StoreError
from cube.polygons.geometries import polygons_of as from_lists
from cube.polygons.geometries import ring_lists
from tests.cube.geometry import frame_of, partition
from tests.cube.paneling import panel_of, panels, polygons_of, shapes, squares
from tests.rasters import UTM, grid_at

few = settings(deadline=None, max_examples=15)
_numbers = itertools.count()


def new_cube(url=None):
    spec = cube.CubeSpec(
        grid=grid_at((40, 50)),
        calendar=cube.years(2000, 2010),
        layers=(cube.LayerSpec(name="persons", dtype="float32"),),
        layout=cube.LayoutSpec(chunk=16, region=32, codec="none"),
    )
    return cube.create(url or f"memory://vectors{next(_numbers)}", spec)


@pytest.fixture(scope="module")
def url():
    return new_cube()


@pytest.fixture
def folder(tmp_path):
    return new_cube(str(tmp_path / "toy.zarr"))


@pytest.fixture
def panel():
    """Twelve blocks; one has a hole, one has two parts of which one has a hole."""
    drawn = partition((40, 50), points=12)
    ring = shapely.box(-20, -20, -10, -10).difference(shapely.box(-18, -18, -17, -17))
    drawn[0] = drawn[0].difference(drawn[0].centroid.buffer(0.5))
    drawn[1] = shapely.MultiPolygon([drawn[1], ring])
    codes = [f"{i:03}" for i in range(len(drawn))]
    found = panel_of(
        codes,
        covered_share=("block", np.linspace(0, 1, len(codes)), {"units": "1"}),
        land_majority=(
            "block",
            np.arange(len(codes)) % 3,
            {"flag_values": [0, 1, 2], "flag_meanings": "water forest built"},
        ),
    )
    found["persons_sum"][3, 1] = np.nan
    return with_geometry(found, frame_of(drawn, code=codes, rate=1.5), id="code", columns=["rate"])


def saved_and_opened(url, panel):
    save_blocks(url, "any", panel, overwrite=True)
    return open_blocks(url, "any")


def bits(array):
    """Values whose equality is that of all their bits."""
    values = array.to_numpy()
    if values.dtype.kind == "f":
        # NaN is nodata, whatever further bits it carries.
        values = np.where(np.isnan(values), values.dtype.type(np.nan), values)
    return values.tobytes() if values.dtype.kind in "fiubM" else values.tolist()


def corners(array):
    return [shapely.get_coordinates(s).tobytes() for s in array.to_numpy()]


class TestRoundTrip:
    @few
    @given(panel=panels())
    def test_any_panel_comes_back_to_the_bit(self, url, panel):
        found = saved_and_opened(url, panel)
        xr.testing.assert_identical(found, panel)
        for name in panel.variables:
            if name == "geometry":
                assert corners(found[name]) == corners(panel[name])
            else:
                assert bits(found[name]) == bits(panel[name]), name
                assert found[name].dtype == panel[name].dtype

    @few
    @given(panel=panels())
    def test_the_order_of_variables_stays(self, url, panel):
        found = saved_and_opened(url, panel)
        assert list(found.data_vars) == list(panel.data_vars)

    def test_a_negative_zero_stays_one_where_a_chunk_holds_nothing_else(self, url):
        panel = panel_of(["a", "b"], periods=(), zero=("block", np.array([-0.0, -0.0])))
        flat = [shapely.Polygon([(-0.0, -0.0), (0.0, 2.0), (2.0, 0.0)])] * 2
        panel = with_geometry(panel, polygons_of(flat, code=["a", "b"]), id="code")
        found = saved_and_opened(url, panel)
        assert np.signbit(found.zero).all()
        assert corners(found.geometry) == corners(panel.geometry)

    def test_a_multipolygon_of_one_part_comes_back_as_a_polygon(self, url):
        panel = panel_of([0])
        one = shapely.MultiPolygon([shapely.box(0, 0, 1, 1)])
        found = saved_and_opened(url, with_geometry(panel, polygons_of([one])))
        assert found.geometry.item() == shapely.box(0, 0, 1, 1)

    def test_numbers_that_fill_several_chunks_come_back(self, url, monkeypatch):
        monkeypatch.setattr("cube.blocks.vectors.CHUNK", 7)
        panel = panel_of([f"{i}" for i in range(50)])
        codes = panel.block.to_numpy()
        panel = with_geometry(panel, polygons_of(squares(50), code=codes), id="code")
        xr.testing.assert_identical(saved_and_opened(url, panel), panel)

    def test_chunks_hold_few_megabytes(self, url):
        count = 300_000
        saved_and_opened(url, panel_of(np.arange(count), periods=("1", "2", "3")[:0]))
        chunks = metadata.known(url).arrays["blocks/any/persons_sum"]["chunk_grid"]
        assert chunks["configuration"]["chunk_shape"] == [1 << 18]


class TestLists:
    @few
    @given(panel=panels())
    def test_polygons_become_lists_and_lists_polygons(self, panel):
        if "geometry" in panel.coords:
            drawn = panel.geometry.to_numpy()
            assert (from_lists(ring_lists(drawn)) == drawn).all()

    @few
    @given(shape=shapes())
    def test_the_lists_are_those_of_cf_xarray(self, shape):
        lists = ring_lists(np.array([shape, shapely.box(0, 0, 1, 1)], object))
        theirs = cf_xarray.geometry.shapely_to_cf(
            xr.DataArray(np.array([shape, shapely.box(0, 0, 1, 1)], object), dims="block")
        )
        np.testing.assert_array_equal(lists.nodes[:, 0], theirs.x)
        np.testing.assert_array_equal(lists.node_count, theirs.node_count)
        for name in ("part_node_count", "interior_ring"):
            if name in theirs:
                np.testing.assert_array_equal(getattr(lists, name), theirs[name])

    @pytest.mark.parametrize(
        ("shape", "message"),
        [
            (None, "1 of 2 geometries are missing or empty, the first in row 1."),
            (shapely.Polygon(), "1 of 2 geometries are missing or empty, the first in row 1."),
            (shapely.Point(1, 2), "1 of 2 geometries are not a polygon, the first in row 1."),
            (
                shapely.Polygon([(0, 0, 5), (1, 0, 5), (1, 1, 5)]),
                "1 of 2 geometries are with heights, which would be lost "
                "(shapely.force_2d drops them), the first in row 1.",
            ),
            (
                shapely.multipolygons([shapely.box(0, 0, 1, 1), shapely.Polygon()]),
                "A multipolygon has a part without corners; repair it first.",
            ),
        ],
    )
    def test_what_they_cannot_hold_is_refused(self, shape, message):
        with pytest.raises(PolygonError) as refused:
            ring_lists(np.array([shapely.box(0, 0, 1, 1), shape], object))
        assert str(refused.value) == message


class TestOtherReaders:
    def test_plain_xarray_opens_it_with_names_values_and_missing_ones(self, folder, panel):
        save_blocks(folder, "tracts", panel)
        with xr.open_zarr(folder, group="blocks/tracts") as found:
            assert found.block.to_numpy().tolist() == panel.block.to_numpy().tolist()
            assert found.period.to_numpy().tolist() == ["2000", "2010"]
            assert {"period", "rate"} <= set(found.coords)
            np.testing.assert_array_equal(found.time, panel.time)
            np.testing.assert_array_equal(found.persons_sum, panel.persons_sum)
            assert found.persons_sum.attrs["units"] == "persons"
            assert found.persons_sum.attrs["cell_methods"] == "area: sum"
            assert found.land_majority.attrs["flag_meanings"] == "water forest built"
            assert found.land_majority.dtype == "int64"
            assert "UTM zone 25S" in found.spatial_ref.attrs["crs_wkt"]

    @pytest.mark.parametrize("coords", [True, "all"])
    def test_cf_xarray_gives_the_polygons_back(self, folder, panel, coords):
        save_blocks(folder, "tracts", panel)
        with xr.open_zarr(folder, group="blocks/tracts", decode_coords=coords) as found:
            decoded = cf_xarray.geometry.decode_geometries(found.load())
        assert decoded.geometry.dims == ("block",)
        assert (decoded.geometry.to_numpy() == panel.geometry.to_numpy()).all()

    def test_xvec_gives_the_polygons_back(self, folder, panel):
        save_blocks(folder, "tracts", panel)
        with xr.open_zarr(folder, group="blocks/tracts") as found:
            decoded = found.load().xvec.decode_cf()
        assert (decoded.geometry.to_numpy() == panel.geometry.to_numpy()).all()

    def test_the_cube_opens_as_before_and_nothing_in_it_is_a_stray(self, folder, panel):
        save_blocks(folder, "tracts", panel)
        assert cube.verify(folder).sound
        with cube.open(folder) as found:
            assert set(found.data_vars) == {"persons"}

    def test_every_kind_of_store_keeps_it(self, store_url, panel):
        save_blocks(new_cube(store_url), "tracts", panel)
        xr.testing.assert_identical(open_blocks(store_url, "tracts"), panel)
        with xr.open_zarr(store.open_store(store_url), group="blocks/tracts") as found:
            np.testing.assert_array_equal(found.persons_sum, panel.persons_sum)


class TestSaving:
    def test_the_same_panel_again_changes_nothing(self, folder, panel, contents):
        save_blocks(folder, "tracts", panel)
        before = contents(folder)
        save_blocks(folder, "tracts", panel.copy(deep=True), overwrite=True)
        assert contents(folder) == before

    def test_the_same_panel_gives_the_same_bytes_in_two_cubes(self, tmp_path, panel, contents):
        for name in "ab":
            save_blocks(new_cube(str(tmp_path / name)), "tracts", panel)
        assert contents(tmp_path / "a") == contents(tmp_path / "b")

    @pytest.mark.parametrize("change", ["value", "attribute", "geometry", "id"])
    def test_another_panel_is_refused(self, url, panel, change):
        save_blocks(url, change, panel)
        other = panel.copy(deep=True)
        if change == "value":
            other["persons_sum"][0, 0] = 0.5
        elif change == "attribute":
            other["persons_sum"].attrs["units"] = "households"
        elif change == "geometry":
            other = other.drop_vars("geometry")
        else:
            other = other.assign_coords(block=[*panel.block.to_numpy()[:-1], "x"])
        with pytest.raises(StoreError, match=f"has another panel {change!r} .*overwrite=True"):
            save_blocks(url, change, other)
        xr.testing.assert_identical(open_blocks(url, change), panel)

    def test_overwriting_leaves_nothing_of_the_old_one(self, tmp_path, panel, contents):
        small = panel_of(["a", "b"], periods=())
        for name in "ab":
            folder = new_cube(str(tmp_path / name))
            if name == "a":
                save_blocks(folder, "tracts", panel)
            save_blocks(folder, "tracts", small, overwrite=True)
        assert contents(tmp_path / "a") == contents(tmp_path / "b")

    def test_a_replacement_that_is_cut_short_leaves_none_and_can_be_done_again(
        self, folder, panel, monkeypatch, killed
    ):
        save_blocks(folder, "tracts", panel)
        other = panel * 2
        with monkeypatch.context() as patch:
            patch.setattr("cube.template.put_arrays", killed)
            with pytest.raises(killed.error):
                save_blocks(folder, "tracts", other, overwrite=True)
        with pytest.raises(StoreError, match="has no panel 'tracts'. It has: none."):
            open_blocks(folder, "tracts")
        save_blocks(folder, "tracts", other)
        xr.testing.assert_identical(open_blocks(folder, "tracts"), other)

    def test_removing_takes_all_of_it_away(self, folder, panel, contents):
        save_blocks(folder, "kept", panel)
        before = contents(folder)
        save_blocks(folder, "tracts", panel)
        remove_blocks(folder, "tracts")
        assert contents(folder) == before
        with pytest.raises(StoreError, match="has no panel 'tracts'. It has: kept."):
            remove_blocks(folder, "tracts")

    def test_it_may_lie_beside_a_cube_that_cannot_be_written(
        self, folder, panel, contents, tmp_path
    ):
        before = contents(folder)
        place = save_blocks(folder, "tracts", panel, into=tmp_path / "beside.zarr")
        assert contents(folder) == before
        xr.testing.assert_identical(open_blocks(folder, "tracts", into=place), panel)
        xr.testing.assert_identical(open_blocks(place, "tracts"), panel)
        remove_blocks(folder, "tracts", into=place)
        with pytest.raises(StoreError, match="has no panel 'tracts'"):
            open_blocks(place, "tracts")


class TestRefusals:
    @pytest.mark.parametrize("name", ["Tracts", "", "a/b", "2000", "c"])
    def test_a_name_must_be_plain(self, url, panel, name):
        with pytest.raises(SpecError, match="A panel needs a lower_snake_case name. Received"):
            save_blocks(url, name, panel)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda p: p.rename(persons_sum="persons/sum"),
                "'persons/sum' cannot be the name of an array; rename it in the panel.",
            ),
            (
                lambda p: p.rename(persons_sum="node_count"),
                "'node_count' cannot be the name of an array; rename it in the panel.",
            ),
            (
                lambda p: p.assign(odd=("block", np.zeros(2, "complex128"))),
                "'odd' holds complex128; numbers, text or times were expected, convert it.",
            ),
            (
                lambda p: p.assign(late=("block", np.array(["NaT", "2000"], "datetime64[ns]"))),
                "'late' holds times that are missing, or no whole seconds.",
            ),
            (
                lambda p: p.assign_attrs(limit=np.inf),
                "An attribute of 'panel' is no text, number or list: Out of range float values "
                "are not JSON compliant: inf. Convert or remove it.",
            ),
            (
                lambda p: p.rename(block="tract"),
                "A panel is an xarray.Dataset with the dimension and coordinate 'block', as "
                "cube.aggregate makes it. Received one with the dimensions tract, time.",
            ),
            (
                lambda p: p.persons_sum,
                "A panel is an xarray.Dataset with the dimension and coordinate 'block', as "
                "cube.aggregate makes it. Received a DataArray.",
            ),
            (
                lambda p: p.assign_coords(time=[2000, 2010]),
                "The coordinate 'time' of a panel holds the starts of periods, datetime64. "
                "Received int64.",
            ),
        ],
    )
    def test_what_cannot_be_kept(self, url, change, message):
        before = set(metadata.known(url).arrays)
        with pytest.raises(SpecError) as refused:
            save_blocks(url, "refused", change(panel_of(["a", "b"])))
        assert str(refused.value).startswith(message[:60])
        assert set(metadata.known(url).arrays) == before

    @pytest.mark.parametrize(
        ("ids", "message"),
        [
            (["a", "a"], "Ids of blocks must be unique. 1 of 2 appear again, e.g. 'a'."),
            (
                ["a", None],
                "'block' must hold text, everywhere, or whole numbers. Received a missing value",
            ),
            ([0.5, 1.5], "'block' must hold text, everywhere, or whole numbers. Received 0.5"),
        ],
    )
    def test_ids_that_do_not_tell_blocks_apart(self, url, ids, message):
        with pytest.raises(PolygonError) as refused:
            save_blocks(url, "refused", panel_of(ids))
        assert str(refused.value).startswith(message)

    def test_text_that_is_no_unicode(self):
        with pytest.raises(PolygonError, match="'name' holds text that is no Unicode: surrogates"):
            as_text(np.array(["\ud800"], object), "name")

    def test_what_is_not_there_is_named(self, url):
        with pytest.raises(StoreError, match="has no panel 'nothing'. It has: "):
            open_blocks(url, "nothing")
        with pytest.raises(StoreError, match="There is no cube at"):
            open_blocks("memory://nowhere", "nothing")


class TestWithGeometry:
    POLYGONS = polygons_of(squares(3), code=["a", "b", "c"], rank=[3, 1, 2], name=["x", "y", None])

    def test_polygons_and_columns_become_coordinates(self):
        found = with_geometry(panel_of(["a", "b", "c"]), self.POLYGONS, id="code", columns=["rank"])
        assert (found.geometry.to_numpy() == self.POLYGONS.geometry.to_numpy()).all()
        assert found["rank"].dims == ("block",)
        assert found["rank"].to_numpy().tolist() == [3, 1, 2]
        assert found.geometry.attrs == {"crs": self.POLYGONS.crs.to_wkt()}

    def test_the_digest_tells_the_panels_own_polygons(self):
        from cube.polygons.reading import polygons_digest

        panel = panel_of(["a", "b", "c"]).assign_attrs(
            polygons_digest=polygons_digest(self.POLYGONS)
        )
        assert "geometry" in with_geometry(panel, self.POLYGONS).coords
        with pytest.raises(PolygonError, match="not the polygons that the panel was made with"):
            with_geometry(panel, self.POLYGONS.iloc[::-1])

    def test_numbers_of_rows_need_no_column_of_ids(self):
        assert "geometry" in with_geometry(panel_of(np.arange(3)), self.POLYGONS).coords

    @pytest.mark.parametrize(
        ("ids", "options", "message"),
        [
            (
                ["a", "b"],
                {"id": "code"},
                "One polygon a block was expected, 2. Received 3.",
            ),
            (
                ["a", "c", "b"],
                {"id": "code"},
                "Polygons must come in the order of the panel's blocks. In 2 rows they do not, "
                "the first is 1: block 'c', polygon 'b'. Bring them into it first, e.g. with "
                "GeoDataFrame.set_index and loc.",
            ),
            (
                ["a", "b", "c"],
                {},
                "Nothing tells which polygon is which block; name the column of their ids with "
                "id=.",
            ),
            (
                ["a", "b", "c"],
                {"id": "geoid"},
                "There is no column 'geoid'. There are: code, rank, name, geometry.",
            ),
            (
                ["a", "b", "c"],
                {"id": "code", "columns": ["persons"]},
                "There is no column 'persons'. There are: code, rank, name, geometry.",
            ),
            (
                ["a", "b", "c"],
                {"id": "code", "columns": ["name"]},
                "'name' must hold text, everywhere, or whole numbers. Received a missing value; "
                "fill what is missing, and convert the rest with astype(str).",
            ),
        ],
    )
    def test_polygons_that_do_not_fit(self, ids, options, message):
        with pytest.raises((PolygonError, SpecError)) as refused:
            with_geometry(panel_of(ids), self.POLYGONS, **options)
        assert str(refused.value) == message

    @pytest.mark.parametrize("dtype", ["int64", "Int32", "category", "int64[pyarrow]"])
    def test_ids_are_compared_as_the_text_that_coverages_keep(self, dtype):
        polygons = self.POLYGONS.assign(number=pd.array([7, 12, 3]).astype(dtype))
        for ids in (["7", "12", "3"], [7, 12, 3]):
            assert "geometry" in with_geometry(panel_of(ids), polygons, id="number").coords
        with pytest.raises(PolygonError, match="block '07', polygon '7'"):
            with_geometry(panel_of(["07", "12", "3"]), polygons, id="number")

    def test_polygons_must_say_their_crs(self):
        bare = self.POLYGONS.set_crs(None, allow_override=True)
        with pytest.raises(PolygonError, match="do not say their CRS"):
            with_geometry(panel_of(np.arange(3)), bare)

    def test_degrees_are_kept_as_degrees(self, url):
        panel = with_geometry(
            panel_of(np.arange(3)), self.POLYGONS.set_crs(4326, allow_override=True)
        )
        found = saved_and_opened(url, panel)
        assert found.geometry.attrs == panel.geometry.attrs
        attrs = metadata.known(url).arrays["blocks/any/node_x"]["attributes"]
        assert attrs["units"] == "degrees"
        assert UTM not in found.geometry.attrs["crs"]
