# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory of content-addressed blobs that many writers and readers share.

A blob's name is the digest of its bytes; it is written under ``tmp`` and renamed, so whatever has a final name was whole
when it got it, and a SIGKILL at any instant leaves nothing half. Small documents are synced to the disk. Layers are not:
that would take longer than all the rest of a publication, and a layer that a power cut has damaged is noticed by its size
or its digest before it is used, and then written anew. What lies in the directory may have been put there by anyone: names
are digests only, links and FIFOs are not followed, and every read is proved.

Source: OCI image-spec v1.1, image-layout.md ("Blobs").
"""

from __future__ import annotations

import hashlib
import os
import socket
import stat
from typing import Iterable, Iterator, List, Mapping, Optional, Tuple

from ..core import files
from ..core.errors import Fault, ShareFault
from . import digests
from .image import digest_of, is_digest

LARGEST_DOCUMENT = 8 << 20


class BlobStore:
    """The blobs of one store.

    :param path: ``<store>/blobs/sha256``.
    :param temporary: ``<store>/tmp``, on the same filesystem.
    :param mode: permissions of new files.
    """

    def __init__(self, path: str, temporary: str, mode: int = 0o644) -> None:
        self.path, self.temporary, self.mode = path, temporary, mode

    def path_of(self, digest: str) -> str:
        """Return where the blob lies, if it is there.

        :raises ShareFault: *digest* is no sha256 digest.
        """
        if not is_digest(digest):
            raise ShareFault("blobs: not a sha256 digest", "publish the image again", digest=digest)
        return os.path.join(self.path, digest[len("sha256:") :])

    def size_of(self, digest: str) -> Optional[int]:
        """Return the blob's size in bytes, or None if there is no such regular file that this process can read."""
        path = self.path_of(digest)
        try:
            status = os.lstat(path)
        except OSError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK) else None

    def put(self, chunks: Iterable[bytes], digest: Optional[str] = None, known: Optional[Mapping[str, int]] = None) -> Tuple[str, int]:
        """Store *chunks*; once this returns, the blob is there and whole.

        :param digest: what the bytes must be, or None to take them as they are.
        :param known: digest → size in bytes of blobs that are there already and need not be replaced by their equals.
        :returns: digest and size in bytes.
        :raises ShareFault: other bytes than *digest*, no room, no permission; nothing stands under the final name then.
        """
        unfinished = os.path.join(self.temporary, f"{socket.gethostname()}.{os.getpid()}.{os.urandom(8).hex()}")
        try:
            found, size_bytes = self._write(unfinished, chunks)
            if digest is not None and found != digest:
                raise digests.differs("digest differs", "source", digest, read=found, read_bytes=size_bytes)
            if known and known.get(found) == size_bytes:
                os.unlink(unfinished)
                return found, size_bytes
            os.rename(unfinished, self.path_of(found))
        except BaseException as error:
            _unlink(unfinished)
            raise _explained(error, self.path) from error
        if size_bytes <= LARGEST_DOCUMENT:
            files.sync_directory(self.path)
        return found, size_bytes

    def put_bytes(self, data: bytes) -> Tuple[str, int]:
        """Store *data* unless it is there, whole; return digest and size in bytes."""
        digest = digest_of(data)
        return (digest, len(data)) if self._holds(digest, data) else self.put([data], digest)

    def read(self, digest: str, at_most_bytes: int = LARGEST_DOCUMENT) -> bytes:
        """Return a small blob.

        :raises ShareFault: it is missing, too large, or other bytes than its name says.
        """
        try:
            data = files.read(self.path_of(digest), at_most_bytes)
        except Fault as fault:
            raise ShareFault("blobs: cannot read a blob", "publish the image again", digest=digest, **fault.seen) from fault
        return b"".join(digests.verified([data], digest, where=self.path_of(digest)))

    def stream(self, digest: str, size_bytes: Optional[int] = None, is_proved: bool = True) -> Iterator[bytes]:
        """Give a blob's bytes; the end comes only if they were the right ones, else a fault in its place.

        :param is_proved: False if the reader proves the digest itself: then only *size_bytes* is compared.
        :raises ShareFault: it is missing, or other bytes than its name says.
        """
        path = self.path_of(digest)
        try:
            stream = files.opened(path)
        except Fault as fault:
            raise ShareFault("blobs: cannot read a blob", "publish the image again", digest=digest, **fault.seen) from fault
        with stream:
            chunks = digests.chunks_of(stream)
            if is_proved or size_bytes is None:
                yield from digests.verified(chunks, digest, size_bytes, where=path)
            else:
                yield from digests.measured(chunks, digest, size_bytes, where=path)

    def set_aside(self, digest: str) -> bool:
        """Take a bad blob out of the way, if this user may, so that the next publisher writes it anew."""
        try:
            os.rename(self.path_of(digest), os.path.join(self.temporary, f"bad.{digest[7:]}.{os.urandom(8).hex()}"))
        except OSError:
            return False
        return True

    def names(self) -> List[str]:
        """Return the digests of all blobs that are there."""
        return sorted("sha256:" + name for name in os.listdir(self.path) if is_digest("sha256:" + name))

    def _holds(self, digest: str, data: bytes) -> bool:
        if self.size_of(digest) != len(data):
            return False
        with open(self.path_of(digest), "rb") as stream:
            return stream.read(len(data) + 1) == data

    def _write(self, path: str, chunks: Iterable[bytes]) -> Tuple[str, int]:
        running, size_bytes = hashlib.sha256(), 0
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb", buffering=0) as stream:
            for chunk in chunks:
                _write_all(stream.fileno(), chunk)
                running.update(chunk)
                size_bytes += len(chunk)
            os.fchmod(handle, self.mode)
            if size_bytes <= LARGEST_DOCUMENT:
                os.fsync(handle)
        return "sha256:" + running.hexdigest(), size_bytes


def _write_all(handle: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(handle, view) :]


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return


def _explained(error: BaseException, path: str) -> BaseException:
    if files.is_full(error):
        return ShareFault("blobs: no space left", "free space on the store, or prune it", path=path)
    if isinstance(error, OSError):
        return ShareFault("blobs: cannot write", "check the store's permissions", path=path, error=str(error))
    return error
