# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways of an image from the leader to the other nodes. A new one is one class here, and its place in `TRANSPORTS`.

``shared``: a store that all nodes see, which the member proves by a lease's number.
``registry``: an image of a registry, by digest.
``sbcast``: blobs that SLURM has brought to every node.
``none``: there is no way, so every node must have the image.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import random
import socket
import tempfile
import time
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Protocol, Sequence, Tuple

from ..core import files, locks
from ..core.deadline import Deadline
from ..core.errors import Fault, JobFault, ShareFault
from ..docker import archive
from ..docker.engine import Engine
from ..docker.layer_server import Source
from ..oci import compression, digests, endpoint, lease
from ..oci.image import Identity, Reference, chain_ids, digest_of, is_digest
from ..oci.store import ImageStore, Layer, Stored, read_image
from ..slurm import sbcast, settings
from . import conflict, load, save, sources
from .offer import Figures, Offer
from .sources import ImageRequest

AUTO = "auto"
_AT_ONCE, _LONGEST_SPREAD = 16, 5.0  # readers that any share bears; seconds
_LONGEST_INDEX = 1 << 20  # bytes


@dataclass(frozen=True)
class TransportOptions:
    """What a leader may use.

    :param sources: where an image may come from, see `sources.ensure`.
    :param transport: how it gets to the others: one of `NAMES`, or ``auto`` for the first that works.
    :param reader: what reads the daemon's own layer files; without one, or where it fails, ``docker save`` is used.
    :param flocks: this node's locks, so that two jobs do the same work once (`locks.open_flocks`); none for no waiting.
    :param job_id: SLURM's, for sbcast; "" if there is no job.
    :param held: chain ids of layers that every member's daemon has; sbcast leaves them out.
    :param spool: a directory of every node, for sbcast's file.
    :param slurm_dir: where SLURM's ``bin`` is, if in none of the usual places.
    :param nodes: how many will read the store, so that a thousand do not arrive at once.
    :param compression: how new layers are packed where this node's daemon, and so the others', takes them so: ``none``,
        ``gzip`` or ``zstd``.
    :param on_conflict: what is done where the daemon and the store have different images: one of `conflict.POLICIES`.
    """

    sources: Sequence[str] = sources.SOURCES
    transport: str = AUTO
    reader: Optional[Source] = None
    flocks: Sequence[int] = ()
    job_id: str = ""
    held: Sequence[str] = ()
    spool: str = sbcast.SPOOL
    slurm_dir: str = ""
    nodes: int = 1
    compression: str = compression.NONE
    on_conflict: str = conflict.NEWEST


@dataclass(frozen=True)
class Publication:
    """An image that the leader's daemon has, on its way to the others."""

    engine: Engine
    store: Optional[ImageStore]
    request: ImageRequest
    namespace: str
    identity: Identity
    deadline: Deadline
    options: TransportOptions
    started: float

    @property
    def name(self) -> Reference:
        return self.request.reference

    def save(self, store: ImageStore, namespace: str, taken: lease.Lease) -> Tuple[Stored, str, Tuple[int, int]]:
        """Bring the image into a store, as `save.publish`."""
        kind = _packing(self.engine, self.options)
        return save.publish(self.engine, store, self.name, namespace, self.identity, self.deadline, self.options.reader, taken, kind)


@dataclass(frozen=True)
class Delivery:
    """An offer that a member takes."""

    engine: Engine
    offer: Offer
    deadline: Deadline
    started: float

    def detail(self, name: str) -> str:
        return str(self.offer.details.get(name))

    def load(self, supply: load.Supply) -> Figures:
        """Bring the image from *supply* into this node's daemon.

        :raises ShareFault: it is another one.
        """
        stored, name = supply.stored, self.offer.reference
        if stored.identity.digest != self.offer.identity:
            raise ShareFault("transport: the store holds another image", "publish the image again", image=str(name))
        done = load.load(self.engine, supply, name, self.deadline)
        return Figures.since(self.started, done.method, stored.layers, (done.layers, done.size_bytes), done.reason)


class Transport(Protocol):
    """One way; a value without a state."""

    name: str
    remedy: str  # what to do where `can` says no

    def can(self, image: Publication) -> bool:
        """Say whether it can be used, without doing much."""

    def offer(self, image: Publication) -> Tuple[Dict[str, Any], Figures]:
        """Make the image available; return what `take` needs on the other nodes.

        :raises ShareFault: it does not work here; another way may.
        """

    def take(self, delivery: Delivery) -> Figures:
        """Get the image, which this node lacks."""

    def taken(self, offer: Offer) -> None:
        """Clear away what the offer brought to this node, whether it was taken or not."""

    def release(self, offer: Offer) -> None:
        """Clear away what the leader held for the others, once they all have the image."""

    def forget(self, job_id: str, store_path: str, spool: str) -> None:
        """Clear away what a job that is over has left on this node or in the store."""


