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
from cube import ledger, locking, objects, store, template
from cube.errors import SpecError, StoreError

LATER = cube.LayerSpec(name="roof", dtype="float32", units="1")
BASIN = cube.LayerSpec(name="basin", dtype="int32", nodata=-1, static=True)
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


def nodes_of(url):
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
        node = nodes_of(filled[0])[dim]
        assert node["data_type"] == "string"
        assert plain[dim].dtype.kind in "TO"

    def test_a_band_is_selected_by_name(self, plain):
        red, nir = (plain["predictors"].sel(band=name) for name in ("red", "nir"))
        xr.testing.assert_equal(red.drop_vars("band"), plain["predictors"][:, 0].drop_vars("band"))
        xr.testing.assert_equal(nir.drop_vars("band"), plain["predictors"][:, 2].drop_vars("band"))
        assert plain["terrain"].sel(terrain_band="slope").shape == (100, 130)

    def test_times_are_whole_seconds_since_1970(self, filled):
        for name in ("time", "time_bnds"):
            node = nodes_of(filled[0])[name]
            assert node["data_type"] == "int64"
            assert node["attributes"]["units"] == "seconds since 1970-01-01"
            assert node["attributes"]["calendar"] == "proleptic_gregorian"
        assert nodes_of(filled[0])["time"]["attributes"]["bounds"] == "time_bnds"

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
        for node in nodes_of(url).values():
            assert all(chain[-1] == "crc32c" for chain in chains(node["codecs"]))

    def test_a_chunk_holds_every_band_and_one_time(self, filled):
        arrays = nodes_of(filled[0])
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
            ("calendar", {"calendar": cube.years(2001)}),
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
        with pytest.raises(StoreError, match=r"it is not empty, 'notes.txt' lies there\. Choose"):
            cube.create(tmp_path, spec)
        with pytest.raises(StoreError, match="is not a cube: it holds no Zarr v3 group"):
            cube.read_spec(tmp_path)
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
            (lambda url: zarr.create_group(url, zarr_format=2), "it holds no Zarr v3 group"),
            (
                lambda url: zarr.create_array(url, shape=(1,), dtype="int8"),
                "a Zarr array lies there",
            ),
            (
                lambda url: (Path(url).mkdir(), Path(url, "zarr.json").write_text("{")),
                "metadata cannot be read",
            ),
        ],
        ids=["version 2", "an array", "damaged"],
    )
    def test_zarr_of_another_kind_is_refused(self, tmp_path, spec, make, reason, contents):
        make(str(tmp_path / "a.zarr"))
        before = contents(tmp_path)
        for call in (cube.read_spec, cube.open):
            with pytest.raises(StoreError, match=f"is not a cube: .*{reason}"):
                call(tmp_path / "a.zarr")
        with pytest.raises(StoreError, match=r"is not a cube: |Cannot create .* it is not empty"):
            cube.create(tmp_path / "a.zarr", spec)
        assert contents(tmp_path) == before

    @pytest.mark.parametrize("scheme", ["S3", "gcs", "https", "ftp"])
    def test_an_unknown_scheme_is_refused(self, spec, scheme):
        with pytest.raises(StoreError, match=f"Received the scheme '{scheme}'"):
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
        hold, folder, written = locking.hold, tmp_path / "a.zarr", []

        @contextmanager
        def slow_hold(url, name, **options):
            if not written:
                with monkeypatch.context() as other_process:
                    other_process.setattr(locking, "hold", hold)
                    cube.create(folder, spec)
                    written.append(fill(str(folder), "basin"))
            with hold(url, name, **options) as held:
                yield held

        monkeypatch.setattr(locking, "hold", slow_hold)
        cube.create(folder, spec)
        np.testing.assert_array_equal(store.read(str(folder), "basin"), written[0])

    def test_a_full_disk_is_told_in_one_line_and_creation_goes_on_later(
        self, spec, tmp_path, url, monkeypatch, contents
    ):
        write, room = objects._put_bytes, itertools.count()

        def full(path, data):
            if next(room) > 12:
                raise OSError(28, "No space left on device")
            return write(path, data)

        with monkeypatch.context() as small:
            small.setattr(objects, "_put_bytes", full)
            with pytest.raises(StoreError, match=r"^Cannot write to '.*': the disk is full"):
                cube.create(tmp_path / "a.zarr", spec)
        assert not list(tmp_path.rglob("*.partial"))
        cube.create(tmp_path / "a.zarr", spec)
        assert contents(tmp_path / "a.zarr") == contents(url)


