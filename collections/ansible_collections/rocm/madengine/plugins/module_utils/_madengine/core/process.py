# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Acting as the job's user: a child process with that user's groups, gid and uid, and nothing else of root's.

The child's answer comes back as bounded JSON, never as a pickle: what a user's process says is input like any other.

Source: credentials(7), setgroups(2), prctl(2) (a process that has given up root is not dumpable, so the user cannot
attach to it).
"""

from __future__ import annotations

import json
import os
import pwd
import select
import signal
import traceback
from dataclasses import dataclass
from typing import Any, Callable, NoReturn, Optional, Tuple

from .deadline import Deadline
from .errors import Fault, JobFault, ShareFault, from_dict

_LONGEST_ANSWER = 64 << 20
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

    :raises JobFault: this node does not know the user.
    """
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise JobFault("account: this node does not know the user", "add the user to this node's directory service", uid=uid) from None
    groups = tuple(sorted({*os.getgrouplist(entry.pw_name, gid), gid}))
    return Account(entry.pw_name, uid, gid, groups, entry.pw_dir)


def named(name: str) -> Account:
    """Return the account called *name*, with passwd's own primary group.

    :raises JobFault: this node does not know the name.
    """
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise JobFault("account: this node does not know the user", "create the account on this node", name=name) from None
    return of(entry.pw_uid, entry.pw_gid)


class Child:
    """A function at work in a child process; its answer is read by `result`.

    Its `fileno` becomes readable when there is something to `receive`, so a selector can wait for it beside sockets.
    """

    def __init__(self, pid: int, handle: int) -> None:
        self.pid, self._handle = pid, handle
        self._answer = bytearray()
        self._status: Optional[int] = None

    def fileno(self) -> int:
        return self._handle

    def receive(self) -> bool:
        """Take what has arrived; call it when `fileno` is readable.

        :returns: whether the child has said all.
        """
        chunk = os.read(self._handle, 1 << 16)
        self._answer += chunk
        if len(self._answer) > _LONGEST_ANSWER:
            self.kill()
            return True
        return not chunk

    def result(self, deadline: Optional[Deadline] = None) -> Any:
        """Wait for the child and return what its function returned, as JSON knows it.

        :raises Fault: the one that the function raised.
        :raises ShareFault: *deadline* passed first; the child is dead then.
        :raises RuntimeError: the child died without an answer or raised something else: a defect of ours.
        """
        while self._status is None and (not self._is_ready(deadline) or not self.receive()):
            pass
        self._wait()
        return self._decoded()

    def kill(self) -> None:
        """End the child at once, with all that it has started; harmless if it has ended."""
        if self._status is None:
            os.kill(self.pid, signal.SIGSTOP)  # ours until we have waited for it, so the pid cannot be another's
            _end_descendants(self.pid)
            os.kill(self.pid, signal.SIGKILL)
            self._wait()

    def _is_ready(self, deadline: Optional[Deadline]) -> bool:
        left = None if deadline is None else deadline.left()
        # poll, for select cannot wait for a descriptor above 1023, and a leader may have thousands
        waiter = select.poll()
        waiter.register(self._handle, select.POLLIN)
        if waiter.poll(None if left is None else left * 1000):
            return True
        self.kill()
        raise ShareFault("account: no answer in time", "look for a filesystem or a daemon that hangs", pid=self.pid)

    def _wait(self) -> None:
        if self._status is None:
            self._status = os.waitpid(self.pid, 0)[1]
            os.close(self._handle)

    def _decoded(self) -> Any:
        try:
            answer = json.loads(self._answer)
            if "value" in answer:
                return answer["value"]
            if "fault" not in answer:
                raise RuntimeError(f"in a child process:\n{answer['defect']}")
            fault = from_dict(answer["fault"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise RuntimeError(f"child {self.pid} ended without an answer, wait status {self._status}") from None
        raise fault


def _end_descendants(pid: int) -> None:
    """Kill what *pid*, which is stopped, has started and what those have; a build or a broadcast must not go on alone."""
    if not hasattr(os, "pidfd_open"):  # a kernel before 5.3
        return
    parents = _parents()
    for child in [child for child, parent in parents.items() if parent == pid]:
        try:
            handle = os.pidfd_open(child)
        except ProcessLookupError:
            continue
        try:
            # The handle stays with the process that had this parent, whoever gets the number next.
            if _parents().get(child) == pid:
                signal.pidfd_send_signal(handle, signal.SIGSTOP)
                _end_descendants(child)
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        except ProcessLookupError:
            continue
        finally:
            os.close(handle)


def _parents() -> dict[int, int]:
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as stream:
                parents[int(name)] = int(stream.read().rpartition(b")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return parents


def start(user: Account, work: Callable[..., Any], *args: Any, keep: Tuple[int, ...] = ()) -> Child:
    """Begin ``work(*args)`` in a child process that is *user*, and come back at once.

    :param work: returns what JSON can hold; a `Fault` that it raises comes out of `Child.result`.
    :param keep: file descriptors that the child needs beside stderr; it inherits no other.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _live(user, writer, work, args, keep)
    os.close(writer)
    return Child(pid, reader)


def run(user: Account, work: Callable[..., Any], *args: Any, deadline: Optional[Deadline] = None) -> Any:
    """Return ``work(*args)`` as *user*; errors as `Child.result`."""
    return start(user, work, *args).result(deadline)


def _live(user: Account, writer: int, work: Callable[..., Any], args: Tuple[Any, ...], keep: Tuple[int, ...]) -> NoReturn:
    """Be the child: change over, work, answer, end. Nothing of the parent's (buffers, atexit, tracebacks) runs here."""
    status = 1
    try:
        # The child stays in the hook's process group: what SLURM kills there must not live on.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        _close_all_but({2, writer, *keep})
        answer = _answer(user, work, args)
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(answer)
        status = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))  # sys.stderr's buffer ends with us
    finally:
        os._exit(status)


def _close_all_but(kept: set[int]) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(null, standard)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                continue  # the listing's own descriptor is gone by now


def _become(user: Account) -> None:
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


def _answer(user: Account, work: Callable[..., Any], args: Tuple[Any, ...]) -> bytes:
    try:
        _become(user)
        return json.dumps({"value": work(*args)}).encode()
    except Fault as fault:
        return json.dumps({"fault": fault.to_dict()}).encode()
    except Exception:
        return json.dumps({"defect": traceback.format_exc()}).encode()
