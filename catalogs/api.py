"""STAC APIs, through pystac-client; loaded at the first search only, because it is slow to load."""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import pyproj
from pystac_client import Client
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from pystac_client.warnings import PystacClientWarning
from urllib3 import Retry

from catalogs.items import MOST
from cube.errors import CubeError, SourceError, SpecError, TransientError
from cube.urls import without_secrets

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from requests import Response

Box = tuple[float, float, float, float]

_AGAIN = (429, 502, 503, 504)
_RETRY = Retry(total=4, backoff_factor=0.5, status_forcelist=_AGAIN, allowed_methods=None)
_TIMEOUT_S = (20.0, 120.0)
"""To connect, and between two pieces of an answer."""

_PAGE = 250
"""Items a request."""

_MOST_BYTES = 1 << 28
"""Of one answer, unpacked."""


def boxes_of(*, grid: GeoBox | None, bbox: Sequence[float] | None) -> list[Box]:
    """West, south, east, north in degrees of a place; two boxes if it crosses the antimeridian.

    Args:
        grid: Of any CRS; or give ``bbox``.
        bbox: In degrees, west > east where it crosses the antimeridian.

    Raises:
        SpecError: Neither or both were given, or they are no place on Earth.
    """
    if (grid is None) == (bbox is None):
        raise SpecError("A search needs a place: give either grid= or bbox=.")
    west, south, east, north = _degrees(grid) if grid is not None else _checked(bbox)
    if east - west >= 360:
        return [(-180.0, south, 180.0, north)]
    west, east = _wrapped(west), _wrapped(east)
    if west <= east:
        return [(west, south, east, north)]
    return [(west, south, 180.0, north), (-180.0, south, east, north)]


def _wrapped(lon: float) -> float:
    """A longitude within -180..180."""
    return lon if -180 <= lon <= 180 else (lon + 180) % 360 - 180


def _checked(bbox: Sequence[float] | None) -> Box:
    numbers = tuple(float(number) for number in bbox or ())
    if len(numbers) == 4 and all(map(math.isfinite, numbers)):
        west, south, east, north = numbers
        if -90 <= south < north <= 90 and max(abs(west), abs(east)) <= 360:
            return west, south, east, north
    raise SpecError(f"bbox must be west, south, east, north in degrees. Received {bbox!r}.")


def _degrees(grid: GeoBox) -> Box:
    if grid.crs is None:
        raise SpecError("The grid has no CRS; give one, e.g. crs='EPSG:31985'.")
    onto = pyproj.Transformer.from_crs(grid.crs.to_wkt(), "EPSG:4326", always_xy=True)
    west, south, east, north = onto.transform_bounds(*grid.boundingbox.bbox, densify_pts=21)
    if not all(map(math.isfinite, (west, south, east, north))):
        raise SpecError("The grid does not lie where its CRS holds; give bbox= instead.")
    return west, max(south, -90.0), east, min(north, 90.0)


def find(
    api: str,
    *,
    boxes: Sequence[Box],
    terms: Mapping[str, Any],
    limit: int | None = None,
    modifier: Callable[[Any], None] | None = None,
) -> list[Any]:
    """Items of an API in some boxes, as JSON gives them, each once by collection and id.

    Args:
        api: Its URL.
        boxes: See :func:`boxes_of`.
        terms: Further terms of a STAC search, such as ``collections``.
        limit: At most so many items.
        modifier: Called with each page before its items are taken.

    Raises:
        SourceError: The API refused, is none, gives the same items for ever, or too many.
        TransientError: The API could not be reached, or failed.
    """
    found: dict[str, Any] = {}
    with contextlib.closing(_OneServer(api)) as server:
        client = server.client()
        for box in boxes:
            for page in _pages(client, api, dict(terms) | {"bbox": box}):
                if modifier is not None:
                    modifier(page)
                for item in page["features"]:
                    found.setdefault(_key(item), item)
                if limit is not None and len(found) >= limit:
                    return list(found.values())[:limit]
                if len(found) > MOST:
                    raise SourceError(
                        f"{_shown(api)} finds more than {MOST} items; search for less, or give "
                        f"limit=."
                    )
    return list(found.values())


def _key(item: Any) -> str:
    named = isinstance(item, Mapping) and isinstance(item.get("id"), str)
    return json.dumps([item.get("collection"), item["id"]] if named else item)


