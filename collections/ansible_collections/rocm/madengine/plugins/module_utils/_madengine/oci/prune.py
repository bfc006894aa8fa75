# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a store can do without: old images, and blobs that neither an index nor a lease names.

The order makes it safe beside publishers and loaders. A publisher takes its lease before it looks whether a blob is there;
here a blob is first moved aside and the leases are read once more, then it is deleted, or put back if somebody has come.

What users have written decides nothing: a size is what the blobs take on the disk, not what a manifest says, and an age is
counted from the last change that the server has seen, whatever the date that a file bears.

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
from .folder import UNFINISHED, Folder
from .image import Reference
from .store import ImageStore

# A blob without a name is younger than that while somebody of an older release, without leases, is about to name it.
GRACE_SECONDS = 3600


@dataclass(frozen=True)
class Entry:
    """An image of the store as the pruner sees it.

    :param digests: its layers, its config and its image manifest; digest → bytes on the disk, 0 for what is not there.
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
class Leftover:
    """A file that nobody needs any more.

    :param folder: ``tmp``, ``leases``, or ``own``: a copy of a blob in the namespace of a user.
    """

    folder: str
    name: str
    namespace: str = ""
    size_bytes: int = 0


@dataclass(frozen=True)
class Plan:
    """What would go, and what that frees."""

    images: Tuple[Entry, ...]
    blobs: Dict[str, int]
    leftovers: Tuple[Leftover, ...]

    @property
    def freed_bytes(self) -> int:
        return sum(self.blobs.values()) + sum(each.size_bytes for each in self.leftovers)


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
    :param budget_bytes: images go until the blobs of the others take no more than that: always the oldest of the namespace
        that takes most, so that nobody's images go for what another has published.
    :param namespaces: whose images may go; None is everybody's.
    :param grace_seconds: nameless blobs and unfinished files stay for so long.
    :raises ShareFault: the store cannot be read.
    """
    entries, now = survey(store), _now(store)
    going = [entry for entry in entries if _may_go(entry, namespaces) and older_than_seconds is not None]
    going = [entry for entry in going if entry.age_seconds > (older_than_seconds or 0.0)]
    staying = [entry for entry in entries if entry not in going]
    while budget_bytes is not None and sum(_union(staying).values()) > budget_bytes:
        greediest = _of_the_greediest([entry for entry in staying if _may_go(entry, namespaces)])
        if greediest is None:
            break
        going.append(greediest)
        staying.remove(greediest)
    spared = set(_union(staying)) | lease.leased(store, now)
    leftovers = [*_leftovers(store, now, grace_seconds), *_own_leftovers(store, staying, spared, going, now - grace_seconds)]
    return Plan(tuple(going), dict(_nameless(store, spared, going, now - grace_seconds)), tuple(leftovers))


def carry_out(store: ImageStore, decided: Plan) -> Plan:
    """Do what *decided* says, except for what has come into use since; return what has really gone.

    :raises ShareFault: the store cannot be written.
    """
    images = tuple(entry for entry in decided.images if _forgotten(store, entry))
    named = {digest for entry in survey(store) for digest in entry.digests}
    gone = {digest: size for digest, size in decided.blobs.items() if digest not in named and _swept(store, digest)}
    for each in decided.leftovers:
        with contextlib.suppress(OSError, ShareFault), _folder_of(store, each) as folder:
            folder.unlink(each.name)
    return Plan(images, gone, decided.leftovers)


def _folder_of(store: ImageStore, each: Leftover) -> Folder:
    return store.seen_by(each.namespace).blobs.own() if each.namespace else store.root.folder(each.folder)


def _forgotten(store: ImageStore, entry: Entry) -> bool:
    """Take an image's name away, unless it names another image by now."""
    with contextlib.suppress(ShareFault):  # damaged: it may go
        if store.pointer(entry.reference, entry.namespace) not in entry.digests:
            return False
    return store.remove(entry.reference, entry.namespace)


def _entry(store: ImageStore, namespace: str, reference: Reference, digest: str, now: float) -> Entry:
    store = store.seen_by(namespace)
    age = 0.0  # it may be gone by now
    with contextlib.suppress(OSError, Fault):
        age = _age(store.published(reference, namespace), now)
    try:
        stored = store.read(digest, reference.digest)
    except Fault:
        return Entry(namespace, reference, "", {digest: 0}, 0, age, True)
    digests = {each.digest: store.blobs.taken_bytes(each.digest) for each in stored.layers}
    digests.update({each: store.blobs.taken_bytes(each) for each in stored.documents})
    return Entry(namespace, reference, stored.identity.digest, digests, len(stored.layers), age, bool(store.missing(stored)))


