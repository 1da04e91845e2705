"""What any reader sees by ``xr.open_zarr(url)`` alone, and how a cube's metadata comes about."""

from __future__ import annotations

import itertools
import json
import shutil
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rioxarray  # noqa: F401  (gives every Dataset its .rio)
import xarray as xr
import zarr
from odc.geo.geobox import GeoBox

import cube
from cube import store, template
from cube.errors import SpecError, StoreError

LATER = cube.LayerSpec(name="roof", dtype="float32", units="1")
LATER_STACK = cube.StackSpec(name="sar", bands=("vv", "vh"), dtype="int16", nodata=0, scale=0.5)


@pytest.fixture(scope="module")
def filled(spec, fill, tmp_path_factory):
    """A cube whose year 2000 is written and whose year 2010 is not; read only."""
    url = cube.create(tmp_path_factory.mktemp("template") / "toy.zarr", spec)
    stored = {v.name: fill(url, v.name, time=None if v.static else 0) for v in spec.variables}
    return url, stored


@pytest.fixture(scope="module")
def plain(filled):
    """What somebody without this package sees."""
    return xr.open_zarr(filled[0])


def metadata(url):
    """zarr.json of every array by its path, as it is on disk."""
    found = {
        str(path.parent.relative_to(url)): json.loads(path.read_text())
        for path in Path(url).rglob("zarr.json")
    }
    return {path: node for path, node in found.items() if node["node_type"] == "array"}


