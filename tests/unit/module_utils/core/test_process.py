# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Acting as the job's user: with all of the user's rights and none of root's, and never for longer than wanted."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import descendants, process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault, NodeFault, PeerFault, ShareFault
from helpers import fuse
from hypothesis import given, settings
from hypothesis import strategies as st

ME = process.of(os.getuid(), os.getgid())
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
on_fuse = pytest.mark.skipif(not fuse.is_possible(), reason="only root can mount")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@pytest.fixture(autouse=True)
def nothing_is_left_over() -> Iterator[None]:
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def nobody() -> process.Account:
    return process.named("nobody")


# Who.


def test_an_account_is_what_the_node_knows_of_the_user() -> None:
    entry = pwd.getpwuid(os.getuid())
    assert (ME.name, ME.uid, ME.gid, ME.home) == (entry.pw_name, os.getuid(), os.getgid(), entry.pw_dir)
    assert process.named(entry.pw_name).uid == os.getuid()


def test_the_job_s_group_may_differ_from_the_user_s_first_one() -> None:
    assert process.of(os.getuid(), 54321).gid == 54321
    assert 54321 in process.of(os.getuid(), 54321).groups


@pytest.mark.parametrize("ask", [lambda: process.of(54321, 0), lambda: process.of(1 << 40, 0), lambda: process.named("no-such-user")])
def test_a_user_whom_the_node_does_not_know_is_the_job_s_fault(ask: Any) -> None:
    with pytest.raises(JobFault, match="this node does not know the user"):
        ask()


# What comes back.


@settings(max_examples=15, deadline=None)
@given(JSON)
def test_what_the_function_returns_comes_back_as_json_knows_it(value: Any) -> None:
    assert process.run(ME, _give, value) == value


def test_an_answer_larger_than_a_pipe_comes_back_whole() -> None:
    assert process.run(ME, _give, "x" * 3_000_000) == "x" * 3_000_000


@pytest.mark.parametrize(
    "fault",
    [JobFault("a: b", "c", d=1), ShareFault("a: b", "c"), NodeFault("a: b", "c", part="disk"), PeerFault("n1", JobFault("a: b", "c"))],
)
def test_a_fault_comes_back_as_the_fault_that_it_is(fault: Any) -> None:
    with pytest.raises(type(fault)) as raised:
        process.run(ME, _raise, fault)
    assert raised.value.to_dict() == fault.to_dict()


def test_a_defect_comes_back_as_a_defect_with_its_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"in a child process:(.|\n)*ZeroDivisionError"):
        process.run(ME, _raise, ZeroDivisionError("x"))


def test_what_json_cannot_hold_is_a_defect() -> None:
    with pytest.raises(RuntimeError, match="not JSON serializable"):
        process.run(ME, _give, {1, 2})


def test_a_child_that_leaves_by_the_wrong_door_says_so_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="without an answer, wait status 256"):
        process.run(ME, _raise, KeyboardInterrupt("\ud800"))
    assert "KeyboardInterrupt: \\ud800" in capfd.readouterr().err


@pytest.mark.parametrize("how", [lambda: os._exit(0), lambda: os.kill(os.getpid(), signal.SIGSEGV), lambda: sys.exit(3)])
def test_a_child_that_dies_without_an_answer_is_a_defect(how: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="ended without an answer, wait status"):
        process.run(ME, _call, how)


def test_a_child_that_the_kernel_or_an_admin_kills_is_no_defect() -> None:
    with pytest.raises(ShareFault, match="process: it was killed"):
        process.run(ME, _call, lambda: os.kill(os.getpid(), signal.SIGKILL))


NO_ANSWERS = [b"", b"{", b"5", b"null", b"[]", b'"value"', b"{}", b"[" * 100_000, b"\xff", b"9" * 9999]
NO_FAULTS = [b'{"fault":5}', b'{"fault":{"kind":"x"}}', b'{"fault":null}', b'{"fault":{"kind":"job","seen":5}}']


@pytest.mark.parametrize("answer", [*NO_ANSWERS, *NO_FAULTS], ids=lambda answer: repr(answer[:20]))
def test_an_answer_that_is_none_is_a_defect_whatever_it_is(answer: bytes) -> None:
    # A user's process may write what it likes: it is read like any other input.
    with pytest.raises(RuntimeError, match="without an answer"):
        process.run(ME, _write_raw, answer)


