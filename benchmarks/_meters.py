"""Meters of this process and of files: peak memory, openings, seconds; and rows of them."""

from __future__ import annotations

import ctypes
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np


class Opened:
    """How often files below folders are opened while it lasts, as the kernel counts.

    See inotify(7). Whatever opens a file is seen: Python, Rust, a child process.
    """

    OPEN, CLOSE = 0x20, 0x10
    HEAD = 16
    """Bytes of an event before its name, whose length is the last four of them."""

    def __init__(self, folders: Iterable[Path]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._events = libc.inotify_init1(os.O_NONBLOCK)
        self._folders = {}
        for folder in folders:
            # Closing is watched so that two openings of one file are not two equal events,
            # which the kernel would merge.
            watch = libc.inotify_add_watch(
                self._events, os.fsencode(folder), self.OPEN | self.CLOSE
            )
            assert watch >= 0, f"inotify: {os.strerror(ctypes.get_errno())}"
            self._folders[watch] = folder
        self.times: Counter[Path] = Counter()

    def count(self) -> Counter[Path]:
        """Openings so far, by file."""
        while data := self._read():
            at = 0
            while at < len(data):
                watch, mask, _, length = np.frombuffer(data, "i4", 4, at)
                name = data[at + self.HEAD : at + self.HEAD + length].rstrip(b"\0").decode()
                if mask & self.OPEN and name:
                    self.times[self._folders[int(watch)] / name] += 1
                assert watch >= 0, "more events than the kernel keeps"
                at += self.HEAD + int(length)
        return self.times

    def _read(self) -> bytes:
        try:
            return os.read(self._events, 1 << 20)
        except BlockingIOError:
            return b""


def peak_mb(call: Callable[[], Any]) -> float:
    """The most memory that this process has while it does something, less what it had before."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here, see proc(5)
    before = high_water_mb()
    call()
    return high_water_mb() - before


def high_water_mb() -> float:
    """Peak of this process's resident memory since it was last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def seconds(call: Callable[[], Any]) -> float:
    """Duration of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def show(what: str, **columns: Any) -> None:
    """A row."""
    print(json.dumps({"what": what, **columns}), flush=True)


def ratio(name: str, value: float) -> None:
    """A row that only says how two things compare."""
    show("ratio", name=name, ratio=round(value, 3))


def bar(
    name: str, value: float, *, at_least: float | None = None, at_most: float | None = None
) -> None:
    """A row that says whether a ratio is as wanted."""
    wanted = {"at_least": at_least} if at_most is None else {"at_most": at_most}
    met = value >= at_least if at_most is None else value <= at_most
    show("bar", name=name, ratio=round(value, 3), **wanted, met=bool(met))
