# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory of content-addressed blobs that many writers and readers share.

A blob's name is the digest of its bytes; it is written under ``tmp`` and renamed, so whatever has a final name was whole
when it got it, and a SIGKILL at any instant leaves nothing half. Small documents are synced to the disk. Layers are not:
that would take longer than all the rest of a publication, and a layer that a power cut has damaged is noticed by its size
or its digest before it is used, and then written anew. What lies in the directory may have been put there by anyone: names
are digests only, links and FIFOs are not followed, and every read is proved.

Another user's blob is worth nothing to a publisher before it was read and found to be right; that is remembered
(`proofs`). Where a wrong one has taken the name, and cannot be moved, the publisher's own copy lies in his namespace
and comes first for him. The store's owner builds on no blob of a user's, who could remove it: he replaces it.

Source: OCI image-spec v1.1, image-layout.md ("Blobs").
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
from typing import IO, Iterable, Iterator, List, Mapping, Optional, Tuple

from ..core import files
from ..core.errors import ShareFault
from . import digests, proofs
from .folder import Folder, Foreign
from .image import digest_of, is_digest
from .root import Root

LARGEST_DOCUMENT = 8 << 20
OWN = "blobs"  # of a namespace; no reference is encoded so


class BlobStore:
    """The blobs of one store, as one user sees them.

    :param root: the store's directory.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self.path = os.path.join(root.path, "blobs", "sha256")

    def path_of(self, digest: str) -> str:
        """Return where the blob lies for this user, or where it would if it were there.

        :raises ShareFault: *digest* is no sha256 digest.
        """
        with self._place(digest) as place:
            return os.path.join(self.path if place is None else place.path, _name(digest))

    def size_of(self, digest: str) -> Optional[int]:
        """Return the blob's size in bytes, or None if there is no such regular file that this user can read."""
        with self._place(digest) as place:
            return None if place is None else place.status(_name(digest)).st_size

    def taken_bytes(self, digest: str) -> int:
        """Return what the blob takes on the disk, in bytes; 0 if there is none."""
        with self._place(digest) as place:
            return 0 if place is None else place.status(_name(digest)).st_blocks * 512

    def counted(self, digest: str, size_bytes: Optional[int] = None) -> Optional[int]:
        """Return the size in bytes of a blob that a publisher can build on, or None; another user's is proved for that.

        :param size_bytes: how long it has to be, if that is known.
        """
        with self._place(digest) as place:
            if place is None:
                return None
            status = place.status(_name(digest))
            if size_bytes not in (None, status.st_size):
                return None
            if status.st_uid in (0, self._root.owner, self._root.user):
                return status.st_size
            is_right = self._root.user != self._root.owner and proofs.is_proved(self._root, place, digest)
            return status.st_size if is_right else None

    def put(self, chunks: Iterable[bytes], digest: Optional[str] = None, known: Optional[Mapping[str, int]] = None) -> Tuple[str, int]:
        """Store *chunks*; once this returns, the blob is there and whole.

        :param digest: what the bytes must be, or None to take them as they are.
        :param known: digest → size in bytes of blobs that are there already and need not be replaced by their equals.
        :returns: digest and size in bytes.
        :raises ShareFault: other bytes than *digest*, no room, no permission; nothing stands under the final name then.
        """
        unfinished = f"{socket.gethostname()}.{os.getpid()}.{os.urandom(8).hex()}"
        try:
            with self._root.folder("tmp") as temporary:
                try:
                    found, size_bytes = _write(temporary, unfinished, chunks, self._write_mode())
                    if digest is not None and found != digest:
                        raise digests.differs("digest differs", "source", digest, read=found, read_bytes=size_bytes)
                    if not known or known.get(found) != size_bytes:
                        self._name_it(temporary, unfinished, found, size_bytes)
                finally:
                    with contextlib.suppress(OSError):
                        temporary.unlink(unfinished)  # unless it has its name by now
        except OSError as error:
            raise self._unwritable(error) from error
        return found, size_bytes

    def put_bytes(self, data: bytes) -> Tuple[str, int]:
        """Store *data* unless it is there, whole; return digest and size in bytes."""
        digest = digest_of(data)
        return (digest, len(data)) if self._holds(digest, data) else self.put([data], digest)

    def read(self, digest: str, at_most_bytes: int = LARGEST_DOCUMENT) -> bytes:
        """Return a small blob.

        :raises ShareFault: it is missing, too large, or other bytes than its name says.
        """
        with self._opened(digest) as stream:
            data = b"".join(_read(stream, digest, self.path_of(digest), at_most_bytes + 1))
        if len(data) > at_most_bytes:
            raise _unreadable(digest, self.path_of(digest), ValueError(f"more than {at_most_bytes} bytes"))
        return b"".join(digests.verified([data], digest, where=self.path_of(digest)))

    def stream(self, digest: str, size_bytes: Optional[int] = None, is_proved: bool = True) -> Iterator[bytes]:
        """Give a blob's bytes; the end comes only if they were the right ones, else a fault in its place.

        :param is_proved: False if the reader proves the digest itself: then only *size_bytes* is compared.
        :raises ShareFault: it is missing, or other bytes than its name says.
        """
        path = self.path_of(digest)
        with self._opened(digest) as stream:
            chunks = _read(stream, digest, path)
            if is_proved or size_bytes is None:
                yield from digests.verified(chunks, digest, size_bytes, where=path)
            else:
                yield from digests.measured(chunks, digest, size_bytes, where=path)

    def set_aside(self, digest: str) -> bool:
        """Take a bad blob out of the way, if this user may, so that the next publisher writes it anew."""
        try:
            with self._place(digest) as place, self._root.folder("blobs", "sha256") as shared, self._root.folder("tmp") as temporary:
                (place or shared).rename(_name(digest), f"bad.{_name(digest)}.{os.urandom(8).hex()}", temporary)
        except (OSError, Foreign):
            return False
        return True

    def names(self) -> List[str]:
        """Return the digests of all blobs that all share."""
        with self._root.folder("blobs", "sha256") as shared:
            return sorted("sha256:" + name for name in shared.names() if is_digest("sha256:" + name))

    def own(self, makes: bool = False) -> Folder:
        """Open the directory of this user's own copies.

        :raises OSError: it is not there, or cannot be made.
        :raises Foreign: somebody else has made it.
        """
        namespace = str(self._root.user)
        mode = self._root.namespace_mode if makes else 0
        folder = self._root.namespace(namespace, makes)
        for name in (OWN, "sha256"):
            with folder as above:
                if makes:
                    above.make(name, mode, self._root.user)
                folder = above.child(name, self._root.user)
        return folder

    def own_names(self) -> List[str]:
        """Return the digests of this user's own copies."""
        with contextlib.suppress(OSError, Foreign), self.own() as folder:
            return [
                f"sha256:{name}" for name in folder.names() if is_digest(f"sha256:{name}") and stat.S_ISREG(folder.status(name).st_mode)
            ]
        return []

    @contextlib.contextmanager
    def _opened(self, digest: str) -> Iterator[IO[bytes]]:
        """Open the blob for reading.

        :raises ShareFault: it is missing.
        """
        with contextlib.ExitStack() as stack:
            try:
                place = stack.enter_context(self._place(digest)) or stack.enter_context(self._shared())
                stream = stack.enter_context(place.opened(_name(digest)))
            except (OSError, Foreign) as error:
                raise _unreadable(digest, self.path_of(digest), error) from error
            yield stream

    @contextlib.contextmanager
    def _place(self, digest: str) -> Iterator[Optional[Folder]]:
        """Give the directory in which the blob lies, readable: this user's own, or the one that all share; or None."""
        name = _name(digest)
        with contextlib.ExitStack() as stack:
            for opened in (self.own, self._shared):
                with contextlib.suppress(OSError, Foreign):
                    place = stack.enter_context(opened())
                    status = place.status(name)
                    if stat.S_ISREG(status.st_mode) and place.is_readable(name):
                        break
            else:
                yield None
                return
            yield place

    def _shared(self) -> Folder:
        return self._root.folder("blobs", "sha256")

    def _name_it(self, temporary: Folder, unfinished: str, digest: str, size_bytes: int) -> None:
        """Give the finished file its name; if another user's has it, prove that one, or keep this as the user's own."""
        is_private = self._root.is_private
        try:
            if is_private:
                raise PermissionError("a private store")
            with self._shared() as folder:
                temporary.rename(unfinished, _name(digest), folder)
                if size_bytes <= LARGEST_DOCUMENT:
                    folder.sync()
        except (PermissionError, IsADirectoryError):
            if self._root.user == self._root.owner:
                self._displace(temporary, unfinished, digest)
            elif self.counted(digest, size_bytes) is None:
                with self.own(makes=True) as folder:
                    temporary.rename(unfinished, _name(digest), folder)

    def _displace(self, temporary: Folder, unfinished: str, digest: str) -> None:
        """Put the store's owner's blob where a user has put something that a file cannot replace."""
        with self._shared() as folder:
            folder.rename(_name(digest), f".bad.{os.urandom(8).hex()}")
            temporary.rename(unfinished, _name(digest), folder)

    def _holds(self, digest: str, data: bytes) -> bool:
        with contextlib.suppress(OSError), self._place(digest) as place:
            if place is not None and place.status(_name(digest)).st_size == len(data):
                return place.read(_name(digest), len(data)) == data
        return False

    def _write_mode(self) -> int:
        return 0o600 if self._root.is_private else self._root.file_mode

    def _unwritable(self, error: OSError) -> ShareFault:
        if files.is_full(error):
            return ShareFault("blobs: no space left", "free space on the store, or prune it", path=self.path)
        return ShareFault("blobs: cannot write", "check the store's permissions", path=self.path, error=str(error))


