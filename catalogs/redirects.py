"""Where a URL really leads: redirects are followed by hand, each looked at before it is asked.

GDAL follows them to wherever a server says, an address of this network included, and has no
option not to. So whoever reads files of a catalogue asks first, once for each URL.
"""

from __future__ import annotations

import functools
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin

from catalogs.access import Access
from cube.errors import SourceError
from cube.rasters import shown, with_raster

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Result = TypeVar("Result")

_MOST = 5
"""Redirects in a row."""

_TIMEOUT_S = 10.0

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class _Stay(urllib.request.HTTPRedirectHandler):
    """Goes nowhere by itself."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


@functools.lru_cache(maxsize=1 << 16)
def final_url(href: str, access: Access) -> str:
    """Where an href leads in the end; one that is no ``http(s)`` URL leads to itself.

    What a server answers else than a redirect is left to whoever reads the file.

    Args:
        href: Judged already.
        access: Where redirects may lead.

    Raises:
        SourceError: A redirect leads where it may not, or there are too many of them.
    """
    for _ in range(_MOST):
        following = _location(href)
        if following is None:
            return href
        href = access.check(urljoin(href, following), what=f"A redirect of {shown(href)!r}")
    raise SourceError(f"{shown(href)!r} redirects again and again; take what it is a copy of.")


def with_file(
    href: str, use: Callable[[DatasetReader], Result], *, what: str, access: Access
) -> Result:
    """What a function makes of a file, opened where its href leads in the end.

    Args:
        href: Judged already.
        use: Called with the file.
        what: Whose it is, for messages.
        access: Where redirects may lead.

    Raises:
        SourceError: See :func:`final_url` and :func:`cube.rasters.with_raster`.
    """
    return with_raster(final_url(href, access), use, what=what)


def _location(href: str) -> str | None:
    """Where a server sends whoever asks for a URL; None if nowhere."""
    if not href.lower().startswith(("http://", "https://")):
        return None
    request = urllib.request.Request(href, method="HEAD")
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=_TIMEOUT_S):
            return None
    except urllib.error.HTTPError as error:
        with error:
            return error.headers.get("Location") if error.code in _REDIRECTS else None
    except (OSError, http.client.HTTPException, ValueError):
        return None  # GDAL will meet it too, tries again, and says what it is
