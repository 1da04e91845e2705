"""What all tests share: settings of hypothesis, object stores on the loopback, places for cubes."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys

import dask.base
import pytest
from hypothesis import settings

from tests import servers

# No deadlines, and the same examples every time in CI.
settings.register_profile(
    "quadrat", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("quadrat")

_memories = itertools.count(1)


@pytest.fixture(scope="module", autouse=True)
def no_client_is_left():
    """A client that stayed would become the scheduler of all tests that follow in this process."""
    yield
    if "distributed" in sys.modules:
        assert dask.base.get_scheduler() is None


@contextlib.contextmanager
def _running(scheme):
    try:
        with servers.start(scheme) as server:
            yield server
    except servers.Missing as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def s3():
    """An S3 of its own, started when first asked for."""
    with _running("s3") as server:
        yield server


@pytest.fixture(scope="session")
def azure():
    """An Azure Blob Storage of its own; its tests are skipped where Azurite is not installed."""
    with _running("az") as server:
        yield server


@pytest.fixture(scope="session")
def gcs():
    """A Google Cloud Storage of its own."""
    with _running("gs") as server:
        yield server


@pytest.fixture(params=["s3", "azure", "gcs"])
def server(request, monkeypatch):
    """Each object store in turn, and for this test the one that the environment speaks of."""
    server = request.getfixturevalue(request.param)
    server.use(monkeypatch)
    return server


@pytest.fixture(params=["folder", "memory", "s3", "azure", "gcs"])
def store_url(request, tmp_path, monkeypatch):
    """A place for a cube, nothing there yet, of every kind in turn."""
    if request.param == "folder":
        return str(tmp_path / "toy.zarr")
    if request.param == "memory":
        return f"memory://store-{next(_memories)}"
    server = request.getfixturevalue(request.param)
    server.use(monkeypatch)
    return f"{server.new_bucket()}/toy.zarr"
