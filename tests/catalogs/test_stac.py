"""Items become scenes with what they say, or are refused with the item and the field."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys

import numpy as np
import pyproj
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from catalogs import api as api_module
from catalogs.access import Access
from catalogs.api import boxes_of
from catalogs.manifest import Manifest
from catalogs.profiles import (
    LANDSAT_C2_L2,
    SENTINEL2_L2A_EARTH_SEARCH,
    SENTINEL2_L2A_PLANETARY,
    Profile,
)
from catalogs.stac import read_items, scene_of, scenes_of, search
from cube.errors import CubeError, SourceError, SpecError, TransientError
from cube.spec import years
from tests import stac_server
from tests.rasters import grid_at, noise, whole, write_tiff

CRS = "EPSG:32725"
EXTENT = (280_000.0, 9_100_000.0, 310_000.0, 9_130_000.0)
SHAPE, TRANSFORM = [1000, 1000], [30.0, 0.0, EXTENT[0], 0.0, -30.0, EXTENT[3]]
DEGREES = pyproj.Transformer.from_crs(CRS, 4326, always_xy=True).transform_bounds(*EXTENT)

OPEN = Access(resolve=lambda host: ["93.184.216.34"])
PAIR = Profile(name="pair", bands={"red": "red", "flags": "qa"}, nodata={"*": 0, "flags": 1})


def box_ring(west, south, east, north):
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def item_of(name="a", *, properties=None, assets=None, **fields):
    """An item of STAC 1.0 with two assets; properties and assets that are None are left out."""
    said = {
        "datetime": "2020-06-01T10:30:00.123Z",
        "proj:epsg": 32725,
        "proj:shape": SHAPE,
        "proj:transform": TRANSFORM,
    } | (properties or {})
    known = {key: {"href": f"https://data.example.com/{name}/{key}.tif"} for key in ("red", "qa")}
    for key, more in (assets or {}).items():
        known[key] = {**known.get(key, {}), **more}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "pairs",
        "geometry": {"type": "Polygon", "coordinates": [box_ring(*DEGREES)]},
        "bbox": list(DEGREES),
        "properties": {key: value for key, value in said.items() if value is not None},
        "links": [],
        "assets": known,
    } | fields


def made(item=None, profile=PAIR, **changes):
    return scene_of(item_of(**changes) if item is None else item, profile, access=OPEN)


def refused(match, item=None, profile=PAIR, **changes):
    with pytest.raises(SourceError, match=match) as caught:
        made(item, profile, **changes)
    assert str(caught.value).isprintable()
    return str(caught.value)


def outcome(item):
    """``"scene"``, or the message with which an item was refused."""
    try:
        made(item)
    except CubeError as error:
        return str(error)
    return "scene"


def bare(**properties):
    """Properties without any projection but these."""
    return {"proj:epsg": None, "proj:shape": None, "proj:transform": None} | properties


class TestScene:
    def test_an_item_says_id_time_files_and_place(self):
        scene = made()
        assert (scene.id, scene.crs, scene.time) == ("a", CRS, "2020-06-01T10:30:00Z")
        assert scene.footprint == EXTENT
        assert [(b.name, b.href, b.index) for b in scene.layers] == [
            ("red", "https://data.example.com/a/red.tif", 1),
            ("flags", "https://data.example.com/a/qa.tif", 1),
        ]
        assert [scene.band(name).nodata for name in scene.bands] == [0.0, 1.0]

    def test_an_item_stays_as_it_is(self):
        item = item_of()
        before = copy.deepcopy(item)
        made(item)
        assert item == before

    def test_an_item_of_pystac_gives_the_same_scene(self):
        import pystac

        assert made(pystac.Item.from_dict(item_of())) == made()

    def test_a_scene_of_local_files_is_read(self, tmp_path):
        grid = grid_at((40, 50))
        values = noise((2, 40, 50), dtype="uint8")
        for key, band in zip(("red", "qa"), values, strict=True):
            write_tiff(tmp_path / f"{key}.tif", band, grid=grid, nodata=0)
        t = grid.transform
        item = item_of(
            properties={"proj:shape": [40, 50], "proj:transform": list(t)[:6]},
            assets={k: {"href": str(tmp_path / f"{k}.tif")} for k in ("red", "qa")},
            geometry=None,
            bbox=None,
        )
        scene = scene_of(item, PAIR, access=Access.of_folder(tmp_path))
        scene.check(grid)
        found = scene.read(grid, *whole(grid))
        np.testing.assert_array_equal(found[0], values[0].astype("float32"))

    def test_a_range_begins_at_its_start(self):
        scene = made(
            properties={
                "datetime": None,
                "start_datetime": "2020-01-01T00:00:00Z",
                "end_datetime": "2020-02-01T00:00:00Z",
            }
        )
        assert scene.time == "2020-01-01T00:00:00Z"

    @pytest.mark.parametrize(("percent", "share"), [(0, 0.0), (12.5, 0.125), (-1, None)])
    def test_cloud_cover_is_a_share(self, percent, share):
        assert made(properties={"eo:cloud_cover": percent}).cloud_cover == share
        assert made().cloud_cover is None

    def test_an_href_relative_to_an_item_is_resolved_against_it(self):
        link = {"rel": "self", "href": "https://data.example.com/items/a.json"}
        scene = made(links=[link], assets={"red": {"href": "../red.tif"}})
        assert scene.layers[0].href == "https://data.example.com/red.tif"
        refused("files of this machine are not allowed", assets={"red": {"href": "../red.tif"}})

    def test_an_id_is_a_label_and_nothing_else(self):
        scene = made(item_of() | {"id": "../../etc/passwd"})
        assert scene.id == "../../etc/passwd"

    def test_an_href_that_may_not_be_opened_is_refused_with_its_asset(self):
        refused(
            "Item 'a', asset 'qa': '/etc/passwd' may not be opened: files of this machine",
            assets={"qa": {"href": "/etc/passwd"}},
        )
        inside = Access(resolve=lambda host: ["10.0.0.1"])
        with pytest.raises(SourceError, match="Item 'a', asset 'red': .*leads to 10.0.0.1"):
            scene_of(item_of(), PAIR, access=inside)


OLD = {"raster:bands": [{"nodata": 7, "scale": 0.5, "offset": -1, "data_type": "uint16"}]}
NEW = {"nodata": 7, "raster:scale": 0.5, "raster:offset": -1, "data_type": "uint16"}
NEW_BANDS = {"bands": [NEW]}


class TestPacking:
    """Old fields, new fields, the item's, the profile's: which wins."""

    @pytest.mark.parametrize("said", [OLD, NEW, NEW_BANDS, OLD | NEW | NEW_BANDS])
    def test_what_an_item_says_wins_over_the_profile(self, said):
        band = made(assets={"red": said}).band("red")
        assert (band.nodata, band.scale, band.offset) == (7.0, 0.5, -1.0)

    def test_what_holds_for_the_item_holds_for_an_asset_that_is_silent(self):
        said = {"raster:scale": 0.5, "nodata": 7}
        scene = made(properties=said, assets={"qa": {"raster:scale": 1.0, "nodata": 3}})
        assert [scene.band(n).scale for n in scene.bands] == [0.5, 1.0]
        assert [scene.band(n).nodata for n in scene.bands] == [7.0, 3.0]

    def test_a_profile_says_what_an_item_does_not(self):
        profile = Profile(
            name="p",
            bands={"red": "red", "flags": "qa"},
            nodata=255,
            scale={"red": 0.1},
            valid_range={"red": (1, 100)},
            units={"*": "K"},
            resampling={"*": "cubic", "flags": "nearest"},
        )
        red, flags = (made(profile=profile).band(n) for n in ("red", "flags"))
        assert (red.nodata, red.scale, red.offset, red.resampling) == (255, 0.1, 0, "cubic")
        assert (red.valid_range, red.units) == ((1.0, 100.0), "K")
        assert (flags.scale, flags.resampling, flags.valid_range) == (1.0, "nearest", None)

    def test_nodata_may_be_nan_and_every_pixel_may_be_observed(self):
        scene = made(assets={"red": {"nodata": "nan"}})
        assert math.isnan(scene.band("red").nodata)
        every = Profile(name="p", bands={"red": "red"}, nodata="none")
        assert made(profile=every).band("red").nodata is None

    def test_nodata_that_nobody_says_is_refused(self):
        silent = Profile(name="silent", bands={"red": "red"})
        refused("asset 'red': neither the item nor silent says its nodata; give", profile=silent)

    @pytest.mark.parametrize(
        ("said", "match"),
        [
            ({"raster:bands": [{"nodata": 0}], "nodata": 1}, "nodata is stated as 0.0 and as 1.0"),
            ({"bands": [{"nodata": 0}], "nodata": "nan"}, "nodata is stated as 0.0 and as nan"),
            (
                {"raster:bands": [{"scale": 1}], "bands": [{"raster:scale": 2}]},
                "scale is stated as 2.0 and as 1.0",
            ),
            (
                {"data_type": "uint8", "nodata": -1},
                "data_type is uint8, which cannot hold nodata=-1",
            ),
            (
                {"data_type": "int16", "nodata": "nan"},
                "data_type is int16, which cannot hold nodata=nan",
            ),
            ({"nodata": [0]}, "nodata must be a number. Received list"),
            ({"nodata": True}, "nodata must be a number. Received bool"),
            ({"raster:scale": "x"}, "scale must be a number. Received str"),
            ({"bands": {"a": 1}}, "bands must be a list of mappings. Received dict"),
            ({"raster:bands": ["a"]}, "raster:bands must be a list of mappings"),
        ],
    )
    def test_contradictions_and_nonsense_are_refused(self, said, match):
        refused(f"Item 'a', asset 'red': {match}", assets={"red": said})

    @pytest.mark.parametrize("scale", [0, "inf", "nan"])
    def test_a_scale_that_means_nothing_is_refused(self, scale):
        refused(
            "Item 'a': Band 'red': scale and offset must be finite, scale not 0",
            assets={"red": {"raster:scale": scale}},
        )

    def test_two_bands_of_one_file_have_one_nodata(self):
        many = Profile(name="p", bands={"red": ("red", 1), "blue": ("red", 2)}, nodata=0)
        said = {"raster:bands": [{"nodata": 1}, {"nodata": 2}]}
        refused("nodata is stated as 1.0 and as 2.0", profile=many, assets={"red": said})


LISTED = {"bands": [{"name": "B1", "eo:common_name": "blue"}, {"name": "B2"}]}
LISTED_OLD = {"eo:bands": [{"name": "B1", "common_name": "blue"}, {"name": "B2"}]}


class TestBandsOfAnAsset:
    @pytest.mark.parametrize("said", [LISTED, LISTED_OLD])
    @pytest.mark.parametrize(("place", "index"), [("blue", 1), ("B1", 1), ("B2", 2), (2, 2)])
    def test_a_band_is_found_by_name_common_name_or_number(self, said, place, index):
        profile = Profile(name="p", bands={"x": ("red", place)}, nodata=0)
        assert made(profile=profile, assets={"red": said}).band("x").index == index

    def test_a_number_is_taken_where_nothing_is_listed(self):
        profile = Profile(name="p", bands={"x": ("red", 3)}, nodata=0)
        assert made(profile=profile).band("x").index == 3

    @pytest.mark.parametrize(
        ("place", "match"),
        [
            (3, "band 3 was expected. It lists 2"),
            ("red", "one band 'red' was expected. It has: B1, B2"),
        ],
    )
    def test_a_band_that_is_not_listed_is_refused(self, place, match):
        profile = Profile(name="p", bands={"x": ("red", place)}, nodata=0)
        refused(match, profile=profile, assets={"red": LISTED})

    def test_an_asset_of_several_bands_needs_a_choice(self):
        refused("it has several bands \\(B1, B2\\); say which", assets={"red": LISTED})


class TestPlace:
    @pytest.mark.parametrize(
        "said",
        [
            {"proj:epsg": 32725},
            {"proj:epsg": "32725"},
            {"proj:code": CRS},
            {"proj:code": CRS, "proj:epsg": 32725},
            {"proj:code": None, "proj:wkt2": pyproj.CRS(CRS).to_wkt()},
            {"proj:epsg": None, "proj:projjson": pyproj.CRS(CRS).to_json_dict()},
        ],
    )
    def test_every_way_to_say_a_crs_is_the_same(self, said):
        item = item_of()
        item["properties"] = {"datetime": "2020-01-01T00:00:00Z"} | said
        assert made(item).crs == CRS

    def test_a_crs_without_a_code_is_kept_as_text(self):
        laea = pyproj.CRS("+proj=laea +lat_0=-8 +lon_0=-35 +datum=WGS84 +units=m")
        scene = made(properties=bare(**{"proj:wkt2": laea.to_wkt()}))
        assert pyproj.CRS(scene.crs).equals(laea)

    @pytest.mark.parametrize(
        "said",
        [
            {"proj:epsg": 999999},
            {"proj:epsg": True},
            {"proj:epsg": 3.5},
            {"proj:epsg": -1},
            {"proj:code": "EPSG:0"},
            {"proj:code": "+proj=utm +zone=25"},
            {"proj:code": "/etc/passwd"},
            {"proj:code": "EPSG:32725\n"},
            {"proj:code": 32725},
            {"proj:wkt2": "EPSG:32725"},
            {"proj:wkt2": 5},
            {"proj:projjson": {"type": "nothing"}},
            {"proj:projjson": [1]},
            {"proj:wkt2": 'LOCAL_CS["somewhere"]'},
        ],
    )
    def test_what_is_no_crs_is_refused(self, said):
        field = next(iter(said))
        refused(f"Item 'a': {field} is no CRS that PROJ knows", properties=bare(**said))

    def test_two_crss_are_refused(self):
        refused(
            "proj:code is 'EPSG:32725', but proj:epsg is 32724",
            properties={"proj:code": CRS, "proj:epsg": 32724},
        )
        refused(
            "its assets have different CRSs, EPSG:32724, EPSG:32725; make",
            assets={"red": {"proj:epsg": 32724}},
            geometry=None,
            bbox=None,
        )

    def test_a_missing_crs_is_refused(self):
        refused("it does not say its CRS .*from the file itself", properties={"proj:epsg": None})

    def test_a_crs_may_stand_with_the_assets(self):
        said = {"proj:code": CRS, "proj:shape": SHAPE, "proj:transform": TRANSFORM}
        scene = made(properties=bare(), assets={"red": said, "qa": said})
        assert (scene.crs, scene.footprint) == (CRS, EXTENT)

    def test_an_asset_of_another_resolution_has_its_own_shape(self):
        fine = {"proj:shape": [3000, 3000], "proj:transform": [10, 0, EXTENT[0], 0, -10, EXTENT[3]]}
        scene = made(properties={"proj:bbox": list(EXTENT)}, assets={"red": fine})
        assert scene.footprint == EXTENT

    def test_the_footprint_is_that_of_all_bands(self):
        wider = {"proj:transform": [30, 0, EXTENT[0] - 3000, 0, -30, EXTENT[3]]}
        scene = made(assets={"red": wider})
        assert scene.footprint == (EXTENT[0] - 3000, *EXTENT[1:])

    def test_a_transform_may_have_nine_numbers_and_turn_the_raster(self):
        assert made(properties={"proj:transform": [*TRANSFORM, 0, 0, 1]}).footprint == EXTENT
        turned = [0.0, -30.0, EXTENT[2], -30.0, 0.0, EXTENT[3]]
        assert made(properties={"proj:transform": turned}).footprint == EXTENT

    @given(st.tuples(*[st.floats(-0.99, 0.99)] * 4))
    def test_a_bbox_may_be_a_pixel_off(self, shifts):
        box = [edge + 30 * shift for edge, shift in zip(EXTENT, shifts, strict=True)]
        assert made(properties={"proj:bbox": box}).footprint == tuple(box)

    @given(st.integers(0, 3), st.floats(1.01, 100), st.sampled_from([-1, 1]))
    def test_a_bbox_that_is_more_off_is_refused(self, edge, pixels, sign):
        box = list(EXTENT)
        box[edge] += sign * 30 * pixels
        refused(
            "proj:bbox is .*, but proj:shape and proj:transform span",
            properties={"proj:bbox": box},
        )

    @pytest.mark.parametrize(
        ("said", "match"),
        [
            ({"proj:shape": [-1, 10]}, "proj:shape must be rows and columns"),
            ({"proj:shape": [0, 10]}, "proj:shape must be rows and columns"),
            ({"proj:shape": [1.5, 10]}, "proj:shape must be rows and columns"),
            ({"proj:shape": [10**9, 10**9]}, "at most 1e\\+12 pixels. Received 1000000000"),
            ({"proj:shape": [2**31 + 1, 1]}, "proj:shape must be rows and columns"),
            ({"proj:shape": [10]}, "proj:shape must be 2 numbers"),
            ({"proj:shape": "1000"}, "proj:shape must be 2 numbers"),
            ({"proj:shape": [10**400, 1]}, "proj:shape must be finite numbers"),
            ({"proj:transform": [30, 0, 0, 0, -30]}, "proj:transform must be 6 or 9 numbers"),
            ({"proj:transform": [30, 0, 0, 0, -30, "0"]}, "proj:transform must be 6 or 9"),
            ({"proj:transform": [30, 0, 0, 0, -30, math.inf]}, "must be finite numbers"),
            ({"proj:transform": [math.nan, 0, 0, 0, -30, 0]}, "must be finite numbers"),
            ({"proj:transform": [0, 0, 0, 0, 0, 0]}, "with pixels that have an area"),
            ({"proj:transform": [30, 30, 0, 30, 30.1, 0]}, "with pixels that have an area"),
            ({"proj:transform": [*TRANSFORM, 0, 1, 1]}, "with pixels that have an area"),
            ({"proj:bbox": [1, 2, 3]}, "proj:bbox must be 4 or 6 numbers"),
            ({"proj:bbox": [3, 2, 1, 4]}, "proj:bbox must be left, bottom, right, top"),
        ],
    )
    def test_impossible_fields_are_refused(self, said, match):
        refused(f"Item 'a': .*{match}", properties=said, geometry=None, bbox=None)


class TestOutline:
    """Where an item says its place in longitude and latitude alone."""

    ONLY = bare(**{"proj:epsg": 32725})

    def contains(self, outer, inner):
        return (outer[0] <= inner[0] and outer[1] <= inner[1]
                and outer[2] >= inner[2] and outer[3] >= inner[3])  # fmt: skip

    @pytest.mark.parametrize("kept", ["geometry", "bbox"])
    def test_the_footprint_holds_the_raster_and_little_more(self, kept):
        gone = {"geometry": None, "bbox": None}
        del gone[kept]
        found = made(properties=self.ONLY, **gone).footprint
        assert self.contains(found, EXTENT)
        assert self.contains([e + s for e, s in zip(EXTENT, (-2e3, -2e3, 2e3, 2e3))], found)  # noqa: B905

    def test_straight_lines_are_bent_as_the_projection_bends_them(self):
        """At high latitudes the middle of a parallel lies far south of its ends."""
        item = item_of(
            properties=bare(**{"proj:epsg": 3413}),
            geometry={"type": "Polygon", "coordinates": [box_ring(-65, 70, -25, 80)]},
            bbox=None,
        )
        onto = pyproj.Transformer.from_crs(4326, 3413, always_xy=True)
        lons, lats = np.meshgrid(np.linspace(-65, -25, 401), [70.0, 80.0])
        xs, ys = onto.transform(lons, lats)
        inside = (xs.min(), ys.min(), xs.max(), ys.max())
        assert self.contains(made(item).footprint, inside)

    def test_without_a_place_there_is_no_footprint(self):
        assert made(properties=self.ONLY, geometry=None, bbox=None).footprint is None
        point = {"type": "Point", "coordinates": [-35, -8]}
        assert made(properties=self.ONLY, geometry=point, bbox=None).footprint is None

    def test_a_box_with_heights_is_a_box(self):
        w, s, e, n = DEGREES
        item = item_of(properties=self.ONLY, geometry=None, bbox=[w, s, 0, e, n, 900])
        assert made(item).footprint == made(item | {"bbox": [w, s, e, n]}).footprint

    @pytest.mark.parametrize(
        ("geometry", "bbox"),
        [
            (None, [179, -18, -179, -16]),
            (
                {
                    "type": "MultiPolygon",
                    "coordinates": [
                        [box_ring(179, -18, 180, -16)],
                        [box_ring(-180, -18, -179, -16)],
                    ],
                },
                None,
            ),
        ],
    )
    def test_what_crosses_the_antimeridian_stays_in_one_piece(self, geometry, bbox):
        for epsg, width in ((4326, 2.0), (32760, 213_000.0), (3832, 222_639.0)):
            item = item_of(properties=bare(**{"proj:epsg": epsg}), geometry=geometry, bbox=bbox)
            left, _, right, _ = made(item).footprint
            assert right - left == pytest.approx(width * 1.02, rel=0.02), epsg

    def test_a_globe_is_not_turned(self):
        item = item_of(
            properties=bare(**{"proj:epsg": 4326}),
            geometry={"type": "Polygon", "coordinates": [box_ring(-180, -90, 180, 90)]},
            bbox=[-180, -90, 180, 90],
        )
        assert made(item).footprint == pytest.approx((-183.6, -91.8, 183.6, 91.8))

    @pytest.mark.parametrize(
        "place",
        [
            {"bbox": [-95, 100, -94, 101], "geometry": None},
            {"geometry": {"type": "Polygon", "coordinates": [box_ring(-8, -95, -7, -94)]}},
            {"bbox": [1e300, 0, 1e301, 1], "geometry": None},
        ],
    )
    def test_latitudes_beyond_the_pole_are_swapped_axes(self, place):
        refused("must be longitudes and latitudes, in this order", properties=self.ONLY, **place)

    def test_an_outline_far_from_its_raster_is_refused(self):
        w, s, e, n = DEGREES
        swapped = {"type": "Polygon", "coordinates": [box_ring(s, w, n, e)]}
        refused("lies at longitudes .* but its raster at .* Check the order of axes",
                geometry=swapped, bbox=None)  # fmt: skip
        refused("Check the order of axes, and the CRS", geometry=None, bbox=[s, w, n, e])

    @given(st.floats(-0.9, 0.9), st.floats(-0.9, 0.9))
    def test_an_outline_less_than_a_degree_off_is_taken(self, x, y):
        w, s, e, n = DEGREES
        assert made(geometry=None, bbox=[w + x, s + y, e + x, n + y]).footprint == EXTENT

    def test_an_outline_on_the_other_side_of_the_antimeridian_is_near(self):
        item = item_of(
            properties={
                "proj:epsg": 32660,
                "proj:transform": [30, 0, 810_000, 0, -30, 1_110_000],
            },
            geometry={"type": "Polygon", "coordinates": [box_ring(-180, 9.8, -179.9, 10)]},
            bbox=None,
        )
        assert made(item).footprint[0] == 810_000

    @pytest.mark.parametrize(
        "coordinates", [None, [], [[]], [[[1, 2]]], [[["x", 1]] * 4], [[[1]] * 4], [[[0, 0]] * 3]]
    )
    def test_what_is_no_polygon_is_refused(self, coordinates):
        refused("its geometry is no polygon of GeoJSON", properties=self.ONLY,
                geometry={"type": "Polygon", "coordinates": coordinates})  # fmt: skip


class TestVersions:
    def test_an_item_of_1_1_is_read(self):
        item = item_of(
            stac_version="1.1.0",
            properties=bare(**{"proj:code": CRS, "proj:bbox": list(EXTENT)}),
            assets={"red": {"bands": [{"name": "B4", "eo:common_name": "red"}], "nodata": 9,
                            "raster:scale": 0.1}},
        )  # fmt: skip
        scene = made(item)
        assert (scene.crs, scene.footprint, scene.band("red").nodata) == (CRS, EXTENT, 9.0)

    @pytest.mark.parametrize("version", ["0.9.0", "1.0.0-beta.2", "1.0.0-rc.1"])
    def test_older_items_are_brought_up_to_date(self, version):
        item = item_of(stac_version=version, stac_extensions=["projection", "eo"])
        assert made(item) == made()

    @pytest.mark.parametrize("version", [None, "", "x", 5, "2.0.0-alpha"])
    def test_whatever_the_version_there_is_an_answer(self, version):
        assert outcome(item_of(stac_version=version)) in {
            "scene",
            f"Item 'a': stac_version {str(version)!r} cannot be brought up to date.",
        }


class TestRefusedItems:
    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"id": None}, "The id of an item must be text"),
            ({"id": ""}, "The id of an item must be text"),
            ({"id": "a\nb"}, "The id of an item must be printable"),
            ({"properties": None}, "properties must be a mapping. Received NoneType"),
            ({"assets": []}, "assets must be a mapping. Received list"),
            ({"assets": {}}, "no asset 'red', which pair expects for band 'red'. It has: ''"),
            ({"assets": {"red": 5}}, "no asset 'red'"),
            ({"assets": {"red": {}, "qa": {}}}, "asset 'red': an href was expected"),
        ],
    )
    def test_items_without_what_they_need_are_refused(self, change, match):
        refused(match, item_of() | change)

    @pytest.mark.parametrize("item", [None, 5, "item", [], object()])
    def test_what_is_no_item_is_refused(self, item):
        with pytest.raises(SourceError, match="A STAC item is a mapping. Received"):
            scene_of(item, PAIR, access=OPEN)

    @pytest.mark.parametrize(
        ("said", "match"),
        [
            ({"datetime": None}, "says neither datetime nor start_datetime"),
            ({"datetime": 5}, "datetime must be text. Received int"),
            ({"datetime": "9999-12-31T23:59:59-05:00"}, "datetime: time must be ISO 8601"),
            ({"eo:cloud_cover": 101}, "eo:cloud_cover must be percent"),
            ({"eo:cloud_cover": "nan"}, "eo:cloud_cover must be percent"),
            ({"eo:cloud_cover": "5"}, "eo:cloud_cover must be a number"),
        ],
    )
    def test_impossible_properties_are_refused(self, said, match):
        refused(f"Item 'a': .*{match}", properties=said)

    def test_a_time_that_is_none_is_refused(self):
        refused("Item 'a': datetime: time must be ISO 8601", properties={"datetime": "yesterday"})

    def test_an_optional_band_may_be_missing_but_not_all(self):
        profile = Profile(name="p", bands={"red": "red", "x": "x"}, optional=("x",), nodata=0)
        assert made(profile=profile).bands == ("red",)
        none = Profile(name="p", bands={"x": "x"}, optional=("x",), nodata=0)
        refused("it has none of the bands x", profile=none)

    @given(st.data())
    def test_whatever_stands_in_an_item_there_is_a_scene_or_one_line(self, data):
        junk = st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
            max_leaves=4,
        )
        item = copy.deepcopy(RICH)
        where = item
        while True:
            keys = list(where) if isinstance(where, dict) else list(range(len(where)))
            key = data.draw(st.sampled_from(keys))
            deeper = isinstance(where[key], dict | list) and len(where[key]) > 0
            if not (deeper and data.draw(st.booleans())):
                where[key] = data.draw(junk)
                break
            where = where[key]
        assert outcome(item).isprintable()


RICH = item_of(
    properties={"proj:bbox": list(EXTENT), "eo:cloud_cover": 5, "gsd": 30},
    assets={
        "red": {
            "raster:bands": [{"nodata": 0, "scale": 0.1, "offset": 0, "data_type": "uint16"}],
            "eo:bands": [{"name": "B4", "common_name": "red"}],
            "proj:shape": SHAPE,
        }
    },
    links=[{"rel": "self", "href": "https://data.example.com/a.json"}],
)


class TestProfiles:
    def landsat(self, *gone):
        keys = [key for key, _ in map(LANDSAT_C2_L2.place, LANDSAT_C2_L2.bands) if key not in gone]
        return item_of(assets={key: {"href": f"s3://usgs-landsat/{key}.tif"} for key in keys})

    def test_landsat_is_packed_as_the_usgs_says(self):
        scene = made(self.landsat(), LANDSAT_C2_L2)
        red, flags, thermal = map(scene.band, ("red", "qa_pixel", "thermal"))
        assert (red.scale, red.offset, red.nodata) == (0.0000275, -0.2, 0.0)
        assert red.valid_range == (7273.0, 43636.0)
        assert (flags.scale, flags.offset, flags.nodata) == (1.0, 0.0, 1.0)
        assert (flags.resampling, flags.valid_range) == ("nearest", None)
        assert (thermal.offset, thermal.units) == (149.0, "K")
        assert scene.band("swir2").href.endswith("swir22.tif")

    def test_older_landsats_lack_bands(self):
        scene = made(self.landsat("coastal", "lwir11"), LANDSAT_C2_L2)
        assert scene.bands == ("blue", "green", "red", "nir", "swir1", "swir2", "qa_pixel")
        six = LANDSAT_C2_L2.select(["red", "nir"])
        assert made(self.landsat("coastal"), six).bands == ("red", "nir")
        refused("no asset 'qa_pixel'", self.landsat("qa_pixel"), LANDSAT_C2_L2)

    @pytest.mark.parametrize(
        ("profile", "red", "classes"),
        [(SENTINEL2_L2A_EARTH_SEARCH, "red", "scl"), (SENTINEL2_L2A_PLANETARY, "B04", "SCL")],
    )
    @pytest.mark.parametrize(
        ("said", "offset"),
        [
            ({"s2:processing_baseline": "02.14"}, 0.0),
            ({"s2:processing_baseline": "04.00"}, -0.1),
            ({"s2:processing_baseline": "05.09"}, -0.1),
        ],
    )
    def test_sentinel2_has_an_offset_since_baseline_4(self, profile, red, classes, said, offset):
        chosen = profile.select(["red", "scl"])
        assets = {key: {"href": f"https://s2.example.com/{key}.tif"} for key in (red, classes)}
        scene = made(item_of(properties=said, assets=assets), chosen)
        assert (scene.band("red").scale, scene.band("red").offset) == (0.0001, offset)
        assert (scene.band("scl").scale, scene.band("scl").offset) == (1.0, 0.0)
        assert scene.band("scl").resampling == "nearest"

    def test_an_offset_that_was_taken_out_is_0_whatever_is_stated(self):
        profile = SENTINEL2_L2A_EARTH_SEARCH.select(["red"])
        said = {"raster:bands": [{"nodata": 0, "scale": 0.0001, "offset": -0.1}]}
        for applied, offset in ((True, 0.0), (False, -0.1)):
            flag = {"earthsearch:boa_offset_applied": applied, "s2:processing_baseline": "05.09"}
            scene = made(item_of(properties=flag, assets={"red": said}), profile)
            assert scene.band("red").offset == offset

    def test_an_offset_that_nothing_decides_is_refused(self):
        refused("neither an offset nor s2:processing_baseline, which decides it, is stated",
                profile=SENTINEL2_L2A_EARTH_SEARCH.select(["red"]))  # fmt: skip

    @pytest.mark.parametrize(
        "profile", [LANDSAT_C2_L2, SENTINEL2_L2A_EARTH_SEARCH, SENTINEL2_L2A_PLANETARY]
    )
    def test_the_quality_band_of_a_profile_is_one_of_its_bands(self, profile):
        assert profile.quality.band in profile.bands
        assert profile.of("resampling", profile.quality.band) == "nearest"

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"bands": {}}, "bands must map names to assets"),
            ({"bands": {"x": ""}}, "an asset key, or \\(asset key, band\\) was expected"),
            ({"bands": {"x": ("a", 0)}}, "an asset key, or \\(asset key, band\\) was expected"),
            ({"resampling": "best"}, "band 'x': resampling must be one of nearest"),
            ({"nodata": "zero"}, "nodata must be a number, 'none' or None. Received 'zero'"),
            ({"nodata": {"y": 0}}, "nodata names 'y', which are no bands of it. It has: x"),
            ({"optional": ("y",)}, "optional names 'y'"),
        ],
    )
    def test_an_impossible_profile_is_refused(self, change, match):
        with pytest.raises(SpecError, match=f"Profile 'p'.*{match}"):
            Profile(**{"name": "p", "bands": {"x": "x"}} | change)

    def test_an_unknown_band_cannot_be_selected(self):
        with pytest.raises(SpecError, match="select names 'ultraviolet', which are no bands"):
            LANDSAT_C2_L2.select(["red", "ultraviolet"])


class TestScenes:
    def test_items_that_cannot_be_used_do_not_stop_the_others(self):
        bad = item_of("b", properties={"proj:shape": [-1, 1]})
        found = scenes_of([item_of("a"), bad, {"id": 5}, 7, item_of("c")], PAIR, OPEN, title="t")
        assert [scene.id for scene in found.scenes] == ["a", "c"]
        assert list(found.excluded) == ["<item 3>", "<item 4>", "b"]
        assert "proj:shape must be rows and columns" in found.excluded["b"]
        assert found.title == "t"

    def test_two_items_of_one_id_are_refused(self):
        with pytest.raises(SpecError, match="Received twice: 'a'"):
            scenes_of([item_of("a"), item_of("a")], PAIR, OPEN)


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def catalogue(*links, kind="Catalog"):
    return {
        "type": kind,
        "stac_version": "1.0.0",
        "id": "c",
        "links": [{"rel": rel, "href": href} for rel, href in links],
    }


def test_a_static_catalogue_becomes_an_image_a_year(tmp_path):
    grid = grid_at((40, 50))
    values = noise((3, 40, 50), dtype="uint8")
    features = []
    for i, band in enumerate(values):
        (tmp_path / f"s{i}").mkdir()
        write_tiff(tmp_path / f"s{i}/red.tif", band, grid=grid, nodata=0)
        said = {
            "datetime": f"2020-0{i + 1}-01T00:00:00Z",
            "proj:shape": [40, 50],
            "proj:transform": list(grid.transform)[:6],
        }
        assets = {"red": {"href": f"s{i}/red.tif"}}
        features.append(item_of(f"s{i}", properties=said, assets=assets, geometry=None, bbox=None))
    write(tmp_path / "all.json", {"type": "FeatureCollection", "features": features})
    profile = Profile(name="red", bands={"red": "red"}, nodata=0)
    items = read_items(tmp_path / "all.json")
    found = scenes_of(items, profile, Access.of_folder(tmp_path))
    found.save(tmp_path / "manifest.json.gz")
    sources = Manifest.load(tmp_path / "manifest.json.gz").sources(years(2020), bands=["red"])
    image = sources["2020"].read(grid, *whole(grid))
    np.testing.assert_array_equal(image[0], np.median(values.astype("float32"), axis=0))


class TestFiles:
    @pytest.fixture
    def root(self, tmp_path):
        """A catalogue with two collections, which lead back to it."""
        root = tmp_path / "stac"
        back = ("root", "../catalog.json"), ("parent", "../catalog.json")
        write(root / "catalog.json", catalogue(("child", "./one/collection.json"),
                                               ("child", "two/collection.json")))  # fmt: skip
        write(root / "one/collection.json", catalogue(*back, ("item", "a/a.json"),
                                                      kind="Collection"))  # fmt: skip
        write(root / "two/collection.json", catalogue(("item", "b.json"), ("item", "c.json")))
        for place in ("one/a/a.json", "two/b.json", "two/c.json"):
            name = place[-6]
            assets = {key: {"href": f"./{key}.tif"} for key in ("red", "qa")}
            write(root / place, item_of(name, assets=assets))
        return root

    def test_a_catalogue_is_walked_in_the_order_of_its_links(self, root):
        items = read_items(root / "catalog.json")
        assert [item["id"] for item in items] == ["a", "b", "c"]
        assert items[0]["assets"]["red"]["href"] == str(root / "one/a/red.tif")
        found = scenes_of(items, PAIR, Access.of_folder(root))
        assert (len(found), found.excluded) == (3, {})
        assert len(scenes_of(items, PAIR).excluded) == 3

    def test_an_item_and_a_collection_of_items_are_read(self, tmp_path):
        write(tmp_path / "a.json", item_of("a"))
        write(tmp_path / "all.json", {"type": "FeatureCollection", "features": [item_of("b")]})
        assert [item["id"] for item in read_items(tmp_path / "a.json")] == ["a"]
        assert [item["id"] for item in read_items(str(tmp_path / "all.json"))] == ["b"]
        assert read_items([item_of("c")]) == [item_of("c")]

    def test_hrefs_that_are_absolute_stay(self, tmp_path):
        item = item_of(assets={"red": {"href": "/x/red.tif"}})
        item["assets"]["odd"] = 5
        write(tmp_path / "a.json", item)
        assets = read_items(tmp_path / "a.json")[0]["assets"]
        assert assets["red"]["href"] == "/x/red.tif"
        assert assets["qa"]["href"].startswith("https://")

    def test_loops_end(self, root):
        write(root / "one/collection.json", catalogue(("child", "../catalog.json"),
                                                      ("child", "collection.json"),
                                                      ("item", "a/a.json"),
                                                      ("item", "./a/../a/a.json")))  # fmt: skip
        assert [i["id"] for i in read_items(root / "catalog.json")] == ["a", "b", "c"]

    def test_too_many_items_are_refused(self, root):
        with pytest.raises(SourceError, match="more than 2 items or files; raise most="):
            read_items(root / "catalog.json", most=2)

    @pytest.mark.parametrize(
        ("href", "match"),
        [
            ("../outside.json", "files must lie in"),
            ("/etc/passwd", "files must lie in"),
            ("link.json", "files must lie in"),
            ("file:///etc/passwd", "its scheme must be one of none"),
            ("https://example.com/catalog.json", "its scheme must be one of none"),
            ("/vsicurl/https://example.com/c.json", "virtual files are never allowed"),
            (5, "an href was expected"),
            ("gone.json", "gone.json' cannot be read: No such file"),
        ],
    )
    def test_links_stay_in_the_folder(self, root, href, match):
        write(root.parent / "outside.json", item_of("secret"))
        (root / "link.json").symlink_to(root.parent / "outside.json")
        write(root / "catalog.json", catalogue(("child", href)))
        with pytest.raises(SourceError, match=match):
            read_items(root / "catalog.json")

    def test_access_may_allow_more(self, root):
        write(root.parent / "outside.json", item_of("o"))
        write(root / "catalog.json", catalogue(("item", "../outside.json")))
        found = read_items(root / "catalog.json", access=Access.of_folder(root.parent))
        assert [item["id"] for item in found] == ["o"]
        write(root / "catalog.json", catalogue(("item", "s3://bucket/c.json")))
        with pytest.raises(SourceError, match="only files can be followed"):
            read_items(root / "catalog.json", access=open_folder(root))

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ("not json", "is not JSON"),
            ("[" * 100_000, "is not JSON"),
            ("\xff", "is no STAC|is not JSON"),
            ("5", "is no STAC item, item collection or catalogue"),
            ('{"type": "Topology"}', "is no STAC item, item collection or catalogue"),
        ],
    )
    def test_files_that_are_not_stac_are_refused(self, tmp_path, text, match):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(SourceError, match=match):
            read_items(tmp_path / "x.json")


def open_folder(folder):
    return Access(folders=(str(folder),), resolve=lambda host: ["93.184.216.34"])


class TestBoxes:
    def test_a_box_comes_back(self):
        assert boxes_of(grid=None, bbox=(-36, -9, -34, -7)) == [(-36, -9, -34, -7)]

    @pytest.mark.parametrize("bbox", [(179, -18, -179, -16), (179, -18, 181, -16),
                                      (-181, -18, -179, -16)])  # fmt: skip
    def test_a_box_across_the_antimeridian_is_two(self, bbox):
        assert boxes_of(grid=None, bbox=bbox) == [(179, -18, 180, -16), (-180, -18, -179, -16)]

    def test_the_whole_globe_is_one_box(self):
        assert boxes_of(grid=None, bbox=(-180, -90, 180, 90)) == [(-180, -90, 180, 90)]
        assert boxes_of(grid=None, bbox=(0, -90, 360, 90)) == [(-180, -90, 180, 90)]

    def test_a_grid_is_covered_to_its_corners(self):
        grid = grid_at((1000, 1000))
        ((west, south, east, north),) = boxes_of(grid=grid, bbox=None)
        onto = pyproj.Transformer.from_crs(CRS, 4326, always_xy=True)
        cols, rows = np.meshgrid(np.linspace(0, 1000, 51), np.linspace(0, 1000, 51))
        lons, lats = onto.transform(*(grid.transform @ (cols, rows)))
        assert west - 1e-9 <= lons.min() <= west + 1e-3
        assert east - 1e-3 <= lons.max() <= east + 1e-9
        assert south - 1e-9 <= lats.min()
        assert north + 1e-9 >= lats.max()

    def test_a_grid_across_the_antimeridian_is_two_boxes(self):
        grid = GeoBox((100, 100), Affine(2000, 0, 700_000, 0, -2000, 8_200_000), "EPSG:32760")
        east_side, west_side = boxes_of(grid=grid, bbox=None)
        assert east_side[2] == 180
        assert west_side[0] == -180
        assert east_side[0] > 170
        assert west_side[2] < -170

    @pytest.mark.parametrize(
        "bbox", [(), (1, 2, 3), (0, 5, 1, 4), (0, -91, 1, 0), (0, 0, math.nan, 1), (0, 0, 400, 1)]
    )
    def test_what_is_no_place_is_refused(self, bbox):
        with pytest.raises(SpecError, match="bbox must be west, south, east, north in degrees"):
            boxes_of(grid=None, bbox=bbox)

    def test_a_place_is_given_once(self):
        for grid, bbox in ((None, None), (grid_at((2, 2)), (0, 0, 1, 1))):
            with pytest.raises(SpecError, match="give either grid= or bbox="):
                boxes_of(grid=grid, bbox=bbox)
        nowhere = GeoBox((2, 2), Affine.identity(), None)
        with pytest.raises(SpecError, match="The grid has no CRS"):
            boxes_of(grid=nowhere, bbox=None)


class TestHalfAPlace:
    PROFILE = Profile(name="p", bands={"red": "red"}, nodata=0)

    @pytest.mark.parametrize(
        "own",
        [{"proj:shape": [500, 500]}, {"proj:transform": [60.0, 0, 280_000, 0, -60.0, 9_130_000]}],
    )
    def test_a_shape_and_a_transform_of_two_resolutions_are_not_joined(self, own):
        scene = scene_of(item_of(assets={"red": own}), self.PROFILE, access=OPEN)
        left, bottom, right, top = scene.footprint
        assert left <= EXTENT[0]
        assert bottom <= EXTENT[1]
        assert EXTENT[2] <= right < EXTENT[2] + 2_000
        assert EXTENT[3] <= top < EXTENT[3] + 2_000

    def test_both_of_its_own_are_taken(self):
        own = {"proj:shape": [500, 500], "proj:transform": [60.0, 0, 280_000, 0, -60.0, 9_130_000]}
        scene = scene_of(item_of(assets={"red": own}), self.PROFILE, access=OPEN)
        assert scene.footprint == EXTENT


def test_a_catalogue_of_a_server_is_refused_by_what_it_is():
    with pytest.raises(SourceError, match="'https://h/catalog.json' is a URL; catalogues are read"):
        read_items("https://h/catalog.json?token=SECRET")


class TestAlternates:
    PROFILE = Profile(name="p", bands={"red": "red"}, nodata=0, alternate="s3")

    def test_the_named_place_of_an_asset_is_opened(self):
        other = {"s3": {"href": "s3://usgs-landsat/a/red.tif", "storage:requester_pays": True}}
        item = item_of(assets={"red": {"alternate": other}})
        scene = scene_of(item, self.PROFILE, access=OPEN)
        assert scene.layers[0].href == "s3://usgs-landsat/a/red.tif"
        plain = scene_of(item, Profile(name="p", bands={"red": "red"}, nodata=0), access=OPEN)
        assert plain.layers[0].href == "https://data.example.com/a/red.tif"

    @pytest.mark.parametrize("said", [None, [], "s3", {}, {"s3": None}, {"s3": "s3://b/x.tif"}])
    def test_an_asset_without_it_is_refused(self, said):
        item = item_of(assets={"red": {"alternate": said}})
        with pytest.raises(SourceError, match="asset 'red': it has no alternate 's3'"):
            scene_of(item, self.PROFILE, access=OPEN)

    def test_it_is_not_trusted_more_than_others(self):
        item = item_of(assets={"red": {"alternate": {"s3": {"href": "/etc/passwd"}}}})
        with pytest.raises(SourceError, match="may not be opened"):
            scene_of(item, self.PROFILE, access=OPEN)


class TestSearch:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch):
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(api_module, "_RETRY", api_module._RETRY.new(total=1, backoff_factor=0))

    @pytest.fixture
    def api(self):
        with stac_server.serve([item_of(f"s{i}") for i in range(5)]) as api:
            yield api

    def found(self, api, **changes):
        terms = {"collections": ["pairs"], "profile": PAIR, "bbox": DEGREES,
                 "datetime": "2020-01-01/2020-12-31", "access": OPEN}  # fmt: skip
        return search(api if isinstance(api, str) else api.url, **terms | changes)

    def ids(self, manifest):
        return [scene.id for scene in manifest.scenes]

    def test_all_pages_are_taken(self, api):
        api.page = 2
        assert self.ids(self.found(api)) == ["s0", "s1", "s2", "s3", "s4"]
        assert len(api.searches) == 3

    def test_the_terms_are_those_of_stac(self, api):
        self.found(api, query={"eo:cloud_cover": {"lt": 50}})
        terms = api.searches[0]
        assert terms["collections"] == ["pairs"]
        assert terms["bbox"] == pytest.approx(DEGREES)
        assert terms["datetime"] == "2020-01-01T00:00:00Z/2020-12-31T23:59:59Z"
        assert terms["query"] == {"eo:cloud_cover": {"lt": 50}}

    def test_a_grid_finds_what_lies_on_it(self, api):
        api.items.append(item_of("far", bbox=[0, 0, 1, 1]))
        grid = grid_at((100, 100), corner=(290_000, 9_120_000))
        assert self.ids(self.found(api, bbox=None, grid=grid)) == ["s0", "s1", "s2", "s3", "s4"]

    def test_an_api_of_get_alone_is_asked_that_way(self, api):
        api.methods, api.page = ("GET",), 2
        assert len(self.found(api)) == 5
        assert api.searches[0]["collections"] == "pairs"

    def test_a_limit_takes_no_more(self, api):
        api.page = 2
        assert len(self.found(api, limit=3)) == 3
        assert len(api.searches) == 2

    def test_pages_are_signed_before_they_are_read(self, api):
        def sign(page):
            for item in page["features"]:
                item["assets"]["red"]["href"] += "?sig=x"

        signed = self.found(api, modifier=sign)
        assert all(s.layers[0].href.endswith("red.tif?sig=x") for s in signed.scenes)

    def test_across_the_antimeridian_two_searches_are_merged(self):
        crossing = {"type": "MultiPolygon", "coordinates": [
            [box_ring(179, -18, 180, -16)], [box_ring(-180, -18, -179, -16)]]}  # fmt: skip
        items = [
            item_of(name, properties=bare(**{"proj:epsg": 32760}), geometry=crossing, bbox=box)
            for name, box in (("west", [179, -18, 180, -16]), ("both", [-180, -18, 180, -16]),
                              ("east", [-180, -18, -179, -16]), ("far", [0, 0, 1, 1]))
        ]  # fmt: skip
        with stac_server.serve(items) as api:
            found = self.found(api, bbox=(178.5, -18, -178.5, -16))
            assert self.ids(found) == ["both", "east", "west"]
            assert len(api.searches) == 2

    def test_hrefs_of_an_api_on_the_loopback_are_not_trusted(self, api):
        api.items = [item_of("a", assets={"red": {"href": f"{api.url}/red.tif"}})]
        found = self.found(api)
        assert "its scheme must be one of https" in found.excluded["a"]
        listed = Access(schemes=("http", "https"), hosts=("127.0.0.1", "data.example.com"))
        assert len(self.found(api, access=listed)) == 1

    def test_items_that_are_none_are_excluded_with_the_reason(self, api):
        api.items += [5, {"id": None}]
        found = self.found(api)
        assert (len(found), sorted(found.excluded)) == (5, ["<item 6>", "<item 7>"])

    def test_a_server_that_is_busy_is_asked_again(self, api):
        api.answers = [(503, "busy")]
        assert len(self.found(api)) == 5

    @pytest.mark.parametrize(
        ("answers", "error", "match"),
        [
            ([(503, "busy")] * 2, TransientError, "cannot be searched now, no answer: .*503"),
            ([(500, "<html>\n oops \n</html>")], TransientError, "cannot be searched now, 500"),
            ([(400, "bad\nbbox")], SourceError, "refused the search, 400: APIError bad bbox"),
            ([(403, "token=SECRET")], SourceError, "refused the search, 403: APIError \\*\\*\\*"),
            ([(403, "api_key=SECRET")], SourceError, "refused the search, 403: APIError \\*\\*\\*"),
            ([(400, "\x1b[2Jx")], SourceError, "refused the search, 400: APIError .\\[2Jx"),
            ([(200, "not json")], SourceError, "is no STAC API that can be searched: JSON"),
            ([(200, "[]")], SourceError, "is no STAC API that can be searched"),
            ([(200, '{"features": {"a": 1}}')], SourceError, "features are no list"),
        ],
    )
    def test_what_goes_wrong_is_one_line(self, api, answers, error, match):
        api.answers = answers
        with pytest.raises(error, match=match) as caught:
            self.found(api)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400

    def test_an_answer_that_would_fill_memory_is_refused(self, api, monkeypatch):
        monkeypatch.setattr(api_module, "_MOST_BYTES", 10_000)
        api.answers = [(200, " " * 9_000)]
        with pytest.raises(SourceError, match="is no STAC API that can be searched: JSON"):
            self.found(api)
        api.answers = [(200, " " * 11_000)]
        with pytest.raises(SourceError, match="answers with more than 10000 bytes at once"):
            self.found(api)

    def test_too_many_items_are_refused(self, api, monkeypatch):
        monkeypatch.setattr(api_module, "MOST", 3)
        with pytest.raises(SourceError, match="finds more than 3 items; search for less"):
            self.found(api)
        assert len(self.found(api, limit=3)) == 3

    def test_collections_are_a_list(self, api):
        with pytest.raises(SpecError, match="collections= are a list. Received 'pairs'"):
            self.found(api, collections="pairs")
        assert api.searches == []

    @pytest.mark.parametrize("root", ["not json", "{}", '{"type": "Catalog", "links": 5}'])
    def test_what_is_no_api_is_refused(self, api, root):
        api.root = root
        with pytest.raises(SourceError, match="is no STAC API that can be searched"):
            self.found(api)

    def test_a_server_that_is_not_there_may_be_there_later(self, api):
        url = api.url
        api.url = "gone"
        with stac_server.serve([]) as gone:
            url = gone.url
        with pytest.raises(TransientError, match="cannot be searched now, no answer"):
            self.found(url)

    @pytest.mark.parametrize("url", ["/etc/passwd", "file:///etc/passwd", "stac.example.com"])
    def test_the_url_of_an_api_is_one_of_http(self, url):
        with pytest.raises(SourceError, match="The URL of an API, https://…, was expected"):
            self.found(url)

    def test_pages_lead_to_no_other_server(self, api):
        with stac_server.serve([item_of("other")]) as other:
            api.page, api.next_url = 2, f"{other.url}/search"
            with pytest.raises(SourceError, match="leads to another server, .*follows none"):
                self.found(api)
            api.next_url, api.redirect = None, f"{other.url}/search?key=SECRET"
            with pytest.raises(SourceError, match="leads to another server") as caught:
                self.found(api)
            assert "SECRET" not in str(caught.value)
            assert other.searches == []

    def test_an_api_whose_search_is_a_file_is_refused(self, api):
        landing = json.loads(api.landing())
        for link in landing["links"]:
            if link["rel"] == "search":
                link["href"] = "file:///etc/passwd"
        api.root = json.dumps(landing)
        with pytest.raises(SourceError, match="leads to another server"):
            self.found(api)

    def test_pages_that_repeat_for_ever_are_refused(self, api):
        api.next_url = f"{api.url}/search"
        with pytest.raises(SourceError, match="gives the same items again and again"):
            self.found(api)


def test_importing_catalogs_and_stac_loads_no_client():
    code = (
        "import sys, catalogs, catalogs.stac, catalogs.manifest;"
        "print([name for name in ('pystac', 'pystac_client', 'requests') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
