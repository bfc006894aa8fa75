# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is reading or writing a store right now, and the proof that two nodes see the same one.

A lease is a small file with a random number and the digests that its holder needs. The garbage collector spares what a
lease names; a node that reads the number, which another has told it, sees the other's store and not just a directory of
the same name. A lease that nobody gave back counts for nothing once it is old.

Source: the leases of containerd (docs/garbage-collection.md) for the idea.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from dataclasses import dataclass
from typing import Iterable, Iterator, List, Set

from ..core import files
from ..core.errors import Fault, ShareFault
from .image import is_digest
from .store import ImageStore

LIFETIME_SECONDS = 24 * 3600
_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
_LARGEST = 1 << 20


@dataclass(frozen=True)
class Lease:
    """A file of the store's ``leases`` directory, and the number in it."""

    name: str
    nonce: str


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
    """Write *lease* anew, on *digests*.

    :raises ShareFault: the store cannot be written.
    """
    document = json.dumps({"nonce": lease.nonce, "digests": sorted(set(digests))})
    try:
        files.write(_path(store, lease.name), document, store.file_mode)
    except OSError as error:
        raise store.unwritable(error) from error


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
    with contextlib.suppress(OSError):
        os.unlink(_path(store, name))


def give_back_all(store: ImageStore, job_id: str) -> None:
    """Remove all leases of a job that is over, as far as they are the caller's: whoever took one may have been killed."""
    for name in _names(store):
        if name.startswith(_of_job(job_id)):
            give_back(store, name)


def prove(store: ImageStore, lease: Lease) -> None:
    """Do nothing if this node sees the store in which *lease* was taken.

    :raises ShareFault: it does not.
    """
    try:
        document = json.loads(files.read(_path(store, lease.name), _LARGEST))
        if document["nonce"] == lease.nonce:
            return
        error = "another number"
    except (ValueError, RecursionError, LookupError, TypeError, Fault) as problem:
        error = str(problem)
    raise ShareFault("lease: not the store of the publishing node", "give a store that all nodes share", store=store.path, error=error)


def leased(store: ImageStore, now: float, lifetime_seconds: float = LIFETIME_SECONDS) -> Set[str]:
    """Return the digests that some living lease names.

    :param now: the present by the store's own clock, seconds.
    """
    return {digest for name in _names(store) if _is_living(store, name, now, lifetime_seconds) for digest in _digests(store, name)}


def expired(store: ImageStore, now: float, lifetime_seconds: float = LIFETIME_SECONDS) -> List[str]:
    """Return the names of the leases that count no more."""
    return [name for name in _names(store) if not _is_living(store, name, now, lifetime_seconds)]


def _of_job(job_id: str) -> str:
    return f"job-{job_id}." if job_id else ""


def _names(store: ImageStore) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError):
        yield from sorted(name for name in os.listdir(store.leases) if _NAME.fullmatch(name) and not name.startswith("."))


def _is_living(store: ImageStore, name: str, now: float, lifetime_seconds: float) -> bool:
    try:
        return os.lstat(_path(store, name)).st_mtime > now - lifetime_seconds
    except OSError:
        return False


def _digests(store: ImageStore, name: str) -> List[str]:
    """Return what a lease names; one that cannot be read names nothing, it was not written by us."""
    try:
        document = json.loads(files.read(_path(store, name), _LARGEST))
        return [digest for digest in document["digests"] if is_digest(digest)]
    except (ValueError, RecursionError, LookupError, TypeError, Fault):
        return []


def _path(store: ImageStore, name: str) -> str:
    if not _NAME.fullmatch(name) or name.startswith("."):
        raise ShareFault("lease: not a lease's name", "publish the image again", name=name)
    return os.path.join(store.leases, name)
