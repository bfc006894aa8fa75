# SPDX-License-Identifier: GPL-3.0-or-later
"""One at a time, but nobody waits for ever, and the dead hold nothing."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import turn
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline


def test_who_comes_alone_does_not_wait(tmp_path: Path) -> None:
    for _ in range(2):
        with turn.of(str(tmp_path), "a", Deadline(10)) as is_late:
            assert not is_late


def test_no_directory_is_no_waiting(tmp_path: Path) -> None:
    for folder in ("", str(tmp_path / "none"), "/proc"):
        with turn.of(folder, "a", Deadline(10)) as is_late:
            assert not is_late


def test_who_has_waited_too_long_goes_ahead(tmp_path: Path) -> None:
    with turn.of(str(tmp_path), "a", Deadline(10)):
        with turn.of(str(tmp_path), "a", Deadline(0.1)) as is_late:
            assert is_late
        with turn.of(str(tmp_path), "b", Deadline(10)) as is_late:
            assert not is_late


def test_half_of_the_time_is_waited_and_half_is_left_for_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(turn.time, "sleep", sleep)
    with turn.of(str(tmp_path), "a", Deadline(10)):
        with turn.of(str(tmp_path), "a", Deadline(100, clock=lambda: now[0])) as is_late:
            assert (is_late, round(now[0])) == (True, 50)


def test_a_holder_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with turn.of(str(tmp_path), "a", Deadline(10)):
            os.write(writer, b"x")
            signal.pause()
    os.read(reader, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    for end in (reader, writer):
        os.close(end)
    with turn.of(str(tmp_path), "a", Deadline(10)) as is_late:
        assert not is_late


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_another_users_lock_can_be_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    folder.mkdir()
    folder.chmod(0o1777)
    (folder / "a").write_text("")
    os.chown(folder / "a", 65534, 65534)
    (folder / "a").chmod(0o644)
    with turn.of(str(folder), "a", Deadline(10)), open(folder / "a") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_link_or_a_fifo_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo"):
        with turn.of(str(tmp_path), name, Deadline(10)) as is_late:
            assert not is_late


def test_the_place_of_the_locks_is_made_once_and_open_to_all(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "locks"
    turn.ready(str(folder))
    turn.ready(str(folder))
    assert folder.stat().st_mode & 0o7777 == 0o1777
    turn.ready("/proc/nowhere/locks")
