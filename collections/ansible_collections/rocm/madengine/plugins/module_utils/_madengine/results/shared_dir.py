# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes of a job see one and the same collection directory: the first leaves a marker, those who find it leave theirs.

It is found out while the prologs meet, so that an epilog knows beforehand for whom to wait, and a job whose nodes share
the directory never waits. What cannot be written or read is not shared. Nothing is left behind.

Source: nfs(5), "DATA AND METADATA COHERENCE"; `marker`.
"""

from __future__ import annotations

import contextlib
import os
from typing import List, Tuple

from ..core import files, marker, process
from ..core.deadline import Deadline
from ..core.errors import Fault
from ..peers.session import Session

_LEAVING_SECONDS = 10.0


class SharedDirProbe:
    """The job's collection directory, as this node sees it while the prologs meet; to be entered by ``with``.

    :param user: whose directory it is.
    :param probed: its path, the attempt, this node's rank, and how many nodes the job has.
    :ivar unshared_ranks: the ranks that do not see what the first node sees: to the first node all of them, to any other its own.
    """

    def __init__(self, user: process.Account, deadline: Deadline, probed: Tuple[str, int, int, int]) -> None:
        self._user, self._deadline = user, deadline
        self._collection_dir, self._attempt, self._rank, self._nodes = probed
        self.unshared_ranks: List[int] = []

    def __enter__(self) -> SharedDirProbe:
        return self

    def __exit__(self, *_: object) -> None:
        """Look for everybody's marker, now that all have been here, and leave none behind."""
        if self._nodes > 1 and self._rank == 0:
            with contextlib.suppress(Exception):  # what ended the rendezvous, if anything did, is on its way up
                asked = self._collection_dir, self._attempt, self._nodes
                self.unshared_ranks = process.run(self._user, close, *asked, deadline=self._deadline.sooner(_LEAVING_SECONDS))

    def leave_marker(self, peers: Session) -> None:
        """Leave this node's marker: the first node's before anybody can be behind it, any other's before it says that it is ready.

        :raises Fault: the rendezvous is over.
        """
        if self._nodes > 1:
            work = join if self._rank else open_for
            has_left = peers.run_child(process.start(self._user, work, self._collection_dir, self._attempt, self._rank))
            self.unshared_ranks = [self._rank] if self._rank and not has_left else []


def open_for(collection_dir: str, attempt: int, rank: int) -> bool:
    """Leave the first node's marker, as the job's user; say whether that was possible."""
    with contextlib.suppress(OSError):
        os.makedirs(_folder(collection_dir, attempt), exist_ok=True)
        marker.write_marker(_path(collection_dir, attempt, rank), _text(attempt, rank))
        return True
    return False


def join(collection_dir: str, attempt: int, rank: int) -> bool:
    """Say whether this node sees the first one's marker, and leave its own beside it, as the job's user."""
    if not _is_there(collection_dir, attempt, 0):
        return False
    with contextlib.suppress(OSError):
        marker.write_marker(_path(collection_dir, attempt, rank), _text(attempt, rank))
        return True
    return False


def close(collection_dir: str, attempt: int, nodes: int) -> List[int]:
    """Return the ranks whose markers the first node does not see, and remove all markers, as the job's user.

    :param nodes: how many the job has.
    """
    unshared = [rank for rank in range(1, nodes) if not _is_there(collection_dir, attempt, rank)]
    with contextlib.suppress(OSError):
        files.remove_tree(_folder(collection_dir, attempt))
        os.rmdir(collection_dir)  # the epilog makes it again, if there is something for it
    return unshared


def _is_there(collection_dir: str, attempt: int, rank: int) -> bool:
    with contextlib.suppress(Fault, OSError):
        return marker.has_marker(_path(collection_dir, attempt, rank), _text(attempt, rank))
    return False


def _folder(collection_dir: str, attempt: int) -> str:
    return os.path.join(collection_dir, f".nodes.{int(attempt)}")


def _path(collection_dir: str, attempt: int, rank: int) -> str:
    return os.path.join(_folder(collection_dir, attempt), str(int(rank)))


def _text(attempt: int, rank: int) -> str:
    return f"rank {int(rank)} of attempt {int(attempt)}\n"
