# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Acting as the job's user: a child process with that user's groups, gid and uid, and nothing else of root's.

The child's answer comes back as bounded JSON, never as a pickle: what a user's process says is input like any other. One
that has something to tell before it is done writes a line for each, ahead of its answer.

A child has bounds: its deadline, its memory, and a second to die in. What it says of this node is hearsay, for whoever
reads the user's files says what the user wants: `exit_status` has root look before a node leaves service.

Source: credentials(7), setgroups(2), setrlimit(2), proc(5) ``oom_score_adj``, prctl(2) (a process that has given up root is
not dumpable, so the user cannot attach to it).
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import resource
import select
import signal
import subprocess
import traceback
from dataclasses import dataclass
from typing import Any, Callable, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from . import descendants
from .deadline import Deadline
from .errors import Fault, JobFault, ShareFault, from_dict

_LONGEST_ANSWER = 64 << 20
_LOOKUP_SECONDS = 20.0
# Not the number of processes: that counts all of the user's on the node, so another job of his would use it up. Not the
# size of files: a layer may have any.
_MOST_MEMORY_BYTES = 2 << 30
_FIRST_TO_GO = 500  # to the kernel that is out of memory: before the site's own services, which slurmd is one of
SERVICE = "madengine"  # who asks Docker where the site's users may not (DockerAccess=service)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Account:
    """Who a child process acts as: numeric ids, and what ``initgroups`` would give."""

    name: str
    uid: int
    gid: int
    groups: Tuple[int, ...]
    home: str

    def environment(self) -> dict[str, str]:
        """Return the environment of a login without a shell: nothing of root's is in it."""
        return {"PATH": PATH, "HOME": self.home, "USER": self.name, "LOGNAME": self.name, "LC_ALL": "C.UTF-8"}


def of(uid: int, gid: int) -> Account:
    """Return the account of *uid*, with *gid* as its primary group (SLURM's ``--gid`` may differ from passwd's).

    A child asks, since a directory service that hangs answers nobody.

    :raises JobFault: this node does not know the user.
    :raises ShareFault: the directory service does not answer.
    """
    return _asked(_account, uid, gid)


def named(name: str) -> Account:
    """Return the account called *name*, with passwd's own primary group; faults as `of`."""
    return _asked(_account_named, name)


def _asked(look_up: Callable[..., Any], *args: Any) -> Account:
    child = _started(_limit, look_up, args, ())
    if not child.ends(Deadline(_LOOKUP_SECONDS)):
        raise ShareFault("process: the directory service does not answer", "look at SSSD or LDAP on this node", seconds=_LOOKUP_SECONDS)
    name, uid, gid, groups, home = child.result()
    return Account(name, uid, gid, tuple(groups), home)


def _account(uid: int, gid: int) -> Any:
    try:
        entry = pwd.getpwuid(uid)
    except (KeyError, OverflowError):
        raise JobFault("process: this node does not know the user", "add the user to this node's directory service", uid=uid) from None
    groups = sorted({*os.getgrouplist(entry.pw_name, gid), gid})
    return entry.pw_name, uid, gid, groups, entry.pw_dir


def _account_named(name: str) -> Any:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise JobFault("process: this node does not know the user", "create the account on this node", name=name) from None
    return _account(entry.pw_uid, entry.pw_gid)


