"""Files over HTTP on the loopback, by ranges, with whatever goes wrong between them and a reader.

with http_files.serve(tmp_path) as files:
    files.faults = [503, "cut"]
    rasterio.open(f"{files.url}/a.tif")
    assert files.requests[0] == ("HEAD", "/a.tif")

It answers from a thread of the same process. What asks it must let other threads of Python run
meanwhile: rasterio does while it opens and reads, but not while it looks for files beside the one
that is opened, so that has to be forbidden (``GDAL_DISABLE_READDIR_ON_OPEN``).
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

Fault = int | str
"""An HTTP status; or one of these, which strike once each:

- ``"cut"``: the connection closes without an answer.
- ``"half"``: it closes after half of the body.
- ``"stall"``: silence, until the server ends.
- ``"slow"``: the head, and then silence.
- any URL: the answer sends the client there.
"""


class Files:
    """A folder, what goes wrong with it, and what it was asked.

    Attributes:
        folder: Whose files are served, by their path below it.
        url: Where it is.
        faults: Of the next requests, in order; those after them are answered well.
        lasting: Of every request whose path begins so.
        requests: Method and path, with the query, of each request.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.faults: list[Fault] = []
        self.lasting: dict[str, Fault] = {}
        self.requests: list[tuple[str, str]] = []
        self.ended = threading.Event()
        self._turn = threading.Lock()

    def came(self, path: str) -> list[str]:
        """Methods of the requests for a path."""
        return [method for method, target in self.requests if target.partition("?")[0] == path]

    def next_fault(self, method: str, target: str) -> Fault | None:
        with self._turn:
            self.requests.append((method, target))
            for start, fault in self.lasting.items():
                if target.startswith(start):
                    return fault
            if not self.faults or (self.faults[0] in ("half", "slow") and method == "HEAD"):
                return None
            return self.faults.pop(0)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def do_GET(self) -> None:
        self._serve(body=True)

    def _serve(self, *, body: bool) -> None:
        files: Files = self.server.files  # type: ignore[attr-defined]
        fault = files.next_fault(self.command, self.path)
        if fault in ("cut", "stall"):
            if fault == "stall":
                files.ended.wait()
            self.close_connection = True
        elif isinstance(fault, int):
            self._answer(fault, b"<html>not now</html>" if body else b"")
        elif isinstance(fault, str) and "://" in fault:
            self._answer(302, b"", Location=fault)
        else:
            self._file(files, fault, body=body)

    def _file(self, files: Files, fault: Fault | None, *, body: bool) -> None:
        path = files.folder / urlsplit(self.path).path.lstrip("/")
        if not path.is_file():
            self._answer(404, b"")
            return
        data = path.read_bytes()
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        start = int(part[1]) if part else 0
        stop = min(int(part[2] or len(data)) + 1, len(data)) if part else len(data)
        if start >= len(data):
            self._answer(416, b"")
            return
        self.send_response(206 if part else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(stop - start))
        if part:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.end_headers()
        if not body:
            return
        if fault == "slow":
            self.wfile.flush()
            files.ended.wait()
        cut = (start + stop) // 2 if fault in ("half", "slow") else stop
        self.close_connection = cut < stop
        self.wfile.write(data[start:cut])

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        # A client that gives up closes the connection in the middle.
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serve(folder: Path, *, host: str = "127.0.0.1") -> Iterator[Files]:
    """Serve a folder on a port of its own."""
    files = Files(folder)
    with ThreadingHTTPServer((host, 0), _Handler) as server:
        server.daemon_threads = True
        server.files = files  # type: ignore[attr-defined]
        files.url = f"http://{host}:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield files
        finally:
            files.ended.set()
            server.shutdown()
            thread.join()
