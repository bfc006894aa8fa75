# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files: whole or not there; and what somebody else prepared is read without being led astray."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Union

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import files
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault, NodeFault, ShareFault
from helpers import fuse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

on_fuse = pytest.mark.skipif(not fuse.is_possible(), reason="only root can mount")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.binary(max_size=2000) | st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_what_is_written_is_read(tmp_path: Path, data: Union[str, bytes]) -> None:
    path = str(tmp_path / "file")
    files.write(path, data)
    assert files.read(path, 10_000) == (data.encode() if isinstance(data, str) else data)
    assert os.listdir(tmp_path) == ["file"]


def test_names_that_are_no_utf8_survive() -> None:
    assert "caf\udce9".encode("utf-8", "surrogateescape") == b"caf\xe9"


def test_a_file_of_bytes_that_are_no_utf8_survives(tmp_path: Path) -> None:
    files.write(str(tmp_path / "file"), "caf\udce9")
    assert (tmp_path / "file").read_bytes() == b"caf\xe9"


def test_the_content_is_on_the_disk_before_the_name_and_the_name_before_anybody_relies_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []

    def fsync(handle: int) -> None:
        path = os.readlink(f"/proc/self/fd/{handle}")
        names = [name for name in os.listdir(tmp_path) if not name.startswith(".new.")]
        synced.append(("directory", names) if os.path.isdir(path) else (Path(path).read_bytes(), names))

    monkeypatch.setattr(os, "fsync", fsync)
    files.write(str(tmp_path / "file"), b"content")
    assert synced == [(b"content", []), ("directory", ["file"])]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_permissions_are_those_asked_for_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        files.write(str(tmp_path / "file"), b"", mode=0o640)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_is_given_to_its_owner_before_it_has_its_name(tmp_path: Path) -> None:
    files.write(str(tmp_path / "file"), b"", owner=(65534, 65533))
    status = (tmp_path / "file").stat()
    assert (status.st_uid, status.st_gid) == (65534, 65533)


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, OSError])
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, failure: Any) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(failure):
        _write_and_fail(str(tmp_path / "file"), failure)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


def _write_and_fail(path: str, failure: Any) -> None:
    with files.new(path) as stream:
        stream.write(b"new")
        raise failure


def test_a_writer_that_is_killed_leaves_the_old_file_under_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    code = (
        "import os, signal, sys\n"
        "from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import files\n"
        "with files.new(sys.argv[1]) as stream:\n"
        "    stream.write(b'new'); stream.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "file")], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "file").read_text() == "old"


def test_a_link_in_the_way_is_replaced_and_what_it_leads_to_is_untouched(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "file").symlink_to("victim")
    files.write(str(tmp_path / "file"), b"new")
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (tmp_path / "file").is_symlink()


def test_the_unfinished_file_can_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    with files.new(str(tmp_path / "file"), temporary=str(tmp_path / "tmp")) as stream:
        assert len(os.listdir(tmp_path / "tmp")) == 1
        stream.write(b"x")
    assert sorted(os.listdir(tmp_path)) == ["file", "tmp"]
    assert os.listdir(tmp_path / "tmp") == []


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF])
def test_a_filesystem_that_cannot_sync_a_directory_need_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(os, "fsync", _failing(number))
    files.sync_directory(str(tmp_path))


def test_a_directory_that_fails_to_sync_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", _failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        files.sync_directory(str(tmp_path))


