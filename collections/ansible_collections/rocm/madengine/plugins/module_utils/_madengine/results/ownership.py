# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As whom to work on a job's collection directory: as its owner, never as root in a user's directory.

A user may turn any part of such a path into a link at any moment. What is done as that user can then reach nothing that
the user could not reach; what root would do could reach everything.

Source: path_resolution(7); symlink(7), "Safe handling of symbolic links".
"""

from __future__ import annotations

import os
import pwd
import stat
from typing import List, Optional

from ..core import process
from ..core.errors import JobFault


def account_for(path: str, writes: bool = True) -> Optional[process.Account]:
    """Return who must work on the directory *path*; None where whoever asks may do so.

    :param writes: whether something is to be written there.
    :raises JobFault: it is no directory, a link, another user's (for anybody but root), or partly root's and partly a user's.
    """
    owner = _owner(path)
    if os.geteuid() != 0:
        if writes and owner != os.geteuid():
            raise JobFault("results: another user's directory", "become its owner, or give dest", path=path, owner=owner)
        return None
    if owner:
        entry = pwd.getpwuid(owner) if _is_known(owner) else None
        if entry is None:
            raise JobFault("results: nobody owns this directory", "see to its owner", path=path, owner=owner)
        return process.of(owner, entry.pw_gid)
    strange = [part for part in (*_above(path), *_inside(path)) if os.lstat(part).st_uid]
    if strange:
        raise JobFault("results: a directory of root's in a user's hands", "become that user", path=path, part=strange[0])
    return None


def is_directory(path: str) -> bool:
    return os.path.isdir(path)


def require_own(path: str) -> None:
    """Do nothing unless root is asked to write to a directory that a user can turn into another one.

    :raises JobFault: it, or what is above it, is a user's.
    """
    if os.geteuid() == 0:
        strange = [part for part in (*_above(path), path) if os.path.lexists(part) and os.lstat(part).st_uid]
        if strange:
            raise JobFault("results: root must not write to a user's directory", "become that user", path=path, part=strange[0])


def _owner(path: str) -> int:
    try:
        status = os.lstat(path)
    except OSError:
        status = None
    if status is None or not stat.S_ISDIR(status.st_mode):
        raise JobFault("results: no collection directory", "give the directory that holds node_0, and no link to it", src=path)
    return status.st_uid


def _is_known(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _above(path: str) -> List[str]:
    """Return every directory and link on the way to *path*."""
    parts = os.path.abspath(path).split("/")
    return ["/".join(parts[:count]) or "/" for count in range(1, len(parts))]


def _inside(path: str) -> List[str]:
    with os.scandir(path) as entries:
        return [entry.path for entry in entries]
