# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that SLURM's ``TaskProlog`` names: ours, and the site's own beside it, which ours runs first.

There is no instant without such a file: SLURM fails every task of a node on which it is missing.

Source: slurm.conf(5), "TaskProlog"; prolog/task_prolog.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Optional, Union

from ..core import files

NOTHING = "#!/bin/sh\n# Does nothing: SLURM fails every task where its TaskProlog is missing.\nexit 0\n"
MODE = 0o755
_LARGEST_BYTES = 1 << 20
# Older releases of ours are known by the place where they look.
_OURS = re.compile(rb"^_?job=/run/madengine/jobs/\$SLURM_JOB_ID$", re.MULTILINE)
_IDLE = re.compile(rb"\s*(#[^\n]*|:|true|exit( 0)?)?\s*")

Content = Union[bytes, None]


def content(path: str) -> Content:
    """Return what stands under *path*, through links; None if nothing does.

    :raises OSError: it cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            return stream.read(_LARGEST_BYTES)
    except FileNotFoundError:
        return None


def is_the_sites(data: Content) -> bool:
    """Say whether *data* is a program of the site's: not one of ours, and not one that does nothing.

    >>> is_the_sites(b"#!/bin/sh\\nexit 0\\n")
    False
    """
    if data is None or _OURS.search(data):
        return False
    return not all(_IDLE.fullmatch(line) for line in data.split(b"\n"))


def settled(path: str, ours: bytes) -> bool:
    """Say whether `settle` would find nothing to do."""
    with contextlib.suppress(OSError):
        return content(path) == ours and not os.path.islink(path) and os.stat(path).st_mode & 0o7777 == MODE
    return False


def settle(path: str, site: str, ours: bytes) -> None:
    """Put *ours* under *path*; a program of the site's that is there moves to *site* first.

    :raises OSError: something cannot be written; *path* is as it was, or ours.
    """
    if is_the_sites(content(path)):
        _keep(path, site)
    files.write(path, ours, mode=MODE)


def give_back(path: str, site: str) -> None:
    """Put the site's program under *path* again, or one that does nothing.

    :raises OSError: as `settle`.
    """
    if os.path.lexists(site):
        os.rename(site, path)
    elif not is_the_sites(content(path)):
        files.write(path, NOTHING.encode(), mode=MODE)


def given_back(path: str, site: str) -> Optional[bytes]:
    """Return what `give_back` leaves under *path*."""
    if os.path.lexists(site):
        return content(site)
    data = content(path)
    return data if is_the_sites(data) else NOTHING.encode()


def _keep(path: str, site: str) -> None:
    """Put what *path* is, link or file, under *site*, while it stays where it is; an older one there moves aside."""
    if os.path.lexists(site) and content(site) != content(path):
        os.rename(site, site + ".old")
    fresh = site + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh)
    if os.path.islink(path):
        os.symlink(os.path.realpath(path), fresh)
        os.rename(fresh, site)
    else:
        status = os.stat(path)
        files.write(site, content(path) or b"", mode=status.st_mode & 0o7777, owner=(status.st_uid, status.st_gid))
