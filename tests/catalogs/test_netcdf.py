"""Every time of a NetCDF file becomes a scene whose pixels are those of the file."""

from __future__ import annotations

import os

import numpy as np
import pyproj
import pytest
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from catalogs.netcdf import scenes_from_netcdf
from cube.errors import SourceError, SpecError
from tests.rasters import LEFT, TOP, UTM, noise, whole, write_tiff

TIMES = np.array(["2018-01-01", "2018-02-01T10:30:00", "2018-03-01"], "M8[s]")
SHAPE = (4, 5)
GRID = GeoBox(SHAPE, Affine(30, 0, LEFT, 0, -30, TOP), UTM)
X = LEFT + 15 + 30.0 * np.arange(5)
Y = TOP - 15 - 30.0 * np.arange(4)
RED = noise((3, *SHAPE), seed=1, dtype="int16")
NIR = noise((3, *SHAPE), seed=2, dtype="int16")
PLACE = {
    "x": {"standard_name": "projection_x_coordinate", "units": "m"},
    "y": {"standard_name": "projection_y_coordinate", "units": "m"},
}


def dataset(*, y=Y, times=TIMES, dims=("time", "y", "x"), **variables):
    """Two bands on :data:`GRID`, whose y may go up."""
    order = slice(None) if y[0] > y[-1] else slice(None, None, -1)
    variables = variables or {"red": RED, "nir": NIR}
    data = xr.Dataset(
        {name: (dims, values[..., order, :]) for name, values in variables.items()},
        coords={"time": times.astype("M8[ns]"), "y": y, "x": X},
    )
    for name in variables:
        data[name].attrs["grid_mapping"] = "crs"
        data[name].encoding["_FillValue"] = data[name].dtype.type(-1)
    # A scalar would follow the records in the file, where the format forbids it.
    data["crs"] = (("one",), np.zeros(1, "int32"), pyproj.CRS(UTM).to_cf())
    for name, attributes in PLACE.items():
        data[name].attrs.update(attributes)
    # Whole seconds in an integer, for the classic format holds none of 64 bits.
    data["time"].encoding.update(units="seconds since 2018-01-01", dtype="int32")
    return data


@pytest.fixture
def write(tmp_path):
    """Write a dataset as NetCDF-3; return its path as text."""

    def save(data, name="f.nc", **options):
        data.to_netcdf(tmp_path / name, engine="scipy", **options)
        return str(tmp_path / name)

    return save


def write_netcdf4(path, *, y=Y):
    """The same two bands in NetCDF-4, whose HDF5 any library writes."""
    h5py = pytest.importorskip("h5py")
    order = slice(None) if y[0] > y[-1] else slice(None, None, -1)
    with h5py.File(path, "w", track_order=True) as file:
        dims = {"time": np.array([0, 32, 59], "int64"), "y": y, "x": X}
        for name, values in dims.items():
            file[name] = values
            file[name].make_scale(name)
            for key, text in PLACE.get(name, {}).items():
                file[name].attrs[key] = np.bytes_(text)
        file["time"].attrs["units"] = np.bytes_("days since 2018-01-01")
        file["time"].attrs["calendar"] = np.bytes_("proleptic_gregorian")
        file["crs"] = np.int32(0)
        for key, value in pyproj.CRS(UTM).to_cf().items():
            file["crs"].attrs[key] = _attribute(value)
        for name, values in (("red", RED), ("nir", NIR)):
            band = file.create_dataset(
                name, data=values[:, order], chunks=(1, 2, 3), compression="gzip"
            )
            band.attrs["_FillValue"] = np.array([-1], "int16")
            band.attrs["grid_mapping"] = np.bytes_("crs")
            for i, dim in enumerate(dims):
                band.dims[i].attach_scale(file[dim])
    return str(path)


def _attribute(value):
    return np.bytes_(value.encode()) if isinstance(value, str) else value


def read(scene):
    return scene.read(GRID, *whole(GRID))