@pytest.fixture
def killed_at(monkeypatch, killed):
    """Die at the n-th put or deletion; a put then leaves half of its temporary file."""

    @contextmanager
    def dying(step):
        put, delete, calls = objects.Folder.put, objects.Folder.delete, itertools.count()

        def put_or_die(there, key, data):
            if next(calls) == step:
                partial = there.root / f"{key}.{step:032x}.partial"
                partial.parent.mkdir(parents=True, exist_ok=True)
                partial.write_bytes(data[: len(data) // 2])
                killed()
            put(there, key, data)

        def delete_or_die(there, key):
            if next(calls) == step:
                killed()
            delete(there, key)

        with monkeypatch.context() as patched:
            patched.setattr(objects.Folder, "put", put_or_die)
            patched.setattr(objects.Folder, "delete", delete_or_die)
            yield

    return dying


@pytest.fixture
def at_every_step(killed_at, killed):
    """Do something in a new place for each of its steps, killed there; ends after the last.

    Gives the place each time that it was killed.
    """

    def steps(prepare, act):
        for step in itertools.count():
            place = prepare(step)
            try:
                with killed_at(step):
                    act(place)
            except killed.error:
                yield place
            else:
                assert step > 1
                return

    return steps


def seen(url):
    """What a plain reader sees, loaded."""
    with xr.open_zarr(url, chunks=None) as dataset:
        return dataset.load()


def lasting(contents):
    """Without the files of locks, which are no part of a cube."""
    return {key: value for key, value in contents.items() if not locking.is_lock(key)}


class TestCreationCutShort:
    """A creation that is killed, at each of its steps."""

    @pytest.fixture
    def small(self, grid, spec):
        return replace(
            spec, grid=grid[:40, :50], stacks=(spec.stack("predictors"),), layers=(spec.layers[-1],)
        )

    @pytest.fixture
    def half(self, spec, tmp_path, killed, killed_at, contents, url):
        """A cube whose creation died in its last step."""
        with killed_at(len(contents(url)) - 1), pytest.raises(killed.error, match="killed here"):
            cube.create(tmp_path / "half.zarr", spec)
        (partial,) = tmp_path.glob("half.zarr/*.partial")
        partial.unlink()
        return str(tmp_path / "half.zarr")

    def test_it_is_no_cube_and_is_finished_by_creating_it_again(
        self, small, tmp_path, at_every_step, contents
    ):
        whole = contents(cube.create(tmp_path / "whole.zarr", small))
        places = at_every_step(
            lambda step: tmp_path / f"{step}.zarr", lambda url: cube.create(url, small)
        )
        killed = 0
        for url in places:
            with pytest.raises(FileNotFoundError):
                xr.open_zarr(url)
            with pytest.raises(StoreError, match=r"There is no cube|is not a cube"):
                cube.read_spec(url)
            cube.create(url, small)
            assert contents(url) == whole
            killed += 1
        assert killed == len(whole)

    def test_half_a_cube_cannot_be_opened_or_changed(self, half, contents):
        before = contents(half)
        calls = (cube.open, cube.read_spec, cube.verify, lambda url: cube.add(url, LATER))
        for call in calls:
            with pytest.raises(StoreError, match=r"was cut short there, create it again with the"):
                call(half)
        assert contents(half) == before

    @pytest.mark.parametrize(
        "change",
        [{"layers": ()}, {"stacks": (LATER_STACK,)}],
        ids=lambda change: next(iter(change)),
    )
    def test_it_is_not_finished_with_other_arrays(self, half, spec, change, contents):
        before = contents(half)
        with pytest.raises(StoreError, match=r"Cannot create .*: it is not empty, '"):
            cube.create(half, replace(spec, **change))
        assert contents(half) == before

    @pytest.mark.parametrize(
        "change",
        [{"title": "Other"}, {"calendar": cube.years(1990)}, {"calendar": cube.years(1970)}],
        ids=["title", "calendar", "epoch"],
    )
    def test_nothing_of_it_stays_in_another_cube_of_these_arrays(
        self, half, spec, change, tmp_path, contents
    ):
        # Nobody has seen the first, so another may take its place; but never a mixture.
        other = replace(spec, **change)
        whole = contents(cube.create(tmp_path / "other.zarr", other))
        before = contents(half)
        if set(before) - set(whole):
            # The epoch is the fill value of the time coordinate, which is not stored then.
            with pytest.raises(StoreError, match="it is not empty, 'time/c/0' lies there"):
                cube.create(half, other)
            assert contents(half) == before
        else:
            cube.create(half, other)
            assert contents(half) == whole


EXTRA = (
    store.ArrayPlan(
        path="coverage/tracts/label",
        shape=(3,),
        chunks=(3,),
        dtype="int32",
        fill=-1,
        dims=("n",),
        attrs={},
    ),
    np.array([1, 2, 3], "int32"),
)
CHANGES = {
    "add": lambda url: cube.add(url, LATER, LATER_STACK),
    "append": lambda url: template.append(url, *cube.years(2020, 2030)),
    "remove": lambda url: template.remove(url, "predictors"),
    "annotate": lambda url: template.annotate(url, "basin", source="HydroSHEDS"),
    "put arrays": lambda url: template.put_arrays(url, [EXTRA]),
}


@pytest.fixture(scope="module")
def base(grid, spec, fill, tmp_path_factory):
    """A small cube with a stack and two layers, all written; to copy."""
    small = replace(
        spec,
        grid=grid[:40, :50],
        stacks=(spec.stack("predictors"),),
        layers=(spec.layer("population"), BASIN),
    )
    url = cube.create(tmp_path_factory.mktemp("cut") / "base.zarr", small)
    for name, time in (
        ("predictors", 0),
        ("predictors", 1),
        ("population", 0),
        ("basin", None),
    ):
        fill(url, name, time=time)
    return url


class TestChangeCutShort:
    """A change of a cube that is killed, at each of its steps."""

    @pytest.fixture
    def copy(self, base, tmp_path):
        return lambda name: str(shutil.copytree(base, tmp_path / f"{name}.zarr"))

    @pytest.mark.parametrize("kind", CHANGES)
    def test_readers_see_the_old_or_the_new_and_doing_it_again_finishes_it(
        self, copy, kind, at_every_step, contents
    ):
        act = CHANGES[kind]
        old, whole = seen(copy("old")), copy("whole")
        act(whole)
        new, expected = seen(whole), lasting(contents(whole))
        for url in at_every_step(copy, act):
            now = seen(url)
            assert now.identical(old) or now.identical(new)
            act(url)
            assert lasting(contents(url)) == expected
            assert cube.verify(url).sound

    def test_a_removal_that_was_cut_short_brings_nothing_back(self, copy, base, at_every_step):
        stack = cube.read_spec(base).stack("predictors")
        begun = 0
        for url in at_every_step(copy, CHANGES["remove"]):
            if "predictors" in {v.name for v in cube.read_spec(url).variables}:
                continue
            begun += 1
            spec = cube.add(url, stack)
            assert not ledger.entries(url, spec, ["predictors"])["predictors"].written.any()
            assert (store.read(url, "predictors") == -9999).all()
            assert not ledger.entries(url, spec, ["predictors"])["predictors"].replaced.any()
            verdict = cube.verify(url)
            assert verdict.sound
            assert {f.variable for f in verdict.of("whole")} == {"population", "basin"}
        assert begun > 10

    def test_an_addition_that_was_cut_short_is_done_after_another(
        self, copy, at_every_step, contents
    ):
        whole = copy("whole")
        CHANGES["add"](whole)
        template.append(whole, *cube.years(2020))
        for url in at_every_step(copy, lambda url: cube.add(url, LATER)):
            cube.add(url, LATER_STACK)
            template.append(url, *cube.years(2020))
            cube.add(url, LATER)
            assert lasting(contents(url)).keys() == lasting(contents(whole)).keys()
            xr.testing.assert_identical(seen(url), seen(whole))
            assert cube.verify(url).sound

    def test_other_periods_may_follow_after_an_append_that_was_cut_short(
        self, copy, at_every_step, contents
    ):
        whole = copy("whole")
        template.append(whole, *cube.years(2015))
        expected = lasting(contents(whole))
        for url in at_every_step(copy, CHANGES["append"]):
            if len(cube.read_spec(url).calendar) == 2:
                template.append(url, *cube.years(2015))
                assert lasting(contents(url)) == expected


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
        with pytest.raises(StoreError, match="There is no cube at .*; create it first"):
            cube.add(tmp_path / "none.zarr", LATER)
        assert not (tmp_path / "none.zarr").exists()

    def test_processes_that_change_it_at_the_same_time_lose_nothing_and_readers_see_it_whole(
        self, url, spec, start
    ):
        code = (
            "import sys, cube\n"
            "from cube import template\n"
            "print('begun', flush=True)\n"
            "for i in range(15):\n"
            "    name = f'{sys.argv[2]}{i}'\n"
            "    cube.add(sys.argv[1], cube.LayerSpec(name=name, dtype='float32'))\n"
            "    if sys.argv[2] == 'yours':\n"
            "        template.append(sys.argv[1], *cube.years(2020 + i))\n"
        )
        children = [start(code, url, who) for who in ("mine", "yours")]
        for child in children:
            assert child.stdout.readline() == "begun\n"
        looks = 0
        while any(child.poll() is None for child in children):
            check_whole(url)
            looks += 1
        for child in children:
            _, errors = child.communicate(timeout=60)
            assert child.returncode == 0, errors
        assert looks > 5
        added = {f"{who}{i}" for who in ("mine", "yours") for i in range(15)}
        found = cube.read_spec(url)
        assert {v.name for v in found.variables} == added | {v.name for v in spec.variables}
        assert found.calendar == cube.years(2000, 2010, *range(2020, 2035))
        assert added <= check_whole(url)


def check_whole(url):
    """Open as somebody without this package does; names of the variables, all of one calendar."""
    with xr.open_zarr(url, chunks=None) as plain:
        starts = [p["start"] for p in json.loads(plain.attrs["quadrat"])["calendar"]]
        assert plain["time"].dt.strftime("%Y-%m-%d").values.tolist() == starts
        for name, values in plain.data_vars.items():
            if "time" in values.dims:
                assert values.sizes["time"] == len(starts)
            corner = dict.fromkeys(values.dims, -1)
            values[corner].load()
            if "quadrat_spec" in values.attrs:
                assert json.loads(values.attrs["quadrat_spec"])["name"] == name
        return set(plain.data_vars)


class TestAppend:
    def test_any_reader_sees_the_new_periods(self, url, spec, fill):
        stored = fill(url, "population", time=1)
        found = template.append(url, *cube.years(2020, 2021))
        assert found == cube.read_spec(url)
        assert found == replace(spec, calendar=cube.years(2000, 2010, 2020, 2021))
        check_whole(url)
        plain = xr.open_zarr(url)
        np.testing.assert_array_equal(plain["population"].sel(time="2010")[0], stored)
        assert bool(plain["population"].sel(time="2020").isnull().all())
        assert plain["time_bnds"].values[-1].astype("datetime64[D]").astype(str).tolist() == [
            "2021-01-01",
            "2022-01-01",
        ]
        written = fill(url, "population", time=3)
        np.testing.assert_array_equal(xr.open_zarr(url)["population"][3], written)
        assert not cube.verify(url).damaged

    def test_nothing_that_is_written_changes(self, url, fill, contents):
        fill(url, "predictors", time=0)
        fill(url, "basin")
        before = contents(url)
        template.append(url, *cube.years(2020))
        after = contents(url)
        assert set(before) == set(after)
        changed = {key for key in before if before[key] != after[key]}
        assert {key for key in changed if not key.endswith("zarr.json")} == {
            "time/c/0",
            "time_bnds/c/0/0",
        }

    def test_those_it_has_already_stay_as_they_are(self, url, spec, contents):
        before = contents(url)
        assert template.append(url) == spec
        assert template.append(url, *spec.calendar) == spec
        assert contents(url) == before
        template.append(url, *cube.years(2010, 2020))
        assert [p.label for p in cube.read_spec(url).calendar] == ["2000", "2010", "2020"]

    @pytest.mark.parametrize(
        ("periods", "reason"),
        [
            (
                cube.years(1990),
                r"after the last, '2010', which ends on 2011-01-01. Received '1990'",
            ),
            (cube.years(2005), r"after the last, '2010'.* Received '2005' from 2005-01-01; create"),
            (cube.years(2020, 2005), r"after the last.* Received '2005'"),
            ((cube.Period(label="b", start="2010-07-01", end="2012-01-01"),), "Received 'b' from"),
            (cube.years(2030, 2020), "follow one another without overlap"),
            (cube.years(2020, 2020), "follow one another without overlap"),
            ((cube.Period(label="2010", start="2020-01-01", end="2021-01-01"),), "unique"),
        ],
    )
    def test_order_and_labels_are_kept(self, url, contents, periods, reason):
        before = contents(url)
        with pytest.raises(SpecError, match=reason):
            template.append(url, *periods)
        assert contents(url) == before

    def test_what_was_added_and_noted_stays(self, url):
        cube.add(url, LATER)
        template.annotate(url, "roof", inputs={"2000": {"digest": "0"}})
        before = cube.read_spec(url)
        template.append(url, *cube.years(2020))
        assert cube.read_spec(url) == replace(before, calendar=cube.years(2000, 2010, 2020))
        assert json.loads(xr.open_zarr(url)["roof"].attrs["inputs"]) == {"2000": {"digest": "0"}}
        assert xr.open_zarr(url)["roof"].sizes["time"] == 3

    def test_an_opened_dataset_stays_as_it_was(self, url, fill):
        stored = fill(url, "population", time=0)
        opened, plain = cube.open(url), xr.open_zarr(url)
        template.append(url, *cube.years(2020))
        for dataset in (opened, plain):
            np.testing.assert_array_equal(dataset["population"][0], stored)
            assert dataset["population"].load().sizes["time"] == 2

    def test_there_must_be_a_cube(self, tmp_path):
        with pytest.raises(StoreError, match="There is no cube at"):
            template.append(tmp_path / "none.zarr", *cube.years(2020))
        assert not (tmp_path / "none.zarr").exists()


class TestRemove:
    @pytest.mark.parametrize("name", ["predictors", "lights", "terrain", "glacier", "basin"])
    def test_it_goes_with_its_own_files_and_no_others(self, url, spec, fill, contents, name):
        for variable in spec.variables:
            fill(url, variable.name, time=None if variable.static else 1)
        region = next(cube.regions(spec, name, time=None if spec.variable(name).static else 1))
        empty = np.full(
            (*spec.variable(name).inner_shape, *region.shape),
            spec.variable(name).fill,
            spec.variable(name).dtype,
        )
        cube.write_region(url, name, region, empty, overwrite=True)
        before = contents(url)
        own = (name, f"ledger/{name}", f"replaced/{name}", *spec.variable(name).inner_dims)
        found = template.remove(url, name)
        after = contents(url)
        assert found == cube.read_spec(url)
        assert name not in {v.name for v in found.variables}
        gone = {key for key in before if key.startswith(tuple(f"{path}/" for path in own))}
        assert set(after) == set(before) - gone
        assert {key for key in after if before[key] != after[key]} == {"zarr.json"}
        assert not any(Path(url, path).exists() for path in own)
        assert cube.verify(url).sound
        assert name not in xr.open_zarr(url)

    def test_added_again_it_starts_empty(self, url, spec, fill):
        fill(url, "predictors", time=0)
        template.remove(url, "predictors")
        assert cube.add(url, spec.stack("predictors")) == cube.read_spec(url)
        assert (store.read(url, "predictors") == -9999).all()
        assert not cube.verify(url, variables=("predictors",)).of("whole")

    def test_another_of_the_name_may_take_its_place(self, url, fill):
        fill(url, "predictors", time=0)
        template.remove(url, "predictors")
        other = cube.StackSpec(name="predictors", bands=("vv",), dtype="float32")
        cube.add(url, other)
        stored = fill(url, "predictors", time=1)
        plain = xr.open_zarr(url)
        np.testing.assert_array_equal(plain["predictors"][1], stored)
        assert plain["band"].values.tolist() == ["vv"]

    def test_a_cube_without_it_is_not_the_one_that_was_created(self, url, spec):
        template.remove(url, "basin")
        with pytest.raises(StoreError, match="another spec"):
            cube.create(url, spec)

    @pytest.mark.parametrize("name", ["rood", "ledger", "time", "band", "coverage", ".", ""])
    def test_only_variables_can_be_removed(self, url, name, fill, contents):
        fill(url, "basin")
        before = contents(url)
        with pytest.raises(SpecError, match="The cube has no variable"):
            template.remove(url, name)
        assert contents(url) == before


class TestPutArrays:
    PLAN, VALUES = EXTRA

    def test_they_are_there_for_any_reader(self, url, spec):
        template.put_arrays(url, [(self.PLAN, self.VALUES)])
        found = xr.open_zarr(url, group="coverage/tracts")["label"]
        np.testing.assert_array_equal(found, self.VALUES)
        assert cube.read_spec(url) == spec
        assert cube.verify(url).sound

    def test_the_same_again_does_not_touch_what_readers_see(self, url, contents, monkeypatch):
        template.put_arrays(url, [(self.PLAN, self.VALUES)])
        before = contents(url)
        for method in ("put", "delete"):
            monkeypatch.setattr(objects.Folder, method, lambda *_: pytest.fail("touched"))
        template.put_arrays(url, [(self.PLAN, self.VALUES)])
        assert contents(url) == before

    def test_others_of_the_name_are_refused(self, url, contents):
        template.put_arrays(url, [(self.PLAN, self.VALUES)])
        before = contents(url)
        other = replace(self.PLAN, attrs={"polygons_digest": "other"})
        with pytest.raises(StoreError, match=r"another 'coverage/tracts/label' already; choose"):
            template.put_arrays(url, [(other, self.VALUES)])
        assert contents(url) == before


class TestReadSpec:
    def test_there_must_be_a_cube(self, tmp_path):
        with pytest.raises(StoreError, match=r"There is no cube at .*none.zarr'; create it first"):
            cube.read_spec(tmp_path / "none.zarr")

    def test_a_group_of_somebody_else_is_no_cube(self, tmp_path):
        zarr.create_group(str(tmp_path / "a.zarr"))
        with pytest.raises(StoreError, match="is a Zarr group but not a cube"):
            cube.read_spec(tmp_path / "a.zarr")

    def test_a_cube_whose_arrays_another_program_dropped_is_refused_and_can_be_mended(
        self, url, spec, fill
    ):
        stored = fill(url, "basin")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            zarr.open_group(url, mode="a", use_consolidated=False).attrs["theirs"] = 1
        for call in (cube.read_spec, cube.open, lambda place: cube.add(place, LATER)):
            with pytest.raises(StoreError, match=r"no longer lists its arrays; .* Run zarr.consol"):
                call(url)
        zarr.consolidate_metadata(url)
        assert cube.read_spec(url) == spec
        np.testing.assert_array_equal(store.read(url, "basin"), stored)

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
        assert list(json.loads(nodes_of(url)["basin"]["attributes"]["inputs"])) == ["a", "b", "c"]
        assert contents(url) == contents(other)

    def test_only_what_is_there_can_be_annotated(self, url, contents):
        before = contents(url)
        with pytest.raises(SpecError, match="The cube has no variable 'rood'"):
            template.annotate(url, "rood", source="nowhere")
        assert contents(url) == before


def test_every_attribute_is_one_that_netcdf_can_hold(tmp_path, spec):
    url = template.create(tmp_path / "cube.zarr", spec)
    dataset = xr.open_zarr(url)
    for owner in (dataset, *dataset.variables.values()):
        for name, value in owner.attrs.items():
            flat = value if isinstance(value, list) else [value]
            assert all(isinstance(item, str | int | float) for item in flat), name


def test_what_is_left_after_the_last_variable_is_removed_is_a_sound_cube(tmp_path, spec, contents):
    few = replace(spec, stacks=(), layers=(spec.layer("basin"),))
    url = cube.create(tmp_path / "one.zarr", few)
    empty = cube.create(tmp_path / "none.zarr", replace(few, layers=()))
    cube.remove(url, "basin")
    assert cube.verify(url).sound
    assert contents(url) == contents(empty)
