"""Where a catalogue that nobody vouches for may point.

Whoever writes a catalogue writes its hrefs, and GDAL opens what it is given: a file of this
machine, the address at which a cloud hands out credentials, a driver that starts requests of its
own. So an href is opened only if it is one of a few plain kinds, and leads out of this network.

What this cannot see, a reader has to forbid: a file at an allowed place that names others (VRT),
a server that redirects, and a name that leads elsewhere by the time it is opened.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cube.errors import SourceError, SpecError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

SCHEMES = ("https", "http", "s3", "gs", "az")
"""All that can be allowed."""

_BUCKETS = {"s3", "gs", "az"}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_BUCKET = re.compile(r"[a-z0-9$][a-z0-9._-]{1,221}")
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_TUNNELS = ipaddress.IPv6Network("2002::/16")  # 6to4: any IPv4 address, in disguise
_LABEL_LENGTH = 200


def resolve(host: str) -> tuple[str, ...]:
    """Addresses of a host, by this machine's resolver; none if it has none."""
    try:
        found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What the hrefs of a catalogue may be.

    Attributes:
        schemes: Of URLs; some of :data:`SCHEMES`. Never ``file``, GDAL's virtual files or
            its drivers.
        hosts: If given, only these: ``"data.example.com"``, ``"*.example.com"`` for whatever
            lies below it, ``"s3://bucket"`` for a bucket. A listed host may have any address;
            others never one of this machine or of its networks.
        folders: Local files lie inside one of these, once links and ``..`` are followed.
        resolve: Gives the addresses of a host, none if it has none. Asked once a host.
    """

    schemes: tuple[str, ...] = ("https", "s3", "gs", "az")
    hosts: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    resolve: Callable[[str], Iterable[str]] = field(default=resolve, repr=False, compare=False)
    _known: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("schemes", "hosts", "folders"):
            if isinstance(getattr(self, name), str):
                raise SpecError(f"Access: {name} are a list. Received {getattr(self, name)!r}.")
        unknown = [scheme for scheme in self.schemes if scheme not in SCHEMES]
        if unknown:
            raise SpecError(
                f"Access: schemes must be some of {', '.join(SCHEMES)}. "
                f"Received {', '.join(map(repr, unknown))}."
            )
        object.__setattr__(self, "schemes", tuple(self.schemes))
        object.__setattr__(self, "hosts", tuple(host.lower() for host in self.hosts))
        object.__setattr__(self, "folders", tuple(map(os.path.realpath, self.folders)))

    @classmethod
    def of_folder(cls, path: str | os.PathLike[str]) -> Access:
        """For a static catalogue on this machine: what it may do elsewhere, and files in it.

        Args:
            path: The catalogue's folder.
        """
        return cls(folders=(os.fspath(path),))

    def check(self, href: object, *, what: str) -> str:
        """An href as rasterio opens it.

        Args:
            href: Out of the catalogue.
            what: Whose it is, for the message, such as ``"Item 'a', asset 'red'"``.

        Raises:
            SourceError: It may not be opened; the message names the rule, and leaves out the
                query, which may hold a signature.
        """
        if not isinstance(href, str) or not href.strip():
            raise SourceError(f"{what}: an href was expected. Received {_shown(href)}.")
        allowed, problem = self._judge(href)
        if problem:
            raise SourceError(f"{what}: {_shown(href)} may not be opened: {problem}.")
        return allowed

    def _judge(self, href: str) -> tuple[str, str]:
        """The href to open, and why not to; one of them is empty."""
        if not href.isprintable() or set("|\\<") & set(href):
            return "", "it holds a control character, '|', '\\' or '<'"
        url = _URL.fullmatch(href)
        if url is None:
            return self._judge_path(href)
        scheme, rest = url[1].lower(), url[2]
        if scheme not in self.schemes:
            return "", f"its scheme must be one of {', '.join(self.schemes) or 'none'}"
        problem = self._problem_of_url(scheme, rest)
        return ("", problem) if problem else (f"{scheme}://{rest}", "")

    def _judge_path(self, href: str) -> tuple[str, str]:
        if ":" in href.partition("/")[0]:
            return "", "prefixes of GDAL's drivers and file systems are never allowed"
        if href.startswith("/vsi"):
            return "", "GDAL's virtual files are never allowed"
        if not self.folders:
            return "", "files of this machine are not allowed; for a local catalogue give folders="
        if not href.startswith("/"):
            return "", "a path of this machine must be absolute"
        path = os.path.realpath(href)
        inside = [folder for folder in self.folders if Path(path).is_relative_to(folder)]
        if not inside:
            return "", f"files must lie in {', '.join(self.folders)}"
        return path, _problem_of_vrt(path, inside[0])

    def _problem_of_url(self, scheme: str, rest: str) -> str:
        authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
        if "@" in authority:
            return "URLs with a user name or password are never allowed"
        if scheme in _BUCKETS:
            return self._problem_of_bucket(scheme, authority, rest)
        found = _AUTHORITY.fullmatch(authority)
        host = found[1].lower().rstrip(".") if found else ""
        if not host:
            return "its host cannot be read"
        if self.hosts:
            listed = any(_matches(host, pattern) for pattern in self.hosts)
            return "" if listed else f"its host is not one of {', '.join(self.hosts)}"
        if host not in self._known:
            self._known[host] = _problem_of_host(host, self.resolve)
        return self._known[host]

    def _problem_of_bucket(self, scheme: str, bucket: str, rest: str) -> str:
        if not _BUCKET.fullmatch(bucket) or ".." in bucket:
            return "a bucket's name has lower-case letters, digits, '-', '_' and single dots"
        if ".." in rest.split("/"):
            return "a path in a bucket holds no '..'"
        if self.hosts and f"{scheme}://{bucket}" not in self.hosts:
            return f"its bucket is not one of {', '.join(self.hosts)}"
        return ""


REMOTE = Access()
"""What a catalogue of strangers may name: HTTPS anywhere outside, and buckets."""


def _problem_of_vrt(path: str, folder: str) -> str:
    """What is wrong with a virtual raster, which names other files; empty for what is none."""
    from catalogs.vrt import check_vrt

    if not path.lower().endswith(".vrt") or not os.path.isfile(path):
        return ""
    try:
        check_vrt(Path(path), Path(folder))
    except SourceError as error:
        return str(error).rstrip(".")
    return ""


def check_label(label: object, *, what: str) -> str:
    """An id for people to read; nothing is ever derived from it, least of all a path.

    Raises:
        SourceError: It is no text, empty, too long, or not printable.
    """
    if not isinstance(label, str) or not label.strip():
        raise SourceError(f"{what} must be text that is not empty. Received {_shown(label)}.")
    if len(label) > _LABEL_LENGTH or not label.isprintable():
        raise SourceError(
            f"{what} must be printable, at most {_LABEL_LENGTH} characters. "
            f"Received {_shown(label)}, {len(label)} characters."
        )
    return label


def _shown(value: object) -> str:
    """For a message: without query, user and password, control characters escaped, cut short."""
    if not isinstance(value, str):
        return type(value).__name__
    text = re.sub(r"//[^/]*@", "//***@", value.partition("?")[0])
    return repr(text if len(text) <= _LABEL_LENGTH else f"{text[:_LABEL_LENGTH]}…")


def _matches(host: str, pattern: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _problem_of_host(host: str, resolve: Callable[[str], Iterable[str]]) -> str:
    if host == "localhost" or host.endswith(".localhost"):
        return "it leads to this machine; list the host in hosts= if that is meant"
    try:
        literal = _literal(host)
    except ValueError:
        return "its host is no address"
    addresses = [literal] if literal else [ipaddress.ip_address(text) for text in resolve(host)]
    inside = [str(address) for address in addresses if not _is_public(address)]
    if inside:
        return (
            f"it leads to {inside[0]}, inside this network or machine; "
            f"list the host in hosts= if that is meant"
        )
    return ""


def _literal(host: str) -> IPAddress | None:
    """The address that a host spells out, in any of the ways that curl reads; None for a name.

    Raises:
        ValueError: It ends in a number, as an address does, and is none.
    """
    if host.startswith("["):
        return ipaddress.IPv6Address(host[1:-1])
    if not _NUMERIC.fullmatch(host.rpartition(".")[2]):
        return None
    try:
        # Takes decimal, octal and hexadecimal numbers, one to four of them.
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError as error:
        raise ValueError(host) from error


def _is_public(address: IPAddress) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not (address.is_multicast or address.is_reserved)
    if address.ipv4_mapped is not None:
        return _is_public(address.ipv4_mapped)
    return address.is_global and address in _GLOBAL_UNICAST and address not in _TUNNELS