class TestScenes:
    def check(self, path, times):
        found = scenes_from_netcdf(path)
        assert [scene.time for scene in found.scenes] == times
        for i, scene in enumerate(found.scenes):
            assert scene.bands == ("red", "nir")
            assert scene.crs == UTM
            assert scene.footprint == (LEFT, TOP - 120, LEFT + 150, TOP)
            np.testing.assert_array_equal(read(scene), np.stack([RED[i], NIR[i]]))
        return found

    @pytest.mark.parametrize("y", [Y, Y[::-1]], ids=["down", "up"])
    @pytest.mark.parametrize("unlimited", [[], ["time"]], ids=["fixed", "records"])
    def test_every_time_of_netcdf_3_has_its_own_pixels_the_right_way_up(self, write, y, unlimited):
        found = self.check(
            write(dataset(y=y), unlimited_dims=unlimited),
            ["2018-01-01T00:00:00Z", "2018-02-01T10:30:00Z", "2018-03-01T00:00:00Z"],
        )
        assert [scene.id for scene in found.scenes] == [
            "f_20180101",
            "f_20180201T103000",
            "f_20180301",
        ]

    @pytest.mark.parametrize("y", [Y, Y[::-1]], ids=["down", "up"])
    def test_every_time_of_netcdf_4_has_its_own_pixels_the_right_way_up(self, tmp_path, y):
        self.check(
            write_netcdf4(tmp_path / "f.nc", y=y),
            ["2018-01-01T00:00:00Z", "2018-02-02T00:00:00Z", "2018-03-01T00:00:00Z"],
        )

    @pytest.mark.parametrize("y", [Y, Y[::-1]], ids=["down", "up"])
    def test_axes_that_do_not_say_what_they_are_are_found_by_their_names(self, write, y):
        data = dataset(y=y)
        for name in PLACE:
            data[name].attrs.clear()
        self.check(
            write(data), ["2018-01-01T00:00:00Z", "2018-02-01T10:30:00Z", "2018-03-01T00:00:00Z"]
        )

    def test_a_file_of_one_time_and_one_band_is_one_scene(self, write):
        found = scenes_from_netcdf(write(dataset(times=TIMES[:1], red=RED[:1])))
        assert len(found) == 1
        np.testing.assert_array_equal(read(found.scenes[0])[0], RED[0])

    def test_times_in_fractions_of_days_are_whole_seconds(self, write):
        data = dataset().assign_coords(time=np.array([0, 11, 23]) / 24)
        data["time"].attrs["units"] = "days since 2018-01-01"
        found = scenes_from_netcdf(write(data))
        assert [scene.time[11:] for scene in found.scenes] == [
            "00:00:00Z",
            "11:00:00Z",
            "23:00:00Z",
        ]

    def test_bands_come_by_name_in_the_order_asked_for_and_under_other_names(self, write):
        path = write(dataset())
        some = scenes_from_netcdf(path, bands=["nir"]).scenes[1]
        assert some.bands == ("nir",)
        renamed = scenes_from_netcdf(path, bands={"nir": "B08", "red": "B04"}).scenes[1]
        assert renamed.bands == ("B08", "B04")
        np.testing.assert_array_equal(read(renamed), np.stack([NIR[1], RED[1]]))

    @pytest.mark.parametrize("dims", [("time", "band", "y", "x"), ("band", "time", "y", "x")])
    def test_a_dimension_of_bands_gives_numbered_bands(self, write, dims):
        values = np.stack([RED, NIR], axis=dims.index("band"))
        data = dataset(dims=dims, sr=values).assign_coords(band=np.array([4, 8], "int32"))
        found = scenes_from_netcdf(write(data))
        for i, scene in enumerate(found.scenes):
            assert scene.bands == ("sr_1", "sr_2")
            np.testing.assert_array_equal(read(scene), np.stack([RED[i], NIR[i]]))

    def test_variables_without_time_are_no_bands(self, write):
        data = dataset()
        data["slope"] = (("y", "x"), RED[0].astype("float32"))
        data["time_bnds"] = (("time", "bnds"), np.zeros((3, 2)))
        assert scenes_from_netcdf(write(data)).scenes[0].bands == ("red", "nir")

    def test_a_path_with_odd_characters_is_read(self, write):
        path = write(dataset(), "a b?c&d=é.nc")
        np.testing.assert_array_equal(read(scenes_from_netcdf(path).scenes[2])[0], RED[2])


