"""The quick start, whole: here, and on a cluster with other regions, with equal results."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr

import cube

pytest.importorskip("keras")
pytestmark = pytest.mark.timeout(600)

EXAMPLE = Path(__file__).parents[1] / "examples" / "olinda"


@pytest.fixture(scope="module")
def quickstart():
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("quickstart", EXAMPLE / "quickstart.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def here(quickstart, tmp_path_factory):
    """The chain on local threads, trained for one epoch."""
    out = tmp_path_factory.mktemp("here")
    return out, quickstart.main(out, region=64, epochs=1, members=1)


@pytest.fixture(scope="module")
def there(quickstart, tmp_path_factory):
    """The chain on two worker processes, with larger regions."""
    from distributed import Client, LocalCluster

    out = tmp_path_factory.mktemp("there")
    with (
        LocalCluster(
            processes=True, n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        return out, quickstart.main(out, client=client, region=96, epochs=1, members=1)


def test_every_variable_is_the_same_on_a_cluster_with_other_regions(here, there):
    one, other = (xr.open_zarr(out / "cube.zarr", mask_and_scale=False) for out, _ in (here, there))
    assert set(one.data_vars) == set(other.data_vars)
    for name in one.data_vars:
        np.testing.assert_array_equal(one[name].values, other[name].values, err_msg=name)


def test_every_score_is_the_same_on_a_cluster_with_other_regions(here, there):
    pd.testing.assert_frame_equal(here[1].scores, there[1].scores, check_exact=True)


def test_the_label_holds_every_person_that_lives_on_the_grid(here):
    tracts = gpd.read_file(EXAMPLE / "data" / "olinda1.shp").set_crs(4674, allow_override=True)
    assert tracts["V014"].sum() == 377_779
    dataset = cube.open(here[0] / "cube.zarr")
    placed = tracts.to_crs(dataset.rio.crs)
    grid = shapely.box(*dataset.rio.bounds())
    share = placed.intersection(grid).area / placed.area
    total = float(dataset["population"].sel(time="2010").sum(dtype="float64"))
    assert total == pytest.approx((tracts["V014"] * share).sum(), abs=1e-6)


def test_aggregated_predictions_equal_exactextract(here):
    from exactextract import exact_extract
    from exactextract.raster import NumPyRasterSource

    out, evaluation = here
    dataset = cube.open(out / "cube.zarr")
    values = dataset["population_predicted"].sel(time="2010").squeeze().values.astype("float64")
    left, bottom, right, top = dataset.rio.bounds()
    raster = NumPyRasterSource(
        values, xmin=left, ymin=bottom, xmax=right, ymax=top, nodata=np.nan,
        srs_wkt=dataset.rio.crs.to_wkt(),
    )  # fmt: skip
    expected = exact_extract(raster, evaluation.polygons, ["sum", "mean"], output="pandas")
    found = cube.collect(evaluation.coverage, "population_predicted", time="2010")
    np.testing.assert_allclose(found["sum"], expected["sum"], rtol=1e-6)
    np.testing.assert_allclose(found["mean"], expected["mean"], rtol=1e-6)


def test_every_method_trains_on_the_same_tracts_outside_the_buffer(here):
    split = here[1].split
    fitted, test = split.masks()
    shapes = here[1].polygons.geometry.to_numpy()
    pixel = abs(here[1].coverage.grid.transform.a)
    for fold in range(len(split.folds)):
        apart = shapely.distance(shapes[fitted[fold]], shapely.union_all(shapes[test[fold]]))
        assert apart.min() > split.buffer_px * pixel


def test_the_cube_verifies_and_nothing_is_damaged(here):
    verdict = cube.verify(here[0] / "cube.zarr")
    assert not verdict.damaged
    assert {f.period for f in verdict.missing} <= {"2000", "2010"}


def test_the_table_the_page_and_the_manifests_are_written(here):
    out, evaluation = here
    table = gpd.read_parquet(out / "tracts.parquet")
    assert len(table) == len(pd.read_csv(out / "tracts.csv")) == 470
    assert table.crs.to_epsg() == 31985
    assert np.isfinite(table[["measured", "predicted"]]).all(axis=None)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert f"{evaluation.scores.loc['network', 'R2']:.2f}" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert (out / "split.json").exists()
    assert len(gpd.read_parquet(out / "chips.parquet")) == len(evaluation.split.windows)