class _Way:
    """What most transports need not say."""

    def taken(self, offer: Offer) -> None:
        """Nothing came to this node."""

    def release(self, offer: Offer) -> None:
        """Nothing was held."""

    def forget(self, job_id: str, store_path: str, spool: str) -> None:
        """Nothing was left."""


class Shared(_Way):
    """The leader writes the store, the others read it."""

    name, remedy = "shared", "name a store"

    def can(self, image: Publication) -> bool:
        return image.store is not None

    def offer(self, image: Publication) -> Tuple[Dict[str, Any], Figures]:
        store = image.store
        if store is None:
            raise ShareFault("transport: no store", self.remedy)
        store.ensure()
        held = lease.take(store, image.identity.diff_ids, image.options.job_id)
        try:
            with locks.try_flock(image.options.flocks, f"publish.{image.identity.digest[7:]}", image.deadline):
                stored, method, moved = image.save(store, image.namespace, held)
        except BaseException:
            lease.give_back(store, held.name)
            raise
        spread = round(min(_LONGEST_SPREAD, max(0, image.options.nodes - _AT_ONCE) * 0.01), 2)
        details = {"where": store.path, "manifest": stored.manifest_digest, "lease": held.name, "nonce": held.nonce}
        return {**details, "spread_seconds": spread}, Figures.since(image.started, method, stored.layers, moved)

    def take(self, delivery: Delivery) -> Figures:
        spread = delivery.offer.details.get("spread_seconds")
        if isinstance(spread, (int, float)) and spread > 0:
            time.sleep(random.uniform(0, min(_LONGEST_SPREAD, spread, delivery.deadline.left() / 10)))  # noqa: S311  not a secret
        store = ImageStore(delivery.detail("where"))
        lease.prove(store, lease.Lease(delivery.detail("lease"), delivery.detail("nonce")))
        stored = store.read(delivery.detail("manifest"))
        load.require_whole(store, stored, delivery.offer.reference)
        return delivery.load(load.FromStore(store, stored))

    def release(self, offer: Offer) -> None:
        with contextlib.suppress(Fault):
            lease.give_back(ImageStore(str(offer.details.get("where"))), str(offer.details.get("lease")))

    def forget(self, job_id: str, store_path: str, spool: str) -> None:
        if store_path:
            with contextlib.suppress(Fault, OSError):
                lease.give_back_all(ImageStore(store_path), job_id)


class Registry(_Way):
    """Every node pulls from the registry that the image came from."""

    name, remedy = "registry", "push the image to the registry that its name says and pull it from there once, or use transport=shared"

    def can(self, image: Publication) -> bool:
        return bool(self._digest(image))

    def offer(self, image: Publication) -> Tuple[Dict[str, Any], Figures]:
        pull = self._digest(image)
        # A daemon gives every image of the containerd store a digest "of its registry", which may never have heard of it.
        reason = image.engine.registry_has(Reference.parse(pull), image.deadline.left())
        if reason:
            raise ShareFault("transport: the registry does not have the image", self.remedy, image=pull, answer=reason)
        return {"pull": pull}, Figures.since(image.started, "registry")

    def take(self, delivery: Delivery) -> Figures:
        pull, name = Reference.parse(delivery.detail("pull")), delivery.offer.reference
        delivery.engine.pull(pull, delivery.deadline.left())
        load.require(delivery.engine, pull, delivery.offer.identity)
        if not name.digest:
            delivery.engine.tag(str(pull), name)
        load.require(delivery.engine, name, delivery.offer.identity)
        return Figures.since(delivery.started, load.PULL)

    def _digest(self, image: Publication) -> str:
        """Return under which name and digest a registry may have the image that is here, or ""."""
        request = image.request
        registry = request.registry or request.reference
        is_named = registry.has_registry or request.registry or "hub" in image.options.sources
        for text in (image.engine.inspect(str(request.reference)) or {}).get("RepoDigests") or []:
            with contextlib.suppress(JobFault):
                if is_named and Reference.parse(str(text)).name == registry.name:
                    return Reference.parse(str(text)).full
        return ""


