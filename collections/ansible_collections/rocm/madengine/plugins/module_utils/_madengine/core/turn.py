# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One at a time on this node: two jobs that need the same image load it once.

A turn is a favour, not a right: nobody waits for ever, and whoever has waited too long goes ahead. Doing the work twice is
slow but never wrong.

The locks are root's: root opens them and hands them down to the child that becomes the user, who can open none. Each user
has locks of his own, so that none can hold up another, and there are few of them, so that nobody fills `/run`.

Source: flock(2); the kernel ends a lock with its holder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import zlib
from typing import Iterator, List, Sequence, Tuple

from .deadline import Deadline

_PAUSE_SECONDS = 0.05
_LOCKS = 16  # what meets by chance in one lock waits for nothing; that costs time, and hardly ever


@contextlib.contextmanager
def handed(folder: str, uid: int) -> Iterator[Tuple[int, ...]]:
    """Give descriptors of the locks of *uid*, for a child that begins in the block; where there can be none, there are no turns.

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
            for number in range(_LOCKS):
                path = os.path.join(own, str(number))
                handles.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        yield tuple(handles) if len(handles) == _LOCKS else ()
    finally:
        for handle in handles:
            os.close(handle)


@contextlib.contextmanager
def of(locks: Sequence[int], name: str, deadline: Deadline) -> Iterator[bool]:
    """Wait for one's turn, at most until half of the time is over, and hold it while the block lasts.

    :param locks: what `handed` gave; none is no waiting at all.
    :param name: what the turn is about.
    :returns: whether somebody else was at it; even if not, he may have finished just before.
    """
    if not locks:
        yield False
        return
    lock = locks[zlib.crc32(name.encode()) % len(locks)]
    is_late = _waited(lock, deadline.sooner(deadline.left() / 2))
    try:
        yield is_late
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)


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
