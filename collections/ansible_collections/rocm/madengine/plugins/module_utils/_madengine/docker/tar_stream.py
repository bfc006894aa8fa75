# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The members of a tar that somebody else wrote, one after the other, in memory of bounded size.

Python's own reader takes a long name or a pax header as long as it claims to be: a few kilobytes of archive then cost
gigabytes. Here each has a bound, and what an image archive never holds (sparse files, devices) is passed over.

Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from typing import Dict, Iterable, Iterator, List, Optional

from ..core.errors import JobFault, ShareFault
from ..oci import digests

_BLOCK = 512
_LONGEST_NAME = 64 << 10
_LONGEST_HEADER = 1 << 20
_MOST_HEADERS = 16  # in front of one member
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


@dataclass
class Member:
    """One member: a file, or a link to one.

    :param target: where a link leads; "" for a file.
    :param is_symbolic: whether the link is one, and so relative to where it stands.
    """

    name: str
    size_bytes: int
    target: str = ""
    is_symbolic: bool = False


class TarStream:
    """A tar, read once from its beginning; a member's bytes are there until the next member is asked for.

    :param chunks: its bytes.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._rest = iter(chunks), b""
        self._left = self._padding = 0

    def members(self) -> Iterator[Member]:
        """Give the regular files and links.

        :raises ShareFault: it is cut off, or no tar.
        :raises JobFault: a name or a header is longer than any image archive's.
        """
        while (info := self._header()) is not None:
            headers: Dict[str, str] = {}
            for _count in range(_MOST_HEADERS):
                if info.type not in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                    break
                headers.update(self._extension(info))
                info = self._required()
            else:
                raise JobFault("archive: too many headers", "give an archive that docker save wrote", limit=_MOST_HEADERS)
            size_bytes = _size(headers.get("size"), info.size)
            self._begin(size_bytes if info.type in _FILES or (not info.islnk() and not info.issym()) else 0)
            name, target = headers.get("path", info.name), headers.get("linkpath", info.linkname)
            if info.issym() or info.islnk():
                yield Member(name, 0, target, info.issym())
            elif info.type in _FILES and not any(key.startswith("GNU.sparse") for key in headers):
                yield Member(name, size_bytes)
            self._skip()

    def chunks(self) -> Iterator[bytes]:
        """Give the rest of this member's bytes."""
        while self._left:
            chunk = self._read(min(self._left, digests.CHUNK_BYTES))
            if not chunk:
                raise _cut_off()
            self._left -= len(chunk)
            yield chunk

    def _begin(self, size_bytes: int) -> None:
        self._left, self._padding = size_bytes, -size_bytes % _BLOCK

    def _skip(self) -> None:
        for _chunk in self.chunks():
            pass
        self._whole(self._padding)
        self._padding = 0

    def _header(self) -> Optional[tarfile.TarInfo]:
        """Return the next header, or None at the end."""
        block = self._whole(_BLOCK, may_end=True)
        if not block or not block.strip(b"\0"):
            return None
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            raise ShareFault("archive: cut off or damaged", "save the image again", error=str(error)) from error

    def _required(self) -> tarfile.TarInfo:
        info = self._header()
        if info is None:
            raise _cut_off()
        return info

    def _extension(self, info: tarfile.TarInfo) -> Dict[str, str]:
        """Return what a long name or a pax header says of the member behind it."""
        is_name = info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
        limit = _LONGEST_NAME if is_name else _LONGEST_HEADER
        if not 0 <= info.size <= limit:
            raise JobFault(
                "archive: a header is too long", "give an archive that docker save wrote", size_bytes=info.size, limit_bytes=limit
            )
        self._begin(info.size)
        data = b"".join(self.chunks())
        self._skip()
        if is_name:
            return {"path" if info.type == tarfile.GNUTYPE_LONGNAME else "linkpath": _text(data.partition(b"\0")[0])}
        return dict(_records(data))

    def _whole(self, size_bytes: int, may_end: bool = False) -> bytes:
        parts: List[bytes] = []
        left = size_bytes
        while left:
            chunk = self._read(left)
            if not chunk:
                if may_end and left == size_bytes:
                    return b""
                raise _cut_off()
            parts.append(chunk)
            left -= len(chunk)
        return b"".join(parts)

    def _read(self, at_most: int) -> bytes:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = chunk
        given, self._rest = self._rest[:at_most], self._rest[at_most:]
        return given


def _records(data: bytes) -> Iterator[tuple[str, str]]:
    """Give the records of a pax header: ``<length> <key>=<value>\\n``."""
    while data.strip(b"\0"):
        length, _blank, _rest = data.partition(b" ")
        if not length.isdigit() or not len(length) < int(length[:8]) <= len(data) or data[int(length) - 1] != 0x0A:
            raise ShareFault("archive: cut off or damaged", "save the image again", error="malformed pax header")
        key, _equals, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        yield _text(key), _text(value)
        data = data[int(length) :]


def _size(text: Optional[str], size_bytes: int) -> int:
    if text is not None:
        size_bytes = int(text) if text.isdigit() and len(text) < 20 else -1
    if size_bytes < 0:
        raise ShareFault("archive: cut off or damaged", "save the image again", error="malformed size")
    return size_bytes


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _cut_off() -> ShareFault:
    return ShareFault("archive: cut off or damaged", "save the image again", error="unexpected end of data")