class Broadcast(_Way):
    """SLURM brings the blobs that not every member has to every node: an index, the documents, the layers, end to end."""

    name, remedy = "sbcast", "start it in a SLURM job"

    def can(self, image: Publication) -> bool:
        return bool(image.options.job_id)

    def offer(self, image: Publication) -> Tuple[Dict[str, Any], Figures]:
        """Send the blobs by way of a store of its own that goes at once."""
        options = image.options
        # Everybody may write there: under a name that nobody can guess lies neither another user's file or link nor an older attempt's.
        target = os.path.join(options.spool, f"{_spooled(options.job_id)}{os.urandom(8).hex()}")
        with tempfile.TemporaryDirectory(prefix=_spooled(options.job_id), dir=options.spool) as folder:
            store = ImageStore(os.path.join(folder, "store"))
            store.ensure()
            stored, method, _moved = image.save(store, "site", lease.take(store, []))
            chains = chain_ids(image.identity.diff_ids)
            omitted = {diff_id for diff_id, chain in zip(image.identity.diff_ids, chains) if chain in options.held}
            sent = archive.wanted(stored, omitted)
            size_bytes = sum(each.size_bytes for each in sent)
            files.require_space(folder, 2 * size_bytes)  # the pieces, and this node's own copy of them
            index, plan = _index(stored, sent), sbcast.plan(options.nodes, image.deadline, **_programs(options))
            pieces = sbcast.cut(_blobs(index, store, stored, sent), folder, plan.pieces)
            with _removed(sbcast.targets(target, len(pieces))):  # this node's own copy
                sbcast.send(pieces, target, options.job_id, image.deadline, plan.width, **_programs(options))
        details = {"path": target, "pieces": len(pieces), "index": digest_of(index), "index_bytes": len(index)}
        return details, Figures.since(image.started, method, stored.layers, (len(sent), size_bytes))

    def take(self, delivery: Delivery) -> Figures:
        return delivery.load(_arrived(delivery))

    def taken(self, offer: Offer) -> None:
        with _removed(_pieces(offer)):  # they came for this job alone
            pass

    def forget(self, job_id: str, store_path: str, spool: str) -> None:
        for path in glob.glob(os.path.join(glob.escape(spool), _spooled(job_id) + "*")):
            with contextlib.suppress(OSError):  # another user's, or gone
                if os.path.isdir(path):
                    files.remove_tree(path)
                else:
                    os.unlink(path)


class Nothing(_Way):
    """The others must have the image."""

    name, remedy = "none", "use auto"

    def can(self, image: Publication) -> bool:
        return True

    def offer(self, image: Publication) -> Tuple[Dict[str, Any], Figures]:
        return {}, Figures.since(image.started, "none")

    def take(self, delivery: Delivery) -> Figures:
        remedy = "set ImageStore, or store= in the job's comment"
        raise JobFault("transport: this node lacks the image and no store is shared", remedy, image=str(delivery.offer.reference))


_ALL: Tuple[Transport, ...] = (Shared(), Registry(), Broadcast(), Nothing())  # in the order in which ``auto`` tries them
TRANSPORTS: Dict[str, Transport] = {each.name: each for each in _ALL}
NAMES = (AUTO, *(each.name for each in _ALL if each.name != Nothing.name))  # what a site or a job may ask for


def wants_layers(transport: str, has_store: bool) -> bool:
    """Say whether the leader had better know what the others' daemons have, before it publishes."""
    return transport == Broadcast.name or (transport == AUTO and not has_store)


def choose(image: Publication) -> Offer:
    """Make the image available by the way that is asked for, or the first that works.

    :raises JobFault: what is asked for cannot be used here.
    :raises ShareFault: it failed; with ``auto``, all that could be tried did, and the first one's fault tells why.
    """
    asked = image.options.transport
    ways = [each for each in _ALL if asked in (AUTO, each.name) and each.can(image)]
    if image.name.digest:  # no other way brings it under that name
        ways.sort(key=lambda each: each.name != Registry.name)
    if not ways:
        remedy = TRANSPORTS[asked].remedy if asked in TRANSPORTS else Nothing.remedy
        raise JobFault("transport: it cannot be used here", remedy, transport=asked)
    failed: List[ShareFault] = []
    for way in ways:
        if failed and way.name == Nothing.name:
            break
        try:
            return _offered(image, way, failed)
        except ShareFault as fault:
            failed.append(fault)
            image.deadline.check("transport: looking for a way")
    raise failed[0]


