"""The one right to do something to a cube, among threads, processes and machines.

    with locking.hold(url, "metadata"):
        ...

In a folder it is a lock of the operating system, which ends with its process.
Object stores have no locks, so there it is a lease: an object that only one
can create, renewed while it is held, and taken over once nobody has renewed it
for a while.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cube import urls
from cube.errors import StoreError, TransientError
from cube.objects import Remote, Tag, explained, remote

METADATA = "metadata"
"""The right to change a cube's metadata; all other names are keys of ledger entries."""

_FILE = ".lock"
_LEASES = ".locks"

LEASE_S = 20.0
"""A lease that was not renewed for so long is nobody's."""


class Held:
    """A right that is held."""

    def check(self) -> None:
        """Make sure that it still is.

        Raises:
            StoreError: Another process may have taken it over.
        """


def is_lock(key: str) -> bool:
    """True for what locks leave in a store."""
    return not {_FILE, _LEASES}.isdisjoint(key.split("/"))


# Locks lie in the folders of arrays, where a plain reader of Zarr does not look for nodes.
def _lease_key(name: str) -> str:
    if name == METADATA:
        return f"spatial_ref/{_LEASES}/{METADATA}"
    return name.replace("/c/", f"/{_LEASES}/", 1)


@contextlib.contextmanager
def hold(url: str, name: str, *, wait_s: float = 300.0) -> Iterator[Held]:
    """Hold the right of that name; wait for whoever holds it.

    Args:
        url: A normalised URL; a folder must exist.
        name: :data:`METADATA`, or the key of a region's ledger entry.
        wait_s: How long to wait before giving up.

    Raises:
        StoreError: It was not free in time, or the place cannot be written.
    """
    if urls.is_folder(url):
        # Locks of the system belong to the file: two names of one folder must not be two locks.
        url = os.path.realpath(url)
    with _among_threads(f"{url}:{name}"):
        if urls.is_folder(url):
            lock = _locked_folder if name == METADATA else _locked_byte
            with lock(Path(url), name, wait_s):
                yield Held()
        elif urls.is_memory(url):
            yield Held()
        else:
            with _leased(remote(url), name, wait_s) as lease:
                yield lease


def observe(url: str, path: str) -> None:
    """Look at the leases of an array that a killed run may have left, so that their time runs."""
    if not urls.is_object_store(url):
        return
    there = remote(url)
    for entry in there.list(f"{path}/{_LEASES}/"):
        _age_of(there, entry.key)


# ------------------------------------------------------------------------------------- threads
_users: dict[str, list[int]] = {}
_mutexes: dict[str, threading.Lock] = {}
_registry = threading.Lock()


@contextlib.contextmanager
def _among_threads(key: str) -> Iterator[None]:
    """A lock by name among the threads of this process, forgotten when nobody wants it."""
    with _registry:
        mutex = _mutexes.setdefault(key, threading.Lock())
        _users.setdefault(key, [0])[0] += 1
    try:
        with mutex:
            yield
    finally:
        with _registry:
            _users[key][0] -= 1
            if not _users[key][0]:
                del _users[key], _mutexes[key]


# ------------------------------------------------------------------------------------- folders
@contextlib.contextmanager
def _locked_folder(folder: Path, name: str, wait_s: float) -> Iterator[None]:
    """Lock the folder itself, so that no file is left behind."""
    with explained(folder):
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _wait_for(lambda: _attempt(fcntl.flock, handle), name, folder, wait_s)
        yield
    finally:
        os.close(handle)


@dataclass(slots=True)
class _File:
    """A lock file that this process has open, and how many of its threads use it."""

    handle: int
    users: int = 0


_files: dict[Path, _File] = {}


@contextlib.contextmanager
def _locked_byte(folder: Path, name: str, wait_s: float) -> Iterator[None]:
    """Lock one byte of an array's lock file, far beyond its end: one for each name."""
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
    with _opened(folder, folder / name.partition("/c/")[0] / _FILE) as handle:
        _wait_for(lambda: _attempt(fcntl.lockf, handle, 1, place), name, folder, wait_s)
        try:
            yield
        finally:
            fcntl.lockf(handle, fcntl.LOCK_UN, 1, place)


