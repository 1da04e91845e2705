"""A STAC API on the loopback, with pages and with whatever goes wrong with APIs.

with stac_server.serve(items) as api:
    catalogs.stac.search(api.url, ...)
    assert api.searches[0]["bbox"] == [...]
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

CONFORMS = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0/item-search#query",
]


class Api:
    """What a server has, what goes wrong with it, and what it was asked.

    Attributes:
        items: That it has.
        url: Where it is.
        page: Items a page, whatever a client asks for.
        methods: Of searches.
        answers: Status and text of the next searches, before any that works.
        next_url: Where the next page is said to be; None says the truth.
        redirect: Where searches are sent instead.
        root: What the landing page says instead.
        searches: Terms of each search, in order.
    """

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.url = ""
        self.page = 100
        self.methods: tuple[str, ...] = ("GET", "POST")
        self.answers: list[tuple[int, str]] = []
        self.next_url: str | None = None
        self.redirect: str | None = None
        self.root: str | None = None
        self.searches: list[dict[str, Any]] = []

    def landing(self) -> str:
        links = [
            {"rel": "search", "type": "application/geo+json", "href": f"{self.url}/search"}
            | {"method": method}
            for method in self.methods
        ]
        return self.root or json.dumps(
            {
                "type": "Catalog",
                "stac_version": "1.0.0",
                "id": "test",
                "description": "for tests",
                "conformsTo": CONFORMS,
                "links": [{"rel": "self", "href": self.url}, *links],
            }
        )

    def search(self, terms: dict[str, Any], method: str) -> str:
        self.searches.append(terms)
        found = [item for item in self.items if _meets(item, terms.get("bbox"))]
        start = int(terms.get("token", 0))
        links = []
        if start + self.page < len(found) or self.next_url:
            further = terms | {"token": start + self.page}
            link = {"rel": "next", "href": self.next_url or f"{self.url}/search", "method": method}
            if method == "GET":
                link["href"] += f"?token={further['token']}&bbox={further.get('bbox', '')}"
            links.append(link | ({"body": further} if method == "POST" else {}))
        page = found[start : start + self.page] if self.next_url is None else found
        return json.dumps({"type": "FeatureCollection", "features": page, "links": links})


def _meets(item: Any, bbox: Any) -> bool:
    if bbox is None or not isinstance(item, dict) or "bbox" not in item:
        return True
    numbers = bbox.split(",") if isinstance(bbox, str) else bbox
    west, south, east, north = map(float, numbers)
    left, bottom, right, top = item["bbox"]
    return left <= east and west <= right and bottom <= north and south <= top


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/search":
            self._search(dict(parse_qsl(parts.query)), "GET")
        else:
            self._answer(200, self._api.landing())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._search(json.loads(body), "POST")

    @property
    def _api(self) -> Api:
        return self.server.api  # type: ignore[attr-defined]

    def _search(self, terms: dict[str, Any], method: str) -> None:
        if self._api.answers:
            self._answer(*self._api.answers.pop(0))
        elif self._api.redirect:
            self._answer(307, "", location=self._api.redirect)
        elif method not in self._api.methods:
            self._answer(405, "no such method")
        else:
            self._answer(200, self._api.search(terms, method))

    def _answer(self, status: int, text: str, *, location: str = "") -> None:
        data = text.encode()
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serve(items: list[Any]) -> Iterator[Api]:
    """Run an API that has these items, on a port of its own."""
    api = Api(items)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        server.api = api  # type: ignore[attr-defined]
        api.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()