class TestPlainReader:
    """Traps that were measured: each of these went wrong with a template made less carefully."""

    def test_opening_warns_about_nothing(self, filled):
        for consolidated in (None, True, False):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                xr.open_zarr(filled[0], consolidated=consolidated)

    def test_consolidated_metadata_equals_that_of_every_array(self, filled):
        one, other = (xr.open_zarr(filled[0], consolidated=c, chunks=None) for c in (True, False))
        xr.testing.assert_identical(one, other)

    def test_the_crs_is_known(self, plain, spec):
        assert plain.rio.crs.to_epsg() == 32633
        for variable in spec.variables:
            assert plain[variable.name].rio.crs.to_epsg() == 32633

    def test_the_transform_is_that_of_the_grid(self, plain, grid):
        assert plain.rio.transform() == grid.transform
        assert plain["predictors"].rio.transform() == grid.transform
        assert plain["basin"].rio.shape == grid.shape

    def test_the_transform_is_known_before_coordinates_are_read(self, plain, grid):
        assert plain.rio.transform(recalc=False) == grid.transform

    def test_x_and_y_are_pixel_centres(self, plain, grid):
        expected = grid.coordinates
        np.testing.assert_array_equal(plain["x"], expected["x"].values)
        np.testing.assert_array_equal(plain["y"], expected["y"].values)
        assert float(plain["x"][0]) == 300_015
        assert float(plain["y"][0]) == 4_999_985

    def test_a_geographic_grid_has_degrees(self, spec, tmp_path):
        lonlat = GeoBox.from_bbox((-35, -9, -34, -8), "EPSG:4326", resolution=0.05)
        opened = xr.open_zarr(cube.create(tmp_path / "a.zarr", replace(spec, grid=lonlat)))
        assert opened.rio.crs.to_epsg() == 4326
        assert opened["x"].attrs["units"] == "degrees_east"
        assert opened["y"].attrs["standard_name"] == "latitude"
        assert opened.rio.transform().almost_equals(lonlat.transform)

    def test_scale_and_offset_decode(self, plain, filled, spec):
        stored = filled[1]["predictors"]
        red = spec.stack("predictors")
        expected = np.where(stored == red.fill, np.nan, stored * red.scale + red.offset)
        np.testing.assert_allclose(plain["predictors"][0], expected, rtol=1e-12)

    def test_packed_integers_decode_to_float64_there_and_to_float32_by_us(self, plain, filled):
        ours = cube.open(filled[0])["predictors"]
        assert plain["predictors"].dtype == "float64"
        assert ours.dtype == "float32"
        np.testing.assert_allclose(ours[0], plain["predictors"][0], rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("name", ["terrain", "population", "lights", "glacier", "basin"])
    def test_nodata_decodes_to_nan_and_everything_else_to_itself(self, plain, filled, spec, name):
        stored, variable = filled[1][name], spec.variable(name)
        missing = np.isnan(stored) if stored.dtype.kind == "f" else stored == variable.fill
        assert missing.any()
        found = plain[name] if variable.static else plain[name][0]
        np.testing.assert_array_equal(found, np.where(missing, np.nan, stored))

    def test_the_fill_value_of_zarr_is_the_one_of_cf(self, filled, spec):
        raw = xr.open_zarr(filled[0], mask_and_scale=False)
        for variable in spec.variables:
            array = zarr.open_array(filled[0], path=variable.name, mode="r")
            assert array.dtype == variable.dtype
            decoded = xr.open_zarr(filled[0])[variable.name].encoding["_FillValue"]
            np.testing.assert_array_equal(array.fill_value, variable.fill)
            np.testing.assert_array_equal(decoded, variable.fill)
            assert "_FillValue" in raw[variable.name].attrs

    @pytest.mark.parametrize("dim", ["band", "lights_band", "terrain_band"])
    def test_band_names_are_strings_of_any_length(self, plain, filled, dim):
        node = metadata(filled[0])[dim]
        assert node["data_type"] == "string"
        assert plain[dim].dtype.kind in "TO"

    def test_a_band_is_selected_by_name(self, plain):
        red, nir = (plain["predictors"].sel(band=name) for name in ("red", "nir"))
        xr.testing.assert_equal(red.drop_vars("band"), plain["predictors"][:, 0].drop_vars("band"))
        xr.testing.assert_equal(nir.drop_vars("band"), plain["predictors"][:, 2].drop_vars("band"))
        assert plain["terrain"].sel(terrain_band="slope").shape == (100, 130)

    def test_times_are_whole_seconds_since_1970(self, filled):
        for name in ("time", "time_bnds"):
            node = metadata(filled[0])[name]
            assert node["data_type"] == "int64"
            assert node["attributes"]["units"] == "seconds since 1970-01-01"
            assert node["attributes"]["calendar"] == "proleptic_gregorian"
        assert metadata(filled[0])["time"]["attributes"]["bounds"] == "time_bnds"

    def test_times_decode_to_the_first_day_and_bounds_to_both_ends(self, plain):
        dates = np.array(
            [["2000-01-01", "2001-01-01"], ["2010-01-01", "2011-01-01"]], "datetime64[ns]"
        )
        np.testing.assert_array_equal(plain["time"], dates[:, 0])
        np.testing.assert_array_equal(plain["time_bnds"], dates)
        assert plain["predictors"].sel(time="2010").sizes["time"] == 1

    def test_times_before_1970_and_far_ahead_decode_too(self, spec, tmp_path):
        long = replace(spec, calendar=cube.years(1900, 2250))
        opened = xr.open_zarr(cube.create(tmp_path / "a.zarr", long))
        assert opened["time"].dt.year.values.tolist() == [1900, 2250]

    def test_a_year_that_is_not_written_reads_as_nan(self, plain, spec):
        for variable in spec.variables:
            if not variable.static:
                assert bool(plain[variable.name][1].isnull().all())

    def test_a_year_that_is_not_written_costs_no_file(self, filled, spec):
        for variable in spec.variables:
            if not variable.static:
                times = {path.name for path in Path(filled[0], variable.name, "c").iterdir()}
                assert times == {"0"}

    def test_a_new_cube_has_no_file_of_data_at_all(self, url, spec):
        for variable in spec.variables:
            assert [p.name for p in Path(url, variable.name).iterdir()] == ["zarr.json"]
            assert [p.name for p in Path(url, "ledger", variable.name).iterdir()] == ["zarr.json"]

    def test_class_layers_say_what_their_values_mean(self, plain):
        attrs = plain["glacier"].attrs
        assert attrs["flag_values"] == [0, 1, 2]
        assert attrs["flag_meanings"].split() == ["other", "clean_ice", "debris"]

    def test_units_and_names_are_told(self, plain):
        assert plain["terrain"].attrs["units"] == "m"
        assert plain["population"].attrs["long_name"] == "persons per pixel"
        assert plain["predictors"].attrs["long_name"] == "predictors"
        assert plain.attrs["title"] == "Toy"
        assert plain.attrs["Conventions"].startswith("CF-1.")

    def test_each_variable_carries_its_own_part_of_the_spec(self, plain, spec):
        for variable in spec.variables:
            attrs = plain[variable.name].attrs
            assert attrs["quadrat_digest"] == variable.digest
            assert template.variable_from_dict(json.loads(attrs["quadrat_spec"])) == variable

    @pytest.mark.parametrize("codec", ["none", "blosc-zstd-3-bitshuffle", "blosc-lz4-1-noshuffle"])
    @pytest.mark.parametrize("shard", [None, 32])
    def test_every_codec_chain_ends_in_a_checksum(self, spec, tmp_path, codec, shard):
        layout = cube.LayoutSpec(chunk=16, shard=shard, region=32, codec=codec)
        url = cube.create(tmp_path / "a.zarr", replace(spec, layout=layout))
        for node in metadata(url).values():
            assert all(chain[-1] == "crc32c" for chain in chains(node["codecs"]))

    def test_a_chunk_holds_every_band_and_one_time(self, filled):
        arrays = metadata(filled[0])
        shapes = {n: arrays[n]["chunk_grid"]["configuration"]["chunk_shape"] for n in arrays}
        assert shapes["predictors"] == [1, 3, 16, 16]
        assert shapes["terrain"] == [2, 16, 16]
        assert shapes["basin"] == [16, 16]
        assert shapes["ledger/predictors"] == [1, 1, 1]


def chains(codecs):
    """Names of the codecs of every chain: of the array, of its shards, of their index."""
    if codecs[0]["name"] != "sharding_indexed":
        return [[codec["name"] for codec in codecs]]
    inner = codecs[0]["configuration"]
    return [*chains(inner["codecs"]), *chains(inner["index_codecs"])]


class TestCreate:
    def test_creating_again_with_the_same_spec_changes_no_byte(self, url, spec, fill, contents):
        fill(url, "basin")
        before = contents(url)
        assert cube.create(url, spec) == url
        assert contents(url) == before

    def test_creating_with_the_spec_that_it_tells_changes_no_byte(self, url, contents):
        before = contents(url)
        cube.create(url, cube.read_spec(url))
        assert contents(url) == before

    def test_two_cubes_of_one_spec_have_the_same_bytes(self, url, spec, tmp_path, contents):
        assert contents(cube.create(tmp_path / "other.zarr", spec)) == contents(url)

    def test_a_cube_tells_the_spec_that_it_was_made_from(self, any_url, any_layout):
        assert cube.read_spec(any_url) == any_layout
        assert cube.read_spec(any_url).digest == any_layout.digest

    @pytest.mark.parametrize(
        ("field", "change"),
        [
            ("title", {"title": "Other"}),
            ("calendar", {"calendar": cube.years(2000)}),
            ("layout", {"layout": cube.LayoutSpec(chunk=16, region=64)}),
            ("stacks", {"stacks": (LATER_STACK, replace(LATER_STACK, name="lights"))}),
            ("layers", {"layers": (replace(LATER, name="population", dtype="float32"),)}),
        ],
    )
    def test_another_spec_is_refused_by_the_name_of_the_field(
        self, url, spec, contents, field, change
    ):
        before = contents(url)
        with pytest.raises(StoreError, match=rf"another spec lies at .*\. {field}: the cube has"):
            cube.create(url, replace(spec, **change))
        assert contents(url) == before

    def test_another_grid_is_refused(self, url, spec, grid):
        with pytest.raises(StoreError, match="grid: the cube has"):
            cube.create(url, replace(spec, grid=grid[:50, :50]))

    def test_an_empty_folder_is_used(self, tmp_path, spec):
        (tmp_path / "a.zarr").mkdir()
        assert cube.read_spec(cube.create(tmp_path / "a.zarr", spec)) == spec

    def test_folders_above_are_made(self, tmp_path, spec):
        assert cube.read_spec(cube.create(tmp_path / "a/b/c.zarr", spec)) == spec

    def test_a_relative_folder_and_a_file_url_mean_the_same(
        self, tmp_path, spec, url, monkeypatch, contents
    ):
        monkeypatch.chdir(tmp_path)
        before = contents(url)
        for same in ("toy.zarr", f"file://{url}", Path(url)):
            assert cube.create(same, spec) == url
        assert contents(url) == before

    def test_a_file_in_the_way_is_refused_and_left_alone(self, tmp_path, spec):
        file = tmp_path / "a.zarr"
        file.write_text("mine")
        with pytest.raises(StoreError, match=r"A file lies at .* choose another"):
            cube.create(file, spec)
        assert file.read_text() == "mine"

    def test_a_file_in_place_of_a_folder_above_is_refused(self, tmp_path, spec):
        (tmp_path / "a").write_text("mine")
        with pytest.raises(StoreError, match="a file lies where a folder is needed"):
            cube.create(tmp_path / "a" / "b.zarr", spec)

    def test_a_folder_of_something_else_is_refused_and_left_alone(self, tmp_path, spec, contents):
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(StoreError, match="is not a cube: it holds no Zarr v3 group"):
            cube.create(tmp_path, spec)
        assert list(contents(tmp_path)) == ["notes.txt"]

    def test_a_zarr_group_that_is_no_cube_is_refused_and_left_alone(self, tmp_path, spec, contents):
        zarr.create_group(str(tmp_path / "a.zarr"), attributes={"theirs": 1})
        before = contents(tmp_path)
        with pytest.raises(StoreError, match="a Zarr group that is no cube lies there"):
            cube.create(tmp_path / "a.zarr", spec)
        assert contents(tmp_path) == before

    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (lambda url: zarr.create_group(url, zarr_format=2), "holds no Zarr v3 group"),
            (
                lambda url: zarr.create_array(url, shape=(1,), dtype="int8"),
                "metadata cannot be read",
            ),
            (
                lambda url: (Path(url).mkdir(), Path(url, "zarr.json").write_text("{")),
                "metadata cannot be read",
            ),
        ],
        ids=["version 2", "an array", "damaged"],
    )
    def test_zarr_of_another_kind_is_refused(self, tmp_path, spec, make, reason):
        make(str(tmp_path / "a.zarr"))
        for call in (lambda url: cube.create(url, spec), cube.read_spec, cube.open):
            with pytest.raises(StoreError, match=f"is not a cube: .*{reason}"):
                call(tmp_path / "a.zarr")

    @pytest.mark.parametrize("scheme", ["s3", "gs", "https", "ftp"])
    def test_an_unknown_scheme_is_refused(self, spec, scheme):
        with pytest.raises(StoreError, match=f"Received scheme '{scheme}'"):
            cube.create(f"{scheme}://bucket/a.zarr", spec)

    def test_a_cube_may_live_in_memory(self, spec, fill):
        url = cube.create("memory://test_template", spec)
        stored = fill(url, "basin")
        assert cube.create(url, spec) == url
        np.testing.assert_array_equal(cube.open(url, stored=True)["basin"], stored)
        with pytest.raises(StoreError, match="another spec"):
            cube.create(url, replace(spec, title="Other"))

    def test_what_a_faster_process_has_created_and_written_stays(
        self, spec, tmp_path, fill, monkeypatch
    ):
        lock, folder, written = store.metadata_lock, tmp_path / "a.zarr", []

        @contextmanager
        def slow_lock(url):
            if not written:
                with monkeypatch.context() as other_process:
                    other_process.setattr(store, "metadata_lock", lock)
                    cube.create(folder, spec)
                    written.append(fill(str(folder), "basin"))
            with lock(url):
                yield

        monkeypatch.setattr(store, "metadata_lock", slow_lock)
        cube.create(folder, spec)
        np.testing.assert_array_equal(store.read(str(folder), "basin"), written[0])

    def test_a_full_disk_is_told_in_one_line(self, spec, tmp_path, monkeypatch):
        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("zarr.storage._local._put", full)
        with pytest.raises(StoreError, match=r"^Cannot write to '.*': the disk is full"):
            cube.create(tmp_path / "a.zarr", spec)