def _attempt(lock: Callable[..., None], handle: int, *place: int) -> bool:
    try:
        lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, *place)
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextlib.contextmanager
def _opened(folder: Path, path: Path) -> Iterator[int]:
    """The handle of a lock file, one for all threads.

    Such locks belong to the process, and closing any handle of the file drops
    them all; so it is closed once none of its threads uses it.
    """
    with _registry, explained(folder):
        file = _files.get(path)
        # Where the cube was removed and made anew, what was locked is gone.
        if file is None or not _is_file(file.handle, path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            file = _files[path] = _File(handle)
        file.users += 1
    try:
        yield file.handle
    finally:
        with _registry:
            file.users -= 1
            if not file.users:
                os.close(file.handle)
                if _files.get(path) is file:
                    del _files[path]


def _is_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return False


def _wait_for(attempt: Callable[[], bool], name: str, where: object, wait_s: float) -> None:
    end = time.monotonic() + wait_s
    pause_s = 0.001
    while not attempt():
        if time.monotonic() > end:
            raise StoreError(
                f"Another process has held {name!r} of {str(where)!r} for {wait_s:.0f} s; "
                f"wait for it to end, or stop it, and run again."
            )
        time.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(2 * pause_s, 1.0)


# -------------------------------------------------------------------------------- object stores
_seen: dict[tuple[str, str], tuple[Tag, float]] = {}


def _age_of(there: Remote, key: str) -> tuple[Tag | None, float]:
    """Tag of a lease, and for how long this process has seen it unchanged.

    Clocks of different machines are never compared.
    """
    found = there.get_tagged(key)
    place = (there.url, key)
    if found is None:
        _seen.pop(place, None)
        return None, 0.0
    tag, since = _seen.get(place, ({}, 0.0))
    if tag != found[1]:
        tag, since = _seen[place] = (found[1], time.monotonic())
    return tag, time.monotonic() - since


class _Lease(Held):
    """An object that says who may."""

    def __init__(self, there: Remote, key: str) -> None:
        self.there, self.key = there, key
        self.owner = uuid.uuid4().hex
        self.tag: Tag | None = None
        self.renewed = 0.0
        self.beats = 0
        self.turn = threading.Lock()

    def take(self) -> bool:
        """Create it, or take it over from an owner that has stopped renewing it."""
        tag = self._put(None)
        if tag is None:
            other, age = _age_of(self.there, self.key)
            if other is None or age < LEASE_S:
                return False
            tag = self._put(other)
        if tag is None:
            return False
        _seen.pop((self.there.url, self.key), None)
        return True

    def _put(self, tag: Tag | None) -> Tag | None:
        """Set the lease if its tag is still this one; the new tag, or None."""
        began = time.monotonic()
        self.beats += 1
        body = f"{self.owner} {self.beats}".encode()
        try:
            put = self.there.put_if(self.key, body, tag=tag)
        except TransientError:
            put = None
        if put is None and (found := self.there.get_tagged(self.key)) and found[0] == body:
            put = found[1]  # it was done, and only the answer got lost
        if put is not None:
            self.tag, self.renewed = put, began
        return put

    def renew(self) -> None:
        """Say that its owner is alive; a failure shows when the lease is checked."""
        with self.turn, contextlib.suppress(StoreError):
            self._put(self.tag)

    def check(self) -> None:
        """See :class:`Held`."""
        if time.monotonic() - self.renewed > LEASE_S / 2:
            self.renew()
        if time.monotonic() - self.renewed > LEASE_S:
            raise TransientError(
                f"The right to {self.key!r} of {self.there.url!r} was lost: the store could not "
                f"be reached for {LEASE_S:.0f} s, and another process may have taken it over."
            )

    def release(self) -> None:
        """Give it up; what cannot be removed runs out."""
        if time.monotonic() - self.renewed < LEASE_S:
            with contextlib.suppress(StoreError):
                self.there.delete(self.key)


@contextlib.contextmanager
def _leased(there: Remote, name: str, wait_s: float) -> Iterator[_Lease]:
    lease = _Lease(there, _lease_key(name))
    _wait_for(lease.take, name, there.url, wait_s)
    _keeper.add(lease)
    try:
        yield lease
    finally:
        _keeper.remove(lease)
        lease.release()


class _Keeper:
    """One thread that renews all leases of this process while there are any."""

    def __init__(self) -> None:
        self._leases: set[_Lease] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, lease: _Lease) -> None:
        with self._changed:
            self._leases.add(lease)
            if self._thread is None or not self._thread.is_alive():
                # None after its end, and dead in a process that was forked.
                self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
                self._thread.start()

    def remove(self, lease: _Lease) -> None:
        with self._changed:
            self._leases.discard(lease)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait(LEASE_S / 8)
                if not self._leases:
                    self._thread = None
                    return
                now = time.monotonic()
                due = [lease for lease in self._leases if now - lease.renewed > LEASE_S / 4]
            for lease in due:
                lease.renew()


_keeper = _Keeper()
