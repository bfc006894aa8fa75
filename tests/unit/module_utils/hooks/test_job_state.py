# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job's state on a node: whole or absent at any instant, and never a way out of its directory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault, NodeFault, PeerFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import exit_status, job_state
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.job_state import JobState, Status

UID, GID = os.getuid(), os.getgid()
as_root = pytest.mark.skipif(UID != 0, reason="only root can mount, and give a file away")
FAULT = JobFault("image: nobody has it", "build it", image="rocm/vllm:1")


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory on a tmpfs, as /run is; a disk makes each fsync wait."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


def begun(base: Path, **facts: Any) -> JobState:
    here = JobState(4711, str(base))
    here.begin(UID, GID, "/opt/madengine-hooks/releases/1.0.0", Status(user="alice", **facts))
    return here


def of_an_older_release(here: JobState) -> Path:
    """A directory of the user's in a state, as releases up to 1.0 made one: a job that they began may end under us."""
    task = Path(here.file("task"))
    task.mkdir(0o700)
    return task


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_job_that_begins_has_a_release_and_no_verdict_yet(base: Path) -> None:
    here = begun(base, nodes=("n1",))
    assert here.path == str(base / "jobs" / "4711")
    assert here.status() == Status(user="alice", uid=UID, gid=GID, nodes=("n1",), status="starting")
    assert here.text("verdict") == "starting\n"
    assert here.text("release") == "/opt/madengine-hooks/releases/1.0.0\n"
    assert sorted(os.listdir(here.path)) == ["release", "status.json", "verdict"]
    assert os.listdir(base / "jobs") == ["4711"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_tasks_can_read_and_only_we_can_write_whatever_slurmd_s_umask_is(base: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        here = begun(base / "run")
        here.keep("exports", "A=1\n", UID, GID)
    finally:
        os.umask(before)
    assert [mode(path) for path in (here.base, os.path.dirname(here.path), here.path)] == [0o755] * 3
    assert [mode(here.file(name)) for name in ("status.json", "verdict", "release")] == [0o644] * 3
    assert mode(here.file("exports")) == 0o400


@pytest.mark.skipif(UID != 0, reason="only root can give a file away")
def test_what_is_kept_for_a_user_belongs_to_that_user_alone(base: Path) -> None:
    here = JobState(1, str(base))
    here.begin(2000, 2001, "r")
    here.keep("names", "A\n", 2000, 2001)
    status = os.stat(here.file("names"))
    assert (status.st_uid, status.st_gid, status.st_mode & 0o077) == (2000, 2001, 0)
    assert os.stat(here.file("verdict")).st_uid == 0


def test_ready_keeps_the_facts_and_adds_to_them(base: Path) -> None:
    here = begun(base)
    here.ready(images=[{"reference": "a:1"}])
    assert here.status() == Status(user="alice", uid=UID, gid=GID, images=({"reference": "a:1"},), status="ready")
    assert here.text("verdict") == "ready\n"
    assert not (base / "last_fault").exists()


def test_a_failure_says_its_line_to_the_tasks_to_programs_and_to_the_node(base: Path) -> None:
    here = begun(base)
    here.fail(FAULT)
    assert here.text("verdict") == FAULT.line() + "\n" == (base / "last_fault").read_text()
    assert here.status() == Status(user="alice", uid=UID, gid=GID, status="failed", fault=FAULT.to_dict(), line=FAULT.line())


@pytest.mark.parametrize("node", ["n1\nready", "n1\x1b[2J", "n1\udc80", "ready"])
def test_a_verdict_is_one_line_and_never_reads_as_ready_whatever_a_peer_calls_itself(base: Path, node: str) -> None:
    here = begun(base)
    here.fail(PeerFault(node, FAULT))
    verdict = here.text("verdict")
    assert verdict is not None
    assert verdict.startswith("madengine: ")
    assert verdict.count("\n") == 1
    assert verdict[:-1].isprintable()
    assert (base / "last_fault").read_text() == verdict


def test_a_job_without_a_state_has_no_status_and_no_text(base: Path) -> None:
    here = JobState(4711, str(base))
    assert (here.exists(), here.status(), here.text("verdict")) == (False, Status(), None)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"job_id": 1', b'{"job_id": "1"}', b'{"nodes": "n1"}'])
def test_a_status_that_cannot_be_read_says_nothing(base: Path, content: bytes) -> None:
    here = begun(base)
    Path(here.file("status.json")).write_bytes(content)
    assert here.status() == Status()
    here.ready()
    assert here.status() == Status(status="ready")


def test_a_requeued_job_begins_anew_and_finds_nothing_of_its_first_attempt(base: Path) -> None:
    here = begun(base)
    here.keep("manifest.json", "{}", UID, GID)
    here.ready(images=[{"reference": "old"}])
    again = begun(base, attempt=1)
    assert again.status() == Status(user="alice", uid=UID, gid=GID, attempt=1, status="starting")
    assert sorted(os.listdir(again.path)) == ["release", "status.json", "verdict"]
    assert os.listdir(base / "jobs") == ["4711"]


def test_removal_takes_one_job_and_is_harmless_the_second_time(base: Path) -> None:
    here, other = begun(base), JobState(47, str(base))
    other.begin(UID, GID, "r")
    here.remove()
    here.remove()
    assert os.listdir(base / "jobs") == ["47"]
    assert other.text("verdict") == "starting\n"


def test_removal_follows_no_link_that_the_user_planted(base: Path) -> None:
    treasure = base / "treasure"
    (treasure / "deeper").mkdir(parents=True)
    (treasure / "deeper" / "gold").write_text("gold")
    os.chmod(treasure, 0o711)
    here = begun(base)
    task = of_an_older_release(here)
    (task / "folder").mkdir()
    for place in (task / "link", task / "folder" / "link"):
        place.symlink_to(treasure)
    (task / "file").symlink_to(treasure / "deeper" / "gold")
    os.link(treasure / "deeper" / "gold", task / "hard")
    os.mkfifo(task / "fifo")
    here.remove()
    assert os.listdir(base / "jobs") == []
    assert (treasure / "deeper" / "gold").read_text() == "gold"
    assert mode(str(treasure)) == 0o711


def test_a_link_in_the_place_of_a_state_is_not_followed_either(base: Path) -> None:
    here = begun(base)
    os.rename(here.path, base / "treasure")
    os.symlink(base / "treasure", here.path)
    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        here.remove()
    assert sorted(os.listdir(base / "treasure")) == ["release", "status.json", "verdict"]


def test_a_tree_deeper_than_any_stack_or_descriptor_limit_is_removed(base: Path) -> None:
    here = begun(base)
    handle = os.open(of_an_older_release(here), os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=handle)
        deeper = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = deeper
    os.close(os.open("f", os.O_CREAT, dir_fd=handle))
    os.close(handle)
    here.remove()
    assert os.listdir(base / "jobs") == []


def test_directories_that_forbid_themselves_are_removed(base: Path) -> None:
    here = begun(base)
    task = of_an_older_release(here)
    closed = task / "closed"
    closed.mkdir()
    (closed / "inside").mkdir()
    for path in (closed / "inside", closed, task):
        os.chmod(path, 0)
    here.remove()
    assert os.listdir(base / "jobs") == []


def begin_and_end_well(here: JobState) -> None:
    here.begin(UID, GID, "r2", Status(attempt=2))
    here.keep("exports", "A=1\n", UID, GID)
    here.ready(delivered=True)


def begin_and_fail(here: JobState) -> None:
    here.begin(UID, GID, "r2", Status(attempt=2))
    here.fail(FAULT)


STORIES: Dict[str, Callable[[JobState], None]] = {"ready": begin_and_end_well, "fail": begin_and_fail, "remove": JobState.remove}


def killed_at(step: int, story: Callable[[JobState], None], here: JobState) -> bool:
    """Run *story* in a child that SIGKILL ends right before its *step*-th change of a file; say whether it got that far."""
    pid = os.fork()
    if pid == 0:
        count = 0

        def watch(event: str, _args: object) -> None:
            nonlocal count
            if event == "open" or event.startswith("os."):
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(watch)
            story(here)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status != 0


def deaths(story: Callable[[JobState], None], base: Path, has_old: bool) -> Iterator[JobState]:
    """Give the state after a death at each step of *story* in turn."""
    for step in range(1, 1000):
        here = JobState(4711, str(base / str(step)))
        if has_old:
            here.begin(UID, GID, "r1", Status(attempt=1))
            here.ready()
        if not killed_at(step, story, here):
            assert step > 5, "the steps are not seen"
            return
        yield here


@pytest.mark.parametrize(
    ("name", "has_old"), [(name, has_old) for name in STORIES for has_old in (False, True) if has_old or name != "remove"]
)
def test_a_sigkill_at_any_step_leaves_a_whole_state_or_none(base: Path, name: str, has_old: bool) -> None:
    for here in deaths(STORIES[name], base, has_old):
        verdict, status = here.text("verdict"), here.status()
        if here.exists():
            assert verdict in ("starting\n", "ready\n", FAULT.line() + "\n")
            assert here.text("release") in ("r1\n", "r2\n")
            assert status.status in ("starting", "ready", "failed")
            # What a task acts on is never ahead of what a person can read, nor of another attempt.
            assert verdict == "starting\n" or status.status != "starting"
            assert here.text("release") == f"r{status.attempt}\n"
        else:
            assert (verdict, status) == (None, Status())
        here.begin(UID, GID, "r3", Status(attempt=3))
        assert (here.status(), here.text("release")) == (Status(uid=UID, gid=GID, attempt=3, status="starting"), "r3\n")
        assert sorted(os.listdir(here.path)) == ["release", "status.json", "verdict"]
        here.remove()
        assert os.listdir(os.path.dirname(here.path)) == []


def test_what_a_program_reads_is_what_was_said_and_no_more(base: Path) -> None:
    here = begun(base, job_id=4711, node="n1\udc80", unshared_ranks=(1, 2))
    told = json.loads(Path(here.file("status.json")).read_text())
    assert told == {
        "user": "alice",
        "uid": UID,
        "gid": GID,
        "job_id": 4711,
        "node": "n1\udc80",
        "unshared_ranks": [1, 2],
        "status": "starting",
        "node_rank": 0,
        "attempt": 0,
    }


@pytest.mark.parametrize("text", ['{"job_id": 7, "of_a_later_release": 1}', '{"began": 7, "job_id": 7}'])
def test_a_field_that_is_not_ours_is_passed_over_and_a_whole_number_is_a_time(base: Path, text: str) -> None:
    assert Status.parse(text).job_id == 7


def test_a_job_that_did_not_ask_is_never_kept_from_running(base: Path) -> None:
    here = begun(base, implicit=True, stderr="/o/a.err")
    here.note("first\nline")
    here.fail(FAULT)
    assert (here.text("verdict"), here.status().status, here.status().fault) == ("aside\n", "aside", None)
    assert (here.text("notes") or "").splitlines() == ["first line", f"madengine: this job runs without help: {FAULT}"]
    assert here.text("stderr") == "/o/a.err\n"
    assert not (base / "last_fault").exists()


def test_what_a_job_is_told_is_kept_where_its_tasks_can_read_it(base: Path) -> None:
    here = begun(base)
    here.note("one", "two")
    here.ready()
    assert (here.text("notes"), mode(here.file("notes"))) == ("one\ntwo\n", 0o644)
    assert not os.path.exists(here.file("stderr"))


@as_root
def test_no_place_in_the_state_s_filesystem_is_a_user_s_to_fill(base: Path) -> None:
    here = JobState(4711, str(base / "run"))
    here.begin(65534, 65534, "r")
    here.keep("exports", "A=1\n", 65534, 65534)
    here.ready()
    open_to_users = [
        path for path in [base / "run", *(base / "run").rglob("*")] if path.is_dir() and (path.stat().st_uid or mode(str(path)) & 0o022)
    ]
    assert open_to_users == []


def test_a_job_is_of_whom_root_has_written_down_and_of_nobody_where_nothing_is_known(base: Path) -> None:
    here = begun(base)
    assert (here.is_of(UID), here.is_of(UID + 1)) == (True, False)
    here.ready()
    assert here.is_of(UID)
    Path(here.file("status.json")).write_text("{")
    assert not here.is_of(UID)
    here.remove()
    assert (here.is_of(UID), here.is_of(-1)) == (False, False)


@pytest.fixture
def small() -> Iterator[Path]:
    """A tmpfs of sixteen pages, as a /run that is almost full."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def fill(folder: Path) -> None:
    with contextlib.suppress(OSError), open(folder / "ballast", "ab", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))


@as_root
def test_a_full_filesystem_is_a_fault_of_the_node_and_the_tasks_are_told_so(small: Path) -> None:
    here = begun(small)
    fill(small)
    with pytest.raises(NodeFault, match="job_state: the disk is full") as fault:
        here.ready(images=[{"reference": "a:1"}])
    assert fault.value.part == "disk"
    assert here.text("verdict") == "starting\n"
    for line_of in (fault.value, FAULT):  # a longer one first: nothing of it stays behind the shorter one
        with pytest.raises(NodeFault, match="job_state: the disk is full"):
            here.fail(line_of)
        assert here.text("verdict") == line_of.line() + "\n"
    assert sorted(os.listdir(here.path)) == ["release", "status.json", "verdict"]
    assert here.is_of(UID)


@as_root
def test_a_job_that_begins_on_a_full_filesystem_gets_a_verdict_all_the_same(small: Path) -> None:
    begun(small)
    fill(small)
    here = JobState(4712, str(small))
    said: List[str] = []

    def story() -> None:
        here.begin(UID, GID, "/opt/release", Status(stderr="/tmp/err"))
        here.keep("exports", "A=1\n" * 20_000, UID, GID)

    assert exit_status.run(story, here.fail, said.append, (), lambda same: same) == exit_status.DONE
    assert (here.text("verdict") or "").startswith("madengine: node: job_state: the disk is full")
    assert here.text("release") == "/opt/release\n"
    (small / "ballast").unlink()
    here.remove()
    JobState(4713, str(small)).begin(UID, GID, "/opt/release")  # there is room again, and a reserve
    assert (small / ".reserve").stat().st_blocks * 512 == job_state._RESERVE_PAGES * os.sysconf("SC_PAGE_SIZE")


@as_root
def test_a_link_in_the_reserve_s_place_is_not_followed(small: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("content")
    (small / ".reserve").symlink_to(tmp_path / "precious")
    begun(small)
    fill(small)
    with pytest.raises(NodeFault, match="the disk is full"):
        JobState(4712, str(small)).begin(UID, GID, "/opt/release")
    assert (tmp_path / "precious").read_text() == "content"


@as_root
def test_a_full_filesystem_keeps_no_job_from_running_that_did_not_ask(small: Path) -> None:
    here = begun(small, implicit=True)
    fill(small)
    with pytest.raises(NodeFault, match="job_state: the disk is full"):
        here.fail(FAULT)
    assert here.text("verdict") == "aside\n"


@as_root
@pytest.mark.parametrize("story", [lambda here: here.begin(UID, GID, "r"), lambda here: here.keep("names", "A\n", UID, GID)])
def test_what_finds_no_room_is_a_fault_with_a_name_and_no_defect(small: Path, story: Callable[[JobState], None]) -> None:
    here = begun(small)
    os.truncate(small / ".reserve", 0)
    fill(small)
    with pytest.raises(NodeFault, match=r"job_state: the disk is full .*path=.*error='No space left on device'"):
        story(here)
    assert (here.status().status, here.text("verdict")) == ("starting", "starting\n")


@as_root
def test_the_tasks_of_a_job_that_is_refused_on_a_full_node_get_the_line_of_its_fault(small: Path) -> None:
    here = begun(small)
    said: List[str] = []

    def story() -> None:
        fill(small)
        here.keep("exports", "A=1\n", UID, GID)

    assert exit_status.run(story, here.fail, said.append, ("disk",), lambda same: same) == exit_status.DRAIN
    assert (here.text("verdict") or "").startswith("madengine: node: job_state: the disk is full")
    assert said[0].startswith("madengine: node: job_state: the disk is full")