class TestPacking:
    def test_the_files_own_packing_units_and_range_hold_for_each_band(self, write):
        data = dataset()
        data["red"].attrs.update(
            scale_factor=1e-4, add_offset=-0.1, units="1", valid_range=np.array([2, 150], "int16")
        )
        data["nir"].attrs.update(valid_max=np.int16(100))
        scene = scenes_from_netcdf(write(data)).scenes[0]
        red, nir = scene.band("red"), scene.band("nir")
        assert (red.scale, red.offset, red.nodata, red.units) == (1e-4, -0.1, -1.0, "1")
        assert (red.valid_range, nir.valid_range) == ((2.0, 150.0), (-np.inf, 100.0))
        assert (nir.scale, nir.offset) == (1.0, 0.0)
        stored = RED[0].astype("float64")
        stored[(stored < 2) | (stored > 150)] = np.nan
        np.testing.assert_allclose(read(scene)[0], stored * 1e-4 - 0.1, atol=1e-7)

    def test_what_the_caller_says_replaces_it_but_not_for_flags(self, write):
        data = dataset()
        data["red"].attrs.update(scale_factor=1e-4)
        scene = scenes_from_netcdf(
            write(data),
            nodata=7,
            scale=2,
            offset=3,
            quality=["nir"],
            resampling={"red": "cubic"},
        ).scenes[0]
        facts = {
            name: (band.nodata, band.scale, band.offset, band.resampling)
            for name in scene.bands
            for band in [scene.band(name)]
        }
        assert facts == {
            "red": (7.0, 2.0, 3.0, "cubic"),
            "nir": (-1.0, 1.0, 0.0, "nearest"),
        }

    def test_a_band_without_fill_value_is_refused_unless_the_caller_says(self, write):
        data = dataset()
        data["red"].encoding["_FillValue"] = None
        path = write(data)
        with pytest.raises(SourceError, match="'red' declares no _FillValue; give nodata="):
            scenes_from_netcdf(path)
        scene = scenes_from_netcdf(path, nodata="none").scenes[0]
        assert scene.band("red").nodata is None


