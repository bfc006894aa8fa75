# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ending what this process has started, with all that those have started, in a bounded time.

A process in uninterruptible sleep (a FUSE daemon that does not answer, a dead NFS server) cannot be ended by anybody.
It is told to end, waited for a second, and left as it is: the signal takes effect when the kernel lets go of it.

Source: pidfd_open(2), prctl(2) ``PR_SET_CHILD_SUBREAPER`` and ``PR_SET_PDEATHSIG``, proc(5).
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time
from typing import Dict, List, Optional, Tuple

CORPSE_SECONDS = 1.0
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_MOST_ROUNDS = 20  # a program that forks faster than we stop it loses: what is stopped forks no more
_PAUSE_SECONDS = 0.01


def adopt() -> None:
    """Have whatever this process' descendants leave behind become its own children, so that `end_all` finds it."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int) -> None:
    """Have the kernel end this process when *parent*, which forked it, dies; a change of user undoes it, so call it after that."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we could say so
        os._exit(1)


def end(pid: int) -> Optional[int]:
    """Kill the child *pid*, which nobody has waited for, with all that it has started.

    :returns: its wait status, or None where it is in uninterruptible sleep and had to be left.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)  # ours until we have waited for it, so the number cannot be another's
        end_below(pid)
        os.kill(pid, signal.SIGKILL)
    return wait(pid)


def end_below(pid: int) -> None:
    """Kill all that *pid*, which is stopped or this process itself, has started and what those have.

    Each round reads /proc once, however many there are: what is stopped starts nothing, so a round finds only what was
    started before it.
    """
    stopped: Dict[int, int] = {}
    for _round in range(_MOST_ROUNDS):
        found = {each: since for each, since in _below(pid).items() if stopped.get(each) != since}
        if not found:
            break
        for each, since in found.items():
            _signal(each, since, signal.SIGSTOP)
        stopped.update(found)
    for each, since in stopped.items():
        _signal(each, since, signal.SIGKILL)


def end_all() -> None:
    """Kill everything that this process has started, and wait for it no longer than `CORPSE_SECONDS`."""
    end_below(os.getpid())
    limit = time.monotonic() + CORPSE_SECONDS
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < limit:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(_PAUSE_SECONDS)


def wait(pid: int, seconds: float = CORPSE_SECONDS) -> Optional[int]:
    """Wait for the child *pid* and return its wait status, or None if it has not ended within *seconds*."""
    handle = _opened(pid)
    if handle is None:
        return _polled(pid, seconds)
    try:
        waiter = select.poll()
        waiter.register(handle, select.POLLIN)
        waiter.poll(max(0.0, seconds) * 1000)
        return _polled(pid, 0.0)
    finally:
        os.close(handle)


def _polled(pid: int, seconds: float) -> Optional[int]:
    limit = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status
        if time.monotonic() >= limit:
            return None
        time.sleep(_PAUSE_SECONDS)


def _opened(pid: int) -> Optional[int]:
    """Return a descriptor of the process, or None where the kernel (before 5.3) or Python has none; the kernel is what is asked."""
    try:
        return os.pidfd_open(pid)
    except AttributeError:
        return None
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM, errno.EINVAL):  # EPERM: a container's filter that knows no such call
            return None
        raise


def _signal(pid: int, since: int, number: int) -> None:
    """Send a signal to the process *pid* that began at *since*, and to no other that has got its number meanwhile."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        handle = _opened(pid)
        try:
            if _stat(pid)[1:] != (since,):
                return
            if handle is None:
                os.kill(pid, number)
            else:
                signal.pidfd_send_signal(handle, number)
        finally:
            if handle is not None:
                os.close(handle)


def _below(pid: int) -> Dict[int, int]:
    """Return the descendants of *pid*, parents before their children, each with when it began."""
    known = {int(name): _stat(int(name)) for name in filter(str.isdigit, os.listdir("/proc"))}
    children: Dict[int, List[int]] = {}
    for child, (parent, *_since) in ((child, facts) for child, facts in known.items() if facts):
        children.setdefault(parent, []).append(child)
    found, waiting = {}, [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found.update({each: known[each][1] for each in below})
        waiting += below
    return found


def _stat(pid: int) -> Tuple[int, ...]:
    """Return the parent of a process and when it began, in ticks since the boot; nothing if it is over."""
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/stat", "rb") as stream:
        fields = stream.read().rpartition(b")")[2].split()
        if fields[0] != b"Z":
            return int(fields[1]), int(fields[19])
    return ()


def _prctl(option: int, value: int) -> None:
    import ctypes  # some milliseconds, which a job that is not ours does not pay

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
