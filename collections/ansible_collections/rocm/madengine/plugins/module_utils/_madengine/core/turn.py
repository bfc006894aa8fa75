# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One at a time on this node: two jobs that need the same image load it once.

A turn is a favour, not a right: the files lie where every user may lock them, so nobody waits for ever, and whoever has
waited too long goes ahead. Doing the work twice is slow but never wrong.

Source: flock(2); the kernel ends a lock with its holder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from typing import Iterator, Optional

from .deadline import Deadline

_PAUSE_SECONDS = 0.05


def ready(folder: str) -> None:
    """Make *folder* a place in which every user may have locks; as root, once a boot. Without it there are no turns."""
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o1777)  # noqa: S103 - as /tmp: every user may add, nobody may remove another's


@contextlib.contextmanager
def of(folder: str, name: str, deadline: Deadline) -> Iterator[bool]:
    """Wait for one's turn, at most until half of the time is over, and hold it while the block lasts.

    :param folder: where the locks are; "" or one that is not there is no waiting at all.
    :param name: a file name, what the turn is about.
    :returns: whether somebody else was at it; even if not, he may have finished just before.
    """
    handle = _opened(os.path.join(folder, name)) if folder else None
    if handle is None:
        yield False
        return
    try:
        yield _waited(handle, deadline.sooner(deadline.left() / 2))
    finally:
        os.close(handle)


def _opened(path: str) -> Optional[int]:
    # Never O_CREAT on what may be there: the kernel forbids that for another user's file in a sticky directory.
    for flags in (0, os.O_CREAT | os.O_EXCL, 0):
        try:
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | flags, 0o644)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EEXIST):
                return None
    return None


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
