# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job's directory on a node's disk: the user's alone, new for each attempt, and gone whatever was put into it."""

from __future__ import annotations

import os
import socket
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import files
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import NodeFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.workspace import KEPT_SECONDS, Workspace
from helpers import fuse

UID, GID = os.getuid(), os.getgid()
NOBODY = 65534
on_fuse = pytest.mark.skipif(not fuse.is_possible(), reason="only root can mount")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user")


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_user_reaches_it_and_nobody_else_does_whatever_the_umask_is(tmp_path: Path, umask: int) -> None:
    place = Workspace(4711, str(tmp_path / "var/madengine"))
    before = os.umask(umask)
    try:
        place.make(UID, GID)
    finally:
        os.umask(before)
    assert place.results == str(tmp_path / "var/madengine/jobs/4711/results")
    parents = [os.path.dirname(os.path.dirname(place.path)), os.path.dirname(place.path), place.path]
    assert [mode(path) for path in (*parents, place.results, place.task)] == [0o755, 0o755, 0o755, 0o700, 0o700]


@as_root
def test_the_results_are_the_user_s_and_what_is_above_is_not(tmp_path: Path) -> None:
    place = Workspace(4711, str(tmp_path))
    place.make(NOBODY, NOBODY)
    owners = [(os.stat(path).st_uid, os.stat(path).st_gid) for path in (place.path, place.results, place.task)]
    assert owners == [(0, 0), (NOBODY, NOBODY), (NOBODY, NOBODY)]


def test_what_an_earlier_attempt_left_is_gone(tmp_path: Path) -> None:
    place = Workspace(4711, str(tmp_path))
    place.make(UID, GID)
    Path(place.results, "perf.csv").write_text("stale")
    Path(place.task, "env.1").write_text("OLD=1")
    place.make(UID, GID)
    assert (os.listdir(place.results), os.listdir(place.task)) == ([], [])


def test_whatever_is_in_it_goes_and_what_it_points_to_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    place = Workspace(4711, str(tmp_path / "var"))
    place.make(UID, GID)
    root = Path(place.results)
    (root / "dir").symlink_to(outside)
    (root / "file").symlink_to(outside / "precious")
    (root / "etc").symlink_to("/etc")
    os.mkfifo(root / "fifo")
    (root / "a\nb\udcff").write_text("x")
    monkeypatch.chdir(root)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as peer:
        peer.bind("socket")
    os.link(outside / "precious", root / "hard")
    deepest = os.open(root, os.O_RDONLY)
    for _ in range(200):
        os.mkdir("d" * 50, 0o700, dir_fd=deepest)
        below = os.open("d" * 50, os.O_RDONLY, dir_fd=deepest)
        os.close(deepest)
        deepest = below
    os.close(deepest)
    (root / "closed").mkdir()
    (root / "closed/in").write_text("x")
    (root / "closed").chmod(0)
    monkeypatch.chdir("/")
    place.remove()
    place.remove()
    assert not os.path.lexists(place.path)
    assert (outside / "precious").read_text() == "x"
    assert os.path.exists("/etc/passwd")


def test_a_job_s_number_is_no_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        Workspace("../../etc", str(tmp_path))  # type: ignore[arg-type]


def test_a_disk_that_cannot_be_written_is_the_node_s_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs").write_text("in the way")
    with pytest.raises(NodeFault, match="workspace: cannot write") as caught:
        Workspace(4711, str(tmp_path)).make(UID, GID)
    assert caught.value.part == "disk"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(NodeFault, match="the disk is full"):
        Workspace(4711, str(tmp_path / "other")).make(UID, GID)


