# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From blobs into the local daemon: it pulls what it lacks from an endpoint on this node's loopback.

What was pulled is proved before it gets the job's name, and the endpoint's own name goes in any case, so the image looks as if
it had been loaded. Where the pull fails although the blobs are what they should be, one archive goes through ``docker load``:

- the daemon does not reach this node's loopback (rootless, another machine) or may not pull (an authorization plugin);
- the classic store has layers that it did not pull. It knows a layer that was built or loaded by its chain, not by the digest
  of its blob, and would fetch all of it once more (measured, 20.10 and 26.1). Such a layer is refused, and the archive leaves it out.

Source: that the daemon proves each layer: moby, distribution/pull_v2.go (``verifyBlob``), image/tarexport/load.go ("invalid
diffID"); containerd stores blobs under the digest of what came; the integration tests try it on both.
"""

from __future__ import annotations

import contextlib
import functools
import re
import socket
from dataclasses import dataclass
from typing import AbstractSet, Dict, FrozenSet, Iterable, Iterator, Optional, Protocol, Tuple

from ..core import files, socket_owner
from ..core.deadline import Deadline
from ..core.errors import Fault, JobFault, NodeFault, ShareFault
from ..docker import archive
from ..docker.answers import Refused
from ..docker.daemon import Info
from ..docker.engine import Engine
from ..oci import endpoint, lease
from ..oci.image import Identity, Reference
from ..oci.image_manifest import Layer, Stored
from ..oci.store import ImageStore

PULL, LOAD = "pull", "load"
_ENDPOINT = re.compile(re.escape(endpoint.HOST) + r":([0-9]{1,5})/madengine/[0-9a-f]{32}@sha256:[0-9a-f]{64}")
_PATTERN = f"{endpoint.HOST}:*/madengine/*"


class Supply(Protocol):
    """An image whose blobs are within reach of this node."""

    @property
    def stored(self) -> Stored: ...

    @property
    def awaited(self) -> Optional[Deadline]:
        """Until when a blob is waited for that is not there yet; None where all have to be there."""

    def content(self, layer: Layer) -> Optional[endpoint.Content]:
        """Return what the endpoint sends for *layer*, or None if it is not within reach."""

    def chunks(self, layer: Layer, is_proved: bool) -> Iterator[bytes]:
        """Give the layer's blob, for an archive.

        :raises ShareFault: it is missing or, if it is to be proved, damaged.
        """


@dataclass(frozen=True)
class _Coming:
    """A blob that a publisher of this user's is about to put into a store: its place is known when it is there."""

    store: ImageStore
    layer: Layer

    @property
    def size_bytes(self) -> int:
        return self.layer.size_bytes

    @property
    def media_type(self) -> str:
        return self.layer.media_type

    def is_ready(self) -> bool:
        # As the publisher counts it: another user may have put something else there meanwhile.
        with contextlib.suppress(Fault, OSError):
            return self.store.blobs.counted(self.layer.digest, self.size_bytes) is not None
        return False

    def send(self, peer: socket.socket, parts: Iterable[Tuple[int, int]]) -> None:
        endpoint.File(self.store.blobs.path_of(self.layer.digest), self.size_bytes, self.media_type).send(peer, parts)


@dataclass(frozen=True)
class FromStore:
    """The blobs of a store.

    :param awaited: as in `Supply`.
    """

    store: ImageStore
    stored: Stored
    awaited: Optional[Deadline] = None

    def content(self, layer: Layer) -> endpoint.Content:
        if self.awaited is not None:
            return _Coming(self.store, layer)
        return endpoint.File(self.store.blobs.path_of(layer.digest), layer.size_bytes, layer.media_type)

    def chunks(self, layer: Layer, is_proved: bool) -> Iterator[bytes]:
        if self.awaited is not None:
            endpoint.is_ready(_Coming(self.store, layer), self.awaited, endpoint.rested)
        yield from self.store.chunks(layer, is_proved)


@dataclass(frozen=True)
class Loaded:
    """How the daemon got an image.

    :param method: ``pull``, or ``load`` for an archive.
    :param layers: how many it took.
    :param reason: why it was no pull, if it was none.
    """

    method: str
    layers: int
    size_bytes: int
    reason: str = ""


def from_store(engine: Engine, store: ImageStore, stored: Stored, name: Reference, deadline: Deadline) -> Loaded:
    """Load an image that the store holds, and goes on holding meanwhile; faults as `load`."""
    with lease.held(store, stored.digests):
        require_whole(store, stored, name)
        return load(engine, FromStore(store, stored), name, deadline)


def load(engine: Engine, supply: Supply, name: Reference, deadline: Deadline) -> Loaded:
    """Load what the daemon lacks and prove that it has the image now.

    :param name: with a digest, that of the image's manifest or index.
    :raises ShareFault: a blob is missing or damaged.
    :raises JobFault: the daemon refuses the image, or has another one after all; or *name* has a digest, which the classic store does
        not take so, or which is not the image's.
    """
    stored, info = supply.stored, engine.info()
    if name.digest:
        _require_pinned(info, stored, name)
    held = _Held(engine, stored, info.is_containerd_store)
    # The containerd store finds what it has by itself; of the classic one see above.
    refused = frozenset() if info.is_containerd_store else held.diff_ids
    _require_room(engine, info, stored, held)
    with endpoint.Endpoint(contents(supply, refused), supply.awaited, uids=socket_owner.trusted(engine.socket)) as server:
        try:
            done = _pulled(engine, server, stored, name, deadline)
            if done is not None:
                return done
            reason = "the daemon has layers of it under another compression"
        except Refused as fault:
            reason = _reason(supply, server, fault, refused)
    # A layer that is here under another compression is none of those that the name's digest stands for.
    return _archived(engine, supply, name, frozenset() if name.digest else held.diff_ids, deadline, reason)


def _require_pinned(info: Info, stored: Stored, name: Reference) -> None:
    """Do nothing if the daemon can be given *stored* under a *name* by digest.

    :raises JobFault: it cannot.
    """
    if not info.is_containerd_store:
        # The classic store keeps such a name only of what it pulled under it: it neither loads nor tags one.
        remedy = "let this node reach the registry, turn on Docker's containerd image store here, or name the image by tag"
        raise JobFault("loading: this node's Docker takes an image by digest from its registry alone", remedy, image=str(name))
    if stored.root_digest != name.digest:
        raise JobFault(
            "loading: the image is not the one of this digest", "publish it again", image=str(name), published=stored.root_digest
        )


class _Held:
    """Which of an image's layers the daemon has: a question for each of its images, so it is asked where it matters, and once."""

    def __init__(self, engine: Engine, stored: Stored, is_containerd_store: bool) -> None:
        self._engine, self._wanted, self._is_containerd_store = engine, stored.identity.diff_ids, is_containerd_store

    @functools.cached_property
    def diff_ids(self) -> FrozenSet[str]:
        return frozenset(self._engine.layers_held(self._wanted, self._is_containerd_store))


def _require_room(engine: Engine, info: Info, stored: Stored, held: _Held) -> None:
    """Do nothing if the daemon's own disk has room for what it lacks; what it stages on the way comes on top of that.

    :raises NodeFault: it has not (part ``disk``).
    """
    path = info.data_dir if "://" not in engine.socket else ""
    # Blob and unpacked layer both stay in the containerd store; of the classic one's, only the layer does.
    copies = 2 if info.is_containerd_store else 1
    with contextlib.suppress(OSError):  # the daemon's files are not of this machine, or not to be seen by this user
        try:
            files.require_space(path, copies * _size(stored, frozenset()))
        except NodeFault:  # for all of it; mostly the daemon has some
            files.require_space(path, copies * _size(stored, held.diff_ids))


def _size(stored: Stored, held: AbstractSet[str]) -> int:
    """Return how many bytes of the image a daemon lacks that has *held*."""
    return sum(each.size_bytes for each in archive.wanted(stored, held))


def contents(supply: Supply, refused: FrozenSet[str] = frozenset()) -> Dict[str, endpoint.Content]:
    """Return digest → what an endpoint gives for it, in the order in which a daemon unpacks.

    :param refused: diff ids of layers that it does not give.
    """
    stored = supply.stored
    given = {each.digest: supply.content(each) for each in stored.layers if each.diff_id not in refused}
    found = {digest: content for digest, content in given.items() if content is not None}
    return {**{digest: endpoint.Document(*document) for digest, document in stored.documents.items()}, **found}


def is_here(engine: Engine, name: Reference, wanted: str) -> bool:
    """Say whether the daemon has, under *name*, the image of the identity *wanted*."""
    identity = engine.identity(name)
    return identity is not None and identity.digest == wanted


def require(engine: Engine, name: Reference, wanted: str) -> None:
    """Do nothing if the daemon has the image now.

    :raises JobFault: it has another one, or none.
    """
    if not is_here(engine, name, wanted):
        raise _another(name)


def _pulled(engine: Engine, server: endpoint.Endpoint, stored: Stored, name: Reference, deadline: Deadline) -> Optional[Loaded]:
    """Let the daemon pull; None if it cannot tell afterwards what it has.

    The containerd store fetches no layer that it has unpacked from another blob, and Docker 28 describes no image whose blobs it lacks.
    """
    pulled = Reference.parse(f"{server.name}@{stored.root_digest}")
    try:
        engine.pull(pulled, deadline.left(), has_login=False)
        if not is_here(engine, pulled, stored.identity.digest):
            return None
        if name.digest:
            engine.load(archive.naming(stored, name), deadline.left())
        else:
            engine.tag(str(pulled), name)
        require(engine, name, stored.identity.digest)
    finally:
        _forget(engine, str(pulled))
    moved = [each for each in {each.digest: each for each in stored.layers}.values() if server.sent.get(each.digest)]
    return Loaded(PULL, len(moved), sum(server.sent[each.digest] for each in moved))


def _forget(engine: Engine, pulled: str) -> None:
    """Take the endpoint's name from the image, and those of endpoints that were killed from theirs."""
    with contextlib.suppress(Fault):
        engine.untag(pulled)
    with contextlib.suppress(Fault):
        for match in filter(None, map(_ENDPOINT.fullmatch, engine.names(_PATTERN))):
            if not _listens(int(match[1])):
                engine.untag(match[0])


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((endpoint.HOST, port), timeout=1):
        return True
    return False


def _reason(supply: Supply, server: endpoint.Endpoint, fault: Refused, refused: AbstractSet[str]) -> str:
    """Return why the daemon did not pull.

    :raises ShareFault: because a blob is not what it should be.
    """
    answer = str(fault.seen.get("answer"))
    if not server.sent and not server.missed:
        return f"the daemon does not come to this node's loopback: {answer}"
    if any(each.digest in server.missed for each in supply.stored.layers if each.diff_id in refused):
        return "the daemon has layers that it did not pull"
    prove(supply)
    return answer


def prove(supply: Supply) -> None:
    """Do nothing if all layers are what they should be; then the daemon has another reason.

    :raises ShareFault: one is missing or damaged; it is named, and set aside if this user may.
    """
    for each in archive.wanted(supply.stored, set()):
        for _chunk in supply.chunks(each, is_proved=True):
            pass


def _archived(engine: Engine, supply: Supply, name: Reference, held: AbstractSet[str], deadline: Deadline, reason: str) -> Loaded:
    stored = supply.stored
    for omit in (held, frozenset()) if held else (frozenset(),):
        sent = archive.wanted(stored, omit)
        try:
            # The daemon proves every layer: on a busy node, doing it here as well costs a tenth of the whole load.
            engine.load(archive.write(stored, name, lambda layer: supply.chunks(layer, is_proved=False), omit), deadline.left())
        except Refused as fault:
            # What the daemon has in the end is what counts where it hung up, for it may have had all it wanted. Not so where it
            # said no: the containerd store gives the name to an image of which it cannot unpack a layer.
            if "answer" in fault.seen or not is_here(engine, name, stored.identity.digest):
                if not omit:
                    _drop(engine, name, stored)
                    prove(supply)
                    raise
                continue
        if is_here(engine, name, stored.identity.digest):
            return Loaded(LOAD, len(sent), sum(each.size_bytes for each in sent), reason)
    _drop(engine, name, stored)
    prove(supply)  # Docker 28 says nothing of a blob that it has not got
    raise _another(name)


def _drop(engine: Engine, name: Reference, stored: Stored) -> None:
    """Take the name from an image that the daemon could not take whole, if it has got it."""
    with contextlib.suppress(Fault):
        document = engine.inspect(str(name))
        if document and (document.get("Id") == stored.root_digest or Identity.of_inspect(document) == stored.identity):
            engine.untag(str(name))


def require_whole(store: ImageStore, stored: Stored, name: Reference) -> None:
    """Do nothing if the store has all the image's layers in full length.

    :raises ShareFault: one is missing; it is set aside if this user may, so that the next publisher writes it anew.
    """
    for absent in store.missing(stored):
        store.blobs.set_aside(absent.digest)
        raise ShareFault("store: a blob is missing", "publish the image again", digest=absent.digest, image=str(name), store=store.path)


def _another(name: Reference) -> JobFault:
    return JobFault("loading: the daemon has another image after loading", "remove the image there and try again", image=str(name))
