# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One process at a time: on this node, as a favour to the other jobs of a user, and in a directory that nodes share.

`flock` is a right: whoever comes at the same time waits, and the kernel ends a lock with its holder.

`try_flock` is a favour: two jobs that need the same image load it once, but nobody waits for ever, and whoever has waited
too long goes ahead. Doing the work twice is slow but never wrong. These locks are root's: root opens them (`open_flocks`)
and hands them down to the child that becomes the user, who can open none. Each user has locks of his own, so that none can
hold up another, and there are few of them, so that nobody fills `/run`.

`lock_file` is for NFS, and for holders on nodes that may die: a file made with O_EXCL. Its age is what a waiter has seen on
its own steady clock: a lock that did not change hands for that long has a dead holder. No node's wall clock is compared with
another's. This lock saves work; it is not what makes the result right. Two holders at once (one slower than the expiry)
must do no harm, so whoever publishes under it looks again afterwards.

Source: flock(2); open(2), "O_EXCL" (atomic on NFS since version 3).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import secrets
import time
import zlib
from typing import Callable, Iterator, List, Optional, Sequence, Tuple

from .deadline import Deadline

EXPIRY_SECONDS = 10.0
_PAUSE_SECONDS = 0.05
_FLOCKS = 16  # what meets by chance in one lock waits for nothing; that costs time, and hardly ever


@contextlib.contextmanager
def flock(path: str) -> Iterator[None]:
    """Hold the advisory lock of the file *path*, which is made if need be, while the block lasts.

    For one node's processes only; between nodes there is `lock_file`.
    """
    with _held(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)):
        yield


@contextlib.contextmanager
def flock_directory(path: str) -> Iterator[None]:
    """Hold the advisory lock of the directory *path*, or of what a link of this name leads to; otherwise as `flock`."""
    with _held(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)):
        yield


@contextlib.contextmanager
def _held(handle: int) -> Iterator[None]:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def open_flocks(folder: str, uid: int) -> Iterator[Tuple[int, ...]]:
    """Give descriptors of the locks of *uid*, for a child that begins in the block; where there can be none, there is no waiting.

    They are open no longer than the block: a lock is held until the last who has the descriptor is gone, and that must be
    the child.

    :param folder: where all locks are, made by root for root.
    """
    handles: List[int] = []
    try:
        with contextlib.suppress(OSError):
            own = os.path.join(folder, str(int(uid)))
            os.makedirs(own, 0o700, exist_ok=True)
            os.chmod(folder, 0o700)
            for number in range(_FLOCKS):
                path = os.path.join(own, str(number))
                handles.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        yield tuple(handles) if len(handles) == _FLOCKS else ()
    finally:
        for handle in handles:
            os.close(handle)


@contextlib.contextmanager
def try_flock(flocks: Sequence[int], name: str, deadline: Deadline) -> Iterator[bool]:
    """Wait for the lock of *name*, at most until half of the time is over, and hold it while the block lasts.

    :param flocks: what `open_flocks` gave; none is no waiting at all.
    :param name: what is done under it.
    :returns: whether somebody else was at it; even if not, he may have finished just before.
    """
    if not flocks:
        yield False
        return
    handle = flocks[zlib.crc32(name.encode()) % len(flocks)]
    is_late = _waited(handle, deadline.sooner(deadline.left() / 2))
    try:
        yield is_late
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)


def _waited(handle: int, patience: Deadline) -> bool:
    is_late = False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return is_late
        except BlockingIOError:
            is_late = True
        if patience.has_passed():
            return is_late
        time.sleep(patience.at_most(_PAUSE_SECONDS))


@contextlib.contextmanager
def lock_file(
    path: str,
    deadline: Deadline,
    is_done: Callable[[], bool] = lambda: False,
    expiry_seconds: float = EXPIRY_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[bool]:
    """Hold the lock *path* for the block, and say whether there is still something to do.

    :param deadline: after it, or where no lock can be made, the block is entered all the same, without the lock.
    :param is_done: asked while waiting; if another holder has done the work, the block gets False.
    """
    token = f"{os.uname().nodename} {os.getpid()} {secrets.token_hex(8)}"
    done = _wait(path, token, deadline, is_done, expiry_seconds, sleep)
    try:
        yield not done
    finally:
        if _token(path) == token:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _wait(
    path: str, token: str, deadline: Deadline, is_done: Callable[[], bool], expiry_seconds: float, sleep: Callable[[float], None]
) -> bool:
    holder: Optional[str] = None
    age, pause = Deadline(expiry_seconds), 0.01
    while not deadline.has_passed():
        if is_done():
            return True
        if _take(path, token):
            return False
        now = _token(path)
        if now != holder:
            holder, age = now, Deadline(expiry_seconds)
        elif holder is not None and age.has_passed():
            _break(path, holder)
            continue
        sleep(deadline.at_most(pause * random.uniform(0.5, 1.5)))  # noqa: S311 (spreads the waiters, hides nothing)
        pause = min(pause * 1.6, 0.5)
    return False


def _take(path: str, token: str) -> bool:
    """Say whether the lock is ours now, or there can be none here."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return False
    except OSError:
        return True  # a read-only or full directory: publishing will say so better than we can
    with os.fdopen(handle, "w") as stream, contextlib.suppress(OSError):
        stream.write(token)
    return True


def _token(path: str) -> Optional[str]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"unreadable: {error.strerror}"
    with os.fdopen(handle, "rb") as stream, contextlib.suppress(OSError):
        return stream.read(300).decode("utf-8", "replace")
    return ""


def _break(path: str, holder: str) -> None:
    """Put the lock of a dead holder away; of several waiters one succeeds, the others find it gone."""
    if _token(path) == holder:
        with contextlib.suppress(OSError):
            os.unlink(path)
