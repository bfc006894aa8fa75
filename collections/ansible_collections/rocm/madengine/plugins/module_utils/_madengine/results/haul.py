# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is taken of a job's files: within its limits, under names that lead nowhere else, and without secrets where a program prints.

Source: results.md, "Gather".
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import IO, Any, Dict, Iterator, List, Mapping, Sequence, Tuple

from ..core import files
from ..core.deadline import Deadline
from ..core.errors import JobFault
from ..core.text import printable
from ..manifest import quoting
from .candidates import NODE_FACTS
from .csv_score import plain

LIMITS: Dict[str, float] = {"file_bytes": 256 << 20, "total_bytes": 1 << 30, "files": 2000, "entries": 50_000, "seconds": 60}
_RESULT_MODE, _MODE = 0o644, 0o600
_PRINTED = (".log", ".out", ".err", ".txt", ".jsonl")
_LONGEST_NAME = 200
_MOST_SKIPPED = 200


@dataclass(frozen=True)
class Found:
    """One file worth having: where it is, and under which name it goes."""

    path: str
    name: str  # relative to the target; plain characters, never leading out of it
    size_bytes: int
    mtime: float
    is_result: bool
    why: str = ""  # it is none, though its name is right


@dataclass
class Haul:
    """What came of it so far."""

    limits: Mapping[str, float]
    deadline: Deadline
    secrets: Tuple[str, ...] = ()
    entries: int = 0
    size_bytes: int = 0
    taken: List[Dict[str, Any]] = field(default_factory=list)
    skipped: List[Dict[str, Any]] = field(default_factory=list)

    def skip(self, path: str, reason: str) -> None:
        if len(self.skipped) < _MOST_SKIPPED:
            self.skipped.append({"path": plain(path), "reason": reason})


class _Unreadable(Exception):
    """The source, not the target, is at fault."""


def take(item: Found, folder: str, haul: Haul) -> None:
    reason = _hindrance(item, haul)
    if reason:
        haul.skip(item.path, reason)
        return
    size, limit = item.size_bytes, int(haul.limits["file_bytes"])
    start = max(0, size - limit) if item.name.endswith(".log") else 0
    try:
        size = copy(item, os.path.join(folder, item.name), start, limit, haul.secrets)
    except _Unreadable as error:
        haul.skip(item.path, str(error))
        return
    haul.size_bytes += size
    known = {"name": item.name, "path": plain(item.path), "size_bytes": size, "mtime": item.mtime, "is_result": item.is_result}
    haul.taken.append({**known, **({"from_byte": start} if start else {}), **({"why": item.why} if item.why else {})})


def _hindrance(item: Found, haul: Haul) -> str:
    """Return why *item* is not taken, or nothing; of a log that is too long the end is taken."""
    size, limits = item.size_bytes, haul.limits
    if size > limits["file_bytes"] and not item.name.endswith(".log"):
        return f"larger than {limits['file_bytes']:.0f} bytes"
    if haul.size_bytes + min(size, limits["file_bytes"]) > limits["total_bytes"]:
        return f"more than {limits['total_bytes']:.0f} bytes in all"
    if len(haul.taken) >= limits["files"]:
        return f"more than {limits['files']:.0f} files"
    return "no time left" if haul.deadline.has_passed() else ""


def copy(item: Found, target: str, start: int, limit: int, secrets: Sequence[str] = ()) -> int:
    """Copy at most *limit* bytes (the file may still grow) and keep the time; return how many there were.

    The *secrets* are taken out of a file of text that is no result.
    """
    source = _opened(item.path)
    is_masked = not item.is_result and item.name.lower().endswith(_PRINTED)
    with source:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with files.new(target, _RESULT_MODE if item.is_result else _MODE) as stream:
            source.seek(start)
            size = 0
            for block in quoting.without(_blocks(source, limit), secrets if is_masked else ()):
                stream.write(block)
                size += len(block)
        os.utime(target, (item.mtime, item.mtime))
    return size


def _blocks(source: IO[bytes], limit: int) -> Iterator[bytes]:
    left = limit
    while left > 0:
        block = _read(source, min(1 << 20, left))
        if not block:
            return
        yield block
        left -= len(block)


def _opened(path: str) -> IO[bytes]:
    try:
        return files.opened(path)
    except JobFault as fault:
        raise _Unreadable(str(fault.seen.get("error", "no regular file"))) from fault


def _read(source: IO[bytes], size: int) -> bytes:
    try:
        return source.read(size)
    except OSError as error:
        raise _Unreadable(error.strerror or str(error)) from error


def free(relative: str, keeps_folders: bool, taken: Mapping[str, Any]) -> str:
    """Return the name for *relative* in the target, of plain characters, that nothing else has."""
    parts = [safe(part) for part in relative.split("/")]
    choices = ["/".join(parts) if keeps_folders else parts[-1], "__".join(parts)[-_LONGEST_NAME:]]
    numbered = (f"{number}__{parts[-1]}"[:_LONGEST_NAME] for number in range(2, len(taken) + 4))
    return next(name for name in (*choices, *numbered) if name not in taken and name != NODE_FACTS)


def safe(part: str) -> str:
    """Return a file name that shows as what it is: no control or direction character, no leading dot."""
    text = printable(part, "_")
    return ("_" + text[1:] if text.startswith(".") else text)[-_LONGEST_NAME:] or "_"
