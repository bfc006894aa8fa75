# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One layer's bytes, proved against its digest while they flow.

Source: OCI image-spec v1.1, descriptor.md ("Verification").
"""

from __future__ import annotations

import hashlib
from typing import IO, Iterable, Iterator, Optional

from ..core.errors import ShareFault

CHUNK_BYTES = 1 << 20


class Differs(ShareFault):
    """The bytes are not the ones that the digest names."""


def verified(chunks: Iterable[bytes], digest: str, size_bytes: Optional[int] = None, where: str = "") -> Iterator[bytes]:
    """Give *chunks* on as they come; end well only if they were what *digest* says.

    A reader that sees the end without a fault has read exactly the bytes that were asked for.

    :param where: the file or source, for the message.
    :raises ShareFault: other bytes, fewer or more; at the latest instead of the end.
    """
    running, read_bytes = hashlib.sha256(), 0
    for chunk in chunks:
        running.update(chunk)
        read_bytes += len(chunk)
        if size_bytes is not None and read_bytes > size_bytes:
            break
        yield chunk
    if size_bytes is not None and read_bytes != size_bytes:
        raise differs("size differs", where, digest, wanted_bytes=size_bytes, read_bytes=read_bytes)
    if "sha256:" + running.hexdigest() != digest:
        raise differs("digest differs", where, digest, read="sha256:" + running.hexdigest(), read_bytes=read_bytes)


class Hashed:
    """Pieces that are given on as they come; once they have come to their end, ``digest`` says what they were.

    :param wanted: what they must be, or None to take them as they are.
    """

    def __init__(self, chunks: Iterable[bytes], wanted: Optional[str] = None) -> None:
        self._chunks, self._wanted, self.digest = chunks, wanted, ""

    def __iter__(self) -> Iterator[bytes]:
        running = hashlib.sha256()
        for chunk in self._chunks:
            running.update(chunk)
            yield chunk
        self.digest = "sha256:" + running.hexdigest()
        if self._wanted not in (None, self.digest):
            raise differs("digest differs", "source", str(self._wanted), read=self.digest)


def measured(chunks: Iterable[bytes], digest: str, size_bytes: int, where: str = "") -> Iterator[bytes]:
    """Give *chunks* on as they come, for a reader that proves the digest itself; see only that their size is right.

    :raises ShareFault: fewer bytes or more.
    """
    read_bytes = 0
    for chunk in chunks:
        read_bytes += len(chunk)
        if read_bytes > size_bytes:
            break
        yield chunk
    if read_bytes != size_bytes:
        raise differs("size differs", where, digest, wanted_bytes=size_bytes, read_bytes=read_bytes)


def chunks_of(stream: IO[bytes]) -> Iterator[bytes]:
    """Give the rest of *stream* in pieces of bounded size."""
    return iter(lambda: stream.read(CHUNK_BYTES), b"")


def digest_of(chunks: Iterable[bytes]) -> str:
    """Read *chunks* to their end and return their digest."""
    running = hashlib.sha256()
    for chunk in chunks:
        running.update(chunk)
    return "sha256:" + running.hexdigest()


def differs(what: str, where: str, digest: str, **seen: object) -> Differs:
    """Return the fault of bytes that are not what *digest* says."""
    return Differs(f"layer: {what}", "publish the image again", where=where, wanted=digest, **seen)
