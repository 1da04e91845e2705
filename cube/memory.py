"""How much memory is free: of this machine, or of a cluster's workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

PAUSE = 0.8
"""Share of its limit at which a Dask worker takes no more tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Tasks that can run at once, and the memory they share.

    Attributes:
        free_bytes: What is free; None where nobody knows.
        workers: Tasks that share it at once.
        on: What has it, for a person.
        machines: How many such there are.
    """

    free_bytes: int | None
    workers: int
    on: str = "this machine"
    machines: int = 1


def local(workers: int) -> Room:
    """Room for local threads."""
    return Room(free_bytes=free_bytes(), workers=workers)


def of_cluster(client: Client) -> Room:
    """Room on the worker of a Dask cluster that has least of it for a task."""
    workers: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    rooms = [
        Room(
            free_bytes=_free_on(worker),
            workers=int(worker["nthreads"]),
            on="each Dask worker",
            machines=len(workers),
        )
        for worker in workers.values()
    ]
    nothing = Room(free_bytes=None, workers=0, on="each Dask worker", machines=0)
    return min(rooms, key=_per_task, default=nothing)


def _per_task(room: Room) -> float:
    return float("inf") if room.free_bytes is None else room.free_bytes / max(1, room.workers)


def _free_on(worker: dict[str, Any]) -> int | None:
    limit = int(worker.get("memory_limit") or 0)
    if not limit:
        return None
    used = int(worker.get("metrics", {}).get("memory") or 0)
    return max(0, int(PAUSE * limit) - used)


def free_bytes(root: Path = Path("/")) -> int | None:
    """Memory that this process can still take, in bytes; None where the system does not tell.

    Args:
        root: Where ``proc`` and ``sys`` lie.
    """
    known = [*_available(root), *_left_in_groups(root)]
    return min(known, default=None)


def _available(root: Path) -> Iterator[int]:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            yield 1024 * int(line.split()[1])


def _left_in_groups(root: Path) -> Iterator[int]:
    """What limits of control groups (version 2 and 1) leave, such as those of a container."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _left(root / "sys/fs/cgroup", path, "memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            names = "memory.limit_in_bytes", "memory.usage_in_bytes"
            yield from _left(root / "sys/fs/cgroup/memory", path, *names)


def _left(mount: Path, path: str, limit_name: str, usage_name: str) -> Iterator[int]:
    """What each group from this one up to the root leaves."""
    here = mount / path.lstrip("/")
    for folder in (here, *here.parents):
        limit, usage = _text(folder / limit_name).strip(), _text(folder / usage_name).strip()
        if limit.isdecimal() and usage.isdecimal():
            yield max(0, int(limit) - int(usage) + _cache(folder))
        if folder == mount:
            return


def _cache(folder: Path) -> int:
    """Bytes of files that a group keeps in memory for as long as nobody needs it."""
    counts = dict(line.split() for line in _text(folder / "memory.stat").splitlines())
    # Version 1 counts those of the groups below under a name of its own.
    return sum(
        int(counts.get(f"total_{name}", counts.get(name, 0)))
        for name in ("inactive_file", "active_file")
    )


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
