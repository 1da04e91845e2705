"""Redirects are followed where they may lead, and nowhere else."""

from __future__ import annotations

import pytest

import catalogs
from catalogs.access import REMOTE, Access
from catalogs.redirects import final_url
from catalogs.stacking import StackReader
from cube.errors import PartialError, SourceError
from cube.scenes import Scene, SceneBand
from tests import http_files
from tests.rasters import UTM, grid_at, noise, whole, write_tiff

HERE = Access(schemes=("http",), hosts=("127.0.0.1",))


@pytest.fixture
def files(tmp_path):
    write_tiff(tmp_path / "a.tif", noise((20, 30), dtype="uint8"), nodata=0)
    with http_files.serve(tmp_path) as served:
        yield served


@pytest.fixture(autouse=True)
def nothing_known():
    final_url.cache_clear()


def scene_at(href):
    return Scene(id="s", layers=(SceneBand(name="a", href=href),), crs=UTM, nodata=0)


def test_a_url_that_redirects_nowhere_is_itself_and_asked_once(files):
    url = f"{files.url}/a.tif?sig=SECRET"
    assert final_url(url, HERE) == final_url(url, HERE) == url
    assert files.came("/a.tif") == ["HEAD"]


def test_a_redirect_is_followed_to_where_it_may_lead(files):
    files.lasting["/old.tif"] = f"{files.url}/a.tif"
    assert final_url(f"{files.url}/old.tif", HERE) == f"{files.url}/a.tif"


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://169.254.169.254/x.tif",
        "https://localhost/x.tif",
        "ftp://example.com/x.tif",
        "file:///etc/passwd",
    ],
)
@pytest.mark.parametrize("access", [HERE, REMOTE], ids=["here", "remote"])
def test_a_redirect_elsewhere_is_refused_in_one_line(files, target, access):
    files.lasting["/old.tif"] = target
    with pytest.raises(
        SourceError, match=r"^A redirect of 'http.*old.tif': .* may not be opened"
    ) as e:
        final_url(f"{files.url}/old.tif?sig=SECRET", access)
    assert "SECRET" not in str(e.value)


def test_redirects_in_a_circle_end(files):
    files.lasting["/old.tif"] = f"{files.url}/old.tif"
    with pytest.raises(SourceError, match="redirects again and again"):
        final_url(f"{files.url}/old.tif", HERE)


@pytest.mark.parametrize("fault", [404, 403, 503, "cut"])
def test_what_else_is_wrong_is_left_to_who_reads(files, fault):
    files.lasting["/a.tif"] = fault
    assert final_url(f"{files.url}/a.tif", HERE) == f"{files.url}/a.tif"


@pytest.mark.parametrize("href", ["s3://bucket/a.tif", "/data/a.tif"])
def test_what_is_no_url_of_a_server_is_itself(href):
    assert final_url(href, HERE) == href


def test_a_scene_whose_file_redirects_inside_is_lost(files):
    files.lasting["/old.tif"] = "http://169.254.169.254/x.tif"
    grid = grid_at((20, 30))
    with pytest.raises(PartialError, match="may not be opened") as caught:
        StackReader().read([scene_at(f"{files.url}/old.tif")], ["a"], grid, *whole(grid))
    assert list(caught.value.scenes) == ["s"]
    found = StackReader().read([scene_at(f"{files.url}/a.tif")], ["a"], grid, *whole(grid))
    assert found.shape == (1, 1, 20, 30)


def test_whoever_looks_at_pixels_follows_no_redirect_inside(files):
    files.lasting["/old.tif"] = "http://169.254.169.254/x.tif"
    scene = scene_at(f"{files.url}/old.tif")
    manifest = catalogs.Manifest(scenes=(scene,), through="stackstac")
    rule = catalogs.TopCodes({"a": 255})
    for look in (
        lambda: catalogs.examine(scene, rule),
        lambda: catalogs.examine_all(manifest, rule, on_contradiction="error"),
        lambda: catalogs.find_duplicates(manifest),
        lambda: catalogs.without_duplicates(manifest),
        lambda: catalogs.grid_of(scene),
    ):
        with pytest.raises(SourceError, match="A redirect of .* may not be opened"):
            look()
    assert files.came("/old.tif") == ["HEAD"] * 5
    assert "may not be opened" in catalogs.examine_all(manifest, rule).excluded["s"]


def test_whoever_looks_at_pixels_follows_redirects_that_are_allowed(files):
    files.lasting["/old.tif"] = f"{files.url}/a.tif"
    scene = scene_at(f"{files.url}/old.tif")
    examined = catalogs.examine(scene, catalogs.TopCodes({"a": 255}), access=HERE)
    assert examined.verdict == "the numbers lie as their tops say"
    assert catalogs.find_duplicates([scene, scene], access=HERE) == (("s", "s"),)
