# SPDX-License-Identifier: GPL-3.0-or-later
"""One at a time; a dead holder is outlived; no clock of another machine is asked."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import exclusion
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline


def _count(lock: str, counter: str) -> None:
    for _ in range(20):
        with exclusion.held(lock, Deadline(60)):
            value = int(Path(counter).read_text())
            Path(counter).write_text(str(value + 1))


def test_ten_processes_never_hold_it_at_once(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    context = multiprocessing.get_context("fork")
    crowd = [context.Process(target=_count, args=(str(tmp_path / "lock"), str(counter))) for _ in range(10)]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join()
    assert counter.read_text() == "200"
    assert os.listdir(tmp_path) == ["counter"]


def test_a_dead_holders_lock_expires_by_the_waiters_own_clock_whatever_its_time(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    for age in (-1e6, 1e6):
        lock.write_text("n1 1 dead")
        then = lock.stat().st_mtime + age
        os.utime(lock, (then, then))
        waited = Deadline(60)
        with exclusion.held(str(lock), Deadline(60), expiry_seconds=0.2) as is_due:
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

    with exclusion.held(str(lock), Deadline(60), expiry_seconds=0.0, sleep=sleep):
        assert next(hands) == 31


def test_who_waits_learns_that_the_work_is_done(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("somebody")
    asked = iter([False, False, True])
    with exclusion.held(str(lock), Deadline(60), lambda: next(asked)) as is_due:
        assert not is_due
    assert lock.read_text() == "somebody"


def test_without_a_lock_the_work_is_done_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("somebody")
    with exclusion.held(str(tmp_path / "lock"), Deadline(0)) as is_due:
        assert is_due
    assert (tmp_path / "lock").read_text() == "somebody"
    with exclusion.held(str(tmp_path / "missing" / "lock"), Deadline(60)) as is_due:
        assert is_due


def test_a_link_in_the_locks_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with exclusion.held(str(tmp_path / "lock"), Deadline(60), expiry_seconds=0.05):
        pass
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_lock_that_has_just_changed_hands_is_not_broken(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("the next one")
    exclusion._break(str(lock), "the dead one")
    assert lock.read_text() == "the next one"