def _offered(image: Publication, way: Transport, failed: Sequence[Fault]) -> Offer:
    details, figures = way.offer(image)
    if failed:
        details = {**details, "instead_of": "; ".join(str(fault)[:300] for fault in failed)}
    return Offer(image.name, image.identity.digest, way.name, details=details, figures=figures)


@dataclass(frozen=True)
class _Part:
    """A blob within a broadcast."""

    whole: sbcast.Striped
    start: int
    size_bytes: int
    media_type: str

    def is_ready(self) -> bool:
        return self.whole.has(self.start + self.size_bytes)

    def send(self, peer: socket.socket, start: int, stop: int) -> None:
        self.whole.send(peer, self.start + start, self.start + stop)


@dataclass(frozen=True)
class _FromBroadcast:
    """The blobs that sbcast has brought here; a layer that every member has is not among them."""

    whole: sbcast.Striped
    places: Mapping[str, Tuple[int, int]]
    stored: Stored

    def content(self, layer: Layer) -> Optional[endpoint.Content]:
        start, size_bytes = self.places.get(layer.digest, (0, -1))
        return None if size_bytes != layer.size_bytes else _Part(self.whole, start, size_bytes, layer.media_type)

    def chunks(self, layer: Layer, is_proved: bool) -> Iterator[bytes]:
        start, size_bytes = self.places.get(layer.digest, (0, 0))
        chunks = self.whole.chunks(start, start + size_bytes)
        prove = digests.verified if is_proved else digests.measured
        return prove(chunks, layer.digest, layer.size_bytes, "broadcast")


def _index(stored: Stored, sent: Sequence[Layer]) -> bytes:
    """Return what says which blobs follow, in their order: digest and size in bytes; the first is the image's manifest."""
    documents = [[digest_of(data), len(data)] for data in (stored.manifest_bytes, stored.config_bytes)]
    return json.dumps([*documents, *([each.digest, each.size_bytes] for each in sent)]).encode()


def _blobs(index: bytes, store: ImageStore, stored: Stored, sent: Sequence[Layer]) -> Iterator[bytes]:
    yield from (index, stored.manifest_bytes, stored.config_bytes)
    for each in sent:
        yield from store.chunks(each)


def _arrived(delivery: Delivery) -> _FromBroadcast:
    """Return what sbcast has brought; its index is proved by the offer, and its documents by the index.

    :raises ShareFault: it is not what was sent.
    """
    whole, size_bytes = sbcast.Striped(tuple(_pieces(delivery.offer))), delivery.offer.details.get("index_bytes")
    if not isinstance(size_bytes, int) or not 0 < size_bytes <= _LONGEST_INDEX or not is_digest(delivery.detail("index")):
        raise ShareFault("transport: not an offer", "install the same release on all nodes", index_bytes=size_bytes)
    index = b"".join(digests.verified(whole.chunks(0, size_bytes), delivery.detail("index"), size_bytes, "broadcast"))
    places, start = {}, size_bytes
    for digest, length in json.loads(index):
        places[digest] = (start, length)
        start += length

    def read(digest: str) -> bytes:
        start, length = places.get(digest, (0, 0))
        return b"".join(digests.verified(whole.chunks(start, start + length), digest, length, "broadcast"))

    return _FromBroadcast(whole, places, read_image(next(iter(places)), read))


def _packing(engine: Engine, options: TransportOptions) -> str:
    """Return how layers are packed: as the site wants, if this node can and its daemon would take them so."""
    if options.compression == compression.ZSTD and not engine.info().takes_zstd:
        return compression.NONE
    return options.compression if compression.can(options.compression) else compression.NONE


def _programs(options: TransportOptions) -> Dict[str, str]:
    return {"path": settings.search_path(options.slurm_dir)} if options.slurm_dir else {}


def _spooled(job_id: str) -> str:
    """Return how the names of a job's files in the spool begin."""
    return f"madengine-{job_id}-"


def _pieces(offer: Offer) -> List[str]:
    """Return the files in which a broadcast came; their number came over the wire."""
    pieces = offer.details.get("pieces")
    if not isinstance(pieces, int) or not 1 <= pieces <= sbcast.MOST_PIECES:
        raise ShareFault("transport: not an offer", "install the same release on all nodes", pieces=pieces)
    return sbcast.targets(str(offer.details.get("path")), pieces)


@contextlib.contextmanager
def _removed(paths: Iterable[str]) -> Iterator[None]:
    """Remove files when the block ends, however it ends."""
    try:
        yield
    finally:
        for path in paths:
            with contextlib.suppress(OSError):
                os.unlink(path)
