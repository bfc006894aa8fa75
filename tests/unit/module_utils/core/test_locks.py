# SPDX-License-Identifier: GPL-3.0-or-later
"""One at a time, but nobody waits for ever; the dead hold nothing; no clock of another machine is asked."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import locks, process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import ShareFault

as_root = pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")


# A lock of one node's processes.


@pytest.fixture(params=["flock", "flock_directory"])
def held(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Give what holds a lock, and its path."""
    path = tmp_path / "lock"
    if request.param == "flock_directory":
        path.mkdir()
    return getattr(locks, request.param), str(path)


def test_a_lock_is_held_by_one_process_and_freed_by_its_death(held: Any) -> None:
    (hold, path), (reader, writer) = held, os.pipe()
    pid = os.fork()
    if pid == 0:
        with hold(path):
            os.write(writer, b"x")
            signal.pause()
    os.read(reader, 1)
    probe = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    assert subprocess.run([sys.executable, "-c", probe, path], stderr=subprocess.DEVNULL, check=False).returncode == 1
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with hold(path):
        pass
    for handle in (reader, writer):
        os.close(handle)


def test_ten_processes_take_the_lock_one_after_the_other(tmp_path: Path, held: Any) -> None:
    counter, (hold, path) = tmp_path / "counter", held
    counter.write_text("0")
    pids = []
    for _ in range(10):
        pid = os.fork()
        if pid == 0:
            for _ in range(20):
                with hold(path):
                    counter.write_text(str(int(counter.read_text()) + 1))
            os._exit(0)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 10
    assert counter.read_text() == "200"


def test_a_link_is_no_lock_file_but_may_lead_to_a_directory(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "dangling").symlink_to("made")
    for name in ("link", "dangling"):
        with pytest.raises(OSError), locks.flock(str(tmp_path / name)):
            pass
    with locks.flock_directory(str(tmp_path / "link")):
        assert sorted(os.listdir(tmp_path)) == ["dangling", "folder", "link"]


# A lock of several jobs of one user, who hold up nobody else and nobody for ever.


def test_who_comes_alone_does_not_wait(tmp_path: Path) -> None:
    for _ in range(2):
        with locks.open_flocks(str(tmp_path), 1000) as flocks, locks.try_flock(flocks, "a", Deadline(10)) as is_late:
            assert not is_late


def test_no_locks_are_no_waiting() -> None:
    for folder in ("/proc/nowhere", "/dev/null"):
        with locks.open_flocks(folder, 1000) as flocks:
            assert flocks == ()
            with locks.try_flock(flocks, "a", Deadline(10)) as is_late:
                assert not is_late


def test_who_has_waited_too_long_goes_ahead(tmp_path: Path) -> None:
    with locks.open_flocks(str(tmp_path), 1000) as mine, locks.open_flocks(str(tmp_path), 1000) as others:
        with locks.try_flock(mine, "a", Deadline(10)):
            with locks.try_flock(others, "a", Deadline(0.1)) as is_late:
                assert is_late
            with locks.try_flock(others, "b", Deadline(10)) as is_late:
                assert not is_late
        with locks.try_flock(others, "a", Deadline(10)) as is_late:
            assert not is_late


def test_half_of_the_time_is_waited_and_half_is_left_for_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(locks.time, "sleep", sleep)
    with (
        locks.open_flocks(str(tmp_path), 1000) as mine,
        locks.open_flocks(str(tmp_path), 1000) as others,
        locks.try_flock(mine, "a", Deadline(10)),
    ):
        with locks.try_flock(others, "a", Deadline(100, clock=lambda: now[0])) as is_late:
            assert (is_late, round(now[0])) == (True, 50)


