# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a store can do without: old images, and blobs that neither an index nor a lease names.

The order makes it safe beside publishers and loaders. A publisher takes its lease before it looks whether a blob is there;
here a blob is first moved aside and the leases are read once more, then it is deleted, or put back if somebody has come.

Source: containerd's and umoci's garbage collection for the mark and sweep; the rest is this store's own.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from dataclasses import dataclass
from typing import Dict, Iterator, List, Optional, Set, Tuple

from ..core.errors import Fault, ShareFault
from . import lease
from .image import Reference
from .store import ImageStore

# A blob without a name is younger than that while somebody of an older release, without leases, is about to name it.
GRACE_SECONDS = 3600


@dataclass(frozen=True)
class Entry:
    """An image of the store as the pruner sees it.

    :param digests: its layers, its config and its image manifest; digest → size in bytes.
    :param age_seconds: since it was published last, or found to be published.
    :param is_damaged: its documents cannot be read, or a layer's blob is missing.
    """

    namespace: str
    reference: Reference
    identity: str
    digests: Dict[str, int]
    layers_total: int
    age_seconds: float
    is_damaged: bool

    @property
    def size_bytes(self) -> int:
        return sum(self.digests.values())


@dataclass(frozen=True)
class Plan:
    """What would go, and what that frees."""

    images: Tuple[Entry, ...]
    blobs: Dict[str, int]
    leftovers: Tuple[str, ...]

    @property
    def freed_bytes(self) -> int:
        return sum(self.blobs.values())


def survey(store: ImageStore) -> List[Entry]:
    """Return the store's images, the longest unpublished first.

    :raises ShareFault: the store cannot be read.
    """
    now = _now(store)
    entries = [_entry(store, namespace, reference, digest, now) for namespace, reference, digest in store.images()]
    return sorted(entries, key=lambda entry: entry.age_seconds, reverse=True)


def plan(
    store: ImageStore,
    older_than_seconds: Optional[float] = None,
    budget_bytes: Optional[int] = None,
    namespaces: Optional[Set[str]] = None,
    grace_seconds: float = GRACE_SECONDS,
) -> Plan:
    """Say what is to go; nothing is changed.

    :param older_than_seconds: images that were published longer ago go.
    :param budget_bytes: the oldest images go until the blobs of the others take no more than that.
    :param namespaces: whose images may go; None is everybody's.
    :param grace_seconds: nameless blobs and unfinished files stay for so long.
    :raises ShareFault: the store cannot be read.
    """
    entries, now = survey(store), _now(store)
    going = [entry for entry in entries if _may_go(entry, namespaces) and older_than_seconds is not None]
    going = [entry for entry in going if entry.age_seconds > (older_than_seconds or 0.0)]
    staying = [entry for entry in entries if entry not in going]
    for entry in list(staying):
        if budget_bytes is None or sum(_union(staying).values()) <= budget_bytes:
            break
        if _may_go(entry, namespaces):
            going.append(entry)
            staying.remove(entry)
    spared = set(_union(staying)) | lease.leased(store, now)
    return Plan(tuple(going), dict(_nameless(store, spared, going, now - grace_seconds)), tuple(_leftovers(store, now, grace_seconds)))


def carry_out(store: ImageStore, decided: Plan) -> Plan:
    """Do what *decided* says, except for what has come into use since; return what has really gone.

    :raises ShareFault: the store cannot be written.
    """
    images = tuple(entry for entry in decided.images if _forgotten(store, entry))
    named = {digest for entry in survey(store) for digest in entry.digests}
    gone = {digest: size for digest, size in decided.blobs.items() if digest not in named and _swept(store, digest)}
    for path in decided.leftovers:
        with contextlib.suppress(OSError):
            os.unlink(path)
    return Plan(images, gone, decided.leftovers)


def _forgotten(store: ImageStore, entry: Entry) -> bool:
    """Take an image's name away, unless it names another image by now."""
    with contextlib.suppress(ShareFault):  # damaged: it may go
        if store.pointer(entry.reference, entry.namespace) not in entry.digests:
            return False
    return store.remove(entry.reference, entry.namespace)


def _entry(store: ImageStore, namespace: str, reference: Reference, digest: str, now: float) -> Entry:
    age = now - _changed(store.index_path(reference, namespace))
    try:
        stored = store.read(digest)
    except Fault:
        return Entry(namespace, reference, "", {digest: 0}, 0, age, True)
    digests = {each.digest: each.size_bytes for each in stored.layers}
    digests.update({digest: len(stored.manifest_bytes), stored.config_digest: len(stored.config_bytes)})
    return Entry(namespace, reference, stored.identity.digest, digests, len(stored.layers), age, bool(store.missing(stored)))


def _may_go(entry: Entry, namespaces: Optional[Set[str]]) -> bool:
    return namespaces is None or entry.namespace in namespaces


def _union(entries: List[Entry]) -> Dict[str, int]:
    return {digest: size for entry in entries for digest, size in entry.digests.items()}


def _nameless(store: ImageStore, spared: Set[str], going: List[Entry], before: float) -> Iterator[Tuple[str, int]]:
    """Give the blobs that nobody names; those of images that go now need no grace."""
    named_until_now = set(_union(going))
    for digest in store.blobs.names():
        if digest in spared:
            continue
        with contextlib.suppress(OSError):
            status = os.lstat(store.blobs.path_of(digest))
            if stat.S_ISREG(status.st_mode) and (digest in named_until_now or status.st_mtime < before):
                yield digest, status.st_size


def _leftovers(store: ImageStore, now: float, grace_seconds: float) -> Iterator[str]:
    """Give unfinished files of publishers that are no more, and leases that count no more."""
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(store.temporary)):
            path = os.path.join(store.temporary, name)
            if _changed(path) < now - max(grace_seconds, lease.LIFETIME_SECONDS):
                yield path
    for name in lease.expired(store, now):
        yield os.path.join(store.leases, name)


def _swept(store: ImageStore, digest: str) -> bool:
    """Delete a blob, unless somebody has taken a lease on it; say whether it has gone."""
    path, aside = store.blobs.path_of(digest), os.path.join(store.temporary, f"pruned.{digest[7:]}.{os.urandom(8).hex()}")
    try:
        os.rename(path, aside)
    except OSError:
        return False
    if digest in lease.leased(store, _now(store)):
        os.rename(aside, path)
        return False
    os.unlink(aside)
    return True


def _changed(path: str) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return float("inf")  # gone meanwhile, so neither old nor ours


def _now(store: ImageStore) -> float:
    """Return the present by the store's own clock, which may be another machine's, to compare its files' times with."""
    if not os.path.isdir(store.temporary):
        raise ShareFault("prune: no image store", "check the path", path=store.path)
    path = os.path.join(store.temporary, f"clock.{os.urandom(8).hex()}")
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError:
        return time.time()  # who may only look takes his own clock
    try:
        return os.lstat(path).st_mtime
    finally:
        os.unlink(path)