def _name(digest: str) -> str:
    if not is_digest(digest):
        raise ShareFault("blobs: not a sha256 digest", "publish the image again", digest=digest)
    return digest[len("sha256:") :]


def _write(folder: Folder, name: str, chunks: Iterable[bytes], mode: int) -> Tuple[str, int]:
    running, size_bytes = hashlib.sha256(), 0
    with os.fdopen(folder.new(name), "wb", buffering=0) as stream:
        for chunk in chunks:
            _write_all(stream.fileno(), chunk)
            running.update(chunk)
            size_bytes += len(chunk)
        os.fchmod(stream.fileno(), mode)
        if size_bytes <= LARGEST_DOCUMENT:
            os.fsync(stream.fileno())
    return "sha256:" + running.hexdigest(), size_bytes


def _write_all(handle: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(handle, view) :]


def _read(stream: IO[bytes], digest: str, path: str, at_most_bytes: Optional[int] = None) -> Iterator[bytes]:
    """Give the file's bytes; a share that fails on the way is the share's fault."""
    try:
        if at_most_bytes is None:
            yield from digests.chunks_of(stream)
        else:
            yield stream.read(at_most_bytes)
    except OSError as error:
        raise _unreadable(digest, path, error) from error


def _unreadable(digest: str, path: str, error: BaseException) -> ShareFault:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return ShareFault("blobs: cannot read a blob", "publish the image again", digest=digest, path=path, error=reason)