def test_a_fault_s_values_may_have_any_name() -> None:
    with pytest.raises(JobFault, match="self='x'"):
        process.run(ME, _write_raw, b'{"fault":{"kind":"job","what":"a: b","remedy":"c","seen":{"self":"x","what":"y","remedy":"z"}}}')


def test_an_answer_without_an_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_LONGEST_ANSWER", 1 << 20)
    with pytest.raises(RuntimeError, match="without an answer"):
        process.run(ME, _write_for_ever)


# Before it is done.


def _tell_and_give(tell: Any, news: List[Any], value: Any) -> Any:
    for each in news:
        tell(each)
    return value


def _heard(child: process.Child) -> List[Any]:
    found: List[Any] = []
    has_ended = False
    while not has_ended:
        has_ended = child.receive()
        found += child.news()
    return found


@given(st.lists(JSON, max_size=4), JSON)
@settings(max_examples=20, deadline=None)
def test_what_a_child_tells_comes_in_its_order_and_is_none_of_its_answer(news: Any, value: Any) -> None:
    child = process.start_telling(ME, _tell_and_give, news, value)
    assert _heard(child) == news
    assert child.result() == value
    assert process.start_telling(ME, _tell_and_give, news, value).result() == value  # nobody has to listen


def test_what_a_child_tells_is_known_before_it_is_done() -> None:
    child = process.start_telling(ME, _tell_and_wait)
    assert not child.receive()
    assert child.news() == ["soon"]
    assert child.news() == []
    child.kill()


def _tell_and_wait(tell: Any) -> None:
    tell("soon")
    time.sleep(3600)


def test_a_fault_after_news_is_a_fault() -> None:
    with pytest.raises(JobFault, match="bad"):
        process.start_telling(ME, _tell_and_raise).result()


def _tell_and_raise(tell: Any) -> None:
    tell("soon")
    raise JobFault("a: bad", "b")


@pytest.mark.parametrize("told", [b"{\n", b"\xff\n", b"[" * 100_000 + b"\n", b"\n\n"])
def test_news_that_is_none_is_a_defect(told: bytes) -> None:
    child = process.start(ME, _write_raw, told)
    with pytest.raises(RuntimeError, match="told what is no JSON"):
        _heard(child)
    child.kill()


# For how long.


def test_a_child_that_takes_too_long_is_killed_and_the_share_is_at_fault() -> None:
    child = process.start(ME, time.sleep, 60)
    with pytest.raises(ShareFault, match="no answer in time"):
        child.result(Deadline(0.1))
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)
    child.kill()  # and again: it is gone


def test_a_child_that_is_killed_takes_along_what_it_has_started(tmp_path: Path) -> None:
    # A build or a broadcast must not go on after the job has been given up.
    child = process.start(ME, _start_a_family, str(tmp_path / "pids"))
    _wait_for(lambda: (tmp_path / "pids").exists() and len((tmp_path / "pids").read_text().split()) == 2)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    stranger = subprocess.Popen(["sleep", "60"])
    child.kill()
    _wait_for(lambda: not any(_is_alive(pid) for pid in pids))
    assert _is_alive(stranger.pid)
    stranger.kill()
    stranger.wait()


def test_a_child_that_its_user_has_stopped_can_be_killed() -> None:
    child = process.start(ME, time.sleep, 60)
    os.kill(child.pid, signal.SIGSTOP)
    child.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_a_selector_can_wait_for_a_child_beside_others() -> None:
    child = process.start(ME, _give, "x")
    while True:
        assert select.select([child], [], [], 5.0)[0]
        if child.receive():
            break
    assert child.result() == "x"