class TestRefused:
    def refused(self, path, match, error=SourceError, **options):
        with pytest.raises(error, match=match) as caught:
            scenes_from_netcdf(path, **options)
        assert "\n" not in str(caught.value)

    def test_a_missing_file(self, tmp_path):
        self.refused(tmp_path / "gone.nc", "There is no file '.*gone.nc'")

    @pytest.mark.parametrize("content", [b"", b"CDF\x01", b"CDF\x01" + bytes(40), b"text"])
    def test_what_is_no_netcdf(self, tmp_path, content):
        (tmp_path / "f.nc").write_bytes(content)
        self.refused(
            tmp_path / "f.nc", "f.nc' (is damaged|cannot be read)|is no NetCDF|no variable"
        )

    def test_a_raster_of_another_format(self, tmp_path):
        path = write_tiff(tmp_path / "f.nc", noise(SHAPE))
        self.refused(path, "is a GTiff; expected NetCDF")

    @pytest.mark.parametrize("cut", [1, 60, 400])
    def test_netcdf_3_cut_short_whose_rest_would_read_as_zeros(self, write, cut):
        path = write(dataset())
        os.truncate(path, os.path.getsize(path) - cut)
        self.refused(path, "is damaged or truncated. Fetch it again")

    def test_netcdf_4_cut_short(self, tmp_path):
        path = write_netcdf4(tmp_path / "f.nc")
        os.truncate(path, os.path.getsize(path) - 100)
        self.refused(path, "cannot be read")

    def test_unknown_bands(self, write):
        path = write(dataset())
        for bands in (["blue"], "red", [], {"blue": "B02"}):
            self.refused(
                path, "has the bands red, nir; bands= must name some", SpecError, bands=bands
            )
        self.refused(path, "resampling= must name", SpecError, resampling={"blue": "cubic"})

    def test_times_without_units(self, write):
        data = dataset().assign_coords(time=[0, 1, 2])
        data["time"].encoding["dtype"] = "int32"
        self.refused(write(data), "has no variable with dimensions .*'days since 2000-01-01'")

    @pytest.mark.parametrize(
        ("units", "calendar", "match"),
        [
            ("days since 2018-01-01", "noleap", "have the calendar 'noleap'; expected one of real"),
            ("days since 2018-01-01", "360_day", "have the calendar '360_day'"),
            ("fortnights since 2018-01-01", "standard", "in 'fortnights since .*' cannot be read"),
            ("days since yesterday", "standard", "in 'days since yesterday', cannot be read"),
        ],
    )
    def test_times_that_are_no_days(self, write, units, calendar, match):
        data = dataset().assign_coords(time=np.array([0, 1, 2], "int32"))
        data["time"].attrs.update(units=units, calendar=calendar)
        self.refused(write(data), match.replace("' cannot", "', cannot"))

    @pytest.mark.parametrize(
        ("order", "match"),
        [
            ([0, 1, 1], "times must increase; number 3 is 2018-02-01T10:30:00.*, after 2018-02-01"),
            ([0, 2, 1], "times must increase; number 3 is 2018-02-01T10:30:00.*, after 2018-03-01"),
        ],
    )
    def test_times_that_do_not_increase(self, write, order, match):
        self.refused(write(dataset(times=TIMES[order])), match)

    def test_a_time_that_is_missing(self, write):
        data = dataset().assign_coords(time=[0.0, np.nan, 2.0])
        data["time"].attrs["units"] = "days since 2018-01-01"
        self.refused(write(data), "a time is missing; every step needs one")

    def test_bands_of_different_times(self, write):
        data = dataset()
        data["later"] = (("when", "y", "x"), RED[::2])
        data["later"].attrs["grid_mapping"] = "crs"
        data = data.assign_coords(when=TIMES[::2].astype("M8[ns]"))
        data["when"].encoding.update(units="days since 2018-01-01")
        path = write(data)
        self.refused(path, "bands 'nir' and 'later' have different times; read them one by one")
        assert len(scenes_from_netcdf(path, bands=["red"])) == 3

    def test_a_file_without_a_crs(self, write):
        data = dataset().drop_vars("crs")
        for name in ("red", "nir"):
            del data[name].attrs["grid_mapping"]
        path = write(data)
        self.refused(path, "does not say its CRS; give crs=")
        assert scenes_from_netcdf(path, crs="EPSG:31985").scenes[0].crs == "EPSG:31985"

    def test_axes_of_uneven_steps(self, write):
        data = dataset().assign_coords(x=("x", X + np.array([0, 0, 0, 9, 0]), PLACE["x"]))
        self.refused(write(data), "does not say where its pixels lie")


def test_a_place_in_the_file_is_a_time_for_gdal_too(write):
    scene = scenes_from_netcdf(write(dataset())).scenes[2]
    with rasterio.open(scene.layers[1].href) as source:
        np.testing.assert_array_equal(source.read(scene.layers[1].index), NIR[2])


def test_two_missing_values_are_refused_unless_one_is_chosen(write):
    data = dataset(red=RED)
    data["red"].attrs["missing_value"] = np.int16(-1)
    assert scenes_from_netcdf(write(data)).scenes[0].band("red").nodata == -1
    data["red"].attrs["missing_value"] = np.int16(-2)
    del data["red"].encoding["_FillValue"]
    data["red"].attrs["_FillValue"] = np.int16(-1)
    path = write(data, "two.nc")
    with pytest.raises(SourceError, match="several missing values, -1 and -2; a band has one"):
        scenes_from_netcdf(path)
    assert scenes_from_netcdf(path, nodata=-2).scenes[0].band("red").nodata == -2
