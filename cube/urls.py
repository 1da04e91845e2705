"""Where a cube may lie: a folder, an object store, or this process's memory.

URLs carry no credentials; those come from the environment, as the cloud's own
tools take them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from cube.errors import StoreError

OBJECT_STORES = {"s3": "Amazon S3", "gs": "Google Cloud Storage", "az": "Azure Blob Storage"}

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SECRETS = re.compile(
    r"(?i)(sig|signature|credential|token|secret|password|accountkey|api[_-]?key|authorization)=[^&\s\"']+"
    r"|bearer\s+[^\s\"']+"
    r"|//[^/\s@]+@"
)


def scheme(url: str | os.PathLike[str]) -> str:
    """``"file"``, ``"memory"``, ``"s3"``, ``"gs"`` or ``"az"``, of a normalised URL."""
    head, separator, _ = os.fspath(url).partition("://")
    return head if separator else "file"


def is_memory(url: str | os.PathLike[str]) -> bool:
    """True for cubes that only this process can see."""
    return scheme(url) == "memory"


def is_folder(url: str | os.PathLike[str]) -> bool:
    """True for cubes in a folder of this machine, or of a file system that it shares."""
    return scheme(url) == "file"


def is_object_store(url: str | os.PathLike[str]) -> bool:
    """True for cubes that every request takes some milliseconds to."""
    return scheme(url) in OBJECT_STORES


def normalise(url: str | os.PathLike[str]) -> str:
    """A URL as text; folders become absolute, so that workers elsewhere agree.

    Raises:
        StoreError: The scheme is not one of those supported, there is no
            bucket, or the URL carries credentials.
    """
    text = os.fspath(url)
    head, separator, rest = text.partition("://")
    if not separator or head == "file":
        return str(Path(rest if separator else text).absolute())
    if head == "memory":
        return text
    if head not in OBJECT_STORES:
        raise StoreError(
            f"A cube's URL is a folder, s3://bucket/path, gs://bucket/path, az://container/path "
            f"or memory://name. Received the scheme {head!r}."
        )
    return f"{head}://{_object_path(head, rest)}"


def _object_path(head: str, rest: str) -> str:
    """``bucket/path`` without empty steps."""
    if set("@?#") & set(rest) or ":" in rest.partition("/")[0]:
        # The text itself may hold a secret, so it is not repeated.
        raise StoreError(
            f"A {head}:// URL holds a bucket and a path only, no credentials and no query; "
            f"give credentials through the environment."
        )
    parts = [part for part in rest.split("/") if part]
    if len(parts) < 2 or {".", ".."} & set(parts) or not _BUCKET.fullmatch(parts[0]):
        raise StoreError(
            f"A cube needs a place in a bucket, such as {head}://bucket/cube.zarr. "
            f"Received {head}://{rest}."
        )
    return "/".join(parts)


def bucket_and_path(url: str) -> tuple[str, str]:
    """Bucket (or container) and path of a normalised URL of an object store."""
    bucket, _, path = url.partition("://")[2].partition("/")
    return bucket, path


def without_secrets(text: str) -> str:
    """A message without anything that looks like a signature, a token or a password."""
    return _SECRETS.sub("***", text)
