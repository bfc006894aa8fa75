# SPDX-License-Identifier: GPL-3.0-or-later
"""One at a time, but nobody waits for ever, and the dead hold nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process, turn
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import ShareFault

as_root = pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")


def test_who_comes_alone_does_not_wait(tmp_path: Path) -> None:
    for _ in range(2):
        with turn.handed(str(tmp_path), 1000) as locks, turn.of(locks, "a", Deadline(10)) as is_late:
            assert not is_late


def test_no_locks_are_no_waiting() -> None:
    for folder in ("/proc/nowhere", "/dev/null"):
        with turn.handed(folder, 1000) as locks:
            assert locks == ()
            with turn.of(locks, "a", Deadline(10)) as is_late:
                assert not is_late


def test_who_has_waited_too_long_goes_ahead(tmp_path: Path) -> None:
    with turn.handed(str(tmp_path), 1000) as mine, turn.handed(str(tmp_path), 1000) as others:
        with turn.of(mine, "a", Deadline(10)):
            with turn.of(others, "a", Deadline(0.1)) as is_late:
                assert is_late
            with turn.of(others, "b", Deadline(10)) as is_late:
                assert not is_late
        with turn.of(others, "a", Deadline(10)) as is_late:
            assert not is_late


def test_half_of_the_time_is_waited_and_half_is_left_for_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(turn.time, "sleep", sleep)
    with turn.handed(str(tmp_path), 1000) as mine, turn.handed(str(tmp_path), 1000) as others, turn.of(mine, "a", Deadline(10)):
        with turn.of(others, "a", Deadline(100, clock=lambda: now[0])) as is_late:
            assert (is_late, round(now[0])) == (True, 50)


def test_a_holder_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with turn.handed(str(tmp_path), 1000) as locks:
        pid = process.fork(lambda: _hold(locks, writer))
    os.read(reader, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    for end in (reader, writer):
        os.close(end)
    with turn.handed(str(tmp_path), 1000) as locks, turn.of(locks, "a", Deadline(10)) as is_late:
        assert not is_late


@as_root
def test_a_lock_that_one_user_holds_costs_another_nothing(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    bob, mallory = process.named("nobody"), process.named("daemon")
    with turn.handed(str(tmp_path), mallory.uid) as locks:
        child = process.start(mallory, _hold, locks, writer, keep=(writer, *locks))
    os.read(reader, 1)
    with turn.handed(str(tmp_path), bob.uid) as locks:
        assert process.start(bob, _wait_for, locks, keep=locks).result() is False
    with pytest.raises(ShareFault):
        child.result(Deadline(0))
    for end in (reader, writer):
        os.close(end)


@as_root
def test_a_user_can_open_no_lock_and_put_nothing_beside_one(tmp_path: Path) -> None:
    with turn.handed(str(tmp_path / "locks"), 65534) as locks:
        assert len(locks) > 1
    tmp_path.chmod(0o755)
    for path in (tmp_path / "locks", tmp_path / "locks" / "65534", tmp_path / "locks" / "65534" / "0"):
        with pytest.raises(RuntimeError, match=r"Permission"):
            process.run(process.named("nobody"), _open, str(path))


def _hold(locks: Any, writer: int) -> int:
    with turn.of(locks, "a", Deadline(10)):
        os.write(writer, b"x")
        signal.pause()
    return 0


def _wait_for(locks: Any) -> bool:
    with turn.of(locks, "a", Deadline(10)) as is_late:
        return is_late


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY) if not os.path.isdir(path) else os.open(path + "/new", os.O_CREAT | os.O_WRONLY)
