# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plain archive in the store's directory: which file is an image's, and what it held when it was read last.

An archive is long, and reading it is the only way to know what it holds. So what was found is noted beside the image's index,
with what changes when a file is replaced: its length and both of its times, of which nobody can set ctime.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import dataclass
from typing import IO, Iterator, List, Optional, Sequence

from ..core.errors import Fault, JobFault, ShareFault
from ..docker import archive
from ..oci import digests
from ..oci.folder import require_owner
from ..oci.image import Reference
from ..oci.image_manifest import Stored
from ..oci.store import ImageStore

_NOTE = "archive.json"
_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")


@dataclass(frozen=True)
class Archive:
    """A file that is open for reading."""

    path: str
    stream: IO[bytes]

    @property
    def status(self) -> os.stat_result:
        return os.fstat(self.stream.fileno())

    @property
    def written(self) -> float:
        """Return when it was written, in seconds since the epoch; nothing in it is newer."""
        return self.status.st_mtime

    @property
    def arrived(self) -> float:
        """Return since when it lies there as it is, in seconds since the epoch: a copy may keep the time of its original."""
        return max(self.status.st_mtime, self.status.st_ctime)

    @property
    def stamp(self) -> str:
        return f"{os.path.basename(self.path)}:{self.status.st_size}:{self.status.st_mtime_ns}:{self.status.st_ctime_ns}"


@dataclass(frozen=True)
class Note:
    """What an archive held: the image's identity, when that was made, and its manifest, should its blobs be there still."""

    identity: str
    created: str
    manifest: str


@contextlib.contextmanager
def opened(store: ImageStore, name: Reference) -> Iterator[Optional[Archive]]:
    """Open the archive of *name* in the store's directory, or give None.

    :raises Foreign: neither this user nor the store's owner has put it there.
    :raises JobFault: it is no plain file, or cannot be read.
    """
    with contextlib.ExitStack() as stack:
        folder = None
        with contextlib.suppress(OSError):  # of a store that cannot be read, its images tell
            folder = stack.enter_context(store.root.folder())
        for file in names(name) if folder else ():
            path = os.path.join(store.path, file)
            try:
                stream = stack.enter_context(folder.opened(file))  # type: ignore[union-attr]
            except FileNotFoundError:
                continue
            except OSError as error:
                remedy = "give a plain file that this user can read"
                raise JobFault("archive: cannot read", remedy, path=path, error=error.strerror or str(error)) from error
            require_owner(path, os.fstat(stream.fileno()), store.root.user, store.root.owner, 0)
            yield Archive(path, stream)
            return
        yield None


def names(name: Reference) -> List[str]:
    """Return what madengine, or a person, calls the archive of *name*."""
    untagged = [name.familiar] if name.tag == "latest" and not name.digest else []
    stems = dict.fromkeys(re.sub(r"[^A-Za-z0-9.-]", "_", text) for text in [str(name), name.full, *untagged])
    return [stem + suffix for stem in stems for suffix in _SUFFIXES]


def noted(store: ImageStore, name: Reference, namespaces: Sequence[str], found: Archive) -> Optional[Note]:
    """Return what *found* held when it was read for one of *namespaces*, if it is the same still."""
    for namespace in namespaces:
        with contextlib.suppress(Fault, OSError, ValueError, KeyError, TypeError):
            known = json.loads(store.note(name, namespace, _NOTE))
            if known["stamp"] == found.stamp:
                return Note(str(known["identity"]), str(known["created"]), str(known["manifest"]))
    return None


def read(store: ImageStore, name: Reference, namespace: str, found: Archive) -> Stored:
    """Bring what *found* holds into the store's blobs, and note what it was; no name leads to it yet.

    :raises ShareFault: the archive is damaged, or the store cannot be written, or is full.
    :raises JobFault: it is no archive of this image.
    """
    store.ensure()
    store.require_space(found.status.st_size)
    stamp = found.stamp
    unpacked = archive.unpack(digests.chunks_of(found.stream), store, name, {})
    stored = store.keep(unpacked.config, unpacked.layers)
    known = {"stamp": stamp, "identity": stored.identity.digest, "created": stored.created, "manifest": stored.manifest_digest}
    store.set_note(name, namespace, _NOTE, json.dumps(known).encode())
    return stored


def fetched(store: ImageStore, name: Reference, namespaces: Sequence[str], found: Archive) -> Stored:
    """Return what *found* holds, read now unless the store has it from an earlier time; faults as `read`."""
    note = noted(store, name, namespaces, found)
    with contextlib.suppress(ShareFault):
        stored = store.read(note.manifest) if note else None
        if stored is not None and not store.doubtful(stored):
            return stored
    return read(store, name, namespaces[0], found)