def test_a_child_is_waited_for_beside_thousands_of_sockets() -> None:
    # select(2) ends at descriptor 1023, and a leader may have 2048 members.
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < 2048:
        pytest.skip("too few descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, limits[1]))
    try:
        child = process.start(ME, _give, "x")
        handle = child.fileno()
        high = process.Child(child.pid, os.dup2(handle, 1500, inheritable=False))
        os.close(handle)
        assert high.result(Deadline(5)) == "x"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@on_fuse
def test_a_child_that_nobody_can_end_is_left_behind_and_the_share_is_at_fault(tmp_path: Path) -> None:
    with fuse.deaf(tmp_path) as asked:
        child = process.start(ME, os.listdir, str(tmp_path))
        asked()
        with pytest.raises(ShareFault, match=r"no answer in time.*is_stuck=True"):
            child.result(Deadline(0.1))
        assert _state(child.pid) == "D"
        child.kill()  # and again: it is left as it is
    assert os.waitpid(child.pid, 0)[1] == signal.SIGKILL


def test_a_kernel_without_process_descriptors_ends_a_child_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # What the kernel says counts, not what Python was built with.
    monkeypatch.setattr(os, "pidfd_open", _not_implemented, raising=False)
    child = process.start(ME, _start_a_family, str(tmp_path / "pids"))
    _wait_for(lambda: (tmp_path / "pids").exists())
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    child.kill()
    _wait_for(lambda: not any(_is_alive(pid) for pid in (*pids, child.pid)))


def test_what_it_costs_to_end_a_child_grows_with_what_it_has_started_and_no_faster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child = process.start(ME, _start_many, str(tmp_path / "pids"), 100)
    _wait_for(lambda: (tmp_path / "pids").exists())
    listings: List[str] = []
    monkeypatch.setattr(os, "listdir", lambda path, plain=os.listdir: [listings.append(path), *plain(path)][1:])
    child.kill()
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    _wait_for(lambda: not any(_is_alive(pid) for pid in pids))
    assert len(listings) <= 5  # of /proc, and not one a process


def test_what_has_left_its_parent_ends_with_the_hook(tmp_path: Path) -> None:
    # A program that a user's settings start may make itself a daemon.
    hook = process.fork(lambda: _leave_a_daemon(str(tmp_path / "pids")))
    assert os.waitpid(hook, 0)[1] == 0
    assert not _is_alive(int((tmp_path / "pids").read_text()))


# With what.


@as_root
def test_a_child_has_bounds_so_that_it_takes_nothing_from_the_node() -> None:
    seen = process.run(nobody(), _bounds)
    assert seen == {"memory": 2 << 30, "core": 0, "oom": 500}


@as_root
def test_a_file_that_never_ends_is_the_user_s_own_fault_and_does_not_eat_the_node(tmp_path: Path) -> None:
    with pytest.raises(JobFault, match="too much memory"):
        process.run(nobody(), _read_all_of, "/dev/zero")


def test_a_child_dies_with_the_hook() -> None:
    reader, writer = os.pipe()
    hook = process.fork(lambda: _hook_with_a_child(writer))
    pid = int(os.read(reader, 20))
    os.kill(hook, signal.SIGKILL)
    os.waitpid(hook, 0)
    _wait_for(lambda: not _is_alive(pid))
    os.close(reader)
    os.close(writer)


def test_a_directory_service_that_hangs_costs_seconds_and_the_share_is_at_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_LOOKUP_SECONDS", 0.1)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: time.sleep(60))
    with pytest.raises(ShareFault, match="the directory service does not answer"):
        process.of(1000, 1000)


def test_the_child_has_a_clean_environment_and_none_of_our_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD_NOT", "x")
    with open(tmp_path / "secret", "w"), open(tmp_path / "kept", "w") as kept:
        child = process.start(ME, _describe, kept.fileno(), keep=(kept.fileno(),))
        seen = child.result()
    assert seen["environ"] == {"PATH": process.PATH, "HOME": ME.home, "USER": ME.name, "LOGNAME": ME.name, "LC_ALL": "C.UTF-8"}
    assert (seen["cwd"], seen["umask"]) == ("/", 0o022)
    assert not any("secret" in path for path in seen["files"])
    assert any("kept" in path for path in seen["files"])
    assert seen["standard"] == ["/dev/null", "/dev/null"]


def test_the_child_can_be_ended_though_we_ignore_signals() -> None:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert process.run(ME, _signals) == [True, True]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@as_root
def test_the_child_is_the_user_in_every_respect_and_cannot_come_back() -> None:
    seen = process.run(nobody(), _identity)
    entry = pwd.getpwnam("nobody")
    assert seen["uids"] == [entry.pw_uid] * 3
    assert seen["gids"] == [entry.pw_gid] * 3
    assert seen["groups"] == sorted(os.getgrouplist("nobody", entry.pw_gid))
    assert seen["back"] == ["setuid", "setgid", "setgroups"]
    assert seen["capabilities"] == ["0000000000000000"] * 3  # inheritable, permitted, effective


@as_root
def test_the_user_cannot_look_into_the_child() -> None:
    # A process that gave up root is not dumpable: its files in /proc stay root's.
    assert process.run(nobody(), lambda: [os.stat("/proc/self/environ").st_uid, os.access("/proc/self/mem", os.R_OK)]) == [0, False]


@as_root
def test_the_child_cannot_read_what_the_user_cannot(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("x")
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(RuntimeError, match="PermissionError"):
        process.run(nobody(), lambda: (tmp_path / "key").read_text())


@as_root
def test_without_root_nobody_becomes_somebody_else() -> None:
    with pytest.raises(RuntimeError, match="PermissionError: cannot act as"):
        process.run(nobody(), lambda: process.run(ME, _give, "x"))


# Other programs.


def test_a_command_says_how_it_ended_and_what_it_said_whatever_the_bytes(tmp_path: Path) -> None:
    done = process.command(
        ["/bin/sh", "-c", "cat; pwd; echo $A; printf '\\377' >&2; exit 3"], 60, {"A": "b"}, cwd=str(tmp_path), given="word\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, f"word\n{tmp_path}\nb\n", "\ufffd")


def test_a_command_that_is_given_nothing_reads_nothing() -> None:
    assert process.command(["/bin/cat"], 60).stdout == ""


def test_a_command_that_hangs_is_killed_and_one_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    seconds = f"61.{os.getpid()}61"
    with pytest.raises(subprocess.TimeoutExpired):
        process.command(["/bin/sleep", seconds], 0.1)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert seconds.encode() not in path.read_bytes()
    with pytest.raises(FileNotFoundError):
        process.command([str(tmp_path / "nowhere")], 60)


def _give(value: Any) -> Any:
    return value


def _raise(error: BaseException) -> None:
    raise error


def _call(how: Any) -> None:
    how()


def _pipes() -> List[int]:
    return [int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2 and _target(name).startswith("pipe:")]


def _target(name: str) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/self/fd/{name}")
    return ""


def _write_raw(answer: bytes) -> None:
    os.write(_pipes()[0], answer)
    os._exit(0)


def _write_for_ever() -> None:
    while True:
        os.write(_pipes()[0], b"x" * 65536)


def _start_a_family(path: str) -> None:
    subprocess.run(["/bin/sh", "-c", f"sleep 61 & echo $! $$ > {path}.new; mv {path}.new {path}; wait"], check=False)


def _start_many(path: str, many: int) -> None:
    subprocess.run(
        ["/bin/sh", "-c", f"for i in $(seq {many}); do sleep 61 & echo $!; done > {path}.new; mv {path}.new {path}; wait"], check=False
    )


def _leave_a_daemon(path: str) -> int:
    descendants.adopt()
    process.run(ME, subprocess.check_call, ["/bin/sh", "-c", f"(setsid sleep 61 & echo $! > {path})"])
    assert _is_alive(int(Path(path).read_text()))
    descendants.end_all()
    return 0


def _hook_with_a_child(writer: int) -> int:
    child = process.start(nobody(), time.sleep, 60)
    os.write(writer, str(child.pid).encode())
    child.result()
    return 0


def _not_implemented(*_: Any) -> int:
    raise OSError(errno.ENOSYS, "Function not implemented")


def _bounds() -> Any:
    limits = {"memory": resource.getrlimit(resource.RLIMIT_AS)[1], "core": resource.getrlimit(resource.RLIMIT_CORE)[1]}
    return {**limits, "oom": int(Path("/proc/self/oom_score_adj").read_text())}


def _read_all_of(path: str) -> int:
    return len(Path(path).read_bytes())


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_for(is_true: Any, within: float = 5.0) -> None:
    limit = time.monotonic() + within
    while not is_true():
        assert time.monotonic() < limit
        time.sleep(0.005)


def _describe(_kept: int) -> Any:
    return {
        "environ": dict(os.environ),
        "cwd": os.getcwd(),
        "umask": os.umask(0),
        "files": [_target(name) for name in os.listdir("/proc/self/fd")],
        "standard": [_target(name) for name in ("0", "1")],
    }


def _signals() -> List[bool]:
    return [signal.getsignal(number) == signal.SIG_DFL for number in (signal.SIGTERM, signal.SIGINT)]


def _identity() -> Any:
    back = []
    for name, arguments in (("setuid", (0,)), ("setgid", (0,)), ("setgroups", ([0],))):
        try:
            getattr(os, name)(*arguments)
        except PermissionError:
            back.append(name)
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Cap"))
    return {
        "uids": list(os.getresuid()),
        "gids": list(os.getresgid()),
        "groups": sorted(os.getgroups()),
        "back": back,
        "capabilities": [status[name] for name in ("CapInh", "CapPrm", "CapEff")],
    }
