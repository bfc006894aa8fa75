# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``sbcast``: blobs that SLURM brings to every node.

The offer goes out when the broadcast begins: a member's endpoint lets the daemon wait for each blob until its bytes are there.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import socket
import tempfile
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from ..core import files
from ..core.deadline import Deadline
from ..core.errors import Fault, ShareFault
from ..docker import archive
from ..oci import digests, endpoint, lease
from ..oci.image import chain_ids, digest_of, is_digest
from ..oci.image_manifest import Layer, Stored, read_image
from ..oci.store import ImageStore
from ..slurm import sbcast, settings
from .offer import COMING, Figures, Offer
from .transport import Delivery, Publication, TransportOptions, Way

_LONGEST_INDEX = 1 << 20  # bytes


class Broadcast(Way):
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
            sent = archive.wanted(stored, _omitted(image))
            size_bytes = sum(each.size_bytes for each in sent)
            files.require_space(folder, 2 * size_bytes)  # the pieces, and this node's own copy of them
            index, plan = _index(stored, sent), sbcast.plan(options.nodes, image.deadline, **_programs(options))
            pieces = sbcast.cut(_blobs(index, store, stored, sent), folder, plan.pieces)
            details = {"path": target, "pieces": len(pieces), "index": digest_of(index), "index_bytes": len(index)}
            if image.early is not None:
                image.early(Offer(image.name, image.identity.digest, self.name, details={**details, COMING: True}))
            with _removed(sbcast.targets(target, len(pieces))):  # this node's own copy
                sbcast.send(pieces, target, options.job_id, image.deadline, plan.width, **_programs(options))
        return details, Figures.since(image.started, method, stored.layers, (len(sent), size_bytes))

    def take(self, delivery: Delivery) -> Figures:
        return delivery.load(_arrived(delivery))

    def skip(self, delivery: Delivery) -> None:
        """Wait until each piece has begun to come: one that comes after the others have gone would stay for as long as the job."""
        if delivery.offer.is_coming:
            with contextlib.suppress(Fault):
                _arrived(delivery)

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


@dataclass(frozen=True)
class Part:
    """A blob within a broadcast."""

    whole: sbcast.Striped
    start: int
    size_bytes: int
    media_type: str

    def is_ready(self) -> bool:
        return self.whole.has(self.start + self.size_bytes)

    def send(self, peer: socket.socket, parts: Iterable[Tuple[int, int]]) -> None:
        self.whole.send(peer, ((self.start + start, self.start + stop) for start, stop in parts))


@dataclass(frozen=True)
class _FromBroadcast:
    """The blobs that sbcast has brought here; a layer that every member has is not among them."""

    whole: sbcast.Striped
    places: Mapping[str, Tuple[int, int]]
    stored: Stored
    awaited: Optional[Deadline] = None

    def content(self, layer: Layer) -> Optional[endpoint.Content]:
        start, size_bytes = self.places.get(layer.digest, (0, -1))
        return None if size_bytes != layer.size_bytes else Part(self.whole, start, size_bytes, layer.media_type)

    def chunks(self, layer: Layer, is_proved: bool) -> Iterator[bytes]:
        start, size_bytes = self.places.get(layer.digest, (0, 0))
        endpoint.is_ready(Part(self.whole, start, size_bytes, layer.media_type), self.awaited, endpoint.rested)
        chunks = self.whole.chunks(start, start + size_bytes)
        prove = digests.verified if is_proved else digests.measured
        return prove(chunks, layer.digest, layer.size_bytes, "broadcast")


def _omitted(image: Publication) -> Set[str]:
    """Return the diff ids of layers that every member has; none of an image by digest, which has to come as its registry has it."""
    held = set(() if image.name.digest else image.options.held)
    return {diff_id for diff_id, chain in zip(image.identity.diff_ids, chain_ids(image.identity.diff_ids)) if chain in held}


def _index(stored: Stored, sent: Sequence[Layer]) -> bytes:
    """Return what says which blobs follow, in their order: digest and size in bytes; the first is the image's manifest."""
    documents = [[digest, len(data)] for digest, (data, _media_type) in stored.documents.items()]
    return json.dumps([*documents, *([each.digest, each.size_bytes] for each in sent)]).encode()


def _blobs(index: bytes, store: ImageStore, stored: Stored, sent: Sequence[Layer]) -> Iterator[bytes]:
    yield index
    yield from (data for data, _media_type in stored.documents.values())
    for each in sent:
        yield from store.chunks(each)


def _arrived(delivery: Delivery) -> _FromBroadcast:
    """Return what sbcast has brought; its index is proved by the offer, and its documents by the index.

    :raises ShareFault: it is not what was sent.
    """
    whole, size_bytes = sbcast.Striped(tuple(_pieces(delivery.offer))), delivery.offer.details.get("index_bytes")
    awaited = delivery.deadline if delivery.offer.is_coming else None
    if not isinstance(size_bytes, int) or not 0 < size_bytes <= _LONGEST_INDEX or not is_digest(delivery.detail("index")):
        raise ShareFault("transport: not an offer", "install the same release on all nodes", index_bytes=size_bytes)

    def part(start: int, length: int, digest: str) -> bytes:
        endpoint.is_ready(Part(whole, start, length, ""), awaited, endpoint.rested)
        return b"".join(digests.verified(whole.chunks(start, start + length), digest, length, "broadcast"))

    index = part(0, size_bytes, delivery.detail("index"))
    places, start = {}, size_bytes
    for digest, length in json.loads(index):
        places[digest] = (start, length)
        start += length

    def read(digest: str) -> bytes:
        return part(*places.get(digest, (0, 0)), digest)

    return _FromBroadcast(whole, places, read_image(next(iter(places)), read, delivery.offer.reference.digest), awaited)


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
