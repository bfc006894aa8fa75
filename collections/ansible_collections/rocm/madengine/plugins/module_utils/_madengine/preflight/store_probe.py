# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a store is one and the same on all nodes, and how fast: each node leaves a note that the others look for.

All that is written lies under a name that no other run has, in the store's ``tmp``, where `prune` takes it if the node dies
in between.

Source: posix_fadvise(2), fsync(2); `marker`.
"""

from __future__ import annotations

import os
import re
import time
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ..core import marker
from ..core.errors import JobFault, ShareFault

_PIECE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}")
_CHUNK_BYTES = 1 << 20
_MEGABYTE = 1_000_000
_SHORTEST_SECONDS = 1e-6


def write(store: str, session: str, node: str, nonce: str, size_bytes: int, seconds: float) -> Dict[str, Any]:
    """Leave this node's note in the store and measure how fast it writes and reads.

    :param size_bytes: how much to write at most; 0 measures nothing.
    :param seconds: how long writing, and then reading, may take; what has been done by then is the measurement.
    :raises ShareFault: the store is not there, or cannot be written.
    """
    folder = _folder(store)
    note, bulk = _paths(folder, session, node)
    try:
        marker.write_marker(note, nonce)
        writes, reads = _measured(bulk, size_bytes, seconds) if size_bytes else (0.0, 0.0)
        status = os.statvfs(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ShareFault("store: cannot be written", "see who may write there, and its free space", path=folder, error=reason) from error
    free = status.f_bavail * status.f_frsize / (1 << 30)
    return {"path": store, "nonce": nonce, "free_gib": free, "write_mb_per_second": writes, "read_mb_per_second": reads}


def missing(store: str, session: str, others: Sequence[Mapping[str, Any]]) -> Dict[str, List[str]]:
    """Return the names of the *others* whose notes this node does not find, or finds with another content.

    :param others: ``{"node": name, "nonce": text}`` each; who has no nonce has left no note.
    :raises ShareFault: the store is not there.
    """
    folder = _folder(store)
    wanted = {str(other["node"]): str(other["nonce"]) for other in others if other.get("nonce")}
    return {"missing": [node for node, nonce in wanted.items() if not marker.has_marker(_paths(folder, session, node)[0], nonce)]}


def remove(store: str, session: str, node: str) -> Dict[str, Any]:
    """Take away what `write` has left; harmless if there is nothing."""
    for path in _paths(_folder(store), session, node):
        marker.remove_marker(path)
    return {}


def _folder(store: str) -> str:
    if not os.path.isdir(store):
        raise ShareFault("store: not there", "mount the share on this node, and apply rocm.madengine.site", path=store)
    temporary = os.path.join(store, "tmp")
    return temporary if os.path.isdir(temporary) else store


def _paths(folder: str, session: str, node: str) -> Tuple[str, str]:
    for piece in (session, node):
        if not _PIECE.fullmatch(piece):
            raise JobFault("store: not a name for a file", "give letters, digits, dots and dashes", name=piece)
    path = os.path.join(folder, f".preflight.{session}.{node}")
    return path, f"{path}.bulk"


def _measured(path: str, size_bytes: int, seconds: float) -> Tuple[float, float]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        written, writing = _write(handle, size_bytes, seconds)
        # What the page cache still has would be read from there.
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.lseek(handle, 0, os.SEEK_SET)
        read, reading = _read(handle, seconds)
    finally:
        os.close(handle)
        os.unlink(path)
    return written / _MEGABYTE / writing, read / _MEGABYTE / reading


def _write(handle: int, size_bytes: int, seconds: float) -> Tuple[int, float]:
    chunk = os.urandom(_CHUNK_BYTES)  # a filesystem that compresses would flatter itself with zeros
    start, done = time.monotonic(), 0
    while done < size_bytes and time.monotonic() - start < seconds:
        done += os.write(handle, chunk[: size_bytes - done])
    os.fsync(handle)
    return done, max(_SHORTEST_SECONDS, time.monotonic() - start)


def _read(handle: int, seconds: float) -> Tuple[int, float]:
    start, done = time.monotonic(), 0
    while time.monotonic() - start < seconds:
        chunk = os.read(handle, _CHUNK_BYTES)
        if not chunk:
            break
        done += len(chunk)
    return done, max(_SHORTEST_SECONDS, time.monotonic() - start)
