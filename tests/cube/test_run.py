"""Running tasks: any order and any workers give the same; errors cost what they must, no more."""

from __future__ import annotations

import errno
import os
import threading
from functools import partial

import numpy as np
import pytest

import cube
from cube import objects, writing
from cube.errors import DamagedError, SourceError, SpecError, StoreError, TransientError
from cube.regions import regions
from cube.retrying import Retry
from cube.run import ends, open_pool, run_tasks

FOLDER = "/nowhere.zarr"


@pytest.fixture(scope="module")
def client():
    """It is not Dask's default: what a client is given for runs on that client."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 1, "threads_per_worker": 2, "dashboard_address": ":0"}
    with distributed.Client(processes=False, set_as_default=False, **options) as found:
        yield found


@pytest.fixture(params=["threads", "client"])
def run(request):
    """``run_tasks`` on two local threads, and on a Dask client with two."""
    fixed = {"verb": "test", "url": FOLDER}
    if request.param == "threads":
        return partial(run_tasks, workers=2, **fixed)
    return partial(run_tasks, client=request.getfixturevalue("client"), **fixed)


class Counted(list):
    """Tasks that count how many of them were taken."""

    taken = 0

    def __iter__(self):
        for task in super().__iter__():
            self.taken += 1
            yield task


def square(task):
    return task * task


def odd_fails(task):
    if task % 2:
        raise SourceError(f"scene {task} cannot be read")
    return task


def three_is_damaged(task):
    if task == 3:
        raise DamagedError("the checksum is wrong.")
    return task


def seven_fills_the_disk(task):
    if task == 7:
        raise StoreError("the disk is full")
    return task


class TestRunTasks:
    def test_every_task_is_done_once(self, run):
        assert dict(run(square, range(100))) == {n: n * n for n in range(100)}

    def test_there_may_be_nothing_to_do(self, run):
        assert list(run(square, [])) == []

    @pytest.mark.parametrize("workers", [1, 3, 16, None])
    def test_the_results_do_not_depend_on_workers(self, workers):
        found = run_tasks(square, range(50), verb="test", url=FOLDER, workers=workers)
        assert dict(found) == {n: n * n for n in range(50)}

    def test_regions_written_by_any_workers_in_any_order_leave_the_same_bytes(
        self, any_layout, tmp_path, values, contents, client
    ):
        wanted = list(regions(any_layout, "predictors", time=1))
        ways = {"one": {"workers": 1}, "many": {"workers": 8}, "dask": {"client": client}}
        trees = []
        for name, way in ways.items():
            url = cube.create(tmp_path / name, any_layout)

            def write(region, *, url=url):
                data = values(any_layout, "predictors", region)
                cube.write_region(url, "predictors", region, data, spec=any_layout)

            rng = np.random.default_rng(len(trees))
            shuffled = [wanted[i] for i in rng.permutation(len(wanted))]
            list(run_tasks(write, shuffled, verb="test", url=url, **way))
            trees.append(contents(url))
        assert trees[0] == trees[1] == trees[2]
        assert not cube.verify(url).damaged

    def test_results_come_as_they_end_and_not_as_they_were_given(self):
        slow = threading.Event()
        order = []
        for task, _ in run_tasks(
            lambda task: slow.wait(10) if task == "slow" else task,
            ["slow", "fast"],
            verb="test",
            url=FOLDER,
            workers=2,
        ):
            order.append(task)
            slow.set()
        assert order == ["fast", "slow"]

    def test_a_bounded_number_is_in_flight(self, run):
        tasks = Counted(range(200))
        ended = 0
        for _ in run(square, tasks):
            ended += 1
            assert tasks.taken - ended <= 4
        assert ended == 200

    def test_what_is_not_asked_for_is_not_begun(self, run):
        begun = []
        tasks = Counted(range(200))
        results = run(begun.append, tasks)
        next(results)
        results.close()
        assert tasks.taken <= 5
        assert len(begun) <= tasks.taken

    def test_a_cube_error_becomes_an_outcome_and_the_others_go_on(self, run):
        found = dict(run(odd_fails, range(20)))
        assert {n for n in found if isinstance(found[n], SourceError)} == set(range(1, 20, 2))
        assert all(found[n] == n for n in range(0, 20, 2))
        assert str(found[3]) == "scene 3 cannot be read"

    def test_a_damaged_chunk_costs_its_task_alone(self, run):
        found = dict(run(three_is_damaged, range(10)))
        assert isinstance(found.pop(3), DamagedError)
        assert found == {n: n for n in range(10) if n != 3}

    def test_a_store_error_stops_the_rest(self, run):
        tasks, ended = Counted(range(500)), []
        with pytest.raises(StoreError, match=r"^the disk is full$"):
            ended.extend(task for task, _ in run(seven_fills_the_disk, tasks))
        assert 7 not in ended
        assert tasks.taken < 100

    def test_what_ran_when_the_store_refused_is_still_told(self):
        begun, full = threading.Event(), threading.Event()

        def work(task):
            if task == "full":
                begun.wait(10)
                full.set()
                raise StoreError("the disk is full")
            begun.set()
            full.wait(10)
            return task

        ended = []
        with pytest.raises(StoreError, match="the disk is full"):
            ended.extend(
                task
                for task, _ in run_tasks(work, ["slow", "full"], verb="test", url=FOLDER, workers=2)
            )
        assert ended == ["slow"]

    def test_any_other_error_is_a_bug_and_comes_through(self, run):
        with pytest.raises(ZeroDivisionError, match="division by zero"):
            list(run(lambda task: 1 / task, [1, 0, 1]))

    def test_an_error_of_whoever_takes_the_results_leaves_no_thread_running(self):
        before = set(threading.enumerate())

        def take():
            for _ in run_tasks(square, range(50), verb="test", url=FOLDER, workers=4):
                raise KeyboardInterrupt("stop")

        with pytest.raises(KeyboardInterrupt, match="stop"):
            take()
        new = {thread.name for thread in set(threading.enumerate()) - before}
        assert not {name for name in new if name.startswith("ThreadPoolExecutor")}


class Flaky:
    """Tasks that time out so often before they succeed."""

    def __init__(self, times):
        self.times = times
        self.turn = threading.Lock()
        self.calls = {}

    def __call__(self, task):
        with self.turn:
            self.calls[task] = self.calls.get(task, 0) + 1
            if self.calls[task] <= self.times:
                raise TransientError("timed out.")
        return task


def tried(function, tasks, **options):
    retry = Retry(tries=3, sleep=lambda pause_s: None)
    pool = open_pool(function, url=FOLDER, retry=retry, workers=2, **options)
    return dict(ends(pool, tasks, verb="test"))


class TestTriesAgain:
    def test_what_may_pass_is_tried_again_where_the_task_runs(self):
        found = tried(Flaky(2), range(5))
        assert {n: (end.value, end.tries) for n, end in found.items()} == {
            n: (n, 3) for n in range(5)
        }

    def test_what_does_not_pass_after_all_costs_its_task_alone(self):
        flaky = Flaky(0)
        flaky.calls = {2: -(10**6)}
        found = tried(flaky, range(5))
        assert isinstance(found[2].value, TransientError)
        assert found[2].tries == 3
        assert [found[n].value for n in (0, 1, 3, 4)] == [0, 1, 3, 4]

    def test_a_store_that_answers_nobody_ends_the_run(self):
        tasks = Counted(range(1000))
        with pytest.raises(
            StoreError,
            match=r"^8 tasks in a row failed, each after 3 tries; the last: timed out. Run it "
            r"again when the store answers\.$",
        ):
            tried(Flaky(10**6), tasks)
        assert tasks.taken < 20


class TestFullDisk:
    def test_it_stops_the_run_with_one_clear_line(self, url, spec, values, monkeypatch):
        def full(path, *arguments, **named):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        monkeypatch.setattr(objects, "_put_bytes", full)
        wanted = Counted(regions(spec, "predictors", time=0))

        def write(region):
            cube.write_region(url, "predictors", region, values(spec, "predictors", region))

        with pytest.raises(
            StoreError, match=r"^Cannot write to '[^\n]*': the disk is full; make room"
        ):
            list(run_tasks(write, wanted, verb="test", url=url, workers=1))
        assert wanted.taken < len(wanted)

    def test_a_real_limit_on_files_stops_the_run_and_what_was_written_stays(self, url, spec, start):
        code = (
            "import resource, sys, numpy, cube\n"
            "from cube.run import run_tasks\n"
            "url, spec = sys.argv[1], cube.read_spec(sys.argv[1])\n"
            "def write(region):\n"
            "    noise = numpy.random.default_rng(region.rows[0]).normal(size=region.shape)\n"
            "    noise[:] = noise if region.rows[0] > 32 else 1\n"
            "    cube.write_region(url, 'population', region, noise, spec=spec)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))\n"
            "tasks = list(cube.regions(spec, 'population', time=0))\n"
            "try:\n"
            "    list(run_tasks(write, tasks, verb='test', url=url, workers=2))\n"
            "except cube.CubeError as error:\n"
            "    print(type(error).__name__, error)\n"
        )
        child = start(code, url)
        out, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
        (line,) = out.splitlines()
        assert line.startswith(f"StoreError Cannot write to {url!r}: a file would grow past")
        verdict = cube.verify(url, variables=("population",))
        assert not verdict.damaged
        assert {f.region.rows[0] for f in verdict.of("whole")} <= {0, 32}
        assert len(verdict.of("whole")) >= 5


class TestMemory:
    def test_workers_in_other_processes_cannot_see_a_cube_in_memory(self):
        class Elsewhere:
            def run(self, function):
                return {"tcp://worker": function() + 1}

        with pytest.raises(SpecError, match=r"lives in this process; .* Give the cube a folder"):
            next(run_tasks(square, [1], verb="test", url="memory://a", client=Elsewhere()))

    def test_workers_in_this_process_fill_a_cube_in_memory(self, spec, values, client):
        url = cube.create("memory://test_run", spec)

        def write(region):
            data = values(spec, "basin", region)
            writing.write_region(url, "basin", region, data, spec=spec)

        list(run_tasks(write, list(regions(spec, "basin")), verb="test", url=url, client=client))
        verdict = cube.verify(url, variables=("basin",))
        assert {f.state for f in verdict.findings} == {"whole"}


def test_a_forgotten_run_may_be_collected_on_a_thread_that_its_tasks_wait_for():
    go, closed = threading.Event(), threading.Event()
    results = run_tasks(
        lambda task: task == 0 or go.wait(20), [0, 1], verb="wait", url="/nowhere.zarr", workers=1
    )
    assert next(results)[0] == 0

    def collect():
        results.close()
        closed.set()
        go.set()

    collector = threading.Thread(target=collect)
    collector.start()
    assert closed.wait(10)
    collector.join()