def _age(status: os.stat_result, now: float) -> float:
    """Return the seconds since the server has last seen a change; a date in the future says nothing, ctime cannot be set."""
    return max(0.0, now - min(status.st_mtime, status.st_ctime))


def _of_the_greediest(entries: List[Entry]) -> Optional[Entry]:
    """Return the oldest image of the namespace whose images take most; *entries* come with the oldest first."""
    if not entries:
        return None
    whose = {entry.namespace for entry in entries}
    taken = {name: sum(_union([entry for entry in entries if entry.namespace == name]).values()) for name in sorted(whose)}
    greediest = max(taken, key=lambda name: taken[name])
    return next(entry for entry in entries if entry.namespace == greediest)


def _may_go(entry: Entry, namespaces: Optional[Set[str]]) -> bool:
    return namespaces is None or entry.namespace in namespaces


def _union(entries: List[Entry]) -> Dict[str, int]:
    return {digest: size for entry in entries for digest, size in entry.digests.items()}


def _nameless(store: ImageStore, spared: Set[str], going: List[Entry], before: float) -> Iterator[Tuple[str, int]]:
    """Give the blobs that nobody names; those of images that go now need no grace."""
    named_until_now = set(_union(going))
    with store.root.folder("blobs", "sha256") as folder:
        for digest in store.blobs.names():
            if digest in spared:
                continue
            with contextlib.suppress(OSError):
                status = folder.status(digest[7:])
                is_old = digest in named_until_now or min(status.st_mtime, status.st_ctime) < before
                if stat.S_ISREG(status.st_mode) and is_old:
                    yield digest, status.st_blocks * 512


def _own_leftovers(store: ImageStore, staying: List[Entry], spared: Set[str], going: List[Entry], before: float) -> Iterator[Leftover]:
    """Give the users' own copies of blobs that none of their images needs."""
    for namespace in store.namespaces():
        view = store.seen_by(namespace)
        if namespace != str(view.root.user):
            continue
        named_until_now = set(_union([entry for entry in going if entry.namespace == namespace]))
        with contextlib.suppress(OSError, ShareFault), view.blobs.own() as folder:
            for digest in view.blobs.own_names():
                status = folder.status(digest[7:])
                is_old = digest in named_until_now or min(status.st_mtime, status.st_ctime) < before
                if digest not in spared and is_old:
                    yield Leftover("own", digest[7:], namespace, status.st_blocks * 512)


def _leftovers(store: ImageStore, now: float, grace_seconds: float) -> Iterator[Leftover]:
    """Give unfinished files of publishers that are no more, and leases that count no more."""
    for where, beginning in (("tmp", ""), ("leases", UNFINISHED)):
        with contextlib.suppress(OSError), store.root.folder(where) as folder:
            for name in folder.names():
                with contextlib.suppress(OSError):
                    if name.startswith(beginning) and _age(folder.status(name), now) > max(grace_seconds, lease.LIFETIME_SECONDS):
                        yield Leftover(where, name)
    for name in lease.expired(store, now):
        yield Leftover("leases", name)


def _swept(store: ImageStore, digest: str) -> bool:
    """Delete a blob, unless somebody has taken a lease on it; say whether it has gone."""
    name, aside = digest[7:], f"pruned.{digest[7:]}.{os.urandom(8).hex()}"
    now = _now(store)
    if digest in lease.leased(store, now):  # not even for an instant is it away from who has said so by now
        return False
    with store.root.folder("blobs", "sha256") as shared, store.root.folder("tmp") as temporary:
        try:
            shared.rename(name, aside, temporary)
        except OSError:
            return False
        if digest in lease.leased(store, now):
            temporary.rename(aside, name, shared)
            return False
        temporary.unlink(aside)
    return True


def _now(store: ImageStore) -> float:
    """Return the present by the store's own clock, which may be another machine's, to compare its files' times with."""
    try:
        folder = store.root.folder("tmp")
    except OSError as error:
        raise ShareFault("prune: no image store", "check the path", path=store.path) from error
    name = f"clock.{os.urandom(8).hex()}"
    with folder:
        try:
            os.close(folder.new(name))
        except OSError:
            return time.time()  # who may only look takes his own clock
        try:
            return folder.status(name).st_mtime
        finally:
            folder.unlink(name)
