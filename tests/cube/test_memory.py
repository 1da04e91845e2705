"""Free memory: the smallest of what the machine and its control groups leave."""

from __future__ import annotations

import pytest

from cube import memory
from cube.memory import Room


def write(root, files):
    for path, text in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


MEMINFO = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    800 kB\n"


class TestFree:
    def test_nobody_knows_where_the_system_does_not_tell(self, tmp_path):
        assert memory.free_bytes(tmp_path) is None

    def test_what_the_machine_has_available(self, tmp_path):
        write(tmp_path, {"proc/meminfo": MEMINFO})
        assert memory.free_bytes(tmp_path) == 800 * 1024

    def test_what_a_group_of_version_2_leaves_files_in_memory_not_counted(self, tmp_path):
        group = "sys/fs/cgroup/user/job"
        write(
            tmp_path,
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "0::/user/job\n",
                f"{group}/memory.max": "500000\n",
                f"{group}/memory.current": "300000\n",
                f"{group}/memory.stat": "anon 1\ninactive_file 50000\nactive_file 20000\n",
            },
        )
        assert memory.free_bytes(tmp_path) == 270_000

    def test_a_group_above_may_leave_less(self, tmp_path):
        write(
            tmp_path,
            {
                "proc/self/cgroup": "0::/user/job\n",
                "sys/fs/cgroup/user/job/memory.max": "max\n",
                "sys/fs/cgroup/user/job/memory.current": "300000\n",
                "sys/fs/cgroup/user/memory.max": "400000\n",
                "sys/fs/cgroup/user/memory.current": "300000\n",
            },
        )
        assert memory.free_bytes(tmp_path) == 100_000

    @pytest.mark.parametrize("place", ["", "job/"])
    def test_what_a_group_of_version_1_leaves_mounted_here_or_above(self, tmp_path, place):
        group = f"sys/fs/cgroup/memory/{place}"
        write(
            tmp_path,
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "4:cpu:/job\n5:memory:/job\n0::/\n",
                f"{group}memory.limit_in_bytes": "500000\n",
                f"{group}memory.usage_in_bytes": "400000\n",
                f"{group}memory.stat": "inactive_file 1\ntotal_inactive_file 30000\n",
            },
        )
        assert memory.free_bytes(tmp_path) == 130_000

    def test_a_group_that_uses_more_than_its_limit_leaves_nothing(self, tmp_path):
        write(
            tmp_path,
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "1000\n",
                "sys/fs/cgroup/memory.current": "2000\n",
            },
        )
        assert memory.free_bytes(tmp_path) == 0

    def test_on_this_machine_it_is_a_sensible_number(self):
        free = memory.free_bytes()
        assert free is None or 10_000_000 < free < 10**15


class Cluster:
    def __init__(self, *workers):
        self.workers = dict(enumerate(workers))

    def scheduler_info(self, n_workers):
        assert n_workers == -1
        return {"workers": self.workers}


def worker(limit, threads, used=0):
    return {"memory_limit": limit, "nthreads": threads, "metrics": {"memory": used}}


class TestCluster:
    def test_the_worker_with_least_memory_for_a_thread_counts(self):
        client = Cluster(worker(1000, 1, 100), worker(2000, 4, 200), worker(0, 8))
        expected = Room(free_bytes=1400, workers=4, on="each Dask worker", machines=3)
        assert memory.of_cluster(client) == expected

    def test_workers_without_a_limit_have_none(self):
        assert memory.of_cluster(Cluster(worker(0, 8))).free_bytes is None
        assert memory.of_cluster(Cluster(worker(None, 8))).free_bytes is None

    def test_no_workers_have_no_room(self):
        assert memory.of_cluster(Cluster()).workers == 0
