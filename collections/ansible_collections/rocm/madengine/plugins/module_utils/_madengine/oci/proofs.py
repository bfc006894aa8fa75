# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which blobs of other users have been read and found to be right, remembered in the namespace of who has read them.

A blob stays proved while its owner, inode, size and time of change are what they were: whoever writes into a file, or puts
another in its place, changes one of them.

Source: stat(2), "st_ctime"; it cannot be set back without the server's clock.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Dict, List

from ..core.errors import ShareFault
from . import digests
from .folder import Folder, Foreign
from .root import Root

FILE = "proved.json"
_LARGEST = 1 << 20
_MOST = 4000  # entries; the oldest go
# A file of holes costs its owner nothing, and who proves it the time of reading it all.
_LARGEST_BLOB = 64 << 30
_MOST_PACKED = 4  # a filesystem that compresses may store so many times less than a file is long


def is_proved(root: Root, place: Folder, digest: str) -> bool:
    """Say whether the blob in *place* is what its name says; it is read if nobody has done so for this user."""
    name = digest[len("sha256:") :]
    with contextlib.suppress(OSError, ShareFault), place.opened(name) as stream:
        status = os.fstat(stream.fileno())
        known = _known(root)
        if known.get(digest) == _mark(status):
            return True
        if status.st_size > min(_LARGEST_BLOB, status.st_blocks * 512 * _MOST_PACKED):
            return False
        if digests.digest_of(digests.chunks_of(stream)) == digest and _mark(os.fstat(stream.fileno())) == _mark(status):
            _remember(root, {**_known(root), digest: _mark(status)})
            return True
    return False


def _mark(status: os.stat_result) -> List[int]:
    return [status.st_uid, status.st_ino, status.st_ctime_ns, status.st_size]


def _known(root: Root) -> Dict[str, Any]:
    with contextlib.suppress(OSError, Foreign, ValueError, RecursionError), root.namespace(str(root.user)) as folder:
        document = json.loads(folder.read(FILE, _LARGEST, root.user))
        return document if isinstance(document, dict) else {}
    return {}


def _remember(root: Root, known: Dict[str, Any]) -> None:
    """Write what is known; two at once may forget what the other has found, which is then read once more."""
    kept = dict(list(known.items())[-_MOST:])
    with contextlib.suppress(OSError, Foreign), root.namespace(str(root.user), makes=True) as folder:
        folder.write(FILE, json.dumps(kept).encode(), 0o600)
