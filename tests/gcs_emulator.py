"""Google Cloud Storage in memory: as much of it as obstore and gcsfs ask for.

obstore speaks the XML API, and locks of ours rest on its preconditions. No emulator that a package
registry offers has them there: gcp-storage-emulator answers a PUT without an ETag and a DELETE with
501, and object_store's own tests leave conditional puts and uploads in parts out when they run on
fake-gcs-server. So this one exists, after https://cloud.google.com/storage/docs/xml-api/overview.
What it does not know it refuses with 501.

Of the JSON API it has what gcsfs reads with: objects, their listing and their bytes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 1000
"""Objects of one answer to a listing, at most, as at Google."""

_JSON_PATH = re.compile(r"(?:/download)?/storage/v1/b/([^/]+)/o(?:/(.+))?")
_generations = itertools.count(int(time.time() * 1e6))


@dataclass(frozen=True)
class Blob:
    """One version of an object."""

    data: bytes
    generation: int = field(default_factory=lambda: next(_generations))
    made: float = field(default_factory=time.time)

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data).hexdigest()}"'

    @property
    def headers(self) -> dict[str, str]:
        return {
            "ETag": self.etag,
            "Last-Modified": formatdate(self.made, usegmt=True),
            "x-goog-generation": str(self.generation),
            "x-goog-metageneration": "1",
        }

    @property
    def iso(self) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.made)) + ".000Z"


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """An answer that is an error: its status and its code, as the XML API names it."""


@dataclass(frozen=True)
class Call:
    """One request, taken apart."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes


class Buckets:
    """All that is stored; one request at a time, so that preconditions are atomic."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets: dict[str, dict[str, Blob]] = {}
        self._uploads: dict[str, dict[int, bytes]] = {}

    def answer(self, call: Call) -> Answer:
        with self._lock:
            try:
                if found := _JSON_PATH.fullmatch(call.path):
                    return self._json(call, unquote(found[1]), unquote(found[2] or ""))
                bucket, _, key = call.path[1:].partition("/")
                return self._xml(call, unquote(bucket), unquote(key))
            except Refused as error:
                status, code = error.args
                body = f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>"
                return Answer(status, body.encode(), {"Content-Type": "application/xml"})

    # ------------------------------------------------------------------------------------- XML API
    def _xml(self, call: Call, bucket: str, key: str) -> Answer:
        if call.method == "PUT" and not key:
            self._buckets.setdefault(bucket, {})
            return Answer()
        blobs = self._blobs(bucket)
        if call.method == "GET" and not key and call.query.get("list-type") == "2":
            return _xml_listing(blobs, call.query)
        if key and {"uploads", "uploadId"} & call.query.keys():
            return self._part(call, blobs, key)
        if call.method == "PUT" and key and "x-goog-copy-source" not in call.headers:
            return self._put(call, blobs, key)
        if call.method in ("GET", "HEAD") and key:
            return _read(_blob(blobs, key), call.headers.get("Range"))
        if call.method == "DELETE" and key:
            _blob(blobs, key)
            del blobs[key]
            return Answer(204)
        raise Refused(501, "NotImplemented")

    def _blobs(self, bucket: str) -> dict[str, Blob]:
        if bucket not in self._buckets:
            raise Refused(404, "NoSuchBucket")
        return self._buckets[bucket]

    def _put(self, call: Call, blobs: dict[str, Blob], key: str, *, body: bytes | None = None):
        wanted = call.headers.get("x-goog-if-generation-match")
        there = blobs[key].generation if key in blobs else 0
        if wanted is not None and int(wanted) != there:
            raise Refused(412, "PreconditionFailed")
        blobs[key] = Blob(call.body if body is None else body)
        return Answer(headers=blobs[key].headers)

    def _part(self, call: Call, blobs: dict[str, Blob], key: str) -> Answer:
        """An upload in parts: begun, a part, done or given up."""
        if "uploads" in call.query:
            upload = uuid.uuid4().hex
            self._uploads[upload] = {}
            return _xml("InitiateMultipartUploadResult", f"<UploadId>{upload}</UploadId>")
        upload = call.query["uploadId"]
        if upload not in self._uploads:
            raise Refused(404, "NoSuchUpload")
        if call.method == "PUT":
            self._uploads[upload][int(call.query["partNumber"])] = call.body
            return Answer(headers={"ETag": Blob(call.body).etag})
        parts = self._uploads.pop(upload)
        if call.method == "DELETE":
            return Answer(204)
        whole = b"".join(parts[number] for number in sorted(parts))
        put = self._put(call, blobs, key, body=whole)
        etag = f"<ETag>{escape(blobs[key].etag)}</ETag>"
        return _xml("CompleteMultipartUploadResult", etag, put.headers)

    # ------------------------------------------------------------------------------------ JSON API
    def _json(self, call: Call, bucket: str, key: str) -> Answer:
        if call.method != "GET":
            raise Refused(501, "NotImplemented")
        blobs = self._blobs(bucket)
        if key and call.query.get("alt") == "media":
            return _read(_blob(blobs, key), call.headers.get("Range"))
        if key:
            return _json(_resource(bucket, key, _blob(blobs, key)))
        keys, prefixes, following = _page(blobs, call.query, after=call.query.get("pageToken", ""))
        items = [_resource(bucket, key, blobs[key]) for key in keys]
        return _json({"items": items, "prefixes": prefixes, "nextPageToken": following or None})


def _blob(blobs: Mapping[str, Blob], key: str) -> Blob:
    if key not in blobs:
        raise Refused(404, "NoSuchKey")
    return blobs[key]


def _read(blob: Blob, wanted: str | None) -> Answer:
    size = len(blob.data)
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted or "")
    if not found or not (found[1] or found[2]):
        return Answer(200, blob.data, blob.headers)
    start = int(found[1]) if found[1] else max(size - int(found[2]), 0)
    stop = min(int(found[2]) + 1, size) if found[1] and found[2] else size
    if start >= stop:
        raise Refused(416, "InvalidRange")
    headers = {**blob.headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return Answer(206, blob.data[start:stop], headers)


def _page(blobs: Mapping[str, Blob], query: Mapping[str, str], *, after: str):
    """Keys, common prefixes and where the next page begins ("" at the end)."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    limit = min(int(query.get("max-keys") or query.get("maxResults") or PAGE), PAGE)
    keys: list[str] = []
    prefixes: list[str] = []
    for key in sorted(key for key in blobs if key.startswith(prefix) and key > after):
        step, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        folder = f"{prefix}{step}{cut}" if cut else None
        if folder and (folder == after or folder in prefixes[-1:]):
            continue
        if len(keys) + len(prefixes) == limit:
            return keys, prefixes, max(keys[-1:] + prefixes[-1:])
        (prefixes if folder else keys).append(folder or key)
    return keys, prefixes, ""