def test_a_holder_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with locks.open_flocks(str(tmp_path), 1000) as flocks:
        pid = process.fork(lambda: _hold(flocks, writer))
    os.read(reader, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    for end in (reader, writer):
        os.close(end)
    with locks.open_flocks(str(tmp_path), 1000) as flocks, locks.try_flock(flocks, "a", Deadline(10)) as is_late:
        assert not is_late


@as_root
def test_a_lock_that_one_user_holds_costs_another_nothing(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    bob, mallory = process.named("nobody"), process.named("daemon")
    with locks.open_flocks(str(tmp_path), mallory.uid) as flocks:
        child = process.start(mallory, _hold, flocks, writer, keep=(writer, *flocks))
    os.read(reader, 1)
    with locks.open_flocks(str(tmp_path), bob.uid) as flocks:
        assert process.start(bob, _wait_for, flocks, keep=flocks).result() is False
    with pytest.raises(ShareFault):
        child.result(Deadline(0))
    for end in (reader, writer):
        os.close(end)


@as_root
def test_a_user_can_open_no_lock_and_put_nothing_beside_one(tmp_path: Path) -> None:
    with locks.open_flocks(str(tmp_path / "locks"), 65534) as flocks:
        assert len(flocks) > 1
    tmp_path.chmod(0o755)
    for path in (tmp_path / "locks", tmp_path / "locks" / "65534", tmp_path / "locks" / "65534" / "0"):
        with pytest.raises(RuntimeError, match=r"Permission"):
            process.run(process.named("nobody"), _open, str(path))


def _hold(flocks: Any, writer: int) -> int:
    with locks.try_flock(flocks, "a", Deadline(10)):
        os.write(writer, b"x")
        signal.pause()
    return 0


def _wait_for(flocks: Any) -> bool:
    with locks.try_flock(flocks, "a", Deadline(10)) as is_late:
        return is_late


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY) if not os.path.isdir(path) else os.open(path + "/new", os.O_CREAT | os.O_WRONLY)


# A lock of nodes that share a directory.


def _count(lock: str, counter: str) -> None:
    for _ in range(20):
        with locks.lock_file(lock, Deadline(60)):
            value = int(Path(counter).read_text())
            Path(counter).write_text(str(value + 1))


def test_ten_processes_never_hold_a_lock_file_at_once(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    context = multiprocessing.get_context("fork")
    crowd = [context.Process(target=_count, args=(str(tmp_path / "lock"), str(counter))) for _ in range(10)]
    for worker in crowd:
        worker.start()
    for worker in crowd:
        worker.join()
    assert counter.read_text() == "200"
    assert os.listdir(tmp_path) == ["counter"]


def test_a_dead_holders_lock_expires_by_the_waiters_own_clock_whatever_its_time(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    for age in (-1e6, 1e6):
        lock.write_text("n1 1 dead")
        then = lock.stat().st_mtime + age
        os.utime(lock, (then, then))
        waited = Deadline(60)
        with locks.lock_file(str(lock), Deadline(60), expiry_seconds=0.2) as is_due:
            assert is_due
            assert "dead" not in lock.read_text()
        assert 0.15 < waited.spent() < 20
    assert not lock.exists()


def test_a_lock_that_changes_hands_does_not_expire(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("0")
    hands = iter(range(1, 1000))

    def sleep(_seconds: float) -> None:
        number = next(hands)
        if number == 30:
            lock.unlink()
        else:
            lock.write_text(str(number))

    with locks.lock_file(str(lock), Deadline(60), expiry_seconds=0.0, sleep=sleep):
        assert next(hands) == 31


def test_who_waits_learns_that_the_work_is_done(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("somebody")
    asked = iter([False, False, True])
    with locks.lock_file(str(lock), Deadline(60), lambda: next(asked)) as is_due:
        assert not is_due
    assert lock.read_text() == "somebody"


def test_without_a_lock_the_work_is_done_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("somebody")
    with locks.lock_file(str(tmp_path / "lock"), Deadline(0)) as is_due:
        assert is_due
    assert (tmp_path / "lock").read_text() == "somebody"
    with locks.lock_file(str(tmp_path / "missing" / "lock"), Deadline(60)) as is_due:
        assert is_due


def test_a_link_in_the_locks_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with locks.lock_file(str(tmp_path / "lock"), Deadline(60), expiry_seconds=0.05):
        pass
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_lock_that_has_just_changed_hands_is_not_broken(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("the next one")
    locks._break(str(lock), "the dead one")
    assert lock.read_text() == "the next one"
