# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of what could not be gathered a node keeps: so much of each user's, and so much in all.

What counts is what a directory takes on the disk; what a user declares (a sparse file's size, a time of 2096) does not.

Source: results.md, "Clean".
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import Dict, List, Sequence, Tuple

USER_BYTES, ALL_BYTES = 2 << 30, 8 << 30
_MOST_ENTRIES = 200_000  # of one directory; who has more has too much


def surplus(paths: Sequence[str], user_bytes: int = USER_BYTES, all_bytes: int = ALL_BYTES) -> List[str]:
    """Return those of *paths* (jobs' directories) that are too much, the oldest first.

    :param user_bytes: how much of one user's may stay; the newest of it does.
    """
    known = sorted((_facts(path) for path in paths), reverse=True)  # the newest first: those stay
    held: Dict[int, int] = {}
    too_much: List[str] = []
    for _age, path, owner, size in known:
        if held.get(owner, 0) + size > user_bytes or sum(held.values()) + size > all_bytes:
            too_much.append(path)
        else:
            held[owner] = held.get(owner, 0) + size
    return too_much[::-1]


def _facts(path: str) -> Tuple[float, str, int, int]:
    """Return a directory's time, its path, whose results are in it, and how many bytes it takes."""
    age, owner = 0.0, 0
    with contextlib.suppress(OSError):
        age = min(os.lstat(path).st_mtime, time.time())
        owner = os.lstat(os.path.join(path, "results")).st_uid
    return age, path, owner, size_of(path)


def size_of(path: str) -> int:
    """Return how many bytes the tree *path* takes on the disk; more than any limit if it cannot be looked through."""
    size, entries = 0, 0
    waiting = [path]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as listed:
            for entry in listed:
                entries += 1
                if entries > _MOST_ENTRIES:
                    return 1 << 62
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    size += status.st_blocks * 512
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(entry.path)
    return size
