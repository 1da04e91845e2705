"""The servers of the tests do what object stores promise, and the proxy before them breaks it.

Everything is asked through obstore, as cubes ask it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import numpy as np
import obstore
import pytest
import xarray as xr
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import AzureStore, GCSStore, S3Store
from zarr.storage import ObjectStore

from tests import faults, servers

STORES = {"s3": S3Store, "az": AzureStore, "gs": GCSStore}
SILENCE_S = 0.6
TIMEOUT_S = 0.3


def connect(url, *, retries=8, prefix=True, timeout_s=30):
    """A connection with the settings of the environment, which tries again at once."""
    scheme, _, rest = url.partition("://")
    bucket, _, path = rest.partition("/")
    backoff = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=5)}
    return STORES[scheme](
        bucket,
        prefix=path if prefix else None,
        # Client options replace those of the environment, so AWS_ALLOW_HTTP is said again.
        client_options={"timeout": timedelta(seconds=timeout_s), "allow_http": True},
        retry_config={"max_retries": retries, "backoff": {**backoff, "base": 2}},
    )


def tag(result):
    """What an update names the old version by; only Google has a ``version``."""
    return {name: value for name, value in result.items() if value is not None}


@pytest.fixture
def bucket(server):
    """A connection to a new place on each server."""
    return connect(server.new_bucket())


# ---------------------------------------------------------------------------------------- promises
def test_what_was_put_is_read_whole_and_in_ranges(bucket):
    obstore.put(bucket, "a/ä b+c%.d", b"0123456789")
    assert bytes(obstore.get(bucket, "a/ä b+c%.d").bytes()) == b"0123456789"
    assert bytes(obstore.get_range(bucket, "a/ä b+c%.d", start=2, end=5)) == b"234"
    assert [
        bytes(part)
        for part in obstore.get_ranges(bucket, "a/ä b+c%.d", starts=[0, 7], ends=[1, 10])
    ] == [b"0", b"789"]
    assert obstore.head(bucket, "a/ä b+c%.d")["size"] == 10


def test_an_object_is_created_once(bucket):
    obstore.put(bucket, "lock", b"first", mode="create")
    with pytest.raises(AlreadyExistsError, match="already exists"):
        obstore.put(bucket, "lock", b"second", mode="create")
    assert bytes(obstore.get(bucket, "lock").bytes()) == b"first"


def test_of_many_who_create_at_once_one_succeeds(bucket):
    def create(number):
        try:
            return obstore.put(bucket, "lock", str(number).encode(), mode="create")
        except AlreadyExistsError:
            return None

    with ThreadPoolExecutor(16) as pool:
        assert sum(made is not None for made in pool.map(create, range(48))) == 1


def test_an_update_of_another_version_than_the_last_is_refused(bucket):
    first = tag(obstore.put(bucket, "lock", b"1"))
    second = tag(obstore.put(bucket, "lock", b"2", mode=first))
    with pytest.raises(PreconditionError, match="precondition"):
        obstore.put(bucket, "lock", b"3", mode=first)
    obstore.put(bucket, "lock", b"4", mode=second)
    assert bytes(obstore.get(bucket, "lock").bytes()) == b"4"


def test_what_is_read_can_be_updated(bucket):
    obstore.put(bucket, "lock", b"1")
    meta = obstore.get(bucket, "lock").meta
    obstore.put(bucket, "lock", b"2", mode=tag({k: meta[k] for k in ("e_tag", "version")}))
    assert bytes(obstore.get(bucket, "lock").bytes()) == b"2"


def test_listings_go_on_beyond_a_page(bucket):
    keys = [f"c/{i // 40:02}/{i % 40:02}" for i in range(1040)]
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda key: obstore.put(bucket, key, b"."), keys))
    assert sorted(m["path"] for m in obstore.list(bucket, "c").collect()) == keys
    assert len(obstore.list(bucket, "c/07").collect()) == 40
    assert len(obstore.list_with_delimiter(bucket, "c")["common_prefixes"]) == 26
    obstore.delete(bucket, keys)
    assert not obstore.list(bucket).collect()


def test_what_is_deleted_is_gone(bucket):
    obstore.put(bucket, "a", b"1")
    obstore.delete(bucket, "a")
    with pytest.raises(FileNotFoundError, match="not found"):
        obstore.get(bucket, "a")


def test_what_is_put_in_parts_is_one_object(bucket):
    whole = os.urandom(6 << 20)
    obstore.put(bucket, "large", whole, use_multipart=True, chunk_size=5 << 20)
    assert bytes(obstore.get(bucket, "large").bytes()) == whole


def test_a_bucket_that_does_not_exist_is_not_an_empty_one(server):
    missing = connect(f"{server.scheme}://nobody-made-this/cubes")
    with pytest.raises(FileNotFoundError, match="NoSuchBucket|ContainerNotFound"):
        obstore.get(missing, "a")
    with pytest.raises(BaseError, match="NoSuchBucket|ContainerNotFound"):
        obstore.list(missing).collect()


@pytest.mark.parametrize("server", ["azure", "gcs"], indirect=True)
def test_without_credentials_nobody_but_the_loopback_is_asked_for_others(server, monkeypatch):
    url = server.new_bucket()
    for name in [name for name in server.environment if "KEY" in name]:
        monkeypatch.delenv(name)
    with pytest.raises(BaseError, match=f"token request.*{server.endpoint}"):
        obstore.put(connect(url, retries=0), "a", b"1")


def test_azure_refuses_a_wrong_key(azure, monkeypatch):
    azure.use(monkeypatch)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "d3Jvbmc=")
    with pytest.raises(BaseError, match="403"):
        obstore.get(connect(azure.new_bucket()), "a")


@pytest.mark.parametrize("how", ["environment", "options"])
def test_xarray_opens_a_plain_url(server, how, monkeypatch):
    url = f"{server.new_bucket()}/a.zarr"
    written = xr.Dataset({"a": (("y", "x"), np.arange(20.0).reshape(4, 5))})
    written.to_zarr(ObjectStore(connect(url)), zarr_format=3)
    options = None
    if how == "options":
        options = server.storage_options
        for name in [n for n, v in server.environment.items() if server.endpoint in v]:
            monkeypatch.delenv(name)
    assert xr.open_zarr(url, storage_options=options).load().identical(written)


def ask_until(endpoint, end):
    while time.monotonic() < end:
        servers.put_bucket(endpoint, "there")


def test_a_server_ends_with_its_session():
    code = (
        "import time\nfrom tests import servers\nwith servers.start('gs') as s:\n"
        "    print(s.endpoint, flush=True)\n    time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=servers.ROOT, stdout=subprocess.PIPE, text=True
    )
    endpoint = child.stdout.readline().strip()
    servers.put_bucket(endpoint, "there")
    child.kill()
    child.communicate()
    with pytest.raises(OSError, match="refused|reset|closed"):
        ask_until(endpoint, time.monotonic() + 10)


# ------------------------------------------------------------------------------------------- faults
@pytest.fixture
def behind(server, monkeypatch):
    """Each server behind a proxy: a connection to a new place there, and the proxy."""
    with faults.proxy(server.upstream, silence_s=SILENCE_S) as proxy:
        server.through(proxy.endpoint).use(monkeypatch)
        yield connect(server.new_bucket(), timeout_s=TIMEOUT_S), proxy


def test_a_proxy_without_faults_changes_nothing(behind):
    bucket, proxy = behind
    obstore.put(bucket, "a/ä b", b"0123456789", mode="create")
    assert bytes(obstore.get(bucket, "a/ä b").bytes()) == b"0123456789"
    assert bytes(obstore.get_range(bucket, "a/ä b", start=2, end=5)) == b"234"
    assert obstore.head(bucket, "a/ä b")["size"] == 10
    assert len(obstore.list(bucket).collect()) == 1
    obstore.delete(bucket, "a/ä b")
    assert proxy.requests()["all"] == 6
    assert proxy.requests()["HEAD"] == proxy.requests()["PUT"] == 1
    assert proxy.counts() == {}


@pytest.mark.parametrize("kind", faults.KINDS)
def test_a_client_that_tries_again_gets_through_every_kind(behind, kind):
    bucket, proxy = behind
    proxy.change(faults=[kind], rate=1, most=2)
    if kind != "partial":
        obstore.put(bucket, "a", b"0123456789")
        assert proxy.counts() == {kind: 2}
    else:
        obstore.put(bucket, "a", b"0123456789")
    assert bytes(obstore.get(bucket, "a").bytes()) == b"0123456789"
    assert proxy.counts()[kind] >= 2


@pytest.mark.parametrize("kind", ["500", "503", "429", "cut", "timeout"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_fault_comes_before_or_after_the_deed(gcs, monkeypatch, kind, when):
    with faults.proxy(
        gcs.upstream, faults=[f"{kind} {when}"], rate=1, silence_s=SILENCE_S
    ) as proxy:
        gcs.through(proxy.endpoint).use(monkeypatch)
        url = gcs.new_bucket()
        with pytest.raises(BaseError):
            obstore.put(connect(url, retries=0, timeout_s=TIMEOUT_S), "a", b"1")
        assert proxy.counts() == {kind: 1}
        proxy.change(rate=0)
        assert len(obstore.list(connect(url)).collect()) == (when == "after")


@pytest.mark.parametrize("status", ["401", "403"])
def test_a_refusal_is_not_tried_again(behind, status):
    bucket, proxy = behind
    proxy.change(faults=[status], rate=1)
    with pytest.raises(BaseError, match=status):
        obstore.put(bucket, "a", b"1")
    assert proxy.counts() == {status: 1}


def test_the_same_seed_brings_the_same_faults(gcs, monkeypatch):
    def outcomes(seed):
        with faults.proxy(gcs.upstream, faults=("500", "429"), rate=0.5, seed=seed) as proxy:
            gcs.through(proxy.endpoint).use(monkeypatch)
            bucket = connect(place, retries=0)
            with ThreadPoolExecutor(8) as pool:
                return list(pool.map(lambda i: failed(bucket, f"k{i}"), range(40))), proxy.counts()

    def failed(bucket, key):
        try:
            obstore.put(bucket, key, b"1")
        except BaseError:
            return True
        return False

    place = gcs.new_bucket()
    first, counts = outcomes(1)
    assert 10 < sum(first) < 30
    assert sum(first) == sum(counts.values())
    assert set(counts) == {"500", "429"}
    assert outcomes(1) == (first, counts)
    assert outcomes(2)[0] != first


def test_delays_run_side_by_side(gcs, monkeypatch):
    with faults.proxy(gcs.upstream, delay_s=0.2) as proxy:
        gcs.through(proxy.endpoint).use(monkeypatch)
        bucket = connect(gcs.new_bucket())
        began = time.monotonic()
        with ThreadPoolExecutor(64) as pool:
            list(pool.map(lambda i: obstore.put(bucket, f"k{i}", b"1"), range(192)))
        took_s = time.monotonic() - began
        assert proxy.requests() == {"PUT": 192, "all": 192}
    assert 0.6 <= took_s < 3


def test_an_unknown_fault_is_refused():
    with pytest.raises(ValueError, match="Unknown faults"), faults.proxy("", faults=["flood"]):
        pass
