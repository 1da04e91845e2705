"""Signatures in URLs: what lets whoever holds a URL read a file for a while."""

from __future__ import annotations

import re

_SIGNED = re.compile(
    r"(sig|signature|\w*token|\w*api[_-]?key|subscription-key|x-amz-\w+(-\w+)*|x-goog-\w+(-\w+)*"
    r"|awsaccesskeyid)",
    re.IGNORECASE,
)
"""Parameters that only a signed URL has: of Azure, of Amazon S3, of Google Cloud Storage, and of
services that hand out tokens or keys."""

_BESIDE = re.compile(
    r"(expires|key-pair-id|policy|googleaccessid|se|st|sp|sv|sr|skoid|sktid|skt|ske|sks|skv)",
    re.IGNORECASE,
)
"""Parameters that belong to a signature where there is one, and may mean anything elsewhere:
https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas"""


def without_signature(href: str) -> str:
    """The same URL without its signature; what else its query says stays, in its order.

    Args:
        href: A URL, or a path, which stays as it is.
    """
    head, mark, query = href.partition("?")
    if not mark or "://" not in head:
        return href
    parts = query.split("&")
    names = [part.partition("=")[0] for part in parts]
    if not any(map(_SIGNED.fullmatch, names)):
        return href
    kept = [
        part
        for part, name in zip(parts, names, strict=True)
        if not (_SIGNED.fullmatch(name) or _BESIDE.fullmatch(name))
    ]
    return head + (f"?{'&'.join(kept)}" if kept else "")