def _xml_listing(blobs: Mapping[str, Blob], query: Mapping[str, str]) -> Answer:
    after = query.get("continuation-token") or query.get("start-after", "")
    keys, prefixes, following = _page(blobs, query, after=after)
    parts = [
        f"<Contents><Key>{escape(key)}</Key><LastModified>{blobs[key].iso}</LastModified>"
        f"<ETag>{blobs[key].etag}</ETag><Size>{len(blobs[key].data)}</Size></Contents>"
        for key in keys
    ]
    parts += [f"<CommonPrefixes><Prefix>{escape(p)}</Prefix></CommonPrefixes>" for p in prefixes]
    if following:
        parts.append(f"<NextContinuationToken>{escape(following)}</NextContinuationToken>")
    return _xml("ListBucketResult", "".join(parts))


def _xml(root: str, inner: str, headers: Mapping[str, str] | None = None) -> Answer:
    body = f"<?xml version='1.0' encoding='UTF-8'?><{root}>{inner}</{root}>".encode()
    return Answer(200, body, {"Content-Type": "application/xml", **(headers or {})})


def _json(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})


def _resource(bucket: str, key: str, blob: Blob) -> dict[str, str]:
    return {
        "name": key,
        "bucket": bucket,
        "size": str(len(blob.data)),
        "generation": str(blob.generation),
        "etag": blob.etag,
        "updated": blob.iso,
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave together

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        answer = self.server.buckets.answer(
            Call(self.command, parts.path, query, self.headers, body)
        )
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def log_message(self, *args: Any) -> None:
        """Quiet."""


class Emulator(ThreadingHTTPServer):
    """The server, on a free port of the loopback; ``serve_forever`` runs it."""

    daemon_threads = True
    request_queue_size = 128  # connections of one test at once

    def __init__(self) -> None:
        self.buckets = Buckets()
        super().__init__(("127.0.0.1", 0), Handler)