class _OneServer(StacApiIO):
    """Requests to one server: pages of results, redirects too, may lead to no other.

    Args:
        api: URL of the server.
    """

    def __init__(self, api: str) -> None:
        if urlsplit(api).scheme not in ("http", "https"):
            raise SourceError(
                f"The URL of an API, https://…, was expected. Received {_shown(api)}."
            )
        super().__init__(timeout=_TIMEOUT_S, max_retries=_RETRY)
        self.api = api
        self.session.hooks["response"] += [self._check_redirect, self._read_bounded]

    def client(self) -> Client:
        """The API, its landing page read."""
        with _refusals(self.api):
            return Client.open(self.api, stac_io=self, timeout=_TIMEOUT_S)

    def close(self) -> None:
        """Close all connections."""
        self.session.close()

    def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
        """Text of a link or URL; never of a file."""
        if isinstance(source, str):
            self._check(source)
        return super().read_text(source, *args, **kwargs)

    def request(self, href: str, *args: Any, **kwargs: Any) -> str:
        """Text of a URL."""
        self._check(href)
        return super().request(href, *args, **kwargs)

    def _check_redirect(self, response: Response, **_: Any) -> None:
        if response.is_redirect:
            try:
                self._check(urljoin(response.url, response.headers["location"]))
            except SourceError:
                response.close()
                raise

    def _read_bounded(self, response: Response, **_: Any) -> None:
        """Read an answer here, since requests would read one of any size into memory."""
        text = bytearray()
        for part in response.iter_content(1 << 16):
            text += part
            if len(text) > _MOST_BYTES:
                response.close()
                raise SourceError(
                    f"{_shown(self.api)} answers with more than {_MOST_BYTES} bytes at once."
                )
        response._content = bytes(text)

    def _check(self, href: str) -> None:
        if _server(href) not in (_server(self.api), _server(self.api, scheme="https")):
            raise SourceError(
                f"{_shown(self.api)} leads to another server, {_shown(href)}; a search follows "
                f"none. Give the URL of that one if it is meant."
            )


def _server(url: str, *, scheme: str = "") -> tuple[str, str]:
    parts = urlsplit(url)
    return scheme or parts.scheme, parts.netloc.lower()


def _shown(url: str) -> str:
    """For a message: without a query, which may hold a key."""
    return repr(without_secrets(url.partition("?")[0])[:200])


@contextlib.contextmanager
def _refusals(api: str) -> Iterator[None]:
    """Whatever goes wrong between here and an API as one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PystacClientWarning)
            yield
    except CubeError:
        raise
    except APIError as error:
        if isinstance(cause := error.__context__, CubeError):
            raise cause from None
        status = getattr(error, "status_code", None)
        said = f"{status or 'no answer'}: {_one_line(error)}"
        if status is None or status in _AGAIN or status >= 500:
            raise TransientError(f"{_shown(api)} cannot be searched now, {said}.") from error
        raise SourceError(f"{_shown(api)} refused the search, {said}.") from error
    except Exception as error:  # whatever pystac stumbles over in JSON of strangers
        raise SourceError(
            f"{_shown(api)} is no STAC API that can be searched: {_one_line(error)}."
        ) from error


def _one_line(error: Exception) -> str:
    text = without_secrets(" ".join(f"{type(error).__name__} {error}".split()))[:200].rstrip(".")
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def _pages(client: Client, api: str, terms: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Pages with items, as JSON gives them, each with one at least that is new."""
    with _refusals(api):
        pages = client.search(method=_method(client), limit=_PAGE, **terms).pages_as_dicts()
    seen: set[str] = set()
    while (page := _next(pages, api)) is not None:
        keys = set(map(_key, page["features"]))
        if keys <= seen:
            raise SourceError(f"{_shown(api)} gives the same items again and again.")
        seen |= keys
        yield page


def _next(pages: Iterator[dict[str, Any]], api: str) -> dict[str, Any] | None:
    with _refusals(api):
        page = next(pages, None)
        if page is not None and not isinstance(page.get("features"), list):
            raise ValueError("features are no list")
        return page


def _method(client: Client) -> str:
    """POST, unless the API offers GET alone."""
    links = (link for link in client.links if link.rel == "search")
    offered = {str(link.extra_fields.get("method") or "GET").upper() for link in links}
    return "GET" if offered == {"GET"} else "POST"
