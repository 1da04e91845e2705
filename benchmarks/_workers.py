"""Child processes: one that serves contenders of one framework, and one that does one step.

python -m benchmarks._workers tensorflow URL          # asked and answered in lines of JSON
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._chip_cubes import Case
from benchmarks._contenders import KINDS, Contender, Epoch

ROOT = Path(__file__).parents[1]


def consumed(epoch: Epoch) -> tuple[float, float]:
    """Seconds of an epoch whose every chip is touched: by the clock, and of all cores."""
    start, busy, total = time.perf_counter(), time.process_time(), 0.0
    for image, label in epoch():
        # Not .numpy(), which copies: no more than a glance at what is there.
        total += int(np.asarray(image)[:, 0, 0, 0].sum()) + float(np.asarray(label)[:, 0, 0].sum())
    return time.perf_counter() - start, time.process_time() - busy


def digest(epoch: Epoch, count: int) -> list[int]:
    """Number of chips, and a checksum of them and their labels in any order."""
    seen = total = 0
    for batch in epoch():
        image, label = (np.ascontiguousarray(part) for part in batch)
        for number in range(min(len(image), count - seen)):
            total += zlib.crc32(label[number], zlib.crc32(image[number]))
            seen += 1
    return [seen, total]


def serve(case: Case, contenders: Mapping[str, Contender]) -> None:
    """Do what the lines of standard input say, and answer each with a line."""
    ready: dict[tuple[str, int], Epoch] = {}
    for line in sys.stdin:
        what, name, count = json.loads(line)
        ids = np.sort(np.random.default_rng(0).choice(case.ids, count, replace=False))
        if (name, count) not in ready:
            ready[name, count] = contenders[name](case, ids)
        epoch = ready[name, count]
        print(json.dumps(consumed(epoch) if what == "time" else digest(epoch, count)), flush=True)


class Worker:
    """A process that holds some of the contenders."""

    def __init__(self, interpreter: str, kind: str, case: Case) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (open as long as the process)
        self._process = subprocess.Popen(
            [interpreter, "-m", "benchmarks._workers", kind, case.url],
            cwd=ROOT,
            env=environment(kind),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def ask(self, what: str, name: str, count: int) -> Any:
        """``"time"`` or ``"digest"`` of a contender over so many chips."""
        self._process.stdin.write(json.dumps([what, name, count]) + "\n")
        self._process.stdin.flush()
        if line := self._process.stdout.readline():
            return json.loads(line)
        self._log.seek(0)
        raise RuntimeError(f"{name} failed: {self._log.read()[-2000:]}")

    def end(self) -> None:
        """Wait until it is over."""
        self._process.stdin.close()
        self._process.wait()


def environment(kind: str) -> dict[str, str]:
    """Variables of a process with one framework."""
    chosen = {} if kind == "numpy" else {"KERAS_BACKEND": kind}
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", **chosen}


def child(*arguments: Any) -> list[dict[str, Any]]:
    """Run a step in a process of its own, and show its rows."""
    command = [sys.executable, "-m", "benchmarks.stream", *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment("tensorflow"),
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command} failed: {done.stderr[-2000:]}")
    print(done.stdout, end="", flush=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


if __name__ == "__main__":
    serve(Case(url=sys.argv[2]), KINDS[sys.argv[1]])
