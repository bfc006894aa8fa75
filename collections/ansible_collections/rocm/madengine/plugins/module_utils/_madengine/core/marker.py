# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether two nodes see one and the same directory: one leaves a marker, the other looks for it.

That a name is there proves nothing, for each may have a directory of that name: the text must be the one that was told.
Nothing here lists a directory: a name that was never asked for before is asked of the server.

Source: nfs(5), "DATA AND METADATA COHERENCE".
"""

from __future__ import annotations

import contextlib
import os

from . import files
from .errors import JobFault

_LONGEST_BYTES = 200


def write_marker(path: str, text: str) -> None:
    """Leave *text*, at most 200 bytes, under *path*, at once.

    :raises OSError: it cannot be written.
    """
    files.write(path, text)


def has_marker(path: str, text: str) -> bool:
    """Say whether *path* holds *text* as this node sees it.

    :raises ShareFault: the filesystem is away.
    """
    with contextlib.suppress(JobFault):
        return files.read(path, _LONGEST_BYTES) == text.encode("utf-8", "backslashreplace")
    return False


def remove_marker(path: str) -> None:
    """Take *path* away; harmless if it is gone.

    :raises OSError: it cannot be removed.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