class TestCutShort:
    """A creation or an addition that is killed, at each of its steps."""

    @pytest.fixture
    def half(self, spec, tmp_path, killed, monkeypatch):
        """A cube whose creation died just before the consolidation."""
        with monkeypatch.context() as dying:
            dying.setattr(store, "consolidate", killed)
            with pytest.raises(killed.error, match="killed here"):
                cube.create(tmp_path / "half.zarr", spec)
        return str(tmp_path / "half.zarr")

    def test_half_a_cube_cannot_be_opened(self, half):
        for call in (cube.open, cube.read_spec, cube.verify):
            with pytest.raises(StoreError, match=r"was cut short. Create it again with the same"):
                call(half)

    def test_half_a_cube_is_finished_by_creating_it_again(self, half, spec, url, contents):
        cube.create(half, spec)
        assert contents(half) == contents(url)

    @pytest.mark.parametrize(
        "change",
        [
            {"title": "Other"},
            {"calendar": cube.years(1990)},
            {"layers": ()},
            {"stacks": (LATER_STACK,)},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_half_a_cube_is_not_finished_with_another_spec(self, half, spec, change, contents):
        before = contents(half)
        with pytest.raises(StoreError, match=r"another spec lies at .* its creation was cut short"):
            cube.create(half, replace(spec, **change))
        assert contents(half) == before

    def test_a_creation_killed_at_any_array_is_finished_by_creating_it_again(
        self, spec, url, tmp_path, killed, monkeypatch, contents
    ):
        create_arrays, expected = store.create_arrays, contents(url)
        for step in range(0, 8, 2):
            folder = tmp_path / f"{step}.zarr"
            calls = itertools.count()

            def dying(group, plans, *, last=step, calls=calls):
                plans = list(plans)
                if next(calls) == last:
                    create_arrays(group, plans[:1])
                    killed()
                create_arrays(group, plans)

            with monkeypatch.context() as patched:
                patched.setattr(store, "create_arrays", dying)
                with pytest.raises(killed.error, match="killed here"):
                    cube.create(folder, spec)
            cube.create(folder, spec)
            assert contents(folder) == expected

    def test_a_file_half_written_when_creation_died_is_swept(self, half, spec, url, contents):
        for stray in ("zarr.0f.partial", "basin/zarr.1f.partial", "ledger/basin/zarr.2f.partial"):
            Path(half, stray).write_text("{")
        cube.create(half, spec)
        assert contents(half) == contents(url)

    def test_a_creation_killed_before_its_first_file_is_begun_anew(
        self, tmp_path, spec, url, contents
    ):
        folder = tmp_path / "a.zarr"
        folder.mkdir()
        (folder / "zarr.0f.partial").write_text("{")
        cube.create(folder, spec)
        assert contents(folder) == contents(url)

    @pytest.fixture
    def whole(self, url, tmp_path):
        """The cube to which layer and stack were added without a disturbance."""
        shutil.copytree(url, tmp_path / "whole.zarr")
        cube.add(tmp_path / "whole.zarr", LATER, LATER_STACK)
        return tmp_path / "whole.zarr"

    def test_an_addition_killed_before_the_consolidation_is_not_seen_and_can_be_redone(
        self, url, whole, killed, monkeypatch, contents, spec
    ):
        with monkeypatch.context() as dying:
            dying.setattr(store, "consolidate", killed)
            with pytest.raises(killed.error, match="killed here"):
                cube.add(url, LATER, LATER_STACK)
        assert cube.read_spec(url) == spec
        assert "roof" not in xr.open_zarr(url)
        cube.add(url, LATER, LATER_STACK)
        assert contents(url) == contents(whole)

    def test_an_addition_killed_between_its_arrays_is_redone_even_after_another_addition(
        self, url, whole, killed, monkeypatch, contents
    ):
        create_arrays = store.create_arrays

        def dying(group, plans):
            create_arrays(group, list(plans)[:1])
            killed()

        with monkeypatch.context() as patched:
            patched.setattr(store, "create_arrays", dying)
            with pytest.raises(killed.error, match="killed here"):
                cube.add(url, LATER)
        cube.add(url, LATER_STACK)
        cube.add(url, LATER)
        assert contents(url) == contents(whole)


class TestAdd:
    def test_what_is_added_is_seen_by_any_reader(self, url, spec, fill):
        found = cube.add(url, LATER, LATER_STACK)
        assert found == cube.read_spec(url) == spec.with_variables(LATER, LATER_STACK)
        stored = fill(url, "sar", time=1)
        plain = xr.open_zarr(url)
        expected = np.where(stored == 0, np.nan, stored * 0.5)
        np.testing.assert_array_equal(plain["sar"].sel(time="2010")[0], expected)
        assert plain["sar"].sel(sar_band="vh").dims == ("time", "y", "x")
        assert plain["roof"].rio.crs.to_epsg() == 32633

    def test_the_others_are_left_untouched(self, url, fill, contents):
        fill(url, "predictors", time=0)
        before = contents(url)
        cube.add(url, LATER, LATER_STACK)
        after = contents(url)
        assert {path for path in before if before[path] != after[path]} == {"zarr.json"}

    def test_adding_again_changes_no_byte_and_loses_no_data(self, url, fill, contents):
        cube.add(url, LATER)
        fill(url, "roof", time=0)
        before = contents(url)
        cube.add(url, LATER)
        assert contents(url) == before

    def test_a_cube_that_was_added_to_is_still_the_one_that_was_created(self, url, spec, contents):
        cube.add(url, LATER, LATER_STACK)
        before = contents(url)
        cube.create(url, spec)
        assert contents(url) == before

    def test_another_spec_under_the_same_name_is_refused(self, url, contents):
        before = contents(url)
        with pytest.raises(StoreError, match=r"another 'population': .*float64.*Choose another"):
            cube.add(url, LATER, cube.LayerSpec(name="population", dtype="float32"))
        assert contents(url) == before

    def test_a_name_that_is_a_band_dimension_is_refused(self, url):
        with pytest.raises(SpecError, match=r"must be unique within a cube.*\['band'\]"):
            cube.add(url, cube.LayerSpec(name="band", dtype="float32"))

    def test_nothing_can_be_added_where_there_is_no_cube(self, tmp_path):
        with pytest.raises(StoreError, match="no such folder; create the cube first"):
            cube.add(tmp_path / "none.zarr", LATER)
        assert not (tmp_path / "none.zarr").exists()

    def test_two_processes_that_add_at_the_same_time_lose_nothing(self, url, spec, start):
        code = (
            "import sys, cube\n"
            "for i in range(5):\n"
            "    name = f'{sys.argv[2]}{i}'\n"
            "    cube.add(sys.argv[1], cube.LayerSpec(name=name, dtype='float32'))\n"
        )
        children = [start(code, url, who) for who in ("mine", "yours")]
        for child in children:
            _, errors = child.communicate(timeout=60)
            assert child.returncode == 0, errors
        added = {f"{who}{i}" for who in ("mine", "yours") for i in range(5)}
        assert {v.name for v in cube.read_spec(url).variables} == added | {
            v.name for v in spec.variables
        }
        assert added <= set(xr.open_zarr(url))


class TestReadSpec:
    def test_there_must_be_a_cube(self, tmp_path):
        with pytest.raises(StoreError, match=r"There is no cube at .*none.zarr'; create it first"):
            cube.read_spec(tmp_path / "none.zarr")

    def test_a_group_of_somebody_else_is_no_cube(self, tmp_path):
        zarr.create_group(str(tmp_path / "a.zarr"))
        with pytest.raises(StoreError, match="is a Zarr group but not a cube"):
            cube.read_spec(tmp_path / "a.zarr")

    def test_a_cube_of_a_newer_format_is_refused(self, url, spec):
        path = Path(url, "zarr.json")
        # Attributes hold JSON as text, so its quotes are escaped.
        newer = path.read_text().replace(r"\"format_version\":1", r"\"format_version\":2")
        path.write_text(newer)
        for call in (cube.read_spec, cube.open, lambda url: cube.create(url, spec)):
            with pytest.raises(SpecError, match=r"has format 2; .* Install a newer quadrat"):
                call(url)


class TestAnnotate:
    def test_readers_see_it_and_nothing_else_changes(self, url, contents, spec):
        before = contents(url)
        template.annotate(url, "basin", source="HydroSHEDS")
        after = contents(url)
        assert {path for path in before if before[path] != after[path]} == {
            "zarr.json",
            "basin/zarr.json",
        }
        assert xr.open_zarr(url)["basin"].attrs["source"] == "HydroSHEDS"
        assert cube.read_spec(url) == spec

    def test_saying_it_again_changes_no_byte(self, url, contents):
        template.annotate(url, "basin", inputs={"a": 1})
        before = contents(url)
        template.annotate(url, "basin", inputs={"a": 1})
        assert contents(url) == before

    def test_mappings_are_merged_whatever_the_order(self, url, tmp_path, spec, contents):
        other = cube.create(tmp_path / "other.zarr", spec)
        for folder, order in ((url, "abc"), (other, "cab")):
            for key in order:
                template.annotate(folder, "basin", inputs={key: {"from": key}})
        assert list(json.loads(store.array_attributes(url)["basin"]["inputs"])) == ["a", "b", "c"]
        assert contents(url) == contents(other)

    def test_one_killed_before_the_consolidation_is_finished_by_the_next(
        self, url, killed, monkeypatch
    ):
        with monkeypatch.context() as dying:
            dying.setattr(store, "consolidate", killed)
            with pytest.raises(killed.error, match="killed here"):
                template.annotate(url, "basin", inputs={"a": 1})
        template.annotate(url, "basin", inputs={"a": 1})
        assert json.loads(xr.open_zarr(url)["basin"].attrs["inputs"]) == {"a": 1}

    def test_only_what_is_there_can_be_annotated(self, url):
        with pytest.raises(StoreError, match="The cube has no array 'rood'"):
            template.annotate(url, "rood", source="nowhere")


def test_every_attribute_is_one_that_netcdf_can_hold(tmp_path, spec):
    url = template.create(tmp_path / "cube.zarr", spec)
    dataset = xr.open_zarr(url)
    for owner in (dataset, *dataset.variables.values()):
        for name, value in owner.attrs.items():
            flat = value if isinstance(value, list) else [value]
            assert all(isinstance(item, str | int | float) for item in flat), name
