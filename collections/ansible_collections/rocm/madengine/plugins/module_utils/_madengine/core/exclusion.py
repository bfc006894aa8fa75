# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One process at a time in a shared directory, over NFS, with holders that may die.

The lock is a file made with O_EXCL. Its age is what a waiter has seen on its own steady clock: a lock that did not change
hands for that long has a dead holder. No node's wall clock is compared with another's.

The lock saves work; it is not what makes the result right. Two holders at once (one slower than the expiry) must do no
harm, so whoever publishes under it looks again afterwards.

Source: open(2), "O_EXCL" (atomic on NFS since version 3).
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import time
from typing import Callable, Iterator, Optional

from .deadline import Deadline

EXPIRY_SECONDS = 10.0


@contextlib.contextmanager
def held(
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
