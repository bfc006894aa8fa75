# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is reading or writing a store right now, and the proof that two nodes see the same one.

A lease is a small file with a random number and the digests that its holder needs. The garbage collector spares what a
lease names; a node that reads the number, which another has told it, sees the other's store and not just a directory of
the same name. A lease that nobody gave back counts for nothing once it is old.

It is no `core.marker`: the number stands in a document beside the digests, and it is read through the store's own descriptors,
since any user may have turned a directory of the store into a link.

Source: the leases of containerd (docs/garbage-collection.md) for the idea.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from dataclasses import dataclass, field
from typing import Any, Iterable, Iterator, List, Set

from ..core.errors import ShareFault
from .folder import UNFINISHED
from .image import is_digest
from .store import ImageStore

LIFETIME_SECONDS = 24 * 3600
ANOTHER_STORE = "lease: not the store of the publishing node"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
_HOLDER = re.compile(r"(?:job-[^.]*\.)?([A-Za-z0-9._-]+\.[0-9]+\.)[0-9a-f]{16}")  # its unfinished blobs' names begin so, too
_LARGEST = 1 << 20
_CLOCK_SECONDS = 60.0  # by which a lease of this instant may seem to lie ahead


@dataclass(frozen=True)
class Lease:
    """A file of the store's ``leases`` directory, and the number in it.

    :ivar written: the digests that its holder has written there.
    """

    name: str
    nonce: str
    written: Set[str] = field(default_factory=set, compare=False)


def take(store: ImageStore, digests: Iterable[str], job_id: str = "") -> Lease:
    """Write a lease on *digests* and return it.

    :param job_id: the job for which it is taken, so that `give_back_all` finds it; "" for none.
    :raises ShareFault: the store cannot be written.
    """
    nonce = os.urandom(16).hex()
    lease = Lease(f"{_of_job(job_id)}{socket.gethostname()}.{os.getpid()}.{nonce[:16]}", nonce)
    extend(store, lease, digests)
    return lease


def extend(store: ImageStore, lease: Lease, digests: Iterable[str]) -> None:
    """Have *lease* name *digests*, too; where it does already, nothing is written: each time costs a share two syncs.

    :raises ShareFault: the store cannot be written.
    """
    wanted = lease.written | set(digests)
    if wanted == lease.written and wanted:
        return
    document = json.dumps({"nonce": lease.nonce, "digests": sorted(wanted)})
    try:
        with store.root.folder("leases") as folder:
            folder.write(_checked(lease.name), document.encode(), store.root.file_mode)
    except OSError as error:
        raise store.unwritable(error) from error
    lease.written.update(wanted)


@contextlib.contextmanager
def held(store: ImageStore, digests: Iterable[str]) -> Iterator[None]:
    """Hold a lease while the block lasts; a reader who may not write the store goes without."""
    try:
        name = take(store, digests).name
    except ShareFault:
        name = ""
    try:
        yield
    finally:
        if name:
            give_back(store, name)


def give_back(store: ImageStore, name: str) -> None:
    """Remove a lease; harmless if it is gone or somebody else's."""
    with contextlib.suppress(OSError), store.root.folder("leases") as folder:
        folder.unlink(_checked(name))


def give_back_after(store: ImageStore, name: str) -> None:
    """Remove a lease whose holder has ended, and what it was writing if it was killed; as far as that is the caller's."""
    give_back(store, name)
    holder = _HOLDER.fullmatch(name)
    if holder:
        _remove_all(store, "leases", f"{UNFINISHED}{name}.")
        _remove_all(store, "tmp", holder[1])


def give_back_all(store: ImageStore, job_id: str) -> None:
    """Remove all leases of a job that is over, as far as they are the caller's: whoever took one may have been killed."""
    for name in _names(store):
        if name.startswith(_of_job(job_id)):
            give_back_after(store, name)
    _remove_all(store, "leases", UNFINISHED + _of_job(job_id))


def prove(store: ImageStore, lease: Lease) -> None:
    """Do nothing if this node sees the store in which *lease* was taken.

    :raises ShareFault: it does not.
    """
    try:
        if _read(store, lease.name)["nonce"] == lease.nonce:
            return
        error = "another number"
    except (OSError, ValueError, RecursionError, LookupError, TypeError) as problem:
        error = str(problem)
    raise ShareFault(ANOTHER_STORE, "give a store that all nodes share", store=store.path, error=error)


def leased(store: ImageStore, now: float, lifetime_seconds: float = LIFETIME_SECONDS) -> Set[str]:
    """Return the digests that some living lease names.

    :param now: the present by the store's own clock, seconds.
    """
    return {digest for name in _names(store) if _is_living(store, name, now, lifetime_seconds) for digest in _digests(store, name)}


def expired(store: ImageStore, now: float, lifetime_seconds: float = LIFETIME_SECONDS) -> List[str]:
    """Return the names of the leases that count no more."""
    return [name for name in _names(store) if not _is_living(store, name, now, lifetime_seconds)]


def _remove_all(store: ImageStore, where: str, beginning: str) -> None:
    with contextlib.suppress(OSError), store.root.folder(where) as folder:
        for left in folder.names():
            if left.startswith(beginning):
                with contextlib.suppress(OSError):
                    folder.unlink(left)


def _of_job(job_id: str) -> str:
    return f"job-{job_id}." if job_id else ""


def _names(store: ImageStore) -> List[str]:
    with contextlib.suppress(FileNotFoundError), store.root.folder("leases") as folder:
        return [name for name in folder.names() if _is_name(name)]
    return []


def _is_living(store: ImageStore, name: str, now: float, lifetime_seconds: float) -> bool:
    """Say whether a lease counts: it is neither too old nor dated into the future, where it would count for ever."""
    try:
        with store.root.folder("leases") as folder:
            age_seconds = now - folder.status(name).st_mtime
    except OSError:
        return False
    return -_CLOCK_SECONDS < age_seconds < lifetime_seconds


def _digests(store: ImageStore, name: str) -> List[str]:
    """Return what a lease names; one that cannot be read names nothing, it was not written by us."""
    try:
        return [digest for digest in _read(store, name)["digests"] if is_digest(digest)]
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return []


def _read(store: ImageStore, name: str) -> Any:
    with store.root.folder("leases") as folder:
        return json.loads(folder.read(_checked(name), _LARGEST))


def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and not name.startswith(".")


def _checked(name: str) -> str:
    if not _is_name(name):
        raise ShareFault("lease: not a lease's name", "publish the image again", name=name)
    return name
