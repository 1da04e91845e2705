"""From a STAC API and files over HTTP to a cube, as a user does it; with whatever goes wrong."""

from __future__ import annotations

import warnings
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pyproj
import pystac
import pytest
import shapely

import catalogs
import cube
from catalogs.access import Access
from cube.errors import IncompleteError
from tests import http_files, stac_server
from tests.rasters import UTM, grid_at, write_tiff

GRID = grid_at((70, 90))
FILES = grid_at((80, 100), shift=(-4, -5))
PROFILE = catalogs.Profile(
    name="toy",
    bands={"red": "B04", "nir": "B08", "scl": "SCL"},
    resampling={"scl": "nearest", "*": "bilinear"},
    scale={"red": 0.0001, "nir": 0.0001},
    nodata={"*": 0},
)
HERE = Access(schemes=("http",), hosts=("127.0.0.1",))
DATES = [f"2020-{month:02d}-15" for month in range(1, 9)] + ["2021-03-01", "2021-07-01"]


@pytest.fixture(scope="module")
def pictures():
    """Stored numbers and classes by date."""
    rng = np.random.default_rng(5)
    return {
        date: (
            rng.integers(1, 9000, (2, *FILES.shape)).astype("uint16"),
            rng.choice([4, 5, 8, 9], FILES.shape).astype("uint8"),
        )
        for date in DATES
    }


@pytest.fixture
def files(tmp_path, pictures):
    folder = tmp_path / "files"
    folder.mkdir()
    for date, (bands, classes) in pictures.items():
        for name, values in (("B04", bands[0]), ("B08", bands[1]), ("SCL", classes)):
            write_tiff(folder / f"{date}_{name}.tif", values, grid=FILES, nodata=0, tiled=True,
                       blockxsize=32, blockysize=32, compress="deflate")  # fmt: skip
    with http_files.serve(folder) as served:
        yield served


def item_of(date, url):
    onto = pyproj.Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    bounds = onto.transform_bounds(*FILES.boundingbox.bbox)
    found = pystac.Item(
        id=f"scene/../{date}",
        geometry=shapely.box(*bounds).__geo_interface__,
        bbox=list(bounds),
        datetime=None,
        start_datetime=datetime.fromisoformat(f"{date}T10:00:00+00:00"),
        end_datetime=datetime.fromisoformat(f"{date}T10:01:00+00:00"),
        properties={
            "proj:code": UTM,
            "proj:shape": list(FILES.shape),
            "proj:transform": list(FILES.transform)[:6],
        },
    )
    for name in ("B04", "B08", "SCL"):
        found.add_asset(name, pystac.Asset(f"{url}/{date}_{name}.tif"))
    return found.to_dict(include_self_link=False, transform_hrefs=False)


@pytest.fixture
def manifest(files):
    with stac_server.serve([item_of(date, files.url) for date in DATES]) as api:
        return catalogs.search(
            api.url,
            collections=["toy"],
            profile=PROFILE,
            grid=GRID,
            datetime="2020-01-01/2021-12-31",
            access=HERE,
        )


@pytest.fixture
def url(tmp_path):
    spec = cube.CubeSpec(
        grid=GRID,
        calendar=cube.years(2020, 2021),
        stacks=(
            cube.StackSpec(
                name="predictors", bands=("red", "nir"), dtype="int16", nodata=-9999, scale=0.0001
            ),
        ),
        layers=(cube.LayerSpec(name="clear", dtype="uint8", nodata=255),),
        layout=cube.LayoutSpec(chunk=32, region=64),
    )
    return cube.create(tmp_path / "c.zarr", spec)


QUALITY = cube.QualityClasses(band="scl", keep=(4, 5))


def sources_of(manifest, **how):
    calendar = cube.years(2020, 2021)
    return manifest.sources(calendar, bands=("red", "nir"), quality=QUALITY, **how)


def medians(pictures, year):
    """What NumPy makes of all scenes of a year: (band, y, x), and how often a pixel was clear."""
    inner = slice(4, 74), slice(5, 95)
    stack = []
    for date, (bands, classes) in pictures.items():
        if date.startswith(year):
            clear = np.isin(classes, (4, 5))
            stack.append(np.where(clear, bands.astype("float64"), np.nan)[(slice(None), *inner)])
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmedian(stack, axis=0) * 1e-4, np.isfinite(stack).all(axis=1).sum(axis=0)


def check(url, pictures):
    dataset = cube.open(url)
    for year in ("2020", "2021"):
        expected, count = medians(pictures, year)
        found = dataset["predictors"].sel(time=year).squeeze("time").to_numpy()
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        np.testing.assert_allclose(found, expected, atol=0.50001e-4)
        np.testing.assert_array_equal(dataset["clear"].sel(time=year).squeeze("time"), count)


def fill(url, manifest, **how):
    sources = sources_of(manifest)
    report = cube.ingest(url, "predictors", sources, **how)
    counts = {label: cube.ClearCount(of=source) for label, source in sources.items()}
    cube.ingest(url, "clear", counts, **how)
    return report


def test_a_search_becomes_medians_and_counts(url, manifest, pictures, tmp_path):
    assert [scene.id for scene in manifest.scenes] == [f"scene/../{date}" for date in DATES]
    assert manifest.through == "stackstac"
    manifest.save(tmp_path / "scenes.json")
    again = catalogs.Manifest.load(tmp_path / "scenes.json")
    assert again == manifest
    plan = cube.plan_ingest(url, "predictors", sources_of(again))
    assert plan.summary.opens
    fill(url, again)
    check(url, pictures)
    assert cube.verify(url).sound
    # Ids that look like paths made none.
    assert {path.name for path in tmp_path.iterdir()} <= {
        "files", "c.zarr", "c.zarr.reports", "scenes.json",
    }  # fmt: skip


def bytes_of(folder):
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_the_same_on_a_cluster_to_the_byte(url, manifest, pictures, tmp_path):
    from distributed import Client, LocalCluster

    here = cube.create(tmp_path / "here.zarr", cube.read_spec(url))
    fill(here, manifest, workers=1)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as c,
        Client(c) as client,
    ):
        fill(url, manifest, client=client)
    check(url, pictures)
    assert bytes_of(url) == bytes_of(here)


def test_what_passes_is_tried_again_and_what_does_not_is_listed(url, manifest, files, pictures,
                                                                monkeypatch):  # fmt: skip
    from cube import rasters

    monkeypatch.setattr(rasters, "RETRY", replace(rasters.RETRY, first_s=0.0))
    files.faults = [503, 503, 429, "cut"]
    broken = f"/{DATES[2]}_B08.tif"
    files.lasting[broken] = 404
    with pytest.raises(IncompleteError, match="2020-03-15") as caught:
        cube.ingest(url, "predictors", sources_of(manifest))
    report = caught.value.report
    assert list(report.lost) == [f"scene/../{DATES[2]}"]
    assert "404" in report.lost[f"scene/../{DATES[2]}"]
    assert report.count("done") > 0
    assert len(report.partial) > 0

    # Every region of that year needs it, so none is written, and another list is welcome.
    excluded = manifest.exclude({f"scene/../{DATES[2]}": "its file is gone"})
    fill(url, excluded)
    check(url, {date: picture for date, picture in pictures.items() if date != DATES[2]})


def test_only_scenes_of_the_season_are_taken(manifest):
    season = cube.Season(first="03-01", last="07-31")
    sources = sources_of(manifest, season=season)
    assert [s.time[:10] for s in sources["2020"].scenes] == DATES[2:7]
    assert [s.time[:10] for s in sources["2021"].scenes] == DATES[8:]