class Child:
    """A function at work in a child process; its answer is read by `result`.

    Its `fileno` becomes readable when there is something to `receive`, so a selector can wait for it beside sockets.
    """

    def __init__(self, pid: int, handle: int) -> None:
        self.pid, self._handle = pid, handle
        self._answer = bytearray()
        self._received_bytes, self._has_news = 0, False
        self._status: Optional[int] = None
        self._is_over, self._is_ended = False, False

    def fileno(self) -> int:
        return self._handle

    def receive(self) -> bool:
        """Take what has arrived; call it when `fileno` is readable.

        :returns: whether the child has said all.
        """
        chunk = os.read(self._handle, 1 << 16)
        self._answer += chunk
        self._received_bytes += len(chunk)
        self._has_news = self._has_news or b"\n" in chunk
        if self._received_bytes > _LONGEST_ANSWER:
            self.kill()
            return True
        return not chunk

    def news(self) -> List[Any]:
        """Return what the child has told since the last time, see `start`; its answer is none of it.

        :raises RuntimeError: it told what is no JSON: a defect of ours.
        """
        if not self._has_news:
            return []
        told, _line_end, self._answer = self._answer.rpartition(b"\n")
        self._has_news = False
        try:
            return [json.loads(line) for line in told.split(b"\n")]
        except (ValueError, RecursionError):
            raise RuntimeError(f"child {self.pid} told what is no JSON") from None

    def result(self, deadline: Optional[Deadline] = None) -> Any:
        """Wait for the child and return what its function returned, as JSON knows it.

        :raises Fault: the one that the function raised.
        :raises ShareFault: *deadline* passed first; the child is dead then, or as good as dead. Or somebody else has killed it.
        :raises RuntimeError: the child died without an answer or raised something else: a defect of ours.
        """
        if not self.ends(deadline):
            raise ShareFault(
                "process: no answer in time", "look for a filesystem or a daemon that hangs", pid=self.pid, is_stuck=self._status is None
            )
        return self._decoded()

    def ends(self, deadline: Optional[Deadline] = None) -> bool:
        """Say whether the child has said all by *deadline*; if not, it is killed."""
        while not self._is_over:
            if not self._is_ready(deadline):
                self.kill()
                return False
            if self.receive():
                break
        self._leave(descendants.wait(self.pid) if self._status is None else self._status)
        return True

    def kill(self) -> None:
        """End the child at once, with all that it has started; harmless if it has ended.

        One in uninterruptible sleep cannot be ended: it is left behind, and dies when the kernel lets go of it.
        """
        if not self._is_over:
            self._leave(self._end())

    def _is_ready(self, deadline: Optional[Deadline]) -> bool:
        # poll, for select cannot wait for a descriptor above 1023, and a leader may have thousands
        waiter = select.poll()
        waiter.register(self._handle, select.POLLIN)
        return bool(waiter.poll(None if deadline is None else deadline.left() * 1000))

    def _leave(self, status: Optional[int]) -> None:
        """Be done with the child, as far as that is possible."""
        if not self._is_over:
            # It has closed its pipe and does not end: a file that the kernel cannot close, perhaps.
            self._status = self._end() if status is None else status
            self._is_over = True
            os.close(self._handle)

    def _end(self) -> Optional[int]:
        self._is_ended = True
        return descendants.end(self.pid)

    def _decoded(self) -> Any:
        self.news()
        try:
            answer = json.loads(self._answer)
            if "value" in answer:
                return answer["value"]
            if "fault" not in answer:
                raise RuntimeError(f"in a child process:\n{answer['defect']}")
            fault = from_dict(answer["fault"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise self._unanswered() from None
        raise fault

    def _unanswered(self) -> Exception:
        if self._status == signal.SIGKILL and not self._is_ended:  # the kernel without memory, mostly: our children go first
            return ShareFault("process: it was killed", "look with dmesg whether this node had no memory left", pid=self.pid)
        return RuntimeError(f"child {self.pid} ended without an answer, wait status {self._status}")


def start(user: Account, work: Callable[..., Any], *args: Any, keep: Tuple[int, ...] = ()) -> Child:
    """Begin ``work(*args)`` in a child process that is *user*, and come back at once.

    :param work: returns what JSON can hold; a `Fault` that it raises comes out of `Child.result`.
    :param keep: file descriptors that the child needs beside stderr; it inherits no other.
    """
    return _started(lambda: _become(user), work, args, keep)


def start_telling(user: Account, work: Callable[..., Any], *args: Any, keep: Tuple[int, ...] = ()) -> Child:
    """Begin ``work(tell, *args)`` like `start`; what the work gives to ``tell``, as JSON can hold it, is `Child.news` at once."""
    return _started(lambda: _become(user), work, args, keep, is_telling=True)


def start_as_self(work: Callable[..., Any], *args: Any) -> Child:
    """Begin ``work(*args)`` in a child that stays who we are: for what may hang, or leaves a secret in memory."""
    return _started(_limit, work, args, ())


def run(user: Account, work: Callable[..., Any], *args: Any, deadline: Optional[Deadline] = None) -> Any:
    """Return ``work(*args)`` as *user*; errors as `Child.result`."""
    return start(user, work, *args).result(deadline)


def command(
    words: Sequence[str], seconds: float, env: Optional[Mapping[str, str]] = None, cwd: Optional[str] = None, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """Return how a program ended and what it said, as text that may hold replacement characters.

    For programs that say little and stay who we are; what they said is in memory.

    :param seconds: after which it is killed.
    :param env: its environment; None for ours.
    :param given: its whole standard input.
    :raises subprocess.TimeoutExpired: it was killed.
    :raises OSError: it cannot be started.
    """
    return subprocess.run(
        words, input=given, capture_output=True, text=True, errors="replace", timeout=seconds, env=env, cwd=cwd, check=False
    )


def fork(live: Callable[[], int], keep: Optional[Iterable[int]] = None) -> int:
    """Return the pid of a child that calls *live* and ends with the status that it returns, and with nothing else of ours.

    The child stays in the hook's process group: what SLURM kills there must not live on.

    :param keep: the only descriptors that the child inherits beside stderr; None for all.
    """
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        if keep is not None:
            _close_all_but({2, *keep})
        status = live()
    except BaseException:
        os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))  # sys.stderr's buffer ends with us
    finally:
        os._exit(status)


def _started(
    become: Callable[[], None], work: Callable[..., Any], args: Tuple[Any, ...], keep: Tuple[int, ...], is_telling: bool = False
) -> Child:
    reader, writer = os.pipe()
    parent = os.getpid()

    def ready() -> None:
        become()
        descendants.die_with(parent)

    def live() -> int:
        with os.fdopen(writer, "wb") as pipe:

            def tell(news: Any) -> None:
                pipe.write(json.dumps(news).encode() + b"\n")
                pipe.flush()

            pipe.write(_answer(ready, work, (tell, *args) if is_telling else args))
        return 0

    pid = fork(live, {writer, *keep})
    os.close(writer)
    return Child(pid, reader)


def _close_all_but(kept: Set[int]) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(null, standard)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            with contextlib.suppress(OSError):  # the listing's own descriptor is gone by now
                os.close(int(name))


def _limit() -> None:
    """Bound what a child may take: what a user's file makes it take is taken from the whole node."""
    for kind, wanted in ((resource.RLIMIT_AS, _MOST_MEMORY_BYTES), (resource.RLIMIT_CORE, 0)):
        _soft, hard = resource.getrlimit(kind)
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (most, most))
    with contextlib.suppress(OSError):
        with open("/proc/self/oom_score_adj", "r+") as stream:
            stream.write(str(_FIRST_TO_GO))


def _become(user: Account) -> None:
    _limit()
    if os.getuid() == 0:
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    elif os.getuid() != user.uid:
        raise PermissionError(f"cannot act as {user.name} without being root")
    os.umask(0o022)
    os.environ.clear()
    os.environ.update(user.environment())
    os.chdir("/")


def _answer(become: Callable[[], None], work: Callable[..., Any], args: Tuple[Any, ...]) -> bytes:
    try:
        become()
        return json.dumps({"value": work(*args)}).encode()
    except Fault as fault:
        return json.dumps({"fault": fault.to_dict()}).encode()
    except MemoryError:
        pass  # what took the memory is let go of first
    except Exception:
        return json.dumps({"defect": traceback.format_exc()}).encode()
    greedy = JobFault("process: too much memory", "look for a file of yours that is far too large", limit_bytes=_MOST_MEMORY_BYTES)
    return json.dumps({"fault": greedy.to_dict()}).encode()