def test_what_nobody_gathered_stays_for_a_week_and_what_a_running_job_has_for_ever(tmp_path: Path) -> None:
    for job_id in (1, 2, 3):
        Workspace(job_id, str(tmp_path)).make(os.getuid(), os.getgid())
    week_old = time.time() - KEPT_SECONDS - 1
    for job_id in (1, 2):
        os.utime(Workspace(job_id, str(tmp_path)).path, (week_old, week_old))
    (tmp_path / "jobs/not-a-job").mkdir()
    os.utime(tmp_path / "jobs/not-a-job", (week_old, week_old))
    place = Workspace(3, str(tmp_path))
    place.sweep({2}.__contains__)
    place.sweep({2}.__contains__)
    assert sorted(os.listdir(tmp_path / "jobs")) == ["2", "3", "not-a-job"]


def test_what_can_be_gathered_nowhere_else_has_a_place_of_the_user_s(tmp_path: Path) -> None:
    place = Workspace(4711, str(tmp_path))
    place.make(UID, GID)
    os.mkdir(os.path.join(place.path, "kept"), 0o700)  # by a run that was killed before it gave it away
    path = place.make_aside(NOBODY if UID == 0 else UID, GID)
    assert (path, mode(path), os.stat(path).st_uid) == (os.path.join(place.path, "kept"), 0o700, NOBODY if UID == 0 else UID)
    os.rmdir(path)
    Path(path).write_text("no directory")
    with pytest.raises(NodeFault, match="workspace"):
        place.make_aside(UID, GID)


@on_fuse
def test_a_filesystem_that_answers_nobody_is_detached_and_neither_hangs_nor_drains(tmp_path: Path) -> None:
    place = Workspace(7, str(tmp_path))
    place.make(65534, 65534)
    with fuse.deaf(Path(place.results), uid=65534):
        place.make(65534, 65534)  # the job's next attempt
        assert os.stat(place.results).st_dev == os.stat(tmp_path).st_dev
        (Path(place.results) / "a b").mkdir()
        with fuse.deaf(Path(place.results) / "a b", uid=65534):
            place.remove()
    assert os.listdir(tmp_path / "jobs") == []


@as_root
def test_what_cannot_be_removed_is_put_aside_and_swept_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Workspace(7, str(tmp_path))
    place.make(65534, 65534)
    with monkeypatch.context() as patch:
        patch.setattr(files, "remove_tree", _refuse)
        place.remove()
    assert not os.path.exists(place.path)
    assert len(os.listdir(tmp_path / "jobs")) == 1
    place.make(65534, 65534)
    place.sweep(lambda job_id: True)
    assert os.listdir(tmp_path / "jobs") == ["7"]


def _refuse(path: str) -> None:
    raise OSError(16, "Device or resource busy", path)


def made(base: Path) -> Workspace:
    place = Workspace(4711, str(base))
    place.make(UID, GID)
    return place


@pytest.mark.parametrize(("told", "expected"), [
    (None, ["/tmp"]),
    ("/local/4711\n", ["/local/4711", "/tmp"]),
    ("/tmp\n", ["/tmp"]),
    ("relative\n", ["/tmp"]),
    ("/a\n/b\n", ["/tmp"]),
    ("/" + "x" * 5000, ["/tmp"]),
    ("/a\x1b[2J\n", ["/tmp"]),
])  # fmt: skip
def test_where_the_tasks_had_their_files_is_a_path_that_they_said_or_the_usual_one(tmp_path: Path, told: Any, expected: Any) -> None:
    place = made(tmp_path)
    if told is not None:
        Path(place.task, "tmpdir").write_text(told)
    assert place.temporary_dirs() == expected


def test_a_link_or_a_fifo_in_its_place_is_not_read(tmp_path: Path) -> None:
    place = made(tmp_path)
    (tmp_path / "secret").write_text("/root\n")
    os.symlink(tmp_path / "secret", os.path.join(place.task, "tmpdir"))
    assert place.temporary_dirs() == ["/tmp"]
    os.unlink(os.path.join(place.task, "tmpdir"))
    os.mkfifo(os.path.join(place.task, "tmpdir"))
    assert place.temporary_dirs() == ["/tmp"]
