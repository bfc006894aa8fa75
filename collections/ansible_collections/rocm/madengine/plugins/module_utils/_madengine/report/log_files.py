# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ends of a container's log files, wherever they lie: on this node, or in the archive that Docker makes of a directory.

Only so much is read of a file, a directory and an archive as a person would look at.
"""

from __future__ import annotations

import contextlib
import os
import tarfile
from typing import Iterable, Iterator, List, Tuple

from ..core import files

_MOST_LOGS = 12
_MOST_ENTRIES = 5000
_TAIL_BYTES = 1 << 20
_ARCHIVE_BYTES = 64 << 20


def newest_logs(folder: str, at_most: int = _MOST_LOGS) -> List[str]:
    """Return the logs below *folder* that were written last, the newest first; links are not followed."""
    found: List[Tuple[float, str]] = []
    waiting, looked_at = [(folder, 0)], 0
    while waiting and looked_at < _MOST_ENTRIES:
        path, depth = waiting.pop(0)
        with contextlib.suppress(OSError), os.scandir(path) as entries:
            for entry in entries:
                looked_at += 1
                if entry.is_dir(follow_symlinks=False) and depth < 4:
                    waiting.append((entry.path, depth + 1))
                elif _is_log(entry.name) and entry.is_file(follow_symlinks=False):
                    found.append((entry.stat(follow_symlinks=False).st_mtime, entry.path))
    return [path for _age, path in sorted(found, reverse=True)[:at_most]]


def logs_in(archive: Iterable[bytes], lines: int, at_most_bytes: int = _ARCHIVE_BYTES) -> Iterator[Tuple[str, str]]:
    """Give path and tail of the logs in a tar of some container's directory, of which only so much is read."""
    count = 0
    try:
        with tarfile.open(fileobj=_Stream(archive, at_most_bytes), mode="r|") as tar:  # type: ignore[call-overload]
            for member in tar:
                if member.isfile() and _is_log(member.name) and count < _MOST_LOGS:
                    stream = tar.extractfile(member)
                    count += 1
                    yield member.name, _last(stream.read(_TAIL_BYTES) if stream else b"", lines)
    except (tarfile.TarError, EOFError):
        return  # no such directory, or more than we read


def tail(path: str, lines: int) -> str:
    """Return the last *lines* of the file *path*, at most 1 MiB of it."""
    with files.opened(path) as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - _TAIL_BYTES))
        return _last(stream.read(_TAIL_BYTES), lines)


class _Stream:
    """Pieces as a file to read from, up to a limit."""

    def __init__(self, pieces: Iterable[bytes], limit: int) -> None:
        self._pieces, self._left, self._rest = iter(pieces), limit, b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and self._left > 0:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._left -= len(piece)
            self._rest += piece
        data, self._rest = self._rest[:size], self._rest[size:]
        if size and not data:
            # tarfile goes on reading nothing until it has skipped what a header promises, a sparse file's terabyte too
            raise EOFError
        return data


def _is_log(name: str) -> bool:
    return name.endswith((".log", ".out", ".err"))


def _last(data: bytes, lines: int) -> str:
    return "".join(data.decode("utf-8", "replace").splitlines(keepends=True)[-lines:])