def _failing(number: int) -> Callable[..., Any]:
    def fail(*_args: Any, **_options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


# Reading what somebody else wrote.


def test_a_good_file_is_read_and_its_bad_twins_are_the_job_s_fault(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"x" * 10)
    (tmp_path / "link").symlink_to("good")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")  # nobody writes: whoever opens it without care waits for ever
    assert files.read(str(tmp_path / "good"), 10) == b"x" * 10
    bad = {
        "none": "cannot read",
        "link": "not a link to it",
        "folder": "not a regular file",
        "fifo": "not a regular file",
        "good/x": "cannot read",
    }
    for name, message in bad.items():
        with pytest.raises(JobFault, match=message) as raised:
            files.read(str(tmp_path / name), 10)
        assert raised.value.seen["path"] == str(tmp_path / name)


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero", "/tmp\0x", "/tmp/\ud800", "", "/" + "x" * 5000])
def test_devices_and_paths_that_are_none_are_refused(path: str) -> None:
    with pytest.raises(JobFault, match="files: ") as raised:
        files.read(path, 10)
    assert raised.value.line().isprintable()


def test_a_file_that_is_too_large_is_not_read_beyond_the_limit(tmp_path: Path) -> None:
    with open(tmp_path / "huge", "wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(JobFault, match=r"too large .*limit_bytes=100"):
        files.read(str(tmp_path / "huge"), 100)


def test_space_is_a_fault_of_whoever_owns_the_disk(tmp_path: Path) -> None:
    files.require_space(str(tmp_path), 1, margin_bytes=0)
    with pytest.raises(NodeFault, match="too little space") as raised:
        files.require_space(str(tmp_path), 1 << 60)
    assert raised.value.part == "disk"
    with pytest.raises(ShareFault, match="too little space"):
        files.require_space(str(tmp_path), 1 << 60, local=False)


def test_full_is_a_disk_or_a_quota() -> None:
    assert [
        files.is_full(error) for error in (OSError(errno.ENOSPC, ""), OSError(errno.EDQUOT, ""), OSError(errno.EIO, ""), ValueError())
    ] == [
        True,
        True,
        False,
        False,
    ]


def test_an_error_of_the_own_disk_is_the_node_s_fault() -> None:
    for number, message in ((errno.ENOSPC, "the disk is full"), (errno.EROFS, "cannot write")):
        fault = files.local_fault("state", "/run/x", OSError(number, os.strerror(number)))
        assert (fault.kind, fault.part) == ("node", "disk")
        assert message in str(fault)


# Removing what a user may have built.


def test_a_tree_goes_and_what_its_links_lead_to_stays(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").write_text("mine")
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").write_text("x")
    (tree / "link").symlink_to(tmp_path / "victim")
    os.mkfifo(tree / "a" / "fifo")
    (tree / "a").chmod(0)
    files.remove_tree(str(tree))
    assert sorted(os.listdir(tmp_path)) == ["victim"]
    assert (tmp_path / "victim" / "file").read_text() == "mine"
    files.remove_tree(str(tree))  # and again: it is gone


def test_a_tree_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "tree").symlink_to("victim")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        files.remove_tree(str(tmp_path / "tree"))
    assert (tmp_path / "victim").exists()


def test_a_tree_that_is_too_deep_for_recursion_goes_too(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    os.mkdir("tree", dir_fd=here)
    deep = os.open("tree", os.O_RDONLY, dir_fd=here)
    for _ in range(1500):
        os.mkdir("d", dir_fd=deep)
        below = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(deep)
    os.close(here)
    files.remove_tree(str(tmp_path / "tree"))
    assert os.listdir(tmp_path) == []


def test_a_tree_that_grows_for_ever_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MOST_ROUNDS", 0)
    (tmp_path / "tree" / "a").mkdir(parents=True)
    with pytest.raises(OSError, match="not empty"):
        files.remove_tree(str(tmp_path / "tree"))


@on_fuse
def test_a_tree_is_removed_up_to_what_is_mounted_in_it_which_is_asked_nothing(tmp_path: Path) -> None:
    (tmp_path / "tree" / "mounted").mkdir(parents=True)
    with fuse.deaf(tmp_path / "tree" / "mounted"), pytest.raises(OSError, match="Something is mounted there"):
        files.remove_tree(str(tmp_path / "tree"))
    files.remove_tree(str(tmp_path / "tree"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN])
def test_a_share_that_is_away_is_the_shares_fault_and_not_that_of_who_named_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(ShareFault, match="cannot read"):
        files.opened(str(tmp_path / "x"))
