"""Locks: one holder among threads, processes and machines, and none for ever."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
import uuid
from pathlib import Path

import pytest

import cube
from cube import locking, metadata, objects
from cube.errors import StoreError, TransientError

REGION = "ledger/basin/c/0/0"
OTHER = "ledger/basin/c/0/1"
NAMES = [locking.METADATA, REGION]

HOLD = (
    "import sys, time\n"
    "from cube import locking\n"
    "print('begun', flush=True)\n"
    "with locking.hold(sys.argv[1], sys.argv[2]):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(60)\n"
)


@pytest.fixture
def hold(start):
    """Start a process that holds a right, or waits for it; gives an event that says which."""

    def begin(url, name):
        child = start(HOLD, url, name)
        assert child.stdout.readline() == "begun\n"
        entered = threading.Event()

        def listen():
            if child.stdout.readline() == "held\n":
                entered.set()

        listeners.append(threading.Thread(target=listen))
        listeners[-1].start()
        children.append(child)
        return child, entered

    listeners, children = [], []
    yield begin
    for child in children:
        child.kill()
    for listener in listeners:
        listener.join()


@contextlib.contextmanager
def held_by_a_thread(url, name):
    """A thread that holds a right, or waits for it; gives an event that says which."""
    entered, over = threading.Event(), threading.Event()

    def enter():
        with locking.hold(url, name):
            entered.set()
            over.wait(60)

    thread = threading.Thread(target=enter)
    thread.start()
    try:
        yield entered
    finally:
        over.set()
        thread.join()


def is_free(url, name):
    try:
        with locking.hold(url, name, wait_s=0):
            return True
    except StoreError:
        return False


class TestFolder:
    @pytest.mark.parametrize("name", NAMES)
    def test_threads_take_turns(self, url, name):
        inside, most = [], []

        def work():
            for _ in range(20):
                with locking.hold(url, name):
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.0005)
                    inside.pop()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == [1] * 80

    @pytest.mark.parametrize("name", NAMES)
    def test_who_waits_goes_on_when_the_holder_is_killed(self, url, name, hold):
        child, entered = hold(url, name)
        assert entered.wait(20)
        with held_by_a_thread(url, name) as mine:
            assert not mine.wait(0.3)
            child.kill()
            assert mine.wait(20)

    @pytest.mark.parametrize("name", NAMES)
    def test_another_process_waits_for_this_one(self, url, name, hold):
        with locking.hold(url, name):
            _, entered = hold(url, name)
            assert not entered.wait(0.3)
        assert entered.wait(20)

    @pytest.mark.parametrize(("held", "other"), [(REGION, OTHER), (locking.METADATA, REGION)])
    def test_who_wants_something_else_does_not_wait(self, url, held, other, hold):
        with locking.hold(url, held):
            _, entered = hold(url, other)
            assert entered.wait(20)
            with held_by_a_thread(url, "ledger/basin/c/3/3") as mine:
                assert mine.wait(20)

    def test_giving_one_back_keeps_the_others_of_the_same_file(self, url, hold):
        # The locks of a file are all lost where a process closes any handle of it.
        with locking.hold(url, REGION):
            with locking.hold(url, OTHER):
                pass
            _, other = hold(url, OTHER)
            assert other.wait(20)
            _, same = hold(url, REGION)
            assert not same.wait(0.3)
        assert same.wait(20)

    @pytest.mark.parametrize("name", NAMES)
    def test_it_is_free_again_after_an_error(self, url, name):
        with pytest.raises(ValueError, match="in between"), locking.hold(url, name):
            raise ValueError("in between")
        assert is_free(url, name)

    @pytest.mark.parametrize("name", NAMES)
    def test_who_waited_in_vain_is_told(self, url, name, hold):
        _, entered = hold(url, name)
        assert entered.wait(20)
        expected = rf"^Another process has held '{name}' of '{url}' for 0 s; wait for it to end, or"
        with pytest.raises(StoreError, match=expected), locking.hold(url, name, wait_s=0.1):
            pass

    def test_a_cube_that_was_removed_and_made_anew_is_locked_itself(self, url, hold):
        with locking.hold(url, OTHER):
            shutil.copytree(url, f"{url}.copy")
            shutil.rmtree(url)
            Path(f"{url}.copy").rename(url)
            with locking.hold(url, REGION):
                _, entered = hold(url, REGION)
                assert not entered.wait(0.3)
            assert entered.wait(20)

    @pytest.mark.parametrize("name", NAMES)
    def test_there_must_be_a_folder_to_lock(self, tmp_path, name):
        url = str(tmp_path / "none")
        with (
            pytest.raises(StoreError, match="no such folder; create the cube first"),
            locking.hold(url, name),
        ):
            pass
        assert not Path(url).exists()

    def test_only_a_region_leaves_a_file_and_that_is_known_as_a_lock(self, url, contents):
        before = set(contents(url))
        with locking.hold(url, locking.METADATA):
            assert set(contents(url)) == before
        with locking.hold(url, REGION):
            pass
        assert set(contents(url)) - before == {"ledger/basin/.lock"}
        assert locking.is_lock("ledger/basin/.lock")

    def test_nothing_stays_open(self, url):
        def handles():
            return len(os.listdir("/proc/self/fd"))

        before = handles()
        for name in ("basin", "terrain", "population"):
            with locking.hold(url, f"ledger/{name}/c/0/0"), locking.hold(url, locking.METADATA):
                assert handles() > before
        assert handles() == before
        assert not locking._mutexes


def test_memory_is_locked_among_threads():
    url = f"memory://test_locking_{uuid.uuid4().hex}"
    with locking.hold(url, REGION), held_by_a_thread(url, OTHER) as other:
        assert other.wait(20)
    with contextlib.ExitStack() as stack:
        with locking.hold(url, REGION):
            same = stack.enter_context(held_by_a_thread(url, REGION))
            assert not same.wait(0.2)
        assert same.wait(20)


@pytest.mark.parametrize("name", NAMES)
def test_in_any_store_threads_take_turns(store_url, spec, name):
    url = cube.create(store_url, spec)
    before = set(metadata.lying(url))
    inside, most = [], []

    def work():
        for _ in range(4):
            with locking.hold(url, name) as held:
                inside.append(1)
                most.append(len(inside))
                held.check()
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 12
    assert set(metadata.lying(url)) == before


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("ledger/basin/.lock", True),
        ("ledger/basin/.locks/0/0", True),
        ("spatial_ref/.locks/metadata", True),
        ("ledger/basin/c/0/0", False),
        ("ledger/locks/c/0/0", False),
        ("zarr.json", False),
    ],
)
def test_locks_are_told_from_data_by_their_keys(key, expected):
    assert locking.is_lock(key) is expected


class Faulty(objects.Remote):
    """A store with a fault at its next conditional puts: lost answers, or lost requests."""

    lose_answers = 0
    lose_requests = 0

    def put_if(self, key, data, *, tag):
        if self.lose_requests:
            self.lose_requests -= 1
            raise TransientError("connection reset")
        result = super().put_if(key, data, tag=tag)
        if self.lose_answers:
            self.lose_answers -= 1
            raise TransientError("connection reset")
        return result


class TestLeases:
    """Rivals here are leases of one process, but they know of each other by the store only."""

    KEY = "ledger/basin/.locks/0/0"

    @pytest.fixture(autouse=True)
    def short(self, monkeypatch):
        monkeypatch.setattr(locking, "LEASE_S", 0.4)
        monkeypatch.setattr(locking, "_keeper", locking._Keeper())
        monkeypatch.setattr(locking, "_seen", {})

    @pytest.fixture
    def there(self):
        url = f"memory://test_locking_{uuid.uuid4().hex}"
        return Faulty(url, objects.remote(url).store)

    def keys(self, there):
        return [entry.key for entry in there.list()]

    def test_only_one_has_it(self, there):
        inside, most = [], []

        def work():
            for _ in range(5):
                with locking._leased(there, REGION, 30):
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.002)
                    inside.pop()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == [1] * 20

    def test_it_is_an_object_in_the_folder_of_the_array_and_goes_with_its_end(self, there):
        with locking._leased(there, REGION, 1):
            assert self.keys(there) == [self.KEY]
        assert self.keys(there) == []
        with locking._leased(there, locking.METADATA, 1):
            assert self.keys(there) == ["spatial_ref/.locks/metadata"]
        with pytest.raises(ValueError, match="in between"), locking._leased(there, REGION, 1):
            raise ValueError("in between")
        assert self.keys(there) == []

    def test_its_keeper_renews_it_for_as_long_as_it_is_held(self, there):
        with locking._leased(there, REGION, 1) as lease:
            rival = locking._Lease(there, self.KEY)
            end = time.monotonic() + 3 * locking.LEASE_S
            while time.monotonic() < end:
                assert not rival.take()
                lease.check()
                time.sleep(0.02)
            assert lease.beats > 3
        assert rival.take()

    def test_the_keeper_ends_when_nothing_is_held(self, there):
        with locking._leased(there, REGION, 1):
            thread = locking._keeper._thread
            assert thread.is_alive()
        thread.join(5)
        assert not thread.is_alive()
        with locking._leased(there, REGION, 1):
            assert locking._keeper._thread.is_alive()

    def test_a_dead_owners_is_taken_over_but_not_before_its_time(self, there):
        dead = locking._Lease(there, self.KEY)
        assert dead.take()
        began = time.monotonic()
        with locking._leased(there, REGION, 10):
            assert time.monotonic() - began >= locking.LEASE_S
            assert self.keys(there) == [self.KEY]

    def test_time_begins_with_the_first_look_at_it(self, there, monkeypatch):
        monkeypatch.setattr(locking, "remote", lambda url: there)
        url = "s3://bucket/cube.zarr"
        assert locking._Lease(there, self.KEY).take()
        locking.observe(url, "ledger/basin")
        time.sleep(locking.LEASE_S)
        began = time.monotonic()
        with locking.hold(url, REGION, wait_s=10) as lease:
            assert time.monotonic() - began < locking.LEASE_S
            lease.check()

    def test_an_owner_that_slept_too_long_notices(self, there):
        slow = locking._Lease(there, self.KEY)
        assert slow.take()
        with locking._leased(there, REGION, 10) as rival:
            with pytest.raises(TransientError, match=r"The right to .* was lost: .* taken it over"):
                slow.check()
            slow.release()
            assert self.keys(there) == [self.KEY]
            rival.check()

    def test_an_owner_that_slept_without_a_rival_goes_on(self, there):
        slow = locking._Lease(there, self.KEY)
        assert slow.take()
        time.sleep(1.5 * locking.LEASE_S)
        slow.check()
        assert slow.beats == 2

    def test_a_lost_answer_is_looked_up(self, there):
        lease = locking._Lease(there, self.KEY)
        there.lose_answers = 1
        assert lease.take()
        there.lose_answers = 1
        lease.renew()
        assert lease.tag == there.get_tagged(self.KEY)[1]
        lease.check()

    def test_a_lost_request_is_made_again(self, there):
        there.lose_requests = 1
        lease = locking._Lease(there, self.KEY)
        assert not lease.take()
        assert lease.take()
        there.lose_requests = 1
        before = lease.renewed
        lease.renew()
        assert lease.renewed == before
        lease.renew()
        assert lease.renewed > before

    def test_an_owner_that_cannot_reach_the_store_stops_in_time(self, there):
        with locking._leased(there, REGION, 1) as lease:
            there.lose_requests = 10**6
            lease.check()
            time.sleep(1.5 * locking.LEASE_S)
            with pytest.raises(TransientError, match=r"could not be reached for 0 s"):
                lease.check()
            assert locking._keeper._thread.is_alive()

    def test_who_waited_in_vain_is_told(self, there):
        with (
            locking._leased(there, REGION, 1),
            pytest.raises(
                StoreError, match=rf"^Another process has held '{REGION}' of '{there.url}"
            ),
            locking._leased(there, REGION, 0.1),
        ):
            pass
